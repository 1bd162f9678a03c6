"""What a thread is told that was chosen to end a deadlock: who waits for what, with names and command lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from .errors import KIND_NAMES, DeadlockError

if TYPE_CHECKING:
    from .arena import Arena

__all__ = ["Waiting", "describe"]

_MODES = {0: "exclusive", 1: "shared", 2: "upgrade"}
_FILE = 13


class Waiting(NamedTuple):
    """A thread of a deadlock, and what it waits for."""

    pid: int
    """Its process, in the process's own pid namespace."""
    tid: int
    """The thread, likewise."""
    command: str
    """The command line; empty if it cannot be read."""
    kind: str
    """What it waits for: "Mutex", "RWLock", "file"…"""
    name: str | None
    """Of that object; None: it has none.  Of a file: device, inode and range."""
    mode: str
    """How it wants it: "exclusive", "shared" or "upgrade"."""
    units: int
    """How many permits; 1 for everything else."""
    waited: float
    """For how long, in seconds."""


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read(4096).replace(b"\0", b" ").strip().decode(errors="replace")
    except OSError:
        return ""


def _names(arena: Arena | None) -> list[tuple[int, int, str | None]]:
    return sorted((row[0], row[1], row[2]) for row in arena._cells()) if arena is not None else []


def _member(row: tuple[int, ...], objects: list[tuple[int, int, str | None]], now: int) -> Waiting:
    pid, tid, kind, cell, address, holder, units, mode, since = row
    waited = max(0, now - since) / 1e9
    if kind == _FILE:
        device = f"{units >> 20}:{units & 0xFFFFF}"
        end = "" if address == 2**63 - 1 else str(address + 1)
        name: str | None = f"{device} inode {cell} [{holder}:{end}]"
        return Waiting(pid, tid, _command(pid), "file", name, _MODES.get(mode & 0xF, "?"), 1, waited)
    # perhaps a mutex inside the object: the last place that is not beyond it
    before = [o for o in objects if o[0] <= cell]
    kind_there, name = before[-1][1:] if before else (kind, None)
    kind_name = KIND_NAMES.get(kind_there, f"kind {kind_there}")
    return Waiting(pid, tid, _command(pid), kind_name, name, _MODES.get(mode & 0xF, "?"), units, waited)


def _wants(w: Waiting) -> str:
    what = f"{w.kind} {w.name!r}" if w.kind != "file" and w.name is not None else f"{w.kind} {w.name}"
    what = f"a nameless {w.kind}" if w.name is None else what
    units = f"{w.units} permits of " if w.units > 1 else ""
    how = "" if w.mode == "exclusive" else f" ({w.mode})"
    return f"{units}{what}{how}"


def describe(what: object, members: list[tuple[int, ...]]) -> DeadlockError:
    """The exception, with the whole deadlock in its message and in `.cycle`."""
    now = time.monotonic_ns()
    objects = _names(getattr(what, "arena", None))
    cycle = tuple(_member(row, objects, now) for row in members)
    lines = [f"deadlock of {len(cycle)} threads; this one, which came last, gives up waiting for {what!r}:"]
    for w in cycle:
        thread = "" if w.pid == w.tid else f", thread {w.tid}"
        command = f" ({w.command})" if w.command else ""
        lines.append(f"  process {w.pid}{thread}{command} has waited {w.waited:.3f} s for {_wants(w)}")
    lines.append("each waits for what the next one has, the last for what the first has; release, and try again")
    error = DeadlockError("\n".join(lines))
    error.cycle = cycle
    return error
