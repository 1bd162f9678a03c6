"""RLock: the contract it shares with Mutex, and recursion."""

from __future__ import annotations

import threading

import pytest
from support import until_waiting
from test_mutex import LockContract, in_thread

import syncx


class TestRLock(LockContract):
    cls = syncx.RLock

    def test_recursion(self, lock, place):
        other = place.again(lock)
        for depth in range(1, 6):
            assert (lock, other)[depth % 2].acquire() is True
            assert lock.depth == other.depth == depth
        for depth in range(4, -1, -1):
            assert lock.locked()
            lock.release()
            assert lock.depth == depth
        assert not lock.locked()
        with pytest.raises(syncx.NotOwner):
            lock.release()

    def test_nested_with(self, lock):
        with lock as a, lock as b, lock:
            assert a is b is lock
            assert lock.depth == 3
            assert "depth 3" in repr(lock)
        assert not lock.locked()

    @pytest.mark.parametrize("how", [{"blocking": False}, {"timeout": 0}, {"timeout": 1}, {}])
    def test_again_however_it_is_asked(self, lock, how):
        with lock:
            assert lock.acquire(**how) is True
            assert lock.depth == 2
            lock.release()
            assert lock.depth == 1

    def test_others_get_it_after_the_outermost_release_only(self, lock):
        lock.acquire()
        lock.acquire()
        assert in_thread(lock.acquire, False) is False
        lock.release()
        assert in_thread(lock.acquire, False) is False
        lock.release()

        def take():
            with lock:
                return lock.depth

        assert in_thread(take) == 1

    def test_release_by_another_thread_leaves_the_depth(self, lock):
        with lock, lock:
            with pytest.raises(syncx.NotOwner):
                in_thread(lock.release)
            assert lock.depth == 2

    def test_an_exception_inside_leaves_one_level(self, lock):
        with lock:
            with pytest.raises(KeyError), lock:
                raise KeyError
            assert lock.depth == 1

    def test_deep(self, lock):
        n = 10_000
        for _ in range(n):
            lock.acquire()
        assert lock.depth == n
        for _ in range(n):
            lock.release()
        assert not lock.locked()

    def test_condition_gives_up_every_level_and_takes_it_back(self, lock, arena):
        condition = threading.Condition(lock)
        seen = []

        def wait():
            with condition, condition:
                condition.wait(10)
                seen.append(lock.depth)

        t = threading.Thread(target=wait)
        t.start()
        while not seen:  # each turn waits for the lock, which is free only while the thread waits in the condition
            with condition:
                condition.notify()
        t.join(10)
        assert seen == [2]
        assert not lock.locked()

    def test_depth_is_the_holders_own(self, lock, place, child):
        with lock, lock:
            c = child(
                "lock = open_lock(recipe); say([lock.depth, lock.locked(), lock.acquire(False)])",
                recipe=place.recipe(lock),
            )
            assert c.hear() == [0, True, False]
            c.finish()

    def test_a_waiter_gets_depth_one(self, lock, arena):
        depths = []

        def wait():
            with lock:
                depths.append(lock.depth)

        lock.acquire()
        lock.acquire()
        t = threading.Thread(target=wait)
        t.start()
        until_waiting(arena)
        lock.release()
        lock.release()
        t.join(10)
        assert depths == [1]

    def test_timed_out_waiter_changes_no_depth(self, lock):
        with lock, lock:
            assert in_thread(lock.acquire, True, 0.01) is False
            assert lock.depth == 2


def test_a_mutex_and_an_rlock_do_not_mix(arena):
    syncx.Mutex("a", arena=arena)
    syncx.RLock("b", arena=arena)
    with pytest.raises(ValueError, match="Mutex"):
        syncx.RLock("a", arena=arena)
    with pytest.raises(ValueError, match="RLock"):
        syncx.Mutex("b", arena=arena)


def test_held_in_one_arena_says_nothing_about_another(arena):
    with syncx.Arena(f"{arena.name}-other") as second:
        a, b = syncx.RLock("x", arena=arena), syncx.RLock("x", arena=second)

        def take():
            got = b.acquire(False)
            b.release()
            return got

        with a:
            assert in_thread(take) is True
            assert not b.locked()
        b.close()
        second.unlink(force=True)
