/* semaphore.c: the classic semaphore, a count of units that nobody owns.  The fast paths are in core.h.
 *
 * The word: a count and WAITERS in the high half, which is the futex; in the low half RETIRED and `several`, how many
 * threads that have slept, or are about to, want more than one unit.
 *
 *   take           count >= n, not RETIRED -> count - n.  One CAS of anyone, acquire.  One that slept leaves WAITERS
 *                  set, and goes out of `several` if it was in it.
 *   give           no WAITERS, not RETIRED -> count + n.  One CAS of anyone, release.
 *   give and wake  WAITERS -> count + n, and n sleepers are woken, or all while `several` is not 0.  FUTEX_WAKE_OP: one
 *                  system call.
 *   prepare        count < n -> WAITERS, and once for each wait for more than one, several + 1.  One CAS of who is to
 *                  sleep.
 *   clear          count > 0, WAITERS, several == 0 -> no WAITERS.  One CAS of one whose give and wake found nobody
 *                  asleep.
 *   leave          several - 1 if it was in it; after a wake also WAITERS, and wakes the next.
 *   retire         RETIRED, then no WAITERS, and all are woken.
 *
 * Units are neither lost nor made: only take and give change the count, each by one atomic step that checks both bounds
 * (give and wake adds without a look, and only where all threads there can be could not reach the limit together).  A
 * count belongs to nobody, so no death changes it: what a dead thread had taken stays taken.
 *
 * Nobody sleeps for ever.  WAITERS lies in the futex: a thread falls asleep only while the word has WAITERS and the
 * count that it saw, both compared by the kernel.  So no clearing can come between its CAS and its sleep, even if the
 * count is back at the same number.  Say that a thread is *carrying* from the moment a wake took it off the queue until
 * it has taken with WAITERS set and woken the next if units are left, or has prepared again, or has left.
 *   1. Where nobody wants several: (a) while somebody sleeps, WAITERS is set or somebody is carrying; (b) while
 *      somebody sleeps and the count is not 0, somebody is carrying.  They fall asleep at 0 only.  A give from 0 meets
 *      WAITERS, and wakes one, or, by (a), somebody was carrying before it.  Who stops carrying leaves nothing to take,
 *      or wakes another.  Clearing takes WAITERS away at a count above 0 only, and then (b) holds, so (a) does.
 *   2. While several > 0, WAITERS stays: preparing sets both in one CAS, and nothing is cleared then.  So every give
 *      meets it and wakes all, after the change; each looks again.  A give that saw several == 0 and woke n looks again
 *      after the wake; so do those who pass one on.  Taking only makes the count smaller.
 *   3. When the last of those leaves `several`, the rest sleep at a count of 0 or were woken by the last give: 1 again.
 * An acquire of several has no precedence: while others take single units it may be overtaken for ever.
 * tests/test_semaphore_model.py goes through every interleaving of a few threads, with and without these rules.
 *
 * Death: of a thread that prepares or sleeps, WAITERS is too much, which costs one system call, and `several` stays too
 * high for good, so that each release is a system call and wakes all; of one that is carrying, the wake dies with it,
 * and the belt of the next sleeper makes that good (counted in rescues).  Give and wake is one system call: nothing
 * falls between, but for more than 2047 units at once and for counts above 2^30, where the change and the wake are two,
 * with the belt behind.
 *
 * Orderings: take is an acquire and give a release, so whoever gets a unit sees what was written before it was given.
 * Preparing and clearing may be relaxed: the kernel's comparison under its bucket lock decides.
 */
#include "core.h"

#define WAITERS ((uint64_t)SEMAPHORE_WAITERS << 32)
#define MANY (UINT32_C(1) << 30) /* below it half a million threads may add at once */
#define WAKE_OP_MAX 2047u        /* its operand has twelve bits with a sign */

static uint64_t units(uint32_t n)
{
    return (uint64_t)n << 32;
}

static bool several_wait(uint64_t w)
{
    return (uint32_t)w >= SEMAPHORE_SEVERAL;
}

