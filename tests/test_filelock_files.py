"""The file of a lock: what is read and written under it, paths that come to mean another file, bad input, the ends."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import socket
import tempfile
import threading
import weakref
from pathlib import Path

import pytest
from filelocks import STYLES, flocked, may, probe, until_awaited
from support import PATIENCE
from test_mutex import held_elsewhere, in_thread

import syncx


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"0123456789")
    return path


@pytest.fixture
def filed(arena, path):
    def make(file=path, **options):
        return syncx.FileLock(file, arena=arena, **options)

    return make


# ---- the file ------------------------------------------------------------------------------------------------------


def test_the_file_is_read_and_written_under_the_lock(filed, path, child):
    with filed() as lock:
        assert lock.file.read() == b"0123456789"
        assert not lock.file.closed
        lock.file.write(b"abc")
        lock.file.seek(0)
        lock.file.write(b"X")
    assert path.read_bytes() == b"X123456789abc", "what was written is there when the lock is given back"
    c = child("with syncx.FileLock(path, arena=arena) as f: f.file.write(b'another'); say()", path=str(path))
    c.hear()
    with lock as f:
        assert f.file.tell() == 0
        assert f.file.read() == b"another789abc", "nothing of what was read before is left"
    c.finish()


def test_nothing_of_what_was_read_before_is_left(filed, path):
    """Nor where the file is only read, whose buffer a seek does not empty."""
    with open(path, "rb") as f:
        lock = filed(f, shared=True)
    for content in (b"abcdefghij", b"ABCDEFGHIJ", b"xyz"):
        path.write_bytes(content)
        with lock:
            assert lock.file.read(2) == content[:2]
            assert lock.file.peek() == content[2:]


def test_what_could_not_be_written(filed, path, child):
    """The release says so and gives the lock back; the next hold begins with nothing of it."""
    c = child(
        """
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        lock = syncx.FileLock(path, arena=arena)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))
        try:
            with lock: lock.file.write(b"x" * 30)
        except OSError as e:
            say([e.errno, lock.held])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        with lock:
            lock.file.write(b"abc")
        with lock:
            say(lock.file.read(4).decode())
        """,
        path=str(path),
    )
    assert c.hear() == [27, False]  # EFBIG
    assert c.hear()[:3] == "abc"
    c.finish()


def test_what_a_parent_has_not_written_yet_is_not_the_childs(filed, path, child):
    """A forked child does not write it a second time, however it ends; and it has a position of its own."""
    for inherit in (False, True):
        path.write_bytes(b"")
        c = child(
            """
            lock = syncx.FileLock(path, inherit=inherit, arena=arena)
            with lock:
                lock.file.write(b"abc")
                pid = os.fork()
                if pid == 0:
                    if inherit: lock.release()
                    sys.exit()
                say([wait_for(pid), os.path.getsize(path)])
            """,
            path=str(path),
            inherit=inherit,
        )
        assert c.hear() == [0, 0]
        c.finish()
        assert path.read_bytes() == b"abc"


def test_the_file_is_the_one_that_is_locked(filed, path):
    with filed() as lock:
        assert os.path.samestat(os.fstat(lock.fileno()), os.stat(path))
        assert os.path.samestat(os.fstat(lock.file.fileno()), os.stat(path))
        assert "b" in lock.file.mode
    with held_elsewhere(filed()), pytest.raises(syncx.Timeout), lock.within(0.01):
        raise AssertionError("not to be reached")


def test_what_an_exception_leaves_unwritten_is_written(filed, path):
    def fail():
        with filed() as lock:
            lock.file.write(b"abc")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == b"abc3456789"


def test_another_process_sees_what_was_written_at_the_release(arena, filed, path, child):
    """The flush comes before the lock is given back: whoever is let in reads it."""
    with filed() as lock:
        c = child("with syncx.FileLock(path, arena=arena) as f: say(f.file.read().decode())", path=str(path))
        until_awaited(arena, path)
        lock.file.write(b"written ")
    assert c.hear() == "written 89"
    c.finish()


@pytest.fixture
def nobody(child):
    """A directory that a user who may not write it can reach; and `run`, which uses locks there as that user.

    The tests may run as root, for whom there is no permission that is missing.
    """
    directory = Path(tempfile.mkdtemp(prefix="syncx-nobody-", dir="/tmp"))
    data = directory / "data"
    data.write_bytes(b"0123456789")
    data.chmod(0o444)
    directory.chmod(0o555)
    c = child(
        """
        syncx.Mutex(arena=arena)  # opened while that is allowed
        if os.geteuid() == 0:
            os.setegid(65534)
            os.seteuid(65534)
        os.chdir(directory)
        while job := hear():
            try:
                with eval(job[0]) as lock:
                    say(eval(job[1]))
            except Exception as e:
                say([type(e).__name__, str(e)])
        """,
        directory=str(directory),
    )

    def run(make, what="lock.held"):
        c.say([make, what])
        return c.hear()

    try:
        yield data, run
        c.say(None)
        c.finish()
    finally:
        directory.chmod(0o755)
        shutil.rmtree(directory)


def test_a_file_that_may_only_be_read(arena, nobody):
    """For reading, shared; else a word on what to do."""
    _, run = nobody
    assert run("syncx.FileLock('data', arena=arena, shared=True)", "lock.file.read().decode()") == "0123456789"
    assert run("syncx.FileLock('data', arena=arena, shared=True)", "lock.file.mode") == "rb"
    assert run("syncx.FileLock('data', arena=arena, style='flock')") is True
    kind, text = run("syncx.FileLock('data', arena=arena)")
    assert kind == "PermissionError"
    for word in ("data", "shared=True", 'style="flock"'):
        assert word in text
    kind, text = run("syncx.FileLock('data', arena=arena, shared=True)", "lock.upgrade(timeout=1)")
    assert kind == "PermissionError"
    kind, text = run("syncx.FileLock('data', arena=arena, shared=True)", "lock.lock_range(1, 1, shared=False)")
    assert kind == "PermissionError"
    kind, text = run("syncx.FileLock(open('data', 'rb'), arena=arena)")
    assert kind == "PermissionError"


def test_no_permission(arena, nobody):
    data, run = nobody
    kind, text = run("syncx.FileLock('new', arena=arena)")
    assert kind == "PermissionError"
    assert "new" in text
    data.chmod(0o000)
    for options in ("", "shared=True", "style='flock'"):
        kind, text = run(f"syncx.FileLock('data', arena=arena, {options})")
        assert kind == "PermissionError"
        assert "data" in text


def test_a_descriptor_and_a_file_object(filed, path):
    """The inode is opened anew: what becomes of the given descriptor is no matter."""
    with open(path, "r+b") as f:
        locks = [filed(f), filed(f.fileno())]
    for lock in locks:
        assert lock.path is None
        with lock:
            assert probe(path, [0]) == "w"
            assert lock.file.read() == b"0123456789"
            assert not may(filed())
    with open(path, "rb") as f, filed(f, shared=True) as lock:
        f.close()
        assert probe(path, [0]) == "r"


def test_a_file_without_a_name(filed):
    with tempfile.TemporaryFile() as f, filed(f) as lock:
        lock.file.write(b"abc")
        assert not may(filed(f.fileno()))
    del lock


# ---- a path that means another file --------------------------------------------------------------------------------


def test_created_where_it_is_not(filed, tmp_path):
    new = tmp_path / "new"
    old = os.umask(0o027)
    try:
        with filed(new):
            assert new.exists()
            assert new.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(old)
    with pytest.raises(FileNotFoundError, match=r"other"), filed(tmp_path / "other", create=False):
        raise AssertionError("not to be reached")
    assert not (tmp_path / "other").exists()


def test_replaced_between_holds(filed, path, tmp_path):
    lock = filed()
    with lock:
        assert lock.file.read() == b"0123456789"
    new = tmp_path / "new"
    new.write_bytes(b"new")
    os.replace(new, path)
    with lock:
        assert probe(path, [0]) == "w"
        assert lock.file.read() == b"new"
        assert os.path.samestat(os.fstat(lock.fileno()), os.stat(path))
        assert not may(filed())


def test_replaced_while_held(filed, path, tmp_path):
    """The hold is of the file that was locked; the name is another's from now on."""
    new = tmp_path / "new"
    new.write_bytes(b"new")
    with filed() as lock:
        os.replace(new, path)
        lock.file.write(b"old")
        assert may(filed())
    assert path.read_bytes() == b"new"
    with lock:
        assert lock.file.read() == b"new"


