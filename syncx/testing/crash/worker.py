"""One scenario, swept in a process of its own: `python -m syncx.testing.crash.worker JOB`.

A job is a JSON object; what comes of it goes to stdout as JSON, one object a line: how far it is, then the result.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import time
from dataclasses import dataclass

__all__ = ["Job", "main"]

_EVERY = 0.25
"""Seconds between two lines of how far it is."""


@dataclass
class Job:
    """What a worker does."""

    scenario: str
    arena: str
    """The path of the file; made by the worker, unlinked by whoever started it."""
    mode: str
    stride: int = 1
    most: int | None = None
    only: str | None = None
    stop_after: int = 5
    seconds: float | None = None
    modules: tuple[str, ...] = ()


def main(argv: list[str]) -> int:
    import gc

    from .catalogue import find
    from .pairs import sweep_pairs
    from .sweep import Course, Sweep, sweep

    job = Job(**json.loads(argv[0]))
    logging.getLogger("syncx").addHandler(logging.NullHandler())  # deaths are what it is about
    logging.getLogger("syncx").propagate = False
    logging.getLogger("syncx").warning("%s", "what logging binds at its first line is not stepped through each time")
    from ...arena import Arena

    scenario = find(job.scenario, job.modules)
    Arena(job.arena).close()
    until = None if job.seconds is None else time.monotonic() + job.seconds
    told = 0.0

    def progress(so_far: Sweep) -> None:
        nonlocal told
        if time.monotonic() - told >= _EVERY:
            told = time.monotonic()
            print(json.dumps({"points": so_far.points, "findings": len(so_far.findings)}), flush=True)

    gc.collect()
    gc.freeze()  # the victims are forks: the less they write, the less is copied
    gc.disable()
    course = Course(job.mode, job.stride, job.most, job.only, job.stop_after, until, progress)
    swept = (sweep_pairs if job.mode == "pairs" else sweep)(scenario, job.arena, course)
    print(json.dumps({"result": dataclasses.asdict(swept)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
