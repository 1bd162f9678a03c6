/* rwlock.c: the readers-writer lock.  Its fast paths are in core.h.
 *
 *   phase                    meaning                                        changed by
 *   n, no PRESENT            n writers have left; readers come and go       +PRESENT: a holder of `writer`
 *   n | PRESENT              the next writer waits for those who read;      +PRESENT again, which carries into n: that
 *                            readers who come now wait for n                holder; after its death the next one
 *   n | PRESENT | INSIDE     they have left, and it writes                  INSIDE: that writer; goes with PRESENT
 *   ... | WAITERS            a reader may sleep on it                       CAS by that reader; goes with PRESENT
 *   ... | TORN               a writer died inside                           whoever ends its phase; goes when a writer
 *                                                                           leaves in good order
 *   ... | RETIRED            unlinked                                       never goes
 *
 *   a mark of a thread       meaning
 *   key, count               it reads, or is about to look whether it may
 *   key, PENDING | n         it waits for writer n to leave: not counted by that one, and by every other
 *
 * `writer` is a mutex that a writer holds from before it enters until after it has left, and an upgradable reader for
 * as long as it is one.  A mark is written by its own thread only, the phase by the holder of `writer` (but for the
 * flags); `drain` steps whenever a mark goes, or becomes PENDING, while a writer is present.
 *
 * Exclusion.  A reader stores its mark, then loads the phase; a writer makes the phase odd (PRESENT), then loads the
 * marks; both with a full fence between.  So the reader sees PRESENT or the writer sees the mark.  A reader that sees
 * writer n turns its mark into PENDING | n, never through 0, and goes on once the phase says anything but n and
 * PRESENT; whoever is n + 1 entered after that mark was stored, and counts it.  The numbers are modulo 2^23: should a
 * reader sleep through all of them it finds the phase as it was and waits on.
 * Fairness, by phases: a writer that is present keeps newcomers out, and those who wait when it leaves go in before the
 * next one; between writers the mutex is fair.
 * No lost wake-up.  A reader sleeps on a phase with WAITERS, and the kernel compares; the writer leaves, wakes all and
 * takes WAITERS away in one system call.  The writer reads `drain` before the marks and sleeps on that value; a reader
 * clears its mark, then (a full fence) looks whether a writer is present, then steps `drain` and wakes it in one call.
 *
 * Death between any two instructions.  Of a reader: its marks do not count from then on, by the life of its slot; the
 * writer watches the lives of those it waits for (127 of them, and all on the belt), so it wakes.  That covers a reader
 * that cleared its mark and did not come to step `drain`: it was alive when the writer looked, or was not counted.
 * A slot that is taken anew has its marks cleared before its life counts, and then its sleepers are woken.  Of a writer
 * or upgradable reader: the mutex names a dead thread.  Readers that sleep watch that life; one of them, or the next
 * writer, takes the mutex, and if the phase is odd nobody else can be inside: it sets TORN if the phase says INSIDE,
 * then ends the phase, then (the reader) gives the mutex back with its mark.  Should it die after any of these, the
 * next one finds a dead holder and the rest to do.  INSIDE is there before anything is written; without it and without
 * TORN the mark of the mutex says only that its holder was not writing when it died, and is dropped.  A writer takes
 * TORN away while its phase still says INSIDE: dying then, it leaves TORN again.  Of a woken reader: all are woken,
 * nobody depends on it.
 *
 * The idea is that of phase-fair locks, Brandenburg and Anderson, "Spin-Based Reader-Writer Synchronization for
 * Multiprocessor Real-Time Systems" (2010), with marks in place of counters.
 */
#define _GNU_SOURCE
#include <string.h>

#include "core.h"

static uint32_t number_of(uint32_t phase)
{
    return phase >> RWLOCK_NUMBER_SHIFT;
}

static uint32_t phase_of(struct sx_rwlock *rw)
{
    return atomic_load_explicit(&rw->phase, memory_order_seq_cst);
}

