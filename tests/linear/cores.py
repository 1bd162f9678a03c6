"""The real core with a law taken out, as the extension that the histories are played with.

The edits are those of `tests/twins`: each replaces a text that must be in the sources exactly once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from twins import CORE, Edit, Twin, apply
from twins.table import DEATH_NOT_TOLD, TAKES_FROM_THE_LIVING

CORE_TWINS: list[tuple[str, Twin]] = [
    ("mutex", DEATH_NOT_TOLD),
    ("mutex", TAKES_FROM_THE_LIVING),
    (
        "condition",
        Twin(
            "notify chooses one more",
            (Edit("condition.c", "n - done < BATCH ? n - done : BATCH", "n - done < BATCH ? n - done + 1 : BATCH"),),
        ),
    ),
    (
        "rwlock",
        Twin("a writer does not wait for readers", (Edit("rwlock.c", "if (first == 0) {", "if (first != 1) {"),)),
    ),
    (
        "once",
        Twin(
            "who has waited does not look whether it is done",
            (Edit("once.c", "if (!*done && !(w & ONCE_RETIRED))", "if (*done = false, !(w & ONCE_RETIRED))"),),
        ),
    ),
    (
        "once",
        Twin(
            "whose time is over does not look whether it is done",
            (Edit("once.c", "(s == SX_TIMEOUT || s == SX_BUSY) && sx_once_done(o)", "false"),),
        ),
    ),
    (
        "bounded",
        Twin(
            "the permits of the dead stay held",
            (Edit("permits.c", "life == SX_DEAD ? SX_OK : SX_DAMAGED", "SX_BUSY"),),
        ),
    ),
    (
        "barrier",
        Twin(
            "one party is not waited for",
            (
                Edit(
                    "barrier.c",
                    "a->last = arrivals(b, w) == b->cell.parameter;",
                    "a->last = arrivals(b, w) + 1 >= b->cell.parameter;",
                ),
                Edit("barrier.c", "if (arrivals(b, w) != b->cell.parameter)", "if (false)"),
            ),
        ),
    ),
    (
        "event",
        Twin(
            "a wait without time does not look",
            (
                Edit(
                    "event.c",
                    "    if (w & EVENT_SET)\n        return SX_OK;\n    if (deadline == 0)",
                    "    if (w & EVENT_SET && deadline != 0)\n        return SX_OK;\n    if (deadline == 0)",
                ),
            ),
        ),
    ),
]
"""The primitive whose histories must refute it, and the twin."""


def _compiled(compiler: list[str], cache: Path, name: str, text: str, headers: dict[str, str]) -> Path:
    """The object file of a source; made once for each text."""
    key = hashlib.sha256("\0".join([name, text, *headers.values(), *compiler]).encode()).hexdigest()[:16]
    target = cache / f"{Path(name).stem}-{key}.o"
    if not target.exists():
        folder = cache / target.stem
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in {**headers, name: text}.items():
            (folder / file).write_text(content)
        command = [*compiler, "-c", str(folder / name), "-o", str(target)]
        subprocess.run(command, check=True, timeout=300)
    return target


def build(twin: Twin, directory: Path) -> Path:
    """A copy of the package with that core: a directory for PYTHONPATH.

    Raises AssertionError if the twin's text is not in the core any more, CalledProcessError if it does not compile.
    """
    sources = apply(twin, {f.name: f.read_text() for f in sorted(CORE.glob("*.[ch]"))})
    headers = {n: t for n, t in sources.items() if n.endswith(".h")}
    compiler = [os.environ.get("CC") or "cc", "-std=gnu11", "-O2", "-w", "-fPIC", "-fvisibility=hidden"]
    compiler.append(f"-I{sysconfig.get_paths()['include']}")
    cache = directory / "objects"
    with ThreadPoolExecutor(2) as pool:
        c_files = [n for n in sources if n.endswith(".c")]
        objects = list(pool.map(lambda n: _compiled(compiler, cache, n, sources[n], headers), c_files))
    place = directory / hashlib.sha256(str(twin).encode()).hexdigest()[:12]
    shutil.rmtree(place, ignore_errors=True)
    without = shutil.ignore_patterns("_core.*.so", "*.c", "*.h", "__pycache__")
    shutil.copytree(CORE.parent, place / "syncx", ignore=without)
    library = place / "syncx" / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    subprocess.run(
        [compiler[0], "-shared", *map(str, objects), "-pthread", "-o", str(library)], check=True, timeout=300
    )
    return place


def refuted(primitive: str, place: Path, arguments: list[str]) -> Iterator[str]:
    """Plays histories with that core until one is refuted.  Yields what the command says, line by line.

    Raises RuntimeError if it cannot be played, or if none of them is refuted.
    """
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{root}"}
    command = [sys.executable, "-m", "tests.linear", primitive, "--stop", *arguments]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=3000)
    if done.returncode != 1:
        raise RuntimeError(f"status {done.returncode}: {done.stderr[-2000:]}")
    yield from done.stdout.splitlines()
