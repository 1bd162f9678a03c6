"""Whatever keeps others out: a subject says how it is taken; a scenario of it judges what a death leaves.

After each death a survivor must get the lock, within `BOUND`, alone, and be told of the owner's death exactly when the
words named the dead as the holder.  The situations are those of `situations`.
"""

from __future__ import annotations

import functools
import mmap
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from ..stepping import Victim
from .objects import STOPPED
from .scenario import Scenario
from .world import Answer, Page

if TYPE_CHECKING:
    from ...snapshots import Snapshot

__all__ = ["LockScenario", "Subject"]


class Subject:
    """A lock.  One in each process that deals with it.

    `acquire` and `release` are the victim's; the others `take` and `give` it in a way that keeps everybody out.
    """

    name: ClassVar[str] = ""
    tells: ClassVar[bool] = True
    """Whether the next one who takes it is told that one died who had acquired it."""
    timed: ClassVar[bool] = True
    """Whether it can be waited for with a time limit."""
    damage: ClassVar[str] = "damage"
    """The kind of finding when it is not whole."""
    seen: ClassVar[bool] = True
    """Whether a snapshot of the arena has it: not, when it lies in memory of the user's."""
    operations: ClassVar[tuple[str, ...]] = ("acquire", "release")
    drains: ClassVar[bool] = False
    """Whether the victim's acquire waits for those who `share` it, who keep no other such from coming."""
    after_writer: ClassVar[bool] = False
    """Whether it only reads what the others write: a writer's death is then told to the next writer, whatever becomes
    of readers in between."""
    brief: ClassVar[bool] = False
    """Whether another subject is put through the situations in which this one does nothing else."""

    acquire: Callable[[], object]
    """Takes it, however long that takes: the method itself, so that no frame of Python's is stepped through."""
    release: Callable[[], object]
    """Gives it back."""

    def __init__(self, arena: str, which: str, memory: memoryview) -> None:
        """Opens it.

        which: its name, as there are two of each: the one that it is about, and one to warm up with.  memory: some
        bytes that all processes of the scenario share, zero at first.
        """
        raise NotImplementedError

    def take(self) -> object:
        """Takes it so that nobody else has any of it."""
        return self.acquire()

    def give(self) -> object:
        """The reverse."""
        return self.release()

    def acquire_timed(self, seconds: float) -> bool:
        """As `acquire` within so many seconds, or returns False."""
        raise NotImplementedError

    def tries(self) -> Callable[[], object]:
        """Takes it if that needs no waiting."""
        return functools.partial(self.acquire_timed, 0.0)

    def take_timed(self, seconds: float) -> bool:
        """As `take` within so many seconds, or returns False."""
        return self.acquire_timed(seconds)

    def share(self) -> object:
        """Has so much of it that the victim's upgrade must wait."""
        raise NotImplementedError

    def unshare(self) -> object:
        """The reverse."""
        raise NotImplementedError

    def come(self) -> Callable[[], object]:
        """How somebody gets it who finds that its owner has died."""
        return self.acquire

    def context(self, seconds: float | None = None) -> Any:
        """What is given to `with`: itself, or what waits for so many seconds."""
        raise NotImplementedError

    def block(self, inside: Callable[[], object], seconds: float | None = None) -> Callable[[], object]:
        """A `with` of it, and that inside."""
        context = self.context(seconds)

        def block() -> None:
            with context:
                inside()

        return block

    def asks(self) -> Callable[[], object]:
        """Who has it, and how it is, in words."""
        raise NotImplementedError

    def told(self) -> bool:
        """Whether this process, which has taken it, was told of an owner's death."""
        return False

    def holder(self) -> int:
        """The pid of its holder, 0: it has none.  Asked for where a snapshot does not tell."""
        raise NotImplementedError

    def alone(self) -> int:
        """The pid of the holder beside whom nobody else may have any of it."""
        return self.holder()

    @classmethod
    def held_in(cls, seen: Snapshot, pid: int) -> bool:
        """Whether an outsider sees that process hold it, so that nobody may take it."""
        unfinished = {"tentative", "leaving", "entering", "pending"}
        return any(h.pid == pid and h.object is not None and not unfinished & set(h.flags) for h in seen.holds)

    @classmethod
    def alone_in(cls, seen: Snapshot, pid: int) -> bool:
        """Whether an outsider sees that process have it so that nobody else may have any of it."""
        return cls.held_in(seen, pid)

    @classmethod
    def dirty_in(cls, seen: Snapshot, pid: int) -> bool:
        """Whether its death is to be told: it may have left the data torn."""
        return cls.tells and cls.held_in(seen, pid)

    def whole(self) -> str | None:
        """What is wrong with it when nobody holds it and nobody waits; None: nothing."""
        return None


