"""`syncx top`: who waits longest, and for what is waited most, drawn anew every second.

The screen is drawn with the few escape sequences that every terminal knows which has been made in the last forty years,
not by curses: that is missing from some builds of Python, wants a description of the terminal on the machine where it
runs, and has its own mind about signals, which here must not leave a terminal unusable.  screen.py does that part, this
file what is on the screen.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .errors import SyncxError
from .screen import FullScreen, colours, cut, width_of
from .snapshots import ObjectState, Snapshot
from .stats import Row, rows_of, title
from .terminal import duration, printable
from .waitgraph import Blocked, Blocker, ForeignProcess, Knot, WaitGraph, headline, wait_graph

__all__ = ["Frame", "View", "draw", "main", "once"]

PLAIN = 1 << 16
"""The width of a table that is not for a terminal."""
KEYS = (
    ("w", "longest wait first"),
    ("c", "most contended first"),
    ("t", "most time waited first"),
    ("n", "by name"),
    ("a", "objects too that nobody had to wait for"),
    ("/", "show only what contains some text"),
    ("Esc", "show everything again"),
    ("space", "freeze, and go on"),
    ("arrows, page up, page down", "scroll"),
    ("q", "quit"),
)
_MEANINGS = (("!", "in a deadlock"), ("?", "perhaps"), ("~", "in a circle that ends by itself"), (".", "behind one"))
_ORDERS = {"w": "wait", "c": "contention", "t": "time", "n": "name"}
_MARKS = {"deadlock": "!", "suspected": "?", "resolves": "~", "behind": "."}
_STYLES = {"deadlock": "red", "suspected": "yellow", "behind": "yellow"}


# ---- what is looked at -----------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """One look at an arena, and what changed since the one before."""

    graph: WaitGraph
    rows: tuple[Row, ...]
    rates: Mapping[tuple[int, int], float]
    """Contentions per second of objects, by id and generation; empty in the first look."""

    @property
    def seen(self) -> Snapshot:
        """The snapshot it was made from."""
        return self.graph.snapshot

    def rate(self, o: ObjectState) -> float | None:
        """Contentions per second; None: not known yet."""
        return self.rates.get((o.id, o.generation))

    def after(self, before: Frame | None) -> Frame:
        """The same with the rates since that earlier one, if it is of the same arena."""
        if before is None or before.seen.id != self.seen.id or before.seen.taken_ns >= self.seen.taken_ns:
            return self
        elapsed = (self.seen.taken_ns - before.seen.taken_ns) / 1e9
        counts = {(r.object.id, r.object.generation): r.object.contended for r in before.rows}
        rates = {
            key: max(0, r.object.contended - counts[key]) / elapsed
            for r in self.rows
            if (key := (r.object.id, r.object.generation)) in counts
        }
        return self._replace(rates=rates)


def look(arena: str, before: Frame | None = None) -> Frame:
    """A look at the arena now.  Raises what `syncx.snapshot` raises."""
    graph = wait_graph(arena)
    return Frame(graph, tuple(rows_of(graph.snapshot)), {}).after(before)


@dataclass
class View:
    """What the person at the keyboard wants to see."""

    order: str = "wait"
    filter: str = ""
    typing: bool = False
    """The filter is being typed."""
    frozen: bool = False
    help: bool = False
    everything: bool = False
    """Objects too for which nobody waits or ever waited."""
    top: int = 0
    """The first line of the lists that is shown."""
    _before: str = field(default="", repr=False)

    def key(self, key: str) -> bool:
        """What a key does, named as screen.py does; False: quit."""
        if self.typing:
            self._type(key)
        elif key in ("q", "Q"):
            return False
        elif key in ("h", "?", "H"):
            self.help = not self.help
        elif self.help:
            self.help = False
        elif key in _ORDERS:
            self.order, self.top = _ORDERS[key], 0
        elif key == "a":
            self.everything, self.top = not self.everything, 0
        elif key in (" ", "f"):
            self.frozen = not self.frozen
        elif key == "/":
            self.typing, self._before = True, self.filter
        elif key == "escape":
            self.filter, self.top = "", 0
        elif key in ("up", "k", "down", "j", "page up", "page down", "home"):
            step = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -10, "page down": 10}
            self.top = max(0, self.top + step.get(key, -self.top))
        return True

    def _type(self, key: str) -> None:
        self.top = 0
        if key == "enter":
            self.typing = False
        elif key == "escape":
            self.typing, self.filter = False, self._before
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1 and key.isprintable():
            self.filter += key

    def lets_through(self, *texts: str) -> bool:
        """Does the filter show a row of these texts?"""
        return not self.filter or any(self.filter.casefold() in text.casefold() for text in texts)


# ---- tables that fit -------------------------------------------------------------------------------------------------


class Column(NamedTuple):
    """A column of a table.  Where there is no room, those of the highest rank go first, and then text is cut."""

    heading: str
    rank: int
    """0: always there."""
    right: bool = False
    least: int = 0
    """How narrow it may become, beside its heading; 0: it is never cut."""


def _fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[tuple[int, int]]:
    """The columns that are shown, with their widths, two blanks between them."""
    natural = [
        max([width_of(c.heading), *(width_of(row[i]) for row in rows)]) for i, c in enumerate(columns)
    ]  # fmt: skip
    least = [min(n, max(len(c.heading), c.least)) if c.least else n for n, c in zip(natural, columns, strict=True)]
    shown = list(range(len(columns)))
    while len(shown) > 1 and sum(least[i] for i in shown) + 2 * (len(shown) - 1) > width:
        last = max(shown, key=lambda i: (columns[i].rank, i))
        if columns[last].rank == 0:
            break
        shown.remove(last)
    left = width - sum(least[i] for i in shown) - 2 * (len(shown) - 1)
    widths = dict.fromkeys(shown, 0)
    for i in sorted(shown, key=lambda i: (columns[i].rank, i)):
        more = max(0, min(natural[i] - least[i], left))
        widths[i] = least[i] + more
        left -= more
    return [(i, widths[i]) for i in shown]


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines, the headings first."""
    shown = _fit(columns, rows, width)
    lines = []
    for row in [[c.heading for c in columns], *rows]:
        cells = []
        for i, w in shown:
            text = cut(row[i], w)
            blanks = " " * (w - width_of(text))
            cells.append(blanks + text if columns[i].right else text + blanks)
        lines.append("  ".join(cells).rstrip())
    return lines


