"""The classic deadlocks, as data: who holds what, who wants what, and in which order (see knots.py).

A scene is a list of members.  Each takes what it holds; when all have, each asks for what it wants.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import syncx

Body = Callable[[], Any]
Inside = Callable[[Body], Any]
"""Calls a function inside of something: with a lock taken, or as what an Once runs."""


@dataclass(frozen=True)
class Part:
    """What a member holds or wants."""

    kind: str
    """As `.cycle` names it."""
    name: str | None
    inside: Inside
    refused: Callable[[], bool] | None = None
    """Asks for it without waiting: does somebody hold it?  None: that cannot be asked from outside."""


@dataclass(frozen=True)
class Member:
    holds: Part
    wants: Part
    essential: bool = True
    """False: there is a deadlock without it as well, so it cannot be the one that dissolves it by being alive."""


@dataclass(frozen=True)
class Scene:
    members: list[Member]
    knots: list[set[int]]
    """Who is in which deadlock."""
    order: list[list[int]] = field(default_factory=list)
    """Who asks when: those of a list at once, each list when all before wait.  Empty: all at once."""
    processes: list[list[int]] = field(default_factory=list)
    """Which members are threads of one process.  Empty: each has a process of its own."""
    ring: bool = False
    """Each holds what the one before it wants, so `.cycle` has them in that order."""
    instant: bool = False
    """All who ask at once spin until a word in their common memory changes."""
    without: bool = False
    """It is found without the detector too."""
    namespaces: frozenset[int] = frozenset()
    """Who lives in another pid namespace."""


@dataclass
class Place:
    """What differs from one repetition to the next."""

    file: str
    """An empty file for file locks."""
    number: int = 0


def _within(lock: Any) -> Inside:
    def inside(body: Body) -> Any:
        with lock():
            return body()

    return inside


def _taken(acquire: Callable[[], Any], release: Callable[[], Any]) -> Inside:
    def inside(body: Body) -> Any:
        assert acquire()
        try:
            return body()
        finally:
            release()

    return inside


def _refused(lock: Callable[[], Any]) -> Callable[[], bool]:
    def refused() -> bool:
        mine = lock()
        if not mine.acquire(blocking=False):
            return True
        mine.release()
        return False

    return refused


def mutex(name: str = "m") -> Part:
    lock = lambda: syncx.Mutex(name)  # noqa: E731
    return Part("Mutex", name, _within(lock), _refused(lock))


def rlock(name: str = "r") -> Part:
    """Taken twice."""

    def inside(body: Body) -> Any:
        lock = syncx.RLock(name)
        with lock, lock:
            return body()

    return Part("RLock", name, inside, _refused(lambda: syncx.RLock(name)))


def condition(name: str = "c") -> Part:
    """A condition's lock."""
    lock = lambda: syncx.Condition(name=name)  # noqa: E731
    return Part("Condition", name, _within(lock), _refused(lock))


def permit(k: int, name: str = "s") -> Part:
    """One of k permits, taken by `with`."""
    return Part("BoundedSemaphore", f"{name}{k}", _within(lambda: syncx.BoundedSemaphore(k, name=f"{name}{k}")))


def permits(k: int, n: int, name: str = "s") -> Part:
    """n of k permits at once, taken by acquire()."""
    pool = lambda: syncx.BoundedSemaphore(k, name=f"{name}{k}")  # noqa: E731
    inside = _taken(lambda: pool().acquire(n=n), lambda: pool().release(n))
    return Part("BoundedSemaphore", f"{name}{k}", inside)


def read(name: str = "rw") -> Part:
    return Part(
        "RWLock", name, _within(lambda: syncx.RWLock(name).read()), _refused(lambda: syncx.RWLock(name).write())
    )


def write(name: str = "rw") -> Part:
    return Part(
        "RWLock", name, _within(lambda: syncx.RWLock(name).write()), _refused(lambda: syncx.RWLock(name).write())
    )


def upgradable(name: str = "rw") -> Part:
    view = lambda: syncx.RWLock(name).upgradable()  # noqa: E731
    return Part("RWLock", name, _within(view), _refused(view))


def _upgraded(lock: Callable[[], Any]) -> Inside:
    return _taken(lambda: lock().upgrade(), lambda: lock().downgrade())


