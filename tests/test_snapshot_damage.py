"""Snapshots: that they change nothing, what they make of damage, and how long they take."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time

import pytest
from support import PATIENCE, soon, until
from test_snapshot import copy_sparse

import syncx

HEADER, READY = 4096, 248
NAMES_CURSOR, CELLS_CURSOR = 352, 520  # offsets in the header, see docs/reference/layout.md


def regions(arena):
    return arena._description()["regions"]


# ---- it changes nothing ----------------------------------------------------------------------------------------------


def fingerprint(path):
    """Of all bytes, the size, the memory and the times of a file."""
    with open(path, "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    st = os.stat(path)
    return digest, st.st_size, st.st_blocks, st.st_mtime_ns, st.st_ctime_ns


def test_the_file_stays_as_it_was(arena, child):
    child(
        """
        for i in range(20):
            with syncx.Mutex(f"m{i}", arena=arena), syncx.RWLock(f"rw{i}", arena=arena).read(): pass
        """
    ).finish()
    killed = child("syncx.Mutex('m1', arena=arena).acquire(); say(); hear()")
    killed.hear()
    killed.kill()
    syncx.snapshot(arena)  # what is imported lazily may need memory of its own
    before = fingerprint(arena.path)
    for source in (arena, arena.path):
        for _ in range(3):
            seen = syncx.snapshot(source)
            seen.to_json()
            assert seen.named("m1").owner_died
    assert fingerprint(arena.path) == before
    # nor is anybody attached who was not: no byte of the witness is held but this process's own
    assert [p.pid for p in syncx.snapshot(arena.path).processes if p.alive] == [os.getpid()]
    # the oracle: attaching is seen
    child("syncx.Mutex('m0', arena=arena)").finish()
    assert fingerprint(arena.path) != before


def test_the_access_time_stays(arena):
    os.utime(arena.path, (1, 2))
    syncx.snapshot(arena.path)
    syncx.snapshot(arena)
    assert os.stat(arena.path).st_atime == 1
    with open(arena.path, "rb") as f:  # the oracle
        f.read(1)
    if os.stat(arena.path).st_atime == 1:
        pytest.skip("this file system keeps no access times")


def test_descriptors_are_closed(arena, tmp_path):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"no arena")
    for _ in range(5):
        syncx.snapshot(arena)
        syncx.snapshot(arena.path)
        with pytest.raises(syncx.ArenaError):
            syncx.snapshot(wrong)
    assert descriptors() == before


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def used(arena, child, tmp_path):
    """The file of an arena that was in use when its machine was switched off: twenty mutexes and a few more."""
    a = child(
        """
        locks = [syncx.Mutex(f"m{i}", arena=arena) for i in range(20)]
        s = syncx.BoundedSemaphore(9, name="s", arena=arena); s.acquire(n=4)
        rw = syncx.RWLock("rw", arena=arena); rw.read().acquire()
        b = syncx.Barrier(5, name="b", arena=arena); b.enroll().__enter__()
        c, e, l, o = (f(name=n, arena=arena) for f, n in ((syncx.Condition, "c"), (syncx.Event, "e"),
                      (lambda **k: syncx.Latch(3, **k), "l"), (syncx.Once, "o")))
        for m in locks[:5]: m.acquire()
        threading.Thread(target=locks[0].acquire, daemon=True).start()
        say(); hear()
        """
    )
    a.hear()
    path = str(tmp_path / "used")
    until(lambda: copy_sparse(arena.path, path) and syncx.snapshot(path).waits, "the wait is in the copy")
    return path


def patch(path, at, data):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(data)


def word(number, size=4):
    return number.to_bytes(size, "little")


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 8192, 1 << 20, -1])
def test_truncated(used, size):
    os.truncate(used, size if size >= 0 else os.stat(used).st_size + size)
    with pytest.raises(syncx.ArenaError):
        syncx.snapshot(used)


@pytest.mark.parametrize("at", [0, 8, 12, 16, 24, 56, 72, 100, 216])
def test_a_damaged_description(used, at):
    with open(used, "rb") as f:
        f.seek(at)
        byte = f.read(1)[0]
    patch(used, at, bytes([byte ^ 1]))
    with pytest.raises(syncx.ArenaError):
        syncx.snapshot(used)


def damaged(used, arena):
    """Where to damage, with what, what is said of it, and which objects are lost."""
    where = {name: offset for name, (offset, *_) in regions(arena).items()}
    seen = syncx.snapshot(used)
    m3 = seen.named("m3").id
    slot = where["participants"] + 4352 * ((seen.participants[0].id >> 8 & 0xFFFF) - 1)
    waiting = where["participants"] + 4352 * ((seen.waits[0].thread >> 8 & 0xFFFF) - 1)
    return {
        "a size": (m3, word(0), "list of blocks is broken", {"m3"}),
        "a size that is too large": (m3, word(1 << 30), "list of blocks is broken", {"m3"}),
        "a tag": (m3 + 4, word(77), "no kind that is known", {"m3"}),
        "a kind": (m3 + 4, word(0x53580000 | 3 << 8 | 5), "name at byte", {"m3"}),
        "a parameter": (seen.named("s").id + 56, word(1 << 20), "size or value", {"s"}),
        "an arena's id": (m3 + 24, word(1, 8), "another arena", set()),
        "a holder": (m3 + 64, word(0xFFFF00, 8), "names a holder that cannot be", set()),
        "a permit": (seen.named("s").id + 256, word(0xFFFF00, 8), "names a holder that cannot be", set()),
        "a party": (seen.named("b").id + 256, word(0xFFFF02, 8), "names a holder that cannot be", set()),
        "a name's size": (where["names"], word(0), "list of blocks is broken", {"m0"}),
        "a name's length": (where["names"] + 4, word(255), "list of blocks is broken", {"m0"}),
        "a name's cell": (where["names"] + 12, word(12345), "leads to no object", {"m0"}),
        "the cursor of cells": (CELLS_CURSOR, word(1 << 40, 8), "is filled up to", set()),
        "the cursor of names": (NAMES_CURSOR, word(1 << 40, 8), "is filled up to", set()),
        "pages": (READY + 8, word(1 << 50, 8), "more than it can have", set()),
        "a life lock": (slot + 16, word(1), "the life lock", set()),
        "a process": (slot + 68, word(9999), "process slot that cannot be", set()),
        "a wait's kind": (waiting + 128 + 4, word(99), "waits for something", set()),
        "a wait's cell": (waiting + 128 + 8, word(m3 + 64, 8), "waits for something", set()),
        "a mark": (slot + 512, word(5 << 32 | 1, 8), "reads a lock that is not there", set()),
    }


DAMAGE = [
    "a size", "a size that is too large", "a tag", "a kind", "a parameter", "an arena's id", "a holder", "a permit",
    "a party", "a name's size", "a name's length", "a name's cell", "the cursor of cells", "the cursor of names",
    "pages", "a life lock", "a process", "a wait's kind", "a wait's cell", "a mark",
]  # fmt: skip


def test_damage_is_told_and_the_rest_is_seen(used, arena):
    names = {f"m{i}" for i in range(20)} | {"s", "rw", "b", "c", "e", "l", "o"}
    assert {o.name for o in syncx.snapshot(used).objects} == names
    assert syncx.snapshot(used).problems == ()
    cases = damaged(used, arena)
    assert set(cases) == set(DAMAGE)
    for what, (at, data, says, lost) in cases.items():
        with open(used, "rb") as f:
            f.seek(at)
            before = f.read(len(data))
        patch(used, at, data)
        seen = syncx.snapshot(used)
        assert any(says in problem for problem in seen.problems), (what, seen.problems)
        assert names - {o.name for o in seen.objects} == lost, (what, seen.problems)
        assert len(seen.objects) >= len(names) - 1, what
        json.loads(seen.to_json())
        patch(used, at, before)
    assert syncx.snapshot(used).problems == ()


FUZZ = """
    import random, resource
    rng = random.Random(seed)
    # what a snapshot may need, and not the gigabytes that a damaged number might ask for
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)
    take = {take}
    f = open(path, "r+b")
    kinds = {{"whole": 0, "problems": 0, "refused": 0}}
    slowest = 0
    say()
    for i in range(rounds):
        saved = []
        lo, hi = rng.choice(areas)
        how = rng.randrange(5)
        for _ in range(rng.choice((1, 1, 4, 32, 256))):
            at = rng.randrange(lo, hi)
            if how == 4: lo, hi = rng.choice(areas)
            n = 1 if how < 3 else rng.choice((4, 8))
            at -= at % n
            old = os.pread(f.fileno(), n, at)
            saved.append((at, old))
            new = bytes([old[0] ^ 1 << rng.randrange(8)]) if how == 0 else b"\\xff" if how == 1 else rng.randbytes(n)
            if n > 1 and rng.randrange(2):
                new = rng.choice((0, 1, 2, 3, 0xff, 0xfffe, 1 << 16, 1 << 31)).to_bytes(n, "little")
            os.pwrite(f.fileno(), new, at)
        start = time.monotonic()
        try:
            s = take(path)
            s.to_dict(), [(s.held_by(p.id), s.awaited_by(p.id)) for p in s.participants], repr(s)
            [(s.holders_of(o.id), s.waiters_of(o.id)) for o in s.objects]
            kinds["problems" if s.problems else "whole"] += 1
        except syncx.ArenaError:
            kinds["refused"] += 1
        except Exception as e:
            say([i, repr(e)])
            break
        slowest = max(slowest, time.monotonic() - start)
        for at, old in reversed(saved):
            os.pwrite(f.fileno(), old, at)
    say([kinds, slowest])
    """


def fuzz(child, used, arena, seed, rounds, take="syncx.snapshot"):
    areas = [(224, HEADER - 1200), (0, 224), (224, 752)]
    for name, (offset, _, _, ready) in regions(arena).items():
        if name in ("names", "cells", "processes"):
            areas.append((offset, offset + min(ready, 4096)))
        if name == "participants":
            areas += [(offset, offset + 4 * 4352)] * 2
    c = child(FUZZ.format(take=take), path=used, seed=seed, rounds=rounds, areas=areas)
    c.hear()
    said = c.hear()
    c.finish()
    return said


@pytest.mark.parametrize(
    ("seed", "rounds"), [(0, 600), *(pytest.param(seed, 2000, marks=pytest.mark.core) for seed in (1, 2))]
)
def test_random_damage(used, arena, child, seed, rounds):
    """A snapshot, perhaps with problems, or an ArenaError: no crash, no hang, no other exception."""
    kinds, slowest = fuzz(child, used, arena, seed, rounds)
    assert isinstance(kinds, dict), (kinds, slowest)
    assert min(kinds.values()) > 20, kinds  # all three were met
    assert slowest < 10
    assert syncx.snapshot(used).problems == ()


@pytest.mark.core
@pytest.mark.parametrize(
    ("take", "what"),
    [
        # readers that trust what they find
        ("lambda p: bytearray(int.from_bytes(open(p, 'rb').read(480)[472:480], 'little'))", "Error"),
        ("lambda p: [1, 2, 3, 4][open(p, 'rb').read(300)[280]]", "Error"),
    ],
)
def test_random_damage_condemns_a_reader_that_trusts(used, arena, child, take, what):
    at, error = fuzz(child, used, arena, 0, 1500, take=take)
    assert isinstance(at, int)
    assert what in error


def test_a_name_that_is_no_utf_8(used, arena):
    patch(used, regions(arena)["names"][0] + 16, b"\xff\xfe")
    seen = syncx.snapshot(used)
    assert "��" in {o.name for o in seen.objects}
    json.loads(seen.to_json())


# ---- size ------------------------------------------------------------------------------------------------------------

CROWD = """
    threading.stack_size(64 << 10)
    lock, go, here = syncx.Mutex(f"crowd {number}", arena=arena), threading.Event(), threading.Barrier(251)
    def stay():
        lock.acquire(); lock.release()
        here.wait()
        go.wait()
    threads = [threading.Thread(target=stay) for _ in range(250)]
    for t in threads: t.start()
    here.wait()
    kept = [syncx.Mutex(f"object {number} {i}", arena=arena) for i in range(2500)]
    for m in kept: m.acquire()
    say(); hear()
    go.set()
    """


@pytest.mark.core
@pytest.mark.timeout(180)
def test_ten_thousand_objects_and_a_thousand_threads(arena, child):
    children = [child(CROWD, number=i) for i in range(4)]
    for c in children:
        c.hear()

    def look(what):
        start = time.thread_time()  # whatever else the machine is doing
        seen = syncx.snapshot(what)
        took = time.thread_time() - start
        assert len(seen.objects) == 10_004
        assert len(seen.participants) == 1_004
        assert len(seen.holds) == 10_000
        assert all(h.alive for h in seen.holds)
        return took

    soon(0.5, lambda: look(arena))
    soon(0.5, lambda: look(arena.path))
    command = [sys.executable, "-m", "syncx", "ps", arena.path]
    for more, least in (((), 1_004 + 9 * 4), (("--all",), 11_000)):
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == least + 1
    for c in children:
        c.say()
        c.finish()
