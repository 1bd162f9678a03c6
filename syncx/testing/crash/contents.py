"""What is written to files: append() leaves whole records, update() the old content or the new one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any, ClassVar

from ...errors import Timeout
from ...filelock import FileLock
from ...update import update
from ..stepping import Victim
from .files import file_of, locks_file, remove_files
from .objects import STOPPED, TIMEOUT, HeldByAnother, Interrupted, ObjectScenario, dies, raises
from .world import Page

__all__ = ["SCENARIOS", "ContentScenario"]

_RETURNED, _GAVE_UP = Page.FREE, 2
"""A mark: the victim's operation has returned; what it says when that has raised what it should, after a while."""


class ContentScenario(ObjectScenario):
    """A file with a content that is the same before each death."""

    agents: ClassVar[tuple[str, ...]] = ("survivor",)
    first: ClassVar[bytes | None] = b"one\ntwo\n"
    """What is in it at first; None: there is no file."""
    thing: Any

    def path(self, name: str = "subject") -> str:
        return file_of(self.arena_path, name)

    def make(self, name: str) -> Any:
        return FileLock(self.path(name), arena=self.arena)

    def renew(self, first: bool) -> None:
        self.thing.close()
        self.put()
        self.thing = self.make("subject")

    stops = 0

    def stage(self) -> None:
        super().stage()
        self.stops = 0
        """How often the victim has been stopped and looked at."""

    def judge_stopped(self, victim: Victim) -> None:
        """Let go on, it comes to the end of its operation."""
        self.stops += 1
        if self.stops == 2 and not self.page[_RETURNED]:
            self.wrong("error", f"{self.operation_name}, stopped and let go on, has raised something")

    def put(self) -> None:
        """The file as it is at first."""
        if os.path.exists(self.path()):
            os.unlink(self.path())
        if self.first is not None:
            with open(self.path(), "wb") as f:
                f.write(self.first)

    def content(self) -> bytes | None:
        try:
            with open(self.path(), "rb") as f:
                return f.read()
        except FileNotFoundError:
            return None

    def finish(self) -> None:
        super().finish()
        remove_files(self.arena_path)

    def check(self, what: str, possible: tuple[bytes | None, ...]) -> bool:
        content = self.content()
        if content not in possible:
            self.wrong("torn", f"{what}: {content!r}, and not {' or '.join(map(repr, possible))}")
        return content in possible


class _Append(ContentScenario):
    """The record is there whole, or the next append cuts off what is there of it."""

    primitive = "append"
    operation_name = "append"
    situation = "free"
    stoppable = True
    kept: ClassVar[bytes] = b"one\ntwo\n"
    """Of what is in the file at first: what is not torn."""
    either: ClassVar[bool] = False
    """Whether the survivor, who waits beside the victim, may come first."""

    def warm(self, other: FileLock) -> None:
        other.append(b"warm")

    def operation(self) -> Callable[[], object]:
        append, page = self.thing.append, self.page

        def appends() -> None:
            append(b"the victim's")
            page[_RETURNED] = 1

        return appends

    def add(self) -> bool:
        """Order: appends."""
        self.thing.append(b"the survivor's")
        return True

    def judge_stopped(self, victim: Victim) -> None:
        """While it has the file the survivor waits to append."""
        super().judge_stopped(victim)
        if victim.gone or not locks_file(victim.pid, os.stat(self.path()).st_ino):
            return
        before = self.either and self.by["survivor"].waiting
        self.waits("survivor", "add")
        if not (before and self.by["survivor"].has_answered()) and self.by["survivor"].has_answered(STOPPED):
            self.wrong("two holders", "the survivor appended to what a stopped process has locked")

    def judge(self, victim: Victim) -> None:
        if not self.by["survivor"].waiting:
            self.order("survivor", "add")
        else:
            self.proceeds("survivor", "waits to append", self.killed_at)
        with_it = self.kept + b"the victim's\nthe survivor's\n"
        possible = (with_it,) if self.page[_RETURNED] else (with_it, self.kept + b"the survivor's\n")
        self.check("after another append", possible)


class _AppendTorn(_Append):
    """A writer has died in write(2) before."""

    situation = "recovering"
    first = b"one\ntwo\nthr"


class _AppendAwaited(_Append):
    """The survivor waits to append."""

    situation = "with a waiter"

    def before(self) -> None:
        super().before()
        self.thing.acquire()

    def operation(self) -> Callable[[], object]:
        append, release, page = self.thing.append, self.thing.release, self.page

        def appends() -> None:
            append(b"the victim's")
            page[_RETURNED] = 1
            release()

        return appends

    def placed(self, victim: Victim) -> None:
        self.waits("survivor", "add")


