"""A process that takes locks on a file as it is told, with syncx or with another library: the Python side of `Party`.

It understands the requests of `locker.c`, and `within SECONDS M START LENGTH`: a wait that gives up.  Besides, for
sqlite3: `read`, `reserve`, `spill`, `end` and `commit`, the steps of its transactions.

Each library is imported by the class that uses it, so that no process has more than the one it is about.
"""

from __future__ import annotations

import errno
import json
import sys
import time
from typing import Any


class Locker:
    """One library's lock on one file.  `take` waits for ever (None), for some seconds, or not at all (0)."""

    def __init__(self, path: str, *_: str) -> None:
        self.path = path

    def take(self, shared: bool, start: int, length: int, seconds: float | None) -> bool:
        raise NotImplementedError

    def release(self) -> None:
        raise NotImplementedError


class Syncx(Locker):
    """`neighbour.serve("syncx", path, style, arena)`: FileLock for the whole file, RangeLock for less."""

    def __init__(self, path: str, style: str, arena: str) -> None:
        import syncx

        super().__init__(path)
        self.style, self.arena, self.locks = style, syncx.Arena(arena), []

    def take(self, shared: bool, start: int, length: int, seconds: float | None) -> bool:
        import syncx

        options = {"shared": shared, "style": self.style, "arena": self.arena}
        if start or length:
            lock = syncx.RangeLock(self.path, start, length, **options)
        else:
            lock = syncx.FileLock(self.path, **options)
        got = lock.acquire(blocking=False) if seconds == 0 else lock.acquire(timeout=seconds)
        if got:
            self.locks.append(lock)
        return got

    def release(self) -> None:
        while self.locks:
            self.locks.pop().release()


class Fcntl(Locker):
    """The two calls of Python's own module; `mode` is `lockf` or `flock`."""

    def __init__(self, path: str, how: str) -> None:
        import fcntl

        super().__init__(path)
        self.fcntl, self.how = fcntl, how
        self.file = open(path, "r+b")  # noqa: SIM115

    def take(self, shared: bool, start: int, length: int, seconds: float | None) -> bool:
        assert seconds in (0, None), "it has no timeouts"
        flags = self.fcntl.LOCK_SH if shared else self.fcntl.LOCK_EX
        if seconds == 0:
            flags |= self.fcntl.LOCK_NB
        try:
            if self.how == "flock":
                self.fcntl.flock(self.file, flags)
            else:
                self.fcntl.lockf(self.file, flags, length, start)
        except OSError as e:
            if e.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            return False
        return True

    def release(self) -> None:
        if self.how == "flock":
            self.fcntl.flock(self.file, self.fcntl.LOCK_UN)
        else:
            self.fcntl.lockf(self.file, self.fcntl.LOCK_UN)


class Fasteners(Locker):
    """`InterProcessLock`."""

    def __init__(self, path: str) -> None:
        import fasteners

        super().__init__(path)
        self.lock = fasteners.InterProcessLock(path)

    def take(self, shared: bool, start: int, length: int, seconds: float | None) -> bool:
        return bool(self.lock.acquire(blocking=seconds != 0, timeout=seconds or None))

    def release(self) -> None:
        self.lock.release()


class FastenersReadersWriter(Locker):
    """`InterProcessReaderWriterLock`."""

    def __init__(self, path: str) -> None:
        import fasteners

        super().__init__(path)
        self.lock = fasteners.InterProcessReaderWriterLock(path)
        self.give_back: Any = None

    def take(self, shared: bool, start: int, length: int, seconds: float | None) -> bool:
        take = self.lock.acquire_read_lock if shared else self.lock.acquire_write_lock
        got = bool(take(blocking=seconds != 0, timeout=seconds or None))
        if got:
            self.give_back = self.lock.release_read_lock if shared else self.lock.release_write_lock
        return got

    def release(self) -> None:
        self.give_back()


class Filelock(Locker):
    """`FileLock` or `SoftFileLock`."""

    def __init__(self, path: str, name: str = "FileLock") -> None:
        import filelock

        super().__init__(path)
        self.lock, self.late = getattr(filelock, name)(path), filelock.Timeout

    def take(self, shared: bool, start: int, length: int, seconds: float | None) -> bool:
        try:
            self.lock.acquire(timeout=-1 if seconds is None else seconds)
        except self.late:
            return False
        return True

    def release(self) -> None:
        self.lock.release()


