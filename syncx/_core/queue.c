/* queue.c: asking for a range of a file, and waiting for it.
 *
 * Who holds a range is the kernel's to say (files.c); all that lies in the arena is who waits for what, so that waiters
 * have an order and are woken, and who holds what, so that waiters know whose death to watch.  Whatever is wrong there,
 * or missing because it belongs to another arena, to a program without syncx or to a thread with more holds than
 * records, costs order or a little time, never exclusion.
 *
 * A thread that must wait enrols: a wait record in its slot (file, range, mode, a ticket), and FILE_WAITERS in the
 * file's line.  The state of the record is its futex:
 *
 *   NOTIFIED   awake: about to look, or spinning, or in a signal handler    the waiter; a releaser, from WAITING
 *   BEHIND     asleep until the one before it in line has left, or in the   the waiter
 *              kernel, which wakes it
 *   WAITING    first in line, asleep, or about to try and then to sleep     the waiter; a releaser makes it NOTIFIED
 *   RUNNING    no wait                                                      the waiter, which then steps `ticket` to 0
 *
 * Why no wake-up is lost.  The first in line says WAITING, then tries, then sleeps while the word says WAITING.  A release
 * unlocks first and then looks at the line and the records: it finds WAITING and wakes it, or it unlocked before that
 * thread tried.  (Both are ordered by the fences and the system calls between them.)  A release that finds no live waiter
 * takes FILE_WAITERS back by a CAS which fails if anybody enrolled since.  Whoever is BEHIND watches the ticket of the one
 * before it, which changes when that one leaves, however it leaves, and its life word.
 *
 * Death.  Of a holder: the kernel unlocks; the first in line watches the holder's life word, and then waits for the
 * kernel to finish.  Of a waiter: the dead are passed over, and those behind are woken by its life word.  Of a releaser
 * between unlocking and waking: the waiter watches its life word too.  There is nothing to repair.
 *
 * If what is in the way is not known to be a syncx thread's, an untimed wait sleeps in the kernel (F_OFD_SETLKW) and a timed
 * one tries again and again; a release of ours wakes it at once all the same.  See pause_after.
 *
 * Order.  By tickets, among those whose ranges and modes conflict.  Newcomers overtake for a millisecond after a waiter
 * got its range (throughput).  Then the first in line takes its turn (FILE_TURN) at its next look in vain, and they stand
 * back; or after two milliseconds, whoever waits.  Who takes its turn is awake, as a rule to spin until the range is free;
 * if they stood back for one that is on its way out of a sleep, the range would be nobody's meanwhile.  Tries never stand
 * back.  Nobody waits behind a thread that waits for what he holds himself.
 *
 * A line is no reason to stand still, and whoever is before us may wait for another lock of ours: so a range that was free
 * at two looks, 100 ms apart, is taken out of turn.  The first look is when the one before us has waited for a second, the
 * others after two, four, eight...: he is passed over that seldom, and so comes to his right however many readers come and
 * go.
 *
 * A signal handler that runs amid a wait may do anything: fork (the child's holds are gone from memory: sx_file_forks), or
 * use the same lock object, give back what its thread holds and awaits more of (sx_hold.ended).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

#define LINE_NS 1000000000 /* how long somebody has waited who is passed over where the range itself is free */
#define GRACE_NS 100000000 /* how long it must be free for that: whoever was woken has taken it by then */

/* Between two tries, in ns; see pause_after. */
#define FIRST_PAUSE 100000
#define SHORT_PAUSE 6000000
#define LAST_PAUSE 100000000
#define SHORT_WAIT 1100000000

/* ---- trying -------------------------------------------------------------------------------------------------- */

/* flock(2) gives the old lock up before it looks whether the new one is to be had: after a no it takes it again. */
static void take_shared_again(struct sx_want *w)
{
    if (w->mode == SX_UPGRADE_MODE && w->file->style == SX_FLOCK_STYLE)
        w->lost = sx_file_ask(w->file, true, w->first, w->last, false) != 0;
}

static enum sx_status blocked(struct sx_want *w, const struct sx_segment *by)
{
    w->blocker = by->hold->thread == SX_INHERITED ? w->me : by->hold->thread;
    return SX_BUSY;
}

/* SX_OK: had; SX_BUSY: another thread of this process (w->blocker) or the kernel says no; SX_ERRNO.  The file's guard
 * is held. */
