"""The wait-for graph, on snapshots that are made up: each verdict has a twin that differs in one thing, and differs."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random

import pytest
from waitscenes import Scene, bytes_of

import syncx
from syncx.reduction import ANYBODY, Request, Supply, components, edges, reduce
from syncx.waitgraph import sentence


def ring(n, **last):
    """Each holds a mutex and wants the next one's; `last` is of the wait of the last one."""
    s = Scene()
    for i in range(n):
        s.hold(f"t{i}", f"m{i}")
    for i in range(n):
        s.wait(f"t{i}", f"m{(i + 1) % n}", **(last if i == n - 1 else {}))
    return s


# ---- mutexes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 8, 64, pytest.param(1000, marks=pytest.mark.core)])
def test_a_ring(n):
    s = ring(n)
    ((verdict, members),) = s.knots()
    assert verdict == "deadlock"
    assert members == [f"t{i}" for i in range(n)]  # in wait-for order
    assert set(s.verdicts().values()) == {"deadlock"}


@pytest.mark.parametrize("n", [2, 3, 8])
def test_a_ring_with_a_time_limit_resolves_itself(n):
    s = ring(n, remaining=3.25)
    assert set(s.verdicts().values()) == {"resolves"}
    ((_, members),) = s.knots()
    assert len(members) == n
    (knot,) = s.graph().knots
    assert knot.resolves_in == 3.25
    assert {b.resolves_in for b in s.graph().blocked} == {3.25}


def test_a_chain_to_somebody_who_runs():
    s = Scene()
    for i in range(3):
        s.hold(f"t{i}", f"m{i}")
    for i in range(2):
        s.wait(f"t{i}", f"m{i + 1}")
    assert s.verdicts() == {"t0": "runs", "t1": "runs"}
    assert s.knots() == []
    way = s.graph().chain(s.graph().blocked[0])
    assert [getattr(w, "participant", w).name for w in way] == ["t0", "t1", "t2"]


def test_a_dead_holder_makes_no_knot():
    s = Scene()
    s.thread("dead", alive=False)
    s.hold("dead", "a")
    s.wait("dead", "b")
    s.hold("t", "b")
    s.wait("t", "a")
    assert s.verdicts() == {"t": "runs"}
    assert s.graph().blocked[0].blockers == ()


@pytest.mark.parametrize("state", ["granted", "notified", "passing"])
def test_who_has_been_chosen_goes_on(state):
    assert ring(2, state=state).knots() == []


def test_a_victim_is_told():
    s = ring(2, state="victim")
    (knot,) = s.graph().knots
    assert (knot.verdict, knot.victim) == ("deadlock", s.threads["t1"])
    assert ring(2).graph().knots[0].victim is None


def test_who_holds_it_already_goes_on():
    s = ring(2)
    s.hold("t2", "m2")
    s.wait("t2", "m2")  # it has it, and has not said so yet
    assert s.verdicts()["t2"] == "runs"


def test_waits_for_itself():
    """A timed acquire of what a thread has itself, for which it wrote down itself as the holder."""
    s = Scene()
    s.hold("t", "m")
    s.wait("t", "m", holder=s.thread("t").id, remaining=2.0)
    assert s.knots() == [("resolves", ["t"])]
    s = Scene()
    s.hold("t", "m")
    s.wait("t", "m", holder=s.thread("t").id)
    assert s.knots() == [("deadlock", ["t"])]


def test_behind_a_knot():
    s = ring(2)
    s.hold("x", "mx")
    s.wait("x", "m0")
    s.wait("y", "mx")
    s.wait("z", "m1", remaining=1.0)
    s.wait("after z", "mz")
    s.hold("z", "mz")
    assert s.verdicts() == {
        "t0": "deadlock", "t1": "deadlock", "x": "behind", "y": "behind", "z": "behind", "after z": "runs",
    }  # fmt: skip
    assert [b.knot for b in s.graph().blocked] == [0, 0, 0, 0, 0, None]


