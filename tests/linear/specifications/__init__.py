"""What each primitive does, one step at a time: the specifications against which histories are checked.

`apply` says what may come of a call in a state; search.py has the details.  Conventions:

- A thread is its number, None is nobody.  `done` in a comment is the state after the call.
- A call that gives up ("late") does so at an instant at which its time was over *and* what it wanted was not there.  A
  try has a time limit of 0.  So a lock that says False though it was free all the time is refuted, and so is one that
  wakes nobody.
- A call that waits may make itself known first, at the stage "waits".  Where a specification has that stage its page
  in docs/reference says that others can tell: a newcomer stands back for a waiter, for one.
- `DEATH` is the death of the calling thread.
"""

from __future__ import annotations

from ..search import Specification
from .condition import Condition
from .counts import BoundedSemaphore, Latch, Semaphore
from .files import Append, Ranges, Update, record_text
from .locks import Mutex, RLock
from .rwlock import RWLock
from .signals import Barrier, Event, Once

__all__ = ["SPECIFICATIONS", "record_text"]

SPECIFICATIONS: dict[str, type[Specification]] = {
    "mutex": Mutex,
    "rlock": RLock,
    "semaphore": Semaphore,
    "bounded": BoundedSemaphore,
    "condition": Condition,
    "rwlock": RWLock,
    "event": Event,
    "barrier": Barrier,
    "latch": Latch,
    "once": Once,
    "filelock": Ranges,
    "rangelock": Ranges,
    "records": Ranges,
    "append": Append,
    "update": Update,
}
"""Of each primitive."""
