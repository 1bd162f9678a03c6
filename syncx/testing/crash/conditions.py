"""Conditions: a notification reaches a living waiter, once, whoever dies on its way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from ...condition import Condition
from ..stepping import Victim
from .objects import TIMEOUT, HeldByAnother, ObjectScenario, SignalScenario, WaitScenario, dies
from .world import Page

__all__ = ["SCENARIOS"]

_MOVED = Page.FREE
"""A number that wait_for() waits for."""


class _OfCondition(ObjectScenario):
    primitive = "condition"
    thing: Condition

    def make(self, name: str) -> Condition:
        return Condition(name=name, arena=self.arena)

    def warm(self, other: Condition) -> None:
        with other:
            other.notify()
            other.wait(0)

    def holds_lock(self, pid: int) -> bool:
        """Whether that process held the lock, as the victim stood at its point."""
        assert self.seen is not None
        return any(h.pid == pid and h.part == "lock" for h in self.seen.holds)

    # ---- orders -------------------------------------------------------------------------------------------------
    def wait(self) -> bool:
        with self.thing:
            return self.thing.wait()

    def signal(self) -> None:
        with self.thing:
            self.page[_MOVED] = 1
            self.thing.notify()

    def look(self) -> tuple[bool, int]:
        """Whether its last holder died, and how many wait."""
        with self.thing:
            return self.thing.owner_died, self.thing._waiters()

    def ends(self) -> None:
        answer = self.order("other", "look")
        if answer is not None and answer.value[1]:
            self.wrong("damage", f"{answer.value[1]} waiters are left when all are gone")


class _Wait(_OfCondition, WaitScenario):
    """It waits as the first in line; the notification that it was given and did not use goes to the next."""

    operation_name = "wait"

    def before(self) -> None:
        super().before()
        self.thing.acquire()

    def can_signal(self) -> bool:
        return not self.holds_lock(self.corpse)

    def consumed(self) -> bool:
        return self.wait_of(self.corpse, "Condition") is None

    def judge(self, victim: Victim) -> None:
        if self.holds_lock(victim.pid) and not self.by["survivor"].waiting:  # who is next is told of the death
            answer = self.order("other", "look")
            if answer is not None and not answer.value[0]:
                self.wrong("told", "the next holder was not told of the death")
        super().judge(victim)


class _WaitFor(_Wait):
    operation_name = "wait_for"

    def operation(self) -> Callable[[], object]:
        wait_for, page = self.thing.wait_for, self.page
        if self.timeout is None:
            return lambda: wait_for(lambda: page[_MOVED])
        return lambda: wait_for(lambda: page[_MOVED], TIMEOUT)


class _Reacquire(HeldByAnother, _Wait):
    """Another takes the lock when it is notified: it sleeps twice, for the notification, and for the lock."""

    situation = "notified, and the lock held"
    agents = ("survivor", "other", "holder")

    def asleep(self, victim: Victim) -> None:
        super().asleep(victim)
        if self.slept == 1:
            self.holder_comes()
        else:
            self.holder_goes()

    def judge(self, victim: Victim) -> None:
        if self.held:
            self.killed_at = time.monotonic_ns()
            self.holder_goes()
        super().judge(victim)


class _AfterADeath(_Wait):
    """The notifier dies holding the lock: the victim recovers it when it is woken, or another does."""

    situation = "notified by one that died"

    def asleep(self, victim: Victim) -> None:
        if self.slept == 1:
            self.waits("survivor", "wait")
            dies(self._notify_and_die)
            self.signalled = True

    def _notify_and_die(self) -> None:
        self.open()
        self.thing.acquire()
        self.thing.notify()


class _Notify(_OfCondition, SignalScenario):
    """It notifies and gives the lock back; who was chosen goes on, who was not waits still."""

    operation_name = "notify"
    count: ClassVar[int] = 1

    def operation(self) -> Callable[[], object]:
        thing, count = self.thing, self.count

        def notifies() -> None:
            thing.acquire()
            thing.notify(count)
            thing.release()

        return notifies

    def signal(self) -> None:
        with self.thing:
            self.thing.notify_all()

    def reached(self) -> int:
        reached = 0
        for name in self.waiting:
            wait = self.wait_of(self.by[name].pid, "Condition")
            reached += self.by[name].has_answered() or wait is None or wait.state == "notified"
        return reached

    def judge(self, victim: Victim) -> None:
        if self.seen_reached > self.count:
            self.wrong("spurious", f"{self.seen_reached} were notified by notify({self.count})")
        super().judge(victim)


class _NotifyTwo(_Notify):
    situation = "two of three"
    count = 2
    agents = ("survivor", "other", "second", "third")
    waiting = ("survivor", "second", "third")


class _NotifyOne(_NotifyTwo):
    situation = "one of three"
    count = 1


class _NotifyAll(_NotifyTwo):
    operation_name = "notify_all"
    situation = "all of three"
    count = 3

    def operation(self) -> Callable[[], object]:
        thing = self.thing

        def notifies() -> None:
            thing.acquire()
            thing.notify_all()
            thing.release()

        return notifies


class _NotifyNobody(_Notify):
    situation = "nobody waits"
    waiting = ()

    def judge(self, victim: Victim) -> None:
        self.waits("survivor", "wait")
        self.stays("survivor", "came after the notification")
        self.order("other", "signal")
        self.proceeds("survivor", "waits for another's signal", self.killed_at + 10**12)
        self.ends()


SCENARIOS: tuple[Any, ...] = (
    *_Wait.situations(),
    _Reacquire,
    _AfterADeath,
    *_WaitFor.situations()[:2],
    _NotifyNobody,
    _Notify,
    _NotifyOne,
    _NotifyTwo,
    _NotifyAll,
)
