"""The locks, as subjects of `locks`."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from ...arena import Arena
from ...bounded import BinarySemaphore, BoundedSemaphore
from ...condition import Condition
from ...errors import Gone, OwnerDiedError
from ...mutex import Mutex, RLock
from .locks import Subject
from .situations import scenarios_of

if TYPE_CHECKING:
    from ...snapshots import Snapshot

__all__ = ["SCENARIOS", "SUBJECTS"]


class MutexSubject(Subject):
    name = "mutex"
    made: ClassVar[Any] = Mutex
    options: ClassVar[dict[str, Any]] = {}
    """What it is made with, beside its name and the arena."""
    operations: ClassVar[tuple[str, ...]] = ("acquire", "release", "with", "within", "repr", "fork")

    def __init__(self, arena: str, which: str, memory: memoryview) -> None:
        self.lock = self.open(Arena(arena, create=False), which, memory)
        self.acquire = self.lock.acquire
        self.release = self.lock.release

    def open(self, arena: Arena, which: str, memory: memoryview) -> Any:
        if self.seen:
            return self.made(name=which, arena=arena, **self.options)
        return self.made.at(memory, arena=arena, **self.options)

    def acquire_timed(self, seconds: float) -> bool:
        return bool(self.lock.acquire(timeout=seconds))

    def tries(self) -> Callable[[], object]:
        return functools.partial(self.lock.acquire, False)

    def context(self, seconds: float | None = None) -> Any:
        return self.lock if seconds is None else self.lock.within(seconds)

    def asks(self) -> Callable[[], object]:
        return functools.partial(repr, self.lock)

    def told(self) -> bool:
        return bool(self.lock.owner_died)

    def holder(self) -> int:
        holder = self.lock.holder
        return holder[0] if holder else 0

    def whole(self) -> str | None:
        if self.lock.locked():
            return f"it is held by somebody: {self.lock!r}"
        if not self.lock.acquire(False):
            return f"it is not to be had, though free: {self.lock!r}"
        self.lock.release()
        return None


class RLockSubject(MutexSubject):
    name = "rlock"
    made = RLock
    operations = ("acquire", "release", "with")


class RLockTwice(MutexSubject):
    """The inner of two holds: acquired and released while it is held already."""

    name = "rlock, twice"
    made = RLock
    operations = ("acquire", "release")

    def __init__(self, arena: str, which: str, memory: memoryview) -> None:
        super().__init__(arena, which, memory)
        lock = self.lock

        def acquire() -> None:
            lock.acquire()
            lock.acquire()

        def release() -> None:
            lock.release()
            lock.release()

        self.acquire = acquire
        self.release = release

    def acquire_timed(self, seconds: float) -> bool:
        return bool(self.lock.acquire(timeout=seconds) and self.lock.acquire())

    def tries(self) -> Callable[[], object]:
        return functools.partial(self.acquire_timed, 0.0)


class MemoryMutex(MutexSubject):
    """In memory that the user brings."""

    name = "mutex in memory"
    seen = False
    operations = ("acquire", "release", "with")


class AnonymousMutex(MutexSubject):
    """Without a name: the first process makes it, and gives the others a reference."""

    name = "anonymous mutex"
    operations = ("acquire", "release")

    def open(self, arena: Arena, which: str, memory: memoryview) -> Any:
        length = int.from_bytes(memory[:4], "little")
        if length:
            try:
                return pickle.loads(memory[4 : 4 + length])
            except Gone:  # it went with the last process that knew it
                length = 0
        lock = Mutex(arena=arena)
        reference = pickle.dumps(lock)
        memory[4 : 4 + len(reference)] = reference
        memory[:4] = len(reference).to_bytes(4, "little")
        return lock


class RaisingMutex(MutexSubject):
    """on_owner_death="raise": whoever comes is refused until somebody recovers it."""

    name = "mutex that raises"
    options: ClassVar[dict[str, Any]] = {"on_owner_death": "raise"}
    operations: ClassVar[tuple[str, ...]] = ("acquire", "release", "recover")
    _told = False

    def __init__(self, arena: str, which: str, memory: memoryview) -> None:
        super().__init__(arena, which, memory)
        self.recover = self.lock.recover

    def take(self) -> object:
        self._told = False
        try:
            return self.lock.acquire()
        except OwnerDiedError:
            self._told = True
            return self.lock.recover()

    def take_timed(self, seconds: float) -> bool:
        try:
            return bool(self.lock.acquire(timeout=seconds))
        except OwnerDiedError:
            return bool(self.lock.recover(timeout=seconds))

    def come(self) -> Callable[[], object]:
        return self.take

    def told(self) -> bool:
        return self._told


class RaisingCondition(RaisingMutex):
    name = "condition that raises"
    made = Condition
    operations = ("recover",)


class ConditionLock(MutexSubject):
    name = "condition's lock"
    made = Condition
    operations = ("acquire", "release", "with")


class BinarySubject(MutexSubject):
    name = "binary semaphore"
    made: ClassVar[Any] = BinarySemaphore
    tells = False
    damage = "lost permit"

    def told(self) -> bool:
        return False

    def holder(self) -> int:
        holders = self.lock.holders
        return int(holders[0].pid) if holders else 0

    def whole(self) -> str | None:
        return _permits_of(self.lock, 1)


def _permits_of(semaphore: BoundedSemaphore, capacity: int) -> str | None:
    """What is wrong with a semaphore of which all permits should be free."""
    if semaphore.value != capacity or semaphore.holders:
        return f"{semaphore.value} of {capacity} permits are free, held by {semaphore.holders}"
    if not semaphore.acquire(timeout=1.0, n=capacity):
        return f"{capacity} permits are free and not to be had"
    try:
        if semaphore.acquire(False):
            return f"of {capacity} permits one more was to be had"
        if semaphore.value != 0 or semaphore.held != capacity:
            return f"{capacity} permits were taken: {semaphore.value} are free, {semaphore.held} held"
    finally:
        semaphore.release(semaphore.held)
    return None


class _Permits(BinarySubject):
    """n of three permits; the others take so many that there is nothing left for it, or all."""

    made = BoundedSemaphore
    options: ClassVar[dict[str, Any]] = {"value": 3}
    n: ClassVar[int]
    others: ClassVar[int]
    operations = ("acquire", "release")

    def __init__(self, arena: str, which: str, memory: memoryview) -> None:
        super().__init__(arena, which, memory)
        if self.n > 1:
            self.acquire = functools.partial(self.lock.acquire, n=self.n)
            self.release = functools.partial(self.lock.release, self.n)

    def acquire_timed(self, seconds: float) -> bool:
        return bool(self.lock.acquire(timeout=seconds, n=self.n))

    def tries(self) -> Callable[[], object]:
        return functools.partial(self.lock.acquire, False, n=self.n)

    @classmethod
    def alone_in(cls, seen: Snapshot, pid: int) -> bool:
        """Who asks for several has a part of the semaphore while it looks whether there are so many."""
        own = (h for h in seen.holds if h.pid == pid and h.object is not None and h.part is None)
        return bool(sum(h.units for h in own if "tentative" not in h.flags) > cls.options["value"] - cls.others)

    def take(self) -> object:
        return self.lock.acquire(n=self.others)

    def give(self) -> object:
        return self.lock.release(self.others)

    def take_timed(self, seconds: float) -> bool:
        return bool(self.lock.acquire(timeout=seconds, n=self.others))

    def whole(self) -> str | None:
        return _permits_of(self.lock, self.options["value"])


class OneOfThree(_Permits):
    name = "one permit of three"
    n, others = 1, 3


class TwoOfThree(_Permits):
    name = "two permits of three"
    n = others = 2


class ThreeOfThree(_Permits):
    name = "all three permits"
    n = others = 3


class _RWLock(Subject):
    """The others write."""

    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, arena: str, which: str, memory: memoryview) -> None:
        from ...rwlock import RWLock

        of = Arena(arena, create=False)
        self.lock = RWLock(which, arena=of, **self.options) if self.seen else RWLock.at(memory, arena=of)
        self.writing = self.lock.write()
        self.reading = self.lock.read()
        self.view = self.viewed()
        self.acquire = self.view.acquire
        self.release = self.view.release

    def asks(self) -> Callable[[], object]:
        return functools.partial(repr, self.lock)

    def viewed(self) -> Any:
        raise NotImplementedError

    def acquire_timed(self, seconds: float) -> bool:
        return bool(self.view.acquire(timeout=seconds))

    def tries(self) -> Callable[[], object]:
        return functools.partial(self.view.acquire, False)

    def take(self) -> object:
        return self.writing.acquire()

    def give(self) -> None:
        self.writing.release()

    def take_timed(self, seconds: float) -> bool:
        return bool(self.writing.acquire(timeout=seconds))

    def share(self) -> object:
        return self.reading.acquire()

    def unshare(self) -> None:
        self.reading.release()

    def context(self, seconds: float | None = None) -> Any:
        return self.view if seconds is None else self.view.within(seconds)

    def told(self) -> bool:
        return bool(self.writing.owner_died)

    def holder(self) -> int:
        readers, *others = self.lock._holders()
        return next((pid for pid, _ in (*readers, *filter(None, others))), 0)

    def alone(self) -> int:
        writer = self.lock.writer
        return writer[0] if writer else 0

    @classmethod
    def alone_in(cls, seen: Snapshot, pid: int) -> bool:
        return any(
            h.pid == pid and h.object is not None and h.mode == "exclusive" and "entering" not in h.flags
            for h in seen.holds
        )

    @classmethod
    def dirty_in(cls, seen: Snapshot, pid: int) -> bool:
        return cls.alone_in(seen, pid)

    def whole(self) -> str | None:
        if self.lock.readers or self.lock.writer:
            return f"it is held by somebody: {self.lock!r}"
        if not self.writing.acquire(False):
            return f"it is not to be had for writing, though free: {self.lock!r}"
        self.writing.release()
        if not self.reading.acquire(False):
            return f"it is not to be had for reading, though free: {self.lock!r}"
        self.reading.release()
        return None


class Writing(_RWLock):
    name = "rwlock write"
    drains = True
    operations: ClassVar[tuple[str, ...]] = ("acquire", "release", "downgrade", "with", "within", "repr", "fork")

    def viewed(self) -> Any:
        self.downgrade = self.writing.downgrade
        return self.writing


class RaisingWriting(Writing):
    """on_owner_death="raise": the next writer is refused until somebody recovers it."""

    name = "rwlock that raises"
    options: ClassVar[dict[str, Any]] = {"on_owner_death": "raise"}
    operations = ("recover",)
    _told = False

    def viewed(self) -> Any:
        self.recover = self.writing.recover
        return super().viewed()

    def take(self) -> object:
        self._told = False
        try:
            return self.writing.acquire()
        except OwnerDiedError:
            self._told = True
            return self.writing.recover()

    def take_timed(self, seconds: float) -> bool:
        try:
            return bool(self.writing.acquire(timeout=seconds))
        except OwnerDiedError:
            return bool(self.writing.recover(timeout=seconds))

    def come(self) -> Callable[[], object]:
        return self.take

    def told(self) -> bool:
        return self._told


class Reading(_RWLock):
    name = "rwlock read"
    tells = False
    after_writer = True
    operations = ("acquire", "release", "with")

    def viewed(self) -> Any:
        return self.reading


class Upgradable(_RWLock):
    name = "rwlock upgradable"
    tells = False
    after_writer = True
    operations = ("acquire", "release", "upgrade", "with")

    def viewed(self) -> Any:
        view = self.lock.upgradable()
        self.upgrade = view.upgrade
        return view

    def upgrade_timed(self, seconds: float) -> bool:
        return bool(self.view.upgrade(timeout=seconds))


class Upgraded(_RWLock):
    name = "rwlock upgraded"
    operations = ("release", "downgrade")

    def viewed(self) -> Any:
        return self.lock.upgradable()

    def __init__(self, arena: str, which: str, memory: memoryview) -> None:
        super().__init__(arena, which, memory)
        view = self.view

        def acquire() -> None:
            view.acquire()
            view.upgrade()

        self.acquire = acquire
        self.downgrade = view.downgrade


def _in_memory(subject: type[Subject]) -> type[Subject]:
    """The same, in memory that the user brings."""
    placed = {"name": f"{subject.name} in memory", "seen": False, "brief": True, "operations": ("acquire", "release")}
    return type(f"{subject.__name__}InMemory", (subject,), placed)


SUBJECTS: tuple[type[Subject], ...] = (
    MutexSubject,
    RLockSubject,
    RLockTwice,
    MemoryMutex,
    AnonymousMutex,
    RaisingMutex,
    RaisingCondition,
    ConditionLock,
    BinarySubject,
    OneOfThree,
    TwoOfThree,
    ThreeOfThree,
    Writing,
    RaisingWriting,
    Reading,
    Upgradable,
    Upgraded,
    *map(
        _in_memory,
        (
            RLockSubject,
            RaisingMutex,
            ConditionLock,
            BinarySubject,
            OneOfThree,
            ThreeOfThree,
            Writing,
            Reading,
            Upgradable,
        ),
    ),
)

SCENARIOS = tuple(scenario for subject in SUBJECTS for scenario in scenarios_of(subject))