def upgrade(name: str = "rw") -> Part:
    """For who holds it upgradable."""
    return Part("RWLock", name, _upgraded(lambda: syncx.RWLock(name).upgradable()))


def span(file: str, start: int, length: int, shared: bool = False) -> Part:
    """A range of a file."""
    lock = lambda: syncx.RangeLock(file, start, length, shared=shared)  # noqa: E731
    return Part("file", None, _within(lock), _refused(lambda: syncx.RangeLock(file, start, length)))


def whole(file: str, shared: bool = False) -> Part:
    """A file as a whole."""
    lock = lambda: syncx.FileLock(file, shared=shared)  # noqa: E731
    return Part("file", None, _within(lock), _refused(lambda: syncx.FileLock(file)))


def once(place: Place, name: str = "o") -> Part:
    """To be the one that initialises."""
    name = f"{name}{place.number}"

    def inside(body: Body) -> Any:
        return syncx.Once(name).run(body)

    return Part("Once", name, inside)


NOTHING = Part("", None, lambda body: body())


def ring(parts: list[Part], wanted: list[Part] | None = None, **options: Any) -> Scene:
    """Each holds a part and wants what the next one has, in the way in which `wanted` says."""
    wanted = wanted or parts
    n = len(parts)
    members = [Member(parts[i], wanted[(i + 1) % n]) for i in range(n)]
    return Scene(members, [set(range(n))], ring=True, **options)


def mutexes(n: int, **options: Any) -> Scene:
    return ring([mutex(f"m{i}") for i in range(n)], **options)


def pool(k: int, holders: Callable[[], Part], wanted: Part) -> Scene:
    """All k permits are held by those who want the mutex of one who wants a permit."""
    members = [Member(mutex(), wanted)] + [Member(holders(), mutex()) for _ in range(k)]
    return Scene(members, [set(range(k + 1))])


def pool_with_a_way_out(k: int) -> Scene:
    """As `pool`, but one holder wants something else, which is free: no deadlock."""
    scene = pool(k, lambda: permit(k), permit(k))
    members = [*scene.members[:-1], Member(permit(k), mutex("free"))]
    return Scene(members, [], order=[[*range(k)], [k]])


def writer_behind_readers(place: Place) -> Scene:
    """A writer waits for a reader, who waits for a mutex whose holder wants to read, behind the writer."""
    members = [Member(read(), mutex()), Member(NOTHING, write()), Member(mutex(), read())]
    return Scene(members, [{0, 1, 2}], order=[[1], [0, 2]])


def writer_behind_readers_behind_a_writer(place: Place) -> Scene:
    """Reader, waiting writer, reader behind it, and a second writer behind that one, which has what the first reader
    wants."""
    members = [
        Member(read(), mutex("x")),
        Member(NOTHING, write()),
        Member(mutex("y"), read()),
        Member(mutex("x"), mutex("y")),
        Member(NOTHING, write(), essential=False),
    ]
    return Scene(members, [{0, 1, 2, 3}], order=[[1], [2], [4], [0, 3]])


def two_upgrades(place: Place) -> Scene:
    """Two who read a range both want to write it.  The member holds what it upgrades: one object does both."""
    locks: dict[int, Any] = {}

    def member(i: int) -> Member:
        def mine() -> Any:
            if i not in locks:
                locks[i] = syncx.RangeLock(place.file, 0, 10, shared=True)
            return locks[i]

        held = Part("file", None, _within(mine), _refused(lambda: syncx.RangeLock(place.file, 0, 10)))
        return Member(held, Part("file", None, _upgraded(mine)))

    return Scene([member(0), member(1)], [{0, 1}], without=True)


def upgrade_behind_reader(place: Place) -> Scene:
    """An upgradable reader waits for a reader to leave, who waits for a lock that it has."""

    def both(body: Body) -> Any:
        with syncx.RWLock("rw").upgradable(), syncx.Mutex("m"):
            return body()

    members = [Member(Part("RWLock", "rw", both, mutex().refused), upgrade()), Member(read(), mutex())]
    return Scene(members, [{0, 1}])


