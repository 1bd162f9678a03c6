"""FileLock: who is kept out, in threads and processes; waiting; fork; pickling.

What it has in common with all locks is in test_contract.py; ranges and queues are in test_rangelock.py; the file, its
path and bad input are in test_filelock_files.py.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
import time

import pytest
from filelocks import STYLES, may, probe, until_awaited
from support import Unlocked, overlap
from test_mutex import held_elsewhere, in_thread

import syncx


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"0123456789")
    return path


@pytest.fixture
def filed(arena, path):
    def make(file=path, **options):
        return syncx.FileLock(file, arena=arena, **options)

    return make


# ---- holding -------------------------------------------------------------------------------------------------------


def test_it_is_the_whole_file(filed, path):
    with filed() as lock:
        assert isinstance(lock, syncx.RangeLock)
        assert (lock.start, lock.length, lock.shared, lock.style, lock.reentrant) == (0, 0, False, "ofd", False)
        assert probe(path, [0, 9, 10, 2**62]) == "wwww"
        assert [tuple(r) for r in lock.ranges] == [(0, 0, False)]
    with filed(shared=True):
        assert probe(path, [0, 2**62]) == "rr"
    assert probe(path) == "." * 16


def test_it_is_held_by_this_thread_through_this_object(filed):
    lock, other = filed(), filed()
    assert not lock.held
    with lock:
        assert lock.held
        assert not other.held
        assert in_thread(lambda: lock.held) is False
        assert lock.locked()
        assert other.locked()
        assert in_thread(other.locked)
    assert not lock.held
    assert not lock.locked()


@pytest.mark.parametrize("style", STYLES)
def test_exclusion_of_threads(filed, style):
    assert not overlap(filed(style=style))


class Several:
    """One lock for each thread that comes: objects differ, the file is one."""

    def __init__(self, make):
        self.make, self.mine = make, threading.local()

    def __enter__(self):
        self.mine.lock = self.make()
        self.mine.lock.__enter__()

    def __exit__(self, *exception):
        self.mine.lock.__exit__(*exception)


@pytest.mark.parametrize("style", STYLES)
def test_exclusion_of_threads_through_several_objects(filed, style):
    assert not overlap(Several(lambda: filed(style=style)))


def test_several_objects_that_exclude_nobody_are_caught():
    assert overlap(Several(Unlocked))


@pytest.mark.parametrize("style", STYLES)
def test_readers_are_together_and_a_writer_is_alone(filed, style, child, path):
    read, write = filed(shared=True, style=style), filed(style=style)
    with held_elsewhere(read), read:
        assert may(filed(shared=True, style=style))
        assert not may(write)
    with write:
        assert not may(read)
    c = child(
        """
        lock = syncx.FileLock(path, shared=True, style=style, arena=arena)
        with lock:
            say(); hear()
        say()
        """,
        path=str(path),
        style=style,
    )
    c.hear()
    with read:
        assert not may(write)
    c.say()
    c.hear()
    with write:
        assert not may(read)
    c.finish()


@pytest.mark.parametrize("style", STYLES)
def test_what_the_kernel_has_of_each_style(filed, style, child, path):
    """flock(2) and fcntl(2) know nothing of each other."""
    expected = {"ofd": ["w", "."], "flock": [".", "w"], "posix": ["w", "."]}[style]
    see = child(
        "from filelocks import probe, flocked\nwhile hear(): say([probe(path, [5]), flocked(path)])", path=str(path)
    )
    with filed(style=style) as lock:
        assert lock.style == style
        see.say(1)
        assert see.hear() == expected
    see.say(1)
    assert see.hear() == [".", "."]
    see.say(0)
    see.finish()


def test_a_stray_close_does_not_drop_the_lock(filed, path, child):
    """As it drops POSIX record locks: the twin, which is there for programs that insist."""
    see = child("from filelocks import probe\nwhile hear(): say(probe(path, [5]))", path=str(path))

    def seen():
        see.say(1)
        return see.hear()

    with filed() as lock:
        lock.file.seek(3)
        path.read_bytes()
        os.close(os.dup(lock.fileno()))
        assert seen() == "w"
    with filed(style="posix"):
        assert seen() == "w"
        path.read_bytes()
        assert seen() == "."
    see.say(0)
    see.finish()


@pytest.mark.parametrize("how", ["symbolic link", "hard link", "another path", "bytes", "str"])
def test_one_file_by_several_names(filed, path, tmp_path, how):
    other = tmp_path / "other"
    if how == "symbolic link":
        other.symlink_to(path)
    elif how == "hard link":
        other.hardlink_to(path)
    else:
        other = {
            "another path": tmp_path / "." / ".." / tmp_path.name / "data",
            "bytes": os.fsencode(path),
            "str": str(path),
        }[how]
    with filed():
        assert not may(filed(other))
    assert may(filed(other))


def test_files_that_are_not_the_same(filed, tmp_path):
    with filed():
        assert may(filed(tmp_path / "other"))


# ---- once more by the same thread ----------------------------------------------------------------------------------


def test_once_more_by_the_same_thread(filed, path):
    with filed() as lock:
        with pytest.raises(syncx.DeadlockError, match=r"reentrant=True"):
            lock.acquire()
        with pytest.raises(syncx.DeadlockError), lock:
            raise AssertionError("not to be reached")
        assert lock.acquire(False) is False
        assert lock.acquire(timeout=0.01) is False
        assert lock.held
        assert probe(path, [0]) == "w"
    assert probe(path, [0]) == "."


def test_once_more_through_another_object(filed):
    with filed(), pytest.raises(syncx.DeadlockError):
        filed().acquire()
    with filed():
        assert filed().acquire(False) is False
        assert filed().acquire(timeout=0.01) is False
    with filed(shared=True), filed(shared=True) as other:
        assert other.held


def test_reentrant(filed, path):
    lock = filed(reentrant=True)
    assert lock.reentrant
    with lock:
        with lock as again:
            assert again is lock
            assert lock.acquire(False) is True
            assert lock.acquire(timeout=5) is True
            lock.release()
            lock.release()
        assert probe(path, [0]) == "w"
        assert not may(lock)
        with pytest.raises(syncx.NotOwner):
            in_thread(lock.release)
    assert probe(path, [0]) == "."
    with pytest.raises(syncx.NotOwner):
        lock.release()


def test_taken_again_the_file_stays_where_it_was(filed):
    """Position 0 is for a new hold: one that is taken again is in the middle of what its holder does."""
    lock = filed(reentrant=True)
    with lock:
        assert lock.file.read(4) == b"0123"
        with lock:
            assert lock.file.read(2) == b"45"
        assert lock.file.read(2) == b"67"
    with lock:
        assert lock.file.tell() == 0


def test_release_by_whom_it_is_not(filed, path):
    lock = filed()
    with pytest.raises(syncx.NotOwner, match=r"data"):
        lock.release()
    with lock:
        with pytest.raises(syncx.NotOwner):
            in_thread(lock.release)
        with pytest.raises(syncx.NotOwner):
            filed().release()
        assert probe(path, [0]) == "w"


# ---- waiting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_timeouts(filed, style):
    lock = filed(style=style)
    with held_elsewhere(filed(style=style)):
        began = time.monotonic()
        assert lock.acquire(timeout=0.05) is False
        assert time.monotonic() - began >= 0.05
        with pytest.raises(syncx.Timeout, match=r"data.*0\.03 s"), lock.within(0.03):
            raise AssertionError("not to be reached")
        with pytest.raises(syncx.Timeout, match=r"data.*0\.02 s"), filed(style=style, timeout=0.02):
            raise AssertionError("not to be reached")
        assert lock.acquire(False) is False
        assert lock.acquire(timeout=0) is False
        assert not lock.held
    with lock.within(5), contextlib.nullcontext(lock.held) as held:
        assert held
    assert filed(timeout=1.5).timeout == 1.5
    assert lock.timeout is None


WATCHED = """
lock = make()
before = resource.getrusage(resource.RUSAGE_SELF)
got = lock.acquire(timeout=timeout)
after = resource.getrusage(resource.RUSAGE_SELF)
say([got, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_nvcsw - before.ru_nvcsw])
"""


def test_waiting_is_sleeping(arena, filed, path, child):
    """Nobody looks again and again: a second of waiting is hardly any work, and hardly any waking up.

    A waiter wakes each tenth of a second, for deaths that swallowed a wake-up; the twin asks every 5 ms, which is
    twice as seldom as the busiest of the libraries that poll.
    """
    code = "import resource, types, fcntl\n{}\n" + WATCHED
    ours = "make = lambda: syncx.FileLock(path, arena=arena)"
    polls = """
