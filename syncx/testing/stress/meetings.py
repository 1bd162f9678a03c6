"""Scenes of those who wait for each other: Condition, Event, Barrier, Once."""

from __future__ import annotations

from typing import Any

import syncx

from .actor import ACTION, ARRIVE, BODY, CLEAR, GET, NOTIFY, PUT, RUN, SET, TAKE, WAIT, Actor
from .dice import Dice
from .scenes import Canary, Scene

__all__ = ["Barriers", "Conditions", "Events", "Onces"]


class Conditions(Scene):
    """A buffer with room for 8: who finds it empty waits.  One condition has a lock of its own, the other a Mutex.

    Words: of each condition the canary of its lock, then how many were put and taken, how often was notified, and the
    buffer.
    """

    topic = "condition"
    number = 4
    ROOM = 8

    def open(self) -> None:
        arena = self.stage.arena
        lock = syncx.Mutex("lock of condition 1", arena=arena)
        self.conditions = [
            self.stage.make(self.topic, syncx.Condition, name="condition 0", arena=arena),
            self.stage.make(self.topic, syncx.Condition, lock, name="condition 1", arena=arena),
        ]
        size = Canary.words(self.board.slots) + 3 + self.ROOM
        self._bases = [self.base + i * size for i in range(2)]
        self.canaries = [Canary(self.board, at, f"condition {i}") for i, at in enumerate(self._bases)]
        self._buffers = [at + Canary.words(self.board.slots) for at in self._bases]

    def play(self, actor: Actor, dice: Dice) -> None:
        i = dice(2)
        condition, obj = self.conditions[i], self.obj(i)
        told = actor.take(condition, obj, dice)
        if told is None:
            return
        if dice(2):
            self._enter(actor, dice, i, told)
            self._put(actor, dice, i, condition)
        else:
            self._enter(actor, dice, i, told)
            self._get(actor, dice, i, condition)
        actor.give(condition, obj)

    def _enter(self, actor: Actor, dice: Dice, i: int, told: int) -> None:
        actor.point()
        self.canaries[i].enter(actor, told)
        self.canaries[i].work(actor, dice)

    def _put(self, actor: Actor, dice: Dice, i: int, condition: Any) -> None:
        w, at = self.w, self._buffers[i]
        put = w[at]
        if put - w[at + 1] < self.ROOM:
            w[at + 3 + put % self.ROOM] = put * 7919 + i
            actor.journal_point(PUT, self.obj(i), put)
            w[at] = put + 1
            w[at + 2] += 1
            n = 1 + (dice(4) == 0) if dice(8) else 0
            actor.begin(NOTIFY, self.obj(i), n)
            condition.notify(n) if n else condition.notify_all()
            actor.end(NOTIFY, self.obj(i), n)
        self.canaries[i].leave(actor)

    def _get(self, actor: Actor, dice: Dice, i: int, condition: Any) -> None:
        w, at, obj = self.w, self._buffers[i], self.obj(i)
        timeout = (0.002, 0.01, 0.05, 0.3)[dice(4)]
        if w[at] == w[at + 1]:
            self.canaries[i].leave(actor)
            before = w[at + 2]
            actor.begin(WAIT, obj, int(timeout * 1e9))
            notified = condition.wait(timeout)
            told = int(condition.owner_died)
            actor.end(WAIT, obj, int(notified), 0, told)
            self._enter(actor, dice, i, told)
            if notified and w[at + 2] == before:
                actor.complain(f"condition {i}: nobody has notified, and a wait came to its end as if")
        if w[at] != w[at + 1]:
            taken = w[at + 1]
            if w[at + 3 + taken % self.ROOM] != taken * 7919 + i:
                actor.complain(f"condition {i}: item {taken} of the buffer is not what was put there")
            actor.journal_point(GET, obj, taken)
            w[at + 1] = taken + 1
        self.canaries[i].leave(actor)

    def settle(self, actor: Actor) -> None:
        for i, condition in enumerate(self.conditions):
            actor.begin(TAKE, self.obj(i))
            if not condition.acquire(timeout=20):
                actor.end(TAKE, self.obj(i), 0)
                actor.complain(f"condition {i}: nobody is left, and its lock is not to be had")
                continue
            told = actor.taken(condition, self.obj(i))
            self.canaries[i].enter(actor, told)
            self.canaries[i].settle(actor)
            put, taken = self.w[self._buffers[i]], self.w[self._buffers[i] + 1]
            if not 0 <= put - taken <= self.ROOM:
                actor.complain(f"condition {i}: {put} items were put and {taken} taken")
            self.canaries[i].leave(actor)
            actor.give(condition, self.obj(i))