def test_two_knots_at_once():
    s = ring(2)
    for name, has, wants in (("x", "mx", "my"), ("y", "my", "mx")):
        s.hold(name, has)
        s.wait(name, wants)
    assert sorted(s.knots()) == [("deadlock", ["t0", "t1"]), ("deadlock", ["x", "y"])]


def test_the_innermost_wait_counts():
    """A signal handler amid a wait waits for something else, whose holder runs."""
    s = ring(2)
    s.hold("runner", "other")
    s.wait("t1", "other", level=1)
    assert s.knots() == []
    assert s.verdicts() == {"t0": "runs", "t1": "runs"}


def test_a_retired_object_holds_nobody_up():
    s = Scene()
    s.object("m0", retired=True)
    s.hold("t0", "m0")
    s.hold("t1", "m1")
    s.wait("t0", "m1")
    s.wait("t1", "m0")
    assert s.knots() == []


@pytest.mark.parametrize("stable", [True, False])
def test_a_picture_that_was_changing_proves_nothing(stable):
    s = Scene()
    s.thread("t0", stable=stable)
    for name, has in (("t0", "a"), ("t1", "b")):
        s.hold(name, has)
    s.wait("t0", "b")
    s.wait("t1", "a")
    assert [verdict for verdict, _ in s.knots()] == ["deadlock" if stable else "suspected"]


# ---- permits ---------------------------------------------------------------------------------------------------------


def permits(stuck, capacity=2, units=1, flags=("scoped",)):
    """Of the holders of all permits so many want the mutex of a thread that wants a permit."""
    s = Scene()
    s.object("s", "BoundedSemaphore", parameter=capacity, value=0)
    s.hold("t", "m")
    for i in range(capacity):
        s.hold(f"h{i}", "s", flags=flags)
    for i in range(stuck):
        s.wait(f"h{i}", "m")
    s.wait("t", "s", units=units)
    return s


@pytest.mark.parametrize("capacity", [1, 2, 3])
def test_any_of_k_permits(capacity):
    assert set(permits(capacity, capacity).verdicts().values()) == {"deadlock"}
    assert set(permits(capacity - 1, capacity).verdicts().values()) == {"runs"}  # a cycle alone is no deadlock


def test_several_permits_at_once():
    assert set(permits(2, 3, units=1).verdicts().values()) == {"runs"}
    assert set(permits(2, 3, units=2).verdicts().values()) == {"deadlock"}
    assert set(permits(1, 3, units=2).verdicts().values()) == {"runs"}


@pytest.mark.parametrize("flag", ["tentative", "leaving"])
def test_permits_that_are_coming_back(flag):
    assert permits(1, 1, flags=("scoped", flag)).knots() == []


def test_own_permits_do_not_come():
    s = Scene()
    s.object("s", "BoundedSemaphore", parameter=3, value=0)
    for name in ("a", "b"):
        s.hold(name, "s", flags=("scoped",), units=1 if name == "a" else 2)
        s.wait(name, "s", units=3 if name == "a" else 4)
    assert [verdict for verdict, _ in s.knots()] == ["deadlock"]


def acquired(other):
    """A permit that was taken by acquire(): any thread of its process may give it back.  What does the other one do?"""
    s = Scene()
    s.object("s", "BoundedSemaphore", parameter=1, value=0)
    s.thread("a", "p")
    s.hold("a", "s", process="p")
    s.hold("t", "m")
    s.wait("a", "m")
    s.wait("t", "s")
    if other:
        s.thread("a2", "p")
    if other == "blocked":
        s.wait("a2", "m")
    return s


def test_a_permit_that_belongs_to_a_process():
    assert acquired(None).knots() == [("deadlock", ["a", "t"])]
    assert acquired("runs").knots() == [("suspected", ["a", "t"])]
    ((verdict, members),) = acquired("blocked").knots()
    assert (verdict, sorted(members)) == ("deadlock", ["a", "a2", "t"])


def test_a_permit_whose_thread_has_ended():
    s = Scene()
    s.object("s", "BoundedSemaphore", parameter=1, value=0)
    s.process("p")
    s.hold(None, "s", process="p")
    s.wait("t", "s")
    assert s.verdicts() == {"t": "runs"}
    assert s.graph().blocked[0].blockers == (s.processes["p"],)


