"""A process that damages arenas and uses them, one after the other.

What it is at lies in a page that it shares with the one who started it (`Crumbs`): if it crashes or hangs, that tells
the arena and the call.  A worker that ended so is replaced by another, which begins behind that arena.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import gc
import json
import logging
import mmap
import os
import pickle
import resource
import signal
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from syncx import lockinfo

from . import damage
from .battery import Battery
from .scenes import Image

PAGE = 4096
MARGIN = 64 << 20
"""Bytes before and behind the mapping of an arena that nobody may touch."""
MEMORY = 700 << 20
"""What a worker may map beyond what it begins with: the arena twice, the margins, and a part for work."""
OUTCOMES = ("worked", "refused", "exceptions", "findings")
WITNESS = 1 << 40
"""The byte of process slot 0, less one; see process.c."""
PLANTS = ("crash", "hang", "memory", "outside", "exception", "header")
"""Faults that can be planted in the calls, to see that they are found; "all": one in each arena, in turn."""


class Crumbs:
    """A page: the arena's number, how many calls were made, how many arenas are done, the name of the call; behind them
    the table of outcomes by kind of damage."""

    HEAD = struct.Struct("=qqq")
    STOP, TABLE = 255, 256

    def __init__(self, path: str, make: bool = False) -> None:
        if make:
            with open(path, "xb") as f:
                f.truncate(PAGE)
        with open(path, "r+b") as f:
            self._map = mmap.mmap(f.fileno(), PAGE)
        self._calls = 0

    def at(self, index: int, done: int, call: str) -> None:
        """Says what comes next."""
        name = call.encode(errors="replace")[:200]
        self._map[32 : 33 + len(name)] = name + b"\0"
        self._calls += 1
        self.HEAD.pack_into(self._map, 0, index, self._calls, done)

    def read(self) -> tuple[int, int, int, str]:
        """Arena, calls made, arenas done, call: for one moment only if nothing changes meanwhile."""
        index, calls, done = self.HEAD.unpack_from(self._map, 0)
        return index, calls, done, self._map[32:232].split(b"\0")[0].decode(errors="replace")

    @property
    def stopped(self) -> bool:
        """No more arenas are wanted."""
        return self._map[self.STOP] != 0

    def stop(self) -> None:
        """No more arenas."""
        self._map[self.STOP] = 1

    def count(self, kind: int, outcome: int) -> None:
        """One arena more of that kind and outcome."""
        at = self.TABLE + 8 * (kind * len(OUTCOMES) + outcome)
        struct.pack_into("<Q", self._map, at, struct.unpack_from("<Q", self._map, at)[0] + 1)

    def table(self) -> list[list[int]]:
        """All outcomes."""
        n = len(OUTCOMES)
        numbers = struct.unpack_from(f"<{n * len(damage.DAMAGES)}Q", self._map, self.TABLE)
        return [list(numbers[i * n : (i + 1) * n]) for i in range(len(damage.DAMAGES))]


class Fence:
    """A hole in memory that nobody may touch, just as large as an arena's mapping, so that the next one lands there.

    Linux maps at the highest place where there is room; whether it did is looked up each time.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = [
            ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
        ]  # fmt: skip
        self._libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self._at = 0
        self._size = 0

    def put_up(self, size: int) -> None:
        """Before the arena is opened."""
        size = (size + PAGE - 1) // PAGE * PAGE
        whole = size + 2 * MARGIN
        no_reserve = 0x4000 | mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        self._at = self._libc.mmap(None, whole, 0, no_reserve, -1, 0)
        if self._at in (None, ctypes.c_void_p(-1).value):
            raise MemoryError("no room for the fence")
        self._size = whole
        self._libc.munmap(self._at + MARGIN, size)

    def take_down(self) -> None:
        """After it was closed."""
        if self._size:  # what is between them is not ours
            self._libc.munmap(self._at, MARGIN)
            self._libc.munmap(self._at + self._size - MARGIN, MARGIN)
            self._size = 0

    def poke(self) -> None:
        """Writes a byte outside, as a broken core would."""
        ctypes.memset(self._at + MARGIN - 1, 1, 1)


def bear_witness(file: IO[bytes], living: Iterable[int]) -> None:
    """As long as the file is open, the processes of those slots are taken for alive; see process.c."""
    for slot in living:
        request = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, WITNESS + 1 + slot, 1, 0)
        fcntl.fcntl(file, 37, request)  # F_OFD_SETLK


