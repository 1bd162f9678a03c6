/* test_marks.c: the holder is dead, and its life word does not say so.
 *
 * The kernel did not walk the thread's robust list to our entry, or found that the thread's tid had changed.  Then the
 * belt of a waiter, or every so often a try, asks the second witness, and whoever is left goes on within BOUND.  The
 * same questions must never condemn somebody who lives.
 */
#include "check.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum way { EXECVE, EXECVE_UNMARKED, TOO_MANY, UNMAPPED };

struct scene {
    struct sx_arena *arena;
    struct sx_mutex *mutex;
    enum way way;
    sx_a32 held, go, done, stop;
    sx_a32 pid; /* of a process that the holder has started */
};

static struct scene *scene(void)
{
    struct scene *s = shared(sizeof *s);
    s->arena = arena_new();
    s->mutex = named(s->arena, "m", NULL);
    return s;
}

/* Locks so many other robust mutexes that the kernel, which looks at 2,048, does not get to our entry: the entry made
 * last comes first. */
static void lock_robust(pthread_mutex_t *mutexes, int n)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    for (int i = 0; i < n; i++) {
        CHECK(pthread_mutex_init(&mutexes[i], &attr) == 0);
        CHECK(pthread_mutex_lock(&mutexes[i]) == 0);
    }
    pthread_mutexattr_destroy(&attr);
}

static void lose_the_mark(enum way way)
{
    if (way == TOO_MANY || way == EXECVE_UNMARKED) {
        lock_robust(shared(2100 * sizeof(pthread_mutex_t)), 2100);
    } else if (way == UNMAPPED) {
        void *page = shared(4096);
        lock_robust(page, 1);
        munmap(page, 4096);
    }
}

static void *holds(void *argument)
{
    struct scene *s = argument;
    STATUS(sx_mutex_lock(s->arena, s->mutex, SX_NEVER), SX_OK);
    lose_the_mark(s->way);
    gate_open(&s->held);
    if (s->way <= EXECVE_UNMARKED) {
        gate_pass(&s->go);
        execl("/proc/self/exe", "coretests", "--pause", (char *)NULL);
        FAIL("execve: %s", strerror(errno));
    }
    for (;;)
        pause();
}

static void holds_in_a_thread(void *argument)
{
    struct scene *s = argument;
    joined(thread(holds, s));
}

static void holds_in_the_main_thread(void *argument)
{
    holds(argument);
}

static enum sx_life by_the_words(struct scene *s, uint64_t holder)
{
    uint32_t value;
    return sx_holder_life(s->arena, holder, &value);
}

/* Makes a holder in another process and lets it die in the given way; what is left is a word that seems alive. */
static pid_t dies(struct scene *s, enum way way, bool in_a_thread)
{
    s->way = way;
    s->held = s->go = 0;
    pid_t pid = spawn(in_a_thread ? holds_in_a_thread : holds_in_the_main_thread, s);
    gate_pass(&s->held);
    if (way <= EXECVE_UNMARKED) {
        char path[64], name[32] = "";
        snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
        gate_open(&s->go);
        while (memcmp(name, "coretests", 10) != 0) { /* until the other program runs */
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            CHECK(fd >= 0);
            ssize_t n = read(fd, name, sizeof name - 1);
            name[n > 0 ? n : 0] = 0;
            close(fd);
            usleep(200);
        }
    } else {
        killed(pid);
    }
    return pid;
}

static void recovered(struct scene *s, int64_t start)
{
    IN_TIME(sx_now() - start, BOUND);
    STATUS(sx_mutex_unlock(s->arena, s->mutex, false), SX_OK);
    CHECK(usable(s->arena, s->mutex));
}

static void a_waiter_recovers(struct scene *s)
{
    int64_t start = sx_now();
    STATUS(sx_mutex_lock(s->arena, s->mutex, in(10 * SECOND)), SX_OWNER_DIED);
    recovered(s, start);
}

