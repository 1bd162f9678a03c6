"""What the planner, the tracers and the template of `executioner` say to each other."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
from typing import Any, NamedTuple

__all__ = ["Refused", "Stretch", "Walks", "die_with_parent", "send"]

_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Refused(Exception):
    """What is told to the caller as a RuntimeError."""


class Stretch(NamedTuple):
    """Instructions between two system calls, among which the points lie."""

    calls: int
    first: int
    last: int


class Walks:
    """The planner's way to the tracers: each walk is done by a new one."""

    def __init__(self, asks: int, answers: int) -> None:
        self._asks, self._answers = asks, os.fdopen(answers, "rb")

    def __call__(self, what: str, *arguments: Any) -> Any:
        os.write(self._asks, b"+")
        send(self._asks, (what, arguments))
        kind, value = pickle.load(self._answers)
        if kind == "error":
            raise Refused(value)
        return value


def die_with_parent() -> None:
    """A forked child goes when the process that forked it does, however that ends."""
    _libc.prctl(_PDEATHSIG, signal.SIGKILL)


def send(pipe: int, what: object) -> None:
    data = pickle.dumps(what)
    while data:
        data = data[os.write(pipe, data) :]
