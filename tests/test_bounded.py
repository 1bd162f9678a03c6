"""BoundedSemaphore and BinarySemaphore: permits, their owners, several at a time, and the end of an owner."""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import os
import pickle
import platform
import signal
import threading
import time
import weakref
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest
from support import Place, prefix, until, until_waiting

import syncx

EXIT_THREAD = {"x86_64": 60, "aarch64": 93}
"""The number of exit(2), which ends a thread without any of the library's care."""

BOTH = [(syncx.BinarySemaphore, {}), (syncx.BoundedSemaphore, {"value": 1}), (syncx.BoundedSemaphore, {"value": 3})]


def in_thread(call, *args, **kwargs):
    """The result of a call in another thread, or its exception."""
    outcome = []

    def run():
        try:
            outcome.append((call(*args, **kwargs), None))
        except BaseException as e:
            outcome.append((None, e))

    t = threading.Thread(target=run)
    t.start()
    t.join(20)
    assert outcome, "the thread did not end in time"
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


class Started:
    """A call in a thread of its own, and what came of it."""

    def __init__(self, call, *args, **kwargs):
        self.result = None
        self.thread = threading.Thread(target=self._run, args=(call, args, kwargs))
        self.thread.start()

    def _run(self, call, args, kwargs):
        self.result = call(*args, **kwargs)

    def done(self):
        return not self.thread.is_alive()

    def get(self):
        self.thread.join(20)
        assert self.done(), "the thread did not end in time"
        return self.result


@pytest.fixture
def three(place: Place):
    return place.new(syncx.BoundedSemaphore, value=3)


