"""What the worker processes of `syncx demo` do: the job, what they share, and how they survive each other.

demo.py tells the story and has the other side: who starts them, watches, kills, and compares.
"""

from __future__ import annotations

import array
import collections
import contextlib
import itertools
import json
import logging
import mmap
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import NamedTuple

from .arena import Arena
from .barrier import Barrier
from .bounded import BoundedSemaphore
from .errors import BrokenBarrierError
from .filelock import RangeLock
from .mutex import Mutex

__all__ = [
    "NEVER",
    "NOTHING",
    "Counts",
    "Job",
    "Ledger",
    "Locks",
    "Ready",
    "Recovered",
    "Shared",
    "Standing",
    "Worker",
    "examine",
    "find_files",
    "read",
    "work",
]

SUFFIXES = frozenset(
    (".c", ".cfg", ".css", ".h", ".html", ".ini", ".js", ".json", ".md", ".py", ".pyi", ".pyx", ".rst", ".sh", ".toml")
    + (".txt", ".yaml", ".yml")
)
SKIPPED = frozenset({"__pycache__", "site-packages", "dist-packages"})
WORD = re.compile(r"\w+")

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


def read(directory: Path, file: str) -> str:
    """What is in a file.  Bytes that are not UTF-8 are strange characters, a file that cannot be read is empty."""
    try:
        return (directory / file).read_text("utf-8", "replace")
    except OSError:
        return ""


def examine(file: str, text: str) -> tuple[Counts, bytes]:
    """Counts one file, and writes the line about it for the file of results."""
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
    """The locks, the permits and the barrier, opened by each process for itself."""

    def __init__(self, arena: Arena, shared: Shared, worker: Worker) -> None:
        self.work = Mutex("work", arena=arena, on_owner_death=worker.take_over_work)
        self.results = RangeLock(worker.job.results, arena=arena)
        self.totals = Mutex.at(shared.memory, 0, arena=arena, on_owner_death=worker.take_over_totals)
        self.lives = [Mutex(f"worker-{n + 1}", arena=arena) for n in range(worker.job.workers)]
        self.disk = self.permits(worker.job.permits, arena)
        self.start = Barrier(worker.job.parties, name="start", arena=arena)

    def permits(self, number: int, arena: Arena) -> BoundedSemaphore:
        return BoundedSemaphore(number, name="disk", arena=arena)


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
    def permits(self) -> int:
        """How many may use the disk at once.  More than one: who stands and waits to be killed keeps one."""
        return max(2, self.workers // 2)

    @property
    def parties(self) -> int:
        """Who starts together: the workers, and the one who started them."""
        return self.workers + 1

    @property
    def memory(self) -> Path:
        return self.scratch / "memory"

    @property
    def results(self) -> Path:
        return self.scratch / "results.jsonl"


# ---- a worker ------------------------------------------------------------------------------------------------------


class Ready(NamedTuple):
    """A worker holds its own lock, and goes to the start."""

    worker: int


class Standing(NamedTuple):
    """A worker stands in the middle of an append, inside `with results:` and `with disk:`."""

    worker: int
    file: str


class Recovered(NamedTuple):
    """A worker got a lock whose holder had died."""

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
        self.locks = job.locks(Arena(job.arena, create=False), self.shared, self)

    def tell(self, event: NamedTuple) -> None:
        with self.speech, contextlib.suppress(ConnectionError):  # our threads share the pipe
            self.pipe.send(event)

    def main(self) -> None:
        peers = [p for p in range(self.job.workers) if p != self.number]
        watchers = [threading.Thread(target=self.watch, args=(p,), daemon=True) for p in peers]
        with self.locks.lives[self.number]:
            self.start()
            for watcher in watchers:
                watcher.start()
            while (index := self.take()) is not None:
                self.finish(self.number, index)
        for watcher in watchers:
            watcher.join()

    def start(self) -> None:
        """Waits until all are there: each holds its own lock then, so watching them makes sense.

        Enrolled, so that one of us whom somebody kills here breaks the barrier and nobody waits for it.  Then the one
        who started us says when the rest are there.
        """
        try:
            with self.locks.start.enroll():
                self.tell(Ready(self.number))
                self.locks.start.wait()
        except BrokenBarrierError:
            self.pipe.recv()

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
        file = self.job.files[index]
        with self.locks.disk:
            text = read(self.job.directory, file)
        counts, line = examine(file, text)
        with self.locks.results as results:
            size, records, trap, *last = self.shared.results.read()
            if last[worker] != index + 1:
                if records == trap:
                    self.shared.results.write([size, records, NEVER, *last])  # it catches one worker, not its heir
                    self.stand(file, line)
                if worker == self.number or line not in results.file:  # else it was killed right after its append
                    self.append(line)
                last[worker] = index + 1
                self.shared.results.write([size + len(line), records + 1, trap, *last])
        with self.locks.totals:
            totals = self.shared.totals.read()
            if totals[4 + worker] != index + 1:
                totals[4 + worker] = index + 1
                self.shared.totals.write([*counts.plus(Counts(*totals[:4])), *totals[4:]])

    def append(self, line: bytes) -> None:
        """Puts a record at the end of the file.  What a killed worker has torn there, append() cuts off first."""
        inside = time.monotonic_ns()
        size = os.fstat(self.locks.results.fileno()).st_size
        with self.locks.disk:
            torn = size - self.locks.results.append(line.rstrip(b"\n"))
        if torn:
            self.tell(Recovered(self.number, inside, "results", None, f"cuts off {torn} bytes of a torn record"))

    def stand(self, file: str, line: bytes) -> None:
        """Stops in the middle of an append, half of the record written, and waits there for the end."""
        with self.locks.disk:
            self.locks.results.file.seek(0, os.SEEK_END)
            self.locks.results.file.write(line[: len(line) // 2])
            self.locks.results.file.flush()
            self.tell(Standing(self.number, file))
            self.pipe.recv()

    # What the two mutexes call, held, when their owner died.

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
