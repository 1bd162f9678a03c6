"""SIGKILL at every machine instruction of what is done with a Semaphore and a Latch: the count is the one before or the
one after, and nobody is left asleep.

Who waits has no belt, but where the change and the wake are two steps.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import singlestep
from support import PATIENCE
from twins import Edit, Twin, Workshop, workshop_for

import syncx

pytestmark = [
    pytest.mark.core,
    pytest.mark.death,
    pytest.mark.skipif(not singlestep.SUPPORTED, reason=singlestep.WHY_NOT),
]

SOURCE = Path(__file__).with_name("step_counts.c")
HANG = 3.0
MANY = 5000
"""More than FUTEX_WAKE_OP can add."""


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return workshop_for(tmp_path_factory)


class Bench:
    """An object, and victims that do something with it while somebody waits."""

    def __init__(self, workshop: Workshop, arena: syncx.Arena, twin: Twin | None = None) -> None:
        self.workshop = workshop
        self.program = str(workshop.program(SOURCE, twin))
        self.arena = arena
        self.number = 0

    def step(self, instructions: int, *command: str) -> int:
        ended, steps = singlestep.step_program(self.workshop, instructions, [self.program, self.arena.path, *command])
        return steps if ended else 0

    def alone(self, instructions: int, operation: str, n: int) -> int | str:
        """Nobody else is there.  Returns the instructions up to the end of the operation, or what is wrong then."""
        value = 0 if operation == "wait" else 3
        self.number += 1
        semaphore = syncx.Semaphore(value, name=f"s{self.number}", arena=self.arena)
        steps = self.step(instructions, semaphore.name, operation, str(n))
        if semaphore.value not in ((value, value - n) if operation == "with" else (value,)):
            return f"value {semaphore.value}"
        semaphore.release(2)
        if not semaphore.acquire(n=2, timeout=0):
            return "not to be had"
        return steps

    def release(self, instructions: int, n: int, patience: float = PATIENCE) -> int | str:
        """Somebody waits for n units, and the victim releases them."""
        self.number += 1
        semaphore = syncx.Semaphore(0, name=f"s{self.number}", arena=self.arena)
        taker = self.waiting(semaphore.name, "taker", n, belt=n == MANY)
        try:
            steps = self.step(instructions, semaphore.name, "release", str(n))
            if semaphore.value not in (0, n):
                return f"value {semaphore.value}"
            ours = semaphore.value == 0  # it died before, or the taker has them already
            if ours:
                semaphore.release(n)
            if not self.ends(taker, patience):
                return "hang"
            if semaphore.value not in ((0, n) if ours else (0,)):
                return f"value {semaphore.value} after it"
            return steps
        finally:
            taker.kill()
            taker.wait()

    def count_down(self, instructions: int, patience: float = PATIENCE) -> int | str:
        """Somebody waits for a latch, and the victim opens it."""
        self.number += 1
        latch = syncx.Latch(2, name=f"l{self.number}", arena=self.arena)
        waiter = self.waiting(latch.name, "waiter", 1, belt=True)
        try:
            steps = self.step(instructions, latch.name, "count down", "2")
            if latch.count not in (0, 2):
                return f"count {latch.count}"
            if latch.count:
                latch.count_down(2)
            return steps if self.ends(waiter, patience) else "hang"
        finally:
            waiter.kill()
            waiter.wait()

    def waiting(self, name: str, operation: str, n: int, belt: bool) -> subprocess.Popen[bytes]:
        command = [self.program, self.arena.path, name, operation, str(n)]
        return subprocess.Popen([*command, "belt"] if belt else command)

    @staticmethod
    def ends(process: subprocess.Popen[bytes], patience: float) -> bool:
        try:
            return process.wait(patience) == 0
        except subprocess.TimeoutExpired:
            return False


def at_every_instruction(kill):
    total = kill(10**6)
    assert isinstance(total, int), total
    assert total > 10
    for n in range(0, total, singlestep.stride(max(1, total // 24))):
        assert isinstance(found := kill(n), int), (n, found)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("operation", "n"), [("with", 1), ("with", 3), ("wait", 1), ("wait", 2)])
def test_kill_one_who_is_alone(workshop, arena, operation, n):
    bench = Bench(workshop, arena)
    at_every_instruction(lambda at: bench.alone(at, operation, n))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n", [1, 3, MANY])
def test_kill_one_who_releases(workshop, arena, n):
    bench = Bench(workshop, arena)
    at_every_instruction(lambda at: bench.release(at, n))


@pytest.mark.timeout(3600)
def test_kill_one_who_counts_down(workshop, arena):
    bench = Bench(workshop, arena)
    at_every_instruction(bench.count_down)


# ---- what is broken is found -----------------------------------------------------------------------------------------

IN_TWO_STEPS = Twin(
    "the change and its wake are two steps", (Edit("semaphore.c", "n <= WAKE_OP_MAX && count < MANY", "n == 0"),)
)
COUNTS_TWICE = Twin(
    "a unit too many",
    (
        Edit(
            "core.h",
            "w + ((uint64_t)n << 32), memory_order_release",
            "w + ((uint64_t)(n + 1) << 32), memory_order_release",
        ),
    ),
)


def test_a_death_between_the_change_and_its_wake_is_found(workshop, arena):
    bench = Bench(workshop, arena, IN_TWO_STEPS)
    total = bench.release(10**6, 1)
    assert isinstance(total, int)
    assert any(bench.release(n, 1, HANG) == "hang" for n in range(total))


def test_a_unit_too_many_is_found(workshop, arena):
    bench = Bench(workshop, arena, COUNTS_TWICE)
    assert bench.alone(10**6, "with", 1) == "value 4"
