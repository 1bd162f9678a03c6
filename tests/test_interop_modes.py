"""What another program sees of our locks while their modes and ranges change: exactly what we say that we hold."""

from __future__ import annotations

import random

import pytest
from interop.parties import NEIGHBOURS, blocked
from support import PATIENCE, until

import syncx

BYTES = 24

OBEY = """
lock = syncx.RangeLock(FILE, START, LENGTH, shared=SHARED, style=STYLE, arena=arena)
while (what := hear()) is not None:
    say(eval(what))
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.touch()
    return path


@pytest.fixture
def obey(child, file):
    """A process with a lock that does as it is told: `do("lock.acquire()")`; `tell` only says what is to be done."""

    def start(start=0, length=0, *, shared=False, style="ofd"):
        process = child(OBEY, FILE=str(file), START=start, LENGTH=length, SHARED=shared, STYLE=style)

        def do(what):
            process.say(what)
            return process.hear()

        return process, do

    return start


def seen(probe) -> list[str]:
    """Each byte as another program finds it: free, shared or exclusive."""
    modes = []
    for byte in range(BYTES):
        found = [mode for mode in "sx" if not probe.try_(mode, byte, 1)]
        probe.release()
        modes.append({"": "free", "x": "shared", "sx": "exclusive"}["".join(found)])
    return modes


def told(ranges) -> list[str]:
    """The same as `ranges` tells it."""
    modes = ["free"] * BYTES
    for first, length, shared in ranges:
        end = BYTES if length == 0 else first + length
        for byte in range(first, min(end, BYTES)):
            modes[byte] = "shared" if shared else "exclusive"
    return modes


@pytest.mark.core
@pytest.mark.parametrize("style", ["ofd", "posix"])
@pytest.mark.parametrize("seed", range(2))
def test_others_see_the_ranges_that_we_tell(style, seed, obey, start, file):
    """Ranges taken, changed, given back in the middle: the kernel's and ours are the same after each step."""
    dice = random.Random(seed)
    _, do = obey(5, 10, style=style)
    probe = start(NEIGHBOURS["C ofd"], file)
    assert do("lock.acquire()")
    model = told([(5, 10, False)])
    assert seen(probe) == model
    for _ in range(25):
        first = dice.randrange(BYTES)
        length = dice.choice([0, *range(1, BYTES - first + 1)])
        mode = dice.choice(["free", "shared", "exclusive"])
        if mode == "free":
            do(f"lock.unlock_range({first}, {length})")
        else:
            assert do(f"lock.lock_range({first}, {length}, shared={mode == 'shared'})")
        end = BYTES if length == 0 else first + length
        model[first:end] = [mode] * (end - first)
        assert told(do("[(r.start, r.length, r.shared) for r in lock.ranges]")) == model
        assert seen(probe) == model
    do("lock.release()")
    assert seen(probe) == ["free"] * BYTES


def test_the_probe_can_tell(arena, start, file):
    """The twin: what is told is compared with what is there."""
    probe = start(NEIGHBOURS["C ofd"], file)
    with syncx.RangeLock(file, 3, 4, arena=arena), syncx.RangeLock(file, 10, 2, shared=True, arena=arena):
        modes = seen(probe)
    assert modes == told([(3, 4, False), (10, 2, True)])
    assert modes != told([(3, 4, False), (10, 3, True)])
    assert seen(probe) == ["free"] * BYTES


@pytest.mark.parametrize("style", ["ofd", pytest.param("posix", marks=pytest.mark.core)])
def test_an_upgrade_waits_for_their_reader(style, obey, start, arena, file):
    """And keeps the shared lock meanwhile, also when it gives up."""
    reader, writer = start(NEIGHBOURS["C fcntl"], file), start(NEIGHBOURS["C fcntl"], file)
    ours, do = obey(shared=True, style=style)
    assert do("lock.acquire()")
    assert reader.try_("s")
    assert do("lock.upgrade(timeout=0.05)") is False
    assert not writer.try_()
    assert do("[r.shared for r in lock.ranges]") == [True]
    ours.say("lock.upgrade()")
    inode = file.stat().st_ino
    until(lambda: [row for row in arena._file_locks() if row[0] == "waiting" and row[4] == inode], "the upgrade waits")
    reader.release()
    assert ours.hear() is True
    assert not reader.try_("s")
    do("lock.downgrade()")
    assert reader.try_("s")
    assert not writer.try_()
    reader.release()
    do("lock.release()")
    assert writer.try_()


@pytest.mark.core
def test_their_writer_waits_for_the_range_that_we_give_back(obey, start, file):
    """A part that is given back in the middle is had by who sleeps for it, before the rest is."""
    theirs, other = start(NEIGHBOURS["C fcntl"], file), start(NEIGHBOURS["C fcntl"], file)
    _, do = obey(0, 100)
    assert do("lock.acquire()")
    theirs.wait("x", 40, 20)
    other.wait("x", 0, 0)
    until(lambda: {theirs.pid, other.pid} <= set(blocked(file)), "they are asleep in the kernel")
    do("lock.unlock_range(40, 20)")
    theirs.got(PATIENCE)
    assert not do("lock.lock_range(50, 1, blocking=False)")
    do("lock.release()")
    theirs.release()
    other.got(PATIENCE)
