"""Tracing: since when and where everything is held, for those who look from outside."""

from __future__ import annotations

import inspect
import os
import threading
import time

import pytest

import syncx
from syncx import _core
from syncx.tracing import untraced


@pytest.fixture
def traced():
    before = _core._noting()
    syncx.trace(True)
    yield
    _core._note(*before[:2])


def here(offset=0):
    """What a trace says of the caller's line, so many lines further on."""
    frame = inspect.currentframe().f_back
    return f":{frame.f_lineno + offset} in {frame.f_code.co_name}"


def the_hold(arena, name=None):
    seen = syncx.snapshot(arena)
    holds = [h for h in seen.holds if name is None or seen.at(h.object).name == name]
    assert len(holds) == 1, holds
    return holds[0]


KINDS = {
    "Mutex": lambda arena, path: syncx.Mutex("k", arena=arena),
    "RLock": lambda arena, path: syncx.RLock("k", arena=arena),
    "Condition": lambda arena, path: syncx.Condition(name="k", arena=arena),
    "BinarySemaphore": lambda arena, path: syncx.BinarySemaphore("k", arena=arena),
    "BoundedSemaphore": lambda arena, path: syncx.BoundedSemaphore(3, name="k", arena=arena),
    "write": lambda arena, path: syncx.RWLock("k", arena=arena).write(),
    "read": lambda arena, path: syncx.RWLock("k", arena=arena).read(),
    "upgradable": lambda arena, path: syncx.RWLock("k", arena=arena).upgradable(),
    "FileLock": lambda arena, path: syncx.FileLock(path, arena=arena),
    "RangeLock": lambda arena, path: syncx.RangeLock(path, 10, 10, arena=arena),
    "anonymous": lambda arena, path: syncx.Mutex(arena=arena),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind(kind, arena, traced, tmp_path):
    lock = KINDS[kind](arena, tmp_path / "f")
    before = time.time()
    with lock:
        where = here(-1)
        hold = the_hold(arena)
        assert hold.where.endswith(where)
        assert os.path.basename(__file__) in hold.where
        assert before - 1 <= hold.since <= time.time() + 1  # told by two clocks
        assert hold.held >= 0
    assert not [h for h in syncx.snapshot(arena).holds if h.thread]
    lock.acquire()
    where = here(-1)
    assert the_hold(arena).where.endswith(where)
    lock.release()
    syncx.trace(False)
    with lock:
        assert the_hold(arena).where is None


def test_the_first_of_several(arena, traced):
    lock = syncx.RLock("k", arena=arena)
    with lock:
        where, first = here(-1), the_hold(arena)
        with lock:
            again = the_hold(arena)
            assert (again.units, again.where, again.held >= first.held) == (2, first.where, True)
        assert the_hold(arena).where.endswith(where)


def test_a_runner(arena, traced):
    found = []
    once = syncx.Once("o", arena=arena)
    once.run(lambda: found.append(the_hold(arena, "o")))
    assert found[0].where.endswith(here(-1))


def test_a_wait_for_a_condition_gives_its_lock_up(arena, traced):
    cond = syncx.Condition(name="c", arena=arena)
    with cond, cond:
        first = the_hold(arena, "c")
        cond.wait(0.001)
        where, second = here(-1), the_hold(arena, "c")
        assert second.units == first.units == 2
        assert second.where.endswith(where)
        assert second.since > first.since


def test_several_at_once(arena, traced):
    a, b = syncx.Mutex("a", arena=arena), syncx.Mutex("b", arena=arena)
    a.acquire()
    first = here(-1)
    b.acquire()
    second = here(-1)
    assert the_hold(arena, "a").where.endswith(first)
    assert the_hold(arena, "b").where.endswith(second)
    a.release()
    assert the_hold(arena).where.endswith(second)
    b.release()


def test_more_than_there_is_room_for(arena, traced):
    locks = [syncx.Mutex(str(i), arena=arena) for i in range(20)]
    before = untraced()
    for lock in locks:
        lock.acquire()
    assert untraced() == before + 4
    seen = syncx.snapshot(arena)
    known = {seen.at(h.object).name for h in seen.holds if h.where is not None}
    assert known == {str(i) for i in range(16)}
    locks[0].release()
    locks[0].acquire()  # in the place that came free
    assert the_hold(arena, "0").where.endswith(here(-1))
    for lock in locks:
        lock.release()
    assert syncx.snapshot(arena).holds == ()


def test_far_more_than_there_is_room_for(arena, traced):
    locks = [syncx.Mutex(str(i), arena=arena) for i in range(80)]
    for _ in range(2):
        for lock in locks:
            lock.acquire()
        for lock in locks:
            lock.release()
    with locks[0]:
        assert the_hold(arena).where.endswith(here(-1))


def test_switched_off_while_it_is_held(arena, traced):
    lock = syncx.Mutex("k", arena=arena)
    with lock:
        syncx.trace(False)
        assert the_hold(arena).where is None
        syncx.trace(True)
    with lock:
        assert the_hold(arena).where.endswith(here(-1))


def test_how_long(arena, traced):
    lock, other = syncx.Mutex("k", arena=arena), syncx.Mutex("other", arena=arena)
    assert syncx.snapshot(arena).named("k").hold_total is None
    begin = time.monotonic()
    with lock:
        pass
    with lock:
        threading.Event().wait(0.02)
    took = time.monotonic() - begin
    state = syncx.snapshot(arena).named("k")
    assert 0.015 <= state.hold_longest <= state.hold_total <= took
    syncx.trace(False)
    with other:
        pass
    assert syncx.snapshot(arena).named("other").hold_total is None


def test_a_successor_begins_anew(arena, traced):
    """In the place of an object that is gone."""
    lock = syncx.Mutex("k", arena=arena)
    with lock:
        threading.Event().wait(0.02)
    place = syncx.snapshot(arena).named("k").id
    arena.unlink("k")
    lock.close()
    lock = syncx.Mutex("l", arena=arena)
    state = syncx.snapshot(arena).named("l")
    assert (state.id, state.hold_total) == (place, None)
    begin = time.monotonic()
    with lock:
        pass
    took = time.monotonic() - begin
    assert syncx.snapshot(arena).named("l").hold_total <= took


def test_what_others_see(arena, child):
    """SYNCX_TRACE=1 in one process, from another one; its forked child holds nothing of it."""
    c = child(
        """
        def work():
            with syncx.Mutex("m", arena=arena):
                r, w = os.pipe()
                pid = os.fork()
                if pid == 0:
                    with syncx.Mutex("n", arena=arena):
                        say("forked")
                        os.read(r, 1)
                    os._exit(0)
                hear()
                os.write(w, b"x")
                os.waitpid(pid, 0)
                say("alone")
                hear()
        work()
        """,
        env={"SYNCX_TRACE": "1"},
    )
    assert c.hear() == "forked"
    seen = syncx.snapshot(arena)
    assert {seen.at(h.object).name: (h.pid == c.pid, h.where.rpartition(" in ")[2]) for h in seen.holds} == {
        "m": (True, "work"),
        "n": (False, "work"),
    }
    c.say()
    assert c.hear() == "alone"
    assert the_hold(arena).where.endswith(" in work")


@pytest.mark.death
def test_where_the_dead_took_it(arena, child):
    c = child(
        """
        syncx.trace(True)
        lock = syncx.Mutex("m", arena=arena)
        lock.acquire()
        say()
        hear()
        """
    )
    c.hear()
    c.kill()
    hold = the_hold(arena)
    assert not hold.alive
    assert hold.where.endswith(" in <module>")


def test_a_torn_record_is_passed_over(arena, traced):
    """Its step is odd: the thread was stopped, or killed, while it wrote."""
    with syncx.Mutex("m", arena=arena):
        seen = syncx.snapshot(arena)
        slot = (seen.holds[0].thread >> 8 & 0xFFFF) - 1
        offset, size, *_ = arena._description()["regions"]["participants"]
        at = offset + slot * size + 2304 + 16  # see docs/reference/layout.md
        with open(arena.path, "r+b") as f:
            step = os.pread(f.fileno(), 4, at)
            os.pwrite(f.fileno(), bytes([step[0] | 1]) + step[1:], at)
            assert the_hold(arena).where is None
            os.pwrite(f.fileno(), step, at)
        assert the_hold(arena).where is not None


def test_a_deadlock_tells_where(arena, child):
    c = child(
        """
        import threading
        syncx.trace(True)
        a, b = syncx.Mutex("a", arena=arena), syncx.Mutex("b", arena=arena)
        both, errors = threading.Barrier(2), []
        def work(first, second):
            with first:
                both.wait()
                try:
                    with second:
                        pass
                except syncx.DeadlockError as e:
                    errors.append(e)
        threads = [threading.Thread(target=work, args=args) for args in ((a, b), (b, a))]
        for t in threads: t.start()
        for t in threads: t.join()
        say([str(errors[0]), [[[h.name, h.where] for h in w.holds] for w in errors[0].cycle]])
        """
    )
    text, cycle = c.hear()
    c.finish()
    assert text.count(", taken at ") == 2
    assert sorted(name for member in cycle for name, _ in member) == ["a", "b"]
    assert all(where.endswith(" in work") for member in cycle for _, where in member)


def test_ps(arena, traced, capsys):
    from syncx import ps

    with syncx.Mutex("m", arena=arena):
        ps.main(arena.path)
    out = capsys.readouterr().out
    assert "m (for " in out
    assert f"at {os.path.basename(__file__)}:" in out
    assert " in test_ps)" in out


def test_threads(arena, traced):
    """Each with records of its own, while others take and release."""
    lock, stop = syncx.RWLock("rw", arena=arena), threading.Event()
    wrong = []

    def reader():
        mine = syncx.Mutex(arena=arena)
        while not stop.is_set():
            with lock.read(), mine:
                pass

    threads = [threading.Thread(target=reader) for _ in range(3)]
    for t in threads:
        t.start()
    for _ in range(60):
        for h in syncx.snapshot(arena).holds:
            if h.where is not None and not h.where.endswith(" in reader"):
                wrong.append(h)
    stop.set()
    for t in threads:
        t.join(20)
    assert wrong == []


def test_bad_arguments():
    with pytest.raises(TypeError, match="True or False, not 'yes'"):
        syncx.trace("yes")
