/* test_rwlock.c: a writer is alone, readers see what a writer left and nothing of what it does, and deaths of either
 * are over at once.
 *
 * The oracle: two numbers that writers keep equal, in two steps, and counts of those inside.  Where no wake may be lost
 * the belt is off, so that a lost one is a hang.  The same oracle must condemn the broken twins at the end of the file.
 */
#include "check.h"
#include <sys/ptrace.h>

struct twin {
    enum sx_status (*read)(struct sx_arena *, struct sx_rwlock *, int64_t);
    enum sx_status (*read_end)(struct sx_arena *, struct sx_rwlock *);
    enum sx_status (*write)(struct sx_arena *, struct sx_rwlock *, int64_t);
    enum sx_status (*write_end)(struct sx_arena *, struct sx_rwlock *, bool);
};
/* as the binding does: the fast path first */
static enum sx_status real_read(struct sx_arena *a, struct sx_rwlock *rw, int64_t deadline)
{
    return sx_self.arena == a && sx_rwlock_read_fast(sx_self.slot, rw, sx_cell_key(a, &rw->cell))
               ? SX_OK
               : sx_rwlock_read(a, rw, deadline);
}
static enum sx_status real_read_end(struct sx_arena *a, struct sx_rwlock *rw)
{
    return sx_self.arena == a && sx_rwlock_read_end_fast(sx_self.slot, rw, sx_cell_key(a, &rw->cell))
               ? SX_OK
               : sx_rwlock_read_end(a, rw);
}
static const struct twin real = {real_read, real_read_end, sx_rwlock_write, sx_rwlock_write_end};

static struct sx_rwlock *rwlock(struct sx_arena *arena, const char *name)
{
    struct sx_object object;
    struct sx_request request = {.kind = SX_KIND_RWLOCK, .parameter = SX_ANY, .create = SX_CREATE};
    STATUS(sx_object_open(arena, name, (uint32_t)strlen(name), &request, &object), SX_OK);
    return (struct sx_rwlock *)object.cell;
}

static struct sx_rwlock *in_memory(struct sx_arena *arena)
{
    struct sx_object object;
    struct sx_request request = {.kind = SX_KIND_RWLOCK, .parameter = SX_ANY, .create = SX_CREATE};
    void *memory = shared(sizeof(struct sx_rwlock));
    STATUS(sx_object_at(arena, memory, sizeof(struct sx_rwlock), &request, &object), SX_OK);
    return memory;
}

static uint32_t readers(struct sx_arena *a, struct sx_rwlock *rw)
{
    return sx_rwlock_readers(a, rw, NULL, NULL);
}

static bool present(struct sx_rwlock *rw)
{
    return atomic_load(&rw->phase) & RWLOCK_PRESENT;
}

/* Nobody has it, and nothing of anybody is left. */
static void untouched(struct sx_arena *a, struct sx_rwlock *rw)
{
    CHECK(readers(a, rw) == 0 && sx_rwlock_writer(a, rw) == 0 && sx_rwlock_upgradable_reader(a, rw) == 0);
    CHECK((atomic_load(&rw->phase) & ((1u << RWLOCK_NUMBER_SHIFT) - 1)) == 0);
    CHECK(sx_is_free(atomic_load(&rw->writer.word)));
    STATUS(sx_rwlock_write(a, rw, 0), SX_OK);
    STATUS(sx_rwlock_write_end(a, rw, false), SX_OK);
}

