"""The scene of those who say beforehand that they will come to a barrier."""

from __future__ import annotations

import syncx

from .actor import ARRIVE, ENROL, RESET, WITHDRAW, Actor
from .dice import Dice
from .scenes import Scene

__all__ = ["Enrolments"]


class Enrolments(Scene):
    """A barrier at which most of its parties enrol: it is not to go on without one of them, nor to give its place away.

    Words of each slot: its enrolment, how many waits it has begun, how many have ended, how many enrolments there were.
    Then of which enrolment each place is.  An enrolment is a number that none before or after it has in this round, so
    one that is found before a wait and after it has lasted all the while: its thread alone would not say that, for it
    may have withdrawn, and enrolled anew, while who waited was slow to come or to look.
    """

    topic = "enrolment"
    number = 15
    PARTIES = 3
    _ROW = 4
    _SERIAL_BITS = 20  # more than a journal has room for

    def open(self) -> None:
        self.barrier = self.stage.make(
            self.topic, syncx.Barrier, self.PARTIES, name="enrolment", arena=self.stage.arena
        )
        self._places = self.base + self._ROW * self.board.slots

    def _row(self, slot: int) -> int:
        return self.base + self._ROW * slot

    def _thread(self, enrolment: int) -> int:
        """Its token; 0: that is none."""
        return enrolment >> self._SERIAL_BITS

    def play(self, actor: Actor, dice: Dice) -> None:
        if dice(4) == 0:
            self._wait(actor, dice)
            return
        obj, w, row = self.obj(0), self.w, self._row(actor.slot)
        actor.begin(ENROL, obj)
        try:
            self.barrier.enroll()
        except syncx.BrokenBarrierError:
            actor.end(ENROL, obj, 0)
            self._mend(actor)
            return
        except RuntimeError:  # all places are enrolled ones'
            actor.end(ENROL, obj, 0)
            actor.linger(dice)
            return
        actor.end(ENROL, obj, 1)
        w[row + 3] += 1
        w[row] = actor.token << self._SERIAL_BITS | w[row + 3]
        actor.holds = True
        place = self._rounds(actor, dice, 1 + dice(3))
        actor.holds = False
        if place is not None:
            w[self._places + place] = 0
        w[row] = 0
        with actor.written(WITHDRAW, obj):
            self.barrier.withdraw()

    def _rounds(self, actor: Actor, dice: Dice, n: int) -> int | None:
        """Its place, once it has met the others."""
        place: int | None = None
        for _ in range(n):
            actor.point()
            actor.linger(dice)
            number = self._wait(actor, dice)
            if number is None:
                break
            if place not in (None, number):
                actor.complain(f"enrolment: it is enrolled, and its place was {place} and is {number}")
            place = number
            self.w[self._places + number] = self.w[self._row(actor.slot)]
        return place

    def _wait(self, actor: Actor, dice: Dice) -> int | None:
        obj, w, row = self.obj(0), self.w, self._row(actor.slot)
        timeout = (0.003, 0.02, 0.1)[dice(3)]
        w[row + 2] = w[row + 1]  # one before may have died in it
        w[row + 1] += 1
        rows = [(w[self._row(slot)], w[self._row(slot) + 2]) for slot in range(self.board.slots)]
        places = [w[self._places + n] for n in range(self.PARTIES)]
        actor.begin(ARRIVE, obj, int(timeout * 1e9))
        number = -1
        try:
            number = self.barrier.wait(timeout)
        except syncx.BrokenBarrierError:
            actor.end(ARRIVE, obj, -1)
            self._mend(actor)
        except RuntimeError:  # all places are enrolled ones'
            actor.end(ARRIVE, obj, -1)
        else:
            actor.end(ARRIVE, obj, number)
            self._look(actor, number, rows, places)
        w[row + 2] += 1
        return number if number >= 0 else None

    def _look(self, actor: Actor, number: int, rows: list[tuple[int, int]], places: list[int]) -> None:
        """Who was enrolled before, is still, lives and has not come?  And whose place is it?"""
        for slot, (enrolment, ended) in enumerate(rows):
            at, token = self._row(slot), self._thread(enrolment)
            away = self.w[at + 1] == ended
            if token not in (0, actor.token) and away and self.w[at] == enrolment and not self.board.gone(token):
                actor.complain(f"enrolment: a round went on without {token:#x}, which is enrolled")
        enrolment = places[number]
        owner, still = self._thread(enrolment), self.w[self._places + number] == enrolment
        if owner not in (0, actor.token) and still and not self.board.gone(owner):
            actor.complain(f"enrolment: a wait returned {number}, the place of {owner:#x}, which is enrolled")

    def _mend(self, actor: Actor) -> None:
        if self.barrier.broken:
            with actor.written(RESET, self.obj(0)):
                self.barrier.reset()

    def settle(self, actor: Actor) -> None:
        self.barrier.reset()
        if self.barrier.broken or self.barrier.n_waiting:
            actor.complain(f"enrolment: after a reset it is {self.barrier!r}")
