"""The command line: `syncx demo`, `run`, `ls`, `rm`, `completion`.

Only what a command needs is imported, when it is run, so that `syncx --help` and the completion of a shell are quick.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from . import __version__
from .arena import DEFAULT_NAME, Arena, arena_paths, name_to_bytes, path_of
from .errors import ArenaError, InUse, SyncxError

if TYPE_CHECKING:
    from .objects import Holder, ObjectInfo

__all__ = ["main"]

OK, FAILED, USAGE = 0, 1, 2
INTERRUPTED, BROKEN_PIPE = 128 + 2, 128 + 13

_MAGIC = b"yncxARN1"
"""The first bytes of every arena, damaged or not (SX_MAGIC in syncx/_core/layout.h)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    arguments, command = _split(list(sys.argv[1:] if argv is None else argv))
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


def _arena_name(text: str) -> str:
    return _checked(text, path_of)


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
  syncx run --lock backup -- rsync -a src/ /mnt/
  syncx ls                                    who holds what, who waits
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
        "count the words of a tree with several processes, two of which are killed",
        """\
Worker processes index every text and source file under DIR, by default the standard library of this Python.  They
share counters in shared memory and one file of results, guarded by syncx mutexes.  Half-way two workers are killed
with SIGKILL, one of them inside a `with`, with a record half written.  The others repair what it left, and the totals
are compared with those of a single process.

exit status: 0 the totals agree, 1 they do not.
example: syncx demo ~/src --workers 8""",
    )
    demo.add_argument("directory", metavar="DIR", nargs="?", help="default: the standard library")
    demo.add_argument("--workers", "-w", metavar="N", type=_integer(3, 32), default=4, help="3 to 32, default 4")
    demo.add_argument("--json", action="store_true", help="print the outcome as one JSON object")

    run = command(
        "run",
        _run,
        "run a command while holding a lock",
        """\
Waits for the lock, runs COMMAND, releases the lock when it ends.  Several --lock are taken in the order given.

SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to the command.  If the last holder died, one line
on stderr says so, and the command finds the lock's name in the environment variable SYNCX_OWNER_DIED.  If `syncx run`
itself is killed with SIGKILL, the next in line gets the lock and the command is killed too (its own children are not).

exit status:
  that of the command; 128 + N if signal N ended it
  75   the lock was not to be had in time (see --conflict-exit-code)
  125  syncx failed, or wrong usage
  126  the command cannot be executed
  127  the command was not found

examples:
  syncx run --lock nightly --no-wait -- ./nightly.sh
  syncx run --lock db --lock cache --timeout 30 -- make migrate""",
    )
    run.usage_status = 125
    run.usage = "syncx run --lock NAME [--lock NAME ...] [options] -- COMMAND [ARGUMENT ...]"
    run.add_argument(
        "--lock", "-l", metavar="NAME", type=_lock_name, action="append", required=True, dest="locks",
        help="a lock by this name, made if need be; may be given several times",
    )  # fmt: skip
    patience = run.add_mutually_exclusive_group()
    patience.add_argument("--timeout", "-w", metavar="S", type=_seconds, help="wait S seconds at most, for all locks")
    patience.add_argument(
        "--no-wait", "-n", action="store_const", const=0.0, dest="timeout", help="do not wait; the same as --timeout 0"
    )
    run.add_argument(
        "--conflict-exit-code", "-E", metavar="N", type=_integer(0, 255), default=75,
        help="exit status when a lock was not to be had in time, default 75",
    )  # fmt: skip
    arena(run)
    run.add_argument("command", metavar="-- COMMAND", nargs=argparse.REMAINDER, help="what to run, and its arguments")

    ls = command(
        "ls",
        _ls,
        "list locks: who holds them, who waits",
        """\
Looks without locking or waiting, so each line is true for a moment of its own.  An arena that does not exist has no
locks, and is not made.  In the column HOLDER, "died" means that the last holder died and nobody has recovered the
lock since.

examples:
  syncx ls --json | jq '.[] | select(.waiters != [])'
  syncx ls --arena myapp --all""",
    )
    arena(ls)
    ls.add_argument("--all", action="store_true", help="anonymous locks too")
    ls.add_argument("--arenas", action="store_true", help="list the arenas of this user instead")
    shape = ls.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="a JSON list of objects")
    shape.add_argument("--quiet", "-q", action="store_true", help="names only, one a line")

    rm = command(
        "rm",
        _rm,
        "remove locks by name, or a whole arena",
        """\
What a live process holds or has open is refused without --force.  Whoever has a removed lock open gets an exception
(syncx.Gone) at the next acquire: it is never split into two of one name.

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
    from . import demo

    return demo.main(options.directory, workers=options.workers, as_json=options.json)


def _run(options: argparse.Namespace) -> int:
    from . import run

    if not options.command:
        print("syncx: run needs a command: syncx run --lock NAME -- COMMAND", file=sys.stderr)
        return run.FAILED
    return run.run(
        options.command,
        options.locks,
        arena=options.arena,
        timeout=options.timeout,
        conflict_status=options.conflict_exit_code,
    )


# ---- ls ------------------------------------------------------------------------------------------------------------


def _arena_of(options: argparse.Namespace) -> str:
    given: str | None = options.arena
    return given or os.environ.get("SYNCX_ARENA") or DEFAULT_NAME


def _ls(options: argparse.Namespace) -> int:
    if options.arenas:
        return _show([_arena_row(p) for p in arena_paths()], options, _arena_table)
    try:
        arena = Arena(_arena_of(options), create=False)
    except FileNotFoundError:
        if not options.json:
            print(f"syncx: there is no arena {_arena_of(options)!r}", file=sys.stderr)
        return _show([], options, lambda rows: None)
    with arena:
        found = [o for o in arena.objects() if o.name is not None or options.all]
        found.sort(key=lambda o: (o.name is None, o.name))
        return _show([_row(o, arena) for o in found], options, _lock_table)


def _show(
    rows: list[dict[str, Any]], options: argparse.Namespace, table: Callable[[list[dict[str, Any]]], None]
) -> int:
    if options.json:
        import json

        print(json.dumps(rows, indent=2))
    elif options.quiet:
        for row in rows:
            if row["name"] is not None:
                print(row["name"])
    elif rows:
        table(rows)
    return OK


def _person(who: Holder) -> dict[str, Any]:
    from .terminal import command_line

    return {"pid": who.pid, "tid": who.tid, "command": command_line(who.pid, who.tid)}


def _row(info: ObjectInfo, arena: Arena) -> dict[str, Any]:
    return {
        "name": info.name,
        "kind": info.kind,
        "arena": arena.name,
        "holder": None if info.holder is None else _person(info.holder),
        "owner_died": info.owner_died,
        "waiters": [_person(w) for w in info.waiters],
        "longest_wait": info.longest_wait,
        "processes": info.processes,
        "created": info.created,
        "age": max(0.0, time.time() - info.created),
        "contended": info.contended,
        "recoveries": info.recoveries,
        "rescues": info.rescues,
    }


def _lock_table(rows: list[dict[str, Any]]) -> None:
    from .terminal import Screen, duration

    def holder(row: dict[str, Any]) -> str:
        if row["holder"] is not None:
            return str(row["holder"]["pid"])
        return "died" if row["owner_died"] else "-"

    headings = ["NAME", "KIND", "HOLDER", "WAITERS", "WAITED", "AGE", "RECOVERIES", "COMMAND"]
    cells = [
        [
            "(anonymous)" if row["name"] is None else row["name"],
            row["kind"],
            holder(row),
            str(len(row["waiters"])),
            duration(row["longest_wait"]) if row["waiters"] else "-",
            duration(row["age"]),
            str(row["recoveries"]),
            row["holder"]["command"] if row["holder"] is not None else "",
        ]
        for row in rows
    ]
    Screen(sys.stdout).table(headings, cells, right=(2, 3, 4, 5, 6))


def _arena_row(path: str) -> dict[str, Any]:
    name = path.partition(f"-{os.geteuid()}-")[2]
    try:
        with Arena(name, create=False) as arena:
            locks, state = sum(1 for _ in arena.objects()), "good"
    except (SyncxError, OSError) as e:
        locks, state = 0, _words(e)
    try:
        size = os.stat(path).st_blocks * 512
    except FileNotFoundError:  # we were the last to leave it
        size = 0
    return {"name": name, "path": path, "locks": locks, "bytes": size, "state": state}


def _arena_table(rows: list[dict[str, Any]]) -> None:
    from .terminal import Screen

    cells = [[row["name"], str(row["locks"]), f"{row['bytes'] // 1024} KiB", row["state"]] for row in rows]
    Screen(sys.stdout).table(["ARENA", "LOCKS", "MEMORY", "STATE"], cells, right=(1, 2))


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
                status = _fail(f"there is no lock {lock!r} in the arena {name!r}")
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
            "DIR": shtab.DIRECTORY,
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
