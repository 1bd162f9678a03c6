/* test_steps_parts.c: SIGKILL after each machine instruction of what changes a hold of a file range: a part less or more,
 * another mode.  (Taking and giving back: test_steps_ranges.c.)
 *
 * As in test_steps.c a victim is stepped n instructions into its operation and killed there, for growing n until it
 * comes to the end.  Each time whoever waits gets the range, and so does whoever comes: the kernel has unlocked what the
 * victim had, and nothing in the arena is in the way.
 */
#include "check.h"

#include "../../syncx/_core/files.h"

#define LATE (10 * SECOND)

struct steps {
    struct sx_arena *arena;
    struct sx_range *range; /* the victim's */
    bool shared;            /* those who wait want to read */
    enum sx_status (*prepare)(struct steps *);
    enum sx_status (*operate)(struct steps *);
};

static struct sx_range *range(struct sx_arena *arena, bool is_shared)
{
    struct sx_range *r = calloc(1, sizeof *r);
    CHECK(r != NULL);
    *r = (struct sx_range){.arena = arena, .last = 99, .shared = is_shared, .create = true};
    r->path = strdup(path_of("file"));
    STATUS(sx_range_open(r, -1), SX_OK);
    return r;
}

static struct steps *steps(bool is_shared)
{
    struct steps *s = shared(sizeof *s);
    s->arena = arena_new();
    s->range = range(s->arena, is_shared);
    return s;
}

static void victim(void *argument)
{
    struct steps *s = argument;
    if (s->prepare != NULL)
        STATUS(s->prepare(s), SX_OK);
    my_id(s->arena); /* registered: that is another operation */
    to_be_stepped();
    s->operate(s);
    stepped_through();
}

static int in_line(struct sx_arena *arena)
{
    int n = 0;
    for (uint32_t i = 0; i < sx_participants_ready(arena); i++) {
        struct sx_participant *p = &arena->participants[i];
        uint64_t id = (uint64_t)atomic_load(&p->generation) << 32 | (uint64_t)(i + 1) << SX_SLOT_SHIFT;
        uint32_t life;
        n += sx_holder_life(arena, id, &life) == SX_ALIVE &&
             sx_wait_state(atomic_load(&p->wait[0].state)) != SX_RUNNING &&
             atomic_load(&p->wait[0].kind) == SX_KIND_FILE;
    }
    return n;
}

/* ---- what is done ------------------------------------------------------------------------------------------------- */
static enum sx_status acquires(struct steps *s)
{
    return sx_range_acquire(s->range, SX_NEVER);
}
static enum sx_status upgrades(struct steps *s)
{
    return sx_range_upgrade(s->range, in(2 * MS));
}
static enum sx_status downgrades(struct steps *s)
{
    return sx_range_downgrade(s->range);
}
static enum sx_status unlocks_the_middle(struct steps *s)
{
    return sx_range_remove(s->range, 40, 59);
}
static enum sx_status has_two_parts(struct steps *s)
{
    enum sx_status status = acquires(s);
    return status != SX_OK ? status : unlocks_the_middle(s);
}
static enum sx_status locks_the_middle(struct steps *s)
{
    return sx_range_add(s->range, 40, 59, false, in(2 * MS));
}

static void waits(void *argument)
{
    struct steps *s = argument;
    struct sx_range *r = range(s->arena, s->shared);
    STATUS(sx_range_acquire(r, SX_NEVER), SX_OK);
    STATUS(sx_range_release(r), SX_OK);
}

/* For whoever comes after the victim was killed. */
static void can_be_had(struct steps *s, long n)
{
    pid_t next = spawn(waits, s);
    if (!all_end(&next, 1, LATE))
        FAIL("after %ld instructions nobody gets the range", n);
    CHECK(in_line(s->arena) == 0);
}

static void alone(struct steps *s, long stride)
{
    long n = 1;
    for (bool more = true; more; n += n < 40 ? 1 : stride) {
        more = stepped(spawn(victim, s), n);
        can_be_had(s, n);
    }
    CHECK(n > 100);
}

struct held {
    struct steps *steps;
    sx_a32 *held, *go;
};
static void holds(void *argument)
{
    struct held *h = argument;
    struct sx_range *r = range(h->steps->arena, h->steps->shared);
    STATUS(sx_range_acquire(r, SX_NEVER), SX_OK);
    gate_open(h->held);
    gate_pass(h->go);
    STATUS(sx_range_release(r), SX_OK);
}

/* Somebody else has it all the time: the victim waits, and gives up. */
static void beside_a_holder(struct steps *s, long stride)
{
    struct held h = {.steps = s, .held = shared(4), .go = shared(4)};
    pid_t holder = spawn(holds, &h);
    gate_pass(h.held);
    long n = 1;
    for (bool more = true; more; n += n < 40 ? 1 : stride + n / 8) { /* most of it is waiting */
        more = stepped(spawn(victim, s), n);
        CHECK(in_line(s->arena) == 0);
    }
    CHECK(n > 100);
    gate_open(h.go);
    ended_well(holder);
    can_be_had(s, n);
}

/* The victim holds, and somebody waits for it. */
static void with_a_waiter(struct steps *s, long stride)
{
    long n = 1;
    for (bool more = true; more; n += n < 40 ? 1 : stride) {
        pid_t pid = spawn(victim, s); /* stops before its operation, holding */
        siginfo_t unused;
        CHECK(waitid(P_PID, (id_t)pid, &unused, WSTOPPED | WNOWAIT) == 0);
        pid_t waiter = spawn(waits, s);
        UNTIL(in_line(s->arena) == 1);
        more = stepped(pid, n);
        if (!all_end(&waiter, 1, LATE))
            FAIL("after %ld instructions somebody waits for ever", n);
        CHECK(in_line(s->arena) == 0);
    }
    CHECK(n > 100);
}

TEST(killed_at_each_step_of_a_part_less_or_more, FORKS | NATIVE | HEAVY, 120)
{
    struct steps *s = steps(false);
    s->prepare = acquires;
    s->operate = unlocks_the_middle; /* the one who waits wants the rest too, and has to wait for the kill */
    with_a_waiter(s, 83);
    s->prepare = has_two_parts;
    s->operate = locks_the_middle;
    with_a_waiter(s, 83);
}

TEST(killed_at_each_step_of_an_upgrade_or_downgrade, FORKS | NATIVE | HEAVY, 120)
{
    struct steps *s = steps(true);
    s->prepare = acquires;
    s->operate = upgrades;
    alone(s, 61);
    s->shared = true;
    beside_a_holder(s, 97);
    s->shared = false;
    with_a_waiter(s, 83);
    s = steps(false);
    s->prepare = acquires;
    s->operate = downgrades;
    s->shared = true;
    with_a_waiter(s, 83);
}