static enum sx_status try(struct sx_want *w)
{
    struct sx_file *f = w->file;
    struct sx_segment *s;
    int error = 0;
    w->blocker = 0;
    if (f->joint && f->root == NULL)
        sx_file_renew(f);
    if (f->joint) /* the kernel would give it to us whatever the other process does with it */
        return blocked(w, f->root);
    if (w->mode != SX_UPGRADE_MODE) {
        if ((s = sx_tree_conflict(f, w->hold, w->first, w->last, sx_wants_shared(w))) != NULL)
            return blocked(w, s);
        error = sx_file_ask(f, sx_wants_shared(w), w->first, w->last, false);
        if (error == 0)
            sx_hold_reshape(w->hold, w->first, w->last, (int)w->mode, w->spare);
    } else {
        for (s = w->hold->segments; s != NULL; s = s->next) {
            struct sx_segment *other = sx_tree_conflict(f, w->hold, s->first, s->last, false);
            if (other != NULL)
                return blocked(w, other);
        }
        struct sx_segment *failed = NULL;
        for (s = w->hold->segments; s != NULL && error == 0; s = s->next)
            if (s->shared && (error = sx_file_ask(f, false, s->first, s->last, false)) != 0)
                failed = s;
        for (s = w->hold->segments; failed != NULL && s != failed; s = s->next)
            if (s->shared)
                sx_file_downgrade(f, s->first, s->last);
        if (failed != NULL)
            take_shared_again(w);
        for (s = w->hold->segments; s != NULL && error == 0; s = s->next) {
            sx_unpublish(s);
            s->shared = false;
            sx_publish(s);
        }
    }
    if (error == 0)
        return SX_OK;
    if (error == EAGAIN && sx_file_is_lost(f))
        error = EBADF; /* it was a lock of another file that was in the way */
    errno = error;
    return error == EAGAIN ? SX_BUSY : SX_ERRNO;
}

static enum sx_status try_guarded(struct sx_want *w)
{
    pthread_mutex_lock(&w->file->guard);
    enum sx_status s = try(w);
    int saved = errno;
    pthread_mutex_unlock(&w->file->guard);
    errno = saved;
    return s;
}

/* ---- waiting --------------------------------------------------------------------------------------------------- */
struct line {
    struct sx_want *want;
    struct sx_pause pause;
    struct sx_wait *record;
    uint32_t number; /* of the wait, in the upper bits of its state; a new one after handlers have run in it */
    uint64_t ticket;
    uint64_t before; /* the ticket of the one that it is behind */
    int64_t look;    /* when it looks whether to pass him over, and whether the range was free at the last look */
    bool free;
    int64_t foreign; /* since when it tries again and again */
    int64_t heard;   /* when it last asked for signals that came between two of these tries */
    bool spun;
    bool first; /* nobody was before it */
};

static void say(struct line *l, enum sx_wait_state state)
{
    l->number = atomic_load_explicit(&l->record->state, memory_order_relaxed) & ~0xffu;
    atomic_store_explicit(&l->record->state, l->number | state, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst); /* said before we look */
}

static sx_a32 *ticket_word(struct sx_wait *w)
{
    return sx_low_half(&w->ticket);
}

static enum sx_status enrol(struct line *l)
{
    struct sx_want *w = l->want;
    struct sx_file *f = w->file;
    l->ticket = atomic_fetch_add_explicit(&f->arena->header->file_tickets, 1, memory_order_seq_cst) + 1;
    struct sx_file_want want = {.device = f->device,
                                .mode = (uint32_t)w->mode | (uint32_t)f->style << FILE_STYLE_SHIFT,
                                .inode = f->st_ino,
                                .first = w->first,
                                .last = w->last,
                                .ticket = l->ticket};
    l->record = sx_pause_enrol_file(&l->pause, &want);
    if (l->record == NULL)
        return SX_TOO_MANY;
    uint32_t waiters = atomic_load_explicit(&f->line->waiters, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&f->line->waiters, &waiters,
                                                  (waiters + FILE_WAITERS_STEP) | FILE_WAITERS, memory_order_seq_cst,
                                                  memory_order_relaxed))
        ;
    return SX_OK;
}

