"""Boxes in layers from left to right, for placing.py: who waits stands to the left of what is waited for.

Those that wait for one and the same thing, and for whom nobody waits, are placed as one block of rows and columns: a
hundred threads that wait for a lock are the commonest large picture.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from .shapes import Box, Point, curve, moved

__all__ = ["GAP", "Block", "Edges", "Layers", "Sizes", "Unit", "queues", "spread"]

GAP = 20.0
"""Between boxes."""
BUS = 30.0
"""Between the columns of a queue."""
QUEUE = 5
"""So many that wait for the same thing, and for whom nobody waits, stand in a block."""
ROW = 1300.0
"""A part of many layers is folded into rows of about this width, if it is much wider."""

Sizes = Mapping[str, tuple[float, float]]
Edges = Sequence[tuple[int, str, str]]


class Block:
    """A part of the drawing, in coordinates of its own."""

    def __init__(self) -> None:
        self.boxes: dict[str, Box] = {}
        self.routes: dict[int, list[Point]] = {}
        self.rings: list[tuple[float, float, tuple[str, ...]]] = []

    def extent(self) -> Box:
        points = [p for route in self.routes.values() for p in route]
        xs = [x for b in self.boxes.values() for x in (b.x, b.x + b.w)] + [p[0] for p in points]
        ys = [y for b in self.boxes.values() for y in (b.y, b.y + b.h)] + [p[1] for p in points]
        return Box(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)) if xs else Box(0.0, 0.0, 0.0, 0.0)

    def add(self, other: Block, dx: float, dy: float) -> None:
        self.boxes.update({key: b._replace(x=b.x + dx, y=b.y + dy) for key, b in other.boxes.items()})
        self.routes.update({n: moved(r, dx, dy) for n, r in other.routes.items()})
        self.rings += [(x + dx, y + dy, keys) for x, y, keys in other.rings]

    def mirrored(self) -> Block:
        """The same with left and right changed."""
        new = Block()
        new.boxes = {key: b._replace(x=-b.x - b.w) for key, b in self.boxes.items()}
        new.routes = {n: [(-x, y) for x, y in r] for n, r in self.routes.items()}
        new.rings = [(-x, y, keys) for x, y, keys in self.rings]
        return new


class Unit:
    """A box, or several that are placed as one."""

    def __init__(self, block: Block, out: float) -> None:
        """out: how far below its top the lines to and from it are."""
        self.block = block
        self.out = out
        self.stubs: dict[str, list[Point]] = {}
        """Lines from its boxes to where they leave it."""
        self.entries: dict[str, list[Point]] = {}
        """The same of those that come in."""
        boxes = block.boxes.values()
        self.w = max(b.x + b.w for b in boxes)
        self.h = max(b.y + b.h for b in boxes)

    @classmethod
    def single(cls, key: str, size: tuple[float, float]) -> Unit:
        block = Block()
        block.boxes[key] = Box(0.0, 0.0, *size)
        self = cls(block, size[1] / 2)
        self.stubs[key] = [(size[0], size[1] / 2)]
        self.entries[key] = [(0.0, size[1] / 2)]
        return self

    @classmethod
    def queue(cls, keys: Sequence[str], sizes: Sizes) -> Unit:
        """Rows and columns, with a bus beside each column, and a trunk between two rows that they all lead to."""
        w, h = max(sizes[k][0] for k in keys), max(sizes[k][1] for k in keys)
        pitch, step = w + BUS, h + GAP * 0.7

        def ratio(across: int) -> float:
            return abs(math.log(across * pitch / (math.ceil(len(keys) / across) * step)))

        across = min(range(1, len(keys) + 1), key=ratio)
        down = math.ceil(len(keys) / across)
        trunk = max(1, down // 2) * step - GAP * 0.35 if across > 1 else (down * step - GAP * 0.7) / 2
        block = Block()
        stubs = {}
        for n, key in enumerate(keys):
            row, column = divmod(n, across)
            own_w, own_h = sizes[key]
            x, y = column * pitch + w - own_w, row * step + (h - own_h) / 2
            bus = column * pitch + w + BUS / 2
            block.boxes[key] = Box(x, y, own_w, own_h)
            middle = y + own_h / 2
            stubs[key] = [(x + own_w, middle), (bus, middle), (bus, trunk), (across * pitch, trunk)]
        self = cls(block, trunk)
        self.w = across * pitch
        self.h = max(self.h, trunk + 4)
        self.stubs = stubs
        return self


def queues(sizes: Sizes, edges: Edges, apart: Collection[str]) -> list[list[str]]:
    """Groups of boxes that only point at one and the same other, and are pointed at by none."""
    targets: dict[str, set[str]] = {key: set() for key in sizes}
    for _, a, b in edges:
        targets[a].add(b)
    pointed = {b for _, _, b in edges}
    groups: dict[str, list[str]] = {}
    for key in sizes:
        if key not in pointed and key not in apart and len(targets[key]) == 1:
            groups.setdefault(next(iter(targets[key])), []).append(key)
    return [g for g in groups.values() if len(g) >= QUEUE]


class Layers:
    """A part without cycles, in layers: everything points to the right."""

    def __init__(
        self,
        sizes: Sizes,
        edges: Edges,
        anchors: Sequence[str],
        lane: float,
        *,
        units: Sequence[Unit] = (),
        fold: bool = False,
    ) -> None:
        """anchors: boxes that stand at the right end, in this order, whatever else there is.
        units: what is placed as one already, as a cycle is.
        fold: in several rows where it would be too wide.
        """
        self.block = Block()
        self.lane = lane
        self.anchors = list(anchors)
        whole = {key for u in units for key in u.block.boxes}
        groups = queues(sizes, edges, {*anchors, *whole})
        grouped = {key for g in groups for key in g} | whole
        self.units = [Unit.single(key, sizes[key]) for key in sizes if key not in grouped]
        self.units += [Unit.queue(g, sizes) for g in groups]
        self.units += units
        self.unit_of = {key: n for n, u in enumerate(self.units) for key in u.block.boxes}
        self.edges = [(n, a, b) for n, a, b in edges if self.unit_of[a] != self.unit_of[b]]
        self.links = sorted({(self.unit_of[a], self.unit_of[b]) for _, a, b in self.edges})
        self._assign()
        self._chain()
        self._order()
        self._heights()
        self._write(fold)

    def _assign(self) -> None:
        """Layer 0 is on the right: those that wait for nobody."""
        count = len(self.units)
        after: list[list[int]] = [[] for _ in range(count)]
        before: list[list[int]] = [[] for _ in range(count)]
        for a, b in self.links:
            after[a].append(b)
            before[b].append(a)
        self.layer = [0] * count
        left = [len(a) for a in after]
        ready = [n for n in range(count) if not left[n]]
        for n in ready:  # grows
            for m in before[n]:
                self.layer[m] = max(self.layer[m], self.layer[n] + 1)
                left[m] -= 1
                if not left[m]:
                    ready.append(m)
        fixed = {self.unit_of[key] for key in self.anchors}
        for n in range(count):  # a sink stands next to who points at it
            if not after[n] and before[n] and n not in fixed:
                self.layer[n] = min(self.layer[m] for m in before[n]) - 1

    def _chain(self) -> None:
        """Lines that skip layers get a place of their own in each: items are units, and beyond them such places."""
        self.item_layer = list(self.layer)
        self.paths: dict[tuple[int, int], list[int]] = {}
        self.near: list[list[int]] = [[] for _ in self.units]
        for a, b in self.links:
            path = [a]
            for layer in range(self.layer[a] - 1, self.layer[b], -1):
                self.item_layer.append(layer)
                self.near.append([])
                path.append(len(self.item_layer) - 1)
            path.append(b)
            for one, other in pairwise(path):
                self.near[one].append(other)
                self.near[other].append(one)
            self.paths[a, b] = path

    def _order(self) -> None:
        """Few crossings: each item at the middle of its neighbours, again and again."""
        count = max(self.item_layer) + 1
        self.rows: list[list[int]] = [[] for _ in range(count)]
        fixed = [self.unit_of[key] for key in self.anchors]
        seen: set[int] = set()
        roots = fixed + sorted(range(len(self.units)), key=lambda n: (self.layer[n], n))
        for root in roots:  # depth first, so that a tree has no crossing from the beginning
            stack = [root]
            while stack:
                n = stack.pop()
                if n not in seen:
                    seen.add(n)
                    self.rows[self.item_layer[n]].append(n)
                    stack += reversed([m for m in self.near[n] if m not in seen and m not in fixed])
        for sweep in range(8):
            layers = range(1, count) if sweep % 2 == 0 else range(count - 2, -1, -1)
            for layer in layers:
                if layer == 0 and fixed:
                    continue
                other = layer - 1 if sweep % 2 == 0 else layer + 1
                at = {n: i for i, n in enumerate(self.rows[other])}
                middle = {}
                for i, n in enumerate(self.rows[layer]):
                    places = [at[m] for m in self.near[n] if m in at]
                    middle[n] = sum(places) / len(places) if places else float(i)
                self.rows[layer].sort(key=lambda n: middle[n])

    def _heights(self) -> None:
        """How far down each item's line is: near to those it is connected with."""
        count = len(self.units)
        heights = [u.h for u in self.units] + [4.0] * (len(self.item_layer) - count)
        ports = [u.out for u in self.units] + [2.0] * (len(self.item_layer) - count)
        self.y = y = [0.0] * len(heights)
        for row in self.rows:
            at = 0.0
            for n in row:
                y[n] = at + ports[n]
                at += heights[n] + GAP
        for sweep in range(24):
            layers = range(len(self.rows)) if sweep % 2 == 0 else range(len(self.rows) - 1, -1, -1)
            for layer in layers:
                row = self.rows[layer]
                near = layer - 1 if sweep % 2 == 0 else layer + 1
                wish = []
                for n in row:
                    others = [y[m] for m in self.near[n] if self.item_layer[m] == near] or [y[n]]
                    wish.append(sum(others) / len(others))
                apart = [heights[a] - ports[a] + GAP + ports[b] for a, b in pairwise(row)]
                for n, value in zip(row, spread(wish, apart), strict=True):
                    y[n] = value
        self.ports = ports
        self.heights = heights

    def _strips(self, widths: Sequence[float], fold: bool) -> list[int]:
        """The number of its row for each layer: a fold is where a single line goes from one layer to the next."""
        strip = [0] * len(self.rows)
        if not fold or sum(widths) + self.lane * (len(widths) - 1) < 1.3 * ROW:
            return strip
        lines = [0] * len(self.rows)  # from the layer before, on the left, to this one
        for path in self.paths.values():
            for one in path[:-1]:
                lines[self.item_layer[one] - 1] += 1
        number, width, fit = 0, 0.0, None
        layer = len(self.rows) - 1
        while layer >= 0:
            width += widths[layer] + self.lane
            if width > ROW and fit is not None:
                number += 1
                layer, width, fit = fit, 0.0, None
                strip[layer] = number
                width = widths[layer] + self.lane
            strip[layer] = number
            if layer > 0 and lines[layer - 1] == 1:
                fit = layer - 1
            layer -= 1
        return strip

    def _write(self, fold: bool) -> None:
        widths = [max((self.units[n].w for n in row if n < len(self.units)), default=0.0) for row in self.rows]
        strip = self._strips(widths, fold)
        lefts = [0.0] * len(self.rows)
        x = 0.0
        for layer in range(len(self.rows) - 1, -1, -1):
            if layer < len(self.rows) - 1 and strip[layer] != strip[layer + 1]:
                x = 0.0
            lefts[layer] = x
            x += widths[layer] + self.lane
        downs, ends = self._downs(strip)
        right = max(left + width for left, width in zip(lefts, widths, strict=True))
        starts: dict[str, list[Point]] = {}
        stops: dict[str, list[Point]] = {}
        for n, unit in enumerate(self.units):
            layer = self.layer[n]
            slack = widths[layer] - unit.w
            border = len(unit.block.boxes) > 1 or not unit.w  # a queue, or an anchor
            dx = lefts[layer] + (slack if border else slack / 2)
            dy = self.y[n] - self.ports[n] + downs[strip[layer]]
            self.block.add(unit.block, dx, dy)
            starts.update({key: moved(stub, dx, dy) for key, stub in unit.stubs.items()})
            stops.update({key: moved(entry, dx, dy) for key, entry in unit.entries.items()})
        for number, a, b in self.edges:
            path = self.paths[self.unit_of[a], self.unit_of[b]]
            route = list(starts[a])
            for one, other in pairwise(path):
                from_, to = self.item_layer[one], self.item_layer[other]
                begin = (lefts[from_] + widths[from_], self.y[one] + downs[strip[from_]])
                end = (lefts[to], self.y[other] + downs[strip[to]])
                if strip[from_] == strip[to]:
                    route += curve(begin, end)
                else:  # around the right end of this row, and to the beginning of the next
                    between = ends[strip[from_]] + GAP
                    outside = max(right, begin[0]) + GAP
                    route += [begin, (outside, begin[1]), (outside, between), (-GAP, between), (-GAP, end[1]), end]
            self.block.routes[number] = route + stops[b]

    def _downs(self, strip: Sequence[int]) -> tuple[list[float], list[float]]:
        """How far down each row of layers is moved, and where it ends."""
        downs, ends = [], []
        at = 0.0
        for number in range(max(strip) + 1):
            items = [n for n in range(len(self.y)) if strip[self.item_layer[n]] == number]
            top = min(self.y[n] - self.ports[n] for n in items)
            bottom = max(self.y[n] - self.ports[n] + self.heights[n] for n in items)
            downs.append(at - top)
            ends.append(at + bottom - top)
            at += bottom - top + 2 * GAP
        return downs, ends


def spread(wish: Sequence[float], apart: Sequence[float]) -> list[float]:
    """Positions in the given order, each so far from the one before as `apart` says, as near to the wishes as can be.

    The least sum of squares: neighbours that would come too close form a group around the mean of their wishes (the
    pool-adjacent-violators algorithm; Ayer et al. 1955).
    """
    offsets = [0.0]
    for gap in apart:
        offsets.append(offsets[-1] + gap)
    groups: list[tuple[float, int]] = []  # sum and number of the wishes, less the offsets
    for value, offset in zip(wish, offsets, strict=False):
        total, number = value - offset, 1
        while groups and groups[-1][0] / groups[-1][1] >= total / number:
            total, number = total + groups[-1][0], number + groups[-1][1]
            groups.pop()
        groups.append((total, number))
    means = [total / number for total, number in groups for _ in range(number)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=False)]
