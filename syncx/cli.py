"""The command line: `syncx demo`, `run`, `ls`, `ps`, `top`, `stats`, `graph`, `why`, `watch` and the others.

Only what a command needs is imported, when it is run, so that `syncx --help` and the completion of a shell are quick.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from . import __version__
from ._core import MAX_PERMITS
from .arena import DEFAULT_NAME, Arena, name_to_bytes, path_of
from .errors import ArenaError, InUse, SyncxError

if TYPE_CHECKING:
    pass

__all__ = ["main"]

OK, FAILED, USAGE = 0, 1, 2
INTERRUPTED, BROKEN_PIPE = 128 + 2, 128 + 13

_MAGIC = b"yncxARN1"
"""The first bytes of every arena, damaged or not (SX_MAGIC in syncx/_core/layout.h)."""

_TOPICS = (
    "mutex", "rlock", "semaphore", "bounded", "condition", "rwlock", "event", "barrier", "once", "latch", "files",
    "update",
)  # fmt: skip
"""Of `syncx stress`."""

_KILL_EVERYWHERE = "--kill-every-instruction"
"""Of `syncx stress`: another command altogether, with options of its own."""

_LAST_BYTE = (1 << 63) - 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    arguments, command = _split(list(sys.argv[1:] if argv is None else argv))
    if arguments[:1] == ["stress"] and _KILL_EVERYWHERE in arguments:
        return _kill_everywhere([a for a in arguments[1:] if a != _KILL_EVERYWHERE])
    options = _parser().parse_args(arguments)
    if options.action is _run:
        # a command given without `--` may have one among its arguments
        options.command += ["--", *command] if options.command and command else command
    try:
        status: int = options.action(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # nobody reads us: as if SIGPIPE had ended us, and nothing more to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except (SyncxError, OSError) as e:
        return _fail(_words(e))


def _fail(message: str) -> int:
    print(f"syncx: {message}", file=sys.stderr)
    return FAILED


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        what = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return what + error.strerror
    return str(error)


# ---- the parser ----------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Speaks as the rest of syncx does; `run` has an exit status of its own for wrong usage."""

    usage_status = USAGE

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(self.usage_status, f"syncx: {message}\n")


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Takes what follows `--` away from a `run`: it belongs to the command, whatever it looks like."""
    if arguments[:1] != ["run"] or "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _lock_name(text: str) -> str:
    return _checked(text, name_to_bytes)


def _semaphore(text: str) -> tuple[str, int | None]:
    name, equals, number = text.rpartition("=")
    if not equals:
        return _lock_name(text), None
    try:
        return _lock_name(name), _integer(1, MAX_PERMITS)(number)
    except argparse.ArgumentTypeError as e:
        raise argparse.ArgumentTypeError(f"{text!r} should be NAME or NAME=N: {e}") from None


class _AddClaim(argparse.Action):
    """One list for several options, since their order counts: what makes a run.Claim of each."""

    def __call__(
        self, parser: argparse.ArgumentParser, options: argparse.Namespace, value: Any, option: str | None = None
    ) -> None:
        name, permits = value if isinstance(value, tuple) else (value, None)
        what = self.option_strings[0].lstrip("-")
        options.claims = [*options.claims, {"what": what, "name": str(name), "permits": permits}]


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("the path of a file must not be empty")
    return text


_RANGE = re.compile(r"(?P<start>\d*):(?P<stop>\+?\d*)", re.A)


def _range(text: str) -> tuple[int, int]:
    """A slice of bytes, as its start and its length; length 0: to the end."""
    found = _RANGE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} should be A:B (bytes A to B-1), A:+N (N bytes from A on) or A: (from A to the end)"
        )
    start = int(found["start"] or 0)
    if not found["stop"]:
        length = 0
    elif found["stop"] == "+":
        raise argparse.ArgumentTypeError(f"{text!r} says not how many bytes: A:+N is N bytes from A on")
    else:
        length = int(found["stop"]) - (0 if found["stop"][0] == "+" else start)
        if length <= 0:
            raise argparse.ArgumentTypeError(f"{text!r} has no byte in it: B is the byte behind the last")
    if start + length > _LAST_BYTE:
        raise argparse.ArgumentTypeError(f"{text!r} goes beyond the last byte that a file can have, {_LAST_BYTE}")
    return start, length


class _OfFile(argparse.Action):
    """What belongs to the --file or --fd before it."""

    def __call__(
        self, parser: argparse.ArgumentParser, options: argparse.Namespace, value: Any, option: str | None = None
    ) -> None:
        claims: list[dict[str, Any]] = options.claims
        if not claims or claims[-1]["what"] not in ("file", "fd"):
            raise argparse.ArgumentError(self, "belongs to a file: put it behind its --file")
        if self.dest == "range":
            more = dict(zip(("start", "length"), value, strict=True))
        else:
            more = {self.dest: self.const if self.nargs == 0 else value}
        options.claims = [*claims[:-1], {**claims[-1], **more}]


def _interval(text: str) -> float:
    value = _seconds(text)
    if value < 0.05:
        raise argparse.ArgumentTypeError(f"{text!r} is too short: 0.05 seconds at least")
    return value


def _arena_name(text: str) -> str:
    return _checked(text, path_of)


def _place(text: str) -> str:
    return text if "/" in text else _arena_name(text)


def _checked(text: str, check: Callable[[str], object]) -> str:
    try:
        check(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None
    return text


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 1e9")
    return value


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 500:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of deaths in 1,000 operations, from 0 to 500")
    return rate


def _integer(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse


def _parser() -> _Parser:
    parser = _Parser(
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

    def command(name: str, action: Callable[[argparse.Namespace], int], text: str, epilog: str) -> _Parser:
        new: _Parser = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        new.set_defaults(action=action)
        return new

    def arena(new: _Parser) -> None:
        new.add_argument(
            "--arena", "-a", metavar="ARENA", type=_arena_name, help="the arena, a name or a path; else SYNCX_ARENA"
        )

    demo = command(
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
    demo.add_argument("directory", metavar="DIR", nargs="?", help="default: the standard library; or deadlock")
    demo.add_argument("--workers", "-w", metavar="N", type=_integer(3, 32), help="3 to 32, default 4")
    demo.add_argument("--philosophers", "-p", metavar="N", type=_integer(2, 64), help="2 to 64, default 5")
    demo.add_argument("--svg", metavar="PATH", type=_path, help="of deadlock: draw it into this file")
    demo.add_argument("--json", action="store_true", help="print the outcome as one JSON object")

    run = command(
        "run",
        _run,
        "run a command while holding a lock, a permit of a semaphore, or a file",
        """\
