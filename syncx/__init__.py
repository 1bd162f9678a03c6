"""syncx: synchronisation between processes that survives kill -9.

    import syncx

    with syncx.Mutex("jobs"):
        ...

Layers, imports going down only:  cli, demo, run  ->  mutex  ->  arena  ->  _core (C)  ->  errors
"""

import sys

if not sys.platform.startswith("linux"):
    raise ImportError(f"syncx needs Linux (it is built on futexes and robust mutexes); this is {sys.platform}")

from .arena import Arena, Holder, ObjectInfo, default_arena
from .errors import (
    ArenaError,
    ArenaFull,
    DeadlockError,
    Gone,
    InUse,
    NotOwner,
    OwnerDiedError,
    SyncxError,
    Timeout,
)
from .mutex import Lock, Mutex, RLock

__version__ = "0.1.0"

__all__ = [
    "Arena",
    "ArenaError",
    "ArenaFull",
    "DeadlockError",
    "Gone",
    "Holder",
    "InUse",
    "Lock",
    "Mutex",
    "NotOwner",
    "ObjectInfo",
    "OwnerDiedError",
    "RLock",
    "SyncxError",
    "Timeout",
    "default_arena",
]
