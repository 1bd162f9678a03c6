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
    pools: dict[int, _Pool] = {}  # those who wait for the same supplies are looked after together
    for who, request in requests.items():
        pool = pools.get(id(request.supplies))
        if pool is None:
            pool = pools[id(request.supplies)] = _Pool(request.supplies)
        pool.waiters.append((request.need - request.free, who))
    ready: list[int] = []
    dependents: dict[int, list[tuple[_Pool, int]]] = {}
    for pool in pools.values():
        pool.waiters.sort(reverse=True)
        for number, supply in enumerate(pool.supplies):
            if any(s not in requests and (s != ANYBODY or running) for s in supply.sources):
                pool.come(number)
                continue
            for source in supply.sources:
                dependents.setdefault(source, []).append((pool, number))
        ready += pool.served()
    stuck = set(requests)
    while ready:
        who = ready.pop()
        stuck.discard(who)
        for source in (who, ANYBODY):
            for pool, number in dependents.pop(source, ()):
                pool.come(number)
                ready += pool.served()
    return stuck


class _Pool:
    """Supplies, and those who wait for some of them."""

    __slots__ = ("_came", "_units", "supplies", "waiters")

    def __init__(self, supplies: tuple[Supply, ...]) -> None:
        self.supplies = supplies
        self.waiters: list[tuple[int, int]] = []
        """How many units are missing, and to whom; who needs fewest comes last."""
        self._came = [False] * len(supplies)
        self._units = 0

    def come(self, number: int) -> None:
        """That supply is there."""
        if not self._came[number]:
            self._came[number] = True
            self._units += self.supplies[number].units

    def served(self) -> Iterator[int]:
        """Those who have enough now, each once."""
        while self.waiters and self.waiters[-1][0] <= self._units:
            yield self.waiters.pop()[1]


def edges(requests: Mapping[int, Request], stuck: Collection[int]) -> dict[int, list[int]]:
    """Who of the stuck waits for whom of them.  ANYBODY is a node of its own, from which all of them are reached.

    Those who wait for the same supplies share a list, which must not be changed.
    """
    found: dict[int, list[int]] = {}
    known: dict[int, list[int]] = {}  # of those who wait for the same supplies
    for who in stuck:
        supplies = requests[who].supplies
        to = known.get(id(supplies))
        if to is None:
            sources = dict.fromkeys(s for supply in supplies if supply.awaited for s in supply.sources)
            to = known[id(supplies)] = [s for s in sources if s in stuck or s == ANYBODY]
        found[who] = to
    if any(ANYBODY in to for to in known.values()):
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
