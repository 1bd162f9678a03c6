/* test_exclusion.c: two are never inside at once, nobody sleeps for ever, and the belt has nothing to do.
 *
 * The oracle judges in two ways: a plain counter that loses steps when two are inside, and a count of those inside.
 * The same oracle and the same watchdog must condemn the broken twins at the end of the file.
 */
#include "check.h"

struct lock {
    enum sx_status (*lock)(struct sx_arena *, struct sx_mutex *, int64_t);
    enum sx_status (*unlock)(struct sx_arena *, struct sx_mutex *, bool);
};
static enum sx_status real_lock(struct sx_arena *a, struct sx_mutex *m, int64_t deadline)
{
    return sx_mutex_lock(a, m, deadline);
}
static enum sx_status real_unlock(struct sx_arena *a, struct sx_mutex *m, bool keep)
{
    return sx_mutex_unlock(a, m, keep);
}
static const struct lock real = {real_lock, real_unlock};

struct section {
    volatile uint64_t counter;
    sx_a32 inside, overlaps;
};

struct contest {
    struct sx_arena *arena;
    struct sx_mutex *mutex;
    const struct lock *lock;
    struct section *section;
    int threads, each;
    int yields;       /* inside, every eighth time */
    int64_t hold;     /* ns asleep inside */
    int64_t patience; /* of every other attempt; SX_NEVER: all wait for ever */
    int64_t until;    /* 0, or a time to stop at, whatever `each` says */
    int64_t enough;   /* a time at which fewer than `each` will do: the machine is busy, and late means a hang */
    sx_a64 *entries;
    int stay; /* until so many threads are through: an end tells those who sleep on the life word */
    sx_a32 *through, *gate;
};

/* relaxed throughout: the oracle must not order what the lock ought to order */
static void inside(struct contest *c, int i)
{
    struct section *s = c->section;
    if (atomic_fetch_add_explicit(&s->inside, 1, memory_order_relaxed) != 0)
        atomic_fetch_add_explicit(&s->overlaps, 1, memory_order_relaxed);
    uint64_t seen = s->counter;
    if (i % 8 == 0)
        for (int y = 0; y < c->yields; y++)
            sched_yield();
    if (c->hold != 0)
        usleep((useconds_t)(c->hold / 1000));
    s->counter = seen + 1;
    atomic_fetch_sub_explicit(&s->inside, 1, memory_order_relaxed);
}

static void *contend(void *argument)
{
    struct contest *c = argument;
    uint64_t entered = 0;
    for (int i = 0; c->until != 0 ? sx_now() < c->until : i < c->each && (i % 16 != 0 || sx_now() < c->enough); i++) {
        bool patient = c->patience == SX_NEVER || i % 2 == 0;
        enum sx_status s = c->lock->lock(c->arena, c->mutex, patient ? SX_NEVER : in(c->patience));
        if (s == SX_TIMEOUT && !patient)
            continue;
        STATUS(s, SX_OK);
        inside(c, i);
        entered++;
        STATUS(c->lock->unlock(c->arena, c->mutex, false), SX_OK);
    }
    atomic_fetch_add(c->entries, entered);
    if (atomic_fetch_add(c->through, 1) + 1 == (uint32_t)c->stay)
        gate_open(c->gate);
    if (c->stay != 0)
        gate_pass(c->gate);
    return NULL;
}

static void contend_in_threads(void *argument)
{
    struct contest *c = argument;
    pthread_t threads[16];
    for (int i = 0; i < c->threads; i++)
        threads[i] = thread(contend, c);
    for (int i = 0; i < c->threads; i++)
        joined(threads[i]);
}

static struct contest contest(struct sx_arena *arena, struct sx_mutex *mutex, int threads, int each)
{
    return (struct contest){.arena = arena,
                            .mutex = mutex,
                            .lock = &real,
                            .section = shared(sizeof(struct section)),
                            .threads = threads,
                            .each = each,
                            .yields = 2,
                            .patience = SX_NEVER,
                            .enough = in(6 * SECOND),
                            .entries = shared(sizeof(sx_a64)),
                            .through = shared(4),
                            .gate = shared(4)};
}

