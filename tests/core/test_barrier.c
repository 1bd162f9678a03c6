/* test_barrier.c: parties go on together, each with an index of its own; a death breaks the phase within BOUND; and who
 * was in a phase agrees on how it ended. */

#include "check.h"

enum { MOST = 6 };

struct meeting {
    struct sx_arena *arena;
    struct sx_barrier *barrier, *second;
    uint32_t parties;
    int phases;
    sx_a32 ahead[MOST]; /* how many waits each has begun */
    sx_a64 indices[64]; /* a bit for each index returned in a phase */
    sx_a32 next;        /* numbers for the parties */
    sx_a32 first, round, ready, told, gone_on, wrong;
    sx_a64 told_ns;
    sx_a32 pids[MOST];
    sx_a32 gate, stop;
};

static struct sx_barrier *barrier_of(struct sx_arena *arena, uint32_t parties)
{
    struct sx_object object;
    struct sx_request request = {.kind = SX_KIND_BARRIER, .parameter = parties, .create = SX_CREATE};
    STATUS(sx_object_anonymous(arena, &request, &object), SX_OK);
    return (struct sx_barrier *)object.cell;
}

static struct meeting *meeting(uint32_t parties, int phases)
{
    struct meeting *m = shared(sizeof *m);
    m->arena = arena_new();
    m->barrier = barrier_of(m->arena, parties);
    m->second = barrier_of(m->arena, parties);
    m->parties = parties;
    m->phases = phases;
    return m;
}

static enum sx_status wait_for_all(struct meeting *m, int64_t deadline, struct sx_arrival *a)
{
    return sx_barrier_wait(m->arena, m->barrier, deadline, SX_BARRIER_WAIT, a);
}

static bool broken(struct meeting *m)
{
    bool is;
    sx_barrier_state(m->arena, m->barrier, &is);
    return is;
}

static uint32_t waiting(struct meeting *m)
{
    bool is;
    return sx_barrier_state(m->arena, m->barrier, &is);
}

static int asleep(struct meeting *m)
{
    return sleepers(m->arena, (struct sx_mutex *)m->barrier);
}

/* ---- together ------------------------------------------------------------------------------------------------- */

/* After phase n each has begun n waits, and nobody n + 2; its indices differ. */
static void judge(struct meeting *m, uint32_t n, uint32_t index)
{
    for (uint32_t i = 0; i < m->parties; i++) {
        uint32_t other = atomic_load(&m->ahead[i]);
        CHECK(other == n || other == n + 1);
    }
    atomic_store(&m->indices[(n + 32) % 64], 0); /* nobody is there yet, or any more */
    CHECK(index < m->parties && !(atomic_fetch_or(&m->indices[n % 64], UINT64_C(1) << index) >> index & 1));
}

static void *meets(void *argument)
{
    struct meeting *m = argument;
    uint32_t me = atomic_fetch_add(&m->next, 1);
    for (uint32_t n = 1; n <= (uint32_t)m->phases; n++) {
        struct sx_arrival a = {.index = me};
        atomic_store(&m->ahead[me], n);
        STATUS(wait_for_all(m, SX_NEVER, &a), SX_OK);
        judge(m, n, a.index);
    }
    return NULL;
}

static void meets_in_a_process(void *argument)
{
    meets(argument);
}

static void threads_meet(struct meeting *m)
{
    pthread_t threads[MOST];
    for (uint32_t i = 0; i < m->parties; i++)
        threads[i] = thread(meets, m);
    for (uint32_t i = 0; i < m->parties; i++)
        joined(threads[i]);
}

TEST(a_barrier_of_threads, 0, 60)
{
    sx_belt_off = true;
    for (uint32_t n = 1; n <= MOST; n++) {
        struct meeting *m = meeting(n, rounds(2000));
        threads_meet(m);
        CHECK(waiting(m) == 0 && !broken(m));
    }
}

TEST(a_barrier_of_processes, FORKS | HEAVY, 60)
{
    sx_belt_off = true;
    for (uint32_t n = 2; n <= MOST; n += 2) {
        struct meeting *m = meeting(n, rounds(2000));
        pid_t pids[MOST];
        for (uint32_t i = 0; i < n; i++)
            pids[i] = spawn(meets_in_a_process, m);
        CHECK(all_end(pids, (int)n, 30 * SECOND));
        CHECK(waiting(m) == 0 && !broken(m));
    }
}

