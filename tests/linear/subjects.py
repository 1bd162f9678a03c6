"""The primitives as the driver uses them: what is called, in what order, and how results are written down."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import syncx

from .rings import UNTIMED, Ring
from .specifications import record_text

Step = tuple[str, tuple[int, ...]]

SHORT = (0, 0, 0, 100, 500, 2_000)
"""Time limits in microseconds: a try as often as anything else."""

LONG = 20_000


def seconds(microseconds: int) -> float | None:
    return None if microseconds == UNTIMED else microseconds / 1e6


class Subject:
    """One primitive.  An instance is one process's handle of one object; its threads share it.

    names: what may be called, each with its number of arguments; with "~" in front the last one is a time limit.
    """

    names: tuple[tuple[str, int], ...] = ()
    weight = 1.0
    """How many of its histories are taken, beside others, when they are dealt out."""

    threads = True
    """May a process have several?"""

    def __init__(self, arena: syncx.Arena, name: str, parameters: dict[str, int], directory: str) -> None:
        self.arena, self.name, self.parameters, self.directory = arena, name, parameters, directory
        self.open()

    # ---- in the driver

    @classmethod
    def draw(cls, rng: random.Random, threads: int) -> dict[str, int]:
        """The parameters of an object."""
        return {}

    @classmethod
    def plan(cls, rng: random.Random, parameters: dict[str, int], length: int, who: int) -> list[Step]:
        """What one thread does; it may get none of what it asks for."""
        steps: list[Step] = []
        while len(steps) < length:
            steps += cls.phrase(rng, parameters, who)
        return steps

    @classmethod
    def phrase(cls, rng: random.Random, parameters: dict[str, int], who: int) -> list[Step]:
        raise NotImplementedError

    # ---- in the workers

    def open(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.thing.close()

    thing: Any

    def perform(self, step: str, arguments: tuple[int, ...], ring: Ring) -> Any:
        """Carries a step out; exceptions are results too."""
        return getattr(self, step)(*arguments)

    def rest(self) -> Step | None:
        """What the calling thread still has to give back."""
        return None


def limit(rng: random.Random, untimed: float = 0.4) -> int:
    return UNTIMED if rng.random() < untimed else rng.choice(SHORT)


# ---- mutual exclusion -----------------------------------------------------------------------------------------------


class Mutex(Subject):
    names = (("~acquire", 1), ("release", 0), ("locked", 0), ("~recover", 1))
    make: Any = staticmethod(syncx.Mutex)
    reentrant = False

    @classmethod
    def draw(cls, rng: random.Random, threads: int) -> dict[str, int]:
        return {"raises": int(rng.random() < 0.25)}

    @classmethod
    def phrase(cls, rng: random.Random, parameters: dict[str, int], who: int) -> list[Step]:
        r = rng.random()
        if r < 0.05:
            return [("release", ())]
        if r < 0.15:
            return [("locked", ())]
        take = "recover" if parameters.get("raises") and rng.random() < 0.3 else "acquire"
        first: Step = (take, (limit(rng),))
        # untimed only where it holds nothing: release() of what it did not get is refused, and that is recorded
        if cls.reentrant and rng.random() < 0.4:
            return [first, ("acquire", (rng.choice(SHORT),)), ("release", ()), ("release", ())]
        return [first, ("release", ())]

    def open(self) -> None:
        policy = "raise" if self.parameters.get("raises") else "recover"
        self.thing = self.make(self.name, arena=self.arena, on_owner_death=policy)

    def acquire(self, timeout: int) -> tuple[int, int]:
        got = self.thing.acquire(timeout=seconds(timeout))
        return int(got), int(got and self.thing.owner_died)

    def recover(self, timeout: int) -> tuple[int, int]:
        got = self.thing.recover(timeout=seconds(timeout))
        return int(got), int(got and self.thing.owner_died)

    def release(self) -> None:
        self.thing.release()

    def locked(self) -> tuple[int]:
        return (int(self.thing.locked()),)

    def rest(self) -> Step | None:
        return ("release", ()) if self.thing._is_owned() else None


class RLock(Mutex):
    make = staticmethod(syncx.RLock)
    reentrant = True


# ---- counting -------------------------------------------------------------------------------------------------------


class Semaphore(Subject):
    names = (("~acquire", 2), ("release", 1), ("value", 0))
    make: Any = staticmethod(syncx.Semaphore)

    @classmethod
    def draw(cls, rng: random.Random, threads: int) -> dict[str, int]:
        return {"value": rng.randint(0, 3)}

    @classmethod
    def phrase(cls, rng: random.Random, parameters: dict[str, int], who: int) -> list[Step]:
        r, n = rng.random(), rng.choice((1, 1, 1, 2))
        if r < 0.1:
            return [("value", ())]
        if r < 0.5:
            return [("release", (n,))]
        return [("acquire", (n, rng.choice((*SHORT, LONG))))]

    def open(self) -> None:
        self.thing = self.make(self.parameters["value"], name=self.name, arena=self.arena)

    def acquire(self, n: int, timeout: int) -> tuple[int]:
        return (int(self.thing.acquire(timeout=seconds(timeout), n=n)),)

    def release(self, n: int) -> None:
        self.thing.release(n)

    def value(self) -> tuple[int]:
        return (self.thing.value,)


class Bounded(Semaphore):
    names = (("~acquire", 2), ("release", 1), ("value", 0), ("held", 0))
    make = staticmethod(syncx.BoundedSemaphore)

    @classmethod
    def draw(cls, rng: random.Random, threads: int) -> dict[str, int]:
        return {"value": rng.randint(1, 4)}

    @classmethod
    def phrase(cls, rng: random.Random, parameters: dict[str, int], who: int) -> list[Step]:
        r, n = rng.random(), rng.randint(1, min(3, parameters["value"]))
        if r < 0.1:
            return [("release", (n,))]
        if r < 0.3:
            return [(rng.choice(("value", "held")), ())]
        # where the process may hold some already it does not wait for ever
        return [("acquire", (n, rng.choice((*SHORT, LONG)))), ("release", (n,))]

    def held(self) -> tuple[int]:
        return (self.thing.held,)

    def rest(self) -> Step | None:
        return ("release", (1,)) if self.thing.held else None


class Latch(Subject):
    names = (("~wait", 1), ("count_down", 1), ("count", 0))

    @classmethod
    def draw(cls, rng: random.Random, threads: int) -> dict[str, int]:
        return {"count": rng.randint(1, 2 * threads)}

    @classmethod
    def phrase(cls, rng: random.Random, parameters: dict[str, int], who: int) -> list[Step]:
        r = rng.random()
        if r < 0.2:
            return [("count", ())]
        if r < 0.6:
            return [("count_down", (rng.choice((1, 1, 2)),))]
        return [("wait", (rng.choice((*SHORT, LONG)),))]

    def open(self) -> None:
        self.thing = syncx.Latch(self.parameters["count"], name=self.name, arena=self.arena)

    def wait(self, timeout: int) -> tuple[int]:
        return (int(self.thing.wait(seconds(timeout))),)

    def count_down(self, n: int) -> None:
        self.thing.count_down(n)

    def count(self) -> tuple[int]:
        return (self.thing.count,)


# ---- telling each other ---------------------------------------------------------------------------------------------


class Event(Subject):
    names = (("~wait", 1), ("set", 0), ("clear", 0), ("is_set", 0))

    @classmethod
    def phrase(cls, rng: random.Random, parameters: dict[str, int], who: int) -> list[Step]:
        r = rng.random()
        if r < 0.5:
            return [("wait", (rng.choice((*SHORT, LONG)),))]
        if r < 0.6:
            return [("set", ()), ("clear", ())]
        return [(rng.choice(("set", "clear", "is_set")), ())]

    def open(self) -> None:
        self.thing = syncx.Event(self.name, arena=self.arena)

    def wait(self, timeout: int) -> tuple[int]:
        return (int(self.thing.wait(seconds(timeout))),)

    def set(self) -> None:
        self.thing.set()

    def clear(self) -> None:
        self.thing.clear()

    def is_set(self) -> tuple[int]:
        return (int(self.thing.is_set()),)


class Condition(Subject):
    names = (("~acquire", 1), ("release", 0), ("~wait", 1), ("notify", 1), ("notify", 0))
    weight = 2.0

    @classmethod
    def phrase(cls, rng: random.Random, parameters: dict[str, int], who: int) -> list[Step]:
        if rng.random() < 0.04:
            return [rng.choice((("notify", (1,)), ("wait", (0,)), ("release", ())))]
        steps: list[Step] = [("acquire", (UNTIMED,))]
        if rng.random() < 0.15:
            steps.append(("acquire", (0,)))
        for _ in range(rng.choice((1, 1, 2))):
            if rng.random() < 0.55:
                steps.append(("wait", (rng.choice((0, 300, 2_000, LONG, LONG)),)))
            else:
                steps.append(rng.choice((("notify", (1,)), ("notify", (1,)), ("notify", (2,)), ("notify", ()))))
        return [*steps, *[("release", ())] * sum(s[0] == "acquire" for s in steps)]

    def open(self) -> None:
        self.thing = syncx.Condition(name=self.name, arena=self.arena)

    def acquire(self, timeout: int) -> tuple[int, int]:
        got = self.thing.acquire(timeout=seconds(timeout))
        return int(got), int(got and self.thing.owner_died)

    def release(self) -> None:
        self.thing.release()

    def wait(self, timeout: int) -> tuple[int, int]:
        got = self.thing.wait(seconds(timeout))
        return int(got), int(self.thing.owner_died)

    def notify(self, n: int | None = None) -> None:
        if n is None:
            self.thing.notify_all()
        else:
            self.thing.notify(n)

    def rest(self) -> Step | None:
        return ("release", ()) if self.thing._is_owned() else None


class Barrier(Subject):
    names = (
        ("~wait", 1),
        ("abort", 0),
        ("reset", 0),
        ("broken", 0),
        ("n_waiting", 0),
        ("enroll", 0),
        ("withdraw", 0),
    )
    weight = 2.0

    @classmethod
    def draw(cls, rng: random.Random, threads: int) -> dict[str, int]:
        return {"parties": rng.randint(2, max(2, threads))}

    @classmethod
    def phrase(cls, rng: random.Random, parameters: dict[str, int], who: int) -> list[Step]:
        r = rng.random()
        wait: Step = ("wait", (rng.choice((0, 500, LONG, LONG, LONG)),))
        if r < 0.55:
            return [wait]
        if r < 0.7:  # in good order, or it withdraws at the end, or is refused
            return [
                ("enroll", ()),
                *[wait] * rng.choice((1, 1, 2)),
                (rng.choice(("withdraw", "withdraw", "enroll")), ()),
            ]
        if r < 0.72:
            return [("withdraw", ())]
        return [(rng.choice(("abort", "reset", "reset", "reset", "broken", "n_waiting")), ())]

    def open(self) -> None:
        self.thing = syncx.Barrier(self.parameters["parties"], name=self.name, arena=self.arena)
        self.mine = threading.local()

    def enroll(self) -> None:
        self.thing.enroll()
        self.mine.enrolled = True

    def withdraw(self) -> None:
        self.mine.enrolled = False
        self.thing.withdraw()

    def rest(self) -> Step | None:
        return ("withdraw", ()) if getattr(self.mine, "enrolled", False) else None

    def wait(self, timeout: int) -> tuple[int]:
        return (self.thing.wait(seconds(timeout)),)

    def abort(self) -> None:
        self.thing.abort()

    def reset(self) -> None:
        self.thing.reset()

    def broken(self) -> tuple[int]:
        return (int(self.thing.broken),)

    def n_waiting(self) -> tuple[int]:
        return (self.thing.n_waiting,)


class Undone(Exception):
    """Raised by a function that Once runs, so that the next one runs it again."""


class Once(Subject):
    names = (("~run", 3), ("done", 0))

    @classmethod
    def phrase(cls, rng: random.Random, parameters: dict[str, int], who: int) -> list[Step]:
        if rng.random() < 0.2:
            return [("done", ())]
        return [("run", (rng.randrange(1000), int(rng.random() < 0.7), limit(rng)))]

    def open(self) -> None:
        self.thing = syncx.Once(self.name, arena=self.arena)

    def perform(self, step: str, arguments: tuple[int, ...], ring: Ring) -> Any:
        if step == "done":
            return (int(self.thing.done),)
        value, fails, timeout = arguments
        ran = []

        def function() -> int:
            ring.mark(0)
            ran.append(True)
            os.sched_yield()
            ring.mark(1)
            if fails:
                raise Undone
            return value

        with contextlib.closing(syncx.Once(self.name, arena=self.arena, timeout=seconds(timeout))) as once:
            result = once.run(function)
        return int(bool(ran)), result


# ---- readers and writers --------------------------------------------------------------------------------------------


class RWLock(Subject):
    names = (
        ("~read_acquire", 1),
        ("read_release", 0),
        ("~write_acquire", 1),
        ("write_release", 0),
        ("write_downgrade", 0),
        ("~upgradable_acquire", 1),
        ("upgradable_release", 0),
        ("~upgradable_upgrade", 1),
        ("upgradable_downgrade", 0),
        ("torn", 0),
        ("readers", 0),
        ("writer", 0),
    )
    weight = 2.0

    @classmethod
    def phrase(cls, rng: random.Random, parameters: dict[str, int], who: int) -> list[Step]:
        r = rng.random()
        if r < 0.05:
            return [("torn", ())]
        if r < 0.15:
            look: Step = (rng.choice(("readers", "readers", "writer")), ())
            inside = rng.random() < 0.4
            return [("read_acquire", (limit(rng),)), look, ("read_release", ())] if inside else [look]
        if r < 0.5:
            if rng.random() < 0.2:
                return [("read_acquire", (limit(rng),)), ("read_acquire", (0,)), *[("read_release", ())] * 2]
            return [("read_acquire", (limit(rng),)), ("read_release", ())]
        if r < 0.75:
            down: list[Step] = [("write_downgrade", ())] if rng.random() < 0.25 else []
            return [("write_acquire", (limit(rng),)), *down, ("write_release", ())]
        up: Step = ("upgradable_upgrade", (limit(rng, 0.3),))
        down = [("upgradable_downgrade", ())] if rng.random() < 0.4 else []
        return [("upgradable_acquire", (limit(rng),)), up, *down, ("upgradable_release", ())]

    def open(self) -> None:
        self.thing = syncx.RWLock(self.name, arena=self.arena)
        self.views = {"read": self.thing.read(), "write": self.thing.write(), "upgradable": self.thing.upgradable()}

    def perform(self, step: str, arguments: tuple[int, ...], ring: Ring) -> Any:
        if step == "torn":
            return (int(self.thing.owner_died),)
        if step == "readers":
            return (len(self.thing.readers),)
        if step == "writer":
            return (int(self.thing.writer is not None),)
        view, what = step.split("_")
        method = getattr(self.views[view], what)
        if not arguments:
            return method()
        got = method(timeout=seconds(arguments[0]))
        if what == "upgrade" or view == "read":
            return (int(got),)
        return int(got), int(got and self.views[view].owner_died)

    def rest(self) -> Step | None:
        return next(((f"{n}_release", ()) for n, view in self.views.items() if view._is_owned()), None)


# ---- files ----------------------------------------------------------------------------------------------------------


class FileLock(Subject):
    """Shared and exclusive holds of the whole file."""

    names = (
        ("~acquire", 4),
        ("release", 0),
        ("~lock_range", 4),
        ("unlock_range", 2),
        ("~upgrade", 1),
        ("downgrade", 0),
    )

    @classmethod
    def phrase(cls, rng: random.Random, parameters: dict[str, int], who: int) -> list[Step]:
        if rng.random() < 0.04:
            return [rng.choice((("release", ()), ("upgrade", (0,)), ("downgrade", ())))]
        start, length, shared = cls.piece(rng, who)
        steps: list[Step] = [("acquire", (start, length, shared, limit(rng)))]
        if rng.random() < 0.5:
            steps += cls.between(rng)
        return [*steps, ("release", ())]

    @classmethod
    def piece(cls, rng: random.Random, who: int) -> tuple[int, int, int]:
        return 0, 0, rng.randint(0, 1)

    @classmethod
    def between(cls, rng: random.Random) -> list[Step]:
        """While it is held.  Never for ever: the other may wait for what is held here."""
        return [rng.choice((("upgrade", (rng.choice(SHORT),)), ("downgrade", ())))]

    def open(self) -> None:
        self.thing = contextlib.ExitStack()
        self.path = os.path.join(self.directory, self.name)
        self.locks: dict[tuple[int, int, int], Any] = {}
        self.mine: dict[int, Any] = {}

    def lock(self, start: int, length: int, shared: int) -> Any:
        """One object for each range and mode in a process: threads share them."""
        key = (start, length, shared)
        if key not in self.locks:
            self.locks[key] = self.make(*key)
        return self.locks[key]

    def make(self, start: int, length: int, shared: int) -> Any:
        return syncx.FileLock(self.path, shared=bool(shared), arena=self.arena)

    def perform(self, step: str, arguments: tuple[int, ...], ring: Ring) -> Any:
        me = threading.get_ident()
        if step == "acquire":
            *which, timeout = arguments
            lock = self.lock(*which)
            got = lock.acquire(timeout=seconds(timeout))
            if got:
                self.mine[me] = lock
            return (int(got),)
        held = self.mine.get(me)
        if held is None or not held.held:
            held = self.lock(0, 1, 0)
        if step == "release":
            held.release()
            self.mine.pop(me, None)
            return None
        if step == "lock_range":
            start, length, shared, timeout = arguments
            return (int(held.lock_range(start, length, shared=bool(shared), timeout=seconds(timeout))),)
        if step == "upgrade":
            return (int(held.upgrade(timeout=seconds(arguments[0]))),)
        return getattr(held, step)(*arguments)

    def rest(self) -> Step | None:
        return ("release", ()) if any(lock.held for lock in list(self.locks.values())) else None

    def close(self) -> None:
        for lock in self.locks.values():
            lock.close()


class RangeLock(FileLock):
    """Ranges of eight bytes."""

    weight = 1.5

    @classmethod
    def piece(cls, rng: random.Random, who: int) -> tuple[int, int, int]:
        start = rng.randrange(7)
        return start, rng.choice((0, *range(1, 8 - start))), int(rng.random() < 0.4)

    @classmethod
    def between(cls, rng: random.Random) -> list[Step]:
        start, length, shared = cls.piece(rng, 0)
        return [
            rng.choice(
                (
                    ("lock_range", (start, length, shared, rng.choice(SHORT))),
                    ("lock_range", (start, length, shared, rng.choice(SHORT))),
                    ("unlock_range", (start, length)),
                    ("upgrade", (rng.choice(SHORT),)),
                    ("downgrade", ()),
                )
            )
        ]

    def make(self, start: int, length: int, shared: int) -> Any:
        return syncx.RangeLock(self.path, start, length, shared=bool(shared), arena=self.arena)


class Records(FileLock):
    """Records, alone and neighbours of them; a record stands for a byte of the specification."""

    SIZE = 16

    @classmethod
    def piece(cls, rng: random.Random, who: int) -> tuple[int, int, int]:
        start = rng.randrange(6)
        return start, rng.choice((1, 1, 2)), int(rng.random() < 0.4)

    def make(self, start: int, length: int, shared: int) -> Any:
        records = syncx.RecordLocks(self.path, self.SIZE, header=5, arena=self.arena)
        which = start if length == 1 else slice(start, start + length)
        return records.shared(which) if shared else records[which]


class Append(Subject):
    names = (("append", 1), ("read", 0))
    weight = 0.5

    @classmethod
    def phrase(cls, rng: random.Random, parameters: dict[str, int], who: int) -> list[Step]:
        return [("read", ()) if rng.random() < 0.2 else ("append", (rng.randrange(10_000),))]

    def open(self) -> None:
        self.path = os.path.join(self.directory, self.name)
        self.thing = syncx.FileLock(self.path, arena=self.arena)
        self.reading = syncx.FileLock(self.path, shared=True, arena=self.arena)

    def append(self, number: int) -> tuple[int]:
        return (self.thing.append(record_text(number)[:-1]),)

    def read(self) -> tuple[int, int]:
        """What is whole: a torn record at the end is the next append's to cut off."""
        with self.reading as lock:
            content = lock.file.read()
        whole = content[: content.rfind(b"\n") + 1]
        return len(whole), crc32(whole)

    def close(self) -> None:
        self.thing.close()
        self.reading.close()


