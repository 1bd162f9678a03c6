"""The crash harness: broken locks are condemned, each for what is wrong with it, and the mutex is not."""

from __future__ import annotations

import itertools
import json
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import crash_twins
import pytest
from support import cannot_be_stepped

from syncx.testing.crash import main
from syncx.testing.crash.report import Report
from syncx.testing.crash.sweep import BEYOND, Driver, Finding, Point, Sweep
from syncx.testing.stepping import Victim, interpreter_code, system_call_of

pytestmark = [pytest.mark.core, pytest.mark.timeout(300)]

HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def steps():
    if reason := cannot_be_stepped():
        pytest.skip(reason)


def harness(*arguments: str, path: Path) -> tuple[int, dict, str]:
    """The exit status, the figures and what was printed."""
    figures = path / "figures.json"
    command = [sys.executable, "-m", "syncx.testing.crash", "--json", str(figures), "--jobs", "2", *arguments]
    done = subprocess.run(
        command, cwd=HERE, capture_output=True, text=True, timeout=280, env={**os.environ, "PYTHONPATH": str(HERE)}
    )
    return done.returncode, json.loads(figures.read_text()) if figures.exists() else {}, done.stdout + done.stderr


CONDEMNED = {
    ("twin: excludes nobody.release/with a waiter", "classes"): "two holders",
    ("twin: tells nobody.release/free", "classes"): "told",
    ("twin: tells always.acquire/free", "classes"): "told",
    ("twin: tells always.with/recovering", "classes"): "told",
    ("twin: hangs for ever.acquire/free", "classes"): "hang",
    ("twin: loses permits.acquire/free", "classes"): "lost permit",
    ("twin: wakes nobody.release/with a waiter", "classes"): "lost wake-up",
    ("twin: never wakes.acquire/contended", "classes"): "lost wake-up",
    ("twin: dies by itself.release/free", "classes"): "error",
    ("twin: excludes nobody.acquire/a try, held by another", "classes"): "two holders",
    ("twin: sleeps in a try.acquire/a try, held by another", "classes"): "hang",
    ("twin: fails each try.acquire/a try, free", "classes"): "damage",
    ("twin: claims to upgrade.upgrade/contended", "classes"): "two holders",
    ("twin: marks no reader.upgrade/timing out", "classes"): "two holders",
    ("twin: mends in silence.acquire/recovering from a writer", "classes"): "told",
    ("twin: left to the child.fork/while it holds", "classes"): "hang",
    ("twin: excludes nobody.release/free", "stop"): "two holders",
    ("twin: tells nobody.acquire/recovering", "pairs"): "told",
}


@pytest.mark.parametrize("mode", ["classes", "stop", "pairs"])
def test_twins_are_condemned(mode, tmp_path):
    wanted = {name: kind for (name, m), kind in CONDEMNED.items() if m == mode}
    extra = ("--stride", "100") if mode == "pairs" else ()
    status, figures, said = harness(
        "--from", "crash_twins", "--mode", mode, "--findings", "3", *extra, "--only", *wanted, path=tmp_path
    )
    assert status == 1, said
    assert not figures["failed"], said
    kinds: dict[str, set[str]] = {}
    for finding in figures["findings"]:
        kinds.setdefault(finding["scenario"], set()).add(finding["kind"])
    assert {name for name, kind in wanted.items() if kind not in kinds.get(name, ())} == set(), said


def test_every_twin_is_condemned_somewhere():
    assert {name.partition(".")[0] for name, _ in CONDEMNED} == {twin.name for twin in crash_twins.TWINS}


def test_the_mutex_is_not_condemned(tmp_path):
    status, figures, said = harness("--only", "mutex.release/free", "mutex.acquire/free", path=tmp_path)
    assert {f["kind"] for f in figures["findings"]} <= {"late"}, said  # a busy machine is late now and then
    assert status == (1 if figures["findings"] else 0), said
    assert figures["figures"]["points"] >= 6
    assert figures["figures"]["hangs"] == 0


def test_a_finding_can_be_repeated(tmp_path):
    name = "twin: tells always.acquire/free"
    status, figures, said = harness("--from", "crash_twins", "--only", name, "--point", "0.0", path=tmp_path)
    assert status == 1, said
    assert figures["figures"]["points"] == 1
    again = f"--mode classes --only '{name}' --point 0.0"
    assert f"python -m syncx.testing.crash --from crash_twins {again}" in said
    assert figures["command"] == (
        f"python -m syncx.testing.crash --jobs 2 --from crash_twins --only '{name}' --point 0.0"
    )


INTERRUPTED = """
import os, signal, sys
from syncx.testing.crash import main, runner

done = runner._Crew.done

def one(crew, worker):
    done(crew, worker)
    os.kill(os.getpid(), signal.SIGTERM)

runner._Crew.done = one
sys.exit(main(sys.argv[1:]))
"""


