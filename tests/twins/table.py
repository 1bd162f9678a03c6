"""The twins: what each takes out of the core.  tests/test_laws.py and tests/test_singlestep.py say which law it breaks."""

from __future__ import annotations

from . import Edit, Twin

# The word is freed by a store of the process and the wake is a second system call: a death fits in between.
STORE_THEN_WAKE = Twin(
    "store, then wake",
    (
        Edit(
            "mutex.c",
            "int woken = sx_futex_wake_op(sx_low_half(&m->word), FUTEX_OP_SET, flags, count);",
            "int woken = -1;",
        ),
    ),
)

# A waiter whose deadline has passed goes at once.  Right, as long as it passes on the wake that it may have consumed.
_LEAVE_EARLY = Edit(
    "mutex.c",
    "        if (deadline == 0) {\n            status = SX_BUSY;",
    "        if (deadline == 0 || (a.slept && sx_now() >= deadline)) {\n"
    "            status = deadline == 0 ? SX_BUSY : SX_TIMEOUT;",
)
LEAVE_EARLY = Twin("leaves early, and passes the wake on", (_LEAVE_EARLY,))
LEAVE_WITHOUT_WAKE = Twin(
    "leaves early, and keeps the wake",
    (_LEAVE_EARLY, Edit("mutex.c", "            leave(m);\n", "            ;\n")),
)

# Everybody is taken for dead: two holders.
TAKES_FROM_THE_LIVING = Twin(
    "takes from the living",
    (
        Edit(
            "participant.c",
            "return generation == (uint32_t)(holder >> 32) && owned(life) ? SX_ALIVE : SX_DEAD;",
            "return (void)generation, SX_DEAD;",
        ),
    ),
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

HOST_LOCK_WHILE_SPINNING = Twin(
    "spins under the host's lock",
    (Edit("mutex.c", "            sx_pause_block(&pause);\n            w = spin(m, w);", "            w = spin(m, w);"),),
)
HOST_LOCK_WHILE_SLEEPING = Twin(
    "sleeps under the host's lock",
    (
        Edit("mutex.c", "            sx_pause_block(&pause);\n            w = spin(m, w);", "            w = spin(m, w);"),
        Edit(
            "wait.c",
            "    sx_pause_block(pause);\n    publish(pause, cell, holder);",
            "    publish(pause, cell, holder);",
        ),
    ),
)

NOT_PUBLISHED = Twin(
    "sleeps without a wait record",
    (Edit("wait.c", "    publish(pause, cell, holder);\n    int r", "    int r"),),
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
            "        s = sx_arena_rebuild(arena);\n        if (s != SX_OK) {\n            atomic_store(&arena->header->damaged",
            "        s = SX_OK;\n        if (s != SX_OK) {\n            atomic_store(&arena->header->damaged",
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
