"""append(): every record that was acknowledged is in the file, once and whole, whoever was killed meanwhile."""

from __future__ import annotations

import logging
import os
import random
import zlib

import pytest
from filelocks import may, probe, until_awaited
from support import PATIENCE, until
from test_mutex import held_elsewhere

import syncx


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def log(arena, path):
    return syncx.FileLock(path, arena=arena)


# ---- one process ---------------------------------------------------------------------------------------------------


def test_appends_and_says_where(log, path):
    assert log.append(b"one") == 0
    assert log.append("zwei \N{SNOWMAN}") == 4
    assert log.append(b"") == 13
    assert log.append(b"four") == 14
    assert path.read_bytes() == "one\nzwei \N{SNOWMAN}\n\nfour\n".encode()
    assert probe(path) == "." * 16


def test_under_a_hold(log, path):
    with log:
        assert log.append(b"one") == 0
        assert probe(path, [0]) == "w"
        assert log.file.read() == b"one\n"
        log.file.seek(0)
        log.file.write(b"ONE")
        assert log.append(b"two") == 4
    assert path.read_bytes() == b"ONE\ntwo\n"


def test_waits_for_its_turn(log, arena, path):
    with held_elsewhere(log):
        with pytest.raises(syncx.Timeout):
            syncx.FileLock(path, timeout=0.02, arena=arena).append(b"x")
    assert path.read_bytes() == b""


def test_another_end(log, path):
    assert log.append(b"a\nb", end=b"\0") == 0
    assert log.append("c", end=b"\0") == 4
    assert path.read_bytes() == b"a\nb\0c\0"


@pytest.mark.parametrize(
    ("record", "options", "error"),
    [
        (b"a\nb", {}, ValueError),
        ("a\n", {}, ValueError),
        (b"a--b", {"end": b"--"}, ValueError),
        (b"a", {"end": b""}, ValueError),
        (7, {}, TypeError),
        (None, {}, TypeError),
        (b"a", {"end": 7}, TypeError),
        (["a"], {}, TypeError),
    ],
    ids=str,
)
def test_what_is_no_record(log, path, record, options, error):
    with pytest.raises(error):
        log.append(record, **options)
    assert not path.exists() or path.read_bytes() == b""
    assert may(log)


def test_a_torn_record_is_cut_off_and_told(log, path, caplog):
    path.write_bytes(b"one\ntwo\nthr")
    with caplog.at_level(logging.WARNING, "syncx"):
        assert log.append(b"four") == 8
    assert path.read_bytes() == b"one\ntwo\nfour\n"
    (line,) = [r for r in caplog.records if r.name == "syncx"]
    assert "thr" in line.getMessage()
    assert "log" in line.getMessage()
    caplog.clear()
    assert log.append(b"five") == 13
    assert not caplog.records


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 70_000, 200_000])
def test_a_long_torn_record(log, path, size):
    path.write_bytes(b"one\n" + b"x" * size)
    assert log.append(b"two") == 4
    assert path.read_bytes() == b"one\ntwo\n"
    path.write_bytes(b"x" * size)
    assert log.append(b"two") == 0
    assert path.read_bytes() == b"two\n"


@pytest.mark.parametrize("cut", [b"ab\r", b"ab", b"\r", b"ab\n"])
def test_an_end_of_two_bytes_torn_in_the_middle(log, path, cut):
    path.write_bytes(b"one\r\n" + cut)
    assert log.append(b"two", end=b"\r\n") == 5
    assert path.read_bytes() == b"one\r\ntwo\r\n"


def test_an_end_across_blocks(log, path):
    """Where the search for the last end goes back block by block, an end may lie in two of them."""
    for size in (4093, 4094, 4095, 65534, 65535):
        path.write_bytes(b"a" * size + b"\r\n" + b"b" * 70_000)
        assert log.append(b"c", end=b"\r\n") == size + 2
    for torn in (4095, 4096, 65535, 65536):
        path.write_bytes(b"one\r\n" + b"b" * torn)
        assert log.append(b"c", end=b"\r\n") == 5


def test_fsync(log, path):
    assert log.append(b"one", fsync=True) == 0
    assert path.read_bytes() == b"one\n"


def test_big_records(log, path):
    big = b"x" * 3_000_000
    assert log.append(big) == 0
    assert log.append(b"y") == len(big) + 1
    assert path.read_bytes() == big + b"\ny\n"


def test_a_range_lock_appends_too(arena, path):
    """A lock of bytes that are not at the end keeps its own ranges."""
    lock = syncx.RangeLock(path, 0, 0, arena=arena)
    assert lock.append(b"one") == 0
    assert lock.append(b"two") == 4
    assert probe(path) == "." * 16
    assert path.read_bytes() == b"one\ntwo\n"