class Worker:
    """Does the arenas of a range of numbers."""

    def __init__(self, directory: Path, seed: int, number: int, planted: str, everything: bool, verbose: bool) -> None:
        self._directory = directory
        self._seed = seed
        self._plan = planted
        self._verbose = verbose
        self._everything = everything
        self._images: dict[str, Image] = pickle.loads((directory / "images").read_bytes())
        self._own = directory / f"worker{number}"
        self._own.mkdir(exist_ok=True)
        self._planted = ""
        self._crumbs = Crumbs(str(directory / f"crumbs{number}"))
        self._findings = open(directory / "findings", "ab", buffering=0)  # noqa: SIM115
        self._index = -1
        self._done = 0
        self._bad = 0
        data = self._own / "data"
        data.write_bytes(bytes(4096))
        Path(f"{data}.log").touch()
        Path(f"{data}.new").touch()
        for image in self._images.values():  # as if it had been this file whose ranges are locked there
            old, new = (n.to_bytes(8, "little") for n in (image.data[1], os.stat(data).st_ino))
            image.extents = [(at, part.replace(old, new)) for at, part in image.extents]
        self._battery = Battery(str(data), self._announce, self.found)
        self._fence = Fence()
        self._log: list[logging.LogRecord] = []

    def _announce(self, call: str) -> None:
        self._crumbs.at(self._index, self._done, call)
        if self._verbose:
            print(call, flush=True)

    def found(self, call: str, what: str) -> None:
        """Notes something that must not be."""
        self._bad += 1
        line = {"index": self._index, "call": call, "what": what}
        self._findings.write(json.dumps(line).encode() + b"\n")

    def one(self, index: int) -> None:
        """Makes the arena of that number, uses it, and looks at what was left."""
        self._index, self._bad = index, 0
        self._planted = PLANTS[index % len(PLANTS)] if self._plan == "all" else self._plan
        self._announce("damaging")
        case = damage.case(self._seed, index, self._images)
        self._battery.damaged = case.damage != "none"
        path = self._own / "arena"
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        case.canvas.save(str(path))
        with open(path, "r+b") as file:
            bear_witness(file, case.living)
            before = os.pread(file.fileno(), 224, 0)
            descriptors = len(os.listdir("/proc/self/fd"))
            try:
                self._battery.run(
                    str(path),
                    case.canvas.image.pid,
                    case.rng,
                    self._everything,
                    lambda: self._fence.put_up(case.canvas.image.size),
                    self._plant,
                )
                self._announce("what is left")
                if self._planted == "header":
                    os.pwrite(file.fileno(), b"x", 50)
                if os.pread(file.fileno(), 224, 0) != before:
                    self.found("all", "the part of the header that is written once was changed")
                if os.fstat(file.fileno()).st_size != case.canvas.size:
                    self.found("all", f"the file's size was changed, to {os.fstat(file.fileno()).st_size}")
                gc.collect(0)
                if len(os.listdir("/proc/self/fd")) > descriptors:
                    self.found("all", "descriptors were left open")
            finally:
                self._fence.take_down()
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        outcomes = self._battery.outcomes
        refused = outcomes.get("ok", 0) < 60
        which = 3 if self._bad else 1 if refused else 2 if set(outcomes) & {"ArenaError", "ArenaFull"} else 0
        self._crumbs.count(list(damage.DAMAGES).index(case.damage), which)
        self._done += 1
        self._crumbs.at(self._index, self._done, "next")
        if self._verbose:
            print(case.index, case.scene, case.damage, "living" if case.living else "", outcomes)
        if case.damage == "none" and not self._planted and (refused or "ArenaError" in outcomes):
            self.found("all", f"an arena without damage was not used rightly: {outcomes}")

    def _plant(self) -> None:
        if self._planted == "crash":
            self._battery.do("planted", ctypes.string_at, 1)
        elif self._planted == "hang":
            self._battery.do("planted", self._hang)
        elif self._planted == "memory":
            self._battery.do("planted", bytearray, 4 << 30)
        elif self._planted == "outside":
            self._battery.do("planted", self._fence.poke)
        elif self._planted == "exception":
            self._battery.do("planted", {}.__getitem__, "a bug")

    @staticmethod
    def _hang() -> None:
        while True:
            signal.pause()

    def run(self, first: int, end: int, step: int) -> None:
        """All of them, until it is told to stop."""
        for index in range(first, end, step):
            if self._crumbs.stopped:
                break
            self.one(index)
            if self._done % 200 == 0:
                gc.collect()
        self._index = end
        self._announce("done")


def main(argv: list[str]) -> None:
    """`python -m tests.noise worker DIRECTORY SEED NUMBER FIRST END STEP PLANTED EVERYTHING VERBOSE`."""
    directory, seed, number, first, end, step, planted, everything, verbose = argv
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: not without who watches us
    faulthandler.enable(all_threads=True)
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    # other people's arenas are none of ours
    lockinfo.DIRECTORY = str(worker_place := Path(directory) / "none")
    worker_place.mkdir(exist_ok=True)
    # what the library logs of deaths and deadlocks is right, and much
    logging.getLogger("syncx").addHandler(logging.NullHandler())
    logging.getLogger("syncx").propagate = False
    worker = Worker(Path(directory), int(seed), int(number), planted, everything == "1", verbose == "1")
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    worker.run(int(first), int(end), int(step))
