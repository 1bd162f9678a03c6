"""`syncx.update`: old or new and nothing between, one at a time, and nothing left behind.

The broken twins are in tests/updates.py; SIGKILL at every instruction is in tests/test_step_update.py, and what others
have to do with it in tests/test_update_together.py.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import updates
from singlestep import shared_directory
from support import PATIENCE
from test_mutex import in_thread

import syncx

module = sys.modules["syncx.update"]  # `syncx.update` is the function


@pytest.fixture(params=["plain", "no O_TMPFILE", "one name"])
def system(request, monkeypatch):
    """File systems: with files that have no name, without, and without a second name for a file too."""
    if request.param != "plain":
        monkeypatch.setattr(os, "open", updates.refusing_tmpfile)
    if request.param == "one name":
        monkeypatch.setattr(os, "link", updates.refusing_link)
    return request.param


@pytest.fixture(params=["there", "new"])
def path(request):
    """A file with the content "old", or none yet; in memory, where an fsync costs nothing."""
    with updates.state_file(request.param == "there") as path:
        yield path


def content(path):
    return path.read_text() if path.exists() else None


def unchanged(path, before):
    """The file is as it was, nothing is beside it, and it can be updated."""
    assert content(path) == before
    assert [p.name for p in path.parent.iterdir()] == ([path.name] if before is not None else [])
    with syncx.update(path, timeout=0) as f:
        f.write("after")
    assert content(path) == "after"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


# ---- what it does ----------------------------------------------------------------------------------------------------


def test_the_old_content_until_the_end_and_then_the_new(path, system):
    before = content(path)
    with syncx.update(path) as f:
        f.write("new")
        f.flush()
        assert content(path) == before
    assert f.closed
    assert content(path) == "new"
    assert [p.name for p in path.parent.iterdir()] == ["state"]


def test_again_and_again(path, system):
    for n in range(3):
        with syncx.update(path) as f:
            f.write(str(n))
        assert content(path) == str(n)


@pytest.mark.parametrize(
    ("mode", "what", "kind"),
    [
        ("w", "text\n", "TextIOWrapper"),
        ("w+", "text\n", "TextIOWrapper"),
        ("wb", b"bytes\0", "BufferedWriter"),
        ("w+b", b"bytes\0", "BufferedRandom"),
    ],
)
def test_modes(path, mode, what, kind):
    with syncx.update(path, mode) as f:
        assert type(f).__name__ == kind
        assert f.name == str(path)
        assert f.mode == mode or "b" in mode
        f.write(what)
        if "+" in mode:
            f.seek(0)
            assert f.read() == what
        else:
            assert not f.readable()
    assert path.read_bytes() == (what if isinstance(what, bytes) else what.encode())


def test_encoding_errors_and_newline(path):
    with syncx.update(path, encoding="latin-1", errors="replace", newline="\r\n") as f:
        f.write("é\u20ac\n")
    assert path.read_bytes() == b"\xe9?\r\n"


@pytest.mark.parametrize("convert", [str, os.fsencode, Path], ids=["str", "bytes", "Path"])
def test_kinds_of_paths(path, convert):
    with syncx.update(convert(path)) as f:
        f.write("new")
    assert content(path) == "new"


def test_a_path_that_is_no_utf_8(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff"
    with syncx.update(path) as f:
        f.write("new")
    assert os.listdir(os.fsencode(tmp_path)) == [b"\xff"]


@pytest.mark.parametrize("length", [200, 255])
def test_a_long_name(tmp_path, length, system):
    path = tmp_path / ("x" * length)
    for text in ("one", "two"):
        with syncx.update(path) as f:
            f.write(text)
        assert path.read_text() == text
    assert os.listdir(tmp_path) == [path.name]


def test_long_names_have_hidden_names_of_their_own():
    names = ["x" * 254 + c for c in "ab"]
    hidden = {module._hidden(name, purpose, 255) for name in names for purpose in ("update", "create")}
    assert len(hidden) == 4
    assert all(len(h) <= 255 for h in hidden)


def test_a_relative_path_and_another_directory(child, tmp_path):
    c = child(
        """
        os.chdir(directory)
        with syncx.update("state") as f:
            os.chdir("/")
            f.write("new")
        """,
        directory=str(tmp_path),
    )
    c.finish()
    assert (tmp_path / "state").read_text() == "new"


def test_a_file_closed_in_the_block(path):
    with syncx.update(path) as f:
        f.write("new")
        f.close()
        assert content(path) != "new"
    assert content(path) == "new"


def test_a_file_detached_in_the_block(path):
    before = content(path)
    with pytest.raises(ValueError, match="detached"), syncx.update(path) as f:  # noqa: PT012
        f.write("new")
        f.detach()
    unchanged(path, before)


def test_one_with_for_one_update(path):
    u = syncx.update(path)
    with u as f:
        f.write("new")
        with pytest.raises(RuntimeError, match="entered before"), u:
            raise AssertionError
    with pytest.raises(RuntimeError, match="entered before"), u:
        raise AssertionError
    assert content(path) == "new"
    assert repr(u).startswith("<syncx.update of '")


# ---- what stays of the old file --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o2755, 0o4711])
def test_the_mode_stays(tmp_path, mode, system):
    path = tmp_path / "state"
    path.write_text("old")
    path.chmod(mode)
    with syncx.update(path) as f:
        f.write("new")
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_new_file_has_the_mode_that_open_gives(child, tmp_path, mask):
    c = child(
        """
        os.umask(mask)
        with syncx.update(directory + "/state") as f: f.write("new")
        """,
        directory=str(tmp_path),
        mask=mask,
    )
    c.finish()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o666 & ~mask


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(tmp_path, system):
    path = tmp_path / "state"
    path.write_text("old")
    os.chown(path, 12345, 23456)
    path.chmod(0o4640)
    with syncx.update(path) as f:
        f.write("new")
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 23456, 0o4640)


def test_another_group_gets_no_more_than_everybody(tmp_path, monkeypatch):
    """What cannot be given back to its owner and group is not opened to the group that it has now."""
    path = tmp_path / "state"
    path.write_text("old")
    path.chmod(0o4764)
    real = os.fstat

    def somebody_elses(fd):
        found = list(real(fd))
        if os.readlink(f"/proc/self/fd/{fd}") == str(path):
            found[stat.ST_UID], found[stat.ST_GID] = 12345, 23456
        return os.stat_result(found)

    def refuse(*_):
        raise PermissionError(errno.EPERM, "not permitted")

    with syncx.update(path) as f:
        f.write("new")
        monkeypatch.setattr(os, "fstat", somebody_elses)
        monkeypatch.setattr(os, "fchown", refuse)
        monkeypatch.setattr(os.path, "samestat", lambda a, b: a.st_ino == b.st_ino)
    assert stat.S_IMODE(path.stat().st_mode) == 0o744


def test_extended_attributes_stay(tmp_path, system):
    path = tmp_path / "state"
    path.write_text("old")
    try:
        os.setxattr(path, "user.syncx", b"\0value")
    except OSError as e:
        pytest.skip(f"no extended attributes here: {e}")
    with syncx.update(path) as f:
        f.write("new")
    assert os.getxattr(path, "user.syncx") == b"\0value"


ACL = b"\2\0\0\0" + b"".join(
    tag.to_bytes(2, "little") + access.to_bytes(2, "little") + who.to_bytes(4, "little")
    for tag, access, who in [
        (1, 6, 0xFFFFFFFF),
        (2, 4, 12345),
        (4, 4, 0xFFFFFFFF),
        (16, 6, 0xFFFFFFFF),
        (32, 0, 0xFFFFFFFF),
    ]
)
"""user::rw- user:12345:r-- group::r-- mask::rw- other::---"""


def test_a_list_of_access_stays_and_none_comes(tmp_path, system):
    path, other = tmp_path / "state", tmp_path / "other"
    for p in (path, other):
        p.write_text("old")
        p.chmod(0o640)
    try:
        os.setxattr(path, "system.posix_acl_access", ACL)
        os.setxattr(tmp_path, "system.posix_acl_default", ACL)
    except OSError as e:
        pytest.skip(f"no lists of access here: {e}")
    for p in (path, other):
        with syncx.update(p) as f:
            f.write("new")
    assert os.getxattr(path, "system.posix_acl_access") == ACL
    assert "system.posix_acl_access" not in os.listxattr(other)
    assert stat.S_IMODE(other.stat().st_mode) == 0o640


def test_a_link_stays(path):
    link = path.parent.parent / "link"
    link.symlink_to("d/state")
    with syncx.update(link) as f:
        f.write("new")
    assert link.is_symlink()
    assert content(path) == "new"
    assert os.listdir(path.parent) == ["state"]


def test_other_hard_links_keep_the_old_content(tmp_path, system):
    path, other = tmp_path / "state", tmp_path / "other"
    path.write_text("old")
    if system == "one name":
        return
    os.link(path, other)
    with syncx.update(path) as f:
        f.write("new")
    assert (path.read_text(), other.read_text()) == ("new", "old")


# ---- what goes wrong in the block ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyError, OSError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_changes_nothing(path, system, error):
    before = content(path)
    with pytest.raises(error), syncx.update(path) as f:  # noqa: PT012
        f.write("new")
        f.flush()
        raise error
    unchanged(path, before)


def failing(monkeypatch, name, number, times=1):
    """From now on os.NAME raises that, so many times."""
    real, left = getattr(os, name), [times]

    def fail(*args, **kwargs):
        if left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, fail)


@pytest.mark.parametrize("name", ["fsync", "rename", "fchmod"])
def test_a_system_call_that_fails_changes_nothing(path, monkeypatch, name):
    before = content(path)
    with syncx.update(path.parent / "warm") as f:  # what is imported later is there
        f.write("")
    os.unlink(path.parent / "warm")
    if before is None and name != "fsync":
        name = "link"
    u = syncx.update(path)
    f = u.__enter__()
    f.write("new")
    failing(monkeypatch, name, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left") as e:
        u.__exit__(None, None, None)
    assert e.value.errno == errno.ENOSPC
    unchanged(path, before)


def test_the_last_fsync_fails_when_the_new_content_is_there(path, monkeypatch):
    """That of the directory: what it says is that a power failure may bring the old content back."""
    calls = []

    def fail(fd):
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"), syncx.update(path) as f:
        f.write("new")
    assert content(path) == "new"
    assert os.listdir(path.parent) == ["state"]
    monkeypatch.undo()
    unchanged(path, "new")


@pytest.mark.parametrize("size", [5_000, 500_000], ids=["at the end", "in the block"])
def test_a_full_disk(child, path, size):
    before = content(path)
    c = child(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))  # of each file, and Python ignores SIGXFSZ
        try:
            with syncx.update(path, arena=arena) as f:
                f.write("x" * size)
        except OSError as e:
            say(e.errno)
        with syncx.update(other, arena=arena) as f:
            f.write("another")
        """,
        path=str(path),
        other=str(path.parent.parent / "other"),
        ARENA=str(path.parent.parent / "arena"),
        size=size,
    )
    syncx.Arena(path.parent.parent / "arena").close()
    assert c.hear() == errno.EFBIG
    c.finish()
    unchanged(path, before)


