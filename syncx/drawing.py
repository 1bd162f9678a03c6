"""The picture of who waits for whom as SVG: one file that needs nothing else, in light and in dark.

What a node or a line is, is told by its shape as well as by its colour, so that a print in black and white says the
same: a deadlocked thread has a thick frame and a filled title, a suspected one a dotted frame, a timed wait a dashed
line, a foreign program a double frame, a dead holder its name struck through.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple
from xml.sax.saxutils import escape

from .picture import STATES, Edge, Node, Picture, columns
from .placing import Placed, place
from .shapes import Box, Point, crosses, extent
from .terminal import printable

__all__ = ["Drawing", "draw", "svg"]

FONT = "ui-monospace, 'DejaVu Sans Mono', 'Liberation Mono', Menlo, Consolas, monospace"
SIZE = 12.0
ADVANCE = 0.612
"""Width of a character of such fonts, to its height."""
LINE = 16.0
MARGIN = 24.0
SMALL = 10.5
BELOW = 4.0
"""Between the title of a thread and what stands below it."""

_LIGHT = {
    "paper": "#ffffff", "ink": "#1b1f24", "soft": "#57606a", "line": "#57606a",
    "deadlocked": "#b3261e", "deadlocked-fill": "#fdecea", "suspected": "#8a5a00", "suspected-fill": "#fff6e0",
    "waiting": "#33597f", "waiting-fill": "#eef4fa", "running": "#2e6b3e", "running-fill": "#ebf5ed",
    "foreign": "#5b4b8a", "foreign-fill": "#f2effa", "dead": "#6e7781", "dead-fill": "#eceef0",
    "plain": "#57606a", "plain-fill": "#f6f8fa", "on-title": "#ffffff",
}  # fmt: skip
_DARK = {
    "paper": "#0d1117", "ink": "#e6edf3", "soft": "#9da7b3", "line": "#9da7b3",
    "deadlocked": "#ff7b72", "deadlocked-fill": "#3a1517", "suspected": "#e3b341", "suspected-fill": "#2f2406",
    "waiting": "#79b8ff", "waiting-fill": "#10233a", "running": "#7ee787", "running-fill": "#0f2a17",
    "foreign": "#c4b2ff", "foreign-fill": "#221c38", "dead": "#8b949e", "dead-fill": "#1c2128",
    "plain": "#9da7b3", "plain-fill": "#161b22", "on-title": "#0d1117",
}  # fmt: skip


class Text(NamedTuple):
    """A line of text and the box it fills."""

    box: Box
    text: str
    style: str
    """Classes of the style sheet."""


class Drawing(NamedTuple):
    """Everything placed: what is left is to write it down."""

    width: float
    height: float
    boxes: dict[str, Box]
    routes: dict[int, list[Point]]
    texts: dict[str, list[Text]]
    """Of each node."""
    labels: dict[int, Text]
    """Of those edges where there was room; all are in the tooltips too."""
    captions: list[Text]
    legend: list[tuple[str, str, Box, Text]]
    """Shape and state of a sample, its box, and what it means."""


def _width(text: str, size: float = SIZE) -> float:
    return columns(text) * size * ADVANCE


def _size(node: Node) -> tuple[float, float]:
    lines = (node.title, *node.lines)
    pad = 12.0 if node.shape == "thread" else 20.0
    width = max(_width(node.title, SIZE + 0.5), *(_width(line, SMALL) for line in lines))
    return max(width + 2 * pad, 84.0), LINE * len(lines) + 12.0 + (BELOW if node.shape == "thread" else 0.0)


def draw(picture: Picture) -> Drawing:
    """Places everything.  No two boxes, and no text and no box, overlap."""
    widest = max((_width(e.label, SMALL) for e in picture.edges), default=0.0)
    placed = place(
        {n.key: _size(n) for n in picture.nodes},
        [(e.source, e.target) for e in picture.edges],
        lane=max(56.0, widest + 30.0) if widest else 56.0,
    )
    head = [Text(Box(MARGIN, MARGIN, _width(picture.title, 15), 20), picture.title, "head")]
    head += [
        Text(Box(MARGIN, MARGIN + 24 + LINE * i, _width(line, SMALL), LINE), line, "small")
        for i, line in enumerate(picture.summary)
    ]
    if picture.edges:
        line = "thread \u2192 what it wants \u2192 who holds that"
        head.append(
            Text(Box(MARGIN, MARGIN + 24 + LINE * len(picture.summary), _width(line, SMALL), LINE), line, "small soft")
        )
    top = max(t.box.y + t.box.h for t in head) + 20
    boxes = {k: b._replace(x=b.x + MARGIN, y=b.y + top) for k, b in placed.boxes.items()}
    routes = {n: [(x + MARGIN, y + top) for x, y in r] for n, r in placed.routes.items()}
    round_ones = {n.key for n in picture.nodes if n.shape == "object"}
    for number, e in enumerate(picture.edges):
        if e.target in round_ones:
            routes[number] = _touching(routes[number], boxes[e.target])
        if e.source in round_ones:
            routes[number] = _touching(routes[number][::-1], boxes[e.source])[::-1]
    texts = {n.key: _texts(n, boxes[n.key]) for n in picture.nodes}
    labels = _labels(picture.edges, routes, list(boxes.values()))
    captions = head + _captions(picture, placed, top, boxes, routes, [t.box for t in labels.values()])
    width = max([placed.width, *(t.box.w for t in head), 360.0])
    legend, bottom = _legend(picture, top + placed.height + 26, width)
    return Drawing(width + 2 * MARGIN, bottom + MARGIN, boxes, routes, texts, labels, captions, legend)


def _texts(node: Node, box: Box) -> list[Text]:
    found = []
    lines = [(node.title, "title", SIZE + 0.5), *((line, "small", SMALL) for line in node.lines)]
    for i, (text, style, size) in enumerate(lines):
        w = _width(text, size)
        x = box.x + 12.0 if node.shape == "thread" else box.x + (box.w - w) / 2
        below = BELOW if i and node.shape == "thread" else 0.0
        found.append(Text(Box(x, box.y + 6 + LINE * i + below, w, LINE), text, style))
    return found


def _touching(route: list[Point], box: Box) -> list[Point]:
    """The line led on to the round end of an object: until here it ends at the corner of the box around that."""
    (x0, y0), (x1, y1) = _before_tip(route), route[-1]
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1.0
    dx, dy = (x1 - x0) / length, (y1 - y0) / length
    r = box.h / 2
    for i in range(int(2 * r)):
        x, y = x1 + dx * i, y1 + dy * i
        nearest = min(max(x, box.x + r), box.x + box.w - r)
        if (x - nearest) ** 2 + (y - box.centre[1]) ** 2 <= r * r:
            return [*route[:-1], (x, y)]
    return route


def _along(route: Sequence[Point], part: float) -> Point:
    """The point that lies that part of the way along a line."""
    lengths = [((b[0] - a[0]) ** 2 + (b[1] - a[1]) ** 2) ** 0.5 for a, b in pairwise(route)]
    left = sum(lengths) * part
    for (a, b), length in zip(pairwise(route), lengths, strict=True):
        if left <= length and length > 0:
            return a[0] + (b[0] - a[0]) * left / length, a[1] + (b[1] - a[1]) * left / length
        left -= length
    return route[-1]


def _labels(edges: Sequence[Edge], routes: dict[int, list[Point]], boxes: list[Box]) -> dict[int, Text]:
    """Each on its line, where it covers no box, no other line and no other label; none where that cannot be had."""
    found: dict[int, Text] = {}
    taken = list(boxes)
    extents = {n: extent(r) for n, r in routes.items()}
    for number, edge in enumerate(edges):
        if not edge.label:
            continue
        w = _width(edge.label, SMALL) + 8
        for part in (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8):
            x, y = _along(routes[number], part)
            box = Box(x - w / 2, y - LINE / 2, w, LINE)
            others = (routes[n] for n, e in extents.items() if n != number and e.near(box, 0.0))
            if not any(box.near(b, 2.0) for b in taken) and not any(crosses(r, box, 0.0) for r in others):
                found[number] = Text(box, edge.label, "small label")
                taken.append(box)
                break
    return found


def _captions(
    picture: Picture,
    placed: Placed,
    top: float,
    boxes: dict[str, Box],
    routes: dict[int, list[Point]],
    labels: list[Box],
) -> list[Text]:
    """In the middle of a ring, where there is room: what it is."""
    found = []
    states = {n.key: n.state for n in picture.nodes}
    shapes = {n.key: n.shape for n in picture.nodes}
    for centre_x, centre_y, members in placed.rings:
        threads = [key for key in members if shapes[key] == "thread"]
        stuck = {states[key] for key in threads}
        if not stuck <= {"deadlocked", "suspected", "foreign"} or stuck == {"foreign"}:
            continue
        word = "deadlock" if "suspected" not in stuck else "deadlock?"
        size = 15.0
        count = f"{len(threads)} thread{'s' if len(threads) != 1 else ''}"
        x, y = centre_x + MARGIN, centre_y + top
        lines = [(word, _width(word, size), 22.0, "caption"), (count, _width(count, SMALL), LINE, "small")]
        texts = []
        at = y - 19.0
        for text, w, h, style in lines:
            texts.append(Text(Box(x - w / 2, at, w, h), text, style))
            at += h
        obstacles = [*boxes.values(), *labels]
        if not any(t.box.near(b, 6.0) for t in texts for b in obstacles) and not any(
            crosses(r, t.box, 4.0) for t in texts for r in routes.values()
        ):
            found += texts
    return found


_SAMPLES = (
    ("thread", "deadlocked", "deadlocked, waits for ever"),
    ("thread", "suspected", "perhaps deadlocked"),
    ("thread", "waiting", "waits"),
    ("thread", "running", "holds it, and does not wait"),
    ("thread", "foreign", "a program that does not use syncx"),
    ("thread", "dead", "dead: others may take what it held"),
    ("object", "", "what is waited for"),
    ("line", "deadlocked", "waits for ever"),
    ("line", "suspected", "perhaps for ever"),
    ("line", "timed", "gives up at its time limit"),
    ("line", "plain", "wants, or is held by"),
)


def _legend(picture: Picture, y: float, width: float) -> tuple[list[tuple[str, str, Box, Text]], float]:
    """Samples of what there is, in rows; and where the last row ends."""
    there = {(n.shape, n.state) for n in picture.nodes} | {("line", e.state) for e in picture.edges}
    there |= {("object", "")} if any(n.shape == "object" for n in picture.nodes) else set()
    found = []
    x = MARGIN
    for shape, state, words in _SAMPLES:
        if (shape, state) not in there:
            continue
        w = _width(words, SMALL)
        if x > MARGIN and x + 36 + w > MARGIN + width:
            x, y = MARGIN, y + 22
        found.append((shape, state, Box(x, y + 2, 28, 14), Text(Box(x + 36, y, w, LINE), words, "small soft")))
        x += 36 + w + 26
    return found, y + LINE if found else y - 26


# ---- written down ----------------------------------------------------------------------------------------------------


def _style() -> str:
    def rules(c: dict[str, str]) -> str:
        lines = [
            f".paper{{fill:{c['paper']}}}",
            f"text{{fill:{c['ink']}}}",
            f".soft{{fill:{c['soft']}}}",
            f".line{{stroke:{c['line']}}}",
            f".tip{{fill:{c['line']};stroke:{c['line']}}}",
            f".label-box{{fill:{c['paper']}}}",
            f".caption{{fill:{c['deadlocked']}}}",
            f".bar-text{{fill:{c['on-title']}}}",
        ]
        for state in STATES:
            lines.append(f".{state} .frame{{stroke:{c[state]};fill:{c[state + '-fill']}}}")
            lines.append(f".{state} .second{{stroke:{c[state]}}}")
        for state in ("deadlocked", "suspected"):
            lines.append(f".{state} .bar{{fill:{c[state]}}}")
            lines.append(f".line.{state}{{stroke:{c[state]}}}")
            lines.append(f".tip.{state}{{fill:{c[state]};stroke:{c[state]}}}")
        return "\n".join(lines)

    return f"""
