"""The twins: what each takes out of the core.  test_laws.py and test_singlestep.py say which law it breaks."""

from __future__ import annotations

from . import Edit, Twin

# The word is freed by a store of the process and the wake is a second system call: a death fits in between.
STORE_THEN_WAKE = Twin(
    "store, then wake",
    (
        Edit(
            "mutex.c",
            "int woken = sx_futex_wake_op(sx_low_half(&m->word), FUTEX_OP_ANDN, ~keep, count);",
            "int woken = -1;",
        ),
    ),
)

# Those who slept through a change of the holder go on watching the life of the one before.
NOBODY_WATCHES = Twin(
    "nobody watches the new holder's life",
    (Edit("mutex.c", "        wake_one(m);\n    return true;", "        ;\n    return true;"),),
)

# A waiter whose deadline has passed goes at once.  Right, as long as it passes on the wake that it may have consumed.
_LEAVE_EARLY = Edit(
    "mutex.c",
    "        if (deadline == 0 || a.final) {",
    "        if (deadline == 0 || a.final || (a.slept && sx_now() >= deadline)) {",
)
LEAVE_EARLY = Twin("leaves early, and passes the wake on", (_LEAVE_EARLY,))
LEAVE_WITHOUT_WAKE = Twin(
    "leaves early, and keeps the wake",
    (_LEAVE_EARLY, Edit("mutex.c", "        leave(m);\n        sx_landed(", "        sx_landed(")),
)

# The taker of a dead owner's word does not tell.
DEATH_NOT_TOLD = Twin(
    "a death is not told",
    (
        Edit(
            "mutex.c",
            "                status = SX_OWNER_DIED;\n                break;\n            }\n"
            "            if (seen == SX_IMPOSSIBLE)",
            "                status = SX_OK;\n                break;\n            }\n"
            "            if (seen == SX_IMPOSSIBLE)",
        ),
    ),
)

# Everybody is taken for dead, silently: two holders.
TAKES_FROM_THE_LIVING = Twin(
    "takes from the living",
    (
        Edit(
            "participant.c",
            "return generation == (uint32_t)(holder >> 32) && owned(life) ? SX_ALIVE : SX_DEAD;",
            "return (void)generation, SX_DEAD;",
        ),
        *DEATH_NOT_TOLD.edits,
    ),
)

HOST_LOCK_WHILE_SPINNING = Twin(
    "spins under the host's lock",
    (Edit("mutex.c", "            sx_pause_block(&pause);\n            sx_spin(", "            sx_spin("),),
)
HOST_LOCK_WHILE_SLEEPING = Twin(
    "sleeps under the host's lock",
    (
        Edit("mutex.c", "            sx_pause_block(&pause);\n            sx_spin(", "            sx_spin("),
        Edit(
            "wait.c",
            "    sx_pause_block(pause);\n    if (pause->since == 0)",
            "    if (pause->since == 0)",
        ),
    ),
)

NOT_PUBLISHED = Twin(
    "sleeps without a wait record",
    (Edit("wait.c", "    publish(pause, cell, holder);\n    sx_deadlock", "    sx_deadlock"),),
)

# The file has its name while it is still being filled.
CREATED_IN_PLACE = Twin(
    "an arena is made in place",
    (
        Edit(
            "arena.c",
            "int fd = open(other, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);",
            "int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);\n"
            "    if (fd < 0 && errno == EEXIST) { free(other); return SX_EXISTS; }",
        ),
        Edit("arena.c", "    if (s == SX_OK) {\n        snprintf(proc", "    if (0) {\n        snprintf(proc"),
    ),
)

# The next one with the arena's lock believes what the dead one was writing.
NO_REBUILD = Twin(
    "nothing is rebuilt after a death",
    (
        Edit(
            "arena.c",
            "        s = sx_arena_rebuild(arena);\n        if (s != SX_OK) {\n            atomic_store(",
            "        s = SX_OK;\n        if (s != SX_OK) {\n            atomic_store(",
        ),
        Edit(
            "arena.c",
            "        s = sx_arena_rebuild(arena);\n        sx_arena_unlock(arena);\n    }\n    return s;",
            "        sx_arena_unlock(arena);\n    }\n    return s;",
        ),
        Edit(
            "arena.c",
            "s = atomic_load(&(*out)->header->orphans) ? sx_arena_rebuild(*out) : SX_OK;",
            "s = SX_OK;",
        ),
    ),
)

# ---- of tests/twins/laws.c ------------------------------------------------------------------------------------------

