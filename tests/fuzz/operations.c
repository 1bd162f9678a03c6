/* operations.c: every operation of every primitive on a cell that an input has damaged.
 *
 * What an operation says it did must be so afterwards: who got a mutex is named in its word, and so on.  An operation that
 * is only allowed after another one (to complete a barrier's phase, to store the result of an initialiser) is asked for
 * after that one only; all others in any order.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "kernel.h"
#include "scene.h"

static bool taken(enum sx_status s)
{
    check_status_value(s);
    return s == SX_OK || s == SX_OWNER_DIED;
}

static bool names_me(struct sx_mutex *m)
{
    return (atomic_load(&m->word) & SX_ID_MASK) == sx_self.id;
}

static void use_mutex(struct world *w, struct sx_mutex *m, struct input *in)
{
    struct sx_arena *a = w->arena;
    uint64_t me;
    switch (take8(in) % 8) {
    case 0:
    case 1:
        if (taken(sx_mutex_lock(a, m, some_deadline(in))))
            REQUIRE(names_me(m));
        break;
    case 2:
        if (sx_mutex_unlock(a, m, take8(in) & 1) == SX_OK)
            REQUIRE(!names_me(m));
        break;
    case 3:
        if (sx_identity(a, &me) == SX_OK && sx_rlock_again(m, me))
            REQUIRE(atomic_load(&m->depth) != 0);
        break;
    case 4:
        if (sx_identity(a, &me) == SX_OK)
            sx_rlock_back(m, me);
        break;
    case 5:
        if (sx_identity(a, &me) == SX_OK && sx_mutex_mark(m, me))
            sx_mutex_clear_mark(m, me);
        break;
    case 6:
        sx_mutex_held(a, m);
        break;
    default:
        sx_dead_waiter(a, &m->cell);
    }
}

static void use_semaphore(struct world *w, struct sx_semaphore *s, struct input *in)
{
    uint32_t n = take8(in) % 4;
    n = n == 3 ? take32(in) & SX_MAX_UNITS : n + 1;
    switch (take8(in) % 5) {
    case 0:
    case 1:
        taken(sx_semaphore_acquire(w->arena, s, n, some_deadline(in)));
        break;
    case 2:
        taken(sx_semaphore_release(s, n));
        break;
    case 3:
        sx_semaphore_take(s, n);
        break;
    default:
        sx_semaphore_give(s, n);
    }
}

static void use_permits(struct world *w, struct sx_permits *p, struct input *in)
{
    struct sx_arena *a = w->arena;
    uint32_t n = take8(in) % 6, scoped = take8(in) & 1 ? PERMIT_SCOPED : 0, hint = take32(in);
    struct sx_death death = {0};
    uint64_t me;
    n = n == 5 ? take32(in) : n;
    switch (take8(in) % 6) {
    case 0:
    case 1:
        if (n != 0)
            taken(sx_permits_acquire(a, p, n, scoped, some_deadline(in), &hint, &death));
        break;
    case 2:
        if (n != 0)
            taken(sx_permits_release(a, p, n, scoped));
        break;
    case 3:
        sx_permits_free(a, p, n);
        break;
    case 4:
        if (sx_identity(a, &me) == SX_OK)
            sx_permits_held(a, p, me);
        break;
    default: { /* what `with` does: a permit by its number, and back */
        uint32_t at = p->cell.parameter == 0 ? 0 : hint % p->cell.parameter;
        if (p->cell.parameter != 0 && sx_identity(a, &me) == SX_OK && a->self != 0 &&
            sx_permit_take(p, at, a->self | PERMIT_SCOPED, me))
            sx_permit_give(p, at, a->self | PERMIT_SCOPED, me);
    }
    }
}

static void use_event(struct world *w, struct sx_event *e, struct input *in)
{
    switch (take8(in) % 4) {
    case 0:
        if (taken(sx_event_wait(w->arena, e, some_deadline(in))))
            REQUIRE(sx_event_is_set(e));
        break;
    case 1:
        if (sx_event_set(e) == SX_OK)
            REQUIRE(sx_event_is_set(e));
        break;
    case 2:
        if (sx_event_clear(e) == SX_OK)
            REQUIRE(!sx_event_is_set(e));
        break;
    default:
        sx_event_is_set(e);
    }
}

static void use_latch(struct world *w, struct sx_latch *l, struct input *in)
{
    switch (take8(in) % 3) {
    case 0:
        if (taken(sx_latch_wait(w->arena, l, some_deadline(in))))
            REQUIRE(sx_latch_count(l) == 0);
        break;
    default:
        taken(sx_latch_count_down(l, take8(in) % 4 == 0 ? take32(in) : 1));
    }
}

