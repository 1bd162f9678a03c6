"""Event: set, clear and wait in every placement, between threads and processes, and over the dead bodies of both."""

from __future__ import annotations

import gc
import math
import mmap
import os
import pickle
import random
import signal
import threading
import time
import weakref

import pytest
from support import PATIENCE, Place, until_waiting, waiters

import syncx
from syncx import _core


@pytest.fixture
def event(place: Place) -> syncx.Event:
    return place.new(syncx.Event)


@pytest.fixture
def no_belt():
    """In this process a wake-up that is lost never comes."""
    _core._set_belt(False)
    yield
    _core._set_belt(True)


def start_waiting(event, n: int = 1, timeout: float | None = None):
    """n threads that wait, asleep; the results they will bring."""
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(event.wait(timeout)), daemon=True) for _ in range(n)]
    before = waiters(event.arena)
    for t in threads:
        t.start()
    until_waiting(event.arena, before + n)
    return threads, results


def all_ended(threads) -> bool:
    end = time.monotonic() + PATIENCE
    for t in threads:
        t.join(max(0.0, end - time.monotonic()))
    return not any(t.is_alive() for t in threads)


# ---- alone -----------------------------------------------------------------------------------------------------------


def test_a_new_event_is_unset(event):
    assert event.is_set() is False
    assert event.wait(0) is False
    assert event.wait(timeout=0.001) is False


def test_set_and_clear(event):
    for _ in range(3):
        for _ in range(2):
            assert event.set() is None
            assert event.is_set() is True
            assert event.wait() is True
            assert event.wait(0) is True
            assert event.wait(timeout=None) is True
        for _ in range(2):
            assert event.clear() is None
            assert event.is_set() is False
            assert event.wait(0) is False


def test_another_handle_is_the_same_event(event, place):
    other = place.again(event)
    assert other is not event
    event.set()
    assert other.is_set()
    other.clear()
    assert not event.is_set()


def test_a_timed_wait_is_never_short(event):
    for asked in (0.01, 0.15, 0.3):
        start = time.monotonic()
        assert event.wait(asked) is False
        assert asked <= time.monotonic() - start < asked + 5


def test_repr(event, place):
    title = f"syncx.Event {event.name!r}" if place.how == "named" else "syncx.Event"
    assert repr(event) == f"<{title} unset>"
    event.set()
    assert repr(event) == f"<{title} set>"
    event.close()
    assert repr(event) == f"<{title} closed>"


def test_what_it_has_of_all_objects(event, place):
    assert event.arena is place.arena
    assert event.closed is False
    assert (event.name is None) == (place.how != "named")
    assert event.statistics() == {
        "acquisitions": None, "contended": 0, "waited": 0, "longest_wait": 0, "recoveries": 0, "rescues": 0,
    }  # fmt: skip
    assert weakref.ref(event)() is event
    assert syncx.Event.SIZE == 128
    assert syncx.Event.ALIGNMENT == 64
    with pytest.raises(AttributeError):
        event.colour = "red"


def test_a_closed_event(event):
    event.close()
    event.close()
    assert event.closed
    for call in (event.is_set, event.set, event.clear, event.wait, event.statistics):
        with pytest.raises(ValueError, match="closed"):
            call()


@pytest.mark.parametrize(
    ("timeout", "error", "words"),
    [
        (-2, ValueError, "negative"),
        (-0.5, ValueError, "negative"),
        (math.nan, ValueError, "NaN"),
        (threading.TIMEOUT_MAX * 2, OverflowError, "TIMEOUT_MAX"),
        (math.inf, OverflowError, "TIMEOUT_MAX"),
        ("1", TypeError, "number of seconds"),
        ([], TypeError, "number of seconds"),
    ],
)
def test_bad_timeouts(event, timeout, error, words):
    for _ in range(2):  # unset, and set: the answer does not hide the mistake
        with pytest.raises(error, match=words):
            event.wait(timeout)
        with pytest.raises(error, match=words):
            event.wait(timeout=timeout)
        event.set()


