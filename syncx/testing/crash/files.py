"""File locks: the kernel frees what a dead process held, and whoever waits in the arena goes on with it.

As what one holds at a time, in all situations of `situations`.
"""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from ...arena import Arena
from ...filelock import FileLock, RangeLock
from .locks import LockScenario, Subject
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
    "locks_file",
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
def locks_file(pid: int, inode: int) -> bool:
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
        return any(h.pid == pid and h.range is not None and locks_file(pid, h.range.inode) for h in seen.holds)

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


SCENARIOS: tuple[Any, ...] = tuple(
    scenario for subject in (Ofd, Range, _Flock, Posix, _Shared) for scenario in file_scenarios_of(subject)
)
