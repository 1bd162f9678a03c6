/* test_latch.c: a count goes down to 0 exactly, once, and then nobody waits any more, whoever was killed meanwhile.
 *
 * Where nobody dies the belt is off, so that a lost wake-up is a hang.  The twins at the end must be condemned.
 */
#include "check.h"

#define WAITERS 4

struct scene {
    struct sx_arena *arena;
    struct sx_latch *latch;
    enum sx_status (*count_down)(struct sx_latch *, uint32_t);
    volatile uint64_t data[WAITERS]; /* plain: count_down and wait must order it */
    sx_a32 next, returned, counted, refused, gate;
    uint32_t count;
    enum sx_status want;
};

static struct sx_latch *latch_of(struct sx_arena *a, uint32_t n)
{
    static int number;
    char name[32];
    struct sx_object o;
    struct sx_request request = {.kind = SX_KIND_LATCH, .parameter = n, .create = SX_EXCLUSIVE};
    int length = snprintf(name, sizeof name, "latch %d", number++);
    STATUS(sx_object_open(a, name, (uint32_t)length, &request, &o), SX_OK);
    return (struct sx_latch *)o.cell;
}

static struct scene *scene(uint32_t count)
{
    struct scene *s = shared(sizeof *s);
    s->arena = arena_new();
    s->latch = latch_of(s->arena, count);
    s->count_down = sx_latch_count_down;
    s->count = count;
    return s;
}

TEST(a_latch_alone, 0, 20)
{
    struct scene *s = scene(3);
    struct sx_latch *l = s->latch;
    STATUS(sx_latch_wait(s->arena, l, 0), SX_BUSY);
    STATUS(sx_latch_wait(s->arena, l, in(20 * MS)), SX_TIMEOUT);
    STATUS(sx_latch_wait(s->arena, l, in(250 * MS)), SX_TIMEOUT); /* outlasts the belt */
    STATUS(sx_latch_wait(s->arena, l, in(-SECOND)), SX_TIMEOUT);
    STATUS(sx_latch_count_down(l, 4), SX_NOT_HELD);
    STATUS(sx_latch_count_down(l, SX_MAX_UNITS), SX_NOT_HELD);
    CHECK(sx_latch_count(l) == 3);
    STATUS(sx_latch_count_down(l, 1), SX_OK);
    STATUS(sx_latch_count_down(l, 2), SX_OK);
    STATUS(sx_latch_count_down(l, 1), SX_NOT_HELD);
    STATUS(sx_latch_wait(s->arena, l, 0), SX_OK);
    STATUS(sx_latch_wait(s->arena, l, SX_NEVER), SX_OK);
    CHECK(l->statistics.rescues == 0 && l->wakes.in_flight == 0);
    STATUS(sx_latch_wait(s->arena, latch_of(s->arena, 0), SX_NEVER), SX_OK);
    l = latch_of(s->arena, SX_MAX_UNITS);
    STATUS(sx_latch_count_down(l, SX_MAX_UNITS), SX_OK);
    STATUS(sx_latch_wait(s->arena, l, SX_NEVER), SX_OK);
}

/* ---- waiting --------------------------------------------------------------------------------------------- */
static void *wait_once(void *argument)
{
    struct scene *s = argument;
    STATUS(sx_latch_wait(s->arena, s->latch, SX_NEVER), s->want);
    for (uint32_t i = 0; s->want == SX_OK && i < s->count; i++)
        if (s->data[i] == 0)
            FAIL("what was written before count down %u is not seen after the wait", i);
    atomic_fetch_add(&s->returned, 1);
    return NULL;
}

static void waits_once(void *argument)
{
    wait_once(argument);
}

static void *count_once(void *argument)
{
    struct scene *s = argument;
    s->data[atomic_fetch_add(&s->next, 1)] = 1;
    STATUS(s->count_down(s->latch, 1), SX_OK);
    return NULL;
}

static void counts_once(void *argument)
{
    count_once(argument);
}

