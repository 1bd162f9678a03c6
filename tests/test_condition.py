"""Condition: exact notifications in every placement, between threads and processes, whoever is killed meanwhile."""

from __future__ import annotations

import math
import os
import pickle
import signal
import threading
import time

import pytest
from support import PATIENCE, Place, until

import syncx
from syncx import _core


@pytest.fixture
def condition(place: Place) -> syncx.Condition:
    return place.new(syncx.Condition)


@pytest.fixture
def no_belt():
    """In this process a wake-up that is lost never comes."""
    _core._set_belt(False)
    yield
    _core._set_belt(True)


class Waiters:
    """Threads that wait, enrolled one after the other; `returned` has their numbers in the order of their return."""

    def __init__(self, condition, n: int, timeout: float | None = None) -> None:
        self.returned: list[int] = []
        self.results: dict[int, object] = {}
        self.threads = []
        self._condition = condition
        for i in range(n):
            before = condition._waiters()
            t = threading.Thread(target=self._wait, args=(i, timeout), daemon=True)
            self.threads.append(t)
            t.start()
            until(lambda before=before: condition._waiters() > before, "a thread waits")

    def _wait(self, i: int, timeout: float | None) -> None:
        try:
            with self._condition as c:
                self.results[i] = c.wait(timeout)
                self.returned.append(i)
        except Exception as e:
            self.results[i] = e

    def until_returned(self, n: int) -> None:
        until(lambda: len(self.returned) >= n, f"{n} waiters return")

    def join(self) -> None:
        for t in self.threads:
            t.join(PATIENCE)
            assert not t.is_alive()


# ---- alone -----------------------------------------------------------------------------------------------------------


def test_with_holds_the_lock_and_yields_the_condition(condition):
    with condition as c, c as again:
        assert c is again is condition
        assert condition.locked() and condition.lock.locked() and condition.lock.depth == 2
        assert condition.holder == (os.getpid(), threading.get_native_id())
    assert not condition.locked()
    assert condition.acquire() is True
    assert condition.acquire(False) is True
    assert condition.release() is None
    assert condition.locked()
    condition.release()
    with condition.within(1.0) as c:
        assert c is condition
    with pytest.raises(syncx.NotOwner):
        condition.release()


@pytest.mark.parametrize("what", ["wait", "notify", "notify_all"])
def test_the_lock_must_be_held(condition, what):
    with pytest.raises(syncx.NotOwner, match="does not hold the lock"):
        getattr(condition, what)()
    with pytest.raises(RuntimeError):
        getattr(condition, what)()
    refused = []

    def other():
        try:
            getattr(condition, what)()
        except syncx.NotOwner:
            refused.append(True)

    with condition:
        t = threading.Thread(target=other)
        t.start()
        t.join(PATIENCE)
    assert refused == [True]


def test_a_timeout(condition):
    with condition:
        start = time.monotonic()
        assert condition.wait(0.15) is False
        assert time.monotonic() - start >= 0.15
        assert condition.wait(timeout=0) is False
        assert condition.lock.depth == 1
    assert condition._waiters() == 0
    assert not condition.locked()


def test_wait_gives_every_level_up_and_takes_them_back(condition):
    other = []

    def take():
        with condition:
            other.append(condition.lock.depth)
            condition.notify()

    with condition, condition, condition:
        t = threading.Thread(target=take)
        t.start()
        assert condition.wait(PATIENCE) is True
        assert condition.lock.depth == 3
        assert other == [1]
    t.join(PATIENCE)
    assert not condition.locked()