# ---- readers and writers ---------------------------------------------------------------------------------------------


def test_a_writer_behind_readers_behind_a_writer():
    """The reader wants a mutex whose holder wants to read, behind the writer who waits for the reader."""
    s = Scene()
    s.object("rw", "RWLock")
    s.hold("reader", "rw", mode="shared")
    s.hold("writer", "rw", part="writer", flags=("entering",))
    s.wait("writer", "rw")
    s.hold("t", "m")
    s.wait("t", "rw", mode="shared")
    assert s.knots() == []
    s.wait("reader", "m")
    ((verdict, members),) = s.knots()
    assert (verdict, sorted(members)) == ("deadlock", ["reader", "t", "writer"])


def test_two_who_read_and_want_to_write():
    s = Scene()
    s.object("rw", "RWLock")
    s.hold("a", "rw", mode="shared")
    s.hold("b", "rw", mode="shared")
    s.hold("a", "rw", part="writer", mode="upgradable")
    s.wait("a", "rw", mode="upgradable")
    assert s.verdicts() == {"a": "runs"}
    s.wait("b", "rw", part="writer")
    assert sorted(s.knots()[0][1]) == ["a", "b"]


def test_a_reader_whose_writer_has_left_goes_on():
    s = Scene()
    s.object("rw", "RWLock")
    s.hold("w", "rw", part="writer")
    s.hold("w", "m")
    s.hold("r", "rw", mode="shared", flags=("pending",))
    s.wait("r", "rw", mode="shared")
    s.wait("w", "rw")
    assert s.knots() == []


def test_an_upgradable_reader_keeps_no_reader_out():
    s = Scene()
    s.object("rw", "RWLock")
    s.hold("u", "rw", part="writer", mode="upgradable")
    s.wait("r", "rw", mode="shared")
    s.hold("r", "m")
    s.wait("u", "m")
    assert s.knots() == []


# ---- file ranges -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("have", "want", "knot"),
    [
        (bytes_of(10, 19), bytes_of(15, 24), True),
        (bytes_of(10, 19), bytes_of(20, 24), False),
        (bytes_of(10, 19), bytes_of(0), True),
        (bytes_of(10, 19), bytes_of(15, 24, inode=8), False),
        (bytes_of(10, 19), bytes_of(15, 24, style="posix"), True),
        (bytes_of(10, 19), bytes_of(15, 24, style="flock"), False),
    ],
)
def test_a_mutex_and_a_range(have, want, knot):
    s = Scene()
    s.hold("a", have)
    s.wait("a", "m")
    s.hold("b", "m")
    s.wait("b", want)
    assert (s.knots() != []) == knot


@pytest.mark.parametrize("state", ["waiting", "behind", "trying"])
@pytest.mark.parametrize("mode", ["shared", "exclusive"])
def test_shared_ranges(mode, state):
    s = Scene()
    s.hold("a", bytes_of(0, 9), mode="shared")
    s.wait("a", "m")
    s.hold("b", "m")
    s.wait("b", bytes_of(0, 9), mode=mode, state=state)
    assert (s.knots() != []) == (mode == "exclusive")


def test_in_line_behind_another():
    s = ring(2)
    s.hold("h", bytes_of(0, 9))
    s.wait("first", bytes_of(0, 99))
    s.wait("second", bytes_of(50, 60), state="behind")
    assert (s.verdicts()["first"], s.verdicts()["second"]) == ("runs", "runs")
    second = s.graph().of(s.threads["second"])
    assert second.blockers == (s.threads["first"],)
    assert [getattr(w, "participant", w).name for w in s.graph().chain(second)] == ["second", "first", "h"]


# ---- barriers, joins, the inside of objects --------------------------------------------------------------------------


def barrier(*, enrolled=True, parties=2, stuck=True, **fields):
    s = Scene()
    s.object("b", "Barrier", parameter=parties, value=1)
    s.hold("there", "b", flags=("arrived",))
    s.hold("there", "m")
    s.wait("there", "b", **fields)
    if enrolled:
        s.hold("late", "b", flags=("enrolled",))
    if stuck:
        s.wait("late", "m")
    s.thread("runs")
    return s


