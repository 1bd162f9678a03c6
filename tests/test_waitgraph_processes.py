"""The wait-for graph of real processes: locks of several kinds, file locks of other programs, the stopped, the dead."""

from __future__ import annotations

import os
import signal

import pytest
from support import until, until_waiting

import syncx

MEMBER = """
    syncx._core._set_deadlock(False)  # else one of them would be told
    have = [eval(e) for e in holds]
    for h in have:
        h.acquire()
    say(); hear()
    eval(wants).acquire(**how)
    say("got it")
    """


@pytest.fixture
def members(arena, child):
    """Starts processes that each hold some things, and then want one; returns them when all of those wait."""

    def start(*scene):
        found = [child(MEMBER, holds=holds, wants=wants, how=how or {}) for holds, wants, how in scene]
        for c in found:
            c.hear()
        for c, (_, wants, _) in zip(found, scene, strict=True):
            if wants is not None:
                c.say()
        until_waiting(arena, sum(wants is not None for _, wants, _ in scene))
        return found

    return start


def m(name):
    return f"syncx.Mutex({name!r}, arena=arena)"


def until_graph(arena, like, what):
    """The first graph that is like that: a thread may be looking around just when we look."""
    found = None

    def look():
        nonlocal found
        found = syncx.wait_graph(arena)
        return like(found)

    until(look, what)
    return found


def until_knots(arena, want):
    return until_graph(
        arena, lambda g: sorted((k.verdict, len(k.members)) for k in g.knots) == sorted(want), f"the knots are {want}"
    )


def until_blocked(arena, n):
    """A graph in which so many wait, each for somebody."""
    return until_graph(arena, lambda g: sum(b.blockers != () for b in g.blocked) == n, f"{n} wait")


def never_a_knot(arena):
    for source in (arena, arena.path) * 10:
        graph = syncx.wait_graph(source)
        assert graph.knots == ()
        assert {b.verdict for b in graph.blocked} <= {"runs"}


def test_a_ring(arena, members):
    a, b, c = members(([m("a")], m("b"), None), ([m("b")], m("c"), None), ([m("c")], m("a"), None))
    graph = until_knots(arena, [("deadlock", 3)])
    (knot,) = graph.knots
    pids = [x.pid for x in knot.members]
    assert pids in [[a.pid, b.pid, c.pid], [b.pid, c.pid, a.pid], [c.pid, a.pid, b.pid]]
    assert knot.members[0].where.endswith(" in <module>")
    assert not knot.foreign
    assert knot.victim is None


def test_a_chain_with_a_holder_that_lives(arena, members):
    a, b, c = members(([m("a")], m("b"), None), ([m("b")], m("c"), None), ([m("c")], None, None))
    graph = until_blocked(arena, 2)
    never_a_knot(arena)
    way = graph.chain(next(x for x in graph.blocked if x.pid == a.pid))
    assert [w.pid for w in way] == [a.pid, b.pid, c.pid]


@pytest.mark.core
def test_a_time_limit(arena, members):
    members(([m("a")], m("b"), None), ([m("b")], m("a"), {"timeout": 60}))
    graph = until_knots(arena, [("resolves", 2)])
    assert 0 < graph.knots[0].resolves_in < 60


@pytest.mark.core
@pytest.mark.death
def test_a_death_dissolves_it(arena, members):
    a, b = members(([m("a")], m("b"), None), ([m("b")], m("a"), None))
    until_knots(arena, [("deadlock", 2)])
    a.kill()
    assert b.hear() == "got it"
    assert syncx.wait_graph(arena).knots == ()


@pytest.mark.core
def test_a_member_that_is_stopped(arena, members):
    a, _ = members(([m("a")], m("b"), None), ([m("b")], m("a"), None))
    os.kill(a.pid, signal.SIGSTOP)
    graph = until_graph(
        arena, lambda g: [m.stopped for k in g.knots for m in k.members if m.pid == a.pid] == [True], "it is stopped"
    )
    assert "(stopped)" in str(graph)
    assert [x.pid for x in graph.blocked if x.stopped] == [a.pid]
    os.kill(a.pid, signal.SIGCONT)


@pytest.mark.core
@pytest.mark.parametrize(("two", "verdict"), [(False, "deadlock"), (True, "suspected")])
def test_permits_of_a_process_with_another_thread(arena, child, two, verdict):
    """A thread that lives could give the permit back."""
    a = child(
        """
        syncx._core._set_deadlock(False)
        s = syncx.BoundedSemaphore(1, name="s", arena=arena)
        s.acquire()
        def other():
            with syncx.Mutex("its own", arena=arena):
                say(); threading.Event().wait()
        if two:
            threading.Thread(target=other, daemon=True).start()
        else:
            say()
        syncx.Event("go", arena=arena).wait()
        syncx.Mutex("m", arena=arena).acquire()
        """,
        two=two,
    )
    a.hear()
    b = child(MEMBER, holds=[m("m")], wants="syncx.BoundedSemaphore(1, name='s', arena=arena)", how={})
    b.hear()
    b.say()
    until_waiting(arena, 2)
    assert "deadlock" not in {k.verdict for k in syncx.wait_graph(arena).knots}
    syncx.Event("go", arena=arena).set()
    until_knots(arena, [(verdict, 2)])


@pytest.mark.core
def test_readers_and_a_writer(arena, child):
    """A writer waits for a reader, who waits for a mutex whose holder wants to read, behind the writer."""
    rw = "syncx.RWLock('rw', arena=arena)"
    reader = child(MEMBER, holds=[rw + ".read()"], wants=m("m"), how={})
    reader.hear()
    writer = child(MEMBER, holds=[], wants=rw + ".write()", how={})
    other = child(MEMBER, holds=[m("m")], wants=rw + ".read()", how={})
    writer.hear()
    other.hear()
    writer.say()
    until_waiting(arena)
    other.say()
    until_waiting(arena, 2)
    never_a_knot(arena)
    reader.say()
    graph = until_knots(arena, [("deadlock", 3)])
    assert {x.what for x in graph.blocked} == {"for Mutex 'm'", "to write RWLock 'rw'", "to read RWLock 'rw'"}


