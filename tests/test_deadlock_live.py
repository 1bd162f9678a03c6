"""What looks like a deadlock and is none, for somebody still runs; and what looks like none and is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from filelocks import asleep_in_kernel
from support import until

import syncx


def until_asleep(arena: syncx.Arena, *pids: int) -> None:
    """Until each of those processes, of one thread, has published a wait and sleeps: by then it has looked."""

    def asleep() -> bool:
        seen = syncx.snapshot(arena)
        waiting = {t.pid for t in seen.participants if any(w.thread == t.id for w in seen.waits)}
        return waiting >= set(pids) and all(
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S" for pid in pids
        )

    until(asleep, f"{pids} sleep")


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = tmp_path / "data"
    path.write_bytes(bytes(200))
    return str(path)


_HOLDER = """
    m = syncx.Mutex("m", arena=arena)
    with syncx.RangeLock(path, *span, arena=arena):
        say("has the range")
        hear()
        with m:
            say("has the mutex")
"""


def test_an_upgrade_does_not_wait_for_what_lies_between_its_parts(child: Any, arena: syncx.Arena, path: str) -> None:
    """It waits for a reader of one part, who runs.  Who has bytes between the parts is not in its way."""
    reader = child(
        """
        with syncx.RangeLock(path, 0, 10, shared=True, arena=arena):
            say("reads")
            hear()
        say("read")
        """,
        path=path,
    )
    holder = child(_HOLDER, path=path, span=[50, 10])
    upgrades = child(
        """
        m = syncx.Mutex("m", arena=arena)
        lock = syncx.RangeLock(path, 0, 10, shared=True, arena=arena)
        with m, lock:
            lock.lock_range(100, 10)
            say("reads too")
            hear()
            say(lock.upgrade())
        """,
        path=path,
    )
    assert reader.hear() == "reads"
    assert holder.hear() == "has the range"
    assert upgrades.hear() == "reads too"
    upgrades.say()
    until_asleep(arena, upgrades.pid)
    holder.say()
    until_asleep(arena, upgrades.pid, holder.pid)
    reader.say()
    assert reader.hear() == "read"
    assert upgrades.hear() is True
    assert holder.hear() == "has the mutex"
    for c in (reader, upgrades, holder):
        c.finish()


def test_a_signal_handler_amid_a_wait_for_a_range_runs(child: Any, arena: syncx.Arena, path: str) -> None:
    """It gives back what it has taken: who waits for that, and has the range, is in no deadlock with the thread."""
    holder = child(_HOLDER, path=path, span=[0, 10])
    assert holder.hear() == "has the range"
    waits = child(
        """
        m = syncx.Mutex("m", arena=arena)
        def handler(*_):
            with m:
                say("in the handler")
                hear()
        signal.signal(signal.SIGUSR1, handler)
        say()
        with syncx.RangeLock(path, 0, 10, arena=arena):
            say("has the range")
        """,
        path=path,
    )
    waits.hear()
    until_asleep(arena, waits.pid)
    waits.process.send_signal(10)
    assert waits.hear() == "in the handler"
    holder.say()
    until_asleep(arena, holder.pid)
    waits.say()
    assert holder.hear() == "has the mutex"
    assert waits.hear() == "has the range"
    holder.finish()
    waits.finish()


def test_a_thread_that_sleeps_in_the_kernel_is_a_member(child: Any, arena: syncx.Arena, path: str) -> None:
    """It went to sleep there for a program without syncx; another thread of ours has what it waits for since then."""
    foreign = child(
        """
        import fcntl
        with open(path, "rb") as f:
            fcntl.lockf(f, fcntl.LOCK_SH, 10)
            say("reads")
            hear()
        say("read")
        """,
        path=path,
    )
    assert foreign.hear() == "reads"
    waits = child(
        """
        with syncx.Mutex("m", arena=arena), syncx.RangeLock(path, 0, 10, arena=arena):
            say("has both")
        """,
        path=path,
    )
    until(lambda: asleep_in_kernel(path), "it sleeps in the kernel")
    told = child(
        """
        lock = syncx.RangeLock(path, 0, 10, shared=True, arena=arena)
        say(lock.acquire(blocking=False))
        try:
            syncx.Mutex("m", arena=arena).acquire()
        except syncx.DeadlockError as e:
            say(sorted(w.pid for w in e.cycle))
        lock.release()
        """,
        path=path,
    )
    assert told.hear() is True
    assert told.hear() == sorted([told.pid, waits.pid])
    told.finish()
    foreign.say()
    assert foreign.hear() == "read"
    assert waits.hear() == "has both"
    foreign.finish()
    waits.finish()


@pytest.mark.parametrize("styles", [("posix", "ofd"), ("ofd", "posix")])
def test_a_range_in_two_styles(child: Any, arena: syncx.Arena, path: str, styles: tuple[str, str]) -> None:
    """To the kernel they are two owners': a thread would wait for itself there."""
    both = child(
        """
        with syncx.RangeLock(path, 0, 10, style=styles[0], arena=arena) as first:
            try:
                syncx.RangeLock(path, 5, 10, style=styles[1], arena=arena).acquire()
            except syncx.DeadlockError:
                say(first.held)
        """,
        path=path,
        styles=styles,
    )
    assert both.hear() is True
    both.finish()


def test_a_victim_is_told_whatever_the_rest_may_be(child: Any, arena: syncx.Arena) -> None:
    """Who cannot be told of the members is told that there was a deadlock."""
    members = [
        child(
            """
            import syncx.deadlock
            def fails(*_):
                raise OSError("no names")
            syncx.deadlock.describe = fails
            with syncx.Mutex(names[0], arena=arena):
                say(); hear()
                try:
                    with syncx.Mutex(names[1], arena=arena):
                        say("got it")
                except syncx.DeadlockError as e:
                    say(str(e))
            """,
            names=names,
        )
        for names in (["a", "b"], ["b", "a"])
    ]
    for m in members:
        m.hear()
    for m in members:
        m.say()
    told, got = sorted(m.hear() for m in members)
    assert got == "got it"
    assert told.startswith("deadlock of 2 threads")
    assert "no names" in told
    for m in members:
        m.finish()
