"""Every public call, on arenas that may be damaged.

`Battery.run` opens the arena and uses it as programs do, by every name in it.  Every arena is opened, listed, shown,
collected, unlinked and closed, and meets half of the ten parts that the other calls are in, or all of them.  Each call
is announced before it is made, so that a crash or a hang has a name.  What a call may raise is said in `allowed`;
anything else is a finding.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import pickle
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import syncx
from syncx import cli, order
from syncx.cli import parser

from . import inventory
from .scenes import COUNT, PARTIES, PERMITS

SHORT = 0.001
"""Seconds that a wait may take."""
PARTS = 5
"""How many of the ten parts of the calls an arena meets, drawn at random, beside those that all meet."""


class Enough(BaseException):
    """Raised by the handler of a signal: a wait without a time limit has lasted long enough."""


class Alarm:
    """Ends a wait that has no time limit: `call` raises `Enough` in it, and never anywhere else."""

    def __init__(self, after: float) -> None:
        self._after = after
        self._armed = False
        self._rings = 0
        signal.signal(signal.SIGALRM, self._ring)

    def _ring(self, signum: int, frame: Any) -> None:
        self._rings += 1
        if self._armed and self._rings % 20 == 1:  # again much later, if something swallowed the first
            raise Enough

    def call(self, what: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """Calls it; after a while a signal comes."""
        self._rings = 0
        try:
            try:
                self._armed = True
                signal.setitimer(signal.ITIMER_REAL, self._after, 0.05)
                return what(*args, **options)
            finally:
                self._disarm()
        except Enough:  # which may come in the middle of disarming
            self._disarm()
            raise

    def _disarm(self) -> None:
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Error(Exception):
    """Of a body that fails."""


SAID: dict[str, type[Exception]] = {
    "Barrier.withdraw": RuntimeError,
    "Once.result": RuntimeError,
    "ReadView.upgrade": RuntimeError,
    "UpgradableView.downgrade": RuntimeError,
    "WriteView.downgrade": RuntimeError,
    "RangeLock.statistics": TypeError,
    "FileLock.statistics": TypeError,
}
"""What the documents say of some calls alone."""


def allowed(call: str, error: BaseException, damaged: bool = True) -> bool:
    """Is that an exception that a call may raise on an arena, on one that is damaged or not?

    Those of syncx; OSError where something is missing, exists, or has no room; ValueError for a kind or value that the
    object has not; and what is said of that call.  Damaged words may name a thread that does not hold the object, and
    close() goes by them.  No memory is none: it was asked for in earnest.
    """
    if type(error) is SAID.get(call):
        return True
    if type(error) is RuntimeError and "release it before closing it" in str(error):
        return True
    if type(error) is RuntimeError and "close it afterwards" in str(error):
        return damaged
    if isinstance(error, (UnicodeError, MemoryError)):
        return False
    if isinstance(error, OSError) and error.errno == 12:  # ENOMEM
        return False
    return isinstance(error, (syncx.SyncxError, OSError, ValueError, Enough, _Error))


class Battery:
    """The calls, one arena after the other.

    announce: is told the name of each call before it is made.
    found: is told (call, what) of everything that must not be.
    """

    def __init__(
        self, data: str, announce: Callable[[str], None], found: Callable[[str, str], None], every: bool = False
    ) -> None:
        self._announce = announce
        self._found = found
        self._every = every
        self.data = data
        self.path = ""
        self.pid = 0
        self.used: set[str] = set()
        """The names of all calls that were made."""
        self.returned: set[str] = set()
        """... and returned."""
        self.outcomes: dict[str, int] = {}
        """Of the calls for one arena: the class of the exception, or "ok", and how often."""
        self.damaged = True
        """Whether the arena is, or nobody knows."""
        self._open: list[Any] = []
        self._rng = random.Random()
        self._all = True
        self._attributes: dict[type, list[str]] = {}
        parser.build = functools.lru_cache(maxsize=1)(parser.build)  # type: ignore[assignment]
        self._alarm = Alarm(0.003)

    # ---- one call ---------------------------------------------------------------------------------------------------

    def do(self, name: str, call: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """Makes a call; returns what it returned, or None after an exception that is allowed."""
        self._announce(name)
        self.used.add(name)
        try:
            result = call(*args, **options)
        except BaseException as e:
            self._judge(name, e)
            return None
        self.returned.add(name)
        self.outcomes["ok"] = self.outcomes.get("ok", 0) + 1
        return result

    def _judge(self, name: str, e: BaseException) -> None:
        kind = type(e).__name__
        self.outcomes[kind] = self.outcomes.get(kind, 0) + 1
        if not allowed(name, e, self.damaged):
            self._found(name, repr(e)[:500])
        elif not str(e) and not isinstance(e, (Enough, _Error)):
            self._found(name, f"{kind} without a word")
        e.__traceback__ = None

    def for_ever(self, name: str, call: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """The same with a wait that has no time limit: a signal ends it."""
        return self.do(name, self._alarm.call, call, *args, **options)

    def made(self, name: str, call: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """The same with a call that gives something to be closed."""
        thing = self.do(name, call, *args, **options)
        if thing is not None:
            self._open.append(thing)
        return thing

    def look(self, name: str, thing: Any) -> None:
        """Reads every public attribute, and the repr."""
        cls = type(thing)
        if cls not in self._attributes:
            self._attributes[cls] = inventory.attributes(cls)
        self._announce(f"{name}, its attributes")
        for attribute in self._attributes[cls]:
            try:
                getattr(thing, attribute)
            except BaseException as e:
                self._judge(f"{name}.{attribute}", e)
            else:
                self.returned.add(f"{name}.{attribute}")
        self.do(f"{name}.__repr__", repr, thing)

    # ---- an arena ---------------------------------------------------------------------------------------------------

    def _some(self, ways: Sequence[Any], n: int = 1) -> Sequence[Any]:
        """Of several ways to make the same calls so many, which differ from arena to arena; all, if all were asked."""
        return ways if self._all else self._rng.sample(ways, n)

    def run(
        self,
        path: str,
        pid: int,
        rng: random.Random,
        everything: bool = True,
        before_opening: Callable[[], None] = lambda: None,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Uses the arena of that path by every call.

        pid: of a process that is in it.
        rng: chooses some of the parts, which command looks, and of the ways to make the same call one, unless
            `everything` is to be done.
        before_opening: called just before the arena is mapped; then: when the other calls are over.
        """
        self.path, self.pid = path, pid
        self.outcomes = {}
        self._rng, self._all = rng, everything
        if self._all or rng.randrange(2):
            self._views()
        before_opening()
        arena = self.do("Arena", syncx.Arena, path, create=False)
        if arena is not None:
            self._use(arena)
            then()
            self._close(arena)
        else:
            then()
        if self._all or rng.randrange(4) == 0:
            self._afterwards()

    def _close(self, arena: syncx.Arena) -> None:
        while self._open:
            thing = self._open.pop()
            self.do(f"{type(thing).__name__}.close", thing.close)
        self.do("Arena.close", arena.close)

    def _use(self, arena: syncx.Arena) -> None:
        self._arena(arena)
        parts = [
            self._mutexes, self._semaphores, self._signals, self._condition, self._barrier, self._once, self._rwlock,
            self._files, self._placed, self._noted,
        ]  # fmt: skip
        for part in parts if self._all else self._rng.sample(parts, PARTS):
            part(arena)
        self._seen(arena)
        self._unlink(arena)

    def _arena(self, arena: syncx.Arena) -> None:
        self.look("Arena", arena)
        self.do("Arena.statistics", arena.statistics)
        for info in (self.do("Arena.objects", lambda: list(arena.objects())) or [])[:12]:
            self.look("ObjectInfo", info)
        self.do("Arena", syncx.Arena, self.path, create=True, mode=0o600).close()

    def _common(self, name: str, thing: Any) -> None:
        self.look(name, thing)
        self.do(f"{name}.statistics", thing.statistics)
        copy = self.do(f"{name}.__reduce__", pickle.dumps, thing)
        if copy is not None:
            self.made(f"{name} unpickled", pickle.loads, copy)

    def _lock(self, name: str, lock: Any, **more: Any) -> None:
        """What all locks have."""
        if self.do(f"{name}.acquire", lock.acquire, False, **more):
            self.do(f"{name}.acquire", lock.acquire, timeout=SHORT, **more)
            self.do(f"{name}.release", lock.release, **more)
        self.do(f"{name}.release", lock.release, **more)
        self.do(f"{name}.locked", lock.locked)
        if self.do(f"{name}.acquire", lock.acquire, timeout=SHORT):
            self.do(f"{name}.release", lock.release)
        self.for_ever(f"{name}.acquire", lock.acquire)
        self.do(f"{name}.release", lock.release)  # the signal may come when it has it

        def body() -> None:
            with lock.within(SHORT):
                raise _Error

        self.do(f"{name}.within", body)

        def plain() -> None:
            with lock:
                self.do(f"{name}.locked", lock.locked)

        self.do(f"{name}.__enter__", plain)

    def _recovery(self, name: str, lock: Any) -> None:
        if self.do(f"{name}.recover", lock.recover, timeout=SHORT):
            self.do(f"{name}.release", lock.release)

    def _mutexes(self, arena: syncx.Arena) -> None:
        for cls, name in ((syncx.Mutex, "mutex"), (syncx.RLock, "rlock")):
            kind = cls.__name__
            ways = [{}, {"on_owner_death": "raise"}, {"deadlock": "report", "priority": 5}]
            for options in self._some(ways):
                lock = self.made(kind, cls, name, arena=arena, timeout=SHORT, **options)  # type: ignore[arg-type]
                if lock is None:
                    break
                self._lock(kind, lock)
                self._recovery(kind, lock)
            else:
                self._common(kind, lock)
            self.made(kind, cls, arena=arena)
        self.made("Mutex", syncx.Mutex, "new", arena=arena, create="exclusive")
        self.made("Event", syncx.Event, "mutex", arena=arena)  # of another kind

    def _semaphores(self, arena: syncx.Arena) -> None:
        units = self.made("Semaphore", syncx.Semaphore, name="semaphore", arena=arena, timeout=SHORT)
        if units is not None:
            self.do("Semaphore.release", units.release, 2)
            self._lock("Semaphore", units)
            self.do("Semaphore.acquire", units.acquire, timeout=SHORT, n=2)
            self.do("Semaphore.release", units.release, (1 << 31) - 1)
            self._common("Semaphore", units)
        for options in self._some([{}, {"value": PERMITS}, {"value": PERMITS + 1}]):
            permits = self.made(
                "BoundedSemaphore", syncx.BoundedSemaphore, name="permits", arena=arena, timeout=SHORT, **options
            )
            if permits is not None:
                self._lock("BoundedSemaphore", permits)
                if self.do("BoundedSemaphore.acquire", permits.acquire, timeout=SHORT, n=2):
                    self.do("BoundedSemaphore.release", permits.release, 2)
                self.for_ever("BoundedSemaphore.acquire", permits.acquire, n=PERMITS)
                self.do("BoundedSemaphore.release", permits.release, PERMITS)
                self._common("BoundedSemaphore", permits)
        one = self.made("BinarySemaphore", syncx.BinarySemaphore, "binary", arena=arena, timeout=SHORT)
        if one is not None:
            self._lock("BinarySemaphore", one)
            self._common("BinarySemaphore", one)

    def _signals(self, arena: syncx.Arena) -> None:
        event = self.made("Event", syncx.Event, "event", arena=arena)
        if event is not None:
            self.do("Event.wait", event.wait, SHORT)
            self.for_ever("Event.wait", event.wait)
            for call in ("set", "is_set", "clear"):
                self.do(f"Event.{call}", getattr(event, call))
            self._common("Event", event)
        latch = self.made("Latch", syncx.Latch, COUNT, name="latch", arena=arena)
        if latch is not None:
            self.do("Latch.wait", latch.wait, SHORT)
            self.for_ever("Latch.wait", latch.wait)
            self.do("Latch.count_down", latch.count_down)
            self.do("Latch.count_down", latch.count_down, COUNT)
            self._common("Latch", latch)

    def _condition(self, arena: syncx.Arena) -> None:
        condition = self.made("Condition", syncx.Condition, name="condition", arena=arena, timeout=SHORT)
        if condition is None:
            return
        self._lock("Condition", condition)
        self._recovery("Condition", condition)
        self.do("Condition.notify", condition.notify)
        if self.do("Condition.acquire", condition.acquire, timeout=SHORT):
            self.do("Condition.wait", condition.wait, SHORT)
            self.do("Condition.wait_for", condition.wait_for, lambda: False, SHORT)
            self.for_ever("Condition.wait", condition.wait)
            self.do("Condition.notify", condition.notify)
            self.do("Condition.notify", condition.notify, 3)
            self.do("Condition.notify_all", condition.notify_all)
            self.do("Condition.release", condition.release)
        self._common("Condition", condition)
        lock = self.made("Mutex", syncx.Mutex, "mutex", arena=arena, timeout=SHORT)
        if lock is not None:
            other = self.made("Condition", syncx.Condition, lock, name="other", arena=arena)
            if other is not None:
                self.do("Condition.notify_all", other.notify_all)

    def _barrier(self, arena: syncx.Arena) -> None:
        for parties in self._some([PARTIES, PARTIES, PARTIES + 1]):
            barrier = self.made("Barrier", syncx.Barrier, parties, name="barrier", arena=arena, timeout=SHORT)
            if barrier is None:
                continue
            self.do("Barrier.wait", barrier.wait, SHORT)
            self.do("Barrier.reset", barrier.reset)
            self.for_ever("Barrier.wait", barrier.wait)

            def body(barrier: Any = barrier) -> None:
                with barrier.enroll():
                    self.do("Barrier.wait", barrier.wait, SHORT)

            self.do("Barrier.enroll", body)
            self.do("Barrier.withdraw", barrier.withdraw)
            self.do("Barrier.abort", barrier.abort)
            self.do("Barrier.reset", barrier.reset)
            self._common("Barrier", barrier)

    def _once(self, arena: syncx.Arena) -> None:
        once = self.made("Once", syncx.Once, "once", arena=arena, timeout=SHORT)
        if once is None:
            return
        self.look("Once", once)
        self.do("Once.run", once.run, self._fails)
        self.for_ever("Once.run", once.run, lambda: [1])
        self.do("Once.run", once.run, lambda: [2])
        self._common("Once", once)

    @staticmethod
    def _fails() -> None:
        raise _Error

    def _rwlock(self, arena: syncx.Arena) -> None:
        for options in self._some([{}, {"on_owner_death": "raise"}]):
            lock = self.made("RWLock", syncx.RWLock, "rwlock", arena=arena, timeout=SHORT, **options)
            if lock is None:
                return
            read, write, upgradable = (
                self.do(f"RWLock.{how}", getattr(lock, how)) for how in ("read", "write", "upgradable")
            )
            for view in (read, write, upgradable):
                if view is not None:
                    name = type(view).__name__
                    self._lock(name, view)
                    self.look(name, view)
                    self.do(f"{name}.statistics", view.statistics)
            for view in (write, upgradable):
                if view is not None:
                    self._recovery(type(view).__name__, view)
            if read is not None:
                self.do("ReadView.upgrade", read.upgrade)
            if upgradable is not None and self.do("UpgradableView.acquire", upgradable.acquire, timeout=SHORT):
                self.do("UpgradableView.upgrade", upgradable.upgrade, timeout=SHORT)
                self.do("UpgradableView.downgrade", upgradable.downgrade)
                self.do("UpgradableView.release", upgradable.release)
                self.do("ReadView.release", read.release)
            if write is not None and self.do("WriteView.acquire", write.acquire, timeout=SHORT):
                self.do("WriteView.downgrade", write.downgrade)
                self.do("WriteView.release", write.release)
                self.do("ReadView.release", read.release)
            for view in (read, write, upgradable):
                if view is not None:
                    self.do(f"{type(view).__name__}.close", view.close)
            self._common("RWLock", lock)

    def _files(self, arena: syncx.Arena) -> None:
        for cls, place in ((syncx.RangeLock, (5, 3)), (syncx.FileLock, ())):
            name = cls.__name__
            lock = self.made(name, cls, self.data, *place, arena=arena, timeout=SHORT)
            if lock is None:
                continue
            self._lock(name, lock)
            if self.do(f"{name}.acquire", lock.acquire, timeout=SHORT):
                for call in ("downgrade", "upgrade"):
                    self.do(f"{name}.{call}", getattr(lock, call))
                self.do(f"{name}.release", lock.release)
            if self.do(f"{name}.acquire", lock.acquire, timeout=SHORT):
                self.do(f"{name}.lock_range", lock.lock_range, 40, 10, timeout=SHORT)
                self.do(f"{name}.unlock_range", lock.unlock_range, 42, 2)
                self.do(f"{name}.release", lock.release)
            self.do(f"{name}.fileno", lock.fileno)
            self.do(f"{name}.statistics", lock.statistics)
            self.look(name, lock)
            copy = self.do(f"{name}.__reduce__", pickle.dumps, lock)
            if copy is not None:
                self.do(f"{name} unpickled", lambda copy=copy: pickle.loads(copy).close())
        log = self.made("RangeLock", syncx.RangeLock, self.data + ".log", arena=arena, timeout=SHORT)
        if log is not None:
            self.do("RangeLock.append", log.append, b"x")
        whole = self.made("FileLock", syncx.FileLock, self.data + ".log", arena=arena, timeout=SHORT)
        if whole is not None:
            self.do("FileLock.append", whole.append, b"y")
            os.truncate(self.data + ".log", 0)
        table = self.made("RecordLocks", syncx.RecordLocks, self.data, 16, arena=arena, timeout=SHORT)
        if table is not None:
            self.look("RecordLocks", table)
            record = self.do("RecordLocks.shared", table.shared, 3)
            if record is not None:
                self._open.append(record)
                self.do("RangeLock.acquire", record.acquire, timeout=SHORT)
                self.do("RecordLocks.read", table.read, 3)
                self.do("RangeLock.release", record.release)

            def write() -> None:
                with table[7]:
                    self.do("RecordLocks.write", table.write, 7, bytes(16))

            self.do("RecordLocks.__getitem__", write)

        def change() -> None:
            with syncx.update(self.data + ".new", timeout=SHORT, arena=arena) as f:
                f.write("z")

        self.do("update", change)
        self.do("join", syncx.join, self.pid, SHORT, arena=arena)

    def _placed(self, arena: syncx.Arena) -> None:
        """Objects in the caller's memory, bound to this arena."""
        ways = (
            (syncx.Mutex, {}), (syncx.RLock, {}), (syncx.Semaphore, {"value": 1}), (syncx.Event, {}),
            (syncx.BoundedSemaphore, {"value": 2}), (syncx.BinarySemaphore, {}), (syncx.Latch, {"count": 1}),
            (syncx.Condition, {}), (syncx.Barrier, {"parties": 1}), (syncx.Once, {}), (syncx.RWLock, {}),
        )  # fmt: skip
        for cls, options in self._some(ways, 3):
            name = cls.__name__
            size = cls.SIZE if hasattr(cls, "SIZE") else self.do(f"{name}.size", cls.size, 2)
            memory = bytearray(size + 64)
            offset = -self._address(memory) % 64
            thing = self.made(f"{name}.at", cls.at, memory, offset, arena=arena, **options)
            if hasattr(thing, "acquire") and self.do(f"{name}.acquire", thing.acquire, timeout=SHORT):
                self.do(f"{name}.release", thing.release)
        self.do("BoundedSemaphore.size", syncx.BoundedSemaphore.size, PERMITS)
        self.do("Barrier.size", syncx.Barrier.size, PARTIES)

    @staticmethod
    def _address(memory: bytearray) -> int:
        import ctypes

        return ctypes.addressof(ctypes.c_char.from_buffer(memory))

    def _noted(self, arena: syncx.Arena) -> None:
        """Tracing, and the order of locks."""
        self.do("trace", syncx.trace, True)
        self.do("order_check", syncx.order_check, True, arena=arena, on_inversion=str)
        first = self.made("Mutex", syncx.Mutex, "m1", arena=arena, timeout=SHORT)
        second = self.made("RLock", syncx.RLock, "rlock", arena=arena, timeout=SHORT)
        if first is not None and second is not None:
            ranges = self.made("RangeLock", syncx.RangeLock, self.data, 200, 1, arena=arena, timeout=SHORT)
            for a, b in self._some([(first, second), (second, first), (first, ranges), (ranges, second)], 3):

                def nested(a: Any = a, b: Any = b) -> None:
                    with a, b:
                        self.do("Arena.statistics", arena.statistics)

                self.do("order_check", nested)
        self.do("order.counts", order.counts, arena)
        self.do("order.forget", order.forget, arena)
        self.do("order_check", syncx.order_check, False, arena=arena, on_inversion="warn")
        self.do("order_check", syncx.order_check, False)
        self.do("trace", syncx.trace, False)

    def _seen(self, arena: syncx.Arena) -> None:
        for source in self._some([arena, self.path]):
            seen = self.do("snapshot", syncx.snapshot, source)
            if seen is None:
                continue
            self.look("Snapshot", seen)
            self.do("Snapshot.to_dict", seen.to_dict)
            self.do("Snapshot.to_json", seen.to_json)
            for p in seen.participants[:8]:
                for call in ("held_by", "awaited_by", "participant"):
                    self.do(f"Snapshot.{call}", getattr(seen, call), p.id)
            for p in seen.processes[:2]:
                self.do("Snapshot.process", seen.process, p.id)
            for o in seen.objects[:8]:
                for call in ("at", "holders_of", "waiters_of"):
                    self.do(f"Snapshot.{call}", getattr(seen, call), o.id)
                self.do("Snapshot.named", seen.named, o.name or "?")
            graph = self.do("wait_graph", syncx.wait_graph, seen)
            if graph is None:
                continue
            self.look("WaitGraph", graph)
            self.do("WaitGraph.to_dict", graph.to_dict)
            self.do("WaitGraph.to_json", graph.to_json)
            for b in graph.blocked[:8]:
                self.do("WaitGraph.chain", graph.chain, b)
                self.do("WaitGraph.of", graph.of, b.wait.thread)
                for blocker in b.blockers[:2] if hasattr(b, "blockers") else ():
                    self.do("WaitGraph.stopped", graph.stopped, blocker)
        held = self.made("RangeLock", syncx.RangeLock, self.data, 300, 1, arena=arena)
        if held is not None:
            self.do("RangeLock.acquire", held.acquire, timeout=SHORT)
        locks = self.do("file_locks", syncx.file_locks, self.data, arena=arena)
        if locks is not None:
            self.look("FileLocks", locks)
            for lock in locks.locks[:8]:
                self.look("FileLockInfo", lock)
                for party in lock.parties[:1]:
                    self.look("LockParty", party)
        if held is not None:
            self.do("RangeLock.release", held.release)

    def _unlink(self, arena: syncx.Arena) -> None:
        self.do("Arena.collect", arena.collect)
        for name in self._some(["mutex", "barrier", "m0", "no such name"], 2):
            self.do("Arena.unlink", arena.unlink, name)
            self.do("Arena.unlink", arena.unlink, name, force=True)
        again = self.made("Mutex", syncx.Mutex, "mutex", arena=arena)
        if again is not None:
            self.do("Mutex.acquire", again.acquire, timeout=SHORT)
            self.do("Mutex.release", again.release)
        self.do("Arena.collect", arena.collect)

    def _afterwards(self) -> None:
        """From outside again, and away with it."""
        self._command("rm", "event")
        arena = self.do("Arena", syncx.Arena, self.path, create=False)
        if arena is not None:
            self.do("Arena.statistics", arena.statistics)
            self.do("Arena.unlink", arena.unlink)
            self.do("Arena.unlink", arena.unlink, force=True)
            self.do("Mutex", syncx.Mutex, "mutex", arena=arena)
            self.do("Arena.close", arena.close)

    # ---- the command line -------------------------------------------------------------------------------------------

    def _views(self) -> None:
        """One of the commands that look.  All show what `snapshot` and `wait_graph` say."""
        ways = (
            ("ls", "--all"), ("ls", "--json"), ("ps", "--all"), ("ps", "--json"), ("locks", self.data), ("doctor",),
            ("stats", "--all"), ("stats", "--prometheus"), ("graph",), ("graph", "--svg"), ("why", str(self.pid)),
            ("why", "mutex"), ("deadlocks",), ("deadlocks", "--json"), ("top", "--once"),
            ("watch", "--once", "--all", "--longer", "0"), ("locks", "--json", self.data), ("doctor", "--json"),
        )  # fmt: skip
        for command, *arguments in self._some(ways):
            self._command(command, *arguments)

    def _command(self, command: str, *arguments: str) -> None:
        """A command of the command line, in this process; a traceback is a finding, a line of words is none."""
        place = [self.path] if command == "doctor" else ["--arena", self.path]
        argv = [command, *arguments, *place]

        def run() -> None:
            out, err = io.StringIO(), io.StringIO()
            try:
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                    status = cli.main(argv)
            except SystemExit as e:
                status = e.code  # type: ignore[assignment]
            text = out.getvalue()
            if status not in (0, 1, 3, 4):
                raise AssertionError(f"status {status}: {err.getvalue()}")
            if status == 1 and not err.getvalue():
                raise AssertionError("status 1 without a word")
            if not text.replace("\n", "").isprintable():
                raise AssertionError(f"characters that cannot be printed: {text!r}")
            text.encode()

        self.do(f"syncx {command}", run)


def others() -> Iterator[tuple[str, str]]:
    """Public calls that have nothing to do with an arena's bytes, or cannot be made here, and why."""
    yield "syncx demo", "makes an arena of its own"
    yield "syncx run", "Mutex and BoundedSemaphore, and another process"
    yield "syncx completion", "no arena"
    yield "syncx stress", "makes an arena of its own"
    yield "default_arena", "Arena, by another name"
    yield "deadlock_default", "no arena"
    yield "set_deadlock_default", "no arena"
    for name in ("Held", "Waiting", "Holder", "Range", "Inversion", "Statistics"):
        yield name, "what other calls return, without a method of its own"
