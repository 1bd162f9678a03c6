"""Scenes: every public class in every placement, made, used and dropped."""

from __future__ import annotations

import contextlib
import copy
import gc
import mmap
import os
import pickle
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import syncx

Scene = Callable[["World"], Callable[[], Any]]
"""Sets up what it needs, and returns a function that does one round."""


class World:
    """An arena, a directory and a piece of memory of the scenes' own."""

    def __init__(self, name: str) -> None:
        self.arena = syncx.Arena(name)
        self.memory = mmap.mmap(-1, 1 << 16)
        self._directory = tempfile.TemporaryDirectory(prefix="syncx-refleaks-")
        self.directory = Path(self._directory.name)

    def close(self) -> None:
        self.arena.unlink(force=True)
        self.arena.close()
        self._directory.cleanup()


@contextlib.contextmanager
def world(name: str) -> Iterator[World]:
    w = World(name)
    try:
        yield w
    finally:
        w.close()


def refused(
    error: type[BaseException] | tuple[type[BaseException], ...], call: Callable[..., Any], *args: Any, **kwargs: Any
) -> None:
    """The call must raise that: errors are what forgets a reference most easily."""
    try:
        call(*args, **kwargs)
    except error:
        return
    raise AssertionError(f"{call} with {args} {kwargs} did not raise {error}")


# ---- what is done with an object of each class ------------------------------------------------------------------


def use_lock(lock: Any) -> None:
    with lock:
        repr(lock), lock.locked(), lock._is_owned(), lock.holder
    with lock.within(5):
        lock.statistics()
    assert lock.acquire() is True
    lock.release()
    assert lock.acquire(True, 5, deadlock="report", priority=3)
    lock.__exit__(None, None, None)
    refused(syncx.NotOwner, lock.release)
    refused(TypeError, lock.acquire, timeout="1")
    refused(ValueError, lock.acquire, timeout=-2)
    refused(ValueError, lock.acquire, False, 1)
    refused(TypeError, lock.acquire, patience=1)
    refused(TypeError, lock.within, "1")
    refused(KeyError, _raise_inside, lock)


def _raise_inside(lock: Any) -> None:
    with lock:
        raise KeyError("inside")


def use_mutex(lock: Any) -> None:
    use_lock(lock)
    with lock:
        refused(syncx.DeadlockError, lock.acquire)
        assert not lock.acquire(False)
        assert not lock.acquire(timeout=0)
        refused(RuntimeError, lock.close)


def use_rlock(lock: Any) -> None:
    use_lock(lock)
    with lock, lock:
        assert lock.depth == 2


def use_semaphore(s: Any) -> None:
    with s:
        repr(s), s.value, s.locked()
    assert s.acquire(timeout=5)
    s.release()
    refused(ValueError, s.acquire, n=0)
    refused(TypeError, s.acquire, n="1")
    refused(ValueError, s.release, 0)
    with s:
        assert not s.acquire(timeout=0)
        assert not s.acquire(False)


def use_permits(s: Any) -> None:
    use_semaphore(s)
    with s:
        s.holders, s.held, s.capacity, s.statistics()
        refused(ValueError, s.release, 2)
    refused(ValueError, s.release)


def use_event(e: Any) -> None:
    e.set(), e.wait(), e.is_set(), repr(e)
    e.clear()
    assert not e.wait(0)
    refused(ValueError, e.wait, -3)
    refused(TypeError, e.wait, "x")


def use_latch(latch: Any) -> None:
    assert not latch.wait(0)
    repr(latch), latch.count
    refused(ValueError, latch.count_down, 2)
    refused(TypeError, latch.count_down, "x")
    latch.count_down()
    assert latch.wait()


def use_barrier(b: Any) -> None:
    b.wait(), b.n_waiting, b.broken, b.parties, repr(b)
    with b.enroll():
        b.wait(5)
    refused(RuntimeError, b.withdraw)
    b.abort()
    refused(syncx.BrokenBarrierError, b.wait)
    b.reset()
    refused(TypeError, b.wait, "x")


