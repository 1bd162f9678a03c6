"""What the deadlock detector costs, and how soon it tells."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from typing import Any

import syncx
from syncx import _core

from . import floors
from .children import PATIENCE, Child, Connection, Late, Program, own_pages
from .contended import one_run
from .peers import Field, Open, Peer, ours
from .place import Place
from .samples import Section
from .settings import Settings
from .uncontended import measure, timed

WAKE = "one futex wake, in C"
MEMBERS = (2, 3, 4, 8)
CROWD = 1000
FEW = 100
"""Instead of them in a quick run."""
PROCESSES = 4
"""Among which the threads of a crowd are divided."""
PAUSE = 0.005

ON, OFF = "syncx.Mutex", "syncx.Mutex, detector off"


def members(n: int) -> str:
    """The name of a row."""
    return f"{n:,} members"


class Shape:
    """Threads that hold a lock each and wait for ever, by numbers: who holds and wants which one.

    Thread i is one of a few forked processes; one more process, the last, does what it is told to in its only thread.
    """

    def __init__(
        self,
        place: Place,
        wants: list[int],
        last: int,
        processes: int,
        stack: contextlib.ExitStack,
        on: bool = True,
    ) -> None:
        """wants[i]: the lock that thread i wants, which holds lock i.  last: what the last process holds."""
        name = place.name()
        self._arena = syncx.Arena(name)  # its own: what others do does not count
        stack.callback(place.unlink_arenas, name)
        stack.callback(self._arena.close)
        self._on = on
        self._last = Child(functools.partial(self._run_last, last))
        stack.callback(self._last.end)
        self._last.receive()
        self.children: list[Child] = []
        for p in range(processes):
            seats = {i: wants[i] for i in range(p, len(wants), processes)}  # neighbours in different processes
            self.children.append(Child(functools.partial(self._run, seats)))
            stack.callback(self.children[-1].end)
        for child in self.children:
            child.receive()
        for child in self.children:
            child.send("wait")
        self._until_waiting(len(wants))

    def _mutex(self, number: int) -> Any:
        return syncx.Mutex(str(number), arena=self._arena)

    def _run(self, seats: dict[int, int], connection: Connection) -> None:
        own_pages()
        _core._set_deadlock(self._on)
        threading.stack_size(128 * 1024)
        holding, go = threading.Semaphore(0), threading.Event()

        def work(held: int, wanted: int) -> None:
            with self._mutex(held):
                holding.release()
                go.wait()
                self._mutex(wanted).acquire()

        for held, wanted in seats.items():
            threading.Thread(target=work, args=(held, wanted), daemon=True).start()
        for _ in seats:
            holding.acquire()
        connection.send("ready")
        connection.recv()
        go.set()
        while True:
            connection.recv()
            connection.send(time.process_time_ns())

    def _run_last(self, held: int, connection: Connection) -> None:
        own_pages()
        _core._set_deadlock(self._on)
        with self._mutex(held):
            connection.send("ready")
            while True:
                wanted, timeout = connection.recv()
                mutex = self._mutex(wanted)
                start = time.monotonic_ns()
                try:
                    mutex.acquire(timeout=timeout)
                except syncx.DeadlockError as e:
                    took = time.monotonic_ns() - start
                    connection.send((took, len(e.cycle)))

    def _until_waiting(self, n: int) -> None:
        end = time.monotonic() + PATIENCE
        while sum(row[3] for row in self._arena._participants()) < n:
            if time.monotonic() > end:
                raise Late(f"{n} threads do not all wait")
            time.sleep(0.005)

    def close(self, wanted: int) -> tuple[float, int]:
        """The last process waits for a lock, and so closes a deadlock: us until it is told, and of how many members.

        It is told each time, since it keeps what it holds; the others wait on.
        """
        self._last.send((wanted, None))
        took, told = self._last.receive()
        return took / 1e3, told

    def wait_timed(self, wanted: int) -> None:
        """The last process waits for what nobody gives it, with a timeout."""
        taken = self._mutex(wanted)
        taken.acquire()
        self._last.send((wanted, 3600.0))

    def load(self, seconds: float) -> float:
        """What the waiting processes use of one CPU, in per cent."""
        before, start = self._used(), time.monotonic_ns()
        time.sleep(seconds)
        return 100 * (self._used() - before) / (time.monotonic_ns() - start)

    def _used(self) -> int:
        for child in self.children:
            child.send("used")
        return sum(child.receive() for child in self.children)


def _ring(place: Place, n: int, processes: int, stack: contextlib.ExitStack) -> Shape:
    """All but the last wait for the next one's lock; the last holds lock n - 1, and closes the ring with lock 0."""
    return Shape(place, [i + 1 for i in range(n - 1)], n - 1, processes, stack)


