"""Broken locks that the crash harness must condemn, each for what is wrong with it.

`python -m syncx.testing.crash --from crash_twins --only twin:`, from this directory.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from typing import Any

import syncx
from syncx._core import _nothing
from syncx.testing.crash.files import FileSubject, file_scenarios_of
from syncx.testing.crash.locks import Subject
from syncx.testing.crash.situations import scenarios_of
from syncx.testing.crash.subjects import MutexSubject, Upgradable


class _Twin(MutexSubject):
    operations = ("acquire", "release")


class ExcludesNobody(_Twin):
    name = "twin: excludes nobody"
    tells = False
    seen = False

    def __init__(self, arena: str, which: str, memory: memoryview) -> None:
        self.memory = memory
        register = syncx.Mutex(which, arena=syncx.Arena(arena, create=False))
        with register:
            self.release()

    def acquire(self) -> None:
        self.memory[:4] = os.getpid().to_bytes(4, "little")

    def release(self) -> None:
        self.memory[:4] = bytes(4)

    def acquire_timed(self, seconds: float) -> bool:
        self.acquire()
        return True

    def tries(self) -> Callable[[], object]:
        return functools.partial(self.acquire_timed, 0.0)

    def holder(self) -> int:
        return int.from_bytes(self.memory[:4], "little")

    def told(self) -> bool:
        return False

    def whole(self) -> str | None:
        return None


class TellsNobody(_Twin):
    name = "twin: tells nobody"

    def told(self) -> bool:
        return False


class TellsAlways(_Twin):
    name = "twin: tells always"
    operations = ("acquire", "release", "with")

    def told(self) -> bool:
        return True


class _Ownerless(Subject):
    """A semaphore as a lock: nobody knows who has taken a unit, and it goes with whoever dies."""

    tells = False
    units = 1

    def __init__(self, arena: str, which: str, memory: memoryview) -> None:
        self.lock = syncx.Semaphore(self.units, name=which, arena=syncx.Arena(arena, create=False))
        self.acquire = self.lock.acquire
        self.release = self.lock.release

    def acquire_timed(self, seconds: float) -> bool:
        return self.lock.acquire(timeout=seconds)


class HangsForEver(_Ownerless):
    name = "twin: hangs for ever"


class LosesPermits(_Ownerless):
    name = "twin: loses permits"
    units = 3
    damage = "lost permit"

    def whole(self) -> str | None:
        return None if self.lock.value == self.units else f"{self.lock.value} of {self.units}"


class WakesNobody(_Twin):
    """Its release sets the word to free, and no more."""

    name = "twin: wakes nobody"
    seen = False

    def __init__(self, arena: str, which: str, memory: memoryview) -> None:
        super().__init__(arena, which, memory)
        self.word = memory[64:72]  # struct sx_mutex in layout.h: behind the cell
        self.release = self.set_free

    def open(self, arena: syncx.Arena, which: str, memory: memoryview) -> Any:
        return syncx.Mutex.at(memory, arena=arena)

    def set_free(self) -> None:
        self.word[:] = bytes(8)

    def give(self) -> None:
        self.lock.release()

    def holder(self) -> int:
        holder = self.lock.holder
        return holder[0] if holder else 0


class NeverWakes(WakesNobody):
    """Nor does anybody else's, so who sleeps for it sleeps until the belt."""

    name = "twin: never wakes"
    operations = ("acquire",)

    def give(self) -> None:
        self.set_free()


class DiesByItself(_Twin):
    """Its release is the end of the process."""

    name = "twin: dies by itself"

    def __init__(self, arena: str, which: str, memory: memoryview) -> None:
        super().__init__(arena, which, memory)
        if which == "subject":
            self.release = self.die

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def give(self) -> None:
        self.lock.release()


class SleepsInATry(_Twin):
    """It waits for a while where it should not wait."""

    name = "twin: sleeps in a try"
    operations = ("acquire",)

    def tries(self) -> Callable[[], object]:
        return functools.partial(self.lock.acquire, timeout=0.05)


class NeverHasIt(_Twin):
    """A try fails, whether somebody holds it or not."""

    name = "twin: fails each try"
    operations = ("acquire",)

    def tries(self) -> Callable[[], object]:
        return bool


class ClaimsToUpgrade(Upgradable):
    """Its upgrade does nothing, but to say that it is done."""

    name = "twin: claims to upgrade"
    operations = ("upgrade",)

    def viewed(self) -> Any:
        view = super().viewed()
        self.upgrade = _nothing
        return view


class MarksNoReader(Upgradable):
    """A reader leaves no trace, so an upgrade does not wait for it."""

    name = "twin: marks no reader"
    operations = ("upgrade",)

    def share(self) -> None:
        """Reads."""

    def unshare(self) -> None:
        """Reads no more."""


class MendsInSilence(Upgradable):
    """After a writer's death an upgradable reader lets nobody know."""

    name = "twin: mends in silence"
    operations = ("acquire",)

    def __init__(self, arena: str, which: str, memory: memoryview) -> None:
        super().__init__(arena, which, memory)
        self.acquire = self.mend

    def mend(self) -> None:
        view = self.view
        view.acquire()
        if view.owner_died:
            view.upgrade()
            view.release()
            view.acquire()


class LeftToTheChild(FileSubject):
    """Whoever is forked while it is held has it, and keeps it when the parent is dead."""

    name = "twin: left to the child"
    operations = ("fork",)

    def made(self, path: str, arena: syncx.Arena) -> syncx.FileLock:
        return syncx.FileLock(path, inherit=True, arena=arena)


LOCKS = (
    ExcludesNobody,
    TellsNobody,
    TellsAlways,
    HangsForEver,
    LosesPermits,
    WakesNobody,
    NeverWakes,
    DiesByItself,
    SleepsInATry,
    NeverHasIt,
    ClaimsToUpgrade,
    MarksNoReader,
    MendsInSilence,
)
FILES = (LeftToTheChild,)
TWINS = (*LOCKS, *FILES)
SCENARIOS = tuple(
    scenario
    for twins, of in ((LOCKS, scenarios_of), (FILES, file_scenarios_of))
    for twin in twins
    for scenario in of(twin)
)
for _scenario in SCENARIOS:
    _scenario.hang = 0.5