static uint64_t holder_of(struct sx_rwlock *rw)
{
    uint64_t w = atomic_load_explicit(&rw->writer.word, memory_order_acquire);
    return sx_is_free(w) ? 0 : w & SX_ID_MASK;
}

/* ---- marks: marks.c has all but these ----------------------------------------------------------------------- */
static void remove_mark(struct sx_participant *self, struct sx_rwlock *rw, sx_a64 *mark)
{
    sx_mark_remove(self, mark);
    if (phase_of(rw) & RWLOCK_PRESENT)
        sx_rwlock_left(rw);
}

void sx_rwlock_left(struct sx_rwlock *rw)
{
    if (sx_futex_wake_op(&rw->drain, FUTEX_OP_ADD, 1, INT_MAX) < 0) {
        atomic_fetch_add(&rw->drain, 1);
        sx_futex_wake(&rw->drain, INT_MAX);
    }
}

/* ---- looking --------------------------------------------------------------------------------------------- */
uint32_t sx_rwlock_readers(struct sx_arena *arena, struct sx_rwlock *rw, void (*reader)(void *, uint64_t),
                           void *context)
{
    struct sx_reader c = {0};
    uint32_t p = phase_of(rw), key = sx_cell_key(arena, &rw->cell), n = 0;
    for (; sx_next_reader(arena, key, p & RWLOCK_PRESENT ? number_of(p) : SX_NO_WRITER, false, &c); n++)
        if (reader != NULL)
            reader(context, c.id);
    return n;
}

uint64_t sx_rwlock_writer(struct sx_arena *arena, struct sx_rwlock *rw)
{
    uint32_t life;
    uint64_t holder = holder_of(rw);
    return holder != 0 && phase_of(rw) & RWLOCK_INSIDE && sx_holder_life(arena, holder, &life) == SX_ALIVE ? holder : 0;
}

uint64_t sx_rwlock_upgradable_reader(struct sx_arena *arena, struct sx_rwlock *rw)
{
    uint32_t life;
    uint64_t holder = holder_of(rw);
    return holder != 0 && atomic_load_explicit(&rw->upgradable, memory_order_relaxed) != 0 &&
                   sx_holder_life(arena, holder, &life) == SX_ALIVE && sx_rwlock_writer(arena, rw) == 0
               ? holder
               : 0;
}

/* ---- phases: by the holder of the mutex only ------------------------------------------------------------ */
static void end_phase(struct sx_rwlock *rw)
{
    uint32_t p = atomic_load_explicit(&rw->phase, memory_order_relaxed);
    uint32_t step = RWLOCK_PRESENT - (p & RWLOCK_INSIDE); /* which only the holder changes */
    while (!(p & RWLOCK_WAITERS))
        /* release: readers see what was written */
        if (atomic_compare_exchange_weak_explicit(&rw->phase, &p, p + step, memory_order_release, memory_order_relaxed))
            return;
    step -= RWLOCK_WAITERS;
    if (sx_futex_wake_op(&rw->phase, FUTEX_OP_ADD, step, INT_MAX) < 0) {
        atomic_fetch_add_explicit(&rw->phase, step, memory_order_release);
        sx_futex_wake(&rw->phase, INT_MAX);
    }
}

static void clear_torn(struct sx_rwlock *rw)
{
    if (atomic_load_explicit(&rw->phase, memory_order_relaxed) & RWLOCK_TORN)
        atomic_fetch_and_explicit(&rw->phase, ~RWLOCK_TORN, memory_order_relaxed);
}

/* We have just got the mutex.  Ends the phase of a dead writer, and makes the mark of the mutex say whether one died
 * inside; SX_OWNER_DIED if so. */
