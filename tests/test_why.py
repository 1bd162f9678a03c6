"""`syncx why` and `syncx deadlocks`: who stands still, in words and as an exit status."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys

import pytest
from support import PATIENCE, until, until_waiting

import syncx
from syncx import cli

MEMBER = """
    syncx._core._set_deadlock(False)  # else one of them would be told
    for e in holds:
        eval(e).acquire()
    say(); hear()
    eval(wants).acquire(**how)
    say("got it")
    """


def m(name):
    return f"syncx.Mutex({name!r}, arena=arena)"


@pytest.fixture
def member(child):
    """A process that holds some things, and waits for another if there is one; it has something when this returns."""

    def start(holds, wants=None, **how):
        c = child(MEMBER, holds=holds, wants=wants, how=how)
        c.hear()
        return c

    return start


@pytest.fixture
def command(arena, capsys):
    """Runs a command of syncx on the arena, here; returns its exit status and what it wrote."""

    def run(*arguments):
        status = cli.main([*arguments, "--arena", arena.path])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def until_told(command, arguments, pattern):
    """The command's output, as soon as it is like that: a sleeper may be looking around just when we look."""
    out = ""

    def told():
        nonlocal out
        out = command(*arguments)[1]
        return re.search(pattern, out)

    until(told, f"it is told {pattern!r}, not {out!r}")
    return out


# ---- why -------------------------------------------------------------------------------------------------------------


def test_a_holder_that_runs(arena, command, member):
    a = member([m("jobs")])
    b = member([], m("jobs"))
    b.say()
    until_waiting(arena)
    want = (
        rf"Process {b.pid} \(python.*\) has waited \S+ \w+ for Mutex 'jobs', in <string>:\d+ in <module>\. "
        rf"That is held by process {a.pid} \(python.*\), which waits for nothing in this arena: it sleeps outside "
        rf"syncx.*\. It is no deadlock: everything goes on when process {a.pid} gives it back\..*kill {a.pid}\.\n"
    )
    for what in (str(b.pid), "jobs"):
        assert re.fullmatch(want, until_told(command, ["why", what], "has waited"))
    out = command("why", str(a.pid))[1]
    assert re.fullmatch(
        rf"Process {a.pid} \(.*\) waits for nothing in this arena: it sleeps outside syncx.*\. It holds Mutex 'jobs'\. "
        r"1 thread waits for it, for \S+ \w+ at most\.\n",
        until_told(command, ["why", str(a.pid)], "1 thread waits"),
    ), out


def test_a_deadlock(arena, command, member):
    a = member([m("a")], m("b"))
    b = member([m("b")], m("a"))
    c = member([], m("a"), timeout=60)
    a.say()
    until_waiting(arena)
    b.say()
    until_waiting(arena, 2)
    c.say()
    until_waiting(arena, 3)
    out = until_told(command, ["why", str(a.pid)], "deadlock of")
    assert f"That is held by process {b.pid}" in out
    assert f"That is held by process {a.pid} again: that closes the circle." in out
    assert "It is part of a deadlock of 2 threads, which will not end by itself." in out
    assert f"kill {b.pid}. What it holds goes to the next in line." in out
    out = until_told(command, ["why", str(c.pid)], "deadlock of")
    assert re.search(
        r"It waits for a deadlock of 2 threads, which will not end by itself; but this thread gives up in [\d.]+ s", out
    )


