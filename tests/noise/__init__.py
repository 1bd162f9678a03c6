"""Noise: arenas that were damaged before they are opened, and hostile arguments to every public call.

    python -m tests.noise --arenas 1000 --seed 1 --jobs 2      damaged arenas, used by every public call
    python -m tests.noise --seed 1 --only 417                  one of them again
    python -m tests.noise arguments --examples 1000            odd arguments and objects to every public call
    python -m tests.noise twins [--json FILE]                  cores without a check, which must be found

What is promised: an exception that is documented, or right work; never a crash, a hang, memory without bounds, a write
outside.  Each arena is described by the seed and its number alone.
"""
