/* event.c: a flag that threads wait for.
 *
 *   word                  meaning                                   leaves it by
 *   number                not set, nobody sleeps                    set: CAS adds SET;  wait: CAS adds WAITERS
 *   number | WAITERS      not set, somebody may sleep               set: FUTEX_WAKE_OP adds SET and wakes all
 *   number | SET          set                                       clear: CAS to number + 1
 *   number | SET | WAITERS  set, and all who slept were woken       clear: CAS to number + 1, without WAITERS
 *   any | RETIRED         unlinked                                  never; whoever waits is woken to be told
 *
 * The number, from bit 8, says how often the event was cleared.  Only a set event can be cleared, so a wait that finds
 * another number than it began with has missed a set: set(); clear() in succession wakes everybody who was waiting,
 * however late they run.
 *
 * No wake-up is lost: a thread sleeps only on a word that it saw with WAITERS and without SET, and the kernel compares
 * again.  set() on such a word changes it and wakes all in one system call, under the lock of the kernel's queue, so
 * each waiter either slept before and is woken, or compares later and finds SET.  WAITERS beside SET is older than SET
 * (it is added to words without SET only), so it tells of nobody who is still to be woken: another set() need not wake,
 * and clear() drops both.  A waiter whose comparison comes after that finds another number.  (The kernel compares 24
 * bits of it.  A thread that slept though the event was cleared exactly 2^24 times between its look and its sleep would
 * be asleep on a word with WAITERS, or find out at the belt.)
 *
 * Death: set, clear and the waiter's CAS each change the word in one instruction or one system call, which SIGKILL
 * cannot divide; before it nothing has happened, after it everything.  A dead waiter leaves a WAITERS bit at most, which
 * costs one system call.  All are woken, so no wake-up is one waiter's to swallow, and nobody's death can make the belt
 * rescue another: nothing here counts rescues.  Where the kernel refuses FUTEX_WAKE_OP (a sandbox), change and wake are
 * two steps, and the belt covers a death between them.
 *
 * Orderings: set releases, even where it finds the event set, and wait and is_set acquire, so that what was written
 * before set() is seen after wait().  The CAS of clear and of WAITERS are read-modify-writes, so they pass that on.
 */
#define _GNU_SOURCE
#include "core.h"

struct expectation {
    struct sx_event *event;
    uint64_t before; /* the word when the wait began */
};

static bool happened(uint64_t word, uint64_t before)
{
    return word & EVENT_SET || word / EVENT_STEP != before / EVENT_STEP;
}

static bool has_happened(void *expectation)
{
    struct expectation *x = expectation;
    return happened(atomic_load_explicit(&x->event->word, memory_order_relaxed), x->before);
}

/* In the user's memory nobody marks the word when the arena goes: waiters look at the belt. */
static bool outlived(struct sx_arena *arena, struct sx_cell *cell)
{
    return atomic_load_explicit(&arena->header->retired, memory_order_acquire) != 0 || !sx_cell_is_ours(arena, cell);
}

/* deadline: 0 looks only; SX_NEVER waits for ever. */
enum sx_status sx_event_wait(struct sx_arena *arena, struct sx_event *e, int64_t deadline)
{
    struct sx_pause pause = {.arena = arena, .deadline = deadline, .mode = SX_SHARED_MODE};
    struct sx_attempt a = {0};
    uint64_t me, w = atomic_load_explicit(&e->word, memory_order_acquire);
    struct expectation expectation = {e, w};
    if (w & EVENT_RETIRED)
        return SX_RETIRED;
    if (w & EVENT_SET)
        return SX_OK;
    if (deadline == 0)
        return SX_BUSY;
    enum sx_status status = sx_identity(arena, &me);
    while (status == SX_OK && !happened(w, expectation.before)) {
        if (w & EVENT_RETIRED || (a.belted && outlived(arena, &e->cell))) {
            status = SX_RETIRED;
        } else if (a.final) {
            status = SX_TIMEOUT;
        } else if (!a.spun && !a.slept && sx_spinning_pays()) {
            a.spun = true;
            sx_pause_block(&pause);
            sx_spin(&e->spin, &e->statistics.contended, has_happened, &expectation);
            w = atomic_load_explicit(&e->word, memory_order_acquire);
        } else if (w & EVENT_WAITERS ||
                   atomic_compare_exchange_strong_explicit(&e->word, &w, w | EVENT_WAITERS, memory_order_acquire,
                                                           memory_order_acquire)) {
            if (!a.slept)
                atomic_fetch_add_explicit(&e->statistics.contended, 1, memory_order_relaxed);
            enum sx_wake wake = sx_pause_sleep(&pause, &e->cell, sx_low_half(&e->word), (uint32_t)w | EVENT_WAITERS,
                                               NULL, 0, 0, SX_NEVER);
            status = sx_after_sleep(&pause, wake, &a, &me);
            w = atomic_load_explicit(&e->word, memory_order_acquire);
        }
    }
    sx_pause_end(&pause);
    return status;
}

