"""Barrier: parties that go on together, or learn at once that one of them will not come."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.shared_memory import SharedMemory

import pytest
from support import PATIENCE, until, waiters

import syncx
from syncx import _core


class Party(threading.Thread):
    """A thread that calls something, and keeps what came of it."""

    def __init__(self, call, *args):
        super().__init__(daemon=True)
        self.call, self.args = call, args
        self.result = None
        self.error = None
        self.start()

    def run(self):
        try:
            self.result = self.call(*self.args)
        except BaseException as e:
            self.error = e

    def end(self):
        self.join(PATIENCE)
        assert not self.is_alive(), "it still waits"
        return self.error if self.error is not None else self.result


def arrived(barrier, n):
    until(lambda: barrier.n_waiting == n, f"{n} parties arrive")


def asleep(arena, n):
    until(lambda: waiters(arena) == n, f"{n} threads sleep")


@pytest.fixture
def barrier(arena):
    return syncx.Barrier(3, arena=arena)


# ---- meeting ----------------------------------------------------------------------------------------------------


def test_all_go_on_when_the_last_has_come(barrier):
    first, second = Party(barrier.wait), Party(barrier.wait)
    arrived(barrier, 2)
    assert first.is_alive()
    assert second.is_alive()
    assert barrier.wait() == 2
    assert {first.end(), second.end()} == {0, 1}
    assert barrier.n_waiting == 0
    assert not barrier.broken


def test_a_barrier_of_one_party_never_waits(arena):
    runs = []
    barrier = syncx.Barrier(1, lambda: runs.append(1), arena=arena)
    assert [barrier.wait() for _ in range(100)] == [0] * 100
    assert len(runs) == 100
    assert barrier.wait(0) == 0


ROUNDS = """
import collections
syncx._core._set_belt(False)  # a wake-up that is lost hangs
barrier = syncx.Barrier(parties, arena=arena)
numbers = [[] for _ in range(parties)]
ahead = [0] * parties
bad = []

def party(me):
    for i in range(rounds):
        ahead[me] = i + 1
        numbers[me].append(barrier.wait())
        if min(ahead) < i + 1 or max(ahead) > i + 2:
            bad.append((i, list(ahead)))

threads = [threading.Thread(target=party, args=(i,)) for i in range(parties)]
for t in threads:
    t.start()
for t in threads:
    t.join()
