"""Broken twins of what the crash scenarios judge: each breaks where its maker dies at the wrong moment.

They are loaded by `python -m syncx.testing.crash.worker`, which has its own process for each.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable
from typing import Any

from syncx import Arena, Condition, Latch, Mutex, Semaphore, _core
from syncx.testing.crash import (
    barriers,
    conditions,
    contents,
    events,
    files,
    knots,
    memory,
    names,
    objects,
    onces,
    parts,
    records,
    scenario,
    semaphores,
    siblings,
    situations,
    subjects,
    threads,
)
from syncx.testing.crash.world import Page

scenario.HANG = 1.5  # a twin hangs: that is seen as well in less time

_MINE = Page.FREE + 8
"""The first number of the page that a twin uses."""


class _State:
    """As much of an `ObjectState` as a judge asks for."""

    def __init__(self, value: int) -> None:
        self.value = value


class SetThenWake(events._Set):
    """An event that is set, and wakes in a second step."""

    primitive = "twin"

    def operation(self) -> Callable[[], object]:
        page, event = self.page, self.thing

        def sets() -> None:
            page[_MINE] = 1
            os.getppid()
            event.set()

        return sets

    def state(self) -> Any:
        return _State(self.page[_MINE])


class NotificationLost(conditions._Wait):
    """A condition made of a semaphore: a notification is a unit, and dies with the one that took it."""

    primitive = "twin"

    def open(self) -> None:
        super().open()
        self.units = Semaphore(0, name="units", arena=self.arena)

    def renew(self, first: bool) -> None:
        super().renew(first)
        while self.units.acquire(blocking=False):
            self.page[_MINE] = 0

    def wait(self) -> bool:
        self.units.acquire()
        with self.thing:
            return True

    def operation(self) -> Callable[[], object]:
        thing, units, page = self.thing, self.units, self.page

        def waits() -> None:
            thing.release()
            units.acquire()
            thing.acquire()
            page[_MINE] = 1

        return waits

    def signal(self) -> None:
        self.units.release()

    def consumed(self) -> bool:
        return bool(self.page[_MINE])


class WritesInPlace(contents._Update):
    """A file that is truncated and written."""

    primitive = "twin"

    def operation(self) -> Callable[[], object]:
        path, new = self.path(), self.new

        def updates() -> None:
            descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
            os.write(descriptor, new)

        return updates


class AppendsUnlocked(contents._Append):
    """The next one takes who is stopped for dead."""

    primitive = "twin"

    def add(self) -> bool:
        with open(self.path(), "ab") as f:
            f.write(b"the survivor's\n")
        return True


class AppendsAfterTorn(contents._AppendTorn):
    """A record is written behind whatever is there."""

    primitive = "twin"

    def add(self) -> bool:
        with self.thing, open(self.path(), "ab") as f:
            f.write(b"the survivor's\n")
        return True


class ForeignClose(parts._LockRange):
    """A lock by a POSIX record, which goes when anybody in the process closes the file."""

    primitive = "twin"

    def before(self) -> None:
        self.warm(self.make("other"))
        self.descriptor = os.open(files.file_of(self.arena_path, "subject"), os.O_RDWR)
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX, 100, 0)

    def operation(self) -> Callable[[], object]:
        path = files.file_of(self.arena_path, "subject")
        return lambda: os.close(os.open(path, os.O_RDONLY))


def _idle() -> None:
    """What is said to be done, and is not."""


class LocksNoRange(parts._LockRange):
    primitive = "twin"

    def action(self) -> Callable[[], object]:
        return _idle


class UnlocksNoRange(parts._UnlockRange):
    primitive = "twin"

    def action(self) -> Callable[[], object]:
        return _idle


class UnlocksWithDeath(parts._UnlockAwaited):
    """Who waits for the part has it only when the victim is dead."""

    primitive, hang = "twin", 0.5

    def action(self) -> Callable[[], object]:
        return _idle


class UpgradesNothing(parts._Upgrade):
    primitive = "twin"

    def action(self) -> Callable[[], object]:
        return _idle


class UpgradesNothingAlone(parts._Upgrade):
    """As that, when nobody else reads (any more)."""

    primitive = "twin"

    def action(self) -> Callable[[], object]:
        return _idle

    def stage(self) -> None:
        parts._Parts.stage(self)


class DowngradesNothing(parts._Downgrade):
    primitive = "twin"

    def action(self) -> Callable[[], object]:
        return _idle


class DoneTooEarly(onces._Free):
    """Marked as done, and the result is written then."""

    primitive = "twin"

    def run(self) -> bytes:
        with self.guard:
            if not self.page[_MINE]:
                self.page[_MINE] = 1
                self.page[_MINE + 1] = 2
            return (b"", onces.VICTIMS, onces.SURVIVORS)[self.page[_MINE + 1]]

    def open(self) -> None:
        super().open()
        self.guard = Mutex("guard", arena=self.arena)

    def operation(self) -> Callable[[], object]:
        page, guard = self.page, self.guard

        def runs() -> None:
            with guard:
                page[_MINE] = 1
                os.getppid()
                page[_MINE + 1] = 1

        return runs

    def frozen(self, victim: Any, seen: Any) -> None:
        objects.ObjectScenario.frozen(self, victim, seen)
        self.was_done = bool(self.page[_MINE])


class DeathUnnoticed(barriers._First):
    """A barrier that counts those who come, and nobody asks whether they live."""

    primitive = "twin"

    def open(self) -> None:
        super().open()
        self.condition = Condition(name="parties", arena=self.arena)

    def wait(self) -> str:
        with self.condition as c:
            self.page[_MINE] += 1
            c.notify_all()
            return "passed" if c.wait_for(lambda: self.page[_MINE] >= 3, 60) else "broken"

    def operation(self) -> Callable[[], object]:
        condition, page = self.condition, self.page

        def waits() -> None:
            with condition as c:
                page[_MINE] += 1
                page[_MINE + 1] = 1
                c.notify_all()
                c.wait_for(lambda: page[_MINE] >= 3)

        return waits

    def frozen(self, victim: Any, seen: Any) -> None:
        super().frozen(victim, seen)
        self.is_party = bool(self.page[_MINE + 1])


class NobodyTells(knots._StandsWithoutIt):
    """A detector that is off."""

    primitive = "twin"

    def open(self) -> None:
        super().open()
        _core._set_deadlock(False)


class OneAtATime(semaphores._AcquireFreeThree):
    """Three units, taken one after the other."""

    primitive = "twin"

    def operation(self) -> Callable[[], object]:
        acquire = self.thing.acquire

        def takes() -> None:
            for _ in range(3):
                acquire()
                os.getppid()

        return takes


class HalfAnArena(names._CreateArena):
    """The file of an arena, written where it is to be."""

    primitive = "twin"

    def before(self) -> None:
        super().before()
        with Arena(self.arena_path) as arena:
            Mutex("subject", arena=arena)
        with open(self.arena_path, "rb") as f:
            self.data = f.read()
        os.unlink(self.arena_path)

    def operation(self) -> Callable[[], object]:
        path, data = self.arena_path, self.data

        def makes() -> None:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            os.write(descriptor, data[:4096])
            os.write(descriptor, data[4096:])

        return makes


class WritesInHalves(records._Write):
    """A record, written in two steps."""

    primitive = "twin"

    def operation(self) -> Callable[[], object]:
        descriptor, page, half = os.open(self.path(), os.O_RDWR), self.page, len(self.new) // 2
        begins = records._HEADER + records._SIZE * self.record

        def writes() -> None:
            os.pwrite(descriptor, self.new[:half], begins)
            os.pwrite(descriptor, self.new[half:], begins + half)
            page[records._RETURNED] = 1

        return writes


class _AnotherRecord(records.RecordSubject):
    """Each process locks a record of its own."""

    def wanted(self) -> Any:
        return self.records[os.getpid()]


class LocksAnother(situations.ReleaseWaited):
    """Locks that lock something else."""

    primitive, operation_name, subject = "twin", "release", _AnotherRecord

    def finish(self) -> None:
        super().finish()
        files.remove_files(self.arena_path)


class _StaysWithProcess(subjects.BinarySubject):
    """What stays with the process when its thread ends, said to be the thread's."""


