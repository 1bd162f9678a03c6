"""What is built from the sources: a wheel without C sources, an sdist with them, and both work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import syncx

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


def run(*command, cwd):
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "CFLAGS": "-O0"}  # for the contents, not for speed
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def have_build_tools() -> bool:
    code = "import setuptools, pip; assert int(setuptools.__version__.split('.')[0]) >= 77"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def build(directory):
    """The sdist's name and members, and the wheel built from the unpacked sdist; all from a copy of the sources."""
    if not have_build_tools() or shutil.which("cc") is None:
        pytest.skip("setuptools >= 77, pip or a C compiler is missing here")
    copy = directory / "copy"
    shutil.copytree(
        ROOT,
        copy,
        ignore=shutil.ignore_patterns(
            *(".git", "*.so", "build", "*.egg-info", "__pycache__", ".tox", "*.o", "docs", ".venv"),
            ".*_cache",  # other tools may be writing there at this moment
        ),
    )
    code = "import setuptools.build_meta as b; print(b.build_sdist('dist'))"
    name = run(sys.executable, "-c", code, cwd=copy).split()[-1]
    with tarfile.open(copy / "dist" / name) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(directory / "unpacked", filter="data")
        else:
            tar.extractall(directory / "unpacked")
        members = tar.getnames()
    (source,) = (directory / "unpacked").iterdir()
    offline = ("--no-build-isolation", "--no-deps", "--no-index")
    run(sys.executable, "-m", "pip", "wheel", *offline, "-w", directory, source, cwd=directory)
    (wheel,) = directory.glob("*.whl")
    return source.name, {m.partition("/")[2] for m in members}, wheel


def check_the_sdist_has_everything_to_build_from(root, members):
    assert root.startswith("syncx-")
    core = {f"syncx/_core/{p.name}" for p in (ROOT / "syncx" / "_core").glob("*.[ch]")}
    assert core <= members
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md", "syncx/py.typed", "syncx/__init__.py"):
        assert name in members
    assert {str(p.relative_to(ROOT)) for p in (ROOT / "syncx").rglob("*.pyi")} <= members
    assert not [m for m in members if m.endswith((".so", ".o", ".pyc"))]


def check_the_wheel_has_no_sources_of_c(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert not [n for n in names if n.endswith((".c", ".h", ".o")) or "/_core/" in n]
    assert [n for n in names if n.startswith("syncx/_core.") and n.endswith(".so")]
    assert "syncx/py.typed" in names
    modules = {str(p.relative_to(ROOT)) for pattern in ("*.py", "*.pyi") for p in (ROOT / "syncx").rglob(pattern)}
    assert "syncx/cli/parser.py" in modules
    assert modules - set(names) == set()
    top = {n.split("/")[0] for n in names}
    assert top == {"syncx", next(n for n in top if n.endswith(".dist-info"))}  # no tests, benchmarks or contrib


def check_the_wheel_works(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import syncx, sys\n"
        "assert syncx.__file__.startswith(sys.argv[1]), syncx.__file__\n"
        "with syncx.Mutex() as m: print(m.locked())\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=20
    )
    assert done.stdout == "True\n", done.stderr
    (metadata,) = (tmp_path / "site").glob("*.dist-info/METADATA")
    text = metadata.read_text()
    assert "Requires-Python: >=3.10" in text
    assert "\nRequires-Dist: " not in text.split("Provides-Extra")[0]


@pytest.mark.timeout(120)
def test_sdist_and_wheel(tmp_path):
    """One test, so that under pytest-xdist one worker builds once."""
    root, members, wheel = build(tmp_path)
    check_the_sdist_has_everything_to_build_from(root, members)
    check_the_wheel_has_no_sources_of_c(wheel)
    check_the_wheel_works(wheel, tmp_path)


def test_a_source_tree_that_is_not_built_says_so(tmp_path):
    """The bare folder of the C sources can be imported too; the message says what to do."""
    # other tests may be compiling modules at this moment, under names that come and go
    left_out = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(Path(syncx.__file__).parent, tmp_path / "syncx", ignore=left_out)
    (tmp_path / "syncx" / "_core").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", "import syncx"], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "ImportError: this is the source tree of syncx without its C part" in done.stderr
    assert "pip install -e ." in done.stderr
