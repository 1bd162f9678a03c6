"""The check of lock order: an inversion is told when it is first possible, also between processes that never met.

    import syncx

    syncx.order_check(True)

Which locks are taken under which is kept in the arena, for all its processes that have the check on.  An order that
could become a deadlock together with those seen before is told once: with the lines of the program, the processes and
the times of both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from . import _core
from .arena import Arena, default_arena
from .errors import KIND_NAMES, LockOrderError

if TYPE_CHECKING:
    OnInversion: TypeAlias = Literal["warn", "raise"] | Callable[["Inversion"], object]

__all__ = ["Inversion", "Order", "OrderCounts", "counts", "forget", "order_check"]

_HELD = ("exclusive", "shared", "upgradable", "?")
_WANTED = ("exclusive", "shared", "upgradable", "upgrade")
_FILE = 13
_on_inversion: OnInversion = "warn"


class Order(NamedTuple):
    """Somebody asked for one lock while it held another."""

    held: str
    """The class of what it held: the kind, and the name, the line where it was made, or the path of the file."""
    held_mode: str
    """"exclusive", "shared" or "upgradable"."""
    wanted: str
    """The class of what it asked for."""
    wanted_mode: str
    """As `held_mode`, or "upgrade": from shared or upgradable to exclusive."""
    taken: str | None
    """The line of Python where it took what it held, "FILE:LINE in FUNCTION"; None: not known."""
    stack: tuple[str, ...]
    """The lines of the stack, innermost first, where it asked for the other: as many as there was room for."""
    pid: int
    """The process, in its own pid namespace."""
    tid: int
    """The thread, likewise."""
    time: float
    """When this order was seen for the first time, in seconds since the epoch."""


class Inversion(NamedTuple):
    """Orders that, each taken by a thread of its own at one time, are a deadlock."""

    orders: tuple[Order, ...]
    """Each one's `wanted` is what the next one holds, the last one's what the first one holds.  The first is new."""

    def __str__(self) -> str:
        ring = " -> ".join([*(o.held for o in self.orders), self.orders[0].held])
        lines = [f"lock order inversion: {ring} can become a deadlock"]
        for o in self.orders:
            thread = "" if o.pid == o.tid else f", thread {o.tid}"
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(o.time))
            taken = f", taken at {o.taken}" if o.taken else ""
            lines.append(
                f"  process {o.pid}{thread}, {when}: held {_how(o.held, o.held_mode)}{taken}, "
                f"and asked for {_how(o.wanted, o.wanted_mode)}"
            )
            lines += [f"    at {line}" for line in o.stack]
        lines.append("take them in the same order everywhere")
        return "\n".join(lines)


class OrderCounts(NamedTuple):
    """How much of an arena's room for orders is in use."""

    classes: int
    """Of 1,024."""
    orders: int
    """Of 4,096."""
    lost: int
    """Classes and orders that found no room and are not checked."""


def _how(what: str, mode: str) -> str:
    return what if mode == "exclusive" else f"{what} ({mode})"


def _class(kind: int, text: str) -> str:
    if kind == _FILE:
        return f"file {text}"
    return f"{KIND_NAMES.get(kind, f'kind {kind}')} {text}"


def order_check(on: bool = True, *, arena: Arena | None = None, on_inversion: OnInversion | None = None) -> None:
    """Switch the check of lock order on or off, for this process and those it forks.

    on: True: what its threads take from now on is checked; False: it is not.
    arena: only locks of this arena (call it again for more); None: of all arenas.
    on_inversion: what to do when an order is seen that could become a deadlock: "warn" logs it to "syncx" as a
        warning; "raise" raises `LockOrderError` where the second lock is asked for, which is not taken then; a
        callable is called with the `Inversion`, and may raise.  None: as before, at first "warn".

    An inversion is told once for a pair of lock classes, to the process that makes it possible.  The environment
    variable SYNCX_ORDER (1, warn or raise) does the same from the start, in child processes too.

    What is known of the order lies in the arena, in 3.4 MB of memory from the first nested hold on, and stays as long
    as the arena does, or until `syncx.order.forget`.  A process that is killed, at whatever instruction, leaves at
    worst an order that is not known.  A forked child holds nothing.  Threads: it is one switch for all of them; a hold
    that was taken before does not count.

    Raises TypeError and ValueError for other values.  See docs/reference/order.md for what makes an order, and the
    Linux kernel's Documentation/locking/lockdep-design.rst, whose idea it is.
    """
    global _on_inversion
    if on is not True and on is not False:
        raise TypeError(f"order_check(on) takes True or False, not {on!r}")
    if arena is not None and not isinstance(arena, Arena):
        raise TypeError(f"arena must be a syncx.Arena, not {type(arena).__name__}")
    if on_inversion is not None:
        if not callable(on_inversion) and on_inversion not in ("warn", "raise"):
            raise ValueError(f'on_inversion must be "warn", "raise" or a callable, not {on_inversion!r}')
        _on_inversion = on_inversion
    traced, ordered, _ = _core._noting()
    if arena is not None:
        if on and not ordered:
            _core._order_where(None, False)
        _core._order_where(arena, on)
        _core._note(traced, ordered or on)
    else:
        _core._order_where(None, on)
        _core._note(traced, on)


def forget(arena: Arena | None = None) -> None:
    """Forget all orders of an arena, for all its processes: the check begins anew.

    arena: None: the default one.

    Raises ValueError for a closed arena.
    """
    _core._order_clear(default_arena() if arena is None else arena)


def counts(arena: Arena | None = None) -> OrderCounts:
    """How much is known of an arena's lock order, and how much found no room.

    arena: None: the default one.

    Raises ValueError for a closed arena.
    """
    return OrderCounts(*_core._order_counts(default_arena() if arena is None else arena))


# ---- what the core calls ------------------------------------------------------------------------------------------
def _order(row: tuple[Any, ...]) -> Order:
    held_kind, held, held_mode, wanted_kind, wanted, wanted_mode, taken, stack, pid, tid, seen = row
    return Order(
        _class(held_kind, held),
        _HELD[held_mode],
        _class(wanted_kind, wanted),
        _WANTED[wanted_mode],
        taken or None,
        tuple(stack.split("\n")) if stack else (),
        pid,
        tid,
        seen / 1e9,
    )


def _told(lock: object, rows: list[tuple[Any, ...]]) -> None:
    """An inversion has become possible, with what this thread asks for."""
    inversion = Inversion(tuple(_order(row) for row in rows))
    path = os.environ.get("SYNCX_ORDER_FILE")
    if path:
        _write(path, str(inversion))
    if callable(_on_inversion):
        _on_inversion(inversion)
    elif _on_inversion == "raise":
        error = LockOrderError(str(inversion))
        error.inversion = inversion
        raise error
    else:
        import logging

        logging.getLogger("syncx").warning("%s", inversion)


def _write(path: str, text: str) -> None:
    """One line of JSON for each inversion, whole: for who collects those of several processes."""
    import json

    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, (json.dumps({"pid": os.getpid(), "inversion": text}) + "\n").encode())
    finally:
        os.close(fd)


def _full(lock: Any) -> None:
    import logging

    used = counts(lock.arena)
    logging.getLogger("syncx").warning(
        "the table of lock orders of %s is full (%d classes, %d orders): what is new is not checked from now on; "
        "name locks alike that are used alike, or call syncx.order.forget()",
        lock.arena,
        used.classes,
        used.orders,
    )
