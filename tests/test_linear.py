"""The search for an order: histories made by hand, both ways; and recorded ones, of the primitives and broken twins.

Nothing here depends on time: the histories are files.  `python -m tests.linear` records new ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from linear.broken import TWINS
from linear.cores import CORE_TWINS
from linear.history import DEATH, NEVER, UNKNOWN, Call, History
from linear.picture import explanation, svg, timeline
from linear.rings import CALLS, EXCEPTIONS, UNTIMED, Rings
from linear.search import Specification, TooManyStates, Verdict, check
from linear.specifications import SPECIFICATIONS, record_text
from linear.subjects import SUBJECTS
from twins import apply, core_sources

pytestmark = pytest.mark.core

RECORDED = Path(__file__).parent / "linear" / "recorded"
ROOT = Path(__file__).resolve().parent.parent


def made(
    primitive: str, *threads: list[tuple[Any, ...]], process_of: list[int] | None = None, **parameters: int
) -> History:
    """A history by hand: each call is (invoked, returned, name, arguments, result), and perhaps when it may be late.

    returned None: killed amid it, at the time of the "death" that follows.  A time limit of 0 is the default.
    """
    calls = []
    for who, thread in enumerate(threads):
        process = process_of[who] if process_of else who
        deaths = [c for c in thread if c[2] == DEATH]
        mine = []
        for invoked, returned, name, arguments, result, *late in thread:
            if returned is None:
                returned, result = (deaths[0][1] if deaths else NEVER), UNKNOWN
            mine.append(Call(who, process, name, arguments, invoked, returned, result, late[0] if late else invoked))
        calls.append(mine)
    return History(primitive, parameters, calls)


def judged(history: History, **options: int) -> Verdict:
    return check(SPECIFICATIONS[history.primitive](**history.parameters), history, **options)


def dies(before: int, after: int) -> tuple[Any, ...]:
    return before, after, DEATH, (), None


HAD, NOT_HAD, TOLD = (1, 0), (0, 0), (1, 1)
ACQUIRE, TRY = ("acquire", (UNTIMED,)), ("acquire", (0,))

# name -> history, and is it linearizable
BY_HAND: dict[str, tuple[History, bool]] = {
    # ---- the search itself
    "nothing happened": (made("mutex", []), True),
    "two hold it one after the other": (
        made("mutex", [(0, 10, *ACQUIRE, HAD), (20, 30, "release", (), None)], [(5, 40, *ACQUIRE, HAD)]),
        True,
    ),
    "two hold it at once": (
        made("mutex", [(0, 10, *ACQUIRE, HAD), (50, 60, "release", (), None)], [(20, 40, *ACQUIRE, HAD)]),
        False,
    ),
    "a release that overlaps may come first": (
        made("mutex", [(0, 10, *ACQUIRE, HAD), (30, 60, "release", (), None)], [(20, 40, *ACQUIRE, HAD)]),
        True,
    ),
    "times that are equal do not order": (
        made("mutex", [(0, 10, *ACQUIRE, HAD), (40, 50, "release", (), None)], [(20, 40, *ACQUIRE, HAD)]),
        True,
    ),
    "what a thread does itself is in order": (
        made("mutex", [(0, 10, "release", (), None), (20, 30, *ACQUIRE, HAD)]),
        False,
    ),
    # ---- time limits
    "a try fails while it is held": (
        made("mutex", [(0, 10, *ACQUIRE, HAD)], [(20, 30, *TRY, NOT_HAD)]),
        True,
    ),
    "a try fails though it is free": (
        made("mutex", [(0, 10, *ACQUIRE, HAD), (12, 15, "release", (), None)], [(20, 30, *TRY, NOT_HAD)]),
        False,
    ),
    "a try fails since one that came later has it already": (
        made(
            "mutex",
            [(0, 10, *ACQUIRE, HAD), (12, 15, "release", (), None)],
            [(20, 30, *TRY, NOT_HAD)],
            [(16, 60, *ACQUIRE, HAD), (62, 65, "release", (), None)],
        ),
        True,
    ),
    "a try fails since it is left to one that waits": (
        made(
            "mutex",
            [(0, 10, *ACQUIRE, HAD), (12, 15, "release", (), None)],
            [(20, 30, *TRY, NOT_HAD)],
            [(5, 60, *ACQUIRE, HAD)],
        ),
        True,
    ),
    "a time limit ends while it is held": (
        made(
            "mutex",
            [(0, 10, *ACQUIRE, HAD), (50, 60, "release", (), None)],
            [(20, 45, "acquire", (20,), NOT_HAD, 40)],
        ),
        True,
    ),
    "a time limit ends when it has been free for long": (
        made(
            "mutex",
            [(0, 10, *ACQUIRE, HAD), (25, 30, "release", (), None)],
            [(20, 45, "acquire", (20,), NOT_HAD, 40)],
        ),
        False,
    ),
    "gives up without a time limit": (
        made("mutex", [(0, 10, *ACQUIRE, HAD)], [(20, 30, "acquire", (UNTIMED,), NOT_HAD, NEVER)]),
        False,
    ),
    # ---- deaths and unknown results
    "the next one is told": (
        made("mutex", [(0, 10, *ACQUIRE, HAD), dies(20, 30)], [(40, 50, *ACQUIRE, TOLD)]),
        True,
    ),
    "the next one is not told": (
        made("mutex", [(0, 10, *ACQUIRE, HAD), dies(20, 30)], [(40, 50, *ACQUIRE, HAD)]),
        False,
    ),
    "told twice": (
        made(
            "mutex",
            [(0, 10, *ACQUIRE, HAD), dies(20, 30)],
            [(40, 50, *ACQUIRE, TOLD), (51, 55, "release", (), None), (60, 70, *ACQUIRE, TOLD)],
        ),
        False,
    ),
    "told though nobody died": (made("mutex", [(40, 50, *ACQUIRE, TOLD)]), False),
    "told before the death": (
        made("mutex", [(0, 10, *ACQUIRE, HAD), dies(60, 70)], [(40, 50, *ACQUIRE, TOLD)]),
        False,
    ),
    "killed amid acquire: it had it": (
        made("mutex", [(0, None, *ACQUIRE, None), dies(20, 30)], [(40, 50, *ACQUIRE, TOLD)]),
        True,
    ),
    "killed amid acquire: it did not have it": (
        made("mutex", [(0, None, *ACQUIRE, None), dies(20, 30)], [(40, 50, *ACQUIRE, HAD)]),
        True,
    ),
    "killed amid acquire that another kept it from": (
        made(
            "mutex",
            [(5, None, *ACQUIRE, None), dies(20, 30)],
            [(0, 4, *ACQUIRE, HAD), (40, 50, "release", (), None), (60, 70, *ACQUIRE, TOLD)],
        ),
        False,
    ),
    "killed amid release: either way": (
        made(
            "mutex", [(0, 5, *ACQUIRE, HAD), (10, None, "release", (), None), dies(20, 30)], [(40, 50, *ACQUIRE, HAD)]
        ),
        True,
    ),
    "a hold outlives its holder": (
        made("mutex", [(0, 10, *ACQUIRE, HAD), dies(20, 30)], [(40, 50, *TRY, NOT_HAD)]),
        False,
    ),
    "a call that never returns": (made("mutex", [(0, None, *ACQUIRE, None)], [(40, 50, *TRY, NOT_HAD)]), True),
    "on_owner_death=raise: refused until it is recovered": (
        made(
            "mutex",
            [(0, 10, *ACQUIRE, HAD), dies(20, 30)],
            [(40, 50, *ACQUIRE, "OwnerDiedError"), (60, 70, "recover", (0,), HAD), (80, 90, "locked", (), (1,))],
            raises=1,
        ),
        True,
    ),
    "on_owner_death=raise: not refused": (
        made("mutex", [(0, 10, *ACQUIRE, HAD), dies(20, 30)], [(40, 50, *ACQUIRE, TOLD)], raises=1),
        False,
    ),
    "an RLock is free after as many releases": (
        made(
            "rlock",
            [(0, 1, *ACQUIRE, HAD), (2, 3, *ACQUIRE, HAD), (4, 5, "release", (), None), (10, 11, "release", (), None)],
            [(6, 7, *TRY, NOT_HAD), (12, 13, *TRY, HAD)],
        ),
        True,
    ),
    "an RLock is free too early": (
        made(
            "rlock",
            [(0, 1, *ACQUIRE, HAD), (2, 3, *ACQUIRE, HAD), (4, 5, "release", (), None)],
            [(6, 7, *TRY, HAD)],
        ),
        False,
    ),
    # ---- the others, one or two of each
    "a unit for each release": (
        made(
            "semaphore",
            [(0, 1, "release", (2,), None)],
            [(2, 3, "acquire", (2, 0), (1,)), (4, 5, "value", (), (0,))],
            value=0,
        ),
        True,
    ),
    "a unit too many": (
        made(
            "semaphore",
            [(0, 1, "release", (2,), None)],
            [(2, 3, "acquire", (2, 0), (1,)), (4, 5, "value", (), (1,))],
            value=0,
        ),
        False,
    ),
    "permits of a dead process are free": (
        made("bounded", [(0, 1, "acquire", (2, 0), (1,)), dies(2, 3)], [(4, 5, "acquire", (2, 0), (1,))], value=2),
        True,
    ),
    "permits of a dead process are lost": (
        made("bounded", [(0, 1, "acquire", (2, 0), (1,)), dies(2, 3)], [(4, 5, "acquire", (1, 0), (0,))], value=2),
        False,
    ),
    "a tentative set is seen": (
        made(
            "bounded",
            [(0, 9, "acquire", (2, 0), (0,))],
            [(0, 1, "acquire", (1, 0), (1,)), (2, 3, "value", (), (0,))],
            value=2,
        ),
        False,
    ),
    "another thread of the process releases its permit": (
        made("bounded", [(0, 1, "acquire", (1, 0), (1,))], [(2, 3, "release", (1,), None)], process_of=[0, 0], value=1),
        True,
    ),
    "another process releases a permit": (
        made("bounded", [(0, 1, "acquire", (1, 0), (1,))], [(2, 3, "release", (1,), None)], value=1),
        False,
    ),
    "permits are counted while they come and go": (
        made(
            "bounded",
            [(0, 9, "value", (), (1,))],
            [(1, 2, "acquire", (1, 0), (1,)), (3, 4, "held", (), (1,)), (5, 6, "release", (1,), None)],
            value=1,
        ),
        True,
    ),
    "a permit is counted free that is held all the time": (
        made(
            "bounded",
            [(2, 9, "value", (), (2,))],
            [(0, 1, "acquire", (1, 0), (1,))],
            [(1, 3, "acquire", (1, 0), (1,)), (4, 5, "held", (), (1,))],
            value=2,
        ),
        False,
    ),
    "another's permits are counted as one's own": (
        made("bounded", [(0, 1, "acquire", (1, 0), (1,))], [(2, 3, "held", (), (1,))], value=2),
        False,
    ),
    "permits that are given back together are counted one by one": (
        made(
            "bounded",
            [(0, 1, "acquire", (2, 0), (1,)), (2, 9, "release", (2,), None)],
            [(3, 4, "value", (), (1,)), (5, 6, "value", (), (1,)), (7, 8, "acquire", (1, 0), (1,))],
            value=2,
        ),
        True,
    ),
    "an event that is set and cleared wakes who waits": (
        made("event", [(0, 9, "wait", (UNTIMED,), (1,), NEVER)], [(2, 3, "set", (), None), (4, 5, "clear", (), None)]),
        True,
    ),
    "an event that is set and cleared wakes who comes later": (
        made("event", [(6, 9, "wait", (UNTIMED,), (1,), NEVER)], [(2, 3, "set", (), None), (4, 5, "clear", (), None)]),
        False,
    ),
    "an event that is set and does not tell": (
        made("event", [(2, 3, "set", (), None)], [(1, 9, "wait", (0,), (0,), 5)]),
        False,
    ),
    "a latch opens at 0": (
        made("latch", [(0, 1, "count_down", (2,), None)], [(0, 2, "wait", (UNTIMED,), (1,), NEVER)], count=2),
        True,
    ),
    "a latch opens at 1": (
        made("latch", [(0, 1, "count_down", (1,), None)], [(0, 2, "wait", (UNTIMED,), (1,), NEVER)], count=2),
        False,
    ),
    "parties get their places": (
        made(
            "barrier", [(0, 9, "wait", (UNTIMED,), (0,), NEVER)], [(5, 9, "wait", (UNTIMED,), (1,), NEVER)], parties=2
        ),
        True,
    ),
    "a party goes before the other has come": (
        made(
            "barrier", [(0, 4, "wait", (UNTIMED,), (0,), NEVER)], [(5, 9, "wait", (UNTIMED,), (1,), NEVER)], parties=2
        ),
        False,
    ),
    "all are counted while the last one lets them go": (
        made(
            "barrier",
            [(0, 9, "wait", (UNTIMED,), (0,), NEVER)],
            [(2, 9, "wait", (UNTIMED,), (1,), NEVER)],
            [(3, 5, "n_waiting", (), (2,)), (6, 7, "n_waiting", (), (0,))],
            parties=2,
        ),
        True,
    ),
    "all are counted after they have gone": (
        made(
            "barrier",
            [(0, 9, "wait", (UNTIMED,), (0,), NEVER)],
            [(2, 4, "wait", (UNTIMED,), (1,), NEVER)],
            [(5, 6, "n_waiting", (), (2,))],
            parties=2,
        ),
        False,
    ),
    "the death of a party breaks the barrier": (
        made(
            "barrier",
            [(0, None, "wait", (UNTIMED,), None), dies(3, 5)],
            [(1, 9, "wait", (UNTIMED,), "BrokenBarrierError", NEVER)],
            parties=2,
        ),
        True,
    ),
    "an enrolled party keeps its place": (
        made(
            "barrier",
            [(0, 1, "enroll", (), None), (3, 9, "wait", (UNTIMED,), (0,), NEVER)],
            [(2, 9, "wait", (UNTIMED,), (1,), NEVER)],
            parties=2,
        ),
        True,
    ),
    "an enrolled party's place is given away": (
        made(
            "barrier",
            [(0, 1, "enroll", (), None), (3, 9, "wait", (UNTIMED,), (1,), NEVER)],
            [(2, 9, "wait", (UNTIMED,), (0,), NEVER)],
            parties=2,
        ),
        False,
    ),
    "the death of an enrolled party breaks the barrier": (
        made(
            "barrier",
            [(0, 1, "enroll", (), None), dies(3, 5)],
            [(1, 7, "wait", (UNTIMED,), "BrokenBarrierError", NEVER), (8, 9, "broken", (), (1,))],
            parties=2,
        ),
        True,
    ),
    "the death of an enrolled party is not noticed": (
        made("barrier", [(0, 1, "enroll", (), None), dies(3, 5)], [(8, 9, "broken", (), (0,))], parties=2),
        False,
    ),
    "who has withdrawn is not missed": (
        made(
            "barrier",
            [(0, 1, "enroll", (), None), (1, 2, "withdraw", (), None), dies(3, 5)],
            [(8, 9, "broken", (), (0,))],
            parties=2,
        ),
        True,
    ),
    "all places are enrolled parties'": (
        made(
            "barrier",
            [(0, 1, "enroll", (), None), (4, 5, "wait", (UNTIMED,), (0,), NEVER)],
            [(2, 3, "wait", (UNTIMED,), "RuntimeError", NEVER), (6, 7, "withdraw", (), "RuntimeError")],
            parties=1,
        ),
        True,
    ),
    "a barrier breaks for no reason": (
        made(
            "barrier",
            [(0, 1, "n_waiting", (), (0,))],
            [(1, 9, "wait", (UNTIMED,), "BrokenBarrierError", NEVER)],
            parties=2,
        ),
        False,
    ),
    "readers are together": (
        made("rwlock", [(0, 1, "read_acquire", (0,), (1,))], [(2, 3, "read_acquire", (0,), (1,))]),
        True,
    ),
    "a writer comes in beside a reader": (
        made("rwlock", [(0, 1, "read_acquire", (0,), (1,))], [(2, 3, "write_acquire", (0,), HAD)]),
        False,
    ),
    "a reader is refused for a writer that waits": (
        made(
            "rwlock",
            [(0, 1, "read_acquire", (0,), (1,))],
            [(2, 9, "write_acquire", (0,), NOT_HAD, 8)],
            [(4, 5, "read_acquire", (0,), (0,))],
        ),
        True,
    ),
    "a reader is refused for nobody": (
        made("rwlock", [(0, 1, "read_acquire", (0,), (1,))], [(4, 5, "read_acquire", (0,), (0,))]),
        False,
    ),
    "a reader is seen": (
        made("rwlock", [(0, 1, "read_acquire", (0,), (1,))], [(2, 3, "readers", (), (1,)), (4, 5, "writer", (), (0,))]),
        True,
    ),
    "a reader is not seen": (
        made("rwlock", [(0, 1, "read_acquire", (0,), (1,))], [(2, 3, "readers", (), (0,))]),
        False,
    ),
    "a reader is seen that has left": (
        made(
            "rwlock",
            [(0, 1, "read_acquire", (0,), (1,)), (2, 3, "read_release", (), None)],
            [(4, 5, "readers", (), (1,))],
        ),
        False,
    ),
    "one that is being refused is seen": (
        made(
            "rwlock",
            [(0, 1, "write_acquire", (0,), HAD), (6, 7, "write_release", (), None), (8, 9, "readers", (), (1,))],
            [(2, 20, "read_acquire", (0,), (0,))],
        ),
        True,
    ),
    "it is a writer's turn, and readers come in still": (
        made(
            "rwlock",
            [(0, 90, "write_acquire", (UNTIMED,), HAD, NEVER)],
            [(10, 20, "write_acquire", (0,), NOT_HAD)],
            [(30, 40, "read_acquire", (0,), (1,)), (50, 60, "read_release", (), None)],
        ),
        True,
    ),
    "nobody writes between upgradable reading and writing": (
        made(
            "rwlock",
            [(0, 1, "upgradable_acquire", (0,), HAD), (6, 7, "upgradable_upgrade", (0,), (1,))],
            [(2, 3, "write_acquire", (0,), HAD), (4, 5, "write_release", (), None)],
        ),
        False,
    ),
    "a function runs once": (
        made("once", [(0, 3, "run", (7, 0, UNTIMED), (1, 7), NEVER)], [(1, 5, "run", (8, 0, UNTIMED), (0, 7), NEVER)]),
        True,
    ),
    "a function runs twice": (
        made("once", [(0, 3, "run", (7, 0, UNTIMED), (1, 7), NEVER)], [(1, 5, "run", (8, 0, UNTIMED), (1, 8), NEVER)]),
        False,
    ),
    "its time is over though the result is there": (
        made("once", [(0, 3, "run", (7, 0, UNTIMED), (1, 7), NEVER)], [(1, 9, "run", (8, 0, 5), "Timeout", 6)]),
        False,
    ),
    "ranges apart": (
        made("rangelock", [(0, 1, "acquire", (0, 4, 0, 0), (1,))], [(2, 3, "acquire", (4, 0, 0, 0), (1,))]),
        True,
    ),
    "ranges that overlap by a byte": (
        made("rangelock", [(0, 1, "acquire", (0, 5, 0, 0), (1,))], [(2, 3, "acquire", (4, 0, 0, 0), (1,))]),
        False,
    ),
    "a part that is given back": (
        made(
            "rangelock",
            [(0, 1, "acquire", (0, 0, 0, 0), (1,)), (2, 3, "unlock_range", (2, 2), None)],
            [(4, 5, "acquire", (2, 2, 0, 0), (1,)), (6, 7, "lock_range", (4, 1, 0, 0), (0,))],
        ),
        True,
    ),
    "a try stands back for nobody": (
        made(
            "filelock",
            [(0, 1, "acquire", (0, 0, 1, 0), (1,))],
            [(2, None, "acquire", (0, 0, 0, UNTIMED), None)],
            [(4, 5, "acquire", (0, 0, 1, 0), (0,))],
        ),
        False,
    ),
    "a time limit may end behind one that waits": (
        made(
            "filelock",
            [(0, 1, "acquire", (0, 0, 1, 0), (1,))],
            [(2, None, "acquire", (0, 0, 0, UNTIMED), None)],
            [(4, 8, "acquire", (0, 0, 1, 3), (0,), 7)],
        ),
        True,
    ),
    "records one after the other": (
        made("append", [(0, 5, "append", (1,), (0,))], [(1, 6, "append", (2,), (len(record_text(1)),))]),
        True,
    ),
    "two records at one place": (
        made("append", [(0, 5, "append", (1,), (0,))], [(1, 6, "append", (2,), (0,))]),
        False,
    ),
}


def waits(invoked: int, returned: int | None, result: Any, late: int = NEVER) -> list[tuple[Any, ...]]:
    """A thread that waits for a condition, and its lock's way before and after."""
    calls: list[tuple[Any, ...]] = [(invoked, invoked + 1, *ACQUIRE, HAD)]
    calls.append((invoked + 2, returned, "wait", (UNTIMED,), result, late))
    if returned is None:
        return [*calls, dies(90, 95)]
    return [*calls, (returned + 1, returned + 2, "release", (), None)]


