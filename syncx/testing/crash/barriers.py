"""Barriers: all parties of a round have the same end of it, and a party that dies breaks it for the others."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any, ClassVar

from ..._core import _nothing
from ...barrier import Barrier
from ...errors import BrokenBarrierError
from ..stepping import Victim
from .objects import BELT, TIMEOUT, ObjectScenario, raises

__all__ = ["SCENARIOS"]


class _OfBarrier(ObjectScenario):
    """Three parties: the victim, the survivor and a second one; `other` takes the victim's place."""

    primitive = "barrier"
    situation = "the first"
    agents = ("survivor", "other", "second")
    stoppable = True
    thing: Barrier
    comes_last: ClassVar[bool] = False
    """Whether the others wait already when the victim comes."""
    others: ClassVar[tuple[str, ...]] = ("survivor", "second")

    def make(self, name: str) -> Barrier:
        return Barrier(3, name=name, arena=self.arena)

    def warm(self, other: Barrier) -> None:
        other.enroll()
        other.withdraw()
        try:
            other.wait(0.001)
        except BrokenBarrierError:
            other.reset()
        other.abort()
        other.reset()

    def operation(self) -> Callable[[], object]:
        return self.thing.wait

    # ---- orders -------------------------------------------------------------------------------------------------
    def wait(self) -> str:
        try:
            self.thing.wait()
        except BrokenBarrierError:
            return "broken"
        return "passed"

    def reset(self) -> None:
        self.thing.reset()

    # ---- the driver -----------------------------------------------------------------------------------------------
    is_party = False
    """Whether the victim had arrived, or was enrolled, as it stood at its point."""
    tripped = False

    def counts(self, victim: Victim) -> bool:
        """Whether the victim is a party of this round, as it stands there."""
        assert self.seen is not None
        mine = [h for h in self.seen.holds if h.kind == "Barrier" and h.pid == victim.pid]
        return any({"arrived", "enrolled"} & set(h.flags) for h in mine)

    def arrive(self) -> None:
        for name in self.others:
            self.waits(name, "wait")

    def placed(self, victim: Victim) -> None:
        if self.comes_last:
            self.arrive()

    def asleep(self, victim: Victim) -> None:
        if self.slept == 1:
            self.arrive()

    def frozen(self, victim: Victim, seen: Any) -> None:
        super().frozen(victim, seen)
        self.settle()
        self.is_party = self.counts(victim)
        self.tripped = any(self.by[name].waiting and self.by[name].has_answered() for name in self.others)

    def judge_stopped(self, victim: Victim) -> None:
        state = self.state()
        over = self.tripped or state.broken or not state.value  # who sleeps still is woken by the belt
        if not over:
            for name in self.others:
                if self.by[name].waiting:
                    self.stays(name, "waits for a party that is stopped", BELT)

    def judge(self, victim: Victim) -> None:
        since = self.killed_at
        late = [name for name in self.others if not self.by[name].waiting]
        for name in late:
            since = time.monotonic_ns()
            self.by[name].tell("wait")
        names = list(self.others)
        if not self.is_party and not self.tripped and not late and not self.has_ended():
            self.stays(names[0], "waits for a third party", BELT)
        if not self.is_party and not self.tripped and not self.has_ended():
            since = time.monotonic_ns()
            self.by["other"].tell("wait")
            names.append("other")
        ends = {name: self.answer(name, "waits at the barrier", since) for name in names}
        if None in ends.values():
            return
        words = {name: answer.value for name, answer in ends.items() if answer is not None}
        if len(set(words.values())) != 1:
            self.wrong("damage", f"the parties of one round had different ends: {words}")
        end = words["survivor"]
        if end not in self.possible_ends():
            self.wrong("wrong answer", f"the round was {end}; possible: {', '.join(self.possible_ends())}")
        self.goes_on_from(end)

    def has_ended(self) -> bool:
        """Whether the round of the others has been ended by the victim in another way than by arriving."""
        return bool(self.state().broken)

    def possible_ends(self) -> tuple[str, ...]:
        if self.is_party and not self.tripped:
            return ("broken", "passed") if self.comes_last else ("broken",)
        return ("passed",)

    def goes_on_from(self, end: str) -> None:
        """A broken barrier is so for everybody until it is reset; then, and else at once, it serves three."""
        if end == "broken":
            self.proceeds("other", "comes to a broken barrier", self.tells("other", "wait"), "broken")
            self.order("other", "reset")
        for name in self.agents:
            self.by[name].tell("wait")
        since = time.monotonic_ns()
        for name in self.agents:
            self.proceeds(name, "is in the next round", since, "passed")


class _Last(_OfBarrier):
    """The others wait; it comes last."""

    operation_name = "wait"
    situation = "the last"
    comes_last = True