static void a_tryer_recovers(struct scene *s)
{
    enum sx_status status;
    int64_t start = sx_now();
    while ((status = sx_mutex_lock(s->arena, s->mutex, 0)) == SX_BUSY && sx_now() - start < 10 * SECOND)
        usleep(1000);
    STATUS(status, SX_OWNER_DIED);
    recovered(s, start);
}

/* Each wait is shorter than the belt: the look after the deadline asks. */
static void an_impatient_waiter_recovers(struct scene *s)
{
    enum sx_status status;
    int64_t start = sx_now();
    while ((status = sx_mutex_lock(s->arena, s->mutex, in(5 * MS))) == SX_TIMEOUT && sx_now() - start < 10 * SECOND)
        ;
    STATUS(status, SX_OWNER_DIED);
    recovered(s, start);
}

static void the_mark_is_missing(enum way way, bool in_a_thread)
{
    static void (*const recover[])(struct scene *) = {a_waiter_recovers, a_tryer_recovers,
                                                      an_impatient_waiter_recovers};
    struct scene *s = scene();
    uint32_t before = s->mutex->statistics.recoveries;
    for (uint32_t i = 0; i < 3; i++) {
        pid_t pid = dies(s, way, in_a_thread);
        CHECK(by_the_words(s, s->mutex->word) == SX_ALIVE); /* or the test shows nothing */
        recover[i](s);
        if (way <= EXECVE_UNMARKED) {
            CHECK(kill(pid, 0) == 0); /* the other program is still there */
            killed(pid);
        }
        CHECK(s->mutex->statistics.recoveries == before + i + 1);
    }
}

TEST(execve_from_another_thread, FORKS | NATIVE, 30)
{
    the_mark_is_missing(EXECVE, true);
}
/* pid, tid and start time stay the same: only the mapping is gone */
TEST(execve_from_the_main_thread_without_a_mark, FORKS | NATIVE, 30)
{
    the_mark_is_missing(EXECVE_UNMARKED, false);
}
TEST(more_robust_mutexes_than_the_kernel_walks, FORKS | NATIVE, 30)
{
    the_mark_is_missing(TOO_MANY, false);
    the_mark_is_missing(TOO_MANY, true);
}
TEST(a_robust_mutex_that_was_unmapped, FORKS | NATIVE, 30)
{
    the_mark_is_missing(UNMAPPED, false);
    the_mark_is_missing(UNMAPPED, true);
}

TEST(execve_from_the_main_thread, FORKS | NATIVE, 30)
{
    struct scene *s = scene();
    pid_t pid = dies(s, EXECVE, false);
    int64_t start = sx_now();
    STATUS(sx_mutex_lock(s->arena, s->mutex, 0), SX_OWNER_DIED); /* the kernel's mark, at once */
    recovered(s, start);
    killed(pid);
}

static void *waits(void *argument)
{
    struct scene *s = argument;
    enum sx_status status = sx_mutex_lock(s->arena, s->mutex, SX_NEVER);
    CHECK(status == SX_OK || status == SX_OWNER_DIED);
    STATUS(sx_mutex_unlock(s->arena, s->mutex, false), SX_OK);
    atomic_fetch_add(&s->done, 1);
    return NULL;
}

/* They slept before the holder died. */
TEST(sleepers_of_before_recover_too, FORKS | NATIVE, 30)
{
    struct scene *s = scene();
    pthread_t threads[5];
    s->way = TOO_MANY;
    pid_t pid = spawn(holds_in_a_thread, s);
    gate_pass(&s->held);
    for (int i = 0; i < 5; i++)
        threads[i] = thread(waits, s);
    UNTIL(sleepers(s->arena, s->mutex) == 5);
    killed(pid);
    int64_t start = sx_now();
    UNTIL(s->done == 5);
    IN_TIME(sx_now() - start, BOUND);
    for (int i = 0; i < 5; i++)
        joined(threads[i]);
    CHECK(s->mutex->statistics.recoveries == 1);
}