def use_once(once: Any) -> None:
    refused(ZeroDivisionError, once.run, lambda: 1 // 0)
    refused(TypeError, once.run, 5)
    refused(syncx.DeadlockError, once.run, lambda: once.run(int))
    refused(ValueError, once.run, lambda: b"x" * (once.MAX_RESULT + 1))
    assert once.run(lambda a, b=0: [a, b], 1, b=2) == [1, 2]
    assert once.run(int) == [1, 2]
    assert once.result == [1, 2]
    once.done, once.runner, repr(once)


def use_rwlock(rw: Any) -> None:
    with rw.read() as r:
        r.locked(), repr(r), repr(rw), rw.readers
        refused(RuntimeError, r.upgrade)
        refused(syncx.DeadlockError, rw.write().acquire)
    with rw.write() as w:
        rw.writer, repr(w), w.holder
        refused(syncx.DeadlockError, rw.read().acquire)
        refused(syncx.Timeout, rw.upgradable(0).__enter__)
        w.downgrade()
    with rw.upgradable() as u:
        assert u.upgrade(5)
        u.downgrade()
    with rw.write(5, deadlock="report", priority=1), contextlib.suppress(KeyError):
        raise KeyError
    refused(syncx.NotOwner, rw.write().release)
    refused((RuntimeError, ValueError), rw.read().release)


def use_condition(c: Any) -> None:
    with c:
        c.notify(), c.notify_all()
        assert not c.wait(0)
        assert c.wait_for(lambda: [1], 0) == [1]
        refused(ZeroDivisionError, c.wait_for, lambda: 1 // 0, 0)
        repr(c), c.holder, c.lock
    refused(RuntimeError, c.notify)
    refused(RuntimeError, c.wait)
    refused(TypeError, c.wait, "x")


USES: dict[str, tuple[Any, dict[str, Any], Callable[[Any], None]]] = {
    "Mutex": (syncx.Mutex, {}, use_mutex),
    "Mutex that raises": (syncx.Mutex, {"on_owner_death": "raise", "timeout": 5.0}, use_lock),
    "RLock": (syncx.RLock, {}, use_rlock),
    "Semaphore": (syncx.Semaphore, {}, use_semaphore),
    "BoundedSemaphore": (syncx.BoundedSemaphore, {"value": 1}, use_permits),
    "BinarySemaphore": (syncx.BinarySemaphore, {}, use_permits),
    "Condition": (syncx.Condition, {}, use_condition),
    "Barrier": (syncx.Barrier, {"parties": 1, "action": lambda: None}, use_barrier),
    "Latch": (syncx.Latch, {"count": 1}, use_latch),
    "Event": (syncx.Event, {}, use_event),
    "Once": (syncx.Once, {}, use_once),
    "RWLock": (syncx.RWLock, {}, use_rwlock),
}
PICKLED = {name: entry for name, entry in USES.items() if name != "Barrier"}  # its action is a lambda here


# ---- the placements ---------------------------------------------------------------------------------------------


def named(cls: Any, options: dict[str, Any], use: Callable[[Any], None]) -> Scene:
    def scene(w: World) -> Callable[[], Any]:
        def once() -> None:
            thing = cls(name="x", arena=w.arena, **options)
            use(thing)
            cls(name="x", arena=w.arena, create=False, **options).close()
            refused(FileExistsError, cls, name="x", arena=w.arena, create="exclusive", **options)
            refused(FileNotFoundError, cls, name="y", arena=w.arena, create=False, **options)
            refused(ValueError, cls, name="", arena=w.arena, **options)
            refused(ValueError, cls, name="x", arena=w.arena, create=7, **options)
            w.arena.unlink("x")
            thing.close()
            refused(FileNotFoundError, w.arena.unlink, "x")

        return once

    return scene


def anonymous(cls: Any, options: dict[str, Any], use: Callable[[Any], None]) -> Scene:
    def scene(w: World) -> Callable[[], Any]:
        def once() -> None:
            thing = cls(arena=w.arena, **options)
            use(thing)
            ref = weakref.ref(thing)
            assert ref() is thing

        return once

    return scene


def pickled(cls: Any, options: dict[str, Any], use: Callable[[Any], None]) -> Scene:
    """By name: whoever has pickled an anonymous object keeps it until he ends, so that is done once."""

    def scene(w: World) -> Callable[[], Any]:
        known = cls(arena=w.arena, **options)

        def once() -> None:
            thing = cls(name="x", arena=w.arena, **options)
            for each in (thing, known):
                repr(pickle.loads(pickle.dumps(each)))
            use(copy.copy(thing))
            w.arena.unlink("x")
            thing.close()

        return once

    return scene


def arena(cls: Any, options: dict[str, Any], use: Callable[[Any], None]) -> Scene:
    """In an arena that is opened and closed each time."""

    def scene(w: World) -> Callable[[], Any]:
        def once() -> None:
            with syncx.Arena(w.arena.path, create=False) as mine:
                thing = cls(name="x", arena=mine, **options)
                use(thing)
                refused((RuntimeError, syncx.InUse), _close_held, thing, mine)
                thing.close()
                mine.unlink("x")
            refused(ValueError, cls, arena=mine, **options)

        return once

    return scene


def _close_held(thing: Any, mine: syncx.Arena) -> None:
    if not isinstance(thing, syncx.Mutex):
        raise RuntimeError("only a mutex is held here")
    with thing:
        mine.unlink("x")


def buffer(cls: Any, options: dict[str, Any], use: Callable[[Any], None]) -> Scene:
    def scene(w: World) -> Callable[[], Any]:
        def once() -> None:
            with memoryview(w.memory) as view:
                thing = cls.at(view, 128, arena=w.arena, **options)
                use(thing)
                refused(TypeError, cls.at, view, "0", arena=w.arena, **options)
                refused(ValueError, cls.at, view, 1, arena=w.arena, **options)
                refused((ValueError, TypeError), cls.at, bytes(4096), 0, arena=w.arena, **options)
                thing.close()
            w.memory[:4096] = bytes(4096)

        return once

    return scene


def in_a_cycle(cls: Any, options: dict[str, Any], use: Callable[[Any], None]) -> Scene:
    """A subclass with a __dict__, in a reference cycle with itself and with the callables that it hands out."""

    class Own(cls):  # type: ignore[misc]
        pass

    def scene(w: World) -> Callable[[], Any]:
        def once() -> None:
            thing = Own(arena=w.arena, **options)
            thing.me = thing
            thing.calls = [getattr(thing, n) for n in ("__enter__", "__exit__", "acquire") if hasattr(thing, n)]

        return once

    return scene


def closed(cls: Any, options: dict[str, Any], use: Callable[[Any], None]) -> Scene:
    """Every public name of a closed object, and of one that was never opened."""
    names = [n for n in dir(cls) if not n.startswith("_") and n not in ("at", "size")]

    def scene(w: World) -> Callable[[], Any]:
        def once() -> None:
            thing, bare = cls(arena=w.arena, **options), cls.__new__(cls)
            thing.close()
            for each in (thing, bare):
                repr(each)
                for name in names:
                    with contextlib.suppress(Exception):
                        attribute = getattr(each, name)
                        if callable(attribute):
                            attribute()
            gc.collect(0)

        return once

    return scene


PLACEMENTS = {
    "named": named,
    "anonymous": anonymous,
    "pickled": pickled,
    "arena": arena,
    "buffer": buffer,
    "cycle": in_a_cycle,
    "closed": closed,
}


def scenes() -> dict[str, Scene]:
    """All of them, by name."""
    found = {}
    for place, make in PLACEMENTS.items():
        for name, (cls, options, use) in (PICKLED if place == "pickled" else USES).items():
            found[f"{name}, {place}"] = make(cls, options, use)
    return found


def own_name() -> str:
    """The name of an arena for this process's scenes."""
    return f"{os.environ.get('SYNCX_TEST_RUN', 'test')}-refleaks-{os.getpid()}"
