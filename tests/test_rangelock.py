"""RangeLock: what it holds, asked of the kernel; who waits for whom, and in which order; the deaths of both."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import signal
import threading
import time

import pytest
from filelocks import (
    END,
    ExcludesNobody,
    ForgetsTheMiddle,
    Lifo,
    LosesTheRest,
    Raw,
    asleep_in_kernel,
    check_ranges,
    may,
    order_of,
    overtakers,
    probe,
    tried,
    until_awaited,
    waiting,
)
from support import PATIENCE, Unlocked, until
from test_mutex import held_elsewhere, in_thread

import syncx


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(64))
    return path


@pytest.fixture
def ranged(arena, path):
    """Makes RangeLocks of the one file, in the arena of the test."""

    def make(start=0, length=0, **options):
        return syncx.RangeLock(path, start, length, arena=arena, **options)

    return make


def rows(lock):
    return [tuple(r) for r in lock.ranges]


# ---- the oracles themselves ----------------------------------------------------------------------------------------


def test_the_probe_sees_what_is_there_and_takes_nothing(path, child):
    """Two ways of asking the kernel, from this process and from another, of locks that a third has."""
    raw = child(
        """
        from filelocks import Raw
        lock = Raw(path)
        lock.lock_range(2, 3)
        lock.lock_range(8, 0, shared=True)
        say(); hear()
        """,
        path=str(path),
    )
    raw.hear()
    other = child("from filelocks import probe, tried; say([probe(path), tried(path)])", path=str(path))
    expected = "..www...rrrrrrrr"
    assert other.hear() == [expected, expected]
    assert tried(path) == probe(path) == expected
    assert probe(path, [7, 8, 2**40, END]) == ".rrr"
    raw.say()
    raw.finish()
    assert probe(path) == "." * 16
    other.finish()


@pytest.mark.parametrize("seed", range(3))
def test_the_model_is_what_fcntl_does(path, seed):
    check_ranges(Raw, path, seed, modes=False)


@pytest.mark.parametrize("twin", [ExcludesNobody, ForgetsTheMiddle, LosesTheRest], ids=lambda t: t.__name__)
def test_the_model_catches(path, twin):
    with pytest.raises(AssertionError, match="seed 0"):
        check_ranges(twin, path, 0, modes=False)


# ---- one thread ----------------------------------------------------------------------------------------------------


def test_a_range_is_that_range(ranged, path):
    with ranged(4, 3) as lock:
        assert (lock.start, lock.length, lock.shared, lock.style) == (4, 3, False, "ofd")
        assert probe(path) == "....www" + "." * 9
        assert rows(lock) == [(4, 3, False)]
        with ranged(7, 2, shared=True):
            assert probe(path) == "....wwwrr" + "." * 7
    assert probe(path) == "." * 16
    assert rows(lock) == []
    assert lock.ranges == ()


def test_a_range_has_names(ranged):
    with ranged(4, 3, shared=True) as lock:
        (only,) = lock.ranges
        assert (only.start, only.length, only.shared) == (4, 3, True)


def test_length_0_is_to_the_end_however_far_it_grows(ranged, path):
    with ranged(60) as lock:
        assert probe(path, [59, 60, 64, 2**40, END]) == ".wwww"
        assert rows(lock) == [(60, 0, False)]
        os.truncate(path, 1 << 20)
        assert probe(path, [59, 1 << 20]) == ".w"
    with ranged(0, 0):
        assert probe(path, [0, END]) == "ww"


def test_the_last_byte_there_can_be(ranged, path):
    """Linux counts a lock that reaches the last byte as one to the end."""
    with ranged(END - 1, 1):
        assert probe(path, [END - 2, END - 1]) == ".w"
    with ranged(END, 1):
        assert probe(path, [END - 1, END]) == ".w"
    with ranged(0, END), pytest.raises(ValueError, match=r"negative|least|below"):
        ranged(-1, 1)
    assert probe(path, [0, END]) == ".."


@pytest.mark.parametrize(
    ("start", "length", "error"),
    [
        (-1, 1, ValueError),
        (0, -1, ValueError),
        (2**63, 1, ValueError),
        (0, 2**63 + 1, ValueError),
        (1, 2**63, ValueError),
        (END, 2, ValueError),
        (2**62, 2**62 + 1, ValueError),
        (10**30, 1, ValueError),
        (0, 10**30, ValueError),
        (-(10**30), 1, ValueError),
        (True, 1, TypeError),
        (0, False, TypeError),
        ("0", 1, TypeError),
        (0, 1.0, TypeError),
        (None, 1, TypeError),
        (0, None, TypeError),
        (b"0", 1, TypeError),
    ],
    ids=str,
)
def test_what_is_no_range(ranged, path, start, length, error):
    """In the constructor, in lock_range and in unlock_range; what is held stays as it is."""
    with pytest.raises(error) as refused:
        ranged(start, length)
    assert "start" in str(refused.value) or "length" in str(refused.value)
    with ranged(3, 2) as lock:
        for change in (lock.lock_range, lock.unlock_range):
            with pytest.raises(error, match=r"start|length"):
                change(start, length)
        assert probe(path) == "...ww" + "." * 11


def test_numbers_that_are_like_ints(ranged, path):
    class Three:
        def __index__(self):
            return 3

    with ranged(Three(), Three()):
        assert probe(path)[:7] == "...www."


def test_hostile_numbers(ranged, path):
    class Boom:
        def __index__(self):
            raise ZeroDivisionError

    lock = ranged(0, 4)

    class Closes:
        def __index__(self):
            with contextlib.suppress(RuntimeError):  # it is held
                lock.close()
            return 9

    class Releases:
        def __index__(self):
            lock.release()
            return 9

    for bad in (lambda: ranged(Boom(), 1), lambda: ranged(0, Boom())):
        with pytest.raises(ZeroDivisionError):
            bad()
    with lock:
        with pytest.raises(ZeroDivisionError):
            lock.lock_range(Boom())
        with contextlib.suppress(ValueError):
            lock.lock_range(Closes(), 1)
        assert probe(path)[:4] == "wwww"
        with contextlib.suppress(RuntimeError):
            lock.lock_range(Releases(), 1)
        if not lock.held:
            lock.acquire()
    assert probe(path) == "." * 16


# ---- splitting, merging, upgrading ---------------------------------------------------------------------------------


def test_unlocking_the_middle_splits_and_locking_it_again_merges(ranged, path):
    with ranged(0, 12) as lock:
        lock.unlock_range(4, 3)
        assert probe(path) == "wwww...wwwww...."
        assert rows(lock) == [(0, 4, False), (7, 5, False)]
        with held_elsewhere(ranged(4, 3)):
            assert probe(path) == "w" * 12 + "...."
            assert lock.lock_range(4, 3, blocking=False) is False
        assert lock.lock_range(4, 3) is True
        assert rows(lock) == [(0, 12, False)]
    assert probe(path) == "." * 16


def test_the_modes_of_parts(ranged, path):
    with ranged(0, 6) as lock:
        assert lock.lock_range(2, 6, shared=True) is True
        assert probe(path) == "wwrrrrrr" + "." * 8
        assert rows(lock) == [(0, 2, False), (2, 6, True)]
        assert lock.lock_range(3, 1) is True  # in the mode of the lock
        assert rows(lock) == [(0, 2, False), (2, 1, True), (3, 1, False), (4, 4, True)]
        assert lock.lock_range(0, 0, shared=True) is True
        assert rows(lock) == [(0, 0, True)]
        lock.unlock_range(0)
        assert rows(lock) == []
    assert probe(path) == "." * 16


def test_a_refused_range_changes_nothing(ranged, path):
    with ranged(0, 4, shared=True) as lock, held_elsewhere(ranged(2, 6, shared=True)):
        assert lock.lock_range(0, 8, shared=False, blocking=False) is False
        assert lock.lock_range(0, 8, shared=False, timeout=0.01) is False
        assert rows(lock) == [(0, 4, True)]
        assert probe(path) == "rrrrrrrr" + "." * 8
        assert lock.lock_range(4, 8, blocking=False) is True  # in the mode of the lock
        assert rows(lock) == [(0, 12, True)]


def test_unlocking_one_of_two_shared_holds_keeps_the_other(ranged, path):
    """All threads of a process have one open file description: the kernel knows of one lock where two hold."""
    with ranged(0, 10, shared=True) as mine:
        with held_elsewhere(ranged(5, 10, shared=True)):
            mine.unlock_range(3, 4)
            assert probe(path) == "rrr..rrrrrrrrrr."
            mine.release()
            assert probe(path) == ".....rrrrrrrrrr."
            mine.acquire()
        assert probe(path) == "r" * 10 + "." * 6


def test_unlock_and_lock_need_a_hold(ranged):
    lock = ranged(0, 4)
    with pytest.raises(syncx.NotOwner):
        lock.unlock_range(0, 1)
    for call in (lock.release, lock.downgrade, lock.upgrade):
        with pytest.raises(syncx.NotOwner):
            call()
    with lock:
        for call in (lock.release, lock.downgrade, lock.upgrade, lambda: lock.unlock_range(0, 1)):
            with pytest.raises(syncx.NotOwner):
                in_thread(call)


def test_upgrade_and_downgrade(ranged, path):
    with ranged(2, 3, shared=True) as lock:
        assert probe(path)[:6] == "..rrr."
        assert lock.upgrade() is True
        assert probe(path)[:6] == "..www."
        assert rows(lock) == [(2, 3, False)]
        lock.downgrade()
        assert probe(path)[:6] == "..rrr."
        with held_elsewhere(ranged(4, 1, shared=True)):
            assert lock.upgrade(timeout=0.01) is False
            assert probe(path)[:6] == "..rrr."
        assert lock.upgrade(timeout=5) is True
    with lock:
        assert probe(path)[:6] == "..rrr.", "the next hold is shared again"


def test_downgrade_lets_readers_in(arena, ranged, path):
    got = []

    def read():
        with ranged(0, 4, shared=True):
            got.append(probe(path)[:4])

    with ranged(0, 4) as lock:
        t = threading.Thread(target=read)
        t.start()
        until_awaited(arena, path)
        lock.downgrade()
        t.join(PATIENCE)
        assert got == ["rrrr"]


def test_an_upgrade_waits_for_the_other_readers(arena, ranged, path, child):
    c = child(
        """
        with syncx.RangeLock(path, 0, 4, shared=True, arena=arena) as lock:
            say(); hear()
            say(lock.upgrade())
            hear()
        """,
        path=str(path),
    )
    c.hear()
    with ranged(2, 4, shared=True):
        c.say()
        until_awaited(arena, path)
        assert probe(path)[:7] == "rrrrrr."
    assert c.hear() is True
    assert probe(path)[:7] == "wwww..."
    c.say()
    c.finish()


@pytest.mark.parametrize("where", ["thread", "process"])
def test_the_second_of_two_upgraders_is_told(arena, ranged, path, child, where):
    """Each would wait for the other's shared lock; the second keeps its own, and the first gets through by it."""
    outcome = []
    first = ranged(0, 8, shared=True)

    def upgrade():
        with first:
            inside.set()
            go.wait(PATIENCE)
            outcome.append(first.upgrade())
            outcome.append(probe(path)[:9])

    inside, go = threading.Event(), threading.Event()
    t = threading.Thread(target=upgrade)
    t.start()
    assert inside.wait(PATIENCE)
    if where == "thread":
        with ranged(4, 8, shared=True) as second:
            go.set()
            until_awaited(arena, path)
            with pytest.raises(syncx.DeadlockError):
                second.upgrade()
            assert rows(second) == [(4, 8, True)]
            assert outcome == []
    else:
        c = child(
            """
            with syncx.RangeLock(path, 4, 8, shared=True, arena=arena) as second:
                say(); hear()
                try:
                    second.upgrade()
                except syncx.DeadlockError:
                    say([tuple(r) for r in second.ranges])
                hear()
            """,
            path=str(path),
        )
        c.hear()
        go.set()
        until_awaited(arena, path)
        c.say()
        assert c.hear() == [[4, 8, True]]
        assert probe(path)[:12] == "r" * 12
        c.say()
        c.finish()
    t.join(PATIENCE)
    assert outcome == [True, "wwwwwwww."]


