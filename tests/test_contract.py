"""One contract for everything that `with` acquires: in threads, and in processes however they are started.

What is special to a class is in its own test file; what all have in common is here, once.  BROKEN is a lock that
excludes nobody: the oracle of exclusion must catch it.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import shutil
import threading
import time
import weakref

import pytest
from support import HERE, Unlocked, lingers, lock_file, overlap, until_waiting
from test_mutex import in_thread

import syncx

# how each is opened by name; the first argument of a `with` is what the expression gives
LOCKS = {
    "Mutex": "syncx.Mutex('x', arena=arena)",
    "RLock": "syncx.RLock('x', arena=arena)",
    "BinarySemaphore": "syncx.BinarySemaphore('x', arena=arena)",
    "BoundedSemaphore": "syncx.BoundedSemaphore(1, name='x', arena=arena)",
    "Semaphore": "syncx.Semaphore(1, name='x', arena=arena)",
    "robust Semaphore": "syncx.Semaphore(1, robust=True, name='x', arena=arena)",
    "Condition": "syncx.Condition(name='x', arena=arena)",
    "write": "syncx.RWLock('x', arena=arena).write()",
    "upgradable": "syncx.RWLock('x', arena=arena).upgradable()",
    "FileLock": "syncx.FileLock(lock_file(arena), arena=arena)",
}
SHARED = {
    "read": "syncx.RWLock('x', arena=arena).read()",
    "shared FileLock": "syncx.FileLock(lock_file(arena), shared=True, arena=arena)",
}
METHODS = ["fork", "spawn", "forkserver"]
NOBODYS = {"Semaphore"}  # its units have no owner, so a death gives none back
FILES = {"FileLock"}  # their names are of files, which nobody retires
PER_PROCESS = {"BinarySemaphore", "BoundedSemaphore", "robust Semaphore", "Semaphore"}  # a thread may take two


def opened(arena, expression):
    return eval(expression, {"syncx": syncx, "arena": arena, "lock_file": lock_file})


@pytest.fixture(autouse=True)
def no_files_left(arena):
    yield
    shutil.rmtree(os.path.dirname(lock_file(arena)))


@pytest.fixture(params=LOCKS.items(), ids=LOCKS.keys())
def kind(request):
    return request.param


@pytest.fixture
def lock(arena, kind):
    return opened(arena, kind[1])


@pytest.fixture(params=[*LOCKS.items(), *SHARED.items()], ids=[*LOCKS, *SHARED])
def any_lock(request, arena):
    return opened(arena, request.param[1])


# ---- one thread ------------------------------------------------------------------------------------------------------


def test_with_yields_the_lock_and_gives_it_back(any_lock):
    with any_lock as held:
        assert held is any_lock
    with pytest.raises(KeyError), any_lock:
        raise KeyError
    assert any_lock.acquire(timeout=0) is True
    any_lock.release()


def test_acquire_is_true_and_release_none(any_lock):
    for how in ({}, {"blocking": False}, {"timeout": 0}, {"timeout": 5}, {"timeout": None}, {"timeout": -1}):
        assert any_lock.acquire(**how) is True
        assert any_lock.release() is None
    assert any_lock.acquire(True, 1) is True
    any_lock.release()


def test_locked(lock):
    assert lock.locked() is False
    with lock:
        assert lock.locked() is True
        assert in_thread(lock.locked) is True
    assert lock.locked() is False


def test_within(lock):
    with lock.within(5) as held:
        assert held is lock
        ran = []

        def enter():
            with lock.within(0.05):
                ran.append(True)

        began = time.monotonic()
        with pytest.raises(syncx.Timeout, match=r"0\.05 s"):
            in_thread(enter)
        assert time.monotonic() - began >= 0.05
        assert not ran


def test_release_of_what_is_not_held(any_lock, request):
    if "Semaphore-" in request.node.callspec.id or request.node.callspec.id == "Semaphore":
        any_lock.release()  # a unit more: that is what it is for
        return
    with pytest.raises((RuntimeError, ValueError)):
        any_lock.release()
    with any_lock:
        assert True
    with pytest.raises((RuntimeError, ValueError)):
        any_lock.release()
    with pytest.raises((RuntimeError, ValueError)):
        any_lock.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"timeout": -2}, ValueError),
        ({"timeout": math.nan}, ValueError),
        ({"timeout": threading.TIMEOUT_MAX * 2}, OverflowError),
        ({"timeout": math.inf}, OverflowError),
        ({"timeout": "1"}, TypeError),
        ({"timeout": [1]}, TypeError),
        ({"blocking": False, "timeout": 1}, ValueError),
        ({"patience": 1}, TypeError),
    ],
    ids=str,
)
def test_arguments(any_lock, how, error):
    with pytest.raises(error):
        any_lock.acquire(**how)
    with pytest.raises(TypeError):
        any_lock.acquire(True, 1, 1)
    with any_lock:
        pass


def test_what_it_is_not(any_lock):
    assert bool(any_lock)
    with pytest.raises(TypeError):
        len(any_lock)
    assert weakref.ref(any_lock)() is any_lock
    assert repr(any_lock).startswith("<syncx.")
    assert "'x'" in repr(any_lock) or "/x'" in repr(any_lock)


# ---- threads -----------------------------------------------------------------------------------------------------


def test_another_thread_does_not_get_it(lock):
    with lock:
        assert in_thread(lock.acquire, False) is False
        began = time.monotonic()
        assert in_thread(lambda: lock.acquire(timeout=0.05)) is False
        assert time.monotonic() - began >= 0.05

    def take():
        with lock:
            return True

    assert in_thread(take) is True


def test_a_waiter_gets_it(arena, lock):
    lock.acquire()
    got = []

    def wait():
        got.append(lock.acquire(timeout=20))
        lock.release()

    t = threading.Thread(target=wait)
    t.start()
    until_waiting(arena)
    lock.release()
    t.join(20)
    assert got == [True]
    assert not lock.locked()


def test_exclusion_in_threads(lock):
    assert not overlap(lock)


def test_a_lock_that_excludes_nobody_is_caught():
    assert overlap(Unlocked())


# ---- processes -----------------------------------------------------------------------------------------------------

PROGRAM = """
import multiprocessing, sys
sys.path.insert(0, {here!r})
import syncx
from support import Unlocked, acquire_and_die, lingers, lock_file, say

