"""Hidden files that a kill amid `syncx.update()` left beside a path, and lock files whose owner is gone.

`update.py` says which files there are and whose they are: `.NAME.syncx-create` is of who holds its lock,
`.NAME.syncx-update` of who holds the lock of NAME.  So whoever gets these locks without waiting, and then finds the
name still leading to what he locked, may take it away: nobody is at work there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import socket
import stat
import struct
from collections.abc import Iterator

from .errors import SyncxError
from .findings import Finding, Tree, size
from .leftovers import File, Users
from .terminal import printable
from .update import _hidden

__all__ = ["beside", "inside"]

_F_OFD_SETLK = 37
_KINDS = ("create", "update")
_HIDDEN = re.compile(r"\.(?P<name>.+)\.syncx-(?P<kind>create|update)", re.S)
_LOCK_FILE = re.compile(r".*\.(lock|lck|pid)|LCK\.\..*", re.S)


def beside(path: str) -> Iterator[Finding]:
    """What a killed update of this file left, and who the file says to be its owner."""
    directory, name = os.path.split(os.path.realpath(path))
    longest = os.pathconf(directory, "PC_NAME_MAX")
    for kind in _KINDS:
        yield from _leftover(directory, _hidden(name, kind, longest), kind, name)
    yield from _lock_file(os.path.join(directory, name))


def inside(directory: str) -> Iterator[Finding]:
    """The same of all files of a directory.  Raises OSError where it cannot be read."""
    directory = os.path.realpath(directory)
    names = sorted(os.listdir(directory))
    longest = os.pathconf(directory, "PC_NAME_MAX")
    long = {_hidden(n, kind, longest): n for n in names for kind in _KINDS if len(os.fsencode(n)) > longest - 16}
    for entry in names:
        found = _HIDDEN.fullmatch(entry)
        if found is not None:
            yield from _leftover(directory, entry, found["kind"], long.get(entry, found["name"]))
        else:
            yield from _lock_file(os.path.join(directory, entry))


class _Busy(SyncxError):
    """Somebody is at work there."""


def _lock(path: str) -> int:
    """A descriptor of the file, exclusively locked.  Raises _Busy where others have it, FileNotFoundError."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            raise _Busy(f"{path} is no regular file")
        fcntl.fcntl(fd, _F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        if not os.path.samestat(os.stat(path, follow_symlinks=False), st):
            raise _Busy(f"{path} is another file by now")
    except BaseException as e:
        os.close(fd)
        if isinstance(e, BlockingIOError):
            raise _Busy(f"somebody has {path} locked") from None
        raise
    return fd


def _is_there(path: str) -> bool:
    """Raises PermissionError where the directory is closed to us: nothing can be told of it."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _leftover(directory: str, entry: str, kind: str, name: str) -> Iterator[Finding]:
    path = os.path.join(directory, entry)
    try:
        _take_away(directory, entry, kind, name, look_only=True)
    except FileNotFoundError:
        return
    except _Busy:
        yield Finding("ok", "update", f"{printable(path)}: an update() is at work")
        return
    except PermissionError:
        if _is_there(path):  # or it was the file beside it that is closed to us
            what = f"{printable(path)}: of an update(), and may not be looked into"
            advice = "if it is a leftover, the next update() by its owner removes it"
            yield Finding("note", "update", what, advice)
        return
    try:
        st = os.lstat(path)
    except FileNotFoundError:
        return
    file = File(path, entry, st.st_dev, st.st_ino, st.st_size, st.st_uid, st.st_mtime)
    if Users(Tree(), [file]).of(file):  # made a moment ago, and not locked yet
        yield Finding("ok", "update", f"{printable(path)}: an update() is at work")
        return

    def repair() -> str:
        try:
            _take_away(directory, entry, kind, name)
        except FileNotFoundError:
            return ""
        return f"removed {path}"

    yield Finding(
        "warning",
        "update",
        f"{printable(path)}, {size(st.st_size)}: an update() of {printable(name)} was killed",
        "the next update() of it, or `syncx doctor --fix`, removes this",
        repair=repair,
    )


def _take_away(directory: str, entry: str, kind: str, name: str, *, look_only: bool = False) -> None:
    """Removes what is left, if nobody is at work."""
    path, of = os.path.join(directory, entry), os.path.join(directory, name)
    with contextlib.ExitStack() as stack:
        if kind == "update":
            with contextlib.suppress(FileNotFoundError):
                stack.callback(os.close, _lock(of))
        stack.callback(os.close, _lock(path))
        if not look_only:
            os.unlink(path)


# ---- lock files ------------------------------------------------------------------------------------------------------


def _lock_file(path: str, tree: Tree | None = None) -> Iterator[Finding]:
    """A file that is called a lock and holds nothing but a pid: does that process live?"""
    if not _LOCK_FILE.fullmatch(os.path.basename(path)):
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    with open(fd, "rb") as f:
        if not stat.S_ISREG(os.fstat(f.fileno()).st_mode):
            return
        lines = f.read(1024).decode(errors="replace").split("\n")
    here = socket.gethostname()
    words = [w.strip() for w in lines if w.strip()]
    if not words or not re.fullmatch(r"\d{1,10}", words[0], re.A) or any(w != here for w in words[1:]):
        return
    pid = int(words[0])
    if pid and not (tree or Tree()).lives(pid):
        yield Finding(
            "note",
            "lock file",
            f"{printable(path)}: it names process {pid}, which is gone",
            "to remove it",
            f"rm {shlex.quote(path)}",
        )
