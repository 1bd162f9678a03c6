"""Threads of ours and programs of others, all at once on ranges of one file that overlap: no update is lost.

Every worker adds one to each cell of a range, in two steps with a pause between them, and keeps count of what it added;
a reader looks twice and must see the same.
"""

from __future__ import annotations

import pytest

CELLS = 16

WORK = """
import random

def cells(first, count):
    data = os.pread(file, 8 * count, 8 * first)
    return [int.from_bytes(data[i : i + 8], "little") for i in range(0, 8 * count, 8)]

def work(seed, take, give):
    dice, added = random.Random(seed), [0] * CELLS
    for n in range(TIMES):
        first = dice.randrange(CELLS)
        count = dice.randrange(1, CELLS - first + 1)
        shared = dice.random() < 0.25
        what = take(8 * first, 8 * count, shared, dice)
        before = cells(first, count)
        time.sleep(0.0002)
        if shared:
            assert cells(first, count) == before, "somebody wrote beside a reader"
        else:
            os.pwrite(file, b"".join((c + 1).to_bytes(8, "little") for c in before), 8 * first)
            for i in range(first, first + count):
                added[i] += 1
        give(what)
    return added

file = os.open(FILE, os.O_RDWR)
"""

THREADS = (
    WORK
    + """
def take(start, length, shared, dice):
    lock = syncx.RangeLock(FILE, start, length, shared=shared, style=STYLE, arena=arena)
    assert lock.acquire(timeout=dice.choice([None, 100]))
    return lock

def give(lock):
    lock.release()
    lock.close()

if UNLOCKED:
    take = give = lambda *_: None

done = []
threads = [threading.Thread(target=lambda s=s: done.append(work(s, take, give))) for s in range(SEED, SEED + 3)]
say("ready")
hear()
for t in threads:
    t.start()
for t in threads:
    t.join()
assert len(done) == 3
say([sum(column) for column in zip(*done)])
"""
)

ANOTHER = (
    WORK
    + """
import fcntl

def take(start, length, shared, dice):
    fcntl.lockf(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, length, start)
    return length, start

def give(what):
    fcntl.lockf(file, fcntl.LOCK_UN, *what)

say("ready")
hear()
say(work(SEED, take, give))
"""
)


def lost(child, path, *, style: str = "ofd", unlocked: bool = False, times: int = 60) -> list[int]:
    """How many updates of each cell are missing in the end."""
    path.write_bytes(bytes(8 * CELLS))
    names = {"FILE": str(path), "CELLS": CELLS, "TIMES": times, "STYLE": style, "UNLOCKED": unlocked}
    team = [child(THREADS, SEED=seed, **names) for seed in (10, 20)]
    team += [child(ANOTHER, SEED=seed, **names) for seed in (30, 40)]
    for one in team:
        assert one.hear() == "ready"
    for one in team:
        one.say()
    added = [one.hear(100) for one in team]
    for one in team:
        one.finish()
    data = path.read_bytes()
    return [
        sum(column) - int.from_bytes(data[8 * i : 8 * i + 8], "little")
        for i, column in enumerate(zip(*added, strict=True))
    ]


@pytest.mark.core
@pytest.mark.parametrize("style", ["ofd", "posix"])
def test_no_update_is_lost(style, child, arena, tmp_path):
    assert lost(child, tmp_path / "cells", style=style) == [0] * CELLS


@pytest.mark.core
def test_updates_without_a_lock_are_lost(child, arena, tmp_path):
    """The twin: the same without our locks."""
    try:
        missing = lost(child, tmp_path / "cells", unlocked=True)
    except AssertionError as e:
        missing = [str(e).count("somebody wrote beside a reader")]
    assert any(missing)