def notifies(at: int, *n: int) -> list[tuple[Any, ...]]:
    return [
        (at, at + 1, *ACQUIRE, HAD),
        (at + 2, at + 3, "notify", n, None),
        (at + 4, at + 5, "release", (), None),
    ]


CONDITIONS: dict[str, tuple[History, bool]] = {
    "notify(1) wakes the one that has waited longer": (
        made("condition", waits(0, 60, HAD), waits(10, 70, NOT_HAD, 65), notifies(20, 1)),
        True,
    ),
    "notify(1) wakes the one that came later": (
        made("condition", waits(0, 70, NOT_HAD, 65), waits(10, 60, HAD), notifies(20, 1)),
        False,
    ),
    "notify(1) wakes two": (made("condition", waits(0, 60, HAD), waits(10, 70, HAD), notifies(20, 1)), False),
    "notify(2) wakes two": (made("condition", waits(0, 60, HAD), waits(10, 70, HAD), notifies(20, 2)), True),
    "notify() wakes all": (made("condition", waits(0, 60, HAD), waits(10, 70, HAD), notifies(20)), True),
    "a notification for nobody is kept": (made("condition", waits(30, 60, HAD), notifies(0, 1)), False),
    "woken by nobody": (made("condition", waits(0, 60, HAD)), False),
    "not woken though notified": (made("condition", waits(0, 70, NOT_HAD, 65), notifies(20, 1)), False),
    "a dead thread's notification goes to the next": (
        made("condition", waits(0, None, None), waits(10, 120, HAD), notifies(20, 1), deaths=1),
        True,
    ),
    "a notification is not for who waits later": (
        made("condition", waits(0, None, None), waits(40, 120, HAD), notifies(20, 1), deaths=1),
        False,
    ),
    "a notification goes from the dead to two": (
        made("condition", waits(0, None, None), waits(10, 120, HAD), waits(14, 130, HAD), notifies(20, 1), deaths=1),
        False,
    ),
    "back from wait() beside another holder": (
        made(
            "condition",
            waits(0, 60, HAD),
            [*notifies(20, 1)[:2], (70, 75, "release", (), None)],
        ),
        False,
    ),
}


