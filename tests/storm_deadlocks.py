"""A storm over locks of every kind, in which every verdict of the deadlock detector is judged before it is carried out.

    python -m tests.storm_deadlocks --seconds 120 --processes 8 --seed 1

Threads of some processes take locks in any order, some with a time limit.  A thread that finds a deadlock says so and
waits (a hook for tests, between the verdict and its delivery).  The judge then stops all processes by SIGSTOP, reads
their state, lets them go on, and asks syncx.wait_graph() about it, which shares no code with the detector.  Whoever is
told of a deadlock that the judge has not seen was told wrongly.  Five times a second the judge also looks for deadlocks
that stand.

The exit status is 1 if somebody was told wrongly, a deadlock stood for more than a second, or somebody never came back.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import random
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import syncx
from syncx import _core

STANDS = 1.0
"""Seconds for which a deadlock may stand; ten times as long where the judge was asked about it again and again, and so
was in the way."""
LOOK = 0.2
PATIENCE = 30.0
TWINS = ("", "off", "liar")
"""off: nobody looks for deadlocks.  liar: a thread that waits for a live holder is told of a deadlock."""

Who = tuple[int, int]
"""Process and thread."""
Knot = frozenset[tuple[Who, int]]
"""Its members, each with the time since when it waits, of CLOCK_MONOTONIC."""


# ---- the objects ----------------------------------------------------------------------------------------------------


@dataclass
class Lot:
    """One of the objects, as a thread takes it.  Nobody takes two of one group, but for permits."""

    group: str
    take: Callable[[float | None], Callable[[], object] | None]
    """Takes it, with a timeout or without, and gives what gives it back; None: the time was over."""


class _Undone(Exception):
    """What ends an initialisation, so that the next one initialises again."""


class Lender:
    """Permits that a process took by acquire(), which any of its threads may give back, and one does."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._lent: dict[int, tuple[syncx.BoundedSemaphore, int, float]] = {}
        self._numbers = iter(range(1 << 62))
        self._ended = threading.Event()

    def lend(self, pool: syncx.BoundedSemaphore, n: int) -> Callable[[], object]:
        with self._guard:
            number = next(self._numbers)
            self._lent[number] = pool, n, time.monotonic()
        return lambda: self._give_back(number)

    def _give_back(self, number: int) -> None:
        with self._guard:
            lent = self._lent.pop(number, None)
        if lent is not None:
            lent[0].release(lent[1])

    def run(self) -> None:
        """In a thread of its own, which is attached and never blocked."""
        with syncx.Mutex(f"of lender {os.getpid()}"):
            while not self._ended.wait(0.05):
                now = time.monotonic()
                with self._guard:
                    late = [number for number, (_, _, since) in self._lent.items() if now - since > 0.1]
                for number in late:
                    self._give_back(number)

    def give_all_back(self) -> None:
        """What any thread of the process has taken."""
        with self._guard:
            lent = list(self._lent)
        for number in lent:
            self._give_back(number)

    def end(self) -> None:
        self._ended.set()


