/* step_counts.c: one operation on a semaphore or a latch, for tests/singlestep.c to kill it at any instruction.
 *
 *     step_counts ARENA NAME OPERATION [N] [belt]
 *
 * It stops itself before the operation and after it.  "taker" and "waiter" are the other side: they wait for N units, or
 * for the latch, and end; without the belt, unless they are told.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

static struct sx_arena *arena;
static struct sx_cell *cell;

static bool somebody_waits(void)
{
    for (uint32_t i = 0; i < sx_participants_ready(arena); i++)
        if (sx_wait_state(atomic_load(&arena->participants[i].wait[0].state)) == SX_WAITING)
            return true;
    return false;
}

static bool opened(const char *path, const char *name, enum sx_kind kind)
{
    struct sx_request request = {.kind = kind, .parameter = SX_ANY, .create = SX_OPEN};
    struct sx_object object;
    uint64_t me;
    if (sx_arena_open(path, false, false, 0600, &arena) != SX_OK ||
        sx_object_open(arena, name, (uint32_t)strlen(name), &request, &object) != SX_OK ||
        sx_identity(arena, &me) != SX_OK)
        return false;
    cell = object.cell;
    return true;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 70;
    const char *operation = argv[3];
    uint32_t n = argc > 4 ? (uint32_t)atoi(argv[4]) : 1;
    bool latch = strcmp(operation, "waiter") == 0 || strncmp(operation, "count", 5) == 0;
    if (!opened(argv[1], argv[2], latch ? SX_KIND_LATCH : SX_KIND_SEMAPHORE))
        return 70;
    struct sx_semaphore *s = (struct sx_semaphore *)cell;
    struct sx_latch *l = (struct sx_latch *)cell;
    sx_belt_off = argc <= 5;
    if (strcmp(operation, "taker") == 0)
        return sx_semaphore_acquire(arena, s, n, SX_NEVER) == SX_OK ? 0 : 71;
    if (strcmp(operation, "waiter") == 0)
        return sx_latch_wait(arena, l, SX_NEVER) == SX_OK ? 0 : 71;
    if (strncmp(operation, "release", 7) == 0 || latch) {
        for (int64_t end = sx_now() + INT64_C(20000000000); !somebody_waits(); usleep(500))
            if (sx_now() > end)
                return 72;
        usleep(2000); /* asleep, most probably; not yet asleep is as good */
    }
    raise(SIGSTOP);
    enum sx_status status = SX_BUSY;
    if (strcmp(operation, "with") == 0)
        status = sx_semaphore_take(s, n) && sx_semaphore_give(s, n) ? SX_OK : SX_BUSY;
    else if (strcmp(operation, "wait") == 0)
        status = sx_semaphore_acquire(arena, s, n, sx_now() + 1000000) == SX_TIMEOUT ? SX_OK : SX_BUSY;
    else if (strncmp(operation, "release", 7) == 0)
        status = sx_semaphore_release(s, n);
    else if (strcmp(operation, "count down") == 0)
        status = sx_latch_count_down(l, n);
    raise(SIGSTOP);
    return status == SX_OK ? 0 : 74;
}
