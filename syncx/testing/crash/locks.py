"""Whatever is held by one at a time, in every situation: the subject says how it is taken, the situations say the rest.

After each death a survivor must get the lock, within `BOUND`, alone, and be told of the owner's death exactly when the
words named the dead as the holder.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

from ..stepping import Victim
from .scenario import Scenario
from .world import Page, until

if TYPE_CHECKING:
    from ...snapshots import Snapshot

__all__ = ["LockScenario", "Subject", "scenarios_of"]

_TIMEOUT = 0.02
"""Of a victim that is to time out, in seconds."""
_STOPPED = 0.15
"""How long others try to get what a stopped process holds, in seconds: longer than the belt."""


class Subject:
    """A lock that one holds at a time.  One in each process that deals with it."""

    name: ClassVar[str] = ""
    tells: ClassVar[bool] = True
    """Whether the next holder is told that the last one died."""
    timed: ClassVar[bool] = True
    """Whether it can be waited for with a time limit."""
    operations: ClassVar[tuple[str, ...]] = ("acquire", "release")

    acquire: Callable[[], object]
    """Takes it, however long that takes: the method itself, so that no frame of Python's is stepped through."""
    release: Callable[[], object]
    """Gives it back."""

    def __init__(self, arena: str, which: str) -> None:
        """Opens it; which: its name, as there are two of each: the one that it is about, and one to warm up with."""
        raise NotImplementedError

    def acquire_timed(self, seconds: float) -> bool:
        """Takes it within so many seconds, or returns False."""
        raise NotImplementedError

    def told(self) -> bool:
        """Whether its holder, this process, was told of an owner's death."""
        return False

    @classmethod
    def held_in(cls, seen: Snapshot, pid: int) -> bool:
        """Whether an outsider sees that process hold it."""
        return any(h.pid == pid and h.object is not None for h in seen.holds)

    def whole(self) -> str | None:
        """What is wrong with it when nobody holds it and nobody waits; None: nothing."""
        return None


class _Interrupted(Exception):
    """What the victim's signal handler raises."""


class LockScenario(Scenario):
    """A subject's operation in a situation."""

    subject: ClassVar[type[Subject]]
    pairs: ClassVar[bool] = True
    """Whether somebody may come and recover, instead of the survivor (mode "pairs")."""
    lock: Subject

    def open(self) -> None:
        self.lock = self.subject(self.arena_path, "subject")

    def before(self) -> None:
        self.warm_up()

    def warm_up(self) -> None:
        warm = self.subject(self.arena_path, "other")
        warm.acquire()  # registered
        warm.release()

    # ---- orders to agents -----------------------------------------------------------------------------------------
    def hold(self) -> None:
        self.lock.acquire()

    def let_go(self) -> None:
        self.lock.release()

    def pass_through(self) -> tuple[bool, int]:
        """Takes it, looks who else is inside, gives it back."""
        self.lock.acquire()
        met = self.page[Page.CANARY]
        self.page[Page.CANARY] = os.getpid()
        told = self.lock.told()
        if self.page[Page.CANARY] != os.getpid():
            met = self.page[Page.CANARY]
        self.page[Page.CANARY] = 0
        self.lock.release()
        return told, met

    def try_it(self, seconds: float) -> bool:
        """Whether it can be had within that time."""
        got = self.lock.acquire_timed(seconds)
        if got:
            self.lock.release()
        return got

    def check(self) -> str | None:
        return self.lock.whole()

    # ---- judging ----------------------------------------------------------------------------------------------------
    victim_holds = False
    """Whether the words named the victim as the holder when it died."""
    corpse_untold = False
    """Somebody died holding it before the victim came, and nobody has been told yet."""

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        self.look(victim, seen)

    def look(self, victim: Victim, seen: Snapshot | None) -> None:
        """What the words say of the victim."""
        assert seen is not None
        self.victim_holds = self.subject.held_in(seen, victim.pid)

    def holder_goes(self) -> None:
        """Whoever holds it beside the victim gives it back."""

    def asleep_alone(self, victim: Victim) -> None:
        """As `asleep`, but nobody comes to wait behind the victim."""

    def survive(self, since: int) -> None:
        """The survivor, who waits or is told to come now, gets it, alone, and is told what it should be."""
        survivor = self.by["survivor"]
        if not survivor.waiting:
            since = time.monotonic_ns()
            survivor.tell("pass_through")
        answer = self.answer("survivor", "waits for the lock", since)
        if answer is None:
            return
        told, met = answer.value
        if met:
            self.wrong("two holders", f"the survivor meets process {met} inside")
        if self.subject.tells and told != self.must_be_told():
            self.wrong("told", f"the survivor was{'' if told else ' not'} told of a death")

    def must_be_told(self) -> bool:
        return self.victim_holds or self.corpse_untold

    def judge(self, victim: Victim) -> None:
        self.survive(self.killed_at)
        self.check_whole()

    def check_whole(self) -> None:
        answer = self.order("survivor", "check")
        if answer is not None and answer.value is not None:
            self.wrong("damage", answer.value)

    def judge_stopped(self, victim: Victim) -> None:
        if not self.victim_holds:
            return
        survivor = self.by["survivor"]
        if not survivor.waiting and self.subject.timed:
            survivor.tell("try_it", _STOPPED)
            answer = self.answer("survivor", "tries a lock whose holder is stopped")
            taken = answer is not None and answer.value
        else:
            taken = survivor.waiting and survivor.has_answered(_STOPPED)
        if taken:
            self.wrong("two holders", "a stopped holder was taken for dead")