def test_wait_for(condition):
    state = []

    def change():
        for i in range(3):
            with condition:
                state.append(i)
                condition.notify_all()

    with condition:
        t = threading.Thread(target=change)
        t.start()
        assert condition.wait_for(lambda: len(state) == 3 and "done", PATIENCE) == "done"
    t.join(PATIENCE)
    calls = []
    with condition:
        assert condition.wait_for(lambda: calls.append(1), timeout=0.02) is None
        assert len(calls) == 2  # at first, and when the time is over
        assert condition.wait_for(predicate=lambda: [], timeout=0) == []
        with pytest.raises(ZeroDivisionError):
            condition.wait_for(lambda: 1 / 0)
        assert condition.lock.depth == 1
    assert condition.wait_for(lambda: 7) == 7  # as in threading: nothing to wait for, no lock needed
    with pytest.raises(syncx.NotOwner):
        condition.wait_for(lambda: False)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda c: c.wait(-2), ValueError),
        (lambda c: c.wait(math.nan), ValueError),
        (lambda c: c.wait(1e10), OverflowError),
        (lambda c: c.wait("1"), TypeError),
        (lambda c: c.wait(1, 2), TypeError),
        (lambda c: c.wait(seconds=1), TypeError),
        (lambda c: c.notify(0), ValueError),
        (lambda c: c.notify(-1), ValueError),
        (lambda c: c.notify(2**31), ValueError),
        (lambda c: c.notify(1.0), TypeError),
        (lambda c: c.notify(True), TypeError),
        (lambda c: c.notify("1"), TypeError),
        (lambda c: c.notify(1, 2), TypeError),
        (lambda c: c.notify(m=1), TypeError),
        (lambda c: c.notify_all(1), TypeError),
        (lambda c: c.wait_for(), TypeError),
        (lambda c: c.wait_for(5), TypeError),
        (lambda c: c.wait_for(bool, 1, 2), TypeError),
        (lambda c: c.wait_for(bool, predicate=bool), TypeError),
        (lambda c: c.wait_for(bool, -2), ValueError),
        (lambda c: c.acquire(False, 1), ValueError),
    ],
)
def test_bad_input_changes_nothing(arena, call, error):
    condition = syncx.Condition(arena=arena)
    with condition:
        with pytest.raises(error):
            call(condition)
        assert condition.lock.depth == 1
        assert condition.wait(0) is False
    assert not condition.locked()


# ---- exact -----------------------------------------------------------------------------------------------------------


def test_notify_without_waiters_is_not_kept(condition):
    with condition:
        condition.notify()
        condition.notify(100)
        condition.notify_all()
        assert condition.wait(0.01) is False


@pytest.mark.usefixtures("no_belt")
def test_n_are_woken_and_the_longest_waiting_first(condition):
    w = Waiters(condition, 6)
    for n, sofar in ((1, 1), (2, 3), (1, 4), (5, 6)):
        with condition:
            condition.notify(n)
            assert condition._waiters() == 6 - sofar
        w.until_returned(sofar)
        assert sorted(w.returned) == list(range(sofar))
    w.join()
    assert set(w.results.values()) == {True}


@pytest.mark.usefixtures("no_belt")
def test_notify_all(condition):
    w = Waiters(condition, 8)
    with condition:
        condition.notify_all()
        assert condition._waiters() == 0
        assert w.returned == []  # the lock is ours still
    w.join()
    assert set(w.results.values()) == {True}


def test_more_than_one_scan_finds(condition):
    """The core chooses 64 at a time."""
    w = Waiters(condition, 70)
    with condition:
        condition.notify(67)
        assert condition._waiters() == 3
    w.until_returned(67)
    assert sorted(w.returned) == list(range(67))
    with condition:
        condition.notify_all()
    w.join()


def test_one_that_timed_out_is_not_notified(condition):
    w = Waiters(condition, 1, timeout=0.05)
    w.join()
    assert w.results == {0: False}
    w = Waiters(condition, 1)
    with condition:
        condition.notify()
    w.join()
    assert w.results == {0: True}


def test_conditions_of_one_lock_do_not_take_each_others(arena):
    lock = syncx.Mutex("lock", arena=arena)
    full, empty = syncx.Condition(lock, name="full"), syncx.Condition(lock, name="empty")
    a, b = Waiters(full, 2), Waiters(empty, 2)
    with lock:
        empty.notify(5)
    b.join()
    assert a.returned == []
    with full:
        full.notify_all()
    a.join()
    assert full._waiters() == empty._waiters() == 0


# ---- opening ---------------------------------------------------------------------------------------------------------


def test_the_lock_must_be_the_same(arena):
    lock, other, recursive = syncx.Mutex("a", arena=arena), syncx.Mutex("b", arena=arena), syncx.RLock(arena=arena)
    c = syncx.Condition(lock, name="c")
    assert c.lock is lock and c.arena is arena
    assert syncx.Condition(syncx.Mutex("a", arena=arena), name="c").lock is not lock
    for wrong in (None, other, recursive):
        with pytest.raises(ValueError, match=r"'c': it exists already and was made with another lock"):
            syncx.Condition(wrong, name="c", arena=arena)
    own = syncx.Condition(name="own", arena=arena)
    with pytest.raises(ValueError, match="another lock"):
        syncx.Condition(lock, name="own")
    assert isinstance(own.lock, syncx.RLock)
    with own:
        assert syncx.Condition(name="own", arena=arena, create=False).locked()
    with pytest.raises(ValueError, match="Condition"):
        syncx.RLock("own", arena=arena)


