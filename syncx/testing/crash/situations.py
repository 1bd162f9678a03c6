"""The situations in which a lock is taken and given back, upgraded, downgraded and recovered."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

from ..._core import _nothing
from ..stepping import Victim
from .locks import LockScenario, Subject
from .objects import TIMEOUT, dies, raises
from .world import HANG, Page, until

if TYPE_CHECKING:
    from ...snapshots import Snapshot

__all__ = ["SITUATIONS", "Contended", "ReleaseWaited", "scenarios_of"]

_INSIDE = Page.FREE
"""A mark: the victim has been inside."""
_FORGOTTEN = 60
"""Seconds after which a child ends that nobody has ended."""


class _Free(LockScenario):
    situation = "free"

    def operation(self) -> Callable[[], object]:
        return self.lock.acquire


class Contended(LockScenario):
    """Somebody holds it; the victim sleeps, the survivor behind it; then the holder lets go."""

    situation = "contended"
    agents = ("survivor", "holder")
    gives_up: ClassVar[bool] = False
    """Whether its operation ends though the holder stays."""

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

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        super().frozen(victim, seen)
        if self.holds and self.victim_alone:
            self.wrong("two holders", "the victim has it, by the words, while somebody else has some of it")

    def ended(self, victim: Victim) -> None:
        if self.holds and not self.gives_up:
            self.wrong("two holders", "the victim's operation is over, and somebody else had it all the while")

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


class _Asleep(Contended):
    """As before, but the holder lets go only when the victim is dead, or has given up."""

    gives_up = True

    def lets_go(self, victim: Victim) -> bool:
        return False


class _Try(LockScenario):
    """It wants it only if it need not wait."""

    situation = "a try, free"
    pairs = False

    @classmethod
    def suits(cls, subject: type[Subject]) -> bool:
        return super().suits(subject) and subject.timed

    def warm(self, other: Subject) -> None:
        super().warm(other)
        if other.tries()():
            other.release()

    def operation(self) -> Callable[[], object]:
        return self.lock.tries()

    def ended(self, victim: Victim) -> None:
        if not self.victim_holds:
            self.wrong(self.subject.damage, "the victim's try is over: it is free, and was not to be had")


class _TryHeld(_Try, _Asleep):
    """Somebody holds it: the victim goes away without it, and has not slept."""

    situation = "a try, held by another"

    def asleep(self, victim: Victim) -> None:
        self.wrong("hang", "the victim's try sleeps")

    def ended(self, victim: Victim) -> None:
        """`frozen` has looked whether it has it."""


class _Timeout(_Asleep):
    situation = "timing out"

    @classmethod
    def suits(cls, subject: type[Subject]) -> bool:
        return super().suits(subject) and subject.timed

    def operation(self) -> Callable[[], object]:
        lock = self.lock
        return lambda: lock.acquire_timed(TIMEOUT)


class _Interrupt(_Asleep):
    """A signal arrives while the victim sleeps, and its handler raises."""

    situation = "interrupted"

    def before(self) -> None:
        super().before()
        signal.signal(signal.SIGUSR1, raises)

    def asleep_alone(self, victim: Victim) -> None:
        if self.slept == 1:
            victim.signal(signal.SIGUSR1)


class _InterruptReturn(_Interrupt):
    """The handler returns, and the wait goes on."""

    situation = "interrupted, goes on"
    gives_up = False

    def before(self) -> None:
        self.warm_up()
        signal.signal(signal.SIGUSR1, lambda number, frame: None)

    def asleep_alone(self, victim: Victim) -> None:
        super().asleep_alone(victim)
        if self.holds and self.slept == 2:
            self.let_holder_go()


class _Spinning(Contended):
    """The victim spins before it sleeps, as where there are several CPUs."""

    situation = "contended, spinning"
    spins = True

    @classmethod
    def suits(cls, subject: type[Subject]) -> bool:
        return subject.name in SPINNERS


class _Recover(LockScenario):
    """Its last owner died holding it."""

    situation = "recovering"

    def operation(self) -> Callable[[], object]:
        method: Callable[[], object] = getattr(self.lock, self.operation_name)
        return method

    def stage(self) -> None:
        dies(self.hold_and_die)

    def hold_and_die(self) -> None:
        self.open()
        self.lock.acquire()

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        super().frozen(victim, seen)
        self.corpse_untold = self.subject.tells and not self.victim_dirty


class _RecoverFromWriter(_Recover):
    """A writer died inside.  A reader who comes mends that, and leaves it to the next writer to be told."""

    situation = "recovering from a writer"

    @classmethod
    def suits(cls, subject: type[Subject]) -> bool:
        return super().suits(subject) and subject.after_writer

    def hold_and_die(self) -> None:
        self.open()
        self.lock.take()

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        super().frozen(victim, seen)
        self.corpse_untold = True


class _RecoverFromReader(_Recover):
    """A reader died inside, which tears nothing: nobody is told."""

    situation = "recovering from a reader"

    @classmethod
    def suits(cls, subject: type[Subject]) -> bool:
        return super().suits(subject) and subject.drains

    def hold_and_die(self) -> None:
        self.open()
        self.lock.share()

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        super().frozen(victim, seen)
        self.corpse_untold = False


class _Drain(Contended):
    """Somebody reads, and leaves when the victim sleeps, who keeps new readers out by then."""

    situation = "readers inside"

    @classmethod
    def suits(cls, subject: type[Subject]) -> bool:
        return super().suits(subject) and subject.drains

    def hold(self) -> None:
        self.lock.share()

    def let_go(self) -> None:
        self.lock.unshare()


class _DrainTimeout(_Drain, _Timeout):
    """The reader stays: the victim gives up, and gives back what it had got already."""

    situation = "readers inside, timing out"


class _DrainTry(_Drain, _TryHeld):
    """The reader stays: the victim goes away, and has not slept."""

    situation = "a try, readers inside"


class _Release(LockScenario):
    situation = "free"

    def before(self) -> None:
        super().before()
        self.lock.acquire()
        self.page[Page.CANARY] = os.getpid()

    def operation(self) -> Callable[[], object]:
        method: Callable[[], object] = getattr(self.lock, self.operation_name)
        return method

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        super().frozen(victim, seen)
        self.page[Page.CANARY] = 0

    def explains_rescues(self) -> bool:
        return self.victim_holds


class _Fork(_Release):
    """It forks while it holds; the child, which has nothing of it, outlives it until all is judged."""

    situation = "while it holds"
    pairs = False
    leaps = False  # the child would run into the breakpoints

    def before(self) -> None:
        super().before()
        os.setpgid(0, 0)

    def operation(self) -> Callable[[], object]:
        def fork() -> None:
            if os.fork() == 0:
                try:
                    signal.alarm(_FORGOTTEN)
                    signal.pause()
                finally:
                    os._exit(0)

        return fork

    def judge(self, victim: Victim) -> None:
        super().judge(victim)
        with contextlib.suppress(ProcessLookupError):  # it had not forked yet
            os.killpg(victim.pid, signal.SIGKILL)


class ReleaseWaited(_Release):
    """The survivor sleeps for what the victim gives back."""

    situation = "with a waiter"
    pairs = False

    def placed(self, victim: Victim) -> None:
        self.page[Page.CANARY] = 0
        self.has_survivor_wait()

    def has_survivor_wait(self) -> None:
        survivor = self.by["survivor"]
        survivor.tell("pass_through")
        survivor.until_asleep()
        if survivor.has_answered():
            self.wrong("two holders", "the survivor got it while the victim had it")

    def ended(self, victim: Victim) -> None:
        if not self.victim_holds and not self.by["survivor"].has_answered(HANG):
            self.wrong("hang", f"the survivor waits on, {HANG:g} s after the victim gave it back")


class _Relay(ReleaseWaited):
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
        if self.by["survivor"].has_answered():  # it had it before the victim
            self.answer("survivor", "goes before the victim")
            self.has_survivor_wait()

    def let_go_behind(self, waiters: int) -> None:
        self.until_waiting(waiters)
        self.lock.give()

    def pass_behind(self, waiters: int) -> tuple[bool, int, int]:
        self.until_waiting(waiters)
        return self.pass_through()

    def until_waiting(self, waiters: int) -> None:
        from ...snapshots import snapshot

        until(lambda: len(snapshot(self.arena_path).waits) >= waiters, f"{waiters} waiters")


class _With(_Free):
    """`with` itself, from before it to after it."""

    def operation(self) -> Callable[[], object]:
        return self.lock.block(_nothing)


class _WithContended(Contended):
    def operation(self) -> Callable[[], object]:
        return self.lock.block(_nothing)


class _WithInterrupted(_Interrupt):
    def operation(self) -> Callable[[], object]:
        return self.lock.block(_nothing)


class _WithRecovering(_Recover):
    """The victim is told of the death, and gives back what it got: nobody is told again."""

    def operation(self) -> Callable[[], object]:
        page = self.page

        def mark() -> None:
            page[_INSIDE] = 1

        return self.lock.block(mark)

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        super().frozen(victim, seen)
        self.corpse_untold = self.corpse_untold and not self.page[_INSIDE]


class _Ask(Contended):
    """Somebody holds it, and the victim only looks: its death is nobody's loss."""

    situation = "held by another"
    gives_up = True
    pairs = False

    def operation(self) -> Callable[[], object]:
        return self.lock.asks()


