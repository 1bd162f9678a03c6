/* test_permits.c: never more holders than permits, no permit lost, nobody asleep for ever, whoever is killed.
 *
 * The oracle is one shared word with a field for each worker, which tells how many permits that worker says it has, and
 * a bit for each that is about to be killed: each change returns what all of them had at that instant.  The broken
 * twins at the end must be condemned by the same oracle and the same watchdog.
 */
#include "check.h"

struct how {
    enum sx_status (*acquire)(struct sx_arena *, struct sx_permits *, uint32_t n, int64_t deadline);
    enum sx_status (*release)(struct sx_arena *, struct sx_permits *, uint32_t n);
};

static enum sx_status take(struct sx_arena *a, struct sx_permits *p, uint32_t n, int64_t deadline)
{
    static _Thread_local uint32_t hint;
    struct sx_death death;
    return sx_permits_acquire(a, p, n, 0, deadline, &hint, &death);
}
static enum sx_status give(struct sx_arena *a, struct sx_permits *p, uint32_t n)
{
    return sx_permits_release(a, p, n, 0);
}

/* As `with` does it: the fast paths first. */
static enum sx_status take_fast(struct sx_arena *a, struct sx_permits *p, uint32_t n, int64_t deadline)
{
    uint64_t me = my_id(a);
    return n == 1 && sx_permit_take(p, 0, a->self, me) ? SX_OK : take(a, p, n, deadline);
}
static enum sx_status give_fast(struct sx_arena *a, struct sx_permits *p, uint32_t n)
{
    return n == 1 && sx_permit_give(p, 0, a->self, my_id(a)) ? SX_OK : give(a, p, n);
}
static const struct how real = {take, give}, fast = {take_fast, give_fast};

static struct sx_permits *permits(struct sx_arena *arena, uint32_t n)
{
    struct sx_request request = {.kind = SX_KIND_PERMITS, .parameter = n, .create = SX_CREATE};
    struct sx_object object;
    STATUS(sx_object_anonymous(arena, &request, &object), SX_OK);
    return (struct sx_permits *)object.cell;
}

static bool all_there(struct sx_arena *a, struct sx_permits *p)
{
    uint32_t n = p->cell.parameter;
    return sx_permits_free(a, p, UINT32_MAX) == n && take(a, p, n, 0) == SX_OK && give(a, p, n) == SX_OK;
}

/* ---- the oracle ------------------------------------------------------------------------------------------- */
enum { WORKERS = 7 };
#define FIELD(worker, n) ((uint64_t)(n) << 8 * (worker))
#define DOOMED(worker) (UINT64_C(1) << (56 + (worker)))

struct contest {
    struct sx_arena *arena;
    struct sx_permits *permits;
    const struct how *how;
    sx_a64 *said;
    sx_a32 *overlaps, *entered, *ready, *gate;
    int worker, each, threads;
    uint32_t sizes;   /* n is from 1 to this */
    int64_t patience; /* of every other attempt; SX_NEVER: all wait for ever */
    int64_t hold;     /* ns asleep with the permits */
};

static uint32_t sum(uint64_t said)
{
    uint32_t n = 0;
    for (int i = 0; i < WORKERS; i++)
        n += said & DOOMED(i) ? 0 : (uint32_t)(said >> 8 * i & 0xff);
    return n;
}

static void *work(void *argument)
{
    struct contest *c = argument;
    for (int i = 0; i < c->each; i++) {
        bool patient = c->patience == SX_NEVER || i % 2 == 0;
        uint32_t n = ((uint32_t)(i + c->worker) * 2654435761u >> 16) % c->sizes + 1;
        enum sx_status s = c->how->acquire(c->arena, c->permits, n, patient ? SX_NEVER : in(c->patience));
        if (s == SX_TIMEOUT && !patient)
            continue;
        STATUS(s, SX_OK);
        uint64_t said = atomic_fetch_add(c->said, FIELD(c->worker, n)) + FIELD(c->worker, n);
        if (sum(said) > c->permits->cell.parameter)
            atomic_fetch_add(c->overlaps, 1);
        if (i % 8 == 0)
            for (int y = 0; y < 5; y++)
                sched_yield();
        if (c->hold != 0)
            usleep((useconds_t)(c->hold / 1000));
        atomic_fetch_sub(c->said, FIELD(c->worker, n));
        STATUS(c->how->release(c->arena, c->permits, n), SX_OK);
        atomic_fetch_add(c->entered, 1);
    }
    return NULL;
}

