"""The fixture `kill_everywhere` of the pytest plugin, and its marker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .killing import KillReport

MARK = "kill_everywhere"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{MARK}(**options): options of the fixture {MARK}, which kills the code under test everywhere"
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """So that `-m "not kill_everywhere"` leaves out the tests that take long."""
    if MARK in getattr(item, "fixturenames", ()) and item.get_closest_marker(MARK) is None:
        item.add_marker(MARK)


@pytest.fixture
def kill_everywhere(request: pytest.FixtureRequest) -> Callable[..., KillReport]:
    """`syncx.testing.kill_everywhere` for a test: skips where processes cannot be stepped, and fails with the report.

    Its options may be given by the marker: `@pytest.mark.kill_everywhere(every=100)`.  The report of a test that
    passes is in the section "syncx kill_everywhere" of its output (`pytest -rP`).
    """
    from . import killing

    given: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers(MARK))):
        if mark.args:
            raise pytest.UsageError(f"@pytest.mark.{MARK} takes options such as every=100, not {mark.args[0]!r}")
        given |= mark.kwargs

    def kill(target: Callable[[], object], check: Callable[[], object], **options: Any) -> KillReport:
        every = {**given, **options}
        for name in ("seconds", "only"):
            value = request.config.getoption(f"--syncx-kill-{name}")
            if value is not None:
                every[name] = value
        try:
            report = killing.kill_everywhere(target, check, **every)
        except killing.CannotStep as e:
            pytest.skip(str(e))
        except killing.KilledBadly as e:
            pytest.fail(str(e), pytrace=False)
        request.node.add_report_section("call", "syncx kill_everywhere", str(report))
        return report

    return kill
