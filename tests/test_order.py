"""The check of lock order: what is told, what is not, between threads and processes that never meet."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import ExitStack

import pytest

import syncx
from syncx import _core
from syncx.order import Inversion, OrderCounts, counts, forget


@pytest.fixture
def told(arena):
    """What the check tells of this process, whose locks in `arena` it looks at."""
    before = _core._noting()
    found: list[Inversion] = []
    syncx.order_check(False)
    syncx.order_check(True, arena=arena, on_inversion=found.append)
    yield found
    syncx.order_check(False, arena=arena, on_inversion="warn")
    _core._note(*before[:2])
    syncx.order_check(before[1])


def take(*locks):
    """One after the other, each while the ones before are held."""
    with ExitStack() as stack:
        for lock in locks:
            stack.enter_context(lock)


def ring(inversion):
    """The classes of a cycle, in an order that does not depend on where it was closed."""
    names = [o.held for o in inversion.orders]
    at = names.index(min(names))
    return names[at:] + names[:at]


# ---- between processes ----------------------------------------------------------------------------------------------
ONE_ORDER = """
    found = []
    syncx.order_check(True, on_inversion=found.append)
    def work(first, second):
        with syncx.Mutex(first, arena=arena):
            with syncx.Mutex(second, arena=arena):
                pass
    work(*names)
    say([[o._asdict() for o in i.orders] for i in found])
"""


def test_two_processes_that_never_ran_at_the_same_time(arena, child):
    """... and their twins, which take them in one order: silence."""
    for names in (("a", "b"), ("a", "b"), ("c", "d")):
        c = child(ONE_ORDER, names=names)
        assert c.hear() == []
        c.finish()
    c = child(ONE_ORDER, names=("b", "a"))
    ((new, old),) = c.hear()
    c.finish()
    assert (new["held"], new["wanted"], old["held"], old["wanted"]) == (
        "Mutex 'b'", "Mutex 'a'", "Mutex 'a'", "Mutex 'b'",
    )  # fmt: skip
    assert new["pid"] == c.pid != old["pid"]
    assert new["time"] >= old["time"] > 0
    for order in (new, old):
        assert order["taken"].endswith(" in work")
        assert order["stack"][0].endswith(" in work")
        assert order["stack"][1].endswith(" in <module>")
        assert order["taken"] != order["stack"][0]  # the line of the outer `with`, and of the inner one


def test_a_forked_child_holds_nothing(arena, child):
    """Its parent's hold is no order of its own; the twin takes both itself."""
    c = child(
        """
        found = []
        syncx.order_check(True, on_inversion=found.append)
        a, b = syncx.Mutex("a", arena=arena), syncx.Mutex("b", arena=arena)
        with b, a:
            pass
        for itself in (False, True):
            r, w = os.pipe()
            if itself:
                pid = os.fork()
                if pid == 0:
                    with a, b:
                        os.write(w, bytes([len(found)]))
                    os._exit(0)
            else:
                with a:
                    pid = os.fork()
                    if pid == 0:
                        with b:
                            os.write(w, bytes([len(found)]))
                        os._exit(0)
                    os.waitpid(pid, 0)
            say(os.read(r, 1)[0])
        """
    )
    assert [c.hear(), c.hear()] == [0, 1]
    c.finish()


@pytest.mark.core
@pytest.mark.death
def test_a_process_killed_while_it_records(arena, child, told):
    """At any moment: what is known afterwards can be used, and grows."""
    for n in range(4):
        c = child(
            """
            syncx.order_check(True)
            say()
            for i in range(100000):
                locks = [syncx.Mutex(f"{i % 300} {j}", arena=arena) for j in range(3)]
                for first, second in ((0, 1), (1, 2), (0, 2)):
                    with locks[first], locks[second]:
                        pass
                if i % 50 == 49:
                    syncx.order.forget(arena)
            """
        )
        c.hear()
        threading.Event().wait(0.003 * n)
        c.kill()
        forget(arena)
        a, b = syncx.Mutex("a", arena=arena), syncx.Mutex("b", arena=arena)
        take(a, b)
        assert len(told) == n
        take(b, a)
        assert len(told) == n + 1


