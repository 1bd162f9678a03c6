"""Who waits for whom, and whether for ever: the wait-for graph of an arena, worked out from snapshots in Python.

It shares nothing with the detector of the core (syncx/_core/deadlock.c) but what threads write into the arena, so that
either can be tested against the other.  requests.py says what each thread waits for, verdicts.py who is in a knot.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .proctable import command_of, process_state, state_of, stopped, thread_numbers
from .requests import Rules, Source, requests_of, restless
from .snapshots import Participant, ProcessInfo, Snapshot, Wait, snapshot
from .terminal import command_line, duration
from .verdicts import Found, awaited_requests, knots_of, same_waits, stable, ways_to
from .words import awaited, listing, shortened

if TYPE_CHECKING:
    from .arena import Arena

__all__ = ["Blocked", "ForeignProcess", "Knot", "WaitGraph", "wait_graph"]

LOOKS = 4
"""So often a picture is taken at most until one is confirmed."""
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ForeignProcess:
    """A process that has no part in the arena, and holds or awaits a range of a file that somebody in it uses."""

    pid: int
    command: str
    """Its command line; "" where that cannot be seen."""
    state: str
    """The letter of its main thread, see proc_pid_stat(5): "T" is stopped; "" where it cannot be seen."""
    threads: int
    """How many it has; 0: not known."""
    awaits: str
    """The range that it waits for itself, in words; "": none that is known, so it runs."""
    blockers: tuple[Blocker, ...] = ()
    """Who has that."""


Blocker = Participant | ProcessInfo | ForeignProcess | str
"""A thread; a process of which no thread is known to have it (a permit belongs to the process); a process that has no
part in the arena; "unknown"."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A thread that waits."""

    participant: Participant
    process: ProcessInfo | None
    wait: Wait
    """What it waits for now: the last, if it waits in a signal handler inside another wait."""
    what: str
    """That in words, to be read behind "waits": "for Mutex 'jobs'", "to read RWLock 'table'"."""
    blockers: tuple[Blocker, ...]
    """Whom it waits for.  "unknown": whoever signals it, or somebody who cannot be seen from here."""
    verdict: str
    """"runs": whoever it waits for does not wait, or not for long; "resolves": it is in a knot that ends by itself,
    when a time limit does; "deadlock"; "suspected": in a knot that only somebody could end of whom nothing is known;
    "behind": it waits for a knot of which it is no member."""
    resolves_in: float | None
    """Of "resolves": seconds until the earliest time limit in its knot; of all others None."""
    knot: int | None
    """The knot that it is in, or waits for: an index of `WaitGraph.knots`."""
    stopped: bool
    """It is stopped, by a signal or a debugger."""

    @property
    def pid(self) -> int:
        """Of its process, in that one's own pid namespace."""
        return self.participant.pid

    @property
    def tid(self) -> int:
        """Of the thread, likewise."""
        return self.participant.tid

    @property
    def where(self) -> str | None:
        """The line of Python where it waits; None: not known."""
        return self.wait.where

    def __str__(self) -> str:
        return f"{describe(self.participant, self.process)} waits {self.what}"


Member = Blocked | ForeignProcess


@dataclass(frozen=True, slots=True)
class Knot:
    """Threads each of which waits for others of them, so that none can go on (Holt 1972)."""

    members: tuple[Member, ...]
    """In wait-for order: each waits for the next one, and the last for the first, as far as one way leads
    through all of them; the others follow."""
    verdict: str
    """"deadlock", "suspected" or "resolves"."""
    resolves_in: float | None
    """Of "resolves": seconds until the earliest time limit among the members."""
    victim: Participant | None
    """The member that has been told to give up, and has not yet woken; None: nobody."""

    @property
    def threads(self) -> frozenset[int]:
        """The ids of the members that are threads of the arena."""
        return frozenset(m.participant.id for m in self.members if isinstance(m, Blocked))

    @property
    def foreign(self) -> bool:
        """Programs without syncx take part: of them nobody can be told to give up."""
        return any(isinstance(m, ForeignProcess) for m in self.members)


