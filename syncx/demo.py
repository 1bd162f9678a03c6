"""`syncx demo`: several processes do one job, two are killed in the middle of it, and nothing is lost.

The job: count the lines, words and characters of every text and source file under a directory, and note the words
that each uses most.  It is also an example of how to write such a job so that `kill -9` at any instruction costs
nothing:

- Each worker holds a lock of its own, named after it, for as long as it lives.  Every other worker has a thread that
  waits for that lock.  Who gets it with `owner_died` set knows that its holder was killed, and finishes its work.
- `work` guards the list of files, `results` the file of results, `totals` the totals: three numbers that only come out
  right if no update is lost or made twice.  The first is a lock with a name, the second a lock on the file itself; the
  third lies in shared memory beside what it guards.
- Numbers that belong together are kept in a `Ledger`, which changes all at once or not at all.  Each ledger remembers
  the last file it took from each worker, so that doing a dead worker's file again never counts it twice.
- A record is appended to the file of results through its lock, and whoever appends next cuts off what a killed worker
  has torn.  One that was killed right after its append is found out by its heir, who looks for the record first.
- Whoever reads or writes a file holds one of the few permits of `disk`, and the permit of a dead worker is free again.
- All start together, at the barrier `start`; one that is killed before that does not keep the others waiting.

The process that starts the workers only watches, and kills: one worker that stands in the middle of an append and
tells so from inside its `with`, and another one wherever it happens to be.  What the workers do is in demo_work.py.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from .arena import Arena
from .barrier import Barrier
from .demo_work import (
    NEVER,
    NOTHING,
    Counts,
    Job,
    Locks,
    Recovered,
    Shared,
    Standing,
    examine,
    find_files,
    read,
    work,
)
from .errors import BrokenBarrierError, SyncxError
from .objects import ObjectInfo
from .terminal import Screen, duration, printable

__all__ = ["Outcome", "main", "run"]

TICK = 0.02
"""Seconds between two looks at the progress."""
PATIENCE = 60.0
"""Seconds without any progress after which the demo gives up."""


# ---- the one who watches and kills ---------------------------------------------------------------------------------


class Recovery(NamedTuple):
    """What a survivor did, and how soon."""

    by: int
    lock: str
    seconds: float | None
    """From the SIGKILL of its owner to the next holder inside its `with`."""
    action: str


@dataclass
class Death:
    """A worker that was killed, and what came of it."""

    worker: int
    pid: int
    where: str
    at_ns: int | None
    """None: somebody else killed it, and we do not know when."""
    recoveries: list[Recovery] = field(default_factory=list)


class Supervisor:
    """Starts the workers, shows how far they are, and kills two of them."""

    def __init__(self, job: Job, arena: Arena, shared: Shared, screen: Screen, kill: bool) -> None:
        self.job = job
        self.arena = arena
        self.shared = shared
        self.screen = screen
        self.deaths: dict[int, Death] = {}
        self.standing: Standing | None = None
        self.random_due = 0.0
        self.killed_at_random = False
        self.problems: list[str] = []
        self.processes: list[BaseProcess] = []
        self.pipes: dict[connection.Connection, int] = {}
        """Of the workers that live, and their numbers."""
        size, records, _, *last = shared.results.read()
        shared.results.write([size, records, len(job.files) // 2 if kill else NEVER, *last])

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        resource_tracker.ensure_running()  # or the first start would, and unblock the signal
        # blocked in the workers too, until they ignore it: Ctrl-C must not find them half started
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
        try:
            for number in range(self.job.workers):
                ours, theirs = context.Pipe()
                process = context.Process(target=work, args=(self.job, number, theirs), daemon=True)
                process.start()
                theirs.close()
                self.processes.append(process)
                self.pipes[ours] = number
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with Barrier(self.job.parties, name="start", arena=self.arena).enroll() as line:
            for pipe, number in self.pipes.items():
                try:
                    pipe.recv()  # Ready
                except (EOFError, OSError):  # somebody killed it before it came: the others need not wait for it
                    self.deaths[number] = Death(number, self.pid(number), "by somebody else", None)
                    line.abort()
            try:
                line.wait(PATIENCE)
            except BrokenBarrierError:
                for pipe in self.pipes:
                    with contextlib.suppress(OSError):
                        pipe.send("go")

    def watch(self) -> None:
        """Until all workers have ended."""
        done, moved = -1, time.monotonic()
        with self.screen.progress(f"{self.job.workers} processes", len(self.job.files)) as bar:
            while self.pipes:
                for pipe in connection.wait(list(self.pipes), TICK):
                    assert isinstance(pipe, connection.Connection)
                    self.hear(pipe)
                self.strike()
                now = self.shared.totals.read()[0]
                bar.update(now)
                if now != done:
                    done, moved = now, time.monotonic()
                elif time.monotonic() - moved > PATIENCE:
                    self.problems.append(f"the workers stand still after {done} files")
                    return
        for number, process in enumerate(self.processes):
            process.join(PATIENCE)
            code = process.exitcode
            if code is None or code > 0 or (code != 0 and number not in self.deaths):
                self.problems.append(f"worker {number + 1} ended by itself, with exit code {code}")

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        for pipe in self.pipes:
            pipe.close()

    def hear(self, pipe: connection.Connection) -> None:
        try:
            event = pipe.recv()
        except (EOFError, OSError):  # it has ended, perhaps in the middle of a message
            pipe.close()
            worker = self.pipes.pop(pipe)
            if self.standing is not None and worker == self.standing.worker:
                self.tell_of_permit(worker)
            return
        if isinstance(event, Standing):
            self.standing = event
            self.random_due = time.monotonic() + random.uniform(0, 2 * TICK)
            file = printable(event.file)
            self.screen.say(
                f"half-way worker {event.worker + 1} stands inside `with results:` and `with disk:`, "
                f"in the middle of an append: {file}"
            )
        elif isinstance(event, Recovered):
            self.note(event)

    def tell_of_permit(self, worker: int) -> None:
        """The one who stood had a permit, and is dead."""
        disk = find(self.arena, "disk")
        if disk is None or any(holder.pid == self.pid(worker) for holder in disk.holders):
            self.problems.append(f"worker {worker + 1} is dead and has a permit of `disk` still")
        else:
            text = f"the permit of `disk` that worker {worker + 1} held is back: now {disk.state}"
            self.screen.say(" " * 9 + text, "green")

    def note(self, event: Recovered) -> None:
        """Files a recovery under the death it belongs to."""
        death = self.death_behind(event)
        seconds = None
        if death is not None:
            # an heir may have been killed before it had done: then that is the death to measure from
            heirs = [r.by for r in death.recoveries if r.lock == event.lock and r.by in self.deaths]
            killed_ns = (self.deaths[heirs[-1]] if heirs else death).at_ns
            seconds = None if killed_ns is None else (event.at_ns - killed_ns) / 1e9
            death.recoveries.append(Recovery(event.worker, event.lock, seconds, event.action))
        after = "" if seconds is None else f" {duration(seconds)} after that"
        text = f"worker {event.worker + 1} is inside `with {event.lock}:`{after}, and {printable(event.action)}"
        self.screen.say(" " * 9 + text, "green")

    def death_behind(self, event: Recovered) -> Death | None:
        if event.victim is not None:
            if event.victim not in self.deaths:  # the user plays with us
                self.deaths[event.victim] = Death(event.victim, self.pid(event.victim), "by somebody else", None)
            return self.deaths[event.victim]
        # the one who stood held `results`, so the other one cannot have; and it held nothing else that all use
        stood = self.standing.worker if self.standing is not None else -1
        ours = [d for d in self.deaths.values() if d.at_ns is not None]
        return next((d for d in ours if (d.worker == stood) == (event.lock == "results")), None)

    def strike(self) -> None:
        """Once a worker stands inside its `with`: kills another at random, then, when others wait for it, that one."""
        if self.standing is None or self.standing.worker in self.deaths:
            return
        now = time.monotonic()
        stood = self.standing.worker
        if not self.killed_at_random:
            others = [n for n in self.pipes.values() if n != stood and n not in self.deaths]
            if now >= self.random_due:
                self.killed_at_random = True
                self.kill(random.choice(others or [stood]), "at random")
        elif now > self.random_due + 2.0 or any(state == "waiting" for state, *_ in self.arena._file_locks()):
            self.kill(stood, "inside `with results:`")

    def kill(self, worker: int, where: str) -> None:
        self.screen.say(f"kill -9  worker {worker + 1} (process {self.pid(worker)}), {where}", "bold red")
        self.deaths[worker] = Death(worker, self.pid(worker), where, time.monotonic_ns())
        os.kill(self.pid(worker), signal.SIGKILL)

    def pid(self, worker: int) -> int:
        pid = self.processes[worker].pid
        assert pid is not None
        return pid


def find(arena: Arena, name: str) -> ObjectInfo | None:
    """What has that name now."""
    return next((o for o in arena.objects() if o.name == name), None)


# ---- the whole -----------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What a run came to."""

    directory: Path
    workers: int
    counted: Counts = NOTHING
    """By the workers."""
    expected: Counts = NOTHING
    """By one process."""
    seconds: float = 0.0
    seconds_alone: float = 0.0
    permits: int = 0
    """To use the disk."""
    free_permits: int = 0
    """At the end."""
    deaths: list[Death] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def agree(self) -> bool:
        return self.counted == self.expected and not self.problems

    def as_dict(self) -> dict[str, Any]:
        return {
            "directory": str(self.directory),
            "workers": self.workers,
            "agree": self.agree,
            "problems": self.problems,
            "counted": self.counted._asdict(),
            "expected": self.expected._asdict(),
            "seconds": {"workers": self.seconds, "one_process": self.seconds_alone},
            "permits": {"there": self.permits, "free": self.free_permits},
            "deaths": [
                {
                    "worker": d.worker + 1,
                    "pid": d.pid,
                    "where": d.where,
                    "recoveries": [
                        {"lock": r.lock, "by": r.by + 1, "seconds": r.seconds, "action": r.action} for r in d.recoveries
                    ],
                }
                for d in self.deaths
            ],
        }


