"""syncx: synchronisation between processes that survives kill -9.

    import syncx

    with syncx.Mutex("jobs"):
        ...

Layers, imports going down only:

    cli, demo, run, ps  ->  mutex, filelock, snapshots  ->  handle  ->  arena  ->  objects, _core (C)  ->  errors
"""

import os
import sys

if not sys.platform.startswith("linux"):
    raise ImportError(f"syncx needs Linux (it is built on futexes and robust mutexes); this is {sys.platform}")

from . import _core

if not hasattr(_core, "BaseArena"):  # the bare folder of the C sources, taken for a package
    raise ImportError(
        "this is the source tree of syncx without its C part: build it here (pip install -e .), or start Python in "
        "another directory to get the installed one"
    )

from ._core import deadlock_default, set_deadlock_default
from .arena import Arena, default_arena
from .barrier import Barrier
from .bounded import BinarySemaphore, BoundedSemaphore
from .condition import Condition
from .errors import (
    ArenaError,
    ArenaFull,
    DeadlockError,
    Gone,
    InUse,
    LockOrderError,
    NotOwner,
    OwnerDiedError,
    SyncxError,
    Timeout,
)
from .event import Event
from .filelock import FileLock, RangeLock
from .latch import Latch
from .mutex import Lock, Mutex, RLock
from .once import Once
from .rwlock import RWLock
from .semaphore import Semaphore
from .update import update

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .deadlock import Held, Waiting
    from .errors import BrokenBarrierError
    from .joins import join
    from .lockinfo import FileLockInfo, FileLocks, LockParty, file_locks
    from .objects import Holder, ObjectInfo, Range, Statistics
    from .records import RecordLocks
    from .snapshots import Snapshot, snapshot
    from .tracing import trace
    from .waitgraph import WaitGraph, wait_graph

__version__ = "0.1.0"

__all__ = [
    "Arena",
    "ArenaError",
    "ArenaFull",
    "Barrier",
    "BinarySemaphore",
    "BoundedSemaphore",
    "BrokenBarrierError",
    "Condition",
    "DeadlockError",
    "Event",
    "FileLock",
    "FileLockInfo",
    "FileLocks",
    "Gone",
    "Held",
    "Holder",
    "InUse",
    "Inversion",
    "Latch",
    "Lock",
    "LockOrderError",
    "LockParty",
    "Mutex",
    "NotOwner",
    "ObjectInfo",
    "Once",
    "OwnerDiedError",
    "RLock",
    "RWLock",
    "Range",
    "RangeLock",
    "RecordLocks",
    "Semaphore",
    "Snapshot",
    "Statistics",
    "SyncxError",
    "Timeout",
    "WaitGraph",
    "Waiting",
    "deadlock_default",
    "default_arena",
    "file_locks",
    "join",
    "order_check",
    "set_deadlock_default",
    "snapshot",
    "trace",
    "update",
    "wait_graph",
]


def __getattr__(name: str) -> object:
    """What is imported when it is asked for: `with` blocks never do."""
    if name in ("Holder", "ObjectInfo", "Range", "Statistics"):
        from . import objects

        return getattr(objects, name)
    if name in ("Held", "Waiting"):
        from . import deadlock

        return getattr(deadlock, name)
    if name == "join":
        from .joins import join

        return join
    if name == "RecordLocks":
        from .records import RecordLocks

        return RecordLocks
    if name in ("Snapshot", "snapshot"):
        from . import snapshots

        return getattr(snapshots, name)
    if name in ("WaitGraph", "wait_graph"):
        from . import waitgraph

        return getattr(waitgraph, name)
    if name in ("FileLockInfo", "FileLocks", "LockParty", "file_locks"):
        from . import lockinfo

        return getattr(lockinfo, name)
    if name in ("order", "tracing"):
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    if name in ("Inversion", "order_check"):
        from .order import Inversion, order_check

        return Inversion if name == "Inversion" else order_check
    if name == "trace":
        from .tracing import trace

        return trace
    if name == "BrokenBarrierError":
        from . import errors

        return errors.BrokenBarrierError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _switch_on() -> None:
    """What the environment asks for."""
    trace, order = os.environ.get("SYNCX_TRACE", ""), os.environ.get("SYNCX_ORDER", "")
    for name, value, known in (("SYNCX_TRACE", trace, ("1",)), ("SYNCX_ORDER", order, ("1", "warn", "raise"))):
        if value not in ("", "0", *known):
            raise ValueError(f"the environment variable {name} must be 0 or {' or '.join(known)}, not {value!r}")
    if trace == "1":
        from .tracing import trace as switch

        switch(True)
    if order in ("1", "warn", "raise"):
        from .order import order_check

        order_check(True, on_inversion="raise" if order == "raise" else "warn")


if "SYNCX_TRACE" in os.environ or "SYNCX_ORDER" in os.environ:
    _switch_on()
