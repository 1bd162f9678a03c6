"""Bad input that belongs to no placement, name or arena alone: each gives the right exception, with words that help,
and leaves everything as it was.

Bad names are in test_names, bad buffers in test_placement, bad files and full ones in test_arena, bad timeouts and
strangers' releases in test_mutex (in every placement), forked children in test_fork, shutdown in test_interpreter.
"""

from __future__ import annotations

import inspect
import threading

import pytest
from support import until
from test_mutex import in_thread

import syncx
from syncx import _core

EXCEPTIONS = {
    syncx.Timeout: TimeoutError,
    syncx.NotOwner: RuntimeError,
    syncx.DeadlockError: RuntimeError,
    syncx.OwnerDiedError: RuntimeError,
    syncx.Gone: RuntimeError,
    syncx.InUse: RuntimeError,
    syncx.LockOrderError: RuntimeError,
    syncx.ArenaError: RuntimeError,
    syncx.ArenaFull: syncx.ArenaError,
    syncx.BrokenBarrierError: threading.BrokenBarrierError,
}


@pytest.mark.parametrize(("cls", "builtin"), EXCEPTIONS.items(), ids=lambda c: c.__name__)
def test_every_exception_is_a_built_in_one_too(cls, builtin):
    assert issubclass(cls, syncx.SyncxError)
    assert issubclass(cls, builtin)
    assert cls.__doc__


def test_every_exception_is_exported():
    import syncx.errors as errors

    found = {n for n, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, syncx.SyncxError)}
    assert found == set(errors.__all__)
    assert found <= set(syncx.__all__)
    assert {c.__name__ for c in EXCEPTIONS} | {"SyncxError"} == found


def test_all_is_all():
    for name in syncx.__all__:
        assert getattr(syncx, name).__module__.startswith("syncx")
    public = {n for n, v in vars(syncx).items() if getattr(v, "__module__", "").startswith("syncx") and n[0] != "_"}
    assert public <= set(syncx.__all__)


def test_messages_name_the_object_and_say_what_to_do(arena):
    lock = syncx.Mutex("jobs", arena=arena)
    with pytest.raises(syncx.NotOwner, match=r"Mutex 'jobs'.*only the holder"):
        lock.release()
    with lock, pytest.raises(syncx.DeadlockError, match=r"Mutex 'jobs'.*RLock"):
        lock.acquire()
    with pytest.raises(ValueError, match=r"'jobs'.*Mutex"):
        syncx.RLock("jobs", arena=arena)
    with lock, pytest.raises(syncx.InUse, match="force=True"):
        arena.unlink("jobs")

    def wait():
        with lock.within(0.01):
            pass

    with lock, pytest.raises(syncx.Timeout, match=r"Mutex 'jobs'.*0\.01 s"):
        in_thread(wait)

    def plain():
        with syncx.Mutex("jobs", arena=arena, timeout=0.02):
            pass

    with lock, pytest.raises(syncx.Timeout, match="jobs"):
        in_thread(plain)


@pytest.mark.parametrize("cls", [syncx.Mutex, syncx.RLock])
@pytest.mark.parametrize(
    "kwargs",
    [{"deadline": 1}, {"blocking": True}, {"value": 1}, {"Name": "x"}],
)
def test_unknown_keywords(cls, arena, kwargs):
    with pytest.raises(TypeError):
        cls("x", arena=arena, **kwargs)
    assert list(arena.objects()) == []


def test_a_refused_constructor_leaves_nothing_behind(arena):
    for kwargs in ({"timeout": -1}, {"timeout": "1"}, {"on_owner_death": "panic"}, {"create": 7}):
        with pytest.raises((TypeError, ValueError)):
            syncx.Mutex("x", arena=arena, **kwargs)
    assert list(arena.objects()) == []
    assert arena.statistics()["names"] == 0


