"""`syncx run`: a command that runs while locks or permits are held, the shell's `with`.

The command's process is forked first and waits at a gate, a pipe, until the locks are held; so it has nothing of the
arena, and its process is there to be tied to ours (PR_SET_PDEATHSIG): should `syncx run` be killed, the kernel frees
the locks for the next holder and kills the command, which has no right to go on without them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from .arena import Arena, default_arena
from .bounded import BoundedSemaphore
from .errors import SyncxError
from .mutex import Mutex, RLock
from .rwlock import RWLock

__all__ = ["CANNOT_RUN", "CONFLICT", "FAILED", "NOT_FOUND", "Claim", "run"]

CONFLICT = 75
"""Exit status when a lock was not to be had: EX_TEMPFAIL of sysexits.h."""
FAILED = 125
"""Exit status when syncx itself failed; this and the next two as in env(1) and timeout(1)."""
CANNOT_RUN = 126
NOT_FOUND = 127

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
OWNER_DIED_VARIABLE = "SYNCX_OWNER_DIED"
"""Tells the command, one name a line, which locks were left by an owner that died."""

_PR_SET_PDEATHSIG = 1
_GO = b"+"


NAMED_HOLDERS = 3
"""How many of those who hold what we did not get are named."""


class Claim(NamedTuple):
    """Something to hold while the command runs."""

    what: str
    """The option that asks for it: "lock", "semaphore", "read" or "write"."""
    name: str
    permits: int | None = None
    """How many permits the semaphore has; None: as many as it was made with, or 1."""


class _NotObtained(Exception):
    """A lock was not to be had in time; the argument says which and who has it."""


class _CommandFailed(Exception):
    """Leaves the locks as an exception leaves a `with`: an owner-died mark stays for the next holder."""

    def __init__(self, status: int) -> None:
        self.status = status


class _Stopped(Exception):
    """A signal came while we waited for the locks."""

    def __init__(self, number: int) -> None:
        self.number = number


def run(
    command: Sequence[str],
    claims: Sequence[Claim],
    *,
    arena: str | None = None,
    timeout: float | None = None,
    conflict_status: int = CONFLICT,
) -> int:
    """Runs a command while all that is claimed is held, and returns the exit status for the shell.

    claims: taken in this order and released in reverse.
    timeout: seconds to wait for all of them together; None: for ever, 0: not at all.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid, gate = _fork(command)
    stoppable = [s for s in PASSED_ON if signal.getsignal(s) != signal.SIG_IGN]
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent that ignored it would cost us the command's status
        for number in stoppable:
            signal.signal(number, _stop)
        _report_dead_owners()
        deadline = None if timeout is None else time.monotonic() + timeout
        with contextlib.ExitStack() as held:
            home = default_arena() if arena is None else Arena(arena)
            locks = [held.enter_context(_holding(claim, home, deadline)) for claim in claims]
            # from here on signals are the command's business: we take them one by one and hand them on
            signal.pthread_sigmask(signal.SIG_BLOCK, [*stoppable, signal.SIGCHLD])
            torn = [c.name for c, lock in zip(claims, locks, strict=True) if getattr(lock, "owner_died", False)]
            _open_gate(gate, torn)
            gate = -1
            status = _supervise(pid, stoppable)
            pid = 0
            if status != 0:
                raise _CommandFailed(status)
        return 0
    except _CommandFailed as e:
        return e.status
    except _Stopped as e:
        return 128 + e.number
    except _NotObtained as e:
        return _failed(str(e), conflict_status)
    except (SyncxError, OSError, ValueError) as e:
        return _failed(str(e), FAILED)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, stoppable)
        if gate >= 0:
            os.close(gate)  # the command's process sees that there is nothing to run, and ends
        if pid:
            os.waitpid(pid, 0)


def _failed(message: str, status: int) -> int:
    print(f"syncx: {message}", file=sys.stderr)
    return status


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise _Stopped(number)