def run(directory: Path, screen: Screen, *, workers: int = 4, kill: bool = True, locks: type[Locks] = Locks) -> Outcome:
    """Does the job with several processes, then with one, and compares.

    kill: kill two of the workers half-way.
    locks: the locks to use; the tests show with broken ones that a fault is found.
    """
    files = find_files(directory)
    outcome = Outcome(directory, workers)
    if not files:
        outcome.problems.append(f"there is no text or source file under {directory}")
        return outcome
    what = f"{len(files):,} file{'s' if len(files) != 1 else ''}"
    with tempfile.TemporaryDirectory(prefix="syncx-demo-") as scratch, _own_arena() as arena:
        # not before: who reads this may stop us, and nothing must be half made then
        screen.say(f"{workers} processes count the words of {what} under {printable(str(directory))};")
        screen.say("half-way, two of them are killed" if kill else "none of them is killed")
        job = Job(arena.name, directory, files, workers, Path(scratch), locks)
        shared = Shared(job.memory, workers)
        job.results.touch()
        supervisor = Supervisor(job, arena, shared, screen, kill)
        try:
            supervisor.start()
            began = time.monotonic()
            supervisor.watch()
            outcome.seconds = time.monotonic() - began
        finally:
            supervisor.stop()
        outcome.counted = Counts(*shared.totals.read()[:4])
        outcome.deaths = list(supervisor.deaths.values())
        outcome.problems = supervisor.problems
        disk = find(arena, "disk")
        if disk is not None:
            outcome.permits, outcome.free_permits = disk.parameter, disk.value or 0
        if outcome.free_permits != outcome.permits:
            outcome.problems.append(f"only {outcome.free_permits} of {outcome.permits} permits of `disk` are left")
        _compare(job, shared, screen, outcome)
    return outcome


