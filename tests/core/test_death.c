/* test_death.c: a holder dies.  Whoever waits goes on within BOUND, exactly one is told, and nobody is lost. */
#include "check.h"

struct death {
    struct sx_arena *arena;
    struct sx_mutex *mutex;
    sx_a32 held, go, stop;
    sx_a32 entered, told; /* waiters that got in, and those of them that got SX_OWNER_DIED */
    sx_a64 last_ns;       /* when the last of them got in */
    volatile uint64_t data;
    sx_a32 inside; /* pid of the process in the section; stays when it is killed there */
};

static struct death *death(void)
{
    struct death *d = shared(sizeof *d);
    d->arena = arena_new();
    return d;
}

static void holds_until_killed(void *argument)
{
    struct death *d = argument;
    STATUS(sx_mutex_lock(d->arena, d->mutex, SX_NEVER), SX_OK);
    gate_open(&d->held);
    pause();
}

static pid_t holder(struct death *d)
{
    d->held = 0;
    pid_t pid = spawn(holds_until_killed, d);
    gate_pass(&d->held);
    return pid;
}

static void *holds_and_ends(void *argument)
{
    struct death *d = argument;
    STATUS(sx_mutex_lock(d->arena, d->mutex, SX_NEVER), SX_OK);
    gate_open(&d->held);
    if (d->go != UINT32_MAX)
        gate_pass(&d->go);
    return NULL;
}

/* Told once, at the first look: the kernel's mark is there before the corpse can be waited for. */
static void told_once(struct death *d, uint32_t deaths)
{
    STATUS(sx_mutex_lock(d->arena, d->mutex, 0), SX_OWNER_DIED);
    CHECK(sx_mutex_mark(d->mutex, my_id(d->arena)));
    STATUS(sx_mutex_unlock(d->arena, d->mutex, false), SX_OK);
    for (int i = 0; i < 3; i++) {
        STATUS(sx_mutex_lock(d->arena, d->mutex, 0), SX_OK);
        CHECK(!sx_mutex_mark(d->mutex, my_id(d->arena)));
        STATUS(sx_mutex_unlock(d->arena, d->mutex, false), SX_OK);
    }
    CHECK(d->mutex->statistics.recoveries == deaths);
}

TEST(a_killed_holder_without_waiters, FORKS, 20)
{
    struct death *d = death();
    struct sx_mutex *places[] = {named(d->arena, "m", NULL), anonymous(d->arena), in_user_memory(d->arena)};
    for (int i = 0; i < 3; i++) {
        d->mutex = places[i];
        for (uint32_t n = 1; n <= 5; n++) {
            pid_t pid = holder(d);
            STATUS(sx_mutex_lock(d->arena, d->mutex, 0), SX_BUSY);
            killed(pid);
            told_once(d, n);
            CHECK(d->mutex->statistics.dead_pid == (uint32_t)pid && d->mutex->statistics.dead_tid == (uint32_t)pid);
        }
    }
    CHECK(d->arena->header->recoveries == 15);
}

static void got_in(struct death *d, enum sx_status s)
{
    CHECK(s == SX_OK || s == SX_OWNER_DIED);
    atomic_store(&d->last_ns, (uint64_t)sx_now());
    if (s == SX_OWNER_DIED)
        atomic_fetch_add(&d->told, 1);
    STATUS(sx_mutex_unlock(d->arena, d->mutex, false), SX_OK);
    atomic_fetch_add(&d->entered, 1);
    gate_pass(&d->stop); /* an end would wake whoever sleeps on the life word: nobody may need that */
}

static void *waits(void *argument)
{
    struct death *d = argument;
    got_in(d, sx_mutex_lock(d->arena, d->mutex, SX_NEVER));
    return NULL;
}

static void waits_in_a_process(void *argument)
{
    waits(argument);
}

static void all_get_in(struct death *d, uint32_t waiters, int64_t since)
{
    UNTIL(atomic_load(&d->entered) == waiters);
    CHECK(d->told == 1);
    IN_TIME((int64_t)d->last_ns - since, BOUND);
}

