"""Snapshots: what they say of every kind of object, of the dead, and of one moment.

States are made by children, with handshakes, and compared exactly: who holds what and how, who waits for what.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import PATIENCE, until, until_waiting

import syncx
from syncx import snapshots

BOOT_ID = 224  # offset in the header, see docs/reference/layout.md


# ---- what a snapshot says, in short ----------------------------------------------------------------------------------


def holds(seen):
    """Each hold: (name, kind, part, mode, units, flags, pid, alive)."""
    found = []
    for h in seen.holds:
        o = seen.at(h.object)
        found.append((o.name if o else None, h.kind, h.part, h.mode, h.units, "+".join(h.flags), h.pid, h.alive))
    return sorted(found, key=repr)


def waits(seen):
    """Each wait: (name, kind, part, mode, units, state, level, pid)."""
    found = []
    for w in seen.waits:
        o, who = seen.at(w.object), seen.participant(w.thread)
        found.append((o.name if o else None, w.kind, w.part, w.mode, w.units, w.state, w.level, who.pid))
    return sorted(found, key=repr)


def expect(arena, want_holds=None, want_waits=None):
    """Waits until that is what a snapshot says, of the attached arena and of its file; returns the latter.

    A thread that sleeps gets up every 100 ms to look around, and waits for nothing in that moment.
    """
    want_holds = sorted(want_holds or [], key=repr)
    want_waits = sorted(want_waits or [], key=repr)
    for source in (arena, arena.path):
        end = time.monotonic() + PATIENCE
        while True:
            seen = syncx.snapshot(source)
            if (holds(seen), waits(seen)) == (want_holds, want_waits) or time.monotonic() > end:
                break
            time.sleep(0.001)
        assert holds(seen) == want_holds
        assert waits(seen) == want_waits
        assert seen.problems == ()
        assert seen.this_boot
        assert seen.witnessed
    return seen


HOLD = """
    lock = eval(expression)
    lock.acquire()
    say()
    hear()
    lock.release()
    """
WAIT = """
    lock = eval(expression)
    say()
    lock.acquire(timeout=60)
    lock.release()
    say("had it")
    """


@pytest.fixture
def holding(child):
    def start(expression, code=HOLD, **names):
        c = child(code, expression=expression, **names)
        c.hear()
        return c

    return start


# ---- every kind ------------------------------------------------------------------------------------------------------


def test_nobody(arena):
    seen = expect(arena)
    assert [(p.pid, p.alive, p.here) for p in seen.processes] == [(os.getpid(), True, True)]
    assert seen.participants == seen.objects == ()
    assert seen.path == arena.path
    assert seen.id == arena.id
    assert seen.counters == (0, 0, 0, 0, 0, 0)
    assert abs(seen.taken - time.time()) < PATIENCE
    assert seen.created <= seen.taken


def test_mutex(arena, holding):
    a = holding("syncx.Mutex('m', arena=arena)")
    b = holding("syncx.Mutex('m', arena=arena)", WAIT)
    until_waiting(arena)
    seen = expect(
        arena,
        [("m", "Mutex", None, "exclusive", 1, "", a.pid, True)],
        [("m", "Mutex", None, "exclusive", 1, "waiting", 0, b.pid)],
    )
    (hold,), (wait,), m = seen.holds, seen.waits, seen.named("m")
    assert wait.holder == hold.thread
    assert 0 < wait.remaining <= 60
    assert 0 <= wait.waited < 60
    assert wait.deadline_ns - wait.since_ns <= 60e9
    assert (m.contended, m.processes, m.value, m.owner_died, m.retired) == (1, 2, None, False, False)
    assert seen.holders_of(m.id) == (hold,)
    assert seen.waiters_of(m.id) == (wait,)
    assert seen.held_by(hold.thread) == (hold,)
    assert seen.awaited_by(wait.thread) == (wait,)
    assert {p.pid for p in seen.participants} == {a.pid, b.pid}
    assert {p.tid for p in seen.participants} == {a.pid, b.pid}
    assert all(seen.process(p.process).pid == p.pid for p in seen.participants)
    # all of them sleep: the picture is of one moment
    until(lambda: all(x.stable for s in [syncx.snapshot(arena)] for x in (*s.participants, *s.objects, *s.holds)), "")
    a.say()
    assert b.hear() == "had it"
    b.finish()
    a.finish()
    expect(arena)


def test_rlock(arena, holding):
    a = holding(
        "syncx.RLock('r', arena=arena)",
        """
        lock = eval(expression)
        for _ in range(3): lock.acquire()
        say(); hear()
        for _ in range(3): lock.release()
        """,
    )
    expect(arena, [("r", "RLock", None, "exclusive", 3, "", a.pid, True)])
    a.say()
    a.finish()


def test_permits(arena, holding, child):
    a = holding(
        "syncx.BoundedSemaphore(5, name='s', arena=arena)",
        """
        lock = eval(expression)
        lock.acquire(n=2)
        with lock:
            say(); hear()
        lock.release(2)
        """,
    )
    b = holding("syncx.BoundedSemaphore(5, name='s', arena=arena)")
    c = child("s = syncx.BoundedSemaphore(name='s', arena=arena); say(); s.acquire(n=4)")
    c.hear()
    until_waiting(arena)
    seen = expect(
        arena,
        [
            ("s", "BoundedSemaphore", None, "exclusive", 2, "", a.pid, True),
            ("s", "BoundedSemaphore", None, "exclusive", 1, "scoped", a.pid, True),
            ("s", "BoundedSemaphore", None, "exclusive", 1, "", b.pid, True),
        ],
        [("s", "BoundedSemaphore", None, "exclusive", 4, "waiting", 0, c.pid)],
    )
    assert (seen.named("s").parameter, seen.named("s").value) == (5, 1)
    assert seen.waits[0].remaining is None
    assert seen.waits[0].deadline_ns is None


def test_permits_of_a_thread_that_has_ended(arena, child):
    a = child(
        """
        s = syncx.BoundedSemaphore(3, name="s", arena=arena)
        t = threading.Thread(target=s.acquire)
        t.start(); t.join()
        say(); hear()
        """
    )
    a.hear()
    seen = expect(arena, [("s", "BoundedSemaphore", None, "exclusive", 1, "", a.pid, True)])
    assert seen.process(seen.holds[0].process).pid == a.pid
    until(lambda: syncx.snapshot(arena).holds[0].tid is None, "the thread has left the arena")


def test_many_permits(arena):
    """More than are read at once."""
    s = syncx.BoundedSemaphore(10_000, name="s", arena=arena)
    s.acquire(n=9_000)
    seen = expect(arena, [("s", "BoundedSemaphore", None, "exclusive", 9_000, "", os.getpid(), True)])
    assert seen.named("s").value == 1_000
    s.release(9_000)


def test_readers_and_writers(arena, holding, child):
    a = holding(
        "syncx.RWLock('rw', arena=arena)",
        """
        read = eval(expression).read()
        read.acquire(); read.acquire()
        say(); hear()
        read.release(); read.release()
        """,
    )
    b = child(
        "w = syncx.RWLock('rw', arena=arena).write(); say(); w.acquire(); say(); hear(); w.downgrade(); say(); hear()"
    )
    b.hear()
    until_waiting(arena)
    c = child("r = syncx.RWLock('rw', arena=arena).read(); say(); r.acquire(); say(); hear()")
    d = child("w = syncx.RWLock('rw', arena=arena).write(); say(); w.acquire(); say(); hear()")
    c.hear()
    d.hear()
    until_waiting(arena, 3)
    expect(
        arena,
        [
            ("rw", "RWLock", None, "shared", 2, "", a.pid, True),
            ("rw", "RWLock", "writer", "exclusive", 1, "entering", b.pid, True),
        ],
        [
            ("rw", "RWLock", None, "exclusive", 1, "waiting", 0, b.pid),
            ("rw", "RWLock", None, "shared", 1, "waiting", 0, c.pid),
            ("rw", "RWLock", "writer", "exclusive", 1, "waiting", 0, d.pid),
        ],
    )
    a.say()
    b.hear()
    expect(
        arena,
        [("rw", "RWLock", "writer", "exclusive", 1, "", b.pid, True)],
        [
            ("rw", "RWLock", None, "shared", 1, "waiting", 0, c.pid),
            ("rw", "RWLock", "writer", "exclusive", 1, "waiting", 0, d.pid),
        ],
    )
    b.say()
    b.hear()
    c.hear()
    expect(
        arena,
        [
            ("rw", "RWLock", None, "shared", 1, "downgraded", b.pid, True),
            ("rw", "RWLock", None, "shared", 1, "", c.pid, True),
            ("rw", "RWLock", "writer", "exclusive", 1, "entering", d.pid, True),
        ],
        [("rw", "RWLock", None, "exclusive", 1, "waiting", 0, d.pid)],
    )


def test_upgradable(arena, holding, child):
    a = holding("syncx.RWLock('rw', arena=arena).read()")
    b = child("u = syncx.RWLock('rw', arena=arena).upgradable(); u.acquire(); say(); hear(); u.upgrade()")
    b.hear()
    both = [
        ("rw", "RWLock", None, "shared", 1, "", a.pid, True),
        ("rw", "RWLock", "writer", "upgradable", 1, "", b.pid, True),
    ]
    expect(arena, both)
    b.say()
    until_waiting(arena)
    expect(arena, both, [("rw", "RWLock", None, "upgradable", 1, "waiting", 0, b.pid)])


def test_condition(arena, child):
    """Its own lock, and one that it was made with; a waiter that was notified waits for the lock."""
    a = child(
        """
        c = syncx.Condition(name="c", arena=arena)
        with c:
            say(); c.wait()
        """
    )
    a.hear()
    until_waiting(arena)
    expect(arena, [], [("c", "Condition", None, "exclusive", 1, "waiting", 0, a.pid)])
    b = child('c = syncx.Condition(name="c", arena=arena); c.acquire(); say(); hear(); c.notify(); say(); hear()')
    b.hear()
    held = [("c", "Condition", "lock", "exclusive", 1, "", b.pid, True)]
    expect(arena, held, [("c", "Condition", None, "exclusive", 1, "waiting", 0, a.pid)])
    b.say()
    b.hear()
    # the wake-up is sent when the lock is free; a waiter that gets up to look around before waits for the lock then
    seen = syncx.snapshot(arena)
    first, *more = waits(seen)
    assert first == ("c", "Condition", None, "exclusive", 1, "notified", 0, a.pid)
    assert more in ([], [("c", "Condition", "lock", "exclusive", 1, "waiting", 1, a.pid)])
    assert seen.waits[0].holder is None
    m = syncx.Mutex("m", arena=arena)
    other = syncx.Condition(m, name="other", arena=arena)
    seen = syncx.snapshot(arena.path)
    assert seen.named("other").lock == seen.named("m").id
    assert seen.named("c").lock is None
    assert seen.named("other").parameter == 0
    other.close()


def test_barrier(arena, child):
    a = child("b = syncx.Barrier(3, name='b', arena=arena); say(); b.wait()")
    a.hear()
    until_waiting(arena)
    b = child("b = syncx.Barrier(3, name='b', arena=arena); e = b.enroll(); e.__enter__(); say(); hear()")
    b.hear()
    both = [
        ("b", "Barrier", None, "exclusive", 1, "arrived", a.pid, True),
        ("b", "Barrier", None, "exclusive", 1, "enrolled", b.pid, True),
    ]
    seen = expect(arena, both, [("b", "Barrier", None, "exclusive", 1, "waiting", 0, a.pid)])
    assert (seen.named("b").parameter, seen.named("b").value, seen.named("b").broken) == (3, 1, False)
    barrier = syncx.Barrier(3, name="b", arena=arena)
    barrier.abort()
    seen = syncx.snapshot(arena)
    assert (seen.named("b").value, seen.named("b").broken) == (None, True)


def test_once(arena, child):
    code = "o = syncx.Once('o', arena=arena); o.run(lambda: (say(), hear()) and None)"
    a = child(code)
    a.hear()
    b = child("o = syncx.Once('o', arena=arena); say(); o.run(lambda: None)")
    b.hear()
    until_waiting(arena)
    seen = expect(
        arena,
        [("o", "Once", "runner", "exclusive", 1, "", a.pid, True)],
        [("o", "Once", "runner", "exclusive", 1, "waiting", 0, b.pid)],
    )
    assert seen.named("o").value == 0
    a.say()
    a.finish()
    b.finish()
    assert expect(arena).named("o").value == 1


@pytest.mark.parametrize(
    ("make", "wait", "kind", "mode", "units", "value", "parameter"),
    [
        ("syncx.Semaphore(2, name='x', arena=arena)", "x.acquire(n=3)", "Semaphore", "exclusive", 3, 2, 2),
        ("syncx.Event('x', arena=arena)", "x.wait()", "Event", "shared", 1, 0, 0),
        ("syncx.Latch(4, name='x', arena=arena)", "x.wait()", "Latch", "shared", 1, 4, 4),
    ],
)
def test_without_owners(arena, child, make, wait, kind, mode, units, value, parameter):
    a = child(f"x = {make}; say(); {wait}")
    a.hear()
    until_waiting(arena)
    seen = expect(arena, [], [("x", kind, None, mode, units, "waiting", 0, a.pid)])
    assert (seen.named("x").value, seen.named("x").parameter) == (value, parameter)


def test_several_waits_of_a_thread(arena, child):
    """A signal handler that waits inside a wait."""
    a = child(
        """
        c = syncx.Condition(name="c", arena=arena)
        m = syncx.Mutex("m", arena=arena)
        signal.signal(signal.SIGUSR1, lambda *_: m.acquire())
        with c:
            say(); c.wait()
        """
    )
    a.hear()
    until_waiting(arena)
    with syncx.Mutex("m", arena=arena):
        a.process.send_signal(signal.SIGUSR1)
        seen = expect(
            arena,
            [("m", "Mutex", None, "exclusive", 1, "", os.getpid(), True)],
            [
                ("c", "Condition", None, "exclusive", 1, "waiting", 0, a.pid),
                ("m", "Mutex", None, "exclusive", 1, "waiting", 1, a.pid),
            ],
        )
        assert [w.level for w in seen.awaited_by(seen.waits[0].thread)] == [0, 1]


def test_in_the_users_memory(arena):
    """No object of the arena: what is known is the kind, the thread, and who held it."""
    memory = mmap.mmap(-1, 4096)
    m = syncx.Mutex.at(memory, 0, arena=arena)
    rw = syncx.RWLock.at(memory, 1024, arena=arena)
    m.acquire()
    t = threading.Thread(target=lambda: m.acquire(timeout=60) and m.release())
    t.start()
    until_waiting(arena)
    with rw.read():
        seen = expect(
            arena,
            [(None, "RWLock", None, "shared", 1, "", os.getpid(), True)],
            [(None, "Mutex", None, "exclusive", 1, "waiting", 0, os.getpid())],
        )
    (wait,) = seen.waits
    assert seen.objects == ()
    assert seen.participant(wait.holder).tid == threading.get_native_id()
    assert wait.address != 0
    m.release()
    t.join(PATIENCE)


def test_anonymous_and_unlinked(arena):
    nameless, m = syncx.Mutex(arena=arena), syncx.Mutex("m", arena=arena)
    assert [o.name for o in syncx.snapshot(arena).objects] == [None, "m"]
    arena.unlink("m")
    seen = syncx.snapshot(arena)
    assert [(o.name, o.retired) for o in seen.objects] == [(None, False), (None, True)]
    assert seen.problems == ()
    nameless.close()
    m.close()


TO_THE_END = (1 << 63) - 1
RANGE = """
    lock = syncx.RangeLock(path, start, length, shared=shared, style=style, arena=arena)
    lock.acquire(timeout=60)
    say(); hear()
    """


def file_ranges(seen):
    """What is held and awaited of files: (pid, first, last, mode, style, state or None)."""
    held = [(h.pid, h.range.first, h.range.last, h.mode, h.range.style, None) for h in seen.holds]
    awaited = [
        (seen.participant(w.thread).pid, w.range.first, w.range.last, w.mode, w.range.style, w.state)
        for w in seen.waits
    ]
    return sorted(held + awaited, key=repr)


def test_file_ranges(arena, child, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(100))

    def start(start, length, shared, style="ofd"):
        return child(RANGE, path=str(path), start=start, length=length, shared=shared, style=style)

    a, b, c = start(10, 20, False), start(50, 0, True), start(0, 0, True, "flock")
    for x in (a, b, c):
        x.hear()
    d = start(29, 2, True)
    want = [
        (a.pid, 10, 29, "exclusive", "ofd", None),
        (b.pid, 50, TO_THE_END, "shared", "ofd", None),
        (c.pid, 0, TO_THE_END, "shared", "flock", None),
        (d.pid, 29, 30, "shared", "ofd", "waiting"),
    ]
    for source in (arena, arena.path):
        until(lambda source=source: file_ranges(syncx.snapshot(source)) == sorted(want, key=repr), "it waits")
        seen = syncx.snapshot(source)
        assert seen.problems == ()
        st = os.stat(path)
        for row in (*seen.holds, *seen.waits):
            assert (row.range.device, row.range.inode) == (st.st_dev, st.st_ino)
            assert (row.kind, row.object, row.part, row.units) == ("file range", None, None, 1)
        assert all(0 <= h.held < PATIENCE and h.alive for h in seen.holds)
        (wait,) = seen.waits
        assert 0 <= wait.waited <= 60
        assert 0 < wait.remaining <= 60
        assert wait.holder is None
    a.say()
    d.hear()
    until(lambda: not syncx.snapshot(arena).waits, "it has its range")
    assert file_ranges(syncx.snapshot(arena)) == sorted([*want[1:3], (d.pid, 29, 30, "shared", "ofd", None)], key=repr)


# ---- deaths ----------------------------------------------------------------------------------------------------------


@pytest.mark.death
def test_the_dead(arena, holding):
    """Nothing was told to the living yet: a snapshot repairs nothing."""
    a = holding(
        "",
        """
        syncx.Mutex("m", arena=arena).acquire()
        syncx.RLock("r", arena=arena).acquire()
        syncx.RWLock("rw", arena=arena).write().acquire()
        syncx.RWLock("rr", arena=arena).read().acquire()
        syncx.BoundedSemaphore(3, name="s", arena=arena).acquire()
        say(); hear()
        """,
    )
    a.kill()
    seen = expect(
        arena,
        [
            ("m", "Mutex", None, "exclusive", 1, "", a.pid, False),
            ("r", "RLock", None, "exclusive", 1, "", a.pid, False),
            ("rw", "RWLock", "writer", "exclusive", 1, "", a.pid, False),
            ("rr", "RWLock", None, "shared", 1, "", a.pid, False),
            ("s", "BoundedSemaphore", None, "exclusive", 1, "", a.pid, False),
        ],
    )
    assert {o.name: o.owner_died for o in seen.objects} == {"m": True, "r": True, "rw": True, "rr": False, "s": False}
    assert seen.named("s").value == 3
    assert [(p.pid, p.alive) for p in seen.participants] == [(a.pid, False)]
    assert [p.alive for p in seen.processes if p.pid == a.pid] == [False]
    assert seen.counters.deaths == seen.counters.recoveries == 0
    with syncx.Mutex("m", arena=arena):
        pass
    assert not syncx.snapshot(arena).named("m").owner_died
    assert syncx.snapshot(arena).named("m").recoveries == 1


@pytest.mark.death
def test_a_death_that_the_kernel_did_not_mark(arena, child):
    """execve from another thread: the process lives, as another program; the second witness knows."""
    a = child(
        """
        def hold_and_exec():
            syncx.Mutex("m", arena=arena).acquire()
            say()
            os.execv("/bin/sleep", ["sleep", "60"])
        threading.Thread(target=hold_and_exec).start()
        """
    )
    a.hear()
    until(lambda: Path(f"/proc/{a.pid}/comm").read_text() == "sleep\n", "it is another program")
    seen = expect(arena, [("m", "Mutex", None, "exclusive", 1, "", a.pid, False)])
    assert not seen.participants[0].alive
    assert seen.named("m").owner_died


def copy_sparse(source, target):
    """Of an arena's 120 MB, the few that lie somewhere."""
    with open(source, "rb") as old, open(target, "wb") as new:
        size, at = os.fstat(old.fileno()).st_size, 0
        new.truncate(size)
        while True:
            try:
                at = os.lseek(old.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: there is no more
                return target
            end = os.lseek(old.fileno(), at, os.SEEK_HOLE)
            os.pwrite(new.fileno(), os.pread(old.fileno(), end - at, at), at)
            at = end


@pytest.fixture
def image(arena, child, tmp_path):
    """A copy of the file of an arena in use: (path, pid of who uses the original)."""
    a = child("m = syncx.Mutex('m', arena=arena); m.acquire(); say(); hear()")
    a.hear()
    b = child("m = syncx.Mutex('m', arena=arena); say(); m.acquire(timeout=60)")
    b.hear()
    expect(
        arena,
        [("m", "Mutex", None, "exclusive", 1, "", a.pid, True)],
        [("m", "Mutex", None, "exclusive", 1, "waiting", 0, b.pid)],
    )
    path = tmp_path / "image"
    # the wait may have been between two looks around
    until(lambda: copy_sparse(arena.path, path) and syncx.snapshot(path).waits, "the wait is in the copy")
    return path, a.pid


def test_a_copy_of_the_file(image):
    """Nobody is attached to the copy, though the words and pids in it are those of the living."""
    path, pid = image
    seen = syncx.snapshot(path)
    assert seen.this_boot
    assert holds(seen) == [("m", "Mutex", None, "exclusive", 1, "", pid, False)]
    assert not any(p.alive for p in seen.participants + seen.processes)
    assert seen.named("m").owner_died
    assert seen.waits[0].waited is not None


def test_the_file_of_a_dead_machine(image):
    path, pid = image
    with open(path, "r+b") as f:
        f.seek(BOOT_ID)
        f.write(bytes(range(16)))
    seen = syncx.snapshot(path)
    assert not seen.this_boot
    assert seen.problems == ()
    assert holds(seen) == [("m", "Mutex", None, "exclusive", 1, "", pid, False)]
    assert len(seen.participants) == len(seen.processes) - 1 == 2  # and the test's own process
    assert not any(p.alive for p in seen.participants + seen.processes)
    (wait,) = seen.waits
    assert wait.waited is wait.remaining is None  # that machine's clock is gone
    assert wait.since_ns > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_users_arena(child):
    """root may look at anybody's; nobody else may look at root's."""
    a = child(
        """
        import tempfile
        directory = tempfile.mkdtemp(dir="/dev/shm", prefix=PREFIX)
        os.chown(directory, 65534, 65534)
        os.setgid(65534); os.setuid(65534)
        a = syncx.Arena(directory + "/a")
        syncx.Mutex("m", arena=a).acquire()
        say(a.path); hear()
        a.unlink(force=True); os.rmdir(directory)
        """,
        PREFIX=f"syncx-{os.environ['SYNCX_TEST_RUN']}-",
    )
    path = a.hear()
    assert os.stat(path).st_uid == 65534
    assert holds(syncx.snapshot(path)) == [("m", "Mutex", None, "exclusive", 1, "", a.pid, True)]
    a.say()
    a.finish()


def namespaces():
    """Whether a process may make a pid namespace here."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not namespaces(), reason="no pid namespaces may be made here")
@pytest.mark.death
def test_in_another_pid_namespace(arena, child):
    """Its pid means somebody else here, or nobody: the kernel says whether it lives."""
    a = child(
        "syncx.Mutex('m', arena=arena).acquire(); say(os.getpid()); hear()",
        command=("unshare", "--pid", "--fork", "--kill-child", sys.executable),
    )
    assert a.hear() == 1
    seen = expect(arena, [("m", "Mutex", None, "exclusive", 1, "", 1, True)])
    (process,) = (p for p in seen.processes if p.pid == 1)
    assert (process.alive, process.here) == (True, False)
    a.kill()
    expect(arena, [("m", "Mutex", None, "exclusive", 1, "", 1, False)])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_not_ours_to_see(arena, child):
    a = child(
        """
        from syncx import snapshots
        path = arena.path
        arena.close()
        os.setgid(65534); os.setuid(65534)
        try:
            syncx.snapshot(path)
        except PermissionError as e:
            say(e.filename)
        """
    )
    assert a.hear() == arena.path


# ---- of one moment ---------------------------------------------------------------------------------------------------


def cycle(seen, stable=True):
    """A ring of threads, each waiting for a mutex that the next one holds; None: there is none."""
    holder = {h.object: h.thread for h in seen.holds if h.alive and (h.stable or not stable)}
    awaits = {
        w.thread: holder.get(w.object)
        for w in seen.waits
        if w.stable or not stable
        if w.state == "waiting" and seen.participant(w.thread).alive
    }
    for start in awaits:
        ring, at = [], start
        while at in awaits and at not in ring:
            ring.append(at)
            at = awaits[at]
        if at in ring:
            return ring[ring.index(at) :]
    return None


STORM = """
    import random
    rng = random.Random(seed)
    locks = [syncx.Mutex(f"m{i}", arena=arena) for i in range(4)]
    stop = threading.Event()
    def work(rng):
        while not stop.is_set():
            # always upwards: nobody ever waits in a ring
            chosen = sorted(rng.sample(range(4), 2))
            with locks[chosen[0]], locks[chosen[1]]:
                pass
    threads = [threading.Thread(target=work, args=(random.Random(rng.random()),)) for _ in range(3)]
    for t in threads: t.start()
    say(); hear()
    stop.set()
    for t in threads: t.join()
    """


def test_no_ring_that_never_was(arena, child):
    """Processes that lock in order, as fast as they can: what is stable never makes a ring."""
    children = [child(STORM, seed=seed) for seed in range(2)]
    for c in children:
        c.hear()
    waiting = moving = 0
    end = time.monotonic() + PATIENCE
    for i in range(100_000):
        seen = syncx.snapshot(arena if i % 2 else arena.path)
        assert seen.problems == ()
        assert cycle(seen) is None
        waiting += any(w.stable for w in seen.waits)
        moving += not all(p.stable for p in seen.participants)
        assert time.monotonic() < end, (waiting, moving)
        if i >= 500 and waiting >= 20 and moving >= 20:
            break
    for c in children:
        c.say()
        c.finish()


def test_a_ring_is_seen(arena, child):
    """The oracle of the test above."""
    code = """
        a, b = (syncx.Mutex(n, arena=arena) for n in names)
        a.acquire(); say(); hear(); b.acquire(timeout=60)
        """
    children = [child(code, names=names) for names in ("xy", "yx")]
    for c in children:
        c.hear()
    for c in children:
        c.say()
    until(lambda: cycle(syncx.snapshot(arena)), "the ring is seen")
    ring = {syncx.snapshot(arena).participant(t).pid for t in cycle(syncx.snapshot(arena), stable=False) or ()}
    assert ring <= {c.pid for c in children}


# ---- the objects of Python -------------------------------------------------------------------------------------------


def test_json(arena, holding):
    a = holding("syncx.Mutex('ä', arena=arena)")
    seen = expect(arena, [("ä", "Mutex", None, "exclusive", 1, "", a.pid, True)])
    plain = json.loads(seen.to_json())
    assert plain == seen.to_dict() == json.loads(seen.to_json(indent=2))
    assert set(plain) == {
        "path", "id", "abi", "created", "taken", "taken_ns", "this_boot", "witnessed", "retired", "damaged", "counters",
        "orphans", "processes", "participants", "objects", "holds", "waits", "problems",
    }  # fmt: skip
    (hold,), (participant,) = plain["holds"], plain["participants"]
    assert hold["thread"] == participant["id"]
    assert hold["process"] == participant["process"]
    assert int(hold["thread"], 16) == seen.holds[0].thread
    assert hold["object"] == plain["objects"][0]["id"]
    assert plain["objects"][0]["name"] == "ä"
    assert plain["counters"]["names"] == 1
    assert set(plain["objects"][0]) == set(snapshots.ObjectState._fields)
    assert set(hold) == set(snapshots.Hold._fields)


def test_it_does_not_change(arena):
    m = syncx.Mutex("m", arena=arena)
    with m:
        seen = syncx.snapshot(arena)
    with pytest.raises(AttributeError, match="does not change"):
        seen.path = "elsewhere"
    with pytest.raises(AttributeError, match="does not change"):
        del seen.holds
    for row in (seen.holds[0], seen.objects[0], seen.participants[0], seen.processes[0], seen.counters):
        assert isinstance(row, tuple)
        hash(row)
    assert "1 holds" in repr(seen)
    assert not syncx.snapshot(arena).holds
    assert len(seen.holds) == 1


def test_what_there_is_not(arena):
    seen = syncx.snapshot(arena)
    assert seen.named("x") is seen.at(5) is seen.at(None) is seen.participant(1) is seen.process(1) is None
    assert seen.held_by(1) == seen.awaited_by(1) == seen.holders_of(1) == seen.waiters_of(1) == ()


def test_which_arena(arena, tmp_path, monkeypatch):
    """An open one, a name, a path, or the default."""
    name = arena.name
    m = syncx.Mutex("m", arena=arena)
    for source in (arena, name, arena.path, Path(arena.path)):
        assert syncx.snapshot(source).named("m") is not None
    syncx.Mutex("d")
    assert syncx.snapshot().path == syncx.default_arena().path
    assert syncx.snapshot().named("d") is not None
    syncx.default_arena().unlink("d")
    done = subprocess.run(
        [sys.executable, "-c", "import syncx; print(syncx.snapshot().path); print(syncx.arena._default)"],
        env={**os.environ, "SYNCX_ARENA": arena.path},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout.splitlines() == [arena.path, "None"], done.stderr  # not even the default one is attached to
    m.close()


def test_wrong_arguments(arena, tmp_path):
    with pytest.raises(FileNotFoundError):
        syncx.snapshot(tmp_path / "none")
    for wrong in (5, b"name", object()):
        with pytest.raises(TypeError):
            syncx.snapshot(wrong)
    with pytest.raises(ValueError, match="directory"):
        syncx.snapshot("/tmp/")
    closed = syncx.Arena(arena.path)
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        syncx.snapshot(closed)
    for path in (tmp_path, "/dev/null"):
        with pytest.raises((syncx.ArenaError, IsADirectoryError)):
            syncx.snapshot(path)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(syncx.ArenaError):
        syncx.snapshot(fifo)
    link = tmp_path / "link"
    link.symlink_to(arena.path)
    with pytest.raises(OSError, match="symbolic link"):
        syncx.snapshot(link)


def test_after_a_fork(arena, child):
    a = child(
        """
        m = syncx.Mutex("m", arena=arena)
        m.acquire()
        pid = os.fork()
        if pid == 0:
            s = syncx.snapshot(arena)
            os._exit(0 if [h.pid for h in s.holds] == [os.getppid()] else 1)
        say(wait_for(pid)); hear()
        """
    )
    assert a.hear() == 0


def test_an_arena_that_was_unlinked(arena, child):
    """Those who use it still can be seen from among them."""
    mine = syncx.Arena(arena.name)
    m = syncx.Mutex("m", arena=mine)
    m.acquire()
    arena.unlink(force=True)
    seen = syncx.snapshot(mine)
    assert seen.retired
    assert seen.named("m").retired
    assert [h.pid for h in seen.holds] == [os.getpid()]
    with pytest.raises(FileNotFoundError):
        syncx.snapshot(arena.path)
    m.release()
    mine.close()