def told(field: Field, place: Place, settings: Settings, crowd: int) -> list[Section]:
    """From the call of acquire() that closes a deadlock to the DeadlockError."""
    few = Section("told", "from the last one's block to its DeadlockError", "us", WAKE)
    many = Section("told-crowd", f"the same with {crowd:,} members, threads of {PROCESSES} processes", "ms", WAKE)
    with contextlib.ExitStack() as stack:
        wake = None
        if field.floors is not None:
            wake = Program(floors.program("herd"), "1")
            stack.callback(wake.end)
            wake.receive()
        else:
            few.baseline, many.baseline = members(MEMBERS[0]), members(crowd)
        rings: list[tuple[int, Shape | None]] = [(0, None)] if wake is not None else []
        rings += [(n, _ring(place, n, n - 1, stack)) for n in MEMBERS]
        for n, ring in settings.interleaved("deadlocks told", settings.number(101, 3), rings):
            time.sleep(PAUSE)  # the caches are nobody's, as when a deadlock comes
            if ring is None:
                assert wake is not None
                wake.send("")
                few.add(WAKE, wake.receive() / 1e3, "floor")
            else:
                took, of = ring.close(0)
                assert of == n
                few.add(members(n), took, "syncx")
    with contextlib.ExitStack() as stack:
        ring = _ring(place, crowd, PROCESSES, stack)
        for i in range(settings.number(21, 1)):
            time.sleep(PAUSE)
            took, of = ring.close(0)
            assert of == crowd
            many.add(members(crowd), took / 1e3, "syncx")
            settings.step("deadlocks told", i + 1, settings.number(21, 1))
    many.baseline = members(crowd)
    return [few, many]


STAR, CHAIN, TIMED = "one lock", "a chain", "a chain, its end in a timed wait"


def off(row: str) -> str:
    return f"{row}; detector off"


def belt(place: Place, settings: Settings, crowd: int) -> Section:
    """What threads cost that wait for ever, by their belts."""
    seconds = 0.3 if settings.quick else 2 * settings.seconds
    section = Section("belt", f"{crowd:,} threads of {PROCESSES} processes that wait: CPU, of one", "%", off(STAR))
    shapes = []
    for on in (False, True):
        for row in (STAR, CHAIN, TIMED):
            # the chain ends at lock `crowd`, which the last process holds
            wants = [crowd] * crowd if row == STAR else [i + 1 for i in range(crowd)]
            shapes.append((row if on else off(row), on, wants, row == TIMED))
    for name, on, wants, timed_end in settings.interleaved("deadlocks belt", settings.number(3, 1), shapes):
        with contextlib.ExitStack() as stack:  # one at a time: they would be in each other's way
            shape = Shape(place, wants, crowd, PROCESSES, stack, on)
            if timed_end:
                shape.wait_timed(crowd + 1)
            shape.load(0.1 if settings.quick else 0.5)
            section.add(name, shape.load(seconds), "syncx" if on else "floor")
    return section


def _switched(open_it: Open, on: bool) -> Open:
    def switched() -> Any:
        _core._set_deadlock(on)
        return open_it()

    return switched


def _uncontended(place: Place, settings: Settings) -> Section:
    """One lock object for both; the switch is set before each sample."""
    section = Section("detector-with", "uncontended `with lock: pass`, detector on and off", "ns", OFF)
    lock = ours(syncx.Mutex, place)()
    run = timed("with l: pass", lock, {})

    def switched(on: bool, n: int) -> float:
        _core._set_deadlock(on)
        try:
            return run(n)
        finally:
            _core._set_deadlock(True)

    contestants = [
        (ON, "syncx", functools.partial(switched, True)),
        (OFF, "floor", functools.partial(switched, False)),
    ]
    measure(section, contestants, settings)
    return section


def _contended(place: Place, settings: Settings) -> list[Section]:
    sections = []
    seconds = 0.1 if settings.quick else 0.3 * settings.seconds
    open_it = ours(syncx.Mutex, place)
    contestants = []
    for name, kind, on in ((ON, "syncx", True), (OFF, "floor", False)):
        switched = _switched(open_it, on)
        contestants.append(Peer(name, lambda _, switched=switched: switched, kind))
    for processes, microseconds in ((2, 0.0), (8, 2.0)):
        title = f"{processes} processes, {microseconds:g} us section, detector on and off"
        section = Section(f"detector-{processes}", f"contended: {title}", "ops/s", OFF, more_is_better=True)
        for peer in settings.interleaved(f"deadlocks {section.key}", settings.number(41, 1), contestants):
            operations, share = one_run(peer, place, processes, microseconds * 1e-6, seconds)
            section.add(peer.name, operations, peer.kind, share)
        sections.append(section)
    return sections


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    crowd = FEW if settings.quick else CROWD
    return [
        *told(field, place, settings, crowd),
        belt(place, settings, crowd),
        _uncontended(place, settings),
        *_contended(place, settings),
    ]
