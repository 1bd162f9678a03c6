"""What the specifications share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..history import Call
from ..search import Stage

Outcomes = Iterator[tuple[Any, ...]]
YES, NO = (1,), (0,)
WAITS = Stage("waits")


def tries(call: Call) -> bool:
    """Who tries only does not wait for its turn."""
    return call.arguments[-1] == 0
