"""The locks that one holds at a time, as subjects of `locks`."""

from __future__ import annotations

from typing import ClassVar

from ...arena import Arena
from ...mutex import Mutex, RLock
from .locks import Subject, scenarios_of

__all__ = ["SCENARIOS", "SUBJECTS"]


class MutexSubject(Subject):
    name = "mutex"
    made: ClassVar[type[Mutex] | type[RLock]] = Mutex

    def __init__(self, arena: str, which: str) -> None:
        self.lock = self.made(which, arena=Arena(arena, create=False), on_owner_death="recover")
        self.acquire = self.lock.acquire
        self.release = self.lock.release

    def acquire_timed(self, seconds: float) -> bool:
        return self.lock.acquire(timeout=seconds)

    def told(self) -> bool:
        return self.lock.owner_died


class RLockSubject(MutexSubject):
    name = "rlock"
    made = RLock


SUBJECTS: tuple[type[Subject], ...] = (MutexSubject, RLockSubject)

SCENARIOS = tuple(scenario for subject in SUBJECTS for scenario in scenarios_of(subject))
