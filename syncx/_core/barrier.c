/* barrier.c: the barrier.
 *
 *   word (high half: the phase)      meaning                                     leaves it by
 *   phase                            parties are awaited                         complete: CAS to the next phase, under
 *                                                                                the guard, when nobody sleeps
 *   phase | WAITERS                  the same, somebody may sleep                complete: CAS adds COMPLETE; then a wake
 *                                                                                of all, then CAS to the next phase
 *   phase | COMPLETE                 ended well; perhaps not all know            the same CAS, by its author or, if that
 *                                                                                one died, by the next under the guard
 *   phase | BROKEN                   everybody in it, and who comes, fails       reset: CAS to the next phase
 *   any | RETIRED                    unlinked                                    never
 *
 * The guard, a mutex that survives its holder, orders arrivals, enrolments, withdrawals, completion and reset; nobody
 * sleeps, nor runs code of others, while he holds it.  party[] changes under it, one entry by one store: an id with
 * ARRIVED and the parity of the phase, ENROLLED, or both.  An arrival of the other parity is of the phase before, and
 * its place is free, unless enrolled: a phase completes only when all places are of its own parity, and a reset clears
 * them, so there are never older ones.  Place and index are one, so the indices of a phase differ.  Each change of
 * party[] is followed by a step of the count in the futex: who looked at party[] before it does not fall asleep after.
 *
 * Breaking a phase (a death seen, a timeout) is a CAS from a word with that very phase and count, so what one saw in
 * party[] held when he broke it, and a phase that completed is never broken by who looks late; nor is one with COMPLETE.
 * abort() is about no phase: one system call adds BROKEN and wakes.  A waiter that finds another phase asks outcomes,
 * where a reset has left a bit before it stepped the phase; 64 phases on the bit is another's, then: did any reset come
 * since he arrived?  If so he is told that it was broken, for nobody knows.
 *
 * Deaths.  Who sleeps watches the lives of all that arrived or enrolled before his look.  Each arrival or enrolment
 * steps the count and wakes one sleeper, in one system call; he looks again, and so watches the newcomer.  Say that
 * several die at once, and let m be the live waiter that came last.  If one of the dead came before m, m sees it: he
 * looked after it came.  If all came after m, the first of them woke one of those before it, who all live, or found none
 * asleep: then each of those will look again, for the count has stepped.  So somebody sees a death, breaks the phase and
 * wakes all.  A death between that CAS and the wake: he was a party himself, and the argument holds for him; who finds
 * BROKEN or COMPLETE in the word wakes all that may sleep, for its author may be dead.  Two gaps of a few instructions are
 * the belt's, or the next comer's: a party that stored its entry and died before it told, and a last one that nobody
 * watches (not enrolled, no action to run) and that died between COMPLETE and the wake.
 * A sleeper watches 127 lives at most, the newest first, then those in the places before his own; the rest are the
 * belt's.  On the belt each asks the second witness about those in the places between himself and the next waiter alive.
 *
 * Whoever leaves without an end of the phase (a handler's exception) takes his arrival back; were all there already, it
 * stands, without a name, for the last one may be running the action.  A forked child is no party: it arrives anew.
 *
 * Orderings: entries are stored before the count steps, and both phase and COMPLETE are stored with release and read
 * with acquire: what each party wrote before it arrived is seen, through the guard, by the last, and through the word
 * by all.
 */
#define _GNU_SOURCE
#include "core.h"

#define NOWHERE UINT32_MAX

static uint32_t phase_of(uint64_t w)
{
    return (uint32_t)(w >> 32);
}

/* Arrived in the phase of w. */
static bool arrived(uint64_t party, uint64_t w)
{
    return party & PARTY_ARRIVED && !(party & PARTY_ODD) == !(phase_of(w) & 1);
}

/* Does its life matter to those who wait? */
static bool counts(uint64_t party, uint64_t w)
{
    return !sx_is_free(party) && (party & PARTY_ENROLLED || arrived(party, w));
}

