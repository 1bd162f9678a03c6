"""Semaphore: a count without owners, in every placement, between threads and processes."""

from __future__ import annotations

import contextlib
import gc
import math
import mmap
import os
import pickle
import signal
import sys
import threading
import time
import weakref

import pytest
from support import PATIENCE, Place, until, until_waiting, waiters
from test_mutex import in_thread

import syncx
from syncx import _core

MAX = 2**31 - 1


@pytest.fixture
def semaphore(place: Place):
    return place.new(syncx.Semaphore, value=2)


def gather(*calls):
    """Threads that run the calls; the list of results grows as they end."""
    results: list[object] = []
    threads = [threading.Thread(target=lambda call=call: results.append(call())) for call in calls]
    for t in threads:
        t.start()
    return threads, results


def join(threads):
    for t in threads:
        t.join(PATIENCE)
        assert not t.is_alive()


# ---- the count -------------------------------------------------------------------------------------------------------


def test_units_are_taken_and_added(semaphore):
    assert semaphore.value == 2
    assert semaphore.acquire() is True
    assert semaphore.acquire() is True
    assert semaphore.acquire(False) is False
    assert semaphore.value == 0
    assert semaphore.release() is None
    semaphore.release(4)
    semaphore.release(n=1)
    assert semaphore.value == 6


def test_several_or_none(semaphore):
    assert semaphore.acquire(False, n=3) is False
    assert semaphore.value == 2
    assert semaphore.acquire(n=2) is True
    assert semaphore.value == 0
    semaphore.release(3)
    assert semaphore.acquire(blocking=False, n=2) is True
    assert semaphore.acquire(timeout=0.01, n=2) is False
    assert semaphore.value == 1


@pytest.mark.parametrize("value", [0, 1, 5, MAX])
def test_the_value_at_first(place: Place, value):
    semaphore = place.new(syncx.Semaphore, value=value)
    assert semaphore.value == value
    assert semaphore.locked() is (value == 0)
    assert semaphore.acquire(False) is (value > 0)


def test_without_a_value_it_is_one(place: Place):
    assert place.new(syncx.Semaphore).value == 1


def test_locked(semaphore):
    assert semaphore.locked() is False
    semaphore.acquire(n=2)
    assert semaphore.locked() is True


def test_nobody_owns_a_unit(semaphore):
    """Whoever releases need not have acquired, and there may be more units than there were at first."""
    in_thread(semaphore.release, 5)
    assert semaphore.value == 7
    semaphore.acquire(n=7)
    in_thread(semaphore.release)
    assert semaphore.value == 1


def test_a_second_handle_sees_the_same_count(semaphore, place: Place):
    other = place.again(semaphore)
    other.acquire()
    assert semaphore.value == other.value == 1
    semaphore.release(3)
    assert other.acquire(n=4) is True
    assert semaphore.locked()


def test_no_more_than_the_most(semaphore):
    semaphore.release(MAX - 2)
    assert semaphore.value == MAX
    for n in (1, 2, 2048, MAX):
        with pytest.raises(ValueError, match="2147483647"):
            semaphore.release(n)
        assert semaphore.value == MAX
    assert semaphore.acquire(n=MAX)
    assert semaphore.value == 0
    semaphore.release(MAX)


def test_the_limit_holds_while_somebody_waits(semaphore, arena):
    semaphore.acquire()
    threads, results = gather(lambda: semaphore.acquire(n=MAX))
    until_waiting(arena)
    semaphore.release(MAX - 2)
    until_waiting(arena)
    for n in (2, 2048, MAX):
        with pytest.raises(ValueError, match="2147483647"):
            semaphore.release(n)
    assert semaphore.value == MAX - 1
    semaphore.release()
    join(threads)
    assert results == [True]
    assert semaphore.value == 0


# ---- with ------------------------------------------------------------------------------------------------------------


def test_with_takes_a_unit_and_yields_the_semaphore(semaphore):
    with semaphore as s, semaphore:
        assert s is semaphore
        assert semaphore.value == 0
    assert semaphore.value == 2


