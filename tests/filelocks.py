"""What the tests of file locks share: the oracle that asks the kernel, a model of ranges, the broken twins.

`probe` is the judge of everything: it asks the kernel, not syncx, who may lock a byte.  `Raw` is what fcntl gives, in
the words of a RangeLock, and shows that the judges accept what is right; its twins are wrong in one respect each.
"""

from __future__ import annotations

import fcntl
import os
import random
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from support import PATIENCE, until

import syncx

END = 2**63 - 1
"""The last byte that a file can have."""

STYLES = ["ofd", "flock", "posix"]

_FLOCK = "hhqqi4x"  # struct flock where off_t has 64 bits: fcntl_locking(2)


def _ask(fd: int, command: int, kind: int, start: int, length: int) -> tuple[int, int, int]:
    answer = fcntl.fcntl(fd, command, struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0))
    kind, _, start, length, _ = struct.unpack(_FLOCK, answer)
    return kind, start, length


def probe(path: Any, positions: Iterable[int] = range(16)) -> str:
    """What the kernel says of each of these bytes: "." nobody has it, "r" shared, "w" exclusive.

    It asks through an open file description of its own, for which the locks of this process are as foreign as any,
    and takes nothing, so that it disturbs nobody.  (Its close would drop style="posix" locks of this very process:
    those are probed by a child.)
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = (_ask(fd, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, n, 1)[0] for n in positions)
        return "".join({fcntl.F_UNLCK: ".", fcntl.F_RDLCK: "r", fcntl.F_WRLCK: "w"}[kind] for kind in found)
    finally:
        os.close(fd)


def tried(path: Any, positions: Iterable[int] = range(16)) -> str:
    """The same by trying to take each byte and giving it back."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def can(kind: int, n: int) -> bool:
        try:
            _ask(fd, fcntl.F_OFD_SETLK, kind, n, 1)
        except BlockingIOError:
            return False
        _ask(fd, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, n, 1)
        return True

    try:
        return "".join("." if can(fcntl.F_WRLCK, n) else "r" if can(fcntl.F_RDLCK, n) else "w" for n in positions)
    finally:
        os.close(fd)


def flocked(path: Any) -> str:
    """Of the whole file, for flock(2)."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for kind, answer in ((fcntl.LOCK_EX, "."), (fcntl.LOCK_SH, "r")):
            try:
                fcntl.flock(fd, kind | fcntl.LOCK_NB)
                return answer
            except BlockingIOError:
                continue
        return "w"
    finally:
        os.close(fd)


def waiting(arena: syncx.Arena, path: Any) -> int:
    """How many threads have published that they wait for a range of the file."""
    inode = os.stat(path).st_ino
    return sum(1 for row in arena._file_locks() if row[0] == "waiting" and row[4] == inode)


def until_awaited(arena: syncx.Arena, path: Any, n: int = 1) -> None:
    until(lambda: waiting(arena, path) >= n, f"{n} threads wait for {path}")


def asleep_in_kernel(path: Any) -> bool:
    """Does somebody wait for the file in fcntl(2) itself?"""
    inode = os.stat(path).st_ino
    with open("/proc/locks") as f:
        return any("->" in line and f":{inode} " in line for line in f)


def may(lock: Any) -> bool:
    """Whether another thread gets it now; it gives it back."""
    got: list[bool] = []

    def take() -> None:
        got.append(lock.acquire(False))
        if got[0]:
            lock.release()

    t = threading.Thread(target=take)
    t.start()
    t.join(PATIENCE)
    assert got, "the thread did not end in time, or failed"
    return got[0]


# ---- what fcntl itself gives, and what is wrong in one respect -----------------------------------------------------


class Raw:
    """fcntl's open-file-description locks in the words of a RangeLock: each thread has a description of its own."""

    def __init__(self, path: Any, start: int = 0, length: int = 0, *, shared: bool = False, **_: Any) -> None:
        self.path, self.start, self.length, self.shared = path, start, length, shared
        self._fds: dict[int, int] = {}
        self._held: set[int] = set()

    def _set(self, kind: int, start: int, length: int, blocking: bool) -> bool:
        me = threading.get_ident()
        if me not in self._fds:
            self._fds[me] = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            _ask(self._fds[me], fcntl.F_OFD_SETLKW if blocking else fcntl.F_OFD_SETLK, kind, start, length)
        except BlockingIOError:
            return False
        return True

    def acquire(self, blocking: bool = True) -> bool:
        me = threading.get_ident()
        if me in self._held:
            return False
        if got := self.lock_range(self.start, self.length, blocking=blocking):
            self._held.add(me)
        return got

    def release(self) -> None:
        me = threading.get_ident()
        if me not in self._held:
            raise syncx.NotOwner("not held")
        self._held.discard(me)
        self._set(fcntl.F_UNLCK, 0, 0, False)

    def lock_range(self, start: int, length: int = 0, *, shared: bool | None = None, blocking: bool = True) -> bool:
        shared = self.shared if shared is None else shared
        return self._set(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, start, length, blocking)

    def unlock_range(self, start: int, length: int = 0) -> None:
        self._set(fcntl.F_UNLCK, start, length, False)

    def __enter__(self) -> Raw:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)