# ---- one at a time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "options"), BOTH)
class TestContract:
    @pytest.fixture
    def semaphore(self, place, cls, options):
        return place.new(cls, **options)

    def test_with_takes_one_permit_and_yields_the_semaphore(self, semaphore):
        capacity = semaphore.capacity
        assert semaphore.value == capacity
        with semaphore as s:
            assert s is semaphore
            assert (semaphore.value, semaphore.held) == (capacity - 1, 1)
            assert semaphore.holders == ((os.getpid(), threading.get_native_id()),)
        assert (semaphore.value, semaphore.held, semaphore.holders) == (capacity, 0, ())

    def test_the_exception_of_the_body_goes_on(self, semaphore):
        with pytest.raises(ZeroDivisionError), semaphore:
            raise ZeroDivisionError
        assert semaphore.held == 0

    def test_until_none_is_left(self, semaphore):
        for n in range(semaphore.capacity):
            assert not semaphore.locked()
            assert semaphore.acquire((True, False)[n % 2]) is True
        assert semaphore.locked()
        assert semaphore.value == 0
        for how in ({"blocking": False}, {"timeout": 0}, {"timeout": 0.01}):
            assert semaphore.acquire(**how) is False
            assert in_thread(semaphore.acquire, **how) is False
        for _ in range(semaphore.capacity):
            assert semaphore.release() is None
        assert semaphore.value == semaphore.capacity

    def test_over_release(self, semaphore):
        with pytest.raises(ValueError, match="does not hold as many"):
            semaphore.release()
        semaphore.acquire()
        semaphore.release()
        with pytest.raises(ValueError, match="nothing was released"):
            semaphore.release()
        assert semaphore.value == semaphore.capacity

    def test_any_thread_of_the_process_may_release(self, semaphore):
        semaphore.acquire()
        in_thread(semaphore.release)
        assert semaphore.held == 0
        in_thread(semaphore.acquire)
        assert semaphore.held == 1  # though its thread has ended
        assert semaphore.holders[0].pid == os.getpid()
        semaphore.release()
        assert semaphore.value == semaphore.capacity

    def test_a_waiter_gets_what_is_released(self, semaphore, arena):
        taken = semaphore.capacity
        for _ in range(taken):
            semaphore.acquire()
        t = Started(semaphore.acquire, timeout=20)
        until_waiting(arena)
        semaphore.release()
        assert t.get() is True
        assert semaphore.held == taken
        for _ in range(taken):
            semaphore.release()

    def test_many_waiters_through_one_door(self, semaphore, arena):
        inside, most, lock = [0], [0], threading.Lock()

        def work():
            for n in range(200):
                with semaphore:
                    with lock:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                    if n % 10 == 0:
                        time.sleep(0.0001)
                    with lock:
                        inside[0] -= 1

        ts = [Started(work) for _ in range(6)]
        for t in ts:
            t.get()
        assert most[0] <= semaphore.capacity
        assert semaphore.value == semaphore.capacity
        assert semaphore.statistics()["rescues"] == 0

    def test_a_timeout_lasts_as_long_as_was_asked(self, semaphore):
        with contextlib.ExitStack() as stack:
            for _ in range(semaphore.capacity):
                stack.enter_context(semaphore)
            for asked in (0.001, 0.05, 0.25):
                start = time.monotonic()
                assert semaphore.acquire(timeout=asked) is False
                assert asked <= time.monotonic() - start < asked + 5

    def test_within_and_timeout(self, place, semaphore):
        with semaphore.within(5) as s:
            assert s is semaphore
        hasty = place.again(semaphore)
        hasty._configure(0.01)
        assert hasty.timeout == 0.01
        for _ in range(semaphore.capacity):
            semaphore.acquire()
        with pytest.raises(syncx.Timeout, match=r"0\.01 s"), hasty:
            pytest.fail("the body ran without a permit")
        with pytest.raises(syncx.Timeout), semaphore.within(0.01):
            pytest.fail("the body ran without a permit")
        assert semaphore.held == semaphore.capacity
        for _ in range(semaphore.capacity):
            semaphore.release()

    def test_a_second_handle_is_the_same_semaphore(self, place, semaphore):
        other = place.again(semaphore)
        with other:
            assert semaphore.held == 1
        semaphore.acquire()
        other.release()
        assert semaphore.held == 0

    def test_in_another_process(self, place, semaphore, child):
        c = child(
            """
            s = open_lock(recipe)
            say([s.value, s.held, s.acquire(False), s.value, s.held, list(s.holders[0])])
            hear()
            try:
                s.release(); s.release()
            except ValueError:
                say([s.value, s.held])
            """,
            recipe=place.recipe(semaphore),
        )
        capacity = semaphore.capacity
        assert c.hear() == [capacity, 0, True, capacity - 1, 1, [c.pid, c.pid]]
        assert (semaphore.value, semaphore.held, semaphore.holders) == (capacity - 1, 0, ((c.pid, c.pid),))
        with pytest.raises(ValueError, match="does not hold"):
            semaphore.release()  # what another process holds is not ours to release
        c.say()
        assert c.hear() == [capacity, 0]
        c.finish()

    def test_closing(self, place, semaphore):
        other = place.again(semaphore)
        semaphore.acquire()
        for s in (semaphore, other):
            with pytest.raises(RuntimeError, match="held by this thread"):
                s.close()
        with pytest.raises(RuntimeError, match="in use by another thread"):
            in_thread(other.close)
        semaphore.release()
        other.close()
        assert other.closed
        for call in (other.acquire, other.release, other.locked, other.__enter__):
            with pytest.raises(ValueError, match="closed"):
                call()
        for name in ("value", "held", "capacity", "holders"):
            with pytest.raises(ValueError, match="closed"):
                getattr(other, name)
        assert "closed" in repr(other)

    def test_weak_references_and_the_end(self, semaphore, place):
        other = place.again(semaphore)
        ref = weakref.ref(other)
        with other:
            assert ref() is other
        del other
        gc.collect()
        assert ref() is None
        assert semaphore.value == semaphore.capacity

    def test_repr(self, semaphore):
        capacity = semaphore.capacity
        assert f"unlocked, {capacity} free of {capacity}>" in repr(semaphore)
        with semaphore:
            state = "unlocked" if capacity > 1 else "locked"
            assert f"{state}, {capacity - 1} free of {capacity}, held by this process>" in repr(semaphore)

    @pytest.mark.parametrize(
        ("args", "kwargs", "error"),
        [
            ((False, 1), {}, ValueError),
            ((), {"timeout": -2}, ValueError),
            ((), {"timeout": float("nan")}, ValueError),
            ((), {"timeout": threading.TIMEOUT_MAX * 2}, OverflowError),
            ((), {"timeout": "1"}, TypeError),
            ((True, 1, 1), {}, TypeError),
            ((), {"m": 1}, TypeError),
            ((), {"n": 0}, ValueError),
            ((), {"n": -1}, ValueError),
            ((), {"n": 4}, ValueError),
            ((), {"n": 2**70}, ValueError),
            ((), {"n": 1.0}, TypeError),
            ((), {"n": True}, TypeError),
        ],
    )
    def test_wrong_arguments_of_acquire(self, semaphore, args, kwargs, error):
        with pytest.raises(error):
            semaphore.acquire(*args, **kwargs)
        assert semaphore.held == 0

    @pytest.mark.parametrize(
        ("args", "kwargs", "error"),
        [((0,), {}, ValueError), ((-1,), {}, ValueError), ((1, 1), {}, TypeError), ((), {"m": 1}, TypeError),
         ((None,), {}, TypeError), ((1.0,), {}, TypeError), ((2,), {}, ValueError), ((), {"n": 2**40}, ValueError)],
    )  # fmt: skip
    def test_wrong_arguments_of_release(self, semaphore, args, kwargs, error):
        with semaphore:
            with pytest.raises(error):
                semaphore.release(*args, **kwargs)
            assert semaphore.held == 1


