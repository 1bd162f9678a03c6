"""CPython's own tests of locks, run on syncx's: what code written for threading may rely on.

The tests are those of the running interpreter's `test` package.  What syncx does otherwise, on purpose, is in
EXCEPTIONS, each with its reason; an exception whose test does not exist in any Python is an error of the table.
"""

from __future__ import annotations

import unittest

import pytest

import syncx

lock_tests = pytest.importorskip("test.lock_tests", reason="this Python was installed without its test package")

RELOCK = "the holder's untimed relock raises DeadlockError at once, instead of waiting for another thread's release"
STRANGER = "only the thread that holds a lock releases it: NotOwner"
WORDS = "the repr says locked or unlocked too, in words of its own, and who holds it; never the address"
FOREIGN = "a condition between processes needs a lock between processes; with threading.Lock it is a TypeError"
INSIDE = (
    "it looks at the Condition that threading.Event is made of; ours has none, and nothing to begin anew in a child"
)

EXCEPTIONS = {
    ("MutexTests", "test_reacquire"): RELOCK,
    ("MutexTests", "test_different_thread"): STRANGER,
    ("MutexTests", "test_state_after_timeout"): STRANGER,
    ("MutexTests", "test_repr"): WORDS,
    ("MutexTests", "test_locked_repr"): WORDS,
    ("RLockTests", "test_repr"): WORDS,
    ("RLockTests", "test_locked_repr"): WORDS,
    ("ConditionTests", "test_acquire"): FOREIGN,
    ("EventTests", "test_repr"): WORDS,
    ("BoundedSemaphoreTests", "test_repr"): WORDS,
    ("BarrierTests", "test_repr"): WORDS,
    ("EventTests", "test_at_fork_reinit"): INSIDE,
}

SINCE_3_11 = {("EventTests", "test_repr"), ("BoundedSemaphoreTests", "test_repr"), ("BarrierTests", "test_repr")}


class MutexTests(lock_tests.LockTests):
    locktype = staticmethod(syncx.Mutex)


class RLockTests(lock_tests.RLockTests):
    locktype = staticmethod(syncx.RLock)


class ConditionTests(lock_tests.ConditionTests):
    condtype = staticmethod(syncx.Condition)


class ThreadingsConditionTests(lock_tests.ConditionTests):
    """threading.Condition on our RLock: it needs _is_owned, _release_save and _acquire_restore to be right."""

    @staticmethod
    def condtype(lock=None):
        import threading

        return threading.Condition(syncx.RLock() if lock is None else lock)


class EventTests(lock_tests.EventTests):
    eventtype = staticmethod(syncx.Event)


class BoundedSemaphoreTests(lock_tests.BoundedSemaphoreTests):
    semtype = staticmethod(syncx.BoundedSemaphore)


class BarrierTests(lock_tests.BarrierTests):
    barriertype = staticmethod(syncx.Barrier)


for (_cls, _test), _reason in EXCEPTIONS.items():
    if hasattr(globals()[_cls], _test) or (_cls, _test) not in SINCE_3_11:
        setattr(globals()[_cls], _test, unittest.skip(_reason)(getattr(globals()[_cls], _test)))


def test_what_the_exceptions_say_is_so():
    """Each reason holds: the table cannot hide a defect."""
    import threading

    lock = syncx.Mutex()
    assert "unlocked" in repr(lock)
    with lock:
        assert "locked by this process" in repr(lock)
        with pytest.raises(syncx.DeadlockError):
            lock.acquire()
        refused = []

        def release():
            try:
                lock.release()
            except syncx.NotOwner:
                refused.append(True)

        t = threading.Thread(target=release)
        t.start()
        t.join(10)
        assert refused == [True]

    event = syncx.Event()
    assert "unset" in repr(event)
    event.set()
    assert event._at_fork_reinit() is None
    assert repr(event).endswith(" set>")  # in a child too: it is shared
    with pytest.raises(TypeError, match="syncx"):
        syncx.Condition(threading.Lock())
    assert "free of" in repr(syncx.BoundedSemaphore())
    assert len(EXCEPTIONS) == 12
