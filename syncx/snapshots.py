"""What an arena says at one moment: who is attached, who holds what, who waits for what.

Taken without attaching, without stopping anybody and without a trace in the arena's file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from . import _core
from . import arena as _arena
from .arena import Arena, path_of
from .errors import KIND_NAMES

__all__ = [
    "Counters",
    "FileRange",
    "Hold",
    "ObjectState",
    "Participant",
    "ProcessInfo",
    "Snapshot",
    "Wait",
    "snapshot",
]

_FOR_EVER = (1 << 63) - 1
_ARENA_LOCK, _CONDITION, _GUARD, _FILE, _JOIN = 3, 8, 12, 13, 14
_KINDS: Mapping[int, str] = {_GUARD: "guard", _FILE: "file range", _JOIN: "process", **KIND_NAMES, _ARENA_LOCK: "arena"}
_PARTS = {
    "Condition": "lock",
    "RWLock": "writer",
    "Barrier": "guard",
    "BoundedSemaphore": "several",
    "Once": "runner",
}
"""The mutex inside an object, in a word."""
_MODES = ("exclusive", "shared", "upgradable")
_STYLES = ("ofd", "flock", "posix")
_STATES = {0: "granted", 1: "waiting", 2: "notified", 3: "passing", 4: "behind", 5: "waiting", 6: "victim"}

_FLAGS = ("scoped", "tentative", "leaving", "arrived", "enrolled", "entering", "pending", "downgraded")
"""The bits of a hold, SX_HOLD_* of snapshot.h."""

_PROBLEMS = (  # enum sx_problem
    "the header says that region {where} has {what} bytes, which is more than it can have",
    "the header says that region {where} is filled up to unit {what}, where it has no memory",
    "the list of blocks is broken at byte {where}: what lies between it and the next whole one was passed over",
    "a cell at byte {where} is of no kind that is known (tag {what:#x})",
    "an object at byte {where} has a size or value that it cannot have ({what})",
    "an object at byte {where} belongs to another arena",
    "an object at byte {where} names a holder that cannot be ({what:#x})",
    "a name at byte {where} leads to no object that bears it",
    "the life lock of participant slot {where} is none (kind {what})",
    "participant slot {where} belongs to a process slot that cannot be ({what})",
    "participant slot {where} waits for something that is not there ({what})",
    "participant slot {where} reads a lock that is not there ({what:#x})",
    "participant slot {where} holds a file range that ends before it begins",
    "the file cannot be read at byte {where}: it is shorter than it should be, or the disk fails",
    "there are more holds than are looked at",
)


class ProcessInfo(NamedTuple):
    """A process that is attached to the arena, or was when it died."""

    id: int
    """Its place in the arena and a generation: never the same for two processes."""
    pid: int
    """In its own pid namespace."""
    start_time: int
    """Clock ticks between the machine's start and its own."""
    namespace: int
    """Inodes of its pid namespace and its time namespace."""
    attached: float
    """When it attached, in seconds since the epoch."""
    alive: bool
    here: bool
    """Whether its pid means the same process to the one that took the snapshot."""


class Participant(NamedTuple):
    """A thread that is attached to the arena, or was when it died."""

    id: int
    """The holder id that the words of objects name: never the same for two threads."""
    process: int | None
    """The id of its process; None for a moment while it registers."""
    pid: int
    tid: int
    start_time: int
    """Clock ticks between the machine's start and its own."""
    name: str | None
    """threading's name of it when it attached; None: not known."""
    alive: bool
    stable: bool
    """Its records were the same, byte for byte, before and after everything else was read."""


class FileRange(NamedTuple):
    """A range of a file."""

    device: int
    """With the inode, which file: `st_dev` and `st_ino` of os.stat."""
    inode: int
    first: int
    last: int
    """The last byte that belongs to it; 2**63 - 1: to the end, however far that is."""
    style: str
    """"ofd", "flock" or "posix"."""


