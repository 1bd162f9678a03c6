/* test_steps_family.c: SIGKILL after each machine instruction of the operations of semaphores, permits, latches,
 * conditions, readers-writer locks and barriers.
 *
 * As in test_steps.c a victim is stepped n instructions into its operation and killed there, for growing n until it
 * comes to the end.  Each time others look at what is left: they go on in bounded time, nothing is held by the dead, no
 * unit, permit or wake-up is lost or doubled.  Where no death may cost a wake-up the belt is off, so that one is a hang.
 * At the end is a twin of a semaphore that changes and wakes in two steps: the same judge must see it.
 */
#include "check.h"

#define LATE (10 * SECOND)
#define NEXT(n) ((n) < 400 ? 1 : 37) /* slow paths are long: every instruction first, then every 37th */
#define NEXT_OF_A_WAIT(n) ((n) < 60 ? 1 : 61)

struct steps {
    struct sx_arena *arena;
    struct sx_cell *cell;
    void (*before)(struct steps *);  /* of the victim, before it is stepped */
    void (*operate)(struct steps *); /* what it is killed in */
    void (*beside)(struct steps *);  /* what another process does meanwhile */
    sx_a32 came, statuses[3], dead;
};

static struct steps *steps(enum sx_kind kind, uint32_t parameter)
{
    struct steps *s = shared(sizeof *s);
    struct sx_request request = {.kind = kind, .parameter = parameter, .create = SX_CREATE};
    struct sx_object o;
    s->arena = arena_new();
    STATUS(sx_object_open(s->arena, "it", 2, &request, &o), SX_OK);
    s->cell = o.cell;
    return s;
}

static void victim(void *argument)
{
    struct steps *s = argument;
    my_id(s->arena); /* registered: that is another operation */
    if (s->before != NULL)
        s->before(s);
    atomic_store(&s->came, 1);
    to_be_stepped();
    s->operate(s);
    stepped_through();
}

static void another(void *argument)
{
    struct steps *s = argument;
    s->beside(s);
}

/* ---- semaphores ------------------------------------------------------------------------------------------------ */
static struct sx_semaphore *semaphore(struct steps *s)
{
    return (struct sx_semaphore *)s->cell;
}
static uint32_t count(struct steps *s)
{
    return sx_semaphore_count(atomic_load(&semaphore(s)->word));
}
static void takes_a_unit(struct steps *s)
{
    STATUS(sx_semaphore_acquire(s->arena, semaphore(s), 1, SX_NEVER), SX_OK);
}
static void gives_a_unit(struct steps *s)
{
    STATUS(sx_semaphore_release(semaphore(s), 1), SX_OK);
}
static void waits_for_a_unit(struct steps *s)
{
    sx_semaphore_acquire(s->arena, semaphore(s), 1, in(2 * MS));
}
static void changes_then_wakes(struct steps *s)
{
    atomic_fetch_add(&semaphore(s)->word, UINT64_C(1) << 32);
    sx_futex_wake(sx_high_half(&semaphore(s)->word), 1);
}

TEST(killed_at_each_step_of_taking_a_unit, FORKS | NATIVE | HEAVY, 300)
{
    struct steps *s = steps(SX_KIND_SEMAPHORE, 1);
    s->operate = takes_a_unit;
    long n = 1, taken = 0;
    for (bool more = true; more; n += NEXT(n)) {
        more = stepped(spawn(victim, s), n);
        CHECK(count(s) <= 1);
        taken += count(s) == 0;
        if (count(s) == 0)
            gives_a_unit(s);
    }
    CHECK(n > 10 && taken > 0 && taken < n - 1);
}

