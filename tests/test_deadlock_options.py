"""deadlock= and priority=: who is told of a deadlock, and how; between processes, on every kind of lock."""

from __future__ import annotations

import itertools
import os
import pickle
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE, Child, until, until_waiting

import syncx

MEMBER = """
import logging, mmap

class Tells(logging.Handler):
    def emit(self, record):
        if record.levelno >= logging.ERROR:
            logs.append(record.getMessage())
            say(["log", record.levelname, record.getMessage()])

class GaveWay(Exception):
    "Raised by a signal handler: the wait is over."

def give_way(*_):
    raise GaveWay

def update(path, **options):
    with syncx.update(path, arena=arena, **options) as f:
        f.write("new")

def within(x, **options):
    return (x.within(None, **options) if options else x).__enter__() is x

def memory(path):
    with open(path, "w+b") as f:
        f.truncate(4096)
        return mmap.mmap(f.fileno(), 4096)

def opened(path):
    with open(path, "r+b") as f:
        return mmap.mmap(f.fileno(), 4096)

logs = []
logging.getLogger("syncx").addHandler(Tells())
logging.getLogger("syncx").propagate = False
signal.signal(signal.SIGUSR1, give_way)
signal.signal(signal.SIGHUP, lambda *_: say("looks again"))
say("ready")
while True:
    try:
        code = hear()
    except EOFError:
        break
    try:
        try:
            value = eval(compile(code, "<test>", "eval"))
        except SyntaxError:
            exec(compile(code, "<test>", "exec"))
            value = None
        say(["value", value if isinstance(value, (bool, int, str, list)) else None])
    except Exception as e:
        say(["raised", type(e).__name__, str(e)])
"""


class Member:
    """A process that does as it is told, one line of Python after the other."""

    def __init__(self, child: Callable[..., Child], **names: Any) -> None:
        self.child = child(MEMBER, **names)
        self.pid = self.child.pid
        assert self.child.hear() == "ready"

    def start(self, code: str) -> None:
        """Something that waits."""
        self.child.say(code)

    def does(self, code: str) -> Any:
        self.start(code)
        return self.gets()

    def gets(self) -> Any:
        """What came of it."""
        answer = self.child.hear()
        assert answer[0] == "value", answer
        return answer[1]

    def is_told(self) -> str:
        """That it was chosen to end a deadlock."""
        answer = self.child.hear()
        assert answer[:2] == ["raised", "DeadlockError"], answer
        return str(answer[2])

    def reports(self) -> str:
        answer = self.child.hear()
        assert answer[:2] == ["log", "ERROR"], answer
        return str(answer[2])

    def looks(self, times: int = 3) -> None:
        """It waits still, and looks again, as often but for one; whatever else it said would come first."""
        for _ in range(times):
            os.kill(self.pid, signal.SIGHUP)
            answer = self.child.hear()
            assert answer == "looks again", answer

    def gives_way(self) -> None:
        os.kill(self.pid, signal.SIGUSR1)
        answer = self.child.hear()
        assert answer[:2] == ["raised", "GaveWay"], answer


@pytest.fixture
def member(child: Callable[..., Child]) -> Callable[..., Member]:
    return lambda **names: Member(child, **names)


# ---- every value, on every kind ------------------------------------------------------------------------------------

