"""Which threads of a snapshot are in a knot, and what becomes of it; confirmed by a second look.

A knot is a set of threads each of which waits for others of the set, so that all stand still (Holt 1972).  Three
reductions tell three kinds apart.  Who is stuck under the certain requests, though all time limits run out, is in a
deadlock.  Who is stuck only under the nominal ones is in a suspected one.  Who is stuck only until a time limit runs
out is in one that resolves itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .reduction import ANYBODY, Request, components, edges, reaching, reduce
from .requests import Rules
from .snapshots import Snapshot, Wait

__all__ = ["Found", "awaited_requests", "knots_of", "same_waits", "stable", "ways_to"]


@dataclass(slots=True)
class Found:
    """Sets of stuck threads, by number."""

    members: list[int]
    verdict: str
    depends: set[int]
    """Everybody whose standing still the verdict rests on."""


def _in_order(members: Sequence[int], graph: Mapping[int, Iterable[int]], rules: Rules) -> list[int]:
    """Along the edges as far as one way leads, from the one that has waited longest."""
    left = dict.fromkeys(sorted(members, key=lambda m: (rules.waits[m].since_ns if m in rules.waits else 1 << 64, m)))
    order: list[int] = []
    at: int | None = next(iter(left))
    while at is not None:
        order.append(at)
        del left[at]
        at = next((o for o in graph[at] if o in left), None)
        if at is None:
            at = next(iter(left), None)
    return order


def knots_of(rules: Rules) -> list[Found]:
    """All knots, each thread in one at most."""
    certain, nominal = rules.certain, rules.nominal
    lasting = {who: r for who, r in certain.items() if who not in rules.timed}
    stuck = reduce(lasting, rules.running or bool(rules.timed))
    found = []
    taken: set[int] = set()
    graph = edges(lasting, stuck)
    for members in components(graph):
        inside = [m for m in members if m != ANYBODY]
        if ANYBODY in members and not _alone(inside, lasting, rules):
            continue
        found.append(Found(_in_order(inside, graph, rules), "deadlock", reaching(_reverse(graph), inside) - {ANYBODY}))
        taken.update(inside)
    # of the others who wait for a signal, or for a permit of a thread that others could give back, all that is stuck
    # together with somebody whom it keeps waiting
    stuck = reaching({w: [o for o in to if o != ANYBODY] for w, to in graph.items() if w != ANYBODY}, taken)
    rest = {who: r for who, r in nominal.items() if who not in stuck and who not in rules.timed}
    both = {**rest, **{who: certain[who] for who in stuck}}
    graph = edges(both, reduce(both, False))
    graph = {who: [o for o in to if o in rest] for who, to in graph.items() if who in rest}
    for who in list(graph):
        if who in rules.signalled:
            graph[who] = [*graph[who], *(o for o in reaching(graph, [who]) if o != who)]
    for members in components(graph):
        found.append(Found(_in_order(members, graph, rules), "suspected", set(members)))
        taken.update(members)
    limited = {who: r for who, r in certain.items() if who not in stuck}
    both = {**limited, **{who: certain[who] for who in stuck}}
    graph = edges(both, reduce(both, rules.running))
    graph = {who: [o for o in to if o in limited] for who, to in graph.items() if who in limited}
    for members in components(graph):
        if not taken.intersection(members):
            found.append(Found(_in_order(members, graph, rules), "resolves", set(members)))
            taken.update(members)
    return found


def _reverse(graph: Mapping[int, Iterable[int]]) -> dict[int, list[int]]:
    back: dict[int, list[int]] = {}
    for who, to in graph.items():
        for other in to:
            back.setdefault(other, []).append(who)
    return back


def _alone(members: list[int], requests: Mapping[int, Request], rules: Rules) -> bool:
    """Would they be stuck if everybody else went on?  Where each waits for whoever comes, that is only so if there is
    nobody else; and a single thread that waits for a signal is one that has nothing to do."""
    everybody = set(rules.threads) == set(members)
    inside = {m: requests[m] for m in members}
    return len(members) > 1 and reduce(inside, running=not everybody) == set(members)


def ways_to(found: Sequence[Found], rules: Rules) -> list[set[int]]:
    """Of each knot, who waits for it: its members, and all who would be stuck if they were for ever."""
    graph = edges(rules.nominal, reduce(rules.nominal, False))
    graph = {who: [o for o in to if o not in rules.timed] for who, to in graph.items()}
    return [
        reaching(graph, [m for m in knot.members if m in graph]) if knot.verdict != "resolves" else set()
        for knot in found
    ]


# ---- a second look ---------------------------------------------------------------------------------------------------


def _identity(w: Wait) -> tuple[Any, ...]:
    return w.level, w.since_ns, w.kind, w.object, w.part, w.mode, w.units, w.range


def same_waits(before: Snapshot, after: Snapshot, rules: Rules, threads: Iterable[int]) -> bool:
    """Have all those been in the very same waits, from one picture to the other?

    A wait keeps its beginning, in nanoseconds, however often the thread looks around.
    """
    for id in threads:
        if id not in rules.waits:  # a foreign one: see _still_foreign
            continue
        waits, who = after.awaited_by(id), after.participant(id)
        if who is None or not who.alive or not waits or _identity(waits[-1]) != _identity(rules.waits[id]):
            return False
    return before.id == after.id


def stable(seen: Snapshot, rules: Rules, threads: Iterable[int]) -> bool:
    """The same of a single picture: by its own marks."""
    return all(
        (p := seen.participant(id)) is not None and p.stable and all(s.stable for s in rules.certain[id].supplies)
        for id in threads
        if id in rules.waits
    )


def awaited_requests(rules: Rules, threads: Iterable[int]) -> set[tuple[int, str]]:
    """The requests of the foreign processes among these."""
    pids = {rules.foreign.processes[id] for id in threads if id not in rules.waits}
    return {(pid, rules.foreign.awaits.get(pid, "")) for pid in pids}
