"""A history as one can read it: a timeline as text, and as SVG."""

from __future__ import annotations

from html import escape

from .history import DEATH, NEVER, Call, History, spelled
from .search import Verdict

WIDTH = 64
"""Columns of the text's time axis."""


def _end(history: History) -> int:
    return max((c.returned for c in history if c.returned != NEVER), default=history.start) + 1


def _label(call: Call) -> str:
    return "killed" if call.name == DEATH else str(call)


def timeline(history: History, verdict: Verdict | None = None) -> str:
    """One line for each call, in order of invocation, grouped by thread: when it was called and returned (microseconds
    since the start), drawn to scale, and what came of it.  A call that could not be placed is marked with "!"."""
    start, end = history.start, _end(history)
    scale = WIDTH / max(end - start, 1)
    stuck = {id(c) for c in verdict.stuck} if verdict is not None and not verdict else set()
    lines = [f"{history.primitive} {history.parameters or ''} {history.origin}".rstrip()]
    for calls in history.threads:
        if not calls:
            continue
        lines.append(f"thread {calls[0].who} of process {calls[0].process}")
        for c in calls:
            left = round((c.invoked - start) * scale)
            right = WIDTH if c.returned == NEVER else max(left + 1, round((c.returned - start) * scale))
            body = "x" if c.name == DEATH else "?" if c.unknown else "="
            bar = " " * left + body * (right - left)
            returned = "never" if c.returned == NEVER else f"{(c.returned - start) / 1000:.1f}"
            mark = "!" if id(c) in stuck else " "
            lines.append(f" {mark} {(c.invoked - start) / 1000:>9.1f} {returned:>9} |{bar:<{WIDTH}}| {_label(c)}")
    return "\n".join(lines)


def explanation(verdict: Verdict) -> str:
    """The order that was found, or how far one comes and what could not be next."""
    lines = []
    head = "an order that the specification allows:" if verdict else "the longest order that the specification allows:"
    lines.append(head)
    for call, stage, state in verdict.order:
        what = f"{call.name}{call.arguments} is now at the stage {stage!r}" if stage else _label(call)
        lines.append(f"  thread {call.who}: {what}".ljust(60) + f"  {_state(state)}")
    if not verdict:
        lines.append("after that none of these could be next:")
        lines += [f"  thread {c.who}: {_label(c)}" for c in verdict.stuck]
    lines.append(f"{verdict.states} configurations were looked at")
    return "\n".join(lines)


def _state(state: object) -> str:
    if isinstance(state, tuple) and hasattr(state, "_fields"):  # only what is not as in a new object
        new = type(state)()
        changed = (f"{k}={_state(getattr(state, k))}" for k in state._fields if getattr(state, k) != getattr(new, k))
        return f"{type(state).__name__}({', '.join(changed)})"
    if isinstance(state, frozenset):
        return "{" + ", ".join(sorted(map(str, state))) + "}"
    return str(state)


LANE, CALL, LEFT, SCALE = 26, 18, 150, 1000


def svg(history: History, verdict: Verdict | None = None) -> str:
    """The same as a drawing: a lane for each thread, red is what could not be placed; titles tell all of a call."""
    start, end = history.start, _end(history)
    stuck = {id(c) for c in verdict.stuck} if verdict is not None and not verdict else set()

    def x(t: int) -> float:
        return LEFT + (min(t, end) - start) * SCALE / max(end - start, 1)

    parts, top = [], 50
    for calls in history.threads:
        if not calls:
            continue
        rows: list[float] = []  # where each row of this lane is free again: the names need room
        lane_top = top
        for c in calls:
            text = f"{c.name}({', '.join(map(str, c.arguments))}) {spelled(c.result)}"
            text = "killed" if c.name == DEATH else text
            room = max(x(c.returned), x(c.invoked) + 6.2 * len(text) + 10)
            row = next((i for i, free in enumerate(rows) if free <= x(c.invoked)), len(rows))
            rows[row : row + 1] = [room]
            y = lane_top + row * LANE
            kind = "stuck" if id(c) in stuck else "death" if c.name == DEATH else "unknown" if c.unknown else "call"
            width = max(x(c.returned) - x(c.invoked), 2)
            times = f"{(c.invoked - start) / 1000:.1f} to "
            times += "never" if c.returned == NEVER else f"{(c.returned - start) / 1000:.1f}"
            parts.append(
                f'<g class="{kind}"><title>{escape(_label(c))}: {times} us</title>'
                f'<rect x="{x(c.invoked):.1f}" y="{y}" width="{width:.1f}" height="{CALL}" rx="3"/>'
                f'<text x="{x(c.invoked) + 4:.1f}" y="{y + 13}">{escape(text)}</text></g>'
            )
        parts.append(
            f'<text x="10" y="{lane_top + 13}">thread {calls[0].who}, process {calls[0].process}</text>'
            f'<line x1="10" y1="{lane_top - 6}" x2="{LEFT + SCALE + 40}" y2="{lane_top - 6}" stroke="#ccc"/>'
        )
        top = lane_top + len(rows) * LANE + 12
    title = f"{history.primitive}: {history.origin}"
    length = (end - start) / 1000
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + SCALE + 160} {top + 30}" '
        'font-family="sans-serif" font-size="11">\n<style>rect{stroke-width:1} .call rect{fill:#cfe3f7;stroke:#4a7fb5} '
        ".unknown rect{fill:#fff3c4;stroke:#b58900;stroke-dasharray:3} .death rect{fill:#444;stroke:#000} "
        ".death text{fill:#fff} .stuck rect{fill:#f7c4c4;stroke:#c00}</style>\n"
        f'<rect width="100%" height="100%" fill="#fff"/><text x="10" y="24" font-size="14">{escape(title)}</text>\n'
        + "\n".join(parts)
        + f'\n<text x="{LEFT}" y="{top + 14}">0</text><text x="{LEFT + SCALE}" y="{top + 14}">{length:.0f} us</text>\n'
        + "</svg>\n"
    )
