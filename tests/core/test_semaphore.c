/* test_semaphore.c: units are neither lost nor made, nobody sleeps while there is enough for it, and deaths change nothing.
 *
 * The oracle of conservation knows how many units are out, beside the word: never more than there are, and in the end
 * all are back.  Where no wake may be lost the belt is off, so that a lost one is a hang.  The same oracles must condemn
 * the broken twins at the end of the file.
 */
#include "check.h"

struct twin {
    enum sx_status (*acquire)(struct sx_arena *, struct sx_semaphore *, uint32_t, int64_t);
    enum sx_status (*release)(struct sx_semaphore *, uint32_t);
};
/* as the binding does: the fast path first */
static enum sx_status real_acquire(struct sx_arena *a, struct sx_semaphore *s, uint32_t n, int64_t deadline)
{
    return sx_semaphore_take(s, n) ? SX_OK : sx_semaphore_acquire(a, s, n, deadline);
}
static enum sx_status real_release(struct sx_semaphore *s, uint32_t n)
{
    return sx_semaphore_give(s, n) ? SX_OK : sx_semaphore_release(s, n);
}
static const struct twin real = {real_acquire, real_release};

static struct sx_semaphore *semaphore(struct sx_arena *arena, const char *name, uint32_t value)
{
    struct sx_object object;
    struct sx_request request = {.kind = SX_KIND_SEMAPHORE, .parameter = value, .create = SX_CREATE};
    STATUS(sx_object_open(arena, name, (uint32_t)strlen(name), &request, &object), SX_OK);
    return (struct sx_semaphore *)object.cell;
}

static struct sx_semaphore *in_memory(struct sx_arena *arena, uint32_t value)
{
    struct sx_object object;
    struct sx_request request = {.kind = SX_KIND_SEMAPHORE, .parameter = value, .create = SX_CREATE};
    void *memory = shared(sizeof(struct sx_semaphore));
    STATUS(sx_object_at(arena, memory, sizeof(struct sx_semaphore), &request, &object), SX_OK);
    return memory;
}

static uint32_t count(struct sx_semaphore *s)
{
    return sx_semaphore_count(atomic_load(&s->word));
}

/* ---- one thread alone ------------------------------------------------------------------------------------ */
TEST(a_semaphore_alone, 0, 20)
{
    struct sx_arena *a = arena_new();
    struct sx_semaphore *places[] = {semaphore(a, "s", 3), in_memory(a, 3)};
    for (int i = 0; i < 2; i++) {
        struct sx_semaphore *s = places[i];
        STATUS(sx_semaphore_acquire(a, s, 2, SX_NEVER), SX_OK);
        STATUS(sx_semaphore_acquire(a, s, 2, 0), SX_BUSY);
        CHECK(!sx_semaphore_take(s, 2) && sx_semaphore_take(s, 1) && !sx_semaphore_take(s, 1));
        for (uint32_t n = 1; n <= 2; n++) {
            int64_t start = sx_now();
            STATUS(sx_semaphore_acquire(a, s, n, in(20 * MS)), SX_TIMEOUT);
            CHECK(sx_now() - start >= 20 * MS);
            STATUS(sx_semaphore_acquire(a, s, n, in(250 * MS)), SX_TIMEOUT); /* outlasts the belt */
            CHECK(sx_now() - start >= 270 * MS);
            STATUS(sx_semaphore_acquire(a, s, n, in(-SECOND)), SX_TIMEOUT);
        }
        CHECK(count(s) == 0 && (uint32_t)s->word == 0); /* nobody wants several any more */
        STATUS(sx_semaphore_release(s, 5), SX_OK);
        CHECK(s->word == UINT64_C(5) << 32); /* and after that nobody sleeps */
        CHECK(s->statistics.rescues == 0 && s->wakes.in_flight == 0);
    }
}

