/* test_once.c: at most one runs, at least one runs to the end, and whoever is killed meanwhile changes nothing of that.
 *
 * The oracle counts those inside and those that came to the end; it must condemn the twins at the end of the file.
 */
#include "check.h"

#define RUNNERS 4

struct scene {
    struct sx_arena *arena;
    struct sx_once *once;
    enum sx_status (*begin)(struct sx_arena *, struct sx_once *, int64_t, bool *);
    int fails;  /* so many initialisers give up */
    bool stays; /* inside, until killed */
    sx_a32 inside, overlaps, begun, ended, wrong, entered, go;
};

static struct sx_once *once_at(struct sx_arena *a, const char *name)
{
    struct sx_object o;
    enum sx_kind found;
    STATUS(open_named(a, name, (uint32_t)strlen(name), SX_KIND_ONCE, SX_CREATE, &o, &found), SX_OK);
    return (struct sx_once *)o.cell;
}

static struct scene *scene(const char *name)
{
    struct scene *s = shared(sizeof *s);
    s->arena = arena_new();
    s->once = once_at(s->arena, name);
    s->begin = sx_once_begin;
    return s;
}

static const char the_result[] = "a result of some length, so that a torn one would be seen: 0123456789 0123456789";

/* What each participant does; relaxed throughout, for the oracle must not order what the object ought to. */
static void take_part(struct scene *s)
{
    bool done;
    enum sx_status status = s->begin(s->arena, s->once, SX_NEVER, &done);
    CHECK(status == SX_OK || status == SX_OWNER_DIED);
    if (!done) {
        if (atomic_fetch_add_explicit(&s->inside, 1, memory_order_relaxed) != 0)
            atomic_fetch_add_explicit(&s->overlaps, 1, memory_order_relaxed);
        uint32_t n = atomic_fetch_add_explicit(&s->begun, 1, memory_order_relaxed);
        for (int i = 0; i < 20; i++)
            sched_yield();
        bool gives_up = (int)n < s->fails;
        if (!gives_up)
            atomic_fetch_add_explicit(&s->ended, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&s->inside, 1, memory_order_relaxed);
        if (gives_up) {
            STATUS(sx_once_abandon(s->arena, s->once), SX_OK);
            return;
        }
        STATUS(sx_once_finish(s->arena, s->once, the_result, sizeof the_result), SX_OK);
    }
    if (atomic_load_explicit(&s->ended, memory_order_relaxed) != 1)
        atomic_fetch_add(&s->wrong, 1);
    char result[SX_ONCE_RESULT];
    uint32_t length;
    status = sx_once_read(s->once, result, &length);
    if (status != SX_OK || length != sizeof the_result || memcmp(result, the_result, length) != 0)
        atomic_fetch_add(&s->wrong, 1);
}

static void takes_part(void *argument)
{
    struct scene *s = argument;
    gate_pass(&s->go);
    take_part(s);
}

static void *thread_takes_part(void *argument)
{
    takes_part(argument);
    return NULL;
}

static bool went_well(struct scene *s)
{
    return s->overlaps == 0 && s->ended == 1 && s->wrong == 0 && (int)s->begun == 1 + s->fails;
}

static bool by_processes(struct scene *s)
{
    pid_t pids[RUNNERS];
    for (int i = 0; i < RUNNERS; i++)
        pids[i] = spawn(takes_part, s);
    gate_open(&s->go);
    return all_end(pids, RUNNERS, 10 * SECOND) && went_well(s);
}

static void by_threads(struct scene *s)
{
    pthread_t threads[RUNNERS];
    for (int i = 0; i < RUNNERS; i++)
        threads[i] = thread(thread_takes_part, s);
    gate_open(&s->go);
    for (int i = 0; i < RUNNERS; i++)
        joined(threads[i]);
    CHECK(went_well(s));
}

