"""Snapshots that are made up: who holds and awaits what, without a process."""

from __future__ import annotations

from typing import Any

import syncx
from syncx.snapshots import Counters, FileRange, Hold, ObjectState, Participant, ProcessInfo, Snapshot, Wait

TO_THE_END = (1 << 63) - 1
INNER = {"RWLock": "writer", "Once": "runner", "Condition": "lock"}


class Scene:
    """Builds a snapshot.  Threads, processes and objects are known by their names; each thread has a process of its own
    unless it is given one."""

    def __init__(self) -> None:
        self.processes: dict[str, ProcessInfo] = {}
        self.threads: dict[str, Participant] = {}
        self.objects: dict[str, ObjectState] = {}
        self.holds: list[Hold] = []
        self.waits: list[Wait] = []

    def process(self, name: str, *, alive: bool = True) -> ProcessInfo:
        if name not in self.processes:
            n = len(self.processes) + 1
            # not here: nothing in /proc has to do with it
            self.processes[name] = ProcessInfo(n << 32, 5_000_000 + n, 1, 1, 0.0, alive, False)
        return self.processes[name]

    def thread(self, name: str, process: str | None = None, *, alive: bool = True, stable: bool = True) -> Participant:
        if name not in self.threads:
            p = self.process(process or name, alive=alive)
            n = len(self.threads) + 1
            first = not any(t.process == p.id for t in self.threads.values())
            tid = p.pid if first else 6_000_000 + n
            self.threads[name] = Participant(n, p.id, p.pid, tid, 1, name, alive, stable)
        return self.threads[name]

    def object(self, name: str, kind: str = "Mutex", **fields: Any) -> ObjectState:
        if name not in self.objects:
            empty = dict.fromkeys(ObjectState._fields, 0)
            plain = {
                **empty, "id": 1024 * (len(self.objects) + 1), "kind": kind, "name": name, "value": None, "lock": None,
                "broken": False, "owner_died": False, "retired": False, "stable": True, **fields,
            }  # fmt: skip
            self.objects[name] = ObjectState(**plain)
        return self.objects[name]

    def hold(self, thread: str | None, what: str | FileRange, *, process: str | None = None, **fields: Any) -> None:
        who = self.thread(thread) if thread is not None else None
        owner = self.process(process) if process is not None else None
        plain: dict[str, Any] = {
            "part": None, "mode": "exclusive", "units": 1, "flags": (), "held": None, "since": None,
            "where": None, "stable": True,
            "thread": None if who is None else who.id,
            "process": owner.id if owner is not None else None if who is None else who.process,
            "pid": owner.pid if owner is not None else None if who is None else who.pid,
            "tid": None if who is None else who.tid,
            "alive": owner.alive if owner is not None else who is not None and who.alive,
        }  # fmt: skip
        self.holds.append(Hold(**{**plain, **self._what(what), **fields}))

    def wait(self, thread: str, what: str | FileRange | None, **fields: Any) -> None:
        remaining = fields.get("remaining")
        since = 1000 * (len(self.waits) + 1)
        plain: dict[str, Any] = {
            "thread": self.thread(thread).id, "level": 0, "state": "waiting", "part": None, "mode": "exclusive",
            "units": 1, "holder": None, "waited": 1.0, "remaining": None, "pid": None, "address": 0,
            "since_ns": since, "deadline_ns": None if remaining is None else since + round(remaining * 1e9),
            "ticket": len(self.waits) + 1, "where": None, "stable": True,
        }  # fmt: skip
        self.waits.append(Wait(**{**plain, **self._what(what), **fields}))

    def _what(self, what: str | FileRange | None) -> dict[str, Any]:
        if what is None:
            return {"object": None, "kind": "process", "range": None}
        if isinstance(what, FileRange):
            return {"object": None, "kind": "file range", "range": what}
        found = self.object(what)
        return {"object": found.id, "kind": found.kind, "range": None}

    def snapshot(self) -> Snapshot:
        return Snapshot(
            path="/made/up", id=bytes(16), abi=0, created=0.0, taken=0.0, taken_ns=0, this_boot=True, witnessed=True,
            retired=False, damaged=False, processes=tuple(self.processes.values()),
            participants=tuple(self.threads.values()), objects=tuple(self.objects.values()), holds=tuple(self.holds),
            waits=tuple(self.waits), counters=Counters(0, 0, 0, 0, 0, 0), problems=(),
        )  # fmt: skip

    def graph(self) -> syncx.WaitGraph:
        return syncx.wait_graph(self.snapshot(), foreign=False)

    def verdicts(self) -> dict[str, str]:
        """Of each thread that waits."""
        graph = self.graph()
        return {name: b.verdict for name, who in self.threads.items() if (b := graph.of(who)) is not None}

    def knots(self) -> list[tuple[str, list[str]]]:
        """Each with its verdict and members."""
        names = {who.id: name for name, who in self.threads.items()}
        return [(k.verdict, [names[m.participant.id] for m in k.members]) for k in self.graph().knots]


def bytes_of(first: int, last: int = TO_THE_END, *, inode: int = 7, style: str = "ofd") -> FileRange:
    return FileRange(1, inode, first, last, style)
