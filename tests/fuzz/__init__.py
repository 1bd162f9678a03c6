"""Fuzzers of everything that reads an arena: building them, and the inputs that are kept.

`python -m tests.fuzz` runs them; README.md says what each does.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
REGRESSIONS = HERE / "regressions"
TARGETS = ("arena", "names", "participants", "cells", "memory", "snapshot", "deadlock", "notes", "files")
LONGEST = 600
"""Bytes of an input."""


def unpack(file: Path) -> list[bytes]:
    """The inputs that a .pack file holds: two bytes of length, low byte first, then as many bytes, and so on."""
    data, inputs, at = file.read_bytes(), [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "little")
        inputs.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return inputs


def pack(file: Path, inputs: Iterable[bytes]) -> None:
    """Writes a .pack file."""
    file.write_bytes(b"".join(len(i).to_bytes(2, "little") + i for i in inputs))


def kept(target: str) -> list[Path]:
    """The files that hold inputs for a target: its corpus, and what was found once."""
    return sorted([*CORPUS.glob(f"{target}.pack"), *REGRESSIONS.glob(f"{target}-*")])


def compiler() -> str | None:
    """The clang that builds the fuzzers; None: there is none."""
    return shutil.which("clang")


def build(goal: str, **variables: object) -> Path:
    """Builds `all` (with clang) or `replay` and returns the program.  subprocess.CalledProcessError: it says why."""
    where = Path(str(variables.get("BUILD", HERE / "build")))
    settings = [f"{name}={value}" for name, value in variables.items()]
    subprocess.run(["make", "-s", "-j2", "-C", str(HERE), goal, *settings], check=True)
    return where / ("fuzz" if goal == "all" else "replay")