/* Whoever is behind us looks again. */
static void leave_line(struct line *l)
{
    if (l->record == NULL)
        return;
    atomic_store_explicit(&l->record->state, SX_RUNNING, memory_order_seq_cst);
    atomic_store_explicit(&l->record->ticket, 0, memory_order_seq_cst);
    sx_futex_wake(ticket_word(l->record), INT_MAX);
    l->record = NULL;
    sx_pause_withdraw(&l->pause);
}

/* Not a forked child, whose holds were forgotten with its parent's, nor ended by a signal handler. */
bool sx_goes_on(const struct sx_want *w)
{
    return w->forks == sx_file_forks && !w->hold->ended;
}

/* Does that thread say that it holds something of what we hold?  Of more than it has records for it says only a part. */
static bool holds_ours(const struct sx_want *w, struct sx_participant *p)
{
    bool found = atomic_load_explicit(&p->filed, memory_order_relaxed) >= SX_FILE_HOLDS;
    for (uint32_t i = 0; i < SX_FILE_HOLDS && !found; i++) {
        struct sx_file_hold *h = &p->files[i];
        uint32_t state = atomic_load_explicit(&h->state, memory_order_acquire);
        if (!(state & FILE_HELD) || !sx_is_of_file(w->file, atomic_load_explicit(&h->device, memory_order_relaxed),
                                                   atomic_load_explicit(&h->inode, memory_order_relaxed), state))
            continue;
        int64_t first = (int64_t)atomic_load_explicit(&h->first, memory_order_relaxed);
        int64_t last = (int64_t)atomic_load_explicit(&h->last, memory_order_relaxed);
        for (struct sx_segment *s = w->hold->segments; s != NULL && !found; s = s->next)
            found = s->first <= last && s->last >= first;
    }
    return found;
}

/* Two who hold a range shared and want it alone wait for each other: the later one is told.  Asked after WAITING was
 * said; the earlier one may come into sight only after that, and wakes the later one.  Two that wait without a time limit
 * are like any other deadlock, and left to deadlock.c. */
static bool another_upgrades(struct line *l)
{
    struct sx_want *w = l->want;
    struct sx_arena *arena = w->file->arena;
    struct sx_participant *me = sx_participant(arena, w->me);
    bool found_elsewhere = l->pause.deadline == SX_NEVER && !sx_deadlock_off &&
                           atomic_load_explicit(&me->filed, memory_order_relaxed) < SX_FILE_HOLDS;
    uint32_t n = sx_participants_ready(arena);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < SX_WAITS && i != sx_slot_of(w->me); j++) {
            struct sx_wait *other = &arena->participants[i].wait[j];
            uint32_t state = atomic_load_explicit(&other->state, memory_order_acquire);
            if (sx_wait_state(state) == SX_RUNNING)
                break;
            if (!sx_record_is_of(w->file, other) || !sx_record_overlaps(other, w->first, w->last) ||
                (atomic_load_explicit(&other->mode, memory_order_relaxed) & FILE_MODE) != SX_UPGRADE_MODE ||
                !sx_slot_alive(arena, i) || !holds_ours(w, &arena->participants[i]) ||
                (found_elsewhere &&
                 atomic_load_explicit(&arena->participants[i].filed, memory_order_relaxed) < SX_FILE_HOLDS &&
                 atomic_load_explicit(&other->deadline_ns, memory_order_relaxed) == (uint64_t)SX_NEVER))
                continue;
            if (atomic_load_explicit(&other->ticket, memory_order_relaxed) < l->ticket)
                return true;
            if (sx_wait_state(state) == SX_WAITING &&
                atomic_compare_exchange_strong_explicit(&other->state, &state, (state & ~0xffu) | SX_NOTIFIED,
                                                        memory_order_seq_cst, memory_order_relaxed))
                sx_futex_wake(&other->state, INT_MAX);
        }
    return false;
}

struct sight {
    sx_a32 *word;
    uint32_t value;
};
static bool has_changed(void *what)
{
    struct sight *s = what;
    return atomic_load_explicit(s->word, memory_order_relaxed) != s->value;
}

/* How long a wait of that many ns pauses until it tries again for what the kernel tells nobody of.  At first a quarter of
 * the time that it has waited, soon 6 ms, and beyond 1.1 s more by a fifth, 100 ms at most: a try costs the CPU some 20 us
 * with its sleep, and there are 300 in the first 10 s. */