@pytest.mark.core
def test_a_time_limit_a_signal_and_a_stopped_holder(arena, command, member, child):
    a = member([m("a")], m("b"))
    b = member([m("b")], m("a"), timeout=60)
    for c in (a, b):
        c.say()
    until_waiting(arena, 2)
    out = until_told(command, ["why", "a"], "not for ever")
    assert re.search(r"not for ever: that resolves itself in [\d.]+ s\.", out)

    waits = child("syncx.Mutex('held', arena=arena).acquire(); say(); syncx.Event('e', arena=arena).wait()")
    waits.hear()
    until_waiting(arena, 3)
    out = until_told(command, ["why", "e"], "has waited")
    assert "Who is to end that wait is not written down anywhere: any thread may.\n" in out
    assert "deadlock" not in out
    behind = member([], m("held"))
    behind.say()
    until_waiting(arena, 4)
    out = until_told(command, ["why", "held"], "looks like a deadlock")
    assert f"That is held by process {waits.pid}" in out
    assert "not certain" in out

    holder = member([m("stopped")])
    last = member([], m("stopped"))
    last.say()
    until_waiting(arena, 5)
    os.kill(holder.pid, signal.SIGSTOP)
    out = until_told(command, ["why", "stopped"], "is stopped")
    assert f"it is stopped by a signal. Everything goes on once it is continued: kill -CONT {holder.pid}.\n" in out
    os.kill(holder.pid, signal.SIGCONT)


@pytest.mark.core
def test_files(arena, command, member, child, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(100))
    assert command("why", str(path)) == (
        0, f"Nobody holds a lock of {path} that can be seen, and nobody waits for one.\n", "",
    )  # fmt: skip
    foreign = child(
        """
        import fcntl, json, os, sys
        f = open(json.loads(sys.argv[1])["path"], "r+b")
        fcntl.lockf(f, fcntl.LOCK_EX, 10)
        os.write(1, b'""\\n')
        os.read(0, 3)
        """,
        prelude=False,
        path=str(path),
    )
    foreign.hear()
    out = command("why", str(path))[1]
    assert re.fullmatch(rf"Process {foreign.pid} \(.*\) holds locks of {path}; nobody waits for one\.\n", out), out
    worker = member([], f"syncx.RangeLock({str(path)!r}, 5, 1, arena=arena)")
    worker.say()
    out = until_told(command, ["why", str(path)], "That is held by")
    assert re.search(
        rf"Process {worker.pid} .* has waited .* for byte 5 of {path}, in .*\. That is held by process {foreign.pid} "
        r"\(.*; without syncx\), which waits for no file lock\. It is no deadlock",
        out,
    )
    assert re.search("does not use syncx here.*1 thread waits for a file lock", command("why", str(foreign.pid))[1])


@pytest.mark.core
def test_other_things(arena, command, member, child):
    child("say(); hear()").hear()
    a = member([m("jobs"), m("more")])
    syncx.Latch(1, name="nobody", arena=arena)
    assert command("why", "nobody")[1] == "Nobody waits for Latch 'nobody', and nobody holds it.\n"
    out = command("why", "jobs")[1]
    assert re.fullmatch(rf"Nobody waits for Mutex 'jobs'\. It is held by process {a.pid} .*, which waits for .*\n", out)
    assert "Nobody waits for that." in command("why", str(a.pid))[1]
    idle = child("say(); hear()")
    idle.hear()
    assert "none of its threads holds or awaits anything" in command("why", str(idle.pid))[1]
    status, out, err = command("why", "no such thing")
    assert (status, out) == (1, "")
    assert "'no such thing' is no process or thread of the arena" in err


@pytest.mark.core
def test_since_when_and_where_it_was_taken(arena, command, child, member):
    a = child("m = syncx.Mutex('m', arena=arena)\nm.acquire()\nsay(); hear()", env={"SYNCX_TRACE": "1"})
    a.hear()
    taken = rf"by process {a.pid} \(.*\) for \S+ \w+ \(taken in <string>:\d+ in <module>\), which"
    assert re.search(taken, command("why", "m")[1])
    b = member([], m("m"))
    b.say()
    until_waiting(arena)
    assert re.search(taken, until_told(command, ["why", str(b.pid)], "That is held"))


def test_many_threads_are_told_of_in_short(arena, command, child):
    a = child(
        """
        m = syncx.Mutex("m", arena=arena); m.acquire()
        say(); hear()
        """
    )
    a.hear()
    b = child(
        """
        def wait():
            with syncx.Mutex("m", arena=arena).within(60):
                say()
        for i in range(7): threading.Thread(target=wait, name=f"worker {i}").start()
        """
    )
    until_waiting(arena, 7)
    out = until_told(command, ["why", "m"], "3 more threads wait for it")
    assert out.count("\n\n") == 4
    assert "(worker " in out
    a.say()
    for _ in range(7):
        b.hear()