TEST(a_latch_opens_for_all_threads, HEAVY, 30)
{
    sx_belt_off = true;
    for (int i = 0; i < 40; i++) {
        struct scene *s = scene(WAITERS);
        pthread_t waiters[WAITERS], counters[WAITERS];
        for (int j = 0; j < WAITERS; j++)
            waiters[j] = thread(wait_once, s);
        if (i % 2 == 0)
            UNTIL(sleepers(s->arena, s->latch) == WAITERS);
        for (int j = 0; j < WAITERS; j++)
            counters[j] = thread(count_once, s);
        for (int j = 0; j < WAITERS; j++) {
            joined(waiters[j]);
            joined(counters[j]);
        }
        CHECK(sx_latch_count(s->latch) == 0 && s->latch->statistics.rescues == 0);
    }
}

/* The oracle of the twins too. */
static bool all_go_on(struct scene *s, int64_t limit)
{
    pid_t waiters[WAITERS], counters[WAITERS];
    for (int i = 0; i < WAITERS; i++)
        waiters[i] = spawn(waits_once, s);
    UNTIL(sleepers(s->arena, s->latch) == WAITERS);
    CHECK(s->returned == 0);
    for (int i = 0; i < WAITERS; i++)
        counters[i] = spawn(counts_once, s);
    bool counted = all_end(counters, WAITERS, 20 * SECOND), went_on = all_end(waiters, WAITERS, limit);
    return counted && went_on;
}

TEST(a_latch_opens_for_all_processes, FORKS | HEAVY, 60)
{
    sx_belt_off = true;
    for (int i = 0; i < 10; i++) {
        struct scene *s = scene(WAITERS);
        CHECK(all_go_on(s, 20 * SECOND));
        CHECK(s->latch->statistics.rescues == 0);
    }
}

TEST(unlinking_tells_who_waits_for_a_latch, 0, 30)
{
    sx_belt_off = true;
    struct scene *s = scene(1);
    s->want = SX_RETIRED;
    pthread_t threads[WAITERS];
    for (int i = 0; i < WAITERS; i++)
        threads[i] = thread(wait_once, s);
    UNTIL(sleepers(s->arena, s->latch) == WAITERS);
    STATUS(sx_object_unlink(s->arena, "latch 0", 7, true), SX_OK);
    for (int i = 0; i < WAITERS; i++)
        joined(threads[i]);
    STATUS(sx_latch_count_down(s->latch, 1), SX_RETIRED);
    STATUS(sx_latch_wait(s->arena, s->latch, 0), SX_RETIRED);
}

/* ---- counting at once: as many as there are get through, and not one more ------------------------------------- */
static void counts_until_refused(void *argument)
{
    struct scene *s = argument;
    uint32_t counted = 0, n = 1 + (uint32_t)getpid() % 3;
    gate_pass(&s->gate);
    for (; n > 0; n--)
        while (s->count_down(s->latch, n) == SX_OK)
            counted += n;
    atomic_fetch_add(&s->counted, counted);
}

static bool exact(struct scene *s)
{
    pid_t pids[WAITERS];
    for (int i = 0; i < WAITERS; i++)
        pids[i] = spawn(counts_until_refused, s);
    gate_open(&s->gate);
    CHECK(all_end(pids, WAITERS, 20 * SECOND));
    return s->counted == s->count && sx_latch_count(s->latch) == 0;
}

TEST(a_count_goes_down_exactly, FORKS, 60)
{
    struct scene *s = scene((uint32_t)rounds(300000));
    CHECK(exact(s));
    STATUS(sx_latch_wait(s->arena, s->latch, 0), SX_OK);
}

/* ---- death ------------------------------------------------------------------------------------------------------ */
static void counts_and_stays(void *argument)
{
    struct scene *s = argument;
    gate_pass(&s->gate);
    counts_once(s);
    pause();
}

/* Whoever counts is killed at a random moment: the count is what they left, and at 0 all go on, by the belt at the
 * latest. */