@pytest.mark.parametrize("how", ["replaced", "deleted"])
@pytest.mark.parametrize("timeout", [None, 20], ids=["untimed", "timed"])
def test_replaced_or_deleted_while_awaited(arena, filed, path, tmp_path, how, timeout):
    new = tmp_path / "new"
    new.write_bytes(b"new")
    lock, got = filed(), []

    def wait():
        assert lock.acquire(timeout=timeout)
        got.append((os.path.samestat(os.fstat(lock.fileno()), os.stat(path)), probe(path, [0]), lock.file.read()))
        lock.release()

    with filed():
        t = threading.Thread(target=wait)
        t.start()
        until_awaited(arena, path)
        if how == "replaced":
            os.replace(new, path)
        else:
            path.unlink()
    t.join(PATIENCE)
    assert got == [(True, "w", b"new" if how == "replaced" else b"")]


REPLACER = """
from filelocks import Raw
lock = syncx.FileLock(path, arena=arena) if follows else Raw(path)
def number():
    with open(path, "rb") as f: return int(f.read())
with lock: say()
hear()
for n in range(40):
    with lock:
        before, end = number(), time.monotonic() + 0.01
        while n % 8 == 0 and number() == before and time.monotonic() < end:
            time.sleep(0.0005)
        with open(f"{path}.{me}", "wb") as f: f.write(b"%d" % (before + 1))
        os.replace(f"{path}.{me}", path)
"""