class Wait(NamedTuple):
    """What a thread waits for.

    A thread may have several: a signal handler that waits inside a wait.  The one with the highest `level` is what it
    does now.
    """

    thread: int
    """The id of the participant."""
    level: int
    state: str
    """"waiting", or "granted": it has the lock by now, and has not said so yet.  Of a condition also "notified" (its
    turn has come) or "passing" (on to another, since it does not wait any more); of a file range also "behind" (others
    are before it in line) or "trying"; "victim": chosen to give up, to end a deadlock."""
    kind: str
    """The class of what it waits for, "file range", "process": the end of one, or "arena": the arena's own lock."""
    object: int | None
    """The id of the object; None: it is no object of this arena (a file range, a lock in the user's memory)."""
    part: str | None
    """The mutex inside the object, if it waits for that: the "lock" of a Condition, the turn of the "writer" of a
    RWLock, the "guard" of a Barrier, "several" of a BoundedSemaphore, the "runner" of a Once."""
    mode: str
    """"exclusive", "shared" or "upgradable"."""
    units: int
    """How many permits or units it asks for."""
    holder: int | None
    """The participant that held it when the thread last fell asleep, where that is known."""
    waited: float | None
    """For how long, in seconds; None: the machine was started anew since."""
    remaining: float | None
    """Seconds until it gives up; None: never."""
    range: FileRange | None
    pid: int | None
    """The process whose end it waits for, if that is what it waits for; in the pid namespace of the thread."""
    address: int
    """Where the object lies in the memory of the waiting process; 0 for a file range and a condition."""
    since_ns: int
    deadline_ns: int | None
    """Both of CLOCK_MONOTONIC."""
    ticket: int
    """Steps with every sleep; of a condition or a file range its place in line."""
    where: str | None
    """The line of Python that waits, "FILE:LINE in FUNCTION", of a long path the end; None: not known."""
    stable: bool


class Hold(NamedTuple):
    """That somebody holds something, or has a part in it."""

    object: int | None
    """The id of the object; None as for a `Wait`."""
    kind: str
    part: str | None
    """As for a `Wait`."""
    mode: str
    """"exclusive", "shared" (it reads) or "upgradable"."""
    units: int
    """How many permits; of a lock that its holder may take again, how often it has."""
    flags: tuple[str, ...]
    """Of a permit: "scoped" (taken by `with`), "tentative" (of a set that is not complete yet), "leaving" (about to be
    given back).  Of a Barrier's party: "arrived", "enrolled".  Of a RWLock: "entering" (the writer's turn, while some
    still read), "pending" (a reader whose writer has left, about to go on), "downgraded"."""
    thread: int | None
    """The id of the participant; None: not known."""
    process: int | None
    """The id of the process; it owns permits, also when the thread that took them has ended."""
    pid: int | None
    tid: int | None
    alive: bool
    """Whether the holder lives.  What the dead hold, others may take."""
    held: float | None
    """For how long, in seconds, where that is recorded: of file ranges, and of what is traced (SYNCX_TRACE)."""
    since: float | None
    """When it was taken, in seconds since the epoch; recorded likewise."""
    where: str | None
    """The line of Python where it was taken, "FILE:LINE in FUNCTION", of a long path the end; None: not traced."""
    range: FileRange | None
    stable: bool


class ObjectState(NamedTuple):
    """An object of the arena."""

    id: int
    """Where it lies in the file, in bytes."""
    generation: int
    """With the id, never the same for two objects."""
    kind: str
    name: str | None
    """None: anonymous."""
    parameter: int
    """The value, parties or count it was made with; 0 where there is none."""
    value: int | None
    """Free units or permits; 1 for an event that is set or an initialisation that is done; how many have arrived at a
    barrier; what a latch counts still; None for a lock, and for a barrier that is broken."""
    broken: bool
    """Of a barrier."""
    owner_died: bool
    """An owner died and nobody has repaired the data since."""
    retired: bool
    """It was unlinked."""
    processes: int
    """How many have it open, dead ones included until they are collected."""
    created: float
    """Seconds since the epoch."""
    contended: int
    recoveries: int
    rescues: int
    """Counters: waits that slept, holds taken over from the dead, wake-ups that only the belt delivered."""
    dead_pid: int
    dead_tid: int
    """The owner that died last; 0: nobody."""
    lock: int | None
    """Of a Condition that was made with a lock in the arena: the id of that."""
    acquisitions: int | None
    """How often it was taken: of a Mutex or RLock, of an RWLock for writing or upgradable, of a Condition its own lock.
    None: not counted, since several threads may take the object at once."""
    waited: float
    """How long all waits together have slept that are over, in seconds."""
    longest_wait: float
    """How long the longest of them took, in seconds, rounded down by a thousandth at most."""
    hold_total: float | None
    """How long all holds that were traced (SYNCX_TRACE) and are over took together, in seconds; None: none was."""
    hold_longest: float | None
    """How long the longest of them took."""
    stable: bool
    """It was the same, holders included, in both of two looks with everything else between them."""


