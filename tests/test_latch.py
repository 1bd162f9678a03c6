"""Latch: a count that goes down to 0 once, in every placement, between threads and processes."""

from __future__ import annotations

import math
import mmap
import os
import pickle
import signal
import threading
import time

import pytest
from support import PATIENCE, Place, until_waiting, waiters
from test_mutex import in_thread

import syncx

MAX = 2**31 - 1


@pytest.fixture
def latch(place: Place):
    return place.new(syncx.Latch, count=3)


def waiting_threads(latch, arena, n):
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(latch.wait())) for _ in range(n)]
    for t in threads:
        t.start()
    until_waiting(arena, n)
    return threads, results


def join(threads):
    for t in threads:
        t.join(PATIENCE)
        assert not t.is_alive()


# ---- the count -------------------------------------------------------------------------------------------------------


def test_it_goes_down_and_opens(latch):
    assert latch.count == 3
    assert latch.wait(0) is False
    assert latch.count_down() is None
    assert latch.count == 2
    latch.count_down(n=2)
    assert latch.count == 0
    for timeout in (None, -1, 0, 1.5):
        assert latch.wait(timeout) is True
    assert latch.wait() is True


def test_more_than_is_left(latch):
    for n in (4, 5, MAX):
        with pytest.raises(ValueError, match="more than is left"):
            latch.count_down(n)
        assert latch.count == 3
    latch.count_down(3)
    with pytest.raises(ValueError, match="more than is left"):
        latch.count_down()
    assert latch.wait() is True


@pytest.mark.parametrize("count", [0, 1, 1000, MAX])
def test_the_count_at_first(place: Place, count):
    latch = place.new(syncx.Latch, count=count)
    assert latch.count == count
    assert latch.wait(0) is (count == 0)
    if count:
        latch.count_down(count)
    assert latch.wait() is True


def test_without_a_count_it_is_one(place: Place):
    assert place.new(syncx.Latch).count == 1


def test_a_second_handle_is_the_same_latch(latch, place: Place):
    other = place.again(latch)
    other.count_down(2)
    assert latch.count == 1
    latch.count_down()
    assert other.wait() is True


def test_counting_down_from_many_threads_is_exact(place: Place):
    """As many as there are get through, and not one more."""
    latch = place.new(syncx.Latch, count=1000)
    counted = []

    def run():
        n = 0
        try:
            while True:
                latch.count_down()
                n += 1
        except ValueError:
            counted.append(n)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for t in threads:
        t.start()
    join(threads)
    assert sum(counted) == 1000
    assert latch.count == 0


# ---- waiting ---------------------------------------------------------------------------------------------------------


def test_all_who_wait_go_on_at_0_and_not_before(latch, arena):
    threads, results = waiting_threads(latch, arena, 4)
    latch.count_down()
    latch.count_down()
    assert latch.wait(0.15) is False
    assert not results
    latch.count_down()
    join(threads)
    assert results == [True] * 4
    assert waiters(arena) == 0


def test_a_timeout(latch):
    start = time.monotonic()
    assert latch.wait(0.05) is False
    assert latch.wait(timeout=0.25) is False  # outlasts the belt
    assert time.monotonic() - start >= 0.3
    assert latch.count == 3


def test_processes_wait_and_count_down(latch, place: Place, child, arena):
    code = "latch = open_lock(recipe); say(latch.count); say(latch.wait())"
    children = [child(code, recipe=place.recipe(latch)) for _ in range(3)]
    for c in children:
        assert c.hear() == 3
    until_waiting(arena, 3)
    counter = child("open_lock(recipe).count_down(2)", recipe=place.recipe(latch))
    counter.finish()
    latch.count_down()
    for c in children:
        assert c.hear() is True
        c.finish()


def test_ctrl_c_ends_the_wait(latch, place: Place, child, arena):
    c = child(
        """
        latch = open_lock(recipe)
        say()
        try:
            latch.wait()
        except KeyboardInterrupt:
            say("interrupted")
        say(latch.wait(30))
        """,
        recipe=place.recipe(latch),
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGINT)
    assert c.hear() == "interrupted"
    latch.count_down(3)
    assert c.hear() is True
    c.finish()


def test_a_handler_that_counts_down(latch, place: Place, child, arena):
    c = child(
        """
        latch = open_lock(recipe)
        signal.signal(signal.SIGUSR1, lambda *_: latch.count_down(3))
        say()
        say(latch.wait())
        """,
        recipe=place.recipe(latch),
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGUSR1)
    assert c.hear() is True
    c.finish()