@pytest.mark.parametrize("name", [*BY_HAND, *CONDITIONS])
def test_histories_made_by_hand(name: str) -> None:
    history, linearizable = {**BY_HAND, **CONDITIONS}[name]
    verdict = judged(history)
    assert bool(verdict) is linearizable, explanation(verdict)
    if not linearizable:
        assert verdict.stuck, "it says what could not be next"


def test_an_order_that_is_found_is_one() -> None:
    """Carried out step by step, the order gives the results that were recorded, and no call comes too early."""
    for history, linearizable in {**BY_HAND, **CONDITIONS}.values():
        if not linearizable:
            continue
        verdict = judged(history)
        ended: list[Call] = []
        for call, stage, _ in verdict.order:
            assert all(call.returned >= before.invoked for before in ended)
            if stage is None:
                ended.append(call)
        assert {id(c) for c in ended} >= {id(c) for c in history if not c.unknown}


def test_the_memory_of_the_search_cuts_it_short() -> None:
    """Twenty tries of four threads at once have more orders than could be tried one by one."""
    held = [(0, 1, *ACQUIRE, HAD)]
    tries = [(2 + i, 100, "locked", (), (1,)) for i in range(5)]
    impossible = [*tries[:-1], (6, 100, "locked", (), (0,))]
    verdict = judged(made("mutex", held, tries, tries, tries, impossible))
    assert not verdict
    assert verdict.states < 20_000
    with pytest.raises(TooManyStates, match="a shorter history"):
        judged(made("mutex", held, tries, tries, tries, impossible), limit=100)


