"""Locks in the user's own memory: SharedMemory, mmap, memoryview; what such memory must be like."""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import mmap
import os
import threading
from multiprocessing.shared_memory import SharedMemory

import pytest
from support import PATIENCE, prefix

import syncx


@pytest.fixture(params=[syncx.Mutex, syncx.RLock])
def cls(request):
    return request.param


@pytest.fixture
def memory():
    return mmap.mmap(-1, 8192)


def test_size_and_alignment(cls):
    assert cls.SIZE == 128
    assert cls.ALIGNMENT == 64
    assert isinstance(cls.SIZE, int)


def test_at_yields_an_open_lock(cls, memory, arena):
    lock = cls.at(memory, arena=arena)
    assert type(lock) is cls
    assert lock.name is None
    assert not lock.closed
    with lock as m:
        assert m is lock


def test_only_its_own_bytes_are_touched(cls, memory, arena):
    memory[:] = b"\xa5" * 8192
    memory[4096 : 4096 + cls.SIZE] = bytes(cls.SIZE)
    lock = cls.at(memory, 4096, arena=arena)
    with lock:
        pass
    assert memory[:4096] == b"\xa5" * 4096
    assert memory[4096 + cls.SIZE :] == b"\xa5" * (4096 - cls.SIZE)


def test_neighbours_are_independent(memory, arena):
    locks = [syncx.Mutex.at(memory, i * syncx.Mutex.SIZE, arena=arena) for i in range(64)]
    for lock in locks:
        assert not lock.locked()
        lock.acquire()
    for lock in locks:
        lock.release()


def test_the_last_place_that_fits(cls, memory, arena):
    with cls.at(memory, 8192 - cls.SIZE, arena=arena):
        pass


@pytest.mark.parametrize("create", [True, False])
def test_what_is_there_is_opened(memory, arena, create):
    first = syncx.Mutex.at(memory, arena=arena)
    with first:
        second = syncx.Mutex.at(memory, arena=arena, create=create)
        assert second.locked()
        assert second.depth == 1


def test_create_false_wants_a_lock(memory, arena):
    with pytest.raises(ValueError, match="create=False"):
        syncx.Mutex.at(memory, arena=arena, create=False)
    assert memory[:] == bytes(8192)


def test_exclusive_wants_none(memory, arena):
    syncx.Mutex.at(memory, arena=arena, create="exclusive")
    with pytest.raises(FileExistsError):
        syncx.Mutex.at(memory, arena=arena, create="exclusive")


@pytest.mark.parametrize("create", ["yes", None, 3, [], "EXCLUSIVE"])
def test_create_is_one_of_three(memory, arena, create):
    with pytest.raises(ValueError, match="create"):
        syncx.Mutex.at(memory, arena=arena, create=create)


def test_another_kind(memory, arena):
    syncx.Mutex.at(memory, arena=arena)
    with pytest.raises(ValueError, match="Mutex"):
        syncx.RLock.at(memory, arena=arena)


@pytest.mark.parametrize("fill", [b"\xff", b"\x01", b"abc"])
@pytest.mark.parametrize("create", [True, False, "exclusive"])
def test_memory_that_was_never_a_lock(memory, arena, fill, create):
    memory[:] = (fill * 8192)[:8192]
    with pytest.raises(ValueError, match="zero"):
        syncx.Mutex.at(memory, arena=arena, create=create)


def test_a_single_byte_that_is_not_zero(memory, arena):
    for at in range(syncx.Mutex.SIZE):
        memory[: syncx.Mutex.SIZE] = bytes(syncx.Mutex.SIZE)
        memory[at] = 1
        with pytest.raises((ValueError, syncx.ArenaError)):
            syncx.Mutex.at(memory, arena=arena)
    memory[: syncx.Mutex.SIZE + 1] = bytes(syncx.Mutex.SIZE) + b"\1"
    syncx.Mutex.at(memory, arena=arena)


