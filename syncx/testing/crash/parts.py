"""More and less of a file's range under one hold: lock_range, unlock_range, upgrade and downgrade.

What an operation has come to is asked of the kernel, which knows nothing of who waits: so a range that is refused is
one that somebody has.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from ...filelock import FileLock, RangeLock
from ..stepping import Victim
from .files import file_of, remove_files
from .objects import STOPPED, TIMEOUT, Interrupted, ObjectScenario, raises
from .world import Page

__all__ = ["SCENARIOS"]

_GETLK = 36
"""F_OFD_GETLK, which has no name in `fcntl` before Python 3.12."""
_RETURNED, _FAILED, _DONE = Page.FREE, 1, 2
"""A mark, and what it says when the victim's operation has returned: that it was not to be had in time, or is done."""


def kernel_allows(path: str, start: int, length: int, shared: bool = False) -> bool:
    """Whether the kernel would give a newcomer that lock now, whoever waits: F_OFD_GETLK of fcntl(2)."""
    with open(path, "rb") as f:
        kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
        asked = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
        answer = fcntl.fcntl(f.fileno(), _GETLK, asked)
        return bool(struct.unpack_from("h", answer)[0] == fcntl.F_UNLCK)


class _Parts(ObjectScenario):
    """It holds bytes 0 to 99, and changes that; the survivor wants all of the file, and gets it."""

    primitive = "RangeLock"
    situation = "with a waiter"
    stoppable = True
    thing: RangeLock
    kept: ClassVar[tuple[int, int]] = (0, 40)
    """Start and length of what it holds alone before and after."""
    changed: ClassVar[tuple[int, int]] = (200, 50)
    """Of what it does not hold before, or not after, or not alone."""

    def make(self, name: str) -> RangeLock:
        return RangeLock(file_of(self.arena_path, name), 0, 100, arena=self.arena)

    def renew(self, first: bool) -> None:
        self.thing.close()
        self.thing = self.make("subject")

    def warm(self, other: RangeLock) -> None:
        with other:
            other.lock_range(150, 20)
            other.lock_range(30, 20, shared=True)
            other.unlock_range(10, 10)

    def before(self) -> None:
        super().before()
        self.thing.acquire()

    def action(self) -> Callable[[], object]:
        """What the operation is; it returns False when it was not to be had in time."""
        raise NotImplementedError

    def operation(self) -> Callable[[], object]:
        action, page = self.action(), self.page

        def does() -> None:
            page[_RETURNED] = _FAILED if action() is False else _DONE

        return does

    def finish(self) -> None:
        super().finish()
        remove_files(self.arena_path)

    # ---- orders -------------------------------------------------------------------------------------------------
    def wait(self) -> bool:
        with FileLock(file_of(self.arena_path, "subject"), arena=self.arena):
            return True

    def free(self, start: int, length: int) -> bool:
        """Whether others may have that now."""
        lock = RangeLock(file_of(self.arena_path, "subject"), start, length, arena=self.arena)
        if not lock.acquire(blocking=False):
            return False
        lock.release()
        return True

    # ---- the driver -----------------------------------------------------------------------------------------------
    def placed(self, victim: Victim) -> None:
        self.waits("survivor", "wait")

    def frozen(self, victim: Victim, seen: Any) -> None:
        super().frozen(victim, seen)
        kept = self.order("other", "free", *self.kept)
        if kept is not None and kept.value:
            self.wrong("two holders", f"others can have bytes {self.kept} that the victim holds on")
        if not victim.gone:
            self.look_at_result()

    def look_at_result(self) -> None:
        """What the operation has come to, if it has returned: the kernel says what others may have."""
        if self.page[_RETURNED] == _DONE:
            self.done()
        elif self.page[_RETURNED] == _FAILED:
            self.not_done()

    def done(self) -> None:
        """It has done what it should."""
        raise NotImplementedError

    def not_done(self) -> None:
        """It has returned False."""
        self.wrong("wrong answer", f"{self.operation_name} gave up, and has no time limit")

    def refused(self, start: int, length: int, shared: bool = False) -> None:
        """Others may not have that."""
        if kernel_allows(file_of(self.arena_path, "subject"), start, length, shared):
            what = "share" if shared else "have"
            self.wrong("two holders", f"{self.operation_name} has returned, and others may {what} {start, length}")

    def admitted(self, start: int, length: int, shared: bool = False) -> None:
        """Others may have it, while the victim lives."""
        if not kernel_allows(file_of(self.arena_path, "subject"), start, length, shared):
            what = "share" if shared else "have"
            self.wrong("damage", f"{self.operation_name} has returned, and others may not {what} {start, length}")

    def judge_stopped(self, victim: Victim) -> None:
        """The survivor waits for what the victim has, and does not get it, however long that one stands still."""
        if not victim.gone and self.by["survivor"].has_answered(STOPPED):
            self.wrong("two holders", "the survivor got the whole file, of which a stopped process holds a part")

    def judge(self, victim: Victim) -> None:
        self.proceeds("survivor", "waits for the whole file", self.killed_at)


