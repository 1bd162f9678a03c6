"""Other libraries' locks in the crash harness: how many of the points at which somebody dies leave the others stuck.

`python -m syncx.testing.crash --from crash_peers --only peer: --mode full --most 40 --findings 10000`, from this
directory.  Exit status 1 is to be expected.  Those that are not installed take no part.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from typing import Any, ClassVar

from syncx.testing.crash.scenario import Scenario
from syncx.testing.stepping import Victim

FORK = multiprocessing.get_context("fork")


class _Peer(Scenario):
    """The victim uses an object; then the survivor does."""

    reads_arena = False  # there is nothing of theirs in the arena
    stoppable = False
    situation = "free"
    hang = 0.5

    def make(self) -> Any:
        """A new object; forked children have it."""
        raise NotImplementedError

    def drop(self) -> None:
        """Removes what is left of the object."""

    def use(self, thing: Any) -> object:
        """What is done with it, by both."""
        raise NotImplementedError

    def open(self) -> None:
        """The object is made by the driver, and inherited."""

    def stage(self) -> None:
        self.thing = self.make()
        for name in self.agents:
            self.restart(name)  # which inherits it
        self.ready()

    def ready(self) -> None:
        """When both have it."""

    def start(self) -> None:
        self.thing = self.make()
        super().start()

    def opened(self) -> Any:
        """The object as a process has it."""
        return self.thing

    def operation(self) -> Callable[[], object]:
        thing = self.opened()
        return lambda: self.use(thing)

    def go_on(self) -> None:
        self.use(self.opened())

    def judge(self, victim: Victim) -> None:
        self.order("survivor", "go_on")
        self.drop()


class MpLock(_Peer):
    primitive, operation_name = "peer: multiprocessing Lock", "with"

    def make(self) -> Any:
        return FORK.Lock()

    def use(self, thing: Any) -> None:
        with thing:
            os.getpid()


class MpCondition(_Peer):
    primitive, operation_name = "peer: multiprocessing Condition", "notify"

    def make(self) -> Any:
        return FORK.Condition()

    def use(self, thing: Any) -> None:
        with thing:
            thing.notify()


class MpEvent(_Peer):
    primitive, operation_name = "peer: multiprocessing Event", "set"

    def make(self) -> Any:
        return FORK.Event()

    def use(self, thing: Any) -> None:
        thing.set()


class MpQueue(_Peer):
    primitive, operation_name = "peer: multiprocessing Queue", "get"
    agents = ("survivor", "filler")

    def make(self) -> Any:
        return FORK.Queue()

    def ready(self) -> None:
        self.by["filler"].ask("fill")

    def fill(self) -> None:
        for i in range(4):
            self.thing.put(i)
        self.thing.close()
        self.thing.join_thread()

    def use(self, thing: Any) -> None:
        thing.get()


class PosixSemaphore(_Peer):
    primitive, operation_name = "peer: posix_ipc Semaphore", "with"
    name_of: ClassVar[str] = f"/syncx-crash-{os.getpid()}"

    def make(self) -> Any:
        module = importlib.import_module("posix_ipc")
        made = module.Semaphore(self.name_of, module.O_CREX, initial_value=1)
        made.unlink()
        return made

    def use(self, thing: Any) -> None:
        with thing:
            os.getpid()


class SoftLock(_Peer):
    primitive, operation_name = "peer: filelock SoftFileLock", "with"
    path: ClassVar[str] = os.path.join(tempfile.gettempdir(), f"syncx-crash-{os.getpid()}.lock")

    def make(self) -> Any:
        self.drop()

    def opened(self) -> Any:
        return importlib.import_module("filelock").SoftFileLock(self.path, poll_interval=0.01)

    def drop(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def use(self, thing: Any) -> None:
        with thing:
            os.getpid()


def _is_there(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


SCENARIOS = tuple(
    scenario
    for scenario, module in (
        (MpLock, "multiprocessing"),
        (MpCondition, "multiprocessing"),
        (MpEvent, "multiprocessing"),
        (MpQueue, "multiprocessing"),
        (PosixSemaphore, "posix_ipc"),
        (SoftLock, "filelock"),
    )
    if _is_there(module)
)