static void work_in_threads(void *argument)
{
    struct contest *c = argument;
    pthread_t threads[8];
    for (int i = 1; i < c->threads; i++)
        threads[i] = thread(work, c);
    work(c);
    for (int i = 1; i < c->threads; i++)
        joined(threads[i]);
    /* an end tells those who watch our life: nobody may need that */
    if (atomic_fetch_add(c->ready, 1) + 1 == WORKERS)
        gate_open(c->gate);
    gate_pass(c->gate);
}

static struct contest contest(struct sx_arena *arena, uint32_t capacity, uint32_t sizes, int each)
{
    uint32_t *shared_words = shared(64);
    return (struct contest){.arena = arena,
                            .permits = permits(arena, capacity),
                            .how = &fast,
                            .said = shared(64),
                            .overlaps = (sx_a32 *)shared_words,
                            .entered = (sx_a32 *)shared_words + 1,
                            .ready = (sx_a32 *)shared_words + 2,
                            .gate = (sx_a32 *)shared_words + 3,
                            .each = each,
                            .threads = 1,
                            .sizes = sizes,
                            .patience = SX_NEVER};
}

/* false: late */
static bool processes(struct contest *c, int64_t limit)
{
    pid_t pids[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        c->worker = i;
        pids[i] = spawn(work_in_threads, c);
    }
    return all_end(pids, WORKERS, limit);
}

static void judge(struct contest *c)
{
    CHECK(processes(c, 30 * SECOND));
    CHECK(*c->overlaps == 0);
    if (c->patience == SX_NEVER)
        CHECK(*c->entered == (uint32_t)(c->each * c->threads * WORKERS));
    CHECK(all_there(c->arena, c->permits));
    CHECK(c->permits->statistics.rescues == 0);
    if (c->permits->wakes.in_flight != 0)
        FAIL("wakes in flight for ever: %d", (int)c->permits->wakes.in_flight);
}

/* In one process, where the sanitizer sees all: what is written under the only permit needs no other lock. */
struct plain {
    struct contest *contest;
    uint64_t counter;
};

static void *count(void *argument)
{
    struct plain *plain = argument;
    struct contest *c = plain->contest;
    for (int i = 0; i < c->each; i++) {
        STATUS(c->how->acquire(c->arena, c->permits, 1, SX_NEVER), SX_OK);
        plain->counter++;
        STATUS(c->how->release(c->arena, c->permits, 1), SX_OK);
    }
    return NULL;
}

TEST(permits_order_what_is_written_under_them, 0, 60)
{
    static const struct how *const ways[] = {&real, &fast};
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    for (int way = 0; way < 2; way++) {
        struct contest c = contest(a, 1, 1, rounds(10000));
        struct plain plain = {&c};
        pthread_t threads[4];
        c.how = ways[way];
        for (int i = 0; i < 4; i++)
            threads[i] = thread(count, &plain);
        for (int i = 0; i < 4; i++)
            joined(threads[i]);
        CHECK(plain.counter == 4 * (uint64_t)c.each);
        CHECK(all_there(a, c.permits));
    }
}

