"""The exceptions of syncx, and the one place where the core's status codes become exceptions.

Every exception of the library derives from `SyncxError` and from the built-in that users of `threading` already
catch for the same mistake.  Wrong arguments are plain `TypeError`, `ValueError` and `OverflowError`; missing, existing
and inaccessible files and names are plain `OSError`.
"""

from __future__ import annotations

import errno as _errno
import os
import sys

__all__ = [
    "ArenaError",
    "ArenaFull",
    "BrokenBarrierError",
    "DeadlockError",
    "Gone",
    "InUse",
    "LockOrderError",
    "NotOwner",
    "OwnerDiedError",
    "SyncxError",
    "Timeout",
]


class SyncxError(Exception):
    """The base of all exceptions of syncx."""


class Timeout(SyncxError, TimeoutError):
    """A timed `with` did not get its lock in time; the body was not run."""


class NotOwner(SyncxError, RuntimeError):
    """A lock was released by a thread that does not hold it."""


class DeadlockError(SyncxError, RuntimeError):
    """Waiting would never end: a thread asked for what it holds itself, or was chosen to end a deadlock of several.

    It still holds all that it held; what it asked for it has not got.
    """

    _told: Any = None
    """What is still to be put into words (`deadlock.Told`)."""
    _cycle: tuple[Any, ...] = ()

    @property
    def cycle(self) -> tuple[Any, ...]:
        """Of a deadlock of several threads: its members, `syncx.Waiting`, this thread first, each waiting for what the
        next one has, the last for what the first has; members that are not on this way come after.  Else empty."""
        self._tell()
        return self._cycle

    @property
    def args(self) -> tuple[Any, ...]:
        """The message, as of any exception."""
        self._tell()
        return super().args

    @args.setter
    def args(self, args: tuple[Any, ...]) -> None:
        BaseException.args.__set__(self, args)  # type: ignore[attr-defined]

    def _tell(self) -> None:
        told = self._told
        if told is not None:
            try:
                self._cycle = told.cycle()
                self.args = (told.message(self._cycle),)
            except Exception as e:  # the arena may be gone, or damaged
                self.args = (
                    f"deadlock of {len(told.rows)} threads, of which this one gives up; the rest is lost: {e!r}",
                )
            self._told = None  # last: another thread may ask at the same time

    def __str__(self) -> str:
        self._tell()
        return super().__str__()

    def __repr__(self) -> str:
        self._tell()
        return super().__repr__()

    def __reduce__(self) -> Any:
        self._tell()
        return super().__reduce__()


class LockOrderError(SyncxError, RuntimeError):
    """With `order_check(on_inversion="raise")`: a lock was asked for in an order that could become a deadlock.

    It was not taken.
    """

    inversion: Any = None
    """The `syncx.order.Inversion`: both orders, with their lines of Python, processes and times."""


class OwnerDiedError(SyncxError, RuntimeError):
    """Under `on_owner_death="raise"`: the last owner died holding the lock, which is now not held by anybody.

    It is raised for everybody until somebody calls `recover()`.
    """


class Gone(SyncxError, RuntimeError):
    """The object was unlinked, or nobody who knew it is left, or its arena was re-created."""


TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from typing import Any

    class BrokenBarrierError(SyncxError, threading.BrokenBarrierError):
        """A barrier was broken, by a timeout, an abort, a reset, an action that raised, or the death of a party."""


def _broken_barrier_error() -> Any:
    """BrokenBarrierError derives from threading's, which is imported when somebody asks for ours: few programs do."""
    known = globals().get("BrokenBarrierError")
    if known is not None:
        return known
    import threading

    class BrokenBarrierError(SyncxError, threading.BrokenBarrierError):
        """A barrier was broken, by a timeout, an abort, a reset, an action that raised, or the death of a party."""

    BrokenBarrierError.__qualname__ = BrokenBarrierError.__name__
    return globals().setdefault("BrokenBarrierError", BrokenBarrierError)  # the same for all, whoever asked first


def __getattr__(name: str) -> object:
    if name == "BrokenBarrierError":
        return _broken_barrier_error()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class InUse(SyncxError, RuntimeError):
    """An object or an arena was not unlinked because somebody uses it."""


class ArenaError(SyncxError, RuntimeError):
    """A file is not an arena, or of another version, or damaged; or an object belongs to another arena."""


