"""What each thread of a snapshot waits for, as requests of reduction.py.

There are two readings.  The certain one has a request filled by whoever possibly could: a permit taken by acquire() by
any attached thread of its process, a signal by any thread at all.  Whoever is stuck under it is stuck for ever.  The
nominal one expects a permit back from the thread that took it, and a signal from nobody.  Whoever is stuck under that
one alone may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .foreignlocks import UNKNOWN, Foreign, foreign_locks, number_of
from .proctable import thread_numbers
from .reduction import ANYBODY, Request, Supply
from .snapshots import Hold, Participant, ProcessInfo, Snapshot, Wait

__all__ = ["Rules", "Source", "current_wait", "in_the_way", "requests_of", "restless"]

Source = int | ProcessInfo
"""Who is in the way: the id of a thread, 0 for whoever signals, the (negative) number of a foreign process, -1 for
somebody unknown; or a process of the arena."""

_Pool = tuple[int, dict[int, tuple[int, int]], tuple[Supply, ...], tuple[Supply, ...], list[Source]]

_SIGNALS = ("Semaphore", "Event", "Latch", "Condition")
_GOES_ON = Request(0, 0, ())
_BLOCKED = ("waiting", "behind", "trying", "victim")
"""States of a wait in which its thread has not got what it waits for.  One that is "trying" for a file range may
sleep in the kernel; whether it has it is told by what it holds."""


@dataclass(slots=True)
class Rules:
    """The requests of a snapshot, and what else decides."""

    certain: dict[int, Request] = field(default_factory=dict)
    nominal: dict[int, Request] = field(default_factory=dict)
    waits: dict[int, Wait] = field(default_factory=dict)
    blockers: dict[int, list[Source]] = field(default_factory=dict)
    timed: set[int] = field(default_factory=set)
    """Those who give up at some time."""
    signalled: set[int] = field(default_factory=set)
    """Those who wait for a signal, of which nobody knows from whom it will come."""
    threads: set[int] = field(default_factory=set)
    """All that live."""
    foreign: Foreign = field(default_factory=Foreign)
    running: bool = False
    """Whether a thread that does not wait could signal: an attached one, or one that is not attached (yet)."""

    @property
    def awaited(self) -> set[int]:
        """Those who are in somebody's way."""
        return {s for sources in self.blockers.values() for s in sources if isinstance(s, int)}


def current_wait(seen: Snapshot, who: Participant) -> Wait | None:
    """What a thread waits for now, and has not got; None if it does not wait."""
    waits = seen.awaited_by(who.id) if who.alive else ()
    return waits[-1] if waits and waits[-1].state in _BLOCKED else None


def _file_of(wait: Wait) -> tuple[int, int] | None:
    return None if wait.range is None else (wait.range.device, wait.range.inode)


def _overlap(a: Wait, b: Wait) -> bool:
    """Do two who wait want something that only one of them can have?"""
    x, y = a.range, b.range
    return (
        x is not None
        and y is not None
        and (x.style == "flock") == (y.style == "flock")
        and x.first <= y.last
        and y.first <= x.last
        and not a.mode == b.mode == "shared"
    )


def in_the_way(wait: Wait, hold: Hold) -> bool:
    """Does that hold of a file range exclude what is awaited?  Locks of flock(2) and of fcntl(2) ignore each other."""
    a, b = wait.range, hold.range
    return (
        a is not None
        and b is not None
        and (a.device, a.inode, a.style == "flock") == (b.device, b.inode, b.style == "flock")
        and a.first <= b.last
        and b.first <= a.last
        and not wait.mode == hold.mode == "shared"
        and hold.thread != wait.thread
    )


def requests_of(seen: Snapshot, *, outside: bool = True) -> Rules:
    """The rules of a snapshot.

    outside: look in /proc too: for file locks of programs without syncx, and for threads that are not attached.
    """
    rules = Rules()
    reader = _Reader(seen)
    rules.threads = {p.id for p in seen.participants if p.alive}
    for who in seen.participants:
        wait = current_wait(seen, who)
        if wait is None:
            continue
        certain, nominal, blockers = reader.request(who, wait)
        rules.waits[who.id] = wait
        rules.certain[who.id], rules.nominal[who.id] = certain, nominal
        rules.blockers[who.id] = blockers
        if wait.remaining is not None:
            rules.timed.add(who.id)
        if 0 in blockers:
            rules.signalled.add(who.id)
    rules.running = len(rules.certain) < len(rules.threads) or any(
        p.alive and _has_others(seen, reader, p, outside) for p in seen.processes
    )
    if outside:
        _add_foreign(seen, rules)
    return rules