static enum sx_status settle(struct sx_rwlock *rw, uint64_t me)
{
    uint32_t p = atomic_load_explicit(&rw->phase, memory_order_acquire);
    atomic_store_explicit(&rw->upgradable, 0, memory_order_relaxed);
    if (p & RWLOCK_INSIDE) {
        struct sx_statistics *of_mutex = &rw->writer.statistics, *s = &rw->statistics;
        atomic_store_explicit(&s->dead_pid, atomic_load(&of_mutex->dead_pid), memory_order_relaxed);
        atomic_store_explicit(&s->dead_tid, atomic_load(&of_mutex->dead_tid), memory_order_relaxed);
        atomic_fetch_add_explicit(&s->recoveries, 1, memory_order_relaxed);
        p |= atomic_fetch_or_explicit(&rw->phase, RWLOCK_TORN, memory_order_relaxed) | RWLOCK_TORN;
    }
    if (p & RWLOCK_PRESENT)
        end_phase(rw);
    if (!(p & RWLOCK_TORN)) {
        sx_mutex_clear_mark(&rw->writer, me);
        return SX_OK;
    }
    if (!sx_mutex_mark(&rw->writer, me))
        atomic_fetch_or_explicit(&rw->writer.word, MUTEX_OWNER_DIED, memory_order_relaxed);
    return SX_OWNER_DIED;
}

/* A reader that finds nobody alive behind an odd phase.  false: somebody else is at it. */
static bool mend(struct sx_arena *arena, struct sx_rwlock *rw, uint64_t me, enum sx_status *status)
{
    enum sx_status s = sx_mutex_lock(arena, &rw->writer, 0);
    if (s == SX_OK || s == SX_OWNER_DIED) {
        settle(rw, me);
        sx_mutex_unlock(arena, &rw->writer, true);
        return true;
    }
    if (s != SX_BUSY)
        *status = s;
    return false;
}

static void count_sleep(struct sx_rwlock *rw, struct sx_attempt *a)
{
    if (!a->slept)
        atomic_fetch_add_explicit(&rw->statistics.contended, 1, memory_order_relaxed);
    a->belted = false;
}

/* The belt ended a sleep, and there was something to do.  A rescue, if a death had swallowed the wake-up. */
static void count_rescue(struct sx_arena *arena, struct sx_rwlock *rw, bool died)
{
    if (!died && !sx_dead_waiter(arena, &rw->cell))
        return;
    atomic_fetch_add_explicit(&rw->statistics.rescues, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&arena->header->rescues, 1, memory_order_relaxed);
}

/* Handlers ran in a sleep: are we somebody else now, a forked child, who owns nothing of this? */
static bool forked(struct sx_arena *arena, uint64_t me)
{
    uint64_t now;
    return sx_identity(arena, &now) != SX_OK || now != me;
}

struct change {
    sx_a32 *word;
    uint32_t value, mask;
};

static bool changed(void *what)
{
    struct change *c = what;
    return (atomic_load_explicit(c->word, memory_order_relaxed) & c->mask) != (c->value & c->mask);
}

/* Sleeps, or spins the first time.  SX_OK: look again. */
static enum sx_status rest(struct sx_pause *pause, struct sx_rwlock *rw, struct sx_attempt *a, struct change *c,
                           const struct sx_watch *watch, int watched, uint64_t holder, bool spin)
{
    if (spin && !a->spun && sx_spinning_pays()) {
        a->spun = true;
        sx_pause_block(pause);
        sx_spin(c->word == &rw->phase ? &rw->spin_read : &rw->spin_drain, &rw->statistics.contended, changed, c);
        return SX_OK;
    }
    if (c->word == &rw->phase && !(c->value & RWLOCK_WAITERS)) {
        if (!atomic_compare_exchange_strong_explicit(c->word, &c->value, c->value | RWLOCK_WAITERS,
                                                     memory_order_relaxed, memory_order_relaxed))
            return SX_OK;
        c->value |= RWLOCK_WAITERS;
    }
    uint64_t me;
    count_sleep(rw, a);
    enum sx_wake wake = sx_pause_sleep(pause, &rw->cell, c->word, c->value, watch, watched, holder, SX_NEVER);
    return sx_after_sleep(pause, wake, a, &me);
}

