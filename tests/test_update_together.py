"""`syncx.update` among others: deaths, forks, threads, waiters, locks and readers of the same file.

What it does alone is in tests/test_update.py; the broken twins are in tests/updates.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import threading
import time

import pytest
import updates
from singlestep import shared_directory
from support import PATIENCE, overlap
from test_mutex import in_thread
from test_update import content, unchanged
from updates import until_awaited

import syncx


@pytest.fixture(params=["there", "new"])
def path(request):
    """A file with the content "old", or none yet; in memory, where an fsync costs nothing."""
    with updates.state_file(request.param == "there") as path:
        yield path


there = pytest.mark.parametrize("path", ["there"], indirect=True)
"""For tests of a file that is there."""


# ---- SIGKILL, fork, threads ------------------------------------------------------------------------------------------


@pytest.mark.death
@pytest.mark.parametrize("system", ["plain", "no O_TMPFILE", "one name"])
def test_killed_in_the_block(child, path, arena, system):
    before = content(path)
    c = child(
        """
        import updates
        updates.on(system)
        with syncx.update(path, arena=arena) as f:
            f.write("new")
            f.flush()
            say()
            hear()
        """,
        path=str(path),
        system=system,
    )
    c.hear()
    with pytest.raises(syncx.Timeout), syncx.update(path, timeout=0, arena=arena):
        raise AssertionError
    c.kill()
    assert content(path) == before
    if system == "plain" and before is not None:
        assert os.listdir(path.parent) == ["state"]  # what has no name goes with its process
    with syncx.update(path, timeout=PATIENCE, arena=arena) as f:
        if system != "plain" and before is not None:
            updates_of_the_dead_are_removed_at_the_end = ".state.syncx-update" in os.listdir(path.parent)
            assert updates_of_the_dead_are_removed_at_the_end
        f.write("after")
    assert content(path) == "after"
    assert os.listdir(path.parent) == ["state"]


@pytest.mark.death
def test_a_kill_lets_the_waiters_in(child, path, arena):
    holder = child(
        """
        with syncx.update(path, arena=arena) as f:
            f.write("of the dead")
            f.flush()
            say()
            hear()
        """,
        path=str(path),
    )
    holder.hear()
    waiting = """
        with syncx.update(path, arena=arena) as f:
            f.write((open(path).read() if os.path.exists(path) else "none") + "+")
    """
    waiters = [child(waiting, path=str(path)) for _ in range(3)]
    until_awaited(arena, 3)
    before = content(path) or "none"
    holder.kill()
    for c in waiters:
        c.finish()
    assert content(path) == f"{before}+++"
    assert os.listdir(path.parent) == ["state"]


def test_a_child_forked_inside_writes_nothing(child, path, arena):
    c = child(
        """
        pid = None
        try:
            with syncx.update(path, arena=arena) as f:
                f.write("of the parent")
                pid = os.fork()
                if pid == 0:
                    f.write(", and of the child")
                else:
                    say(wait_for(pid))
                    say(os.path.exists(path) and open(path).read())
        except syncx.NotOwner as e:
            assert pid == 0 and "forked" in str(e)
            os._exit(7)
        say(open(path).read())
        """,
        path=str(path),
    )
    before = content(path)
    assert c.hear() == 7
    assert c.hear() == (before or False)
    assert c.hear() == "of the parent"
    c.finish()
    unchanged(path, "of the parent")


def test_an_exception_in_a_forked_child_removes_nothing(child, path, arena):
    c = child(
        """
        import updates
        updates.on("no O_TMPFILE")
        pid = None
        try:
            with syncx.update(path, arena=arena) as f:
                f.write("of the parent")
                pid = os.fork()
                if pid == 0:
                    raise KeyError
                say(wait_for(pid))
        except KeyError:
            os._exit(7)
        """,
        path=str(path),
    )
    assert c.hear() == 7
    c.finish()
    unchanged(path, "of the parent")


def test_another_thread_does_not_end_it(path):
    u = syncx.update(path)
    with u as f:
        f.write("new")
        with pytest.raises(syncx.NotOwner, match="another thread"):
            in_thread(u.__exit__, None, None, None)
        assert not f.closed
    assert content(path) == "new"


# ---- one at a time ---------------------------------------------------------------------------------------------------


def test_threads_exclude_each_other(path, arena):
    assert not overlap(updates_of(path, arena))
    assert content(path) == "whole"


class updates_of:
    """Each `with` of any thread is an update of its own."""

    def __init__(self, path, arena, update=syncx.update):
        self._make = lambda: updates.Updating(str(path), update, arena=arena)
        self._local = threading.local()

    def __enter__(self):
        self._local.block = self._make()
        self._local.block.__enter__()

    def __exit__(self, *exception):
        self._local.block.__exit__(*exception)


@there
def test_no_exclusion_in_threads_is_caught(path, arena):
    assert any(overlap(updates_of(path, arena, updates.unlocked)) for _ in range(20))


INCREMENT = """
import updates
update = syncx.update if twin is None else getattr(updates, twin)
say()
hear()
updates.increment(update, path, times)
"""


def increments(child, path, processes, times, twin=None):
    """What is in the file when that many processes have added one so many times."""
    started = [child(INCREMENT, path=str(path), times=times, twin=twin) for _ in range(processes)]
    for c in started:
        c.hear()
    for c in started:
        c.say()
    for c in started:
        c.finish(90)
    return json.loads(path.read_text())["n"]


@pytest.mark.parametrize("new", [False, True], ids=["there", "new"])
def test_no_increment_is_lost(child, new):
    with shared_directory() as directory:
        path = directory / "state"
        if not new:
            path.write_text('{"n": 0}')
        assert increments(child, path, 8, 200) == 8 * 200
        assert os.listdir(directory) == ["state"]


LOCKED_INCREMENT = """
lock = syncx.FileLock(path)
say()
hear()
for _ in range(times):
    with lock as held:
        state = json.loads(held.file.read() or b'{"n": 0}')
        held.file.seek(0)
        held.file.write(json.dumps({"n": state["n"] + 1}).encode())
        held.file.truncate()
