/* test_together.c: what threads do to each other beyond one primitive, above all for ThreadSanitizer, which sees a race only
 * where both sides run: deadlocks, crowds, barriers with actions, and looking at everything while it is used.
 */
#include "check.h"

#include "../../syncx/_core/snapshot.h"

/* ---- a deadlock --------------------------------------------------------------------------------------------------- */
#define RING 3

struct ring {
    struct sx_arena *arena;
    struct sx_mutex *m[RING];
    sx_a32 number, there, go, victims, members;
};

static void closes_the_ring(void *argument)
{
    struct ring *r = argument;
    uint32_t i = atomic_fetch_add(&r->number, 1);
    STATUS(sx_mutex_lock(r->arena, r->m[i], SX_NEVER), SX_OK);
    if (atomic_fetch_add(&r->there, 1) == RING - 1)
        gate_open(&r->go);
    gate_pass(&r->go);
    enum sx_status s = sx_mutex_lock(r->arena, r->m[(i + 1) % RING], SX_NEVER);
    if (s == SX_OK) {
        STATUS(sx_mutex_unlock(r->arena, r->m[(i + 1) % RING], false), SX_OK);
    } else {
        CHECK(s == SX_INTERRUPTED);
        atomic_fetch_add(&r->victims, 1);
        atomic_fetch_add(&r->members, sx_deadlock.count);
    }
    STATUS(sx_mutex_unlock(r->arena, r->m[i], false), SX_OK);
}

static void *thread_closes_the_ring(void *argument)
{
    closes_the_ring(argument);
    return NULL;
}

static struct ring *ring(int round)
{
    struct ring *r = shared(sizeof *r);
    r->arena = arena_new();
    for (int i = 0; i < RING; i++) {
        char name[32];
        snprintf(name, sizeof name, "ring %d, %d", round, i);
        r->m[i] = named(r->arena, name, NULL);
    }
    return r;
}

TEST(a_ring_of_threads_has_one_victim, 0, 30)
{
    for (int round = 0; round < rounds(10); round++) {
        struct ring *r = ring(round);
        pthread_t threads[RING];
        for (int i = 0; i < RING; i++)
            threads[i] = thread(thread_closes_the_ring, r);
        for (int i = 0; i < RING; i++)
            joined(threads[i]);
        CHECK(r->victims == 1 && r->members == RING);
    }
}

TEST(a_ring_of_processes_has_one_victim, FORKS, 30)
{
    for (int round = 0; round < rounds(10); round++) {
        struct ring *r = ring(round);
        pid_t pids[RING];
        for (int i = 0; i < RING; i++)
            pids[i] = spawn(closes_the_ring, r);
        CHECK(all_end(pids, RING, 20 * SECOND));
        CHECK(r->victims == 1 && r->members == RING);
    }
}

/* ---- a crowd ------------------------------------------------------------------------------------------------------- */
#define MANY 64

struct queue {
    struct sx_arena *arena;
    struct sx_mutex *m;
    int inside, all;
};

static void *takes_it_once(void *argument)
{
    struct queue *q = argument;
    STATUS(sx_mutex_lock(q->arena, q->m, SX_NEVER), SX_OK);
    CHECK(q->inside++ == 0); /* plain: a race is seen by ThreadSanitizer */
    q->all++;
    q->inside--;
    STATUS(sx_mutex_unlock(q->arena, q->m, false), SX_OK);
    return NULL;
}

TEST(a_crowd_looks_for_all, HEAVY, 60)
{
    struct queue q = {.arena = arena_new()};
    pthread_t threads[MANY];
    q.m = anonymous(q.arena);
    STATUS(sx_mutex_lock(q.arena, q.m, SX_NEVER), SX_OK);
    for (int i = 0; i < MANY; i++)
        threads[i] = thread(takes_it_once, &q);
    UNTIL(atomic_load(&q.arena->header->crowd) > 32); /* they have counted themselves */
    STATUS(sx_mutex_unlock(q.arena, q.m, false), SX_OK);
    for (int i = 0; i < MANY; i++)
        joined(threads[i]);
    CHECK(q.all == MANY);
}

/* ---- a barrier with an action ---------------------------------------------------------------------------------------- */
#define PARTIES 3

struct meeting {
    struct sx_arena *arena;
    struct sx_barrier *b;
    int done; /* plain: written by the action, read by all after it */
};

