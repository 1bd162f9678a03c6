"""Steps through the target of `kill_everywhere`, sees what it holds, kills it, and has it checked."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

from .. import snapshots
from ..errors import SyncxError
from .killing import Kill, Order
from .stepping import Victim
from .walks import Refused, Stretch, die_with_parent, send

__all__ = ["Tracer"]

CHUNK = 128
"""Instructions between two looks at what is held, where a hold begins or ends."""

RING = signal.SIGRTMAX - 5
"""Asks a process where it is; the answer comes from faulthandler."""

_LIBRARY = os.path.dirname(os.__file__) + os.sep
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Tracer:
    """Forks the target, goes through it, kills it, and has it checked."""

    def __init__(self, order: Order) -> None:
        if threading.active_count() > 1:
            others = ", ".join(t.name for t in threading.enumerate() if t is not threading.current_thread())
            raise Refused(
                f"importing the target's module started threads ({others}), and a fork would leave them behind: start "
                "them inside the target"
            )
        self.order = order
        self.answers = os.memfd_create("syncx-where")
        self.paths: set[str] = set()
        self.no_arenas: set[str] = set()

    def serve(self, asks: int, result: int) -> None:
        """One walk, in a process of its own, which ends then.  The victim comes first: see executioner.py."""
        try:
            victim = self.victim()
            try:
                with os.fdopen(asks, "rb", buffering=0) as f:
                    what, arguments = pickle.load(f)
                answer = ("value", getattr(self, what)(victim, *arguments))
            finally:
                self.bury(victim)
        except Refused as e:
            answer = ("error", str(e))
        except BaseException:
            answer = ("error", traceback.format_exc())
        send(result, answer)
        os._exit(0)

    # ---- children ------------------------------------------------------------------------------------------------
    def rehearse(self) -> None:
        """Without a kill all must be well: else the check says nothing."""
        for what, function in (("setup", self.order.setup), ("target", self.order.target), ("check", self.order.check)):
            error = None if function is None else self.in_child(function)
            if error is not None:
                when = " though nobody was killed" if what == "check" else ""
                raise Refused(f"{what} failed{when}:\n{error}")

    def in_child(self, function: Callable[[], object]) -> str | None:
        """Runs it in a process of its own; None, or what went wrong."""
        sys.stdout.flush(), sys.stderr.flush()
        hears, says = os.pipe()
        os.ftruncate(self.answers, 0)
        pid = os.fork()
        if pid == 0:
            os.close(hears)
            _run_and_tell(function, says, self.answers)
        os.close(says)
        told = b""
        late = False
        end = time.monotonic() + self.order.patience
        while True:
            ready = select.select([hears], [], [], max(0.0, end - time.monotonic()))[0]
            data = os.read(hears, 65536) if ready else b""
            told += data
            if not data:
                late = not ready
                break
        os.close(hears)
        where = self.where_is(pid) if late else ""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if late:
            return f"it did not end within {self.order.patience:g} s; it was\n{where}"
        if told == b"done":
            return None
        return told.decode(errors="replace") or f"the process ended with {status} and said nothing"

    def where_is(self, pid: int) -> str:
        """The traceback of a child that is late."""
        os.kill(pid, RING)
        end = time.monotonic() + 5
        text = ""
        while time.monotonic() < end and not text.endswith("\n"):
            time.sleep(0.01)  # faulthandler writes as it goes, and nothing wakes us
            text = os.pread(self.answers, 1 << 16, 0).decode(errors="replace")
        return text

    def victim(self) -> Victim:
        """A new process, stopped before the target, with everything as it was."""
        if self.order.setup is not None:
            error = self.in_child(self.order.setup)
            if error is not None:
                raise Refused(f"setup failed:\n{error}")
        sys.stdout.flush(), sys.stderr.flush()
        os.ftruncate(self.answers, 0)
        answers = self.answers

        def before() -> None:
            os.setpgid(0, 0)
            faulthandler.register(RING, file=answers, all_threads=False)

        return Victim(self.order.target, before)

    def bury(self, victim: Victim) -> None:
        """SIGKILL for it and for its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(victim.pid, signal.SIGKILL)
        victim.kill()

    # ---- what it holds --------------------------------------------------------------------------------------------
    def held_by(self, pid: int) -> tuple[str, ...]:
        """What the threads of a process hold, in all arenas that it has mapped."""
        found = []
        for seen in self.seen(pid):
            threads = {p.id for p in seen.participants if p.pid == pid}
            processes = {p.id for p in seen.processes if p.pid == pid}
            names = {o.id: f"{o.kind} {o.name!r}" if o.name else f"anonymous {o.kind}" for o in seen.objects}
            for hold in seen.holds:
                if hold.thread in threads or hold.process in processes:
                    found.append(names.get(hold.object or 0) or f"{hold.mode} lock of a file")
        return tuple(dict.fromkeys(found))

    def seen(self, pid: int | None = None) -> list[snapshots.Snapshot]:
        """Snapshots of the arenas that are known, and of those that the process has mapped."""
        if pid is not None:
            with open(f"/proc/{pid}/maps") as maps:
                mapped = {line.split(None, 5)[5].rstrip("\n") for line in maps if " rw-s " in line and "/" in line}
            for path in mapped - self.paths - self.no_arenas:
                try:
                    snapshots.snapshot(path)
                except (SyncxError, OSError, ValueError):
                    self.no_arenas.add(path)
                else:
                    self.paths.add(path)
        found = []
        for path in sorted(self.paths):
            with contextlib.suppress(SyncxError, OSError):  # gone since
                found.append(snapshots.snapshot(path))
        return found

    def recoveries(self) -> int:
        return sum(s.counters.recoveries for s in self.seen())

    # ---- the walks -----------------------------------------------------------------------------------------------
    def after_calls(self, victim: Victim) -> list[bool]:
        """Whether anything is held after so many system calls."""
        held: list[bool] = []
        while True:
            why = victim.walk(steps=0, calls=len(held), patience=self.order.patience)
            if why == "asleep":
                raise Refused(
                    f"the target slept for more than {self.order.patience:g} s in its system call {victim.calls}"
                )
            if why in ("end", "gone"):
                return held or [False]
            held.append(bool(self.held_by(victim.pid)))

    def count(
        self, victim: Victim, stretches: list[int], held: list[bool], seconds: float | None
    ) -> tuple[list[Stretch], int]:
        """Goes through these stretches by single instructions: those in which points may lie, and how many are left."""
        found: list[Stretch] = []
        end = None if seconds is None else time.monotonic() + seconds
        for n, calls in enumerate(stretches):
            if end is not None and time.monotonic() > end:
                return found, len(stretches) - n
            all_of_it = held[calls] and calls + 1 < len(held) and held[calls + 1]
            if self.order.everywhere or all_of_it:
                here = self.length(victim, calls, end)
            else:
                here = self.holds_in(victim, calls, end)
            if here is None:
                return found, len(stretches) - n
            found += [s for s in here if s.last > s.first]
        return found, 0

    def length(self, victim: Victim, calls: int, end: float | None) -> list[Stretch] | None:
        """The whole of a stretch, or what of it was gone through in time."""
        steps = 0
        while True:
            steps += 40 * CHUNK
            why = victim.walk(calls=calls, steps=steps, patience=self.order.patience)
            if why in ("gone", "asleep") or victim.calls != calls:
                return None
            if why != "limit" or (end is not None and time.monotonic() > end):
                return [Stretch(calls, 0, max(1, victim.steps))]

    def holds_in(self, victim: Victim, calls: int, end: float | None) -> list[Stretch] | None:
        """The parts of a stretch in which something is held, to within a few instructions, as far as there is time."""
        found, first, steps = list[Stretch](), None, 0
        while True:
            why = victim.walk(calls=calls, steps=steps, patience=self.order.patience)
            if why in ("gone", "asleep") or victim.calls != calls:
                return None
            now = why != "end" and bool(self.held_by(victim.pid))
            if now and first is None:
                first = max(0, victim.steps - CHUNK)
            if not now and first is not None:
                found.append(Stretch(calls, first, victim.steps))
                first = None
            if why != "limit" or (end is not None and time.monotonic() > end):
                if first is not None:
                    found.append(Stretch(calls, first, victim.steps))
                return found
            steps = victim.steps + CHUNK

    def kill_at(self, victim: Victim, calls: int, steps: int) -> tuple[Kill, bool, str | None] | None:
        """One kill and one check: the point, whether somebody took over from the dead, what was wrong."""
        why = victim.walk(calls=calls, steps=steps, patience=self.order.patience)
        if why in ("end", "gone"):
            return None
        point = f"{victim.calls}.{victim.steps}"
        held = self.held_by(victim.pid)
        line = "" if why == "asleep" else self.line_of(victim)
        self.bury(victim)
        before = self.recoveries()
        error = self.in_child(self.order.check)
        return Kill(point, line, held), self.recoveries() > before, error

    def line_of(self, victim: Victim) -> str:
        """The line of Python that the victim is in, asked of its own faulthandler by a signal.

        The handler ends with a system call that leads back to the very instruction; nothing of the target's has run.
        """
        pc = victim.pc
        with open(f"/proc/{victim.pid}/status") as f:
            blocked = int(next(line for line in f if line.startswith("SigBlk")).split()[1], 16)
        if pc is None or blocked >> (RING - 1) & 1:
            return ""
        victim.signal(RING)
        for calls in range(victim.calls + 1, victim.calls + 1000):
            why = victim.walk(calls=calls, steps=0)
            if victim.pc == pc or why not in ("limit", "call"):
                break
        return _innermost(os.pread(self.answers, 1 << 16, 0).decode(errors="replace"))


