"""What syncx must reach.  The only place where these numbers stand; `--check` compares a run with them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from . import creation, deadlocks, death, family, filepeers, manyranges, notify, order, pingpong, views, wakeup
from .samples import Section, Summary

Measure = Callable[[dict[str, Section]], "Summary | None"]

NAME_BYTES = 72
"""What a named lock may take beside its own 128 bytes: the record of its name (32 bytes up to 16 bytes of name), its
part of the index (24: it is at most half full, and the smaller one before it is kept), and its process's reference
(16: 8, and room grows in steps)."""
PERMIT_BYTES = 33
"""What one of 10,000 permits of a semaphore may take: its own 16 bytes and its part of the semaphore's 256, which
together are rounded up to a power of two (26.2), and its part of the 64 KiB by which the arena's room grows (6.6)."""


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

    # neither a most nor a least: a figure for comparison

    def applies(self) -> bool:
        return self.every_version or sys.version_info[:2] == (3, 11)

    def bound(self) -> str:
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return "-" if self.at_least is None else f">= {self.at_least:g}"

    def holds(self, value: float) -> bool:
        if self.at_most is not None:
            return value <= self.at_most
        return self.at_least is None or value >= self.at_least


def _ratio(section: str, row: str, baseline: str | None = None) -> Measure:
    return lambda sections: sections[section].ratio(row, baseline) if section in sections else None


def _value(section: str, row: str) -> Measure:
    return lambda sections: sections[section].value(row) if section in sections else None


def _share(section: str, row: str) -> Measure:
    return lambda sections: sections[section].share(row) if section in sections else None


def _faster(section: str, row: str, peer: str) -> Measure:
    """How many times less `row` takes than `peer`."""
    return _ratio(section, peer, row)