# of each: how the other one makes it, takes it and gives it back, and how we do; {o} are options of the object, {c} of
# the call
RW, RANGE = "x = syncx.RWLock('x{n}', arena=arena{o})", "x = syncx.RangeLock(path, 10, 10, arena=arena{o})"
SHARED = "x = syncx.RangeLock(path, 10, 10, shared=True, arena=arena{o})"
FILE, TAKE, GIVE = "x = syncx.FileLock(path, arena=arena{o})", "x.acquire({c})", "x.release()"
KINDS = {
    "Mutex": (m := "x = syncx.Mutex('x{n}', arena=arena{o})", TAKE, GIVE, m, TAKE, GIVE),
    "RLock": (m := "x = syncx.RLock('x{n}', arena=arena{o})", TAKE, GIVE, m, TAKE, GIVE),
    "in memory": (
        "x = syncx.Mutex.at(memory(path), arena=arena)", TAKE, GIVE,
        "x = syncx.Mutex.at(opened(path), arena=arena{o})", TAKE, GIVE,
    ),
    "BoundedSemaphore": (m := "x = syncx.BoundedSemaphore(2, name='x{n}', arena=arena{o})",
                         "x.acquire(n=2)", "x.release(2)", m, "x.acquire(n=2, {c})", "x.release(2)"),
    "Condition": (m := "x = syncx.Condition(name='x{n}', arena=arena{o})", TAKE, GIVE, m, TAKE, GIVE),
    "within": (m := "x = syncx.Mutex('x{n}', arena=arena{o})", TAKE, GIVE, m, "within(x, {c})", GIVE),
    "read": (RW, "x.write().acquire()", "x.write().release()",
             RW, "x.read({c}).__enter__() is x.read()", "x.read().release()"),
    "write": (RW, "x.read().acquire()", "x.read().release()", RW, "x.write().acquire({c})", "x.write().release()"),
    "upgrade": (RW, "x.read().acquire()", "x.read().release()",
                RW + "; x.upgradable().acquire()", "x.upgradable().upgrade({c})", "x.upgradable().release()"),
    "Once": ("x = syncx.Once('x{n}', arena=arena)", "", "",
             "x = syncx.Once('x{n}', arena=arena{o})", "x.run(bool)", ""),
    "RangeLock": (RANGE, TAKE, GIVE, RANGE, TAKE, GIVE),
    "FileLock": (FILE, TAKE, GIVE, FILE, TAKE, GIVE),
    "RecordLocks": (m := "x = syncx.RecordLocks(path, 8, arena=arena{o})[3]", TAKE, GIVE, m, TAKE, GIVE),
    "lock_range": (RANGE, TAKE, GIVE, "x = syncx.RangeLock(path, 50, 10, arena=arena{o}); x.acquire()",
                   "x.lock_range(10, 10, {c})", GIVE),
    "upgrade of a range": (SHARED, TAKE, GIVE, SHARED + "; x.acquire()", "x.upgrade({c})", GIVE),
    "append": (FILE, TAKE, GIVE, FILE, "x.append(b'line', {c}) == 0", ""),
    "update": (FILE, TAKE, GIVE, "path = path", "update(path, {c}) is None", ""),
}  # fmt: skip
GROUPS = [
    ("Mutex", "RLock", "Condition", "within", "in memory", "BoundedSemaphore"),
    ("read", "write", "upgrade", "Once"),
    ("RangeLock", "FileLock", "RecordLocks", "lock_range", "upgrade of a range", "append", "update"),
]
OBJECT_ONLY, CALL_ONLY = ("Once",), ("update",)
rounds = itertools.count(1)


def knot(kind: str, other: Member, we: Member, arena: syncx.Arena, tmp_path: Path, o: str, c: str) -> tuple[str, str]:
    """The other one has what we want, and waits for what we have, but is never told.  We are about to want it: returns
    how, and how it is given back; and the other's way of giving back is left in `other.gives`."""
    n = next(rounds)
    make, take, give, our_make, our_take, our_give = KINDS[kind]
    path = str(tmp_path / f"file {n}")
    for who, text, options in ((other, make, ""), (we, our_make, o)):
        if who is other or kind != "in memory":
            who.does(f"path = {path!r}; m = syncx.Mutex('m{n}', arena=arena); " + text.format(n=n, o=options, c=""))
        else:
            who.does(f"path = {path!r}; m = syncx.Mutex('m{n}', arena=arena); " + text.format(n=n, o=options))
    we.does("logs.clear(); m.acquire()")
    if kind == "Once":
        other.start("x.run(lambda: m.acquire(deadlock='off'))")
    else:
        assert other.does(take.format(c=""))
        other.start("m.acquire(deadlock='off')")
    until_waiting(arena, 1)
    other.gives = give  # type: ignore[attr-defined]
    return our_take.format(c=c), our_give


def give_back(who: Member, how: str) -> None:
    if how:
        who.does(how)


@pytest.mark.parametrize("group", GROUPS, ids=" ".join)
def test_raise_report_and_off(group: tuple[str, ...], member: Any, arena: syncx.Arena, tmp_path: Path) -> None:
    we, other = member(), member()
    for kind in group:
        raise_report_and_off(kind, we, other, arena, tmp_path)


