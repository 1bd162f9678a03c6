"""The crash scenarios of semaphores, conditions, events, barriers, files, names: a few points, and twins condemned.

The sweeps over all points are `syncx stress --kill-every-instruction` and `tox -e crash`.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from crash_object_twins import CONDEMNED, CONDEMNED_STOPPED
from support import cannot_be_stepped

from syncx.testing.crash.catalogue import scenarios
from syncx.testing.crash.worker import Job

pytestmark = [pytest.mark.core, pytest.mark.timeout(300)]
HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def steps():
    if reason := cannot_be_stepped():
        pytest.skip(reason)


def swept(scenario: str, **how: Any) -> dict[str, Any]:
    path = f"/dev/shm/syncx-{os.geteuid()}-{os.environ.get('SYNCX_TEST_RUN', 'test')}-{secrets.token_hex(4)}"
    job = Job(scenario, path, **{"mode": "classes", "stop_after": 1, "modules": ("crash_object_twins",), **how})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    try:
        worker = subprocess.run(
            [sys.executable, "-m", "syncx.testing.crash.worker", json.dumps(asdict(job))],
            capture_output=True,
            text=True,
            timeout=280,
            env=environment,
        )
    finally:
        if os.path.exists(path):  # no arena perhaps, but a twin's half of one
            os.unlink(path)
    assert worker.returncode == 0, worker.stderr
    result: dict[str, Any] = json.loads(worker.stdout.splitlines()[-1])["result"]
    return result


@pytest.mark.parametrize("twin", CONDEMNED, ids=lambda twin: twin.__name__)
def test_a_broken_twin_is_condemned(twin):
    for _ in range(5):  # a busy machine is late now and then, and that is told instead
        found = swept(twin.name())["findings"]
        if CONDEMNED[twin] in {f["kind"] for f in found}:
            return
    raise AssertionError(found)


@pytest.mark.parametrize("twin", CONDEMNED_STOPPED, ids=lambda twin: twin.__name__)
def test_a_twin_that_takes_the_stopped_for_dead_is_condemned(twin):
    found = swept(twin.name(), mode="stop")["findings"]
    assert CONDEMNED_STOPPED[twin] in {f["kind"] for f in found}


@pytest.mark.parametrize(
    "name",
    [
        "event.set/with waiters",
        "mutex in memory.at/zero",
    ],
)
def test_the_true_one_is_not(name):
    """What has only to do with time is left to the sweeps: a busy machine is late."""
    result = swept(name)
    assert [f for f in result["findings"] if f["kind"] not in ("late", "hang")] == []
    assert result["points"] >= 4 or result["findings"]


def test_every_scenario_has_a_name_of_its_own():
    everything = [scenario.name() for scenario in scenarios()]  # which refuses two of one name
    assert len(everything) > 400
    assert all(name.count("/") == 1 for name in everything)