def test_bad_calls(arena):
    event = syncx.Event(arena=arena)
    with pytest.raises(TypeError, match="timeout"):
        event.wait(1, 2)
    with pytest.raises(TypeError, match="timeout"):
        event.wait(seconds=1)
    with pytest.raises(TypeError):
        event.set(True)
    with pytest.raises(TypeError):
        syncx.Event("x", arena)
    with pytest.raises(TypeError):
        syncx.Event("x", timeout=1, arena=arena)


def test_minus_one_waits_for_ever(event, arena):
    threads, results = start_waiting(event, timeout=-1)
    event.set()
    assert all_ended(threads)
    assert results == [True]


def test_names_and_kinds(arena):
    with pytest.raises(FileNotFoundError):
        syncx.Event("x", arena=arena, create=False)
    event = syncx.Event("x", arena=arena, create="exclusive")
    with pytest.raises(FileExistsError):
        syncx.Event("x", arena=arena, create="exclusive")
    event.set()
    assert syncx.Event("x", arena=arena, create=False).is_set()
    with pytest.raises(ValueError, match="Event"):
        syncx.Mutex("x", arena=arena)
    syncx.Mutex("m", arena=arena)
    with pytest.raises(ValueError, match="Mutex"):
        syncx.Event("m", arena=arena)


def test_it_outlives_its_handles(arena):
    syncx.Event("x", arena=arena).set()
    gc.collect()
    assert syncx.Event("x", arena=arena).is_set()


def test_it_is_listed(arena):
    event = syncx.Event("x", arena=arena)
    (info,) = arena.objects()
    assert (info.name, info.kind, info.value, info.holders, info.owner_died) == ("x", "Event", 0, (), False)
    event.set()
    (info,) = arena.objects()
    assert info.value == 1
    event.clear()
    threads, _ = start_waiting(event, 2)
    (info,) = arena.objects()
    assert len(info.waiters) == 2
    assert info.contended == 2
    event.set()
    assert all_ended(threads)


# ---- set wakes everybody ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cleared", [False, True])
def test_set_wakes_all_threads(event, no_belt, cleared):
    for _ in range(3):
        threads, results = start_waiting(event, 5)
        event.set()
        if cleared:
            event.clear()
        assert all_ended(threads)
        assert results == [True] * 5
        assert event.is_set() is not cleared
        event.clear()


WAIT = """
    from syncx import _core
    _core._set_belt(False)
    event = open_lock(recipe)
    say("ready")
    say([event.wait(), event.is_set()])
"""


@pytest.mark.parametrize("cleared", [False, True])
def test_set_wakes_all_processes(event, place, child, arena, cleared):
    children = [child(WAIT, recipe=place.recipe(event)) for _ in range(3)]
    for c in children:
        assert c.hear() == "ready"
    until_waiting(arena, 3)
    event.set()
    if cleared:
        event.clear()
    for c in children:
        woken, _ = c.hear()
        assert woken is True
        c.finish()
    assert event.statistics()["rescues"] == 0


def test_a_process_sets_and_clears(event, place, child, no_belt):
    c = child(
        """
        event = open_lock(recipe)
        say()
        while hear():
            event.set()
            event.clear()
            say()
        """,
        recipe=place.recipe(event),
    )
    c.hear()
    for _ in range(3):
        threads, results = start_waiting(event, 2)
        c.say(True)
        c.hear()
        assert all_ended(threads)
        assert results == [True, True]
    c.say(False)
    c.finish()


def test_a_wait_that_begins_after_a_clear_waits(event, arena):
    event.set()
    event.clear()
    assert event.wait(0) is False
    threads, results = start_waiting(event)
    assert results == []
    event.set()
    assert all_ended(threads)


def test_those_who_left_by_the_clock_keep_nobody_asleep(event, no_belt):
    for _ in range(3):
        threads, results = start_waiting(event, 3)
        for _ in range(5):
            assert event.wait(0.001) is False
        event.set()
        assert all_ended(threads)
        assert results == [True] * 3
        event.clear()