/* Without the belt: the kernel wakes one sleeper of the life word, and it passes that on. */
TEST(a_killed_holder_with_waiters, FORKS | WAITV, 30)
{
    sx_belt_off = true;
    struct death *d = death();
    struct sx_mutex *places[] = {named(d->arena, "m", NULL), anonymous(d->arena), in_user_memory(d->arena)};
    for (int i = 0; i < 3; i++) {
        pthread_t threads[3];
        pid_t pids[3];
        d->mutex = places[i];
        d->entered = d->told = d->stop = 0;
        pid_t pid = holder(d);
        for (int n = 0; n < 3; n++)
            pids[n] = spawn(waits_in_a_process, d);
        for (int n = 0; n < 3; n++)
            threads[n] = thread(waits, d);
        UNTIL(sleepers(d->arena, d->mutex) == 6);
        int64_t start = sx_now();
        killed(pid);
        all_get_in(d, 6, start);
        gate_open(&d->stop);
        for (int n = 0; n < 3; n++) {
            ended_well(pids[n]);
            joined(threads[n]);
        }
        CHECK(d->mutex->statistics.rescues == 0);
    }
}

/* It held several locks, and each has a sleeper: the kernel wakes one of them, for its own lock, which tells the rest. */
enum { SEVERAL = 6 };

static void holds_several_until_killed(void *argument)
{
    struct death *d = argument;
    for (int i = 0; i < SEVERAL; i++)
        STATUS(sx_mutex_lock(d[i].arena, d[i].mutex, SX_NEVER), SX_OK);
    gate_open(&d->held);
    pause();
}

TEST(a_killed_holder_of_several, FORKS | WAITV, 30)
{
    sx_belt_off = true;
    struct death *d = shared(SEVERAL * sizeof *d);
    pthread_t threads[SEVERAL];
    struct sx_arena *a = arena_new();
    for (int i = 0; i < SEVERAL; i++)
        d[i].arena = a, d[i].mutex = anonymous(a);
    pid_t pid = spawn(holds_several_until_killed, d);
    gate_pass(&d->held);
    for (int i = 0; i < SEVERAL; i++)
        threads[i] = thread(waits, &d[i]);
    for (int i = 0; i < SEVERAL; i++)
        UNTIL(sleepers(a, d[i].mutex) == 1);
    int64_t start = sx_now();
    killed(pid);
    for (int i = 0; i < SEVERAL; i++)
        all_get_in(&d[i], 1, start);
    for (int i = 0; i < SEVERAL; i++) {
        gate_open(&d[i].stop);
        joined(threads[i]);
    }
}

/* One dies after another, each while the rest wait: each death is told once. */
static void waits_and_is_killed(void *argument)
{
    struct death *d = argument;
    enum sx_status s = sx_mutex_lock(d->arena, d->mutex, SX_NEVER);
    CHECK(s == SX_OWNER_DIED);
    atomic_store(&d->inside, (uint32_t)getpid());
    pause();
}

TEST(a_chain_of_deaths, FORKS | WAITV, 30)
{
    sx_belt_off = true;
    struct death *d = death();
    d->mutex = named(d->arena, "m", NULL);
    pid_t pid = holder(d);
    for (int i = 0; i < 8; i++)
        spawn(waits_and_is_killed, d);
    UNTIL(sleepers(d->arena, d->mutex) == 8);
    for (int i = 0; i < 8; i++) {
        int64_t start = sx_now();
        d->inside = 0;
        killed(pid);
        UNTIL(d->inside != 0);
        IN_TIME(sx_now() - start, BOUND);
        pid = (pid_t)d->inside;
    }
    killed(pid);
    told_once(d, 9);
    CHECK(d->mutex->statistics.rescues == 0);
}

/* ---- a thread ends, its process lives ----------------------------------------------------------------------- */
TEST(a_thread_ends_while_holding, 0, 20)
{
    struct death *d = death();
    d->mutex = named(d->arena, "m", NULL);
    d->go = UINT32_MAX;
    for (uint32_t n = 1; n <= 20; n++) {
        joined(thread(holds_and_ends, d));
        told_once(d, n);
    }
}

TEST(a_thread_ends_while_holding_and_others_wait, WAITV, 20)
{
    sx_belt_off = true;
    struct death *d = death();
    d->mutex = named(d->arena, "m", NULL);
    pthread_t threads[4], ending = thread(holds_and_ends, d);
    gate_pass(&d->held);
    for (int n = 0; n < 4; n++)
        threads[n] = thread(waits, d);
    UNTIL(sleepers(d->arena, d->mutex) == 4);
    int64_t start = sx_now();
    gate_open(&d->go);
    joined(ending);
    all_get_in(d, 4, start);
    gate_open(&d->stop);
    for (int n = 0; n < 4; n++)
        joined(threads[n]);
    CHECK(d->mutex->statistics.rescues == 0);
}

