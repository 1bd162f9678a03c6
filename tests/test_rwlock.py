"""RWLock: many readers or one writer, in every placement, between threads and processes."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import pickle
import signal
import threading
import weakref

import pytest
from support import PATIENCE, Place, until, until_waiting, waiters
from test_mutex import held_elsewhere, in_thread

import syncx
from syncx import _core

VIEWS = ("read", "write", "upgradable")


@pytest.fixture
def rw(place: Place):
    return place.new(syncx.RWLock)


@pytest.fixture
def lock(arena):
    """Where the placement makes no difference."""
    return syncx.RWLock("lock", arena=arena)


def start(call, *args):
    """A thread that runs the call; its list has the result once it ended."""
    result = []
    t = threading.Thread(target=lambda: result.append(call(*args)))
    t.start()
    return t, result


def join(t):
    t.join(PATIENCE)
    assert not t.is_alive()


def present(lock):
    """Is a writer inside, or does it wait for the readers?  Then a new reader is refused."""
    return not in_thread(try_and_release, lock.read())


def try_and_release(view):
    got = view.acquire(False)
    if got:
        view.release()
    return got


# ---- who keeps whom out ---------------------------------------------------------------------------------------------

# what another thread may have at once beside it
BESIDE = {
    "read": {"read": True, "write": False, "upgradable": True},
    "write": {"read": False, "write": False, "upgradable": False},
    "upgradable": {"read": True, "write": False, "upgradable": False},
}


@pytest.mark.parametrize("mine", VIEWS)
def test_who_may_be_beside_whom(rw, mine):
    with getattr(rw, mine)() as view:
        assert view is getattr(rw, mine)()
        assert view.locked()
        assert {theirs: in_thread(try_and_release, getattr(rw, theirs)()) for theirs in VIEWS} == BESIDE[mine]
    assert all(in_thread(try_and_release, getattr(rw, theirs)()) for theirs in VIEWS)
    assert not view.locked()


@pytest.mark.parametrize("mine", VIEWS)
def test_who_may_be_beside_whom_in_another_process(rw, place, child, mine):
    with getattr(rw, mine)():
        c = child(
            """
            rw = open_lock(recipe)
            view = lambda which: getattr(rw, which)()
            say({which: view(which).acquire(False) for which in ("write", "upgradable", "read")})
            """,
            recipe=place.recipe(rw),
        )
        assert c.hear() == BESIDE[mine]
        c.finish()
    assert rw.readers == ()
    assert rw.writer is None


def test_upgraded_keeps_everybody_out(rw):
    with rw.upgradable() as u:
        assert u.upgrade() is True
        assert rw.write().locked()
        assert u.locked()
        assert u.upgrade() is True  # it is the writer already
        assert not any(in_thread(try_and_release, getattr(rw, theirs)()) for theirs in VIEWS)
        u.downgrade()
        assert not rw.write().locked()
        assert u.locked()
        assert in_thread(try_and_release, rw.read())
        assert u.upgrade(timeout=0)
    assert not u.locked()
    assert not rw.write().locked()
    assert in_thread(try_and_release, rw.write())


def test_downgraded_writer_is_a_reader_to_the_end_of_its_with(rw):
    with rw.write() as w:
        w.downgrade()
        assert not w.locked()
        assert rw.read().locked()
        assert len(rw.readers) == 1
        assert rw.writer is None
        assert in_thread(try_and_release, rw.read())
        assert not in_thread(try_and_release, rw.write())
        with pytest.raises(syncx.NotOwner):
            rw.read().release()  # that hold is the view's that wrote
        with pytest.raises(syncx.NotOwner):
            w.downgrade()
        with rw.read():
            assert len(rw.readers) == 1
        assert w._is_owned()
    assert rw.readers == ()
    assert in_thread(try_and_release, rw.write())


def test_downgrade_inside_a_nested_read_order(lock):
    w = lock.write()
    w.acquire()
    w.downgrade()
    lock.read().acquire()
    w.release()
    assert len(lock.readers) == 1
    with pytest.raises(syncx.NotOwner):
        w.release()
    lock.read().release()
    assert lock.readers == ()


def test_no_writer_comes_in_between_a_downgrade(lock, arena):
    with lock.write() as w:
        t, got = start(lock.write().acquire, True, PATIENCE)
        until_waiting(arena)
        w.downgrade()
        until(lambda: present(lock), "the writer waits for us to have read")
        assert not got
    until(lambda: got, "the writer is in")
    join(t)


def test_reading_again(rw):
    read = rw.read()
    with read, read, read:
        assert len(rw.readers) == 1
        assert not in_thread(try_and_release, rw.write())
    assert try_and_release(rw.write())


def test_reading_again_though_a_writer_waits(rw, arena):
    """A new reader is kept out by a writer that waits; one that reads already is not, or both would wait for ever."""
    with rw.read():
        t, got = start(rw.write().acquire, True, PATIENCE)
        until(lambda: present(rw), "the writer waits")
        with rw.read():
            assert rw.read().acquire(False)
            rw.read().release()
        assert not got
    until(lambda: got == [True], "the writer is in")
    join(t)


# ---- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mine", VIEWS)
@pytest.mark.parametrize("then", VIEWS)
def test_a_wait_for_oneself(rw, mine, then):
    if (mine, then) in {("read", "read"), ("upgradable", "read")}:
        with getattr(rw, mine)(), getattr(rw, then)():
            assert len(rw.readers) == 1
        return
    view = getattr(rw, then)()
    with getattr(rw, mine)():
        with pytest.raises(syncx.DeadlockError, match="this thread"):
            view.acquire()
        with pytest.raises(syncx.DeadlockError), view:
            raise AssertionError("the body runs")
        assert view.acquire(False) is False
        assert view.acquire(timeout=0.01) is False
        with pytest.raises(syncx.Timeout), view.within(0.01):
            raise AssertionError("the body runs")
    assert try_and_release(view)


def test_upgrade_of_a_plain_reader_explains(rw):
    with rw.read() as r, pytest.raises(RuntimeError, match=r"upgradable\(\)"):
        r.upgrade()
    with rw.read(), pytest.raises(syncx.NotOwner):
        rw.upgradable().upgrade()


def test_upgrade_by_two_readers(lock):
    """Only one can be upgradable: the other is refused before they wait for each other."""
    with held_elsewhere(lock.upgradable()), lock.read():
        with pytest.raises(syncx.DeadlockError):
            lock.upgradable().acquire()
        assert lock.upgradable().acquire(timeout=0.01) is False


def test_upgrade_while_reading_too(rw):
    with rw.upgradable() as u, rw.read():
        with pytest.raises(syncx.DeadlockError):
            u.upgrade()
        assert u.upgrade(timeout=0.01) is False
        assert in_thread(try_and_release, rw.read())


def test_upgrade_in_vain_leaves_an_upgradable_reader(rw):
    with held_elsewhere(rw.read()), rw.upgradable() as u:
        assert u.upgrade(0) is False
        assert u.upgrade(timeout=0.01) is False
        assert u.locked()
        assert not rw.write().locked()
        assert in_thread(try_and_release, rw.read())
        assert not in_thread(try_and_release, rw.upgradable())


@pytest.mark.parametrize("which", VIEWS)
def test_release_of_what_is_not_held(rw, which):
    view = getattr(rw, which)()
    with pytest.raises(syncx.NotOwner):
        view.release()
    with view, pytest.raises(syncx.NotOwner):
        in_thread(view.release)
    for mine in VIEWS:
        if mine != which:
            with getattr(rw, mine)(), pytest.raises(syncx.NotOwner):
                view.release()


def test_downgrade_of_what_is_not_held(rw):
    for view in (rw.write(), rw.upgradable()):
        with pytest.raises(syncx.NotOwner):
            view.downgrade()
        with rw.read(), pytest.raises(syncx.NotOwner):
            view.downgrade()
    with rw.upgradable() as u, pytest.raises(RuntimeError, match="not upgraded"):
        u.downgrade()


def test_bad_arguments(lock):
    for which in VIEWS:
        method = getattr(lock, which)
        with pytest.raises(TypeError, match="timeout"):
            method(1, 2)
        with pytest.raises(TypeError, match="timeout"):
            method(patience=1)
        for bad, error in ((-2, ValueError), (float("nan"), ValueError), ("1", TypeError)):
            with pytest.raises(error):
                method(bad)
        with pytest.raises(OverflowError), method(1e30):
            raise AssertionError("the body runs")
        with pytest.raises(ValueError):
            method().acquire(False, 1)
        with pytest.raises(TypeError):
            method().acquire(n=1)
    with pytest.raises(TypeError, match="upgrade"):
        lock.upgradable().upgrade(1, 2)
    with pytest.raises(ValueError):
        lock.upgradable().upgrade(-2)
    with pytest.raises(ValueError, match="on_owner_death"):
        syncx.RWLock("x", arena=lock.arena, on_owner_death="panic")
    with pytest.raises(TypeError):
        syncx.RWLock("x", arena=lock.arena, on_owner_death=7)
    with pytest.raises(TypeError):
        syncx.RWLock(7, arena=lock.arena)


def test_another_kind_of_object(arena):
    syncx.Mutex("a", arena=arena)
    syncx.RWLock("b", arena=arena)
    with pytest.raises(ValueError, match="Mutex"):
        syncx.RWLock("a", arena=arena)
    with pytest.raises(ValueError, match="RWLock"):
        syncx.Mutex("b", arena=arena)


def test_as_many_read_locks_as_a_thread_may_have(arena):
    locks = [syncx.RWLock(arena=arena) for _ in range(_core.MAX_MARKS + 1)]
    with contextlib.ExitStack() as stack:
        for rw in locks[:-1]:
            stack.enter_context(rw.read())
        assert all(len(rw.readers) == 1 for rw in locks[:-1])
        with pytest.raises(RuntimeError, match=str(_core.MAX_MARKS)):
            locks[-1].read().acquire()
        with pytest.raises(RuntimeError, match=str(_core.MAX_MARKS)), locks[-1].read():
            raise AssertionError("the body runs")
        with locks[-1].write() as w:
            with pytest.raises(RuntimeError, match=str(_core.MAX_MARKS)):
                w.downgrade()
            assert w.locked()
        assert in_thread(try_and_release, locks[-1].read())
        with locks[3].read():
            assert len(locks[3].readers) == 1
    assert not any(rw.readers for rw in locks)
    assert try_and_release(locks[-1].read())


# ---- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", VIEWS)
def test_timeouts(rw, which):
    view = getattr(rw, which)()
    with held_elsewhere(rw.write()):
        assert view.acquire(timeout=0.01) is False
        assert view.acquire(timeout=0) is False
        with pytest.raises(syncx.Timeout, match="within"), getattr(rw, which)(timeout=0.01):
            raise AssertionError("the body runs")
    with getattr(rw, which)(5) as got:
        assert got is view
        assert view.locked()
    with getattr(rw, which)(timeout=-1) as got:
        assert got is view
    assert getattr(rw, which)(None) is view


def test_the_locks_own_timeout(arena):
    rw = syncx.RWLock("t", arena=arena, timeout=0.01)
    assert rw.timeout == 0.01
    with held_elsewhere(rw.write()):
        for which in VIEWS:
            with pytest.raises(syncx.Timeout), getattr(rw, which)():
                raise AssertionError("the body runs")


def test_a_writer_that_gives_up_lets_the_readers_in(lock, arena):
    with lock.read():
        t, got = start(lock.write().acquire, True, 0.3)
        until(lambda: present(lock), "the writer waits")
        t2, read = start(lock.read().acquire, True, PATIENCE)
        join(t)
        assert got == [False]
        join(t2)
        assert read == [True]


# ---- fairness, counted by turns -------------------------------------------------------------------------------------


@pytest.fixture
def events():
    return []


def test_a_writer_goes_before_readers_that_come_later(lock, arena, events):
    with lock.read():

        def write():
            with lock.write():
                events.append("write")

        def read():
            with lock.read():
                events.append("read")

        w, _ = start(write)
        until(lambda: present(lock), "the writer waits")
        readers = [start(read)[0] for _ in range(3)]
        until_waiting(arena, 4)
        assert events == []
    for t in [w, *readers]:
        join(t)
    assert events == ["write", "read", "read", "read"]


def test_readers_that_wait_go_before_the_next_writer(lock, arena, events):
    """And before the same one again, which need not be woken and would be faster."""
    lock.write().acquire()

    def read():
        with lock.read():
            events.append("read")

    readers = [start(read)[0] for _ in range(3)]
    until_waiting(arena, 3)
    lock.write().release()
    with lock.write():
        events.append("write")
    for t in readers:
        join(t)
    assert sorted(events[:3]) == ["read"] * 3
    assert events[3] == "write"


def test_neither_side_starves_under_pressure(lock, child):
    """Readers that overlap without a gap, and writers that write again and again: everybody comes to an end.

    A lock that prefers one side would keep the other waiting until the test's patience is over.
    """
    code = """
        rw = syncx.RWLock("lock", arena=syncx.Arena(ARENA))
        import threading
        stop = threading.Event()
        def press():
            while not stop.is_set():
                with getattr(rw, which)():
                    os.sched_yield()
        threads = [threading.Thread(target=press) for _ in range(3)]
        [t.start() for t in threads]
        say("pressing"); hear(); stop.set()
        [t.join() for t in threads]
        """
    for which, other in (("read", lock.write()), ("write", lock.read())):
        cs = [child("import os\n" + "\n".join(line[8:] for line in code.splitlines()), which=which) for _ in range(2)]
        for c in cs:
            assert c.hear() == "pressing"
        for _ in range(50):
            assert other.acquire(timeout=PATIENCE)
            other.release()
        for c in cs:
            c.say()
            c.finish()


# ---- exclusion ------------------------------------------------------------------------------------------------------


class BlindReader:
    """A broken twin: reads without a mark."""

    def __init__(self, rw):
        self.rw = rw

    def read(self):
        return contextlib.nullcontext()

    def write(self):
        return self.rw.write()


class HastyWriter:
    """A broken twin: does not wait for those who read."""

    def __init__(self, rw):
        self.rw = rw

    def read(self):
        return self.rw.read()

    def write(self):
        return self.rw.upgradable()


def torn_reads(rw, readers=3, writers=2, each=400):
    """Writers keep two numbers equal, in two steps; how often did readers, or the count, see a step between?"""
    pair = [0, 0]
    torn = []

    def write():
        for _ in range(each):
            with rw.write():
                pair[0] += 1
                os.sched_yield()
                pair[1] = pair[0]

    def read():
        while pair[0] < writers * each and not torn:
            with rw.read():
                a = pair[0]
                os.sched_yield()
                if a != pair[1]:
                    torn.append((a, pair[1]))

    threads = [threading.Thread(target=write) for _ in range(writers)]
    threads += [threading.Thread(target=read) for _ in range(readers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(2 * PATIENCE)
        assert not t.is_alive()
    return len(torn) + abs(pair[0] - writers * each)


def test_no_torn_reads_in_threads(lock):
    assert torn_reads(lock) == 0


@pytest.mark.parametrize("twin", [BlindReader, HastyWriter])
def test_the_oracle_condemns_the_broken_twins(lock, twin):
    until(lambda: torn_reads(twin(lock)) > 0, "a torn read is seen")


def test_no_torn_reads_between_processes(rw, place, child, tmp_path):
    path = tmp_path / "pair"
    path.write_bytes(bytes(16))
    code = """
        import os, struct
        rw = open_lock(recipe)
        with open(path, "r+b", buffering=0) as f:
            torn = 0
            for i in range(300):
                if (i + number) % 3 == 0:
                    with rw.write():
                        n, = struct.unpack("<q", os.pread(f.fileno(), 8, 0))
                        os.pwrite(f.fileno(), struct.pack("<q", n + 1), 0)
                        os.sched_yield()
                        os.pwrite(f.fileno(), struct.pack("<q", n + 1), 8)
                else:
                    with rw.read():
                        a = os.pread(f.fileno(), 8, 0)
                        os.sched_yield()
                        torn += a != os.pread(f.fileno(), 8, 8)
            say(torn)
        """
    cs = [child(code, recipe=place.recipe(rw), path=str(path), number=i) for i in range(3)]
    assert [c.hear() for c in cs] == [0, 0, 0]
    for c in cs:
        c.finish()
    assert path.read_bytes() == (300).to_bytes(8, "little") * 2


def test_a_hundred_readers(lock):
    inside, leave = threading.Barrier(101), threading.Event()

    def read():
        with lock.read():
            inside.wait(PATIENCE)
            leave.wait(PATIENCE)

    threads = [threading.Thread(target=read) for _ in range(100)]
    for t in threads:
        t.start()
    inside.wait(PATIENCE)
    assert len(lock.readers) == 100
    assert len({r.tid for r in lock.readers}) == 100
    assert lock.write().acquire(timeout=0.01) is False
    leave.set()
    assert lock.write().acquire(timeout=PATIENCE)
    lock.write().release()
    for t in threads:
        join(t)


# ---- deaths ---------------------------------------------------------------------------------------------------------

HOLD = "rw = open_lock(recipe); getattr(rw, which)().acquire(); say('in'); hear()"


@pytest.mark.death
@pytest.mark.parametrize("which", ["read", "upgradable"])
def test_a_dead_reader_blocks_nobody_and_tears_nothing(rw, place, child, which, caplog):
    c = child(HOLD, recipe=place.recipe(rw), which=which)
    c.hear()
    assert (len(rw.readers) == 1) == (which == "read")
    t, got = start(rw.write().acquire, True, PATIENCE)
    until(lambda: waiters(rw.arena) == 1, "the writer waits")
    c.kill()
    join(t)
    assert got == [True]
    assert rw.readers == ()
    until(lambda: try_and_release(rw.write()), "the thread that wrote has ended without leaving")
    with caplog.at_level(logging.WARNING, "syncx"), rw.upgradable() as u:
        assert rw.owner_died is False
        assert u.owner_died is False


@pytest.mark.death
@pytest.mark.parametrize("reader_first", [False, True])
def test_a_writer_after_a_dead_writer_sees_it(rw, place, child, caplog, reader_first):
    c = child(HOLD, recipe=place.recipe(rw), which="write")
    c.hear()
    if reader_first:
        t, _got = start(lambda: rw.read().acquire(True, PATIENCE) and rw.read().release())
        until_waiting(rw.arena)
    c.kill()
    assert rw.owner_died is True
    assert rw.writer is None
    if reader_first:
        join(t)
        assert rw.owner_died is True
    with rw.read():
        assert rw.owner_died is True
    seen = []
    with pytest.raises(KeyError), rw.write() as w:
        raise KeyError(seen.append(w.owner_died))
    assert seen == [True]
    with rw.write() as w:
        assert w.owner_died is True  # the body before this one raised
    assert rw.owner_died is False
    with rw.write() as w:
        assert w.owner_died is False
    assert f"process {c.pid}" in caplog.text
    assert "RWLock" in caplog.text
    assert rw.statistics()["recoveries"] == 1


@pytest.mark.death
def test_a_dead_writer_that_waited_for_readers_tears_nothing(rw, place, child):
    with rw.read():
        c = child(HOLD, recipe=place.recipe(rw), which="write")
        until(lambda: present(rw), "the writer waits")
        assert rw.writer is None
        assert not rw.write().locked()
        c.kill()
        assert in_thread(lambda: rw.read().acquire(True, PATIENCE) and rw.read().release() is None)
        assert rw.owner_died is False
    with rw.write() as w:
        assert w.owner_died is False


@pytest.mark.death
def test_a_dead_upgraded_reader_is_a_dead_writer(rw, place, child):
    code = "rw = open_lock(recipe); u = rw.upgradable(); u.acquire(); u.upgrade(); say('in'); hear()"
    c = child(code, recipe=place.recipe(rw))
    c.hear()
    c.kill()
    with rw.upgradable() as u:
        assert u.owner_died is True
    assert rw.owner_died is True  # who only reads declares nothing
    with rw.upgradable() as u:
        assert u.upgrade()
        assert u.owner_died
    assert rw.owner_died is False


@pytest.mark.death
@pytest.mark.parametrize("policy", ["raise", "ignore", "callable"])
def test_policies_after_a_death(rw, place, child, policy):
    c = child(HOLD, recipe=place.recipe(rw), which="write")
    c.hear()
    c.kill()
    repaired = []
    option = repaired.append if policy == "callable" else policy
    if place.how == "anonymous":
        again = pickle.loads(pickle.dumps(rw))
        again._set_options(None, option)
    else:
        again = place.again(rw, on_owner_death=option)
    assert again.on_owner_death is option
    if policy == "raise":
        for view in (again.write(), again.upgradable()):
            with pytest.raises(syncx.OwnerDiedError), view:
                raise AssertionError("the body runs")
        with again.read():
            assert again.owner_died is True
        assert again.write().recover() is True
        again.write().release()
    else:
        with again.write() as w:
            assert w.owner_died is False
        assert repaired == ([again.write()] if policy == "callable" else [])
    assert again.owner_died is False
    again.close()


@pytest.mark.death
def test_a_downgraded_writer_dies_as_a_reader(rw, place, child):
    code = "rw = open_lock(recipe); w = rw.write(); w.acquire(); w.downgrade(); say('in'); hear()"
    c = child(code, recipe=place.recipe(rw))
    c.hear()
    c.kill()
    assert rw.write().acquire(timeout=PATIENCE)
    assert rw.write().owner_died is False
    rw.write().release()


@pytest.mark.death
def test_many_dead_readers_free_the_writer(lock, child):
    code = """
        import threading
        rw = syncx.RWLock("lock", arena=syncx.Arena(ARENA))
        inside = threading.Barrier(41)
        def read():
            rw.read().acquire(); inside.wait(); threading.Event().wait()
        for _ in range(40):
            threading.Thread(target=read, daemon=True).start()
        inside.wait(); say("in"); hear()
        """
    cs = [child(code) for _ in range(4)]  # more than one sleep can watch
    for c in cs:
        c.hear()
    assert len(lock.readers) == 160
    t, got = start(lock.write().acquire, True, PATIENCE)
    until(lambda: present(lock), "the writer waits")
    for c in cs:
        assert not got
        c.kill()
    join(t)
    assert got == [True]


@pytest.mark.death
def test_a_threads_end_ends_its_reads(rw):
    in_thread(rw.read().acquire)
    assert rw.write().acquire(timeout=PATIENCE)
    rw.write().release()


@pytest.mark.death
def test_killed_at_random(lock, child, tmp_path):
    """Readers and writers of several processes, killed again and again: no torn read is seen where the mark does not
    say so, and whoever is left goes on."""
    path = tmp_path / "pair"
    path.write_bytes(bytes(16))
    code = """
        import os
        rw = syncx.RWLock("lock", arena=syncx.Arena(ARENA), on_owner_death="ignore")
        f = os.open(path, os.O_RDWR)
        number = lambda at: int.from_bytes(os.pread(f, 8, at), "little")
        say("up")
        i = 0
        while True:
            i += 1
            if i % 3 == 0:
                with rw.write():
                    n = max(number(0), number(8)) + 1  # repairs what a dead one left
                    os.pwrite(f, n.to_bytes(8, "little"), 0)
                    os.sched_yield()
                    os.pwrite(f, n.to_bytes(8, "little"), 8)
            elif i % 3 == 1:
                with rw.read():
                    a = number(0)
                    os.sched_yield()
                    b = number(8)
                    if a != b and not rw.owner_died:
                        say([a, b])
                        break
            else:
                with rw.upgradable() as u:
                    if u.upgrade(timeout=0.001):
                        u.downgrade()
        """
    import random

    rng = random.Random(7)
    cs = [child(code, path=str(path)) for _ in range(3)]
    for c in cs:
        assert c.hear() == "up"
    for _ in range(12):
        before = path.read_bytes()
        until(lambda before=before: path.read_bytes() != before, "those who are left write on")
        i = rng.randrange(3)
        for _ in range(rng.randrange(200)):
            os.sched_yield()
        cs[i].kill()
        assert cs[i]._buffer == b"", cs[i]._buffer
        assert lock.read().acquire(timeout=PATIENCE)
        lock.read().release()
        cs[i] = child(code, path=str(path))
        assert cs[i].hear() == "up"
    for c in cs:
        c.kill()
        with pytest.raises(AssertionError, match="ended"):  # and it had said nothing: no torn read
            c.hear()
    assert lock.write().acquire(timeout=PATIENCE)
    lock.write().release()


# ---- fork, signals, unlinking ---------------------------------------------------------------------------------------


def test_a_forked_child_holds_nothing(rw, place, child):
    for which in VIEWS:
        c = child(
            """
            rw = open_lock(recipe)
            view = getattr(rw, which)()
            with view:
                pid = os.fork()
                if pid == 0:
                    try:
                        view.release()
                        os._exit(1)
                    except syncx.NotOwner:
                        os._exit(0 if view.acquire(False) == (which == "read") else 2)
                say(wait_for(pid))
                say(view.locked())
            """,
            recipe=place.recipe(rw),
            which=which,
        )
        assert c.hear() == 0
        assert c.hear() is True
        c.finish()


@pytest.mark.death
@pytest.mark.parametrize("which", VIEWS)
def test_a_signal_handler_that_forks_raises_or_reads(lock, arena, child, which):
    """Inside a wait: the child that it forks goes on waiting as itself, and its parent is none the worse."""
    code = """
        import signal
        rw = syncx.RWLock("lock", arena=syncx.Arena(ARENA))
        children = []
        def fork(*_):
            children.append(os.fork())
        def read(*_):
            say(["read", rw.read().acquire(False)])
        class Stop(Exception): pass
        def stop(*_):
            raise Stop
        signal.signal(signal.SIGUSR1, fork)
        signal.signal(signal.SIGALRM, read)
        signal.signal(signal.SIGTERM, stop)
        say("up")
        try:
            getattr(rw, which)().acquire()
        except Stop:
            say("stopped")
            os._exit(0)
        say("in")
        getattr(rw, which)().release()
        if children[0]:
            say(wait_for(children[0]))
        os._exit(0)
        """
    with lock.write():
        c = child(code, which=which)
        assert c.hear() == "up"
        until_waiting(arena)
        os.kill(c.pid, signal.SIGALRM)
        assert c.hear() == ["read", False]
        until_waiting(arena)
        os.kill(c.pid, signal.SIGUSR1)
        until_waiting(arena, 2)
    assert [c.hear(), c.hear()] == ["in", "in"]
    assert c.hear() == 0
    c.finish()
    with lock.write():
        c = child(code, which=which)
        assert c.hear() == "up"
        until_waiting(arena)
        os.kill(c.pid, signal.SIGTERM)
        assert c.hear() == "stopped"
        c.finish()
    assert lock.write().acquire(timeout=PATIENCE)
    lock.write().release()


@pytest.mark.parametrize("which", ["write", "upgradable"])
def test_a_signal_handler_gives_nothing_back_that_its_thread_still_waits_for(lock, arena, child, which):
    """A writer that waits for readers to leave would go in among them."""
    lock.read().acquire()
    c = child(
        """
        import signal
        rw = syncx.RWLock("lock", arena=arena)
        view = getattr(rw, which)()
        def handler(*_):
            refused = 0
            for what in calls:
                try:
                    getattr(view, what)()
                except syncx.NotOwner:
                    refused += 1
            say(refused)
        signal.signal(signal.SIGUSR1, handler)
        view.acquire()
        if which == "upgradable":
            say(view.upgrade())
        else:
            say(True)
        hear()
        view.release()
        """,
        which=which,
        calls=["release", "downgrade"] if which == "write" else ["release", "downgrade", "upgrade"],
    )
    until_waiting(arena)
    os.kill(c.pid, signal.SIGUSR1)
    assert c.hear() == (2 if which == "write" else 3)
    lock.read().release()
    assert c.hear() is True
    assert lock.write().locked()
    assert lock.read().acquire(False) is False
    c.say()
    c.finish()
    assert try_and_release(lock.write())


def test_a_signal_handler_reads_while_its_thread_waits_to_read(lock, arena, child):
    """The writer that the outer wait was for has gone and the next one counts that wait: the handler gets in too."""
    code = """
        import signal
        rw = syncx.RWLock("lock", arena=syncx.Arena(ARENA))
        def read(*_):
            say("handler"); hear()
            with rw.read(timeout=20):
                say("handler reads")
        signal.signal(signal.SIGUSR1, read)
        say("up")
        with rw.read():
            say("reads")
        """
    lock.write().acquire()
    c = child(code)
    assert c.hear() == "up"
    until_waiting(arena)
    os.kill(c.pid, signal.SIGUSR1)
    assert c.hear() == "handler"
    lock.write().release()
    t, got = start(lambda: lock.write().acquire(True, PATIENCE) and lock.write().release() is None)
    until_waiting(arena)
    c.say()
    assert [c.hear(), c.hear()] == ["handler reads", "reads"]
    c.finish()
    join(t)
    assert got == [True]


@pytest.mark.parametrize("which", VIEWS)
def test_unlinked_while_they_wait(arena, which):
    rw = syncx.RWLock("gone", arena=arena)
    with rw.write():

        def wait():
            try:
                getattr(rw, which)().acquire()
            except syncx.Gone:
                return "gone"

        t, got = start(wait)
        until_waiting(arena)
        arena._unlink_name("gone", True)
        join(t)
        assert got == ["gone"]
    for view in VIEWS:
        with pytest.raises(syncx.Gone):
            getattr(rw, view)().acquire()


def test_unlinked_while_a_writer_waits_for_readers(arena):
    rw = syncx.RWLock("gone", arena=arena)
    with rw.read():

        def wait():
            try:
                rw.write().acquire()
            except syncx.Gone:
                return "gone"

        t, got = start(wait)
        until_waiting(arena)
        arena._unlink_name("gone", True)
        join(t)
        assert got == ["gone"]


def test_unlinking_is_refused_while_somebody_reads(arena, child):
    c = child(
        'rw = syncx.RWLock("used", arena=syncx.Arena(ARENA)); rw.read().acquire(); say(); hear(); rw.read().release()'
    )
    c.hear()
    with pytest.raises(syncx.InUse):
        arena._unlink_name("used", False)
    c.say()
    c.finish()


# ---- objects --------------------------------------------------------------------------------------------------------


def test_readers_and_writer_say_who(rw, place, child):
    with rw.read():
        assert rw.readers == (syncx.Holder(os.getpid(), threading.get_native_id()),)
        assert rw.writer is None
        c = child(HOLD, recipe=place.recipe(rw), which="read")
        c.hear()
        assert {r.pid for r in rw.readers} == {os.getpid(), c.pid}
        c.say()
        c.end()
    with rw.write():
        assert rw.writer == syncx.Holder(os.getpid(), threading.get_native_id())
        assert rw.readers == ()


def test_repr(lock):
    assert repr(lock) == "<syncx.RWLock 'lock' unlocked>"
    with lock.read() as r:
        assert repr(lock) == "<syncx.RWLock 'lock' 1 reading>"
        assert repr(r) == "<syncx.RWLock 'lock' for reading locked>"
    with lock.write() as w:
        assert "written by this process" in repr(lock)
        assert "locked by this process" in repr(w)
    with lock.upgradable():
        assert "upgradable reader this process" in repr(lock)
    lock.close()
    assert repr(lock) == "<syncx.RWLock 'lock' closed>"


def test_objects_lists_readers_and_writers(lock, arena):
    with lock.read(), held_elsewhere(lock.read()):
        (info,) = arena.objects()
        assert info.kind == "RWLock"
        assert len(info.holders) == 2
        assert info.value is None
    with lock.write():
        (info,) = arena.objects()
        assert info.holders == (syncx.Holder(os.getpid(), threading.get_native_id()),)


def test_pickling(rw, place):
    if place.how not in ("named", "anonymous"):
        with pytest.raises(TypeError):
            pickle.dumps(rw)
        return
    again = pickle.loads(pickle.dumps(rw))
    with rw.read():
        assert len(again.readers) == 1
        view = pickle.loads(pickle.dumps(again.write()))
        assert in_thread(view.acquire, False) is False
        view.close()
    assert type(again.read()) is type(rw.read())
    again.close()


def test_close(rw):
    read, write = rw.read(), rw.write()
    for which in VIEWS:
        with getattr(rw, which)(), pytest.raises(RuntimeError, match="held by this thread"):
            rw.close()
        with held_elsewhere(getattr(rw, which)()), pytest.raises(RuntimeError, match="another thread"):
            rw.close()
    with held_elsewhere(rw.write()):
        t, _got = start(read.acquire, True, PATIENCE)
        until_waiting(rw.arena)
        with pytest.raises(RuntimeError, match="another thread"):
            rw.close()
    join(t)
    until(lambda: try_and_release(write), "that reader's thread has ended")
    rw.close()
    rw.close()
    assert rw.closed
    assert read.closed
    assert write.closed
    for call in (rw.read, rw.write, rw.upgradable, read.acquire, write.acquire, read.release, rw.statistics):
        with pytest.raises(ValueError, match="closed"):
            call()
    with pytest.raises(ValueError, match="closed"):
        rw.readers  # noqa: B018


test_close = pytest.mark.death(test_close)  # a thread ends with the lock held


def test_a_view_outlives_its_lock(arena):
    with syncx.RWLock("brief", arena=arena).read() as r:
        gc.collect()
        assert r.locked()
        assert len(syncx.RWLock("brief", arena=arena).readers) == 1
    assert not r.locked()


def test_no_cycle(arena):
    gc.disable()
    try:
        rw = syncx.RWLock(arena=arena)
        gone = [weakref.ref(rw), *(weakref.ref(getattr(rw, which)()) for which in VIEWS)]
        for which in VIEWS:
            with getattr(rw, which)():
                assert rw.statistics()["rescues"] == 0
        del rw
        assert [ref() for ref in gone] == [None] * 4
    finally:
        gc.enable()


def test_what_a_dropped_lock_left_means_nothing_to_its_successor(arena):
    """A thread that drops a lock while it reads has a mark for ever; the next lock in that place is another one."""
    for _ in range(3):
        rw = syncx.RWLock(arena=arena)
        rw.read().acquire()
        del rw
        gc.collect()
        again = syncx.RWLock(arena=arena)
        assert again.readers == ()
        assert try_and_release(again.write())
        again.close()


def test_size(place):
    assert syncx.RWLock.SIZE % syncx.RWLock.ALIGNMENT == 0
    if place.how in ("named", "anonymous"):
        return
    buffer = bytearray(syncx.RWLock.SIZE + syncx.RWLock.ALIGNMENT)
    with pytest.raises(ValueError, match="bytes"):
        syncx.RWLock.at(memoryview(buffer)[: syncx.RWLock.SIZE // 2], arena=place.arena)


@pytest.mark.death
def test_another_arena_adopts_the_memory(tmp_path, child):
    """The arena that the lock in a file was bound to is gone: its readers mean nothing, and its writer died inside."""
    import mmap

    path = tmp_path / "memory"
    path.write_bytes(bytes(4096))
    name = f"{os.environ['SYNCX_TEST_RUN']}-adopt"
    with open(path, "r+b") as f:
        memory = mmap.mmap(f.fileno(), 4096)
    for which in ("read", "write"):
        arena = syncx.Arena(name)
        c = child(
            """
            import mmap
            with open(path, "r+b") as f:
                rw = syncx.RWLock.at(mmap.mmap(f.fileno(), 4096), arena=syncx.Arena(name))
            getattr(rw, which)().acquire()
            say(); hear()
            """,
            path=str(path),
            name=arena.path,
            which=which,
        )
        c.hear()
        arena.unlink(force=True)
        arena.close()
        arena = syncx.Arena(name)
        rw = syncx.RWLock.at(memory, arena=arena)
        assert rw.readers == ()
        assert rw.writer is None
        with rw.write() as w:
            assert w.owner_died is (which == "write")
        rw.close()
        c.kill()
        arena.unlink(force=True)
        arena.close()


def test_what_it_shows_of_its_holder_may_change_amid_the_look():
    """The words of an exception show the lock, and the holder may leave between two looks at it."""

    class Leaves:
        looks = [(os.getpid(), os.getpid()), None]

        @property
        def holder(self):
            return self.looks.pop(0)

    assert syncx.rwlock._MutexView._state(Leaves()) == "locked by this process"
