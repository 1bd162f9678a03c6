"""The crash harness: every operation of every primitive, killed at every instruction.

    python -m syncx.testing.crash --mode classes

is `syncx stress --kill-every-instruction --mode classes`.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the harness; argv: its arguments, by default those of the command line.

    Returns the exit status: 0 nothing was found, 1 something was, 2 wrong usage, or children cannot be traced here.
    """
    from .runner import main as run

    return run(argv)