def test_a_specification_must_say_something() -> None:
    history = made("mutex", [(0, 1, *ACQUIRE, HAD)])
    with pytest.raises(NotImplementedError):
        check(Specification(), history)


# ---- recorded histories ---------------------------------------------------------------------------------------------

FILES = sorted(RECORDED.glob("*.json"))
GOOD = [f for f in FILES if f.stem in SUBJECTS]
TWIN_FILES = [f for f in FILES if f.stem not in SUBJECTS]


def test_all_are_recorded() -> None:
    """A history of each primitive, with a death, and of each twin."""
    assert [f.stem for f in GOOD] == sorted(SUBJECTS) == sorted(SPECIFICATIONS)
    assert all(History.load(f).deaths for f in GOOD)
    twins = {(p, name) for p, named in TWINS.items() for name in named}
    assert len(twins) >= 15
    recorded = {(h.primitive, h.origin.partition("twin: ")[2]) for h in map(History.load, TWIN_FILES)}
    assert recorded >= twins


@pytest.mark.parametrize("file", GOOD, ids=lambda f: f.stem)
def test_recorded_histories_are_linearizable(file: Path) -> None:
    verdict = judged(History.load(file))
    assert verdict, explanation(verdict)


@pytest.mark.parametrize("file", TWIN_FILES, ids=lambda f: f.stem)
def test_recorded_histories_of_twins_are_refuted(file: Path) -> None:
    assert not judged(History.load(file))


