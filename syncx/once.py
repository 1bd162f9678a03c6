"""`Once`: something that one process does, and all others get the result of."""

from __future__ import annotations

import os

from . import _core
from .errors import ArenaError
from .handle import Shared

TYPE_CHECKING = False
if TYPE_CHECKING:  # see arena.py
    from typing import Any, TypeVar

    from .arena import Arena
    from .handle import Create, OnDeadlock

    T = TypeVar("T", bound="Once")

__all__ = ["Once"]


@_core.own_methods
class Once(Shared, _core.BaseOnce):
    """Runs a function in one thread of one process, once, and gives its result to everybody.

    name: an object of that name in the arena, shared by all who open it; what is done stays done until it is unlinked.
        None: an anonymous one, shared with forked children and with whoever unpickles it, gone when the last process
        that knows it has ended.  1 to 255 bytes of UTF-8, printable, no slash at either end.
    arena: a `syncx.Arena`; None is the default one.
    create: True opens or makes the name; False raises FileNotFoundError when it is not there; "exclusive" raises
        FileExistsError when it is.
    timeout: seconds `run` waits for the call of another thread or process before it raises `Timeout`; None waits for
        ever.  It does not limit the function itself.
    deadlock, priority: of the wait for another's call, as for `Mutex`.

    `once.run(function, *args, **kwargs)` calls the function or waits until somebody else has.  If the function raises,
    or its process is killed, or it is replaced by exec, the next one in `run` calls its own; after a death a line goes
    to the logger "syncx".  Then nothing is done: a function that may be cut short should be one that can be run again.
    A child forked inside the function is no runner: it returns NotOwner from `run`, and its parent goes on.  Threads
    that wait give up the GIL, sleep in the kernel and can be interrupted by signal handlers that raise.

    The result is pickled (protocol 5) into the shared memory, `MAX_RESULT` bytes at most.  Everybody but the one who
    called the function unpickles an object of his own from it at each `run`, so that a list may be changed without
    others seeing it.  Unpickling runs what the pickle says: whoever may write the arena (mode 0600: its user) may run
    code in those who read it.

    The algorithm is that of `syncx/_core/once.c`.
    """

    __slots__ = ("name",)
    _kind = _core.KIND_ONCE
    _holding = "running the function of"
    _awaited = "done"
    _deadlock = "{what!r}: run() inside the function that it runs would wait for itself for ever"
    _not_owner = "{what!r}: this process was forked inside the function; the one that called it stores its result"

    SIZE = _core.size_of(_core.KIND_ONCE, 0)
    """Bytes that it takes in the user's memory."""

    MAX_RESULT = _core.ONCE_RESULT
    """Bytes that a pickled result may have."""

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
        self._open_named(name, arena, create)

    @classmethod
    def at(
        cls: type[T],
        buffer: Any,
        offset: int = 0,
        *,
        create: Create = True,
        arena: Arena | None = None,
        timeout: float | None = None,
        deadlock: OnDeadlock | None = None,
        priority: int = 0,
    ) -> T:
        """A Once in memory that the caller shares between processes.

        buffer: writable shared memory: an `mmap`, a `SharedMemory.buf`, a memoryview of either.  It stays exported
            until the object is closed or dropped.
        offset: bytes from its start; it takes `SIZE` bytes there and the address must be a multiple of `ALIGNMENT`.
        create: True makes one where the memory is zero and opens one that is there; False only opens; "exclusive"
            only makes.
        arena: where its runner is registered.  The memory remembers that arena: another one is refused, and when that
            arena was re-created (a reboot) what was done is still done, and a runner is taken for dead.

        Raises ValueError for memory that is too small, misaligned, neither zero nor a Once, or (create=False) zero;
        TypeError for read-only memory; FileExistsError with create="exclusive"; ArenaError for another arena's.
        """
        self = cls.__new__(cls)
        self._set_options(timeout, deadlock, priority)
        self._open_in(buffer, offset, arena, create)
        return self

    def _options(self) -> tuple[Any, ...]:
        return self.timeout, *self._on_deadlock

    def _set_options(self, timeout: float | None = None, deadlock: OnDeadlock | None = None, priority: int = 0) -> None:
        import pickle  # noqa: F401 - here, and not first while others wait for the result

        self._configure(timeout, deadlock, priority)

    def _dump(self, result: object) -> bytes:
        import pickle  # not for those who import syncx and run nothing once

        try:
            return pickle.dumps(result, 5)
        except Exception as e:
            raise TypeError(
                f"the result of the function that {self!r} ran cannot be pickled ({type(e).__name__}: {e}); return "
                "None, or something that can"
            ) from e

    def _load(self, data: bytes) -> object:
        import pickle

        try:
            return pickle.loads(data)
        except Exception as e:
            raise ArenaError(
                f"the result stored in {self!r} cannot be unpickled in this process ({type(e).__name__}: {e}); its "
                "class must be importable everywhere; if it is, the memory is damaged: unlink the object"
            ) from e

    def _state(self) -> str:
        if self.done:
            return "done"
        runner = self.runner
        if runner is None:
            return "not done"
        pid, tid = runner
        thread = f", thread {tid}" if pid != tid else ""
        return f"running in {'this process' if pid == os.getpid() else f'process {pid}'}{thread}"
