"""A program that makes itself a daemon closes all descriptors, those of its locks among them."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import pytest

import syncx


def is_free(path: Path) -> bool:
    """For a program without syncx."""
    with open(path, "r+b") as f:
        try:
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@pytest.mark.parametrize("reused", [False, True])
def test_a_lock_whose_descriptor_was_closed(arena: syncx.Arena, child: Any, tmp_path: Path, reused: bool) -> None:
    """It is opened anew by its path; also where the number is another file's by then."""
    daemon = child(
        """
        first, second = (syncx.FileLock(path, arena=arena) for _ in range(2))
        number = first.fileno()
        os.close(number)
        if reused:
            assert os.open(path + ".other", os.O_RDWR | os.O_CREAT) == number
        for lock in (first, second):
            with lock:
                say(lock.held)
                hear()
            say("released")
            hear()
        say(first.fileno() == second.fileno() and (first.fileno() != number or not reused))
        """,
        path=str(tmp_path / "file"),
        reused=reused,
    )
    for _ in range(2):
        assert daemon.hear() is True
        assert not is_free(tmp_path / "file")
        daemon.say()
        assert daemon.hear() == "released"
        assert is_free(tmp_path / "file")
        daemon.say()
    assert daemon.hear() is True


def test_closed_while_held(arena: syncx.Arena, child: Any, tmp_path: Path) -> None:
    """The hold is lost; the next one is whole."""
    daemon = child(
        """
        lock = syncx.FileLock(path, arena=arena)
        lock.acquire()
        os.close(lock.fileno())
        say(lock.held)
        hear()
        lock.release()
        with lock:
            say(lock.held)
            hear()
        """,
        path=str(tmp_path / "file"),
    )
    assert daemon.hear() is True
    assert is_free(tmp_path / "file")
    daemon.say()
    assert daemon.hear() is True
    assert not is_free(tmp_path / "file")
    daemon.say()


def test_a_daemon(arena: syncx.Arena, child: Any, tmp_path: Path) -> None:
    """Forked, with all descriptors closed but its standard streams."""
    daemon = child(
        """
        lock = syncx.FileLock(path, arena=arena)
        if os.fork() == 0:
            os.closerange(3, 1024)
            with lock:
                say(lock.held)
                hear()
            say("done")
        else:
            os.wait()
        """,
        path=str(tmp_path / "file"),
    )
    assert daemon.hear() is True
    assert not is_free(tmp_path / "file")
    daemon.say()
    assert daemon.hear() == "done"


def test_without_a_path_it_says_so(arena: syncx.Arena, child: Any, tmp_path: Path) -> None:
    daemon = child(
        """
        with open(path, "w+b") as f:
            lock = syncx.RangeLock(f, 0, 10, arena=arena)
        os.close(lock.fileno())
        try:
            say(lock.acquire())
        except ValueError as e:
            say(str(e))
        say(lock.held)
        """,
        path=str(tmp_path / "file"),
    )
    assert "not open" in daemon.hear()
    assert daemon.hear() is False