@contextlib.contextmanager
def _own_arena() -> Iterator[Arena]:
    """An arena for this run alone, removed at its end with all that is in it."""
    arena = Arena(f"demo-{os.getpid()}")
    try:
        yield arena
    finally:
        arena.unlink(force=True)
        arena.close()


def _compare(job: Job, shared: Shared, screen: Screen, outcome: Outcome) -> None:
    """Counts once more, alone, and looks for differences in the totals and in every record."""
    began = time.monotonic()
    expected: list[bytes] = []
    with screen.progress("one process", len(job.files)) as bar:
        for index, file in enumerate(job.files):
            counts, line = examine(file, read(job.directory, file))
            outcome.expected = outcome.expected.plus(counts)
            expected.append(line)
            bar.update(index + 1)
    outcome.seconds_alone = time.monotonic() - began
    found = sorted(job.results.read_bytes().splitlines(keepends=True))
    expected.sort()
    if found != expected:
        wrong = len(set(found).symmetric_difference(expected)) or abs(len(found) - len(expected))
        outcome.problems.append(f"{wrong} records of the file of results are missing, doubled or torn")
    size, records, *_ = shared.results.read()
    if (size, records) != (sum(map(len, found)), len(found)):
        outcome.problems.append(f"the ledger of results tells of {records} records, {size} bytes; the file differs")
    if outcome.counted != outcome.expected:
        outcome.problems.append("the totals differ")


