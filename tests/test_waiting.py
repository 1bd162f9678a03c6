"""Waiting: signals, the GIL, deadlines, fairness, and that no wake-up is lost."""

from __future__ import annotations

import math
import os
import signal
import threading
import time

import pytest
from support import PATIENCE, Place, soon, until_waiting, waiters

import syncx
from syncx import _core

WAITS = """
    lock = open_lock(recipe)
    say()
    try:
        {how}
        say("got it")
    except BaseException as e:
        say([type(e).__name__, lock.depth])
"""

WAYS = {
    "with": "lock.__enter__()",
    "acquire": "lock.acquire()",
    "timed": "lock.acquire(timeout=30)",
    "within": "lock.within(30).__enter__()",
    "recover": "lock.recover()",
}


@pytest.fixture(params=[syncx.Mutex, syncx.RLock])
def cls(request):
    return request.param


# ---- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", WAYS)
def test_ctrl_c_ends_the_wait(place: Place, child, arena, how):
    lock = place.new()
    with lock:
        c = child(WAITS.format(how=WAYS[how]), recipe=place.recipe(lock))
        c.hear()
        until_waiting(arena)
        start = time.monotonic()
        os.kill(c.pid, signal.SIGINT)
        assert c.hear() == ["KeyboardInterrupt", 0]
        assert time.monotonic() - start < 5
        c.finish()
        assert lock.depth == 1
    assert not lock.locked()
    assert waiters(arena) == 0


def test_a_handler_that_returns_lets_the_wait_go_on(place: Place, child, arena):
    lock = place.new()
    lock.acquire()
    c = child(
        """
        lock = open_lock(recipe)
        signal.signal(signal.SIGUSR1, lambda *_: say("handled"))
        say()
        with lock:
            say("got it")
        """,
        recipe=place.recipe(lock),
    )
    c.hear()
    for _ in range(5):
        until_waiting(arena)
        os.kill(c.pid, signal.SIGUSR1)
        assert c.hear() == "handled"
    lock.release()
    assert c.hear() == "got it"
    c.finish()


def test_signals_do_not_move_the_deadline(place: Place, child, arena):
    """PEP 475: interrupted every 50 ms, a wait of 0.6 s still lasts 0.6 s."""
    lock = place.new()
    with lock:
        c = child(
            """
            lock = open_lock(recipe)
            handled = []
            signal.signal(signal.SIGALRM, lambda *_: handled.append(1))
            while hear():
                handled.clear()
                signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
                start = time.monotonic()
                got = lock.acquire(timeout=0.6)
                took = time.monotonic() - start
                signal.setitimer(signal.ITIMER_REAL, 0)
                say([got, took, len(handled)])
            """,
            recipe=place.recipe(lock),
        )

        def wait():
            c.say(True)
            got, took, handled = c.hear()
            assert got is False
            assert took >= 0.6
            return took if handled >= 5 else math.inf  # too few for the test to mean anything

        soon(1.6, wait)
        c.say(False)
        c.finish()


def test_a_handler_that_raises_leaves_the_lock_as_it_was(cls, place: Place, child, arena):
    lock = place.new(cls)
    lock.acquire()
    c = child(
        """
        class Stop(Exception): pass
        def stop(*_): raise Stop
        lock = open_lock(recipe)
        signal.signal(signal.SIGUSR1, stop)
        say()
        for attempt in (lock.acquire, lock.__enter__, lambda: lock.acquire(timeout=30)):
            try:
                attempt()
            except Stop:
                say([lock.depth, lock.locked()])
        hear()
        with lock:
            say("got it")
        """,
        recipe=place.recipe(lock),
    )
    c.hear()
    for _ in range(3):
        until_waiting(arena)
        os.kill(c.pid, signal.SIGUSR1)
        assert c.hear() == [0, True]
    assert lock.depth == 1
    lock.release()
    c.say()
    assert c.hear() == "got it"
    c.finish()


