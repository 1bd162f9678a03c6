"""Twins that leak: planted in Python, and in the C core with a few words of it taken out.  All must be caught.

    python -m tests.refleaks.twins [--json FILE]

builds each broken core in a directory of its own and runs the scene that must see it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import mmap
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Leak:
    """A broken core: what is taken out of which file, the scene that sees it, and a meter that tells."""

    name: str
    file: str
    old: str
    new: str
    scene: str
    meter: str


IN_C = (
    Leak(
        "an exception keeps a reference",
        "module.c",
        "        PyErr_SetObject((PyObject *)Py_TYPE(e), e);\n        Py_DECREF(e);\n",
        "        PyErr_SetObject((PyObject *)Py_TYPE(e), e);\n",
        "Mutex, anonymous",
        "objects",
    ),
    Leak(
        "the collector does not see that a gate owns its lock",
        "py_gate.c",
        "    if (gate->owns)\n        Py_VISIT(gate->handle);\n",
        "",
        "Mutex, cycle",
        "cells",
    ),
    Leak(
        "a handle does not let go of its arena",
        "py_handle.c",
        "    Py_CLEAR(self->arena);\n    type->tp_free(op);",
        "    type->tp_free(op);",
        "Event, arena",
        "blocks",
    ),
    Leak(
        "a file that nobody locks stays open",
        "files.c",
        "            close(f->fd);\n        pthread_mutex_destroy",
        "            (void)f;\n        pthread_mutex_destroy",
        "file lock",
        "descriptors",
    ),
    Leak(
        "what was pickled is kept though it was unlinked",
        "object.c",
        "           !operations->retired(cell);",
        "           operations->retired(cell) || true;",
        "Event, pickled",
        "cells",
    ),
)


def planted() -> dict[str, tuple[str, Callable[[list[Any]], None]]]:
    """Leaks in Python: name, the meter that must tell of it, and what a round leaves behind."""
    malloc = ctypes.CDLL(None).malloc
    malloc.restype = ctypes.c_void_p
    return {
        "object": ("objects", lambda kept: kept.append([])),
        "reference": ("kept", lambda kept: kept.append(ctypes.pythonapi.Py_IncRef(ctypes.py_object(mmap.mmap)))),
        "memory": ("blocks", lambda kept: kept.append(bytes(100))),
        "C heap": ("C heap", lambda kept: malloc(1000)),
        "descriptor": ("descriptors", lambda kept: kept.append(os.dup(2))),
        "mapping": ("mappings", lambda kept: kept.append(mmap.mmap(-1, 1 << 16, prot=1 + len(kept) % 2))),
    }


def build(leak: Leak | None, directory: Path) -> None:
    """The package and these tests in a directory, with the core compiled anew."""
    shutil.copytree(
        ROOT / "syncx", directory / "syncx", ignore=shutil.ignore_patterns("*.so", "__pycache__", "testing")
    )
    shutil.copytree(ROOT / "tests" / "refleaks", directory / "tests" / "refleaks")
    core = directory / "syncx" / "_core"
    if leak is not None:
        text = (core / leak.file).read_text()
        if text.count(leak.old) != 1:
            raise AssertionError(f"twin {leak.name!r}: its text occurs {text.count(leak.old)} times in {leak.file}")
        (core / leak.file).write_text(text.replace(leak.old, leak.new))
    made = directory / "syncx" / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = {f"-I{sysconfig.get_path(name)}" for name in ("include", "platinclude")}
    flags = ["-std=gnu11", "-O0", "-fPIC", "-w", "-fvisibility=hidden", "-shared", "-pthread", *include]
    subprocess.run(["cc", *flags, "-o", made, *sorted(core.glob("*.c"))], check=True)


def seen(leak: Leak | None, scene: str, rounds: int = 200) -> tuple[int, str]:
    """Exit status and words of the command on that core."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncx-refleaks-")))
        build(leak, directory)
        done = subprocess.run(
            [sys.executable, "-m", "tests.refleaks", "--parts=scenes", f"--rounds={rounds}", f"--only={scene}"],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stdout + done.stderr


def main() -> int:
    """Every twin must be caught; 0 if they all are, 1 if one is not, 2: wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m tests.refleaks.twins", description="Cores that leak.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    begun, missed = time.monotonic(), 0
    for leak in IN_C:
        status, said = seen(leak, leak.scene)
        caught = status == 1 and leak.meter in said
        missed += not caught
        print(f"{'caught' if caught else 'MISSED'}: {leak.name} ({leak.scene})", flush=True)
        if not caught:
            print(said)
    if options.json:
        told = {
            "command": "python -m tests.refleaks.twins",
            "seconds": round(time.monotonic() - begun, 1),
            "figures": {"twins": len(IN_C), "caught": len(IN_C) - missed},
            "failures": missed,
        }
        options.json.write_text(json.dumps(told, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
