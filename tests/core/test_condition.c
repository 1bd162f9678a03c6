/* test_condition.c: a notification reaches exactly one of those who waited for it, the longest-waiting live one, whoever
 * is killed and wherever.
 *
 * The twins at the end are notifiers that do it wrong; the oracles must say so.
 */

#include "check.h"

#define MOST 8

struct scene {
    struct sx_arena *arena;
    struct sx_condition *c;
    uint32_t (*notify)(struct sx_arena *, struct sx_condition *, struct sx_mutex *, uint32_t);
    int64_t deadline;
    sx_a32 going, stop;
    sx_a32 sent, got, late, raised; /* notifications, and how waits ended */
    sx_a32 order[MOST + 1];         /* the numbers of the waiters in the order of their returns; [0]: how many */
    sx_a32 pids[MOST];
};

static struct sx_condition *condition_at(struct sx_arena *a, const char *name)
{
    struct sx_object o;
    struct sx_request request = {.kind = SX_KIND_CONDITION, .parameter = 0, .create = SX_CREATE};
    STATUS(sx_object_open(a, name, (uint32_t)strlen(name), &request, &o), SX_OK);
    return (struct sx_condition *)o.cell;
}

static struct scene *scene(void)
{
    struct scene *s = shared(sizeof *s);
    s->arena = arena_new();
    s->c = condition_at(s->arena, "condition");
    s->notify = sx_condition_notify;
    s->deadline = SX_NEVER;
    return s;
}

static void lock(struct scene *s)
{
    enum sx_status status = sx_mutex_lock(s->arena, &s->c->lock, SX_NEVER);
    CHECK(status == SX_OK || status == SX_OWNER_DIED);
}

static void unlock(struct scene *s)
{
    STATUS(sx_mutex_unlock(s->arena, &s->c->lock, false), SX_OK);
}

/* As the binding does it, with the lock held. */
static enum sx_status wait_for(struct scene *s, int64_t deadline)
{
    struct sx_waiter w;
    STATUS(sx_condition_enrol(s->arena, s->c, deadline, &w), SX_OK);
    unlock(s);
    enum sx_status status = sx_condition_sleep(&w);
    CHECK(status == SX_OK || status == SX_TIMEOUT || status == SX_INTERRUPTED);
    lock(s);
    if (status == SX_OK)
        sx_condition_consume(&w);
    else
        sx_condition_leave(&w);
    return status;
}

static uint32_t notify(struct scene *s, uint32_t n)
{
    lock(s);
    uint32_t done = s->notify(s->arena, s->c, &s->c->lock, n);
    unlock(s);
    return done;
}

/* ---- one after the other ------------------------------------------------------------------------------------ */
static void waits_once(void *argument)
{
    struct scene *s = argument;
    uint32_t number = atomic_load(&s->going);
    lock(s);
    STATUS(wait_for(s, s->deadline), SX_OK);
    s->order[++s->order[0]] = number;
    unlock(s);
}

/* n processes that wait, in that order, and sleep. */
static void line_up(struct scene *s, pid_t *pids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t before = sx_condition_waiters(s->arena, s->c);
        atomic_store(&s->going, i);
        pids[i] = spawn(waits_once, s);
        UNTIL(sx_condition_waiters(s->arena, s->c) == before + 1);
    }
}

/* Do notify(1), (2), (1) wake the first, the next two, and the next?  The oracle of the twins too. */
static bool in_order(struct scene *s, const char **why)
{
    pid_t pids[4];
    static const uint32_t steps[] = {1, 2, 1};
    *why = NULL;
    line_up(s, pids, 4);
    for (uint32_t i = 0, sofar = 0; i < 3 && *why == NULL; i++) {
        if (notify(s, steps[i]) != steps[i])
            *why = "told another number";
        sofar += steps[i];
        for (int64_t end = in(2 * SECOND); atomic_load(&s->order[0]) < sofar && sx_now() < end;)
            usleep(200);
        if (atomic_load(&s->order[0]) != sofar)
            *why = "not as many returned as were notified";
        for (uint32_t j = 1; j <= sofar; j++)
            if (s->order[j] >= sofar)
                *why = "not the longest-waiting";
    }
    for (int i = 0; i < 4; i++)
        if (*why != NULL)
            killed(pids[i]);
        else
            ended_well(pids[i]);
    return *why == NULL;
}

TEST(conditions_wake_the_longest_waiting, FORKS, 60)
{
    const char *why;
    sx_belt_off = true;
    struct scene *s = scene();
    for (int i = 0; i < rounds(5); i++) {
        s->order[0] = 0;
        if (!in_order(s, &why))
            FAIL("%s", why);
    }
    CHECK(notify(s, 5) == 0 && s->c->waiting == 0 && s->arena->header->rescues == 0);
}

