"""`Mutex` and `RLock`: mutual exclusion between all threads of all processes."""

from __future__ import annotations

import os

from . import _core
from .arena import default_arena, name_to_bytes
from .errors import Timeout

TYPE_CHECKING = False
if TYPE_CHECKING:  # see arena.py
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Any, Literal, TypeAlias, TypeVar

    from .arena import Arena

    Create: TypeAlias = bool | Literal["exclusive"]
    OnOwnerDeath: TypeAlias = Literal["recover", "raise", "ignore"] | Callable[[Any], object]
    L = TypeVar("L", bound="_Base")

__all__ = ["Lock", "Mutex", "RLock"]

_CREATE: dict[object, int] = {True: _core.CREATE, False: _core.OPEN, "exclusive": _core.EXCLUSIVE}


def _create_code(create: object) -> int:
    try:
        return _CREATE[create]
    except (KeyError, TypeError):
        raise ValueError(f'create must be True, False or "exclusive", not {create!r}') from None


class _Within:
    """`with lock.within(seconds):`"""

    __slots__ = ("_lock", "_timeout")

    def __init__(self, lock: Any, timeout: float) -> None:
        self._lock = lock
        self._timeout = timeout

    def __enter__(self) -> Any:
        if not self._lock.acquire(timeout=self._timeout):
            raise Timeout(f"{self._lock!r} was not to be had within {self._timeout:g} s")
        return self._lock

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, value, traceback)


class _Base(_core.BaseMutex):
    """What Mutex and RLock share; `_recursive` is the difference."""

    __slots__ = ("name",)

    SIZE = _core.SIZE
    """Bytes that a lock takes in the user's memory."""
    ALIGNMENT = _core.ALIGNMENT
    """The lock's address must be a multiple of this many bytes."""

    _recursive = False
    name: str | None
    """None for an anonymous lock and for one in the user's memory."""

    def __init__(
        self,
        name: str | None = None,
        *,
        arena: Arena | None = None,
        create: Create = True,
        timeout: float | None = None,
        on_owner_death: OnOwnerDeath = "recover",
    ) -> None:
        self._configure(timeout, on_owner_death)
        self.name = name
        if name is None:
            if create is not True:
                raise ValueError(f"create={create!r} needs a name: an anonymous lock is always a new one")
            self._open(default_arena() if arena is None else arena, None, _core.CREATE, self._recursive)
            return
        code, data = _create_code(create), name_to_bytes(name).decode()
        try:
            self._open(default_arena() if arena is None else arena, data, code, self._recursive)
        except (FileNotFoundError, FileExistsError) as e:
            e.filename = name
            raise
        except ValueError as e:
            e.args = (f"{type(self).__name__}({name!r}): {e}",)
            raise

    @classmethod
    def at(
        cls: type[L],
        buffer: Any,
        offset: int = 0,
        *,
        create: Create = True,
        arena: Arena | None = None,
        timeout: float | None = None,
        on_owner_death: OnOwnerDeath = "recover",
    ) -> L:
        """A lock in memory that the caller shares between processes.

        buffer: writable shared memory: an `mmap`, a `SharedMemory.buf`, a memoryview of either.  It stays exported
            until the lock is closed or dropped, so it cannot be released under the lock.
        offset: bytes from its start; the lock takes `SIZE` bytes there and the address must be a multiple of
            `ALIGNMENT`.
        create: True makes a lock where the memory is zero and opens one that is there; False only opens;
            "exclusive" only makes.
        arena: where its holders are registered.  The memory remembers that arena: another one is refused, and when
            that arena was re-created (a reboot) its holder is taken for dead.

        Raises ValueError for memory that is too small, misaligned, neither zero nor a lock, or (create=False) zero;
        TypeError for read-only memory; FileExistsError with create="exclusive"; ArenaError for another arena's lock.
        """
        self = cls.__new__(cls)
        self._configure(timeout, on_owner_death)
        self.name = None
        if isinstance(offset, bool) or not isinstance(offset, int):
            raise TypeError(f"offset must be an int, not {type(offset).__name__}")
        code = _create_code(create)
        self._open_at(default_arena() if arena is None else arena, buffer, offset, code, self._recursive)
        return self

    def within(self: L, timeout: float) -> AbstractContextManager[L]:
        """A context manager that waits `timeout` seconds at most: `with lock.within(2.0):`.

        It yields the lock and raises `Timeout`, without running the body, when the time is over.
        """
        if timeout is None or isinstance(timeout, str):
            raise TypeError(f"within() takes a number of seconds, not {timeout!r}")
        if not timeout >= 0:
            raise ValueError(f"within() takes a number of seconds that is not negative, not {timeout!r}")
        return _Within(self, timeout)

    def __repr__(self) -> str:
        kind = f"{type(self).__module__.partition('.')[0]}.{type(self).__qualname__}"
        arena = self.arena
        if arena is None:
            return f"<{kind} never opened>"
        if self.name is not None:
            kind += f" {self.name!r}"
        if self.closed:
            return f"<{kind} closed>"
        holder = self.holder
        if holder is None:
            return f"<{kind} unlocked>"
        pid, tid = holder
        depth = f", depth {self.depth}" if self._recursive and self.depth else ""
        thread = f", thread {tid}" if pid != tid else ""
        return f"<{kind} locked by {'this process' if pid == os.getpid() else f'process {pid}'}{thread}{depth}>"

    def __reduce__(self) -> tuple[object, ...]:
        unit, generation = self._pin()
        kept = (self.name, self.timeout, self.on_owner_death)
        return _from_reference, (type(self), self.arena, unit, generation, *kept)