TEST(who_counts_down_is_killed, FORKS | NATIVE, 60)
{
    for (int i = 0; i < rounds(60); i++) {
        struct scene *s = scene(WAITERS);
        pid_t waiters[2], counters[WAITERS];
        for (int j = 0; j < WAITERS; j++)
            s->data[j] = 1;
        for (int j = 0; j < 2; j++)
            waiters[j] = spawn(waits_once, s);
        for (int j = 0; j < WAITERS; j++)
            counters[j] = spawn(counts_and_stays, s);
        UNTIL(sleepers(s->arena, s->latch) == 2);
        gate_open(&s->gate);
        int64_t until = in((int64_t)(random64() >> 33) % 300000);
        while (sx_now() < until)
            ;
        for (int j = 0; j < WAITERS; j++)
            killed(counters[j]);
        uint32_t left = sx_latch_count(s->latch);
        CHECK(left <= WAITERS && left >= WAITERS - s->next);
        if (left > 0) {
            CHECK(s->returned == 0);
            STATUS(sx_latch_count_down(s->latch, left), SX_OK);
        }
        CHECK(all_end(waiters, 2, 10 * SECOND));
    }
}

TEST(a_waiter_of_a_latch_is_killed, FORKS | NATIVE, 60)
{
    sx_belt_off = true; /* nobody swallows another's wake-up */
    for (int i = 0; i < rounds(40); i++) {
        struct scene *s = scene(1);
        pid_t waiters[WAITERS];
        s->data[0] = 1;
        for (int j = 0; j < WAITERS; j++) {
            waiters[j] = spawn(waits_once, s);
            UNTIL(sleepers(s->arena, s->latch) == j + 1);
        }
        if (i % 2 == 0)
            kill(waiters[0], SIGKILL);
        STATUS(sx_latch_count_down(s->latch, 1), SX_OK);
        kill(waiters[0], SIGKILL);
        ended(waiters[0]);
        CHECK(all_end(waiters + 1, WAITERS - 1, 10 * SECOND));
    }
}

/* ---- the broken twins --------------------------------------------------------------------------------------------- */
static enum sx_status wakes_one(struct sx_latch *l, uint32_t n)
{
    if (atomic_fetch_sub(&l->word, (uint64_t)n << 32) >> 32 == n)
        sx_futex_wake(sx_high_half(&l->word), 1);
    return SX_OK;
}
static enum sx_status wakes_before(struct sx_latch *l, uint32_t n)
{
    sx_futex_wake(sx_high_half(&l->word), INT_MAX);
    usleep(1000); /* those who woke sleep again */
    atomic_fetch_sub(&l->word, (uint64_t)n << 32);
    return SX_OK;
}
static enum sx_status looks_first(struct sx_latch *l, uint32_t n)
{
    if (n > sx_latch_count(l))
        return SX_NOT_HELD;
    sched_yield(); /* and another may count meanwhile */
    uint32_t count = sx_latch_count(l);
    atomic_store(&l->word, (uint64_t)(count > n ? count - n : 0) << 32);
    return SX_OK;
}

TEST(twin_of_the_latch_that_wakes_one_is_seen, FORKS | HEAVY | NATIVE, 30)
{
    sx_belt_off = true;
    struct scene *s = scene(WAITERS);
    s->count_down = wakes_one;
    CHECK(!all_go_on(s, 2 * SECOND));
}

TEST(twin_of_the_latch_that_wakes_before_is_seen, FORKS | HEAVY | NATIVE, 30)
{
    sx_belt_off = true;
    struct scene *s = scene(WAITERS);
    s->count_down = wakes_before;
    CHECK(!all_go_on(s, 2 * SECOND));
}

TEST(twin_of_the_latch_that_counts_too_much_is_seen, FORKS | HEAVY | NATIVE, 30)
{
    struct scene *s = scene(20000);
    s->count_down = looks_first;
    CHECK(!exact(s));
}
