"""A process of a storm: some threads that play, and the children they fork."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import logging
import os
import signal
import threading
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from .actor import Actor, Ended, Interrupted, Wishes
from .counts import Bounded, Latches, Semaphores
from .dice import EXEC, FORK, INSIDE, OUTSIDE, Decision, Stream
from .enrolments import Enrolments
from .entries import Records
from .files import Files, Updates
from .knots import Knots
from .locks import Mutexes, Placed, RLocks, RWLocks
from .meetings import Barriers, Conditions, Events, Onces
from .scenes import Scene, Stage

__all__ = ["SCENES", "Plan", "die_with_parent", "open_scenes", "run"]

SCENES: dict[str, type[Scene]] = {
    s.topic: s
    for s in (
        Mutexes, RLocks, Semaphores, Bounded, Conditions, RWLocks, Events, Barriers, Onces, Latches, Files, Updates,
        Placed, Knots, Records, Enrolments,
    )
}  # fmt: skip

_LATE = ("syncx.append", "syncx.deadlock", "syncx.objects", "contextlib", "hashlib", "pickle", "threading", "traceback")
"""What is imported in the midst of an operation, the first time.  If another thread forks just then, the import never
ends in the child: a matter of Python, and none of ours."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """SIGKILL for this process when the thread that forked it ends, however."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


class Plan(NamedTuple):
    """What is the same for all processes of a round."""

    topics: Sequence[str]
    kill: float
    """Deaths in 1,000 operations."""
    seed: int
    round: int
    threads: int
    """Of each process."""

    def slot(self, process: int, thread: int) -> int:
        """Of that thread; thread `threads` is the child that the others fork, one at a time."""
        return process * (self.threads + 1) + thread


def open_scenes(stage: Stage, topics: Sequence[str]) -> dict[str, Scene]:
    return {topic: SCENES[topic](stage) for topic in topics}


def run(plan: Plan, stage: Stage, wishes: Wishes, process: int, incarnation: int) -> int:
    """What a process does until the round is over; returns its exit status.  It has just been forked."""
    gc.disable()  # what was inherited is not to be looked through, and copied by that
    warnings.simplefilter(
        "ignore", DeprecationWarning
    )  # of forks in programs with threads, which is what we are here for
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, _handler)
    logging.getLogger("syncx").addHandler(logging.NullHandler())
    logging.getLogger("syncx").propagate = False
    for name in _LATE:
        importlib.import_module(name)
    troupe = _Troupe(plan, stage, wishes, process, incarnation)
    others = [threading.Thread(target=troupe.play, args=(t,)) for t in range(1, plan.threads)]
    for t in others:
        t.start()
    troupe.play(0)
    for t in others:
        t.join()
    while troupe.successors:
        troupe.successors.pop().join()
    return 0


def _handler(number: int, frame: object) -> None:
    actor = Actor.current
    if actor is not None and actor.interruptible:
        actor.interruptible = False
        raise Interrupted


class _Troupe:
    """The threads of one process."""

    def __init__(self, plan: Plan, stage: Stage, wishes: Wishes, process: int, incarnation: int) -> None:
        self._plan, self._stage, self._wishes = plan, stage, wishes
        self._process, self._incarnation = process, incarnation
        self._scenes = open_scenes(stage, plan.topics)
        self._forking = threading.Lock()
        """Held by the thread that has a child: there is one child at a time."""
        self.successors: list[threading.Thread] = []

    def _stream(self, thread: int, generation: int) -> Stream:
        plan = self._plan
        number = self._incarnation * 1000 + generation
        return Stream(plan.topics, plan.kill, plan.seed, plan.round, self._process, number, thread)

    def play(self, thread: int, generation: int = 0, before: threading.Thread | None = None) -> None:
        """One thread, until the round is over or it ends as its fate will have it."""
        if before is not None:
            before.join()
        slot, board = self._plan.slot(self._process, thread), self._stage.board
        actor = Actor(board, self._wishes, slot)
        if thread == 0:
            Actor.current = actor
        actor.may_end = thread != 0
        stream = self._stream(thread, generation)
        try:
            while not board.over:
                decision = stream.next()
                actor.perform(decision, self._scenes[decision.topic].play)
                if decision.fate in (FORK, EXEC):
                    self._fork(actor, stream, decision.fate)
        except Ended:
            successor = threading.Thread(target=self.play, args=(thread, generation + 1, threading.current_thread()))
            self.successors.append(successor)
            successor.start()
        except Exception as e:
            actor.complain(f"{type(e).__name__} came out of an operation: {e}\n{_where()}")
            board.leave(slot)
        else:
            board.leave(slot)

    def _fork(self, actor: Actor, stream: Stream, how: int) -> None:
        """A child that plays a few operations, then exits or is replaced by another program."""
        decisions = [stream.next() for _ in range(4)]
        if not self._forking.acquire(blocking=False):
            return
        try:
            parent = os.getpid()
            child = os.fork()
            if child == 0:
                self._be_child(parent, decisions, how)
            actor.begin(0, 0, child)
            _, status = os.waitpid(child, 0)
            actor.end(0, 0, child)
            if os.waitstatus_to_exitcode(status) not in (0, -signal.SIGKILL):
                actor.complain(f"a forked child ended by {os.waitstatus_to_exitcode(status)}")
            self._stage.board.leave(self._plan.slot(self._process, self._plan.threads))
        finally:
            self._forking.release()

    def _be_child(self, parent: int, decisions: list[Decision], how: int) -> None:
        status = 1
        try:
            die_with_parent(parent)
            slot = self._plan.slot(self._process, self._plan.threads)
            actor = Actor.current = Actor(self._stage.board, self._wishes, slot)
            for decision in decisions:
                fate = decision.fate if decision.fate in (INSIDE, OUTSIDE) else 0
                actor.perform(decision._replace(fate=fate), self._scenes[decision.topic].play)
            self._stage.board.leave(slot)
            if how == EXEC:
                os.execv("/bin/true", ["true"])
            status = 0
        except Exception as e:
            with contextlib.suppress(Exception):
                actor.complain(f"{type(e).__name__} came out of an operation of a child: {e}\n{_where()}")
        finally:
            os._exit(status)


def _where() -> str:
    import traceback

    return "".join(traceback.format_exc().splitlines(keepends=True)[-12:])