def test_a_file_gives_the_same_history_again(tmp_path: Path) -> None:
    for file in FILES:
        history = History.load(file)
        history.save(tmp_path / "again.json")
        assert History.load(tmp_path / "again.json").as_json() == history.as_json()
        assert (tmp_path / "again.json").read_text() == file.read_text()
    for text in ("", "[]", '{"primitive": "mutex", "parameters": {}, "threads": [[{}]]}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=r"bad\.json"):
            History.load(tmp_path / "bad.json")


def test_twins_of_the_core_fit_it() -> None:
    """Their edits are still to be made; `python -m tests.linear --twins` builds and plays them."""
    for primitive, twin in CORE_TWINS:
        assert primitive in SUBJECTS
        assert apply(twin, core_sources()) != core_sources()


# ---- what is shown --------------------------------------------------------------------------------------------------


def test_a_refutation_is_shown() -> None:
    history = BY_HAND["two hold it at once"][0]
    verdict = judged(history)
    text = timeline(history, verdict)
    assert "thread 1 of process 1" in text
    assert [line for line in text.splitlines() if "!" in line]
    assert "none of these could be next" in explanation(verdict)
    drawn = svg(history, verdict)
    assert 'class="stuck"' in drawn
    killed = svg(BY_HAND["killed amid acquire: it had it"][0])
    assert 'class="unknown"' in killed
    assert 'class="death"' in killed
    assert "acquire(-1) -&gt; ?" in killed


def test_the_command_checks_a_file() -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.linear", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100
        )

    refuted = command("--check", str(TWIN_FILES[0]))
    assert refuted.returncode == 1
    assert "not linearizable" in refuted.stdout
    wrong = command("--kill", "7", "mutes")
    assert wrong.returncode == 2
    assert "no primitive is called 'mutes'" in wrong.stderr


