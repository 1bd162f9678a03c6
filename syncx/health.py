"""The health of arenas, as `syncx doctor` tells it, and what `--fix` does about it.

An arena is looked at by `snapshot`, which changes nothing.  Mending is left to what every process does that attaches:
it clears up after the dead, finishes an unlinking that was cut short, begins anew after a reboot, and the last to leave
removes a nameless arena.  All of that checks for living users itself.  It is done in a child, so that neither an arena
that somebody has stopped, nor one that another user cuts short meanwhile, can hold up or end the doctor.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import stat
import time
from collections.abc import Callable, Iterator

from . import _core
from .arena import DIRECTORY, Arena
from .errors import ArenaError, SyncxError
from .findings import Finding, Tree, size
from .leftovers import Users, files_in
from .snapshots import ObjectState, Snapshot, snapshot
from .terminal import command_line, duration, printable

__all__ = ["arenas_of", "examine", "in_child", "is_arena", "mend"]

MAGIC = b"yncxARN1"
PROCESSES = 4096
CELL_BYTES, NAME_BYTES = 64 << 20, 32 << 20
"""Room for objects and for names: the capacities of syncx/_core/layout.h."""
PATIENCE = 10.0
"""Seconds after which mending is given up."""
MANY_WAITERS, MANY_SLEEPS = 16, 1000.0
"""Threads that wait for one object, and waits a second since it was made, from which it is told."""
LONG = 600.0
_MOST = 5


def is_arena(path: str) -> bool:
    """Does a file begin as an arena does?"""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    with open(fd, "rb") as f:
        return stat.S_ISREG(os.fstat(fd).st_mode) and f.read(len(MAGIC)) == MAGIC


def arenas_of(user: int) -> list[str]:
    """The files of a user's arenas made by name; for root those of everybody."""
    pattern = re.compile(r"syncx-\d+-." if user == 0 else rf"syncx-{user}-.", re.S)
    return [f.path for f in files_in(Tree(), DIRECTORY) if pattern.match(f.name)]


def _label(path: str) -> str:
    """What `--arena` takes for it."""
    prefix = f"{DIRECTORY}/syncx-{os.geteuid()}-"
    return path[len(prefix) :] if path.startswith(prefix) else path


def _removal(path: str) -> str:
    return f"syncx rm --arena {shlex.quote(_label(path))} --all --force"


def _look_with(command: str, seen: Snapshot) -> str:
    return f"syncx {command} {shlex.quote(_label(seen.path))}"


def _count(n: int, what: str, many: str = "") -> str:
    return f"{n:,} {what if n == 1 else many or what + 's'}"


def examine(path: str) -> Iterator[Finding]:
    """What is to be said of one arena.

    Raises FileNotFoundError where there is none, PermissionError where it may not be read.
    """
    topic = f"arena {printable(_label(path))}"
    status = os.stat(path, follow_symlinks=False)
    yield from _ownership(path, topic, status)
    try:
        seen = snapshot(path)
    except ArenaError as e:
        yield _unusable(path, topic, status, e)
        return
    yield from _summary(seen, topic, status)
    yield from _damage(seen, topic)
    over = _over(seen, topic)
    if over is not None:
        yield over
        return
    yield from _death(seen, topic)
    yield from _room(seen, topic)
    yield from _objects(seen, topic)


def _ownership(path: str, topic: str, status: os.stat_result) -> Iterator[Finding]:
    found = re.match(rf"{DIRECTORY}/syncx-(\d+)-", path)
    if found is None:
        return
    if int(found[1]) != status.st_uid:
        yield Finding(
            "error",
            topic,
            f"the file belongs to user {status.st_uid}, and the name to user {found[1]}, who cannot use it",
            "root or its owner removes it",
            f"rm {shlex.quote(path)}",
        )
    elif status.st_mode & 0o077:
        yield Finding(
            "note",
            topic,
            f"others may open it (mode {stat.S_IMODE(status.st_mode):o}): whoever may write it is trusted",
            "unless that is meant",
            f"chmod 600 {shlex.quote(path)}",
        )


def _unusable(path: str, topic: str, status: os.stat_result, e: ArenaError) -> Finding:
    """One that is none, damaged, or of another version."""
    by_name = path.startswith(f"{DIRECTORY}/syncx-{status.st_uid}-")
    users: set[int] = set()
    if by_name:
        files = [f for f in files_in(Tree(), DIRECTORY) if f.key == (status.st_dev, status.st_ino)]
        users = {pid for f in files for pid in Users(Tree(), [f]).of(f)} - {os.getpid()}
    what = str(e).replace(path, "it", 1).partition(";")[0]
    removal = _removal(path)
    level = "warning" if "another version" in what else "error"
    if users:
        pids = ", ".join(map(str, sorted(users)[:_MOST]))
        what += f"; in use by process{'es' if len(users) > 1 else ''} {pids}"
        return Finding(
            "note" if level == "warning" else level, topic, what, "to remove it when they have ended", removal
        )
    if by_name:
        return Finding(level, topic, what, "no process has it open; to remove it", removal)
    if is_arena(path):
        return Finding(level, topic, what, "to remove it, if fuser tells that nobody has it open", removal)
    return Finding(level, topic, what)