if __name__ == "__main__":
    method, path, arena_path = sys.argv[1:]
    arena = syncx.Arena(arena_path)
    context = multiprocessing.get_context(method)
    lock = {expression}
    ps = [context.Process(target=lingers, args=(lock, path, i, 3)) for i in (0, 1, 2)]
    for p in ps: p.start()
    for p in ps: p.join()
    say([p.exitcode for p in ps])
    if {dies}:
        p = context.Process(target=acquire_and_die, args=(lock,))
        p.start()
        p.join()
        with lock.within(20):
            say(p.exitcode)
"""


def run(child, tmp_path, arena, expression, method, dies):
    program, flags = tmp_path / "program.py", tmp_path / "flags"
    program.write_text(PROGRAM.format(here=str(HERE), expression=expression, dies=dies))
    flags.write_bytes(bytes(128))
    return child(
        "os.execv(sys.executable, [sys.executable, *argv])", argv=[str(program), method, str(flags), arena.path]
    )


@pytest.mark.death
@pytest.mark.parametrize("method", METHODS)
def test_exclusion_and_death_in_processes(child, tmp_path, arena, kind, method):
    """No two are inside at once; and a holder that is killed does not keep the next one out."""
    dies = kind[0] not in NOBODYS
    c = run(child, tmp_path, arena, kind[1], method, dies)
    assert c.hear(60) == [0, 0, 0]
    if dies:
        assert c.hear(60) == -9
    c.finish()


def test_processes_without_exclusion_are_caught(child, tmp_path, arena):
    c = run(child, tmp_path, arena, "Unlocked()", "fork", False)
    assert 1 in c.hear(60)
    c.finish()


def test_lingers_sees_another(tmp_path):
    """The oracle itself: a flag of somebody else's ends the process with 1."""
    flags = tmp_path / "flags"
    flags.write_bytes(b"\0\1\0" + bytes(125))
    with pytest.raises(SystemExit) as e:
        lingers(Unlocked(), str(flags), 0, processes=1)
    assert e.value.code == 1


