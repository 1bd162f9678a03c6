/* test_join.c: waiting for the end of a process, which takes part in deadlocks. */
#include "check.h"

static int watch_of(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        skip("no pidfd here");
    return fd;
}

static void *outlasts_the_belt(void *argument)
{
    struct sx_arena *arena = argument;
    int fd = watch_of(getpid());
    STATUS(sx_join(arena, fd, (uint32_t)getpid(), sx_start_time(getpid(), 0), 0), SX_TIMEOUT);
    STATUS(sx_join(arena, fd, (uint32_t)getpid(), sx_start_time(getpid(), 0), in(150 * MS)), SX_TIMEOUT);
    close(fd);
    return NULL;
}

TEST(join_of_one_that_goes_on_is_late, 0, 20)
{
    struct sx_arena *arena = arena_new();
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = thread(outlasts_the_belt, arena);
    for (int i = 0; i < 3; i++)
        joined(threads[i]);
    for (uint32_t i = 0; i < sx_participants_ready(arena); i++)
        CHECK(atomic_load(&arena->participants[i].wait[0].state) == SX_RUNNING);
}

struct pair {
    struct sx_arena *arena;
    struct sx_mutex *m;
    sx_a32 go, ready;
};

static void ends_when_told(void *argument)
{
    struct pair *p = argument;
    gate_pass(&p->go);
}

static void *tells(void *argument)
{
    struct pair *p = argument;
    UNTIL(sx_wait_state(atomic_load(&p->arena->participants[atomic_load(&p->ready) - 1].wait[0].state)) == SX_WAITING);
    gate_open(&p->go);
    return NULL;
}

TEST(join_ends_with_the_process, FORKS, 20)
{
    struct pair *p = shared(sizeof *p);
    p->arena = arena_new();
    pid_t pid = spawn(ends_when_told, p);
    int fd = watch_of(pid);
    atomic_store(&p->ready, sx_slot_of(my_id(p->arena)) + 1);
    pthread_t teller = thread(tells, p);
    STATUS(sx_join(p->arena, fd, (uint32_t)pid, sx_start_time(pid, 0), SX_NEVER), SX_OK);
    joined(teller);
    ended_well(pid);
    close(fd);
}

static void wants_the_mutex(void *argument)
{
    struct pair *p = argument;
    STATUS(sx_mutex_lock(p->arena, p->m, SX_NEVER), SX_OK);
    STATUS(sx_mutex_unlock(p->arena, p->m, false), SX_OK);
}

/* The process waits for what its joiner holds: the joiner, which came later, or the other one is the victim. */
TEST(join_of_one_that_waits_for_the_joiner_is_a_deadlock, FORKS, 30)
{
    struct pair *p = shared(sizeof *p);
    p->arena = arena_new();
    p->m = named(p->arena, "m", NULL);
    STATUS(sx_mutex_lock(p->arena, p->m, SX_NEVER), SX_OK);
    pid_t pid = spawn(wants_the_mutex, p);
    int fd = watch_of(pid);
    UNTIL(sleepers(p->arena, p->m) == 1);
    enum sx_status s = sx_join(p->arena, fd, (uint32_t)pid, sx_start_time(pid, 0), SX_NEVER);
    if (s == SX_INTERRUPTED) {
        CHECK(sx_deadlock.count == 2);
        STATUS(sx_mutex_unlock(p->arena, p->m, false), SX_OK);
        ended_well(pid);
    } else { /* it was told, and ended with that */
        STATUS(s, SX_OK);
        CHECK(ended(pid) != 0);
    }
    close(fd);
}
