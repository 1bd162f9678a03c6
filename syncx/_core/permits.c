/* permits.c: a semaphore whose permits have owners.
 *
 *   permit word              meaning                                   leaves it by
 *   0                        free                                      CAS to a process id, by anyone
 *   id, id | SCOPED          the process has it (taken by `with`)      CAS to 0, or to LEAVING, by a thread of it
 *   id | TENTATIVE           one of a set that is not complete         without TENTATIVE, or 0: by whoever holds `several`
 *   id | LEAVING             one of several being released             0, or without LEAVING: by the releasing thread
 *   id of a dead process     free, and its holder died                 CAS from that very word, by anyone
 *
 * Taking is one CAS and giving back is one, so every permit is at every instant free or in the hands of one process;
 * and a word gets an id only by a CAS from 0 or from a dead id, which never lives again (process.c): no permit is held
 * twice, none is lost.  `thread` is stored a moment after the word, and 0 before the word is freed: so it names the thread
 * that took the permit, or none, or one of a dead process.  It is a hint, for people, for release(), for deadlock.c and for
 * which life to watch; if it names another process's thread, sx_process_life looks for one itself.
 *
 * Sleeping for one permit.  A sleeper (1) sees WAITERS in `wake`, or sets it (a CAS that also counts a step), (2) looks
 * at every permit after that, (3) sleeps while `wake` still has the value of (1).  A releaser frees the permit and then
 * looks at `wake`; with WAITERS it takes the bit away and wakes, in one system call.  All of these are seq_cst, so
 * either the releaser sees the bit, or the sleeper sees the free permit: on x86 the CAS is a full barrier, on ARM a
 * load-acquire is not moved before the store-release of an exchange.  Whose bit was taken away before it slept finds
 * another value, for it can come back only with the next step.  So while anybody sleeps, either WAITERS is set, or a
 * woken thread is on its way: it takes a permit and wakes one more; or finds none, sets the bit and looks again; or
 * leaves and wakes one more.  One more because releases since the bit was taken away woke nobody, and because somebody
 * must watch the process that has the permit now: a sleeper watches one life of every other process that holds one (of
 * 127 at most), and who dies is noticed by all who watch.  A holder that comes later took a permit that was released,
 * which woke a sleeper or met one that had set the bit and looks; or one of a dead holder, which woke all its watchers.
 *
 * Sleeping for several is the same with SEVERAL, `gather` (read before the flags) and a release that takes the bit
 * away, steps `gather` and wakes all: there is nothing to hand on.
 *
 * Several at a time.  Whoever holds `several` counts what is free; if it is enough it takes the permits one by one with
 * TENTATIVE, and drops TENTATIVE from all when it has them.  If a taker of one was faster and too few are left it gives
 * them back, which counts as a release for those who want one.  No livelock: there is one collector at a time, and its
 * failure is somebody else's success; a collector that gave back does not wake collectors, and sleeps for a release.
 * Whoever is about to fail (a try, the end of a timeout) for want of one permit and has seen a tentative one locks
 * `several`, which waits for the decision, and looks again; who has time just sleeps, since the decision is a hold or
 * wakes it.  A collector that is stopped in between delays a failure by SETTLE_NS at most.
 * A refusal.  The permits are looked at one after the other, so all may be seen held though one was free at every instant:
 * it was given back behind the look, and another one was taken before it.  So whoever is about to fail, for one or for
 * several, sets LOOKING (a CAS that counts a step), looks again, and fails only if `wake` is still the same; every
 * releaser looks at `wake` after it has freed, and takes LOOKING away.  Then no release has ended since LOOKING was
 * set.  A permit that is free when the refusal is decided, and was held when it was looked at, was freed last by a
 * release that is still under way: say that this one takes effect after the refusal.  (What others took meanwhile they
 * took from what was free besides.)  Each look that is repeated is another's release, so there is no livelock.
 * Several are released as one by marking them first (LEAVING, under the process's own lock): too few, and nothing is.
 *
 * Death.  A holder's, at any instruction: its words name a dead process, so its permits, tentative and leaving ones
 * too, are free; all who slept watch it.  A releaser's, between its CAS and the wake: it held the permit when the
 * sleepers looked, so they watch it and are told at once; those who looked between its CAS and its death saw the
 * permit.  A collector's: `several` is crash-safe, the permits are a dead process's.  A woken thread's: the wake dies
 * with it; the belt of the next sleeper makes it good (counted in rescues), as for a releaser that has taken a bit away
 * that others slept under, and for holders without a thread in the arena.  A releaser that sees sleepers counts its
 * wake in in_flight before it frees the permit, so a belt that finds work while it is 0 has rescued somebody.
 */
