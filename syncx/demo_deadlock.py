"""`syncx demo deadlock`: dining philosophers, each a process, get stuck, are told, and get to eat.

Between any two of them lies a fork, a Mutex with a name, and each needs both of its own (Dijkstra 1971).  When each has
taken the one on its left, nobody can take another.  The detector finds that the moment the last one begins to wait, and
tells one of them with a DeadlockError; that one gives its fork back, and all eat.  Then they dine again, and take the
fork with the lower number first: that way it cannot happen.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .arena import Arena
from .drawtext import write
from .errors import SyncxError
from .graph import picture_of
from .picture import Picture
from .terminal import Screen, duration
from .waitgraph import wait_graph

__all__ = ["Dinner", "main"]

PATIENCE = 60.0
"""Seconds after which something that should happen has failed to."""
FOUND = 20.0
"""The same of the verdict."""
TIMES = 2000
"""So often each eats in the second part."""
NAMES = (
    "Aristotle", "Bacon", "Confucius", "Descartes", "Epicurus", "Frege", "Gassendi", "Hypatia", "Ibn Sina", "James",
    "Kant", "Locke", "Mill", "Nagarjuna", "Ockham", "Plato",
)  # fmt: skip


def name_of(seat: int) -> str:
    """A philosopher's name; there are more seats than names."""
    again, number = divmod(seat, len(NAMES))
    return NAMES[number] + (f" {again + 1}" if again else "")


