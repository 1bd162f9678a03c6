"""Who holds and who awaits which ranges of a file, through syncx or not."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from .arena import DEFAULT_NAME, DIRECTORY, Arena, path_of
from .errors import SyncxError
from .proclocks import END, KernelLock, identify, survey
from .snapshots import Snapshot, snapshot
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


def file_locks(file: Any, *, arena: Arena | str | os.PathLike[str] | None = None) -> FileLocks:
    """Who holds and who awaits which ranges of a file: users of syncx and all others on this machine.

    file: a path, an open file or a descriptor.
    arena: where to look for users of syncx besides the default arena and all those in /dev/shm that may be read: an
        open arena, or the name or path of one, which is not attached to.  Whoever uses another is found in the kernel
        all the same, without thread and age, if the lock is held or the kernel waits for it.

    Joins what the arenas know (threads, since when, waiters that the kernel has not seen) with /proc/locks and
    /proc/PID/fdinfo, see proc_locks(5).  The kernel is believed: what it does not hold is not shown.  Nothing is
    locked, made or waited for, the file is not opened for reading, and locks of this process are left alone, so that
    each record is true for a moment of its own; a list of many locks may miss some that change while it is read.

    Raises what os.stat raises for a path that is not there or not to be reached, and ValueError for a closed file or
    arena.  For an arena that was named, raises what `snapshot` raises.  May be called in any thread, and after a fork.
    """
    identity = identify(file)
    status = identity.stat
    rows = list(dict.fromkeys(_rows(status, arena)))  # before the kernel's lists: see _join
    found = survey(identity)
    commands: dict[tuple[int, int], str] = {}
    locks = [_info(record, commands, time.monotonic_ns()) for record in _join(found.locks, rows, identity)]
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


def _rows(status: os.stat_result, arena: Arena | str | os.PathLike[str] | None) -> Iterator[_Row]:
    """What threads have published about this file, in all arenas that we may read; none is attached to."""
    given = arena.path if isinstance(arena, Arena) else None if arena is None else path_of(arena)[0]
    if arena is not None:
        yield from _rows_of(snapshot(arena), status)
    named = os.environ.get("SYNCX_ARENA") or DEFAULT_NAME
    places = [path_of(named)[0], *(e.path for e in os.scandir(DIRECTORY) if e.name.startswith("syncx-"))]
    for place in dict.fromkeys(places):
        if place == given:
            continue
        try:
            seen = snapshot(place)
        except (SyncxError, OSError):  # not there, or gone since; not for us; no arena, or of another version
            continue
        yield from _rows_of(seen, status)


def _rows_of(seen: Snapshot, status: os.stat_result) -> Iterator[_Row]:
    ours = status.st_dev, status.st_ino
    for hold in seen.holds:
        r = hold.range
        if r is None or (r.device, r.inode) != ours or not (hold.alive and hold.pid and hold.tid):
            continue
        process = seen.process(hold.process)
        if process is None or process.here:  # pids of another namespace mean nothing to the kernel's lists here
            since = None if hold.held is None else seen.taken_ns - round(hold.held * 1e9)
            yield _Row("held", hold.pid, hold.tid, r.first, r.last, hold.mode, r.style, since, None)
    for wait in seen.waits:
        r, who = wait.range, seen.participant(wait.thread)
        if r is None or (r.device, r.inode) != ours or wait.state == "granted" or who is None or not who.alive:
            continue
        mode = "upgrade" if wait.mode == "upgradable" else wait.mode
        yield _Row("waiting", who.pid, who.tid, r.first, r.last, mode, r.style, wait.since_ns, wait.deadline_ns)


# ---- the arena's side and the kernel's -----------------------------------------------------------------------------


class _Row(NamedTuple):
    """What a live thread has published in an arena."""

    state: str
    pid: int
    tid: int
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
