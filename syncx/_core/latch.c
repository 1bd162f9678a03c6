/* latch.c: a count that goes down to 0, once, and threads that wait for that.
 *
 * The word: the count in the high half, which is the futex, with RETIRED beside it; WAITERS in the low half.
 *
 *   word                 meaning                            leaves it by
 *   count, no WAITERS    closed, nobody sleeps              count down: CAS;  prepare: CAS adds WAITERS
 *   count, WAITERS       closed, somebody may sleep         count down: CAS; the one that reaches 0 then wakes all
 *   0, any               open, and nobody sleeps for long   never
 *   RETIRED              unlinked                           never; whoever waits was woken by the same system call
 *
 * The count only goes down, each time by one CAS that checks that as much is left, so exactly one of them reaches 0,
 * and what is not left is refused without a change.
 *
 * No wake-up is lost: WAITERS never goes, and a thread sleeps only on a word that it saw with WAITERS and a count above
 * 0; the kernel compares the count again, and no count comes twice.  The CAS that reaches 0 thus meets WAITERS if
 * anybody sleeps or is going to; whoever slept before it is woken, whoever compares after it does not sleep.  All are
 * woken, so nobody can swallow another's wake-up, and an opened latch stays open.
 *
 * Death: each change is one CAS.  Between the one that reaches 0 and its wake nothing but the belt helps those who
 * sleep: they go on within 100 ms.  (FUTEX_WAKE_OP would change the count without a look at it, and two that count down
 * at once could take it below 0.)  A dead waiter leaves a WAITERS bit, which costs one system call.
 * in_flight and missed are as for every wake (wait.c): a belt that finds the latch open with no wake under way, and
 * none since the sleep began, has rescued somebody.
 *
 * Orderings: each count down releases, and all are read-modify-writes, so whoever sees 0, by an acquire, sees what was
 * written before any of them.
 */
#include "core.h"

static uint32_t high(uint64_t w)
{
    return (uint32_t)(w >> 32);
}

static bool is_settled(void *latch)
{
    uint32_t count = high(atomic_load_explicit(&((struct sx_latch *)latch)->word, memory_order_relaxed));
    return count == 0 || count & LATCH_RETIRED;
}

/* deadline: 0 looks only; SX_NEVER waits for ever. */
enum sx_status sx_latch_wait(struct sx_arena *arena, struct sx_latch *l, int64_t deadline)
{
    struct sx_pause pause = {.arena = arena, .deadline = deadline, .mode = SX_SHARED_MODE};
    struct sx_attempt a = {0};
    uint64_t me, w = atomic_load_explicit(&l->word, memory_order_acquire);
    enum sx_status status = SX_OK;
    if (high(w) != 0 && deadline != 0)
        status = sx_identity(arena, &me);
    while (status == SX_OK && high(w) != 0) {
        if (high(w) & LATCH_RETIRED || (a.slept && sx_cell_outlived(arena, &l->cell))) {
            status = SX_RETIRED;
        } else if (deadline == 0 || a.final) {
            status = deadline == 0 ? SX_BUSY : SX_TIMEOUT;
        } else if (!a.spun && !a.slept && sx_spinning_pays()) {
            a.spun = true;
            sx_pause_block(&pause);
            sx_spin(&l->wakes.spin, &l->statistics.contended, is_settled, l);
            w = atomic_load_explicit(&l->word, memory_order_acquire);
        } else if (w & LATCH_WAITERS ||
                   atomic_compare_exchange_strong_explicit(&l->word, &w, w | LATCH_WAITERS, memory_order_acquire,
                                                           memory_order_acquire)) {
            sx_before_sleep(&l->wakes, &l->statistics, &a);
            enum sx_wake woken =
                sx_pause_sleep(&pause, &l->cell, sx_high_half(&l->word), high(w), NULL, 0, 0, SX_NEVER);
            status = sx_after_sleep(&pause, woken, &a, &me);
            a.woken = false; /* all are woken: nobody counts who */
            w = atomic_load_explicit(&l->word, memory_order_acquire);
        }
    }
    if (status == SX_OK && a.belted) {
        a.lost = sx_nothing_in_flight(&l->wakes, &a);
        if (a.lost)
            sx_count_rescue(arena, &l->cell, &l->wakes, &a, false);
    }
    sx_pause_end(&pause);
    return status;
}

enum sx_status sx_latch_count_down(struct sx_latch *l, uint32_t n)
{
    uint64_t w = atomic_load_explicit(&l->word, memory_order_relaxed);
    for (;;) {
        if (high(w) & LATCH_RETIRED)
            return SX_RETIRED;
        if (n > high(w))
            return SX_NOT_HELD;
        bool wakes = n == high(w) && w & LATCH_WAITERS;
        if (wakes) /* before the change: a belt that sees that sees this */
            atomic_fetch_add_explicit(&l->wakes.in_flight, 1, memory_order_relaxed);
        bool done = atomic_compare_exchange_weak_explicit(&l->word, &w, w - ((uint64_t)n << 32), memory_order_acq_rel,
                                                          memory_order_relaxed);
        if (wakes && done) {
            sx_futex_wake(sx_high_half(&l->word), INT_MAX);
            sx_missed(&l->wakes); /* whoever was awake just then */
        } else if (wakes) {
            atomic_fetch_sub_explicit(&l->wakes.in_flight, 1, memory_order_relaxed);
        }
        if (done)
            return SX_OK;
    }
}

/* ---- as a kind of object ------------------------------------------------------------------------------- */
static size_t size(uint32_t parameter)
{
    (void)parameter;
    return sizeof(struct sx_latch);
}

static void make(struct sx_cell *cell, uint32_t parameter)
{
    atomic_store(&((struct sx_latch *)cell)->word, (uint64_t)parameter << 32);
}

static bool held(struct sx_arena *arena, struct sx_cell *cell)
{
    (void)arena, (void)cell;
    return false;
}

static void retire(struct sx_cell *cell)
{
    struct sx_latch *l = (struct sx_latch *)cell;
    if (sx_futex_wake_op(sx_high_half(&l->word), FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, 31, INT_MAX) < 0) {
        atomic_fetch_or(&l->word, (uint64_t)LATCH_RETIRED << 32);
        sx_futex_wake(sx_high_half(&l->word), INT_MAX);
    }
}

static bool retired(struct sx_cell *cell)
{
    return high(atomic_load(&((struct sx_latch *)cell)->word)) & LATCH_RETIRED;
}

/* Nobody owns a count: it stays.  Whoever waited is gone. */
static void adopt(struct sx_arena *arena, struct sx_cell *cell)
{
    (void)arena;
    struct sx_latch *l = (struct sx_latch *)cell;
    atomic_store(&l->word, (uint64_t)sx_latch_count(l) << 32);
    atomic_store(&l->wakes.in_flight, 0);
}

static void look(struct sx_arena *arena, struct sx_cell *cell, struct sx_look *look)
{
    (void)arena;
    look->value = sx_latch_count((struct sx_latch *)cell);
}

const struct sx_kind_operations sx_latch_kind = {.parameter_max = SX_MAX_UNITS,
                                                 .size = size,
                                                 .make = make,
                                                 .held = held,
                                                 .retire = retire,
                                                 .retired = retired,
                                                 .adopt = adopt,
                                                 .look = look};
