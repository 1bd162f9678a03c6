"""A child process that goes on by single machine instructions and is killed where one likes.

    victim = Victim(lock.acquire)  # forked, and stopped just before it calls that
    victim.walk(steps=100)  # 100 instructions on
    victim.kill()

ptrace(2) does it: `PTRACE_SINGLESTEP`, and `PTRACE_O_EXITKILL`, so that nothing is left when the parent dies.  x86-64
only, since it reads registers and opcodes.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["SUPPORTED", "Victim", "interpreter_code", "require", "state_of", "system_call_of", "why_not"]

SUPPORTED = platform.machine() == "x86_64"
_PAUSE = 34
"""pause(2), of x86-64."""
_LATE = 60.0
"""Seconds for a thread to get there, however busy the machine is."""


def why_not() -> str | None:
    """Why children cannot be stepped here; None: they can.

    It tries: a child is traced, which containers and `kernel.yama.ptrace_scope` = 3 may forbid.
    """
    if not SUPPORTED:
        return f"single-stepping reads x86-64 registers and opcodes; this is {platform.machine()}"
    try:
        victim = Victim(_nothing)
    except (OSError, RuntimeError) as e:
        return (
            f"a child cannot be traced here ({e}): allow ptrace(2), in a container with --cap-add=SYS_PTRACE, "
            "and set kernel.yama.ptrace_scope to less than 3"
        )
    victim.kill()
    return None


def require() -> None:
    """Raises RuntimeError with what to do if children cannot be stepped here."""
    reason = why_not()
    if reason is not None:
        raise RuntimeError(reason)


def _nothing() -> None:
    """An operation, to see whether one can be stepped."""


class Victim:
    """A forked child, stopped before its operation.

    operation: what it is stepped through; None: what `before` returns, so that no frame of Python's is in between.
    before: what it does first, at full speed.
    watched: buffers of memory that the child shares; a change of them by the child is an effect.  Others may change
    them too, and while the child stands at one instruction that cannot be told apart.
    aside: addresses of code that changes none of them and makes no system call itself, such as `interpreter_code()`
    says them: what changes meanwhile is another's doing, and no effect.
    in_thread: both run in a second thread of the child; the first one lives on, asleep from before them.
    to_the_end: the end to step to is that of the thread, not of the operation.

    Fork it from the thread that steps it, in a process that has no other threads: the child is a plain fork(2).  When
    the object is dropped the child is killed; it is killed too when its parent ends.  An operation that raises ends as
    one that returns.  Raises RuntimeError when the child ended before its operation (an exception in `before` is
    printed to its stderr).
    """

    def __init__(
        self,
        operation: Callable[[], object] | None = None,
        before: Callable[[], Any] | None = None,
        watched: Sequence[Any] = (),
        *,
        aside: tuple[int, int] = (0, 0),
        in_thread: bool = False,
        to_the_end: bool = False,
    ) -> None:
        from . import _step

        self._killed = False
        parent = os.getpid()
        hears, tells = os.pipe() if in_thread else (-1, -1)
        self._pid = os.fork()
        if self._pid == 0:
            _step.die_with(parent)
            if in_thread:
                _child_with_thread(operation, before, tells, not to_the_end)
            _child(operation, before)
        thread = 0
        if in_thread:
            os.close(tells)
            told = os.read(hears, 8)  # nothing, if it has ended: then its end is what the tracee is told of
            os.close(hears)
            thread = int.from_bytes(told, sys.byteorder)
        self._tracee = _step.Tracee(self._pid, watched, thread, aside)

    def walk(
        self,
        steps: int = -1,
        effects: int = -1,
        patience: float = 0.0,
        calls: int = -1,
        *,
        leap: tuple[int, int] = (0, 0),
        traced: bool = False,
    ) -> str:
        """Goes on by single instructions until it has done that many, or caused that many effects.

        A step costs microseconds, tens of them on a virtual machine.  With `calls` the child goes at full speed until
        it has done that many system calls; steps and effects are counted from there, and end at the next one.

        steps, effects, calls: the sums to stop at, counted from the start; -1: without that limit.
        patience: seconds to wait for it when it sleeps in a system call.
        leap: an address and a number of steps: it goes there at full speed, by a breakpoint, and that counts as so many
        steps.  traced: `trace` keeps the address of each step.

        Returns "limit"; "call": with `calls`, it stands before the next system call, whose number is `call`; "end": the
        operation is over; "gone": the child has ended; "asleep": it has slept for `patience` seconds, is still under
        way, and the next walk waits for it again.
        """
        return self._tracee.walk(steps, effects, patience, calls, *leap, traced)

    def run(self, patience: float = 0.0) -> str:
        """Goes on at full speed to the end of the operation.  Returns as `walk`, never "limit"."""
        return self._tracee.run(patience)

    def kill(self) -> None:
        """SIGKILL, and waits for the end of the child.  Does nothing when it has ended."""
        self._killed |= not self.gone
        self._tracee.kill()

    def end_thread(self) -> None:
        """Ends the thread that is stepped, with `in_thread`, where it stands or sleeps: by exit(2), so that no code of
        its own runs.  The process lives on, until `kill`."""
        self._tracee.end_thread()

    @property
    def gone(self) -> bool:
        """Whether it has ended, or the thread that was stepped."""
        return self._tracee.gone

    @property
    def failed(self) -> str:
        """What it died of, or its process, if it was neither by `kill` nor in good order; else ""."""
        code = 0 if self._killed else os.waitstatus_to_exitcode(self._tracee.status)
        if code == 0:
            return ""
        return f"signal {-code}" if code < 0 else f"exit status {code}"

    def signal(self, number: int) -> None:
        """Sends it a signal: an interrupted sleep ends, and the handler runs with the next steps."""
        self._tracee.signal(number)

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def steps(self) -> int:
        """Instructions done since the operation began, or since the last of `calls`."""
        return self._tracee.steps

    @property
    def effects(self) -> int:
        """Effects since then, where `walk` counted them."""
        return self._tracee.effects

    @property
    def calls(self) -> int:
        """System calls done, where `walk` counted them."""
        return self._tracee.calls

    @property
    def call(self) -> int:
        """The number of the system call before which a walk ended; -1: it did not."""
        return self._tracee.call

    @property
    def history(self) -> tuple[int, ...]:
        """What the effects were: the numbers of system calls, -1 for a change of watched memory."""
        return self._tracee.history

    @property
    def moments(self) -> tuple[int, ...]:
        """After how many steps each of the effects was."""
        return self._tracee.moments

    @property
    def trace(self) -> tuple[int, ...]:
        """The address of each step of traced walks."""
        return self._tracee.trace

    @property
    def pc(self) -> int | None:
        """The address of its next instruction; None while it sleeps or when it has ended."""
        return self._tracee.pc

    @property
    def place(self) -> str:
        """Where its next instruction is: the file that is mapped there and the offset, as addr2line(1) wants it."""
        return place_of(self.pc)

    def __repr__(self) -> str:
        state = "ended" if self._tracee.gone else f"after {self.steps} instructions"
        return f"<Victim: process {self._pid}, {state}>"


def _child(operation: Callable[[], object] | None, before: Callable[[], Any] | None) -> None:
    from . import _step

    try:
        prepared = before() if before is not None else None
        _frame()(_step.between, operation or prepared or _nothing)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _child_with_thread(
    operation: Callable[[], object] | None, before: Callable[[], Any] | None, tells: int, stops: bool
) -> None:
    """The first thread sleeps in pause(2) before the second one is stepped, and while it is.

    One that is still on its way, as on a busy machine, waits for the interpreter's lock and reads the clock again and
    again: where it met the breakpoint of a leap it would die of SIGTRAP, for nobody traces it, and its process with it.
    """
    import _thread
    import signal
    import traceback
    from functools import partial

    from . import _step

    def lives() -> None:
        try:
            end = time.monotonic() + _LATE
            while system_call_of(os.getpid()) != _PAUSE:  # the first thread is still on its way there
                if time.monotonic() > end:
                    raise RuntimeError("the first thread does not come to pause(2)")
                time.sleep(0.00005)
            prepared = before() if before is not None else None
            _frame()(partial(_step.in_thread, tells, stops), operation or prepared or _nothing)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    _thread.start_new_thread(lives, ())
    while True:
        signal.pause()


def _frame() -> Callable[[Callable[[Any], object], Callable[[], object]], None]:
    """The frame that stands around the operation: short, and not of this package.

    A wait writes down which line waits, of the innermost frame that is not the package's: in some script's that would
    be thousands of instructions.
    """
    names: dict[str, Any] = {}
    exec(compile("def stepped(between, operation):\n    between(operation)\n", "<stepped>", "exec"), names)
    stepped: Callable[[Callable[[Any], object], Callable[[], object]], None] = names["stepped"]
    return stepped


@functools.cache
def interpreter_code() -> tuple[int, int]:
    """The addresses of the interpreter's own instructions, here and in forked children: begin and end."""
    import ctypes

    call = ctypes.cast(ctypes.pythonapi.PyObject_Call, ctypes.c_void_p).value or 0
    begin, end, *_ = _mapping_at(call) or (0, 0)
    return begin, end


