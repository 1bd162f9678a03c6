"""Values and objects that no call expects, each by a name, so that what was tried can be told and tried again.

Some do something when they are asked for their number, truth, path or text: they close, release or drop what the call
is about.  `Scene` is what they have at hand.
"""

from __future__ import annotations

import array
import ctypes
import gc
import io
import mmap
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


class Mischief(Exception):
    """Raised by a hostile object: a call may pass it on."""


@dataclass
class Scene:
    """What a call is about."""

    directory: str
    arena: Any
    subject: Any = None
    memory: Any = None
    """A memoryview of 8,192 bytes that belong to nobody else."""
    taken: bool = False
    """A hostile object took the subject."""


DEEDS: dict[str, Callable[[Scene], object]] = {
    "nothing": lambda s: None,
    "raises": lambda s: _raise(),
    "closes it": lambda s: s.subject.close(),
    "releases it": lambda s: s.subject.release(),
    "takes it": lambda s: _take(s),
    "opens it anew": lambda s: s.subject.__init__(),
    "closes the arena": lambda s: s.arena.close(),
    "frees the memory": lambda s: s.memory.release(),
    "collects": lambda s: gc.collect(),
    "drops it": lambda s: setattr(s, "subject", None),
}
"""What a hostile object does when it is asked."""


def _take(scene: Scene) -> None:
    scene.taken = True
    scene.subject.acquire(timeout=0.001)


def _raise() -> None:
    raise Mischief("raised by a hostile object")


def _do(scene: Scene, deed: str) -> None:
    try:
        DEEDS[deed](scene)
    except Mischief:
        raise
    except (Exception, SystemError) as e:
        if isinstance(e, (SystemError, MemoryError)):
            raise
        del e  # it cannot be done to this subject, or not now


class Asked:
    """Does a deed when it is asked for anything, and answers with a given value."""

    def __init__(self, scene: Scene, deed: str, answer: Any) -> None:
        self._scene, self._deed, self._answer = scene, deed, answer

    def _reply(self, *_: Any) -> Any:
        _do(self._scene, self._deed)
        return self._answer

    __index__ = __int__ = __float__ = __bool__ = __fspath__ = __str__ = __repr__ = __hash__ = __len__ = _reply  # type: ignore
    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __iter__ = fileno = __call__ = __enter__ = _reply  # type: ignore


class Buffer(Asked):
    """... and for its memory, which Python asks for by `__buffer__` from 3.12 on."""

    def __buffer__(self, flags: int) -> memoryview:
        self._reply()
        return memoryview(bytearray(8192)) if self._answer is None else self._answer


class Dropped:
    """Uses the subject when it goes."""

    def __init__(self, scene: Scene, deed: str) -> None:
        self._scene, self._deed = scene, deed

    def __del__(self) -> None:
        try:
            _do(self._scene, self._deed)
        except Mischief:
            self._deed = "done"