class _AppendContended(HeldByAnother, _Append):
    """Another has the file, and gives it back when the victim sleeps."""

    situation = "contended"
    agents = ("survivor", "holder")
    either = True

    def stage(self) -> None:
        super().stage()
        self.holder_comes()

    def asleep(self, victim: Victim) -> None:
        if self.slept == 1:
            self.waits("survivor", "add")
        self.holder_goes()

    def judge(self, victim: Victim) -> None:
        if self.held:
            self.killed_at = time.monotonic_ns()
            self.holder_goes()
        if self.by["survivor"].waiting and self.slept:
            self.either_order()
        else:
            super().judge(victim)

    def either_order(self) -> None:
        """Who of the two was first is open."""
        self.proceeds("survivor", "waits to append", self.killed_at)
        mine, other = b"the victim's\n", b"the survivor's\n"
        both = (self.kept + mine + other, self.kept + other + mine)
        self.check("after another append", both if self.page[_RETURNED] else (*both, self.kept + other))


class _AppendTimeout(_AppendContended):
    """The other one keeps the file: nothing is appended."""

    situation = "timing out"

    def before(self) -> None:
        super().before()
        self.thing.close()
        self.thing = FileLock(self.path(), timeout=TIMEOUT, arena=self.arena)

    def operation(self) -> Callable[[], object]:
        append, page = self.thing.append, self.page

        def appends() -> None:
            try:
                append(b"the victim's")
                page[_RETURNED] = 1
            except (Timeout, Interrupted):
                page[_RETURNED] = _GAVE_UP

        return appends

    def asleep(self, victim: Victim) -> None:
        """The other one stays."""

    def judge(self, victim: Victim) -> None:
        if self.page[_RETURNED] == 1:
            self.wrong("two holders", "the victim appended to what another has locked")
        self.holder_goes()
        self.order("survivor", "add")
        self.check("after another append", (self.kept + b"the survivor's\n",))


class _AppendInterrupted(_AppendTimeout):
    """A signal handler raises in its wait."""

    situation = "interrupted"

    def before(self) -> None:
        _AppendContended.before(self)
        signal.signal(signal.SIGUSR1, raises)

    def asleep(self, victim: Victim) -> None:
        if self.slept == 1:
            victim.signal(signal.SIGUSR1)


class _Update(ContentScenario):
    """Readers see the old content, or all of the new one; nothing is left in the directory."""

    primitive = "update"
    operation_name = "update"
    stoppable = True
    situation = "of a file"
    new: ClassVar[bytes] = b"the victim's, and more of it\n"
    survivors: ClassVar[bytes] = b"the survivor's\n"

    def warm(self, other: FileLock) -> None:
        other.close()
        for _ in range(2):
            with update(self.path("other"), "wb", arena=self.arena) as f:
                f.write(b"warm")

    def operation(self) -> Callable[[], object]:
        path, arena, new, page = self.path(), self.arena, self.new, self.page
        self.thing.close()

        def updates() -> None:
            with update(path, "wb", arena=arena) as f:
                f.write(new)
            page[_RETURNED] = 1

        return updates

    def replace(self) -> bytes | None:
        """Order: updates, and says what it replaces."""
        with update(self.path(), "wb", arena=self.arena) as f:
            replaced = self.content()
            f.write(self.survivors)
        return replaced

    def renew(self, first: bool) -> None:
        self.thing.close()
        self.put()

    def open(self) -> None:
        super().open()
        self.thing.close()
        if self.first is None and os.path.exists(self.path()):
            os.unlink(self.path())  # opening the lock has made it

    # ---- the driver -------------------------------------------------------------------------------------------------
    def possible(self) -> tuple[bytes | None, ...]:
        """What the victim may have left."""
        return (self.new,) if self.page[_RETURNED] else (self.first, self.new)

    def beside(self) -> set[str]:
        """What is in the directory for the file's sake: hidden names."""
        directory, name = os.path.split(self.path())
        return {entry for entry in os.listdir(directory) if name in entry and entry != name}

    def frozen(self, victim: Victim, seen: Any) -> None:
        super().frozen(victim, seen)
        waits = (self.survivors,) if self.by["survivor"].waiting else ()
        self.check("while it stands there", self.possible() + waits)

    def has_it(self, victim: Victim) -> bool:
        """Whether the victim has locked the file, or what stands for the one to come."""
        directory, name = os.path.split(self.path())
        for path in (self.path(), f"{directory}/.{name}.syncx-create"):
            if os.path.exists(path):
                return locks_file(victim.pid, os.stat(path).st_ino)
        return False

    def judge_stopped(self, victim: Victim) -> None:
        """While it has the file the survivor waits, and lets what it is making be."""
        super().judge_stopped(victim)
        if victim.gone or not self.has_it(victim):
            return
        there = self.beside()
        self.waits("survivor", "replace")
        if self.by["survivor"].has_answered(STOPPED):
            self.wrong("two holders", "the survivor updated what a stopped process updates")
        if there - self.beside():
            self.wrong("damage", f"{', '.join(there - self.beside())} was removed, which a stopped process makes")

    def judge(self, victim: Victim) -> None:
        possible = self.possible()
        if not self.by["survivor"].waiting:
            self.check("after its death", possible)
            self.by["survivor"].tell("replace")
        answer = self.answer("survivor", "updates")  # however long the disk takes for it
        if answer is not None and answer.value not in possible:
            self.wrong("torn", f"what the survivor replaced was {answer.value!r}")
        self.check("after another update", (self.survivors,))
        left = self.beside()
        if left:
            self.wrong("leak", f"{', '.join(left)} is left beside the file")


