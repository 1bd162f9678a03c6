"""The rest of the family: `with` beside the mutex's, `Event.is_set()`, and two reading processes."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable
from itertools import repeat
from types import ModuleType
from typing import Any

import syncx

from .children import Child, Connection
from .peers import FORK, Field, Open, inherited, ours, posix_ipc, posixipc, sysv_ipc
from .place import Place
from .samples import Section
from .settings import Settings
from .uncontended import measure, timed

OWN = "syncx.Mutex, one each"
OWN_READ = "syncx.RWLock.read(), one each"
READ = "syncx.RWLock.read(), one for both"
OWN_KEPT = "syncx.RWLock.read() kept, one each"
KEPT = "syncx.RWLock.read() kept, one for both"

_TURNS = 1000
"""Between two looks at the clock."""

Created = tuple[str, str, Callable[[Place], Open], str]
"""The row, its kind, how it is made, and the statement that uses it as `l`."""


def _peers(field: Field) -> list[Created]:
    rows: list[Created] = [
        ("multiprocessing.Semaphore", "peer", lambda _: inherited(FORK.Semaphore(1)), "with l: pass"),
        ("multiprocessing.BoundedSemaphore", "peer", lambda _: inherited(FORK.BoundedSemaphore(4)), "with l: pass"),
        ("multiprocessing.Condition", "peer", lambda _: inherited(FORK.Condition()), "with l: pass"),
    ]
    if theirs := field.modules.get("posixipc"):
        rows.append(
            (
                "posixipc.Semaphore",
                "peer",
                posixipc(theirs, lambda layout: layout.add(theirs.Semaphore)),
                "with l: pass",
            )
        )
        make = posixipc(theirs, lambda layout: layout.add(theirs.RWLock))
        rows.append(("posixipc.RWLock.read()", "peer", make, "with l.read(): pass"))
        rows.append(("posixipc.RWLock.write()", "peer", make, "with l.write(): pass"))
    if module := field.modules.get("posix_ipc"):
        rows.append(("posix_ipc.Semaphore", "peer", posix_ipc(module, 4), "with l: pass"))
    if module := field.modules.get("sysv_ipc"):
        rows.append(("sysv_ipc, SEM_UNDO", "peer", sysv_ipc(module, 4, undo=True), "with l: pass"))
    return rows


def _kept(view: str, place: Place) -> Open:
    open_it = ours(syncx.RWLock, place)
    return lambda: getattr(open_it(), view)()


def _with(field: Field, place: Place, settings: Settings) -> Section:
    section = Section("kinds", "uncontended `with` of each kind", "ns", "syncx.Mutex")
    rows: list[Created] = [("syncx.Mutex", "syncx", functools.partial(ours, syncx.Mutex), "with l: pass")]
    for name, make in (
        ("BinarySemaphore", syncx.BinarySemaphore),
        ("BoundedSemaphore", functools.partial(syncx.BoundedSemaphore, 4)),
        ("Semaphore", functools.partial(syncx.Semaphore, 1)),
        ("Condition", syncx.Condition),
    ):
        rows.append((f"syncx.{name}", "syncx", functools.partial(ours, make), "with l: pass"))
    for view in ("read", "write", "upgradable"):
        whole = functools.partial(ours, syncx.RWLock)
        rows.append((f"syncx.RWLock.{view}()", "syncx", whole, f"with l.{view}(): pass"))
        kept = functools.partial(_kept, view)
        rows.append((f"syncx.RWLock.{view}() kept", "syncx", kept, "with l: pass"))
    contestants = [("an empty loop", "floor", timed("pass", None, {}))]
    for name, kind, create, statement in [*rows, *_peers(field)]:
        contestants.append((name, kind, timed(statement, create(place)(), {})))
    measure(section, contestants, settings)
    return section


def _is_set(floors: ModuleType | None, place: Place, settings: Settings) -> Section:
    section = Section("is_set", "`event.is_set()`", "ns", "C method that does nothing")
    asked: list[tuple[str, str, Any]] = []
    if floors is not None:
        asked.append((section.baseline, "floor", floors.Nothing()))
    asked += [
        ("syncx.Event", "syncx", ours(syncx.Event, place)()),
        ("threading.Event", "peer", threading.Event()),
        ("multiprocessing.Event", "peer", FORK.Event()),
    ]
    contestants = [("an empty loop", "floor", timed("pass", None, {}))]
    contestants += [(name, kind, timed("l.is_set()", event, {})) for name, kind, event in asked]
    measure(section, contestants, settings)
    return section


def _with_lock(lock: Any) -> Callable[[], None]:
    def some() -> None:
        for _ in repeat(None, _TURNS):
            with lock:
                pass

    return some


def _with_read(lock: Any) -> Callable[[], None]:
    def some() -> None:
        for _ in repeat(None, _TURNS):
            with lock.read():
                pass

    return some


def _reader(open_it: Open, use: Callable[[Any], Callable[[], None]], cpu: int, connection: Connection) -> None:
    os.sched_setaffinity(0, {cpu})
    some = use(open_it())
    some()
    now = time.monotonic
    connection.send("ready")
    while True:
        start, end = connection.recv()
        time.sleep(max(0.0, start - now()))
        begun, count = now(), 0
        while (at := now()) < end:
            some()
            count += _TURNS
        connection.send(count / (at - begun))


def _readers(place: Place, settings: Settings, seconds: float, cpus: list[int]) -> Section:
    """Two processes, each on a CPU of its own; they stay for the whole section and work in turn with the others."""
    section = Section("readers", "2 processes on 2 CPUs, empty section", "ops/s", OWN, more_is_better=True)
    make_kept = functools.partial(_kept, "read")
    make_lock = functools.partial(ours, syncx.RWLock)
    make_mutex = functools.partial(ours, syncx.Mutex)
    Way = tuple[str, Callable[[Place], Open], bool, Callable[[Any], Callable[[], None]]]
    ways: list[Way] = [
        (OWN, make_mutex, False, _with_lock),
        (KEPT, make_kept, True, _with_lock),
        (OWN_KEPT, make_kept, False, _with_lock),
        (READ, make_lock, True, _with_read),
        (OWN_READ, make_lock, False, _with_read),
    ]
    with contextlib.ExitStack() as stack:
        pairs = []
        for name, create, shared, use in ways:
            first = create(place)
            pair = []
            for open_it, cpu in ((first, cpus[0]), (first if shared else create(place), cpus[-1])):
                child = Child(functools.partial(_reader, open_it, use, cpu))
                stack.callback(child.end)
                pair.append(child)
            for child in pair:
                child.receive()
            pairs.append((name, pair))
        for name, pair in settings.interleaved("family readers", settings.number(31, 3), pairs):
            start = time.monotonic() + 0.005
            for child in pair:
                child.send((start, start + seconds))
            section.add(name, sum(child.receive() for child in pair), "syncx")
    return section


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    sections = [_with(field, place, settings), _is_set(field.floors, place, settings)]
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) > 1:  # on one there is nothing to see
        sections.append(_readers(place, settings, 0.02 if settings.quick else 0.1, cpus))
    return sections
