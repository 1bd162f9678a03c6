"""Broken twins of the core for the fuzzers: each lacks one check of what it reads, and a target must find it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.twins import CORE, Edit, Twin, apply, core_sources, table

TWINS: dict[str, Twin] = {
    "names": Twin(
        table.INDEX_UNCHECKED.name,
        table.INDEX_UNCHECKED.edits,
    ),
    "participants": Twin(
        "the kind of a life lock is not looked at",
        (
            Edit(
                "participant.c",
                "if (!atomic_compare_exchange_strong(life_kind(p), &kind, expected) && kind != expected)",
                "if (atomic_compare_exchange_strong(life_kind(p), &kind, expected) && kind == 1)",
            ),
        ),
    ),
    "deadlock": Twin(
        "a record's cell is not compared with the pages of the arena",
        (
            Edit(
                "heap.c",
                "if (offset % SX_LINE != 0 || offset < begin || offset - begin >= ready || "
                "ready - (offset - begin) < size)",
                "if (offset % SX_LINE != 0 || offset >= arena->size || arena->size - offset < size)",
            ),
        ),
    ),
    "cells": Twin(
        "the length of a result is not compared with its room",
        (Edit("once.c", "if (*length > SX_ONCE_RESULT)", "if (*length == UINT32_MAX)"),),
    ),
}


def write_core(twin: Twin, where: Path) -> Path:
    """The core's C files with the twin's edits, in a new directory; those that are as they were keep their times."""
    where.mkdir(parents=True)
    sources = core_sources()
    broken = apply(twin, sources)
    for name, text in broken.items():
        if text == sources[name]:
            shutil.copy2(CORE / name, where / name)
        else:
            (where / name).write_text(text)
    return where
