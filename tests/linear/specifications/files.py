"""Files: ranges of bytes, records that are appended, contents that are replaced."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from ..history import DEATH, Call
from ..search import Specification, State
from .common import NO, WAITS, YES, Outcomes

BYTES = 8
"""As many bytes of the file are told from each other; a length of 0 reaches to the last."""

SHARED, EXCLUSIVE = 1, 2


def covered(start: int, length: int) -> range:
    return range(start, start + length if length else BYTES)


class Ranges(Specification):
    """Locks on bytes of a file, shared or exclusive, of threads.

    State: (thread, mode of each byte), and the same of those who are known to wait.  A call that waits stands back for
    those who waited before ("newcomers stand back until it has the range"), and so its time may be over though nothing
    is held; a try never does.  acquire(start, length, shared, timeout); lock_range(the same) adds to what is held.
    """

    def initial(self) -> State:
        return (), ()

    def apply(self, state: Any, call: Call, stage: str) -> Outcomes:
        holds, line = state
        who = call.who
        mine = dict(holds).get(who)
        others = [(w, m) for w, m in holds if w != who]
        ahead = tuple((w, m) for w, m in line if w != who)

        def holding(modes: tuple[int, ...] | None) -> State:
            return tuple(sorted([*others, *([(who, modes)] if modes is not None else [])])), ahead

        def with_mode(mode: int, start: int, length: int) -> tuple[int, ...]:
            at = covered(start, length)
            return tuple(mode if b in at else m for b, m in enumerate(mine or (0,) * BYTES))

        def meets(modes: tuple[int, ...], whose: Any) -> bool:
            return any(a and b and EXCLUSIVE in (a, b) for _, m in whose for a, b in zip(m, modes, strict=True))

        if call.name == DEATH:
            yield None, holding(None)
        elif mine is None and call.name != "acquire":
            yield "NotOwner", state
        elif call.name == "release":
            yield None, holding(None)
        elif call.name == "unlock_range":
            yield None, holding(with_mode(0, *call.arguments))
        elif call.name == "downgrade":
            yield None, holding(tuple(min(m, SHARED) for m in mine))
        elif call.name == "acquire" and mine is not None:
            yield NO, state, "late"
        else:
            *which, timeout = call.arguments
            if call.name == "upgrade":
                wanted = tuple(EXCLUSIVE if m else 0 for m in mine)
                if meets(wanted, others) and mine and meets(mine, ahead):  # another one upgrades what this one reads
                    yield "DeadlockError", (holds, ahead)
            else:
                wanted = with_mode(SHARED if which[2] else EXCLUSIVE, *which[:2])
            if not meets(wanted, others):
                yield YES, holding(wanted)
            if meets(wanted, others) or (timeout and meets(wanted, ahead)):
                yield NO, (holds, ahead), "late"
                if not stage:
                    yield WAITS, (holds, tuple(sorted((*ahead, (who, wanted)))))


def record_text(number: int) -> bytes:
    """The record of that number, as append() writes it: their lengths differ."""
    return b"%d" % number * (1 + number % 3) + b"\n"


class Append(Specification):
    """A file of records, each whole: append(number) gives the offset, read() the size and a sum of the content."""

    def initial(self) -> State:
        return b""

    def apply(self, state: bytes, call: Call, stage: str) -> Outcomes:
        if call.name == "append":
            yield (len(state),), state + record_text(call.arguments[0])
        elif call.name == "read":
            yield (len(state), crc32(state)), state
        else:
            yield None, state


class Update(Specification):
    """A file that is replaced as a whole: update(number) adds to what it reads, and tells what it has read."""

    def initial(self) -> State:
        return b""

    def apply(self, state: bytes, call: Call, stage: str) -> Outcomes:
        if call.name == "update":
            yield (len(state), crc32(state)), state + record_text(call.arguments[0])
        elif call.name == "read":
            yield (len(state), crc32(state)), state
        else:
            yield None, state
