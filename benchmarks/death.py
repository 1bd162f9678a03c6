"""A permit, a read lock or a party whose process is killed: how soon those who wait for it go on."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any

import syncx

from .children import Child, Connection, own_pages
from .peers import FORK, Field, Open, inherited, ours, sysv_ipc
from .place import Place
from .samples import Section
from .settings import Settings
from .wakeup import PROGRAM, Contestant, Start, holder, kill, measure, start_children, start_pair, start_program

HOLDERS = (1, 2, 8, 32, 127)
READER = "syncx.RWLock, a reader"
ARRIVED = "syncx.Barrier, a party that arrived"
ENROLLED = "syncx.Barrier, a party that enrolled"


def _holders(n: int) -> str:
    return f"{n} holder{'s' if n > 1 else ''}"


def permit(n: int) -> str:
    """The name of a row."""
    return f"syncx.BoundedSemaphore, {_holders(n)}"


def undo(n: int) -> str:
    return f"sysv_ipc, SEM_UNDO, {_holders(n)}"


def _keeper(open_it: Open, connection: Connection) -> None:
    lock = open_it()
    lock.acquire()
    connection.send("ready")
    connection.recv()


def _crowd(create: Callable[[Place], Open], n: int, place: Place, stack: contextlib.ExitStack) -> Start:
    """A semaphore of n permits: n - 1 of them are held all the time, and each round kills the holder of the last."""
    open_it = create(place)
    keepers = []
    for _ in range(n - 1):
        keeper = Child(functools.partial(_keeper, open_it))
        stack.callback(keeper.end)
        keepers.append(keeper)
    for keeper in keepers:
        keeper.receive()
    return functools.partial(start_pair, functools.partial(holder, open_it), open_it)


def _reader(place: Place) -> tuple[Any, Any]:
    open_it = ours(syncx.RWLock, place)
    return start_pair(functools.partial(holder, lambda: open_it().read()), lambda: open_it().write())


class _Broken:
    """A barrier as a lock: acquire() waits until it breaks."""

    def __init__(self, barrier: Any) -> None:
        self._barrier = barrier

    def acquire(self) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            self._barrier.wait()
            raise AssertionError("a barrier let its parties through, and one of them never came")


def _arriving(open_it: Open, connection: Connection) -> None:
    own_pages()
    barrier = open_it()
    connection.send("ready")
    barrier.wait()


def _enrolled(open_it: Open, connection: Connection) -> None:
    own_pages()
    barrier = open_it()
    barrier.enroll()
    connection.send("ready")
    connection.recv()


def _party(create: Callable[[Place], Open], holds: Callable[[Open, Connection], None], place: Place) -> tuple[Any, Any]:
    """Three are awaited: the one that is killed, the one that waits, and one that never comes."""
    open_it = create(place)
    return start_pair(functools.partial(holds, open_it), lambda: _Broken(open_it()))


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    block = min(settings.seconds, 0.15 if settings.quick else 0.3)
    section = Section("death", f"SIGKILL to the waiter running, after {block:g} s", "us", PROGRAM)
    holders = [n for n in HOLDERS if n <= settings.crowd]
    team: list[Contestant] = []
    with contextlib.ExitStack() as stack:
        if field.floors is not None:
            team.append((PROGRAM, "floor", functools.partial(start_program, field.floors.Robust, place)))
        for n in holders:
            make = functools.partial(ours, functools.partial(syncx.BoundedSemaphore, n))
            team.append((permit(n), "syncx", _crowd(make, n, place, stack)))
        barrier = functools.partial(ours, functools.partial(syncx.Barrier, 3))
        team += [
            (READER, "syncx", functools.partial(_reader, place)),
            (ARRIVED, "syncx", functools.partial(_party, barrier, _arriving, place)),
            (ENROLLED, "syncx", functools.partial(_party, barrier, _enrolled, place)),
        ]
        if module := field.modules.get("sysv_ipc"):
            for n in sorted({holders[0], holders[-1]}):
                start = _crowd(sysv_ipc(module, n, undo=True), n, place, stack)
                team.append((undo(n), "peer", start))
        theirs: Callable[[Place], Open] = lambda _: inherited(FORK.Barrier(3))  # noqa: E731
        team += [
            (
                "multiprocessing.BoundedSemaphore",
                "peer",
                functools.partial(start_children, lambda _: inherited(FORK.BoundedSemaphore(1)), place),
            ),
            ("multiprocessing.Barrier, arrived", "peer", functools.partial(_party, theirs, _arriving, place)),
        ]
        step = functools.partial(settings.step, "death")
        measure(section, kill, [team], settings.number(31, 1), block, step)
    return [section]
