"""The laws of the core, each with a broken twin that its test must condemn.

The laws are functions of tests/twins/laws.c, or of tests/singlestep.c where the order of single instructions matters;
the twins are edits of the real sources (tests/twins/table.py).  Every law is tried on the core, where it must hold, and
on its twins, where the same test must fail.
"""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from singlestep import shared_directory
from support import soon, until_waiting
from twins import CORE, Twin, Workshop, apply, core_sources, table, workshop_for

import syncx

pytestmark = pytest.mark.core

SOURCE = Path(__file__).parent / "twins" / "laws.c"
CANNOT_BE_TRIED = 77


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return workshop_for(tmp_path_factory)


def verdict(workshop: Workshop, law: str, twin: Twin | None = None) -> str:
    """ "" when the law holds, or how it is broken."""
    program = workshop.program(SOURCE, twin)
    with shared_directory() as directory:
        # late is a hang; a twin may well be condemned by a busy machine, the core may not
        times = "5" if twin is None else "1"
        done = subprocess.run([program, law, directory, times], capture_output=True, text=True, timeout=400)
    if done.returncode == CANNOT_BE_TRIED:
        pytest.skip(done.stdout.strip())
    if done.returncode == 0:
        return ""
    if done.returncode == -signal.SIGALRM:
        return f"hang: {done.stderr}"
    assert done.returncode == 1, f"the test itself failed ({done.returncode}): {done.stderr}"
    return done.stderr


LAWS: dict[str, tuple[Twin, ...]] = {
    # never FUTEX_PRIVATE_FLAG
    "shared-futex": (table.PRIVATE_WAIT, table.PRIVATE_WAKE),
    # the end of a thread wakes who sleeps on its life
    "death-wakes": (table.NOBODY_TO_WAKE,),
    # publish before sleeping
    "published": (table.NOT_PUBLISHED,),
    # never unmap a segment in which a live thread is registered
    "stays-mapped": (table.UNMAPS_EARLY,),
    # deadlines are absolute and monotonic; EINTR
    "deadline": (table.DEADLINE_BEGINS_ANEW, table.WALL_CLOCK),
    # the child of a fork owns nothing; open-file-description locks are inherited
    "fork": (table.CHILD_IS_PARENT,),
    "witness-not-inherited": (table.WITNESS_INHERITED, table.WITNESS_MAPPED),
    # unlinked and made anew is never two locks
    "retired": (table.NOT_RETIRED,),
    # every index read from shared memory is checked
    "indexes": (table.INDEX_UNCHECKED, table.REFERENCE_UNCHECKED),
    # pages are there before they are touched
    "pages-first": (table.PAGES_AT_TOUCH,),
    # deaths that the kernel does not mark: the second witness
    "exec": (table.ONE_WITNESS,),
    "robust-unmapped": (table.ONE_WITNESS,),
    "robust-many": (table.ONE_WITNESS,),
    # a pid is not an identity, and a slot is not one either
    "reused-pid": (table.PID_ALONE, table.ONE_WITNESS),
    "recycled-slot": (table.SAME_GENERATION,),
    "ids": (table.SAME_GENERATION, table.SAME_START),
    # a cell in the user's memory whose arena is gone
    "arena-gone": (table.OLD_ARENA_BELIEVED,),
    # a reservation holds nobody up for long
    "reservation-lapses": (table.RESERVED_FOR_EVER,),
}


@pytest.mark.timeout(420)
@pytest.mark.parametrize("law", LAWS)
def test_law_holds(workshop: Workshop, law: str) -> None:
    assert verdict(workshop, law) == ""


@pytest.mark.parametrize(("law", "twin"), [(law, twin) for law, twins in LAWS.items() for twin in twins], ids=str)
def test_law_condemns_its_twin(workshop: Workshop, law: str, twin: Twin) -> None:
    assert verdict(workshop, law, twin) != ""


ALL_TWINS = [t for t in vars(table).values() if isinstance(t, Twin)]


@pytest.mark.parametrize("twin", ALL_TWINS, ids=str)
def test_twin_fits_the_core(twin: Twin) -> None:
    assert apply(twin, core_sources()) != core_sources()


# ---- laws that reading the sources can check ----------------------------------------------------------------------


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)


def private_futexes(sources: dict[str, str]) -> list[str]:
    """Files whose code asks for a futex of one process."""
    words = re.compile(r"FUTEX_PRIVATE_FLAG|FUTEX_\w+_PRIVATE|FUTEX2_PRIVATE|PTHREAD_PROCESS_PRIVATE")
    return [name for name, text in sources.items() if words.search(without_comments(text))]