#define _GNU_SOURCE
#include <string.h>

#include "core.h"

#define SLEEPERS (PERMITS_WAITERS | PERMITS_SEVERAL)
#define SETTLE_NS INT64_C(10000000)

/* ---- looking at the permits ------------------------------------------------------------------------------ */

/* One look at all permits: who is alive, and which lives to watch. */
struct survey {
    struct sx_arena *arena;
    struct sx_permits *permits;
    struct sx_attempt *attempt; /* whose belt has ended, or NULL */
    struct sx_death *death;
    bool examine;   /* ask the second witness too */
    bool tentative; /* a permit that may come back was seen */
    int watched;
    struct sx_watch watch[SX_MAX_WATCH];
    uint64_t alive[SX_MAX_PROCESSES / 64]; /* process slots whose present generation lives */
};

static void survey_begin(struct survey *s, struct sx_arena *arena, struct sx_permits *p)
{
    s->arena = arena;
    s->permits = p;
    s->attempt = NULL;
    s->death = NULL;
    s->examine = s->tentative = false;
    s->watched = 0;
    memset(s->alive, 0, sizeof s->alive);
}

static uint32_t capacity_of(struct sx_permits *p)
{
    return p->cell.parameter;
}

static bool known_alive(struct survey *s, uint64_t word)
{
    uint32_t slot = sx_slot_of(word);
    return slot < SX_MAX_PROCESSES && s->alive[slot / 64] >> slot % 64 & 1 &&
           atomic_load_explicit(&s->arena->processes[slot].generation, memory_order_acquire) == (uint32_t)(word >> 32);
}

/* SX_OK: to be had; SX_BUSY: held by a live process; or what is wrong. */
static enum sx_status look_at(struct survey *s, uint32_t at, uint64_t word)
{
    if (sx_is_free(word))
        return SX_OK;
    if (!known_alive(s, word)) {
        struct sx_watch watch;
        uint64_t thread = atomic_load_explicit(&s->permits->permit[at].thread, memory_order_relaxed);
        if (s->examine)
            sx_process_examine(s->arena, word, thread);
        enum sx_life life = sx_process_life(s->arena, word, thread, &watch);
        if (life != SX_ALIVE) /* the id may be another arena's, which says nothing here */
            return !sx_cell_is_ours(s->arena, &s->permits->cell) ? SX_RETIRED : life == SX_DEAD ? SX_OK : SX_DAMAGED;
        uint32_t slot = sx_slot_of(word);
        s->alive[slot / 64] |= UINT64_C(1) << slot % 64;
        if (slot != s->arena->process && s->watched < SX_MAX_WATCH)
            s->watch[s->watched++] = watch;
    }
    if (word & PERMIT_TENTATIVE)
        s->tentative = true;
    return SX_BUSY;
}

/* The process in the word is dead: for the one who takes its permit, and for people. */
static void note_death(struct survey *s, uint64_t word, uint64_t thread)
{
    struct sx_statistics *statistics = &s->permits->statistics;
    struct sx_process *process = &s->arena->processes[sx_slot_of(word)];
    struct sx_participant *t = thread == 0 ? NULL : sx_participant(s->arena, thread);
    struct sx_death death = {.met = true};
    if (t != NULL && atomic_load_explicit(&t->generation, memory_order_acquire) == (uint32_t)(thread >> 32) &&
        atomic_load_explicit(&t->process, memory_order_relaxed) == sx_slot_of(word) + 1 &&
        atomic_load_explicit(&t->process_generation, memory_order_relaxed) == (uint32_t)(word >> 32)) {
        death.pid = atomic_load_explicit(&t->pid, memory_order_relaxed);
        death.tid = atomic_load_explicit(&t->tid, memory_order_relaxed);
    } else if (atomic_load_explicit(&process->generation, memory_order_acquire) == (uint32_t)(word >> 32)) {
        death.pid = death.tid = atomic_load_explicit(&process->pid, memory_order_relaxed);
    }
    atomic_store_explicit(&statistics->dead_pid, death.pid, memory_order_relaxed);
    atomic_store_explicit(&statistics->dead_tid, death.tid, memory_order_relaxed);
    atomic_fetch_add_explicit(&statistics->recoveries, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->arena->header->recoveries, 1, memory_order_relaxed);
    *s->death = death;
}

