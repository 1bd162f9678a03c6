"""Names, cells and slots: each name leads to one object, and nothing stays behind of those who were killed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from ...arena import Arena
from ...errors import Gone
from ...mutex import Mutex
from ..stepping import Victim
from .objects import ObjectScenario
from .scenario import Scenario

__all__ = ["SCENARIOS", "NameScenario"]

_SLOTS = 24
"""Participants that may be in the arena, with those that have died and whose slots nobody has needed yet."""


def _done_in_child(action: Callable[[], object]) -> bool:
    """Whether that went well in a child of ours, which is no participant."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            action()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


class NameScenario(ObjectScenario):
    """A mutex; the survivor and `other` must have the same one under each name."""

    primitive = "name"
    thing: Mutex
    name_made: ClassVar[str] = "subject"
    """The name that the victim makes or opens."""

    def make(self, name: str) -> Mutex:
        return Mutex(name, arena=self.arena)

    def warm(self, other: Mutex) -> None:
        with other, Mutex("warm", arena=self.arena), Mutex(arena=self.arena):
            self.arena.collect()
        self.arena.unlink("warm", force=True)

    # ---- orders -------------------------------------------------------------------------------------------------
    def state_of_mine(self) -> str:
        """What becomes of who has had it open all the time."""
        try:
            with self.thing:
                return "works"
        except Gone:
            return "gone"

    def hold_by_name(self) -> bool:
        self.named = Mutex(self.name_made, arena=self.arena)
        return self.named.acquire(timeout=1)

    def meets_by_name(self) -> bool:
        """Whether the mutex of that name is the one that another holds."""
        with_name = Mutex(self.name_made, arena=self.arena)
        free = with_name.acquire(blocking=False)
        if free:
            with_name.release()
        with_name.close()
        return not free

    def let_go(self) -> None:
        self.named.release()
        self.named.close()
        if self.name_made != "subject":
            self.arena.unlink(self.name_made, force=True)

    # ---- the driver -----------------------------------------------------------------------------------------------
    at_first: tuple[int, int] | None = None

    def stage(self) -> None:
        super().stage()
        from ...snapshots import snapshot

        seen = snapshot(self.arena_path)
        now = seen.counters.names, seen.counters.cell_bytes
        if self.at_first is None:
            self.at_first = now
        if now[0] > self.at_first[0] + LEFT_NAMES or now[1] > self.at_first[1] + LEFT_BYTES:
            self.wrong("leak", f"names and bytes of cells: {self.at_first} at first, {now} now")
        dead = [p for p in seen.participants if not p.alive]
        if len(dead) > _SLOTS:
            self.wrong("leak", f"{len(dead)} slots of dead threads are kept")

    def judge(self, victim: Victim) -> None:
        held = self.order("survivor", "hold_by_name")
        met = self.order("other", "meets_by_name")
        mine = self.order("other", "state_of_mine") if self.name_made != "subject" else None
        if held is not None and met is not None and not (held.value and met.value):
            self.wrong("two objects", "one name leads to two objects, or to one that cannot be had")
        if mine is not None and mine.value != "works":
            self.wrong("damage", "an object that nobody has unlinked is gone")
        self.order("survivor", "let_go")


LEFT_NAMES = 8
LEFT_BYTES = 8 * 4096


class _Open(NameScenario):
    operation_name = "open"
    situation = "it is there"

    def operation(self) -> Callable[[], object]:
        return partial(Mutex, "subject", arena=self.arena)


class _Create(NameScenario):
    operation_name = "create"
    situation = "free"
    name_made = "new"

    def operation(self) -> Callable[[], object]:
        return partial(Mutex, "new", arena=self.arena)


class _CreateOne(_Create):
    """It must be new."""

    operation_name = "create exclusively"

    def operation(self) -> Callable[[], object]:
        return partial(Mutex, "new", arena=self.arena, create="exclusive")


class _Unlink(NameScenario):
    """Who has it open has the one of that name still, or is told that it is gone."""

    operation_name = "unlink"
    situation = "others have it open"

    def operation(self) -> Callable[[], object]:
        return partial(self.arena.unlink, "subject", force=True)

    def judge(self, victim: Victim) -> None:
        held = self.order("survivor", "hold_by_name")
        met = self.order("other", "meets_by_name")
        if held is not None and met is not None and not (held.value and met.value):
            self.wrong("two objects", "one name leads to two objects, or to one that cannot be had")
        self.order("survivor", "let_go")
        mine = self.order("survivor", "state_of_mine")
        other = self.order("other", "state_of_mine")
        if mine is None or other is None:
            return
        if mine.value != other.value:
            self.wrong("two objects", f"of one object it is said: {mine.value}, and {other.value}")
        if mine.value == "works":
            self.order("survivor", "hold_mine")
            met = self.order("other", "meets_by_name")
            if met is not None and not met.value:
                self.wrong("two objects", "an object lives on, and its name leads to another")
            self.order("survivor", "let_mine_go")

    def hold_mine(self) -> None:
        self.thing.acquire()

    def let_mine_go(self) -> None:
        self.thing.release()


class _Recreate(_Unlink):
    operation_name = "unlink, create"

    def operation(self) -> Callable[[], object]:
        arena = self.arena

        def replaces() -> None:
            arena.unlink("subject", force=True)
            Mutex("subject", arena=arena)

        return replaces


