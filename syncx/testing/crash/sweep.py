"""Kills the victim of a scenario at one point after the other.

A point is (calls, steps): so many system calls done, and so many instructions since the last of them.  Mode "full"
kills after each instruction; mode "classes" where others could see a difference: after each system call and each change
of shared memory, and before each system call; mode "stop" stops the victim at the points of "classes", looks at the
others, and kills it then.  A system call in which the victim sleeps is one more point: it dies asleep.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..stepping import Victim
from .scenario import Scenario
from .world import HANG

if TYPE_CHECKING:
    from ...snapshots import Snapshot

__all__ = ["MODES", "Finding", "Point", "Sweep", "sweep"]

MODES = ("full", "classes", "stop")
ASLEEP = -1
_MAY_SLEEP = {0, 7, 23, 35, 61, 72, 73, 202, 230, 232, 247, 270, 271, 281, 449}
"""read, poll, select, nanosleep, wait4, fcntl, flock, futex, clock_nanosleep, epoll_wait, waitid, pselect6, ppoll,
epoll_pwait, futex_waitv, of x86-64."""
_TRIES = 3
"""How often a point that was right, but late, is tried: a busy machine is late now and then, a defect every time."""


@dataclass
class Finding:
    """Something wrong at one point."""

    scenario: str
    mode: str
    point: str
    """System calls, and instructions or effects since the last of them; "7.z": asleep in the eighth."""
    place: str
    """Where the victim's next instruction was: file and offset."""
    kind: str
    sentence: str


@dataclass
class Sweep:
    """What a sweep over one scenario found."""

    scenario: str
    mode: str
    points: int = 0
    calls: int = 0
    """System calls of the operation."""
    slept: int = 0
    """Points at which the victim was killed asleep, or after a sleep."""
    late: int = 0
    """Points that had to be tried again since a survivor was late."""
    findings: list[Finding] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0


class _Watched:
    """The parts of the arena's file that are in use, mapped."""

    def __init__(self, path: str) -> None:
        from ...arena import Arena

        with Arena(path, create=False) as arena:
            description = arena._description()
        descriptor = os.open(path, os.O_RDONLY)
        try:
            self._map = mmap.mmap(descriptor, os.fstat(descriptor).st_size, mmap.MAP_SHARED, mmap.PROT_READ)
        finally:
            os.close(descriptor)
        whole = memoryview(self._map)
        self.parts: list[Any] = [whole[: description["header_size"]]]
        for offset, _, _, ready in description["regions"].values():
            if ready:
                self.parts.append(whole[offset : offset + ready])
        whole.release()


def _snapshot(scenario: Scenario) -> Snapshot | None:
    if scenario.kills_all_leave:
        return None
    from ...snapshots import snapshot

    return snapshot(scenario.arena_path)


class Point(NamedTuple):
    """Where the victim is killed."""

    calls: int
    """System calls done."""
    steps: int
    """Instructions since, or effects; ASLEEP: in the next system call, if it sleeps there."""

    def __str__(self) -> str:
        return f"{self.calls}.{'z' if self.steps == ASLEEP else self.steps}"

    @classmethod
    def parse(cls, text: str) -> Point:
        """The reverse of str(); ValueError for what is no point."""
        calls, dot, steps = text.partition(".")
        if not (dot and calls.isdigit() and (steps.isdigit() or steps == "z")):
            raise ValueError(f"a point is SYSTEM CALLS.STEPS, such as 3.17, or 3.z, not {text!r}")
        return cls(int(calls), ASLEEP if steps == "z" else int(steps))


