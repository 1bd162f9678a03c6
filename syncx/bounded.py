"""`BoundedSemaphore` and `BinarySemaphore`: permits that belong to a process, and come back when it dies."""

from __future__ import annotations

import os

from . import _core
from .handle import UNSET, Locking, Shared, checked_number

TYPE_CHECKING = False
if TYPE_CHECKING:  # see arena.py
    from typing import Any, TypeVar

    from .arena import Arena
    from .handle import Create, OnDeadlock
    from .objects import Holder

    B = TypeVar("B", bound="BoundedSemaphore")
    Y = TypeVar("Y", bound="BinarySemaphore")

__all__ = ["BinarySemaphore", "BoundedSemaphore"]


class _Permits(Shared, Locking, _core.BasePermits):
    """What the two share."""

    __slots__ = ("name",)
    _kind = _core.KIND_PERMITS

    MAX_VALUE = _core.MAX_PERMITS
    """The most permits that a semaphore can have: 262,144."""

    @property
    def capacity(self) -> int:
        """How many permits there are: the value that the semaphore was made with."""
        return self._parameter

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Who holds the permits: one `Holder` (pid, tid) for each.  tid is 0 when the thread that took it has ended."""
        from .objects import Holder

        return tuple(Holder(pid, tid) for pid, tid in self._holders())

    def _options(self) -> tuple[Any, ...]:
        return self.timeout, *self._on_deadlock

    def _set_options(self, timeout: float | None = None, deadlock: OnDeadlock | None = None, priority: int = 0) -> None:
        self._configure(timeout, deadlock, priority)

    def _state(self) -> str:
        holders = self._holders()
        capacity = self.capacity
        if not holders:
            return f"unlocked, {capacity} free of {capacity}"
        pids = sorted({pid for pid, _ in holders})
        who = ", ".join("this process" if pid == os.getpid() else str(pid) for pid in pids[:4])
        more = f" and {len(pids) - 4} more" if len(pids) > 4 else ""
        free = capacity - len(holders)
        return f"{'locked' if free == 0 else 'unlocked'}, {free} free of {capacity}, held by {who}{more}"


@_core.own_methods
class BoundedSemaphore(_Permits):
    """A semaphore whose permits have owners: at most `value` are held at a time, and a dead process holds none.

    value: how many permits, 0 to `MAX_VALUE`.  Left away: 1 in a new semaphore, and whatever is there in one that
        exists; any other number must be the one it was made with, or it is a ValueError that names both.
    name, arena, create: as for `Mutex`.
    timeout: seconds a plain `with` waits before it raises `Timeout`; None waits for ever.
    deadlock, priority: as for `Mutex`.

    `with semaphore:` takes one permit and yields the semaphore.  A permit belongs to the process that took it, and the
    thread is recorded: any thread of the process may release it, and it stays with the process when the thread ends.
    When the process ends in whatever way, its permits are free at once, for those who wait too; whoever gets such a
    permit writes a line to the logger "syncx" when the hold ends.  A forked child holds nothing.  Releasing more than
    the process holds is a ValueError.

    `acquire(n=3)` takes three permits or none, without taking fewer in between that others could miss.  Nothing is kept
    back for those who wait for several: as long as others take single permits as they come free, they may wait.
    Waiting gives up the GIL, sleeps in the kernel and can be interrupted by signal handlers that raise.  There is no
    queue: newcomers may overtake.

    The algorithm is that of `syncx/_core/permits.c`.
    """

    __slots__ = ()

    def __init__(
        self,
        value: int = UNSET,
        *,
        name: str | None = None,
        arena: Arena | None = None,
        create: Create = True,
        timeout: float | None = None,
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> None:
        parameter = checked_number(value, "value", 0, self.MAX_VALUE)
        self._set_options(timeout, deadlock, priority)
        self._open_named(name, arena, create, parameter)

    @classmethod
    def at(
        cls: type[B],
        buffer: Any,
        offset: int = 0,
        *,
        value: int = UNSET,
        create: Create = True,
        arena: Arena | None = None,
        timeout: float | None = None,
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> B:
        """A semaphore in memory that the caller shares between processes: `size(value)` bytes of it.

        The other arguments and what is raised are those of `Mutex.at`.  When the arena was re-created (a reboot) all
        permits are free.
        """
        parameter = checked_number(value, "value", 0, cls.MAX_VALUE)
        self = cls.__new__(cls)
        self._set_options(timeout, deadlock, priority)
        self._open_in(buffer, offset, arena, create, parameter)
        return self

    @staticmethod
    def size(value: int) -> int:
        """Bytes that a semaphore with so many permits takes in the user's memory: 256, and 16 for each permit."""
        checked_number(value, "value", 0, _core.MAX_PERMITS)
        return _core.size_of(_core.KIND_PERMITS, value)


@_core.own_methods
class BinarySemaphore(_Permits):
    """A BoundedSemaphore with one permit.

    Unlike a Mutex it may be released by any thread of the process that has it, and stays with that process when the
    thread that took it ends.  The arguments are those of `Mutex`, but for `on_owner_death`.
    """

    __slots__ = ()

    SIZE = _core.size_of(_core.KIND_PERMITS, 1)
    """Bytes that it takes in the user's memory."""

    def __init__(
        self,
        name: str | None = None,
        *,
        arena: Arena | None = None,
        create: Create = True,
        timeout: float | None = None,
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> None:
        self._set_options(timeout, deadlock, priority)
        self._open_named(name, arena, create, 1)

    @classmethod
    def at(
        cls: type[Y],
        buffer: Any,
        offset: int = 0,
        *,
        create: Create = True,
        arena: Arena | None = None,
        timeout: float | None = None,
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> Y:
        """A semaphore in memory that the caller shares between processes: `SIZE` bytes; otherwise as `Mutex.at`."""
        self = cls.__new__(cls)
        self._set_options(timeout, deadlock, priority)
        self._open_in(buffer, offset, arena, create, 1)
        return self
