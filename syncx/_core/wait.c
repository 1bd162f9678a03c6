/* wait.c: how every primitive sleeps.
 *
 * A sleep watches two words, the primitive's and the holder's life word, and lasts at most until the belt
 * (SX_BELT_NS), so that a wake-up which died with the thread it was sent to is made good.  Before it sleeps a
 * thread writes its wait record; with the holder ids in the words those records are the whole wait-for graph.
 * After any wake the caller looks at the words again; what this file returns is only a hint.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

#define SPIN_MAX 50000u /* ns: about the price of a sleep and a wake between two CPUs */
#define SPIN_MIN 2000u

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
static bool nobody_to_tell(void **state)
{
    (void)state;
    return false;
}
static bool handles_nothing(void)
{
    return false;
}
static void no_place(struct sx_spot *place)
{
    *place = (struct sx_spot){0};
}
static void nowhere(const struct sx_spot *place, char *text, size_t size)
{
    (void)place;
    memset(text, 0, size);
}
static void nameless(char *text, size_t size)
{
    memset(text, 0, size);
}
struct sx_host sx_host = {nothing_to_give_up,
                          nothing_to_take_back,
                          nobody_to_ask,
                          nobody_to_tell,
                          handles_nothing,
                          no_place,
                          nowhere,
                          nameless};
_Thread_local bool sx_hostless __attribute__((tls_model("initial-exec")));
_Thread_local bool sx_quiet __attribute__((tls_model("initial-exec")));
_Thread_local bool sx_unwilling __attribute__((tls_model("initial-exec")));
_Thread_local struct sx_wish sx_wish __attribute__((tls_model("initial-exec")));
bool sx_belt_off;
bool sx_spin_always;
atomic_bool sx_no_waitv;

void sx_text_store(sx_a64 *to, const char *text, uint32_t words)
{
    for (uint32_t i = 0; i < words; i++) {
        uint64_t word;
        memcpy(&word, text + (size_t)i * sizeof word, sizeof word);
        if (atomic_load_explicit(&to[i], memory_order_relaxed) != word)
            atomic_store_explicit(&to[i], word, memory_order_relaxed);
    }
}

void sx_text_load(char *to, sx_a64 *text, uint32_t words)
{
    for (uint32_t i = 0; i < words; i++) {
        uint64_t word = atomic_load_explicit(&text[i], memory_order_relaxed);
        memcpy(to + (size_t)i * sizeof word, &word, sizeof word);
    }
}

/* While the host's lock is held. */
static void locate(struct sx_pause *pause)
{
    if (!pause->placed && !pause->blocked && !sx_hostless)
        sx_host.place(&pause->place);
    pause->placed = true;
}

/* Gives up the host's lock, once per wait. */
void sx_pause_block(struct sx_pause *pause)
{
    locate(pause);
    if (!pause->blocked && !sx_hostless) {
        pause->host_state = sx_host.block();
        pause->blocked = true;
    }
}

void sx_pause_end(struct sx_pause *pause)
{
    if (pause->record != NULL && !pause->kept)
        atomic_store_explicit(&pause->record->state, SX_RUNNING, memory_order_release);
    pause->record = NULL;
    if (pause->slept != NULL) {
        int64_t now = sx_now();
        sx_tally_wait(pause->slept, now - pause->slept_ns, now - pause->since);
        pause->slept = NULL;
    }
    if (pause->blocked) {
        pause->blocked = false;
        sx_host.unblock(pause->host_state);
    }
}

/* Runs the host's signal handlers.  They may lock other things, wait (which uses our record, unless it is kept) or
 * fork: the caller asks for its identity again, and the record is written anew before the next sleep. */
bool sx_pause_interrupted(struct sx_pause *pause, bool belt)
{
    if (sx_hostless ||
        (belt && !sx_host.handles())) /* the wait is the same still: so many belts end in a large deadlock */
        return false;
    struct sx_wait *w = pause->record;
    if (w != NULL && !pause->kept) {
        atomic_store_explicit(&w->state, SX_RUNNING, memory_order_release);
        pause->record = NULL;
    } else if (w != NULL && atomic_load_explicit(&w->kind, memory_order_relaxed) != SX_KIND_CONDITION) {
        /* what a handler takes it gives back: whoever waits for that waits for a thread that runs.  The caller says
         * again what it is about before it sleeps. */
        atomic_store_explicit(&w->state, sx_wait_number() | SX_NOTIFIED, memory_order_seq_cst);
    }
    sx_pause_block(pause);
    return sx_host.interrupted(&pause->host_state, belt);
}

