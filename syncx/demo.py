"""`syncx demo`: several processes do one job, two are killed in the middle of it, and nothing is lost.

The job: count the lines, words and characters of every text and source file under a directory, and note the words
that each uses most.  It is also an example of how to write such a job so that `kill -9` at any instruction costs
nothing:

- Each worker holds a lock of its own, named after it, for as long as it lives.  Every other worker has a thread that
  waits for that lock.  Who gets it with `owner_died` set knows that its holder was killed, and finishes its work.
- `work` guards the list of files, `results` the file of results, `totals` the totals: three numbers that only come out
  right if no update is lost or made twice.  The first two locks have names; the third lies in shared memory beside what
  it guards.
- Numbers that belong together are kept in a `Ledger`, which changes all at once or not at all.  Each ledger remembers
  the last file it took from each worker, so that doing a dead worker's file again never counts it twice.
- The file of results cannot change all at once, so its lock has a function that repairs it when its owner died.

The process that starts the workers only watches, and kills: one worker that has written half a record and tells so
from inside its `with`, and another one wherever it happens to be.
"""

from __future__ import annotations

import array
import collections
import contextlib
import itertools
import json
import logging
import mmap
import multiprocessing
import os
import random
import re
import signal
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from .arena import Arena
from .errors import SyncxError
from .mutex import Mutex
from .terminal import Screen, duration, printable

__all__ = ["Ledger", "Locks", "Outcome", "find_files", "main", "run"]

SUFFIXES = frozenset(
    (".c", ".cfg", ".css", ".h", ".html", ".ini", ".js", ".json", ".md", ".py", ".pyi", ".pyx", ".rst", ".sh", ".toml")
    + (".txt", ".yaml", ".yml")
)
SKIPPED = frozenset({"__pycache__", "site-packages", "dist-packages"})
WORD = re.compile(r"\w+")

TICK = 0.02
"""Seconds between two looks at the progress."""
PATIENCE = 60.0
"""Seconds without any progress after which the demo gives up."""
NEVER = 2**64 - 1


# ---- the job -------------------------------------------------------------------------------------------------------


class Counts(NamedTuple):
    """What one file, or all of them, come to."""

    files: int = 0
    lines: int = 0
    words: int = 0
    characters: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


NOTHING = Counts()


def find_files(directory: Path) -> list[str]:
    """The text and source files under a directory, relative to it."""
    found = []
    for parent, directories, names in os.walk(directory):
        directories[:] = sorted(d for d in directories if d not in SKIPPED)
        for name in sorted(names):
            path = os.path.join(parent, name)
            if os.path.splitext(name)[1] in SUFFIXES and os.path.isfile(path):
                found.append(os.path.relpath(path, directory))
    return found


def examine(directory: Path, file: str) -> tuple[Counts, bytes]:
    """Counts one file, and writes the line about it for the file of results.

    Bytes that are not UTF-8 count as strange characters, a file that cannot be read as an empty one.
    """
    try:
        text = (directory / file).read_text("utf-8", "replace")
    except OSError:
        text = ""
    words: collections.Counter[str] = collections.Counter()
    for line in text.split("\n"):
        words.update(WORD.findall(line))
    counts = Counts(1, text.count("\n"), words.total(), len(text))
    favourites = words.most_common(5)
    return counts, json.dumps({"file": file, **counts._asdict(), "favourites": favourites}).encode() + b"\n"


# ---- what the workers share ----------------------------------------------------------------------------------------


class Ledger:
    """Numbers in shared memory that change all at once or not at all, whenever the writer is killed.

    There are two copies and a switch that says which one counts.  A writer fills the other copy, then turns the switch:
    a single store.  It needs a lock around it against other writers, but no repair.
    """

    def __init__(self, memory: memoryview, numbers: int) -> None:
        words = memory[: self.size(numbers)].cast("Q")
        self._switch = words[:1]
        self._copies = (words[1 : 1 + numbers], words[1 + numbers :])

    @staticmethod
    def size(numbers: int) -> int:
        return 8 * (1 + 2 * numbers)

    def read(self) -> list[int]:
        return self._copies[self._switch[0]].tolist()

    def write(self, numbers: Iterable[int]) -> None:
        other = 1 - self._switch[0]
        self._copies[other][:] = memoryview(array.array("Q", numbers))
        self._switch[0] = other


