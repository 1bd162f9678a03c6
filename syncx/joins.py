"""Waiting for the end of a process, as the detector of deadlocks and the views see it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .arena import Arena, default_arena
from .errors import SyncxError

if TYPE_CHECKING:
    from .handle import OnDeadlock

__all__ = ["join"]


def _pid_of(process: Any) -> int:
    pid = process if isinstance(process, int) and not isinstance(process, bool) else getattr(process, "pid", process)
    if pid is None:
        raise ValueError(f"{process!r} has not been started: there is nothing to wait for; start() it first")
    if not isinstance(pid, int) or isinstance(pid, bool):
        raise TypeError(
            f"expected a process id, a multiprocessing.Process or a subprocess.Popen, not {type(process).__name__}"
        )
    if not 0 < pid < 1 << 31:
        raise ValueError(f"expected a process id, a positive number, not {pid}")
    if pid == os.getpid():
        raise ValueError("a process cannot wait for its own end")
    return pid


def join(
    process: Any,
    timeout: float | None = None,
    *,
    arena: Arena | None = None,
    deadlock: OnDeadlock | None = None,
    priority: int = 0,
) -> bool:
    """Waits until a process has ended; returns True, or False if it has not in that time.

    process: a multiprocessing.Process (or what has its `join` and `pid`), a subprocess.Popen (`wait` and `pid`), or a
        process id.  One given as an object is reaped, so its exit code is there to be asked for; one given by number is
        not: do that yourself if it is your child.
    timeout: seconds, None for ever; 0 only looks.
    arena: where the wait is told to others; the default arena.
    deadlock, priority: of this wait, as for `Mutex`.

    Unlike Process.join() this wait is seen: by `syncx ps`, and by the detector of deadlocks.  A parent that holds a
    lock and waits for a child that wants that lock is a deadlock, and one of them gets DeadlockError.  (The child is
    known to be stuck when all its threads that are attached to the arena are.)

    Raises DeadlockError; ProcessLookupError if there is no such process (a child that was reaped already is told as
    ended if it was given as an object); PermissionError; TypeError, ValueError.
    Signal handlers run meanwhile.  Any thread may wait, for any process; after a fork the child waits on by itself.
    The kernel wakes the waiter: pidfd_open(2).
    """
    pid = _pid_of(process)
    wait = getattr(process, "join", None) or getattr(process, "wait", None)
    where = default_arena() if arena is None else arena
    if not isinstance(where, Arena):
        raise TypeError(f"arena: expected a syncx.Arena, not {type(where).__name__}")
    if wait is not None and _code(process) is not None:
        return True
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        if wait is not None and _code(process) is not None:  # reaped in the meantime
            return True
        raise ProcessLookupError(f"there is no process {pid}: it has ended and was reaped, or never was") from None
    except OSError as e:
        if e.errno != 38:  # ENOSYS
            raise
        raise SyncxError("waiting for a process needs Linux 5.3 or later: pidfd_open(2) is not there") from e
    try:
        ended = where._join(pidfd, pid, timeout, deadlock, priority)
    finally:
        os.close(pidfd)
    if ended and wait is not None:
        wait()
    return ended


def _code(process: Any) -> int | None:
    """Its exit code, if it has ended; it is reaped by that."""
    poll = getattr(process, "poll", None)
    code = poll() if poll is not None else getattr(process, "exitcode", None)
    return code if isinstance(code, int) else None
