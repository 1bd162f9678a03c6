"""Odd arguments to every public call, drawn by Hypothesis.

    python -m tests.noise arguments --examples 200 --seed 1 [--json FILE]

Each call is found by looking at the package.  Most of its arguments are what it expects, one or more are what it does
not.  What may come of it: a result; TypeError, ValueError, OverflowError, an exception of syncx or an OSError, each
with words; what a hostile object raised itself.  Never a crash, a SystemError or another exception, an exception that
nobody sees, or a lock that is left held by a call that failed.

It runs in a process of its own, which writes down what it tries before it tries it.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import inspect
import json
import logging
import mmap
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import syncx
from syncx import _core
from syncx.terminal import Screen, duration

from . import inventory
from .battery import Alarm, Enough
from .hostile import VALUES, Mischief, Scene

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0
MEMORY = 1 << 30
"""What it may map beyond what it begins with: several arenas, and a part for work."""
BLOCKED = 0.02
"""Seconds after which a call that waits is woken by a signal whose handler raises."""


# ---- what there is to call -------------------------------------------------------------------------------------------

SUBJECTS: dict[str, Callable[[Scene], Any]] = {
    "Mutex": lambda s: syncx.Mutex(arena=s.arena),
    "RLock": lambda s: syncx.RLock(arena=s.arena),
    "Semaphore": lambda s: syncx.Semaphore(1, arena=s.arena),
    "BoundedSemaphore": lambda s: syncx.BoundedSemaphore(2, arena=s.arena),
    "BinarySemaphore": lambda s: syncx.BinarySemaphore(arena=s.arena),
    "Event": lambda s: syncx.Event(arena=s.arena),
    "Latch": lambda s: syncx.Latch(2, arena=s.arena),
    "Condition": lambda s: syncx.Condition(arena=s.arena),
    "Barrier": lambda s: syncx.Barrier(2, arena=s.arena),
    "Once": lambda s: syncx.Once(arena=s.arena),
    "RWLock": lambda s: syncx.RWLock(arena=s.arena),
    "ReadView": lambda s: syncx.RWLock(arena=s.arena).read(),
    "WriteView": lambda s: syncx.RWLock(arena=s.arena).write(),
    "UpgradableView": lambda s: syncx.RWLock(arena=s.arena).upgradable(),
    "RangeLock": lambda s: syncx.RangeLock(f"{s.directory}/data", 0, 8, arena=s.arena),
    "FileLock": lambda s: syncx.FileLock(f"{s.directory}/data", arena=s.arena),
    "RecordLocks": lambda s: syncx.RecordLocks(f"{s.directory}/data", 16, arena=s.arena),
    "Arena": lambda s: syncx.Arena(f"{s.directory}/other"),
    "Snapshot": lambda s: syncx.snapshot(s.arena),
    "WaitGraph": lambda s: syncx.wait_graph(s.arena),
    "FileLocks": lambda s: syncx.file_locks(f"{s.directory}/data", arena=s.arena),
}
"""A fresh object of each class whose methods are called."""
RECORDS = ("Held", "Waiting", "Holder", "Range", "Inversion", "Statistics", "ObjectInfo", "FileLockInfo", "LockParty")
"""Classes of plain data, without methods of their own and made by the library."""

EXPECTED: dict[str, Callable[[Scene], Any]] = {
    "name": lambda s: None, "arena": lambda s: s.arena, "buffer": lambda s: s.memory, "offset": lambda s: 0,
    "value": lambda s: 2, "count": lambda s: 2, "parties": lambda s: 2, "n": lambda s: 1, "timeout": lambda s: 0.001,
    "blocking": lambda s: False, "create": lambda s: True, "on_owner_death": lambda s: "raise",
    "deadlock": lambda s: "report", "priority": lambda s: 3, "action": lambda s: None, "lock": lambda s: None,
    "predicate": lambda s: lambda: True, "path": lambda s: f"{s.directory}/data", "start": lambda s: 0,
    "length": lambda s: 4, "record_size": lambda s: 16, "header": lambda s: 0, "process": lambda s: os.getpid(),
    "mode": lambda s: 0o600, "function": lambda s: lambda: 1, "file": lambda s: f"{s.directory}/data",
    "name_or_path": lambda s: f"{s.directory}/third", "shared": lambda s: True, "force": lambda s: False,
    "on": lambda s: False, "thread": lambda s: 1, "object": lambda s: 1, "id": lambda s: 1, "data": lambda s: b"x" * 16,
    "which": lambda s: "raise", "end": lambda s: b"\n", "fsync": lambda s: False, "indent": lambda s: 2,
    "arena_or_snapshot": lambda s: s.arena, "foreign": lambda s: False, "who": lambda s: None,
    "exc_type": lambda s: None, "exc_value": lambda s: None, "traceback": lambda s: None, "style": lambda s: "ofd",
    "reentrant": lambda s: True, "inherit": lambda s: False, "encoding": lambda s: "utf-8",
    "errors": lambda s: "strict",
    "newline": lambda s: "\n", "on_inversion": lambda s: "warn",
}  # fmt: skip
"""By the name of a parameter, what the call expects; `record` depends on the call."""
MADE = ("Snapshot", "WaitGraph", "FileLocks", "ReadView", "WriteView", "UpgradableView")
"""Classes whose objects the library makes."""
STATES = ("fresh", "held", "closed", "never opened")
UNTOUCHABLE = {"_set_verdict_hook", "_set_belt", "_set_deadlock"}
"""Private functions for the tests alone, which change what all waits of the process do."""


@dataclass(frozen=True)
class Target:
    """A call: of what class or none, and by what name."""

    owner: str
    name: str
    private: bool = False

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}" if self.owner else self.name


def targets() -> list[Target]:
    """All calls of the package, found by looking."""
    found = [Target("", name) for name in inventory.functions()]
    found += [Target("", "order.forget"), Target("", "order.counts")]
    for name, cls in inventory.classes().items():
        if issubclass(cls, BaseException) or name in RECORDS:
            continue
        found += [Target(name, member) for member, _ in inventory.members(cls) if inventory.is_method(cls, member)]
        if name not in MADE:
            found.append(Target(name, "__init__"))
        for special in ("__enter__", "__exit__", "__getitem__", "__reduce__", "__repr__"):
            if getattr(cls, special, None) is not getattr(object, special, None):
                found.append(Target(name, special))
        for member in dir(cls):
            if member.startswith("_") and not member.startswith("__") and callable(getattr(cls, member, None)):
                found.append(Target(name, member, private=True))
    for member in dir(_core):
        what = getattr(_core, member)
        if callable(what) and not inspect.isclass(what) and member not in UNTOUCHABLE:
            found.append(Target("_core", member, private=True))
    return found


def parameters(call: Any) -> list[inspect.Parameter]:
    """What a call takes; four positional ones where that is not told."""
    try:
        found = list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):
        return [inspect.Parameter(f"p{i}", inspect.Parameter.POSITIONAL_ONLY) for i in range(4)]
    return found


# ---- one call --------------------------------------------------------------------------------------------------------


@dataclass
class Plan:
    """What is tried: all of it by name."""

    target: Target
    state: str
    positional: list[str]
    named: dict[str, str]

    def __str__(self) -> str:
        words = [*self.positional, *(f"{k}={v}" for k, v in self.named.items())]
        return f"{self.target} [{self.state}] ({'; '.join(words)})"


@dataclass
class Outcome:
    """What came of all that was tried."""

    tried: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    findings: dict[tuple[str, str], str] = field(default_factory=dict)
    """By call and kind of finding, the first plan and its words."""


def _state(thing: Any, state: str) -> Any:
    if state == "held":
        with contextlib.suppress(Exception):
            if not hasattr(thing, "is_set"):
                thing.acquire(timeout=0.01)
    elif state == "closed":
        with contextlib.suppress(Exception):
            thing.close()
    elif state == "never opened":
        return type(thing).__new__(type(thing))
    return thing


class Stage:
    """Where the calls are made: an arena and a directory of their own."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._directory = tempfile.mkdtemp(prefix="noise-syncx-")
        os.chdir(self._directory)
        Path("data").write_bytes(bytes(256))
        from syncx import arena, lockinfo

        arena.DIRECTORY = lockinfo.DIRECTORY = self._directory
        os.environ["SYNCX_ARENA"] = f"{self._directory}/default"
        self.arena = syncx.Arena(f"{self._directory}/arena")
        self.outcome = Outcome()
        self._unseen: list[str] = []
        sys.unraisablehook = self._unraisable
        self._alarm = Alarm(BLOCKED)
        self._mapped = mmap.mmap(-1, 8192)

    def close(self) -> None:
        """Nothing of it stays."""
        os.chdir("/")
        shutil.rmtree(self._directory)

    def _unraisable(self, what: Any) -> None:
        if not isinstance(what.exc_value, (Mischief, Enough)):
            self._unseen.append(f"{what.err_msg}: {what.exc_value!r}")

    def find(self, plan: Plan, kind: str, words: str) -> None:
        """Notes what must not be."""
        self.outcome.findings.setdefault((str(plan.target), kind), f"{plan}: {words}")

    def resolve(self, target: Target, scene: Scene) -> Any:
        """What is called."""
        if target.owner == "_core":
            return getattr(_core, target.name)
        if not target.owner:
            what: Any = syncx
            for part in target.name.split("."):
                what = getattr(what, part)
            return what
        cls = inventory.classes()[target.owner]
        if target.name == "__init__":
            return cls
        return getattr(scene.subject, target.name)

    def call(self, plan: Plan) -> None:
        """Makes one call and looks at what it left."""
        self._note(str(plan))
        if self.arena.closed:
            self.arena = syncx.Arena(f"{self._directory}/arena")
        self._mapped[:] = bytes(8192)
        scene = Scene(self._directory, self.arena, memory=memoryview(self._mapped))
        made = SUBJECTS.get(plan.target.owner)
        if made is not None:
            scene.subject = _state(made(scene), plan.state)
        kept = scene.subject
        raised: BaseException | None = None
        result: Any = None
        self._unseen.clear()
        try:
            call = self.resolve(plan.target, scene)
            positional = [self._value(v, scene, plan) for v in plan.positional]
            named = {k: self._value(v, scene, plan, k) for k, v in plan.named.items()}
            result = self._alarm.call(call, *positional, **named)
        except BaseException as e:
            raised = e
        self.outcome.tried += 1
        self.outcome.kinds[type(raised).__name__ if raised is not None else "returned"] += 1
        if raised is not None:
            self._judge(plan, raised)
            raised.__traceback__ = None
        if self._unseen:
            self.find(plan, "unseen", self._unseen[0])
        failed = raised is not None and not isinstance(raised, Enough)
        self._clear(plan, scene, kept, result, failed)

    def _value(self, name: str, scene: Scene, plan: Plan, parameter: str = "") -> Any:
        if not name.startswith("as expected: "):
            return VALUES[name](scene)
        parameter = name.removeprefix("as expected: ")
        if parameter == "record":
            return b"a record" if plan.target.name == "append" else 3
        if parameter == "mode" and plan.target.name == "update":
            return "w"
        return EXPECTED.get(parameter, lambda s: None)(scene)

    def _judge(self, plan: Plan, e: BaseException) -> None:
        if isinstance(e, (Mischief, Enough)):
            return
        usual = (TypeError, ValueError, OverflowError, syncx.SyncxError, OSError, threading.BrokenBarrierError)
        documented = (
            type(e) in (RuntimeError, KeyError, LookupError, IndexError, BufferError) and not plan.target.private
        )
        documented = documented or (type(e) is AttributeError and plan.state == "never opened")
        if isinstance(e, MemoryError) and plan.target.name == "to_json":
            return  # an indentation of gigabytes was asked for
        if isinstance(e, (SystemError, MemoryError, RecursionError, UnicodeError)):
            self.find(plan, type(e).__name__, repr(e)[:300])
        elif plan.target.private:
            return
        elif not isinstance(e, usual) and not documented:
            self.find(plan, type(e).__name__, repr(e)[:300])
        elif len(str(e)) < 8:
            self.find(plan, "without words", repr(e)[:300])

    def _clear(self, plan: Plan, scene: Scene, kept: Any, result: Any, failed: bool) -> None:
        """Looks whether anything is held that should not be, and gives everything back."""
        if failed and plan.state != "held" and not scene.taken and not self.arena.closed:
            mine = self._holds()
            if mine:
                self.find(plan, "left held", repr(mine)[:300])
        for thing in (result, kept, scene.subject):
            self._give_back(thing)
        with contextlib.suppress(ValueError, BufferError):
            scene.memory.release()
        syncx.set_deadlock_default("raise")
        syncx.trace(False)
        syncx.order_check(False)
        if not self.arena.closed:
            mine = self._holds()
            if mine:  # what cannot be given back any more, as after `_open` over a lock that is held
                self.arena.close()
                if not plan.target.private and "opens it anew" not in str(plan) and failed:
                    self.find(plan, "cannot be given back", repr(mine)[:300])

    def _holds(self) -> list[Any]:
        me = threading.get_native_id()
        return [h for h in syncx.snapshot(self.arena).holds if h.alive and h.tid == me]

    @staticmethod
    def _give_back(thing: Any) -> None:
        for call in ("release", "release", "release", "withdraw", "close"):
            method = getattr(thing, call, None)
            if callable(method):
                with contextlib.suppress(Exception):
                    method()