/* What `where` says of a record of the calling thread; before its state says that it is in use. */
static void tell_where(struct sx_pause *pause, struct sx_wait *w)
{
    locate(pause);
    struct sx_participant *me = sx_self.slot;
    char text[SX_WHERE_WORDS * 8] = {0};
    if (pause->place.code != NULL)
        sx_host.where(&pause->place, text, sizeof text);
    sx_text_store(me->where + (w - me->wait) * SX_WHERE_WORDS, text, SX_WHERE_WORDS);
}

/* The record that the thread's next wait uses, or NULL: not registered, or too deep.  A signal handler that runs inside
 * a wait whose record must stay (for a condition) waits with the one above.  Told by the records themselves, in this
 * arena and in a forked child's new slot: whoever looks for waiters stops at the first one that is not in use. */
static struct sx_wait *next_record(struct sx_arena *arena)
{
    uint64_t id;
    struct sx_participant *me = sx_identity(arena, &id) == SX_OK ? sx_participant(arena, id) : NULL;
    for (uint32_t i = 0; me != NULL && i < SX_WAITS; i++)
        if (atomic_load_explicit(&me->wait[i].state, memory_order_relaxed) == SX_RUNNING)
            return &me->wait[i];
    return NULL;
}

/* For the upper bits of a state: whoever saw another wait of this thread, or this one before handlers ran in it, must not
 * take it for this one, nor change it.  One count for all records and kinds, for a record is used for any of them. */
uint32_t sx_wait_number(void)
{
    static _Thread_local uint32_t number __attribute__((tls_model("initial-exec")));
    if (number == 0)
        number = (uint32_t)sx_now();
    return ++number << 8;
}

static uint32_t flags_of(const struct sx_pause *pause)
{
    uint32_t unwilling = sx_quiet || sx_hostless || sx_unwilling || sx_deadlock_off ? WAIT_UNWILLING : 0;
    return sx_wish.mode | unwilling | (pause->reported != 0 ? WAIT_REPORTED : 0);
}

/* Fills in all but the state; the record is ours, and nobody looks at it while it says RUNNING. */
static void describe(struct sx_pause *pause, struct sx_wait *w, struct sx_cell *cell)
{
    uintptr_t at = (uintptr_t)cell, base = (uintptr_t)pause->arena->base;
    bool inside = at >= base && at < base + pause->arena->size;
    atomic_store_explicit(&w->cell, inside ? at - base : 0, memory_order_relaxed);
    atomic_store_explicit(&w->address, at, memory_order_relaxed);
    atomic_store_explicit(&w->kind, sx_cell_kind(cell), memory_order_relaxed);
    atomic_store_explicit(&w->units, pause->units == 0 ? 1 : pause->units, memory_order_relaxed);
    atomic_store_explicit(&w->mode, pause->mode | flags_of(pause), memory_order_relaxed);
    tell_where(pause, w);
    if (pause->since == 0)
        pause->since = sx_now();
    atomic_store_explicit(&w->since_ns, (uint64_t)pause->since, memory_order_relaxed);
    atomic_store_explicit(&w->deadline_ns, (uint64_t)pause->deadline, memory_order_relaxed);
}

/* A wait in a signal handler may have said something else since. */
static void say_reported(struct sx_pause *pause, struct sx_wait *w)
{
    size_t slot = (size_t)((char *)w - (char *)pause->arena->participants) / sizeof(struct sx_participant);
    atomic_store_explicit(&pause->arena->participants[slot].reported_ns, (uint64_t)pause->reported,
                          memory_order_relaxed);
}

/* The record says WAITING from here until the sleep is over, and AWAKE between two sleeps: while it says WAITING the
 * thread has not got what it waits for. */
