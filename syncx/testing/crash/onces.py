"""Once: what is done is done once, whole, and for all; what was not is done by the next."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from ...once import Once
from ..stepping import Victim
from .objects import TIMEOUT, Interrupted, ObjectScenario, dies, raises
from .world import Page, until

__all__ = ["SCENARIOS"]

_RUNS = Page.FREE
"""How often a function has run to its end."""
_INSIDE = Page.FREE + 1
"""Who is inside one: a pid."""
_RETURNED = Page.FREE + 2
"""A mark: the victim's run() has returned."""
_SURVIVORS_RUNS = Page.FREE + 3
"""How often the survivor's function has run to its end."""
VICTIMS, SURVIVORS, OTHERS = b"the victim's", b"the survivor's", b"the other's"


class _OfOnce(ObjectScenario):
    """Results tell whose function has run."""

    primitive = "once"
    operation_name = "run"
    stoppable = True
    thing: Once

    def __init__(self, arena: str) -> None:
        super().__init__(arena)
        self.reads, self.writes = os.pipe()

    def finish(self) -> None:
        super().finish()
        os.close(self.reads)
        os.close(self.writes)

    def make(self, name: str) -> Once:
        return Once(name, arena=self.arena)

    def warm(self, other: Once) -> None:
        fresh = Once(arena=self.arena)
        fresh.run(bytes)
        fresh.run(bytes)
        other.run(bytes)

    # ---- functions that are run once --------------------------------------------------------------------------------
    def function(self, result: bytes) -> Callable[[], bytes]:
        page = self.page

        def runs() -> bytes:
            page[_RUNS] += 1
            page[_SURVIVORS_RUNS] += result == SURVIVORS
            return result

        return runs

    def stays_inside(self) -> bytes:
        """One that ends when it is told how: by r with a result, by x with an exception."""
        self.page[_INSIDE] = os.getpid()
        word = os.read(self.reads, 1)
        self.page[_INSIDE] = 0
        if word == b"x":
            raise Interrupted
        self.page[_RUNS] += 1
        return OTHERS

    # ---- orders -----------------------------------------------------------------------------------------------------
    def run(self) -> bytes:
        result: bytes = self.thing.run(self.function(SURVIVORS))
        return result

    def run_long(self) -> str:
        try:
            self.thing.run(self.stays_inside)
        except Interrupted:
            return "raised"
        return "done"

    # ---- the victim -------------------------------------------------------------------------------------------------
    def operation(self) -> Callable[[], object]:
        run, function, page = self.thing.run, self.function(VICTIMS), self.page

        def runs() -> None:
            run(function)
            page[_RETURNED] = 1

        return runs

    # ---- the driver -------------------------------------------------------------------------------------------------
    was_done = False
    """Whether it was done as the victim stood at its point, and not by the survivor."""

    def frozen(self, victim: Victim, seen: Any) -> None:
        super().frozen(victim, seen)
        state = self.state()
        self.was_done = state.value == 1 and not self.page[_SURVIVORS_RUNS]
        self.settle("survivor")
        if self.page[_RETURNED] and state.value != 1:
            self.wrong("damage", "run() has returned, and it is not done")

    def possible(self) -> tuple[bytes, ...]:
        """Whose result it may be."""
        return (VICTIMS,) if self.was_done else (SURVIVORS,)

    def judge_stopped(self, victim: Victim) -> None:
        survivor = self.by["survivor"]
        if self.holds(victim) and survivor.waiting and not self.was_done:  # else the belt finds the result
            self.stays("survivor", "waits for a runner that is stopped", 0.13)

    def holds(self, victim: Victim) -> bool:
        return any(h.pid == victim.pid and h.kind == "Once" for h in self.seen.holds) if self.seen else False

    def judge(self, victim: Victim) -> None:
        survivor, since = self.by["survivor"], self.killed_at
        if not survivor.waiting:
            since = time.monotonic_ns()
            survivor.tell("run")
        answer = self.answer("survivor", "runs it, or gets its result", None if survivor.has_answered() else since)
        if answer is None:
            return
        if answer.value not in self.possible():
            self.wrong("wrong answer", f"the survivor got {answer.value!r}; possible: {self.possible()}")
        runs = self.page[_RUNS]
        self.proceeds("other", "gets the result", self.tells("other", "run"), answer.value)
        if self.page[_RUNS] != runs:
            self.wrong("doubled", "it was done, and run again")


