/* condition.c: the condition variable.
 *
 * There is no list of waiters that a death could tear.  A waiter is its own wait record, in its thread's slot: which
 * condition, a ticket (its place in the line) and a state word, which is its futex.  The word's upper 24 bits are the
 * number of the wait, so that a compare-and-swap never hits a later wait of the same record.
 *
 *   state            meaning                                     leaves it by
 *   RUNNING          no wait                                     store by the waiter, which enrols under the lock
 *   WAITING | no.    asleep, or about to sleep                   CAS to NOTIFIED by a notifier or a passer; to RUNNING
 *                                                                by the waiter: its time is over, or it gives up
 *   NOTIFIED | no.   chosen; not told to wait()'s caller yet     store of RUNNING by the waiter, once it holds the
 *                                                                lock again: wait() returns True; CAS to PASSING by
 *                                                                the waiter that gives up, or, once it is dead, by anyone
 *   PASSING | slot   a notification that goes to another;        CAS to RUNNING by the passer; to PASSING | another
 *                    slot: of the passer                         by anyone, once the passer is dead
 *
 * No lost notification: a waiter enrols before it gives the lock up, so a notifier, which holds the lock, sees every
 * wait that began before; and it sleeps only while its word says WAITING, which the kernel compares again.  Exact: each
 * notification changes one word from WAITING, and each word is changed once in a wait.  Longest first: tickets are
 * dealt under the lock, and the lowest of the live ones is chosen.  `waiting` is at least the number of WAITING
 * records: it is raised before a record is written and lowered to what a scan found, both under the lock.
 *
 * Who may get a notification: those who waited when it was sent.  A notifier writes beside the state how many tickets
 * had been dealt by then, counted from the chosen one's (`units`); a passer chooses below that mark, and if nobody is
 * left there, nobody is waiting whom the notification was for.
 *
 * Death.  Of a waiter in WAITING: dead records are not chosen.  In NOTIFIED: any waiter of the condition finds it on the
 * belt, and whoever claims the dead thread's slot finds it there, and passes it on; that needs records only, never the
 * condition's memory, which the claimer may not have.  Of a notifier between the change and the wake, which it sends when
 * the lock is free (whoever is woken earlier would only run into the lock): the belt of the chosen one.  Of a notifier amid its scan: those already chosen are notified, `waiting` is still too high.  Of an
 * enrolling thread: a ticket nobody has, `waiting` too high.  Of a passer: before it has chosen, another begins again;
 * after, the state of the record is PASSING still, and another passes it on once more.  So a notification is passed on
 * at least once, and twice only if the passer died in the few instructions between the two changes (or was stopped
 * there while its record's slot was claimed).  Of a passer's slot: it is not used again before its work is done, see
 * sx_condition_inherit, so PASSING | slot never means a later thread.
 *
 * Orderings: what the notifier wrote is seen by the waiter through the lock.  The state is stored last (seq_cst) when a
 * wait begins and read first (acquire), so the rest of a record belongs to the state that was read, or the CAS fails.
 */
#define _GNU_SOURCE
#include <sched.h>

#include "core.h"

#define BATCH 64          /* waiters chosen in one scan */
#define LOOK_MS 50u       /* the dead are looked for this often, by one of all sleepers of the condition */
#define PASSER_NS 2000000 /* how long a claimer waits for a live passer that is in the midst of it */
#define WAITS(no) ((uint32_t)SX_WAITING | (no))
#define NOTIFIED(no) ((uint32_t)SX_NOTIFIED | (no))
#define PASSING(slot) ((uint32_t)SX_PASSING | ((slot) + 1) << 8)

/* The condition itself, not only its place: what the records of its waiters say. */
struct which {
    uint64_t cell, mark;
};

static uint64_t mark_of(struct sx_condition *c)
{
    return (uint64_t)c->cell.key << 32 | (uint32_t)c->cell.created_ns;
}

static struct which which_of(struct sx_arena *arena, struct sx_condition *c)
{
    uintptr_t at = (uintptr_t)c, base = (uintptr_t)arena->base;
    return (struct which){at >= base && at < base + arena->size ? at - base : 0, mark_of(c)};
}

