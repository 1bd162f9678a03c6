"""What a thread decides to do: a stream of decisions that a seed repeats.

Each operation gets a number of its own, drawn from (seed, round, process, incarnation, thread); all of its decisions
come from that number, and none from what the operation meets.  So the n-th operation of the same thread of a repeated
storm is the same one, whatever happened before; only how many of them there is time for is up to the machine.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Decision", "Dice", "Stream"]

OUTSIDE, INSIDE, STOP, SIGNAL, RAISE, FORK, EXEC, END_THREAD = range(1, 9)
"""What befalls a thread around an operation: killed by the judge at any instant, or by itself inside; stopped for a
while; a signal, or one whose handler raises; it forks a child that uses locks and exits, or is replaced by exec; the
thread ends while it holds a lock."""

_OTHERS = ((STOP, 3), (SIGNAL, 6), (RAISE, 8), (FORK, 2), (EXEC, 2))
"""Of 1,000 operations."""


class Dice:
    """Numbers, one after the other, from a single one: of at most 128 bits."""

    __slots__ = ("_left",)

    def __init__(self, bits: int) -> None:
        self._left = bits

    def __call__(self, n: int) -> int:
        """0 to n - 1."""
        self._left, drawn = divmod(self._left, n)
        return drawn


class Decision(NamedTuple):
    """What an operation is to be."""

    topic: str
    fate: int
    """0 or one of the numbers above."""
    delay: int
    """Microseconds: until the judge strikes, or for which it stops."""
    bits: int
    """For the dice of the operation itself."""


class Stream:
    """The decisions of one thread, or of a child (thread -1) it forks.

    kill: deaths in 1,000 operations.
    """

    def __init__(
        self, topics: Sequence[str], kill: float, seed: int, round: int, process: int, incarnation: int, thread: int
    ) -> None:
        self._random = random.Random(f"{seed} {round} {process} {incarnation} {thread}")
        self._topics = [t for t in topics for _ in range(1 if t in ("update", "once", "latch") else 3)]
        self._kill = kill / 1000

    def next(self) -> Decision:
        r = self._random
        topic = r.choice(self._topics)
        chance, which, delay, bits = r.random(), r.random(), r.random(), r.getrandbits(128)
        if chance < self._kill:
            fate = INSIDE if which < 0.4 else END_THREAD if which < 0.5 else OUTSIDE
            return Decision(topic, fate, round(3000 * delay * delay), bits)
        chance = (chance - self._kill) * 1000
        for fate, weight in _OTHERS:
            if chance < weight:
                return Decision(topic, fate, round(1000 + 60000 * delay * delay), bits)
            chance -= weight
        return Decision(topic, 0, 0, bits)