bad += [i for i, row in enumerate(zip(*numbers)) if sorted(row) != list(range(parties))]
say([bad[:3], [len(n) for n in numbers] == [rounds] * parties, barrier.n_waiting, barrier.broken])
"""


@pytest.mark.parametrize(("parties", "rounds"), [(2, 3000), (5, 1000), (100, 20)])
def test_rounds_of_threads(child, arena, parties, rounds):
    """Nobody runs ahead, and in each round everybody has a number of his own."""
    c = child(ROUNDS, parties=parties, rounds=rounds)
    assert c.hear(120) == [[], True, 0, False]
    c.finish()


def test_the_oracle_of_the_rounds_sees_who_runs_ahead(child, arena):
    """The twin: a barrier that lets one go before the others have come, every now and then."""
    early = ROUNDS.replace(
        "numbers[me].append(barrier.wait())", "numbers[me].append(me if me == 0 else barrier.wait())"
    )
    early = early.replace("syncx.Barrier(parties,", "syncx.Barrier(parties - 1,")
    assert early.count("parties - 1") == 1
    assert early.count("me == 0") == 1
    c = child(early, parties=3, rounds=1000)
    bad, *_ = c.hear(120)
    assert bad != []
    c.finish()


def test_rounds_of_processes(child, arena):
    n, rounds = 3, 500
    syncx.Barrier(n, name="b", arena=arena)
    children = [
        child(
            "syncx._core._set_belt(False); b = syncx.Barrier(name='b', arena=arena); say([b.wait() for _ in range(n)])",
            n=rounds,
        )
        for _ in range(n)
    ]
    for row in zip(*[c.hear(120) for c in children], strict=True):
        assert sorted(row) == list(range(n))
    for c in children:
        c.finish()


def test_more_threads_than_parties_go_round_by_round(child, arena):
    c = child(
        """
        syncx._core._set_belt(False)
        barrier = syncx.Barrier(3, arena=arena)
        got = []
        def party():
            try:
                while True:
                    got.append(barrier.wait())
                    if got.count(0) == 300:
                        barrier.abort()
            except syncx.BrokenBarrierError:
                return
        threads = [threading.Thread(target=party) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        counts = [got.count(i) for i in range(3)]
        say([min(counts) >= 300, max(counts) - min(counts) <= 1])
        """
    )
    assert c.hear(120) == [True, True]
    c.finish()


# ---- the action ---------------------------------------------------------------------------------------------------


def test_the_action_is_run_once_by_the_last_before_anybody_goes(arena):
    order = []

    def action():
        order.append((threading.current_thread(), barrier.n_waiting, other.is_alive()))

    barrier = syncx.Barrier(2, action, arena=arena)
    assert barrier.action is action
    other = Party(barrier.wait)
    arrived(barrier, 1)
    barrier.wait()
    other.end()
    assert order == [(threading.current_thread(), 2, True)]


def test_each_handle_has_an_action_of_its_own(arena):
    ran = []
    one = syncx.Barrier(2, lambda: ran.append("one"), name="b", arena=arena)
    two = syncx.Barrier(2, lambda: ran.append("two"), name="b", arena=arena)
    none = syncx.Barrier(name="b", arena=arena)
    for last, told in ((one, "one"), (two, "two"), (none, None)):
        ran.clear()
        other = Party(none.wait)
        arrived(none, 1)
        assert last.wait() == 1
        assert other.end() == 0
        assert ran == ([told] if told else [])


def test_an_action_that_raises_breaks_the_barrier(arena):
    def action():
        raise LookupError("no luck")

    barrier = syncx.Barrier(2, action, arena=arena)
    other = Party(barrier.wait)
    arrived(barrier, 1)
    with pytest.raises(LookupError, match="no luck"):
        barrier.wait()
    assert isinstance(other.end(), syncx.BrokenBarrierError)
    assert barrier.broken
    with pytest.raises(syncx.BrokenBarrierError):
        barrier.wait()


@pytest.mark.parametrize("how", ["abort", "reset"])
def test_an_action_during_which_the_barrier_is_broken_was_in_vain(arena, how):
    barrier = syncx.Barrier(2, lambda: getattr(barrier, how)(), arena=arena)
    other = Party(barrier.wait)
    arrived(barrier, 1)
    with pytest.raises(syncx.BrokenBarrierError):
        barrier.wait()
    assert isinstance(other.end(), syncx.BrokenBarrierError)
    assert barrier.broken is (how == "abort")


def test_who_comes_during_the_action_is_of_the_next_round(arena):
    inside, go_on = threading.Event(), threading.Event()

    def action():
        inside.set()
        assert go_on.wait(PATIENCE)

    acting, plain = syncx.Barrier(2, action, name="b", arena=arena), syncx.Barrier(2, name="b", arena=arena)
    first = Party(plain.wait)
    arrived(plain, 1)
    last = Party(acting.wait)
    assert inside.wait(PATIENCE)
    late = Party(plain.wait)
    asleep(arena, 2)
    go_on.set()
    assert {first.end(), last.end()} == {0, 1}
    arrived(plain, 1)
    assert plain.wait() == 1
    assert late.end() == 0


# ---- breaking -----------------------------------------------------------------------------------------------------


def test_a_timeout_breaks_it_for_all(barrier):
    others = [Party(barrier.wait), Party(barrier.wait, 0.05)]
    assert all(isinstance(o.end(), syncx.BrokenBarrierError) for o in others)
    assert "in time" in str(others[1].error)
    assert barrier.broken
    assert barrier.n_waiting == 0
    with pytest.raises(syncx.BrokenBarrierError, match="reset"):
        barrier.wait()


def test_a_timeout_of_nothing_tries(barrier):
    with pytest.raises(syncx.BrokenBarrierError):
        barrier.wait(0)
    barrier.reset()
    others = [Party(barrier.wait), Party(barrier.wait)]
    arrived(barrier, 2)
    assert barrier.wait(timeout=0) == 2
    for other in others:
        other.end()


def test_the_barriers_own_timeout(arena):
    barrier = syncx.Barrier(2, timeout=0.02, arena=arena)
    assert barrier.timeout == 0.02
    start = time.monotonic()
    with pytest.raises(syncx.BrokenBarrierError):
        barrier.wait()
    assert time.monotonic() - start >= 0.02
    barrier.reset()
    patient = Party(barrier.wait, -1)
    arrived(barrier, 1)
    asleep(arena, 1)
    assert barrier.wait() == 1
    assert patient.end() == 0


def test_abort(barrier):
    others = [Party(barrier.wait), Party(barrier.wait)]
    arrived(barrier, 2)
    barrier.abort()
    barrier.abort()
    assert all(isinstance(o.end(), syncx.BrokenBarrierError) for o in others)
    assert barrier.broken
    with pytest.raises(syncx.BrokenBarrierError):
        barrier.wait()


def test_reset_sends_away_who_waits_and_begins_anew(barrier):
    for _ in range(100):  # beyond what is remembered of former rounds
        other = Party(barrier.wait)
        arrived(barrier, 1)
        barrier.reset()
        assert isinstance(other.end(), syncx.BrokenBarrierError)
        assert not barrier.broken
        others = [Party(barrier.wait), Party(barrier.wait)]
        barrier.wait()
        assert {o.end() for o in others} < {0, 1, 2}


def test_reset_of_a_broken_barrier(barrier):
    barrier.abort()
    barrier.reset()
    assert not barrier.broken
    barrier.reset()
    others = [Party(barrier.wait), Party(barrier.wait)]
    barrier.wait()
    assert {o.end() for o in others} < {0, 1, 2}


def test_the_exception_is_threadings_too_and_one_class():
    code = """
import sys
import syncx
assert "threading" not in sys.modules
one = syncx.BrokenBarrierError
import threading, syncx.errors, pickle
assert one is syncx.errors.BrokenBarrierError is syncx.BrokenBarrierError
assert issubclass(one, threading.BrokenBarrierError) and issubclass(one, syncx.SyncxError)
assert type(pickle.loads(pickle.dumps(one("x")))) is one
from syncx import *
assert BrokenBarrierError is one
try:
    syncx.BrokenBarrier
except AttributeError:
    print("good")
"""
    r = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(syncx.__file__))},
    )
    assert r.stdout == "good\n", r.stderr


# ---- enrolment ----------------------------------------------------------------------------------------------------


def test_an_enrolled_thread_has_a_number_of_its_own(barrier):
    with barrier.enroll() as same:
        assert same is barrier
        numbers = set()
        for _ in range(3):
            others = [Party(barrier.wait), Party(barrier.wait)]
            arrived(barrier, 2)
            numbers.add(barrier.wait())
            assert {o.end() for o in others} == {1, 2}
        assert numbers == {0}
    others = [Party(barrier.wait), Party(barrier.wait)]
    arrived(barrier, 2)
    assert barrier.wait() == 2
    for o in others:
        o.end()


def test_the_place_of_an_enrolled_thread_is_kept(arena):
    barrier = syncx.Barrier(2, arena=arena)
    barrier.enroll()
    first, second = Party(barrier.wait), None
    arrived(barrier, 1)
    second = Party(barrier.wait)  # no place for it in this round
    asleep(arena, 2)
    assert barrier.n_waiting == 1
    assert barrier.wait() == 0
    assert first.end() == 1
    arrived(barrier, 1)
    barrier.withdraw()
    assert barrier.wait() == 0
    assert second.end() == 1


def test_a_place_that_is_given_up_is_for_who_awaits_one(arena):
    barrier = syncx.Barrier(2, arena=arena)
    barrier.enroll()
    others = [Party(barrier.wait), Party(barrier.wait)]
    asleep(arena, 2)
    assert barrier.n_waiting == 1
    barrier.withdraw()
    assert {o.end() for o in others} == {0, 1}


def test_enrolment_of_all_parties(arena):
    barrier = syncx.Barrier(1, arena=arena)
    with barrier.enroll():
        with pytest.raises(RuntimeError, match="already"):
            barrier.enroll()
        for call in (barrier.wait, barrier.enroll):
            error = Party(call).end()
            assert isinstance(error, RuntimeError)
            assert "all 1 parties" in str(error)
        assert barrier.wait() == 0
    assert Party(barrier.wait).end() == 0


def test_withdraw_needs_an_enrolment(barrier):
    with pytest.raises(RuntimeError, match="not enrolled"):
        barrier.withdraw()
    with barrier.enroll():
        assert "not enrolled" in str(Party(barrier.withdraw).end())
        barrier.withdraw()
    with pytest.raises(RuntimeError, match="not enrolled"):
        barrier.withdraw()


def test_the_end_of_an_enrolled_thread_breaks_the_barrier(barrier):
    others = [Party(barrier.wait), Party(barrier.wait)]
    arrived(barrier, 2)
    Party(barrier.enroll).end()
    assert all(isinstance(o.end(), syncx.BrokenBarrierError) for o in others)
    assert barrier.broken
    barrier.reset()  # strikes it off
    others = [Party(barrier.wait), Party(barrier.wait)]
    arrived(barrier, 2)
    assert barrier.wait() == 2
    for o in others:
        o.end()


def test_who_comes_after_the_end_of_an_enrolled_thread_is_told(barrier):
    Party(barrier.enroll).end()
    until(lambda: barrier.broken, "the thread's slot is given back, a moment after its join")
    with pytest.raises(syncx.BrokenBarrierError, match="died"):
        barrier.wait()


def test_a_thread_that_withdrew_may_end(barrier):
    def come_and_go():
        with barrier.enroll():
            pass

    others = [Party(barrier.wait), Party(barrier.wait)]
    arrived(barrier, 2)
    Party(come_and_go).end()
    assert barrier.wait() == 2
    for o in others:
        o.end()


# ---- deaths ---------------------------------------------------------------------------------------------------------

WAIT = """
syncx._core._set_belt(False)
barrier = syncx.Barrier(name="b", arena=arena)
try:
    barrier.wait()
except syncx.BrokenBarrierError as e:
    say([time.monotonic(), str(e)])
"""

DOOMED = {
    "arrived": "syncx.Barrier(name='b', arena=arena).wait()",
    "enrolled": "syncx.Barrier(name='b', arena=arena).enroll(); say(); hear()",
    "acting": "syncx.Barrier(name='b', arena=arena, action=lambda: (say(), hear())).wait()",
}


@pytest.mark.death
@pytest.mark.parametrize("how", list(DOOMED))
@pytest.mark.parametrize("when", ["first", "last"])
def test_the_death_of_a_party_breaks_the_barrier_at_once(child, arena, how, when):
    """With the belt off: it is the kernel's mark that tells."""
    barrier = syncx.Barrier(4 if how != "acting" else 3, name="b", arena=arena)
    if how == "acting" and when == "first":
        pytest.skip("who acts is the last")

    def doomed():
        c = child(DOOMED[how])
        if how == "arrived":
            arrived(barrier, 1 if when == "first" else 3)
        else:
            c.hear()
        return c

    victim = doomed() if when == "first" else None
    others = [child(WAIT) for _ in range(2)]
    if victim is None:
        arrived(barrier, 2)
        victim = doomed()
    asleep(arena, 2 if how != "arrived" else 3)
    victim.kill()
    for c in others:
        late, text = c.hear()
        assert late - victim.killed < 5
        assert "reset" in text or "died" in text
        c.finish()
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken
    parties = [Party(barrier.wait) for _ in range(barrier.parties)]
    assert {p.end() for p in parties} == set(range(barrier.parties))


@pytest.mark.death
def test_a_death_after_the_round_is_nothing(child, arena):
    barrier = syncx.Barrier(2, name="b", arena=arena)
    c = child("b = syncx.Barrier(name='b', arena=arena); say(b.wait()); hear()")
    assert {barrier.wait(), c.hear()} == {0, 1}
    c.kill()
    assert not barrier.broken
    assert barrier.n_waiting == 0
    other = Party(barrier.wait)
    assert {barrier.wait(), other.end()} == {0, 1}


@pytest.mark.death
def test_many_deaths_at_once(child, arena):
    barrier = syncx.Barrier(6, name="b", arena=arena)
    other = child(WAIT)
    arrived(barrier, 1)
    victims = [child(DOOMED["arrived"]) for _ in range(4)]
    arrived(barrier, 5)
    for c in victims:
        os.kill(c.pid, signal.SIGKILL)
    other.hear()
    other.finish()


# ---- signals and forks ----------------------------------------------------------------------------------------------


def test_a_handler_that_raises_takes_the_arrival_back(child, arena):
    barrier = syncx.Barrier(2, name="b", arena=arena)
    c = child(
        """
        barrier = syncx.Barrier(name="b", arena=arena)
        def handler(*_):
            raise LookupError
        signal.signal(signal.SIGUSR1, handler)
        try:
            barrier.wait()
        except LookupError:
            say([barrier.n_waiting, barrier.broken])
        say(barrier.wait())
        """
    )
    arrived(barrier, 1)
    asleep(arena, 1)
    os.kill(c.pid, signal.SIGUSR1)
    assert c.hear() == [0, False]
    arrived(barrier, 1)
    assert barrier.wait() == 1
    assert c.hear() == 0
    c.finish()


def test_a_handler_that_does_not_raise_changes_nothing(child, arena):
    barrier = syncx.Barrier(2, name="b", arena=arena)
    c = child(
        """
        barrier = syncx.Barrier(name="b", arena=arena)
        signal.signal(signal.SIGUSR1, lambda *_: say(barrier.n_waiting))
        say(barrier.wait())
        """
    )
    arrived(barrier, 1)
    asleep(arena, 1)
    for _ in range(3):
        os.kill(c.pid, signal.SIGUSR1)
        assert c.hear() == 1
    assert barrier.wait() == 1
    assert c.hear() == 0
    c.finish()


def test_a_child_forked_inside_wait_arrives_anew(child, arena):
    barrier = syncx.Barrier(3, name="b", arena=arena)
    c = child(
        """
        barrier = syncx.Barrier(name="b", arena=arena)
        pid = None
        def handler(*_):
            global pid
            pid = os.fork()
        signal.signal(signal.SIGUSR1, handler)
        say(barrier.wait())
        if pid == 0:
            os._exit(0)
        say(wait_for(pid))
        """
    )
    arrived(barrier, 1)
    asleep(arena, 1)
    os.kill(c.pid, signal.SIGUSR1)
    arrived(barrier, 2)  # the child is a party of its own
    assert barrier.wait() == 2
    assert sorted([c.hear(), c.hear(), c.hear()]) == [0, 0, 1]
    c.finish()


def test_a_forked_child_is_not_enrolled(child, arena):
    c = child(
        """
        barrier = syncx.Barrier(2, arena=arena)
        with barrier.enroll():
            pid = os.fork()
            if pid == 0:
                try:
                    barrier.withdraw()
                except RuntimeError:
                    say("not enrolled")
        if pid == 0:
            os._exit(0)
        say([wait_for(pid), barrier.broken])
        """
    )
    assert c.hear() == "not enrolled"
    assert c.hear() == [0, False]
    c.finish()


# ---- opening, placement, pickling -----------------------------------------------------------------------------------


def test_parties_of_a_name(arena):
    barrier = syncx.Barrier(7, name="b", arena=arena)
    assert barrier.parties == syncx.Barrier(name="b", arena=arena).parties == 7
    assert syncx.Barrier(7, name="b", arena=arena, create=False).parties == 7
    with pytest.raises(ValueError, match=r"7.*8"):
        syncx.Barrier(8, name="b", arena=arena)
    with pytest.raises(ValueError, match="give parties"):
        syncx.Barrier(name="other", arena=arena)
    with pytest.raises(FileNotFoundError):
        syncx.Barrier(name="other", arena=arena, create=False)
    with pytest.raises(FileExistsError):
        syncx.Barrier(7, name="b", arena=arena, create="exclusive")
    with pytest.raises(ValueError, match="Barrier"):
        syncx.Mutex("b", arena=arena)


@pytest.mark.parametrize(
    ("parties", "error", "text"),
    [
        (0, ValueError, "from 1 to"),
        (-1, ValueError, "from 1 to"),
        (_core.MAX_PARTIES + 1, ValueError, "from 1 to"),
        (10**30, ValueError, "from 1 to"),
        ("b", TypeError, "name="),
        (2.0, TypeError, "int"),
        (True, TypeError, "int"),
        (None, TypeError, "int"),
    ],
)
def test_bad_parties(arena, parties, error, text):
    with pytest.raises(error, match=text):
        syncx.Barrier(parties, arena=arena)
    with pytest.raises(error, match=text):
        syncx.Barrier.size(parties)


def test_bad_arguments(arena):
    with pytest.raises(TypeError, match="parties"):
        syncx.Barrier(arena=arena)
    with pytest.raises(TypeError, match="callable"):
        syncx.Barrier(2, 5, arena=arena)
    for timeout, error in ((-2, ValueError), (float("nan"), ValueError), (1e18, OverflowError), ("1", TypeError)):
        with pytest.raises(error):
            syncx.Barrier(2, timeout=timeout, arena=arena)
        with pytest.raises(error):
            syncx.Barrier(2, arena=arena).wait(timeout)
    barrier = syncx.Barrier(2, arena=arena)
    with pytest.raises(TypeError):
        barrier.wait(1, 2)
    with pytest.raises(TypeError):
        barrier.wait(time=1)


def test_closed(barrier):
    assert "waiters=0/3" in repr(barrier)
    barrier.close()
    assert "closed" in repr(barrier)
    for use in ("wait", "enroll", "withdraw", "abort", "reset"):
        with pytest.raises(ValueError, match="closed"):
            getattr(barrier, use)()
    for look in ("parties", "n_waiting", "broken"):
        with pytest.raises(ValueError, match="closed"):
            getattr(barrier, look)


def test_not_closed_while_somebody_waits(barrier, arena):
    other = Party(barrier.wait)
    asleep(arena, 1)
    with pytest.raises(RuntimeError, match="in use"):
        barrier.close()
    barrier.abort()
    other.end()
    barrier.close()


def test_the_largest(arena):
    barrier = syncx.Barrier(syncx.Barrier.MAX_PARTIES, arena=arena)
    with barrier.enroll():
        assert barrier.n_waiting == 0
    with pytest.raises(syncx.BrokenBarrierError):
        barrier.wait(0)


def hello():
    """An action that can be pickled."""


def test_pickled_with_its_action_and_timeout(arena):
    barrier = syncx.Barrier(2, hello, 5.0, arena=arena)
    again = pickle.loads(pickle.dumps(barrier))
    assert (again.parties, again.action, again.timeout) == (2, hello, 5.0)
    other = Party(again.wait)
    assert {barrier.wait(), other.end()} == {0, 1}
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(syncx.Barrier(2, lambda: None, arena=arena))


def test_in_the_users_memory(arena, child):
    shm = SharedMemory(f"syncx-{os.geteuid()}-{os.environ['SYNCX_TEST_RUN']}-barrier", create=True, size=4096)
    try:
        with pytest.raises(ValueError, match="yet"):
            syncx.Barrier.at(shm.buf, arena=arena)
        barrier = syncx.Barrier.at(shm.buf, parties=2, arena=arena, timeout=PATIENCE)
        assert barrier.timeout == PATIENCE
        assert syncx.Barrier.size(2) % syncx.Barrier.ALIGNMENT == 0
        with pytest.raises(ValueError, match=r"2.*3"):
            syncx.Barrier.at(shm.buf, parties=3, arena=arena)
        with pytest.raises(ValueError, match="bytes"):
            syncx.Barrier.at(shm.buf, 2048, parties=1000, arena=arena)
        again = syncx.Barrier.at(shm.buf, arena=arena)
        c = child(
            """
            from support import _open_shared_memory
            shm = _open_shared_memory(segment)
            barrier = syncx.Barrier.at(shm.buf, arena=arena)
            say(barrier.wait())
            barrier.close()
            """,
            segment=shm.name,
        )
        assert {again.wait(), c.hear()} == {0, 1}
        c.finish()
        barrier.close()
        again.close()
    finally:
        shm.unlink()
        shm.close()


def test_unlinked_with_sleepers(arena):
    barrier = syncx.Barrier(3, name="b", arena=arena)
    others = [Party(barrier.wait), Party(barrier.wait)]
    asleep(arena, 2)
    with pytest.raises(syncx.InUse):
        arena.unlink("b")
    arena.unlink("b", force=True)
    assert all(isinstance(o.end(), syncx.Gone) for o in others)
    for use in (barrier.wait, barrier.enroll, barrier.abort, barrier.reset, barrier.withdraw):
        with pytest.raises(syncx.Gone):
            use()


def test_an_enrolment_keeps_the_name(arena):
    barrier = syncx.Barrier(3, name="b", arena=arena)
    with barrier.enroll(), pytest.raises(syncx.InUse):
        arena.unlink("b")
    arena.unlink("b")


def test_adopted_by_the_arena_that_follows(tmp_path):
    """Its arena is gone, and all its parties: the barrier is whole and empty."""
    memory = bytearray(4096)
    import mmap

    memory = mmap.mmap(-1, 4096)
    path = f"{os.environ['SYNCX_TEST_RUN']}-adopted"
    old = syncx.Arena(path)
    barrier = syncx.Barrier.at(memory, parties=3, arena=old)
    barrier.enroll()
    other = Party(barrier.wait)
    arrived(barrier, 1)
    asleep(old, 1)
    old.unlink(force=True)
    with syncx.Arena(path) as new:
        again = syncx.Barrier.at(memory, arena=new)
        assert isinstance(other.end(), syncx.Gone)
        with pytest.raises(syncx.Gone):
            barrier.wait()
        assert (again.n_waiting, again.broken) == (0, False)
        parties = [Party(again.wait) for _ in range(3)]
        assert {p.end() for p in parties} == {0, 1, 2}
        again.close()
        barrier.close()
        new.unlink(force=True)
    old.close()


def test_listed(arena):
    barrier = syncx.Barrier(3, name="b", arena=arena)
    other = Party(barrier.wait)
    asleep(arena, 1)
    with barrier.enroll():
        info = next(o for o in arena.objects() if o.name == "b")
        assert (info.kind, info.parameter, info.value) == ("Barrier", 3, 1)
        assert [h.pid for h in info.holders] == [os.getpid()]
        assert [w.pid for w in info.waiters] == [os.getpid()]
        assert not info.owner_died
    barrier.abort()
    other.end()


def test_there_is_one_class_of_broken_barriers(arena):
    """It is made when it is first asked for, and not anew for each error."""
    barrier = syncx.Barrier(2, arena=arena)
    barrier.abort()
    before = len(threading.BrokenBarrierError.__subclasses__())
    for _ in range(20):
        with pytest.raises(syncx.BrokenBarrierError) as e:
            barrier.wait()
        assert type(e.value) is syncx.BrokenBarrierError
    assert len(threading.BrokenBarrierError.__subclasses__()) <= max(1, before)
