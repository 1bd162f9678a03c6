"""`syncx demo deadlock`: stuck, told, solved; and that it would tell if the detector were broken."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from support import PATIENCE, _members, until, until_waiting

import syncx
from syncx import cli, demo_deadlock
from syncx.terminal import Screen


@pytest.fixture
def start():
    """Starts the demo in a session of its own; what a failed test leaves of it is removed."""
    started = []

    def call(*arguments, first=False, **environment):
        """first: it waits for a line before it begins."""
        env = {k: v for k, v in os.environ.items() if k not in ("SYNCX_ORDER", "SYNCX_TRACE")}
        command = [sys.executable, "-m", "syncx", "demo", "deadlock", *arguments]
        process = subprocess.Popen(
            ["sh", "-c", 'read line; exec "$@"', "sh", *command] if first else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**env, **environment},
        )
        started.append(process)
        return process

    yield call
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
        Path(f"/dev/shm/syncx-{os.geteuid()}-demo-{process.pid}").unlink(missing_ok=True)


def assert_nothing_left(process):
    assert not os.path.exists(f"/dev/shm/syncx-{os.geteuid()}-demo-{process.pid}")
    until(lambda: not _members(process.pid), "its processes end")


def test_stuck_told_solved(start, tmp_path):
    path = tmp_path / "deadlock.svg"
    process = start("--svg", str(path))
    out, err = process.communicate(timeout=2 * PATIENCE)
    assert (process.returncode, err) == (0, "")
    pids = {name: int(pid) for name, pid in re.findall(r"^  (\w+) \(process (\d+)\) has fork \d$", out, re.M)}
    names = ["Aristotle", "Bacon", "Confucius", "Descartes", "Epicurus"]
    assert list(pids) == names
    drawing, rest = out.split("the picture is in ")
    rows = re.findall(r"^.   +wants (fork \d) \(Mutex\), for \S+ \S+, in demo_dine\.py:\d+ in dine$", drawing, re.M)
    ring = re.findall(r"^(?:┏━▶ |┃   )(\d+) (\w+)  python\S* -m syncx\.demo_dine (\w+)$", drawing, re.M)
    assert {name: int(pid) for pid, name, _ in ring} == pids
    first = names.index(ring[0][1])  # whoever has been here longest
    assert [name for _, name, _ in ring] == names[first:] + names[:first]
    assert rows == [f"fork {(first + n) % 5 + 1}" for n in range(1, 6)]
    assert f"┗━━ held by {ring[0][0]} {ring[0][1]}\n" in drawing
    (victim,) = re.findall(r"^(\w+) is told, in a DeadlockError:$", rest, re.M)
    message = rest.partition("DeadlockError:\n")[2].partition("\n\n")[0]
    assert message.startswith("  deadlock of 5 threads; ")
    assert set(re.findall(r"process (\d+) \(", message)) == set(map(str, pids.values()))
    assert f"{victim} gives its fork back, and all 5 eat\n" in rest
    assert re.fullmatch(r"10,000 meals in \S+ \S+, and nobody was told of anything", out.splitlines()[-2])
    assert "SYNCX_ORDER=1" in out.splitlines()[-1]
    assert "\x1b" not in out
    picture = ElementTree.parse(path)
    words = {e.text for e in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert words >= {"deadlock", "5 threads", *(f"{pid} {name}" for name, pid in pids.items())}
    assert words >= {f"fork {n}" for n in range(1, 6)}
    assert_nothing_left(process)


def test_json(start):
    process = start("--philosophers", "3", "--json", SYNCX_ORDER="1")
    out, err = process.communicate(timeout=2 * PATIENCE)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert told["philosophers"] == told["members"] == 3
    assert told["told"] in told["meals"]
    assert set(told["meals"].values()) == {1 + demo_deadlock.TIMES}
    states = [(n["type"], n["state"]) for n in told["graph"]["nodes"]]
    assert sorted(states) == [("object", "deadlocked")] * 3 + [("thread", "deadlocked")] * 3
    assert "is told, in a DeadlockError" in err
    assert err.index("lock order inversion: Mutex 'fork ") < err.index("each has one fork, and waits")
    assert_nothing_left(process)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle(start, number):
    """We hold a fork ourselves, so that the story stands still until the signal comes."""
    process = start("--philosophers", "2", first=True)
    with syncx.Arena(f"demo-{process.pid}") as arena, syncx.Mutex("fork 1", arena=arena) as fork:
        process.stdin.write("\n")
        process.stdin.flush()
        until_waiting(arena)
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
        assert fork.locked()
    assert (process.returncode, err) == (128 + number, "")
    assert_nothing_left(process)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["deadlock", "--workers", "4"], "--philosophers"),
        ([".", "--philosophers", "4"], "demo deadlock"),
        ([".", "--svg", "x.svg"], "demo deadlock"),
        (["deadlock", "--philosophers", "1"], "from 2 to 64"),
    ],
)
def test_wrong_usage(arguments, message, capsys):
    try:
        status = cli.main(["demo", *arguments])
    except SystemExit as e:
        status = e.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert message in err


def test_no_place_for_the_picture(tmp_path):
    with pytest.raises(FileNotFoundError):
        demo_deadlock.dine(2, Screen(io.StringIO()), str(tmp_path / "none" / "x.svg"))
    assert not os.path.exists(f"/dev/shm/syncx-{os.geteuid()}-demo-{os.getpid()}")


def dinner():
    return demo_deadlock.dine(2, Screen(io.StringIO()))


def a_guest_that(monkeypatch, tmp_path, text):
    """The philosophers run another text than theirs, changed in that way."""
    source = Path(syncx.__file__).with_name("demo_dine.py").read_text()
    old, new = text
    assert old in source
    (tmp_path / "syncx_broken.py").write_text(
        source.replace("from .", "from syncx.").replace("from syncx. ", "from syncx ")
    )
    changed = (tmp_path / "syncx_broken.py").read_text().replace(old, new)
    (tmp_path / "syncx_broken.py").write_text(changed)
    popen = subprocess.Popen

    def other(command, **options):
        assert command[1:3] == ["-m", "syncx.demo_dine"]
        paths = os.pathsep.join([str(tmp_path), str(Path(syncx.__file__).parent.parent)])
        return popen(
            [command[0], str(tmp_path / "syncx_broken.py"), *command[3:]],
            env={**os.environ, "PYTHONPATH": paths},
            **options,
        )

    monkeypatch.setattr(demo_deadlock.subprocess, "Popen", other)


def test_the_same_text_elsewhere_does(monkeypatch, tmp_path):
    """What the next tests break is whole before that."""
    a_guest_that(monkeypatch, tmp_path, ("self.meals = 0", "self.meals = 0"))
    assert set(dinner().meals.values()) == {1 + demo_deadlock.TIMES}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        # no detector: they would sit there for ever
        (
            "    _core._set_verdict_hook(",
            "    _core._set_deadlock(False)\n    _core._set_verdict_hook(",
            "was found in",
        ),
        # forks that exclude nobody: they eat, and are not stuck
        ("with self.right:", "if True:", "should be stuck"),
        # one dies at the table
        ('tell("seated")', "os.kill(os.getpid(), 9)", "has left the table"),
    ],
)
@pytest.mark.death
def test_what_is_broken_is_told(monkeypatch, tmp_path, old, new, problem):
    a_guest_that(monkeypatch, tmp_path, (old, new))
    monkeypatch.setattr(demo_deadlock, "FOUND", 0.5 if "_set_deadlock" in new else PATIENCE)
    with pytest.raises(syncx.SyncxError, match=problem):
        dinner()
