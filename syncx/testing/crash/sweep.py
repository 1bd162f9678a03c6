"""From one point of a scenario's operation to the next: the victim goes there and dies, and the others are judged.

A point is told as the victim's system calls so far and its steps since then, so that a repetition finds the same place
although loops may turn more or less often.  Steps are instructions in mode "full", effects in the others.

Mode "full" kills after each instruction; mode "classes" where others could see a difference: after each system call and
each change of shared memory, and before each system call; mode "stop" stops the victim at the points of "classes",
looks at the others, lets it go on to the end of its operation, looks again, and kills it then.  A system call in which
the victim sleeps is one more point: it dies asleep.
"""

from __future__ import annotations

import itertools
import mmap
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..stepping import Victim, place_of
from .scenario import Scenario
from .world import HANG

if TYPE_CHECKING:
    from ...snapshots import Snapshot

__all__ = ["MODES", "Course", "Finding", "Point", "Sweep", "sweep"]

MODES = ("full", "classes", "stop")
ASLEEP = -1
_MAY_SLEEP = {0, 7, 23, 35, 61, 72, 73, 202, 230, 232, 247, 270, 271, 281, 449}
"""read, poll, select, nanosleep, wait4, fcntl, flock, futex, clock_nanosleep, epoll_wait, waitid, pselect6, ppoll,
epoll_pwait, futex_waitv, of x86-64."""
_TRIES = 3
"""How often a point that was right, but late, is tried: a busy machine is late now and then, a defect every time."""
_ASLEEP_FOR = 0.15
"""Seconds, more than the belt, after which who goes on after a stop is said to sleep again."""
BEYOND = 1 << 40
"""Steps, to the end of a stretch however long it is."""
_WORDS = {ASLEEP: "z", BEYOND: "end"}


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
    instructions: int = 0
    """Of the operation, in mode "full": those of them that are no points were left out by a stride."""
    slept: int = 0
    """Points at which the victim was killed asleep, or after a sleep."""
    late: int = 0
    """Points that had to be tried again since a survivor was late."""
    missed: int = 0
    """Points that were not come by at full speed, and were gone to by single steps."""
    findings: list[Finding] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    whole: bool = True
    """Whether it came to the end: not, when its time was over or it had found enough."""


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


class Point(NamedTuple):
    """Where the victim is killed."""

    calls: int
    """System calls done."""
    steps: int
    """Instructions since, or effects; ASLEEP: in the next system call, if it sleeps there."""

    def __str__(self) -> str:
        return f"{self.calls}.{_WORDS.get(self.steps, self.steps)}"

    @classmethod
    def parse(cls, text: str) -> Point:
        """The reverse of str(); ValueError for what is no point."""
        calls, _, steps = text.partition(".")
        if not (calls.isdecimal() and (steps.isdecimal() or steps in _WORDS.values())):
            raise ValueError(f"a point is SYSTEM CALLS.STEPS, such as 3.17, or 3.z or 3.end, not {text!r}")
        for number, word in _WORDS.items():
            if steps == word:
                return cls(int(calls), number)
        return cls(int(calls), int(steps))


class Way(NamedTuple):
    """How to go to a point, where that is known from a walk before: at full speed to an address, then by steps."""

    address: int = 0
    leapt: int = 0
    """So many steps lead to the address."""
    steps: int = -1
    """So many to the point; -1: as the point says."""
    traced: bool = False
    """Whether it is the walk that finds that out."""


STEP_BY_STEP = Way()


class _Stretch:
    """The instructions between two system calls, and for each a place before it that is reached at full speed."""

    def __init__(self, trace: tuple[int, ...]) -> None:
        self.length = len(trace)
        self._leaps: list[tuple[int, int]] = []
        seen: set[int] = set()
        last = (0, 0)
        for i, address in enumerate(trace):
            if i and address not in seen:  # the first time that it comes by
                last = (address, i)
            seen.add(address)
            self._leaps.append(last)

    def way(self, steps: int) -> Way:
        return Way(*(self._leaps[steps] if steps < self.length else (0, 0)), steps)


