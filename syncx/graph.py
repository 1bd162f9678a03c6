"""`syncx graph`: the wait-for graph, drawn."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .picture import Edge, Node, Picture, cut, dot
from .proctable import command_of
from .snapshots import Participant, ProcessInfo
from .terminal import duration, printable
from .waitgraph import Blocked, ForeignProcess, Knot, WaitGraph, headline, sentence, wait_graph

if TYPE_CHECKING:
    from .snapshots import Hold, Wait
    from .waitgraph import Blocker

__all__ = ["FORMATS", "format_of", "main", "picture_of", "unclear"]

WIDE = 30
"""Columns of a line in a box."""
MOST = 6
"""So many deadlocks have a line of their own above the drawing."""

FORMATS: Mapping[str, str] = {".svg": "svg", ".dot": "dot", ".gv": "dot", ".json": "json", ".txt": "text"}
"""What the end of a file's name says about what is in it."""


def format_of(path: str) -> str | None:
    """The format that a file of that name has, or None if its name does not tell."""
    return FORMATS.get(os.path.splitext(path)[1].lower())


def unclear(path: str) -> str:
    """What to say where `format_of` does not know."""
    return (
        f"the name {path!r} does not tell what is to be in the file: let it end in {', '.join(FORMATS)}, "
        "or give --svg, --dot or --json"
    )


def main(arena: str, *, format: str = "text", output: str | None = None) -> int:
    """Draws the wait-for graph of an arena; returns the exit status.

    format: "text", "svg", "dot" or "json".  output: a file; None: stdout.

    Raises what `syncx.snapshot` raises, and OSError where the file cannot be written.
    """
    graph = wait_graph(arena)
    picture = picture_of(graph)
    if format == "text" and output is None:
        from .drawtext import write

        write(picture, sys.stdout)
    else:
        text = _made(picture, format)
        if output is None:
            sys.stdout.write(text)
        else:
            with open(output, "w", encoding="utf-8") as f:
                f.write(text)
    for problem in graph.snapshot.problems:
        print(f"syncx: {graph.snapshot.path}: {problem}", file=sys.stderr)
    return 0


def _made(picture: Picture, format: str) -> str:
    if format == "json":
        return json.dumps(picture.to_dict(), indent=2) + "\n"
    if format == "dot":
        return dot(picture)
    if format == "svg":
        from .drawing import svg

        return svg(picture)
    from .drawtext import drawn

    return drawn(picture)


# ---- from the graph to a picture -------------------------------------------------------------------------------------


def picture_of(graph: WaitGraph) -> Picture:
    """The picture of a wait-for graph: who waits, what for, and who holds that."""
    return _Maker(graph).picture()


def _short(command: str) -> str:
    """A command line without the directories of its program and of its script."""
    words = command.split(" ")
    if words[-1] == "--multiprocessing-fork":  # the rest is of no interest, and the same for all
        return f"{os.path.basename(words[0])} (multiprocessing)"
    return " ".join([*(os.path.basename(w) if w[:1] != "-" else w for w in words[:2]), *words[2:]])


def _arena_name(path: str) -> str:
    """The name of an arena; the path of one that has none."""
    named = re.fullmatch(r"/dev/shm/syncx-\d+-(.+)", path)
    return f"arena {printable(named[1])}" if named else printable(path)


def _place(where: str) -> str:
    """Where a thread waits, without the directory."""
    path, colon, rest = where.rpartition(":")
    return f"{os.path.basename(path)}{colon}{rest}"


