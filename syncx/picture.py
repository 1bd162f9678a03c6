"""A picture of who waits for whom, before it is drawn: threads and objects as nodes, waits and holds as edges.

What draws it need not know where it comes from; what makes it need not know how it is drawn.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any, NamedTuple

from .terminal import printable

__all__ = ["STATES", "Edge", "Node", "Picture", "columns", "cut", "dot"]

STATES = {
    "deadlocked": "deadlocked: waits for ever",
    "suspected": "perhaps deadlocked",
    "waiting": "waits",
    "running": "does not wait",
    "foreign": "a program that does not use syncx",
    "dead": "dead: others may take what it holds",
    "plain": "",
}
"""What a node or an edge may be, and the words for it in the legend."""


class Node(NamedTuple):
    """A thread, or an object that threads wait for."""

    key: str
    """Its name in the picture's edges, of letters, digits and dots."""
    shape: str
    """"thread" or "object"."""
    title: str
    lines: tuple[str, ...]
    """What stands below the title, cut to fit."""
    state: str = "plain"
    """One of STATES."""
    about: str = ""
    """What stands beside the title where there is a line for it: the command, the kind of object."""
    details: tuple[str, ...] = ()
    """What a tooltip says, uncut."""
    data: Mapping[str, Any] = {}
    """For JSON: what the node stands for."""


class Edge(NamedTuple):
    """From a thread to what it wants, or from an object to who holds it."""

    source: str
    target: str
    relation: str
    """"wants" or "held by"."""
    state: str = "plain"
    """"deadlocked", "suspected", "timed" or "plain"."""
    label: str = ""
    """Short: "2 permits", "reads"."""
    details: str = ""
    """Of a wait: for how long, where, until when."""


class Picture(NamedTuple):
    """All of it."""

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    summary: tuple[str, ...] = ()
    """A sentence about each deadlock, and about what else is odd."""

    def to_dict(self) -> dict[str, Any]:
        """In dicts, lists and strings."""
        return {
            "title": self.title,
            "summary": list(self.summary),
            "nodes": [
                {"id": n.key, "type": n.shape, "state": n.state, "label": n.title, "about": n.about, **n.data}
                for n in self.nodes
            ],
            "edges": [
                {
                    "from": e.source,
                    "to": e.target,
                    "relation": e.relation,
                    "state": e.state,
                    "label": e.label,
                    "details": e.details,
                }
                for e in self.edges
            ],
        }


def columns(text: str) -> int:
    """How many columns of a fixed-width font the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in ("W", "F") else 1 for c in text
    )


def cut(text: str, width: int, *, end: bool = False) -> str:
    """The text, printable, in so many columns at most; where it is too long an ellipsis stands for the rest.

    end: keep the end, as of a path, not the beginning.
    """
    text = printable(text)
    if columns(text) <= width:
        return text
    kept, room = "", width - 1
    for c in reversed(text) if end else text:
        room -= columns(c)
        if room < 0:
            break
        kept = c + kept if end else kept + c
    return "\u2026" + kept.lstrip() if end else kept.rstrip() + "\u2026"


# ---- dot -------------------------------------------------------------------------------------------------------------

_NODE_STYLE = {
    "deadlocked": 'style="filled,bold", penwidth=3, color="#b3261e", fillcolor="#fbdcd9"',
    "suspected": 'style="filled,dotted", penwidth=2, color="#8a5a00", fillcolor="#fdf0d5"',
    "waiting": 'style=filled, color="#3d5a80", fillcolor="#eef3f9"',
    "running": 'style=filled, color="#2e6b3e", fillcolor="#e8f3ea"',
    "foreign": 'style=filled, peripheries=2, color="#5b4b8a", fillcolor="#f0edf7"',
    "dead": 'style="filled,diagonals", color="#666666", fillcolor="#eeeeee"',
    "plain": 'style=filled, color="#555555", fillcolor="#f7f7f7"',
}
_EDGE_STYLE = {
    "deadlocked": 'penwidth=3, color="#b3261e"',
    "suspected": 'style=dotted, penwidth=2, color="#8a5a00"',
    "timed": "style=dashed",
    "plain": "",
}


def _quoted(text: str) -> str:
    r"""A string of the dot language: only a quote ends it, and a backslash begins an escape of the label's own."""
    return '"' + "\\n".join(printable(t) for t in text.split("\n")).replace('"', '\\"') + '"'


def _label(text: str) -> str:
    return text.replace("\\", "\\\\")


def dot(picture: Picture) -> str:
    """The picture in the language of graphviz, for who has it: `dot -Tpng`."""
    lines = [
        "digraph syncx {",
        f"  label={_quoted(_label(picture.title))};",
        "  labelloc=t; rankdir=LR;",
        '  node [fontname="monospace", fontsize=10];',
        '  edge [fontname="monospace", fontsize=9];',
    ]
    for n in picture.nodes:
        text = "\n".join(_label(line) for line in (n.title, *n.lines))
        tip = "\n".join(_label(line) for line in n.details)
        shape = "box" if n.shape == "thread" else "ellipse"
        if n.state == "dead":
            shape = "box"
        lines.append(
            f"  {_quoted(n.key)} [shape={shape}, {_NODE_STYLE[n.state]}, label={_quoted(text)}, "
            f"tooltip={_quoted(tip or text)}];"
        )
    for e in picture.edges:
        style = ", ".join(s for s in (_EDGE_STYLE[e.state], f"label={_quoted(_label(e.label or e.relation))}") if s)
        lines.append(f"  {_quoted(e.source)} -> {_quoted(e.target)} [{style}];")
    lines.append("}")
    return "\n".join(lines) + "\n"