# ---- several at a time ----------------------------------------------------------------------------------------------


def test_all_or_none(three):
    assert three.acquire(n=2) is True
    assert three.acquire(False, n=2) is False
    assert three.acquire(timeout=0.01, n=2) is False
    assert three.value == 1  # nothing was kept
    assert three.acquire(n=1) is True
    with pytest.raises(ValueError, match="nothing was released"):
        three.release(4)
    assert three.held == 3
    three.release(n=3)
    assert three.value == 3


def test_a_waiter_for_several_waits_for_all_of_them(three, arena):
    three.acquire(n=3)
    t = Started(three.acquire, n=3, timeout=20)
    until_waiting(arena)
    assert [row[8] for row in arena._participants() if row[3]] == [3]
    three.release()
    three.release()
    until_waiting(arena)
    assert not t.done()
    assert three.value == 2
    three.release()
    assert t.get() is True
    assert three.held == 3
    three.release(3)


def test_release_of_several_wakes_as_many(three, arena):
    three.acquire(n=3)
    ts = [Started(three.acquire, timeout=20) for _ in range(3)]
    until_waiting(arena, 3)
    three.release(3)
    assert [t.get() for t in ts] == [True] * 3
    assert three.held == 3
    three.release(3)


def test_those_who_want_one_and_those_who_want_more(three, arena):
    three.acquire(n=3)
    one, two = Started(three.acquire, timeout=20), Started(three.acquire, n=2, timeout=20)
    until_waiting(arena, 2)
    for _ in range(3):
        three.release()
    assert one.get() is two.get() is True
    assert three.value == 0
    three.release(3)


@pytest.mark.parametrize("sizes", [(1, 1, 2, 3), (2, 2, 2, 2), (3, 3, 1)])
def test_nobody_starves_for_good_and_no_permit_is_lost(three, sizes):
    inside, most, lock = [0], [0], threading.Lock()

    def work(n):
        for _ in range(200):
            assert three.acquire(n=n, timeout=30)
            with lock:
                inside[0] += n
                most[0] = max(most[0], inside[0])
            with lock:
                inside[0] -= n
            three.release(n)

    ts = [Started(work, n) for n in sizes]
    for t in ts:
        t.get()
    assert most[0] <= 3
    assert (three.value, three.held) == (3, 0)
    assert three.statistics()["rescues"] == 0


def test_a_set_in_the_making_is_no_failure(arena, child):
    """One process takes three of four again and again and gives them back; a try for one does not fail.

    Unless that process stands still for 10 ms in the middle of its taking, as on a busy machine it may: hence tries of
    tries.
    """
    s = syncx.BoundedSemaphore(4, name="s", arena=arena)
    code = """
    s = syncx.BoundedSemaphore(name="s", arena=arena)
    enough = threading.Event()
    threading.Thread(target=lambda: (hear(), enough.set()), daemon=True).start()
    say()
    while not enough.is_set():
        assert s.acquire(n=3, timeout=30)
        s.release(3)
    """
    c = child(code)
    c.hear()

    def one() -> bool:
        got = s.acquire(False)
        if got:
            s.release()
        return got

    assert any(all(one() for _ in range(3000)) for _ in range(8))
    c.say()
    c.finish()