# ---- kinds ----------------------------------------------------------------------------------------------------------
KINDS = {
    "Mutex": lambda arena, path: syncx.Mutex("k", arena=arena),
    "RLock": lambda arena, path: syncx.RLock("k", arena=arena),
    "Condition": lambda arena, path: syncx.Condition(name="k", arena=arena),
    "BinarySemaphore": lambda arena, path: syncx.BinarySemaphore("k", arena=arena),
    "all permits": lambda arena, path: syncx.BoundedSemaphore(1, name="k", arena=arena),
    "write": lambda arena, path: syncx.RWLock("k", arena=arena).write(),
    "read": lambda arena, path: syncx.RWLock("k", arena=arena).read(),
    "upgradable": lambda arena, path: syncx.RWLock("k", arena=arena).upgradable(),
    "FileLock": lambda arena, path: syncx.FileLock(path, arena=arena),
    "RangeLock": lambda arena, path: syncx.RangeLock(path, 10, 10, arena=arena),
    "anonymous": lambda arena, path: syncx.Mutex(arena=arena),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_inversion_with_each_kind(kind, arena, told, tmp_path):
    """A reader that no writer ever kept out is the exception: see below."""
    lock, other = KINDS[kind](arena, tmp_path / "f"), syncx.Mutex("m", arena=arena)
    if kind == "read":
        take(syncx.RWLock("k", arena=arena).write())
    take(lock, other)
    take(lock, other)
    assert told == []
    take(other, lock)
    take(other, lock)
    take(lock, other)
    assert [len(i.orders) for i in told] == [2]
    assert told[0].orders[0].held == "Mutex 'm'"


def test_once_is_a_lock_while_its_function_runs(arena, told):
    m = syncx.Mutex("m", arena=arena)
    syncx.Once("first", arena=arena).run(lambda: take(m))
    once = syncx.Once("second", arena=arena)
    once.run(lambda: take(m))
    with m:
        once.run(lambda: 0)  # done: nobody waits
        assert told == []
        syncx.Once("third", arena=arena).run(lambda: 0)
    assert told == []
    syncx.Once("third", arena=arena)
    arena.unlink("third", force=True)
    syncx.Once("third", arena=arena).run(lambda: take(m))
    (inversion,) = told
    assert ring(inversion) == ["Mutex 'm'", "Once 'third'"]


def test_a_ring_of_three(arena, told):
    a, b, c = (syncx.Mutex(n, arena=arena) for n in "abc")
    take(a, b)
    take(b, c)
    take(a, c)
    assert told == []
    take(c, a)
    (inversion,) = told
    assert ring(inversion) in (["Mutex 'a'", "Mutex 'b'", "Mutex 'c'"], ["Mutex 'a'", "Mutex 'c'"])


def test_a_ring_of_eight(arena, told):
    locks = [syncx.Mutex(str(i), arena=arena) for i in range(8)]
    for i in range(7):
        take(locks[i], locks[i + 1])
    assert told == []
    take(locks[7], locks[0])
    assert [len(i.orders) for i in told] == [8]


def test_three_locks_held_at_once(arena, told):
    a, b, c = (syncx.Mutex(n, arena=arena) for n in "abc")
    take(a, b, c)
    assert told == []
    take(c, a)
    assert [ring(i) for i in told] == [["Mutex 'a'", "Mutex 'c'"]]


# ---- what cannot wait for ever --------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", [{"blocking": False}, {"timeout": 20}, {}])
def test_tries_and_timed_waits_end_by_themselves(how, arena, told):
    a, b = syncx.Mutex("a", arena=arena), syncx.Mutex("b", arena=arena)
    take(a, b)
    with b:
        assert a.acquire(**how)
        a.release()
    assert len(told) == (0 if how else 1)


def test_what_a_try_has_taken_is_held_like_anything(arena, told):
    a, b = syncx.Mutex("a", arena=arena), syncx.Mutex("b", arena=arena)
    take(a, b)
    assert b.acquire(blocking=False)
    with a:
        b.release()
    assert len(told) == 1


def test_a_timeout_of_the_object(arena, told):
    a, b = syncx.Mutex("a", arena=arena), syncx.Mutex("b", arena=arena)
    take(a, b)
    take(b, syncx.Mutex("a", arena=arena, timeout=20))
    with b, a.within(20):
        assert told == []
    take(b, a)
    assert len(told) == 1


def test_taking_it_again(arena, told):
    a, b = syncx.RLock("a", arena=arena), syncx.RLock("b", arena=arena)
    take(a, b, a, b, b)
    take(a, a, b)
    assert told == []
    take(b, a)
    assert len(told) == 1


def test_the_inner_release_of_a_reentrant_lock_keeps_it(arena, told):
    a, b = syncx.RLock("a", arena=arena), syncx.Mutex("b", arena=arena)
    take(b, a)
    with a:
        with a:
            pass
        take(b)
    assert len(told) == 1


def test_given_back_in_another_order(arena, told):
    a, b, c = (syncx.Mutex(n, arena=arena) for n in "abc")
    a.acquire()
    b.acquire()
    a.release()
    c.acquire()  # under b alone
    b.release()
    c.release()
    assert counts(arena).orders == 2
    assert told == []
    take(c, b)
    assert [ring(i) for i in told] == [["Mutex 'b'", "Mutex 'c'"]]


# ---- permits --------------------------------------------------------------------------------------------------------
def test_one_of_several_permits_is_no_lock(arena, told):
    s, m = syncx.BoundedSemaphore(3, name="s", arena=arena), syncx.Mutex("m", arena=arena)
    take(s, m)
    take(m, s)
    assert told == []
    with m:  # but who wants all of them waits for who has one
        s.acquire(n=3)
        s.release(3)
    assert len(told) == 1


def test_permits_that_another_thread_may_give_back(arena, told):
    """By acquire(): no order from them.  By `with`: expected from its own thread."""
    s, m = syncx.BinarySemaphore("s", arena=arena), syncx.Mutex("m", arena=arena)
    take(m, s)
    s.acquire()
    thread = threading.Thread(target=s.release)
    with m:
        thread.start()
        thread.join(20)
    assert told == []
    take(s, m)
    assert len(told) == 1


def test_a_permit_of_with_that_another_thread_has_given_back(arena, told):
    s, m = syncx.BinarySemaphore("s", arena=arena), syncx.Mutex("m", arena=arena)
    take(m, s)
    s.__enter__()
    thread = threading.Thread(target=s.release)
    thread.start()
    thread.join(20)
    take(m)
    assert told == []
    take(s, m)
    assert len(told) == 1


# ---- readers and writers --------------------------------------------------------------------------------------------
def test_readers_alone_do_not_wait(arena, told):
    """Until somebody writes: a writer that waits keeps the next reader out."""
    a, b = syncx.RWLock("a", arena=arena), syncx.RWLock("b", arena=arena)
    take(a.read(), b.read())
    take(b.read(), a.read())
    take(a.write())
    assert told == []
    take(b.write())
    assert [ring(i) for i in told] == [["RWLock 'a'", "RWLock 'b'"]]


def test_readers_against_writers(arena, told):
    a, b = syncx.RWLock("a", arena=arena), syncx.RWLock("b", arena=arena)
    take(a.read(), b.write())
    take(b.read(), b.read(), a.upgradable())  # beside readers
    assert told == []
    take(b.read(), a.write())
    assert len(told) == 1


def test_an_upgrade_waits_for_the_readers(arena, told):
    a, m = syncx.RWLock("a", arena=arena), syncx.Mutex("m", arena=arena)
    with a.upgradable() as upgradable, m:
        upgradable.upgrade()
    assert told == []  # it has the writers' turn: nobody else is between
    take(a.read(), m)
    assert len(told) == 1


def test_a_downgraded_writer_reads(arena, told):
    a, m = syncx.RWLock("a", arena=arena), syncx.Mutex("m", arena=arena)
    with a.write() as writer:
        writer.downgrade()
        take(m)
    assert told == []
    take(m, a.read())  # behind another writer, who would wait for the downgraded one
    assert len(told) == 1


def test_upgradable_readers_that_never_write(arena, told):
    a, b = syncx.RWLock("a", arena=arena), syncx.RWLock("b", arena=arena)
    take(a.read(), b.read())
    take(b.upgradable(), a.read())
    take(a.upgradable(), b.read())
    assert told == []
    take(a.upgradable(), b.upgradable())
    assert told == []
    take(b.upgradable(), a.upgradable())
    assert len(told) == 1


# ---- files ----------------------------------------------------------------------------------------------------------
def ranges(arena, path, *starts):
    return [syncx.RangeLock(path, start, 10, arena=arena) for start in starts]


def test_ranges_of_one_file(arena, told, tmp_path):
    low, middle, high = ranges(arena, tmp_path / "f", 0, 20, 40)
    take(low, middle, high)
    take(low, high)
    assert told == []
    take(high, low)
    assert len(told) == 1
    assert {o.held.partition(" of ")[0] for o in told[0].orders} == {"file [0:10]", "file [40:50]"}


def test_ranges_that_overlap_are_in_each_others_way(arena, told, tmp_path):
    low, high = ranges(arena, tmp_path / "f", 0, 40)
    take(low, high)
    other_low, other_high = ranges(arena, tmp_path / "f", 9, 31)
    take(*ranges(arena, tmp_path / "f", 50, 10))
    assert told == []
    take(other_high, other_low)
    assert len(told) == 1


def test_shared_ranges_do_not_wait_for_each_other(arena, told, tmp_path):
    low, high = (syncx.RangeLock(tmp_path / "f", n, 10, shared=True, arena=arena) for n in (0, 20))
    take(low, high)
    take(high, low)
    assert told == []
    take(*ranges(arena, tmp_path / "f", 20, 0))
    take(*ranges(arena, tmp_path / "f", 0, 20))
    assert told


def test_parts_of_a_file_that_never_meet(arena, told, tmp_path):
    """A mutex under the one, and over the other: no wait can close."""
    low, high = ranges(arena, tmp_path / "f", 0, 40)
    m = syncx.Mutex("m", arena=arena)
    take(low, m)
    take(m, high)
    assert told == []
    take(m, *ranges(arena, tmp_path / "f", 20, 60))  # on both sides of what is held over it
    take(*ranges(arena, tmp_path / "f", 50), m)
    assert told == []
    take(m, *ranges(arena, tmp_path / "f", 5))
    assert len(told) == 1


def test_a_range_taken_under_its_own_lock(arena, told, tmp_path):
    (lock,) = ranges(arena, tmp_path / "f", 0)
    m = syncx.Mutex("m", arena=arena)
    with lock:
        lock.lock_range(100, 10)
        lock.unlock_range(0, 10)
        take(m)
    take(m, lock)
    assert told == []
    take(m, *ranges(arena, tmp_path / "f", 100))
    assert len(told) == 1


def test_other_files_and_other_locks_of_the_kernel(arena, told, tmp_path):
    f, g = syncx.FileLock(tmp_path / "f", arena=arena), syncx.FileLock(tmp_path / "g", arena=arena)
    take(f, g)
    take(g, syncx.FileLock(tmp_path / "f", style="flock", arena=arena))
    assert told == []
    take(g, syncx.FileLock(os.fspath(tmp_path / "f"), arena=arena))
    assert len(told) == 1


# ---- classes --------------------------------------------------------------------------------------------------------
def test_locks_made_by_one_line_are_told_apart_among_themselves(arena, told):
    forks = [syncx.Mutex(arena=arena) for _ in range(5)]
    for i in range(4):
        take(forks[i], forks[i + 1])
    assert told == []
    take(forks[4], forks[0])
    (inversion,) = told
    assert len(inversion.orders) == 5
    assert all("made at" in o.held and "test_order.py" in o.held for o in inversion.orders)


def test_locks_made_by_one_line_are_one_class_to_others(arena, told):
    first, second = (syncx.Mutex(arena=arena) for _ in range(2))
    m = syncx.Mutex("m", arena=arena)
    take(first, m)
    assert told == []
    take(m, second)
    assert len(told) == 1


def test_a_nameless_lock_has_its_class_in_every_process(arena, told, child):
    import pickle

    lock, m = syncx.Mutex(arena=arena), syncx.Mutex("m", arena=arena)
    take(lock, m)
    c = child(
        """
        import pickle, base64
        found = []
        syncx.order_check(True, on_inversion=found.append)
        lock = pickle.loads(base64.b64decode(data))
        with syncx.Mutex("m", arena=arena), lock:
            pass
        say([o.wanted for i in found for o in i.orders])
        """,
        data=__import__("base64").b64encode(pickle.dumps(lock)).decode(),
    )
    new, old = c.hear()
    c.finish()
    assert new.startswith("Mutex made at ")
    assert old == "Mutex 'm'"


def test_always_under_one_other_lock(arena, told):
    """A gate keeps the two orders apart; told when one of them is taken without it."""
    gate, a, b = (syncx.Mutex(n, arena=arena) for n in ("gate", "a", "b"))
    take(gate, a, b)
    take(gate, b, a)
    assert told == []
    take(b, a)
    assert [ring(i) for i in told] == [["Mutex 'a'", "Mutex 'b'"]]


def test_a_condition_asks_for_its_lock_again(arena, told, child):
    c, m = syncx.Condition(name="c", arena=arena), syncx.Mutex("m", arena=arena)
    with c:
        c.wait(0.001)
    with m, c:
        c.wait(0.001)
    assert told == []
    forget(arena)
    with c, m:
        c.wait(0.001)
    (inversion,) = told
    assert ring(inversion) == ["Condition 'c'", "Mutex 'm'"]


# ---- what is done about it ------------------------------------------------------------------------------------------
def test_raise(arena, told):
    syncx.order_check(True, arena=arena, on_inversion="raise")
    a, b = syncx.Mutex("a", arena=arena), syncx.Mutex("b", arena=arena)
    take(a, b)
    with b:
        with pytest.raises(syncx.LockOrderError, match="'b' -> Mutex 'a'") as caught:
            a.acquire()
        assert not a.locked()
        assert b._is_owned()
    assert caught.value.inversion.orders[0].pid == os.getpid()
    assert "test_raise" in str(caught.value)
    take(b, a)  # once for a pair


def test_raise_before_a_wait(arena, told):
    syncx.order_check(True, arena=arena, on_inversion="raise")
    c, m = syncx.Condition(name="c", arena=arena), syncx.Mutex("m", arena=arena)
    with c, m:
        with pytest.raises(syncx.LockOrderError):
            c.wait(20)
        assert c._is_owned()


def test_warn(arena, told, caplog):
    syncx.order_check(True, arena=arena, on_inversion="warn")
    a, b = syncx.Mutex("a", arena=arena), syncx.Mutex("b", arena=arena)
    take(a, b)
    with caplog.at_level(logging.WARNING, "syncx"):
        take(b, a)
        take(b, a)
    assert [r.name for r in caplog.records] == ["syncx"]
    assert f"process {os.getpid()}" in caplog.text
    assert caplog.text.count("test_order.py") >= 4


def test_a_callable_that_raises(arena, told):
    def refuse(inversion):
        raise KeyError(len(inversion.orders))

    syncx.order_check(True, arena=arena, on_inversion=refuse)
    a, b = syncx.Mutex("a", arena=arena), syncx.Mutex("b", arena=arena)
    take(a, b)
    with pytest.raises(KeyError, match="2"):
        take(b, a)
    assert not a.locked()
    assert not b.locked()


def test_only_that_arena(arena, told, tmp_path):
    other = syncx.Arena(tmp_path / "other")
    for where, expected in ((other, 0), (arena, 1)):
        a, b = syncx.Mutex("a", arena=where), syncx.Mutex("b", arena=where)
        take(a, b)
        take(b, a)
        assert len(told) == expected
    other.unlink(force=True)
    other.close()


def test_off(arena, told):
    a, b = syncx.Mutex("a", arena=arena), syncx.Mutex("b", arena=arena)
    take(a, b)
    with a:
        syncx.order_check(False)
        take(b)
    take(b, a)
    assert told == []
    syncx.order_check(True)  # what was held before does not count: that it is given back was not seen
    take(b, a)
    assert len(told) == 1


def test_forget(arena, told):
    a, b = syncx.Mutex("a", arena=arena), syncx.Mutex("b", arena=arena)
    assert counts(arena) == OrderCounts(0, 0, 0)
    take(a, b)
    assert counts(arena) == OrderCounts(2, 1, 0)
    forget(arena)
    assert counts(arena) == OrderCounts(0, 0, 0)
    take(b, a)
    assert told == []
    take(a, b)
    assert len(told) == 1


def test_a_signal_handler_takes_locks(arena, told, child):
    c = child(
        """
        found = []
        syncx.order_check(True, on_inversion=found.append)
        a, b, c = (syncx.Mutex(n, arena=arena) for n in "abc")
        with c, a:
            pass
        def handler(*_):
            with c:
                pass
        signal.signal(signal.SIGUSR1, handler)
        with b:
            os.kill(os.getpid(), signal.SIGUSR1)
            with a:
                pass
        say([len(found)])
        with a:
            os.kill(os.getpid(), signal.SIGUSR1)
        say([len(found)])
        """
    )
    assert c.hear() == [0]
    assert c.hear() == [1]
    c.finish()


def test_threads_of_one_order_are_silent(arena, told):
    locks = [syncx.Mutex(str(i), arena=arena) for i in range(4)]

    def work():
        for _ in range(200):
            take(*locks)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert told == []
    assert counts(arena).orders == 6
    take(locks[3], locks[0])
    assert len(told) == 1


def test_no_room(arena, told, caplog):
    """Told once; what is known is checked still."""
    a, b = syncx.Mutex("a", arena=arena), syncx.Mutex("b", arena=arena)
    take(a, b)
    with caplog.at_level(logging.WARNING, "syncx"), a:
        for i in range(1100):
            take(syncx.Mutex(f"m{i}", arena=arena))
    assert [r.getMessage().split(" is full")[0][:30] for r in caplog.records] == ["the table of lock orders of ar"]
    assert counts(arena).classes == 1024
    assert counts(arena).lost > 0
    take(b, a)
    assert len(told) == 1


def test_a_table_of_noise(arena, told, child):
    """Random bytes in the table: no crash, and no more than what is made up is told."""
    c = child(
        """
        import random
        a = [syncx.Mutex(str(i), arena=arena) for i in range(6)]
        syncx.order_check(True, on_inversion=lambda i: str(i))
        def work():
            for i in range(6):
                for j in range(6):
                    if i != j:
                        with a[i], a[j]:
                            pass
        offset, size, capacity, ready = arena._description()["regions"]["order"]
        rng = random.Random(7)
        with open(arena.path, "r+b") as f:
            for _ in range(60):
                work()
                for _ in range(40):
                    at = rng.choice((rng.randrange(16), rng.randrange(16, 40976), rng.randrange(172048, 177048),
                                     rng.randrange(434192, 464192)))
                    os.pwrite(f.fileno(), rng.randbytes(rng.choice((1, 4, 8))), offset + at)
                if rng.random() < 0.2:
                    syncx.order.forget(arena)
        syncx.order.counts(arena)
        say("whole")
        """
    )
    assert c.hear() == "whole"
    c.finish()


# ---- the switches ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "says"),
    [("1", "[True, False]"), ("raise", "raised"), ("0", "[False, False]"), ("yes", "ValueError")],
)
def test_the_environment(value, says, arena, child):
    c = child(
        """
        import sys, json
        sys.path.insert(0, PATH)
        try:
            import syncx
            a = syncx.Arena(ARENA)
            m, n = syncx.Mutex("m", arena=a), syncx.Mutex("n", arena=a)
            with m, n: pass
            with n, m: pass
            print(json.dumps(str([syncx._core._noting()[1], syncx._core._noting()[0]])), flush=True)
        except Exception as e:
            print(json.dumps("raised" if type(e).__name__ == "LockOrderError" else type(e).__name__), flush=True)
        """.replace("PATH", repr(os.path.dirname(os.path.dirname(syncx.__file__)))).replace("ARENA", repr(arena.path)),
        prelude=False,
        env={"SYNCX_ORDER": value},
    )
    assert c.hear() == says
    assert c.process.wait(20) == 0


def test_bad_arguments(arena):
    with pytest.raises(TypeError, match="True or False, not 1"):
        syncx.order_check(1)
    with pytest.raises(TypeError, match=r"syncx\.Arena, not str"):
        syncx.order_check(True, arena="x")
    with pytest.raises(ValueError, match='"warn", "raise" or a callable'):
        syncx.order_check(True, on_inversion="print")
    other = syncx.Arena(arena.path)
    other.close()
    with pytest.raises(ValueError, match="closed"):
        forget(other)
