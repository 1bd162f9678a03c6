"""`syncx run`: a command that runs while locks or permits are held, the shell's `with`.

The command's process is forked first and waits at a gate, a pipe, until the locks are held; so it has nothing of the
arena, and its process is there to be tied to ours (PR_SET_PDEATHSIG): should `syncx run` be killed, the kernel frees
the locks for the next holder and kills the command, which has no right to go on without them.

With `inherit` a file is locked as flock(1) does it: the lock belongs to a descriptor, which is passed to the command's
process through the gate, then a socket, and goes on until the last process that has inherited it has ended.
"""

from __future__ import annotations

import contextlib
import functools
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

__all__ = ["CANNOT_RUN", "CONFLICT", "FAILED", "NOT_FOUND", "Claim", "run", "run_descriptor"]

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
_MOST_DESCRIPTORS = 253
"""That a message takes (SCM_MAX_FD)."""


NAMED_HOLDERS = 3
"""How many of those who hold what we did not get are named."""


class Claim(NamedTuple):
    """Something to hold while the command runs."""

    what: str
    """The option that asks for it: "lock", "semaphore", "read", "write" or "file"."""
    name: str
    """Of a file: its path."""
    permits: int | None = None
    """How many permits the semaphore has; None: as many as it was made with, or 1."""
    start: int = 0
    length: int = 0
    """Of a file: how many bytes from the first one on; 0: to the end, however far it grows."""
    shared: bool = False
    style: str = "ofd"

    def __str__(self) -> str:
        what = f"a permit of {self.name!r}" if self.what == "semaphore" else repr(self.name)
        purpose = {"read": " for reading", "write": " for writing"}.get(self.what, "")
        if self.start or self.length:
            what = f"bytes {self.start}:{self.start + self.length if self.length else ''} of {what}"
        return what + purpose + (" (shared)" if self.shared else "")


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
    inherit: bool = False,
    fork: bool = True,
    verbose: bool = False,
) -> int:
    """Runs a command while all that is claimed is held, and returns the exit status for the shell.

    claims: taken in this order and released in reverse.
    timeout: seconds to wait for all of them together; None: for ever, 0: not at all.
    inherit: the command, and what it starts, keep the locks of files until the last of them has ended.
    fork: False makes this process the command, with files as the only claims, which it keeps as with `inherit`.
    verbose: says on stderr how long each took.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    inherit = inherit or not fork
    pid, gate = _fork(command, passes=inherit) if fork else (0, -1)
    stoppable = [s for s in PASSED_ON if signal.getsignal(s) != signal.SIG_IGN]
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent that ignored it would cost us the command's status
        for number in stoppable:
            signal.signal(number, _stop)
        _report_dead_owners()
        deadline = None if timeout is None else time.monotonic() + timeout
        with contextlib.ExitStack() as held:
            passed = [claim for claim in claims if inherit and claim.what == "file"]
            home: Callable[[], Arena] = functools.cache(lambda: default_arena() if arena is None else Arena(arena))
            locks: list[Any] = []
            for claim in claims:
                begun = time.monotonic()
                before = [(c, fd) for c, fd in zip(claims, locks, strict=False) if c in passed]
                take = _passing(claim, before, deadline) if claim in passed else _holding(claim, home(), deadline)
                locks.append(held.enter_context(take))
                if verbose:
                    _tell_time(claim, time.monotonic() - begun)
            descriptors = [lock for claim, lock in zip(claims, locks, strict=True) if claim in passed]
            if not fork:
                return _execute_here(command, descriptors, stoppable)
            # from here on signals are the command's business: we take them one by one and hand them on
            signal.pthread_sigmask(signal.SIG_BLOCK, [*stoppable, signal.SIGCHLD])
            torn = [c.name for c, lock in zip(claims, locks, strict=True) if getattr(lock, "owner_died", False)]
            _open_gate(gate, torn, descriptors)
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
        return _failed(_words(e), FAILED)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, stoppable)
        if gate >= 0:
            os.close(gate)  # the command's process sees that there is nothing to run, and ends
        if pid:
            os.waitpid(pid, 0)


def run_descriptor(
    fd: int,
    claim: Claim,
    *,
    unlock: bool = False,
    timeout: float | None = None,
    conflict_status: int = CONFLICT,
    verbose: bool = False,
) -> int:
    """Locks or unlocks a descriptor of the shell that runs us, and returns the exit status.

    The lock is the shell's: it stays when we have ended, until the shell has closed the descriptor.
    claim: the range and mode; its name is for messages.
    """
    from . import descriptor

    try:
        for number in PASSED_ON:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _stop)
        descriptor.check(fd, shared=claim.shared or unlock, style="flock" if unlock else claim.style)
        begun = time.monotonic()
        if unlock:
            descriptor.unlock(fd, claim.start, claim.length, style=claim.style)
        elif not descriptor.lock(
            fd, claim.start, claim.length, shared=claim.shared, style=claim.style, timeout=timeout
        ):
            return _failed(_whose_file(claim, fd), conflict_status)
        elif verbose:
            _tell_time(claim, time.monotonic() - begun)
    except _Stopped as e:
        return 128 + e.number
    except (OSError, ValueError) as e:
        return _failed(_words(e), FAILED)
    return 0


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def _tell_time(claim: Claim, seconds: float) -> None:
    from .terminal import duration

    print(f"syncx: got {claim} after {duration(seconds)}", file=sys.stderr, flush=True)


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
    if claim.what == "file":
        from .filelock import RangeLock

        ranges = RangeLock(
            claim.name,
            claim.start,
            claim.length,
            shared=claim.shared,
            style="flock" if claim.style == "flock" else "ofd",
            arena=arena,
        )
        return ranges, ranges
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
    return bool(lock._is_owned() if hasattr(lock, "_is_owned") else lock.held)


@contextlib.contextmanager
def _passing(claim: Claim, before: Sequence[tuple[Claim, int]], deadline: float | None) -> Iterator[int]:
    """Locks a file for whoever gets the descriptor, which this yields and closes.

    before: what this command has already of this kind, so that it never waits for itself.
    """
    from . import descriptor

    while True:
        fd = descriptor.open_file(claim.name, shared=claim.shared, style=claim.style)
        try:
            mine = os.fstat(fd)
            for other, its_fd in before:
                if os.path.samestat(mine, os.fstat(its_fd)) and _exclude_each_other(claim, other):
                    raise SyncxError(f"this command holds {other} already, and would wait for itself for ever")
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not descriptor.lock(fd, claim.start, claim.length, shared=claim.shared, style=claim.style, timeout=left):
                raise _NotObtained(_whose_file(claim, fd))
            try:
                named = os.path.samestat(mine, os.stat(claim.name))
            except FileNotFoundError:
                named = False
            if named:  # else the file was replaced while we waited, and others lock another one by that name
                yield fd
                return
        finally:
            os.close(fd)


def _exclude_each_other(a: Claim, b: Claim) -> bool:
    if (a.style == "flock") != (b.style == "flock") or (a.shared and b.shared):
        return False
    return (a.length == 0 or b.start < a.start + a.length) and (b.length == 0 or a.start < b.start + b.length)


def _whose(claim: Claim, arena: Arena) -> str:
    """Why it was not to be had: who holds it now."""
    from .terminal import command_line

    if claim.what == "file":
        return _whose_file(claim, claim.name, arena)
    found = [o for o in arena.objects() if o.name == claim.name]
    holders = {h.pid: h for o in found for h in reversed(o.holders)}  # several threads or permits of a process: once
    all_of_them = found[0].parameter if found else 1
    return _not_obtained(claim, {pid: command_line(*holder) for pid, holder in holders.items()}, all_of_them)


def _whose_file(claim: Claim, file: str | int, arena: Arena | None = None) -> str:
    from .lockinfo import file_locks

    holders: dict[int, str] = {}
    for lock in file_locks(file, arena=arena).held:
        its = Claim("file", claim.name, None, lock.start, lock.length, lock.mode == "shared", lock.kind)
        if lock.kind in ("ofd", "posix", "flock") and _exclude_each_other(claim, its):
            holders.update((party.pid, party.command) for party in lock.parties)
            if not lock.parties:
                return f"did not get {claim}: it is held by a process that cannot be seen from here"
    return _not_obtained(claim, holders)


def _not_obtained(claim: Claim, holders: dict[int, str], all_of_them: int = 1) -> str:
    """holders: the command of each process."""
    if not holders:
        return f"did not get {claim}: it was held until a moment ago"
    named = [
        f"{pid} ({command or 'of another user or container'})" for pid, command in list(holders.items())[:NAMED_HOLDERS]
    ]
    more = len(holders) - len(named)
    if more:
        named.append(f"{more} more")
    *first, last = named
    processes = f"processes {', '.join(first)} and {last}" if first else f"process {last}"
    subject = f"all {all_of_them} are" if all_of_them > 1 else "it is"
    return f"did not get {claim}: {subject} held by {processes}"


# ---- the command's process -----------------------------------------------------------------------------------------


def _fork(command: Sequence[str], *, passes: bool) -> tuple[int, int]:
    """Makes the command's process, which waits.  Returns its pid and the gate, a socket if it passes descriptors."""
    prctl = _find_prctl()
    parent = os.getpid()
    entrance, gate = _socket_pair() if passes else os.pipe()
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
            status = _become(command, entrance, passes)
    finally:
        os._exit(status)


