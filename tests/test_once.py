"""Once: one runs, the others get its result; whoever raises or is killed, the next one runs."""

from __future__ import annotations

import gc
import logging
import mmap
import os
import pickle
import signal
import sys
import threading
import weakref
from pathlib import Path

import pytest
from support import PATIENCE, Place, until, until_waiting, waiters
from test_mutex import in_thread

import syncx
from syncx import _core


@pytest.fixture
def once(place: Place) -> syncx.Once:
    return place.new(syncx.Once)


@pytest.fixture
def no_belt():
    """In this process a wake-up that is lost never comes."""
    _core._set_belt(False)
    yield
    _core._set_belt(True)


def never():
    raise AssertionError("it was done before")


class Running:
    """A thread that is inside the function of `once.run` until it is told to end it."""

    def __init__(self, once, result="the result"):
        self._inside, self._leave = threading.Event(), threading.Event()
        self._result = result
        self.thread = threading.Thread(target=self._run, args=(once,), daemon=True)
        self.thread.start()
        assert self._inside.wait(PATIENCE)

    def _run(self, once):
        def function():
            self._inside.set()
            assert self._leave.wait(PATIENCE)
            if isinstance(self._result, BaseException):
                raise self._result
            return self._result

        try:
            once.run(function)
        except ZeroDivisionError:
            assert isinstance(self._result, ZeroDivisionError)

    def end(self):
        self._leave.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


# ---- one after the other ---------------------------------------------------------------------------------------------


def test_a_new_one_is_not_done(once):
    assert once.done is False
    assert once.runner is None
    with pytest.raises(RuntimeError, match="no result yet"):
        _ = once.result


def test_it_runs_once(once, place):
    calls = []

    def function(*args, **kwargs):
        calls.append((args, kwargs))
        assert once.done is False
        assert once.runner is not None
        assert once.runner[0] == os.getpid()
        return [1, 2]

    assert once.run(function, 1, "two", three=3) == [1, 2]
    assert calls == [((1, "two"), {"three": 3})]
    assert once.done is True
    assert once.runner is None
    for _ in range(3):
        assert once.run(never) == [1, 2]
        assert once.result == [1, 2]
    assert place.again(once).run(never) == [1, 2]
    assert place.again(once).done


@pytest.mark.parametrize(
    "result",
    [
        None,
        True,
        7,
        -(2**70),
        1.5,
        "text",
        b"bytes",
        (),
        (1,),
        (1, 2),
        [],
        {"a": [1]},
        {1, 2},
        frozenset([3]),
        Path("/x"),
    ],
    ids=repr,
)
def test_results(arena, result):
    once = syncx.Once(arena=arena)
    assert once.run(lambda: result) is result
    for _ in range(2):
        again = once.run(never)
        assert again == result
        assert type(again) is type(result)
        assert once.result == result


def test_a_result_that_can_be_changed_is_not_shared(arena):
    once = syncx.Once(arena=arena)
    first = once.run(lambda: {"list": [1]})
    second, third = once.run(never), once.result
    first["list"].append("first")
    second["list"].append("second")
    third.clear()
    assert once.result == {"list": [1]}


def test_the_function_is_any_callable(arena):
    assert syncx.Once(arena=arena).run(dict, a=1) == {"a": 1}
    assert syncx.Once(arena=arena).run(int, "7") == 7
    assert syncx.Once(arena=arena).run("x".join, ["a", "b"]) == "axb"
    assert syncx.Once(arena=arena).run(lambda function: function, function=3) == 3


def test_what_it_raises_goes_to_its_caller_and_the_next_one_runs(once):
    for i in range(3):
        with pytest.raises(KeyError, match=str(i)):
            once.run({}.__getitem__, i)
        assert not once.done
        assert once.runner is None
    with pytest.raises(KeyboardInterrupt):
        once.run(raise_it, KeyboardInterrupt)
    with pytest.raises(SystemExit):
        once.run(sys.exit, 3)
    assert once.run(lambda: "done") == "done"


def raise_it(error):
    raise error


def test_inside_itself(once, place):
    other = place.again(once)

    def function():
        with pytest.raises(syncx.DeadlockError, match="inside"):
            once.run(never)
        with pytest.raises(syncx.DeadlockError):
            other.run(never)
        with pytest.raises(RuntimeError, match="held by this thread"):
            once.close()
        return 1

    assert once.run(function) == 1
    timed = syncx.Once(arena=place.arena, timeout=60)
    with pytest.raises(syncx.DeadlockError):  # at once: waiting would not help
        timed.run(lambda: timed.run(never))
    assert not timed.done