static int64_t pause_after(int64_t waited)
{
    int64_t pause = waited / 4;
    if (pause < FIRST_PAUSE)
        return FIRST_PAUSE;
    if (pause > SHORT_PAUSE)
        pause = SHORT_PAUSE;
    if (waited > SHORT_WAIT)
        pause += (waited - SHORT_WAIT) / 5;
    return pause < LAST_PAUSE ? pause : LAST_PAUSE;
}

/* Until the kernel gives it to us, or a signal comes.  Another thread of ours may have got it since we looked, or get it
 * before us, and then wait for something of ours.  That is found by its look or by this one; but it is the victim, for
 * nothing of ours ends this sleep. */
static enum sx_status sleep_in_kernel(struct line *l)
{
    struct sx_want *w = l->want;
    struct sx_file *f = w->file;
    say(l, SX_BEHIND);
    if (!sx_deadlock_off && !(sx_wish.mode & WAIT_OFF))
        sx_deadlock_closed(f->arena, w->me, true);
    sx_pause_block(&l->pause);
    pthread_mutex_lock(&f->guard);
    struct sx_segment *all = w->hold->segments; /* a signal handler may have changed them */
    bool simple = w->mode != SX_UPGRADE_MODE || (all != NULL && all->next == NULL);
    if (w->mode == SX_UPGRADE_MODE && simple) {
        w->first = all->first;
        w->last = all->last;
    }
    struct sx_segment pending = {
        .first = w->first, .last = w->last, .shared = sx_wants_shared(w), .pending = true, .hold = w->hold};
    if (!simple || f->joint || sx_tree_conflict(f, w->hold, w->first, w->last, pending.shared) != NULL) {
        pthread_mutex_unlock(&f->guard);
        return SX_BUSY; /* or a thread of this process was faster */
    }
    sx_tree_insert(f, &pending);
    pthread_mutex_unlock(&f->guard);
    int error = sx_file_ask(f, pending.shared, w->first, w->last, true);
    pthread_mutex_lock(&f->guard);
    sx_tree_remove(f, &pending);
    if (error == 0 && pending.disturbed && (error = sx_file_ask(f, pending.shared, w->first, w->last, false)) != 0)
        sx_file_give(f, NULL, w->first, w->last); /* what is left of it */
    if (error == 0 && w->mode == SX_UPGRADE_MODE) {
        struct sx_segment *s = w->hold->segments;
        sx_unpublish(s);
        s->shared = false;
        sx_publish(s);
    } else if (error == 0) {
        sx_hold_reshape(w->hold, w->first, w->last, (int)w->mode, w->spare);
    } else {
        take_shared_again(w);
    }
    pthread_mutex_unlock(&f->guard);
    if (error == 0)
        return SX_OK;
    if (error == EAGAIN)
        return SX_BUSY;
    sx_line_wake(f, w->first, w->last); /* threads of this process that found us pending */
    errno = error;
    return error == EINTR ? SX_INTERRUPTED : error == EDEADLK ? SX_DEADLOCK : SX_ERRNO;
}