Waits for the lock, runs COMMAND, releases the lock when it ends.  Of --lock, --semaphore, --read, --write and --file
there may be several, mixed as you like; all are taken in the order given, and released in reverse.

--semaphore NAME=4 lets 4 such commands run at once, over the whole machine.  The first to come makes the semaphore with
that number; later another number is an error, and NAME alone takes what is there (a new one then has a single permit).
--read and --write are for a readers-writer lock: any number read at once, or one writes.

--file PATH locks a file, made if it is not there, or with --range A:B its bytes A to B-1.  What follows a --file is of
that file: --range, --shared (any number of them at once, and no other), and --style flock, which excludes flock(1) and
may lock a directory; without it, the lock excludes programs that use fcntl(2) or lockf(3).  `syncx locks PATH` tells
who has it.  --fd N locks a file that the shell has open, as flock(1) does, and ends; --unlock gives it back.

SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to the command.  If the last holder of a lock died,
one line on stderr says so, and the command finds the lock's name in the environment variable SYNCX_OWNER_DIED.  If
`syncx run` itself is killed with SIGKILL, the next in line gets what it held and the command is killed too (its own
children are not).

exit status:
  that of the command; 128 + N if signal N ended it
  75   a lock or permit was not to be had in time (see --conflict-exit-code)
  125  syncx failed, or wrong usage
  126  the command cannot be executed
  127  the command was not found

