"""What becomes of a lock whose holder died: every policy, waiting at the time or years later."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time

import pytest
from support import PATIENCE, Place, soon, until, until_waiting

import syncx
from syncx import _core

pytestmark = pytest.mark.death

HOLDS = """
    lock = open_lock(recipe)
    lock.acquire()
    say()
    hear()
"""


@pytest.fixture(params=[syncx.Mutex, syncx.RLock])
def cls(request):
    return request.param


@pytest.fixture
def dies(child, place):
    """Makes a process die inside the lock, and returns its pid."""

    def dies(lock, levels=1):
        c = child(
            HOLDS.replace("lock.acquire()", f"[lock.acquire() for _ in range({levels})]"), recipe=place.recipe(lock)
        )
        c.hear()
        assert lock.holder[0] == c.pid
        c.kill()
        return c.pid

    return dies


@pytest.fixture
def no_belt():
    """Nothing but the kernel wakes a waiter of this process: without it the wait does not end."""
    _core._set_belt(False)
    yield
    _core._set_belt(True)


def thread_dies_holding(lock):
    t = threading.Thread(target=lock.acquire)
    t.start()
    t.join(10)
    return t.native_id


# ---- recover: the default --------------------------------------------------------------------------------------------


def test_years_later(cls, place: Place, dies):
    lock = place.new(cls)
    dies(lock)
    assert not lock.locked()
    assert lock.holder is None
    assert not lock.owner_died
    with lock as m:
        assert m.owner_died
        assert m.depth == 1
    assert not lock.owner_died
    with lock as m:
        assert not m.owner_died
    assert lock.statistics()["recoveries"] == 1


def test_waiting_at_the_time(cls, place: Place, child, arena, no_belt):
    lock = place.new(cls)

    def dies_under_a_waiter():
        holder = child(HOLDS, recipe=place.recipe(lock))
        holder.hear()
        seen = []

        def wait():
            with lock as m:
                seen.append((m.owner_died, time.monotonic()))

        t = threading.Thread(target=wait)
        t.start()
        until_waiting(arena)
        holder.kill()
        t.join(PATIENCE)
        ((died, at),) = seen
        assert died
        return at - holder.killed

    soon(0.25, dies_under_a_waiter)
    assert lock.statistics()["rescues"] == 0  # the kernel told the waiter, not the belt


def test_all_waiters_go_on_and_one_of_them_is_told(cls, place: Place, child, arena):
    lock = place.new(cls)
    holder = child(HOLDS, recipe=place.recipe(lock))
    holder.hear()
    told = []

    def wait():
        with lock as m:
            told.append(m.owner_died)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for t in threads:
        t.start()
    waiter = child("lock = open_lock(recipe)\nwith lock as m: say(m.owner_died)", recipe=place.recipe(lock))
    until_waiting(arena, 5)
    holder.kill()
    told.append(waiter.hear())
    for t in threads:
        t.join(10)
        assert not t.is_alive()
    assert sorted(told) == [False] * 4 + [True]
    assert time.monotonic() - holder.killed < 5


def test_a_killed_waiter_keeps_nobody_waiting(cls, place: Place, child, arena):
    lock = place.new(cls)

    def one_of_two_is_killed():
        with lock:
            first = child("lock = open_lock(recipe); say(); lock.acquire()", recipe=place.recipe(lock))
            first.hear()
            until_waiting(arena)
            second = child("lock = open_lock(recipe)\nwith lock as m: say(m.owner_died)", recipe=place.recipe(lock))
            until_waiting(arena, 2)
            first.kill()
        start = time.monotonic()
        assert second.hear() is False  # the dead one never held it
        return time.monotonic() - start

    soon(0.25 + 0.1, one_of_two_is_killed)


def test_a_waiter_killed_just_when_it_is_woken(place: Place, child, arena):
    """Wake and SIGKILL race: whichever wins, the others go on."""
    lock = place.new()
    for _ in range(10):
        lock.acquire()
        victim = child("lock = open_lock(recipe); say(); lock.acquire(); hear()", recipe=place.recipe(lock))
        victim.hear()
        until_waiting(arena)
        lock.release()
        victim.kill()
        assert lock.acquire(timeout=5)
        lock.release()


def test_dying_again_and_again(cls, place: Place, dies):
    lock = place.new(cls)
    for n in range(1, 4):
        dies(lock)
        with lock as m:
            assert m.owner_died
        assert lock.statistics()["recoveries"] == n


def test_timed_and_tried_acquires_see_it_too(cls, place: Place, dies):
    lock = place.new(cls)
    for how in ({"blocking": False}, {"timeout": 0}, {"timeout": 1}):
        dies(lock)
        assert lock.acquire(**how) is True
        assert lock.owner_died
        lock.release()
    dies(lock)
    with lock.within(1) as m:
        assert m.owner_died


def test_the_mark_is_only_the_holders_to_see(cls, place: Place, dies, child):
    lock = place.new(cls)
    dies(lock)
    with lock:
        c = child("lock = open_lock(recipe); say(lock.owner_died)", recipe=place.recipe(lock))
        assert c.hear() is False
        c.finish()
        seen = []
        t = threading.Thread(target=lambda: seen.append(lock.owner_died))
        t.start()
        t.join(10)
        assert seen == [False]
        assert lock.owner_died


def test_the_mark_stays_if_the_body_raises(cls, place: Place, dies):
    lock = place.new(cls)
    dies(lock)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), lock as m:  # noqa: PT012
            assert m.owner_died
            raise ZeroDivisionError
    with lock as m:
        assert m.owner_died
    with lock as m:
        assert not m.owner_died
    assert lock.statistics()["recoveries"] == 1


def test_the_mark_stays_if_the_body_of_a_within_raises(cls, place: Place, dies):
    lock = place.new(cls)
    dies(lock)
    with pytest.raises(ZeroDivisionError), lock.within(1):
        raise ZeroDivisionError
    with lock as m:
        assert m.owner_died


def test_a_mark_of_before_says_nothing_of_a_body_that_raises_without_one(cls, place: Place):
    lock = place.new(cls)
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    with lock as m:
        assert not m.owner_died


def test_release_declares_the_data_whole(cls, place: Place, dies):
    lock = place.new(cls)
    dies(lock)
    lock.acquire()
    lock.release()
    with lock as m:
        assert not m.owner_died


def test_who_repairs_may_die_too(cls, place: Place, dies, child):
    lock = place.new(cls)
    dies(lock)
    second = child("lock = open_lock(recipe); lock.acquire(); say(lock.owner_died); hear()", recipe=place.recipe(lock))
    assert second.hear() is True
    second.kill()
    with lock as m:
        assert m.owner_died


# ---- threads ---------------------------------------------------------------------------------------------------------


def test_the_end_of_a_thread_is_a_death(cls, place: Place):
    lock = place.new(cls)
    thread_dies_holding(lock)
    until(lambda: not lock.locked(), "join returns a moment before the thread has ended")
    with lock as m:
        assert m.owner_died


def test_the_end_of_a_thread_wakes_who_waits(cls, place: Place, arena, no_belt):
    lock = place.new(cls)

    def ends_under_a_waiter():
        held, end, seen = threading.Event(), threading.Event(), []

        def hold():
            lock.acquire()
            held.set()
            end.wait(PATIENCE)

        def wait():
            with lock as m:
                seen.append((m.owner_died, time.monotonic()))

        holder, waiter = threading.Thread(target=hold), threading.Thread(target=wait)
        holder.start()
        assert held.wait(PATIENCE)
        waiter.start()
        until_waiting(arena)
        start = time.monotonic()
        end.set()
        waiter.join(PATIENCE)
        holder.join(PATIENCE)
        ((died, at),) = seen
        assert died
        return at - start

    soon(0.25, ends_under_a_waiter)


def test_exit_without_release_is_a_death(cls, place: Place, child):
    """Leaving in good order while holding is no better than dying."""
    lock = place.new(cls)
    c = child("lock = open_lock(recipe); lock.acquire()", recipe=place.recipe(lock))
    c.finish()
    with lock as m:
        assert m.owner_died


def test_exec_without_release_is_a_death(cls, place: Place, child):
    lock = place.new(cls)
    c = child(
        "lock = open_lock(recipe); lock.acquire(); say(); os.execv('/bin/cat', ['cat'])", recipe=place.recipe(lock)
    )
    c.hear()
    assert lock.acquire(timeout=5)
    assert lock.owner_died
    lock.release()


# ---- the log ---------------------------------------------------------------------------------------------------------


def test_one_line_in_the_log_names_the_dead(cls, place: Place, dies, caplog):
    lock = place.new(cls)
    pid = dies(lock)
    with caplog.at_level(logging.DEBUG, "syncx"):
        with lock:
            pass
        with lock:
            pass
    (record,) = caplog.records
    assert record.name == "syncx"
    assert record.levelno == logging.WARNING
    assert f"process {pid}" in record.getMessage()
    assert str(os.getpid()) in record.getMessage()


def test_the_log_names_a_dead_thread(cls, place: Place, caplog):
    lock = place.new(cls)
    tid = thread_dies_holding(lock)
    with caplog.at_level(logging.DEBUG, "syncx"), lock:
        pass
    assert f"process {os.getpid()} (thread {tid})" in caplog.text


@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt])
def test_a_logger_that_raises_does_not_keep_the_lock(place: Place, dies, monkeypatch, error):
    """The line is written after the release.  A handler's mistake is reported, Ctrl-C goes through."""

    class Broken(logging.Handler):
        def emit(self, record):
            assert not lock.locked()
            raise error

    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda u: reported.append(u.exc_type))
    lock = place.new()
    dies(lock)
    handler, ran = Broken(), False
    logging.getLogger("syncx").addHandler(handler)
    try:
        with pytest.raises(KeyboardInterrupt) if error is KeyboardInterrupt else contextlib.nullcontext(), lock as m:
            ran = m.owner_died
    finally:
        logging.getLogger("syncx").removeHandler(handler)
    assert ran
    assert reported == ([] if error is KeyboardInterrupt else [ArithmeticError])
    assert not lock.locked()
    with lock as m:
        assert not m.owner_died