/* With the mutex: keeps readers out and waits for those inside.  *gone: a handler forked, and we are the child. */
static enum sx_status enter(struct sx_arena *arena, struct sx_rwlock *rw, uint64_t me, int64_t deadline, uint32_t mode,
                            bool *gone)
{
    struct sx_pause pause = {.arena = arena, .deadline = deadline, .mode = mode};
    struct sx_attempt a = {0};
    uint32_t key = sx_cell_key(arena, &rw->cell);
    uint32_t number = number_of(atomic_fetch_add_explicit(&rw->phase, RWLOCK_PRESENT, memory_order_seq_cst));
    enum sx_status status;
#if !defined(__x86_64__) && !defined(__i386__)
    atomic_thread_fence(memory_order_seq_cst);
#endif
    for (;;) {
        struct change step = {&rw->drain, atomic_load_explicit(&rw->drain, memory_order_seq_cst), UINT32_MAX};
        struct sx_watch watch[SX_MAX_WATCH];
        int watched = 0;
        struct sx_reader c = {0};
        uint64_t first = 0;
        bool ours = false; /* a mark of ours */
        bool examine = a.belted || a.final || (deadline == 0 && sx_examination_due(true));
        if (phase_of(rw) & RWLOCK_RETIRED || !sx_cell_is_ours(arena, &rw->cell)) {
            status = SX_RETIRED;
            break;
        }
        while (sx_next_reader(arena, key, number, examine, &c)) {
            first = first == 0 ? c.id : first;
            ours = ours || c.id == me;
            if (watched < SX_MAX_WATCH && c.id != me)
                watch[watched++] = c.life;
        }
        if (first == 0) {
            if (a.belted)
                count_rescue(arena, rw, c.dead != 0);
            status = SX_OK;
            break;
        }
        if (ours && deadline == SX_NEVER) {
            status = SX_DEADLOCK;
            break;
        }
        if (deadline == 0 || a.final) {
            status = deadline == 0 ? SX_BUSY : SX_TIMEOUT;
            break;
        }
        status = rest(&pause, rw, &a, &step, watch, watched, first, !ours);
        *gone = pause.record == NULL && forked(arena, me);
        if (status != SX_OK || *gone)
            break;
    }
    if (status != SX_OK && !*gone)
        end_phase(rw);
    else if (!*gone)
        atomic_fetch_or_explicit(&rw->phase, RWLOCK_INSIDE, memory_order_seq_cst);
    sx_pause_end(&pause);
    return status;
}

