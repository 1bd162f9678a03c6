"""Does anything stay behind?  References, memory, descriptors, mappings, space of the arena: over thousands of rounds.

    python -m tests.refleaks [--rounds 10000] [--only WORD] [--threads 64] [--json FILE]

A scene makes, uses and drops something; a round of it must leave every count as it was.  `meters` count, `objects` and
`errors` are the scenes, `crowd` is 64 threads with the same objects, `interpreters` runs all of it in sub-interpreters,
and `twins` leak on purpose: they must be caught.
"""
