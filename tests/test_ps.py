"""`syncx ps`: the threads of an arena, what each holds and awaits."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from support import PATIENCE, on_a_terminal, until, until_waiting

import syncx


def ps(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "syncx", "ps", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        **options,
    )


def lines(arena):
    """The rows of the table, by pid: the text behind pid, tid and thread name."""
    done = ps(arena.path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["PID", "TID", "THREAD", "HOLDS", "AWAITS", "SINCE", "COMMAND"]
    return rows


HOLD = """
    import ctypes
    ctypes.CDLL(None).prctl(15, b"its name", 0, 0, 0)  # PR_SET_NAME
    m = syncx.Mutex("m", arena=arena)
    m.acquire()
    s = syncx.BoundedSemaphore(5, name="permits", arena=arena)
    s.acquire(n=3)
    say(); hear()
    """
WAIT = "m = syncx.Mutex('m', arena=arena); say(); m.acquire()"


@pytest.fixture
def busy(arena, child):
    """A process that holds two things, and one that waits for one of them."""
    a = child(HOLD)
    a.hear()
    b = child(WAIT)
    b.hear()
    until_waiting(arena)
    return a, b


def test_who_holds_and_who_waits(arena, busy):
    a, b = busy

    def complete():
        rows = lines(arena)
        found = [
            any(re.match(rf" *{a.pid} +{a.pid}  its name  m +- +-  .*python.* -c", row) for row in rows),
            any(re.match(r" +permits \(3 permits\)$", row) for row in rows),
            any(
                re.match(rf" *{b.pid} +{b.pid}  \S+ +- +m \(held by {a.pid}\) +\d\S* (us|ms|s)  .*python", row)
                for row in rows
            ),
        ]
        return all(found) and len(rows) == 3

    # who waits looks around every 100 ms, and waits for nothing in that moment
    until(complete, "all is told")


def test_permits_outlive_their_thread(arena, child):
    a = child(
        """
        s = syncx.BoundedSemaphore(2, name="s", arena=arena)
        t = threading.Thread(target=s.acquire); t.start(); t.join()
        say(); hear()
        """
    )
    a.hear()
    until(lambda: any(re.match(rf" *{a.pid} +- +s \(1 permit\) +- +-  .*python", row) for row in lines(arena)), "")


@pytest.mark.death
def test_the_dead_hold_still(arena, busy):
    a, b = busy
    b.kill()
    a.kill()
    (dead, permits) = lines(arena)
    assert re.match(rf" *{a.pid} +{a.pid} +m +- +-  \(dead\)$", dead), dead
    assert "permits (3 permits)" in permits


def test_kinds_in_words(arena, child, tmp_path):
    path = tmp_path / "data"
    a = child(
        """
        r = syncx.RLock("r", arena=arena); r.acquire(); r.acquire()
        rw = syncx.RWLock("rw", arena=arena); rw.read().acquire()
        w = syncx.RWLock("w", arena=arena).write(); w.acquire()
        u = syncx.RWLock("u", arena=arena).upgradable(); u.acquire()
        b = syncx.Barrier(2, name="b", arena=arena); b.enroll().__enter__()
        c = syncx.Condition(name="c", arena=arena); c.acquire()
        f = syncx.RangeLock(path, 4, 6, arena=arena); f.acquire()
        g = syncx.RangeLock(path, 20, 1, shared=True, arena=arena); g.acquire()
        n = syncx.Mutex(arena=arena); n.acquire()
        say(); hear()
        """,
        path=str(path),
    )
    a.hear()
    words = (row.split("  -  ")[0].rstrip().split("  ")[-1].strip() for row in lines(arena))
    held = {re.sub(r"for \S+ (us|ms|s)", "for ...", text) for text in words}
    assert {
        "r (2 deep)", "rw (read)", "w (write)", "u (upgradable)", "b (enrolled)", "c", f"{path}[4..9] (for ...)",
        f"{path}[20] (read, for ...)",
    } <= held  # fmt: skip
    assert any(re.fullmatch(r"Mutex@0x[0-9a-f]+", h) for h in held)
    b = child("f = syncx.FileLock(path, arena=arena); say(); f.acquire(timeout=60)", path=str(path))
    b.hear()
    until(lambda: any(f"{path} (held by {a.pid}, gives up in" in row for row in lines(arena)), "it waits for the file")
    c = child("r = syncx.RWLock('w', arena=arena).read(); say(); r.acquire()")
    c.hear()
    until(lambda: any(f"w (read, held by {a.pid})" in row for row in lines(arena)), "it waits for the writer")


def test_json(arena, busy):
    a, b = busy

    def told():
        done = ps("--json", "--arena", arena.path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    until(lambda: told()["waits"], "the wait is told")
    plain = told()
    threads = {p["pid"]: p for p in plain["participants"]}
    assert set(threads) == {a.pid, b.pid}
    assert threads[a.pid]["name"] == "its name"
    assert threads[b.pid]["state"] in ("S", "R")  # at the belt it is awake for a moment
    assert "python" in threads[b.pid]["command"]
    assert {h["thread"] for h in plain["holds"]} == {threads[a.pid]["id"]}
    assert set(plain) == set(syncx.snapshot(arena).to_dict())


def test_a_stopped_process(arena, busy):
    a, _ = busy
    os.kill(a.pid, 19)  # SIGSTOP
    until(lambda: any("(stopped) " in row for row in lines(arena)), "it is stopped")
    os.kill(a.pid, 18)


def test_nobody(arena):
    done = ps(arena.path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_such_arena(tmp_path):
    done = ps(str(tmp_path / "none"))
    assert done.returncode == 1
    assert "there is no arena" in done.stderr


def test_one_arena_only(arena):
    done = ps(arena.path, "--arena", arena.path)
    assert done.returncode == 2
    assert "one arena" in done.stderr


def test_damage_is_told(arena, busy, tmp_path):
    import shutil

    path = tmp_path / "copy"
    shutil.copyfile(arena.path, path)
    m = syncx.snapshot(path).named("m")
    with open(path, "r+b") as f:
        f.seek(m.id)
        f.write(bytes(4))
    done = ps(str(path))
    assert done.returncode == 0
    assert "list of blocks is broken" in done.stderr
    assert "permits (3 permits)" in done.stdout
    with open(path, "r+b") as f:
        f.write(b"Dear Sir")
    done = ps(str(path))
    assert done.returncode == 1
    assert "is not a syncx arena" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("columns", [80, 200])
def test_on_a_terminal(arena, busy, columns):
    """Colours, and no line longer than the terminal."""
    a, b = busy
    until(lambda: "held by" in "".join(lines(arena)), "it waits")

    def shown():
        return on_a_terminal("ps", arena.path, columns=columns)

    until(lambda: "\x1b[33m" in shown(), "who waits is yellow")
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown())
    assert max(len(line.rstrip("\r")) for line in text.split("\n")) <= columns
    assert str(a.pid) in text
    assert str(b.pid) in text
    if columns == 200:
        assert "permits (3 permits)" in text