PRIVATE_WAIT = Twin(
    "sleeps privately",
    (
        Edit(
            "futex.h",
            "{.val = value, .uaddr = (uintptr_t)word, .flags = FUTEX_32}",
            "{.val = value, .uaddr = (uintptr_t)word, .flags = FUTEX_32 | FUTEX_PRIVATE_FLAG}",
        ),
    ),
)
PRIVATE_WAKE = Twin(
    "wakes privately",
    (Edit("futex.h", "word, FUTEX_WAKE_OP, count", "word, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, count"),),
)
NOBODY_TO_WAKE = Twin(
    "the kernel is not told of sleepers",
    (
        Edit(
            "participant.c",
            "    atomic_fetch_or_explicit(sx_life_word(p), FUTEX_WAITERS, memory_order_seq_cst);\n",
            "",
        ),
    ),
)
UNMAPS_EARLY = Twin(
    "unmaps under a registered thread",
    (
        Edit(
            "arena.c",
            "        if (arena->registered == 0) {\n            leave(arena);",
            "        {\n            leave(arena);",
        ),
    ),
)
DEADLINE_BEGINS_ANEW = Twin(
    "a signal begins the wait anew",
    (
        Edit(
            "wait.c",
            "    case -EINTR:\n",
            "    case -EINTR:\n        pause->deadline += sx_now() - now;\n",
        ),
    ),
)
WALL_CLOCK = Twin(
    "deadlines by the wall clock",
    (
        Edit(
            "futex.h",
            "syscall(SYS_futex_waitv, v, watched + 1, 0, limit, CLOCK_MONOTONIC)",
            "syscall(SYS_futex_waitv, v, watched + 1, 0, limit, CLOCK_REALTIME)",
        ),
    ),
)
CHILD_IS_PARENT = Twin(
    "a forked child goes on as its parent",
    (Edit("process.c", "    sx_forget_registrations();\n    sx_held_forget", "    sx_held_forget"),),
)
WITNESS_INHERITED = Twin(
    "a forked child keeps its parent's witness alive",
    (Edit("process.c", "        int fd = sx_reopen(a);\n", "        int fd = dup(a->fd);\n"),),
)
WITNESS_MAPPED = Twin(
    "the witness is the description of the mapping",
    (Edit("arena.c", "    int own = sx_reopen(a);\n", "    int own = dup(fd);\n"),),
)
NOT_RETIRED = Twin(
    "what is unlinked does not know",
    (
        Edit(
            "object.c",
            "    sx_kind_operations(sx_cell_kind(cell))->retire(cell);\n    sx_name_remove(arena, at);",
            "    sx_name_remove(arena, at);",
        ),
    ),
)
INDEX_UNCHECKED = Twin(
    "a unit is not checked",
    (
        Edit(
            "heap.c",
            "    if (cursor > heap->capacity || unit >= cursor ||\n"
            "        cursor * heap->unit > atomic_load_explicit(heap->ready, memory_order_acquire))\n"
            "        return NULL;\n",
            "",
        ),
    ),
)
REFERENCE_UNCHECKED = Twin(
    "the free list of references is not checked",
    (Edit("object.c", "    if (cursor > SX_MAX_REFERENCES || i > cursor)\n        return SX_DAMAGED;\n", ""),),
)
PAGES_AT_TOUCH = Twin(
    "pages come when they are touched",
    (
        Edit(
            "heap.c",
            "r = posix_fallocate(fd, (off_t)(h->regions[region].offset + ready), (off_t)(bytes - ready));",
            "r = 0;",
        ),
    ),
)
ONE_WITNESS = Twin(
    "only the kernel's mark is believed",
    (Edit("participant.c", "    if (!thread_gone(arena, p, life))\n", ""),),
)
SAME_GENERATION = Twin(
    "a slot's new owner has the old id",
    (Edit("participant.c", "uint32_t generation = old + 1 == 0 ? 1 : old + 1;", "uint32_t generation = old;"),),
)
SAME_START = Twin(
    "generations start at the same number",
    (
        Edit(
            "participant.c",
            "        old = (uint32_t)sx_now() * 2654435761u ^ (uint32_t)tid * 40503u ^ slot;",
            "        old = 1;",
        ),
    ),
)
PID_ALONE = Twin(
    "a pid is believed without its start time",
    (
        Edit("process.c", "return sx_start_time((int)pid, 0) == start && start != 0 &&", "return start != 0 &&"),
        Edit("participant.c", "return now != 0 && now != start;", "return false;"),
    ),
)
OLD_ARENA_BELIEVED = Twin(
    "an id of another arena is believed",
    (
        Edit(
            "object.c",
            "    if (!sx_cell_is_ours(arena, cell)) {",
            "    if (false) {",
        ),
    ),
)
RESERVED_FOR_EVER = Twin(
    "a reservation does not lapse",
    (
        Edit(
            "mutex.c",
            "uint32_t left = w & MUTEX_RESERVED && !a.slept ? reservation_left(m) : 0;",
            "uint32_t left = w & MUTEX_RESERVED ? SX_RESERVATION_US : 0;",
        ),
    ),
)
KNOWS_PYTHON = Twin(
    "the core knows Python", (Edit("mutex.c", '#include "core.h"', '#include "core.h"\n#include <Python.h>'),)
)
KNOWS_PYTHON_INDIRECTLY = Twin(
    "the core knows the binding", (Edit("wait.c", '#include "core.h"', '#include "core.h"\n#include "py_common.h"'),)
)
