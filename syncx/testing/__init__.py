"""Tests of synchronisation by kill -9: the crash harness, the storm, and what users test their own code with.

Nothing here is imported by `import syncx`, and nothing of it before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .killing import CannotStep, Failure, Kill, KilledBadly, KillReport, kill_everywhere
    from .stress import Outcome, storm

__all__ = ["CannotStep", "Failure", "Kill", "KillReport", "KilledBadly", "Outcome", "kill_everywhere", "storm"]

_KILLING = ("CannotStep", "Failure", "Kill", "KillReport", "KilledBadly", "kill_everywhere")
_WHERE = {"Outcome": "stress", "storm": "stress", **dict.fromkeys(_KILLING, "killing")}
"""The public names, and the module of each."""


def __getattr__(name: str) -> object:
    if name in _WHERE:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
