"""A storm over objects that are broken on purpose: both of its judges must see each of them, each by itself.

    python -m tests.storm_twins                 every twin, until both have seen it
    python -m tests.storm_twins --twin leak --seconds 20

In processes as real as any; only what makes the objects is another one.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import syncx
from syncx.testing.stress import Outcome, control
from syncx.testing.stress.control import Storm


class _Of:
    """What the object of a twin does not do otherwise, the real one does."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Lock(_Of):
    """A lock whose acquire() lies now and then; `with` goes the same way."""

    def __init__(self, real: Any, every: int) -> None:
        super().__init__(real)
        self._every, self._count, self._mine = every, 0, threading.local()

    def acquire(self, *arguments: Any, **options: Any) -> bool:
        self._count += 1
        self._mine.lies = self._count % self._every == 0
        if self._mine.lies:
            time.sleep(0.0003)
            return True
        return bool(self._real.acquire(*arguments, **options))

    def release(self, *arguments: Any) -> None:
        if not self._mine.lies:
            self._real.release(*arguments)

    def __enter__(self) -> Any:
        self.acquire()
        return self

    def __exit__(self, *error: Any) -> None:
        self.release()


class Loose(_Lock):
    """Every third taking excludes nobody."""

    owner_died = False

    def _is_owned(self) -> bool:
        return bool(self._real._is_owned())


class Stuck(_Lock):
    """Now and then a taking never comes back."""

    def acquire(self, *arguments: Any, **options: Any) -> bool:
        if not super().acquire(*arguments, **options):
            return False
        if self._mine.lies:
            threading.Event().wait()
        return True

    def _is_owned(self) -> bool:
        return bool(self._real._is_owned())


class Mute(_Of):
    """It never tells of a death."""

    owner_died = False

    def __enter__(self) -> Any:
        self._real.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._real.__exit__(*error)


class Liar(Mute):
    """It tells of a death though nobody died: sometimes, and the holder is alive."""

    @property
    def owner_died(self) -> bool:
        return time.monotonic_ns() % 97 == 0 or bool(self._real.owner_died)


class LeakyPermits(_Lock):
    """Every third permit is one too many."""


class Minting(_Of):
    """A semaphore that gives what nobody gave."""

    def acquire(self, n: int = 1, timeout: float | None = None) -> bool:
        return bool(self._real.acquire(n=n, timeout=timeout)) or time.monotonic_ns() % 2 == 0


class Leaking(_Of):
    """A semaphore that loses units that are given."""

    def release(self, n: int = 1) -> None:
        self._real.release(n - (n > 1))


class Deaf(_Of):
    """An event whose waits miss what happens: their time goes by."""

    def wait(self, timeout: float | None = None) -> bool:
        if timeout:
            time.sleep(timeout / 2)
            self._real.is_set()
            time.sleep(timeout / 2)
        return False if time.monotonic_ns() % 2 else bool(self._real.wait(0))


class Ghost(_Of):
    """An event that wakes those whom nobody called."""

    def wait(self, timeout: float | None = None) -> bool:
        return bool(self._real.wait(timeout)) or time.monotonic_ns() % 2 == 0


class Torn(_Of):
    """A barrier that lets go whoever has waited long enough."""

    def wait(self, timeout: float | None = None) -> int:
        try:
            return int(self._real.wait(timeout))
        except syncx.BrokenBarrierError:
            return 0


class Eager(_Of):
    """An initialisation that everybody runs for himself."""

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


class Ajar(_Of):
    """A latch that is open for some before its time."""

    def wait(self, timeout: float | None = None) -> bool:
        return bool(self._real.wait(timeout)) or time.monotonic_ns() % 2 == 0


class Readers(_Of):
    """A readers-writer lock whose readers come in whenever they like."""

    class _Read(_Lock):
        def __init__(self, real: Any) -> None:
            super().__init__(real, 2)

    def __init__(self, real: Any) -> None:
        super().__init__(real)
        self._view = self._Read(real.read())

    def read(self) -> Any:
        return self._view


