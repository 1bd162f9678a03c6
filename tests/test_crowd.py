"""Where many wait, each looks around the more seldom, and whoever does looks for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from conftest import RUN
from support import Child, until

import syncx

pytestmark = pytest.mark.core

CROWD = 400

WAIT = """
    threading.stack_size(128 * 1024)
    m = syncx.Mutex("m", arena=arena)

    def wait():
        with m:
            passed.append(threading.get_native_id())

    passed = []
    threads = [threading.Thread(target=wait, daemon=True) for _ in range(N)]
    for t in threads:
        t.start()
    say(); hear()
    for t in threads:
        t.join()
    say([len(passed), m.statistics()["recoveries"]])
    """

# the thread that holds, which is not the main one, makes the process another program: the kernel leaves no mark
HOLD = """
    m = syncx.Mutex("m", arena=arena)

    def hold():
        m.acquire()
        say()
        hear()
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"])

    threading.Thread(target=hold).start()
    """


def steps(arena: syncx.Arena) -> dict[int, int]:
    """How often each waiting thread has fallen asleep."""
    return {w.thread: w.ticket for w in syncx.snapshot(arena).waits}


@pytest.fixture
def other() -> Iterator[syncx.Arena]:
    arena = syncx.Arena(f"{RUN}-lonely")
    yield arena
    arena.unlink(force=True)
    arena.close()


@pytest.mark.death  # the children are killed as they wait
def test_a_crowd_looks_around_less_often(arena: syncx.Arena, other: syncx.Arena, child: Callable[..., Child]) -> None:
    """Beside one that waits alone in another arena."""
    with syncx.Mutex("m", arena=arena), syncx.Mutex("m", arena=other):
        crowd = [child(WAIT, N=CROWD // 2) for _ in range(2)]
        lonely = child(WAIT, N=1, ARENA=other.path)
        for c in (*crowd, lonely):
            c.hear()
        # after its first belt each knows that they are many
        until(lambda: len(now := steps(arena)) == CROWD and min(now.values()) >= 2, "the crowd has looked around")
        before, alone = sum(steps(arena).values()), sum(steps(other).values())
        until(lambda: sum(steps(other).values()) >= alone + 15, "the lonely one looks around")
        looked = sum(steps(arena).values()) - before
        assert looked < CROWD * 15 / 3
        for c in (*crowd, lonely):
            c.kill()


@pytest.mark.death
def test_a_death_that_left_no_mark_is_found_for_a_crowd(arena: syncx.Arena, child: Callable[..., Child]) -> None:
    """Nobody is told that the holder is gone: somebody's belt finds it for all, long before each has had its own."""
    holder = child(HOLD)
    holder.hear()
    crowd = child(WAIT, N=CROWD)
    crowd.hear()
    until(lambda: len(now := steps(arena)) == CROWD and min(now.values()) >= 2, "the crowd has looked around")
    holder.say()
    crowd.say()
    passed, recoveries = crowd.hear()
    assert (passed, recoveries) == (CROWD, 1)
    holder.kill()
