"""What came of the sweeps: a table for each primitive, the findings and how to repeat them, the figures."""

from __future__ import annotations

import platform
import shlex
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ...terminal import Screen, duration
from .places import where_is
from .sweep import Finding, Sweep

__all__ = ["Report"]

_COLUMNS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("hangs", "hangs", ("hang",)),
    ("double_holders", "double holders", ("two holders",)),
    ("lost_permits", "lost or doubled permits", ("lost permit", "doubled permit")),
    ("lost_wake_ups", "lost wake-ups", ("lost wake-up",)),
    ("told_wrongly", "told wrongly", ("told",)),
    ("late", "late", ("late",)),
)
"""Name of the figure, heading in the table, kinds of findings; every other kind is "other"."""
_NAMES = (*(name for name, _, _ in _COLUMNS), "other")
_HEADINGS = (*(heading for _, heading, _ in _COLUMNS), "other")


def _percentile(ordered: list[float], part: float) -> float:
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else 0.0


class Report:
    """All results of a run.

    mode: where the victims die.
    arguments: of the command, as they were given.
    modules: those of --from, without which a finding of theirs cannot be repeated.
    wanted: names of all scenarios that are to be swept.
    """

    def __init__(
        self, mode: str, arguments: Sequence[str] = (), modules: Sequence[str] = (), wanted: Sequence[str] = ()
    ) -> None:
        self.mode = mode
        # a module of --from is looked for where the command is run, as `python -m` does
        self.program = "python -m syncx.testing.crash" if modules else "syncx stress --kill-every-instruction"
        self.command = " ".join([self.program, *map(shlex.quote, _without_json(arguments))])
        self.modules = tuple(modules)
        self.wanted = tuple(wanted)
        self.sweeps: list[Sweep] = []
        self.failed: dict[str, str] = {}
        """Scenarios whose worker did not come to a result, with what it said."""
        self.interrupted = False
        self._began = time.monotonic()

    def add(self, swept: Sweep) -> None:
        self.sweeps.append(swept)

    @property
    def failures(self) -> int:
        return sum(len(s.findings) for s in self.sweeps) + len(self.failed)

    @property
    def left_out(self) -> list[str]:
        """Scenarios that were wanted and came to no result: the time was over, or the run was interrupted."""
        begun = {s.scenario for s in self.sweeps} | self.failed.keys()
        return [name for name in self.wanted if name not in begun]

    def counts(self, swept: list[Sweep]) -> list[int]:
        """How many findings there are of each kind, in the order of the headings."""
        kinds = [f.kind for s in swept for f in s.findings]
        counted = [sum(kinds.count(k) for k in column) for _, _, column in _COLUMNS]
        return [*counted, len(kinds) - sum(counted)]

    def by_primitive(self) -> dict[str, list[Sweep]]:
        groups: dict[str, list[Sweep]] = {}
        for swept in self.sweeps:
            groups.setdefault(swept.scenario.partition(".")[0], []).append(swept)
        return dict(sorted(groups.items()))

    # ---- for people -------------------------------------------------------------------------------------------------
    def tell_finding(self, screen: Screen, finding: Finding) -> None:
        place = where_is(finding.place)
        screen.say(f"{finding.scenario} at {finding.point}, {place}: {finding.kind}: {finding.sentence}", "red")
        modules = "".join(f"--from {shlex.quote(m)} " for m in self.modules)
        screen.say(
            f"  again: {self.program} {modules}--mode {finding.mode} "
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
            why = "it was interrupted" if self.interrupted else "the time was over"
            screen.say(f"left out, for {why}: {len(self.left_out)} scenarios")
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
        primitives = {}
        for name, swept in self.by_primitive().items():
            primitives[name] = {
                "scenarios": len(swept),
                "points": sum(s.points for s in swept),
                "instructions": sum(s.instructions for s in swept),
                "after_a_sleep": sum(s.slept for s in swept),
                **dict(zip(_NAMES, self.counts(swept), strict=True)),
            }
        return {
            "command": self.command,
            "seconds": round(time.monotonic() - self._began, 1),
            "figures": {
                "points": sum(s.points for s in self.sweeps),
                "scenarios": len(self.sweeps),
                "instructions": sum(s.instructions for s in self.sweeps),
                "after_a_sleep": sum(s.slept for s in self.sweeps),
                **dict(zip(_NAMES, self.counts(self.sweeps), strict=True)),
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
            "left_out": self.left_out,
        }


def _without_json(arguments: Sequence[str]) -> Iterator[str]:
    """Where the figures were written to is no part of the command that makes them."""
    words = iter(arguments)
    for word in words:
        option, equals, _ = word.partition("=")
        if option not in ("--js", "--jso", "--json"):  # argparse takes an option's beginning as well
            yield word
        elif not equals:
            next(words, None)