class _Upgrade(_Release):
    """The victim has it, with a view to writing, and wants it alone; nobody is there."""

    def explains_rescues(self) -> bool:
        return False


class _UpgradeWaited(ReleaseWaited):
    """The survivor sleeps for it, and sleeps on; it must see the death of the one that it waits for."""

    def explains_rescues(self) -> bool:
        return True


class _UpgradeContended(Contended):
    """Somebody reads, and leaves when the victim sleeps."""

    pairs = False

    def hold(self) -> None:
        self.lock.share()

    def let_go(self) -> None:
        self.lock.unshare()

    def before(self) -> None:
        super().before()
        self.lock.acquire()

    def operation(self) -> Callable[[], object]:
        method: Callable[[], object] = getattr(self.lock, self.operation_name)
        return method


class _UpgradeTimeout(_UpgradeContended):
    """Somebody reads and stays: the victim gives up, and is what it was before."""

    situation = "timing out"
    gives_up = True

    def lets_go(self, victim: Victim) -> bool:
        return False

    def operation(self) -> Callable[[], object]:
        method: Callable[[float], object] = getattr(self.lock, f"{self.operation_name}_timed")
        return functools.partial(method, TIMEOUT)


class _UpgradeInterrupted(_UpgradeTimeout):
    """A signal arrives while it waits for the reader, and its handler raises."""

    situation = "interrupted"

    def before(self) -> None:
        super().before()
        signal.signal(signal.SIGUSR1, raises)

    def operation(self) -> Callable[[], object]:
        return _UpgradeContended.operation(self)

    def asleep_alone(self, victim: Victim) -> None:
        if self.slept == 1:
            victim.signal(signal.SIGUSR1)