static void publish(struct sx_pause *pause, struct sx_cell *cell, uint64_t holder)
{
    if (pause->record == NULL && cell == NULL)
        return; /* it waits for nothing but the time to pass */
    struct sx_wait *w = pause->record != NULL ? pause->record : next_record(pause->arena);
    if (w == NULL) /* too deep */
        return;
    if (pause->record == NULL)
        describe(pause, w, cell);
    atomic_store_explicit(&w->holder, holder, memory_order_relaxed);
    if (pause->reported != 0)
        say_reported(pause, w);
    if (pause->kept) { /* whoever enrolled it has written the rest */
        atomic_thread_fence(memory_order_seq_cst);
        return;
    }
    uint64_t ticket = atomic_load_explicit(&w->ticket, memory_order_relaxed) + 1;
    bool inside = atomic_load_explicit(&w->cell, memory_order_relaxed) != 0;
    atomic_store_explicit(&w->ticket, inside ? ticket : (uint64_t)pause->looked, memory_order_relaxed);
    uint32_t number = pause->record == NULL ? sx_wait_number() : atomic_load(&w->state) & ~0xffu;
    /* release: who sees WAITING sees the rest; and a fence: of two threads that close a deadlock one sees both */
    atomic_store_explicit(&w->state, SX_WAITING | number, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
    pause->record = w;
}

/* The sleep is over: was it given to the thread as the victim of a deadlock to end it? */
static bool awake(struct sx_pause *pause)
{
    struct sx_wait *w = pause->record;
    if (w == NULL)
        return false;
    uint32_t state = atomic_load_explicit(&w->state, memory_order_acquire);
    if (!pause->kept)
        while (sx_wait_state(state) == SX_WAITING &&
               !atomic_compare_exchange_weak_explicit(&w->state, &state, (state & ~0xffu) | SX_AWAKE,
                                                      memory_order_acq_rel, memory_order_acquire))
            ;
    return sx_wait_state(state) == SX_VICTIM;
}

/* The deadlock is over, and the wait goes on: the caller looks again. */
static void revive(struct sx_pause *pause)
{
    struct sx_wait *w = pause->record;
    uint32_t state = atomic_load_explicit(&w->state, memory_order_relaxed);
    state = pause->kept ? sx_wait_number() | SX_NOTIFIED : (state & ~0xffu) | SX_AWAKE;
    atomic_store_explicit(&w->state, state, memory_order_seq_cst);
}

/* The thread is the victim of a deadlock: it gives its wait up, or tells and waits on.  Whoever waits already is not
 * told then; who comes later may be. */
enum sx_wake sx_be_victim(struct sx_pause *pause)
{
    struct sx_wait *w = pause->record;
    if (!(atomic_load_explicit(&w->mode, memory_order_relaxed) & WAIT_REPORT))
        return SX_STOP;
    pause->reported = sx_now();
    say_reported(pause, w);
    if (pause->kept) {
        atomic_fetch_or_explicit(&w->mode, WAIT_REPORTED, memory_order_relaxed);
        revive(pause);
    } else {
        atomic_store_explicit(&w->state, SX_RUNNING, memory_order_release);
        pause->record = NULL;
    }
    return sx_host.report(&pause->host_state) ? SX_STOP : SX_CHANGED;
}

static void keep(struct sx_pause *pause, struct sx_wait *w, uint32_t state)
{
    pause->record = w;
    pause->kept = true;
    atomic_store_explicit(&w->state, state | sx_wait_number(), memory_order_seq_cst);
}

/* For a wait whose record others change (a condition's): takes the thread's next record until sx_pause_withdraw, over
 * all that the thread does meanwhile.  False: waits are nested too deep. */
bool sx_pause_enrol(struct sx_pause *pause, struct sx_cell *cell, uint64_t place, uint64_t mark)
{
    struct sx_wait *w = next_record(pause->arena);
    if (w == NULL)
        return false;
    describe(pause, w, cell);
    atomic_store_explicit(&w->holder, mark, memory_order_relaxed);
    atomic_store_explicit(&w->ticket, place, memory_order_relaxed);
    atomic_store_explicit(&w->units, 0, memory_order_relaxed);
    keep(pause, w, SX_WAITING);
    return true;
}

/* The same for a range of a file, which is no cell; the caller fills in what `want` does not say. */
struct sx_wait *sx_pause_enrol_file(struct sx_pause *pause, const struct sx_file_want *want)
{
    struct sx_wait *w = next_record(pause->arena);
    if (w == NULL)
        return NULL;
    tell_where(pause, w);
    atomic_store_explicit(&w->kind, SX_KIND_FILE, memory_order_relaxed);
    atomic_store_explicit(&w->units, want->device, memory_order_relaxed);
    atomic_store_explicit(&w->cell, want->inode, memory_order_relaxed);
    atomic_store_explicit(&w->holder, (uint64_t)want->first, memory_order_relaxed);
    atomic_store_explicit(&w->address, (uint64_t)want->last, memory_order_relaxed);
    atomic_store_explicit(&w->mode, want->mode | flags_of(pause), memory_order_relaxed);
    atomic_store_explicit(&w->since_ns, (uint64_t)sx_now(), memory_order_relaxed);
    atomic_store_explicit(&w->deadline_ns, (uint64_t)pause->deadline, memory_order_relaxed);
    atomic_store_explicit(&w->ticket, want->ticket, memory_order_relaxed);
    keep(pause, w, SX_NOTIFIED);
    return w;
}

/* The same for the end of a process, join.c. */
struct sx_wait *sx_pause_enrol_join(struct sx_pause *pause, uint32_t pid, uint64_t start_time)
{
    struct sx_wait *w = next_record(pause->arena);
    if (w == NULL)
        return NULL;
    tell_where(pause, w);
    atomic_store_explicit(&w->kind, SX_KIND_JOIN, memory_order_relaxed);
    atomic_store_explicit(&w->units, pid, memory_order_relaxed);
    atomic_store_explicit(&w->cell, start_time, memory_order_relaxed);
    atomic_store_explicit(&w->holder, sx_pid_namespace(), memory_order_relaxed);
    atomic_store_explicit(&w->address, 0, memory_order_relaxed);
    atomic_store_explicit(&w->mode, flags_of(pause), memory_order_relaxed);
    atomic_store_explicit(&w->since_ns, (uint64_t)sx_now(), memory_order_relaxed);
    atomic_store_explicit(&w->deadline_ns, (uint64_t)pause->deadline, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->ticket, 1, memory_order_relaxed);
    keep(pause, w, SX_WAITING);
    return w;
}

/* The end of that; the caller has seen to the state.  In a forked child the record was the parent's. */
void sx_pause_withdraw(struct sx_pause *pause)
{
    pause->record = NULL;
    pause->kept = false;
}

/* One sleep on *word == value (and on what is watched), until woken, the deadline, bound (an earlier time of the
 * caller's, SX_NEVER for none) or the belt. */
enum sx_wake sx_pause_sleep(struct sx_pause *pause, struct sx_cell *cell, sx_a32 *word, uint32_t value,
                            const struct sx_watch *watch, int watched, uint64_t holder, int64_t bound)
{
    int64_t now = sx_now(), until;
    bool belt = true;
    if (pause->deadline <= now)
        return SX_DEADLINE;
    if (bound <= now)
        return SX_CHANGED;
    sx_pause_block(pause);
    if (pause->since == 0)
        pause->since = now;
    if (cell != NULL && pause->slept == NULL) {
        pause->slept = cell;
        pause->slept_ns = now;
    }
    publish(pause, cell, holder);
    sx_deadlock_forget();
    uint64_t me = 0;
    bool looks = !sx_deadlock_off && pause->record != NULL && pause->deadline == SX_NEVER &&
                 !(atomic_load_explicit(&pause->record->mode, memory_order_relaxed) & WAIT_OFF) &&
                 sx_may_be_for_ever(atomic_load_explicit(&pause->record->kind, memory_order_relaxed)) &&
                 sx_identity(pause->arena, &me) == SX_OK;
    bool first = !pause->met;
    pause->met = pause->met || looks;
    if (looks && (pause->belted ? sx_deadlock_scan(pause->arena, me) : sx_deadlock_closed(pause->arena, me, first))) {
        awake(pause);
        return sx_be_victim(pause);
    }
    until = sx_belt_off ? SX_NEVER : now + (looks ? sx_belt_of(pause->arena, me, pause->record, now) : SX_BELT_NS);
    if (bound < until)
        until = bound, belt = false;
    if (pause->deadline < until)
        until = pause->deadline, belt = false;
    /* the record too is watched, but where it is the word */
    struct sx_watch all[SX_MAX_WATCH];
    if (looks && word != &pause->record->state && watched < SX_MAX_WATCH) { /* else the belt tells */
        memcpy(all, watch, (size_t)watched * sizeof *watch);
        uint32_t state = atomic_load_explicit(&pause->record->state, memory_order_relaxed);
        all[watched] = (struct sx_watch){&pause->record->state, (state & ~0xffu) | SX_WAITING};
        watch = all;
        watched++;
    }
    int r = sx_futex_wait(word, value, watch, watched, until);
    if (looks && watch == all)
        watched--;
    /* the kernel wakes one sleeper of a dead thread's life word: pass it on to all */
    for (int i = 0; i < watched; i++)
        if (atomic_load_explicit(watch[i].word, memory_order_relaxed) != watch[i].value)
            sx_futex_wake(watch[i].word, INT_MAX);
    if (r == 1 && belt && looks && sx_nudged(pause->arena, me))
        r = -ETIMEDOUT;
    pause->belted = belt && r == -ETIMEDOUT;
    if (pause->record != NULL && atomic_load_explicit(&pause->record->cell, memory_order_relaxed) == 0)
        pause->looked = sx_now();
    if (awake(pause)) {
        if (looks && sx_deadlock_tell(pause->arena, me))
            return sx_be_victim(pause);
        revive(pause);
    }
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
        for (uint32_t j = 0; j < SX_WAITS; j++) {
            if (atomic_load_explicit(&p->wait[j].state, memory_order_acquire) == SX_RUNNING)
                continue;
            if (atomic_load_explicit(&p->wait[j].kind, memory_order_relaxed) == SX_KIND_FILE)
                continue;
            /* a cell in the user's memory has no offset: any dead waiter outside the arena may be the one */
            if (atomic_load_explicit(&p->wait[j].cell, memory_order_relaxed) != (inside ? at : 0))
                continue;
            if (sx_holder_examine(arena, sx_slot_id(arena, i)) == SX_DEAD)
                return true;
        }
    }
    return false;
}