# ---- drawing them ----------------------------------------------------------------------------------------------------


def plans(target: Target, call: Any) -> Any:
    """The strategy for one call."""
    from hypothesis import strategies as st

    hostile = st.sampled_from(sorted(VALUES))
    wanted = parameters(call)
    kinds = inspect.Parameter

    @st.composite
    def drawn(draw: Any) -> Plan:
        state = draw(st.sampled_from(STATES)) if target.owner in SUBJECTS and target.name != "__init__" else "fresh"
        positional: list[str] = []
        named: dict[str, str] = {}
        odd = draw(st.integers(0, max(0, len(wanted) - 1)))
        by_name = False
        for i, p in enumerate(wanted):
            if p.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD):
                continue
            if p.default is not kinds.empty and i != odd and draw(st.booleans()):
                by_name = True  # it is left out
                continue
            value = draw(hostile) if i == odd or draw(st.integers(0, 5)) == 0 else f"as expected: {p.name}"
            if p.kind is not kinds.POSITIONAL_ONLY and (by_name or p.kind is kinds.KEYWORD_ONLY):
                named[p.name] = value
            elif not by_name:
                positional.append(value)
        noise = draw(st.integers(0, 19))
        if noise == 0:
            positional.append(draw(hostile))
        elif noise == 1:
            named[draw(st.sampled_from(["no_such_thing", "self", ""]))] = draw(hostile)
        elif noise == 2 and positional:
            positional.pop()
        return Plan(target, state, positional, named)

    return drawn()


