/* test_steps.c: SIGKILL after each machine instruction of the operations of an event and of a once.
 *
 * A victim is stepped n instructions into its operation and killed there, for n = 1, 2, ... until it comes to the end of
 * it; each time those who are left must be able to go on, and what they find must be either what was before or what
 * comes after.  A twin that changes and wakes in two steps must be caught by the same judge.
 */
#include "check.h"

#define SLEEPERS 2

struct steps {
    struct sx_arena *arena;
    struct sx_event *event;
    struct sx_once *once;
    void (*operate)(struct steps *);
    bool holds; /* the victim runs the once before it is stepped */
    sx_a32 ready, ran, finished;
};

static void *cell_at(struct sx_arena *a, const char *name, enum sx_kind kind)
{
    struct sx_object o;
    enum sx_kind found;
    STATUS(open_named(a, name, (uint32_t)strlen(name), kind, SX_CREATE, &o, &found), SX_OK);
    return o.cell;
}

static struct steps *steps(void (*operate)(struct steps *))
{
    struct steps *s = shared(sizeof *s);
    s->arena = arena_new();
    s->operate = operate;
    s->event = cell_at(s->arena, "event", SX_KIND_EVENT);
    return s;
}

static void victim(void *argument)
{
    struct steps *s = argument;
    my_id(s->arena); /* registered: that is another operation */
    bool done;
    if (s->holds)
        STATUS(sx_once_begin(s->arena, s->once, SX_NEVER, &done), SX_OK);
    to_be_stepped(); /* until the next stop */
    s->operate(s);
    stepped_through();
}

/* ---- an event ------------------------------------------------------------------------------------------------ */
static void waits_for_it(void *argument)
{
    struct steps *s = argument;
    STATUS(sx_event_wait(s->arena, s->event, SX_NEVER), SX_OK);
}

static void sets(struct steps *s)
{
    sx_event_set(s->event);
}
static void clears(struct steps *s)
{
    sx_event_clear(s->event);
}
static void waits(struct steps *s)
{
    sx_event_wait(s->arena, s->event, in(MS));
}

struct asleep {
    pid_t pids[SLEEPERS];
    bool there;
};

static void let_sleep(struct steps *s, struct asleep *a)
{
    if (a->there)
        return;
    for (int i = 0; i < SLEEPERS; i++)
        a->pids[i] = spawn(waits_for_it, s);
    UNTIL(sleepers(s->arena, s->event) >= SLEEPERS);
    a->there = true;
}

/* Nobody touches the event but those who sleep; true: they go on, or need no more than a set to do so. */
static bool all_go_on(struct steps *s, struct asleep *a, int64_t limit)
{
    a->there = false;
    if (!sx_event_is_set(s->event))
        STATUS(sx_event_set(s->event), SX_OK);
    return all_end(a->pids, SLEEPERS, limit);
}

TEST(killed_at_each_step_of_a_set, FORKS | NATIVE | HEAVY, 120)
{
    sx_belt_off = true;
    struct steps *s = steps(sets);
    struct asleep a = {0};
    long n = 1, effects = 0;
    for (bool more = true; more; n++) {
        let_sleep(s, &a);
        more = stepped(spawn(victim, s), n);
        if (!sx_event_is_set(s->event) && n % 16 != 0)
            continue; /* they sleep on, for the next */
        effects += sx_event_is_set(s->event);
        if (!all_go_on(s, &a, 10 * SECOND))
            FAIL("after %ld instructions of set() a waiter sleeps on", n);
        STATUS(sx_event_clear(s->event), SX_OK);
    }
    CHECK(n > 10 && effects > 0 && effects < n - 1);
    if (a.there)
        CHECK(all_go_on(s, &a, 10 * SECOND));
}

TEST(killed_at_each_step_of_a_clear, FORKS | NATIVE | HEAVY, 120)
{
    sx_belt_off = true;
    struct steps *s = steps(clears);
    struct asleep a = {0};
    long n = 1, effects = 0;
    for (bool more = true; more; n++) {
        uint64_t flags = EVENT_SET | (n % 2 == 0 ? EVENT_WAITERS : 0), before = (uint64_t)n * EVENT_STEP | flags;
        s->event->word = before;
        more = stepped(spawn(victim, s), n);
        uint64_t w = s->event->word;
        if (w != before && w != ((uint64_t)n + 1) * EVENT_STEP)
            FAIL("after %ld instructions of clear() the word is %#llx", n, (unsigned long long)w);
        effects += w != before;
        if (n % 16 != 0)
            continue;
        STATUS(sx_event_clear(s->event), SX_OK);
        let_sleep(s, &a);
        CHECK(all_go_on(s, &a, 10 * SECOND));
    }
    CHECK(n > 10 && effects > 0 && effects < n - 1);
}