/* Takes that permit if it is to be had. */
static enum sx_status take(struct survey *s, uint32_t at, uint64_t mine, uint64_t me)
{
    struct sx_permit *permit = &s->permits->permit[at];
    uint64_t word = atomic_load_explicit(&permit->word, memory_order_seq_cst);
    for (;;) {
        enum sx_status status = look_at(s, at, word);
        if (status != SX_OK)
            return status;
        uint64_t thread = atomic_load_explicit(&permit->thread, memory_order_relaxed);
        if (s->attempt != NULL) /* between reading the word and changing it */
            s->attempt->lost = sx_nothing_in_flight(&s->permits->wakes, s->attempt);
        if (atomic_compare_exchange_strong_explicit(&permit->word, &word, mine, memory_order_seq_cst,
                                                    memory_order_seq_cst)) {
            atomic_store_explicit(&permit->thread, me, memory_order_relaxed);
            if (!sx_is_free(word))
                note_death(s, word, thread);
            return SX_OK;
        }
    }
}

/* Any one permit, from *hint on. */
static enum sx_status take_one(struct survey *s, uint64_t mine, uint64_t me, uint32_t *hint)
{
    uint32_t capacity = capacity_of(s->permits);
    for (uint32_t i = 0, at = *hint; i < capacity; i++, at = at + 1 < capacity ? at + 1 : 0) {
        if (at >= capacity)
            at = 0;
        enum sx_status status = take(s, at, mine, me);
        if (status == SX_OK)
            *hint = at;
        if (status != SX_BUSY)
            return status;
    }
    return SX_BUSY;
}

/* ---- giving back ------------------------------------------------------------------------------------------ */

/* After `freed` permits were freed: wakes whoever sleeps for them.  counted: in_flight has been stepped already. */
void sx_permits_wake(struct sx_permits *p, uint32_t freed, bool counted)
{
    uint32_t flags = atomic_load_explicit(&p->wake, memory_order_seq_cst), token = counted;
    if (flags & PERMITS_LOOKING)
        atomic_fetch_and_explicit(&p->wake, ~PERMITS_LOOKING, memory_order_seq_cst);
    if (flags & PERMITS_SEVERAL && freed != 0) {
        atomic_fetch_and_explicit(&p->wake, ~PERMITS_SEVERAL, memory_order_seq_cst);
        if (sx_futex_wake_op(&p->gather, FUTEX_OP_ADD, 1, INT_MAX) < 0) {
            atomic_fetch_add(&p->gather, 1);
            sx_futex_wake(&p->gather, INT_MAX);
        }
    }
    if (flags & PERMITS_WAITERS) {
        uint32_t most = freed == 0 ? 1 : freed;
        atomic_fetch_add_explicit(&p->wakes.in_flight, most - token, memory_order_relaxed);
        token = 0;
        int woken = sx_futex_wake_op(&p->wake, FUTEX_OP_ANDN, PERMITS_WAITERS, (int)most);
        if (woken < 0) { /* the kernel could not: two steps then, and the belt in between */
            atomic_fetch_and(&p->wake, ~PERMITS_WAITERS);
            woken = sx_futex_wake(&p->wake, (int)most);
        }
        if ((uint32_t)woken < most) {
            atomic_fetch_add_explicit(&p->wakes.missed, 1, memory_order_release);
            atomic_fetch_sub_explicit(&p->wakes.in_flight, most - (uint32_t)woken, memory_order_release);
        }
    }
    if (token != 0) /* another releaser was faster */
        sx_missed(&p->wakes);
}

/* in_flight is stepped before the permit is free: a belt that finds the permit sees the one or the other. */
static bool announce(struct sx_permits *p)
{
    bool sleepers = atomic_load_explicit(&p->wake, memory_order_relaxed) & SLEEPERS;
    if (sleepers)
        atomic_fetch_add_explicit(&p->wakes.in_flight, 1, memory_order_relaxed);
    return sleepers;
}

/* Frees or marks up to n permits of this process: first those that the calling thread took in the way in which it gives
 * them back, then its others, then those of other threads.  Returns how many. */