/* ---- one thread alone ------------------------------------------------------------------------------------------- */
TEST(a_rwlock_alone, 0, 20)
{
    struct sx_arena *a = arena_new();
    struct sx_rwlock *places[] = {rwlock(a, "rw"), in_memory(a)};
    for (int i = 0; i < 2; i++) {
        struct sx_rwlock *rw = places[i];
        uint64_t me = my_id(a);
        for (int depth = 0; depth < 3; depth++)
            STATUS(real_read(a, rw, 0), SX_OK);
        CHECK(readers(a, rw) == 1 && atomic_load(&sx_self.slot->marked) == 1);
        STATUS(sx_rwlock_write(a, rw, SX_NEVER), SX_DEADLOCK);
        STATUS(sx_rwlock_upgradable(a, rw, SX_NEVER), SX_DEADLOCK);
        STATUS(sx_rwlock_write(a, rw, 0), SX_BUSY);
        STATUS(sx_rwlock_write(a, rw, in(10 * MS)), SX_TIMEOUT);
        for (int depth = 0; depth < 3; depth++)
            STATUS(real_read_end(a, rw), SX_OK);
        STATUS(real_read_end(a, rw), SX_NOT_OWNER);
        CHECK(atomic_load(&sx_self.slot->marked) == 0);
        untouched(a, rw);

        STATUS(sx_rwlock_write(a, rw, SX_NEVER), SX_OK);
        CHECK(sx_rwlock_writer(a, rw) == me && sx_rwlock_upgradable_reader(a, rw) == 0);
        STATUS(real_read(a, rw, SX_NEVER), SX_DEADLOCK);
        STATUS(real_read(a, rw, in(10 * MS)), SX_TIMEOUT);
        STATUS(real_read(a, rw, 0), SX_BUSY);
        STATUS(sx_rwlock_write(a, rw, SX_NEVER), SX_DEADLOCK);
        STATUS(sx_rwlock_upgradable_end(a, rw, false), SX_NOT_OWNER);
        STATUS(real_read_end(a, rw), SX_NOT_OWNER);
        STATUS(sx_rwlock_downgrade(a, rw), SX_OK);
        CHECK(readers(a, rw) == 1 && sx_rwlock_writer(a, rw) == 0);
        STATUS(real_read_end(a, rw), SX_NOT_OWNER);
        STATUS(sx_rwlock_read(a, rw, 0), SX_OK);
        STATUS(sx_rwlock_write_end(a, rw, false), SX_OK);
        STATUS(sx_rwlock_write_end(a, rw, false), SX_NOT_OWNER);
        CHECK(readers(a, rw) == 1);
        STATUS(real_read_end(a, rw), SX_OK);
        untouched(a, rw);

        STATUS(sx_rwlock_upgrade(a, rw, SX_NEVER), SX_NOT_OWNER);
        STATUS(sx_rwlock_upgradable(a, rw, SX_NEVER), SX_OK);
        CHECK(sx_rwlock_upgradable_reader(a, rw) == me && sx_rwlock_writer(a, rw) == 0);
        STATUS(sx_rwlock_write_end(a, rw, false), SX_NOT_OWNER);
        STATUS(sx_rwlock_downgrade_upgraded(a, rw), SX_NOT_HELD);
        STATUS(real_read(a, rw, 0), SX_OK);
        STATUS(sx_rwlock_upgrade(a, rw, SX_NEVER), SX_DEADLOCK);
        STATUS(sx_rwlock_upgrade(a, rw, 0), SX_BUSY);
        STATUS(real_read_end(a, rw), SX_OK);
        for (int n = 0; n < 2; n++) {
            STATUS(sx_rwlock_upgrade(a, rw, SX_NEVER), SX_OK);
            CHECK(sx_rwlock_writer(a, rw) == me);
            STATUS(sx_rwlock_downgrade_upgraded(a, rw), SX_OK);
        }
        STATUS(sx_rwlock_upgrade(a, rw, SX_NEVER), SX_OK);
        STATUS(sx_rwlock_upgradable_end(a, rw, false), SX_OK);
        untouched(a, rw);
    }
    for (int i = 0; i < 1000; i++) { /* the number of writers goes round */
        atomic_store(&places[0]->phase, i % 2 ? 0xfffffe00u : 0xfffffc00u);
        STATUS(sx_rwlock_write(a, places[0], 0), SX_OK);
        STATUS(sx_rwlock_write_end(a, places[0], false), SX_OK);
        STATUS(real_read(a, places[0], 0), SX_OK);
        STATUS(real_read_end(a, places[0]), SX_OK);
    }
}

/* ---- exclusion -------------------------------------------------------------------------------------------------- */
struct room {
    volatile uint64_t first, second; /* equal, but while a writer is inside */
    sx_a32 writing, reading, torn, overlaps;
    sx_a64 written;
};

struct contest {
    struct sx_arena *arena;
    struct sx_rwlock *rw;
    const struct twin *twin;
    struct room *room;
    int threads, each;
    sx_a32 *seats;
};

/* relaxed throughout: the oracle must not order what the lock ought to order */
static void be_writer(struct room *r, bool yield)
{
    if (atomic_fetch_add_explicit(&r->writing, 1, memory_order_relaxed) != 0 ||
        atomic_load_explicit(&r->reading, memory_order_relaxed) != 0)
        atomic_fetch_add_explicit(&r->overlaps, 1, memory_order_relaxed);
    uint64_t n = r->first + 1;
    r->first = n;
    if (yield)
        sched_yield();
    r->second = n;
    atomic_fetch_sub_explicit(&r->writing, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->written, 1, memory_order_relaxed);
}

static void be_reader(struct room *r, bool yield)
{
    atomic_fetch_add_explicit(&r->reading, 1, memory_order_relaxed);
    if (atomic_load_explicit(&r->writing, memory_order_relaxed) != 0)
        atomic_fetch_add_explicit(&r->overlaps, 1, memory_order_relaxed);
    uint64_t n = r->first;
    if (yield)
        sched_yield();
    if (n != r->second)
        atomic_fetch_add_explicit(&r->torn, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&r->reading, 1, memory_order_relaxed);
}