def _from_reference(
    cls: type[L],
    arena: Arena,
    unit: int,
    generation: int,
    name: str | None,
    timeout: float | None,
    on_owner_death: OnOwnerDeath,
) -> L:
    """Unpickles a reference to a lock; Gone if it is no more."""
    self = cls.__new__(cls)
    self._configure(timeout, on_owner_death)
    self.name = name
    self._open_reference(arena, unit, generation, cls._recursive)
    return self


@_core.own_methods
class Mutex(_Base):
    """A lock that one thread of one process holds at a time.

    name: an object of that name in the arena, shared by all who open it; it lives until it is unlinked.  None: an
        anonymous lock, shared with forked children and with whoever unpickles it, gone when the last process that
        knows it has ended.  1 to 255 bytes of UTF-8, printable, no slash at either end.
    arena: a `syncx.Arena`; None is the default one.
    create: True opens or makes the name; False raises FileNotFoundError when it is not there; "exclusive" raises
        FileExistsError when it is.
    timeout: seconds a plain `with` waits before it raises `Timeout`; None waits for ever.
    on_owner_death: what to do when an owner died (was killed, or its thread ended) while it held the lock.
        "recover": the next holder gets it, `owner_died` is true during that hold, and when it ends a line goes to the
        logger "syncx"; if the body of the `with` raises, the mark stays for the one after.  "raise":
        `OwnerDiedError` for everybody until somebody calls `recover()`.  "ignore": nothing is told.  A callable: it
        gets the lock, held, and repairs the data; if it raises, the lock is released and the mark stays.

    `with lock as m:` yields the lock.  Exclusion is between threads of any processes.  Not reentrant: its holder's
    untimed acquire raises DeadlockError.  Only the holding thread releases it (NotOwner otherwise); a forked child
    holds nothing.  Waiting gives up the GIL, sleeps in the kernel and can be interrupted by signal handlers that
    raise.  Newcomers may overtake, but at least once a millisecond the one woken after the longest sleep goes first.

    The algorithm is that of `syncx/_core/mutex.c`; see futex(2), and Ulrich Drepper, "Futexes Are Tricky" (2011).
    """

    __slots__ = ()


@_core.own_methods
class RLock(_Base):
    """A Mutex that its holder may acquire again, and releases as often.

    The arguments and everything else are those of `Mutex`.  `owner_died` holds until the outermost release.
    """

    __slots__ = ()
    _recursive = True


Lock = Mutex