def _summary(seen: Snapshot, topic: str, status: os.stat_result) -> Iterator[Finding]:
    processes = sum(p.alive for p in seen.processes)
    threads = sum(p.alive for p in seen.participants)
    named = sum(o.name is not None for o in seen.objects)
    used = f"{_count(processes, 'process', 'processes')} of {PROCESSES:,}"
    used += f", {_count(threads, 'thread')} of {_core.MAX_PARTICIPANTS:,}"
    state = "" if seen.problems or seen.damaged else "whole, "
    yield Finding(
        "ok",
        topic,
        f"{state}version {seen.abi}, made {duration(max(0.0, seen.taken - seen.created))} ago: {used};"
        f" {_count(len(seen.objects), 'object')}, {named:,} with a name; {size(status.st_blocks * 512)} of memory",
    )


def _damage(seen: Snapshot, topic: str) -> Iterator[Finding]:
    removal = _removal(seen.path)
    for problem in seen.problems[:_MOST]:
        yield Finding("error", topic, problem, "end its users, remove it, start them again", removal)
    if len(seen.problems) > _MOST:
        yield Finding("error", topic, f"{len(seen.problems) - _MOST} more such problems", "see", _look_with("ps", seen))
    if seen.damaged and not seen.problems:
        yield Finding(
            "error", topic, "a process has found it damaged", "end its users, remove it, start them again", removal
        )
    if not seen.witnessed:
        yield Finding(
            "warning",
            topic,
            "its file system keeps no locks: which processes live is told by the kernel's marks alone",
            "put it on another file system, such as /dev/shm",
        )


def _repair(path: str) -> Callable[[], str]:
    return lambda: in_child(path, mend)


_BY_FIX = "`syncx doctor --fix`"


def _over(seen: Snapshot, topic: str) -> Finding | None:
    """An arena that nobody uses, or will use, as it is."""
    if seen.retired:
        what = "it was unlinked, and whoever did that was killed before the file was gone"
        advice = f"the next to open the name, or {_BY_FIX}, removes it"
        return Finding("warning", topic, what, advice, repair=_repair(seen.path))
    nameless = not any(o.name is not None for o in seen.objects) and seen.path.startswith(f"{DIRECTORY}/syncx-")
    if nameless and not seen.problems and not any(p.alive for p in seen.processes):
        what = "it is abandoned: nobody is attached, and nothing in it has a name"
        advice = f"the next to come and go, or {_BY_FIX}, removes it"
        return Finding("warning", topic, what, advice, repair=_repair(seen.path))
    return None


def _death(seen: Snapshot, topic: str) -> Iterator[Finding]:
    """What the dead left."""
    living = any(p.alive for p in seen.processes)
    dead = [p for p in seen.processes if not p.alive]
    advice = f"the next to attach, or {_BY_FIX}, clears up after them"
    if not seen.this_boot:
        what = "the machine was started anew since it was used: all who were in it are dead"
        yield Finding("note", topic, what, advice, repair=_repair(seen.path))
    elif dead:
        pids = ", ".join(str(p.pid) for p in dead[:_MOST]) + (", ..." if len(dead) > _MOST else "")
        orphans = 0 if living else sum(o.name is None for o in seen.objects)
        kept = f", and {_count(orphans, 'nameless object')} with them" if orphans else ""
        what = f"{_count(len(dead), 'process', 'processes')} died without leaving ({pids}){kept}"
        yield Finding("warning", topic, what, advice, repair=_repair(seen.path))
    elif seen.orphans and any(o.name is None for o in seen.objects):
        what = "a process left while others were busy; nameless objects that only it knew are still there"
        yield Finding("note", topic, what, advice, repair=_repair(seen.path))
    threads = [p for p in seen.participants if not p.alive]
    if threads and seen.this_boot:
        held = sum(len(seen.held_by(p.id)) for p in threads)
        text = f"{_count(len(threads), 'thread')} died; their places are used again"
        yield Finding(
            "ok", topic, text + (f", and what they held, {_count(held, 'hold')}, may be taken" if held else "")
        )
    if seen.counters.rescues:
        deaths = _count(seen.counters.deaths, "death")
        yield Finding(
            "ok" if seen.counters.deaths else "note",
            topic,
            f"{_count(seen.counters.rescues, 'wake-up')} came late, by the belt of 100 ms, after {deaths}",
            "" if seen.counters.deaths else "that should not be without deaths; please report it",
        )


def _room(seen: Snapshot, topic: str) -> Iterator[Finding]:
    counters = seen.counters
    used = {
        "processes": sum(p.alive for p in seen.processes) / PROCESSES,
        "threads": sum(p.alive for p in seen.participants) / _core.MAX_PARTICIPANTS,
        "names": max(counters.names / _core.MAX_NAMES, counters.name_bytes / NAME_BYTES),
        "objects": counters.cell_bytes / CELL_BYTES,
    }
    text = ", ".join(f"{what} {part:.0%}" for what, part in used.items())
    most = max(used.values())
    if most >= 0.75:
        yield Finding(
            "error" if most >= 0.97 else "warning",
            topic,
            f"room that was used so far: {text}",
            "remove names that nobody needs (syncx rm), or spread the work over several arenas",
        )
    else:
        yield Finding("ok", topic, f"room that was used so far: {text}")


