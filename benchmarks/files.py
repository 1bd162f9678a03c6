"""File locks: alone, contended, after a long block, after a kill, and what waiting costs."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import syncx

from . import contended, filepeers, manyranges, uncontended
from .children import Child, Connection, own_pages
from .filepeers import FOREIGN, FOREIGN_TIMED, OURS, RAW, TIMED
from .peers import Field, Open
from .place import Place
from .samples import Section
from .settings import Settings
from .wakeup import Contestant, holder, kill, measure, release, start_children, start_pair

RANGE = "syncx.RangeLock of 100 bytes"
SHARED = "syncx.FileLock, shared"
_SETTLED = 0.2
"""Seconds after which a file is not new any more: what changed a moment ago is looked at twice."""


def _alone(field: Field, place: Place, settings: Settings) -> Section:
    section = Section("file-with", "file locks: uncontended `with lock: pass`", "ns", RAW)
    names = {"f": filepeers.fcntl.fcntl, "cmd": filepeers.TRY, "lock": filepeers.LOCK, "unlock": filepeers.UNLOCK}
    bare = filepeers.Raw(place.file())
    contestants = [
        ("an empty loop", "floor", uncontended.timed("pass", None, {})),
        (RAW, "floor", uncontended.timed("f(l, cmd, lock); f(l, cmd, unlock)", bare.fd, names)),
    ]
    made: list[Any] = []
    for name, make in (
        (OURS, syncx.FileLock),
        (RANGE, functools.partial(syncx.RangeLock, start=1000, length=100)),
        (SHARED, functools.partial(syncx.FileLock, shared=True)),
    ):
        made.append(make(place.file(), arena=place.arena))
        contestants.append((name, "syncx", uncontended.timed("with l: pass", made[-1], {})))
    for peer in filepeers.everybody(field):
        if peer.kind == "peer":
            contestants.append((peer.name, "peer", uncontended.timed("with l: pass", peer.create(place)(), {})))
    try:
        time.sleep(_SETTLED)
        uncontended.measure(section, contestants, settings)
    finally:
        for lock in made:
            lock.close()
        bare.close()
    return section


def _behind(awaited: Callable[[Path, Place], Open], place: Place) -> tuple[Any, Any]:
    """A waiter behind a raw lock: one that knows nothing of syncx."""
    path = place.file()
    return start_pair(functools.partial(holder, filepeers.raw(path)), awaited(path, place))


def _timed(place: Place) -> Open:
    return filepeers.timed(place.file(), place)


def _teams(field: Field, place: Place) -> list[list[Contestant]]:
    """Those who sleep, and those who look again and again and would disturb them."""
    sleepers: list[Contestant] = []
    pollers: list[Contestant] = []
    for peer in filepeers.everybody(field):
        team = pollers if peer.polls else sleepers
        team.append((peer.name, peer.kind, functools.partial(start_children, peer.create, place)))
    sleepers.append((TIMED, "syncx", functools.partial(start_children, _timed, place)))
    sleepers.append((FOREIGN, "syncx", functools.partial(_behind, filepeers.ours, place)))
    pollers.append((FOREIGN_TIMED, "syncx", functools.partial(_behind, filepeers.timed, place)))
    return [sleepers, pollers]


def _blocked(field: Field, place: Place, settings: Settings) -> list[Section]:
    block = min(settings.seconds, 0.3) if settings.quick else settings.seconds
    teams = _teams(field, place)
    released = Section(
        "file-release", f"file locks: release to waiter running, after a block of {block:g} s", "us", RAW
    )
    killed = Section("file-sigkill", f"file locks: SIGKILL of the holder to next holder, after {block:g} s", "us", RAW)
    for section, end in ((released, release), (killed, kill)):
        step = functools.partial(settings.step, section.key)
        measure(section, end, teams, settings.number(15, 1), block, step)
    return [released, killed]


def _waiter(open_it: Open, connection: Connection) -> None:
    own_pages()
    lock = open_it()
    connection.send("ready")
    before = time.process_time_ns()
    lock.acquire()
    used = time.process_time_ns() - before
    connection.send(used)
    connection.recv()


def _use(held: Open, awaited: Open, stack: contextlib.ExitStack) -> tuple[Child, Child]:
    first = Child(functools.partial(holder, held))
    stack.callback(first.end)
    first.receive()
    second = Child(functools.partial(_waiter, awaited))
    stack.callback(second.end)
    second.receive()
    return first, second


def _waiting(field: Field, place: Place, settings: Settings) -> Section:
    """All wait at the same time: it is CPU time that counts."""
    block = 0.3 if settings.quick else 10 * settings.seconds
    section = Section("file-waiting", f"file locks: CPU time used by a process that waits {block:g} s", "ms", RAW)
    pairs: list[tuple[str, str, Callable[[], tuple[Open, Open]]]] = []

    def same(create: Callable[[Place], Open]) -> tuple[Open, Open]:
        open_it = create(place)
        return open_it, open_it

    def behind(awaited: Callable[[Path, Place], Open]) -> tuple[Open, Open]:
        path = place.file()
        return filepeers.raw(path), awaited(path, place)

    for peer in filepeers.everybody(field):
        pairs.append((peer.name, peer.kind, functools.partial(same, peer.create)))
    pairs.append((TIMED, "syncx", functools.partial(same, _timed)))
    pairs.append((FOREIGN, "syncx", functools.partial(behind, filepeers.ours)))
    pairs.append((FOREIGN_TIMED, "syncx", functools.partial(behind, filepeers.timed)))
    rounds = settings.number(3, 1)
    for i in range(rounds):
        with contextlib.ExitStack() as stack:
            begun = [(name, kind, *_use(*make(), stack)) for name, kind, make in pairs]
            time.sleep(block)
            for name, kind, first, second in begun:
                first.send("release")
                section.add(name, second.receive() / 1e6, kind)
        settings.step(section.key, i + 1, rounds)
    return section


def _eight(field: Field, place: Place, settings: Settings) -> Section:
    seconds = min(settings.seconds, 0.1) if settings.quick else settings.seconds
    section = Section("file-eight", "file locks: 8 processes, 2 us section", "ops/s", RAW, more_is_better=True)
    contestants = filepeers.everybody(field)
    for peer in settings.interleaved(section.key, settings.number(7, 1), contestants):
        operations, share = contended.one_run(peer, place, 8, 2e-6, seconds)
        section.add(peer.name, operations, peer.kind, share)
    return section


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    return [
        _alone(field, place, settings),
        *_blocked(field, place, settings),
        _waiting(field, place, settings),
        _eight(field, place, settings),
        *manyranges.measure(place, settings),
    ]