def main(directory: str | None, *, workers: int, as_json: bool) -> int:
    """The command: 0 when all agrees, 1 when not."""
    where = Path(directory or sysconfig.get_path("stdlib"))
    if not where.is_dir():
        raise NotADirectoryError(20, "not a directory", str(where))
    screen = Screen(sys.stderr if as_json else sys.stdout)
    signal.signal(signal.SIGTERM, _terminated)
    outcome = run(where, screen, workers=workers)
    if as_json:
        print(json.dumps(outcome.as_dict(), indent=2))
    elif outcome.expected.files:
        _show(outcome, screen)
    if not outcome.agree:
        raise SyncxError("; ".join(outcome.problems))
    return 0


def _terminated(number: int, frame: object) -> None:
    """SIGTERM cleans up as Ctrl-C does."""
    raise SystemExit(128 + number)


def _show(outcome: Outcome, screen: Screen) -> None:
    rows = []
    for death in outcome.deaths:
        died = f"worker {death.worker + 1}, {death.where}"
        for r in death.recoveries:
            rows.append([died, r.lock, f"worker {r.by + 1}", _duration(r.seconds), r.action])
            died = ""
        if died:
            rows.append([died, "-", "-", "-", "it held nothing"])
    screen.say()
    screen.table(["KILLED", "LOCK", "NEXT HOLDER", "INSIDE AFTER", "AND"], rows, right=(3,))
    screen.say()
    screen.table(
        ["COUNTED BY", "FILES", "LINES", "WORDS", "CHARACTERS", "TIME"],
        [
            _row(f"{outcome.workers} processes", outcome.counted, outcome.seconds),
            _row("one process", outcome.expected, outcome.seconds_alone),
        ],
        right=(1, 2, 3, 4, 5),
    )
    screen.say()
    if outcome.agree:
        screen.say(f"{len(outcome.deaths)} workers were killed; the totals and all records agree.", "bold green")


def _duration(seconds: float | None) -> str:
    return "?" if seconds is None else duration(seconds)


def _row(who: str, counts: Sequence[int], seconds: float) -> list[str]:
    return [who, *(f"{n:,}" for n in counts), duration(seconds)]