def test_nobody_stands_back_for_others_who_is_in_his_own_way(ranged, arena, path):
    """A thread asks for what it holds in part through another lock, while somebody else waits for the other part."""
    told = []

    def ask():
        with ranged(0, 10, shared=True):
            try:
                ranged(5, 10).acquire()
            except syncx.DeadlockError:
                told.append("DeadlockError")

    with ranged(12, 4):
        waiter = threading.Thread(target=lambda: ranged(11, 20).acquire())
        waiter.start()
        until_awaited(arena, path)
        asker = threading.Thread(target=ask, daemon=True)
        asker.start()
        asker.join(PATIENCE)
        assert told == ["DeadlockError"]
    waiter.join(PATIENCE)
    assert not waiter.is_alive()


@pytest.mark.parametrize("seed", range(5))
def test_random_operations_are_as_the_model(ranged, arena, path, seed):
    check_ranges(lambda p, start, length, shared: ranged(start, length, shared=shared), path, seed)


def test_what_viewers_see(arena, ranged, path):
    """Each thread publishes what it holds and awaits, as far as it has room."""
    stat = os.stat(path)
    device = os.major(stat.st_dev) << 20 | os.minor(stat.st_dev)  # as the kernel numbers them
    me = (os.getpid(), threading.get_native_id(), device, stat.st_ino)
    with ranged(4, 3), ranged(10, shared=True):
        found = sorted(arena._file_locks(), key=lambda row: row[5])
        assert [(row[0], *row[1:5], *row[5:9], row[10]) for row in found] == [
            ("held", *me, 4, 6, "exclusive", "ofd", None),
            ("held", *me, 10, END, "shared", "ofd", None),
        ]
        assert all(0 < row[9] <= time.monotonic_ns() for row in found)
        t = threading.Thread(target=lambda: ranged(0, 5).acquire(timeout=PATIENCE))
        t.start()
        until_awaited(arena, path)
        (row,) = [row for row in arena._file_locks() if row[0] == "waiting"]
        assert row[1] == os.getpid()
        assert row[5:9] == (0, 4, "exclusive", "ofd")
        assert row[10] > time.monotonic_ns()
    t.join(PATIENCE)
    assert arena._file_locks() == []
    with ranged(0, 1) as lock:
        for n in range(1, 30):
            lock.lock_range(2 * n, 1)
        found = arena._file_locks()
        assert 0 < len(found) <= 30
        assert {row[5] for row in found} <= {2 * n for n in range(30)}
    assert arena._file_locks() == []


