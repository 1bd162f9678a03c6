"""SIGKILL at every machine instruction of what is done with permits: none is lost, and nobody is left asleep.

Who waits has no belt: the wake-up of the dead one's release, or the kernel's word of its death, must reach it.
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

SOURCE = Path(__file__).with_name("step_permits.c")
CAPACITY = 3
HANG = 3.0


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return workshop_for(tmp_path_factory)


class Bench:
    """A semaphore, and victims that do something with it."""

    def __init__(self, workshop: Workshop, arena: syncx.Arena, twin: Twin | None = None) -> None:
        self.workshop = workshop
        self.program = str(workshop.program(SOURCE, twin))
        self.arena = arena
        self.permits = syncx.BoundedSemaphore(CAPACITY, name="s", arena=arena)

    def kill_at(self, instructions: int, operation: str, wants: int = 0, patience: float = PATIENCE) -> int | str:
        """Kills one victim there.  Returns the number of instructions up to its end, or what is wrong afterwards."""
        waiter = None
        if wants:
            waiter = subprocess.Popen([self.program, self.arena.path, "s", "waiter", str(wants)])
        try:
            command = [self.program, self.arena.path, "s", operation]
            ended, steps = singlestep.step_program(self.workshop, instructions, command)
            if waiter is not None:
                try:
                    code = waiter.wait(patience)
                except subprocess.TimeoutExpired:
                    return "hang"
                if code != 0:
                    return f"the waiter ended with {code}"
        finally:
            if waiter is not None and waiter.poll() is None:
                waiter.kill()
                waiter.wait()
        value = self.permits.value
        if value != CAPACITY - self.permits.held:
            return f"value {value}"
        if value and not self.permits.acquire(n=value, timeout=0):
            return "not to be had"
        if value:
            self.permits.release(value)
        return steps if ended else 0


OPERATIONS = [
    # what the victim does, how many permits somebody waits for meanwhile, how many this process holds
    ("with", 0, 0),
    ("one", 0, 0),
    ("several", 0, 0),
    ("wait", 0, CAPACITY),
    ("release one", 1, 0),
    ("release all", 1, 0),
    ("release all", 2, 0),
    ("release all", 3, 0),
]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("operation", "wants", "held"), OPERATIONS)
def test_kill_at_every_instruction(workshop, arena, operation, wants, held):
    bench = Bench(workshop, arena)
    if held:
        assert bench.permits.acquire(n=held)
    total = bench.kill_at(10**6, operation, wants)
    assert isinstance(total, int), total
    assert total > 20
    for n in range(0, total, singlestep.stride(max(1, total // 24))):
        assert isinstance(found := bench.kill_at(n, operation, wants), int), (n, found)
    if held:
        bench.permits.release(held)


WATCHES_NOBODY = Twin(
    "sleepers watch no holder", (Edit("permits.c", "s.watch, s.watched, holder", "s.watch, 0, holder"),)
)


@pytest.mark.parametrize(("operation", "wants"), [("release one", 1), ("release all", 3)])
def test_a_hang_is_found(workshop, arena, operation, wants):
    bench = Bench(workshop, arena, WATCHES_NOBODY)
    assert bench.kill_at(0, operation, wants, HANG) == "hang"


def test_a_lost_permit_is_found(workshop, arena):
    """The victim's permits stay held where its death is not believed: here it is stopped instead of killed."""
    bench = Bench(workshop, arena)
    victim = subprocess.Popen([bench.program, arena.path, "s", "release one"])
    try:
        while bench.permits.value:
            assert victim.poll() is None
        assert bench.kill_at(10, "one") == "value 0"
    finally:
        victim.kill()
        victim.wait()