TEST(a_condition_alone, 0, 20)
{
    struct scene *s = scene();
    lock(s);
    CHECK(sx_condition_notify(s->arena, s->c, &s->c->lock, 1) == 0);
    STATUS(wait_for(s, 0), SX_TIMEOUT);
    STATUS(wait_for(s, in(20 * MS)), SX_TIMEOUT);
    STATUS(wait_for(s, in(250 * MS)), SX_TIMEOUT); /* outlasts the belt */
    struct sx_waiter w[SX_WAITS + 1];
    for (uint32_t i = 0; i < SX_WAITS; i++)
        STATUS(sx_condition_enrol(s->arena, s->c, SX_NEVER, &w[i]), SX_OK);
    STATUS(sx_condition_enrol(s->arena, s->c, SX_NEVER, &w[SX_WAITS]), SX_TOO_MANY);
    CHECK(sx_condition_waiters(s->arena, s->c) == SX_WAITS);
    CHECK(sx_condition_notify(s->arena, s->c, &s->c->lock, 1) == 1);
    for (uint32_t i = SX_WAITS; i-- > 0;) /* the first is notified; the ones above leave first */
        sx_condition_leave(&w[i]);
    CHECK(sx_condition_waiters(s->arena, s->c) == 0);
    CHECK(sx_condition_notify(s->arena, s->c, &s->c->lock, 1) == 0);
    unlock(s);
    CHECK(s->c->statistics.rescues == 0);
}

/* ---- a turmoil ------------------------------------------------------------------------------------------------ */
static void *waits(void *argument)
{
    struct scene *s = argument;
    unsigned seed = (unsigned)my_id(s->arena);
    while (atomic_load(&s->stop) == 0) {
        lock(s);
        int64_t patience = rand_r(&seed) % 4 == 0 ? rand_r(&seed) % 200000 : 2 * SECOND;
        if (wait_for(s, in(patience)) == SX_OK)
            atomic_fetch_add(&s->got, 1);
        else
            atomic_fetch_add(&s->late, 1);
        unlock(s);
    }
    return NULL;
}

static void waits_process(void *argument)
{
    waits(argument);
}

static void balanced(struct scene *s, int notifications)
{
    uint32_t n = 0;
    for (uint32_t i = 0; n < (uint32_t)notifications; i++)
        n += notify(s, 1 + i % 3);
    atomic_store(&s->stop, 1);
    atomic_store(&s->sent, n);
}

TEST(as_many_threads_return_as_were_notified, 0, 60)
{
    sx_belt_off = true;
    struct scene *s = scene();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = thread(waits, s);
    balanced(s, rounds(5000));
    for (int i = 0; i < 4; i++)
        joined(threads[i]);
    CHECK(s->got == s->sent);
    CHECK(sx_condition_waiters(s->arena, s->c) == 0);
}

TEST(as_many_processes_return_as_were_notified, FORKS | HEAVY, 60)
{
    sx_belt_off = true;
    struct scene *s = scene();
    pid_t pids[4];
    for (int i = 0; i < 4; i++)
        pids[i] = spawn(waits_process, s);
    UNTIL(sx_condition_waiters(s->arena, s->c) > 0);
    balanced(s, rounds(5000));
    for (int i = 0; i < 4; i++)
        ended_well(pids[i]);
    CHECK(s->got == s->sent);
}

/* ---- deaths --------------------------------------------------------------------------------------------------- */

/* The first in line is stopped, chosen and killed; does the next return in time, and only that one? */
static bool passes_on(struct scene *s, int64_t limit, int64_t *took)
{
    pid_t pids[3];
    s->order[0] = 0;
    line_up(s, pids, 3);
    kill(pids[0], SIGSTOP);
    CHECK(notify(s, 1) == 1);
    killed(pids[0]);
    int64_t start = sx_now();
    while (atomic_load(&s->order[0]) == 0 && sx_now() < start + limit)
        usleep(100);
    *took = sx_now() - start;
    bool right = s->order[0] == 1 && s->order[1] == 1 && sx_condition_waiters(s->arena, s->c) == 1;
    if (right) {
        ended_well(pids[1]);
        notify(s, 1);
        ended_well(pids[2]);
    } else {
        killed(pids[1]);
        killed(pids[2]);
    }
    return right;
}

