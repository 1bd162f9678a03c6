"""Tracing: since when, and by which line of the program, everything is held."""

from __future__ import annotations

from . import _core

__all__ = ["trace", "untraced"]


def trace(on: bool = True) -> None:
    """Switch the tracing of holds on or off, for this process and those it forks.

    on: True: for every hold that a thread takes from now on, the time and the line of Python, the innermost one outside
        syncx, are published in the arena; False: no more, and what was published is taken back.

    `syncx.snapshot()` shows both as `Hold.held` and `Hold.where`, and how long objects were held in all; `syncx ps` and
    `DeadlockError` tell them too.  The environment variable SYNCX_TRACE=1 does the same from the start, in child
    processes too.

    A thread publishes 16 holds for each arena at a time; those beyond are not traced, and counted (`untraced`).  A
    process that is killed leaves a hold without a trace at worst, never a false one.  A forked child holds nothing.
    Costs a few hundred nanoseconds for each acquire and release.  Raises TypeError for another value.
    """
    if on is not True and on is not False:
        raise TypeError(f"trace(on) takes True or False, not {on!r}")
    _core._note(on, _core._noting()[1])


def untraced() -> int:
    """How many holds of this process found no room among the 16 of their thread, or among the 64 that are ordered."""
    return _core._noting()[2]
