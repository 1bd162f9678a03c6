"""The scene of deadlocks: locks that are taken in any order, without a time limit."""

from __future__ import annotations

from typing import Any

import syncx

from .actor import Actor
from .dice import Dice
from .locks import Mutexes
from .scenes import Canary

__all__ = ["Knots"]


class Knots(Mutexes):
    """Three mutexes, of which each thread takes two; a deadlock has to be told to one of its members, and a verdict to
    be true.

    Words: of each the canary; then of each slot what it waits for without a time limit, and 1.
    """

    topic = "deadlock"
    number = 13

    def made(self) -> list[Any]:
        self._waits = self.base + 3 * Canary.words(self.board.slots)
        options = {"arena": self.stage.arena, "deadlock": "raise"}
        return [self.stage.make(self.topic, syncx.Mutex, f"{self.topic} {i}", **options) for i in range(3)]

    def play(self, actor: Actor, dice: Dice) -> None:
        first = dice(3)
        told = actor.take(self.locks[first], self.obj(first), dice)
        if told is None:
            return
        actor.holds = True
        actor.point()
        self.canaries[first].enter(actor, told)
        actor.linger(dice)
        self._second(actor, dice, (first + 1 + dice(2)) % 3)
        self.canaries[first].work(actor, dice)
        self.canaries[first].leave(actor)
        actor.holds = False
        actor.give(self.locks[first], self.obj(first))

    def _second(self, actor: Actor, dice: Dice, i: int) -> None:
        lock, obj, waits = self.locks[i], self.obj(i), self._waits + actor.slot
        deaths = self.board.deaths()
        self.w[waits] = i + 1
        try:
            told = actor.take(lock, obj, dice, deadlocks=True)
        except syncx.DeadlockError:
            self._judge(actor, i, deaths)
            return
        finally:
            self.w[waits] = 0
        if told is None:
            return
        self.canaries[i].enter(actor, told)
        self.canaries[i].work(actor, dice)
        self.canaries[i].leave(actor)
        actor.give(lock, obj)

    def _judge(self, actor: Actor, i: int, deaths: int) -> None:
        """Its fellows wait still, since it holds what it holds: from one to the next the way must come back here."""
        way = []
        for _ in range(3):
            holder = self.w[self.canaries[i].at]
            way.append(f"lock {i} of {holder:#x}")
            if holder == actor.token:
                return
            waits = self.w[self._waits + (holder & 0xFFFF) - 1] if holder else 0
            if not waits:
                break
            i = waits - 1
        if self.board.deaths() == deaths:
            actor.complain(f"deadlock: told of one, and it does not come round: {', '.join(way)}, who waits for none")