def test_ten_thousand_ranges(arena, ranged, path, child):
    """Far more than are published: a thread tells of the first dozen, and all are held, found and given back."""
    last = 2 * 9999
    with ranged(0, 1) as lock:
        for n in range(1, 10_000):
            assert lock.lock_range(2 * n, 1)
        assert len(lock.ranges) == 10_000
        assert probe(path, range(last - 3, last + 3)) == ".w.w.."
        c = child(
            """
            lock = syncx.RangeLock(path, 2 * 7777, 1, arena=arena)
            say([lock.acquire(False), syncx.RangeLock(path, 7777, 1, arena=arena).acquire(False)])
            say(lock.acquire(timeout=20))
            """,
            path=str(path),
        )
        assert c.hear() == [False, True]
        until_awaited(arena, path)
    assert c.hear() is True
    c.finish()
    assert probe(path, range(last - 3, last + 3)) == "......"


# ---- who waits for whom --------------------------------------------------------------------------------------------


def test_disjoint_ranges_do_not_wait(arena, ranged, path, child):
    with ranged(0, 10), held_elsewhere(ranged(10, 10)):
        for start, length, expected in ((20, 10, True), (9, 1, False), (10, 1, False), (30, 0, True), (0, 0, False)):
            assert may(ranged(start, length)) is expected
        c = child(
            """
            def may(*span):
                lock = syncx.RangeLock(path, *span, arena=arena)
                return lock.acquire(False) and lock.release() is None
            say([may(20, 10), may(9, 1), may(19, 1), may(30, 0), may(0, 0)])
            """,
            path=str(path),
        )
        assert c.hear() == [True, False, False, True, False]
        c.finish()