class Guest:
    """A philosopher's process, and what it has said."""

    def __init__(self, seat: dict[str, Any]) -> None:
        self.name = name_of(seat["number"])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "syncx.demo_dine", self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(seat["says"], seat["hears"]),
        )
        self._buffer = b""
        self.say(seat)

    def fileno(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def hear(self) -> list[dict[str, Any]]:
        """What it has said since; something must be there to read.  Raises SyncxError if it has ended."""
        piece = os.read(self.fileno(), 65536)
        if not piece:
            raise SyncxError(f"{self.name} (process {self.process.pid}) has left the table")
        *lines, self._buffer = (self._buffer + piece).split(b"\n")
        return [json.loads(line) for line in lines]

    def say(self, what: Any = None) -> None:
        """Tells it something: it waits for that to go on."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and `hear` will tell
            self.process.stdin.write(json.dumps(what).encode() + b"\n")
            self.process.stdin.flush()

    def leave(self) -> None:
        """Ends it, whatever it does."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@dataclass
class Dinner:
    """What came of it."""

    philosophers: int
    message: str = ""
    """Of the DeadlockError."""
    victim: str = ""
    members: int = 0
    """Threads that the DeadlockError tells of."""
    picture: Picture | None = None
    """Taken between the verdict and its delivery."""
    meals: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    """That the second part took."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "philosophers": self.philosophers,
            "told": self.victim,
            "message": self.message,
            "members": self.members,
            "meals": self.meals,
            "seconds": self.seconds,
            "graph": None if self.picture is None else self.picture.to_dict(),
        }


class Table:
    """Seats the philosophers, and listens to them."""

    def __init__(self, arena: Arena, seats: int, screen: Screen) -> None:
        self.arena = arena
        self.screen = screen
        self.guests: list[Guest] = []
        self.verdict, says = os.pipe()
        hears, self.hold = os.pipe()
        """As long as this is open, a deadlock that was found is told to nobody."""
        # blocked until they ignore it: Ctrl-C must not find them half started
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
        try:
            for number in range(seats):
                seat = {"arena": arena.path, "number": number, "of": seats, "says": says, "hears": hears}
                self.guests.append(Guest(seat))
        except BaseException:
            self.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(says)
            os.close(hears)

    def close(self) -> None:
        for guest in self.guests:
            guest.leave()
        for descriptor in (self.verdict, self.hold):
            if descriptor >= 0:
                os.close(descriptor)

    def all_say(self, event: str, other: Callable[[Guest, dict[str, Any]], None] | None = None) -> dict[str, Any]:
        """Until each has said that; returns what they said.  other: called for whatever else they say."""
        said: dict[str, Any] = {}
        end = time.monotonic() + PATIENCE
        while len(said) < len(self.guests):
            waiting = [g for g in self.guests if g.name not in said]
            ready, _, _ = select.select(waiting, [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise SyncxError(f"{' and '.join(g.name for g in waiting)}: nothing was heard for {PATIENCE:.0f} s")
            for guest in ready:
                for message in guest.hear():
                    if message["event"] == event:
                        said[guest.name] = message
                    elif other is not None:
                        other(guest, message)
        return said

    def go(self, what: Any = None) -> None:
        """Tells all to go on."""
        for guest in self.guests:
            guest.say(what)

    def until_verdict(self) -> None:
        """Until somebody has found a deadlock; or somebody has ended, which is an error."""
        end = time.monotonic() + FOUND
        while True:
            ready, _, _ = select.select([self.verdict, *self.guests], [], [], max(0.0, end - time.monotonic()))
            if self.verdict in ready:
                return
            if not ready:
                raise SyncxError(f"no deadlock was found in {FOUND:.0f} s")
            for guest in ready:
                for message in guest.hear():
                    raise SyncxError(f"{guest.name} says {message['event']!r}, and should be stuck")

    def release(self) -> None:
        """The victim may be told."""
        os.close(self.hold)
        self.hold = -1


def dine(philosophers: int, screen: Screen, svg: str | None = None) -> Dinner:
    """Has them dine in both ways.

    svg: where to put the picture of the deadlock.  Raises SyncxError if anything goes otherwise than it should.
    """
    dinner = Dinner(philosophers)
    with _own_arena() as arena, contextlib.closing(Table(arena, philosophers, screen)) as table:
        table.all_say("seated")
        screen.say(
            f"{philosophers} philosophers, each a process, take the fork on their left, then the one on their right:"
        )
        table.go()
        forks = {name: said["fork"] for name, said in table.all_say("has").items()}
        for guest in table.guests:
            screen.say(f"  {guest.name} (process {guest.process.pid}) has {forks[guest.name]}")
        table.go()
        table.until_verdict()
        screen.say("each has one fork, and waits for the one that its neighbour has:")
        screen.say()
        dinner.picture = picture_of(wait_graph(arena))
        write(dinner.picture, screen.stream)
        screen.say()
        if svg is not None:
            _draw(dinner.picture, svg)
            screen.say(f"the picture is in {svg}")
        table.release()
        _solve(table, dinner, screen)
        _dine_in_order(table, dinner, screen)
        table.go()
    return dinner


def _solve(table: Table, dinner: Dinner, screen: Screen) -> None:
    """One is told, and so all get to eat."""

    def told(guest: Guest, message: dict[str, Any]) -> None:
        if dinner.victim:
            raise SyncxError(f"{guest.name} was told too: {message['message']}")
        dinner.victim, dinner.message, dinner.members = guest.name, message["message"], message["members"]
        screen.say(f"{guest.name} is told, in a DeadlockError:", "bold red")
        for line in dinner.message.splitlines():
            screen.say(f"  {line}")

    dinner.meals = {name: said["meals"] for name, said in table.all_say("ate", told).items()}
    if not dinner.victim:
        raise SyncxError("nobody was told of the deadlock")
    screen.say()
    screen.say(f"{dinner.victim} gives its fork back, and all {dinner.philosophers} eat", "bold green")


def _dine_in_order(table: Table, dinner: Dinner, screen: Screen) -> None:
    screen.say()
    screen.say(f"now each takes the fork with the lower number first, {TIMES:,} times:")
    began = time.monotonic()
    table.go(TIMES)
    dinner.meals = {name: said["meals"] for name, said in table.all_say("ate").items()}
    dinner.seconds = time.monotonic() - began
    meals = sum(dinner.meals.values()) - dinner.philosophers
    screen.say(f"{meals:,} meals in {duration(dinner.seconds)}, and nobody was told of anything", "bold green")
    screen.say(
        "(SYNCX_ORDER=1 tells of an order like the first one when it is possible to get stuck, before anybody is)"
    )


def _draw(picture: Picture, path: str) -> None:
    from .drawing import svg

    with open(path, "w", encoding="utf-8") as f:
        f.write(svg(picture))


@contextlib.contextmanager
def _own_arena() -> Iterator[Arena]:
    """An arena for this run alone, removed at its end with all that is in it."""
    arena = Arena(f"demo-{os.getpid()}")
    try:
        yield arena
    finally:
        arena.unlink(force=True)
        arena.close()


def main(*, philosophers: int = 5, svg: str | None = None, as_json: bool = False) -> int:
    """The command: 0 when all went as it should."""
    screen = Screen(sys.stderr if as_json else sys.stdout)
    signal.signal(signal.SIGTERM, _terminated)
    dinner = dine(philosophers, screen, svg)
    if as_json:
        print(json.dumps(dinner.as_dict(), indent=2))
    return 0


def _terminated(number: int, frame: object) -> None:
    """SIGTERM cleans up as Ctrl-C does."""
    raise SystemExit(128 + number)