static bool excluded(struct contest *c)
{
    return c->section->overlaps == 0 && c->section->counter == *c->entries;
}

/* false: late */
static bool processes(struct contest *c, int n, int64_t limit)
{
    pid_t pids[16];
    for (int i = 0; i < n; i++)
        pids[i] = spawn(contend_in_threads, c);
    return all_end(pids, n, limit);
}

static void judge(struct contest *c, int n)
{
    if (n == 0)
        contend_in_threads(c);
    else
        CHECK(processes(c, n, 20 * SECOND));
    CHECK(excluded(c));
    if (c->until == 0 && c->patience == SX_NEVER && sx_now() < c->enough)
        CHECK(*c->entries == (uint64_t)c->each * (uint64_t)c->threads * (uint64_t)(n == 0 ? 1 : n));
    CHECK(sx_is_free(c->mutex->word));
}

TEST(threads_exclude_each_other, 0, 30)
{
    struct sx_arena *a = arena_new();
    struct sx_mutex *places[] = {named(a, "m", NULL), anonymous(a), in_user_memory(a)};
    for (int i = 0; i < 3; i++) {
        struct contest c = contest(a, places[i], 4, rounds(20000));
        judge(&c, 0);
    }
}

TEST(processes_exclude_each_other, FORKS, 30)
{
    struct sx_arena *a = arena_new();
    struct sx_mutex *places[] = {named(a, "m", NULL), anonymous(a), in_user_memory(a)};
    for (int i = 0; i < 3; i++) {
        struct contest c = contest(a, places[i], 1, rounds(30000));
        judge(&c, 4);
    }
}

TEST(threads_of_several_processes, FORKS, 30)
{
    struct sx_arena *a = arena_new();
    struct contest c = contest(a, named(a, "m", NULL), 3, rounds(10000));
    judge(&c, 3);
}

/* Processes that have nothing in common but the path. */
static void a_stranger(void *argument)
{
    struct contest *c = argument;
    c->arena = arena_new();
    c->mutex = named(c->arena, "m", NULL);
    contend_in_threads(c);
}

TEST(strangers_meet_by_name, FORKS, 30)
{
    struct contest c = contest(NULL, NULL, 1, rounds(20000));
    pid_t pids[3];
    for (int i = 0; i < 3; i++)
        pids[i] = spawn(a_stranger, &c);
    CHECK(all_end(pids, 3, 20 * SECOND));
    CHECK(excluded(&c));
    CHECK(*c.entries == 3 * (uint64_t)c.each || sx_now() >= c.enough);
}

/* Without the belt a wake-up that somebody swallowed is a hang. */
TEST(no_wake_is_lost_without_the_belt, 0, 40)
{
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    struct contest c = contest(a, named(a, "m", NULL), 5, rounds(20000));
    c.yields = 20;
    c.stay = 5;
    judge(&c, 0);
}

TEST(no_wake_is_lost_between_processes_without_the_belt, FORKS, 40)
{
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    struct contest c = contest(a, named(a, "m", NULL), 1, rounds(30000));
    c.yields = 20;
    c.stay = 4;
    judge(&c, 4);
}

/* Those who give up may have consumed a wake that was meant for others. */
TEST(leavers_pass_their_wake_on, 0, 40)
{
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    struct contest c = contest(a, named(a, "m", NULL), 6, rounds(8000));
    c.yields = 20;
    c.patience = 50000;
    c.stay = 6;
    judge(&c, 0);
}

/* Nobody dies, so the belt must not have rescued anybody: with short sections, and with sections so long that
 * waits outlast the belt again and again. */
