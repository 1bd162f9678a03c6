"""Two threads of one process with locks on one file: what the process has in common, when all of it is killed.

The kernel knows one holder for both, so the process itself keeps account of who has which bytes.  A second thread of
the victim shares what its first one, which is stepped, takes or gives back, or holds or awaits it.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from ...filelock import FileLock, RangeLock
from ..stepping import Victim
from .files import file_of, remove_files
from .objects import STOPPED, HeldByAnother, ObjectScenario
from .world import Page, until

if TYPE_CHECKING:
    from ...filelock import Style

__all__ = ["SCENARIOS"]

_RETURNED = Page.FREE
"""A mark: the victim's operation has returned."""


class _Siblings(ObjectScenario):
    """The victim deals with bytes 40 to 99, its other thread with 0 to 59; the survivor wants what both want."""

    primitive = "RangeLock of two threads"
    leaps = False
    style: ClassVar[Style] = "ofd"
    shared: ClassVar[bool] = True
    """Whether the two threads share what they have."""
    first_waits: ClassVar[bool] = False
    """Whether the other thread waits for what it wants, before the victim's operation."""
    thing: RangeLock

    def __init__(self, arena: str) -> None:
        super().__init__(arena)
        self.reads, self.writes = os.pipe()

    def finish(self) -> None:
        super().finish()
        os.close(self.reads)
        os.close(self.writes)
        remove_files(self.arena_path)

    def part(self, name: str, start: int, length: int, shared: bool) -> RangeLock:
        path = file_of(self.arena_path, name)
        if self.style == "ofd":
            return RangeLock(path, start, length, shared=shared, arena=self.arena)
        return FileLock(path, style=self.style, shared=shared, arena=self.arena)

    def make(self, name: str) -> Any:
        return self.part(name, 40, 60, self.shared)

    def renew(self, first: bool) -> None:
        self.thing.close()
        self.thing = self.make("subject")

    # ---- the victim -----------------------------------------------------------------------------------------------
    def warm(self, other: RangeLock) -> None:
        with other:
            """Registered."""

    def before(self) -> None:
        super().before()
        there = threading.Event()
        threading.Thread(target=self.sibling, args=(there,), daemon=True).start()
        there.wait()
        if self.first_waits:
            from ...snapshots import snapshot

            until(
                lambda: any(w.kind == "file range" for w in snapshot(self.arena_path).waits), "the other thread to wait"
            )

    def sibling(self, there: threading.Event) -> None:
        """The other thread: it gives back when it is told to, and stays until it is killed."""
        lock = self.part("subject", 0, 60, self.shared)
        if self.first_waits:
            there.set()
        lock.acquire()
        there.set()
        os.read(self.reads, 1)
        lock.release()
        os.read(self.reads, 1)

    def operation(self) -> Callable[[], object]:
        method, page = getattr(self.thing, self.operation_name), self.page

        def does() -> None:
            method()
            page[_RETURNED] = 1

        return does

    # ---- orders -------------------------------------------------------------------------------------------------
    def wait(self) -> bool:
        with self.part("subject", 40, 20, False):
            return True

    def free(self, start: int, length: int, shared: bool) -> bool:
        """Whether others may have that now."""
        lock = self.part("subject", start, length, shared)
        had = lock.acquire(blocking=False)
        if had:
            lock.release()
        lock.close()
        return had

    # ---- the driver -----------------------------------------------------------------------------------------------
    def stage(self) -> None:
        while select.select([self.reads], [], [], 0)[0]:
            os.read(self.reads, 1)
        super().stage()

    def judge(self, victim: Victim) -> None:
        since = self.killed_at
        if not self.by["survivor"].waiting:
            since = self.tells("survivor", "wait")
        self.proceeds("survivor", "waits for what two threads had", since)
        free = self.order("other", "free", 0, 200, False)
        if free is not None and not free.value:
            self.wrong("damage", "bytes are locked, and nobody is there")


class _Shares(_Siblings):
    """The other thread has its part: nobody else gets that, whatever the victim does."""

    operation_name = "acquire"
    situation = "the other shares"
    stoppable = True

    def frozen(self, victim: Victim, seen: Any) -> None:
        super().frozen(victim, seen)
        alone = self.order("other", "free", 40, 20, False)
        if alone is not None and alone.value:
            self.wrong("two holders", "others can have what another thread of the victim's process shares")

    def judge_stopped(self, victim: Victim) -> None:
        """The survivor wants it alone: not while the other thread has it."""
        self.waits("survivor", "wait")
        if self.by["survivor"].has_answered(STOPPED):
            self.wrong("two holders", "the survivor got what another thread of a stopped process shares")


class _GivesBackShared(_Shares):
    """The survivor waits for what both share."""

    operation_name = "release"

    def before(self) -> None:
        super().before()
        self.thing.acquire()

    def placed(self, victim: Victim) -> None:
        self.waits("survivor", "wait")

    def frozen(self, victim: Victim, seen: Any) -> None:
        super().frozen(victim, seen)
        self.settle("survivor")
        if self.by["survivor"].has_answered():
            self.wrong("two holders", "the survivor got what another thread of the victim's process shares")


class _Contended(_Siblings):
    """The other thread has it, and gives it back when the victim sleeps, and the survivor behind it."""

    operation_name = "acquire"
    situation = "the other holds it"
    shared = False

    def asleep(self, victim: Victim) -> None:
        if self.slept == 1:
            self.waits("survivor", "wait")
            os.write(self.writes, b"r")


class _HandsOver(_Siblings):
    """The other thread waits for what the victim gives back, and the survivor behind it."""

    operation_name = "release"
    situation = "the other waits"
    shared = False
    first_waits = True

    def before(self) -> None:
        self.thing.acquire()
        super().before()

    def placed(self, victim: Victim) -> None:
        self.waits("survivor", "wait")
        os.write(self.writes, b"r")  # it gives it back as soon as it has it


class _BothWait(HeldByAnother, _Siblings):
    """Somebody else holds it, and both threads wait, the survivor behind them."""

    operation_name = "acquire"
    situation = "both wait"
    agents = ("survivor", "other", "holder")
    shared = False
    first_waits = True

    def stage(self) -> None:
        super().stage()
        self.holder_comes()

    def asleep(self, victim: Victim) -> None:
        if self.slept == 1:
            self.waits("survivor", "wait")
            os.write(self.writes, b"r")
        self.holder_goes()

    def judge(self, victim: Victim) -> None:
        if self.held:
            self.waits("survivor", "wait")
            self.killed_at = time.monotonic_ns()
            self.holder_goes()
        super().judge(victim)


def _of(style: Style, primitive: str, *bases: type[_Siblings]) -> list[Any]:
    return [type(f"{base.__name__}{style}", (base,), {"style": style, "primitive": primitive}) for base in bases]


SCENARIOS: tuple[Any, ...] = (
    *_of("ofd", "RangeLock of two threads", _Shares, _GivesBackShared, _Contended, _HandsOver, _BothWait),
    *_of("posix", "FileLock posix of two threads", _Shares, _GivesBackShared, _Contended, _HandsOver),
    *_of("flock", "FileLock flock of two threads", _Shares, _GivesBackShared, _Contended, _HandsOver),
)