class _Maker:
    def __init__(self, graph: WaitGraph) -> None:
        self.graph = graph
        self.seen = graph.snapshot
        self.nodes: dict[Any, Node] = {}
        """By what they stand for: the id of a thread or process, the pid of a foreign one, an object and who has it."""
        self.edges: dict[tuple[str, str], Edge] = {}
        self.commands: dict[int | None, str] = {}

    def picture(self) -> Picture:
        for b in self._in_order():
            self._thread(b.participant, b)
        for b in self._in_order():
            self._wants(b)
        for f in self.graph.foreign:
            if f.awaits and f.pid in self.nodes:
                self._foreign_wants(f)
        title, summary = self._words()
        return Picture(title, tuple(self.nodes.values()), tuple(self.edges.values()), summary)

    def _in_order(self) -> list[Blocked]:
        """The members of each knot along their ring, then the others."""
        members = [m for k in self.graph.knots for m in k.members if isinstance(m, Blocked)]
        found = {b.participant.id: b for b in [*members, *self.graph.blocked]}
        return list(found.values())

    def _words(self) -> tuple[str, tuple[str, ...]]:
        """The title, and a line for each knot, if that is not the title."""
        waiting, knots = len(self.graph.blocked), self.graph.knots
        where = f"in {_arena_name(self.seen.path)}"
        if not waiting:
            return f"nobody waits {where}", ()
        if len(knots) == 1 and len(knots[0].members) == waiting:
            return f"{headline(knots[0])}, {where}", ()
        lines = [headline(k) for k in knots[:MOST]]
        if len(knots) > MOST:
            lines.append(f"and {len(knots) - MOST} more")
        threads = f"{waiting} threads wait" if waiting != 1 else "1 thread waits"
        number = len(self.graph.deadlocks)
        deadlocks = f"{number} deadlock{'s' if number != 1 else ''}, " if number else ""
        return f"{deadlocks}{threads} {where}", tuple(lines)

    # -- threads and processes

    def _command(self, who: Participant) -> str:
        if who.process not in self.commands:
            process = self.seen.process(who.process)
            here = process is not None and process.here and who.alive
            self.commands[who.process] = printable(command_of(who)) if here else ""
        return self.commands[who.process]

    def _thread(self, who: Participant, blocked: Blocked | None) -> Node:
        if who.id in self.nodes:
            return self.nodes[who.id]
        number = f"{who.pid}/{who.tid}" if who.tid != who.pid else f"{who.pid}"
        name = who.name if who.name and who.name != "MainThread" else ""
        command = self._command(who)
        lines = [cut(_short(command), WIDE)] if command else []
        state = "running" if who.alive else "dead"
        stopped = self.graph.stopped(who)
        if blocked is not None:
            state = {"deadlock": "deadlocked", "suspected": "suspected"}.get(blocked.verdict, "waiting")
            if blocked.where is not None:
                lines.append(cut(_place(blocked.where), WIDE, end=True))
            lines.append(cut(self._since(blocked.wait, blocked), WIDE + 8))
        else:
            lines.append("does not wait" if who.alive else "dead")
        if stopped:
            lines.append("stopped by a signal or a debugger")
        knot = self._knot(blocked)
        if knot is not None and knot.victim is not None and knot.victim.id == who.id:
            lines.append("told to give up")
        details = [f"process {who.pid}, thread {who.tid}" + (f" ({printable(who.name)})" if who.name else "")]
        details += [command] if command else []
        details += [printable(sentence(blocked, self.graph))] if blocked is not None else []
        data = {
            "thread": f"{who.id:016x}",
            "pid": who.pid,
            "tid": who.tid,
            "name": who.name,
            "command": command,
            "where": None if blocked is None else blocked.where,
            "waited": None if blocked is None else blocked.wait.waited,
            "remaining": None if blocked is None else blocked.wait.remaining,
            "verdict": None if blocked is None else blocked.verdict,
            "knot": None if blocked is None else blocked.knot,
            "stopped": stopped,
        }
        title = cut(f"{number} {name}".rstrip(), WIDE)
        about = ("(stopped) " if stopped else "") + _short(command)
        return self._add(who.id, "t", "thread", title, lines, state, about, details, data)

    def _process(self, who: ProcessInfo) -> Node:
        lines = ["a permit of it"] if who.alive else ["dead"]
        state = "running" if who.alive else "dead"
        data = {"process": f"{who.id:016x}", "pid": who.pid}
        return self._add(who.id, "t", "thread", f"{who.pid}", lines, state, "any of its threads", [], data)

    def _foreign(self, who: ForeignProcess) -> Node:
        command = printable(who.command)
        lines = [cut(_short(command), WIDE)] if command else []
        lines.append("does not use syncx" + (", stopped" if self.graph.stopped(who) else ""))
        if who.awaits:
            lines.append(cut(f"waits {who.awaits}", WIDE + 8))
        data = {"pid": who.pid, "command": who.command, "stopped": self.graph.stopped(who)}
        details = [f"process {who.pid}", command, "a program that does not use syncx"]
        return self._add(who.pid, "t", "thread", f"{who.pid}", lines, "foreign", _short(command), details, data)

    def _add(
        self,
        identity: Any,
        letter: str,
        shape: str,
        title: str,
        lines: list[str],
        state: str,
        about: str,
        details: list[str],
        data: Mapping[str, Any],
    ) -> Node:
        if identity not in self.nodes:
            key = f"{letter}{len(self.nodes) + 1}"
            self.nodes[identity] = Node(key, shape, title, tuple(lines), state, about, tuple(details), data)
        return self.nodes[identity]

    def _knot(self, b: Blocked | None) -> Knot | None:
        return None if b is None or b.knot is None else self.graph.knots[b.knot]

    def _since(self, wait: Wait, b: Blocked | None) -> str:
        """ "3.2 s, gives up in 2.6 s"."""
        parts = [] if wait.waited is None else [f"for {duration(wait.waited)}"]
        if wait.remaining is not None:
            parts.append(f"gives up in {duration(wait.remaining)}")
        elif b is not None and b.verdict == "behind" and self.graph.knots[b.knot or 0].verdict == "deadlock":
            parts.append("behind a deadlock")
        return ", ".join(parts)

    # -- waits and holds

    def _wants(self, b: Blocked) -> None:
        thread = self.nodes[b.participant.id]
        target = self._object(b)
        state = {"deadlocked": "deadlocked", "suspected": "suspected"}.get(thread.state)
        if state is None:
            state = "plain" if b.wait.remaining is None else "timed"
        since = self._since(b.wait, b)
        details = ", ".join(p for p in (since, "" if b.where is None else f"in {printable(_place(b.where))}") if p)
        label = f"{b.wait.units} at once" if b.wait.units > 1 else ""
        self.edges[thread.key, target.key] = Edge(thread.key, target.key, "wants", state, label, details)
        for blocker in b.blockers:
            holder = self._blocker(blocker)
            if holder is None or (target.key, holder.key) in self.edges:
                continue
            edge = Edge(
                target.key, holder.key, "held by", self._stuck(target, blocker, b.knot), self._share(b.wait, blocker)
            )
            self.edges[target.key, holder.key] = edge
        if b.wait.object is not None:
            for hold in self.seen.holders_of(b.wait.object):
                if not hold.alive:
                    self._dead(target, b.wait, hold)

    def _stuck(self, target: Node, blocker: Blocker, knot: int | None) -> str:
        """How the line from an object of a knot to who has it is drawn."""
        if knot is None or target.state not in ("deadlocked", "suspected"):
            return "plain"
        members = self.graph.knots[knot].members
        inside = any((m.participant if isinstance(m, Blocked) else m) == blocker for m in members)
        return target.state if inside else "plain"

    def _dead(self, target: Node, wait: Wait, hold: Hold) -> None:
        who = self.seen.participant(hold.thread)
        if who is not None and not who.alive:
            holder = self._thread(who, None)
            label = _label(hold)
            self.edges.setdefault((target.key, holder.key), Edge(target.key, holder.key, "held by", "plain", label))

    def _foreign_wants(self, f: ForeignProcess) -> None:
        """A program that does not use syncx waits for a range itself."""
        source = self.nodes[f.pid]
        holders = [h for b in f.blockers if (h := self._blocker(b)) is not None]
        state = "deadlocked" if any(m == f for k in self.graph.deadlocks for m in k.members) else "plain"
        target = self._add(
            (f.awaits, frozenset(h.key for h in holders)), "o", "object", cut(f.awaits, WIDE), ["file range"],
            state, "file range", [f.awaits], {"kind": "file range", "name": f.awaits},
        )  # fmt: skip
        self.edges[source.key, target.key] = Edge(source.key, target.key, "wants", state)
        for h in holders:
            self.edges[target.key, h.key] = Edge(target.key, h.key, "held by", state)

    def _blocker(self, who: Blocker) -> Node | None:
        if isinstance(who, Participant):
            return self._thread(who, self.graph.of(who))
        if isinstance(who, ProcessInfo):
            return self._process(who)
        return self._foreign(who) if isinstance(who, ForeignProcess) else None

    def _object(self, b: Blocked) -> Node:
        """What is awaited; of an object that different threads hold in the way of different others, one node each."""
        wait = b.wait
        blockers = frozenset(
            x.id if isinstance(x, (Participant, ProcessInfo)) else x.pid if isinstance(x, ForeignProcess) else x
            for x in b.blockers
        )
        at = wait.object or wait.range or (wait.kind, wait.pid, wait.address if not blockers else 0)
        identity = (at, wait.part if wait.part in ("guard", "several") else None, blockers)
        state = {"deadlock": "deadlocked", "suspected": "suspected"}.get(b.verdict, "plain")
        if identity in self.nodes:
            return self.nodes[identity]
        found = self.seen.at(wait.object)
        name, lines = _called(b, None if found is None else found.name)
        if found is not None and found.kind in ("BoundedSemaphore", "Semaphore") and found.value is not None:
            unit = "permit" if found.kind == "BoundedSemaphore" else "unit"
            lines.append(
                f"{found.value} of {found.parameter} {unit}s free"
                if found.kind == "BoundedSemaphore"
                else f"{found.value} {unit}{'s' if found.value != 1 else ''}"
            )
        if not b.blockers or set(b.blockers) == {"unknown"}:
            lines.append(_LACKS.get(wait.kind, "who has it is not known"))
        data = {
            "kind": wait.kind,
            "name": None if found is None else found.name,
            "object": wait.object,
            "range": None if wait.range is None else wait.range._asdict(),
        }
        return self._add(identity, "o", "object", name, lines, state, ", ".join(lines), [printable(b.what)], data)

    def _share(self, wait: Wait, who: Blocker) -> str:
        """How much of it, or in which way, the holder has it."""
        if wait.object is None or isinstance(who, (str, ForeignProcess)):
            return ""
        holds = self.seen.holders_of(wait.object)
        if isinstance(who, ProcessInfo):
            own = [h for h in holds if h.process == who.id]
        else:
            own = [h for h in holds if h.thread == who.id]
        if not own:
            return "ahead of it" if self.graph.of(who.id) is not None and wait.kind == "RWLock" else ""
        if wait.kind == "BoundedSemaphore" and wait.part is None:
            units = sum(h.units for h in own if h.part is None)
            return f"{units} permit{'s' if units != 1 else ''}"
        return _label(own[0])


