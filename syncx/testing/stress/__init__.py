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

import threading
from collections.abc import Callable, Sequence
from typing import Any

from .control import Storm
from .figures import Outcome

__all__ = ["Outcome", "storm"]


def storm(
    topics: Sequence[str] = (),
    *,
    seconds: float = 10.0,
    processes: int = 4,
    kill: float = 4.0,
    seed: int = 1,
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Plays a storm, as `syncx stress` does: random operations by processes that are killed, stopped and forked.

    topics: what is played, by the names of `syncx stress`; none: everything.
    seconds: how long, 0 to 1e9.  It ends sooner when something is wrong; what is under way at the end is finished and
        judged, which takes a moment more, and 15 seconds more where somebody hangs.
    processes: how many at a time, 1 to 64, of two threads each.  Who dies is started anew.
    kill: deaths in 1,000 operations, 0 to 500, as the command's; 0: nobody dies.
    seed: of all decisions, 0 to 2**63.  The command's is another one each time, so that each run tries something new;
        this one is the same each time, and so are the decisions of a test.
    tell: called five times a second, with the outcome so far.

    Returns an `Outcome`; what is wrong is in it, and raises nothing.  SIGINT and SIGTERM end it in good order, with
    `interrupted` set.

    Raises ValueError for an unknown topic and a number out of its range; TypeError for what is no such number;
    RuntimeError where the caller is not the main thread, for it handles signals; OSError where there is no room for its
    arena, in /dev/shm, or for its directory, where tempfile puts it.

    It forks: the calling process should have one thread, and no children, for each that ends meanwhile is taken for one
    of the storm's.  Until it returns, SIGCHLD, SIGINT and SIGTERM and the wake-up descriptor of `signal` are its own,
    orphaned descendants become children of the caller, and the logger "syncx" says nothing.  If the caller is killed,
    its processes are too (PR_SET_PDEATHSIG), and one more, which waits for that, removes arena and directory: nothing
    stays.  See prctl(2).
    """
    from .worker import SCENES

    unknown = set(topics) - set(SCENES)
    if unknown:
        raise ValueError(f"topics must be among {', '.join(SCENES)}; not {', '.join(map(repr, sorted(unknown)))}")
    _check("seconds", seconds, 0, 1e9, "a number of seconds")
    _check("processes", processes, 1, 64, "a number of processes", whole=True)
    _check("kill", kill, 0, 500, "deaths in 1,000 operations")
    _check("seed", seed, 0, 2**63, "a whole number", whole=True)
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a storm handles signals: call storm() in the main thread")
    return Storm(topics or list(SCENES), seconds, processes, kill, seed, tell=tell).run()


def _check(name: str, value: Any, least: float, most: float, what: str, *, whole: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise TypeError(f"{name} must be {what}, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be {what} from {least:g} to {most:g}, not {value!r}")