/* One look and one sleep of the first in line.  SX_BUSY: again. */
static enum sx_status first_in_line(struct line *l, enum sx_wake *wake)
{
    struct sx_want *w = l->want;
    struct sx_arena *arena = w->file->arena;
    say(l, SX_WAITING); /* before the try: whoever unlocks from here on tells us */
    if (w->mode == SX_UPGRADE_MODE && another_upgrades(l))
        return SX_DEADLOCK;
    enum sx_status s = try_guarded(w);
    if (s != SX_BUSY)
        return s;
    if ((w->blocker == w->me || sx_in_our_way_in_another_style(w)) && l->pause.deadline == SX_NEVER)
        return SX_DEADLOCK;
    if (sx_us_in_a_row(w->file->line) >= SX_OVERTAKE_US)
        atomic_fetch_or_explicit(&l->record->mode, FILE_TURN, memory_order_relaxed);
    uint64_t holder = w->blocker;
    uint32_t life = 0, state;
    struct sx_file_hold *known = sx_line_holder(w, holder == 0 ? &holder : &(uint64_t){0}, &state);
    if (known != NULL && !l->spun && sx_spinning_pays()) {
        l->spun = true;
        say(l, SX_NOTIFIED); /* awake: nobody need wake us */
        sx_pause_block(&l->pause);
        struct sight sight = {&known->state, state};
        sx_spin(&w->file->line->spin, &w->file->line->contended, has_changed, &sight);
        return SX_BUSY;
    }
    l->spun = false;
    atomic_fetch_add_explicit(&w->file->line->contended, 1, memory_order_relaxed);
    uint64_t first = (uint64_t)w->first;
    if (holder != 0 && (holder == w->me || sx_holder_life(arena, holder, &life) == SX_ALIVE)) {
        struct sx_watch watch = {sx_life_word(sx_participant(arena, holder)), life};
        *wake = sx_pause_sleep(&l->pause, NULL, &l->record->state, l->number | SX_WAITING, &watch, holder != w->me,
                               first, SX_NEVER);
        l->spun = *wake == SX_BELT; /* it has held for long: to spin for it at every belt would be a waste */
        l->foreign = 0;
        return SX_BUSY;
    }
    bool simple = w->mode != SX_UPGRADE_MODE || w->hold->segments->next == NULL;
    if (l->pause.deadline == SX_NEVER && simple && w->blocker == 0 && !sx_hostless) {
        /* a signal that came before that sleep would not interrupt it: the time to be missed in is made short */
        if (sx_pause_interrupted(&l->pause, true))
            *wake = SX_STOP;
        if (*wake == SX_STOP || !sx_goes_on(w))
            return SX_BUSY;
        atomic_store_explicit(&l->record->state, sx_wait_number() | SX_NOTIFIED, memory_order_seq_cst);
        uint32_t mode = atomic_fetch_or_explicit(&l->record->mode, WAIT_UNWILLING, memory_order_relaxed);
        s = sleep_in_kernel(l);
        atomic_store_explicit(&l->record->state, sx_wait_number() | SX_NOTIFIED, memory_order_seq_cst);
        atomic_store_explicit(&l->record->mode, mode, memory_order_relaxed);
        if (s == SX_INTERRUPTED) {
            *wake = sx_pause_interrupted(&l->pause, false) ? SX_STOP : SX_CHANGED;
            s = SX_BUSY;
        }
        return s;
    }
    int64_t now = sx_now();
    if (l->foreign == 0)
        l->foreign = l->heard = now;
    *wake = sx_pause_sleep(&l->pause, NULL, &l->record->state, l->number | SX_WAITING, NULL, 0, first,
                           now + pause_after(now - l->foreign));
    /* a signal that came between two sleeps interrupted none, and these are too short for the belt to see to it */
    if (*wake == SX_CHANGED && now - l->heard >= SX_BELT_NS) {
        l->heard = now;
        if (sx_pause_interrupted(&l->pause, true))
            *wake = SX_STOP;
    }
    return SX_BUSY;
}

/* When to look whether to pass somebody over who waits since then. */
static int64_t next_look(int64_t since, int64_t now)
{
    int64_t age = since > 0 && since < now ? now - since : 0, step = LINE_NS;
    while (step <= age)
        step *= 2; /* no time since the machine started is too long for that */
    return now - age + step;
}

/* Out of turn.  SX_BUSY: not (yet). */
static enum sx_status look_for_a_gap(struct line *l, uint32_t whose)
{
    struct sx_want *w = l->want;
    struct sx_file *f = w->file;
    int64_t now = sx_now();
    sx_holder_examine(f->arena, sx_slot_id(f->arena, whose)); /* is the one before us there at all? */
    pthread_mutex_lock(&f->guard);
    bool is_free = !f->joint && sx_tree_conflict(f, w->hold, w->first, w->last, sx_wants_shared(w)) == NULL &&
                   sx_file_free(f, sx_wants_shared(w), w->first, w->last);
    enum sx_status s = l->free && is_free ? try(w) : SX_BUSY;
    int saved = errno;
    pthread_mutex_unlock(&f->guard);
    l->free = is_free && !l->free; /* the first of two looks */
    l->look = l->free ? now + GRACE_NS : 0;
    errno = saved;
    return s;
}

