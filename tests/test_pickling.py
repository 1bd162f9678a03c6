"""Locks go by reference to other processes: fork, spawn, forkserver, Pool, concurrent.futures, and any pickle."""

from __future__ import annotations

import copy
import pickle

import pytest

import syncx

METHODS = ["fork", "spawn", "forkserver"]
MAKES = {
    "named": "syncx.Mutex('jobs', arena=arena)",
    "anonymous": "syncx.Mutex(arena=arena)",
    "rlock": "syncx.RLock(arena=arena)",
    "default arena": "syncx.Mutex()",
}

# a file, not -c: spawn and forkserver import the main module
PROGRAM = """
import multiprocessing, os, sys
sys.path.insert(0, {here!r})
import syncx
from concurrent.futures import ProcessPoolExecutor
from support import acquire_and_die, add, exchange, hold_and_report, say

if __name__ == "__main__":
    method, path, arena_path = sys.argv[1:]
    arena = syncx.Arena(arena_path)
    context = multiprocessing.get_context(method)
{body}
"""


@pytest.fixture
def program(child, tmp_path, arena):
    """Runs a body as the main program of a process, with the start method."""
    import textwrap

    from support import HERE

    def start(body, method):
        file = tmp_path / "program.py"
        file.write_text(PROGRAM.format(here=str(HERE), body=textwrap.indent(textwrap.dedent(body), "    ")))
        number = tmp_path / "number"
        number.write_bytes(b"")
        return child(
            "os.execv(sys.executable, [sys.executable, *argv])",
            argv=[str(file), method, str(number), arena.path],
        ), number

    return start


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES.keys())
@pytest.mark.parametrize("method", METHODS)
def test_process(program, method, make):
    c, number = program(
        f"""
        lock = {make}
        ps = [context.Process(target=add, args=(lock, path, 300)) for _ in range(2)]
        for p in ps: p.start()
        add(lock, path, 300)
        for p in ps: p.join()
        say([p.exitcode for p in ps])
        """,
        method,
    )
    assert c.hear() == [0, 0]
    c.finish()
    assert int(number.read_bytes()) == 900


@pytest.mark.death  # leaving a pool is SIGTERM for its workers, wherever they are
@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES.keys())
@pytest.mark.parametrize("method", METHODS)
def test_pool(program, method, make):
    """As an argument of a task, which multiprocessing's own locks cannot be."""
    c, number = program(
        f"""
        lock = {make}
        with context.Pool(2) as pool:
            say(sum(pool.starmap(add, [(lock, path, 50)] * 8)))
            back = pool.apply(exchange, (lock,))
        with back:
            say([lock.depth, lock.locked()])
        """,
        method,
    )
    assert c.hear() == 400
    assert c.hear() == [1, True]
    c.finish()
    assert int(number.read_bytes()) == 400


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES.keys())
@pytest.mark.parametrize("method", METHODS)
def test_concurrent_futures(program, method, make):
    c, number = program(
        f"""
        lock = {make}
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            futures = [executor.submit(add, lock, path, 50) for _ in range(8)]
            say(sum(f.result() for f in futures))
        """,
        method,
    )
    assert c.hear() == 400
    c.finish()
    assert int(number.read_bytes()) == 400


@pytest.mark.parametrize("method", METHODS)
def test_what_arrives_is_the_same_lock(program, method):
    c, _ = program(
        """
        queue = context.SimpleQueue()
        for lock in (syncx.Mutex("jobs", arena=arena), syncx.Mutex(arena=arena)):
            p = context.Process(target=hold_and_report, args=(lock, queue))
            p.start()
            say(queue.get())
            p.join()
        """,
        method,
    )
    assert c.hear() == [True, True, "jobs"]
    assert c.hear() == [True, True, None]
    c.finish()


@pytest.mark.death
@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_dies_holding(program, method):
    c, _ = program(
        """
        lock = syncx.Mutex(arena=arena)
        p = context.Process(target=acquire_and_die, args=(lock,))
        p.start()
        p.join()
        with lock as m:
            say([p.exitcode, m.owner_died])
        """,
        method,
    )
    assert c.hear() == [-9, True]
    c.finish()