class OutlivesItsThread(threads._Holds):
    """A hold that the end of its thread does not end."""

    primitive, subject = "twin", _StaysWithProcess


class ClosedByAnother(siblings._GivesBackShared):
    """POSIX record locks by hand: what one thread closes, the other one's lock goes with."""

    primitive = "twin"

    def sibling(self, there: Any) -> None:
        descriptor = os.open(files.file_of(self.arena_path, "subject"), os.O_RDWR)
        fcntl.lockf(descriptor, fcntl.LOCK_SH, 60, 0)
        there.set()
        os.read(self.reads, 1)

    def before(self) -> None:
        siblings._Siblings.before(self)

    def operation(self) -> Callable[[], object]:
        path = files.file_of(self.arena_path, "subject")
        return lambda: os.close(os.open(path, os.O_RDONLY))


class HalfALatch(memory._At):
    """A latch whose bytes are written where it is to be, one part after the other."""

    primitive, kind = "twin", next(k for k in memory._KINDS if k.name == "latch")

    def operation(self) -> Callable[[], object]:
        whole = mmap.mmap(-1, mmap.PAGESIZE)
        self.at(whole)
        here, parts = self.memory, [(i, whole[i : i + 8]) for i in range(0, Latch.SIZE, 8) if any(whole[i : i + 8])]

        def makes() -> None:
            for begins, part in parts:
                here[begins : begins + 8] = part

        return makes


CONDEMNED = {
    WritesInHalves: "torn",
    LocksAnother: "two holders",
    OutlivesItsThread: "hang",
    ClosedByAnother: "two holders",
    HalfALatch: "error",
    SetThenWake: "hang",
    NotificationLost: "hang",
    WritesInPlace: "torn",
    AppendsAfterTorn: "torn",
    ForeignClose: "two holders",
    LocksNoRange: "two holders",
    UnlocksNoRange: "damage",
    UnlocksWithDeath: "hang",
    UpgradesNothing: "two holders",
    UpgradesNothingAlone: "two holders",
    DowngradesNothing: "damage",
    DoneTooEarly: "wrong answer",
    DeathUnnoticed: "wrong answer",
    HalfAnArena: "damage",
    NobodyTells: "hang",
    OneAtATime: "lost permit",
}
"""Each twin, and what it is condemned for."""


CONDEMNED_STOPPED = {AppendsUnlocked: "two holders"}
"""In mode "stop"."""


def _named(twin: type[scenario.Scenario]) -> type[scenario.Scenario]:
    twin.situation = twin.__name__
    return twin


SCENARIOS: tuple[Any, ...] = tuple(_named(twin) for twin in (*CONDEMNED, *CONDEMNED_STOPPED))