def test_no_room(arena, child, path):
    """What does not fit is not there at all: the log is as it was, and the error is the system's."""
    c = child(
        """
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        lock = syncx.FileLock(path, arena=arena)
        lock.append(b"one")
        resource.setrlimit(resource.RLIMIT_FSIZE, (6, 6))
        try:
            lock.append(b"twotwo")
        except OSError as e:
            say([e.errno, lock.held, os.path.getsize(path)])
        resource.setrlimit(resource.RLIMIT_FSIZE, (6, 6))
        """,
        path=str(path),
    )
    number, held, size = c.hear()
    c.finish()
    assert number == 27  # EFBIG
    assert not held
    assert size == 4
    assert path.read_bytes() == b"one\n"


# ---- many, and some of them killed ---------------------------------------------------------------------------------

WORKER = """
import zlib
from filelocks import until_awaited
lock = syncx.FileLock(path, arena=arena)
def record(n):
    body = f"{me}:{n}:" + "x" * ((me * 31 + n * 7) % 200)
    return f"{body}:{zlib.crc32(body.encode()):08x}".encode()
def blind(data):
    with lock:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, data + b"\\n")
        os.close(fd)
append = lock.append if cut else blind
acknowledged = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
hear()
for n in range(100):
    if n == tears:
        # killed in the middle of a record, inside the lock: the tail stays
        lock.acquire()
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, record(n)[:-3])
        os.kill(os.getpid(), signal.SIGKILL)
    append(record(n))
    os.write(acknowledged, b"%d\\n" % n)
    if n % 10 == 0:
        say(n)
"""


def stress(child, directory, cut):
    """Ten processes, a hundred records each; three die in the middle of a record, three are killed at random.

    Returns the lines that are no record, the acknowledged records that are not there once, and how many were.
    """
    seed = 7
    print(f"stress: seed {seed}")
    rng = random.Random(seed)
    path = directory / "log"
    tears = {n: rng.randrange(10, 90) for n in (1, 4, 7)}
    killed = {n: rng.randrange(0, 90, 10) for n in (2, 5, 8)}
    children = [
        child(WORKER, path=str(path), acks=str(directory / f"acks{n}"), me=n, cut=cut, tears=tears.get(n, -1))
        for n in range(10)
    ]
    for c in children:
        c.say()
    for n, at in killed.items():
        until(lambda n=n, at=at: children[n].hear() >= at, "it has come so far")
        children[n].kill()
    for n, c in enumerate(children):
        if n in tears:
            assert c.end() == -9, c.stderr()
        elif n not in killed:
            c.finish()
    there, bad = {}, []
    for line in path.read_bytes().split(b"\n")[:-1]:
        body, _, crc = line.rpartition(b":")
        fields = body.split(b":")
        if len(fields) != 3 or crc != b"%08x" % zlib.crc32(body):
            bad.append(line)
        else:
            key = int(fields[0]), int(fields[1])
            there[key] = there.get(key, 0) + 1
    acknowledged = [(n, int(number)) for n in range(10) for number in (directory / f"acks{n}").read_bytes().split()]
    missing = [key for key in acknowledged if there.get(key) != 1]
    more_than_once = [key for key, count in there.items() if count > 1]
    return bad, missing + more_than_once, len(acknowledged)


@pytest.mark.death
def test_every_acknowledged_record_is_there_once_and_whole(child, arena, tmp_path):
    bad, lost, acknowledged = stress(child, tmp_path, cut=True)
    assert acknowledged >= 400
    assert bad == []
    assert lost == []
    syncx.FileLock(tmp_path / "log", arena=arena).append(b"the end")
    assert (tmp_path / "log").read_bytes().endswith(b"\nthe end\n")


@pytest.mark.death
def test_without_the_cut_it_is_caught(child, arena, tmp_path):
    """A record is glued to what a dead one left behind."""
    bad, _, _ = stress(child, tmp_path, cut=False)
    assert bad


@pytest.mark.death
def test_a_dead_ones_tail_is_cut_by_the_next(child, arena, path, log):
    c = child(
        """
        lock = syncx.FileLock(path, arena=arena)
        lock.append(b"one")
        lock.acquire()
        with open(path, "ab") as f: f.write(b"half")
        say(); hear()
        """,
        path=str(path),
    )
    c.hear()
    assert log.acquire(False) is False
    c.kill()
    assert log.append(b"two") == 4
    assert path.read_bytes() == b"one\ntwo\n"


def test_append_takes_its_turn_in_the_queue(arena, path, log, child):
    with log:
        c = child("say(syncx.FileLock(path, arena=arena).append('theirs'))", path=str(path))
        until_awaited(arena, path)
        assert log.append(b"ours") == 0
    assert c.hear() == 5
    c.finish(PATIENCE)
    assert os.path.getsize(path) == 12
