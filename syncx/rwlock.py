"""`RWLock`: many read at a time or one writes, in all threads of all processes."""

from __future__ import annotations

import os

from . import _core
from .handle import Locking, Shared, _Within

TYPE_CHECKING = False
if TYPE_CHECKING:  # see arena.py
    from typing import Any, ClassVar

    from .arena import Arena
    from .handle import Create, OnDeadlock
    from .mutex import OnOwnerDeath
    from .objects import Holder

__all__ = ["RWLock", "ReadView", "UpgradableView", "WriteView"]


def _who(pid: int, tid: int) -> str:
    return ("this process" if pid == os.getpid() else f"process {pid}") + (f", thread {tid}" if pid != tid else "")


class _View(Shared, Locking):
    """What the three views share: they are handles on the cell of the lock whose views they are."""

    __slots__ = ()
    _kind = _core.KIND_RWLOCK
    _mode: ClassVar[str]

    def _title(self) -> str:
        name = "" if getattr(self, "name", None) is None else f" {self.name!r}"
        return f"syncx.RWLock{name} for {self._mode}"


@_core.own_methods
class ReadView(_View, _core.BaseReadView):
    """An RWLock for reading: what `rw.read()` returns.  Made by an RWLock only.

    Any number of threads read at a time, and none while a writer is inside or waits.  Reentrant: a thread that reads
    may read again, whoever waits, and releases as often.  Read locks belong to the thread that took them; a forked
    child holds none.
    """

    __slots__ = ("name",)
    _mode = "reading"
    _deadlock = (
        "{what!r} would never be had: this thread has the lock for writing; a writer reads as it is, or becomes a "
        "reader by downgrade()"
    )

    def _options(self) -> tuple[Any, ...]:
        return self.timeout, *self._on_deadlock

    def _set_options(self, timeout: float | None = None, deadlock: OnDeadlock | None = None, priority: int = 0) -> None:
        self._configure(timeout, deadlock, priority)

    def _state(self) -> str:
        return "locked" if self.locked() else "unlocked"


class _MutexView(_View):
    __slots__ = ()
    _lock: ClassVar[type]

    if TYPE_CHECKING:
        on_owner_death: Any
        holder: Any
        _set_policy: Any

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
        holder = self.holder  # once: it may change while we look
        return "unlocked" if holder is None else f"locked by {_who(*holder)}"


@_core.own_methods
class WriteView(_MutexView, _core.BaseWriteView):
    """An RWLock for writing: what `rw.write()` returns.  Made by an RWLock only.

    One thread writes at a time, and nobody reads meanwhile.  Not reentrant.  All that `Mutex` says of owners that die,
    and of `acquire`, `release`, `recover` and `owner_died`, holds for writers.
    """

    __slots__ = ("name",)
    _mode = "writing"
    _deadlock = (
        "{what!r} would never be had: this thread has the lock already; a reader cannot become a writer, an upgradable "
        "one can, by upgrade()"
    )


@_core.own_methods
class UpgradableView(_MutexView, _core.BaseUpgradableView):
    """An RWLock for reading with a view to writing: what `rw.upgradable()` returns.  Made by an RWLock only.

    One thread at a time, beside any number of readers; writers wait.  `upgrade()` makes it the writer.  Not reentrant,
    and not for a thread that reads.  After a writer's death it is told as a writer is; its own death, not upgraded,
    is nobody's concern.
    """

    __slots__ = ("name",)
    _mode = "upgradable reading"
    _deadlock = (
        "{what!r} would never be had: this thread has the lock already; end its plain reads before, and let upgrade() "
        "make an upgradable reader the writer"
    )


_VIEWS: tuple[type[Any], ...] = (ReadView, WriteView, UpgradableView)


