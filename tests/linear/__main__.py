"""The command: python -m tests.linear [primitives] --histories N --seed S --processes P [--kill RATE] [--json FILE]."""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncx.terminal import Screen

from .broken import TWINS
from .conductor import Conductor, Stuck
from .cores import CORE_TWINS, build, refuted
from .history import History
from .picture import explanation, svg, timeline
from .search import TooManyStates, Verdict, check
from .specifications import SPECIFICATIONS
from .subjects import SUBJECTS

SECONDS = "SYNCX_LINEAR_SECONDS"
"""Environment variable: no new history is begun after so many seconds."""

TRIES = 10_000
"""Histories within which a twin must be refuted."""


@dataclass
class Tally:
    """What came of the histories of one primitive."""

    histories: int = 0
    operations: int = 0
    overlapping: int = 0
    deaths: int = 0
    amid: int = 0
    states: int = 0
    largest: int = 0
    seconds: float = 0.0
    refuted: list[str] = field(default_factory=list)

    def add(self, history: History, verdict: Verdict) -> None:
        self.histories += 1
        self.operations += len(history)
        self.overlapping += history.overlapping()
        self.deaths += len({c.process for c in history if c.name == "death"})
        self.states += verdict.states
        self.largest = max(self.largest, verdict.states)

    @property
    def overlap(self) -> float:
        return self.overlapping / max(self.operations, 1)


def verdict_of(history: History) -> Verdict:
    return check(SPECIFICATIONS[history.primitive](**history.parameters), history)


def report(screen: Screen, history: History, verdict: Verdict | None, why: str, directory: Path, name: str) -> None:
    """A history that must not be: printed, drawn, and kept for --check."""
    directory.mkdir(parents=True, exist_ok=True)
    saved, drawn = directory / f"{name}.json", directory / f"{name}.svg"
    history.save(saved)
    drawn.write_text(svg(history, verdict))
    screen.say(f"\n{why}", "bold red")
    screen.say(timeline(history, verdict))
    if verdict is not None:
        screen.say(explanation(verdict))
    screen.say(f"kept as {saved} (python -m tests.linear --check {saved}) and drawn as {drawn}\n")


def shares(primitives: Sequence[str], histories: int) -> dict[str, int]:
    """How many histories of each."""
    weights = {p: SUBJECTS[p].weight for p in primitives}
    whole = sum(weights.values())
    return {p: max(1, round(histories * w / whole)) for p, w in weights.items()}


def run(screen: Screen, options: argparse.Namespace) -> int:
    """Histories of the primitives themselves: 0 if all are linearizable, else 1."""
    begun = time.monotonic()
    until = begun + float(os.environ.get(SECONDS) or "inf")
    share = shares(options.primitives, options.histories)
    tallies = {p: Tally() for p in share}
    done = 0
    with screen.progress("histories", sum(share.values())) as bar:
        for primitive, count in share.items():
            tally, start = tallies[primitive], time.monotonic()
            # each has its part of what time there is
            mine = time.monotonic() + (until - time.monotonic()) * count / (sum(share.values()) - done)
            with Conductor(primitive, options.seed, options.processes, options.kill) as conductor:
                for number in range(1, count + 1):
                    done += 1
                    bar.update(done)
                    if time.monotonic() > mine:
                        done += count - number
                        break
                    name = f"{primitive}-{options.seed}-{number}"
                    try:
                        history = conductor.play(number)
                        verdict = verdict_of(history)
                    except Stuck as e:
                        tally.refuted.append(name)
                        report(screen, e.history, None, f"{name}: {e}", options.save, name)
                        continue
                    except TooManyStates as e:
                        tally.refuted.append(name)
                        report(screen, history, None, f"{name}: {e}", options.save, name)
                        continue
                    tally.add(history, verdict)
                    if not verdict:
                        tally.refuted.append(name)
                        report(screen, history, verdict, f"{name} is not linearizable", options.save, name)
                        if options.stop:
                            return 1
                tally.amid = conductor.amid
            tally.seconds = time.monotonic() - start
    show(screen, tallies)
    failures = sum(len(t.refuted) for t in tallies.values())
    whole = total(tallies)
    if options.json:
        figures: dict[str, float] = {
            "histories": whole.histories,
            "not linearizable": failures,
            "operations": whole.operations,
            "overlapping operations, share": round(whole.overlap, 3),
            "deaths": whole.deaths,
            "deaths amid an operation": whole.amid,
            "configurations": whole.states,
            "largest search": whole.largest,
        }
        for p, t in tallies.items():
            figures[f"{p}: histories"] = t.histories
            figures[f"{p}: deaths"] = t.deaths
            figures[f"{p}: overlapping operations, share"] = round(t.overlap, 3)
        write_json(options, time.monotonic() - begun, figures, failures)
    return 1 if failures else 0