def test_one_inside_another(place):
    a, b = place.new(syncx.Once), place.new(syncx.Once)
    assert a.run(lambda: b.run(lambda: 1) + 1) == 2
    assert (a.result, b.result) == (2, 1)


# ---- results that cannot be stored -----------------------------------------------------------------------------------


def size_of(n: int) -> int:
    return len(pickle.dumps(bytes(n), 5))


def test_the_largest_result(once):
    room = syncx.Once.MAX_RESULT
    most = next(n for n in range(room, 0, -1) if size_of(n) <= room)
    assert size_of(most) == room
    with pytest.raises(ValueError, match=rf"{size_of(most + 1)} bytes.* room for {room}: store it elsewhere"):
        once.run(bytes, most + 1)
    assert not once.done
    assert once.runner is None
    assert len(once.run(bytes, most)) == most
    assert len(once.run(never)) == most


def test_a_result_that_cannot_be_pickled(once):
    with pytest.raises(TypeError, match=r"cannot be pickled.*return None") as caught:
        once.run(threading.Lock)
    assert isinstance(caught.value.__cause__, TypeError)
    assert not once.done
    assert once.run(lambda: None) is None


class Json(syncx.Once):
    """One that stores its results otherwise."""

    def _dump(self, result):
        import json

        return json.dumps(result).encode() if result != "wrong" else "a str"

    def _load(self, data):
        import json

        return json.loads(data)


def test_a_subclass_may_store_otherwise(arena):
    once = Json(arena=arena)
    with pytest.raises(TypeError, match="_dump must return bytes, not str"):
        once.run(lambda: "wrong")
    once.run(lambda: (1, 2))
    assert once.result == [1, 2]


# ---- damage ----------------------------------------------------------------------------------------------------------

RESULT_AT = 256


def test_a_damaged_result_is_told(arena):
    memory = mmap.mmap(-1, 4096)
    once = syncx.Once.at(memory, arena=arena)
    once.run(lambda: ["a", "list"])
    sound = memory[:1024]
    for at in range(RESULT_AT, RESULT_AT + 12):
        memory[at] ^= 0x41
        with pytest.raises(syncx.ArenaError, match="damaged"):
            once.run(never)
        memory[:1024] = sound
    for length in (0, 1, 769, 2**31, 2**32 - 1):
        memory[72:76] = length.to_bytes(4, "little")
        with pytest.raises(syncx.ArenaError, match="damaged"):
            _ = once.result
    memory[:1024] = sound
    assert once.run(never) == ["a", "list"]


def test_random_bytes_never_crash(arena):
    import random

    memory = mmap.mmap(-1, 4096)
    once = syncx.Once.at(memory, arena=arena, timeout=0)
    rng = random.Random(3)
    for _ in range(300):
        memory[64:128] = rng.randbytes(64)
        memory[RESULT_AT:1024] = rng.randbytes(1024 - RESULT_AT)
        assert once.done in (True, False)
        try:
            once.run(never)
        except (AssertionError, syncx.SyncxError):
            pass
        else:
            raise AssertionError("random bytes were taken for a result")


def test_a_class_that_is_not_known_here(arena, child):
    c = child(
        """
        class Mine: pass
        syncx.Once("x", arena=arena).run(Mine)
        say()
        """
    )
    c.hear()
    c.finish()
    with pytest.raises(syncx.ArenaError, match=r"cannot be unpickled.*importable") as caught:
        syncx.Once("x", arena=arena).run(never)
    assert isinstance(caught.value.__cause__, AttributeError)


# ---- the object ------------------------------------------------------------------------------------------------------


def test_repr(once, place):
    title = f"syncx.Once {once.name!r}" if place.how == "named" else "syncx.Once"
    assert repr(once) == f"<{title} not done>"
    assert once.run(lambda: repr(once)) == f"<{title} running in this process>"
    assert repr(once) == f"<{title} done>"
    once.close()
    assert repr(once) == f"<{title} closed>"


