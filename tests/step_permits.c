/* step_permits.c: one operation on a semaphore's permits, for tests/singlestep.c to kill it at any instruction.
 *
 *     step_permits ARENA NAME OPERATION
 *
 * It stops itself before the operation and after it.  "waiter" is the other side: it waits for N permits without the
 * belt, gives them back and ends.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

static struct sx_arena *arena;
static struct sx_permits *permits;
static uint32_t hint;

static enum sx_status take(uint32_t n, int64_t deadline)
{
    struct sx_death death;
    return sx_permits_acquire(arena, permits, n, 0, deadline, &hint, &death);
}

static enum sx_status give(uint32_t n)
{
    return sx_permits_release(arena, permits, n, 0);
}

/* As `with` does it. */
static enum sx_status with(void)
{
    if (!sx_permit_take(permits, hint, arena->self | PERMIT_SCOPED, sx_self.id))
        return SX_BUSY;
    return sx_permit_give(permits, hint, arena->self | PERMIT_SCOPED, sx_self.id) ? SX_OK : SX_BUSY;
}

static bool somebody_waits(void)
{
    for (uint32_t i = 0; i < sx_participants_ready(arena); i++)
        if (sx_wait_state(atomic_load(&arena->participants[i].wait[0].state)) == SX_WAITING)
            return atomic_load(&permits->wake) & (PERMITS_WAITERS | PERMITS_SEVERAL);
    return false;
}

static void until(bool (*condition)(void))
{
    for (int64_t end = sx_now() + INT64_C(20000000000); !condition(); usleep(500))
        if (sx_now() > end)
            exit(70);
}

static bool all_taken(void)
{
    return sx_permits_free(arena, permits, 1) == 0;
}

int main(int argc, char **argv)
{
    struct sx_request request = {.kind = SX_KIND_PERMITS, .parameter = SX_ANY, .create = SX_OPEN};
    struct sx_object object;
    uint64_t me;
    if (argc < 4 || sx_arena_open(argv[1], false, false, 0600, &arena) != SX_OK ||
        sx_object_open(arena, argv[2], (uint32_t)strlen(argv[2]), &request, &object) != SX_OK ||
        sx_identity(arena, &me) != SX_OK)
        return 70;
    permits = (struct sx_permits *)object.cell;
    const char *operation = argv[3];
    uint32_t capacity = permits->cell.parameter;
    if (strcmp(operation, "waiter") == 0) {
        uint32_t n = (uint32_t)atoi(argv[4]);
        sx_belt_off = true;
        until(all_taken);
        if (take(n, SX_NEVER) != SX_OK)
            return 71;
        if (give(n) != SX_OK)
            return 72;
        return 0;
    }
    bool releases = strncmp(operation, "release", 7) == 0;
    with(); /* all is warm */
    if (releases) {
        if (take(capacity, 0) != SX_OK)
            return 73;
        until(somebody_waits);
        usleep(2000); /* asleep, most probably; not yet asleep is as good */
    }
    raise(SIGSTOP);
    enum sx_status s = SX_OK;
    if (strcmp(operation, "with") == 0) {
        s = with();
    } else if (strcmp(operation, "one") == 0) {
        s = take(1, 0);
        s = s == SX_OK ? give(1) : s;
    } else if (strcmp(operation, "several") == 0) {
        s = take(capacity, 0);
        s = s == SX_OK ? give(capacity) : s;
    } else if (strcmp(operation, "wait") == 0) {
        s = take(1, sx_now() + 1000000) == SX_TIMEOUT ? SX_OK : SX_BUSY;
    } else if (strcmp(operation, "release one") == 0) {
        s = give(1);
    } else if (strcmp(operation, "release all") == 0) {
        s = give(capacity);
    }
    raise(SIGSTOP);
    return s == SX_OK ? 0 : 74;
}
