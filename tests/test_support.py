"""The tests' own tools: the search for leaks finds what it is there to find, and late children are ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

import pytest
from conftest import OWN_SYSTEM_V, PSM, RUN
from support import MARK, PATIENCE, Child, Leaks

import syncx


@pytest.fixture
def leaks():
    leaks = Leaks(RUN, tempfile.gettempdir(), PSM, OWN_SYSTEM_V)
    assert leaks.found() == []  # whatever the tests before this one told to end has ended
    return leaks


def test_nothing_is_found_where_nothing_was_left(leaks):
    assert leaks.found() == []


def test_an_arena_left_behind_is_found(leaks):
    arena = syncx.Arena(f"{RUN}-left")
    assert leaks.found() == [f"shared memory {arena.path}"]
    arena.unlink()
    arena.close()
    assert leaks.found() == []


def test_a_shared_memory_segment_left_behind_is_found(leaks):
    from multiprocessing.shared_memory import SharedMemory

    shm = SharedMemory(create=True, size=4096)
    assert leaks.found() == [f"shared memory /dev/shm/{shm.name}"]
    shm.unlink()
    shm.close()
    assert leaks.found() == []


def test_a_process_left_behind_is_found(leaks, child):
    c = child("say(); hear()")
    c.hear()
    (found,) = leaks.found(patience=0)
    assert found.startswith(f"process {c.pid}:")
    c.kill()
    assert leaks.found() == []


def test_an_orphan_is_found(leaks, child):
    c = child("pid = os.fork()\nif pid: say(pid)\nelse: hear()")
    orphan = c.hear()
    assert c.process.wait(PATIENCE) == 0
    (found,) = leaks.found(patience=0)
    assert found.startswith(f"process {orphan}:")
    c.close()  # takes the whole group


def test_a_child_nobody_waited_for_is_found(leaks):
    p = subprocess.Popen([sys.executable, "-c", ""], env={k: v for k, v in os.environ.items() if k != MARK})
    os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT)
    (found,) = leaks.found(patience=0)
    assert found.startswith(f"process {p.pid}:")
    p.wait()


def test_a_file_left_behind_is_found(leaks):
    fd, path = tempfile.mkstemp()
    os.close(fd)
    assert leaks.found() == [f"file {path}"]
    os.unlink(path)


@pytest.mark.skipif(not OWN_SYSTEM_V, reason="System V objects can be told to be ours in a namespace of our own only")
def test_a_system_v_semaphore_left_behind_is_found(leaks):
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    ident = libc.semget(0, 1, 0o600)  # IPC_PRIVATE
    assert ident >= 0
    (found,) = leaks.found()
    assert found.startswith("System V sem")
    assert found.endswith(f" {ident}")
    assert libc.semctl(ident, 0, 0) == 0  # IPC_RMID
    assert leaks.found() == []


def test_the_session_fails_on_a_leak(child, tmp_path):
    """The whole of it, in a pytest of its own: a test that passes and leaves an arena."""
    test = tmp_path / "test_leaky.py"
    test.write_text(
        "import syncx\n"
        "from conftest import RUN\n"
        "def test_leaky():\n"
        "    syncx.Mutex('left', arena=syncx.Arena(RUN + '-leaky'))\n"
    )
    shutil.copy(os.path.join(os.path.dirname(__file__), "conftest.py"), tmp_path)
    env = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    for name in [n for n in env if n.startswith("PYTEST_")]:
        del env[name]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(test)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )
    for path in [line.split()[-1] for line in run.stdout.splitlines() if "shared memory /dev/shm/syncx-" in line]:
        if os.path.exists(path):
            os.unlink(path)
    assert run.returncode == 1, run.stdout
    assert "left behind" in run.stdout
    assert "-leaky" in run.stdout
    assert "1 passed, 1 error" in run.stdout


def test_a_lost_wake_up_fails_the_fixture(arena):
    """What the fixture `arena` looks at is really what the belt counts: see test_laws for the belt itself."""
    assert arena.statistics()["rescues"] == 0
    assert "rescues" in syncx.Mutex(arena=arena).statistics()


def test_a_late_child_says_where_it_is(arena):
    c = Child("lock = syncx.Mutex(arena=arena); lock.acquire(); say(); lock.acquire(timeout=60)", ARENA=arena.path)
    try:
        c.hear()
        with pytest.raises(AssertionError, match="in time") as e:
            c.hear(timeout=0.1)
        assert "most recent call first" in str(e.value)
        with pytest.raises(AssertionError, match="did not end in time"):
            c.end(timeout=0.1)
    finally:
        c.close()


def test_a_child_that_fails_says_why():
    c = Child("raise KeyError('why')")
    try:
        with pytest.raises(AssertionError, match="KeyError: 'why'"):
            c.hear()
    finally:
        c.close()
