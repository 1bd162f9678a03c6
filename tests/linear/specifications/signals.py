"""Telling each other: Event, Barrier and Once."""

from __future__ import annotations

from typing import Any

from ..history import DEATH, Call
from ..search import Specification, Stage, State
from .common import NO, WAITS, YES, Outcomes, tries


class Event(Specification):
    """State: is it set, who waits, and who of those has been woken: wait() is True if it is set or was meanwhile."""

    def initial(self) -> State:
        return False, frozenset(), frozenset()

    def apply(self, state: Any, call: Call, stage: str) -> Outcomes:
        is_set, asleep, woken = state
        me = frozenset({call.who})
        if call.name == DEATH:
            yield None, (is_set, asleep - me, woken - me)
        elif call.name == "set":
            yield None, (True, frozenset(), woken | asleep)
        elif call.name == "clear":
            yield None, (False, asleep, woken)
        elif call.name == "is_set":
            yield (int(is_set),), state
        elif not stage:  # wait()
            yield (YES, state) if is_set else (WAITS, (is_set, asleep | me, woken))
        elif me <= woken:
            yield YES, (is_set, asleep, woken - me)
        else:
            yield NO, (is_set, asleep - me, woken), "late"


class Barrier(Specification):
    """State: who has arrived, in order; is it broken; and what those are told who have not returned (-1: it broke).

    The last one arrives at one instant and lets all go at another: the action is in between, if there is one.
    """

    def initial(self) -> State:
        return (), False, frozenset()

    def apply(self, state: Any, call: Call, stage: str) -> Outcomes:
        arrived, broken, told = state
        who = call.who

        def completes(all_of: tuple[int, ...], but: int) -> State:
            return (), False, told | {(w, i) for i, w in enumerate(all_of) if w != but}

        def fails(broken: bool, but: int | None = None) -> State:
            return (), broken, told | {(w, -1) for w in arrived if w != but}

        if call.name == DEATH:
            told = frozenset(t for t in told if t[0] != who)
            yield None, fails(True, who) if who in arrived else (arrived, broken, told)
        elif call.name == "abort":
            yield None, fails(True)
        elif stage == "mends":
            yield None, ((), False, told)
        elif call.name == "reset":  # whoever looks may see that it breaks what it ends before it is whole
            yield None, fails(False)
            if arrived:
                yield Stage("mends"), fails(True)
        elif call.name == "broken":
            yield (int(broken),), state
        elif call.name == "n_waiting":
            yield (len(arrived),), state
        elif not stage and broken:
            yield "BrokenBarrierError", state
        elif not stage and len(arrived) + 1 == self.parameters["parties"]:
            yield (len(arrived),), completes(arrived, who)
            yield Stage("last"), ((*arrived, who), broken, told)
        elif not stage and len(arrived) == self.parameters["parties"]:
            return  # all places of this round are taken
        elif stage == "last" and who in arrived:
            yield (arrived.index(who),), completes(arrived, who)
        elif not stage:
            yield WAITS, ((*arrived, who), broken, told)
        elif who in arrived:
            yield "BrokenBarrierError", fails(True, who), "late"
        else:
            for entry in told:
                if entry[0] == who:
                    yield "BrokenBarrierError" if entry[1] < 0 else entry[1:], (arrived, broken, told - {entry})


class Once(Specification):
    """State: who runs the function now, the result or None, and as of a `Lock` left and waiting: the turn to run it is
    left to a waiter.  The function runs between the two instants of run()."""

    stages_end = {"": "begun", "waits": "begun"}

    def initial(self) -> State:
        return None, None, False, frozenset()

    def apply(self, state: Any, call: Call, stage: str) -> Outcomes:
        runner, value, left, waiting = state
        rest = waiting - {call.who}
        if call.name == DEATH:
            yield None, (None if runner == call.who else runner, value, left, rest)
        elif call.name == "done":
            yield (int(value is not None),), state
        elif stage == "runs":
            mine, fails, _ = call.arguments
            if fails:
                yield "Undone", (None, None, bool(waiting), waiting), "ended"
            else:
                yield (1, mine), (None, mine, False, frozenset()), "ended"
        elif value is not None:
            yield (0, value), state
        else:
            if runner is None:
                yield Stage("runs"), (call.who, None, False, rest)
            if runner is not None or (left and tries(call)):
                yield "Timeout", (runner, None, left, rest), "late"
            if not stage and (runner is not None or left):
                yield WAITS, (runner, None, left, waiting | {call.who})
