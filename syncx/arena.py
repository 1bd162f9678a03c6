"""Arenas: the shared-memory segments in which locks live."""

from __future__ import annotations

import os
import stat
import weakref

from . import _core
from .errors import Gone

TYPE_CHECKING = False
if TYPE_CHECKING:  # not typing.TYPE_CHECKING: importing typing takes longer than all of syncx
    from collections.abc import Iterator

    from .objects import ObjectInfo

__all__ = ["Arena", "default_arena"]

DIRECTORY = "/dev/shm"
DEFAULT_NAME = "default"


def name_to_bytes(name: object, what: str = "name") -> bytes:
    """UTF-8 of an object's or arena's name, or the exception that says what is wrong with it."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be a str, not {type(name).__name__}")
    if not name:
        raise ValueError(f"{what} must not be empty; leave it out for an anonymous object")
    try:
        data = name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} {name!r} cannot be encoded as UTF-8") from None
    if len(data) > _core.MAX_NAME:
        raise ValueError(f"{what} takes at most {_core.MAX_NAME} bytes of UTF-8, and this has {len(data)}")
    if not name.isprintable():
        raise ValueError(f"{what} {name!r} has characters that cannot be printed")
    if name[0] == "/" or name[-1] == "/":
        raise ValueError(f"{what} {name!r} must not begin or end with a slash; use {name.strip('/') or 'a word'!r}")
    return data


def path_of(name_or_path: str | os.PathLike[str]) -> tuple[str, bool]:
    """The file of an arena, and whether it was given by name."""
    text = os.fspath(name_or_path)
    if not isinstance(text, str):
        raise TypeError(f"an arena's name or path must be a str or a path, not {type(text).__name__}")
    if "\0" in text:
        raise ValueError(f"an arena's name or path cannot hold a NUL character: {text!r}")
    if "/" in text:
        if text.endswith("/"):
            raise ValueError(f"the arena's path {text!r} is a directory; name a file in it")
        return os.path.realpath(os.path.dirname(text)) + "/" + os.path.basename(text), False
    name_to_bytes(text, "an arena's name")
    return f"{DIRECTORY}/syncx-{os.geteuid()}-{text}", True


class Arena(_core.BaseArena):
    """A shared-memory segment: the home of locks and the register of the threads that use them.

    name_or_path: a word names an arena of the calling user, a file in /dev/shm that nobody else may open and that
        goes by itself when the last process leaves and no named object is in it.  Anything with a slash is the path of
        a file, on any file system that can be mapped shared; it stays until it is unlinked.
    mode: permissions of the file if it is made now; the umask does not apply.  0o660 shares a path with a group.
    create: True opens or makes it; False raises FileNotFoundError if it is not there.

    Raises ArenaError for a file that is not an arena, damaged or of another version; PermissionError for one that
    belongs to somebody else; OSError (ENOSPC) where the file system is full.

    Creation is atomic: other processes see the whole arena or none.  Whoever may write the file is trusted; there is
    no defence against a process that scribbles over it or truncates it while it is in use.  A forked child goes on
    using its parent's arenas, as a participant of its own.  Usable as a context manager, which closes it.
    """

    __slots__ = ("mode", "name", "path")

    name: str
    path: str
    mode: int

    def __init__(self, name_or_path: str | os.PathLike[str], *, mode: int = 0o600, create: bool = True) -> None:
        path, named = path_of(name_or_path)
        if not isinstance(mode, int) or isinstance(mode, bool):
            raise TypeError(f"mode must be an int such as 0o600, not {type(mode).__name__}")
        if not 0 <= mode <= 0o777 or mode & 0o600 != 0o600:
            raise ValueError(f"mode must lie between 0o600 and 0o777 and let the owner read and write, not {mode:#o}")
        if create not in (True, False):
            raise ValueError(f"create must be True or False, not {create!r}")
        self.path = path
        self.name = os.fspath(name_or_path) if named else path
        self.mode = mode
        self._open(path, bool(create), named, mode)

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        name = getattr(self, "name", "not opened")
        return f"<syncx.Arena {name!r}{' closed' if self.closed else ''}>"

    def __str__(self) -> str:
        return f"arena {getattr(self, 'path', '')!r}"

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (self.path, self.id)

    def objects(self) -> Iterator[ObjectInfo]:
        """What lives in the arena: nothing is locked or changed, so each row is true for a moment of its own."""
        from .objects import objects

        return objects(self)

    def unlink(self, name: str | None = None, *, force: bool = False) -> None:
        """Remove a named object, or with no name the whole arena.

        Without `force`, raises InUse while a live process holds the object or has it open (the calling process's own
        idle handles do not count), or, for the arena, while any other process is attached.  Whoever has an unlinked
        object open gets Gone at the next acquire: it is never split into two of one name.  Raises FileNotFoundError
        for an unknown name.
        """
        if name is None:
            self._unlink(force)
        else:
            try:
                self._unlink_name(name_to_bytes(name).decode(), force)
            except FileNotFoundError as e:
                e.filename = name
                raise


_by_path: weakref.WeakValueDictionary[str, Arena] = weakref.WeakValueDictionary()
_default: Arena | None = None


def _shared(path: str, name_or_path: str) -> Arena:
    """One Arena object a path, for references and the default.

    Two threads may both make one: the core attaches the process once all the same.
    """
    arena = _by_path.get(path)
    if arena is None or arena.closed or arena.retired:
        arena = _by_path[path] = Arena(name_or_path)
    return arena


def _reopen(path: str, ident: bytes) -> Arena:
    """The arena a pickle refers to, if it is still that one."""
    directory, name = f"{DIRECTORY}/syncx-{os.geteuid()}-", path
    if path.startswith(directory):
        name = path[len(directory) :]
    if not os.path.exists(path):
        raise Gone(f"the arena {path!r} of this reference is gone: everybody who used it has ended")
    arena = _shared(path, name)
    if arena.id != ident:
        raise Gone(f"the arena {path!r} was removed and made anew since this reference was pickled")
    return arena


def default_arena() -> Arena:
    """The arena of objects that name none: that of the user, or the one of the environment variable SYNCX_ARENA.

    SYNCX_ARENA is a name or a path and is read at the first use in a process.
    """
    global _default
    arena = _default
    if arena is None or arena.closed or arena.retired:
        given = os.environ.get("SYNCX_ARENA") or DEFAULT_NAME
        arena = _default = _shared(path_of(given)[0], given)
    return arena


def arena_paths() -> list[str]:
    """The files of the calling user's arenas."""
    prefix = f"syncx-{os.geteuid()}-"
    found = []
    for entry in os.scandir(DIRECTORY):
        if not entry.name.startswith(prefix):
            continue
        try:
            regular = stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode)
        except FileNotFoundError:  # gone since the directory was read
            continue
        if regular:
            found.append(entry.path)
    return sorted(found)
