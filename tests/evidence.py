"""Runs everything that is said to prove something, and writes its figures into docs/explanation/evidence.md.

    python -m tests.evidence                   all of it, some hours on two CPUs
    python -m tests.evidence --quick           the same with small budgets, some minutes
    python -m tests.evidence --only models     one part
    python -m tests.evidence --collect DIR     no run: the JSON files that the commands wrote, PART.json each
    python -m tests.evidence --collect DIR --revision 1a2b3c4    the same, and what they were made with

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
    compares: bool = False
    """Whether it tells how others fare, so that its failures are figures: its table has a row for each of them."""


PEERS = "python -m syncx.testing.crash --from tests.crash_peers --only peer: --mode full --most 60 --findings 10000"
PARTS = (
    Part("crash", "syncx stress --kill-every-instruction --mode full", "--mode classes --seconds 60"),
    Part("crash-classes", "syncx stress --kill-every-instruction", "--seconds 60"),
    Part("crash-pairs", "syncx stress --kill-every-instruction --mode pairs", "--seconds 60"),
    Part("crash-stop", "syncx stress --kill-every-instruction --mode stop", "--seconds 60"),
    Part("crash-peers", PEERS, "--stride 20", compares=True),
    Part("recovery", "python -m benchmarks.recovery --deaths 1000", "--deaths 30"),
    Part("models", "python -m tests.models", ""),
    Part("core", "python -m tests.core", ""),
    Part("fuzz", "python -m tests.fuzz --seconds 600", "--seconds 10"),
    Part("fuzz-twins", "python -m tests.fuzz --twins", ""),
    Part("linear", "python -m tests.linear --histories 12000 --seed 2026", "--histories 500"),
    Part("linear-twins", "python -m tests.linear --twins", "mutex"),
    Part("stress", "syncx stress all --seconds 1800 --kill 10", "--seconds 30"),
    Part("stress-twins", "python -m tests.storm_twins --seconds 60", "--twin loose --twin leak"),
    Part("noise", "python -m tests.noise --arenas 100000", "--arenas 1000"),
    Part("noise-twins", "python -m tests.noise twins", ""),
    Part("noise-arguments", "python -m tests.noise arguments --examples 100", "--examples 5"),
    Part("refleaks", "python -m tests.refleaks --rounds 10000", "--rounds 200"),
    Part("refleaks-twins", "python -m tests.refleaks.twins", ""),
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
    made_of = revision()
    began = time.monotonic()
    done = subprocess.run([*words_of(command), "--json", str(target)], cwd=ROOT)
    print(f"== {part.name}: exit status {done.returncode} after {time.monotonic() - began:.0f} s", flush=True)
    found = read(target, done.returncode)
    if found is not None:
        found |= {"machine": machine(), "python": platform.python_version()}
        found |= {} if made_of is None else {"revision": made_of}
    return found


def read(target: Path, status: int | None = None) -> dict[str, Any] | None:
    """What a command wrote about itself."""
    if not target.exists():
        return None
    found: dict[str, Any] = json.loads(target.read_text())
    if status is not None:
        found["status"] = status
    return told_of_place(found)


def told_of_place(found: dict[str, Any]) -> dict[str, Any]:
    """Machine and Python of a run in one form, whichever its command has."""
    if "kernel" in found and "cpus" in found:
        found["machine"] = f"Linux {found['kernel'].split('-')[0]}, {found['machine']}, {found['cpus']} CPUs"
    elif form := re.fullmatch(r"(Linux [\d.]+)[^,]*, Python (\S+)", found.get("machine", "")):
        found |= {"machine": form[1], "python": form[2]}
    return {"machine": machine(), **found}


def failed(found: dict[str, Any] | None, part: Part) -> bool:
    """Whether a part is not what it should be: it wrote nothing, was interrupted, ended with a status of its own, or
    failed; where others are compared, only if the program that compares them failed."""
    if found is None or found.get("interrupted"):
        return True
    if part.compares:
        return bool(found.get("failed")) or found.get("status", 0) not in (0, 1)
    return bool(found["failures"] or found.get("status"))


def revision() -> str | None:
    """What git calls the files that are run, with "-dirty" if any but this page were changed; None outside of git."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        page = [f":(exclude){f.relative_to(ROOT)}" for f in (PAGE, DATA)]
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *page)
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def machine() -> str:
    """The machine in a few words, without its name."""
    return f"Linux {platform.release().split('-')[0]}, {platform.machine()}, {len(os.sched_getaffinity(0))} CPUs"


