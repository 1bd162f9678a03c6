"""Telling each other: Event, Barrier and Once."""

from __future__ import annotations

from typing import Any, NamedTuple

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


class Hall(NamedTuple):
    """A barrier.

    places: of each who has it, is that one enrolled there, and has it arrived in this round.  inside: who waits in it.
    told: what those are told who have not returned: their place, or -1: it broke.
    """

    places: tuple[tuple[int | None, bool, bool], ...]
    inside: frozenset[int] = frozenset()
    broken: bool = False
    told: frozenset[tuple[int, int]] = frozenset()

    def place_for(self, who: int) -> int | None:
        """Its own, where it is enrolled; else the first that is free."""
        own = [i for i, (w, enrolled, _) in enumerate(self.places) if enrolled and w == who]
        free = [i for i, (_, enrolled, arrived) in enumerate(self.places) if not (enrolled or arrived)]
        return next(iter([*own, *free]), None)

    def place(self, i: int, who: int | None, enrolled: bool, arrived: bool) -> Hall:
        return self._replace(places=(*self.places[:i], (who, enrolled, arrived), *self.places[i + 1 :]))

    def arrives(self, i: int, who: int) -> Hall:
        return self.place(i, who, self.places[i][1], True)

    def emptied(self) -> Hall:
        """The next round: the living who are enrolled keep their places."""
        keeps = [enrolled and who != DEAD for who, enrolled, _ in self.places]
        places = tuple((p[0], True, False) if keep else NOBODY for p, keep in zip(self.places, keeps, strict=True))
        return self._replace(places=places, inside=frozenset())

    def completes(self, but: int) -> Hall:
        told = {(who, i) for i, (who, *_) in enumerate(self.places) if who is not None and who != but}
        return self.emptied()._replace(told=self.told | told)

    def fails(self, but: int | None = None) -> Hall:
        told = {(who, -1) for who in self.inside if who != but}
        return self._replace(broken=True, inside=frozenset(), told=self.told | told)


DEAD = -1
"""In place of one who died, until a reset."""
NOBODY = (None, False, False)


class Barrier(Specification):
    """The last one arrives at one instant and lets all go at another: the action is in between, if there is one."""

    def initial(self) -> State:
        return Hall((NOBODY,) * self.parameters["parties"])

    def apply(self, state: Hall, call: Call, stage: str) -> Outcomes:
        who = call.who
        arrived = sum(a for *_, a in state.places)
        if call.name == DEATH:
            places = tuple((DEAD if w == who else w, e, a) for w, e, a in state.places)
            missed = who in state.inside or any(w == who and e for w, e, _ in state.places)
            dead = state._replace(places=places, told=frozenset(t for t in state.told if t[0] != who))
            yield None, dead.fails(who) if missed else dead
        elif call.name == "abort":
            yield None, state.fails()
        elif call.name == "reset":  # whoever looks may see that it breaks what it ends before it is whole
            yield None, state.fails().emptied()._replace(broken=False)
            if arrived and not stage:
                yield Stage("mends"), state.fails()
        elif call.name == "broken":
            yield (int(state.broken),), state
        elif call.name == "n_waiting":
            yield (0 if state.broken else arrived,), state
        elif call.name == "enroll":
            yield from self._enroll(state, who)
        elif call.name == "withdraw":
            mine = [i for i, (w, enrolled, _) in enumerate(state.places) if enrolled and w == who]
            for i in mine:
                stays = state.places[i][2]
                yield None, state.place(i, who, False, True) if stays else state.place(i, *NOBODY)
            if not mine:
                yield "RuntimeError", state
        elif not stage:
            yield from self._arrives(state, who)
        elif stage == "last" and who in state.inside:
            place = next(i for i, (w, _, here) in enumerate(state.places) if w == who and here)
            yield (place,), state.completes(who)
        elif who in state.inside:
            yield "BrokenBarrierError", state.fails(who), "late"
        else:
            for entry in state.told:
                if entry[0] == who:
                    told = state._replace(told=state.told - {entry})
                    yield "BrokenBarrierError" if entry[1] < 0 else entry[1:], told

    @staticmethod
    def _enroll(state: Hall, who: int) -> Outcomes:
        """Without a place it waits for one, unless none can come free."""
        if any(enrolled and w == who for w, enrolled, _ in state.places) or all(e for _, e, _ in state.places):
            yield "RuntimeError", state
        elif (place := state.place_for(who)) is not None:
            yield None, state.place(place, who, True, False)
        elif state.broken:
            yield "BrokenBarrierError", state

    @staticmethod
    def _arrives(state: Hall, who: int) -> Outcomes:
        place = state.place_for(who)
        if state.broken:  # where that is because of a death, one may have arrived before it is seen
            yield "BrokenBarrierError", state
            if place is not None:
                yield "BrokenBarrierError", state.arrives(place, who)
        if place is None and all(enrolled for _, enrolled, _ in state.places):
            yield "RuntimeError", state
        elif place is None:  # it waits for one, and has broken nothing if there is none
            yield "BrokenBarrierError", state, "late"
        elif not state.broken:
            there = state.arrives(place, who)
            inside = there._replace(inside=there.inside | {who})
            if all(arrived for *_, arrived in there.places):
                yield (place,), there.completes(who)
                yield Stage("last"), inside
            else:
                yield WAITS, inside


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
