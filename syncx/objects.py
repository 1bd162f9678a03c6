"""What lives in an arena, read without locking or changing anything."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from .errors import KIND_NAMES

if TYPE_CHECKING:
    from .arena import Arena

__all__ = ["Holder", "ObjectInfo", "objects"]

# the layout of a word, as syncx/_core/layout.h has it
OWNER_DIED = 0x04
FLAGS = 0xFF
SLOT = 0xFFFF00


class Holder(NamedTuple):
    """A thread that holds or awaits something: pid and tid, each in its own pid namespace."""

    pid: int
    tid: int


class ObjectInfo(NamedTuple):
    """One object of an arena, as `Arena.objects()` saw it."""

    name: str | None
    """None: anonymous."""
    kind: str
    """"Mutex" or "RLock"."""
    holder: Holder | None
    """The live holder."""
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


def objects(arena: Arena) -> Iterator[ObjectInfo]:
    """The live objects of an arena, in the order of their places."""
    waiting: dict[int, list[tuple[int, Holder]]] = {}
    people: dict[int, Holder] = {}
    for ident, pid, tid, waits, cell, _, since, _ in arena._participants():
        people[ident] = Holder(pid, tid)
        if waits:
            waiting.setdefault(cell, []).append((since, people[ident]))
    now = time.monotonic_ns()
    for cell, kind, name, word, _, processes, created, contended, recoveries, rescues, alive, _ in arena._cells():
        queue = sorted(waiting.get(cell, ()))
        yield ObjectInfo(
            name=name,
            kind=KIND_NAMES[kind],
            holder=people.get(word & ~FLAGS) if alive else None,
            owner_died=bool(word & OWNER_DIED) or (bool(word & SLOT) and not alive),
            waiters=tuple(holder for _, holder in queue),
            longest_wait=max(0.0, (now - queue[0][0]) / 1e9) if queue else 0.0,
            processes=processes,
            created=created / 1e9,
            contended=contended,
            recoveries=recoveries,
            rescues=rescues,
        )
