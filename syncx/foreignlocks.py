"""The part that programs without syncx have in a wait-for graph: locks of files that somebody in the arena waits for.

From the kernel's lists (proclocks.py), joined with what threads of the arena have published.  What none of these
explains is somebody else's.  Whether that one waits in turn is looked up in the same lists, from file to file: fcntl(2)
and flock(2) requests that sleep.  A program of one thread that sleeps in one waits for whoever has that range; one with
more threads may go on all the same, and is only suspected.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .lockinfo import _join, _Record, _rows_of
from .proclocks import FileIdentity, identify, survey
from .proctable import thread_numbers
from .reduction import Request, Supply
from .snapshots import Snapshot, Wait
from .terminal import printable
from .words import descriptor_of, extent

__all__ = ["UNKNOWN", "Foreign", "foreign_locks", "number_of"]

UNKNOWN = -1
"""The number of somebody who cannot be told, and may run."""
MOST_FILES = 64
"""So many files are looked at."""
_WAITING = re.compile(rb"-> *(\w+) +\w+ +\w+ +(-?\d+) +([0-9a-f]+):([0-9a-f]+):(\d+)")


def number_of(pid: int) -> int:
    """A process as a source of requests; those of threads of the arena are positive."""
    return -pid - 1


@dataclass(slots=True)
class Foreign:
    """What was found."""

    holders: dict[tuple[int, int], list[_Held]] = field(default_factory=dict)
    """By device and inode of stat(2), the files that were looked at."""
    certain: dict[int, Request] = field(default_factory=dict)
    nominal: dict[int, Request] = field(default_factory=dict)
    """Of foreign threads that wait."""
    processes: dict[int, int] = field(default_factory=dict)
    """Number of a foreign process or thread: the pid."""
    awaits: dict[int, str] = field(default_factory=dict)
    """Pid: the first request of it that sleeps, in words."""
    blockers: dict[int, list[int]] = field(default_factory=dict)
    """Pid: who is in the way of that."""

    def in_the_way(self, wait: Wait, pid: int) -> list[_Held]:
        """Locks that no thread of the arena has published, and that keep this one waiting.

        pid: its own process; what that one has by other ways is left aside.
        """
        r = wait.range
        if r is None:
            return []
        return [
            h
            for h in self.holders.get((r.device, r.inode), ())
            if not h.published
            and _conflict(r.style, wait.mode, r.first, r.last, h.record)
            and pid not in [p for p, _ in h.record.parties]
        ]


@dataclass(slots=True)
class _Held:
    """A lock of a file that somebody has."""

    record: _Record
    published: bool
    """By a thread of the arena."""
    certain: tuple[int, ...] = ()
    nominal: tuple[int, ...] = ()
    named: tuple[int, ...] = ()
    """Who can give it back for certain, who as a rule, and whom to name."""


@dataclass(slots=True)
class _File:
    identity: FileIdentity
    path: str
    held: list[_Held]
    waiting: list[_Record]


def _conflict(kind: str, mode: str, first: int, last: int, other: _Record) -> bool:
    """Lease holders are asked to leave, and do: they are in nobody's way for long."""
    return (
        other.kind in ("ofd", "posix", "flock")
        and (kind == "flock") == (other.kind == "flock")
        and first <= other.last
        and other.first <= last
        and not mode == other.mode == "shared"
    )


def foreign_locks(seen: Snapshot, waits: Iterable[Wait]) -> Foreign:
    """What programs without syncx have to do with the file ranges that these threads wait for."""
    found = Foreign()
    todo: list[str] = []
    for wait in waits:
        path = _path_of(seen, wait)
        if path is not None:
            todo.append(path)
    if todo:
        _Look(seen, found).at(todo)
    return found


def _path_of(seen: Snapshot, wait: Wait) -> str | None:
    """A way to the file: a descriptor of the process that waits for it."""
    who = seen.participant(wait.thread)
    process = None if who is None else seen.process(who.process)
    if wait.range is None or who is None or process is None or not process.here:
        return None
    descriptor = descriptor_of(who.pid, wait.range)
    return None if descriptor is None else f"/proc/{who.pid}/fd/{descriptor}"