def test_fork_in_a_handler_inside_a_wait(latch, place: Place, child, arena):
    c = child(
        """
        latch = open_lock(recipe)
        pid = None
        def fork(*_):
            global pid
            pid = os.fork()
        signal.signal(signal.SIGUSR1, fork)
        say()
        opened = latch.wait()
        if pid == 0:
            os._exit(0 if opened else 1)
        say([opened, wait_for(pid)])
        """,
        recipe=place.recipe(latch),
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGUSR1)
    until_waiting(arena, 2)
    latch.count_down(3)
    assert c.hear() == [True, 0]
    c.finish()


@pytest.mark.death
def test_a_killed_waiter_keeps_nobody_asleep(latch, place: Place, child, arena):
    code = "latch = open_lock(recipe); say(); say(latch.wait())"
    victim, other = (child(code, recipe=place.recipe(latch)) for _ in range(2))
    for c in (victim, other):
        c.hear()
    until_waiting(arena, 2)
    victim.kill()
    latch.count_down(3)
    assert other.hear() is True
    other.finish()


@pytest.mark.death
def test_what_the_dead_counted_down_stays_so(latch, place: Place, child):
    victim = child("latch = open_lock(recipe); latch.count_down(2); say(); hear()", recipe=place.recipe(latch))
    victim.hear()
    victim.kill()
    assert latch.count == 1
    latch.count_down()
    assert latch.wait() is True


# ---- names, pickles, placements --------------------------------------------------------------------------------------


def test_a_name_keeps_its_count(arena):
    first = syncx.Latch(3, name="l", arena=arena)
    first.count_down()
    assert syncx.Latch(name="l", arena=arena).count == 2
    assert syncx.Latch(3, name="l", arena=arena).count == 2
    for count in (0, 1, 2, MAX):
        with pytest.raises(ValueError, match=f"'l'.*3.*{count}"):
            syncx.Latch(count, name="l", arena=arena)
    with pytest.raises(FileExistsError):
        syncx.Latch(3, name="l", arena=arena, create="exclusive")
    with pytest.raises(FileNotFoundError):
        syncx.Latch(3, name="m", arena=arena, create=False)
    with pytest.raises(ValueError, match="Latch"):
        syncx.Mutex("l", arena=arena)


def test_another_count_in_the_users_memory(arena):
    memory = mmap.mmap(-1, 4096)
    latch = syncx.Latch.at(memory, 64, count=0, arena=arena)
    assert syncx.Latch.at(memory, 64, arena=arena).wait(0) is True
    with pytest.raises(ValueError, match=r"0.*5"):
        syncx.Latch.at(memory, 64, count=5, arena=arena)
    latch.close()


def test_unlinked(arena):
    old = syncx.Latch(2, name="l", arena=arena)
    arena.unlink("l")
    for use in (old.count_down, old.wait, lambda: old.wait(0), lambda: old.wait(1)):
        with pytest.raises(syncx.Gone, match="unlinked"):
            use()
    assert syncx.Latch(5, name="l", arena=arena).count == 5


def test_unlinking_tells_those_who_wait(arena):
    latch = syncx.Latch(1, name="l", arena=arena)
    errors = []

    def wait():
        try:
            latch.wait()
        except syncx.Gone as e:
            errors.append(e)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for t in threads:
        t.start()
    until_waiting(arena, 3)
    arena.unlink("l", force=True)
    join(threads)
    assert len(errors) == 3


def test_pickling(place: Place):
    latch = place.new(syncx.Latch, count=2)
    if place.how not in ("named", "anonymous"):
        with pytest.raises(TypeError, match="memory"):
            pickle.dumps(latch)
        return
    other = pickle.loads(pickle.dumps(latch))
    assert type(other) is syncx.Latch
    assert other.name == latch.name
    other.count_down(2)
    assert latch.wait(0) is True
    other.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing(child, tmp_path, arena, method):
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import multiprocessing, sys
sys.path.insert(0, {str(os.path.dirname(__file__))!r})
import syncx
from support import count_down_and_wait, say

if __name__ == "__main__":
    arena = syncx.Arena({arena.path!r})
    context = multiprocessing.get_context({method!r})
    latch = syncx.Latch(3, arena=arena)
    ps = [context.Process(target=count_down_and_wait, args=(latch,)) for _ in range(2)]
    for p in ps: p.start()
    latch.count_down()
    say(latch.wait(30))
    for p in ps: p.join()
    say([p.exitcode for p in ps])