@pytest.mark.parametrize("follows", [True, False], ids=["follows", "twin"])
def test_a_file_that_is_replaced_under_its_own_lock(arena, path, child, follows):
    """Each holder puts a new file in its place: who locked the old one has to lock again, or an addition is lost.

    The twin goes on locking the file that it has opened.  Now and then a holder lingers until it sees another's
    addition, or for 10 ms.
    """
    children = []
    for n in range(3):
        path.with_suffix(".new").write_bytes(b"0")
        os.replace(path.with_suffix(".new"), path)
        children.append(child(REPLACER, path=str(path), me=n, follows=follows))
        children[-1].hear()
    for c in children:
        c.say()
    for c in children:
        c.finish()
    assert (int(path.read_bytes()) == 120) is follows


def test_deleted_while_held(filed, path):
    lock = filed()
    with lock:
        path.unlink()
        lock.file.write(b"abc")
    assert not path.exists()
    with lock:
        assert path.exists()
        assert probe(path, [0]) == "w"
        assert lock.file.read() == b""
    only = filed(create=False)
    with only:
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"data"):
        only.acquire()
    path.write_bytes(b"again")
    with only:
        assert only.file.read() == b"again"


def test_renamed_while_held(filed, path, tmp_path):
    """A path-based lock goes by the path: the old file has another name now."""
    lock = filed()
    with lock:
        path.rename(tmp_path / "moved")
        assert not may(filed(tmp_path / "moved"))
    with lock:
        assert path.exists()
        assert may(filed(tmp_path / "moved"))


# ---- bad input -----------------------------------------------------------------------------------------------------


def attempt(make):
    """Constructs, and takes once: either may find out."""
    with make() as lock:
        raise AssertionError(f"{lock!r} was held")


