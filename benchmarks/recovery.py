"""From a kill to a survivor's progress, beside a C program that waits for C's own robust mutex.

    python -m benchmarks.recovery --deaths 1000 --json recovery.json

In each round one process holds a syncx.Mutex, another sleeps for it, and the holder is killed; then the same with a
robust, process-shared pthread mutex in shared memory, whose waiter is a C program; each round begins with another one.
What counts is the time from just before kill(2) to just after the waiter's acquire.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import syncx

from . import floors
from .appends import number
from .children import end_all
from .peers import ours
from .place import Place
from .report import Output
from .samples import Section
from .wakeup import IGNORING, PROGRAM, Contestant, kill, measure, start_children, start_program

MUTEX = "syncx.Mutex"
WORST_MS = 250.0
"""Later than that nobody may go on after a death; where the C program itself is late, the machine is busy with other
things, and twice what it took is the most."""
RATIO = 3.0
"""To the C program, of the medians."""
_BLOCK = 0.05


def deaths(
    place: Place, rounds: int, step: Callable[[int, int], None], make: Callable[..., Any] = syncx.Mutex
) -> Section:
    """So many deaths of each, microseconds from the kill to the waiter running.

    Raises floors.NotBuilt where there is no C compiler.
    """
    robust = floors.module().Robust
    ignoring = functools.partial(make, on_owner_death="ignore")
    team: list[Contestant] = [
        (MUTEX, "syncx", functools.partial(start_children, functools.partial(ours, make), place)),
        (IGNORING, "syncx", functools.partial(start_children, functools.partial(ours, ignoring), place)),
        (PROGRAM, "floor", functools.partial(start_program, robust, place)),
    ]
    section = Section("recovery", "SIGKILL of the holder to the waiter running", "us", PROGRAM)
    measure(section, kill, [team], rounds, _BLOCK, step)
    return section


def percentile(values: list[float], share: float) -> float:
    """The smallest value that as many as `share` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def figures_of(section: Section) -> dict[str, float]:
    """The figures of the JSON file; where nobody woke there are none of that row."""
    found: dict[str, float] = {}
    for row, name in ((MUTEX, "mutex"), (IGNORING, "mutex, death ignored"), (PROGRAM, "C robust mutex")):
        values = [v for v in section.samples[row] if v is not None]
        found[f"{name}, deaths"] = len(section.samples[row])
        found[f"{name}, never woken"] = len(section.samples[row]) - len(values)
        if values:
            found[f"{name}, p50 us"] = round(statistics.median(values), 1)
            found[f"{name}, p99 us"] = round(percentile(values, 0.99), 1)
            found[f"{name}, max ms"] = round(max(values) / 1e3, 3)
            found[f"{name}, later than {WORST_MS:.0f} ms"] = sum(v > WORST_MS * 1e3 for v in values)
    if "mutex, p50 us" in found and "C robust mutex, p50 us" in found:
        found["ratio of the medians"] = round(found["mutex, p50 us"] / found["C robust mutex, p50 us"], 2)
    return found


def faults_of(figures: dict[str, float]) -> list[str]:
    """What is not as it must be."""
    faults = []
    most = max(WORST_MS, 2 * figures.get("C robust mutex, max ms", 0.0))
    for name in ("mutex", "mutex, death ignored"):
        if never := figures[f"{name}, never woken"]:
            faults.append(f"{name}: after {never:.0f} deaths the waiter slept on")
        if (worst := figures.get(f"{name}, max ms", 0.0)) > most:
            faults.append(f"{name}: a waiter ran {worst:.0f} ms after the death, and {most:.0f} ms is the most")
    ratio = figures.get("ratio of the medians")
    if ratio is None:
        faults.append("nothing to compare: a waiter was never woken")
    elif ratio > RATIO:
        faults.append(f"the median is {ratio:.2f} times that of the C program, and {RATIO:g} times is the most")
    return faults


def show(output: Output, section: Section, figures: dict[str, float]) -> None:
    """The table, and the ratio."""
    rows = []
    for row in section.samples:
        values = [v for v in section.samples[row] if v is not None]
        times = [statistics.median(values), percentile(values, 0.9), percentile(values, 0.99), max(values)]
        rows.append([row, f"{len(values):,}", *(f"{t:,.0f}" for t in times)] if values else [row, "0", *["never"] * 4])
    output.table(f"{section.title}, us", ["", "deaths", "median", "p90", "p99", "worst"], rows, section.kinds, 1)
    paired = section.ratio(MUTEX)
    if paired is not None and "ratio of the medians" in figures:
        output.line(
            f"{MUTEX} to the C program: {figures['ratio of the medians']:.2f} of the medians, "
            f"{paired.median:.2f} in the median round ({paired.q1:.2f} to {paired.q3:.2f})"
        )


def main(make: Callable[..., Any] = syncx.Mutex) -> int:
    """The command.  make: what makes the lock, given its name, `arena` and `on_owner_death`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recovery",
        description="Kills holders, and says how soon their waiters run: of a syncx.Mutex, and a C program that waits "
        "for a robust pthread mutex, in turn.",
        epilog=f"exit status: 0; 1 if a waiter slept on, or ran later than {WORST_MS:.0f} ms after the death and than "
        f"twice what the C program took at worst, or if the median is more than {RATIO:g} times that of the C program; "
        "2 for a wrong argument, or without a C compiler; 130 when interrupted",
    )
    parser.add_argument("--deaths", type=number(1), default=500, metavar="N", help="of each (500)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the figures there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    output = Output()
    began = time.monotonic()
    try:
        with Place() as place, output.progress() as step:
            try:
                section = deaths(place, options.deaths, functools.partial(step, "deaths"), make)
            finally:
                end_all()
    except floors.NotBuilt as e:
        parser.error(f"the C programs to compare with need a C compiler and Python's headers: {e}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    figures = figures_of(section)
    faults = faults_of(figures)
    show(output, section, figures)
    if (worst := figures.get("C robust mutex, max ms", 0.0)) > WORST_MS / 2:
        output.line(f"this machine is busy: the C program itself ran up to {worst:.0f} ms after the death")
    for fault in faults:
        output.line(f"FAULT: {fault}")
    if options.json:
        outcome = {
            "command": shlex.join(["python", "-m", "benchmarks.recovery", *sys.argv[1:]]),
            "seconds": round(time.monotonic() - began, 1),
            "figures": figures,
            "failures": len(faults),
        }
        options.json.write_text(json.dumps(outcome, indent=1) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