class Shared:
    """The shared memory: a lock, and three ledgers with a number for each worker at their ends.

    totals:  files, lines, words, characters, and the last file counted for each worker
    results: bytes written, records written, where the trap is, and the last file recorded for each worker
    work:    the next file, and the one each worker is at
    Files are numbered from 1 there; 0 is none.
    """

    def __init__(self, path: Path, workers: int) -> None:
        sizes = [Ledger.size(n + workers) for n in (4, 3, 1)]
        with open(path, "a+b") as f:
            f.truncate(Mutex.SIZE + sum(sizes))
            self.memory = memoryview(mmap.mmap(f.fileno(), 0))
        ends = list(itertools.accumulate(sizes, initial=Mutex.SIZE))
        self.totals = Ledger(self.memory[ends[0] :], 4 + workers)
        self.results = Ledger(self.memory[ends[1] :], 3 + workers)
        self.work = Ledger(self.memory[ends[2] :], 1 + workers)


class Locks:
    """The locks, opened by each process for itself."""

    def __init__(self, arena: Arena, shared: Shared, worker: Worker) -> None:
        self.work = Mutex("work", arena=arena, on_owner_death=worker.take_over_work)
        self.results = Mutex("results", arena=arena, on_owner_death=worker.repair_results)
        self.totals = Mutex.at(shared.memory, 0, arena=arena, on_owner_death=worker.take_over_totals)
        self.lives = [Mutex(f"worker-{n + 1}", arena=arena) for n in range(worker.job.workers)]


@dataclass(frozen=True)
class Job:
    """What a worker is told."""

    arena: str
    directory: Path
    files: list[str]
    workers: int
    scratch: Path
    locks: type[Locks]

    @property
    def memory(self) -> Path:
        return self.scratch / "memory"

    @property
    def results(self) -> Path:
        return self.scratch / "results.jsonl"


# ---- a worker ------------------------------------------------------------------------------------------------------


class Ready(NamedTuple):
    """A worker holds its own lock."""

    worker: int


class Standing(NamedTuple):
    """A worker stands inside `with results:`, having written half of a record."""

    worker: int
    file: str


class Recovered(NamedTuple):
    """A worker got a lock whose owner had died."""

    worker: int
    at_ns: int
    """When it was inside, of time.monotonic_ns(), which is the same clock in all processes."""
    lock: str
    victim: int | None
    """None: it held a lock that all use, and the one who killed it knows."""
    action: str


