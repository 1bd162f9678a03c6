/* wait.c: how every primitive sleeps.
 *
 * A sleep watches two words, the primitive's and the holder's life word, and lasts at most until the belt
 * (SX_BELT_NS), so that a wake-up which died with the thread it was sent to is made good.  Before it sleeps a
 * thread writes its wait record; with the holder ids in the words those records are the whole wait-for graph.
 * After any wake the caller looks at the words again; what this file returns is only a hint.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>

#include "core.h"

static void *nothing_to_give_up(void)
{
    return NULL;
}
static void nothing_to_take_back(void *state)
{
    (void)state;
}
static bool nobody_to_ask(void **state, bool belt)
{
    (void)state, (void)belt;
    return false;
}
struct sx_host sx_host = {nothing_to_give_up, nothing_to_take_back, nobody_to_ask};
_Thread_local bool sx_hostless __attribute__((tls_model("initial-exec")));
bool sx_belt_off;

/* Gives up the host's lock, once per wait. */
void sx_pause_block(struct sx_pause *pause)
{
    if (!pause->blocked && !sx_hostless) {
        pause->host_state = sx_host.block();
        pause->blocked = true;
    }
}

void sx_pause_end(struct sx_pause *pause)
{
    if (pause->me != NULL)
        atomic_store_explicit(&pause->me->wait.state, SX_RUNNING, memory_order_release);
    pause->me = NULL;
    if (pause->blocked) {
        pause->blocked = false;
        sx_host.unblock(pause->host_state);
    }
}

/* Runs the host's signal handlers.  They may lock other things, wait (which uses our record) or fork: the caller
 * asks for its identity again, and the record is written anew before the next sleep. */
bool sx_pause_interrupted(struct sx_pause *pause, bool belt)
{
    if (pause->me != NULL)
        atomic_store_explicit(&pause->me->wait.state, SX_RUNNING, memory_order_release);
    pause->me = NULL;
    if (sx_hostless)
        return false;
    sx_pause_block(pause);
    return sx_host.interrupted(&pause->host_state, belt);
}

static void publish(struct sx_pause *pause, struct sx_cell *cell, uint64_t holder)
{
    uint64_t id;
    struct sx_arena *arena = pause->arena;
    if (sx_identity(arena, &id) != SX_OK)
        return;
    struct sx_participant *me = sx_participant(arena, id);
    if (me == NULL)
        return;
    struct sx_wait *w = &me->wait;
    uintptr_t at = (uintptr_t)cell, base = (uintptr_t)arena->base;
    bool inside = at >= base && at < base + arena->size;
    if (pause->me == NULL) {
        atomic_store_explicit(&w->cell, inside ? at - base : 0, memory_order_relaxed);
        atomic_store_explicit(&w->address, at, memory_order_relaxed);
        atomic_store_explicit(&w->kind, sx_cell_kind(cell), memory_order_relaxed);
        atomic_store_explicit(&w->units, 1, memory_order_relaxed);
        atomic_store_explicit(&w->mode, 0, memory_order_relaxed);
        atomic_store_explicit(&w->since_ns, (uint64_t)sx_now(), memory_order_relaxed);
        atomic_store_explicit(&w->deadline_ns, (uint64_t)pause->deadline, memory_order_relaxed);
    }
    atomic_store_explicit(&w->holder, holder, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->ticket, 1, memory_order_relaxed);
    /* release: who sees WAITING sees the rest */
    atomic_store_explicit(&w->state, SX_WAITING, memory_order_release);
    pause->me = me;
}

/* One sleep on *word == value (and *life == life_value), until woken, the deadline, bound (an earlier time of the
 * caller's, SX_NEVER for none) or the belt. */
enum sx_wake sx_pause_sleep(struct sx_pause *pause, struct sx_cell *cell, sx_a32 *word, uint32_t value, sx_a32 *life,
                            uint32_t life_value, uint64_t holder, int64_t bound)
{
    int64_t now = sx_now(), until = sx_belt_off ? SX_NEVER : now + SX_BELT_NS;
    bool belt = true;
    if (pause->deadline <= now)
        return SX_DEADLINE;
    if (bound <= now)
        return SX_CHANGED;
    if (bound < until)
        until = bound, belt = false;
    if (pause->deadline < until)
        until = pause->deadline, belt = false;
    sx_pause_block(pause);
    publish(pause, cell, holder);
    int r = sx_futex_wait(word, value, life, life_value, until);
    /* the kernel wakes one sleeper of a dead thread's life word: pass it on to all */
    if (life != NULL && atomic_load_explicit(life, memory_order_relaxed) != life_value)
        sx_futex_wake(life, INT_MAX);
    switch (r) {
    case 0:
        return SX_WOKEN;
    case -ETIMEDOUT:
        /* a signal that came just before the sleep did not interrupt it: the belt looks after it too */
        if (belt)
            return sx_pause_interrupted(pause, true) ? SX_STOP : SX_BELT;
        return until == bound ? SX_CHANGED : SX_DEADLINE;
    case -EINTR:
        return sx_pause_interrupted(pause, false) ? SX_STOP : SX_CHANGED;
    default:
        return SX_CHANGED;
    }
}

/* Did a thread die while it waited for the cell?  Then a wake-up may have died with it.  Rare: on the belt only. */
bool sx_dead_waiter(struct sx_arena *arena, struct sx_cell *cell)
{
    uint64_t at = (uint64_t)((char *)cell - arena->base);
    bool inside = (char *)cell >= arena->base && (char *)cell < arena->base + arena->size;
    uint32_t n = sx_participants_ready(arena);
    for (uint32_t i = 0; i < n; i++) {
        struct sx_participant *p = &arena->participants[i];
        if (atomic_load_explicit(&p->wait.state, memory_order_acquire) != SX_WAITING)
            continue;
        /* a cell in the user's memory has no offset: any dead waiter outside the arena may be the one */
        if (atomic_load_explicit(&p->wait.cell, memory_order_relaxed) != (inside ? at : 0))
            continue;
        uint64_t generation = atomic_load_explicit(&p->generation, memory_order_acquire);
        if (sx_holder_examine(arena, generation << 32 | (uint64_t)(i + 1) << SX_SLOT_SHIFT) == SX_DEAD)
            return true;
    }
    return false;
}

/* On one CPU the holder cannot run while we spin.  Asked at every contended acquire, so the answer is kept for a
 * while: the affinity of a process rarely changes. */
bool sx_spinning_pays(void)
{
    static _Atomic(int64_t) asked;
    static atomic_bool pays;
    int64_t now = sx_now(), last = atomic_load_explicit(&asked, memory_order_relaxed);
    if (last == 0 || now - last > 100000000) {
        cpu_set_t set;
        /* a set too small for the machine (EINVAL) means many CPUs */
        bool many = sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) > 1;
        atomic_store_explicit(&pays, many, memory_order_relaxed);
        atomic_store_explicit(&asked, now, memory_order_relaxed);
    }
    return atomic_load_explicit(&pays, memory_order_relaxed);
}