static void *contend(void *argument)
{
    struct contest *c = argument;
    const struct twin *t = c->twin;
    uint32_t seat = atomic_fetch_add_explicit(c->seats, 1, memory_order_relaxed);
    for (int i = 0; i < c->each; i++) {
        bool yield = i % 4 == 0;
        int64_t deadline = i % 7 == 6 ? in(100000) : i % 7 == 5 ? 0 : SX_NEVER;
        int what = (i * 5 + (int)seat) % 8;
        if (what < 5) {
            enum sx_status s = t->read(c->arena, c->rw, deadline);
            if (s != SX_OK) {
                CHECK((s == SX_BUSY && deadline == 0) || (s == SX_TIMEOUT && deadline != SX_NEVER));
                continue;
            }
            be_reader(c->room, yield);
            if (i % 16 == 3) {
                STATUS(t->read(c->arena, c->rw, SX_NEVER), SX_OK);
                be_reader(c->room, yield);
                STATUS(t->read_end(c->arena, c->rw), SX_OK);
            }
            STATUS(t->read_end(c->arena, c->rw), SX_OK);
        } else if (what < 7) {
            enum sx_status s = t->write(c->arena, c->rw, deadline);
            if (s != SX_OK) {
                CHECK((s == SX_BUSY && deadline == 0) || (s == SX_TIMEOUT && deadline != SX_NEVER));
                continue;
            }
            be_writer(c->room, yield);
            if (i % 16 < 3 && t == &real) {
                STATUS(sx_rwlock_downgrade(c->arena, c->rw), SX_OK);
                be_reader(c->room, yield);
            }
            STATUS(t->write_end(c->arena, c->rw, false), SX_OK);
        } else {
            STATUS(sx_rwlock_upgradable(c->arena, c->rw, SX_NEVER), SX_OK);
            uint64_t seen = c->room->first;
            if (t == &real && sx_rwlock_upgrade(c->arena, c->rw, deadline) == SX_OK) {
                if (c->room->first != seen)
                    atomic_fetch_add_explicit(&c->room->torn, 1, memory_order_relaxed);
                be_writer(c->room, yield);
                if (i % 2 == 0) {
                    STATUS(sx_rwlock_downgrade_upgraded(c->arena, c->rw), SX_OK);
                    be_reader(c->room, yield);
                }
            }
            STATUS(sx_rwlock_upgradable_end(c->arena, c->rw, false), SX_OK);
        }
    }
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

static struct contest contest(struct sx_arena *arena, struct sx_rwlock *rw, const struct twin *twin, int threads,
                              int each)
{
    return (struct contest){.arena = arena,
                            .rw = rw,
                            .twin = twin,
                            .room = shared(sizeof(struct room)),
                            .threads = threads,
                            .each = each,
                            .seats = shared(4)};
}

static bool excluded(struct contest *c)
{
    struct room *r = c->room;
    return r->torn == 0 && r->overlaps == 0 && r->first == r->second && r->first == r->written;
}

TEST(readers_and_writers_in_threads, 0, 60)
{
    struct sx_arena *a = arena_new();
    struct contest c = contest(a, rwlock(a, "rw"), &real, 6, rounds(6000));
    sx_belt_off = true;
    contend_in_threads(&c);
    CHECK(excluded(&c) && c.room->written > 0);
    untouched(a, c.rw);
    CHECK(atomic_load(&c.rw->statistics.rescues) == 0);
}

TEST(readers_and_writers_in_processes, FORKS, 60)
{
    struct sx_arena *a = arena_new();
    struct sx_rwlock *places[] = {rwlock(a, "rw"), in_memory(a)};
    sx_belt_off = true;
    for (int i = 0; i < 2; i++) {
        struct contest c = contest(a, places[i], &real, 2, rounds(3000));
        pid_t pids[4];
        for (int p = 0; p < 4; p++)
            pids[p] = spawn(contend_in_threads, &c);
        CHECK(all_end(pids, 4, 50 * SECOND));
        CHECK(excluded(&c) && c.room->written > 0);
        untouched(a, places[i]);
    }
}

/* ---- turns ------------------------------------------------------------------------------------------------------ */
struct turns {
    struct sx_arena *a;
    struct sx_rwlock *rw;
    sx_a32 stop, entered;
    bool writes;
};

static void *press(void *argument)
{
    struct turns *t = argument;
    while (!atomic_load(&t->stop)) {
        STATUS(t->writes ? sx_rwlock_write(t->a, t->rw, SX_NEVER) : real_read(t->a, t->rw, SX_NEVER), SX_OK);
        atomic_fetch_add(&t->entered, 1);
        sched_yield();
        STATUS(t->writes ? sx_rwlock_write_end(t->a, t->rw, false) : real_read_end(t->a, t->rw), SX_OK);
    }
    return NULL;
}

/* Four overlap without a gap, on one side; one of the other side comes again and again, and gets in. */
TEST(neither_side_starves, 0, 60)
{
    struct turns t = {.a = arena_new()};
    t.rw = rwlock(t.a, "rw");
    for (int side = 0; side < 2; side++) {
        pthread_t threads[4];
        t.writes = side == 1;
        atomic_store(&t.stop, 0);
        for (int i = 0; i < 4; i++)
            threads[i] = thread(press, &t);
        UNTIL(atomic_load(&t.entered) > 100);
        for (int i = 0; i < rounds(300); i++) {
            STATUS(t.writes ? sx_rwlock_read(t.a, t.rw, SX_NEVER) : sx_rwlock_write(t.a, t.rw, SX_NEVER), SX_OK);
            STATUS(t.writes ? sx_rwlock_read_end(t.a, t.rw) : sx_rwlock_write_end(t.a, t.rw, false), SX_OK);
        }
        atomic_store(&t.stop, 1);
        for (int i = 0; i < 4; i++)
            joined(threads[i]);
        atomic_store(&t.entered, 0);
    }
    untouched(t.a, t.rw);
}

/* A waiting reader comes in before the writer that is next, however many of them press. */
struct order {
    struct sx_arena *a;
    struct sx_rwlock *rw;
    sx_a32 next, reader, writer;
};

static void *reader_in_line(void *argument)
{
    struct order *o = argument;
    STATUS(sx_rwlock_read(o->a, o->rw, SX_NEVER), SX_OK);
    atomic_store(&o->reader, atomic_fetch_add(&o->next, 1) + 1);
    STATUS(sx_rwlock_read_end(o->a, o->rw), SX_OK);
    return NULL;
}

static void *writer_in_line(void *argument)
{
    struct order *o = argument;
    STATUS(sx_rwlock_write(o->a, o->rw, SX_NEVER), SX_OK);
    atomic_store(&o->writer, atomic_fetch_add(&o->next, 1) + 1);
    STATUS(sx_rwlock_write_end(o->a, o->rw, false), SX_OK);
    return NULL;
}

static uint32_t waiting(struct sx_arena *a)
{
    uint32_t n = 0, life;
    for (uint32_t i = 0; i < sx_participants_ready(a); i++) {
        struct sx_participant *p = &a->participants[i];
        uint64_t id = (uint64_t)atomic_load(&p->generation) << 32 | (uint64_t)(i + 1) << SX_SLOT_SHIFT;
        n += sx_wait_state(atomic_load(&p->wait[0].state)) == SX_WAITING && sx_holder_life(a, id, &life) == SX_ALIVE;
    }
    return n;
}

TEST(turns_are_taken, 0, 60)
{
    struct order o = {.a = arena_new()};
    o.rw = rwlock(o.a, "rw");
    for (int i = 0; i < rounds(200); i++) {
        atomic_store(&o.next, 0);
        bool write_first = i % 2;
        STATUS(write_first ? sx_rwlock_write(o.a, o.rw, SX_NEVER) : sx_rwlock_read(o.a, o.rw, SX_NEVER), SX_OK);
        /* who came first waits for us; the other one comes later */
        pthread_t r, w;
        if (write_first) {
            w = thread(writer_in_line, &o);
            UNTIL(waiting(o.a) == 1);
            r = thread(reader_in_line, &o);
        } else {
            w = thread(writer_in_line, &o);
            UNTIL(present(o.rw));
            r = thread(reader_in_line, &o);
        }
        UNTIL(waiting(o.a) == 2);
        STATUS(write_first ? sx_rwlock_write_end(o.a, o.rw, false) : sx_rwlock_read_end(o.a, o.rw), SX_OK);
        joined(r);
        joined(w);
        CHECK((o.reader < o.writer) == write_first); /* readers after a writer, a writer after readers */
    }
}

/* ---- deaths ----------------------------------------------------------------------------------------------------- */
struct victim {
    struct sx_arena *a;
    struct sx_rwlock *rw;
    sx_a32 *inside;
    int what, threads;
};
enum { READS, WRITES, UPGRADABLE, UPGRADED, DOWNGRADED, WAITS_TO_WRITE };

_Noreturn static void hold(void *argument)
{
    struct victim *v = argument;
    switch (v->what) {
    case READS:
        STATUS(sx_rwlock_read(v->a, v->rw, SX_NEVER), SX_OK);
        break;
    case WRITES:
    case DOWNGRADED:
        STATUS(sx_rwlock_write(v->a, v->rw, SX_NEVER), SX_OK);
        if (v->what == DOWNGRADED)
            STATUS(sx_rwlock_downgrade(v->a, v->rw), SX_OK);
        break;
    case UPGRADABLE:
    case UPGRADED:
        STATUS(sx_rwlock_upgradable(v->a, v->rw, SX_NEVER), SX_OK);
        if (v->what == UPGRADED)
            STATUS(sx_rwlock_upgrade(v->a, v->rw, SX_NEVER), SX_OK);
        break;
    default:
        sx_rwlock_write(v->a, v->rw, SX_NEVER);
    }
    atomic_fetch_add(v->inside, 1);
    for (;;)
        pause();
}

static void *hold_in_thread(void *argument)
{
    hold(argument);
}

static void hold_all(void *argument)
{
    struct victim *v = argument;
    for (int i = 1; i < v->threads; i++)
        thread(hold_in_thread, v);
    hold(v);
}

struct waiter {
    struct sx_arena *a;
    struct sx_rwlock *rw;
    enum sx_status status;
    int64_t at;
    bool reads;
};

static void *want(void *argument)
{
    struct waiter *w = argument;
    w->status = w->reads ? sx_rwlock_read(w->a, w->rw, SX_NEVER) : sx_rwlock_write(w->a, w->rw, SX_NEVER);
    w->at = sx_now();
    STATUS(w->reads ? sx_rwlock_read_end(w->a, w->rw) : sx_rwlock_write_end(w->a, w->rw, false), SX_OK);
    return NULL;
}

static void *only_ask(void *argument)
{
    struct waiter *w = argument;
    w->status = w->reads ? sx_rwlock_read(w->a, w->rw, SX_NEVER) : sx_rwlock_write(w->a, w->rw, SX_NEVER);
    return NULL;
}

static void after_a_death(int what, bool reads, int threads, bool belt_off)
{
    struct sx_arena *a = arena_new();
    sx_belt_off = belt_off;
    for (int i = 0; i < (threads > 1 ? 3 : rounds(20)); i++) {
        struct sx_rwlock *rw = i % 2 ? in_memory(a) : rwlock(a, "rw");
        struct victim v = {.a = a, .rw = rw, .what = what, .inside = shared(4), .threads = threads};
        pid_t pid = spawn(hold_all, &v);
        UNTIL(atomic_load(v.inside) == (uint32_t)threads);
        struct waiter w = {.a = a, .rw = rw, .reads = reads};
        pthread_t t = thread(want, &w);
        UNTIL(waiting(a) == 1);
        int64_t start = sx_now();
        killed(pid);
        joined(t);
        bool wrote = what == WRITES || what == UPGRADED;
        CHECK(w.status == (wrote && !reads ? SX_OWNER_DIED : SX_OK));
        if (!slow_machine)
            CHECK(w.at - start < 20 * BOUND);
        CHECK(sx_rwlock_torn(a, rw) == (wrote && reads));
        STATUS(sx_rwlock_write(a, rw, SX_NEVER), wrote && reads ? SX_OWNER_DIED : SX_OK);
        STATUS(sx_rwlock_write_end(a, rw, false), SX_OK);
        untouched(a, rw);
    }
}

TEST(a_reader_dies, FORKS | WAITV, 60)
{
    after_a_death(READS, false, 1, true);
}
TEST(a_writer_dies_before_a_writer, FORKS | WAITV, 60)
{
    after_a_death(WRITES, false, 1, true);
}
TEST(a_writer_dies_before_a_reader, FORKS | WAITV, 60)
{
    after_a_death(WRITES, true, 1, true);
}
TEST(an_upgradable_reader_dies, FORKS | WAITV, 60)
{
    after_a_death(UPGRADABLE, false, 1, true);
}
TEST(an_upgraded_reader_dies, FORKS | WAITV, 60)
{
    after_a_death(UPGRADED, true, 1, true);
}
TEST(a_downgraded_writer_dies, FORKS | WAITV, 60)
{
    after_a_death(DOWNGRADED, false, 1, true);
}
TEST(a_hundred_readers_die, FORKS | WAITV | HEAVY, 60)
{
    after_a_death(READS, false, 100, true);
}
TEST(more_readers_die_than_a_sleep_watches, FORKS | HEAVY, 60)
{
    after_a_death(READS, false, 300, false);
}

/* Both of them gone at once: the readers, and the writer that waited for them. */
TEST(a_writer_dies_waiting, FORKS, 60)
{
    struct sx_arena *a = arena_new();
    struct sx_rwlock *rw = rwlock(a, "rw");
    for (int i = 0; i < rounds(20); i++) {
        struct victim reader = {.a = a, .rw = rw, .what = READS, .inside = shared(4), .threads = 1}, writer = reader;
        writer.what = WAITS_TO_WRITE;
        pid_t r = spawn(hold_all, &reader);
        UNTIL(atomic_load(reader.inside) == 1);
        pid_t w = spawn(hold_all, &writer);
        UNTIL(present(rw) && waiting(a) == 1);
        struct waiter one = {.a = a, .rw = rw, .reads = true}, two = {.a = a, .rw = rw};
        pthread_t t1 = thread(want, &one), t2 = thread(want, &two);
        UNTIL(waiting(a) == 3);
        killed(i % 2 ? w : r);
        killed(i % 2 ? r : w);
        joined(t1);
        joined(t2);
        CHECK(one.status == SX_OK);
        if (i % 2) /* it had not begun: nothing is torn */
            STATUS(two.status, SX_OK);
        STATUS(sx_rwlock_write(a, rw, SX_NEVER), SX_OK);
        STATUS(sx_rwlock_write_end(a, rw, false), SX_OK);
        untouched(a, rw);
    }
}

/* ---- deaths anywhere -------------------------------------------------------------------------------------------- */

/* A room that the dying may leave torn: said by the lock, or it is an error. */
struct crowd {
    struct sx_arena *a;
    struct sx_rwlock *rw;
    volatile uint64_t *pair;
    sx_a32 *errors;
    sx_a64 *turns;
};

static void live_on(void *argument)
{
    struct crowd *c = argument;
    for (uint64_t i = random64();; i++) {
        if (i % 4 == 0) {
            enum sx_status s = sx_rwlock_write(c->a, c->rw, i % 3 == 0 ? in(MS) : SX_NEVER);
            if (s == SX_TIMEOUT)
                continue;
            if (s != SX_OWNER_DIED && (s != SX_OK || c->pair[0] != c->pair[1]))
                atomic_fetch_add(c->errors, 1);
            uint64_t n = c->pair[0] + 1;
            c->pair[0] = n;
            if (i % 8 == 0)
                sched_yield();
            c->pair[1] = n;
            if (i % 16 < 4 && sx_rwlock_downgrade(c->a, c->rw) == SX_OK && c->pair[0] != c->pair[1])
                atomic_fetch_add(c->errors, 1);
            STATUS(sx_rwlock_write_end(c->a, c->rw, false), SX_OK);
        } else if (i % 4 == 1) {
            enum sx_status s = sx_rwlock_upgradable(c->a, c->rw, SX_NEVER);
            if (s != SX_OWNER_DIED && (s != SX_OK || c->pair[0] != c->pair[1]))
                atomic_fetch_add(c->errors, 1);
            if (sx_rwlock_upgrade(c->a, c->rw, i % 8 == 1 ? in(MS) : SX_NEVER) == SX_OK) {
                c->pair[1] = ++c->pair[0];
                if (i % 16 == 1)
                    STATUS(sx_rwlock_downgrade_upgraded(c->a, c->rw), SX_OK);
            }
            STATUS(sx_rwlock_upgradable_end(c->a, c->rw, false), SX_OK);
        } else {
            enum sx_status s = real_read(c->a, c->rw, i % 5 == 0 ? in(MS) : SX_NEVER);
            if (s == SX_TIMEOUT)
                continue;
            uint64_t first = c->pair[0];
            if (i % 8 == 2)
                sched_yield();
            if (s != SX_OK || (first != c->pair[1] && !sx_rwlock_torn(c->a, c->rw)))
                atomic_fetch_add(c->errors, 1);
            STATUS(real_read_end(c->a, c->rw), SX_OK);
        }
        atomic_fetch_add(c->turns, 1);
    }
}

static void deaths_anywhere(struct crowd *c, int kills)
{
    enum { N = 5 };
    pid_t pids[N];
    for (int i = 0; i < N; i++)
        pids[i] = spawn(live_on, c);
    for (int k = 0; k < kills; k++) {
        uint64_t turns = atomic_load(c->turns);
        int i = (int)(random64() % N);
        for (uint64_t spin = random64() % 20000; spin > 0; spin--)
            sx_cpu_relax();
        if (k % 4 == 0)
            usleep((useconds_t)(random64() % 2000)); /* the moment does not matter, that it varies does */
        killed(pids[i]);
        UNTIL(atomic_load(c->turns) > turns + N); /* whoever is left goes on */
        pids[i] = spawn(live_on, c);
    }
    for (int i = 0; i < N; i++)
        killed(pids[i]);
}

TEST(deaths_anywhere_in_a_crowd, FORKS, 100)
{
    struct sx_arena *a = arena_new();
    struct crowd c = {
        .a = a, .rw = rwlock(a, "rw"), .pair = shared(16), .errors = shared(4), .turns = shared(sizeof(sx_a64))};
    deaths_anywhere(&c, rounds(600));
    CHECK(atomic_load(c.errors) == 0);
    enum sx_status s = sx_rwlock_write(a, c.rw, in(10 * SECOND));
    CHECK(s == SX_OK || s == SX_OWNER_DIED);
    STATUS(sx_rwlock_write_end(a, c.rw, false), SX_OK);
    untouched(a, c.rw);
}

/* ---- deaths at every instruction -------------------------------------------------------------------------------- */

/* The victim is stopped before its operation, stepped n instructions into it and killed there. */
struct steps {
    struct crowd *c;
    void (*before)(struct crowd *c), (*operate)(struct crowd *c);
};

static void step_victim(void *argument)
{
    struct steps *s = argument;
    my_id(s->c->a);
    if (s->before != NULL)
        s->before(s->c);
    to_be_stepped();
    s->operate(s->c);
    stepped_through();
}

/* false: the operation was over before */
static bool killed_after(struct steps *s, long n, pthread_t (*meanwhile)(struct waiter *), struct waiter *w)
{
    int status;
    pid_t pid = spawn(step_victim, s);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    pthread_t t = meanwhile == NULL ? 0 : meanwhile(w);
    bool over = false;
    while (n-- > 0 && !over) {
        CHECK(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0);
        CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
        over = WSTOPSIG(status) == SIGSTOP;
    }
    killed(pid);
    if (meanwhile != NULL)
        joined(t);
    return !over;
}

static void step_read(struct crowd *c)
{
    real_read(c->a, c->rw, SX_NEVER);
    real_read(c->a, c->rw, SX_NEVER);
    real_read_end(c->a, c->rw);
    real_read_end(c->a, c->rw);
}
static void step_write(struct crowd *c)
{
    sx_rwlock_write(c->a, c->rw, SX_NEVER);
    c->pair[0]++;
    c->pair[1]++;
    sx_rwlock_write_end(c->a, c->rw, false);
}
static void step_downgrade(struct crowd *c)
{
    sx_rwlock_write(c->a, c->rw, SX_NEVER);
    c->pair[0]++;
    c->pair[1]++;
    sx_rwlock_downgrade(c->a, c->rw);
    sx_rwlock_write_end(c->a, c->rw, false);
}
static void step_upgrade(struct crowd *c)
{
    sx_rwlock_upgradable(c->a, c->rw, SX_NEVER);
    sx_rwlock_upgrade(c->a, c->rw, SX_NEVER);
    c->pair[0]++;
    c->pair[1]++;
    sx_rwlock_downgrade_upgraded(c->a, c->rw);
    sx_rwlock_upgradable_end(c->a, c->rw, false);
}
static void reading(struct crowd *c)
{
    real_read(c->a, c->rw, SX_NEVER);
}
static void read_no_more(struct crowd *c)
{
    real_read_end(c->a, c->rw);
}
static void writing(struct crowd *c)
{
    sx_rwlock_write(c->a, c->rw, SX_NEVER);
    c->pair[0]++;
}
static void write_no_more(struct crowd *c)
{
    c->pair[1]++;
    sx_rwlock_write_end(c->a, c->rw, false);
}
static void write_no_more_but_read(struct crowd *c)
{
    c->pair[1]++;
    sx_rwlock_downgrade(c->a, c->rw);
    sx_rwlock_write_end(c->a, c->rw, false);
}
/* one dies inside, the next one on the way in or out */
static void writer_is_dead(struct crowd *c)
{
    struct victim v = {.a = c->a, .rw = c->rw, .what = WRITES, .inside = shared(4), .threads = 1};
    pid_t pid = spawn(hold_all, &v);
    UNTIL(atomic_load(v.inside) == 1);
    killed(pid);
}
static void step_try(struct crowd *c)
{
    if (real_read(c->a, c->rw, 0) == SX_OK)
        real_read_end(c->a, c->rw);
}

static pthread_t asleep(struct waiter *w)
{
    pthread_t t = thread(want, w);
    UNTIL(waiting(w->a) == 1);
    return t;
}

/* Both sides get in, and are told of what may be torn. */
static bool sound(struct crowd *c, bool wrote)
{
    struct sx_arena *a = c->a;
    STATUS(sx_rwlock_read(a, c->rw, SX_NEVER), SX_OK);
    bool told = c->pair[0] == c->pair[1] || sx_rwlock_torn(a, c->rw);
    STATUS(sx_rwlock_read_end(a, c->rw), SX_OK);
    enum sx_status s = sx_rwlock_write(a, c->rw, SX_NEVER);
    CHECK(s == SX_OK || (s == SX_OWNER_DIED && wrote));
    told = told && (s == SX_OWNER_DIED || c->pair[0] == c->pair[1]);
    c->pair[1] = c->pair[0];
    STATUS(sx_rwlock_write_end(a, c->rw, false), SX_OK);
    untouched(a, c->rw);
    return told;
}

/* At every stride-th; with STRIDE=1 in the environment at every one, which takes a minute. */
static bool at_every_instruction(void (*before)(struct crowd *), void (*operate)(struct crowd *), int sleeper,
                                 bool wrote, int stride)
{
    struct sx_arena *a = arena_new();
    struct crowd c = {.a = a, .rw = rwlock(a, "rw"), .pair = shared(16)};
    struct steps s = {&c, before, operate};
    const char *given = getenv("STRIDE");
    bool good = true;
    long n = 0;
    stride = given != NULL ? atoi(given) : stride;
    sx_belt_off = true; /* no death here may need it */
    for (bool inside = true; inside; n += stride) {
        struct waiter w = {.a = a, .rw = c.rw, .reads = sleeper == READS};
        inside = killed_after(&s, n, sleeper < 0 ? NULL : asleep, &w);
        if (sleeper == WRITES && w.status == SX_OWNER_DIED)
            c.pair[1] = c.pair[0]; /* it was told, and has ended in good order */
        good = sound(&c, wrote) && good;
    }
    CHECK(n > 100);
    return good;
}

TEST(step_through_reading, FORKS | NATIVE, 60)
{
    CHECK(at_every_instruction(NULL, step_read, -1, false, 3));
}
TEST(step_through_writing, FORKS | NATIVE, 60)
{
    CHECK(at_every_instruction(NULL, step_write, -1, true, 11));
}
TEST(step_through_downgrading, FORKS | NATIVE, 60)
{
    CHECK(at_every_instruction(NULL, step_downgrade, -1, true, 13));
}
TEST(step_through_upgrading, FORKS | NATIVE, 60)
{
    CHECK(at_every_instruction(NULL, step_upgrade, -1, true, 13));
}
TEST(step_through_the_end_of_a_read_that_a_writer_awaits, FORKS | NATIVE | WAITV, 60)
{
    CHECK(at_every_instruction(reading, read_no_more, WRITES, false, 1));
}
TEST(step_through_the_end_of_a_write_that_a_reader_awaits, FORKS | NATIVE | WAITV, 60)
{
    CHECK(at_every_instruction(writing, write_no_more, READS, true, 1));
}
TEST(step_through_the_end_of_a_write_that_a_writer_awaits, FORKS | NATIVE | WAITV, 60)
{
    CHECK(at_every_instruction(writing, write_no_more, WRITES, true, 2));
}
TEST(step_through_a_downgrade_that_a_reader_awaits, FORKS | NATIVE | WAITV, 60)
{
    CHECK(at_every_instruction(writing, write_no_more_but_read, READS, true, 3));
}
TEST(step_through_the_repair_by_a_reader, FORKS | NATIVE, 60)
{
    CHECK(at_every_instruction(writer_is_dead, step_try, -1, true, 17));
}
TEST(step_through_the_repair_by_a_writer, FORKS | NATIVE, 60)
{
    CHECK(at_every_instruction(writer_is_dead, step_write, -1, true, 17));
}

/* ---- unlinked, adopted, full ------------------------------------------------------------------------------------ */
TEST(retired_while_they_sleep, 0, 60)
{
    struct sx_arena *a = arena_new();
    static const struct {
        bool holder_reads, waiter_reads;
    } pairs[] = {{false, true}, {false, false}, {true, false}};
    for (int i = 0; i < 3; i++) {
        struct sx_rwlock *rw = in_memory(a);
        const struct sx_kind_operations *kind = sx_kind_operations(SX_KIND_RWLOCK);
        bool holder_reads = pairs[i].holder_reads;
        sx_belt_off = true;
        STATUS(holder_reads ? sx_rwlock_read(a, rw, SX_NEVER) : sx_rwlock_write(a, rw, SX_NEVER), SX_OK);
        struct waiter w = {.a = a, .rw = rw, .reads = pairs[i].waiter_reads, .status = SX_BUSY};
        pthread_t t = thread(only_ask, &w);
        UNTIL(waiting(a) == 1);
        kind->retire(&rw->cell);
        joined(t);
        CHECK(w.status == SX_RETIRED && kind->retired(&rw->cell));
        STATUS(holder_reads ? sx_rwlock_read_end(a, rw) : sx_rwlock_write_end(a, rw, false), SX_OK);
        STATUS(real_read(a, rw, 0), SX_RETIRED);
        STATUS(sx_rwlock_write(a, rw, 0), SX_RETIRED);
    }
}

TEST(marks_run_out, 0, 60)
{
    struct sx_arena *a = arena_new();
    struct sx_rwlock *rw[SX_MARKS + 1];
    for (unsigned i = 0; i <= SX_MARKS; i++)
        rw[i] = in_memory(a);
    for (unsigned i = 0; i < SX_MARKS; i++)
        STATUS(real_read(a, rw[i], 0), SX_OK);
    STATUS(real_read(a, rw[SX_MARKS], 0), SX_TOO_MANY);
    STATUS(real_read(a, rw[7], 0), SX_OK);
    STATUS(sx_rwlock_write(a, rw[SX_MARKS], 0), SX_OK);
    STATUS(sx_rwlock_downgrade(a, rw[SX_MARKS]), SX_TOO_MANY);
    STATUS(sx_rwlock_write_end(a, rw[SX_MARKS], false), SX_OK);
    STATUS(real_read_end(a, rw[7]), SX_OK);
    for (unsigned i = 0; i < SX_MARKS; i++) { /* the gaps are used again */
        STATUS(real_read_end(a, rw[i]), SX_OK);
        STATUS(real_read(a, rw[SX_MARKS], 0), SX_OK);
        STATUS(real_read_end(a, rw[SX_MARKS]), SX_OK);
    }
    for (unsigned i = 0; i <= SX_MARKS; i++)
        untouched(a, rw[i]);
    CHECK(atomic_load(&sx_self.slot->marked) == 0);
}

/* ---- the broken twins ------------------------------------------------------------------------------------------- */
static enum sx_status read_without_mark(struct sx_arena *a, struct sx_rwlock *rw, int64_t deadline)
{
    (void)a, (void)rw, (void)deadline;
    return SX_OK;
}
static enum sx_status end_without_mark(struct sx_arena *a, struct sx_rwlock *rw)
{
    (void)a, (void)rw;
    return SX_OK;
}
static enum sx_status write_without_drain(struct sx_arena *a, struct sx_rwlock *rw, int64_t deadline)
{
    (void)deadline;
    enum sx_status s = sx_mutex_lock(a, &rw->writer, SX_NEVER);
    atomic_fetch_add(&rw->phase, RWLOCK_PRESENT | RWLOCK_INSIDE);
    return s;
}

static void condemned(const struct twin *twin)
{
    struct sx_arena *a = arena_new();
    int64_t end = in(30 * SECOND);
    struct contest c;
    do {
        c = contest(a, in_memory(a), twin, 6, 2000);
        contend_in_threads(&c);
    } while (excluded(&c) && sx_now() < end);
    CHECK(!excluded(&c));
}

TEST(twin_that_reads_without_a_mark, FORKS | HEAVY | NATIVE, 60)
{
    static const struct twin twin = {read_without_mark, end_without_mark, sx_rwlock_write, sx_rwlock_write_end};
    condemned(&twin);
}

TEST(twin_that_writes_among_readers, FORKS | HEAVY | NATIVE, 60)
{
    static const struct twin twin = {real_read, real_read_end, write_without_drain, sx_rwlock_write_end};
    condemned(&twin);
}

static void step_write_without_drain(struct crowd *c)
{
    sx_mutex_lock(c->a, &c->rw->writer, SX_NEVER);
    c->pair[0]++;
    c->pair[1]++;
    sx_mutex_unlock(c->a, &c->rw->writer, false);
}

TEST(twin_that_dies_without_a_word, FORKS | NATIVE, 60)
{
    CHECK(!at_every_instruction(NULL, step_write_without_drain, -1, true, 1));
}