static uint64_t word(struct sx_barrier *b)
{
    return atomic_load_explicit(&b->word, memory_order_acquire);
}

static bool change(struct sx_barrier *b, uint64_t *w, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(&b->word, w, to, memory_order_acq_rel, memory_order_acquire);
}

static void wake_all(struct sx_barrier *b)
{
    sx_futex_wake(sx_low_half(&b->word), INT_MAX);
}

/* The next phase; flags in `off` go. */
static uint64_t next(uint64_t w, uint32_t off)
{
    return (uint64_t)(phase_of(w) + 1) << 32 | (((uint32_t)w + BARRIER_STEP) & ~off);
}

/* ---- under the guard ------------------------------------------------------------------------------------- */

static void step(struct sx_barrier *b, uint64_t w)
{
    while (!change(b, &w, next(w, BARRIER_WAITERS | BARRIER_COMPLETE)))
        ;
}

/* However short the caller's time: sections are short too, and a barrier is not to break because two came at once. */
static enum sx_status enter(struct sx_arena *arena, struct sx_barrier *b, int64_t deadline, uint64_t *me, uint64_t *w)
{
    if (deadline != SX_NEVER && deadline < sx_now() + SX_BELT_NS)
        deadline = sx_now() + SX_BELT_NS;
    enum sx_status s = sx_mutex_lock(arena, &b->guard, deadline);
    if (s != SX_OK && s != SX_OWNER_DIED) /* a death inside leaves nothing to repair but COMPLETE */
        return s;
    *w = word(b);
    if (*w & BARRIER_COMPLETE) {
        wake_all(b);
        step(b, *w);
        *w = word(b);
    }
    s = sx_identity(arena, me); /* after the wait: perhaps a handler forked, and we are the child */
    if (s == SX_OK && (*w & BARRIER_RETIRED || !sx_cell_is_ours(arena, &b->cell)))
        s = SX_RETIRED;
    if (s != SX_OK)
        sx_mutex_unlock(arena, &b->guard, false);
    return s;
}

static enum sx_status leave(struct sx_arena *arena, struct sx_barrier *b, enum sx_status s)
{
    sx_mutex_unlock(arena, &b->guard, false);
    return s;
}

/* After a change of party[]. */
static void tell(struct sx_barrier *b, int count)
{
    uint64_t w = word(b);
    while (!(w & BARRIER_WAITERS))
        if (change(b, &w, (w & ~(uint64_t)UINT32_MAX) | (uint32_t)((uint32_t)w + BARRIER_STEP)))
            return;
    if (sx_futex_wake_op(sx_low_half(&b->word), FUTEX_OP_ADD, BARRIER_STEP, count) < 0) {
        atomic_fetch_add(sx_low_half(&b->word), BARRIER_STEP);
        sx_futex_wake(sx_low_half(&b->word), count);
    }
}

/* In one system call: a death leaves nothing done, or all. */
static void break_and_wake(struct sx_barrier *b)
{
    if (sx_futex_wake_op(sx_low_half(&b->word), FUTEX_OP_OR, BARRIER_BROKEN, INT_MAX) < 0) {
        atomic_fetch_or(&b->word, BARRIER_BROKEN);
        wake_all(b);
    }
}

/* false: broken. */
static bool complete(struct sx_barrier *b)
{
    uint64_t w = word(b);
    atomic_fetch_and(&b->outcomes, ~(UINT64_C(1) << phase_of(w) % 64));
    while (!(w & BARRIER_BROKEN)) {
        if (!(w & BARRIER_WAITERS)) {
            if (change(b, &w, next(w, 0)))
                return true;
        } else if (change(b, &w, w | BARRIER_COMPLETE)) {
            wake_all(b);
            step(b, w | BARRIER_COMPLETE);
            return true;
        }
    }
    return false;
}