def _label(hold: Hold) -> str:
    if hold.kind == "RWLock":
        if "entering" in hold.flags:
            return "next writer"
        return {"shared": "reads", "upgradable": "upgradable"}.get(hold.mode, "writes")
    if hold.kind == "BoundedSemaphore" and hold.part is None:
        return f"{hold.units} permit{'s' if hold.units != 1 else ''}"
    return ""


_LACKS = {
    "Event": "not set",
    "Condition": "not notified",
    "Latch": "not open",
    "Barrier": "not all are there",
    "Semaphore": "anybody may release one",
}


def _called(b: Blocked, name: str | None) -> tuple[str, list[str]]:
    """The name of what is awaited, and what it is."""
    wait = b.wait
    if wait.range is not None:
        # "for bytes 0 to 9 of /srv/data", in words that are there already
        what = b.what.partition(" ")[2]
        part, of, path = what.rpartition(" of ")
        return cut(os.path.basename(path) or path, WIDE), [cut(part, WIDE)] if of else ["file"]
    if wait.kind == "process":
        return f"process {wait.pid}", ["its end"]
    kind = wait.kind
    if wait.part in ("guard", "several", "lock"):
        kind = f"{kind}, its lock"
    if name is None:
        if wait.object is None and wait.kind != "arena":
            return wait.kind, ["in memory of its own"]
        return ("the arena", ["its own lock"]) if wait.kind == "arena" else (f"{wait.kind}@{wait.object:#x}", [kind])
    return cut(name, WIDE), [kind]