/* One who wants more than one unit begins or ends to wait: w with that.  At the top the number stays: then more have
 * died than can live, and it never comes to 0. */
static uint64_t one_more(uint64_t w)
{
    return (uint32_t)w > UINT32_MAX - SEMAPHORE_SEVERAL ? w : w + SEMAPHORE_SEVERAL;
}
static uint64_t one_less(uint64_t w)
{
    return several_wait(w) ? w - SEMAPHORE_SEVERAL : w;
}

/* What one acquire knows beside the word and its struct sx_attempt. */
struct acquire {
    struct sx_semaphore *s;
    uint32_t n;
    bool counted; /* in `several` */
    struct sx_attempt a;
};

static bool looks_possible(void *what)
{
    struct acquire *q = what;
    uint64_t w = atomic_load_explicit(&q->s->word, memory_order_relaxed);
    return sx_semaphore_count(w) >= q->n || w & SEMAPHORE_RETIRED;
}

/* ---- waking: in_flight is raised by as many as may be woken, before, and lowered by those who were not ----------- */
static uint32_t announce(struct sx_semaphore *s, int count)
{
    uint32_t most = count < (int)SX_MAX_PARTICIPANTS ? (uint32_t)count : SX_MAX_PARTICIPANTS;
    atomic_fetch_add_explicit(&s->wakes.in_flight, most, memory_order_relaxed);
    return most;
}

static void announced(struct sx_semaphore *s, uint32_t most, int woken)
{
    if ((uint32_t)woken >= most)
        return;
    atomic_fetch_add_explicit(&s->wakes.missed, 1, memory_order_release);
    atomic_fetch_sub_explicit(&s->wakes.in_flight, most - (uint32_t)woken, memory_order_release);
}

static int wake(struct sx_semaphore *s, int count)
{
    uint32_t most = announce(s, count);
    int woken = sx_futex_wake(sx_high_half(&s->word), count);
    announced(s, most, woken);
    return woken;
}

/* After a wake of fewer than all: has somebody come meanwhile who may have got it and cannot use it? */
static void wake_the_rest(struct sx_semaphore *s, int count)
{
    if (count != INT_MAX && several_wait(atomic_load_explicit(&s->word, memory_order_seq_cst)))
        wake(s, INT_MAX);
}

static void pass_on(struct sx_semaphore *s, uint64_t w)
{
    int count = several_wait(w) ? INT_MAX : 1;
    wake(s, count);
    wake_the_rest(s, count);
}

/* ---- acquire ----------------------------------------------------------------------------------------------------- */
static bool take(struct sx_arena *arena, struct acquire *q, uint64_t *w)
{
    struct sx_semaphore *s = q->s;
    uint64_t left = *w - units(q->n);
    if (q->a.slept)
        left |= WAITERS;
    if (q->counted)
        left = one_less(left);
    if (!atomic_compare_exchange_strong_explicit(&s->word, w, left, memory_order_acquire, memory_order_relaxed))
        return false;
    if (q->a.belted)
        sx_count_rescue(arena, &s->cell, &s->wakes, &q->a, false);
    if (q->a.slept && sx_semaphore_count(left) != 0) /* before our own lands: one of the two is always in flight */
        pass_on(s, left);
    sx_landed(&s->wakes, &q->a);
    return true;
}

/* The word says that somebody sleeps: one CAS from w, which has too few units. */
static bool prepare(struct sx_arena *arena, struct acquire *q, uint64_t *w)
{
    bool counts = q->n > 1 && !q->counted, waiters = *w & WAITERS;
    uint64_t prepared = (counts ? one_more(*w) : *w) | WAITERS;
    if (prepared != *w &&
        !atomic_compare_exchange_strong_explicit(&q->s->word, w, prepared, memory_order_relaxed, memory_order_relaxed))
        return false;
    q->counted = q->counted || (uint32_t)prepared != (uint32_t)*w;
    if (!waiters && q->a.belted)
        sx_count_rescue(arena, &q->s->cell, &q->s->wakes, &q->a, false);
    *w = prepared;
    return true;
}

