"""notify_all() of a condition for which a hundred processes wait: how soon all have been through its lock."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import time
from collections.abc import Callable

from . import floors
from .children import Child, Connection, Program
from .peers import Field, Open
from .pingpong import conditions
from .place import Place
from .samples import Section
from .settings import Settings

PROGRAM = "one futex call, in C"
_PAUSE = 0.02
"""Seconds in which those who were woken go to sleep again."""


def _waiter(open_it: Open, counts: memoryview, n: int, done: int, connection: Connection) -> None:
    """counts: how many have been through, and when the last of them had."""
    lock, condition = open_it()
    with lock:
        connection.send("ready")  # and nobody can notify before it waits
        while True:
            condition.wait()
            counts[0] += 1
            if counts[0] == n:
                counts[1] = time.monotonic_ns()
                os.write(done, b"!")


def _notifier(open_it: Open, counts: memoryview, done: int, connection: Connection) -> None:
    lock, condition = open_it()
    connection.send("ready")
    while True:
        connection.recv()
        with lock:
            counts[0] = 0
            start = time.monotonic_ns()
            condition.notify_all()
        os.read(done, 1)
        connection.send(counts[1] - start)


Wake = Callable[[], int]
"""Wakes all, and tells the ns until the last had been through."""


def _herd(open_it: Open, n: int, stack: contextlib.ExitStack) -> Wake:
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    counts = memoryview(memory).cast("Q")
    there, done = os.pipe()
    stack.callback(os.close, there)
    stack.callback(os.close, done)
    children = []
    for _ in range(n):
        child = Child(functools.partial(_waiter, open_it, counts, n, done))
        stack.callback(child.end)
        children.append(child)
    notifier = Child(functools.partial(_notifier, open_it, counts, there))
    stack.callback(notifier.end)
    for child in [*children, notifier]:
        child.receive()

    def wake() -> int:
        notifier.send("go")
        return int(notifier.receive())

    return wake


def _program(n: int, stack: contextlib.ExitStack) -> Wake:
    program = Program(floors.program("herd"), str(n))
    stack.callback(program.end)
    program.receive()

    def wake() -> int:
        program.send("")
        return int(program.receive())

    return wake


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    n = min(100, settings.crowd)
    section = Section("notify_all", f"notify_all() with {n} waiting processes", "us", PROGRAM)
    if field.floors is None:
        section.baseline = "multiprocessing.Condition"
    with contextlib.ExitStack() as stack:
        wakes: list[tuple[str, str, Wake]] = []
        if field.floors is not None:
            wakes.append((PROGRAM, "floor", _program(n, stack)))
        for name, kind, create in conditions(field):
            wakes.append((name, kind, _herd(create(place), n, stack)))
        for _ in range(2):  # a forked process first fetches its pages
            for _, _, wake in wakes:
                time.sleep(_PAUSE)
                wake()
        for name, kind, wake in settings.interleaved("notify", settings.number(51, 3), wakes):
            time.sleep(_PAUSE)
            section.add(name, wake() / 1e3, kind)
    return [section]
