"""The contract of Mutex and RLock, in every placement; what is Mutex's own is at the end."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import threading
import time
import weakref

import pytest
from support import PATIENCE, Child, Place, add, until_waiting

import syncx


def in_thread(call, *args):
    """The result of a call in another thread, or its exception."""
    outcome = []

    def run():
        try:
            outcome.append((call(*args), None))
        except BaseException as e:
            outcome.append((None, e))

    t = threading.Thread(target=run)
    t.start()
    t.join(PATIENCE)
    assert outcome, "the thread did not end in time"
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


@contextlib.contextmanager
def held_elsewhere(lock):
    """The lock is held by another thread inside the `with`."""
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with lock:
            inside.set()
            leave.wait(PATIENCE)

    t = threading.Thread(target=hold)
    t.start()
    assert inside.wait(PATIENCE)
    try:
        yield
    finally:
        leave.set()
        t.join(PATIENCE)
        assert not t.is_alive()


def count_in_threads(make_lock, threads: int = 4, times: int = 2000) -> int:
    """The oracle of exclusion: threads add to a number in two steps.  Returns how many additions were lost."""
    number = [0]
    overlaps = []
    inside = []

    def run():
        lock = make_lock()
        for n in range(times):
            with lock:
                inside.append(None)
                value = number[0]
                if len(inside) != 1:
                    overlaps.append(None)
                # gives up the GIL between the two steps; now and then for long enough that somebody takes it
                time.sleep(0 if n % 20 else 0.00001)
                number[0] = value + 1
                inside.pop()

    ts = [threading.Thread(target=run) for _ in range(threads)]
    for t in ts:
        t.start()
    for t in ts:
        t.join(2 * PATIENCE)
        assert not t.is_alive()
    lost = threads * times - number[0]
    assert bool(lost) <= bool(overlaps)  # two independent witnesses: a lost addition implies an overlap
    return lost


class LockContract:
    """What Mutex and RLock promise alike.  Subclasses set `cls`."""

    cls: type

    @pytest.fixture
    def lock(self, place: Place):
        return place.new(self.cls)

    # ---- with, acquire, release

    def test_with_yields_the_lock(self, lock):
        with lock as m:
            assert m is lock
            assert lock.locked()
            assert lock.depth == 1
        assert not lock.locked()
        assert lock.depth == 0

    def test_with_lets_the_exception_of_the_body_through_and_releases(self, lock):
        with pytest.raises(ZeroDivisionError), lock:
            raise ZeroDivisionError
        assert not lock.locked()

    def test_acquire_returns_true(self, lock):
        assert lock.acquire() is True
        assert lock.release() is None

    @pytest.mark.parametrize(
        ("args", "kwargs"),
        [
            ((), {}),
            ((True,), {}),
            ((False,), {}),
            ((1,), {}),
            ((0,), {}),
            ((True, 1), {}),
            ((True, 0.5), {}),
            ((True, -1), {}),
            ((True, -1.0), {}),
            ((True, None), {}),
            ((False, None), {}),
            ((False, -1), {}),
            ((), {"blocking": True}),
            ((), {"blocking": False}),
            ((), {"timeout": 0}),
            ((), {"timeout": 1e-9}),
            ((), {"timeout": None}),
            ((), {"timeout": -1}),
            ((), {"timeout": threading.TIMEOUT_MAX}),
            ((True,), {"timeout": 2}),
            ((), {"blocking": True, "timeout": 2}),
        ],
    )
    def test_free_lock_is_acquired_however_it_is_asked(self, lock, args, kwargs):
        assert lock.acquire(*args, **kwargs) is True
        assert lock.depth == 1
        lock.release()

    def test_held_elsewhere(self, lock):
        with held_elsewhere(lock):
            assert lock.locked()
            assert lock.depth == 0
            assert lock.acquire(False) is False
            assert lock.acquire(blocking=False) is False
            assert lock.acquire(timeout=0) is False
            assert lock.acquire(True, 0.01) is False
            with pytest.raises(syncx.NotOwner):
                lock.release()
            assert lock.locked()
        assert lock.acquire(False) is True
        lock.release()

    def test_a_timeout_lasts_as_long_as_was_asked(self, lock):
        with held_elsewhere(lock):
            for asked in (0.001, 0.05, 0.25):
                start = time.monotonic()
                assert lock.acquire(timeout=asked) is False
                took = time.monotonic() - start
                assert asked <= took < asked + 5.0

    def test_timed_acquire_gets_what_comes_free_in_time(self, lock, arena):
        def wait():
            got = lock.acquire(timeout=10)
            lock.release()
            return got

        results = []
        lock.acquire()
        t = threading.Thread(target=lambda: results.append(wait()))
        t.start()
        until_waiting(arena)
        lock.release()
        t.join(10)
        assert results == [True]

    def test_a_second_handle_is_the_same_lock(self, place, lock):
        other = place.again(lock)
        assert other is not lock
        with lock:
            assert other.locked()
            assert other.holder == lock.holder
            assert in_thread(other.acquire, False) is False
        with other:
            assert lock.locked()
            assert lock.depth == 1
            with pytest.raises(syncx.NotOwner):
                in_thread(lock.release)

    def test_release_through_the_other_handle_of_the_same_thread(self, place, lock):
        other = place.again(lock)
        lock.acquire()
        other.release()
        assert not lock.locked()

    # ---- mistakes

    def test_release_of_a_free_lock(self, lock):
        with pytest.raises(RuntimeError) as e:
            lock.release()
        assert isinstance(e.value, syncx.NotOwner)
        assert "does not hold" in str(e.value)

    def test_release_by_another_thread(self, lock):
        with lock:
            with pytest.raises(syncx.NotOwner):
                in_thread(lock.release)
            assert lock.depth == 1

    def test_release_by_another_process(self, place, lock, child):
        with lock:
            c = child(
                """
                lock = open_lock(recipe)
                try:
                    lock.release()
                except syncx.NotOwner as e:
                    say([lock.locked(), lock.acquire(False), list(lock.holder), lock.depth])
                """,
                recipe=place.recipe(lock),
            )
            assert c.hear() == [True, False, [os.getpid(), threading.get_native_id()], 0]
            c.finish()
            assert lock.depth == 1

    @pytest.mark.parametrize("call", ["acquire", "recover"])
    @pytest.mark.parametrize(
        ("kwargs", "error", "word"),
        [
            ({"timeout": -0.5}, ValueError, "negative"),
            ({"timeout": -2}, ValueError, "negative"),
            ({"timeout": -math.inf}, ValueError, "negative"),
            ({"timeout": math.nan}, ValueError, "NaN"),
            ({"timeout": math.inf}, OverflowError, "TIMEOUT_MAX"),
            ({"timeout": threading.TIMEOUT_MAX * 2}, OverflowError, "TIMEOUT_MAX"),
            ({"timeout": 10**400}, OverflowError, "large|TIMEOUT_MAX"),
            ({"timeout": "1"}, TypeError, "number of seconds"),
            ({"timeout": [1]}, TypeError, "number of seconds"),
            ({"blocking": False, "timeout": 1}, ValueError, "timeout"),
            ({"blocking": False, "timeout": 0}, ValueError, "timeout"),
            ({"wait": 1}, TypeError, "wait"),
        ],
    )
    def test_bad_arguments_are_refused_and_change_nothing(self, lock, call, kwargs, error, word):
        with pytest.raises(error, match=word):
            getattr(lock, call)(**kwargs)
        assert not lock.locked()

    def test_too_many_arguments(self, lock):
        with pytest.raises(TypeError):
            lock.acquire(True, 1, 2)
        with pytest.raises(TypeError):
            lock.acquire(True, blocking=True)
        with pytest.raises(TypeError):
            lock.release(1)
        with pytest.raises(TypeError):
            lock.__enter__(1)
        with pytest.raises(TypeError):
            lock.__exit__()

    def test_a_blocking_argument_that_cannot_be_true_or_false(self, lock):
        class Neither:
            def __bool__(self):
                raise ArithmeticError

        with pytest.raises(ArithmeticError):
            lock.acquire(Neither())
        assert not lock.locked()

    # ---- timed `with`

    def test_within(self, lock):
        with lock.within(5) as m:
            assert m is lock
            assert lock.locked()
        with held_elsewhere(lock), pytest.raises(syncx.Timeout) as e, lock.within(0.02):
            raise AssertionError("the body ran without the lock")
        assert isinstance(e.value, TimeoutError)
        with lock.within(0):
            pass
        with pytest.raises(KeyError), lock.within(1):
            raise KeyError
        assert not lock.locked()

    @pytest.mark.parametrize(
        ("seconds", "error"),
        [(-1, ValueError), (math.nan, ValueError), ("1", TypeError), (None, TypeError), (math.inf, OverflowError)],
    )
    def test_within_bad_arguments(self, lock, seconds, error):
        with pytest.raises(error), lock.within(seconds):
            raise AssertionError("the body ran")
        assert not lock.locked()

    def test_timeout_of_the_object(self, place, lock):
        timed = place.again(lock, timeout=0.02)
        assert timed.timeout == 0.02
        assert lock.timeout is None
        with timed:
            pass
        with held_elsewhere(lock):
            with pytest.raises(syncx.Timeout), timed:
                raise AssertionError("the body ran without the lock")
            # the object's timeout is that of a plain `with`; acquire has its own
            assert timed.acquire(timeout=0) is False

    def test_timeout_zero_of_the_object_tries_once(self, place, lock):
        timed = place.again(lock, timeout=0)
        with timed:
            pass
        with held_elsewhere(lock), pytest.raises(syncx.Timeout), timed:
            raise AssertionError("the body ran without the lock")

    @pytest.mark.parametrize(
        ("timeout", "error"),
        [(-1, ValueError), (math.nan, ValueError), ("1", TypeError), (math.inf, OverflowError), (b"1", TypeError)],
    )
    def test_bad_timeout_of_the_object(self, arena, timeout, error):
        with pytest.raises(error):
            self.cls(arena=arena, timeout=timeout)

    @pytest.mark.parametrize(("policy", "error"), [("panic", ValueError), (None, TypeError), (3, TypeError)])
    def test_bad_policy(self, arena, policy, error):
        with pytest.raises(error, match="on_owner_death"):
            self.cls(arena=arena, on_owner_death=policy)

    # ---- looking

    def test_holder(self, lock, place, child):
        assert lock.holder is None
        with lock:
            assert lock.holder == (os.getpid(), threading.get_native_id())
        c = child("lock = open_lock(recipe); lock.acquire(); say(); hear(); lock.release()", recipe=place.recipe(lock))
        c.hear()
        assert lock.holder == (c.pid, c.pid)
        c.say()
        c.finish()
        assert lock.holder is None

    def test_repr(self, lock, place):
        kind = self.cls.__name__
        assert repr(lock).startswith(f"<syncx.{kind}")
        assert "unlocked" in repr(lock)
        if place.how == "named":
            assert "'lock 1'" in repr(lock)
        with lock:
            assert " locked by this process" in repr(lock)
            assert "unlocked" not in repr(lock)
        lock.close()
        assert "closed" in repr(lock)
        assert repr(self.cls.__new__(self.cls)) == f"<syncx.{kind} never opened>"

    def test_attributes(self, lock, place, arena):
        assert lock.arena is arena
        assert lock.name == ("lock 1" if place.how == "named" else None)
        assert lock.closed is False
        assert lock.on_owner_death == "recover"
        assert lock.owner_died is False
        assert lock.statistics() == {
            "acquisitions": 0, "contended": 0, "waited": 0, "longest_wait": 0, "recoveries": 0, "rescues": 0,
        }  # fmt: skip
        for attribute in ("arena", "closed", "on_owner_death", "owner_died", "timeout", "holder", "depth"):
            with pytest.raises(AttributeError):
                setattr(lock, attribute, None)

    def test_contended_is_counted(self, lock, arena):
        lock.acquire()
        t = threading.Thread(target=lambda: (lock.acquire(), lock.release()))
        t.start()
        until_waiting(arena)
        lock.release()
        t.join(10)
        told = lock.statistics()
        assert (told["contended"], told["acquisitions"], told["recoveries"], told["rescues"]) == (1, 2, 0, 0)
        assert 0 < told["longest_wait"] <= told["waited"]

    def test_no_truth_value_and_no_length_of_its_own(self, lock):
        assert not hasattr(lock, "__bool__")
        assert not hasattr(lock, "__len__")
        assert lock
        assert bool(lock)

    def test_identity_hash_and_equality(self, lock, place):
        other = place.again(lock)
        assert lock == lock
        assert lock != other
        assert len({lock, other}) == 2

    def test_weak_references(self, place):
        lock = place.new(self.cls)
        gone = []
        ref = weakref.ref(lock, lambda _: gone.append(True))
        assert ref() is lock
        with lock:
            pass
        del lock
        gc.collect()
        assert ref() is None
        assert gone == [True]

    # ---- closing

    def test_close(self, lock, place):
        other = place.again(lock)
        lock.close()
        lock.close()
        assert lock.closed
        for use in (lock.acquire, lock.release, lock.locked, lock.recover, lock.statistics, lock.__enter__):
            with pytest.raises(ValueError, match="closed"):
                use()
        with pytest.raises(ValueError, match="closed"), lock:
            raise AssertionError("the body ran")
        assert lock.holder is None
        assert lock.owner_died is False
        assert lock.depth == 0
        with other:
            pass

    def test_close_while_held(self, lock):
        with lock:
            with pytest.raises(RuntimeError, match="held"):
                lock.close()
            assert not lock.closed
        lock.close()

    def test_init_twice(self, lock, arena):
        with pytest.raises(RuntimeError, match="open already"):
            lock.__init__(arena=arena)
        with lock:
            pass

    def test_never_opened(self):
        lock = self.cls.__new__(self.cls)
        for use in (lock.acquire, lock.release, lock.locked, lock.recover, lock.statistics, lock.__enter__):
            with pytest.raises(ValueError):
                use()
        assert lock.arena is None
        assert lock.holder is None
        assert not lock.owner_died

    # ---- subclasses

    def test_subclass_with_a_dictionary(self, place):
        class Mine(self.cls):
            pass

        lock = place.new(Mine)
        lock.note = "mine"
        with lock as m:
            assert m is lock
            assert m.note == "mine"
        assert "Mine" in repr(lock)

    def test_subclass_that_overrides_enter_and_exit(self, place):
        calls = []

        class Traced(self.cls):
            def __enter__(self):
                held = super().__enter__()
                calls.append("enter")
                return held

            def __exit__(self, *args):
                calls.append(args[0])
                return super().__exit__(*args)

        lock = place.new(Traced)
        with lock as m:
            assert m is lock
            assert lock.locked()
        with pytest.raises(KeyError), lock:
            raise KeyError
        assert not lock.locked()
        assert calls == ["enter", None, "enter", KeyError]

    def test_subclass_that_overrides_acquire_and_release(self, place):
        class Traced(self.cls):
            def acquire(self, *args, **kwargs):
                return super().acquire(*args, **kwargs)

            def release(self):
                super().release()

        lock = place.new(Traced)
        assert lock.acquire(timeout=1)
        lock.release()
        with pytest.raises(syncx.NotOwner):
            lock.release()

    def test_subclass_with_a_finalizer(self, place):
        dropped = []

        class Mine(self.cls):
            def __del__(self):
                dropped.append(self.locked())

        lock = place.new(Mine)
        with lock:
            pass
        del lock
        gc.collect()
        assert dropped == [False]
        with Mine(arena=place.arena):  # nothing but the `with` refers to it
            assert dropped == [False]
        gc.collect()
        assert dropped == [False, False]

    def test_bound_methods_outlive_the_name(self, place):
        lock = place.new(self.cls)
        enter, leave = lock.__enter__, lock.__exit__
        del lock
        gc.collect()
        held = enter()
        assert held.locked()
        leave(None, None, None)
        assert not held.locked()
        assert enter.__self__ is held
        del enter, leave
        with held:
            pass

    # ---- others that use locks

    def test_exit_stack(self, lock, place):
        second = place.new(self.cls)
        with contextlib.ExitStack() as stack:
            assert stack.enter_context(lock) is lock
            stack.enter_context(second)
            assert lock.locked()
            assert second.locked()
        assert not lock.locked()
        assert not second.locked()

    def test_condition(self, lock):
        """threading.Condition within this process, on a lock that other processes share."""
        condition = threading.Condition(lock)
        box = []

        def take():
            with condition:
                return condition.wait_for(lambda: box, timeout=10)

        results = []
        t = threading.Thread(target=lambda: results.append(take()))
        t.start()
        with condition:
            box.append(1)
            condition.notify()
        t.join(10)
        assert results == [[1]]
        assert not lock.locked()
        with pytest.raises(RuntimeError):
            condition.notify()
        with condition:
            assert condition.wait(timeout=0.01) is False
            assert lock.depth == 1

    # ---- exclusion

    def test_threads_exclude_each_other(self, lock):
        assert count_in_threads(lambda: lock) == 0

    def test_threads_with_handles_of_their_own_exclude_each_other(self, lock, place):
        assert count_in_threads(lambda: place.again(lock), times=500) == 0

    def test_processes_exclude_each_other(self, lock, place, child, tmp_path):
        path = tmp_path / "number"
        path.write_bytes(b"")
        n, times = 3, 1500
        children: list[Child] = [
            child(
                "lock = open_lock(recipe); say(); hear(); say(add(lock, path, times))",
                recipe=place.recipe(lock),
                path=str(path),
                times=times,
            )
            for _ in range(n)
        ]
        for c in children:
            c.hear()
        for c in children:
            c.say()
        add(lock, str(path), times)
        for c in children:
            assert c.hear() == times
            c.finish()
        assert int(path.read_bytes()) == (n + 1) * times


class Excludes:
    """The broken twin: a lock that lets everybody in."""

    def __init__(self, arena=None):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_the_oracle_of_exclusion_catches_a_lock_that_excludes_nobody():
    # a busy machine may run the threads one after the other, but not ten times
    assert any(count_in_threads(Excludes) for _ in range(10))


def test_the_oracle_between_processes_catches_a_lock_that_excludes_nobody(child, tmp_path):
    path = tmp_path / "number"
    code = """
        import contextlib
        say()
        while (times := hear()):
            say(add(contextlib.nullcontext(), path, times))
    """
    path.write_bytes(b"")
    children = [child(code, path=str(path)) for _ in range(2)]
    for c in children:
        c.hear()
    for _ in range(10):
        path.write_bytes(b"")
        for c in children:
            c.say(20000)
        for c in children:
            c.hear()
        if int(path.read_bytes()) < 40000:
            break
    else:
        raise AssertionError("ten rounds without exclusion, and nothing was lost")
    for c in children:
        c.say(0)
        c.finish()


class TestMutex(LockContract):
    cls = syncx.Mutex

    def test_untimed_relock_raises_at_once(self, lock, place):
        other = place.again(lock)
        with lock:
            for again in (lock.acquire, lock.__enter__, other.acquire, lock.recover):
                with pytest.raises(syncx.DeadlockError) as e:
                    again()
                assert isinstance(e.value, RuntimeError)
                assert "RLock" in str(e.value)
            assert lock.locked()
        assert not lock.locked()

    def test_tried_and_timed_relock_fail_without_a_word(self, lock):
        with lock:
            assert lock.acquire(False) is False
            assert lock.acquire(timeout=0) is False
            start = time.monotonic()
            assert lock.acquire(timeout=0.03) is False
            assert time.monotonic() - start >= 0.03
            with pytest.raises(syncx.Timeout), lock.within(0.01):
                raise AssertionError("the body ran")
            assert lock.depth == 1
        assert not lock.locked()

    def test_nested_with_leaves_the_outer_one_locked(self, lock):
        with lock:
            with pytest.raises(syncx.DeadlockError), lock:
                raise AssertionError("the body ran")
            assert lock.locked()

    def test_temporary(self, arena):
        with syncx.Mutex("temporary", arena=arena) as m:
            assert m.locked()
            gc.collect()
            assert in_thread(syncx.Mutex("temporary", arena=arena).acquire, False) is False
        with syncx.Mutex("temporary", arena=arena):
            pass

    def test_lock_is_mutex(self):
        assert syncx.Lock is syncx.Mutex

    def test_default_arena(self):
        name = f"default {os.getpid()}"
        with syncx.Mutex(name) as m:
            assert m.arena is syncx.default_arena()
            assert m.arena.name == os.environ["SYNCX_ARENA"]
        syncx.default_arena().unlink(name)