class LockScenario(Scenario):
    """A subject's operation in a situation."""

    subject: ClassVar[type[Subject]]
    pairs: ClassVar[bool] = True
    """Whether somebody may come and recover, instead of the survivor (mode "pairs")."""
    lock: Subject

    def __init__(self, arena: str) -> None:
        super().__init__(arena)
        self._memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
        self.memory = memoryview(self._memory)

    def cast(self) -> tuple[str, ...]:
        return self.agents if self.subject.seen else (*self.agents, "looker")

    def open(self) -> None:
        self.lock = self.subject(self.arena_path, "subject", self.memory[: mmap.PAGESIZE])

    def watched(self) -> list[Any]:
        return [] if self.subject.seen else [self.memory[: mmap.PAGESIZE]]

    def before(self) -> None:
        self.warm_up()

    def warm_up(self) -> None:
        warm = self.subject(self.arena_path, "other", self.memory[mmap.PAGESIZE :])
        self.warm(warm)

    def warm(self, other: Subject) -> None:
        """Does with another one what is to be stepped: registers the thread, binds what is bound lazily."""
        other.acquire()
        other.release()

    @classmethod
    def suits(cls, subject: type[Subject]) -> bool:
        """Whether a subject can be in that situation."""
        return not subject.brief

    # ---- orders to agents -----------------------------------------------------------------------------------------
    def hold(self) -> None:
        self.lock.take()

    def let_go(self) -> None:
        self.lock.give()

    def holder_pid(self) -> int:
        return self.lock.holder()

    def alone_pid(self) -> int:
        return self.lock.alone()

    def pass_through(self) -> tuple[bool, int, int]:
        """Takes it, looks who else is inside, gives it back.  The last number says when it was inside."""
        self.lock.take()
        inside = time.monotonic_ns()
        met = self.page[Page.CANARY]
        self.page[Page.CANARY] = os.getpid()
        told = self.lock.told()
        if self.page[Page.CANARY] != os.getpid():
            met = self.page[Page.CANARY]
        self.page[Page.CANARY] = 0
        self.lock.give()
        return told, met, inside

    def try_it(self, seconds: float) -> bool:
        """Whether it can be had within that time."""
        got = self.lock.take_timed(seconds)
        if got:
            self.lock.give()
        return got

    def check(self) -> str | None:
        return self.lock.whole()

    # ---- judging ----------------------------------------------------------------------------------------------------
    victim_holds = False
    """Whether the words named the victim as the holder when it died."""
    stood_at = 0
    """When that was read."""
    victim_alone = False
    """Whether they said besides that nobody else had any of it."""
    victim_dirty = False
    """Whether its death is to be told."""
    corpse_untold = False
    """Somebody died holding it before the victim came, and nobody has been told yet."""

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        self.look(victim, seen)

    def look(self, victim: Victim, seen: Snapshot | None) -> None:
        """What the words say of the victim."""
        self.stood_at = time.monotonic_ns()
        if self.subject.seen:
            assert seen is not None
            self.victim_holds = self.subject.held_in(seen, victim.pid)
            self.victim_alone = self.subject.alone_in(seen, victim.pid)
            self.victim_dirty = self.subject.dirty_in(seen, victim.pid)
        else:
            self.victim_holds = self.by["looker"].ask("holder_pid").value == victim.pid
            self.victim_alone = self.by["looker"].ask("alone_pid").value == victim.pid
            self.victim_dirty = self.victim_holds and self.subject.tells

    def holder_goes(self) -> None:
        """Whoever holds it beside the victim gives it back."""

    def asleep_alone(self, victim: Victim) -> None:
        """As `asleep`, but nobody comes to wait behind the victim."""

    def survive(self, since: int) -> None:
        """The survivor, who waits or is told to come now, gets it, alone, and is told what it should be."""
        survivor = self.by["survivor"]
        answer = None
        if survivor.waiting and survivor.has_answered():
            answer = self.answer("survivor", "waits for the lock")
            if answer is not None and answer.value[2] < self.killed_at:  # it went before the victim
                self.went_before(answer)
                answer = None
        if answer is None:
            if not survivor.waiting:
                since = time.monotonic_ns()
                survivor.tell("pass_through")
            answer = self.answer("survivor", "waits for the lock", since)
        if answer is None:
            return
        told, met, _ = answer.value
        if met:
            self.wrong("two holders", f"the survivor meets process {met} inside")
        if told != self.must_be_told():
            self.wrong("told", f"the survivor was{'' if told else ' not'} told of a death")

    def went_before(self, answer: Answer) -> None:
        """The survivor waited beside the victim, and had it while that one lived."""
        told, met, inside = answer.value
        if met or (self.victim_holds and inside > self.stood_at):
            self.wrong("two holders", "the survivor got it while the victim had it")
        if told:
            self.wrong("told", "the survivor was told of a death before there was one")

    def explains_rescues(self) -> bool:
        return self.may_take_wakes_along()

    def must_be_told(self) -> bool:
        return self.victim_dirty or self.corpse_untold

    def judge(self, victim: Victim) -> None:
        self.survive(self.killed_at)
        self.check_whole()

    def check_whole(self) -> None:
        answer = self.order("survivor", "check")
        if answer is not None and answer.value is not None:
            self.wrong(self.subject.damage, answer.value)

    def judge_stopped(self, victim: Victim) -> None:
        if not self.victim_holds:
            return
        survivor = self.by["survivor"]
        if survivor.waiting:
            if survivor.has_answered(STOPPED):  # before the victim had it, or it was taken from that one
                answer = self.answer("survivor", "waits for the lock")
                if answer is not None:
                    self.went_before(answer)
        elif self.subject.timed:
            survivor.tell("try_it", STOPPED)
            answer = self.answer("survivor", "tries a lock whose holder is stopped")
            if answer is not None and answer.value:
                self.wrong("two holders", "a stopped holder was taken for dead")
