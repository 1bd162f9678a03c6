"""`syncx demo`."""

from __future__ import annotations

from .arguments import integer, path
from .command import add, misused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .command import Commands


def add_demo(commands: Commands) -> None:
    new = add(
        commands,
        "demo",
        _demo,
        "see two workers killed and nothing lost, or five philosophers stuck and told",
        """\
Worker processes index every text and source file under DIR, by default the standard library of this Python.  They
start together at a barrier, share counters in shared memory and one file of results, guarded by syncx mutexes, and use
the disk with permits of a syncx semaphore.  Half-way two workers are killed with SIGKILL, one of them inside a `with`,
with a record half written and a permit taken.  The permit comes back, the others repair what it left, and the totals
are compared with those of a single process.

`syncx demo deadlock` is another story: dining philosophers, each a process, take their forks so that all are stuck.
One is told, with the whole deadlock in the message, gives its fork back, and all eat.  Then they take the forks in an
order in which that cannot happen.  (For a directory of that name: ./deadlock.)

exit status: 0 the totals agree, or all have eaten; 1 not.

examples:
  syncx demo ~/src --workers 8
  syncx demo deadlock --philosophers 12 --svg stuck.svg""",
    )
    new.add_argument("directory", metavar="DIR", nargs="?", help="default: the standard library; or deadlock")
    new.add_argument("--workers", "-w", metavar="N", type=integer(3, 32), help="3 to 32, default 4")
    new.add_argument("--philosophers", "-p", metavar="N", type=integer(2, 64), help="2 to 64, default 5")
    new.add_argument("--svg", metavar="PATH", type=path, help="of deadlock: draw it into this file")
    new.add_argument("--json", action="store_true", help="print the outcome as one JSON object")


def _demo(options: argparse.Namespace) -> int:
    if options.directory == "deadlock":
        from .. import demo_deadlock

        if options.workers is not None:
            return misused("--workers is of the other demo; here it is --philosophers")
        return demo_deadlock.main(philosophers=options.philosophers or 5, svg=options.svg, as_json=options.json)
    from .. import demo

    if options.philosophers is not None or options.svg is not None:
        return misused("--philosophers and --svg are of `syncx demo deadlock`")
    return demo.main(options.directory, workers=options.workers or 4, as_json=options.json)
