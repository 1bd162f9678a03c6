"""What the tests share: children that can be killed, locks in every placement, and the search for leaks.

Imported by the tests and, as a library, by the children they start.  A child is a fresh interpreter, never a fork of
the test's own process, and talks with the test in JSON lines: `say` and `hear` on both sides.  That is how a test knows
that a child is inside a lock; nothing here sleeps and hopes.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import mmap
import os
import pickle
import pty
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import syncx

PATIENCE = 30.0
"""Seconds after which anything that should happen has failed to."""

HERE = Path(__file__).resolve().parent
MARK = "SYNCX_TEST_RUN"
"""Environment variable by which a process is known for a descendant of this test process."""

# ---- the child's side ---------------------------------------------------------------------------------------------


def say(what: Any = "") -> None:
    """Tells the other side something.  One write, so that several processes may share the pipe."""
    os.write(1, json.dumps(what).encode() + b"\n")


def hear() -> Any:
    """What the test says next."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            raise EOFError("the test has gone")
        line += byte
    return json.loads(line)


def lock_file(arena: syncx.Arena) -> str:
    """The path of a file for locks, the same in all processes that are given the arena; the test removes it."""
    directory = os.path.join(tempfile.gettempdir(), os.path.basename(arena.path))
    os.makedirs(directory, exist_ok=True)
    return os.path.join(directory, "x")


