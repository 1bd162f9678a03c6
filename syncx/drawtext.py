"""The picture of who waits for whom in lines of text: rings with an arrow back to their beginning, all else as trees.

A ring reads downwards: each thread wants what stands below it, which the next thread holds.  A tree reads from the one
who does not wait: below it what it holds, below that who wants it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import TextIO

from .picture import Edge, Node, Picture, cut
from .rings import longest_cycle
from .shapes import strongly_connected
from .terminal import printable

__all__ = ["drawn", "write"]

FANCY = {"ring": "\u250f\u2501\u25b6 ", "side": "\u2503   ", "back": "\u2517\u2501\u2501 ", "none": "    ",
         "fork": "\u251c\u2500 ", "last": "\u2514\u2500 ", "pipe": "\u2502  ", "gap": "   "}  # fmt: skip
PLAIN = {"ring": "+-> ", "side": "|   ", "back": "+-- ", "none": "    ",
         "fork": "|- ", "last": "`- ", "pipe": "|  ", "gap": "   "}  # fmt: skip

_RED, _BOLD, _END = "\x1b[31m", "\x1b[1m", "\x1b[0m"


def write(picture: Picture, stream: TextIO) -> None:
    """Draws to a stream: on a terminal coloured and cut to its width, elsewhere plain and whole."""
    interactive = stream.isatty() and os.environ.get("TERM") != "dumb"
    colour = interactive and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size().columns if interactive else None
    encoding = stream.encoding or "utf-8"
    try:
        "".join(FANCY.values()).encode(encoding)
        plain = False
    except UnicodeEncodeError:
        plain = True
    text = drawn(picture, width=width, colour=colour, plain=plain)
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


def drawn(picture: Picture, *, width: int | None = None, colour: bool = False, plain: bool = False) -> str:
    """The picture as lines of text.

    width: columns to which lines are cut; None: they are not.  colour: with the codes of a terminal.  plain: in ASCII.
    """
    lines = _Text(picture, PLAIN if plain else FANCY).lines()
    out = []
    for text, strong in lines:
        text = printable(text) if width is None else cut(text, width)
        if colour and strong:
            text = f"{_BOLD if strong == 'bold' else _RED}{text}{_END}"
        out.append(text.rstrip() + "\n")
    return "".join(out)


Line = tuple[str, str]


class _Text:
    def __init__(self, picture: Picture, signs: Mapping[str, str]) -> None:
        self.picture = picture
        self.signs = signs
        self.nodes: dict[str, Node] = {n.key: n for n in picture.nodes}
        self.out: dict[str, list[Edge]] = {n.key: [] for n in picture.nodes}
        self.into: dict[str, list[Edge]] = {n.key: [] for n in picture.nodes}
        for e in picture.edges:
            self.out[e.source].append(e)
            self.into[e.target].append(e)
        self.told: set[str] = set()

    def lines(self) -> list[Line]:
        found: list[Line] = [(self.picture.title, "bold"), *((s, "") for s in self.picture.summary)]
        ways = {key: [e.target for e in edges] for key, edges in self.out.items()}
        rings = [c for c in strongly_connected(self.nodes, ways) if len(c) > 1]
        rings.sort(key=lambda c: list(self.nodes).index(min(c, key=list(self.nodes).index)))
        for core in rings:
            found.append(("", ""))
            found += self._ring(core, ways)
        for key, node in self.nodes.items():
            if not self.out[key] and key not in self.told:
                found.append(("", ""))
                found += self._root(node)
        return found

    def _thread(self, node: Node) -> str:
        return f"{node.title}  {node.about}".rstrip()

    # -- rings

    def _ring(self, core: Sequence[str], ways: Mapping[str, Sequence[str]]) -> list[Line]:
        inside = set(core)
        order = longest_cycle(core, {key: [k for k in ways[key] if k in inside] for key in core})
        first = next(i for i, key in enumerate(order) if self.nodes[key].shape == "thread")
        order = order[first:] + order[:first]
        self.told.update(order)
        threads = [key for key in order if self.nodes[key].shape == "thread"]
        strong = "red" if all(self.nodes[key].state == "deadlocked" for key in threads) else ""
        found: list[Line] = []
        for i, key in enumerate(threads):
            node = self.nodes[key]
            found.append((self.signs["ring" if i == 0 else "side"] + self._thread(node), strong))
            for edge in self.out[key]:
                following = threads[(i + 1) % len(threads)]
                found += self._wanted(edge, following, i == len(threads) - 1, strong)
        for key in order:
            rest = [e for e in self.into[key] if e.source not in inside]
            if rest:
                verb = "also waiting for" if self.nodes[key].shape == "object" else "also held by"
                found.append(("", ""))
                found.append((f"{verb} {self.nodes[key].title}:", ""))
                found += self._below(rest, "")
        return found

    def _wanted(self, edge: Edge, following: str, last: bool, strong: str) -> list[Line]:
        """What a thread of a ring wants, and who has it: on to the next, or back to the first."""
        thing = self.nodes[edge.target]
        side = self.signs["side"]
        text = f"wants {edge.label + ' of ' if edge.label else ''}{thing.title} ({thing.about})"
        found = [(f"{side}  {text}{', ' + edge.details if edge.details else ''}", strong)]
        holders = self.out[edge.target]
        others = [self._holder(e) for e in holders if e.target != following]
        share = next((f" ({e.label})" for e in holders if e.target == following and e.label), "")
        follows = any(e.target == following for e in holders)
        if last:
            named = [f"{self.nodes[following].title}{share}"] if follows else []
            text = f"held by {' and by '.join([*named, *others])}" if named or others else "held by nobody known"
            found.append((self.signs["back"] + text, strong))
        elif follows:
            also = f" and by {' and by '.join(others)}" if others else ""
            found.append((f"{side}held by{share}{also}", strong))
        else:
            found.append((f"{side}held by {' and by '.join(others)}; and", strong))
        return found

    def _holder(self, edge: Edge) -> str:
        node = self.nodes[edge.target]
        marks = [m for m in (edge.label, _CALLED.get(node.state, "")) if m]
        return node.title + (f" ({', '.join(marks)})" if marks else "")

    # -- trees

    def _root(self, node: Node) -> list[Line]:
        self.told.add(node.key)
        if node.shape == "thread":
            text = f"{node.title} ({_CALLED.get(node.state, node.state)})  {node.about}"
        else:
            text = f"{node.title} ({node.about})"
        return [(text, ""), *self._below(self.into[node.key], "")]

    def _below(self, edges: Sequence[Edge], indent: str) -> list[Line]:
        """What a thread holds, or who wants an object, and so on; without recursion, since a chain may be long."""
        found: list[Line] = []
        work = [(e, indent, i == len(edges) - 1) for i, e in enumerate(edges)][::-1]
        while work:
            edge, indent, last = work.pop()
            node = self.nodes[edge.source]
            text = self.signs["last" if last else "fork"]
            if edge.relation == "wants":
                what = f"wants {edge.label}" if edge.label else ""
                text += ", ".join(t for t in (node.title, what, edge.details) if t) + f"  {node.about}"
            else:
                text += f"holds {node.title} ({node.about})" + (f": {edge.label}" if edge.label else "")
            again = node.key in self.told
            if again and self.into[node.key]:
                text += ", see above"
            found.append((indent + text, ""))
            if not again:
                self.told.add(node.key)
                deeper = indent + self.signs["gap" if last else "pipe"]
                more = self.into[node.key]
                work += [(e, deeper, i == len(more) - 1) for i, e in enumerate(more)][::-1]
        return found


_CALLED = {"running": "does not wait", "dead": "dead", "foreign": "does not use syncx"}
