"""Where the processes of a history write down what they do: shared memory, so that it survives whoever is killed.

Each thread has a ring of its own.  Of a call first its name and arguments are written, then the time; afterwards the
result, the marks, and last the time again: a time that is there says that all before it is.  The clock is
CLOCK_MONOTONIC, the same for all processors, which the vDSO reads without a system call.
"""

from __future__ import annotations

import mmap
import time
from typing import Any

from .history import DEATH, NEVER, UNKNOWN, Call

SLOTS = 16
"""Threads in a history, at most."""

CALLS = 64
"""Calls of one thread, at most."""

# what is in the header of a ring
READY, STARTED, FINISHED, BROKEN = range(4)
HEADER = 8
# what is in an entry
NAME, ARGUMENTS, INVOKED, RETURNED, KIND, VALUES, MARKS, ENTRY = 0, 1, 5, 6, 7, 8, 10, 12
NOTHING, NONE, ONE, TWO, RAISED = 0, 1, 2, 3, 10
UNTIMED = -1
RING = HEADER + CALLS * ENTRY

EXCEPTIONS = (
    "NotOwner",
    "ValueError",
    "OwnerDiedError",
    "BrokenBarrierError",
    "DeadlockError",
    "Timeout",
    "RuntimeError",
    "Undone",
)
"""Exceptions that are results.  Any other ends the process, and the history is a failure."""


class Rings:
    """The memory, with a few words for all in front."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, 8 * (HEADER + SLOTS * RING))
        self.words = memoryview(self._map).cast("q")

    def of(self, slot: int) -> Ring:
        start = HEADER + slot * RING
        return Ring(self.words[start : start + RING])


class Ring:
    """The calls of one thread."""

    def __init__(self, words: memoryview) -> None:
        self.words = words
        self._at = HEADER

    def clear(self) -> None:
        self.words[:] = memoryview(bytes(8 * RING)).cast("q")

    def rewind(self) -> None:
        self._at = HEADER

    def begin(self, name: int, arguments: tuple[int, ...]) -> None:
        words, at = self.words, self._at
        if at + ENTRY > RING:
            raise OverflowError(f"a thread has more than {CALLS} calls in one history")
        words[at + NAME] = name
        for i, a in enumerate(arguments):
            words[at + ARGUMENTS + i] = a
        words[STARTED] += 1
        words[at + INVOKED] = time.monotonic_ns()

    def mark(self, which: int) -> None:
        self.words[self._at + MARKS + which] = time.monotonic_ns()

    def end(self, result: Any) -> None:
        now = time.monotonic_ns()
        words, at = self.words, self._at
        if result is None:
            words[at + KIND] = NONE
        elif isinstance(result, str):
            words[at + KIND] = RAISED + EXCEPTIONS.index(result)
        else:
            for i, v in enumerate(result):
                words[at + VALUES + i] = v
            words[at + KIND] = ONE + len(result) - 1
        words[at + RETURNED] = now
        self._at = at + ENTRY

    def last_time(self) -> int:
        """The latest time that was written down; 0: none."""
        entries = range(HEADER, RING, ENTRY)
        return max(max(self.words[at + INVOKED], self.words[at + RETURNED]) for at in entries)

    def calls(
        self, who: int, process: int, names: tuple[tuple[str, int], ...], death: tuple[int, int] | None
    ) -> list[Call]:
        """What has been written down.

        names: of the operations, each with the number of its arguments; the last one is a time limit in microseconds
        where the name begins with "~".  death: before and after it, if the process was killed.
        """
        calls = []
        for at in range(HEADER, RING, ENTRY):
            w = self.words[at : at + ENTRY].tolist()
            if w[INVOKED] == 0:
                break
            name, n = names[w[NAME]]
            arguments = tuple(w[ARGUMENTS : ARGUMENTS + n])
            late = w[INVOKED]
            if name.startswith("~"):
                late = NEVER if arguments[-1] == UNTIMED else late + 1000 * arguments[-1]
            over = w[RETURNED] != 0
            kind = w[KIND]
            result: Any
            if not over:
                result = UNKNOWN
            elif kind >= RAISED:
                result = EXCEPTIONS[kind - RAISED]
            else:
                result = None if kind == NONE else tuple(w[VALUES : VALUES + kind - ONE + 1])
            marks = {}
            if w[MARKS] or not over:
                marks = {"begun": w[MARKS] or NEVER, "ended": w[MARKS + 1] or NEVER}
            returned = w[RETURNED] if over else death[1] if death else NEVER
            if marks.get("begun", 0) == NEVER:
                marks["begun"] = returned
            calls.append(Call(who, process, name.lstrip("~"), arguments, w[INVOKED], returned, result, late, marks))
            if not over:
                break
        if death is not None:
            calls.append(Call(who, process, DEATH, (), death[0], death[1], None))
        return calls