def _to_best(section: str, row: str, peers: tuple[str, ...]) -> Measure:
    """To the best peer of each round, where more is better."""

    def measure(sections: dict[str, Section]) -> Summary | None:
        if section not in sections:
            return None
        found = sections[section].samples
        rounds = zip(*(found[peer] for peer in peers if peer in found), strict=False)
        best = [max((v for v in values if v is not None), default=None) for values in rounds]
        return Summary.of(
            [mine / b for mine, b in zip(found.get(row, []), best, strict=False) if mine is not None and b]
        )

    return measure


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
    *(
        Limit("order", f"{what}, lock order checked, to both off", _ratio(key, order.ORDER), at_most=3.0)
        for key, what in (("noted-with", "`with`"), ("noted-inside", "`with` inside another one"))
    ),
    Limit("order", "`with`, traced, to both off", _ratio("noted-with", order.TRACE)),
    Limit("creation", "a named mutex made in", _value("time", creation.NAMED), at_most=3.0, unit="us"),
    Limit(
        "creation",
        "128 bytes each, plus the name",
        _value("memory", creation.NAMED),
        at_most=128 + NAME_BYTES,
        unit="bytes",
    ),
    Limit(
        "creation",
        f"{creation.PERMITS:,} permits of one semaphore, each",
        _value("permits", creation.POOL),
        at_most=PERMIT_BYTES,
        unit="bytes",
        every_version=True,
    ),
    *(
        Limit(
            "family",
            f"`with` of a {name}, to a Mutex",
            _ratio("kinds", f"syncx.{name}"),
            at_most=bound,
            every_version=True,
        )
        for name, bound in (
            ("BoundedSemaphore", 1.15),
            ("BinarySemaphore", 1.15),
            ("RWLock.read()", 1.3),
            ("RWLock.read() kept", 1.3),
        )
    ),
    Limit(
        "family",
        "Event.is_set() to a C method that does nothing",
        _ratio("is_set", "syncx.Event"),
        at_most=1.5,
        every_version=True,
    ),
    Limit(
        "family",
        "2 readers of one RWLock, kept view, to 2 on Mutexes of their own",
        _ratio("readers", family.KEPT),
        at_least=0.9,
        every_version=True,
    ),
    Limit(
        "family",
        "2 readers of one RWLock to 2 on RWLocks of their own",
        _ratio("readers", family.READ, family.OWN_READ),
        at_least=0.9,
        every_version=True,
    ),
    Limit(
        "pingpong",
        "Semaphore, 1 CPU, to a C pair with a deadline",
        _ratio("semaphore-one", "syncx.Semaphore", pingpong.DEADLINE),
        at_most=1.5,
        every_version=True,
    ),
    Limit(
        "pingpong",
        "multiprocessing.Semaphore, 1 CPU, to a plain C pair",
        _ratio("semaphore-one", "multiprocessing.Semaphore", pingpong.PLAIN),
    ),
    *(
        Limit(
            "pingpong",
            f"{name}, {cpus}, faster than multiprocessing's",
            _faster(f"{name.lower()}-{key}", f"syncx.{name}", f"multiprocessing.{name}{where}"),
            at_least=bound,
            every_version=True,
        )
        for name, key, cpus, where, bound in (
            ("Semaphore", "two", "2 CPUs", pingpong.APART, 10),
            ("Condition", "one", "1 CPU", "", 2.5),
            ("Condition", "two", "2 CPUs", pingpong.APART, 20),
            ("Event", "one", "1 CPU", "", 2.5),
            ("Event", "two", "2 CPUs", pingpong.APART, 20),
        )
    ),
    *(
        Limit(
            "pingpong",
            f"Condition, entered each time, {cpus}, faster than multiprocessing's",
            _faster(f"entered-{key}", "syncx.Condition", f"multiprocessing.Condition{where}"),
        )
        for key, cpus, where in (("one", "1 CPU", ""), ("two", "2 CPUs", pingpong.APART))
    ),
    Limit(
        "notify",
        "notify_all(), to a C program",
        _ratio("notify_all", "syncx.Condition", notify.PROGRAM),
        at_most=3.0,
        every_version=True,
    ),
    *(
        Limit(
            "death",
            f"{row.removeprefix('syncx.')}, to a C program",
            _ratio("death", row, death.PROGRAM),
            at_most=3.0,
            every_version=True,
        )
        for row in (*map(death.permit, death.HOLDERS), death.READER, death.ARRIVED, death.ENROLLED)
    ),
    Limit("death", "sysv_ipc, SEM_UNDO, to a C program", _ratio("death", death.undo(1), death.PROGRAM)),
    *(
        limit
        for n in deadlocks.MEMBERS
        for limit in (
            Limit(
                "deadlocks",
                f"{n} members, last block to DeadlockError, to a futex wake",
                _ratio("told", deadlocks.members(n), deadlocks.WAKE),
                at_most=10,
                every_version=True,
            ),
            Limit(
                "deadlocks",
                f"{n} members, last block to DeadlockError",
                _value("told", deadlocks.members(n)),
                at_most=1000,
                unit="us",
                every_version=True,
            ),
        )
    ),
    Limit(
        "deadlocks",
        "1,000 members, last block to DeadlockError",
        _value("told-crowd", deadlocks.members(1000)),
        at_most=20,
        unit="ms",
        every_version=True,
    ),
    *(
        Limit(
            "deadlocks",
            f"1,000 waiters, {row}: CPU",
            _value("belt", row),
            at_most=2,
            unit="%",
            every_version=True,
        )
        for row in (deadlocks.STAR, deadlocks.CHAIN, deadlocks.TIMED)
    ),
    Limit(
        "deadlocks",
        "uncontended `with`, detector on to off",
        _ratio("detector-with", deadlocks.ON),
        at_most=1.01,
        every_version=True,
    ),
    *(
        Limit(
            "deadlocks",
            f"{n} processes contend, detector on to off",
            _ratio(f"detector-{n}", deadlocks.ON),
            at_least=0.95,
            every_version=True,
        )
        for n in (2, 8)
    ),
    Limit(
        "files",
        "`with` of a FileLock, to a raw pair",
        _ratio("file-with", filepeers.OURS),
        at_most=1.8,
        every_version=True,
    ),
    *(
        Limit(
            "files",
            f"release to {what}, to a raw lock",
            _ratio("file-release", row),
            at_most=bound,
            every_version=True,
        )
        for what, row, bound in (
            ("waiter", filepeers.OURS, 1.3),
            ("timed waiter", filepeers.TIMED, 1.3),
            ("waiter, raw holder", filepeers.FOREIGN, 1.3),
            ("timed waiter, raw holder", filepeers.FOREIGN_TIMED, 50),
        )
    ),
    *(
        Limit(
            "files",
            f"SIGKILL to {what}, to a raw lock",
            _ratio("file-sigkill", row),
            at_most=bound,
            every_version=True,
        )
        for what, row, bound in (
            ("next holder", filepeers.OURS, 2),
            ("next holder, timed", filepeers.TIMED, 2),
            ("next holder, killed raw one", filepeers.FOREIGN, 2),
            ("next holder, timed, killed raw one", filepeers.FOREIGN_TIMED, 50),
        )
    ),
    *(
        Limit(
            "files",
            f"CPU time of {what}",
            _value("file-waiting", row),
            at_most=10,
            unit="ms",
            every_version=True,
        )
        for what, row in (
            ("a waiter", filepeers.OURS),
            ("a timed waiter", filepeers.TIMED),
            ("a waiter, raw holder", filepeers.FOREIGN),
            ("a timed waiter, raw holder", filepeers.FOREIGN_TIMED),
        )
    ),
    Limit(
        "files",
        "8 processes, 2 us, to the best that polls",
        _to_best("file-eight", filepeers.OURS, filepeers.POLLING),
        at_least=5.0,
        every_version=True,
    ),
    Limit(
        "files",
        "8 processes, 2 us, smallest/largest share",
        _share("file-eight", filepeers.OURS),
        at_least=0.5,
        every_version=True,
    ),
    *(
        Limit("files", f"{text}, {locks}, to a raw lock", _ratio(section, row), at_most=1.2, every_version=True)
        for text, section in (
            ("each on the way to 10,000 ranges", manyranges.way(10_000)),
            ("one more above 10,000 ranges", manyranges.above(10_000)),
        )
        for locks, row in (("one object", manyranges.ONE), ("10,000 objects", manyranges.MANY))
    ),
    *(
        Limit(
            "views",
            f"{what} of `syncx {view}`, {views.OBJECTS:,} objects, {views.PARTICIPANTS:,} threads",
            _value(section, view),
            at_most=500,
            unit="ms",
            every_version=True,
        )
        for view in views.VIEWS
        for what, section in (("time", "views"), ("processor time", "views-cpu"))
    ),
    Limit("import", "to multiprocessing.synchronize", _ratio("import", "syncx"), at_most=0.5),
]


@dataclass(frozen=True)
class Verdict:
    limit: Limit
    measured: Summary | None

    @property
    def word(self) -> str:
        if self.limit.at_most is None and self.limit.at_least is None:
            return "beside"
        if self.measured is None:
            return "NOT MEASURED"
        if not self.limit.applies():
            return "for 3.11"
        return "pass" if self.limit.holds(self.measured.median) else "FAIL"

    @property
    def good(self) -> bool:
        return self.word in ("pass", "for 3.11", "beside")


def judge(groups: list[str], sections: dict[str, Section]) -> list[Verdict]:
    """A verdict for each limit of the groups that ran."""
    return [Verdict(limit, limit.measure(sections)) for limit in LIMITS if limit.group in groups]
