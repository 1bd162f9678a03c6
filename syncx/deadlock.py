"""What a thread is told that was chosen to end a deadlock: who waits for what, with names and command lines."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import KIND_NAMES, DeadlockError

if TYPE_CHECKING:
    from .arena import Arena

__all__ = ["Held", "Waiting", "describe"]

_MODES = {0: "exclusive", 1: "shared", 2: "upgrade"}
_FILE, _JOIN = 13, 14
_CANNOT = 0x100 | 0x200
"""Of a mode: the wait is not to be given up."""
_TO_THE_END = (1 << 63) - 1
TOLD = 16
"""So many members are told of in the message; `.cycle` has all."""


class Held(NamedTuple):
    """Something that a thread of a deadlock holds, and another one of it waits for."""

    kind: str
    name: str | None
    since: float
    """It has been held for so many seconds: exactly with tracing (then `where` is not None), else at least, since
    another thread has waited for it that long."""
    where: str | None
    """With tracing (SYNCX_TRACE): the line of Python where it was taken, "FILE:LINE in FUNCTION"; else None."""


class Waiting(NamedTuple):
    """A thread of a deadlock, and what it waits for."""

    pid: int
    """Its process, in the process's own pid namespace."""
    tid: int
    """The thread, likewise."""
    thread: str | None
    """The thread's name when it attached; None: not known."""
    command: str
    """The command line; empty if it cannot be read."""
    kind: str
    """What it waits for: "Mutex", "RWLock", "file", "process" (the end of one)…"""
    name: str | None
    """Of that object; None: it has none.  Of a file: its path, if this process can tell, or device and inode, and the
    range.  Of a process: its pid."""
    mode: str
    """How it wants it: "exclusive", "shared" or "upgrade"."""
    units: int
    """How many permits; 1 for everything else."""
    waited: float
    """For how long, in seconds."""
    where: str | None
    """The line of Python that waits, "FILE:LINE in FUNCTION", of a long path the end; None: not known."""
    holds: tuple[Held, ...]
    """What it holds of all that the other members wait for.  (A process is "held" by its threads until it ends.)"""
    priority: int
    """Of its wait: the lowest of a deadlock is chosen."""


def _command(pid: int) -> bytes:
    try:
        fd = os.open(f"/proc/{pid}/cmdline", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 4096)
    except OSError:  # it has just ended
        return b""
    finally:
        os.close(fd)


def _words(command: bytes) -> str:
    text = os.fsdecode(command.replace(b"\0", b" ").strip())
    return "".join(c if c.isprintable() else "?" for c in text)


class _Names:
    """Names of what the members wait for."""

    def __init__(self, arena: Arena | None) -> None:
        self._objects: list[tuple[int, int, str | None]] = []
        if arena is not None:
            with suppress(Exception):  # it has been closed since, or damaged
                self._objects = sorted((row[0], row[1], row[2]) for row in arena._cells())
        self._paths: dict[tuple[int, int], str] = {}

    def object(self, kind: int, cell: int) -> tuple[str, str | None, int]:
        """Kind, name and place."""
        from bisect import bisect_right

        # perhaps a mutex inside the object: the last place that is not beyond it
        before = bisect_right(self._objects, cell, key=lambda o: o[0])
        name, place = None, cell
        if cell and before:
            place, kind, name = self._objects[before - 1]
        return KIND_NAMES.get(kind, f"kind {kind}"), name, place

    def file(self, device: int, inode: int, first: int, last: int) -> str:
        key = os.makedev(device >> 20, device & 0xFFFFF), inode
        if key not in self._paths:
            self._paths[key] = self._path(key) or f"{device >> 20}:{device & 0xFFFFF} inode {inode}"
        if (first, last) == (0, _TO_THE_END):
            return self._paths[key]
        return f"{self._paths[key]}[{first}..{'' if last == _TO_THE_END else last}]"

    @staticmethod
    def _path(key: tuple[int, int]) -> str | None:
        """Of a file that this process has open, as it has those that it locks itself."""
        for fd in os.listdir("/proc/self/fd"):
            try:
                st = os.stat(f"/proc/self/fd/{fd}")
                if (st.st_dev, st.st_ino) == key:
                    return os.readlink(f"/proc/self/fd/{fd}")
            except OSError:
                continue
        return None


def _wants(kind: str, name: str | None, mode: str = "exclusive", units: int = 1) -> str:
    what = f"the end of process {name}" if kind == "process" else f"{kind} {name}" if kind == "file" else ""
    what = what or (f"a nameless {kind}" if name is None else f"{kind} {name!r}")
    return (f"{units} permits of " if units > 1 else "") + what + ("" if mode == "exclusive" else f" ({mode})")