# ---- threads and objects ---------------------------------------------------------------------------------------------

_THREADS = (
    Column(" ", 0),
    Column("WAITED", 0, right=True),
    Column("PID", 0, right=True),
    Column("AWAITS", 0, least=10),
    Column("HELD BY", 1, least=8),
    Column("THREAD", 2, least=6),
    Column("WHERE", 3, least=10),
    Column("ENDS IN", 4, right=True),
)
_OBJECTS = (
    Column("OBJECT", 0, least=10),
    Column("PER S", 0, right=True),
    Column("WAITERS", 0, right=True),
    Column("LONGEST", 1, right=True),
    Column("SLEPT", 2, right=True),
    Column("WAITED", 3, right=True),
    Column("KIND", 4, least=6),
    Column("HOLDERS", 5, right=True),
    Column("TAKEN", 6, right=True),
)


def _holder(who: Blocker, graph: WaitGraph) -> str:
    """Who is in the way, in a word."""
    if isinstance(who, str):
        return "?"
    text = str(who.pid)
    if isinstance(who, ForeignProcess):
        text += f" {who.command}" if who.command else ""
    return text + (" (stopped)" if graph.stopped(who) else "")


def _held_by(who: Blocked, graph: WaitGraph) -> str:
    found = list(dict.fromkeys(_holder(b, graph) for b in who.blockers))
    found = [f for f in found if f != "?"]
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "") or "-"


def _thread_row(who: Blocked, graph: WaitGraph) -> list[str]:
    name = who.participant.name or ""
    return [
        _MARKS.get(who.verdict, " "),
        "-" if who.wait.waited is None else duration(who.wait.waited),
        str(who.pid),
        printable(who.what.removeprefix("for ")),
        printable(_held_by(who, graph)),
        printable(name) if who.tid == who.pid else f"{who.tid} {printable(name)}".rstrip(),
        printable((who.where or "").rpartition("/")[2]),  # the file without its directory
        "-" if who.wait.remaining is None else duration(who.wait.remaining),
    ]