# ---- the page --------------------------------------------------------------------------------------------------------
def number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def shown(found: dict[str, Any], part: Part) -> dict[str, Any]:
    """The figures of a page: those of the whole, not of each primitive (`mutex: histories`); of a model its states,
    of a fuzzer its executions; where others are compared, what was found of each of them."""
    figures = found["figures"]
    if part.compares:
        rows = {name: figures[name] for name in ("points", "not_to_the_end") if name in figures}
        for name, counts in found["primitives"].items():
            other = name.removeprefix("peer: ")
            rows[f"{other}, hangs of points"] = f"{counts['hangs']:,} of {counts['points']:,}"
            kinds = [k for k in counts if k not in ("scenarios", "points", "instructions", "after_a_sleep", "hangs")]
            rows |= {f"{other}, {label(kind)}": counts[kind] for kind in kinds if counts[kind]}
        return rows
    left_out = r"[\w ]+: |\w+\.\w+\.(depth|memory_mb|seconds)$|\w+_(edges|features)$"
    return {name: value for name, value in figures.items() if not re.match(left_out, name)}


def label(name: str) -> str:
    """A figure's name as the page has it; the names of others' classes, which have capitals, are theirs."""
    if any(c.isupper() for c in name):
        return name
    return name.replace("lost_permits", "lost or doubled permits").replace("_", " ")


def table(found: dict[str, Any] | None, part: Part) -> str:
    """A block of the page: the command, how long it took, a row for each of its figures, its failures, whether it was
    interrupted; then the machine, Python and git revision, where the run told of them.  One sentence if it never ran.
    """
    if found is None:
        return f"\n`{part.command}` has not been run in full on this version.\n\n"
    command = re.sub(r" --(json|save|svg)[ =]\S+", "", found.get("command", part.command))
    lines = ["", f"`{command}`, {number(round(found['seconds']))} seconds:", ""]
    lines += ["| | |", "|---|---:|"]
    lines += [f"| {label(name)} | {number(value)} |" for name, value in shown(found, part).items()]
    lines += [f"| failures | {number(found['failures'])} |"]
    if found.get("interrupted"):
        lines += ["| interrupted, not all was run | yes |"]
    return "\n".join([*lines, *made_on(found), "", ""])


def made_on(found: dict[str, Any]) -> list[str]:
    """The line below a table; none for a run that did not tell its Python or its revision."""
    told = [f"{what} {found[what.lower()]}" for what in ("Python", "revision") if what.lower() in found]
    return ["", ", ".join([found["machine"], *told]) + "."] if told else []


def page_with(text: str, data: dict[str, Any]) -> str:
    """The page with the figures of `data` in its blocks."""
    parts = {p.name: p for p in PARTS}
    return BLOCK.sub(lambda m: m[1] + table(data.get(m["part"]), parts[m["part"]]) + m[3], text)


def kept(found: dict[str, Any], name: str) -> dict[str, Any]:
    """What the page's data have of a run: what its table shows."""
    names = ["machine", "python", "revision", "command", "seconds", "figures", "failures"]
    names += ["interrupted"] if found.get("interrupted") else []
    names += ["primitives"] if any(p.name == name and p.compares for p in PARTS) else []
    return {k: found[k] for k in names if k in found}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.evidence", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small budgets, and nothing is written")
    parser.add_argument("--only", choices=[p.name for p in PARTS], action="append", help="this part; may be repeated")
    parser.add_argument("--collect", type=Path, metavar="DIR", help="run nothing: take the JSON files from there")
    parser.add_argument("--revision", metavar="NAME", help="with --collect: what git calls what they were made with")
    options = parser.parse_args()
    if options.revision and not options.collect:
        parser.error("--revision is for --collect; a run knows its own")
    data: dict[str, Any] = json.loads(DATA.read_text()) if DATA.exists() else {}
    bad = []
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
            if failed(found, part):
                bad.append(part.name)
            if found is not None:
                data[part.name] = {
                    **({"revision": options.revision} if options.revision else {}),
                    **found,
                }
    if not options.quick:
        data = {name: kept(v, name) for name, v in data.items()}
        DATA.write_text(json.dumps(data, indent=1) + "\n")
        PAGE.write_text(page_with(PAGE.read_text(), data))
    print(f"failed: {', '.join(bad)}" if bad else "nothing failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