TEST(permits_between_threads, 0, 60)
{
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    for (uint32_t sizes = 1; sizes <= 3; sizes++) {
        struct contest c = contest(a, 3, sizes, rounds(2000));
        pthread_t threads[5];
        for (int i = 0; i < 5; i++)
            threads[i] = thread(work, &c);
        for (int i = 0; i < 5; i++)
            joined(threads[i]);
        CHECK(*c.overlaps == 0);
        CHECK(*c.entered == 5 * (uint32_t)c.each);
        CHECK(all_there(a, c.permits));
        CHECK(c.permits->statistics.rescues == 0);
    }
}

/* Without the belt a wake-up that somebody swallowed is a hang. */
TEST(permits_bound_their_holders, FORKS | HEAVY, 60)
{
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    for (uint32_t capacity = 1; capacity <= 4; capacity++) {
        struct contest c = contest(a, capacity, 1, rounds(4000));
        judge(&c);
        struct contest d = contest(a, capacity, 1, rounds(1000));
        d.how = &real;
        d.threads = 3;
        judge(&d);
    }
}

TEST(permits_several_at_a_time, FORKS | HEAVY, 60)
{
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    for (uint32_t capacity = 2; capacity <= 5; capacity++) {
        struct contest c = contest(a, capacity, capacity, rounds(1500));
        judge(&c);
        struct contest d = contest(a, capacity, 2, rounds(600));
        d.threads = 2;
        judge(&d);
    }
}

/* Those who give up may have consumed a wake that was meant for others. */
TEST(permits_whose_waiters_give_up, FORKS | HEAVY, 60)
{
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    for (uint32_t sizes = 1; sizes <= 3; sizes += 2) {
        struct contest c = contest(a, 3, sizes, rounds(1500));
        c.threads = 2;
        c.patience = 50000;
        judge(&c);
    }
}

/* With the belt on and waits that outlast it, it must not have rescued anybody. */
TEST(permits_need_no_belt, FORKS | HEAVY, 60)
{
    struct sx_arena *a = arena_new();
    struct contest c = contest(a, 2, 1, 12), d = contest(a, 3, 3, 12);
    c.hold = d.hold = 30 * MS;
    c.threads = 2;
    judge(&c);
    judge(&d);
    CHECK(a->header->rescues == 0);
}

/* ---- death ------------------------------------------------------------------------------------------------- */
struct death {
    struct sx_arena *arena;
    struct sx_permits *permits;
    uint32_t n;
    sx_a32 ready, go, entered;
    sx_a64 last_ns;
};

static struct death *death_of(struct sx_arena *a, struct sx_permits *p, uint32_t n)
{
    struct death *d = shared(sizeof *d);
    d->arena = a;
    d->permits = p;
    d->n = n;
    return d;
}

static void holds_until_killed(void *argument)
{
    struct death *d = argument;
    STATUS(take(d->arena, d->permits, d->n, SX_NEVER), SX_OK);
    atomic_fetch_add(&d->ready, 1);
    pause();
}

static void *waits(void *argument)
{
    struct death *d = argument;
    STATUS(take(d->arena, d->permits, d->n, SX_NEVER), SX_OK);
    atomic_store(&d->last_ns, (uint64_t)sx_now());
    atomic_fetch_add(&d->entered, 1);
    gate_pass(&d->go);
    STATUS(give(d->arena, d->permits, d->n), SX_OK);
    return NULL;
}

/* All waiters are told though each of them watches all holders: the kernel wakes one for each life word. */
TEST(permits_of_a_killed_holder, FORKS | WAITV, 60)
{
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    for (uint32_t n = 1; n <= 3; n++) {
        struct sx_permits *p = permits(a, 6);
        struct death *holder = death_of(a, p, 6), *waiter = death_of(a, p, n);
        pthread_t threads[6];
        pid_t pid = spawn(holds_until_killed, holder);
        UNTIL(holder->ready == 1);
        for (uint32_t i = 0; i < 6 / n; i++)
            threads[i] = thread(waits, waiter);
        UNTIL(sleepers(a, p) == (int)(6 / n));
        int64_t start = sx_now();
        killed(pid);
        UNTIL(waiter->entered == 6 / n);
        IN_TIME((int64_t)waiter->last_ns - start, BOUND);
        gate_open(&waiter->go);
        for (uint32_t i = 0; i < 6 / n; i++)
            joined(threads[i]);
        CHECK(p->statistics.recoveries == 6);
        CHECK(p->statistics.dead_pid == (uint32_t)pid && p->statistics.dead_tid == (uint32_t)pid);
        CHECK(p->statistics.rescues == 0);
        CHECK(all_there(a, p));
    }
}