static uint32_t let_go(struct sx_arena *arena, struct sx_permits *p, uint32_t n, uint32_t scoped, uint64_t me)
{
    uint32_t capacity = capacity_of(p), gone = 0;
    for (int pass = 0; pass < 4; pass++)
        for (uint32_t at = 0; at < capacity && gone < n; at++) {
            struct sx_permit *permit = &p->permit[at];
            uint64_t word = atomic_load_explicit(&permit->word, memory_order_relaxed);
            if ((word & SX_ID_MASK) != arena->self || word & (PERMIT_TENTATIVE | PERMIT_LEAVING))
                continue;
            int rank = (atomic_load_explicit(&permit->thread, memory_order_relaxed) == me ? 0 : 2) +
                       ((word & PERMIT_SCOPED) == scoped ? 0 : 1);
            if (rank > pass)
                continue;
            if (n == 1)
                sx_permit_forget(permit);
            if (atomic_compare_exchange_strong_explicit(&permit->word, &word, n == 1 ? 0 : word | PERMIT_LEAVING,
                                                        memory_order_seq_cst, memory_order_relaxed))
                gone++;
        }
    return gone;
}

/* Ends what let_go began with several. */
static void settle_leaving(struct sx_arena *arena, struct sx_permits *p, bool leave)
{
    uint32_t capacity = capacity_of(p);
    for (uint32_t at = 0; at < capacity; at++) {
        uint64_t word = atomic_load_explicit(&p->permit[at].word, memory_order_relaxed);
        if ((word & SX_ID_MASK) != arena->self || !(word & PERMIT_LEAVING))
            continue;
        if (leave)
            sx_permit_forget(&p->permit[at]);
        atomic_store_explicit(&p->permit[at].word, leave ? 0 : word & ~(uint64_t)PERMIT_LEAVING, memory_order_seq_cst);
    }
}

/* SX_NOT_HELD: the process has fewer than n, and nothing was released. */
enum sx_status sx_permits_release(struct sx_arena *arena, struct sx_permits *p, uint32_t n, uint32_t scoped)
{
    uint64_t me;
    enum sx_status status = sx_identity(arena, &me);
    if (status != SX_OK)
        return status;
    bool counted = announce(p), enough;
    if (n == 1) {
        enough = let_go(arena, p, 1, scoped, me) == 1;
    } else {
        pthread_mutex_lock(&arena->local);
        enough = let_go(arena, p, n, scoped, me) == n;
        settle_leaving(arena, p, enough);
        pthread_mutex_unlock(&arena->local);
    }
    if (enough)
        sx_permits_wake(p, n, counted);
    else if (counted)
        sx_missed(&p->wakes);
    return enough ? SX_OK : SX_NOT_HELD;
}

/* ---- several at a time -------------------------------------------------------------------------------------- */

/* By the holder of `several`: completes the set that this process has begun, or gives back what any live one has. */
static void decide(struct survey *s, bool keep)
{
    struct sx_permits *p = s->permits;
    uint32_t capacity = capacity_of(p);
    bool counted = keep ? false : announce(p);
    for (uint32_t at = 0; at < capacity; at++) {
        uint64_t word = atomic_load_explicit(&p->permit[at].word, memory_order_relaxed);
        if (!(word & PERMIT_TENTATIVE) || ((word & SX_ID_MASK) != s->arena->self && look_at(s, at, word) != SX_BUSY))
            continue;
        if (!keep)
            sx_permit_forget(&p->permit[at]);
        atomic_compare_exchange_strong_explicit(&p->permit[at].word, &word,
                                                keep ? word & ~(uint64_t)PERMIT_TENTATIVE : 0, memory_order_seq_cst,
                                                memory_order_relaxed);
    }
    if (!keep)
        sx_permits_wake(p, 0, counted);
}

/* A dead collector's permits are a dead process's; but a process may outlive one of its threads. */
static enum sx_status lock_several(struct survey *s, int64_t deadline, uint64_t *me)
{
    enum sx_status status = sx_mutex_lock(s->arena, &s->permits->several, deadline);
    if (status == SX_OK || status == SX_OWNER_DIED) {
        bool repair = status == SX_OWNER_DIED;
        status = sx_identity(s->arena, me); /* signal handlers may have run, and we may be a forked child by now */
        if (repair && status == SX_OK)
            decide(s, false);
        if (status != SX_OK)
            sx_mutex_unlock(s->arena, &s->permits->several, false);
    }
    return status;
}

static void unlock_several(struct survey *s)
{
    sx_mutex_unlock(s->arena, &s->permits->several, false);
}