examples:
  syncx run --lock nightly --no-wait -- ./nightly.sh
  syncx run --lock db --lock cache --timeout 30 -- make migrate
  for f in *.c; do syncx run --semaphore cc=4 -- cc -c $f & done; wait
  syncx run --read config --semaphore net -- ./fetch.sh
  syncx run --file log --no-wait -- ./rotate.sh
  syncx run --file db --range 0:4096 --shared -- ./report.sh
  syncx run --file /var/lock/x --style flock -c 'a | b'
  ( syncx run --fd 9 -n || exit 1; ./job.sh ) 9>> lockfile""",
    )
    run.usage_status = 125
    run.usage = """syncx run --lock NAME [options] -- COMMAND [ARGUMENT ...]
       syncx run --semaphore NAME[=N] [options] -- COMMAND [ARGUMENT ...]
       syncx run {--read | --write} NAME [options] -- COMMAND [ARGUMENT ...]
       syncx run --file PATH [--range A:B] [--shared] [--style STYLE] [options] -- COMMAND [ARGUMENT ...]
       syncx run --fd N [--range A:B] [--shared | --unlock] [--style STYLE] [options]"""
    for flags, metavar, parse, text in (
        (("--lock", "-l"), "NAME", _lock_name, "a lock by this name, made if need be"),
        (("--semaphore", "-s"), "NAME=N", _semaphore, "one of the N permits of a semaphore, made if need be"),
        (("--read",), "NAME", _lock_name, "a readers-writer lock, made if need be, for reading"),
        (("--write",), "NAME", _lock_name, "the same for writing"),
        (("--file", "-f"), "PATH", _path, "a file, made if need be"),
        (("--fd",), "N", _integer(0, 1 << 20), "a file that is open as descriptor N; takes no command"),
    ):
        run.add_argument(*flags, metavar=metavar, type=parse, action=_AddClaim, dest="claims", default=[], help=text)
    run.add_argument(
        "--range", "-r", metavar="A:B", type=_range, action=_OfFile,
        help="bytes A to B-1 of the file before it; A: to the end, A:+N so many",
    )  # fmt: skip
    run.add_argument("--shared", nargs=0, const=True, action=_OfFile, help="the file before it, shared with others")
    run.add_argument(
        "--style", choices=["ofd", "flock"], action=_OfFile,
        help="of the file before it: ofd (default) excludes fcntl(2) and lockf(3), flock excludes flock(2)",
    )  # fmt: skip
    run.add_argument("--unlock", "-u", action="store_true", help="with --fd: give it back")
    run.add_argument(
        "--inherit", action="store_true",
        help="what the command leaves running keeps the files locked, as with flock(1)",
    )  # fmt: skip
    run.add_argument(
        "--no-fork", "-F", action="store_true", help="become the command, which keeps the files locked until it ends"
    )
    run.add_argument("--shell", "-c", metavar="COMMAND", help="have the shell run this command")
    run.add_argument("--verbose", "-v", action="store_true", help="say how long it took to get each")
    patience = run.add_mutually_exclusive_group()
    patience.add_argument(
        "--timeout", "-w", metavar="S", type=_seconds, help="wait S seconds at most, for all together"
    )
    patience.add_argument(
        "--no-wait", "-n", action="store_const", const=0.0, dest="timeout", help="do not wait; the same as --timeout 0"
    )
    run.add_argument(
        "--conflict-exit-code", "-E", metavar="N", type=_integer(0, 255), default=75,
        help="exit status when something was not to be had in time, default 75",
    )  # fmt: skip
    arena(run)
    run.add_argument("command", metavar="-- COMMAND", nargs=argparse.REMAINDER, help="what to run, and its arguments")

    ls = command(
        "ls",
        _ls,
        "list locks, semaphores and all else: their state, who holds them, who waits",
        """\
Looks without attaching, locking or waiting.  An arena that does not exist has nothing in it, and is not made.  What is
wrong with an arena is told on stderr.

NAME     the name
KIND     the class: Mutex, BoundedSemaphore, RWLock, ...
STATE    a Mutex or RLock: locked, free, or owner died: its last holder was killed, and nobody has recovered it since
         a semaphore: how many units are free; a RWLock: writer, N readers, free, or owner died
         an Event: set or not set; a Latch: how far to go, or open; a Once: done, running or not done
         a Barrier: how many of its parties wait, or broken
WAITING  how many threads wait, and for how long the first of them has
AGE      since it was made
HOLDERS  the process that holds it, and its command; each further one on a line of its own

On a terminal long commands are cut; a pipe or file gets them whole.

examples:
  syncx ls --json | jq '.[] | select(.waiters != [])'
  syncx ls --arena myapp --all""",
    )
    arena(ls)
    ls.add_argument("--all", action="store_true", help="anonymous ones too")
    ls.add_argument("--arenas", action="store_true", help="list the arenas of this user instead")
    shape = ls.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="a JSON list of objects")
    shape.add_argument("--quiet", "-q", action="store_true", help="names only, one a line")

    ps = command(
        "ps",
        _ps,
        "list the threads that use an arena: what each holds and awaits, since when",
        """\
