"""`syncx stress`, and `syncx stress --kill-every-instruction`, another command altogether with options of its own."""

from __future__ import annotations

from .arguments import integer, path, rate, seconds
from .command import add

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .command import Commands

TOPICS = (
    "mutex", "rlock", "semaphore", "bounded", "condition", "rwlock", "event", "barrier", "once", "latch", "files",
    "update", "placed", "deadlock", "records", "enrolment",
)  # fmt: skip
"""Of `syncx stress`."""

KILL_EVERYWHERE = "--kill-every-instruction"


def _lines(words: tuple[str, ...], indent: int, width: int = 115) -> str:
    """A list of words, in lines of that width; textwrap is not worth its import."""
    lines, room = [""], width - indent
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) + 2 > room:
            lines.append("")
        lines[-1] += f"{word}, "
    return ("\n" + " " * indent).join(line.rstrip() for line in lines).rstrip(",")


def add_stress(commands: Commands) -> None:
    new = add(
        commands,
        "stress",
        _stress,
        "do random things to all locks in processes that are killed at random, and look for what goes wrong",
        f"""\
Processes of two threads each do random operations, and are killed (SIGKILL), stopped and continued, interrupted by
signals and forked at random; those that die are started anew.  What must be true is looked at in two ways: by counters
and canaries that the locks guard (two holders at once, a writer beside a reader, more permits than there are, an
initialisation run twice, torn files, ...), and by a replay of what all threads wrote down, by other code.  Besides,
nobody may hang or crash, and in one round of five, in which nobody dies, no wake-up may be lost.

TOPIC    all, or some of:
         {_lines(TOPICS, 9)}
RATE     deaths in 1,000 operations, 0 to 500, default 4; 0: nobody dies
SEED     of all decisions: what each thread does, and when it is struck.  How far each gets is up to the machine.

It has an arena, a directory and processes of its own, which go with it, even if it is killed.

exit status: 0 nothing was wrong; 1 something was; 2 wrong usage.  Ctrl-C ends it in good order.

examples:
  syncx stress                                everything, for 10 seconds
  syncx stress all --seconds 1800 --svg storm.svg --json storm.json
  syncx stress mutex rwlock --kill 20 --seed 7
  syncx stress --kill-every-instruction --help""",
    )
    new.add_argument("topics", metavar="TOPIC", nargs="*", choices=["all", *TOPICS], default="all", help="default: all")
    how_long = "how long, default 10; it ends sooner when something is wrong"
    new.add_argument("--seconds", metavar="S", type=seconds, default=10.0, help=how_long)
    new.add_argument("--processes", metavar="N", type=integer(1, 64), help="1 to 64, default: 2 for each CPU, 4 to 16")
    new.add_argument("--kill", metavar="RATE", type=rate, default=4.0, help="deaths in 1,000 operations, default 4")
    new.add_argument("--seed", metavar="SEED", type=integer(0, 2**63), help="default: another one each time")
    new.add_argument("--svg", metavar="PATH", type=path, help="draw latencies and deaths into this file")
    new.add_argument("--json", metavar="PATH", type=path, help="write all figures into this file")
    new.add_argument("--quiet", "-q", action="store_true", help="print what is wrong only")
    new.add_argument(
        KILL_EVERYWHERE, action="store_true",
        help="instead: kill each operation after each of its machine instructions; has options of its own",
    )  # fmt: skip


def _stress(options: argparse.Namespace) -> int:
    from ..testing.stress import command

    return command.main(
        options.topics,
        seconds=options.seconds,
        processes=options.processes,
        kill=options.kill,
        seed=options.seed,
        svg=options.svg,
        json_file=options.json,
        quiet=options.quiet,
    )


def kill_everywhere(arguments: list[str]) -> int:
    """Runs that other command, which parses its arguments itself."""
    from ..testing import crash

    return crash.main(arguments)