/* n permits or none, holding `several`.  gather: its value before the last sleep. */
static enum sx_status take_several(struct survey *s, uint32_t n, uint64_t me, uint32_t gather)
{
    struct sx_permits *p = s->permits;
    uint32_t capacity = capacity_of(p), found = 0, taken = 0;
    enum sx_status status = SX_BUSY;
    for (uint32_t at = 0; at < capacity; at++) {
        status = look_at(s, at, atomic_load_explicit(&p->permit[at].word, memory_order_seq_cst));
        if (status != SX_OK && status != SX_BUSY)
            return status;
        found += status == SX_OK;
    }
    if (found < n)
        return SX_BUSY;
    if (s->attempt != NULL) {
        s->attempt->lost = sx_nothing_in_flight(&p->wakes, s->attempt) &&
                           atomic_load_explicit(&p->gather, memory_order_acquire) == gather;
        s->attempt = NULL;
    }
    for (uint32_t at = 0; at < capacity && taken < n; at++) {
        status = take(s, at, s->arena->self | PERMIT_TENTATIVE, me);
        if (status != SX_OK && status != SX_BUSY)
            break;
        taken += status == SX_OK;
    }
    decide(s, taken == n);
    return taken == n ? SX_OK : status == SX_OK ? SX_BUSY : status;
}

/* ---- acquiring ---------------------------------------------------------------------------------------------- */

/* About to fail for want of one: a tentative permit may be coming back.  Without tentative ones the answer stands. */
static enum sx_status take_settled(struct survey *s, uint64_t scoped, uint64_t *me, uint32_t *hint)
{
    enum sx_status status = lock_several(s, sx_now() + SETTLE_NS, me);
    if (status == SX_OK) {
        status = take_one(s, s->arena->self | scoped, *me, hint);
        unlock_several(s);
    }
    return status == SX_TIMEOUT ? SX_BUSY : status;
}

/* Says that we are about to fail; `wake` as it must still be when we have looked once more. */
static uint32_t look_again(struct sx_permits *p)
{
    uint32_t wake = atomic_load_explicit(&p->wake, memory_order_seq_cst);
    while (!(wake & PERMITS_LOOKING)) {
        uint32_t with = (wake | PERMITS_LOOKING) + PERMITS_STEP;
        if (atomic_compare_exchange_weak_explicit(&p->wake, &wake, with, memory_order_seq_cst, memory_order_seq_cst))
            wake = with;
    }
    return wake;
}

static bool confirmed(struct sx_permits *p, uint32_t wake)
{
    return atomic_load_explicit(&p->wake, memory_order_seq_cst) == wake;
}

/* One permit, or the certainty that there was none at one instant. */
static enum sx_status take_one_or_none(struct survey *s, uint64_t scoped, uint64_t *me, uint32_t *hint)
{
    enum sx_status status;
    uint32_t wake;
    do {
        wake = look_again(s->permits);
        s->tentative = false;
        s->watched = 0;
        memset(s->alive, 0, sizeof s->alive);
        status = take_one(s, s->arena->self | scoped, *me, hint);
        if (status == SX_BUSY && s->tentative)
            status = take_settled(s, scoped, me, hint);
    } while (status == SX_BUSY && !confirmed(s->permits, wake));
    return status;
}

struct glance {
    struct sx_permits *permits;
    uint32_t at;
};

/* For the spinner: a few permits each time. */
static bool looks_free(void *what)
{
    struct glance *g = what;
    uint32_t capacity = capacity_of(g->permits);
    for (int i = 0; i < 8; i++) {
        g->at = g->at + 1 < capacity ? g->at + 1 : 0;
        if (atomic_load_explicit(&g->permits->permit[g->at].word, memory_order_relaxed) == 0)
            return true;
    }
    return atomic_load_explicit(&g->permits->wake, memory_order_relaxed) & PERMITS_RETIRED;
}

static bool only_own(struct sx_permits *p, uint64_t me)
{
    return capacity_of(p) == 0 ||
           (capacity_of(p) == 1 && atomic_load_explicit(&p->permit[0].thread, memory_order_relaxed) == me);
}

