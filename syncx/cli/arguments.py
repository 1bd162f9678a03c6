"""What may stand on a command line: text in, a value out, or argparse.ArgumentTypeError saying what was expected."""

from __future__ import annotations

import argparse

from ..arena import name_to_bytes, path_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def checked(text: str, check: Callable[[str], object]) -> str:
    """The text, if `check` raises no ValueError for it."""
    try:
        check(text)
    except ValueError as e:
        raise argparse.ArgumentTypeError(str(e)) from None
    return text


def lock_name(text: str) -> str:
    """The name of an object in an arena."""
    return checked(text, name_to_bytes)


def arena_name(text: str) -> str:
    """The name of an arena, or its path."""
    return checked(text, path_of)


def arena_or_path(text: str) -> str:
    """The same, or the path of anything: whatever has a slash in it."""
    return text if "/" in text else arena_name(text)


def path(text: str) -> str:
    """The path of a file."""
    if not text:
        raise argparse.ArgumentTypeError("the path of a file must not be empty")
    return text


def seconds(text: str) -> float:
    """A time, from 0 to 1e9 seconds."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 1e9")
    return value


def interval(text: str) -> float:
    """The time between two looks, in seconds."""
    value = seconds(text)
    if value < 0.05:
        raise argparse.ArgumentTypeError(f"{text!r} is too short: 0.05 seconds at least")
    return value


def rate(text: str) -> float:
    """Deaths in 1,000 operations."""
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 500:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of deaths in 1,000 operations, from 0 to 500")
    return rate


def integer(least: int, most: int) -> Callable[[str], int]:
    """What parses a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse
