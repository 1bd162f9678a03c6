"""Scenes of what is counted: Semaphore, BoundedSemaphore, Latch."""

from __future__ import annotations

import contextlib
from typing import Any

import syncx

from .actor import DOWN, TAKE, UP, WAIT, Actor
from .dice import Dice
from .scenes import Scene

__all__ = ["Bounded", "Latches", "Semaphores"]


class Semaphores(Scene):
    """Units that nobody owns: what is taken was given before.

    Each thread counts, in words of its own, what it has begun to give, has given, has begun to take, has taken, and
    has not got.
    """

    topic = "semaphore"
    number = 2

    def open(self) -> None:
        self.semaphores = [
            self.stage.make(self.topic, syncx.Semaphore, 2, name=f"semaphore {i}", arena=self.stage.arena)
            for i in range(2)
        ]

    def _row(self, i: int, slot: int) -> int:
        return self.base + 2 + (i * self.board.slots + slot) * 5

    def _sum(self, i: int, which: int) -> int:
        return sum(self.w[self._row(i, slot) + which] for slot in range(self.board.slots))

    def prepare(self) -> None:
        """How many units there are at the beginning of the round."""
        for i, semaphore in enumerate(self.semaphores):
            self.w[self.base + i] = semaphore.value

    def play(self, actor: Actor, dice: Dice) -> None:
        i, n = dice(2), 1 + dice(2)
        semaphore, row, w, obj = self.semaphores[i], self._row(i, actor.slot), self.w, self.obj(i)
        if dice(2) and semaphore.value < 12:
            w[row] += n
            actor.begin(UP, obj, n)
            actor.point()
            semaphore.release(n)
            actor.end(UP, obj, n)
            w[row + 1] += n
            return
        w[row + 2] += n
        actor.begin(DOWN, obj, n)
        got = semaphore.acquire(n=n, timeout=(0.0, 0.001, 0.01, 0.03, 0.25)[dice(5)])
        actor.end(DOWN, obj, n, int(got))
        w[row + 3 + (not got)] += n
        taken = self._sum(i, 3)  # before what was given is looked at: both only grow
        given = self._sum(i, 0)
        if taken > self.w[self.base + i] + given:
            actor.complain(f"semaphore {i}: {taken} units were taken of {self.w[self.base + i]} and {given}")

    def settle(self, actor: Actor) -> None:
        for i, semaphore in enumerate(self.semaphores):
            giving, given, taking, taken, failed = (self._sum(i, which) for which in range(5))
            least = self.w[self.base + i] + given - (taking - failed)
            most = self.w[self.base + i] + giving - taken
            if not least <= semaphore.value <= most:
                actor.complain(f"semaphore {i}: {semaphore.value} units are there, and it should be {least} to {most}")


class Bounded(Scene):
    """Permits with owners.  A word of each slot says who has how many: a version, the thread, the number.

    All three in one word: it may be read while it changes hands, and whoever is killed leaves it whole.
    """

    topic = "bounded"
    number = 3
    CAPACITY = (3, 2)

    def open(self) -> None:
        self.semaphores = [
            self.stage.make(self.topic, syncx.BoundedSemaphore, n, name=f"bounded {i}", arena=self.stage.arena)
            for i, n in enumerate(self.CAPACITY)
        ]

    def _words(self, i: int) -> range:
        start = self.base + i * self.board.slots
        return range(start, start + self.board.slots)

    def play(self, actor: Actor, dice: Dice) -> None:
        i, n = dice(2), 1 + (dice(5) == 0)
        semaphore, obj, at = self.semaphores[i], self.obj(i), self._words(i)[actor.slot]
        several: dict[str, Any] = {"n": n} if n > 1 else {}
        if actor.take(semaphore, obj, dice, units=n, **several) is None:
            return
        actor.point()
        version = (self.w[at] >> 40) + 1 & 0x3FFFFF
        self.w[at] = version << 40 | actor.token << 8 | n
        actor.point()
        self._look(actor, i)
        actor.linger(dice)
        actor.point()
        self.w[at] = version << 40 | actor.token << 8
        actor.give(semaphore, obj, n)

    def _held(self, i: int) -> tuple[list[int], int]:
        """All the words, and how many permits the living have by them."""
        seen, held = [], 0
        for at in self._words(i):
            word = self.w[at]
            seen.append(word)
            if word & 0xFF and not self.board.gone(word >> 8 & 0xFFFFFFFF):
                held += word & 0xFF
        return seen, held

    def _look(self, actor: Actor, i: int) -> None:
        """Too many, in two looks between which nobody changed anything: then it was so at one instant."""
        if sum(self.w[at] & 0xFF for at in self._words(i)) <= self.CAPACITY[i]:
            return
        before, held = self._held(i)
        after, again = self._held(i)
        if before == after and min(held, again) > self.CAPACITY[i]:
            tokens = [word >> 8 & 0xFFFFFFFF for word in after if word & 0xFF]
            who = ", ".join(f"{t:#x} ({self.board.describe(t)})" for t in tokens)
            actor.complain(f"bounded {i}: {held} permits of {self.CAPACITY[i]} are held at once: by {who}")

    def settle(self, actor: Actor) -> None:
        for i, semaphore in enumerate(self.semaphores):
            n = self.CAPACITY[i]
            actor.begin(TAKE, self.obj(i), n)
            if not semaphore.acquire(n=n, timeout=20):
                actor.end(TAKE, self.obj(i), 0)
                actor.complain(
                    f"bounded {i}: nobody is left, and {semaphore.value} permits of {n} are free: {semaphore!r}"
                )
                continue
            actor.taken(semaphore, self.obj(i), units=n)
            actor.give(semaphore, self.obj(i), n)
            if semaphore.value != n:
                actor.complain(f"bounded {i}: nobody is left, and {semaphore.value} permits of {n} are free")