def test_what_it_has_of_all_objects(once, place):
    assert once.arena is place.arena
    assert once.closed is False
    assert once.timeout is None
    assert once.statistics() == {
        "acquisitions": None, "contended": 0, "waited": 0, "longest_wait": 0, "recoveries": 0, "rescues": 0,
    }  # fmt: skip
    assert weakref.ref(once)() is once
    assert (syncx.Once.SIZE, syncx.Once.ALIGNMENT, syncx.Once.MAX_RESULT) == (1024, 64, 768)
    once.run(lambda: "kept")
    once.close()
    once.close()
    for call in (lambda: once.run(never), lambda: once.done, lambda: once.result, once.statistics):
        with pytest.raises(ValueError, match="closed"):
            call()
    assert once.runner is None


def test_bad_calls(arena):
    once = syncx.Once(arena=arena)
    with pytest.raises(TypeError, match="takes a function"):
        once.run()
    with pytest.raises(TypeError, match=r"not int: run\(function, argument\)"):
        once.run(3)
    with pytest.raises(TypeError, match="takes a function"):
        once.run(function=never)
    with pytest.raises(TypeError):
        syncx.Once("x", arena)
    for timeout, error in ((-3, ValueError), ("1", TypeError), (float("nan"), ValueError), (1e30, OverflowError)):
        with pytest.raises(error):
            syncx.Once(arena=arena, timeout=timeout)
    with pytest.raises(AttributeError):
        once.done = True
    assert not once.done


def test_names_and_kinds(arena):
    with pytest.raises(FileNotFoundError):
        syncx.Once("x", arena=arena, create=False)
    syncx.Once("x", arena=arena, create="exclusive").run(lambda: 5)
    gc.collect()
    with pytest.raises(FileExistsError):
        syncx.Once("x", arena=arena, create="exclusive")
    assert syncx.Once("x", arena=arena, create=False).run(never) == 5  # done stays done
    with pytest.raises(ValueError, match="Once"):
        syncx.Event("x", arena=arena)
    arena.unlink("x")
    assert syncx.Once("x", arena=arena).run(lambda: 6) == 6


def test_pickling(arena):
    once = syncx.Once("x", arena=arena, timeout=5)
    again = pickle.loads(pickle.dumps(once))
    assert type(again) is syncx.Once
    assert (again.name, again.timeout) == ("x", 5.0)
    once.run(lambda: 1)
    assert again.run(never) == 1
    outside = syncx.Once.at(mmap.mmap(-1, 4096), arena=arena)
    with pytest.raises(TypeError, match=r"Once\.at"):
        pickle.dumps(outside)


def test_it_is_listed(arena):
    once = syncx.Once("x", arena=arena)
    running = Running(once)
    waiting = threading.Thread(target=once.run, args=(never,), daemon=True)
    waiting.start()
    until_waiting(arena)
    (info,) = arena.objects()
    assert (info.name, info.kind, info.value) == ("x", "Once", 0)
    assert [h.pid for h in info.holders] == [os.getpid()]
    assert len(info.waiters) == 1
    running.end()
    waiting.join(PATIENCE)
    (info,) = arena.objects()
    assert (info.value, info.holders, info.waiters) == (1, (), ())


def test_closing_while_another_thread_runs_it_is_refused(once):
    running = Running(once)
    with pytest.raises(RuntimeError, match="in use"):
        once.close()
    running.end()
    once.close()


# ---- several at once -------------------------------------------------------------------------------------------------


def test_the_others_wait_and_get_the_result(once, arena, no_belt):
    running = Running(once, result=["x"])
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(once.run(never)), daemon=True) for _ in range(4)]
    for t in threads:
        t.start()
    until_waiting(arena, 4)
    assert results == []
    running.end()
    for t in threads:
        t.join(PATIENCE)
    assert results == [["x"]] * 4
    assert once.statistics()["rescues"] == 0
    assert once.statistics()["contended"] >= 4


def test_a_runner_that_raises_lets_the_next_one_run(once, arena, no_belt):
    running = Running(once, result=ZeroDivisionError())
    calls, results = [], []

    def function():
        calls.append(1)
        return "second"

    threads = [threading.Thread(target=lambda: results.append(once.run(function)), daemon=True) for _ in range(4)]
    for t in threads:
        t.start()
    until_waiting(arena, 4)
    running.end()
    for t in threads:
        t.join(PATIENCE)
    assert results == ["second"] * 4
    assert calls == [1]