class ArenaFull(ArenaError):
    """An arena has no room for one more name, object, process or thread."""


KIND_NAMES = {
    0: "nothing known",
    1: "Mutex",
    2: "RLock",
    4: "Semaphore",
    5: "BoundedSemaphore",
    6: "Event",
    7: "Latch",
    8: "Condition",
    9: "Barrier",
    10: "Once",
    11: "RWLock",
}
"""The number of a kind in the shared layout (enum sx_kind) and its name in Python."""


def translate(status: int, number: int, what: object, detail: int) -> Exception:
    """The exception for a status of the core.

    status: one of the core's constants.  number: errno at the time, for ERRNO.  what: the lock or arena concerned, or
    the name.  detail: a number whose meaning depends on the status (the kind found, milliseconds, a pid).
    """
    from . import _core as c  # the core imports this module first

    if status == c.ERRNO:
        explain = getattr(what, "_os_error", None)  # a file lock knows better what its file means
        return _os_error(number, what) if explain is None else explain(number)
    if status == c.TIMEOUT:
        awaited = getattr(what, "_awaited", "to be had")
        return Timeout(f"{what!r} was not {awaited} within {detail / 1000:g} s")
    if status == c.NOT_FOUND:
        return FileNotFoundError(_errno.ENOENT, "no object of that name in the arena; create=True makes it", str(what))
    if status == c.EXISTS:
        return FileExistsError(_errno.EEXIST, 'the object exists already and create="exclusive" was asked', str(what))
    if status == c.WRONG_KIND:
        found = KIND_NAMES.get(detail, f"kind {detail}")
        return ValueError(f"an object is there already, and it is of another kind: {found} ({what})")
    if status == c.OWNER_DIED:
        who = f"process {detail}" if detail else "its owner"
        return OwnerDiedError(
            f"{who} died holding {what!r}; repair the data and call recover(), which acquires the lock"
        )
    if status == c.INTERRUPTED:
        return InterruptedError(_errno.EINTR, "interrupted by a signal", str(what))
    if status == c.NOT_OWNER and detail:
        return NotOwner(f"this thread does not hold the lock of {what!r}; wait() and notify() want it held")
    if status == c.OTHER_ARENA and detail:
        return ArenaError(f"{what!r} belongs to another arena; a condition and its lock belong to one")
    if status == c.BROKEN:
        why = "not all parties came in time" if detail < 0 else f"a party, of process {detail}, has died"
        broken: type[Exception] = _broken_barrier_error()
        return broken(f"{what!r}: {why}" if detail else f"{what!r}; reset() makes it whole")
    if status == c.DEADLOCK and detail == 2:
        return DeadlockError(
            f"another thread waits to upgrade what this one reads through {what!r}, and would wait for it for ever; it "
            "is still shared: release it, and take it exclusively"
        )
    kind, text = _table(c)[status]
    own = {c.DEADLOCK: "_deadlock", c.NOT_OWNER: "_not_owner"}.get(status)
    if own is not None:
        text = getattr(what, own, text)  # what kinds that are no mutexes say
    return kind(text.format(what=what))