def test_a_waiter_that_gives_up_swallows_no_wake_up(place: Place, child, arena):
    """Wake and signal race: whoever leaves hands the wake on, so the other waiter needs no belt."""
    lock = place.new()
    patient = child(
        """
        lock = open_lock(recipe)
        say()
        while hear():
            lock.acquire(); lock.release(); say("got it")
        """,
        recipe=place.recipe(lock),
    )
    hasty = child(
        """
        class Stop(Exception): pass
        def stop(*_): raise Stop
        lock = open_lock(recipe)
        signal.signal(signal.SIGUSR1, stop)
        say()
        while hear():
            try:
                lock.acquire()
                lock.release()
                while True: signal.pause()
            except Stop:
                if lock.depth: lock.release()  # it came just behind the acquire
                say("left")
        """,
        recipe=place.recipe(lock),
    )
    patient.hear()
    hasty.hear()
    for _ in range(50):
        lock.acquire()
        hasty.say(True)
        until_waiting(arena, 1)
        patient.say(True)
        until_waiting(arena, 2)
        os.kill(hasty.pid, signal.SIGUSR1)
        lock.release()
        assert patient.hear() == "got it"
        assert hasty.hear() == "left"
    for c in (patient, hasty):
        c.say(False)
        c.finish()


def test_timeouts_swallow_no_wake_up(place: Place, arena):
    """Threads whose waits run out all the time, beside one that waits for ever."""
    lock = place.new()
    stop = threading.Event()

    def hasty():
        while not stop.is_set():
            if lock.acquire(timeout=0.0005):
                lock.release()

    def patient():
        for _ in range(200):
            with lock:
                time.sleep(0.0004)

    impatient = [threading.Thread(target=hasty) for _ in range(3)]
    for t in impatient:
        t.start()
    threads = [threading.Thread(target=patient) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(PATIENCE)
        assert not t.is_alive()
    stop.set()
    for t in impatient:
        t.join(PATIENCE)
    # the fixture `arena` checks that the belt rescued nobody


def test_a_handler_may_lock_something_else_and_wait_for_it(place: Place, child, arena):
    lock, other = place.new(), place.new()
    lock.acquire()
    other.acquire()
    c = child(
        """
        lock, other = map(open_lock, recipes)
        def handle(*_):
            say("in the handler")
            with other:
                say("other")
        signal.signal(signal.SIGUSR1, handle)
        say()
        with lock:
            say("lock")
        """,
        recipes=[place.recipe(lock), place.recipe(other)],
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGUSR1)
    assert c.hear() == "in the handler"
    until_waiting(arena)
    other.release()
    assert c.hear() == "other"
    until_waiting(arena)
    lock.release()
    assert c.hear() == "lock"
    c.finish()
    assert not lock.locked()
    assert not other.locked()


def test_a_handler_may_take_the_lock_that_its_thread_waits_for(place: Place, child, arena):
    """It comes free while the handler runs, the handler takes and releases it, and the wait goes on to succeed."""
    lock = place.new()
    lock.acquire()
    c = child(
        """
        lock = open_lock(recipe)
        def handle(*_):
            say("in the handler")
            hear()
            with lock:
                say("had it")
        signal.signal(signal.SIGUSR1, handle)
        say()
        with lock:
            say([lock.depth])
        """,
        recipe=place.recipe(lock),
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGUSR1)
    assert c.hear() == "in the handler"
    lock.release()
    c.say()
    assert c.hear() == "had it"
    assert c.hear() == [1]
    c.finish()


def test_a_handler_may_fork(place: Place, child, arena):
    """The child goes on waiting as a participant of its own; both get the lock, one after the other."""
    lock = place.new()
    lock.acquire()
    c = child(
        """
        lock = open_lock(recipe)
        children = []
        def handle(*_):
            pid = os.fork()
            if pid: children.append(pid)
            else: children.clear()
        signal.signal(signal.SIGUSR1, handle)
        say()
        with lock:
            say([lock.holder[0] == os.getpid(), lock.depth])
        if children:
            say(wait_for(children[0]))
        else:
            os._exit(0)
        """,
        recipe=place.recipe(lock),
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGUSR1)
    until_waiting(arena, 2)
    lock.release()
    assert c.hear() == [True, 1]
    assert c.hear() == [True, 1]
    assert c.hear() == 0
    c.finish()


def test_a_stopped_holder_is_alive(place: Place, child, arena):
    lock = place.new()
    c = child(
        "lock = open_lock(recipe); lock.acquire(); say(); hear(); lock.release(); say()", recipe=place.recipe(lock)
    )
    c.hear()
    os.kill(c.pid, signal.SIGSTOP)
    try:
        assert lock.acquire(timeout=0.35) is False  # three belts long
    finally:
        os.kill(c.pid, signal.SIGCONT)
    c.say()
    c.hear()
    with lock as m:
        assert not m.owner_died
    c.finish()


def test_a_stopped_waiter_keeps_nobody_waiting_for_long(place: Place, child, arena):
    """The lock is left reserved for a waiter that cannot run: the reservation lapses."""
    lock = place.new()

    def one_is_stopped():
        lock.acquire()
        c = child("lock = open_lock(recipe); say(); lock.acquire(); lock.release(); say()", recipe=place.recipe(lock))
        c.hear()
        until_waiting(arena)
        os.kill(c.pid, signal.SIGSTOP)
        try:
            lock.release()
            start = time.monotonic()
            assert lock.acquire(timeout=5)
            took = time.monotonic() - start
            lock.release()
        finally:
            os.kill(c.pid, signal.SIGCONT)
        c.hear()
        c.finish()
        return took

    soon(0.2, one_is_stopped)


# ---- the GIL ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["acquire", "timed", "with"])
def test_other_threads_run_while_one_waits(place: Place, arena, how):
    lock = place.new()
    lock.acquire()
    t = threading.Thread(
        target={
            "acquire": lambda: (lock.acquire(), lock.release()),
            "timed": lambda: lock.acquire(timeout=10) and lock.release(),
            "with": lambda: lock.__enter__() and lock.__exit__(None, None, None),
        }[how]
    )
    t.start()
    until_waiting(arena)  # would never end if the waiter kept the GIL
    end = time.monotonic() + 0.3
    n = 0
    while time.monotonic() < end:
        n += 1
    assert n > 1000
    assert t.is_alive()
    lock.release()
    t.join(10)
    assert not t.is_alive()


# ---- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [0.0001, 0.01, 0.099, 0.1, 0.101, 0.2, 0.35])
def test_a_timed_wait_is_never_short(arena, child, asked):
    """Around the belt's 100 ms too."""
    lock = syncx.Mutex("x", arena=arena)
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with lock:
            inside.set()
            leave.wait(PATIENCE)

    def wait():
        start = time.monotonic()
        assert lock.acquire(timeout=asked) is False
        took = time.monotonic() - start
        assert took >= asked
        return took

    t = threading.Thread(target=hold)
    t.start()
    inside.wait(10)
    for _ in range(3):
        soon(asked + 0.5, wait)
    leave.set()
    t.join(10)


def test_waiting_costs_no_cpu_time(place: Place, arena):
    lock = place.new()
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with lock:
            inside.set()
            leave.wait(10)

    t = threading.Thread(target=hold)
    t.start()
    inside.wait(10)
    before = time.thread_time()
    assert lock.acquire(timeout=0.5) is False
    assert time.thread_time() - before < 0.05  # it sleeps: a poller would not
    leave.set()
    t.join(10)


def test_a_released_lock_wakes_its_waiter_at_once(place: Place, arena):
    lock = place.new()
    woken = []

    def wait():
        with lock:
            woken.append(time.monotonic())

    def release_under_a_waiter():
        lock.acquire()
        t = threading.Thread(target=wait)
        t.start()
        until_waiting(arena)
        released = time.monotonic()
        lock.release()
        t.join(PATIENCE)
        return woken.pop() - released

    _core._set_belt(False)  # a wake-up that is lost would never come
    try:
        for _ in range(5):
            soon(0.05, release_under_a_waiter)
    finally:
        _core._set_belt(True)


# ---- fairness --------------------------------------------------------------------------------------------------------


def test_nobody_starves(place: Place, child):
    lock = place.new()
    children = [
        child(
            """
            lock = open_lock(recipe)
            say()
            while (times := hear()):
                n, (begin, end) = 0, times
                while time.monotonic() < begin: pass
                while time.monotonic() < end:
                    with lock:
                        n += 1
                say(n)
            """,
            recipe=place.recipe(lock),
        )
        for _ in range(4)
    ]
    for c in children:
        c.hear()

    def share():
        # the same second for all: who came late or stayed on would have the lock to himself
        begin = time.monotonic() + 0.1
        for c in children:
            c.say([begin, begin + 1])
        counts = [c.hear() for c in children]
        return max(counts) / max(1, min(counts))

    soon(20, share)
    for c in children:
        c.say(None)
        c.finish()


def test_threads_of_one_process_do_not_starve(place: Place):
    lock = place.new()
    counts = [0] * 4
    end = time.monotonic() + 1

    def run(i):
        while time.monotonic() < end:
            with lock:
                counts[i] += 1

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(10)
    assert min(counts) > 0, counts
