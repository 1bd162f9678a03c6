"""The C tests of the barrier, and the broken twins that they condemn."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from twins import Edit, Twin, workshop_for

pytestmark = [pytest.mark.core, pytest.mark.timeout(300)]

C_TESTS = Path(__file__).resolve().parent / "core"

TWINS = {
    "lets one go early": (
        "a_barrier_of_threads",
        Edit(
            "barrier.c",
            "a->last = arrivals(b, w) == b->cell.parameter;",
            "a->last = arrivals(b, w) + (a->phase % 8 == 3) >= b->cell.parameter;",
        ),
    ),
    "ignores deaths": (
        "an_arrived_party_is_killed",
        Edit(
            "barrier.c",
            "        if (dead != 0) {\n            if (change(",
            "        if (0) {\n            if (change(",
        ),
    ),
    "nobody watches a newcomer": (
        "an_arrived_party_is_killed",
        Edit("barrier.c", "    tell(b, 1);\n    return leave(arena, b, SX_OK);", "    return leave(arena, b, SX_OK);"),
    ),
    "a late look breaks what was complete": (
        "a_phase_ends_one_way_for_all",
        Edit(
            "barrier.c",
            "    if (phase_of(w) != a->phase || w & BARRIER_COMPLETE) {\n        if (w",
            "    if (final) {\n        *status = SX_TIMEOUT;\n        break_and_wake(b);\n        return END;\n    }\n"
            "    if (phase_of(w) != a->phase || w & BARRIER_COMPLETE) {\n        if (w",
        ),
    ),
    "a reset leaves no trace": (
        "a_reset_is_one_for_all",
        Edit("barrier.c", "bits >> a->phase % 64 & 1 ? SX_BROKEN : SX_OK", "bits == 1 ? SX_BROKEN : SX_OK"),
    ),
    "complete, then wake": (
        "killed_at_every_instruction_after_the_action",
        Edit(
            "barrier.c",
            "} else if (change(b, &w, w | BARRIER_COMPLETE)) {",
            "} else if (change(b, &w, next(w, BARRIER_WAITERS))) {\n            wake_all(b);\n            return true;",
        ),
    ),
}


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    return workshop_for(tmp_path_factory)


def c_test(workshop, tmp_path, name, twin=None):
    source = tmp_path / "barrier_tests.c"
    source.write_text(f'#include "{C_TESTS}/check.c"\n#include "{C_TESTS}/test_barrier.c"\n')
    program = workshop.program(source, twin)
    return subprocess.run([program, name], capture_output=True, text=True, timeout=110)


@pytest.mark.parametrize("name", sorted({test for test, _ in TWINS.values()}))
def test_the_core_passes(workshop, tmp_path, name):
    done = c_test(workshop, tmp_path, name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("name", list(TWINS))
def test_a_twin_is_condemned(workshop, tmp_path, name):
    """Most at once; what takes a meeting of two at one instruction, in one of several runs."""
    test, edit = TWINS[name]
    for _ in range(30):
        done = c_test(workshop, tmp_path, test, Twin(name, (edit,)))
        if done.returncode == 1:
            break
    assert done.returncode == 1, done.stdout
    assert "FAIL" in done.stdout
