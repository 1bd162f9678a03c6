"""Workers for test_kill_everywhere.py, in a module that the process which kills can import."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import syncx

WHOLE = 10


def start(path: Path) -> None:
    """Two accounts, as they are before each run."""
    path.write_text("5 5")


def pay(path: Path, write: Any) -> None:
    a, b = map(int, path.read_text().split())
    write(f"{a - 1} {b + 1}")


def in_place(path: Path) -> None:
    """The broken one: the lock is there, but nothing mends what a death leaves."""
    with syncx.Mutex("accounts"):
        pay(path, path.write_text)


def updated(path: Path) -> None:
    """The same with `update`."""
    with syncx.Mutex("accounts"):
        a, b = map(int, path.read_text().split())
        with syncx.update(path) as f:
            f.write(f"{a - 1} {b + 1}")


def in_place_with_a_copy(path: Path) -> None:
    """The same in place; a copy lets the next one mend it."""
    with syncx.Mutex("accounts") as lock:
        if lock.owner_died:
            os.replace(f"{path}.copy", path)
        text = path.read_text()
        Path(f"{path}.new").write_text(text)
        os.replace(f"{path}.new", f"{path}.copy")
        pay(path, path.write_text)


def is_whole(path: Path) -> None:
    with syncx.Mutex("accounts").within(5):
        assert sum(map(int, path.read_text().split())) == WHOLE


def is_whole_or_mended(path: Path) -> None:
    with syncx.Mutex("accounts").within(5) as lock:
        if lock.owner_died and os.path.exists(f"{path}.copy"):
            os.replace(f"{path}.copy", path)
        assert sum(map(int, path.read_text().split())) == WHOLE


def leaves_a_flag(path: Path) -> None:
    """A soft lock: a file that a death leaves behind."""
    with syncx.Mutex("accounts"):
        os.close(os.open(f"{path}.lock", os.O_CREAT | os.O_EXCL))
        os.unlink(f"{path}.lock")


def waits_for_the_flag(path: Path) -> None:
    while os.path.exists(f"{path}.lock"):
        time.sleep(0.01)


def no_flag(path: Path) -> None:
    Path(f"{path}.lock").unlink(missing_ok=True)


MEMORY = syncx.Mutex()
"""Anonymous: of the process that imports this, and of those that it forks."""


def in_memory() -> None:
    """Holds between two system calls only."""
    with MEMORY:
        "accounts".upper()


def can_be_had() -> None:
    assert MEMORY.acquire(timeout=5)
    MEMORY.release()


def fails() -> None:
    raise ZeroDivisionError("the target's own")


def nothing() -> None:
    """A check that is content, or a setup with nothing to do."""
