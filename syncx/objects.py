"""What lives in an arena, read without locking or changing anything."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from .errors import KIND_NAMES

if TYPE_CHECKING:
    from .arena import Arena

__all__ = ["Holder", "ObjectInfo", "Range", "Statistics", "objects"]


class Holder(NamedTuple):
    """A thread that holds or awaits something: pid and tid, each in its own pid namespace."""

    pid: int
    tid: int


class Range(NamedTuple):
    """A part of a file that is held."""

    start: int
    """The first byte."""
    length: int
    """How many bytes; 0: to the end of the file, however far it grows."""
    shared: bool
    """Beside other shared ones, or alone."""


class Statistics(TypedDict):
    """What `statistics()` of a lock, semaphore, ... returns: what happened to it since it was made, in any process."""

    acquisitions: int | None
    """How often it was taken: of a Mutex or RLock (the outermost hold), of an RWLock for writing or upgradable, of a
    Condition its own lock.  None: not counted, since several threads may take the object at once."""
    contended: int
    """Waits that slept."""
    waited: float
    """How long all of those that are over have slept together, in seconds."""
    longest_wait: float
    """How long the longest of them took, in seconds, rounded down by a thousandth at most."""
    recoveries: int
    """Holds taken over from a dead owner."""
    rescues: int
    """Wake-ups that only the 100 ms belt delivered; 0 where nobody died."""


class ObjectInfo(NamedTuple):
    """One object of an arena, as `Arena.objects()` saw it."""

    name: str | None
    """None: anonymous."""
    kind: str
    """The name of its class: "Mutex", "BoundedSemaphore", ..."""
    parameter: int
    """The value, parties or count it was made with; 0 where there is none."""
    value: int | None
    """Free units or permits; 1 for an event that is set or an initialisation that is done; how many have arrived at a
    barrier, None if it is broken; what a latch counts still; None for a lock."""
    holders: tuple[Holder, ...]
    """The live holders: of a lock one at most, of permits one for each, of a readers-writer lock its readers, of a
    barrier those who enrolled, of a `Once` the thread that runs the initialiser."""
    modes: tuple[str, ...]
    """What each holder has: "exclusive", "shared" (it reads) or "upgradable"."""
    owner_died: bool
    """An owner died and nobody has repaired the data since."""
    waiters: tuple[Holder, ...]
    """The threads asleep on it."""
    longest_wait: float
    """How long the first of them has waited, in seconds; 0.0 without waiters."""
    processes: int
    """How many processes have it open, dead ones included until they are collected."""
    created: float
    """When it was made, in seconds since the epoch."""
    contended: int
    """Acquisitions that had to sleep."""
    recoveries: int
    """Holds taken over from a dead owner."""
    rescues: int
    """Wake-ups that only the 100 ms belt delivered; 0 where nobody died."""

    @property
    def holder(self) -> Holder | None:
        """The first holder, or None."""
        return self.holders[0] if self.holders else None

    @property
    def state(self) -> str:
        """A word or two that fit its kind: "locked", "3 of 4 free", "set", "2 readers", ..."""
        return _STATES.get(self.kind, _lock_state)(self)


def _lock_state(o: ObjectInfo) -> str:
    return "locked" if o.holders else "owner died" if o.owner_died else "free"


def _rwlock_state(o: ObjectInfo) -> str:
    if not o.holders or "exclusive" in o.modes:
        return "writer" if o.holders else _lock_state(o)
    return f"{len(o.holders)} reader{'s' if len(o.holders) > 1 else ''}"


def _once_state(o: ObjectInfo) -> str:
    return "done" if o.value else "running" if o.holders else "not done"


_STATES: dict[str, Callable[[ObjectInfo], str]] = {
    "Semaphore": lambda o: f"{o.value} free",
    "BoundedSemaphore": lambda o: f"{o.value} of {o.parameter} free",
    "Event": lambda o: "set" if o.value else "not set",
    "Latch": lambda o: f"{o.value} of {o.parameter} to go" if o.value else "open",
    "Barrier": lambda o: "broken" if o.value is None else f"{o.value} of {o.parameter} waiting",
    "Once": _once_state,
    "RWLock": _rwlock_state,
}

_MODES = {0: "exclusive", 1: "shared", 2: "upgradable"}
"""enum sx_mode."""


def objects(arena: Arena) -> Iterator[ObjectInfo]:
    """The live objects of an arena, in the order of their places."""
    rows = arena._cells()
    places = [row[0] for row in rows]
    waiting: dict[int, list[tuple[int, Holder]]] = {}
    for _, pid, tid, waits, cell, _, since, *_ in arena._participants():
        if waits and cell:  # perhaps a mutex inside the object: the last place that is not beyond it
            place = places[bisect.bisect_right(places, cell) - 1] if places else 0
            waiting.setdefault(place, []).append((since, Holder(pid, tid)))
    now = time.monotonic_ns()
    for row in rows:
        cell, kind, name, parameter, value, owner_died, holders, processes, created, *counters = row
        contended, recoveries, rescues, _ = counters
        queue = sorted(waiting.get(cell, ()))
        yield ObjectInfo(
            name=name,
            kind=KIND_NAMES[kind],
            parameter=parameter,
            value=None if value < 0 else value,
            holders=tuple(Holder(pid, tid) for _, _, pid, tid, _ in holders),
            modes=tuple(_MODES.get(mode, "") for *_, mode in holders),
            owner_died=owner_died,
            waiters=tuple(holder for _, holder in queue),
            longest_wait=max(0.0, (now - queue[0][0]) / 1e9) if queue else 0.0,
            processes=processes,
            created=created / 1e9,
            contended=contended,
            recoveries=recoveries,
            rescues=rescues,
        )
