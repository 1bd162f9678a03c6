"""`pytest --syncx-order`: the test that makes an inversion possible fails, the others do not."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.core, pytest.mark.timeout(240)]

TESTS = """
import subprocess, sys, syncx

def take(*names):
    first, second = (syncx.Mutex(n) for n in names)
    with first, second:
        pass

def test_one_order():
    take("a", "b")

def test_the_other_order():
    take("b", "a")

def test_the_first_order_again():
    take("a", "b")

def test_in_a_process_of_its_own():
    take("c", "d")
    code = "import syncx\\nwith syncx.Mutex('d'), syncx.Mutex('c'): pass"
    subprocess.run([sys.executable, "-c", code], check=True)

def test_nothing_heavy():
    assert "syncx.order" not in sys.modules or LOADED
"""


def run(arena, directory, *options):
    """The output of pytest on those tests."""
    known = {e.value for e in importlib.metadata.entry_points(group="pytest11")}
    plugin = [] if "syncx.pytest_plugin" in known else ["-p", "syncx.pytest_plugin"]  # installed before there was one
    (directory / "test_them.py").write_text(TESTS.replace("LOADED", repr(bool(options))))
    environment = {k: v for k, v in os.environ.items() if k not in ("SYNCX_ORDER", "SYNCX_ORDER_FILE")}
    for name in [k for k in environment if k.startswith("PYTEST_")]:
        del environment[name]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *plugin, *options, "-rA"],
        cwd=directory, env={**environment, "SYNCX_ARENA": arena.path}, text=True, capture_output=True, timeout=100,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def outcomes(text):
    return {name: outcome for outcome, name in re.findall(r"^(PASSED|FAILED) test_them\.py::(\w+)", text, re.M)}


def test_fails_the_test_that_makes_it_possible(arena, tmp_path):
    status, text = run(arena, tmp_path, "--syncx-order")
    assert status == 1, text
    assert outcomes(text) == {
        "test_one_order": "PASSED",
        "test_the_other_order": "FAILED",
        "test_the_first_order_again": "PASSED",
        "test_in_a_process_of_its_own": "FAILED",
        "test_nothing_heavy": "PASSED",
    }
    assert "test_them.py::test_the_other_order (call) makes a deadlock possible" in text
    assert "lock order inversion: Mutex 'd' -> Mutex 'c' -> Mutex 'd'" in text
    # what an earlier run knew does not count
    status, text = run(arena, tmp_path, "--syncx-order", "-k", "other_order")
    assert status == 0, text


def test_reports_it_only(arena, tmp_path):
    status, text = run(arena, tmp_path, "--syncx-order-report")
    assert status == 0, text
    assert "test_them.py::test_in_a_process_of_its_own makes a deadlock possible" in text
    assert "test_them.py::test_one_order makes" not in text


def test_does_nothing_without_its_option(arena, tmp_path):
    status, text = run(arena, tmp_path)
    assert status == 0, text
    assert "inversion" not in text
