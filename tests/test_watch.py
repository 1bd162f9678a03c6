"""`syncx watch`: what is reported, once each, and when it is over."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys

import pytest
from support import PATIENCE, until_waiting
from waitscenes import Scene

from syncx import cli
from syncx.watch import Watcher


def told(watcher, scene, **how):
    """The events of a look at a scene, and what they are about."""
    events = watcher.look(scene.graph(), **how)
    for e in events:
        json.dumps(e)
    return [(e["event"], e.get("of"), e["id"]) for e in events]


def over(watcher, *expected):
    """What was there is over: after two looks, for a sleeper may have been looking around at one."""
    assert told(watcher, Scene()) == []
    assert sorted(told(watcher, Scene())) == sorted(expected)
    assert told(watcher, Scene()) == []


def knot(**fields):
    s = Scene()
    s.hold("a", "ma")
    s.hold("b", "mb")
    s.wait("a", "mb")
    s.wait("b", "ma", **fields)
    return s


def test_a_deadlock_is_told_at_once_and_once():
    w = Watcher(60.0)
    ((event, _, id),) = told(w, knot())
    assert event == "deadlock"
    assert told(w, knot()) == []
    s = knot()
    s.wait("behind", "ma", waited=1.0)
    assert told(w, s) == []  # the same members, the same waits
    assert told(w, Scene()) == []
    assert told(w, knot()) == []  # it was there all the while
    over(w, ("over", "deadlock", id))


def test_another_wait_of_the_same_threads_is_another_knot():
    w = Watcher(60.0)
    ((_, _, first),) = told(w, knot())
    s = knot(since_ns=7777)
    ((event, _, second),) = told(w, s)
    assert (event, second != first) == ("deadlock", True)
    assert told(w, s) == [("over", "deadlock", first)]


@pytest.mark.parametrize("kind", ["suspected", "resolves"])
def test_all_else_must_last(kind):
    s = knot(remaining=3.0) if kind == "resolves" else Scene()
    if kind == "suspected":
        s.object("e", "Event", value=0)
        s.hold("a", "m")
        s.wait("a", "e")
        s.wait("b", "m")
        s.thread("runs")
    w = Watcher(60.0)
    assert told(w, s) == []
    assert told(w, Scene()) == []  # it was nothing
    assert told(w, s) == []
    ((event, _, id),) = told(w, s)
    assert event == kind
    assert told(w, s) == []
    over(w, ("over", kind, id))
    assert [e[0] for e in told(Watcher(60.0), s, once=True)] == [kind]


def waiting(seconds):
    s = Scene()
    s.hold("a", "m")
    s.wait("b", "m", waited=seconds)
    return s


def test_long_waits():
    w = Watcher(10.0)
    assert told(w, waiting(9.9)) == []
    ((event, _, id),) = told(w, waiting(10.0))
    assert event == "wait"
    assert told(w, waiting(11.0)) == []
    over(w, ("over", "wait", id))
    assert told(Watcher(10.0), knot(waited=100.0))[0][0] == "deadlock"  # and not its waits as well


@pytest.mark.parametrize("everything", [False, True])
def test_idle_workers(everything):
    s = Scene()
    s.object("e", "Event", value=0)
    s.wait("worker", "e", waited=1000.0)
    s.thread("runs")
    assert [e[0] for e in told(Watcher(10.0, everything=everything), s)] == (["wait"] if everything else [])


MEMBER = """
    syncx._core._set_deadlock(False)
    a, b = (syncx.Mutex(n, arena=arena) for n in names)
    a.acquire(); say(); hear(); b.acquire()
    """


class Watch:
    """A `syncx watch` that runs, and its lines."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "syncx", "watch", "--every", "0.05", *arguments], stdout=subprocess.PIPE, bufsize=0
        )

    def line(self):
        """The next one."""
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], "it said nothing in time"
        return self.process.stdout.readline().decode()

    def close(self):
        self.process.send_signal(signal.SIGINT)
        rest = self.process.communicate(timeout=PATIENCE)[0]
        return self.process.returncode, rest


@pytest.fixture
def start():
    """Starts a `syncx watch`; ends it if the test did not."""
    started = []

    def start(*arguments):
        started.append(Watch(*arguments))
        return started[-1]

    yield start
    for watch in started:
        watch.process.kill()
        watch.process.communicate(timeout=PATIENCE)


@pytest.mark.death
def test_it_stays(arena, child, start):
    """In a process of its own: a deadlock comes, a member is killed, it is over; the arena goes."""
    a, b = child(MEMBER, names=["m", "n"]), child(MEMBER, names=["n", "m"])
    for c in (a, b):
        c.hear()
    watch = start("--json", arena.path)
    for c in (a, b):
        c.say()
    first = json.loads(watch.line())
    assert first["event"] == "deadlock"
    assert {x["pid"] for x in first["members"]} == {a.pid, b.pid}
    assert {x["object_name"] for x in first["members"]} == {"m", "n"}
    a.kill()
    over = json.loads(watch.line())
    assert (over["event"], over["of"], over["id"]) == ("over", "deadlock", first["id"])
    assert over["lasted"] >= 0
    b.kill()
    arena.unlink(force=True)
    trouble = json.loads(watch.line())
    assert (trouble["event"], "there is no arena" in trouble["text"]) == ("trouble", True)
    assert watch.close() == (130, b"")


@pytest.mark.core
def test_lines_for_people(arena, child, start):
    a = child("syncx.Mutex('m', arena=arena).acquire(); say(); hear()")
    a.hear()
    b = child("m = syncx.Mutex('m', arena=arena); m.acquire(); say()")
    until_waiting(arena)
    watch = start("--longer", "0.1", arena.path)
    line = watch.line()
    assert f" long wait: process {b.pid} has waited " in line
    assert f"held by process {a.pid}" in line
    assert line[:4].isdigit()
    a.say()
    b.hear()
    assert " over after " in watch.line()
    assert watch.close()[0] == 130


def test_once(arena, child, capsys):
    assert cli.main(["watch", "--once", arena.path]) == 0
    a = child("syncx.Mutex('m', arena=arena).acquire(); say(); hear()")
    a.hear()
    child("syncx.Mutex('m', arena=arena).acquire()")
    until_waiting(arena)
    assert cli.main(["watch", "--once", "--longer", "0", "--json", arena.path]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["event"] for e in said] in (["wait"], [])  # it may look around just then