/* One waiter watches as many processes as futex_waitv can: each one's death in turn wakes it at once. */
TEST(permits_of_127_holders, FORKS | WAITV | HEAVY, 60)
{
    enum { HOLDERS = SX_MAX_WATCH };
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    struct sx_permits *p = permits(a, HOLDERS);
    struct death *holder = death_of(a, p, 1), *waiter = death_of(a, p, 1);
    pid_t pids[HOLDERS];
    my_id(a);
    for (int i = 0; i < HOLDERS; i++)
        pids[i] = spawn(holds_until_killed, holder);
    UNTIL(holder->ready == HOLDERS);
    for (int i = 0; i < HOLDERS; i += 14) {
        waiter->go = 0;
        pthread_t t = thread(waits, waiter);
        UNTIL(sleepers(a, p) == 1);
        int64_t start = sx_now();
        killed(pids[i]);
        UNTIL(waiter->entered == (uint32_t)i / 14 + 1);
        IN_TIME((int64_t)waiter->last_ns - start, BOUND);
        pids[i] = spawn(holds_until_killed, holder); /* none is left: it waits for ours */
        UNTIL(sleepers(a, p) == 1);
        gate_open(&waiter->go);
        joined(t);
        UNTIL(holder->ready == (uint32_t)(HOLDERS + i / 14 + 1));
    }
    for (int i = 0; i < HOLDERS; i++)
        killed(pids[i]);
    CHECK(p->statistics.rescues == 0);
    CHECK(all_there(a, p));
}

/* Beyond them it is the belt. */
TEST(permits_of_140_holders, FORKS | HEAVY, 60)
{
    enum { HOLDERS = SX_MAX_WATCH + 13 };
    struct sx_arena *a = arena_new();
    struct sx_permits *p = permits(a, HOLDERS);
    struct death *holder = death_of(a, p, 1), *waiter = death_of(a, p, 1);
    pid_t pids[HOLDERS];
    for (int i = 0; i < HOLDERS; i++)
        pids[i] = spawn(holds_until_killed, holder);
    UNTIL(holder->ready == HOLDERS);
    pthread_t t = thread(waits, waiter);
    UNTIL(sleepers(a, p) == 1);
    pid_t last = 0; /* the owner of the last permit is not watched: the scan began at the first */
    uint64_t thread_of_last = p->permit[HOLDERS - 1].thread;
    struct sx_participant *slot = sx_participant(a, thread_of_last);
    CHECK(slot != NULL);
    last = (pid_t)slot->pid;
    killed(last);
    UNTIL(waiter->entered == 1);
    gate_open(&waiter->go);
    joined(t);
    for (int i = 0; i < HOLDERS; i++)
        if (pids[i] != last)
            killed(pids[i]);
    CHECK(all_there(a, p));
}

static void *takes_and_ends(void *argument)
{
    struct death *d = argument;
    STATUS(take(d->arena, d->permits, d->n, SX_NEVER), SX_OK);
    return NULL;
}

TEST(permits_stay_when_a_thread_ends, 0, 20)
{
    struct sx_arena *a = arena_new();
    struct sx_permits *p = permits(a, 2);
    for (int i = 0; i < 2; i++)
        joined(thread(takes_and_ends, death_of(a, p, 1)));
    my_id(a);
    CHECK(sx_permits_held(a, p, 0) == 2);
    STATUS(take(a, p, 1, 0), SX_BUSY);
    STATUS(take(a, p, 1, in(150 * MS)), SX_TIMEOUT); /* beyond the belt */
    STATUS(give(a, p, 3), SX_NOT_HELD);
    STATUS(give(a, p, 2), SX_OK);
    STATUS(give(a, p, 1), SX_NOT_HELD);
    CHECK(all_there(a, p));
}

