"""`syncx watch`: reports deadlocks and long waits of an arena as they come, and when they are over."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .deadlocks import NONE, status_of
from .errors import SyncxError
from .terminal import duration
from .waitgraph import UNKNOWN, Blocked, Knot, WaitGraph, headline, sentence, wait_graph

__all__ = ["Watcher", "main"]


@dataclass(slots=True)
class _Case:
    """Something that lasts."""

    kind: str
    """"deadlock", "suspected", "resolves" or "wait"."""
    title: str
    text: str
    more: dict[str, Any]
    began: float
    """Seconds since the epoch, as far as is known."""
    looks: int = 0
    missed: int = 0
    reported: bool = False


class Watcher:
    """Compares each look with the one before.

    longer: seconds from which on a wait is worth a report.
    everything: waits for a signal too, as those of idle workers.
    """

    def __init__(self, longer: float, *, everything: bool = False) -> None:
        self.longer = longer
        self.everything = everything
        self._cases: dict[str, _Case] = {}

    def look(self, graph: WaitGraph, *, once: bool = False) -> list[dict[str, Any]]:
        """What is new since the last look, and what is over, as records for JSON.

        A deadlock is told at once.  All else must be there at two looks: a lock that is just being handed over may look
        like it.  What was told is over when it is missing at two looks: a sleeper that looks around waits for nothing
        in that moment.  once: there will be no second look.
        """
        now = graph.snapshot.taken
        present = self._present(graph)
        events = []
        for key in [k for k in self._cases if k not in present]:
            case = self._cases[key]
            case.missed += 1
            if not case.reported:
                del self._cases[key]
            elif case.missed > 1:
                del self._cases[key]
                lasted = max(0.0, now - case.began)
                text = f"over after {duration(lasted)}: {case.title}"
                events.append(_record(now, "over", key, text, {"of": case.kind, "lasted": lasted}))
        for key, found in present.items():
            case = self._cases.setdefault(key, found)
            case.looks += 1
            case.missed = 0
            if not case.reported and (once or case.looks > 1 or case.kind == "deadlock"):
                case.reported = True
                events.append(_record(now, case.kind, key, found.text, found.more))
        return events

    def _present(self, graph: WaitGraph) -> dict[str, _Case]:
        found: dict[str, _Case] = {}
        plain = graph.to_dict() if graph.blocked else {"knots": [], "blocked": []}
        rows = {row["thread"]: row for row in plain["blocked"]}
        told: set[int] = set()
        for knot, row in zip(graph.knots, plain["knots"], strict=True):
            if knot.verdict != "resolves":
                told |= knot.threads
            members = [{**rows[m["thread"]]} if "thread" in m else m for m in row["members"]]
            lines = "; ".join(sentence(m, graph) for m in knot.members)
            found[_key(knot)] = _Case(
                knot.verdict,
                headline(knot),
                f"{headline(knot)}: {lines}",
                {**row, "members": members},
                _began(knot, graph),
            )
        for b in graph.blocked:
            known = [w for w in b.blockers if w != UNKNOWN]
            if b.wait.waited is None or b.wait.waited < self.longer or b.participant.id in told:
                continue
            if known or (b.blockers and self.everything):
                more = rows[f"{b.participant.id:016x}"]
                began = graph.snapshot.taken - b.wait.waited
                found[_digest([_mark(b)])] = _Case("wait", str(b), sentence(b, graph), more, began, looks=1)
        return found


def _mark(b: Blocked) -> str:
    return f"{b.participant.id:x}/{b.wait.since_ns}"


def _digest(marks: list[str]) -> str:
    return hashlib.blake2s(" ".join(sorted(marks)).encode(), digest_size=6).hexdigest()


def _key(knot: Knot) -> str:
    """The same as long as its members are in the same waits."""
    return _digest([knot.verdict, *(_mark(m) if isinstance(m, Blocked) else str(m.pid) for m in knot.members)])


def _began(knot: Knot, graph: WaitGraph) -> float:
    """When the last of them began to wait."""
    waits = [m.wait.waited for m in knot.members if isinstance(m, Blocked) and m.wait.waited is not None]
    return graph.snapshot.taken - min(waits, default=0.0)


def _record(now: float, event: str, key: str, text: str, more: dict[str, Any]) -> dict[str, Any]:
    return {"time": now, "event": event, "id": key, "text": text, **more}


def main(
    arena: str,
    *,
    longer: float = 60.0,
    every: float = 1.0,
    once: bool = False,
    as_json: bool = False,
    everything: bool = False,
    sleep: Callable[[float], object] = time.sleep,
) -> int:
    """Reports until Ctrl-C; with `once` after a single look, and then the exit status is that of `syncx deadlocks`.

    An arena that is not there is waited for.  Raises what `syncx.wait_graph` raises with `once` only.
    """
    watcher = Watcher(longer, everything=everything)
    trouble: str | None = None
    while True:
        start = time.monotonic()
        try:
            graph = wait_graph(arena)
        except (SyncxError, OSError) as e:
            if once:
                raise
            if str(e) != trouble:
                trouble = str(e)
                _report(_record(time.time(), "trouble", _digest([trouble]), _words(e, arena), {}), as_json)
        else:
            problems = "; ".join(graph.snapshot.problems) or None
            if problems is not None and problems != trouble:
                _report(_record(graph.snapshot.taken, "trouble", _digest([problems]), problems, {}), as_json)
            trouble = problems
            for event in watcher.look(graph, once=once):
                _report(event, as_json)
            if once:
                return status_of(graph)
        sleep(max(0.0, start + every - time.monotonic()))
    return NONE


def _words(error: Exception, arena: str) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no arena {arena!r}: waiting for it"
    return str(error)


def _report(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        import json

        text = json.dumps(event)
    else:
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(event["time"]))
        kind = {"wait": "long wait: ", "trouble": "trouble: "}.get(event["event"], "")
        text = f"{when} {kind}{event['text']}"
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)
