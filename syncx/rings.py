"""Cycles as circles, and what hangs on them, for placing.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from .layers import GAP, Block, Edges, Layers, Sizes, Unit, queues, spread
from .shapes import Box, Point, around, clipped, curve, distance, hits, unconnected

__all__ = ["Around"]

BETWEEN = 32.0
"""From box to box on a circle: an arrow must be seen."""
LARGE = 20
"""A ring of more boxes than this is an oval: two columns, every second box on an inner track."""
HALL = 170.0
"""Room inside an oval."""


class Around:
    """A part with cycles: the largest of them a circle, and what hangs on it in layers to its left and right."""

    def __init__(self, sizes: Sizes, edges: Edges, cycles: Sequence[Sequence[str]], lane: float) -> None:
        self.sizes, self.edges, self.lane = sizes, edges, lane
        core = max(cycles, key=len)
        self.core = set(core)
        self.block = circle(core, sizes, edges)
        self.others = [c for c in cycles if c is not core]
        boxes = self.block.boxes
        self.middle = sum(b.centre[0] for b in boxes.values()) / len(boxes)
        outside = [key for key in sizes if key not in self.core]
        inner = [(a, b) for _, a, b in edges if a not in self.core and b not in self.core]
        # those that wait for one and the same stay together
        together = [pair for group in queues(sizes, edges, self.core) for pair in pairwise(group)]
        self._stand([self._piece(keys) for keys in unconnected(outside, inner + together)])
        for number, a, b in edges:
            if number not in self.block.routes:
                self.block.routes[number] = best_line(a, b, self.block.boxes)

    def _piece(self, keys: set[str]) -> _Piece:
        """What is connected once the circle is taken away."""
        sizes = {key: self.sizes[key] for key in self.sizes if key in keys}
        edges = [(n, a, b) for n, a, b in self.edges if a in keys and b in keys]
        units = [ring_unit(c, self.sizes, edges) for c in self.others if c[0] in keys]
        inward = [(n, a, b) for n, a, b in self.edges if a in keys and b in self.core]
        outward = [(n, a, b) for n, a, b in self.edges if a in self.core and b in keys]
        boxes = self.block.boxes
        members = {b for _, _, b in inward} | {a for _, a, _ in outward}
        ordered = sorted(members, key=lambda key: (boxes[key].centre[1], key))
        if inward:
            anchors = [_anchor(key) for key in ordered if any(key == b for _, _, b in inward)]
            edges += [(n, a, _anchor(b)) for n, a, b in inward]
        else:
            anchors = []
        sizes.update(dict.fromkeys(anchors, (0.0, 4.0)))
        block = Layers(sizes, edges, anchors, self.lane, units=units).block
        return _Piece(block, not inward, ordered, {a[1:]: block.boxes.pop(a).centre[1] for a in anchors})

    def _stand(self, pieces: Sequence[_Piece]) -> None:
        """Each piece on the side of the ring where its lines end, as near to their height as can be."""
        ring = self.block.extent()
        boxes = dict(self.block.boxes)
        sides: dict[bool, list[_Piece]] = {False: [], True: []}
        loads = {False: 0.0, True: 0.0}
        lean = {id(p): sum(boxes[m].centre[0] - self.middle for m in p.members) / len(p.members) for p in pieces}
        for piece in sorted(pieces, key=lambda p: -abs(lean[id(p)])):
            right = lean[id(piece)] > 0
            if abs(lean[id(piece)]) < ring.w / 10:
                right = loads[True] < loads[False]
            sides[right].append(piece)
            loads[right] += piece.block.extent().h + 2 * GAP
        for right, found in sides.items():
            lines = sum(len(p.anchors) or 1 for p in found)
            room = self.lane + min(24.0 + 8.0 * lines, 220.0)
            for piece in found:
                # its lines lead to the right as it was made
                if right != piece.away:
                    piece.block = piece.block.mirrored()
                own = (
                    sum(piece.anchors.values()) / len(piece.anchors)
                    if piece.anchors
                    else piece.block.extent().centre[1]
                )
                wish = sum(boxes[m].centre[1] for m in piece.members) / len(piece.members)
                piece.wish = wish - own + piece.block.extent().y
            found.sort(key=lambda p: p.wish)
            heights = [p.block.extent().h for p in found]
            tops = spread([p.wish for p in found], [h + 1.6 * GAP for h in heights[:-1]])
            for piece, top in zip(found, tops, strict=True):
                e = piece.block.extent()
                dx = ring.x + ring.w + room - e.x if right else ring.x - room - e.x - e.w
                dy = top - e.y
                self.block.add(piece.block, dx, dy)
                for member, y in piece.anchors.items():
                    end = ring.x + ring.w + room if right else ring.x - room
                    self._lead(member, (end, y + dy), right, ring)

    def _lead(self, member: str, start: Point, right: bool, ring: Box) -> None:
        """From where the lines to a member of the ring leave their piece to that member."""
        box = self.block.boxes[member]
        near = (ring.x + ring.w + 16.0 if right else ring.x - 16.0, box.centre[1])
        end = (box.x + box.w if right else box.x, box.centre[1])
        line = [*curve(start, near), end]
        others = [b for key, b in self.block.boxes.items() if key != member]
        least = hits(line, others, 3.0)
        for bulge in (0.0, 0.12, -0.12, 0.25, -0.25, 0.4, -0.4):
            if not least:
                break
            way = clipped(around(start, box.centre, bulge), None, box)
            wrong = hits(way, others, 3.0)
            if wrong < least:
                line, least = way, wrong
        for number, a, b in self.edges:
            if b == member and a not in self.core and number in self.block.routes:
                route = self.block.routes[number]
                if abs(route[-1][0] - start[0]) < 1 and abs(route[-1][1] - start[1]) < 1:
                    self.block.routes[number] = route + line


class _Piece:
    def __init__(self, block: Block, away: bool, members: Sequence[str], anchors: Mapping[str, float]) -> None:
        self.block = block
        self.away = away
        """Its lines lead away from the ring."""
        self.members = members
        """Of the ring, those that it is connected with."""
        self.anchors = anchors
        """Those that its lines lead to, and how far down these end."""
        self.wish = 0.0


def _anchor(key: str) -> str:
    return "\0" + key


def ring_unit(core: Sequence[str], sizes: Sizes, edges: Edges) -> Unit:
    """A cycle as one thing among the layers."""
    ring = circle(core, sizes, edges)
    for number, a, b in edges:
        if a in ring.boxes and b in ring.boxes and number not in ring.routes:
            ring.routes[number] = best_line(a, b, ring.boxes)
    e = ring.extent()
    block = Block()
    block.add(ring, GAP - e.x, -e.y)
    unit = Unit(block, e.h / 2)
    unit.w, unit.h = e.w + 2 * GAP, e.h
    for key, box in block.boxes.items():
        unit.stubs[key] = [*clipped([box.centre, (e.w + GAP, unit.out)], box, None), (unit.w, unit.out)]
        unit.entries[key] = [(0.0, unit.out), *clipped([(GAP, unit.out), box.centre], None, box)]
    return unit


def best_line(a: str, b: str, boxes: Mapping[str, Box]) -> list[Point]:
    """A line between two boxes, bent as little as may be so that it meets no other."""
    others = [box for key, box in boxes.items() if key not in (a, b)]
    best: list[Point] = []
    least = math.inf
    for bulge in (0.0, 0.12, -0.12, 0.25, -0.25, 0.45, -0.45, 0.8, -0.8):
        line = clipped(around(boxes[a].centre, boxes[b].centre, bulge), boxes[a], boxes[b])
        wrong = hits(line, others, 3.0)
        if wrong < least:
            best, least = line, wrong
        if not wrong:
            break
    return best


# ---- a single ring ---------------------------------------------------------------------------------------------------


def circle(core: Sequence[str], sizes: Sizes, edges: Edges) -> Block:
    """The boxes of a cycle, around the point (0, 0), and the lines along it."""
    after: dict[str, list[str]] = {key: [] for key in core}
    for _, a, b in edges:
        if a in after and b in after:
            after[a].append(b)
    order = longest_cycle(core, after)
    block = Block()
    follows = dict(zip(order, order[1:] + order[:1], strict=True))
    if len(order) > LARGE:
        block.boxes = _oval(order, sizes)
        for number, a, b in edges:
            if follows.get(a) == b:
                block.routes[number] = best_line(a, b, block.boxes)
    else:
        radius, angles = _circle(order, sizes)
        block.boxes = _on_circle(order, sizes, radius, angles)
        for number, a, b in edges:
            if follows.get(a) == b:
                begin, end = angles[a], angles[b]
                end += 2 * math.pi if end <= begin else 0.0
                steps = max(12, int((end - begin) * 24))
                turns = [begin + (end - begin) * i / steps for i in range(steps + 1)]
                points = [(radius * math.cos(t), radius * math.sin(t)) for t in turns]
                block.routes[number] = clipped(points, block.boxes[a], block.boxes[b])
    block.rings.append((0.0, 0.0, tuple(order)))
    return block


def longest_cycle(core: Sequence[str], after: Mapping[str, Sequence[str]]) -> list[str]:
    """A long cycle through the core, and the rest of the core put in beside what it hangs on."""
    best: list[str] = []
    for start in list(core)[:16]:
        path, seen = [start], {start}
        while True:
            ways = [b for b in after[path[-1]] if b not in seen]
            if not ways:
                break
            path.append(min(ways, key=lambda b: len([c for c in after[b] if c not in seen])))
            seen.add(path[-1])
        while path and start not in after[path[-1]]:
            path.pop()
        if len(path) > len(best):
            best = path
        if len(best) == len(core):
            break
    best = best or list(core[:1])
    rest = [key for key in core if key not in best]
    while rest:
        key, at = next((key, i) for key in rest for i, b in enumerate(best) if key in after[b])
        best.insert(at + 1, key)
        rest.remove(key)
    return best


def _on_circle(order: Sequence[str], sizes: Sizes, radius: float, angles: Mapping[str, float]) -> dict[str, Box]:
    found = {}
    for key in order:
        w, h = sizes[key]
        found[key] = Box(radius * math.cos(angles[key]) - w / 2, radius * math.sin(angles[key]) - h / 2, w, h)
    return found


def _roomy(boxes: Sequence[Box]) -> bool:
    """Have neighbours room for an arrow between them, and others half of that?"""
    last = len(boxes) - 1
    return all(
        distance(one, boxes[j]) >= (BETWEEN if i - j in (1, last) else BETWEEN / 2)
        for i, one in enumerate(boxes)
        for j in range(i)
    )


def _circle(order: Sequence[str], sizes: Sizes) -> tuple[float, dict[str, float]]:
    """The least radius that does, and the angles."""
    turn = 2 * math.pi / len(order)
    best: tuple[float, dict[str, float]] | None = None
    for start in (-math.pi / 2, -math.pi / 2 + turn / 2, -math.pi / 2 + turn):
        angles = {key: start + i * turn for i, key in enumerate(order)}
        radius = 60.0
        while not _roomy(list(_on_circle(order, sizes, radius, angles).values())):
            radius *= 1.03
        if best is None or radius < best[0] * 0.97:
            best = radius, angles
    assert best is not None
    return best


def _oval(order: Sequence[str], sizes: Sizes) -> dict[str, Box]:
    """Down a column on the right and up one on the left; every second box stands further in, between two others."""
    outer, inner = order[::2], order[1::2]
    wide, narrow = max(sizes[k][0] for k in outer), max(sizes[k][0] for k in inner)
    pitch = max(max(sizes[k][1] for k in outer) + GAP, max(sizes[k][1] for k in inner) + GAP)
    half = math.ceil(len(outer) / 2)
    gate = HALL / 2 + narrow / 2
    wall = gate + narrow / 2 + 30.0 + wide / 2
    places: dict[str, Point] = {}
    for i, key in enumerate(outer):
        places[key] = (wall, i * pitch) if i < half else (-wall, (2 * half - 1 - i) * pitch)
    for i, key in enumerate(inner):
        if i + 1 == half:
            places[key] = (0.0, (half - 0.5) * pitch + GAP)
        elif i + 1 == len(outer):
            places[key] = (0.0, min(0.0, (2 * half - len(outer)) * pitch) - pitch / 2 - GAP)
        else:
            places[key] = (gate, (i + 0.5) * pitch) if i + 1 < half else (-gate, (2 * half - 1.5 - i) * pitch)
    middle = (half - 1) * pitch / 2
    return {
        key: Box(x - sizes[key][0] / 2, y - middle - sizes[key][1] / 2, *sizes[key]) for key, (x, y) in places.items()
    }