def test_every_kind_is_in_a_group() -> None:
    assert sorted(KINDS) == sorted(kind for group in GROUPS for kind in group)


def raise_report_and_off(kind: str, we: Member, other: Member, arena: syncx.Arena, tmp_path: Path) -> None:
    ways = [("", "")] if kind in OBJECT_ONLY + CALL_ONLY else [(", deadlock='off'", "deadlock='raise'")]
    for o, c in ways:
        take, give = knot(kind, other, we, arena, tmp_path, o, c)
        we.start(take)
        text = we.is_told()
        assert "deadlock of 2 threads" in text, text
        assert f"process {other.pid}" in text, text
        assert we.does("m._is_owned()"), "it has lost nothing"
        we.does("m.release()")
        assert other.gets()
        other.does("m.release()")
        give_back(other, other.gives)
        assert we.does(take) in (True, 0), "and has not got what it wanted"
        give_back(we, give)

    options = ("deadlock='report'", "deadlock='off'")
    ways = [(f", {x}", "") for x in options if kind not in CALL_ONLY]
    ways += [("", x) for x in options if kind not in OBJECT_ONLY]
    for o, c in ways if kind in ("Mutex", *OBJECT_ONLY, *CALL_ONLY) else ways[:1] + ways[-1:]:
        take, give = knot(kind, other, we, arena, tmp_path, o, c)
        we.start(take)
        if "report" in o + c:
            text = we.reports()
            for part in ("deadlock of 2 threads", f"process {other.pid}", "tells of it and waits on"):
                assert part in text, text
        until_waiting(arena, 2)
        we.looks()
        other.looks()
        other.gives_way()
        give_back(other, other.gives)
        assert we.gets() in (True, False), "the wait went on"
        assert we.does("len(logs)") == ("report" in o + c)
        give_back(we, give)
        we.does("m.release()")


@pytest.mark.parametrize("option", ["report", "off"])
def test_a_twin_that_ignores_the_option_is_found_out(
    option: str, member: Any, arena: syncx.Arena, tmp_path: Path
) -> None:
    we, other = member(), member()
    take, _ = knot("Mutex", other, we, arena, tmp_path, "", "")
    we.start(take)
    with pytest.raises(AssertionError, match="DeadlockError"):
        we.reports() if option == "report" else until(lambda: we.looks(1), "it is told")


# ---- who is told ----------------------------------------------------------------------------------------------------


def ring(
    members: list[Member],
    order: tuple[int, ...],
    options: list[str],
    arena: syncx.Arena,
    acquire: str = "next.acquire",
) -> int:
    """Each holds one and wants the next one's, in that order, with those options; returns who is told, after all is
    over."""
    n = next(rounds)
    for i, m in enumerate(members):
        m.does(f"mine = syncx.Mutex('r{n}.{i}', arena=arena); mine.acquire()")
        m.does(f"next = syncx.Mutex('r{n}.{(i + 1) % len(members)}', arena=arena)")
    for at, i in enumerate(order):
        members[i].start(f"{acquire}({options[i]})")
        if at < len(order) - 1:
            until_waiting(arena, at + 1)
    victim = members.index(first_to_speak(members))
    members[victim].is_told()
    members[victim].does("mine.release()")
    for step in range(1, len(members)):  # each gets what the one before it gave back: nobody else was told
        m = members[(victim - step) % len(members)]
        assert m.gets()
        m.does("next.release(); mine.release()")
    return victim


def first_to_speak(members: list[Member]) -> Member:
    pipes = {m.child.process.stdout: m for m in members}
    ready = select.select(list(pipes), [], [], PATIENCE)[0]
    assert len(ready) == 1, f"{len(ready)} spoke"
    return pipes[ready[0]]


@pytest.mark.parametrize("size", [2, 3])
def test_the_lowest_priority_is_told_whatever_the_order(size: int, member: Any, arena: syncx.Arena) -> None:
    members = [member() for _ in range(size)]
    for order in itertools.permutations(range(size)):
        for low in range(size):
            options = [f"priority={-100 if i == low else i * 50}" for i in range(size)]
            assert ring(members, order, options, arena) == low, (order, low)
        assert ring(members, order, ["priority=7"] * size, arena) == order[-1], "of equals the latest"


