"""What lives in an arena, read without locking or changing anything."""

from __future__ import annotations

import bisect
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from .errors import KIND_NAMES

if TYPE_CHECKING:
    from .arena import Arena

__all__ = ["Holder", "ObjectInfo", "objects"]


class Holder(NamedTuple):
    """A thread that holds or awaits something: pid and tid, each in its own pid namespace."""

    pid: int
    tid: int


class ObjectInfo(NamedTuple):
    """One object of an arena, as `Arena.objects()` saw it."""

    name: str | None
    """None: anonymous."""
    kind: str
    """The name of its class: "Mutex", "BoundedSemaphore", ..."""
    parameter: int
    """The value, parties or count it was made with; 0 where there is none."""
    value: int | None
    """Free units or permits; 1 for an event that is set; how many have arrived at a barrier; what a latch counts still;
    None for a lock."""
    holders: tuple[Holder, ...]
    """The live holders: of a lock one at most, of permits one for each, of a readers-writer lock its readers."""
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
            owner_died=owner_died,
            waiters=tuple(holder for _, holder in queue),
            longest_wait=max(0.0, (now - queue[0][0]) / 1e9) if queue else 0.0,
            processes=processes,
            created=created / 1e9,
            contended=contended,
            recoveries=recoveries,
            rescues=rescues,
        )
