"""`syncx why`: in words, who waits for whom, since when and where, how it will end, and what to do."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from itertools import pairwise
from typing import TextIO

from .proctable import command_of
from .requests import in_the_way
from .snapshots import Hold, ObjectState, Participant, Snapshot
from .terminal import command_line, duration, printable
from .waitgraph import UNKNOWN, Blocked, Blocker, ForeignProcess, WaitGraph, describe, wait_graph
from .words import listing, object_name, shortened

__all__ = ["main"]

FOUND, NOT_FOUND = 0, 1
MOST = 4
"""So many threads are told of at length."""


def main(what: str, arena: str) -> int:
    """Prints a paragraph for each thread in question; returns the exit status.

    what: the number of a process or thread, the name of an object, or the path of a file.  Raises what
    `syncx.wait_graph` and `syncx.file_locks` raise.
    """
    graph = wait_graph(arena)
    teller = _Teller(graph)
    paragraphs = teller.of(what)
    for problem in graph.snapshot.problems:
        print(f"syncx: {graph.snapshot.path}: {problem}", file=sys.stderr)
    if not paragraphs:
        print(
            f"syncx: {what!r} is no process or thread of the arena {arena!r}, no name in it, and no file",
            file=sys.stderr,
        )
        return NOT_FOUND
    _print(paragraphs, sys.stdout)
    return FOUND


def _print(paragraphs: list[str], stream: TextIO) -> None:
    """Broken into lines on a terminal only."""
    width = shutil.get_terminal_size().columns if stream.isatty() else 0
    for i, text in enumerate(paragraphs):
        if width > 20:
            text = textwrap.fill(text, width - 1, break_long_words=False, break_on_hyphens=False)
        encoding = stream.encoding or "utf-8"
        text = text.encode(encoding, "replace").decode(encoding)
        print(text if i == 0 else f"\n{text}", file=stream)


_DOES = {
    "R": "runs on a CPU or is about to",
    "S": "sleeps outside syncx",
    "D": "waits for a device",
    "I": "is idle",
    "T": "is stopped by a signal",
    "t": "is stopped by a debugger",
    "Z": "has ended",
}


def _kernel_function(pid: int, tid: int) -> str:
    """Where a thread sleeps in the kernel; "" if we may not know."""
    try:
        with open(f"/proc/{pid}/task/{tid}/wchan") as f:
            text = f.read().strip()
    except OSError:
        return ""
    return "" if text in ("", "0") else f" ({printable(text)})"


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]


class _Teller:
    def __init__(self, graph: WaitGraph) -> None:
        self.graph = graph
        self.seen: Snapshot = graph.snapshot
        self.named: set[int] = set()
        """Whose command has been told."""

    # ---- what is asked for -------------------------------------------------------------------------------------

    def of(self, what: str) -> list[str]:
        if what.isascii() and what.isdigit() and len(what) < 12:
            found = self._of_number(int(what))
            if found:
                return found
        found_object = self.seen.named(what)
        if found_object is not None:
            return self._of_object(found_object)
        if os.path.lexists(what):
            return self._of_file(what)
        return []

    def _of_number(self, number: int) -> list[str]:
        threads = [p for p in self.seen.participants if p.alive and number in (p.pid, p.tid)]
        if any(p.pid == number for p in threads):
            threads = [p for p in threads if p.pid == number]
        blocked = [b for p in threads if (b := self.graph.of(p)) is not None]
        blocked.sort(key=lambda b: b.wait.since_ns)
        if blocked:
            return self._all(blocked, f"threads of process {number} wait")
        if threads:
            return [self._idle(threads)]
        for p in self.seen.processes:
            if p.pid == number and p.alive:
                return [f"Process {number} uses the arena, but none of its threads holds or awaits anything in it."]
        for f in self.graph.foreign:
            if f.pid == number:
                return [self._foreign(f)]
        return []

    def _all(self, blocked: list[Blocked], rest: str) -> list[str]:
        told = [self.paragraph(b) for b in blocked[:MOST]]
        if len(blocked) > MOST:
            told.append(f"{len(blocked) - MOST} more {rest}.")
        return told

    def _idle(self, threads: list[Participant]) -> str:
        """Nobody of them waits."""
        who = threads[0]
        text = f"{_first_upper(self._who(who))} waits for nothing in this arena: {self._doing(who)}."
        held = [h for p in threads for h in self.seen.held_by(p.id)]
        held += [h for h in self.seen.holds if h.thread is None and h.process == who.process]
        if not held:
            return f"{text} It holds nothing."
        names = list(dict.fromkeys(object_name(self.seen, h, who.pid) for h in held))
        text += f" It holds {listing(names, 6)}."
        behind = [b for b in self.graph.blocked if any(w in threads for w in b.blockers)]
        if not behind:
            return f"{text} Nobody waits for that."
        longest = behind[0].wait.waited
        since = "" if longest is None else f", for {duration(longest)} at most"
        return f"{text} {self._count(len(behind), 'thread waits', 'threads wait')} for it{since}."

    def _foreign(self, f: ForeignProcess) -> str:
        behind = [b for b in self.graph.blocked if f in b.blockers]
        text = f"Process {f.pid} ({shortened(f.command) or 'its command cannot be seen'}) does not use syncx here. "
        text += f"It waits {f.awaits}. " if f.awaits else "It waits for no file lock that can be seen. "
        return text + f"{self._count(len(behind), 'thread waits', 'threads wait')} for a file lock that it has."

    @staticmethod
    def _count(n: int, one: str, more: str) -> str:
        return f"1 {one}" if n == 1 else f"{n} {more}"

    # ---- an object, a file -------------------------------------------------------------------------------------

    def _of_object(self, what: ObjectState) -> list[str]:
        waiting = [b for b in self.graph.blocked if b.wait.object == what.id]
        if waiting:
            return self._all(waiting, "threads wait for it")
        name = f"{what.kind} {printable(what.name or '')!r}"
        holds = [h for h in self.seen.holders_of(what.id) if h.alive]
        if not holds:
            died = "; its last owner was killed, and nobody has taken it since" if what.owner_died else ""
            return [f"Nobody waits for {name}, and nobody holds it{died}."]
        return [f"Nobody waits for {name}. It is held by {listing([self._holder(h) for h in holds])}."]

    def _holder(self, hold: Hold) -> str:
        who = self.seen.participant(hold.thread)
        if who is None:
            return f"process {hold.pid}"
        blocked = self.graph.of(who)
        if blocked is None:
            where = "" if hold.where is None else f" (taken in {hold.where})"
            since = "" if hold.held is None else f" for {duration(hold.held)}{where}"
            return f"{self._who(who)}{since}, which waits for nothing: {self._doing(who)}"
        return f"{self._who(who)}, which has waited {self._time(blocked)} {blocked.what} itself"

    def _of_file(self, path: str) -> list[str]:
        from .lockinfo import file_locks

        status = os.stat(path)
        waiting = [
            b
            for b in self.graph.blocked
            if b.wait.range is not None and (b.wait.range.device, b.wait.range.inode) == (status.st_dev, status.st_ino)
        ]
        if waiting:
            return self._all(waiting, "threads wait for it")
        found = file_locks(path, arena=self.seen.path)
        shown = printable(path)
        if not found.locks:
            return [f"Nobody holds a lock of {shown} that can be seen, and nobody waits for one."]
        text = []
        for locks, one, more in ((found.held, "holds", "hold"), (found.waiting, "waits for", "wait for")):
            pids = {p.pid: p.command for lock in locks for p in lock.parties}
            people = [f"process {pid} ({shortened(c) or 'its command cannot be seen'})" for pid, c in pids.items()]
            if any(not lock.parties for lock in locks):
                people.append("somebody who cannot be told")
            if people:
                text.append(f"{listing(people)} {one if len(people) == 1 else more} locks of {shown}")
        ours = ". None of those who wait uses this arena" if found.waiting else "; nobody waits for one"
        return [f"{_first_upper('; '.join(text))}{ours}."]

    # ---- a thread that waits -----------------------------------------------------------------------------------

    def paragraph(self, b: Blocked) -> str:
        """The whole of it: the wait, the chain, how it ends, what to do."""
        chain = self.graph.chain(b)
        who, waits = _first_upper(self._who(b.participant)), f"{b.what}{self._where(b)}{self._limit(b)}"
        text = [f"{who} has waited {self._time(b)} {waits}."]
        for before, after in pairwise(chain):
            assert isinstance(before, (Blocked, ForeignProcess))
            text.append(self._link(before, after, chain, len(text)))
        text.append(self._end(b, chain))
        return " ".join(t for t in text if t)

    def _who(self, who: Participant) -> str:
        process = self.seen.process(who.process)
        text = describe(who, process)
        if process is not None and process.here and who.pid not in self.named:
            self.named.add(who.pid)
            command = shortened(command_of(who))
            text += f" ({command})" if command else ""
        return text

    @staticmethod
    def _time(b: Blocked) -> str:
        return "for a time that cannot be told" if b.wait.waited is None else duration(b.wait.waited)

    @staticmethod
    def _where(b: Blocked) -> str:
        return "" if b.where is None else f", in {b.where}"

    @staticmethod
    def _limit(b: Blocked) -> str:
        return "" if b.wait.remaining is None else f", and gives up in {duration(b.wait.remaining)}"

    def _doing(self, who: Participant) -> str:
        state = self.graph.states.get(who.id) or self._state(who)
        process = self.seen.process(who.process)
        if process is None or not process.here:
            return "it cannot be seen from here what it does"
        where = _kernel_function(who.pid, who.tid) if state in ("S", "D") else ""
        return f"it {_DOES.get(state, 'cannot be seen any more')}{where}"

    @staticmethod
    def _state(who: Participant) -> str:
        from .proctable import state_of

        return state_of(who)

    def _link(
        self, before: Blocked | ForeignProcess, after: Blocker | Blocked, chain: tuple[Blocker | Blocked, ...], n: int
    ) -> str:
        """Who has what the one before waits for."""
        more = len([w for w in before.blockers if w != UNKNOWN]) - 1
        others = f" and {self._count(more, 'other', 'others')}" if more > 0 else ""
        if isinstance(after, str):
            return self._nobody(before)
        has = self._has(before)
        if isinstance(after, Blocked):
            if any(after is w for w in chain[:n]):
                back = "itself" if n == 1 else "again"
                return f"{has} {self._who(after.participant)} {back}{others}: that closes the circle."
            who = f"{self._who(after.participant)}{self._taken(before, after.participant)}{others}"
            waits = f"{self._time(after)} {after.what}{self._where(after)}{self._limit(after)}"
            return f"{has} {who}, which has waited {waits}."
        if isinstance(after, ForeignProcess):
            if any(isinstance(w, ForeignProcess) and w.pid == after.pid for w in chain[:n]):
                return f"{has} process {after.pid} again{others}: that closes the circle."
            command = shortened(after.command) or "its command cannot be seen"
            waits = f"waits {after.awaits}" if after.awaits else "waits for no file lock"
            stopped = " It is stopped." if self.graph.stopped(after) else ""
            return f"{has} process {after.pid} ({command}; without syncx){others}, which {waits}.{stopped}"
        if isinstance(after, Participant):
            who = f"{self._who(after)}{self._taken(before, after)}{others}"
            return f"{has} {who}, which waits for nothing in this arena: {self._doing(after)}."
        command = shortened(command_line(after.pid)) if after.here else ""
        shown = f" ({command})" if command else ""
        return f"{has} process {after.pid}{shown}{others}, by a thread that has ended or is not known."

    def _taken(self, before: Blocked | ForeignProcess, who: Participant) -> str:
        """Since when it has that, and where it took it, if that was recorded."""
        if not isinstance(before, Blocked):
            return ""
        wait = before.wait
        for hold in self.seen.held_by(who.id):
            same = in_the_way(wait, hold) if wait.range is not None else hold.object == wait.object is not None
            if same and hold.held is not None:
                where = "" if hold.where is None else f" (taken in {hold.where})"
                return f" for {duration(hold.held)}{where}"
        return ""

    def _has(self, before: Blocked | ForeignProcess) -> str:
        if isinstance(before, ForeignProcess):
            return "That is held by"
        kind, mode = before.wait.kind, before.wait.mode
        if kind == "RWLock" and before.wait.part is None and mode != "shared":
            return "It is read by"
        if kind == "BoundedSemaphore" and before.wait.part is None:
            return "Permits of it are with"
        if kind == "Barrier" and before.wait.part is None:
            return "Not there yet is"
        if kind == "process":
            return "That is"
        if kind == "Once":
            return "It is worked out by"
        return "That is held by"

    def _nobody(self, before: Blocked | ForeignProcess) -> str:
        if isinstance(before, Blocked) and before.wait.kind in ("Event", "Latch", "Condition", "Semaphore", "Barrier"):
            return "Who is to end that wait is not written down anywhere: any thread may."
        return "Who has that cannot be seen from here."

    # ---- how it ends, and what to do ---------------------------------------------------------------------------

    def _end(self, b: Blocked, chain: tuple[Blocker | Blocked, ...]) -> str:
        knot = None if b.knot is None else self.graph.knots[b.knot]
        if knot is not None and knot.verdict == "deadlock":
            return self._deadlock(b)
        if b.verdict == "resolves":
            assert b.resolves_in is not None
            return f"They wait for each other, but not for ever: that resolves itself in {duration(b.resolves_in)}."
        if knot is not None and knot.verdict == "suspected":
            return (
                "That looks like a deadlock, but is not certain: a thread that does not wait could still end it. If "
                "none will, kill one of those that wait; what it holds goes to the next in line."
            )
        before = chain[-2] if len(chain) > 1 else None
        joins = isinstance(before, Blocked) and before.wait.kind == "process"
        return self._runs(chain[-1], "ends" if joins else "gives it back")

    def _deadlock(self, b: Blocked) -> str:
        assert b.knot is not None
        knot = self.graph.knots[b.knot]
        inside = b.verdict == "deadlock"
        n = self._count(len(knot.members), "thread", "threads and programs" if knot.foreign else "threads")
        text = f"It {'is part of' if inside else 'waits for'} a deadlock of {n}, which will not end by itself"
        limit = b.wait.remaining
        text += "." if inside or limit is None else f"; but this thread gives up in {duration(limit)}."
        if knot.victim is not None:
            text += f" {_first_upper(describe(knot.victim, None))} has been told to give up"
            return text + (", and will when it is continued." if self.graph.stopped(knot.victim) else ".")
        if knot.foreign:
            text += " syncx cannot break it, for a program without syncx takes part."
        threads = [m for m in knot.members if isinstance(m, Blocked)]
        latest = max(threads, key=lambda m: m.wait.since_ns, default=None)
        if latest is not None and latest.process is not None and latest.process.here:
            text += f" To end it, kill one of them, such as the latest to come: kill {latest.pid}."
            text += " What it holds goes to the next in line."
        return text

    def _runs(self, last: Blocker | Blocked, does: str) -> str:
        if isinstance(last, str):
            return ""
        if isinstance(last, Blocked):
            return "What it waits for is being given to it." if not last.blockers else ""
        if self.graph.stopped(last):
            pid = last.pid
            return f"Everything goes on once it is continued: kill -CONT {pid}."
        if isinstance(last, Participant):
            process = self.seen.process(last.process)
            if process is None or not process.here:
                return f"It is no deadlock: everything goes on when that process {does}."
        return (
            f"It is no deadlock: everything goes on when process {last.pid} {does}. If that takes too long, "
            f"look what it does, or end it: kill {last.pid}."
        )