TEST(the_most_units, 0, 20)
{
    struct sx_arena *a = arena_new();
    struct sx_semaphore *s = semaphore(a, "s", SX_MAX_UNITS - 1);
    for (int waiters = 0; waiters < 2; waiters++) {
        CHECK(waiters || sx_semaphore_give(s, 1));
        if (waiters)
            STATUS(sx_semaphore_release(s, 1), SX_OK);
        CHECK(count(s) == SX_MAX_UNITS && !sx_semaphore_give(s, 1) && !sx_semaphore_give(s, SX_MAX_UNITS));
        STATUS(sx_semaphore_release(s, 1), SX_TOO_MANY);
        STATUS(sx_semaphore_release(s, SX_MAX_UNITS), SX_TOO_MANY);
        STATUS(sx_semaphore_acquire(a, s, SX_MAX_UNITS, 0), SX_OK);
        STATUS(sx_semaphore_release(s, SX_MAX_UNITS), SX_OK);
        CHECK(sx_semaphore_take(s, 1));
        s->word |= (uint64_t)SEMAPHORE_WAITERS << 32; /* as a dead waiter leaves it */
    }
}

TEST(units_of_an_unlinked_semaphore, 0, 20)
{
    struct sx_arena *a = arena_new();
    struct sx_semaphore *s = semaphore(a, "s", 1);
    STATUS(sx_object_unlink(a, "s", 1, true), SX_OK);
    CHECK(!sx_semaphore_take(s, 1) && !sx_semaphore_give(s, 1));
    STATUS(sx_semaphore_acquire(a, s, 1, SX_NEVER), SX_RETIRED);
    STATUS(sx_semaphore_acquire(a, s, 9, SX_NEVER), SX_RETIRED);
    STATUS(sx_semaphore_release(s, 1), SX_RETIRED);
}

/* ---- conservation ------------------------------------------------------------------------------------------ */
struct trade {
    struct sx_arena *arena;
    struct sx_semaphore *semaphore;
    const struct twin *twin;
    uint32_t value, most; /* units at first, and the most that one takes */
    int each, threads;
    int64_t patience;   /* of every other attempt; SX_NEVER: all wait for ever */
    sx_a32 out, excess; /* units that are out, and how often there were more than there can be */
    int all;
    sx_a32 through, gate;
};

static void *trader(void *argument)
{
    struct trade *t = argument;
    uint64_t random = my_id(t->arena); /* each its own */
    for (int i = 0; i < t->each; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        uint32_t n = 1 + (uint32_t)(random >> 40) % t->most;
        bool patient = t->patience == SX_NEVER || i % 2 == 0;
        enum sx_status s = t->twin->acquire(t->arena, t->semaphore, n, patient ? SX_NEVER : in(t->patience));
        if (s == SX_TIMEOUT && !patient)
            continue;
        STATUS(s, SX_OK);
        if (atomic_fetch_add_explicit(&t->out, n, memory_order_relaxed) + n > t->value)
            atomic_fetch_add_explicit(&t->excess, 1, memory_order_relaxed);
        if (i % 8 == 0)
            for (int y = 0; y < 10; y++)
                sched_yield();
        atomic_fetch_sub_explicit(&t->out, n, memory_order_relaxed);
        /* by the handful or singly */
        for (uint32_t left = n; left > 0; left -= i % 3 == 0 ? 1 : left)
            STATUS(t->twin->release(t->semaphore, i % 3 == 0 ? 1 : left), SX_OK);
    }
    if (atomic_fetch_add(&t->through, 1) + 1 == (uint32_t)t->all)
        gate_open(&t->gate);
    gate_pass(&t->gate); /* an end might wake somebody */
    return NULL;
}

static void trades_in_threads(void *argument)
{
    struct trade *t = argument;
    pthread_t threads[16];
    for (int i = 0; i < t->threads; i++)
        threads[i] = thread(trader, t);
    for (int i = 0; i < t->threads; i++)
        joined(threads[i]);
}

static struct trade *trade(uint32_t value, uint32_t most, int each)
{
    static int number;
    char name[32];
    struct trade *t = shared(sizeof *t);
    snprintf(name, sizeof name, "traded %d", number++);
    t->arena = arena_new();
    t->semaphore = semaphore(t->arena, name, value);
    t->twin = &real;
    t->value = value;
    t->most = most;
    t->each = each;
    t->threads = 1;
    t->patience = SX_NEVER;
    return t;
}