def test_pickles_in_its_own_process(any_lock):
    other = pickle.loads(pickle.dumps(any_lock))
    assert type(other) is type(any_lock)
    with any_lock:
        pass
    with other:
        pass


def test_the_same_by_name_and_by_pickle(lock, arena, kind):
    other, third = pickle.loads(pickle.dumps(lock)), opened(arena, kind[1])
    with lock:
        assert in_thread(other.acquire, False) is False
        assert in_thread(third.acquire, False) is False
        assert other.locked()
        assert third.locked()


# ---- signals ---------------------------------------------------------------------------------------------------------


def test_a_handler_that_raises_ends_the_wait(arena, child, kind):
    lock = opened(arena, kind[1])
    lock.acquire()
    c = child(
        f"""
        lock = {kind[1]}
        class Enough(Exception): pass
        def stop(*_): raise Enough
        signal.signal(signal.SIGUSR1, stop)
        try:
            say(); lock.acquire()
        except Enough:
            say("stopped")
        hear()
        say(lock.acquire(timeout=20))
        lock.release()
        """
    )
    c.hear()
    until_waiting(arena)
    import signal

    c.process.send_signal(signal.SIGUSR1)
    assert c.hear() == "stopped"
    lock.release()
    c.say()
    assert c.hear() is True
    c.finish()


def test_a_handler_that_returns_does_not_prolong_the_wait(arena, child, kind):
    lock = opened(arena, kind[1])
    lock.acquire()
    c = child(
        f"""
        lock = {kind[1]}
        calls = []
        signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        began = time.monotonic()
        got = lock.acquire(timeout=0.3)
        took = time.monotonic() - began
        signal.setitimer(signal.ITIMER_REAL, 0)
        say([got, took >= 0.3, took < 10, len(calls) >= 1])
        """
    )
    assert c.hear() == [False, True, True, True]
    c.finish()
    lock.release()


def test_a_forked_child_holds_nothing(arena, child, kind):
    c = child(
        f"""
        lock = {kind[1]}
        lock.acquire()
        pid = os.fork()
        if pid == 0:
            refused = False
            try:
                lock.release()
            except (RuntimeError, ValueError):
                refused = True
            os._exit(int(not (refused and lock.acquire(False) is False)))
        say(wait_for(pid))
        lock.release()
        say(lock.acquire(False))
        """
    )
    if kind[0] == "Semaphore":
        assert c.hear() == 1  # nobody owns a unit: the child gave one
    else:
        assert c.hear() == 0
    assert c.hear() is True
    c.finish()


def test_closed(any_lock):
    any_lock.close()
    assert any_lock.closed
    with pytest.raises(ValueError, match="closed"):
        any_lock.acquire()
    with pytest.raises(ValueError, match="closed"), any_lock:
        pass
    assert "closed" in repr(any_lock)
    any_lock.close()


@pytest.fixture
def of_the_arena(kind):
    if kind[0] in FILES:
        pytest.skip("a file is not unlinked from an arena; replaced and deleted ones are in test_filelock_files.py")


def test_unlinked(of_the_arena, arena, lock, kind):
    arena.unlink("x")
    with pytest.raises(syncx.Gone):
        lock.acquire()
    with pytest.raises(syncx.Gone), lock:
        pass
    with opened(arena, kind[1]):
        pass


@pytest.mark.parametrize("how", ["acquire()", "acquire(timeout=20)", "__enter__()"])
def test_unlinked_while_somebody_waits(of_the_arena, arena, child, lock, kind, how):
    lock.acquire()
    c = child(
        f"""
        lock = {kind[1]}
        try:
            say(); lock.{how}
        except syncx.Gone:
            say("gone")
        """
    )
    c.hear()
    until_waiting(arena)
    arena.unlink("x", force=True)
    assert c.hear() == "gone"
    c.finish()
    with contextlib.suppress(syncx.Gone):  # a unit can go nowhere; what was held is given back
        lock.release()