static void takes_and_leaves(void *argument)
{
    takes_and_ends(argument);
}

TEST(permits_come_back_when_a_process_leaves, FORKS, 20)
{
    struct sx_arena *a = arena_new();
    struct sx_permits *p = permits(a, 3);
    for (int i = 0; i < 5; i++) {
        ended_well(spawn(takes_and_leaves, death_of(a, p, 2)));
        CHECK(all_there(a, p));
    }
    CHECK(p->statistics.recoveries == 10);
}

static void holds_nothing(void *argument)
{
    struct death *d = argument;
    my_id(d->arena);
    CHECK(sx_permits_held(d->arena, d->permits, 0) == 0);
    STATUS(give(d->arena, d->permits, 1), SX_NOT_HELD);
    STATUS(take(d->arena, d->permits, 2, 0), SX_BUSY);
    STATUS(take(d->arena, d->permits, 1, 0), SX_OK);
}

TEST(permits_are_not_inherited, FORKS, 20)
{
    struct sx_arena *a = arena_new();
    struct sx_permits *p = permits(a, 3);
    STATUS(take(a, p, 2, 0), SX_OK);
    ended_well(spawn(holds_nothing, death_of(a, p, 0)));
    CHECK(sx_permits_held(a, p, 0) == 2);
    STATUS(give(a, p, 2), SX_OK);
    CHECK(all_there(a, p));
}

/* Killed at any moment: with one permit or several, asleep, or on the way; after each death the others go on. */
static void kill_at_random(uint32_t capacity, uint32_t sizes, int deaths)
{
    struct sx_arena *a = arena_new();
    struct contest c = contest(a, capacity, sizes, INT_MAX);
    pid_t pids[WORKERS];
    c.patience = MS;
    for (int i = 0; i < WORKERS; i++) {
        c.worker = i;
        pids[i] = spawn(work_in_threads, &c);
    }
    for (int i = 0; i < deaths; i++) {
        usleep((useconds_t)(random64() % 3000));
        c.worker = (int)(random64() % WORKERS);
        atomic_fetch_or(c.said, DOOMED(c.worker));
        killed(pids[c.worker]);
        uint32_t before = *c.entered;
        int64_t start = sx_now();
        while (*c.entered == before) {
            IN_TIME(sx_now() - start, BOUND);
            CHECK(sx_now() - start < 10 * SECOND);
            usleep(100);
        }
        atomic_fetch_and(c.said, ~(DOOMED(c.worker) | FIELD(c.worker, 0xff)));
        pids[c.worker] = spawn(work_in_threads, &c);
    }
    for (int i = 0; i < WORKERS; i++) {
        int status;
        CHECK(waitpid(pids[i], &status, WNOHANG) == 0); /* none has failed */
        atomic_fetch_or(c.said, DOOMED(i));
        killed(pids[i]);
    }
    CHECK(*c.overlaps == 0);
    CHECK(all_there(a, c.permits));
}

TEST(permits_with_workers_killed_at_random, FORKS, 60)
{
    kill_at_random(1, 1, rounds(150));
    kill_at_random(3, 1, rounds(150));
}

TEST(permits_with_collectors_killed_at_random, FORKS, 60)
{
    kill_at_random(3, 3, rounds(150));
    kill_at_random(5, 4, rounds(150));
}

/* ---- a set in the making -------------------------------------------------------------------------------------- */
struct making {
    struct sx_arena *arena;
    struct sx_permits *permits;
    sx_a32 made, end;
    enum sx_status result;
};