def test_what_an_interrupted_run_left_out_is_told(tmp_path):
    figures = tmp_path / "figures.json"
    wanted = ["mutex.release/free", "mutex.acquire/free", "rlock.release/free"]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "--jobs", "1", "--json", str(figures), "--only", *wanted],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 130, done.stdout + done.stderr
    told = json.loads(figures.read_text())
    assert told["interrupted"]
    assert told["figures"]["scenarios"] == 1
    assert {*told["scenarios"], *told["left_out"]} == set(wanted)
    assert told["figures"]["left_out"] == len(told["left_out"]) == 2
    assert "left out, for it was interrupted: 2 scenarios" in done.stdout


def test_a_report_counts_each_scenario_and_each_finding():
    report = Report("classes", ["--only", "a b", "--json", "f", "--jobs=2", "--json=g"], [], ["a", "b", "c", "d"])
    kinds = ["lost permit", "doubled permit", "hang", "error"]
    report.add(Sweep("a", "classes", findings=[Finding("a", "classes", "0.0", "", kind, "it is so") for kind in kinds]))
    report.failed["b"] = "it said nothing"
    told = report.figures()
    assert told["command"] == "syncx stress --kill-every-instruction --only 'a b' --jobs=2"
    assert report.left_out == told["left_out"] == ["c", "d"]
    assert [told["figures"][k] for k in ("left_out", "lost_permits", "hangs", "other")] == [2, 2, 1, 1]
    assert told["failures"] == 5


def test_the_first_thread_sleeps_before_the_second_is_stepped(monkeypatch):
    """One that still wanted the interpreter would meet the breakpoints that are meant for the other."""
    pause = signal.pause

    def late() -> None:
        time.sleep(0.05)
        pause()

    monkeypatch.setattr(signal, "pause", late)
    victim = Victim(in_thread=True)
    try:
        assert system_call_of(victim.pid) == 34  # pause(2)
    finally:
        victim.kill()


def test_what_a_victim_died_of():
    victim = Victim(lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert not victim.failed
    assert victim.run() == "gone"
    assert victim.failed == "signal 9"
    victim.kill()
    assert victim.failed == "signal 9"


def test_a_victim_that_was_killed_has_not_failed():
    victim = Victim()
    victim.kill()
    assert victim.gone
    assert not victim.failed


def test_what_others_change_is_no_effect_of_the_interpreter():
    """A child counts in memory that the victim shares, as fast as it can, while that only thinks."""
    memory = mmap.mmap(-1, mmap.PAGESIZE)

    def counts() -> None:
        for n in itertools.count():
            memory[0] = n & 0xFF

    def thinks(times: Iterable[object]) -> None:
        for _ in times:
            continue

    def before() -> Callable[[], object]:
        thinks(range(1000))  # what it calls outside the interpreter is bound
        return partial(thinks, itertools.repeat(None))

    counter = multiprocessing.get_context("fork").Process(target=counts, daemon=True)
    counter.start()
    taken_for_its_own = Victim(before=before, watched=[memory])
    told_apart = Victim(before=before, watched=[memory], aside=interpreter_code())
    try:
        assert taken_for_its_own.walk(effects=50) == "limit"
        assert told_apart.walk(steps=1000) == "limit"  # the way into the interpreter is not its code
        assert told_apart.walk(steps=3000 + taken_for_its_own.steps, effects=1000) == "limit"
        often = taken_for_its_own.effects / taken_for_its_own.steps
        assert told_apart.effects / (told_apart.steps - 1000) < often / 4
    finally:
        counter.kill()
        counter.join()
        taken_for_its_own.kill()
        told_apart.kill()


def test_a_stretch_that_is_too_long_is_told():
    """Nothing is left out in silence."""
    driver = Driver.__new__(Driver)
    driver.mode = "classes"
    points = driver.points(1)
    assert next(points)[0] == Point(0, BEYOND)
    driver.told = "limit", SimpleNamespace(call=-1, trace=(1,) * 7, moments=())
    with pytest.raises(RuntimeError, match="more than 7 instructions after 0 system calls"):
        next(points)


@pytest.mark.parametrize("text", ["0.0", "3.17", "12.z", "4.end"])
def test_a_point_is_read_as_it_is_written(text):
    assert str(Point.parse(text)) == text


@pytest.mark.parametrize("text", ["", "3", "x.1", "1.x", "-1.2", "1.-2"])
def test_what_is_no_point_is_refused(text):
    with pytest.raises(ValueError, match=r"a point is SYSTEM CALLS\.STEPS"):
        Point.parse(text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "no such thing"], "no scenario of mode classes is chosen"),
        (["--point", "0.0"], "--point wants one scenario"),
        (["--point", "x", "--only", "mutex.release/free"], "a point is SYSTEM CALLS.STEPS"),
        (["--from", "no_such_module"], "no_such_module"),
    ],
)
def test_wrong_usage(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_the_list(capsys):
    assert main(["--list"]) == 0
    names = capsys.readouterr().out.splitlines()
    assert len(names) == len(set(names)) > 200
    assert {"mutex.acquire/contended", "rwlock upgradable.upgrade/timing out"} <= set(names)
