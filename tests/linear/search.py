"""Is a history linearizable?  The search of Wing and Gong, with memory of where it has been.

A history is linearizable if each operation can be given one instant between its call and its return such that, carried
out in that order by one thread, the operations give the results that were recorded (Herlihy and Wing, "Linearizability:
A Correctness Condition for Concurrent Objects", 1990).  The search tries the orders one operation at a time, depth
first (Wing and Gong, "Testing and Verifying Concurrent Objects", 1993), and never goes on twice from the same set of
done operations with the same state (Lowe, "Testing for Linearizability", 2017; so does Porcupine, Athalye, 2017).  As
each thread's calls are in order, the set is a position for each thread.

Two things are added, for objects that one waits for and for processes that die.

Stages.  A call that waits takes effect at two instants, or more: it asks, and it is answered (Scherer and Scott,
"Nonblocking Concurrent Data Structures with Condition Synchronization", 2004, call them request and follow-up).
`Condition.wait` gives the lock up at one instant and has it again at another.  The specification says what stages a
call has; each has an instant of its own, in order.

Deaths.  A call amid which its process was killed has an unknown result and may have got to any of its stages.  The
death is an operation itself, the last of its thread, by which its holds end.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .history import Call, History

State = Hashable


@dataclass(frozen=True)
class Stage:
    """What `apply` gives in place of a result where the call is not over yet."""

    name: str


class Specification:
    """What one object does, one step at a time.  A subclass for each primitive is in specifications/."""

    stages_end: dict[str, str] = {}
    """Stage ("" is the first) -> the mark of the call before which that stage was over."""

    def __init__(self, **parameters: int) -> None:
        self.parameters = parameters

    def initial(self) -> State:
        """The object when it is new."""
        raise NotImplementedError

    def apply(self, state: Any, call: Call, stage: str) -> Iterator[tuple[Any, ...]]:
        """What may come of the call in this state, where it has got to that stage ("" is the first).

        Yields (outcome, next state) or (outcome, next state, when).  outcome: the result of the call, or the `Stage` it
        comes to.  when: the field or mark of the call before which this cannot be: "late", "ended".
        """
        raise NotImplementedError

    def by_itself(self, state: Any) -> Iterator[State]:
        """The states that the object may go to without any call."""
        return iter(())


@dataclass
class Verdict:
    """What a search has found.

    linearizable: whether there is an order.  order: one, as (call, stage it came to or None) with the state after it;
    if there is none, the longest that was found.  stuck: the calls that could not come next after that.
    states: how many configurations were looked at.
    """

    linearizable: bool
    states: int
    order: list[tuple[Call, str | None, State]] = field(default_factory=list)
    stuck: list[Call] = field(default_factory=list)
    state: State = None

    def __bool__(self) -> bool:
        return self.linearizable


class TooManyStates(Exception):
    """The search was given up."""


# positions in the threads, stages, state of the object
Configuration = tuple[tuple[int, ...], tuple[str, ...], State]


def _steps(
    specification: Specification, threads: list[list[Call]], at: Configuration
) -> Iterator[tuple[Configuration, tuple[Call, str | None] | None]]:
    positions, stages, state = at
    current = [t[p] if p < len(t) else None for t, p in zip(threads, positions, strict=True)]
    ends = []
    for call, stage in zip(current, stages, strict=True):
        if call is not None:
            mark = specification.stages_end.get(stage)
            ends.append((call.marks.get(mark, call.returned) if mark else call.returned, call.who))
    ends.sort()
    for other in specification.by_itself(state):
        yield (positions, stages, other), None
    for who, call in enumerate(current):
        if call is None:
            continue
        # nothing comes after an operation that has returned before it was called
        bound = next((end for end, of in ends if of != who), None)
        done = positions[:who] + (positions[who] + 1,) + positions[who + 1 :]
        reset = stages[:who] + ("",) + stages[who + 1 :]
        if call.unknown and call.name != "death":  # it got no further than this
            yield (done, reset, state), None
        if bound is not None and call.invoked > bound:
            continue
        for outcome, after, *when in specification.apply(state, call, stages[who]):
            if when:
                earliest = call.late if when[0] == "late" else call.marks.get(when[0], call.invoked)
                if earliest > call.returned or (bound is not None and earliest > bound):
                    continue
            if isinstance(outcome, Stage):
                moved = stages[:who] + (outcome.name,) + stages[who + 1 :]
                yield (positions, moved, after), (call, outcome.name)
            elif call.unknown or outcome == call.result:
                yield (done, reset, after), (call, None)


def check(specification: Specification, history: History, limit: int = 2_000_000) -> Verdict:
    """Looks for an order of the history's calls that the specification allows.

    limit: of the configurations that are looked at.  Raises TooManyStates beyond.
    """
    threads = history.threads
    start: Configuration = ((0,) * len(threads), ("",) * len(threads), specification.initial())
    seen = {start}
    path: list[tuple[Iterator[Any], tuple[Call, str | None] | None, Configuration]] = [
        (_steps(specification, threads, start), None, start)
    ]
    goal = tuple(len(t) for t in threads)
    best: tuple[int, list[Any], Configuration] = (-1, [], start)
    while path:
        steps, _, at = path[-1]
        reached = sum(at[0])
        if reached > best[0]:
            best = reached, [(*step, c[2]) for _, step, c in path if step is not None], at
        if at[0] == goal:
            return Verdict(True, len(seen), best[1], [], at[2])
        for after, step in steps:
            if after not in seen:
                seen.add(after)
                if len(seen) > limit:
                    raise TooManyStates(f"{len(seen)} configurations, and no end: a shorter history is needed")
                path.append((_steps(specification, threads, after), step, after))
                break
        else:
            path.pop()
    stuck = [t[p] for t, p in zip(threads, best[2][0], strict=True) if p < len(t)]
    return Verdict(False, len(seen), best[1], stuck, best[2][2])