def test_with_gives_the_unit_back_when_the_body_raises(semaphore):
    with pytest.raises(ZeroDivisionError), semaphore:
        raise ZeroDivisionError
    assert semaphore.value == 2


def test_with_waits_as_long_as_the_timeout_says(place: Place):
    semaphore = place.new(syncx.Semaphore, value=0, timeout=0.02)
    assert semaphore.timeout == 0.02
    ran = []
    with pytest.raises(syncx.Timeout, match=r"0\.02"), semaphore:
        ran.append(1)
    assert not ran
    assert semaphore.value == 0


def test_within(semaphore):
    with semaphore.within(1) as s:
        assert s is semaphore
        assert semaphore.value == 1
    semaphore.acquire(n=2)
    with pytest.raises(syncx.Timeout), semaphore.within(0.01):
        raise AssertionError
    for wrong, error in ((-1, ValueError), (math.nan, ValueError), (None, TypeError), ("1", TypeError)):
        with pytest.raises(error):
            semaphore.within(wrong)


def test_exit_stack_and_the_methods_themselves(semaphore):
    with contextlib.ExitStack() as stack:
        assert stack.enter_context(semaphore) is semaphore
        assert semaphore.value == 1
    assert semaphore.value == 2
    enter, leave = semaphore.__enter__, semaphore.__exit__
    assert enter() is semaphore
    assert leave(None, None, None) is None
    with pytest.raises(TypeError):
        leave()
    with pytest.raises(TypeError):
        enter(1)
    assert semaphore.value == 2


# ---- waiting ---------------------------------------------------------------------------------------------------------


def test_a_release_lets_one_waiter_go_on(semaphore, arena):
    semaphore.acquire(n=2)
    threads, results = gather(*[semaphore.acquire] * 3)
    until_waiting(arena, 3)
    for n in range(1, 4):
        semaphore.release()
        until_results(results, n)
        assert semaphore.value == 0
    join(threads)


def until_waits(arena, pid):
    """Until a thread of that process has published that it waits."""
    until(lambda: any(row[1] == pid and row[3] for row in arena._participants()), f"process {pid} waits")


def until_results(results, n):
    until(lambda: len(results) >= n, f"{n} waiters went on")
    assert len(results) == n


def test_a_release_of_several_lets_as_many_go_on(semaphore, arena):
    semaphore.acquire(n=2)
    threads, results = gather(*[semaphore.acquire] * 4)
    until_waiting(arena, 4)
    semaphore.release(3)
    until_results(results, 3)
    assert semaphore.value == 0
    semaphore.release(2)
    join(threads)
    assert results == [True] * 4
    assert semaphore.value == 1


def test_waiters_for_several_and_for_one(semaphore, arena):
    """One who wants three sleeps while one unit is there: whoever wants one must not sleep behind it."""
    semaphore.acquire(n=2)
    threads, results = gather(lambda: semaphore.acquire(n=3) and 3)
    until_waiting(arena)
    ones, one_results = gather(lambda: semaphore.acquire() and 1, lambda: semaphore.acquire() and 1)
    until_waiting(arena, 3)
    semaphore.release()
    until_results(one_results, 1)
    semaphore.release()
    until_results(one_results, 2)
    assert results == []
    semaphore.release(2)
    assert results == []
    semaphore.release()
    join(threads + ones)
    assert results == [3]
    assert semaphore.value == 0


def test_one_of_many_units_wakes_all_who_can_go_on(semaphore, arena):
    semaphore.acquire(n=2)
    threads, _ = gather(*[lambda n=n: semaphore.acquire(n=n) for n in (1, 2, 3, 4)])
    until_waiting(arena, 4)
    semaphore.release(10)
    join(threads)
    assert semaphore.value == 0


@pytest.mark.parametrize("timeout", [0, 1e-9, 0.05])
def test_a_timeout_takes_nothing(semaphore, timeout):
    semaphore.acquire(n=2)
    start = time.monotonic()
    assert semaphore.acquire(timeout=timeout) is False
    assert time.monotonic() - start >= timeout
    assert semaphore.acquire(True, timeout, n=2) is False
    semaphore.release()
    assert semaphore.value == 1