class _Within(_Free):
    """`with lock.within(seconds)`."""

    def operation(self) -> Callable[[], object]:
        return self.lock.block(_nothing, HANG)


class _WithinContended(Contended):
    def operation(self) -> Callable[[], object]:
        return self.lock.block(_nothing, 2 * HANG)


class _WithinTimeout(_Timeout):
    def operation(self) -> Callable[[], object]:
        return self.lock.block(_nothing, TIMEOUT)


SITUATIONS: dict[str, tuple[type[LockScenario], ...]] = {
    "acquire": (
        _Free,
        Contended,
        _Spinning,
        _Try,
        _TryHeld,
        _Timeout,
        _Interrupt,
        _InterruptReturn,
        _Recover,
        _RecoverFromWriter,
        _RecoverFromReader,
        _Drain,
        _DrainTimeout,
        _DrainTry,
    ),
    "release": (_Release, ReleaseWaited, _Relay),
    "with": (_With, _WithContended, _WithInterrupted, _WithRecovering),
    "within": (_Within, _WithinContended, _WithinTimeout),
    "upgrade": (_Upgrade, _UpgradeWaited, _UpgradeContended, _UpgradeTimeout, _UpgradeInterrupted),
    "downgrade": (_Release, ReleaseWaited),
    "recover": (_Recover,),
    "repr": (_Ask,),
    "fork": (_Fork,),
}
"""By the operation; the name of a situation is the class's."""
BRIEF = (_Free, Contended, _Recover, _Release, ReleaseWaited)
"""What is left of them for what is only another kind of the same."""
SPINNERS = ("mutex", "rwlock write")
"""Whose waits are swept once more with spinning: the code is one for all."""


def scenarios_of(subject: type[Subject]) -> Iterator[type[LockScenario]]:
    """All scenarios of a subject."""
    for operation in subject.operations:
        for base in SITUATIONS[operation]:
            if not base.suits(subject) and base not in BRIEF:
                continue
            yield type(
                f"{base.__name__.strip('_')}{subject.__name__}",
                (base,),
                {"subject": subject, "primitive": subject.name, "operation_name": operation, "__doc__": base.__doc__},
            )