/* The process ends in good order, by finish(), in the middle of a section: also a death. */
static void holds_and_leaves(void *argument)
{
    struct death *d = argument;
    STATUS(sx_mutex_lock(d->arena, d->mutex, SX_NEVER), SX_OK);
}

TEST(a_process_leaves_while_holding, FORKS, 20)
{
    struct death *d = death();
    d->mutex = named(d->arena, "m", NULL);
    for (uint32_t n = 1; n <= 5; n++) {
        ended_well(spawn(holds_and_leaves, d));
        told_once(d, n);
    }
}

/* ---- the mark ------------------------------------------------------------------------------------------------ */
static void *dies_holding(void *argument)
{
    struct death *d = argument;
    enum sx_status s = sx_mutex_lock(d->arena, d->mutex, SX_NEVER);
    CHECK(s == SX_OK || s == SX_OWNER_DIED);
    return NULL;
}

TEST(the_mark_is_kept_until_it_is_cleared, 0, 20)
{
    struct death *d = death();
    struct sx_mutex *m = d->mutex = named(d->arena, "m", NULL);
    for (int sleepers_may_be = 0; sleepers_may_be <= 1; sleepers_may_be++) {
        joined(thread(dies_holding, d));
        for (int i = 0; i < 5; i++) {
            STATUS(sx_mutex_lock(d->arena, m, 0), SX_OWNER_DIED);
            if (sleepers_may_be) /* the release then goes through the kernel */
                atomic_fetch_or(&m->word, MUTEX_WAITERS);
            STATUS(sx_mutex_unlock(d->arena, m, true), SX_OK);
            CHECK(m->word & MUTEX_OWNER_DIED);
        }
        STATUS(sx_mutex_lock(d->arena, m, 0), SX_OWNER_DIED);
        joined(thread(dies_holding, &(struct death){.arena = d->arena, .mutex = anonymous(d->arena)}));
        CHECK(sx_mutex_mark(m, my_id(d->arena)));
        sx_mutex_clear_mark(m, my_id(d->arena));
        CHECK(!sx_mutex_mark(m, my_id(d->arena)));
        STATUS(sx_mutex_unlock(d->arena, m, true), SX_OK);
        STATUS(sx_mutex_lock(d->arena, m, 0), SX_OK);
        STATUS(sx_mutex_unlock(d->arena, m, true), SX_OK); /* nothing to keep */
        STATUS(sx_mutex_lock(d->arena, m, 0), SX_OK);
        STATUS(sx_mutex_unlock(d->arena, m, false), SX_OK);
    }
    /* a holder that died with the mark leaves one mark, not two */
    joined(thread(dies_holding, d));
    joined(thread(dies_holding, d));
    told_once(d, 4);
    /* a thread that does not hold it can do nothing to the mark */
    joined(thread(dies_holding, d));
    sx_mutex_clear_mark(m, my_id(d->arena));
    STATUS(sx_mutex_lock(d->arena, m, 0), SX_OWNER_DIED);
}

/* A recursion that its owner died in does not go on in the next owner. */
static void *dies_deep(void *argument)
{
    struct death *d = argument;
    STATUS(sx_mutex_lock(d->arena, d->mutex, SX_NEVER), SX_OK);
    for (int i = 0; i < 5; i++)
        CHECK(sx_rlock_again(d->mutex, my_id(d->arena)));
    return NULL;
}

TEST(the_count_dies_with_its_owner, 0, 20)
{
    struct death *d = death();
    d->mutex = named(d->arena, "m", NULL);
    joined(thread(dies_deep, d));
    STATUS(sx_mutex_lock(d->arena, d->mutex, 0), SX_OWNER_DIED);
    CHECK(!sx_rlock_back(d->mutex, my_id(d->arena)));
}

