"""`Semaphore`: counts of what is there to be had, between all threads of all processes."""

from __future__ import annotations

from . import _core
from .bounded import BoundedSemaphore
from .handle import UNSET, Locking, Shared, checked_number

TYPE_CHECKING = False
if TYPE_CHECKING:  # see arena.py
    from typing import Any, TypeVar

    from .arena import Arena
    from .handle import Create

    S = TypeVar("S", bound="Semaphore")

__all__ = ["Semaphore"]


@_core.own_methods
class Semaphore(Shared, Locking, _core.BaseSemaphore):
    """A count of units that nobody owns: a signal between strangers.  One adds units, another takes them.

    value: how many units there are at first, from 0 to `MAX_VALUE`.  Left away: 1 in a new semaphore, and whatever is
        there in one that exists; any other number must be the one it was made with, or it is a ValueError that names
        both.
    robust: True makes or opens a `BoundedSemaphore` instead, whose units have owners and come back when an owner dies.
    name: an object of that name in the arena, shared by all who open it; it lives until it is unlinked.  None: an
        anonymous one, shared with forked children and with whoever unpickles it, gone when the last process that knows
        it has ended.  1 to 255 bytes of UTF-8, printable, no slash at either end.
    arena: a `syncx.Arena`; None is the default one.
    create: True opens or makes the name; False raises FileNotFoundError when it is not there; "exclusive" raises
        FileExistsError when it is.
    timeout: seconds a plain `with` waits before it raises `Timeout`; None waits for ever.

    `with semaphore as s:` takes a unit, yields the semaphore, and puts the unit back.  Any thread of any process may
    release, whoever has acquired; a forked child too.  Waiting gives up the GIL and can be interrupted by signal
    handlers that raise; then nothing was taken.  Who wakes up may be overtaken by newcomers, and who asks for several
    units by those who ask for fewer.

    Nobody owns a unit, so one that a process had taken when it was killed is gone: use `BoundedSemaphore` where units
    stand for something that is held.  Otherwise a death changes nothing: a waiter that is killed takes no unit with it,
    and a wake-up that it was given reaches the next one, within 0.1 s at the latest.

    The algorithm is that of `syncx/_core/semaphore.c`; the idea is E. W. Dijkstra's, "Over de sequentialiteit van
    procesbeschrijvingen" (EWD 35, about 1962).
    """

    __slots__ = ("name",)
    _kind = _core.KIND_SEMAPHORE

    SIZE = _core.size_of(_core.KIND_SEMAPHORE, 0)
    """Bytes that a semaphore takes in the user's memory."""

    MAX_VALUE = _core.MAX_UNITS
    """The most units that a semaphore can have: 2,147,483,647."""

    def __new__(cls, value: int = UNSET, *, robust: bool = False, **options: Any) -> Any:
        """With robust=True a `BoundedSemaphore`, which is no subclass of this one."""
        if not robust:
            return super().__new__(cls)
        return BoundedSemaphore(value, **options)

    def __init__(
        self,
        value: int = UNSET,
        *,
        robust: bool = False,
        name: str | None = None,
        arena: Arena | None = None,
        create: Create = True,
        timeout: float | None = None,
    ) -> None:
        parameter = checked_number(value, "value", 0, self.MAX_VALUE)
        self._configure(timeout)
        self._open_named(name, arena, create, parameter)

    @classmethod
    def at(
        cls: type[S],
        buffer: Any,
        offset: int = 0,
        *,
        value: int = UNSET,
        create: Create = True,
        arena: Arena | None = None,
        timeout: float | None = None,
    ) -> S:
        """A semaphore in memory that the caller shares between processes.

        buffer: writable shared memory: an `mmap`, a `SharedMemory.buf`, a memoryview of either.  It stays exported
            until the semaphore is closed or dropped, so it cannot be released under it.
        offset: bytes from its start; the semaphore takes `SIZE` bytes there and the address must be a multiple of
            `ALIGNMENT`.
        value: as for a new one, or one that exists.
        create: True makes a semaphore where the memory is zero and opens one that is there; False only opens;
            "exclusive" only makes.
        arena: where those who wait are registered.  The memory remembers that arena: another one is refused.  When
            that arena was re-created (a reboot) the count stays as it is.

        Raises ValueError for memory that is too small, misaligned, neither zero nor a semaphore, or (create=False)
        zero, and for another value; TypeError for read-only memory; FileExistsError with create="exclusive";
        ArenaError for another arena's semaphore.
        """
        parameter = checked_number(value, "value", 0, cls.MAX_VALUE)
        self: S = cls.__new__(cls)
        self._configure(timeout)
        self._open_in(buffer, offset, arena, create, parameter)
        return self

    def _options(self) -> tuple[Any, ...]:
        return (self.timeout,)

    def _set_options(self, timeout: float | None = None) -> None:
        self._configure(timeout)

    def _state(self) -> str:
        return f"value {self.value}"
