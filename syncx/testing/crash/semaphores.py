"""Counting semaphores: no unit is lost or made, and no wake-up is lost, whoever dies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from ..._core import _nothing
from ...semaphore import Semaphore
from ..stepping import Victim
from .objects import ObjectScenario, SignalScenario, WaitScenario

__all__ = ["SCENARIOS"]


class _OfSemaphore(ObjectScenario):
    primitive = "semaphore"
    thing: Semaphore

    def make(self, name: str) -> Semaphore:
        return Semaphore(0, name=name, arena=self.arena)

    def warm(self, other: Semaphore) -> None:
        other.release(3)
        other.acquire(n=2)
        other.acquire()
        other.acquire(timeout=0)

    def give(self, units: int) -> None:
        self.thing.release(units)

    def units(self) -> int:
        value = self.state().value
        assert value is not None
        return value

    def balance(self, expected: int) -> None:
        """The units that must be there when all is over."""
        units = self.units()
        if units != expected:
            self.wrong("lost permit" if units < expected else "doubled permit", f"{units} units instead of {expected}")


class _Acquire(_OfSemaphore, WaitScenario):
    """A unit comes while it sleeps; one that it has not taken is for the survivor."""

    operation_name = "acquire"
    wants: ClassVar[int] = 1
    """The units that the victim wants; the survivor wants one."""
    given = 0
    taken = 0
    """By the victim, as it stood at its point."""

    def wait(self) -> bool:
        return self.thing.acquire()

    def signal(self) -> None:
        self.thing.release(self.wants)

    def operation(self) -> Callable[[], object]:
        acquire, wants, timeout = self.thing.acquire, self.wants, self.timeout
        if wants == 1 and timeout is None:
            return acquire
        return partial(acquire, timeout=timeout, n=wants)

    def stage(self) -> None:
        super().stage()
        self.given = 0

    def asleep(self, victim: Victim) -> None:
        super().asleep(victim)
        if self.signalled and self.given - self.survivors() < self.wants:
            self.give_signal()  # the survivor has had one of those

    def give_signal(self) -> None:
        super().give_signal()
        self.given += self.wants

    def survivors(self) -> int:
        return int(self.by["survivor"].waiting and self.by["survivor"].has_answered())

    def consumed(self) -> bool:
        return self.units() == 0 and not self.survivors()

    def frozen(self, victim: Victim, seen: Any) -> None:
        super().frozen(victim, seen)
        self.taken = self.given - self.units() - self.survivors()
        if self.taken not in (0, self.wants):
            self.wrong("lost permit", f"the victim has taken {self.taken} units of {self.wants}")

    def ends(self) -> None:
        self.balance(self.given - 1 - self.taken)


class _AcquireTwo(_Acquire):
    operation_name = "acquire of two"
    wants = 2


class _AcquireFree(_OfSemaphore):
    """There are units enough: as many are gone as it took, at once or not at all."""

    operation_name = "acquire"
    situation = "free"
    wants: ClassVar[int] = 1

    def ready(self) -> None:
        self.thing.release(5)

    def operation(self) -> Callable[[], object]:
        acquire, wants = self.thing.acquire, self.wants
        return acquire if wants == 1 else partial(acquire, n=wants)

    def take(self, n: int) -> bool:
        return self.thing.acquire(n=n)

    def frozen(self, victim: Victim, seen: Any) -> None:
        super().frozen(victim, seen)
        self.left = self.units()
        if 5 - self.left not in (0, self.wants):
            self.wrong("lost permit", f"{5 - self.left} units are gone; it wants {self.wants}")

    def explains_rescues(self) -> bool:
        return False

    def judge(self, victim: Victim) -> None:
        self.order("survivor", "take", self.left)
        self.balance(0)


class _AcquireFreeThree(_AcquireFree):
    operation_name = "acquire of three"
    wants = 3


class _With(_AcquireFree):
    """A unit is taken, and given back."""

    operation_name = "with"

    def operation(self) -> Callable[[], object]:
        thing = self.thing

        def block() -> None:
            with thing:
                _nothing()

        return block


class _Release(_OfSemaphore, SignalScenario):
    """Units that it has given are for those who wait; they have them, or they are there."""

    operation_name = "release"
    count: ClassVar[int] = 1
    wants: ClassVar[int] = 1
    """What each of those who wait wants."""
    released = 0
    """By the victim, as it stood at its point."""

    def wait(self) -> bool:
        return self.thing.acquire(n=self.wants)

    def signal(self) -> None:
        self.thing.release(self.wants * len(self.waiting))

    def operation(self) -> Callable[[], object]:
        release, count = self.thing.release, self.count
        return release if count == 1 else partial(release, count)

    def reached(self) -> int:
        had = sum(self.by[name].has_answered() for name in self.waiting)
        there = self.units()
        self.released = had * self.wants + there
        if self.released not in (0, self.count):
            self.wrong("lost permit", f"{self.released} units are there or taken; {self.count} were released")
        return min(len(self.waiting), had + there // self.wants)

    def ends(self) -> None:
        others = 0 if self.seen_reached == len(self.waiting) else len(self.waiting) * self.wants
        self.balance(self.released + others - len(self.waiting) * self.wants)


class _ReleaseFree(_Release):
    situation = "free"
    waiting = ()

    def explains_rescues(self) -> bool:
        return False

    def judge(self, victim: Victim) -> None:
        super().judge(victim)
        if self.released:
            self.order("survivor", "wait")


class _ReleaseOneOfTwo(_Release):
    situation = "two wait, one unit"
    agents = ("survivor", "other", "second")
    waiting = ("survivor", "second")


class _ReleaseTwo(_ReleaseOneOfTwo):
    operation_name = "release of two"
    situation = "two wait"
    count = 2


class _ReleaseToSeveral(_Release):
    operation_name = "release of two"
    situation = "somebody waits for two"
    count = wants = 2


class _ReleaseMany(_Release):
    """More than one system call can both add and wake."""

    operation_name = "release of 5000"
    situation = "with a waiter"
    count = 5000


SCENARIOS: tuple[Any, ...] = (
    _AcquireFree,
    _AcquireFreeThree,
    _With,
    *_Acquire.situations(),
    *_AcquireTwo.situations(),
    _ReleaseFree,
    _Release,
    _ReleaseOneOfTwo,
    _ReleaseTwo,
    _ReleaseToSeveral,
    _ReleaseMany,
)
