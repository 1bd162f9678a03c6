"""What counts: semaphores and the latch."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..history import DEATH, Call
from ..search import Specification, Stage, State
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


class Pool(NamedTuple):
    """Permits.

    held: (process, permits) of the living.  settling: (thread, process, permits) of those that are on their way one by
    one, below 0 when they are given back.  counting: (thread, whose, least, most) of those that count what is free, or
    what a process holds: permit by permit, so what comes and goes meanwhile may be seen or not.
    """

    held: tuple[tuple[int, int], ...] = ()
    dead: frozenset[int] = frozenset()
    settling: frozenset[tuple[int, int, int]] = frozenset()
    counting: frozenset[tuple[int, int, int, int]] = frozenset()

    def of(self, process: int) -> int:
        return dict(self.held).get(process, 0)

    def moves(self, process: int, n: int) -> Pool:
        """That process has n more."""
        counting = set()
        for who, whose, least, most in self.counting:
            change = -n if whose == FREE else n if whose == process else 0
            counting.add((who, whose, least + min(change, 0), most + max(change, 0)))
        held = {**dict(self.held), process: self.of(process) + n}
        return self._replace(held=tuple(sorted(held.items())), counting=frozenset(counting))

    def counts(self, who: int, whose: int, now: int) -> Pool:
        """Somebody begins to count, where there are so many."""
        late = [n if whose == FREE else -n for _, process, n in self.settling if whose in (FREE, process)]
        entry = (who, whose, now + sum(min(n, 0) for n in late), now + sum(max(n, 0) for n in late))
        return self._replace(counting=self.counting | {entry})

    def without(self, who: int) -> Pool:
        """It is neither counting nor on its way."""
        settling = frozenset(e for e in self.settling if e[0] != who)
        return self._replace(settling=settling, counting=frozenset(e for e in self.counting if e[0] != who))


FREE = -1


class BoundedSemaphore(Specification):
    """Permits that processes hold; the end of the process gives them back."""

    def initial(self) -> State:
        return Pool()

    def apply(self, state: Pool, call: Call, stage: str) -> Outcomes:
        who, process = call.who, call.process
        mine, free = state.of(process), self.parameters["value"] - sum(n for _, n in state.held)
        n = call.arguments[0] if call.arguments else 0
        if call.name == DEATH:  # the process is dead when the first of its threads is said to be
            pool = state.moves(process, -mine).without(who)
            held = tuple(pair for pair in pool.held if pair[0] != process)
            yield None, pool._replace(held=held, dead=state.dead | {process})
        elif process in state.dead:
            return
        elif call.name in ("value", "held") and not stage:
            yield Stage("counts"), state.counts(who, *((FREE, free) if call.name == "value" else (process, mine)))
        elif call.name in ("value", "held"):
            ((least, most),) = [e[2:] for e in state.counting if e[0] == who]
            for seen in range(max(least, 0), min(most, self.parameters["value"]) + 1):
                yield (seen,), state.without(who)
        elif stage == "settles":
            yield (None if call.name == "release" else YES), state.without(who)
        elif call.name == "release" and mine < n:
            yield "ValueError", state
        elif call.name == "release":
            yield from self._moves(state, call, -n, None)
        elif call.name == "acquire" and free >= n:
            yield from self._moves(state, call, n, YES)
        elif call.name == "acquire":
            yield NO, state, "late"

    @staticmethod
    def _moves(state: Pool, call: Call, n: int, result: Any) -> Outcomes:
        """To or from others at one instant; who counts may see it later where it is more than one."""
        after = state.moves(call.process, n)
        yield result, after
        if abs(n) > 1:
            yield Stage("settles"), after._replace(settling=after.settling | {(call.who, call.process, n)})


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
