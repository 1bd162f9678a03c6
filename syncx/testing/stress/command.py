"""`syncx stress`, from its options to its exit status."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from syncx.terminal import Screen

from .control import Storm
from .figures import Outcome
from .report import as_json, say
from .worker import SCENES

__all__ = ["main"]


def main(
    topics: Sequence[str],
    *,
    seconds: float,
    processes: int | None,
    kill: float,
    seed: int | None,
    svg: str | None,
    json_file: str | None,
    quiet: bool,
    stream: TextIO | None = None,
) -> int:
    """Returns 0, or 1 where something was wrong."""
    topics = list(SCENES) if not topics or "all" in topics else list(dict.fromkeys(topics))
    if processes is None:
        processes = max(4, min(2 * len(os.sched_getaffinity(0)), 16))
    if seed is None:
        seed = time.time_ns() // 1_000_000 % 1_000_000
    for path in (svg, json_file):  # known before the storm, not after it
        if path is not None:
            with open(path, "a"):
                pass
    screen = Screen(sys.stdout if stream is None else stream)
    if not quiet:
        what = "everything" if len(topics) == len(SCENES) else ", ".join(topics)
        screen.say(
            f"syncx stress: {what}, by {processes} processes of 2 threads, for {seconds:g} s, seed {seed}", "bold"
        )
    with screen.progress("starting", round(seconds * 10)) as bar:
        start = time.monotonic()

        def tell(o: Outcome) -> None:
            now = time.monotonic() - start
            bar.update(round(10 * now), f"{o.operations / max(now, 0.1):,.0f}/s, {o.deaths} deaths, {o.told} recovered")

        outcome = Storm(topics, seconds, processes, kill, seed, tell=tell).run()
    if svg is not None:
        from .picture import svg as draw

        with open(svg, "w") as f:
            f.write(draw(outcome))
    if json_file is not None:
        with open(json_file, "w") as f:
            json.dump(as_json(outcome), f, indent=1)
            f.write("\n")
    if not quiet or outcome.violations:
        say(outcome, screen)
    return 1 if outcome.violations else 0
