"""`Latch`: a count that goes down to 0, and whoever waits for that."""

from __future__ import annotations

from . import _core
from .handle import UNSET, Shared, checked_number

TYPE_CHECKING = False
if TYPE_CHECKING:  # see arena.py
    from typing import Any, TypeVar

    from .arena import Arena
    from .handle import Create

    L = TypeVar("L", bound="Latch")

__all__ = ["Latch"]


@_core.own_methods
class Latch(Shared, _core.BaseLatch):
    """A count that goes down to 0 once, and opens then for everybody who waits.

    count: how far it is at first, from 0 (open from the start) to `MAX_VALUE`.  Left away: 1 in a new latch, and
        whatever is there in one that exists; any other number must be the one it was made with, or it is a ValueError
        that names both.
    name: an object of that name in the arena, shared by all who open it; it lives until it is unlinked.  None: an
        anonymous one, shared with forked children and with whoever unpickles it, gone when the last process that knows
        it has ended.  1 to 255 bytes of UTF-8, printable, no slash at either end.
    arena: a `syncx.Arena`; None is the default one.
    create: True opens or makes the name; False raises FileNotFoundError when it is not there; "exclusive" raises
        FileExistsError when it is.

    Any thread of any process may count down, a forked child too, and any number may wait.  Nobody owns a part of the
    count: what a process has counted down stays so when it dies, and what it did not, nobody does for it (a `Barrier`
    notices the death of a party).  A waiter that is killed keeps nobody else asleep; if the process that counts down
    to 0 is killed just then, the others go on within 0.1 s.  Waiting gives up the GIL and can be interrupted by signal
    handlers that raise.

    The algorithm is that of `syncx/_core/latch.c`; the interface is that of `std::latch` of C++20.
    """

    __slots__ = ("name",)
    _kind = _core.KIND_LATCH

    SIZE = _core.size_of(_core.KIND_LATCH, 0)
    """Bytes that a latch takes in the user's memory."""

    MAX_VALUE = _core.MAX_UNITS
    """The highest count that a latch can have: 2,147,483,647."""

    def __init__(
        self,
        count: int = UNSET,
        *,
        name: str | None = None,
        arena: Arena | None = None,
        create: Create = True,
    ) -> None:
        self._open_named(name, arena, create, checked_number(count, "count", 0, self.MAX_VALUE))

    @classmethod
    def at(
        cls: type[L],
        buffer: Any,
        offset: int = 0,
        *,
        count: int = UNSET,
        create: Create = True,
        arena: Arena | None = None,
    ) -> L:
        """A latch in memory that the caller shares between processes.

        buffer: writable shared memory: an `mmap`, a `SharedMemory.buf`, a memoryview of either.  It stays exported
            until the latch is closed or dropped, so it cannot be released under it.
        offset: bytes from its start; the latch takes `SIZE` bytes there and the address must be a multiple of
            `ALIGNMENT`.
        count: as for a new one, or one that exists.
        create: True makes a latch where the memory is zero and opens one that is there; False only opens; "exclusive"
            only makes.
        arena: where those who wait are registered.  The memory remembers that arena: another one is refused.  When
            that arena was re-created (a reboot) the count stays as it is.

        Raises ValueError for memory that is too small, misaligned, neither zero nor a latch, or (create=False) zero,
        and for another count; TypeError for read-only memory; FileExistsError with create="exclusive"; ArenaError for
        another arena's latch.
        """
        parameter = checked_number(count, "count", 0, cls.MAX_VALUE)
        self = cls.__new__(cls)
        self._open_in(buffer, offset, arena, create, parameter)
        return self

    def _state(self) -> str:
        count = self.count
        return f"count {count}" if count else "open"