class _Free(_OfOnce):
    situation = "free"


class _Done(_OfOnce):
    situation = "done already"
    stoppable = False

    def ready(self) -> None:
        self.thing.run(lambda: OTHERS)

    def possible(self) -> tuple[bytes, ...]:
        return (OTHERS,)


class _Awaited(_OfOnce):
    """The survivor comes while its function runs, and waits."""

    situation = "with a waiter"
    word = b"r"

    def operation(self) -> Callable[[], object]:
        run, function, page = self.thing.run, self.stays_inside, self.page

        def runs() -> None:
            run(function)
            page[_RETURNED] = 1

        return runs

    def asleep(self, victim: Victim) -> None:
        if self.slept == 1:
            self.waits("survivor", "run")

    def stage(self) -> None:
        while self.unread():
            os.read(self.reads, 1)
        os.write(self.writes, self.word)  # it does not sleep then: the survivor comes at its death
        super().stage()

    def unread(self) -> bool:
        import select

        return bool(select.select([self.reads], [], [], 0)[0])

    def frozen(self, victim: Victim, seen: Any) -> None:
        super().frozen(victim, seen)
        if not self.by["survivor"].waiting:
            self.waits("survivor", "run")

    def possible(self) -> tuple[bytes, ...]:
        return (OTHERS,) if self.was_done else (SURVIVORS,)


class _Abandon(_Awaited):
    """Its function raises."""

    situation = "its function raises"
    word = b"x"


class _Contended(_OfOnce):
    """Another's function runs: it sleeps, the survivor behind it; then that function ends."""

    situation = "contended"
    word = b"r"
    inside = False

    def stage(self) -> None:
        super().stage()
        self.by["other"].tell("run_long")
        until(lambda: self.page[_INSIDE], "the function of another")
        self.inside = True

    def asleep(self, victim: Victim) -> None:
        if self.slept == 1:
            self.waits("survivor", "run")
        if self.ends_now():
            self.end_it()

    def ends_now(self) -> bool:
        return True

    def end_it(self) -> None:
        if self.inside:
            self.inside = False
            os.write(self.writes, self.word)
            self.answer("other", "ends its function")

    def possible(self) -> tuple[bytes, ...]:
        return (OTHERS,)

    def judge(self, victim: Victim) -> None:
        if self.inside:
            self.waits("survivor", "run")
            self.killed_at = time.monotonic_ns()
            self.end_it()
        super().judge(victim)


class _ContendedRaises(_Contended):
    """The other's function raises: the next one runs its own."""

    situation = "contended, and the other's function raises"
    word = b"x"

    def possible(self) -> tuple[bytes, ...]:
        return _OfOnce.possible(self)


class _Timeout(_Contended):
    situation = "timing out"

    def before(self) -> None:
        super().before()
        self.thing.close()
        self.thing = Once("subject", arena=self.arena, timeout=TIMEOUT)

    def ends_now(self) -> bool:
        return False


class _Interrupt(_Contended):
    """A handler raises while it waits."""

    situation = "interrupted"

    def before(self) -> None:
        super().before()
        signal.signal(signal.SIGUSR1, raises)

    def asleep(self, victim: Victim) -> None:
        super().asleep(victim)
        if self.slept == 1:
            victim.signal(signal.SIGUSR1)

    def ends_now(self) -> bool:
        return False


class _Recover(_OfOnce):
    """The last runner died inside its function."""

    situation = "recovering"

    def stage(self) -> None:
        super().stage()
        dies(self._run_and_die)

    def _run_and_die(self) -> None:
        self.open()

        def function() -> None:
            os.kill(os.getpid(), 9)

        self.thing.run(function)


SCENARIOS: tuple[Any, ...] = (
    _Free,
    _Done,
    _Awaited,
    _Abandon,
    _Contended,
    _ContendedRaises,
    _Timeout,
    _Interrupt,
    _Recover,
)
