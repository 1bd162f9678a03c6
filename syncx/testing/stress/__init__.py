"""`syncx stress`: random operations on everything by processes that are killed, stopped, forked and interrupted.

dice      what each thread decides to do, from a seed
board     the memory that all share beside the arena, and the journals
actor     a thread: carries out its decisions and writes them down
locks, counts, meetings, files
          the scenes: the objects of each topic, and the first judge, words beside them
worker    a process
control   starts, strikes, watches
replay    the second judge: what the journals say
figures, report, picture
          what comes of it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .control import Storm
from .figures import Outcome

__all__ = ["Outcome", "storm"]


def storm(
    topics: Sequence[str] = (),
    *,
    seconds: float = 10.0,
    processes: int = 4,
    kill: float = 1.0,
    seed: int = 1,
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Plays a storm, and returns what came of it.

    topics: of `syncx stress`; none: all.
    seconds: how long; it ends earlier when something is wrong.
    processes: how many at a time, of two threads each.
    kill: deaths in 1,000 operations.
    seed: of all decisions.
    tell: called five times a second, with the outcome so far.

    Forks: the calling process should have one thread.  Until it ends, SIGCHLD and SIGINT are handled here, and orphaned
    descendants become children of this process.
    """
    from .worker import SCENES

    unknown = set(topics) - set(SCENES)
    if unknown:
        raise ValueError(f"topics must be among {', '.join(SCENES)}; not {', '.join(map(repr, sorted(unknown)))}")
    return Storm(topics or list(SCENES), seconds, processes, kill, seed, tell=tell).run()
