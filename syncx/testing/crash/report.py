"""What came of the sweeps: a table for each primitive, the findings and how to repeat them, the figures."""

from __future__ import annotations

import platform
import shlex
import time
from typing import Any

from ...terminal import Screen, duration
from .places import where_is
from .sweep import Finding, Sweep

__all__ = ["Report"]

_KINDS = ("hang", "two holders", "lost permit", "lost wake-up", "told", "late")
"""Columns of the table; every other kind is "other"."""
_HEADINGS = ("hangs", "double holders", "lost permits", "lost wake-ups", "told wrongly", "late", "other")


def _percentile(ordered: list[float], part: float) -> float:
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else 0.0


class Report:
    """All results of a run."""

    def __init__(self, mode: str, stride: int = 1, most: int | None = None) -> None:
        self.mode = mode
        self.how = (
            f"--mode {mode}" + (f" --stride {stride}" if stride > 1 else "") + (f" --most {most}" if most else "")
        )
        self.sweeps: list[Sweep] = []
        self.failed: dict[str, str] = {}
        """Scenarios whose worker did not come to a result, with what it said."""
        self.left_out: list[str] = []
        self.interrupted = False
        self._began = time.monotonic()

    def add(self, swept: Sweep) -> None:
        self.sweeps.append(swept)

    @property
    def failures(self) -> int:
        return sum(len(s.findings) for s in self.sweeps) + len(self.failed)

    def counts(self, swept: list[Sweep]) -> list[int]:
        """How many findings there are of each kind, in the order of the headings."""
        kinds = [f.kind for s in swept for f in s.findings]
        return [*(kinds.count(k) for k in _KINDS), sum(k not in _KINDS for k in kinds)]

    def by_primitive(self) -> dict[str, list[Sweep]]:
        groups: dict[str, list[Sweep]] = {}
        for swept in self.sweeps:
            groups.setdefault(swept.scenario.partition(".")[0], []).append(swept)
        return dict(sorted(groups.items()))

    # ---- for people -------------------------------------------------------------------------------------------------
    def tell_finding(self, screen: Screen, finding: Finding) -> None:
        place = where_is(finding.place)
        screen.say(f"{finding.scenario} at {finding.point}, {place}: {finding.kind}: {finding.sentence}", "red")
        screen.say(
            f"  again: syncx stress --kill-every-instruction --mode {finding.mode} "
            f"--only {shlex.quote(finding.scenario)} --point {finding.point}"
        )

    def tell(self, screen: Screen) -> None:
        rows = []
        groups = self.by_primitive()
        for name, swept in [*groups.items(), ("all", self.sweeps)]:
            ordered = sorted(x for s in swept for x in s.latencies)
            rows.append(
                [
                    name,
                    str(len(swept)),
                    f"{sum(s.points for s in swept):,}",
                    f"{sum(s.slept for s in swept):,}",
                    *(str(n) for n in self.counts(swept)),
                    *(duration(_percentile(ordered, p)) if ordered else "-" for p in (0.5, 0.99, 1.0)),
                ]
            )
        screen.table(
            ("primitive", "scenarios", "points", "after a sleep", *_HEADINGS, "p50", "p99", "max"),
            rows,
            right=range(1, 6 + len(_HEADINGS) + 1),
        )
        for name, said in self.failed.items():
            screen.say(f"{name}: the harness failed: {said}", "red")
        if self.left_out:
            screen.say(f"left out, for the time was over: {len(self.left_out)} scenarios")
        unfinished = [s.scenario for s in self.sweeps if not s.whole]
        if unfinished:
            screen.say(f"not to the end: {', '.join(unfinished)}")
        again = sum(s.late for s in self.sweeps)
        if again:
            screen.say(f"{again} points had to be tried again: a survivor was late, as on a busy machine")
        took = duration(time.monotonic() - self._began)
        screen.say(
            f"mode {self.mode}: {sum(s.points for s in self.sweeps):,} points in {took}, {self.failures} failures"
        )
        if self.interrupted:
            screen.say("interrupted: what had been swept by then is counted")

    # ---- for programs ------------------------------------------------------------------------------------------------
    def figures(self) -> dict[str, Any]:
        ordered = sorted(x for s in self.sweeps for x in s.latencies)
        names = [h.replace(" ", "_").replace("-", "_") for h in _HEADINGS]
        primitives = {}
        for name, swept in self.by_primitive().items():
            primitives[name] = {
                "scenarios": len(swept),
                "points": sum(s.points for s in swept),
                "instructions": sum(s.instructions for s in swept),
                "after_a_sleep": sum(s.slept for s in swept),
                **dict(zip(names, self.counts(swept), strict=True)),
            }
        return {
            "command": f"syncx stress --kill-every-instruction {self.how}",
            "seconds": round(time.monotonic() - self._began, 1),
            "figures": {
                "points": sum(s.points for s in self.sweeps),
                "scenarios": len(self.sweeps),
                "instructions": sum(s.instructions for s in self.sweeps),
                "after_a_sleep": sum(s.slept for s in self.sweeps),
                **dict(zip(names, self.counts(self.sweeps), strict=True)),
                "tried_again": sum(s.late for s in self.sweeps),
                "left_out": len(self.left_out),
                "not_to_the_end": sum(not s.whole for s in self.sweeps),
                "latency_p50_us": round(_percentile(ordered, 0.5) * 1e6, 1),
                "latency_p99_us": round(_percentile(ordered, 0.99) * 1e6, 1),
                "latency_max_ms": round(_percentile(ordered, 1.0) * 1e3, 3),
                "latencies": len(ordered),
            },
            "failures": self.failures,
            "interrupted": self.interrupted,
            "machine": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
            "primitives": primitives,
            "scenarios": {
                s.scenario: {"points": s.points, "instructions": s.instructions, "seconds": round(s.seconds, 1)}
                for s in self.sweeps
            },
            "findings": [vars(f) for s in self.sweeps for f in s.findings],
            "failed": self.failed,
        }
