"""What the tests of `syncx.update` share with the children they start: twins of it that are broken, file systems that
lack something, and kills between any two system calls."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support import until

import syncx


@contextmanager
def state_file(there: bool) -> Iterator[Path]:
    """The path of a file with the content "old", or of one to come; in memory, and in a directory of its own."""
    from singlestep import shared_directory

    with shared_directory() as directory:
        (directory / "d").mkdir()
        path = directory / "d" / "state"
        if there:
            path.write_text("old")
        yield path


def until_awaited(arena: syncx.Arena, n: int = 1) -> None:
    """Until so many threads wait for files."""
    until(lambda: sum(row[0] == "waiting" for row in arena._file_locks()) >= n, f"{n} threads wait for a file")


# ---- broken twins ----------------------------------------------------------------------------------------------------


@contextmanager
def in_place(path: str, mode: str = "w", **_: Any) -> Iterator[Any]:
    """Truncates and writes, under the lock."""
    with syncx.FileLock(path):
        with open(path, mode) as f:
            yield f


@contextmanager
def unlocked(path: str, mode: str = "w", **_: Any) -> Iterator[Any]:
    """Whole at any instant, but whoever comes may."""
    fresh = f"{path}.{threading.get_native_id()}"
    with open(fresh, mode) as f:
        yield f
    os.rename(fresh, path)


@contextmanager
def without_second_look(path: str, mode: str = "w", waits: Callable[[], object] = bool, **_: Any) -> Iterator[Any]:
    """Locks what the path named when it came, and does not ask what it names now.  `waits`: called before it does."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        waits()
        fcntl.fcntl(fd, 38, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))  # F_OFD_SETLKW
        fresh = f"{path}.{os.getpid()}"
        with open(fresh, mode) as f:
            yield f
        os.rename(fresh, path)
    finally:
        os.close(fd)


@contextmanager
def unsynced(path: str, mode: str = "w", **_: Any) -> Iterator[Any]:
    """Nobody sees a difference until the power fails."""
    with syncx.FileLock(path), unlocked(path, mode) as f:
        yield f


@contextmanager
def unlocked_when_named(path: str, mode: str = "w", arena: Any = None, **_: Any) -> Iterator[Any]:
    """Holds the lock of the old file to the end; that of the new one is free as soon as it has its name."""
    fresh = f"{path}.new"
    with syncx.FileLock(path, arena=arena):
        with open(fresh, mode) as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.rename(fresh, path)
        directory = os.open(os.path.dirname(path), os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


# ---- file systems that lack something --------------------------------------------------------------------------------


def refusing_tmpfile(path: Any, flags: int, *rest: Any, real: Any = os.open, **names: Any) -> int:
    """os.open where every file has a name, as on NFS."""
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    return real(path, flags, *rest, **names)


def refusing_link(*_: Any, **__: Any) -> None:
    """os.link where a file has one name, as on vfat."""
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def on(system: str) -> None:
    """In a child: makes its file system one that lacks something."""
    if system != "plain":
        os.open = refusing_tmpfile
    if system == "one name":
        os.link = refusing_link


# ---- many at once ----------------------------------------------------------------------------------------------------


def increment(update: Any, path: str, times: int) -> None:
    """Adds to a number in a JSON file, which need not be there."""
    for _ in range(times):
        with update(path) as f:
            state = {"n": 0}
            if os.path.exists(path):
                with open(path) as old:
                    state = json.loads(old.read() or '{"n": 0}')
            json.dump({"n": state["n"] + 1}, f)


class Updating:
    """A lock that is held while a file is updated: what finds overlapping holders can be asked about it."""

    def __init__(self, path: str, update: Any = syncx.update, **options: Any) -> None:
        self._enter = lambda: update(path, **options)

    def __enter__(self) -> Updating:
        self._block = self._enter()
        self._file = self._block.__enter__()
        self._file.write("whole")
        return self

    def __exit__(self, *exception: Any) -> None:
        self._block.__exit__(*exception)


# ---- SIGKILL between any two system calls ----------------------------------------------------------------------------

_TRACEME, _SINGLESTEP, _SYSCALL, _SETOPTIONS = 0, 9, 24, 0x4200
_SYSGOOD, _EXITKILL = 1, 0x100000
_libc = ctypes.CDLL(None, use_errno=True)


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    _libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    _libc.ptrace.restype = ctypes.c_long
    if _libc.ptrace(request, pid, None, data) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def killed_after(calls: int, steps: int, prepare: Callable[[], object], work: Callable[[], object]) -> int | None:
    """Forks a process that prepares and works, and kills it when its work has done so many system calls, and then so
    many instructions more.

    Returns how many calls it did, or None if it was killed before its end.  To be called in a child of the test.
    """
    pid = os.fork()
    if pid == 0:
        try:
            prepare()
            _ptrace(_TRACEME, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            work()
            os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            os._exit(1)
    done, entering, deliver = 0, True, 0
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSTOPPED(status), f"the victim ended before its work: {status:#x}"
    assert os.WSTOPSIG(status) == signal.SIGSTOP
    _ptrace(_SETOPTIONS, pid, _SYSGOOD | _EXITKILL)
    ended = False
    while not ended and (done < calls or steps):
        if done < calls:
            _ptrace(_SYSCALL, pid, deliver)
        else:
            _ptrace(_SINGLESTEP, pid, deliver)
            steps -= 1
        status = os.waitpid(pid, 0)[1]
        assert os.WIFSTOPPED(status), f"the victim ended in its work: {status:#x}"
        what, deliver = os.WSTOPSIG(status), 0
        if what == signal.SIGTRAP | 0x80:
            entering = not entering
            done += entering
        elif what == signal.SIGSTOP:
            ended = True
        elif what != signal.SIGTRAP:
            deliver = what
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    return done if ended else None