def test_a_twin_that_ignores_priorities_is_found_out(member: Any, arena: syncx.Arena) -> None:
    members = [member(), member()]
    assert ring(members, (0, 1), ["", ""], arena) != 0


def test_the_priority_is_the_object_s_or_the_call_s(member: Any, arena: syncx.Arena) -> None:
    members = [member(), member()]
    n = next(rounds) + 1
    for m, i in zip(members, (0, 1), strict=True):
        m.does(f"kept = [syncx.Mutex('r{n}.{1 - i}', arena=arena, priority={5 - 10 * i})]")
    # ring() makes handles of its own: these are for the waits
    assert ring(members, (1, 0), ["", ""], arena, "kept[0].acquire") == 1
    members[0].does(f"kept = [syncx.Mutex('r{n + 1}.1', arena=arena, priority=5)]")
    members[1].does(f"kept = [syncx.Mutex('r{n + 1}.0', arena=arena, priority=-5)]")
    assert ring(members, (1, 0), ["priority=-6", ""], arena, "kept[0].acquire") == 0


def test_who_is_off_is_a_member_for_others(member: Any, arena: syncx.Arena) -> None:
    members = [member(), member()]
    for order in ((0, 1), (1, 0)):
        assert ring(members, order, ["deadlock='off', priority=-9", ""], arena) == 1


@pytest.mark.death
def test_of_two_that_report_one_does(member: Any, arena: syncx.Arena) -> None:
    one, other = member(), member()
    take, _ = knot("Mutex", other, one, arena, Path(), ", deadlock='report'", "")
    other.gives_way()
    other.start("m.acquire(deadlock='report')")
    until_waiting(arena, 1)
    one.start(take)
    assert "deadlock of 2 threads" in one.reports()
    one.looks()
    other.looks()
    one.child.kill()
    assert other.gets()


def test_nobody_else_is_told_of_what_was_reported_but_who_comes_later_is(member: Any, arena: syncx.Arena) -> None:
    writer, reader, late = member(), member(), member()
    for m in (writer, reader, late):
        m.does("rw = syncx.RWLock('rw', arena=arena); m = syncx.Mutex('m', arena=arena)")
    writer.does("m.acquire()")
    reader.does("rw.read().acquire()")
    late.does("rw.read().acquire()")
    reader.start("m.acquire()")
    until_waiting(arena, 1)
    writer.start("rw.write().acquire(deadlock='report', priority=-50)")
    text = writer.reports()
    assert "deadlock of 2 threads" in text, text
    assert f"process {reader.pid}" in text, text
    writer.looks()
    reader.looks()
    late.start("m.acquire(priority=50)")
    assert "deadlock of 3 threads" in late.is_told()
    late.does("rw.read().release()")
    writer.looks()
    reader.looks()
    reader.gives_way()
    reader.does("rw.read().release()")
    assert writer.gets()
    assert writer.does("len(logs)") == 1


@pytest.mark.death
def test_a_victim_that_is_killed_before_it_runs(member: Any, arena: syncx.Arena) -> None:
    victim, other = member(), member()
    take, _ = knot("Mutex", victim, other, arena, Path(), "", "")
    victim.gives_way()
    victim.start("m.acquire(priority=-1)")
    until_waiting(arena, 1)
    victim.child.process.send_signal(signal.SIGSTOP)
    stat = Path(f"/proc/{victim.pid}/stat")
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it is stopped")
    other.start(take)
    until(lambda: "victim" in [w.state for w in syncx.snapshot(arena).waits], "it is chosen")
    other.looks()
    victim.child.kill()
    assert other.gets()


@pytest.mark.death
def test_a_join_that_reports(member: Any, arena: syncx.Arena) -> None:
    we, other = member(), member()
    knot("Mutex", other, we, arena, Path(), "", "")
    we.start(f"syncx.join({other.pid}, arena=arena, deadlock='off')")
    until_waiting(arena, 2)
    other.looks()
    we.looks()
    we.gives_way()
    we.start(f"syncx.join({other.pid}, arena=arena, deadlock='report')")
    assert f"the end of process {other.pid}" in we.reports()
    we.looks()
    other.child.kill()
    assert we.gets() is True
    assert we.does("len(logs)") == 1


