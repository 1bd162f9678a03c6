"""The synchronisation classes of CPython's own tests of multiprocessing, with ours in place of multiprocessing's.

A program: `python mp_classes.py METHOD` runs them with that start method and prints the outcome as a line of JSON.  It
is run by test_mp_tests.py, in a process of its own, since these tests fork.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import unittest

import syncx

try:
    from test import _test_multiprocessing as theirs
except ImportError:
    theirs = None

EXCEPTIONS = {
    ("SemaphoreTests", "test_timeout"): "acquire(False, timeout) is a ValueError, as in threading",
    ("EventTests", "test_repr"): "the repr says set or unset too, in words of its own, and never the address",
}
"""Tests that ours do not pass, on purpose, each with its reason."""

if theirs is not None:

    class Ours(theirs.ProcessesMixin):
        Lock = staticmethod(syncx.Mutex)
        RLock = staticmethod(syncx.RLock)
        Semaphore = staticmethod(syncx.Semaphore)
        BoundedSemaphore = staticmethod(syncx.BoundedSemaphore)
        Condition = staticmethod(syncx.Condition)
        Event = staticmethod(syncx.Event)
        Barrier = staticmethod(syncx.Barrier)

    class LockTests(Ours, theirs._TestLock, unittest.TestCase):
        pass

    class SemaphoreTests(Ours, theirs._TestSemaphore, unittest.TestCase):
        pass

    class ConditionTests(Ours, theirs._TestCondition, unittest.TestCase):
        def check_invariant(self, cond):
            """Theirs looks at multiprocessing's own semaphores.  The same here: nobody waits."""
            assert cond.arena is not None
            assert not [row for row in cond.arena._participants() if row[3]]

    class EventTests(Ours, theirs._TestEvent, unittest.TestCase):
        pass

    class BarrierTests(Ours, theirs._TestBarrier, unittest.TestCase):
        pass

    CLASSES = (LockTests, SemaphoreTests, ConditionTests, EventTests, BarrierTests)


def main(method: str) -> None:
    multiprocessing.set_start_method(method, force=True)
    suite = unittest.TestSuite()
    for cls in CLASSES:
        for test in unittest.defaultTestLoader.loadTestsFromTestCase(cls):
            name = (cls.__name__, test._testMethodName)
            if name not in EXCEPTIONS:
                suite.addTest(test)
    result = unittest.TextTestRunner(sys.stderr, verbosity=2).run(suite)
    print(
        json.dumps(
            {
                "run": result.testsRun,
                "failed": [str(t) for t, _ in result.failures + result.errors],
                "skipped": [str(t) for t, _ in result.skipped],
                "text": "\n".join(text for _, text in result.failures + result.errors),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
