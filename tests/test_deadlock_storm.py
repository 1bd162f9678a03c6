"""A few seconds of tests/storm_deadlocks.py, whose two minutes are for the hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import Child

pytestmark = pytest.mark.core

_STORM = """
import logging
from dataclasses import asdict
logging.getLogger("syncx").addHandler(logging.NullHandler())
from storm_deadlocks import storm
say(asdict(storm(*ARGUMENTS, **OPTIONS)))
"""


@pytest.fixture
def storm(child: Callable[..., Child], arena: Any) -> Callable[..., dict[str, Any]]:
    """Calls it in a process of its own, whose default arena is the test's."""

    def storm(*arguments: Any, **options: Any) -> dict[str, Any]:
        stage = child(_STORM, ARGUMENTS=arguments, OPTIONS=options, env={"SYNCX_ARENA": arena.path})
        result = stage.hear(110)
        stage.finish()
        return result  # type: ignore[no-any-return]

    return storm


@pytest.mark.death  # those who come last are killed in the middle of it
def test_every_verdict_is_confirmed_and_no_deadlock_stands(storm: Callable[..., dict[str, Any]]) -> None:
    """By who shares no code with the detector, while all members are stopped between verdict and delivery."""
    report = storm(1, 4.0, 8, least=3, stands=10.0)
    assert (report["false"], report["stood"], report["left"]) == (0, 0, 0), report["why"]
    assert report["told"] >= 3
    assert report["confirmed"] >= 1
    assert report["turns"] > 0


@pytest.mark.death
def test_a_deadlock_that_stands_is_seen(storm: Callable[..., dict[str, Any]]) -> None:
    """The detector is off."""
    report = storm(1, 20.0, 8, twin="off")
    assert report["stood"] >= 1
    assert report["told"] == 0


@pytest.mark.death
def test_a_false_verdict_is_rejected(storm: Callable[..., dict[str, Any]]) -> None:
    """One is told who waits for a live holder."""
    report = storm(1, 0.5, 2, twin="liar", least=1, stands=10.0)
    assert report["false"] == 1
    assert any("a lie" in line for line in report["why"]), report["why"]
