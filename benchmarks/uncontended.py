"""One thread and a lock nobody else wants: `with`, acquire()/release(), and a failing acquire."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable
from itertools import repeat
from typing import Any

from .children import Child, Connection
from .peers import Field, Peer
from .place import Place
from .samples import Section
from .settings import Settings

Timed = Callable[[int], float]
"""Does it n times and returns the ns that it took."""

SAMPLE_NS = 2e6

_TEMPLATE = """
def timed(n, *, {locals}):
    turns = repeat(None, n)
    start = now()
    for _ in turns:
        {statement}
    return now() - start
"""


def timed(statement: str, lock: Any, names: dict[str, Any]) -> Timed:
    """A function of its own for each contestant, so that the interpreter's caches are too.

    The lock is its local variable `l`.  The loop is part of what it measures; the row "an empty loop" tells how much.
    """
    namespace: dict[str, Any] = {"repeat": repeat, "now": time.perf_counter_ns, "l": lock, **names}
    source = _TEMPLATE.format(
        locals=", ".join(f"{name}={name}" for name in namespace), statement=statement.replace("\n", "\n        ")
    )
    exec(source, namespace)
    return namespace["timed"]  # type: ignore[no-any-return]


def _calibrated(run: Timed) -> int:
    """How many times make about SAMPLE_NS; warms up too."""
    n = 1
    while (took := run(n)) < SAMPLE_NS / 4 and n < 1_000_000:
        n *= 4
    return max(1, int(n * SAMPLE_NS / max(took, 1)))


def measure(section: Section, contestants: list[tuple[str, str, Timed]], settings: Settings) -> None:
    counted = [(name, kind, run, _calibrated(run)) for name, kind, run in contestants]
    collecting = gc.isenabled()
    gc.disable()
    try:
        rounds = settings.number(101, 5)
        for name, kind, run, n in settings.interleaved(f"uncontended {section.key}", rounds, counted):
            section.add(name, run(n) / n, kind)
    finally:
        if collecting:
            gc.enable()


def _hold_all(opened: list[Callable[[], Any]]) -> Child:
    """A process that holds all the locks until it is ended."""

    def body(connection: Connection) -> None:
        locks = [open_it() for open_it in opened]
        for lock in locks:
            lock.acquire()
        connection.send(len(locks))
        connection.recv()

    child = Child(body)
    child.receive()
    return child


def _hold_in_thread(lock: Any) -> None:
    """threading.Lock: another thread takes it, and keeps it."""
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    empty = ("an empty loop", "floor", timed("pass", None, {}))
    nothing = field.floors.Nothing() if field.floors else None
    pure = (
        [
            ("CAS pair, in C alone", "floor", field.floors.cas_pairs),
            ("robust mutex, in C alone", "floor", field.floors.robust_pairs),
        ]
        if field.floors
        else []
    )
    sections = []
    locks = [(peer, peer.create(place)()) for peer in field.peers]
    for key, title, statement in (
        ("with", "uncontended `with lock: pass`", "with l: pass"),
        ("pair", "uncontended `lock.acquire(); lock.release()`", "l.acquire(); l.release()"),
    ):
        section = Section(key, title, "ns", "threading.Lock")
        contestants = [empty, *pure]
        if nothing is not None:
            contestants.append(("C object that does nothing", "floor", timed(statement, nothing, {})))
            if key == "with":
                slow = field.floors.NothingVarargs()
                contestants.append(("C object that does nothing, VARARGS", "floor", timed(statement, slow, {})))
        contestants += [(peer.name, peer.kind, timed(statement, lock, {})) for peer, lock in locks]
        measure(section, contestants, settings)
        sections.append(section)

    section = Section("failing", "`lock.acquire(blocking=False)` of a lock that another holds", "ns", "threading.Lock")
    contestants = [empty]
    if nothing is not None:
        contestants.append(("C object that does nothing", "floor", timed("l.acquire(blocking=False)", nothing, {})))
    opened: list[Callable[[], Any]] = []
    askable: list[Peer] = [peer for peer in field.peers if peer.failing]
    with contextlib.ExitStack() as stack:
        for peer in askable:
            open_it = peer.create(place)
            lock = open_it()
            peer.before_failing(lock)
            if peer.processes:
                opened.append(open_it)
            else:
                _hold_in_thread(lock)
            contestants.append((peer.name, peer.kind, timed(peer.failing, lock, peer.names)))
        holder = _hold_all(opened)
        stack.callback(holder.end)
        measure(section, contestants, settings)
    sections.append(section)
    return sections
