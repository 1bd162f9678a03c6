"""Condition: those who stand in line, and the notifications of the dead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..history import DEATH, Call
from ..search import Specification, Stage, State
from .common import Outcomes
from .locks import Lock, acquired


class Crowd(NamedTuple):
    """A condition.  line: who waits, longest first.  chosen: (who, those who stood behind in line when it was chosen
    and still wait): who would be next.  passing: the notifications of dead threads, as those who may have them."""

    lock: Lock = Lock()
    line: tuple[int, ...] = ()
    chosen: frozenset[tuple[int, frozenset[int]]] = frozenset()
    passing: tuple[frozenset[int], ...] = ()
    depths: tuple[tuple[int, int], ...] = ()

    def without(self, who: int) -> Crowd:
        """That wait is over."""
        return self._replace(
            line=tuple(w for w in self.line if w != who),
            chosen=frozenset((w, rest - {who}) for w, rest in self.chosen if w != who),
            passing=tuple(sorted((rest - {who} for rest in self.passing if rest - {who}), key=sorted)),
            depths=tuple(d for d in self.depths if d[0] != who),
        )


class Condition(Specification):
    """wait() gives the lock up and stands in line at one instant, and has the lock again at another.

    notify(n) chooses the n longest-waiting.  The notification of one that dies goes to the next of those who waited
    then (at some time: `by_itself`); where two have died it may be doubled on its way.  A notifier that is killed amid
    its choice has chosen some of them.
    """

    def initial(self) -> State:
        return Crowd()

    def apply(self, state: Crowd, call: Call, stage: str) -> Outcomes:
        who, lock = call.who, state.lock
        if call.name == DEATH:
            orphans = [rest for w, rest in state.chosen if w == who and rest]
            after = state.without(who)._replace(lock=lock.dead(who))
            passing = tuple(sorted([*after.passing, *(r - {who} for r in orphans)], key=sorted))
            yield None, after._replace(passing=passing)
        elif call.name == "acquire":
            for outcome, then, *when in acquired(lock, call, stage, True):
                yield outcome, state._replace(lock=then), *when
        elif call.name == "wait" and stage:
            yield from self._waiting(state, call, stage)
        elif lock.holder != who:
            yield "NotOwner", state
        elif call.name == "release":
            then = lock.given() if lock.depth == 1 else lock._replace(depth=lock.depth - 1)
            yield None, state._replace(lock=then)
        elif call.name == "notify":
            n = min(call.arguments[0], len(state.line)) if call.arguments else len(state.line)
            for m in range(n + 1) if call.unknown else (n,):
                yield None, self._chosen(state, m)
        elif call.name == "wait":
            depths = (*state.depths, (who, lock.depth))
            yield (
                Stage("asleep"),
                state._replace(lock=lock.given(lock.torn), line=(*state.line, who), depths=tuple(sorted(depths))),
            )

    @staticmethod
    def _chosen(state: Crowd, n: int) -> Crowd:
        chosen, rest = state.line[:n], state.line[n:]
        more = {(w, frozenset(rest)) for w in chosen}
        return state._replace(line=rest, chosen=state.chosen | more)

    @staticmethod
    def _waiting(state: Crowd, call: Call, stage: str) -> Outcomes:
        who, lock = call.who, state.lock
        depth = dict(state.depths).get(who, 1)
        if stage == "asleep" and who in state.line:
            yield Stage("too late"), state._replace(line=tuple(w for w in state.line if w != who)), "late"
        elif lock.holder is None and (stage == "too late" or any(w == who for w, _ in state.chosen)):
            back = state.without(who)._replace(lock=lock.taken(who, depth))
            yield (int(stage == "asleep"), int(lock.torn)), back
        elif lock.holder is not None and who not in lock.waiting:
            yield Stage(stage), state._replace(lock=lock.awaited(who))

    def by_itself(self, state: Crowd) -> Iterator[State]:
        for i, rest in enumerate(state.passing):
            heir = next((w for w in state.line if w in rest), None)
            others = state.passing[:i] + state.passing[i + 1 :]
            if heir is None:
                yield state._replace(passing=others)
                continue
            after = state._replace(
                line=tuple(w for w in state.line if w != heir),
                chosen=state.chosen | {(heir, rest - {heir})},
            )
            yield after._replace(passing=others)
            if self.parameters.get("deaths", 0) > 1 and rest - {heir}:
                yield after._replace(passing=tuple(sorted([*others, rest - {heir}], key=sorted)))