RACE = """
    once = open_lock(recipe)
    def function():
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"begin %d\\n" % os.getpid())
        os.write(fd, b"end %d\\n" % os.getpid())
        os.close(fd)
        return ["made by", os.getpid()]
    say()
    hear()
    say(once.run(function))
    say(once.run(function))
"""


def test_processes_that_start_together(once, place, child, tmp_path):
    path = tmp_path / "log"
    path.touch()
    children = [child(RACE, recipe=place.recipe(once), path=str(path)) for _ in range(4)]
    for c in children:
        c.hear()
    for c in children:
        c.say()
    results = [[c.hear(), c.hear()] for c in children]
    for c in children:
        c.finish()
    begin, end = path.read_text().splitlines()
    assert begin.split()[1] == end.split()[1]
    assert all(r == ["made by", int(end.split()[1])] for pair in results for r in pair)
    assert once.result == results[0][0]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_it_goes_to_other_processes(arena, child, tmp_path, method):
    program = tmp_path / "program.py"
    program.write_text(
        """
import multiprocessing, os, sys
import syncx

def work(once):
    return once.run(os.getpid)

if __name__ == "__main__":
    arena = syncx.Arena(sys.argv[1])
    with multiprocessing.get_context(sys.argv[2]).Pool(3) as pool:
        pids = pool.map(work, [syncx.Once(arena=arena)] * 9, chunksize=1)
        pool.close()
        pool.join()
    assert len(set(pids)) == 1 and os.getpid() not in pids, pids
    print('"done"', flush=True)
"""
    )
    c = child("os.execv(sys.executable, [sys.executable, *argv])", argv=[str(program), arena.path, method])
    assert c.hear() == "done"
    c.finish()


def test_timeout(once, place):
    running = Running(once)
    for timeout in (0, 0.05, 0.2):
        hasty = place.again(once)
        hasty._set_options(timeout)
        with pytest.raises(syncx.Timeout, match=rf"not done within {timeout:g} s"):
            in_thread(hasty.run, never)
        with pytest.raises(TimeoutError):
            in_thread(hasty.run, never)
    running.end()
    assert hasty.run(never) == "the result"


def test_the_timeout_does_not_limit_the_function(arena):
    once = syncx.Once(arena=arena, timeout=0)
    done = threading.Event()

    def function():
        timer = threading.Timer(0.05, done.set)
        timer.start()
        assert done.wait(PATIENCE)
        timer.join(PATIENCE)
        return "slowly"

    assert once.run(function) == "slowly"


def test_ctrl_c_ends_the_wait(once, place, child, arena):
    running = Running(once)
    c = child(
        """
        once = open_lock(recipe)
        say()
        try:
            once.run(lambda: say("mine"))
        except KeyboardInterrupt:
            say("interrupted")
        say(once.run(lambda: say("mine")))
        """,
        recipe=place.recipe(once),
    )
    c.hear()
    until_waiting(arena)
    os.kill(c.pid, signal.SIGINT)
    assert c.hear() == "interrupted"
    until_waiting(arena)
    running.end()
    assert c.hear() == "the result"
    c.finish()
    assert waiters(arena) == 0


def test_ctrl_c_in_the_function_is_the_callers(once, place, child):
    c = child(
        """
        once = open_lock(recipe)
        def function():
            say()
            while True: signal.pause()
        try:
            once.run(function)
        except KeyboardInterrupt:
            say([once.done, once.runner])
        """,
        recipe=place.recipe(once),
    )
    c.hear()
    os.kill(c.pid, signal.SIGINT)
    assert c.hear() == [False, None]
    c.finish()
    assert once.run(lambda: 2) == 2


# ---- fork ------------------------------------------------------------------------------------------------------------


def test_a_child_forked_inside_the_function_is_no_runner(once, place, child):
    c = child(
        """
        once = open_lock(recipe)
        pids = []
        def function():
            pids.append(os.fork())
            if pids[0] == 0:
                say(["child", once.done, once.runner[0] == os.getppid()])
                return "the child's"
            say(wait_for(pids[0]))
            return "the parent's"
        try:
            result = once.run(function)
        except syncx.NotOwner as e:
            say(str(e))
            os._exit(0 if pids[0] == 0 else 1)
        say(result)
        """,
        recipe=place.recipe(once),
    )
    assert c.hear() == ["child", False, True]
    assert "forked inside the function" in c.hear()
    assert c.hear() == 0
    assert c.hear() == "the parent's"
    c.finish()
    assert once.run(never) == "the parent's"


