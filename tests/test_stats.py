"""What is counted of each object, and `syncx stats`: the table, JSON, and the text format of Prometheus.

The format is read by a parser of this file's own, which refuses whatever the format does not allow.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import stat
import subprocess
import sys
import threading
import time

import pytest
from support import PATIENCE, until, until_waiting

import syncx
from syncx import cli, stats
from syncx.waitgraph import wait_graph

TALLY = 112  # offset in an object, see docs/reference/layout.md
WAITED, ACQUIRED, ACQUIRED_HIGH, LONGEST = TALLY, TALLY + 8, TALLY + 12, TALLY + 14


# ---- what is counted -------------------------------------------------------------------------------------------------


def acquisitions(thing):
    return thing.statistics()["acquisitions"]


def test_acquisitions(place):
    lock = place.new(syncx.Mutex)
    with lock:
        assert acquisitions(lock) == 1
    assert lock.acquire()
    assert not lock.acquire(blocking=False)  # in vain
    lock.release()
    assert acquisitions(lock) == 2
    assert acquisitions(place.again(lock)) == 2


def test_acquisitions_of_a_reentrant_lock(place):
    lock = place.new(syncx.RLock)
    with lock, lock, lock:
        pass
    with lock:
        pass
    assert acquisitions(lock) == 2


def test_acquisitions_of_the_others(arena):
    rw, c = syncx.RWLock(arena=arena), syncx.Condition(arena=arena)
    with rw.read():
        pass
    assert acquisitions(rw) == 0
    with rw.write():
        pass
    with rw.upgradable():
        pass
    assert acquisitions(rw) == 2
    with c:
        assert not c.wait(0)
    assert acquisitions(c) == 2  # and once more after the wait
    assert acquisitions(syncx.Condition(syncx.Mutex(arena=arena), arena=arena)) is None
    for made in (
        syncx.BoundedSemaphore(2, arena=arena), syncx.Semaphore(2, arena=arena), syncx.Barrier(1, arena=arena),
        syncx.Event(arena=arena), syncx.Latch(1, arena=arena), syncx.Once(arena=arena),
    ):  # fmt: skip
        assert acquisitions(made) is None


def test_acquisitions_of_many_processes(arena, child):
    lock = syncx.Mutex("m", arena=arena)
    times = 2000
    code = "m = syncx.Mutex('m', arena=arena)\nfor _ in range(times):\n    with m: pass\nsay()"
    children = [child(code, times=times) for _ in range(2)]
    for c in children:
        c.hear()
    assert acquisitions(lock) == 2 * times
    assert syncx.snapshot(arena).named("m").acquisitions == 2 * times


@pytest.fixture
def memory(arena):
    """The arena's file, to be read and written."""
    with open(arena.path, "r+b") as f, mmap.mmap(f.fileno(), 0) as mapped:
        yield mapped


def test_more_than_32_bits(arena, memory):
    lock = syncx.Mutex("m", arena=arena)
    at = syncx.snapshot(arena).named("m").id
    memory[at + ACQUIRED : at + ACQUIRED + 4] = b"\xff" * 4
    assert acquisitions(lock) == 2**32 - 1
    with lock:
        pass
    assert acquisitions(lock) == 2**32
    with lock:
        pass
    assert acquisitions(lock) == 2**32 + 1
    assert memory[at + ACQUIRED_HIGH] == 1


@pytest.mark.parametrize(
    ("short", "ns"), [(0, 0), (1023, 1023), (1024, 1024), (2048 + 5, 2058), (40 << 10 | 1023, 2047 << 39)]
)
def test_the_longest_wait_is_a_short_float(arena, memory, short, ns):
    """As docs/reference/layout.md says."""
    lock = syncx.Mutex("m", arena=arena)
    at = syncx.snapshot(arena).named("m").id
    memory[at + LONGEST : at + LONGEST + 2] = short.to_bytes(2, sys.byteorder)
    memory[at + WAITED : at + WAITED + 8] = (3 * ns).to_bytes(8, sys.byteorder)
    told = lock.statistics()
    assert (told["longest_wait"], told["waited"]) == (ns / 1e9, 3 * ns / 1e9)


