"""Scenes: files, arenas, views of everything, deaths, deadlocks, and the errors that name them."""

from __future__ import annotations

import logging
import os
import pickle
import threading
from collections.abc import Callable
from typing import Any

import syncx

from .objects import Scene, World, refused


def in_thread(call: Callable[[], Any]) -> Any:
    """What the call returns in a thread that ends then: what it holds, it holds as a dead one."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(call()))
    thread.start()
    thread.join()
    return result[0]


# ---- files ----------------------------------------------------------------------------------------------------------


def file_lock(w: World) -> Callable[[], Any]:
    path = w.directory / "file"

    def once() -> None:
        with syncx.FileLock(path, arena=w.arena) as lock:
            lock.file.write(b"x"), repr(lock), lock.filesystem, lock.ranges, lock.locked(), lock.fileno()
            refused(syncx.DeadlockError, lock.acquire)
            refused(syncx.DeadlockError, syncx.FileLock(path, arena=w.arena).acquire)
            assert not syncx.FileLock(path, arena=w.arena).acquire(False)
        refused(syncx.NotOwner, lock.release)
        assert pickle.loads(pickle.dumps(lock)).acquire(timeout=5)
        os.truncate(path, 0)
        lock.append(b"record")
        refused(ValueError, lock.append, b"a\nb")
        lock.close()
        refused(ValueError, lock.acquire)
        refused(FileNotFoundError, syncx.FileLock, w.directory / "none" / "x", arena=w.arena)
        refused(IsADirectoryError, syncx.FileLock, w.directory, arena=w.arena)
        refused(FileNotFoundError, syncx.FileLock, w.directory / "none", create=False, arena=w.arena)
        path.unlink()

    return once


def styles(w: World) -> Callable[[], Any]:
    path = w.directory / "file"

    def once() -> None:
        for style in ("ofd", "flock", "posix"):
            with syncx.FileLock(path, style=style, reentrant=True, arena=w.arena) as lock, lock:
                pass
            with syncx.FileLock(path, style=style, shared=True, arena=w.arena):
                pass
        with open(path, "rb+") as f, syncx.RangeLock(f, 4, 4, arena=w.arena):
            pass

    return once


def ranges(w: World) -> Callable[[], Any]:
    path = w.directory / "file"

    def once() -> None:
        with syncx.RangeLock(path, 10, 10, arena=w.arena) as lock:
            lock.lock_range(30, 5), lock.lock_range(32, 1, shared=True), lock.unlock_range(12, 2), lock.ranges
            lock.downgrade()
            assert lock.upgrade(5)
            refused(ValueError, lock.lock_range, -1)
        refused(syncx.NotOwner, lock.lock_range, 0, 1)
        refused(TypeError, syncx.RangeLock, path, "0", arena=w.arena)
        refused(ValueError, syncx.RangeLock, path, 0, 1, style="flock", arena=w.arena)

    return once


def records(w: World) -> Callable[[], Any]:
    path = w.directory / "records"

    def once() -> None:
        with syncx.RecordLocks(path, 16, arena=w.arena) as locks:
            with locks[3], locks.shared(4), locks[7:9]:
                locks.write(3, b"x" * 16)
            repr(locks), locks.read(3)
            refused(IndexError, locks.__getitem__, -1)
            refused(TypeError, locks.__getitem__, "x")

    return once


def update(w: World) -> Callable[[], Any]:
    path = w.directory / "state"

    def once() -> None:
        with syncx.update(path, arena=w.arena) as f:
            f.write("x")
        refused(KeyError, failing)
        with syncx.update(path, "wb", arena=w.arena) as f:
            refused(syncx.DeadlockError, lambda: syncx.update(path, arena=w.arena).__enter__())
        refused(IsADirectoryError, lambda: syncx.update(w.directory, arena=w.arena).__enter__())
        refused(ValueError, syncx.update, path, "r")
        syncx.update(path, arena=w.arena)

    def failing() -> None:
        with syncx.update(path, arena=w.arena):
            raise KeyError

    return once


def awaited_file(w: World) -> Callable[[], Any]:
    """Another description's lock is in the way: a timed wait in the kernel."""
    path = w.directory / "awaited"

    def once() -> None:
        with syncx.FileLock(path, arena=w.arena):
            assert not in_thread(lambda: syncx.FileLock(path, arena=w.arena).acquire(timeout=0.001))

    return once


# ---- arenas and views ----------------------------------------------------------------------------------------------