/* ---- deaths ------------------------------------------------------------------------------------------------------ */
static void waits_until_told(void *argument)
{
    struct meeting *m = argument;
    struct sx_arrival a;
    STATUS(wait_for_all(m, SX_NEVER, &a), SX_BROKEN);
    atomic_store(&m->told_ns, (uint64_t)sx_now());
    atomic_fetch_add(&m->told, 1);
    gate_pass(&m->gate);
}

static void arrives(void *argument)
{
    struct meeting *m = argument;
    struct sx_arrival a;
    wait_for_all(m, SX_NEVER, &a);
    pause(); /* told of another's death before its own */
}

static void enrols(void *argument)
{
    struct meeting *m = argument;
    struct sx_arrival a;
    STATUS(sx_barrier_wait(m->arena, m->barrier, SX_NEVER, SX_BARRIER_ENROL, &a), SX_OK);
    atomic_store(&m->ready, 1);
    pause();
}

static void acts(void *argument)
{
    struct meeting *m = argument;
    struct sx_arrival a;
    STATUS(sx_barrier_wait(m->arena, m->barrier, SX_NEVER, SX_BARRIER_ACT, &a), SX_OK);
    CHECK(a.last);
    atomic_store(&m->ready, 1);
    pause();
}

/* Without the belt: the kernel's mark tells one, who tells all. */
static void a_party_dies(void (*doomed)(void *), uint32_t before, uint32_t after)
{
    bool with_action = doomed == acts;
    for (int round = 0; round < rounds(20); round++) {
        struct meeting *m = meeting(before + after + (with_action ? 1 : 2), 0);
        pid_t pids[MOST], victim;
        uint32_t n = 0;
        while (n < before)
            pids[n++] = spawn(waits_until_told, m);
        UNTIL(asleep(m) == (int)before);
        victim = spawn(doomed, m);
        if (doomed == arrives)
            UNTIL(waiting(m) == before + 1 && asleep(m) == (int)before + 1);
        else
            UNTIL(atomic_load(&m->ready) == 1);
        while (n < before + after)
            pids[n++] = spawn(waits_until_told, m);
        UNTIL(asleep(m) == (int)(before + after) + (doomed == arrives));
        int64_t start = sx_now();
        killed(victim);
        UNTIL(atomic_load(&m->told) == before + after);
        CHECK(slow_machine || (int64_t)m->told_ns - start < BOUND);
        CHECK(broken(m) && sx_barrier_victim(m->barrier) == (uint32_t)victim);
        gate_open(&m->gate);
        CHECK(all_end(pids, (int)n, 20 * SECOND));
        STATUS(sx_barrier_reset(m->arena, m->barrier), SX_OK);
        CHECK(!broken(m) && waiting(m) == 0);
    }
}

TEST(an_arrived_party_is_killed, FORKS | WAITV, 90)
{
    sx_belt_off = true;
    a_party_dies(arrives, 0, 2);
    a_party_dies(arrives, 2, 0);
    a_party_dies(arrives, 2, 2);
}

TEST(an_enrolled_party_is_killed, FORKS | WAITV, 90)
{
    sx_belt_off = true;
    a_party_dies(enrols, 0, 2);
    a_party_dies(enrols, 2, 0);
    a_party_dies(enrols, 2, 2);
}

TEST(the_last_party_is_killed_in_the_action, FORKS | WAITV, 90)
{
    sx_belt_off = true;
    a_party_dies(acts, 1, 0);
    a_party_dies(acts, 4, 0);
}

/* All but one, at once. */
TEST(many_parties_are_killed, FORKS | WAITV, 60)
{
    sx_belt_off = true;
    for (int round = 0; round < rounds(20); round++) {
        struct meeting *m = meeting(MOST, 0);
        pid_t left = 0, victims[MOST - 2];
        int order = (int)(random64() % (MOST - 1)), n = 0;
        for (int i = 0; i < MOST - 1; i++) {
            if (i == order)
                left = spawn(waits_until_told, m);
            else
                victims[n++] = spawn(arrives, m);
            UNTIL(asleep(m) == i + 1);
        }
        for (int i = 0; i < n; i++)
            kill(victims[i], SIGKILL);
        UNTIL(atomic_load(&m->told) == 1);
        for (int i = 0; i < n; i++)
            ended(victims[i]);
        gate_open(&m->gate);
        ended_well(left);
    }
}