def test_question_and_answer(place, child):
    """Each side answers the other at once, thousands of times; without the belt a lost wake-up would be the last."""
    ask, answer = place.new(syncx.Event), place.new(syncx.Event)
    c = child(
        """
        from syncx import _core
        _core._set_belt(False)
        ask, answer = open_lock(recipes[0]), open_lock(recipes[1])
        say()
        for i in range(3000):
            assert ask.wait() is True
            ask.clear()
            answer.set()
        say(i)
        """,
        recipes=[place.recipe(ask), place.recipe(answer)],
    )
    c.hear()
    for i in range(3000):
        ask.set()
        assert answer.wait(PATIENCE) is True, i
        answer.clear()
    assert c.hear() == 2999
    c.finish()
    assert ask.statistics()["rescues"] == answer.statistics()["rescues"] == 0


def test_set_publishes_what_was_written(arena, child, tmp_path):
    """A message in shared memory, and an event that says it is there."""
    path = tmp_path / "message"
    path.write_bytes(bytes(64))
    full, empty = syncx.Event("full", arena=arena), syncx.Event("empty", arena=arena)
    c = child(
        """
        import mmap
        with open(path, "r+b") as f:
            memory = mmap.mmap(f.fileno(), 64)
        full, empty = syncx.Event("full", arena=arena), syncx.Event("empty", arena=arena)
        seen = []
        for _ in range(500):
            full.wait()
            full.clear()
            seen.append(int.from_bytes(memory[:8], "little"))
            empty.set()
        say(seen == list(range(500)))
        """,
        path=str(path),
    )
    with open(path, "r+b") as f, mmap.mmap(f.fileno(), 64) as memory:
        for i in range(500):
            memory[:8] = i.to_bytes(8, "little")
            full.set()
            assert empty.wait(PATIENCE)
            empty.clear()
    assert c.hear() is True
    c.finish()


# ---- waiting ---------------------------------------------------------------------------------------------------------


def test_other_threads_run_meanwhile(event):
    threads, results = start_waiting(event, 2)
    before = time.thread_time()
    assert sum(range(1000)) == 499500
    assert time.thread_time() - before < 5
    event.set()
    assert all_ended(threads)
    assert results == [True, True]


def test_waiting_costs_no_cpu_time(event):
    before = time.thread_time()
    assert event.wait(0.5) is False
    assert time.thread_time() - before < 0.1


def test_ctrl_c_ends_the_wait(event, place, child, arena):
    c = child(
        """
        event = open_lock(recipe)
        say()
        try:
            event.wait()
        except KeyboardInterrupt:
            say("interrupted")
        say(event.wait())
        """,
        recipe=place.recipe(event),
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGINT)
    assert c.hear() == "interrupted"
    until_waiting(arena)
    event.set()
    assert c.hear() is True
    c.finish()
    assert waiters(arena) == 0


def test_a_handler_that_returns_lets_the_wait_go_on(event, place, child, arena):
    c = child(
        """
        event = open_lock(recipe)
        signal.signal(signal.SIGUSR1, lambda *_: say("handled"))
        say()
        say(event.wait(timeout=60))
        """,
        recipe=place.recipe(event),
    )
    c.hear()
    for _ in range(5):
        until_waiting(arena)
        os.kill(c.pid, signal.SIGUSR1)
        assert c.hear() == "handled"
    event.set()
    assert c.hear() is True
    c.finish()


def test_a_handler_may_set_the_event_it_interrupts(event, place, child, arena):
    c = child(
        """
        event = open_lock(recipe)
        def handle(*_):
            event.set()
            event.clear()
        signal.signal(signal.SIGUSR1, handle)
        say()
        say([event.wait(), event.is_set()])
        """,
        recipe=place.recipe(event),
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGUSR1)
    assert c.hear() == [True, False]
    c.finish()


def test_a_handler_may_wait_for_another_event(place, child, arena):
    outer, inner = place.new(syncx.Event), place.new(syncx.Event)
    c = child(
        """
        outer, inner = open_lock(recipes[0]), open_lock(recipes[1])
        def handle(*_):
            say("inside")
            say(inner.wait())
        signal.signal(signal.SIGUSR1, handle)
        say()
        say([outer.wait()])
        """,
        recipes=[place.recipe(outer), place.recipe(inner)],
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGUSR1)
    assert c.hear() == "inside"
    inner.set()
    assert c.hear() is True
    outer.set()
    assert c.hear() == [True]
    c.finish()