def test_private_constructors_check_their_arguments_too(arena):
    """Nothing that Python code can call crashes the interpreter."""
    m = syncx.Mutex.__new__(syncx.Mutex)
    for args in (
        (),
        (1,),
        (arena,),
        (arena, "x", 1, 1, None, 5),
        (arena, "x", "y", 1, None),
        (None, "x", 1, 1, None),
        (arena, "x", 1, 99, 1),
        (arena, "x", 1, -1, 1),
        (arena, "x", 1, 5, 1),
        (arena, "x", 1, 1, "y"),
    ):
        with pytest.raises((TypeError, ValueError)):
            m._open(*args)
    for args in ((arena, -1, 0, 1), (arena, 2**40, 0, 1), (object(), 0, 0, 1), (arena, 0, 0, 5)):
        with pytest.raises((TypeError, OverflowError, syncx.Gone)):
            m._open_reference(*args)
    for args in ((arena, b"", 0, 1, 1, None), (arena, bytearray(128), 2**70, 1, 1, None)):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            m._open_at(*args)
    for args in ((), (None, None), ("x",), (-1,)):
        with pytest.raises((TypeError, ValueError)):
            m._configure(*args)
    for args in ((), (None,), ("x",), ("raise", "raise")):
        with pytest.raises((TypeError, ValueError)):
            m._set_policy(*args)
    for value in (-1, 2**64, "1", None, 1.5):
        with pytest.raises((TypeError, OverflowError, ValueError)):
            syncx.RLock(arena=arena)._acquire_restore(value)


def test_base_types_cannot_be_misused():
    for cls in (_core.BaseMutex, _core.BaseArena):
        o = cls()
        repr(o)
        with pytest.raises((ValueError, AttributeError)):
            o.acquire() if hasattr(o, "acquire") else o.statistics()
    for name in ("Gate", "with_method"):
        with pytest.raises(TypeError):
            getattr(_core, name)()


def test_descriptors_refuse_other_objects(arena):
    enter, leave = syncx.Mutex.__enter__, syncx.Mutex.__exit__
    lock = syncx.Mutex(arena=arena)
    assert enter(lock) is lock
    leave(lock, None, None, None)
    for wrong in (5, None, arena, object()):
        with pytest.raises(TypeError):
            enter(wrong)
        with pytest.raises(TypeError):
            leave(wrong, None, None, None)
        with pytest.raises(TypeError):
            enter.__get__(wrong if wrong is not None else 1)
    for args in ((), (lock, 1), (lock, None, None, None, None)):
        with pytest.raises(TypeError):
            enter(*args)
    assert not lock.locked()


def test_restoring_what_was_never_saved(arena):
    lock = syncx.RLock(arena=arena)
    with pytest.raises(syncx.NotOwner):
        lock._release_save()
    with lock:
        with pytest.raises(syncx.NotOwner):
            in_thread(lock._release_save)
        assert lock.depth == 1


def test_a_lock_cannot_be_used_by_halves(arena):
    """Deleting, copying the dictionary, calling __init__ late: nothing makes a lock that crashes."""
    lock = syncx.Mutex.__new__(syncx.Mutex)
    with pytest.raises(ValueError):
        lock.acquire()
    repr(lock)
    lock.close()
    lock.__init__(arena=arena)
    with lock:
        pass
    with pytest.raises((TypeError, AttributeError)):
        lock.note = 1  # no dictionary: a misspelt attribute is an error
    with pytest.raises((TypeError, AttributeError)):
        del lock.arena


def test_interrupted_constructors_leave_a_usable_arena(arena):
    """A thousand times half-way: what was begun can be dropped at any point."""
    for i in range(1000):
        lock = syncx.Mutex.__new__(syncx.Mutex if i % 2 else syncx.RLock)
        if i % 3:
            lock._set_options(None, "recover")
        if i % 5 == 0:
            lock._open(arena, f"n{i % 11} {i % 2}", 1, lock._kind, None)
        del lock
    with syncx.Mutex("after", arena=arena):
        pass


def test_threads_that_only_look_take_no_slot_for_ever(arena):
    lock = syncx.Mutex(arena=arena)
    before = len(arena._participants())

    def look():
        return (lock.locked(), lock.holder, lock.depth, lock.owner_died, repr(lock))

    for _ in range(50):
        in_thread(look)
    threads = threading.active_count()
    # join returns a moment before a thread has ended
    until(lambda: len(arena._participants()) <= before + threads, "the slots of the threads that ended are free")