class Told:
    """What a victim is told.

    It keeps what may be gone in a moment; the rest is put into words by who asks for them, so that the deadlock is
    told at once.
    """

    __slots__ = ("arena", "commands", "links", "names", "now", "rows", "traces", "what")

    def __init__(self, what: Any, rows: Sequence[tuple[Any, ...]], links: Sequence[tuple[int, int]]) -> None:
        """rows: as the core has them, this thread's first; links: pairs of their numbers, who waits for whom."""
        self.rows, self.links = rows, links
        self.now = time.monotonic_ns()
        self.what = repr(what)
        self.arena = arena = getattr(what, "arena", what if hasattr(what, "_cells") else None)
        self.commands = {pid: _command(pid) for pid in {row[0] for row in rows if row[-1]}}
        self.traces = [] if arena is None else [arena._traces(row[0], row[1]) for row in rows[:TOLD]]
        # whoever releases a file lock may close the file, and with it goes the path
        files = [row for row in rows if row[2] == _FILE]
        self.names = names = _Names(arena) if files else None
        if names is not None:
            for row in files:
                names.file(row[6], row[3], row[5], row[4])

    def cycle(self) -> tuple[Waiting, ...]:
        """The members."""
        return _members(self)

    def message(self, cycle: Sequence[Waiting], *, gives_up: bool = True) -> str:
        """The text; gives_up: whether its wait is over, or goes on."""
        threads = f"{len(cycle)} threads" if len(cycle) > 1 else "one thread with itself"
        does = "gives up waiting" if gives_up else "tells of it and waits on"
        lines = [f"deadlock of {threads}; this one{_why(self.rows, cycle)} {does} for {self.what}:"]
        for w in cycle[:TOLD]:
            lines += _line(w)
        if len(cycle) > TOLD:
            lines.append(f"  and {len(cycle) - TOLD} more")
        if gives_up:
            lines.append("what this thread holds it holds still; release it, and try again")
        else:
            lines.append("nobody else of them is told: it stands until one of them gives way, or is ended")
        return "\n".join(lines)


def _members(told: Told) -> tuple[Waiting, ...]:
    links, now = told.links, told.now
    names = told.names or _Names(told.arena)
    commands = {pid: _words(command) for pid, command in told.commands.items()}
    # of an object by its place, of a file by inode and device
    traces = [{(key, device): (since, where) for key, device, since, where in rows} for rows in told.traces]
    wanted: list[tuple[str, str | None, str, int, float, tuple[int, int]]] = []
    for _, _, kind, cell, address, holder, units, mode, since, *_ in told.rows:
        waited, how = max(0, now - since) / 1e9, _MODES.get(mode & 0xF, "?")
        if kind == _FILE:
            wanted.append(("file", names.file(units, cell, holder, address), how, 1, waited, (cell, units)))
        elif kind == _JOIN:
            wanted.append(("process", str(units), how, 1, waited, (0, 0)))
        else:
            of_kind, of_name, place = names.object(kind, cell)
            wanted.append((of_kind, of_name, how, units, waited, (place, 0)))
    held: list[dict[tuple[str, str | None], tuple[float, tuple[int, int]]]] = [{} for _ in told.rows]
    for who, whom in links:
        kind_name, name, _, _, waited, key = wanted[who]
        held[whom][kind_name, name] = max((waited, key), held[whom].get((kind_name, name), (0.0, key)))
    cycle: list[Waiting] = []
    for row, (kind_name, name, how, units, waited, _), holds in zip(told.rows, wanted, held, strict=True):
        pid, tid, thread, where, here = row[0], row[1], row[-3], row[-2], row[-1]
        priority = ((row[7] >> 16 & 0xFF) ^ 0x80) - 0x80  # eight bits, signed
        traced = traces[len(cycle)] if len(cycle) < len(traces) else {}
        listed = []
        for (held_kind, held_name), (least, key) in holds.items():
            since, line = traced.get(key, (0, None))
            exactly = least if line is None else max(0, now - since) / 1e9
            listed.append(Held(held_kind, held_name, exactly, _plain(line)))
        cycle.append(
            Waiting(
                pid, tid, _plain(thread), commands.get(pid, "") if here else "", kind_name, name, how, units, waited,
                _plain(where), tuple(listed), priority,
            )
        )  # fmt: skip
    return tuple(cycle)


def _plain(text: object) -> str | None:
    return "".join(c if c.isprintable() else "?" for c in text) if isinstance(text, str) else None


def _line(w: Waiting) -> list[str]:
    thread = f", thread {w.tid}" if w.pid != w.tid else ""
    thread += f" {w.thread!r}" if thread and w.thread is not None else ""
    lines = [f"  process {w.pid}{thread}" + (f" ({w.command})" if w.command else "")]
    for held in w.holds:
        if held.kind != "process":
            how = " at least" if held.where is None else f", taken at {held.where}"
            lines.append(f"    holds {_wants(held.kind, held.name)}, for {held.since:.3f} s{how}")
    where = f", at {w.where}" if w.where is not None else ""
    lines.append(f"    has waited {w.waited:.3f} s for {_wants(w.kind, w.name, w.mode, w.units)}{where}")
    return lines


def _why(rows: Sequence[tuple[Any, ...]], cycle: Sequence[Waiting]) -> str:
    """How the first one was chosen."""
    others = [w for row, w in zip(rows[1:], cycle[1:], strict=True) if not row[7] & _CANNOT]
    if any(w.priority > cycle[0].priority for w in others):
        return ", which has the lowest priority,"
    return "" if all(w.waited >= cycle[0].waited for w in others) else ", which was chosen,"


def text_of(
    what: Any, rows: Sequence[tuple[Any, ...]], links: Sequence[tuple[int, int]], *, gives_up: bool
) -> tuple[str, tuple[Waiting, ...]]:
    """What the thread tells that was chosen, and the members; for the arguments see `Told`."""
    told = Told(what, rows, links)
    cycle = told.cycle()
    return told.message(cycle, gives_up=gives_up), cycle


def describe(what: Any, rows: Sequence[tuple[Any, ...]], links: Sequence[tuple[int, int]]) -> DeadlockError:
    """The exception, with the whole deadlock in its message and in `.cycle`; for the arguments see `Told`."""
    error = DeadlockError()
    error._told = Told(what, rows, links)
    return error
