"""What the commands have in common: their parser, their exit statuses, and the arena that they are given."""

from __future__ import annotations

import argparse
import os
import sys

from ..arena import DEFAULT_NAME
from .arguments import arena_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn, TypeAlias

    Commands: TypeAlias = argparse._SubParsersAction["Parser"]

OK, FAILED, USAGE = 0, 1, 2


class Parser(argparse.ArgumentParser):
    """Speaks as the rest of syncx does; `run` has an exit status of its own for wrong usage."""

    usage_status = USAGE

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(self.usage_status, f"syncx: {message}\n")


def add(commands: Commands, name: str, action: Callable[[argparse.Namespace], int], text: str, epilog: str) -> Parser:
    """Adds a command, which does `action`; text: its line in the list of commands, epilog: the rest of its help."""
    new = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    new.set_defaults(action=action)
    return new


def arena_argument(new: Parser) -> None:
    """--arena; arena_of() tells what it comes to."""
    new.add_argument(
        "--arena", "-a", metavar="ARENA", type=arena_name, help="the arena, a name or a path; else SYNCX_ARENA"
    )


def place_argument(new: Parser) -> None:
    """The arena as an argument or with --arena; looking() takes the one that is given."""
    new.add_argument("place", metavar="ARENA", nargs="?", type=arena_name, help="the arena, a name or a path")
    arena_argument(new)


def fail(message: str) -> int:
    """Says what went wrong, and returns the exit status of it."""
    print(f"syncx: {message}", file=sys.stderr)
    return FAILED


def misused(message: str) -> int:
    """Says what is wrong with the command line, and returns the exit status of it."""
    fail(message)
    return USAGE


def arena_of(options: argparse.Namespace) -> str:
    """The name or path of the arena that a command is for."""
    given: str | None = options.arena
    return given or os.environ.get("SYNCX_ARENA") or DEFAULT_NAME


def looking(options: argparse.Namespace, look: Callable[[str], int]) -> int:
    """Looks at one arena, which may be given in two ways, and returns the exit status."""
    place: str | None = getattr(options, "place", None)
    if place is not None and options.arena is not None:
        return misused("that takes one arena, as an argument or with --arena")
    name = place or arena_of(options)
    try:
        return look(name)
    except FileNotFoundError as e:
        named = (getattr(options, "what", None), getattr(options, "output", None))
        if e.filename is not None and os.fspath(e.filename) in named:
            raise
        return fail(f"there is no arena {name!r}")
