"""`RecordLocks`: a file of records of one size, each with a lock of its own."""

from __future__ import annotations

import os
from operator import index

from .filelock import RangeLock, last_byte
from .handle import told_of_deadlock

TYPE_CHECKING = False
if TYPE_CHECKING:  # see arena.py
    from types import TracebackType
    from typing import Any

    from .arena import Arena
    from .filelock import Path
    from .handle import OnDeadlock

__all__ = ["RecordLocks"]


class RecordLocks:
    """Locks for the records of a file, between all threads of all processes.

        accounts = syncx.RecordLocks("accounts.bin", 128)
        with accounts[17]:
            ...
        with accounts.shared(17):
            ...

    path: of the file; made if it is not there and `create` is True.
    record_size: bytes of a record.
    header: bytes before the first one.
    timeout: seconds a plain `with` waits before it raises `Timeout`; None waits for ever.
    reentrant: the thread that holds a record's lock may take it again *through the same lock object*.
    arena, deadlock, priority: as for `RangeLock`.

    `locks[n]` is a new RangeLock each time, on record n; `locks[a:b]` one on the records from a to b - 1.  All of them
    share one descriptor.  Records may lie beyond the end of the file: locking one writes nothing.  All that RangeLock
    says of threads, forks, deaths and replaced files holds for them.
    """

    def __init__(
        self,
        path: Path,
        record_size: int,
        *,
        header: int = 0,
        timeout: float | None = None,
        reentrant: bool = False,
        create: bool = True,
        arena: Arena | None = None,
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> None:
        for name, size, least in (("record_size", record_size, 1), ("header", header, 0)):
            if isinstance(size, bool) or not isinstance(size, int):
                raise TypeError(f"{name} must be an int, a number of bytes, not {type(size).__name__}")
            if not least <= size < 2**63:
                raise ValueError(f"{name} must be {least} at least and below 2**63, not {size}")
        if isinstance(path, int) or hasattr(path, "fileno"):
            raise TypeError("RecordLocks takes a path, so that it can follow it; use RangeLock for an open file")
        self.record_size = record_size
        self.header = header
        self._whole = RangeLock(
            path,
            timeout=timeout,
            reentrant=reentrant,
            create=create,
            arena=arena,
            deadlock=deadlock,
            priority=priority,
        )

    def __getitem__(self, record: int | slice) -> RangeLock:
        """The exclusive lock of a record, or of those of a slice."""
        return self._lock(record, False)

    def shared(self, record: int | slice) -> RangeLock:
        """The lock of a record, or of those of a slice, for reading."""
        return self._lock(record, True)

    def _lock(self, record: int | slice, shared: bool) -> RangeLock:
        first, count = self._records(record)
        start = self.header + first * self.record_size
        return self._whole._beside(*last_byte(start, count * self.record_size), shared)

    def _records(self, record: int | slice) -> tuple[int, int]:
        if isinstance(record, slice):
            if record.step not in (None, 1) or record.start is None or record.stop is None:
                raise ValueError(f"records are locked as locks[a:b], with both ends and no step, not {record}")
            first, count = self._number(record.start), self._number(record.stop) - self._number(record.start)
            if count < 1:
                raise ValueError(f"there is no record in {record.start}:{record.stop}")
            return first, count
        return self._number(record), 1

    @staticmethod
    def _number(record: object) -> int:
        if isinstance(record, bool) or not hasattr(record, "__index__"):
            raise TypeError(f"a record is told by its number, an int, not by a {type(record).__name__}")
        number = index(record)
        if number < 0:
            raise IndexError(f"records count from 0; {number} is none, for a file of records has no end to count from")
        return number

    def read(self, record: int) -> bytes:
        """The bytes of a record: less than `record_size`, or none, beyond the end of the file.  Takes no lock."""
        at = self.header + self._number(record) * self.record_size
        return os.pread(self._descriptor(), self.record_size, at)

    def write(self, record: int, data: bytes) -> None:
        """Write a record; `data` has `record_size` bytes.  Takes no lock.

        Raises ValueError for data of another size, OSError (ENOSPC…) if it could not be written.
        """
        if len(data) != self.record_size:
            raise ValueError(f"a record has {self.record_size} bytes, and this has {len(data)}")
        at = self.header + self._number(record) * self.record_size
        descriptor, view = self._descriptor(), memoryview(data)
        while view:
            view = view[os.pwrite(descriptor, view, at + self.record_size - len(view)) :]

    def _descriptor(self) -> int:
        """Of the file that the path names now: its locks follow the path too."""
        whole = self._whole
        now = os.stat(self.path)
        if (now.st_dev, now.st_ino) != whole._facts()[:2]:
            self._whole = RangeLock(self.path, **self._kept(whole))
            whole.close()
        return self._whole.fileno()

    @property
    def path(self) -> str:
        """Where the file is."""
        return self._whole.path or ""

    @property
    def closed(self) -> bool:
        """True once close() was called."""
        return self._whole.closed

    def close(self) -> None:
        """Give the file up; locks that were got before stay what they are.  Closing twice is fine."""
        self._whole.close()

    def __enter__(self) -> RecordLocks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " closed" if self.closed else ""
        options = told_of_deadlock(self._whole)
        return f"<syncx.RecordLocks {self.path!r}, {self.record_size} bytes a record{options}{state}>"

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (self.path, self.record_size, {"header": self.header, **self._kept(self._whole)})

    @staticmethod
    def _kept(whole: RangeLock) -> dict[str, Any]:
        """The options of the locks."""
        options = whole._options()
        return {n: options[n] for n in ("timeout", "reentrant", "create", "arena", "deadlock", "priority")}


def _reopen(path: str, record_size: int, options: dict[str, Any]) -> RecordLocks:
    """What pickled record locks unpickle to."""
    return RecordLocks(path, record_size, **options)