class _UpdateNew(_Update):
    situation = "of a file that is not there"
    first = None


class _UpdateAwaited(_Update):
    """The end of it, for which the survivor waits."""

    situation = "with a waiter"

    def operation(self) -> Callable[[], object]:
        self.thing.close()
        self.block = update(self.path(), "wb", arena=self.arena)
        file, ends, new, page = self.block.__enter__(), self.block.__exit__, self.new, self.page

        def updates() -> None:
            file.write(new)
            ends(None, None, None)
            page[_RETURNED] = 1

        return updates

    def placed(self, victim: Victim) -> None:
        self.waits("survivor", "replace")


class _UpdateContended(HeldByAnother, _Update):
    """Another updates it, until the victim sleeps; that one has it then, and is in its block."""

    situation = "contended"
    agents = ("survivor", "holder")
    timeout: ClassVar[float | None] = None
    holders: ClassVar[bytes] = b"the holder's\n"

    def operation(self) -> Callable[[], object]:
        self.thing.close()
        self.block = update(self.path(), "wb", timeout=self.timeout, arena=self.arena)
        begins, page = self.block.__enter__, self.page

        def updates() -> None:
            try:
                begins()
                page[_RETURNED] = 1
            except (Timeout, Interrupted):
                page[_RETURNED] = _GAVE_UP

        return updates

    def hold(self) -> None:
        self.block = update(self.path(), "wb", arena=self.arena)
        self.block.__enter__().write(self.holders)

    def let_go(self) -> None:
        self.block.__exit__(None, None, None)

    def holder_comes(self) -> None:
        self.by["holder"].ask("hold")  # however long the disk takes for it
        self.held = True

    def holder_goes(self) -> None:
        if self.held:
            self.by["holder"].ask("let_go")
            self.held = False

    def stage(self) -> None:
        super().stage()
        self.holder_comes()

    def asleep(self, victim: Victim) -> None:
        self.holder_goes()

    def possible(self) -> tuple[bytes | None, ...]:
        return (self.first if self.held else self.holders,)

    def frozen(self, victim: Victim, seen: Any) -> None:
        super().frozen(victim, seen)
        if self.held and self.page[_RETURNED] == 1:
            self.wrong("two holders", "the victim updates what another updates")

    def judge(self, victim: Victim) -> None:
        self.holder_goes()
        super().judge(victim)


class _UpdateTimeout(_UpdateContended):
    """The other one goes on updating."""

    situation = "timing out"
    timeout = TIMEOUT

    def asleep(self, victim: Victim) -> None:
        """The other one stays."""


class _UpdateInterrupted(_UpdateContended):
    """A signal handler raises in its wait."""

    situation = "interrupted"

    def before(self) -> None:
        super().before()
        signal.signal(signal.SIGUSR1, raises)

    def asleep(self, victim: Victim) -> None:
        if self.slept == 1:
            victim.signal(signal.SIGUSR1)


class _UpdateRecovering(_Update):
    """Another died amid an update before."""

    situation = "recovering"

    def stage(self) -> None:
        super().stage()
        dies(self._update_and_die)

    def _update_and_die(self) -> None:
        from ...arena import Arena

        self.arena = Arena(self.arena_path, create=False)
        with update(self.path(), "wb", arena=self.arena) as f:
            f.write(b"half")
            f.flush()
            os.kill(os.getpid(), signal.SIGKILL)


SCENARIOS: tuple[Any, ...] = (
    _Append,
    _AppendTorn,
    _AppendAwaited,
    _AppendContended,
    _AppendTimeout,
    _AppendInterrupted,
    _Update,
    _UpdateNew,
    _UpdateRecovering,
    _UpdateAwaited,
    _UpdateContended,
    _UpdateTimeout,
    _UpdateInterrupted,
)