/* ---- reading ------------------------------------------------------------------------------------------- */
enum sx_status sx_rwlock_read(struct sx_arena *arena, struct sx_rwlock *rw, int64_t deadline)
{
    struct sx_pause pause = {.arena = arena, .deadline = deadline, .mode = SX_SHARED_MODE};
    struct sx_attempt a = {0};
    uint32_t key = sx_cell_key(arena, &rw->cell), writer = SX_NO_WRITER; /* the one we wait for */
    uint64_t me, active = (uint64_t)key << 32 | 1;
    enum sx_status status;
    struct sx_own_marks own;
again:
    status = sx_identity(arena, &me);
    if (status != SX_OK) {
        sx_pause_end(&pause);
        return status;
    }
    struct sx_participant *self = sx_self.slot;
    own = sx_own_marks(self, key);
    if (own.active != NULL) {
        uint64_t v = atomic_load_explicit(own.active, memory_order_relaxed);
        status = (v & MARK_COUNT) == MARK_COUNT ? SX_TOO_MANY : SX_OK;
        if (status == SX_OK)
            atomic_store_explicit(own.active, v + 1, memory_order_relaxed);
        sx_pause_end(&pause);
        return status;
    }
    if (own.unused == NULL) {
        sx_pause_end(&pause);
        return SX_TOO_MANY;
    }
    sx_mark_add(self, own.unused, active);
    for (bool died = false;;) {
        uint32_t life_value = 0, p = phase_of(rw);
        if (p & RWLOCK_RETIRED || !sx_cell_is_ours(arena, &rw->cell)) {
            status = SX_RETIRED;
            break;
        }
        if (!(p & RWLOCK_PRESENT) || (writer != SX_NO_WRITER && number_of(p) != writer)) {
            if (a.belted)
                count_rescue(arena, rw, died);
            status = SX_OK;
            break;
        }
        if (writer == SX_NO_WRITER) {
            /* we are a signal handler inside a wait of this thread that is over: the writer counts that mark, and
             * would wait for us */
            if (own.pending != NULL && own.number != number_of(p)) {
                status = SX_OK;
                break;
            }
            writer = number_of(p);
            sx_mark(own.unused, (uint64_t)key << 32 | MARK_PENDING | writer);
            sx_rwlock_left(rw); /* it may have counted us */
            continue;
        }
        uint64_t holder = holder_of(rw);
        if (holder == me && deadline == SX_NEVER) {
            status = SX_DEADLOCK;
            break;
        }
        if (holder != 0 && (a.belted || a.final || (deadline == 0 && sx_examination_due(true))))
            sx_holder_examine(arena, holder);
        enum sx_life seen = holder == 0 ? SX_DEAD : sx_holder_life(arena, holder, &life_value);
        if (seen == SX_IMPOSSIBLE) {
            status = SX_DAMAGED;
            break;
        }
        if (seen == SX_DEAD) {
            if (phase_of(rw) != p) /* it has just left */
                continue;
            died = died || holder != 0;
            if (mend(arena, rw, me, &status) || holder_of(rw) != holder)
                continue;
            if (status != SX_OK)
                break;
        }
        if (deadline == 0 || a.final) {
            status = deadline == 0 ? SX_BUSY : SX_TIMEOUT;
            break;
        }
        struct change phase = {&rw->phase, p, ~(RWLOCK_WAITERS | RWLOCK_TORN | RWLOCK_INSIDE)};
        struct sx_watch life = {seen == SX_ALIVE ? sx_life_word(sx_participant(arena, holder)) : NULL, life_value};
        status = rest(&pause, rw, &a, &phase, &life, seen == SX_ALIVE, holder, holder != me);
        if (pause.record == NULL && forked(arena, me)) { /* the mark is the parent's */
            if (status != SX_OK) {
                sx_pause_end(&pause);
                return status;
            }
            writer = SX_NO_WRITER;
            goto again;
        }
        if (status != SX_OK)
            break;
    }
    if (status != SX_OK)
        remove_mark(self, rw, own.unused);
    else if (writer != SX_NO_WRITER)
        atomic_store_explicit(own.unused, active, memory_order_release);
    sx_pause_end(&pause);
    return status;
}

/* One hold of ours less; downgraded: the one that was a writer's. */
static enum sx_status read_end(struct sx_arena *arena, struct sx_rwlock *rw, bool downgraded)
{
    uint64_t me;
    enum sx_status s = sx_identity(arena, &me);
    if (s != SX_OK)
        return s;
    struct sx_own_marks own = sx_own_marks(sx_self.slot, sx_cell_key(arena, &rw->cell));
    uint64_t v = own.active == NULL ? 0 : atomic_load_explicit(own.active, memory_order_relaxed);
    bool is_downgraded = v & MARK_DOWNGRADED;
    if (downgraded ? !is_downgraded : (v & MARK_COUNT) <= is_downgraded)
        return SX_NOT_OWNER;
    if ((v & MARK_COUNT) == 1)
        remove_mark(sx_self.slot, rw, own.active);
    else
        atomic_store_explicit(own.active, (v & ~(uint64_t)(downgraded ? MARK_DOWNGRADED : 0)) - 1,
                              memory_order_relaxed);
    return SX_OK;
}

