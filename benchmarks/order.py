"""What the check of lock order and tracing cost: `with` by itself and under another lock, on and off in turn."""

from __future__ import annotations

import functools

import syncx
from syncx import _core

from .peers import Field
from .place import Place
from .samples import Section
from .settings import Settings
from .uncontended import Timed, measure, timed

OFF, ORDER, TRACE = "both off", "lock order checked", "traced"
WARM_UP = 300
"""Rounds before the measured ones: what a lock costs that has been seen before is what is told."""
_SWITCHES = {OFF: (False, False), ORDER: (False, True), TRACE: (True, False)}
_INSIDE = "with l:\n    with m: pass"


def _switched(run: Timed, switches: tuple[bool, bool], n: int) -> float:
    _core._note(*switches)
    try:
        run(WARM_UP)  # what is met for the first time is looked up in the arena
        return run(n)
    finally:
        _core._note(False, False)


def _section(key: str, title: str, run: Timed, settings: Settings) -> Section:
    section = Section(key, title, "ns", OFF)
    contestants = [
        (name, "floor" if name == OFF else "syncx", functools.partial(_switched, run, switches))
        for name, switches in _SWITCHES.items()
    ]
    measure(section, contestants, settings)
    return section


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    a, b = (syncx.Mutex(place.name(), arena=place.arena) for _ in range(2))
    return [
        _section("noted-with", "uncontended `with lock: pass`", timed("with l: pass", a, {}), settings),
        _section("noted-inside", "a `with` inside another one", timed(_INSIDE, a, {"m": b}), settings),
    ]
