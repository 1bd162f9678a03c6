"""`syncx ls`, `ps`, `top`, `stats` and `locks`: what there is, who has it, what happened to it."""

from __future__ import annotations

import os
import sys

from .arguments import interval, path
from .command import OK, add, arena_argument, arena_of, fail, looking, misused, place_argument

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .command import Commands


def add_ls(commands: Commands) -> None:
    new = add(
        commands,
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
    arena_argument(new)
    new.add_argument("--all", action="store_true", help="anonymous ones too")
    new.add_argument("--arenas", action="store_true", help="list the arenas of this user instead")
    shape = new.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="a JSON list of objects")
    shape.add_argument("--quiet", "-q", action="store_true", help="names only, one a line")


def _ls(options: argparse.Namespace) -> int:
    from .. import ls

    shape = "json" if options.json else "quiet" if options.quiet else "table"
    if options.arenas:
        return ls.arenas(shape)
    name = arena_of(options)
    try:
        return ls.main(name, shape, everything=options.all)
    except FileNotFoundError:
        if options.json:
            print("[]")
        else:
            print(f"syncx: there is no arena {name!r}", file=sys.stderr)
        return OK


def add_ps(commands: Commands) -> None:
    new = add(
        commands,
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
    place_argument(new)
    new.add_argument("--all", action="store_true", help="all that a thread holds, not the first ten")
    new.add_argument("--json", action="store_true", help="the whole snapshot as a JSON object")


def _ps(options: argparse.Namespace) -> int:
    from .. import ps

    return looking(options, lambda name: ps.main(name, as_json=options.json, everything=options.all))


def add_stats(commands: Commands) -> None:
    new = add(
        commands,
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
    place_argument(new)
    new.add_argument("--all", action="store_true", help="anonymous ones too")
    shape = new.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="a JSON object")
    shape.add_argument("--prometheus", action="store_true", help="the text format of Prometheus")
    new.add_argument("--output", "-o", metavar="PATH", type=path, help="of --json or --prometheus: where it goes")


def _stats(options: argparse.Namespace) -> int:
    from .. import stats

    if options.output is not None and not (options.json or options.prometheus):
        return misused("--output is for --json and --prometheus: a table goes to standard output")
    how = {"everything": options.all, "as_json": options.json, "prometheus": options.prometheus}
    return looking(options, lambda name: stats.main(name, output=options.output, **how))


def add_top(commands: Commands) -> None:
    new = add(
        commands,
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
    place_argument(new)
    new.add_argument("--every", metavar="S", type=interval, default=1.0, help="look every S seconds, default 1")
    new.add_argument("--once", action="store_true", help="look once, and print plain text")


def _top(options: argparse.Namespace) -> int:
    from .. import top

    return looking(options, lambda name: top.main(name, every=options.every, single=options.once))


def add_locks(commands: Commands) -> None:
    new = add(
        commands,
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
    new.add_argument("path", metavar="PATH", type=path, help="the file, or a directory")
    arena_argument(new)
    new.add_argument("--json", action="store_true", help="one JSON object, each time")
    new.add_argument(
        "--watch",
        metavar="S",
        nargs="?",
        const=1.0,
        type=interval,
        help="look every S seconds, default 1, until Ctrl-C",
    )


def _locks(options: argparse.Namespace) -> int:
    from .. import lockbar

    try:
        return lockbar.locks(options.path, options.arena, as_json=options.json, every=options.watch)
    except FileNotFoundError as e:
        if e.filename is not None and os.fspath(e.filename) == options.path:
            raise
        return fail(f"there is no arena {arena_of(options)!r}")