class Worker:
    """One of the processes that do the job."""

    def __init__(self, job: Job, number: int, pipe: connection.Connection) -> None:
        self.job = job
        self.number = number
        self.pipe = pipe
        self.speech = threading.Lock()
        self.shared = Shared(job.memory, job.workers)
        self.results = os.open(job.results, os.O_RDWR | os.O_APPEND)
        self.locks = job.locks(Arena(job.arena, create=False), self.shared, self)

    def tell(self, event: NamedTuple) -> None:
        with self.speech, contextlib.suppress(ConnectionError):  # our threads share the pipe
            self.pipe.send(event)

    def main(self) -> None:
        peers = [p for p in range(self.job.workers) if p != self.number]
        watchers = [threading.Thread(target=self.watch, args=(p,), daemon=True) for p in peers]
        with self.locks.lives[self.number]:
            self.tell(Ready(self.number))
            self.pipe.recv()  # all are ready: each holds its own lock, so watching them makes sense
            for watcher in watchers:
                watcher.start()
            while (index := self.take()) is not None:
                self.finish(self.number, index)
        for watcher in watchers:
            watcher.join()

    def watch(self, peer: int) -> None:
        """Sleeps until another worker ends.  If it was killed, one watcher of it does what it had not finished."""
        with self.locks.lives[peer] as life:
            if life.owner_died:
                now = time.monotonic_ns()
                _, *at = self.shared.work.read()
                action = f"finishes {self.job.files[at[peer] - 1]}" if at[peer] else "finds nothing begun"
                self.tell(Recovered(self.number, now, f"worker-{peer + 1}", peer, action))
                if at[peer]:
                    self.finish(peer, at[peer] - 1)

    def take(self) -> int | None:
        """The number of a file to do next."""
        with self.locks.work:
            index, *at = self.shared.work.read()
            if index == len(self.job.files):
                return None
            at[self.number] = index + 1
            self.shared.work.write([index + 1, *at])
            return index

    def finish(self, worker: int, index: int) -> None:
        """Counts a file and enters it, for this worker or for a dead one, as far as that one had not come."""
        counts, line = examine(self.job.directory, self.job.files[index])
        with self.locks.results:
            size, records, trap, *last = self.shared.results.read()
            if last[worker] != index + 1:
                if records == trap:
                    self.shared.results.write([size, records, NEVER, *last])  # it catches one worker, not its heir
                    self.stand(index, line)
                os.write(self.results, line)
                last[worker] = index + 1
                self.shared.results.write([size + len(line), records + 1, trap, *last])
        with self.locks.totals:
            totals = self.shared.totals.read()
            if totals[4 + worker] != index + 1:
                totals[4 + worker] = index + 1
                self.shared.totals.write([*counts.plus(Counts(*totals[:4])), *totals[4:]])

    def stand(self, index: int, line: bytes) -> None:
        """Writes half of a record, says so, and waits for the end, inside `with results:`."""
        os.write(self.results, line[: len(line) // 2])
        self.tell(Standing(self.number, self.job.files[index]))
        self.pipe.recv()

    # What the three locks call, held, when their owner died.

    def repair_results(self, lock: object) -> None:
        now = time.monotonic_ns()
        size = self.shared.results.read()[0]
        torn = os.fstat(self.results).st_size - size
        os.ftruncate(self.results, size)
        self.tell(Recovered(self.number, now, "results", None, f"cuts off {torn} bytes of a torn record"))

    def take_over_work(self, lock: object) -> None:
        self.tell(Recovered(self.number, time.monotonic_ns(), "work", None, "goes on: a ledger is never torn"))

    def take_over_totals(self, lock: object) -> None:
        self.tell(Recovered(self.number, time.monotonic_ns(), "totals", None, "goes on: a ledger is never torn"))


def work(job: Job, number: int, pipe: connection.Connection) -> None:
    """The main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who started us
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    logging.getLogger("syncx").addHandler(logging.NullHandler())  # it would tell of every death, and so do we
    sys.setswitchinterval(0.0005)  # the watchers should not wait for the thread that counts
    with contextlib.suppress(EOFError, ConnectionError):  # it is gone
        Worker(job, number, pipe).main()


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
        self.pipes: list[connection.Connection] = []
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
                self.pipes.append(ours)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for pipe in self.pipes:
            with contextlib.suppress(EOFError, OSError):
                pipe.recv()
        for pipe in self.pipes:
            with contextlib.suppress(OSError):
                pipe.send("go")

    def watch(self) -> None:
        """Until all workers have ended."""
        done, moved = -1, time.monotonic()
        with self.screen.progress(f"{self.job.workers} processes", len(self.job.files)) as bar:
            while self.pipes:
                for pipe in connection.wait(self.pipes, TICK):
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
            if number not in self.deaths and process.exitcode != 0:
                self.problems.append(f"worker {number + 1} ended by itself, with exit code {process.exitcode}")

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
            self.pipes.remove(pipe)
            return
        if isinstance(event, Standing):
            self.standing = event
            self.random_due = time.monotonic() + random.uniform(0, 2 * TICK)
            file = printable(event.file)
            self.screen.say(
                f"half-way worker {event.worker + 1} stands inside `with results:`, half of a record written: {file}"
            )
        elif isinstance(event, Recovered):
            self.note(event)

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
            others = [n for n in range(self.job.workers) if n != stood and n not in self.deaths]
            if now >= self.random_due:
                self.killed_at_random = True
                self.kill(random.choice(others or [stood]), "at random")
        elif now > self.random_due + 2.0 or any(o.waiters for o in self.arena.objects() if o.name == "results"):
            self.kill(stood, "inside `with results:`")

    def kill(self, worker: int, where: str) -> None:
        self.screen.say(f"kill -9  worker {worker + 1} (process {self.pid(worker)}), {where}", "bold red")
        self.deaths[worker] = Death(worker, self.pid(worker), where, time.monotonic_ns())
        os.kill(self.pid(worker), signal.SIGKILL)

    def pid(self, worker: int) -> int:
        pid = self.processes[worker].pid
        assert pid is not None
        return pid


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
    screen.say(f"{workers} processes count the words of {what} under {printable(str(directory))};")
    screen.say("half-way, two of them are killed" if kill else "none of them is killed")
    with tempfile.TemporaryDirectory(prefix="syncx-demo-") as scratch, _own_arena() as arena:
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
            counts, line = examine(job.directory, file)
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
