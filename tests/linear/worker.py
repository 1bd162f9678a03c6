"""A process of a history: it waits for orders, plays its part beside the others, and writes down what happens."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from typing import Any

import syncx

from . import rings as r
from .broken import subject_of
from .rings import Ring, Rings
from .subjects import Undone

START_PATIENCE = 30.0
"""Seconds to wait for the others at the start."""


def lines(fd: int) -> Any:
    """The lines that come through a pipe."""
    rest = b""
    while True:
        while b"\n" not in rest:
            more = os.read(fd, 65536)
            if not more:
                return
            rest += more
        line, _, rest = rest.partition(b"\n")
        yield line


def pause(rng: random.Random) -> None:
    """A little time between two calls, or none: so that calls meet in ever new ways."""
    kind = rng.random()
    if kind < 0.45:
        return
    if kind < 0.7:
        os.sched_yield()
    elif kind < 0.95:
        end = time.perf_counter_ns() + rng.randrange(40_000)
        while time.perf_counter_ns() < end:
            continue
    else:
        time.sleep(rng.random() * 0.0005)


def begin_together(rings: Rings, slot: int, parties: int, number: int) -> None:
    """Spins until all have come."""
    ring = rings.of(slot)
    others = [rings.of(i) for i in range(parties)]
    end = time.monotonic() + START_PATIENCE
    ring.words[r.READY] = number
    while any(o.words[r.READY] != number for o in others):
        time.sleep(0)  # lets a thread of this process come too
        if time.monotonic() > end:
            missing = [i for i, o in enumerate(others) if o.words[r.READY] != number]
            raise TimeoutError(f"{missing} have not come to the start of {parties}; this is {slot}")


def play(subject: Any, ring: Ring, steps: list[Any], rng: random.Random, alarm: tuple[int, int] | None) -> None:
    """Carries out what was planned, then gives back what is still held.

    alarm: before which call a timer is set that kills this process, and to how many nanoseconds.
    """
    numbers = {(name.lstrip("~"), n): i for i, (name, n) in enumerate(subject.names)}

    def call(step: str, arguments: tuple[int, ...]) -> None:
        if alarm is not None and ring.words[r.STARTED] + 1 == alarm[0]:
            signal.setitimer(signal.ITIMER_REAL, max(alarm[1] / 1e9, 1e-6))
        ring.begin(numbers[step, len(arguments)], arguments)
        result: Any
        try:
            result = subject.perform(step, arguments, ring)
        except (syncx.SyncxError, ValueError, RuntimeError, Undone) as e:
            if type(e).__name__ not in r.EXCEPTIONS:
                raise
            result = type(e).__name__
        ring.end(result)

    for step, arguments in steps:
        pause(rng)
        call(step, tuple(arguments))
    while (more := subject.rest()) is not None:
        call(*more)


def serve(orders: int, done: int, rings: Rings) -> None:
    """Plays one history after the other, until there are no more orders."""
    arenas: dict[str, syncx.Arena] = {}
    everywhere = os.sched_getaffinity(0)
    for line in lines(orders):
        order = json.loads(line)
        path = order["arena"]
        if path not in arenas:
            arenas[path] = syncx.Arena(path)
        cls = subject_of(order["primitive"], order["twin"])
        subject = cls(arenas[path], order["name"], order["parameters"], order["directory"])
        failed: list[str] = []

        def part(
            slot: int, steps: list[Any], subject: Any = subject, order: Any = order, failed: list[str] = failed
        ) -> None:
            ring = rings.of(slot)
            try:
                begin_together(rings, slot, order["parties"], order["number"])
                alarm = order["alarms"].get(str(slot))
                play(subject, ring, steps, random.Random(f"{order['seed']}/{slot}"), alarm)
                if alarm is not None:
                    signal.pause()  # the timer has not gone off yet: it is the end of this process all the same
            except BaseException:
                failed.append(traceback.format_exc())
            ring.words[r.FINISHED] = 1

        if order["cpu"] is not None:
            os.sched_setaffinity(0, {order["cpu"]})
        (first, *others) = order["threads"]
        threads = [threading.Thread(target=part, args=tuple(o)) for o in others]
        for thread in threads:
            thread.start()
        part(*first)
        for thread in threads:
            thread.join()
        if order["cpu"] is not None:
            os.sched_setaffinity(0, everywhere)
        if failed:
            sys.stderr.write("".join(failed))
            sys.stderr.flush()
            os._exit(3)
        subject.close()
        os.write(done, b".")
