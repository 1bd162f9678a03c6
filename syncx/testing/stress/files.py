"""Scenes of files: ranges, whole files, records that are appended, contents that are replaced."""

from __future__ import annotations

import os
import zlib
from typing import Any

import syncx

from .actor import APPEND, EXCLUSIVE, SHARED, UPDATE, Actor
from .dice import Dice
from .scenes import Canary, Scene

__all__ = ["Files", "Updates"]

_RECORD = 64


class Files(Scene):
    """Three ranges of a file, a file locked by flock(2), and a file of lines.

    A range has two numbers, written in two steps.  No lock tells of a death here: who comes after a dead one knows it
    by the words beside, and repairs.
    """

    topic = "files"
    number = 10

    def open(self) -> None:
        directory, arena = self.stage.directory, self.stage.arena
        path, whole = os.path.join(directory, "ranges"), os.path.join(directory, "whole")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.locks: list[tuple[Any, Any]] = []
        for i in range(3):
            pair = [
                self.stage.make(self.topic, syncx.RangeLock, path, _RECORD * i, _RECORD, shared=shared, arena=arena)
                for shared in (False, True)
            ]
            self.locks.append((pair[0], pair[1]))
        pair = [
            self.stage.make(self.topic, syncx.FileLock, whole, style="flock", shared=shared, arena=arena)
            for shared in (False, True)
        ]
        self.locks.append((pair[0], pair[1]))
        self._lines = os.path.join(directory, "lines")
        self._log = self.stage.make(self.topic, syncx.FileLock, self._lines, arena=arena)
        size = Canary.words(self.board.slots)
        self.canaries = [Canary(self.board, self.base + i * size, f"file lock {i}") for i in range(4)]
        self._appended = self.base + 4 * size
        self._cut = self._appended + self.board.slots
        """How often a writer died before it could say that its line was there."""

    def prepare(self) -> None:
        os.ftruncate(self._fd, 0)
        os.ftruncate(self._fd, 4 * _RECORD)
        os.truncate(self._lines, 0)

    def play(self, actor: Actor, dice: Dice) -> None:
        i = dice(5)
        if i == 4:
            self._append(actor)
            return
        shared = dice(2)
        lock, obj, canary = self.locks[i][shared], self.obj(i), self.canaries[i]
        if actor.take(lock, obj, dice, SHARED if shared else EXCLUSIVE) is None:
            return
        if shared:
            canary.read(actor, dice)
        else:
            inside = self.w[canary.at]
            canary.enter(actor, None)
            first, second = self._content(i)
            if first != second and not inside:
                actor.complain(f"file lock {i}: its content is torn, {first} and {second}, and nobody died inside")
            self._write(i, 0, first + 1)
            canary.work(actor, dice)
            self._write(i, 1, first + 1)
            canary.leave(actor)
        actor.give(lock, obj)

    def _content(self, i: int) -> tuple[int, int]:
        data = os.pread(self._fd, 40, _RECORD * i)
        return int(data[:20].strip(b"\0") or b"0"), int(data[20:].strip(b"\0") or b"0")

    def _write(self, i: int, half: int, number: int) -> None:
        os.pwrite(self._fd, b"%020d" % number, _RECORD * i + 20 * half)

    def _append(self, actor: Actor) -> None:
        at = self._appended + actor.slot
        number = self.w[at] >> 1
        self.w[self._cut + actor.slot] += self.w[at] & 1
        self.w[at] = (number + 1) << 1 | 1  # it is under way
        actor.begin(APPEND, self.obj(4), number + 1)
        actor.point()
        self._log.append(f"{actor.slot} {number + 1} " + "x" * (number % 50))
        actor.end(APPEND, self.obj(4), number + 1)
        self.w[at] = (number + 1) << 1

    def settle(self, actor: Actor) -> None:
        for i in range(4):
            lock, canary = self.locks[i][0], self.canaries[i]
            if not lock.acquire(timeout=20):
                actor.complain(f"file lock {i}: nobody is left, and it is not to be had")
                continue
            canary.enter(actor, None)
            canary.settle(actor)
            canary.leave(actor)
            lock.release()
        seen: dict[int, list[int]] = {}
        with self._log, open(self._lines, "rb") as f:
            for line in f:
                fields = line.split(b" ")
                if not line.endswith(b"\n"):
                    break  # the last one, of a dead writer
                if (
                    len(fields) != 3
                    or not fields[0].isdigit()
                    or not fields[1].isdigit()
                    or fields[2] != b"x" * ((int(fields[1]) - 1) % 50) + b"\n"
                ):
                    actor.complain(f"the file of lines has a torn one: {line[:80]!r}")
                    return
                seen.setdefault(int(fields[0]), []).append(int(fields[1]))
        for slot in range(self.board.slots):
            word, numbers = self.w[self._appended + slot], seen.get(slot, [])
            if len(set(numbers)) != len(numbers) or numbers != sorted(numbers):
                actor.complain(f"lines of slot {slot} are there twice, or not in order")
            acknowledged = set(range(1, (word >> 1) + (not word & 1)))
            if len(acknowledged - set(numbers)) > self.w[self._cut + slot]:
                actor.complain(f"lines of slot {slot} are lost: {word >> 1} were appended, {len(numbers)} are there")


class Updates(Scene):
    """A number in a file that is replaced as a whole; anybody may read it at any time."""

    topic = "update"
    number = 11

    def open(self) -> None:
        self._path = os.path.join(self.stage.directory, "number")
        self._update = self.stage.kit.get(self.topic, syncx.update)

    def prepare(self) -> None:
        with open(self._path, "w") as f:
            f.write(self._text(0))

    @staticmethod
    def _text(number: int) -> str:
        body = f"{number:020d}" * 40
        return f"{body} {zlib.crc32(body.encode()):010d}\n"

    def _read(self, actor: Actor) -> int:
        with open(self._path) as f:
            text = f.read()
        if len(text) != 812 or self._text(int(text[:20])) != text:
            actor.complain(f"update: the file is torn: {len(text)} bytes, {text[:40]!r}...")
            return 0
        return int(text[:20])

    def play(self, actor: Actor, dice: Dice) -> None:
        if dice(3):
            self._read(actor)
            return
        at = self.base + actor.slot * 2
        self.w[at] += 1
        actor.begin(UPDATE, self.obj(0))
        with self._update(self._path, arena=self.stage.arena) as f:
            number = self._read(actor) + 1
            actor.point()
            f.write(self._text(number))
            actor.point()
        actor.end(UPDATE, self.obj(0), number)
        self.w[at + 1] += 1

    def settle(self, actor: Actor) -> None:
        begun = sum(self.w[self.base + slot * 2] for slot in range(self.board.slots))
        done = sum(self.w[self.base + slot * 2 + 1] for slot in range(self.board.slots))
        number = self._read(actor)
        if not done <= number <= begun:
            actor.complain(f"update: {done} were done of {begun} begun, and the file says {number}")
