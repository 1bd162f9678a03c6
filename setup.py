"""The C extensions; everything else is in pyproject.toml."""

import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

if not sys.platform.startswith("linux"):
    raise SystemExit(f"syncx needs Linux (it is built on futexes and robust mutexes); this is {sys.platform}")


class BuildPy(build_py):
    """No C source or header goes into a wheel: syncx/_core holds nothing else."""

    def find_data_files(self, package, src_dir):
        return [f for f in super().find_data_files(package, src_dir) if not f.endswith((".c", ".h"))]


FLAGS = [
    "-std=gnu11",
    "-O2",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Werror=implicit-function-declaration",  # it would cut pointers in half, without an error
    "-Wno-missing-field-initializers",
    "-Wno-cast-function-type",
]

extensions = [
    Extension(
        "syncx._core",
        sources=sorted(str(p) for p in Path("syncx/_core").glob("*.c")),
        depends=sorted(str(p) for p in Path("syncx/_core").glob("*.h")),
        extra_compile_args=FLAGS,
        extra_link_args=["-pthread"],
    )
]
if platform.machine() == "x86_64":  # it reads registers and opcodes
    extensions.append(
        Extension(
            "syncx.testing._step",
            sources=["syncx/testing/_step.c", "syncx/testing/_trace.c"],
            depends=["syncx/testing/_trace.h"],
            extra_compile_args=FLAGS,
        )
    )

setup(cmdclass={"build_py": BuildPy}, ext_modules=extensions)
