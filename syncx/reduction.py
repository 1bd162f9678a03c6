"""Which threads are stuck, by reduction of the wait-for graph; numbers only, and nothing of where they come from.

Every thread that waits has a request: so many units, of which some are free, and the rest may come from others.  A
thread that does not wait finishes, and gives back all that it has; whoever has enough then goes on, and so on.  Those
who are left are stuck: no order of events lets any of them go on (Holt, "Some Deadlock Properties of Computer Systems",
1972; Coffman, Elphick and Shoshani, "System Deadlocks", 1971).  That is exact for a lock, for any n of k permits, and
for all of a set.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

__all__ = ["ANYBODY", "Request", "Supply", "components", "edges", "reaching", "reduce"]

ANYBODY = 0
"""As the source of a supply: any thread at all, one is enough.  No thread has this number."""


class Supply(NamedTuple):
    """Units that come free as soon as any one of these threads goes on."""

    units: int
    sources: tuple[int, ...]
    """Numbers of threads; ANYBODY among them: any thread at all.  None of them: it never comes."""
    stable: bool = True
    """It was read at the one moment of which all else is."""
    awaited: bool = True
    """False: these threads could bring it about, but nobody waits for them; no edge."""


class Request(NamedTuple):
    """What a thread waits for."""

    need: int
    free: int
    """Units that are to be had already."""
    supplies: tuple[Supply, ...]


def reduce(requests: Mapping[int, Request], running: bool) -> set[int]:
    """The threads that are stuck.

    requests: of the threads that wait; all others go on.
    running: whether there is a thread, among those that count as ANYBODY, that does not wait.
    """
    missing = {who: request.need - request.free for who, request in requests.items()}
    dependents: dict[int, list[tuple[int, int]]] = {}
    come: set[tuple[int, int]] = set()
    ready = [who for who, more in missing.items() if more <= 0]

    def supplied(who: int, number: int) -> None:
        if (who, number) in come:
            return
        come.add((who, number))
        before = missing[who]
        missing[who] = before - requests[who].supplies[number].units
        if missing[who] <= 0 < before:
            ready.append(who)

    for who, request in requests.items():
        for number, supply in enumerate(request.supplies):
            if any(s not in requests and (s != ANYBODY or running) for s in supply.sources):
                supplied(who, number)
                continue
            for source in supply.sources:
                dependents.setdefault(source, []).append((who, number))
    stuck = set(requests)
    while ready:
        who = ready.pop()
        stuck.discard(who)
        for dependent in dependents.pop(who, ()):
            supplied(*dependent)
        for dependent in dependents.pop(ANYBODY, ()):
            supplied(*dependent)
    return stuck


def edges(requests: Mapping[int, Request], stuck: Collection[int]) -> dict[int, list[int]]:
    """Who of the stuck waits for whom of them.  ANYBODY is a node of its own, from which all of them are reached."""
    found: dict[int, list[int]] = {}
    anybody = False
    for who in stuck:
        to = dict.fromkeys(s for supply in requests[who].supplies if supply.awaited for s in supply.sources)
        anybody = anybody or ANYBODY in to
        found[who] = [s for s in to if s in stuck or s == ANYBODY]
    if anybody:
        found[ANYBODY] = list(stuck)
    return found


def reaching(graph: Mapping[int, Iterable[int]], targets: Iterable[int]) -> set[int]:
    """Those from whom a way leads to one of the targets, which are among them."""
    back: dict[int, list[int]] = {}
    for who, to in graph.items():
        for other in to:
            back.setdefault(other, []).append(who)
    found = set(targets)
    todo = list(found)
    while todo:
        for who in back.get(todo.pop(), ()):
            if who not in found:
                found.add(who)
                todo.append(who)
    return found


def components(graph: Mapping[int, Iterable[int]]) -> Iterator[list[int]]:
    """The strongly connected sets of more than one thread, and threads that wait for themselves; without recursion
    (Tarjan, "Depth-First Search and Linear Graph Algorithms", 1972)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root in graph:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(graph[root]))]
        while work:
            who, rest = work[-1]
            other = next((o for o in rest if o in graph), None)
            if other is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[who])
                if low[who] == index[who]:
                    members = [stack.pop()]
                    while members[-1] != who:
                        members.append(stack.pop())
                    on_stack.difference_update(members)
                    if len(members) > 1 or who in graph[who]:
                        yield members
            elif other not in index:
                index[other] = low[other] = len(index)
                stack.append(other)
                on_stack.add(other)
                work.append((other, iter(graph[other])))
            elif other in on_stack:
                low[who] = min(low[who], index[other])
