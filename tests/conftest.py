"""Fixtures: an arena and children of each test's own, locks in every placement, and the search for leaks.

Runs under pytest-xdist with `--dist load --max-worker-restart=0`.  Nothing here or in the tests forks a worker.
"""

from __future__ import annotations

import gc
import itertools
import multiprocessing.shared_memory
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

sys.path[:0] = [os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__))]  # `support`, `tests.fuzz`
pytest.register_assert_rewrite("support")

RUN = f"test-{os.environ.get('PYTEST_XDIST_TESTRUNUID', '')[:6]}{os.environ.get('PYTEST_XDIST_WORKER', '')}"
RUN = f"{RUN}-{secrets.token_hex(3)}"
os.environ["SYNCX_TEST_RUN"] = RUN  # support.MARK; inherited by every process a test starts
os.environ["SYNCX_ARENA"] = f"{RUN}-default"  # nothing touches the user's default arena
os.environ.pop("PYTHONPATH", None)
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:  # as in `nohup tox &`: children would inherit that
        signal.signal(number, usual)

# so that a segment multiprocessing named for us can be told from other people's
PSM = f"psm_{secrets.token_hex(2)}"
multiprocessing.shared_memory._SHM_NAME_PREFIX = f"/{PSM}"

from support import Child, Leaks, Place, own_system_v  # noqa: E402

import syncx  # noqa: E402

OWN_SYSTEM_V = own_system_v()

_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "death: somebody dies in this test, so the belt may have to rescue a wake-up")
    config.addinivalue_line("markers", "core: about the C core alone, and so the same under every Python: run once")
    config.addinivalue_line("markers", "slow: takes more than a few seconds")


@pytest.fixture(scope="session", autouse=True)
def no_leaks() -> Iterator[Leaks]:
    """Fails the session if the tests left shared memory, processes, System V objects or temporary files."""
    old = os.environ.get("TMPDIR"), tempfile.tempdir
    directory = os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="syncx-tests-")
    leaks = Leaks(RUN, directory, PSM, OWN_SYSTEM_V)
    yield leaks
    gc.collect()
    default = syncx.Arena(os.environ["SYNCX_ARENA"])
    default.unlink(force=True)
    default.close()
    found = leaks.found()
    shutil.rmtree(directory, ignore_errors=True)
    tempfile.tempdir = old[1]
    if old[0] is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = old[0]
    assert not found, "left behind:\n  " + "\n  ".join(found)


WATCH, RESCUES = pytest.StashKey[syncx.Arena](), pytest.StashKey[int]()


@pytest.fixture
def arena(request: pytest.FixtureRequest) -> Iterator[syncx.Arena]:
    """An arena of the test's own.  Where nobody died, no wake-up may have needed the belt."""
    name = f"{RUN}-{next(_numbers)}"
    mine, watch = syncx.Arena(name), syncx.Arena(name)
    request.node.stash[WATCH] = watch
    yield mine
    rescues = request.node.stash.get(RESCUES, watch.statistics()["rescues"])
    watch.unlink(force=True)
    watch.close()
    mine.close()
    if request.node.get_closest_marker("death") is None:
        assert rescues == 0, f"{rescues} wake-ups were lost and rescued by the belt although nobody died"


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Iterator[Callable[..., Child]]:
    """Starts snippets in processes of their own; kills what is left of them afterwards.  `arena` comes by itself."""
    children: list[Child] = []

    def start(code: str, **names: Any) -> Child:
        if "arena" in request.fixturenames:
            names.setdefault("ARENA", request.getfixturevalue("arena").path)
        children.append(Child(code, **names))
        return children[-1]

    # the arena is torn down after the children
    if "arena" in request.fixturenames:
        request.getfixturevalue("arena")
    yield start
    if WATCH in request.node.stash and any(c.process.poll() is None for c in children):
        # those that are killed now may rescue each other: what counts is what was before
        request.node.stash[RESCUES] = request.node.stash[WATCH].statistics()["rescues"]
    for c in children:
        c.close()


@pytest.fixture(params=Place.HOW)
def place(request: pytest.FixtureRequest, arena: syncx.Arena, tmp_path: Any) -> Iterator[Place]:
    """A placement: named, anonymous, and three kinds of the user's own memory."""
    place = Place(request.param, arena, tmp_path)
    yield place
    place.close()


@pytest.fixture(scope="session")
def locker_directory(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where the C program of the tests of file locks is compiled, once for all of them."""
    return tmp_path_factory.mktemp("locker")


@pytest.fixture
def start(child: Callable[..., Child], arena: syncx.Arena, locker_directory: Any) -> Callable[..., Any]:
    """Starts a program, ours or another, that locks a file as it is told: `start(OURS["ofd"], path)`."""
    from interop.parties import Party

    return lambda kind, path: Party(kind, path, child, locker_directory, arena.path)
