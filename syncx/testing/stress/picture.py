"""A storm as an SVG drawing that needs nothing else: how long each had to wait, how soon after a death others went on,
and how operations and deaths came in."""

from __future__ import annotations

import math
from xml.sax.saxutils import escape

from syncx.terminal import duration

from .figures import Histogram, Outcome

__all__ = ["svg"]

WIDTH, LEFT, RIGHT = 880, 130, 150
_STYLE = """
text{font:12px ui-monospace,'DejaVu Sans Mono','Liberation Mono',Menlo,Consolas,monospace;fill:#1b1f24}
.paper{fill:#fff}.soft{fill:#57606a}.title{font-weight:bold;font-size:15px}.bad{fill:#b3261e;font-weight:bold}
.grid{stroke:#d0d7de;stroke-width:1}.axis{fill:none}.half{fill:#33597f}.most{fill:#9dbbd8}.tail{fill:#dde8f2}.death{fill:#b3261e}
.line{fill:none;stroke:#33597f;stroke-width:2}.deaths{fill:none;stroke:#b3261e;stroke-width:2;stroke-dasharray:5 3}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.paper{fill:#0d1117}.soft{fill:#9da7b3}.bad{fill:#ff7b72}
.grid{stroke:#30363d}.half{fill:#79b8ff}.most{fill:#3b6ea5}.tail{fill:#1b2f45}.death{fill:#ff7b72}.line{stroke:#79b8ff}
.deaths{stroke:#ff7b72}}
"""


class _Sheet:
    """Lines of SVG, from the top down."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.y = 0.0

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        self.out.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>')

    def box(self, x: float, y: float, w: float, h: float, kind: str, tip: str = "") -> None:
        title = f"<title>{escape(tip)}</title>" if tip else ""
        self.out.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(w, 0.5):.1f}" height="{h:.1f}" class="{kind}">{title}</rect>'
        )

    def line(self, points: list[tuple[float, float]], kind: str) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.out.append(f'<polyline points="{path}" class="{kind}"/>')


class _Scale:
    """Nanoseconds, logarithmic, between two powers of ten."""

    def __init__(self, least: int, most: int) -> None:
        self.low = math.floor(math.log10(max(least, 100)))
        self.high = max(math.ceil(math.log10(max(most, 1000))), self.low + 1)

    def x(self, ns: float) -> float:
        part = (math.log10(max(ns, 10**self.low)) - self.low) / (self.high - self.low)
        return LEFT + part * (WIDTH - LEFT - RIGHT)


def svg(outcome: Outcome) -> str:
    """The drawing."""
    sheet, o = _Sheet(), outcome
    sheet.text(20, 30, f"syncx stress: {o.operations:,} operations, {o.deaths:,} deaths, {o.violations:,} violations",
               "title")  # fmt: skip
    about = f"{duration(o.seconds)}, {o.processes} processes of {o.threads} threads, seed {o.seed}, "
    sheet.text(20, 50, about + f"{o.told:,} recoveries, {o.stops:,} stops, {o.signals:,} signals, {o.forks:,} forks",
               "soft")  # fmt: skip
    sheet.y = 84
    if o.waits:
        _waits(sheet, o)
    if o.progress.total:
        _progress(sheet, o.progress)
    if len(o.timeline) > 1:
        _timeline(sheet, o)
    if o.violations:
        for text in [*o.live, *o.replayed, *o.watched][:5]:
            sheet.text(20, sheet.y, text.splitlines()[0][:110], "bad")
            sheet.y += 18
    height = sheet.y + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" role="img"><title>syncx stress</title><style>{_STYLE}</style>'
        f'<rect class="paper" width="{WIDTH}" height="{height:.0f}"/>\n' + "\n".join(sheet.out) + "\n</svg>\n"
    )


def _grid(sheet: _Sheet, scale: _Scale, top: float, bottom: float) -> None:
    for power in range(scale.low, scale.high + 1):
        x = scale.x(10**power)
        sheet.line([(x, top), (x, bottom)], "grid")
        sheet.text(x, bottom + 14, duration(10**power / 1e9), "soft", "middle")


def _waits(sheet: _Sheet, o: Outcome) -> None:
    rows = sorted(o.waits.items())
    scale = _Scale(min(h.at(0.5) for _, h in rows), max(h.most for _, h in rows))
    sheet.text(20, sheet.y, "How long it took to get it: median, 99 of 100, the longest")
    top = sheet.y + 12
    _grid(sheet, scale, top, top + 24 * len(rows))
    for n, (topic, h) in enumerate(rows):
        y = top + 24 * n + 4
        sheet.text(LEFT - 10, y + 12, topic, "", "end")
        parts = [(h.most, "tail", 4.0), (h.at(0.99), "most", 2.0), (h.at(0.5), "half", 0.0)]
        for ns, kind, inset in parts:
            sheet.box(LEFT, y + inset / 2, scale.x(ns) - LEFT, 16 - inset, kind, f"{topic}: {duration(ns / 1e9)}")
        sheet.text(scale.x(h.most) + 6, y + 12, f"{h.total:,} times", "soft")
    sheet.y = top + 24 * len(rows) + 44


def _progress(sheet: _Sheet, progress: Histogram) -> None:
    bars = progress.bars()
    scale = _Scale(bars[0][0], progress.most)
    sheet.text(
        20,
        sheet.y,
        f"From a death to the next holder, which waited: median {duration(progress.at(0.5) / 1e9)}, "
        f"99 of 100 {duration(progress.at(0.99) / 1e9)}, at most {duration(progress.most / 1e9)}",
    )
    top, height = sheet.y + 12, 90.0
    _grid(sheet, scale, top, top + height)
    most = max(count for _, count in bars)
    for ns, count in bars:
        x, w = scale.x(ns), scale.x(2 * ns) - scale.x(ns)
        h = height * count / most
        sheet.box(x + 1, top + height - h, w - 2, h, "death", f"{count} from {duration(ns / 1e9)}")
    sheet.y = top + height + 44


def _timeline(sheet: _Sheet, o: Outcome) -> None:
    points = [(0.0, 0, 0), *o.timeline]
    sheet.text(20, sheet.y, "Operations (line) and deaths (dashes) as they came in")
    top, height, wide = sheet.y + 12, 90.0, WIDTH - LEFT - RIGHT
    end = points[-1][0]
    sheet.line([(LEFT, top), (LEFT, top + height), (LEFT + wide, top + height)], "grid axis")
    for which, kind, name in ((1, "line", "operations"), (2, "deaths", "deaths")):
        most = max(p[which] for p in points) or 1
        way = [(LEFT + wide * p[0] / end, top + height - height * p[which] / most) for p in points]
        sheet.line(way, kind)
        sheet.text(LEFT + wide + 8, top + (12 if which == 1 else 28), f"{most:,} {name}", "soft")
    sheet.text(LEFT, top + height + 14, "0", "soft", "middle")
    sheet.text(LEFT + wide, top + height + 14, duration(end), "soft", "middle")
    sheet.y = top + height + 44
