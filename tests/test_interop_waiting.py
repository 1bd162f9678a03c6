"""Waiting beside other programs: for them and they for us, until they release or are killed, timed and untimed."""

from __future__ import annotations

import select
import signal
import time

import pytest
from interop.parties import NEIGHBOURS, OURS, blocked
from support import PATIENCE, soon, until

pytestmark = pytest.mark.death

PROMPT = 0.25
"""Seconds in which a waiter is to know that the lock is free; a peer that polls may need longer."""

FAMILY = {
    "ofd": ["C fcntl", "C lockf", "Python lockf", "fasteners", "fasteners rw", "portalocker lockf", "sqlite3", "C ofd"],
    "flock": ["C flock", "Python flock", "flock(1)", "filelock", "portalocker"],
}
FAMILY["posix"] = ["C fcntl", "fasteners", "sqlite3", "C ofd"]
EVERYWHERE = {
    ("ofd", "C fcntl"),
    ("ofd", "fasteners"),
    ("flock", "flock(1)"),
    ("flock", "filelock"),
    ("posix", "sqlite3"),
}
"""The pairs that every Python meets; the others are met once."""
PAIRS = [
    pytest.param(a, b, id=f"{a}, {b}", marks=[] if (a, b) in EVERYWHERE else pytest.mark.core)
    for a, names in FAMILY.items()
    for b in names
]
IN_KERNEL = ("C fcntl", "C lockf", "C ofd", "C flock", "Python lockf", "Python flock", "flock(1)")
"""Those that wait asleep in the kernel; the others try again from time to time."""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.touch()
    return path


def until_ours_waits(arena, file, n: int = 1) -> None:
    """Our waiter says so in the arena before it sleeps."""
    inode = file.stat().st_ino
    until(lambda: sum(row[0] == "waiting" and row[4] == inode for row in arena._file_locks()) >= n, f"{n} of ours wait")


# ---- we wait for them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("style", "neighbour"), PAIRS)
def test_we_wait_for_them(style, neighbour, start, arena, file):
    """Untimed and timed, until they release and until they are killed: we have it at once."""
    ours, theirs = start(OURS[style], file), start(NEIGHBOURS[neighbour], file)

    def ended(by: str, seconds: float | None) -> float:
        nonlocal theirs
        assert theirs.try_()
        ours.wait(seconds=seconds)
        until_ours_waits(arena, file)
        if seconds is None:
            until(lambda: blocked(file), "ours is asleep in the kernel")
        at = theirs.kill() if by == "kill" else theirs.release()
        took = (ours.got() - at) / 1e9
        ours.release()
        if by == "kill":
            theirs = start(NEIGHBOURS[neighbour], file)
        return took

    for seconds in (None, PATIENCE):
        for by in ("release", "kill"):
            soon(PROMPT, lambda a=by, b=seconds: ended(a, b))


@pytest.mark.parametrize(("style", "neighbour"), [("ofd", "C fcntl"), ("flock", "C flock"), ("posix", "C fcntl")])
def test_a_wait_for_them_that_runs_out(style, neighbour, start, arena, file):
    theirs, ours = start(NEIGHBOURS[neighbour], file), start(OURS[style], file)
    assert theirs.try_()
    began = time.monotonic()
    ours.wait(seconds=0.2)
    assert ours.gave_up()
    assert 0.2 <= time.monotonic() - began < 0.2 + 5
    assert not any(row[0] == "waiting" for row in arena._file_locks())
    theirs.release()
    assert ours.try_()


def test_a_wait_beside_the_wrong_style_is_found_out(start, file):
    """The twin: who takes the wrong lock waits for nobody, and the oracle says so."""
    theirs, ours = start(NEIGHBOURS["C fcntl"], file), start(OURS["flock"], file)
    assert theirs.try_()
    with pytest.raises(AssertionError, match="got at once what is held"):
        ours.wait()


