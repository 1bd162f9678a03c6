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
from .children import PATIENCE, Child, Connection, Late, Program, own_pages
from .peers import Field, Open, ours
from .place import Place
from .samples import Section
from .settings import Settings

PROGRAM = "robust pthread mutex, C program"
NEVER = 1.0
"""Seconds after which a peer's waiter is taken to sleep for ever; those who promise to wake have PATIENCE."""
_GAP = 0.02


def holder(open_it: Open, connection: Connection) -> None:
    own_pages()
    lock = open_it()
    lock.acquire()
    connection.send("ready")
    connection.recv()
    start = time.monotonic_ns()
    lock.release()
    connection.send(start)
    connection.recv()


def waiter(open_it: Open, connection: Connection) -> None:
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
"""Starts a process that has the lock, and one that waits behind it."""
Contestant = tuple[str, str, Start]
"""The row, its kind, and how it is started."""


def start_pair(holds: Callable[[Connection], None], awaited: Open) -> tuple[Any, Any]:
    """A process that holds, and says so, and another that acquires what `awaited` opens."""
    first = Child(holds)
    first.receive()
    second = Child(functools.partial(waiter, awaited))
    second.receive()
    return first, second


def start_children(create: Callable[[Place], Open], place: Place) -> tuple[Any, Any]:
    open_it = create(place)
    return start_pair(functools.partial(holder, open_it), open_it)


def start_program(robust: type[Any], place: Place) -> tuple[Any, Any]:
    """The waiter alone is a C program; the holder is a process like all others', for its size is felt when it dies."""
    path = place.file()
    path.write_bytes(bytes(mmap.PAGESIZE))
    with open(path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    first = Child(functools.partial(holder, lambda: robust(memory)))
    first.receive()
    second = Program(floors.program("robust"), str(path))
    second.receive()
    return first, second


def release(process: Any) -> Callable[[], int]:
    process.send("release")
    return process.receive  # type: ignore[no-any-return]


def kill(process: Any) -> Callable[[], int]:
    start = time.monotonic_ns()
    process.kill()
    return lambda: start


def _one_round(
    section: Section, end: Callable[[Any], Callable[[], int]], contestants: list[Contestant], block: float
) -> None:
    """All block at the same time, and are let go one after the other."""
    with contextlib.ExitStack() as stack:
        pairs = []
        for name, kind, start in contestants:
            first, second = start()
            stack.callback(first.end)
            stack.callback(second.end)
            # On one CPU the waiter may have to let the killed holder finish giving back its memory, for a millisecond
            # or more; whether it is woken there is the scheduler's lottery.
            cpus = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(first.pid, {cpus[0]})
            os.sched_setaffinity(second.pid, {cpus[-1]})
            pairs.append((name, kind, first, second))
        time.sleep(block)
        begun: list[tuple[str, str, Any, Callable[[], int]]] = []
        for name, kind, first, second in pairs:
            begun.append((name, kind, second, end(first)))
            time.sleep(_GAP)  # nobody's wake-up runs beside another's
        now = time.monotonic()
        for name, kind, second, start_of in begun:
            patience = NEVER if kind == "peer" else PATIENCE
            try:
                had = second.receive(max(0.0, now + patience - time.monotonic()))
            except Late:
                section.add(name, None, kind)
                section.notes[name] = f"never (in {patience:g} s)"
                continue
            took = (had - start_of()) / 1e3
            if took < 0:
                raise AssertionError(f"{name}: its waiter ran {-took:.0f} us before the lock was free")
            section.add(name, took, kind)


def measure(
    section: Section,
    end: Callable[[Any], Callable[[], int]],
    teams: list[list[Contestant]],
    rounds: int,
    block: float,
    step: Callable[[int, int], None],
) -> None:
    """Each team in turn: those who look again and again disturb those who sleep, and are a team of their own."""
    for i in range(rounds):
        for team in teams:
            # who never woke in the first round is not asked again
            playing = [c for c in team if not (i and c[0] in section.notes)]
            if playing:
                start = i % len(playing)
                _one_round(section, end, playing[start:] + playing[:start], block)
        for name in section.notes:
            section.samples[name] += [None] * (i + 1 - len(section.samples[name]))
        step(i + 1, rounds)


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    block = min(settings.seconds, 0.3) if settings.quick else settings.seconds
    peers = [p for p in field.peers if p.processes]
    sleepers = [(p.name, p.kind, functools.partial(start_children, p.create, place)) for p in peers if not p.polls]
    pollers = [(p.name, p.kind, functools.partial(start_children, p.create, place)) for p in peers if p.polls]
    ignoring = functools.partial(ours, functools.partial(syncx.Mutex, on_owner_death="ignore"))
    if field.floors is not None:
        sleepers.append((PROGRAM, "floor", functools.partial(start_program, field.floors.Robust, place)))
    released = Section(
        "release", f"release to waiter running, after a block of {block:g} s", "us", "multiprocessing.Lock"
    )
    killed = Section("sigkill", f"SIGKILL of the holder to next holder, after {block:g} s", "us", PROGRAM)
    rounds = settings.number(15, 1)
    for section, end in ((released, release), (killed, kill)):
        team = sleepers
        if section is killed:
            team = [*sleepers, (IGNORING, "syncx", functools.partial(start_children, ignoring, place))]
        step = functools.partial(settings.step, f"wakeup {section.key}")
        measure(section, end, [team, pollers], rounds, block, step)
    return [released, killed]
