"""syncx.join: the end of a process, as a wait that the views and the detector of deadlocks see."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading

import pytest
from support import PATIENCE, until

import syncx


def waits(arena: syncx.Arena, pid: int | None = None) -> list:
    """Those for the end of a process."""
    return [w for w in syncx.snapshot(arena).waits if w.kind == "process" and pid in (None, w.pid)]


def test_a_process_that_ends(arena, child):
    a = child("hear()")
    assert syncx.join(a.pid, 0, arena=arena) is False
    result: list[bool] = []
    t = threading.Thread(target=lambda: result.append(syncx.join(a.process, arena=arena)))
    t.start()
    until(lambda: waits(arena, a.pid), "the wait is told")
    (wait,) = waits(arena, a.pid)
    assert (wait.object, wait.range, wait.units, wait.holder, wait.remaining) == (None, None, 1, None, None)
    assert wait.where.endswith("in <lambda>")
    assert os.path.basename(__file__) in wait.where
    a.say()
    t.join(PATIENCE)
    assert result == [True]
    assert a.process.returncode == 0  # it was reaped
    assert syncx.join(a.process, arena=arena) is True
    assert not waits(arena)


def test_a_process_that_is_killed(arena, child):
    a = child("hear()")
    t = threading.Timer(0.05, lambda: os.kill(a.pid, signal.SIGKILL))
    t.start()
    assert syncx.join(a.process, 60, arena=arena) is True
    assert a.process.returncode == -signal.SIGKILL
    t.join()


def test_a_timeout(arena, child):
    a = child("hear()")
    assert syncx.join(a.pid, 0.05, arena=arena) is False
    assert syncx.join(a.process, 0.05, arena=arena) is False
    assert a.process.returncode is None


def test_by_number_nobody_is_reaped(arena):
    p = subprocess.Popen([sys.executable, "-c", ""])
    assert syncx.join(p.pid, 60, arena=arena) is True
    assert os.waitpid(p.pid, os.WNOHANG) == (p.pid, 0)
    p.returncode = 0
    with pytest.raises(ProcessLookupError, match=f"no process {p.pid}"):
        syncx.join(p.pid, arena=arena)


def test_multiprocessing(child):
    a = child(
        """
        import multiprocessing
        p = multiprocessing.get_context("spawn").Process(target=len, args=("",))
        try:
            syncx.join(p)
        except ValueError as e:
            assert "has not been started" in str(e), e
        p.start()
        say([syncx.join(p), p.exitcode, syncx.join(p)])
        """
    )
    assert a.hear() == [True, 0, True]
    a.finish()


@pytest.mark.parametrize(
    ("process", "error", "match"),
    [
        ("1", TypeError, "expected a process id, a multiprocessing.Process or a subprocess.Popen, not str"),
        (1.0, TypeError, "not float"),
        (True, TypeError, "not bool"),
        (None, ValueError, "not been started"),
        (0, ValueError, "positive"),
        (-5, ValueError, "not -5"),
        (1 << 31, ValueError, "positive"),
    ],
)
def test_what_is_no_process(arena, process, error, match):
    with pytest.raises(error, match=match):
        syncx.join(process, 0, arena=arena)


def test_its_own_end(arena):
    with pytest.raises(ValueError, match="its own end"):
        syncx.join(os.getpid(), 0, arena=arena)


@pytest.mark.parametrize("timeout", [math.nan, -2, "1"])
def test_what_is_no_timeout(arena, timeout):
    with pytest.raises((ValueError, TypeError)):
        syncx.join(os.getppid(), timeout, arena=arena)


def test_what_is_no_arena():
    with pytest.raises(TypeError, match=r"expected a syncx\.Arena, not str"):
        syncx.join(os.getppid(), 0, arena="default")


def test_a_closed_arena(arena):
    arena.close()
    with pytest.raises(ValueError, match="closed"):
        syncx.join(os.getppid(), 0, arena=arena)


def test_signal_handlers_run(arena, child):
    a = child(
        """
        import os, signal
        signal.signal(signal.SIGUSR1, lambda *_: say("handled"))
        def give_up(*_):
            raise KeyError("enough")
        signal.signal(signal.SIGUSR2, give_up)
        try:
            syncx.join(os.getppid(), arena=arena)
        except KeyError as e:
            say(str(e))
        """
    )
    until(lambda: waits(arena, os.getpid()), "it waits")
    os.kill(a.pid, signal.SIGUSR1)
    assert a.hear() == "handled"
    until(lambda: waits(arena, os.getpid()), "it waits on")
    os.kill(a.pid, signal.SIGUSR2)
    assert a.hear() == "'enough'"
    a.finish()
    assert not waits(arena)


# ---- deadlocks -------------------------------------------------------------------------------------------------------

PARENT = """
    import subprocess, sys
    with syncx.Mutex("m", arena=arena):
        p = subprocess.Popen([sys.executable, "-c", CHILD, arena.path])
        say(p.pid)
        try:
            said = syncx.join(p, arena=arena)
        except syncx.DeadlockError as e:
            said = [(w.kind, w.name, [h[:2] for h in w.holds], w.pid) for w in e.cycle]
        say(said)
    syncx.join(p, arena=arena)
    say([p.returncode, p.pid])