class Update(Subject):
    names = (("update", 1), ("read", 0))
    weight = 0.5

    @classmethod
    def phrase(cls, rng: random.Random, parameters: dict[str, int], who: int) -> list[Step]:
        return [("read", ()) if rng.random() < 0.4 else ("update", (rng.randrange(10_000),))]

    def open(self) -> None:
        self.path = os.path.join(self.directory, self.name)
        self.thing = contextlib.ExitStack()

    def _content(self) -> bytes:
        try:
            with open(self.path, "rb") as f:
                return f.read()
        except FileNotFoundError:
            return b""

    def update(self, number: int) -> tuple[int, int]:
        with syncx.update(self.path, "wb", arena=self.arena) as new:
            old = self._content()
            new.write(old + record_text(number))
        return len(old), crc32(old)

    def read(self) -> tuple[int, int]:
        content = self._content()
        return len(content), crc32(content)


SUBJECTS: dict[str, type[Subject]] = {
    "mutex": Mutex,
    "rlock": RLock,
    "semaphore": Semaphore,
    "bounded": Bounded,
    "condition": Condition,
    "rwlock": RWLock,
    "event": Event,
    "barrier": Barrier,
    "latch": Latch,
    "once": Once,
    "filelock": FileLock,
    "rangelock": RangeLock,
    "records": Records,
    "append": Append,
    "update": Update,
}


def dealt(rng: random.Random, subject: type[Subject], parameters: dict[str, int], threads: int) -> Iterator[list[Step]]:
    """A plan for each of the threads."""
    for who in range(threads):
        yield subject.plan(rng, parameters, rng.randint(3, 7), who)
