"""A philosopher of `syncx demo deadlock`: `python -m syncx.demo_dine NAME`, one process each.

demo_deadlock.py seats them, and tells what happens.  The two talk in lines of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any

from . import _core
from .arena import Arena
from .errors import DeadlockError
from .event import Event
from .mutex import Mutex

__all__ = ["Philosopher", "fork_name"]


def fork_name(number: int) -> str:
    """The forks are counted from 1."""
    return f"fork {number + 1}"


class Philosopher:
    """Sits between two forks, and needs both to eat."""

    def __init__(self, arena: Arena, seat: int, seats: int) -> None:
        self.numbers = seat, (seat + 1) % seats
        self.left, self.right = (Mutex(fork_name(n), arena=arena) for n in self.numbers)
        self.somebody_ate = Event("somebody ate", arena=arena)
        self.meals = 0

    def eat(self) -> None:
        self.meals += 1

    def dine(self) -> None:
        """The left fork first, then the right one: what everybody does, and what goes wrong."""
        try:
            with self.left:
                tell("has", fork=self.left.name)
                listen()  # until all have one
                with self.right:
                    self.eat()
        except DeadlockError as error:  # the left fork is given back by now
            tell("told", message=str(error), members=len(error.cycle))
            self.somebody_ate.wait()  # to take it again at once might be to take it before the neighbour wakes
            with self.left:
                with self.right:
                    self.eat()
        self.somebody_ate.set()
        tell("ate", meals=self.meals)

    def dine_in_order(self, times: int) -> None:
        """The fork with the lower number first: whoever has the highest of those that are taken waits for nobody."""
        first, second = (self.left, self.right) if self.numbers[0] < self.numbers[1] else (self.right, self.left)
        for _ in range(times):
            with first:
                with second:
                    self.eat()
        tell("ate", meals=self.meals)


def tell(event: str, **more: Any) -> None:
    """Tells the demo what has happened."""
    os.write(1, json.dumps({"event": event, **more}).encode() + b"\n")


def listen() -> Any:
    """What the demo says next; ends with it."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            sys.exit(1)
        line += byte
    return json.loads(line)


def main(name: str) -> None:
    """What the process does, when it has been told where to sit."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the demo's, which ends us
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])
    threading.current_thread().name = name
    seat = listen()
    # who finds a deadlock writes a byte, and goes on when there is one to read: so there is time to look at it
    _core._set_verdict_hook(seat["says"], seat["hears"])
    with Arena(seat["arena"], create=False) as arena:
        philosopher = Philosopher(arena, seat["number"], seat["of"])
        tell("seated")
        listen()
        philosopher.dine()
        times = listen()
        philosopher.dine_in_order(times)
        listen()


if __name__ == "__main__":
    main(sys.argv[1])
