"""Has histories played: starts the processes, deals out parts, kills some amid their calls, and reads the rings."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import syncx

from . import rings as r
from .broken import subject_of
from .history import History
from .rings import Rings
from .subjects import dealt
from .worker import serve

PATIENCE = 60.0
"""Seconds after which a history that has not ended is stuck."""


class Stuck(Exception):
    """A call has not returned, and nothing can make it return; or a process has failed."""

    def __init__(self, why: str, history: History) -> None:
        super().__init__(why)
        self.history = history


@dataclass
class Worker:
    """A process that plays parts."""

    pid: int
    orders: int
    done: int

    def end(self, sign: int = signal.SIGKILL) -> None:
        """Ends it, whatever it is doing, and waits for its end."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, sign)
        os.waitpid(self.pid, 0)
        self.forget()

    def forget(self) -> None:
        os.close(self.orders)
        os.close(self.done)


@dataclass
class Victim:
    """Who is killed: after so many of its thread's calls have begun, and so many nanoseconds more.

    alarm: by a timer that it sets itself just before that call, whose signal ends it as SIGKILL does; else by SIGKILL
    from the driver, which may be late.
    """

    part: int
    slot: int
    calls: int
    delay: int
    alarm: bool


def file_directory() -> str:
    """Where the locked files are: in memory where that can be, since updates are synced."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return tempfile.mkdtemp(prefix="syncx-linear-", dir=base)


class Conductor:
    """A number of processes for the histories of one primitive, or of a broken twin of it.

    kill: in what share of the histories a process is killed.  Forks: nothing else may run in this process.
    """

    def __init__(
        self, primitive: str, seed: str, processes: int = 4, kill: float = 0.25, twin: str | None = None
    ) -> None:
        self.primitive, self.seed, self.processes, self.kill, self.twin = primitive, seed, processes, kill, twin
        self.subject = subject_of(primitive, twin)
        self.rings = Rings()
        self.amid = 0
        """Deaths amid a call."""
        self._directory = file_directory()
        self._arena_name = f"linear-{os.getpid()}-{primitive}"
        self._arena = syncx.Arena(self._arena_name)
        self._slots: list[list[int]] = []
        """Of each process of the history, the rings of its threads."""
        self._workers: list[Worker | None] = [None] * processes
        self._cpus = sorted(os.sched_getaffinity(0))

    def __enter__(self) -> Conductor:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            if worker is not None:
                worker.end()
        self._arena.unlink(force=True)
        self._arena.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    # ---- processes

    def _worker(self, i: int) -> Worker:
        worker = self._workers[i]
        if worker is None:
            worker = self._workers[i] = self._fork()
        return worker

    def _fork(self) -> Worker:
        to_child, orders = os.pipe()
        done, from_child = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 3
            try:
                for other in self._workers:
                    if other is not None:
                        other.forget()  # it must see the end of its orders
                os.close(orders)
                os.close(done)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                serve(to_child, from_child, self.rings)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(to_child)
        os.close(from_child)
        return Worker(pid, orders, done)

    # ---- histories

    def histories(self, count: int) -> Iterator[History]:
        """So many of them.  Raises Stuck."""
        for number in range(1, count + 1):
            yield self.play(number)

    def play(self, number: int) -> History:
        """The history of that number, which decides its plan.  Raises Stuck."""
        rng = random.Random(f"{self.seed}/{self.primitive}/{number}")
        parts = rng.randint(2, self.processes)
        sizes = [1] * parts
        if self.subject.threads and rng.random() < 0.35:
            sizes[rng.randrange(parts)] += 1
        total = sum(sizes)
        parameters = self.subject.draw(rng, total)
        plans = list(dealt(rng, self.subject, parameters, total))
        processes = [p for p, size in enumerate(sizes) for _ in range(size)]
        self._slots = [[slot for slot, p in enumerate(processes) if p == part] for part in range(parts)]
        victims = self._victims(rng, processes, plans)
        if self.primitive == "condition":
            parameters["deaths"] = len(victims)
        one_cpu = rng.random() < 0.3
        name = f"history {number}"
        for slot in range(total):
            self.rings.of(slot).clear()
        for p in range(parts):
            order = {
                "number": number,
                "primitive": self.primitive,
                "twin": self.twin,
                "name": name,
                "parameters": parameters,
                "arena": self._arena_name,
                "directory": self._directory,
                "parties": total,
                "alarms": {v.slot: (v.calls, v.delay) for v in victims if v.alarm and v.part == p},
                "threads": [(slot, plans[slot]) for slot in range(total) if processes[slot] == p],
                "cpu": rng.choice(self._cpus) if one_cpu or rng.random() < 0.2 else None,
                "seed": f"{self.seed}/{self.primitive}/{number}",
            }
            os.write(self._worker(p).orders, json.dumps(order).encode() + b"\n")
        deaths = {v.part: self._kill(v) for v in victims}
        why = self._await([p for p in range(parts) if p not in deaths])
        history = self._read(number, processes, parameters, deaths)
        if why:
            raise Stuck(why, history)
        self._clean(name)
        return history

    def _victims(self, rng: random.Random, processes: list[int], plans: list[Any]) -> list[Victim]:
        """Nobody, one process, or now and then two."""
        if rng.random() >= self.kill:
            return []
        chosen = rng.sample(range(len(processes)), min(len(processes), 1 if rng.random() < 0.85 else 2))
        victims: dict[int, Victim] = {}
        for slot in sorted(chosen):
            delay = rng.randrange(rng.choice((1, 5_000, 50_000, 500_000, 3_000_000)))
            plan = plans[slot]
            waits = [
                i for i, (_, arguments) in enumerate(plan, 1) if arguments and (arguments[-1] < 0 or arguments[-1] > 99)
            ]
            calls = rng.choice(waits) if waits and rng.random() < 0.6 else rng.randint(1, len(plan))
            alarm = rng.random() < 0.7
            if alarm:  # some microseconds go before the call begins
                delay = 5_000 + rng.randrange(rng.choice((5_000, 20_000, 100_000)))
            victim = Victim(processes[slot], slot, calls, delay, alarm)
            victims.setdefault(processes[slot], victim)
        return list(victims.values())

    def _kill(self, victim: Victim) -> tuple[int, int]:
        """Kills it when it is so far; times before and after its death."""
        if victim.alarm:
            return self._awaits_alarm(victim.part)
        words = self.rings.of(victim.slot).words
        end = time.monotonic() + PATIENCE
        while words[r.STARTED] < victim.calls and not words[r.FINISHED] and time.monotonic() < end:
            os.sched_yield()
        until = time.perf_counter_ns() + victim.delay
        while time.perf_counter_ns() < until:
            continue
        worker = self._workers[victim.part]
        assert worker is not None
        self._workers[victim.part] = None
        before = time.monotonic_ns()
        worker.end()
        return before, time.monotonic_ns()

    def _awaits_alarm(self, part: int) -> tuple[int, int]:
        """The same for one whose own timer kills it; it has lived when it wrote down a time."""
        worker = self._workers[part]
        assert worker is not None
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and select.select([worker.done], [], [], PATIENCE)[0]:
            if not os.read(worker.done, 1):  # it is dying: that end of the pipe is closed
                break
        worker.end()
        self._workers[part] = None
        after = time.monotonic_ns()
        return max(self.rings.of(slot).last_time() for slot in self._slots[part]), after

    def _await(self, parts: list[int]) -> str:
        """Waits until they have played; "" if all is well, or what is wrong."""
        pending = {self._worker(p).done: p for p in parts}
        end = time.monotonic() + PATIENCE
        while pending:
            ready, _, _ = select.select(list(pending), [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self._end_all()
                return f"{len(pending)} processes have not come to an end within {PATIENCE:g} s"
            for fd in ready:
                if not os.read(fd, 1):
                    self._end_all()
                    return "a process has failed: see its traceback above"
                del pending[fd]
        return ""

    def _end_all(self) -> None:
        for i, worker in enumerate(self._workers):
            if worker is not None:
                worker.end()
                self._workers[i] = None

    def _read(
        self, number: int, processes: list[int], parameters: dict[str, int], deaths: dict[int, tuple[int, int]]
    ) -> History:
        threads = [
            self.rings.of(slot).calls(slot, p, self.subject.names, deaths.get(p)) for slot, p in enumerate(processes)
        ]
        self.amid += sum(
            any(c.unknown for who, t in enumerate(threads) if processes[who] == p for c in t) for p in deaths
        )
        origin = f"seed {self.seed}, history {number}" + (f", twin: {self.twin}" if self.twin else "")
        return History(self.primitive, parameters, threads, origin)

    def _clean(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._arena.unlink(name, force=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._directory, name))