def test_barriers():
    assert barrier().knots() == [("deadlock", ["there", "late"])]
    assert barrier(stuck=False).knots() == []
    assert barrier(enrolled=False).knots() == [("suspected", ["there", "late"])]
    assert barrier(parties=3).knots() == [("deadlock", ["there", "late"])]
    assert barrier(remaining=1.0).knots() == [("resolves", ["there", "late"])]


@pytest.mark.parametrize("limit", [None, 5.0])
def test_who_waits_at_a_barrier_with_a_time_limit_breaks_it_for_all(limit):
    s = barrier(parties=3)
    s.objects["b"] = s.objects["b"]._replace(value=2)
    s.hold("third", "b", flags=("arrived",))
    s.wait("third", "b", remaining=limit)
    verdict, members = s.knots()[0]
    assert (verdict, sorted(members)) == ("deadlock" if limit is None else "resolves", ["late", "there"])
    assert s.graph().knots[0].resolves_in == limit


@pytest.mark.parametrize(("value", "alive"), [(None, True), (0, True), (1, False)])
def test_a_barrier_that_is_over_or_broken(value, alive):
    s = Scene()
    s.thread("late", alive=alive)
    s.object("b", "Barrier", parameter=2, value=value)
    s.hold("there", "b", flags=("arrived",))
    s.hold("there", "m")
    s.hold("late", "b", flags=("enrolled",))
    s.wait("there", "b")
    s.wait("late", "m")
    assert [v for v, _ in s.knots()] == []


def joined(main_waits, second_waits=None):
    """A parent with a mutex waits for the end of a child that wants it."""
    s = Scene()
    s.hold("parent", "m")
    s.thread("main", "child")
    s.wait("parent", None, pid=s.processes["child"].pid)
    if main_waits:
        s.wait("main", "m")
    if second_waits is not None:
        s.thread("second", "child")
        if second_waits:
            s.wait("second", "m")
    return s


def test_the_end_of_a_process():
    assert joined(True).knots() == [("deadlock", ["parent", "main"])]
    assert joined(False).knots() == []
    assert sorted(joined(True, True).knots()[0][1]) == ["main", "parent", "second"]
    assert joined(True, False).knots() == [("suspected", ["parent", "main"])]  # the other one may end it
    assert joined(False, True).knots() == []


def test_the_end_of_a_process_that_has_no_part():
    s = Scene()
    s.wait("parent", None, pid=1)
    assert s.verdicts() == {"parent": "runs"}
    assert s.graph().blocked[0].blockers == ("unknown",)


INNER = {"Condition": "lock", "RWLock": "writer", "Once": "runner", "Barrier": "guard", "BoundedSemaphore": "several"}


@pytest.mark.parametrize(("kind", "part"), INNER.items())
def test_the_mutex_inside_an_object(kind, part):
    s = Scene()
    s.object("x", kind, value=0)
    s.hold("a", "x", part=part)
    s.wait("a", "m")
    s.hold("b", "m")
    s.wait("b", "x", part=part)
    assert s.knots() == [("deadlock", ["a", "b"])]


def test_the_lock_of_the_arena():
    s = Scene()
    s.thread("a")
    s.hold("a", "m")
    s.holds[-1] = s.holds[-1]._replace(object=None, kind="arena")
    s.wait("a", "n")
    s.hold("b", "n")
    s.wait("b", "m")
    s.waits[-1] = s.waits[-1]._replace(object=None, kind="arena")
    assert s.knots() == [("deadlock", ["a", "b"])]


@pytest.mark.parametrize(
    ("holder", "looked", "elsewhere", "verdict"),
    [
        ("a", 5000, False, "deadlock"),  # a has slept since before b looked
        ("a", 500, False, "suspected"),
        ("a", 5000, True, "suspected"),  # by another clock
        ("runs", 5000, False, None),
    ],
)
def test_in_memory_of_its_own(holder, looked, elsewhere, verdict):
    """Only a hint is known: who had it when the thread looked, and when that was."""
    s = Scene()
    s.thread("runs")
    s.hold("b", "m")
    s.wait("a", "m")
    s.wait("b", "n", holder=s.thread(holder).id, ticket=looked)
    s.waits[-1] = s.waits[-1]._replace(object=None)
    if elsewhere:
        s.processes["a"] = s.processes["a"]._replace(namespace=2)
    assert s.knots() == ([(verdict, ["a", "b"])] if verdict else [])


