"""`syncx doctor` and `rm`."""

from __future__ import annotations

import os

from ..arena import Arena, path_of
from ..errors import ArenaError, InUse
from .arguments import arena_or_path, lock_name
from .command import OK, add, arena_argument, arena_of, fail, misused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from .command import Commands

_MAGIC = b"yncxARN1"
"""The first bytes of every arena, damaged or not (SX_MAGIC in syncx/_core/layout.h)."""


def add_doctor(commands: Commands) -> None:
    new = add(
        commands,
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
    new.add_argument("places", metavar="ARENA", nargs="*", type=arena_or_path, help="an arena, a file, or a directory")
    new.add_argument("--fix", action="store_true", help="mend what may be mended")
    new.add_argument("--json", action="store_true", help="one JSON object")


def _doctor(options: argparse.Namespace) -> int:
    from .. import doctor

    return doctor.main(options.places, fix=options.fix, as_json=options.json)


def add_rm(commands: Commands) -> None:
    new = add(
        commands,
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
    new.add_argument("names", metavar="NAME", nargs="*", type=lock_name)
    arena_argument(new)
    new.add_argument("--all", action="store_true", help="the whole arena, with everything in it")
    new.add_argument("--force", "-f", action="store_true", help="also what is in use; with --all also a damaged arena")


def _rm(options: argparse.Namespace) -> int:
    name = arena_of(options)
    if bool(options.names) == options.all:
        return misused("rm takes names, or --all for the whole arena")
    try:
        return _rm_arena(name, options.force) if options.all else _rm_locks(options.names, name, options.force)
    except FileNotFoundError:
        return fail(f"there is no arena {name!r}")


def _rm_locks(locks: Sequence[str], name: str, force: bool) -> int:
    status = OK
    with Arena(name, create=False) as arena:
        for lock in locks:
            try:
                arena.unlink(lock, force=force)
            except FileNotFoundError:
                status = fail(f"there is no object {lock!r} in the arena {name!r}")
            except InUse:
                status = fail(f"{lock!r} is in use{_users(arena, lock)}; --force removes it all the same")
    return status


def _users(arena: Arena, lock: str) -> str:
    from ..terminal import command_line

    for o in arena.objects():
        if o.name == lock and o.holder is not None:
            return f": process {o.holder.pid} holds it ({command_line(*o.holder)})"
    return ": a live process has it open"


def _rm_arena(name: str, force: bool) -> int:
    try:
        with Arena(name, create=False) as arena:
            arena.unlink(force=force)
    except InUse:
        return fail(f"the arena {name!r} is in use by a live process; --force removes it all the same")
    except ArenaError as e:
        path, by_name = path_of(name)
        if not by_name and not _was_arena(path):
            return fail(f"{path} never was an arena and is left alone: {e}")
        if not force:
            return fail(f"{e}; --force removes the file")
        os.unlink(path)
    return OK


def _was_arena(path: str) -> bool:
    """Does a file begin as an arena does?  What is named by a path may be any file of the user's."""
    try:
        with open(path, "rb") as f:
            return f.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False