static bool waits_for(struct sx_wait *w, const struct which *which)
{
    return atomic_load_explicit(&w->kind, memory_order_relaxed) == SX_KIND_CONDITION &&
           atomic_load_explicit(&w->cell, memory_order_relaxed) == which->cell &&
           atomic_load_explicit(&w->holder, memory_order_relaxed) == which->mark;
}

/* ---- choosing --------------------------------------------------------------------------------------------- */
struct chosen {
    uint64_t ticket;
    struct sx_wait *record;
    uint32_t state;
};

/* The `want` longest-waiting live waiters below the horizon, in order; *present: how many there are in all. */
static uint32_t choose(struct sx_arena *arena, const struct which *which, uint64_t horizon, struct chosen *found,
                       uint32_t want, uint32_t *present)
{
    uint32_t n = sx_participants_ready(arena), count = 0;
    *present = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < SX_WAITS; j++) {
            struct sx_wait *w = &arena->participants[i].wait[j];
            uint32_t state = atomic_load_explicit(&w->state, memory_order_acquire);
            if (sx_wait_state(state) == SX_RUNNING)
                break; /* a live thread's records are the first ones */
            if (sx_wait_state(state) != SX_WAITING || !waits_for(w, which))
                continue;
            uint64_t ticket = atomic_load_explicit(&w->ticket, memory_order_relaxed);
            if (ticket >= horizon || !sx_slot_alive(arena, i))
                continue;
            ++*present;
            uint32_t at = count < want ? count++ : want;
            for (; at > 0 && found[at - 1].ticket > ticket; at--)
                if (at < want)
                    found[at] = found[at - 1];
            if (at < want)
                found[at] = (struct chosen){ticket, w, state};
        }
    return count;
}

/* WAITING -> NOTIFIED; the wake is the caller's.  false: the waiter left first. */
static bool notify_one(struct chosen *c, uint64_t horizon, uint64_t me)
{
    atomic_store_explicit(&c->record->address, me, memory_order_relaxed);
    /* first how far it may be passed on; never less than another notifier has written */
    uint64_t span = horizon - c->ticket < UINT32_MAX ? horizon - c->ticket : UINT32_MAX;
    uint32_t told = atomic_load_explicit(&c->record->units, memory_order_relaxed), state = c->state;
    while (told < span && !atomic_compare_exchange_weak_explicit(&c->record->units, &told, (uint32_t)span,
                                                                 memory_order_relaxed, memory_order_relaxed))
        ;
    return atomic_compare_exchange_strong_explicit(&c->record->state, &state, NOTIFIED(state & ~0xffu),
                                                   memory_order_acq_rel, memory_order_relaxed);
}

/* By the holder of the lock.  How many were notified; they are woken when it is released. */
uint32_t sx_condition_notify(struct sx_arena *arena, struct sx_condition *c, struct sx_mutex *lock, uint32_t n)
{
    uint64_t me = atomic_load_explicit(&lock->word, memory_order_relaxed) & SX_ID_MASK;
    if (atomic_load_explicit(&c->waiting, memory_order_relaxed) == 0)
        return 0;
    struct chosen found[BATCH];
    struct which which = which_of(arena, c);
    uint64_t horizon = atomic_load_explicit(&c->tickets, memory_order_relaxed);
    uint32_t done = 0, count, present;
    do {
        count = choose(arena, &which, horizon, found, n - done < BATCH ? n - done : BATCH, &present);
        for (uint32_t i = 0; i < count; i++)
            if (notify_one(&found[i], horizon, me)) {
                sx_wake_later(&found[i].record->state);
                done++;
            }
        atomic_store_explicit(&c->waiting, present - count, memory_order_relaxed);
    } while (done < n && present > count); /* somebody left in between: the next in line */
    if (done != 0)
        atomic_fetch_or_explicit(&lock->word, MUTEX_LATER, memory_order_relaxed);
    return done;
}

/* ---- passing on ------------------------------------------------------------------------------------------- */

