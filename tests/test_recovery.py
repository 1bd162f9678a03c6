"""From a kill to a survivor's progress: benchmarks/recovery.py, a few deaths, and its oracle.

How fast anything is, is not tested here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import recovery

pytestmark = pytest.mark.core

LATE = """
import time
import syncx
from benchmarks import recovery

class Late(syncx.Mutex):
    def acquire(self, *arguments, **options):  # whoever is told of a death thinks about it for too long
        got = super().acquire(*arguments, **options)
        if self.owner_died:
            time.sleep(3)
        return got

raise SystemExit(recovery.main(Late))
"""


def finish(*arguments: str) -> tuple[int, str, str]:
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, capture_output=True, text=True, timeout=100, check=False
    )
    return done.returncode, done.stdout, done.stderr


def figures(**changed: float) -> dict[str, float]:
    found = {}
    for name in ("mutex", "mutex, death ignored", "C robust mutex"):
        found |= {f"{name}, never woken": 0, f"{name}, p50 us": 100.0, f"{name}, max ms": 1.0}
    return {**found, "ratio of the medians": 1.0, **changed}


def test_deaths_are_told_beside_the_c_program(tmp_path: Path) -> None:
    status, out, err = finish("-m", "benchmarks.recovery", "--deaths", "2", "--json", str(tmp_path / "found"))
    assert (status in (0, 1), err) == (True, ""), out  # 1: another was on the CPU for long
    found = json.loads((tmp_path / "found").read_text())
    assert found["figures"]["mutex, deaths"] == found["figures"]["C robust mutex, deaths"] == 2
    assert found["figures"]["mutex, never woken"] == 0
    assert 0 < found["figures"]["mutex, p50 us"] <= found["figures"]["mutex, p99 us"]
    assert found["failures"] == out.count("FAULT:") == len(recovery.faults_of(found["figures"]))
    assert "to the C program:" in out


def test_a_twin_that_is_late_is_found_out() -> None:
    status, out, _ = finish("-c", LATE, "--deaths", "1")
    assert status == 1
    assert "FAULT: mutex: a waiter ran" in out


def test_what_is_a_fault() -> None:
    assert recovery.faults_of(figures()) == []
    (never,) = recovery.faults_of(figures(**{"mutex, never woken": 1}))
    assert never == "mutex: after 1 deaths the waiter slept on"
    (late,) = recovery.faults_of(figures(**{"mutex, death ignored, max ms": 251.0}))
    assert late == "mutex, death ignored: a waiter ran 251 ms after the death, and 250 ms is the most"
    (slow,) = recovery.faults_of(figures(**{"ratio of the medians": 3.1}))
    assert slow == "the median is 3.10 times that of the C program, and 3 times is the most"
    assert recovery.faults_of(figures(**{"C robust mutex, max ms": 900.0, "mutex, max ms": 1000.0})) == []
    assert len(recovery.faults_of(figures(**{"C robust mutex, max ms": 300.0, "mutex, max ms": 700.0}))) == 1


def test_percentiles() -> None:
    assert [recovery.percentile([3.0, 1.0, 2.0, 4.0], share) for share in (0.25, 0.5, 0.99, 1)] == [1, 2, 4, 4]


def test_wrong_arguments() -> None:
    status, _, err = finish("-m", "benchmarks.recovery", "--deaths", "0")
    assert status == 2
    assert "0 is less than 1" in err
