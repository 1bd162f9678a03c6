"""The processes around a victim: agents that hold, wait and survive, and the page that all of them share.

The driver itself stays out of the arena, or its victims would be forks of a participant.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ..stepping import state_of, system_call_of

__all__ = ["BOUND", "HANG", "Agent", "Answer", "Page", "asleep_in", "until"]

BOUND = 0.25
"""Seconds in which survivors go on after a death: the promise."""
HANG = 3.0
"""Seconds after which somebody who waits is said to hang: beyond any noise of a busy machine."""

_CPUS = os.sched_getaffinity(0)
_IDLE = {0, 45, 47}  # read, recvfrom, recvmsg: an agent that waits for its next order


class Answer(NamedTuple):
    """What an agent says of an order."""

    value: Any
    at: int
    """When it had done it, in nanoseconds of CLOCK_MONOTONIC."""
    error: str | None
    """The exception that it raised, as text."""


class Page:
    """Sixty-four numbers that all processes of a scenario share."""

    CANARY = 0
    """The pid of who is inside, where one may be."""
    STATUS = 1
    """What became of the victim's operation."""
    FREE = 8
    """The first that a scenario may use as it likes."""

    def __init__(self) -> None:
        import mmap

        self._memory = mmap.mmap(-1, 4096)
        self.numbers = memoryview(self._memory).cast("q")

    def __getitem__(self, index: int) -> int:
        return int(self.numbers[index])

    def __setitem__(self, index: int, value: int) -> None:
        self.numbers[index] = value

    def clear(self) -> None:
        """All numbers 0."""
        self._memory[:] = bytes(4096)

    def close(self) -> None:
        self.numbers.release()
        self._memory.close()


class Agent:
    """A process that does what it is told, one order after the other.

    orders: an object whose methods are the orders.  prepare: what the process does first.
    """

    def __init__(self, orders: object, prepare: Callable[[], object]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.waiting = False
        """Whether an answer is due."""
        self._socket = ours
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _serve(theirs, orders, prepare, self._errors.fileno())
        theirs.close()
        self.waiting = True
        if self.answer(HANG * 4) is None:
            raise RuntimeError(f"an agent did not start: {self.said()}")

    def tell(self, order: str, *arguments: Any) -> None:
        """Gives it an order; `answer` collects what it says."""
        self._socket.send(pickle.dumps((order, arguments)))
        self.waiting = True

    def answer(self, seconds: float = HANG) -> Answer | None:
        """Its answer; None: it has not come in time, or the agent has ended."""
        if not select.select([self._socket], [], [], seconds)[0]:
            return None
        data = self._socket.recv(1 << 16)
        self.waiting = False
        return Answer(*pickle.loads(data)) if data else None

    def has_answered(self, seconds: float = 0) -> bool:
        """Whether its answer is there, or comes within that time.  It stays to be collected."""
        return bool(select.select([self._socket], [], [], seconds)[0])

    def ask(self, order: str, *arguments: Any) -> Answer:
        """Order and answer.  RuntimeError: it raised, or did not answer in time."""
        self.tell(order, *arguments)
        answer = self.answer(HANG)
        if answer is None or answer.error is not None:
            raise RuntimeError(f"an agent failed at {order}: {answer.error if answer else 'no answer'} {self.said()}")
        return answer

    def asleep(self) -> bool:
        """Whether it sleeps amid an order, and not for want of one."""
        return asleep_in(self.pid) and not self.has_answered()

    def until_asleep(self) -> None:
        """Waits until it sleeps amid its order, or has answered."""
        until(lambda: self.asleep() or self.has_answered(), "an agent to sleep or answer")

    def said(self) -> str:
        """What it wrote to its stderr."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()

    def end(self) -> None:
        """SIGKILL, and waits for its end."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
            self._socket.close()
            self._errors.close()


def _serve(orders_from: socket.socket, orders: object, prepare: Callable[[], object], errors: int) -> None:
    import ctypes
    import traceback

    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        os.dup2(errors, 2)
        os.sched_setaffinity(0, _CPUS)  # one that is started anew is forked by a driver that is bound
        prepare()
        orders_from.send(pickle.dumps((None, time.monotonic_ns(), None)))
        while data := orders_from.recv(1 << 16):
            order, arguments = pickle.loads(data)
            value = error = None
            try:
                value = getattr(orders, order)(*arguments)
            except Exception as e:
                error = f"{type(e).__name__}: {e}"
                traceback.print_exc()
            orders_from.send(pickle.dumps((value, time.monotonic_ns(), error)))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def asleep_in(pid: int) -> bool:
    """Whether a process sleeps in a system call in which it does not wait for orders."""
    if state_of(pid) != "S":
        return False
    call = system_call_of(pid)
    return call is not None and call not in _IDLE


def until(condition: Callable[[], object], what: str, seconds: float = HANG) -> None:
    """Waits for something in another process that no event tells of; RuntimeError when it does not come about."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited in vain for {what}")
        time.sleep(0.00005)
