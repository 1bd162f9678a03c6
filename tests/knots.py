"""Deadlocks between processes, for test_deadlock.py: `python knots.py NAME REPETITIONS` prints a line for each repetition.

Each member holds something, waits until all do, and then wants something.  Exactly one is to be told; it gives back what it
holds, and all the others get what they want.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time

import syncx

LIMIT = 30.0


@contextlib.contextmanager
def taking(acquire, release):
    assert acquire()
    try:
        yield
    finally:
        release()


def mutexes(n):
    """A ring: each holds one and wants the next."""
    names = [f"m{i}" for i in range(n)]
    return [(lambda i=i: syncx.Mutex(names[i]), lambda i=i: syncx.Mutex(names[(i + 1) % n])) for i in range(n)]


def mutex_and_range(path):
    return [
        (lambda: syncx.Mutex("m"), lambda: syncx.RangeLock(path, 10, 10)),
        (lambda: syncx.RangeLock(path, 15, 10), lambda: syncx.Mutex("m")),
    ]


def ranges(path):
    return [
        (lambda: syncx.RangeLock(path, 0, 10), lambda: syncx.RangeLock(path, 20, 10)),
        (lambda: syncx.RangeLock(path, 20, 5), lambda: syncx.RangeLock(path, 5, 2)),
    ]


def three_kinds(path):
    return [
        (lambda: syncx.Mutex("m"), lambda: syncx.BoundedSemaphore(1, name="s")),
        (lambda: syncx.BoundedSemaphore(1, name="s"), lambda: syncx.RWLock("rw").write()),
        (lambda: syncx.RWLock("rw").read(), lambda: syncx.Mutex("m")),
    ]


def permits(path):
    """Both permits are stuck, held by two who want the mutex of a third, who wants a permit."""
    return [
        (lambda: syncx.Mutex("m"), lambda: syncx.BoundedSemaphore(2, name="s2")),
        (lambda: syncx.BoundedSemaphore(2, name="s2"), lambda: syncx.Mutex("m")),
        (lambda: syncx.BoundedSemaphore(2, name="s2"), lambda: syncx.Mutex("m")),
    ]


def two_at_a_time(path):
    s = lambda: syncx.BoundedSemaphore(3, name="s3")  # noqa: E731
    both = lambda: taking(lambda: s().acquire(n=2), lambda: s().release(2))  # noqa: E731
    return [
        (lambda: syncx.Mutex("m"), both),
        (both, lambda: syncx.Mutex("m")),
    ]


def writer_behind_readers(path):
    """A writer waits for a reader, who waits for a mutex whose holder wants to read, behind the writer."""
    return [
        (lambda: syncx.RWLock("rw").read(), lambda: syncx.Mutex("m")),
        (lambda: contextlib.nullcontext(), lambda: syncx.RWLock("rw").write()),
        (lambda: syncx.Mutex("m"), lambda: syncx.RWLock("rw").read()),
    ]


def two_knots(path):
    return mutexes(2) + [
        (lambda: syncx.Mutex("x"), lambda: syncx.Mutex("y")),
        (lambda: syncx.Mutex("y"), lambda: syncx.Mutex("x")),
    ]


SCENES = {
    "two mutexes": lambda path: mutexes(2),
    "ring of 3": lambda path: mutexes(3),
    "ring of 8": lambda path: mutexes(8),
    "ring of 64": lambda path: mutexes(64),
    "mutex and range": mutex_and_range,
    "ranges": ranges,
    "three kinds": three_kinds,
    "permits": permits,
    "two at a time": two_at_a_time,
    "writer behind readers": writer_behind_readers,
    "two knots": two_knots,
}
VICTIMS = {"two knots": 2}


def member(holds, wants, ready, go, order) -> str:
    """What became of it: "got" or "victim N", N the members told of."""
    with holds():
        os.write(ready, b"r")
        os.read(go, 1)
        try:
            with wants():
                return "got"
        except syncx.DeadlockError as e:
            return f"victim {len(e.cycle)}"


def play(scene, threads: bool) -> list[str]:
    ready_r, ready_w = os.pipe()
    go_r, go_w = os.pipe()
    out_r, out_w = os.pipe()
    members = []
    for holds, wants in scene:
        if threads and len(members) % 2:
            members.append(
                threading.Thread(
                    target=lambda h=holds, w=wants: os.write(out_w, member(h, w, ready_w, go_r, 0).encode() + b"\n")
                )
            )
            members[-1].start()
            continue
        pid = os.fork()
        if pid == 0:
            os.write(out_w, member(holds, wants, ready_w, go_r, 0).encode() + b"\n")
            os._exit(0)
        members.append(pid)
    for _ in members:
        os.read(ready_r, 1)
    os.write(go_w, b"g" * len(members))
    got = b""
    deadline = time.monotonic() + LIMIT
    import select

    while got.count(b"\n") < len(members) and time.monotonic() < deadline:
        if select.select([out_r], [], [], 1.0)[0]:
            got += os.read(out_r, 65536)
    for m in members:
        if isinstance(m, int):
            if got.count(b"\n") < len(members):
                os.kill(m, 9)
            os.waitpid(m, 0)
        else:
            m.join(LIMIT)
    for fd in (ready_r, ready_w, go_r, go_w, out_r, out_w):
        os.close(fd)
    return sorted(got.decode().splitlines())


if __name__ == "__main__":
    name, times, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    for _ in range(times):
        print(",".join(play(SCENES[name](path), "threads" in sys.argv[4:])), flush=True)
