"""Scenes of what one holds at a time, or many read: Mutex, RLock, RWLock."""

from __future__ import annotations

import mmap
import os
from typing import Any

import syncx

from .actor import EXCLUSIVE, GIVE, SHARED, TAKE, UPGRADABLE, Actor
from .dice import FORK, Dice
from .scenes import Canary, Scene

__all__ = ["Mutexes", "Placed", "RLocks", "RWLocks"]

_POLICIES: tuple[Any, ...] = ("recover", "raise", Actor.hear)
"""What is done of an owner's death: the lock tells, raises, or calls."""


class _Left(Exception):
    """Ends a body before its time."""


class Mutexes(Scene):
    topic = "mutex"
    default: Any = syncx.Mutex

    def open(self) -> None:
        self.locks = self.made()
        size = Canary.words(self.board.slots)
        self.canaries = [Canary(self.board, self.base + i * size, f"{self.topic} {i}") for i in range(3)]

    def made(self) -> list[Any]:
        """Three locks."""
        options = {"arena": self.stage.arena}
        return [
            self.stage.make(self.topic, self.default, f"{self.topic} {i}", on_owner_death=_POLICIES[i], **options)
            for i in range(3)
        ]

    def play(self, actor: Actor, dice: Dice) -> None:
        i = dice(3)
        lock, obj = self.locks[i], self.obj(i)
        if dice(3) == 0:
            self._by_with(actor, dice, lock, obj, i)
            return
        told = actor.take(lock, obj, dice)
        if told is None:
            return
        actor.holds = True
        self.inside(actor, dice, lock, told, i)
        actor.holds = False
        actor.give(lock, obj)

    def _by_with(self, actor: Actor, dice: Dice, lock: Any, obj: int, i: int) -> None:
        """One body in four raises where a death was told: then the mark of a death stays for the next."""
        actor.begin(TAKE, obj)
        try:
            with lock:
                told = actor.taken(lock, obj)
                self.inside(actor, dice, lock, told, i)
                keep = int(bool(told) and lock.owner_died and dice(4) == 0)
                actor.begin(GIVE, obj, 0, keep)
                if keep:
                    raise _Left
        except _Left:
            pass
        except syncx.OwnerDiedError:
            actor.end(TAKE, obj, 2)
            told_now = actor.recover(lock, obj, EXCLUSIVE)
            if told_now is None:
                return
            self.inside(actor, dice, lock, told_now, i)
            actor.begin(GIVE, obj)
            lock.release()
        actor.end(GIVE, obj)

    def inside(self, actor: Actor, dice: Dice, lock: Any, told: int, i: int) -> None:
        actor.point()
        canary = self.canaries[i]
        canary.enter(actor, told)
        canary.work(actor, dice)
        if actor.fate == FORK:
            self._fork(actor, lock)
        canary.leave(actor)

    def _fork(self, actor: Actor, lock: Any) -> None:
        """A child forked inside holds nothing."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                lock.release()
            except syncx.NotOwner:
                status = 0
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status > 0:
            actor.complain(f"{self.topic}: a child forked inside could release the lock, or another exception came")

    def settle(self, actor: Actor) -> None:
        for i, lock in enumerate(self.locks):
            actor.begin(TAKE, self.obj(i))
            try:
                told = actor.taken(lock, self.obj(i)) if lock.acquire(timeout=20) else None
            except syncx.OwnerDiedError:
                actor.end(TAKE, self.obj(i), 2)
                told = actor.recover(lock, self.obj(i), EXCLUSIVE)
            if told is None:
                actor.end(TAKE, self.obj(i), 0)
                actor.complain(f"{self.topic} {i}: nobody is left, and it is not to be had")
                continue
            self.canaries[i].enter(actor, told)
            self.canaries[i].settle(actor)
            self.canaries[i].leave(actor)
            actor.give(lock, self.obj(i))


class Placed(Mutexes):
    """Mutexes in other places: in memory without a name, in a mapped file, and one that was never given a name."""

    topic = "placed"
    number = 12

    def made(self) -> list[Any]:
        path = os.path.join(self.stage.directory, "memory")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, mmap.PAGESIZE)
            mapped = mmap.mmap(fd, mmap.PAGESIZE)
        finally:
            os.close(fd)
        at, without, options = syncx.Mutex.at, self.stage.inherited, {"arena": self.stage.arena}
        if self.topic not in without:
            without[self.topic] = self.stage.make(self.topic, syncx.Mutex, on_owner_death=_POLICIES[2], **options)
        return [
            self.stage.make(self.topic, at, self.stage.memory, 512, on_owner_death=_POLICIES[0], **options),
            self.stage.make(self.topic, at, mapped, 1024, on_owner_death=_POLICIES[1], **options),
            without[self.topic],
        ]


class RLocks(Mutexes):
    topic = "rlock"
    number = 1
    default = syncx.RLock

    def inside(self, actor: Actor, dice: Dice, lock: Any, told: int, i: int) -> None:
        actor.point()
        depth = dice(3)
        for _ in range(depth):
            lock.acquire()
        self.canaries[i].enter(actor, told)
        self.canaries[i].work(actor, dice)
        if lock.depth != depth + 1:
            actor.complain(f"rlock {i}: its depth is {lock.depth}, and it was taken {depth + 1} times")
        for _ in range(depth):
            lock.release()
            actor.point()
        self.canaries[i].leave(actor)


class RWLocks(Scene):
    topic = "rwlock"
    number = 5

    def open(self) -> None:
        self.locks = [
            self.stage.make(
                self.topic, syncx.RWLock, f"rwlock {i}", arena=self.stage.arena, on_owner_death=_POLICIES[2 * i]
            )
            for i in range(2)
        ]
        size = Canary.words(self.board.slots)
        self.canaries = [Canary(self.board, self.base + i * size, f"rwlock {i}") for i in range(2)]

    def play(self, actor: Actor, dice: Dice) -> None:
        i, how = dice(2), dice(10)
        rw, obj, canary = self.locks[i], self.obj(i), self.canaries[i]
        if how < 5:
            if actor.take(rw.read(), obj, dice, SHARED) is not None:
                actor.point()
                canary.read(actor, dice)
                actor.give(rw.read(), obj)
        elif how < 8:
            told = actor.take(rw.write(), obj, dice, EXCLUSIVE)
            if told is not None:
                self._write(actor, dice, i, told)
                if how == 7:
                    actor.begin(GIVE, obj, 0, 0, SHARED)  # the rest of it is a reading
                    rw.write().downgrade()
                    actor.end(GIVE, obj)
                    actor.begin(TAKE, obj, 1, SHARED)
                    actor.end(TAKE, obj, 1, SHARED)
                    canary.read(actor, dice)
                    actor.give(rw.write(), obj)  # what would have ended the write
                else:
                    actor.give(rw.write(), obj)
        else:
            self._upgradable(actor, dice, i, how == 9)

    def _write(self, actor: Actor, dice: Dice, i: int, told: int) -> None:
        actor.point()
        self.canaries[i].enter(actor, told)
        self.canaries[i].work(actor, dice)
        self.canaries[i].leave(actor)

    def _upgradable(self, actor: Actor, dice: Dice, i: int, upgrade: bool) -> None:
        rw, obj = self.locks[i], self.obj(i)
        view = rw.upgradable()
        told = actor.take(view, obj, dice, UPGRADABLE)
        if told is None:
            return
        if told:  # a writer died, and nobody reads before it is repaired; only a writer may
            upgrade = True
        else:
            self.canaries[i].read(actor, dice)
        if upgrade:
            actor.begin(GIVE, obj)
            actor.end(GIVE, obj)
            actor.begin(TAKE, obj, 1, EXCLUSIVE)
            view.upgrade()
            actor.end(TAKE, obj, 1, EXCLUSIVE, told)
            self._write(actor, dice, i, told)
        actor.give(view, obj)

    def settle(self, actor: Actor) -> None:
        for i, rw in enumerate(self.locks):
            actor.begin(TAKE, self.obj(i))
            if not rw.write().acquire(timeout=20):
                actor.end(TAKE, self.obj(i), 0)
                actor.complain(f"rwlock {i}: nobody is left, and it is not to be had for writing")
                continue
            told = actor.taken(rw.write(), self.obj(i))
            self.canaries[i].enter(actor, told)
            self.canaries[i].settle(actor)
            self.canaries[i].leave(actor)
            actor.give(rw.write(), self.obj(i))
