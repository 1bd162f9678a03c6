"""`kill_everywhere`: your own code, killed after every n-th machine instruction while it holds a lock.

    report = kill_everywhere(functools.partial(save, path), functools.partial(is_whole, path))

The work is done by a process of its own (`executioner.py`), started anew, so that nothing is forked from a program with
threads: it imports the module of the target once, forks a victim for each point, and a child for each check.
"""

from __future__ import annotations

import collections
import json
import multiprocessing
import os
import pickle
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing import spawn
from typing import Any, Literal

from ..arena import DIRECTORY, Arena
from ..terminal import Screen
from . import stepping

__all__ = ["CannotStep", "Failure", "Kill", "KillReport", "KilledBadly", "kill_everywhere"]


@dataclass(frozen=True)
class Kill:
    """One point at which the target was killed."""

    point: str
    """System calls done, a dot, instructions since: what `only=` takes."""
    line: str
    """The innermost line of Python that is not ours: "FILE:LINE in FUNCTION"; "" if it is not known."""
    held: tuple[str, ...]
    """What the target held at that instruction, as `syncx.snapshot` names it."""


@dataclass(frozen=True)
class Failure(Kill):
    """A point after which something was wrong."""

    what: str
    """What `check` raised, with its traceback, or where it hung."""

    def __str__(self) -> str:
        held = ", ".join(self.held) or "nothing"
        return f"killed at {self.point}, {self.line or 'in no line of Python'}, holding {held}:\n{self.what}"


@dataclass
class KillReport:
    """What `kill_everywhere` did and found."""

    target: str
    every: int = 0
    """Instructions from one kill to the next, besides the kills after system calls."""
    points: int = 0
    """How often the target was killed and checked."""
    held: int = 0
    """How many of these kills came while it held a lock."""
    calls: int = 0
    """System calls of the target."""
    instructions: int = 0
    """Instructions among which the points lie."""
    unseen: int = 0
    """Stretches between two system calls that were not gone through, since the time was over."""
    told: int = 0
    """Kills after which a hold was taken over from the dead."""
    missed: int = 0
    """Points that the target did not come by again: it does not do the same each time."""
    seconds: float = 0.0
    kills: list[Kill] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def lines(self) -> dict[str, int]:
        """How many kills fell on each line of Python, most first."""
        return dict(collections.Counter(k.line or "(not in Python)" for k in self.kills).most_common())

    def to_json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self), indent=1)

    def __str__(self) -> str:
        text = [
            f"{self.target}: killed {self.points} times in {self.seconds:.1f} s, after its system calls"
            + (f" and after each {self.every} of {self.instructions} instructions" if self.every else ""),
            f"  {self.held} times while it held a lock; {self.told} times somebody took over from the dead",
        ]
        if self.missed:
            text.append(f"  {self.missed} points were not met again: the target does not do the same each time")
        if self.unseen:
            text.append(f"  {self.unseen} stretches between system calls were not gone through: give it more time")
        lines = self.lines()
        text += [f"  {n:6d} x {line}" for line, n in list(lines.items())[:12]]
        if len(lines) > 12:
            text.append(f"  and {len(lines) - 12} lines more")
        if self.failures:
            text.append(f"{len(self.failures)} of these kills did harm:")
            text.append(str(self.failures[0]))
            for f in self.failures[1:]:
                text.append(
                    f"killed at {f.point}, {f.line or 'in no line of Python'}: {f.what.strip().splitlines()[-1]}"
                )
            text.append(f"repeat the first with only={self.failures[0].point!r}")
        return "\n".join(text)


class KilledBadly(AssertionError):
    """`check` failed after a kill; `report` has all that is known."""

    def __init__(self, report: KillReport) -> None:
        super().__init__(str(report))
        self.report = report


class CannotStep(RuntimeError):
    """Processes cannot be stepped here; the message says why, and what to do."""


@dataclass(frozen=True)
class Order:
    """What the executioner is asked to do."""

    target: Callable[[], object]
    check: Callable[[], object]
    setup: Callable[[], object] | None
    every: int | None
    seconds: float
    everywhere: bool
    seed: int | None
    only: str | None
    patience: float
    stop_after: int
    name: str