TEST(a_chosen_waiter_that_is_killed_passes_it_on, FORKS | HEAVY, 60)
{
    struct scene *s = scene();
    int64_t took, best = SX_NEVER;
    for (int i = 0; i < 5; i++) {
        CHECK(passes_on(s, 10 * SECOND, &took));
        best = took < best ? took : best;
    }
    CHECK(best < BOUND || slow_machine);
    CHECK(s->c->statistics.rescues >= 1);
}

TEST(a_dead_waiter_is_not_chosen, FORKS, 30)
{
    struct scene *s = scene();
    pid_t pids[3];
    line_up(s, pids, 3);
    killed(pids[0]);
    CHECK(notify(s, 1) == 1);
    ended_well(pids[1]);
    CHECK(s->order[0] == 1 && s->order[1] == 1);
    CHECK(notify(s, 2) == 1);
    ended_well(pids[2]);
}

/* Waiters are killed at any instant, notifiers go on: whoever is alive at the end is woken, and nothing hangs. */
TEST(waiters_are_killed_all_the_time, FORKS | NATIVE, 100)
{
    struct scene *s = scene();
    for (int i = 0; i < 60; i++) {
        pid_t pids[4];
        atomic_store(&s->stop, 0);
        for (int j = 0; j < 4; j++)
            pids[j] = spawn(waits_process, s);
        for (int64_t end = in((int64_t)(random64() % (3 * MS))); sx_now() < end;)
            notify(s, 1);
        killed(pids[0]);
        killed(pids[1]);
        atomic_store(&s->stop, 1);
        for (int64_t end = in(20 * SECOND); sx_condition_waiters(s->arena, s->c) > 0 && sx_now() < end;)
            notify(s, 1);
        CHECK(all_end(pids + 2, 2, 10 * SECOND));
        CHECK(usable(s->arena, &s->c->lock));
    }
}

/* A notifier is killed anywhere: the lock comes back, and waiters that were not told yet can be notified by others. */
static void notifies(void *argument)
{
    struct scene *s = argument;
    for (;;)
        notify(s, 2);
}

TEST(notifiers_are_killed_all_the_time, FORKS | NATIVE, 100)
{
    struct scene *s = scene();
    for (int i = 0; i < 60; i++) {
        pid_t pids[3];
        atomic_store(&s->stop, 0);
        for (int j = 0; j < 3; j++)
            pids[j] = spawn(waits_process, s);
        pid_t victim = spawn(notifies, s);
        usleep((useconds_t)(random64() % 3000));
        killed(victim);
        atomic_store(&s->stop, 1);
        for (int64_t end = in(20 * SECOND); sx_condition_waiters(s->arena, s->c) > 0 && sx_now() < end;)
            notify(s, MOST);
        CHECK(all_end(pids, 3, 10 * SECOND));
        CHECK(usable(s->arena, &s->c->lock));
    }
}

/* ---- SIGKILL at any instruction -------------------------------------------------------------------------------- */
struct victim {
    struct scene *s;
    bool enrolled; /* it has waited longest, and was notified */
    void (*operate)(struct victim *);
    struct sx_waiter w;
    sx_a32 ready, lined_up;
};

static void victim(void *argument)
{
    struct victim *v = argument;
    my_id(v->s->arena);
    if (v->enrolled) {
        lock(v->s);
        STATUS(sx_condition_enrol(v->s->arena, v->s->c, SX_NEVER, &v->w), SX_OK);
        unlock(v->s);
    }
    atomic_store(&v->ready, 1);
    UNTIL(atomic_load(&v->lined_up));
    if (v->enrolled)
        CHECK(notify(v->s, 1) == 1);
    to_be_stepped();
    v->operate(v);
    stepped_through();
}

static void notifies_one(struct victim *v)
{
    notify(v->s, 1);
}

static void waits_a_moment(struct victim *v)
{
    lock(v->s);
    wait_for(v->s, in(MS));
    unlock(v->s);
}

static void gives_up(struct victim *v)
{
    sx_condition_leave(&v->w);
}

static void consumes(struct victim *v)
{
    lock(v->s);
    sx_condition_consume(&v->w);
    unlock(v->s);
}

/* What it said when it died decides what those who wait must find: with its notification still there, or half handed
 * on, the first of them goes on by itself; without, the next notify wakes it.  Returns how often both went on. */
