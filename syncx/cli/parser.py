"""The parser of the command line: all commands, in the order in which help lists them."""

from __future__ import annotations

import argparse

from .. import __version__
from .command import Parser
from .completion import add_completion
from .demo import add_demo
from .looking import add_locks, add_ls, add_ps, add_stats, add_top
from .run import add_run
from .stress import add_stress
from .upkeep import add_doctor, add_rm
from .waiting import add_deadlocks, add_graph, add_watch, add_why


def build() -> Parser:
    """A new one; what it parses has the command's function as its `action`."""
    parser = Parser(
        prog="syncx",
        description="Locks between processes that survive kill -9.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""\
examples:
  syncx demo                                  see two workers killed, and nothing lost
  syncx demo deadlock                         see philosophers stuck, and one told
  syncx run --lock backup -- rsync -a src/ /mnt/
  syncx run --semaphore cc=4 -- cc -c big.c   at most four at once
  syncx run --file log --no-wait -- ./rotate  a file, as flock(1) does
  syncx ls                                    who holds what, who waits
  syncx graph -o stuck.svg                    who waits for whom, drawn
  syncx locks records.db                      the same of a file, whatever program locks it
  eval "$(syncx completion bash)"

exit status: 0 success, 1 failure, 2 wrong usage, 130 interrupted; `syncx run --help` has those of run.
environment: SYNCX_ARENA, the arena where no --arena is given (a name, or a path with a slash).
`syncx COMMAND --help` says more about each command.""",
    )
    parser.add_argument("--version", action="version", version=f"syncx {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_demo(commands)
    add_run(commands)
    add_ls(commands)
    add_ps(commands)
    add_why(commands)
    add_deadlocks(commands)
    add_watch(commands)
    add_graph(commands)
    add_top(commands)
    add_stats(commands)
    add_locks(commands)
    add_doctor(commands)
    add_stress(commands)
    add_rm(commands)
    add_completion(commands, parser)
    return parser