/* Leaving with nothing.  A wake that we consumed was meant for another sleeper. */
static void leave(struct sx_arena *arena, struct acquire *q)
{
    struct sx_semaphore *s = q->s;
    uint64_t w = atomic_load_explicit(&s->word, memory_order_relaxed), left;
    if (!sx_cell_is_ours(arena, &s->cell))
        return; /* adopted by another arena, and counted anew */
    do
        left = (q->counted ? one_less(w) : w) | (q->a.woken && !(w & SEMAPHORE_RETIRED) ? WAITERS : 0);
    while (left != w &&
           !atomic_compare_exchange_weak_explicit(&s->word, &w, left, memory_order_relaxed, memory_order_relaxed));
    if (q->a.woken || sx_semaphore_count(left) != 0)
        pass_on(s, left);
    sx_landed(&s->wakes, &q->a);
}

/* deadline: 0 tries only; SX_NEVER waits for ever. */
enum sx_status sx_semaphore_acquire(struct sx_arena *arena, struct sx_semaphore *s, uint32_t n, int64_t deadline)
{
    struct sx_pause pause = {.arena = arena, .deadline = deadline, .units = n};
    struct acquire q = {.s = s, .n = n};
    struct sx_attempt *a = &q.a;
    uint64_t me;
    enum sx_status status = sx_identity(arena, &me);
    if (status != SX_OK)
        return status;
    uint64_t w = atomic_load_explicit(&s->word, memory_order_relaxed);

    for (;;) {
        if (a->belted)
            a->lost = sx_nothing_in_flight(&s->wakes, a);
        if (w & SEMAPHORE_RETIRED || (a->slept && sx_cell_outlived(arena, &s->cell))) {
            status = SX_RETIRED;
            break;
        }
        if (sx_semaphore_count(w) >= n) {
            if (!take(arena, &q, &w))
                continue;
            sx_pause_end(&pause);
            return SX_OK;
        }
        if (deadline == 0 || a->final) {
            status = deadline == 0 ? SX_BUSY : SX_TIMEOUT;
            break;
        }
        if (!a->spun && sx_spinning_pays()) {
            a->spun = true;
            sx_pause_block(&pause);
            sx_spin(&s->wakes.spin, &s->statistics.contended, looks_possible, &q);
            w = atomic_load_explicit(&s->word, memory_order_relaxed);
            continue;
        }
        if (!prepare(arena, &q, &w))
            continue;
        sx_before_sleep(&s->wakes, &s->statistics, a);
        uint64_t before = me;
        enum sx_wake woken =
            sx_pause_sleep(&pause, &s->cell, sx_high_half(&s->word), (uint32_t)(w >> 32), NULL, 0, 0, SX_NEVER);
        status = sx_after_sleep(&pause, woken, a, &me);
        if (pause.record == NULL && (sx_identity(arena, &me) != SX_OK || me != before))
            q.counted = false; /* a child that was forked in a signal handler: its parent waits, and is counted */
        if (status != SX_OK)
            break;
        w = atomic_load_explicit(&s->word, memory_order_acquire); /* before in_flight */
    }
    if (a->slept)
        leave(arena, &q);
    sx_pause_end(&pause);
    return status;
}

/* ---- release ----------------------------------------------------------------------------------------------------- */

/* Nobody slept when we woke.  If nobody wants several, who sleeps now fell asleep at a count of 0. */
static void clear(struct sx_semaphore *s)
{
    uint64_t w = atomic_load_explicit(&s->word, memory_order_relaxed);
    if (w & WAITERS && sx_semaphore_count(w) > 0 && !several_wait(w))
        atomic_compare_exchange_strong_explicit(&s->word, &w, w & ~WAITERS, memory_order_relaxed, memory_order_relaxed);
}

