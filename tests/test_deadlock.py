"""Deadlocks between processes: each is told to exactly one of its members, and nobody else is told anything.

The scenes are in knot_scenes.py, what plays and judges them in knots.py.  SYNCX_REPETITIONS=200 plays each so often.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import knots
import pytest
from knot_scenes import SCENES
from support import Child

REPETITIONS = int(os.environ.get("SYNCX_REPETITIONS", "2"))

# a few of them with every Python: the rest does not depend on it
EVERYWHERE = ("two mutexes", "three kinds", "thread and process")
HALTED = ("a member stopped", "a member traced")
DEADLY = ("a member killed", "a member killed in a deadlock that stands", "all but one killed")

Play = Callable[..., dict[str, Any]]

_PLAY = """
import logging
logging.getLogger("syncx").addHandler(logging.NullHandler())
import knots
say(eval(CALL, vars(knots)))
"""


@pytest.fixture
def play(child: Callable[..., Child], arena: Any) -> Play:
    """Evaluates a call of knots.py in a process of its own, whose default arena is the test's."""

    def play(call: str) -> dict[str, Any]:
        stage = child(_PLAY, CALL=call, env={"SYNCX_ARENA": arena.path})
        result = stage.hear(max(110.0, 2.0 * REPETITIONS))
        stage.finish()
        return result  # type: ignore[no-any-return]

    return play


def _scene(name: str) -> Any:
    marks = [] if name in EVERYWHERE else [pytest.mark.core]
    if REPETITIONS > 20:
        marks.append(pytest.mark.timeout(60 + 3 * REPETITIONS))
    return pytest.param(name, marks=marks, id=name)


@pytest.mark.parametrize("name", [_scene(name) for name in SCENES])
def test_one_member_is_told_and_all_others_get_what_they_want(name: str, play: Play) -> None:
    """Exactly one of each deadlock, who has lost nothing and is told of all the members; nobody while one of them
    still lives, however long it holds on."""
    if name == "another pid namespace" and not play("{'yes': namespaces_allowed()}")["yes"]:
        pytest.skip("this user may not make a pid namespace")
    result = play(f"play({name!r}, {REPETITIONS})")
    assert result["wrong"] == []
    deadlocks = {"two knots": 2, "permits, one way out": 0}.get(name, 1)
    assert (result["played"], result["told"]) == (REPETITIONS, deadlocks * REPETITIONS)
    assert (result["played_live"], result["told_live"]) == (REPETITIONS if deadlocks else 0, 0)


@pytest.mark.core
@pytest.mark.parametrize("name", HALTED)
def test_a_member_that_is_halted_in_its_wait(name: str, play: Play) -> None:
    """It is a member like any other: stopped or in a debugger's hands, it gives nothing back."""
    result = play(f"PLAYS[{name!r}]({REPETITIONS})")
    assert result["wrong"] == []
    assert (result["played"], result["told"]) == (REPETITIONS, REPETITIONS)


@pytest.mark.core
@pytest.mark.death
@pytest.mark.parametrize("name", DEADLY)
def test_the_death_of_a_member_dissolves_a_deadlock(name: str, play: Play) -> None:
    result = play(f"PLAYS[{name!r}]({REPETITIONS})")
    assert result["wrong"] == []
    assert (result["played"], result["told"]) == (REPETITIONS, 0)


@pytest.mark.core
def test_a_thread_that_waits_for_itself(play: Play) -> None:
    told = play("self_locks()")
    assert set(told.values()) == {"DeadlockError"}, told


# ---- broken twins: what `judge` must see ---------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize(
    ("twin", "seen"),
    [
        ("off", "0: a deadlock stands, and nobody is told"),
        ("two", " of [0, 1, 2] were told"),
        ("loses", "was told and has lost what it held"),
        ("cycle", "instead of [0, 1, 2]"),
        ("false", "2 was told, which is in no deadlock"),
    ],
)
def test_what_is_wrong_is_seen(twin: str, seen: str, play: Play) -> None:
    assert twin in knots.TWINS
    wrong = play(f"play('ring of 3', 1, twin={twin!r})")["wrong"]
    assert any(seen in line for line in wrong), wrong
