"""Several processes that want one lock all the time: operations a second, and how evenly they are shared."""

from __future__ import annotations

import contextlib
import time
from itertools import repeat
from typing import Any

from .children import Child, Connection
from .peers import Field, Open, Peer
from .place import Place
from .samples import Section
from .settings import Settings

_AT_ONCE = 20


def _loop_time(k: int) -> float:
    """Of one `for _ in range(k): pass`, out of several that are timed at once."""
    turns, times = range(k), repeat(None, _AT_ONCE)
    start = time.perf_counter()
    for _ in times:
        for _ in turns:
            pass
    return (time.perf_counter() - start) / _AT_ONCE


def _turns_of(seconds: float) -> int:
    """The k of a loop that takes that long: by the fastest of many repeats, once warm.

    The fastest, because every disturbance makes it slower; so all processes arrive at about the same number.  At the
    right k itself, because the time is not proportional to it: small integers are ready-made, others are allocated.
    """
    k = 100
    for _ in range(6):
        k = max(1, round(k * seconds / min(_loop_time(k) for _ in range(100))))
    return k


def _worker(open_it: Open, section: float, look_every: int) -> Any:
    def body(connection: Connection) -> None:
        lock = open_it()
        with lock:
            pass
        connection.recv()
        turns = range(_turns_of(section) if section else 0)
        connection.send(len(turns))
        start, end = connection.recv()
        now = time.monotonic
        time.sleep(max(0.0, start - now()))
        count = 0
        while True:
            with lock:
                count += 1
                for _ in turns:
                    pass
            if count % look_every == 0 and now() >= end:
                break
        connection.send(count)

    return body


def one_run(peer: Peer, place: Place, processes: int, section: float, seconds: float) -> tuple[float, float]:
    """Operations a second of all together, and the smallest process's share of the largest's."""
    open_it = peer.create(place)
    # a lock that polls has few operations in a second: every one counts
    body = _worker(open_it, section, 1 if peer.polls else 16)
    with contextlib.ExitStack() as stack:
        workers = []
        for _ in range(processes):
            worker = Child(body)
            stack.callback(worker.end)
            workers.append(worker)
        for worker in workers:  # one after the other, so that they do not disturb each other's calibration
            worker.send("calibrate")
            worker.receive()
        start = time.monotonic() + 0.02
        for worker in workers:
            worker.send((start, start + seconds))
        counts = [worker.receive(seconds + 30) for worker in workers]
    return sum(counts) / seconds, min(counts) / max(counts)


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    sections = []
    seconds = min(settings.seconds, 0.1) if settings.quick else settings.seconds
    contestants = [peer for peer in field.peers if peer.processes]
    for key, processes, microseconds, title in (
        ("two", 2, 0.0, "2 processes, empty section"),
        ("eight", 8, 2.0, "8 processes, 2 us section"),
    ):
        section = Section(key, f"contended: {title}", "ops/s", "multiprocessing.Lock", more_is_better=True)
        for peer in settings.interleaved(f"contended {key}", settings.number(7, 1), contestants):
            operations, share = one_run(peer, place, processes, microseconds * 1e-6, seconds)
            section.add(peer.name, operations, peer.kind, share)
        sections.append(section)
    return sections
