"""The contestants: how each is made, opened in each process, and asked in the ways that are measured.

A peer that is not installed, or not for this interpreter, is listed with the reason and takes no part.
"""

from __future__ import annotations

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


def _syncx(place: Place, kind: type[Any]) -> Open:
    name = place.name()
    made = kind(name, arena=place.arena)
    place.on_end(made.close)
    return lambda: kind(name, arena=place.arena)


def _threading(_: Place) -> Open:
    lock = threading.Lock()
    return lambda: lock


def _multiprocessing(_: Place) -> Open:
    lock = multiprocessing.get_context("fork").Lock()
    return lambda: lock


def _posix_ipc(module: ModuleType) -> Callable[[Place], Open]:
    def create(place: Place) -> Open:
        with undisturbed():
            semaphore = module.Semaphore(f"/syncx-{place.name()}", module.O_CREX, initial_value=1)
            semaphore.unlink()  # children have the mapping by fork; now nothing can be left behind
        place.on_end(semaphore.close)
        return lambda: semaphore

    return create


def _sysv_ipc(module: ModuleType, undo: bool) -> Callable[[Place], Open]:
    def create(place: Place) -> Open:
        with undisturbed():
            semaphore = module.Semaphore(None, module.IPC_CREX, initial_value=1)
            place.on_end(semaphore.remove)

        def open_it() -> Any:
            mine = module.Semaphore(semaphore.key)
            mine.undo = undo
            return mine

        return open_it

    return create


def _posixipc(module: ModuleType) -> Callable[[Place], Open]:
    def create(place: Place) -> Open:
        layout = module.Layout()
        mutex = layout.add(module.RobustMutex, on_owner_died=lambda _: None)
        with undisturbed():
            region = layout.create(f"/syncx-{place.name()}")
            region.unlink()
        return lambda: (layout, region, mutex)[2]  # all three are kept alive

    return create


def _file(make: Callable[[str], Any]) -> Callable[[Place], Open]:
    def create(place: Place) -> Open:
        path = str(place.file())
        return lambda: make(path)

    return create


def _robust(module: ModuleType) -> Callable[[Place], Open]:
    def create(_: Place) -> Open:
        memory = mmap.mmap(-1, mmap.PAGESIZE)
        mutex = module.Robust(memory)
        return lambda: mutex

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
    peers = [  # those that are compared most stand, and so run, next to each other
        Peer("threading.Lock", _threading, processes=False),
        Peer("syncx.Mutex", lambda place: _syncx(place, syncx.Mutex), kind="syncx"),
        Peer("multiprocessing.Lock", _multiprocessing, failing="l.acquire(block=False)"),
        Peer("syncx.RLock", lambda place: _syncx(place, syncx.RLock), kind="syncx"),
    ]
    if module := _load("posixipc", "python-posixipc", versions, missing):
        peers.append(Peer("posixipc.RobustMutex", _posixipc(module)))
    if module := _load("posix_ipc", "posix_ipc", versions, missing):
        peers.append(
            Peer(
                "posix_ipc.Semaphore",
                _posix_ipc(module),
                failing="try: l.acquire(0)\nexcept Busy: pass",
                names={"Busy": module.BusyError},
            )
        )
    if module := _load("sysv_ipc", "sysv_ipc", versions, missing):
        for name, undo in (("sysv_ipc.Semaphore", False), ("sysv_ipc, SEM_UNDO", True)):
            peers.append(
                Peer(
                    name,
                    _sysv_ipc(module, undo),
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
    return Field(peers, versions, missing, extension)