enum sx_status sx_rwlock_read_end(struct sx_arena *arena, struct sx_rwlock *rw)
{
    return read_end(arena, rw, false);
}

bool sx_rwlock_read_by_me(struct sx_arena *arena, struct sx_rwlock *rw, bool downgraded)
{
    uint64_t me;
    if (sx_identity(arena, &me) != SX_OK)
        return false;
    struct sx_own_marks own = sx_own_marks(sx_self.slot, sx_cell_key(arena, &rw->cell));
    uint64_t v = own.active == NULL ? 0 : atomic_load_explicit(own.active, memory_order_relaxed);
    return downgraded ? (v & MARK_DOWNGRADED) != 0 : (v & MARK_COUNT) > ((v & MARK_DOWNGRADED) != 0);
}

/* ---- writing ------------------------------------------------------------------------------------------- */

/* Who reads would wait for itself: refused, or, with a deadline, waited for in vain (a signal handler may end it). */
static enum sx_status not_reading(struct sx_arena *arena, struct sx_rwlock *rw, int64_t deadline, uint32_t mode)
{
    struct sx_pause pause = {.arena = arena, .deadline = deadline, .mode = mode};
    struct sx_attempt a = {0};
    uint64_t me;
    enum sx_status s;
    while ((s = sx_identity(arena, &me)) == SX_OK) {
        struct sx_own_marks own = sx_own_marks(sx_self.slot, sx_cell_key(arena, &rw->cell));
        struct change step = {&rw->drain, atomic_load(&rw->drain), UINT32_MAX};
        if (own.active == NULL && own.pending == NULL)
            break;
        if (deadline == SX_NEVER || deadline == 0 || a.final) {
            s = deadline == SX_NEVER ? SX_DEADLOCK : deadline == 0 ? SX_BUSY : SX_TIMEOUT;
            break;
        }
        if ((s = rest(&pause, rw, &a, &step, NULL, 0, me, false)) != SX_OK)
            break;
    }
    sx_pause_end(&pause);
    return s;
}

enum sx_status sx_rwlock_write(struct sx_arena *arena, struct sx_rwlock *rw, int64_t deadline)
{
    for (;;) {
        uint64_t me;
        bool gone = false;
        enum sx_status entered, s = not_reading(arena, rw, deadline, SX_EXCLUSIVE_MODE);
        if (s == SX_OK)
            s = sx_mutex_lock(arena, &rw->writer, deadline);
        if ((s != SX_OK && s != SX_OWNER_DIED) || (s = sx_identity(arena, &me)) != SX_OK)
            return s;
        s = settle(rw, me);
        /* a try that would fail need not disturb the readers */
        bool vain = deadline == 0 && !sx_examination_due(false) && sx_rwlock_readers(arena, rw, NULL, NULL) != 0;
        entered = vain ? SX_BUSY : enter(arena, rw, me, deadline, SX_EXCLUSIVE_MODE, &gone);
        if (entered == SX_OK && !gone)
            return s;
        if (!gone)
            sx_mutex_unlock(arena, &rw->writer, true);
        if (entered != SX_OK)
            return entered;
    }
}

enum sx_status sx_rwlock_upgradable(struct sx_arena *arena, struct sx_rwlock *rw, int64_t deadline)
{
    uint64_t me;
    enum sx_status s = not_reading(arena, rw, deadline, SX_UPGRADE_MODE);
    if (s == SX_OK)
        s = sx_mutex_lock(arena, &rw->writer, deadline);
    if ((s != SX_OK && s != SX_OWNER_DIED) || (s = sx_identity(arena, &me)) != SX_OK)
        return s;
    s = settle(rw, me);
    atomic_store_explicit(&rw->upgradable, 1, memory_order_relaxed);
    return s;
}

