"""Pairs: the one who recovers from a death is killed too.

The first victim dies at a class point of its operation.  The second comes for the lock then, or sleeps for it when the
first dies, and is killed at an instruction of what it does until it has it.  The survivor is judged as ever: nothing
may be lost, doubled, or told twice or not at all.

A pair is told as both points: "2.1+0.17" when the second comes afterwards, "2.1~1.17" when it waits already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..stepping import Victim
from .locks import LockScenario
from .scenario import Scenario
from .sweep import BEYOND, STEP_BY_STEP, Course, Driver, Point, Sweep, Way, kill_and_note, share_one_cpu

if TYPE_CHECKING:
    from ...snapshots import Snapshot

__all__ = ["WAITING_STRIDE", "sweep_pairs", "takes_pairs"]

WAITING_STRIDE = 7
"""A second victim that waits already is killed at every so-many-th instruction: it does ten times as much, most of it
before there is anything to recover."""


class _Pair(LockScenario):
    """What a base scenario becomes, by being put before it among the bases of a class."""

    first: Point
    first_way: Way
    waits: bool
    """Whether the second victim waits already when the first one dies."""
    firsts: Driver
    corpse: Victim | None = None
    is_first = False
    untold = False

    def stage(self) -> None:
        super().stage()
        self.corpse_untold = False  # what the last pair left; the frozen() of a death before this one sets it anew
        self.is_first = True
        corpse = self.corpse = super().victim(self.firsts.watched)
        self.firsts.go(corpse, self.first, self.first_way)
        super().frozen(corpse, self.firsts.snapshot())
        self.untold = self.victim_dirty or self.corpse_untold
        self.is_first = False
        if not self.waits:
            self.first_dies()

    def first_dies(self) -> None:
        if self.corpse is not None:
            self.corpse.kill()
            self.corpse = None
            self.holder_goes()

    def placed(self, victim: Victim) -> None:
        """Nobody waits but the victims."""

    def before(self) -> None:
        super().before() if self.is_first else self.warm_up()

    def operation(self) -> Callable[[], object]:
        return super().operation() if self.is_first else self.lock.come()

    def asleep(self, victim: Victim) -> None:
        if self.is_first:
            self.asleep_alone(victim)
        else:
            self.first_dies()

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        self.first_dies()
        self.look(victim, seen)
        self.corpse_untold = self.untold and not self.victim_dirty

    def judge(self, victim: Victim) -> None:
        self.survive(self.killed_at)
        self.check_whole()

    def explains_rescues(self) -> bool:
        return True


def sweep_pairs(scenario_class: type[Scenario], arena: str, course: Course) -> Sweep:
    """As `sweep`, for each class point of the operation.

    Raises ValueError for a scenario that is not of a lock that can be recovered so, and for a pair that is none.
    """
    if not takes_pairs(scenario_class):
        raise ValueError(f"{scenario_class.name()} has nobody who could recover from it: pairs are of locks")
    result = Sweep(scenario_class.name(), course.mode)
    began = time.monotonic()
    pairs = list(_all_pairs(scenario_class, arena) if course.only is None else [_parse(course.only)])
    kind: Any = type(f"{scenario_class.__name__}Pair", (_Pair, scenario_class), {})
    scenario: _Pair = kind(arena)
    scenario.start()
    share_one_cpu()
    try:
        scenario.firsts = Driver(scenario, "classes")
        for told_as, driver, point, way in _seconds(scenario, pairs, course):
            kill_and_note(driver, point, way, result, told_as)
            if course.over(result):
                break
    finally:
        scenario.finish()
    for finding in result.findings:
        finding.mode = course.mode
    result.seconds = time.monotonic() - began
    return result


def _seconds(
    scenario: _Pair, pairs: list[tuple[Point, Way, bool, Point | None]], course: Course
) -> Iterator[tuple[str, Driver, Point, Way]]:
    """All points of all second victims."""
    for first, first_way, waits, second in pairs:
        scenario.first, scenario.first_way, scenario.waits = first, first_way, waits
        driver = Driver(scenario, "full")
        points = driver.points(course.stride * (WAITING_STRIDE if waits else 1), course.most)
        for point, way in points if second is None else iter([(second, STEP_BY_STEP)]):
            yield f"{first}{'~' if waits else '+'}{{}}", driver, point, way


def takes_pairs(scenario_class: type[Scenario]) -> bool:
    """Whether there are pairs of that scenario."""
    return issubclass(scenario_class, LockScenario) and scenario_class.pairs


def _parse(text: str) -> tuple[Point, Way, bool, Point | None]:
    for mark in "+~":
        first, found, second = text.partition(mark)
        if found:
            return Point.parse(first), STEP_BY_STEP, mark == "~", Point.parse(second)
    raise ValueError(f"a pair is two points, such as 2.1+0.17 or 2.1~0.17, not {text!r}")


def _all_pairs(scenario_class: type[Scenario], arena: str) -> Iterator[tuple[Point, Way, bool, Point | None]]:
    """The class points of the operation, as a sweep finds them."""
    scenario = scenario_class(arena)
    scenario.start()
    result = Sweep(scenario_class.name(), "classes")
    found: list[tuple[Point, Way]] = []
    try:
        driver = Driver(scenario, "classes")
        for point, way in driver.points(1):
            before = result.points
            kill_and_note(driver, point, way, result)
            if result.points > before:
                found.append((point, way))
    finally:
        scenario.finish()
    for waits in (False, True):
        for point, way in found:
            yield (point if not way.traced else Point(point.calls, BEYOND)), way._replace(traced=False), waits, None