def wait_for(pid: int) -> int:
    """The exit code of a forked child, as os.waitstatus_to_exitcode gives it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _open_shared_memory(name: str) -> SharedMemory:
    """Attaches without handing the segment to the resource tracker, which would remove it for everybody."""
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    shm = SharedMemory(name)
    resource_tracker.unregister(shm._name, "shared_memory")
    return shm


_kept: list[Any] = []


def open_lock(recipe: dict[str, Any], **options: Any) -> Any:
    """The lock that `Place.recipe` describes, in another process."""
    cls = getattr(syncx, recipe["cls"])
    if recipe["how"] == "named":
        return cls(name=recipe["name"], arena=syncx.Arena(recipe["arena"]), create=False, **options)
    if recipe["how"] == "anonymous":
        assert not options, "a pickle brings its own"
        return pickle.loads(base64.b64decode(recipe["pickle"]))
    arena = syncx.Arena(recipe["arena"])
    if recipe["how"] == "shared_memory":
        _kept.append(_open_shared_memory(recipe["segment"]))
        return cls.at(_kept[-1].buf, recipe["offset"], arena=arena, create=False, **options)
    with open(recipe["file"], "r+b") as f:
        _kept.append(mmap.mmap(f.fileno(), 0))
    return cls.at(_kept[-1], recipe["offset"], arena=arena, create=False, **options)


# Targets for multiprocessing: spawn and forkserver want functions of an importable module.


def hold_and_report(lock: Any, queue: Any) -> None:
    """Holds the lock for a moment and reports what it saw."""
    with lock as held:
        queue.put((held is lock, lock.holder[0] == os.getpid(), lock.name))


def add(lock: Any, path: str, times: int) -> int:
    """Adds to a number in a file, in two steps that a second writer between them would spoil."""
    with open(path, "r+b", buffering=0) as f:
        for _ in range(times):
            with lock:
                value = int(os.pread(f.fileno(), 20, 0) or b"0")
                os.pwrite(f.fileno(), b"%020d" % (value + 1), 0)
    return times


def acquire_and_die(lock: Any) -> None:
    """Dies holding the lock."""
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def take_and_add(jobs: Any, done: Any, times: int) -> None:
    """Takes so many units of one semaphore, and adds one to the other for each."""
    for _ in range(times):
        jobs.acquire()
        done.release()


def count_down_and_wait(latch: Any) -> None:
    """One of those who start together."""
    latch.count_down()
    assert latch.wait(PATIENCE)


class Unlocked:
    """A lock that excludes nobody: what finds overlapping holders must find these."""

    def __enter__(self) -> Unlocked:
        return self

    def __exit__(self, *_: object) -> None:
        return


def overlap(lock: Any, threads: int = 3, times: int = 3) -> bool:
    """Were two threads ever inside together?  Each lingers there until it sees another, or 10 ms."""
    inside: set[int] = set()
    seen: list[int] = []

    def work(me: int) -> None:
        for _ in range(times):
            with lock:
                inside.add(me)
                end = time.monotonic() + 0.01
                while time.monotonic() < end:
                    if len(inside) > 1:
                        seen.append(me)
                        break
                    time.sleep(0.0005)
                inside.discard(me)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(PATIENCE)
    assert not any(w.is_alive() for w in workers), "a thread never came through"
    return bool(seen)


def lingers(lock: Any, path: str, me: int, processes: int, times: int = 3) -> None:
    """The same between processes, each with a byte of a file: exit status 1 if another is ever seen inside."""
    with open(path, "r+b", buffering=0) as f:
        os.pwrite(f.fileno(), b"\1", 64 + me)  # all begin together
        until(lambda: os.pread(f.fileno(), processes, 64).count(1) == processes, "all have come")
        for _ in range(times):
            with lock:
                os.pwrite(f.fileno(), b"\1", me)
                end = time.monotonic() + 0.02
                while time.monotonic() < end:
                    flags = os.pread(f.fileno(), 64, 0)
                    if any(flags[:me] + flags[me + 1 :]):
                        sys.exit(1)
                    time.sleep(0.001)
                os.pwrite(f.fileno(), b"\0", me)


class Waitable:
    """Something that is waited for, in the words that all have in common; picklable, as the thing itself is."""

    waiters, fires = 2, 1

    def __init__(self, arena: syncx.Arena) -> None:
        self.thing = self.make(arena)

    def make(self, arena: syncx.Arena) -> Any:
        raise NotImplementedError

    def wait(self, timeout: float | None) -> bool:
        """Until it is fired."""
        return self.thing.wait(timeout)

    def fire(self) -> None:
        """Lets those go who wait."""
        raise NotImplementedError

    def again(self) -> None:
        """Ready for another wait after one that came to nothing."""


class _Event(Waitable):
    def make(self, arena: syncx.Arena) -> Any:
        return syncx.Event("x", arena=arena)

    def fire(self) -> None:
        self.thing.set()


class _Latch(Waitable):
    def make(self, arena: syncx.Arena) -> Any:
        return syncx.Latch(1, name="x", arena=arena)

    def fire(self) -> None:
        self.thing.count_down()


class _Semaphore(Waitable):
    fires = 2

    def make(self, arena: syncx.Arena) -> Any:
        return syncx.Semaphore(0, name="x", arena=arena)

    def wait(self, timeout: float | None) -> bool:
        return self.thing.acquire(timeout=timeout)

    def fire(self) -> None:
        self.thing.release()


class _Condition(Waitable):
    def make(self, arena: syncx.Arena) -> Any:
        return syncx.Condition(name="x", arena=arena)

    def wait(self, timeout: float | None) -> bool:
        with self.thing:
            return self.thing.wait(timeout)

    def fire(self) -> None:
        with self.thing:
            self.thing.notify_all()


class _Barrier(Waitable):
    waiters = 1

    def make(self, arena: syncx.Arena) -> Any:
        return syncx.Barrier(2, name="x", arena=arena)

    def wait(self, timeout: float | None) -> bool:
        try:
            return self.thing.wait(timeout) in (0, 1)
        except syncx.BrokenBarrierError:
            return False

    def fire(self) -> None:
        self.thing.wait(PATIENCE)

    def again(self) -> None:
        self.thing.reset()


WAITABLES: dict[str, type[Waitable]] = {
    "Event": _Event,
    "Latch": _Latch,
    "Semaphore": _Semaphore,
    "Condition": _Condition,
    "Barrier": _Barrier,
}


def wait_and_tell(thing: Waitable) -> None:
    """Exit status 0 if the wait was ended in time."""
    sys.exit(0 if thing.wait(PATIENCE) else 1)


def exchange(lock: Any) -> Any:
    """A lock that goes to a worker and comes back."""
    with lock:
        return lock


# ---- the test's side ----------------------------------------------------------------------------------------------

_PRELUDE = """
import faulthandler, json, os, signal, sys, threading, time
faulthandler.register(signal.SIGUSR2)
import syncx
from support import *
from support import say, hear, wait_for, open_lock
globals().update(json.loads(sys.argv[1]))
if "ARENA" in globals():
    arena = syncx.Arena(ARENA)