/* One look and one sleep of one who is behind another. */
static enum sx_status behind(struct line *l, struct sx_wait *other, uint64_t ticket, struct sx_participant *p,
                             enum sx_wake *wake)
{
    struct sx_want *w = l->want;
    uint32_t slot = (uint32_t)(p - w->file->arena->participants);
    uint32_t life = atomic_load_explicit(sx_life_word(p), memory_order_acquire);
    struct sx_watch watch[2] = {{ticket_word(other), (uint32_t)ticket}, {sx_life_word(p), life}};
    if (l->before != ticket || l->look == 0) {
        l->free = l->free && l->before == ticket;
        l->before = ticket;
        l->look = next_look((int64_t)atomic_load_explicit(&other->since_ns, memory_order_relaxed), sx_now());
    }
    say(l, SX_BEHIND);
    if (!sx_slot_alive(w->file->arena, slot))
        return SX_BUSY;
    do { /* at the belt nothing has changed: a look at all records by all who wait would be too much for many */
        say(l, SX_BEHIND); /* signal handlers may have run */
        *wake = sx_pause_sleep(&l->pause, NULL, &l->record->state, l->number | SX_BEHIND, watch, 2, (uint64_t)w->first,
                               l->look);
    } while (*wake == SX_BELT && sx_goes_on(w) &&
             atomic_load_explicit(watch[0].word, memory_order_relaxed) == watch[0].value &&
             atomic_load_explicit(watch[1].word, memory_order_relaxed) == life);
    return sx_goes_on(w) && *wake != SX_STOP && sx_now() >= l->look ? look_for_a_gap(l, slot) : SX_BUSY;
}

/* Waits for the request.  SX_BUSY: the hold is gone: we are a forked child by now, which has asked for nothing yet, or a
 * signal handler gave it back. */
static enum sx_status wait_for(struct sx_want *w, int64_t deadline)
{
    struct line l = {.want = w, .pause = {.arena = w->file->arena, .deadline = deadline}};
    if (w->file->system != 0)
        sx_pause_block(&l.pause);
    enum sx_status s = enrol(&l);
    enum sx_wake wake = SX_CHANGED;
    bool final = false;
    while (s == SX_OK) {
        struct sx_participant *whose = NULL;
        uint64_t place = l.ticket;
        say(&l, SX_NOTIFIED);
        pthread_mutex_lock(&w->file->guard);
        bool first = l.first || w->mode == SX_UPGRADE_MODE || sx_in_our_own_way(w);
        struct sx_wait *other = first ? NULL : sx_line_before(w, &place, false, &whose);
        l.first = l.first || (!first && other == NULL); /* later tickets are higher */
        pthread_mutex_unlock(&w->file->guard);
        if (other != NULL && final) {
            s = SX_TIMEOUT;
            break;
        }
        if (other != NULL &&
            sx_deadlock_behind(w->file->arena, w->me,
                               sx_slot_id(w->file->arena, (uint32_t)(whose - w->file->arena->participants))))
            other = NULL; /* he waits for us, by way of others: the order would be a deadlock */
        s = other == NULL ? first_in_line(&l, &wake) : behind(&l, other, place, whose, &wake);
        if (s != SX_BUSY)
            break;
        if (!sx_goes_on(w)) {
            if (w->forks != sx_file_forks) { /* the record is the parent's */
                l.record = NULL;
                sx_pause_withdraw(&l.pause);
            }
            s = wake == SX_STOP ? SX_INTERRUPTED : SX_BUSY;
            break;
        }
        s = wake == SX_STOP ? SX_INTERRUPTED : SX_OK;
        if (final && s == SX_OK && other == NULL)
            s = SX_TIMEOUT;
        final = wake == SX_DEADLINE; /* one look more */
        wake = SX_CHANGED;
    }
    if (s == SX_OK)
        atomic_store_explicit(&w->file->line->handed_us, sx_microseconds(), memory_order_relaxed);
    int saved = errno;
    leave_line(&l);
    sx_pause_end(&l.pause);
    errno = saved;
    return s;
}

/* On a network file system even a try may take long: the host's lock is given up for it. */
void *sx_give_host_up(struct sx_file *f)
{
    return f->system != 0 && !sx_hostless ? sx_host.block() : NULL;
}

void sx_take_host_back(struct sx_file *f, void *state)
{
    int saved = errno;
    if (f->system != 0 && !sx_hostless)
        sx_host.unblock(state);
    errno = saved;
}

enum sx_status sx_range_obtain(struct sx_want *w, int64_t deadline)
{
    void *state = sx_give_host_up(w->file);
    pthread_mutex_lock(&w->file->guard);
    enum sx_status s = deadline != 0 && sx_line_is_ahead(w) ? SX_BUSY : try(w);
    int saved = errno;
    pthread_mutex_unlock(&w->file->guard);
    errno = saved;
    sx_take_host_back(w->file, state);
    if (s != SX_BUSY || deadline == 0)
        return s;
    w->slept = true;
    return wait_for(w, deadline);
}