SMALL = """
import errno, syncx, sys
arena, path = syncx.Arena(sys.argv[1]), sys.argv[2] + "/state"
def attempt(text):
    try:
        with syncx.update(path, arena=arena) as f: f.write(text)
    except OSError as e:
        assert e.errno == errno.ENOSPC, e
        return "full"
    return open(path).read()
print(attempt("old"), attempt("x" * 1_000_000), open(path).read(), attempt("new"))
n = 0
try:
    while True:
        open(f"{sys.argv[2]}/{n}", "w").close()
        n += 1
except OSError:
    print(n > 0, attempt("no inode left for it"), open(path).read())
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare(1) here")
def test_a_small_disk(arena, tmp_path):
    """The real thing: a file system of 64 KB and 8 files."""
    (tmp_path / "disk").mkdir()
    disk = str(tmp_path / "disk")
    mount = 'mount -t tmpfs -o size=64k,nr_inodes=8 small $0 && exec $1 -c "$2" $3 $0'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, disk, sys.executable, SMALL, arena.path],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no file system may be mounted here: {done.stderr}")
    assert done.stdout == "old full old new\nTrue full new\n", done.stderr


# ---- what a kill has left --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".state.syncx-update", ".state.syncx-create"])
def test_what_a_kill_left_is_removed(path, name, system):
    if name.endswith("update") and not path.exists():
        return  # it is not looked at
    (path.parent / name).write_text("half of wha")
    with syncx.update(path) as f:
        f.write("new")
    assert content(path) == "new"
    assert os.listdir(path.parent) == ["state"]


def test_a_claim_that_a_kill_left_as_a_second_name(tmp_path):
    """Killed between link and unlink: the claim is the file itself."""
    path = tmp_path / "state"
    path.write_text("old")
    os.link(path, tmp_path / ".state.syncx-create")
    with syncx.update(path) as f:
        f.write("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["state"]


def test_a_claim_of_the_living_is_let_be(tmp_path):
    """Somebody makes the file, and is not done; another file has its name meanwhile."""
    path, claim = tmp_path / "state", tmp_path / ".state.syncx-create"
    with syncx.FileLock(claim):
        path.write_text("old")
        in_thread(lambda: replace(path))
        assert claim.exists()
    replace(path)
    assert os.listdir(tmp_path) == ["state"]


def replace(path):
    with syncx.update(path) as f:
        f.write("new")


def test_a_claim_of_the_dead_is_not_written_into(tmp_path):
    """As a second name of another file, it would be changed in place; with content, what is written would be mixed."""
    other = tmp_path / "other"
    other.write_text("")
    os.link(other, tmp_path / ".state.syncx-create")
    with syncx.update(tmp_path / "state") as f:
        f.write("new")
        f.flush()
        assert other.read_text() == ""
    assert (tmp_path / "state").read_text() == "new"


def test_a_claim_that_is_a_link_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    (tmp_path / ".state.syncx-create").symlink_to(victim)
    with pytest.raises(OSError) as e, syncx.update(tmp_path / "state"):
        raise AssertionError
    assert e.value.errno == errno.ELOOP
    assert not victim.exists()


# ---- others who ask nobody -------------------------------------------------------------------------------------------


def test_deleted_meanwhile(tmp_path, system):
    path = tmp_path / "state"
    path.write_text("old")
    with pytest.raises(FileNotFoundError, match="deleted the file"), syncx.update(path) as f:  # noqa: PT012
        f.write("new")
        path.unlink()
    assert os.listdir(tmp_path) == []


def test_replaced_meanwhile(tmp_path, system):
    path = tmp_path / "state"
    path.write_text("old")
    with pytest.raises(FileExistsError, match="left as it is"), syncx.update(path) as f:  # noqa: PT012
        f.write("new")
        (tmp_path / "other").write_text("theirs")
        os.rename(tmp_path / "other", path)
    unchanged(path, "theirs")


def test_made_meanwhile(tmp_path, system):
    path = tmp_path / "state"
    with pytest.raises(FileExistsError, match="left as it is"), syncx.update(path) as f:  # noqa: PT012
        f.write("new")
        path.write_text("theirs")
    unchanged(path, "theirs")


def test_made_meanwhile_by_a_lock(tmp_path, arena):
    """A FileLock makes the file that it locks; it is empty, and nothing is lost with it."""
    path = tmp_path / "state"
    with syncx.update(path, arena=arena) as f:
        f.write("new")
        with syncx.FileLock(path, arena=arena):
            assert path.read_text() == ""
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["state"]


def test_made_meanwhile_by_a_lock_that_is_held(child, tmp_path, arena):
    """Then the end of the block waits for it."""
    path = tmp_path / "state"
    with syncx.update(path, arena=arena) as f:
        f.write("new")
        c = child(
            """
            from updates import until_awaited
            with syncx.FileLock(path, arena=arena):
                say()
                until_awaited(arena)
                say(open(path).read())
            """,
            path=str(path),
        )
        c.hear()
    assert c.hear() == ""
    c.finish()
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["state"]


def test_its_directory_renamed_meanwhile(path):
    moved = path.parent.parent / "moved"
    with syncx.update(path) as f:
        f.write("new")
        os.rename(path.parent, moved)
    assert (moved / "state").read_text() == "new"
    assert os.listdir(moved) == ["state"]


# ---- durable ---------------------------------------------------------------------------------------------------------


def order_of(monkeypatch, path, update):
    """fsyncs of files and directories, and names given, in order."""
    calls = []

    def tell(name, what):
        real = getattr(os, name)

        def call(*args, **kwargs):
            result = real(*args, **kwargs)
            calls.append(what(*args))
            return result

        monkeypatch.setattr(os, name, call)

    tell("fsync", lambda fd: "directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
    tell("rename", lambda _, name: f"name {os.path.basename(name)}")
    tell("link", lambda _, name: f"name {os.path.basename(name)}")
    with update(path) as f:
        f.write("new")
    monkeypatch.undo()
    return calls


def durable(calls):
    """The content before the name, and the name before the end."""
    named = calls.index("name state")
    return "file" in calls[:named] and "directory" in calls[named:]


def test_content_then_name_then_directory(path, system, monkeypatch):
    calls = order_of(monkeypatch, path, syncx.update)
    assert durable(calls), calls
    assert content(path) == "new"


@pytest.mark.parametrize("twin", [updates.unsynced, updates.unlocked])
def test_a_name_before_the_content_is_found(path, monkeypatch, twin):
    assert not durable(order_of(monkeypatch, str(path), twin))
    assert not durable(["file", "name state"])
    assert not durable(["name state", "file", "directory"])
    assert durable(["file", "name state", "directory"])


def who_gets_in(path, arena, monkeypatch, update):
    """What somebody sees, and whether he gets in with an update or a lock, when the directory is being fsynced."""
    seen = []
    real = os.fsync

    def enter(block):
        try:
            with block:
                return True
        except syncx.Timeout:
            return False

    def look(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode) and not seen:
            seen.append(content(path))
            seen.append(in_thread(enter, syncx.FileLock(path, arena=arena, timeout=0)))
            seen.append(in_thread(enter, syncx.update(path, timeout=0, arena=arena)))
        real(fd)

    monkeypatch.setattr(os, "fsync", look)
    with update(str(path), arena=arena) as f:
        f.write("new")
    return seen


def test_who_comes_at_once_waits_for_the_directory(path, arena, monkeypatch):
    """The new file has its name and its content, but the one who put it there is not done."""
    assert who_gets_in(path, arena, monkeypatch, syncx.update) == ["new", False, False]


def test_one_who_does_not_wait_is_found(path, arena, monkeypatch):
    path.write_text("old")
    assert who_gets_in(path, arena, monkeypatch, updates.unlocked_when_named) == ["new", True, True]


def test_file_systems_whose_directories_cannot_be_synced(path, monkeypatch):
    real = os.fsync

    def refuse(fd):
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(fd)

    monkeypatch.setattr(os, "fsync", refuse)
    with syncx.update(path) as f:
        f.write("new")
    assert content(path) == "new"


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["r", "r+", "a", "x", "wt", "bw", "w+b+", "", None, 7])
def test_other_modes(path, mode):
    with pytest.raises(ValueError, match="mode must be one of 'w', 'wb', 'w\\+', 'w\\+b'"):
        syncx.update(path, mode)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"mode": "wb", "encoding": "utf-8"}, ValueError),
        ({"mode": "wb", "newline": ""}, ValueError),
        ({"mode": "w+b", "errors": "strict"}, ValueError),
        ({"timeout": -2}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": float("inf")}, OverflowError),
        ({"timeout": "1"}, TypeError),
        ({"timeout": True}, TypeError),
        ({"patience": 1}, TypeError),
    ],
    ids=str,
)
def test_arguments(path, how, error):
    with pytest.raises(error):
        syncx.update(path, **how)


@pytest.mark.parametrize(
    ("how", "error"), [({"encoding": "klingon"}, LookupError), ({"newline": "x"}, ValueError)], ids=str
)
def test_what_open_refuses(path, how, error):
    before = content(path)
    with pytest.raises(error), syncx.update(path, **how):
        raise AssertionError
    unchanged(path, before)


@pytest.mark.parametrize("what", [7, None, 1.5, ["state"]])
def test_what_is_no_path(what):
    with pytest.raises(TypeError):
        syncx.update(what)


def refused(path, error):
    """What `update` says of that path."""
    with pytest.raises(error) as e, syncx.update(path, timeout=PATIENCE):
        raise AssertionError
    return str(e.value)


def test_a_directory(tmp_path):
    for path in (tmp_path, f"{tmp_path}/", f"{tmp_path}/.", f"{tmp_path}/..", "/", f"{tmp_path}/state/"):
        assert "this is a directory" in refused(path, IsADirectoryError)
    assert os.listdir(tmp_path) == []


def test_a_missing_directory(tmp_path):
    told = refused(tmp_path / "missing" / "state", FileNotFoundError)
    assert "a directory that is not there" in told
    assert str(tmp_path / "missing") in told


def test_an_empty_path_and_a_nul():
    assert "empty" in refused("", FileNotFoundError)
    with pytest.raises(ValueError, match="null"), syncx.update("a\0b"):
        raise AssertionError


def test_a_file_for_a_directory(tmp_path):
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "state", NotADirectoryError)


def test_what_is_no_regular_file(tmp_path):
    fifo, loop = tmp_path / "fifo", tmp_path / "loop"
    os.mkfifo(fifo)
    assert "is a FIFO" in refused(fifo, ValueError)
    assert "is a device" in refused("/dev/null", ValueError)
    loop.symlink_to("loop")
    assert "symbolic link" in refused(loop, OSError)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "socket"))
        assert "is a socket" in refused(tmp_path / "socket", ValueError)


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(OSError) as e, syncx.update(tmp_path / ("x" * 256)):
        raise AssertionError
    assert e.value.errno == errno.ENAMETOOLONG


def test_a_closed_arena(path):
    arena = syncx.Arena(path.parent.parent / "arena")
    arena.close()
    before = content(path)
    with pytest.raises(ValueError, match="closed"), syncx.update(path, arena=arena):
        raise AssertionError
    assert content(path) == before
    assert os.listdir(path.parent) == (["state"] if before else [])


UNPRIVILEGED = """
import stat
if os.geteuid() == 0:
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
arena = syncx.Arena(directory + "/arena", mode=0o600)
synced = []
os.sync = lambda: synced.append(True)  # of all file systems, which others keep busy
try:
    with syncx.update(directory + "/d/state", arena=arena) as f:
        f.write("new")
    say(synced)
