"""The inputs that the fuzzers keep, run once more: what was found once is not found again.  No clang is needed.

The program is the fuzzers' own, without libFuzzer, linked with the core as its tests under AddressSanitizer have it.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests import fuzz
from tests.fuzz.twins import TWINS, write_core

GLIBC = tuple(int(n) for n in platform.libc_ver()[1].split(".")[:2] if n.isdigit())

pytestmark = [
    pytest.mark.core,
    pytest.mark.timeout(900),  # where nothing is built yet, all of the core is compiled
    pytest.mark.skipif(GLIBC < (2, 33), reason="stat() is a macro before glibc 2.33, and cannot be imitated"),
]


@pytest.fixture(scope="module")
def program():
    return fuzz.build("replay")


def replay(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory(prefix="syncx-fuzz-") as room:  # one that crashes leaves what it has
        environment = {**os.environ, "SYNCX_FUZZ_DIRECTORY": room}
        return subprocess.run(
            [program, *map(str, arguments)], capture_output=True, text=True, errors="replace", timeout=100,
            env=environment,
        )  # fmt: skip


def test_what_is_kept_and_what_chance_brings(program):
    for target in fuzz.TARGETS:
        files = fuzz.kept(target)
        done = replay(program, target, *files)
        assert done.returncode == 0, f"{target}:\n{done.stderr[-3000:]}"
        assert int(done.stdout.split()[0]) > 0, f"{target} has no inputs"
    done = replay(program, "--random", 30)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_twin_is_found(program, tmp_path):
    """With one check of the core taken out, the kept inputs meet what it kept out."""
    target = "names"
    core = write_core(TWINS[target], tmp_path / "core")
    plain = fuzz.HERE.parent / "core" / "build" / "asan"
    (tmp_path / "plain").mkdir()
    shutil.copytree(plain, tmp_path / "plain" / "asan")
    shutil.copytree(fuzz.HERE / "build" / "plain", tmp_path / "build" / "plain")
    twin = fuzz.build("replay", CORE=core, BUILD=tmp_path / "build", PLAIN=tmp_path / "plain")
    done = replay(twin, target, *fuzz.kept(target))
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr


def test_the_targets_are_those_of_the_program(program):
    done = replay(program, "nothing", "-")
    assert done.returncode == 2
    assert done.stderr.split("there are:")[1].split() == list(fuzz.TARGETS)


@pytest.mark.parametrize("target", TWINS)
def test_a_twin_fits_the_core(target, tmp_path):
    write_core(TWINS[target], tmp_path / "core")
    assert target in fuzz.TARGETS
