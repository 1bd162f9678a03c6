"""One contract for everything that is waited for: in threads, and in processes however they are started.

What is special to a class is in its own test file; what all have in common is here, once.
"""

from __future__ import annotations

import math
import signal
import threading
import time

import pytest
from support import HERE, WAITABLES, until_waiting
from test_mutex import in_thread

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=WAITABLES)
def name(request):
    return request.param


@pytest.fixture
def thing(arena, name):
    return WAITABLES[name](arena)


def test_a_wait_that_nobody_ends(thing):
    for timeout in (0, 0.05):
        began = time.monotonic()
        assert thing.wait(timeout) is False
        assert time.monotonic() - began >= timeout
        thing.again()


def test_a_thread_ends_the_wait(arena, thing):
    got = []
    t = threading.Thread(target=lambda: got.append(thing.wait(20)))
    t.start()
    until_waiting(arena)
    thing.fire()
    t.join(20)
    assert got == [True]


def test_without_a_timeout(arena, thing):
    got = []
    t = threading.Thread(target=lambda: got.append(thing.wait(None)))
    t.start()
    until_waiting(arena)
    thing.fire()
    t.join(20)
    assert got == [True]


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (-2, ValueError),
        (math.nan, ValueError),
        (math.inf, OverflowError),
        (threading.TIMEOUT_MAX * 2, OverflowError),
        ("1", TypeError),
        ([], TypeError),
    ],
    ids=str,
)
def test_timeouts_that_are_none(thing, timeout, error):
    with pytest.raises(error):
        thing.wait(timeout)


PROGRAM = """
import multiprocessing, sys
sys.path.insert(0, {here!r})
import syncx
from support import WAITABLES, say, until_waiting, wait_and_tell

if __name__ == "__main__":
    method, arena_path = sys.argv[1:]
    arena = syncx.Arena(arena_path)
    context = multiprocessing.get_context(method)
    thing = WAITABLES[{name!r}](arena)
    ps = [context.Process(target=wait_and_tell, args=(thing,)) for _ in range({waiters})]
    for p in ps: p.start()
    until_waiting(arena, {waiters})
    for _ in range({fires}): thing.fire()
    for p in ps: p.join()
    say([p.exitcode for p in ps])
"""


@pytest.mark.parametrize("method", METHODS)
def test_processes(child, tmp_path, arena, name, method):
    """Two that wait are let go by a third; one where one is all that a wake is for."""
    waiters, fires = WAITABLES[name].waiters, WAITABLES[name].fires
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(here=str(HERE), name=name, waiters=waiters, fires=fires))
    c = child("os.execv(sys.executable, [sys.executable, *argv])", argv=[str(program), method, arena.path])
    assert c.hear(60) == [0] * waiters
    c.finish()


@pytest.mark.death
def test_a_waiter_that_is_killed_takes_nothing_along(child, arena, name, thing):
    if name == "Barrier":
        pytest.skip("there the death of one is everybody's business: test_barrier")
    victim = child(f"say(); WAITABLES[{name!r}](arena).wait(None)")
    victim.hear()
    until_waiting(arena)
    victim.kill()
    got = []
    t = threading.Thread(target=lambda: got.append(thing.wait(20)))
    t.start()
    until_waiting(arena)
    thing.fire()
    t.join(20)
    assert got == [True]


def test_a_handler_that_raises_ends_the_wait(child, arena, name, thing):
    c = child(
        f"""
        thing = WAITABLES[{name!r}](arena)
        class Enough(Exception): pass
        def stop(*_): raise Enough
        signal.signal(signal.SIGUSR1, stop)
        try:
            say(); thing.wait(None)
        except Enough:
            say("stopped")
        hear()
        """
    )
    c.hear()
    until_waiting(arena)
    c.process.send_signal(signal.SIGUSR1)
    assert c.hear() == "stopped"
    got = []
    t = threading.Thread(target=lambda: got.append(thing.wait(20)))  # it took nothing along
    t.start()
    until_waiting(arena)
    thing.fire()
    t.join(20)
    assert got == [True]
    c.say()
    c.finish()


def test_a_handler_that_returns_does_not_prolong_the_wait(child, arena, name):
    c = child(
        f"""
        thing = WAITABLES[{name!r}](arena)
        calls = []
        signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        began = time.monotonic()
        got = thing.wait(0.3)
        took = time.monotonic() - began
        signal.setitimer(signal.ITIMER_REAL, 0)
        say([got, took >= 0.3, took < 10, len(calls) >= 1])
        """
    )
    assert c.hear() == [False, True, True, True]
    c.finish()


def test_unlinked_while_somebody_waits(child, arena, name, thing):
    c = child(
        f"""
        thing = WAITABLES[{name!r}](arena)
        try:
            say(); thing.wait(None)
        except syncx.Gone:
            say("gone")
        """
    )
    c.hear()
    until_waiting(arena)
    arena.unlink("x", force=True)
    assert c.hear() == "gone"
    c.finish()


def test_a_closed_one(thing):
    thing.thing.close()
    with pytest.raises(ValueError, match="closed"):
        in_thread(thing.wait, 1)
    assert "closed" in repr(thing.thing)
