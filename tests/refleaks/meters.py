"""What is counted before and after the rounds of a scene, and when a growth is called a leak."""

from __future__ import annotations

import collections
import ctypes
import gc
import itertools
import os
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncx import _core

EXACT = {"descriptors", "threads", "names", "cells"}
"""Meters of which not one may be left over; the others are Python's and glibc's, which keep a little of their own."""

BYTES = {"C heap": 4096, "heap of cells": 4096, "resident": 8 << 20, "mapped": 8 << 20}
"""Meters that count bytes, and what is free: resident and mapped are told by the kernel in pages, and malloc takes more
than it gives out."""

Reading = dict[str, int]
PAGE = os.sysconf("SC_PAGE_SIZE")

COUNTED = hasattr(sys, "gettotalrefcount") and _core.__file__.endswith(str(sysconfig.get_config_var("EXT_SUFFIX")))
"""Whether every reference is counted: by a debug build of Python, if the core was compiled for it.  (A debug build
loads a core made for an ordinary one as well, which does not count.)"""


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def _c_heap() -> Callable[[], int] | None:
    """How many bytes malloc has given out and not got back; None where glibc is older than 2.33."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        return None
    mallinfo2.restype = _Mallinfo2

    def bytes_in_use() -> int:
        info = mallinfo2()
        return int(info.uordblks + info.hblkhd)

    return bytes_in_use


_in_c = _c_heap()

KEPT: list[Any] = [None, True, False, NotImplemented, Ellipsis, (), "", b"", 0, 1]
KEPT += [value for value in vars(_core).values() if isinstance(value, type) or callable(value)]
"""Singletons, the core's types and functions: a reference too many to one of them takes no memory, so it is counted
here.  (None and its like are immortal from Python 3.12 on.)"""


def reading(arena: Any = None) -> Reading:
    """All meters, after a collection; with an arena, also what of it is in use."""
    for _ in range(3):
        gc.collect()
    if arena is not None:
        arena.collect()
    now: Reading = {}
    now["mapped"], now["resident"] = (int(n) * PAGE for n in Path("/proc/self/statm").read_text().split()[:2])
    now["mappings"] = Path("/proc/self/maps").read_text().count("\n")
    now["descriptors"] = len(os.listdir("/proc/self/fd"))
    now["threads"] = len(os.listdir("/proc/self/task"))
    if arena is not None:
        used = arena.statistics()
        now["names"], now["heap of cells"] = used["names"], used["cell_bytes"]
        now["cells"] = len(arena._cells())
    now["kept"] = sum(map(sys.getrefcount, KEPT))
    if _in_c is not None:
        now["C heap"] = _in_c()
    now["objects"] = len(gc.get_objects())
    now["blocks"] = sys.getallocatedblocks()
    if COUNTED:
        now["references"] = sys.gettotalrefcount()
    return now


def kinds() -> collections.Counter[str]:
    """The objects that the collector knows, by type: says what has leaked."""
    return collections.Counter(type(o).__qualname__ for o in gc.get_objects())


def allowed(meter: str, rounds: int) -> int:
    """By how much it may grow in so many rounds: less than one unit a round by far, more than an odd cache."""
    if meter in EXACT:
        return 0
    if meter == "mappings":
        return 3
    if meter in BYTES:
        return BYTES[meter] + (2 * rounds if "heap" in meter else 0)
    return max(8, rounds // 50)


def grown(before: Reading, after: Reading, rounds: int, own: Reading | None = None) -> dict[str, int]:
    """The meters that grew by more than is allowed; `own` is what a reading itself takes."""
    more = {m: after[m] - before[m] - (own or {}).get(m, 0) for m in before}
    return {m: n for m, n in more.items() if n > allowed(m, rounds)}


@dataclass
class Found:
    """What a scene's rounds left behind: nothing, if `grew` is empty."""

    scene: str
    rounds: int
    seconds: float
    grew: dict[str, int] = field(default_factory=dict)
    """Meter and growth over the second half of the rounds."""
    kinds: dict[str, int] = field(default_factory=dict)
    """Types of which there are more objects than before."""

    def __str__(self) -> str:
        if not self.grew:
            return f"{self.scene}: nothing left in {self.rounds} rounds"
        what = ", ".join(f"{n} {m}" for m, n in self.grew.items())
        types = ", ".join(f"{n} {t}" for t, n in self.kinds.items())
        return f"{self.scene}: {self.rounds} rounds left {what}" + (f" ({types})" if types else "")


def _grows(once: Callable[[], Any], half: int, arena: Any) -> dict[str, int]:
    """What grew in both halves.  Its readings are gone when it returns, and do not look like less in the next one."""
    readings = [reading(arena) for _ in range(3)][1:]
    own = {m: max(0, readings[1][m] - readings[0][m]) for m in readings[0]}  # what a reading itself takes
    for _ in range(2):
        for _ in range(half):
            once()
        readings.append(reading(arena))
    first, second = (grown(a, b, half, own) for a, b in itertools.pairwise(readings[1:]))
    return {m: n for m, n in second.items() if m in first}


def watch(scene: str, once: Callable[[], Any], rounds: int, arena: Any = None, attempts: int = 3) -> Found:
    """Runs a scene's rounds in two halves: what leaks grows in both of them, and in each of three attempts.

    What grows once and for all (a cache, a thread that is about to end) is no leak, and does not do that.
    """
    began, half = time.monotonic(), max(1, rounds // 2)
    for _ in range(max(20, min(200, rounds // 10))):
        once()
    for _ in range(attempts):
        grew = _grows(once, half, arena)
        if not grew:
            break
    more: dict[str, int] = {}
    if grew:
        before = kinds()
        for _ in range(half):
            once()
        gc.collect()
        more = {t: n for t, n in (kinds() - before).items() if n > max(4, half // 50)}
    return Found(scene, 2 * half, time.monotonic() - began, grew, more)