def test_times_of_a_wait(place):
    """Between what a wait took at least and at most, as seen from outside."""
    lock = place.new(syncx.Mutex)
    for n in (1, 2):
        lock.acquire()
        before = time.monotonic()
        t = threading.Thread(target=lambda: (lock.acquire(), lock.release()))
        t.start()
        until_waiting(place.arena)
        asleep = time.monotonic()
        end = asleep + 0.02 / n
        while time.monotonic() < end:  # the second wait is the shorter one, unless the machine is busy
            time.sleep(0.001)
        least = time.monotonic() - asleep
        lock.release()
        t.join(PATIENCE)
        most = time.monotonic() - before
        told = lock.statistics()
        if n == 1:
            assert least * 0.998 <= told["longest_wait"] <= told["waited"] <= most
            first, lower, upper = told, least, most
    assert told["contended"] == 2
    assert max(lower, least) * 0.998 <= told["longest_wait"] <= max(upper, most)
    assert lower + least <= told["waited"] <= upper + most
    assert first["waited"] < told["waited"]


def until_waited(thing, attempt, seconds):
    """A wait of a hundredth of a second may be over before it sleeps, where the machine is busy: then it is none."""

    def waited():
        t = threading.Thread(target=attempt)
        t.start()
        t.join(PATIENCE)
        return thing.statistics()["waited"] > seconds

    until(waited, "it waits for so long")


def test_a_wait_in_vain_is_a_wait(arena):
    lock, event = syncx.Mutex(arena=arena), syncx.Event(arena=arena)
    lock.acquire()
    until_waited(lock, lambda: lock.acquire(timeout=0.01), 0.005)
    until_waited(event, lambda: event.wait(0.01), 0.005)
    for thing in (lock, event):
        told = thing.statistics()
        assert told["contended"] >= 1
        assert 0 < told["longest_wait"] <= told["waited"]
    assert acquisitions(lock) == 1


def test_writers_that_wait_for_writers_and_for_readers(arena):
    rw = syncx.RWLock(arena=arena)
    for n, view in enumerate((rw.read(), rw.write()), 1):
        before = rw.statistics()
        view.acquire()
        until_waited(rw, lambda: rw.write().acquire(timeout=0.01), n * 0.005 + before["waited"])
        view.release()
        assert rw.statistics()["contended"] > before["contended"]


def test_the_type_of_statistics(arena):
    assert set(syncx.Mutex(arena=arena).statistics()) == set(syncx.Statistics.__annotations__)


# ---- a strict reader of the text format ------------------------------------------------------------------------------

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL}(?:,{LABEL})*)?)\}})? (\S+)")


class Refused(Exception):
    """The text is not in the format."""


def parse(text):
    """{metric: (type, {labels: value})}.  Stricter than a collector has to be: one HELP and one TYPE before the samples
    of each metric, all of them together; counters end in _total, and nothing else does."""
    metrics, current = {}, None
    if not text.endswith("\n"):
        raise Refused("the last line does not end")
    lines = text.split("\n")[:-1]
    for number, line in enumerate(lines, 1):

        def refuse(why, where=f"line {number}: {line!r}: "):
            raise Refused(where + why)

        if found := re.fullmatch(rf"# HELP ({NAME}) ((?:[^\\\n]|\\[\\n])+)", line):
            current = found[1]
            if current in metrics:
                refuse("a second time")
            metrics[current] = (None, {})
        elif found := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge)", line):
            if found[1] != current or metrics[current] != (None, {}):
                refuse("not behind its HELP")
            if (found[2] == "counter") != current.endswith("_total"):
                refuse("of another type than its name says")
            metrics[current] = (found[2], {})
        elif found := SAMPLE.fullmatch(line):
            name, labels, value = found[1], found[2] or "", found[found.re.groups]
            if name != current or metrics[name][0] is None:
                refuse("not among those of its metric")
            pairs = re.findall(LABEL, labels)
            if len({label for label, _ in pairs}) != len(pairs):
                refuse("a label twice")
            unescaped = tuple(
                sorted(
                    (label, re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)) for label, text in pairs
                )
            )
            if unescaped in metrics[name][1]:
                refuse("the same labels twice")
            try:
                number = float(value)
            except ValueError:
                refuse("no number")
            if not math.isfinite(number) or number < 0 or "_" in value:
                refuse("no such number is expected")
            metrics[name][1][unescaped] = number
        else:
            refuse("cannot be read")
    return metrics


