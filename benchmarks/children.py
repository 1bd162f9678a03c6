"""Child processes that cannot outlive their welcome: every wait is bounded, and all are killed at the end."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing.connection
import os
import select
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

Connection = multiprocessing.connection.Connection
PATIENCE = 30.0
"""Seconds after which a child that says nothing is late."""

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_alive: set[Child | Program] = set()


_MADV_POPULATE_READ, _MADV_POPULATE_WRITE = 22, 23


def own_pages() -> None:
    """Gets a forked process the pages that it would otherwise fetch or copy in the middle of what is measured.

    A process that has worked for a while has them.  Kernels before 5.14 cannot, and the fetching is measured too.
    """
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights = line.split()[:2]
        if rights[0] == "r" and rights[3] == "p":
            low, high = (int(a, 16) for a in addresses.split("-"))
            how = _MADV_POPULATE_WRITE if rights[1] == "w" else _MADV_POPULATE_READ
            _libc.madvise(ctypes.c_void_p(low), ctypes.c_size_t(high - low), how)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C waits until what is made here is registered to be undone.

    During a fork Python would even drop its exception.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGALRM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Late(Exception):
    """A child did not answer in time, or ended without an answer."""


class Child:
    """A forked process that runs `body(connection)`.

    Forked, because what it shares (an unnamed semaphore, a multiprocessing.Lock) is handed on by fork alone or most
    simply.  The benchmarks have no second thread that a fork could catch at a bad moment.
    """

    def __init__(self, body: Callable[[Connection], None]) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        with undisturbed():
            self.pid = os.fork()
            if self.pid == 0:
                self._run(body, theirs)
            _alive.add(self)
        theirs.close()

    def _run(self, body: Callable[[Connection], None], connection: Connection) -> NoReturn:
        code = 1
        try:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides; it kills us
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGALRM})
            self._connection.close()
            gc.disable()
            body(connection)
            code = 0
        except (EOFError, BrokenPipeError):
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def send(self, message: Any) -> None:
        self._connection.send(message)

    def receive(self, seconds: float = PATIENCE) -> Any:
        try:
            if self._connection.poll(seconds):
                return self._connection.recv()
        except (EOFError, ConnectionError):
            raise Late(f"process {self.pid} ended without an answer") from None
        raise Late(f"process {self.pid} gave no answer in {seconds:g} s")

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kills and reaps."""
        if self in _alive:
            _alive.discard(self)
            self.kill()
            os.waitpid(self.pid, 0)
            self._connection.close()


class Program:
    """A program that talks in lines, with the same methods as `Child`."""

    def __init__(self, path: Path, *arguments: str) -> None:
        self._buffer = b""
        with undisturbed():
            self._process = subprocess.Popen(
                [path, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
            self.pid = self._process.pid
            _alive.add(self)

    def send(self, message: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{message}\n".encode())

    def receive(self, seconds: float = PATIENCE) -> Any:
        assert self._process.stdout is not None
        end = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            if not select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                raise Late(f"process {self.pid} gave no answer in {seconds:g} s")
            data = self._process.stdout.read(4096)
            if not data:
                raise Late(f"process {self.pid} ended without an answer")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return int(line) if line.isdigit() else line.decode()

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        if self in _alive:
            _alive.discard(self)
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def end_all() -> None:
    for child in list(_alive):
        child.end()