def test_two_threads_release_several(three):
    three.acquire(n=3)

    def release():
        try:
            three.release(2)
        except ValueError:
            return False
        return True

    for _ in range(200):
        outcomes = [t.get() for t in [Started(release) for _ in range(2)]]
        assert outcomes.count(True) <= 1  # three permits: not twice two
        assert three.held == 3 - 2 * outcomes.count(True)
        if three.held == 1:
            assert three.acquire(n=2)
    three.release(3)


# ---- values ---------------------------------------------------------------------------------------------------------


def test_an_existing_name_keeps_its_value(arena):
    s = syncx.BoundedSemaphore(3, name="s", arena=arena)
    assert syncx.BoundedSemaphore(name="s", arena=arena).capacity == 3
    assert syncx.BoundedSemaphore(3, name="s", arena=arena, create=False).capacity == 3
    for open_it in (
        lambda: syncx.BoundedSemaphore(4, name="s", arena=arena),
        lambda: syncx.BoundedSemaphore(4, name="s", arena=arena, create=False),
    ):
        with pytest.raises(ValueError, match="value 3, and 4 was asked"):
            open_it()
    with pytest.raises(ValueError, match="value 3, and 1 was asked"):
        syncx.BinarySemaphore("s", arena=arena)
    with pytest.raises(ValueError, match="BoundedSemaphore"):
        syncx.Mutex("s", arena=arena)
    assert s.capacity == 3
    assert syncx.BoundedSemaphore(name="new", arena=arena).capacity == 1
    assert syncx.BinarySemaphore("new", arena=arena).capacity == 1


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-1, ValueError, "from 0 to 262144, not -1"),
        (syncx.BoundedSemaphore.MAX_VALUE + 1, ValueError, "from 0 to 262144"),
        (2**70, ValueError, "from 0 to"),
        ("jobs", TypeError, "name="),
        (1.0, TypeError, "float"),
        (True, TypeError, "bool"),
        (None, TypeError, "NoneType"),
        (b"4", TypeError, "bytes"),
    ],
)
def test_wrong_values(arena, value, error, text):
    with pytest.raises(error, match=text):
        syncx.BoundedSemaphore(value, arena=arena)
    with pytest.raises(error, match=text):
        syncx.BoundedSemaphore.size(value)
    assert list(arena.objects()) == []


def test_size_wants_a_value():
    with pytest.raises(TypeError, match="value must be an int"):
        syncx.BoundedSemaphore.size(None)


def test_no_permit_at_all(arena):
    s = syncx.BoundedSemaphore(0, arena=arena)
    assert s.locked()
    assert (s.value, s.capacity, s.acquire(False), s.acquire(timeout=0.01)) == (0, 0, False, False)
    with pytest.raises(ValueError, match="does not hold"):
        s.release()
    with pytest.raises(syncx.Timeout), s.within(0):
        pytest.fail("the body ran without a permit")


def test_ten_thousand_permits(arena):
    s = syncx.BoundedSemaphore(10_000, arena=arena)
    assert syncx.BoundedSemaphore.size(10_000) == 160_256
    assert s.acquire(n=9_999)
    assert s.acquire(False)
    assert not s.acquire(False)
    assert s.held == len(s.holders) == 10_000
    t = Started(s.acquire, n=5_000, timeout=20)
    until_waiting(arena)
    s.release(5_000)
    assert t.get()
    s.release(10_000)
    assert s.value == 10_000


def test_the_most(arena):
    most = syncx.BoundedSemaphore.MAX_VALUE
    s = syncx.BoundedSemaphore(most, arena=arena)
    assert s.acquire(n=most)
    assert s.locked()
    assert not s.acquire(False)
    s.release(most)
    assert s.value == s.capacity == most