def test_who_waits_for_other_bytes_is_in_nobodys_way(arena, ranged, path):
    with ranged(0, 10) as mine:
        t = threading.Thread(target=lambda: ranged(5, 10).__enter__().release())
        t.start()
        until_awaited(arena, path)
        assert may(ranged(15, 5))
        mine.unlock_range(5, 5)  # all the other wants
        t.join(PATIENCE)
        assert not t.is_alive()


@pytest.mark.parametrize("where", ["threads", "processes"])
def test_who_waits_for_all_does_not_keep_a_holder_from_more(arena, ranged, path, child, where):
    """Else each would wait for the other: the holder for its turn behind one who waits for what the holder has."""
    with ranged(0, 4) as lock:
        if where == "threads":
            t = threading.Thread(target=lambda: ranged(0, 0).__enter__().release())
            t.start()
        else:
            c = child("say(syncx.RangeLock(path, arena=arena).acquire(timeout=20))", path=str(path))
        until_awaited(arena, path)
        assert lock.lock_range(10, 4) is True
        assert lock.lock_range(20, 4, timeout=20) is True
        assert probe(path, range(25)) == "wwww" + "." * 6 + "wwww" + "." * 6 + "wwww."
    if where == "threads":
        t.join(PATIENCE)
        assert not t.is_alive()
    else:
        assert c.hear() is True
        c.finish()