@_core.own_methods
class RWLock(Shared, _core.BaseRWLock):
    """A lock that many threads hold for reading, or one for writing.

        with rw.read():
            ...
        with rw.write() as w:
            ...

    name, arena, create: as for `Mutex`.
    timeout: seconds a plain `with` of a view waits before it raises `Timeout`; None waits for ever.
    on_owner_death: what a writer is told when a writer died inside, as for `Mutex`.  Readers are not told: they may ask
        `owner_died`.
    deadlock, priority: as for `Mutex`.

    Fair by phases: a writer that waits keeps new readers out, and the readers that wait when it leaves come in before
    the next writer; so neither side waits for more than one turn of the other.  A reader that dies, or a writer,
    blocks nobody.  A thread that reads and asks for writing would wait for itself: DeadlockError (see `upgradable`).
    Waiting gives up the GIL, sleeps in the kernel and can be interrupted by signal handlers that raise.  A thread
    reads at most 64 locks of an arena at a time.

    The readers' marks are in their own slots of the arena, so readers do not touch a common cache line, and a writer
    looks at the slots of all attached threads.  The algorithm is that of `syncx/_core/rwlock.c`; after Björn
    Brandenburg and James Anderson, "Spin-Based Reader-Writer Synchronization for Multiprocessor Real-Time Systems"
    (2010).
    """

    __slots__ = ("_memory", "name", "on_owner_death")
    _kind = _core.KIND_RWLOCK
    _memory: tuple[Any, int] | None

    on_owner_death: OnOwnerDeath
    """The policy given at construction."""

    SIZE = _core.size_of(_core.KIND_RWLOCK, 0)
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
        cls,
        buffer: Any,
        offset: int = 0,
        *,
        create: Create = True,
        arena: Arena | None = None,
        timeout: float | None = None,
        on_owner_death: OnOwnerDeath = "recover",
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> RWLock:
        """A lock in memory that the caller shares between processes.

        The arguments and exceptions are those of `Mutex.at`; the lock takes `SIZE` bytes.
        """
        self = cls.__new__(cls)
        self._set_options(timeout, on_owner_death, deadlock, priority)
        self._open_in(buffer, offset, arena, create)
        self._memory = (buffer, offset)
        return self

    def close(self) -> None:
        """Give this handle and its views up; using one afterwards raises ValueError.

        RuntimeError while a thread of this process holds the lock or waits for it.  The lock itself stays.
        """
        super().close()
        self._memory = None
        for view in self._views():
            view.close()

    @property
    def readers(self) -> tuple[Holder, ...]:
        """The live threads that read now, in no particular order; upgradable readers are not among them.

        Looked for one after the other: who comes or goes meanwhile may be missing or not, and so may one whose
        `acquire()` or `downgrade()` is under way, also where it will be refused.
        """
        from .objects import Holder

        return tuple(Holder(*who) for who in self._holders()[0])

    @property
    def writer(self) -> Holder | None:
        """The live thread that writes now, or None."""
        from .objects import Holder

        who = self._holders()[1]
        return None if who is None else Holder(*who)

    def _options(self) -> tuple[Any, ...]:
        return self.timeout, self.on_owner_death, *self._on_deadlock

    def _set_options(
        self,
        timeout: float | None = None,
        on_owner_death: OnOwnerDeath = "recover",
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> None:
        self._memory = None
        self._configure(timeout, deadlock, priority)
        _core.BaseWriteView()._set_policy(on_owner_death)  # refuses what is none
        self.on_owner_death = on_owner_death

    def _state(self) -> str:
        readers, writer, upgradable = self._holders()
        if writer is not None:
            return f"written by {_who(*writer)}"
        parts = [f"{len(readers)} reading"] if readers else []
        parts += [f"upgradable reader {_who(*upgradable)}"] if upgradable is not None else []
        return ", ".join(parts) or "unlocked"

    def _view(self, which: int) -> Any:
        """A view, made when it is first asked for."""
        cls: Any = _VIEWS[which]
        view = cls.__new__(cls)
        view.name = self.name
        timeout, *policy_and_more = self._options()
        view._set_options(timeout, *policy_and_more[1 if which == 0 else 0 :])
        if self._memory is not None:
            view._open_at(self.arena, *self._memory, _core.OPEN, self._kind, None)
        else:
            view._open_reference(self.arena, *self._place(), self._kind)
        return view

    @staticmethod
    def _timed(view: Any, timeout: float | None, deadlock: Any, priority: Any) -> Any:
        """What `rw.read(timeout)` returns."""
        timeout = view.timeout if timeout is None else timeout
        if timeout is None or timeout == -1:
            return _Within(view, None, deadlock, priority)
        return view.within(timeout, deadlock=deadlock, priority=priority)


_MutexView._lock = RWLock