/* One sleeps for a unit while the victim gives one: either it was given, and the sleeper has it, or it was not. */
static bool giving_wakes(struct steps *s, int64_t limit)
{
    s->beside = takes_a_unit;
    long n = 1, given = 0;
    for (bool more = true; more; n += NEXT(n)) {
        pid_t sleeper = spawn(another, s);
        UNTIL(sleepers(s->arena, s->cell) == 1);
        uint64_t before = atomic_load(&semaphore(s)->word);
        more = stepped(spawn(victim, s), n);
        bool changed = (uint32_t)(before >> 32) != (uint32_t)(atomic_load(&semaphore(s)->word) >> 32);
        given += changed;
        if (!changed && atomic_load(&semaphore(s)->word) == before && sleepers(s->arena, s->cell) == 1)
            gives_a_unit(s);
        if (!all_end(&sleeper, 1, limit))
            return false;
        CHECK(count(s) == 0);
    }
    CHECK(n > 10);
    return true;
}

TEST(killed_at_each_step_of_giving_a_unit, FORKS | NATIVE | HEAVY, 300)
{
    sx_belt_off = true;
    struct steps *s = steps(SX_KIND_SEMAPHORE, 0);
    s->operate = gives_a_unit;
    if (!giving_wakes(s, LATE))
        FAIL("a unit was given, and a sleeper sleeps on");
}

TEST(twin_that_gives_and_wakes_in_two_steps_is_seen, FORKS | NATIVE | HEAVY, 300)
{
    sx_belt_off = true;
    struct steps *s = steps(SX_KIND_SEMAPHORE, 0);
    s->operate = changes_then_wakes;
    CHECK(!giving_wakes(s, SECOND));
}

TEST(killed_at_each_step_of_waiting_for_a_unit, FORKS | NATIVE | HEAVY, 300)
{
    struct steps *s = steps(SX_KIND_SEMAPHORE, 0);
    s->operate = waits_for_a_unit;
    s->beside = takes_a_unit;
    long n = 1;
    for (bool more = true; more; n += NEXT_OF_A_WAIT(n)) {
        more = stepped(spawn(victim, s), n);
        CHECK(count(s) == 0);
        pid_t sleeper = spawn(another, s);
        gives_a_unit(s);
        if (!all_end(&sleeper, 1, LATE))
            FAIL("after %ld instructions of a wait another one's unit is gone", n);
        CHECK(count(s) == 0);
    }
    CHECK(n > 100);
}

/* ---- a latch ------------------------------------------------------------------------------------------------------ */
static struct sx_latch *latch(struct steps *s)
{
    return (struct sx_latch *)s->cell;
}
static void counts_down(struct steps *s)
{
    STATUS(sx_latch_count_down(latch(s), 1), SX_OK);
}
static void waits_for_the_latch(struct steps *s)
{
    STATUS(sx_latch_wait(s->arena, latch(s), SX_NEVER), SX_OK);
}

TEST(killed_at_each_step_of_counting_down, FORKS | NATIVE | HEAVY, 300)
{
    long n = 1, opened = 0;
    struct steps *s = steps(SX_KIND_LATCH, 1);
    for (bool more = true; more; n += NEXT(n)) {
        struct sx_object o;
        struct sx_request request = {.kind = SX_KIND_LATCH, .parameter = 1, .create = SX_CREATE};
        STATUS(sx_object_anonymous(s->arena, &request, &o), SX_OK);
        s->cell = o.cell;
        s->operate = counts_down;
        s->beside = waits_for_the_latch;
        pid_t sleeper = spawn(another, s);
        UNTIL(sleepers(s->arena, s->cell) == 1);
        more = stepped(spawn(victim, s), n);
        opened += sx_latch_count(latch(s)) == 0;
        if (sx_latch_count(latch(s)) != 0)
            counts_down(s);
        if (!all_end(&sleeper, 1, LATE))
            FAIL("after %ld instructions of the last count a sleeper sleeps on", n);
        sx_object_close(s->arena, &o);
    }
    CHECK(n > 10 && opened > 0 && opened < n - 1);
}

