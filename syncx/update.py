"""`update`: a file is changed as a whole or not at all, by one at a time.

Why no instant shows half of a file, and why no two are inside at once:

1. The new content goes into an inode of its own, which has no name or a hidden one.  It is fsynced, and then gets the
   path's name by one rename or link, which the kernel does as a whole.  Readers need no lock.
2. If the file is there, its exclusive lock is held until all is done.  Whoever gets it looks whether the name still
   names what is locked, and begins again if not: so one at a time holds the lock of what the path names.
3. If it is not, there is no inode to lock: `.NAME.syncx-create` is made and locked in its place, with the same second
   look, and then a look whether the file has appeared.  Its inode becomes the file's by link, which replaces nothing.
   One that a kill left behind has no holder; only who holds its lock unlinks it, so the living keep theirs.  If the
   file has appeared meanwhile, its next update does.
4. The new inode is locked before it has the path's name: whoever finds it there waits for the fsync of the directory.
5. SIGKILL: the kernel frees the locks.  What has no name goes with the process (O_TMPFILE); it has a name,
   `.NAME.syncx-update`, for the one instruction between link and rename, or for the whole time where the file system
   knows no such files.  That name belongs to who holds the lock of the path, and the next one unlinks it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from _io import text_encoding
from _thread import TIMEOUT_MAX, get_ident

from . import _core
from .arena import Arena
from .errors import NotOwner, Timeout
from .filelock import RangeLock

TYPE_CHECKING = False
if TYPE_CHECKING:  # see arena.py
    from contextlib import AbstractContextManager, ExitStack
    from types import TracebackType
    from typing import IO, Any, BinaryIO, Literal, NoReturn, TextIO, TypeAlias, overload

    from .handle import OnDeadlock

    StrOrBytesPath: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
    How: TypeAlias = tuple[Arena | None, OnDeadlock | None, int]  # what the locks are made with
else:

    def overload(_: object) -> None:
        """As typing.overload, which takes long to import."""


__all__ = ["update"]

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_CLOSED_DIRECTORY = "the directory must be open to writing: update() makes a new file in it"
_MODES = ("w", "wb", "w+", "w+b")
_ATTRIBUTES = ("user.", "trusted.", "system.", "security.selinux", "security.SMACK64")
"""The extended attributes that a new inode takes over: labels and lists of access, but not what vouches for a content
(capabilities, checksums)."""


@overload
def update(
    path: StrOrBytesPath,
    mode: Literal["w", "w+"] = "w",
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    timeout: float | None = None,
    arena: Arena | None = None,
    deadlock: OnDeadlock | None = None,
    priority: int = 0,
) -> AbstractContextManager[TextIO]: ...
@overload
def update(  # noqa: F811
    path: StrOrBytesPath,
    mode: Literal["wb", "w+b"],
    *,
    timeout: float | None = None,
    arena: Arena | None = None,
    deadlock: OnDeadlock | None = None,
    priority: int = 0,
) -> AbstractContextManager[BinaryIO]: ...
def update(  # noqa: F811
    path: StrOrBytesPath,
    mode: str = "w",
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    timeout: float | None = None,
    arena: Arena | None = None,
    deadlock: OnDeadlock | None = None,
    priority: int = 0,
) -> AbstractContextManager[IO[Any]]:
    """A context manager that replaces the content of a file, all of it or nothing, alone.

    path: the file, which need not be there yet; its directory must.  A symbolic link stays, and what it points to is
        replaced.
    mode: "w" and "w+" for text, "wb" and "w+b" for bytes.  The file is always written anew.
    encoding, errors, newline: those of `open`, for text.
    timeout: seconds to wait at most for others who update or lock the file; None waits for ever, 0 not at all.
    arena: the `syncx.Arena` in which holders and waiters are known to each other; None is the default one.
    deadlock, priority: of the wait for the file, as for `Mutex`.

    `with update(path) as f:` waits until nobody else updates the file or holds `FileLock(path)`, and yields an
    ordinary file, empty and open for writing.  `open(path)` still reads the old content, in the block and anywhere
    else, until the block has ended: then what was written is flushed, fsynced and put in the place of the old file
    with one rename, and the directory is fsynced.  An exception in the block, SystemExit and KeyboardInterrupt
    included, or in flush or fsync, leaves the old file as it is, or none if there was none; so does SIGKILL at any
    instruction before the rename.  At any after it the new content is there.

    Mode, owner, ACL and extended attributes of the old file are taken over as far as this process may set them; other
    hard links to it keep the old content.

    Raises Timeout when others had the file for too long; DeadlockError if this thread updates it or holds its lock
    already; IsADirectoryError for a directory, ValueError for a FIFO, a socket or a device; FileNotFoundError if there
    is no such directory; PermissionError if the directory or the old file may not be written.  At the end,
    FileNotFoundError, if somebody who did not hold its lock deleted the file meanwhile, or FileExistsError, if such a
    one replaced or made it: what is there is left as it is.  OSError (ENOSPC, EFBIG, EDQUOT) if there is no room.

    Threads exclude each other as processes do.  The block ends in the thread that began it, NotOwner otherwise; in a
    child forked inside it, NotOwner too: only the parent writes.  See rename(2), fsync(2), open(2) on O_TMPFILE, and
    `FileLock` on waiting.
    """
    if mode not in _MODES:
        known = ", ".join(map(repr, _MODES))
        raise ValueError(f"mode must be one of {known}: the file is always written anew; it is {mode!r}")
    if "b" not in mode:
        encoding = text_encoding(encoding)
    elif (encoding, errors, newline) != (None, None, None):
        raise ValueError(f"encoding, errors and newline are for text, and the mode is {mode!r}")
    if not isinstance(arena, (Arena, type(None))):
        raise TypeError(f"arena must be a syncx.Arena or None, not {type(arena).__name__}")
    _core.Handle()._configure(None, deadlock, priority)  # refuses what is none
    return _Update(path, (mode, encoding, errors, newline), _checked_timeout(timeout), (arena, deadlock, priority))


def _checked_timeout(timeout: float | None) -> float | None:
    if timeout is None or timeout == -1:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds or None, not {type(timeout).__name__}")
    if not timeout >= 0:
        raise ValueError(f"timeout must be a number of seconds that is not negative, or None, not {timeout!r}")
    if timeout > TIMEOUT_MAX:
        raise OverflowError(f"timeout must be at most {TIMEOUT_MAX:g} seconds, or None, not {timeout!r}")
    return timeout


class _Locked:
    """A file that is open, and exclusively locked by this thread once `wait` has returned."""

    __slots__ = ("fd", "lock", "stat")

    lock: RangeLock | None
    stat: os.stat_result  # when the lock had come

    def __init__(self, stack: ExitStack, fd: int) -> None:
        """Takes the descriptor over.  Unlocked and closed with the stack."""
        self.fd, self.lock = fd, None
        stack.callback(self.close)

    def wait(self, how: How, deadline: float | None, what: str) -> None:
        arena, on_deadlock, priority = how
        self.lock = RangeLock(self.fd, arena=arena, deadlock=on_deadlock, priority=priority)
        self.lock.path = what  # messages tell it
        if not self.lock.acquire(timeout=None if deadline is None else max(0.0, deadline - time.monotonic())):
            raise Timeout(f"{what!r} was not to be had in time: others update it or hold its lock")
        self.stat = os.fstat(self.fd)

    def close(self) -> None:
        """Releases it.  In a forked child, which holds nothing, it only closes."""
        fd, self.fd = self.fd, -1
        lock, self.lock = self.lock, None
        try:
            if lock is not None:
                if lock.held:
                    lock.release()
                lock.close()
        finally:
            if fd >= 0:
                os.close(fd)


class _Update:
    """What `update` returns, good for one `with`.  All that is to be given back is in the stack of its work."""

    __slots__ = ("_owner", "_work")

    def __init__(
        self,
        path: StrOrBytesPath,
        opening: tuple[str, str | None, str | None, str | None],
        timeout: float | None,
        how: How,
    ) -> None:
        self._owner: tuple[int, int] | None = None  # process and thread
        self._work = _Work(os.fsdecode(path), opening, timeout, how)

    def __repr__(self) -> str:
        return f"<syncx.update of {self._work.path!r}{'' if self._owner is None else ', entered'}>"

    def __enter__(self) -> IO[Any]:
        if self._owner is not None:
            raise RuntimeError(f"{self!r} was entered before; each `with` takes an update() of its own")
        self._owner = (os.getpid(), get_ident())
        try:
            return self._work.begin()
        except BaseException:
            self._work.end()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._owner is not None
        pid, thread = self._owner
        if pid != os.getpid():
            self._work.end()
            if kind is None:
                raise NotOwner(f"{self!r}: this process was forked inside it; its parent writes the file")
        elif thread != get_ident():
            raise NotOwner(f"{self!r}: another thread began it, and that one ends it")
        else:
            try:
                if kind is None:
                    self._work.commit()
            finally:
                self._work.end()

    def __del__(self) -> None:
        """Dropped before its end (by an exception that a signal handler raises at the first line of `__exit__`, for
        one), it is given up."""
        if self._owner is not None:
            self._work.end()


class _Work:
    """One update, from the first look at the path on."""

    __slots__ = (
        "_create",
        "_directory",
        "_directory_fd",
        "_file",
        "_how",
        "_made",
        "_name",
        "_new",
        "_old",
        "_opening",
        "_pid",
        "_readable",
        "_spare",
        "_stack",
        "_temporary",
        "_timeout",
        "path",
    )

    _directory: str
    _directory_fd: int
    _readable: bool
    _name: str
    _spare: str  # the two hidden names of the head of this file
    _create: str
    _made: bool  # that claim by us, not by others
    _file: IO[Any]
    _new: _Locked  # what is being written
    _old: _Locked | None  # what the path names, if it is there
    _temporary: str | None  # the hidden name of what is being written, if it may have one

    def __init__(
        self,
        path: str,
        opening: tuple[str, str | None, str | None, str | None],
        timeout: float | None,
        how: How,
    ) -> None:
        self.path = path
        self._opening = opening
        self._timeout = timeout
        self._how = how
        self._pid = -1
        self._stack: ExitStack | None = None

    # ---- before the block --------------------------------------------------------------------------------------------

    def begin(self) -> IO[Any]:
        """Waits, and opens the file of the block."""
        from contextlib import ExitStack  # here, because syncx without it is imported in half the time

        arena = self._how[0]
        if arena is not None and arena.closed:
            raise ValueError(f"{arena!r} is closed")
        self._pid = os.getpid()
        self._stack = stack = ExitStack()
        try:
            self._find_directory(stack)
            self._take(stack)
            mode, encoding, errors, newline = self._opening
            self._file = open(self.path, mode, -1, encoding, errors, newline, opener=self._duplicate)  # noqa: SIM115
            stack.callback(self._close_file)
        except OSError as e:
            self._tell_directory(e)
            raise
        return self._file

    def _duplicate(self, path: str, flags: int) -> int:
        """The file of the block has a descriptor of its own, so that it may be closed there."""
        return os.dup(self._new.fd)

    def _tell_directory(self, e: OSError) -> None:
        """Names are relative to it in here, and nowhere else."""
        if isinstance(e.filename, str) and "/" not in e.filename:
            e.filename = os.path.join(self._directory, e.filename)

    def _find_directory(self, stack: ExitStack) -> None:
        """Opens the directory and makes the names up."""
        path = os.path.realpath(self.path)
        self._directory, self._name = os.path.split(path)
        if not self.path:
            raise FileNotFoundError(errno.ENOENT, "the path of the file to update is empty", self.path)
        if not self._name or self.path.endswith(("/", "/.", "/..")):
            raise IsADirectoryError(errno.EISDIR, "update() writes a file, and this is a directory", self.path)
        flags = os.O_DIRECTORY | os.O_CLOEXEC
        try:
            self._readable = True
            self._directory_fd = os.open(self._directory, os.O_RDONLY | flags)
        except PermissionError:
            self._readable = False  # files may be made in it all the same
            self._directory_fd = os.open(self._directory, os.O_PATH | flags)
        except FileNotFoundError as e:
            e.strerror = "the file to update would be in a directory that is not there"
            raise
        stack.callback(os.close, self._directory_fd)
        longest = os.fpathconf(self._directory_fd, "PC_NAME_MAX") if self._readable else 255
        self._spare = _hidden(self._name, "update", longest)
        self._create = _hidden(self._name, "create", longest)

    def _take(self, stack: ExitStack) -> None:
        """Waits until this thread is the only one who updates the file."""
        from contextlib import ExitStack

        deadline = self._deadline()
        while True:
            attempt = stack.enter_context(ExitStack())
            self._old = self._lock_existing(attempt, deadline)
            if self._old is not None:
                self._open_new(attempt, self._old)
                return
            if not self._exists() and self._claim(attempt, deadline):  # else others have replaced it meanwhile
                return
            attempt.close()

    def _deadline(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout

    def _lock_existing(self, stack: ExitStack, deadline: float | None) -> _Locked | None:
        """Locks what the path names; None if it names nothing, or another file when the lock has come."""
        try:
            self._check_kind(os.stat(self._name, dir_fd=self._directory_fd, follow_symlinks=False))
        except FileNotFoundError:
            return None
        try:
            fd = os.open(self._name, _FLAGS, dir_fd=self._directory_fd)
        except FileNotFoundError:
            return None
        except PermissionError as e:
            e.strerror = "update() takes an exclusive lock, for which the file must be open to writing"
            raise
        old = _Locked(stack, fd)
        old.wait(self._how, deadline, self.path)
        return old if self._names(self._name, old) else None

    def _check_kind(self, found: os.stat_result) -> None:
        if stat.S_ISREG(found.st_mode):
            return
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "update() writes a file, and this is a directory", self.path)
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, "symbolic links that lead to each other", self.path)
        kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(found.st_mode), "a device")
        raise ValueError(f"update() replaces a regular file, and {self.path!r} is {kind}")

    def _names(self, name: str, what: _Locked) -> bool:
        """Does the name, in the directory, name that file?"""
        try:
            return os.path.samestat(os.stat(name, dir_fd=self._directory_fd, follow_symlinks=False), what.stat)
        except FileNotFoundError:
            return False

    def _claim(self, stack: ExitStack, deadline: float | None) -> bool:
        """Makes and locks the file that stands for the one to come; False if there is reason to look again.

        One that others made is as good while it is new: they have yet to lock it, and will look again.  What is left
        of the dead goes with the stack, as this one does if the file has appeared.
        """
        self._keep(stack, self._open_claim(), self._create, deadline)
        found = self._new.stat
        fresh = found.st_size == 0 and found.st_nlink == 1 and (self._made or found.st_uid == os.geteuid())
        return fresh and self._names(self._create, self._new) and not self._exists()

    def _open_claim(self) -> int:
        while True:
            try:
                self._made = True
                return self._make(self._create, 0o666)
            except FileExistsError:
                self._made = False
            try:
                return os.open(self._create, _FLAGS, dir_fd=self._directory_fd)
            except FileNotFoundError:
                continue  # it has gone in between
            except PermissionError as e:
                e.strerror = "another user makes the file, or was killed when he made it; then remove this"
                raise

    def _make(self, name: str, mode: int) -> int:
        try:
            return os.open(name, _FLAGS | os.O_CREAT | os.O_EXCL, mode, dir_fd=self._directory_fd)
        except PermissionError as e:
            e.strerror = _CLOSED_DIRECTORY
            raise

    def _exists(self) -> bool:
        try:
            os.stat(self._name, dir_fd=self._directory_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _keep(self, stack: ExitStack, fd: int, name: str | None, deadline: float | None) -> None:
        """Locks what is written in the block.  `name` goes in the end, unless the file has another by then."""
        self._new, self._temporary = _Locked(stack, fd), None
        self._new.wait(self._how, deadline, self.path)
        self._temporary = name
        stack.callback(self._remove_temporary)

    def _remove_temporary(self) -> None:
        if self._temporary is not None and self._pid == os.getpid() and self._names(self._temporary, self._new):
            os.unlink(self._temporary, dir_fd=self._directory_fd)

    def _open_new(self, stack: ExitStack, old: _Locked) -> None:
        """A new file beside the one that is there: without a name where the file system has such."""
        if old.stat.st_nlink > 1 and self._names(self._create, old):
            os.unlink(self._create, dir_fd=self._directory_fd)  # a kill between link and unlink left this
        else:
            self._unlink_dead_claim()
        try:
            self._keep(stack, self._make_nameless(), None, None)
        except OSError as e:
            if e.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
                raise
            self._unlink_stale()
            self._keep(stack, self._make(self._spare, 0o600), self._spare, None)

    def _unlink_dead_claim(self) -> None:
        """One of somebody who was killed when the file had appeared; who lives and has it, or wants it, minds it."""
        from contextlib import ExitStack

        try:
            if not stat.S_ISREG(os.stat(self._create, dir_fd=self._directory_fd, follow_symlinks=False).st_mode):
                return
            fd = os.open(self._create, _FLAGS, dir_fd=self._directory_fd)
        except OSError:
            return  # there is none, as a rule; or it is another user's
        with ExitStack() as stack:
            claim = _Locked(stack, fd)
            claim.lock = RangeLock(fd, arena=self._how[0])
            if claim.lock.acquire(blocking=False):
                claim.stat = os.fstat(fd)
                if self._names(self._create, claim):
                    os.unlink(self._create, dir_fd=self._directory_fd)

    def _make_nameless(self) -> int:
        flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
        try:
            return os.open(".", flags, 0o600, dir_fd=self._directory_fd)
        except PermissionError as e:
            e.strerror = _CLOSED_DIRECTORY
            raise

    def _unlink_stale(self) -> None:
        """Only who holds the lock of the path uses that name, and that is this thread."""
        try:
            os.unlink(self._spare, dir_fd=self._directory_fd)
        except FileNotFoundError:
            return

    # ---- after it ----------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Puts what was written in its place."""
        assert self._stack is not None
        try:
            self._file.close()
            if self._old is None:
                self._put_in_no_place(self._stack)
            else:
                self._put_in_place_of(self._old)
            self._sync_directory()
        except OSError as e:
            self._tell_directory(e)
            raise

    def end(self) -> None:
        """Gives everything back, and removes what is not in its place."""
        if self._stack is not None:
            self._stack.close()

    def _close_file(self) -> None:
        from contextlib import suppress

        if self._pid != os.getpid() and not self._file.closed:  # forked: what the buffer has is the parent's to write
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(null, self._file.fileno(), inheritable=False)
            os.close(null)
        with suppress(OSError, ValueError):  # no room for it, or detached: nobody will see what was written here
            self._file.close()

    def _put_in_place_of(self, old: _Locked) -> None:
        directory = self._directory_fd
        _copy_attributes(old, self._new.fd)
        os.fsync(self._new.fd)
        if not self._names(self._name, old):
            self._complain()
        if self._temporary is None:
            self._temporary = self._spare
            self._unlink_stale()
            source = f"/proc/self/fd/{self._new.fd}"
            os.link(source, self._spare, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=True)
        os.rename(self._temporary, self._name, src_dir_fd=directory, dst_dir_fd=directory)
        self._temporary = None

    def _put_in_no_place(self, stack: ExitStack) -> None:
        os.fsync(self._new.fd)
        directory = self._directory_fd
        while True:
            try:
                os.link(self._create, self._name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
                os.unlink(self._create, dir_fd=directory)
                return
            except FileExistsError:
                made = self._lock_existing(stack, self._deadline())
                if made is None:
                    continue
                if made.stat.st_size > 0:
                    self._complain()
                self._put_in_place_of(made)  # somebody made it to lock it, and wrote nothing
                return
            except OSError as e:
                if e.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                if self._exists():
                    self._complain()
                os.rename(self._create, self._name, src_dir_fd=directory, dst_dir_fd=directory)
                return

    def _complain(self) -> NoReturn:
        if not self._exists():
            raise FileNotFoundError(
                errno.ENOENT, "somebody who did not hold its lock deleted the file during its update", self.path
            )
        raise FileExistsError(
            errno.EEXIST,
            "somebody who did not hold its lock made or replaced the file during its update; it was left as it is",
            self.path,
        )

    def _sync_directory(self) -> None:
        if not self._readable:
            os.sync()
            return
        try:
            os.fsync(self._directory_fd)
        except OSError as e:
            if e.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # file systems whose directories cannot be synced
                raise


def _hidden(name: str, purpose: str, longest: int) -> str:
    """The name beside `name` for that purpose: always the same."""
    hidden = f".{name}.syncx-{purpose}"
    if len(os.fsencode(hidden)) <= longest:
        return hidden
    from hashlib import sha256

    return f".{sha256(os.fsencode(name)).hexdigest()[:32]}.syncx-{purpose}"


def _copy_attributes(old: _Locked, fd: int) -> None:
    """Owner, access and extended attributes of the old file, as far as this process may set them."""
    now, new = os.fstat(old.fd), os.fstat(fd)
    mode = stat.S_IMODE(now.st_mode)
    if (now.st_uid, now.st_gid) != (new.st_uid, new.st_gid) and not _chown(fd, now.st_uid, now.st_gid):
        mode &= ~(stat.S_ISUID | stat.S_ISGID)
        if now.st_gid != new.st_gid and not _chown(fd, -1, now.st_gid):
            mode &= ~0o070 | (mode & 0o007) << 3  # another group gets no more than everybody
    _copy_extended_attributes(old.fd, fd)
    os.fchmod(fd, mode)


def _chown(fd: int, user: int, group: int) -> bool:
    try:
        os.fchown(fd, user, group)
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.EINVAL, errno.EOPNOTSUPP):
            raise
        return False
    return True


def _copy_extended_attributes(old: int, new: int) -> None:
    def names(fd: int) -> set[str]:
        try:
            return {name for name in os.listxattr(fd) if name.startswith(_ATTRIBUTES)}
        except OSError as e:
            if e.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            return set()

    wanted, there = names(old), names(new)
    for name in sorted(wanted | there):
        try:
            if name in wanted:
                os.setxattr(new, name, os.getxattr(old, name))
            else:
                os.removexattr(new, name)  # inherited from the directory
        except OSError as e:
            if e.errno not in (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL, errno.ENODATA):
                raise
