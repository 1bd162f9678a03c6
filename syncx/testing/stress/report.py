"""What a storm has come to, for people and for programs."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

import syncx
from syncx.terminal import Screen, duration

from .figures import Histogram, Outcome

__all__ = ["as_json", "say"]

_SHOWN = 10
"""Violations, of each judge; the JSON file has all."""
_PARTS = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))


def say(outcome: Outcome, screen: Screen) -> None:
    """The page."""
    o = outcome
    calm = f", {o.calm_rounds} of them without deaths" if o.kill and o.calm_rounds else ""
    screen.say(f"{duration(o.seconds)}, {o.rounds} rounds{calm}")
    screen.say()
    left = [
        (o.operations, "operations"),
        (o.deaths, "deaths (SIGKILL)"),
        (o.told, "recoveries: told of a dead owner"),
    ]
    right = [
        (o.stops, "stopped and continued (SIGSTOP)"),
        (o.signals, "interrupted by a signal"),
        (o.forks, "children forked, half of them to exec"),
    ]
    for (a, what), (b, other) in zip(left, right, strict=True):
        screen.say(f"{a:>12,}  {what:<34}{b:>10,}  {other}")
    if o.deadlocks:
        screen.say(f"{o.deadlocks:>12,}  deadlocks, each told to one of its members")
    screen.say()
    waits = [(topic, h) for topic, h in sorted(o.waits.items())]
    if waits:
        waits.append(("all of them", o.all_waits))
        rows = [[topic, f"{h.total:,}", *_columns(h)] for topic, h in waits]
        screen.table(["to get it", "times", *(p for p, _ in _PARTS), "max"], rows, right=range(1, 6))
        screen.say()
    if o.progress.total:
        row = ["from a death to the next holder", f"{o.progress.total:,}", *_columns(o.progress)]
        screen.table(["", "times", *(p for p, _ in _PARTS), "max"], [row], right=range(1, 6))
        screen.say()
    for what, found in (
        ("counters and canaries under the locks", o.live),
        (f"replay of {o.records:,} records", o.replayed),
        ("hangs, crashes, wake-ups lost without a death", o.watched),
    ):
        screen.say(f"{'ok  ' if not found else 'BAD '} {what}: {len(found)} wrong", "" if not found else "bold red")
        for text in found[:_SHOWN]:
            screen.say(f"       {text}")
        if len(found) > _SHOWN:
            screen.say(f"       and {len(found) - _SHOWN} more")
    for text in o.evidence:
        screen.say(text)
    screen.say()
    verdict = "no violation" if not o.violations else f"{o.violations:,} violations"
    ended = ", ended by a signal" if o.interrupted else ""
    screen.say(f"{verdict}{ended}; {again(o)} repeats its decisions", "bold green" if not o.violations else "bold red")


def _columns(h: Histogram) -> list[str]:
    return [*(duration(h.at(part) / 1e9) for _, part in _PARTS), duration(h.most / 1e9)]


def again(o: Outcome) -> str:
    """The command that makes the same decisions."""
    from .worker import SCENES

    topics = "all" if set(o.topics) == set(SCENES) else " ".join(o.topics)
    return (
        f"`syncx stress {topics} --seconds {o.budget:.10g} --seed {o.seed} --processes {o.processes} --kill {o.kill:g}`"
    )


def as_json(outcome: Outcome) -> dict[str, Any]:
    """What --json writes."""
    o = outcome
    figures: dict[str, float] = {
        "operations": o.operations,
        "rounds": o.rounds,
        "rounds_without_deaths": o.calm_rounds,
        "deaths": o.deaths,
        "recoveries": o.told,
        "deadlocks": o.deadlocks,
        "stops": o.stops,
        "signals": o.signals,
        "forks": o.forks,
        "records_replayed": o.records,
        "rescues_after_deaths": o.rescues,
        "processes": o.processes,
        "threads": o.processes * o.threads,
        "kill_per_1000": o.kill,
        "violations_seen_by_counters": len(o.live),
        "violations_seen_by_replay": len(o.replayed),
        "hangs_crashes_lost_wakeups": len(o.watched),
    }
    for name, h in (("acquire", o.all_waits), ("kill_to_progress", o.progress)):
        figures |= {f"{name}_{p}_ms": h.at(part) / 1e6 for p, part in _PARTS}
        figures |= {f"{name}_max_ms": h.most / 1e6, f"{name}_times": h.total}
    return {
        "command": again(o).strip("`"),
        "seconds": o.seconds,
        "figures": figures,
        "failures": o.violations,
        "violations": {"counters": o.live, "replay": o.replayed, "watched": o.watched},
        "seed": o.seed,
        "topics": o.topics,
        "taken": {topic: h.total for topic, h in sorted(o.waits.items())},
        "interrupted": o.interrupted,
        "syncx": syncx.__version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpus": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "platform": sys.platform,
    }
