"""Latencies of millions of operations in a few hundred numbers, and what a storm has come to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Histogram", "Outcome"]

_FINE = 4
"""Bits: a value is known to one part in 16."""


class Histogram:
    """How many values of about which size."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.most = 0

    def add(self, value: int) -> None:
        shift = max(value.bit_length() - _FINE - 1, 0)
        key = shift << (_FINE + 1) | value >> shift
        self.counts[key] = self.counts.get(key, 0) + 1
        self.most = max(self.most, value)

    def extend(self, values: Iterable[int]) -> None:
        for value in values:
            self.add(value)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @staticmethod
    def _low(key: int) -> int:
        return (key & ((2 << _FINE) - 1)) << (key >> (_FINE + 1))

    def at(self, part: float) -> int:
        """The value below which that part of all lies: 0.5 is the median; 0 where there are none."""
        left = part * self.total
        for key in sorted(self.counts, key=self._low):
            left -= self.counts[key]
            if left <= 0:
                return min(self._low(key), self.most)
        return self.most

    def bars(self) -> list[tuple[int, int]]:
        """From the least to the greatest: where each power of two begins, and how many values are from there on."""
        powers: dict[int, int] = {}
        for key, count in self.counts.items():
            low = self._low(key)
            power = 1 << max(low.bit_length() - 1, 0)
            powers[power] = powers.get(power, 0) + count
        return sorted(powers.items())


@dataclass
class Outcome:
    """What a storm has come to: plain fields, and what is wrong in `live`, `replayed` and `watched`."""

    seed: int
    processes: int
    threads: int
    kill: float
    topics: list[str]
    budget: float
    """Seconds it was to take: how long its rounds are comes of it, so the decisions do."""
    seconds: float = 0.0
    """That it took."""
    rounds: int = 0
    calm_rounds: int = 0
    operations: int = 0
    by_topic: dict[str, int] = field(default_factory=dict)
    """Takings that succeeded."""
    deaths: int = 0
    """Processes killed, and threads that ended while they held something."""
    told: int = 0
    """Recoveries: who got a lock and was told that its owner had died."""
    deadlocks: int = 0
    """That were told to one of their members."""
    stops: int = 0
    signals: int = 0
    forks: int = 0
    records: int = 0
    """Of the journals, replayed."""
    rescues: int = 0
    """Wake-ups that died with a thread, and were made good within 100 ms."""
    waits: dict[str, Histogram] = field(default_factory=dict)
    progress: Histogram = field(default_factory=Histogram)
    live: list[str] = field(default_factory=list)
    """What was found wrong by the words beside the objects."""
    replayed: list[str] = field(default_factory=list)
    """And by the replay of the journals."""
    watched: list[str] = field(default_factory=list)
    """And by the judge: who hangs, crashes, or was rescued though nobody had died."""
    evidence: list[str] = field(default_factory=list)
    """Who held and awaited what at that moment."""
    timeline: list[tuple[float, int, int]] = field(default_factory=list)
    """At the end of each round: seconds, operations and deaths until then."""
    interrupted: bool = False

    @property
    def violations(self) -> int:
        """How much is wrong; 0 is what a storm is to come to."""
        return len(self.live) + len(self.replayed) + len(self.watched)

    @property
    def all_waits(self) -> Histogram:
        """The `waits` of all topics in one histogram."""
        merged = Histogram()
        for h in self.waits.values():
            for key, count in h.counts.items():
                merged.counts[key] = merged.counts.get(key, 0) + count
            merged.most = max(merged.most, h.most)
        return merged