static void *meets(void *argument)
{
    struct meeting *m = argument;
    struct sx_arrival a;
    STATUS(sx_barrier_wait(m->arena, m->b, SX_NEVER, SX_BARRIER_ENROL, &a), SX_OK);
    for (int i = 0; i < rounds(100); i++) {
        STATUS(sx_barrier_wait(m->arena, m->b, SX_NEVER, SX_BARRIER_ACT, &a), SX_OK);
        if (a.last) {
            CHECK(m->done++ == i);
            STATUS(sx_barrier_complete(m->arena, m->b, &a, true), SX_OK);
        } else {
            CHECK(m->done == i + 1);
        }
        STATUS(sx_barrier_wait(m->arena, m->b, SX_NEVER, SX_BARRIER_WAIT, &a), SX_OK); /* all have looked */
    }
    STATUS(sx_barrier_withdraw(m->arena, m->b), SX_OK);
    STATUS(sx_barrier_withdraw(m->arena, m->b), SX_NOT_HELD);
    return NULL;
}

TEST(an_action_is_seen_by_all_threads, 0, 60)
{
    struct meeting m = {.arena = arena_new()};
    struct sx_request request = {.kind = SX_KIND_BARRIER, .parameter = PARTIES, .create = SX_CREATE};
    struct sx_object object;
    pthread_t threads[PARTIES];
    STATUS(sx_object_anonymous(m.arena, &request, &object), SX_OK);
    m.b = (struct sx_barrier *)object.cell;
    for (int i = 0; i < PARTIES; i++)
        threads[i] = thread(meets, &m);
    for (int i = 0; i < PARTIES; i++)
        joined(threads[i]);
    bool broken;
    CHECK(sx_barrier_state(m.arena, m.b, &broken) == 0 && !broken && m.done == rounds(100));
}

/* ---- looking at everything while it is used --------------------------------------------------------------------------- */
static const enum sx_kind kinds[] = {SX_KIND_MUTEX, SX_KIND_RLOCK, SX_KIND_SEMAPHORE, SX_KIND_PERMITS,
                                     SX_KIND_EVENT, SX_KIND_LATCH, SX_KIND_CONDITION, SX_KIND_BARRIER,
                                     SX_KIND_ONCE,  SX_KIND_RWLOCK};
#define KINDS (sizeof kinds / sizeof *kinds)

struct fair {
    struct sx_arena *arena;
    struct sx_object object[KINDS];
    atomic_bool stop;
};
#define STALL(type, number) ((struct sx_##type *)f->object[number].cell)

/* One operation of chance; no wait is longer than a moment. */
static void visit(struct fair *f, uint32_t n)
{
    struct sx_arena *a = f->arena;
    struct sx_death death;
    struct sx_arrival arrival;
    uint32_t hint = n, length;
    unsigned char result[SX_ONCE_RESULT];
    bool done;
    int64_t soon = in(n % 3 * 200000);
    switch (n / 3 % 13) {
    case 0:
        if (sx_mutex_lock(a, STALL(mutex, 0), soon) == SX_OK)
            sx_mutex_unlock(a, STALL(mutex, 0), false);
        break;
    case 1:
        if (sx_mutex_lock(a, STALL(mutex, 1), soon) == SX_OK) {
            if (sx_rlock_again(STALL(mutex, 1), sx_self.id))
                sx_rlock_back(STALL(mutex, 1), sx_self.id);
            sx_mutex_unlock(a, STALL(mutex, 1), false);
        }
        break;
    case 2:
        if (sx_semaphore_acquire(a, STALL(semaphore, 2), 1 + n % 2, soon) == SX_OK)
            sx_semaphore_release(STALL(semaphore, 2), 1 + n % 2);
        break;
    case 3:
        if (sx_permits_acquire(a, STALL(permits, 3), 1 + n % 2, n & 4 ? PERMIT_SCOPED : 0, soon, &hint, &death) ==
            SX_OK)
            sx_permits_release(a, STALL(permits, 3), 1 + n % 2, n & 4 ? PERMIT_SCOPED : 0);
        break;
    case 4:
        sx_event_wait(a, STALL(event, 4), soon);
        n & 8 ? sx_event_set(STALL(event, 4)) : sx_event_clear(STALL(event, 4));
        break;
    case 5:
        sx_latch_wait(a, STALL(latch, 5), soon);
        sx_latch_count_down(STALL(latch, 5), 1);
        break;
    case 6: {
        struct sx_condition *c = STALL(condition, 6);
        struct sx_waiter w;
        if (sx_mutex_lock(a, &c->lock, SX_NEVER) != SX_OK)
            break;
        if (n & 8) {
            sx_condition_notify(a, c, &c->lock, 1);
        } else if (sx_condition_enrol(a, c, soon, &w) == SX_OK) {
            sx_mutex_unlock(a, &c->lock, false);
            enum sx_status s = sx_condition_sleep(&w);
            STATUS(sx_mutex_lock(a, &c->lock, SX_NEVER), SX_OK);
            s == SX_OK ? sx_condition_consume(&w) : sx_condition_leave(&w);
        }
        sx_mutex_unlock(a, &c->lock, false);
        break;
    }
    case 7:
        if (sx_barrier_wait(a, STALL(barrier, 7), soon, SX_BARRIER_WAIT, &arrival) == SX_BROKEN)
            sx_barrier_reset(a, STALL(barrier, 7));
        break;
    case 8:
        if (sx_once_begin(a, STALL(once, 8), soon, &done) == SX_OK && !done)
            n % 64 ? sx_once_abandon(a, STALL(once, 8)) : sx_once_finish(a, STALL(once, 8), "done", 4);
        sx_once_read(STALL(once, 8), result, &length);
        break;
    case 9:
        if (sx_rwlock_read(a, STALL(rwlock, 9), soon) == SX_OK)
            sx_rwlock_read_end(a, STALL(rwlock, 9));
        break;
    case 10:
        if (sx_rwlock_write(a, STALL(rwlock, 9), soon) == SX_OK) {
            if (n & 8)
                STATUS(sx_rwlock_downgrade(a, STALL(rwlock, 9)), SX_OK);
            STATUS(sx_rwlock_write_end(a, STALL(rwlock, 9), false), SX_OK);
        }
        break;
    default:
        if (sx_rwlock_upgradable(a, STALL(rwlock, 9), soon) == SX_OK) {
            if (sx_rwlock_upgrade(a, STALL(rwlock, 9), soon) == SX_OK && n & 8)
                STATUS(sx_rwlock_downgrade_upgraded(a, STALL(rwlock, 9)), SX_OK);
            sx_rwlock_upgradable_end(a, STALL(rwlock, 9), false);
        }
    }
}

