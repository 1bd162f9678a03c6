"""`syncx doctor`: is the machine fit, are the arenas whole, what was left behind, and what to do about it."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from . import health, hidden, machine
from .arena import DEFAULT_NAME, DIRECTORY, path_of
from .errors import SyncxError
from .findings import LEVELS, Finding, Tree, size
from .leftovers import leftovers
from .terminal import printable

__all__ = ["main"]

FINE, BLIND, ILL = 0, 1, 3
_COLOURS = {"ok": "\x1b[32m", "note": "\x1b[36m", "warning": "\x1b[33m", "error": "\x1b[31m", "fixed": "\x1b[32m"}
_INDENT = 9


def main(places: Sequence[str] = (), *, fix: bool = False, as_json: bool = False) -> int:
    """Looks, mends what may be mended if `fix`, prints a line for each finding, and returns the exit status.

    places: names or paths of arenas, or files and directories in which update() was used; only these are looked at.
        None: the machine, the arenas of this user (root: of all), and leftovers of every kind.
    Returns 0: all is well; 3: there are warnings or errors, and not all of them were mended; 1: something could not be
    looked at.  May be run at any time and by several at once.
    """
    blind: list[str] = []
    rows: list[dict[str, Any]] = []
    printer = None if as_json else _Printer()
    for finding in _look(places, blind):
        row = _row(finding, fix)
        rows.append(row)
        if printer is not None:
            printer.show(row)
    worst = max((LEVELS.index(r["level"]) for r in rows if r["done"] is None), default=0)
    if as_json:
        import json

        plain = {"worst": LEVELS[worst], "fixed": sum(r["done"] is not None for r in rows), "findings": rows}
        print(json.dumps(plain, indent=2))
    sys.stdout.flush()
    for message in blind:
        print(f"syncx: {message}", file=sys.stderr)
    return BLIND if blind else ILL if worst >= LEVELS.index("warning") else FINE


def _look(places: Sequence[str], blind: list[str]) -> Iterator[Finding]:
    if places:
        for place in places:
            yield from _place(place, blind)
        return
    tree = Tree()
    if tree.read("/proc/self/stat") is None:
        blind.append("/proc is not mounted: processes cannot be looked at (mount -t proc proc /proc)")
        return
    yield from machine.machine(tree, machine.probe())
    paths = health.arenas_of(os.geteuid())
    default = path_of(os.environ.get("SYNCX_ARENA") or DEFAULT_NAME)[0]
    if default not in paths and os.path.lexists(default):
        paths.append(default)
    if not paths:
        yield Finding("ok", "arenas", f"none in {DIRECTORY}")
    for path in paths:
        try:
            yield from health.examine(path)
        except FileNotFoundError:  # gone since
            continue
        except OSError as e:
            blind.append(f"{path}: {e.strerror}")
    yield from leftovers(tree)


def _place(place: str, blind: list[str]) -> Iterator[Finding]:
    try:
        if "/" not in place:
            yield from health.examine(path_of(place)[0])
            return
        if os.path.isdir(place):
            yield from _directory(place, blind)
            return
        found = list(hidden.beside(place))
        path = path_of(place)[0]
        if health.is_arena(path):
            yield from health.examine(path)
        elif os.path.isfile(path):
            with open(path, "rb"):  # or say why not
                text = f"{printable(path)}: no arena, {size(os.stat(path).st_size)}; nothing was left beside it"
                found = found or [Finding("note", "file", text)]
        elif not found:
            os.stat(path)
        yield from found
    except FileNotFoundError:
        if "/" not in place:  # such an arena goes with its last user
            yield Finding("ok", f"arena {place}", "there is none: nobody uses it, and nothing in it has a name")
        else:
            blind.append(f"there is no file or arena {place!r}")
    except (OSError, SyncxError) as e:
        blind.append(f"{place}: {getattr(e, 'strerror', None) or e}")


def _directory(place: str, blind: list[str]) -> Iterator[Finding]:
    found = list(hidden.inside(place))
    for name in sorted(os.listdir(place)):
        path = os.path.join(os.path.realpath(place), name)
        if health.is_arena(path):
            try:
                found += health.examine(path)
            except FileNotFoundError:
                continue
            except OSError as e:
                blind.append(f"{path}: {e.strerror}")
    yield from found or [Finding("ok", "directory", f"{printable(place)}: no arena in it, and nothing left behind")]


def _row(finding: Finding, fix: bool) -> dict[str, Any]:
    """The finding in plain words; mended, if it is to be."""
    row: dict[str, Any] = finding._asdict()
    repair = row.pop("repair")
    row["fixable"], row["done"], row["failed"] = repair is not None, None, None
    if fix and repair is not None:
        try:
            row["done"] = repair() or "nothing to do any more"
        except FileNotFoundError:
            row["done"] = "gone by itself"
        except (SyncxError, OSError) as e:
            row["failed"] = str(e)
    return row


class _Printer:
    """A line for each finding; on a terminal coloured, and longer ones go on below, behind the level."""

    def __init__(self) -> None:
        stream = sys.stdout
        interactive = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = interactive and not os.environ.get("NO_COLOR")
        self._width = max(40, shutil.get_terminal_size().columns) if interactive else None
        self._encoding = stream.encoding or "utf-8"

    def show(self, row: dict[str, Any]) -> None:
        level = "fixed" if row["done"] is not None else row["level"]
        text = f"{row['topic']}: {row['text']}"
        if row["done"] is not None:
            text += f": {row['done']}"
        elif row["failed"] is not None:
            text += f"; it could not be mended: {row['failed']}"
        else:
            text += "; " + ": ".join(filter(None, (row["advice"], row["command"]))) if row["advice"] else ""
        lines = [text]
        if self._width is not None:
            lines = textwrap.wrap(text, self._width - _INDENT, break_on_hyphens=False) or [""]
        head = level.ljust(_INDENT)
        if self._coloured:
            head = f"{_COLOURS[level]}{head}\x1b[0m"
        shown = f"\n{' ' * _INDENT}".join(lines)
        print(f"{head}{shown}".encode(self._encoding, "replace").decode(self._encoding), flush=True)
