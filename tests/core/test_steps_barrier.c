/* test_steps_barrier.c: SIGKILL after each machine instruction of an arrival that is not the last, of an enrolment and of
 * a withdrawal; test_barrier.c has the last arrival, the action's end and the reset.
 *
 * One party waits meanwhile.  Either the victim was a party when it was killed, and the wait is broken, or it was not,
 * and the wait goes on; after a reset three others meet as if nothing had been.
 */
#include "check.h"

#define LATE (10 * SECOND)

struct steps {
    struct sx_arena *arena;
    struct sx_barrier *barrier;
    void (*operate)(struct steps *);
    bool enrolled; /* the victim, before it is stepped */
    sx_a32 came, passed, broken;
};

static void enrols(struct steps *s)
{
    struct sx_arrival a;
    STATUS(sx_barrier_wait(s->arena, s->barrier, SX_NEVER, SX_BARRIER_ENROL, &a), SX_OK);
}

static void arrives(struct steps *s)
{
    struct sx_arrival a;
    sx_barrier_wait(s->arena, s->barrier, in(2 * MS), SX_BARRIER_WAIT, &a);
}

static void withdraws(struct steps *s)
{
    STATUS(sx_barrier_withdraw(s->arena, s->barrier), SX_OK);
}

static void victim(void *argument)
{
    struct steps *s = argument;
    my_id(s->arena); /* registered: that is another operation */
    if (s->enrolled)
        enrols(s);
    atomic_store(&s->came, 1);
    to_be_stepped();
    s->operate(s);
    stepped_through();
}

static void party(void *argument)
{
    struct steps *s = argument;
    struct sx_arrival a;
    enum sx_status status = sx_barrier_wait(s->arena, s->barrier, SX_NEVER, SX_BARRIER_WAIT, &a);
    CHECK(status == SX_OK || status == SX_BROKEN);
    atomic_fetch_add(status == SX_OK ? &s->passed : &s->broken, 1);
}

static void three_meet(struct steps *s, long n)
{
    pid_t pids[3];
    STATUS(sx_barrier_reset(s->arena, s->barrier), SX_OK);
    for (int i = 0; i < 3; i++)
        pids[i] = spawn(party, s);
    if (!all_end(pids, 3, LATE) || atomic_load(&s->passed) != 3)
        FAIL("after %ld instructions three do not meet any more", n);
}

static void one_waits(void (*operate)(struct steps *), bool enrolled)
{
    struct steps *s = shared(sizeof *s);
    struct sx_request request = {.kind = SX_KIND_BARRIER, .parameter = 3, .create = SX_CREATE};
    struct sx_object o;
    s->arena = arena_new();
    s->operate = operate;
    s->enrolled = enrolled;
    STATUS(sx_object_open(s->arena, "it", 2, &request, &o), SX_OK);
    s->barrier = (struct sx_barrier *)o.cell;
    long n = 1, party_to = 0;
    for (bool more = true; more; n += n < 150 ? 1 : 61) {
        bool was_broken;
        atomic_store(&s->came, 0);
        atomic_store(&s->passed, 0);
        atomic_store(&s->broken, 0);
        pid_t stepping = spawn(victim, s);
        UNTIL(atomic_load(&s->came) != 0);
        pid_t waiter = spawn(party, s);
        UNTIL(sleepers(s->arena, s->barrier) == 1);
        more = stepped(stepping, n);
        if (sx_barrier_state(s->arena, s->barrier, &was_broken) == 1)
            STATUS(sx_barrier_abort(s->arena, s->barrier), SX_OK);
        else
            party_to++;
        if (!all_end(&waiter, 1, LATE))
            FAIL("after %ld instructions a party waits for the dead", n);
        CHECK(atomic_load(&s->broken) == 1);
        three_meet(s, n);
    }
    CHECK(n > 20 && party_to > 0);
}

TEST(killed_at_each_step_of_an_arrival, FORKS | NATIVE | HEAVY, 300)
{
    one_waits(arrives, false);
}
TEST(killed_at_each_step_of_an_enrolment, FORKS | NATIVE | HEAVY, 300)
{
    one_waits(enrols, false);
}
TEST(killed_at_each_step_of_a_withdrawal, FORKS | NATIVE | HEAVY, 300)
{
    one_waits(withdraws, true);
}