def run(
    examples: int,
    seed: int | None,
    note: Callable[[str], None],
    progress: Callable[[int], None],
    public: bool = False,
) -> Outcome:
    """Tries that many plans for every call, or every public one; seed: None for always the same."""
    import hypothesis

    stage = Stage(note)
    settings = hypothesis.settings(
        max_examples=examples,
        derandomize=seed is None,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    try:
        for number, target in enumerate(t for t in targets() if not (public and t.private)):
            cls = inventory.classes().get(target.owner)
            if cls is None or target.name == "__init__":
                call = cls or stage.resolve(target, Scene("", stage.arena))
            else:
                call = _Bound(cls, target.name)
            strategy = plans(target, call)

            def attempt(plan: Plan) -> None:
                faulthandler.dump_traceback_later(PATIENCE, exit=True)
                stage.call(plan)

            test = settings(hypothesis.given(strategy)(attempt))
            if seed is not None:
                test = hypothesis.seed(seed * 100_003 + number)(test)
            test()
            progress(number + 1)
    finally:
        faulthandler.cancel_dump_traceback_later()
        stage.close()
    return stage.outcome


class _Bound:
    """Has the signature of a method without its first parameter."""

    def __init__(self, cls: type, name: str) -> None:
        static = inspect.getattr_static(cls, name)
        call = getattr(cls, name)
        found = parameters(call)
        if not isinstance(static, (classmethod, staticmethod)) and found and found[0].name == "self":
            found = found[1:]
        self.__signature__ = inspect.Signature(found)

    def __call__(self) -> None:
        raise NotImplementedError


# ---- the command -----------------------------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> int:
    """Starts the process that tries, and tells what came of it; 0: nothing was found, 1: something was."""
    parser = argparse.ArgumentParser(prog="python -m tests.noise arguments", description="Odd arguments to every call.")
    parser.add_argument("--examples", type=int, default=50, metavar="N", help="for each call, default 50")
    parser.add_argument("--seed", type=int, metavar="S", help="which; default: always the same")
    parser.add_argument("--public", action="store_true", help="leave out what is private, which must not crash either")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--note", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.examples < 1:
        parser.error("--examples must be positive")
    if options.note is not None:
        return _child(options)
    start = time.monotonic()
    screen = Screen(sys.stdout)
    with tempfile.TemporaryDirectory() as directory, open(f"{directory}/stderr", "w+b") as errors:
        note = f"{directory}/note"
        command = [
            sys.executable,
            "-m",
            "tests.noise",
            "arguments",
            "--note",
            note,
            "--examples",
            str(options.examples),
        ]
        if options.seed is not None:
            command += ["--seed", str(options.seed)]
        if options.public:
            command.append("--public")
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))), "PYTHONHASHSEED": "0"},
        )
        assert child.stdout is not None
        total = len([t for t in targets() if not (options.public and t.private)])
        report: dict[str, Any] = {}
        with screen.progress(f"{total} calls", total) as bar:
            for line in child.stdout:
                said = json.loads(line)
                if isinstance(said, int):
                    bar.update(said)
                else:
                    report = said
        status = child.wait()
        findings = report.get("findings", [])
        if status or not report:
            errors.seek(0)
            how = f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            tried = Path(note).read_text() if os.path.exists(note) else ""
            findings.append([tried.split("\n")[0], how, errors.read().decode(errors="replace")[-4000:]])
    for call, kind, words in findings:
        screen.say(f"FOUND {call}: {kind}: {words}")
    seconds = time.monotonic() - start
    tries = report.get("tried", 0)
    kinds = report.get("kinds", {})
    screen.say(", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items(), key=lambda item: -item[1])))
    screen.say(f"{tries} calls of {total} kinds in {duration(seconds)}: {len(findings)} findings")
    if options.json:
        figures = {"calls": tries, "kinds of calls": total, "hostile values": len(VALUES), "exceptions": len(kinds)}
        whole = {
            "command": "python -m tests.noise arguments " + " ".join(argv), "seconds": round(seconds, 1),
            "figures": figures, "failures": len(findings), "outcomes": kinds, "findings": findings,
        }  # fmt: skip
        Path(options.json).write_text(json.dumps(whole, indent=2))
    return 1 if findings else 0


def _child(options: argparse.Namespace) -> int:
    faulthandler.enable()
    logging.getLogger("syncx").addHandler(logging.NullHandler())
    logging.getLogger("syncx").propagate = False
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    fd = os.open(options.note, os.O_WRONLY | os.O_CREAT, 0o600)

    def note(text: str) -> None:
        os.pwrite(fd, (text + "\n").encode(errors="replace"), 0)

    def progress(done: int) -> None:
        os.write(out, json.dumps(done).encode() + b"\n")

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    outcome = run(options.examples, options.seed, note, progress, options.public)
    findings = [[call, kind, words] for (call, kind), words in outcome.findings.items()]
    report = {"tried": outcome.tried, "kinds": outcome.kinds, "findings": findings}
    os.write(out, json.dumps(report).encode() + b"\n")
    return 0