enum sx_status sx_permits_acquire(struct sx_arena *arena, struct sx_permits *p, uint32_t n, uint32_t scoped,
                                  int64_t deadline, uint32_t *hint, struct sx_death *death)
{
    const uint32_t flag = n == 1 ? PERMITS_WAITERS : PERMITS_SEVERAL;
    struct sx_pause pause = {.arena = arena, .deadline = deadline, .units = n};
    struct sx_attempt a = {0};
    struct survey s;
    uint32_t slept_on = 0;
    uint64_t me;
    *death = (struct sx_death){0};
    enum sx_status status = sx_identity(arena, &me);
    if (status != SX_OK)
        return status;

    for (;;) {
        uint32_t gather = atomic_load_explicit(&p->gather, memory_order_seq_cst);
        uint32_t wake = atomic_load_explicit(&p->wake, memory_order_seq_cst);
        if (wake & PERMITS_RETIRED) {
            status = SX_RETIRED;
            break;
        }
        survey_begin(&s, arena, p);
        s.death = death;
        s.attempt = a.belted ? &a : NULL;
        s.examine = a.belted || a.final || (deadline == 0 && sx_examination_due(true));
        bool last = deadline == 0 || a.final;
        if (n == 1) {
            status = take_one(&s, arena->self | scoped, me, hint);
            if (status == SX_BUSY && last && (s.tentative || capacity_of(p) > 1)) {
                sx_pause_end(&pause); /* the mutex has a pause of its own */
                status = take_one_or_none(&s, scoped, &me, hint);
            }
        } else {
            sx_pause_end(&pause);
            status = lock_several(&s, last ? sx_now() + SETTLE_NS : deadline, &me);
            if (status == SX_OK) {
                uint32_t looked = 0;
                do {
                    if (last)
                        looked = look_again(p);
                    status = take_several(&s, n, me, slept_on);
                } while (status == SX_BUSY && last && !confirmed(p, looked));
                unlock_several(&s);
            }
        }
        if (status == SX_OK && a.belted)
            sx_count_rescue(arena, &p->cell, &p->wakes, &a, death->met);
        if (status == SX_BUSY && last)
            status = deadline == 0 ? SX_BUSY : SX_TIMEOUT;
        else if (status == SX_TIMEOUT && deadline == 0)
            status = SX_BUSY;
        if (status != SX_BUSY || last)
            break;

        if (!a.spun && n == 1 && !only_own(p, me) && sx_spinning_pays()) {
            struct glance g = {p, *hint};
            a.spun = true;
            sx_pause_block(&pause);
            sx_spin(&p->wakes.spin, &p->statistics.contended, looks_free, &g);
            continue;
        }
        if (!(wake & flag)) { /* say that we sleep, and look again */
            if (a.belted)
                a.lost = n == 1 && sx_nothing_in_flight(&p->wakes, &a);
            uint32_t with = n == 1 ? (wake | flag) + PERMITS_STEP : wake | flag;
            if (atomic_compare_exchange_strong_explicit(&p->wake, &wake, with, memory_order_seq_cst,
                                                        memory_order_relaxed) &&
                a.belted && a.lost)
                sx_count_rescue(arena, &p->cell, &p->wakes, &a, false);
            continue;
        }
        sx_before_sleep(&p->wakes, &p->statistics, &a);
        slept_on = gather;
        uint64_t holder = capacity_of(p) == 1 ? atomic_load_explicit(&p->permit[0].thread, memory_order_relaxed) : 0;
        enum sx_wake woken = sx_pause_sleep(&pause, &p->cell, n == 1 ? &p->wake : &p->gather, n == 1 ? wake : gather,
                                            s.watch, s.watched, holder, SX_NEVER);
        status = sx_after_sleep(&pause, woken, &a, &me);
        if (n != 1)
            a.woken = false; /* all of them were: there is nothing to hand on */
        if (status != SX_OK)
            break;
    }
    /* First the next one, then our own wake is not on its way any more: a belt that ends meanwhile sees one of them. */
    if (n == 1 && a.slept && status != SX_RETIRED)
        sx_wake_one(&p->wake, &p->wakes);
    sx_landed(&p->wakes, &a);
    sx_pause_end(&pause);
    return status;
}

/* ---- what there is ------------------------------------------------------------------------------------------ */

/* How many are free now, counted as far as `enough`; tentative ones are. */
uint32_t sx_permits_free(struct sx_arena *arena, struct sx_permits *p, uint32_t enough)
{
    struct survey s;
    uint32_t capacity = capacity_of(p), n = 0;
    survey_begin(&s, arena, p);
    for (uint32_t at = 0; at < capacity && n < enough; at++) {
        uint64_t word = atomic_load_explicit(&p->permit[at].word, memory_order_acquire);
        n += word & PERMIT_TENTATIVE || look_at(&s, at, word) == SX_OK;
    }
    return n;
}