Looks without attaching, waiting, or stopping anybody; also at an arena that nobody uses any more, a damaged one, or,
with ARENA as a path and the right to read it, another user's.  What is wrong with an arena is told on stderr.

PID, TID  the process and the thread
THREAD    the thread's name
HOLDS     what it holds, one a line, ten at most without --all
AWAITS    what it waits for, who holds that, and when it gives up
SINCE     for how long it has waited
COMMAND   of the process; (dead): others may take what it holds

On a terminal threads that wait are yellow, dead ones red, and long commands are cut.

examples:
  syncx ps
  syncx ps /dev/shm/syncx-1000-default
  syncx ps --json | jq '.waits[] | select(.waited > 10)'""",
    )
    ps.add_argument("place", metavar="ARENA", nargs="?", type=_arena_name, help="the arena, a name or a path")
    arena(ps)
    ps.add_argument("--all", action="store_true", help="all that a thread holds, not the first ten")
    ps.add_argument("--json", action="store_true", help="the whole snapshot as a JSON object")

    why = command(
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
    why.add_argument("what", metavar="WHAT", type=_path, help="a process or thread, a name, or a path")
    arena(why)

    deadlocks = command(
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
    deadlocks.add_argument("place", metavar="ARENA", nargs="?", type=_arena_name, help="the arena, a name or a path")
    arena(deadlocks)
    deadlocks.add_argument("--json", action="store_true", help="the whole wait-for graph as a JSON object")

    watch = command(
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
    watch.add_argument("place", metavar="ARENA", nargs="?", type=_arena_name, help="the arena, a name or a path")
    arena(watch)
    watch.add_argument(
        "--longer", metavar="S", type=_seconds, default=60.0, help="report waits of S seconds or more, default 60"
    )
    watch.add_argument("--every", metavar="S", type=_interval, default=1.0, help="look every S seconds, default 1")
    watch.add_argument("--once", action="store_true", help="look once, and end")
    watch.add_argument("--all", action="store_true", help="the waits of idle workers too")
    watch.add_argument("--json", action="store_true", help="a JSON object in each line")

    graph = command(
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
    graph.add_argument("place", metavar="ARENA", nargs="?", type=_arena_name, help="the arena, a name or a path")
    arena(graph)
    shape = graph.add_mutually_exclusive_group()
    for format, text in (
        ("svg", "a picture for a browser"),
        ("dot", "for graphviz"),
        ("json", "nodes and edges as a JSON object"),
    ):
        shape.add_argument(f"--{format}", action="store_const", const=format, dest="format", help=text)
    graph.add_argument(
        "--output", "-o", metavar="PATH", type=_path, help="write there; .svg, .dot, .json or .txt tells the format"
    )

    top = command(
        "top",
        _top,
        "show live who waits longest, and for what is waited most",
        """\
Looks as `syncx ps` does, without attaching, waiting or stopping anybody, every second.  Above, the threads that wait;
below, the objects for which somebody waits or had to.  Columns that do not fit are left out.

WAITED   for how long the thread has waited (of an object: all waits together that are over)
AWAITS   what it waits for, and HELD BY: the processes that have it
WHERE    the line of Python where it waits
PER S    waits that had to sleep, in a second; SLEPT: since the object was made
LONGEST  the longest wait for it, this one included

Red and !: a deadlock.  ?: a suspected one.  ~: a circle that ends by itself, since somebody in it waits for a limited
time.  A dot: behind a deadlock.

keys:
  w c t n     longest wait first, most contended first, most time waited first, by name
  / Esc       show only what contains some text; show everything again
  space       freeze, and go on
  a           objects too that nobody ever had to wait for
  arrows, page up, page down: scroll; h: help; q: quit

With --once, or where standard output is no terminal, it looks once and prints plain text.

examples:
  syncx top
  syncx top myapp --every 0.2
  ssh build7 syncx top --once""",
    )
    top.add_argument("place", metavar="ARENA", nargs="?", type=_arena_name, help="the arena, a name or a path")
    arena(top)
    top.add_argument("--every", metavar="S", type=_interval, default=1.0, help="look every S seconds, default 1")
    top.add_argument("--once", action="store_true", help="look once, and print plain text")

    stats = command(
        "stats",
        _stats,
        "tell what happened to each lock since it was made, as a table, JSON, or for Prometheus",
        """\