TEST(once_among_threads, 0, 30)
{
    sx_belt_off = true;
    for (int i = 0; i < rounds(50); i++) {
        char name[32];
        snprintf(name, sizeof name, "once %d", i);
        struct scene *s = scene(name);
        s->fails = i % 3;
        by_threads(s);
    }
}

TEST(once_among_processes, FORKS | HEAVY, 30)
{
    sx_belt_off = true;
    for (int i = 0; i < rounds(50); i++) {
        char name[32];
        snprintf(name, sizeof name, "once %d", i);
        struct scene *s = scene(name);
        s->fails = i % 3;
        CHECK(by_processes(s));
    }
}

TEST(once_alone, 0, 20)
{
    struct scene *s = scene("once");
    char result[SX_ONCE_RESULT], long_one[SX_ONCE_RESULT + 1] = {1};
    uint32_t length;
    bool done;
    STATUS(sx_once_read(s->once, result, &length), SX_BUSY);
    STATUS(sx_once_finish(s->arena, s->once, "", 0), SX_NOT_OWNER);
    STATUS(sx_once_abandon(s->arena, s->once), SX_NOT_OWNER);
    STATUS(sx_once_begin(s->arena, s->once, SX_NEVER, &done), SX_OK);
    CHECK(!done);
    STATUS(sx_once_begin(s->arena, s->once, SX_NEVER, &done), SX_DEADLOCK);
    STATUS(sx_once_begin(s->arena, s->once, in(SECOND), &done), SX_DEADLOCK); /* and does not wait for it */
    STATUS(sx_once_begin(s->arena, s->once, 0, &done), SX_DEADLOCK);
    STATUS(sx_once_finish(s->arena, s->once, long_one, sizeof long_one), SX_TOO_MANY);
    CHECK(!sx_once_done(s->once));
    STATUS(sx_once_finish(s->arena, s->once, long_one, SX_ONCE_RESULT), SX_OK);
    STATUS(sx_once_begin(s->arena, s->once, 0, &done), SX_OK);
    CHECK(done);
    STATUS(sx_once_read(s->once, result, &length), SX_OK);
    CHECK(length == SX_ONCE_RESULT && memcmp(result, long_one, length) == 0);
    struct scene *empty = scene("empty");
    STATUS(sx_once_begin(s->arena, empty->once, SX_NEVER, &done), SX_OK);
    STATUS(sx_once_finish(s->arena, empty->once, "", 0), SX_OK);
    STATUS(sx_once_read(empty->once, result, &length), SX_OK);
    CHECK(length == 0);
}

static void finds_it_running(void *argument)
{
    struct scene *s = argument;
    bool done;
    STATUS(sx_once_begin(s->arena, s->once, 0, &done), SX_BUSY);
    STATUS(sx_once_begin(s->arena, s->once, in(150 * MS), &done), SX_TIMEOUT);
    STATUS(sx_once_finish(s->arena, s->once, "x", 1), SX_NOT_OWNER); /* forked by the runner: not the runner */
    STATUS(sx_once_abandon(s->arena, s->once), SX_NOT_OWNER);
}

TEST(once_the_others_wait_by_the_clock, FORKS, 20)
{
    struct scene *s = scene("once");
    bool done;
    STATUS(sx_once_begin(s->arena, s->once, SX_NEVER, &done), SX_OK);
    ended_well(spawn(finds_it_running, s));
    CHECK(s->once->statistics.contended == 1);
    STATUS(sx_once_finish(s->arena, s->once, "x", 1), SX_OK);
}

/* Nobody who has a time limit is told that the time was over where the result was there by then: the runner may be
 * stopped between storing it and giving the mutex back, and those who only look hold the mutex for a moment. */
struct stored {
    struct scene *scene;
    _Atomic int64_t at;
};