/* Do we hold the lock, as a writer or as an upgradable reader?  Not a signal handler inside the wait for the readers to
 * leave: what it ended or gave back the wait would go on without, and go in among them. */
static enum sx_status holding(struct sx_arena *arena, struct sx_rwlock *rw, bool upgradable, uint64_t *me)
{
    enum sx_status s = sx_identity(arena, me);
    if (s == SX_OK &&
        (holder_of(rw) != *me || (atomic_load_explicit(&rw->upgradable, memory_order_relaxed) != 0) != upgradable ||
         (phase_of(rw) & (RWLOCK_PRESENT | RWLOCK_INSIDE)) == RWLOCK_PRESENT))
        s = SX_NOT_OWNER;
    return s;
}

/* The end of the phase, if it is ours; what was written is whole unless the mark is to be kept. */
static bool finish(struct sx_rwlock *rw, uint64_t me, bool keep_mark)
{
    bool present = atomic_load_explicit(&rw->phase, memory_order_relaxed) & RWLOCK_PRESENT;
    keep_mark = (keep_mark || !present) && sx_mutex_mark(&rw->writer, me);
    if (!keep_mark)
        clear_torn(rw);
    if (present)
        end_phase(rw);
    return keep_mark;
}

enum sx_status sx_rwlock_write_end(struct sx_arena *arena, struct sx_rwlock *rw, bool keep_mark)
{
    uint64_t me;
    enum sx_status s = holding(arena, rw, false, &me);
    if (s != SX_OK)
        return s == SX_NOT_OWNER ? read_end(arena, rw, true) : s;
    return sx_mutex_unlock(arena, &rw->writer, finish(rw, me, keep_mark));
}

enum sx_status sx_rwlock_upgradable_end(struct sx_arena *arena, struct sx_rwlock *rw, bool keep_mark)
{
    uint64_t me;
    enum sx_status s = holding(arena, rw, true, &me);
    if (s != SX_OK)
        return s;
    keep_mark = finish(rw, me, keep_mark);
    atomic_store_explicit(&rw->upgradable, 0, memory_order_relaxed);
    return sx_mutex_unlock(arena, &rw->writer, keep_mark);
}

enum sx_status sx_rwlock_upgrade(struct sx_arena *arena, struct sx_rwlock *rw, int64_t deadline)
{
    uint64_t me;
    bool gone = false;
    enum sx_status s = holding(arena, rw, true, &me);
    if (s != SX_OK || phase_of(rw) & RWLOCK_PRESENT)
        return s;
    s = not_reading(arena, rw, deadline, SX_UPGRADE_MODE);
    if (s == SX_OK && holding(arena, rw, true, &me) == SX_OK) /* not a forked child by now */
        s = enter(arena, rw, me, deadline, SX_UPGRADE_MODE, &gone);
    else if (s == SX_OK)
        s = SX_NOT_OWNER;
    return s == SX_OK && gone ? SX_NOT_OWNER : s;
}

enum sx_status sx_rwlock_downgrade(struct sx_arena *arena, struct sx_rwlock *rw)
{
    uint64_t me;
    uint32_t key = sx_cell_key(arena, &rw->cell);
    enum sx_status s = holding(arena, rw, false, &me);
    if (s != SX_OK)
        return s;
    struct sx_own_marks own = sx_own_marks(sx_self.slot, key);
    if (own.unused == NULL)
        return SX_TOO_MANY;
    sx_mark_add(sx_self.slot, own.unused, (uint64_t)key << 32 | MARK_DOWNGRADED | 1);
    return sx_mutex_unlock(arena, &rw->writer, finish(rw, me, false));
}

enum sx_status sx_rwlock_downgrade_upgraded(struct sx_arena *arena, struct sx_rwlock *rw)
{
    uint64_t me;
    enum sx_status s = holding(arena, rw, true, &me);
    if (s != SX_OK || !(phase_of(rw) & RWLOCK_PRESENT))
        return s == SX_OK ? SX_NOT_HELD : s;
    finish(rw, me, false);
    sx_mutex_clear_mark(&rw->writer, me);
    return SX_OK;
}