/* A collector that has taken the only permit for a moment, and gives it back when somebody waits for its decision. */
/* ---- a refusal ------------------------------------------------------------------------------------------------ */
struct look {
    struct sx_arena *arena;
    struct sx_permits *permits;
    uint32_t wants;
    enum sx_status status;
};

static void looks_for_a_permit(void *argument)
{
    struct look *l = argument;
    my_id(l->arena);
    to_be_stepped();
    l->status = take(l->arena, l->permits, l->wants, 0);
    stepped_through();
}

/* A try looks at one permit after the other.  Wherever it is in that (at every `stride`-th instruction), the first permit is freed and then the last one
 * is taken: as many as it wants are free at every instant, so it must not be refused. */
static bool refused_at_a_step(uint32_t wants, long stride)
{
    struct look *l = shared(sizeof *l);
    bool more = true;
    l->arena = arena_new();
    l->wants = wants;
    for (long n = 1; more; n += stride) {
        struct sx_death death;
        uint32_t first = 0, last = wants;
        l->permits = permits(l->arena, wants + 1);
        STATUS(sx_permits_acquire(l->arena, l->permits, 1, 0, 0, &first, &death), SX_OK);
        pid_t victim = spawn(looks_for_a_permit, l);
        more = walked(victim, n);
        STATUS(give(l->arena, l->permits, 1), SX_OK);
        STATUS(sx_permits_acquire(l->arena, l->permits, 1, 0, 0, &last, &death), SX_OK);
        if (more)
            walked_to_the_end(victim);
        killed(victim);
        if (l->status != SX_OK)
            return true;
        CHECK(n < 5000);
    }
    return false;
}

TEST(permits_no_try_is_refused_while_one_is_free, FORKS | NATIVE | HEAVY, 100)
{
    CHECK(!refused_at_a_step(1, 4));
}

TEST(permits_no_try_for_two_is_refused_while_two_are_free, FORKS | NATIVE | HEAVY, 100)
{
    CHECK(!refused_at_a_step(2, 11));
}

static void *collects_in_vain(void *argument)
{
    struct making *m = argument;
    STATUS(sx_mutex_lock(m->arena, &m->permits->several, SX_NEVER), SX_OK);
    my_id(m->arena);
    atomic_store(&m->permits->permit[0].word, m->arena->self | PERMIT_TENTATIVE);
    gate_open(&m->made);
    while (!(atomic_load(&m->permits->several.word) & MUTEX_WAITERS) && m->end == 0)
        sched_yield();
    atomic_store(&m->permits->permit[0].word, 0);
    STATUS(sx_mutex_unlock(m->arena, &m->permits->several, false), SX_OK);
    return NULL;
}

/* The wait for a decision is bounded, so on a busy machine some of these tries may fail; not all of them. */
TEST(permits_a_try_waits_for_the_decision, 0, 30)
{
    struct making m = {.arena = arena_new()};
    m.permits = permits(m.arena, 1);
    int got = 0;
    for (int i = 0; i < 50; i++) {
        m.made = m.end = 0;
        pthread_t t = thread(collects_in_vain, &m);
        gate_pass(&m.made);
        CHECK(sx_permits_free(m.arena, m.permits, 9) == 1); /* nobody can see it */
        enum sx_status s = take(m.arena, m.permits, 1, i % 2 == 0 ? 0 : in(MS));
        gate_open(&m.end);
        joined(t);
        if (s == SX_OK) {
            got++;
            STATUS(give(m.arena, m.permits, 1), SX_OK);
        }
    }
    CHECK(got > 0);
    CHECK(all_there(m.arena, m.permits));
}