/* ---- permits ------------------------------------------------------------------------------------------------------- */
#define PERMITS 4
static struct sx_permits *permits(struct steps *s)
{
    return (struct sx_permits *)s->cell;
}
static enum sx_status take_permits(struct steps *s, uint32_t n, int64_t deadline)
{
    uint32_t hint = 0;
    struct sx_death death;
    return sx_permits_acquire(s->arena, permits(s), n, 0, deadline, &hint, &death);
}
static void takes_one(struct steps *s)
{
    STATUS(take_permits(s, 1, SX_NEVER), SX_OK);
}
static void takes_three(struct steps *s)
{
    STATUS(take_permits(s, 3, SX_NEVER), SX_OK);
}
static void takes_all(struct steps *s)
{
    STATUS(take_permits(s, PERMITS, SX_NEVER), SX_OK);
}
static void gives_one(struct steps *s)
{
    STATUS(sx_permits_release(s->arena, permits(s), 1, 0), SX_OK);
}
static void gives_all(struct steps *s)
{
    STATUS(sx_permits_release(s->arena, permits(s), PERMITS, 0), SX_OK);
}
static void one_and_back(struct steps *s)
{
    takes_one(s);
    gives_one(s);
}
static void three_and_back(struct steps *s)
{
    takes_three(s);
    STATUS(sx_permits_release(s->arena, permits(s), 3, 0), SX_OK);
}
static void waits_for_one(struct steps *s)
{
    take_permits(s, 1, in(2 * MS));
}
static void waits_for_three(struct steps *s)
{
    take_permits(s, 3, in(2 * MS));
}

/* All permits are there again: neither lost with the dead nor doubled. */
static void all_are_there(struct steps *s, long n)
{
    enum sx_status status = take_permits(s, PERMITS, in(LATE));
    if (status != SX_OK)
        FAIL("after %ld instructions the permits are not all to be had: %s", n, status_name(status));
    CHECK(take_permits(s, 1, 0) == SX_BUSY);
    gives_all(s);
    CHECK(sx_permits_free(s->arena, permits(s), PERMITS + 1) == PERMITS);
}

static void alone(void (*operate)(struct steps *))
{
    struct steps *s = steps(SX_KIND_PERMITS, PERMITS);
    s->operate = operate;
    long n = 1;
    for (bool more = true; more; n += NEXT(n)) {
        more = stepped(spawn(victim, s), n);
        all_are_there(s, n);
    }
    CHECK(n > 20);
}
TEST(killed_at_each_step_of_one_permit, FORKS | NATIVE | HEAVY, 300)
{
    alone(one_and_back);
}
TEST(killed_at_each_step_of_three_permits, FORKS | NATIVE | HEAVY, 300)
{
    alone(three_and_back);
}

/* The victim has all, and gives one back, or all: who sleeps for them gets them, by the release or by the death. */
static void with_a_sleeper(void (*operate)(struct steps *), void (*beside)(struct steps *))
{
    sx_belt_off = true;
    struct steps *s = steps(SX_KIND_PERMITS, PERMITS);
    s->before = takes_all;
    s->operate = operate;
    s->beside = beside;
    long n = 1;
    for (bool more = true; more; n += NEXT(n)) {
        atomic_store(&s->came, 0);
        pid_t holder = spawn(victim, s);
        UNTIL(atomic_load(&s->came) != 0);
        pid_t sleeper = spawn(another, s);
        UNTIL(sleepers(s->arena, s->cell) == 1);
        more = stepped(holder, n);
        if (!all_end(&sleeper, 1, LATE))
            FAIL("after %ld instructions of a release a sleeper sleeps on", n);
        all_are_there(s, n);
    }
    CHECK(n > 20);
}
TEST(killed_at_each_step_of_a_release_of_one, FORKS | NATIVE | HEAVY | WAITV, 300)
{
    with_a_sleeper(gives_one, takes_one);
}
TEST(killed_at_each_step_of_a_release_of_all, FORKS | NATIVE | HEAVY | WAITV, 300)
{
    with_a_sleeper(gives_all, takes_three);
}