def lots(directory: str, lender: Lender | None) -> list[Lot]:
    """20 objects of every kind that can be in a deadlock."""

    def plain(lock: Any, group: str) -> Lot:
        def take(timeout: float | None) -> Callable[[], object] | None:
            return lock.release if lock.acquire(timeout=timeout) else None

        return Lot(group, take)

    def scoped(lock: Any, group: str) -> Lot:
        """By `with`, where no timeout is wanted."""

        def take(timeout: float | None) -> Callable[[], object] | None:
            if timeout is None:
                lock.__enter__()
                return lambda: lock.__exit__(None, None, None)
            if not lock.acquire(timeout=timeout):
                return None
            return lender.lend(lock, 1) if lender is not None and isinstance(lock, pools_of) else lock.release

        return Lot(group, take)

    pools_of = (syncx.BoundedSemaphore, syncx.BinarySemaphore)

    def several(pool: syncx.BoundedSemaphore, n: int, group: str) -> Lot:
        def take(timeout: float | None) -> Callable[[], object] | None:
            if not pool.acquire(timeout=timeout, n=n):
                return None
            return lender.lend(pool, n) if lender is not None else lambda: pool.release(n)

        return Lot(group, take)

    found = [plain(syncx.Mutex(f"m{i}"), f"m{i}") for i in range(4)]
    found += [scoped(syncx.RLock(f"r{i}"), f"r{i}") for i in range(2)]
    for i in range(3):
        rw = syncx.RWLock(f"rw{i}")
        found += [plain(rw.read(), f"rw{i}"), plain(rw.write(), f"rw{i}"), plain(rw.upgradable(), f"rw{i}")]
    found += [scoped(syncx.Condition(name=f"c{i}"), f"c{i}") for i in range(2)]
    pools = [syncx.BoundedSemaphore(2 + i, name=f"s{i}") for i in range(2)]
    found += [scoped(pool, f"s{i}") for i, pool in enumerate(pools)]
    found += [several(pool, 1 + i, f"s{i}") for i, pool in enumerate(pools)]
    found += [scoped(syncx.BinarySemaphore(name=f"b{i}"), f"b{i}") for i in range(2)]
    path = os.path.join(directory, "ranges")
    for i in range(3):  # the first and the second overlap, the second and the third
        for shared in (False, True):
            found.append(plain(syncx.RangeLock(path, 10 * i, 12, shared=shared), f"range{i}"))
    path = os.path.join(directory, "file")
    found += [plain(syncx.FileLock(path, shared=shared), "file") for shared in (False, True)]
    return found


_BESIDE = {"range0": "range1", "range1": "range0 range2", "range2": "range1"}


# ---- a worker -------------------------------------------------------------------------------------------------------