SPANS = [(0, 8), (4, 8), (10, 8), (16, 0), (2, 40), (0, 0)]  # each overlaps the one before it


def test_fifo_among_threads(arena, ranged, path):
    order = order_of(ranged(), [ranged(*s) for s in SPANS], lambda n: until_awaited(arena, path, n))
    assert order == [0, 1, 2, 3, 4, 5]


def test_a_lifo_is_caught():
    lock = Lifo()
    assert order_of(lock, [lock] * 4, lambda n: until(lambda: len(lock.queue) >= n, "they wait")) == [3, 2, 1, 0]


QUEUE = """
from filelocks import until_awaited
def wait(letter, span):
    with syncx.RangeLock(path, *span, arena=arena):
        fd = os.open(order, os.O_WRONLY | os.O_APPEND)
        os.write(fd, letter.encode())
        os.close(fd)
threads = []
while job := hear():
    letter, span = job
    threads.append(threading.Thread(target=wait, args=(letter, span)))
    threads[-1].start()
for t in threads: t.join()
"""


def test_fifo_among_threads_of_several_processes(arena, ranged, path, child, tmp_path):
    order = tmp_path / "order"
    order.touch()
    children = [child(QUEUE, path=str(path), order=str(order)) for _ in range(2)]
    with ranged():
        for n, span in enumerate(SPANS):
            children[n % 2].say(["abcdef"[n], span])
            until_awaited(arena, path, n + 1)
    for c in children:
        c.say(None)
        c.finish()
    assert order.read_text() == "abcdef"


@pytest.mark.death
@pytest.mark.parametrize("holder", ["lives", "dies"])
def test_a_queue_goes_on_past_its_dead(arena, path, child, tmp_path, holder):
    """The first and a middle one of those who wait are killed, and perhaps who holds: the others come in in order."""
    order = tmp_path / "order"
    order.touch()
    first = child(
        "lock = syncx.RangeLock(path, 0, 20, arena=arena); lock.acquire(); say(); hear(); lock.release()",
        path=str(path),
    )
    first.hear()
    children = [child(QUEUE, path=str(path), order=str(order)) for _ in range(5)]
    for n, c in enumerate(children):
        c.say(["abcde"[n], [0, 20 - n]])
        until_awaited(arena, path, n + 1)
    children[0].kill()
    children[2].kill()
    if holder == "dies":
        first.kill()
    else:
        first.say()
        first.finish()
    for n in (1, 3, 4):
        children[n].say(None)
        children[n].finish()
    assert order.read_text() == "bde"
    assert probe(path) == "." * 16


@pytest.mark.death
def test_a_dead_holder_is_noticed_at_once(arena, path, child, ranged):
    c = child("lock = syncx.RangeLock(path, 3, 3, arena=arena); lock.acquire(); say(); hear()", path=str(path))
    c.hear()
    lock, got = ranged(5, 20), []

    def wait():
        with lock:
            got.append(time.monotonic())

    t = threading.Thread(target=wait)
    t.start()
    until_awaited(arena, path)
    c.kill()
    t.join(PATIENCE)
    assert got
    assert got[0] - c.killed < 5


def test_readers_do_not_starve_a_writer(arena, ranged, path):
    came = overtakers(lambda: ranged(shared=True), lambda: ranged(3, 9), lambda: until_awaited(arena, path))
    assert came < 10  # those who come within a millisecond of the last change of hands may overtake


def test_readers_who_starve_a_writer_are_caught(path):
    """As fcntl's own do."""

    came = overtakers(
        lambda: Raw(path, shared=True),
        lambda: Raw(path, 3, 9),
        lambda: until(lambda: asleep_in_kernel(path), "the writer waits"),
        PATIENCE,
    )
    assert came == 40