"""
    )
    c = child("os.execv(sys.executable, [sys.executable, program])", program=str(program))
    assert c.hear() is True
    assert c.hear() == [0, 0]
    c.finish()


def test_random_bytes_never_crash(arena):
    import random

    memory = mmap.mmap(-1, 4096)
    rng = random.Random(20_28)
    latch = syncx.Latch.at(memory, count=2, arena=arena)
    good = memory[: syncx.Latch.SIZE]
    latch.close()
    for _ in range(400):
        data = bytearray(good)
        for _ in range(rng.choice((1, 2, 8, 64))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        memory[: syncx.Latch.SIZE] = bytes(data)
        try:
            latch = syncx.Latch.at(memory, arena=arena)
            latch.wait(0), latch.count, repr(latch), latch.statistics()
            latch.count_down()
        except (ValueError, RuntimeError):
            pass
        finally:
            latch.close()


def test_the_count_stays_when_its_arena_is_made_anew(tmp_path):
    memory = mmap.mmap(-1, 4096)
    place = str(tmp_path / "arena")
    old = syncx.Arena(place)
    latch = syncx.Latch.at(memory, count=5, arena=old)
    latch.count_down(2)
    old.unlink(force=True)
    with syncx.Arena(place) as anew:
        other = syncx.Latch.at(memory, arena=anew)
        assert other.count == 3
        for use in (latch.count_down, latch.wait):
            with pytest.raises(syncx.Gone):
                use()
        other.count_down(3)
        assert other.wait() is True
        other.close()
        anew.unlink()
    latch.close()
    old.close()


# ---- life ------------------------------------------------------------------------------------------------------------


def test_closed(latch):
    latch.close()
    latch.close()
    for use in (latch.count_down, latch.wait, lambda: latch.count, latch.statistics):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert "closed" in repr(latch)


def test_close_is_refused_while_a_thread_waits(latch, arena):
    threads, _ = waiting_threads(latch, arena, 1)
    with pytest.raises(RuntimeError, match="in use"):
        latch.close()
    latch.count_down(3)
    join(threads)


def test_repr(arena):
    latch = syncx.Latch(3, name="l", arena=arena)
    assert repr(latch) == "<syncx.Latch 'l' count 3>"
    latch.count_down(3)
    assert repr(latch) == "<syncx.Latch 'l' open>"


def test_what_the_arena_tells_of_it(latch, arena):
    latch.count_down()
    infos = [o for o in arena.objects() if o.kind == "Latch"]
    assert [(o.parameter, o.value, o.holders) for o in infos] in ([], [(3, 2, ())])  # one in our own memory is unseen


# ---- wrong input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [-1, 2**31, 10**30])
def test_a_count_out_of_range(arena, count):
    with pytest.raises(ValueError, match="0 to 2147483647"):
        syncx.Latch(count, arena=arena)


@pytest.mark.parametrize("count", ["jobs", 1.0, True, [], None])
def test_a_count_of_another_type(arena, count):
    with pytest.raises(TypeError, match="count must be an int"):
        syncx.Latch(count, arena=arena)


def test_n_of_count_down(latch):
    for n in (0, -1, 2**31):
        with pytest.raises(ValueError, match="n must be from 1"):
            latch.count_down(n)
    for n in ("1", 1.0, True, None):
        with pytest.raises(TypeError, match="n must be an int"):
            latch.count_down(n)
    for args, kwargs in (((1, 1), {}), ((), {"count": 1})):
        with pytest.raises(TypeError, match="n=1"):
            latch.count_down(*args, **kwargs)
    assert latch.count == 3


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((-2,), ValueError),
        ((math.nan,), ValueError),
        ((math.inf,), OverflowError),
        ((threading.TIMEOUT_MAX * 2,), OverflowError),
        (("1",), TypeError),
        ((1, 1), TypeError),
    ],
)
def test_arguments_of_wait(latch, args, error):
    with pytest.raises(error):
        latch.wait(*args)


def test_it_is_no_lock(latch):
    with pytest.raises((TypeError, AttributeError)), latch:
        raise AssertionError
    assert in_thread(latch.wait, 0) is False


def test_the_maximum_and_the_size():
    assert syncx.Latch.MAX_VALUE == MAX
    assert syncx.Latch.SIZE == 128