def test_a_lock_of_that_place_is_not_that_lock(arena):
    """A name unlinked and made again is another lock, even where it lies in the same place."""
    lock = syncx.Mutex("a", arena=arena)
    syncx.Condition(lock, name="c").close()
    lock.close()
    arena.unlink("a")
    for _ in range(3):
        with pytest.raises(ValueError, match="another lock|no more"):
            syncx.Condition(syncx.Mutex("a", arena=arena), name="c")


def test_wrong_locks(arena):
    with pytest.raises(TypeError, match=r"syncx\.Mutex or a syncx\.RLock"):
        syncx.Condition(threading.Lock(), arena=arena)
    with pytest.raises(TypeError, match="name="):
        syncx.Condition("jobs", arena=arena)
    lock = syncx.Mutex(arena=arena)
    with syncx.Arena(f"{arena.name}-other") as second:
        with pytest.raises(syncx.ArenaError, match="another arena"):
            syncx.Condition(lock, arena=second)
        second.unlink(force=True)
    for options in ({"timeout": 1.0}, {"on_owner_death": "raise"}):
        with pytest.raises(ValueError, match="the lock's"):
            syncx.Condition(lock, **options)
    lock.close()
    with pytest.raises(ValueError, match="closed"):
        syncx.Condition(lock)


def test_options_are_the_locks(arena):
    c = syncx.Condition(arena=arena, timeout=0.5, on_owner_death="ignore")
    assert (c.timeout, c.lock.timeout, c.on_owner_death) == (0.5, 0.5, "ignore")
    d = pickle.loads(pickle.dumps(c))
    assert (d.timeout, d.lock.timeout, d.on_owner_death) == (0.5, 0.5, "ignore")
    held = threading.Thread(target=lambda: (c.acquire(), done.wait(PATIENCE), c.release()))
    done = threading.Event()
    held.start()
    until(c.locked, "the thread holds it")
    c._configure(0.01)
    c.lock._configure(0.01)
    with pytest.raises(syncx.Timeout), c:
        raise AssertionError
    done.set()
    held.join(PATIENCE)


def test_pickled_with_its_lock(arena):
    lock = syncx.Mutex(arena=arena)
    c = syncx.Condition(lock)
    d = pickle.loads(pickle.dumps(c))
    with c:
        assert d.lock._is_owned() and d._is_owned()
        assert not d.acquire(False)


def test_close(condition, place):
    other = place.again(condition)
    with condition, pytest.raises(RuntimeError, match="held"):
        condition.close()
    w = Waiters(condition, 1)
    with pytest.raises(RuntimeError, match="in use"):
        condition.close()
    with other:
        other.notify()
    w.join()
    condition.close()
    condition.close()
    assert condition.closed and "closed" in repr(condition)
    for call in (condition.acquire, condition.wait, condition.notify, condition.locked, condition.release):
        with pytest.raises(ValueError, match="closed"):
            call()
    with pytest.raises(ValueError, match="closed"), condition:
        raise AssertionError


def test_repr(arena):
    c = syncx.Condition(name="c", arena=arena)
    assert repr(c) == "<syncx.Condition 'c' unlocked>"
    w = Waiters(c, 2)
    with c:
        assert repr(c).startswith("<syncx.Condition 'c' locked by this process")
        assert repr(c).endswith(", 2 waiting>")
        c.notify_all()
    w.join()


def test_unlinked_while_they_wait(arena):
    c = syncx.Condition(name="c", arena=arena)
    w = Waiters(c, 2)
    start = time.monotonic()
    arena.unlink("c", force=True)
    w.join()
    assert time.monotonic() - start < 5
    assert [type(e) for e in w.results.values()] == [syncx.Gone] * 2
    with pytest.raises(syncx.Gone), c:
        raise AssertionError


def test_unlinked_while_they_wait_on_a_lock_that_stays(arena):
    lock = syncx.Mutex(arena=arena)
    c = syncx.Condition(lock, name="c")
    w = Waiters(c, 1)
    arena.unlink("c", force=True)
    w.join()
    assert [type(e) for e in w.results.values()] == [syncx.Gone]
    with c:
        with pytest.raises(syncx.Gone):
            c.wait()
        assert c.lock._is_owned()
