"""Many processes append to one log while some of them are killed: is every acknowledged record there, once and whole?

    python -m benchmarks.appends               # 100 processes, 1,000 records each, every tenth is killed

A process acknowledges a record, in memory that it shares with the one that judges, when `append()` has returned.  Half
of the kills come at a random moment; the other half at one when the victim has the lock and begins to write a large
record, so that the kernel cuts some of them off.  A torn record is there from the start.  At the end all that was
acknowledged must be there once and whole, in its order, and nothing else, but for one more record of each process that
was killed: it may have died between the writing and the acknowledging.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import mmap
import random
import signal
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import syncx

from .children import PATIENCE, Child, Connection, end_all
from .place import Place
from .report import Output

TORN = b"0 0 a record that somebody was writing when the power fail"
LARGE = 256 * 1024
_EVERY = 200
"""One record of so many is large."""
_LOOK = 0.001
"""Seconds between two looks at how far they are."""
_LIE_IN_WAIT = 1.0
"""Seconds for which a kill waits until its victim writes a large record."""

Append = Callable[[bytes], object]
Open = Callable[[Path, Place], "tuple[Any, Append]"]
"""Gives a lock, and what appends a record to its file, which takes the lock by itself where that is not held."""


@dataclass(frozen=True)
class Plan:
    writers: int
    records: int
    """Of each writer."""
    kill_at: dict[int, int]
    """Who is killed, and once how many of its records are acknowledged; every second one as it writes a large one."""

    @classmethod
    def of(cls, writers: int, records: int, kills: int, dice: random.Random) -> Plan:
        return cls(writers, records, {w: dice.randrange(records) for w in dice.sample(range(writers), kills)})

    @functools.cached_property
    def aimed(self) -> set[int]:
        return set(list(self.kill_at)[::2])

    def record(self, writer: int, number: int) -> bytes:
        """The only right one: what is in the log is compared with it."""
        head = b"%d %d " % (writer, number)
        check = zlib.crc32(head)
        large = number % _EVERY == _EVERY // 8 or (writer in self.aimed and number >= self.kill_at[writer])
        return head + (b"%08x" % check) * (1 + (LARGE if large else check % 200) // 8)


def faults(log: bytes, acknowledged: list[int], plan: Plan) -> list[str]:
    """What is wrong with the log; `acknowledged[writer]` is how many of its records were."""
    found: list[str] = []
    *lines, rest = log.split(b"\n")
    if rest:
        found.append(f"{len(rest)} bytes after the last whole record: {rest[:60]!r}")
    seen = [0] * len(acknowledged)
    for place, line in enumerate(lines, 1):
        try:
            writer, number = (int(word) for word in line.split(b" ", 2)[:2])
            right = 0 <= writer < len(seen) and line == plan.record(writer, number)
        except ValueError:
            right = False
        if not right:
            found.append(f"line {place} is no whole record: {line[:60]!r}, {len(line)} bytes")
        elif number < seen[writer]:
            found.append(f"line {place}: record {number} of writer {writer} was there before")
        else:
            found += [f"record {lost} of writer {writer} is missing" for lost in range(seen[writer], number)]
            seen[writer] = number + 1
    for writer, (there, told) in enumerate(zip(seen, acknowledged, strict=True)):
        found += [f"record {lost} of writer {writer} is missing" for lost in range(there, told)]
        if there > told + (writer in plan.kill_at):
            found.append(f"writer {writer} has {there} records in the log and acknowledged {told}")
    return found


@dataclass
class Outcome:
    plan: Plan
    seconds: float
    acknowledged: list[int]
    torn: int
    """How often a rest was cut off; the first was there from the start."""
    size: int
    """Of the log, in bytes."""
    faults: list[str]


class _Shared:
    """What the writers tell: memory, for what is in it survives them."""

    def __init__(self, writers: int) -> None:
        memory = mmap.mmap(-1, 8 * writers)
        self.acknowledged = memoryview(memory).cast("I")[:writers]
        self.cuts = memoryview(memory).cast("I")[writers:]
        self.writing = mmap.mmap(-1, writers)
        """A byte of each: 1 while it has the lock and writes a large record."""


class _Cuts(logging.Handler):
    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, _: logging.LogRecord) -> None:
        self._tell()


def _count_cuts(cuts: memoryview, writer: int) -> None:
    def tell() -> None:
        cuts[writer] += 1

    logger = logging.getLogger("syncx")
    logger.addHandler(_Cuts(tell))
    logger.propagate = False


def ours(path: Path, place: Place) -> tuple[Any, Append]:
    lock = syncx.FileLock(path, arena=place.arena)
    return lock, lock.append


def _write(open_it: Callable[[], tuple[Any, Append]], shared: _Shared, plan: Plan, writer: int, c: Connection) -> None:
    _count_cuts(shared.cuts, writer)
    lock, append = open_it()
    acknowledged, writing = shared.acknowledged, shared.writing
    c.send("ready")
    c.recv()
    for number in range(plan.records):
        data = plan.record(writer, number)
        if len(data) < LARGE:
            append(data)
        else:
            with lock:
                writing[writer] = 1
                append(data)
                writing[writer] = 0
        acknowledged[writer] = number + 1
    c.send("done")
    c.recv()


class _Killer:
    """Kills those of the plan, each when it is as far as that."""

    def __init__(self, children: list[Child], shared: _Shared, plan: Plan) -> None:
        self._children, self._shared, self._plan = children, shared, plan
        self._waiting = set(plan.kill_at)

    def _lie_in_wait(self, writer: int) -> None:
        told, end = self._shared.acknowledged, time.monotonic() + _LIE_IN_WAIT
        while not self._shared.writing[writer] and told[writer] < self._plan.records and time.monotonic() < end:
            time.sleep(0)

    def look(self) -> bool:
        """Have all been killed?"""
        for writer in [w for w in self._waiting if self._shared.acknowledged[w] >= self._plan.kill_at[w]]:
            if writer in self._plan.aimed:
                self._lie_in_wait(writer)
            self._children[writer].end()
            self._waiting.discard(writer)
        return not self._waiting


def run(
    place: Place,
    plan: Plan,
    open_it: Open = ours,
    step: Callable[[str, int, int], None] = lambda group, done, of: None,
) -> Outcome:
    """Raises AssertionError if for PATIENCE seconds nobody gets on."""
    path = place.file()
    path.write_bytes(TORN)
    shared = _Shared(plan.writers)
    total = sum(plan.kill_at.get(w, plan.records) for w in range(plan.writers))
    with contextlib.ExitStack() as stack:
        children = []
        for writer in range(plan.writers):
            opened = functools.partial(open_it, path, place)
            children.append(Child(functools.partial(_write, opened, shared, plan, writer)))
            stack.callback(children[-1].end)
        for child in children:
            child.receive()
        killer = _Killer(children, shared, plan)
        living = [w for w in range(plan.writers) if w not in plan.kill_at]
        start = last = time.monotonic()
        for child in children:
            child.send("go")
        before = -1
        while not killer.look() or any(shared.acknowledged[w] < plan.records for w in living):
            time.sleep(_LOOK)
            done = sum(shared.acknowledged)
            step("appends", min(done, total), total)
            now = time.monotonic()
            if done > before:
                before, last = done, now
            elif now > last + PATIENCE:
                raise AssertionError(f"for {PATIENCE:g} s nobody appended anything; {done:,} of {total:,} are done")
        seconds = time.monotonic() - start
        for writer in living:
            children[writer].receive()
        step("appends", total, total)
    acknowledged = list(shared.acknowledged)
    # the last record of all finds what the last that was killed has left; it is that of one more writer
    ending = _Shared(1)
    _count_cuts(ending.cuts, 0)
    _, append = open_it(path, place)
    append(plan.record(plan.writers, 0))
    log = path.read_bytes()
    return Outcome(
        plan,
        seconds,
        acknowledged,
        sum(shared.cuts) + ending.cuts[0],
        len(log),
        faults(log, [*acknowledged, 1], plan),
    )


def number(least: int) -> Callable[[str], int]:
    """The type of an argument that is no smaller than that."""

    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    return parse


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.appends",
        description="Many processes append to one log while some of them are killed; then every acknowledged record "
        "must be there, once and whole.",
        epilog="exit status: 0; 1 if the log is not as it must be; 2 for a wrong argument; 130 when interrupted",
    )
    parser.add_argument("--processes", type=number(2), default=100, metavar="N", help="that append (100)")
    parser.add_argument("--records", type=number(10), default=1000, metavar="N", help="of each of them (1000)")
    parser.add_argument("--kills", type=number(0), metavar="N", help="how many are killed (a tenth of them)")
    parser.add_argument("--seed", type=int, metavar="N", help="of whom to kill, and when (a new one each time)")
    options = parser.parse_args()
    kills = options.processes // 10 if options.kills is None else options.kills
    if kills >= options.processes:
        parser.error(f"--kills {kills}: somebody must be left, and there are {options.processes} processes")
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    output = Output()
    try:
        with Place() as place, output.progress() as step:
            try:
                plan = Plan.of(options.processes, options.records, kills, random.Random(seed))
                outcome = run(place, plan, step=step)
            finally:
                end_all()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    done = sum(outcome.acknowledged)
    output.line(
        f"{done:,} records of {options.processes} processes acknowledged in {outcome.seconds:.1f} s: "
        f"{done / outcome.seconds:,.0f} a second, {outcome.size / 1e6:,.0f} MB"
    )
    output.line(
        f"{kills} processes killed, half of them as they wrote a large record; {outcome.torn} torn records cut off, "
        f"one of them there from the start (seed {seed})"
    )
    for fault in outcome.faults[:20]:
        output.line(f"FAULT: {fault}")
    if outcome.faults:
        output.line(f"{len(outcome.faults):,} faults")
        return 1
    output.line("every acknowledged record is there, once and whole")
    return 0


if __name__ == "__main__":
    sys.exit(main())
