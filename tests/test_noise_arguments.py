"""Odd arguments to every public call: a small and always same part of `python -m tests.noise arguments`, what it found,
and what it must find."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from noise import arguments, inventory
from noise.battery import Alarm, Enough
from noise.hostile import DEEDS, VALUES

import syncx

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.core


def test_every_call_meets_odd_arguments(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.noise", "arguments", "--examples", "2", "--public", "--json", str(out)],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())
    assert figures["failures"] == 0, figures["findings"]
    assert figures["figures"]["calls"] >= 2 * figures["figures"]["kinds of calls"] * 0.9
    assert {"returned", "TypeError", "ValueError"} <= set(figures["outcomes"])


def test_nothing_public_is_left_out() -> None:
    """By another way than that by which the calls are found."""
    found = {str(t) for t in arguments.targets()}
    for name in syncx.__all__:
        what = getattr(syncx, name)
        if not isinstance(what, type):
            assert name in found
        elif not issubclass(what, BaseException) and name not in (*arguments.RECORDS, "Lock"):
            assert name in arguments.SUBJECTS, f"tests/noise/arguments.py does not know how to make a {name}"
            for member in dir(what):
                if member[0] != "_" and callable(getattr(what, member)):
                    assert f"{name}.{member}" in found
    for name in arguments.RECORDS:
        assert not [m for m, _ in inventory.members(inventory.classes()[name]) if m != "fromkeys" and _method(name, m)]


def _method(name: str, member: str) -> bool:
    return inventory.is_method(inventory.classes()[name], member)


def test_every_parameter_has_something_that_is_expected() -> None:
    """Or a call would hardly get as far as its second argument."""
    unknown = set()
    for target in arguments.targets():
        cls = inventory.classes().get(target.owner)
        if target.private or cls is None or target.name.startswith("__"):
            continue
        for p in arguments.parameters(getattr(cls, target.name)):
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in ("self", "record"):
                unknown |= {p.name} - set(arguments.EXPECTED)
    assert unknown == set()


# ---- what must be found ----------------------------------------------------------------------------------------------


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Where calls are made, in this process; it is left as it was."""
    from syncx import arena, lockinfo

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(arena, "DIRECTORY", arena.DIRECTORY)
    monkeypatch.setattr(lockinfo, "DIRECTORY", lockinfo.DIRECTORY)
    monkeypatch.setenv("SYNCX_ARENA", f"{tmp_path}/default")
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    made = arguments.Stage(lambda text: None)
    yield made
    made.arena.close()
    made.close()


def _system_error(self: Any, *_: object) -> None:
    raise SystemError("returned NULL without setting an exception")


def _holds_on(self: Any, *_: object) -> None:
    self.acquire()
    raise ValueError("not this argument")


def _wordless(self: Any, *_: object) -> None:
    raise TypeError


def _attribute(self: Any, value: Any, *_: object) -> None:
    value.no_such_attribute  # noqa: B018


def _unseen(self: Any, *_: object) -> None:
    class Falls:
        def __del__(self) -> None:
            raise KeyError("in a destructor")

    Falls()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (_system_error, "SystemError"), (_holds_on, "left held"), (_wordless, "without words"),
        (_attribute, "AttributeError"), (_unseen, "unseen"),
    ],
)  # fmt: skip
def test_a_faulty_call_is_found(stage: Any, monkeypatch: pytest.MonkeyPatch, fault: Any, kind: str) -> None:
    def call(target: str) -> None:
        stage.call(arguments.Plan(arguments.Target("Mutex", target), "fresh", ["None"], {}))

    call("acquire")
    call("release")
    assert stage.outcome.findings == {}
    monkeypatch.setattr(syncx.Mutex, "within", fault)
    call("within")
    assert [found for _, found in stage.outcome.findings] == [kind]
    assert stage.outcome.tried == 3


def test_hostile_objects_do_what_their_names_say(stage: Any) -> None:
    assert len(VALUES) > 150
    scene = arguments.Scene(stage._directory, stage.arena, memory=memoryview(bytearray(8192)))
    scene.subject = kept = syncx.Mutex(arena=stage.arena)
    assert VALUES["asked, takes it, answers 1"](scene).__index__() == 1
    assert kept.locked()
    VALUES["asked, releases it, answers 1"](scene).__bool__()
    assert not kept.locked()
    VALUES["asked, closes it, answers None"](scene).__fspath__()
    assert kept.closed
    assert all(any(deed in name for name in VALUES) for deed in DEEDS)


def test_an_alarm_rings_in_the_call_alone() -> None:
    before = signal.getsignal(signal.SIGALRM)
    try:
        alarm = Alarm(0.001)
        with pytest.raises(Enough):
            alarm.call(signal.pause)
        signal.raise_signal(signal.SIGALRM)
        assert alarm.call(int, "5") == 5
    finally:
        signal.signal(signal.SIGALRM, before)


# ---- what it found ---------------------------------------------------------------------------------------------------


class _Answers:
    def __init__(self, answer: object) -> None:
        self._answer = answer

    def __index__(self) -> Any:
        return self._answer


class _Lies(int):
    def __index__(self) -> Any:
        return "x"


def test_a_range_whose_number_is_none(arena: Any, tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(64))
    for wrong in (_Answers("x"), _Answers(1.5), _Answers(None)):
        with pytest.raises(TypeError, match="__index__ returned non-int"):
            syncx.RangeLock(path, wrong, arena=arena)
        with syncx.RangeLock(path, 0, 4, arena=arena) as lock, pytest.raises(TypeError, match="__index__"):
            lock.lock_range(8, wrong)
        with syncx.RecordLocks(path, 4, arena=arena) as table, pytest.raises(TypeError, match="__index__"):
            table.shared(wrong)
    assert syncx.RangeLock(path, _Lies(3), 4, arena=arena).start == 3


def test_a_range_more_of_a_lock_that_is_not_held(arena: Any, tmp_path: Path) -> None:
    """The words were those of a condition."""
    lock = syncx.RangeLock(tmp_path / "data", 0, 4, arena=arena)
    for call in (lambda: lock.lock_range(8, 4), lock.upgrade, lambda: lock.unlock_range(0, 1)):
        with pytest.raises(syncx.NotOwner, match="this thread does not hold") as caught:
            call()
        assert "notify" not in str(caught.value)
        assert "release" in str(caught.value)


def test_the_chain_of_something_else(arena: Any) -> None:
    for wrong in (None, 1, "x", sys):
        with pytest.raises(TypeError, match=f"`blocked`, not {type(wrong).__name__}"):
            syncx.wait_graph(arena).chain(wrong)
