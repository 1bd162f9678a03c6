"""Boxes, lines and graphs, as far as a drawing needs them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

__all__ = [
    "Box",
    "Point",
    "around",
    "clipped",
    "crosses",
    "curve",
    "distance",
    "extent",
    "hits",
    "moved",
    "strongly_connected",
    "unconnected",
]

Point = tuple[float, float]


class Box(NamedTuple):
    """A rectangle: its upper left corner, width and height."""

    x: float
    y: float
    w: float
    h: float

    @property
    def centre(self) -> Point:
        return self.x + self.w / 2, self.y + self.h / 2

    def near(self, other: Box, gap: float) -> bool:
        """Is there less than that between the two, along both axes?"""
        return (
            self.x < other.x + other.w + gap
            and other.x < self.x + self.w + gap
            and self.y < other.y + other.h + gap
            and other.y < self.y + self.h + gap
        )

    def contains(self, p: Point) -> bool:
        return self.x <= p[0] <= self.x + self.w and self.y <= p[1] <= self.y + self.h


def distance(a: Box, b: Box) -> float:
    """Between the nearest points of two boxes; 0 where they touch or overlap."""
    dx = max(a.x - b.x - b.w, b.x - a.x - a.w, 0.0)
    dy = max(a.y - b.y - b.h, b.y - a.y - a.h, 0.0)
    return math.hypot(dx, dy)


def moved(points: Iterable[Point], dx: float, dy: float) -> list[Point]:
    return [(x + dx, y + dy) for x, y in points]


def _cuts(a: Point, b: Point, box: Box, margin: float) -> bool:
    """Does the line from a to b meet the box, widened by a margin?  (Liang and Barsky 1984.)"""
    t0, t1 = 0.0, 1.0
    for at, d, low, high in (
        (a[0], b[0] - a[0], box.x - margin, box.x + box.w + margin),
        (a[1], b[1] - a[1], box.y - margin, box.y + box.h + margin),
    ):
        if abs(d) < 1e-9:
            if at <= low or at >= high:
                return False
            continue
        one, other = (low - at) / d, (high - at) / d
        t0, t1 = max(t0, min(one, other)), min(t1, max(one, other))
        if t0 >= t1:
            return False
    return True


def crosses(line: Sequence[Point], box: Box, margin: float) -> bool:
    """Does a line with corners meet the box, widened by a margin?"""
    return any(_cuts(a, b, box, margin) for a, b in pairwise(line))


def extent(line: Sequence[Point]) -> Box:
    """The smallest box around a line."""
    xs, ys = [p[0] for p in line], [p[1] for p in line]
    return Box(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))


def hits(line: Sequence[Point], boxes: Iterable[Box], margin: float) -> int:
    """How many of the boxes the line meets."""
    around_it = extent(line)
    return sum(1 for b in boxes if around_it.near(b, margin) and crosses(line, b, margin))


def curve(a: Point, b: Point, steps: int = 20) -> list[Point]:
    """From a to b, level at both ends."""
    if abs(a[1] - b[1]) < 0.5:
        return [a, b]
    middle = (a[0] + b[0]) / 2
    points = []
    for i in range(steps + 1):
        t = i / steps
        u = 1 - t
        points.append(
            (
                u**3 * a[0] + 3 * u * t * middle + t**3 * b[0],  # both inner points of the Bézier curve lie there
                u**3 * a[1] + 3 * u * u * t * a[1] + 3 * u * t * t * b[1] + t**3 * b[1],
            )
        )
    return points


def around(a: Point, b: Point, bulge: float, steps: int = 20) -> list[Point]:
    """From a to b, bent aside by that part of the way."""
    if bulge == 0:
        return [a, b]
    dx, dy = b[0] - a[0], b[1] - a[1]
    aside = ((a[0] + b[0]) / 2 - dy * bulge * 2, (a[1] + b[1]) / 2 + dx * bulge * 2)
    points = []
    for i in range(steps + 1):
        t = i / steps
        u = 1 - t
        points.append(
            (u * u * a[0] + 2 * u * t * aside[0] + t * t * b[0], u * u * a[1] + 2 * u * t * aside[1] + t * t * b[1])
        )
    return points


def _border(inside: Point, outside: Point, box: Box) -> Point:
    """Where the line from a point in the box to one outside leaves it."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        p = (inside[0] + (outside[0] - inside[0]) * middle, inside[1] + (outside[1] - inside[1]) * middle)
        if box.contains(p):
            low = middle
        else:
            high = middle
    return inside[0] + (outside[0] - inside[0]) * high, inside[1] + (outside[1] - inside[1]) * high


def clipped(line: Sequence[Point], start: Box | None, end: Box | None) -> list[Point]:
    """The part of a line from one box to another that lies between them."""
    points = list(line)
    if start is not None:
        last = max((i for i, p in enumerate(points) if start.contains(p)), default=-1)
        if 0 <= last < len(points) - 1:
            points = [_border(points[last], points[last + 1], start), *points[last + 1 :]]
    if end is not None:
        first = min((i for i, p in enumerate(points) if end.contains(p)), default=len(points))
        if 0 < first < len(points):
            points = [*points[:first], _border(points[first], points[first - 1], end)]
    return points


# ---- graphs ----------------------------------------------------------------------------------------------------------


def unconnected(keys: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[set[str]]:
    """The parts of a graph that have nothing to do with each other, in the order of their first members."""
    leader = {key: key for key in keys}

    def find(key: str) -> str:
        while leader[key] != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    for a, b in edges:
        leader[find(b)] = find(a)
    parts: dict[str, set[str]] = {}
    for key in keys:
        parts.setdefault(find(key), set()).add(key)
    return list(parts.values())


def strongly_connected(keys: Iterable[str], out: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The strongly connected components (Tarjan 1972), without recursion; a cycle is in one of them, whole."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[list[str]] = []
    for root in keys:
        if root in number:
            continue
        work = [(root, iter(out[root]))]
        number[root] = low[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        while work:
            key, ways = work[-1]
            for way in ways:
                if way not in number:
                    number[way] = low[way] = len(number)
                    stack.append(way)
                    on_stack.add(way)
                    work.append((way, iter(out[way])))
                    break
                if way in on_stack:
                    low[key] = min(low[key], number[way])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[key])
                if low[key] == number[key]:
                    part = []
                    while True:
                        one = stack.pop()
                        on_stack.discard(one)
                        part.append(one)
                        if one == key:
                            break
                    found.append(part[::-1])
    return found