static bool conserved(struct trade *t)
{
    return t->excess == 0 && t->out == 0 && count(t->semaphore) == t->value;
}

/* n processes; 0: threads of this one.  False: late. */
static bool trade_all(struct trade *t, int n, int64_t limit)
{
    pid_t pids[16];
    t->all = t->threads * (n == 0 ? 1 : n);
    if (n == 0) {
        trades_in_threads(t);
        return true;
    }
    for (int i = 0; i < n; i++)
        pids[i] = spawn(trades_in_threads, t);
    return all_end(pids, n, limit);
}

static void judge(struct trade *t, int n)
{
    CHECK(trade_all(t, n, 60 * SECOND));
    if (!conserved(t))
        FAIL("%u units of %u are there, %u out, %u times too many", count(t->semaphore), t->value, t->out, t->excess);
    CHECK(t->semaphore->statistics.rescues == 0 && t->arena->header->rescues == 0);
    CHECK(t->semaphore->wakes.in_flight == 0);
    CHECK((uint32_t)t->semaphore->word == 0);
}

TEST(threads_conserve_units, 0, 90)
{
    sx_belt_off = true;
    struct trade *t = trade(2, 1, rounds(10000));
    t->threads = 5;
    judge(t, 0);
}

TEST(threads_that_want_several_conserve_units, 0, 90)
{
    sx_belt_off = true;
    struct trade *t = trade(4, 4, rounds(5000));
    t->threads = 5;
    judge(t, 0);
}

TEST(processes_conserve_units, FORKS, 90)
{
    sx_belt_off = true;
    struct trade *t = trade(1, 1, rounds(10000));
    judge(t, 4);
}

TEST(processes_that_want_several_conserve_units, FORKS, 90)
{
    sx_belt_off = true;
    struct trade *t = trade(5, 5, rounds(4000));
    t->threads = 2;
    judge(t, 3);
}

/* Those who give up may have been woken, and may have been counted among those who want several. */
TEST(who_leaves_a_semaphore_swallows_nothing, FORKS, 90)
{
    sx_belt_off = true;
    for (uint32_t most = 1; most <= 3; most += 2) {
        struct trade *t = trade(most, most, rounds(5000));
        t->threads = 2;
        t->patience = 50000;
        judge(t, 3);
    }
}

TEST(the_belt_rescues_no_waiter_for_units_while_all_live, FORKS | HEAVY, 90)
{
    struct trade *t = trade(3, 3, rounds(6000));
    t->threads = 2;
    t->patience = 200000;
    judge(t, 3);
}

/* ---- a signal from one to another --------------------------------------------------------------------------- */
struct table {
    struct sx_arena *arena;
    struct sx_semaphore *there, *back;
    volatile uint64_t ball; /* plain: the semaphores must order it */
    int each;
};

static void returns(void *argument)
{
    struct table *t = argument;
    for (int i = 0; i < t->each; i++) {
        STATUS(real_acquire(t->arena, t->there, 1, SX_NEVER), SX_OK);
        t->ball++;
        STATUS(real_release(t->back, 1), SX_OK);
    }
}

static void *returns_in_a_thread(void *argument)
{
    returns(argument);
    return NULL;
}

static void serves(struct table *t)
{
    for (int i = 0; i < t->each; i++) {
        t->ball++;
        STATUS(real_release(t->there, 1), SX_OK);
        STATUS(real_acquire(t->arena, t->back, 1, SX_NEVER), SX_OK);
        CHECK(t->ball == 2 * (uint64_t)(i + 1));
    }
}

static struct table *table(int each)
{
    struct table *t = shared(sizeof *t);
    t->arena = arena_new();
    t->there = semaphore(t->arena, "there", 0);
    t->back = semaphore(t->arena, "back", 0);
    t->each = each;
    return t;
}

