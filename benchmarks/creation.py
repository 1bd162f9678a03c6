"""Ten thousand locks: the time each takes to make, and the shared memory each takes.  And the same of each kind."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import syncx

from .children import Child, Connection
from .peers import FORK, Field
from .place import Place
from .samples import Section
from .settings import Settings

COUNT = 10_000
OF_EACH = 1_000
"""Of every kind: some of multiprocessing take five mappings each, and a process has 65,530."""
PERMITS = 10_000
POOL = f"syncx.BoundedSemaphore of {PERMITS:,}"
NAMED = "syncx.Mutex, named"

Prepare = Callable[[str], tuple[Callable[[int], Any], Callable[[], int]]]
"""Given the name of an arena: what is called with each number to make one, and what tells the bytes of shared memory
in use."""


def _anonymous(make: Callable[..., Any], arena_name: str) -> tuple[Callable[[int], Any], Callable[[], int]]:
    arena = syncx.Arena(arena_name)
    syncx.Mutex("the first", arena=arena)
    return lambda i: make(arena=arena), lambda: os.stat(arena.path).st_blocks * 512


def _named(arena_name: str) -> tuple[Callable[[int], Any], Callable[[], int]]:
    arena = syncx.Arena(arena_name)
    names = [f"lock-{i:05}" for i in range(COUNT)]
    syncx.Mutex("the first", arena=arena)
    return lambda i: syncx.Mutex(names[i], arena=arena), lambda: os.stat(arena.path).st_blocks * 512


def _multiprocessing(make: Callable[[], Any], _: str) -> tuple[Callable[[int], Any], Callable[[], int]]:
    make()

    def shared() -> int:
        """Each lock is a file of one page that has no name any more; what is mapped of such files tells."""
        total = 0
        for line in Path("/proc/self/maps").read_text().splitlines():
            if " /dev/shm/" in line and line.endswith("(deleted)"):
                low, high = line.split()[0].split("-")
                total += int(high, 16) - int(low, 16)
        return total

    return lambda i: make(), shared


def _body(prepare: Prepare, arena_name: str, count: int, connection: Connection) -> None:
    make, shared = prepare(arena_name)
    kept = [None] * count
    numbers = range(count)
    before = shared()
    start = time.perf_counter()
    for i in numbers:
        kept[i] = make(i)
    took = time.perf_counter() - start
    connection.send((took / count * 1e6, (shared() - before) / count))
    connection.recv()


def _once(prepare: Prepare, place: Place, count: int) -> tuple[float, float]:
    """In a process of its own: microseconds, and bytes, each."""
    arena_name = place.name()
    child = Child(functools.partial(_body, prepare, arena_name, count))
    try:
        microseconds, size = child.receive(120)
    finally:
        child.end()
        place.unlink_arenas(arena_name)
    return microseconds, size


def _locks(place: Place, settings: Settings) -> list[Section]:
    section = Section("time", f"making {COUNT:,} locks, each", "us", "multiprocessing.Lock")
    memory = Section("memory", f"shared memory of {COUNT:,} locks, each", "bytes", "multiprocessing.Lock")
    contestants: list[tuple[str, str, Prepare]] = [
        (NAMED, "syncx", _named),
        ("syncx.Mutex, anonymous", "syncx", functools.partial(_anonymous, syncx.Mutex)),
        ("multiprocessing.Lock", "peer", functools.partial(_multiprocessing, FORK.Lock)),
    ]
    for name, kind, prepare in settings.interleaved("creation", settings.number(15, 1), contestants):
        microseconds, size = _once(prepare, place, COUNT)
        section.add(name, microseconds, kind)
        memory.add(name, size, kind)
    return [section, memory]


def _kinds(place: Place, settings: Settings) -> list[Section]:
    section = Section("making", f"making {OF_EACH:,} of each kind, anonymous, each", "us", "multiprocessing.Lock")
    memory = Section("bytes", f"shared memory of {OF_EACH:,} of each kind, each", "bytes", "multiprocessing.Lock")
    contestants: list[tuple[str, str, Prepare]] = []
    for name, make in (
        ("Mutex", syncx.Mutex),
        ("BinarySemaphore", syncx.BinarySemaphore),
        ("BoundedSemaphore(4)", functools.partial(syncx.BoundedSemaphore, 4)),
        ("Semaphore", syncx.Semaphore),
        ("Event", syncx.Event),
        ("Latch", syncx.Latch),
        ("Condition", syncx.Condition),
        ("Barrier(4)", functools.partial(syncx.Barrier, 4)),
        ("Once", syncx.Once),
        ("RWLock", syncx.RWLock),
    ):
        contestants.append((f"syncx.{name}", "syncx", functools.partial(_anonymous, make)))
    for name, theirs in (
        ("Lock", FORK.Lock),
        ("BoundedSemaphore(4)", functools.partial(FORK.BoundedSemaphore, 4)),
        ("Semaphore", FORK.Semaphore),
        ("Event", FORK.Event),
        ("Condition", FORK.Condition),
        ("Barrier(4)", functools.partial(FORK.Barrier, 4)),
    ):
        contestants.append((f"multiprocessing.{name}", "peer", functools.partial(_multiprocessing, theirs)))
    for name, kind, prepare in settings.interleaved("creation of each", settings.number(15, 1), contestants):
        microseconds, size = _once(prepare, place, OF_EACH)
        section.add(name, microseconds, kind)
        memory.add(name, size, kind)
    return [section, memory]


def _permits(place: Place, settings: Settings) -> Section:
    """One semaphore of many permits beside many of one."""
    many = f"{PERMITS:,} syncx.BinarySemaphore"
    section = Section("permits", f"shared memory of {PERMITS:,} permits, each", "bytes", many)
    pool = functools.partial(syncx.BoundedSemaphore, PERMITS)
    contestants: list[tuple[str, Prepare, int]] = [
        (POOL, functools.partial(_anonymous, pool), 1),
        (many, functools.partial(_anonymous, syncx.BinarySemaphore), PERMITS),
    ]
    for name, prepare, count in settings.interleaved("creation of permits", settings.number(3, 1), contestants):
        section.add(name, _once(prepare, place, count)[1] * count / PERMITS, "syncx")
    return section


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    return [*_locks(place, settings), *_kinds(place, settings), _permits(place, settings)]
