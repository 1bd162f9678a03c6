"""Arenas in every state, made by real use: the images that noise is laid on.

Each scene is played by a process of its own, which may start others and kill them.  What the file says at the end is
kept as an `Image`: those of its bytes that are not a hole.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import syncx

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
PARTIES, PERMITS, COUNT = 3, 5, 3
SYMBOLS = ("mutex", "rlock", "semaphore", "permits", "event", "latch", "condition", "barrier", "once", "rwlock")
"""The names under which each scene that has objects has one of each class."""


@dataclass
class Image:
    """The bytes of an arena's file, and what is known of it."""

    name: str
    size: int
    extents: list[tuple[int, bytes]]
    regions: dict[str, tuple[int, int, int, int]]
    """Offset, bytes an item, items, and how many bytes have memory."""
    living: list[int]
    """The process slots that were alive."""
    pid: int
    """The process that played it, and lives while the stage stands."""
    dead_thread: int
    """The id of a thread that was killed, or 0."""
    data: tuple[int, int]
    """Device and inode of the file whose ranges are locked, as the arena has them."""
    objects: list[tuple[str, int]] = field(default_factory=list)
    """Kind and byte of each object."""


def everything(arena: syncx.Arena) -> dict[str, Any]:
    """One object of each class, by its name in `SYMBOLS`."""
    return {
        "mutex": syncx.Mutex("mutex", arena=arena),
        "rlock": syncx.RLock("rlock", arena=arena),
        "semaphore": syncx.Semaphore(0, name="semaphore", arena=arena),
        "permits": syncx.BoundedSemaphore(PERMITS, name="permits", arena=arena),
        "event": syncx.Event("event", arena=arena),
        "latch": syncx.Latch(COUNT, name="latch", arena=arena),
        "condition": syncx.Condition(name="condition", arena=arena),
        "barrier": syncx.Barrier(PARTIES, name="barrier", arena=arena),
        "once": syncx.Once("once", arena=arena),
        "rwlock": syncx.RWLock("rwlock", arena=arena),
    }


def _background(work: Callable[[], object]) -> None:
    threading.Thread(target=work, daemon=True).start()


def _until_waiting(arena: syncx.Arena, waits: int) -> None:
    end = time.monotonic() + PATIENCE
    while len(syncx.snapshot(arena).waits) < waits:
        if time.monotonic() > end:
            raise TimeoutError(f"{len(syncx.snapshot(arena).waits)} of {waits} threads wait")
        time.sleep(0.002)