/* How many this process has; of those that the thread took, where one is named. */
uint32_t sx_permits_held(struct sx_arena *arena, struct sx_permits *p, uint64_t thread)
{
    uint32_t capacity = capacity_of(p), n = 0;
    for (uint32_t at = 0; at < capacity && arena->self != 0; at++) {
        uint64_t word = atomic_load_explicit(&p->permit[at].word, memory_order_relaxed);
        n += (word & SX_ID_MASK) == arena->self && !(word & PERMIT_TENTATIVE) &&
             (thread == 0 || atomic_load_explicit(&p->permit[at].thread, memory_order_relaxed) == thread);
    }
    return n;
}

/* ---- as a kind of object ------------------------------------------------------------------------------------ */
static size_t size(uint32_t parameter)
{
    return sizeof(struct sx_permits) + (size_t)parameter * sizeof(struct sx_permit);
}

static void make(struct sx_cell *cell, uint32_t parameter)
{
    (void)parameter; /* zero is a free permit */
    sx_mutex_make_inside(cell, &((struct sx_permits *)cell)->several, SX_KIND_GUARD);
}

static bool held(struct sx_arena *arena, struct sx_cell *cell)
{
    struct sx_permits *p = (struct sx_permits *)cell;
    struct survey s;
    survey_begin(&s, arena, p);
    s.examine = true;
    for (uint32_t at = 0; at < capacity_of(p); at++)
        if (look_at(&s, at, atomic_load(&p->permit[at].word)) == SX_BUSY)
            return true;
    return false;
}

static void retire(struct sx_cell *cell)
{
    struct sx_permits *p = (struct sx_permits *)cell;
    if (sx_futex_wake_op(&p->wake, FUTEX_OP_OR, PERMITS_RETIRED, INT_MAX) < 0) {
        atomic_fetch_or(&p->wake, PERMITS_RETIRED);
        sx_futex_wake(&p->wake, INT_MAX);
    }
    atomic_fetch_add(&p->gather, 1);
    sx_futex_wake(&p->gather, INT_MAX);
}

static bool retired(struct sx_cell *cell)
{
    return atomic_load(&((struct sx_permits *)cell)->wake) & PERMITS_RETIRED;
}

/* The arena that the words name is gone, and all holders with it. */
static void adopt(struct sx_arena *arena, struct sx_cell *cell)
{
    struct sx_permits *p = (struct sx_permits *)cell;
    for (uint32_t at = 0; at < capacity_of(p); at++) {
        if (!sx_is_free(atomic_load(&p->permit[at].word))) {
            atomic_fetch_add_explicit(&p->statistics.recoveries, 1, memory_order_relaxed);
            atomic_store_explicit(&p->statistics.dead_pid, 0, memory_order_relaxed);
            atomic_store_explicit(&p->statistics.dead_tid, 0, memory_order_relaxed);
        }
        atomic_store(&p->permit[at].word, 0);
        atomic_store(&p->permit[at].thread, 0);
    }
    atomic_fetch_and(&p->wake, ~SLEEPERS);
    atomic_store(&p->wakes.in_flight, 0);
    sx_mutex_adopt_inside(arena, &p->several);
}

static void look(struct sx_arena *arena, struct sx_cell *cell, struct sx_look *look)
{
    struct sx_permits *p = (struct sx_permits *)cell;
    struct survey s;
    survey_begin(&s, arena, p);
    look->value = 0;
    for (uint32_t at = 0; at < capacity_of(p); at++) {
        uint64_t word = atomic_load_explicit(&p->permit[at].word, memory_order_acquire);
        if (word & PERMIT_TENTATIVE || look_at(&s, at, word) != SX_BUSY)
            look->value++;
        else
            look->holder(look->context, word & SX_ID_MASK,
                         atomic_load_explicit(&p->permit[at].thread, memory_order_relaxed), SX_EXCLUSIVE_MODE);
    }
}

const struct sx_kind_operations sx_permits_kind = {.parameter_max = SX_MAX_PERMITS,
                                                   .size = size,
                                                   .make = make,
                                                   .held = held,
                                                   .retire = retire,
                                                   .retired = retired,
                                                   .adopt = adopt,
                                                   .look = look};
