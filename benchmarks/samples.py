"""What a run measures: sections of rows, one sample a round and row, and the statistics of them."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Summary:
    median: float
    q1: float
    q3: float
    n: int

    @classmethod
    def of(cls, values: list[float]) -> Summary | None:
        if not values:
            return None
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, q1, q3, len(values))


@dataclass
class Section:
    """One thing measured for several contestants.  `samples[row][i]` was taken in round i, None where it failed."""

    key: str
    title: str
    unit: str
    baseline: str
    """The row that the ratios are to."""
    more_is_better: bool = False
    samples: dict[str, list[float | None]] = field(default_factory=dict)
    shares: dict[str, list[float | None]] = field(default_factory=dict)
    """Of the least served process, as a part of the best served one's."""
    kinds: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def add(self, row: str, value: float | None, kind: str = "peer", share: float | None = None) -> None:
        self.kinds.setdefault(row, kind)
        self.samples.setdefault(row, []).append(value)
        if share is not None:
            self.shares.setdefault(row, []).append(share)

    def value(self, row: str) -> Summary | None:
        return Summary.of([v for v in self.samples.get(row, []) if v is not None])

    def share(self, row: str) -> Summary | None:
        return Summary.of([v for v in self.shares.get(row, []) if v is not None])

    def ratio(self, row: str, baseline: str | None = None) -> Summary | None:
        """Of the two samples of each round, and then the median: what slows a whole round cancels out."""
        pairs = zip(self.samples.get(row, []), self.samples.get(baseline or self.baseline, []), strict=False)
        return Summary.of([a / b for a, b in pairs if a is not None and b])

    def to_json(self) -> dict[str, Any]:
        def plain(s: Summary | None) -> dict[str, float] | None:
            return None if s is None else {"median": s.median, "q1": s.q1, "q3": s.q3, "n": s.n}

        return {
            "key": self.key,
            "title": self.title,
            "unit": self.unit,
            "baseline": self.baseline,
            "more_is_better": self.more_is_better,
            "rows": [
                {
                    "name": row,
                    "kind": self.kinds[row],
                    "value": plain(self.value(row)),
                    "ratio": plain(self.ratio(row)),
                    "share": plain(self.share(row)),
                    "note": self.notes.get(row),
                    "samples": self.samples[row],
                }
                for row in self.samples
            ],
        }
