"""The scene of a file of records, each with a lock of its own."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import syncx

from .actor import EXCLUSIVE, GIVE, SHARED, TAKE, Actor
from .dice import Dice
from .scenes import Canary, Scene

__all__ = ["Records"]


class Records(Scene):
    """Four records, each a number: one of them or two neighbours are taken, to write or to read."""

    topic = "records"
    number = 14
    RECORDS = 4
    SIZE = 32

    def open(self) -> None:
        path, arena = os.path.join(self.stage.directory, "records"), self.stage.arena
        self.records = self.stage.make(self.topic, syncx.RecordLocks, path, self.SIZE, header=8, arena=arena)
        size = Canary.words(self.board.slots)
        self.canaries = [Canary(self.board, self.base + i * size, f"record {i}") for i in range(self.RECORDS)]

    def prepare(self) -> None:
        for i in range(self.RECORDS):
            self._write(i, 0)

    def _read(self, i: int) -> int:
        return int(self.records.read(i))

    def _write(self, i: int, number: int) -> None:
        self.records.write(i, b"%0*d" % (self.SIZE, number))

    def play(self, actor: Actor, dice: Dice) -> None:
        i, how = dice(self.RECORDS), dice(4)
        if how == 0:
            lock = self.records.shared(i)
            if actor.take(lock, self.obj(i), dice, SHARED) is not None:
                self.canaries[i].read(actor, dice)
                actor.give(lock, self.obj(i))
            return
        which = [i, i + 1] if how == 1 and i + 1 < self.RECORDS else [i]
        lock = self.records[i : i + 2] if len(which) > 1 else self.records[i]
        patience = None if dice(4) else 0.01 * dice(4)
        with self._calls(actor, TAKE, which, EXCLUSIVE) as ends:
            ends[0] = int(lock.acquire(timeout=patience))
        if not ends[0]:
            return
        for n in which:
            self._work(actor, dice, n)
        with self._calls(actor, GIVE, which):
            lock.release()

    @contextlib.contextmanager
    def _calls(self, actor: Actor, call: int, which: list[int], mode: int = 0) -> Any:
        """One call of several objects, in the journal."""
        ends = [0]
        for n in which:
            actor.begin(call, self.obj(n), 1 if call == TAKE else 0, mode if call == TAKE else 0)
        yield ends
        for n in reversed(which):
            actor.end(call, self.obj(n), ends[0], mode)

    def _work(self, actor: Actor, dice: Dice, n: int) -> None:
        canary = self.canaries[n]
        canary.enter(actor, None)
        self._write(n, self._read(n) + 1)
        canary.work(actor, dice)
        canary.leave(actor)

    def settle(self, actor: Actor) -> None:
        for i, canary in enumerate(self.canaries):
            lock = self.records[i]
            if not lock.acquire(timeout=20):
                actor.complain(f"record {i}: nobody is left, and it is not to be had")
                continue
            canary.enter(actor, None)
            canary.settle(actor)
            canary.settle_number(actor, self._read(i))
            canary.leave(actor)
            lock.release()