static void waits_by_the_clock(void *argument)
{
    struct stored *stored = argument;
    struct scene *s = stored->scene;
    bool done = false;
    while (!done) {
        int64_t deadline = in(300 * MS);
        enum sx_status status = sx_once_begin(s->arena, s->once, deadline, &done);
        CHECK(status == SX_OK || status == SX_TIMEOUT);
        CHECK(done == (status == SX_OK));
        int64_t at = stored->at;
        CHECK(done || at == 0 || at >= deadline);
    }
}

TEST(once_a_result_that_is_there_is_told_at_the_end_of_the_time, FORKS, 20)
{
    struct scene *s = scene("once");
    struct stored *stored = shared(sizeof *stored);
    bool done;
    stored->scene = s;
    STATUS(sx_once_begin(s->arena, s->once, SX_NEVER, &done), SX_OK);
    pid_t waiter = spawn(waits_by_the_clock, stored);
    UNTIL(sleepers(s->arena, &s->once->running) == 1);
    atomic_fetch_or(&s->once->word, ONCE_DONE); /* as sx_once_finish, as far as it has come */
    stored->at = sx_now();
    ended_well(waiter);
    STATUS(sx_once_finish(s->arena, s->once, "x", 1), SX_OK);
}

/* ---- deaths -------------------------------------------------------------------------------------------------- */
static void runs_until_killed(void *argument)
{
    struct scene *s = argument;
    bool done;
    enum sx_status status = sx_once_begin(s->arena, s->once, SX_NEVER, &done);
    CHECK(status == SX_OK || status == SX_OWNER_DIED);
    gate_open(&s->entered);
    if (s->stays)
        pause();
    for (;;) { /* writing all the time */
        memset(s->once->result, 0x55, SX_ONCE_RESULT);
        s->once->length = 0x55555555;
    }
}

/* Killed inside, again and again, with others waiting: exactly one of those runs. */
TEST(once_the_runner_is_killed, FORKS | HEAVY, 40)
{
    for (int i = 0; i < rounds(20); i++) {
        char name[32];
        snprintf(name, sizeof name, "once %d", i);
        struct scene *s = scene(name);
        s->stays = i % 2;
        for (uint32_t deaths = 1; deaths <= 2; deaths++) {
            s->entered = 0;
            pid_t victim = spawn(runs_until_killed, s);
            gate_pass(&s->entered);
            if (deaths == 1) {
                killed(victim);
                continue;
            }
            pid_t pids[RUNNERS];
            gate_open(&s->go);
            for (int j = 0; j < RUNNERS; j++)
                pids[j] = spawn(takes_part, s);
            UNTIL(sleepers(s->arena, &s->once->running) == RUNNERS);
            killed(victim);
            CHECK(all_end(pids, RUNNERS, 10 * SECOND));
            CHECK(s->once->statistics.dead_pid == (uint32_t)victim);
        }
        CHECK(went_well(s));
        CHECK(s->once->statistics.recoveries == 2);
    }
}

static void takes_part_and_tells(void *argument)
{
    struct scene *s = argument;
    gate_open(&s->entered);
    take_part(s);
}

/* At any instant of the whole: what is done is done whole, or the next one runs. */
TEST(once_somebody_is_killed_anywhere, FORKS | HEAVY, 60)
{
    for (int i = 0; i < rounds(150); i++) {
        char name[32];
        snprintf(name, sizeof name, "once %d", i);
        struct scene *s = scene(name);
        pid_t victim = spawn(takes_part_and_tells, s);
        gate_pass(&s->entered);
        for (int64_t end = in((int64_t)(random64() % 60000)); sx_now() < end;)
            ;
        killed(victim);
        bool done = sx_once_done(s->once);
        uint32_t ended = s->ended;
        CHECK(!done || ended == 1);
        s->inside = 0;
        s->ended = done; /* one that ended unseen did not count */
        s->begun = done;
        CHECK(by_processes(s));
    }
}