"""


class Child:
    """A Python snippet in a process of its own, with `say`, `hear`, `syncx` and the given names at hand.

    ARENA=path gives the snippet an `arena`.  Its process group dies with this object at the latest.
    """

    def __init__(
        self,
        code: str,
        *,
        prelude: bool = True,
        env: dict[str, str] | None = None,
        command: tuple[str, ...] = (sys.executable,),
        **names: Any,
    ) -> None:
        import textwrap

        text = (_PRELUDE if prelude else "") + textwrap.dedent(code)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self._buffer = b""
        self._answers = prelude
        self.process = subprocess.Popen(
            [*command, "-c", text, json.dumps(names)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            cwd=tempfile.gettempdir(),
            env={**os.environ, "PYTHONPATH": str(HERE), **(env or {})},
            start_new_session=True,
        )
        self.pid = self.process.pid
        self.killed = 0.0

    def say(self, what: Any = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")

    def hear(self, timeout: float = PATIENCE) -> Any:
        """What the child says next; AssertionError with its stderr if it says nothing in time."""
        assert self.process.stdout is not None
        end = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not data:
                if ready:
                    raise AssertionError(f"the child ended ({self.process.wait(PATIENCE)}):\n{self.stderr()}")
                raise AssertionError(f"the child said nothing in time:\n{self._where()}")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """SIGKILL, and wait for the end."""
        self.killed = time.monotonic()
        self.process.send_signal(sig)
        self.process.wait(PATIENCE)

    def end(self, timeout: float = PATIENCE) -> int:
        """The exit code of a child that ends by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the child did not end in time:\n{self._where()}") from None

    def finish(self, timeout: float = PATIENCE) -> None:
        """Ends in good order, or AssertionError with what it printed."""
        code = self.end(timeout)
        assert code == 0, f"the child ended with {code}:\n{self.stderr()}"

    def _where(self) -> str:
        """Where a late child is: its faulthandler answers a signal with a traceback."""
        if self._answers:
            os.killpg(self.pid, signal.SIGUSR2)
            with contextlib.suppress(AssertionError):
                until(
                    lambda: "most recent call first" in self.stderr() or self.process.poll() is not None,
                    "it answers",
                    5,
                )
            time.sleep(0.2)  # for the rest of the answer
        return self.stderr()

    def stderr(self) -> str:
        # without moving the position, which is the child's too: it may be writing
        return os.pread(self._stderr.fileno(), 1 << 20, 0).decode(errors="replace")

    def close(self) -> None:
        # the group before its leader is reaped: the number cannot belong to somebody else yet
        if self.process.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)  # a group lives as long as any member, and keeps its number
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, 0)  # the leader has been reaped; is somebody else left?
            until(lambda: not _members(self.pid), "the child's group ends")
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            if stream is not None:
                stream.close()


