"""How long and how often a run measures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Settings:
    rounds: int | None = None
    """None: each group's own number."""
    seconds: float = 1.0
    """Of one contended run, and of the block before a wake-up."""
    quick: bool = False
    crowd: int = 127
    """How many processes may hold or wait at a time."""
    step: Callable[[str, int, int], None] = lambda group, done, of: None
    """Called after each round, for the progress bar."""

    def number(self, usual: int, quick: int) -> int:
        return self.rounds or (quick if self.quick else usual)

    def interleaved(self, group: str, rounds: int, contestants: list[T]) -> Iterator[T]:
        """Every contestant once a round, each round beginning with another one."""
        for i in range(rounds):
            start = i % len(contestants)
            yield from contestants[start:] + contestants[:start]
            self.step(group, i + 1, rounds)
