"""A thread that has been blocked for a while: how soon it runs once the holder releases, or is killed."""

from __future__ import annotations

import contextlib
import functools
import logging
import mmap
import os
import time
from collections.abc import Callable
from typing import Any

import syncx

from . import floors
from .children import Child, Connection, Late, Program, own_pages
from .peers import Field, Open
from .place import Place
from .samples import Section
from .settings import Settings

PROGRAM = "robust pthread mutex, C program"
NEVER = 1.0
"""Seconds after which a waiter is taken to sleep for ever."""
_GAP = 0.02


def _holder(open_it: Open, connection: Connection) -> None:
    own_pages()
    lock = open_it()
    lock.acquire()
    connection.send("ready")
    connection.recv()
    start = time.monotonic_ns()
    lock.release()
    connection.send(start)
    connection.recv()


def _waiter(open_it: Open, connection: Connection) -> None:
    logging.getLogger("syncx").addHandler(logging.NullHandler())  # the terminal's speed is not what is asked
    own_pages()
    lock = open_it()
    connection.send("ready")
    lock.acquire()
    had = time.monotonic_ns()
    connection.send(had)
    connection.recv()


IGNORING = "syncx.Mutex, death ignored"
"""Without the line that is logged for the dead owner."""

Start = Callable[[], tuple[Any, Any]]
"""Starts a holder that has the lock, and a waiter behind it."""


def _start_children(field_peer_create: Callable[[Place], Open], place: Place) -> tuple[Any, Any]:
    open_it = field_peer_create(place)
    holder = Child(functools.partial(_holder, open_it))
    holder.receive()
    waiter = Child(functools.partial(_waiter, open_it))
    waiter.receive()
    return holder, waiter


def _ignoring(place: Place) -> Open:
    name = place.name()
    made = syncx.Mutex(name, arena=place.arena)
    place.on_end(made.close)
    return lambda: syncx.Mutex(name, arena=place.arena, on_owner_death="ignore")


def _start_program(robust: type[Any], place: Place) -> tuple[Any, Any]:
    """The waiter alone is a C program; the holder is a process like all others', for its size is felt when it dies."""
    path = place.file()
    path.write_bytes(bytes(mmap.PAGESIZE))
    with open(path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    holder = Child(functools.partial(_holder, lambda: robust(memory)))
    holder.receive()
    waiter = Program(floors.program(), str(path))
    waiter.receive()
    return holder, waiter


def _release(holder: Any) -> Callable[[], int]:
    holder.send("release")
    return holder.receive  # type: ignore[no-any-return]


def _kill(holder: Any) -> Callable[[], int]:
    start = time.monotonic_ns()
    holder.kill()
    return lambda: start


def _one_round(
    section: Section, end: Callable[[Any], Callable[[], int]], contestants: list[tuple[str, str, Start]], block: float
) -> None:
    """All block at the same time, and are let go one after the other."""
    with contextlib.ExitStack() as stack:
        pairs = []
        for name, kind, start in contestants:
            holder, waiter = start()
            stack.callback(holder.end)
            stack.callback(waiter.end)
            # On one CPU the waiter may have to let the killed holder finish giving back its memory, for a millisecond
            # or more; whether it is woken there is the scheduler's lottery.
            cpus = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(holder.pid, {cpus[0]})
            os.sched_setaffinity(waiter.pid, {cpus[-1]})
            pairs.append((name, kind, holder, waiter))
        time.sleep(block)
        begun: list[tuple[str, str, Any, Callable[[], int]]] = []
        for name, kind, holder, waiter in pairs:
            begun.append((name, kind, waiter, end(holder)))
            time.sleep(_GAP)  # nobody's wake-up runs beside another's
        limit = time.monotonic() + NEVER
        for name, kind, waiter, start_of in begun:
            try:
                had = waiter.receive(max(0.0, limit - time.monotonic()))
            except Late:
                section.add(name, None, kind)
                section.notes[name] = f"never (in {NEVER:g} s)"
                continue
            took = (had - start_of()) / 1e3
            if took < 0:
                raise AssertionError(f"{name}: its waiter ran {-took:.0f} us before the lock was free")
            section.add(name, took, kind)


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    block = min(settings.seconds, 0.3) if settings.quick else settings.seconds
    peers = [p for p in field.peers if p.processes]
    sleepers = [(p.name, p.kind, functools.partial(_start_children, p.create, place)) for p in peers if not p.polls]
    pollers = [(p.name, p.kind, functools.partial(_start_children, p.create, place)) for p in peers if p.polls]
    ignoring = functools.partial(_start_children, _ignoring, place)
    if field.floors is not None:
        sleepers.append((PROGRAM, "floor", functools.partial(_start_program, field.floors.Robust, place)))
    release = Section(
        "release", f"release to waiter running, after a block of {block:g} s", "us", "multiprocessing.Lock"
    )
    killed = Section("sigkill", f"SIGKILL of the holder to next holder, after {block:g} s", "us", PROGRAM)
    rounds = settings.number(15, 1)
    for section, end in ((release, _release), (killed, _kill)):
        for i in range(rounds):
            teams = (sleepers, pollers) if section is release else ([*sleepers, (IGNORING, "syncx", ignoring)], pollers)
            for team in teams:  # apart, for looking again and again disturbs those who sleep
                # who never woke in the first round is not asked again
                playing = [c for c in team if not (section is killed and i and c[0] in section.notes)]
                if playing:
                    start = i % len(playing)
                    _one_round(section, end, playing[start:] + playing[:start], block)
            for name in section.notes:
                section.samples[name] += [None] * (i + 1 - len(section.samples[name]))
            settings.step(f"wakeup {section.key}", i + 1, rounds)
    return [release, killed]