class Events(Scene):
    """Set and cleared under a mutex, so that the words beside it can say what it is; waited for without.

    Words of each: a version, odd while somebody changes it; 1 where it is set; when that was done.
    """

    topic = "event"
    number = 6

    def open(self) -> None:
        arena = self.stage.arena
        self.events = [self.stage.make(self.topic, syncx.Event, f"event {i}", arena=arena) for i in range(2)]
        self._locks = [syncx.Mutex(f"of event {i}", arena=arena) for i in range(2)]

    def prepare(self) -> None:
        for i, event in enumerate(self.events):
            self.w[self.base + 3 * i + 1] = int(event.is_set())

    def play(self, actor: Actor, dice: Dice) -> None:
        i = dice(2)
        if dice(5) < 3:
            self._wait(actor, i, (0.0, 0.001, 0.01, 0.05, 0.3)[dice(5)])
        else:
            with self._locks[i]:
                self._change(actor, i, dice(3))

    def _change(self, actor: Actor, i: int, how: int) -> None:
        """0, 1: set or clear, whichever changes it; 2: set and clear at once."""
        w, at, event, obj = self.w, self.base + 3 * i, self.events[i], self.obj(i)
        w[at] |= 1
        is_set = w[at + 1]
        if how == 2 or not is_set:
            actor.begin(SET, obj)
            actor.point()
            event.set()
            t = actor.end(SET, obj)
            w[at + 1], w[at + 2] = 1, t
        if how == 2 or is_set:
            actor.point()
            actor.begin(CLEAR, obj)
            event.clear()
            actor.end(CLEAR, obj)
            w[at + 1] = 0
        # one that died in here left it odd, with words that may be old: the event itself says what it is now
        w[at + 1] = int(event.is_set())
        w[at] += 1

    def _wait(self, actor: Actor, i: int, timeout: float) -> None:
        w, at = self.w, self.base + 3 * i
        before = w[at]
        t = actor.begin(WAIT, self.obj(i), int(timeout * 1e9))
        happened = self.events[i].wait(timeout)
        actor.end(WAIT, self.obj(i), int(happened))
        version, is_set, since = w[at], w[at + 1], w[at + 2]
        if version & 1 or w[at] != version:
            return
        if not happened and is_set and 0 < since < t + int(timeout * 1e9):
            actor.complain(f"event {i}: it was set before the time was over, and is, and the wait was in vain")
        if happened and not is_set and version == before:
            actor.complain(f"event {i}: nobody has set it, and a wait for it came to its end")

    def settle(self, actor: Actor) -> None:
        for i, event in enumerate(self.events):
            actor.begin(SET, self.obj(i))
            event.set()
            actor.end(SET, self.obj(i))
            if not event.wait(0):
                actor.complain(f"event {i}: it is set, and a wait for it is in vain")