def test_a_handler_may_fork(event, place, child, arena):
    c = child(
        """
        event = open_lock(recipe)
        children = []
        def handle(*_):
            pid = os.fork()
            if pid:
                children.append(pid)
            say("forked")
        signal.signal(signal.SIGUSR1, handle)
        say()
        result = event.wait()
        say(["child" if not children else "parent", result])
        if not children:
            os._exit(0)
        say(wait_for(children[0]))
        """,
        recipe=place.recipe(event),
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGUSR1)
    assert [c.hear(), c.hear()] == ["forked", "forked"]
    until_waiting(arena, 2)
    event.set()
    heard = [c.hear(), c.hear(), c.hear()]
    assert ["child", True] in heard
    assert ["parent", True] in heard
    assert heard[-1] == 0
    c.finish()


# ---- other processes -------------------------------------------------------------------------------------------------


def test_a_forked_child_shares_it(event, place, child):
    c = child(
        """
        event, answer = open_lock(recipe), syncx.Event(arena=arena)
        pid = os.fork()
        if pid == 0:
            event.wait()
            answer.set()
            os._exit(0)
        event.set()
        say([answer.wait(30), wait_for(pid)])
        """,
        recipe=place.recipe(event),
    )
    assert c.hear() == [True, 0]
    c.finish()


def test_at_fork_reinit_changes_nothing(event):
    event.set()
    assert event._at_fork_reinit() is None
    assert event.is_set()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_it_goes_to_other_processes(arena, child, tmp_path, method):
    program = tmp_path / "program.py"
    program.write_text(
        """
import multiprocessing, sys
import syncx

def work(ask, answer):
    ask.wait()
    answer.set()

if __name__ == "__main__":
    arena = syncx.Arena(sys.argv[1])
    context = multiprocessing.get_context(sys.argv[2])
    ask, answer = syncx.Event(arena=arena), syncx.Event("answer", arena=arena)
    p = context.Process(target=work, args=(ask, answer))
    p.start()
    assert not answer.is_set()
    ask.set()
    assert answer.wait(30)
    p.join()
    assert p.exitcode == 0
    print('"done"', flush=True)
"""
    )
    c = child("os.execv(sys.executable, [sys.executable, *argv])", argv=[str(program), arena.path, method])
    assert c.hear() == "done"
    c.finish()


def test_pickling(arena):
    event = syncx.Event("x", arena=arena)
    again = pickle.loads(pickle.dumps(event))
    event.set()
    assert type(again) is syncx.Event
    assert again.name == "x"
    assert again.is_set()
    outside = syncx.Event.at(mmap.mmap(-1, 4096), arena=arena)
    with pytest.raises(TypeError, match=r"Event\.at"):
        pickle.dumps(outside)


def test_a_subclass_is_pickled_as_such(arena):
    again = pickle.loads(pickle.dumps(Louder(arena=arena)))
    assert type(again) is Louder
    again.set()
    assert again.is_set() == "YES"


class Louder(syncx.Event):
    def is_set(self):
        return "YES" if super().is_set() else "NO"


# ---- the end of an event ---------------------------------------------------------------------------------------------


def test_unlinking_tells_who_waits(arena, no_belt):
    event = syncx.Event("x", arena=arena)
    errors: list[BaseException] = []

    def wait():
        try:
            event.wait()
        except syncx.Gone as e:
            errors.append(e)

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for t in threads:
        t.start()
    until_waiting(arena, 3)
    arena.unlink("x", force=True)
    assert all_ended(threads)
    assert len(errors) == 3
    assert "unlinked" in str(errors[0])
    for call in (event.set, event.clear, event.wait):
        with pytest.raises(syncx.Gone):
            call()
    assert event.is_set() is False
    assert not syncx.Event("x", arena=arena).is_set()  # another one


