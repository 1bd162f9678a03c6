"""fork: the child owns nothing and knows everything.

Every fork happens in a child of the test, never in its own process.
"""

from __future__ import annotations

import os
import signal

import pytest
from support import Place

import syncx


@pytest.fixture(params=[syncx.Mutex, syncx.RLock])
def cls(request):
    return request.param


def test_a_forked_child_does_not_hold_what_its_parent_holds(cls, place: Place, child):
    lock = place.new(cls)
    c = child(
        """
        lock = open_lock(recipe)
        with lock:
            pid = os.fork()
            if pid == 0:
                say([lock.depth, lock.locked(), lock.holder[0] == os.getppid(), lock.acquire(False)])
                try:
                    lock.release()
                except syncx.NotOwner:
                    say("not the child's")
                os._exit(0)
            say([wait_for(pid), lock.depth])
        say(lock.locked())
        """,
        recipe=place.recipe(lock),
    )
    assert c.hear() == [0, True, True, False]
    assert c.hear() == "not the child's"
    assert c.hear() == [0, 1]
    assert c.hear() is False
    c.finish()


def test_leaving_a_with_in_a_child_forked_inside_it(cls, place: Place, child):
    """The parent's hold stands, whether the child leaves by an exception (which is let through) or is told."""
    lock = place.new(cls)
    c = child(
        """
        lock = open_lock(recipe)
        parent = os.getpid()
        try:
            with lock:
                pid = os.fork()
                if pid == 0:
                    raise KeyError("the body's own")
                say([wait_for(pid), lock.depth, lock.owner_died])
                pid = os.fork()
                if pid != 0:
                    say([wait_for(pid), lock.depth, lock.owner_died])
        except KeyError:
            say("KeyError")
            os._exit(3)
        except syncx.NotOwner:
            say("NotOwner")
            os._exit(4)
        say([os.getpid() == parent, lock.locked()])
        """,
        recipe=place.recipe(lock),
    )
    assert c.hear() == "KeyError"
    assert c.hear() == [3, 1, False]
    assert c.hear() == "NotOwner"
    assert c.hear() == [4, 1, False]
    assert c.hear() == [True, False]
    c.finish()


def test_sys_exit_in_a_child_forked_inside_a_with_is_silent(place: Place, child):
    lock = place.new()
    c = child(
        """
        lock = open_lock(recipe)
        with lock:
            pid = os.fork()
            if pid == 0:
                sys.exit(7)
            say([wait_for(pid), lock.depth])
        """,
        recipe=place.recipe(lock),
    )
    assert c.hear() == [7, 1]
    c.finish()
    assert c.stderr() == ""


def test_the_child_gets_the_lock_after_its_parent(cls, place: Place, child):
    lock = place.new(cls)
    c = child(
        """
        lock = open_lock(recipe)
        r, w = os.pipe()
        lock.acquire()
        pid = os.fork()
        if pid == 0:
            os.write(w, b".")
            with lock as m:
                say([m.owner_died, lock.holder[0] == os.getpid()])
            os._exit(0)
        os.read(r, 1)
        lock.release()
        say(wait_for(pid))
        """,
        recipe=place.recipe(lock),
    )
    assert c.hear() == [False, True]
    assert c.hear() == 0
    c.finish()


@pytest.mark.death
def test_a_parent_that_dies_is_dead_though_its_child_lives(cls, place: Place, child):
    """The child's inherited descriptors are no sign of the parent's life."""
    lock = place.new(cls)
    c = child(
        """
        lock = open_lock(recipe)
        lock.acquire()
        if os.fork() == 0:
            say(os.getpid())
            with lock as m:
                say(m.owner_died)
            hear()
            os._exit(0)
        hear()
        """,
        recipe=place.recipe(lock),
    )
    c.hear()
    c.kill()
    assert c.hear() is True
    with lock as m:
        assert not m.owner_died


