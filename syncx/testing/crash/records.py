"""Record locks: a lock for each record of a file, made anew each time, and records read and written under them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

from ...arena import Arena
from ...filelock import RangeLock
from ...records import RecordLocks
from ..stepping import Victim
from .contents import ContentScenario
from .files import FileSubject, file_of, file_scenarios_of, locks_file
from .objects import STOPPED
from .world import Page

__all__ = ["SCENARIOS", "RecordSubject"]

_SIZE, _HEADER = 128, 64
_RETURNED = Page.FREE
"""A mark: the victim's operation has returned."""


# ---- one at a time ------------------------------------------------------------------------------------------------
class RecordSubject(FileSubject):
    """Record 3: `records[3]` is a new lock for each hold."""

    name = "RecordLocks"

    def __init__(self, arena: str, which: str, memory: memoryview) -> None:
        path = file_of(arena, which)
        self.records = RecordLocks(path, _SIZE, header=_HEADER, arena=Arena(arena, create=False))

    def wanted(self) -> RangeLock:
        return self.records[3]

    def acquire(self) -> bool:
        self.lock = self.wanted()
        return self.lock.acquire()

    def release(self) -> None:
        self.lock.release()

    def acquire_timed(self, seconds: float) -> bool:
        self.lock = self.wanted()
        return self.lock.acquire(timeout=seconds)

    def block(self, inside: Callable[[], object], seconds: float | None = None) -> Callable[[], object]:
        records = self.records

        def block() -> None:
            with records[3]:
                inside()

        return block

    def whole(self) -> str | None:
        return "it is locked, and nobody is there" if self.records[0:9].locked() else None


class _Shared(RecordSubject):
    """The victim shares it; the others want it alone."""

    name = "RecordLocks shared"
    operations = ("acquire", "release")
    others = RecordSubject

    def wanted(self) -> RangeLock:
        return self.records.shared(3)


class _Several(RecordSubject):
    """The victim wants more than the others do."""

    name = "RecordLocks, several"
    operations = ("acquire", "release")
    others = RecordSubject
    brief = True

    def wanted(self) -> RangeLock:
        return self.records[2:5]


# ---- what is in them ------------------------------------------------------------------------------------------------
class _OfRecords(ContentScenario):
    """Five records, of which the victim deals with one; whoever gets its lock next finds it whole."""

    primitive = "RecordLocks"
    stoppable = True
    thing: RecordLocks
    record: ClassVar[int] = 3
    first: ClassVar[bytes] = b"h" * _HEADER + b"".join(bytes([letter]) * _SIZE for letter in b"01234")
    new: ClassVar[bytes] = b"new " * (_SIZE // 4)

    def make(self, name: str) -> Any:
        return RecordLocks(self.path(name), _SIZE, header=_HEADER, arena=self.arena)

    def warm(self, other: RecordLocks) -> None:
        with other[self.record], other.shared(0):
            other.write(self.record, self.new)
            other.read(self.record)

    def old(self) -> bytes:
        begins = _HEADER + _SIZE * self.record
        return self.first[begins : begins + _SIZE]

    def with_new(self) -> bytes:
        begins = _HEADER + _SIZE * self.record
        return self.first[:begins].ljust(begins, b"\0") + self.new + self.first[begins + _SIZE :]

    def read_locked(self) -> bytes:
        """Order: reads the record when it may."""
        with self.thing[self.record]:
            return self.thing.read(self.record)

    def judge_stopped(self, victim: Victim) -> None:
        """The survivor waits for the record, and does not get it while the victim holds it."""
        super().judge_stopped(victim)
        if not victim.gone and locks_file(victim.pid, os.stat(self.path()).st_ino):
            self.waits("survivor", "read_locked")
            if self.by["survivor"].has_answered(STOPPED):
                self.wrong("two holders", "the survivor got a record that a stopped process holds")

    def judge(self, victim: Victim) -> None:
        returned = bool(self.page[_RETURNED])
        since = None if self.by["survivor"].waiting and self.by["survivor"].has_answered() else self.killed_at
        if not self.by["survivor"].waiting:
            since = self.tells("survivor", "read_locked")
        answer = self.answer("survivor", "waits for the record", since)
        possible = (self.new,) if returned else (self.old(), self.new)
        if answer is not None and answer.value not in possible:
            self.wrong("torn", f"the record is {answer.value!r}")
        self.check("all records", (self.with_new(),) if returned else (self.first, self.with_new()))


class _Write(_OfRecords):
    """The victim has the record, and writes; the survivor waits for it."""

    operation_name = "write"
    situation = "with a waiter"

    def before(self) -> None:
        super().before()
        self.held = self.thing[self.record]
        self.held.acquire()

    def operation(self) -> Callable[[], object]:
        write, record, new, page = self.thing.write, self.record, self.new, self.page

        def writes() -> None:
            write(record, new)
            page[_RETURNED] = 1

        return writes

    def placed(self, victim: Victim) -> None:
        self.waits("survivor", "read_locked")

    def frozen(self, victim: Victim, seen: Any) -> None:
        super().frozen(victim, seen)
        self.settle("survivor")
        if self.by["survivor"].has_answered():
            self.wrong("two holders", "the survivor got the record that the victim holds")


class _WriteBeyond(_Write):
    """The file grows by it."""

    situation = "beyond the end, with a waiter"
    record = 7


class _WriteWithin(_OfRecords):
    """All of it: the lock is taken, the record written, the lock given back."""

    operation_name = "with, write"
    situation = "free"

    def operation(self) -> Callable[[], object]:
        records, record, new, page = self.thing, self.record, self.new, self.page

        def writes() -> None:
            with records[record]:
                records.write(record, new)
            page[_RETURNED] = 1

        return writes


class _Read(_Write):
    """The victim shares the record, and reads; the survivor wants it alone."""

    operation_name = "read"
    new = b"3" * _SIZE  # as before

    def before(self) -> None:
        _OfRecords.before(self)
        self.held = self.thing.shared(self.record)
        self.held.acquire()

    def operation(self) -> Callable[[], object]:
        read, record, page, old = self.thing.read, self.record, self.page, self.old()

        def reads() -> None:
            page[_RETURNED] = 1 + (read(record) == old)

        return reads

    def judge(self, victim: Victim) -> None:
        if self.page[_RETURNED] == 1:
            self.wrong("torn", "the victim read what nobody has written")
        super().judge(victim)


SCENARIOS: tuple[Any, ...] = (
    *(scenario for subject in (RecordSubject, _Shared, _Several) for scenario in file_scenarios_of(subject)),
    _Write,
    _WriteBeyond,
    _WriteWithin,
    _Read,
)
