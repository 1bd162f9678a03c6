"""Builds and loads the floors: floors.c, a Python extension, and robust.c, pair.c and herd.c, programs.

They are compiled at first use with the system's compiler into benchmarks/build, and again when a source is newer.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
BUILD = HERE / "build"


class NotBuilt(Exception):
    """There is no compiler, or it did not like the source; the message says which."""


def _compile(source: Path, target: Path, options: list[str]) -> Path:
    """Compiles unless the target is up to date; the target appears complete or not at all."""
    if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
        return target
    BUILD.mkdir(exist_ok=True)
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[:1]
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    command = [*compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-missing-field-initializers", *options]
    try:
        done = subprocess.run(
            [*command, "-o", str(part), str(source)], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode != 0:
            raise NotBuilt(f"{source.name} does not compile: {done.stderr.strip() or done.returncode}")
        os.replace(part, target)
    except OSError as e:
        raise NotBuilt(f"{source.name} cannot be compiled: {e}") from e
    finally:
        part.unlink(missing_ok=True)
    return target


def module() -> ModuleType:
    """The extension of floors.c, for the running interpreter."""
    target = BUILD / f"floors{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = sysconfig.get_path("include")
    _compile(HERE / "floors.c", target, ["-shared", "-fPIC", "-pthread", f"-I{include}"])
    spec = importlib.util.spec_from_file_location("floors", target)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def program(name: str) -> Path:
    """The program of that source: robust, pair or herd."""
    return _compile(HERE / f"{name}.c", BUILD / f"{name}-{os.uname().machine}", ["-pthread"])