def _mapping_at(address: int) -> tuple[int, int, int, str] | None:
    """What is mapped at an address of this process: begin, end, the offset in the file, and its path."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            where, _, offset, _, _, *name = line.split(None, 5)
            begin, end = (int(x, 16) for x in where.split("-"))
            if begin <= address < end:
                return begin, end, int(offset, 16), name[0].strip() if name else "?"
    return None


def place_of(address: int | None) -> str:
    """The file mapped at an address of this process, which a forked child has at the same, and the offset in it."""
    if address is None:
        return "?"
    found = _mapping_at(address)
    if found is None:
        return f"{address:#x}"
    begin, _, offset, path = found
    return f"{os.path.basename(path)}+{address - begin + offset:#x}"


def state_of(pid: int) -> str:
    """The state of a process in /proc/PID/stat, "" when it is gone: R runs, S sleeps, t is stopped by a tracer."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f.read().rpartition(b") ")[2][:1].decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def system_call_of(pid: int) -> int | None:
    """The number of the system call in which a process of ours sleeps; None: it does not."""
    try:
        with open(f"/proc/{pid}/syscall", "rb") as f:
            number = f.read().split()[0]
    except (FileNotFoundError, ProcessLookupError, PermissionError, IndexError):
        return None
    return int(number) if number.isdigit() else None
