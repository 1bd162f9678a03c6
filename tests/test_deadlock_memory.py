"""Deadlocks through locks in the users' own memory, whose words the detector cannot read: the waiters tell of them."""

from __future__ import annotations

import pytest
from support import until

import syncx

MEMBER = """
    import mmap
    with open(path, "r+b") as f:
        memory = mmap.mmap(f.fileno(), 4096)
    locks = [cls.at(memory, n * cls.SIZE, arena=arena) for n in range(2)] if (cls := getattr(syncx, kind)) else []
    locks[0 if first else 1].acquire()
    say(); hear()
    wanted = locks[1 if first else 0]
    try:
        wanted.acquire()
        said = "got it"
        wanted.release()
    except syncx.DeadlockError as e:
        said = [[w.kind, w.name, [list(h[:2]) for h in w.holds]] for w in e.cycle]
    locks[0 if first else 1].release()
    say(said)
"""


@pytest.fixture
def memory(tmp_path):
    path = tmp_path / "memory"
    path.write_bytes(bytes(4096))
    return str(path)


@pytest.mark.parametrize("kind", ["Mutex", "RLock"])
def test_two_mutexes(arena, child, memory, kind):
    members = [child(MEMBER, path=memory, kind=kind, first=first) for first in (True, False)]
    for m in members:
        m.hear()
    for m in members:
        m.say()
    said = sorted((m.hear() for m in members), key=str)
    assert said == [[[kind, None, [[kind, None]]]] * 2, "got it"]
    for m in members:
        m.finish()


def test_a_holder_that_goes_on(arena, child, memory):
    """The twin: the holder has waited before, and does not wait now."""
    member = child(MEMBER, path=memory, kind="Mutex", first=True)
    other = child(
        MEMBER.replace("wanted.acquire()", "hear(); wanted.acquire()"), path=memory, kind="Mutex", first=False
    )
    member.hear(), other.hear()
    member.say()
    seen: set[int] = set()  # it is awake for a moment at each look, and waits for nothing then

    def has_looked_again() -> bool:
        seen.update(w.ticket for w in syncx.snapshot(arena).waits)
        return len(seen - {0}) > 1

    until(has_looked_again, "it has looked again and waits on")
    other.process.terminate()
    other.process.wait(30)
    assert member.hear() == "got it"
    member.finish()