class Driver:
    """Takes victims of a scenario to their points."""

    def __init__(self, scenario: Scenario, mode: str) -> None:
        self.scenario = scenario
        self.mode = mode
        self.watched: list[Any] = []
        if mode != "full" and scenario.reads_arena:
            self.watched = [*_Watched(scenario.arena_path).parts, *scenario.watched()]
        self._before: Snapshot | None = None

    def snapshot(self) -> Snapshot | None:
        if not self.scenario.reads_arena:
            return None
        from ...snapshots import snapshot

        return snapshot(self.scenario.arena_path)

    def go(self, victim: Victim, point: Point, way: Way = STEP_BY_STEP) -> str:
        """To the point.  "end", "call": the operation, or the stretch between two system calls, is over before it."""
        scenario = self.scenario
        dies_asleep = point.steps == ASLEEP
        calls = point.calls + dies_asleep
        limit = {"steps" if self.mode == "full" or dies_asleep else "effects": 0 if dies_asleep else point.steps}
        if way.steps >= 0:
            limit = {"steps": way.steps}
        scenario.slept = 0
        patience, slept_in, end = 0.0, -1, time.monotonic() + 4 * HANG
        while True:
            why = victim.walk(**limit, patience=patience, calls=calls, leap=way[:2], traced=way.traced)
            if why != "asleep":
                return why
            if time.monotonic() > end:
                raise RuntimeError(
                    f"the victim sleeps in system call {victim.calls + 1}, and nothing wakes it for good"
                )
            if victim.calls == slept_in:  # the same sleep
                continue
            slept_in = victim.calls
            scenario.slept += 1
            scenario.asleep(victim)  # also when it dies in this sleep: the others are in their places
            if victim.gone:
                return "gone"
            if dies_asleep and victim.calls == point.calls:
                return "asleep"
            patience = 0.005  # what wakes it is under way; its next sleep is told as soon as that

    def kill_at(self, point: Point, way: Way = STEP_BY_STEP) -> tuple[str, Victim, int]:
        """One kill.  Returns why the walk ended, the victim, and the address where it stood."""
        scenario = self.scenario
        if not scenario.leaps:
            way = way._replace(address=0, leapt=0)
        scenario.found.clear()
        scenario.page.clear()
        before = self._before or self.snapshot()
        self._before = None
        scenario.stage()
        victim = scenario.victim(self.watched)
        try:
            scenario.placed(victim)
            why = self.go(victim, point, way)
            address = victim.pc or 0
            if victim.failed:
                scenario.wrong("error", f"the victim died of {victim.failed} before it was killed")
            seen = self.snapshot()
            scenario.victim_waits = seen is not None and _waits(seen, victim.pid)
            scenario.frozen(victim, seen)
            if self.mode == "stop":
                self._stop(victim, why)
            elif why in ("end", "gone"):
                scenario.ended(victim)
            scenario.killed_at = time.monotonic_ns()
            scenario.end(victim)
            scenario.judge(victim)
            after = self._before = self.snapshot()
            if before is not None and after is not None:
                rescued = after.counters.rescues - before.counters.rescues
                if rescued and not scenario.explains_rescues():
                    scenario.wrong("lost wake-up", f"the belt delivered {rescued} that no death had swallowed")
        finally:
            victim.kill()
        return why, victim, address

    def _stop(self, victim: Victim, why: str) -> None:
        """It stands still; the others must not mind.  Then it goes on, and nothing may have been taken from it."""
        scenario = self.scenario
        scenario.judge_stopped(victim)
        if why in ("end", "gone") or not scenario.goes_on:
            return
        end = time.monotonic() + HANG
        while victim.run(patience=_ASLEEP_FOR if scenario.slept else 0.0) == "asleep":
            if time.monotonic() > end:
                scenario.wrong("hang", f"the victim, stopped and let go on, sleeps for {HANG:g} s")
                break
            scenario.slept += 1
            scenario.asleep(victim)
        scenario.frozen(victim, self.snapshot())
        scenario.judge_stopped(victim)

    # ---- the points -------------------------------------------------------------------------------------------------
    told: tuple[str, Victim]
    """Why the last walk ended, and who walked."""

    def points(self, stride: int, most: int | None = None) -> Iterator[tuple[Point, Way]]:
        """All points, one after the other, with how to go there; `told` hears of each how it went."""
        for calls in itertools.count():
            yield Point(calls, BEYOND), Way(traced=True)  # to the end of the stretch, which tells what is before it
            ended, victim = self.told
            if ended == "limit":
                raise RuntimeError(
                    f"the operation does more than {len(victim.trace)} instructions after {calls} system calls, too "
                    "many to step; does it import something?"
                )
            call = victim.call
            stretch = _Stretch(victim.trace)
            if self.mode == "full":
                every = stride if most is None else max(stride, -(-stretch.length // most))
                for steps in range(0, stretch.length, every):
                    yield Point(calls, steps), stretch.way(steps)
            else:
                for effects, steps in enumerate((0, *victim.moments)):
                    if steps < stretch.length:
                        yield Point(calls, effects), stretch.way(steps)
            if ended != "call":
                return
            if call in _MAY_SLEEP:
                yield Point(calls, ASLEEP), STEP_BY_STEP


def _waits(seen: Snapshot, pid: int) -> bool:
    """Whether a thread of that process waits for anything."""
    threads = {p.id for p in seen.participants if p.pid == pid}
    return any(w.thread in threads for w in seen.waits)


@dataclass(frozen=True)
class Course:
    """How a scenario is swept, and when it is enough."""

    mode: str = "full"
    stride: int = 1
    """Every n-th instruction, in mode "full" and of the second victim of a pair."""
    most: int | None = None
    """Points at most between two system calls, spread evenly."""
    only: str | None = None
    """That point alone, as a `Finding` names it."""
    stop_after: int = 5
    """Findings after which it is enough."""
    until: float | None = None
    """When it is time to leave off, by time.monotonic()."""
    progress: Callable[[Sweep], object] | None = None
    """Called after each point."""

    def over(self, result: Sweep) -> bool:
        """After a point: tells of it; whether the rest is left out."""
        if self.progress is not None:
            self.progress(result)
        late = self.until is not None and time.monotonic() > self.until
        result.whole = not late and len(result.findings) < self.stop_after
        return not result.whole


def sweep(scenario_class: type[Scenario], arena: str, course: Course) -> Sweep:
    """Kills at one point after the other until the operation is over before it.

    arena: the file of an arena of its own, which exists.
    """
    result = Sweep(scenario_class.name(), course.mode)
    began = time.monotonic()
    scenario = scenario_class(arena)
    scenario.start()
    share_one_cpu()
    try:
        driver = Driver(scenario, course.mode)
        points = driver.points(course.stride, course.most)
        for point, way in points if course.only is None else iter([(Point.parse(course.only), STEP_BY_STEP)]):
            kill_and_note(driver, point, way, result)
            if course.over(result):
                break
    finally:
        scenario.finish()
    result.seconds = time.monotonic() - began
    return result


def kill_and_note(driver: Driver, point: Point, way: Way, result: Sweep, told_as: str = "{}") -> None:
    """A kill, and what it adds to the result."""
    scenario = driver.scenario
    for attempt in range(_TRIES):
        why, victim, address = driver.kill_at(point, way)
        if way.address and why != "limit" and not scenario.found:  # another way this time, without such a place
            result.missed += 1
            way = STEP_BY_STEP
            why, victim, address = driver.kill_at(point)
        if {kind for kind, _ in scenario.found} != {"late"}:
            break
        result.late += attempt == 0
    driver.told = why, victim
    if way.traced:
        result.instructions += len(victim.trace)
        point = Point(point.calls, victim.steps if driver.mode == "full" else victim.effects)
    if why == "call":
        result.calls = max(result.calls, point.calls + 1)
    if point.steps != ASLEEP or why == "asleep":  # else it did not sleep there this time: that point is another one
        result.points += 1
        result.slept += scenario.slept > 0
        result.latencies += scenario.latencies
        place = place_of(address) if scenario.found else ""
        name = told_as.format(point)
        result.findings += [Finding(result.scenario, driver.mode, name, place, k, s) for k, s in scenario.found]
    scenario.latencies.clear()


def share_one_cpu() -> None:
    """Driver and victim on one CPU: a step is cheaper by far.  The agents are not bound."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[os.getpid() % len(cpus)]})
