"""flock(2) gives the old lock up before it looks whether the new one is to be had; an `upgrade()` must not."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import until

import syncx


class Stranger:
    """Another user of flock(2), without syncx: an open file description of its own."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)

    def may(self, kind: int) -> bool:
        try:
            fcntl.flock(self.fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def leave(self) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_UN)


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Callable[[], Stranger]]:
    made: list[Stranger] = []

    def make() -> Stranger:
        made.append(Stranger(tmp_path / "file"))
        return made[-1]

    yield make
    for s in made:
        os.close(s.fd)


def sleeps_for(path: Path) -> bool:
    """Does anybody sleep in the kernel for an exclusive flock on it?"""
    inode = f":{path.stat().st_ino}"
    rows = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return any(row[1:3] == ["->", "FLOCK"] and row[4] == "WRITE" and row[6].endswith(inode) for row in rows)


def test_the_kernel_loses_it(stranger: Callable[[], Stranger]) -> None:
    """The twin: what a failed upgrade leaves if nothing is done about it."""
    a, b, c = stranger(), stranger(), stranger()
    assert a.may(fcntl.LOCK_SH)
    assert b.may(fcntl.LOCK_SH)
    assert not a.may(fcntl.LOCK_EX)
    b.leave()
    assert c.may(fcntl.LOCK_EX)  # a has nothing any more


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_a_failed_upgrade_is_shared_still(
    arena: syncx.Arena, tmp_path: Path, stranger: Callable[[], Stranger], timeout: float
) -> None:
    reader, writer = stranger(), stranger()
    lock = syncx.FileLock(tmp_path / "file", shared=True, style="flock", arena=arena)
    assert reader.may(fcntl.LOCK_SH)
    with lock:
        assert lock.upgrade(timeout) is False
        assert lock.ranges == (syncx.Range(0, 0, True),)
        reader.leave()
        assert not writer.may(fcntl.LOCK_EX)
        assert writer.may(fcntl.LOCK_SH)
        writer.leave()
        assert lock.upgrade(timeout) is True
        assert not writer.may(fcntl.LOCK_SH)
    assert writer.may(fcntl.LOCK_EX)


@pytest.mark.parametrize("raises", [False, True])
def test_a_signal_in_an_upgrade(
    arena: syncx.Arena, child: Any, tmp_path: Path, stranger: Callable[[], Stranger], raises: bool
) -> None:
    """It sleeps in the kernel, without the shared lock.  A stranger that takes the file there ends the hold, and only
    if the wait is to end."""
    other = stranger()
    assert other.may(fcntl.LOCK_SH)
    upgrading = child(
        """
        def handler(number, frame):
            say("handler")
            if raises:
                raise InterruptedError

        signal.signal(signal.SIGUSR1, handler)
        lock = syncx.FileLock(path, shared=True, style="flock", arena=arena)
        lock.acquire()
        say("shared")
        try:
            say(lock.upgrade())
        except InterruptedError:
            say("raised")
        say([lock.held, [r.shared for r in lock.ranges]])
        """,
        path=str(tmp_path / "file"),
        raises=raises,
    )
    assert upgrading.hear() == "shared"
    until(lambda: sleeps_for(tmp_path / "file"), "it sleeps in the kernel")
    assert other.may(fcntl.LOCK_EX)  # so it has nothing now
    os.kill(upgrading.process.pid, signal.SIGUSR1)
    assert upgrading.hear() == "handler"
    if raises:
        assert upgrading.hear() == "raised"
        assert upgrading.hear() == [False, []]
    else:
        until(lambda: sleeps_for(tmp_path / "file"), "it sleeps again")
        other.leave()
        assert upgrading.hear() is True
        assert upgrading.hear() == [True, [False]]
        until(lambda: other.may(fcntl.LOCK_EX), "it has ended")