def shared_file(place: Place) -> Scene:
    """One wants a file alone; both who share it want what the first has."""
    members = [Member(mutex(), whole(place.file))]
    # alone among the sharers it would be enough for a deadlock
    members += [Member(whole(place.file, shared=True), mutex(), essential=False) for _ in range(2)]
    return Scene(members, [{0, 1, 2}], order=[[1, 2], [0]])


def two_knots(place: Place) -> Scene:
    rings = [("a", "b"), ("x", "y")]
    members = [Member(mutex(p), mutex(q)) for one, other in rings for p, q in ((one, other), (other, one))]
    return Scene(members, [{0, 1}, {2, 3}])


def bystanders(place: Place) -> Scene:
    """Two who wait for members of a deadlock, and one who waits for such a one, are not in it."""
    members = [*mutexes(2).members, Member(NOTHING, mutex("m0"), essential=False)]
    members += [Member(mutex("z"), mutex("m1"), essential=False), Member(NOTHING, mutex("z"), essential=False)]
    return Scene(members, [{0, 1}], order=[[2, 3], [4], [0, 1]])


SCENES: dict[str, Callable[[Place], Scene]] = {
    "two mutexes": lambda p: mutexes(2),
    "two mutexes at the same instant": lambda p: mutexes(2, instant=True),
    "ring of 3": lambda p: mutexes(3),
    "ring of 8": lambda p: mutexes(8),
    "ring of 8 at the same instant": lambda p: mutexes(8, instant=True),
    "ring of 64": lambda p: mutexes(64),
    "permits": lambda p: pool(3, lambda: permit(3), permit(3)),
    "permits by acquire()": lambda p: pool(2, lambda: permits(2, 1), permits(2, 1)),
    "permits, one way out": lambda p: pool_with_a_way_out(3),
    "two at a time": lambda p: ring([mutex(), permits(3, 2)]),
    "more of the same": lambda p: ring([permits(4, 2), permits(4, 2)]),
    "two upgrades": two_upgrades,
    "upgrade behind reader": upgrade_behind_reader,
    "writer behind readers": writer_behind_readers,
    "writer behind readers behind a writer": writer_behind_readers_behind_a_writer,
    "mutex and range": lambda p: ring([mutex(), span(p.file, 15, 10)], [mutex(), span(p.file, 10, 10)]),
    "ranges": lambda p: ring([span(p.file, 0, 10), span(p.file, 20, 5)], [span(p.file, 5, 2), span(p.file, 20, 10)]),
    "three kinds": lambda p: ring([mutex(), permit(1), read()], [mutex(), permit(1), write()]),
    "RLock": lambda p: ring([rlock(), mutex()]),
    "Once": lambda p: ring([once(p), mutex()]),
    "Condition": lambda p: ring([condition(), mutex()]),
    "shared file": shared_file,
    "thread and process": lambda p: mutexes(3, processes=[[0, 1], [2]]),
    "threads": lambda p: mutexes(4, processes=[[0, 1, 2, 3]]),
    "two knots": two_knots,
    "bystanders": bystanders,
    "another pid namespace": lambda p: mutexes(2, namespaces=frozenset({1})),
}

_self_locks: dict[str, Callable[[str], tuple[Inside, Inside]]] = {
    "Mutex": lambda f: (mutex().inside, mutex().inside),
    "permit": lambda f: (permit(1).inside, permit(1).inside),
    "permits by acquire()": lambda f: (permits(3, 2).inside, permits(3, 2).inside),
    "writer who reads": lambda f: (write().inside, read().inside),
    "reader who writes": lambda f: (read().inside, write().inside),
    "range": lambda f: (span(f, 0, 10).inside, span(f, 5, 1).inside),
    "file": lambda f: (whole(f).inside, whole(f).inside),
    "Once": lambda f: (once(Place(f)).inside, once(Place(f)).inside),
}


def self_locks() -> dict[str, str]:
    """A thread that waits for what it has, of each kind: what it is told, and what it had is not lost."""
    found = {}
    with tempfile.NamedTemporaryFile() as file:
        for name, make in _self_locks.items():
            outer, inner = make(file.name)

            def again(inner: Inside = inner) -> str:
                try:
                    inner(lambda: None)
                except syncx.DeadlockError as e:
                    return type(e).__name__
                return "nothing"

            found[name] = outer(again)
    return found
