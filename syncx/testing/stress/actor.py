"""A thread of a storm: it carries out its decisions, writes down what it does, and meets its fate."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from syncx import DeadlockError, OwnerDiedError

from .board import BEGIN, BORN, DYING, END, ENDING, POINT, Board
from .dice import END_THREAD, INSIDE, OUTSIDE, RAISE, SIGNAL, STOP, Decision, Dice

__all__ = ["GIVE", "TAKE", "UNTOLD", "Actor", "Ended", "Wishes"]

(
    TAKE, GIVE, WAIT, NOTIFY, SET, CLEAR, DOWN, UP, ARRIVE, ACTION, RUN, BODY, PUT, GET, APPEND, UPDATE, ENROL,
    WITHDRAW, RESET,
) = range(1, 20)  # fmt: skip
"""The calls in a journal."""

EXCLUSIVE, SHARED, UPGRADABLE = range(3)
"""The modes of TAKE: b of its END; a is whether it was had (2: OwnerDiedError, 3: DeadlockError), c whether a death was
told, and 256 times how many units.  c of its BEGIN: is there no time limit?"""

UNTOLD = 2
"""By recover(), which takes the mark of a death away and does not say whether there was one."""

WISH = struct.Struct("=HHiq")
"""What a thread wishes of the judge: the slot, what is to be done, to which pid, the delay in microseconds."""


_here = threading.local()
"""Its `actor`: the one of this thread."""


class Ended(BaseException):
    """The thread ends here, holding what it holds."""


class Interrupted(Exception):
    """What the handler of a signal raises in a call that waits."""


class Wishes:
    """The way to the judge: what is to be done to whom, and what is wrong."""

    def __init__(self, wishes: int, complaints: int) -> None:
        self._wishes, self._complaints = wishes, complaints

    def wish(self, slot: int, what: int, delay: int) -> None:
        os.write(self._wishes, WISH.pack(slot, what, os.getpid(), delay))

    def complain(self, slot: int, what: str) -> None:
        text = json.dumps({"slot": slot, "pid": os.getpid(), "t": time.monotonic_ns(), "what": what[:3000]})
        os.write(self._complaints, text.encode()[:3900] + b"\n")


class Actor:
    """One thread.

    stage: the objects, as this process has them open: topic -> what to do with an Actor and Dice.
    children: the slot of the child that it may fork, or None for one that forks none.
    """

    current: Actor | None = None
    """The one in the main thread, to whom signals come."""

    def __init__(self, board: Board, wishes: Wishes, slot: int) -> None:
        self.board, self.wishes, self.slot = board, wishes, slot
        self.token = board.enter(slot)
        self.journal = board.journal(slot)
        self.journal.write(BORN, 0, 0, self.token, os.getpid(), threading.get_native_id(), os.getppid())
        self.fate = 0
        self._points = 0
        self._dies_at, self._last_words = 0, 0.0
        self.interruptible = False
        self.heard = 0
        """Was its on_owner_death= function called?"""

    # ---- what it writes down ----------------------------------------------------------------------------------------
    def begin(self, call: int, obj: int, a: int = 0, b: int = 0, c: int = 0) -> int:
        if call == TAKE:
            self.heard = 0
        t = self.journal.write(BEGIN, call, obj, self.token, a, b, c)
        self.board.busy(self.slot, t, obj)
        return t

    def end(self, call: int, obj: int, a: int = 0, b: int = 0, c: int = 0) -> int:
        t = self.journal.write(END, call, obj, self.token, a, b, c)
        self.board.busy(self.slot, 0, obj)
        return t

    def journal_point(self, call: int, obj: int, a: int) -> None:
        """Something that is done in one step, next."""
        self.journal.write(POINT, call, obj, self.token, a)

    @staticmethod
    def here() -> Actor:
        """The one of this thread."""
        return _here.actor  # type: ignore[no-any-return]

    def complain(self, what: str) -> None:
        self.wishes.complain(self.slot, what)

    def act_here(self) -> None:
        """It is played by the calling thread from now on."""
        _here.actor = self

    # ---- its fate ---------------------------------------------------------------------------------------------------
    def perform(self, decision: Decision, play: Callable[[Actor, Dice], None]) -> None:
        """One operation, with what befalls it."""
        dice = Dice(decision.bits)
        _here.actor, self.holds = self, False
        self.fate, self._points, self._dies_at = decision.fate, 0, 1 + dice(4)
        self._last_words = decision.delay / 1e6 if decision.delay & 1 else 0.0
        if self.fate in (OUTSIDE, STOP, SIGNAL):
            self.wishes.wish(self.slot, self.fate, decision.delay)
        elif self.fate == RAISE:
            self.wishes.wish(self.slot, SIGNAL, decision.delay // 20)
        play(self, dice)
        self.board.count(self.slot)

    def point(self) -> None:
        """A place inside, where it may die by its own hand."""
        if self.fate not in (INSIDE, END_THREAD):
            return
        self._points += 1
        if self._points < self._dies_at:
            return
        if self.fate == INSIDE:
            self.die()
        elif self.may_end and self.holds:
            self.journal.write(ENDING, 0, 0, self.token)
            self.board.ends(self.slot)
            raise Ended

    may_end = False
    """May it end without its process?"""
    holds = False
    """Would nothing give back what it holds, should it end here?"""

    def die(self) -> None:
        if self._last_words:
            time.sleep(self._last_words)  # others come to wait meanwhile
        self.board.dies(self.slot)
        self.journal.write(DYING, 0, 0, self.token)
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()

    def linger(self, dice: Dice) -> None:
        """A while inside: none as a rule, up to 2 ms now and then."""
        how = dice(32)
        if how >= 30:
            time.sleep(0.001 * (how - 29))
        elif how >= 26:
            time.sleep(0.00005)
        elif how >= 18:
            os.sched_yield()

    # ---- taking and giving back what has an owner -------------------------------------------------------------------
    def take(
        self,
        lock: Any,
        obj: int,
        dice: Dice,
        mode: int = EXCLUSIVE,
        units: int = 1,
        deadlocks: bool = False,
        **options: Any,
    ) -> int | None:
        """By acquire(): without waiting, for a while, or for ever.  None: not had; else whether a death was told.

        units: for permits.  A signal handler that raises does so in here only, and where the lock can tell its owner.
        deadlocks: DeadlockError may come; it goes on to the caller.
        """
        how = dice(8)
        patience = None if how > 2 and units == 1 else 0.0 if how == 0 else 0.0005 + 0.01 * dice(5)
        raising = self.fate == RAISE and hasattr(lock, "_is_owned") and self is Actor.current and not deadlocks
        self.begin(TAKE, obj, units, mode, int(patience is None))
        try:
            self.interruptible = raising
            got = lock.acquire(timeout=patience, **options)
            self.interruptible = False
        except Interrupted:
            got = lock._is_owned()
        except OwnerDiedError:
            self.interruptible = False
            self.end(TAKE, obj, 2, mode)
            return self.recover(lock, obj, mode)
        except DeadlockError:
            if deadlocks:
                self.end(TAKE, obj, 3, mode)
            raise
        if not got:
            self.end(TAKE, obj, 0, mode)
            return None
        return self.taken(lock, obj, mode, units)

    def taken(self, lock: Any, obj: int, mode: int = EXCLUSIVE, units: int = 1) -> int:
        """It has it now; was a death told?"""
        told = int(getattr(lock, "owner_died", False)) | self.heard
        self.end(TAKE, obj, 1, mode, told | units << 8)
        return told

    @staticmethod
    def hear(lock: object) -> None:
        """An on_owner_death= function."""
        _here.actor.heard = 1

    def recover(self, lock: Any, obj: int, mode: int) -> int | None:
        self.begin(TAKE, obj, 1, mode)
        if not lock.recover(timeout=0.2):
            self.end(TAKE, obj, 0, mode)
            return None
        self.end(TAKE, obj, 1, mode, UNTOLD | 1 << 8)
        return UNTOLD

    def give(self, lock: Any, obj: int, units: int = 0) -> None:
        self.begin(GIVE, obj, units)
        lock.release(units) if units else lock.release()
        self.end(GIVE, obj)

    @contextlib.contextmanager
    def written(self, call: int, obj: int, a: int = 0) -> Iterator[None]:
        """A call that has no outcome."""
        self.begin(call, obj, a)
        yield
        self.end(call, obj, a)