def _rate(rate: float | None) -> str:
    return "" if rate is None else "-" if rate == 0 else f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"


def _object_row(row: Row, rate: float | None) -> list[str]:
    o = row.object
    return [
        printable(title(o)),
        _rate(rate),
        str(row.waiters) if row.waiters else "-",
        duration(max(row.waiting, o.longest_wait)) if row.waiting or o.longest_wait else "-",
        str(o.contended) if o.contended else "-",
        duration(o.waited) if o.waited else "-",
        o.kind,
        str(row.holders) if row.holders else "-",
        "-" if o.acquisitions is None else str(o.acquisitions),
    ]


def _object_order(view: View, frame: Frame) -> Callable[[Row], tuple[float | str, ...]]:
    def by_wait(r: Row) -> tuple[float | str, ...]:
        return -r.waiting, -r.waiters, -(frame.rate(r.object) or 0.0), -r.object.contended, title(r.object)

    def by_contention(r: Row) -> tuple[float | str, ...]:
        return -(frame.rate(r.object) or 0.0), -r.waiters, -r.object.contended, title(r.object)

    def by_time(r: Row) -> tuple[float | str, ...]:
        return -r.object.waited, -r.waiting, title(r.object)

    def by_name(r: Row) -> tuple[float | str, ...]:
        return r.object.name is None, title(r.object)

    return {"wait": by_wait, "contention": by_contention, "time": by_time, "name": by_name}[view.order]


def _threads(frame: Frame, view: View) -> list[Blocked]:
    shown = [b for b in frame.graph.blocked if view.lets_through(*_thread_row(b, frame.graph))]
    if view.order == "name":
        shown.sort(key=lambda b: (b.what, b.wait.since_ns))
    return shown


def _objects(frame: Frame, view: View) -> list[Row]:
    shown = [
        r
        for r in frame.rows
        if (view.everything or view.filter or r.waiters or r.object.contended)
        and view.lets_through(title(r.object), r.object.kind)
    ]
    return sorted(shown, key=_object_order(view, frame))


# ---- the picture -----------------------------------------------------------------------------------------------------

Line = tuple[str, str]
"""A text and its style: "", "bold", "red", "yellow", "inverse"."""