/* A collector that is stopped half-way delays a failure, but not for ever. */
TEST(permits_a_decision_that_does_not_come, 0, 30)
{
    struct making m = {.arena = arena_new()};
    m.permits = permits(m.arena, 1);
    my_id(m.arena);
    STATUS(sx_mutex_lock(m.arena, &m.permits->several, SX_NEVER), SX_OK);
    atomic_store(&m.permits->permit[0].word, m.arena->self | PERMIT_TENTATIVE);
    STATUS(take(m.arena, m.permits, 1, 0), SX_BUSY);
    STATUS(take(m.arena, m.permits, 1, in(MS)), SX_TIMEOUT);
    STATUS(give(m.arena, m.permits, 1), SX_NOT_HELD);
    atomic_store(&m.permits->permit[0].word, 0);
    STATUS(sx_mutex_unlock(m.arena, &m.permits->several, false), SX_OK);
    CHECK(all_there(m.arena, m.permits));
}

static void *collects_and_ends(void *argument)
{
    struct making *m = argument;
    STATUS(sx_mutex_lock(m->arena, &m->permits->several, SX_NEVER), SX_OK);
    atomic_store(&m->permits->permit[1].word, m->arena->self | PERMIT_TENTATIVE);
    return NULL;
}

TEST(permits_a_collector_that_ends_half_way, 0, 30)
{
    struct making m = {.arena = arena_new()};
    m.permits = permits(m.arena, 3);
    my_id(m.arena);
    joined(thread(collects_and_ends, &m));
    STATUS(take(m.arena, m.permits, 3, in(SECOND)), SX_OK);
    STATUS(give(m.arena, m.permits, 3), SX_OK);
    CHECK(all_there(m.arena, m.permits));
}

/* ---- what is there ------------------------------------------------------------------------------------------- */
TEST(permits_in_user_memory, 0, 20)
{
    struct sx_arena *a = arena_new();
    size_t size = sx_kind_size(SX_KIND_PERMITS, 5);
    CHECK(size == sizeof(struct sx_permits) + 5 * sizeof(struct sx_permit));
    void *memory = shared(size);
    struct sx_request request = {.kind = SX_KIND_PERMITS, .parameter = 5, .create = SX_CREATE};
    struct sx_object object;
    STATUS(sx_object_at(a, memory, size - 1, &request, &object), SX_TOO_SMALL);
    STATUS(sx_object_at(a, memory, size, &request, &object), SX_OK);
    struct sx_permits *p = memory;
    STATUS(take(a, p, 4, 0), SX_OK);
    STATUS(take(a, p, 2, 0), SX_BUSY);
    request.parameter = 6;
    STATUS(sx_object_at(a, memory, size, &request, &object), SX_OTHER_VALUE);
    CHECK(request.found_parameter == 5);
    /* another arena of the same place: all of them are free */
    sx_kind_operations(SX_KIND_PERMITS)->adopt(a, &p->cell);
    CHECK(p->statistics.recoveries == 4);
    CHECK(all_there(a, p));
    CHECK(sx_kind_size(SX_KIND_PERMITS, SX_MAX_PERMITS) != 0 && sx_kind_size(SX_KIND_PERMITS, SX_MAX_PERMITS + 1) == 0);
}

static void *is_told(void *argument)
{
    struct death *d = argument;
    STATUS(take(d->arena, d->permits, d->n, SX_NEVER), SX_RETIRED);
    return NULL;
}

TEST(permits_that_are_unlinked, 0, 20)
{
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    struct sx_permits *p = permits(a, 3);
    pthread_t threads[6];
    STATUS(take(a, p, 3, 0), SX_OK);
    for (uint32_t i = 0; i < 6; i++)
        threads[i] = thread(is_told, death_of(a, p, i % 3 + 1));
    UNTIL(sleepers(a, p) == 6);
    sx_kind_operations(SX_KIND_PERMITS)->retire(&p->cell);
    for (int i = 0; i < 6; i++)
        joined(threads[i]);
    STATUS(take(a, p, 1, 0), SX_RETIRED);
    STATUS(give(a, p, 3), SX_OK);
    STATUS(take_fast(a, p, 1, 0), SX_RETIRED);
}