text{{font-family:{FONT};font-size:{SIZE:g}px}}
.head{{font-size:15px;font-weight:bold}}
.title{{font-size:{SIZE + 0.5:g}px;font-weight:bold}}
.caption{{font-size:15px;font-weight:bold}}
.small{{font-size:{SMALL:g}px}}
.frame{{stroke-width:1.4}}
.second{{fill:none;stroke-width:1}}
.deadlocked .frame{{stroke-width:3.5}}
.suspected .frame{{stroke-width:2.5;stroke-dasharray:2 4}}
.dead .frame{{stroke-dasharray:7 3}}
.dead .title{{text-decoration:line-through}}
.line{{fill:none;stroke-width:1.5}}
.line.deadlocked{{stroke-width:3.5}}
.line.suspected{{stroke-width:2.5;stroke-dasharray:2 4}}
.line.timed{{stroke-dasharray:8 5}}
{rules(_LIGHT)}
@media (prefers-color-scheme: dark) {{
{rules(_DARK)}
}}
"""


def _text(t: Text, more: str = "") -> str:
    x, anchor = t.box.x, ""
    if "label" in t.style or "caption" in t.style:
        x, anchor = t.box.x + t.box.w / 2, ' text-anchor="middle"'
    y = t.box.y + t.box.h * 0.75
    return f'<text x="{x:.1f}" y="{y:.1f}"{anchor} class="{t.style}{more}">{_safe(t.text)}</text>'


def _safe(text: str) -> str:
    """Text of an XML document: markup escaped, and no character that XML forbids."""
    return escape(printable(text), {'"': "&quot;", "'": "&apos;"})


def _tip(lines: Sequence[str]) -> str:
    return f"<title>{'&#10;'.join(_safe(line) for line in lines)}</title>"


def _frame(shape: str, b: Box, state: str, filled: bool) -> str:
    radius = 5.0 if shape == "thread" else b.h / 2
    what = f'x="{b.x:.1f}" y="{b.y:.1f}" width="{b.w:.1f}" height="{b.h:.1f}" rx="{radius:.1f}"'
    parts = [f'<rect class="frame" {what}/>']
    if state == "foreign":
        i = Box(b.x + 3, b.y + 3, b.w - 6, b.h - 6)
        parts.append(
            f'<rect class="second" x="{i.x:.1f}" y="{i.y:.1f}" width="{i.w:.1f}" height="{i.h:.1f}" '
            f'rx="{max(radius - 3, 1):.1f}"/>'
        )
    if filled:  # the title stands on a bar with the upper corners round
        x, y, w, h, r = b.x, b.y, b.w, min(LINE + 6.0, b.h), radius
        parts.append(
            f'<path class="bar" d="M{x:.1f} {y + h:.1f}V{y + r:.1f}Q{x:.1f} {y:.1f} {x + r:.1f} {y:.1f}'
            f'H{x + w - r:.1f}Q{x + w:.1f} {y:.1f} {x + w:.1f} {y + r:.1f}V{y + h:.1f}Z"/>'
        )
    return "".join(parts)


def _line(route: Sequence[Point], state: str) -> str:
    """A line and its arrowhead."""
    (x0, y0), (x1, y1) = _before_tip(route), route[-1]
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1.0
    dx, dy = (x1 - x0) / length, (y1 - y0) / length
    head, half = (12.0, 5.5) if state == "deadlocked" else (9.0, 4.0)
    bx, by = x1 - dx * head, y1 - dy * head
    path = [p for p in route[:-1] if (p[0] - x1) ** 2 + (p[1] - y1) ** 2 > head**2] or [route[0]]
    path.append((bx, by))
    d = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in path)
    tip = f"M{x1:.1f} {y1:.1f}L{bx - dy * half:.1f} {by + dx * half:.1f}L{bx + dy * half:.1f} {by - dx * half:.1f}Z"
    return f'<path class="line {state}" d="{d}"/><path class="tip {state}" d="{tip}"/>'


def _before_tip(route: Sequence[Point]) -> Point:
    """A point of the line far enough from its end to give the direction of the arrow."""
    x1, y1 = route[-1]
    for p in reversed(route[:-1]):
        if (p[0] - x1) ** 2 + (p[1] - y1) ** 2 > 64:
            return p
    return route[0]


def svg(picture: Picture) -> str:
    """The picture as an SVG document."""
    d = draw(picture)
    description = "; ".join(picture.summary) or picture.title
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{d.width:.0f}" height="{d.height:.0f}" '
        f'viewBox="0 0 {d.width:.0f} {d.height:.0f}" role="img" aria-labelledby="syncx-title syncx-desc">',
        f'<title id="syncx-title">{_safe(picture.title)}</title>',
        f'<desc id="syncx-desc">{_safe(description)}</desc>',
        f"<style>{_style()}</style>",
        f'<rect class="paper" width="{d.width:.0f}" height="{d.height:.0f}"/>',
    ]
    names = {n.key: n.title for n in picture.nodes}
    order = sorted(range(len(picture.edges)), key=lambda n: picture.edges[n].state == "deadlocked")
    for number in order:  # deadlocked ones lie on top
        e = picture.edges[number]
        tip = [f"{names[e.source]} {e.relation} {names[e.target]}", e.label, e.details]
        out.append(f"<g>{_tip([t for t in tip if t])}{_line(d.routes[number], e.state)}</g>")
    for n in picture.nodes:
        bar = n.state == "deadlocked" and n.shape == "thread"
        out.append(f'<g class="{n.state}">{_tip(n.details or (n.title, *n.lines))}')
        out.append(_frame(n.shape, d.boxes[n.key], n.state, bar))
        out += [_text(t, " bar-text" if bar and i == 0 else "") for i, t in enumerate(d.texts[n.key])]
        out.append("</g>")
    for t in d.labels.values():
        b = t.box
        out.append(f'<rect class="label-box" x="{b.x:.1f}" y="{b.y:.1f}" width="{b.w:.1f}" height="{b.h:.1f}"/>')
        out.append(_text(t))
    out += [_text(t) for t in d.captions]
    for shape, state, b, t in d.legend:
        if shape == "line":
            out.append(_line([(b.x, b.y + b.h / 2), (b.x + b.w, b.y + b.h / 2)], state))
        else:
            bar = state == "deadlocked"
            inner = _frame(shape, b, state, False)
            if bar:
                inner += f'<rect class="bar" x="{b.x:.1f}" y="{b.y:.1f}" width="{b.w:.1f}" height="{b.h / 2:.1f}"/>'
            out.append(f'<g class="{state or "plain"}">{inner}</g>')
        out.append(_text(t))
    out.append("</svg>")
    return "\n".join(out) + "\n"
