"""`syncx deadlocks`: the knots of an arena, and an exit status for whoever watches over a machine."""

from __future__ import annotations

import sys

from .waitgraph import WaitGraph, headline, sentence, wait_graph

__all__ = ["main", "show_problems", "status_of"]

NONE, DEADLOCK, SUSPECTED = 0, 3, 4


def status_of(graph: WaitGraph) -> int:
    """3: there is a deadlock; 4: one is suspected; 0: neither."""
    verdicts = {k.verdict for k in graph.knots}
    return DEADLOCK if "deadlock" in verdicts else SUSPECTED if "suspected" in verdicts else NONE


def show_problems(graph: WaitGraph) -> None:
    """What is wrong with the arena, on stderr."""
    for problem in graph.snapshot.problems:
        print(f"syncx: {graph.snapshot.path}: {problem}", file=sys.stderr)


def main(arena: str, *, as_json: bool = False) -> int:
    """Prints each knot with its members, or JSON; returns the exit status.  Raises what `syncx.wait_graph` raises."""
    graph = wait_graph(arena)
    if as_json:
        print(graph.to_json(indent=2))
    else:
        for knot in graph.knots:
            print(headline(knot))
            for member in knot.members:
                print(f"  {sentence(member, graph)}")
        if not graph.knots and sys.stdout.isatty():
            threads = sum(1 for p in graph.snapshot.participants if p.alive)
            print(f"no deadlock: {threads} threads, of which {len(graph.blocked)} wait")
    show_problems(graph)
    return status_of(graph)