def _killed(work: Callable[[], object]) -> None:
    """A child that does that and is killed."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def _hold(o: dict[str, Any], data: str, arena: syncx.Arena) -> list[Any]:
    """The calling thread takes some of everything; returns what keeps it."""
    o["mutex"].acquire()
    o["rlock"].acquire()
    o["rlock"].acquire()
    o["permits"].acquire(n=PERMITS - 1)
    o["permits"].__enter__()
    reader = o["rwlock"].read()
    reader.acquire()
    enrolment = o["barrier"].enroll()
    enrolment.__enter__()
    ranges = syncx.RangeLock(data, 4, 6, arena=arena)
    ranges.acquire()
    shared = syncx.RangeLock(data, 100, 10, shared=True, arena=arena)
    shared.acquire()
    return [reader, enrolment, ranges, shared]


def empty(arena: syncx.Arena, data: str) -> Any:
    """An arena in which nothing was ever made."""


def free(arena: syncx.Arena, data: str) -> Any:
    """All kinds, used and free, with and without a name."""
    o = everything(arena)
    with o["mutex"], o["rlock"], o["condition"], o["permits"]:
        with o["rwlock"].write():
            o["event"].set()
    o["once"].run(lambda: {"answer": 42})
    return o, [syncx.Mutex(arena=arena) for _ in range(3)], syncx.BoundedSemaphore(40, arena=arena)


def busy(arena: syncx.Arena, data: str) -> Any:
    """All kinds held, and waited for."""
    o = everything(arena)
    kept = _hold(o, data, arena)
    _background(lambda: o["once"].run(threading.Event().wait))

    def in_condition() -> None:
        with o["condition"]:
            o["condition"].wait()

    waits: list[Callable[[], object]] = [
        o["mutex"].acquire, o["rlock"].acquire, o["semaphore"].acquire, o["permits"].acquire,
        lambda: o["permits"].acquire(n=2), o["event"].wait, o["latch"].wait, in_condition, in_condition,
        o["rwlock"].write().acquire, syncx.RangeLock(data, 0, 10, arena=arena).acquire,
        syncx.RangeLock(data, 5, 2, arena=arena).acquire, o["barrier"].wait,
        lambda: syncx.join(os.getppid(), arena=arena),
    ]  # fmt: skip
    for wait in waits:
        _background(wait)
    _until_waiting(arena, len(waits))
    # behind the writer, and behind the initialiser that runs
    for wait in (o["rwlock"].read().acquire, lambda: o["once"].run(int)):
        _background(wait)
    _until_waiting(arena, len(waits) + 2)
    return o, kept


def dead(arena: syncx.Arena, data: str) -> Any:
    """All kinds, whose holders and waiters were killed."""

    def hold() -> None:
        o = everything(arena)
        o["kept"] = _hold(o, data, arena)
        with o["condition"]:
            os.kill(os.getpid(), signal.SIGKILL)

    def wait() -> None:
        o = everything(arena)
        _background(lambda: o["semaphore"].acquire())
        _background(lambda: o["event"].wait())
        _background(lambda: syncx.RangeLock(data, 4, 6, arena=arena).acquire(timeout=PATIENCE))
        _until_waiting(arena, 2)

    def initialise() -> None:
        syncx.Once("once", arena=arena).run(lambda: os.kill(os.getpid(), signal.SIGKILL))

    def write() -> None:
        syncx.RWLock("rw2", arena=arena).write().acquire()

    for work in (wait, hold, initialise, write):
        _killed(work)
    return syncx.Mutex("mutex", arena=arena)


def crowd(arena: syncx.Arena, data: str) -> Any:
    """Many names, of which many were unlinked: a second index, tombstones, free lists."""
    classes: list[Callable[..., Any]] = [syncx.Mutex, syncx.RLock, syncx.Event, syncx.Once]
    kept = [classes[i % 4](f"name {'x' * (i % 90)}{i}", arena=arena) for i in range(300)]
    kept += [syncx.BoundedSemaphore(i, name=f"sized {i}", arena=arena) for i in range(1, 90, 8)]
    for o in kept[::2]:
        name = o.name
        o.close()
        arena.unlink(name)
    return kept[1::2], everything(arena)


def noted(arena: syncx.Arena, data: str) -> Any:
    """Holds that are traced, with their order."""
    syncx.trace(True)
    syncx.order_check(True, on_inversion=lambda inversion: None)
    o = everything(arena)
    with o["mutex"], o["rlock"], o["condition"], o["rwlock"].write(), o["permits"]:
        with syncx.RangeLock(data, 0, 8, arena=arena):
            arena.statistics()
    for i in range(40):
        with syncx.Mutex(f"m{i % 7}", arena=arena), syncx.Mutex(f"m{(i * i + 1) % 7 + 7}", arena=arena):
            arena.statistics()
    with o["rlock"], o["mutex"]:
        arena.statistics()
    return o, _hold(o, data, arena)


def knot(arena: syncx.Arena, data: str) -> Any:
    """Threads in a deadlock that nobody ends."""
    o = everything(arena)
    pairs = [("mutex", "rlock"), ("rlock", "permits"), ("permits", "mutex")]
    ready = threading.Barrier(len(pairs))

    def take(first: str, second: str) -> None:
        n = {"n": PERMITS} if first == "permits" else {}
        o[first].acquire(**n, deadlock="off")
        ready.wait()
        o[second].acquire(deadlock="off")

    for first, second in pairs:
        _background(lambda first=first, second=second: take(first, second))  # type: ignore[misc]
    _until_waiting(arena, len(pairs))
    return o


SCENES: dict[str, Callable[[syncx.Arena, str], Any]] = {
    f.__name__: f for f in (empty, free, busy, dead, crowd, noted, knot)
}


# ---- making images ---------------------------------------------------------------------------------------------------


def extents_of(path: str) -> list[tuple[int, bytes]]:
    """What lies in a file that is mostly holes."""
    found: list[tuple[int, bytes]] = []
    with open(path, "rb") as f:
        at = 0
        while True:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: there is no more
                return found
            end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            data = os.pread(f.fileno(), end - at, at)
            # pages that were only given memory are as good as holes
            for page in range(0, len(data), 4096):
                if any(data[page : page + 4096]):
                    found.append((at + page, data[page : page + 4096]))
            at = end


def play(name: str, path: str, data: str) -> Image:
    """Plays a scene in this process, and takes the image."""
    arena = syncx.Arena(path)
    kept = SCENES[name](arena, data)
    seen = syncx.snapshot(arena)
    status = os.stat(data)
    gone = [p.id for p in seen.participants if not p.alive]
    image = Image(
        name=name,
        size=os.stat(path).st_size,
        extents=extents_of(path),
        regions={key: tuple(value) for key, value in arena._description()["regions"].items()},
        living=[(p.id >> 8 & 0xFFFF) - 1 for p in seen.processes if p.alive],
        pid=os.getpid(),
        dead_thread=gone[0] if gone else 0,
        data=(os.major(status.st_dev) << 20 | os.minor(status.st_dev), status.st_ino),
        objects=[(o.kind, row[0]) for row, o in zip(arena._cells(), arena.objects(), strict=True)],
    )
    kept_until_here(kept)
    return image


def kept_until_here(what: Any) -> None:
    """Whatever it is, nobody dropped it before."""
    del what


class Stage:
    """Plays the scenes and takes the images; those who play stay as they are, alive, while a `with` lasts."""

    def __init__(self, directory: Path, names: Iterable[str] = tuple(SCENES)) -> None:
        self._directory = directory
        self._names = tuple(names)
        self._players: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> dict[str, Image]:
        made = {}
        (self._directory / "data").write_bytes(bytes(4096))
        for name in self._names:
            arguments = [name, *(str(self._directory / f) for f in (f"{name}.arena", "data", f"{name}.image"))]
            player = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))},
            )
            self._players.append(player)
        for name, player in zip(self._names, self._players, strict=True):
            assert player.stdout is not None
            if not select.select([player.stdout], [], [], 2 * PATIENCE)[0] or not player.stdout.read(1):
                self.__exit__()
                raise RuntimeError(f"the scene {name!r} could not be played")
            made[name] = Image(**pickle.loads((self._directory / f"{name}.image").read_bytes()))
        return made

    def __exit__(self, *_: object) -> None:
        for player in self._players:
            player.kill()
            player.communicate()


if __name__ == "__main__":
    _name, _path, _data, _out = sys.argv[1:]
    with open(_out, "wb") as _file:
        pickle.dump(vars(play(_name, _path, _data)), _file)  # the class would be one of __main__
    os.unlink(_path)
    os.write(1, b"!")
    os.read(0, 1)  # until whoever wants this is gone
    os._exit(0)  # threads stay in their waits
