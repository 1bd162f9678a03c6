"""What each primitive does, one step at a time: the specifications against which histories are checked.

`apply` says what may come of a call in a state; search.py has the details.  Conventions:

- A thread is its number, None is nobody.  `done` in a comment is the state after the call.
- A call that gives up ("late") does so at an instant at which its time was over *and* what it wanted was not there.  A
  try has a time limit of 0.  So a lock that says False though it was free all the time is refuted, and so is one that
  wakes nobody.
- A call that waits may make itself known first, at the stage "waits".  Where a specification has that stage its page
  in docs/reference says that others can tell: a newcomer stands back for a waiter, for one.
- `DEATH` is the death of the calling thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from zlib import crc32

from .history import DEATH, Call
from .search import Specification, Stage, State

Outcomes = Iterator[tuple[Any, ...]]
YES, NO = (1,), (0,)
WAITS = Stage("waits")


# ---- mutual exclusion -----------------------------------------------------------------------------------------------


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


def tries(call: Call) -> bool:
    """Who tries only does not wait for its turn."""
    return call.arguments[-1] == 0


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


# ---- counting -------------------------------------------------------------------------------------------------------


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
        elif call.name == "held":
            yield (mine,), state
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


# ---- telling each other ---------------------------------------------------------------------------------------------


class Event(Specification):
    """State: is it set, who waits, and who of those has been woken: wait() is True if it is set or was meanwhile."""

    def initial(self) -> State:
        return False, frozenset(), frozenset()

    def apply(self, state: Any, call: Call, stage: str) -> Outcomes:
        is_set, asleep, woken = state
        me = frozenset({call.who})
        if call.name == DEATH:
            yield None, (is_set, asleep - me, woken - me)
        elif call.name == "set":
            yield None, (True, frozenset(), woken | asleep)
        elif call.name == "clear":
            yield None, (False, asleep, woken)
        elif call.name == "is_set":
            yield (int(is_set),), state
        elif not stage:  # wait()
            yield (YES, state) if is_set else (WAITS, (is_set, asleep | me, woken))
        elif me <= woken:
            yield YES, (is_set, asleep, woken - me)
        else:
            yield NO, (is_set, asleep - me, woken), "late"


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


class Barrier(Specification):
    """State: who has arrived, in order; is it broken; and what those are told who have not returned (-1: it broke)."""

    def initial(self) -> State:
        return (), False, frozenset()

    def apply(self, state: Any, call: Call, stage: str) -> Outcomes:
        arrived, broken, told = state
        who = call.who

        def fails(broken: bool, but: int | None = None) -> State:
            return (), broken, told | {(w, -1) for w in arrived if w != but}

        if call.name == DEATH:
            told = frozenset(t for t in told if t[0] != who)
            yield None, fails(True, who) if who in arrived else (arrived, broken, told)
        elif call.name == "abort":
            yield None, fails(True)
        elif stage == "mends":
            yield None, ((), False, told)
        elif call.name == "reset":  # whoever looks may see that it breaks what it ends before it is whole
            yield None, fails(False)
            if arrived:
                yield Stage("mends"), fails(True)
        elif call.name == "broken":
            yield (int(broken),), state
        elif call.name == "n_waiting":
            yield (len(arrived),), state
        elif not stage and broken:
            yield "BrokenBarrierError", state
        elif not stage and len(arrived) + 1 == self.parameters["parties"]:
            yield (len(arrived),), ((), False, told | {(w, i) for i, w in enumerate(arrived)})
        elif not stage:
            yield WAITS, ((*arrived, who), broken, told)
        elif who in arrived:
            yield "BrokenBarrierError", fails(True, who), "late"
        else:
            for entry in told:
                if entry[0] == who:
                    yield "BrokenBarrierError" if entry[1] < 0 else entry[1:], (arrived, broken, told - {entry})


class Once(Specification):
    """State: who runs the function now, the result or None, and as of a `Lock` left and waiting: the turn to run it is
    left to a waiter.  The function runs between the two instants of run()."""

    stages_end = {"": "begun", "waits": "begun"}

    def initial(self) -> State:
        return None, None, False, frozenset()

    def apply(self, state: Any, call: Call, stage: str) -> Outcomes:
        runner, value, left, waiting = state
        rest = waiting - {call.who}
        if call.name == DEATH:
            yield None, (None if runner == call.who else runner, value, left, rest)
        elif call.name == "done":
            yield (int(value is not None),), state
        elif stage == "runs":
            mine, fails, _ = call.arguments
            if fails:
                yield "Undone", (None, None, bool(waiting), waiting), "ended"
            else:
                yield (1, mine), (None, mine, False, frozenset()), "ended"
        elif value is not None:
            yield (0, value), state
        else:
            if runner is None:
                yield Stage("runs"), (call.who, None, False, rest)
            if runner is not None or (left and tries(call)):
                yield "Timeout", (runner, None, left, rest), "late"
            if not stage and (runner is not None or left):
                yield WAITS, (runner, None, left, waiting | {call.who})


# ---- readers and writers --------------------------------------------------------------------------------------------


class Room(NamedTuple):
    """A readers-writer lock.

    readers: (thread, times).  asking: those whose try to read is under way.  shut_out: readers that wait for the writer
    to leave, and are let in before the next one.  writer: who writes, upgradably reads, or is about to; None is nobody.
    mode: of the writer: "upgradable", "present" (keeps readers out and waits for those inside), "inside", "leaving"
    (readers may come in, writers not yet).  upgrades: it is an upgradable reader.  torn, left, waiting: as of a Lock,
    of the writers.
    """

    readers: tuple[tuple[int, int], ...] = ()
    asking: frozenset[int] = frozenset()
    shut_out: frozenset[int] = frozenset()
    writer: int | None = None
    mode: str = ""
    upgrades: bool = False
    torn: bool = False
    left: bool = False
    waiting: frozenset[int] = frozenset()

    def reads(self, who: int, times: int) -> Room:
        others = [r for r in self.readers if r[0] != who]
        mine = [(who, times)] if times else []
        return self._replace(readers=tuple(sorted(others + mine)), asking=self.asking - {who})

    def leaves(self, mode: str = "", torn: bool = False) -> Room:
        """The writer ends its phase; those shut out are in."""
        inside = dict(self.readers) | dict.fromkeys(self.shut_out, 1)
        return self._replace(
            readers=tuple(sorted(inside.items())),
            shut_out=frozenset(),
            writer=self.writer if mode else None,
            mode=mode,
            upgrades=mode == "upgradable",
            torn=torn,
            left=self.left or (not mode and bool(self.waiting)),
        )


class RWLock(Specification):
    """Readers together, writers alone, one upgradable reader beside readers.

    A writer that waits shuts out those who come to read; they are in when it leaves.  A try that is under way counts as
    one that wants in: of a try to read and a try to write that meet, both may fail.  The calls are those of the three
    views, named read_, write_ and upgradable_.
    """

    def initial(self) -> State:
        return Room()

    def apply(self, state: Room, call: Call, stage: str) -> Outcomes:
        who = call.who
        if call.name == DEATH:
            room = state.reads(who, 0)
            room = room._replace(shut_out=room.shut_out - {who}, waiting=room.waiting - {who})
            if state.writer == who:
                room = room.leaves(torn=state.torn or state.mode == "inside")._replace(left=False)
            yield None, room
        elif call.name == "torn":
            yield (int(state.torn),), state
        elif stage == "leaves":
            left = state.left or bool(state.waiting)
            result = (0, 0) if call.name == "write_acquire" else None
            yield result, state._replace(writer=None, mode="", left=left)
        else:
            yield from getattr(self, "_" + call.name)(state, call, stage)

    # -- reading

    def _read_acquire(self, state: Room, call: Call, stage: str) -> Outcomes:
        who, times = call.who, dict(state.readers).get(call.who, 0)
        if stage == "waits":
            if times:  # the writer has left
                yield YES, state
            else:
                yield NO, state._replace(shut_out=state.shut_out - {who}), "late"
        elif times:
            yield YES, state.reads(who, times + 1)
        elif state.mode in ("", "upgradable", "leaving"):
            yield YES, state.reads(who, 1)
            if not stage:
                yield Stage("asks"), state._replace(asking=state.asking | {who})
        else:
            yield WAITS, state._replace(asking=state.asking - {who}, shut_out=state.shut_out | {who})

    def _read_release(self, state: Room, call: Call, stage: str) -> Outcomes:
        times = dict(state.readers).get(call.who, 0)
        yield (None, state.reads(call.who, times - 1)) if times else ("NotOwner", state)

    # -- writing

    @staticmethod
    def _goes(state: Room, call: Call, torn: bool = False, more_reads: int = 0) -> Outcomes:
        """The writer leaves: readers may come in, and then writers, at the same instant or at a later one."""
        for mode in ("", "leaving"):
            room = state.leaves(mode, torn)
            if more_reads:
                room = room.reads(call.who, dict(state.readers).get(call.who, 0) + more_reads)
            result = (0, 0) if call.name == "write_acquire" else None
            yield Stage("leaves") if mode else result, room

    def _enters(self, state: Room, call: Call, stage: str) -> Outcomes:
        """The writer, or the upgradable reader, waits for the readers to leave."""
        others = bool(state.readers or state.asking)
        told = (1, int(state.torn)) if call.name == "write_acquire" else YES
        if stage == "gives up" and state.upgrades:
            yield NO, state.leaves("upgradable", state.torn)
        elif stage == "gives up":
            yield from self._goes(state, call, state.torn)
        elif not others:
            yield told, state._replace(mode="inside")
        elif stage != "present":
            yield Stage("present"), state._replace(mode="present")
        else:
            yield Stage("gives up"), state, "late"

    def _write_acquire(self, state: Room, call: Call, stage: str) -> Outcomes:
        if stage in ("present", "gives up"):
            yield from self._enters(state, call, stage)
        else:
            yield from self._turn(state, call, stage, (0, 0))

    def _turn(self, state: Room, call: Call, stage: str, refused: Any) -> Outcomes:
        """A writer or upgradable reader among its kind."""
        who = call.who
        if state.writer is None:
            mine = state._replace(writer=who, left=False, waiting=state.waiting - {who})
            if call.name == "write_acquire":
                yield from self._enters(mine, call, "")
            else:
                yield (1, int(state.torn)), mine._replace(mode="upgradable", upgrades=True)
        if state.writer is not None or (state.left and tries(call)):
            yield refused, state._replace(waiting=state.waiting - {who}), "late"
        if not stage and (state.writer is not None or state.left):
            yield WAITS, state._replace(waiting=state.waiting | {who})

    def _write_release(self, state: Room, call: Call, stage: str) -> Outcomes:
        times = dict(state.readers).get(call.who, 0)
        if state.writer == call.who and state.mode == "inside" and not state.upgrades:
            yield from self._goes(state, call)
        elif times and state.writer != call.who:  # it was downgraded, perhaps: what ends a write ends that read
            yield None, state.reads(call.who, times - 1)
            yield "NotOwner", state
        else:
            yield "NotOwner", state

    def _write_downgrade(self, state: Room, call: Call, stage: str) -> Outcomes:
        if state.writer == call.who and state.mode == "inside" and not state.upgrades:
            yield from self._goes(state, call, more_reads=1)
        else:
            yield "NotOwner", state

    # -- upgradable reading

    def _upgradable_acquire(self, state: Room, call: Call, stage: str) -> Outcomes:
        yield from self._turn(state, call, stage, (0, 0))

    def _upgradable_upgrade(self, state: Room, call: Call, stage: str) -> Outcomes:
        if stage or (state.writer == call.who and state.mode == "upgradable"):
            yield from self._enters(state, call, stage)
        elif state.writer == call.who and state.upgrades:
            yield YES, state
        else:
            yield "NotOwner", state

    def _upgradable_downgrade(self, state: Room, call: Call, stage: str) -> Outcomes:
        if state.writer != call.who or not state.upgrades:
            yield "NotOwner", state
        elif state.mode == "inside":
            yield None, state.leaves("upgradable")
        else:
            yield "RuntimeError", state

    def _upgradable_release(self, state: Room, call: Call, stage: str) -> Outcomes:
        if state.writer != call.who or not state.upgrades:
            yield "NotOwner", state
        else:
            yield from self._goes(state, call, state.torn and state.mode == "upgradable")


# ---- files ----------------------------------------------------------------------------------------------------------

BYTES = 8
"""As many bytes of the file are told from each other; a length of 0 reaches to the last."""

SHARED, EXCLUSIVE = 1, 2


def covered(start: int, length: int) -> range:
    return range(start, start + length if length else BYTES)


class Ranges(Specification):
    """Locks on bytes of a file, shared or exclusive, of threads.

    State: (thread, mode of each byte), and the same of those who are known to wait.  A call that waits stands back for
    those who waited before ("newcomers stand back until it has the range"), and so its time may be over though nothing
    is held; a try never does.  acquire(start, length, shared, timeout); lock_range(the same) adds to what is held.
    """

    def initial(self) -> State:
        return (), ()

    def apply(self, state: Any, call: Call, stage: str) -> Outcomes:
        holds, line = state
        who = call.who
        mine = dict(holds).get(who)
        others = [(w, m) for w, m in holds if w != who]
        ahead = tuple((w, m) for w, m in line if w != who)

        def holding(modes: tuple[int, ...] | None) -> State:
            return tuple(sorted([*others, *([(who, modes)] if modes is not None else [])])), ahead

        def with_mode(mode: int, start: int, length: int) -> tuple[int, ...]:
            at = covered(start, length)
            return tuple(mode if b in at else m for b, m in enumerate(mine or (0,) * BYTES))

        def meets(modes: tuple[int, ...], whose: Any) -> bool:
            return any(a and b and EXCLUSIVE in (a, b) for _, m in whose for a, b in zip(m, modes, strict=True))

        if call.name == DEATH:
            yield None, holding(None)
        elif mine is None and call.name != "acquire":
            yield "NotOwner", state
        elif call.name == "release":
            yield None, holding(None)
        elif call.name == "unlock_range":
            yield None, holding(with_mode(0, *call.arguments))
        elif call.name == "downgrade":
            yield None, holding(tuple(min(m, SHARED) for m in mine))
        elif call.name == "acquire" and mine is not None:
            yield NO, state, "late"
        else:
            *which, timeout = call.arguments
            if call.name == "upgrade":
                wanted = tuple(EXCLUSIVE if m else 0 for m in mine)
                if meets(wanted, others) and mine and meets(mine, ahead):  # another one upgrades what this one reads
                    yield "DeadlockError", (holds, ahead)
            else:
                wanted = with_mode(SHARED if which[2] else EXCLUSIVE, *which[:2])
            if not meets(wanted, others):
                yield YES, holding(wanted)
            if meets(wanted, others) or (timeout and meets(wanted, ahead)):
                yield NO, (holds, ahead), "late"
                if not stage:
                    yield WAITS, (holds, tuple(sorted((*ahead, (who, wanted)))))


def record_text(number: int) -> bytes:
    """The record of that number, as append() writes it: their lengths differ."""
    return b"%d" % number * (1 + number % 3) + b"\n"


class Append(Specification):
    """A file of records, each whole: append(number) gives the offset, read() the size and a sum of the content."""

    def initial(self) -> State:
        return b""

    def apply(self, state: bytes, call: Call, stage: str) -> Outcomes:
        if call.name == "append":
            yield (len(state),), state + record_text(call.arguments[0])
        elif call.name == "read":
            yield (len(state), crc32(state)), state
        else:
            yield None, state


class Update(Specification):
    """A file that is replaced as a whole: update(number) adds to what it reads, and tells what it has read."""

    def initial(self) -> State:
        return b""

    def apply(self, state: bytes, call: Call, stage: str) -> Outcomes:
        if call.name == "update":
            yield (len(state), crc32(state)), state + record_text(call.arguments[0])
        elif call.name == "read":
            yield (len(state), crc32(state)), state
        else:
            yield None, state


SPECIFICATIONS: dict[str, type[Specification]] = {
    "mutex": Mutex,
    "rlock": RLock,
    "semaphore": Semaphore,
    "bounded": BoundedSemaphore,
    "condition": Condition,
    "rwlock": RWLock,
    "event": Event,
    "barrier": Barrier,
    "latch": Latch,
    "once": Once,
    "filelock": Ranges,
    "rangelock": Ranges,
    "records": Ranges,
    "append": Append,
    "update": Update,
}
"""Of each primitive."""