def _find_prctl() -> Callable[..., int] | None:
    try:
        import ctypes

        prctl: Callable[..., int] = ctypes.CDLL(None).prctl
        return prctl
    except (ImportError, OSError, AttributeError):  # a Python without ctypes: the command survives us, as documented
        return None


def _socket_pair() -> tuple[int, int]:
    import socket

    inside, outside = socket.socketpair()
    return inside.detach(), outside.detach()


def _become(command: Sequence[str], entrance: int, passes: bool) -> int:
    """In the command's process: waits at the gate and executes the command.  Returns only if that fails."""
    _default_signals()
    word = _receive(entrance) if passes else b""
    with open(entrance, "rb") as f:
        word += f.read()
    if not word.startswith(_GO):
        return FAILED  # nobody looks: the locks were not obtained, or our parent is dead
    return _execute(command, os.fsdecode(word[len(_GO) :]))


def _receive(entrance: int) -> bytes:
    """The first word through the gate, and the descriptors that come with it, which the command inherits."""
    import socket

    with socket.socket(fileno=os.dup(entrance)) as connection:
        word, descriptors, _, _ = socket.recv_fds(connection, 1, _MOST_DESCRIPTORS)
    for fd in descriptors:
        os.set_inheritable(fd, True)
    return word


def _default_signals() -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, other programs should not
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _execute_here(command: Sequence[str], descriptors: Sequence[int], stoppable: Sequence[signal.Signals]) -> int:
    """Makes this process the command.  Returns only if that fails."""
    for fd in descriptors:
        os.set_inheritable(fd, True)
    for number in stoppable:
        signal.signal(number, signal.SIG_DFL)
    _default_signals()
    return _execute(command, "")


def _execute(command: Sequence[str], torn: str) -> int:
    environment = dict(os.environ)
    environment.pop(OWNER_DIED_VARIABLE, None)
    if torn:
        environment[OWNER_DIED_VARIABLE] = torn
    try:
        os.execvpe(command[0], list(command), environment)
    except FileNotFoundError:
        return _say(f"{command[0]}: command not found", NOT_FOUND)
    except OSError as e:
        return _say(f"{command[0]}: {e.strerror}", CANNOT_RUN)


def _say(message: str, status: int) -> int:
    os.write(2, os.fsencode(f"syncx: {message}\n"))
    return status


def _open_gate(gate: int, torn: Sequence[str], descriptors: Sequence[int]) -> None:
    word = _GO + "\n".join(torn).encode()
    with contextlib.suppress(ConnectionError):  # somebody killed the command while it waited; its status will tell
        if descriptors:
            import socket

            with socket.socket(fileno=os.dup(gate)) as connection:
                word = word[socket.send_fds(connection, [word], descriptors) :]
        os.write(gate, word)
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