/* More than a sleeper can watch: each is watched by somebody all the same, or found by the belt. */
static void *waits_in_a_crowd(void *argument)
{
    waits_until_told(argument);
    return NULL;
}

TEST(a_party_of_a_crowd_is_killed, FORKS | HEAVY, 60)
{
    enum { CROWD = 300 };
    for (int first = 0; first < 2; first++) {
        struct meeting *m = meeting(CROWD + 2, 0);
        pthread_t threads[CROWD];
        pid_t victim = first ? spawn(arrives, m) : 0;
        UNTIL(asleep(m) == first);
        for (int i = 0; i < CROWD; i++)
            threads[i] = thread(waits_in_a_crowd, m);
        /* they are there; all asleep at one instant so many may never be, for each gets up ten times a second */
        UNTIL(waiting(m) == (uint32_t)(CROWD + first));
        if (!first) {
            victim = spawn(arrives, m);
            UNTIL(waiting(m) == CROWD + 1);
        }
        killed(victim);
        UNTIL(atomic_load(&m->told) == CROWD);
        gate_open(&m->gate);
        for (int i = 0; i < CROWD; i++)
            joined(threads[i]);
    }
}

/* ---- a storm: one of the parties is killed anywhere in its loop -------------------------------------------------- */
static void storms(void *argument)
{
    struct meeting *m = argument;
    struct sx_arrival a;
    uint32_t me = atomic_fetch_add(&m->next, 1) % m->parties;
    atomic_store(&m->pids[me], (uint32_t)getpid());
    STATUS(sx_barrier_wait(m->arena, m->barrier, SX_NEVER, SX_BARRIER_ENROL, &a), SX_OK);
    for (uint32_t round = m->first;; round++) {
        atomic_store(&m->ahead[me], 0);
        atomic_fetch_add(&m->ready, 1);
        while (atomic_load(&m->gone_on) <= round)
            sx_futex_wait(&m->gone_on, round, NULL, 0, in(SECOND));
        for (uint32_t n = 1;; n++) {
            atomic_store(&m->ahead[me], n);
            enum sx_status s = wait_for_all(m, SX_NEVER, &a);
            if (s == SX_BROKEN)
                break;
            STATUS(s, SX_OK);
            for (uint32_t i = 0; i < m->parties; i++) {
                uint32_t other = atomic_load(&m->ahead[i]);
                if (other < n || other > n + 1)
                    atomic_fetch_add(&m->wrong, 1);
            }
        }
        atomic_store(&m->told_ns, (uint64_t)sx_now());
        atomic_fetch_add(&m->told, 1);
        while (atomic_load(&m->round) <= round)
            sx_futex_wait(&m->round, round, NULL, 0, in(SECOND));
    }
}

TEST(a_storm_of_deaths, FORKS, 90)
{
    struct meeting *m = meeting(4, 0);
    uint32_t parties = m->parties;
    int n = rounds(150);
    for (uint32_t i = 0; i < parties; i++)
        spawn(storms, m);
    for (int round = 0; round < n; round++) {
        UNTIL(atomic_load(&m->ready) == parties);
        m->ready = m->told = 0;
        atomic_store(&m->gone_on, (uint32_t)round + 1);
        sx_futex_wake(&m->gone_on, INT_MAX);
        usleep(random64() % 3000);
        uint32_t which = (uint32_t)(random64() % parties);
        int64_t start = sx_now();
        killed((pid_t)m->pids[which]);
        UNTIL(atomic_load(&m->told) == parties - 1);
        CHECK(slow_machine || (int64_t)m->told_ns - start < BOUND);
        STATUS(sx_barrier_reset(m->arena, m->barrier), SX_OK);
        m->next = which;
        m->first = (uint32_t)round + 1;
        spawn(storms, m);
        UNTIL(atomic_load(&m->ready) == 1); /* it knows its place before the others say that they are there */
        atomic_store(&m->round, (uint32_t)round + 1);
        sx_futex_wake(&m->round, INT_MAX);
    }
    CHECK(m->wrong == 0);
}