# ---- exclusion, judged by what is in the file ----------------------------------------------------------------------

SCRIBBLE = """
import random
from filelocks import scribble
make = eval(expression)
sys.exit(scribble(make, path, me, seed, rounds))
"""


def scribblers(child, path, expression, rounds):
    children = [
        child(SCRIBBLE, path=str(path), expression=expression, me=3 * n, seed=n, rounds=rounds) for n in range(3)
    ]
    return sum(c.end() for c in children)


def test_exclusion_of_random_ranges(child, path, arena):
    """Three processes of two threads write their marks in ranges that they have, and read them again."""
    make = "lambda a, n, shared: syncx.RangeLock(path, a, n, shared=shared, arena=arena)"
    assert scribblers(child, path, make, 60) == 0
    assert probe(path) == "." * 16


def test_random_ranges_without_exclusion_are_caught(child, path, arena):
    assert scribblers(child, path, "lambda a, n, shared: Unlocked()", 60) > 0


def test_a_lock_that_excludes_nobody_in_other_words(path):
    with Unlocked():
        assert probe(path) == "." * 16
    with Raw(path):
        assert probe(path) == "w" * 16


# ---- signals, threads that end, waits that end in nothing ----------------------------------------------------------


def test_a_handler_that_raises_leaves_nothing_queued(arena, ranged, path, child):
    """The one behind gets its turn as if the other had never come, while the holder still holds the other part."""
    holder = ranged(0, 20)
    holder.acquire()
    c = child(
        """
        class Enough(Exception): pass
        def stop(*_): raise Enough
        signal.signal(signal.SIGUSR1, stop)
        lock = syncx.RangeLock(path, 0, 20, arena=arena)
        try:
            say(); lock.acquire()
        except Enough:
            say([lock.held, list(lock.ranges)])
        hear()
        """,
        path=str(path),
    )
    c.hear()
    until_awaited(arena, path)
    t = threading.Thread(target=lambda: ranged(10, 10).__enter__().release())
    t.start()
    until_awaited(arena, path, 2)
    c.process.send_signal(signal.SIGUSR1)
    assert c.hear() == [False, []]
    until(lambda: waiting(arena, path) == 1, "only the other waits")
    holder.unlock_range(10, 10)
    t.join(PATIENCE)
    assert not t.is_alive()
    holder.release()
    assert probe(path) == "." * 16
    c.say()
    c.finish()


def test_who_gives_up_lets_those_behind_go_on(arena, ranged, path):
    """A reader behind a writer that waits for a reader: when the writer's time is up, the second reader reads."""
    with ranged(shared=True):
        gave_up = []
        writer = threading.Thread(target=lambda: gave_up.append(ranged(0, 4).acquire(timeout=0.3)))
        writer.start()
        until_awaited(arena, path)
        reader = threading.Thread(target=lambda: ranged(shared=True).__enter__().release())
        reader.start()
        writer.join(PATIENCE)
        reader.join(PATIENCE)
        assert gave_up == [False]
        assert not reader.is_alive()


@pytest.mark.death
def test_a_thread_that_ends_holding_holds_no_more(arena, ranged, path, child):
    """Its process lives on, and the kernel's lock is the process's."""
    lock = ranged(0, 4)
    assert in_thread(lock.acquire)
    assert lock.acquire(timeout=20) is True
    lock.release()
    c = child(
        """
        lock = syncx.RangeLock(path, 4, 4, arena=arena)
        t = threading.Thread(target=lock.acquire)
        t.start(); t.join()
        say(); hear()
        """,
        path=str(path),
    )
    c.hear()
    with ranged(4, 4).within(20):
        assert probe(path)[:9] == "....wwww."
    c.say()
    c.finish()


@pytest.mark.death
def test_who_waits_for_a_thread_that_ends_holding(arena, ranged, path):
    inside, leave = threading.Event(), threading.Event()

    lock = ranged(0, 4)

    def hold():
        lock.acquire()
        inside.set()
        leave.wait(PATIENCE)

    holder = threading.Thread(target=hold)
    holder.start()
    assert inside.wait(PATIENCE)
    got = []
    t = threading.Thread(target=lambda: got.append(ranged(2, 4).acquire(timeout=20)))
    t.start()
    until_awaited(arena, path)
    leave.set()
    holder.join(PATIENCE)
    t.join(PATIENCE)
    assert got == [True]


