"""What `syncx run` is to hold: --lock, --semaphore, --read, --write and --file, and what belongs to a file."""

from __future__ import annotations

import argparse
import re

from .._core import MAX_PERMITS
from .arguments import integer, lock_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def semaphore(text: str) -> tuple[str, int | None]:
    """NAME or NAME=N, as the name and the number of permits, if one is given."""
    name, equals, number = text.rpartition("=")
    if not equals:
        return lock_name(text), None
    try:
        return lock_name(name), integer(1, MAX_PERMITS)(number)
    except argparse.ArgumentTypeError as e:
        raise argparse.ArgumentTypeError(f"{text!r} should be NAME or NAME=N: {e}") from None


class AddClaim(argparse.Action):
    """One list for several options, since their order counts: what makes a run.Claim of each."""

    def __call__(
        self, parser: argparse.ArgumentParser, options: argparse.Namespace, value: Any, option: str | None = None
    ) -> None:
        name, permits = value if isinstance(value, tuple) else (value, None)
        what = self.option_strings[0].lstrip("-")
        options.claims = [*options.claims, {"what": what, "name": str(name), "permits": permits}]


_RANGE = re.compile(r"(?P<start>\d*):(?P<stop>\+?\d*)", re.A)
_LAST_BYTE = (1 << 63) - 1


def byte_range(text: str) -> tuple[int, int]:
    """A slice of bytes, as its start and its length; length 0: to the end."""
    found = _RANGE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} should be A:B (bytes A to B-1), A:+N (N bytes from A on) or A: (from A to the end)"
        )
    start = int(found["start"] or 0)
    if not found["stop"]:
        length = 0
    elif found["stop"] == "+":
        raise argparse.ArgumentTypeError(f"{text!r} says not how many bytes: A:+N is N bytes from A on")
    else:
        length = int(found["stop"]) - (0 if found["stop"][0] == "+" else start)
        if length <= 0:
            raise argparse.ArgumentTypeError(f"{text!r} has no byte in it: B is the byte behind the last")
    if start + length > _LAST_BYTE:
        raise argparse.ArgumentTypeError(f"{text!r} goes beyond the last byte that a file can have, {_LAST_BYTE}")
    return start, length


class OfFile(argparse.Action):
    """What belongs to the --file or --fd before it."""

    def __call__(
        self, parser: argparse.ArgumentParser, options: argparse.Namespace, value: Any, option: str | None = None
    ) -> None:
        claims: list[dict[str, Any]] = options.claims
        if not claims or claims[-1]["what"] not in ("file", "fd"):
            raise argparse.ArgumentError(self, "belongs to a file: put it behind its --file")
        if self.dest == "range":
            more = dict(zip(("start", "length"), value, strict=True))
        else:
            more = {self.dest: self.const if self.nargs == 0 else value}
        options.claims = [*claims[:-1], {**claims[-1], **more}]
