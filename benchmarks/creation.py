"""Ten thousand locks: the time each takes to make, and the shared memory each takes."""

from __future__ import annotations

import functools
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import syncx

from .children import Child, Connection
from .peers import Field
from .place import Place
from .samples import Section
from .settings import Settings

COUNT = 10_000
NAMED = "syncx.Mutex, named"

Make = Callable[[], tuple[Any, Callable[[], int]]]
"""Gives what is called with each number to make one lock, and what tells the bytes of shared memory in use."""


def _named(arena_name: str) -> Any:
    arena = syncx.Arena(arena_name)
    names = [f"lock-{i:05}" for i in range(COUNT)]
    syncx.Mutex("the first", arena=arena)
    return lambda i: syncx.Mutex(names[i], arena=arena), lambda: os.stat(arena.path).st_blocks * 512


def _anonymous(arena_name: str) -> Any:
    arena = syncx.Arena(arena_name)
    syncx.Mutex("the first", arena=arena)
    return lambda i: syncx.Mutex(arena=arena), lambda: os.stat(arena.path).st_blocks * 512


def _multiprocessing(_: str) -> Any:
    context = multiprocessing.get_context("fork")
    context.Lock()

    def shared() -> int:
        """Each lock is a file of one page that has no name any more; what is mapped of such files tells."""
        total = 0
        for line in Path("/proc/self/maps").read_text().splitlines():
            if " /dev/shm/" in line and line.endswith("(deleted)"):
                low, high = line.split()[0].split("-")
                total += int(high, 16) - int(low, 16)
        return total

    return lambda i: context.Lock(), shared


def _body(prepare: Callable[[str], Any], arena_name: str, connection: Connection) -> None:
    make, shared = prepare(arena_name)
    kept = [None] * COUNT
    numbers = range(COUNT)
    before = shared()
    start = time.perf_counter()
    for i in numbers:
        kept[i] = make(i)
    took = time.perf_counter() - start
    connection.send((took / COUNT * 1e6, (shared() - before) / COUNT))
    connection.recv()


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    section = Section("time", f"making {COUNT:,} locks, each", "us", "multiprocessing.Lock")
    memory = Section("memory", f"shared memory of {COUNT:,} locks, each", "bytes", "multiprocessing.Lock")
    contestants = [
        (NAMED, "syncx", _named),
        ("syncx.Mutex, anonymous", "syncx", _anonymous),
        ("multiprocessing.Lock", "peer", _multiprocessing),
    ]
    for name, kind, prepare in settings.interleaved("creation", settings.number(15, 1), contestants):
        arena_name = place.name()
        child = Child(functools.partial(_body, prepare, arena_name))
        try:
            microseconds, size = child.receive(120)
        finally:
            child.end()
            place.unlink_arenas(arena_name)
        section.add(name, microseconds, kind)
        memory.add(name, size, kind)
    return [section, memory]
