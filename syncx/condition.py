"""`Condition`: waiting, with a lock given up meanwhile, until a thread of any process says that something changed."""

from __future__ import annotations

from . import _core
from .handle import Locking, Shared
from .mutex import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:  # see arena.py
    from typing import Any

    from .arena import Arena
    from .handle import Create, OnDeadlock
    from .mutex import Mutex, OnOwnerDeath

__all__ = ["Condition"]


@_core.own_methods
class Condition(Shared, Locking, _core.BaseCondition):
    """A condition variable: threads wait until another one, of any process, notifies them.

    lock: the `Mutex` or `RLock` that guards what is waited for, of the same arena.  None: the condition has an RLock
        of its own, `condition.lock`, in its own cell.  Whoever opens the condition later must name the same lock.
    name: an object of that name in the arena, shared by all who open it; it lives until it is unlinked.  None: an
        anonymous condition, shared with forked children and with whoever unpickles it.  1 to 255 bytes of UTF-8.
    arena: a `syncx.Arena`; None is the lock's, or the default one.
    create: True opens or makes the name; False raises FileNotFoundError when it is not there; "exclusive" raises
        FileExistsError when it is.
    timeout: seconds a plain `with` waits for the lock before it raises `Timeout`; None waits for ever.
    on_owner_death: what to do when the lock's owner died, as for `Mutex`.
    deadlock, priority: of waits for the lock, as for `Mutex`.  These four belong to the condition's own lock; with
        `lock=` they are that lock's, and naming them is a ValueError.  To get the lock again at the end of wait() is
        never given up: a deadlock in which only such waits are left is told to nobody, but views show it.

    `with condition as c:` holds the lock and yields the condition.  `acquire`, `release`, `recover`, `locked`,
    `within` and `owner_died` are the lock's.  `wait`, `wait_for`, `notify` and `notify_all` want it held by the calling
    thread (NotOwner).

    Exact: notify(n) wakes n live waiters, those that have waited longest, and wait() returns True for no other reason.
    A waiter that is killed takes no notification with it: before it is chosen it does not count, and if it was chosen
    already the next of those who waited then gets the notification, within about 100 ms.  When the lock's owner is
    killed, the waiter that gets the lock sees `owner_died`.  Between threads of any processes; a forked child waits for
    nothing that its parent waits for.

    Raises TypeError for a lock that is none of ours; ArenaError for a lock of another arena; ValueError for a name that
    exists and was made with another lock.

    The algorithm is that of `syncx/_core/condition.c`: each waiter sleeps on a word of its own, as in Andrew D.
    Birrell, "Implementing Condition Variables with Semaphores" (2003), without the queue.
    """

    __slots__ = ("_given", "name")
    _kind = _core.KIND_CONDITION
    _given: tuple[Mutex | RLock | None, float | None, OnOwnerDeath, OnDeadlock | None, int]

    SIZE = _core.size_of(_core.KIND_CONDITION, 0)
    """Bytes that a condition takes in the user's memory."""

    def __init__(
        self,
        lock: Mutex | RLock | None = None,
        *,
        name: str | None = None,
        arena: Arena | None = None,
        create: Create = True,
        timeout: float | None = None,
        on_owner_death: OnOwnerDeath = "recover",
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> None:
        self._set_options(lock, timeout, on_owner_death, deadlock, priority)
        number = self._number(lock, arena)
        arena = lock.arena if lock is not None and arena is None else arena
        self._open_named(name, arena, create, number)
        self._with_lock()

    @classmethod
    def at(
        cls,
        buffer: Any,
        offset: int = 0,
        lock: Mutex | RLock | None = None,
        *,
        create: Create = True,
        arena: Arena | None = None,
        timeout: float | None = None,
        on_owner_death: OnOwnerDeath = "recover",
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> Condition:
        """A condition in memory that the caller shares between processes.

        buffer, offset, create and arena are those of `Mutex.at`; it takes `SIZE` bytes.  lock, timeout,
        on_owner_death, deadlock and priority are the constructor's.  Raises what both raise.
        """
        self = cls.__new__(cls)
        self._set_options(lock, timeout, on_owner_death, deadlock, priority)
        number = self._number(lock, arena)
        arena = lock.arena if lock is not None and arena is None else arena
        self._open_in(buffer, offset, arena, create, number)
        self._with_lock(buffer, offset)
        return self

    def _options(self) -> tuple[Any, ...]:
        return self._given

    def _set_options(
        self,
        lock: Mutex | RLock | None = None,
        timeout: float | None = None,
        on_owner_death: OnOwnerDeath = "recover",
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> None:
        if isinstance(lock, str):
            raise TypeError(f"lock must be a syncx.Mutex or a syncx.RLock, not the str {lock!r}; a name goes to name=")
        mine = (timeout, on_owner_death, deadlock, priority)
        if lock is not None and mine != (None, "recover", None, 0):
            raise ValueError(
                "timeout, on_owner_death, deadlock and priority are the lock's: give them to the lock, not to the "
                "condition"
            )
        self._given = (lock, *mine)

    def _open_reference(self, *where: Any) -> None:
        super()._open_reference(*where)
        self._with_lock()

    def _with_lock(self, buffer: Any = None, offset: int = 0) -> None:
        """The last step of opening: the lock that was given, or a handle of the one inside the condition's cell."""
        lock, timeout, on_owner_death, deadlock, priority = self._given
        if lock is None:
            lock = RLock.__new__(RLock)
            lock._set_options(timeout, on_owner_death, deadlock, priority)
            lock.name = self.name
            place = self._place()
            if place is not None:
                lock._open_reference(self.arena, *place, self._kind)
            else:
                lock._open_at(self.arena, buffer, offset, _core.OPEN, self._kind, None)
        self._join(lock)
        self._configure(lock.timeout, *lock._on_deadlock)

    @property
    def on_owner_death(self) -> Any:
        """The policy of the lock."""
        return self.lock.on_owner_death

    @property
    def holder(self) -> tuple[int, int] | None:
        """(pid, tid) of the lock's live holder, each in its own pid namespace, or None."""
        lock: Mutex | RLock = self.lock
        return lock.holder

    def close(self) -> None:
        """Give this handle up; using it afterwards raises ValueError.

        The condition itself stays (a named one until it is unlinked).  A lock of its own is closed with it; one that
        was given stays open.  RuntimeError while a thread of this process holds the lock or waits.
        """
        if not self.closed and self._given[0] is None and self.lock is not None:
            self.lock.close()
        super().close()

    def _state(self) -> str:
        n = self._waiters()
        return f"{self.lock._state()}, {n} waiting" if n else self.lock._state()