/* ---- the thread is gone, its process lives: the tid tells ---------------------------------------------------- */
static void *holds_and_is_cut_off(void *argument)
{
    struct scene *s = argument;
    STATUS(sx_mutex_lock(s->arena, s->mutex, SX_NEVER), SX_OK);
    lose_the_mark(s->way);
    syscall(SYS_exit, 0); /* no destructor of glibc's runs */
    return NULL;
}

static void cuts_a_thread_off(void *argument)
{
    struct scene *s = argument;
    joined(thread(holds_and_is_cut_off, s));
    gate_open(&s->held);
    gate_pass(&s->stop);
}

TEST(a_thread_that_was_cut_off, FORKS | NATIVE, 30)
{
    struct scene *s = scene();
    s->way = TOO_MANY;
    pid_t pid = spawn(cuts_a_thread_off, s); /* another process's thread */
    gate_pass(&s->held);
    CHECK(by_the_words(s, s->mutex->word) == SX_ALIVE);
    a_waiter_recovers(s);
    gate_open(&s->stop);
    ended_well(pid);
    joined(thread(holds_and_is_cut_off, s)); /* one of our own */
    CHECK(by_the_words(s, s->mutex->word) == SX_ALIVE);
    a_tryer_recovers(s);
}

/* A thread of the same tid that started later is another thread. */
static void *holds_until_told(void *argument)
{
    struct scene *s = argument;
    STATUS(sx_mutex_lock(s->arena, s->mutex, SX_NEVER), SX_OK);
    gate_open(&s->held);
    gate_pass(&s->go);
    return (void *)(intptr_t)sx_mutex_unlock(s->arena, s->mutex, false);
}

TEST(a_tid_that_was_used_again, NATIVE, 30)
{
    struct scene *s = scene();
    pthread_t t = thread(holds_until_told, s);
    void *status;
    gate_pass(&s->held);
    struct sx_participant *p = sx_participant(s->arena, s->mutex->word);
    CHECK(sx_holder_examine(s->arena, s->mutex->word) == SX_ALIVE);
    atomic_fetch_sub(&p->start_time, 1);
    a_waiter_recovers(s);
    gate_open(&s->go);
    CHECK(pthread_join(t, &status) == 0);
    CHECK((intptr_t)status == SX_NOT_OWNER); /* and had it lived, it would be refused, not let loose */
}

/* What cannot be known is not held against anybody: no start time, no tid, a foreign pid namespace. */
TEST(what_is_not_known_condemns_nobody, FORKS | NATIVE, 30)
{
    struct scene *s = scene();
    pthread_t t = thread(holds_until_told, s);
    gate_pass(&s->held);
    struct sx_participant *p = sx_participant(s->arena, s->mutex->word);
    struct sx_process *owner = &s->arena->processes[p->process - 1];
    uint64_t start = p->start_time, namespace = owner->pid_namespace;
    uint32_t tid = p->tid;
    p->start_time = 0;
    CHECK(sx_holder_examine(s->arena, s->mutex->word) == SX_ALIVE);
    p->start_time = start;
    p->tid = 0;
    CHECK(sx_holder_examine(s->arena, s->mutex->word) == SX_ALIVE);
    p->tid = INT_MAX; /* nobody's; but pids of another namespace mean nothing here */
    owner->pid_namespace = namespace + 1;
    CHECK(sx_holder_examine(s->arena, s->mutex->word) == SX_ALIVE);
    owner->pid_namespace = namespace;
    p->tid = tid;
    STATUS(sx_mutex_lock(s->arena, s->mutex, in(250 * MS)), SX_TIMEOUT);
    gate_open(&s->go);
    joined(t);
    CHECK(usable(s->arena, s->mutex) && s->mutex->statistics.recoveries == 0);
}

/* ---- a slot that another thread has by now ---------------------------------------------------------------------- */
static void *stays(void *argument)
{
    struct scene *s = argument;
    my_id(s->arena);
    atomic_fetch_add(&s->done, 1);
    gate_pass(&s->stop);
    return NULL;
}