def test_sys_exit_in_a_child_forked_inside_the_function(once, place, child):
    c = child(
        """
        once = open_lock(recipe)
        def function():
            pid = os.fork()
            if pid == 0:
                sys.exit(7)
            return wait_for(pid)
        say(once.run(function))
        """,
        recipe=place.recipe(once),
    )
    assert c.hear() == 7
    c.finish()
    assert "NotOwner" not in c.stderr()
    assert once.result == 7


def test_a_forked_child_waits_for_its_parent(arena, child):
    c = child(
        """
        once = syncx.Once(arena=arena)
        def function():
            pid = os.fork()
            if pid == 0:
                try:
                    syncx.Once("other", arena=arena)
                    os._exit(once.run(lambda: 8) - 7)
                except BaseException:
                    os._exit(9)
            children.append(pid)
            while not any(row[3] for row in arena._participants()):
                time.sleep(0.001)
            return 7
        children = []
        say([once.run(function), wait_for(children[0])])
        """
    )
    assert c.hear() == [7, 0]
    c.finish()


# ---- unlinked --------------------------------------------------------------------------------------------------------


def test_unlinking_tells_who_waits(arena, no_belt):
    once = syncx.Once("x", arena=arena)
    running = Running(once)
    errors: list[BaseException] = []

    def wait():
        try:
            once.run(never)
        except syncx.Gone as e:
            errors.append(e)

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for t in threads:
        t.start()
    until_waiting(arena, 3)
    with pytest.raises(syncx.InUse):
        arena.unlink("x")
    arena.unlink("x", force=True)
    for t in threads:
        t.join(PATIENCE)
    assert len(errors) == 3
    assert "unlinked" in str(errors[0])
    running.end()  # and has its result
    with pytest.raises(syncx.Gone):
        once.run(never)
    assert syncx.Once("x", arena=arena).run(lambda: "another") == "another"


@pytest.mark.parametrize("result", [5, [5]], ids=["kept", "made anew"])
def test_one_that_was_done_and_unlinked(arena, result):
    once = syncx.Once("x", arena=arena)
    once.run(lambda: result)
    assert once.run(never) == result
    arena.unlink("x", force=True)
    with pytest.raises(syncx.Gone):
        once.run(never)
    assert once.result == result


def test_memory_that_outlives_its_arena(arena):
    memory = mmap.mmap(-1, 4096)
    name = f"{arena.name}-second"
    second = syncx.Arena(name)
    done, undone = syncx.Once.at(memory, arena=second), syncx.Once.at(memory, 1024, arena=second)
    done.run(lambda: 3)
    second.unlink(force=True)
    for once in (done, undone):
        with pytest.raises(syncx.Gone):
            once.run(never)
        once.close()
    second.close()
    with syncx.Arena(name) as third:
        again, other = syncx.Once.at(memory, arena=third), syncx.Once.at(memory, 1024, arena=third)
        assert again.run(never) == 3
        assert other.run(lambda: 4) == 4
        again.close()
        other.close()
        third.unlink(force=True)


# ---- deaths ----------------------------------------------------------------------------------------------------------

STUCK = """
    once = open_lock(recipe)
    def function():
        say("inside")
        hear()
    once.run(function)
"""


@pytest.mark.death
def test_a_runner_that_is_killed_lets_the_next_one_run(once, place, child, caplog):
    for deaths in (1, 2, 3):
        c = child(STUCK, recipe=place.recipe(once))
        assert c.hear() == "inside"
        assert once.runner == (c.pid, c.pid)
        assert f"running in process {c.pid}" in repr(once)
        c.kill()
        assert once.runner is None
        assert not once.done
        assert once.statistics()["recoveries"] == deaths - 1
    with caplog.at_level(logging.WARNING, "syncx"):
        assert once.run(lambda: "at last") == "at last"
    assert once.statistics()["recoveries"] == 3
    (record,) = caplog.records
    title = f"syncx.Once {once.name!r}" if place.how == "named" else "a nameless syncx.Once"
    died = f"process {c.pid} (thread {c.pid}) died running the function of {title}"
    assert record.getMessage() == f"{died}; recovered by process {os.getpid()}"


COUNTS = """
    once = open_lock(recipe)
    def function():
        fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"begin\\n")
        time.sleep(0)
        os.write(fd, b"end\\n")
        os.close(fd)
        return os.getpid()
    say()
    say(once.run(function))
"""