/* ---- wakes that wait until a lock is free ---------------------------------------------------------------
 *
 * Whoever is woken by the holder of the lock that it wants would only run into it.  So such wakes are kept by the thread
 * and sent by the release; the word has MUTEX_LATER meanwhile.  If the thread dies first, the belt of the sleepers makes
 * them good.
 */
static _Thread_local struct {
    sx_a32 **words; /* kept from one use to the next */
    uint32_t count, size;
} later __attribute__((tls_model("initial-exec")));

void sx_wake_later(sx_a32 *word)
{
    if (later.count == later.size) {
        uint32_t size = later.size == 0 ? 16 : 2 * later.size;
        sx_a32 **words = realloc(later.words, size * sizeof *words);
        if (words == NULL) {
            sx_futex_wake(word, INT_MAX);
            return;
        }
        later.words = words;
        later.size = size;
    }
    later.words[later.count++] = word;
}

void sx_wake_now(void)
{
    for (uint32_t i = 0; i < later.count; i++)
        sx_futex_wake(later.words[i], INT_MAX);
    later.count = 0;
}

/* The thread ends (send), or is the one of a forked child: what it was to send is its parent's. */
void sx_forget_wakes(bool send)
{
    if (send)
        sx_wake_now();
    free(later.words);
    later.words = NULL;
    later.count = later.size = 0;
}