def arenas(w: World) -> Callable[[], Any]:
    path = w.directory / "arena"

    def once() -> None:
        with syncx.Arena(path) as a, syncx.Arena(path) as b:
            lock = syncx.Mutex("x", arena=a)
            with lock:
                repr(a), str(a), a.id == b.id, a.statistics()
                refused(syncx.InUse, a.unlink, "x")
            pickle.loads(pickle.dumps(a)).close()
            a.unlink(force=True)
            refused(syncx.Gone, lock.acquire)
            refused(syncx.Gone, pickle.loads, pickle.dumps(lock))
        refused(FileNotFoundError, syncx.Arena, path, create=False)
        refused(ValueError, syncx.Arena, path, mode=0)
        refused(TypeError, syncx.Arena, 7)
        path.write_bytes(b"no arena" * 1000)
        refused(syncx.ArenaError, syncx.Arena, path)
        path.unlink()

    return once


def views(w: World) -> Callable[[], Any]:
    lock, event = syncx.Mutex("view", arena=w.arena), syncx.Event("view of an event", arena=w.arena)
    file = w.directory / "viewed"

    def once() -> None:
        with lock, syncx.FileLock(file, arena=w.arena):
            for row in w.arena.objects():
                repr((row.state, row.holder))
            seen = syncx.snapshot(w.arena)
            seen.to_json(), repr(seen), str(seen)
            syncx.wait_graph(w.arena).to_json()
            syncx.file_locks(file, arena=w.arena)
        event.is_set()
        refused((OSError, syncx.ArenaError), syncx.snapshot, w.directory / "no arena")
        for row in w.arena.objects():  # and one iterator that is dropped half-way
            repr(row.state)
            break

    return once


def tracing(w: World) -> Callable[[], Any]:
    lock, other = syncx.Mutex(arena=w.arena), syncx.RLock(arena=w.arena)

    def once() -> None:
        syncx.trace(True)
        with lock, other, other:
            syncx.snapshot(w.arena)
        syncx.trace(False)
        refused(TypeError, syncx.trace, "on")

    return once


def order(w: World) -> Callable[[], Any]:
    from syncx.order import counts, forget

    a, b = syncx.Mutex("order a", arena=w.arena), syncx.Mutex("order b", arena=w.arena)
    told: list[Any] = []

    def inverted() -> None:
        with a, b:
            counts(w.arena)
        with b, a:
            told.append(None)

    def once() -> None:
        syncx.order_check(True, arena=w.arena, on_inversion="raise")
        refused(syncx.LockOrderError, inverted)
        syncx.order_check(True, arena=w.arena, on_inversion=lambda i: told.append(str(i)))
        forget(w.arena)
        inverted()
        told.clear()
        syncx.order_check(False, arena=w.arena)
        forget(w.arena)
        refused(TypeError, syncx.order_check, "x")

    return once


def process(w: World) -> Callable[[], Any]:
    def once() -> None:
        refused(TypeError, syncx.join, "x", arena=w.arena)
        refused(ProcessLookupError, syncx.join, 2**22 + 1, arena=w.arena)
        assert not syncx.join(os.getppid(), 0, arena=w.arena)

    return once


# ---- waiting, deaths, deadlocks -------------------------------------------------------------------------------------


def timeouts(w: World) -> Callable[[], Any]:
    """Everything that is waited for in vain for a moment, asleep."""
    mutex, rw = syncx.Mutex(arena=w.arena), syncx.RWLock(arena=w.arena)
    permits, count = syncx.BoundedSemaphore(2, arena=w.arena), syncx.Semaphore(0, arena=w.arena)
    event, latch = syncx.Event(arena=w.arena), syncx.Latch(1, arena=w.arena)
    barrier, condition = syncx.Barrier(2, arena=w.arena), syncx.Condition(arena=w.arena)
    short = 1e-5

    def in_vain() -> bool:
        refused(syncx.Timeout, lambda: mutex.within(short).__enter__())
        refused(syncx.Timeout, lambda: rw.read(short).__enter__())
        refused(syncx.BrokenBarrierError, barrier.wait, short)
        barrier.reset()
        with condition:
            assert not condition.wait(short)
        return not (
            mutex.acquire(timeout=short)
            or rw.read().acquire(timeout=short)
            or rw.write().acquire(timeout=short)
            or rw.upgradable().acquire(timeout=short)
            or permits.acquire(timeout=short, n=2)
            or count.acquire(timeout=short)
            or event.wait(short)
            or latch.wait(short)
        )

    def once() -> None:
        with mutex, rw.write(), permits:
            assert in_thread(in_vain)

    return once