class Portalocker(Locker):
    """`Lock`, with `fcntl.flock` as it comes, or with `fcntl.lockf` in its place."""

    def __init__(self, path: str, how: str = "flock") -> None:
        import fcntl

        import portalocker

        super().__init__(path)
        self.portalocker = portalocker
        portalocker.portalocker.LOCKER = getattr(fcntl, how)
        self.lock: Any = None

    def take(self, shared: bool, start: int, length: int, seconds: float | None) -> bool:
        flags = self.portalocker.LockFlags
        mode = (flags.SHARED if shared else flags.EXCLUSIVE) | flags.NON_BLOCKING
        lock = self.portalocker.Lock(self.path, "a+", timeout=1e6 if seconds is None else seconds, flags=mode)
        try:
            lock.acquire(fail_when_locked=seconds == 0)
        except self.portalocker.LockException:  # AlreadyLocked is one of them
            return False
        self.lock = lock
        return True

    def release(self) -> None:
        self.lock.release()


class Sqlite(Locker):
    """A connection to a database: BEGIN EXCLUSIVE, or a read transaction for shared."""

    def __init__(self, path: str) -> None:
        import sqlite3

        super().__init__(path)
        self.error = sqlite3.OperationalError
        self.db = sqlite3.connect(path, isolation_level=None, timeout=0)

    def step(self, *statements: str) -> bool:
        """Did all of them get the locks they wanted?  Where not, the transaction is over."""
        try:
            for statement in statements:
                self.db.execute(statement).fetchall()
        except self.error as e:
            if "locked" not in str(e):
                raise
            self.release()
            return False
        return True

    def take(self, shared: bool, start: int, length: int, seconds: float | None) -> bool:
        self.db.execute(f"PRAGMA busy_timeout = {1 << 30 if seconds is None else int(seconds * 1000)}")
        if shared:
            return self.step("BEGIN", "SELECT count(*) FROM sqlite_master")
        return self.step("BEGIN EXCLUSIVE")

    def read(self) -> bool:
        """A read transaction, left open."""
        return self.step("BEGIN", "SELECT count(*) FROM account")

    def reserve(self) -> bool:
        """A write transaction, left open with nothing in the file yet."""
        transfer = "UPDATE account SET money = money + CASE id WHEN 1 THEN 1 ELSE -1 END WHERE id IN (1, 2)"
        return self.step("BEGIN IMMEDIATE", transfer)

    def spill(self) -> bool:
        """A write transaction too big for its cache, left open: a part of it is in the file, a part is not."""
        transfer = "UPDATE account SET money = money + CASE WHEN id < 400 THEN 1 ELSE -1 END WHERE id < 800"
        return self.step("PRAGMA cache_size = 4", "BEGIN IMMEDIATE", transfer)

    def end(self) -> bool:
        """Commits what was left open."""
        return self.step("COMMIT")

    def commit(self) -> bool:
        """A whole write transaction."""
        return self.reserve() and self.end()

    def release(self) -> None:
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")


KINDS: dict[str, type[Locker]] = {
    "syncx": Syncx,
    "fcntl": Fcntl,
    "fasteners": Fasteners,
    "fasteners-rw": FastenersReadersWriter,
    "filelock": Filelock,
    "portalocker": Portalocker,
    "sqlite": Sqlite,
}


def serve(kind: str, path: str, *more: str) -> None:
    """Answers requests until standard input ends."""
    locker: Any = KINDS[kind](path, *more)

    def answer(got: bool, at: int | None = None) -> None:
        sys.stdout.write(json.dumps([int(got), at or time.monotonic_ns()]) + "\n")
        sys.stdout.flush()

    for line in sys.stdin:
        word, *rest = json.loads(line).split()
        if word == "release":
            at = time.monotonic_ns()
            locker.release()
            answer(True, at)
        elif word in ("try", "wait", "within"):
            seconds = float(rest.pop(0)) if word == "within" else None
            mode, start, length = rest[0], int(rest[1]), int(rest[2])
            got = locker.take(mode == "s", start, length, 0)
            answer(got)
            if not got and word != "try":
                answer(locker.take(mode == "s", start, length, seconds))
        else:
            answer(getattr(locker, word)())