def until(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> None:
    """Waits for something that only looking can tell (that a thread is asleep in the kernel): bounded, every ms."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"in vain: {what}"
        time.sleep(0.001)


def _members(group: int) -> list[int]:
    """The processes of a group that have not ended; a zombie has, though nobody may have reaped it yet."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has gone
            continue
        if int(its_group) == group and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


def on_a_terminal(*arguments: str, columns: int = 80, status: int = 0) -> str:
    """What `syncx` prints, in colour, on a terminal of that width; it ends with that status."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    env.pop("NO_COLOR", None)
    process = subprocess.Popen([sys.executable, "-m", "syncx", *arguments], stdout=theirs, env=env)
    os.close(theirs)
    data = b""
    while select.select([ours], [], [], PATIENCE)[0]:
        try:
            more = os.read(ours, 65536)
        except OSError:  # nobody has the other end any more
            break
        if not more:
            break
        data += more
    os.close(ours)
    assert process.wait(PATIENCE) == status
    return data.decode()


def soon(bound: float, attempt: Callable[[], float], times: int = 5) -> None:
    """That something takes less than so many seconds; `attempt` does it once and returns how long it took.

    It is tried again where it was late: a busy machine is late now and then, a defect every time.
    """
    took: list[float] = []
    while not took or took[-1] >= bound:
        assert len(took) < times, f"each time later than {bound} s: {took}"
        took.append(attempt())


def waiters(arena: syncx.Arena) -> int:
    """How many threads of any process have published that they wait."""
    files = sum(1 for row in arena._file_locks() if row[0] == "waiting")
    return files + sum(1 for row in arena._participants() if row[3])


def until_waiting(arena: syncx.Arena, n: int = 1) -> None:
    until(lambda: waiters(arena) >= n, f"{n} threads wait")


class Place:
    """Where a lock lies: makes locks there, opens them again, and tells a child where to find them."""

    HOW = ("named", "anonymous", "mmap", "shared_memory", "memoryview")

    def __init__(self, how: str, arena: syncx.Arena, directory: Path) -> None:
        self.how = how
        self.arena = arena
        self._directory = directory
        self._count = 0
        self._where: dict[int, dict[str, Any]] = {}
        self._segments: list[Any] = []
        self._locks: weakref.WeakSet[Any] = weakref.WeakSet()

    def new(self, cls: Any = syncx.Mutex, **options: Any) -> Any:
        self._count += 1
        recipe: dict[str, Any] = {"how": self.how, "arena": self.arena.path, "cls": self._base(cls)}
        if self.how == "named":
            recipe["name"] = f"lock {self._count}"
            lock = cls(name=recipe["name"], arena=self.arena, **options)
        elif self.how == "anonymous":
            lock = cls(arena=self.arena, **options)
        else:
            recipe["offset"] = 64 * self._count
            recipe["buffer"] = self._buffer(recipe)
            lock = cls.at(recipe["buffer"], recipe["offset"], arena=self.arena, **options)
        self._where[id(lock)] = recipe
        self._locks.add(lock)
        return lock

    @staticmethod
    def _base(cls: Any) -> str:
        """The name by which a child finds the class: the syncx class itself, or the one it derives from."""
        return next(c.__name__ for c in cls.__mro__ if getattr(syncx, c.__name__, None) is c)

    def _buffer(self, recipe: dict[str, Any]) -> Any:
        size = 8192
        if self.how == "shared_memory":
            name = f"syncx-{os.geteuid()}-{prefix()}-{os.getpid()}-{time.monotonic_ns()}"
            shm = SharedMemory(name, create=True, size=size)
            self._segments.append(shm)
            recipe["segment"] = shm.name
            return shm.buf
        path = self._directory / f"memory {self._count}"
        path.write_bytes(bytes(size))
        recipe["file"] = str(path)
        with open(path, "r+b") as f:
            mapping = mmap.mmap(f.fileno(), size)
        return memoryview(mapping) if self.how == "memoryview" else mapping

    def again(self, lock: Any, cls: Any = None, **options: Any) -> Any:
        """A second handle to the same lock in this process."""
        other = self._again(lock, cls, **options)
        self._locks.add(other)
        return other

    def _again(self, lock: Any, cls: Any = None, **options: Any) -> Any:
        recipe = self._where[id(lock)]
        cls = cls or type(lock)
        if self.how == "named":
            return cls(name=recipe["name"], arena=self.arena, create=False, **options)
        if self.how == "anonymous":
            other = pickle.loads(pickle.dumps(lock))
            if options:
                other._set_options(**options)
            return other
        return cls.at(recipe["buffer"], recipe["offset"], arena=self.arena, create=False, **options)

    def recipe(self, lock: Any) -> dict[str, Any]:
        """For `open_lock` in a child."""
        recipe = {k: v for k, v in self._where[id(lock)].items() if k != "buffer"}
        if self.how == "anonymous":
            recipe["pickle"] = base64.b64encode(pickle.dumps(lock)).decode()
        return recipe

    def close(self) -> None:
        for lock in list(self._locks):  # they export the segments' buffers
            with contextlib.suppress(RuntimeError):  # held still, by a failed test
                lock.close()
        for shm in self._segments:
            shm.unlink()
            with contextlib.suppress(BufferError):  # a failed test holds a lock in it; it goes with the process
                shm.close()


# ---- leaks --------------------------------------------------------------------------------------------------------


def prefix() -> str:
    """How the names of this test process's arenas and segments begin."""
    return os.environ[MARK]


def _processes(mark: str) -> Iterator[str]:
    """The other live processes that descend from this one, told by their environment even after being orphaned."""
    tracker = getattr(resource_tracker._resource_tracker, "_pid", None)  # ends by itself when we end
    needle = f"{MARK}={mark}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in (os.getpid(), tracker):
            continue
        try:
            state, parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
            ours = state == "Z" and int(parent) == os.getpid()  # a zombie has no environment
            ours = ours or needle in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
            command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has gone, or is somebody else's
            continue
        if ours:
            yield f"process {entry}: {command[:200]}"


CLONE_NEWIPC = 0x08000000


def own_system_v() -> bool:
    """Gives this thread and its descendants a System V namespace of their own, where that is allowed.

    Those objects bear no mark of who made them; in here they are all ours.
    """
    import ctypes

    return ctypes.CDLL(None).unshare(CLONE_NEWIPC) == 0


def _system_v() -> set[str]:
    found = set()
    for kind in ("shm", "sem", "msg"):
        for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]:
            found.add(f"System V {kind}, key and id {' '.join(line.split()[:2])}")
    return found


