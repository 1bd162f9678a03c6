"""`syncx.testing.kill_everywhere`: what a kill tears is found, what is mended passes, and the report says where."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import killed_workers as workers
import pytest

import syncx
from syncx.testing import CannotStep, KilledBadly, kill_everywhere, stepping

pytestmark = pytest.mark.core


@pytest.fixture(scope="module", autouse=True)
def steppable():
    with pytest.raises(RuntimeError) as e:
        kill_everywhere(workers.nothing, workers.nothing, progress=False)
    if isinstance(e.value, CannotStep):
        pytest.skip(str(e.value))
    assert "never held a lock of ours" in str(e.value)


@pytest.fixture
def path(tmp_path):
    workers.start(tmp_path / "accounts")
    return tmp_path / "accounts"


def kill(target, check, path, **options):
    p = functools.partial
    options = {"every": 10**6, "setup": p(workers.start, path), "progress": False, "patience": 20.0, **options}
    return kill_everywhere(p(target, path), p(check, path), **options)


def test_what_is_torn_is_found_and_found_again(path):
    with pytest.raises(KilledBadly) as e:
        kill(workers.in_place, workers.is_whole, path, stop_after=1)
    report = e.value.report
    (failure,) = report.failures
    assert failure.held == ("Mutex 'accounts'",)
    assert "killed_workers.py" in failure.line
    assert "in is_whole" in failure.what
    assert f"only={failure.point!r}" in str(e.value)
    assert report.held == report.points > 0
    with pytest.raises(KilledBadly) as again:
        kill(workers.in_place, workers.is_whole, path, only=failure.point)
    (same,) = again.value.report.failures
    assert (same.point, same.line) == (failure.point, failure.line)
    assert not list(Path("/dev/shm").glob(f"syncx-{os.geteuid()}-kill-{os.getpid()}-*"))


@pytest.mark.parametrize(
    ("target", "check"),
    [(workers.updated, workers.is_whole), (workers.in_place_with_a_copy, workers.is_whole_or_mended)],
    ids=["update", "a copy to mend from"],
)
def test_what_is_whole_or_mended_passes(path, target, check):
    report = kill(target, check, path, every="auto", seconds=0.7)
    assert report.failures == []
    assert report.told > 0
    assert report.held > 0
    assert sum(report.lines().values()) == report.points
    assert json.loads(report.to_json())["points"] == report.points


def test_a_hang_is_told_with_where_it_is(path):
    with pytest.raises(KilledBadly) as e:
        kill(
            workers.leaves_a_flag,
            workers.waits_for_the_flag,
            path,
            setup=functools.partial(workers.no_flag, path),
            patience=1.0,
            stop_after=1,
        )
    assert "did not end within 1 s" in e.value.report.failures[0].what
    assert "waits_for_the_flag" in e.value.report.failures[0].what


def test_a_hold_between_two_system_calls_is_found():
    report = kill_everywhere(workers.in_memory, workers.can_be_had, every=300, seed=7, progress=False)
    assert report.failures == []
    assert 0 < report.held <= report.points


@pytest.mark.parametrize(
    ("target", "check", "options", "error", "words"),
    [
        (workers.fails, workers.nothing, {}, RuntimeError, "target failed:[^$]*the target's own"),
        (workers.nothing, workers.fails, {}, RuntimeError, "check failed though nobody was killed"),
        (lambda: None, workers.nothing, {}, TypeError, "functions of a module that can be imported"),
        (None, workers.nothing, {}, TypeError, "target must be a function"),
        (workers.nothing, workers.nothing, {"every": 0}, ValueError, "every must be"),
        (workers.nothing, workers.nothing, {"where": "here"}, ValueError, "where must be"),
        (workers.nothing, workers.nothing, {"only": 12}, ValueError, "only must be a point"),
        (workers.nothing, workers.nothing, {"seconds": -1}, ValueError, "seconds must be"),
        (workers.nothing, workers.nothing, {"seed": "x"}, TypeError, "seed must be"),
    ],
)
def test_bad_input(target, check, options, error, words):
    with pytest.raises(error, match=words):
        kill_everywhere(target, check, progress=False, **options)


def test_where_nothing_can_be_stepped(monkeypatch):
    monkeypatch.setattr(stepping, "SUPPORTED", False)
    with pytest.raises(CannotStep, match="x86-64"):
        kill_everywhere(workers.nothing, workers.nothing)


TESTS = """
import functools, killed_workers as w, pytest

def test_torn(kill_everywhere, tmp_path):
    p = tmp_path / "x"
    kill_everywhere(functools.partial(w.in_place, p), functools.partial(w.is_whole, p),
                    setup=functools.partial(w.start, p))

@pytest.mark.kill_everywhere(every=0)
def test_options(kill_everywhere, tmp_path):
    with pytest.raises(ValueError, match="every"):
        kill_everywhere(w.nothing, w.nothing)

def test_other():
    assert True
"""


def test_fixture(tmp_path):
    known = {e.value for e in importlib.metadata.entry_points(group="pytest11")}
    plugin = [] if "syncx.pytest_plugin" in known else ["-p", "syncx.pytest_plugin"]
    (tmp_path / "test_them.py").write_text(TESTS)
    (tmp_path / "killed_workers.py").write_text(Path(workers.__file__).read_text())
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}

    def run(*options):
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--strict-markers",
            "-p",
            "no:cacheprovider",
            *plugin,
            *options,
        ]
        done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=100)
        return done.stdout + done.stderr

    said = run("-p", "no:xdist", "-m", "kill_everywhere", "--syncx-kill-seconds=2")
    assert "1 failed, 1 passed, 1 deselected" in said, said
    assert "holding Mutex 'accounts'" in said


def test_nothing_more_is_imported():
    """By those who only use locks."""
    code = "import sys, syncx; print('syncx.testing' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], text=True, capture_output=True).stdout == "False\n"
    assert syncx.__version__
