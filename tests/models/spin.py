"""Runs SPIN: a verifier is generated, compiled and run for each variant and each mutant."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from . import HERE, Model, Mutant, Variant

MEMORY_MB = 4000
DEPTH = 2_500_000
MUTANT_DEPTH = 3000
SECONDS = int(os.environ.get("SYNCX_MODELS_SECONDS", "900"))
"""At most, for one search."""
TOOL_SECONDS = 900
"""At most, for spin and the compiler."""


class Missing(Exception):
    """A program that is needed is not there."""


def programs() -> None:
    """Raises Missing where spin or a C compiler is not installed."""
    for name, package in (("spin", "spin"), ("cc", "gcc")):
        if shutil.which(name) is None:
            raise Missing(
                f"{name} is needed to verify the models and is not installed; on Debian: apt-get install {package}"
            )


@dataclass(frozen=True)
class Statement:
    """A statement of a model, as the verifier names it."""

    process: str
    state: int
    line: int
    text: str = field(compare=False)


@dataclass
class Result:
    """What a verification said."""

    complete: bool = False
    error: str = ""  # the verifier's own words for what it found
    violated: str = ""  # the property, as the model names it
    trail: int = 0  # steps to it
    states: int = 0
    transitions: int = 0
    depth: int = 0
    memory_mb: float = 0.0
    seconds: float = 0.0
    statements: set[Statement] = field(default_factory=set)
    unreached: set[Statement] = field(default_factory=set)
    output: str = ""


def verify(model: Model, variant: Variant, mutant: Mutant | None, directory: Path) -> Result:
    """One verification.  A mutant may be refuted at no great depth: that keeps the trails readable."""
    work = directory / f"{model.name}-{variant.name}{'-' + mutant.macro if mutant else ''}"
    work.mkdir(parents=True)
    for file in HERE.glob("*.pml"):
        shutil.copy(file, work)
    defines = [f"-D{d}" for d in (*variant.defines, *([mutant.macro] if mutant else []))]
    _run(["spin", "-o3", *defines, "-a", model.file.name], work)  # no merging: each statement is listed
    search = ["-O1"] if mutant else ["-O2", "-DCOLLAPSE"]
    options = ["-w", "-DSAFETY", f"-DMEMLIM={MEMORY_MB}", "-DVECTORSZ=2048", *search]
    _run(["cc", *options, "-o", "pan", "pan.c"], work)
    began = time.monotonic()
    depth = MUTANT_DEPTH if mutant else DEPTH
    command = ["timeout", str(SECONDS), "./pan", f"-m{depth}", "-w23"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    result = _read(done.stdout)
    result.seconds = time.monotonic() - began
    result.output = done.stdout + done.stderr + (f"not done in {SECONDS} s" if done.returncode == 124 else "")
    if mutant is None:
        listed = _run(["./pan", "-d"], work)
        result.statements = set(_statements(listed))
        result.unreached &= result.statements
    if (work / f"{model.file.name}.trail").exists():
        replay = subprocess.run(
            ["spin", *defines, "-t", "-p", model.file.name],
            cwd=work,
            capture_output=True,
            text=True,
            timeout=TOOL_SECONDS,
        ).stdout
        result.violated = _violated(model, replay, result.error)
        result.trail = sum(1 for line in replay.splitlines() if re.match(r" *\d+:\tproc", line))
    shutil.rmtree(work)
    return result


def _run(command: list[str], work: Path) -> str:
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=TOOL_SECONDS)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def _read(text: str) -> Result:
    result = Result(
        states=int(_number(r"^ *([\d.e+]+) states, stored", text)),
        transitions=int(_number(r"^ *([\d.e+]+) transitions", text)),
        depth=int(_number(r"depth reached (\d+)", text)),
        memory_mb=_number(r"^ *([\d.]+)\ttotal actual memory", text),
    )
    said = [line[len("pan:") :] for line in text.splitlines() if re.match(r"pan:\d+:", line)]
    result.error = said[0].split(":", 1)[1].strip() if said else ""
    too_shallow = "max search depth too small" in text
    result.complete = (
        "Full statespace search for:" in text
        and "Search not completed" not in text
        and not too_shallow
        and bool(re.search(r"errors: 0$", text, re.MULTILINE))
        and not result.error
    )
    process = ""
    for line in text.splitlines():
        if line.startswith("unreached in proctype "):
            process = line.split()[-1]
        elif process and (found := re.match(r'\t[\w.]+:(\d+), state (\d+), "(.*)"$', line)):
            result.unreached.add(Statement(process, int(found.group(2)), int(found.group(1)), found.group(3)))
    return result


def _statements(listed: str) -> Iterable[Statement]:
    """Of `pan -d`, all statements that the verifier has."""
    process = ""
    for line in listed.splitlines():
        if found := re.match(r"proctype (\w+)", line):
            process = found.group(1)
        elif "-end-" in line:
            continue  # who kills never ends
        elif found := re.match(r"\tstate +(\d+) -.*?\[.*?\] [\w.]+:(\d+) => (.*)$", line):
            yield Statement(process, int(found.group(1)), int(found.group(2)), found.group(3))


_PROPERTY = re.compile(r"/\*= (.*?) \*/")


def _violated(model: Model, replay: str, error: str) -> str:
    """The property that stands behind the assertion of the trail's end."""
    found = re.search(r"spin: ([\w.]+):(\d+), Error: assertion violated", replay)
    if found is None:
        return "every process can go on" if "invalid end state" in error else error
    lines = (HERE / found.group(1)).read_text().splitlines()
    marked = _PROPERTY.search(lines[int(found.group(2)) - 1])
    return marked.group(1) if marked else f"line {found.group(2)}"
