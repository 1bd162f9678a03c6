/* test_steps_condition.c: SIGKILL after each machine instruction of a wait, of a notification and of what follows one.
 *
 * As in test_steps.c a victim is stepped n instructions into its operation and killed there, for growing n until it
 * comes to the end.  Each time the lock can be had, and those who wait are woken: no corpse takes a notification along.
 */
#include "check.h"

#define LATE (10 * SECOND)

struct steps {
    struct sx_arena *arena;
    struct sx_cell *cell;
    void (*operate)(struct steps *); /* what it is killed in */
    sx_a32 dead;
};

static struct steps *steps(enum sx_kind kind, uint32_t parameter)
{
    struct steps *s = shared(sizeof *s);
    struct sx_request request = {.kind = kind, .parameter = parameter, .create = SX_CREATE};
    struct sx_object o;
    s->arena = arena_new();
    STATUS(sx_object_open(s->arena, "it", 2, &request, &o), SX_OK);
    s->cell = o.cell;
    return s;
}

static void victim(void *argument)
{
    struct steps *s = argument;
    my_id(s->arena); /* registered: that is another operation */
    to_be_stepped();
    s->operate(s);
    stepped_through();
}

/* ---- what is done--------------------------------------------------------------------------------------------------- */
static struct sx_condition *condition(struct steps *s)
{
    return (struct sx_condition *)s->cell;
}
static void locks(struct steps *s)
{
    enum sx_status status = sx_mutex_lock(s->arena, &condition(s)->lock, in(LATE));
    CHECK(status == SX_OK || status == SX_OWNER_DIED);
}
static void unlocks(struct steps *s)
{
    STATUS(sx_mutex_unlock(s->arena, &condition(s)->lock, false), SX_OK);
}
static enum sx_status waits_until(struct steps *s, int64_t deadline)
{
    struct sx_waiter w;
    locks(s);
    STATUS(sx_condition_enrol(s->arena, condition(s), deadline, &w), SX_OK);
    unlocks(s);
    enum sx_status status = sx_condition_sleep(&w);
    locks(s);
    if (status == SX_OK)
        sx_condition_consume(&w);
    else
        sx_condition_leave(&w);
    unlocks(s);
    return status;
}
static void waits_for_ever(struct steps *s)
{
    STATUS(waits_until(s, SX_NEVER), SX_OK);
}
static void waits(void *argument)
{
    waits_for_ever(argument);
}
static void waits_a_while(struct steps *s)
{
    waits_until(s, in(2 * MS));
}
static void notifies_one(struct steps *s)
{
    locks(s);
    sx_condition_notify(s->arena, condition(s), &condition(s)->lock, 1);
    unlocks(s);
}
static void notifies_all(struct steps *s)
{
    locks(s);
    sx_condition_notify(s->arena, condition(s), &condition(s)->lock, UINT32_MAX);
    unlocks(s);
}

TEST(killed_at_each_step_of_a_wait_for_a_condition, FORKS | NATIVE | HEAVY, 300)
{
    struct steps *s = steps(SX_KIND_CONDITION, SX_ANY);
    s->operate = waits_a_while;
    long n = 1;
    for (bool more = true; more; n += n < 60 ? 1 : 61) {
        more = stepped(spawn(victim, s), n);
        pid_t sleeper = spawn(waits, s);
        UNTIL(sleepers(s->arena, s->cell) == 1);
        notifies_one(s);
        if (!all_end(&sleeper, 1, LATE))
            FAIL("after %ld instructions of a wait its corpse takes notifications", n);
    }
    CHECK(n > 100);
}

TEST(killed_at_each_step_of_a_notification, FORKS | NATIVE | HEAVY, 300)
{
    struct steps *s = steps(SX_KIND_CONDITION, SX_ANY);
    s->operate = notifies_one;
    long n = 1;
    for (bool more = true; more; n += n < 200 ? 1 : 37) {
        pid_t pids[2];
        for (int i = 0; i < 2; i++)
            pids[i] = spawn(waits, s);
        UNTIL(sleepers(s->arena, s->cell) == 2);
        more = stepped(spawn(victim, s), n);
        locks(s); /* somebody has been notified, or nobody, but not both */
        CHECK(sx_condition_waiters(s->arena, condition(s)) >= 1);
        unlocks(s);
        notifies_all(s);
        if (!all_end(pids, 2, LATE))
            FAIL("after %ld instructions of a notification somebody sleeps on", n);
    }
    CHECK(n > 50);
}

/* The victim, the longest waiting of two, is notified while it is stepped. */
static void waits_behind_the_victim(void *argument)
{
    struct steps *s = argument;
    UNTIL(sleepers(s->arena, s->cell) == 1 || atomic_load(&s->dead) != 0);
    waits_for_ever(s);
}
static void notifies_the_longest_waiting(void *argument)
{
    struct steps *s = argument;
    UNTIL(sleepers(s->arena, s->cell) == (atomic_load(&s->dead) != 0 ? 1 : 2));
    notifies_one(s);
}

static bool consumed(struct steps *s)
{
    for (uint32_t i = 0; i < sx_participants_ready(s->arena); i++) {
        struct sx_participant *p = &s->arena->participants[i];
        uint32_t life, state = sx_wait_state(atomic_load(&p->wait[0].state));
        uint64_t id = (uint64_t)atomic_load(&p->generation) << 32 | (uint64_t)(i + 1) << SX_SLOT_SHIFT;
        if (sx_holder_life(s->arena, id, &life) == SX_DEAD && (state == SX_NOTIFIED || state == SX_PASSING))
            return false;
    }
    return true;
}

/* One sweep from n on; returns where it ended, and how often the notification had to be passed on. */
static long after_being_notified(struct steps *s, long n, long *passed)
{
    for (bool more = true; more; n += 47) {
        atomic_store(&s->dead, 0);
        pid_t second = spawn(waits_behind_the_victim, s), notifier = spawn(notifies_the_longest_waiting, s);
        pid_t waiter = spawn(victim, s);
        more = stepped(waiter, n);
        atomic_store(&s->dead, 1);
        ended_well(notifier);
        bool was_consumed = consumed(s);
        *passed += !was_consumed;
        if (was_consumed) /* or the notification went to the second at once */
            notifies_one(s);
        if (!all_end(&second, 1, LATE))
            FAIL("after %ld instructions the notification died with the waiter that was chosen", n);
    }
    return n;
}

TEST(killed_at_each_step_after_being_notified, FORKS | NATIVE | HEAVY, 600)
{
    struct steps *s = steps(SX_KIND_CONDITION, SX_ANY);
    s->operate = waits_for_ever;
    long n = 0, passed = 0;
    /* Where it stands when it is notified is up to the machine: other points, until one has met a chosen waiter. */
    for (int round = 0; round < 5 && passed == 0; round++)
        n = after_being_notified(s, 1 + 9 * round, &passed);
    CHECK(n > 100 && passed > 0);
}