TEST(killed_at_each_step_of_a_wait, FORKS | NATIVE | HEAVY, 120)
{
    sx_belt_off = true;
    struct steps *s = steps(waits);
    struct asleep a = {0};
    long n = 1;
    for (bool more = true; more; n += n < 150 ? 1 : 61) {
        if (n % 16 == 0)
            let_sleep(s, &a);
        more = stepped(spawn(victim, s), n);
        CHECK((s->event->word & ~(uint64_t)EVENT_WAITERS) % EVENT_STEP == 0);
        if (!a.there)
            continue;
        CHECK(all_go_on(s, &a, 10 * SECOND));
        STATUS(sx_event_clear(s->event), SX_OK);
    }
    CHECK(n > 100);
}

/* The twin: a death between the change and the wake leaves sleepers behind an event that is set. */
static void sets_then_wakes(struct steps *s)
{
    atomic_fetch_or(&s->event->word, EVENT_SET);
    sx_futex_wake(sx_low_half(&s->event->word), INT_MAX);
}

TEST(twin_that_sets_and_wakes_in_two_steps_is_seen, FORKS | NATIVE | HEAVY, 120)
{
    sx_belt_off = true;
    struct steps *s = steps(sets_then_wakes);
    struct asleep a = {0};
    for (long n = 1;; n++) {
        let_sleep(s, &a);
        if (!stepped(spawn(victim, s), n))
            FAIL("the twin passes");
        if (sx_event_is_set(s->event)) {
            CHECK(!all_go_on(s, &a, SECOND));
            return;
        }
    }
}

/* ---- a once -------------------------------------------------------------------------------------------------- */
static const char the_result[] = "0123456789";

static void runs(struct steps *s)
{
    bool done;
    sx_once_begin(s->arena, s->once, SX_NEVER, &done);
    sx_once_finish(s->arena, s->once, the_result, sizeof the_result);
}
static void finishes(struct steps *s)
{
    sx_once_finish(s->arena, s->once, the_result, sizeof the_result);
}
static void abandons(struct steps *s)
{
    sx_once_abandon(s->arena, s->once);
}

static void has_the_result(struct steps *s)
{
    char result[SX_ONCE_RESULT];
    uint32_t length;
    STATUS(sx_once_read(s->once, result, &length), SX_OK);
    CHECK(length == sizeof the_result && memcmp(result, the_result, length) == 0);
}

/* What the others do: one of them runs it, unless it is done. */
static void takes_part(void *argument)
{
    struct steps *s = argument;
    bool done;
    enum sx_status status = sx_once_begin(s->arena, s->once, SX_NEVER, &done);
    CHECK(status == SX_OK || status == SX_OWNER_DIED);
    if (!done) {
        atomic_fetch_add(&s->ran, 1);
        STATUS(sx_once_finish(s->arena, s->once, the_result, sizeof the_result), SX_OK);
    }
    has_the_result(s);
}

static void a_fresh_once(struct steps *s, long n)
{
    char name[32];
    snprintf(name, sizeof name, "once %ld", n);
    s->once = cell_at(s->arena, name, SX_KIND_ONCE);
    s->ran = 0;
}

TEST(killed_at_each_step_of_a_run, FORKS | NATIVE | HEAVY, 120)
{
    struct steps *s = steps(runs);
    long n = 1, done = 0;
    for (bool more = true; more; n++) {
        a_fresh_once(s, n);
        more = stepped(spawn(victim, s), n);
        bool was_done = sx_once_done(s->once);
        done += was_done;
        takes_part(s);
        if (s->ran != !was_done)
            FAIL("after %ld instructions of a run it was%s done, and then ran %u times", n, was_done ? "" : " not",
                 (unsigned)s->ran);
    }
    CHECK(n > 100 && done > 0 && done < n - 1);
}

/* The victim is the runner, and others sleep until it comes to an end. */
static void with_sleepers(struct steps *s, long stride)
{
    s->holds = true;
    long n = 1;
    for (bool more = true; more; n += stride) {
        pid_t pids[SLEEPERS];
        a_fresh_once(s, n);
        pid_t runner = spawn(victim, s);
        UNTIL(!sx_is_free(s->once->running.word));
        for (int i = 0; i < SLEEPERS; i++)
            pids[i] = spawn(takes_part, s);
        UNTIL(sleepers(s->arena, &s->once->running) == SLEEPERS);
        more = stepped(runner, n);
        if (!all_end(pids, SLEEPERS, 10 * SECOND))
            FAIL("after %ld instructions of the runner's end somebody waits on", n);
        if (s->operate == finishes ? s->ran > 1 || (!more && s->ran != 0) : s->ran != 1)
            FAIL("after %ld instructions of the runner's end it ran %u times", n, (unsigned)s->ran);
    }
    CHECK(n > 20);
}

TEST(killed_at_each_step_of_a_finish, FORKS | NATIVE | HEAVY, 120)
{
    with_sleepers(steps(finishes), 2);
}

TEST(killed_at_each_step_of_an_abandon, FORKS | NATIVE | HEAVY, 120)
{
    with_sleepers(steps(abandons), 1);
}