def _name(o: ObjectState) -> str:
    return f"{o.kind} {printable(o.name)!r}" if o.name is not None else f"a nameless {o.kind}"


def _objects(seen: Snapshot, topic: str) -> Iterator[Finding]:
    """What is worth a word: owners that died, barriers that broke, crowds."""
    died = [o for o in seen.objects if o.owner_died]
    for o in died[:_MOST]:
        pids = [h.pid for h in seen.holders_of(o.id) if h.pid and not h.alive] or [o.dead_pid]
        who = f", process {pids[0]}," if pids[0] else ""
        yield Finding(
            "note",
            topic,
            f"{_name(o)}: its holder{who} died, and what it guards may be half changed",
            "the next to take it is told, and repairs it",
        )
    if len(died) > _MOST:
        yield Finding("note", topic, f"{len(died) - _MOST:,} more whose holder died", "see", _look_with("ps", seen))
    broken = [o for o in seen.objects if o.broken]
    for o in broken[:_MOST]:
        yield Finding("note", topic, f"{_name(o)} is broken: a party died or did not come", "reset() makes it whole")
    crowds = []
    for o in seen.objects:
        waiters = len(seen.waiters_of(o.id))
        rate = o.contended / max(seen.taken - o.created, 1.0)
        if waiters >= MANY_WAITERS or rate >= MANY_SLEEPS:
            crowds.append((rate, waiters, o))
    for rate, waiters, o in sorted(crowds, key=lambda c: c[:2], reverse=True)[:_MOST]:
        yield Finding(
            "note",
            topic,
            f"{_name(o)}: {_count(waiters, 'thread')} waiting, {o.contended:,} waits so far, {rate:,.0f} a second",
            "hold it for shorter, or split it",
        )
    long = [w for w in seen.waits if (w.waited or 0.0) >= LONG and w.remaining is None]
    for w in sorted(long, key=lambda w: w.since_ns)[:_MOST]:
        waiter, there = seen.participant(w.thread), seen.at(w.object)
        if waiter is None or not waiter.alive:
            continue
        what = _name(there) if there is not None else w.kind
        command = command_line(waiter.pid, waiter.tid)
        yield Finding(
            "note",
            topic,
            f"process {waiter.pid} has waited for {what} for {duration(w.waited or 0.0)}"
            f"{' (' + command + ')' if command else ''}",
            "who holds it",
            _look_with("ps", seen),
        )


# ---- mending ---------------------------------------------------------------------------------------------------------


def mend(path: str) -> str:
    """Attaches, lets the reaper run, and leaves; says what has come of it."""
    try:
        before = snapshot(path)
        with Arena(path, create=False) as arena:
            arena.collect()
    except FileNotFoundError:  # it had been unlinked; or it is gone since we looked
        return "" if os.path.lexists(path) else "removed"
    if not os.path.lexists(path):
        return "removed"
    after = {p.id for p in snapshot(path).processes}
    cleared = sum(not p.alive and p.id not in after for p in before.processes)
    gone = len(before.objects) - len(snapshot(path).objects)
    return (
        f"cleared up after {_count(cleared, 'process', 'processes')}" if cleared else "cleared up" if gone > 0 else ""
    )


def in_child(path: str, work: Callable[[str], str]) -> str:
    """Runs `work(path)` in a forked child, as the user that the file belongs to, and returns what that returns.

    Raises FileNotFoundError where it is gone, ArenaError with what went wrong, also where it takes too long: then the
    child is killed, which syncx survives everywhere.
    """
    status = os.stat(path, follow_symlinks=False)
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(ours)
            os.write(theirs, b"+" + _as_owner(status, path, work).encode(errors="replace"))
            code = 0
        except (SyncxError, OSError) as e:
            os.write(theirs, b"-" + str(e).encode(errors="replace"))
        finally:
            os._exit(code)
    os.close(theirs)
    said = b""
    end = time.monotonic() + PATIENCE
    with open(ours, "rb", buffering=0) as f:
        while True:
            left = end - time.monotonic()
            if left <= 0 or not select.select([f], [], [], left)[0]:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise ArenaError(f"given up after {PATIENCE:g} s: somebody keeps its inner lock; is a process stopped?")
            more = f.read(65536)
            if not more:
                break
            said += more
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if said[:1] != b"+" or code:
        raise ArenaError(said[1:].decode(errors="replace") or f"the attempt ended with status {code}")
    return said[1:].decode()


def _as_owner(status: os.stat_result, path: str, work: Callable[[str], str]) -> str:
    if os.geteuid() == 0 and status.st_uid != 0:
        os.setgroups([])
        os.setresgid(status.st_gid, status.st_gid, status.st_gid)
        os.setresuid(status.st_uid, status.st_uid, status.st_uid)
    return work(path)
