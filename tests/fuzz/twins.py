"""Broken twins of the core for the fuzzers: each lacks one check of what it reads, and a target must find it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.twins import CORE, Edit, Twin, apply, core_sources, table

TWINS: dict[str, Twin] = {
    "arena": Twin(
        "where the regions lie is believed",
        (
            Edit(
                "arena.c",
                "return memcmp(&want, h, offsetof(struct sx_header, checksum)) != 0 ? SX_OTHER_VERSION : SX_OK;",
                "return SX_OK;",
            ),
        ),
    ),
    "names": Twin(table.INDEX_UNCHECKED.name, table.INDEX_UNCHECKED.edits),
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
    "cells": Twin(
        "the length of a result is not compared with its room",
        (Edit("once.c", "if (*length > SX_ONCE_RESULT)", "if (*length == UINT32_MAX)"),),
    ),
    "memory": Twin(
        "an object is not compared with the memory that was given",
        (
            Edit(
                "object.c",
                "    if (request->needed > size)\n        return SX_TOO_SMALL;\n    enum sx_status s = as_requested(",
                "    (void)size;\n    enum sx_status s = as_requested(",
            ),
        ),
    ),
    "snapshot": Twin(
        "a holder that cannot be is shown",
        (
            Edit(
                "snapshot_cells.c",
                "if (!sx_possible(r->c, by_process ? process : thread, by_process)) {",
                "if (r->c == NULL) {",
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
    "notes": Twin(
        "the number of classes is believed",
        (Edit("order.c", "return n < SX_ORDER_CLASSES ? n : SX_ORDER_CLASSES;", "return n;"),),
    ),
    "files": Twin(
        "what a predecessor held of files is not forgotten",
        (
            Edit(
                "participant.c",
                "    for (uint32_t i = 0; i < SX_FILE_HOLDS; i++)\n"
                "        atomic_fetch_and_explicit(&p->files[i].state, ~(FILE_STEP - 1), memory_order_relaxed);\n",
                "",
            ),
        ),
    ),
}
"""By target."""


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
