"""The same in sub-interpreters: thousands of rounds in one, and many interpreters, each made, used and destroyed."""

from __future__ import annotations

import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any

from .crowd import Said
from .meters import allowed, reading
from .objects import own_name, world

try:
    if sys.version_info >= (3, 13):
        import _interpreters
    else:
        import _xxsubinterpreters as _interpreters
except ImportError:
    _interpreters = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parents[2]

ROUNDS = """
import sys
sys.path[:0] = [{root!r}]
from tests.refleaks import errors, objects
from tests.refleaks.meters import watch
from tests.refleaks.objects import world
found = []
with world({name!r}) as w:
    for title, scene in {{**objects.scenes(), **errors.scenes()}}.items():
        if {only!r} in title and title not in {without!r}:
            found.append(watch(title, scene(w), max(40, {rounds} // errors.SLOW.get(scene, 1)), w.arena))
with open({told!r}, "w") as f:
    f.write("\\n".join(str(x) for x in found if x.grew))
    f.write("\\n" + str(len(found)))
"""

USE = """
import syncx
with syncx.Arena({path!r}, create=False) as arena:
    with syncx.Mutex("x", arena=arena) as m, syncx.RLock(arena=arena), syncx.Semaphore(arena=arena):
        try:
            m.acquire()
        except syncx.DeadlockError:
            pass
    with syncx.RWLock("rw", arena=arena).read(), syncx.Condition(name="c", arena=arena):
        syncx.Event(arena=arena).wait(0)
    assert syncx.Once(arena=arena).run(list) == []
"""

CONTROL = """
import os, pickle, logging, threading
"""

MEASURES = ("descriptors", "threads", "mappings", "C heap", "resident", "names", "cells")

WITHOUT = ("interrupted", "closed", "process")
"""What needs the main thread of the main interpreter, or would be told of by its logger."""


def create(own_gil: bool) -> Any:
    """A new interpreter, with its own GIL or with the one of this one."""
    if sys.version_info >= (3, 13):
        return _interpreters.create("isolated" if own_gil else "legacy")
    return _interpreters.create(isolated=own_gil)


def run_in(interpreter: Any, code: str) -> None:
    """Runs code there; RuntimeError with what it raised."""
    error = _interpreters.run_string(interpreter, code)
    if error is not None:
        raise RuntimeError(str(error))


def one(own_gil: bool, code: str) -> None:
    interpreter = create(own_gil)
    try:
        run_in(interpreter, code)
    finally:
        _interpreters.destroy(interpreter)


def kinds() -> dict[str, bool]:
    """Those that this Python has: name, and whether each has a GIL of its own."""
    return {"shared GIL": False, **({"own GIL": True} if sys.version_info >= (3, 12) else {})}


def growth(own_gil: bool, code: str, times: int, arena: Any) -> dict[str, float]:
    """What so many interpreters, one after the other, leave behind each, in the better of the last two quarters: what
    leaks does so in both, what malloc takes once for all does not."""
    readings, part = [], max(1, times // 4)
    for _ in range(4):
        for _ in range(part):
            one(own_gil, code)
        readings.append(reading(arena))
    steps = list(itertools.pairwise(readings[1:]))
    return {m: min((b[m] - a[m]) / part for a, b in steps) for m in MEASURES if m in readings[0]}


def run(rounds: int, times: int, only: str = "") -> Said:
    """Both parts, for interpreters that share the GIL and for those that have their own."""
    said = Said()
    if _interpreters is None:
        print("this Python has no sub-interpreters")
        return said
    name = f"{own_name()}-inside"
    scenes = 0
    for kind, own_gil in kinds().items():
        began = time.monotonic()
        told = f"/tmp/{name}.{os.getpid()}"
        one(own_gil, ROUNDS.format(root=str(ROOT), name=name, only=only, rounds=rounds, without=WITHOUT, told=told))
        with open(told) as f:
            *leaks, count = f.read().splitlines()
        os.unlink(told)
        scenes += int(count)
        said.leaks += [f"in a sub-interpreter, {kind}: {leak}" for leak in leaks if leak]
        print(f"{time.monotonic() - began:7.1f} s  {count} scenes in a sub-interpreter, {kind}", flush=True)
        with world(name) as w:
            used = growth(own_gil, USE.format(path=w.arena.path), times, w.arena)
            bare = growth(own_gil, CONTROL, times, w.arena)
        for meter, n in used.items():
            beyond = n - bare.get(meter, 0)  # what CPython itself leaves
            free = {"C heap": 4096, "resident": 1 << 20}.get(meter, allowed(meter, 1) / max(1, times // 4))
            if beyond > free:
                said.leaks.append(f"{kind}: each of {times} interpreters left {beyond:g} {meter}")
        print(
            f"{time.monotonic() - began:7.1f} s  {times} interpreters, {kind}: each left "
            + ", ".join(f"{n:g} {m} ({bare[m]:g} without us)" for m, n in used.items()),
            flush=True,
        )
    said.figures = {"scenes in sub-interpreters": scenes, "interpreters": 2 * times * len(kinds())}
    return said