static long kill_everywhere(struct victim *v, long stride)
{
    struct scene *s = v->s;
    long n = 1 + sx_now() % stride, twice = 0; /* other instructions in each run */
    for (bool more = true; more; n += stride) {
        pid_t pids[2], it;
        memset(&v->w, 0, sizeof v->w);
        v->ready = v->lined_up = s->order[0] = 0;
        it = spawn(victim, v);
        UNTIL(atomic_load(&v->ready));
        line_up(s, pids, 2);
        atomic_store(&v->lined_up, 1);
        more = stepped(it, n);
        bool given = v->enrolled && v->w.record != NULL && atomic_load(&v->w.record->state) != SX_RUNNING;
        int64_t start = sx_now();
        if (sx_condition_waiters(s->arena, s->c) < 2 || given)
            while (atomic_load(&s->order[0]) == 0) {
                if (sx_now() - start > 10 * SECOND)
                    FAIL("killed after %ld instructions, it took a notification with it", n);
                usleep(100);
            }
        if (given && s->order[0] == 2)
            twice++;
        while (sx_condition_waiters(s->arena, s->c) > 0) {
            if (sx_now() - start > 20 * SECOND)
                FAIL("after %ld instructions there is no notifying any more", n);
            notify(s, 1);
        }
        CHECK(all_end(pids, 2, 10 * SECOND) && s->order[0] == 2);
        CHECK(usable(s->arena, &s->c->lock));
    }
    CHECK(n > 20);
    return twice;
}

static struct victim *victim_new(void (*operate)(struct victim *), bool enrolled)
{
    struct victim *v = shared(sizeof *v);
    v->s = scene();
    v->operate = operate;
    v->enrolled = enrolled;
    return v;
}

TEST(killed_amid_a_notify, FORKS | NATIVE | HEAVY, 150)
{
    kill_everywhere(victim_new(notifies_one, false), 11);
}

TEST(killed_amid_a_wait_for_a_condition, FORKS | NATIVE | HEAVY, 150)
{
    kill_everywhere(victim_new(waits_a_moment, false), 47);
}

TEST(killed_amid_giving_up_a_wait, FORKS | NATIVE | HEAVY, 150)
{
    CHECK(kill_everywhere(victim_new(gives_up, true), 19) <= 3);
}

TEST(killed_amid_using_a_notification, FORKS | NATIVE | HEAVY, 150)
{
    kill_everywhere(victim_new(consumes, true), 7);
}

/* ---- twins ---------------------------------------------------------------------------------------------------- */

/* The n first records of the condition in the order of the slots, dead or alive. */
static uint32_t choose_wrongly(struct sx_arena *arena, struct sx_condition *c, uint32_t n, bool last)
{
    uint32_t done = 0, ready = sx_participants_ready(arena);
    for (uint32_t k = 0; k < ready && done < n; k++) {
        struct sx_participant *p = &arena->participants[last ? ready - 1 - k : k];
        uint32_t state = atomic_load(&p->wait[0].state);
        if (sx_wait_state(state) != SX_WAITING || p->wait[0].cell != (uint64_t)((char *)c - arena->base))
            continue;
        p->wait[0].units = UINT32_MAX;
        if (atomic_compare_exchange_strong(&p->wait[0].state, &state, SX_NOTIFIED | (state & ~0xffu))) {
            sx_futex_wake(&p->wait[0].state, INT_MAX);
            done++;
        }
    }
    return done;
}

static uint32_t picks_the_dead(struct sx_arena *arena, struct sx_condition *c, struct sx_mutex *lock, uint32_t n)
{
    (void)lock;
    return choose_wrongly(arena, c, n, false);
}

static uint32_t picks_the_last(struct sx_arena *arena, struct sx_condition *c, struct sx_mutex *lock, uint32_t n)
{
    (void)lock;
    return choose_wrongly(arena, c, n, true);
}

static uint32_t picks_one_more(struct sx_arena *arena, struct sx_condition *c, struct sx_mutex *lock, uint32_t n)
{
    return sx_condition_notify(arena, c, lock, n + 1) - 1;
}

TEST(twin_a_notifier_that_picks_the_dead_is_caught, FORKS | NATIVE, 30)
{
    sx_belt_off = true; /* which would make it good */
    struct scene *s = scene();
    s->notify = picks_the_dead;
    pid_t pids[2];
    line_up(s, pids, 2);
    killed(pids[0]);
    CHECK(notify(s, 1) == 1);
    CHECK(!all_end(pids + 1, 1, SECOND));
}

TEST(twin_other_orders_and_numbers_are_caught, FORKS | NATIVE, 30)
{
    const char *why;
    struct scene *s = scene();
    s->notify = picks_the_last;
    CHECK(!in_order(s, &why) && strcmp(why, "not the longest-waiting") == 0);
    s = scene();
    s->notify = picks_one_more;
    CHECK(!in_order(s, &why));
}

TEST(twin_without_the_belt_a_death_swallows_it, FORKS | NATIVE, 30)
{
    int64_t took;
    struct scene *s = scene();
    sx_belt_off = true;
    CHECK(!passes_on(s, SECOND, &took));
}
