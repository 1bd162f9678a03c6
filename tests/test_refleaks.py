"""A small part of tests/refleaks in every run, and that it sees what it looks for; the whole is `tox -e refleaks`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from refleaks import twins
from support import PATIENCE

pytestmark = pytest.mark.core
ROOT = Path(__file__).resolve().parent.parent

PLANTED = """
import json
from tests.refleaks.meters import watch
from tests.refleaks.twins import planted
found = {}
for name, (meter, leave) in planted().items():
    kept = []
    found[name] = meter in watch(name, lambda: leave(kept), 100).grew
print(json.dumps([found, watch("nothing", lambda: [1], 100).grew]))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=2 * PATIENCE, env=os.environ
    )


def test_nothing_is_left_behind(tmp_path):
    # a lock that keeps its own gate (what `with` calls), and one that was pickled and then unlinked, did stay behind
    only = "--only=anonymous+Mutex, cycle+Event, pickled"
    done = run("-m", "tests.refleaks", "--rounds=40", only, "--parts=scenes", f"--json={tmp_path / 'j'}")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads((tmp_path / "j").read_text())
    assert said["failures"] == 0
    assert said["figures"]["scenes"] >= 14


def test_a_planted_leak_is_caught():
    done = run(
        "-m", "tests.refleaks", "--rounds=40", "--only=Latch, anon", "--parts=scenes", "--plant=Latch, anonymous"
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "LEAK: Latch, anonymous: 40 rounds left" in done.stdout


def test_every_meter_tells():
    done = run("-c", PLANTED)
    assert done.returncode == 0, done.stderr
    planted, nothing = json.loads(done.stdout)
    assert planted == dict.fromkeys(planted, True)
    assert len(planted) >= 6
    assert nothing == {}


@pytest.mark.parametrize("leak", twins.IN_C, ids=lambda leak: leak.name)
def test_twin_fits_the_core(leak):
    assert (ROOT / "syncx" / "_core" / leak.file).read_text().count(leak.old) == 1


def test_bad_arguments_are_told():
    done = run("-m", "tests.refleaks", "--only=no such scene", "--parts=scenes")
    assert done.returncode == 2
    assert "no scene has 'no such scene' in its name" in done.stderr