/* ---- how a phase ended: all its parties say the same ---------------------------------------------------------------- */
static void *hurries(void *argument)
{
    struct meeting *m = argument;
    uint32_t me = atomic_fetch_add(&m->next, 1);
    for (int i = 0; i < m->phases; i++) {
        struct sx_arrival a;
        enum sx_status s = wait_for_all(m, in(((uint32_t)i * 2654435761u + me * 40503u) % 60000), &a);
        CHECK(s == SX_OK || s == SX_TIMEOUT || s == SX_BROKEN);
        atomic_store(&m->ahead[me], s == SX_OK);
        STATUS(sx_barrier_wait(m->arena, m->second, SX_NEVER, SX_BARRIER_WAIT, &a), SX_OK);
        for (uint32_t other = 0; other < m->parties; other++)
            if (atomic_load(&m->ahead[other]) != (s == SX_OK))
                atomic_fetch_add(&m->wrong, 1);
        if (me == 0)
            atomic_fetch_add(s == SX_OK ? &m->ready : &m->told, 1);
        if (a.index == 0 && s != SX_OK)
            STATUS(sx_barrier_reset(m->arena, m->barrier), SX_OK);
        STATUS(sx_barrier_wait(m->arena, m->second, SX_NEVER, SX_BARRIER_WAIT, &a), SX_OK);
    }
    return NULL;
}

TEST(a_phase_ends_one_way_for_all, 0, 90)
{
    struct meeting *m = meeting(3, rounds(3000));
    threads_meet(m);
    m->next = 0;
    for (uint32_t i = 0; i < 3; i++)
        m->ahead[i] = 0;
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = thread(hurries, m);
    for (int i = 0; i < 3; i++)
        joined(threads[i]);
    CHECK(m->wrong == 0);
    CHECK(slow_machine || (m->ready != 0 && m->told != 0)); /* both happened */
}

/* A reset and the last arrival race: whoever was in the phase is told the same. */
static void *resets(void *argument)
{
    struct meeting *m = argument;
    while (atomic_load(&m->gate) == 0) {
        STATUS(sx_barrier_reset(m->arena, m->barrier), SX_OK);
        usleep((useconds_t)(sx_now() % 100));
    }
    return NULL;
}

static void *comes_and_goes(void *argument)
{
    struct meeting *m = argument;
    while (atomic_load(&m->gate) == 0) {
        struct sx_arrival a;
        enum sx_status s = wait_for_all(m, SX_NEVER, &a);
        if (s == SX_OK)
            atomic_fetch_add(&m->indices[a.phase % 64], 1); /* as many as there are parties, or none */
        else
            STATUS(s, SX_BROKEN);
        atomic_fetch_add(s == SX_OK ? &m->ready : &m->told, 1);
    }
    return NULL;
}

TEST(a_reset_is_one_for_all, 0, 60)
{
    struct meeting *m = meeting(2, 0);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = thread(i == 0 ? resets : comes_and_goes, m);
    UNTIL(atomic_load(&m->ready) > (uint32_t)rounds(2000) && atomic_load(&m->told) > (uint32_t)rounds(200));
    gate_open(&m->gate);
    joined(threads[0]);
    /* one may still wait for a partner who saw the gate open */
    STATUS(sx_barrier_abort(m->arena, m->barrier), SX_OK);
    for (int i = 1; i < 3; i++)
        joined(threads[i]);
    for (int i = 0; i < 64; i++)
        CHECK(atomic_load(&m->indices[i]) % 2 == 0);
}

/* Whoever resets may be killed: the barrier is as it was, or broken, and the next reset makes it whole. */
static void resets_until_killed(void *argument)
{
    struct meeting *m = argument;
    for (;;) {
        STATUS(sx_barrier_reset(m->arena, m->barrier), SX_OK);
        atomic_store(&m->round, 1);
    }
}

static void comes_until_told(void *argument)
{
    comes_and_goes(argument);
}

