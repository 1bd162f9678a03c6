"""python -m tests.models [NAME ...] [--json FILE]: verifies the models and refutes their mutants.

Needs SPIN and a C compiler.  --reviewed NAME: the model was compared with the C functions that have changed.
--page: brings the tables of docs/explanation/models.md up to date.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from . import HERE, PAGE, Model, changed, page, review, spin
from .table import MODELS


def _screen() -> Any:
    """syncx.terminal by its path: the package may not have been built here."""
    spec = importlib.util.spec_from_file_location("_terminal", HERE.parents[1] / "syncx" / "terminal.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Screen(sys.stdout)


def _arguments() -> argparse.Namespace:
    names = [m.name for m in MODELS]
    parser = argparse.ArgumentParser(prog="python -m tests.models", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"models: {', '.join(names)}; all of them by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--only", choices=("true", "mutants"), help="the true models only, or the mutants only")
    parser.add_argument(
        "--reviewed", metavar="NAME", help="note that this model was compared with the core as it is now"
    )
    parser.add_argument("--page", action="store_true", help=f"bring the tables of {PAGE.name} up to date")
    given = parser.parse_args()
    for name in [*given.names, *([given.reviewed] if given.reviewed else [])]:
        if name not in names:
            parser.error(f"there is no model {name!r}: expected one of {', '.join(names)}")
    return given


def main() -> int:
    """The command; its exit status."""
    given = _arguments()
    if given.reviewed:
        model = next(m for m in MODELS if m.name == given.reviewed)
        differing = changed(model)
        review(model)
        print(f"{model.name}: {', '.join(differing) if differing else 'nothing'} noted as reviewed")
    if given.page:
        PAGE.write_text(page(PAGE.read_text(), MODELS))
    if given.reviewed or given.page:
        return 0
    try:
        spin.programs()
    except spin.Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    return _verify([m for m in MODELS if not given.names or m.name in given.names], given)


class _Run:
    """All verifications, one after the other, with what they found."""

    def __init__(self, given: argparse.Namespace, directory: Path) -> None:
        self.given = given
        self.directory = directory
        self.screen = _screen()
        self.failures: list[str] = []
        self.figures: dict[str, float] = {}
        self.true: list[list[str]] = []
        self.mutants: list[list[str]] = []
        self.done = 0

    def model(self, model: Model, bar: Any) -> None:
        reached: dict[tuple[str, int], bool] = {}
        texts: dict[tuple[str, int], str] = {}
        for variant in model.variants if self.given.only != "mutants" else ():
            result = spin.verify(model, variant, None, self.directory)
            key = f"{model.name}.{variant.name}"
            self.true.append(
                [
                    model.name,
                    variant.name,
                    f"{result.states:,}",
                    f"{result.transitions:,}",
                    f"{result.depth:,}",
                    f"{result.memory_mb:,.0f} MB",
                    f"{result.seconds:.1f} s",
                    "verified" if result.complete else "FAILED",
                ]
            )
            self.figures[f"{key}.states"] = result.states
            self.figures[f"{key}.depth"] = result.depth
            self.figures[f"{key}.memory_mb"] = round(result.memory_mb)
            self.figures[f"{key}.seconds"] = round(result.seconds, 1)
            self.screen.say("  ".join(self.true[-1]))
            if not result.complete:
                what = result.violated or result.error or "the search is not complete"
                self.failures.append(f"{key}: {what}, trail of {result.trail} steps\n{result.output[-1500:]}")
            for statement in result.statements:
                at = (statement.process, statement.line)
                reached[at] = reached.get(at, False) or statement not in result.unreached
                texts[at] = statement.text
            self._step(bar)
        if self.given.only != "mutants":
            self._unreached(model, reached, texts)
        for mutant in model.mutants if self.given.only != "true" else ():
            variant = next(v for v in model.variants if v.name == mutant.variant)
            result = spin.verify(model, variant, mutant, self.directory)
            right = bool(result.error) and result.violated in mutant.violates.split(" or ")
            verdict = result.violated if result.error else "NOT REFUTED"
            self.mutants.append([model.name, mutant.name, mutant.law, verdict, str(result.trail)])
            self.screen.say("  ".join([*self.mutants[-1], f"{result.seconds:.1f} s"]))
            if not right:
                self.failures.append(
                    f"{model.name}, mutant {mutant.macro} ({mutant.law} in {mutant.variant}): expected that it "
                    f"violates {mutant.violates!r}, got {verdict!r}\n{result.output[-1500:]}"
                )
            self._step(bar)

    def _step(self, bar: Any) -> None:
        self.done += 1
        bar.update(self.done)

    def _unreached(self, model: Model, reached: dict[tuple[str, int], bool], texts: dict[tuple[str, int], str]) -> None:
        """A model that verifies because a thread never gets anywhere is worth nothing."""
        allowed = {text for text, _ in model.never}
        for (process, line), is_reached in sorted(reached.items()):
            text = texts[process, line]
            if not is_reached and text not in allowed:
                self.failures.append(
                    f"{model.name}.pml, line {line}, process {process}: {text!r} is reached in no variant"
                )


def _verify(models: list[Model], given: argparse.Namespace) -> int:
    began = time.monotonic()
    total = sum(
        (len(m.variants) if given.only != "mutants" else 0) + (len(m.mutants) if given.only != "true" else 0)
        for m in models
    )
    with tempfile.TemporaryDirectory(prefix="syncx-models-") as directory:
        run = _Run(given, Path(directory))
        with run.screen.progress("models", total) as bar:
            for model in models:
                run.model(model, bar)
    seconds = time.monotonic() - began
    if run.true:
        run.screen.say("\ntrue models, searched completely:")
        headings = ["model", "variant", "states", "transitions", "depth", "memory", "time", "verdict"]
        run.screen.table(headings, run.true)
    if run.mutants:
        run.screen.say("\nmutants:")
        run.screen.table(["model", "mutant", "the law it breaks", "refuted by", "trail"], run.mutants)
    for failure in run.failures:
        run.screen.say(f"\n{failure}", "bold red")
    refuted = sum(1 for row in run.mutants if row[3] != "NOT REFUTED")
    run.figures |= {
        "true_models": len(run.true),
        "states": sum(v for k, v in run.figures.items() if k.endswith(".states")),
        "mutants": len(run.mutants),
        "mutants_refuted": refuted,
    }
    run.screen.say(
        f"\n{len(run.true)} true models, {int(run.figures['states']):,} states; {refuted} of {len(run.mutants)} "
        f"mutants refuted; {len(run.failures)} failures; {seconds:.0f} s"
    )
    if given.json:
        told = {
            "command": " ".join(["python -m tests.models", *sys.argv[1:]]),
            "seconds": round(seconds, 1),
            "figures": run.figures,
            "failures": len(run.failures),
            "true": run.true,
            "mutants": run.mutants,
        }
        given.json.write_text(json.dumps(told, indent=1) + "\n")
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