/* ---- killed at any moment --------------------------------------------------------------------------------- */
static void busy(void *argument)
{
    struct death *d = argument;
    for (uint32_t i = 0;; i++) {
        enum sx_status s = sx_mutex_lock(d->arena, d->mutex, i % 2 == 0 ? SX_NEVER : in(MS));
        if (s == SX_TIMEOUT)
            continue;
        CHECK(s == SX_OK || s == SX_OWNER_DIED);
        if (d->inside != 0 && s != SX_OWNER_DIED)
            FAIL("%u died inside, or is inside, and nobody was told", d->inside);
        d->inside = (uint32_t)getpid();
        for (uint32_t n = 0; n < i * 7 % 40; n++)
            d->data++;
        if (d->inside != (uint32_t)getpid())
            FAIL("%u came in beside %d", d->inside, (int)getpid());
        d->inside = 0;
        STATUS(sx_mutex_unlock(d->arena, d->mutex, false), SX_OK);
        atomic_fetch_add(&d->entered, 1);
    }
}

/* Alone, so that the word tells what is due: SX_OWNER_DIED if it names the dead, and nothing if it does not. */
TEST(killed_at_random_alone, FORKS, 30)
{
    struct death *d = death();
    d->mutex = named(d->arena, "m", NULL);
    uint32_t deaths = 0;
    for (int i = 0; i < rounds(400); i++) {
        d->entered = d->inside = 0;
        pid_t pid = spawn(busy, d);
        UNTIL(d->entered != 0);
        usleep((useconds_t)(random64() % 400));
        killed(pid);
        if (!sx_is_free(d->mutex->word)) {
            told_once(d, ++deaths);
        } else {
            STATUS(sx_mutex_lock(d->arena, d->mutex, 0), SX_OK);
            STATUS(sx_mutex_unlock(d->arena, d->mutex, false), SX_OK);
        }
    }
    CHECK(slow_machine || deaths > 20);
}

/* In a crowd: after each death the others go on within the bound, whether the dead held the lock, slept for it, or
 * was on its way with a wake that died with it. */
TEST(killed_at_random_in_a_crowd, FORKS, 60)
{
    struct death *d = death();
    d->mutex = named(d->arena, "m", NULL);
    pid_t pids[4];
    for (int n = 0; n < 4; n++)
        pids[n] = spawn(busy, d);
    for (int i = 0; i < rounds(400); i++) {
        usleep((useconds_t)(random64() % 3000));
        int victim = (int)(random64() % 4);
        killed(pids[victim]);
        uint32_t before = d->entered;
        int64_t start = sx_now();
        while (d->entered == before) {
            IN_TIME(sx_now() - start, BOUND);
            CHECK(sx_now() - start < 10 * SECOND);
            usleep(100);
        }
        pids[victim] = spawn(busy, d);
    }
    for (int n = 0; n < 4; n++) {
        int status;
        CHECK(waitpid(pids[n], &status, WNOHANG) == 0); /* none has failed */
        killed(pids[n]);
    }
    CHECK(usable(d->arena, d->mutex));
}

/* The one that was woken is killed before it runs: its wake dies with it, and the belt of the next makes it good. */
static void waits_in_a_process_and_stays(void *argument)
{
    struct death *d = argument;
    enum sx_status s = sx_mutex_lock(d->arena, d->mutex, SX_NEVER);
    CHECK(s == SX_OK || s == SX_OWNER_DIED);
    atomic_store(&d->last_ns, (uint64_t)sx_now());
    STATUS(sx_mutex_unlock(d->arena, d->mutex, false), SX_OK);
    atomic_store(&d->entered, 1);
}

TEST(a_wake_that_dies_with_the_woken, FORKS, 60)
{
    struct death *d = death();
    d->mutex = named(d->arena, "m", NULL);
    /* until the wake was quicker than the stop at least once */
    for (int i = 0; i < rounds(25) || d->mutex->statistics.rescues == 0; i++) {
        d->entered = 0;
        enum sx_status s = sx_mutex_lock(d->arena, d->mutex, in(SECOND));
        CHECK(s == SX_OK || s == SX_OWNER_DIED);
        pid_t first = spawn(waits_in_a_process_and_stays, d);
        UNTIL(sleepers(d->arena, d->mutex) == 1);
        pid_t second = spawn(waits_in_a_process_and_stays, d);
        UNTIL(sleepers(d->arena, d->mutex) == 2);
        kill(first, SIGSTOP); /* woken, but it cannot run: then it is killed */
        int64_t start = sx_now();
        STATUS(sx_mutex_unlock(d->arena, d->mutex, false), SX_OK);
        killed(first);
        ended_well(second);
        CHECK(d->entered == 1);
        IN_TIME((int64_t)d->last_ns - start, BOUND);
    }
    CHECK(d->mutex->statistics.rescues != 0);
}