class _Free(LockScenario):
    situation = "free"

    def operation(self) -> Callable[[], object]:
        return self.lock.acquire

    def explains_rescues(self) -> bool:
        return False


class _Contended(LockScenario):
    """Somebody holds it; the victim sleeps, the survivor behind it; then the holder lets go."""

    situation = "contended"
    agents = ("survivor", "holder")

    def operation(self) -> Callable[[], object]:
        return self.lock.acquire

    def stage(self) -> None:
        self.by["holder"].ask("hold")
        self.holds = True

    def asleep(self, victim: Victim) -> None:
        if self.slept == 1:
            self.by["survivor"].tell("pass_through")
            self.by["survivor"].until_asleep()
        self.asleep_alone(victim)

    def asleep_alone(self, victim: Victim) -> None:
        if self.holds and self.lets_go(victim):
            self.let_holder_go()

    def holder_goes(self) -> None:
        if self.holds:
            self.let_holder_go()

    def lets_go(self, victim: Victim) -> bool:
        return True

    def let_holder_go(self) -> None:
        self.order("holder", "let_go")
        self.holds = False

    def judge(self, victim: Victim) -> None:
        since = self.killed_at
        if self.holds:
            if not self.by["survivor"].waiting:
                self.by["survivor"].tell("pass_through")
                self.by["survivor"].until_asleep()
            since = time.monotonic_ns()
            self.let_holder_go()
        self.survive(since)
        self.check_whole()


class _Asleep(_Contended):
    """As before, but the holder lets go only when the victim is dead, or has given up."""

    def lets_go(self, victim: Victim) -> bool:
        return False


class _Timeout(_Asleep):
    situation = "timing out"

    def operation(self) -> Callable[[], object]:
        lock = self.lock
        return lambda: lock.acquire_timed(_TIMEOUT)


class _Interrupt(_Asleep):
    """A signal arrives while the victim sleeps, and its handler raises."""

    situation = "interrupted"

    def before(self) -> None:
        super().before()

        def handler(number: int, frame: object) -> None:
            raise _Interrupted

        signal.signal(signal.SIGUSR1, handler)

    def operation(self) -> Callable[[], object]:
        return self.lock.acquire

    def asleep_alone(self, victim: Victim) -> None:
        if self.slept == 1:
            victim.signal(signal.SIGUSR1)


class _Recover(LockScenario):
    """Its last owner died holding it."""

    situation = "recovering"

    def operation(self) -> Callable[[], object]:
        return self.lock.acquire

    def stage(self) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                self.open()
                self.lock.acquire()
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        self.corpse = pid

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        super().frozen(victim, seen)
        assert seen is not None
        self.corpse_untold = not self.victim_holds


class _Release(LockScenario):
    situation = "free"

    def before(self) -> None:
        super().before()
        self.lock.acquire()
        self.page[Page.CANARY] = os.getpid()

    def operation(self) -> Callable[[], object]:
        return self.lock.release

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        super().frozen(victim, seen)
        self.page[Page.CANARY] = 0

    def explains_rescues(self) -> bool:
        return self.victim_holds


class _ReleaseWaited(_Release):
    """The survivor sleeps for what the victim gives back."""

    situation = "with a waiter"
    pairs = False

    def placed(self, victim: Victim) -> None:
        self.page[Page.CANARY] = 0
        self.by["survivor"].tell("pass_through")
        self.by["survivor"].until_asleep()


class _Relay(_ReleaseWaited):
    """The victim had to wait for it itself, with the survivor behind it."""

    situation = "after a wait, with a waiter"
    agents = ("survivor", "holder")

    def stage(self) -> None:
        self.by["holder"].ask("hold")
        self.by["holder"].tell("let_go_behind", 2)
        self.by["survivor"].tell("pass_behind", 1)

    def placed(self, victim: Victim) -> None:
        self.page[Page.CANARY] = 0
        self.answer("holder", "lets go when two wait")
        self.by["survivor"].until_asleep()

    def let_go_behind(self, waiters: int) -> None:
        self.until_waiting(waiters)
        self.lock.release()

    def pass_behind(self, waiters: int) -> tuple[bool, int]:
        self.until_waiting(waiters)
        return self.pass_through()

    def until_waiting(self, waiters: int) -> None:
        from ...snapshots import snapshot

        until(lambda: len(snapshot(self.arena_path).waits) >= waiters, f"{waiters} waiters")


SITUATIONS: dict[str, tuple[type[LockScenario], ...]] = {
    "acquire": (_Free, _Contended, _Timeout, _Interrupt, _Recover),
    "release": (_Release, _ReleaseWaited, _Relay),
}


def scenarios_of(subject: type[Subject]) -> Iterator[type[LockScenario]]:
    """All scenarios of a subject."""
    for operation in subject.operations:
        for base in SITUATIONS[operation]:
            if base is _Timeout and not subject.timed:
                continue
            yield type(
                f"{base.__name__.strip('_')}{subject.__name__}",
                (base,),
                {"subject": subject, "primitive": subject.name, "operation_name": operation, "__doc__": base.__doc__},
            )