/* A party of this phase that is dead, by the words alone; 0: none. */
static uint64_t dead_party(struct sx_arena *arena, struct sx_barrier *b, uint64_t w)
{
    uint32_t life;
    for (uint32_t i = 0; i < b->cell.parameter; i++) {
        uint64_t party = atomic_load_explicit(&b->party[i], memory_order_acquire);
        if (counts(party, w) && sx_holder_life(arena, party, &life) != SX_ALIVE)
            return party & SX_ID_MASK;
    }
    return 0;
}

static uint32_t arrivals(struct sx_barrier *b, uint64_t w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->cell.parameter; i++)
        n += arrived(atomic_load_explicit(&b->party[i], memory_order_relaxed), w);
    return n;
}

/* Where the thread is enrolled, if it has not arrived there; else the first place that is free.  SX_BUSY: none in this
 * phase; SX_TOO_MANY: in no phase. */
static enum sx_status find_place(struct sx_barrier *b, uint64_t w, uint64_t me, bool enrolled, uint32_t *place)
{
    uint32_t free = NOWHERE, taken = 0;
    *place = NOWHERE;
    for (uint32_t i = 0; i < b->cell.parameter; i++) {
        uint64_t party = atomic_load_explicit(&b->party[i], memory_order_relaxed);
        bool mine = party & PARTY_ENROLLED && (party & SX_ID_MASK) == me;
        if (mine && !enrolled)
            return SX_EXISTS;
        if (mine && !arrived(party, w)) {
            *place = i;
            return SX_OK;
        }
        if (party & PARTY_ENROLLED)
            taken += !mine;
        else if (!arrived(party, w) && free == NOWHERE)
            free = i;
    }
    *place = free;
    return free != NOWHERE ? SX_OK : taken == b->cell.parameter ? SX_TOO_MANY : SX_BUSY;
}

static void set(struct sx_barrier *b, uint32_t place, uint64_t party)
{
    atomic_store_explicit(&b->party[place], party, memory_order_release);
}

static enum sx_status enrol(struct sx_arena *arena, struct sx_barrier *b, struct sx_arrival *a)
{
    uint64_t w;
    enum sx_status s = enter(arena, b, SX_NEVER, &a->me, &w);
    if (s != SX_OK)
        return s;
    a->phase = phase_of(w);
    a->seen = (uint32_t)w;
    s = find_place(b, w, a->me, false, &a->index);
    if (s == SX_OK) {
        set(b, a->index, a->me | PARTY_ENROLLED);
        tell(b, 1);
        a->done = true;
    }
    return leave(arena, b, s);
}

static enum sx_status arrive(struct sx_arena *arena, struct sx_barrier *b, int64_t deadline, bool action,
                             struct sx_arrival *a)
{
    uint64_t w;
    enum sx_status s = enter(arena, b, deadline, &a->me, &w);
    if (s != SX_OK)
        return s;
    a->phase = phase_of(w);
    a->seen = (uint32_t)w;
    a->resets = atomic_load_explicit(&b->resets, memory_order_relaxed);
    if (w & BARRIER_BROKEN)
        return leave(arena, b, SX_BROKEN);
    s = find_place(b, w, a->me, true, &a->index);
    if (s != SX_OK)
        return leave(arena, b, s);
    uint64_t was = atomic_load_explicit(&b->party[a->index], memory_order_relaxed);
    set(b, a->index, a->me | (was & PARTY_ENROLLED) | PARTY_ARRIVED | (a->phase & 1 ? PARTY_ODD : 0));
    atomic_store_explicit(&b->newest, a->index, memory_order_relaxed);
    a->last = arrivals(b, w) == b->cell.parameter;
    if (a->last) {
        uint64_t dead = dead_party(arena, b, w);
        if (dead != 0) {
            sx_note_death(arena, &b->cell, dead);
            break_and_wake(b);
            return leave(arena, b, SX_BROKEN);
        }
        if (!action) {
            a->done = true;
            return leave(arena, b, complete(b) ? SX_OK : SX_BROKEN);
        }
        a->done = true; /* but for the action, during which others watch us */
    }
    tell(b, 1);
    return leave(arena, b, SX_OK);
}