static void visits(void *argument)
{
    struct fair *f = argument;
    uint32_t n = (uint32_t)my_id(f->arena);
    while (!atomic_load(&f->stop))
        visit(f, (n = n * 1664525u + 1013904223u) >> 8);
}

static void *thread_visits(void *argument)
{
    visits(argument);
    return NULL;
}

static void counts_holders(void *context, uint64_t process, uint64_t thread, uint32_t mode)
{
    (void)process, (void)thread, (void)mode;
    ++*(uint32_t *)context;
}

/* What somebody does who only looks.  How many problems the picture has. */
static uint32_t look_at_all(struct fair *f)
{
    struct sx_source source;
    struct sx_snapshot s;
    for (size_t i = 0; i < KINDS; i++) {
        struct sx_counts counts;
        uint32_t holders = 0;
        struct sx_look look = {.value = -1, .holder = counts_holders, .context = &holders};
        const struct sx_kind_operations *kind = sx_kind_operations(kinds[i]);
        kind->look(f->arena, f->object[i].cell, &look);
        kind->held(f->arena, f->object[i].cell);
        sx_count(f->object[i].cell, kinds[i], &counts);
        CHECK(holders <= 16);
        struct sx_object again;
        STATUS(sx_object_reference(f->arena, f->object[i].unit, f->object[i].generation, kinds[i], &again), SX_OK);
        sx_object_pin(f->arena, &again);
        sx_object_close(f->arena, &again);
    }
    STATUS(sx_source_attached(f->arena, &source), SX_OK);
    STATUS(sx_snapshot_take(&source, &s), SX_OK);
    CHECK(s.objects.count == KINDS);
    uint32_t problems = s.problems.count;
    sx_snapshot_free(&s);
    sx_source_close(&source);
    return problems;
}

static void keep_looking(struct fair *f)
{
    int good = 0;
    for (int i = 0; i < rounds(60); i++)
        good += look_at_all(f) == 0;
    CHECK(good > 0);
}

static struct fair *fair(void)
{
    struct fair *f = shared(sizeof *f);
    f->arena = arena_new();
    for (size_t i = 0; i < KINDS; i++) {
        struct sx_request request = {.kind = kinds[i], .parameter = 3, .create = SX_CREATE};
        if (sx_kind_operations(kinds[i])->parameter_max == 0 || kinds[i] == SX_KIND_CONDITION)
            request.parameter = SX_ANY;
        if (kinds[i] == SX_KIND_CONDITION)
            request.parameter = 0; /* with a lock of its own */
        if (kinds[i] == SX_KIND_LATCH)
            request.parameter = 1000000;
        STATUS(sx_object_anonymous(f->arena, &request, &f->object[i]), SX_OK);
        sx_object_pin(f->arena, &f->object[i]);
    }
    return f;
}

TEST(all_is_looked_at_while_threads_use_it, HEAVY, 60)
{
    struct fair *f = fair();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = thread(thread_visits, f);
    keep_looking(f);
    atomic_store(&f->stop, true);
    for (int i = 0; i < 4; i++)
        joined(threads[i]);
}

TEST(all_is_looked_at_while_processes_use_it, FORKS | HEAVY, 60)
{
    struct fair *f = fair();
    pid_t pids[4];
    for (int i = 0; i < 4; i++)
        pids[i] = spawn(visits, f);
    keep_looking(f);
    atomic_store(&f->stop, true);
    CHECK(all_end(pids, 4, 20 * SECOND));
}