TEST(the_belt_rescues_nobody_while_all_live, FORKS | HEAVY, 40)
{
    struct sx_arena *a = arena_new();
    struct sx_mutex *m = named(a, "m", NULL), *long_one = named(a, "long", NULL);
    struct contest c = contest(a, m, 1, 0), d = contest(a, long_one, 2, 0);
    c.until = in(slow_machine ? SECOND : 2 * SECOND);
    judge(&c, 4);
    d.until = in(slow_machine ? SECOND : 3 * SECOND);
    d.hold = 25 * MS;
    judge(&d, 4);
    CHECK(m->statistics.rescues == 0);
    CHECK(long_one->statistics.rescues == 0);
    CHECK(a->header->rescues == 0);
    CHECK(a->header->lock.statistics.rescues == 0);
    if (m->wakes.in_flight != 0 || long_one->wakes.in_flight != 0)
        FAIL("wakes in flight for ever: %d, %d", (int)m->wakes.in_flight, (int)long_one->wakes.in_flight);
}

/* ---- one thread alone ------------------------------------------------------------------------------------ */
static void *try_it(void *argument)
{
    struct contest *c = argument;
    STATUS(sx_mutex_lock(c->arena, c->mutex, 0), SX_BUSY);
    int64_t start = sx_now();
    STATUS(sx_mutex_lock(c->arena, c->mutex, in(30 * MS)), SX_TIMEOUT);
    CHECK(sx_now() - start >= 30 * MS);
    IN_TIME(sx_now() - start, 130 * MS);
    start = sx_now();
    STATUS(sx_mutex_lock(c->arena, c->mutex, in(250 * MS)), SX_TIMEOUT); /* outlasts the belt */
    CHECK(sx_now() - start >= 250 * MS);
    STATUS(sx_mutex_lock(c->arena, c->mutex, in(-SECOND)), SX_TIMEOUT);
    STATUS(sx_mutex_unlock(c->arena, c->mutex, false), SX_NOT_OWNER);
    return NULL;
}

TEST(timeouts_and_strangers, 0, 20)
{
    struct sx_arena *a = arena_new();
    struct contest c = contest(a, named(a, "m", NULL), 1, 1);
    STATUS(sx_mutex_unlock(a, c.mutex, false), SX_NOT_OWNER);
    STATUS(sx_mutex_lock(a, c.mutex, SX_NEVER), SX_OK);
    STATUS(sx_mutex_lock(a, c.mutex, SX_NEVER), SX_DEADLOCK);
    STATUS(sx_mutex_lock(a, c.mutex, 0), SX_BUSY);
    STATUS(sx_mutex_lock(a, c.mutex, in(20 * MS)), SX_TIMEOUT);
    joined(thread(try_it, &c));
    STATUS(sx_mutex_unlock(a, c.mutex, false), SX_OK);
    STATUS(sx_mutex_unlock(a, c.mutex, false), SX_NOT_OWNER);
    CHECK(usable(a, c.mutex));
    CHECK(c.mutex->statistics.rescues == 0);
}

TEST(a_reentrant_lock_counts, 0, 20)
{
    struct sx_arena *a = arena_new();
    struct sx_mutex *m = named(a, "m", NULL);
    uint64_t me = my_id(a);
    CHECK(!sx_rlock_again(m, me));
    STATUS(sx_mutex_lock(a, m, SX_NEVER), SX_OK);
    for (int i = 0; i < 1000; i++)
        CHECK(sx_rlock_again(m, me));
    for (int i = 0; i < 1000; i++)
        CHECK(sx_rlock_back(m, me));
    CHECK(!sx_rlock_back(m, me));
    STATUS(sx_mutex_unlock(a, m, false), SX_OK);
    m->word = my_id(a);
    m->depth = UINT32_MAX;
    CHECK(!sx_rlock_again(m, me)); /* rather refused than begun again from 0 */
}