except OSError as e:
    say([type(e).__name__, str(e)])
"""


@pytest.mark.parametrize(
    ("directory_mode", "file_mode", "error"),
    [
        (0o555, 0o644, "the directory must be open to writing"),
        (0o755, 0o444, "an exclusive lock, for which the file must be open to writing"),
        (0o555, None, "the directory must be open to writing"),
        (0o300, 0o644, None),  # files can be made and not listed
        (0o300, None, None),
    ],
)
def test_permissions(child, directory_mode, file_mode, error):
    with shared_directory() as directory:
        (directory / "d").mkdir()
        path = directory / "d" / "state"
        if file_mode is not None:
            path.write_text("old")
            path.chmod(file_mode)
        if os.geteuid() == 0:
            for p in [directory, directory / "d", *(directory / "d").iterdir()]:
                os.chown(p, 65534, 65534)
        (directory / "d").chmod(directory_mode)
        c = child(UNPRIVILEGED, directory=str(directory))
        told = c.hear()
        c.finish()
        (directory / "d").chmod(0o700)
        if error is None:
            assert told == [True]  # a directory that cannot be opened cannot be synced alone
            assert path.read_text() == "new"
            assert os.listdir(directory / "d") == ["state"]
        else:
            assert told[0] == "PermissionError"
            assert error in told[1]
            assert content(path) == (None if file_mode is None else "old")


# ---- exceptions out of nowhere ---------------------------------------------------------------------------------------


class Interrupt(BaseException):
    """As a signal handler raises it."""


class Lines:
    """Raises at the n-th line that is run of syncx/update.py; those that take a lock and those that clean up are let
    off."""

    CLEANING = {"__init__", "__del__", "_keep", "wait", "close", "end", "_close_file", "_remove_temporary", "_names"}

    def __init__(self, n):
        self.left, self.raised = n, False

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename != module.__file__ or frame.f_code.co_name in self.CLEANING:
            return None
        if event == "line" and not self.raised:
            self.left -= 1
            if self.left < 0:
                self.raised = True
                raise Interrupt
        return self


def test_an_exception_at_any_line(path, system, arena):
    """Old or new, and nothing is held or left behind."""
    before, told, n = content(path), set(), 0
    with syncx.update(path.parent / "warm", arena=arena) as f:
        f.write("what is imported or opened at the first use is there")
    os.unlink(path.parent / "warm")
    while True:
        lines = Lines(n)
        previous = sys.gettrace()
        sys.settrace(lines)
        try:
            with syncx.update(path, arena=arena) as f:
                f.write("new")
        except Interrupt:
            assert lines.raised
        finally:
            sys.settrace(previous)
        told.add(content(path))
        assert told <= {before, "new"}, n
        assert os.listdir(path.parent) == (["state"] if path.exists() else []), n
        with syncx.update(path, timeout=0, arena=arena) as f:
            f.write("old")
        if before is None:
            path.unlink()
        if not lines.raised:
            break
        n += 1
    assert told == {before, "new"}
    assert n > 40
