"""Programs that lock one file, each in a process of its own, seen from the test: `Party`, and the kinds there are."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support import PATIENCE, Child, until

HERE = Path(__file__).resolve().parent
MODES = {"x": "exclusive", "s": "shared"}


@dataclass(frozen=True)
class Kind:
    """A program, or a library's lock: how it is started, and what it can do."""

    label: str
    """As the page calls it."""
    start: tuple[str, ...]
    """For `neighbour.serve`; for `locker.c`: ("C", KIND); for flock(1): ("flock(1)",)."""
    modes: str = "xs"
    ranges: bool = False


OURS = {
    style: Kind(f'`style="{style}"`', ("syncx", style), ranges=style != "flock") for style in ("ofd", "flock", "posix")
}

NEIGHBOURS = {
    "C fcntl": Kind("C: `fcntl(F_SETLK)`", ("C", "posix"), ranges=True),
    "C lockf": Kind("C: `lockf()`", ("C", "lockf"), "x", ranges=True),
    "Python lockf": Kind("Python: `fcntl.lockf`", ("fcntl", "lockf"), ranges=True),
    "fasteners": Kind("fasteners: `InterProcessLock`", ("fasteners",), "x"),
    "fasteners rw": Kind("fasteners: `InterProcessReaderWriterLock`", ("fasteners-rw",)),
    "portalocker lockf": Kind("portalocker: `Lock`, with `LOCKER = fcntl.lockf`", ("portalocker", "lockf")),
    "sqlite3": Kind("sqlite3, on a database file", ("sqlite",)),
    "C ofd": Kind("C: `fcntl(F_OFD_SETLK)`", ("C", "ofd"), ranges=True),
    "C flock": Kind("C: `flock()`", ("C", "flock")),
    "Python flock": Kind("Python: `fcntl.flock`", ("fcntl", "flock")),
    "flock(1)": Kind("shell: `flock(1)`", ("flock(1)",)),
    "filelock": Kind("filelock: `FileLock`", ("filelock",), "x"),
    "portalocker": Kind("portalocker: `Lock`", ("portalocker",)),
}


def compile_locker(directory: Path) -> Path:
    """`locker.c`, as a program in that directory."""
    program = directory / "locker"
    if not program.exists():
        source = str(HERE / "locker.c")
        subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", source, "-o", str(program)], check=True, timeout=60)
    return program


