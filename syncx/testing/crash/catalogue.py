"""Which scenarios there are."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence

from .scenario import Scenario

__all__ = ["FAMILIES", "chosen", "find", "scenarios"]

FAMILIES = (
    "subjects",
    "conditions",
    "semaphores",
    "events",
    "barriers",
    "files",
    "parts",
    "contents",
    "records",
    "siblings",
    "threads",
    "onces",
    "names",
    "memory",
    "knots",
)
"""The modules beside this one that have a tuple SCENARIOS."""


def scenarios(modules: Iterable[str] = ()) -> list[type[Scenario]]:
    """All scenarios, and those of further modules, each by its full name, which have a tuple SCENARIOS too.

    Raises ValueError for a module without one, and when two scenarios have the same name.
    """
    found: dict[str, type[Scenario]] = {}
    package = __name__.rpartition(".")[0]
    for name in (*(f"{package}.{family}" for family in FAMILIES), *modules):
        module = importlib.import_module(name)
        if not hasattr(module, "SCENARIOS"):
            raise ValueError(f"module {name} has no tuple SCENARIOS of subclasses of Scenario")
        for scenario in module.SCENARIOS:
            if found.setdefault(scenario.name(), scenario) is not scenario:
                raise ValueError(f"two scenarios are called {scenario.name()!r}")
    return list(found.values())


def chosen(everything: Sequence[type[Scenario]], patterns: Sequence[str]) -> list[type[Scenario]]:
    """Those that one of the patterns is the name of, or else a part of the name; without patterns all."""
    exact = {s.name() for s in everything} & set(patterns)
    parts = [p for p in patterns if p not in exact]
    return [s for s in everything if not patterns or s.name() in exact or any(p in s.name() for p in parts)]


def find(name: str, modules: Iterable[str] = ()) -> type[Scenario]:
    """The scenario of that name; ValueError: there is none."""
    for scenario in scenarios(modules):
        if scenario.name() == name:
            return scenario
    raise ValueError(f"there is no scenario {name!r}; --list tells which there are")
