"""What the scenarios of objects with waiters share: an object made anew for each death, who waits and who signals.

The survivor waits behind the victim, or for what the victim signals; `other` signals when the victim does not.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from ..stepping import Victim
from .scenario import Scenario
from .world import HANG

if TYPE_CHECKING:
    from ...arena import Arena
    from ...snapshots import ObjectState, Snapshot, Wait

__all__ = [
    "STOPPED",
    "TIMEOUT",
    "HeldByAnother",
    "Interrupted",
    "ObjectScenario",
    "SignalScenario",
    "WaitScenario",
    "dies",
    "raises",
]

TIMEOUT = 0.1
"""Of a victim that is to time out, in seconds."""
BELT = 0.13
"""Seconds after which the belt has looked for what a death swallowed."""
STOPPED = 0.15
"""Seconds for which others may try to get what a stopped victim holds: longer than the belt."""
LEFT_OVER = 8
"""Objects that may be in the arena at a time: the present one, one to warm up with, and what is yet to be collected."""


class Interrupted(Exception):
    """What the victim's signal handler raises."""


class ObjectScenario(Scenario):
    """An object named "subject", made anew by the first agent before each death."""

    agents: ClassVar[tuple[str, ...]] = ("survivor", "other")
    stoppable = False
    thing: Any
    arena: Arena
    seen: Snapshot | None = None
    """What was to be seen in the arena when the victim stood at its point."""
    corpse = 0
    """The victim's pid."""

    # ---- in every process ---------------------------------------------------------------------------------------
    def make(self, name: str) -> Any:
        """The object of that name, opened or made."""
        raise NotImplementedError

    def open(self) -> None:
        from ...arena import Arena

        self.arena = Arena(self.arena_path, create=False)
        self.thing = self.make("subject")

    # ---- in the victim --------------------------------------------------------------------------------------------
    def before(self) -> None:
        self.warm(self.make("other"))

    def warm(self, other: Any) -> None:
        """Does with another object once what is to be stepped: registers the thread, binds what is bound lazily."""
        raise NotImplementedError

    # ---- orders to agents -----------------------------------------------------------------------------------------
    def renew(self, first: bool) -> None:
        self.thing.close()
        if first:
            with suppress(FileNotFoundError):  # the victim has done it
                self.arena.unlink("subject", force=True)
        self.thing = self.make("subject")

    def ready(self) -> None:
        """What an agent does with the new object before the victim comes."""

    # ---- in the driver ----------------------------------------------------------------------------------------------
    def stage(self) -> None:
        for name, agent in list(self.by.items()):
            if agent.waiting:  # for what a defect has swallowed
                self.restart(name)
        for number, agent in enumerate(self.by.values()):
            agent.ask("renew", number == 0)
        self.by["survivor"].ask("ready")

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        self.seen, self.corpse = seen, victim.pid
        assert seen is not None
        if len(seen.objects) > LEFT_OVER:
            self.wrong("leak", f"there are {len(seen.objects)} objects in the arena: dead ones are not collected")

    def explains_rescues(self) -> bool:
        """Here belong the signallers too, who may die with wake-ups that they had yet to send."""
        return True

    def state(self) -> ObjectState:
        """The object now, as an outsider sees it."""
        from ...snapshots import snapshot

        found = snapshot(self.arena_path).named("subject")
        if found is None:
            raise RuntimeError("the object is gone")
        return found

    def wait_of(self, pid: int, kind: str) -> Wait | None:
        """How a process waits for an object of that kind now."""
        from ...snapshots import snapshot

        seen = snapshot(self.arena_path)
        threads = {p.id for p in seen.participants if p.pid == pid}
        return next((w for w in seen.waits if w.thread in threads and w.kind == kind), None)

    def settle(self, *names: str) -> None:
        """Until those who were woken have gone on, and sleep again or have answered."""
        for name in names or tuple(self.by):
            if self.by[name].waiting:
                self.by[name].until_asleep()

    def waits(self, name: str, order: str, *arguments: Any) -> None:
        """An agent begins to wait, unless it does already."""
        if not self.by[name].waiting:
            self.by[name].tell(order, *arguments)
        self.by[name].until_asleep()

    def tells(self, name: str, order: str) -> int:
        """Gives an order, and says when."""
        self.by[name].tell(order)
        return time.monotonic_ns()

    def proceeds(self, name: str, what: str, since: int, value: Any = True) -> None:
        """An agent that waits goes on in time, and says `value`."""
        told_already = self.by[name].has_answered()
        answer = self.answer(name, what, None if told_already else since)
        if answer is not None and answer.value != value:
            self.wrong("wrong answer", f"the {name} {what}: {answer.value!r} instead of {value!r}")

    def stays(self, name: str, what: str, seconds: float = 0.0) -> bool:
        """An agent that waits has not gone on."""
        if self.by[name].has_answered(seconds):
            answer = self.by[name].answer()
            self.wrong("spurious", f"the {name} {what} went on, with {answer and (answer.value, answer.error)}")
            return False
        return True


class HeldByAnother(ObjectScenario):
    """The agent `holder` has the lock from `holder_comes` to `holder_goes`."""

    held = False

    # ---- orders -----------------------------------------------------------------------------------------------------
    def hold(self) -> None:
        self.thing.acquire()

    def let_go(self) -> None:
        self.thing.release()

    # ---- the driver -------------------------------------------------------------------------------------------------
    def holder_comes(self) -> None:
        self.order("holder", "hold")
        self.held = True

    def holder_goes(self) -> None:
        """Where it has not gone yet."""
        if self.held:
            self.order("holder", "let_go")
            self.held = False