def kill_everywhere(
    target: Callable[[], object],
    check: Callable[[], object],
    *,
    setup: Callable[[], object] | None = None,
    every: int | Literal["auto"] = "auto",
    seconds: float = 30.0,
    where: Literal["held", "everywhere"] = "held",
    seed: int | None = None,
    only: str | None = None,
    patience: float = 10.0,
    stop_after: int = 3,
    progress: bool = True,
) -> KillReport:
    """Runs `target` again and again, kills it with SIGKILL a little later each time, and calls `check` after each kill.

    target: your code.  It is called without arguments, in a process of its own each time: a function of a module, or a
        `functools.partial` of one.
    check: raises if what `target` left behind is not whole, or what it held cannot be had again.  It runs in another
        process, and so does `setup`.
    setup: what is done before each run, at full speed: puts things as they were.
    every: instructions from one kill to the next, besides one after each system call; "auto": as many kills as fit into
        the time, half of it after system calls, evenly spread.
    seconds: about how long it may take; with a number for `every`, it takes as long as it takes.
    where: "held": only while the target holds a lock, permit or file lock of ours; "everywhere": from its first
        instruction to its last.
    seed: shifts each point at random, within `every`; the same number does the same again.
    only: one point as the report names it ("12.345": 345 instructions after the 12th system call): kills there alone.
    patience: seconds that `check`, `setup` and one sleep of the target may take.
    stop_after: so many failures are enough.
    progress: draws a bar on stderr, if that is a terminal.

    Returns a `KillReport`, and raises `KilledBadly`, an AssertionError with the report, if a check failed or hung.
    Raises CannotStep, a RuntimeError, where processes cannot be stepped (it says what to do); RuntimeError where
    `target` or `setup` fails, where `check` fails without any kill, and where nothing was ever held; TypeError for
    what cannot be called or pickled, and for a `seed` that is no int; ValueError for an `every` that is neither "auto"
    nor 1 or more, a `where` that is neither of the two, `seconds` or `patience` that are not above 0 and below 1e6, an
    `only` that is no such point, and a `stop_after` below 1.

    Locks without an arena of their own are made in a private one, which is removed afterwards.  Only the thread that
    runs `target` is stepped; its other threads run on and die with it, and so do its child processes.  Importing the
    target's module must not start threads.  x86-64 only.  See ptrace(2).
    """
    order = _order(target, check, setup, every, seconds, where, seed, only, patience, stop_after)
    if not stepping.SUPPORTED:
        raise CannotStep(stepping.why_not())
    try:
        work = pickle.dumps(order)
    except Exception as e:
        raise TypeError(
            "target, check and setup go to another process: give functions of a module that can be imported, or "
            f"functools.partial of them, not a lambda or a function inside another ({e})"
        ) from None
    report = _run(work, order, Screen(sys.stderr) if progress else None)
    if report.failures:
        raise KilledBadly(report)
    return report


def _order(
    target: Any,
    check: Any,
    setup: Any,
    every: Any,
    seconds: Any,
    where: Any,
    seed: Any,
    only: Any,
    patience: Any,
    stop_after: Any,
) -> Order:
    for name, value in (("target", target), ("check", check), ("setup", setup)):
        if not callable(value) and not (name == "setup" and value is None):
            raise TypeError(f"{name} must be a function that takes no arguments, not {value!r}")
    if every != "auto" and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise ValueError(f'every must be a number of instructions, 1 or more, or "auto", not {every!r}')
    if where not in ("held", "everywhere"):
        raise ValueError(f'where must be "held" or "everywhere", not {where!r}')
    for name, value in (("seconds", seconds), ("patience", patience)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
            raise ValueError(f"{name} must be a number of seconds above 0, not {value!r}")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise TypeError(f"seed must be an int or None, not {type(seed).__name__}")
    if isinstance(stop_after, bool) or not isinstance(stop_after, int) or stop_after < 1:
        raise ValueError(f"stop_after must be a number of failures, 1 or more, not {stop_after!r}")
    if only is not None:
        calls, dot, steps = only.partition(".") if isinstance(only, str) else ("", "", "")
        if not (dot and calls.isdecimal() and steps.isdecimal()):
            raise ValueError(f'only must be a point of a report, such as "12.345", not {only!r}')
    n = None if every == "auto" else every
    name = f"kill-{os.getpid()}-{secrets.token_hex(4)}"
    return Order(
        target, check, setup, n, float(seconds), where == "everywhere", seed, only, float(patience), stop_after, name
    )


def name_of(target: Any) -> str:
    """How a report calls it."""
    inner = getattr(target, "func", target)
    return str(getattr(inner, "__qualname__", None) or repr(inner))


CODE = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from syncx.testing.executioner import main; main()"
"""What the other process runs: arguments are the path of modules, a descriptor, the name of its arena."""


def _run(work: bytes, order: Order, screen: Screen | None) -> KillReport:
    prepared = spawn.get_preparation_data("syncx kill_everywhere")
    del prepared["authkey"]
    if b"__main__" not in work:  # the main program is imported only if something is taken from it
        for name in ("init_main_from_name", "init_main_from_path"):
            prepared.pop(name, None)
    ours, theirs = multiprocessing.Pipe()
    process = subprocess.Popen(
        [
            *(sys.executable, *subprocess._args_from_interpreter_flags(), "-c", CODE),  # type: ignore[attr-defined]
            *(json.dumps(sys.path), str(theirs.fileno()), order.name),
        ],
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )
    theirs.close()
    try:
        ours.send(prepared)
        ours.send_bytes(work)
        return _listen(ours, process, screen, name_of(order.target))
    finally:
        process.kill()
        process.wait()
        ours.close()
        path = f"{DIRECTORY}/syncx-{os.geteuid()}-{order.name}"
        if os.path.exists(path):
            with Arena(path) as arena:
                arena.unlink(force=True)


def _listen(ours: Any, process: subprocess.Popen[bytes], screen: Screen | None, target: str) -> KillReport:
    """Draws the progress until the executioner has done, or failed."""
    bar = None
    began = time.monotonic()
    try:
        while True:
            try:
                kind, value = ours.recv()
            except (EOFError, ConnectionResetError):
                status = process.wait()
                raise RuntimeError(f"the process that kills ended by itself, with exit status {status}") from None
            if kind == "unable":
                raise CannotStep(value)
            if kind == "error":
                raise RuntimeError(value)
            if kind == "done":
                report: KillReport = value
                report.seconds = round(time.monotonic() - began, 3)
                return report
            if screen is not None and bar is None:
                bar = screen.progress(f"killing {target}", 1000)
                bar.__enter__()
            if bar is not None:
                bar.update(int(1000 * value))
    finally:
        if bar is not None:
            bar.__exit__(None, None, None)