def test_a_missing_directory(filed, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere") as e:
        attempt(lambda: filed(tmp_path / "nowhere" / "data"))
    assert os.fspath(tmp_path / "nowhere") in str(e.value)
    with pytest.raises((FileNotFoundError, ValueError), match=r"(?i)empty|no such"):
        attempt(lambda: filed(""))
    with pytest.raises(NotADirectoryError, match=r"data/x"):
        attempt(lambda: filed(tmp_path / "data" / "x"))


def test_a_directory(filed, tmp_path):
    with pytest.raises(IsADirectoryError, match=r"flock") as e:
        attempt(lambda: filed(tmp_path))
    assert str(tmp_path) in str(e.value)
    with filed(tmp_path, style="flock"):
        assert flocked(tmp_path) == "w"
        assert not may(filed(tmp_path, style="flock"))
    assert flocked(tmp_path) == "."


@pytest.mark.parametrize("what", ["FIFO", "socket", "device"])
@pytest.mark.parametrize("how", ["path", "descriptor"])
def test_what_has_no_ranges(filed, tmp_path, what, how):
    file = tmp_path / "special"
    with contextlib.ExitStack() as stack:
        if what == "FIFO":
            os.mkfifo(file)
            descriptor = os.open(file, os.O_RDWR)
        elif what == "socket":
            descriptor = stack.enter_context(socket.socket(socket.AF_UNIX)).detach()
            own = stack.enter_context(socket.socket(socket.AF_UNIX))
            here = os.getcwd()
            os.chdir(tmp_path)  # a socket's path is short
            try:
                own.bind("special")
            finally:
                os.chdir(here)
        else:
            file, descriptor = "/dev/null", os.open("/dev/null", os.O_RDWR)
        stack.callback(os.close, descriptor)
        with pytest.raises((ValueError, OSError), match=rf"(?i){what}"):
            attempt(lambda: filed(file if how == "path" else descriptor))


def test_files_that_are_closed(filed, path):
    with open(path, "rb") as f:
        number = f.fileno()
    with pytest.raises(ValueError, match=r"closed"):
        attempt(lambda: filed(f))
    with pytest.raises((OSError, ValueError), match=rf"descriptor.*{number + 500}"):
        attempt(lambda: filed(number + 500))
    with pytest.raises((OSError, ValueError), match=r"-1"):
        attempt(lambda: filed(-1))
    with pytest.raises((OSError, ValueError, OverflowError)):
        attempt(lambda: filed(2**40))


@pytest.mark.parametrize("file", [None, True, 3.5, object(), ["data"], ("data",), 1j], ids=lambda f: type(f).__name__)
def test_what_is_no_file(filed, file):
    with pytest.raises(TypeError, match=rf"path.*{type(file).__name__}"):
        attempt(lambda: filed(file))


def test_null_characters(filed):
    with pytest.raises(ValueError, match=r"(?i)nul"):
        attempt(lambda: filed("da\0ta"))


def test_hostile_files(filed, path):
    class Boom:
        def __fspath__(self):
            raise ZeroDivisionError

    class No:
        def __fspath__(self):
            return 7

    class NoNumber:
        def __init__(self, answer):
            self.answer = answer

        def fileno(self):
            if self.answer is None:
                raise ZeroDivisionError
            return self.answer

    for error, file in [
        (ZeroDivisionError, Boom()),
        (TypeError, No()),
        (ZeroDivisionError, NoNumber(None)),
        (TypeError, NoNumber("3")),
        (TypeError, NoNumber(3.5)),
        ((ValueError, OSError), NoNumber(-1)),
        ((ValueError, OSError, OverflowError), NoNumber(10**30)),
    ]:
        with pytest.raises(error):
            attempt(lambda file=file: filed(file))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"style": "nfs"}, ValueError, r"ofd.*flock.*posix.*nfs"),
        ({"style": "posix", "inherit": True}, ValueError, r"inherit"),
        ({"style": None}, (TypeError, ValueError), r"style|None"),
        ({"timeout": -1}, ValueError, r"timeout"),
        ({"timeout": "1"}, TypeError, r"timeout"),
        ({"arena": "mine"}, TypeError, r"[Aa]rena"),
        ({"nonsense": 1}, TypeError, r"nonsense"),
        ({"start": 1}, TypeError, r"start"),
    ],
    ids=str,
)
def test_options(path, arena, options, error, words):
    with pytest.raises(error, match=words):
        attempt(lambda: syncx.FileLock(path, **{"arena": arena, **options}))


def test_flock_is_for_whole_files(arena, path):
    for start, length in ((0, 5), (5, 0)):
        with pytest.raises(ValueError, match=r"whole"):
            attempt(lambda s=start, n=length: syncx.RangeLock(path, s, n, style="flock", arena=arena))
    with syncx.FileLock(path, style="flock", arena=arena) as lock:
        with pytest.raises(ValueError, match=r"whole"):
            lock.lock_range(3, 4)
        with pytest.raises(ValueError, match=r"whole"):
            lock.unlock_range(3, 4)
        lock.downgrade()
        assert flocked(path) == "r"
        assert lock.upgrade() is True
        assert flocked(path) == "w"


# ---- the ends of a lock object -------------------------------------------------------------------------------------


def test_close_while_held(filed, path):
    lock = filed()
    with lock:
        with pytest.raises(RuntimeError, match=r"data"):
            lock.close()
        with pytest.raises(RuntimeError):
            in_thread(lock.close)
        assert not lock.closed
        assert probe(path, [0]) == "w"
    lock.close()
    assert lock.closed


def test_close_while_awaited(arena, filed, path):
    lock, got = filed(), []
    with filed():
        t = threading.Thread(target=lambda: got.append((lock.acquire(), lock.release())))
        t.start()
        until_awaited(arena, path)
        with pytest.raises(RuntimeError):
            lock.close()
    t.join(PATIENCE)
    assert got == [(True, None)]