def test_size_is_what_it_takes():
    assert syncx.BoundedSemaphore.size(1) == syncx.BinarySemaphore.SIZE
    for value in (1, 3, 4, 5, 100):
        size = syncx.BoundedSemaphore.size(value)
        assert size % syncx.BoundedSemaphore.ALIGNMENT == 0
        assert 256 + 16 * value <= size < 256 + 16 * value + 64


def test_memory_that_is_too_small(arena):
    size = syncx.BoundedSemaphore.size(4)
    shm = SharedMemory(f"syncx-{os.geteuid()}-{prefix()}-{os.getpid()}-small", create=True, size=4096)
    try:
        view = memoryview(shm.buf)[: size - 1]
        with pytest.raises(ValueError, match=f"{size} bytes are needed"):
            syncx.BoundedSemaphore.at(view, value=4, arena=arena)
        with pytest.raises(TypeError, match="name="):
            syncx.BoundedSemaphore.at(shm.buf, value="4", arena=arena)
        s = syncx.BoundedSemaphore.at(shm.buf, value=4, arena=arena)
        with pytest.raises(ValueError, match="value 4, and 5 was asked"):
            syncx.BoundedSemaphore.at(shm.buf, value=5, arena=arena)
        assert syncx.BoundedSemaphore.at(shm.buf, arena=arena).capacity == 4
        s.close()
        del s
        gc.collect()
        view.release()
    finally:
        shm.unlink()
        shm.close()


# ---- pickling, unlinking, what the arena tells ----------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "options"), BOTH)
def test_pickles_are_references(arena, cls, options):
    for names in ({}, {"name": "s"}):
        s = cls(arena=arena, timeout=2.5, **names, **options)
        with s:
            other = pickle.loads(pickle.dumps(s))
            assert type(other) is cls
            assert (other.held, other.timeout, other.capacity, other.name) == (1, 2.5, s.capacity, s.name)


def test_the_arena_tells_of_it(arena):
    s = syncx.BoundedSemaphore(3, name="s", arena=arena)
    with s:
        (info,) = arena.objects()
        assert (info.kind, info.parameter, info.value) == ("BoundedSemaphore", 3, 2)
        assert info.holders == ((os.getpid(), threading.get_native_id()),)
        with pytest.raises(syncx.InUse):
            arena.unlink("s")


@pytest.mark.parametrize("n", [1, 2])
def test_unlinking_tells_the_sleepers(arena, n):
    s = syncx.BoundedSemaphore(2, name="s", arena=arena)
    s.acquire(n=2)

    def wait():
        with pytest.raises(syncx.Gone):
            s.acquire(n=n, timeout=20)
        return True

    ts = [Started(wait) for _ in range(3)]
    until_waiting(arena, 3)
    arena.unlink("s", force=True)
    assert [t.get() for t in ts] == [True] * 3
    with pytest.raises(syncx.Gone):
        s.acquire(False)
    s.release(2)  # what is held is given back all the same
    assert syncx.BoundedSemaphore(5, name="s", arena=arena).capacity == 5
    assert s.statistics()["rescues"] == 0


# ---- the end of an owner --------------------------------------------------------------------------------------------

HOLD = """
    s = open_lock(recipe)
    assert s.acquire(n=n)
    say(s.held)
    hear()
"""


@pytest.mark.death
def test_the_permits_of_a_killed_process_come_back(place, three, child, caplog):
    c = child(HOLD, recipe=place.recipe(three), n=2)
    assert c.hear() == 2
    assert (three.value, three.holders) == (1, ((c.pid, c.pid),) * 2)
    c.kill()
    assert (three.value, three.holders, three.locked()) == (3, (), False)
    with caplog.at_level(logging.WARNING, "syncx"):
        assert three.acquire(n=3, timeout=0)
        assert caplog.messages == []  # told when the hold ends
        three.release(3)
    assert len(caplog.messages) == 1
    assert f"process {c.pid} (thread {c.pid}) died holding" in caplog.messages[0]
    assert three.statistics()["recoveries"] == 2
    with caplog.at_level(logging.WARNING, "syncx"), three, three, three:
        assert three.locked()
    assert len(caplog.messages) == 1