TEST(a_unit_brings_what_was_written_before, 0, 60)
{
    sx_belt_off = true;
    struct table *t = table(rounds(20000));
    pthread_t other = thread(returns_in_a_thread, t);
    serves(t);
    joined(other);
    CHECK(count(t->there) == 0 && count(t->back) == 0);
}

TEST(ping_pong_between_processes, FORKS, 60)
{
    sx_belt_off = true;
    struct table *t = table(rounds(20000));
    pid_t pid = spawn(returns, t);
    serves(t);
    ended_well(pid);
    CHECK(t->there->statistics.rescues == 0 && t->back->statistics.rescues == 0);
}

/* ---- waking the right ones --------------------------------------------------------------------------------- */
struct crowd {
    struct sx_arena *arena;
    struct sx_semaphore *semaphore;
    uint32_t n;
    sx_a32 got;
    enum sx_status want;
};

static void *one_of_the_crowd(void *argument)
{
    struct crowd *c = argument;
    STATUS(sx_semaphore_acquire(c->arena, c->semaphore, c->n, SX_NEVER), c->want);
    atomic_fetch_add(&c->got, c->n);
    return NULL;
}

/* One who wants three sleeps first, with a unit there, and one who wants one behind it. */
TEST(one_who_cannot_use_a_wake_passes_it_on, 0, 30)
{
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    for (int i = 0; i < 50; i++) {
        struct sx_semaphore *s = in_memory(a, (uint32_t)i % 3);
        struct crowd several = {a, s, 3, 0, SX_OK}, one = {a, s, 1, 0, SX_OK};
        pthread_t first = thread(one_of_the_crowd, &several);
        UNTIL(sleepers(a, s) == 1);
        if (count(s) > 0)
            STATUS(sx_semaphore_acquire(a, s, count(s), 0), SX_OK);
        pthread_t second = thread(one_of_the_crowd, &one);
        UNTIL(sleepers(a, s) == 2);
        STATUS(sx_semaphore_release(s, 1), SX_OK);
        joined(second);
        CHECK(several.got == 0 && count(s) == 0);
        STATUS(sx_semaphore_release(s, 2), SX_OK);
        CHECK(several.got == 0);
        STATUS(sx_semaphore_release(s, 1), SX_OK);
        joined(first);
        CHECK(s->wakes.in_flight == 0 && count(s) == 0);
    }
}

/* Above the operand of FUTEX_WAKE_OP, and above the count up to which it is used. */
TEST(units_by_the_thousand, 0, 30)
{
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    static const uint32_t handfuls[] = {1, 2047, 2048, 5000, UINT32_C(1) << 30, SX_MAX_UNITS};
    for (size_t i = 0; i < sizeof handfuls / sizeof *handfuls; i++) {
        struct sx_semaphore *s = in_memory(a, 0);
        struct crowd c = {a, s, handfuls[i], 0, SX_OK};
        pthread_t t = thread(one_of_the_crowd, &c);
        UNTIL(sleepers(a, s) == 1);
        if (handfuls[i] > 1) {
            STATUS(sx_semaphore_release(s, handfuls[i] / 2), SX_OK);
            UNTIL(sleepers(a, s) == 1);
            CHECK(count(s) == handfuls[i] / 2);
        }
        STATUS(sx_semaphore_release(s, handfuls[i] - handfuls[i] / 2), SX_OK);
        joined(t);
        CHECK(count(s) == 0 && s->wakes.in_flight == 0);
    }
}

TEST(unlinking_tells_who_sleeps_for_units, 0, 30)
{
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    for (int i = 0; i < 20; i++) {
        struct sx_semaphore *s = semaphore(a, "s", 0);
        struct crowd one = {a, s, 1, 0, SX_RETIRED}, several = {a, s, 3, 0, SX_RETIRED};
        pthread_t threads[4];
        for (int j = 0; j < 4; j++)
            threads[j] = thread(one_of_the_crowd, j % 2 ? &one : &several);
        if (i % 2 == 0)
            UNTIL(sleepers(a, s) == 4);
        STATUS(sx_object_unlink(a, "s", 1, true), SX_OK);
        for (int j = 0; j < 4; j++)
            joined(threads[j]);
    }
}

