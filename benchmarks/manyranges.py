"""Thousands of ranges of one file, held by one process: what each lock costs, beside the kernel's own curve.

The kernel keeps the locks of a file in a list, and walks it for every request: nobody above it can be faster.
"""

from __future__ import annotations

import fcntl
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import syncx

from .children import Child, Connection
from .filepeers import RAW, TRY, Raw, flock
from .place import Place
from .samples import Section
from .settings import Settings

STEPS = (10, 100, 1_000, 10_000)
ONE = "syncx.RangeLock, one, lock_range()"
MANY = "syncx.RangeLock, one for each range"
_PAIRS = 30


class _RawRanges:
    """Range i is byte 2 * i: none touches its neighbour, so the kernel merges none."""

    def __init__(self, path: Path, count: int, _: Place) -> None:
        self._fd = Raw(path).fd
        self._lock = [flock(fcntl.F_WRLCK, 2 * i, 1) for i in range(count)]
        self._unlock = [flock(fcntl.F_UNLCK, 2 * i, 1) for i in range(count)]

    def lock(self, i: int) -> None:
        fcntl.fcntl(self._fd, TRY, self._lock[i])

    def unlock(self, i: int) -> None:
        fcntl.fcntl(self._fd, TRY, self._unlock[i])

    def release_all(self) -> None:
        fcntl.fcntl(self._fd, TRY, flock(fcntl.F_UNLCK))


class _One:
    def __init__(self, path: Path, _: int, place: Place) -> None:
        self._ranges = syncx.RangeLock(path, 0, 1, arena=place.arena)
        self._ranges.acquire()  # range 0, which lock(0) asks for again: the kernel counts no holds

    def lock(self, i: int) -> None:
        if i:
            self._ranges.lock_range(2 * i, 1)

    def unlock(self, i: int) -> None:
        self._ranges.unlock_range(2 * i, 1)

    def release_all(self) -> None:
        self._ranges.release()


class _Many:
    def __init__(self, path: Path, count: int, place: Place) -> None:
        self._locks = [syncx.RangeLock(path, 2 * i, 1, arena=place.arena) for i in range(count)]

    def lock(self, i: int) -> None:
        self._locks[i].acquire()

    def unlock(self, i: int) -> None:
        self._locks[i].release()

    def release_all(self) -> None:
        for lock in self._locks[:-1]:
            lock.release()


def _body(
    make: Callable[[Path, int, Place], Any], place: Place, steps: tuple[int, ...], connection: Connection
) -> None:
    """Tells the us of a pair above each number of ranges, and for each range of locking and of giving it back."""
    count = steps[-1]
    ranges = make(place.file(), count + 1, place)
    now = time.perf_counter_ns
    held, filling, pairs = 0, 0, []
    for n in steps:
        start = now()
        for i in range(held, n):
            ranges.lock(i)
        filling += now() - start
        held = n
        start = now()
        for _ in range(_PAIRS):
            ranges.lock(n)
            ranges.unlock(n)
        pairs.append((now() - start) / _PAIRS / 1e3)
    start = now()
    ranges.release_all()
    connection.send((pairs, filling / count / 1e3, (now() - start) / count / 1e3))
    connection.recv()


def above(n: int) -> str:
    """The key of the section of a further pair above n ranges."""
    return f"ranges-above-{n}"


def way(n: int) -> str:
    """The key of the section of each lock on the way to n ranges."""
    return f"ranges-to-{n}"


def measure(place: Place, settings: Settings) -> list[Section]:
    steps = STEPS[:-1] if settings.quick else STEPS
    last = steps[-1]
    sections = [
        *(Section(above(n), f"file locks: one more pair above {n:,} ranges that are held", "us", RAW) for n in steps),
        Section(way(last), f"file locks: each lock on the way to {last:,} ranges", "us", RAW),
        Section("ranges-back", f"file locks: giving {last:,} ranges back, each", "us", RAW),
    ]
    contestants: list[tuple[str, str, Callable[[Path, int, Place], Any]]] = [
        (RAW, "floor", _RawRanges),
        (ONE, "syncx", _One),
        (MANY, "syncx", _Many),
    ]
    for name, kind, make in settings.interleaved("file ranges", settings.number(7, 1), contestants):
        child = Child(functools.partial(_body, make, place, steps))
        try:
            pairs, each, each_back = child.receive(120)
        finally:
            child.end()
        for section, value in zip(sections, [*pairs, each, each_back], strict=True):
            section.add(name, value, kind)
    return sections