def _add_foreign(seen: Snapshot, rules: Rules) -> None:
    waits = [w for w in rules.waits.values() if w.range is not None]
    rules.foreign = foreign = foreign_locks(seen, waits)
    for wait in waits:
        who = seen.participant(wait.thread)
        held = foreign.in_the_way(wait, who.pid) if who is not None else []
        if not held:
            continue
        certain, nominal = rules.certain[wait.thread], rules.nominal[wait.thread]
        n = len(held)
        rules.certain[wait.thread] = Request(
            certain.need + n, certain.free, (*certain.supplies, *(Supply(1, h.certain) for h in held))
        )
        rules.nominal[wait.thread] = Request(
            nominal.need + n, nominal.free, (*nominal.supplies, *(Supply(1, h.nominal) for h in held))
        )
        rules.blockers[wait.thread] = [*rules.blockers[wait.thread], *dict.fromkeys(s for h in held for s in h.named)]
    for wait in rules.waits.values():
        if wait.pid is not None and number_of(wait.pid) in rules.blockers[wait.thread]:
            foreign.processes[number_of(wait.pid)] = wait.pid
    rules.certain.update(foreign.certain)
    rules.nominal.update(foreign.nominal)


def restless(seen: Snapshot, rules: Rules) -> bool:
    """Is somebody in the way who seems to run, and was just changing?  It may be a sleeper that looked around."""
    return any(
        id not in rules.certain and (who := seen.participant(id)) is not None and who.alive and not who.stable
        for id in rules.awaited
    )


def _has_others(seen: Snapshot, reader: _Reader, process: ProcessInfo, outside: bool) -> bool:
    """Threads that are not attached: they may come yet."""
    attached = reader.threads_of.get(process.id, ())
    if not attached:
        return True
    if not (outside and process.here):
        return False
    tids = {p.tid for id in attached if (p := seen.participant(id)) is not None}
    return not tids.issuperset(thread_numbers(process.pid))


def _lock(holds: Sequence[Hold], me: int) -> tuple[Request, Request, list[Source]]:
    """One thing, that one thread has."""
    others = [h for h in holds if h.alive and h.thread]
    if not others:
        return _GOES_ON, _GOES_ON, []
    request = Request(len(others), 0, tuple(Supply(1, (h.thread or 0,), h.stable) for h in others))
    return request, request, [h.thread or 0 for h in others]