/* The last one has run the action; well: without an exception. */
enum sx_status sx_barrier_complete(struct sx_arena *arena, struct sx_barrier *b, const struct sx_arrival *a, bool well)
{
    uint64_t w, me, dead;
    enum sx_status s = enter(arena, b, SX_NEVER, &me, &w);
    if (s != SX_OK)
        return s;
    if (me != a->me || phase_of(w) != a->phase || w & BARRIER_BROKEN) /* a child of the action's; reset; broken */
        return leave(arena, b, SX_BROKEN);
    dead = dead_party(arena, b, w);
    if (dead != 0)
        sx_note_death(arena, &b->cell, dead);
    if (dead != 0 || !well)
        break_and_wake(b);
    return leave(arena, b, dead == 0 && well && complete(b) ? SX_OK : SX_BROKEN);
}

/* Takes an arrival back, if its phase has not ended.  Must not be interrupted. */
enum sx_status sx_barrier_forget(struct sx_arena *arena, struct sx_barrier *b, const struct sx_arrival *a)
{
    uint64_t w, me;
    enum sx_status s = a->index == NOWHERE ? SX_NOT_HELD : enter(arena, b, SX_NEVER, &me, &w);
    if (s != SX_OK)
        return s;
    uint64_t party = atomic_load_explicit(&b->party[a->index], memory_order_relaxed);
    if (me != a->me || phase_of(w) != a->phase || w & BARRIER_BROKEN || (party & SX_ID_MASK) != me ||
        !arrived(party, w))
        return leave(arena, b, SX_OK);
    if (arrivals(b, w) != b->cell.parameter)
        set(b, a->index, party & PARTY_ENROLLED ? me | PARTY_ENROLLED : 0);
    else if (!(party & PARTY_ENROLLED))
        set(b, a->index, party & (PARTY_ARRIVED | PARTY_ODD));
    tell(b, INT_MAX);
    return leave(arena, b, SX_OK);
}

/* ---- waiting ---------------------------------------------------------------------------------------------- */

/* Collects the lives of the others; a dead one ends it and is returned. */
static uint64_t look(struct sx_arena *arena, struct sx_barrier *b, uint64_t w, const struct sx_arrival *a, bool belted,
                     struct sx_watch *watch, int *watched)
{
    uint32_t n = b->cell.parameter, newest = atomic_load_explicit(&b->newest, memory_order_relaxed), life;
    uint32_t from = a->index == NOWHERE ? 0 : a->index;
    *watched = 0;
    for (uint32_t i = 0; i <= n; i++) {
        uint32_t at = i == 0 ? newest : (from + n - i) % n;
        uint64_t party = at < n ? atomic_load_explicit(&b->party[at], memory_order_acquire) : 0;
        if (!counts(party, w) || (party & SX_ID_MASK) == a->me)
            continue;
        if (belted && i > 0 && sx_holder_examine(arena, party) == SX_ALIVE && arrived(party, w))
            belted = false; /* he asks about those beyond */
        if (sx_holder_life(arena, party, &life) != SX_ALIVE)
            return party & SX_ID_MASK;
        if (*watched < SX_MAX_WATCH && (i == 0 || at != newest))
            watch[(*watched)++] = (struct sx_watch){sx_life_word(sx_participant(arena, party)), life};
    }
    return 0;
}

/* The phase is over: how did it end? */
static enum sx_status outcome(struct sx_barrier *b, const struct sx_arrival *a)
{
    uint64_t bits = atomic_load_explicit(&b->outcomes, memory_order_acquire);
    atomic_thread_fence(memory_order_acquire);
    if (phase_of(word(b)) - a->phase < 64)
        return bits >> a->phase % 64 & 1 ? SX_BROKEN : SX_OK;
    return atomic_load_explicit(&b->resets, memory_order_relaxed) == a->resets ? SX_OK : SX_BROKEN;
}

struct sight {
    struct sx_barrier *b;
    uint64_t w;
};

