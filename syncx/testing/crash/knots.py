"""Deadlocks: a knot that still stands after a death is told, to one of its living members, whoever died telling.

The victim here is who closes the knot, or who is to be told, or who scans for all on the belt.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from ...deadlock import describe
from ...errors import DeadlockError
from ...joins import join
from ...mutex import Mutex
from ..stepping import Victim
from .objects import TIMEOUT, ObjectScenario
from .scenario import Scenario
from .world import until

__all__ = ["SCENARIOS"]

_TELLING = 1.0
"""Seconds in which a deadlock is told, at the latest: some belts."""


class _OfKnots(ObjectScenario):
    """Three mutexes: each of `members` holds its own and waits for that of the next."""

    primitive = "deadlock"

    def make(self, name: str) -> list[Mutex]:
        return [Mutex(f"{name} {i}", arena=self.arena) for i in range(3)]

    def renew(self, first: bool) -> None:
        for lock in self.thing:
            if lock._is_owned():
                lock.release()

    def warm(self, other: list[Mutex]) -> None:
        """A deadlock with itself, told, and one of several: all that it takes to tell one is loaded."""
        str(describe(other[0], (), ()))
        other[0].acquire()
        try:
            other[0].acquire()
        except DeadlockError as e:
            str(e)
        other[0].release()

    # ---- orders -------------------------------------------------------------------------------------------------
    def hold(self, number: int) -> None:
        self.thing[number].acquire()

    def want(self, number: int, priority: int = 0) -> str:
        try:
            self.thing[number].acquire(priority=priority)
        except DeadlockError:
            return "told"
        self.thing[number].release()
        return "got it"

    def let_go(self, number: int) -> None:
        self.thing[number].release()

    # ---- the driver -----------------------------------------------------------------------------------------------
    def told(self, names: tuple[str, ...]) -> list[str]:
        """Who of them has been told by now."""
        return [name for name in names if self.by[name].waiting and self.by[name].has_answered()]

    def unravel(self, names: tuple[str, ...], holds: dict[str, int]) -> None:
        """One of them was told: it gives back, and so all go on."""
        ends: dict[str, Any] = {}
        while len(ends) < len(names):
            try:
                until(lambda: self.told(tuple(n for n in names if n not in ends)), "one of a knot to go on")
            except RuntimeError as e:
                self.wrong("hang", f"{e}; {ends} are over")
                return  # the next `stage` starts them anew
            for name in self.told(tuple(n for n in names if n not in ends)):
                answer = self.answer(name, "is in a knot")
                ends[name] = answer and answer.value
                self.order(name, "let_go", holds[name])
        times = sum(end == "told" for end in ends.values())
        if times != 1:
            self.wrong("told", f"a deadlock of {len(names)} was told {times} times: {ends}")


class _StandsWithoutIt(_OfKnots):
    """Two are in a knot; the victim, who waits for one of them, scans for it on the belt, or looks as it comes."""

    operation_name = "wait"
    situation = "for a member of a knot"

    def operation(self) -> Callable[[], object]:
        lock = self.thing[0]
        return partial(lock.acquire, timeout=0.3)

    def asleep(self, victim: Victim) -> None:
        if self.slept == 1:
            self.tie()

    tied = False

    def tie(self) -> None:
        if not self.tied:
            self.tied = True
            self.by["survivor"].tell("want", 1)
            self.by["survivor"].until_asleep()
            self.by["other"].tell("want", 0)

    def stage(self) -> None:
        super().stage()
        self.tied = False
        self.order("survivor", "hold", 0)
        self.order("other", "hold", 1)

    def judge(self, victim: Victim) -> None:
        self.tie()
        self.unravel(("survivor", "other"), {"survivor": 0, "other": 1})


class _Closes(_OfKnots):
    """The victim closes the knot, and tells another: it dies, and the knot with it, or it is told itself."""

    operation_name = "wait"
    situation = "closes a knot, another is told"
    agents = ("survivor",)
    priority: ClassVar[int] = 5

    def before(self) -> None:
        super().before()
        self.thing[1].acquire()

    def operation(self) -> Callable[[], object]:
        return partial(self.thing[0].acquire, priority=self.priority)

    def stage(self) -> None:
        super().stage()
        self.order("survivor", "hold", 0)

    def placed(self, victim: Victim) -> None:
        self.by["survivor"].tell("want", 1)
        self.by["survivor"].until_asleep()

    def asleep(self, victim: Victim) -> None:
        """The survivor has been told, and gives back what the victim waits for."""
        if self.by["survivor"].waiting and self.by["survivor"].has_answered(_TELLING):
            self.answered = self.by["survivor"].answer()
            self.order("survivor", "let_go", 0)

    answered: Any = None

    def judge(self, victim: Victim) -> None:
        answer, self.answered = self.answered, None
        if answer is None:
            told_before = self.by["survivor"].has_answered()
            answer = self.answer("survivor", "waits for what the dead held", None if told_before else self.killed_at)
            self.order("survivor", "let_go", 0)
        if answer is not None and answer.value not in self.possible():
            self.wrong("wrong answer", f"the survivor: {answer.value!r}; possible: {self.possible()}")

    def possible(self) -> tuple[str, ...]:
        return ("told", "got it")


class _IsTold(_Closes):
    """The victim closes the knot and is told itself: nobody else may be."""

    situation = "closes a knot, is told"
    priority = -5

    def possible(self) -> tuple[str, ...]:
        return ("got it",)


class _ToldAsleep(_OfKnots):
    """The victim sleeps, and another closes the knot: it is told, and dies; what it held is free."""

    operation_name = "wait"
    situation = "asleep, is told"
    agents = ("survivor",)

    def before(self) -> None:
        super().before()
        self.thing[1].acquire()

    def operation(self) -> Callable[[], object]:
        lock = self.thing[0]

        def waits() -> None:
            try:
                lock.acquire(priority=-5)
            except DeadlockError:
                self.thing[1].release()

        return waits

    def stage(self) -> None:
        super().stage()
        self.order("survivor", "hold", 0)

    def asleep(self, victim: Victim) -> None:
        if not self.by["survivor"].waiting:
            self.by["survivor"].tell("want", 1)

    def judge(self, victim: Victim) -> None:
        since = self.killed_at
        if not self.by["survivor"].waiting:
            since = time.monotonic_ns()
            self.by["survivor"].tell("want", 1)
        self.proceeds("survivor", "waits for what the dead held", since, "got it")
        self.order("survivor", "let_go", 0)


class _Join(Scenario):
    """It waits for the end of a process; that is not hurt, and others wait on."""

    primitive = "join"
    operation_name = "join"
    situation = "another joins too"
    agents = ("survivor", "other")
    stoppable = False

    def open(self) -> None:
        from ...arena import Arena

        self.arena = Arena(self.arena_path, create=False)
        self.lock = Mutex("subject", arena=self.arena)

    def before(self) -> None:
        self.lock.acquire(timeout=1)
        self.lock.release()
        join(self.by["survivor"].pid, 0, arena=self.arena)

    def operation(self) -> Callable[[], object]:
        return partial(join, self.ending, 5, arena=self.arena)

    def join_it(self, pid: int) -> bool:
        return join(pid, 10, arena=self.arena)

    def stage(self) -> None:
        self.ending = os.fork()
        if self.ending == 0:
            while True:
                signal.pause()
        self.reaped = False
        self.by["survivor"].tell("join_it", self.ending)
        self.by["survivor"].until_asleep()

    def asleep(self, victim: Victim) -> None:
        self.end_it()

    def end_it(self) -> None:
        if not self.reaped:
            self.reaped = True
            self.ended_at = time.monotonic_ns()
            os.kill(self.ending, signal.SIGKILL)
            os.waitid(os.P_PID, self.ending, os.WEXITED | os.WNOWAIT)

    def judge(self, victim: Victim) -> None:
        if not self.reaped and self.by["survivor"].has_answered():
            self.wrong("wrong answer", "the survivor was told of the end of a process that lives")
        self.end_it()
        answered = self.by["survivor"].has_answered()
        answer = self.answer("survivor", "waits for the end of a process", None if answered else self.ended_at)
        if answer is not None and answer.value is not True:
            self.wrong("wrong answer", f"the survivor was told {answer.value}")
        os.waitpid(self.ending, 0)


class _JoinTimeout(_Join):
    """It gives up; the process lives on, and the other waits on."""

    situation = "timing out"

    def operation(self) -> Callable[[], object]:
        return partial(join, self.ending, TIMEOUT, arena=self.arena)

    def asleep(self, victim: Victim) -> None:
        """The process that it waits for lives."""


class _JoinEnded(_Join):
    """The process has ended before."""

    situation = "it has ended"

    def stage(self) -> None:
        super().stage()
        self.end_it()


SCENARIOS: tuple[Any, ...] = (
    _StandsWithoutIt,
    _Closes,
    _IsTold,
    _ToldAsleep,
    _Join,
    _JoinTimeout,
    _JoinEnded,
)