class _Look:
    def __init__(self, seen: Snapshot, found: Foreign) -> None:
        self.seen, self.found = seen, found
        self.files: dict[tuple[int, int], _File] = {}
        here = {p.id for p in seen.processes if p.here and p.alive}
        self.threads = {(p.pid, p.tid): p.id for p in seen.participants if p.alive and p.process in here}
        self.ours: dict[int, list[int]] = {}
        for (pid, _), id in self.threads.items():
            self.ours.setdefault(pid, []).append(id)
        self.next_number = -(1 << 40)

    def at(self, paths: list[str]) -> None:
        """Looks at those files, and at all to which they lead."""
        asked: set[int] = set()
        while paths and len(self.files) < MOST_FILES:
            new = self._file(paths.pop())
            if new is None:
                continue
            for held in new.held:
                for pid, _ in held.record.parties:
                    if pid not in self.ours and pid not in asked:
                        asked.add(pid)
                        paths += self._awaited_by(pid)
        for file in self.files.values():
            self.found.holders[file.identity.stat.st_dev, file.identity.stat.st_ino] = file.held
        self._requests(asked)

    def _file(self, path: str) -> _File | None:
        try:
            identity = identify(path)
            name = printable(os.readlink(path))
        except OSError:  # closed since, or not for us
            return None
        key = identity.stat.st_dev, identity.stat.st_ino
        if key in self.files:
            return None
        records = list(_join(survey(identity).locks, list(_rows_of(self.seen, identity.stat)), identity))
        held = [
            _Held(r, any((pid, tid) in self.threads for pid, tid in r.parties)) for r in records if r.state != "waiting"
        ]
        self.files[key] = _File(identity, name, held, [r for r in records if r.state == "waiting" and not r.syncx])
        return self.files[key]

    def _awaited_by(self, pid: int) -> Iterator[str]:
        """The files for whose locks a process may sleep."""
        try:
            with open("/proc/locks", "rb") as f:
                lines = _WAITING.findall(f.read())
            descriptors = os.listdir(f"/proc/{pid}/fd") if lines else []
        except OSError:
            return
        inodes = {int(inode) for _, who, _, _, inode in lines if int(who) in (pid, -1)}
        for descriptor in descriptors if inodes else ():
            try:
                with open(f"/proc/{pid}/fdinfo/{descriptor}", "rb") as f:
                    inode = re.search(rb"^ino:\s*(\d+)", f.read(), re.M)
                number = os.stat(f"/proc/{pid}/fd/{descriptor}").st_ino if inode is None else int(inode[1])
            except OSError:  # closed since
                continue
            if number in inodes:
                yield f"/proc/{pid}/fd/{descriptor}"

    # ---- who waits for whom ------------------------------------------------------------------------------------

    def _requests(self, pids: Iterable[int]) -> None:
        waiting: dict[int, list[tuple[_File, _Record]]] = {}
        for file in self.files.values():
            for record in file.waiting:
                for pid, _ in record.parties[:1]:
                    waiting.setdefault(pid, []).append((file, record))
        self.nodes: dict[int, tuple[int, ...]] = {}
        self.whole: set[int] = set()
        for pid in pids:
            self.found.processes[number_of(pid)] = pid
            new = []
            for _ in waiting.get(pid, ()):
                new.append(self.next_number)
                self.found.processes[self.next_number] = pid
                self.next_number -= 1
            self.nodes[pid] = tuple(new)
            threads = thread_numbers(pid)
            if threads and len(threads) <= len(new):
                self.whole.add(pid)
        for file in self.files.values():
            for held in file.held:
                self._name(held)
        for pid, nodes in self.nodes.items():
            for number, (file, record) in zip(nodes, waiting.get(pid, ()), strict=True):
                others = [
                    h
                    for h in file.held
                    if _conflict(record.kind, record.mode, record.first, record.last, h.record)
                    and pid not in [p for p, _ in h.record.parties]
                ]
                need = len(others)
                self.found.certain[number] = Request(need, 0, tuple(Supply(1, h.certain) for h in others))
                self.found.nominal[number] = Request(need, 0, tuple(Supply(1, h.nominal) for h in others))
                if pid not in self.found.awaits:
                    part = extent(record.first, record.last)
                    self.found.awaits[pid] = f"for {part} of {file.path}" if part else f"for {file.path}"
                    self.found.blockers[pid] = list(dict.fromkeys(b for h in others for b in h.named))

    def _name(self, held: _Held) -> None:
        """Who can give a lock back."""
        certain: list[int] = []
        nominal: list[int] = []
        named: list[int] = []
        for pid, tid in held.record.parties:
            thread = self.threads.get((pid, tid))
            if thread is not None:
                certain.append(thread)
                nominal.append(thread)
                named.append(thread)
            elif pid in self.ours:  # taken beside syncx, or one of more than a thread publishes
                certain += [*self.ours[pid], UNKNOWN]
                nominal += self.ours[pid]
                named += self.ours[pid][:1]
            else:
                nodes = list(self.nodes.get(pid) or (number_of(pid),))
                certain += nodes if pid in self.whole or not self.nodes.get(pid) else [*nodes, UNKNOWN]
                nominal += nodes
                named.append(number_of(pid))
        held.certain = tuple(certain) or (UNKNOWN,)
        held.nominal = tuple(nominal) or (UNKNOWN,)
        held.named = tuple(named) or (UNKNOWN,)