/* ---- death ---------------------------------------------------------------------------------------------------- */
enum { VICTIMS = 3 };
struct massacre {
    struct sx_arena *arena;
    struct sx_semaphore *semaphore;
    const struct twin *twin;
    uint32_t n; /* how many a victim wants */
    sx_a32 got[VICTIMS];
    sx_a64 taken; /* by the survivor */
    sx_a32 stop;
};

struct place {
    struct massacre *m;
    int i;
};

static void victim(void *argument)
{
    struct place *p = argument;
    struct massacre *m = p->m;
    STATUS(m->twin->acquire(m->arena, m->semaphore, m->n, SX_NEVER), SX_OK);
    atomic_store(&m->got[p->i], m->n);
    pause();
}

static void survivor(void *argument)
{
    struct massacre *m = argument;
    while (!atomic_load(&m->stop)) {
        enum sx_status s = m->twin->acquire(m->arena, m->semaphore, 1, in(SECOND));
        if (s == SX_TIMEOUT)
            continue;
        STATUS(s, SX_OK);
        atomic_fetch_add(&m->taken, 1);
    }
}

/* Victims are killed at random moments around being woken.  What was released was taken by one who says so, or is there,
 * or was taken by a victim that had no time to say so: never more, and never less, and what is missing is as many times n
 * as such victims.  And the survivor gets what is there in bounded time.  True: all that holds. */
static bool survived(struct massacre *m, int times)
{
    pid_t pids[VICTIMS], heir = spawn(survivor, m);
    uint64_t released = 0, known = 0, silent = 0;
    bool right = true;
    for (int r = 0; r < times && right; r++) {
        struct place places[VICTIMS];
        for (int i = 0; i < VICTIMS; i++) {
            m->got[i] = 0;
            places[i] = (struct place){m, i};
            pids[i] = spawn(victim, &places[i]);
        }
        if (r % 4 != 0)
            UNTIL(sleepers(m->arena, m->semaphore) >= 2);
        uint32_t units = 1 + (uint32_t)(random64() >> 33) % (2 * VICTIMS * m->n);
        int order = (int)(random64() >> 40) % 3;
        for (int i = 0; i < VICTIMS; i++) {
            if (order == i) {
                STATUS(m->twin->release(m->semaphore, units), SX_OK);
                released += units;
                int64_t until = in((int64_t)(random64() >> 33) % 60000);
                while (sx_now() < until)
                    ;
            }
            killed(pids[i]);
        }
        for (int i = 0; i < VICTIMS; i++) {
            known += m->got[i];
            silent += m->got[i] == 0 ? m->n : 0;
        }
        /* the dead take no more: the survivor takes all that is left */
        int64_t limit = in(10 * SECOND);
        while (count(m->semaphore) != 0 && sx_now() < limit)
            usleep(200);
        right = count(m->semaphore) == 0;
    }
    /* to the end of its last take: one that it has is one that it counts */
    atomic_store(&m->stop, 1);
    ended_well(heir);
    uint64_t there = count(m->semaphore), accounted = m->taken + known + there;
    return right && accounted <= released && released - accounted <= silent && (released - accounted) % m->n == 0;
}

static struct massacre *massacre(uint32_t n)
{
    struct massacre *m = shared(sizeof *m);
    m->arena = arena_new();
    m->semaphore = semaphore(m->arena, n == 1 ? "one" : "several", 0);
    m->twin = &real;
    m->n = n;
    return m;
}

TEST(a_woken_waiter_is_killed, FORKS | NATIVE, 90)
{
    CHECK(survived(massacre(1), rounds(60)));
    CHECK(survived(massacre(5), rounds(60)));
}

