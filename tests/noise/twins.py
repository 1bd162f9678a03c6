"""Broken twins of the core: a check of what is read from an arena taken out, which the noise must find.

    python -m tests.noise twins [--json FILE]

builds each beside the package, with its own Python files, and lets the noise at it until something is found.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from syncx.terminal import Screen, duration

from .run import ROOT, Run

if __package__ == "noise":  # the directory of the tests is on the path, as for pytest
    from twins import Edit, Twin, apply
else:
    from tests.twins import Edit, Twin, apply

UNIT = Twin(
    "a block's place is believed",
    (Edit("heap.c", "if (cursor > heap->capacity || unit >= cursor ||", "if (cursor > heap->capacity ||"),),
)
REGIONS = Twin(
    "where the regions lie is believed",
    (
        Edit(
            "arena.c",
            "return memcmp(&want, h, offsetof(struct sx_header, checksum)) != 0 ? SX_OTHER_VERSION : SX_OK;",
            "return SX_OK;",
        ),
    ),
)
SLOT = Twin(
    "the slot of a holder is believed",
    (
        Edit(
            "participant.c",
            "return slot < sx_participants_ready(arena) ? &arena->participants[slot] : NULL;",
            "return &arena->participants[slot];",
        ),
    ),
)
PARAMETER = Twin(
    "how many permits or parties an object has is believed",
    (Edit("object.c", "return size != 0 && size <= available;", "return size <= available || kind != SX_KIND_NONE;"),),
)
TWINS = (UNIT, REGIONS, SLOT, PARAMETER)
ARENAS = 2000
"""Within so many, something must be found."""


def sources() -> dict[str, str]:
    """All of the C of the core, the binding included."""
    return {f.name: f.read_text() for f in sorted((ROOT / "syncx" / "_core").glob("*.[ch]"))}


def build(twin: Twin | None, directory: Path) -> Path:
    """A package with that core, and these tests; returns the directory that both are in."""
    package = directory / "syncx"
    shutil.copytree(ROOT / "syncx", package, ignore=shutil.ignore_patterns("_core.*.so", "__pycache__", "*.c", "*.h"))
    shutil.copytree(Path(__file__).parent, directory / "tests" / "noise", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "twins", directory / "tests" / "twins")
    core = directory / "core"
    core.mkdir()
    for name, text in apply(twin, sources()).items():
        (core / name).write_text(text)
    paths = {sysconfig.get_path(which) for which in ("include", "platinclude")}
    compiler = shutil.which("cc") or shutil.which("gcc") or "cc"
    done = subprocess.run(
        [
            compiler, "-shared", "-fPIC", "-std=gnu11", "-O1", "-w", *(f"-I{p}" for p in sorted(paths)),
            *map(str, sorted(core.glob("*.c"))), "-pthread",
            "-o", str(package / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"),
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the twin cannot be built:\n{done.stderr}")
    return directory


def main(argv: Sequence[str]) -> int:
    """Every twin must be found; 0 if they all are, 1 if one is not, 2: wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m tests.noise twins", description="Cores without a check.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(argv)
    screen, begun, missed, needed = Screen(sys.stdout), time.monotonic(), 0, 0
    for twin in TWINS:
        with tempfile.TemporaryDirectory(prefix="noise-syncx-") as directory:
            package = build(twin, Path(directory))
            result = Run(1, range(ARENAS), 2, patience=10.0, package=package, most=1)(screen)
        needed = max(needed, result.arenas)
        if result.findings:
            first = result.findings[0]
            screen.say(
                f"caught: {twin}: {first['call']}: {first['what']}, after {result.arenas} arenas, "
                f"{duration(result.seconds)}"
            )
        else:
            missed += 1
            screen.say(f"MISSED: {twin}")
    if options.json:
        told = {
            "command": "python -m tests.noise twins",
            "seconds": round(time.monotonic() - begun, 1),
            "figures": {"twins": len(TWINS), "caught": len(TWINS) - missed, "arenas for one, at most": needed},
            "failures": missed,
        }
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 1 if missed else 0
