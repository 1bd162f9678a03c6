"""What is public: found by looking, so that nothing new is forgotten."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator
from typing import Any

import syncx
from syncx.cli import parser

HELPERS = ("ReadView", "WriteView", "UpgradableView")
"""Classes that nobody names but everybody gets."""
PLAIN = (BaseException, tuple, dict)
"""What such classes inherit is Python's own."""


def classes() -> dict[str, type]:
    """The public classes, and those of what public calls return."""
    from syncx import rwlock

    found = {name: getattr(syncx, name) for name in syncx.__all__ if inspect.isclass(getattr(syncx, name))}
    found = {name: cls for name, cls in found.items() if cls.__name__ == name}  # Lock is another name of Mutex
    return {**found, **{name: getattr(rwlock, name) for name in HELPERS}}


def functions() -> dict[str, Any]:
    """The public functions."""
    return {name: getattr(syncx, name) for name in syncx.__all__ if not inspect.isclass(getattr(syncx, name))}


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """The public attributes that are ours."""
    for name in dir(cls):
        if name.startswith("_") or any(issubclass(cls, plain) and hasattr(plain, name) for plain in (*PLAIN, OSError)):
            continue
        yield name, inspect.getattr_static(cls, name)


def is_method(cls: type, name: str) -> bool:
    """Something to call, rather than to read."""
    return callable(getattr(cls, name, None)) and not inspect.isclass(getattr(cls, name))


def attributes(cls: type) -> list[str]:
    """What is read."""
    return [name for name, _ in members(cls) if not is_method(cls, name)]


def commands() -> list[str]:
    """Those of the command line."""
    (sub,) = (a for a in parser.build()._actions if isinstance(a, argparse._SubParsersAction))
    return sorted(sub.choices)


def calls() -> set[str]:
    """Every public call: `Class`, `Class.method`, `function`, and `syncx command`."""
    found = set(functions()) | {f"syncx {command}" for command in commands()}
    for name, cls in classes().items():
        if issubclass(cls, BaseException):
            continue
        found.add(name)
        found |= {f"{name}.{member}" for member, _ in members(cls)}
    return found