/* All are taken by us; the victim waits in vain, and another one behind it gets what we give back. */
static void in_vain(void (*operate)(struct steps *), void (*beside)(struct steps *))
{
    struct steps *s = steps(SX_KIND_PERMITS, PERMITS);
    s->operate = operate;
    s->beside = beside;
    long n = 1;
    for (bool more = true; more; n += NEXT_OF_A_WAIT(n)) {
        takes_all(s);
        pid_t sleeper = spawn(another, s);
        UNTIL(sleepers(s->arena, s->cell) == 1);
        more = stepped(spawn(victim, s), n);
        gives_all(s);
        if (!all_end(&sleeper, 1, LATE))
            FAIL("after %ld instructions of a wait another one sleeps on", n);
        all_are_there(s, n);
    }
    CHECK(n > 100);
}
TEST(killed_at_each_step_of_waiting_for_a_permit, FORKS | NATIVE | HEAVY, 300)
{
    in_vain(waits_for_one, takes_one);
}
TEST(killed_at_each_step_of_waiting_for_three_permits, FORKS | NATIVE | HEAVY, 300)
{
    in_vain(waits_for_three, takes_one);
}

static void dies_with_all(struct steps *s)
{
    takes_all(s);
    raise(SIGKILL);
}
TEST(killed_at_each_step_of_taking_from_the_dead, FORKS | NATIVE | HEAVY, 300)
{
    struct steps *s = steps(SX_KIND_PERMITS, PERMITS);
    s->operate = one_and_back;
    s->beside = dies_with_all;
    long n = 1;
    for (bool more = true; more; n += NEXT(n)) {
        CHECK(WIFSIGNALED(ended(spawn(another, s))));
        more = stepped(spawn(victim, s), n);
        all_are_there(s, n);
    }
    CHECK(n > 20);
}

/* ---- conditions --------------------------------------------------------------------------------------------------- */
static struct sx_condition *condition(struct steps *s)
{
    return (struct sx_condition *)s->cell;
}
static void locks(struct steps *s)
{
    enum sx_status status = sx_mutex_lock(s->arena, &condition(s)->lock, in(LATE));
    CHECK(status == SX_OK || status == SX_OWNER_DIED);
}
static void unlocks(struct steps *s)
{
    STATUS(sx_mutex_unlock(s->arena, &condition(s)->lock, false), SX_OK);
}
static enum sx_status waits_until(struct steps *s, int64_t deadline)
{
    struct sx_waiter w;
    locks(s);
    STATUS(sx_condition_enrol(s->arena, condition(s), deadline, &w), SX_OK);
    unlocks(s);
    enum sx_status status = sx_condition_sleep(&w);
    locks(s);
    if (status == SX_OK)
        sx_condition_consume(&w);
    else
        sx_condition_leave(&w);
    unlocks(s);
    return status;
}
static void waits_for_ever(struct steps *s)
{
    STATUS(waits_until(s, SX_NEVER), SX_OK);
}
static void waits_a_while(struct steps *s)
{
    waits_until(s, in(2 * MS));
}
static void notifies_one(struct steps *s)
{
    locks(s);
    sx_condition_notify(s->arena, condition(s), &condition(s)->lock, 1);
    unlocks(s);
}
static void notifies_all(struct steps *s)
{
    locks(s);
    sx_condition_notify(s->arena, condition(s), &condition(s)->lock, UINT32_MAX);
    unlocks(s);
}

TEST(killed_at_each_step_of_a_wait_for_a_condition, FORKS | NATIVE | HEAVY, 300)
{
    struct steps *s = steps(SX_KIND_CONDITION, SX_ANY);
    s->operate = waits_a_while;
    s->beside = waits_for_ever;
    long n = 1;
    for (bool more = true; more; n += NEXT_OF_A_WAIT(n)) {
        more = stepped(spawn(victim, s), n);
        pid_t sleeper = spawn(another, s);
        UNTIL(sleepers(s->arena, s->cell) == 1);
        notifies_one(s);
        if (!all_end(&sleeper, 1, LATE))
            FAIL("after %ld instructions of a wait its corpse takes notifications", n);
    }
    CHECK(n > 100);
}

TEST(killed_at_each_step_of_a_notification, FORKS | NATIVE | HEAVY, 300)
{
    struct steps *s = steps(SX_KIND_CONDITION, SX_ANY);
    s->operate = notifies_one;
    s->beside = waits_for_ever;
    long n = 1;
    for (bool more = true; more; n += NEXT(n)) {
        pid_t pids[2];
        for (int i = 0; i < 2; i++)
            pids[i] = spawn(another, s);
        UNTIL(sleepers(s->arena, s->cell) == 2);
        more = stepped(spawn(victim, s), n);
        locks(s); /* somebody has been notified, or nobody, but not both */
        CHECK(sx_condition_waiters(s->arena, condition(s)) >= 1);
        unlocks(s);
        notifies_all(s);
        if (!all_end(pids, 2, LATE))
            FAIL("after %ld instructions of a notification somebody sleeps on", n);
    }
    CHECK(n > 50);
}

/* The victim, the longest waiting of two, is notified while it is stepped. */
static void notifies_the_victim(struct steps *s)
{
    UNTIL(sleepers(s->arena, s->cell) == 2 || atomic_load(&s->dead) != 0);
    notifies_one(s);
}

static bool consumed(struct steps *s)
{
    for (uint32_t i = 0; i < sx_participants_ready(s->arena); i++) {
        struct sx_participant *p = &s->arena->participants[i];
        uint32_t life, state = sx_wait_state(atomic_load(&p->wait[0].state));
        uint64_t id = (uint64_t)atomic_load(&p->generation) << 32 | (uint64_t)(i + 1) << SX_SLOT_SHIFT;
        if (sx_holder_life(s->arena, id, &life) == SX_DEAD && (state == SX_NOTIFIED || state == SX_PASSING))
            return false;
    }
    return true;
}

TEST(killed_at_each_step_after_being_notified, FORKS | NATIVE | HEAVY, 600)
{
    struct steps *s = steps(SX_KIND_CONDITION, SX_ANY);
    s->operate = waits_for_ever;
    long n = 1, passed = 0;
    for (bool more = true; more; n += 47) {
        atomic_store(&s->dead, 0);
        atomic_store(&s->came, 0);
        pid_t waiter = spawn(victim, s);
        UNTIL(atomic_load(&s->came) != 0);
        s->beside = notifies_the_victim;
        pid_t notifier = -1, second;
        s->beside = waits_for_ever;
        second = spawn(another, s);
        UNTIL(sleepers(s->arena, s->cell) == 1);
        s->beside = notifies_the_victim;
        notifier = spawn(another, s);
        more = stepped(waiter, n);
        atomic_store(&s->dead, 1);
        ended_well(notifier);
        bool was_consumed = consumed(s);
        passed += !was_consumed;
        if (was_consumed) /* or the notification went to the second at once */
            notifies_one(s);
        if (!all_end(&second, 1, LATE))
            FAIL("after %ld instructions the notification died with the waiter that was chosen", n);
    }
    CHECK(n > 100 && passed > 0);
}

