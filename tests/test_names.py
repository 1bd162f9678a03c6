"""Names: which are allowed, what opens and makes them, unlinking, and how many there may be."""

from __future__ import annotations

import threading
import time

import pytest
from support import PATIENCE, until_waiting

import syncx


@pytest.fixture(params=[syncx.Mutex, syncx.RLock])
def cls(request):
    return request.param


GOOD = [
    "a",
    "jobs",
    "with space",
    "a/b/c",
    "..",
    "-",
    "%s",
    "Ünïcödé ☃ 名前",
    "\U0001f512",
    "x" * 255,
    "é" * 127,
    "'\"\\",
]

BAD = {
    "empty": ("", ValueError, "empty"),
    "slash": ("/", ValueError, "slash"),
    "leading slash": ("/jobs", ValueError, "use 'jobs'"),
    "trailing slash": ("jobs/", ValueError, "use 'jobs'"),
    "NUL": ("a\0b", ValueError, "printed"),
    "newline": ("a\nb", ValueError, "printed"),
    "escape": ("a\x1b[2Jb", ValueError, "printed"),
    "delete": ("a\x7f", ValueError, "printed"),
    "bidi override": ("a\u202eb", ValueError, "printed"),
    "too long": ("x" * 256, ValueError, "255 bytes"),
    "300 characters": ("x" * 300, ValueError, "300"),
    "too long in UTF-8": ("é" * 128, ValueError, "256"),
    "a lone surrogate": ("a\udc80", ValueError, "UTF-8"),
    "bytes": (b"jobs", TypeError, "str"),
    "int": (5, TypeError, "str"),
    "bool": (True, TypeError, "str"),
    "list": (["jobs"], TypeError, "str"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_names(cls, arena, name):
    lock = cls(name, arena=arena)
    assert lock.name == name
    with lock:
        assert cls(name, arena=arena).locked()
    assert [o.name for o in arena.objects()] == [name]
    assert repr(name)[1:-1] in repr(lock)
    lock.close()
    arena.unlink(name)
    assert list(arena.objects()) == []


@pytest.mark.parametrize(("name", "error", "word"), BAD.values(), ids=BAD.keys())
def test_bad_names(cls, arena, name, error, word):
    with pytest.raises(error, match=word):
        cls(name, arena=arena)
    with pytest.raises(error, match=word):
        arena.unlink(name)
    assert list(arena.objects()) == []


def test_names_that_differ_by_little_are_different(arena):
    names = ["a", "A", "a ", " a", "á", "a\u0301", "aa", "a/a"]
    locks = [syncx.Mutex(n, arena=arena) for n in names]
    for lock in locks:
        lock.acquire()
    for lock in locks:
        lock.release()


def test_a_str_subclass_is_a_name(arena):
    class Name(str):
        __slots__ = ()

    with syncx.Mutex(Name("jobs"), arena=arena):
        assert syncx.Mutex("jobs", arena=arena).locked()


def test_the_name_is_the_only_positional_argument(arena):
    with pytest.raises(TypeError):
        syncx.Mutex("jobs", arena)


# ---- create ----------------------------------------------------------------------------------------------------------


def test_create_true_makes_or_opens(cls, arena):
    a, b = cls("jobs", arena=arena), cls("jobs", arena=arena, create=True)
    with a:
        assert b.locked()


def test_create_false_opens_only(cls, arena):
    with pytest.raises(FileNotFoundError) as e:
        cls("jobs", arena=arena, create=False)
    assert e.value.filename == "jobs"
    made = cls("jobs", arena=arena)
    with made:
        assert cls("jobs", arena=arena, create=False).locked()


def test_exclusive_makes_only(cls, arena):
    cls("jobs", arena=arena, create="exclusive")
    with pytest.raises(FileExistsError) as e:
        cls("jobs", arena=arena, create="exclusive")
    assert e.value.filename == "jobs"
    other = syncx.RLock if cls is syncx.Mutex else syncx.Mutex
    with pytest.raises(FileExistsError):
        other("jobs", arena=arena, create="exclusive")


def test_exclusive_by_many_at_once(arena):
    made, barrier = [], threading.Barrier(8)

    def run():
        barrier.wait(10)
        for i in range(50):
            try:
                syncx.Mutex(f"job {i}", arena=arena, create="exclusive")
                made.append(i)
            except FileExistsError:
                pass

    threads = [threading.Thread(target=run) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(10)
    assert sorted(made) == list(range(50))


@pytest.mark.parametrize("create", ["no", None, 2, object(), [], "Exclusive"])
def test_other_values_of_create(arena, create):
    with pytest.raises(ValueError, match="exclusive"):
        syncx.Mutex("jobs", arena=arena, create=create)


@pytest.mark.parametrize("create", [False, "exclusive"])
def test_create_needs_a_name(arena, create):
    with pytest.raises(ValueError, match="name"):
        syncx.Mutex(arena=arena, create=create)


def test_another_kind_of_that_name(arena):
    syncx.Mutex("jobs", arena=arena)
    for create in (True, False):
        with pytest.raises(ValueError) as e:
            syncx.RLock("jobs", arena=arena, create=create)
        assert "jobs" in str(e.value)
        assert "Mutex" in str(e.value)


def test_a_named_lock_stays_when_nobody_has_it_open(arena, child):
    c = child("syncx.Mutex('jobs', arena=arena)")
    c.finish()
    assert [o.name for o in arena.objects()] == ["jobs"]
    with syncx.Mutex("jobs", arena=arena, create=False):
        pass


# ---- unlinking -------------------------------------------------------------------------------------------------------


def test_unlink_of_what_is_not_there(arena):
    with pytest.raises(FileNotFoundError) as e:
        arena.unlink("jobs")
    assert e.value.filename == "jobs"


def test_unlinked_means_gone_for_old_handles(cls, arena):
    old = cls("jobs", arena=arena)
    arena.unlink("jobs")
    for use in (old.acquire, old.__enter__, old.recover, lambda: old.acquire(timeout=1), lambda: old.acquire(False)):
        with pytest.raises(syncx.Gone, match="unlinked"):
            use()
    with pytest.raises(syncx.NotOwner):
        old.release()
    assert not old.locked()
    assert old.holder is None
    repr(old)
    old.close()


def test_recreated_is_independent(cls, arena):
    old = cls("jobs", arena=arena)
    arena.unlink("jobs")
    new = cls("jobs", arena=arena, create="exclusive")
    with new:
        with pytest.raises(syncx.Gone):
            old.acquire(False)
        assert new.locked()
        assert not old.locked()
    del old
    with new:
        pass
    assert len(list(arena.objects())) == 1


def test_unlink_refuses_what_another_process_has_open(arena, child):
    c = child("lock = syncx.Mutex('jobs', arena=arena); say(); hear(); lock.acquire(); say(); hear()")
    c.hear()
    with pytest.raises(syncx.InUse, match="force"):
        arena.unlink("jobs")
    c.say()
    c.hear()
    with pytest.raises(syncx.InUse):
        arena.unlink("jobs")
    c.say()
    c.finish()
    arena.unlink("jobs")


def test_unlink_refuses_what_this_process_holds(arena):
    lock = syncx.Mutex("jobs", arena=arena)
    with lock, pytest.raises(syncx.InUse):
        arena.unlink("jobs")
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with lock:
            inside.set()
            leave.wait(10)

    t = threading.Thread(target=hold)
    t.start()
    inside.wait(10)
    with pytest.raises(syncx.InUse):
        arena.unlink("jobs")
    leave.set()
    t.join(10)
    arena.unlink("jobs")


@pytest.mark.death
def test_unlink_does_not_mind_the_dead(arena, child):
    c = child("lock = syncx.Mutex('jobs', arena=arena); lock.acquire(); say(); hear()")
    c.hear()
    c.kill()
    arena.unlink("jobs")
    with syncx.Mutex("jobs", arena=arena) as m:
        assert not m.owner_died


def test_unlink_by_force_wakes_who_waits_and_spares_who_holds(cls, arena):
    lock = cls("jobs", arena=arena)
    errors = []

    def wait(how):
        try:
            how()
        except syncx.Gone as e:
            errors.append(e)

    with lock:
        threads = [
            threading.Thread(target=wait, args=(how,)) for how in (lock.acquire, lambda: lock.acquire(timeout=20))
        ]
        for t in threads:
            t.start()
        until_waiting(arena, 2)
        start = time.monotonic()
        arena.unlink("jobs", force=True)
        for t in threads:
            t.join(10)
        assert len(errors) == 2
        assert time.monotonic() - start < 5
        new = cls("jobs", arena=arena)
        assert not new.locked()
        assert lock.depth == 1  # the holder keeps what it has
    with pytest.raises(syncx.Gone):
        lock.acquire(False)


@pytest.mark.death
def test_unlink_by_force_under_a_holder_that_dies(arena, child):
    lock = syncx.Mutex("jobs", arena=arena)
    c = child("lock = syncx.Mutex('jobs', arena=arena); lock.acquire(); say(); hear()")
    c.hear()
    arena.unlink("jobs", force=True)
    c.kill()
    with pytest.raises(syncx.Gone):
        lock.acquire()
    with syncx.Mutex("jobs", arena=arena) as m:
        assert not m.owner_died


def test_unlink_and_recreate_while_others_use_it(arena, child):
    """Whoever has the lock open is told; nobody is left waiting on the old one."""
    code = """
        say()
        n = 0
        stop = []
        threading.Thread(target=lambda: (hear(), stop.append(1)), daemon=True).start()
        while not stop or not n:
            try:
                with syncx.Mutex("jobs", arena=arena):
                    n += 1
            except syncx.Gone:
                pass
        say(n)
    """
    children = [child(code) for _ in range(2)]
    for c in children:
        c.hear()
    end = time.monotonic() + 1
    unlinked = 0
    while time.monotonic() < end or (not unlinked and time.monotonic() < end + PATIENCE):
        try:
            arena.unlink("jobs", force=True)
            unlinked += 1
        except FileNotFoundError:
            pass
    for c in children:
        c.say()
    assert all(c.hear() > 0 for c in children)
    assert unlinked > 0
    for c in children:
        c.finish()


# ---- many ------------------------------------------------------------------------------------------------------------


def test_ten_thousand_names(arena, child):
    n = 10_000
    start = time.monotonic()
    locks = [syncx.Mutex(f"lock {i}", arena=arena) for i in range(n)]
    took = time.monotonic() - start
    assert took < 5
    statistics = arena.statistics()
    assert statistics["names"] == n
    assert statistics["cell_bytes"] == n * syncx.Mutex.SIZE
    for lock in locks[:: n // 100]:
        lock.acquire()
    c = child(
        """
        held = [i for i in range(n) if syncx.Mutex(f"lock {i}", arena=arena, create=False).locked()]
        say(held == list(range(0, n, n // 100)))
        """,
        n=n,
    )
    assert c.hear() is True
    c.finish()
    for lock in locks[:: n // 100]:
        lock.release()
    assert sum(1 for o in arena.objects()) == n
    for i in range(0, n, 2):
        arena.unlink(f"lock {i}")
    assert arena.statistics()["names"] == n // 2
    for i in range(n):
        if i % 2:
            assert not syncx.Mutex(f"lock {i}", arena=arena, create=False).locked()
        else:
            with pytest.raises(FileNotFoundError):
                syncx.Mutex(f"lock {i}", arena=arena, create=False)
    del locks, lock
    again = [syncx.Mutex(f"other {i}", arena=arena) for i in range(n // 2)]
    assert arena.statistics()["cell_bytes"] == n * syncx.Mutex.SIZE  # what was unlinked is used again
    assert len(again) == n // 2


def test_names_come_and_go(arena):
    """Ten thousand times the same few names: neither the cells, nor the names, nor the index grow."""
    for i in range(200):
        syncx.Mutex(f"n{i % 7}", arena=arena)
        arena.unlink(f"n{i % 7}")
    before = arena.statistics()
    for i in range(10_000):
        syncx.Mutex(f"n{i % 7}", arena=arena)
        arena.unlink(f"n{i % 7}")
    assert arena.statistics() == before
