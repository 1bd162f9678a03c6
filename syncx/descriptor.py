"""Kernel locks on a given descriptor, as flock(1) takes them: `syncx run --fd`, `--inherit` and `--no-fork`.

Such a lock belongs to the open file: to everybody who has the descriptor by inheritance, until the last of them has
closed it or ended.  So it goes on when the process that took it is gone, which a lock of `RangeLock` never does.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import struct
from types import FrameType

__all__ = ["check", "lock", "open_file", "unlock"]

_OFD_SETLK, _OFD_SETLKW = 37, 38
_FLOCK = struct.Struct("@hhqqi")
"""struct flock of 64-bit Linux."""
AGAIN = 0.1
"""Seconds after which an alarm is repeated that came just before the call that it was to interrupt."""


class _Late(Exception):
    """The time is up."""


def open_file(path: str, *, shared: bool, style: str) -> int:
    """A descriptor of the file, which is made if it is not there; not inheritable.

    Raises IsADirectoryError unless the style is "flock", ValueError for what is no file, and what open(2) raises.
    """
    if style == "flock":  # which minds not how the file is open, but on NFS an exclusive one must write
        ways = [os.O_RDONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT, os.O_RDONLY]
    else:
        ways = [os.O_RDWR | os.O_CREAT, os.O_RDONLY if shared else os.O_WRONLY]
    fd = -1
    first_error: OSError | None = None
    for way in ways:
        try:
            fd = os.open(path, way | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, 0o666)
            break
        except IsADirectoryError as e:
            if style != "flock":
                why = "a directory has no bytes to lock; only --style flock locks one"
                raise IsADirectoryError(e.errno, why, path) from None
            first_error = first_error or e
        except OSError as e:
            first_error = first_error or e
    if fd < 0:
        assert first_error is not None
        raise first_error
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode) and not (stat.S_ISDIR(mode) and style == "flock"):
        os.close(fd)
        raise ValueError(f"{path} is not a file that can be locked, but a FIFO, socket or device")
    return fd


def check(fd: int, *, shared: bool, style: str) -> None:
    """Raises ValueError, with what to do, for a descriptor that cannot be locked so."""
    try:
        inherited = not fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    except OSError:
        inherited = False
    if not inherited:
        raise ValueError(f"descriptor {fd} is not open: open it in the shell, as in ( ... ) {fd}>>FILE")
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode) and not (stat.S_ISDIR(mode) and style == "flock"):
        raise ValueError(f"descriptor {fd} is not of a file")
    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    wanted, word, redirection = (os.O_WRONLY, "reading", "<") if shared else (os.O_RDONLY, "writing", ">>")
    if style == "ofd" and access == wanted:
        kind = "a shared" if shared else "an exclusive"
        raise ValueError(
            f"descriptor {fd} is not open for {word}, as {kind} lock of bytes needs: "
            f"open it with {fd}{redirection}FILE, or use --style flock"
        )


def lock(fd: int, start: int, length: int, *, shared: bool, style: str, timeout: float | None) -> bool:
    """Locks a range of the file, or with the style "flock" the file, for the open file that the descriptor belongs to.

    timeout: seconds; None: for ever, 0: not at all.  Waits asleep in the kernel; a timed wait is ended by SIGALRM, so
    it must be called in the main thread, and nobody else may use that signal.  Returns whether it was obtained.
    """
    if _try(fd, start, length, shared, style, wait=False):
        return True
    if timeout == 0:
        return False
    if timeout is None:
        return _try(fd, start, length, shared, style, wait=True)
    rung = False

    def ring(number: int, frame: FrameType | None) -> None:
        nonlocal rung
        if not rung:
            rung = True
            raise _Late

    before = signal.signal(signal.SIGALRM, ring)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    try:
        signal.setitimer(signal.ITIMER_REAL, timeout, AGAIN)
        _try(fd, start, length, shared, style, wait=True)
        rung = True  # too late to be late
        return True
    except _Late:  # perhaps when it was already ours: asking again tells
        return _try(fd, start, length, shared, style, wait=False)
    finally:
        rung = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def unlock(fd: int, start: int, length: int, *, style: str) -> None:
    """Gives the range back for everybody who shares the open file."""
    if style == "flock":
        fcntl.flock(fd, fcntl.LOCK_UN)
    else:
        fcntl.fcntl(fd, _OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, start, length, 0))


def _try(fd: int, start: int, length: int, shared: bool, style: str, *, wait: bool) -> bool:
    try:
        if style == "flock":
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        else:
            kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
            request = _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)
            fcntl.fcntl(fd, _OFD_SETLKW if wait else _OFD_SETLK, request)
    except BlockingIOError:
        return False
    return True
