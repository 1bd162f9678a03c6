"""What was called, when, and what came of it: histories, as recorded or as written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NEVER = 1 << 62
"""A time after all others."""

DEATH = "death"
"""The name of the operation by which a killed thread ends."""


class _Unknown:
    """The result of an operation amid which its process was killed."""

    def __repr__(self) -> str:
        return "?"


UNKNOWN = _Unknown()


@dataclass(frozen=True)
class Call:
    """One operation of one thread.  Times are nanoseconds of CLOCK_MONOTONIC.

    who: the thread, a number in the history.  process: the same for its process.
    invoked: a time before the call.  returned: one after it has returned; for a call that never did, one after the
        death of its process, or `NEVER`.
    result: what it returned, or the name of the exception that it raised; `UNKNOWN` if it never returned.
    late: the earliest time at which it may have given up; `NEVER` for a call without a time limit.
    marks: times in between that the caller has seen, such as those at which a function began and ended.
    """

    who: int
    process: int
    name: str
    arguments: tuple[int, ...]
    invoked: int
    returned: int
    result: Any
    late: int = 0
    marks: dict[str, int] = field(default_factory=dict, compare=False)

    @property
    def unknown(self) -> bool:
        return self.result is UNKNOWN

    def __str__(self) -> str:
        if self.name == DEATH:
            return "killed"
        return f"{self.name}({', '.join(map(str, self.arguments))}) -> {spelled(self.result)}"


def spelled(result: Any) -> str:
    """A result as one would write it."""
    if isinstance(result, tuple):
        return str(result[0]) if len(result) == 1 else "(" + ", ".join(map(str, result)) + ")"
    return str(result)


@dataclass
class History:
    """What the threads of some processes did with one object, each in its own order.

    primitive: the name of its specification.  parameters: what the object was made with.
    threads: the calls of each thread.
    """

    primitive: str
    parameters: dict[str, int]
    threads: list[list[Call]]
    origin: str = ""

    def __iter__(self) -> Iterable[Call]:
        return (call for thread in self.threads for call in thread)

    def __len__(self) -> int:
        """Operations, deaths not counted."""
        return sum(call.name != DEATH for call in self)

    @property
    def deaths(self) -> int:
        return sum(call.name == DEATH for call in self)

    @property
    def start(self) -> int:
        return min((call.invoked for call in self), default=0)

    def overlapping(self) -> int:
        """How many operations ran while one of another thread did."""
        calls = [c for c in self if c.name != DEATH]
        return sum(
            any(o.who != c.who and o.invoked <= c.returned and c.invoked <= o.returned for o in calls) for c in calls
        )

    # ---- files --------------------------------------------------------------------------------------------------

    def as_json(self) -> dict[str, Any]:
        """Times count from the start of the history."""
        zero = self.start

        def shifted(t: int) -> int | None:
            return None if t == NEVER else t - zero if t else 0

        return {
            "primitive": self.primitive,
            "parameters": self.parameters,
            "origin": self.origin,
            "threads": [
                [
                    {
                        "process": c.process,
                        "name": c.name,
                        "arguments": list(c.arguments),
                        "invoked": shifted(c.invoked),
                        "returned": shifted(c.returned),
                        "result": list(c.result) if isinstance(c.result, tuple) else "?" if c.unknown else c.result,
                        "late": shifted(c.late),
                        **({"marks": {k: shifted(t) for k, t in c.marks.items()}} if c.marks else {}),
                    }
                    for c in thread
                ]
                for thread in self.threads
            ],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> History:
        """Raises ValueError if that is no history."""

        def time(t: int | None) -> int:
            return NEVER if t is None else t

        def result(of: Any) -> Any:
            return UNKNOWN if of == "?" else tuple(of) if isinstance(of, list) else of

        try:
            threads = [
                [
                    Call(
                        who,
                        c["process"],
                        c["name"],
                        tuple(c["arguments"]),
                        time(c["invoked"]),
                        time(c["returned"]),
                        result(c["result"]),
                        time(c["late"]),
                        {k: time(t) for k, t in c.get("marks", {}).items()},
                    )
                    for c in calls
                ]
                for who, calls in enumerate(data["threads"])
            ]
            return cls(data["primitive"], data["parameters"], threads, data.get("origin", ""))
        except (KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"not a history as History.as_json() writes it: {e!r}") from e

    def save(self, path: Path) -> None:
        """One call a line."""
        data = self.as_json()
        threads = data.pop("threads")
        lines = ["[\n  " + ",\n  ".join(map(json.dumps, calls)) + "]" for calls in threads]
        path.write_text(json.dumps(data)[:-1] + ',\n "threads": [' + ",\n ".join(lines) + "]}\n")

    @classmethod
    def load(cls, path: Path) -> History:
        """Raises ValueError if the file is no history, OSError if it cannot be read."""
        try:
            return cls.from_json(json.loads(path.read_text()))
        except ValueError as e:
            raise ValueError(f"{path}: {e}") from e