def test_memory_that_outlives_its_arena(arena, tmp_path):
    """An unlinked arena's events are refused, by waiters too; the next arena of that path takes the memory over."""
    memory = mmap.mmap(-1, 4096)
    name = f"{arena.name}-second"
    second = syncx.Arena(name)
    event = syncx.Event.at(memory, arena=second)
    event.set()
    unset = syncx.Event.at(memory, 128, arena=second)
    errors: list[BaseException] = []

    def wait():
        try:
            unset.wait()
        except syncx.Gone as e:
            errors.append(e)

    t = threading.Thread(target=wait, daemon=True)
    t.start()
    until_waiting(second)
    second.unlink(force=True)
    assert all_ended([t])
    assert len(errors) == 1
    for call in (event.set, event.clear, event.wait):
        with pytest.raises(syncx.Gone, match="Event set"):
            call()
    assert event.is_set()
    event.close()
    second.close()
    with syncx.Arena(name) as third:
        again = syncx.Event.at(memory, arena=third, create=False)
        assert again.is_set()
        again.close()
        third.unlink(force=True)


def test_closing_under_a_waiter_is_refused(event):
    threads, _ = start_waiting(event)
    with pytest.raises(RuntimeError, match="in use"):
        event.close()
    event.set()
    assert all_ended(threads)
    event.close()


def test_random_bytes_never_crash(arena):
    memory = mmap.mmap(-1, 4096)
    event = syncx.Event.at(memory, arena=arena)
    rng = random.Random(1)
    for _ in range(300):
        memory[64:128] = rng.randbytes(64)
        for call in (event.is_set, event.set, event.clear, event.is_set, lambda: event.wait(0)):
            try:
                assert call() in (None, True, False)
            except syncx.Gone:
                assert memory[64] & 0x10
    memory[64:128] = bytes(64)
    event.set()
    assert event.wait(0) is True


# ---- deaths ----------------------------------------------------------------------------------------------------------


@pytest.mark.death
def test_killed_waiters_keep_nobody_asleep(event, place, child, arena, no_belt):
    children = [child(WAIT, recipe=place.recipe(event)) for _ in range(3)]
    for c in children:
        c.hear()
    threads, results = start_waiting(event, 2)
    until_waiting(arena, 5)
    for c in children[:2]:
        c.kill()
    event.set()
    assert all_ended(threads)
    assert results == [True, True]
    assert children[2].hear() == [True, True]
    children[2].finish()


@pytest.mark.death
def test_a_killed_setter_did_it_or_did_not(event, place, child, no_belt):
    """At any instant: then either everybody is awake, or the event was never set and the next set wakes them."""
    rng = random.Random(2)
    outcomes = set()
    for i in range(12):
        threads, results = start_waiting(event, 2)
        c = child(
            """
            event = open_lock(recipe)
            say()
            hear()
            event.set()
            say()
            while True:
                event.clear()
                event.set()
            """,
            recipe=place.recipe(event),
        )
        c.hear()
        if i % 2:
            c.say()
            if i % 4 == 1:
                c.hear()
            end = time.monotonic() + rng.random() / 1000
            while time.monotonic() < end:
                pass
        c.kill()
        woken = event.is_set()
        if not woken:  # it may have been cleared after a set: one more can do no harm
            event.set()
        outcomes.add(woken)
        assert all_ended(threads)
        assert results == [True, True]
        event.clear()
    assert False in outcomes  # those that were never told to begin


@pytest.mark.death
def test_what_was_set_stays_set(event, place, child):
    c = child("event = open_lock(recipe); event.set(); say(); hear()", recipe=place.recipe(event))
    c.hear()
    c.kill()
    assert event.is_set()
    assert event.wait(0) is True


# ---- the oracle sees a broken twin -----------------------------------------------------------------------------------


class WakesOne:
    """An event that wakes one waiter instead of all: a semaphore taken for one."""

    def __init__(self, arena):
        self.arena = arena
        self._turnstile = threading.Semaphore(0)
        self._event = syncx.Event(arena=arena)

    def set(self):
        self._turnstile.release()
        self._event.set()

    def wait(self, timeout):
        self._event.wait()
        return self._turnstile.acquire(timeout=timeout)


def test_a_twin_that_wakes_one_is_seen(arena):
    twin = WakesOne(arena)
    threads, results = start_waiting(twin, 3, timeout=0.2)
    twin.set()
    assert all_ended(threads)
    assert sorted(results) == [False, False, True]
