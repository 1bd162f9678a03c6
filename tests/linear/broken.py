"""Broken twins of the primitives, in Python: each takes one promise away.  The search must refute every one of them."""

from __future__ import annotations

from typing import Any

import syncx

from .rings import Ring
from .subjects import SUBJECTS, Barrier, Bounded, Condition, Event, Mutex, Once, RangeLock, RWLock, Semaphore, Subject

TWINS: dict[str, dict[str, type[Subject]]] = {}
"""Primitive -> name -> the twin."""


def twin(primitive: str, name: str) -> Any:
    def add(cls: type[Subject]) -> type[Subject]:
        TWINS.setdefault(primitive, {})[name] = cls
        return cls

    return add


def subject_of(primitive: str, twin: str | None = None) -> type[Subject]:
    """The primitive's subject, or that of its twin."""
    return SUBJECTS[primitive] if twin is None else TWINS[primitive][twin]


class _NobodyExcluded:
    """Everybody has it."""

    owner_died = False

    def __init__(self) -> None:
        self._held = 0

    def acquire(self, **_: Any) -> bool:
        self._held += 1
        return True

    recover = acquire

    def release(self) -> None:
        if not self._held:
            raise syncx.NotOwner
        self._held -= 1

    def locked(self) -> bool:
        return self._held > 0

    def _is_owned(self) -> bool:
        return self._held > 0

    def close(self) -> None:
        self._held = 0


@twin("mutex", "excludes nobody")
class ExcludesNobody(Mutex):
    threads = False

    def open(self) -> None:
        self.thing = _NobodyExcluded()


@twin("mutex", "an owner's death is not told")
class DeathNotTold(Mutex):
    def open(self) -> None:
        self.thing = syncx.Mutex(self.name, arena=self.arena, on_owner_death="ignore")


@twin("mutex", "an owner's death is told twice")
class DeathToldTwice(Mutex):
    """Released as a `with` whose body raises does it: the mark stays for the one after."""

    @classmethod
    def draw(cls, rng: Any, threads: int) -> dict[str, int]:
        return {"raises": 0}

    def release(self) -> None:
        if self.thing._is_owned() and self.thing.owner_died:
            self.thing.__exit__(Exception, Exception(), None)
        else:
            self.thing.release()


@twin("mutex", "gives up while it is free")
class GivesUp(Mutex):
    """Every third call with a time limit says at its end that the lock was not to be had."""

    calls = 0

    def acquire(self, timeout: int) -> tuple[int, int]:
        self.calls += 1
        if timeout >= 0 and self.calls % 3 == 0:
            return (0, 0)
        return super().acquire(timeout)


@twin("semaphore", "leaks a unit")
class Leaks(Semaphore):
    def release(self, n: int) -> None:
        if n > 1:
            self.thing.release(n - 1)
        else:
            self.thing.release(n)


@twin("semaphore", "doubles a unit")
class Doubles(Semaphore):
    def release(self, n: int) -> None:
        self.thing.release(n + (n > 1))


@twin("bounded", "a death takes its permits with it")
class PermitsLost(Bounded):
    """A plain semaphore, which does not know who has its units."""

    mine = 0
    threads = False

    def open(self) -> None:
        self.thing = syncx.Semaphore(self.parameters["value"], name=self.name, arena=self.arena)

    def acquire(self, n: int, timeout: int) -> tuple[int]:
        (got,) = super().acquire(n, timeout)
        self.mine += n * got
        return (got,)

    def release(self, n: int) -> None:
        if n > self.mine:
            raise ValueError
        self.mine -= n
        self.thing.release(n)

    def held(self) -> tuple[int]:
        return (self.mine,)

    def rest(self) -> Any:
        return ("release", (1,)) if self.mine else None


@twin("bounded", "counts only what this process holds")
class CountsItsOwn(Bounded):
    def value(self) -> tuple[int]:
        return (self.thing.capacity - self.thing.held,)


@twin("bounded", "has what anybody holds")
class HasAll(Bounded):
    def held(self) -> tuple[int]:
        return (self.thing.capacity - self.thing.value,)