class _UnlinkAwaited(NameScenario):
    """The survivor waits for it: it is told that it is gone, or gets it when its holder gives it back."""

    operation_name = "unlink"
    situation = "somebody waits for it"

    def operation(self) -> Callable[[], object]:
        return partial(self.arena.unlink, "subject", force=True)

    def hold(self) -> None:
        self.thing.acquire()

    def release(self) -> str:
        try:
            self.thing.release()
        except Gone:
            return "gone"
        return "works"

    def stage(self) -> None:
        super().stage()
        self.order("other", "hold")

    def placed(self, victim: Victim) -> None:
        self.waits("survivor", "state_of_mine")

    def judge(self, victim: Victim) -> None:
        state = self.seen.named("subject") if self.seen else None
        gone = self.by["survivor"].has_answered(0.13)
        if not gone and state is None:
            self.wrong("hang", "the name is gone, and who waits is not told")
        since = time.monotonic_ns()
        self.order("other", "release")
        answer = self.answer("survivor", "waits for what is unlinked", None if gone else since)
        if answer is not None and answer.value != ("gone" if gone else "works"):
            self.wrong("wrong answer", f"the survivor was told {answer.value}")


class _Anonymous(NameScenario):
    operation_name = "make, drop"
    situation = "anonymous"

    def operation(self) -> Callable[[], object]:
        arena = self.arena

        def makes() -> None:
            Mutex(arena=arena).close()

        return makes


class _Collect(NameScenario):
    """What a dead process has left is collected."""

    operation_name = "collect"
    situation = "recovering"

    def stage(self) -> None:
        super().stage()
        from .objects import dies

        dies(self._leave_things)

    def _leave_things(self) -> None:
        arena = Arena(self.arena_path, create=False)
        self.left = [Mutex(arena=arena) for _ in range(3)]

    def operation(self) -> Callable[[], object]:
        return self.arena.collect


class _Register(NameScenario):
    """The first use in a process, and by a thread; slots of the dead are used again."""

    primitive = "thread"
    operation_name = "register"
    situation = "free"
    placing = False
    """Whether the next process that is forked is the victim."""

    def stage(self) -> None:
        super().stage()
        self.placing = True

    def placed(self, victim: Victim) -> None:
        self.placing = False

    def open(self) -> None:
        if not self.placing:
            super().open()

    def before(self) -> None:
        with Arena(self.arena_path + ".warm") as arena:
            with Mutex("warm", arena=arena):
                arena.collect()
            arena.unlink(force=True)

    def operation(self) -> Callable[[], object]:
        path = self.arena_path

        def comes() -> None:
            arena = Arena(path, create=False)
            Mutex("subject", arena=arena).acquire()

        return comes

    def judge(self, victim: Victim) -> None:
        super().judge(victim)
        if not _done_in_child(self._come):
            self.wrong("damage", "a newcomer finds no place")

    def _come(self) -> None:
        with Arena(self.arena_path, create=False) as arena, Mutex("subject", arena=arena):
            arena.collect()


class _Leave(NameScenario):
    """It gives the arena up."""

    primitive = "arena"
    operation_name = "close"
    situation = "others use it"

    def operation(self) -> Callable[[], object]:
        self.thing.close()
        return self.arena.close


class _OfArena(Scenario):
    """The arena itself: there it is, whole, or it is not; the next one makes it, and nothing is left beside it."""

    primitive = "arena"
    agents = ()
    stoppable = False
    reads_arena = False

    def open(self) -> None:
        """Nothing is open before."""

    def before(self) -> None:
        with Arena(self.arena_path + ".warm") as arena:
            with Mutex("warm", arena=arena):
                arena.collect()
            arena.unlink(force=True)

    def stage(self) -> None:
        _done_in_child(partial(self.prepare, self.arena_path))

    def prepare(self, path: str) -> None:
        """In a child, before the victim comes."""
        raise NotImplementedError

    def use(self) -> None:
        """In a child, after its death."""
        with Arena(self.arena_path) as arena, Mutex("subject", arena=arena), Mutex("another", arena=arena):
            arena.collect()

    def judge(self, victim: Victim) -> None:
        began = time.monotonic()
        if not _done_in_child(self.use):
            self.wrong("damage", "the arena cannot be used any more")
        self.latencies.append(time.monotonic() - began)
        directory, name = os.path.split(self.arena_path)
        left = [e for e in os.listdir(directory) if e.startswith(name) and e not in (name, name + ".warm")]
        if left:
            self.wrong("leak", f"{', '.join(left)} is left beside the arena")

    def finish(self) -> None:
        super().finish()
        warm = self.arena_path + ".warm"
        if os.path.exists(warm):
            os.unlink(warm)


class _CreateArena(_OfArena):
    operation_name = "create"
    situation = "it is not there"

    def prepare(self, path: str) -> None:
        if os.path.exists(path):
            os.unlink(path)

    def operation(self) -> Callable[[], object]:
        return partial(Arena, self.arena_path)


class _OpenArena(_OfArena):
    operation_name = "open"
    situation = "it is there"

    def prepare(self, path: str) -> None:
        with Arena(path) as arena:
            Mutex("subject", arena=arena).close()

    def operation(self) -> Callable[[], object]:
        return partial(Arena, self.arena_path)


class _UnlinkArena(_OpenArena):
    operation_name = "unlink"

    def before(self) -> None:
        super().before()
        self.arena = Arena(self.arena_path)
        with Mutex("subject", arena=self.arena):
            self.arena.collect()

    def operation(self) -> Callable[[], object]:
        return partial(self.arena.unlink, force=True)


class _CloseArena(_UnlinkArena):
    """The last one leaves."""

    operation_name = "close"
    situation = "the last"

    def operation(self) -> Callable[[], object]:
        return self.arena.close


SCENARIOS: tuple[Any, ...] = (
    _Open,
    _Create,
    _CreateOne,
    _Unlink,
    _Recreate,
    _UnlinkAwaited,
    _Anonymous,
    _Collect,
    _Register,
    _Leave,
    _CreateArena,
    _OpenArena,
    _UnlinkArena,
    _CloseArena,
)