class NoFileLock(_Of):
    """A file lock that locks nothing; what is appended is written where the end was a moment ago."""

    def acquire(self, *arguments: Any, **options: Any) -> bool:
        return True

    def release(self) -> None:
        time.sleep(0)

    def append(self, record: str) -> None:
        fd = os.open(self._real.path, os.O_RDWR)
        try:
            at = os.fstat(fd).st_size
            time.sleep(0.0005)
            os.pwrite(fd, record.encode() + b"\n", at)
        finally:
            os.close(fd)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        self.release()


class _NoUpdate:
    """Reads, waits and writes, with nobody kept out."""

    def __init__(self, path: str, **options: Any) -> None:
        self._path, self._text = path, ""

    def __enter__(self) -> Any:
        return self

    def write(self, text: str) -> None:
        self._text = text

    def __exit__(self, kind: Any, *error: Any) -> None:
        if kind is None:
            time.sleep(0.001)
            with open(f"{self._path}.{threading.get_native_id()}", "w") as f:
                f.write(self._text)
            os.replace(f.name, self._path)


class Forgetful(_Of):
    """A condition whose waits say that they were notified, whoever was."""

    def wait(self, timeout: float | None = None) -> bool:
        return bool(self._real.wait(timeout)) or time.monotonic_ns() % 3 == 0

    def __enter__(self) -> Any:
        return self._real.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._real.__exit__(*error)


class NoRecordLocks(_Of):
    """A file of records that excludes nobody."""

    def __getitem__(self, record: int | slice) -> Any:
        return NoFileLock(self._real[record])

    def shared(self, record: int | slice) -> Any:
        return NoFileLock(self._real.shared(record))


class Heedless(_Of):
    """A barrier that lets everybody enrol, and waits for nobody because of it."""

    def enroll(self) -> None:
        """Says yes."""

    def withdraw(self) -> None:
        """Says yes."""


class Alarmist(_Of):
    """A lock that tells of deadlocks now and then, where one holds another: there is none."""

    _mine = threading.local()

    def acquire(self, *arguments: Any, **options: Any) -> bool:
        held = getattr(self._mine, "held", 0)
        if held and time.monotonic_ns() % 3 == 0:
            raise syncx.DeadlockError("a deadlock, or so it says")
        got = bool(self._real.acquire(*arguments, **options))
        self._mine.held = held + got
        return got

    def release(self) -> None:
        self._mine.held -= 1
        self._real.release()


@dataclass
class Twin:
    """What is broken, how it is made, and what the two judges say of it, or he who watches over hangs and crashes."""

    topic: str
    make: Callable[..., Any]
    live: str
    replayed: str
    kill: float = 4.0
    watched: str = ""


def _wrap(cls: Callable[..., Any], real: Callable[..., Any], *more: Any) -> Callable[..., Any]:
    return lambda *a, **o: cls(real(*a, **o), *more)