class Polls:
    def acquire(self, timeout):
        f = open(path, "r+b")
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                time.sleep(0.005)
        return False
make = Polls
"""
    with filed():
        timed = child(code.format(ours), path=str(path), timeout=1.0)
        untimed = child(code.format(ours), path=str(path), timeout=None)
        polling = child(code.format(polls), path=str(path), timeout=1.0)
        got, cpu, wakes = timed.hear()
        assert not got
        assert cpu < 0.05
        assert wakes < 40
        got, _, wakes = polling.hear()
        assert not got
        assert wakes > 40
        until_awaited(arena, path)
    got, cpu, wakes = untimed.hear()
    assert got
    assert cpu < 0.05
    assert wakes < 60
    for c in (timed, untimed, polling):
        c.finish()


# ---- fork ----------------------------------------------------------------------------------------------------------


@pytest.mark.death
@pytest.mark.parametrize("style", STYLES)
def test_a_forked_child_does_not_keep_the_lock_alive(filed, child, path, style):
    """The parent is killed; the child, which has done nothing yet, lives on."""
    c = child(
        """
        lock = syncx.FileLock(path, style=style, arena=arena)
        lock.acquire()
        if os.fork() == 0:
            say("child")
            hear()
            say([lock.held, lock.acquire(timeout=20)])
            lock.release()
            say("done")
            os._exit(0)
        say("parent")
        signal.pause()
        """,
        path=str(path),
        style=style,
    )
    assert {c.hear(), c.hear()} == {"child", "parent"}
    lock = filed(style=style)
    assert lock.acquire(False) is False
    c.kill()
    with lock.within(20):
        assert lock.held
    c.say()
    assert c.hear() == [False, True]
    assert c.hear() == "done"


@pytest.mark.parametrize("style", STYLES)
def test_a_forked_child_cannot_release_and_can_take(arena, filed, child, path, style):
    c = child(
        """
        lock = syncx.FileLock(path, style=style, arena=arena)
        lock.acquire()
        lock.file.read(1)
        pid = os.fork()
        if pid == 0:
            try:
                lock.release()
            except syncx.NotOwner:
                say([lock.held, list(lock.ranges), lock.locked(), lock.acquire(False), lock.acquire(timeout=0.01)])
            with lock.within(20):
                say([lock.held, lock.file.read().decode()])
            os._exit(0)
        hear()
        lock.release()
        say(wait_for(pid))
        """,
        path=str(path),
        style=style,
    )
    assert c.hear() == [False, [], True, False, False]
    assert not may(filed(style=style)), "the child's refusal took nothing from the parent"
    until_awaited(arena, path)
    c.say()
    assert c.hear() == [True, "0123456789"]
    assert c.hear() == 0
    c.finish()


@pytest.mark.death
@pytest.mark.parametrize("style", ["ofd", "flock"])
def test_inherit_keeps_it_alive(filed, child, path, style):
    """The parent is killed, and the child, which holds as it did, releases."""
    c = child(
        """
        lock = syncx.FileLock(path, inherit=True, style=style, arena=arena)
        lock.acquire()
        if os.fork() == 0:
            say("child")
            hear()
            held = lock.held
            lock.release()
            say(held)
            signal.pause()
        say("parent")
        signal.pause()
        """,
        path=str(path),
        style=style,
    )
    assert {c.hear(), c.hear()} == {"child", "parent"}
    lock = filed(style=style)
    c.kill()
    assert lock.acquire(timeout=0.05) is False
    c.say()
    assert c.hear() is True
    with lock.within(20):
        assert lock.held


@pytest.mark.death
def test_inherit_until_the_death_of_both(filed, child, path):
    c = child(
        """
        lock = syncx.FileLock(path, inherit=True, arena=arena)
        lock.acquire()
        if os.fork() == 0:
            say("child")
            hear()
            os.kill(os.getpid(), signal.SIGKILL)
        say("parent")
        signal.pause()
        """,
        path=str(path),
    )
    assert {c.hear(), c.hear()} == {"child", "parent"}
    lock = filed()
    c.kill()
    assert lock.acquire(timeout=0.05) is False
    c.say()
    with lock.within(20):
        assert lock.held


def test_inherit_both_release(filed, child, path):
    c = child(
        """
        r, w = os.pipe()
        lock = syncx.FileLock(path, inherit=True, arena=arena)
        assert lock.acquire()
        pid = os.fork()
        if pid == 0:
            os.read(r, 1)
            held = lock.held
            lock.release()
            os._exit(0 if held else 1)
        lock.release()
        say(lock.held)
        hear()
        os.write(w, b"x")
        say(wait_for(pid))
        """,
        path=str(path),
    )
    assert c.hear() is False
    lock = filed()
    assert lock.acquire(timeout=0.05) is False
    assert probe(path, [0]) == "w"
    c.say()
    assert c.hear() == 0
    with lock.within(20):
        assert lock.held
    c.finish()


@pytest.mark.death
def test_a_program_that_is_executed_inherits_nothing(filed, child, path):
    c = child(
        """
        import subprocess
        lock = syncx.FileLock(path, arena=arena)
        lock.acquire()
        code = "import sys; print(flush=True); sys.stdin.read()"
        p = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, close_fds=False)
        p.stdout.readline()  # it runs: what is closed on exec is closed
        say(lock.fileno() in map(int, os.listdir(f"/proc/{p.pid}/fd")))
        signal.pause()
        """,
        path=str(path),
    )
    assert c.hear() is False
    c.kill()
    with filed().within(20):
        assert probe(path, [0]) == "w"


def test_waits_in_a_forked_child(arena, filed, child, path):
    """The child registers afresh, and is woken as anybody."""
    lock = filed()
    lock.acquire()
    c = child(
        """
        lock = syncx.FileLock(path, arena=arena)
        say(lock.acquire(False))
        pid = os.fork()
        if pid == 0:
            os._exit(not lock.acquire(timeout=20))
        say(wait_for(pid))
        """,
        path=str(path),
    )
    assert c.hear() is False
    until_awaited(arena, path)
    lock.release()
    assert c.hear() == 0
    c.finish()


# ---- pickling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
def test_pickles_by_path(filed, path, style):
    lock = filed(shared=True, timeout=3, reentrant=True, style=style, create=False, inherit=style != "posix")
    with lock:
        other = pickle.loads(pickle.dumps(lock))
    assert type(other) is syncx.FileLock
    assert os.fspath(other.path) == os.fspath(path)
    assert (other.shared, other.timeout, other.reentrant, other.style) == (True, 3, True, style)
    assert (other.create, other.inherit) == (False, style != "posix")
    assert other.arena.id == lock.arena.id
    assert not other.held


def test_pickles_by_a_path_that_means_the_same_elsewhere(filed, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    blob = pickle.dumps(filed("data"))
    monkeypatch.chdir("/")
    with filed():
        assert not may(pickle.loads(blob))


def test_a_descriptor_does_not_pickle(filed, path):
    with open(path, "r+b") as f:
        for file in (f, f.fileno()):
            lock = filed(file)
            assert lock.path is None
            with pytest.raises(TypeError, match=r"path"):
                pickle.dumps(lock)
