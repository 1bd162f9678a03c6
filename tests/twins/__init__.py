"""Broken twins: the real core with one law taken out, to show that the law's test would see it.

A twin is a few textual edits of the sources in `syncx/_core`.  The text that an edit replaces must be there exactly
once: when the core changes under a twin, its build fails and says so.  Only files that differ are compiled again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CORE = Path(__file__).resolve().parents[2] / "syncx" / "_core"
FLAGS = ("-std=gnu11", "-O2", "-g", "-w")


@dataclass(frozen=True)
class Edit:
    """Replaces `old`, which must occur exactly once in the file, by `new`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Twin:
    """A broken core: its name, and what is taken out of which file."""

    name: str
    edits: tuple[Edit, ...]

    def __str__(self) -> str:
        return self.name


def core_sources(core: Path = CORE) -> dict[str, str]:
    """The C core without its Python binding: file name -> text."""
    files = sorted(core.glob("*.[ch]"))
    return {f.name: f.read_text() for f in files if not f.name.startswith("py_") and f.name != "module.c"}


def apply(twin: Twin | None, sources: dict[str, str]) -> dict[str, str]:
    """The sources with the twin's edits."""
    changed = dict(sources)
    for edit in twin.edits if twin else ():
        found = changed[edit.file].count(edit.old)
        if found != 1:
            raise AssertionError(
                f"twin {twin}: its text occurs {found} times in {edit.file}; the core has changed, "
                f"bring the twin up to date:\n{edit.old}"
            )
        changed[edit.file] = changed[edit.file].replace(edit.old, edit.new)
    return changed


class Workshop:
    """Compiles programs against the core or a twin of it.  Several test processes may share the directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")

    def program(self, source: Path, twin: Twin | None = None) -> Path:
        """The program of that one C file, linked with the core."""
        sources = apply(twin, core_sources())
        headers = {n: t for n, t in sources.items() if n.endswith(".h")}
        objects = [self._object(n, t, headers) for n, t in sources.items() if n.endswith(".c")]
        objects.append(self._object(source.name, source.read_text(), headers))
        name = source.stem + "-" + hashlib.sha256("".join(o.name for o in objects).encode()).hexdigest()[:16]
        return self._made(name, lambda out: ["-no-pie", *map(str, objects), "-pthread", "-o", out])

    def _object(self, name: str, text: str, headers: dict[str, str]) -> Path:
        key = hashlib.sha256("\0".join([name, text, *headers.values()]).encode()).hexdigest()[:16]
        folder = self._directory / f"{Path(name).stem}-{key}-source"
        folder.mkdir(exist_ok=True)
        for file, content in {**headers, name: text}.items():
            temporary = folder / f"{file}.{os.getpid()}"
            temporary.write_text(content)
            temporary.replace(folder / file)
        return self._made(
            f"{Path(name).stem}-{key}.o", lambda out: [*FLAGS, "-c", f"-I{folder}", str(folder / name), "-o", out]
        )

    def _made(self, name: str, arguments: Callable[[str], list[str]]) -> Path:
        target = self._directory / name
        if not target.exists():
            # under a name of our own first: another process may be making the same
            temporary = self._directory / f"{name}.{os.getpid()}"
            command = [self._compiler, *arguments(str(temporary))]
            done = subprocess.run(command, capture_output=True, text=True, timeout=100)
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
            temporary.replace(target)
        return target


def workshop_for(factory: Any) -> Workshop:
    """The workshop of a test session, given pytest's tmp_path_factory: one for all of its workers."""
    base = factory.getbasetemp()
    return Workshop((base.parent if base.name.startswith("popen-") else base) / "twins")