class _Reader:
    """Makes requests of waits."""

    def __init__(self, seen: Snapshot) -> None:
        self.seen = seen
        self.alive = {p.id for p in seen.participants if p.alive}
        self.threads_of: dict[int, list[int]] = {}
        for p in seen.participants:
            if p.alive and p.process is not None:
                self.threads_of.setdefault(p.process, []).append(p.id)
        self.lines: dict[tuple[int, int] | None, list[Wait]] = {}
        for w in seen.waits:
            if w.range is not None and w.state in _BLOCKED:
                self.lines.setdefault(_file_of(w), []).append(w)
        self.ranges: dict[tuple[int, int], list[Hold]] = {}
        self.arena: list[Hold] = []
        self.pools: dict[int, _Pool] = {}
        for h in seen.holds:
            if h.range is not None:
                self.ranges.setdefault((h.range.device, h.range.inode), []).append(h)
            elif h.kind == "arena":
                self.arena.append(h)

    def request(self, who: Participant, wait: Wait) -> tuple[Request, Request, list[Source]]:
        """The certain request, the nominal one, and who is in the way."""
        if wait.range is not None:
            ranges = self.ranges.get((wait.range.device, wait.range.inode), [])
            return self._in_line(wait, _lock([h for h in ranges if in_the_way(wait, h)], who.id))
        if wait.kind == "process":
            return self._end(who, wait)
        if wait.kind == "arena":
            return _lock(self.arena, who.id)
        found = self.seen.at(wait.object)
        if found is None:
            return self._elsewhere(wait)
        if found.retired:
            return _GOES_ON, _GOES_ON, []
        holds = self.seen.holders_of(found.id)
        if wait.kind == "RWLock":
            return self._readers_and_writer(who, wait, holds)
        if wait.part is not None or wait.kind in ("Mutex", "RLock", "Once"):
            if wait.kind == "Once" and found.value == 1:
                return _GOES_ON, _GOES_ON, []
            part = "runner" if wait.kind == "Once" else wait.part
            same = [h for h in holds if h.part == part]
            if any(h.thread == who.id for h in same) and wait.holder != who.id:
                return _GOES_ON, _GOES_ON, []  # it has it already
            return _lock(same, who.id)
        if wait.kind == "BoundedSemaphore":
            return self._permits(who, wait, found.parameter, holds)
        if wait.kind == "Barrier":
            return self._barrier(who, found.parameter, found.value, holds)
        if wait.kind in _SIGNALS:
            ready = {
                "Event": found.value == 1,
                "Latch": found.value == 0,
                "Semaphore": (found.value or 0) >= wait.units,
            }
            if ready.get(wait.kind, False):
                return _GOES_ON, _GOES_ON, []
        return self._signal()

    def _in_line(
        self, wait: Wait, found: tuple[Request, Request, list[Source]]
    ) -> tuple[Request, Request, list[Source]]:
        """Who stands behind another who waits lets that one go first; for order's sake, so it is not certain."""
        certain, nominal, blockers = found
        if wait.state != "behind":
            return found
        ahead = [
            w
            for w in self.lines.get(_file_of(wait), ())
            if w.ticket < wait.ticket and w.thread in self.alive and _overlap(wait, w)
        ]
        if not ahead:
            return found
        before = max(ahead, key=lambda w: w.ticket).thread
        if before not in blockers:
            blockers = [*blockers, before]
        nominal = Request(nominal.need + 1, nominal.free, (*nominal.supplies, Supply(1, (before,))))
        return Request(certain.need, certain.free, certain.supplies), nominal, blockers

    @staticmethod
    def _signal() -> tuple[Request, Request, list[Source]]:
        return Request(1, 0, (Supply(1, (ANYBODY,)),)), Request(1, 0, ()), [0]

    def _end(self, who: Participant, wait: Wait) -> tuple[Request, Request, list[Source]]:
        """The end of a process: any of its threads can bring it about; as a rule it is the main thread that does."""
        mine = self.seen.process(who.process)
        for p in self.seen.processes:
            threads = tuple(self.threads_of.get(p.id, ()))
            if p.alive and p.pid == wait.pid and mine is not None and p.namespace == mine.namespace:
                main = tuple(t for t in threads if (q := self.seen.participant(t)) is not None and q.tid == q.pid)
                certain = Request(1, 0, (Supply(1, threads or (UNKNOWN,)),))
                return certain, Request(1, 0, (Supply(1, main or threads or (UNKNOWN,)),)), list(main or threads or [p])
        outside = mine is not None and mine.here and wait.pid
        return Request(0, 0, ()), _GOES_ON, [number_of(wait.pid) if outside and wait.pid else UNKNOWN]

    def _elsewhere(self, wait: Wait) -> tuple[Request, Request, list[Source]]:
        """In memory of the user's own, which we cannot see: when it fell asleep the thread wrote down who had it."""
        if wait.kind in (*_SIGNALS, "Barrier"):
            return _GOES_ON, Request(1, 0, ()), [0]
        if wait.holder is None or wait.holder not in self.alive:
            return _GOES_ON, _GOES_ON, []
        request = Request(1, 0, (Supply(1, (wait.holder,)),))
        if wait.kind in ("Mutex", "RLock", "guard") and self._has_slept_since(wait):
            return request, request, [wait.holder]
        return Request(0, 0, ()), request, [wait.holder]

    def _has_slept_since(self, wait: Wait) -> bool:
        """Has the holder been in one and the same wait since the thread looked?  Then it has it still.

        The time of that look is the wait's ticket; clocks of different time namespaces cannot be compared.
        """
        who, holder = self.seen.participant(wait.thread), self.seen.participant(wait.holder)
        if who is None or holder is None:
            return False
        theirs = current_wait(self.seen, holder)
        one, other = self.seen.process(who.process), self.seen.process(holder.process)
        return (
            theirs is not None
            and theirs.since_ns < wait.ticket
            and one is not None
            and other is not None
            and one.namespace & 0xFFFFFFFF == other.namespace & 0xFFFFFFFF
        )

    def _readers_and_writer(
        self, who: Participant, wait: Wait, holds: Sequence[Hold]
    ) -> tuple[Request, Request, list[Source]]:
        writers = [h for h in holds if h.part == "writer"]
        readers = [h for h in holds if h.part is None]
        if wait.part is not None:
            if any(h.thread == who.id for h in writers) and wait.holder != who.id:
                return _GOES_ON, _GOES_ON, []
            return _lock(writers, who.id)
        if wait.mode == "shared":
            # while it waits for the writer that is there its mark is not counted; if it is, it may go on
            if any(h.thread == who.id for h in readers):
                return _GOES_ON, _GOES_ON, []
            return _lock([h for h in writers if h.mode == "exclusive" and h.thread != who.id], who.id)
        return _lock([h for h in readers if h.thread != who.id], who.id)

    def _permits(
        self, who: Participant, wait: Wait, capacity: int, holds: Sequence[Hold]
    ) -> tuple[Request, Request, list[Source]]:
        free, own, certain, nominal, blockers = self._pool(wait.object or 0, capacity, holds)
        settled, unsettled = own.get(who.id, (0, 0))
        if unsettled + (0 if wait.stable else settled) >= wait.units:
            return _GOES_ON, _GOES_ON, []  # perhaps it has them, and has not said so yet
        return Request(wait.units, free, certain), Request(wait.units, free, nominal), blockers

    def _pool(self, object: int, capacity: int, holds: Sequence[Hold]) -> _Pool:
        """The same for all who wait for a semaphore: free permits; what each thread has had all the while, and what
        perhaps not; the supplies; who is in the way."""
        if object in self.pools:
            return self.pools[object]
        certain: list[Supply] = []
        nominal: list[Supply] = []
        blockers: list[Source] = []
        free = capacity
        own: dict[int, tuple[int, int]] = {}
        for h in holds:
            if h.part is not None:
                continue
            if h.alive and h.thread is not None:
                settled, unsettled = own.get(h.thread, (0, 0))
                own[h.thread] = (settled + h.units, unsettled) if h.stable else (settled, unsettled + h.units)
            if not h.alive or {"tentative", "leaving"}.intersection(h.flags):
                continue
            free -= h.units
            process = tuple(self.threads_of.get(h.process or 0, ()))
            thread = (h.thread,) if h.thread in self.alive and h.thread is not None else ()
            if not process:  # all its threads have ended, but for such as are not attached
                certain.append(Supply(h.units, (UNKNOWN,), h.stable))
                nominal.append(Supply(h.units, (UNKNOWN,), h.stable))
            else:
                scoped = thread if thread and "scoped" in h.flags else process
                certain.append(Supply(h.units, scoped, h.stable))
                nominal.append(Supply(h.units, thread or process, h.stable))
            owner = self.seen.process(h.process)
            blockers += thread or ([owner] if owner is not None else [])
        pool = free, own, tuple(certain), tuple(nominal), list(dict.fromkeys(blockers))
        self.pools[object] = pool
        return pool

    def _barrier(
        self, who: Participant, parties: int, arrived: int | None, holds: Sequence[Hold]
    ) -> tuple[Request, Request, list[Source]]:
        missing = [h for h in holds if h.part is None and "enrolled" in h.flags and "arrived" not in h.flags]
        present = any(h.thread == who.id and "arrived" in h.flags for h in holds)
        if not arrived or not present or any(not h.alive for h in missing):  # over, or broken
            return _GOES_ON, _GOES_ON, []
        need = parties - arrived
        known = [Supply(1, (h.thread or 0,), h.stable) for h in missing]
        # who waits with us, and gives up, breaks it for all
        there = tuple(h.thread or 0 for h in holds if "arrived" in h.flags and h.thread != who.id)
        breaks = (Supply(need, there, awaited=False),) if there else ()
        nominal = Request(need, 0, (*known, *breaks))
        blockers: list[Source] = [h.thread or 0 for h in missing]
        if need > len(known):
            known.append(Supply(need - len(known), (ANYBODY,)))
            blockers.append(0)
        return Request(need, 0, (*known, *breaks)), nominal, blockers
