"""`syncx locks`: the locks of a file as a bar, a table, or JSON."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from .lockinfo import FileLockInfo, FileLocks, file_locks
from .terminal import Screen, duration, printable

__all__ = ["bar", "locks", "size_in_words"]

PLAIN = {"exclusive": "#", "shared": "=", "several": "+", "free": "-"}
DRAWN = {"exclusive": "\u2588", "shared": "\u2592", "several": "\u2593", "free": "\u00b7"}
COLOURS = {"held": {"exclusive": "red", "shared": "green"}, "waiting": {"exclusive": "yellow", "shared": "cyan"}}
LANES = 24
"""Rows of ranges that overlap; the table has all that do not fit."""
UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
MARGIN = 9
"""Columns left of the bar."""
NARROWEST = 34
"""Columns that are used at least."""

Spans = list[tuple[str, str]]
"""A line in pieces: text, and its style in the words of rich."""


def locks(path: str, arena: str | None, *, as_json: bool = False, every: float | None = None) -> int:
    """Shows the locks of a file once, or again and again until Ctrl-C; returns the exit status.

    arena: the name or path of one to look into besides those in /dev/shm.  every: seconds between two looks.
    """
    screen = Screen(sys.stdout)
    watch = _Watch()
    told = ""
    while True:
        found = file_locks(path, arena=arena)
        seen = watch.seen(found)
        if as_json:
            print(json.dumps(_object(found), indent=None if every else 2), flush=True)
        else:
            if every and screen.interactive:
                sys.stdout.write("\x1b[H\x1b[2J")
            _show(screen, found, seen)
            if (note := _note(found)) != told:
                told = note
                if note:
                    print(f"syncx: {note}", file=sys.stderr)
        if every is None:
            return 0
        time.sleep(every)


class _Watch:
    """For how long we have seen each lock: all that can be said of those whose age only the kernel knows."""

    def __init__(self) -> None:
        self._first: dict[Any, float] = {}

    def seen(self, found: FileLocks) -> list[float]:
        now = time.monotonic()
        before, self._first = self._first, {}
        ages = []
        for o in found.locks:
            key = dataclasses.replace(o, seconds=None, remaining=None)
            self._first[key] = before.get(key, now)
            ages.append(now - self._first[key])
        return ages


def _note(found: FileLocks) -> str:
    """What could not be seen, if there is anything to see."""
    notes = []
    if found.unknown and found.unseen:
        number = "1 process" if found.unseen == 1 else f"{found.unseen} processes"
        notes.append(f"{number} of other users could not be looked into, which root may")
    if found.remote:
        notes.append(f"{found.filesystem}: locks that other machines hold cannot be seen from here")
    return "; ".join(notes)


# ---- JSON ----------------------------------------------------------------------------------------------------------


def _object(found: FileLocks) -> dict[str, Any]:
    rows = [
        {
            "state": o.state,
            "mode": o.mode,
            "kind": o.kind,
            "start": o.start,
            "stop": o.stop,
            "holders" if o.state != "waiting" else "waiters": [dataclasses.asdict(p) for p in o.parties],
            "syncx": o.syncx,
            "seconds": o.seconds,
            "remaining": o.remaining,
        }
        for o in found.locks
    ]
    plain = {k: getattr(found, k) for k in ("path", "device", "inode", "size", "filesystem", "remote")}
    return {**plain, "locks": rows, "unseen": found.unseen}


# ---- a bar and a table ---------------------------------------------------------------------------------------------


def _show(screen: Screen, found: FileLocks, seen: Sequence[float]) -> None:
    screen.say(_heading(found), "bold")
    if not found.locks:
        return
    screen.say()
    fancy = screen.interactive and (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    for spans in bar(found, shutil.get_terminal_size().columns, DRAWN if fancy else PLAIN):
        screen.say_spans(spans)
    screen.say()
    rows = []
    for number, (o, age) in enumerate(zip(found.locks, seen, strict=True), 1):
        how_long = f"> {duration(age)}" if age and o.seconds is None else "-"
        if o.seconds is not None:
            how_long = duration(o.seconds)
        kind = f"{o.kind}, syncx" if o.syncx else o.kind
        first, *more = [
            (str(p.tid or "-"), f"{p.pid} {p.command}" if p.command else f"{p.pid} (of another user or container)")
            for p in o.parties
        ] or [("-", "(not known)")]
        rows.append([str(number), o.state, o.mode, o.range, how_long, kind, *first])
        rows += [["", "", "", "", "", "", *party] for party in more]
    headings = ["#", "STATE", "MODE", "BYTES", "FOR", "KIND", "THREAD", "PROCESS"]
    screen.table(headings, rows, right=(0, 4, 6), cut=True)


def _heading(found: FileLocks) -> str:
    held, waiting = len(found.held), len(found.waiting)
    what = [size_in_words(found.size)] if found.size is not None else []
    what.append("no locks" if not held else "1 lock" if held == 1 else f"{held} locks")
    if waiting:
        what.append("1 waits" if waiting == 1 else f"{waiting} wait")
    return f"{printable(found.path)}: {', '.join(what)}"


def size_in_words(size: int) -> str:
    """Bytes in the unit that suits them: "1000 bytes", "4 KiB", "1.5 GiB"."""
    if size < 1024:
        return "1 byte" if size == 1 else f"{size} bytes"
    number, power = size / 1024, 0
    while number >= 999.5 and power < len(UNITS) - 1:
        number, power = number / 1024, power + 1
    return f"{number:.3g} {UNITS[power]}"


def bar(found: FileLocks, width: int, characters: dict[str, str] = PLAIN) -> Iterator[Spans]:
    """The file from its first byte to the last that counts, so many columns wide, with the ranges to scale.

    What overlaps is in rows below each other, those held above those awaited.  Each lock has at least one column.
    """
    columns = max(width, NARROWEST) - MARGIN - 2
    stops = [o.start + 1 if o.stop is None else o.stop for o in found.locks]
    end = max([1, found.size or 0, *stops])
    numbered = list(enumerate(found.locks, 1))
    modes = {_mode(o) for o in found.locks}
    several = False
    for title, wanted in (("held", False), ("waiting", True)):
        lanes = _lanes([(n, o) for n, o in numbered if (o.state == "waiting") == wanted])
        for at, lane in enumerate(lanes[:LANES]):
            left = title if at == 0 else ""
            spans = _lane(lane, end, columns, characters, title)
            several = several or any(characters["several"] in text for text, _ in spans)
            yield [(f"{left:<{MARGIN}}|", ""), *spans, ("|", "")]
        if len(lanes) > LANES:
            yield [(f"{'':<{MARGIN}} {len(lanes) - LANES} more rows of ranges that overlap", "dim")]
    if found.size is not None and found.size < end:
        at = found.size * columns // end
        after, before = "^ the file ends here", "the file ends here ^"
        text = " " * at + after if at + len(after) <= columns else (before if at >= len(before) else "^").rjust(at + 1)
        yield [(" " * (MARGIN + 1) + text, "dim")]
    yield [(" " * (MARGIN + 1) + _ruler(end, columns), "dim")]
    legend = [f"{characters[mode]} {mode}" for mode in ("exclusive", "shared") if mode in modes]
    if several:
        legend.append(f"{characters['several']} several in one column")
    yield [(" " * (MARGIN + 1) + "   ".join(legend), "dim")]


_Numbered = tuple[int, FileLockInfo]


def _mode(o: FileLockInfo) -> str:
    return "shared" if o.mode == "shared" else "exclusive"


def _lanes(numbered: Sequence[_Numbered]) -> list[list[_Numbered]]:
    """Rows within which no two ranges overlap."""
    lanes: list[list[_Numbered]] = []
    for number, o in sorted(numbered, key=lambda pair: (pair[1].start, pair[0])):
        for lane in lanes:
            stop = lane[-1][1].stop
            if stop is not None and stop <= o.start:
                lane.append((number, o))
                break
        else:
            lanes.append([(number, o)])
    return lanes


def _lane(lane: Sequence[_Numbered], end: int, columns: int, characters: dict[str, str], title: str) -> Spans:
    cells: list[tuple[str, str]] = [(characters["free"], "dim")] * columns
    taken = [0] * columns
    labels: list[tuple[str, str, int, int]] = []
    for number, o in lane:
        first = min(o.start * columns // end, columns - 1)
        behind = columns if o.stop is None else max(first + 1, -(-min(o.stop, end) * columns // end))
        mode = _mode(o)
        style = COLOURS[title][mode]
        for at in range(first, behind):
            taken[at] += 1
            cells[at] = (characters[mode], style) if taken[at] == 1 else (characters["several"], "magenta")
        labels.append((str(number), style, first, behind))
    for text, style, first, behind in labels:
        if behind - first >= len(text) + 4:
            text, at = f" {text} ", first + (behind - first - len(text) - 2) // 2
        elif taken[first] == 1 and behind + len(text) <= columns and not any(taken[behind : behind + len(text)]):
            at = behind
        else:
            continue
        for i, c in enumerate(text):
            cells[at + i], taken[at + i] = (c, style), 1
    spans: Spans = []
    for text, style in cells:
        if spans and spans[-1][1] == style:
            spans[-1] = (spans[-1][0] + text, style)
        else:
            spans.append((text, style))
    return spans


def _ruler(end: int, columns: int) -> str:
    """Byte numbers at the quarters, as far as there is room: each begins where its byte is, the last one ends there."""
    last = str(end)
    line = "0"
    for quarter in (1, 2, 3):
        at = quarter * columns // 4
        byte = str(end * quarter // 4)
        if at > len(line) + 1 and at + len(byte) + 1 < columns - len(last) and end >= columns:
            line = line.ljust(at) + byte
    return line.ljust(columns - len(last)) + last