def test_on_a_terminal_lines_are_broken(arena, member):
    a = member([m("m")])
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "syncx", "why", str(a.pid), "-a", arena.path],
        stdout=theirs,
        env={**os.environ, "COLUMNS": "60"},
    )
    os.close(theirs)
    data = b""
    while True:
        try:
            data += os.read(ours, 65536)
        except OSError:  # nobody has the other end any more
            break
    assert process.wait(PATIENCE) == 0
    os.close(ours)
    lines = data.decode().splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 60


# ---- deadlocks -------------------------------------------------------------------------------------------------------


def test_deadlocks(arena, command, member, child):
    assert command("deadlocks") == (0, "", "")
    waits = child("syncx.Mutex('held', arena=arena).acquire(); say(); syncx.Event('e', arena=arena).wait()")
    waits.hear()
    behind = member([], m("held"))
    behind.say()
    until_waiting(arena, 2)
    out = until_told(command, ["deadlocks"], "suspected")
    assert out.splitlines()[0] == "suspected deadlock of 2 threads"
    until(lambda: command("deadlocks")[0] == 4, "only suspected")

    a = member([m("a")], m("b"))
    b = member([m("b")], m("a"))
    for c in (a, b):
        c.say()
    until_waiting(arena, 4)
    until(lambda: command("deadlocks")[0] == 3, "a deadlock")
    out = until_told(command, ["deadlocks"], "(?m)^deadlock of 2 threads")
    for one, other, name in ((a, b, "b"), (b, a, "a")):
        assert re.search(
            rf"(?m)^  process {one.pid} has waited \S+ \w+ for Mutex '{name}', in .*; held by process {other.pid}$", out
        )
    status, out, _ = command("deadlocks", "--json")
    plain = json.loads(out)
    assert status in (3, 4)  # one of them may look around just then
    assert {x["pid"] for x in plain["blocked"]} >= {waits.pid, behind.pid}


@pytest.mark.core
def test_knots_that_resolve_themselves_are_no_reason_for_alarm(arena, command, member):
    for c in [member([m("a")], m("b")), member([m("b")], m("a"), timeout=60)]:
        c.say()
    until_waiting(arena, 2)
    out = until_told(command, ["deadlocks"], "resolves itself")
    assert re.match(r"2 threads wait for each other; that resolves itself in [\d.]+ s\n", out)
    assert command("deadlocks")[0] == 0


@pytest.mark.parametrize("name", ["why", "deadlocks", "watch"])
def test_wrong_use(name, capsys, tmp_path):
    more = ["jobs"] if name == "why" else []
    once = ["--once"] if name == "watch" else []
    assert cli.main([name, *more, *once, "--arena", str(tmp_path / "none")]) == 1
    assert "there is no arena" in capsys.readouterr().err
    (tmp_path / "noise").write_bytes(os.urandom(1 << 16))
    assert cli.main([name, *more, *once, "--arena", str(tmp_path / "noise")]) == 1
    assert "is not a syncx arena" in capsys.readouterr().err
    if name != "why":
        assert cli.main([name, "one", "--arena", "two"]) == 2
        assert "one arena" in capsys.readouterr().err


def test_a_damaged_arena(arena, capsys, member, tmp_path):
    import shutil

    member([m("a"), m("b")])
    path = tmp_path / "copy"
    shutil.copyfile(arena.path, path)
    with open(path, "r+b") as f:
        f.seek(syncx.snapshot(path).named("a").id)
        f.write(bytes(4))
    for arguments in (["why", "b"], ["deadlocks"], ["watch", "--once"]):
        assert cli.main([*arguments, "--arena", str(path)]) == 0
        said = capsys.readouterr()
        assert "list of blocks is broken" in said.out + said.err