class _Action(_Last):
    """It comes last, and runs the action."""

    situation = "the last, with an action"

    def make(self, name: str) -> Barrier:
        return Barrier(3, _act, name=name, arena=self.arena)


def _act() -> None:
    """What the last party does for all."""


class _First(_OfBarrier):
    operation_name = "wait"


class _TimesOut(_OfBarrier):
    """Only two come: its time is over, and the barrier is broken for both."""

    operation_name = "wait"
    situation = "timing out"
    others = ("survivor",)

    def operation(self) -> Callable[[], object]:
        wait = self.thing.wait
        return lambda: wait(TIMEOUT)

    def judge(self, victim: Victim) -> None:
        if not self.is_party and not self.has_ended():
            self.by["second"].tell("wait")
        super().judge(victim)
        if self.by["second"].waiting:
            self.proceeds("second", "waits at the barrier", self.killed_at + 10**10, "passed")

    def possible_ends(self) -> tuple[str, ...]:
        return ("broken",) if self.is_party or self.tripped or self.was_broken else ("passed",)

    was_broken = False

    def frozen(self, victim: Victim, seen: Any) -> None:
        super().frozen(victim, seen)
        self.was_broken = bool(self.state().broken)

    def goes_on_from(self, end: str) -> None:
        if self.by["second"].waiting:
            self.proceeds("second", "waits at the barrier", time.monotonic_ns(), end)
        super().goes_on_from(end)


class _Interrupt(_TimesOut):
    """A handler raises: the arrival is taken back."""

    situation = "interrupted"

    def before(self) -> None:
        super().before()
        signal.signal(signal.SIGUSR1, raises)

    def operation(self) -> Callable[[], object]:
        return self.thing.wait

    def asleep(self, victim: Victim) -> None:
        super().asleep(victim)
        if self.slept == 1:
            victim.signal(signal.SIGUSR1)


class _Recover(_OfBarrier):
    """A party has died at it: the victim finds that, or the next one does."""

    operation_name = "wait"
    situation = "recovering"
    stoppable = False

    def stage(self) -> None:
        super().stage()
        self.waits("second", "wait")
        self.restart("second")

    def asleep(self, victim: Victim) -> None:
        """Nobody else comes; it is the belt that looks for the dead."""

    def judge(self, victim: Victim) -> None:
        self.proceeds("survivor", "comes where one has died", self.tells("survivor", "wait"), "broken")
        self.goes_on_from("broken")


class _Enroll(_Last):
    """It is a party from here on, and its death breaks the round."""

    operation_name = "enroll"
    situation = "others wait"

    def operation(self) -> Callable[[], object]:
        return self.thing._enroll

    def possible_ends(self) -> tuple[str, ...]:
        return ("broken",) if self.is_party else ("passed",)


class _WithEnroll(_Enroll):
    """It is a party as long as the block lasts."""

    operation_name = "with enroll"

    def operation(self) -> Callable[[], object]:
        enroll = self.thing.enroll

        def block() -> None:
            with enroll():
                _nothing()

        return block


class _Withdraw(_Enroll):
    """It is no party any more from here on."""

    operation_name = "withdraw"

    def before(self) -> None:
        super().before()
        self.thing.enroll()

    def operation(self) -> Callable[[], object]:
        return self.thing.withdraw


class _Abort(_Last):
    """All others learn of it, or nothing has happened."""

    operation_name = "abort"
    situation = "others wait"
    was_broken = False

    def operation(self) -> Callable[[], object]:
        return self.thing.abort

    def frozen(self, victim: Victim, seen: Any) -> None:
        super().frozen(victim, seen)
        self.was_broken = bool(self.state().broken) or self.tripped

    def has_ended(self) -> bool:
        return self.was_broken

    def possible_ends(self) -> tuple[str, ...]:
        return ("broken",) if self.was_broken else ("passed",)


class _Reset(_Abort):
    """Those who wait learn of it, and the barrier serves the next; or nothing has happened."""

    operation_name = "reset"

    def operation(self) -> Callable[[], object]:
        return self.thing.reset

    def goes_on_from(self, end: str) -> None:
        if end == "broken":
            self.order("other", "reset")  # the victim may have died between the two halves of its own
        super().goes_on_from("passed")


class _ResetBroken(_OfBarrier):
    """It is broken; after a reset, whoever's, it serves again."""

    operation_name = "reset"
    situation = "broken"
    stoppable = False

    def ready(self) -> None:
        self.thing.abort()

    def operation(self) -> Callable[[], object]:
        return self.thing.reset

    def judge(self, victim: Victim) -> None:
        self.goes_on_from("broken" if self.state().broken else "passed")


SCENARIOS: tuple[Any, ...] = (
    _First,
    _Last,
    _Action,
    _TimesOut,
    _Interrupt,
    _Recover,
    _Enroll,
    _WithEnroll,
    _Withdraw,
    _Abort,
    _Reset,
    _ResetBroken,
)
