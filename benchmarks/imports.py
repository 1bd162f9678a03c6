"""The first import, in a fresh interpreter each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import syncx

from .peers import Field
from .place import Place
from .samples import Section
from .settings import Settings

# -I -S: no site-packages, whose start-up files may already have imported half of what counts here; `os` is part of
# every ordinary start.
_SCRIPT = """
import os, sys, time
sys.path.append(sys.argv[1])
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""


def _once(module: str) -> float:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _SCRIPT.format(module=module), str(Path(syncx.__file__).parents[1])],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        start_new_session=True,
    )
    return float(done.stdout) * 1e3


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    section = Section("import", "import in a fresh interpreter", "ms", "multiprocessing.synchronize")
    contestants = [("syncx", "syncx"), ("multiprocessing.synchronize", "peer"), ("threading", "peer")]
    for module, _ in contestants:
        _once(module)  # compiled, and in the page cache
    for module, kind in settings.interleaved("import", settings.number(31, 5), contestants):
        section.add(module, _once(module), kind)
    return [section]