/* ---- wakes on their way -------------------------------------------------------------------------------
 *
 * For words whose releaser wakes one sleeper, who may die, leave, or lose the race.  in_flight counts wakes that were
 * sent and have not landed: a belt that finds work while it is 0 has rescued somebody.
 */

/* A wake that found nobody asleep.  First told, then taken out of flight: a belt that ended meanwhile sees one of
 * the two. */
void sx_missed(struct sx_wakes *wakes)
{
    atomic_fetch_add_explicit(&wakes->missed, 1, memory_order_release);
    atomic_fetch_sub_explicit(&wakes->in_flight, 1, memory_order_release);
}

void sx_wake_one(sx_a32 *word, struct sx_wakes *wakes)
{
    atomic_fetch_add_explicit(&wakes->in_flight, 1, memory_order_relaxed);
    if (sx_futex_wake(word, 1) == 0)
        sx_missed(wakes);
}

/* After the belt ended a sleep there was something to take, or no waiters bit.  Had a wake-up been lost?  Not if one
 * is on its way to somebody, and not if one found nobody asleep because we had just woken by ourselves.  Looked at
 * between reading the word and changing it: later a wake may have landed. */
bool sx_nothing_in_flight(struct sx_wakes *wakes, struct sx_attempt *a)
{
    return (int32_t)atomic_load_explicit(&wakes->in_flight, memory_order_acquire) <= 0 &&
           atomic_load_explicit(&wakes->missed, memory_order_relaxed) == a->missed;
}