@functools.cache
def cannot_be_stepped() -> str | None:
    """Why processes cannot be stepped through their instructions here; None: they can.

    Asked in a child, since asking takes a fork and a test process has threads.
    """
    ask = "from syncx.testing import stepping; print(stepping.why_not() or '')"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip() or None


class Leaks:
    """What this test process left behind since the object was made: shared memory, processes, System V, files.

    `mark` begins the names of our shared memory and stands in the environment of our descendants; `directory` is
    where temporary files go.  Only what can be told to be ours is counted: others may be at work on the machine.
    """

    def __init__(self, mark: str, directory: str, multiprocessing_prefix: str, system_v: bool) -> None:
        self._mark, self._directory, self._psm = mark, directory, multiprocessing_prefix
        self._look = _system_v if system_v else set[str]
        self._system_v = self._look()
        self._before = self._names()

    def _names(self) -> set[str]:
        # multiprocessing's own names are told by the prefix that conftest.py gave them
        ours = (f"syncx-{os.geteuid()}-{self._mark}", self._psm)
        found = {f"shared memory /dev/shm/{n}" for n in os.listdir("/dev/shm") if n.startswith(ours)}
        for n in os.listdir(self._directory):
            if not n.startswith("pytest-of-"):
                found.add(f"file {os.path.join(self._directory, n)}")
        return found

    def found(self, patience: float = 5.0) -> list[str]:
        """Processes have that many seconds to go: who is just ending, as a helper of multiprocessing does a moment
        after the one it helped, has not been left behind."""
        end = time.monotonic() + patience
        while (processes := sorted(_processes(self._mark))) and time.monotonic() < end:
            time.sleep(0.01)
        names = self._names() - self._before
        return sorted(names) + processes + sorted(self._look() - self._system_v)