class Barriers(Scene):
    """Threads that meet, more than a barrier has places; who finds it broken makes it whole.

    The actions of two rounds may run at once: a round is broken while its action runs, and made whole by another
    thread.  Words of each, and each slot: how many actions it ran; how often it got through.
    """

    topic = "barrier"
    number = 7
    PARTIES = (2, 3)

    def open(self) -> None:
        self.barriers = [
            self.stage.make(
                self.topic, syncx.Barrier, n, lambda i=i: self._action(i), name=f"barrier {i}", arena=self.stage.arena
            )
            for i, n in enumerate(self.PARTIES)
        ]

    def _at(self, i: int, slot: int = 0) -> int:
        return self.base + (i * self.board.slots + slot) * 2

    def _sum(self, i: int, which: int) -> int:
        return sum(self.w[self._at(i, slot) + which] for slot in range(self.board.slots))

    def _action(self, i: int) -> None:
        actor = Actor.here()
        self.w[self._at(i, actor.slot)] += 1
        actor.journal_point(ACTION, self.obj(i), 0)
        actor.point()

    def play(self, actor: Actor, dice: Dice) -> None:
        i = dice(2)
        barrier, obj = self.barriers[i], self.obj(i)
        timeout = (0.002, 0.02, 0.1)[dice(3)]
        before = self._sum(i, 0)
        actor.begin(ARRIVE, obj, int(timeout * 1e9))
        try:
            number = barrier.wait(timeout)
        except syncx.BrokenBarrierError:
            actor.end(ARRIVE, obj, -1)
            if barrier.broken:
                barrier.reset()
            return
        actor.end(ARRIVE, obj, number)
        self.w[self._at(i, actor.slot) + 1] += 1
        if not 0 <= number < self.PARTIES[i]:
            actor.complain(f"barrier {i}: a wait returned {number} of {self.PARTIES[i]}")
        if self._sum(i, 0) == before:
            actor.complain(f"barrier {i}: a wait came to its end, and no round did")

    def settle(self, actor: Actor) -> None:
        for i, barrier in enumerate(self.barriers):
            rounds, through = self._sum(i, 0), self._sum(i, 1)
            if through > rounds * self.PARTIES[i]:
                actor.complain(f"barrier {i}: {through} got through in {rounds} rounds of {self.PARTIES[i]}")
            barrier.reset()
            if barrier.broken or barrier.n_waiting:
                actor.complain(f"barrier {i}: after a reset it is {barrier!r}")


class Onces(Scene):
    """One initialisation after the other: when one is done, whoever comes makes the next, under a mutex.

    Words: which one it is; who is inside its function; its result, once somebody has seen it.
    """

    topic = "once"
    number = 8

    def open(self) -> None:
        self._guard = syncx.Mutex("initialisations", arena=self.stage.arena)

    def play(self, actor: Actor, dice: Dice) -> None:
        number = self.w[self.base]
        once = self.stage.make(self.topic, syncx.Once, f"once {number}", arena=self.stage.arena)
        if self.w[self.base] != number:
            return  # this name may have been removed, and made again by us: the end of the round removes it
        obj = self.obj(0)
        actor.begin(RUN, obj, number)
        try:
            result = once.run(self._function, actor, dice, number)
        except (_Undone, syncx.Gone):
            actor.end(RUN, obj, number, 0)
            return
        actor.end(RUN, obj, number, 1, result)
        with self._guard:
            if self.w[self.base] != number:
                return
            if self.w[self.base + 2] not in (0, result):
                actor.complain(f"once {number}: one got {result:#x} and another {self.w[self.base + 2]:#x}")
            self.w[self.base + 2] = result
            if dice(4) == 0:
                self.w[self.base + 2] = self.w[self.base + 1] = 0
                self.w[self.base] = number + 1
                self.stage.arena.unlink(f"once {number}", force=True)

    def _function(self, actor: Actor, dice: Dice, number: int) -> int:
        obj, w, at = self.obj(0), self.w, self.base
        actor.begin(BODY, obj, number)
        if w[at] == number:
            inside = w[at + 1]
            if inside and not self.board.gone(inside):
                actor.complain(f"once {number}: its function runs twice at once")
            if w[at + 2] and w[at] == number:
                actor.complain(f"once {number}: its function runs, and it was done: {w[at + 2]:#x}")
            w[at + 1] = actor.token
        actor.point()
        actor.linger(dice)
        actor.point()
        if w[at] == number:
            w[at + 1] = 0
        undone = dice(4) == 0
        actor.end(BODY, obj, number, int(not undone))
        if undone:
            raise _Undone
        return actor.token << 24 | (number & 0xFFFFFF)

    def settle(self, actor: Actor) -> None:
        number = self.w[self.base]
        once = self.stage.make(self.topic, syncx.Once, f"once {number}", arena=self.stage.arena)
        if once.run(int, 7) not in (7, self.w[self.base + 2]) and self.w[self.base + 2]:
            actor.complain(f"once {number}: its result has changed")
        once.close()
        for o in list(self.stage.arena.objects()):
            if o.name is not None and o.name.startswith("once "):
                self.stage.arena.unlink(o.name, force=True)


class _Undone(Exception):
    """A function that fails: nothing is done."""