NAME     the name; anonymous ones are shown with --all only
TAKEN    how often it was taken; -: not counted, since several threads may have it at once
SLEPT    waits that had to sleep
WAITED   how long those slept together that are over
LONGEST  the longest of them
WAITERS  how many threads wait now
HELD     how long it was held, all holds together that are over, and MOST: the longest of them; with SYNCX_TRACE only
DIED     holds taken over from the dead
RESCUES  wake-ups that died with a thread and were made good

--prometheus writes the text format that Prometheus reads; a file given with --output is replaced in one step, as the
textfile collector of the node exporter wants it.  If the arena cannot be read it says so: syncx_arena_up is 0.

exit status: 0, 1 if the arena is not there or cannot be read, or the file cannot be written.

examples:
  syncx stats
  syncx stats myapp --json | jq '.objects[] | select(.waiters > 0)'
  syncx stats --prometheus -o /var/lib/node_exporter/textfile/syncx.prom""",
    )
    stats.add_argument("place", metavar="ARENA", nargs="?", type=_arena_name, help="the arena, a name or a path")
    arena(stats)
    stats.add_argument("--all", action="store_true", help="anonymous ones too")
    shape = stats.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="a JSON object")
    shape.add_argument("--prometheus", action="store_true", help="the text format of Prometheus")
    stats.add_argument("--output", "-o", metavar="PATH", type=_path, help="of --json or --prometheus: where it goes")

    locks = command(
        "locks",
        _locks,
        "list who holds and who awaits which ranges of a file, and draw them",
        """\
Looks at all locks of a file: those taken through syncx, and those of any other program on this machine (flock(2),
lockf(3), fcntl(2), leases), as far as this user may know.  Nothing is locked or waited for, and the file is not opened.

BYTES    a slice, as --range of `syncx run` takes it: 0:100 is bytes 0 to 99, 100: is from 100 to the end
FOR      for how long it has been held or awaited; the kernel does not tell it of programs that do not use syncx
KIND     ofd and posix exclude each other, flock only flock; syncx: taken through syncx
THREAD   the thread that has it or waits; other programs' locks belong to processes
PROCESS  its pid and its command line; those that share the lock since a fork have lines of their own

examples:
  syncx locks /var/lib/app/records.db
  syncx locks --watch 0.5 jobs.log
  syncx locks --json state.json | jq '.locks[].holders[]?.pid'""",
    )
    locks.add_argument("path", metavar="PATH", type=_path, help="the file, or a directory")
    arena(locks)
    locks.add_argument("--json", action="store_true", help="one JSON object, each time")
    locks.add_argument(
        "--watch",
        metavar="S",
        nargs="?",
        const=1.0,
        type=_interval,
        help="look every S seconds, default 1, until Ctrl-C",
    )

    doctor = command(
        "doctor",
        _doctor,
        "look for what is wrong with the machine, the arenas, and what was left behind; mend it",
        """\
Tells what the kernel, the limits, Python and a container mean for syncx; how the arenas of this user are (root: of
all): damage, room, the dead, crowds; and what was left behind in /dev/shm, /dev/mqueue and System V IPC.  A line each:

ok       nothing to do
note     to know
warning  to be seen to
error    something does not work

With ARENA only that is looked at: an arena by name or path; or, with a slash in it, a file or a directory in which
syncx.update() was used: what a kill left there is hidden.

--fix mends what is ours: it clears up after processes that died, and removes arenas that were unlinked or abandoned and
what killed updates left; nothing that a living process uses.  Of what belongs to other programs it prints the command
that removes it, and touches nothing.

exit status: 0 all is well, or was mended; 3 there are warnings or errors; 1 something could not be looked at.

examples:
  syncx doctor
  syncx doctor --fix
  syncx doctor --json | jq '.findings[] | select(.level != "ok")'
  syncx doctor /var/lib/app/""",
    )
    doctor.add_argument("places", metavar="ARENA", nargs="*", type=_place, help="an arena, a file, or a directory")
    doctor.add_argument("--fix", action="store_true", help="mend what may be mended")
    doctor.add_argument("--json", action="store_true", help="one JSON object")

    stress = command(
        "stress",
        _stress,
        "do random things to all locks in processes that are killed at random, and look for what goes wrong",
        """\