def _number(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _summary(frame: Frame) -> str:
    seen, graph = frame.seen, frame.graph
    threads = sum(p.alive for p in seen.participants)
    text = f"{_number(threads, 'thread')}, {len(graph.blocked)} wait; {_number(len(seen.objects), 'object')}"
    if frame.rates:
        text += f", {_rate(sum(frame.rates.values())).replace('-', '0')} contentions/s"
    return text


def _round(knot: Knot) -> str:
    """Who waits for whom, by process ids."""
    pids = [str(m.pid) for m in knot.members]
    return " > ".join([*pids, pids[0]]) if len(pids) < 9 else " > ".join([*pids[:8], "..."])


def _knots(graph: WaitGraph, wide: bool) -> list[Line]:
    lines = []
    for knot in graph.knots:
        if knot.verdict != "resolves":
            text = f"{_MARKS[knot.verdict]} {headline(knot)}" + (f": {_round(knot)}" if wide else "")
            lines.append((text, _STYLES[knot.verdict]))
    return lines


def _lists(frame: Frame, view: View, width: int, room: int | None) -> list[Line]:
    """Both tables.  room: of lines; None: as many as it takes."""
    threads, objects = _threads(frame, view), _objects(frame, view)
    if room is not None:
        first = min(view.top, max(0, len(threads) + len(objects) - 1))
        objects = objects[max(0, first - len(threads)) :]
        # those that wait get half of the room, and what the objects leave of theirs
        threads = threads[first : first + max(1, room // 2 - 2, room - 3 - len(objects))]
    lines: list[Line] = []
    if threads:
        heading, *body = _table(_THREADS, [_thread_row(b, frame.graph) for b in threads], width)
        lines.append((heading, "bold"))
        lines += [(text, _STYLES.get(b.verdict, "")) for text, b in zip(body, threads, strict=True)]
        lines.append(("", ""))
    if room is not None:
        objects = objects[: max(0, room - len(lines) - 1)]
    if objects:
        heading, *body = _table(_OBJECTS, [_object_row(r, frame.rate(r.object)) for r in objects], width)
        lines.append((heading, "bold"))
        lines += [(text, "yellow" if r.waiters else "") for text, r in zip(body, objects, strict=True)]
    if not lines:
        lines.append(("nothing contains that" if view.filter else "nobody waits, and nobody ever had to", ""))
    return lines


def draw(frame: Frame | None, view: View, arena: str, trouble: str, size: tuple[int, int], every: float) -> list[Line]:
    """The lines of the screen, size[0] columns wide and size[1] lines high at most.

    frame: the latest look, or None; trouble: why there was no newer one.
    """
    width, height = size
    state = [f"by {view.order}", *(["frozen"] if view.frozen else []), "h: help", f"every {every:g} s"]
    clock = "" if frame is None else time.strftime("%H:%M:%S", time.localtime(frame.seen.taken))
    lines: list[Line] = [(f"syncx top {clock} {', '.join(state)}", "inverse")]
    if view.typing or view.filter:
        lines.append((f"/{printable(view.filter)}{'_' if view.typing else ''}", "bold"))
    lines += [(trouble[at : at + width], "red") for at in range(0, len(trouble), width)]
    if view.help:
        lines += [(f"{key}: {text}", "") for key, text in (*KEYS, *_MEANINGS)]
    elif frame is not None:
        lines.append((f"{frame.seen.path}", ""))
        lines.append((_summary(frame), ""))
        lines += [(f"damaged: {p}", "red") for p in frame.seen.problems[:1]]
        lines += _knots(frame.graph, width >= 60)[: max(1, height // 4)]
        lines.append(("", ""))
        lines += _lists(frame, view, width, height - len(lines))
    return [(cut(text, width), style) for text, style in lines[:height]]


def once(arena: str) -> int:
    """Prints one look, plain, and returns the exit status."""
    frame = look(arena)
    lines = [_summary(frame), *(text for text, _ in _knots(frame.graph, True)), ""]
    lines += [text for text, _ in _lists(frame, View(), PLAIN, None)]
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write("".join(f"{line}\n" for line in lines).encode(encoding, "replace").decode(encoding))
    for problem in frame.seen.problems:
        print(f"syncx: {frame.seen.path}: {problem}", file=sys.stderr)
    return 0


# ---- the loop --------------------------------------------------------------------------------------------------------


def _look(arena: str, before: Frame | None) -> tuple[Frame | None, str]:
    """A look, or the one before and what is wrong."""
    try:
        return look(arena, before), ""
    except FileNotFoundError:
        return before, "the arena is not there any more"
    except (SyncxError, OSError) as e:
        return before, printable(str(e))


def main(arena: str, *, every: float = 1.0, single: bool = False) -> int:
    """The live view, until `q`; or one look, if standard output is no terminal.  Returns the exit status.

    every: seconds from one look to the next.

    The terminal is as it was when this returns or raises, and while it is suspended (Ctrl-Z).  SIGTERM and SIGHUP end
    the process after that, Ctrl-C raises KeyboardInterrupt.  Raises what `syncx.snapshot` raises if the first look
    fails; if a later one does, that is shown until the arena can be read again.
    """
    if single or not sys.stdout.isatty():
        return once(arena)
    frame: Frame | None = look(arena)
    trouble = ""
    view = View()
    shades = colours()
    with FullScreen() as screen:
        due = time.monotonic() + every
        while True:
            screen.show(draw(frame, view, arena, trouble, screen.size(), every), shades)
            keys = screen.keys(None if view.frozen else max(0.0, due - time.monotonic()))
            if not all(view.key(key) for key in keys):
                return 0
            if not view.frozen and time.monotonic() >= due:
                frame, trouble = _look(arena, frame)
                due = time.monotonic() + every
