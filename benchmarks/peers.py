"""The contestants: how each is made, opened in each process, and asked in the ways that are measured.

A peer that is not installed, or not for this interpreter, is listed with the reason and takes no part.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import mmap
import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import syncx

from . import floors
from .children import undisturbed
from .place import Place

FORK = multiprocessing.get_context("fork")

Open = Callable[[], Any]
"""Called in each process that uses the lock; gives an object with __enter__, __exit__, acquire() and release()."""


@dataclass(frozen=True)
class Peer:
    name: str
    create: Callable[[Place], Open]
    """Makes one lock, and sees to it that it goes with the place."""
    kind: str = "peer"
    """"syncx", "peer" or "floor"."""
    failing: str = "l.acquire(blocking=False)"
    """A statement that tries for the held lock `l` and goes on without it."""
    names: dict[str, Any] = field(default_factory=dict)
    """What the statement needs to know."""
    before_failing: Callable[[Any], object] = lambda _: None
    """Called with the lock before that statement is used."""
    processes: bool = True
    """Does it exclude other processes?"""
    polls: bool = False
    """Its blocked acquire looks again and again."""


def ours(make: Callable[..., Any], place: Place) -> Open:
    """Of syncx, by name: `make` takes the rest."""
    name = place.name()
    made = make(name=name, arena=place.arena)
    place.on_end(made.close)
    return lambda: make(name=name, arena=place.arena)


def inherited(made: Any) -> Open:
    """What a forked child has by being forked."""
    return lambda: made


def _threading(_: Place) -> Open:
    return inherited(threading.Lock())


def _multiprocessing(_: Place) -> Open:
    return inherited(FORK.Lock())


def posix_ipc(module: ModuleType, value: int) -> Callable[[Place], Open]:
    def create(place: Place) -> Open:
        with undisturbed():
            semaphore = module.Semaphore(f"/syncx-{place.name()}", module.O_CREX, initial_value=value)
            semaphore.unlink()  # children have the mapping by fork; now nothing can be left behind
        place.on_end(semaphore.close)
        return inherited(semaphore)

    return create


def sysv_ipc(module: ModuleType, value: int, undo: bool) -> Callable[[Place], Open]:
    def create(place: Place) -> Open:
        with undisturbed():
            semaphore = module.Semaphore(None, module.IPC_CREX, initial_value=value)
            place.on_end(semaphore.remove)

        def open_it() -> Any:
            mine = module.Semaphore(semaphore.key)
            mine.undo = undo
            return mine

        return open_it

    return create


def posixipc(module: ModuleType, add: Callable[[Any], Any]) -> Callable[[Place], Open]:
    """`add` puts what is wanted into a layout, and gives what each process shall have."""

    def create(place: Place) -> Open:
        layout = module.Layout()
        wanted = add(layout)
        with undisturbed():
            region = layout.create(f"/syncx-{place.name()}")
            region.unlink()
        return lambda: (layout, region, wanted)[2]  # all three are kept alive

    return create


def _file(make: Callable[[str], Any]) -> Callable[[Place], Open]:
    def create(place: Place) -> Open:
        path = str(place.file())
        return lambda: make(path)

    return create


def _robust(module: ModuleType) -> Callable[[Place], Open]:
    def create(_: Place) -> Open:
        memory = mmap.mmap(-1, mmap.PAGESIZE)
        return inherited(module.Robust(memory))

    return create


@dataclass
class Field:
    """Everybody who takes part, and who cannot."""

    peers: list[Peer]
    versions: dict[str, str]
    """Of the installed packages."""
    missing: dict[str, str]
    """Why a peer or the floors take no part."""
    floors: ModuleType | None
    modules: dict[str, ModuleType] = field(default_factory=dict)
    """The peers' that could be imported."""


def _load(module: str, package: str, versions: dict[str, str], missing: dict[str, str]) -> ModuleType | None:
    try:
        loaded = importlib.import_module(module)
    except ImportError as e:
        missing[package] = "not installed" if e.name == module else f"cannot be imported: {e}"
        return None
    try:
        versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        versions[package] = getattr(loaded, "__version__", "?")
    return loaded


def gather() -> Field:
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    modules: dict[str, ModuleType] = {}
    peers = [  # those that are compared most stand, and so run, next to each other
        Peer("threading.Lock", _threading, processes=False),
        Peer("syncx.Mutex", functools.partial(ours, syncx.Mutex), kind="syncx"),
        Peer("multiprocessing.Lock", _multiprocessing, failing="l.acquire(block=False)"),
        Peer("syncx.RLock", functools.partial(ours, syncx.RLock), kind="syncx"),
    ]
    if module := _load("posixipc", "python-posixipc", versions, missing):
        modules["posixipc"] = kind = module
        robust = posixipc(module, lambda layout: layout.add(kind.RobustMutex, on_owner_died=lambda _: None))
        peers.append(Peer("posixipc.RobustMutex", robust))
    if module := _load("posix_ipc", "posix_ipc", versions, missing):
        modules["posix_ipc"] = module
        peers.append(
            Peer(
                "posix_ipc.Semaphore",
                posix_ipc(module, 1),
                failing="try: l.acquire(0)\nexcept Busy: pass",
                names={"Busy": module.BusyError},
            )
        )
    if module := _load("sysv_ipc", "sysv_ipc", versions, missing):
        modules["sysv_ipc"] = module
        for name, undo in (("sysv_ipc.Semaphore", False), ("sysv_ipc, SEM_UNDO", True)):
            peers.append(
                Peer(
                    name,
                    sysv_ipc(module, 1, undo),
                    failing="try: l.acquire()\nexcept Busy: pass",  # acquire(0) would ask the kernel for a timer
                    names={"Busy": module.BusyError},
                    before_failing=lambda semaphore: setattr(semaphore, "block", False),
                )
            )
    if module := _load("fasteners", "fasteners", versions, missing):
        peers.append(Peer("fasteners.InterProcessLock", _file(module.InterProcessLock), polls=True))
    if module := _load("filelock", "filelock", versions, missing):
        peers.append(
            Peer(
                "filelock.FileLock",
                _file(module.FileLock),
                failing="try: l.acquire(blocking=False)\nexcept Busy: pass",
                names={"Busy": module.Timeout},
                polls=True,
            )
        )
    if module := _load("portalocker", "portalocker", versions, missing):
        portalocker = module
        peers.append(
            Peer(
                "portalocker.Lock",
                _file(lambda path: portalocker.Lock(path, timeout=60)),
                failing="try: l.acquire(fail_when_locked=True)\nexcept Busy: pass",
                names={"Busy": module.LockException},
                polls=True,
            )
        )
    extension = None
    try:
        extension = floors.module()
    except floors.NotBuilt as e:
        missing["floors"] = str(e)
    else:
        peers.append(Peer("robust pthread mutex, C object", _robust(extension), kind="floor"))
    return Field(peers, versions, missing, extension, modules)
