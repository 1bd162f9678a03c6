"""Appending records to a shared log: what `RangeLock.append` does.

A record is acknowledged when append() returns.  A writer that is killed in write(2) leaves a first part of its record,
or all of it; the next one, under the lock, finds that the file does not end with `end`, and cuts back to the last one.
A record that is there whole although its writer died before it could say so stays.
"""

from __future__ import annotations

import os
import sys

from . import objects  # noqa: F401 - what `ranges` asks for: imported before the lock is taken, and not under it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .filelock import RangeLock
    from .handle import OnDeadlock

__all__ = ["append"]

_CHUNK = 65536


def append(
    lock: RangeLock,
    record: bytes | str,
    end: bytes,
    fsync: bool,
    deadlock: OnDeadlock | None = None,
    priority: int | None = None,
) -> int:
    """See `RangeLock.append`."""
    data = record.encode() if isinstance(record, str) else record
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"a record must be bytes or a str, not {type(record).__name__}")
    if not isinstance(end, bytes):
        raise TypeError(f"end must be bytes, not {type(end).__name__}")
    if not end:
        raise ValueError("end must have one byte at least")
    data = bytes(data)
    if end in data + end[:-1]:
        raise ValueError(f"the record has {end!r} in it, which is where records end: {data[:60]!r}")
    if lock.held:
        return _append(lock, data, end, fsync)
    if lock.shared:
        raise ValueError(f"{lock!r} is shared; appending needs an exclusive one")
    plain = deadlock is None and priority is None
    with lock if plain else lock.within(lock.timeout, deadlock=deadlock, priority=priority):
        return _append(lock, data, end, fsync)


def _append(lock: RangeLock, data: bytes, end: bytes, fsync: bool) -> int:
    held = lock.ranges
    if not any(r.length == 0 and r.start == 0 and not r.shared for r in held):
        raise ValueError(f"appending needs the whole file, exclusively: {lock!r}, which holds {list(map(tuple, held))}")
    lock._flush()
    descriptor = lock.fileno()
    size = os.fstat(descriptor).st_size
    at = _end_of_records(descriptor, size, end)
    if at != size:
        _cut(lock, descriptor, at, size)
    try:
        view = memoryview(data + end)
        while view:
            view = view[os.pwrite(descriptor, view, at + len(data) + len(end) - len(view)) :]
        if fsync:
            os.fsync(descriptor)
    except BaseException:
        os.ftruncate(descriptor, at)  # nothing of it, rather than a part
        raise
    return at


def _end_of_records(descriptor: int, size: int, end: bytes) -> int:
    """Where the last whole record ends."""
    if size >= len(end) and os.pread(descriptor, len(end), size - len(end)) == end:
        return size
    at = size
    while at > 0:
        start = max(0, at - _CHUNK)
        found = os.pread(descriptor, at - start + len(end) - 1, start).rfind(end)
        if found >= 0:
            return start + found + len(end)
        at = start
    return 0


def _cut(lock: RangeLock, descriptor: int, at: int, size: int) -> None:
    torn = os.pread(descriptor, min(size - at, 200), at)
    os.ftruncate(descriptor, at)
    get_logger = getattr(sys.modules.get("logging"), "getLogger", None)  # see report_owner_death
    if get_logger is not None:
        more = "" if size - at == len(torn) else f" and {size - at - len(torn)} bytes more"
        get_logger("syncx").warning(
            "%s: cut off %d bytes after the last whole record: %r%s", lock.path or "a file", size - at, torn, more
        )