class Text(str):
    """A str that is none of the exact type, and compares as it likes."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise Mischief("not to be compared")

    def __hash__(self) -> int:
        raise Mischief("not to be hashed")


class Number(int):
    """An int that lies about itself."""

    def __index__(self) -> int:
        return -1

    def __int__(self) -> int:
        raise Mischief("no int")

    def __lt__(self, other: object) -> bool:
        return True

    __gt__ = __le__ = __ge__ = __lt__  # type: ignore[assignment]


class Real(float):
    """A float that lies about itself."""

    def __float__(self) -> float:
        raise Mischief("no float")

    def __lt__(self, other: object) -> bool:
        return True

    __gt__ = __le__ = __ge__ = __lt__  # type: ignore[assignment]


def _released() -> memoryview:
    view = memoryview(bytearray(4096))
    view.release()
    return view


def _closed_file(scene: Scene) -> Any:
    f = open(f"{scene.directory}/data", "rb")  # noqa: SIM115
    f.close()
    return f


def _closed_descriptor(scene: Scene) -> int:
    fd = os.open(scene.directory, os.O_RDONLY)
    os.close(fd)
    return fd


def _nested() -> list[Any]:
    a: list[Any] = []
    a.append(a)
    return a


def _generator() -> Iterator[int]:
    yield 1


def _aligned(scene: Scene, more: int) -> Any:
    """A bytearray that says nothing of where it begins."""
    memory = bytearray(4096 + more)
    ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return memory


NUMBERS = (
    -1, 0, 1, 2, 63, 64, 255, 256, 4096, 65535, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63,
    (1 << 64) - 1, 1 << 64, -(1 << 31), -(1 << 63), -(1 << 63) - 1, 10**400, True, False,
    0.0, -0.0, 0.5, -0.5, 1e-300, 5e-324, 1e9, 1e18, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 1j,
)  # fmt: skip
TEXTS = (
    "", " ", "x", "0", "raise", "recover", "exclusive", "\0", "a\0b", "\ud800", "a\udcff", "\n", "a\tb", "/", "//",
    "a/", "a/b", "/dev/null", "/proc/self/mem", "/nonexistent/x", ".", "..", "./", "x" * 255, "x" * 256, "é" * 127,
    "é" * 128, "x" * 5000, "x" * 300_000, "\U0001f512", "\u202eabc", "data", "%s%n", "{0}",
)  # fmt: skip
PLAIN: dict[str, Callable[[Scene], Any]] = {
    **{f"number {n!r:.40}": lambda s, n=n: n for n in NUMBERS},  # type: ignore[misc]
    **{f"text {t[:20]!r} of {len(t)}": lambda s, t=t: t for t in TEXTS},  # type: ignore[misc]
    "None": lambda s: None,
    "Ellipsis": lambda s: ...,
    "NotImplemented": lambda s: NotImplemented,
    "a class": lambda s: int,
    "its class": lambda s: type(s.subject),
    "a module": lambda s: sys,
    "a function": lambda s: len,
    "a generator": lambda s: _generator(),
    "an exception": lambda s: ValueError("x"),
    "object()": lambda s: object(),
    "a list": lambda s: [1],
    "a list of itself": lambda s: _nested(),
    "a dict": lambda s: {"a": 1},
    "a tuple": lambda s: (1, 2),
    "a slice": lambda s: slice(None, None, -1),
    "bytes": lambda s: b"x",
    "no bytes": lambda s: b"",
    "many bytes": lambda s: bytes(1 << 16),
    "bytes with NUL": lambda s: b"a\0b",
    "a bytearray": lambda s: _aligned(s, 0),
    "a tiny bytearray": lambda s: bytearray(8),
    "memory": lambda s: s.memory,
    "memory, odd": lambda s: s.memory[1:],
    "memory, strided": lambda s: s.memory[::2],
    "memory, backwards": lambda s: s.memory[::-1],
    "memory, read-only": lambda s: s.memory.toreadonly(),
    "memory of shorts": lambda s: s.memory.cast("H"),
    "memory in two dimensions": lambda s: s.memory.cast("B", (64, 128)),
    "memory, released": lambda s: _released(),
    "an array": lambda s: array.array("d", [0.0] * 1024),
    "an mmap": lambda s: mmap.mmap(-1, 8192),
    "an mmap, private": lambda s: mmap.mmap(-1, 8192, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS),
    "the subject": lambda s: s.subject,
    "the arena": lambda s: s.arena,
    "a file": lambda s: f"{s.directory}/data",
    "a directory": lambda s: s.directory,
    "a closed file": _closed_file,
    "a closed descriptor": _closed_descriptor,
    "a descriptor": lambda s: 0,
    "a BytesIO": lambda s: io.BytesIO(b"x"),
    "a subclass of str": lambda s: Text("x"),
    "a subclass of int": lambda s: Number(1),
    "a subclass of float": lambda s: Real(0.001),
}
ANSWERS: dict[str, Callable[[Scene], Any]] = {
    "None": lambda s: None,
    "0": lambda s: 0,
    "1": lambda s: 1,
    "0.001": lambda s: 0.001,
    "True": lambda s: True,
    "a text": lambda s: "data",
    "bytes": lambda s: b"data",
    "nan": lambda s: float("nan"),
    "2**70": lambda s: 1 << 70,
    "itself": lambda s: s,
    "memory": lambda s: s.memory,
}


def values() -> dict[str, Callable[[Scene], Any]]:
    """All of them, by name."""
    found = dict(PLAIN)
    for deed in DEEDS:
        for answer, made in ANSWERS.items():
            found[f"asked, {deed}, answers {answer}"] = lambda s, d=deed, m=made: Asked(s, d, m(s))  # type: ignore[misc]
        found[f"a buffer that {deed}"] = lambda s, d=deed: Buffer(s, d, None)  # type: ignore[misc]
        found[f"dropped, {deed}"] = lambda s, d=deed: Dropped(s, d)  # type: ignore[misc]
    return found


VALUES = values()