TEST(a_killed_resetter, FORKS, 60)
{
    struct meeting *m = meeting(2, 0);
    pid_t pids[2] = {spawn(comes_until_told, m), spawn(comes_until_told, m)};
    for (int round = 0; round < rounds(150); round++) {
        m->round = 0;
        pid_t victim = spawn(resets_until_killed, m);
        UNTIL(atomic_load(&m->round) == 1);
        usleep(random64() % 500);
        killed(victim);
        STATUS(sx_barrier_reset(m->arena, m->barrier), SX_OK);
        uint32_t before = atomic_load(&m->ready);
        UNTIL(atomic_load(&m->ready) >= before + 4);
    }
    gate_open(&m->gate);
    usleep(1000);
    STATUS(sx_barrier_abort(m->arena, m->barrier), SX_OK);
    CHECK(all_end(pids, 2, 20 * SECOND));
}

/* ---- one party is killed at every instruction -------------------------------------------------------------------- */
static void (*operation)(struct meeting *m);

static void comes_last(struct meeting *m)
{
    struct sx_arrival a;
    wait_for_all(m, SX_NEVER, &a);
}

static struct sx_arrival stepped_arrival;

static void completes(struct meeting *m)
{
    sx_barrier_complete(m->arena, m->barrier, &stepped_arrival, true);
}

static void resets_once(struct meeting *m)
{
    sx_barrier_reset(m->arena, m->barrier);
}

static void is_stepped(void *argument)
{
    struct meeting *m = argument;
    if (operation == completes) { /* nobody but the one that its arrival woke watches its life */
        gate_pass(&m->gate);
        STATUS(sx_barrier_wait(m->arena, m->barrier, SX_NEVER, SX_BARRIER_ACT, &stepped_arrival), SX_OK);
        CHECK(stepped_arrival.last);
    } else {
        STATUS(sx_barrier_wait(m->arena, m->barrier, SX_NEVER, SX_BARRIER_ENROL, &stepped_arrival), SX_OK);
    }
    to_be_stepped();
    operation(m);
    stepped_through();
}

static void *waits_once(void *argument)
{
    struct meeting *m = argument;
    struct sx_arrival a;
    enum sx_status s = wait_for_all(m, SX_NEVER, &a);
    CHECK(s == SX_OK || s == SX_BROKEN);
    atomic_fetch_add(s == SX_OK ? &m->gone_on : &m->told, 1);
    gate_pass(&m->stop); /* an end would wake whoever sleeps on the life word: nobody may need that */
    return NULL;
}

/* Two others wait: both are told the same, without the belt, and the barrier is usable after that. */
static void at_every_instruction(void (*what)(struct meeting *m), int stride)
{
    sx_belt_off = true;
    operation = what;
    struct meeting *m = meeting(3, 0);
    uint32_t went_on = 0, were_told = 0;
    bool done = false;
    for (int n = 0; !done; n += stride) {
        pthread_t threads[2];
        m->gone_on = m->told = m->gate = m->stop = 0;
        pid_t pid = spawn(is_stepped, m);
        for (int i = 0; i < 2; i++)
            threads[i] = thread(waits_once, m);
        UNTIL(asleep(m) == 2);
        gate_open(&m->gate);
        done = !stepped(pid, n);
        UNTIL(m->gone_on == 2 || m->told == 2);
        gate_open(&m->stop);
        for (int i = 0; i < 2; i++)
            joined(threads[i]);
        *(m->gone_on == 2 ? &went_on : &were_told) += 1;
        STATUS(sx_barrier_reset(m->arena, m->barrier), SX_OK);
        CHECK(!broken(m) && waiting(m) == 0);
        pthread_t others[3];
        m->gone_on = m->told = 0;
        for (int i = 0; i < 3; i++)
            others[i] = thread(waits_once, m);
        for (int i = 0; i < 3; i++)
            joined(others[i]);
        CHECK(m->gone_on == 3);
    }
    CHECK(were_told > 10 && (went_on > 0 || what == resets_once));
}

TEST(killed_at_every_instruction_of_the_last_arrival, FORKS | NATIVE | WAITV, 100)
{
    at_every_instruction(comes_last, 3);
}

TEST(killed_at_every_instruction_after_the_action, FORKS | NATIVE | WAITV, 100)
{
    at_every_instruction(completes, 1);
}

TEST(killed_at_every_instruction_of_a_reset, FORKS | NATIVE | WAITV, 100)
{
    at_every_instruction(resets_once, 3);
}