/* ---- unlinked ------------------------------------------------------------------------------------------------ */
static void is_told_of_the_end(void *argument)
{
    struct scene *s = argument;
    bool done;
    STATUS(sx_once_begin(s->arena, s->once, SX_NEVER, &done), SX_RETIRED);
}

TEST(once_unlinked_while_it_runs, FORKS, 20)
{
    sx_belt_off = true;
    struct scene *s = scene("once");
    bool done;
    STATUS(sx_once_begin(s->arena, s->once, SX_NEVER, &done), SX_OK);
    pid_t pids[RUNNERS];
    for (int i = 0; i < RUNNERS; i++)
        pids[i] = spawn(is_told_of_the_end, s);
    UNTIL(sleepers(s->arena, &s->once->running) == RUNNERS);
    STATUS(sx_object_unlink(s->arena, "once", 4, false), SX_IN_USE);
    STATUS(sx_object_unlink(s->arena, "once", 4, true), SX_OK);
    CHECK(all_end(pids, RUNNERS, 10 * SECOND));
    STATUS(sx_once_finish(s->arena, s->once, the_result, sizeof the_result), SX_OK);
    STATUS(sx_once_begin(s->arena, s->once, 0, &done), SX_RETIRED);
}

/* ---- damage -------------------------------------------------------------------------------------------------- */
TEST(once_a_damaged_result_is_told, 0, 20)
{
    struct scene *s = scene("once");
    char result[SX_ONCE_RESULT];
    uint32_t length;
    bool done;
    STATUS(sx_once_begin(s->arena, s->once, SX_NEVER, &done), SX_OK);
    STATUS(sx_once_finish(s->arena, s->once, the_result, sizeof the_result), SX_OK);
    for (size_t bit = 0; bit < 8 * sizeof the_result; bit++) {
        s->once->result[bit / 8] ^= (unsigned char)(1 << bit % 8);
        STATUS(sx_once_read(s->once, result, &length), SX_DAMAGED);
        s->once->result[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    STATUS(sx_once_read(s->once, result, &length), SX_OK);
    for (uint32_t bad = SX_ONCE_RESULT + 1; bad != 0; bad *= 2) {
        s->once->length = bad;
        STATUS(sx_once_read(s->once, result, &length), SX_DAMAGED);
    }
}

/* ---- the broken twins: the oracle must see them ---------------------------------------------------------------- */
static enum sx_status done_before_it_ran(struct sx_arena *a, struct sx_once *o, int64_t deadline, bool *done)
{
    enum sx_status s = sx_once_begin(a, o, deadline, done);
    if (s == SX_OK && !*done)
        atomic_fetch_or(&o->word, ONCE_DONE);
    return s;
}
static enum sx_status excludes_nobody(struct sx_arena *a, struct sx_once *o, int64_t deadline, bool *done)
{
    (void)deadline;
    o->running.word = my_id(a);
    *done = sx_once_done(o);
    return SX_OK;
}

static void twin_takes_part(void *argument)
{
    struct scene *s = argument;
    bool done;
    STATUS(s->begin(s->arena, s->once, SX_NEVER, &done), SX_OK);
    gate_open(&s->entered);
    pause();
}

/* Each is stopped where it went wrong, so that the oracle cannot miss it by luck. */
TEST(twins_of_once_are_seen, FORKS | NATIVE, 40)
{
    struct scene *s = scene("done before");
    s->begin = done_before_it_ran;
    pid_t victim = spawn(twin_takes_part, s);
    gate_pass(&s->entered);
    CHECK(!by_processes(s)); /* nobody runs, and all take it for done */
    killed(victim);
    CHECK(s->ended == 0 && s->wrong >= RUNNERS);

    s = scene("excludes nobody");
    s->begin = excludes_nobody;
    s->inside = 1;
    victim = spawn(twin_takes_part, s);
    gate_pass(&s->entered);
    spawn(takes_part, s);
    gate_open(&s->go);
    UNTIL(s->overlaps == 1);
    killed(victim);
}