# ---- pickles by hand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("cls", [syncx.Mutex, syncx.RLock])
def test_round_trip(arena, cls, protocol):
    for lock in (cls("jobs", arena=arena, timeout=2.5, on_owner_death="ignore"), cls(arena=arena)):
        other = pickle.loads(pickle.dumps(lock, protocol))
        assert type(other) is cls
        assert other is not lock
        assert (other.name, other.timeout, other.on_owner_death) == (lock.name, lock.timeout, lock.on_owner_death)
        assert other.arena.id == lock.arena.id
        with lock:
            assert other.locked()
            assert other.depth == 1


def test_copy_is_another_handle(arena):
    lock = syncx.Mutex(arena=arena)
    for other in (copy.copy(lock), copy.deepcopy(lock)):
        with other:
            assert lock.locked()


def test_a_subclass_goes_as_itself(arena):
    lock = Subclass(arena=arena)
    other = pickle.loads(pickle.dumps(lock))
    assert type(other) is Subclass
    with other:
        assert lock.locked()


class Subclass(syncx.Mutex):
    pass


def test_a_function_as_policy_goes_too(arena):
    lock = syncx.Mutex(arena=arena, on_owner_death=print)
    assert pickle.loads(pickle.dumps(lock)).on_owner_death is print
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(syncx.Mutex(arena=arena, on_owner_death=lambda _: None))


def test_a_pickle_keeps_an_anonymous_lock_for_its_receiver(arena):
    """The sender drops its handle between sending and receiving: the lock is there as long as the sender lives."""
    lock = syncx.Mutex(arena=arena)
    data = pickle.dumps(lock)
    del lock
    arena.collect()
    kept = [syncx.Mutex(arena=arena) for _ in range(20)]
    lock = pickle.loads(data)
    with lock:
        assert not any(m.locked() for m in kept)


@pytest.mark.parametrize("cls", ["Mutex", "RLock"])
def test_an_anonymous_lock_that_is_gone(arena, child, cls):
    c = child(
        """
        import pickle, base64
        lock = getattr(syncx, cls)(arena=arena)
        say(base64.b64encode(pickle.dumps(lock)).decode())
        """,
        cls=cls,
    )
    import base64

    data = base64.b64decode(c.hear())
    c.finish()
    arena.collect()
    # its place is taken by another of the same kind: by generation, that is not it
    kept = [getattr(syncx, cls)(arena=arena) for _ in range(5)]
    with pytest.raises(syncx.Gone, match="anonymous"):
        pickle.loads(data)
    assert not any(m.locked() for m in kept)


def test_a_reference_to_another_kind_is_gone(arena):
    lock = syncx.Mutex(arena=arena)
    function, arguments = lock.__reduce__()
    assert function(*arguments).depth == 0
    with pytest.raises(syncx.Gone):
        function(syncx.RLock, *arguments[1:])
    for unit, generation in ((10**6, 1), (arguments[2], arguments[3] ^ 1), (arguments[2] + 1, arguments[3])):
        with pytest.raises(syncx.Gone):
            function(syncx.Mutex, arena, unit, generation, *arguments[4:])


def test_an_unlinked_name_is_gone(arena):
    lock = syncx.Mutex("jobs", arena=arena)
    data = pickle.dumps(lock)
    arena.unlink("jobs")
    with pytest.raises(syncx.Gone):
        pickle.loads(data)
    del lock
    again = syncx.Mutex("jobs", arena=arena)
    with pytest.raises(syncx.Gone):
        pickle.loads(data)
    with again:
        pass


def test_an_arena_that_is_gone(arena):
    with syncx.Arena(f"{arena.name}-b") as other:
        lock = syncx.Mutex("jobs", arena=other)
        data = pickle.dumps(lock)
        lock.close()
        other.unlink(force=True)
    with pytest.raises(syncx.Gone, match="gone"):
        pickle.loads(data)
    with syncx.Arena(f"{arena.name}-b") as other:
        with pytest.raises(syncx.Gone, match="anew"):
            pickle.loads(data)
        other.unlink(force=True)


def test_an_arena_itself(arena):
    other = pickle.loads(pickle.dumps(arena))
    assert other.id == arena.id
    assert other.path == arena.path


def test_a_lock_in_the_users_memory_does_not_go(arena):
    import mmap

    lock = syncx.Mutex.at(mmap.mmap(-1, 4096), arena=arena)
    with pytest.raises(TypeError, match=r"Mutex\.at"):
        pickle.dumps(lock)


def test_a_closed_lock_does_not_go(arena):
    lock = syncx.Mutex(arena=arena)
    lock.close()
    with pytest.raises(ValueError, match="closed"):
        pickle.dumps(lock)
