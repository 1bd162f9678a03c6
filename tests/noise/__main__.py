"""`python -m tests.noise`: see the package."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence

from syncx.terminal import Screen

from . import scenes, worker
from .run import PATIENCE, Run, tell


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.noise", description="Arenas damaged before they are opened.")
    parser.add_argument("--arenas", type=int, default=1000, metavar="N", help="how many, default 1000")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="which; default 1")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at a time, default 2")
    parser.add_argument("--seconds", type=float, metavar="S", help="begin no arena after that time")
    parser.add_argument("--everything", action="store_true", help="every arena meets every call, not half of them")
    parser.add_argument("--only", type=int, metavar="I", help="the arena of that number alone, every call told")
    parser.add_argument("--first", type=int, default=0, metavar="I", help="begin with that one")
    parser.add_argument(
        "--scene", choices=scenes.SCENES, metavar="NAME", help="only arenas in that state, such as busy"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--planted", choices=(*worker.PLANTS, "all"), default="", help="a fault that must be found")
    parser.add_argument("--patience", type=float, default=PATIENCE, metavar="S", help="seconds that a call may take")
    return parser


def main(argv: Sequence[str]) -> int:
    """Runs it; 0: nothing was found, 1: something was, 2: wrong usage."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing stays
    if argv and argv[0] == "worker":
        worker.main(list(argv[1:]))
        return 0
    if argv and argv[0] == "arguments":
        from .arguments import main as arguments

        return arguments(argv[1:])
    if argv and argv[0] == "twins":
        from .twins import main as twins

        return twins(argv[1:])
    parser = _parser()
    options = parser.parse_args(argv)
    if options.arenas < 1 or options.jobs < 1 or options.first < 0 or options.patience <= 0:
        parser.error("--arenas, --jobs and --patience must be positive, --first not negative")
    indices = range(options.first, options.first + options.arenas)
    if options.only is not None:
        indices = range(options.only, options.only + 1)
    screen = Screen(sys.stdout)
    run = Run(
        options.seed,
        indices,
        options.jobs,
        planted=options.planted,
        patience=options.patience,
        verbose=options.only is not None,
        seconds=options.seconds,
        everything=options.everything,
        names=scenes.SCENES if options.scene is None else [options.scene],
    )
    result = run(screen)
    tell(result, screen)
    if options.json:
        kinds = {kind: row for kind, row in result.table.items() if any(row.values())}
        figures = {
            "arenas": result.arenas,
            "calls": result.calls,
            "kinds of damage": len(kinds),
            "arenas a second": round(result.arenas / result.seconds, 1),
            **{name: sum(row[name] for row in result.table.values()) for name in ("worked", "refused", "exceptions")},
        }
        with open(options.json, "w") as f:
            json.dump(
                {
                    "command": "python -m tests.noise " + " ".join(argv),
                    "seconds": round(result.seconds, 1),
                    "seed": options.seed,
                    "figures": figures,
                    "failures": len(result.findings),
                    "outcomes": kinds,
                    "findings": result.findings[:50],
                },
                f,
                indent=2,
            )
    return 1 if result.findings or (result.arenas < len(indices) and options.seconds is None) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
