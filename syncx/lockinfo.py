"""Who holds and who awaits which ranges of a file, through syncx or not."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .arena import DEFAULT_NAME, Arena
from .proclocks import END, KernelLock, identify, survey
from .terminal import command_line

if TYPE_CHECKING:
    from .proclocks import FileIdentity

__all__ = ["FileLockInfo", "FileLocks", "LockParty", "file_locks"]


@dataclass(frozen=True, slots=True)
class LockParty:
    """A process, or one thread of it, that has a file lock or waits for one."""

    pid: int
    tid: int | None
    """None: which thread cannot be told; a lock from outside syncx belongs to no thread."""
    command: str
    """Its command line; "" where that cannot be seen."""


@dataclass(frozen=True, slots=True)
class FileLockInfo:
    """One lock of a file, or one request for a lock, as `file_locks()` saw it."""

    state: str
    """"held", "waiting", or "breaking": a lease whose holder has been told to give it up."""
    mode: str
    """"exclusive", "shared", or "upgrade": has the range shared and waits to have it alone."""
    kind: str
    """"ofd", "posix" or "flock", of which ofd and posix exclude each other; "lease" or "delegation" (of a server)."""
    start: int
    """The first byte."""
    length: int
    """How many bytes; 0: to the end of the file, however far it grows."""
    parties: tuple[LockParty, ...]
    """Who has it or waits.  Several share the open file since a fork; none: that cannot be told."""
    syncx: bool
    """It goes through syncx."""
    seconds: float | None
    """How long it has been held or awaited; None where only the kernel knows, which does not say."""
    remaining: float | None
    """Seconds until this waiter gives up; None: never, or not known."""

    @property
    def stop(self) -> int | None:
        """The byte behind the last; None: to the end."""
        return self.start + self.length if self.length else None

    @property
    def range(self) -> str:
        """The bytes as a slice of Python: "0:100", or "100:" for all from byte 100 on."""
        return f"{self.start}:{'' if self.stop is None else self.stop}"


@dataclass(frozen=True, slots=True)
class FileLocks:
    """What `file_locks()` found."""

    path: str
    device: int
    inode: int
    """Device and inode number, as os.stat has them."""
    size: int | None
    """In bytes; None for what has no bytes, such as a directory."""
    filesystem: str
    """The type of its file system, "ext4"; "" if that cannot be told."""
    remote: bool
    """Other machines may hold locks on it that cannot be seen from here (nfs, cifs, fuse, ...)."""
    locks: tuple[FileLockInfo, ...]
    """Those held, by their first byte, then those awaited, the longest wait first."""
    unseen: int
    """How many processes of other users could not be looked into."""

    @property
    def held(self) -> tuple[FileLockInfo, ...]:
        """The locks that somebody has."""
        return tuple(lock for lock in self.locks if lock.state != "waiting")

    @property
    def waiting(self) -> tuple[FileLockInfo, ...]:
        """The requests that wait."""
        return tuple(lock for lock in self.locks if lock.state == "waiting")

    @property
    def unknown(self) -> int:
        """For how many of the locks it cannot be told who has them or waits."""
        return sum(1 for lock in self.locks if not lock.parties)


def file_locks(file: Any, *, arena: Arena | None = None) -> FileLocks:
    """Who holds and who awaits which ranges of a file: users of syncx and all others on this machine.

    file: a path, an open file or a descriptor.
    arena: where to look for users of syncx besides the default arena.  What is in neither is found in the kernel all
        the same, without its thread and its age.

    Joins what the arenas know (threads, since when, waiters that the kernel has not seen) with /proc/locks and
    /proc/PID/fdinfo, see proc_locks(5).  The kernel is believed: what it does not hold is not shown.  Nothing is
    locked, made or waited for, the file is not opened for reading, and locks of this process are left alone, so that
    each record is true for a moment of its own; a list of many locks may miss some that change while it is read.

    Raises what os.stat raises for a path that is not there or not to be reached, ValueError for a closed file, and
    ArenaError for a default arena that is damaged.  May be called in any thread, and after a fork.
    """
    identity = identify(file)
    rows = [row for home in _homes(arena) for row in home._file_locks()]  # before the kernel's lists: see _join
    status = identity.stat
    found = survey(identity)
    number = (os.major(status.st_dev) << 20 | os.minor(status.st_dev)) & 0xFFFFFFFF  # as the arena has it
    mine = [row for row in map(_Row._make, rows) if (row.device, row.inode) == (number, status.st_ino)]
    commands: dict[tuple[int, int], str] = {}
    locks = [
        _info(record, commands, time.monotonic_ns())
        for record in _join(found.locks, list(dict.fromkeys(mine)), identity)
    ]
    locks.sort(key=lambda o: (o.state == "waiting", -(o.seconds or 0.0) if o.state == "waiting" else 0.0, o.start))
    return FileLocks(
        path=_path_of(file),
        device=status.st_dev,
        inode=status.st_ino,
        size=status.st_size if stat.S_ISREG(status.st_mode) else None,
        filesystem=identity.filesystem,
        remote=identity.remote,
        locks=tuple(locks),
        unseen=found.unseen,
    )


def _path_of(file: Any) -> str:
    if isinstance(file, (str, bytes, os.PathLike)):
        return os.fsdecode(file)
    return os.readlink(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}")


def _homes(arena: Arena | None) -> Iterator[Arena]:
    """The arenas to look into; none is made for it."""
    if arena is not None:
        yield arena
    try:
        default = Arena(os.environ.get("SYNCX_ARENA") or DEFAULT_NAME, create=False)
    except FileNotFoundError:
        return
    with default:
        if arena is None or default.id != arena.id:
            yield default


# ---- the arena's side and the kernel's -----------------------------------------------------------------------------


class _Row(NamedTuple):
    """What a live thread has published in an arena: `Arena._file_locks()`."""

    state: str
    pid: int
    tid: int
    device: int
    inode: int
    first: int
    last: int
    mode: str
    style: str
    since: int | None
    deadline: int | None


class _Record(NamedTuple):
    """What has been joined."""

    state: str
    mode: str
    kind: str
    first: int
    last: int
    parties: tuple[tuple[int, int], ...]
    syncx: bool
    since: int | None = None
    deadline: int | None = None


_Range = tuple[int, int]
"""First and last byte, both included."""


def _minus(ranges: Iterable[_Range], holes: Iterable[_Range]) -> list[_Range]:
    """What is left of some ranges."""
    left = list(ranges)
    for first, last in holes:
        pieces = []
        for a, b in left:
            if last < a or b < first:
                pieces.append((a, b))
                continue
            if a < first:
                pieces.append((a, first - 1))
            if last < b:
                pieces.append((last + 1, b))
        left = pieces
    return left


def _join(kernel: Sequence[KernelLock], rows: Sequence[_Row], file: FileIdentity) -> Iterator[_Record]:
    """All locks and requests, each once.

    The rows were read before the kernel's lists.  So a hold that the kernel does not have is one that was given back in
    between, unless the locks of this file are kept elsewhere; and of what the kernel has, all that no row explains is
    somebody else's, or of a thread that holds more ranges than it publishes.
    """
    held = [row for row in rows if row.state == "held"]
    yield from _join_held([lock for lock in kernel if lock.state != "waiting"], held, file.remote)
    waiting = [row for row in rows if row.state == "waiting"]
    yield from _join_waiting([lock for lock in kernel if lock.state == "waiting"], waiting)


def _join_held(kernel: Sequence[KernelLock], rows: Sequence[_Row], remote: bool) -> Iterator[_Record]:
    unexplained = {id(lock): [(lock.first, lock.last)] for lock in kernel}
    publishers = {(row.style, row.pid) for row in rows}
    for row in rows:
        missing = [(row.first, row.last)]
        sharers: list[int] = []
        # its own locks first; then such as nobody shows us, for the fdinfo of the holder may be closed to us
        for own in (True, False):
            for lock in kernel:
                pids = [pid for pid, _ in lock.parties]
                if lock.kind != row.style or (row.pid not in pids if own else pids):
                    continue
                covered = [p for p in missing if p[0] <= lock.last and lock.first <= p[1]]
                if covered or (own and lock.first <= row.last and row.first <= lock.last):
                    missing = _minus(missing, [(lock.first, lock.last)])
                    unexplained[id(lock)] = _minus(unexplained[id(lock)], [(row.first, row.last)])
                    sharers += [pid for pid in pids if pid != row.pid and (row.style, pid) not in publishers]
        parties = ((row.pid, row.tid), *((pid, 0) for pid in dict.fromkeys(sharers)))
        for first, last in [(row.first, row.last)] if remote else _minus([(row.first, row.last)], missing):
            yield _Record("held", row.mode, row.style, first, last, parties, True, row.since)
    for lock in kernel:
        ours = any((lock.kind, pid) in publishers for pid, _ in lock.parties)
        for first, last in unexplained[id(lock)]:
            yield _Record(lock.state, lock.mode, lock.kind, first, last, tuple(lock.parties), ours)


def _join_waiting(kernel: Sequence[KernelLock], rows: Sequence[_Row]) -> Iterator[_Record]:
    left = list(kernel)
    for row in rows:
        mode = "shared" if row.mode == "shared" else "exclusive"
        same = [
            lock
            for lock in left
            if (lock.kind, lock.mode, lock.first, lock.last) == (row.style, mode, row.first, row.last)
            and (not lock.parties or row.pid in [pid for pid, _ in lock.parties])
        ]
        exact = [lock for lock in same if (row.pid, row.tid) in lock.parties]
        process = [lock for lock in same if (row.pid, 0) in lock.parties]
        unknown = [lock for lock in same if not lock.parties]
        for lock in (exact or process or unknown)[:1]:  # it sleeps in the kernel
            left.remove(lock)
        parties = ((row.pid, row.tid),)
        yield _Record("waiting", row.mode, row.style, row.first, row.last, parties, True, row.since, row.deadline)
    for lock in left:
        yield _Record("waiting", lock.mode, lock.kind, lock.first, lock.last, tuple(lock.parties), False)


def _info(record: _Record, commands: dict[tuple[int, int], str], now: int) -> FileLockInfo:
    for who in record.parties:
        if who not in commands:
            commands[who] = command_line(*who)
    return FileLockInfo(
        state=record.state,
        mode=record.mode,
        kind=record.kind,
        start=record.first,
        length=0 if record.last == END else record.last - record.first + 1,
        parties=tuple(LockParty(pid, tid or None, commands[pid, tid]) for pid, tid in record.parties),
        syncx=record.syncx,
        seconds=None if record.since is None else max(0.0, (now - record.since) / 1e9),
        remaining=None if record.deadline is None else max(0.0, (record.deadline - now) / 1e9),
    )