class ExcludesNobody(Raw):
    """A twin: every range is to be had."""

    def _set(self, kind: int, start: int, length: int, blocking: bool) -> bool:
        return True


class ForgetsTheMiddle(Raw):
    """A twin: what it unlocks stays locked unless it begins or ends where something locked does."""

    def unlock_range(self, start: int, length: int = 0) -> None:
        before = probe(self.path, [start - 1])[0] if start else "."
        after = probe(self.path, [start + length])[0] if length else "."
        if before == "." or after == ".":
            super().unlock_range(start, length)


class LosesTheRest(Raw):
    """A twin: where a shared lock is already, one more is not asked of the kernel, and goes with the other's."""

    def lock_range(self, start: int, length: int = 0, *, shared: bool | None = None, blocking: bool = True) -> bool:
        shared = self.shared if shared is None else shared
        if shared and probe(self.path, [start])[0] == "r":
            return True
        return super().lock_range(start, length, shared=shared, blocking=blocking)


class Lifo:
    """A twin: a lock that serves the last who came; `queue` holds those who wait."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._taken = False
        self.queue: list[int] = []

    def __enter__(self) -> Lifo:
        me = threading.get_ident()
        with self._condition:
            self.queue.append(me)
            assert self._condition.wait_for(lambda: not self._taken and self.queue[-1] == me, PATIENCE)
            self.queue.remove(me)
            self._taken = True
        return self

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._taken = False
            self._condition.notify_all()


# ---- the model: what each holder has is a row of cells -------------------------------------------------------------

CELLS = 12
"""So many bytes, and one more cell for all that follow them to the end."""
PLACES = [*range(CELLS + 1), END - 1]

Holder = tuple[int, int]  # a thread and one of the objects that the threads share


def _cells(start: int, length: int) -> range:
    return range(start, start + length if length else CELLS + 1)


def _rows(cells: Sequence[str]) -> list[tuple[int, int, bool]]:
    """The ranges of a row of cells as `RangeLock.ranges` has them: merged, in order, length 0 to the end."""
    found: list[tuple[int, int, bool]] = []
    for n, what in enumerate(cells):
        if what != "." and n and cells[n - 1] == what:
            start, length, shared = found.pop()
            found.append((start, length + 1, shared))
        elif what != ".":
            found.append((n, 1, what == "r"))
    return [(s, 0 if s + n > CELLS else n, shared) for s, n, shared in found]


class Model:
    """Who has which cells: a holder gets a range if no other has a cell of it in a mode that forbids it."""

    def __init__(self) -> None:
        self.held: dict[Holder, list[str]] = {}

    def take(self, who: Holder, cells: Iterable[int], mode: str) -> bool:
        cells = list(cells)
        for other, row in self.held.items():
            if other != who and any(row[n] == "w" or (row[n] == "r" and mode == "w") for n in cells):
                return False
        row = self.held.setdefault(who, ["."] * (CELLS + 1))
        for n in cells:
            row[n] = mode
        return True

    def give(self, who: Holder, cells: Iterable[int]) -> None:
        for n in cells:
            self.held[who][n] = "."

    def map(self) -> str:
        def of(n: int) -> str:
            found = {row[n] for row in self.held.values()}
            return "w" if "w" in found else "r" if "r" in found else "."

        return "".join(of(n) for n in [*range(CELLS + 1), CELLS])


def _span(rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(CELLS)
    return start, 0 if rng.random() < 0.15 else rng.randint(1, CELLS - start)


def check_ranges(make: Callable[..., Any], path: Any, seed: int, steps: int = 120, modes: bool = True) -> None:
    """Random operations of three threads on two objects: every answer, every `ranges` and the kernel as the model.

    One operation at a time and none that waits, so a seed always gives the same.  modes: upgrades and downgrades too.
    """
    print(f"check_ranges: seed {seed}")
    rng = random.Random(seed)
    bases = [(*_span(rng), shared) for shared in (False, True)]
    locks = [make(path, start, length, shared=shared) for start, length, shared in bases]
    threads = [ThreadPoolExecutor(1) for _ in range(3)]
    model = Model()
    history: list[str] = [f"seed {seed}, objects {bases}"]
    verbs = ["acquire", "release", *["lock_range"] * 5, *["unlock_range"] * 3, *["upgrade", "downgrade"] * modes]
    try:
        for _ in range(steps):
            who = thread, number = rng.randrange(3), rng.randrange(2)
            lock, (start, length, base) = locks[number], bases[number]
            verb, expected, arguments, options = rng.choice(verbs), None, (), {}
            row = model.held.get(who)
            if verb == "acquire" or (row is None and verb != "release"):
                verb, arguments = "acquire", (False,)
                expected = row is None and model.take(who, _cells(start, length), "r" if base else "w")
            elif verb == "release":
                expected = None if model.held.pop(who, None) else syncx.NotOwner
            elif verb == "lock_range":
                arguments, shared = _span(rng), rng.choice([None, False, True])
                options = {"shared": shared, "blocking": False}
                mode = "r" if (base if shared is None else shared) else "w"
                expected = model.take(who, _cells(*arguments), mode)
            elif verb == "unlock_range":
                arguments = _span(rng)
                model.give(who, _cells(*arguments))
            elif verb == "upgrade":
                if "r" not in row:
                    continue
                options = {"timeout": 0}
                expected = model.take(who, [n for n, c in enumerate(row) if c != "."], "w")
            else:
                if "w" not in row:
                    continue
                model.take(who, [n for n, c in enumerate(row) if c != "."], "r")
            history.append(f"thread {thread}, object {number}: {verb}{arguments} {options} -> {expected}")
            try:
                answer = threads[thread].submit(getattr(lock, verb), *arguments, **options).result(PATIENCE)
            except syncx.NotOwner:
                answer = syncx.NotOwner
            trail = "\n".join(history[-25:] if len(history) > 25 else history)
            assert answer == expected, f"{answer!r} at the end of\n{history[0]}\n{trail}"
            assert probe(path, PLACES) == model.map(), f"the kernel, at the end of\n{history[0]}\n{trail}"
            if hasattr(lock, "ranges"):
                ranges = threads[thread].submit(lambda lock=lock: lock.ranges).result(PATIENCE)
                assert [tuple(r) for r in ranges] == _rows(model.held.get(who, [])), f"{history[0]}\n{trail}"
    finally:
        for who in model.held:
            threads[who[0]].submit(locks[who[1]].release).exception(PATIENCE)
        for lock in locks:
            threads[0].submit(lock.close).exception(PATIENCE)
        for t in threads:
            t.shutdown()


# ---- oracles of order ----------------------------------------------------------------------------------------------


def order_of(gate: Any, locks: Sequence[Any], queued: Callable[[int], None]) -> list[int]:
    """In which order threads that came in the order of `locks` are let in, once `gate`, which keeps all out, opens.

    queued(n) returns when n threads wait.
    """
    order: list[int] = []

    def wait(n: int) -> None:
        with locks[n]:
            order.append(n)

    with gate:
        threads = [threading.Thread(target=wait, args=(n,)) for n in range(len(locks))]
        for n, t in enumerate(threads):
            t.start()
            queued(n + 1)
    for t in threads:
        t.join(PATIENCE)
        assert not t.is_alive(), f"only {order} came through"
    return order


def overtakers(
    read: Callable[[], Any], write: Callable[[], Any], queued: Callable[[], None], patience: float = 0.05
) -> int:
    """How many readers come in before a writer who waits, if they relieve each other and leave no gap: 40 at most.

    Each stays inside until the other has come, or for `patience`: where a waiting writer keeps readers out, that ends
    the relay; where it does not, all the 40 come in.
    """
    entries = [0, 0]
    found: list[int] = []

    def linger(relieved: Callable[[], bool]) -> None:
        end = time.monotonic() + patience
        while not relieved() and not found and sum(entries) < 40 and time.monotonic() < end:
            time.sleep(0.0002)

    def reader(me: int) -> None:
        while not found and sum(entries) < 40:
            with read():
                entries[me] += 1
                linger(lambda seen=entries[1 - me]: entries[1 - me] != seen)

    def writer() -> None:
        with write():
            found.append(sum(entries))

    threads = [threading.Thread(target=t, args=a) for t, a in ((writer, ()), (reader, (0,)), (reader, (1,)))]
    with read():
        threads[0].start()
        queued()
        for t in threads[1:]:
            t.start()
        linger(lambda: all(entries))
    for t in threads:
        t.join(PATIENCE)
        assert not t.is_alive(), "the relay did not end"
    return found[0]


def scribble(make: Callable[[int, int, bool], Any], path: str, me: int, seed: int, rounds: int) -> int:
    """Two threads write their marks in random ranges of the file, under a lock, and read them again: 1 if another's
    mark was found there, or one changed where two only read.  Each lingers until it sees that, or for a millisecond.
    """
    print(f"scribble: seed {seed}", flush=True)
    torn: list[bytes] = []

    def work(mark: int) -> None:
        rng = random.Random(f"{seed} {mark}")
        with open(path, "r+b", buffering=0) as f:
            for _ in range(rounds):
                start = rng.randrange(32)
                length, shared = rng.randint(1, 32 - start), rng.random() < 0.3
                with make(start, length, shared):
                    if not shared:
                        os.pwrite(f.fileno(), bytes([mark]) * length, start)
                    seen = os.pread(f.fileno(), length, start)
                    end = time.monotonic() + 0.001
                    while True:
                        if os.pread(f.fileno(), length, start) != seen or (not shared and len(set(seen)) != 1):
                            torn.append(seen)
                        if torn or time.monotonic() > end:
                            break
                        time.sleep(0.0002)

    threads = [threading.Thread(target=work, args=(me + n,)) for n in (1, 2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(2 * PATIENCE)
        assert not t.is_alive(), "a thread never came through"
    return int(bool(torn))
