"""What is played, and the first of the two judges: counters and canaries in the memory that all share.

A scene is a topic: its objects, one operation on them, and what must be true of the words beside them.  It knows
nothing of the journals but that it writes them; what they say is judged by replay.py, which knows nothing of these
words.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

import syncx

from .actor import Actor
from .board import Board
from .dice import Dice

__all__ = ["Canary", "Scene", "Stage", "words"]

Kit = dict[str, Callable[..., Any]]
"""What makes the objects, by topic; tests put broken ones in."""


def words(slots: int) -> int:
    """Of each topic, where so many threads play: none needs more than a few, and ten for each thread."""
    return 64 + 12 * slots


class Stage:
    """Where a scene is played: the arena, a directory for files, and what makes the objects."""

    def __init__(self, arena: syncx.Arena, directory: str, board: Board, kit: Kit) -> None:
        self.arena, self.directory, self.board, self.kit = arena, directory, board, kit
        self.memory = mmap.mmap(-1, mmap.PAGESIZE)
        """Without a name, for objects that are placed in it: those who are forked have it too."""
        self.inherited: dict[str, Any] = {}
        """Objects without a name: made by the first who opens a scene, and known to those whom it forks."""

    def make(self, topic: str, default: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return self.kit.get(topic, default)(*arguments, **options)


class Scene:
    """One topic.  Each process has its own; the words are common to all."""

    topic = ""
    number = 0
    """Of the topic: an object is number * 16 + its index, in the journals."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.board, self.w = stage, stage.board, stage.board.w
        self.base = stage.board.objects + self.number * words(stage.board.slots)
        self.open()

    def open(self) -> None:
        """Opens the objects, or makes them."""
        raise NotImplementedError

    def prepare(self) -> None:
        """All words are 0, and nobody plays yet."""

    def play(self, actor: Actor, dice: Dice) -> None:
        """One operation."""
        raise NotImplementedError

    def settle(self, actor: Actor) -> None:
        """Everybody has gone: what must be true now?"""
        raise NotImplementedError

    def obj(self, index: int) -> int:
        return self.number * 16 + index


class Canary:
    """Words that one thread at a time may touch: who is inside, and a number written twice, in two steps.

    After them a row of words, one for each slot: who reads.
    """

    def __init__(self, board: Board, at: int, name: str) -> None:
        self.board, self.w, self.at, self.name = board, board.w, at, name
        self._readers, self._done = at + 4, at + 4 + board.slots

    @staticmethod
    def words(slots: int) -> int:
        return 4 + 2 * slots

    def enter(self, actor: Actor, told: int | None) -> None:
        """told: what the lock said of a death; None: it says nothing of deaths; 2 (UNTOLD): it does not say."""
        inside, w = self.w[self.at], self.w
        if inside:
            if not self.board.gone(inside):
                actor.complain(f"{self.name}: two holders at once: thread {inside:#x} is inside and alive")
            elif told == 0:
                actor.complain(f"{self.name}: the death of its holder {inside:#x} was not told to the next one")
        elif w[self.at + 1] != w[self.at + 2]:
            actor.complain(f"{self.name}: torn, {w[self.at + 1]} and {w[self.at + 2]}, though nobody died inside")
        if told == 1 and not self.board.deaths():
            actor.complain(f"{self.name}: a death was told, and nobody has died in this round")
        for slot in range(self.board.slots):
            reader = w[self._readers + slot]
            if reader and not self.board.gone(reader) and w[self._readers + slot] == reader:
                actor.complain(f"{self.name}: a writer is inside beside the reader {reader:#x}")
        w[self.at] = actor.token
        w[self.at + 2] = w[self.at + 1]

    def work(self, actor: Actor, dice: Dice) -> None:
        """One is added, in steps that somebody else between them would spoil."""
        w, at = self.w, self.at
        actor.point()
        number = w[at + 1] + 1
        w[at + 1] = number
        actor.point()
        actor.linger(dice)
        if w[at] != actor.token or w[at + 1] != number or w[at + 2] != number - 1:
            found = f"{w[at]:#x}, {w[at + 1]}, {w[at + 2]}"
            actor.complain(f"{self.name}: somebody else was inside: {found} in place of {actor.token:#x}, {number}")
        w[at + 2] = number
        w[self._done + actor.slot] += 1
        actor.point()

    def leave(self, actor: Actor) -> None:
        self.w[self.at] = 0
        actor.point()

    def read(self, actor: Actor, dice: Dice) -> None:
        """Beside other readers."""
        w, at, mine = self.w, self.at, self._readers + actor.slot
        w[mine] = actor.token
        actor.point()
        writer = w[at]
        if writer and not self.board.gone(writer):
            actor.complain(f"{self.name}: a reader is inside beside the writer {writer:#x}")
        first, second = w[at + 1], w[at + 2]
        actor.linger(dice)
        if (w[at + 1], w[at + 2]) != (first, second) or (first != second and not writer):
            actor.complain(f"{self.name}: it changed while it was read: {first}, {second}")
        actor.point()
        w[mine] = 0

    def settle(self, actor: Actor) -> None:
        """Was every addition kept?  Those who died inside added one each, at most."""
        self.settle_number(actor, self.w[self.at + 1])

    def settle_number(self, actor: Actor, number: int) -> None:
        """That number, to which each who worked inside has added one."""
        added = sum(self.w[self._done + slot] for slot in range(self.board.slots))
        deaths = sum(self.board.serial(slot) for slot in range(self.board.slots))
        if not added <= number <= added + deaths:
            actor.complain(f"{self.name}: {added} were added, and the number is {number}")