enum sx_status sx_event_set(struct sx_event *e)
{
    uint64_t w = atomic_load_explicit(&e->word, memory_order_relaxed);
    for (;;) {
        if (w & EVENT_RETIRED)
            return SX_RETIRED;
        if ((w & (EVENT_WAITERS | EVENT_SET)) == EVENT_WAITERS)
            break;
        if (atomic_compare_exchange_weak_explicit(&e->word, &w, w | EVENT_SET, memory_order_release,
                                                  memory_order_relaxed))
            return SX_OK;
    }
    if (sx_futex_wake_op(sx_low_half(&e->word), FUTEX_OP_OR, EVENT_SET, INT_MAX) < 0) {
        atomic_fetch_or_explicit(&e->word, EVENT_SET, memory_order_release);
        sx_futex_wake(sx_low_half(&e->word), INT_MAX);
    }
    return SX_OK;
}

enum sx_status sx_event_clear(struct sx_event *e)
{
    uint64_t w = atomic_load_explicit(&e->word, memory_order_relaxed);
    for (;;) {
        if (w & EVENT_RETIRED)
            return SX_RETIRED;
        if (!(w & EVENT_SET))
            return SX_OK;
        uint64_t next = (w & ~(uint64_t)(EVENT_SET | EVENT_WAITERS)) + EVENT_STEP;
        if (atomic_compare_exchange_weak_explicit(&e->word, &w, next, memory_order_acq_rel, memory_order_relaxed))
            return SX_OK;
    }
}

/* ---- as a kind of object ------------------------------------------------------------------------------- */
static size_t size(uint32_t parameter)
{
    (void)parameter;
    return sizeof(struct sx_event);
}

static void make(struct sx_cell *cell, uint32_t parameter)
{
    (void)cell, (void)parameter; /* zero is an event that is not set */
}

static bool held(struct sx_arena *arena, struct sx_cell *cell)
{
    (void)arena, (void)cell;
    return false;
}

static void retire(struct sx_cell *cell)
{
    struct sx_event *e = (struct sx_event *)cell;
    if (sx_futex_wake_op(sx_low_half(&e->word), FUTEX_OP_OR, EVENT_RETIRED, INT_MAX) < 0) {
        atomic_fetch_or(&e->word, EVENT_RETIRED);
        sx_futex_wake(sx_low_half(&e->word), INT_MAX);
    }
}

static bool retired(struct sx_cell *cell)
{
    return atomic_load(&((struct sx_event *)cell)->word) & EVENT_RETIRED;
}

/* Nobody holds an event, and those who sleep on it still, in processes of the old arena, need their WAITERS bit: all
 * stays as it is. */
static void adopt(struct sx_arena *arena, struct sx_cell *cell)
{
    (void)arena, (void)cell;
}

static void look(struct sx_arena *arena, struct sx_cell *cell, struct sx_look *look)
{
    (void)arena;
    look->value = sx_event_is_set((struct sx_event *)cell);
}

const struct sx_kind_operations sx_event_kind = {
    .size = size, .make = make, .held = held, .retire = retire, .retired = retired, .adopt = adopt, .look = look};