def total(tallies: dict[str, Tally]) -> Tally:
    whole = Tally()
    for t in tallies.values():
        for name in ("histories", "operations", "overlapping", "deaths", "amid", "states", "seconds"):
            setattr(whole, name, getattr(whole, name) + getattr(t, name))
        whole.largest = max(whole.largest, t.largest)
        whole.refuted += t.refuted
    return whole


def show(screen: Screen, tallies: dict[str, Tally]) -> None:
    headings = (
        "primitive",
        "histories",
        "a second",
        "operations",
        "overlap",
        "deaths",
        "amid one",
        "states",
        "largest",
        "verdict",
    )
    rows = [
        (
            name,
            str(t.histories),
            f"{t.histories / t.seconds:.0f}" if t.seconds else "-",
            str(t.operations),
            f"{t.overlap:.0%}",
            str(t.deaths),
            str(t.amid),
            str(t.states),
            str(t.largest),
            "linearizable" if not t.refuted else f"{len(t.refuted)} refuted",
        )
        for name, t in {**tallies, "all": total(tallies)}.items()
    ]
    screen.table(headings, rows, right=range(1, 9))


def run_twins(screen: Screen, options: argparse.Namespace) -> int:
    """Histories of the broken twins: 0 if each of them is refuted."""
    begun = time.monotonic()
    rows, missed = [], 0
    chosen = [(p, name) for p in options.primitives for name in TWINS.get(p, {})]
    with screen.progress("twins", len(chosen)) as bar:
        for i, (primitive, name) in enumerate(chosen):
            needed = 0
            with Conductor(primitive, options.seed, options.processes, max(options.kill, 0.5), name) as conductor:
                for number in range(1, TRIES + 1):
                    try:
                        history = conductor.play(number)
                    except Stuck as e:
                        history = e.history
                    if not (verdict := verdict_of(history)):
                        needed = number
                        break
            bar.update(i + 1)
            missed += not needed
            if needed and options.keep_twins:
                options.save.mkdir(parents=True, exist_ok=True)
                stem = options.save / f"{primitive}-{name.replace(' ', '-').replace(chr(39), '')}"
                history.save(stem.with_suffix(".json"))
                stem.with_suffix(".svg").write_text(svg(history, verdict))
            rows.append((primitive, name, f"refuted by history {needed}" if needed else "NOT REFUTED"))
    cores = [(p, twin) for p, twin in CORE_TWINS if p in options.primitives]
    directory = Path(tempfile.mkdtemp(prefix="syncx-cores-"))
    try:
        with screen.progress("cores", len(cores)) as bar:
            for i, (primitive, core) in enumerate(cores):
                arguments = ["--histories", str(TRIES), "--kill", "0.5", "--seed", options.seed]
                try:
                    said = list(refuted(primitive, build(core, directory), [*arguments, "--save", str(directory)]))
                    verdict = next(line for line in said if line.endswith("is not linearizable"))
                    rows.append((primitive, f"core: {core}", f"refuted by {verdict.split()[0]}"))
                except (RuntimeError, StopIteration) as e:
                    missed += 1
                    rows.append((primitive, f"core: {core}", f"NOT REFUTED {e}"))
                bar.update(i + 1)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    screen.table(("primitive", "twin", "verdict"), rows)
    if options.json:
        whole = len(chosen) + len(cores)
        write_json(options, time.monotonic() - begun, {"twins": whole, "refuted": whole - missed}, missed)
    return 1 if missed else 0