@pytest.mark.death
def test_a_child_that_dies_is_dead_though_its_parent_lives(cls, place: Place, child):
    lock = place.new(cls)
    c = child(
        """
        lock = open_lock(recipe)
        with lock: pass
        pid = os.fork()
        if pid == 0:
            lock.acquire()
            os.kill(os.getpid(), signal.SIGKILL)
        say(wait_for(pid))
        with lock as m:
            say(m.owner_died)
        """,
        recipe=place.recipe(lock),
    )
    assert c.hear() == -signal.SIGKILL
    assert c.hear() is True
    c.finish()


def test_generations_of_children(place: Place, child, tmp_path):
    """Each forks the next from inside its `with`, and all count under one lock."""
    lock = place.new()
    path = tmp_path / "number"
    path.write_bytes(b"")
    c = child(
        """
        lock = open_lock(recipe)
        top = os.getpid()
        for depth in range(8):
            add(lock, path, 20)
            pid = os.fork()
            if pid:
                add(lock, path, 20)
                code = wait_for(pid)
                break
        else:
            code = 0
        if os.getpid() != top:
            os._exit(code)
        say(code)
        """,
        recipe=place.recipe(lock),
        path=str(path),
    )
    assert c.hear() == 0
    c.finish()
    assert int(path.read_bytes()) == 8 * 20 * 2


def test_many_children_at_once(place: Place, child, tmp_path):
    lock = place.new()
    path = tmp_path / "number"
    path.write_bytes(b"")
    c = child(
        """
        lock = open_lock(recipe)
        pids = []
        for _ in range(24):
            pid = os.fork()
            if pid == 0:
                add(lock, path, 25)
                os._exit(0)
            pids.append(pid)
        say(sum(map(wait_for, pids)))
        """,
        recipe=place.recipe(lock),
        path=str(path),
    )
    assert c.hear() == 0
    c.finish()
    assert int(path.read_bytes()) == 24 * 25


@pytest.mark.death
def test_fork_while_other_threads_lock_make_and_drop(arena, child):
    """Whatever the other threads are in the middle of, the child works."""
    c = child(
        """
        shared = syncx.Mutex("shared", arena=arena)
        stop = threading.Event()
        def work():
            n = 0
            while not stop.is_set():
                n += 1
                with shared, syncx.Mutex(arena=arena), syncx.Mutex(f"n{n % 5}", arena=arena):
                    pass
        threads = [threading.Thread(target=work) for _ in range(3)]
        for t in threads: t.start()
        codes = []
        for _ in range(60):
            pid = os.fork()
            if pid == 0:
                with syncx.Mutex(arena=arena), syncx.Mutex("mine", arena=arena), shared:
                    os._exit(0)
            codes.append(wait_for(pid))
        stop.set()
        for t in threads: t.join()
        say(codes)
        """
    )
    # a child that leaves by os._exit holds the locks: its parent's threads find them marked, which is not the point
    codes = c.hear()
    assert codes == [0] * 60
    c.finish()


def test_fork_while_another_process_makes_and_drops(arena, child):
    busy = child(
        """
        say()
        stop = []
        threading.Thread(target=lambda: (hear(), stop.append(1)), daemon=True).start()
        while not stop:
            syncx.Mutex(arena=arena), syncx.Mutex("x", arena=arena)
        """
    )
    busy.hear()
    c = child(
        """
        kept = [syncx.Mutex(arena=arena) for _ in range(20)]
        codes = []
        for _ in range(60):
            pid = os.fork()
            if pid == 0:
                for m in kept:
                    with m: pass
                os._exit(0)
            codes.append(wait_for(pid))
        say(codes)
        """
    )
    assert c.hear() == [0] * 60
    c.finish()
    busy.say()
    busy.finish()


def test_at_fork_reinit_in_a_child_changes_nothing(cls, place: Place, child):
    lock = place.new(cls)
    c = child(
        """
        lock = open_lock(recipe)
        with lock:
            pid = os.fork()
            if pid == 0:
                lock._at_fork_reinit()
                say(lock.locked())
                os._exit(0)
            wait_for(pid)
            say(lock.depth)
        """,
        recipe=place.recipe(lock),
    )
    assert c.hear() is True
    assert c.hear() == 1
    c.finish()