void sx_count_rescue(struct sx_arena *arena, struct sx_cell *cell, struct sx_wakes *wakes, struct sx_attempt *a,
                     bool died)
{
    died = died || sx_dead_waiter(arena, cell);
    if (!died && !a->lost)
        return;
    if (died)
        atomic_store_explicit(&wakes->in_flight, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&sx_statistics(cell)->rescues, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&arena->header->rescues, 1, memory_order_relaxed);
}

void sx_landed(struct sx_wakes *wakes, struct sx_attempt *a)
{
    if (a->woken)
        atomic_fetch_sub_explicit(&wakes->in_flight, 1, memory_order_relaxed);
    a->woken = false;
}

void sx_before_sleep(struct sx_wakes *wakes, struct sx_statistics *statistics, struct sx_attempt *a)
{
    sx_landed(wakes, a);
    if (!a->slept)
        atomic_fetch_add_explicit(&statistics->contended, 1, memory_order_relaxed);
    a->belted = false;
    a->missed = atomic_load_explicit(&wakes->missed, memory_order_relaxed);
}

/* What the sleep says for the attempt; *me is asked for again where handlers ran: we may be a forked child by now. */
enum sx_status sx_after_sleep(struct sx_pause *pause, enum sx_wake wake, struct sx_attempt *a, uint64_t *me)
{
    a->slept = true;
    a->spun = wake == SX_BELT; /* it has held for long: to spin for it at every belt would be a waste */
    a->woken = wake == SX_WOKEN;
    a->belted = wake == SX_BELT;
    a->final = wake == SX_DEADLINE;
    if (wake == SX_STOP)
        return SX_INTERRUPTED;
    return pause->record == NULL ? sx_identity(pause->arena, me) : SX_OK;
}

/* A dead thread lost what it held of the cell: who it was, for the one who takes it and for people. */
void sx_note_death(struct sx_arena *arena, struct sx_cell *cell, uint64_t holder)
{
    struct sx_statistics *statistics = sx_statistics(cell);
    struct sx_participant *p = sx_participant(arena, holder);
    uint32_t pid = 0, tid = 0;
    if (p != NULL && atomic_load_explicit(&p->generation, memory_order_acquire) == (uint32_t)(holder >> 32)) {
        pid = atomic_load_explicit(&p->pid, memory_order_relaxed);
        tid = atomic_load_explicit(&p->tid, memory_order_relaxed);
    }
    atomic_store_explicit(&statistics->dead_pid, pid, memory_order_relaxed);
    atomic_store_explicit(&statistics->dead_tid, tid, memory_order_relaxed);
    atomic_fetch_add_explicit(&statistics->recoveries, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&arena->header->recoveries, 1, memory_order_relaxed);
}

/* ---- spinning ----------------------------------------------------------------------------------------- */

/* Spins until ready(what) is true.
 *
 * How long is the cell's own experience, *less, in ns below SPIN_MAX: each success brings it a quarter of the way
 * towards SPIN_MAX, each failure takes an eighth, down to SPIN_MIN; every 32nd time it is SPIN_MAX all the same, or a
 * lock whose sections have grown shorter would never find out.  0 in a fresh cell: the most. */
bool sx_spin(sx_a32 *less, sx_a32 *contended, bool (*ready)(void *), void *what)
{
    uint32_t known = atomic_load_explicit(less, memory_order_relaxed);
    uint32_t budget = known < SPIN_MAX - SPIN_MIN ? SPIN_MAX - known : SPIN_MIN, limit = budget;
    bool success = false;
    if (atomic_load_explicit(contended, memory_order_relaxed) % 32 == 0)
        limit = SPIN_MAX;
    int64_t end = sx_now() + limit;
    do
        for (int i = 0; i < 16 && !success; i++) {
            success = ready(what);
            if (!success)
                sx_cpu_relax();
        }
    while (!success && sx_now() < end);
    budget = success ? budget + (SPIN_MAX - budget) / 4 : budget - budget / 8;
    if (SPIN_MAX - budget != known)
        atomic_store_explicit(less, SPIN_MAX - budget, memory_order_relaxed);
    return success;
}

/* On one CPU the holder cannot run while we spin.  Asked at every contended acquire, so the answer is kept for a
 * while: the affinity of a process rarely changes. */
bool sx_spinning_pays(void)
{
    if (sx_spin_always)
        return true;
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
