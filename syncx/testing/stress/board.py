"""The memory that all processes of a storm share beside the arena: who they are, what they do, what they have seen.

Nothing in it belongs to syncx.  Each word has one writer at a time: a thread writes its own row, and what lies under a
lock is written by who has that lock.  A word is stored as a whole, so a SIGKILL leaves it old or new.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["KILLED", "Board", "Journal", "Record", "read_journal"]

_SLOT_WORDS = 9
_TOKEN, _PID, _TID, _SINCE, _OPERATIONS, _WHAT, _SERIAL, _ENDING, _DEATHS = range(9)

RECORD = struct.Struct("=QHHIQqqq")
"""Nanoseconds of CLOCK_MONOTONIC; what happened; the call; the object; the thread; three numbers."""
RECORDS = 60_000
"""Room for so many, in a round, of each thread."""

BEGIN, END, BORN, DYING, ENDING, KILLED, STOPPED, CONTINUED, POINT = range(1, 10)


class Record(NamedTuple):
    """One line of a journal."""

    t: int
    code: int
    call: int
    obj: int
    token: int
    a: int
    b: int
    c: int


class Board:
    """Rows of words for the threads, words for the objects, and a journal for each thread.

    slots: how many threads can be alive at a time, the judge among them.
    words: how many words the objects need.
    """

    def __init__(self, slots: int, words: int) -> None:
        self.slots, self._words = slots, words
        self._head = 8
        fixed = 8 * (self._head + slots * (_SLOT_WORDS + 1) + words)
        self._journals = (fixed + 4095) & ~4095
        self.size = self._journals + slots * RECORDS * RECORD.size
        self.memory = mmap.mmap(-1, self.size)
        self.w = memoryview(self.memory)[:fixed].cast("q")
        self._rows = self._head
        self._heads = self._rows + slots * _SLOT_WORDS
        self.objects = self._heads + slots
        """The first word of the objects."""

    @property
    def over(self) -> bool:
        """The round ends: whoever sees it begins nothing more."""
        return self.w[0] != 0

    def end_round(self) -> None:
        self.w[0] = 1

    def begin_round(self) -> None:
        """All of it as at first.  Nobody else may be there."""
        for at in range(len(self.w)):
            self.w[at] = 0

    # ---- the threads ------------------------------------------------------------------------------------------------
    def enter(self, slot: int) -> int:
        """This thread is the one of that slot from now on; returns its token, which is of no other in this round."""
        at = self._rows + slot * _SLOT_WORDS
        self.w[at + _TOKEN] = 0
        self.w[at + _SERIAL] += 1
        token = self.w[at + _SERIAL] << 16 | slot + 1
        self.w[at + _SINCE] = 0
        self.w[at + _PID], self.w[at + _TID] = os.getpid(), threading.get_native_id()
        self.w[at + _TOKEN] = token
        return token

    def ends(self, slot: int) -> None:
        """The thread of that slot returns now, holding what it holds."""
        at = self._rows + slot * _SLOT_WORDS
        self.w[at + _SINCE] = 0
        self.w[at + _DEATHS] += 1
        self.w[at + _ENDING] = self.w[at + _TOKEN]

    def dies(self, slot: int) -> None:
        """The thread of that slot kills its process now; or the judge, whose slot it is, another one."""
        self.w[self._rows + slot * _SLOT_WORDS + _DEATHS] += 1

    def deaths(self) -> int:
        """How many have died in this round, or are about to."""
        return sum(self.w[self._rows + slot * _SLOT_WORDS + _DEATHS] for slot in range(self.slots))

    def leave(self, slot: int) -> None:
        """The thread of that slot ends in good order, or was found dead."""
        at = self._rows + slot * _SLOT_WORDS
        self.w[at + _SINCE] = self.w[at + _TOKEN] = 0

    def token(self, slot: int) -> int:
        return self.w[self._rows + slot * _SLOT_WORDS]

    def serial(self, slot: int) -> int:
        """How many threads have been in that slot in this round."""
        return self.w[self._rows + slot * _SLOT_WORDS + _SERIAL]

    def who(self, slot: int) -> tuple[int, int]:
        """pid and tid."""
        at = self._rows + slot * _SLOT_WORDS
        return self.w[at + _PID], self.w[at + _TID]

    def busy(self, slot: int, since: int, obj: int) -> None:
        """A call that may wait began then; 0: it is over."""
        at = self._rows + slot * _SLOT_WORDS
        self.w[at + _WHAT] = obj
        self.w[at + _SINCE] = since

    def waiting(self, slot: int) -> tuple[int, int]:
        """Since when it is in a call, in nanoseconds, and on which object; 0: in none."""
        at = self._rows + slot * _SLOT_WORDS
        return self.w[at + _SINCE], self.w[at + _WHAT]

    def count(self, slot: int) -> None:
        self.w[self._rows + slot * _SLOT_WORDS + _OPERATIONS] += 1

    def operations(self) -> int:
        return sum(self.w[self._rows + slot * _SLOT_WORDS + _OPERATIONS] for slot in range(self.slots))

    def gone(self, token: int) -> bool:
        """Has that thread ended, or is it just ending?  What the kernel says of it, not what syncx says.

        A thread that is killed gives its locks up, robust futexes and files, only after the kernel has set PF_EXITING
        in its flags.  One that ends by itself does so a moment earlier; it has said so (`ends`).
        """
        slot = (token & 0xFFFF) - 1
        if not 0 <= slot < self.slots or self.token(slot) != token:
            return True
        if self.w[self._rows + slot * _SLOT_WORDS + _ENDING] == token:
            return True
        pid, tid = self.who(slot)
        try:
            with open(f"/proc/{pid}/task/{tid}/stat", "rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return True
        return fields[0] in (b"Z", b"X") or bool(int(fields[6]) & 0x4) or self.token(slot) != token

    def describe(self, token: int) -> str:
        """The process and thread, and what the kernel says of all threads of that process."""
        pid, tid = self.who((token & 0xFFFF) - 1)
        seen = []
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/stat", "rb") as stat:
                    fields = stat.read().rpartition(b")")[2].split()
                pending = ", to be killed" if int(fields[28]) & 1 << signal.SIGKILL - 1 else ""
                seen.append(f"{task} {fields[0].decode()}{', exiting' if int(fields[6]) & 0x4 else ''}{pending}")
        return f"thread {tid} of {pid}: {'; '.join(seen) or 'gone'}"

    # ---- the journals -----------------------------------------------------------------------------------------------
    def journal(self, slot: int) -> Journal:
        return Journal(self.memory, self.w, self._heads + slot, self._journals + slot * RECORDS * RECORD.size)

    def raw(self, slot: int) -> bytes:
        """What that thread, and those before it in its slot, wrote in this round."""
        start = self._journals + slot * RECORDS * RECORD.size
        return self.memory[start : start + self.w[self._heads + slot] * RECORD.size]

    def full(self) -> bool:
        return any(self.w[self._heads + slot] > RECORDS - 2000 for slot in range(self.slots))

    def close(self) -> None:
        self.w.release()
        with contextlib.suppress(BufferError):
            self.memory.close()


class Journal:
    """Where one thread writes down what it does.  A record counts once the number of records says so."""

    def __init__(self, memory: mmap.mmap, w: memoryview, head: int, start: int) -> None:
        self._memory, self._w, self._head, self._start = memory, w, head, start

    def write(self, code: int, call: int, obj: int, token: int, a: int = 0, b: int = 0, c: int = 0) -> int:
        """Returns the time that it wrote down."""
        n = self._w[self._head]
        t = time.monotonic_ns()
        if n < RECORDS:
            RECORD.pack_into(self._memory, self._start + n * RECORD.size, t, code, call, obj, token, a, b, c)
            self._w[self._head] = n + 1
        return t


def read_journal(raw: bytes) -> Iterator[Record]:
    """The records of one journal, in their order."""
    return map(Record._make, RECORD.iter_unpack(raw))