def test_the_log_names_the_dead_even_after_others_attached(place: Place, dies, child, caplog):
    """Whoever attaches in between finds the dead process and frees its slot; who it was must not be lost with that."""
    lock = place.new()
    pid = dies(lock)
    child("say(list(arena.statistics()))").hear()
    with caplog.at_level(logging.DEBUG, "syncx"), lock:
        pass
    assert f"process {pid}" in caplog.text


def test_where_logging_is_not_set_up_the_line_goes_to_stderr(place: Place, dies, child):
    lock = place.new()
    dies(lock)
    c = child("lock = open_lock(recipe)\nwith lock as m: say(m.owner_died)", recipe=place.recipe(lock))
    assert c.hear() is True
    c.finish()
    (line,) = c.stderr().splitlines()
    assert "died holding" in line
    assert f"recovered by process {c.pid}" in line


# ---- raise -----------------------------------------------------------------------------------------------------------


def test_raise_until_somebody_recovers(cls, place: Place, dies):
    lock = place.new(cls, on_owner_death="raise")
    assert lock.on_owner_death == "raise"
    dies(lock)
    for attempt in (lock.acquire, lambda: lock.acquire(False), lambda: lock.acquire(timeout=1), lock.__enter__):
        with pytest.raises(syncx.OwnerDiedError) as e:
            attempt()
        assert isinstance(e.value, RuntimeError)
        assert "recover" in str(e.value)
        assert not lock.locked()
        assert lock.depth == 0
    with pytest.raises(syncx.OwnerDiedError), lock:
        raise AssertionError("the body ran")
    assert lock.recover() is True
    assert lock.depth == 1
    assert not lock.owner_died
    lock.release()
    with lock as m:
        assert not m.owner_died