static void slot_recycled(enum way way)
{
    struct scene *s = scene();
    pthread_t threads[64];
    dies(s, way, true);
    uint64_t dead = s->mutex->word & SX_ID_MASK;
    struct sx_participant *p = sx_participant(s->arena, dead);
    int n = 0;
    CHECK(by_the_words(s, dead) == SX_ALIVE); /* the slot seems taken: nobody gets it before it is examined */
    CHECK(sx_holder_examine(s->arena, dead) == SX_DEAD);
    while (p->generation == (uint32_t)(dead >> 32)) { /* until somebody has the slot */
        CHECK(n < 64);
        threads[n++] = thread(stays, s);
        UNTIL(s->done == (uint32_t)n);
    }
    uint64_t successor = (uint64_t)p->generation << 32 | (dead & SX_SLOT_MASK);
    for (int i = 0; i < 100; i++)
        CHECK(sx_holder_examine(s->arena, dead) == SX_DEAD);
    CHECK(sx_holder_examine(s->arena, successor) == SX_ALIVE); /* the verdict is not about it */
    STATUS(sx_mutex_lock(s->arena, s->mutex, 0), SX_OWNER_DIED);
    STATUS(sx_mutex_unlock(s->arena, s->mutex, false), SX_OK);
    CHECK(sx_holder_examine(s->arena, successor) == SX_ALIVE);
    CHECK(s->mutex->statistics.dead_pid == 0); /* the successor is not blamed */
    gate_open(&s->stop);
    for (int i = 0; i < n; i++)
        joined(threads[i]);
}

TEST(a_recycled_slot, FORKS | NATIVE, 30)
{
    slot_recycled(TOO_MANY);
    slot_recycled(UNMAPPED);
}

/* ---- living processes that do unusual things ---------------------------------------------------------------------- */
static void closes_everything(void *argument)
{
    struct scene *s = argument;
    STATUS(sx_mutex_lock(s->arena, s->mutex, SX_NEVER), SX_OK);
    CHECK(syscall(SYS_close_range, 3u, ~0u, 0u) == 0);
    lose_the_mark(s->way);
    gate_open(&s->held);
    gate_pass(&s->go);
    STATUS(sx_mutex_unlock(s->arena, s->mutex, false), SX_OK);
    gate_open(&s->done);
    for (;;)
        pause();
}

static void comes_and_goes(void *argument)
{
    (void)argument;
    struct sx_arena *a = arena_new();
    STATUS(sx_arena_collect(a), SX_OK);
    CHECK(usable(a, named(a, "other", NULL)));
}

static void seems_alive(struct scene *s)
{
    uint64_t holder = s->mutex->word & SX_ID_MASK;
    STATUS(sx_mutex_lock(s->arena, s->mutex, in(350 * MS)), SX_TIMEOUT);
    for (int64_t end = in(250 * MS); sx_now() < end; usleep(5000))
        STATUS(sx_mutex_lock(s->arena, s->mutex, 0), SX_BUSY);
    for (int i = 0; i < 80; i++) /* more than there are slots ready: each looks for a free one, in turn */
        ended_well(spawn(comes_and_goes, NULL));
    STATUS(sx_arena_collect(s->arena), SX_OK);
    CHECK(sx_holder_examine(s->arena, holder) == SX_ALIVE);
    STATUS(sx_mutex_lock(s->arena, s->mutex, 0), SX_BUSY);
}

TEST(a_process_that_closed_all_its_descriptors, FORKS | NATIVE, 30)
{
    struct scene *s = scene();
    for (enum way way = TOO_MANY; way <= UNMAPPED; way++) {
        s->way = way;
        s->held = s->go = s->done = 0;
        pid_t pid = spawn(closes_everything, s);
        gate_pass(&s->held);
        seems_alive(s);
        gate_open(&s->go);
        gate_pass(&s->done);
        killed(pid);
        CHECK(usable(s->arena, s->mutex) && s->mutex->statistics.recoveries == 0);
    }
    /* and its death is seen all the same, without byte and without mark */
    s->held = s->go = s->done = 0;
    pid_t pid = spawn(closes_everything, s);
    gate_pass(&s->held);
    killed(pid);
    CHECK(by_the_words(s, s->mutex->word) == SX_ALIVE);
    a_waiter_recovers(s);
}