/* In a child forked inside the section the parent's hold is not the child's. */
static void not_mine(void *argument)
{
    struct contest *c = argument;
    STATUS(sx_mutex_unlock(c->arena, c->mutex, false), SX_NOT_OWNER);
    STATUS(sx_mutex_lock(c->arena, c->mutex, in(50 * MS)), SX_TIMEOUT);
}

TEST(a_forked_child_holds_nothing, FORKS, 20)
{
    struct sx_arena *a = arena_new();
    struct contest c = contest(a, anonymous(a), 1, 1);
    STATUS(sx_mutex_lock(a, c.mutex, SX_NEVER), SX_OK);
    ended_well(spawn(not_mine, &c));
    STATUS(sx_mutex_unlock(a, c.mutex, false), SX_OK);
}

/* ---- the broken twins: the oracle and the watchdog must see them ------------------------------------------- */
static enum sx_status excludes_nobody(struct sx_arena *a, struct sx_mutex *m, int64_t deadline)
{
    (void)deadline;
    atomic_store(&m->word, my_id(a));
    return SX_OK;
}
static enum sx_status gives_anything(struct sx_arena *a, struct sx_mutex *m, bool keep)
{
    (void)a, (void)keep;
    atomic_store(&m->word, 0);
    return SX_OK;
}
static enum sx_status forgets_to_wake(struct sx_arena *a, struct sx_mutex *m, bool keep)
{
    (void)a, (void)keep;
    atomic_store_explicit(sx_low_half(&m->word), 0, memory_order_release);
    return SX_OK;
}
static enum sx_status leaves_without_a_word(struct sx_arena *a, struct sx_mutex *m, int64_t deadline)
{
    if (deadline == SX_NEVER)
        return sx_mutex_lock(a, m, deadline);
    uint64_t w = atomic_load(&m->word); /* sleeps like a waiter, eats a wake, and goes */
    if (sx_mutex_take(m, my_id(a)))
        return SX_OK;
    if (w & MUTEX_WAITERS)
        sx_futex_wait(sx_low_half(&m->word), (uint32_t)w, NULL, 0, deadline);
    return SX_TIMEOUT;
}

TEST(twin_that_excludes_nobody_is_seen, FORKS | HEAVY | NATIVE, 30)
{
    static const struct lock twin = {excludes_nobody, gives_anything};
    struct sx_arena *a = arena_new();
    struct contest c = contest(a, named(a, "m", NULL), 2, rounds(20000));
    c.lock = &twin;
    CHECK(processes(&c, 2, 20 * SECOND));
    CHECK(c.section->overlaps != 0);
    CHECK(c.section->counter != *c.entries);
}

TEST(twin_that_forgets_to_wake_is_seen, FORKS | HEAVY | NATIVE, 30)
{
    static const struct lock twin = {real_lock, forgets_to_wake};
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    struct contest c = contest(a, named(a, "m", NULL), 1, rounds(20000));
    c.lock = &twin;
    c.yields = 20;
    c.stay = 4;
    CHECK(!processes(&c, 4, 2 * SECOND));
    /* with the belt on the same twin gets through, and the belt's work is counted */
    sx_belt_off = false;
    struct contest d = contest(a, named(a, "n", NULL), 1, 300);
    d.lock = &twin;
    d.yields = 20;
    d.hold = 100000;
    d.stay = 3;
    CHECK(processes(&d, 3, 20 * SECOND));
    CHECK(excluded(&d));
    CHECK(d.mutex->statistics.rescues != 0);
}

TEST(twin_that_keeps_a_wake_is_seen, FORKS | HEAVY | NATIVE, 30)
{
    static const struct lock twin = {leaves_without_a_word, real_unlock};
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    struct contest c = contest(a, named(a, "m", NULL), 1, 200000);
    c.lock = &twin;
    c.yields = 20;
    c.patience = 50000;
    c.stay = 6;
    CHECK(!processes(&c, 6, 3 * SECOND));
}