/* As the binding does it. */
static void wait_for(struct sx_arena *a, struct sx_condition *c, struct sx_mutex *lock, struct input *in)
{
    struct sx_waiter w;
    if (!names_me(lock) || sx_condition_enrol(a, c, some_deadline(in), &w) != SX_OK)
        return;
    sx_mutex_unlock(a, lock, false);
    enum sx_status s = sx_condition_sleep(&w), again = sx_mutex_lock(a, lock, SX_NEVER);
    check_status_value(s);
    if (s == SX_OK && taken(again))
        sx_condition_consume(&w);
    else
        sx_condition_leave(&w);
}

static void use_condition(struct world *w, struct sx_condition *c, struct input *in)
{
    struct sx_arena *a = w->arena;
    uint64_t me;
    if (sx_identity(a, &me) != SX_OK)
        return;
    switch (take8(in) % 5) {
    case 0:
        taken(sx_mutex_lock(a, &c->lock, some_deadline(in)));
        break;
    case 1:
        wait_for(a, c, &c->lock, in);
        break;
    case 2:
        if (names_me(&c->lock))
            sx_condition_notify(a, c, &c->lock, take8(in) & 1 ? UINT32_MAX : take8(in));
        break;
    case 3:
        sx_mutex_unlock(a, &c->lock, false);
        break;
    default:
        sx_condition_waiters(a, c);
    }
}

static void use_barrier(struct world *w, struct object *o, struct sx_barrier *b, struct input *in)
{
    struct sx_arena *a = w->arena;
    bool broken;
    switch (take8(in) % 8) {
    case 0:
    case 1:
    case 2: {
        enum sx_barrier_use how = (enum sx_barrier_use)(take8(in) % 3);
        o->arrived = sx_barrier_wait(a, b, some_deadline(in), how, &o->arrival) == SX_OK && how == SX_BARRIER_ACT &&
                     o->arrival.last && !o->arrival.done;
        break;
    }
    case 3:
        if (o->arrived)
            taken(sx_barrier_complete(a, b, &o->arrival, take8(in) & 1));
        o->arrived = false;
        break;
    case 4:
        taken(take8(in) & 1 ? sx_barrier_withdraw(a, b) : sx_barrier_forget(a, b, &o->arrival));
        break;
    case 5:
        taken(take8(in) & 1 ? sx_barrier_abort(a, b) : sx_barrier_reset(a, b));
        break;
    case 6:
        sx_barrier_state(a, b, &broken);
        break;
    default:
        sx_barrier_victim(b);
    }
}

static void use_once(struct world *w, struct sx_once *o, struct input *in)
{
    struct sx_arena *a = w->arena;
    unsigned char result[SX_ONCE_RESULT];
    uint32_t length = take16(in) % (SX_ONCE_RESULT + 8);
    bool done = false;
    switch (take8(in) % 4) {
    case 0:
        taken(sx_once_begin(a, o, some_deadline(in), &done));
        break;
    case 1:
        memset(result, length, sizeof result);
        if (sx_once_finish(a, o, result, length) == SX_OK)
            REQUIRE(sx_once_done(o));
        break;
    case 2:
        taken(sx_once_abandon(a, o));
        break;
    default:
        if (sx_once_read(o, result, &length) == SX_OK)
            REQUIRE(length <= SX_ONCE_RESULT);
    }
}

static void a_reader(void *count, uint64_t id)
{
    (void)id;
    ++*(uint32_t *)count;
}

static void use_rwlock(struct world *w, struct sx_rwlock *rw, struct input *in)
{
    struct sx_arena *a = w->arena;
    uint32_t key = sx_cell_key(a, &rw->cell), count = 0;
    uint64_t me;
    if (sx_identity(a, &me) != SX_OK)
        return;
    switch (take8(in) % 12) {
    case 0:
        if (taken(sx_rwlock_read(a, rw, some_deadline(in))))
            REQUIRE(sx_rwlock_read_by_me(a, rw, false) || atomic_load(&rw->phase) & RWLOCK_RETIRED ||
                    names_me(&rw->writer));
        break;
    case 1:
        if (taken(sx_rwlock_write(a, rw, some_deadline(in))))
            REQUIRE(names_me(&rw->writer));
        break;
    case 2:
        taken(sx_rwlock_read_end(a, rw));
        break;
    case 3:
        taken(sx_rwlock_write_end(a, rw, take8(in) & 1));
        break;
    case 4:
        if (taken(sx_rwlock_upgradable(a, rw, some_deadline(in))))
            REQUIRE(names_me(&rw->writer));
        break;
    case 5:
        taken(sx_rwlock_upgradable_end(a, rw, take8(in) & 1));
        break;
    case 6:
        taken(sx_rwlock_upgrade(a, rw, some_deadline(in)));
        break;
    case 7:
        taken(take8(in) & 1 ? sx_rwlock_downgrade(a, rw) : sx_rwlock_downgrade_upgraded(a, rw));
        break;
    case 8:
        REQUIRE(sx_rwlock_readers(a, rw, a_reader, &count) == count);
        break;
    case 9:
        sx_rwlock_writer(a, rw);
        sx_rwlock_upgradable_reader(a, rw);
        sx_rwlock_torn(a, rw);
        break;
    case 10:
        if (sx_self.slot != NULL)
            sx_rwlock_read_fast(sx_self.slot, rw, key);
        break;
    default:
        if (sx_self.slot != NULL)
            sx_rwlock_read_end_fast(sx_self.slot, rw, key);
    }
}

