/* test_deadlock.c: the detector where threads stop between two instructions, which no program can bring about at will. */
#include "check.h"

#include "../../syncx/_core/files.h"

struct scene {
    struct sx_arena *arena;
    struct sx_mutex *m;
    struct sx_permits *one;
    sx_a32 step;
};

static struct scene *scene(void)
{
    static struct scene s;
    struct sx_request request = {.kind = SX_KIND_PERMITS, .parameter = 1, .create = SX_CREATE};
    struct sx_object object;
    s = (struct scene){.arena = arena_new()};
    s.m = anonymous(s.arena);
    STATUS(sx_object_anonymous(s.arena, &request, &object), SX_OK);
    s.one = (struct sx_permits *)object.cell;
    return &s;
}

static enum sx_status take_scoped(struct scene *s)
{
    struct sx_death death;
    uint32_t hint = 0;
    return sx_permits_acquire(s->arena, s->one, 1, PERMIT_SCOPED, SX_NEVER, &hint, &death);
}

/* Had the permit before; wants the mutex. */
static void *had_it_and_wants_the_mutex(void *argument)
{
    struct scene *s = argument;
    STATUS(take_scoped(s), SX_OK);
    STATUS(sx_permits_release(s->arena, s->one, 1, PERMIT_SCOPED), SX_OK);
    atomic_store(&s->step, 1);
    UNTIL(atomic_load(&s->step) == 2);
    STATUS(sx_mutex_lock(s->arena, s->m, SX_NEVER), SX_OK);
    STATUS(sx_mutex_unlock(s->arena, s->m, false), SX_OK);
    return NULL;
}

/* Takes the permit, and stops before it has said which thread it is. */
static void *takes_it_in_two_steps(void *argument)
{
    struct scene *s = argument;
    uint64_t none = 0, me = my_id(s->arena);
    CHECK(atomic_compare_exchange_strong(&s->one->permit[0].word, &none, s->arena->self | PERMIT_SCOPED));
    atomic_store(&s->step, 2);
    UNTIL(sleepers(s->arena, s->m) == 1 && sleepers(s->arena, s->one) == 1);
    atomic_store(&s->one->permit[0].thread, me);
    STATUS(sx_permits_release(s->arena, s->one, 1, PERMIT_SCOPED), SX_OK);
    return NULL;
}

TEST(deadlock_a_permit_is_not_its_last_holders_any_more, 0, 30)
{
    struct scene *s = scene();
    STATUS(sx_mutex_lock(s->arena, s->m, SX_NEVER), SX_OK);
    pthread_t before = thread(had_it_and_wants_the_mutex, s);
    UNTIL(atomic_load(&s->step) == 1);
    pthread_t now = thread(takes_it_in_two_steps, s);
    UNTIL(sleepers(s->arena, s->m) == 1);
    STATUS(take_scoped(s), SX_OK); /* whoever has it runs, and gives it back */
    STATUS(sx_permits_release(s->arena, s->one, 1, PERMIT_SCOPED), SX_OK);
    STATUS(sx_mutex_unlock(s->arena, s->m, false), SX_OK);
    joined(before);
    joined(now);
}

/* ---- two waits are never taken for one ----------------------------------------------------------------------------- */
static void *waits_for_this_and_that(void *argument)
{
    struct scene *s = argument;
    struct sx_range r = {.arena = s->arena, .path = (char *)path_of("data"), .last = 9, .create = true};
    STATUS(sx_range_open(&r, -1), SX_OK);
    my_id(s->arena);
    atomic_store(&s->step, 1);
    for (int i = 0; i < 4; i++) {
        STATUS(i % 2 == 0 ? sx_mutex_lock(s->arena, s->m, SX_NEVER) : sx_range_acquire(&r, SX_NEVER), SX_OK);
        STATUS(i % 2 == 0 ? sx_mutex_unlock(s->arena, s->m, false) : sx_range_release(&r), SX_OK);
    }
    sx_range_close(&r);
    return NULL;
}

/* The state of the only wait there is, of that kind. */
static uint32_t state_of(struct scene *s, uint32_t kind)
{
    for (uint32_t i = 0; i < sx_participants_ready(s->arena); i++) {
        struct sx_wait *w = &s->arena->participants[i].wait[0];
        uint32_t state = atomic_load(&w->state);
        if (sx_wait_state(state) == SX_WAITING && atomic_load(&w->kind) == kind)
            return state;
    }
    return 0;
}

TEST(deadlock_a_record_that_is_used_for_all_kinds_numbers_them, 0, 30)
{
    struct scene *s = scene();
    struct sx_range r = {.arena = s->arena, .path = (char *)path_of("data"), .last = 9, .create = true};
    uint32_t seen[4] = {0};
    STATUS(sx_range_open(&r, -1), SX_OK);
    STATUS(sx_mutex_lock(s->arena, s->m, SX_NEVER), SX_OK);
    pthread_t t = thread(waits_for_this_and_that, s);
    for (int i = 0; i < 4; i++) {
        uint32_t kind = i % 2 == 0 ? sx_cell_kind(&s->m->cell) : SX_KIND_FILE;
        UNTIL((seen[i] = state_of(s, kind)) != 0);
        for (int j = 0; j < i; j++)
            CHECK(seen[j] != seen[i]);
        /* what it waits for next is taken before it is let go */
        STATUS(i % 2 == 0 ? sx_range_acquire(&r, SX_NEVER) : sx_mutex_lock(s->arena, s->m, SX_NEVER), SX_OK);
        STATUS(i % 2 == 0 ? sx_mutex_unlock(s->arena, s->m, false) : sx_range_release(&r), SX_OK);
    }
    STATUS(sx_mutex_unlock(s->arena, s->m, false), SX_OK);
    joined(t);
    sx_range_close(&r);
}
