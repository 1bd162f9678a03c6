"""`syncx run`."""

from __future__ import annotations

import argparse
import os

from .arguments import integer, lock_name, path, seconds
from .claims import AddClaim, OfFile, byte_range, semaphore
from .command import add, arena_argument, fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .command import Commands


def add_run(commands: Commands) -> None:
    new = add(
        commands,
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
    new.usage_status = 125
    new.usage = """syncx run --lock NAME [options] -- COMMAND [ARGUMENT ...]
       syncx run --semaphore NAME[=N] [options] -- COMMAND [ARGUMENT ...]
       syncx run {--read | --write} NAME [options] -- COMMAND [ARGUMENT ...]
       syncx run --file PATH [--range A:B] [--shared] [--style STYLE] [options] -- COMMAND [ARGUMENT ...]
       syncx run --fd N [--range A:B] [--shared | --unlock] [--style STYLE] [options]"""
    for flags, metavar, parse, text in (
        (("--lock", "-l"), "NAME", lock_name, "a lock by this name, made if need be"),
        (("--semaphore", "-s"), "NAME=N", semaphore, "one of the N permits of a semaphore, made if need be"),
        (("--read",), "NAME", lock_name, "a readers-writer lock, made if need be, for reading"),
        (("--write",), "NAME", lock_name, "the same for writing"),
        (("--file", "-f"), "PATH", path, "a file, made if need be"),
        (("--fd",), "N", integer(0, 1 << 20), "a file that is open as descriptor N; takes no command"),
    ):
        new.add_argument(*flags, metavar=metavar, type=parse, action=AddClaim, dest="claims", default=[], help=text)
    new.add_argument(
        "--range", "-r", metavar="A:B", type=byte_range, action=OfFile,
        help="bytes A to B-1 of the file before it; A: to the end, A:+N so many",
    )  # fmt: skip
    new.add_argument("--shared", nargs=0, const=True, action=OfFile, help="the file before it, shared with others")
    new.add_argument(
        "--style", choices=["ofd", "flock"], action=OfFile,
        help="of the file before it: ofd (default) excludes fcntl(2) and lockf(3), flock excludes flock(2)",
    )  # fmt: skip
    new.add_argument("--unlock", "-u", action="store_true", help="with --fd: give it back")
    new.add_argument(
        "--inherit", action="store_true",
        help="what the command leaves running keeps the files locked, as with flock(1)",
    )  # fmt: skip
    new.add_argument(
        "--no-fork", "-F", action="store_true", help="become the command, which keeps the files locked until it ends"
    )
    new.add_argument("--shell", "-c", metavar="COMMAND", help="have the shell run this command")
    new.add_argument("--verbose", "-v", action="store_true", help="say how long it took to get each")
    patience = new.add_mutually_exclusive_group()
    patience.add_argument("--timeout", "-w", metavar="S", type=seconds, help="wait S seconds at most, for all together")
    patience.add_argument(
        "--no-wait", "-n", action="store_const", const=0.0, dest="timeout", help="do not wait; the same as --timeout 0"
    )
    new.add_argument(
        "--conflict-exit-code", "-E", metavar="N", type=integer(0, 255), default=75,
        help="exit status when something was not to be had in time, default 75",
    )  # fmt: skip
    arena_argument(new)
    new.add_argument("command", metavar="-- COMMAND", nargs=argparse.REMAINDER, help="what to run, and its arguments")


def _run(options: argparse.Namespace) -> int:
    from .. import run

    message = _misused(options)
    if message:
        fail(message)
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


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Takes what follows `--` away from a `run`: it belongs to the command, whatever it looks like."""
    if arguments[:1] != ["run"] or "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]