enum sx_status sx_semaphore_release(struct sx_semaphore *s, uint32_t n)
{
    sx_a32 *futex = sx_high_half(&s->word);
    uint64_t w = atomic_load_explicit(&s->word, memory_order_relaxed);
    for (;;) {
        uint32_t count = sx_semaphore_count(w);
        if (w & SEMAPHORE_RETIRED)
            return SX_RETIRED;
        if (n > SEMAPHORE_COUNT - count)
            return SX_TOO_MANY;
        if (!(w & WAITERS)) {
            if (atomic_compare_exchange_weak_explicit(&s->word, &w, w + units(n), memory_order_release,
                                                      memory_order_relaxed))
                return SX_OK;
            continue;
        }
        int most = several_wait(w) ? INT_MAX : (int)n, woken = -1;
        uint32_t announcement = announce(s, most); /* before the change: a belt that sees that sees this */
        if (n <= WAKE_OP_MAX && count < MANY) {
            woken = sx_futex_wake_op(futex, FUTEX_OP_ADD, n, most);
            if (woken < 0) /* the kernel could not: two steps then, and the belt in between */
                atomic_fetch_add_explicit(futex, n, memory_order_release);
        } else if (!atomic_compare_exchange_weak_explicit(&s->word, &w, w + units(n), memory_order_release,
                                                          memory_order_relaxed)) {
            atomic_fetch_sub_explicit(&s->wakes.in_flight, announcement, memory_order_relaxed);
            continue;
        }
        if (woken < 0)
            woken = sx_futex_wake(futex, most);
        announced(s, announcement, woken);
        wake_the_rest(s, most);
        if (woken == 0)
            clear(s);
        return SX_OK;
    }
}

/* ---- as a kind of object ----------------------------------------------------------------------------------------- */
static size_t size(uint32_t parameter)
{
    (void)parameter;
    return sizeof(struct sx_semaphore);
}

static void make(struct sx_cell *cell, uint32_t parameter)
{
    atomic_store(&((struct sx_semaphore *)cell)->word, units(parameter));
}

static bool held(struct sx_arena *arena, struct sx_cell *cell)
{
    (void)arena, (void)cell;
    return false; /* units have no owner */
}

/* Who prepared before RETIRED was set finds WAITERS gone when it falls asleep, or sleeps and is woken; who comes later
 * sees RETIRED.  A death between the two steps leaves sleepers to the belt. */
static void retire(struct sx_cell *cell)
{
    struct sx_semaphore *s = (struct sx_semaphore *)cell;
    atomic_fetch_or(&s->word, SEMAPHORE_RETIRED);
    if (sx_futex_wake_op(sx_high_half(&s->word), FUTEX_OP_ANDN | FUTEX_OP_OPARG_SHIFT, 31, INT_MAX) < 0) {
        atomic_fetch_and(&s->word, ~WAITERS);
        sx_futex_wake(sx_high_half(&s->word), INT_MAX);
    }
}

static bool retired(struct sx_cell *cell)
{
    return atomic_load(&((struct sx_semaphore *)cell)->word) & SEMAPHORE_RETIRED;
}

/* The units have no owners, so the count stays; whoever waited is gone. */
static void adopt(struct sx_arena *arena, struct sx_cell *cell)
{
    (void)arena;
    struct sx_semaphore *s = (struct sx_semaphore *)cell;
    atomic_store(&s->word, units(sx_semaphore_count(atomic_load(&s->word))));
    atomic_store(&s->wakes.in_flight, 0);
}

static void look(struct sx_arena *arena, struct sx_cell *cell, struct sx_look *look)
{
    (void)arena;
    look->value = sx_semaphore_count(atomic_load_explicit(&((struct sx_semaphore *)cell)->word, memory_order_acquire));
}

const struct sx_kind_operations sx_semaphore_kind = {.parameter_max = SX_MAX_UNITS,
                                                     .size = size,
                                                     .make = make,
                                                     .held = held,
                                                     .retire = retire,
                                                     .retired = retired,
                                                     .adopt = adopt,
                                                     .look = look};