def test_closed(filed, path):
    lock = filed()
    with lock:
        file = lock.file
    lock.close()
    assert file.closed
    for call in (
        lock.acquire,
        lock.release,
        lock.upgrade,
        lock.downgrade,
        lock.fileno,
        lambda: lock.file,
        lambda: lock.lock_range(0, 1),
        lambda: lock.unlock_range(0, 1),
        lambda: lock.append(b"x"),
        lambda: lock.within(1).__enter__(),
    ):
        with pytest.raises(ValueError, match=r"closed"):
            call()
    assert path.read_bytes() == b"0123456789"
    assert may(filed())


def test_dropped_while_held(filed, path):
    """Nobody is left who could release it."""
    lock = filed()
    lock.acquire()
    lock.file.write(b"abc")
    gone = weakref.ref(lock)
    del lock
    gc.collect()
    assert gone() is None
    assert probe(path, [0]) == "."
    assert may(filed())


def test_dropped_while_another_holds(filed, path):
    with filed(shared=True):
        lock = filed(shared=True)
        lock.acquire()
        del lock
        gc.collect()
        assert probe(path, [0]) == "r"
    assert probe(path, [0]) == "."


def test_an_interpreter_ends_holding(filed, path, child):
    for how in ("", "sys.exit(0)", "threading.Thread(target=lambda: other.acquire()).start()"):
        c = child(
            f"""
            lock, other = syncx.FileLock(path, arena=arena), syncx.FileLock(path + "2", arena=arena)
            lock.acquire()
            lock.file.write(b"abc")
            class Late:
                def __del__(self):
                    lock.held, lock.locked()
            late = Late()
            {how}
            """,
            path=str(path),
        )
        c.finish()
        assert c.stderr() == ""
        with filed().within(20):
            assert path.read_bytes() == b"abc3456789"


def test_no_descriptors_are_left(arena, path, child):
    """However many objects, holds and threads: what is opened is closed."""
    c = child(
        """
        def count(): return len(os.listdir("/proc/self/fd"))
        with syncx.FileLock(path, arena=arena): pass
        before = count()
        for n in range(50):
            lock = syncx.FileLock(path, arena=arena)
            with lock: lock.file.read()
            other = syncx.FileLock(path + str(n % 5), arena=arena)
            t = threading.Thread(target=lambda: other.__enter__().release())
            t.start(); t.join()
            lock.close()
        del lock, other
        import gc; gc.collect()
        say(count() - before)
        """,
        path=str(path),
    )
    assert c.hear() <= 1  # a description may be kept for the next who comes
    c.finish()


@pytest.mark.parametrize("style", STYLES)
def test_repr(filed, path, style):
    lock = filed(style=style)
    assert repr(lock).startswith("<syncx.FileLock")
    assert repr(str(path)) in repr(lock)
    assert "unlocked" in repr(lock)
    with lock:
        assert "unlocked" not in repr(lock)
        assert "locked" in repr(lock)
        assert "locked" in repr(filed(style=style))
    shared = filed(shared=True, style=style)
    assert "shared" in repr(shared)
    lock.close()
    assert "closed" in repr(lock)
    assert repr(filed(style=style, shared=True, reentrant=True))
    with open(path, "r+b") as f:
        assert repr(filed(f.fileno(), style=style))


def test_repr_of_a_range(arena, path):
    lock = syncx.RangeLock(path, 17, 23, arena=arena)
    assert "RangeLock" in repr(lock)
    assert "17" in repr(lock)
    assert "unlocked" in repr(lock)
    with lock:
        assert "unlocked" not in repr(lock)


def test_subclasses(arena, path):
    class Mine(syncx.FileLock):
        def __enter__(self):
            self.entered = True
            return super().__enter__()

    lock = Mine(path, arena=arena)
    with lock as m:
        assert m is lock
        assert m.entered
        assert probe(path, [0]) == "w"
    assert probe(path, [0]) == "."


def test_the_file_system(filed):
    assert filed().filesystem is None


def test_the_default_arena(path):
    with syncx.FileLock(path) as lock:
        assert lock.arena.path == syncx.default_arena().path if hasattr(syncx, "default_arena") else lock.arena
        assert probe(path, [0]) == "w"
    lock.close()