/* ---- readers and writers -------------------------------------------------------------------------------------------- */
static struct sx_rwlock *rwlock(struct steps *s)
{
    return (struct sx_rwlock *)s->cell;
}
static void good(enum sx_status status)
{
    if (status != SX_OK && status != SX_OWNER_DIED)
        FAIL("%s", status_name(status));
}
static void reads(struct steps *s)
{
    good(sx_rwlock_read(s->arena, rwlock(s), SX_NEVER));
    STATUS(sx_rwlock_read_end(s->arena, rwlock(s)), SX_OK);
}
static void writes(struct steps *s)
{
    good(sx_rwlock_write(s->arena, rwlock(s), SX_NEVER));
    STATUS(sx_rwlock_write_end(s->arena, rwlock(s), false), SX_OK);
}
static void begins_to_read(struct steps *s)
{
    good(sx_rwlock_read(s->arena, rwlock(s), SX_NEVER));
}
static void ends_reading(struct steps *s)
{
    STATUS(sx_rwlock_read_end(s->arena, rwlock(s)), SX_OK);
}
static void begins_to_write(struct steps *s)
{
    good(sx_rwlock_write(s->arena, rwlock(s), SX_NEVER));
}
static void ends_writing(struct steps *s)
{
    STATUS(sx_rwlock_write_end(s->arena, rwlock(s), false), SX_OK);
}
static void downgrades(struct steps *s)
{
    STATUS(sx_rwlock_downgrade(s->arena, rwlock(s)), SX_OK);
}
static void upgrades_and_back(struct steps *s)
{
    good(sx_rwlock_upgradable(s->arena, rwlock(s), SX_NEVER));
    good(sx_rwlock_upgrade(s->arena, rwlock(s), SX_NEVER));
    STATUS(sx_rwlock_downgrade_upgraded(s->arena, rwlock(s)), SX_OK);
    STATUS(sx_rwlock_upgradable_end(s->arena, rwlock(s), false), SX_OK);
}
static void tries_to_read(struct steps *s)
{
    if (sx_rwlock_read(s->arena, rwlock(s), in(2 * MS)) == SX_OK)
        ends_reading(s);
}
static void tries_to_write(struct steps *s)
{
    if (sx_rwlock_write(s->arena, rwlock(s), in(2 * MS)) == SX_OK)
        ends_writing(s);
}

/* Nobody is in, and everybody can be. */
static void nobody_is_in(struct steps *s, long n)
{
    enum sx_status status = sx_rwlock_write(s->arena, rwlock(s), in(LATE));
    if (status != SX_OK && status != SX_OWNER_DIED)
        FAIL("after %ld instructions nobody can write: %s", n, status_name(status));
    ends_writing(s);
    STATUS(sx_rwlock_read(s->arena, rwlock(s), in(LATE)), SX_OK);
    ends_reading(s);
    CHECK(sx_rwlock_readers(s->arena, rwlock(s), NULL, NULL) == 0);
}

static void nobody_else(void (*operate)(struct steps *))
{
    struct steps *s = steps(SX_KIND_RWLOCK, SX_ANY);
    s->operate = operate;
    long n = 1;
    for (bool more = true; more; n += NEXT(n)) {
        more = stepped(spawn(victim, s), n);
        nobody_is_in(s, n);
    }
    CHECK(n > 20);
}
TEST(killed_at_each_step_of_reading, FORKS | NATIVE | HEAVY, 300)
{
    nobody_else(reads);
}
TEST(killed_at_each_step_of_writing, FORKS | NATIVE | HEAVY, 300)
{
    nobody_else(writes);
}
TEST(killed_at_each_step_of_an_upgrade, FORKS | NATIVE | HEAVY, 300)
{
    nobody_else(upgrades_and_back);
}

/* The victim is in when another one comes; it gets in by the victim's end, whatever end that is. */
static void somebody_waits(void (*before)(struct steps *), void (*operate)(struct steps *),
                           void (*beside)(struct steps *))
{
    sx_belt_off = true;
    struct steps *s = steps(SX_KIND_RWLOCK, SX_ANY);
    s->before = before;
    s->operate = operate;
    s->beside = beside;
    long n = 1;
    for (bool more = true; more; n += NEXT(n)) {
        atomic_store(&s->came, 0);
        pid_t inside = spawn(victim, s);
        UNTIL(atomic_load(&s->came) != 0);
        pid_t waiter = spawn(another, s);
        UNTIL(sleepers(s->arena, s->cell) + sleepers(s->arena, &rwlock(s)->writer) == 1);
        more = stepped(inside, n);
        if (!all_end(&waiter, 1, LATE))
            FAIL("after %ld instructions of its predecessor's end somebody waits on", n);
        nobody_is_in(s, n);
    }
    CHECK(n > 20);
}
TEST(killed_at_each_step_of_the_end_of_reading, FORKS | NATIVE | HEAVY | WAITV, 300)
{
    somebody_waits(begins_to_read, ends_reading, writes);
}
TEST(killed_at_each_step_of_the_end_of_writing_before_a_reader, FORKS | NATIVE | HEAVY | WAITV, 300)
{
    somebody_waits(begins_to_write, ends_writing, reads);
}
TEST(killed_at_each_step_of_the_end_of_writing_before_a_writer, FORKS | NATIVE | HEAVY | WAITV, 300)
{
    somebody_waits(begins_to_write, ends_writing, writes);
}
TEST(killed_at_each_step_of_a_downgrade, FORKS | NATIVE | HEAVY | WAITV, 300)
{
    somebody_waits(begins_to_write, downgrades, reads);
}