def _report_dead_owners() -> None:
    """The library writes one line to its logger when an owner died; here that goes to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("syncx: %(message)s"))
    logging.getLogger("syncx").addHandler(handler)


# ---- what is held --------------------------------------------------------------------------------------------------


def _open(claim: Claim, arena: Arena) -> tuple[Any, Any]:
    """What the claim is for, made if it is new, and the lock to acquire: a view of an RWLock, else the thing itself."""
    if claim.what == "semaphore":
        semaphore = _open_semaphore(claim, arena)
        return semaphore, semaphore
    if claim.what == "lock":
        lock = _open_lock(claim.name, arena)
        return lock, lock
    rw = RWLock(claim.name, arena=arena)
    return rw, rw.write() if claim.what == "write" else rw.read()


def _open_lock(name: str, arena: Arena) -> Mutex | RLock:
    """The lock of that name, whichever kind a program made of it; a Mutex if it is new."""
    try:
        return Mutex(name, arena=arena)
    except ValueError as e:
        try:
            return RLock(name, arena=arena, create=False)
        except ValueError:
            raise e from None


def _open_semaphore(claim: Claim, arena: Arena) -> BoundedSemaphore:
    if claim.permits is None:
        semaphore = BoundedSemaphore(name=claim.name, arena=arena)
    else:
        semaphore = BoundedSemaphore(claim.permits, name=claim.name, arena=arena)
    if semaphore.capacity == 0:
        raise SyncxError(f"the semaphore {claim.name!r} was made without permits: nobody can have one")
    if semaphore.held == semaphore.capacity:
        number = "the only permit" if semaphore.capacity == 1 else f"all {semaphore.capacity} permits"
        raise SyncxError(f"this command holds {number} of {claim.name!r} already, and would wait for itself for ever")
    return semaphore


@contextlib.contextmanager
def _holding(claim: Claim, arena: Arena, deadline: float | None) -> Iterator[Any]:
    """`with` what is claimed, until a common deadline.  A signal handler's exception anywhere leaves it released.

    Yields what can tell whether an owner died.
    """
    thing, lock = _open(claim, arena)
    try:
        if not lock.acquire(timeout=None if deadline is None else max(0.0, deadline - time.monotonic())):
            raise _NotObtained(_whose(claim, arena))
        yield thing if claim.what == "read" else lock
    except BaseException as e:
        if _held(lock):
            lock.__exit__(type(e), e, e.__traceback__)
        raise
    else:
        lock.release()


def _held(lock: Any) -> bool:
    return lock.held > 0 if isinstance(lock, BoundedSemaphore) else bool(lock._is_owned())


def _whose(claim: Claim, arena: Arena) -> str:
    """Why it was not to be had: who holds it now."""
    from .terminal import command_line

    purpose = {"read": " for reading", "write": " for writing"}.get(claim.what, "")
    what = f"a permit of {claim.name!r}" if claim.what == "semaphore" else f"{claim.name!r}{purpose}"
    found = [o for o in arena.objects() if o.name == claim.name]
    holders = {h.pid: h for o in found for h in reversed(o.holders)}  # several threads or permits of a process: once
    if not holders:
        return f"did not get {what}: it was held until a moment ago"
    named = [
        f"{pid} ({command_line(*holder) or 'of another user or container'})"
        for pid, holder in list(holders.items())[:NAMED_HOLDERS]
    ]
    more = len(holders) - len(named)
    if more:
        named.append(f"{more} more")
    *first, last = named
    processes = f"processes {', '.join(first)} and {last}" if first else f"process {last}"
    subject = f"all {found[0].parameter} are" if found[0].parameter > 1 else "it is"
    return f"did not get {what}: {subject} held by {processes}"


# ---- the command's process -----------------------------------------------------------------------------------------


def _fork(command: Sequence[str]) -> tuple[int, int]:
    """Makes the command's process, which waits.  Returns its pid and the gate."""
    prctl = _find_prctl()
    parent = os.getpid()
    entrance, gate = os.pipe()
    pid = os.fork()
    if pid != 0:
        os.close(entrance)
        return pid, gate
    status = FAILED
    try:
        os.close(gate)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() == parent:  # else it died before we were tied to it
            status = _become(command, entrance)
    finally:
        os._exit(status)


def _find_prctl() -> Callable[..., int] | None:
    try:
        import ctypes

        prctl: Callable[..., int] = ctypes.CDLL(None).prctl
        return prctl
    except (ImportError, OSError, AttributeError):  # a Python without ctypes: the command survives us, as documented
        return None


def _become(command: Sequence[str], entrance: int) -> int:
    """In the command's process: waits at the gate and executes the command.  Returns only if that fails."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, other programs should not
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    with open(entrance, "rb") as f:
        word = f.read()
    if not word.startswith(_GO):
        return FAILED  # nobody looks: the locks were not obtained, or our parent is dead
    environment = dict(os.environ)
    environment.pop(OWNER_DIED_VARIABLE, None)
    if len(word) > len(_GO):
        environment[OWNER_DIED_VARIABLE] = os.fsdecode(word[len(_GO) :])
    try:
        os.execvpe(command[0], list(command), environment)
    except FileNotFoundError:
        return _say(f"{command[0]}: command not found", NOT_FOUND)
    except OSError as e:
        return _say(f"{command[0]}: {e.strerror}", CANNOT_RUN)


def _say(message: str, status: int) -> int:
    os.write(2, os.fsencode(f"syncx: {message}\n"))
    return status


def _open_gate(gate: int, torn: Sequence[str]) -> None:
    with contextlib.suppress(BrokenPipeError):  # somebody killed the command while it waited; its status will tell
        os.write(gate, _GO + "\n".join(torn).encode())
    os.close(gate)


def _supervise(pid: int, stoppable: Sequence[signal.Signals]) -> int:
    """Hands signals on until the command ends.  Returns its status as a shell has it."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        info = signal.sigwaitinfo([*stoppable, signal.SIGCHLD])
        # what the terminal sends (Ctrl-C) comes from the kernel, and the command in its foreground had it too
        if info.si_signo != signal.SIGCHLD and info.si_code <= 0:
            with contextlib.suppress(PermissionError):  # a command that became another user
                os.kill(pid, info.si_signo)
