"""`Mutex` and `RLock`: mutual exclusion between all threads of all processes."""

from __future__ import annotations

import os

from . import _core
from .handle import Locking, Shared

TYPE_CHECKING = False
if TYPE_CHECKING:  # see arena.py
    from collections.abc import Callable
    from typing import Any, Literal, TypeAlias, TypeVar

    from .arena import Arena
    from .handle import Create, OnDeadlock

    OnOwnerDeath: TypeAlias = Literal["recover", "raise", "ignore"] | Callable[[Any], object]
    M = TypeVar("M", bound="_Base")

__all__ = ["Lock", "Mutex", "RLock"]


class _Base(Shared, Locking, _core.BaseMutex):
    """What Mutex and RLock share; `_kind` is the difference."""

    __slots__ = ("name",)

    SIZE = _core.size_of(_core.KIND_MUTEX, 0)
    """Bytes that a lock takes in the user's memory."""

    def __init__(
        self,
        name: str | None = None,
        *,
        arena: Arena | None = None,
        create: Create = True,
        timeout: float | None = None,
        on_owner_death: OnOwnerDeath = "recover",
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> None:
        self._set_options(timeout, on_owner_death, deadlock, priority)
        self._open_named(name, arena, create)

    @classmethod
    def at(
        cls: type[M],
        buffer: Any,
        offset: int = 0,
        *,
        create: Create = True,
        arena: Arena | None = None,
        timeout: float | None = None,
        on_owner_death: OnOwnerDeath = "recover",
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> M:
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
        self._set_options(timeout, on_owner_death, deadlock, priority)
        self._open_in(buffer, offset, arena, create)
        return self

    def _options(self) -> tuple[Any, ...]:
        return self.timeout, self.on_owner_death, *self._on_deadlock

    def _set_options(
        self,
        timeout: float | None = None,
        on_owner_death: OnOwnerDeath = "recover",
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> None:
        self._configure(timeout, deadlock, priority)
        self._set_policy(on_owner_death)

    def _state(self) -> str:
        holder = self.holder
        if holder is None:
            return "unlocked"
        pid, tid = holder
        depth = f", depth {self.depth}" if self._kind != _core.KIND_MUTEX and self.depth else ""
        thread = f", thread {tid}" if pid != tid else ""
        return f"locked by {'this process' if pid == os.getpid() else f'process {pid}'}{thread}{depth}"


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
    deadlock: what becomes of an untimed wait for the lock that is chosen to end a deadlock.  "raise": DeadlockError.
        "report": the whole of it goes to the logger "syncx", and the wait goes on.  "off": it is not chosen.  None:
        what `set_deadlock_default` says, "raise" as a rule.
    priority: of its waits, -100 to 100: the member of a deadlock with the lowest is chosen; of several the latest.

    `with lock as m:` yields the lock.  Exclusion is between threads of any processes.  Not reentrant: its holder's
    untimed acquire raises DeadlockError, whatever `deadlock` says.  Only the holding thread releases it (NotOwner
    otherwise); a forked child holds nothing.  Waiting gives up the GIL, sleeps in the kernel and can be interrupted by
    signal handlers that raise.  Newcomers may overtake, but at least once a millisecond the one woken after the longest
    sleep goes first.

    The algorithm is that of `syncx/_core/mutex.c`; see futex(2), and Ulrich Drepper, "Futexes Are Tricky" (2011).
    """

    __slots__ = ()
    _kind = _core.KIND_MUTEX


@_core.own_methods
class RLock(_Base):
    """A Mutex that its holder may acquire again, and releases as often.

    The arguments and everything else are those of `Mutex`.  `owner_died` holds until the outermost release.
    """

    __slots__ = ()
    _kind = _core.KIND_RLOCK
    _inside = (_core.KIND_CONDITION,)


Lock = Mutex