# ---- against those who do not know syncx ---------------------------------------------------------------------------

FOREIGN = (
    "from filelocks import Raw; lock = Raw(path, {}); lock.acquire(); say(); hear(); lock.release(); say(); hear()"
)


@pytest.mark.parametrize("timeout", [None, 20], ids=["untimed", "timed"])
def test_a_foreign_lock_is_waited_for(arena, ranged, path, child, timeout):
    c = child(FOREIGN.format("3, 3"), path=str(path))
    c.hear()
    lock = ranged(5, 5)
    assert lock.acquire(False) is False
    assert lock.acquire(timeout=0.05) is False
    got = []
    t = threading.Thread(target=lambda: got.append(lock.acquire(timeout=timeout)))
    t.start()
    until_awaited(arena, path)
    c.say()
    assert c.hear() == ""
    t.join(PATIENCE)
    assert got == [True]
    c.say()
    c.finish()


@pytest.mark.parametrize("timeout", [None, 20], ids=["untimed", "timed"])
def test_signals_while_a_foreign_lock_is_waited_for(arena, path, child, timeout):
    """A handler that returns does not end the wait, one that raises does."""
    with contextlib.closing(Raw(path)) as foreign, foreign:
        c = child(
            """
            class Enough(Exception): pass
            calls = []
            def handler(*_):
                calls.append(1)
                say(len(calls))
                if len(calls) == 3: raise Enough
            signal.signal(signal.SIGUSR1, handler)
            lock = syncx.RangeLock(path, 2, 2, arena=arena)
            try:
                lock.acquire(timeout=timeout)
            except Enough:
                say(lock.held)
            hear()
            say(lock.acquire(timeout=20))
            """,
            path=str(path),
            timeout=timeout,
        )
        until_awaited(arena, path)
        for n in (1, 2, 3):
            if timeout is None:  # as with all calls, a signal that comes just before the sleep does not end it
                until(lambda: asleep_in_kernel(path), "it sleeps in the kernel")
            c.process.send_signal(signal.SIGUSR1)
            assert c.hear() == n
        assert c.hear() is False
        until(lambda: waiting(arena, path) == 0, "it waits no more")
    c.say()
    assert c.hear() is True
    c.finish()


def test_our_lock_keeps_others_out(ranged, path):
    with ranged(2, 3), contextlib.closing(Raw(path, 4, 4)) as foreign:
        assert foreign.acquire(blocking=False) is False
        fd = os.open(path, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 3)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 5)
        os.close(fd)
    with contextlib.closing(Raw(path, 4, 4)) as foreign:
        assert foreign.acquire(blocking=False) is True


def test_another_arena_is_foreign_and_excluded_all_the_same(arena, ranged, path, child):
    c = child(
        """
        other = syncx.Arena(arena.path + "-other")
        try:
            lock = syncx.RangeLock(path, 0, 4, arena=other)
            say(lock.acquire(False))
            say(lock.acquire(timeout=20))
        finally:
            other.unlink(force=True)
        """,
        path=str(path),
    )
    with ranged(3, 1):
        assert c.hear() is False
    assert c.hear() is True
    c.finish()


def test_record_locks_of_a_process_are_of_one_arena(arena, ranged, path):
    """To the kernel the process owns them all: two tables of who has what in it would both say yes."""
    lock = ranged(0, 4, style="posix")
    other = syncx.Arena(arena.path + "-other")
    try:
        with pytest.raises(ValueError, match=r"another arena"):
            syncx.RangeLock(path, 0, 4, style="posix", arena=other)
        syncx.RangeLock(path, 0, 4, arena=other).close()
        lock.close()
        with syncx.RangeLock(path, 0, 4, style="posix", arena=other):
            assert probe(path)[:5] == "wwww."
    finally:
        other.unlink(force=True)


def test_pickles_with_its_range_and_options(ranged, path):
    lock = ranged(3, 4, shared=True, timeout=2.5, reentrant=True)
    other = pickle.loads(pickle.dumps(lock))
    assert (other.start, other.length, other.shared, other.timeout) == (3, 4, True, 2.5)
    assert (other.reentrant, other.style, os.fspath(other.path)) == (True, "ofd", os.fspath(path))
    with other:
        assert probe(path)[:8] == "...rrrr."
