"""64 threads make, use and drop the same objects: by name, and one and the same Python object."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import syncx

from .meters import grown, reading
from .objects import World, own_name, world


@dataclass
class Said:
    """Figures, and what was left behind or went wrong."""

    figures: dict[str, float] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)


class Counter:
    """A number that is added to in two steps: whoever comes between them is noticed in the end."""

    def __init__(self) -> None:
        self.value = 0
        self.times = 0

    def add(self) -> None:
        value = self.value
        self.times += 1
        for _ in range(3):
            value += 0
        self.value = value + 1


def _mutex(name: str, w: World, guarded: Counter) -> None:
    with syncx.Mutex(name, arena=w.arena):
        guarded.add()


def _rlock(name: str, w: World, guarded: Counter) -> None:
    lock = syncx.RLock(name, arena=w.arena)
    with lock, lock:
        guarded.add()


def _write(name: str, w: World, guarded: Counter) -> None:
    rw = syncx.RWLock(name, arena=w.arena)
    with rw.read():
        repr(rw)
    with rw.write():
        guarded.add()


def _permits(name: str, w: World, guarded: Counter) -> None:
    with syncx.BoundedSemaphore(1, name=name, arena=w.arena):
        guarded.add()


def _condition(name: str, w: World, guarded: Counter) -> None:
    condition = syncx.Condition(name=name, arena=w.arena)
    with condition:
        guarded.add()
        condition.notify()
        condition.wait(1e-4)


def _file(name: str, w: World, guarded: Counter) -> None:
    with syncx.FileLock(w.directory / name, arena=w.arena):
        guarded.add()


BY_NAME: dict[str, Callable[[str, World, Counter], None]] = {
    "mutex": _mutex,
    "rlock": _rlock,
    "rwlock": _write,
    "permits": _permits,
    "condition": _condition,
    "file": _file,
}


def shared_objects(w: World) -> dict[str, Any]:
    """One Python object of each kind, for all threads at once: what they do is safe, or is refused."""
    return {
        "Mutex": syncx.Mutex(arena=w.arena),
        "RLock": syncx.RLock(arena=w.arena),
        "Semaphore": syncx.Semaphore(2, arena=w.arena),
        "BoundedSemaphore": syncx.BoundedSemaphore(2, arena=w.arena),
        "RWLock": syncx.RWLock(arena=w.arena),
        "Event": syncx.Event(arena=w.arena),
        "Latch": syncx.Latch(1, arena=w.arena),
        "Once": syncx.Once(arena=w.arena),
        "Condition": syncx.Condition(arena=w.arena),
        "Barrier": syncx.Barrier(2, arena=w.arena),
    }


def abuse(thing: Any) -> None:
    """Uses an object that others use, close and ask about at the same time."""
    if isinstance(thing, syncx.RWLock):
        for view in (thing.read(), thing.write()):
            if view.acquire(timeout=0.01):
                repr(thing), thing.readers
                view.release()
    elif hasattr(thing, "acquire"):
        if thing.acquire(timeout=0.01):
            repr(thing), thing.locked()
            thing.release()
    elif isinstance(thing, syncx.Event):
        thing.set(), thing.wait(0.01), thing.clear(), repr(thing)
    elif isinstance(thing, syncx.Latch):
        thing.count_down(), thing.count, thing.wait(0.01)
    elif isinstance(thing, syncx.Once):
        thing.run(list), thing.result, repr(thing)
    else:
        thing.wait(0.002), repr(thing)


def in_threads(count: int, work: Callable[[int], None]) -> list[str]:
    """What went wrong in so many threads that begin together."""
    wrong: list[str] = []
    begin = threading.Barrier(count)

    def body(me: int) -> None:
        begin.wait()
        try:
            work(me)
        except BaseException as e:
            wrong.append(f"thread {me}: {type(e).__name__}: {e}")

    threads = [threading.Thread(target=body, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return wrong


def by_name(w: World, count: int, times: int) -> list[str]:
    """Every thread opens the same names, uses and drops them; exclusion must hold all the while."""
    guarded = {kind: Counter() for kind in BY_NAME}

    def work(me: int) -> None:
        for _ in range(times):
            for kind, use in BY_NAME.items():
                use(kind, w, guarded[kind])

    wrong = in_threads(count, work)
    for kind, counter in guarded.items():
        if not wrong and counter.value != count * times:
            wrong.append(f"{kind}: {count * times} additions under the lock gave {counter.value}")
        if kind != "file":
            w.arena.unlink(kind)
    return wrong


def same_object(w: World, count: int, times: int) -> list[str]:
    """All threads use one and the same Python object, and a few close it under the others."""

    def work(me: int) -> None:
        for n in range(times):
            for thing in things.values():
                try:
                    abuse(thing)
                    if me % 16 == 0 and n == times - 1:
                        thing.close()
                except (ValueError, RuntimeError, syncx.Timeout):  # closed, or in use by another, or broken
                    continue

    things = shared_objects(w)
    return in_threads(count, work)


def run(count: int, times: int) -> Said:
    """Rounds of both; then nothing may be left."""
    said, began = Said(), time.monotonic()
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with world(f"{own_name()}-crowd") as w:
            for title, part in (("by name", by_name), ("the same object", same_object)):
                readings = []
                for _ in range(6):  # the first ones warm up: thread stacks, slots of the arena
                    said.leaks += [f"{count} threads, {title}: {what}" for what in part(w, count, times)]
                    readings.append(reading(w.arena))
                again = reading(w.arena)
                own = {m: max(0, again[m] - n) for m, n in readings[-1].items()}  # what a reading itself takes
                steps = [grown(a, b, count * times, own) for a, b in itertools.pairwise(readings[3:])]
                both = {m: n for m, n in steps[1].items() if m in steps[0]}
                if both:
                    said.leaks.append(f"{count} threads, {title}: each time {both} more")
                print(f"{time.monotonic() - began:7.1f} s  {count} threads, {title}: {6 * count * times} rounds")
    finally:
        sys.setswitchinterval(switch)
    said.figures = {"threads with the same objects": count, "rounds of threads": 12 * count * times}
    return said
