"""`Barrier`: parties of any processes that go on together, or learn that one of them will not come."""

from __future__ import annotations

from . import _core, errors
from .handle import UNSET, Shared, checked_number

TYPE_CHECKING = False
if TYPE_CHECKING:  # see arena.py
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from .arena import Arena
    from .handle import Create, OnDeadlock

__all__ = ["Barrier"]


class _Enrolment:
    """`with barrier.enroll():`"""

    __slots__ = ("_barrier",)

    def __init__(self, barrier: Barrier) -> None:
        self._barrier = barrier

    def __enter__(self) -> Barrier:
        return self._barrier

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._barrier._leave()


@_core.own_methods
class Barrier(Shared, _core.BaseBarrier):
    """A point where a number of threads, of any processes, wait for each other; as `threading.Barrier`.

    parties: how many `wait()` calls it takes, from 1 to `MAX_PARTIES`.  Left away, the barrier of that name is opened
        as it is; naming another number than it was made with is a ValueError.
    action: a callable without arguments that the last to come runs before it lets the others go.  It belongs to this
        handle: each process may give its own, and the one of the last to come is run.
    timeout: seconds that `wait()` waits where it is not told otherwise; None is for ever.
    name, arena, create: as of a `Mutex`.
    deadlock, priority: of `wait()` without a time limit, as of a `Mutex`: it can be part of a deadlock when all parties
        are enrolled.

    A barrier is broken by a timeout, by `abort()`, by an action that raises, and by the death of a party: a thread that
    had arrived, or was enrolled (`enroll()`), and was killed or ended.  Then all who wait get `BrokenBarrierError` at
    once, and so does whoever comes, until `reset()`.  A thread that was expected, but neither arrived nor enrolled, is
    nobody to the barrier: its death is not noticed.

    Waiting gives up the GIL, sleeps in the kernel, and can be interrupted by a signal handler that raises, which takes
    the arrival back.  A forked child is no party: it is not enrolled, and if it was forked by a signal handler inside
    `wait()`, it arrives anew, as itself.  More threads than parties may use a barrier: who comes when all places are
    taken waits for the next round.

    The algorithm is that of `syncx/_core/barrier.c`; that a round is told from the next by a parity is from Debra
    Hensgen, Raphael Finkel and Udi Manber, "Two Algorithms for Barrier Synchronization" (1988).
    """

    __slots__ = ("name",)
    _kind = _core.KIND_BARRIER

    MAX_PARTIES = _core.MAX_PARTIES
    """The most parties that a barrier may have."""

    def __init__(
        self,
        parties: int = UNSET,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        name: str | None = None,
        arena: Arena | None = None,
        create: Create = True,
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> None:
        number = checked_number(parties, "parties", 1, _core.MAX_PARTIES)
        self._set_options(timeout, action, deadlock, priority)
        if number is None and name is None:
            raise TypeError("Barrier() needs parties, an int, or the name= of a barrier that is there")
        if number is None and create is True:
            try:
                self._open_named(name, arena, False)
            except FileNotFoundError:
                raise ValueError(f"there is no barrier {name!r} yet: give parties, to make it") from None
        else:
            self._open_named(name, arena, create, number)

    @classmethod
    def at(
        cls,
        buffer: Any,
        offset: int = 0,
        *,
        parties: int = UNSET,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        create: Create = True,
        arena: Arena | None = None,
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> Barrier:
        """A barrier in memory that the caller shares between processes; it takes `size(parties)` bytes there.

        buffer, offset, create, arena: as of `Mutex.at`.
        parties: may be left away where a barrier is there already.

        Raises what `Mutex.at` raises, and ValueError for another number of parties than it was made with.
        """
        number = checked_number(parties, "parties", 1, _core.MAX_PARTIES)
        self = cls.__new__(cls)
        self._set_options(timeout, action, deadlock, priority)
        if number is None and create is True:
            create = False
        self._open_in(buffer, offset, arena, create, number)
        return self

    @staticmethod
    def size(parties: int) -> int:
        """Bytes that a barrier of that many parties takes in the user's memory."""
        number = checked_number(parties, "parties", 1, _core.MAX_PARTIES)
        return _core.size_of(_core.KIND_BARRIER, 1 if number is None else number)

    @property
    def parties(self) -> int:
        """How many threads it takes."""
        return self._parameter

    def enroll(self) -> _Enrolment:
        """Make the calling thread one of the parties, until `withdraw()` or the end of `with barrier.enroll():`.

        From this call on its place is its own, its `wait()` returns the same number each time, and its death, or its
        thread's end, breaks the barrier for the others at once, also while it has not arrived.  One enrolment for each
        thread.  Waits where all places are taken in this round.

        Returns a context manager, which withdraws at its end and yields the barrier; it need not be used.

        Raises RuntimeError when the thread is enrolled already, or when all parties are; BrokenBarrierError when there
        is no place and the barrier is broken; Gone if it was unlinked.
        """
        self._enroll()
        return _Enrolment(self)

    def _options(self) -> tuple[Any, ...]:
        return self.timeout, self.action, *self._on_deadlock

    def _set_options(
        self,
        timeout: float | None = None,
        action: Callable[[], object] | None = None,
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> None:
        self._set_action(action)
        self._configure(timeout, deadlock, priority)
        errors.BrokenBarrierError  # noqa: B018 - made now: where it is raised nothing should need importing

    def _state(self) -> str:
        return "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