TWINS = {
    "loose": Twin("mutex", _wrap(Loose, syncx.Mutex, 3), "two holders at once", "hold it at once", 0.0),
    "stuck": Twin("mutex", _wrap(Stuck, syncx.Mutex, 50), "", "", 0.0, ": mutex "),
    "mute": Twin("rlock", _wrap(Mute, syncx.RLock), "was not told", "was not told of a death", 40.0),
    "liar": Twin("mutex", _wrap(Liar, syncx.Mutex), "nobody has died", "nobody had died", 0.0),
    "leak": Twin("bounded", _wrap(LeakyPermits, syncx.BoundedSemaphore, 3), "are held at once", "are held at", 0.0),
    "mint": Twin("semaphore", _wrap(Minting, syncx.Semaphore), "units were taken of", "than was ever given", 0.0),
    "lose": Twin("semaphore", _wrap(Leaking, syncx.Semaphore), "it should be", "it should be", 0.0),
    "deaf": Twin("event", _wrap(Deaf, syncx.Event), "was in vain", "was in vain", 0.0),
    "ghost": Twin("event", _wrap(Ghost, syncx.Event), "nobody has set it", "nobody had set it", 0.0),
    "torn": Twin("barrier", _wrap(Torn, syncx.Barrier), "and no round did", "belong to no round", 0.0),
    "eager": Twin("once", _wrap(Eager, syncx.Once), "runs twice at once", "ran twice at once", 0.0),
    "ajar": Twin("latch", _wrap(Ajar, syncx.Latch), "it is open after", "after too few counts", 0.0),
    "readers": Twin("rwlock", _wrap(Readers, syncx.RWLock), "beside the", "hold it at once", 0.0),
    "files": Twin("files", lambda *a, **o: NoFileLock(_file(*a, **o)), "two holders at once", "hold it at once", 0.0),
    "update": Twin("update", _NoUpdate, "were done of", "two updates wrote", 0.0),
    "forgetful": Twin("condition", _wrap(Forgetful, syncx.Condition), "as if", "without a notification", 0.0),
    "placed": Twin("placed", lambda *a, **o: Loose(_at(*a, **o), 3), "two holders at once", "hold it at once", 0.0),
    "records": Twin("records", _wrap(NoRecordLocks, syncx.RecordLocks), "two holders at once", "hold it at once", 0.0),
    "heedless": Twin("enrolment", _wrap(Heedless, syncx.Barrier), "went on without", "went on without", 0.0),
    "alarmist": Twin("deadlock", _wrap(Alarmist, syncx.Mutex), "it does not come round", "and there was none", 0.0),
    "unseen": Twin("deadlock", lambda *a, **o: syncx.Mutex(*a, **{**o, "deadlock": "off"}), "", "", 0.0, ": deadlock "),
}


def _at(*arguments: Any, **options: Any) -> Any:
    return (syncx.Mutex.at if arguments else syncx.Mutex)(*arguments, **options)


def _file(path: str, *arguments: Any, **options: Any) -> Any:
    return (syncx.RangeLock if arguments else syncx.FileLock)(path, *arguments, **options)


def seen(name: str, seconds: float, seed: int) -> Outcome:
    """Storms over one twin until both judges have said what they should, or the time is over."""
    twin = TWINS[name]
    control.HANG = 3.0 if twin.watched else 15.0
    end = time.monotonic() + seconds
    total: Outcome | None = None
    while total is None or (_missing(twin, total) and time.monotonic() < end):
        outcome = Storm([twin.topic], 8.0, 4, twin.kill, seed, kit={twin.topic: twin.make}).run()
        if total is not None:
            outcome.live += total.live
            outcome.replayed += total.replayed
            outcome.watched += total.watched
        total, seed = outcome, seed + 1
    return total


def _missing(twin: Twin, o: Outcome) -> list[str]:
    said = {"live": (twin.live, o.live), "replayed": (twin.replayed, o.replayed), "watched": (twin.watched, o.watched)}
    return [judge for judge, (text, found) in said.items() if text and not any(text in line for line in found)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm_twins", description=__doc__.split("\n\n")[0])
    parser.add_argument("--twin", choices=list(TWINS), action="append", help="default: all")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    start, failures = time.monotonic(), 0
    for name in options.twin or TWINS:
        outcome = seen(name, options.seconds, options.seed)
        missing = _missing(TWINS[name], outcome)
        failures += bool(missing)
        print(
            f"{'ok ' if not missing else 'BAD'} {name}: {TWINS[name].topic}, {outcome.operations} operations",
            flush=True,
        )
        if missing:
            print(
                f"    not seen by {missing}; what was seen: {[*outcome.live, *outcome.replayed, *outcome.watched][:5]}"
            )
    if options.json:
        whole = len(options.twin or TWINS)
        told = {
            "command": shlex.join(["python", "-m", "tests.storm_twins", *sys.argv[1:]]),
            "seconds": round(time.monotonic() - start, 1),
            "figures": {"twins": whole, "caught": whole - failures},
            "failures": failures,
        }
        with open(options.json, "w") as f:
            json.dump(told, f, indent=1)
            f.write("\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
