"""Runs everything that is said to prove something, and writes its figures into docs/explanation/evidence.md.

    python -m tests.evidence                   all of it, some hours on two CPUs
    python -m tests.evidence --quick           the same with small budgets, some minutes
    python -m tests.evidence --only models     one part
    python -m tests.evidence --collect DIR     no run: the JSON files that the commands wrote, PART.json each

The page's prose is written by hand; between `<!-- figures: PART -->` and `<!-- end -->` stands what this writes, from
docs/explanation/evidence.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "evidence.md"
DATA = PAGE.with_suffix(".json")
BLOCK = re.compile(r"(<!-- figures: (?P<part>[\w-]+) -->\n).*?(<!-- end -->\n)", re.S)


class Part(NamedTuple):
    """A command that proves something."""

    name: str
    command: str
    """As the page gives it.  `python` is this interpreter."""
    quick: str
    """What it gets more, or instead of its last words, in a quick run."""


PEERS = "python -m syncx.testing.crash --from tests.crash_peers --only peer: --mode full --most 60 --findings 10000"
PARTS = (
    Part("crash", "syncx stress --kill-every-instruction --mode full", "--mode classes --seconds 60"),
    Part("crash-classes", "syncx stress --kill-every-instruction", "--seconds 60"),
    Part("crash-pairs", "syncx stress --kill-every-instruction --mode pairs", "--seconds 60"),
    Part("crash-stop", "syncx stress --kill-every-instruction --mode stop", "--seconds 60"),
    Part("crash-peers", PEERS, "--stride 20"),
    Part("recovery", "python -m benchmarks.recovery --deaths 1000", "--deaths 30"),
    Part("models", "python -m tests.models", ""),
    Part("core", "python -m tests.core", ""),
    Part("fuzz", "python -m tests.fuzz --seconds 600", "--seconds 10"),
    Part("linear", "python -m tests.linear --histories 12000 --seed 2026", "--histories 500"),
    Part("stress", "syncx stress all --seconds 1800 --kill 10", "--seconds 30"),
    Part("noise", "python -m tests.noise --arenas 100000", "--arenas 1000"),
    Part("noise-arguments", "python -m tests.noise arguments --examples 100", "--examples 5"),
    Part("refleaks", "python -m tests.refleaks --rounds 10000", "--rounds 200"),
)


def words_of(command: str) -> list[str]:
    """The command with the programs of this environment."""
    words = shlex.split(command)
    if words[0] == "python":
        return [sys.executable, *words[1:]]
    return [sys.executable, "-m", *words]


def run(part: Part, quick: bool, directory: Path) -> dict[str, Any] | None:
    """Runs a part; what it wrote about itself, None if it wrote nothing."""
    target = directory / f"{part.name}.json"
    command = f"{part.command} {part.quick}".strip() if quick else part.command  # the last word counts
    print(f"== {part.name}: {command}", flush=True)
    began = time.monotonic()
    done = subprocess.run([*words_of(command), "--json", str(target)], cwd=ROOT)
    print(f"== {part.name}: exit status {done.returncode} after {time.monotonic() - began:.0f} s", flush=True)
    return read(target, done.returncode)


def read(target: Path, status: int | None = None) -> dict[str, Any] | None:
    """What a command wrote about itself."""
    if not target.exists():
        return None
    found: dict[str, Any] = json.loads(target.read_text())
    if status is not None:
        found["status"] = status
    return found


def machine() -> str:
    """The machine in a few words, without its name."""
    return f"Linux {platform.release().split('-')[0]}, {platform.machine()}, {len(os.sched_getaffinity(0))} CPUs"


# ---- the page --------------------------------------------------------------------------------------------------------
def number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def shown(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of a page: those of the whole, not of each primitive (`mutex: histories`); of a model its states,
    of a fuzzer its executions."""
    left_out = r"[\w ]+: |\w+\.\w+\.(depth|memory_mb|seconds)$|\w+_(edges|features)$"
    return {name: value for name, value in figures.items() if not re.match(left_out, name)}


def table(found: dict[str, Any] | None, part: Part) -> str:
    """A block of the page: the command, when it ran, and its figures."""
    if found is None:
        return f"\n`{part.command}` has not been run in full on this version.\n\n"
    command = re.sub(r" --(json|save|svg) \S+", "", found.get("command", part.command))
    lines = ["", f"`{command}`, {number(round(found['seconds']))} seconds:", ""]
    lines += ["| | |", "|---|---:|"]
    lines += [f"| {name.replace('_', ' ')} | {number(value)} |" for name, value in shown(found["figures"]).items()]
    return "\n".join([*lines, f"| failures | {number(found['failures'])} |", "", ""])


def page_with(text: str, data: dict[str, Any]) -> str:
    """The page with the figures of `data` in its blocks."""
    parts = {p.name: p for p in PARTS}
    return BLOCK.sub(lambda m: m[1] + table(data.get(m["part"]), parts[m["part"]]) + m[3], text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.evidence", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small budgets, and nothing is written")
    parser.add_argument("--only", choices=[p.name for p in PARTS], action="append", help="this part; may be repeated")
    parser.add_argument("--collect", type=Path, metavar="DIR", help="run nothing: take the JSON files from there")
    options = parser.parse_args()
    data: dict[str, Any] = json.loads(DATA.read_text()) if DATA.exists() else {}
    failed = []
    with tempfile.TemporaryDirectory(prefix="syncx-evidence-") as directory:
        for part in PARTS:
            if options.only and part.name not in options.only:
                continue
            found = (
                read(options.collect / f"{part.name}.json")
                if options.collect
                else run(part, options.quick, Path(directory))
            )
            if found is None and options.collect:
                continue
            if found is None or found["failures"] or found.get("status"):
                failed.append(part.name)
            if found is not None:
                data[part.name] = {"machine": machine(), **found}
    if not options.quick:
        kept = ("machine", "command", "seconds", "figures", "failures")
        data = {name: {k: v[k] for k in kept if k in v} for name, v in data.items()}
        DATA.write_text(json.dumps(data, indent=1) + "\n")
        PAGE.write_text(page_with(PAGE.read_text(), data))
    print(f"failed: {', '.join(failed)}" if failed else "nothing failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