def test_raise_raises_for_everybody(cls, place: Place, dies, child):
    lock = place.new(cls, on_owner_death="raise")
    other = place.again(lock, on_owner_death="raise")
    dies(lock)
    for handle in (lock, other):
        with pytest.raises(syncx.OwnerDiedError):
            handle.acquire()
    code = """
        lock = open_lock(recipe{options})
        try:
            lock.acquire()
        except syncx.OwnerDiedError:
            say("raised")
        lock.recover(timeout=5)
        lock.release()
        say("recovered")
    """.format(options="" if place.how == "anonymous" else ", on_owner_death='raise'")
    c = child(code, recipe=place.recipe(lock))
    assert c.hear() == "raised"
    assert c.hear() == "recovered"
    c.finish()
    for handle in (lock, other):
        with handle:
            pass


def test_raise_wakes_every_waiter(place: Place, child, arena):
    lock = place.new(on_owner_death="raise")

    def dies_under_three_waiters():
        holder = child(HOLDS, recipe=place.recipe(lock))
        holder.hear()
        outcomes = []

        def wait():
            try:
                lock.acquire()
            except syncx.OwnerDiedError:
                outcomes.append(time.monotonic())

        threads = [threading.Thread(target=wait) for _ in range(3)]
        for t in threads:
            t.start()
        until_waiting(arena, 3)
        holder.kill()
        for t in threads:
            t.join(10)
            assert not t.is_alive()
        assert len(outcomes) == 3
        lock.recover()
        lock.release()
        return min(outcomes) - holder.killed

    soon(0.25, dies_under_three_waiters)


