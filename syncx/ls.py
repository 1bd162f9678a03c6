"""`syncx ls`: what is in an arena, and which arenas there are.

Made of a snapshot, so that nothing is attached to, waited for or changed, and of a damaged arena the rest is listed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from .arena import arena_paths, path_of
from .errors import SyncxError
from .objects import Holder, ObjectInfo
from .snapshots import Hold, ObjectState, Snapshot, snapshot
from .terminal import Screen, command_line, duration, printable

__all__ = ["arenas", "listed", "main"]


def main(arena: str, shape: str, *, everything: bool = False) -> int:
    """Prints what is in an arena, and returns the exit status.

    shape: "table", "json", or "quiet": names only.  everything: anonymous objects too.  Raises what
    `syncx.snapshot` raises.
    """
    seen = snapshot(arena)
    path, named = path_of(arena)
    person = _People(seen)
    found = [o for o in listed(seen) if o.name is not None or everything]
    found.sort(key=lambda o: (o.name is None, o.name))
    rows = [_row(o, arena if named else path, person) for o in found]
    if shape == "json":
        print(json.dumps(rows, indent=2))
    elif shape == "quiet":
        for row in rows:
            if row["name"] is not None:
                print(printable(row["name"]))
    elif rows:
        _object_table(rows)
    sys.stdout.flush()
    for problem in seen.problems:
        print(f"syncx: {printable(path)}: {problem}", file=sys.stderr)
    return 0


def arenas(shape: str) -> int:
    """Prints the arenas of this user, and returns the exit status."""
    rows = [row for path in arena_paths() for row in _arena_row(path)]
    if shape == "json":
        print(json.dumps(rows, indent=2))
    elif shape == "quiet":
        for row in rows:
            print(printable(row["name"]))
    elif rows:
        _arena_table(rows)
    return 0


# ---- from a snapshot -------------------------------------------------------------------------------------------------


def listed(seen: Snapshot) -> Iterator[ObjectInfo]:
    """The objects of a snapshot in the form of `Arena.objects()`."""
    waiting: dict[int, list[tuple[float, Holder]]] = {}
    for who in seen.participants:
        now = next((w for w in reversed(seen.awaited_by(who.id)) if w.range is None), None)
        if who.alive and now is not None and now.object is not None and now.state == "waiting":
            waiting.setdefault(now.object, []).append((now.waited or 0.0, Holder(who.pid, who.tid)))
    for o in seen.objects:
        holds = list(_held(o, seen.holders_of(o.id)))
        queue = sorted(waiting.get(o.id, ()), reverse=True)
        yield ObjectInfo(
            name=o.name,
            kind=o.kind,
            parameter=o.parameter,
            value=o.value,
            holders=tuple(who for who, _ in holds),
            modes=tuple(mode for _, mode in holds),
            owner_died=o.owner_died,
            waiters=tuple(who for _, who in queue),
            longest_wait=queue[0][0] if queue else 0.0,
            processes=o.processes,
            created=o.created,
            contended=o.contended,
            recoveries=o.recoveries,
            rescues=o.rescues,
        )


_ASIDE = {"BoundedSemaphore": "several", "Barrier": "guard"}
"""The mutex inside that is not what is meant by holding such an object."""
_ORDER = {"exclusive": 0, "upgradable": 1, "shared": 2}


def _held(o: ObjectState, holds: Iterable[Hold]) -> Iterator[tuple[Holder, str]]:
    """Who has it, and how: a permit each, readers once whatever their depth, of a barrier those who enrolled."""
    for h in sorted(holds, key=lambda h: _ORDER.get(h.mode, 3)):
        if not h.alive or not h.pid or (h.part is not None and h.part == _ASIDE.get(o.kind)):
            continue
        if {"tentative", "entering", "pending"} & {*h.flags} or (o.kind == "Barrier" and "enrolled" not in h.flags):
            continue
        for _ in range(h.units if o.kind == "BoundedSemaphore" else 1):
            yield Holder(h.pid, h.tid or 0), h.mode


class _People:
    """Threads as the table and JSON tell them; of each /proc is asked once."""

    def __init__(self, seen: Snapshot) -> None:
        self._known: dict[Holder, dict[str, Any]] = {}
        self._elsewhere = {p.pid for p in seen.processes if p.alive and not p.here}

    def __call__(self, who: Holder) -> dict[str, Any]:
        if who not in self._known:
            command = "" if who.pid in self._elsewhere else command_line(who.pid, who.tid)
            self._known[who] = {"pid": who.pid, "tid": who.tid, "command": command}
        return self._known[who]


# ---- rows and tables -------------------------------------------------------------------------------------------------


def _row(info: ObjectInfo, arena: str, person: _People) -> dict[str, Any]:
    holders: dict[tuple[Holder, str], dict[str, Any]] = {}
    for who, mode in zip(info.holders, info.modes, strict=True):
        if (who, mode) not in holders:
            holders[who, mode] = {**person(who), "mode": mode, "count": 0}
        holders[who, mode]["count"] += 1
    return {
        "name": info.name,
        "kind": info.kind,
        "arena": arena,
        "parameter": info.parameter,
        "value": info.value,
        "state": info.state,
        "holder": None if info.holder is None else person(info.holder),
        "holders": list(holders.values()),
        "owner_died": info.owner_died,
        "waiters": [person(w) for w in info.waiters],
        "longest_wait": info.longest_wait,
        "processes": info.processes,
        "created": info.created,
        "age": max(0.0, time.time() - info.created),
        "contended": info.contended,
        "recoveries": info.recoveries,
        "rescues": info.rescues,
    }


def _object_table(rows: list[dict[str, Any]]) -> None:
    cells = []
    for row in rows:
        waiting = f"{len(row['waiters'])}, {duration(row['longest_wait'])}" if row["waiters"] else "-"
        first, *more = _holding_processes(row) or ["-"]
        name = "(anonymous)" if row["name"] is None else row["name"]
        cells.append([name, row["kind"], row["state"], waiting, duration(row["age"]), first])
        cells += [["", "", "", "", "", holder] for holder in more]
    Screen(sys.stdout).table(["NAME", "KIND", "STATE", "WAITING", "AGE", "HOLDERS"], cells, right=(3, 4), cut=True)


def _holding_processes(row: dict[str, Any]) -> list[str]:
    """Each process that holds it, in words: its pid, what it has if that is not plain, and its command."""
    processes: dict[int, list[dict[str, Any]]] = {}
    for holder in row["holders"]:
        processes.setdefault(holder["pid"], []).append(holder)
    unit = "permits" if row["kind"] == "BoundedSemaphore" else "threads"
    found = []
    for pid, holders in processes.items():
        number = sum(h["count"] for h in holders)
        what = [f"{number} {unit}"] if number > 1 else []
        what += ["upgradable"] if any(h["mode"] == "upgradable" for h in holders) else []
        found.append(" ".join([str(pid), *([f"({', '.join(what)})"] if what else []), holders[0]["command"]]).rstrip())
    return found


def _arena_row(path: str) -> Iterator[dict[str, Any]]:
    name = path.partition(f"-{os.geteuid()}-")[2]
    try:
        seen = snapshot(path)
        objects, state = len(seen.objects), seen.problems[0] if seen.problems else "good"
        size = os.stat(path).st_blocks * 512
    except FileNotFoundError:  # gone since
        return
    except (SyncxError, OSError) as e:
        objects, state = 0, getattr(e, "strerror", None) or str(e)
        size = os.stat(path).st_blocks * 512 if os.path.exists(path) else 0
    yield {"name": name, "path": path, "locks": objects, "bytes": size, "state": state}


def _arena_table(rows: list[dict[str, Any]]) -> None:
    cells = [[row["name"], str(row["locks"]), f"{row['bytes'] // 1024} KiB", row["state"]] for row in rows]
    Screen(sys.stdout).table(["ARENA", "OBJECTS", "MEMORY", "STATE"], cells, right=(1, 2))
