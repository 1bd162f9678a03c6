"""`syncx ps`: the threads attached to an arena, what each holds and awaits, and since when."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from .requests import in_the_way
from .snapshots import Hold, Participant, Snapshot, Wait, snapshot
from .terminal import command_line, duration, paint, printable
from .words import file_name

__all__ = ["main"]

MOST = 10
"""So many holds of a thread are listed, and the others counted."""
HEADINGS = ("PID", "TID", "THREAD", "HOLDS", "AWAITS", "SINCE", "COMMAND")
_TO_THE_END = (1 << 63) - 1


def main(arena: str, *, as_json: bool = False, everything: bool = False) -> int:
    """Prints the table, or JSON; returns the exit status.

    everything: list all that a thread holds, however much it is.  Raises what `syncx.snapshot` raises.
    """
    seen = snapshot(arena)
    if as_json:
        import json

        print(json.dumps(_as_dict(seen), indent=2))
    else:
        _table(seen, everything)
    for problem in seen.problems:
        print(f"syncx: {seen.path}: {problem}", file=sys.stderr)
    return 0


# ---- what /proc says -------------------------------------------------------------------------------------------------


def _stat(pid: int, tid: int) -> tuple[str, str, int]:
    """The name of a thread, its state (a letter, see proc(5)) and its start time; empty where it cannot be seen."""
    try:
        with open(f"/proc/{pid}/task/{tid}/stat", "rb") as f:
            before, _, after = f.read().rpartition(b")")
    except OSError:
        return "", "", 0
    fields = after.split()
    return printable(os.fsdecode(before.partition(b"(")[2])), fields[0].decode(), int(fields[19])


class _About:
    """Thread name, state and command of live participants; empty where a pid means another process here."""

    def __init__(self, seen: Snapshot) -> None:
        self._seen = seen
        self._commands: dict[int | None, str] = {}

    def __call__(self, who: Participant) -> dict[str, str]:
        process = self._seen.process(who.process)
        if who.alive and process is not None and process.here:
            name, state, start = _stat(who.pid, who.tid)
            if start == who.start_time:
                if who.process not in self._commands:
                    self._commands[who.process] = command_line(who.pid, who.tid)
                if who.name is not None and who.name != "MainThread":  # a main thread's may say what the program is
                    name = who.name
                return {"name": name, "state": state, "command": self._commands[who.process]}
        return {"name": "", "state": "", "command": ""}


# ---- in words --------------------------------------------------------------------------------------------------------


def _object(seen: Snapshot, what: Hold | Wait, pid: int | None) -> str:
    """What is held or awaited: a name, or what it is."""
    if what.range is not None:
        r = what.range
        text = file_name(pid, r)
        if (r.first, r.last) != (0, _TO_THE_END):
            last = "" if r.last == _TO_THE_END else r.last
            text += f"[{r.first}]" if r.first == r.last else f"[{r.first}..{last}]"
        return text
    found = seen.at(what.object)
    if found is not None:
        return found.name if found.name is not None else f"{found.kind}@{found.id:#x}"
    return "the arena's lock" if what.kind == "arena" else f"{what.kind} in its own memory"


_HOW = {"shared": "read", "upgradable": "upgradable"}


def _hold(seen: Snapshot, hold: Hold) -> str:
    how = [_HOW[hold.mode]] if hold.mode in _HOW else []
    if hold.kind == "RWLock" and hold.mode == "exclusive":
        how = ["next writer" if "entering" in hold.flags else "write"]
    elif hold.kind == "BoundedSemaphore" and hold.part is None:
        how = [f"{hold.units} permit{'s' if hold.units != 1 else ''}"]
    elif hold.kind == "Barrier":
        how = [flag for flag in hold.flags if flag in ("arrived", "enrolled")]
    elif hold.kind == "Once":
        how = ["runs it"]
    elif hold.units > 1:
        how.append(f"{hold.units} deep")
    if hold.kind != "Once" and hold.part not in (None, "lock", "writer"):
        how = [str(hold.part)]
    if hold.held is not None:
        how.append(f"for {duration(hold.held)}")
    if hold.where is not None:
        how.append(f"at {_short(hold.where)}")
    return _object(seen, hold, hold.pid) + (f" ({', '.join(how)})" if how else "")


def _short(where: str) -> str:
    """A line of a program without the directories."""
    path, _, line = where.rpartition(":")
    return f"{path.rpartition('/')[2]}:{line}"


def _holders(seen: Snapshot, wait: Wait) -> str:
    """Who is in the way, as far as that can be told at a glance."""
    pids = {p.pid for h in [wait.holder] if (p := seen.participant(h)) is not None and p.alive}
    if wait.range is not None:
        pids = {h.pid for h in seen.holds if h.alive and h.pid and in_the_way(wait, h)}
    if not pids and wait.object is not None and wait.kind in ("Mutex", "RLock", "BoundedSemaphore", "RWLock", "Once"):
        pids = {h.pid for h in seen.holders_of(wait.object) if h.alive and h.pid and h.thread != wait.thread}
    if not pids:
        return ""
    listed = sorted(pids)
    return "held by " + ", ".join(map(str, listed[:3])) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def _wait(seen: Snapshot, wait: Wait, pid: int) -> str:
    how = []
    if wait.mode in _HOW and wait.kind in ("RWLock", "file range"):
        how.append(_HOW[wait.mode])
    if wait.units > 1:
        how.append(f"{wait.units} at once")
    if wait.state != "waiting":
        how.append(wait.state)
    if holders := _holders(seen, wait):
        how.append(holders)
    if wait.remaining is not None:
        how.append(f"gives up in {duration(wait.remaining)}")
    return _object(seen, wait, pid) + (f" ({', '.join(how)})" if how else "")


# ---- the table -------------------------------------------------------------------------------------------------------


def _order(seen: Snapshot) -> list[Participant]:
    """Those who live, and of the dead those who hold something still."""
    found = [p for p in seen.participants if p.alive or seen.held_by(p.id)]
    return sorted(found, key=lambda p: (p.pid, p.tid != p.pid, p.tid))


def _orphaned(seen: Snapshot) -> Iterable[Hold]:
    """Permits of which no thread is known: it has ended, and they are the process's."""
    return (h for h in seen.holds if h.thread is None and h.alive)


