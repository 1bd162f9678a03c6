"""What is written to files: append() leaves whole records, update() the old content or the new one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any, ClassVar

from ...filelock import FileLock
from ...update import update
from ..stepping import Victim
from .files import file_of, remove_files
from .objects import HeldByAnother, ObjectScenario, dies
from .world import Page

__all__ = ["SCENARIOS", "ContentScenario"]

_RETURNED = Page.FREE
"""A mark: the victim's operation has returned."""


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
    kept: ClassVar[bytes] = b"one\ntwo\n"
    """Of what is in the file at first: what is not torn."""

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


class _Update(ContentScenario):
    """Readers see the old content, or all of the new one; nothing is left in the directory."""

    primitive = "update"
    operation_name = "update"
    situation = "of a file"
    new: ClassVar[bytes] = b"the victim's, and more of it\n"

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

    def replace(self) -> bool:
        """Order: updates."""
        with update(self.path(), "wb", arena=self.arena) as f:
            f.write(b"the survivor's\n")
        return True

    def renew(self, first: bool) -> None:
        self.thing.close()
        self.put()

    def open(self) -> None:
        super().open()
        self.thing.close()
        if self.first is None and os.path.exists(self.path()):
            os.unlink(self.path())  # opening the lock has made it

    def frozen(self, victim: Victim, seen: Any) -> None:
        super().frozen(victim, seen)
        self.check("while it stands there", (self.first, self.new))

    def judge(self, victim: Victim) -> None:
        self.check("after its death", (self.new,) if self.page[_RETURNED] else (self.first, self.new))
        self.by["survivor"].tell("replace")
        self.answer("survivor", "updates")  # however long the disk takes for it
        self.check("after another update", (b"the survivor's\n",))
        directory, name = os.path.split(self.path())
        left = [entry for entry in os.listdir(directory) if name in entry and entry != name]
        if left:
            self.wrong("leak", f"{', '.join(left)} is left beside the file")


class _UpdateNew(_Update):
    situation = "of a file that is not there"
    first = None

    def frozen(self, victim: Victim, seen: Any) -> None:
        ObjectScenario.frozen(self, victim, seen)
        self.check("while it stands there", (None, self.new))


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
    _Update,
    _UpdateNew,
    _UpdateRecovering,
)