static bool over(void *what)
{
    struct sight *s = what;
    uint64_t changed = atomic_load_explicit(&s->b->word, memory_order_relaxed) ^ s->w;
    return changed & ~(uint64_t)(uint32_t)-BARRIER_STEP & ~(uint64_t)BARRIER_WAITERS;
}

enum verdict { GO_ON, AGAIN, END };

/* One look at the word.  AGAIN: it had changed, or there is a place now.  w: what to sleep on. */
static enum verdict judge(struct sx_arena *arena, struct sx_barrier *b, struct sx_arrival *a, bool final, uint64_t w,
                          enum sx_status *status)
{
    if (phase_of(w) != a->phase || w & BARRIER_COMPLETE) {
        if (w & BARRIER_COMPLETE && w & BARRIER_WAITERS)
            wake_all(b);
        if (a->index == NOWHERE)
            return AGAIN;
        *status = w & BARRIER_COMPLETE && phase_of(w) == a->phase ? SX_OK : outcome(b, a);
        return END;
    }
    if (a->index == NOWHERE && ((uint32_t)w ^ a->seen) >= BARRIER_STEP)
        return AGAIN;
    *status = SX_BROKEN;
    if (w & BARRIER_BROKEN) {
        if (w & BARRIER_WAITERS)
            wake_all(b);
        return END;
    }
    *status = SX_RETIRED;
    if (w & BARRIER_RETIRED || !sx_cell_is_ours(arena, &b->cell))
        return END;
    if (!final)
        return GO_ON;
    *status = SX_TIMEOUT;
    if (a->index == NOWHERE) /* no party of this phase: it is not his to break */
        return END;
    if (!change(b, &w, w | BARRIER_BROKEN))
        return AGAIN;
    wake_all(b);
    return END;
}

/* Arrives and waits, or enrols.  SX_INTERRUPTED: sx_barrier_forget has to follow.  a->last after SX_OK with `action`:
 * the action is to be run, and sx_barrier_complete to follow. */
enum sx_status sx_barrier_wait(struct sx_arena *arena, struct sx_barrier *b, int64_t deadline, enum sx_barrier_use use,
                               struct sx_arrival *a)
{
    struct sx_pause pause = {.arena = arena, .deadline = deadline};
    struct sx_watch watch[SX_MAX_WATCH];
    bool spun = deadline == 0, slept = false, belted = false, final = false;
    enum sx_status status;
    *a = (struct sx_arrival){.index = NOWHERE};
    for (;;) {
        uint64_t w, me;
        int watched;
        if (!a->done && a->index == NOWHERE) {
            sx_pause_end(&pause); /* waiting for the guard gives up the host's lock by itself */
            status =
                use == SX_BARRIER_ENROL ? enrol(arena, b, a) : arrive(arena, b, deadline, use == SX_BARRIER_ACT, a);
            if (status == SX_TIMEOUT)
                break_and_wake(b);
            if (status != SX_OK && status != SX_BUSY)
                break;
        }
        if (a->done) {
            status = SX_OK;
            break;
        }
        w = word(b);
        enum verdict verdict = judge(arena, b, a, final, w, &status);
        if (verdict == END)
            break;
        if (verdict == AGAIN)
            continue;
        if (!spun && sx_spinning_pays()) {
            struct sight sight = {b, w};
            spun = true;
            sx_pause_block(&pause);
            sx_spin(&b->spin, &b->statistics.contended, over, &sight);
            continue;
        }
        uint64_t dead = look(arena, b, w, a, belted, watch, &watched);
        if (dead != 0) {
            if (change(b, &w, w | BARRIER_BROKEN)) {
                sx_note_death(arena, &b->cell, dead);
                wake_all(b);
                if (belted) {
                    atomic_fetch_add_explicit(&b->statistics.rescues, 1, memory_order_relaxed);
                    atomic_fetch_add_explicit(&arena->header->rescues, 1, memory_order_relaxed);
                }
            }
            continue;
        }
        if (!(w & BARRIER_WAITERS) && !change(b, &w, w | BARRIER_WAITERS))
            continue;
        w |= BARRIER_WAITERS;
        if (!slept)
            atomic_fetch_add_explicit(&b->statistics.contended, 1, memory_order_relaxed);
        slept = true;
        enum sx_wake wake =
            sx_pause_sleep(&pause, &b->cell, sx_low_half(&b->word), (uint32_t)w, watch, watched, 0, SX_NEVER);
        belted = wake == SX_BELT;
        final = wake == SX_DEADLINE;
        if (wake == SX_STOP) {
            status = SX_INTERRUPTED;
            break;
        }
        if (pause.record == NULL) { /* handlers ran */
            status = sx_identity(arena, &me);
            if (status != SX_OK)
                break;
            if (me != a->me)
                a->index = NOWHERE;
        }
    }
    if (slept && status == SX_INTERRUPTED)
        wake_all(b); /* we may be the one who was to watch a newcomer */
    sx_pause_end(&pause);
    return status;
}