@pytest.mark.core
@pytest.mark.parametrize("seconds", [None, PATIENCE], ids=["untimed", "timed"])
@pytest.mark.parametrize("mode", ["x", "s"], ids=["exclusive", "shared"])
def test_we_wait_for_a_part_of_their_range(mode, seconds, start, arena, file):
    theirs, ours = start(NEIGHBOURS["C fcntl"], file), start(OURS["ofd"], file)
    assert theirs.try_("x", 100, 50)
    assert ours.try_(mode, 0, 100)  # beside it
    ours.wait(mode, 149, 20, seconds=seconds)
    until_ours_waits(arena, file)
    theirs.release()
    ours.got()
    assert not theirs.try_("x", 150, 1)
    assert not theirs.try_("x", 99, 1)
    assert theirs.try_("x", 169, 0)


def test_several_of_ours_wait_for_one_of_theirs(start, arena, file):
    """The first is told by the kernel, those behind it by each other."""
    theirs = start(NEIGHBOURS["C fcntl"], file)
    assert theirs.try_()
    left = []
    for n, seconds in enumerate((None, PATIENCE, None, PATIENCE), 1):
        left.append(start(OURS["ofd"], file))
        left[-1].wait(seconds=seconds)
        until_ours_waits(arena, file, n)
    theirs.release()
    while left:
        ready, _, _ = select.select([p.process.process.stdout for p in left], [], [], PATIENCE)
        (has,) = [p for p in left if p.process.process.stdout in ready]  # one alone
        has.got()
        assert not theirs.try_()
        has.release()
        left.remove(has)
    assert theirs.try_()


@pytest.mark.parametrize("timeout", [None, 100 * PATIENCE], ids=["untimed", "timed"])
@pytest.mark.parametrize("style", ["ofd", *(pytest.param(s, marks=pytest.mark.core) for s in ("flock", "posix"))])
def test_a_signal_ends_our_wait_for_them(style, timeout, start, child, arena, file):
    theirs = start(NEIGHBOURS["C flock" if style == "flock" else "C fcntl"], file)
    assert theirs.try_()
    ours = child(
        """
        lock = syncx.FileLock(FILE, style=STYLE, arena=arena)
        say("begins")
        try:
            lock.acquire(timeout=TIMEOUT)
        except KeyboardInterrupt:
            say(["interrupted", lock.held, lock.acquire(blocking=False)])
        hear()
        say(lock.acquire(timeout=TIMEOUT))
        """,
        FILE=str(file),
        STYLE=style,
        TIMEOUT=timeout,
    )
    assert ours.hear() == "begins"
    until_ours_waits(arena, file)
    if timeout is None:
        until(lambda: blocked(file), "ours is asleep in the kernel")
    ours.process.send_signal(signal.SIGINT)
    assert ours.hear() == ["interrupted", False, False]
    assert not blocked(file)
    theirs.release()
    ours.say()
    assert ours.hear() is True
    ours.finish()


# ---- they wait for us ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("style", "neighbour"), PAIRS)
def test_they_wait_for_us(style, neighbour, start, file):
    """Until we release, and until we are killed: they have it, and no lock of ours is left."""
    for end in ("release", "kill"):
        ours, theirs = start(OURS[style], file), start(NEIGHBOURS[neighbour], file)
        assert ours.try_()
        theirs.wait()
        if neighbour in IN_KERNEL:
            until(lambda: {theirs.pid, -1} & set(blocked(file)), "they are asleep in the kernel")  # noqa: B023
        ours.kill() if end == "kill" else ours.release()
        theirs.got()
        assert end == "kill" or not ours.try_()
        theirs.release()


@pytest.mark.core
def test_they_wait_for_all_of_our_readers(start, file):
    """Two of ours share the file: a foreign writer waits for the second."""
    first, second = start(OURS["ofd"], file), start(OURS["ofd"], file)
    theirs, reader = start(NEIGHBOURS["C fcntl"], file), start(NEIGHBOURS["C fcntl"], file)
    assert first.try_("s")
    assert second.try_("s")
    assert reader.try_("s")
    reader.release()
    theirs.wait()
    until(lambda: theirs.pid in blocked(file), "they are asleep in the kernel")
    first.release()
    assert not reader.try_()
    until(lambda: theirs.pid in blocked(file), "they have found the second and are asleep again")
    second.kill()
    theirs.got()