/* Where nobody dies between a change and its wake, the death of those who only sleep needs no belt. */
TEST(a_sleeper_is_killed, FORKS | NATIVE, 60)
{
    sx_belt_off = true;
    struct massacre *m = massacre(1);
    struct place places[VICTIMS];
    pid_t pids[VICTIMS];
    for (int i = 0; i < VICTIMS; i++) {
        places[i] = (struct place){m, i};
        pids[i] = spawn(victim, &places[i]);
        UNTIL(sleepers(m->arena, m->semaphore) == i + 1);
    }
    killed(pids[0]);
    killed(pids[1]);
    STATUS(sx_semaphore_release(m->semaphore, 1), SX_OK);
    UNTIL(atomic_load(&m->got[2]) == 1);
    killed(pids[2]);
    STATUS(sx_semaphore_release(m->semaphore, 2), SX_OK);
    CHECK(m->semaphore->word == UINT64_C(2) << 32); /* no WAITERS for ever */
}

/* A wake that died with a waiter, made by hand: the belt finds it, and says so. */
TEST(the_belt_delivers_a_unit, FORKS | NATIVE, 60)
{
    struct massacre *m = massacre(1);
    struct place places[2] = {{m, 0}, {m, 1}};
    pid_t first = spawn(victim, &places[0]);
    UNTIL(sleepers(m->arena, m->semaphore) == 1);
    pid_t second = spawn(victim, &places[1]);
    UNTIL(sleepers(m->arena, m->semaphore) == 2);
    killed(first);
    atomic_fetch_add(&m->semaphore->word, UINT64_C(1) << 32); /* the change, without its wake */
    UNTIL(atomic_load(&m->got[1]) == 1);
    CHECK(m->semaphore->statistics.rescues == 1 && m->arena->header->rescues == 1);
    killed(second);
}

/* ---- the broken twins ------------------------------------------------------------------------------------------- */
static enum sx_status leaks(struct sx_semaphore *s, uint32_t n)
{
    static _Thread_local int times;
    if (++times % 500 == 0 && n > 0)
        n--;
    return n == 0 ? SX_OK : real_release(s, n);
}
static enum sx_status doubles(struct sx_semaphore *s, uint32_t n)
{
    static _Thread_local int times;
    return real_release(s, ++times % 500 == 0 ? 2 * n : n);
}
static enum sx_status tears(struct sx_semaphore *s, uint32_t n)
{
    uint64_t w = atomic_load(&s->word); /* two steps, and what happens between them is forgotten */
    sched_yield();
    atomic_store(sx_high_half(&s->word), (uint32_t)(w >> 32) + n);
    sx_futex_wake(sx_high_half(&s->word), INT_MAX);
    return SX_OK;
}
static enum sx_status forgets_to_wake(struct sx_semaphore *s, uint32_t n)
{
    atomic_fetch_add(&s->word, (uint64_t)n << 32);
    return SX_OK;
}
static enum sx_status wakes_one(struct sx_semaphore *s, uint32_t n) /* whoever wants how many */
{
    atomic_fetch_add(&s->word, (uint64_t)n << 32);
    sx_futex_wake(sx_high_half(&s->word), 1);
    return SX_OK;
}
static enum sx_status forgets_the_others(struct sx_arena *a, struct sx_semaphore *s, uint32_t n, int64_t deadline)
{
    uint64_t waiters = (uint64_t)SEMAPHORE_WAITERS << 32, w = atomic_load(&s->word);
    (void)a;
    for (;;) { /* as if nobody else slept */
        if (sx_semaphore_count(w) >= n) {
            if (atomic_compare_exchange_weak(&s->word, &w, (w - ((uint64_t)n << 32)) & ~waiters))
                return SX_OK;
        } else if (w & waiters || atomic_compare_exchange_weak(&s->word, &w, w | waiters)) {
            sx_futex_wait(sx_high_half(&s->word), (uint32_t)((w | waiters) >> 32), NULL, 0, deadline);
            w = atomic_load(&s->word);
        }
    }
}
/* once in the life of a process */
static enum sx_status leaks_once(struct sx_semaphore *s, uint32_t n)
{
    static bool done;
    bool now = !done && n > 1;
    done = done || now;
    return real_release(s, now ? n - 1 : n);
}
static enum sx_status adds_once(struct sx_semaphore *s, uint32_t n)
{
    static bool done;
    bool now = !done;
    done = true;
    return real_release(s, now ? n + 1 : n);
}