@dataclass(frozen=True, slots=True)
class WaitGraph:
    """What `wait_graph` found.  It never changes."""

    snapshot: Snapshot
    """The picture it was worked out from."""
    blocked: tuple[Blocked, ...]
    """All threads that wait, the longest-waiting first."""
    knots: tuple[Knot, ...]
    """Deadlocks first, then those suspected, then those that end by themselves."""
    foreign: tuple[ForeignProcess, ...]
    """Processes without a part in the arena that are in somebody's way."""
    states: Mapping[int, str]
    """Of threads, by their ids: the letter of proc_pid_stat(5), where it could be seen."""
    _index: Mapping[int, Blocked] = field(repr=False, compare=False)

    def of(self, thread: Participant | int) -> Blocked | None:
        """What a thread, or the thread of that id, waits for; None if it does not."""
        return self._index.get(thread.id if isinstance(thread, Participant) else thread)

    @property
    def deadlocks(self) -> tuple[Knot, ...]:
        """The knots that are deadlocks."""
        return tuple(k for k in self.knots if k.verdict == "deadlock")

    def stopped(self, who: Blocker) -> bool:
        """Is that thread, or process, stopped by a signal or a debugger, as far as can be seen?"""
        if isinstance(who, ForeignProcess):
            return who.state in ("T", "t")
        return isinstance(who, Participant) and self.states.get(who.id) in ("T", "t")

    def chain(self, who: Blocked) -> tuple[Blocker | Blocked, ...]:
        """The way from a thread to who it waits for in the end: threads that wait, and at the end one that does not, or
        the first one that comes again, or "unknown".  Raises TypeError for what is no `Blocked`."""
        if not isinstance(who, Blocked):
            raise TypeError(f"chain() takes one of the graph's `blocked`, not {type(who).__name__}")
        way: list[Blocker | Blocked] = [who]
        seen: set[Any] = {who.participant.id}
        at: Blocked | ForeignProcess = who
        while True:
            following = self._next(at, seen)
            if following is None:
                return tuple(way)
            way.append(following)
            key = following.participant.id if isinstance(following, Blocked) else following
            if not isinstance(following, (Blocked, ForeignProcess)) or key in seen:
                return tuple(way)
            seen.add(key)
            at = following

    def _next(self, at: Blocked | ForeignProcess, seen: set[Any]) -> Blocker | Blocked | None:
        """Whom to go on with: towards the knot if there is one, else whoever runs."""
        whole = {f.pid: f for f in self.foreign}
        found: list[Blocker | Blocked] = []
        for b in at.blockers:
            if isinstance(b, ForeignProcess):
                found.append(whole.get(b.pid, b))
            else:
                found.append(self.of(b) or b if isinstance(b, Participant) else b)
        knot = at.knot if isinstance(at, Blocked) else None
        if isinstance(at, Blocked) and knot is None:
            found.sort(key=lambda b: isinstance(b, Blocked))
        elif knot is not None:
            members = self.knots[knot].threads
            found.sort(key=lambda b: not (isinstance(b, Blocked) and b.participant.id in members))
            found.sort(key=lambda b: not (isinstance(b, Blocked) and b.knot == knot))
        new = [b for b in found if (b.participant.id if isinstance(b, Blocked) else b) not in seen]
        return next(iter(new or found), None)

    def to_dict(self) -> dict[str, Any]:
        """All of it but the snapshot in dicts, lists, strings and numbers; ids of threads as in `Snapshot.to_dict`."""
        return {
            "path": self.snapshot.path,
            "taken": self.snapshot.taken,
            "blocked": [_plain(b, self) for b in self.blocked],
            "knots": [_plain_knot(k, self) for k in self.knots],
            "foreign": [_plain_foreign(f) for f in self.foreign],
            "problems": list(self.snapshot.problems),
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """`to_dict` as JSON.  indent: as for `json.dumps`."""
        import json

        return json.dumps(self.to_dict(), indent=indent)

    def __str__(self) -> str:
        """A line for each knot, and below it and for everybody else who waits a line for each thread."""
        lines: list[str] = []
        for number, knot in enumerate(self.knots):
            lines.append(headline(knot))
            lines += [f"  {sentence(m, self)}" for m in knot.members]
            lines += [
                f"  behind it: {sentence(b, self)}" for b in self.blocked if b.knot == number and b.verdict == "behind"
            ]
        lines += [sentence(b, self) for b in self.blocked if b.knot is None]
        return "\n".join(lines) or "nobody waits"


# ---- in words --------------------------------------------------------------------------------------------------------


def describe(who: Participant | None, process: ProcessInfo | None) -> str:
    """A thread: "process 12, thread 15 (worker)"."""
    if who is None:
        return "somebody unknown"
    elsewhere = " of another pid namespace" if process is not None and not process.here else ""
    name = f" ({who.name})" if who.name and who.name != "MainThread" else ""
    thread = f", thread {who.tid}" if who.tid != who.pid else ""
    return f"process {who.pid}{elsewhere}{thread}{name}"


def blocker_in_words(who: Blocker, graph: WaitGraph) -> str:
    """Who is in the way: a thread, a process, a program, or "somebody unknown"."""
    if isinstance(who, Participant):
        return describe(who, graph.snapshot.process(who.process)) + (" (stopped)" if graph.stopped(who) else "")
    if isinstance(who, ProcessInfo):
        return f"process {who.pid}" + ("" if who.here else " of another pid namespace")
    if isinstance(who, ForeignProcess):
        stopped = ", stopped" if graph.stopped(who) else ""
        return f"process {who.pid} ({shortened(who.command) or 'its command cannot be seen'}; without syncx{stopped})"
    return "somebody who cannot be told"


def headline(knot: Knot) -> str:
    """A knot in a line."""
    n = len(knot.members)
    threads = (
        "1 thread that waits for itself" if n == 1 else f"{n} {'threads and programs' if knot.foreign else 'threads'}"
    )
    if knot.verdict == "resolves":
        assert knot.resolves_in is not None
        return f"{threads} wait for each other; that resolves itself in {duration(knot.resolves_in)}"
    if knot.verdict == "suspected":
        return f"suspected deadlock of {threads}"
    told = f"; {describe(knot.victim, None)} has been told to give up" if knot.victim is not None else ""
    unbreakable = "; syncx cannot break it, for a program without syncx takes part" if knot.foreign else ""
    return f"deadlock of {threads}{told}{unbreakable}"


def sentence(who: Member, graph: WaitGraph) -> str:
    """What a thread waits for, since when, where, and who is in the way."""
    if isinstance(who, ForeignProcess):
        stopped = " (stopped)" if graph.stopped(who) else ""
        blockers = listing([blocker_in_words(b, graph) for b in who.blockers]) if who.blockers else "somebody unknown"
        command = shortened(who.command) or "its command cannot be seen"
        return f"process {who.pid}{stopped} ({command}; without syncx) waits {who.awaits}; held by {blockers}"
    text = describe(who.participant, who.process) + (" (stopped)" if who.stopped else "")
    text += " waits" if who.wait.waited is None else f" has waited {duration(who.wait.waited)}"
    text += f" {who.what}"
    if who.where is not None:
        text += f", in {who.where}"
    if who.wait.remaining is not None:
        text += f", for {duration(who.wait.remaining)} more"
    known = [b for b in who.blockers if b != UNKNOWN]
    if known:
        text += f"; held by {listing([blocker_in_words(b, graph) for b in known])}"
    return text


# ---- as JSON ---------------------------------------------------------------------------------------------------------


def _id(number: int) -> str:
    return f"{number:016x}"


def _plain_blocker(who: Blocker) -> dict[str, Any]:
    if isinstance(who, Participant):
        return {"thread": _id(who.id), "pid": who.pid, "tid": who.tid}
    if isinstance(who, ProcessInfo):
        return {"process": _id(who.id), "pid": who.pid}
    if isinstance(who, ForeignProcess):
        return {"foreign": who.pid, "pid": who.pid}
    return {"unknown": True}


def _plain(b: Blocked, graph: WaitGraph) -> dict[str, Any]:
    here = b.process is not None and b.process.here
    return {
        "thread": _id(b.participant.id),
        "pid": b.pid,
        "tid": b.tid,
        "name": b.participant.name,
        "here": here,
        "command": command_of(b.participant) if here else "",
        "stopped": b.stopped,
        "what": b.what,
        "kind": b.wait.kind,
        "object": b.wait.object,
        "object_name": None if (o := graph.snapshot.at(b.wait.object)) is None else o.name,
        "where": b.where,
        "waited": b.wait.waited,
        "remaining": b.wait.remaining,
        "blockers": [_plain_blocker(w) for w in b.blockers],
        "verdict": b.verdict,
        "resolves_in": b.resolves_in,
        "knot": b.knot,
    }


def _plain_foreign(f: ForeignProcess) -> dict[str, Any]:
    return {
        "pid": f.pid,
        "command": f.command,
        "state": f.state,
        "threads": f.threads,
        "awaits": f.awaits or None,
        "blockers": [_plain_blocker(w) for w in f.blockers],
    }


def _plain_knot(k: Knot, graph: WaitGraph) -> dict[str, Any]:
    return {
        "verdict": k.verdict,
        "resolves_in": k.resolves_in,
        "victim": None if k.victim is None else _id(k.victim.id),
        "foreign": k.foreign,
        "members": [_plain_blocker(m.participant if isinstance(m, Blocked) else m) for m in k.members],
    }


# ---- the whole -------------------------------------------------------------------------------------------------------


def _verdict(who: int, found: Sequence[Found], towards: Sequence[set[int]]) -> tuple[str, int | None]:
    for number, knot in enumerate(found):
        if who in knot.members:
            return knot.verdict, number
    for number, way in enumerate(towards):
        if who in way:
            return "behind", number
    return "runs", None


class _Assembler:
    """Makes objects of numbers."""

    def __init__(self, seen: Snapshot, rules: Rules, found: list[Found], outside: bool) -> None:
        order = ("deadlock", "suspected", "resolves")
        self.seen, self.rules = seen, rules
        self.found = sorted(found, key=lambda f: (order.index(f.verdict), -max(f.members)))
        self.towards = ways_to(self.found, rules)
        self.states = self._states() if outside else {}
        self.foreign: dict[int, ForeignProcess] = {}
        for pid in set(rules.foreign.processes.values()):
            self.foreign[pid] = self._foreign(pid, deep=True)

    def _states(self) -> dict[int, str]:
        states = {}
        concerned = self.rules.awaited.union(self.rules.certain)
        for p in self.seen.participants:
            process = self.seen.process(p.process)
            if p.alive and process is not None and process.here and p.id in concerned and (state := state_of(p)):
                states[p.id] = state
        return states

    def _foreign(self, pid: int, *, deep: bool) -> ForeignProcess:
        foreign = self.rules.foreign
        blockers: tuple[Blocker, ...] = ()
        if deep:  # of foreign ones that are in its way no more than who they are
            for source in foreign.blockers.get(pid, ()):
                other = foreign.processes.get(source)
                blockers += (self.blocker(source) if other is None else self._foreign(other, deep=False),)
        return ForeignProcess(
            pid=pid,
            command=command_line(pid),
            state=process_state(pid),
            threads=len(thread_numbers(pid)),
            awaits=foreign.awaits.get(pid, ""),
            blockers=blockers,
        )

    def blocker(self, source: Source) -> Blocker:
        if isinstance(source, ProcessInfo):
            return source
        pid = self.rules.foreign.processes.get(source)
        return self.foreign[pid] if pid is not None else self.seen.participant(source) or UNKNOWN

    def graph(self) -> WaitGraph:
        limits = [self._earliest(knot) for knot in self.found]
        blocked: dict[int, Blocked] = {}
        for id, wait in self.rules.waits.items():
            who = self.seen.participant(id)
            assert who is not None
            verdict, number = _verdict(id, self.found, self.towards)
            process = self.seen.process(who.process)
            blocked[id] = Blocked(
                participant=who,
                process=process,
                wait=wait,
                what=awaited(self.seen, wait, who.pid if process is not None and process.here else None),
                blockers=tuple(dict.fromkeys(self.blocker(s) for s in self.rules.blockers[id])),
                verdict=verdict,
                resolves_in=limits[number] if number is not None and verdict == "resolves" else None,
                knot=number,
                stopped=stopped(self.states.get(id, "")),
            )
        knots = [self._knot(knot, limit, blocked) for knot, limit in zip(self.found, limits, strict=True)]
        return WaitGraph(
            snapshot=self.seen,
            blocked=tuple(sorted(blocked.values(), key=lambda b: (b.wait.since_ns, b.participant.id))),
            knots=tuple(knots),
            foreign=tuple(self.foreign[pid] for pid in sorted(self.foreign)),
            states=MappingProxyType(self.states),
            _index=MappingProxyType(blocked),
        )

    def _knot(self, knot: Found, limit: float | None, blocked: Mapping[int, Blocked]) -> Knot:
        members: dict[Any, Member] = {}
        told = None
        for m in knot.members:
            if m in blocked:
                members[m] = blocked[m]
                told = blocked[m].participant if blocked[m].wait.state == "victim" else told
            else:
                pid = self.rules.foreign.processes[m]
                members[f"pid {pid}"] = self.foreign[pid]
        return Knot(members=tuple(members.values()), verdict=knot.verdict, resolves_in=limit, victim=told)

    def _earliest(self, knot: Found) -> float | None:
        """The time limit that ends it: of a member, or else of somebody else who could free one."""
        if knot.verdict != "resolves":
            return None
        inside = [m for m in knot.members if m in self.rules.waits]
        outside = [s for m in inside for supply in self.rules.certain[m].supplies for s in supply.sources]
        for group in (inside, outside, self.rules.timed):
            limits = [r for m in group if m in self.rules.waits and (r := self.rules.waits[m].remaining) is not None]
            if limits:
                return min(limits)
        return 0.0


def wait_graph(
    arena_or_snapshot: Arena | Snapshot | str | os.PathLike[str] | None = None, *, foreign: bool = True
) -> WaitGraph:
    """Who waits for whom in an arena, and how each of these waits will end.

    arena_or_snapshot: an open arena, the name or path of one (which is not attached to), or a snapshot; by default the
        default arena.
    foreign: look also at what is not in the arena: file locks of programs without syncx, in /proc/locks and
        /proc/PID/fdinfo, and whether a thread is stopped.  False: what the arena says is all that counts.

    Nobody is stopped or waited for, and nothing is changed.  Of an arena several pictures are taken, if there is a
    deadlock in the first one: it counts only if all whom it rests on are in the very same waits in the next, so that
    what was read in between was true all at once.  Of a snapshot only those are believed that are `stable`; a deadlock
    that rests on others is told as suspected.

    Raises what `syncx.snapshot` raises; TypeError for a source of another kind.  Any thread may call it, and a forked
    child; a thread that is killed in it leaves nothing behind.
    """
    if isinstance(arena_or_snapshot, Snapshot):
        seen = arena_or_snapshot
        look_again = None
    else:
        look_again = partial(snapshot, arena_or_snapshot)
        seen = look_again()
    for look in range(LOOKS):
        rules = requests_of(seen, outside=foreign)
        found = knots_of(rules)
        deadlocks = [f for f in found if f.verdict == "deadlock"]
        if not deadlocks and (look_again is None or look == LOOKS - 1 or not restless(seen, rules)):
            break
        after = seen if look_again is None else look_again()
        doubtful = [f for f in deadlocks if not _confirmed(f, seen, rules, after, foreign)]
        if deadlocks and not doubtful:
            break
        if look == LOOKS - 1 or look_again is None:
            for knot in doubtful:
                knot.verdict = "suspected"
            break
        seen = after
    return _Assembler(seen, rules, found, foreign).graph()


def _confirmed(knot: Found, seen: Snapshot, rules: Rules, after: Snapshot, outside: bool) -> bool:
    """Has everybody whom it rests on been in the very same wait all the time?"""
    same = stable(seen, rules, knot.depends) if after is seen else same_waits(seen, after, rules, knot.depends)
    asked = awaited_requests(rules, knot.depends)
    return same and (
        not asked or asked <= awaited_requests(again := requests_of(after, outside=outside), again.certain)
    )
