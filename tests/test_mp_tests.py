"""CPython's own tests of multiprocessing's synchronisation classes pass with ours, see mp_classes.py."""

from __future__ import annotations

import sys

import mp_classes
import pytest
from support import HERE


@pytest.mark.skipif(mp_classes.theirs is None, reason="this Python was installed without its test package")
@pytest.mark.death  # its processes are daemons, and a waiter may be left to be terminated
@pytest.mark.timeout(200)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_cpythons_tests_of_multiprocessing(child, arena, method):
    c = child(
        "os.execve(sys.executable, [sys.executable, *argv], {**os.environ, 'SYNCX_ARENA': ARENA})",
        argv=[str(HERE / "mp_classes.py"), method],
    )
    outcome = c.hear(180)
    assert outcome["failed"] == [], outcome["text"]
    assert outcome["run"] > 20
    assert len(outcome["skipped"]) < 3
    c.end()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="its tests are fewer")
def test_every_exception_names_a_test():
    for cls, test in mp_classes.EXCEPTIONS:
        assert hasattr(getattr(mp_classes, cls), test)