class _Interrupted(_Parts):
    """Before the scenario of one that does not get it: what it waits for stays with another, and a signal comes."""

    situation = "interrupted"

    def before(self) -> None:
        super().before()
        signal.signal(signal.SIGUSR1, raises)

    def waiting(self) -> Callable[[], object]:
        """What it waits in, without a time limit."""
        raise NotImplementedError

    def action(self) -> Callable[[], object]:
        waiting = self.waiting()

        def waits() -> bool:
            try:
                waiting()
            except Interrupted:
                return False
            return True

        return waits

    def asleep(self, victim: Victim) -> None:
        if self.slept == 1:
            victim.signal(signal.SIGUSR1)


class _Awaited(_Parts):
    """The survivor waits for just what the victim gives back, and has it before that one dies."""

    def ended(self, victim: Victim) -> None:
        if not victim.gone:
            self.proceeds("survivor", "waits for what was given back", time.monotonic_ns())

    def judge_stopped(self, victim: Victim) -> None:
        """The rest stays the victim's; what it has given back, if it has, the survivor may have meanwhile."""
        survivor = self.by["survivor"]
        if victim.gone or not survivor.waiting:
            return
        if self.page[_RETURNED]:
            self.ended(victim)
        else:
            survivor.has_answered(STOPPED)
        kept = self.order("other", "free", *self.kept)
        if kept is not None and kept.value:
            self.wrong("two holders", f"others can have bytes {self.kept}, which a stopped process holds")

    def judge(self, victim: Victim) -> None:
        since = self.killed_at
        if not self.by["survivor"].waiting:
            since = self.tells("survivor", "wait")
        self.proceeds("survivor", "waits for what the victim gave back", since)


class _LockRange(_Parts):
    operation_name = "lock_range"

    def action(self) -> Callable[[], object]:
        return partial(self.thing.lock_range, *self.changed)

    def done(self) -> None:
        self.refused(*self.changed, shared=True)


class _LockContended(_LockRange):
    """Another has the part, and gives it back when the victim sleeps."""

    situation = "contended"
    part: RangeLock
    taken = False

    def take_part(self) -> None:
        self.part = RangeLock(file_of(self.arena_path, "subject"), *self.changed, arena=self.arena)
        self.part.acquire()

    def give_part(self) -> None:
        self.part.release()
        self.part.close()

    def stage(self) -> None:
        super().stage()
        self.order("other", "take_part")
        self.taken = True

    def asleep(self, victim: Victim) -> None:
        self.part_goes()

    def part_goes(self) -> None:
        if self.taken:
            self.order("other", "give_part")
            self.taken = False

    def done(self) -> None:
        if self.taken:
            self.wrong("two holders", f"lock_range took bytes {self.changed} that another has")
        else:
            super().done()

    def judge(self, victim: Victim) -> None:
        if self.taken:
            self.part_goes()
            self.killed_at = time.monotonic_ns()
        super().judge(victim)


class _LockTimeout(_LockContended):
    """Another has the part, and keeps it: the victim has what it had before."""

    situation = "timing out"

    def action(self) -> Callable[[], object]:
        return partial(self.thing.lock_range, *self.changed, timeout=TIMEOUT)

    def asleep(self, victim: Victim) -> None:
        """The other one stays."""

    def not_done(self) -> None:
        self.part_goes()
        self.admitted(*self.changed)


class _LockInterrupted(_Interrupted, _LockTimeout):
    """A signal handler raises in its wait: the victim has what it had before."""

    def waiting(self) -> Callable[[], object]:
        return partial(self.thing.lock_range, *self.changed)