class Line:
    """Messages in JSON lines over one end of a socket pair, whole also where several threads send."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self._buffer = b""

    def say(self, **message: Any) -> None:
        self.end.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            data = self.end.recv(65536)
            if not data:
                raise EOFError("the other side has gone")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)  # type: ignore[no-any-return]

    def more(self) -> bool:
        return b"\n" in self._buffer


class Worker:
    """A thread of the storm."""

    def __init__(self, directory: str, lender: Lender | None, seed: int, line: Line, over: mmap.mmap) -> None:
        self._lots, self._once, self._line, self._over = lots(directory, lender), syncx.Once("o"), line, over
        self._lender = lender
        self._random = random.Random(seed)
        self.counts = {"turns": 0, "told": 0, "late": 0}

    def run(self) -> None:
        while not self._over[0]:
            try:
                self._nest(self._random.randrange(2, 6), frozenset())
            except syncx.DeadlockError:
                # another thread of the process may be stuck with permits that this one would be told of again and again
                if self._lender is not None:
                    self._lender.give_all_back()
        self._line.say(what="done", counts=self.counts)

    def _nest(self, depth: int, held: frozenset[str]) -> None:
        r = self._random
        if depth == 0:
            self.counts["turns"] += 1
            return
        if r.random() < 0.03:
            time.sleep(0.001)
        timeout = r.uniform(0.001, 0.2) if r.random() < 0.2 else None
        if r.random() < 0.05 and "once" not in held:
            self._initialise(depth, held)
            return
        free = [lot for lot in self._lots if lot.group not in held or lot.group.startswith("s")]
        lot = r.choice([lot for lot in free if not held & set(_BESIDE.get(lot.group, "").split())])
        asked = time.monotonic_ns()
        try:
            back = lot.take(timeout)
        except syncx.DeadlockError as e:
            self._tell(e, asked)
            raise
        if back is None:
            self.counts["late"] += 1
            return
        try:
            self._nest(depth - 1, held | {lot.group})
        finally:
            back()

    def _initialise(self, depth: int, held: frozenset[str]) -> None:
        def inside() -> None:
            nonlocal waited
            waited = False
            self._nest(depth - 1, held | {"once"})
            raise _Undone

        waited, asked = True, time.monotonic_ns()
        try:
            with contextlib.suppress(_Undone):
                self._once.run(inside)
        except syncx.DeadlockError as e:
            if waited:  # else it was told inside
                self._tell(e, asked)
            raise

    def _tell(self, error: syncx.DeadlockError, asked: int) -> None:
        """It gives nothing back before the judge has heard; asked: when it called, by CLOCK_MONOTONIC."""
        self.counts["told"] += 1
        there, here = os.pipe()
        try:
            self._line.say(
                what="told",
                who=[os.getpid(), threading.get_native_id()],
                cycle=[[w.pid, w.tid] for w in error.cycle],
                between=[asked, time.monotonic_ns()],
                text=str(error),
                answer=here,
            )
            os.read(there, 1)
        finally:
            os.close(there)
            os.close(here)


def _listen(line: Line) -> None:
    """Hands on what the judge answers: a byte to the descriptor on whose other end somebody waits for it."""
    with contextlib.suppress(EOFError):
        while True:
            os.write(line.hear()["answer"], b"!")


def _worker(
    number: int, seed: int, line: Line, hook: tuple[int, int], over: mmap.mmap, directory: str, twin: str
) -> None:
    if twin == "off":
        _core._set_deadlock(False)
    else:
        _core._set_verdict_hook(*hook)
    # a process of two threads, one with a thread that gives back what others took, and so on
    lender = Lender() if number % 4 in (1, 2) else None
    threads = [threading.Thread(target=_listen, args=(line,), daemon=True)]
    if lender is not None and number % 4 == 1:
        threads.append(threading.Thread(target=lender.run, daemon=True))
    for t in threads:
        t.start()
    # no thread that takes part ends by waiting for others: it would be one that could give back what they took
    workers = [
        threading.Thread(target=lambda seed=seed + 100 * i: Worker(directory, lender, seed, line, over).run())
        for i in range(2 if number % 4 in (1, 2) else 1)
    ]
    for t in workers:
        t.start()
    for t in workers:
        t.join()
    if lender is not None:
        lender.end()
    line.say(what="over")


def _liar(line: Line, hook: tuple[int, int]) -> None:
    """One thread holds a lock and runs, another waits for it, and is said to be told of a deadlock."""
    write, read = hook
    lock, ids = syncx.Mutex("lie"), []
    lock.acquire()

    def wait() -> None:
        ids.append(threading.get_native_id())
        with lock:
            ids.append(0)

    thread = threading.Thread(target=wait)
    thread.start()
    while not (ids and any(w.tid == ids[0] for w in syncx.wait_graph().blocked)):
        time.sleep(0.001)
    os.write(write, b"!")
    os.read(read, 1)
    pid = os.getpid()
    cycle = [[pid, ids[0]], [pid, threading.get_native_id()]]
    between = [0, time.monotonic_ns()]
    line.say(what="told", who=cycle[0], cycle=cycle, between=between, text="a lie", answer=-1)
    lock.release()
    thread.join()
    line.say(what="done", counts={"turns": 0, "told": 0, "late": 0})
    line.say(what="over")


# ---- the judge ------------------------------------------------------------------------------------------------------


@dataclass
class Report:
    seed: int
    seconds: float = 0.0
    turns: int = 0
    """How often a thread had all that it wanted."""
    late: int = 0
    """How often a time limit freed one."""
    verdicts: int = 0
    confirmed: int = 0
    """In which the judge saw a deadlock."""
    overtaken: int = 0
    """In which he saw none, as its victim had been told by another one who saw it."""
    told: int = 0
    members: dict[int, int] = field(default_factory=dict)
    """How many deadlocks of how many members."""
    suspected: int = 0
    """Of the looks, how many found one that a thread outside could end."""
    false: int = 0
    """Told of a deadlock that was none, or not of that one."""
    stood: int = 0
    left: int = 0
    """Workers that never came back."""
    why: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.false or self.stood or self.left)


@dataclass
class Party:
    pid: int
    line: Line
    verdicts: int
    """Where a byte comes from who has a verdict."""
    go_on: int
    over: bool = False


class Judge:
    def __init__(self, parties: list[Party], report: Report, over: mmap.mmap, stands: float) -> None:
        self._parties, self._report, self._over, self._stands = parties, report, over, stands
        self._approved: dict[Who, tuple[int, set[Who]]] = {}
        """Who was last seen in a deadlock, since when it waited then, and who else was in it."""
        self._standing: dict[Knot, float] = {}
        """When each that was there at the last look was first seen."""
        self._judged: dict[Knot, float] = {}
        """When the last verdict was judged while it was there."""
        self._unseen = ""

    @contextlib.contextmanager
    def _stopped(self) -> Iterator[None]:
        """All of them, and each of their threads."""
        alive = [p for p in self._parties if not p.over]
        for p in alive:
            os.kill(p.pid, signal.SIGSTOP)
        try:
            for p in alive:
                self._until_stopped(p.pid)
            yield
        finally:
            for p in alive:
                os.kill(p.pid, signal.SIGCONT)

    @staticmethod
    def _until_stopped(pid: int) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            states = set()
            for task in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/stat") as stat:
                    states.add(stat.read().rpartition(")")[2].split()[0])
            if states <= {"T", "Z", "X"}:
                return
            if time.monotonic() > end:
                raise RuntimeError(f"process {pid} does not stop: {states}")
            time.sleep(0.0002)

    def _picture(self) -> syncx.Snapshot:
        """What all of them do at one moment: they are stopped for as long as that takes, and no longer, lest one whose
        deadlock is to be told has woken up by its belt meanwhile."""
        with self._stopped():
            return syncx.snapshot()

    def _knots(self, picture: syncx.Snapshot | None) -> list[Knot]:
        """The deadlocks: who is in each, and since when it waits."""
        graph = self._last = syncx.wait_graph(picture, foreign=False)
        self._report.suspected += any(knot.verdict == "suspected" for knot in graph.knots)
        return [
            frozenset(((b.pid, b.tid), b.wait.since_ns) for b in knot.members)
            for knot in graph.knots
            if knot.verdict == "deadlock"
        ]

    def verdict(self, party: Party) -> None:
        """A thread of that party has found a deadlock, and waits."""
        count = len(os.read(party.verdicts, 4096))
        self._report.verdicts += count
        knots = self._knots(self._picture())
        if knots:
            self._report.confirmed += count
        else:
            self._report.overtaken += count
            self._unseen = str(self._last)
        now = time.monotonic()
        for knot in knots:
            self._judged[knot] = now
            members = {who for who, _ in knot}
            for who, since in knot:
                self._approved[who] = since, members
        os.write(party.go_on, b"!" * count)

    def told(self, party: Party, message: dict[str, Any]) -> None:
        (pid, tid), cycle = message["who"], {(pid, tid) for pid, tid in message["cycle"]}
        who, (asked, until) = (pid, tid), message["between"]
        self._report.told += 1
        self._report.members[len(cycle)] = self._report.members.get(len(cycle), 0) + 1
        since, members = self._approved.pop(who, (0, set()))
        if not asked <= since <= until:
            members = set()  # that was another wait
        # somebody may have joined it between the verdict and the telling
        if who not in cycle or not members or not (cycle <= members or members <= cycle):
            self._report.false += 1
            self._report.why += [f"{who} was told of {sorted(cycle)}, not {sorted(members)}", message["text"]]
            self._report.why += ["what the judge saw at the last verdict of which it saw none:", self._unseen]
        if message["answer"] >= 0:  # the liar does not wait for one
            party.line.say(answer=message["answer"])

    def look(self) -> None:
        """Does a deadlock stand?"""
        now = time.monotonic()
        self._standing = {knot: self._standing.get(knot, now) for knot in self._knots(None)}
        self._judged = {knot: at for knot, at in self._judged.items() if knot in self._standing}
        for knot, since in self._standing.items():
            # what was judged lately somebody has found, and we delayed him
            late = now - max(since, self._judged.get(knot, 0)) > self._stands or now - since > 10 * self._stands
            if late and knot in self._knots(self._picture()):
                self._report.stood += 1
                self._report.why.append(f"{sorted(knot)} stand since {now - since:.1f} s")

    def run(self, seconds: float, least: int, until_it_stands: bool) -> None:
        """So long and longer, until so many have been told; then they end what they are at."""
        start = time.monotonic()
        end, next_look = start + seconds + 2 * PATIENCE, start + LOOK
        while not all(p.over for p in self._parties) and time.monotonic() < end:
            if until_it_stands and self._report.stood:
                break
            if time.monotonic() - start > seconds + (PATIENCE if self._report.told < least else 0):
                self._over[0] = 1
            ends: dict[Any, tuple[Party, bool]] = {}
            for p in self._parties:
                if not p.over:
                    ends[p.line.end], ends[p.verdicts] = (p, False), (p, True)
            for found in select.select(list(ends), [], [], max(0.0, next_look - time.monotonic()))[0]:
                party, is_verdict = ends[found]
                if is_verdict:
                    self.verdict(party)
                else:
                    self._hear(party)
            if time.monotonic() >= next_look:
                self.look()
                next_look = time.monotonic() + LOOK
        self._report.left = sum(not p.over for p in self._parties)

    def _hear(self, party: Party) -> None:
        while True:
            message = party.line.hear()
            if message["what"] == "told":
                self.told(party, message)
            elif message["what"] == "done":
                self._report.turns += message["counts"]["turns"]
                self._report.late += message["counts"]["late"]
            else:
                party.over = True
            if not party.line.more():
                return


# ---- all together ---------------------------------------------------------------------------------------------------


def _start(body: Callable[[Line, tuple[int, int]], None], others: list[Party]) -> Party:
    ours, theirs = socket.socketpair()
    verdicts, hook_write = os.pipe()
    hook_read, go_on = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ours.close()
            for p in others:
                p.line.end.close()
            body(Line(theirs), (hook_write, hook_read))
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    os.close(hook_write)
    os.close(hook_read)
    return Party(pid, Line(ours), verdicts, go_on)


def storm(seed: int, seconds: float, processes: int, twin: str = "", least: int = 0, stands: float = STANDS) -> Report:
    """Runs one in the default arena; the caller's process must have no other thread.

    least: it goes on until so many have been told, if that takes longer.
    """
    report, parties = Report(seed), []
    over = mmap.mmap(-1, mmap.PAGESIZE)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        for name in ("ranges", "file"):
            open(os.path.join(directory, name), "w").close()
        try:
            for i in range(processes):

                def body(line: Line, hook: tuple[int, int], i: int = i) -> None:
                    _worker(i, 1000 * seed + i, line, hook, over, directory, twin)

                parties.append(_start(body, parties))
            if twin == "liar":
                parties.append(_start(_liar, parties))
            Judge(parties, report, over, stands).run(seconds, least, until_it_stands=twin == "off")
        finally:
            for p in parties:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(p.pid, signal.SIGKILL)
                os.waitpid(p.pid, 0)
                p.line.end.close()
                os.close(p.verdicts)
                os.close(p.go_on)
    report.seconds = time.monotonic() - start
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm_deadlocks", description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--twin", choices=TWINS, default="", help="a detector that is broken")
    options = parser.parse_args()
    mine = f"storm-{os.getpid()}"
    os.environ["SYNCX_ARENA"] = mine
    try:
        report = storm(options.seed, options.seconds, options.processes, options.twin)
    finally:
        syncx.Arena(mine).unlink(force=True)
    print(json.dumps({**asdict(report), "why": len(report.why)}), flush=True)
    for line in report.why:
        print(line, file=sys.stderr, flush=True)
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