GOOD = '# HELP a_total Text.\n# TYPE a_total counter\na_total{x="1",y="\\\\\\"\\n"} 3\na_total{x="2",y=""} 0.5\n'


def test_the_reader_reads():
    found = parse(GOOD)
    assert found == {
        "a_total": ("counter", {(("x", "1"), ("y", '\\"\n')): 3.0, (("x", "2"), ("y", "")): 0.5}),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" 0.5\n", " 0.5"),
        ('x="2",y=""', 'x="1",y="\\\\\\"\\n"'),
        ('x="2",y=""', 'x="2",x=""'),
        ('x="2"', 'x="\\2"'),
        ('x="2"', 'x="""'),
        ('x="2"', '2x="2"'),
        ('x="2"', "x=2"),
        ('{x="2",y=""}', '{x="2" y=""}'),
        ("0.5", "half"),
        ("0.5", "nan"),
        ("0.5", "-0.5"),
        ("0.5", "1 2 3"),
        ("a_total{", "a{"),
        ("counter", "gauge"),
        ("counter", "number"),
        ("# TYPE a_total counter\n", ""),
        ("# HELP a_total Text.\n", ""),
        ("Text.", "Te\\xt."),
        ("# HELP a_total Text.\n", "# HELP a_total Text.\n# HELP a_total Text.\n"),
    ],
)
def test_the_reader_refuses(old, new):
    assert old in GOOD
    with pytest.raises(Refused):
        parse(GOOD.replace(old, new))


@pytest.mark.parametrize("name", ["plain", 'a "quoted" one', "back\\slash", "\\n", "ends\\", "ü€😀", "{}=,#", "a\nb"])
def test_labels_are_escaped(name):
    text = f"# HELP a Text.\n# TYPE a gauge\na{{{stats._labels(name=name, kind='x')}}} 1\n"
    assert parse(text) == {"a": ("gauge", {(("kind", "x"), ("name", name)): 1.0})}


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    """Runs `syncx stats` in this process."""

    def run(*arguments, status=0):
        capsys.readouterr()
        try:
            found = cli.main(["stats", *arguments])
        except SystemExit as e:
            found = e.code
        said = capsys.readouterr()
        assert found == status, said.err
        return said

    return run


HOLD = r"""
    m = syncx.Mutex('a "b" \\ c', arena=arena)
    for _ in range(3):
        with m: pass
    m.acquire()
    s = syncx.Semaphore(0, name="s", arena=arena)
    n = syncx.Mutex(arena=arena)
    n.acquire()
    say(); hear()
    """
NAMED = 'a "b" \\ c'


@pytest.fixture
def busy(arena, child):
    """A process that holds a mutex of a strange name and an anonymous one, and one that waits for the first."""
    a = child(HOLD)
    a.hear()
    b = child(r"""m = syncx.Mutex('a "b" \\ c', arena=arena); say(); m.acquire()""")
    b.hear()
    until(lambda: stats_of(arena)["waiters"] == 1, "it waits")
    return a, b


def stats_of(arena):
    """What `--json` tells of the mutex of that name, in this process."""
    graph = wait_graph(arena)
    rows = {r.object.name: r for r in stats.rows_of(graph.snapshot)}
    found = stats._as_dict(graph, list(rows.values()))["objects"]
    return next((o for o in found if o["name"] == NAMED), {"waiters": 0})


def test_table(run, arena, busy):
    heading, *rows = run(arena.path).out.splitlines()
    assert heading.split() == [h for h in stats.HEADINGS if h not in ("HELD", "MOST")]
    assert len(rows) == 2
    (mutex,) = (row for row in rows if row.startswith(f"{NAMED}  Mutex "))
    assert mutex.split("Mutex")[1].split()[:4] == ["4", "1", "-", "-"]
    (semaphore,) = (row for row in rows if row.startswith("s "))
    assert semaphore.split()[:4] == ["s", "Semaphore", "-", "-"]


