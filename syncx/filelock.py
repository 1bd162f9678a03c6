"""`RangeLock` and `FileLock`: byte ranges of files, and whole files, locked for one thread or many readers."""

from __future__ import annotations

import errno
import os
import stat
import sys
from operator import index

from . import _core
from .arena import default_arena
from .handle import Locking, told_of_deadlock

TYPE_CHECKING = False
if TYPE_CHECKING:  # see arena.py
    from collections.abc import Callable
    from typing import Any, BinaryIO, Literal, SupportsIndex, TypeAlias

    from .arena import Arena
    from .handle import OnDeadlock
    from .objects import Range

    Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
    Style: TypeAlias = Literal["ofd", "flock", "posix"]

__all__ = ["FileLock", "RangeLock"]

_TO_END = 2**63 - 1
_STYLES = {"ofd": _core.STYLE_OFD, "flock": _core.STYLE_FLOCK, "posix": _core.STYLE_POSIX}
_SYSTEMS = {
    0x6969: "nfs",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x517B: "smb",
    0x65735546: "fuse",
    0x01021997: "9p",
    0x00C36400: "ceph",
    0x0BD00BD0: "lustre",
    0x01161970: "gfs2",
    0x7461636F: "ocfs2",
    0x5346414F: "afs",
    0x6B414653: "kafs",
    0x73757245: "coda",
    0x786F4256: "vboxsf",
}
_told: set[str] = set()


def last_byte(start: SupportsIndex, length: SupportsIndex) -> tuple[int, int]:
    """First and last byte of a range given by its start and length, or the exception that says what is wrong."""
    for name, value in (("start", start), ("length", length)):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"{name} must be an int, a number of bytes, not {type(value).__name__}")
    first, count = index(start), index(length)
    if first < 0 or count < 0:
        what, value = ("start", first) if first < 0 else ("length", count)
        raise ValueError(f"{what} must not be negative ({value}); a range of length 0 goes to the end of the file")
    if first > _TO_END or first + count - 1 > _TO_END:
        raise ValueError(f"a range must end below 2**63; this one has start {first} and length {count}")
    return first, _TO_END if count == 0 else first + count - 1


def length_of(first: int, last: int) -> int:
    """The length that `last_byte` was given."""
    return 0 if last == _TO_END else last - first + 1