def test_a_barrier_that_reports(member: Any, arena: syncx.Arena) -> None:
    we, other = member(), member()
    for m, option in ((we, ", deadlock='report'"), (other, "")):
        m.does(f"b = syncx.Barrier(2, name='b', arena=arena{option}); b.enroll()")
    knot("Mutex", other, we, arena, Path(), "", "")
    we.start("b.wait()")
    assert "deadlock of 2 threads" in we.reports()
    we.looks()
    other.gives_way()
    assert other.does("b.wait()") in (0, 1)
    assert we.gets() in (0, 1)
    assert we.does("len(logs)") == 1


# ---- what never changes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["report", "off"])
def test_who_waits_for_himself_is_told_all_the_same(option: Any, arena: syncx.Arena, tmp_path: Path) -> None:
    mutex = syncx.Mutex(arena=arena, deadlock=option)
    lock = syncx.FileLock(tmp_path / "f", arena=arena, deadlock=option)
    rw = syncx.RWLock(arena=arena, deadlock=option)
    for x in (mutex, lock, rw.write()):
        with x, pytest.raises(syncx.DeadlockError) as e:
            x.acquire()
        assert not e.value.cycle


def test_to_get_the_lock_again_after_a_condition_s_wait_is_not_given_up(member: Any, arena: syncx.Arena) -> None:
    waiter, other = member(), member()
    for m in (waiter, other):
        m.does("c = syncx.Condition(name='c', arena=arena); m = syncx.Mutex('m', arena=arena)")
    waiter.does("m.acquire(); c.acquire()")
    waiter.start("c.wait()")
    until(lambda: other.does("c._waiters()") == 1, "it waits")
    other.does("c.acquire(); c.notify()")
    other.start("m.acquire(priority=100)")
    assert "deadlock of 2 threads" in other.is_told()
    other.does("c.release()")
    assert waiter.gets()


def test_the_default_of_a_process(member: Any, arena: syncx.Arena) -> None:
    we, other = member(env={"SYNCX_DEADLOCK": "report"}), member()
    assert we.does("syncx.Mutex('x', arena=arena).deadlock") == we.does("syncx.deadlock_default()") == "report"
    take, give = knot("Mutex", other, we, arena, Path(), "", "")
    we.start(take)
    we.reports()
    other.gives_way()
    other.does(other.gives)  # type: ignore[attr-defined]
    assert we.gets()
    give_back(we, give)
    we.does("m.release(); syncx.set_deadlock_default('raise')")
    take, _ = knot("Mutex", other, we, arena, Path(), "", "")
    we.start(take)
    we.is_told()


def test_a_default_that_is_none(child: Callable[..., Child]) -> None:
    c = child("say([syncx.deadlock_default()])", env={"SYNCX_DEADLOCK": "loud"})
    assert c.hear() == ["raise"]
    c.finish()
    assert "SYNCX_DEADLOCK must be raise, report or off, not 'loud'" in c.stderr()


# ---- the options themselves ----------------------------------------------------------------------------------------


def all_kinds(arena: syncx.Arena, directory: Path, **options: Any) -> list[Any]:
    kept = [
        cls(arena=arena, **options)
        for cls in (syncx.Mutex, syncx.RLock, syncx.RWLock, syncx.Condition, syncx.BinarySemaphore, syncx.Once)
    ]
    kept += [syncx.BoundedSemaphore(2, arena=arena, **options), syncx.Semaphore(2, robust=True, arena=arena, **options)]
    kept += [syncx.Barrier(2, arena=arena, **options)]
    kept += [syncx.RangeLock(directory / "f", 5, arena=arena, **options)]
    return [*kept, syncx.FileLock(directory / "f", arena=arena, **options)]


def test_attributes_repr_and_pickle(arena: syncx.Arena, tmp_path: Path) -> None:
    for x in all_kinds(arena, tmp_path):
        assert (x.deadlock, x.priority) == ("raise", 0)
        assert not any(option in repr(x) for option in ("deadlock", "priority"))
    for x in all_kinds(arena, tmp_path, deadlock="report", priority=-7):
        again = pickle.loads(pickle.dumps(x))
        for y in (x, again):
            assert (y.deadlock, y.priority) == ("report", -7)
            assert repr(y).endswith(", deadlock='report', priority=-7>")
    rw = syncx.RWLock(arena=arena, deadlock="off", priority=3)
    for view in (rw.read(), rw.write(), rw.upgradable()):
        assert (view.deadlock, view.priority) == ("off", 3)
    records = syncx.RecordLocks(tmp_path / "f", 8, arena=arena, deadlock="off", priority=3)
    for r in (records, pickle.loads(pickle.dumps(records))):
        assert (r[2].deadlock, r[2].priority) == ("off", 3)
        assert "deadlock='off', priority=3" in repr(r)
    c = syncx.Condition(m := syncx.Mutex(arena=arena, deadlock="off"))
    assert (c.deadlock, c.lock) == ("off", m)