def test_traced_holds(run, arena, child):
    a = child(
        """
        m = syncx.Mutex("m", arena=arena)
        with m: pass
        m.acquire(); say(); hear()
        """,
        env={"SYNCX_TRACE": "1"},
    )
    a.hear()
    heading, row = run(arena.path).out.splitlines()
    assert heading.split() == list(stats.HEADINGS)
    assert re.match(r"m +Mutex +2( +-){4}( +\S+ (us|ms|s)){2}( +-){2}$", row), row
    (told,) = json.loads(run("--json", arena.path).out)["objects"]
    assert 0 < told["hold_longest"] <= told["hold_total"]
    assert told["held"] > 0  # the one that is not over
    metrics = parse(run("--prometheus", arena.path).out)
    for name in ("hold_seconds_total", "longest_hold_seconds", "held_seconds"):
        (value,) = metrics[f"syncx_object_{name}"][1].values()
        assert value > 0, name


def test_anonymous_ones(run, arena, busy):
    rows = run("--all", arena.path).out.splitlines()[1:]
    assert len(rows) == 3
    assert any(re.match(r"Mutex@0x[0-9a-f]+ +Mutex +1 ", row) for row in rows)


def test_json(run, arena, busy):
    told = json.loads(run("--json", "--arena", arena.path).out)
    assert told["path"] == arena.path
    assert (told["processes"], told["deadlocks"], told["suspected"], told["problems"]) == (3, 0, 0, [])
    mutex, semaphore = sorted(told["objects"], key=lambda o: o["name"])
    assert (mutex["name"], mutex["kind"], mutex["acquisitions"]) == (NAMED, "Mutex", 4)
    assert (mutex["contended"], mutex["holders"], mutex["held"]) == (1, 1, None)
    assert (semaphore["acquisitions"], semaphore["contended"], semaphore["waiters"]) == (None, 0, 0)


def test_prometheus(run, arena, busy):
    metrics = parse(run("--prometheus", arena.path).out)
    of_arena = (("arena", arena.path),)
    told = {name.removeprefix("syncx_arena_"): found for name, (_, found) in metrics.items() if "_arena_" in name}
    assert all(set(found) == {of_arena} for found in told.values())
    assert told["up"][of_arena] == 1
    assert told["processes"][of_arena] == 3
    for name in ("damaged", "deadlocks", "suspected_deadlocks", "deaths_total", "recoveries_total", "rescues_total"):
        assert told[name][of_arena] == 0, name
    mutex = (("arena", arena.path), ("kind", "Mutex"), ("name", NAMED))
    semaphore = (("arena", arena.path), ("kind", "Semaphore"), ("name", "s"))
    told = {name.removeprefix("syncx_object_"): found for name, (_, found) in metrics.items() if "_object_" in name}
    assert told["acquisitions_total"] == {mutex: 4}
    assert told["contentions_total"] == {mutex: 1, semaphore: 0}
    assert told["holders"] == {mutex: 1, semaphore: 0}
    for name in (
        "wait_seconds_total", "longest_wait_seconds", "recoveries_total", "rescues_total", "owner_died", "waiters",
        "oldest_wait_seconds",
    ):  # fmt: skip
        assert set(told[name]) == {mutex, semaphore}, name
    assert told["held_seconds"] == {}


@pytest.mark.death
def test_deaths_and_what_followed(run, arena, child):
    lock = syncx.Mutex("m", arena=arena, on_owner_death="ignore")
    dead = child("m = syncx.Mutex('m', arena=arena); m.acquire(); say(); hear()")
    dead.hear()
    dead.kill()

    def told():
        metrics = parse(run("--prometheus", arena.path).out)
        return [metrics[f"syncx_{n}"][1][labels] for n, labels in asked]

    of_arena = (("arena", arena.path),)
    of_lock = (*of_arena, ("kind", "Mutex"), ("name", "m"))
    asked = [
        ("object_owner_died", of_lock), ("object_recoveries_total", of_lock), ("arena_recoveries_total", of_arena),
        ("object_holders", of_lock),
    ]  # fmt: skip
    assert told() == [1, 0, 0, 0]
    with lock:
        assert told() == [0, 1, 1, 1]