def _table(c: object) -> dict[int, tuple[type[Exception], str]]:
    get = c.__dict__.__getitem__
    full = "{what} is full: "
    return {
        get("DEADLOCK"): (
            DeadlockError,
            "this thread holds {what!r} already and would wait for itself for ever; use RLock where that is meant",
        ),
        get("NOT_OWNER"): (
            NotOwner,
            "this thread does not hold {what!r}; only the holder releases a lock (a forked child holds nothing)",
        ),
        get("NOT_HELD"): (
            ValueError,
            "this process does not hold as many permits of {what!r} as it releases (a forked child holds nothing); "
            "nothing was released",
        ),
        get("RETIRED"): (Gone, "{what!r} was unlinked; open the name again to get the object that has it now"),
        get("CLOSED"): (ValueError, "{what!r} is closed"),
        get("GONE"): (
            Gone,
            "the object of this reference is gone from {what}: an anonymous object lives as long as a process that "
            "knows it; keep the sender alive until the receiver has unpickled it, or use a name",
        ),
        get("IN_USE"): (InUse, "{what} is in use by a live process; force=True unlinks it all the same"),
        get("FULL_PARTICIPANTS"): (
            ArenaFull,
            full + f"{get('MAX_PARTICIPANTS')} threads are attached to it; end some, or use another arena",
        ),
        get("FULL_PROCESSES"): (ArenaFull, full + "4096 processes are attached to it; end some, or use another arena"),
        get("FULL_NAMES"): (
            ArenaFull,
            full + f"it holds {get('MAX_NAMES')} names at most; unlink some (syncx rm), or use another arena",
        ),
        get("FULL_CELLS"): (ArenaFull, full + "no room for one more object; unlink some, or use another arena"),
        get("FULL_REFERENCES"): (
            ArenaFull,
            full + "too many objects are open in too many processes; close some, or use another arena",
        ),
        get("NOT_AN_ARENA"): (ArenaError, "{what} is not a syncx arena: wrong file, or an empty or truncated one"),
        get("OTHER_VERSION"): (
            ArenaError,
            "{what} was made by another version of syncx, or by another architecture or C library; use another name, "
            "or remove it when nobody uses it",
        ),
        get("DAMAGED"): (ArenaError, "{what} is damaged; remove it when nobody uses it (syncx rm --arena)"),
        get("OTHER_ARENA"): (
            ArenaError,
            "the object in this memory belongs to another arena than {what}; open it with arena= that one",
        ),
        get("NEVER_INITIALISED"): (
            ValueError,
            "there is no object in this memory yet and create=False was asked ({what})",
        ),
    }


def _os_error(number: int, what: object) -> OSError:
    if number == _errno.ENOSPC:
        return OSError(number, "no space left for the arena; enlarge or clean up the file system it is on", str(what))
    if number == _errno.EPERM:
        return PermissionError(number, "the arena's file belongs to somebody else", str(what))
    if number == _errno.ELOOP:
        return OSError(number, "the arena's path is a symbolic link, which is not followed", str(what))
    return OSError(number, os.strerror(number), str(what))


def deadlock(what: object, members: list[tuple[Any, ...]], links: list[tuple[int, int]]) -> DeadlockError:
    """The exception for the victim of a deadlock; the core calls this with the members' wait records.

    A victim is told that it is one, whatever may go wrong in telling the rest: its arena may be gone, or damaged.
    """
    try:
        from .deadlock import describe

        return describe(what, members, links)
    except Exception as e:
        return DeadlockError(f"deadlock of {len(members)} threads, of which this one gives up; the rest is lost: {e!r}")


def report_deadlock(what: object, members: list[tuple[Any, ...]], links: list[tuple[int, int]]) -> None:
    """Writes the whole of a deadlock to the logger "syncx": the wait for `what`, with deadlock="report", goes on.

    Called by the core in the waiting thread, which holds no lock of the library's own.
    """
    try:
        from .deadlock import text_of

        text = text_of(what, members, links, gives_up=False)[0]
    except Exception as e:  # as above
        text = f"deadlock of {len(members)} threads, one of which tells of it and waits on; the rest is lost: {e!r}"
    get_logger = getattr(sys.modules.get("logging"), "getLogger", None)  # see report_owner_death
    if get_logger is not None:
        get_logger("syncx").error("%s", text)
    elif sys.stderr is not None:
        print(text, file=sys.stderr)


def report_owner_death(lock: object, pid: int, tid: int) -> None:
    """Writes one line to the logger "syncx": the holder of `lock` died, and this process had it next.

    Called when the hold that met the death has ended.
    """
    who = f"process {pid} (thread {tid})" if pid else "a process of which no trace is left"
    name = getattr(lock, "name", None)
    kind = getattr(lock, "_lock", type(lock)).__name__  # a view is one of its lock
    what = f"syncx.{kind} {name!r}" if name is not None else f"a nameless syncx.{kind}"
    text = f"{who} died {getattr(lock, '_holding', 'holding')} {what}; recovered by process {os.getpid()}"
    # Not imported here: in a forked child the import lock may be nobody's to release.  Without logging the line goes
    # where logging would send it by default.
    get_logger = getattr(sys.modules.get("logging"), "getLogger", None)
    if get_logger is not None:
        get_logger("syncx").warning("%s", text)
    elif sys.stderr is not None:
        print(text, file=sys.stderr)