def test_an_exec_inherits_no_descriptor(arena, child):
    c = child(
        """
        import subprocess
        with syncx.Mutex("x", arena=arena):
            listing = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, close_fds=False)
            say([os.path.basename(arena.path) in listing.stdout, listing.returncode])
        """
    )
    assert c.hear() == [False, 0]
    c.finish()


@pytest.mark.death
def test_a_process_that_closed_all_its_descriptors_is_alive(place: Place, child):
    """As daemons do.  Its holds are its own still, and end with it."""
    lock = place.new()
    c = child(
        """
        lock = open_lock(recipe)
        lock.acquire()
        os.closerange(3, 1000)
        say()
        hear()
        lock.release()
        say(lock.acquire(False))
        hear()
        """,
        recipe=place.recipe(lock),
    )
    c.hear()
    assert lock.acquire(timeout=0.35) is False
    assert lock.locked()
    c.say()
    assert c.hear() is True
    assert lock.acquire(timeout=0.35) is False
    c.kill()
    with lock as m:
        assert m.owner_died


def test_another_open_and_close_of_the_arena_file_is_no_death(place: Place, child, arena):
    """What makes POSIX record locks vanish."""
    lock = place.new()
    c = child(
        """
        lock = open_lock(recipe)
        lock.acquire()
        open(arena.path).close()
        say(); hear()
        """,
        recipe=place.recipe(lock),
    )
    c.hear()
    assert lock.acquire(timeout=0.35) is False
    c.say()
    c.end()


def test_fork_in_a_thread(place: Place, child):
    lock = place.new()
    c = child(
        """
        lock = open_lock(recipe)
        def run():
            with lock:
                pid = os.fork()
                if pid == 0:
                    ok = not lock.acquire(False)
                    os._exit(0 if ok else 1)
                say(wait_for(pid))
        t = threading.Thread(target=run)
        t.start(); t.join()
        say(lock.locked())
        """,
        recipe=place.recipe(lock),
    )
    assert c.hear() == 0
    assert c.hear() is False
    c.finish()


def test_an_arena_closed_in_the_parent_is_closed_in_the_child(arena, child):
    c = child(
        """
        pid = os.fork()
        if pid == 0:
            arena.close()
            os._exit(0)
        wait_for(pid)
        with syncx.Mutex("x", arena=arena): say("the parent's is open")
        pid = os.fork()
        if pid == 0:
            with syncx.Mutex("x", arena=arena): say("so is another child's")
            os._exit(0)
        wait_for(pid)
        """
    )
    assert c.hear() == "the parent's is open"
    assert c.hear() == "so is another child's"
    c.finish()


# ---- anonymous objects and fork --------------------------------------------------------------------------------------


def test_an_anonymous_lock_excludes_parent_and_child(cls, arena, child, tmp_path):
    path = tmp_path / "number"
    path.write_bytes(b"")
    c = child(
        """
        lock = getattr(syncx, cls)(arena=arena)
        pids = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                add(lock, path, 500)
                os._exit(0)
            pids.append(pid)
        add(lock, path, 500)
        say(sum(map(wait_for, pids)))
        """,
        cls=cls.__name__,
        path=str(path),
    )
    assert c.hear() == 0
    c.finish()
    assert int(path.read_bytes()) == 2000