def _table(seen: Snapshot, everything: bool) -> None:
    rows: list[list[str]] = []
    styles: list[str] = []
    tell_about = _About(seen)
    for who in _order(seen):
        about = tell_about(who)
        held = seen.held_by(who.id)
        most = len(held) if everything or len(held) <= MOST else MOST - 1
        holds = [_hold(seen, h) for h in held[:most]] or ["-"]
        if most < len(held):
            holds.append(f"... and {len(held) - most} more")
        waits = seen.awaited_by(who.id)[::-1] if who.alive else ()  # what it does now comes first
        awaits = [_wait(seen, w, who.pid) for w in waits] or ["-"]
        since = ["-" if w.waited is None else duration(w.waited) for w in waits] or ["-"]
        command = about["command"] if who.alive else "(dead)"
        if about["state"] in ("T", "t"):
            command = f"(stopped) {command}"
        style = "red" if not who.alive else "yellow" if waits else ""
        for i in range(max(len(holds), len(awaits))):
            first = [str(who.pid), str(who.tid), about["name"]] if i == 0 else ["", "", ""]
            cells = [column[i] if i < len(column) else "" for column in (holds, awaits, since)]
            rows.append([*first, *cells, command if i == 0 else ""])
            styles.append(style)
    for hold in _orphaned(seen):
        pid = hold.pid or 0
        process = seen.process(hold.process)
        command = command_line(pid) if process is not None and process.here else ""
        rows.append([str(pid), "-", "", _hold(seen, hold), "-", "-", command])
        styles.append("")
    if rows:
        paint(sys.stdout, HEADINGS, rows, styles, right=(0, 1, 5))


def _as_dict(seen: Snapshot) -> dict[str, Any]:
    """The snapshot, and of each participant what /proc says."""
    plain = seen.to_dict()
    tell_about = _About(seen)
    for row, who in zip(plain["participants"], seen.participants, strict=True):
        row.update(tell_about(who))
    return plain