def test_recover_where_nobody_died_is_acquire(cls, place: Place, dies):
    lock = place.new(cls, on_owner_death="raise")
    assert lock.recover() is True
    got = []
    t = threading.Thread(target=lambda: got.append((lock.recover(False), lock.recover(timeout=0.01))))
    t.start()
    t.join(10)
    assert got == [(False, False)]
    lock.release()
    assert lock.recover(False) is True
    lock.release()


def test_recover_waits_for_who_recovers(cls, place: Place, dies):
    lock = place.new(cls, on_owner_death="raise")
    dies(lock)
    lock.recover()
    got = []
    t = threading.Thread(target=lambda: got.append(lock.recover(timeout=0.02)))
    t.start()
    t.join(10)
    assert got == [False]
    lock.release()


# ---- ignore ----------------------------------------------------------------------------------------------------------


def test_ignore(cls, place: Place, dies, caplog):
    lock = place.new(cls, on_owner_death="ignore")
    dies(lock)
    with caplog.at_level(logging.DEBUG, "syncx"), lock as m:
        assert not m.owner_died
    assert caplog.records == []
    assert lock.statistics()["recoveries"] == 1


def test_the_policy_is_the_objects_and_the_mark_the_locks(cls, place: Place, dies):
    lock = place.new(cls, on_owner_death="raise")
    kind = place.again(lock, on_owner_death="recover")
    dies(lock)
    with pytest.raises(syncx.OwnerDiedError):
        lock.acquire()
    with pytest.raises(ZeroDivisionError), kind as m:  # noqa: PT012
        assert m.owner_died
        raise ZeroDivisionError
    with pytest.raises(syncx.OwnerDiedError):
        lock.acquire()
    with kind as m:
        assert m.owner_died
    with lock:
        pass


# ---- a callable ------------------------------------------------------------------------------------------------------