def _innermost(text: str) -> str:
    """Of faulthandler's traceback the innermost line that is neither ours nor the standard library's, as "FILE:LINE in
    FUNCTION"; "" if there is none."""
    for line in text.splitlines():
        head, _, rest = line.strip().partition('", line ')
        file = head[6:] if head.startswith('File "') else "<"
        library = file.startswith(_LIBRARY) and "-packages" + os.sep not in file
        if not library and not file.startswith((_PACKAGE, "<")):
            number, _, function = rest.partition(" in ")
            return f"{os.path.basename(file)}:{number} in {function}"
    return ""


def _run_and_tell(function: Callable[[], object], says: int, answers: int) -> None:
    """In a forked child: runs it, tells "done" or what it raised, and ends."""
    die_with_parent()
    os.setpgid(0, 0)
    faulthandler.register(RING, file=answers, all_threads=True)
    status = 0
    try:
        function()
        sys.stdout.flush(), sys.stderr.flush()
        told = b"done"
    except BaseException as e:
        where = e.__traceback__.tb_next if e.__traceback__ is not None else None  # without this frame
        text = "".join(traceback.format_exception(type(e), e, where))
        told, status = text.encode(errors="backslashreplace"), 1
    try:
        while told:
            told = told[os.write(says, told) :]
    finally:
        os._exit(status)