def python_includes(sources: dict[str, str]) -> list[str]:
    """Files of the core that reach Python.h, by themselves or through another header."""
    own = {name: set(re.findall(r'#\s*include\s*[<"]([^>"]+)[>"]', without_comments(t))) for name, t in sources.items()}
    every = {**own, **{p.name: {"Python.h"} for p in CORE.glob("py_*.h")}}

    def reaches(name: str, seen: frozenset[str] = frozenset()) -> bool:
        if name == "Python.h":
            return True
        return any(reaches(n, seen | {name}) for n in every.get(name, ()) if n not in seen)

    return [name for name in own if reaches(name)]


def wall_clocks(sources: dict[str, str]) -> list[str]:
    """Files that wait by the wall clock."""
    words = re.compile(r"FUTEX_CLOCK_REALTIME|SYS_futex_waitv,[^;]*CLOCK_REALTIME|pthread_mutex_timedlock\b")
    return [name for name, text in sources.items() if words.search(without_comments(text))]


CORE_ONLY = (
    (private_futexes, table.PRIVATE_WAKE),
    (private_futexes, table.PRIVATE_WAIT),
    (python_includes, table.KNOWS_PYTHON),
    (python_includes, table.KNOWS_PYTHON_INDIRECTLY),
    (wall_clocks, table.WALL_CLOCK),
)


@pytest.mark.parametrize(("look", "twin"), CORE_ONLY, ids=lambda v: getattr(v, "__name__", None) or str(v))
def test_sources(look, twin: Twin) -> None:
    assert look(core_sources()) == []
    assert look(apply(twin, core_sources())) != []


# ---- the same laws as a user of the package meets them ------------------------------------------------------------

HOLD = """
    m = syncx.Mutex("m", arena=arena)
    m.acquire()
    say()
    hear()
    m.release()
    """


def test_gil_is_free_while_a_thread_waits(arena: syncx.Arena, child) -> None:
    holder = child(HOLD)
    holder.hear()
    m = syncx.Mutex("m", arena=arena)
    got = []
    thread = threading.Thread(target=lambda: got.append(m.acquire(timeout=10)))
    thread.start()
    until_waiting(arena)  # this very loop needs the GIL
    steps, end = 0, time.monotonic() + 0.1
    while time.monotonic() < end:
        steps += 1
    holder.say()
    thread.join(10)
    assert got == [True]
    assert steps > 1000


def test_signals_do_not_prolong_a_wait(arena: syncx.Arena, child) -> None:
    holder = child(HOLD)
    holder.hear()
    waiter = child(
        """
        m = syncx.Mutex("m", arena=arena)
        calls = []
        signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
        while hear():
            calls.clear()
            signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
            start = time.monotonic()
            got = m.acquire(timeout=0.3)
            took = time.monotonic() - start
            signal.setitimer(signal.ITIMER_REAL, 0)
            say([got, took, len(calls)])
        """
    )

    def wait() -> float:
        waiter.say(True)
        got, took, calls = waiter.hear()
        assert got is False
        assert took >= 0.3
        return took if calls > 10 else math.inf  # did the handlers run during the wait?

    soon(0.7, wait)


def test_waiters_are_seen_while_they_wait(arena: syncx.Arena, child) -> None:
    holder = child(HOLD)
    holder.hear()
    waiter = child(HOLD)
    until_waiting(arena)
    (info,) = [o for o in arena.objects() if o.name == "m"]
    assert info.holder is not None
    assert info.holder.pid == holder.pid
    assert [w.pid for w in info.waiters] == [waiter.pid]
    assert info.longest_wait > 0
    holder.say()
    waiter.hear()
    (info,) = [o for o in arena.objects() if o.name == "m"]
    assert info.waiters == ()
    waiter.say()


@pytest.mark.death
def test_exec_from_another_thread_gives_the_lock_back(arena: syncx.Arena, child) -> None:
    m = syncx.Mutex("m", arena=arena)
    holder = child(
        """
        m = syncx.Mutex("m", arena=arena)
        def hold_and_exec():
            m.acquire()
            say()
            os.execv("/bin/sleep", ["sleep", "30"])
        threading.Thread(target=hold_and_exec).start()
        """
    )
    holder.hear()
    start = time.monotonic()
    with m:
        assert m.owner_died
    assert time.monotonic() - start < 5.0
    assert os.path.exists(f"/proc/{holder.pid}")  # it lives, as another program