# ---- what is written down -------------------------------------------------------------------------------------------


def test_a_ring_gives_back_what_was_written() -> None:
    """Also of a call that has not returned, which is unknown, and of one that has not begun, which is none."""
    names = (("~acquire", 1), ("release", 0), ("~run", 3))
    ring = Rings().of(3)
    ring.begin(0, (250,))
    ring.end((1, 0))
    ring.begin(1, ())
    ring.end("NotOwner")
    ring.begin(1, ())
    ring.end(None)
    ring.begin(2, (5, 0, UNTIMED))
    ring.mark(0)
    acquire, refused, release, run, death = ring.calls(7, 2, names, (NEVER - 2, NEVER - 1))
    assert (acquire.name, acquire.arguments, acquire.result) == ("acquire", (250,), (1, 0))
    assert acquire.late == acquire.invoked + 250_000
    assert acquire.invoked <= acquire.returned <= refused.invoked
    assert (refused.result, release.result) == ("NotOwner", None)
    assert run.unknown
    assert (run.late, run.returned) == (NEVER, NEVER - 1)
    assert run.invoked <= run.marks["begun"] < run.marks["ended"] == NEVER
    assert ring.last_time() == run.invoked
    assert (death.name, death.who, death.process) == (DEATH, 7, 2)
    ring.clear()
    assert ring.calls(0, 0, names, None) == []
    assert ring.last_time() == 0
    ring.rewind()
    for _ in range(CALLS):
        ring.begin(1, ())
        ring.end(EXCEPTIONS[0])
    with pytest.raises(OverflowError, match="64 calls"):
        ring.begin(1, ())


def test_recorded_files_are_small() -> None:
    assert all(len(json.loads(f.read_text())["threads"]) <= 5 for f in FILES)