static bool condemned(const struct twin *twin, uint32_t value, uint32_t most, int64_t patience)
{
    struct trade *t = trade(value, most, 20000);
    t->twin = twin;
    t->patience = patience;
    bool through = trade_all(t, 4, 3 * SECOND);
    return !through || !conserved(t);
}

TEST(twin_that_leaks_a_unit_is_seen, FORKS | HEAVY | NATIVE, 30)
{
    sx_belt_off = true;
    CHECK(condemned(&(struct twin){real_acquire, leaks}, 3, 1, SX_NEVER));
}

TEST(twin_that_doubles_a_unit_is_seen, FORKS | HEAVY | NATIVE, 30)
{
    CHECK(condemned(&(struct twin){real_acquire, doubles}, 3, 1, SX_NEVER));
}

TEST(twin_whose_release_tears_is_seen, FORKS | HEAVY | NATIVE, 30)
{
    CHECK(condemned(&(struct twin){real_acquire, tears}, 3, 1, SX_NEVER));
}

TEST(twin_that_wakes_no_waiter_for_units_is_seen, FORKS | HEAVY | NATIVE, 30)
{
    sx_belt_off = true;
    CHECK(condemned(&(struct twin){real_acquire, forgets_to_wake}, 1, 1, SX_NEVER));
}

struct want {
    struct sx_arena *arena;
    struct sx_semaphore *semaphore;
    uint32_t n;
};
static void wants(void *argument)
{
    struct want *w = argument;
    STATUS(sx_semaphore_acquire(w->arena, w->semaphore, w->n, SX_NEVER), SX_OK);
}

/* The first in line wants two, the second one; a unit comes.  Does the second get it? */
static bool who_can_is_woken(enum sx_status (*release)(struct sx_semaphore *, uint32_t))
{
    struct want *w[2];
    pid_t pids[2];
    for (int i = 0; i < 2; i++) {
        w[i] = shared(sizeof *w[i]);
        w[i]->arena = i == 0 ? arena_new() : w[0]->arena;
        w[i]->semaphore = i == 0 ? semaphore(w[0]->arena, "wanted", 0) : w[0]->semaphore;
        w[i]->n = i == 0 ? 2 : 1;
        pids[i] = spawn(wants, w[i]);
        UNTIL(sleepers(w[0]->arena, w[0]->semaphore) == i + 1);
    }
    release(w[0]->semaphore, 1);
    bool woken = all_end(&pids[1], 1, 2 * SECOND);
    killed(pids[0]);
    atomic_store(&w[0]->semaphore->word, 0);
    return woken;
}

TEST(twin_that_wakes_one_where_several_are_wanted_is_seen, FORKS | HEAVY | NATIVE, 60)
{
    sx_belt_off = true;
    CHECK(who_can_is_woken(real_release));
    bool seen = false; /* the second may have gone to sleep anew just then, and see the unit by itself */
    for (int i = 0; i < 3 && !seen; i++)
        seen = !who_can_is_woken(wakes_one);
    CHECK(seen);
}

TEST(twin_that_forgets_other_waiters_for_units_is_seen, FORKS | HEAVY | NATIVE, 30)
{
    sx_belt_off = true;
    CHECK(condemned(&(struct twin){forgets_the_others, real_release}, 1, 1, SX_NEVER));
}

TEST(twins_are_seen_where_waiters_are_killed, FORKS | NATIVE | HEAVY, 60)
{
    static const struct twin twins[] = {{real_acquire, leaks_once}, {real_acquire, adds_once}};
    for (int i = 0; i < 2; i++) {
        struct massacre *m = massacre(5);
        m->twin = &twins[i];
        CHECK(!survived(m, 10));
        atomic_store(&m->semaphore->word, 0);
    }
}
