"""What counts: semaphores and the latch."""

from __future__ import annotations

from typing import Any

from ..history import DEATH, Call
from ..search import Specification, State
from .common import NO, YES, Outcomes


class Semaphore(Specification):
    """A number; nobody owns its units, and a death takes none with it."""

    def initial(self) -> State:
        return self.parameters["value"]

    def apply(self, state: int, call: Call, stage: str) -> Outcomes:
        if call.name == DEATH:
            yield None, state
        elif call.name == "release":
            yield None, state + call.arguments[0]
        elif call.name == "value":
            yield (state,), state
        elif call.name == "acquire":
            if state >= call.arguments[0]:
                yield YES, state - call.arguments[0]
            else:
                yield NO, state, "late"


class BoundedSemaphore(Specification):
    """Permits that processes hold; the end of the process gives them back.  State: (process, permits) of the living,
    and the dead."""

    def initial(self) -> State:
        return (), frozenset()

    def apply(self, state: Any, call: Call, stage: str) -> Outcomes:
        pairs, dead = state
        held = dict(pairs)
        mine, free = held.get(call.process, 0), self.parameters["value"] - sum(held.values())
        n = call.arguments[0] if call.arguments else 0

        def holding(now: int) -> State:
            return tuple(sorted({**held, call.process: now}.items())), dead

        if call.name == DEATH:  # the process is dead when the first of its threads is said to be
            yield None, (tuple(p for p in pairs if p[0] != call.process), dead | {call.process})
        elif call.process in dead:
            return
        elif call.name == "value":
            yield (free,), state
        elif call.name == "release":
            yield ("ValueError", state) if mine < n else (None, holding(mine - n))
        elif call.name == "acquire":
            yield (YES, holding(mine + n)) if free >= n else (NO, state, "late")


class Latch(Specification):
    """A count that goes down to 0, and stays there."""

    def initial(self) -> State:
        return self.parameters["count"]

    def apply(self, state: int, call: Call, stage: str) -> Outcomes:
        if call.name == DEATH:
            yield None, state
        elif call.name == "count":
            yield (state,), state
        elif call.name == "count_down":
            n = call.arguments[0]
            yield ("ValueError", state) if n > state else (None, state - n)
        elif call.name == "wait":
            yield (YES, state) if state == 0 else (NO, state, "late")