/* While the byte is held, pid and start time are not asked; where it is not, they must be those of a process that maps
 * the arena. */
TEST(forged_pids_and_start_times, FORKS | NATIVE, 30)
{
    struct scene *s = scene();
    s->way = TOO_MANY;
    pid_t pid = spawn(holds_in_the_main_thread, s);
    gate_pass(&s->held);
    struct sx_participant *p = sx_participant(s->arena, s->mutex->word);
    struct sx_process *owner = &s->arena->processes[p->process - 1];
    uint64_t start = owner->start_time;
    owner->start_time = start + 1;
    CHECK(sx_process_alive(s->arena, p->process - 1, owner->generation));
    CHECK(sx_holder_examine(s->arena, s->mutex->word) == SX_ALIVE);
    owner->start_time = start;
    killed(pid);
    owner->pid = 1; /* somebody else's: lives, and does not map the arena */
    owner->start_time = sx_start_time(1, 0);
    a_waiter_recovers(s);

    s->held = 0;
    pid = spawn(holds_in_the_main_thread, s);
    gate_pass(&s->held);
    p = sx_participant(s->arena, s->mutex->word);
    owner = &s->arena->processes[p->process - 1];
    killed(pid);
    owner->pid = (uint32_t)getpid(); /* maps the arena, but did not start then */
    owner->start_time = sx_start_time(getpid(), 0) - 1;
    a_waiter_recovers(s);

    s->held = 0;
    pid = spawn(holds_in_the_main_thread, s);
    gate_pass(&s->held);
    p = sx_participant(s->arena, s->mutex->word);
    owner = &s->arena->processes[p->process - 1];
    killed(pid);
    owner->pid = UINT32_MAX; /* nothing that a pid can be */
    a_tryer_recovers(s);
}

/* ---- copies of the witness ---------------------------------------------------------------------------------------- */
static void forks_and_holds(void *argument)
{
    struct scene *s = argument;
    STATUS(sx_mutex_lock(s->arena, s->mutex, SX_NEVER), SX_OK);
    lose_the_mark(s->way);
    /* stop: by the system call alone, so that no handler replaces the descriptor */
    pid_t pid = s->stop ? (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) : fork();
    CHECK(pid >= 0);
    if (pid == 0)
        for (;;)
            pause();
    s->pid = (uint32_t)pid;
    gate_open(&s->held);
    for (;;)
        pause();
}

static void a_child_is_left(bool raw)
{
    struct scene *s = scene();
    s->way = TOO_MANY;
    s->stop = raw;
    for (int i = 0; i < 2; i++) {
        s->held = 0;
        pid_t pid = spawn(forks_and_holds, s);
        gate_pass(&s->held);
        uint64_t holder = s->mutex->word & SX_ID_MASK;
        STATUS(sx_mutex_lock(s->arena, s->mutex, in(250 * MS)), SX_TIMEOUT);
        struct sx_participant *p = sx_participant(s->arena, holder);
        uint32_t slot = p->process - 1, generation = p->process_generation;
        killed(pid);
        CHECK(by_the_words(s, holder) == SX_ALIVE);
        CHECK(sx_process_alive(s->arena, slot, generation) == raw); /* the child has the description, or let it go */
        if (i == 0)
            a_waiter_recovers(s);
        else
            a_tryer_recovers(s);
        kill((pid_t)s->pid, SIGKILL);
        if (raw)
            UNTIL(!sx_process_alive(s->arena, slot, generation));
    }
}

TEST(a_forked_child_lets_the_witness_go, FORKS | NATIVE, 30)
{
    a_child_is_left(false);
}
TEST(a_cloned_child_keeps_the_witness, FORKS | NATIVE, 30)
{
    a_child_is_left(true);
}