def _go(scenario: Scenario, victim: Victim, mode: str, point: Point) -> str:
    """To the point.  "end", "call": the operation, or the stretch between two system calls, is over before it."""
    dies_asleep = point.steps == ASLEEP
    calls = point.calls + dies_asleep
    limit = {"steps" if mode == "full" or dies_asleep else "effects": 0 if dies_asleep else point.steps}
    scenario.slept = 0
    patience, slept_in = 0.0, -1
    while True:
        why = victim.walk(**limit, patience=patience, calls=calls)
        if why != "asleep":
            return why
        if victim.calls == slept_in:  # the same sleep, and `patience` is over
            raise RuntimeError(f"the victim sleeps in system call {slept_in + 1}, and nothing wakes it")
        slept_in = victim.calls
        scenario.slept += 1
        scenario.asleep(victim)  # also when it dies in this sleep: the others are in their places
        if dies_asleep and victim.calls == point.calls:
            return "asleep"
        patience = HANG


def _one(scenario: Scenario, mode: str, point: Point, watched: list[Any]) -> tuple[str, Victim, str]:
    """One kill.  Returns why the walk ended, the victim, and where it stood."""
    scenario.found.clear()
    scenario.page.clear()
    scenario.stage()
    victim = scenario.victim(watched)
    try:
        scenario.placed(victim)
        before = _snapshot(scenario)
        why = _go(scenario, victim, mode, point)
        place = victim.place
        scenario.frozen(victim, _snapshot(scenario))
        if mode == "stop":
            scenario.judge_stopped(victim)
        scenario.killed_at = time.monotonic_ns()
        victim.kill()
        scenario.judge(victim)
        after = _snapshot(scenario)
        if before is not None and after is not None:
            rescued = after.counters.rescues - before.counters.rescues
            if rescued and not scenario.explains_rescues():
                scenario.wrong("lost wake-up", f"the belt delivered {rescued} that no death had swallowed")
    finally:
        victim.kill()
    return why, victim, place


def sweep(
    scenario_class: type[Scenario],
    arena: str,
    mode: str = "full",
    *,
    stride: int = 1,
    only: str | None = None,
    stop_after: int = 5,
    progress: Callable[[int], object] | None = None,
) -> Sweep:
    """Kills at one point after the other until the operation is over before it.

    arena: the file of an arena of its own, which exists.  stride: every n-th instruction (mode "full").  only: that
    point alone, as a `Finding` names it.  stop_after: findings after which it is enough.  progress: called with the
    number of points so far.
    """
    result = Sweep(scenario_class.name(), mode)
    began = time.monotonic()
    scenario = scenario_class(arena)
    scenario.start()
    _share_one_cpu()
    watched = _Watched(arena).parts if mode != "full" and not scenario.kills_all_leave else []
    point = Point.parse(only) if only is not None else Point(0, 0)
    try:
        while len(result.findings) < stop_after:
            why, call = _killed_at(scenario, mode, point, watched, result)
            if progress is not None:
                progress(result.points)
            if only is not None or why in ("end", "gone"):
                break
            if point.steps == ASLEEP:
                point = Point(point.calls + 1, 0)
            elif why == "call":
                result.calls = point.calls + 1
                point = Point(point.calls, ASLEEP) if call in _MAY_SLEEP else Point(point.calls + 1, 0)
            else:
                point = Point(point.calls, point.steps + (stride if mode == "full" else 1))
    finally:
        scenario.finish()
    result.seconds = time.monotonic() - began
    return result


def _killed_at(scenario: Scenario, mode: str, point: Point, watched: list[Any], result: Sweep) -> tuple[str, int]:
    """A kill, and what it adds to the result.  Returns why the walk ended, and the system call it stood before."""
    for attempt in range(_TRIES):
        why, victim, place = _one(scenario, mode, point, watched)
        if {kind for kind, _ in scenario.found} != {"late"}:
            break
        result.late += attempt == 0
    if point.steps == ASLEEP and why != "asleep":  # it did not sleep there this time: that point is another one
        scenario.latencies.clear()
        return why, victim.call
    result.points += 1
    result.slept += scenario.slept > 0
    result.latencies += scenario.latencies
    scenario.latencies.clear()
    result.findings += [Finding(result.scenario, mode, str(point), place, k, s) for k, s in scenario.found]
    return why, victim.call


def _share_one_cpu() -> None:
    """Driver and victim on one CPU: a step is cheaper by far.  The agents are not bound."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[os.getpid() % len(cpus)]})
