"""Mutual exclusion: Mutex and RLock."""

from __future__ import annotations

from typing import NamedTuple

from ..history import DEATH, Call
from ..search import Specification, Stage, State
from .common import WAITS, Outcomes, tries


class Lock(NamedTuple):
    """A lock as its users see it.

    torn: a holder died and nobody has released it in good order since.  waiting: who is known to wait.  left: it was
    released while somebody waited, and nobody has taken it since: a try may be refused ("at least once a millisecond
    the one woken after the longest sleep goes first").
    """

    holder: int | None = None
    depth: int = 0
    torn: bool = False
    left: bool = False
    waiting: frozenset[int] = frozenset()

    def taken(self, who: int, depth: int = 1) -> Lock:
        return self._replace(holder=who, depth=depth, left=False, waiting=self.waiting - {who})

    def given(self, torn: bool = False) -> Lock:
        return self._replace(holder=None, depth=0, torn=torn, left=bool(self.waiting))

    def dead(self, who: int) -> Lock:
        rest = self._replace(waiting=self.waiting - {who})
        return rest._replace(holder=None, depth=0, torn=True, left=False) if self.holder == who else rest

    def awaited(self, who: int) -> Lock:
        return self._replace(waiting=self.waiting | {who})

    def forgotten(self, who: int) -> Lock:
        return self._replace(waiting=self.waiting - {who})


def acquired(lock: Lock, call: Call, stage: str, reentrant: bool) -> Outcomes:
    """acquire(): True and whether an owner died, or False.  Yields locks."""
    who = call.who
    if lock.holder is None:
        yield (1, int(lock.torn)), lock.taken(who)
    elif lock.holder == who and reentrant:
        yield (1, int(lock.torn)), lock._replace(depth=lock.depth + 1)
        return
    elif lock.holder == who and call.late > 1 << 61:  # untimed
        yield "DeadlockError", lock
        return
    if lock.holder is not None or (lock.left and tries(call)):
        yield (0, 0), lock.forgotten(who), "late"
    if not stage and (lock.holder is not None or lock.left):
        yield WAITS, lock.awaited(who)


class Mutex(Specification):
    """One holder at a time; the first after a holder's death is told; RLock: as deep as its holder likes.

    With raises=1 (`on_owner_death="raise"`) a torn lock is nobody's until recover(): who asks is refused, and has held
    it for an instant.
    """

    reentrant = False

    def initial(self) -> State:
        return Lock()

    def apply(self, state: Lock, call: Call, stage: str) -> Outcomes:
        who = call.who
        if call.name == DEATH:
            yield None, state.dead(who)
        elif stage == "refused":
            yield "OwnerDiedError", state.given(torn=True)
        elif call.name in ("acquire", "recover"):
            for outcome, lock, *when in acquired(state, call, stage, self.reentrant):
                told = isinstance(outcome, tuple) and outcome[0] == 1 and lock.torn
                if told and call.name == "recover":
                    yield (1, 0), lock._replace(torn=False)
                elif told and self.parameters.get("raises") and lock.depth == 1:
                    yield Stage("refused"), lock
                else:
                    yield outcome, lock, *when
        elif call.name == "locked":
            yield (int(state.holder is not None),), state
        elif call.name == "release":
            if state.holder != who:
                yield "NotOwner", state
            else:
                yield None, state.given() if state.depth == 1 else state._replace(depth=state.depth - 1)


class RLock(Mutex):
    """A Mutex that its holder may acquire again."""

    reentrant = True