class Counters(NamedTuple):
    """Numbers of the arena as a whole."""

    rescues: int
    recoveries: int
    deaths: int
    """Participants found dead."""
    names: int
    cell_bytes: int
    name_bytes: int
    """Memory given out so far."""


class Snapshot:
    """What `snapshot` saw.  It never changes; all its parts are named tuples.

    Threads and processes are told by their ids in the arena, objects by their place in it.  Whatever is `stable` was so
    at one and the same moment: its records were read twice, with all others in between, and were the same.  What is not
    was changing just then, and is told as it was seen last.
    """

    __slots__ = (
        "_index",
        "abi",
        "counters",
        "created",
        "damaged",
        "holds",
        "id",
        "objects",
        "orphans",
        "participants",
        "path",
        "problems",
        "processes",
        "retired",
        "taken",
        "taken_ns",
        "this_boot",
        "waits",
        "witnessed",
    )

    path: str
    """The arena's file."""
    id: bytes
    """16 random bytes, made with the arena."""
    abi: int
    created: float
    taken: float
    """Both in seconds since the epoch."""
    taken_ns: int
    """The same moment of CLOCK_MONOTONIC, in nanoseconds."""
    this_boot: bool
    """False: the machine was started anew since the arena was used, or it is another's: everybody in it is dead."""
    witnessed: bool
    """Whether the kernel could be asked which processes live; if not, only its marks in the arena tell."""
    retired: bool
    """The arena was unlinked."""
    damaged: bool
    """Somebody has found the arena damaged."""
    orphans: bool
    """A process ended and its objects without a name have not been looked for yet; the next to attach does."""
    processes: tuple[ProcessInfo, ...]
    participants: tuple[Participant, ...]
    objects: tuple[ObjectState, ...]
    """In the order of their places."""
    holds: tuple[Hold, ...]
    waits: tuple[Wait, ...]
    counters: Counters
    _index: dict[tuple[str, str], dict[Any, list[Any]]]
    problems: tuple[str, ...]
    """What is wrong with the arena, or could not be read: the rest of the snapshot is without it."""

    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_index", {})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a snapshot does not change: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a snapshot does not change: {name} cannot be deleted")

    def __repr__(self) -> str:
        return (
            f"<syncx.Snapshot of {self.path!r}: {len(self.participants)} participants, {len(self.objects)} objects, "
            f"{len(self.holds)} holds, {len(self.waits)} waits{', problems' if self.problems else ''}>"
        )

    def _by(self, what: str, rows: Iterable[Any], key: str) -> dict[Any, list[Any]]:
        found: dict[Any, list[Any]] | None = self._index.get((what, key))
        if found is None:
            found = {}
            for row in rows:
                found.setdefault(getattr(row, key), []).append(row)
            self._index[what, key] = found
        return found

    def process(self, id: int | None) -> ProcessInfo | None:
        """The process of that id, or None."""
        found = self._by("processes", self.processes, "id").get(id)
        return found[0] if found else None

    def participant(self, id: int | None) -> Participant | None:
        """The thread of that id, or None."""
        found = self._by("participants", self.participants, "id").get(id)
        return found[0] if found else None

    def at(self, id: int | None) -> ObjectState | None:
        """The object of that id, or None."""
        found = self._by("objects", self.objects, "id").get(id)
        return found[0] if found else None

    def named(self, name: str) -> ObjectState | None:
        """The object of that name, or None."""
        found = self._by("objects", self.objects, "name").get(name)
        return found[0] if found else None

    def held_by(self, thread: int) -> tuple[Hold, ...]:
        """What that participant holds."""
        return tuple(self._by("holds", self.holds, "thread").get(thread, ()))

    def awaited_by(self, thread: int) -> tuple[Wait, ...]:
        """What that participant waits for, outermost first: what it does now comes last."""
        return tuple(self._by("waits", self.waits, "thread").get(thread, ()))

    def holders_of(self, object: int) -> tuple[Hold, ...]:
        """Who holds the object."""
        return tuple(self._by("holds", self.holds, "object").get(object, ()))

    def waiters_of(self, object: int) -> tuple[Wait, ...]:
        """Who waits for the object, the longest-waiting first."""
        return tuple(sorted(self._by("waits", self.waits, "object").get(object, ()), key=lambda w: w.since_ns))

    def to_dict(self) -> dict[str, Any]:
        """All of it in dicts, lists, strings and numbers; ids of threads and processes as 16 hexadecimal digits."""
        return {
            "path": self.path,
            "id": self.id.hex(),
            "abi": self.abi,
            "created": self.created,
            "taken": self.taken,
            "taken_ns": self.taken_ns,
            "this_boot": self.this_boot,
            "witnessed": self.witnessed,
            "retired": self.retired,
            "damaged": self.damaged,
            "orphans": self.orphans,
            "counters": self.counters._asdict(),
            "processes": [_plain(p, "id") for p in self.processes],
            "participants": [_plain(p, "id", "process") for p in self.participants],
            "objects": [o._asdict() for o in self.objects],
            "holds": [_plain(h, "thread", "process") for h in self.holds],
            "waits": [_plain(w, "thread", "holder") for w in self.waits],
            "problems": list(self.problems),
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """`to_dict` as JSON.  indent: as for `json.dumps`."""
        import json

        return json.dumps(self.to_dict(), indent=indent)


def _plain(row: Any, *ids: str) -> dict[str, Any]:
    """A row as a dict; ids are wider than the numbers of JSON can be trusted to be."""
    plain: dict[str, Any] = row._asdict()
    for name in ids:
        if plain[name] is not None:
            plain[name] = f"{plain[name]:016x}"
    if "flags" in plain:
        plain["flags"] = list(plain["flags"])
    if plain.get("range") is not None:
        plain["range"] = plain["range"]._asdict()
    return plain


def snapshot(arena: Arena | str | os.PathLike[str] | None = None) -> Snapshot:
    """What the arena says at this moment: processes, threads, objects, who holds and who awaits what.

    arena: an open arena, or the name or path of one, which is not attached to; by default the default arena.

    Nobody is stopped or waited for, and not a byte of the arena changes.  It works from any process that may read the
    file (root, for anybody's), on an arena that nobody uses, and on the file of a machine that was switched off: then
    everybody in it is dead.  A damaged arena gives what can be read, and `Snapshot.problems` says what could not.

    Raises ArenaError for a file that is no arena of this version, FileNotFoundError where there is none,
    PermissionError for one that may not be read, ValueError for an Arena that is closed.  It waits for no other thread,
    and works in a forked child; its cost grows with what is in the arena.
    """
    if arena is None:
        default = _arena._default
        usable = default is not None and not default.closed and not default.retired
        arena = default if usable else os.environ.get("SYNCX_ARENA") or _arena.DEFAULT_NAME
    if isinstance(arena, Arena):
        return _assemble(arena.path, _core._snapshot(arena))
    path = path_of(arena)[0]  # type: ignore[arg-type]  # None was dealt with
    return _assemble(path, _core._snapshot(path))


def _assemble(path: str, seen: dict[str, Any]) -> Snapshot:
    participants = tuple(
        Participant(id, process or None, pid, tid, start_time, _text(name), alive, stable)
        for id, process, pid, tid, start_time, name, alive, stable in seen["participants"]
    )
    processes = tuple(
        ProcessInfo(id, pid, start_time, namespace, attached_ns / 1e9, alive, here)
        for id, pid, start_time, namespace, attached_ns, alive, here in seen["processes"]
    )
    objects = tuple(_object(row) for row in seen["objects"])
    kinds = {o.id: o.kind for o in objects}
    now = seen["taken_ns"] if seen["this_boot"] else None
    threads = {p.id: p for p in participants}
    owners = {p.id: p for p in processes}
    problems = [_PROBLEMS[problem].format(where=where, what=what) for problem, where, what in seen["problems"]]
    if seen["passed_over"]:
        problems.append(f"and {seen['passed_over']} more of the kind")
    return Snapshot(
        path=path,
        id=seen["id"],
        abi=seen["abi"],
        created=seen["created_ns"] / 1e9,
        taken=seen["realtime_ns"] / 1e9,
        taken_ns=seen["taken_ns"],
        this_boot=seen["this_boot"],
        witnessed=seen["witnessed"],
        retired=seen["retired"],
        damaged=seen["damaged"],
        orphans=seen["orphans"],
        processes=processes,
        participants=participants,
        objects=objects,
        holds=tuple(_hold(row, kinds, threads, owners, now, seen["realtime_ns"] / 1e9) for row in seen["holds"]),
        waits=tuple(_wait(row, kinds, now) for row in seen["waits"]),
        counters=Counters(
            seen["rescues"], seen["recoveries"], seen["deaths"], seen["names"], seen["cell_bytes"], seen["name_bytes"]
        ),
        problems=tuple(problems),
    )


def _object(row: tuple[Any, ...]) -> ObjectState:
    id, generation, kind, name, parameter, value, broken, owner_died, retired, processes, created_ns, *rest = row
    contended, recoveries, rescues, dead_pid, dead_tid, lock, acquired, waited_ns, longest_ns, *rest = rest
    held_ns, most_ns, stable = rest
    return ObjectState(
        id=id,
        generation=generation,
        kind=_KINDS[kind],
        name=name,
        parameter=parameter,
        value=None if value < 0 else value,
        broken=broken,
        owner_died=owner_died,
        retired=retired,
        processes=processes,
        created=created_ns / 1e9,
        contended=contended,
        recoveries=recoveries,
        rescues=rescues,
        dead_pid=dead_pid,
        dead_tid=dead_tid,
        lock=lock or None,
        acquisitions=None if acquired < 0 else acquired,
        waited=waited_ns / 1e9,
        longest_wait=longest_ns / 1e9,
        hold_total=None if held_ns < 0 else held_ns / 1e9,
        hold_longest=None if most_ns < 0 else most_ns / 1e9,
        stable=stable,
    )


def _range(device: int, inode: int, first: int, last: int, mode: int) -> FileRange:
    style = mode >> 4 & 3
    # the kernel's number of a device, as in /proc/locks
    device = os.makedev(device >> 20, device & 0xFFFFF)
    return FileRange(device, inode, first, last, _STYLES[style] if style < len(_STYLES) else f"style {style}")


def _mode(number: int) -> str:
    number &= 0xF
    return _MODES[number] if number < len(_MODES) else f"mode {number}"


def _text(noise: str | None) -> str | None:
    """What a thread wrote about itself, as something that can be printed."""
    return None if noise is None else "".join(c if c.isprintable() else "?" for c in noise)


def _age(since: int, now: int | None) -> float | None:
    return None if now is None or since == 0 else max(0.0, (now - since) / 1e9)


def _wait(row: tuple[Any, ...], kinds: Mapping[int, str], now: int | None) -> Wait:
    id, level, state, number, mode, units, part, place, cell, address, holder, since, deadline, ticket, *rest = row
    where, stable = rest
    is_file, is_condition = number == _FILE, number == _CONDITION
    no_cell = is_file or is_condition or number == _JOIN
    kind = kinds.get(place) or _KINDS.get(number, f"kind {number}")
    return Wait(
        thread=id,
        level=level,
        state="trying" if is_file and state == 2 else _STATES.get(state, f"state {state}"),
        kind=kind,
        object=place or None,
        part=_PARTS.get(kind) if part and place else None,
        mode=_mode(mode),
        units=1 if no_cell else units,
        holder=None if no_cell else holder or None,
        waited=_age(since, now),
        remaining=None if deadline >= _FOR_EVER or now is None else max(0.0, (deadline - now) / 1e9),
        range=_range(units, cell, holder, address, mode) if is_file else None,
        pid=units if number == _JOIN else None,
        address=0 if no_cell else address,
        since_ns=since,
        deadline_ns=None if deadline >= _FOR_EVER else deadline,
        ticket=ticket,
        where=_text(where),
        stable=stable,
    )


def _hold(
    row: tuple[Any, ...],
    kinds: Mapping[int, str],
    threads: Mapping[int, Participant],
    owners: Mapping[int, ProcessInfo],
    now: int | None,
    taken: float,
) -> Hold:
    place, number, part, mode, count, flags, thread, process, alive, _, device, inode, first, last, since, *rest = row
    where, stable = rest
    kind = kinds.get(place) or _KINDS.get(number, f"kind {number}")
    who = threads.get(thread)
    owner = owners.get(process or (who.process if who is not None else None) or 0)
    if who is not None and process and who.process != process:  # a hint that is not true any more
        who = None
    return Hold(
        object=place or None,
        kind=kind,
        part=_PARTS.get(kind) if part else None,
        mode=_mode(mode),
        units=count,
        flags=tuple(name for bit, name in enumerate(_FLAGS) if flags >> bit & 1) if flags else (),
        thread=None if who is None and process else thread or None,
        process=process or (who.process if who is not None else None),
        pid=who.pid if who is not None else owner.pid if owner is not None else None,
        tid=None if who is None else who.tid,
        alive=alive,
        held=_age(since, now),
        since=None if now is None or since == 0 else taken - max(0, now - since) / 1e9,
        where=_text(where),
        range=_range(device, inode, first, last, mode) if number == _FILE else None,
        stable=stable,
    )