def test_a_timeout_that_outlasts_the_belt(semaphore):
    semaphore.acquire(n=2)
    start = time.monotonic()
    assert semaphore.acquire(timeout=0.35) is False
    assert time.monotonic() - start >= 0.35
    assert semaphore.value == 0


def test_the_gil_is_free_while_a_thread_waits(semaphore, arena):
    semaphore.acquire(n=2)
    threads, _ = gather(semaphore.acquire)
    until_waiting(arena)  # runs Python code meanwhile
    semaphore.release()
    join(threads)


def test_many_who_give_up_swallow_no_unit(semaphore, arena):
    """Timeouts that race with releases: every unit is taken by one who says so, or is still there."""
    semaphore.acquire(n=2)
    taken = [0] * 4
    stop = threading.Event()

    def consume(i):
        n = 1 + i % 2
        while not stop.is_set():
            if semaphore.acquire(timeout=0.0005, n=n):
                taken[i] += n

    threads = [threading.Thread(target=consume, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    given = 0
    end = time.monotonic() + 1
    while time.monotonic() < end:
        semaphore.release(1 + given % 3)
        given += 1 + given % 3
        time.sleep(0.0003)
    stop.set()
    join(threads)
    assert sum(taken) + semaphore.value == given
    assert sum(taken) > 0


# ---- between processes -----------------------------------------------------------------------------------------------


def test_a_child_takes_what_we_add(semaphore, place: Place, child, arena):
    semaphore.acquire(n=2)
    c = child(
        """
        semaphore = open_lock(recipe)
        say(semaphore.value)
        for _ in range(3):
            say(semaphore.acquire())
        semaphore.release(7)
        say()
        """,
        recipe=place.recipe(semaphore),
    )
    assert c.hear() == 0
    for _ in range(3):
        until_waiting(arena)
        semaphore.release()
        assert c.hear() is True
    c.hear()
    assert semaphore.value == 7
    c.finish()


def test_ping_pong(place: Place, child):
    ping, pong = place.new(syncx.Semaphore, value=0), place.new(syncx.Semaphore, value=0)
    c = child(
        """
        ping, pong = open_lock(recipes[0]), open_lock(recipes[1])
        for _ in range(2000):
            ping.acquire()
            pong.release()
        """,
        recipes=[place.recipe(ping), place.recipe(pong)],
    )
    for _ in range(2000):
        ping.release()
        assert pong.acquire(timeout=PATIENCE)
    c.finish()
    assert ping.value == pong.value == 0


def test_conservation_between_processes(place: Place, child):
    """What several processes take and add, singly and by the handful, adds up."""
    semaphore = place.new(syncx.Semaphore, value=5)
    children = [
        child(
            """
            import random
            semaphore = open_lock(recipe)
            rng = random.Random(seed)
            for _ in range(1500):
                n = rng.choice((1, 1, 2, 5))
                if semaphore.acquire(timeout=rng.choice((0, 0.001, 20)), n=n):
                    semaphore.release(n)
            """,
            recipe=place.recipe(semaphore),
            seed=seed,
        )
        for seed in range(3)
    ]
    for c in children:
        c.finish()
    assert semaphore.value == 5


@pytest.mark.parametrize("n", [1, 2])
def test_ctrl_c_takes_nothing(semaphore, place: Place, child, arena, n):
    semaphore.acquire(n=2)
    c = child(
        """
        semaphore = open_lock(recipe)
        say()
        try:
            semaphore.acquire(n=n)
        except KeyboardInterrupt:
            say(semaphore.value)
            hear()
            say(semaphore.acquire(timeout=30, n=n))
        """,
        recipe=place.recipe(semaphore),
        n=n,
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGINT)
    assert c.hear() == 0
    assert waiters(arena) == 0
    semaphore.release(n)
    assert semaphore.value == n
    c.say()
    assert c.hear() is True
    c.finish()
    assert semaphore.value == 0


def test_a_handler_that_releases_what_its_thread_waits_for(semaphore, place: Place, child, arena):
    semaphore.acquire(n=2)
    c = child(
        """
        semaphore = open_lock(recipe)
        signal.signal(signal.SIGUSR1, lambda *_: semaphore.release())
        say()
        say(semaphore.acquire())
        """,
        recipe=place.recipe(semaphore),
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGUSR1)
    assert c.hear() is True
    assert semaphore.value == 0
    c.finish()


def test_a_handler_that_waits_for_another(place: Place, child, arena):
    outer, inner = place.new(syncx.Semaphore, value=0), place.new(syncx.Semaphore, value=0)
    c = child(
        """
        outer, inner = open_lock(recipes[0]), open_lock(recipes[1])
        def handler(*_):
            say("in")
            inner.acquire(n=2)
            say("out")
        signal.signal(signal.SIGUSR1, handler)
        say()
        say(outer.acquire(n=3))
        """,
        recipes=[place.recipe(outer), place.recipe(inner)],
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGUSR1)
    assert c.hear() == "in"
    until_waiting(arena)
    outer.release(3)
    inner.release(2)
    assert c.hear() == "out"
    assert c.hear() is True
    assert outer.value == inner.value == 0
    c.finish()


@pytest.mark.death
@pytest.mark.parametrize("n", [1, 3])
def test_a_killed_waiter_takes_nothing_with_it(semaphore, place: Place, child, arena, n):
    semaphore.acquire(n=2)
    code = "semaphore = open_lock(recipe); say(); say(semaphore.acquire(n=n))"
    victim = child(code, recipe=place.recipe(semaphore), n=n)
    victim.hear()
    until_waiting(arena)
    heir = child(code, recipe=place.recipe(semaphore), n=1)
    heir.hear()
    until_waiting(arena, 2)
    victim.kill()
    semaphore.release()
    assert heir.hear() is True
    heir.finish()
    assert semaphore.value == 0
    semaphore.release(2)
    assert semaphore.value == 2


@pytest.mark.death
def test_waiters_killed_while_they_wake(semaphore, place: Place, child, arena):
    """Units are released while those who are woken die: none is lost beyond those the dead had taken."""
    semaphore.acquire(n=2)
    recipe = place.recipe(semaphore)
    heir = child(
        """
        semaphore = open_lock(recipe)
        while hear():
            say(semaphore.acquire())
        """,
        recipe=recipe,
    )
    for _ in range(5):
        victim = child("semaphore = open_lock(recipe); say(); semaphore.acquire(); hear()", recipe=recipe)
        victim.hear()
        until_waits(arena, victim.pid)
        heir.say(True)
        until_waits(arena, heir.pid)
        semaphore.release()
        victim.kill()
        semaphore.release()  # the victim may have got the first
        assert heir.hear() is True
        assert semaphore.value in (0, 1)
        semaphore.acquire(False)
    heir.say(False)
    heir.finish()


# ---- fork ------------------------------------------------------------------------------------------------------------


def test_a_forked_child_shares_the_count(place: Place, child):
    semaphore = place.new(syncx.Semaphore, value=0)
    c = child(
        """
        semaphore = open_lock(recipe)
        with semaphore.within(0) if semaphore.value else threading.Lock():
            pid = os.fork()
            if pid == 0:
                semaphore.release(3)
                os._exit(0 if semaphore.acquire() else 1)
        say(wait_for(pid))
        say(semaphore.value)
        """,
        recipe=place.recipe(semaphore),
    )
    assert c.hear() == 0
    assert c.hear() == 2
    c.finish()


@pytest.mark.parametrize("n", [1, 2])
def test_fork_in_a_handler_inside_a_wait(place: Place, child, arena, n):
    """Both the parent and the child go on waiting, each for units of its own."""
    semaphore = place.new(syncx.Semaphore, value=0)
    c = child(
        """
        semaphore = open_lock(recipe)
        pid = None
        def fork(*_):
            global pid
            pid = os.fork()
        signal.signal(signal.SIGUSR1, fork)
        say()
        got = semaphore.acquire(n=n)
        say([pid == 0, got])
        if pid == 0:
            os._exit(0)
        say(["ended", wait_for(pid)])
        """,
        recipe=place.recipe(semaphore),
        n=n,
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGUSR1)
    until_waiting(arena, 2)
    semaphore.release(n)
    first = c.hear()
    semaphore.release(n)
    heard = [first, c.hear(), c.hear()]
    heard = sorted(heard, key=str)
    assert heard == [["ended", 0], [False, True], [True, True]]
    assert semaphore.value == 0
    c.finish()
    semaphore.release(2)
    assert semaphore.acquire(n=2)


def test_a_child_that_a_handler_forks_and_that_raises_leaves_the_parents_wait_alone(arena, child, tmp_path):
    """The child leaves a wait that it never began: the word says still that one wants several."""
    with (tmp_path / "memory").open("w+b") as memory:
        memory.truncate(syncx.Semaphore.SIZE)
        words = mmap.mmap(memory.fileno(), 0)
    semaphore = syncx.Semaphore.at(words, value=0, arena=arena)

    def want_several() -> int:
        return (int.from_bytes(words[64:72], sys.byteorder) & 0xFFFFFFFF) >> 8

    c = child(
        """
        import mmap
        memory = open(path, "r+b")
        semaphore = syncx.Semaphore.at(mmap.mmap(memory.fileno(), 0), arena=arena)
        def handler(*_):
            pid = os.fork()
            if pid == 0:
                raise KeyError
            say(wait_for(pid))
        signal.signal(signal.SIGUSR1, handler)
        try:
            say(semaphore.acquire(n=2))
        except KeyError:
            os._exit(7)
        """,
        path=str(tmp_path / "memory"),
    )
    until_waiting(arena)
    assert want_several() == 1
    os.kill(c.pid, signal.SIGUSR1)
    assert c.hear() == 7
    assert want_several() == 1
    semaphore.release(2)
    assert c.hear() is True
    assert want_several() == 0
    c.finish()
    semaphore.close()


# ---- names, pickles, placements --------------------------------------------------------------------------------------


def test_a_name_keeps_its_value(arena):
    first = syncx.Semaphore(3, name="s", arena=arena)
    first.acquire()
    assert syncx.Semaphore(name="s", arena=arena).value == 2
    assert syncx.Semaphore(3, name="s", arena=arena).value == 2
    for value in (0, 1, 2, 4, MAX):
        with pytest.raises(ValueError, match=f"(?s)'s'.*3.*{value}"):
            syncx.Semaphore(value, name="s", arena=arena)
    with pytest.raises(FileExistsError):
        syncx.Semaphore(3, name="s", arena=arena, create="exclusive")
    with pytest.raises(FileNotFoundError):
        syncx.Semaphore(3, name="t", arena=arena, create=False)
    assert first.value == 2


def test_another_value_in_the_users_memory(arena):
    import mmap

    memory = mmap.mmap(-1, 4096)
    first = syncx.Semaphore.at(memory, value=3, arena=arena)
    assert syncx.Semaphore.at(memory, arena=arena).value == 3
    with pytest.raises(ValueError, match=r"3.*5"):
        syncx.Semaphore.at(memory, value=5, arena=arena)
    with pytest.raises(ValueError, match="Semaphore"):
        syncx.Mutex.at(memory, arena=arena)
    first.close()


def test_other_kinds(arena):
    syncx.Mutex("m", arena=arena)
    syncx.Semaphore(name="s", arena=arena)
    with pytest.raises(ValueError, match="Mutex"):
        syncx.Semaphore(name="m", arena=arena)
    with pytest.raises(ValueError, match="Semaphore"):
        syncx.RLock("s", arena=arena)


def test_unlinked(arena):
    old = syncx.Semaphore(2, name="s", arena=arena)
    with old:
        arena.unlink("s")
    for use in (old.acquire, old.release, lambda: old.acquire(False), lambda: old.acquire(timeout=1), old.__enter__):
        with pytest.raises(syncx.Gone, match="unlinked"):
            use()
    repr(old)
    new = syncx.Semaphore(5, name="s", arena=arena)
    assert new.value == 5


@pytest.mark.parametrize("n", [1, 2])
def test_unlinking_tells_those_who_wait(arena, n):
    semaphore = syncx.Semaphore(1, name="s", arena=arena)
    semaphore.acquire()
    errors = []

    def wait():
        try:
            semaphore.acquire(n=n)
        except syncx.Gone as e:
            errors.append(e)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for t in threads:
        t.start()
    until_waiting(arena, 3)
    arena.unlink("s", force=True)
    join(threads)
    assert len(errors) == 3


def test_pickling(place: Place):
    if place.how not in ("named", "anonymous"):
        with pytest.raises(TypeError, match="memory"):
            pickle.dumps(place.new(syncx.Semaphore))
        return
    semaphore = place.new(syncx.Semaphore, value=4, timeout=2.5)
    other = pickle.loads(pickle.dumps(semaphore))
    assert type(other) is syncx.Semaphore
    assert (other.name, other.timeout, other.value) == (semaphore.name, 2.5, 4)
    other.acquire(n=4)
    assert semaphore.locked()
    other.close()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing(child, tmp_path, arena, method):
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import multiprocessing, sys
sys.path.insert(0, {str(os.path.dirname(__file__))!r})
import syncx
from support import say, take_and_add

if __name__ == "__main__":
    arena = syncx.Arena({arena.path!r})
    context = multiprocessing.get_context({method!r})
    jobs, done = syncx.Semaphore(0, arena=arena), syncx.Semaphore(0, name="done", arena=arena)
    ps = [context.Process(target=take_and_add, args=(jobs, done, 5)) for _ in range(2)]
    for p in ps: p.start()
    jobs.release(10)
    say(done.acquire(timeout=30, n=10))
    for p in ps: p.join()
    say([p.exitcode for p in ps] + [jobs.value, done.value])
"""
    )
    c = child("os.execv(sys.executable, [sys.executable, program])", program=str(program))
    assert c.hear() is True
    assert c.hear() == [0, 0, 0, 0]
    c.finish()


def test_only_its_own_bytes_are_touched(arena):
    import mmap

    memory = mmap.mmap(-1, 4096)
    memory[:] = b"\xa5" * 4096
    memory[1024 : 1024 + syncx.Semaphore.SIZE] = bytes(syncx.Semaphore.SIZE)
    semaphore = syncx.Semaphore.at(memory, 1024, value=1, arena=arena)
    with semaphore:
        pass
    semaphore.release(3)
    assert memory[:1024] == b"\xa5" * 1024
    assert memory[1024 + syncx.Semaphore.SIZE :] == b"\xa5" * (4096 - 1024 - syncx.Semaphore.SIZE)
    semaphore.close()


def test_random_bytes_never_crash(arena):
    import mmap
    import random

    memory = mmap.mmap(-1, 4096)
    rng = random.Random(20_27)
    semaphore = syncx.Semaphore.at(memory, value=2, arena=arena)
    good = memory[: syncx.Semaphore.SIZE]
    semaphore.close()
    for _ in range(400):
        data = bytearray(good)
        for _ in range(rng.choice((1, 2, 8, 64))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        memory[: syncx.Semaphore.SIZE] = bytes(data)
        try:
            semaphore = syncx.Semaphore.at(memory, arena=arena)
            semaphore.acquire(False), semaphore.acquire(timeout=0, n=3)
            semaphore.release(2), semaphore.locked(), semaphore.value, repr(semaphore), semaphore.statistics()
        except (ValueError, RuntimeError):
            pass
        finally:
            semaphore.close()


def test_the_count_stays_when_its_arena_is_made_anew(arena, child, tmp_path):
    import mmap

    path = tmp_path / "memory"
    path.write_bytes(bytes(4096))
    place = str(tmp_path / "arena")
    c = child(
        """
        import mmap
        with open(path, "r+b") as f: memory = mmap.mmap(f.fileno(), 0)
        semaphore = syncx.Semaphore.at(memory, value=5, arena=syncx.Arena(place))
        semaphore.acquire(n=2)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        path=str(path),
        place=place,
    )
    c.process.wait(PATIENCE)
    os.unlink(place)
    with open(path, "r+b") as f:
        memory = mmap.mmap(f.fileno(), 0)
    with syncx.Arena(place) as anew:
        semaphore = syncx.Semaphore.at(memory, arena=anew)
        assert semaphore.value == 3
        assert semaphore.acquire(n=3)
        semaphore.close()
        anew.unlink()


def test_a_handle_of_an_unlinked_arena_is_refused(tmp_path):
    import mmap

    memory = mmap.mmap(-1, 4096)
    place = str(tmp_path / "arena")
    old = syncx.Arena(place)
    semaphore = syncx.Semaphore.at(memory, value=2, arena=old)
    old.unlink(force=True)
    with syncx.Arena(place) as anew:
        other = syncx.Semaphore.at(memory, arena=anew)
        for use in (semaphore.acquire, semaphore.release, semaphore.__enter__):
            with pytest.raises(syncx.Gone):
                use()
        assert other.value == 2
        other.close()
        anew.unlink()
    semaphore.close()
    old.close()


# ---- life ------------------------------------------------------------------------------------------------------------


def test_closed(semaphore):
    with semaphore:
        pass
    semaphore.close()
    semaphore.close()
    assert semaphore.closed
    for use in (
        semaphore.acquire,
        lambda: semaphore.acquire(False),
        semaphore.release,
        semaphore.__enter__,
        semaphore.locked,
        lambda: semaphore.value,
        semaphore.statistics,
    ):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert "closed" in repr(semaphore)


def test_close_is_refused_while_a_thread_waits(semaphore, arena):
    semaphore.acquire(n=2)
    threads, _ = gather(semaphore.acquire)
    until_waiting(arena)
    with pytest.raises(RuntimeError, match="in use"):
        semaphore.close()
    semaphore.release()
    join(threads)


def test_repr(arena):
    assert repr(syncx.Semaphore(3, name="s", arena=arena)) == "<syncx.Semaphore 's' value 3>"
    assert repr(syncx.Semaphore(0, arena=arena)) == "<syncx.Semaphore value 0>"


def test_weak_references_and_with_on_a_temporary(arena):
    semaphore = syncx.Semaphore(arena=arena)
    reference = weakref.ref(semaphore)
    del semaphore
    gc.collect()
    assert reference() is None
    with syncx.Semaphore(2, name="s", arena=arena) as s:
        assert s.value == 1
    assert syncx.Semaphore(name="s", arena=arena).value == 2


def test_a_subclass(arena):
    class Counted(syncx.Semaphore):
        entered = 0

        def __enter__(self):
            self.entered += 1
            return super().__enter__()

    semaphore = Counted(2, arena=arena)
    with semaphore as s:
        assert s is semaphore
        assert semaphore.value == 1
    assert semaphore.entered == 1
    assert semaphore.value == 2


def test_what_the_arena_tells_of_it(arena):
    semaphore = syncx.Semaphore(5, name="s", arena=arena)
    semaphore.acquire(n=2)
    (info,) = [o for o in arena.objects() if o.name == "s"]
    assert (info.kind, info.parameter, info.value, info.holders) == ("Semaphore", 5, 3, ())
    semaphore.acquire(n=3)
    threads, _ = gather(semaphore.acquire)
    until_waiting(arena)
    (info,) = [o for o in arena.objects() if o.name == "s"]
    assert info.value == 0
    assert [w.pid for w in info.waiters] == [os.getpid()]
    semaphore.release()
    join(threads)


def test_it_is_no_container_and_always_true(arena):
    semaphore = syncx.Semaphore(0, arena=arena)
    assert bool(semaphore)
    with pytest.raises(TypeError):
        len(semaphore)


# ---- wrong input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1, -MAX, 2**31, 2**63, 2**64, 10**30])
def test_a_value_out_of_range(arena, value):
    with pytest.raises(ValueError, match="0 to 2147483647"):
        syncx.Semaphore(value, arena=arena)


@pytest.mark.parametrize("value", ["jobs", 1.0, True, b"1", [], object(), None])
def test_a_value_of_another_type(arena, value):
    with pytest.raises(TypeError, match="value must be an int"):
        syncx.Semaphore(value, arena=arena)


def test_a_name_where_the_value_belongs(arena):
    with pytest.raises(TypeError, match="name='jobs'"):
        syncx.Semaphore("jobs", arena=arena)


@pytest.mark.parametrize("n", [0, -1, 2**31, 10**30])
def test_n_out_of_range(semaphore, n):
    for use in (lambda: semaphore.acquire(n=n), lambda: semaphore.release(n), lambda: semaphore.release(n=n)):
        with pytest.raises(ValueError, match="n must be from 1 to 2147483647"):
            use()
    assert semaphore.value == 2


@pytest.mark.parametrize("n", ["1", 1.0, True, None, []])
def test_n_of_another_type(semaphore, n):
    for use in (lambda: semaphore.acquire(n=n), lambda: semaphore.release(n)):
        with pytest.raises(TypeError, match="n must be an int"):
            use()
    assert semaphore.value == 2


@pytest.mark.parametrize(
    ("args", "kwargs", "error"),
    [
        ((False, 1), {}, ValueError),
        ((), {"timeout": -2}, ValueError),
        ((), {"timeout": math.nan}, ValueError),
        ((), {"timeout": math.inf}, OverflowError),
        ((), {"timeout": threading.TIMEOUT_MAX * 2}, OverflowError),
        ((), {"timeout": "1"}, TypeError),
        ((True, 1, 1), {}, TypeError),
        ((), {"count": 1}, TypeError),
        ((True,), {"blocking": True}, TypeError),
    ],
)
def test_arguments_of_acquire(semaphore, args, kwargs, error):
    with pytest.raises(error):
        semaphore.acquire(*args, **kwargs)
    assert semaphore.value == 2


def test_arguments_of_release(semaphore):
    for args, kwargs in (((1, 1), {}), ((), {"count": 1}), ((1,), {"n": 1})):
        with pytest.raises(TypeError):
            semaphore.release(*args, **kwargs)
    assert semaphore.value == 2


def test_arguments_of_the_constructor(arena):
    with pytest.raises(TypeError):
        syncx.Semaphore(1, "name", arena=arena)
    with pytest.raises(ValueError, match="create"):
        syncx.Semaphore(1, arena=arena, create=False)
    with pytest.raises(ValueError):
        syncx.Semaphore(1, arena=arena, timeout=-1)
    with pytest.raises(TypeError):
        syncx.Semaphore(1, arena="arena")
    with pytest.raises(RuntimeError, match="open already"):
        syncx.Semaphore(1, arena=arena).__init__(1, arena=arena)


# ---- robust ----------------------------------------------------------------------------------------------------------


def test_robust_is_a_bounded_semaphore(arena):
    robust = syncx.Semaphore(2, robust=True, name="r", arena=arena, timeout=1)
    assert type(robust) is syncx.BoundedSemaphore
    assert not isinstance(robust, syncx.Semaphore)
    assert (robust.value, robust.name, robust.timeout) == (2, "r", 1)
    with robust, syncx.BoundedSemaphore(name="r", arena=arena) as other:
        assert other.value == 0
    assert syncx.Semaphore(robust=True, name="r", arena=arena).value == 2
    with pytest.raises(ValueError, match=r"2.*3"):
        syncx.Semaphore(3, robust=True, name="r", arena=arena)
    with pytest.raises(ValueError, match="BoundedSemaphore"):
        syncx.Semaphore(name="r", arena=arena)
    with pytest.raises(ValueError):
        robust.release()


def test_not_robust_is_a_semaphore(arena):
    assert type(syncx.Semaphore(2, robust=False, arena=arena)) is syncx.Semaphore


def test_the_maximum_and_the_size():
    assert syncx.Semaphore.MAX_VALUE == MAX
    assert syncx.Semaphore.SIZE == 128
    assert _core.size_of(_core.KIND_SEMAPHORE, MAX) == 128
