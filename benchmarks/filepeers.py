"""Who locks files: the kernel's own lock called from Python, syncx, and the peers.

A "raw" lock is an open-file-description lock (fcntl_locking(2)) asked for by `fcntl.fcntl` with a packed struct flock:
the least that Python can do, and what the others are compared with.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import syncx

from .peers import Field, Open, Peer
from .place import Place

RAW = "raw OFD lock, from Python"
OURS = "syncx.FileLock"
TIMED = "syncx.FileLock, timed"
FOREIGN = "syncx.FileLock behind a raw one"
FOREIGN_TIMED = "syncx.FileLock, timed, behind a raw one"
POLLING = ("fasteners.InterProcessLock", "filelock.FileLock", "portalocker.Lock")

TRY, WAIT = fcntl.F_OFD_SETLK, fcntl.F_OFD_SETLKW
_DAY = 86400.0


def flock(kind: int, start: int = 0, length: int = 0) -> bytes:
    """A struct flock."""
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


LOCK, UNLOCK = flock(fcntl.F_WRLCK), flock(fcntl.F_UNLCK)


class Raw:
    """As one writes it by hand."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        os.close(self.fd)

    def acquire(self) -> None:
        fcntl.fcntl(self.fd, WAIT, LOCK)

    def release(self) -> None:
        fcntl.fcntl(self.fd, TRY, UNLOCK)

    def __enter__(self) -> None:
        fcntl.fcntl(self.fd, WAIT, LOCK)

    def __exit__(self, *_: object) -> None:
        fcntl.fcntl(self.fd, TRY, UNLOCK)


class Timed:
    """A lock whose acquire() has a deadline that is far away."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def acquire(self) -> None:
        assert self._lock.acquire(timeout=_DAY)

    def release(self) -> None:
        self._lock.release()


def raw(path: Path) -> Open:
    return lambda: Raw(path)


def ours(path: Path, place: Place) -> Open:
    return lambda: syncx.FileLock(path, arena=place.arena)


def timed(path: Path, place: Place) -> Open:
    return lambda: Timed(syncx.FileLock(path, arena=place.arena))


def on_a_file(make: Callable[[Path], Open]) -> Callable[[Place], Open]:
    """Makes one lock on a new file."""
    return lambda place: make(place.file())


def everybody(field: Field) -> list[Peer]:
    """The contestants wherever whole files are locked without a timeout."""
    return [
        Peer(RAW, on_a_file(raw), kind="floor"),
        Peer(OURS, lambda place: ours(place.file(), place), kind="syncx"),
        *(peer for peer in field.peers if peer.name in POLLING),
    ]