/* ---- as a kind of object --------------------------------------------------------------------------------- */
static size_t size(uint32_t parameter)
{
    (void)parameter;
    return sizeof(struct sx_rwlock);
}

static void make(struct sx_cell *cell, uint32_t parameter)
{
    (void)parameter;
    sx_mutex_make_inside(cell, &((struct sx_rwlock *)cell)->writer, SX_KIND_GUARD);
}

static bool held(struct sx_arena *arena, struct sx_cell *cell)
{
    struct sx_reader c = {0};
    struct sx_rwlock *rw = (struct sx_rwlock *)cell;
    return sx_mutex_held(arena, &rw->writer) || sx_next_reader(arena, sx_cell_key(arena, cell), SX_NO_WRITER, true, &c);
}

/* The phase first: `retired` asks it, and whoever finds it so does all of this again. */
static void retire(struct sx_cell *cell)
{
    struct sx_rwlock *rw = (struct sx_rwlock *)cell;
    if (sx_futex_wake_op(&rw->phase, FUTEX_OP_OR, RWLOCK_RETIRED, INT_MAX) < 0) {
        atomic_fetch_or(&rw->phase, RWLOCK_RETIRED);
        sx_futex_wake(&rw->phase, INT_MAX);
    }
    sx_rwlock_left(rw);
    sx_mutex_retire(&rw->writer);
}

static bool retired(struct sx_cell *cell)
{
    return atomic_load(&((struct sx_rwlock *)cell)->phase) & RWLOCK_RETIRED;
}

/* Marks are in the slots of the arena that is gone.  Cut short, this is done again: TORN before INSIDE goes. */
static void adopt(struct sx_arena *arena, struct sx_cell *cell)
{
    struct sx_rwlock *rw = (struct sx_rwlock *)cell;
    if (phase_of(rw) & RWLOCK_INSIDE)
        atomic_fetch_or(&rw->phase, RWLOCK_TORN);
    sx_mutex_adopt_inside(arena, &rw->writer);
    if (phase_of(rw) & RWLOCK_PRESENT)
        end_phase(rw);
    atomic_fetch_and(&rw->phase, ~RWLOCK_WAITERS);
    atomic_store(&rw->upgradable, 0);
    sx_futex_wake(&rw->phase, INT_MAX);
}

/* May the data be torn?  Also where nobody has met the dead writer yet. */
bool sx_rwlock_torn(struct sx_arena *arena, struct sx_rwlock *rw)
{
    uint32_t life, p = phase_of(rw);
    uint64_t holder = holder_of(rw);
    return p & RWLOCK_TORN ||
           (p & RWLOCK_INSIDE && holder != 0 && sx_holder_life(arena, holder, &life) != SX_ALIVE && phase_of(rw) == p);
}

static void add_reader(void *context, uint64_t id)
{
    struct sx_look *look = context;
    look->holder(look->context, 0, id, SX_SHARED_MODE);
}

static void look(struct sx_arena *arena, struct sx_cell *cell, struct sx_look *look)
{
    struct sx_rwlock *rw = (struct sx_rwlock *)cell;
    uint64_t writer = sx_rwlock_writer(arena, rw), upgradable = sx_rwlock_upgradable_reader(arena, rw);
    look->owner_died = sx_rwlock_torn(arena, rw);
    if (writer != 0)
        look->holder(look->context, 0, writer, SX_EXCLUSIVE_MODE);
    if (upgradable != 0)
        look->holder(look->context, 0, upgradable, SX_UPGRADE_MODE);
    sx_rwlock_readers(arena, rw, add_reader, look);
}

const struct sx_kind_operations sx_rwlock_kind = {
    .size = size, .make = make, .held = held, .retire = retire, .retired = retired, .adopt = adopt, .look = look};