/* The record is in PASSING, which names us (or a slot whose life lock we have). */
static bool pass_on(struct sx_arena *arena, struct sx_wait *w, uint32_t passing, uint64_t me)
{
    struct which which = {atomic_load_explicit(&w->cell, memory_order_relaxed),
                          atomic_load_explicit(&w->holder, memory_order_relaxed)};
    uint64_t horizon =
        atomic_load_explicit(&w->ticket, memory_order_relaxed) + atomic_load_explicit(&w->units, memory_order_relaxed);
    struct chosen next;
    uint32_t present;
    bool passed = false;
    while (!passed && choose(arena, &which, horizon, &next, 1, &present) == 1)
        passed = notify_one(&next, horizon, me);
    if (passed)
        sx_futex_wake(&next.record->state, INT_MAX);
    atomic_compare_exchange_strong_explicit(&w->state, &passing, SX_RUNNING, memory_order_release,
                                            memory_order_relaxed);
    return passed;
}

/* From what the state was to PASSING in the name of that slot, and on. */
static bool take_over(struct sx_arena *arena, struct sx_wait *w, uint32_t state, uint32_t slot)
{
    return atomic_compare_exchange_strong_explicit(&w->state, &state, PASSING(slot), memory_order_acq_rel,
                                                   memory_order_relaxed) &&
           pass_on(arena, w, PASSING(slot), sx_slot_id(arena, slot));
}

/* On the belt of a sleeper: what the dead were given and did not use. */
static void relieve(struct sx_arena *arena, struct sx_condition *c, uint64_t me)
{
    uint32_t now = (uint32_t)(sx_now() / 1000000), last = atomic_load_explicit(&c->looked_ms, memory_order_relaxed);
    if (now - last < LOOK_MS ||
        !atomic_compare_exchange_strong_explicit(&c->looked_ms, &last, now, memory_order_relaxed, memory_order_relaxed))
        return;
    struct which which = which_of(arena, c);
    uint32_t n = sx_participants_ready(arena);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < SX_WAITS; j++) {
            struct sx_wait *w = &arena->participants[i].wait[j];
            uint32_t state = atomic_load_explicit(&w->state, memory_order_acquire);
            uint32_t s = sx_wait_state(state), whose = s == SX_PASSING ? (state >> 8) - 1 : i;
            if ((s != SX_NOTIFIED && s != SX_PASSING) || !waits_for(w, &which) || whose >= n ||
                sx_holder_examine(arena, sx_slot_id(arena, whose)) != SX_DEAD)
                continue;
            if (take_over(arena, w, state, sx_slot_of(me))) {
                atomic_fetch_add_explicit(&c->statistics.rescues, 1, memory_order_relaxed);
                atomic_fetch_add_explicit(&arena->header->rescues, 1, memory_order_relaxed);
            }
        }
}

/* The slot of a thread that died or leaves is about to be free; the caller has its life lock.  Its notifications go to
 * others; and, of a dead one, what it was about to pass on, which may lie in the records of others. */
void sx_condition_inherit(struct sx_arena *arena, struct sx_participant *p, bool died)
{
    uint32_t slot = (uint32_t)(p - arena->participants), n = died ? sx_participants_ready(arena) : 0;
    int64_t patience = 0;
    for (uint32_t j = SX_WAITS; j-- > 0;)
        for (struct sx_wait *w = &p->wait[j];;) {
            uint32_t state = atomic_load_explicit(&w->state, memory_order_acquire), s = sx_wait_state(state);
            uint32_t passer = (state >> 8) - 1;
            if (s == SX_RUNNING || atomic_load_explicit(&w->kind, memory_order_relaxed) != SX_KIND_CONDITION)
                break;
            if (s == SX_WAITING) { /* it may be chosen yet */
                atomic_compare_exchange_strong_explicit(&w->state, &state, SX_RUNNING, memory_order_acq_rel,
                                                        memory_order_relaxed);
                continue;
            }
            if (s == SX_PASSING && passer != slot && passer < n && sx_slot_alive(arena, passer)) {
                if (patience == 0)
                    patience = sx_now() + PASSER_NS;
                if (sx_now() < patience) {
                    sched_yield();
                    continue;
                }
            }
            take_over(arena, w, state, slot);
        }
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < SX_WAITS; j++) {
            struct sx_wait *w = &arena->participants[i].wait[j];
            if (atomic_load_explicit(&w->state, memory_order_acquire) == PASSING(slot))
                pass_on(arena, w, PASSING(slot), sx_slot_id(arena, slot));
        }
}