static void a_holder(void *count, uint64_t process, uint64_t thread, uint32_t mode)
{
    (void)process, (void)thread, (void)mode;
    ++*(uint32_t *)count;
}

void use(struct world *w, struct object *o, struct input *in)
{
    struct sx_cell *cell = o->core.cell;
    uint32_t holders = 0;
    if (take8(in) % 8 == 0) {
        struct sx_look look = {.value = -1, .holder = a_holder, .context = &holders};
        struct sx_counts counts;
        sx_kind_operations(o->kind)->look(w->arena, cell, &look);
        sx_kind_operations(o->kind)->held(w->arena, cell);
        sx_count(cell, o->kind, &counts);
        return;
    }
    switch (o->kind) {
    case SX_KIND_MUTEX:
    case SX_KIND_RLOCK:
        use_mutex(w, (struct sx_mutex *)cell, in);
        break;
    case SX_KIND_SEMAPHORE:
        use_semaphore(w, (struct sx_semaphore *)cell, in);
        break;
    case SX_KIND_PERMITS:
        use_permits(w, (struct sx_permits *)cell, in);
        break;
    case SX_KIND_EVENT:
        use_event(w, (struct sx_event *)cell, in);
        break;
    case SX_KIND_LATCH:
        use_latch(w, (struct sx_latch *)cell, in);
        break;
    case SX_KIND_CONDITION:
        use_condition(w, (struct sx_condition *)cell, in);
        break;
    case SX_KIND_BARRIER:
        use_barrier(w, o, (struct sx_barrier *)cell, in);
        break;
    case SX_KIND_ONCE:
        use_once(w, (struct sx_once *)cell, in);
        break;
    case SX_KIND_RWLOCK:
        use_rwlock(w, (struct sx_rwlock *)cell, in);
        break;
    default:
        REQUIRE(!"an object of no kind");
    }
}

/* Who lives, and who waits for whom. */
void look_around(struct world *w, struct input *in)
{
    struct sx_arena *a = w->arena;
    uint32_t life;
    uint64_t me, id = some_thread(in), process = scene.process[take8(in) % SCENE_IDS];
    struct sx_watch watch;
    switch (take8(in) % 12) {
    case 0:
        sx_holder_life(a, id, &life);
        break;
    case 1:
        sx_holder_examine(a, id);
        break;
    case 2:
        sx_process_life(a, process, id, &watch);
        break;
    case 3:
        sx_process_examine(a, process, id);
        break;
    case 4:
        sx_process_alive(a, take16(in), (uint32_t)(process >> 32));
        break;
    case 5:
        pthread_mutex_lock(&a->local);
        sx_process_reap(a);
        pthread_mutex_unlock(&a->local);
        break;
    case 6:
        sx_witnessed(a);
        sx_other_processes(a);
        break;
    case 7:
        sx_participant_leave(a);
        break;
    case 8:
        sx_look_for_all(a);
        break;
    case 9:
        sx_nudged(a, id);
        sx_examines(a, id);
        sx_scan_interval(a);
        break;
    case 10:
        sx_condition_dismiss(a, NULL);
        break;
    default:
        if (sx_identity(a, &me) == SX_OK) {
            struct sx_participant *p = sx_participant(a, me);
            REQUIRE(p != NULL && p == sx_self.slot && sx_alive(a, me));
            REQUIRE((atomic_load(sx_life_word(p)) & FUTEX_TID_MASK) == (uint32_t)gettid());
            REQUIRE((uint32_t)p->life.mutex.__data.__kind == sx_life_kind());
        }
    }
}