class Latches(Scene):
    """One latch after the other: whoever finds it open makes the next one, under a mutex.

    Words: which one it is; then of each slot for which one, how many counts it has begun, how many it has done.
    """

    topic = "latch"
    number = 9
    COUNT = 12

    def open(self) -> None:
        self._guard = syncx.Mutex("latches", arena=self.stage.arena)

    def prepare(self) -> None:
        """The first of the round."""
        self._new(0)

    def _new(self, number: int) -> None:
        self.stage.make(self.topic, syncx.Latch, self.COUNT, name=f"latch {number}", arena=self.stage.arena)

    def _row(self, slot: int) -> int:
        return self.base + 1 + 3 * slot

    def _sum(self, number: int, which: int) -> int:
        rows = (self._row(slot) for slot in range(self.board.slots))
        return sum(self.w[row + which] for row in rows if self.w[row] == number)

    def play(self, actor: Actor, dice: Dice) -> None:
        number = self.w[self.base]
        try:
            latch = self.stage.make(
                self.topic, syncx.Latch, name=f"latch {number}", arena=self.stage.arena, create=False
            )
        except FileNotFoundError:
            return  # it is past
        try:
            if latch.count == 0:
                self._next(actor, number)
            elif dice(2):
                self._count_down(actor, latch, number)
            else:
                self._wait(actor, latch, number, (0.0, 0.005, 0.05)[dice(3)])
        except syncx.Gone:
            return  # it is past

    def _count_down(self, actor: Actor, latch: syncx.Latch, number: int) -> None:
        row, w = self._row(actor.slot), self.w
        if w[row] != number:
            w[row + 1] = w[row + 2] = 0
            w[row] = number
        w[row + 1] += 1
        actor.begin(DOWN, self.obj(0), 1, number)
        actor.point()
        try:
            latch.count_down()
        except (ValueError, syncx.Gone):  # it is open already
            actor.end(DOWN, self.obj(0), 0, number)
            w[row + 1] -= 1
            return
        actor.end(DOWN, self.obj(0), 1, number)
        w[row + 2] += 1

    def _wait(self, actor: Actor, latch: syncx.Latch, number: int, timeout: float) -> None:
        w = self.w
        done = self._sum(number, 2) if w[self.base] == number else 0
        actor.begin(WAIT, self.obj(0), int(timeout * 1e9), number)
        try:
            opened = latch.wait(timeout)
        except syncx.Gone:
            actor.end(WAIT, self.obj(0), 2, number)
            return
        actor.end(WAIT, self.obj(0), int(opened), number)
        if not opened and done >= self.COUNT:
            actor.complain(f"latch {number}: {done} counts were done before, and a wait for it was in vain")
        begun = self._sum(number, 1)
        if opened and begun < self.COUNT and w[self.base] == number:
            actor.complain(f"latch {number}: it is open after {begun} counts of {self.COUNT}")

    def _next(self, actor: Actor, number: int) -> None:
        with self._guard:
            if self.w[self.base] != number:
                return
            self._new(number + 1)
            actor.point()
            self.w[self.base] = number + 1
        with contextlib.suppress(FileNotFoundError):
            self.stage.arena.unlink(f"latch {number}", force=True)

    def settle(self, actor: Actor) -> None:
        """The last one is opened, and all are removed."""
        number = self.w[self.base]
        latch = self.stage.make(self.topic, syncx.Latch, self.COUNT, name=f"latch {number}", arena=self.stage.arena)
        begun, done = self._sum(number, 1), self._sum(number, 2)
        if not done <= self.COUNT - latch.count <= begun:
            actor.complain(f"latch {number}: {latch.count} are left of {self.COUNT}, {done} were done, {begun} begun")
        if latch.count:
            latch.count_down(latch.count)
        if not latch.wait(20):
            actor.complain(f"latch {number}: it has come to 0, and is not open")
        latch.close()
        for o in list(self.stage.arena.objects()):
            if o.name is not None and o.name.startswith("latch "):
                self.stage.arena.unlink(o.name, force=True)
