"""`syncx why`, `deadlocks`, `watch` and `graph`: who waits for whom, and whether that ends."""

from __future__ import annotations

from .arguments import interval, path, seconds
from .command import add, arena_argument, looking, misused, place_argument

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .command import Commands


def add_why(commands: Commands) -> None:
    new = add(
        commands,
        "why",
        _why,
        "tell in words why a process, an object or a file stands still",
        """\
WHAT is the number of a process or thread, the name of an object of the arena, or the path of a file.  A paragraph tells
who waits for it, since when and in which line of Python, who has it and what that one does now, whether that ends by
itself, and what to do.  Nothing is attached to, stopped or changed.

exit status: 0 told, 1 there is no such process, name or file, 2 wrong usage.

examples:
  syncx why 4711
  syncx why nightly
  syncx why ./records.db""",
    )
    new.add_argument("what", metavar="WHAT", type=path, help="a process or thread, a name, or a path")
    arena_argument(new)


def _why(options: argparse.Namespace) -> int:
    from .. import why

    return looking(options, lambda name: why.main(options.what, name))


def add_deadlocks(commands: Commands) -> None:
    new = add(
        commands,
        "deadlocks",
        _deadlocks,
        "list deadlocks, for people and for monitoring",
        """\
Prints each knot of threads that wait for each other, with its members: since when, where, and who has what they want.
Where there is none nothing is printed, but on a terminal.

deadlock    will not end unless a member is killed or gives up
suspected   will not end unless somebody acts of whom nothing is known, say by setting an event
resolves    will end when a time limit of a member runs out; no reason for an alarm

exit status: 0 neither of the first two, 1 failure, 2 wrong usage, 3 a deadlock, 4 suspected only.

examples:
  syncx deadlocks --arena myapp || mail -s 'myapp stands still' ops
  syncx deadlocks --json | jq '.knots[].members[].pid'""",
    )
    place_argument(new)
    new.add_argument("--json", action="store_true", help="the whole wait-for graph as a JSON object")


def _deadlocks(options: argparse.Namespace) -> int:
    from .. import deadlocks

    return looking(options, lambda name: deadlocks.main(name, as_json=options.json))


def add_watch(commands: Commands) -> None:
    new = add(
        commands,
        "watch",
        _watch,
        "stay, and report deadlocks and long waits as they come and go",
        """\
Looks every second, and writes a line for each deadlock, suspected deadlock and long wait, once, and another one when it
is over.  A deadlock is told at once, all else when it was there at two looks.  Idle workers, who wait for an event, a
condition or a unit of a semaphore, are not told of without --all.  An arena that is not there yet is waited for.

exit status: 130 interrupted; with --once that of `syncx deadlocks`.

examples:
  syncx watch --longer 10
  syncx watch --json --arena myapp | while read -r line; do ./alert "$line"; done""",
    )
    place_argument(new)
    new.add_argument(
        "--longer", metavar="S", type=seconds, default=60.0, help="report waits of S seconds or more, default 60"
    )
    new.add_argument("--every", metavar="S", type=interval, default=1.0, help="look every S seconds, default 1")
    new.add_argument("--once", action="store_true", help="look once, and end")
    new.add_argument("--all", action="store_true", help="the waits of idle workers too")
    new.add_argument("--json", action="store_true", help="a JSON object in each line")


def _watch(options: argparse.Namespace) -> int:
    from .. import watch

    how = {"longer": options.longer, "every": options.every, "once": options.once, "everything": options.all}
    return looking(options, lambda name: watch.main(name, as_json=options.json, **how))


def add_graph(commands: Commands) -> None:
    new = add(
        commands,
        "graph",
        _graph,
        "draw who waits for whom: the wait-for graph",
        """\
A thread that waits points at what it wants, and that at whoever holds it.  Without an option the drawing is lines of
text: rings, which are deadlocks, read downwards and back to their beginning; all else are trees, below each thread what
it holds, and below that who wants it.  What nobody waits for is left out.

--svg, or -o FILE.svg, makes a picture for a browser that needs nothing else; in it deadlocked threads have a thick
frame and a filled title, perhaps deadlocked ones a dotted frame, waits with a time limit a dashed line, programs that
do not use syncx a double frame, dead holders a name that is struck through.  The pointer on anything tells more.
--dot is for graphviz.

It looks without attaching, waiting, or stopping anybody, as `syncx ps` does.

exit status: 0 the graph was drawn, whatever is in it; 1 there is no such arena, or FILE cannot be written.

examples:
  syncx graph
  syncx graph -o stuck.svg
  syncx graph --dot | dot -Tpdf > stuck.pdf
  syncx graph --json | jq '.nodes[] | select(.state == "deadlocked") | .pid'""",
    )
    place_argument(new)
    shape = new.add_mutually_exclusive_group()
    for format, text in (
        ("svg", "a picture for a browser"),
        ("dot", "for graphviz"),
        ("json", "nodes and edges as a JSON object"),
    ):
        shape.add_argument(f"--{format}", action="store_const", const=format, dest="format", help=text)
    new.add_argument(
        "--output", "-o", metavar="PATH", type=path, help="write there; .svg, .dot, .json or .txt tells the format"
    )


def _graph(options: argparse.Namespace) -> int:
    from .. import graph

    format = options.format or (graph.format_of(options.output) if options.output else "text")
    if format is None:
        return misused(graph.unclear(options.output))
    return looking(options, lambda name: graph.main(name, format=format, output=options.output))