def test_an_object_s_raise_where_the_process_has_another_default(arena: syncx.Arena) -> None:
    x, y = syncx.Mutex(arena=arena), syncx.Mutex(arena=arena, deadlock="raise")
    syncx.set_deadlock_default("off")
    try:
        assert (x.deadlock, y.deadlock) == ("off", "raise")
        assert "deadlock" not in repr(x)
        assert repr(y).endswith(", deadlock='raise'>")
    finally:
        syncx.set_deadlock_default("raise")


WRONG = [
    ("deadlock", "loud", ValueError, 'must be "raise".*, "report".* or "off".*, not \'loud\''),
    ("deadlock", True, TypeError, "must be .*, not bool"),
    ("priority", 101, ValueError, "priority must be from -100 to 100, not 101"),
    ("priority", -(10**30), ValueError, "priority must be from -100 to 100"),
    ("priority", "high", TypeError, "priority must be an int from -100 to 100, not str"),
    ("priority", True, TypeError, "not bool"),
    ("priority", 1.0, TypeError, "not float"),
]


@pytest.mark.parametrize(("name", "value", "error", "match"), WRONG, ids=lambda x: str(x)[:12])
def test_what_is_none_is_refused(
    name: str, value: Any, error: Any, match: str, arena: syncx.Arena, tmp_path: Path
) -> None:
    wrong = {name: value}
    m, rw = syncx.Mutex(arena=arena), syncx.RWLock(arena=arena)
    f = syncx.RangeLock(tmp_path / "f", 1, 5, arena=arena)
    u, shared = rw.upgradable(), syncx.RangeLock(tmp_path / "g", shared=True, arena=arena)
    u.acquire()
    shared.acquire()
    f.acquire()
    calls: list[Callable[[], Any]] = [
        lambda: all_kinds(arena, tmp_path, **wrong),
        lambda: syncx.BoundedSemaphore(arena=arena, **wrong),
        lambda: syncx.RWLock(arena=arena, **wrong),
        lambda: syncx.Once(arena=arena, **wrong),
        lambda: syncx.Barrier(1, arena=arena, **wrong),
        lambda: syncx.FileLock(tmp_path / "f", arena=arena, **wrong),
        lambda: syncx.RecordLocks(tmp_path / "f", 5, arena=arena, **wrong),
        lambda: syncx.update(tmp_path / "f", arena=arena, **wrong),
        lambda: m.acquire(**wrong),
        lambda: m.acquire(False, **wrong),
        lambda: m.recover(**wrong),
        lambda: m.within(1, **wrong).__enter__(),
        lambda: syncx.BoundedSemaphore(1, arena=arena).acquire(**wrong),
        lambda: syncx.Condition(arena=arena).acquire(**wrong),
        lambda: rw.read().acquire(**wrong),
        lambda: rw.read(**wrong).__enter__(),
        lambda: rw.write(1, **wrong).__enter__(),
        lambda: u.upgrade(**wrong),
        lambda: f.lock_range(9, 9, **wrong),
        lambda: shared.upgrade(**wrong),
        lambda: syncx.join(os.getppid(), **wrong),
    ]
    for call in calls:
        with pytest.raises(error, match=match):
            call()
    for lock in (u, shared, f):
        lock.release()
    assert not m.locked()
    if name == "deadlock":
        with pytest.raises(error, match=match.replace("deadlock", "default")):
            syncx.set_deadlock_default(value)
    with pytest.raises(TypeError):
        syncx.Semaphore(1, arena=arena).acquire(**wrong)  # nobody holds its units
    with pytest.raises(ValueError, match="are the lock's"):
        syncx.Condition(m, deadlock="off")
    with pytest.raises(TypeError, match="number of seconds"):
        m.within(None)
