"""Events and latches: nobody owns them, so a death may only lose what had not taken effect."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from ...event import Event
from ...latch import Latch
from ..stepping import Victim
from .objects import ObjectScenario, SignalScenario, WaitScenario
from .world import Page

__all__ = ["SCENARIOS"]

_WAS_SET = Page.FREE
"""A mark: the victim's set() has returned."""


class _OfEvent(ObjectScenario):
    primitive = "event"
    thing: Event

    def make(self, name: str) -> Event:
        return Event(name, arena=self.arena)

    def warm(self, other: Event) -> None:
        other.wait(0.001)
        other.set()
        other.wait()
        other.clear()

    def wait(self) -> bool:
        return self.thing.wait()

    def signal(self) -> None:
        self.thing.set()

    def is_set(self) -> bool:
        return self.thing.is_set()


class _Wait(_OfEvent, WaitScenario):
    """All who wait go on, whoever of them dies."""

    operation_name = "wait"

    def explains_rescues(self) -> bool:
        return False


class _WaitPulse(_Wait):
    """It is set and cleared at once: who waited goes on."""

    situation = "set and cleared"

    def signal(self) -> None:
        self.thing.set()
        self.thing.clear()


class _WaitSet(_OfEvent):
    operation_name = "wait"
    situation = "set already"

    def ready(self) -> None:
        self.thing.set()

    def operation(self) -> Callable[[], object]:
        return self.thing.wait

    def judge(self, victim: Victim) -> None:
        self.order("survivor", "wait")


class _Set(_OfEvent, SignalScenario):
    """It is set, and all go on; or it is not, and all wait."""

    operation_name = "set"
    agents = ("survivor", "other", "second")
    waiting: ClassVar[tuple[str, ...]] = ("survivor", "second")

    def operation(self) -> Callable[[], object]:
        return self.thing.set

    def explains_rescues(self) -> bool:
        return False

    def reached(self) -> int:
        went_on = [name for name in self.waiting if self.by[name].has_answered()]
        return len(self.waiting) if self.state().value or self.page[_WAS_SET] or went_on else 0


class _SetFree(_Set):
    situation = "nobody waits"
    waiting: ClassVar[tuple[str, ...]] = ()

    def judge(self, victim: Victim) -> None:
        is_set = self.state().value
        self.waits("survivor", "wait")
        if not is_set:
            self.stays("survivor", "waits for an event that is not set")
            self.order("other", "signal")
        self.proceeds("survivor", "waits for the event", self.killed_at)


class _Pulse(_Set):
    """It is set, and cleared at once: who waited goes on."""

    operation_name = "set, clear"

    def operation(self) -> Callable[[], object]:
        thing, page = self.thing, self.page

        def pulse() -> None:
            thing.set()
            page[_WAS_SET] = 1
            thing.clear()

        return pulse


class _Clear(_SetFree):
    """It is set, and somebody clears it."""

    operation_name = "clear"

    def ready(self) -> None:
        self.thing.set()

    def operation(self) -> Callable[[], object]:
        return self.thing.clear


class _OfLatch(ObjectScenario):
    primitive = "latch"
    thing: Latch
    count: ClassVar[int] = 1

    def make(self, name: str) -> Latch:
        return Latch(self.count, name=name, arena=self.arena)

    def warm(self, other: Latch) -> None:
        other.wait(0.001)
        if other.count:  # the first victim: it is not made anew
            other.count_down(other.count)
        other.wait()

    def wait(self) -> bool:
        return self.thing.wait()

    def signal(self) -> None:
        self.thing.count_down(self.thing.count)


class _LatchWait(_OfLatch, WaitScenario):
    """All who wait go on, whoever of them dies."""

    operation_name = "wait"


class _LatchOpen(_OfLatch):
    operation_name = "wait"
    situation = "open already"

    def ready(self) -> None:
        self.thing.count_down()

    def operation(self) -> Callable[[], object]:
        return self.thing.wait

    def judge(self, victim: Victim) -> None:
        self.order("survivor", "wait")


class _CountDown(_OfLatch, SignalScenario):
    """The last one: all go on, or the latch is as it was."""

    operation_name = "count_down"
    agents = ("survivor", "other", "second")
    waiting = ("survivor", "second")
    down: ClassVar[int] = 1

    def operation(self) -> Callable[[], object]:
        count_down, down = self.thing.count_down, self.down
        return count_down if down == 1 else partial(count_down, down)

    def reached(self) -> int:
        left = self.state().value
        if left not in (self.count, self.count - self.down):
            self.wrong("damage", f"the count is {left} after {self.count} and a count down by {self.down}")
        return 0 if left else len(self.waiting)


class _CountDownSome(_CountDown):
    situation = "not the last"
    count = 5
    down = 2


class _CountDownAll(_CountDown):
    operation_name = "count_down of three"
    count = down = 3


SCENARIOS: tuple[Any, ...] = (
    _WaitSet,
    *_Wait.situations(),
    _WaitPulse,
    _SetFree,
    _Set,
    _Pulse,
    _Clear,
    _LatchOpen,
    *_LatchWait.situations(),
    _CountDown,
    _CountDownSome,
    _CountDownAll,
)
