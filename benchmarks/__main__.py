"""python -m benchmarks"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from typing import Any

from . import (
    children,
    contended,
    creation,
    deadlocks,
    death,
    family,
    files,
    imports,
    notify,
    order,
    peers,
    pingpong,
    report,
    uncontended,
    views,
    wakeup,
)
from .limits import judge
from .place import Place
from .samples import Section
from .settings import Settings

Run = Callable[[peers.Field, Place, Settings], "list[Section]"]

GROUPS: dict[str, Run] = {
    "uncontended": uncontended.run,
    "contended": contended.run,
    "wakeup": wakeup.run,
    "family": family.run,
    "pingpong": pingpong.run,
    "notify": notify.run,
    "death": death.run,
    "deadlocks": deadlocks.run,
    "order": order.run,
    "files": files.run,
    "creation": creation.run,
    "import": imports.run,
    "views": views.run,
}


def _positive(kind: type[Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        value = kind(text)
        if not 0 < value < 1e6:
            raise argparse.ArgumentTypeError(f"{text} is not a positive number")
        return value

    return parse


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures syncx beside its peers, interleaved: every round asks all contestants in turn. "
        "Prints medians with quartiles, and ratios taken round by round.",
        epilog="exit status: 0; 1 with --check if a limit is missed or was not measured; 2 for a wrong argument; "
        "130 when interrupted",
    )
    parser.add_argument(
        "--group",
        action="append",
        choices=GROUPS,
        metavar="NAME",
        help=f"one of {', '.join(GROUPS)}; may be repeated; all without it",
    )
    parser.add_argument(
        "--rounds", type=_positive(int), metavar="N", help="rounds of every group (each has its own number without it)"
    )
    parser.add_argument(
        "--seconds",
        type=_positive(float),
        default=1.0,
        metavar="S",
        help="of a contended run and of a block before a wake-up (1.0)",
    )
    parser.add_argument(
        "--crowd",
        type=_positive(int),
        default=127,
        metavar="N",
        help="processes that hold or wait at a time in notify (up to 100) and death (127)",
    )
    parser.add_argument("--quick", action="store_true", help="few and short rounds, less than a minute in all; rough")
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE; - for standard output, and no tables")
    parser.add_argument("--svg", metavar="FILE", help="draw a chart (needs matplotlib)")
    parser.add_argument("--against", metavar="FILE", help="set beside an earlier run's --json file")
    parser.add_argument("--check", action="store_true", help="compare with the limits that syncx must keep")
    return parser


def _terminated(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def _interrupted(*_: object) -> None:
    """Ctrl-C, and again until it is heard: Python drops an exception that comes up in a finalizer."""
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    raise KeyboardInterrupt


def main() -> int:
    parser = _arguments()
    options = parser.parse_args()
    chosen = [group for group in GROUPS if not options.group or group in options.group]
    before = None
    if options.against:
        try:
            before = report.read_earlier(options.against)
        except (OSError, ValueError) as e:
            parser.error(f"--against: {e}")
    if options.svg:
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            parser.error("--svg needs matplotlib: pip install '.[bench]'")
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGALRM, _interrupted)
    output = report.Output()
    tables = options.json != "-"
    field = peers.gather()
    about = report.describe(field)
    if tables:
        for line in report.header(about):
            output.line(line)
        output.line()
    settings = Settings(options.rounds, options.seconds, options.quick, options.crowd)
    groups: dict[str, list[Section]] = {}
    try:
        with Place() as place, output.progress() as settings.step:
            try:
                for group in chosen:
                    groups[group] = GROUPS[group](field, place, settings)
                    if tables:
                        for section in groups[group]:
                            output.section(section, before)
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # what follows is short, and leaves nothing behind
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                signal.signal(signal.SIGALRM, signal.SIG_IGN)
                signal.setitimer(signal.ITIMER_REAL, 0)
                children.end_all()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sections = [section for group in groups.values() for section in group]
    verdicts = judge(chosen, {section.key: section for section in sections})
    if options.check and tables:
        output.verdicts(verdicts)
    if options.json:
        text = json.dumps(report.to_json(about, groups, verdicts), indent=1) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
        else:
            with open(options.json, "w", encoding="utf-8") as file:
                file.write(text)
    if options.svg:
        from . import chart

        chart.write(options.svg, about, sections)
    return 1 if options.check and not all(v.good for v in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
