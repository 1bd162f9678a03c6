"""What syncx must reach.  The only place where these numbers stand; `--check` compares a run with them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from . import creation, wakeup
from .samples import Section, Summary

Measure = Callable[[dict[str, Section]], "Summary | None"]

NAME_BYTES = 72
"""What a named lock may take beside its own 128 bytes: the record of its name (32 bytes up to 16 bytes of name), its
part of the index (24: it is at most half full, and the smaller one before it is kept), and its process's reference
(16: 8, and room grows in steps)."""


@dataclass(frozen=True)
class Limit:
    group: str
    text: str
    measure: Measure
    at_most: float | None = None
    at_least: float | None = None
    unit: str = "x"
    every_version: bool = False
    """True: for every interpreter; False: stated for CPython 3.11, informative elsewhere."""

    def applies(self) -> bool:
        return self.every_version or sys.version_info[:2] == (3, 11)

    def bound(self) -> str:
        return f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"

    def holds(self, value: float) -> bool:
        if self.at_most is not None:
            return value <= self.at_most
        assert self.at_least is not None
        return value >= self.at_least


def _ratio(section: str, row: str, baseline: str | None = None) -> Measure:
    return lambda sections: sections[section].ratio(row, baseline) if section in sections else None


def _value(section: str, row: str) -> Measure:
    return lambda sections: sections[section].value(row) if section in sections else None


def _share(section: str, row: str) -> Measure:
    return lambda sections: sections[section].share(row) if section in sections else None


LIMITS = [
    Limit(
        "uncontended",
        "`with` to threading.Lock",
        _ratio("with", "syncx.Mutex"),
        at_most=0.40 if sys.version_info < (3, 11) else 0.30,
        every_version=True,
    ),
    Limit(
        "uncontended",
        "`with` to a C object that does nothing, METH_VARARGS",
        _ratio("with", "syncx.Mutex", "C object that does nothing, VARARGS"),
        at_most=0.5,
    ),
    Limit("uncontended", "acquire()/release() to threading.Lock", _ratio("pair", "syncx.Mutex"), at_most=0.45),
    Limit("uncontended", "failing acquire to threading.Lock", _ratio("failing", "syncx.Mutex"), at_most=0.25),
    Limit("contended", "2 processes, to multiprocessing.Lock", _ratio("two", "syncx.Mutex"), at_least=2.0),
    Limit("contended", "8 processes, 2 us, to multiprocessing.Lock", _ratio("eight", "syncx.Mutex"), at_least=1.8),
    Limit("contended", "8 processes, 2 us, smallest/largest share", _share("eight", "syncx.Mutex"), at_least=0.5),
    Limit("wakeup", "release to waiter, to multiprocessing.Lock", _ratio("release", "syncx.Mutex"), at_most=1.2),
    Limit(
        "wakeup",
        "SIGKILL to next holder, to a C program",
        _ratio("sigkill", "syncx.Mutex", wakeup.PROGRAM),
        at_most=2.0,
    ),
    Limit("creation", "a named mutex made in", _value("time", creation.NAMED), at_most=3.0, unit="us"),
    Limit(
        "creation",
        "128 bytes each, plus the name",
        _value("memory", creation.NAMED),
        at_most=128 + NAME_BYTES,
        unit="bytes",
    ),
    Limit("import", "to multiprocessing.synchronize", _ratio("import", "syncx"), at_most=0.5),
]


@dataclass(frozen=True)
class Verdict:
    limit: Limit
    measured: Summary | None

    @property
    def word(self) -> str:
        if self.measured is None:
            return "NOT MEASURED"
        if not self.limit.applies():
            return "for 3.11"
        return "pass" if self.limit.holds(self.measured.median) else "FAIL"

    @property
    def good(self) -> bool:
        return self.word in ("pass", "for 3.11")


def judge(groups: list[str], sections: dict[str, Section]) -> list[Verdict]:
    """A verdict for each limit of the groups that ran."""
    return [Verdict(limit, limit.measure(sections)) for limit in LIMITS if limit.group in groups]
