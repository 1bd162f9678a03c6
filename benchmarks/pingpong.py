"""Two processes that wake each other in turn, on one CPU and on two: what a round trip takes."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import syncx

from . import floors
from .children import Child, Connection, Program
from .peers import FORK, Field, Open, inherited, ours, posix_ipc, posixipc, sysv_ipc
from .place import Place
from .samples import Section
from .settings import Settings

DEADLINE = "futex pair with a deadline, in C"
PLAIN = "futex pair, in C"
APART = ", a CPU each"
"""Behind the name of a row: each process is bound to a CPU of its own.  Without it they begin apart, and the scheduler
may move them."""

SAMPLE_NS = 2e7

Contestant = tuple[str, str, Callable[[Place], Open]]
"""The row, its kind, and how it is made."""
Trips = Callable[[Any, int], None]
"""Makes that many round trips with what was opened."""


def _ping_semaphores(pair: Any, n: int) -> None:
    there, back = pair
    for _ in repeat(None, n):
        there.release()
        back.acquire()


def _pong_semaphores(pair: Any, n: int) -> None:
    there, back = pair
    for _ in repeat(None, n):
        there.acquire()
        back.release()


def _ping_events(pair: Any, n: int) -> None:
    there, back = pair
    for _ in repeat(None, n):
        there.set()
        back.wait()
        back.clear()


def _pong_events(pair: Any, n: int) -> None:
    there, back = pair
    for _ in repeat(None, n):
        there.wait()
        there.clear()
        back.set()


def _ping_condition(opened: Any, n: int) -> None:
    (lock, condition), turn = opened
    with lock:
        for _ in repeat(None, n):
            turn[0] = 1
            condition.notify()
            while turn[0]:
                condition.wait()


def _pong_condition(opened: Any, n: int) -> None:
    (lock, condition), turn = opened
    with lock:
        for _ in repeat(None, n):
            while not turn[0]:
                condition.wait()
            turn[0] = 0
            condition.notify()


def _ping_entered(opened: Any, n: int) -> None:
    (lock, condition), turn = opened
    for _ in repeat(None, n):
        with lock:
            turn[0] = 1
            condition.notify()
            while turn[0]:
                condition.wait()


def _pong_entered(opened: Any, n: int) -> None:
    (lock, condition), turn = opened
    for _ in repeat(None, n):
        with lock:
            while not turn[0]:
                condition.wait()
            turn[0] = 0
            condition.notify()


def conditions(field: Field) -> list[Contestant]:
    """Each opens as its lock and itself: most of them are their own lock."""

    def twice(create: Callable[[Place], Open], place: Place) -> Open:
        open_it = create(place)

        def both() -> Any:
            condition = open_it()
            return condition, condition

        return both

    found: list[Contestant] = [
        ("syncx.Condition", "syncx", functools.partial(twice, functools.partial(ours, syncx.Condition))),
        ("multiprocessing.Condition", "peer", functools.partial(twice, lambda _: inherited(FORK.Condition()))),
    ]
    if module := field.modules.get("posixipc"):

        def add(layout: Any) -> Any:
            mutex = layout.add(module.Mutex)
            return mutex, layout.add(module.Condition, mutex=mutex)

        found.append(("posixipc.Condition", "peer", posixipc(module, add)))
    return found


def _two(create: Callable[[Place], Open]) -> Callable[[Place], Open]:
    def both(place: Place) -> Open:
        there, back = create(place), create(place)
        return lambda: (there(), back())

    return both


def _with_turn(create: Callable[[Place], Open]) -> Callable[[Place], Open]:
    def both(place: Place) -> Open:
        condition = create(place)
        turn = mmap.mmap(-1, mmap.PAGESIZE)  # whose turn it is
        return lambda: (condition(), turn)

    return both


@dataclass
class Kind:
    """What is played with."""

    key: str
    title: str
    baseline: str
    ping: Trips
    pong: Trips
    contestants: list[Contestant]


def _kinds(field: Field) -> list[Kind]:
    mp = "multiprocessing."
    semaphores: list[Contestant] = [
        ("syncx.Semaphore", "syncx", functools.partial(ours, functools.partial(syncx.Semaphore, 0))),
        (mp + "Semaphore", "peer", lambda _: inherited(FORK.Semaphore(0))),
    ]
    events: list[Contestant] = [
        ("syncx.Event", "syncx", functools.partial(ours, syncx.Event)),
        (mp + "Event", "peer", lambda _: inherited(FORK.Event())),
    ]
    if theirs := field.modules.get("posixipc"):
        create = posixipc(theirs, lambda layout: layout.add(theirs.Semaphore, value=0))
        semaphores.append(("posixipc.Semaphore", "peer", create))
    if module := field.modules.get("posix_ipc"):
        semaphores.append(("posix_ipc.Semaphore", "peer", posix_ipc(module, 0)))
    if module := field.modules.get("sysv_ipc"):
        semaphores.append(("sysv_ipc.Semaphore", "peer", sysv_ipc(module, 0, undo=False)))

    def each(
        contestants: list[Contestant],
        wrap: Callable[[Callable[[Place], Open]], Callable[[Place], Open]],
    ) -> list[Contestant]:
        return [(name, kind, wrap(create)) for name, kind, create in contestants]

    waited = each(conditions(field), _with_turn)
    entered = "condition, entered each time,"
    return [
        Kind("semaphore", "semaphore", mp + "Semaphore", _ping_semaphores, _pong_semaphores, each(semaphores, _two)),
        Kind("condition", "condition", mp + "Condition", _ping_condition, _pong_condition, waited),
        Kind("entered", entered, mp + "Condition", _ping_entered, _pong_entered, waited),
        Kind("event", "event", mp + "Event", _ping_events, _pong_events, each(events, _two)),
    ]


def _player(open_it: Open, trips: Trips, cpus: tuple[set[int], set[int]], connection: Connection) -> None:
    opened = open_it()
    connection.send("ready")
    while True:
        n = connection.recv()
        for allowed in cpus:  # begins on the first, and may go on where the second allows
            os.sched_setaffinity(0, allowed)
        start = time.monotonic_ns()
        trips(opened, n)
        connection.send(time.monotonic_ns() - start)


Play = Callable[[int], int]
"""Makes that many round trips, and tells the ns they took."""


def _children(kind: Kind, open_it: Open, cpus: list[tuple[set[int], set[int]]], stack: contextlib.ExitStack) -> Play:
    players = []
    for trips, where in zip((kind.ping, kind.pong), cpus, strict=True):
        child = Child(functools.partial(_player, open_it, trips, where))
        stack.callback(child.end)
        child.receive()
        players.append(child)
    ping, pong = players

    def play(n: int) -> int:
        pong.send(n)
        ping.send(n)
        took = ping.receive()
        pong.receive()
        return int(took)

    return play


def _program(how: str, cpus: list[tuple[set[int], set[int]]], stack: contextlib.ExitStack) -> Play:
    program = Program(floors.program("pair"), how, *(",".join(map(str, sorted(where))) for _, where in cpus))
    stack.callback(program.end)
    program.receive()

    def play(n: int) -> int:
        program.send(str(n))
        return int(program.receive())

    return play


def _calibrated(play: Play, sample_ns: float) -> int:
    n = 16
    while (took := play(n)) < sample_ns / 4 and n < 1_000_000:
        n *= 4
    return max(1, int(n * sample_ns / max(took, 1)))


def _section(kind: Kind, field: Field, place: Place, settings: Settings, cpus: list[int]) -> Section:
    one = cpus[0] == cpus[-1]
    key = f"{kind.key}-{'one' if one else 'two'}"
    where = "1 CPU" if one else "2 CPUs"
    baseline = kind.baseline if one else kind.baseline + APART
    if one and kind.key == "semaphore":
        baseline = DEADLINE if field.floors is not None else PLAIN
    section = Section(key, f"{kind.title} ping-pong, {where}, a round trip", "us", baseline)
    bound = [({cpu}, {cpu}) for cpu in (cpus[0], cpus[-1])]
    free = [({cpu}, set(cpus)) for cpu in (cpus[0], cpus[-1])]
    sample_ns = SAMPLE_NS / 10 if settings.quick else SAMPLE_NS
    with contextlib.ExitStack() as stack:
        plays: list[tuple[str, str, Play]] = []
        if field.floors is not None:
            for name, how in ((PLAIN, "plain"), (DEADLINE, "deadline")):
                plays.append((name if one else name + APART, "floor", _program(how, bound, stack)))
        for name, row, create in kind.contestants:
            if not one:
                plays.append((name, row, _children(kind, create(place), free, stack)))
            plays.append((name if one else name + APART, row, _children(kind, create(place), bound, stack)))
        counted = [(name, row, play, _calibrated(play, sample_ns)) for name, row, play in plays]
        for name, row, play, n in settings.interleaved(f"pingpong {key}", settings.number(31, 3), counted):
            section.add(name, play(n) / n / 1e3, row)
    return section


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    cpus = sorted(os.sched_getaffinity(0))
    places = [[cpus[-1]]]
    if len(cpus) > 1:
        places.append([cpus[0], cpus[-1]])
    return [_section(kind, field, place, settings, where) for kind in _kinds(field) for where in places]
