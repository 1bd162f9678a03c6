"""A run as text for people (with rich on a terminal), as JSON, and beside an earlier run."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import syncx

from .limits import Verdict
from .peers import Field
from .samples import Section, Summary

try:
    import rich
except ImportError:
    rich = None


def describe(field: Field) -> dict[str, Any]:
    """Where and with what a run was made."""
    uname = os.uname()
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{uname.sysname} {uname.release}",
        "machine": uname.machine,
        "processor": model[1] if model else uname.machine,
        "cpus": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "syncx": syncx.__version__,
        "peers": dict(field.versions),
        "missing": dict(field.missing),
    }


def header(about: dict[str, Any]) -> list[str]:
    lines = [
        f"syncx {about['syncx']} on {about['python']}, {about['kernel']} {about['machine']}",
        f"{about['cpus']} CPUs ({about['processor']}), load {about['load']:.1f}",
        "beside " + ", ".join(f"{name} {version}" for name, version in about["peers"].items()),
    ]
    lines += [f"absent: {name}: {why}" for name, why in about["missing"].items()]
    return lines


def number(value: float) -> str:
    """Three digits that matter, thousands apart."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _spread(s: Summary, form: Callable[[float], str]) -> str:
    return f"{form(s.q1)}..{form(s.q3)}"


def short(value: float) -> str:
    """A ratio."""
    return f"{value:.3f}" if value < 1 else number(value)


def rows_of(section: Section, before: dict[str, Any] | None) -> tuple[list[str], list[list[str]]]:
    heads = ["", section.unit, "quartiles", "x", "quartiles"]
    if section.shares:
        heads += ["min/max", "quartiles"]
    if before is not None:
        heads.append("x before")
    rows = []
    for name in section.samples:
        value, ratio, share = section.value(name), section.ratio(name), section.share(name)
        cells = [name]
        cells += [section.notes.get(name, "-"), ""] if value is None else [number(value.median), _spread(value, number)]
        cells += ["", ""] if ratio is None else [short(ratio.median), _spread(ratio, short)]
        if section.shares:
            two = lambda x: f"{x:.2f}"  # noqa: E731
            cells += ["", ""] if share is None else [two(share.median), _spread(share, two)]
        if before is not None:
            then = before.get(section.key, {}).get(name)
            cells.append(short(value.median / then) if value and then else "")
        rows.append(cells)
    return heads, rows


def verdict_rows(verdicts: list[Verdict]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for v in verdicts:
        m = v.measured
        rows.append(
            [
                v.word,
                v.limit.group,
                v.limit.text,
                v.limit.bound(),
                "-" if m is None else f"{short(m.median)} {v.limit.unit}",
                "" if m is None else _spread(m, short),
            ]
        )
    return ["", "group", "limit", "bound", "median", "quartiles"], rows


class Output:
    """Tables and a progress bar: of rich on a terminal, plain aligned text without the bar otherwise."""

    def __init__(self) -> None:
        self.fancy = rich is not None and sys.stdout.isatty()
        self._bar: Any = None

    def line(self, text: str = "") -> None:
        print(text, flush=True)

    def table(self, title: str, heads: list[str], rows: list[list[str]], kinds: dict[str, str], words: int) -> None:
        """The first `words` columns are flush left."""
        widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
        if self.fancy:
            from rich import box
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text

            console = Console()
            table = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
            # where the terminal is too narrow, columns of quartiles go, the first ones first
            for i, head in enumerate(heads):
                if head == "quartiles" and sum(w + 3 for w in widths if w) + 1 > console.width:
                    widths[i] = 0
            shown = [i for i, w in enumerate(widths) if w]
            heads, rows = [heads[i] for i in shown], [[row[i] for i in shown] for row in rows]
            for i, head in enumerate(heads):
                table.add_column(Text(head), justify="left" if i < words else "right", no_wrap=i == 0, overflow="fold")
            styles = {"syncx": "bold green", "floor": "dim", "pass": "green", "FAIL": "bold red", "NOT MEASURED": "red"}
            for row in rows:
                table.add_row(*map(Text, row), style=styles.get(kinds.get(row[0], row[0]), ""))
            self._hide_bar(True)
            console.print(table)
            self._hide_bar(False)
            return
        self.line(title)
        for row in [heads, *rows]:
            cells = [c.ljust(w) if i < words else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
            self.line("  " + "  ".join(cells).rstrip())
        self.line()

    def section(self, section: Section, before: dict[str, Any] | None) -> None:
        heads, rows = rows_of(section, before)
        self.table(f"{section.title} (x: to {section.baseline})", heads, rows, section.kinds, 1)

    def verdicts(self, verdicts: list[Verdict]) -> None:
        heads, rows = verdict_rows(verdicts)
        self.table("what syncx must show", heads, rows, {}, 4)

    def _hide_bar(self, hide: bool) -> None:
        if self._bar is not None:
            self._bar.stop() if hide else self._bar.start()

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """Gives the function that moves the bar."""
        if rich is None or not sys.stderr.isatty():
            yield lambda group, done, of: None
            return
        from rich.console import Console
        from rich.progress import Progress

        # without a thread of its own: it would stand in the way of the measurements, and of fork
        bar = Progress(console=Console(stderr=True), transient=True, auto_refresh=False)
        tasks: dict[str, Any] = {}
        last = 0.0

        def step(group: str, done: int, of: int) -> None:
            nonlocal last
            if group not in tasks:
                for task in tasks.values():
                    bar.update(task, visible=False)
                tasks[group] = bar.add_task(group, total=of)
            bar.update(tasks[group], completed=done)
            if time.monotonic() - last > 0.1 or done == of:
                last = time.monotonic()
                bar.refresh()

        with bar:
            self._bar = bar
            try:
                yield step
            finally:
                self._bar = None


def to_json(about: dict[str, Any], groups: dict[str, list[Section]], verdicts: list[Verdict]) -> dict[str, Any]:
    return {
        "about": about,
        "groups": {group: [s.to_json() for s in sections] for group, sections in groups.items()},
        "limits": [
            {
                "verdict": v.word,
                "group": v.limit.group,
                "text": v.limit.text,
                "bound": v.limit.bound(),
                "median": v.measured and v.measured.median,
                "q1": v.measured and v.measured.q1,
                "q3": v.measured and v.measured.q3,
            }
            for v in verdicts
        ],
    }


def read_earlier(path: str) -> dict[str, dict[str, float]]:
    """The medians of a file written by --json, by section and row."""
    with open(path, encoding="utf-8") as file:
        data = json.load(file)
    try:
        return {
            section["key"]: {row["name"]: row["value"]["median"] for row in section["rows"] if row["value"]}
            for sections in data["groups"].values()
            for section in sections
        }
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} was not written by `python -m benchmarks --json`") from None
