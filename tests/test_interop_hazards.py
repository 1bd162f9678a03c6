"""What is lost beside other programs: the warnings of docs/reference/file-lock-interop.md, each seen to be true."""

from __future__ import annotations

import pytest
from interop.parties import NEIGHBOURS, OURS, Kind, locks_of

import syncx


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"data")
    return path


@pytest.mark.parametrize("style", OURS)
def test_a_close_elsewhere_in_the_process(style, start, child, arena, file):
    """A posix lock is gone when anybody in the process closes the file; the others stay."""
    theirs = start(NEIGHBOURS["C flock" if style == "flock" else "C fcntl"], file)
    ours = child(
        """
        lock = syncx.FileLock(FILE, style=STYLE, arena=arena)
        lock.acquire()
        say(lock.held)
        hear()
        open(FILE).close()
        say(lock.held)
        hear()
        """,
        FILE=str(file),
        STYLE=style,
    )
    assert ours.hear() is True
    assert not theirs.try_()
    ours.say()
    assert ours.hear() is True  # it cannot know
    assert theirs.try_() is (style == "posix")


@pytest.mark.core
def test_fasteners_loses_its_lock_by_a_close(start, child, file):
    """The same befalls every program that uses record locks."""
    theirs = child(
        """
        import fasteners
        lock = fasteners.InterProcessLock(FILE)
        lock.acquire()
        say()
        hear()
        open(FILE).close()
        say()
        hear()
        """,
        FILE=str(file),
    )
    theirs.hear()
    ours = start(OURS["ofd"], file)
    assert not ours.try_()
    theirs.say()
    theirs.hear()
    assert ours.try_()


@pytest.mark.core
@pytest.mark.parametrize("style", OURS)
def test_a_soft_lock_excludes_none_of_ours(style, start, arena, tmp_path):
    """It is a file that is there or not: it keeps nobody out, and finds every file that is there locked for ever."""
    path = tmp_path / "soft"
    soft = start(Kind("filelock: `SoftFileLock`", ("filelock", "SoftFileLock"), "x"), path)
    assert soft.try_()
    lock = syncx.FileLock(path, style=style, arena=arena)
    assert lock.acquire(blocking=False)
    soft.release()
    lock.release()
    lock.close()
    path.touch()
    assert not soft.try_()


@pytest.mark.core
@pytest.mark.parametrize("close", [False, True], ids=["as it comes", "with -o"])
@pytest.mark.parametrize("end", ["ends", "is killed"])
def test_what_a_command_of_flock1_leaves_running_keeps_the_lock(close, end, start, child, file):
    """The lock belongs to the open file description, which the command and its children inherit, unless -o is given."""
    theirs = child(
        """
        echo '[1]'; read line
        sleep 1000 <&- >/dev/null 2>&1 & echo "[$!]"
        read line; true
        """,
        command=("flock", *(["-o"] if close else []), str(file), "sh"),
        prelude=False,
    )
    assert theirs.hear() == [1]
    ours = start(OURS["flock"], file)
    assert not ours.try_()
    theirs.say()
    theirs.hear()
    if end == "ends":
        theirs.finish()
    else:
        theirs.kill()
    assert ours.try_() is close


@pytest.mark.core
def test_whose_lock_it_is_that_the_kernel_tells(start, file):
    """The kernel names the process of a POSIX record lock and of a flock, and none for an OFD lock."""
    for style, named in (("ofd", False), ("flock", True), ("posix", True)):
        ours = start(OURS[style], file)
        assert ours.try_()
        (lock,) = locks_of(ours.pid, file)
        assert lock.pid == (ours.pid if named else -1)
        ours.release()
        assert not locks_of(ours.pid, file)


@pytest.mark.parametrize("order", ["flock first", "ofd first"])
def test_both_styles_at_once(order, start, arena, file):
    """Beside neighbours of both families, one takes both locks: neither gets in, and they do not hinder each other."""
    styles = ["flock", "ofd"] if order == "flock first" else ["ofd", "flock"]
    neighbours = [start(NEIGHBOURS[name], file) for name in ("C fcntl", "flock(1)", "filelock")]
    first, second = (syncx.FileLock(file, style=style, arena=arena) for style in styles)
    with first, second:
        assert not any(n.try_() for n in neighbours)
    for n in neighbours:
        assert n.try_()
        n.release()
    first.close()
    second.close()


def test_our_lock_leaves_what_is_in_the_file(arena, file):
    for style in OURS:
        with syncx.FileLock(file, style=style, arena=arena) as lock:
            pass
        lock.close()
    assert file.read_bytes() == b"data"
