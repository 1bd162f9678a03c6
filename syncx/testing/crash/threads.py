"""The end of a thread that holds something, has just given it back, or waits for it; its process lives on.

A thread that ends by itself leaves its arenas on its way out: it is stepped through that, and the process is killed at
each point; at the last one only the thread is gone.  One that ends amid an operation has no such way: it is ended
there, by exit(2), and the kernel's mark is all that tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..._core import _nothing
from ..stepping import Victim
from . import barriers, conditions, events, onces, semaphores
from .files import FileSubject, Ofd, Posix, Range, with_files
from .locks import LockScenario, Subject
from .scenario import Scenario
from .situations import Contended, ReleaseWaited
from .subjects import (
    BinarySubject,
    ConditionLock,
    MutexSubject,
    Reading,
    RLockTwice,
    ThreeOfThree,
    Upgradable,
    Writing,
)
from .world import HANG, Answer

if TYPE_CHECKING:
    from ...snapshots import Snapshot

__all__ = ["SCENARIOS"]

_OF_PROCESS = (BinarySubject, ThreeOfThree)
"""What stays with the process when the thread ends that took it."""
_LONGER_THAN_BELT = 0.15


class _Holds(ReleaseWaited):
    """The survivor waits for what a thread holds that ends: it dies as an owner, though its process lives."""

    operation_name = "end of its thread"
    situation = "it holds it"
    in_thread = to_the_end = True
    stoppable = False
    told_already = False

    def operation(self) -> Callable[[], object]:
        return _nothing

    def stage(self) -> None:
        self.told_already = False
        super().stage()

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        super().frozen(victim, seen)
        self.victim_dirty = self.subject.tells  # however far it is on its way out

    def must_be_told(self) -> bool:
        return super().must_be_told() and not self.told_already

    def went_before(self, answer: Answer) -> None:
        """It had it as the thread left, and before the process was killed."""
        told, met, _ = answer.value
        if met:
            self.wrong("two holders", f"the survivor meets process {met} inside")
        if told != self.must_be_told():
            self.wrong("told", f"the survivor was{'' if told else ' not'} told of the end of the thread that had it")
        self.told_already = True
        if self.subject in _OF_PROCESS:
            self.wrong("two holders", "the survivor got what the process holds still")

    def ended(self, victim: Victim) -> None:
        """The thread is gone, its process lives."""
        survivor = self.by["survivor"]
        if self.subject in _OF_PROCESS:
            if survivor.has_answered(_LONGER_THAN_BELT):
                self.wrong("two holders", "the survivor got what the process holds still")
            return
        if survivor.waiting and not survivor.has_answered(HANG):
            self.wrong("hang", f"the survivor waits on, {HANG:g} s after the thread that had it has ended")

    def explains_rescues(self) -> bool:
        return True


class _Released(ReleaseWaited):
    """It gives it back, and ends."""

    operation_name = "end of its thread"
    situation = "it has released it"
    in_thread = to_the_end = True
    stoppable = False

    def operation(self) -> Callable[[], object]:
        return self.lock.release

    def explains_rescues(self) -> bool:
        return True


class _Waits(Contended):
    """It is ended asleep, with the survivor behind it; then the holder lets go."""

    operation_name = "end of its thread"
    situation = "it waits for it"
    in_thread = True
    stoppable = False

    def asleep_alone(self, victim: Victim) -> None:
        victim.end_thread()

    def ended(self, victim: Victim) -> None:
        since = time.monotonic_ns()
        self.holder_goes()
        self.survive(since)


def _of(subject: type[Subject], *bases: type[LockScenario]) -> Iterator[type[LockScenario]]:
    for base in bases:
        how: dict[str, Any] = {"subject": subject, "primitive": subject.name, "pairs": False, "__doc__": base.__doc__}
        scenario = type(f"{base.__name__.strip('_')}{subject.__name__}", (base,), how)
        yield with_files(scenario, subject) if issubclass(subject, FileSubject) else scenario


def _alone(base: type[Scenario], **how: Any) -> type[Scenario]:
    """A scenario in which the victim's thread is ended, at each point, and its process lives on."""
    how |= {"in_thread": True, "ends_alone": True, "stoppable": False, "pairs": False, "__doc__": base.__doc__}
    how.setdefault("primitive", base.primitive)
    how.setdefault("operation_name", base.operation_name)
    return type(f"{base.__name__}Alone", (base,), {"situation": f"{base.situation}, its thread is ended", **how})


_OF_THREADS = (MutexSubject, RLockTwice, ConditionLock, Writing, Reading, Upgradable)
"""What a thread owns."""
_OBJECTS = (
    conditions._Wait,
    conditions._Notify,
    semaphores._Acquire,
    semaphores._Release,
    events._Wait,
    events._Set,
    barriers._First,
    barriers._Last,
    onces._Free,
    onces._Awaited,
)

SCENARIOS: tuple[Any, ...] = (
    *(
        scenario
        for subject in (*_OF_THREADS, *_OF_PROCESS, Ofd, Range, Posix)
        for scenario in _of(subject, _Holds, _Released, _Waits)
    ),
    *(
        _alone(base, subject=subject, primitive=subject.name, operation_name=operation)
        for subject in _OF_THREADS
        for operation, base in (("acquire", Contended), ("release", ReleaseWaited))
    ),
    *map(_alone, _OBJECTS),
)