@pytest.mark.death
@pytest.mark.parametrize("n", [1, 3])
def test_a_waiter_is_told_of_the_death(place, three, child, arena, n):
    c = child(HOLD, recipe=place.recipe(three), n=3)
    assert c.hear() == 3
    t = Started(three.acquire, n=n, timeout=20)
    until_waiting(arena)
    c.kill()
    assert t.get() is True
    assert three.held == n
    three.release(n)


@pytest.mark.death
def test_each_permit_of_the_dead_finds_a_waiter(arena, child):
    s = syncx.BoundedSemaphore(4, name="s", arena=arena)
    held = [child('s = syncx.BoundedSemaphore(name="s", arena=arena); s.acquire(); say(); hear()') for _ in range(4)]
    for c in held:
        c.hear()
    ts = [Started(s.acquire, timeout=20) for _ in range(4)]
    until_waiting(arena, 4)
    for n, c in enumerate(held):
        c.kill()
        until(lambda n=n: sum(t.done() for t in ts) == n + 1, "one waiter gets the dead one's permit")
    assert [t.get() for t in ts] == [True] * 4
    assert s.held == 4
    s.release(4)


@pytest.mark.death
@pytest.mark.parametrize("end", ["sys.exit(0)", "os._exit(0)", "os.execv('/bin/cat', ['cat'])"])
def test_other_ends_of_a_process(arena, child, end):
    s = syncx.BoundedSemaphore(2, name="s", arena=arena)
    c = child(
        f"""
        s = syncx.BoundedSemaphore(name="s", arena=arena)
        s.acquire(n=2)
        say()
        hear()
        {end}
        """
    )
    c.hear()
    t = Started(s.acquire, n=2, timeout=20)
    until_waiting(arena)
    c.say()
    assert t.get() is True
    s.release(2)


@pytest.mark.death
def test_execve_from_another_thread(arena, child):
    """The kernel's mark may be missing then: the belt asks the second witness."""
    s = syncx.BoundedSemaphore(2, name="s", arena=arena)
    c = child(
        """
        s = syncx.BoundedSemaphore(name="s", arena=arena)
        s.acquire()
        def replace():
            s.acquire(); say(); hear(); os.execv("/bin/cat", ["cat"])
        threading.Thread(target=replace).start()
        """
    )
    c.hear()
    t = Started(s.acquire, n=2, timeout=20)
    until_waiting(arena)
    c.say()
    assert t.get() is True
    s.release(2)