class _UnlockRange(_Parts):
    operation_name = "unlock_range"
    changed = (50, 20)

    def action(self) -> Callable[[], object]:
        return partial(self.thing.unlock_range, *self.changed)

    def done(self) -> None:
        self.admitted(*self.changed)


class _UnlockAwaited(_Awaited, _UnlockRange):
    situation = "the part is awaited"

    def wait(self) -> bool:
        with RangeLock(file_of(self.arena_path, "subject"), *self.changed, arena=self.arena):
            return True

    def done(self) -> None:
        """`ended` says it: the survivor, who may have the part now, goes on."""


class _Downgrade(_Parts):
    operation_name = "downgrade"
    kept = (400, 1)

    def before(self) -> None:
        super().before()
        self.thing.lock_range(*self.kept)

    def action(self) -> Callable[[], object]:
        return self.thing.downgrade

    def frozen(self, victim: Victim, seen: Any) -> None:
        ObjectScenario.frozen(self, victim, seen)
        kept = self.order("other", "free", 0, 100)
        if kept is not None and kept.value:
            self.wrong("two holders", "others can have what the victim shares")
        if not victim.gone:
            self.look_at_result()

    def done(self) -> None:
        self.admitted(0, 100, shared=True)
        self.refused(0, 100)


class _DowngradeAwaited(_Awaited, _Downgrade):
    """The survivor waits to share it, and does as soon as the victim has downgraded."""

    situation = "a reader waits"

    def wait(self) -> bool:
        with RangeLock(file_of(self.arena_path, "subject"), 0, 100, shared=True, arena=self.arena):
            return True


class _Upgrade(_Parts):
    """The victim shares the range with `other`, and wants it alone."""

    operation_name = "upgrade"
    situation = "another reads"
    kept = (0, 100)
    reads = False

    def before(self) -> None:
        ObjectScenario.before(self)
        self.thing = RangeLock(file_of(self.arena_path, "subject"), 0, 100, shared=True, arena=self.arena)
        self.thing.acquire()

    def action(self) -> Callable[[], object]:
        return self.thing.upgrade

    def read(self) -> None:
        self.reader = RangeLock(file_of(self.arena_path, "subject"), 0, 100, shared=True, arena=self.arena)
        self.reader.acquire()

    def read_no_more(self) -> None:
        self.reader.close() if not self.reader.held else self.reader.release()

    def stage(self) -> None:
        super().stage()
        self.order("other", "read")
        self.reads = True

    def asleep(self, victim: Victim) -> None:
        self.reader_goes()

    def reader_goes(self) -> None:
        if self.reads:
            self.order("other", "read_no_more")
            self.reads = False

    def frozen(self, victim: Victim, seen: Any) -> None:
        ObjectScenario.frozen(self, victim, seen)
        self.settle("survivor")
        if self.by["survivor"].has_answered():
            self.wrong("two holders", "the survivor got what the victim shares or has")
        if not victim.gone:
            self.look_at_result()

    def done(self) -> None:
        if self.reads:
            self.wrong("two holders", "upgrade has returned, and another reads on")
        else:
            self.refused(*self.kept, shared=True)

    def judge(self, victim: Victim) -> None:
        if self.reads:
            self.reader_goes()
            self.killed_at = time.monotonic_ns()
        super().judge(victim)


class _UpgradeTimeout(_Upgrade):
    """The other one reads on: the victim shares it still."""

    situation = "timing out"

    def action(self) -> Callable[[], object]:
        return partial(self.thing.upgrade, timeout=TIMEOUT)

    def asleep(self, victim: Victim) -> None:
        """The other one stays."""

    def not_done(self) -> None:
        self.reader_goes()
        self.admitted(*self.kept, shared=True)
        self.refused(*self.kept)


class _UpgradeInterrupted(_Interrupted, _UpgradeTimeout):
    """A signal handler raises in its wait: the victim shares it still."""

    def waiting(self) -> Callable[[], object]:
        return self.thing.upgrade


SCENARIOS: tuple[Any, ...] = (
    _LockRange,
    _LockContended,
    _LockTimeout,
    _LockInterrupted,
    _UnlockRange,
    _UnlockAwaited,
    _Downgrade,
    _DowngradeAwaited,
    _Upgrade,
    _UpgradeTimeout,
    _UpgradeInterrupted,
)