@pytest.mark.core
def test_a_mutex_and_a_range(arena, members, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(100))
    members(
        ([f"syncx.RangeLock({str(path)!r}, 10, 10, arena=arena)"], m("m"), None),
        ([m("m")], f"syncx.RangeLock({str(path)!r}, 15, 1, arena=arena)", None),
    )
    graph = until_knots(arena, [("deadlock", 2)])
    assert f"for byte 15 of {path}" in {x.what for x in graph.blocked}


@pytest.mark.core
@pytest.mark.parametrize("stuck", [True, False])
def test_the_end_of_a_process(arena, child, stuck):
    a = child(
        """
        syncx._core._set_deadlock(False)
        m = syncx.Mutex("m", arena=arena); m.acquire()
        say()
        syncx.join(hear(), arena=arena)
        """
    )
    a.hear()
    b = child(
        """
        syncx._core._set_deadlock(False)
        n = syncx.Mutex("n", arena=arena); n.acquire()
        say()
        if stuck:
            syncx.Mutex("m", arena=arena).acquire()
        hear()
        """,
        stuck=stuck,
    )
    b.hear()
    a.say(b.pid)
    until_waiting(arena, 1 + stuck)
    if stuck:
        graph = until_knots(arena, [("deadlock", 2)])
    else:
        never_a_knot(arena)
        graph = until_blocked(arena, 1)
        assert [w.pid for x in graph.blocked for w in x.blockers] == [b.pid]
    assert f"for the end of process {b.pid}" in {x.what for x in graph.blocked}


# ---- other programs --------------------------------------------------------------------------------------------------

FOREIGN = """
import fcntl, json, os, sys
names = json.loads(sys.argv[1])
file, second = open(names["path"], "r+b"), open(names["second"], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 5, 10)
os.write(1, b'""\\n')
os.read(0, 3)
fcntl.lockf(second, fcntl.LOCK_EX, 5, 50)
os.write(1, b'""\\n')
"""


@pytest.fixture
def beside(arena, child, tmp_path):
    """A worker of ours that wants a byte which a program without syncx has, and has bytes of another file.

    Of a single file the kernel would find that deadlock: fcntl(2) would fail with EDEADLK.
    """
    path, second = tmp_path / "data", tmp_path / "second"
    for file in (path, second):
        file.write_bytes(bytes(100))
    foreign = child(FOREIGN, prelude=False, path=str(path), second=str(second))
    foreign.hear()
    code = "syncx.RangeLock({!r}, {}, {}, arena=arena)".format
    worker = child(MEMBER, holds=[code(str(second), 50, 10)], wants=code(str(path), 12, 1), how={})
    worker.hear()
    worker.say()
    until_blocked(arena, 1)
    return foreign, worker, path, second


@pytest.mark.core
def test_a_range_that_another_program_has(arena, beside):
    foreign, worker, path, _ = beside
    never_a_knot(arena)
    graph = until_blocked(arena, 1)
    (waits,) = graph.blocked
    (other,) = waits.blockers
    assert (waits.pid, waits.what) == (worker.pid, f"for byte 12 of {path}")
    assert isinstance(other, syncx.waitgraph.ForeignProcess)
    assert (other.pid, other.awaits, other.threads, other.blockers) == (foreign.pid, "", 1, ())
    assert "fcntl" in other.command
    assert graph.foreign == (other,)
    assert graph.chain(waits) == (waits, other)
    assert syncx.wait_graph(arena, foreign=False).blocked[0].blockers == ()
    foreign.kill()
    assert worker.hear() == "got it"
    assert syncx.wait_graph(arena).foreign == ()


def test_a_knot_with_another_program(arena, beside):
    foreign, worker, _, second = beside
    foreign.say()
    graph = until_knots(arena, [("deadlock", 2)])
    (knot,) = graph.knots
    ours, other = knot.members
    assert knot.foreign
    assert knot.threads == {ours.participant.id}
    assert (ours.pid, other.pid) == (worker.pid, foreign.pid)
    assert other.awaits == f"for bytes 50 to 54 of {second}"
    assert other.blockers == (ours.participant,)
    assert "syncx cannot break it" in str(graph)
    assert {m.get("foreign") for k in graph.to_dict()["knots"] for m in k["members"]} == {None, foreign.pid}
    os.kill(foreign.pid, signal.SIGSTOP)
    graph = until_graph(arena, lambda g: [f.state for f in g.foreign] in (["T"], ["t"]), "it is stopped")
    assert "stopped" in str(graph)


@pytest.mark.core
def test_sqlite_has_the_range(arena, child, tmp_path):
    path = tmp_path / "base"
    db = child(
        """
        import json, os, sqlite3, sys
        c = sqlite3.connect(json.loads(sys.argv[1])["path"], isolation_level=None)
        c.execute("create table t (x)")
        c.execute("begin exclusive")
        os.write(1, b'""\\n')
        os.read(0, 3)
        """,
        prelude=False,
        path=str(path),
    )
    db.hear()
    worker = child("lock = syncx.RangeLock(path, 1 << 30, 512, arena=arena); say(); lock.acquire()", path=str(path))
    worker.hear()
    (waits,) = until_graph(arena, lambda g: g.foreign, "it waits for sqlite").blocked
    never_a_knot(arena)
    assert [w.pid for w in waits.blockers] == [db.pid]