@pytest.mark.death
def test_a_runner_killed_under_waiters(once, place, child, arena, tmp_path):
    """Exactly one of those who wait runs, and all have its result."""
    path = tmp_path / "log"
    path.touch()
    victim = child(STUCK, recipe=place.recipe(once))
    victim.hear()
    children = [child(COUNTS, recipe=place.recipe(once), path=str(path)) for _ in range(3)]
    for c in children:
        c.hear()
    until_waiting(arena, 3)
    victim.kill()
    pids = {c.hear() for c in children}
    assert len(pids) == 1
    assert pids <= {c.pid for c in children}
    for c in children:
        c.finish()
    assert path.read_text() == "begin\nend\n"
    told = "".join(c.stderr() for c in children)
    assert (
        told.count("died")
        == told.count(f"process {victim.pid} (thread {victim.pid}) died running the function of")
        == 1
    )


@pytest.mark.death
def test_killed_waiters_keep_nobody_waiting(once, place, child, arena):
    running = Running(once)
    victims = [child(COUNTS, recipe=place.recipe(once), path="/nowhere") for _ in range(3)]
    for c in victims:
        c.hear()
    until_waiting(arena, 3)
    results: list[object] = []
    t = threading.Thread(target=lambda: results.append(once.run(never)), daemon=True)
    t.start()
    until_waiting(arena, 4)
    for c in victims:
        c.kill()
    running.end()
    t.join(PATIENCE)
    assert results == ["the result"]


@pytest.mark.death
def test_who_runs_after_a_death_may_raise_too(once, place, child, caplog):
    c = child(STUCK, recipe=place.recipe(once))
    c.hear()
    c.kill()
    with caplog.at_level(logging.WARNING, "syncx"):
        with pytest.raises(ZeroDivisionError):
            once.run(raise_it, ZeroDivisionError)
        assert once.run(lambda: 1) == 1
    assert len(caplog.records) == 1  # told once


@pytest.mark.death
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_logger_that_raises_undoes_nothing(arena, child, monkeypatch, error):
    once = syncx.Once("x", arena=arena)
    c = child("once = syncx.Once('x', arena=arena); once.run(lambda: [say(), hear()])")
    c.hear()
    c.kill()

    class Handler(logging.Handler):
        def emit(self, record):
            raise error

    monkeypatch.setattr(sys, "unraisablehook", lambda *_: None)
    handler = Handler()
    logging.getLogger("syncx").addHandler(handler)
    try:
        if error is KeyboardInterrupt:
            with pytest.raises(KeyboardInterrupt):
                once.run(lambda: 1)
        else:
            assert once.run(lambda: 1) == 1
    finally:
        logging.getLogger("syncx").removeHandler(handler)
    assert once.done
    assert once.run(never) == 1


@pytest.mark.death
def test_the_end_of_a_process_inside_the_function(once, place, child):
    c = child("open_lock(recipe).run(os._exit, 3)", recipe=place.recipe(once))
    assert c.end() == 3
    assert not once.done
    assert once.run(lambda: 2) == 2


# ---- the oracle sees broken twins ------------------------------------------------------------------------------------


class DoneBefore:
    """Marks it done before the function has run, so that a death leaves it done for ever."""

    def __init__(self, arena, name):
        self._event = syncx.Event(name, arena=arena)

    @property
    def done(self):
        return self._event.is_set()

    def run(self, function):
        if not self._event.is_set():
            self._event.set()
            function()


TWIN = """
    from test_once import DoneBefore
    once = DoneBefore(arena, "x") if twin else syncx.Once("x", arena=arena)
    once.run(lambda: [say("inside"), hear()])
"""


@pytest.mark.death
@pytest.mark.parametrize("twin", [True, False], ids=["twin", "ours"])
def test_a_twin_that_marks_done_before_it_ran_is_seen(arena, child, twin):
    c = child(TWIN, twin=twin)
    assert c.hear() == "inside"
    c.kill()
    once = DoneBefore(arena, "x") if twin else syncx.Once("x", arena=arena)
    ran = []
    once.run(lambda: ran.append(1))
    assert once.done
    assert ran == ([] if twin else [1])


def test_until_is_bounded():
    """What these tests wait with tells when nothing comes."""
    with pytest.raises(AssertionError, match="in vain"):
        until(lambda: False, "nothing", timeout=0.01)
