"""What the journals say of deadlocks: was there one when somebody was told, and was only one of its members told?"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Span", "false_verdicts"]


class Span(NamedTuple):
    """A thread that held an object, perhaps, or waited for it without a time limit; from when until when at most."""

    token: int
    begin: int
    end: int


Circle = frozenset[Span]
"""The waits that it is made of."""


def false_verdicts(
    told: Mapping[int, Sequence[Span]], waits: Mapping[int, Sequence[Span]], holds: Mapping[int, Sequence[Span]]
) -> Iterator[tuple[int, str]]:
    """The objects and what was wrong.

    told: of each object the waits for it that ended in a DeadlockError; waits: all of them, those too; holds: as the
    journals know it.  What may have been so counts as so: whoever is complained of was told wrongly for sure.
    """
    by_thread: dict[int, list[tuple[Span, int]]] = defaultdict(list)
    for obj, spans in waits.items():
        for span in spans:
            by_thread[span.token].append((span, obj))
    for mine in by_thread.values():  # one after the other
        mine.sort()
    only: dict[Circle, int] = {}
    for obj, spans in sorted(told.items()):
        for span in spans:
            circles = _seen_by(span, obj, by_thread, holds)
            if circles is None:
                continue
            if not circles:
                yield obj, f"{span.token:#x} was told of a deadlock at {span.end}, and there was none"
            elif len(circles) == 1:
                (circle,) = circles
                if circle in only:
                    yield obj, f"{span.token:#x} and {only[circle]:#x} were both told of one deadlock, at {span.end}"
                only[circle] = span.token


_Waits = Mapping[int, Sequence[tuple[Span, int]]]
_Holds = Mapping[int, Sequence[Span]]


def _seen_by(span: Span, obj: int, waits: _Waits, holds: _Holds) -> set[Circle] | None:
    """The deadlocks of which that wait may have been told; None: too many ways to go.

    One stands until it is told, for nobody in it can do anything, and the one that is told still holds what it held:
    unless one of them has died, it is there at the end of the wait.
    """
    circles = set(_circles(span, obj, waits, holds, span.end, 1000) or ())
    if circles:
        return circles
    found = _circles(span, obj, waits, holds, span.begin, 2000)
    return None if found is None else set(found)


def _circles(start: Span, obj: int, waits: _Waits, holds: _Holds, since: int, most: int) -> list[Circle] | None:
    """All ways from who waits to who holds that may have come round at one instant of that wait, from `since` on.

    most: so many steps; None if they do not suffice.
    """
    found: list[Circle] = []
    stack: list[tuple[int, tuple[Span, ...], int, int]] = [(obj, (start,), since, start.end)]
    while stack:
        if most < 0:
            return None
        wanted, way, begin, end = stack.pop()
        most -= 1
        for hold in holds.get(wanted, ()):
            low, high = max(begin, hold.begin), min(end, hold.end)
            if low > high:
                continue
            if hold.token == start.token:
                if len(way) > 1:
                    found.append(frozenset(way))
            elif all(hold.token != other.token for other in way):
                mine = waits.get(hold.token, ())
                last = bisect_right(mine, high, key=lambda w: w[0].begin)
                for wait, what in mine[bisect_left(mine, low, key=lambda w: w[0].end) : last]:
                    stack.append((what, (*way, wait), max(low, wait.begin), min(high, wait.end)))
    return found