"""


@there
def test_no_increment_is_lost_between_updates_and_locks(child, path):
    """Updates beside programs that change the file in place, through one lock object all the time."""
    path.write_text('{"n": 0}')
    started = [child(INCREMENT, path=str(path), times=100, twin=None) for _ in range(3)]
    started += [child(LOCKED_INCREMENT, path=str(path), times=100) for _ in range(3)]
    for c in started:
        c.hear()
    for c in started:
        c.say()
    for c in started:
        c.finish(90)
    assert json.loads(path.read_text())["n"] == 600
    assert os.listdir(path.parent) == ["state"]


@pytest.mark.parametrize("twin", ["without_second_look", "unlocked"])
def test_lost_increments_are_found(child, tmp_path, twin):
    for n in range(20):
        path = tmp_path / f"state{n}"
        path.write_text('{"n": 0}')
        if increments(child, path, 3, 300, twin) < 900:
            return
    raise AssertionError("twenty times, nothing was lost")


@there
@pytest.mark.parametrize("twin", [None, "without_second_look"])
def test_one_who_waited_looks_again(child, path, arena, twin):
    """A second one waits for what the path named; the first has replaced it; a third comes and finds that.

    Without the second look, the second and the third are inside together.
    """
    WAITER = """
        import updates
        if twin is None:
            block = syncx.update(path, arena=arena)
        else:
            block = getattr(updates, twin)(path, waits=say)
        with block as f:
            f.write("second")
            say("inside")
            hear()
        """
    with syncx.update(path, arena=arena) as f:
        f.write("first")
        c = child(WAITER, path=str(path), twin=twin)
        if twin is None:
            until_awaited(arena)
        else:
            assert c.hear() == ""  # it has opened the file
    assert c.hear() == "inside"
    if twin is None:
        with pytest.raises(syncx.Timeout), syncx.update(path, timeout=0, arena=arena):
            raise AssertionError
    else:
        with syncx.update(path, timeout=PATIENCE, arena=arena):
            assert c.process.poll() is None  # both are inside: the harness sees it
    c.say()
    c.finish()
    assert content(path) == "second"


@pytest.mark.parametrize("first", ["there", "new"])
def test_a_waiter_gets_in(child, tmp_path, arena, first):
    path = tmp_path / "state"
    if first == "there":
        path.write_text("old")
    with syncx.update(path, arena=arena) as f:
        c = child(
            """
            with syncx.update(path, timeout=20, arena=arena) as f:
                f.write(open(path).read() + ", second")
            """,
            path=str(path),
        )
        until_awaited(arena)
        f.write("first")
    c.finish()
    assert path.read_text() == "first, second"
    assert os.listdir(tmp_path) == ["state"]


def test_a_waiter_gets_in_after_an_exception(child, path, arena):
    before = content(path)
    u = syncx.update(path, arena=arena)
    u.__enter__()
    c = child(
        """
        with syncx.update(path, timeout=20, arena=arena) as f:
            f.write(str(os.path.exists(path) and open(path).read()))
        """,
        path=str(path),
    )
    until_awaited(arena)
    u.__exit__(KeyError, KeyError(), None)
    c.finish()
    assert content(path) == str(before or False)


def test_a_timeout(path, arena):
    before = content(path)

    def late():
        began = time.monotonic()
        with pytest.raises(syncx.Timeout, match="state"), syncx.update(path, timeout=0.05, arena=arena):
            raise AssertionError
        return time.monotonic() - began

    with syncx.update(path, arena=arena) as f:
        assert in_thread(late) >= 0.05
        f.write("new")
    assert before != "new"
    assert content(path) == "new"


@there
def test_it_excludes_file_locks(path, arena):
    lock = syncx.FileLock(path, arena=arena)
    with syncx.update(path, arena=arena) as f:
        assert in_thread(lock.acquire, False) is False
        f.write("new")
    with lock:
        with pytest.raises(syncx.Timeout):
            in_thread(syncx.update(path, timeout=0, arena=arena).__enter__)
    lock.close()
    unchanged(path, "new")


@there
def test_a_file_lock_that_waited_has_what_the_path_names_now(path, arena):
    found = []

    def read():
        with syncx.FileLock(path, timeout=PATIENCE, arena=arena) as lock:
            found.append(lock.file.read())

    reader = threading.Thread(target=read)
    with syncx.update(path, arena=arena) as f:
        reader.start()
        until_awaited(arena)
        f.write("new")
    reader.join(PATIENCE)
    assert found == [b"new"]


def test_nested_updates_of_one_file(path, arena):
    with syncx.update(path, arena=arena) as f:
        f.write("new")
        with pytest.raises(syncx.DeadlockError, match=re.escape(str(path))), syncx.update(path, arena=arena):
            raise AssertionError
        with pytest.raises(syncx.Timeout, match=re.escape(str(path))), syncx.update(path, timeout=0, arena=arena):
            raise AssertionError
        assert content(path) != "new"
    assert content(path) == "new"
    assert os.listdir(path.parent) == ["state"]


def test_under_its_own_lock(tmp_path, arena):
    path = tmp_path / "state"
    path.write_text("old")
    with syncx.FileLock(path, arena=arena):
        with pytest.raises(syncx.DeadlockError), syncx.update(path, arena=arena):
            raise AssertionError
    unchanged(path, "old")


def test_two_files_of_one_directory(path, arena):
    other = path.parent / "other"
    with syncx.update(path, arena=arena) as f:
        with syncx.update(other, arena=arena) as g:
            f.write("one")
            g.write("two")
        assert content(path) != "one"
        assert content(other) == "two"
    assert content(path) == "one"
    assert sorted(os.listdir(path.parent)) == ["other", "state"]


def test_new_files_of_one_directory_in_any_order(child, tmp_path, arena):
    """Two threads that each make two of them: with one lock for the directory they would wait for each other."""
    paths = [tmp_path / n for n in "abcd"]
    both = threading.Barrier(2)

    def make(first, second):
        with syncx.update(first, timeout=PATIENCE, arena=arena) as f:
            both.wait(PATIENCE)
            with syncx.update(second, timeout=PATIENCE, arena=arena) as g:
                f.write(first.name)
                g.write(second.name)

    other = threading.Thread(target=make, args=(paths[2], paths[3]))
    other.start()
    make(paths[0], paths[1])
    other.join(PATIENCE)
    assert [content(p) for p in paths] == list("abcd")


# ---- the real thing on the other side --------------------------------------------------------------------------------


@there
def test_readers_never_see_half_of_it(child, path, arena):
    """Who reads without a lock finds one of the contents, whole."""
    path.write_text("0" * 10000)
    c = child(
        """
        say()
        for n in range(200):
            with syncx.update(path, arena=arena) as f:
                for _ in range(10):
                    f.write(str(n % 10) * 1000)
                    f.flush()
        """,
        path=str(path),
    )
    c.hear()
    seen = set()
    while c.process.poll() is None:
        text = path.read_text()
        assert len(text) == 10000
        assert len(set(text)) == 1
        seen.add(text[0])
    c.finish()
    assert seen


def test_a_half_written_file_is_found(tmp_path):
    path = tmp_path / "state"
    path.write_text("old")
    with updates.in_place(str(path)) as f:
        f.write("ne")
        f.flush()
        assert path.read_text() not in ("old", "new")


@there
def test_flock_knows_nothing_of_it(path):
    """flock(2) and byte ranges do not see each other; said in the documentation, and so it is."""
    with syncx.update(path) as f:
        f.write("new")
        with open(path) as old:
            fcntl.flock(old, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with pytest.raises(BlockingIOError):
                fcntl.lockf(old, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert content(path) == "new"


def test_a_signal_handler_that_raises_ends_the_wait(child, path, arena):
    before = content(path)
    with syncx.update(path, arena=arena) as f:
        c = child(
            """
            class Enough(Exception): pass
            def stop(*_): raise Enough
            signal.signal(signal.SIGUSR1, stop)
            try:
                say()
                with syncx.update(path, arena=arena): say("inside")
            except Enough:
                say("stopped")
            """,
            path=str(path),
        )
        c.hear()
        until_awaited(arena)
        c.process.send_signal(signal.SIGUSR1)
        assert c.hear() == "stopped"
        c.finish()
        f.write("new")
    assert before != "new"
    assert content(path) == "new"
    assert os.listdir(path.parent) == ["state"]