TEST(permits_that_are_damaged, 0, 20)
{
    struct sx_arena *a = arena_new();
    struct sx_permits *p = permits(a, 2);
    atomic_store(&p->permit[0].word, UINT64_C(0x12345678) << 32 | SX_SLOT_MASK); /* a slot that cannot be */
    atomic_store(&p->permit[0].thread, random64());
    STATUS(take(a, p, 2, 0), SX_DAMAGED);
    atomic_store(&p->permit[0].word, 0);
    CHECK(all_there(a, p));
}

/* ---- the broken twins: the oracle and the watchdog must see them --------------------------------------------- */
static enum sx_status bounds_nobody(struct sx_arena *a, struct sx_permits *p, uint32_t n, int64_t deadline)
{
    (void)p, (void)n, (void)deadline;
    my_id(a);
    return SX_OK;
}
static enum sx_status gives_nothing(struct sx_arena *a, struct sx_permits *p, uint32_t n)
{
    (void)a, (void)p, (void)n;
    return SX_OK;
}

TEST(permits_twin_that_bounds_nobody_is_seen, FORKS | HEAVY | NATIVE, 30)
{
    static const struct how twin = {bounds_nobody, gives_nothing};
    struct contest c = contest(arena_new(), 2, 2, rounds(4000));
    c.how = &twin;
    CHECK(processes(&c, 20 * SECOND));
    CHECK(*c.overlaps != 0);
}

static enum sx_status forgets_to_wake(struct sx_arena *a, struct sx_permits *p, uint32_t n)
{
    for (uint32_t i = 0; i < p->cell.parameter && n > 0; i++)
        if (p->permit[i].word == a->self && p->permit[i].thread == my_id(a)) {
            atomic_store(&p->permit[i].word, 0);
            n--;
        }
    return SX_OK;
}

TEST(permits_twin_that_forgets_to_wake_is_seen, FORKS | HEAVY | NATIVE, 60)
{
    static const struct how twin = {take, forgets_to_wake};
    sx_belt_off = true;
    struct sx_arena *a = arena_new();
    for (uint32_t sizes = 1; sizes <= 2; sizes++) {
        struct contest c = contest(a, 2, sizes, rounds(4000));
        c.how = &twin;
        CHECK(!processes(&c, 3 * SECOND));
    }
    /* with the belt on the same twin gets through, and the belt's work is counted */
    sx_belt_off = false;
    struct contest d = contest(a, 2, 1, 20);
    d.how = &twin;
    d.hold = 2 * MS;
    CHECK(processes(&d, 30 * SECOND));
    CHECK(*d.overlaps == 0);
    CHECK(d.permits->statistics.rescues != 0);
}

static enum sx_status takes_one_by_one(struct sx_arena *a, struct sx_permits *p, uint32_t n, int64_t deadline)
{
    enum sx_status s = SX_OK;
    for (uint32_t i = 0; i < n && s == SX_OK; i++) {
        s = take(a, p, 1, deadline);
        sched_yield();
    }
    return s;
}

TEST(permits_twin_that_takes_one_by_one_is_seen, FORKS | HEAVY | NATIVE, 30)
{
    static const struct how twin = {takes_one_by_one, give};
    sx_deadlock_off = true; /* which would end what is to be seen */
    struct contest c = contest(arena_new(), 3, 3, rounds(20000));
    c.how = &twin;
    CHECK(!processes(&c, 3 * SECOND));
}

static enum sx_status loses_one(struct sx_arena *a, struct sx_permits *p, uint32_t n)
{
    static int times;
    return ++times == 7 ? SX_OK : give(a, p, n);
}

TEST(permits_twin_that_loses_one_is_seen, NATIVE, 30)
{
    static const struct how twin = {take, loses_one};
    struct contest c = contest(arena_new(), 3, 1, 20);
    c.how = &twin;
    work(&c);
    CHECK(!all_there(c.arena, c.permits));
}