def test_a_stopped_holder_is_alive(arena, child):
    s = syncx.BoundedSemaphore(2, name="s", arena=arena)
    c = child('s = syncx.BoundedSemaphore(name="s", arena=arena); s.acquire(n=2); say(); hear(); s.release(2); say()')
    c.hear()
    os.kill(c.pid, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{c.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it stops")
    assert s.acquire(timeout=0.3) is False  # beyond the belt
    assert s.value == 0
    os.kill(c.pid, signal.SIGCONT)
    c.say()
    assert c.hear() == ""
    assert s.acquire(n=2, timeout=20)
    s.release(2)
    c.finish()


def test_the_end_of_a_thread_leaves_the_permit_with_its_process(arena, child):
    s = syncx.BoundedSemaphore(2, name="s", arena=arena)
    c = child(
        """
        s = syncx.BoundedSemaphore(name="s", arena=arena)
        t = threading.Thread(target=s.acquire); t.start(); t.join()
        say(s.held); hear(); s.release(); say(s.held); hear()
        """
    )
    assert c.hear() == 1
    assert s.value == 1
    t = Started(s.acquire, n=2, timeout=20)
    until_waiting(arena)
    assert s.acquire(n=2, timeout=0.3) is False
    c.say()
    assert c.hear() == 0
    assert t.get() is True
    s.release(2)
    c.say()
    c.finish()


@pytest.mark.death
def test_killed_when_its_thread_has_ended(arena, child):
    s = syncx.BinarySemaphore("s", arena=arena)
    c = child(
        """
        s = syncx.BinarySemaphore("s", arena=arena)
        t = threading.Thread(target=s.acquire); t.start(); t.join()
        say(s.held); hear()
        """
    )
    assert c.hear() == 1
    t = Started(s.acquire, timeout=20)
    until_waiting(arena)
    c.kill()
    assert t.get() is True
    s.release()


@pytest.mark.core
@pytest.mark.death
@pytest.mark.skipif(platform.machine() not in EXIT_THREAD, reason="the number of exit(2) is not known here")
def test_a_process_is_dead_when_the_last_of_its_threads_is(arena, child):
    """The threads of a killed process do not end at one instant: one may be in a system call when another has gone.

    Here one ends as a killed thread does, with the kernel's mark, and the other lives on.
    """
    s = syncx.BoundedSemaphore(1, name="s", arena=arena)
    c = child(
        """
        import ctypes
        s, tids = syncx.BoundedSemaphore(name="s", arena=arena), []
        def end():
            with syncx.Mutex("m", arena=arena):
                tids.append(threading.get_native_id())
            ctypes.CDLL(None).syscall(EXIT, 0)
        s.acquire()
        threading.Thread(target=end, daemon=True).start()
        while not tids or os.path.exists(f"/proc/self/task/{tids[0]}"):
            time.sleep(0.001)
        say()
        hear()
        """,
        EXIT=EXIT_THREAD[platform.machine()],
    )
    c.hear()
    assert s.acquire(timeout=0) is False
    assert s.acquire(timeout=0.3) is False  # asks the second witness too
    # its slot is taken anew, again and again, which would write down that the process is dead
    for _ in range(12):
        thread = threading.Thread(target=lambda: syncx.Mutex("m", arena=arena).acquire(timeout=0))
        thread.start()
        thread.join()
    assert s.acquire(timeout=0) is False
    assert s.holders == ((c.pid, c.pid),)
    c.kill()
    assert s.acquire(timeout=20)
    s.release()


def test_a_forked_child_holds_nothing(arena, child):
    c = child(
        """
        s = syncx.BoundedSemaphore(2, arena=arena)
        with s:
            pid = os.fork()
            if pid == 0:
                assert (s.held, s.value) == (0, 1)
                try:
                    s.release()
                except ValueError:
                    pass
                else:
                    os._exit(1)
                with s:
                    assert (s.held, s.value, s.acquire(False)) == (1, 0, False)
                os._exit(0)
            say(wait_for(pid))
            say([s.held, s.value])
        """
    )
    assert c.hear() == 0
    assert c.hear() == [1, 1]
    c.finish()


def test_leaving_a_with_in_a_forked_child(arena, child):
    """sys.exit in the child goes on as SystemExit though there is nothing to give back there."""
    c = child(
        """
        s = syncx.BinarySemaphore(arena=arena)
        pid = None
        try:
            with s:
                pid = os.fork()
                if pid == 0:
                    sys.exit(7)
                say(wait_for(pid))
        except SystemExit as e:
            os._exit(e.code)
        say(s.held)
        """
    )
    assert c.hear() == 7
    assert c.hear() == 0
    c.finish()


def test_forked_in_a_signal_handler_inside_the_wait(arena, child):
    c = child(
        """
        s = syncx.BinarySemaphore("s", arena=arena)
        pids = []
        def fork(*_):
            pids.append(os.fork())
            if pids[0] == 0:
                signal.alarm(25)
        signal.signal(signal.SIGUSR1, fork)
        say(os.getpid())
        got = s.acquire(timeout=20)
        said = [got, s.held, s.holders[0].pid == os.getpid()]
        s.release()
        if pids == [0]:
            os._exit(0 if said == [True, 1, True] else 1)
        say(said)
        say(wait_for(pids[0]))
        """
    )
    s = syncx.BinarySemaphore("s", arena=arena)
    s.acquire()
    pid = c.hear()
    until_waiting(arena)
    os.kill(pid, signal.SIGUSR1)
    until_waiting(arena, 2)
    s.release()
    assert c.hear() == [True, 1, True]
    assert c.hear() == 0
    c.finish()


@pytest.mark.parametrize("n", [1, 2])
def test_a_signal_handler_that_raises_ends_the_wait(arena, child, n):
    c = child(
        """
        s = syncx.BoundedSemaphore(2, name="s", arena=arena)
        def handler(*_):
            raise KeyError("enough")
        signal.signal(signal.SIGUSR1, handler)
        say()
        try:
            s.acquire(n=n)
        except KeyError:
            say([s.held, s.value])
        """,
        n=n,
    )
    s = syncx.BoundedSemaphore(2, name="s", arena=arena)
    s.acquire(n=2)
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGUSR1)
    assert c.hear() == [0, 0]
    c.finish()
    s.release(2)


@pytest.mark.death
def test_killed_at_any_moment(arena, child):
    """Processes that take and give back in all ways are killed again and again; no permit is lost or doubled."""
    capacity = 4
    s = syncx.BoundedSemaphore(capacity, name="s", arena=arena)
    code = """
    import random
    s = syncx.BoundedSemaphore(name="s", arena=arena)
    rng = random.Random(seed)
    say()
    while True:
        n = rng.choice([1, 1, 2, 3])
        if s.acquire(n=n, timeout=rng.choice([None, 0, 0.001])):
            assert s.held == n <= s.capacity
            s.release(n)
    """
    crowd = [child(code, seed=n) for n in range(4)]
    for c in crowd:
        c.hear()
    for n in range(12):
        time.sleep(0.003 * n)
        crowd[n % 4].kill()
        crowd[n % 4] = child(code, seed=n + 4)
        crowd[n % 4].hear()
    for c in crowd:
        assert c.process.poll() is None, c.stderr()
        c.kill()
    assert s.value == capacity
    assert s.acquire(n=capacity, timeout=0)
    s.release(capacity)


# ---- in the user's memory, after its arena --------------------------------------------------------------------------


@pytest.mark.death
def test_a_new_arena_finds_all_permits_free(child):
    """The memory outlives its arena (as over a reboot): who held permits then holds none."""
    name = f"{prefix()}-gone"
    shm = SharedMemory(f"syncx-{os.geteuid()}-{prefix()}-{os.getpid()}-gone", create=True, size=4096)
    first = syncx.Arena(name)
    try:
        old = syncx.BoundedSemaphore.at(shm.buf, value=3, arena=first)
        old.acquire(n=2)
        first.unlink(force=True)
        with syncx.Arena(name) as second:
            s = syncx.BoundedSemaphore.at(shm.buf, arena=second)
            assert (s.capacity, s.value, s.held) == (3, 3, 0)
            assert s.statistics()["recoveries"] == 2
            with pytest.raises(syncx.Gone):
                old.acquire(timeout=0)
            assert s.acquire(n=3, timeout=0)
            s.release(3)
            s.close()
            second.unlink(force=True)
        del old, s
        gc.collect()
    finally:
        first.close()
        shm.unlink()
        shm.close()


# ---- the oracle is worth something ----------------------------------------------------------------------------------


def most_inside(semaphore, threads=4, times=50) -> int:
    """How many were inside at once, at most; each stays until others have had a chance to come in."""
    inside, most, lock = [0], [0], threading.Lock()

    def work():
        for _ in range(times):
            with semaphore:
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                with lock:
                    inside[0] -= 1

    ts = [Started(work) for _ in range(threads)]
    for t in ts:
        t.get()
    return most[0]


def test_the_bound_is_kept_and_reached(arena):
    for capacity in (1, 2, 3):
        assert most_inside(syncx.BoundedSemaphore(capacity, arena=arena)) == capacity


def test_a_twin_that_lets_everybody_in_is_seen(arena):
    class Twin(syncx.BoundedSemaphore):
        def __enter__(self):
            return self

        def __exit__(self, *unused):
            return None

    assert most_inside(Twin(2, arena=arena)) > 2


def test_a_twin_that_takes_without_giving_back_is_seen(arena):
    numbers = itertools.count()

    class Twin(syncx.BoundedSemaphore):
        def __exit__(self, *unused):
            return None if next(numbers) == 5 else super().__exit__(*unused)

    s = Twin(2, arena=arena)
    most_inside(s, threads=1, times=10)
    assert s.value != s.capacity
    s.release()