class Party:
    """One of them at work on one file.

    `start` makes the processes: the `child` fixture, or Child itself.  Modes are "x" and "s"; a length of 0 reaches to
    the end of the file, as in the kernel.
    """

    def __init__(
        self, kind: Kind, path: str | os.PathLike[str], start: Callable[..., Child], build: Path, arena: str
    ) -> None:
        self.kind, self.path, self._start = kind, os.fspath(path), start
        self.pid = 0
        how, *more = kind.start
        if how == "flock(1)":
            return  # a process for each lock
        if how == "C":
            self._begin(f"{more[0]} {self.path}", command=(str(compile_locker(build)),))
            return
        if how == "syncx":
            more.append(arena)
        call = f"import sys; from interop.neighbour import serve; serve({how!r}, {self.path!r}, *{more!r})"
        self._begin(call, command=(sys.executable,))

    def _begin(self, code: str, command: tuple[str, ...]) -> None:
        self.process = self._start(code, command=command, prelude=False)
        self.pid = self.process.pid

    def _flock(self, mode: str, *options: str) -> None:
        """flock(1), as a process that says so when it has the lock, and keeps it until it hears something."""
        assert self.kind.start == ("flock(1)",)
        # -F: no second process that would keep the lock after flock's death
        self._begin("echo '[1]'; read line; true", command=("flock", *options, f"-{mode}", "-F", self.path, "sh"))

    def try_(self, mode: str = "x", start: int = 0, length: int = 0) -> bool:
        """Takes it at once or not at all."""
        if self.kind.start == ("flock(1)",):
            self._flock(mode, "-n", "-E", "75")
            try:
                self.process.hear()
            except AssertionError:
                if self.process.process.returncode != 75:  # what it is to say of a conflict
                    raise
                return False
            return True
        self.process.say(f"try {mode} {start} {length}")
        return bool(self.process.hear()[0])

    def ask(self, step: str) -> bool:
        """One of sqlite3's steps."""
        self.process.say(step)
        return bool(self.process.hear()[0])

    def wait(self, mode: str = "x", start: int = 0, length: int = 0, *, seconds: float | None = None) -> None:
        """Begins to wait, having been refused; `got` tells the end of it."""
        if self.kind.start == ("flock(1)",):
            assert seconds is None
            self._flock(mode)
            until(lambda: self.pid in blocked(self.path), "flock(1) is asleep")
            return
        self.process.say(f"{'wait' if seconds is None else f'within {seconds}'} {mode} {start} {length}")
        refused = self.process.hear()
        assert refused[0] == 0, f"{self.kind.label} got at once what is held"

    def got(self, timeout: float = PATIENCE) -> int:
        """When it had what it waited for, in ns of CLOCK_MONOTONIC; AssertionError if it did not get it."""
        answer = self.process.hear(timeout)
        assert answer[0] == 1, f"{self.kind.label} gave up"
        return int(answer[1]) if len(answer) > 1 else time.monotonic_ns()  # flock(1) tells no time

    def gave_up(self, timeout: float = PATIENCE) -> bool:
        return bool(self.process.hear(timeout)[0] == 0)

    def release(self) -> int:
        """Gives all back; the time before it did."""
        if self.kind.start == ("flock(1)",):
            before = time.monotonic_ns()
            self.process.finish()
            return before
        self.process.say("release")
        return int(self.process.hear()[1])

    def kill(self) -> int:
        """SIGKILL; the time of it."""
        self.process.kill()
        return int(self.process.killed * 1e9)


# ---- what the kernel says ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lock:
    """A lock as /proc tells it (proc_locks(5))."""

    family: str
    """POSIX, OFDLCK or FLOCK."""
    mode: str
    """READ or WRITE."""
    pid: int
    """-1 where the kernel names none."""
    first: int
    last: int | None
    """None: to the end."""


@functools.cache
def _device(directory: str) -> str:
    """The file system as /proc names it; st_dev is another one where it has subvolumes or layers."""
    best, found = -1, ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        _, _, device, _, point, *_ = line.split()
        if f"{directory}/".startswith(point.rstrip("/") + "/") and len(point) >= best:
            major, minor = map(int, device.split(":"))
            best, found = len(point), f"{major:02x}:{minor:02x}"
    return found


def _parse(path: str | os.PathLike[str], words: list[str]) -> Lock | None:
    family, _, mode, pid, place, first, last = words[:7]
    if place != f"{_device(os.path.dirname(os.path.realpath(path)))}:{os.stat(path).st_ino}":
        return None
    return Lock(family, mode, int(pid), int(first), None if last == "EOF" else int(last))


def locks_of(pid: int, path: str | os.PathLike[str]) -> set[Lock]:
    """What a process holds of a file, by its descriptors: unlike /proc/locks, each of these is told at one moment."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fdinfo").iterdir():
        for line in descriptor.read_text().splitlines():
            if line.startswith("lock:"):
                found.add(_parse(path, line.split()[2:]))
    return {lock for lock in found if lock is not None}


def blocked(path: str | os.PathLike[str]) -> list[int]:
    """The processes that sleep in the kernel for a lock on the file; -1 for a wait for an OFD lock.

    /proc/locks is read in pieces while others change it: a line may be there twice, or not at all.  Ask again.
    """
    found = []
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()[1:]
        if words[0] == "->" and (lock := _parse(path, words[1:])) is not None:
            found.append(lock.pid)
    return found