def raises(number: int, frame: object) -> None:
    """A handler that ends the wait it interrupts."""
    raise Interrupted


def _returns(number: int, frame: object) -> None:
    """A handler that does nothing, so the wait goes on."""


class WaitScenario(ObjectScenario):
    """The victim waits, the survivor behind it, and `other` signals once for each."""

    situation = "being woken"
    timeout: ClassVar[float | None] = None
    handler: ClassVar[Any] = None
    """The victim's, of the signal that it is sent when it sleeps; None: it is sent none."""
    at_death: ClassVar[bool] = False
    """Whether the signal comes while the victim stands at its point, or after its death, if it has not come before."""
    signalled = False

    # ---- what a family says -----------------------------------------------------------------------------------------
    def wait(self) -> Any:
        """Order: waits, and says what came of it."""
        raise NotImplementedError

    def signal(self) -> Any:
        """Order: lets one go on."""
        raise NotImplementedError

    def can_signal(self) -> bool:
        """Whether it can be done while the victim stands where it stands."""
        return True

    def consumed(self) -> bool:
        """Whether the victim has had the signal, so that the survivor needs one of its own."""
        return False

    def timed(self) -> Callable[[], object]:
        """The wait with `timeout`."""
        wait, seconds = self.thing.wait, self.timeout
        return lambda: wait(seconds)

    # ---- the victim -------------------------------------------------------------------------------------------------
    def before(self) -> None:
        super().before()
        if self.handler is not None:
            signal.signal(signal.SIGUSR1, type(self).handler)

    def operation(self) -> Callable[[], object]:
        return self.thing.wait if self.timeout is None else self.timed()

    # ---- the driver -------------------------------------------------------------------------------------------------
    def stage(self) -> None:
        super().stage()
        self.signalled = False
        self.signalled_at = 0

    def asleep(self, victim: Victim) -> None:
        if self.slept == 1:
            self.waits("survivor", "wait")
            if self.handler is not None:
                victim.signal(signal.SIGUSR1)
        if not self.signalled and self.signals_now():
            self.give_signal()

    def signals_now(self) -> bool:
        """At this sleep of the victim's."""
        if self.handler is not None:
            return type(self).handler is _returns and self.slept >= 2
        return self.timeout is None

    def give_signal(self) -> None:
        self.order("other", "signal")
        self.signalled, self.signalled_at = True, time.monotonic_ns()

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        super().frozen(victim, seen)
        self.settle()
        self.was_consumed = self.signalled and self.consumed()
        if self.at_death and self.slept and not self.signalled and self.can_signal():
            self.give_signal()  # nobody can have consumed it: the victim does not move any more
            self.settle()

    def judge(self, victim: Victim) -> None:
        since = self.killed_at
        survivor = self.by["survivor"]
        if self.signalled and self.was_consumed and self.stays("survivor", "waits for a second signal", BELT):
            self.signalled = False
        if not self.signalled:
            self.waits("survivor", "wait")
            self.give_signal()
            since = self.signalled_at
        elif not survivor.waiting:
            survivor.tell("wait")
        self.proceeds("survivor", "waits behind the victim", since)
        self.ends()

    def ends(self) -> None:
        """What else must be right when all is over."""

    @classmethod
    def situations(cls) -> tuple[type[WaitScenario], ...]:
        """The ways in which a wait ends."""

        def case(situation: str, **how: Any) -> type[WaitScenario]:
            name = cls.__name__ + situation.title().replace(" ", "").replace(",", "")
            return type(name, (cls,), {"situation": situation, "__doc__": cls.__doc__, **how})

        return (
            cls,
            case("timing out", timeout=TIMEOUT),
            case("timing out, signalled at death", timeout=TIMEOUT, at_death=True),
            case("interrupted", handler=raises),
            case("interrupted, signalled at death", handler=raises, at_death=True),
            case("interrupted, and goes on", handler=_returns),
        )


class SignalScenario(ObjectScenario):
    """The victim signals, and others wait for that."""

    situation = "with waiters"
    waiting: ClassVar[tuple[str, ...]] = ("survivor",)
    """The agents that wait."""

    def wait(self) -> Any:
        """Order: waits, and says what came of it."""
        raise NotImplementedError

    def signal(self) -> Any:
        """Order: lets all go on."""
        raise NotImplementedError

    def reached(self) -> int:
        """How many of those who wait must go on, as the victim stands there.  Called when all have settled."""
        raise NotImplementedError

    def placed(self, victim: Victim) -> None:
        for name in self.waiting:
            self.waits(name, "wait")

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        super().frozen(victim, seen)
        self.settle()
        self.seen_reached = self.reached()

    def judge(self, victim: Victim) -> None:
        for name in self.waiting[: self.seen_reached]:
            self.proceeds(name, "was reached by the victim's signal", self.killed_at)
        rest = self.waiting[self.seen_reached :]
        if rest and self.seen_reached and not self.stays(rest[0], "not reached by the victim's signal", BELT):
            return
        since = time.monotonic_ns()
        if rest:
            self.order("other", "signal")
        for name in rest:
            self.proceeds(name, "waits for another's signal", since)
        self.ends()

    def ends(self) -> None:
        """What else must be right when all is over."""


def dies(action: Callable[[], object]) -> int:
    """Does that in a forked child that is killed then; the pid it had."""
    from .._step import die_with

    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            die_with(parent)
            action()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    return pid


assert BELT < HANG