@twin("condition", "notifies one too many")
class OneTooMany(Condition):
    def notify(self, n: int | None = None) -> None:
        super().notify(None if n is None else n + 1)


@twin("condition", "notifies one too few")
class OneTooFew(Condition):
    def notify(self, n: int | None = None) -> None:
        if n is None:
            self.thing.notify_all()
        elif n > 1:
            self.thing.notify(n - 1)
        elif not self.thing._is_owned():
            raise syncx.NotOwner


@twin("event", "forgets that it was set")
class Forgets(Event):
    def set(self) -> None:
        self.thing.set()
        self.thing.clear()


@twin("rwlock", "a writer comes in beside readers")
class WriterBesideReaders(RWLock):
    def open(self) -> None:
        super().open()
        beside = syncx.RWLock(f"{self.name}, of writers", arena=self.arena)
        self.views["write"] = beside.write()


@twin("rwlock", "does not see a reader")
class SeesOneLess(RWLock):
    def perform(self, step: str, arguments: tuple[int, ...], ring: Ring) -> Any:
        result = super().perform(step, arguments, ring)
        return (max(result[0] - 1, 0),) if step == "readers" else result


@twin("rwlock", "takes a reader for a writer")
class ReaderForWriter(RWLock):
    def perform(self, step: str, arguments: tuple[int, ...], ring: Ring) -> Any:
        result = super().perform(step, arguments, ring)
        return (int(bool(result[0] or self.thing.readers)),) if step == "writer" else result


@twin("once", "runs twice")
class RunsTwice(Once):
    threads = False

    def open(self) -> None:
        import os

        self.name = f"{self.name} of {os.getpid() % 2}"
        super().open()


@twin("barrier", "releases one too early")
class TooEarly(Barrier):
    @classmethod
    def draw(cls, rng: Any, threads: int) -> dict[str, int]:
        return {"parties": max(threads, 2)}

    def open(self) -> None:
        super().open()
        self.thing.close()
        self.thing = syncx.Barrier(self.parameters["parties"] - 1, name=f"{self.name}, less", arena=self.arena)


@twin("barrier", "enrols nobody")
class EnrolsNobody(Barrier):
    """It says yes; the place is anybody's, and nobody misses who has it."""

    def enroll(self) -> None:
        if getattr(self.mine, "enrolled", False):
            raise RuntimeError
        self.mine.enrolled = True

    def withdraw(self) -> None:
        if not getattr(self.mine, "enrolled", False):
            raise RuntimeError
        self.mine.enrolled = False


@twin("rangelock", "locks half of the range")
class HalfOfTheRange(RangeLock):
    def make(self, start: int, length: int, shared: int) -> Any:
        return super().make(start, max(1, (length or 8 - start) // 2), shared)


@twin("latch", "opens one too early")
class OpensEarly(SUBJECTS["latch"]):
    def open(self) -> None:
        self.thing = syncx.Latch(max(1, self.parameters["count"] - 1), name=self.name, arena=self.arena)

    def count(self) -> tuple[int]:
        return (self.thing.count + (self.parameters["count"] > 1),)


@twin("append", "writes without the lock")
class NoLock(SUBJECTS["append"]):
    def append(self, number: int) -> tuple[int]:
        import os

        from .specifications import record_text

        with open(self.path, "ab") as f:
            at = os.path.getsize(self.path)
            os.sched_yield()
            f.write(record_text(number))
        return (at,)


@twin("update", "replaces without the lock")
class LostUpdate(SUBJECTS["update"]):
    def update(self, number: int) -> tuple[int, int]:
        import os
        from zlib import crc32

        from .specifications import record_text

        old = self._content()
        temporary = f"{self.path}.{os.getpid()}.{number}"
        with open(temporary, "wb") as f:
            f.write(old + record_text(number))
        os.rename(temporary, self.path)
        return len(old), crc32(old)


__all__ = ["TWINS", "Ring", "subject_of"]