Processes of two threads each do random operations, and are killed (SIGKILL), stopped and continued, interrupted by
signals and forked at random; those that die are started anew.  What must be true is looked at in two ways: by counters
and canaries that the locks guard (two holders at once, a writer beside a reader, more permits than there are, an
initialisation run twice, torn files, ...), and by a replay of what all threads wrote down, by other code.  Besides,
nobody may hang or crash, and in one round of five, in which nobody dies, no wake-up may be lost.

TOPIC    all, or some of: mutex, rlock, semaphore, bounded, condition, rwlock, event, barrier, once, latch, files,
         update
RATE     deaths in 1,000 operations, default 4; 0: nobody dies
SEED     of all decisions: what each thread does, and when it is struck.  How far each gets is up to the machine.

It has an arena, a directory and processes of its own, which go with it, even if it is killed.

exit status: 0 nothing was wrong; 1 something was; 2 wrong usage.  Ctrl-C ends it in good order.

examples:
  syncx stress                                everything, for 10 seconds
  syncx stress all --seconds 1800 --svg storm.svg --json storm.json
  syncx stress mutex rwlock --kill 20 --seed 7
  syncx stress --kill-every-instruction --help""",
    )
    stress.add_argument(
        "topics", metavar="TOPIC", nargs="*", choices=["all", *_TOPICS], default="all", help="default: all"
    )
    stress.add_argument("--seconds", metavar="S", type=_seconds, default=10.0, help="default 10")
    stress.add_argument("--processes", metavar="N", type=_integer(1, 64), help="default: 2 for each CPU, 4 to 16")
    stress.add_argument("--kill", metavar="RATE", type=_rate, default=4.0, help="deaths in 1,000 operations, default 4")
    stress.add_argument("--seed", metavar="SEED", type=_integer(0, 2**63), help="default: another one each time")
    stress.add_argument("--svg", metavar="PATH", type=_path, help="draw latencies and deaths into this file")
    stress.add_argument("--json", metavar="PATH", type=_path, help="write all figures into this file")
    stress.add_argument("--quiet", "-q", action="store_true", help="print what is wrong only")
    stress.add_argument(
        _KILL_EVERYWHERE, action="store_true",
        help="instead: kill each operation after each of its machine instructions; has options of its own",
    )  # fmt: skip

    rm = command(
        "rm",
        _rm,
        "remove locks, semaphores and all else by name, or a whole arena",
        """\
What a live process holds or has open is refused without --force.  Whoever has it open gets an exception (syncx.Gone)
at the next use: nothing is ever split into two of one name.

exit status: 0 all are removed, 1 something was not (it is in use, or there is no such name).

examples:
  syncx rm nightly
  syncx rm --arena myapp --all                a whole arena
  syncx rm --arena myapp --all --force        even one that is damaged or in use""",
    )
    rm.add_argument("names", metavar="NAME", nargs="*", type=_lock_name)
    arena(rm)
    rm.add_argument("--all", action="store_true", help="the whole arena, with everything in it")
    rm.add_argument("--force", "-f", action="store_true", help="also what is in use; with --all also a damaged arena")

    completion = command(
        "completion",
        _completion,
        "print the completion script of a shell",
        """\
Needs shtab, which the extra `cli` installs: pip install 'syncx[cli]'