/* ---- waiting ---------------------------------------------------------------------------------------------- */

/* The record is ours: not that of the process we were forked from. */
bool sx_condition_mine(struct sx_waiter *w)
{
    uint64_t me;
    return sx_identity(w->pause.arena, &me) == SX_OK && me == w->me;
}

static bool gone(struct sx_arena *arena, struct sx_condition *c)
{
    return atomic_load_explicit(&c->retired, memory_order_acquire) ||
           atomic_load_explicit(&arena->header->retired, memory_order_acquire) || !sx_cell_is_ours(arena, &c->cell);
}

static void withdraw(struct sx_waiter *w)
{
    w->record = NULL;
    sx_pause_withdraw(&w->pause);
}

/* By the holder of the lock, which gives it up next. */
enum sx_status sx_condition_enrol(struct sx_arena *arena, struct sx_condition *c, int64_t deadline, struct sx_waiter *w)
{
    *w = (struct sx_waiter){.pause = {.arena = arena, .deadline = deadline}, .condition = c};
    enum sx_status s = sx_identity(arena, &w->me);
    if (s != SX_OK)
        return s;
    if (gone(arena, c))
        return SX_RETIRED;
    uint64_t ticket = atomic_load_explicit(&c->tickets, memory_order_relaxed);
    uint32_t waiting = atomic_load_explicit(&c->waiting, memory_order_relaxed);
    atomic_store_explicit(&c->tickets, ticket + 1, memory_order_relaxed);
    atomic_store_explicit(&c->waiting, waiting + 1, memory_order_relaxed);
    if (!sx_pause_enrol(&w->pause, &c->cell, ticket, mark_of(c)))
        return SX_TOO_MANY;
    w->record = w->pause.record;
    w->state = atomic_load_explicit(&w->record->state, memory_order_relaxed) & ~0xffu;
    w->state = WAITS(w->state);
    return SX_OK;
}

static bool told(void *waiter)
{
    struct sx_waiter *w = waiter;
    return atomic_load_explicit(&w->record->state, memory_order_relaxed) != w->state;
}

/* Without the lock.  SX_OK: notified, and the notification stays in the record until sx_condition_consume or _leave;
 * SX_TIMEOUT: the record is given up; SX_INTERRUPTED, SX_RETIRED: it waits still, until _leave; SX_BUSY: we are a forked
 * child by now, which waits for nothing yet. */
enum sx_status sx_condition_sleep(struct sx_waiter *w)
{
    struct sx_condition *c = w->condition;
    struct sx_arena *arena = w->pause.arena;
    bool slept = false;
    enum sx_wake wake = SX_CHANGED;
    enum sx_status status;
    for (;;) {
        uint32_t state = w->state;
        if (told(w)) {
            status = SX_OK;
            break;
        }
        if (gone(arena, c)) {
            status = SX_RETIRED;
            break;
        }
        if (wake == SX_DEADLINE) {
            if (!atomic_compare_exchange_strong_explicit(&w->record->state, &state, SX_RUNNING, memory_order_acq_rel,
                                                         memory_order_relaxed))
                continue;
            status = SX_TIMEOUT;
            break;
        }
        if (wake == SX_BELT)
            relieve(arena, c, w->me);
        if (!slept) {
            slept = true;
            if (w->pause.deadline != 0 && sx_spinning_pays()) {
                sx_pause_block(&w->pause);
                if (sx_spin(&c->spin, &c->statistics.contended, told, w))
                    continue;
            }
            atomic_fetch_add_explicit(&c->statistics.contended, 1, memory_order_relaxed);
        }
        wake = sx_pause_sleep(&w->pause, &c->cell, &w->record->state, state, NULL, 0, mark_of(c), SX_NEVER);
        if (!sx_condition_mine(w)) { /* whatever a handler raised in us */
            status = wake == SX_STOP ? SX_INTERRUPTED : SX_BUSY;
            break;
        }
        w->belted = wake == SX_BELT;
        if (wake == SX_STOP) {
            status = SX_INTERRUPTED;
            break;
        }
    }
    sx_pause_end(&w->pause);
    if (status == SX_TIMEOUT)
        withdraw(w);
    return status;
}

