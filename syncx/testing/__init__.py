"""Tests of synchronisation by kill -9: the crash harness, the storm, and what users test their own code with.

Nothing here is imported by `import syncx`.
"""