/* We are in; the victim waits for a moment, and then another one as it was before. */
static void in_the_way(bool writing, void (*operate)(struct steps *))
{
    struct steps *s = steps(SX_KIND_RWLOCK, SX_ANY);
    s->operate = operate;
    long n = 1;
    for (bool more = true; more; n += NEXT_OF_A_WAIT(n)) {
        (writing ? begins_to_write : begins_to_read)(s);
        more = stepped(spawn(victim, s), n);
        (writing ? ends_writing : ends_reading)(s);
        nobody_is_in(s, n);
    }
    CHECK(n > 100);
}
TEST(killed_at_each_step_of_waiting_to_read, FORKS | NATIVE | HEAVY, 300)
{
    in_the_way(true, tries_to_read);
}
TEST(killed_at_each_step_of_waiting_to_write, FORKS | NATIVE | HEAVY, 300)
{
    in_the_way(false, tries_to_write);
}

/* ---- barriers ---------------------------------------------------------------------------------------------------------- */
static struct sx_barrier *barrier(struct steps *s)
{
    return (struct sx_barrier *)s->cell;
}
static void arrives(struct steps *s)
{
    struct sx_arrival a;
    enum sx_status status = sx_barrier_wait(s->arena, barrier(s), SX_NEVER, SX_BARRIER_WAIT, &a);
    CHECK(status == SX_OK || status == SX_BROKEN);
    atomic_fetch_add(&s->statuses[status == SX_OK ? 0 : 1], 1);
}
static void arrives_alone(struct steps *s)
{
    struct sx_arrival a;
    sx_barrier_wait(s->arena, barrier(s), in(2 * MS), SX_BARRIER_WAIT, &a);
}

static void with_parties(int others, void (*operate)(struct steps *))
{
    struct steps *s = steps(SX_KIND_BARRIER, 3);
    s->operate = operate;
    s->beside = arrives;
    long n = 1, passed = 0, broken = 0;
    for (bool more = true; more; n += NEXT(n)) {
        pid_t pids[2];
        bool was_broken;
        STATUS(sx_barrier_reset(s->arena, barrier(s)), SX_OK);
        atomic_store(&s->statuses[0], 0);
        atomic_store(&s->statuses[1], 0);
        for (int i = 0; i < others; i++)
            pids[i] = spawn(another, s);
        UNTIL(sleepers(s->arena, s->cell) == others);
        more = stepped(spawn(victim, s), n);
        /* it had arrived, and its end is the end of the phase for all; or they still wait */
        uint32_t waiting = sx_barrier_state(s->arena, barrier(s), &was_broken);
        if (waiting == (uint32_t)others)
            STATUS(sx_barrier_abort(s->arena, barrier(s)), SX_OK);
        if (!all_end(pids, others, LATE))
            FAIL("after %ld instructions of an arrival the others wait on", n);
        if (atomic_load(&s->statuses[0]) != 0 && atomic_load(&s->statuses[1]) != 0)
            FAIL("after %ld instructions of the last arrival some have passed, and some have not", n);
        passed += atomic_load(&s->statuses[0]) != 0;
        broken += atomic_load(&s->statuses[1]) != 0;
    }
    CHECK(n > 50 && broken > 0 && (passed > 0) == (others == 2));
}
TEST(killed_at_each_step_of_the_last_arrival, FORKS | NATIVE | HEAVY, 300)
{
    with_parties(2, arrives_alone);
}
TEST(killed_at_each_step_of_an_arrival, FORKS | NATIVE | HEAVY, 300)
{
    with_parties(1, arrives_alone);
}