/* ---- without waiting ---------------------------------------------------------------------------------------- */

enum sx_status sx_barrier_withdraw(struct sx_arena *arena, struct sx_barrier *b)
{
    uint64_t w, me;
    enum sx_status s = enter(arena, b, SX_NEVER, &me, &w);
    if (s != SX_OK)
        return s;
    for (uint32_t i = 0; i < b->cell.parameter; i++) {
        uint64_t party = atomic_load_explicit(&b->party[i], memory_order_relaxed);
        if ((party & SX_ID_MASK) != me || !(party & PARTY_ENROLLED))
            continue;
        set(b, i, arrived(party, w) ? party & ~(uint64_t)PARTY_ENROLLED : 0);
        tell(b, INT_MAX);
        return leave(arena, b, SX_OK);
    }
    return leave(arena, b, SX_NOT_HELD);
}

enum sx_status sx_barrier_abort(struct sx_arena *arena, struct sx_barrier *b)
{
    if (word(b) & BARRIER_RETIRED || !sx_cell_is_ours(arena, &b->cell))
        return SX_RETIRED;
    break_and_wake(b);
    return SX_OK;
}

/* Cut short anywhere, it leaves the barrier as it was, or broken. */
enum sx_status sx_barrier_reset(struct sx_arena *arena, struct sx_barrier *b)
{
    uint64_t w, me;
    uint32_t life;
    enum sx_status s = enter(arena, b, SX_NEVER, &me, &w);
    if (s != SX_OK)
        return s;
    bool ends = w & BARRIER_BROKEN || arrivals(b, w) != 0;
    if (ends)
        break_and_wake(b);
    for (uint32_t i = 0; i < b->cell.parameter; i++) {
        uint64_t party = atomic_load_explicit(&b->party[i], memory_order_relaxed);
        bool stays = party & PARTY_ENROLLED && sx_holder_life(arena, party, &life) == SX_ALIVE;
        set(b, i, stays ? (party & SX_ID_MASK) | PARTY_ENROLLED : 0);
    }
    if (!ends) {
        tell(b, INT_MAX);
        return leave(arena, b, SX_OK);
    }
    atomic_store(&b->statistics.dead_pid, 0);
    atomic_fetch_or(&b->outcomes, UINT64_C(1) << phase_of(w) % 64);
    atomic_fetch_add(&b->resets, 1);
    w = word(b);
    while (!change(b, &w, next(w, BARRIER_WAITERS | BARRIER_BROKEN)))
        ;
    return leave(arena, b, SX_OK);
}

/* How many wait; 0 where it is broken, which it also is while a dead party has not been seen by anybody. */
uint32_t sx_barrier_state(struct sx_arena *arena, struct sx_barrier *b, bool *broken)
{
    uint64_t w;
    bool dead;
    do { /* who has died after the end of the phase, which may come while we look, is no party */
        w = word(b);
        dead = !(w & (BARRIER_BROKEN | BARRIER_COMPLETE)) && sx_cell_is_ours(arena, &b->cell) &&
               dead_party(arena, b, w) != 0;
    } while (dead && word(b) != w);
    *broken = w & BARRIER_BROKEN || dead;
    return *broken || w & BARRIER_COMPLETE ? 0 : arrivals(b, w);
}