examples:
  eval "$(syncx completion bash)"
  syncx completion zsh > ~/.zfunc/_syncx""",
    )
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    return parser


# ---- demo and run --------------------------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> int:
    if options.directory == "deadlock":
        from . import demo_deadlock

        if options.workers is not None:
            print("syncx: --workers is of the other demo; here it is --philosophers", file=sys.stderr)
            return USAGE
        return demo_deadlock.main(philosophers=options.philosophers or 5, svg=options.svg, as_json=options.json)
    from . import demo

    if options.philosophers is not None or options.svg is not None:
        print("syncx: --philosophers and --svg are of `syncx demo deadlock`", file=sys.stderr)
        return USAGE
    return demo.main(options.directory, workers=options.workers or 4, as_json=options.json)


def _run(options: argparse.Namespace) -> int:
    from . import run

    message = _misused(options)
    if message:
        print(f"syncx: {message}", file=sys.stderr)
        return run.FAILED
    claims = [run.Claim(**claim) for claim in options.claims]
    patience = {"timeout": options.timeout, "conflict_status": options.conflict_exit_code, "verbose": options.verbose}
    if claims[0].what == "fd":
        fd = int(claims[0].name)
        return run.run_descriptor(fd, claims[0]._replace(name=f"descriptor {fd}"), unlock=options.unlock, **patience)
    shell = os.environ.get("SHELL") or "/bin/sh"
    return run.run(
        options.command or [shell, "-c", options.shell],
        claims,
        arena=options.arena,
        inherit=options.inherit,
        fork=not options.no_fork,
        **patience,
    )


def _misused(options: argparse.Namespace) -> str:
    """What is wrong with how the options of `run` were put together."""
    kinds = {claim["what"] for claim in options.claims}
    has_command = bool(options.command) or options.shell is not None
    if "fd" in kinds:
        if len(options.claims) > 1 or has_command:
            return "--fd stands alone: the lock is of the shell that has the file open, and stays when syncx ends"
        return "--inherit and --no-fork need a command" if options.inherit or options.no_fork else ""
    if options.unlock:
        return "--unlock is for --fd N: all other locks are given back when the command has ended"
    if not has_command:
        return "run needs a command: syncx run --lock NAME -- COMMAND"
    if options.command and options.shell is not None:
        return "run takes a command or --shell COMMAND, not both"
    if not kinds:
        return "run needs something to hold: --lock, --semaphore, --read or --write, and a name; or --file and a path"
    if options.inherit and "file" not in kinds:
        return "--inherit is for --file: all else is held by syncx until the command has ended"
    if options.no_fork and kinds != {"file"}:
        return "--no-fork is for --file alone: somebody must stay to give all else back"
    return ""


# ---- ls ------------------------------------------------------------------------------------------------------------


def _arena_of(options: argparse.Namespace) -> str:
    given: str | None = options.arena
    return given or os.environ.get("SYNCX_ARENA") or DEFAULT_NAME


def _ls(options: argparse.Namespace) -> int:
    from . import ls

    shape = "json" if options.json else "quiet" if options.quiet else "table"
    if options.arenas:
        return ls.arenas(shape)
    name = _arena_of(options)
    try:
        return ls.main(name, shape, everything=options.all)
    except FileNotFoundError:
        if options.json:
            print("[]")
        else:
            print(f"syncx: there is no arena {name!r}", file=sys.stderr)
        return OK


def _ps(options: argparse.Namespace) -> int:
    from . import ps

    return _looking(options, lambda name: ps.main(name, as_json=options.json, everything=options.all))


def _top(options: argparse.Namespace) -> int:
    from . import top

    return _looking(options, lambda name: top.main(name, every=options.every, single=options.once))


def _stats(options: argparse.Namespace) -> int:
    from . import stats

    if options.output is not None and not (options.json or options.prometheus):
        print("syncx: --output is for --json and --prometheus: a table goes to standard output", file=sys.stderr)
        return USAGE
    how = {"everything": options.all, "as_json": options.json, "prometheus": options.prometheus}
    return _looking(options, lambda name: stats.main(name, output=options.output, **how))


def _why(options: argparse.Namespace) -> int:
    from . import why

    return _looking(options, lambda name: why.main(options.what, name))


def _deadlocks(options: argparse.Namespace) -> int:
    from . import deadlocks

    return _looking(options, lambda name: deadlocks.main(name, as_json=options.json))


def _watch(options: argparse.Namespace) -> int:
    from . import watch

    how = {"longer": options.longer, "every": options.every, "once": options.once, "everything": options.all}
    return _looking(options, lambda name: watch.main(name, as_json=options.json, **how))


def _graph(options: argparse.Namespace) -> int:
    from . import graph

    format = options.format or (graph.format_of(options.output) if options.output else "text")
    if format is None:
        print(f"syncx: {graph.unclear(options.output)}", file=sys.stderr)
        return USAGE
    return _looking(options, lambda name: graph.main(name, format=format, output=options.output))


def _looking(options: argparse.Namespace, look: Callable[[str], int]) -> int:
    """Of one arena, which may be given in two ways."""
    place: str | None = getattr(options, "place", None)
    if place is not None and options.arena is not None:
        print("syncx: that takes one arena, as an argument or with --arena", file=sys.stderr)
        return USAGE
    name = place or _arena_of(options)
    try:
        return look(name)
    except FileNotFoundError as e:
        named = (getattr(options, "what", None), getattr(options, "output", None))
        if e.filename is not None and os.fspath(e.filename) in named:
            raise
        return _fail(f"there is no arena {name!r}")


def _doctor(options: argparse.Namespace) -> int:
    from . import doctor

    return doctor.main(options.places, fix=options.fix, as_json=options.json)


# ---- locks ---------------------------------------------------------------------------------------------------------


def _locks(options: argparse.Namespace) -> int:
    from . import lockbar

    try:
        return lockbar.locks(options.path, options.arena, as_json=options.json, every=options.watch)
    except FileNotFoundError as e:
        if e.filename is not None and os.fspath(e.filename) == options.path:
            raise
        return _fail(f"there is no arena {_arena_of(options)!r}")


# ---- stress --------------------------------------------------------------------------------------------------------


def _stress(options: argparse.Namespace) -> int:
    from .testing.stress import command

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


def _kill_everywhere(arguments: list[str]) -> int:
    from .testing import crash

    return crash.main(arguments)


# ---- rm ------------------------------------------------------------------------------------------------------------


def _rm(options: argparse.Namespace) -> int:
    name = _arena_of(options)
    if bool(options.names) == options.all:
        print("syncx: rm takes names, or --all for the whole arena", file=sys.stderr)
        return USAGE
    try:
        return _rm_arena(name, options.force) if options.all else _rm_locks(options.names, name, options.force)
    except FileNotFoundError:
        return _fail(f"there is no arena {name!r}")


def _rm_locks(locks: Sequence[str], name: str, force: bool) -> int:
    status = OK
    with Arena(name, create=False) as arena:
        for lock in locks:
            try:
                arena.unlink(lock, force=force)
            except FileNotFoundError:
                status = _fail(f"there is no object {lock!r} in the arena {name!r}")
            except InUse:
                status = _fail(f"{lock!r} is in use{_users(arena, lock)}; --force removes it all the same")
    return status


def _users(arena: Arena, lock: str) -> str:
    from .terminal import command_line

    for o in arena.objects():
        if o.name == lock and o.holder is not None:
            return f": process {o.holder.pid} holds it ({command_line(*o.holder)})"
    return ": a live process has it open"


def _rm_arena(name: str, force: bool) -> int:
    try:
        with Arena(name, create=False) as arena:
            arena.unlink(force=force)
    except InUse:
        return _fail(f"the arena {name!r} is in use by a live process; --force removes it all the same")
    except ArenaError as e:
        path, by_name = path_of(name)
        if not by_name and not _was_arena(path):
            return _fail(f"{path} never was an arena and is left alone: {e}")
        if not force:
            return _fail(f"{e}; --force removes the file")
        os.unlink(path)
    return OK


def _was_arena(path: str) -> bool:
    """Does a file begin as an arena does?  What is named by a path may be any file of the user's."""
    try:
        with open(path, "rb") as f:
            return f.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


# ---- completion ----------------------------------------------------------------------------------------------------

_NAMES = {
    "bash": """\
_syncx_names() {
  local IFS=$'\\n'
  compgen -W "$(syncx ls --quiet 2>/dev/null)" -- "$1"
}
""",
    "zsh": """\
_syncx_names() {
  local -a names
  names=("${(@f)$(syncx ls --quiet 2>/dev/null)}")
  compadd -a names
}
""",
}


def _completion(options: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError:
        return _fail("completion needs shtab; install it with: pip install 'syncx[cli]'")
    parser = _parser()
    names = {"bash": "_syncx_names", "zsh": "_syncx_names"}
    for action in _all_actions(parser):
        complete = {
            "NAME": names,
            "NAME=N": names,
            "WHAT": names,
            "DIR": shtab.DIRECTORY,
            "PATH": shtab.FILE,
            "ARENA": shtab.FILE,
            "-- COMMAND": shtab.FILE,
        }.get(str(action.metavar))
        if complete is not None:
            action.complete = complete  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell, preamble=_NAMES.get(options.shell, "")))
    return OK


def _all_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    found = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                found += _all_actions(sub)
    return found