"""
CHILD = """
import sys, syncx
m = syncx.Mutex("m", arena=syncx.Arena(sys.argv[1]))
try:
    with m:
        sys.exit(3)
except syncx.DeadlockError as e:
    sys.exit(len(e.cycle))
"""


def test_the_child_wants_what_the_parent_holds(arena, child):
    a = child(f"CHILD = {CHILD!r}\n" + "\n".join(line[4:] for line in PARENT.splitlines()))
    pid = a.hear()
    said = a.hear()
    code, _ = a.hear()
    if said is True:  # it was the child, who came last, and gave up
        assert code == 2
    else:
        assert said == [["process", str(pid), [["Mutex", "m"]], a.pid], ["Mutex", "m", [["process", str(pid)]], pid]]
        assert code == 3
    a.finish()


def test_a_child_that_only_takes_long_is_waited_for(arena, child):
    """The twin: it waits for what somebody else holds, who goes on."""
    with syncx.Mutex("m", arena=arena):
        a = child(
            f"CHILD = {CHILD!r}\n" + "\n".join(line[4:] for line in PARENT.replace('"m"', '"other"').splitlines())
        )
        pid = a.hear()
        until(lambda: len(syncx.snapshot(arena).waits) == 2, "parent and child wait")
        assert waits(arena, pid)
    assert a.hear() is True
    assert a.hear() == [3, pid]
    a.finish()


def test_barriers_take_part(arena, child):
    """Both parties are enrolled; one is at the barrier with the mutex that the other wants before it comes there."""
    code = """
        b, m = syncx.Barrier(2, name="b", arena=arena), syncx.Mutex("m", arena=arena)
        with b.enroll():
            say(); hear()
            try:
                with m:
                    said = b.wait() if first else "got it"
            except syncx.DeadlockError as e:
                said = [[w.kind, w.name] for w in e.cycle]
            say(said)
            hear()
    """
    a, b = child(code, first=True), child(code, first=False)
    a.hear(), b.hear()
    a.say()
    until(lambda: [w.kind for w in syncx.snapshot(arena).waits] == ["Barrier"], "the first one is at the barrier")
    b.say()
    assert b.hear() == [["Mutex", "m"], ["Barrier", "b"]]
    syncx.Barrier(2, name="b", arena=arena).abort()
    a.process.wait(PATIENCE)  # BrokenBarrierError
    assert "BrokenBarrierError" in a.stderr()
    b.say()
    b.end()


def test_a_free_place_at_a_barrier_is_for_anybody(arena, child):
    """The twin: the one who wants the mutex is not enrolled, so somebody else may come."""
    a = child(
        """
        b, m = syncx.Barrier(2, name="b", arena=arena), syncx.Mutex("m", arena=arena)
        with b.enroll(), m:
            b.wait()
        say("past it")
        """
    )
    until(lambda: [w.kind for w in syncx.snapshot(arena).waits] == ["Barrier"], "the first one is at the barrier")
    b = child("m = syncx.Mutex('m', arena=arena)\nwith m: say('got it')")
    until(lambda: len(syncx.snapshot(arena).waits) == 2, "both wait")
    syncx.Barrier(2, name="b", arena=arena).wait(PATIENCE)
    assert a.hear() == "past it"
    assert b.hear() == "got it"
    a.finish(), b.finish()
