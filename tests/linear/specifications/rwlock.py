"""Readers and writers."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..history import DEATH, Call
from ..search import Specification, Stage, State
from .common import NO, WAITS, YES, Outcomes, tries


class Room(NamedTuple):
    """A readers-writer lock.

    readers: (thread, times).  asking: those whose try to read is under way.  shut_out: readers that wait for the writer
    to leave, and are let in before the next one.  writer: who writes, upgradably reads, or is about to; None is nobody.
    mode: of the writer: "upgradable", "arriving" (it is its turn among writers, readers may come in still), "present"
    (keeps readers out and waits for those inside), "inside", "leaving" (readers may come in, writers not yet).
    upgrades: it is an upgradable reader.  torn, left, waiting: as of a Lock, of the writers.
    looking: (thread, who has been reading ever since it began to look, who was seen to read or ask).
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
    looking: frozenset[tuple[int, frozenset[int], frozenset[int]]] = frozenset()

    def looked_at(self, who: int) -> Room:
        """Somebody looks at one slot after the other for readers."""
        return self._replace(looking=self.looking | {(who, *self._inside())})

    def _inside(self) -> tuple[frozenset[int], frozenset[int]]:
        """Who reads, and who else may have a mark: of asking, of waiting, of going down from writing."""
        reads = frozenset(who for who, _ in self.readers)
        down = {self.writer} if self.writer is not None and self.mode == "inside" else set()
        return reads, reads | self.asking | self.shut_out | down

    def seen(self) -> Room:
        """By those who look."""
        if not self.looking:
            return self
        reads, marked = self._inside()
        return self._replace(
            looking=frozenset((who, always & reads, ever | marked) for who, always, ever in self.looking)
        )

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
        for outcome, after, *when in self._apply(state, call, stage):
            yield outcome, after.seen(), *when

    def _apply(self, state: Room, call: Call, stage: str) -> Outcomes:
        who = call.who
        if call.name == DEATH:
            room = state.reads(who, 0)
            looking = frozenset(e for e in room.looking if e[0] != who)
            room = room._replace(shut_out=room.shut_out - {who}, waiting=room.waiting - {who}, looking=looking)
            if state.writer == who:
                room = room.leaves(torn=state.torn or state.mode == "inside")._replace(left=False)
            yield None, room
        elif call.name == "torn":
            yield (int(state.torn),), state
        elif call.name == "writer":
            yield (int(state.mode == "inside"),), state
        elif call.name == "readers" and not stage:
            yield Stage("looks"), state.looked_at(who)
        elif call.name == "readers":
            for entry in state.looking:
                if entry[0] == who:
                    for n in range(len(entry[1]), len(entry[2]) + 1):
                        yield (n,), state._replace(looking=state.looking - {entry})
        elif stage == "leaves":
            left = state.left or bool(state.waiting)
            result = (0, 0) if call.name == "write_acquire" else None
            yield result, state._replace(writer=None, mode="", left=left)
        else:
            yield from getattr(self, "_" + call.name)(state, call, stage)

    # -- reading

    def _read_acquire(self, state: Room, call: Call, stage: str) -> Outcomes:
        who, times = call.who, dict(state.readers).get(call.who, 0)
        if stage == "refused":
            yield NO, state._replace(asking=state.asking - {who})
        elif stage == "waits":
            if times:  # the writer has left
                yield YES, state
            else:
                refused = state._replace(shut_out=state.shut_out - {who})
                yield NO, refused, "late"
                yield Stage("refused"), refused._replace(asking=state.asking | {who}), "late"
        elif times:
            yield YES, state.reads(who, times + 1)
        elif state.mode in ("", "upgradable", "arriving", "leaving"):
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
        if stage in ("turn", "present", "gives up"):
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
                yield Stage("turn"), mine._replace(mode="arriving")
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