def interrupted(w: World) -> Callable[[], Any]:
    """A signal handler that raises ends a wait."""
    import signal

    event = syncx.Event(arena=w.arena)
    fire: list[BaseException] = []

    def handler(*_: object) -> None:
        raise InterruptedError

    def once() -> None:
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-3)
        try:
            event.wait()
        except InterruptedError as e:
            fire.append(e)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
        fire.clear()

    def guarded() -> None:
        signal.signal(signal.SIGALRM, handler)
        try:
            once()
        except InterruptedError:  # it came once more, on the way out
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)

    return guarded


def deaths(w: World) -> Callable[[], Any]:
    """A thread ends that holds everything: each heir is told once, as it wants to be told."""
    plain, strict = syncx.Mutex("dead", arena=w.arena), syncx.RLock(arena=w.arena, on_owner_death="raise")
    asks, rw = syncx.Mutex(arena=w.arena, on_owner_death="ignore"), syncx.RWLock(arena=w.arena)
    barrier, once_only = syncx.Barrier(2, arena=w.arena), syncx.Once(arena=w.arena)
    logging.getLogger("syncx").addHandler(logging.NullHandler())
    logging.getLogger("syncx").propagate = False

    def hold() -> None:
        for lock in (plain, strict, asks, rw.write()):
            lock.acquire()
        barrier._enroll()

    def once() -> None:
        in_thread(hold)
        with plain:
            assert plain.owner_died
        refused(syncx.OwnerDiedError, strict.acquire)
        strict.recover()
        strict.release()
        with asks, rw.write() as writer:
            assert writer.owner_died
        refused(syncx.BrokenBarrierError, barrier.wait, 5)
        barrier.reset()
        assert not once_only.done

    return once


def deadlocks(w: World) -> Callable[[], Any]:
    """Two threads, two locks: one gets DeadlockError with the whole cycle, and its words are asked for."""
    a, b = syncx.Mutex("knot a", arena=w.arena), syncx.Mutex("knot b", arena=w.arena)
    victims: list[str] = []

    def cross(first: Any, second: Any, both: threading.Barrier) -> None:
        with first:
            both.wait()
            try:
                with second:
                    pass
            except syncx.DeadlockError as e:
                victims.append(str(e) + repr(e.cycle))
                pickle.dumps(e)

    def once() -> None:
        both = threading.Barrier(2)
        threads = [threading.Thread(target=cross, args=(*p, both)) for p in ((a, b), (b, a))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(victims) == 1, victims
        victims.clear()

    return once


def handed_over(w: World) -> Callable[[], Any]:
    """A wait that is ended by somebody else, for everything that can be waited for."""
    event, latch_name = syncx.Event(arena=w.arena), "handed"
    condition, count = syncx.Condition(arena=w.arena), syncx.Semaphore(0, arena=w.arena)
    barrier = syncx.Barrier(2, arena=w.arena)
    state: list[int] = []

    def other() -> None:
        event.wait()
        latch = syncx.Latch(1, name=latch_name, arena=w.arena)
        latch.count_down()
        count.acquire()
        with condition:
            state.append(1)
            condition.notify()
        barrier.wait()

    def once() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        event.set()
        latch = syncx.Latch(1, name=latch_name, arena=w.arena)
        latch.wait()
        count.release()
        with condition:
            condition.wait_for(lambda: state)
        barrier.wait()
        thread.join()
        event.clear(), state.clear()
        w.arena.unlink(latch_name)

    return once


def retired(w: World) -> Callable[[], Any]:
    """What is unlinked under those who have it open."""

    def once() -> None:
        for cls, how in ((syncx.Mutex, "acquire"), (syncx.Event, "wait"), (syncx.Semaphore, "acquire")):
            thing = cls(name="gone", arena=w.arena)
            w.arena.unlink("gone", force=True)
            refused(syncx.Gone, getattr(thing, how))
        lock = syncx.Mutex("gone", arena=w.arena)
        data = pickle.dumps(lock)
        w.arena.unlink("gone", force=True)
        refused(syncx.Gone, lambda: pickle.loads(data).acquire())

    return once


SLOW: dict[Scene, int] = {
    arenas: 20,
    views: 50,
    update: 20,
    deadlocks: 10,
    handed_over: 5,
    timeouts: 5,
    deaths: 5,
    awaited_file: 5,
    interrupted: 5,
    tracing: 5,
}
"""Scenes of which one round is long: so many times fewer of them."""


def scenes() -> dict[str, Scene]:
    """All of them, by name."""
    every: list[Scene] = [
        file_lock, styles, ranges, records, update, awaited_file, arenas, views, tracing, order, process, timeouts,
        interrupted, deaths, deadlocks, handed_over, retired,
    ]  # fmt: skip
    return {s.__name__.replace("_", " "): s for s in every}