/* The process of the party whose death broke it; 0: it was broken otherwise, or there is no trace. */
uint32_t sx_barrier_victim(struct sx_barrier *b)
{
    return word(b) & BARRIER_BROKEN ? atomic_load_explicit(&b->statistics.dead_pid, memory_order_relaxed) : 0;
}

/* ---- as a kind of object ------------------------------------------------------------------------------------ */
static size_t size(uint32_t parameter)
{
    return sizeof(struct sx_barrier) + (size_t)parameter * sizeof(sx_a64);
}

static void make(struct sx_cell *cell, uint32_t parameter)
{
    (void)parameter;
    sx_mutex_make_inside(cell, &((struct sx_barrier *)cell)->guard, SX_KIND_GUARD);
}

static bool held(struct sx_arena *arena, struct sx_cell *cell)
{
    struct sx_barrier *b = (struct sx_barrier *)cell;
    uint64_t w = word(b);
    for (uint32_t i = 0; i < cell->parameter; i++) {
        uint64_t party = atomic_load(&b->party[i]);
        if (counts(party, w) && sx_holder_examine(arena, party) == SX_ALIVE)
            return true;
    }
    return false;
}

static void retire(struct sx_cell *cell)
{
    struct sx_barrier *b = (struct sx_barrier *)cell;
    if (sx_futex_wake_op(sx_low_half(&b->word), FUTEX_OP_OR, BARRIER_RETIRED, INT_MAX) < 0) {
        atomic_fetch_or(&b->word, BARRIER_RETIRED);
        wake_all(b);
    }
}

static bool retired(struct sx_cell *cell)
{
    return word((struct sx_barrier *)cell) & BARRIER_RETIRED;
}

/* All parties are gone with their arena, and nobody is left for whom the phase could be broken: the next one begins,
 * clean.  A thread of before that sleeps still is woken, and finds a cell that is not of its arena. */
static void adopt(struct sx_arena *arena, struct sx_cell *cell)
{
    struct sx_barrier *b = (struct sx_barrier *)cell;
    uint64_t w = atomic_load(&b->word);
    sx_mutex_adopt_inside(arena, &b->guard);
    for (uint32_t i = 0; i < cell->parameter; i++)
        atomic_store(&b->party[i], 0);
    atomic_fetch_or(&b->outcomes, UINT64_C(1) << phase_of(w) % 64);
    atomic_fetch_add(&b->resets, 1);
    atomic_store(&b->word, next(w, BARRIER_WAITERS | BARRIER_BROKEN | BARRIER_COMPLETE));
    wake_all(b);
}

/* The holders are those who are enrolled: the others wait for them. */
static void look_at(struct sx_arena *arena, struct sx_cell *cell, struct sx_look *look)
{
    struct sx_barrier *b = (struct sx_barrier *)cell;
    bool broken;
    uint32_t life;
    int64_t arrived = sx_barrier_state(arena, b, &broken);
    look->value = broken ? -1 : arrived;
    look->owner_died = sx_barrier_victim(b) != 0 || (broken && !(word(b) & BARRIER_BROKEN));
    for (uint32_t i = 0; i < cell->parameter; i++) {
        uint64_t party = atomic_load_explicit(&b->party[i], memory_order_acquire);
        if (party & PARTY_ENROLLED && sx_holder_life(arena, party, &life) == SX_ALIVE)
            look->holder(look->context, 0, party & SX_ID_MASK, SX_EXCLUSIVE_MODE);
    }
}

const struct sx_kind_operations sx_barrier_kind = {
    .parameter_max = SX_MAX_PARTIES,
    .size = size,
    .make = make,
    .held = held,
    .retire = retire,
    .retired = retired,
    .adopt = adopt,
    .look = look_at,
};