def test_random_bytes_in_a_lock_never_crash(memory, arena):
    """Damaged before it is opened: an exception or a lock, but never a crash."""
    import random

    rng = random.Random(20_26)
    lock = syncx.Mutex.at(memory, arena=arena)
    with lock:
        pass
    good = memory[: syncx.Mutex.SIZE]
    lock.close()
    for _ in range(400):
        data = bytearray(good)
        for _ in range(rng.choice((1, 2, 8, 64))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        memory[: syncx.Mutex.SIZE] = bytes(data)
        try:
            lock = syncx.Mutex.at(memory, arena=arena, on_owner_death="ignore")
            if lock.acquire(False):
                lock.release()
            lock.locked(), lock.holder, lock.depth, lock.owner_died, repr(lock), lock.statistics()
        except (ValueError, RuntimeError):
            pass
        finally:
            lock.close()


# ---- buffers that will not do ----------------------------------------------------------------------------------------


def test_too_small(arena):
    for size in (1, 64, 127):
        with pytest.raises(ValueError, match="128 bytes"):
            syncx.Mutex.at(memoryview(mmap.mmap(-1, 4096))[:size], arena=arena)
    with pytest.raises(ValueError, match="128 bytes"):
        syncx.Mutex.at(bytearray(), arena=arena)


@pytest.mark.parametrize("offset", [-64, -1, 8192, 8192 - 64, 2**40, 2**62])
def test_outside(memory, arena, offset):
    with pytest.raises(ValueError, match="128 bytes"):
        syncx.Mutex.at(memory, offset, arena=arena)


def test_an_offset_beyond_every_machine(memory, arena):
    with pytest.raises((ValueError, OverflowError)):
        syncx.Mutex.at(memory, 2**70, arena=arena)


@pytest.mark.parametrize("offset", [1, 8, 32, 63, 65])
def test_misaligned(memory, arena, offset):
    with pytest.raises(ValueError, match="multiple of 64"):
        syncx.Mutex.at(memory, offset, arena=arena)


@pytest.mark.parametrize("offset", ["0", 0.0, None, True, b""])
def test_offset_of_another_type(memory, arena, offset):
    with pytest.raises(TypeError, match="offset"):
        syncx.Mutex.at(memory, offset, arena=arena)


def test_read_only(arena, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(bytes(4096))
    with open(path, "rb") as f:
        mapping = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    for buffer in (mapping, bytes(4096), memoryview(bytes(4096)), memoryview(bytearray(4096)).toreadonly()):
        with pytest.raises(TypeError, match="writable"):
            syncx.Mutex.at(buffer, arena=arena)


def test_not_contiguous(memory, arena):
    with pytest.raises(TypeError, match="contiguous"):
        syncx.Mutex.at(memoryview(memory)[::2], arena=arena)


@pytest.mark.parametrize("buffer", [None, 5, "text", object(), [0] * 128])
def test_not_a_buffer(arena, buffer):
    with pytest.raises(TypeError):
        syncx.Mutex.at(buffer, arena=arena)


def test_a_closed_buffer(arena):
    mapping = mmap.mmap(-1, 4096)
    view = memoryview(mapping)
    view.release()
    mapping.close()
    for buffer in (mapping, view):
        with pytest.raises(ValueError):
            syncx.Mutex.at(buffer, arena=arena)


def test_other_things_with_buffers(arena):
    """Private to the process, but memory all the same: threads exclude each other in it."""
    raw = (ctypes.c_char * 512)()
    offset = -ctypes.addressof(raw) % 64
    with syncx.Mutex.at(raw, offset, arena=arena):
        pass
    numbers = array.array("Q", [0] * 64)
    offset = -numbers.buffer_info()[0] % 64
    with syncx.Mutex.at(numbers, offset, arena=arena):
        pass


# ---- lifetime --------------------------------------------------------------------------------------------------------


def test_memory_cannot_be_released_under_a_lock(arena):
    shm = SharedMemory(f"syncx-{os.geteuid()}-{prefix()}-lifetime", create=True, size=4096)
    try:
        lock = syncx.Mutex.at(shm.buf, arena=arena)
        with lock, pytest.raises(BufferError):
            shm.close()
        lock.close()
    finally:
        shm.unlink()
    shm.close()
    with pytest.raises(ValueError, match="closed"):
        lock.acquire()


def test_a_mapping_cannot_be_closed_or_resized_under_a_lock(tmp_path, arena):
    path = tmp_path / "f"
    path.write_bytes(bytes(4096))
    with open(path, "r+b") as f:
        mapping = mmap.mmap(f.fileno(), 0)
    lock = syncx.Mutex.at(mapping, arena=arena)
    for change in (mapping.close, lambda: mapping.resize(8192)):
        with pytest.raises(BufferError):
            change()
    del lock
    gc.collect()
    mapping.close()


def test_a_refused_buffer_is_released(arena):
    mapping = mmap.mmap(-1, 4096)
    for offset in (1, 5000):
        with pytest.raises(ValueError):
            syncx.Mutex.at(mapping, offset, arena=arena)
    mapping.close()


def test_the_lock_stays_in_the_memory(tmp_path, arena):
    path = tmp_path / "f"
    path.write_bytes(bytes(4096))

    def mapped():
        with open(path, "r+b") as f:
            return mmap.mmap(f.fileno(), 0)

    a = syncx.Mutex.at(mapped(), arena=arena)
    b = syncx.Mutex.at(mapped(), arena=arena)  # another address, the same lock
    with a:
        assert b.locked()
        assert b.depth == 1
    got = []
    with a:
        t = threading.Thread(target=lambda: got.append(b.acquire(timeout=0.02)))
        t.start()
        t.join(10)
    assert got == [False]


# ---- the arena it is bound to ----------------------------------------------------------------------------------------


def test_another_arena_is_refused(memory, arena):
    lock = syncx.Mutex.at(memory, arena=arena)
    with syncx.Arena(f"{arena.name}-b") as other:
        with pytest.raises(syncx.ArenaError, match="another arena"):
            syncx.Mutex.at(memory, arena=other)
        other.unlink(force=True)
    with lock:
        pass


@pytest.mark.death
@pytest.mark.parametrize("held", [True, False])
def test_a_lock_whose_arena_is_gone(cls, arena, child, tmp_path, held):
    """The arena was removed and made anew at the same place, as after a reboot: who held the lock has died."""
    path = tmp_path / "memory"
    path.write_bytes(bytes(4096))
    place = str(tmp_path / "arena")
    code = """
        import mmap
        f = open(path, "r+b")
        lock = getattr(syncx, cls).at(mmap.mmap(f.fileno(), 0), arena=syncx.Arena(place))
        if held:
            lock.acquire()
        else:
            with lock: pass
        os.kill(os.getpid(), signal.SIGKILL)
    """
    c = child(code, path=str(path), place=place, cls=cls.__name__, held=held)
    c.process.wait(PATIENCE)
    os.unlink(place)
    with open(path, "r+b") as f:
        mapping = mmap.mmap(f.fileno(), 0)
    with syncx.Arena(place) as anew:
        lock = cls.at(mapping, arena=anew)
        with lock as m:
            assert m.owner_died is held
            assert m.depth == 1
        with lock as m:
            assert not m.owner_died
        lock.close()
        anew.unlink()


@pytest.mark.death
def test_a_lock_whose_arena_is_gone_says_raise_where_asked(arena, child, tmp_path):
    path = tmp_path / "memory"
    path.write_bytes(bytes(4096))
    place = str(tmp_path / "arena")
    c = child(
        """
        import mmap
        f = open(path, "r+b")
        syncx.Mutex.at(mmap.mmap(f.fileno(), 0), arena=syncx.Arena(place)).acquire()
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        path=str(path),
        place=place,
    )
    c.process.wait(PATIENCE)
    os.unlink(place)
    with open(path, "r+b") as f:
        mapping = mmap.mmap(f.fileno(), 0)
    with syncx.Arena(place) as anew:
        lock = syncx.Mutex.at(mapping, arena=anew, on_owner_death="raise")
        with pytest.raises(syncx.OwnerDiedError):
            lock.acquire()
        lock.recover()
        lock.release()
        lock.close()
        anew.unlink()


def test_a_handle_of_the_old_arena_and_one_of_the_new_are_not_both_let_in(memory, tmp_path):
    """An arena removed under its users: the old handle is refused once the cell belongs to the new arena."""
    place = str(tmp_path / "arena")
    old = syncx.Arena(place)
    lock = syncx.Mutex.at(memory, arena=old)
    old.unlink(force=True)
    with syncx.Arena(place) as anew:
        other = syncx.Mutex.at(memory, arena=anew)
        with other:
            with contextlib.suppress(syncx.Gone, syncx.ArenaError):
                assert lock.acquire(False) is False
        other.close()
        anew.unlink()
    lock.close()
    old.close()


def test_two_creators_at_once_make_one_lock(arena, child, tmp_path):
    path = tmp_path / "memory"
    children = [
        child(
            """
            import mmap
            say()
            while (file := hear()):
                with open(file, "r+b") as f: memory = mmap.mmap(f.fileno(), 0)
                try:
                    syncx.Mutex.at(memory, arena=arena, create="exclusive")
                    say("made")
                except FileExistsError:
                    say("found")
            """
        )
        for _ in range(3)
    ]
    for c in children:
        c.hear()
    for n in range(20):
        path = tmp_path / f"memory {n}"
        path.write_bytes(bytes(4096))
        for c in children:
            c.say(str(path))
        assert sorted(c.hear() for c in children) == ["found", "found", "made"]
    for c in children:
        c.say(None)
        c.finish()


def test_an_old_handle_after_the_arena_file_was_removed_by_hand(memory, tmp_path):
    """Nobody told the old arena.  The cell has been adopted by the new one: the old handle is refused all the same."""
    place = str(tmp_path / "arena")
    old = syncx.Arena(place)
    lock = syncx.Mutex.at(memory, arena=old)
    os.unlink(place)
    with syncx.Arena(place) as anew:
        other = syncx.Mutex.at(memory, arena=anew)
        with other:
            with pytest.raises((syncx.Gone, syncx.ArenaError)):
                lock.acquire(False)
            assert other.depth == 1
        other.close()
        anew.unlink()
    lock.close()
    old.close()
