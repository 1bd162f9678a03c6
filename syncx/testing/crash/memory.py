"""Objects in memory that the user brings: made where it is zero, and used as those in the arena are.

No snapshot has them, so an agent tells the driver what it sees of them.  The locks among them are in `subjects`.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

from ...barrier import Barrier
from ...bounded import BinarySemaphore, BoundedSemaphore
from ...condition import Condition
from ...event import Event
from ...latch import Latch
from ...mutex import Mutex, RLock
from ...once import Once
from ...rwlock import RWLock
from ...semaphore import Semaphore
from ..stepping import Victim
from . import barriers, conditions, events, onces, semaphores
from .names import NameScenario
from .objects import ObjectScenario

__all__ = ["SCENARIOS"]


# ---- how they are made --------------------------------------------------------------------------------------------
class _Kind(NamedTuple):
    """What can be placed."""

    name: str
    made: Any
    options: dict[str, Any] = {}
    change: Callable[[Any], object] = lambda thing: thing.acquire()
    changed: Callable[[Any], bool] = lambda thing: not thing.acquire(blocking=False)
    """Whether an object is one that another process has changed."""
    restore: Callable[[Any], object] = lambda thing: thing.release()


_KINDS = (
    _Kind("mutex", Mutex),
    _Kind("rlock", RLock),
    _Kind("binary semaphore", BinarySemaphore),
    _Kind("bounded semaphore", BoundedSemaphore, {"value": 1}),
    _Kind(
        "rwlock",
        RWLock,
        {},
        lambda lock: lock.write().acquire(),
        lambda lock: not lock.read().acquire(False),
        lambda lock: lock.write().release(),
    ),
    _Kind("condition", Condition),
    _Kind(
        "semaphore",
        Semaphore,
        {"value": 0},
        lambda semaphore: semaphore.release(),
        lambda semaphore: bool(semaphore.value == 1),
        lambda semaphore: semaphore.acquire(),
    ),
    _Kind(
        "event", Event, {}, lambda event: event.set(), lambda event: bool(event.is_set()), lambda event: event.clear()
    ),
    _Kind(
        "latch",
        Latch,
        {"count": 2},
        lambda latch: latch.count_down(),
        lambda latch: bool(latch.count == 1),
        lambda latch: latch.count_down(),
    ),
    _Kind(
        "barrier",
        Barrier,
        {"parties": 2},
        lambda barrier: barrier.abort(),
        lambda barrier: bool(barrier.broken),
        lambda barrier: barrier.reset(),
    ),
    _Kind("once", Once, {}, lambda once: once.run(bytes), lambda once: bool(once.done), lambda once: once.result),
)


class _At(NameScenario):
    """It is made, or the memory is zero still, or half of it is made and the next one does it all; and it is one."""

    operation_name = "at"
    situation = "zero"
    kind: ClassVar[_Kind]

    def __init__(self, arena: str) -> None:
        super().__init__(arena)
        self.memory = mmap.mmap(-1, mmap.PAGESIZE)

    def watched(self) -> list[Any]:
        return [self.memory]

    def stage(self) -> None:
        super().stage()
        self.memory[:] = bytes(mmap.PAGESIZE)

    def at(self, memory: mmap.mmap) -> Any:
        return self.kind.made.at(memory, arena=self.arena, **self.kind.options)

    def warm(self, other: Mutex) -> None:
        super().warm(other)
        self.warm_memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.at(self.warm_memory).close()

    def operation(self) -> Callable[[], object]:
        return partial(self.kind.made.at, self.memory, arena=self.arena, **self.kind.options)

    def hold_by_name(self) -> bool:
        self.named = self.at(self.memory)
        self.kind.change(self.named)
        return True

    def meets_by_name(self) -> bool:
        other = self.at(self.memory)
        changed = self.kind.changed(other)
        other.close()
        return changed

    def let_go(self) -> None:
        self.kind.restore(self.named)
        self.named.close()


# ---- how they are used --------------------------------------------------------------------------------------------
class _Seen(NamedTuple):
    """As much of an `ObjectState` as the judges ask for."""

    value: int | None
    broken: bool = False


class _Placed(ObjectScenario):
    """Put before a scenario among the bases of a class: the object is in memory."""

    made: ClassVar[Any]
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, arena: str) -> None:
        super().__init__(arena)
        self._memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
        self.memory = memoryview(self._memory)

    def cast(self) -> tuple[str, ...]:
        return (*self.agents, "looker")

    def watched(self) -> list[Any]:
        return [self.memory[: mmap.PAGESIZE]]

    def make(self, name: str) -> Any:
        return self.made.at(self.memory, 0 if name == "subject" else mmap.PAGESIZE, arena=self.arena, **self.options)

    def renew(self, first: bool) -> None:
        self.thing.close()
        if first:
            self.memory[: mmap.PAGESIZE] = bytes(mmap.PAGESIZE)
        self.thing = self.make("subject")

    def state(self) -> Any:
        return _Seen(*self.by["looker"].ask("looks").value)

    # ---- orders -------------------------------------------------------------------------------------------------
    def looks(self) -> tuple[int | None, bool]:
        """What of it the judges ask for."""
        return self.value(self.thing), getattr(self.thing, "broken", False)

    def value(self, thing: Any) -> int:
        raise NotImplementedError


class _PlacedSemaphore(_Placed):
    made = Semaphore
    options: ClassVar[dict[str, Any]] = {"value": 0}

    def value(self, thing: Any) -> int:
        return int(thing.value)


class _PlacedEvent(_Placed):
    made = Event

    def value(self, thing: Any) -> int:
        return int(thing.is_set())


class _PlacedLatch(_Placed):
    made = Latch
    options: ClassVar[dict[str, Any]] = {"count": 1}

    def value(self, thing: Any) -> int:
        return int(thing.count)


class _PlacedOnce(_Placed):
    made = Once

    def value(self, thing: Any) -> int:
        return int(thing.done)

    def holds(self, victim: Victim) -> bool:
        return bool(self.by["looker"].ask("runner_pid").value == victim.pid)

    def runner_pid(self) -> int:
        runner = self.thing.runner
        return runner[0] if runner else 0


class _PlacedCondition(_Placed):
    made = Condition
    victim_held = False

    def value(self, thing: Any) -> int:
        return 0

    def frozen(self, victim: Victim, seen: Any) -> None:
        self.victim_held = self.by["looker"].ask("holder_pid").value == victim.pid
        super().frozen(victim, seen)

    def holder_pid(self) -> int:
        holder = self.thing.holder
        return holder[0] if holder else 0

    def holds_lock(self, pid: int) -> bool:
        return self.victim_held


class _PlacedBarrier(_Placed):
    made = Barrier
    options: ClassVar[dict[str, Any]] = {"parties": 3}
    others: ClassVar[tuple[str, ...]]

    def value(self, thing: Any) -> int:
        return int(thing.n_waiting)

    def counts(self, victim: Victim) -> bool:
        """Others wait, and it is not just they who are counted: it is one more, or it has begun the next round."""
        waiting = sum(self.by[name].waiting and not self.by[name].has_answered() for name in self.others)
        return bool(self.state().value != waiting)


def _placed() -> list[Any]:
    pairs: tuple[tuple[type[_Placed], tuple[Any, ...]], ...] = (
        (_PlacedSemaphore, (semaphores._Acquire, semaphores._AcquireFree, semaphores._Release)),
        (_PlacedEvent, (events._Wait, events._Set)),
        (_PlacedLatch, (events._LatchWait, events._CountDown)),
        (_PlacedCondition, (conditions._Wait, conditions._Notify)),
        (_PlacedBarrier, (barriers._First, barriers._Last)),
        (_PlacedOnce, (onces._Free, onces._Awaited, onces._Recover)),
    )
    return [
        type(
            f"{base.__name__.strip('_')}InMemory",
            (mixin, base),
            {"primitive": f"{base.primitive} in memory", "__doc__": base.__doc__},
        )
        for mixin, bases in pairs
        for base in bases
    ]


SCENARIOS: tuple[Any, ...] = (
    *(type(f"_At{k.made.__name__}", (_At,), {"kind": k, "primitive": f"{k.name} in memory"}) for k in _KINDS),
    *_placed(),
)