def test_a_deadlock_is_counted(run, arena, child):
    a = child(
        """
        from syncx import _core
        _core._set_deadlock(False)  # or it would be ended at once
        x, y = (syncx.Mutex(n, arena=arena) for n in "xy")
        both = threading.Barrier(2)
        def run(first, second):
            first.acquire(); both.wait(); second.acquire()
        for order in ((x, y), (y, x)):
            threading.Thread(target=run, args=order, daemon=True).start()
        say(); hear()
        """
    )
    a.hear()

    def deadlocks():
        (number,) = parse(run("--prometheus", arena.path).out)["syncx_arena_deadlocks"][1].values()
        return number

    until(lambda: deadlocks() == 1, "it is counted")
    a.kill()
    assert deadlocks() == 0


# ---- the file --------------------------------------------------------------------------------------------------------


def test_a_reader_sees_the_old_file_or_the_new_one(run, arena, tmp_path):
    path = tmp_path / "syncx.prom"
    path.write_text("old\n" * 9999)
    with open(path) as reader:
        assert reader.readline() == "old\n"
        done = run("--prometheus", "-o", str(path), arena.path)
        assert done.out == ""
        assert reader.read() == "old\n" * 9998
    assert parse(path.read_text())["syncx_arena_up"][1] == {(("arena", arena.path),): 1}
    assert os.listdir(tmp_path) == ["syncx.prom"]


def test_a_file_that_is_written_in_place_would_be_found_out(tmp_path):
    """The test above fails with what one would do first."""
    path = tmp_path / "syncx.prom"
    path.write_text("old\n" * 9999)
    with open(path) as reader:
        assert reader.readline() == "old\n"
        path.write_text("new\n")
        assert reader.read() != "old\n" * 9998


def test_others_may_read_the_file_as_the_umask_says(arena, tmp_path):
    for mask in (0o022, 0o077):
        path = tmp_path / f"{mask:o}"
        command = [sys.executable, "-m", "syncx", "stats", "--json", "-o", str(path), arena.path]
        subprocess.run(command, check=True, timeout=PATIENCE, umask=mask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
        assert json.loads(path.read_text())["objects"] == []


def test_through_a_symbolic_link(run, arena, tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "file")
    run("--json", "-o", str(link), arena.path)
    assert link.is_symlink()
    assert json.loads((tmp_path / "there" / "file").read_text())["path"] == arena.path


def test_what_is_no_file_stays_what_it_is(run, arena, tmp_path):
    """/dev/null as a regular file is a machine in trouble."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    fd = os.open(fifo, os.O_RDWR)  # a reader for it
    try:
        run("--json", "-o", str(fifo), arena.path)
        assert json.loads(os.read(fd, 65536))["path"] == arena.path
    finally:
        os.close(fd)
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert os.listdir(tmp_path) == ["fifo"]


def test_a_file_that_cannot_be_written(run, arena, tmp_path):
    (tmp_path / "directory").mkdir()
    for path in (tmp_path / "none" / "file", tmp_path / "directory"):
        done = run("--prometheus", "-o", str(path), arena.path, status=1)
        assert str(path) in done.err
        assert done.err.count("\n") == 1
    assert os.listdir(tmp_path) == ["directory"]


def test_no_such_arena(run, tmp_path):
    path, file = tmp_path / "none", tmp_path / "file"
    assert "there is no arena" in run(str(path), status=1).err
    done = run("--prometheus", "-o", str(file), str(path), status=1)
    assert "there is no arena" in done.err
    assert parse(file.read_text()) == {"syncx_arena_up": ("gauge", {(("arena", str(path)),): 0})}


def test_wrong_usage(run, arena):
    assert "--json and --prometheus" in run("-o", "x", arena.path, status=2).err
    assert "one arena" in run(arena.path, "--arena", arena.path, status=2).err
