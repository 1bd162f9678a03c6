"""`Event`: a flag that one sets and others wait for."""

from __future__ import annotations

from . import _core
from .handle import Shared

TYPE_CHECKING = False
if TYPE_CHECKING:  # see arena.py
    from typing import Any, TypeVar

    from .arena import Arena
    from .handle import Create

    E = TypeVar("E", bound="Event")

__all__ = ["Event"]


@_core.own_methods
class Event(Shared, _core.BaseEvent):
    """A flag that is set or unset, and that any thread of any process may wait for, set and clear.

    name: an object of that name in the arena, shared by all who open it; it lives until it is unlinked.  None: an
        anonymous event, shared with forked children and with whoever unpickles it, gone when the last process that
        knows it has ended.  1 to 255 bytes of UTF-8, printable, no slash at either end.
    arena: a `syncx.Arena`; None is the default one.
    create: True opens or makes the name; False raises FileNotFoundError when it is not there; "exclusive" raises
        FileExistsError when it is.

    A new event is unset.  `set()` wakes everybody who waits, in one system call; `set(); clear()` in succession wakes
    them too, however late they run: `wait()` returns True when the event was set since it began.  Nobody owns an
    event, so a process that is killed takes nothing with it: killed before `set()` took effect it leaves the event
    unset, killed after it everybody is awake, and no waiter's death keeps others asleep.  A forked child shares the
    event.  Waiting gives up the GIL, spins briefly, sleeps in the kernel and can be interrupted by signal handlers
    that raise.

    The algorithm is that of `syncx/_core/event.c`; see futex(2), FUTEX_WAKE_OP.
    """

    __slots__ = ("name",)
    _kind = _core.KIND_EVENT

    SIZE = _core.size_of(_core.KIND_EVENT, 0)
    """Bytes that an event takes in the user's memory."""

    def __init__(self, name: str | None = None, *, arena: Arena | None = None, create: Create = True) -> None:
        self._open_named(name, arena, create)

    @classmethod
    def at(cls: type[E], buffer: Any, offset: int = 0, *, create: Create = True, arena: Arena | None = None) -> E:
        """An event in memory that the caller shares between processes.

        buffer: writable shared memory: an `mmap`, a `SharedMemory.buf`, a memoryview of either.  It stays exported
            until the event is closed or dropped.
        offset: bytes from its start; the event takes `SIZE` bytes there and the address must be a multiple of
            `ALIGNMENT`.
        create: True makes an event where the memory is zero and opens one that is there; False only opens;
            "exclusive" only makes.
        arena: where its waiters are registered.  The memory remembers that arena: another one is refused, and when
            that arena was re-created (a reboot) the event is as it was left, set or not.

        Raises ValueError for memory that is too small, misaligned, neither zero nor an event, or (create=False) zero;
        TypeError for read-only memory; FileExistsError with create="exclusive"; ArenaError for another arena's event.
        """
        self = cls.__new__(cls)
        self._open_in(buffer, offset, arena, create)
        return self

    def _state(self) -> str:
        return "set" if _core.BaseEvent.is_set(self) else "unset"