@pytest.mark.death
@pytest.mark.parametrize("how", ["os._exit(0)", "sys.exit()", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_an_anonymous_lock_survives_the_parent_that_made_it(arena, child, how):
    c = child(
        f"""
        lock = syncx.Mutex(arena=arena)
        r, w = os.pipe()
        parent = os.getpid()
        if os.fork():
            os.read(r, 1)
            {how}
        os.write(w, b".")
        os.close(0)
        while os.getppid() == parent:
            time.sleep(0.001)
        arena.collect()
        # what would be given the lock's cell if it were free
        others = [syncx.Mutex(arena=arena) for _ in range(50)]
        with lock:
            say([m.locked() for m in others].count(True))
        say(lock.acquire(False))
        """
    )
    assert c.hear() == 0
    assert c.hear() is True


def test_anonymous_cells_are_used_again(arena):
    syncx.Mutex(arena=arena)
    size = arena.statistics()["cell_bytes"]
    for _ in range(1000):
        syncx.Mutex(arena=arena)
    assert arena.statistics()["cell_bytes"] == size
    kept = [syncx.Mutex(arena=arena) for _ in range(100)]
    size = arena.statistics()["cell_bytes"]
    assert size == 100 * syncx.Mutex.SIZE
    del kept
    kept = [syncx.RLock(arena=arena) for _ in range(100)]
    assert arena.statistics()["cell_bytes"] == size
    assert not any(m.locked() or m.owner_died for m in kept)


@pytest.mark.death
def test_what_a_killed_process_knew_is_used_again(arena, child):
    c = child("kept = [syncx.Mutex(arena=arena) for _ in range(100)]; kept[3].acquire(); say(); hear()")
    c.hear()
    size = arena.statistics()["cell_bytes"]
    c.kill()
    arena.collect()
    assert list(arena.objects()) == []
    kept = [syncx.Mutex(arena=arena) for _ in range(100)]
    assert arena.statistics()["cell_bytes"] == size
    for m in kept:  # the dead holder's cell begins afresh
        with m:
            assert not m.owner_died


@pytest.mark.death
def test_a_parent_that_drops_its_handle_at_once(arena, child):
    """multiprocessing drops the arguments of a process as soon as it has forked: the child must not lose its lock to
    the next one that is made."""
    c = child(
        """
        for _ in range(20):
            lock = syncx.Mutex(arena=arena)
            r, w = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.read(r, 1)
                lock.acquire()
                os._exit(0)
            del lock
            others = [syncx.Mutex(arena=arena) for _ in range(4)]
            os.write(w, b".")
            wait_for(pid)
            say([m.acquire() and m.owner_died for m in others].count(True))
            for m in others: m.release()
        """
    )
    assert [c.hear() for _ in range(20)] == [0] * 20
    c.finish()


@pytest.mark.death
def test_a_parent_that_ends_at_once(arena, child):
    """In good order, giving back what it knew: its child's lock must stay the child's."""
    c = child(
        """
        def generation(left):
            lock = syncx.Mutex(arena=arena)
            if os.fork():
                os._exit(0) if left % 2 else sys.exit()
            others = [syncx.Mutex(arena=arena) for _ in range(4)]
            arena.collect()
            with lock:
                say([m.locked() for m in others].count(True))
            if left:
                generation(left - 1)
        generation(10)
        """
    )
    assert [c.hear() for _ in range(11)] == [0] * 11


def test_a_child_gives_its_share_back(arena, child):
    """An anonymous lock goes when the last process that knows it has gone, the parent's handle or not."""
    c = child(
        """
        lock = syncx.Mutex(arena=arena)
        pid = os.fork()
        if pid == 0:
            hear()
            os._exit(0)
        del lock
        arena.collect()
        say(len(list(arena.objects())))
        say(wait_for(pid))
        arena.collect()
        say(len(list(arena.objects())))
        """
    )
    assert c.hear() == 1
    c.say()
    assert c.hear() == 0
    assert c.hear() == 0
    c.finish()
    assert os.path.exists(arena.path)


@pytest.mark.core
def test_nothing_is_imported_while_others_wait(child, arena, tmp_path):
    """An import under way when another thread forks never ends in the child; under a lock all others would wait too."""
    c = child(
        """
        import sys
        for name in ("pickle", "syncx.objects", "syncx.append"):  # the helpers of the tests may have imported them
            sys.modules.pop(name, None)
        lock, once = syncx.FileLock(PATH, arena=arena), syncx.Once(arena=arena)
        inside, found = [False], []
        def hook(event, arguments):
            if event == "import" and (inside[0] or lock.held):
                found.append(arguments[0])
        sys.addaudithook(hook)
        lock.append("a line")
        def initialise():
            inside[0] = True
            return [1]
        once.run(initialise)
        say(found)
        import colorsys  # the hook sees imports
        say(found)
        """,
        PATH=str(tmp_path / "lines"),
    )
    assert c.hear() == []
    assert c.hear() == ["colorsys"]
