"""The pytest plugin: the fixture `kill_everywhere`; `pytest --syncx-order` fails the test that makes a lock order
inversion possible.

Registered as the entry point "syncx" of pytest11.  Where neither is used it does nothing, and imports hardly more.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

_PATH = "SYNCX_ORDER_FILE"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("syncx", "syncx: locks between processes")
    group.addoption(
        "--syncx-order",
        action="store_true",
        help="check the order of syncx locks; fail the test that makes an inversion possible, in its own process or in "
        "one that it starts",
    )
    group.addoption(
        "--syncx-order-report",
        action="store_true",
        help="the same, but only tell of it in the summary",
    )
    group.addoption(
        "--syncx-kill-seconds",
        type=float,
        metavar="N",
        help="how long each kill_everywhere() of the tests may take (whatever the test says)",
    )
    group.addoption(
        "--syncx-kill-only",
        metavar="POINT",
        help="kill at that one point of a report only, such as 12.345",
    )


def pytest_configure(config: pytest.Config) -> None:
    from .testing import fixture

    config.pluginmanager.register(fixture, "syncx-kill-everywhere")
    if not (config.getoption("--syncx-order") or config.getoption("--syncx-order-report")):
        return
    import pytest

    from .arena import Arena, path_of
    from .order import forget, order_check

    if not hasattr(config, "workerinput"):  # what runs before knew of an order is not this one's affair
        path, _ = path_of(os.environ.get("SYNCX_ARENA") or "default")
        if os.path.exists(path):
            with Arena(path) as arena:
                forget(arena)

    class Checker:
        """Collects what the processes of a test write, and says it with the test's report."""

        def __init__(self) -> None:
            self.fails = bool(config.getoption("--syncx-order"))
            handle, self.path = tempfile.mkstemp(prefix="syncx-order-")
            self.read = 0
            os.close(handle)
            self.before = {name: os.environ.get(name) for name in (_PATH, "SYNCX_ORDER")}
            os.environ[_PATH] = self.path
            os.environ["SYNCX_ORDER"] = "1"  # for the processes that the tests start
            order_check(True)

        def new(self) -> list[str]:
            with open(self.path, "rb") as f:
                f.seek(self.read)
                lines = f.read().splitlines(keepends=True)
            whole = [line for line in lines if line.endswith(b"\n")]
            self.read += sum(map(len, whole))
            return [json.loads(line)["inversion"] for line in whole]

        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Iterator[None]:
            outcome: Any = yield
            found = self.new()
            if not found:
                return
            report = outcome.get_result()
            text = "\n\n".join(found)
            report.sections.append(("syncx lock order", text))
            report.user_properties.append(("syncx-order", text))
            if self.fails and report.outcome == "passed":
                report.outcome = "failed"
                report.longrepr = f"{item.nodeid} ({report.when}) makes a deadlock possible\n{text}"

        def pytest_terminal_summary(self, terminalreporter: Any) -> None:
            told: dict[str, str] = {}
            for reports in terminalreporter.stats.values():
                for report in reports:
                    for name, text in getattr(report, "user_properties", ()):
                        if name == "syncx-order":
                            told[text] = report.nodeid
            if told and not self.fails:
                terminalreporter.section("syncx lock order")
                for text, nodeid in told.items():
                    terminalreporter.write_line(f"{nodeid} makes a deadlock possible\n{text}\n")

        def pytest_unconfigure(self) -> None:
            order_check(False)
            for name, value in self.before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            os.unlink(self.path)

    config.pluginmanager.register(Checker(), "syncx-order")
