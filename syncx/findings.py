"""What `syncx doctor` finds, and the tree of files in which it looks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["LEVELS", "Finding", "Tree", "size"]

LEVELS = ("ok", "note", "warning", "error")
"""From good to bad: nothing to do; to know; to be seen to; something does not work."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: str
    """One of `LEVELS`."""
    topic: str
    """What it belongs to: "kernel", "limits", "arena jobs", "System V", ..."""
    text: str
    """What it is, and what that means for syncx."""
    advice: str = ""
    """What to do; "" where there is nothing."""
    command: str = ""
    """The command that a person would run for it, if one command does it."""
    repair: Callable[[], str] | None = None
    """What `--fix` runs.  Returns what it has done in words, "" if there was nothing to do any more; raises OSError or
    SyncxError where it could not."""


class Tree:
    """The files under a root directory, "/" but in tests: /proc, /dev and /sys are looked up in it."""

    def __init__(self, root: str = "/") -> None:
        self.root = root.rstrip("/")

    def at(self, path: str) -> str:
        """Where an absolute path lies in the tree."""
        return self.root + path

    def read(self, path: str) -> str | None:
        """A small file as text; None where there is none, or none to be read."""
        try:
            with open(self.at(path), "rb") as f:
                return f.read().decode(errors="replace")
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        """The first word of a file as a whole number; None where that is not to be had."""
        words = (self.read(path) or "").split()
        return int(words[0]) if words and words[0].lstrip("-").isdigit() else None

    def names(self, path: str) -> list[str]:
        """The entries of a directory in order; empty where there is none."""
        try:
            return sorted(os.listdir(self.at(path)))
        except OSError:
            return []

    def inode(self, path: str) -> int | None:
        """Of what a path leads to, followed; None where it leads nowhere."""
        try:
            return os.stat(self.at(path)).st_ino
        except OSError:
            return None

    def lives(self, pid: int) -> bool:
        """Is there a process of that number?"""
        return pid > 0 and os.path.isdir(self.at(f"/proc/{pid}"))


def size(n: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if n < 1024 or unit == "TiB":
            break
        n /= 1024
    return f"{n:.0f} {unit}" if n >= 10 or n == int(n) else f"{n:.1f} {unit}"