def write_json(options: argparse.Namespace, seconds: float, figures: dict[str, Any], failures: int) -> None:
    command = "python -m tests.linear " + " ".join(options.arguments)
    outcome = {
        "command": command.strip(),
        "seconds": round(seconds, 1),
        "seed": options.seed,
        "figures": figures,
        "failures": failures,
    }
    options.json.write_text(json.dumps(outcome, indent=1) + "\n")


def recheck(screen: Screen, files: dict[Path, History]) -> int:
    """Kept histories once more."""
    bad = 0
    for file, history in files.items():
        verdict = verdict_of(history)
        bad += not verdict
        screen.say(f"{file}: {'linearizable' if verdict else 'not linearizable'}", "" if verdict else "bold red")
        screen.say(timeline(history, verdict))
        screen.say(explanation(verdict))
    return 1 if bad else 0


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m tests.linear",
        description="Records histories of operations that processes carry out at once, kills some of them, and checks "
        "that each history is linearizable.",
        epilog="Exit status: 0 all are linearizable (with --twins: each twin is refuted); 1 not; 2 a wrong argument.",
    )
    p.add_argument(
        "primitives", nargs="*", metavar="PRIMITIVE", help=f"which, of {', '.join(SUBJECTS)}; all by default"
    )
    p.add_argument("--histories", type=int, default=1000, metavar="N", help="how many in all (1000)")
    p.add_argument("--seed", default="1", metavar="S", help="from which the plans of the histories are drawn (1)")
    p.add_argument("--processes", type=int, default=4, metavar="P", help="at most so many in a history (4)")
    p.add_argument(
        "--kill", type=float, default=0.25, metavar="RATE", help="in what share of them one is killed (0.25)"
    )
    p.add_argument("--json", type=Path, metavar="FILE", help="writes the figures there")
    p.add_argument("--save", type=Path, default=Path("refuted"), metavar="DIRECTORY", help="for what is refuted")
    p.add_argument("--stop", action="store_true", help="ends at the first history that is refuted")
    p.add_argument("--twins", action="store_true", help="plays the broken twins, which must be refuted")
    p.add_argument("--keep-twins", action="store_true", help="keeps what refutes them, as files in --save")
    p.add_argument(
        "--check", type=Path, nargs="+", metavar="FILE", help="checks histories that were kept, and prints them"
    )
    return p


def main(arguments: list[str] | None = None) -> int:
    p = parser()
    options = p.parse_args(arguments)
    options.arguments = sys.argv[1:] if arguments is None else arguments
    options.primitives = options.primitives or list(SUBJECTS)
    if unknown := [name for name in options.primitives if name not in SUBJECTS]:
        p.error(f"no primitive is called {unknown[0]!r}; there are {', '.join(SUBJECTS)}")
    if options.histories < 1:
        p.error(f"--histories wants 1 or more, not {options.histories}")
    if not 2 <= options.processes <= 8:
        p.error(f"--processes wants 2 to 8, not {options.processes}")
    if not 0 <= options.kill <= 1:
        p.error(f"--kill is a share, from 0 to 1, not {options.kill}")
    # that an owner has died is the order of the day
    logging.getLogger("syncx").setLevel(logging.ERROR)
    screen = Screen(sys.stdout)
    if options.check:
        try:
            kept = {file: History.load(file) for file in options.check}
            unknown = [h.primitive for h in kept.values() if h.primitive not in SPECIFICATIONS]
            if unknown:
                raise ValueError(f"no primitive is called {unknown[0]!r}")
        except (OSError, ValueError) as e:
            p.error(str(e))
        return recheck(screen, kept)
    return run_twins(screen, options) if options.twins else run(screen, options)


if __name__ == "__main__":
    sys.exit(main())
