"""File locks: the kernel frees what a dead process held, and whoever waits in the arena goes on with it.

As what one holds at a time, in all situations of `locks`; and more and less of a range, and upgrades.
"""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from ...arena import Arena
from ...filelock import FileLock, RangeLock
from ..stepping import Victim
from .locks import LockScenario, Subject
from .objects import TIMEOUT, ObjectScenario
from .situations import scenarios_of

if TYPE_CHECKING:
    from ...filelock import Style
    from ...snapshots import Snapshot

__all__ = [
    "SCENARIOS",
    "FileSubject",
    "Ofd",
    "Posix",
    "Range",
    "file_of",
    "file_scenarios_of",
    "remove_files",
    "with_files",
]


def file_of(arena: str, which: str) -> str:
    """A file beside no arena, that those of the arena lock."""
    return f"{tempfile.gettempdir()}/{os.path.basename(arena)}.{which}"


def remove_files(arena: str) -> None:
    """All of those."""
    for path in glob.glob(file_of(glob.escape(arena), "*")):
        os.unlink(path)


# ---- one at a time ------------------------------------------------------------------------------------------------
def _locked(pid: int, inode: int) -> bool:
    """Whether a process has a lock on that file, of whatever style: the lines "lock:" of /proc/PID/fdinfo."""
    for descriptor in os.listdir(f"/proc/{pid}/fdinfo"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/fdinfo/{descriptor}") as f:
            if any(line.startswith("lock:") and line.split()[6].endswith(f":{inode}") for line in f):
                return True
    return False


class FileSubject(Subject):
    """A file lock: the kernel frees it, and nobody is told of a death."""

    tells = False
    operations: ClassVar[tuple[str, ...]] = ("acquire", "release", "with", "fork")
    style: ClassVar[Style] = "ofd"
    shared: ClassVar[bool] = False
    others: ClassVar[type[Subject] | None] = None
    """What all but the victim take; None: the same."""

    def __init__(self, arena: str, which: str, memory: memoryview) -> None:
        self.lock = self.made(file_of(arena, which), Arena(arena, create=False))
        self.acquire = self.lock.acquire
        self.release = self.lock.release

    def made(self, path: str, arena: Arena) -> RangeLock:
        return FileLock(path, style=self.style, shared=self.shared, arena=arena)

    def acquire_timed(self, seconds: float) -> bool:
        return self.lock.acquire(timeout=seconds)

    def context(self, seconds: float | None = None) -> Any:
        return self.lock if seconds is None else self.lock.within(seconds)

    @classmethod
    def held_in(cls, seen: Snapshot, pid: int) -> bool:
        """The kernel decides: the arena's record is there before its lock, and a little after it."""
        return any(h.pid == pid and h.range is not None and _locked(pid, h.range.inode) for h in seen.holds)

    def whole(self) -> str | None:
        return "it is locked, and nobody is there" if self.lock.locked() else None


class Ofd(FileSubject):
    name = "FileLock"


class _Flock(FileSubject):
    name = "FileLock flock"
    operations = ("acquire", "release", "fork")
    style = "flock"


class Posix(FileSubject):
    name = "FileLock posix"
    operations = ("acquire", "release")
    style = "posix"


class Range(FileSubject):
    name = "RangeLock"

    def made(self, path: str, arena: Arena) -> RangeLock:
        return RangeLock(path, 100, 50, arena=arena)


class _Shared(FileSubject):
    """The victim shares it; the others want it alone."""

    name = "FileLock shared"
    operations = ("acquire", "release")
    shared = True
    others = Ofd


class _Files:
    """Mixed into the scenarios of locks: files go with them."""

    arena_path: str

    def finish(self) -> None:
        super().finish()  # type: ignore[misc]
        remove_files(self.arena_path)


class _OtherVictim(_Files):
    """What the victim takes is not what all others take."""

    subject: type[FileSubject]
    lock: Subject
    memory: memoryview

    def open(self) -> None:
        assert self.subject.others is not None
        self.lock = self.subject.others(self.arena_path, "subject", self.memory)

    def before(self) -> None:
        self.lock = self.subject(self.arena_path, "subject", self.memory)
        super().before()  # type: ignore[misc]


def file_scenarios_of(subject: type[FileSubject]) -> Iterator[type[LockScenario]]:
    """All scenarios of a file lock."""
    for scenario in scenarios_of(subject):
        yield with_files(scenario, subject)


def with_files(scenario: type[LockScenario], subject: type[FileSubject]) -> type[LockScenario]:
    """A scenario of locks, as one of that file lock."""
    mixin = _OtherVictim if subject.others else _Files
    return type(scenario.__name__, (mixin, scenario), {"__doc__": scenario.__doc__})


# ---- parts ----------------------------------------------------------------------------------------------------------
class _Parts(ObjectScenario):
    """It holds bytes 0 to 99, and changes that; the survivor wants all of the file, and gets it."""

    primitive = "RangeLock"
    situation = "with a waiter"
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
        self.order("other", "free", *self.changed)

    def judge(self, victim: Victim) -> None:
        self.proceeds("survivor", "waits for the whole file", self.killed_at)


class _LockRange(_Parts):
    operation_name = "lock_range"

    def operation(self) -> Callable[[], object]:
        return partial(self.thing.lock_range, *self.changed)


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

    def judge(self, victim: Victim) -> None:
        if self.taken:
            self.part_goes()
            self.killed_at = time.monotonic_ns()
        super().judge(victim)


class _LockTimeout(_LockContended):
    """Another has the part, and keeps it: the victim has what it had before."""

    situation = "timing out"

    def operation(self) -> Callable[[], object]:
        return partial(self.thing.lock_range, *self.changed, timeout=TIMEOUT)

    def asleep(self, victim: Victim) -> None:
        """The other one stays."""


class _UnlockRange(_Parts):
    operation_name = "unlock_range"
    changed = (50, 20)

    def operation(self) -> Callable[[], object]:
        return partial(self.thing.unlock_range, *self.changed)


class _UnlockAwaited(_UnlockRange):
    """The survivor waits for just the part that is given back."""

    situation = "the part is awaited"

    def wait(self) -> bool:
        with RangeLock(file_of(self.arena_path, "subject"), *self.changed, arena=self.arena):
            return True


class _Downgrade(_Parts):
    operation_name = "downgrade"
    kept = (400, 1)

    def before(self) -> None:
        super().before()
        self.thing.lock_range(*self.kept)

    def operation(self) -> Callable[[], object]:
        return self.thing.downgrade

    def frozen(self, victim: Victim, seen: Any) -> None:
        ObjectScenario.frozen(self, victim, seen)
        kept = self.order("other", "free", 0, 100)
        if kept is not None and kept.value:
            self.wrong("two holders", "others can have what the victim shares")


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

    def operation(self) -> Callable[[], object]:
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

    def judge(self, victim: Victim) -> None:
        if self.reads:
            self.reader_goes()
            self.killed_at = time.monotonic_ns()
        super().judge(victim)


class _UpgradeTimeout(_Upgrade):
    """The other one reads on: the victim shares it still."""

    situation = "timing out"

    def operation(self) -> Callable[[], object]:
        return partial(self.thing.upgrade, timeout=TIMEOUT)

    def asleep(self, victim: Victim) -> None:
        """The other one stays."""


SCENARIOS: tuple[Any, ...] = (
    *(scenario for subject in (Ofd, Range, _Flock, Posix, _Shared) for scenario in file_scenarios_of(subject)),
    _LockRange,
    _LockContended,
    _LockTimeout,
    _UnlockRange,
    _UnlockAwaited,
    _Downgrade,
    _Upgrade,
    _UpgradeTimeout,
)
