"""Decides where `kill_everywhere` kills its target: one walk after another, and points evenly spread over the holds."""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Iterator
from typing import Any

from .killing import Failure, KillReport, Order, name_of
from .walks import Refused, Stretch, Walks

__all__ = ["Planner"]


class Planner:
    """Decides where to kill, and keeps the report."""

    def __init__(self, order: Order, pipe: Any, walk: Walks) -> None:
        self.order = order
        self.pipe = pipe
        self.walk = walk
        self.report = KillReport(name_of(order.target))
        self.end = time.monotonic() + order.seconds

    def report_to(self, pipe: Any) -> None:
        try:
            self.run()
            pipe.send(("done", self.report))
        except Refused as e:
            pipe.send(("error", str(e)))
        except Exception:
            pipe.send(("error", traceback.format_exc()))

    def run(self) -> None:
        order, report = self.order, self.report
        if order.only is not None:
            calls, steps = map(int, order.only.split("."))
            self.kill_at(calls, steps)
            return
        held = self.walk("after_calls")
        report.calls = len(held) - 1
        after = [c for c in range(len(held)) if held[c] or order.everywhere]
        for calls in self.that_fit(after):
            self.kill_at(calls, 0)
            if self.enough():
                return
        stretches = self.survey(held)
        report.instructions = sum(s.last - s.first for s in stretches)
        if not report.points and not report.instructions:
            raise Refused(
                f"{report.target} never held a lock of ours that could be seen; where='everywhere' kills it all the "
                "same"
            )
        for calls, steps in self.points(stretches):
            self.kill_at(calls, steps)
            if self.enough():
                break

    def enough(self) -> bool:
        """Whether it may stop: harm enough was done, or with "auto" the time is over."""
        if len(self.report.failures) >= self.order.stop_after:
            return True
        over = self.order.every is None and time.monotonic() > self.end
        return over and self.report.instructions > 0

    def tell(self, part: float) -> None:
        """How far it has come."""
        if self.order.every is None:
            part = 1 - (self.end - time.monotonic()) / self.order.seconds
        self.pipe.send(("part", min(part, 1.0)))

    def survey(self, held: list[bool]) -> list[Stretch]:
        """The instructions among which points may lie; with "auto", as far as a part of the time allows."""
        every = list(range(len(held)))
        near = [c for c in every if held[c] or (c + 1 < len(held) and held[c + 1])]
        if self.order.everywhere or not near:  # it takes and releases between two calls
            near = every
        left = (self.end - time.monotonic()) / 2 if self.order.every is None else None
        found, self.report.unseen = self.walk("count", near, held, left)
        return list(found)

    def that_fit(self, calls: list[int]) -> list[int]:
        """With "auto" so many of them, evenly spread, as half the time is enough for: a few show what one takes."""
        if self.order.every is not None or len(calls) <= 4:
            return calls
        began, tried = time.monotonic(), [calls[len(calls) * n // 4] for n in range(4)]
        for c in tried:
            self.kill_at(c, 0)
        one = (time.monotonic() - began) / len(tried)
        rest = [c for c in calls if c not in tried]
        fits = int((self.end - time.monotonic()) / 2 / one)
        return rest if fits >= len(rest) else [rest[len(rest) * n // fits] for n in range(max(0, fits))]

    def points(self, stretches: list[Stretch]) -> Iterator[tuple[int, int]]:
        """Yields calls and steps of each, evenly spread; with "auto" so many as the time that is left is enough for."""
        total = self.report.instructions
        if total == 0:
            return
        at = random.Random(self.order.seed)
        every = self.order.every
        if every is None:
            began = time.monotonic()
            yield place(stretches, total // 2)
            every = max(1, int(total * (time.monotonic() - began) / max(0.1, self.end - time.monotonic())))
        self.report.every = every
        for base in range(0, total, every):
            self.tell(base / total)
            yield place(stretches, base if self.order.seed is None else min(total - 1, base + at.randrange(every)))

    def kill_at(self, calls: int, steps: int) -> None:
        """One kill and one check."""
        report = self.report
        found = self.walk("kill_at", calls, steps)
        if found is None:
            report.missed += 1
            return
        kill, told, error = found
        report.points += 1
        report.held += bool(kill.held)
        report.told += told
        report.kills.append(kill)
        if error is not None:
            report.failures.append(Failure(kill.point, kill.line, kill.held, error))
        self.tell(0.0)


def place(stretches: list[Stretch], n: int) -> tuple[int, int]:
    """The n-th instruction of these stretches."""
    for s in stretches:
        if n < s.last - s.first:
            return s.calls, s.first + n
        n -= s.last - s.first
    raise IndexError(n)