class RangeLock(Locking, _core.BaseRangeLock):
    """A lock on a range of bytes of a file, for all threads of all processes.

        with syncx.RangeLock("accounts.bin", 128 * n, 128) as lock:
            ...

    file: a path, an open file object, or a descriptor.  A path is opened to read and write, or to read where no more
        is allowed, and made if it is not there.  Of an open file only the inode counts: it may be closed afterwards.
    start: the first byte, from 0; it may lie beyond the end of the file.
    length: how many bytes; 0: to the end of the file, however far it grows.
    shared: True: beside other shared locks; False: alone.
    timeout: seconds a plain `with` waits before it raises `Timeout`; None waits for ever.
    reentrant: True: the thread that holds it may take it again, and releases as often.
    style: "ofd": a lock of the open file description, the kernel's kind for programs with threads; it excludes POSIX
        record locks (fcntl, lockf, sqlite3) and others of its own kind.  "posix": a POSIX record lock, which the
        process owns: any close of the file anywhere in the process drops it.  "flock": flock(2), whole files and
        directories only; it excludes other users of flock(2).
    create: False: raise FileNotFoundError instead of making a file.
    inherit: True: processes forked while it is held hold it together with their parent, until each has released it or
        ended.  False: a forked child holds nothing, and does not keep its parent's lock alive.
    arena: where the waiters meet; None is the default one.  Users of different arenas exclude each other as well; but
        between them there is no order.
    deadlock, priority: as for `Mutex`.

    Raises FileNotFoundError for a missing directory; PermissionError where the file may not be opened;
    IsADirectoryError; ValueError for what has no bytes to lock (a FIFO, a socket, a device), a negative start or
    length, a range that ends beyond 2**63.

    `with` yields the lock.  Exclusion is between threads, of this process and of others: also through one object, and
    through several.  Only the thread that holds it releases it (NotOwner).  Not reentrant unless asked: its holder's
    untimed acquire raises DeadlockError.  When a process is killed the kernel frees its ranges, and whoever waits for
    them is woken.  Those who wait are served in the order in which they came, as far as their ranges overlap;
    newcomers overtake them for a millisecond or two.  Waiting gives up the GIL, sleeps (in the kernel where another
    program is in the way; a timed wait looks again every 0.1 to 100 ms then) and can be interrupted by signal handlers
    that raise.  After each acquire by path it is checked that the path still names the locked file; if it was replaced,
    the file that it names now is locked instead.

    See fcntl(2), "Open file description locks"; flock(2).  The algorithm is that of `syncx/_core/queue.c`.
    """

    __slots__ = ("_identity", "path", "style")

    path: str | None
    """Where the file was found, absolute; None: it was given by descriptor."""

    style: Style
    """Which of the kernel's locks it takes."""

    _deadlock = (
        "this thread holds {what!r} already, or another range of the file that is in the way, and would wait for "
        "itself for ever; reentrant=True is for what is taken twice"
    )

    def __init__(
        self,
        file: Path | int | BinaryIO | Any,
        start: int = 0,
        length: int = 0,
        *,
        shared: bool = False,
        timeout: float | None = None,
        reentrant: bool = False,
        style: Style = "ofd",
        create: bool = True,
        inherit: bool = False,
        arena: Arena | None = None,
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> None:
        first, last = last_byte(start, length)
        if style not in _STYLES:
            raise ValueError(f'style must be "ofd", "flock" or "posix", not {style!r}')
        if style == "flock" and (first, last) != (0, _TO_END):
            raise ValueError('style="flock" locks whole files only: leave start and length away')
        for name, flag in (("shared", shared), ("reentrant", reentrant), ("create", create), ("inherit", inherit)):
            if flag is not True and flag is not False:
                raise TypeError(f"{name} must be True or False, not {flag!r}")
        if inherit and style == "posix":
            raise ValueError('style="posix" locks belong to one process, no child inherits them: leave inherit away')
        self._configure(timeout, deadlock, priority)
        self._identity: tuple[int, int] | None = None
        self.style = style
        self.path, fd = _path_or_descriptor(file)
        self._open_file(
            default_arena() if arena is None else arena,
            None if self.path is None else os.fsencode(self.path),
            fd,
            first,
            last,
            shared,
            reentrant,
            _STYLES[style],
            create,
            inherit,
        )
        system = self.filesystem
        if system is not None:
            _tell_once(system, self)

    def _beside(self: RangeLock, first: int, last: int, shared: bool) -> RangeLock:
        """Another range of the same file; in all else like this one."""
        other = RangeLock.__new__(RangeLock)
        other._identity, other.style, other.path = None, self.style, self.path
        other._open_beside(self, first, last, shared)
        return other

    # ---- what it is -------------------------------------------------------------------------------------------------
    @property
    def length(self) -> int:
        """How many bytes; 0: to the end of the file, however far."""
        return length_of(self.start, self._last)

    @property
    def ranges(self) -> tuple[Range, ...]:
        """What this thread holds through this object now, by first bytes; neighbours of one mode are one."""
        from .objects import Range

        merged: list[tuple[int, int, bool]] = []
        for first, last, shared in sorted(self._ranges()):
            if merged and merged[-1][2] == shared and merged[-1][1] + 1 == first:
                first = merged.pop()[0]  # an upgrade or a downgrade made them alike
            merged.append((first, last, shared))
        return tuple(Range(first, length_of(first, last), shared) for first, last, shared in merged)

    @property
    def filesystem(self) -> str | None:
        """The name of a file system that involves other machines or programs ("nfs", "cifs", "fuse"…); None: local.

        Whether such a one locks between machines depends on the server and on how it was mounted.  Between the
        processes of this machine the locks work as on any other.
        """
        number = self._facts()[3]
        return _SYSTEMS.get(number, hex(number)) if number else None

    # ---- more and less of it ----------------------------------------------------------------------------------------
    def lock_range(
        self,
        start: int,
        length: int = 0,
        *,
        shared: bool | None = None,
        blocking: bool = True,
        timeout: float | None = None,
        deadlock: OnDeadlock | None = None,
        priority: int | None = None,
    ) -> bool:
        """Take one more range under the hold that this thread has, or change the mode of a part of it.

        start, length: bytes, as for the lock itself.
        shared: None: as the lock.
        blocking, timeout, deadlock, priority: as for `acquire`.

        Returns True when it is held, False when it was not to be had in time; what was held before is held still.
        Ranges that touch become one.  The whole is given back by `release`.  Raises NotOwner if this thread does not
        hold the lock; DeadlockError if it holds a conflicting range through another object, or was chosen to end a
        deadlock; ValueError for
        style="flock", whose locks have no parts.
        """
        first, last = self._part(start, length)
        mode = self.shared if shared is None else bool(shared)
        return self._add(first, last, mode, blocking, timeout, deadlock, priority)

    def unlock_range(self, start: int, length: int = 0) -> None:
        """Give a part of what is held back: the rest stays, in two pieces where the part lay in the middle.

        start, length: bytes, as for the lock itself; what of it is not held is of no matter.

        What was written to `file` is flushed first.  Raises NotOwner if this thread does not hold the lock; ValueError
        for style="flock".
        """
        self._remove(*self._part(start, length))

    def _part(self, start: int, length: int) -> tuple[int, int]:
        if self.style == "flock":
            raise ValueError('style="flock" locks whole files only: there are no parts to lock or to unlock')
        return last_byte(start, length)

    # ---- the file ---------------------------------------------------------------------------------------------------
    @property
    def file(self) -> BinaryIO:
        """The locked file, open in binary to read and write (to read, where no more is allowed).

        One for each lock object, made when it is first asked for; closed with the lock.  Every hold begins at position
        0 with empty buffers, and what was written is flushed before the lock is given back.
        """
        device, inode, writable, _ = self._facts()
        if self._file is None or self._file.closed or self._identity != (device, inode):
            descriptor: int | str = self.fileno() if self.style == "posix" else f"/proc/self/fd/{self.fileno()}"
            old, self._file = self._file, None
            if old is not None:
                old.close()
            mode = "r+b" if writable else "rb"
            self._file = open(descriptor, mode, closefd=self.style != "posix")  # noqa: SIM115  it lives as long as we
            self._identity = device, inode
            _open_files().add(self)
        return self._file  # type: ignore[no-any-return]

    def _rewind(self) -> None:
        if self._file is None or self._file.closed or self._identity != self._facts()[:2]:
            self._file = None
        else:
            self._file.seek(0, os.SEEK_END)  # which empties the buffer; within it a seek only moves
            self._file.seek(0)

    def _flush(self) -> None:
        if self._file is not None and not self._file.closed:
            try:
                self._file.flush()
            except BaseException:
                self._forget_file()  # or the next hold would begin with what this one could not write
                raise

    def _forget_file(self) -> None:
        """Closes it without writing what is in its buffers."""
        file, self._file = self._file, None
        if file is not None:
            file.raw.close()

    def close(self) -> None:
        """Give the lock object and its file up; using it afterwards raises ValueError.

        RuntimeError while a thread of this process holds it or waits for it.  Closing twice is fine.
        """
        super().close()
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def append(
        self,
        record: bytes | str,
        *,
        end: bytes = b"\n",
        fsync: bool = False,
        deadlock: OnDeadlock | None = None,
        priority: int | None = None,
    ) -> int:
        """Write a record and `end` at the end of the file, and return where it begins.

        record: bytes, or a str, which is written as UTF-8; `end` must not occur in it.
        end: one byte or more.
        fsync: True: return when it is on the disk.
        deadlock, priority: as for `acquire`.

        Takes the lock, exclusively, unless this thread has it.  When it returns the record is there, once and whole.
        Bytes after the last `end` are what a writer left that was killed, or found the disk full: they are cut off
        first, and a line with them goes to the logger "syncx".  So the file must be of such records only.

        Raises ValueError for a record that has `end` in it, or a lock that does not cover the whole file, or is held
        shared; OSError (ENOSPC…) if it could not be written: then nothing of it is there.
        """
        from .append import append

        return append(self, record, end, fsync, deadlock, priority)

    # ---- the frame --------------------------------------------------------------------------------------------------
    def _title(self) -> str:
        kind = f"{type(self).__module__.partition('.')[0]}.{type(self).__qualname__}"
        where = "" if getattr(self, "path", None) is None else f" {self.path!r}"
        part = "" if (self.start, self._last) == (0, _TO_END) else f" [{self.start}:{self._end()}]"
        return kind + where + part

    def _end(self) -> str:
        return "" if self._last == _TO_END else str(self._last + 1)

    def __repr__(self) -> str:
        if self.arena is None:
            return f"<{self._title()} never opened>"
        if self.closed:
            return f"<{self._title()} closed>"
        held = self.ranges
        if self.held:
            mode = "shared" if held and all(r.shared for r in held) else "exclusive"
            return f"<{self._title()} locked by this thread, {mode}{told_of_deadlock(self)}>"
        state = f"{'locked' if self.locked() else 'unlocked'}{', shared' if self.shared else ''}"
        return f"<{self._title()} {state}{told_of_deadlock(self)}>"

    def __reduce__(self) -> tuple[object, ...]:
        if self.path is None:
            raise TypeError(f"{self!r} was given a descriptor, which means nothing in another process: give it a path")
        first, last, options = self.start, self._last, self._options()
        return _reopen, (type(self), self.path, first, length_of(first, last), options)

    def _options(self) -> dict[str, Any]:
        return {
            "shared": self.shared,
            "timeout": self.timeout,
            "reentrant": self.reentrant,
            "style": self.style,
            "create": self.create,
            "inherit": self.inherit,
            "arena": self.arena,
            "deadlock": self._on_deadlock[0],
            "priority": self.priority,
        }

    def _os_error(self, number: int) -> Exception:
        """What an error of the file means for a lock."""
        path = getattr(self, "path", None)
        where = "the file" if path is None else path
        if number == errno.ESPIPE:
            try:
                mode = 0 if path is None else os.stat(path).st_mode
            except OSError:
                mode = 0
            return ValueError(f"{_what_is(mode)} has no bytes to lock; give a regular file ({where})")
        if number == errno.EISDIR:
            return IsADirectoryError(number, 'a directory has no bytes to lock; only style="flock" locks one', where)
        if number == errno.EBADF and self.arena is not None and not self._facts()[2]:
            return PermissionError(
                errno.EACCES,
                "an exclusive lock needs a file that may be written, and this one may only be read; shared=True and "
                'style="flock" do without',
                where,
            )
        if number == errno.EBADF:
            return ValueError(f"the descriptor of {where} is not open (any more)")
        if number == errno.EBUSY and self.style == "posix":
            return ValueError(
                f'this process has locks of style="posix" on {where} in another arena; the process as a whole owns '
                "such locks, so all of them on one file must be of one arena"
            )
        if number == errno.ENOLCK:
            return OSError(number, "the kernel, or the server of the file system, has no room for more locks", where)
        if number == errno.ENOENT and path is not None and not os.path.isdir(os.path.dirname(path)):
            return FileNotFoundError(number, "there is no such directory to lock a file in", path)
        return OSError(number, os.strerror(number), where)


_core.own_methods(RangeLock)


@_core.own_methods
class FileLock(RangeLock):
    """A lock on a whole file, however far it grows.

        with syncx.FileLock("state.json") as lock:
            state = json.load(lock.file)

    The arguments, and everything else, are those of `RangeLock`.
    """

    __slots__ = ()

    def __init__(
        self,
        path: Path | int | BinaryIO | Any,
        *,
        shared: bool = False,
        timeout: float | None = None,
        reentrant: bool = False,
        style: Style = "ofd",
        create: bool = True,
        inherit: bool = False,
        arena: Arena | None = None,
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> None:
        super().__init__(
            path,
            shared=shared,
            timeout=timeout,
            reentrant=reentrant,
            style=style,
            create=create,
            inherit=inherit,
            arena=arena,
            deadlock=deadlock,
            priority=priority,
        )


_files: Any = None


def _open_files() -> Any:
    """The locks whose files are open.  A forked child has its parent's buffers, and shares its position: it forgets
    them, so that what the parent wrote is not written twice, and opens the file anew when it is asked for."""
    global _files
    if _files is None:
        from weakref import WeakSet

        _files = WeakSet()
        os.register_at_fork(after_in_child=_forget_files)
    return _files


def _forget_files() -> None:
    for lock in list(_files):
        lock._forget_file()


def _path_or_descriptor(file: object) -> tuple[str | None, int]:
    if isinstance(file, bool):
        raise TypeError("file must be a path, an open file or a descriptor, not a bool")
    if isinstance(file, int):
        descriptor = file
    elif isinstance(file, (str, bytes)) or hasattr(file, "__fspath__"):
        path = os.fsdecode(file)
        if not path:
            raise ValueError("the path of a file to lock must not be empty")
        if "\0" in path:
            raise ValueError(f"a path cannot hold a NUL character: {path!r}")
        return os.path.abspath(path), -1
    else:
        fileno: Callable[[], int] | None = getattr(file, "fileno", None)
        if fileno is None:
            raise TypeError(f"file must be a path, an open file or a descriptor, not {type(file).__name__}")
        descriptor = fileno()  # a closed file says so
        if isinstance(descriptor, bool) or not isinstance(descriptor, int):
            raise TypeError(f"fileno() of the file must return an int, not {type(descriptor).__name__}")
    if not 0 <= descriptor < 2**31:
        raise ValueError(f"a descriptor is not negative, and small; this is {descriptor}")
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        raise ValueError(f"the descriptor {descriptor} is not open (any more)") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ValueError(f"{_what_is(mode)} has no bytes to lock; give a regular file (the descriptor {descriptor})")
    return None, descriptor


def _what_is(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode), "such a file")


def _tell_once(system: str, lock: RangeLock) -> None:
    """One line a process for each such file system; see `report_owner_death` on the import of logging."""
    if system in _told:
        return
    _told.add(system)
    get_logger = getattr(sys.modules.get("logging"), "getLogger", None)
    if get_logger is not None:
        get_logger("syncx").warning(
            "%s lies on a file system of the kind %s: whether its locks reach other machines depends on how it is "
            "mounted, and on the server",
            lock.path or "a locked file",
            system,
        )


def _reopen(cls: type[RangeLock], path: str, start: int, length: int, options: dict[str, Any]) -> RangeLock:
    """What a pickled lock unpickles to: another one on the same path, held by nobody."""
    return cls(path, **options) if issubclass(cls, FileLock) else cls(path, start, length, **options)