/* The end of a wait that does not return True: a notification that came all the same goes to the next in line. */
void sx_condition_leave(struct sx_waiter *w)
{
    if (w->record == NULL)
        return;
    uint32_t state = w->state;
    if (sx_condition_mine(w) && !atomic_compare_exchange_strong_explicit(&w->record->state, &state, SX_RUNNING,
                                                                         memory_order_acq_rel, memory_order_acquire))
        take_over(w->pause.arena, w->record, state, sx_slot_of(w->me));
    withdraw(w);
}

/* By the holder of the lock: the notification was for us. */
void sx_condition_consume(struct sx_waiter *w)
{
    uint32_t life;
    uint64_t notifier = atomic_load_explicit(&w->record->address, memory_order_relaxed);
    atomic_store_explicit(&w->record->state, SX_RUNNING, memory_order_release);
    withdraw(w);
    /* did it die between choosing us and the wake? */
    if (w->belted && sx_holder_life(w->pause.arena, notifier, &life) != SX_ALIVE) {
        atomic_fetch_add_explicit(&w->condition->statistics.rescues, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&w->pause.arena->header->rescues, 1, memory_order_relaxed);
    }
}

/* How many live threads wait. */
uint32_t sx_condition_waiters(struct sx_arena *arena, struct sx_condition *c)
{
    struct which which = which_of(arena, c);
    struct chosen first;
    uint32_t present;
    choose(arena, &which, UINT64_MAX, &first, 1, &present);
    return present;
}

/* ---- as a kind of object ---------------------------------------------------------------------------------- */
static size_t size(uint32_t parameter)
{
    (void)parameter;
    return sizeof(struct sx_condition);
}

static void make(struct sx_cell *cell, uint32_t parameter)
{
    (void)parameter;
    sx_mutex_make_inside(cell, &((struct sx_condition *)cell)->lock, SX_KIND_RLOCK);
}

static bool held(struct sx_arena *arena, struct sx_cell *cell)
{
    struct sx_condition *c = (struct sx_condition *)cell;
    return sx_mutex_held(arena, &c->lock) || sx_condition_waiters(arena, c) != 0;
}

static void retire(struct sx_cell *cell)
{
    struct sx_condition *c = (struct sx_condition *)cell;
    atomic_store_explicit(&c->retired, 1, memory_order_release);
    sx_mutex_retire(&c->lock);
}

/* Those who sleep are told at once; if we die before, on their belt. */
void sx_condition_dismiss(struct sx_arena *arena, struct sx_cell *cell)
{
    struct which which = {0};
    if (cell != NULL)
        which = which_of(arena, (struct sx_condition *)cell);
    uint32_t n = sx_participants_ready(arena);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < SX_WAITS; j++) {
            struct sx_wait *w = &arena->participants[i].wait[j];
            if (sx_wait_state(atomic_load_explicit(&w->state, memory_order_acquire)) == SX_WAITING &&
                atomic_load_explicit(&w->kind, memory_order_relaxed) == SX_KIND_CONDITION &&
                (cell == NULL || waits_for(w, &which)))
                sx_futex_wake(&w->state, INT_MAX);
        }
}

static bool retired(struct sx_cell *cell)
{
    return atomic_load(&((struct sx_condition *)cell)->retired) != 0;
}

static void adopt(struct sx_arena *arena, struct sx_cell *cell)
{
    struct sx_condition *c = (struct sx_condition *)cell;
    atomic_store(&c->waiting, 0); /* whoever waited, waited in the arena that is gone */
    atomic_store(&c->lock_generation, 0);
    sx_mutex_adopt_inside(arena, &c->lock);
}

static void look(struct sx_arena *arena, struct sx_cell *cell, struct sx_look *look)
{
    sx_mutex_look(arena, &((struct sx_condition *)cell)->lock, look);
}

const struct sx_kind_operations sx_condition_kind = {.parameter_max = SX_ANY - 1,
                                                     .size = size,
                                                     .make = make,
                                                     .held = held,
                                                     .retire = retire,
                                                     .retired = retired,
                                                     .adopt = adopt,
                                                     .look = look};
