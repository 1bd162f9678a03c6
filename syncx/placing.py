"""Where the boxes of a drawing go, and the lines between them: rings as circles, chains as layers, the rest beside.

Boxes are only sizes and names here.  What is promised: no two boxes overlap, and a line keeps to the outside of boxes
that it does not belong to, where that can be had.  What is unconnected is placed side by side.  A part without a cycle
is drawn in layers from left to right, each line leading to the right (Sugiyama, Tagawa, Toda 1981), in several rows if
it is long.  In a part with cycles the largest of them becomes a circle, or an oval of two columns if it is large, and
what hangs on it stands in layers to its left and right.  rings.py makes the circles, layers.py the layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .layers import Block, Layers
from .rings import Around
from .shapes import Box, Point, strongly_connected, unconnected

__all__ = ["Placed", "place"]

BESIDE = 46.0
"""Between parts that have nothing to do with each other."""
SHAPES = (1.0, 1.15, 1.35, 1.6, 2.0, 2.5)
"""How much wider than the widest part the whole may be, to see what gives the best shape."""


class Placed(NamedTuple):
    """A drawing: everything lies within (0, 0) and (width, height)."""

    width: float
    height: float
    boxes: dict[str, Box]
    routes: dict[int, list[Point]]
    """Of each edge, by its number, the corners of its line, from box to box."""
    rings: list[tuple[float, float, tuple[str, ...]]]
    """The centre of each circle or oval, and what is on it."""


def place(sizes: Mapping[str, tuple[float, float]], edges: Sequence[tuple[str, str]], *, lane: float = 56.0) -> Placed:
    """Places boxes of these sizes, with a line for each edge.

    sizes: width and height of each box, by its name; the earlier ones come first where there is a choice.
    edges: from which box to which; both must be there.
    lane: the room between layers, for lines and their labels.

    The same input gives the same drawing.  Takes time in proportion to the square of the number of boxes at most.
    """
    out: dict[str, list[str]] = {key: [] for key in sizes}
    for a, b in edges:
        out[a].append(b)
    blocks = []
    for keys in unconnected(list(sizes), edges):
        own = [(n, a, b) for n, (a, b) in enumerate(edges) if a in keys]
        part = {key: sizes[key] for key in sizes if key in keys}
        cycles = [c for c in strongly_connected(part, out) if len(c) > 1]
        block = Around(part, own, cycles, lane).block if cycles else Layers(part, own, (), lane, fold=True).block
        blocks.append((not cycles, block))
    blocks.sort(key=lambda b: b[0])  # knots first
    return _packed([block for _, block in blocks])


def _packed(blocks: Sequence[Block]) -> Placed:
    """Side by side, in rows, as wide as gives the best shape."""
    extents = [b.extent() for b in blocks]
    widest = max((e.w for e in extents), default=0.0)
    area = sum((e.w + BESIDE) * (e.h + BESIDE) for e in extents)
    best: Block | None = None
    least = math.inf
    for factor in SHAPES:
        whole = _rows(blocks, extents, max(widest * factor, math.sqrt(area)))
        e = whole.extent()
        if max(e.w / 1.5, e.h) < least:
            best, least = whole, max(e.w / 1.5, e.h)
    if best is None or not best.boxes:
        return Placed(0.0, 0.0, {}, {}, [])
    e = best.extent()
    whole = Block()
    whole.add(best, -e.x, -e.y)
    return Placed(e.w, e.h, whole.boxes, whole.routes, whole.rings)


def _rows(blocks: Sequence[Block], extents: Sequence[Box], width: float) -> Block:
    whole = Block()
    x = y = row = 0.0
    for block, e in zip(blocks, extents, strict=True):
        if x > 0 and x + e.w > width:
            x, y, row = 0.0, y + row + BESIDE, 0.0
        whole.add(block, x - e.x, y - e.y)
        x += e.w + BESIDE
        row = max(row, e.h)
    return whole
