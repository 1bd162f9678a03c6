"""The page on other programs' locks: its tables are what is measured here, and the measuring can tell."""

from __future__ import annotations

import re

import pytest
from interop import table
from interop.parties import NEIGHBOURS, OURS

POSIX = {name for name in NEIGHBOURS if "flock" not in name and name not in ("filelock", "portalocker")}
FLOCK = set(NEIGHBOURS) - POSIX


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.touch()
    return path


@pytest.mark.core
def test_the_page_tells_what_is_measured(start, tmp_path):
    measured = table.measure(start, tmp_path)
    verdicts = {pair: found.verdict() for pair, found in measured.whole.items()}
    for style in OURS:
        kept = {b for a, b in verdicts if a == style and verdicts[a, b] == "yes"}
        left = {b for a, b in verdicts if a == style and verdicts[a, b] == "no"}
        # a lock of the wrong style excludes nobody, and that is what the table has to say
        assert (kept, left) == ((FLOCK, POSIX) if style == "flock" else (POSIX, FLOCK)), style
    text = table.PAGE.read_text()
    fresh = table.tables(measured)
    assert table.on_page(text) == fresh, "the page tells something else: python tests/interop/table.py --write"
    assert table.put(text, fresh) == text


def test_a_page_that_tells_something_else_is_found():
    text = table.PAGE.read_text()
    told = table.on_page(text)
    assert set(told) == {"ours", "whole", "families", "ranges", "sqlite", "wal"}
    lines = told["whole"].splitlines()
    broken = text.replace(lines[2], lines[2].replace("| yes |", "| no |", 1))
    assert table.on_page(broken) != told
    assert table.put(broken, told) == text


@pytest.mark.parametrize("style", OURS)
def test_the_right_style_excludes_and_the_wrong_one_does_not(style, start, file):
    """Both orders, both modes, beside one neighbour of each family: on every Python."""
    ours = start(OURS[style], file)
    for neighbour in ("C fcntl", "C flock"):
        found = table.pair(ours, start(NEIGHBOURS[neighbour], file))
        assert found.verdict() == ("yes" if (neighbour == "C flock") == (style == "flock") else "no")
        assert found.second_kept_out["ss"] is False


@pytest.mark.parametrize("style", ["ofd", "posix"])
def test_ranges(style, start, file):
    found = table.ranges(start(OURS[style], file), start(NEIGHBOURS["C fcntl"], file))
    assert list(found.values()) == ["yes"] * 5 + ["no"] * 2


def test_a_lock_that_excludes_one_way_only_is_told_as_such():
    one_way = table.Pair({"xx": True, "xs": True}, {"xx": False, "xs": True})
    assert re.search("False", one_way.verdict())
    readers_too = table.Pair({"xx": True, "ss": True}, {"xx": True, "ss": True})
    assert readers_too.verdict() not in ("yes", "no")
    assert table.Pair({"xx": True, "ss": False}, {"xx": True, "ss": False}).verdict() == "yes"