# ---- signals ---------------------------------------------------------------------------------------------------------

SIGNALS = ("Event", "Latch", "Condition", "Semaphore")


def signalled(kind, *, runs=True, second=True, **fields):
    """One holds a mutex and waits for a signal, another wants the mutex."""
    s = Scene()
    s.object("e", kind, value=1 if kind == "Latch" else 0)
    s.hold("a", "m")
    s.wait("a", "e", **fields)
    if second:
        s.wait("b", "m")
    if runs:
        s.thread("runs")
    return s


@pytest.mark.parametrize("kind", SIGNALS)
def test_signals(kind):
    assert signalled(kind).knots() == [("suspected", ["a", "b"])]
    assert signalled(kind).verdicts() == {"a": "suspected", "b": "suspected"}
    # all who could do it are in the knot
    assert signalled(kind, runs=False).knots() == [("deadlock", ["a", "b"])]
    # who keeps nobody waiting has nothing to do, as idle workers have
    assert signalled(kind, second=False).knots() == []
    assert signalled(kind, second=False).verdicts() == {"a": "runs"}
    assert signalled(kind, second=False).graph().blocked[0].blockers == ("unknown",)
    assert signalled(kind, runs=False, remaining=1.0).verdicts() == {"a": "runs", "b": "runs"}


@pytest.mark.parametrize("kind", ["Event", "Latch", "Semaphore"])
def test_a_signal_that_is_there(kind):
    s = signalled(kind)
    s.objects["e"] = s.objects["e"]._replace(value=0 if kind == "Latch" else 1)
    assert s.knots() == []


def test_all_wait_for_signals():
    s = Scene()
    for name in ("a", "b"):
        s.object(name, "Event", value=0)
    s.wait("x", "a")
    assert s.knots() == []  # alone
    s.wait("y", "b")
    assert s.knots() == [("deadlock", ["x", "y"])]
    s.process("no thread yet")
    assert s.knots() == []  # somebody may come


def test_signals_beside_a_knot():
    """Who waits for a signal is not made part of a deadlock of others, though nobody runs."""
    s = ring(2)
    s.object("e", "Event", value=0)
    s.wait("x", "e")
    s.wait("y", "e")
    assert s.knots() == [("deadlock", ["t0", "t1"])]


def test_two_suspected_knots_are_two():
    s = Scene()
    s.object("e", "Event", value=0)
    for i in range(2):
        s.hold(f"a{i}", f"m{i}")
        s.wait(f"a{i}", "e")
        s.wait(f"b{i}", f"m{i}")
    s.thread("runs")
    assert sorted(s.knots()) == [("suspected", ["a0", "b0"]), ("suspected", ["a1", "b1"])]


# ---- what comes out --------------------------------------------------------------------------------------------------


def test_json():
    s = ring(2)
    s.wait("x", "m0")
    plain = json.loads(s.graph().to_json())
    assert sorted(plain) == ["blocked", "foreign", "knots", "path", "problems", "taken"]
    assert [b["verdict"] for b in plain["blocked"]] == ["deadlock", "deadlock", "behind"]
    (knot,) = plain["knots"]
    assert knot["verdict"] == "deadlock"
    assert [m["thread"] for m in knot["members"]] == [b["thread"] for b in plain["blocked"][:2]]
    assert plain["blocked"][0]["blockers"] == [
        {"thread": plain["blocked"][1]["thread"], "pid": plain["blocked"][1]["pid"], "tid": plain["blocked"][1]["tid"]}
    ]


def test_in_words():
    s = ring(2)
    s.wait("x", "m0", remaining=2.0)
    text = str(s.graph())
    assert text.splitlines()[0] == "deadlock of 2 threads"
    assert "of another pid namespace" in text
    assert text.splitlines()[1].strip() == sentence(s.graph().knots[0].members[0], s.graph())
    assert text.splitlines()[3].startswith("  behind it: ")
    assert text.splitlines()[3].count("for 2 s more") == 1
    assert str(Scene().graph()) == "nobody waits"
    assert str(s.graph().blocked[0]).endswith("waits for Mutex 'm1'")


def test_it_never_changes():
    graph = ring(2).graph()
    for what, name in ((graph, "knots"), (graph.knots[0], "members"), (graph.blocked[0], "verdict")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(what, name, ())
    with pytest.raises(TypeError):
        graph.states[1] = "R"


def test_an_arena_of_nobody(arena):
    for source in (arena, arena.path, syncx.snapshot(arena)):
        graph = syncx.wait_graph(source)
        assert (graph.blocked, graph.knots, graph.foreign) == ((), (), ())


def test_wrong_sources(tmp_path):
    with pytest.raises(FileNotFoundError):
        syncx.wait_graph(str(tmp_path / "none"))
    with pytest.raises(TypeError):
        syncx.wait_graph(7)
    path = tmp_path / "no arena"
    path.write_bytes(bytes(8192))
    with pytest.raises(syncx.ArenaError):
        syncx.wait_graph(str(path))


# ---- the reduction against all orders of events ----------------------------------------------------------------------


def can_all_orders_free(who, requests, running):
    """Is there an order of events after which the thread goes on?  By trying them all, one step at a time."""
    seen, todo = set(), [frozenset()]
    while todo:
        free = todo.pop()
        if free in seen:
            continue
        seen.add(free)
        for w, r in requests.items():
            if w in free:
                continue
            come = sum(
                s.units
                for s in r.supplies
                if any((running or free) if x == ANYBODY else x in free or x not in requests for x in s.sources)
            )
            if r.free + come >= r.need:
                if w == who:
                    return True
                todo.append(free | {w})
    return False


def some_requests(random):
    threads = range(1, random.randint(3, 7))
    found = {}
    for t in threads:
        if random.random() < 0.8:
            supplies = []
            for _ in range(random.randint(0, 3)):
                sources = random.sample([*threads, ANYBODY], random.randint(1, 2))
                supplies.append(Supply(random.randint(1, 2), tuple(sources)))
            found[t] = Request(random.randint(0, 4), random.randint(0, 1), tuple(supplies))
    return found


def differs(reduction, rounds=400):
    """In how many cases that says otherwise than all orders of events."""
    rng = random.Random(20_261_121)
    count = 0
    for _ in range(rounds):
        requests, running = some_requests(rng), rng.random() < 0.5
        truth = {t for t in requests if not can_all_orders_free(t, requests, running)}
        count += reduction(requests, running) != truth
    return count


def test_the_reduction_is_exact():
    assert differs(reduce) == 0


def test_twins_of_the_reduction_are_found_out():
    def cycles(requests, running):  # a cycle is taken for a deadlock
        return {m for c in components(edges(requests, set(requests))) for m in c if m != ANYBODY}

    def impatient(requests, running):  # stops after those who need nobody
        return {w for w, r in requests.items() if r.free < r.need}

    def generous(requests, running):  # one unit is enough
        plain = {w: r._replace(need=min(r.need, r.free + 1)) for w, r in requests.items()}
        return reduce(plain, running)

    for twin in (cycles, impatient, generous):
        assert differs(twin, 100) > 0


def test_components_against_reachability():
    rng = random.Random(7)
    for _ in range(200):
        n = rng.randint(1, 8)
        graph = {i: [j for j in range(n) if rng.random() < 0.25] for i in range(n)}
        reach = {i: {i} for i in graph}
        for _ in range(n):
            for i, j in itertools.product(graph, graph):
                if any(j in graph[k] for k in reach[i]):
                    reach[i].add(j)
        want = {frozenset(j for j in reach[i] if i in reach[j]) for i in graph}
        want = {c for c in want if len(c) > 1 or next(iter(c)) in graph[next(iter(c))]}
        assert {frozenset(c) for c in components(graph)} == want