def test_a_callable_repairs_under_the_lock(cls, place: Place, dies):
    calls = []

    def repair(lock):
        calls.append((lock.depth, lock.owner_died, lock.holder[0]))

    lock = place.new(cls, on_owner_death=repair) if place.how != "anonymous" else place.new(cls)
    plain = lock
    if place.how == "anonymous":  # its pickle would want the callable: a handle of its own gets it
        dies(lock)
        lock = place.again(lock, on_owner_death=repair)
    else:
        dies(lock)
    with lock as m:
        assert calls == [(1, True, os.getpid())]
        assert not m.owner_died
    with lock:
        pass
    assert len(calls) == 1
    assert plain.statistics()["recoveries"] == 1


def test_a_callable_that_raises_leaves_the_mark_and_not_the_lock(cls, place: Place, dies):
    lock = place.new(cls)

    def fail(_):
        raise LookupError("cannot repair")

    broken = place.again(lock, on_owner_death=fail)
    dies(lock)
    for attempt in (broken.acquire, broken.__enter__, lambda: broken.acquire(timeout=1)):
        with pytest.raises(LookupError, match="cannot repair"):
            attempt()
        assert not lock.locked()
    with lock as m:
        assert m.owner_died


def test_a_callable_that_is_interrupted_by_the_death_of_its_process(place: Place, dies, child):
    lock = place.new()
    dies(lock)
    c = child(
        """
        lock = open_lock(recipe)
        lock._set_options(None, lambda _: (say("repairing"), hear()))
        lock.acquire()
        """,
        recipe=place.recipe(lock),
    )
    assert c.hear() == "repairing"
    c.kill()
    with lock as m:
        assert m.owner_died


def test_a_callable_may_use_the_rlock_it_is_given(place: Place, dies):
    lock = place.new(syncx.RLock)
    depths = []

    def repair(rlock):
        with rlock:
            depths.append(rlock.depth)

    repaired = place.again(lock, on_owner_death=repair)
    dies(lock)
    with repaired:
        assert depths == [2]
        assert repaired.depth == 1


# ---- recursion -------------------------------------------------------------------------------------------------------


def test_every_level_of_a_dead_rlock_is_gone(place: Place, dies):
    lock = place.new(syncx.RLock)
    dies(lock, levels=5)
    with lock as m:
        assert m.owner_died
        assert m.depth == 1
    assert not lock.locked()


def test_owner_died_until_the_outermost_release(place: Place, dies):
    lock = place.new(syncx.RLock)
    dies(lock)
    with lock:
        with lock:
            assert lock.owner_died
        assert lock.owner_died
        lock.acquire()
        lock.release()
        assert lock.owner_died
    with lock:
        assert not lock.owner_died


def test_raise_does_not_raise_again_inside(place: Place, dies):
    lock = place.new(syncx.RLock, on_owner_death="raise")
    dies(lock)
    lock.recover()
    with lock:
        assert lock.depth == 2
        assert not lock.owner_died
    lock.release()


def test_condition_sees_the_death_in_the_hold_it_acquires_again(place: Place, dies):
    lock = place.new(syncx.RLock)
    condition = threading.Condition(lock)
    seen, waiting = [], threading.Event()

    def wait():
        with condition:
            waiting.set()
            condition.wait(60)  # longer than it takes to start and kill a process
            seen.append(lock.owner_died)

    t = threading.Thread(target=wait)
    t.start()
    waiting.wait(10)
    with condition:
        pass  # we had it: the thread is in wait()
    dies(lock)
    with pytest.raises(KeyError), condition:  # the mark stays  # noqa: PT012
        assert lock.owner_died
        condition.notify()
        raise KeyError
    t.join(10)
    assert seen == [True]
    with lock:
        assert not lock.owner_died


def test_release_save_and_acquire_restore_across_a_death(place: Place, dies):
    lock = place.new(syncx.RLock)
    lock.acquire()
    lock.acquire()
    saved = lock._release_save()
    assert not lock.locked()
    dies(lock, levels=3)
    lock._acquire_restore(saved)
    assert lock.depth == 2
    assert lock.owner_died
    lock.release()
    lock.release()
    assert not lock.locked()
