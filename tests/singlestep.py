"""Runs tests/singlestep.c: kills at every instruction of an operation, on the real core or on a broken twin of it.

SYNCX_KILL_STRIDE=1 kills at every instruction of every scenario; by default the long ones take every n-th.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twins import Twin, Workshop

SOURCE = Path(__file__).with_suffix(".c")
SUPPORTED = platform.machine() == "x86_64"
WHY_NOT = "the driver reads x86-64 registers and opcodes"


def stride(default: int) -> int:
    """How many instructions from one kill to the next."""
    return int(os.environ.get("SYNCX_KILL_STRIDE") or default)


@dataclass
class Sweep:
    """What a run found."""

    points: int
    steps: int
    failures: list[dict[str, Any]]

    def kinds(self) -> set[str]:
        return {f["what"] for f in self.failures}


class shared_directory:
    """A directory in shared memory, under the name by which the test session finds what is left behind."""

    def __enter__(self) -> Path:
        mark = os.environ.get("SYNCX_TEST_RUN", "test")
        self.path = Path(f"/dev/shm/syncx-{os.geteuid()}-{mark}-{secrets.token_hex(4)}")
        self.path.mkdir(mode=0o700)
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path)


def sweep(
    workshop: Workshop, scenario: str, *options: str, twin: Twin | None = None, timeout: float = 100, step: int = 1
) -> Sweep:
    """One scenario; `options` are those of the C program."""
    program = workshop.program(SOURCE, twin)
    if os.environ.get("SYNCX_KILL_STRIDE"):
        timeout = 3600
    with shared_directory() as directory:
        done = subprocess.run(
            [program, scenario, directory, f"--stride={step}", *options],
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    assert done.returncode in (0, 1), f"the driver failed ({done.returncode}):\n{done.stdout}{done.stderr}"
    *failures, summary = map(json.loads, done.stdout.splitlines())
    assert summary["failures"] == len(failures)
    return Sweep(summary["points"], summary["steps"], failures)


def step_program(workshop: Workshop, instructions: int, command: list[str]) -> tuple[bool, int]:
    """Runs a command that sends itself SIGSTOP, steps so many instructions beyond that and kills it.

    Returns whether it had stopped itself a second time by then, and how many instructions it had done.
    """
    done = subprocess.run(
        [workshop.program(SOURCE), "--exec", str(instructions), *command], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"the driver failed ({done.returncode}):\n{done.stdout}{done.stderr}"
    what, steps = done.stdout.split()
    return what == "end", int(steps)
