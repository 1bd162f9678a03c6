"""Tests of synchronisation by kill -9: the crash harness, the storm, and what users test their own code with.

Nothing here is imported by `import syncx`, and nothing of it before it is asked for.
"""

from __future__ import annotations

__all__ = ["storm"]

_WHERE = {"storm": "stress"}
"""The public names, and the module of each."""


def __getattr__(name: str) -> object:
    if name in _WHERE:
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
