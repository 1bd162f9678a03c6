"""SIGKILL at every machine instruction: of acquire, release and what else a mutex needs.

The rules that each kill is judged by are in tests/singlestep.c.  Twins show that the harness sees what it looks for.
"""

from __future__ import annotations

import sys
import time

import pytest
import singlestep
from twins import Twin, Workshop, table, workshop_for

import syncx

pytestmark = [
    pytest.mark.core,
    pytest.mark.death,
    pytest.mark.skipif(not singlestep.SUPPORTED, reason=singlestep.WHY_NOT),
]


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return workshop_for(tmp_path_factory)


SCENARIOS = [
    # scenario, options, default stride: 1 where the operation is short
    ("free", (), 1),
    ("contended", (), 41),
    ("release", (), 1),
    ("release", ("--belt-off",), 1),
    # without a second word to sleep on, nothing but the release itself can wake the waiter
    ("release", ("--belt-off", "--no-waitv"), 1),
    ("relay", (), 7),
    ("relay", ("--belt-off",), 1),
    ("recover", (), 3),
    ("timeout", (), 97),
    ("timeout", ("--belt-off",), 89),
    ("register", (), 97),
    ("open", (), 997),
    ("name", (), 61),
    ("anonymous", (), 61),
    ("leave", (), 97),
    ("create", (), 2999),
    ("recursion", (), 1),
    ("place", (), 3),
    ("unlink", (), 61),
    # on a kernel without futex_waitv the belt finds what the second word would have told
    ("contended", ("--no-waitv",), 101),
    # what the kernel sees of it, whole: before and after every system call
    ("register", ("--system-calls",), 1),
    ("open", ("--system-calls",), 1),
    ("create", ("--system-calls",), 1),
    ("leave", ("--system-calls",), 1),
    ("unlink", ("--system-calls",), 1),
]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("scenario", "options", "step"), SCENARIOS, ids=lambda v: v if isinstance(v, str) else None)
def test_kill_at_every_instruction(workshop: Workshop, scenario: str, options: tuple[str, ...], step: int) -> None:
    found = singlestep.sweep(workshop, scenario, *options, step=singlestep.stride(step))
    assert found.failures == []
    assert found.points > 5


@pytest.mark.parametrize("lock", ["futex", "sem"])
def test_harness_finds_the_hang_of_a_plain_lock(workshop: Workshop, lock: str) -> None:
    # a plain lock knows no owner: killed inside, it is held for ever
    found = singlestep.sweep(workshop, "free", f"--lock={lock}", "--stop-after=1", step=11)
    assert found.kinds() == {"hang"}


CAUGHT = [
    # scenario, options, twin, what the harness reports of it
    ("release", ("--belt-off", "--no-waitv", "--stop-after=1"), table.STORE_THEN_WAKE, "hang"),
    ("relay", ("--belt-off", "--stop-after=1"), table.NOBODY_WATCHES, "hang"),
    ("depart", ("--belt-off",), table.LEAVE_WITHOUT_WAKE, "hang"),
    ("contended", ("--stop-after=1",), table.TAKES_FROM_THE_LIVING, "canary"),
    ("free", ("--stop-after=1",), table.DEATH_NOT_TOLD, "status"),
    ("contended", ("--stop-after=1",), table.HOST_LOCK_WHILE_SPINNING, "host lock held"),
    ("contended", ("--stop-after=1",), table.HOST_LOCK_WHILE_SLEEPING, "host lock held"),
    ("contended", ("--stop-after=1",), table.NOT_PUBLISHED, "wait record not published"),
    ("create", ("--system-calls", "--stop-after=1"), table.CREATED_IN_PLACE, "create"),
    ("name", ("--stop-after=1",), table.NO_REBUILD, "leak"),
]
STRIDE = {"name": 43, "contended": 500}


@pytest.mark.parametrize(("scenario", "options", "twin", "what"), CAUGHT, ids=str)
def test_harness_catches(workshop: Workshop, scenario: str, options: tuple[str, ...], twin: Twin, what: str) -> None:
    found = singlestep.sweep(workshop, scenario, *options, twin=twin, step=STRIDE.get(scenario, 1))
    assert what in found.kinds(), found


@pytest.mark.parametrize("twin", [None, table.LEAVE_EARLY], ids=str)
def test_waiter_that_leaves_passes_the_wake_on(workshop: Workshop, twin: Twin | None) -> None:
    # twin: leaving early is no mistake as long as the wake is passed on
    assert singlestep.sweep(workshop, "depart", "--belt-off", twin=twin).failures == []


PYTHON = """
import os, signal, sys, syncx
m = syncx.Mutex("m", arena=syncx.Arena(sys.argv[1]))
with m:
    pass  # registered, and all caches are warm
os.kill(os.getpid(), signal.SIGSTOP)
with m:
    pass
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.timeout(3600)
def test_python_killed_around_a_with(workshop: Workshop, arena: syncx.Arena) -> None:
    """The same for an interpreter: `with` on a lock that nobody else wants."""
    m = syncx.Mutex("m", arena=arena)
    command = [sys.executable, "-c", PYTHON, arena.path]
    ended, total = singlestep.step_program(workshop, 10**6, command)
    assert ended
    told = []
    for n in range(0, total, singlestep.stride(max(1, total // 24))):
        singlestep.step_program(workshop, n, command)
        (info,) = arena.objects()
        start = time.monotonic()
        with m:
            assert m.owner_died == info.owner_died  # exactly if the word names the dead
            assert time.monotonic() - start < 5
        told.append(info.owner_died)
    assert not told[0]
    assert True in told
    assert told.index(True) + told.count(True) == len(told) - told[::-1].index(True), "one hold, in one piece"
