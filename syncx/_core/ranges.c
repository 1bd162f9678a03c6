/* ranges.c: what a lock object does: taking its range and giving it back, more and less of it, and the ends of threads.
 *
 * A hold is what one thread has through one lock object.  It stands in the object's list before its range is asked for
 * (taking), and a signal handler that runs amid a wait may end it: then whoever waits gives up.  queue.c asks and waits.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "files.h"

#define LONG_HOLD_NS 100000

static _Thread_local uint32_t held_here __attribute__((tls_model("initial-exec"))); /* holds of this thread */

/* ---- holds ------------------------------------------------------------------------------------------------------- */
struct sx_hold *sx_range_hold(struct sx_range *r, uint64_t me)
{
    for (struct sx_hold *h = r->holds; h != NULL; h = h->next)
        if ((h->thread == me || h->thread == SX_INHERITED) && !h->taking && !h->ended)
            return h;
    return NULL;
}

static struct sx_hold *begin_hold(struct sx_range *r, uint64_t me)
{
    struct sx_hold *h = r->own.file == NULL ? &r->own : malloc(sizeof *h);
    if (h == NULL)
        return NULL;
    *h = (struct sx_hold){.next = r->holds, .file = r->file, .thread = me, .taking = true};
    r->holds = h;
    return h;
}

/* r->guard is held; returns a file to drop afterwards, or NULL. */
static struct sx_file *end_hold(struct sx_range *r, struct sx_hold *hold)
{
    struct sx_hold **link = &r->holds;
    while (*link != hold)
        link = &(*link)->next;
    *link = hold->next;
    struct sx_file *f = hold->keeps_file ? hold->file : NULL;
    if (hold == &r->own)
        hold->file = NULL;
    else
        free(hold);
    return f;
}

/* By the thread that has it and has given all back; a wait of its for more, in which we are a signal handler, does the
 * rest (over_with). */
static void end_hold_guarded(struct sx_range *r, struct sx_hold *hold)
{
    pthread_mutex_lock(&r->guard);
    hold->ended = true;
    struct sx_file *f = hold->waits == 0 ? end_hold(r, hold) : NULL;
    pthread_mutex_unlock(&r->guard);
    if (f != NULL)
        sx_file_drop(f);
    held_here -= held_here != 0; /* one that came with the fork was not counted */
}

/* A wait for more under a hold is over.  false: so is the hold. */
static bool over_with(struct sx_range *r, struct sx_hold *hold)
{
    pthread_mutex_lock(&r->guard);
    bool ended = hold->ended;
    struct sx_file *f = --hold->waits == 0 && ended ? end_hold(r, hold) : NULL;
    pthread_mutex_unlock(&r->guard);
    if (f != NULL)
        sx_file_drop(f);
    return !ended;
}

/* Was it held for so long that whoever waits for it sleeps?  The clock is read only where somebody waits. */
static bool held_long(const struct sx_hold *hold)
{
    uint32_t waiters = atomic_load_explicit(&hold->file->line->waiters, memory_order_relaxed);
    struct sx_file_hold *h = hold->segments == NULL ? NULL : hold->segments->record;
    return h != NULL && (waiters & FILE_WAITERS) &&
           sx_now() - (int64_t)atomic_load_explicit(&h->since_ns, memory_order_relaxed) >= LONG_HOLD_NS;
}

/* From the first byte of a hold to its last; first > last: it has none. */
static void extent(const struct sx_hold *hold, int64_t *first, int64_t *last)
{
    *first = SX_TO_END;
    *last = 0;
    for (const struct sx_segment *s = hold->segments; s != NULL; s = s->next) {
        *first = s->first < *first ? s->first : *first;
        *last = s->last > *last ? s->last : *last;
    }
}

/* Gives all ranges of a hold back. */
static void give_back(struct sx_hold *hold)
{
    struct sx_file *f = hold->file;
    int64_t first, last;
    pthread_mutex_lock(&f->guard);
    extent(hold, &first, &last);
    if (held_long(hold)) /* to wake up takes tens of microseconds: meanwhile we unlock, and then look again */
        sx_line_wake(f, first, last);
    if (first <= last)
        sx_file_give(f, hold, first, last);
    sx_hold_clear(hold);
    if (f->joint && f->root == NULL) {
        sx_file_renew(f);
        first = 0; /* until then nobody else of the process had anything */
        last = SX_TO_END;
    }
    pthread_mutex_unlock(&f->guard);
    if (first <= last)
        sx_line_wake(f, first, last);
}

static bool get_spare(struct sx_want *w)
{
    for (int i = 0; i < 2; i++)
        if ((w->spare[i] = malloc(sizeof(struct sx_segment))) == NULL) {
            errno = ENOMEM;
            return false;
        }
    return true;
}

static void drop_spare(struct sx_want *w)
{
    free(w->spare[0]);
    free(w->spare[1]);
}

static struct sx_want request(struct sx_range *r, struct sx_hold *hold, uint64_t me, int64_t first, int64_t last,
                              enum sx_mode mode)
{
    return (struct sx_want){r, hold->file, hold, me, first, last, mode, sx_file_forks};
}

/* Takes the range for this thread.  deadline: 0 tries only; SX_NEVER waits for ever. */
enum sx_status sx_range_acquire(struct sx_range *r, int64_t deadline)
{
    for (;;) {
        uint64_t me;
        enum sx_status s = sx_identity(r->arena, &me);
        if (s != SX_OK)
            return s;
        pthread_mutex_lock(&r->guard);
        struct sx_hold *hold = sx_range_hold(r, me);
        if (hold != NULL) {
            bool again = r->reentrant && hold->depth != UINT32_MAX;
            hold->depth += again;
            s = again ? SX_OK : deadline == SX_NEVER ? SX_DEADLOCK : SX_BUSY;
        } else if ((hold = begin_hold(r, me)) == NULL) {
            errno = ENOMEM;
            s = SX_ERRNO;
        } else {
            held_here++;
            pthread_mutex_unlock(&r->guard);
            struct sx_file *f = hold->file;
            struct sx_want w = request(r, hold, me, r->first, r->last, r->shared ? SX_SHARED_MODE : SX_EXCLUSIVE_MODE);
            s = sx_range_obtain(&w, deadline);
            enum sx_place place = SX_IN_PLACE;
            if (s == SX_OK) {
                place = sx_range_place(r, f, w.slept);
                if (place == SX_IN_PLACE) {
                    hold->taking = false;
                    return SX_OK;
                }
            }
            int saved = errno;
            if (w.forks != sx_file_forks) {
                if (s == SX_BUSY)
                    continue; /* a forked child, which has forgotten the hold with all of its parent's */
                return s;
            }
            if (s == SX_ERRNO && saved == EBADF)
                place = sx_range_place(r, f, false);
            if (s == SX_OK)
                give_back(hold);
            end_hold_guarded(r, hold);
            errno = saved;
            if (place == SX_IN_PLACE)
                return s;
            if (r->path == NULL) {
                errno = EBADF;
                return SX_ERRNO;
            }
            if ((s = sx_range_follow(r, f)) != SX_OK)
                return s;
            continue;
        }
        pthread_mutex_unlock(&r->guard);
        if (s == SX_BUSY && deadline > 0) { /* as threading has it: the time passes */
            struct sx_pause pause = {.arena = r->arena, .deadline = deadline};
            sx_a32 nothing = 0;
            enum sx_wake wake = SX_CHANGED;
            while (wake != SX_DEADLINE && wake != SX_STOP)
                wake = sx_pause_sleep(&pause, NULL, &nothing, 0, NULL, 0, 0, SX_NEVER);
            sx_pause_end(&pause);
            s = wake == SX_STOP ? SX_INTERRUPTED : SX_TIMEOUT;
        }
        return s;
    }
}

static enum sx_status mine(struct sx_range *r, struct sx_hold **hold, uint64_t *me)
{
    enum sx_status s = sx_identity(r->arena, me);
    if (s != SX_OK)
        return s;
    pthread_mutex_lock(&r->guard);
    *hold = sx_range_hold(r, *me);
    pthread_mutex_unlock(&r->guard);
    return *hold == NULL ? SX_NOT_OWNER : SX_OK;
}

enum sx_status sx_range_release(struct sx_range *r)
{
    uint64_t me;
    enum sx_status s = sx_identity(r->arena, &me);
    if (s != SX_OK)
        return s;
    pthread_mutex_lock(&r->guard);
    struct sx_hold *hold = sx_range_hold(r, me);
    bool last = hold != NULL && hold->depth == 0;
    if (last && hold->thread == SX_INHERITED) { /* of those who inherited it one releases it */
        pthread_mutex_lock(&hold->file->guard);
        hold->thread = me;
        pthread_mutex_unlock(&hold->file->guard);
    } else if (hold != NULL && !last) {
        hold->depth--;
    }
    pthread_mutex_unlock(&r->guard);
    if (!last)
        return hold == NULL ? SX_NOT_OWNER : SX_OK;
    struct sx_file *f = hold->file;
    void *state = sx_give_host_up(f);
    give_back(hold);
    sx_take_host_back(f, state);
    end_hold_guarded(r, hold);
    return SX_OK;
}

/* After an upgrade that failed as s says and left nothing: waits for the shared lock, which its holder still counts on.
 * A signal handler that raises, or has raised, ends the hold instead. */
static enum sx_status regain(struct sx_want *w, enum sx_status s)
{
    struct sx_pause pause = {.arena = w->file->arena, .deadline = SX_NEVER};
    bool stop = s == SX_INTERRUPTED;
    int error = EINTR, saved = errno;
    sx_pause_block(&pause);
    while (error == EINTR && !stop && sx_goes_on(w)) {
        error = sx_file_ask(w->file, true, w->first, w->last, true);
        if (error == EINTR)
            stop = sx_pause_interrupted(&pause, false);
    }
    sx_pause_end(&pause);
    errno = saved;
    if (error == 0)
        return s;
    if (!sx_goes_on(w))
        return stop ? SX_INTERRUPTED : SX_BUSY;
    give_back(w->hold);
    end_hold_guarded(w->range, w->hold);
    errno = error;
    return stop ? SX_INTERRUPTED : SX_ERRNO;
}

/* More for a hold that the thread has. */
static enum sx_status obtain_more(struct sx_want *w, int64_t deadline)
{
    pthread_mutex_lock(&w->range->guard);
    w->hold->waits++;
    pthread_mutex_unlock(&w->range->guard);
    enum sx_status s = sx_range_obtain(w, deadline);
    if (s != SX_OK && w->lost && sx_goes_on(w))
        s = regain(w, s);
    bool gone = w->forks != sx_file_forks; /* a forked child holds nothing */
    int saved = errno;
    if (!gone)
        gone = !over_with(w->range, w->hold);
    errno = saved;
    return s == SX_BUSY && gone ? SX_NOT_OWNER : s;
}

/* From shared to exclusive, all that is held. */
enum sx_status sx_range_upgrade(struct sx_range *r, int64_t deadline)
{
    struct sx_hold *hold;
    uint64_t me;
    enum sx_status s = mine(r, &hold, &me);
    if (s != SX_OK)
        return s;
    if (hold->segments == NULL)
        return SX_OK;
    int64_t first, last;
    extent(hold, &first, &last);
    struct sx_want w = request(r, hold, me, first, last, SX_UPGRADE_MODE);
    return obtain_more(&w, deadline);
}

enum sx_status sx_range_downgrade(struct sx_range *r)
{
    struct sx_hold *hold;
    uint64_t me;
    enum sx_status s = mine(r, &hold, &me);
    if (s != SX_OK)
        return s;
    struct sx_file *f = hold->file;
    int error = 0;
    int64_t first = SX_TO_END, last = 0;
    pthread_mutex_lock(&f->guard);
    for (struct sx_segment *g = hold->segments; g != NULL && error == 0; g = g->next) {
        if (g->shared || (error = sx_file_downgrade(f, g->first, g->last)) != 0)
            continue;
        sx_unpublish(g);
        g->shared = true;
        sx_publish(g);
        first = g->first < first ? g->first : first;
        last = g->last > last ? g->last : last;
    }
    pthread_mutex_unlock(&f->guard);
    if (first <= last)
        sx_line_wake(f, first, last);
    errno = error;
    return error == 0 ? SX_OK : SX_ERRNO;
}

/* One more range under the hold. */
enum sx_status sx_range_add(struct sx_range *r, int64_t first, int64_t last, bool shared, int64_t deadline)
{
    struct sx_hold *hold;
    uint64_t me;
    enum sx_status s = mine(r, &hold, &me);
    if (s != SX_OK)
        return s;
    struct sx_want w = request(r, hold, me, first, last, shared ? SX_SHARED_MODE : SX_EXCLUSIVE_MODE);
    s = get_spare(&w) ? obtain_more(&w, deadline) : SX_ERRNO;
    int saved = errno;
    drop_spare(&w);
    if (s == SX_OK && shared)
        sx_line_wake(w.file, first, last); /* a part of it may have been exclusive */
    errno = saved;
    return s;
}

/* A range less; what is not held of it is of no matter. */
enum sx_status sx_range_remove(struct sx_range *r, int64_t first, int64_t last)
{
    struct sx_hold *hold;
    uint64_t me;
    enum sx_status s = mine(r, &hold, &me);
    if (s != SX_OK)
        return s;
    struct sx_want w = request(r, hold, me, first, last, SX_EXCLUSIVE_MODE);
    int error = get_spare(&w) ? 0 : ENOMEM;
    struct sx_file *f = hold->file;
    if (error == 0) {
        pthread_mutex_lock(&f->guard);
        error = sx_file_give(f, hold, first, last);
        if (error == 0)
            sx_hold_reshape(hold, first, last, -1, w.spare);
        pthread_mutex_unlock(&f->guard);
        sx_line_wake(f, first, last);
    }
    drop_spare(&w);
    errno = error;
    return error == 0 ? SX_OK : SX_ERRNO;
}

/* Does anybody hold what keeps a newcomer out? */
bool sx_range_locked(struct sx_range *r)
{
    pthread_mutex_lock(&r->guard);
    struct sx_file *f = r->file;
    pthread_mutex_lock(&f->guard);
    bool locked = sx_tree_conflict(f, NULL, r->first, r->last, r->shared) != NULL;
    if (!locked)
        locked = !sx_file_free(f, r->shared, r->first, r->last);
    pthread_mutex_unlock(&f->guard);
    pthread_mutex_unlock(&r->guard);
    return locked;
}

/* The lock object goes: whatever any thread has through it. */
void sx_range_give_all(struct sx_range *r)
{
    for (bool more = true; more;) {
        struct sx_file *f = NULL;
        pthread_mutex_lock(&r->guard); /* against the end of the thread that has it */
        struct sx_hold *hold = r->holds;
        more = hold != NULL;
        if (more) {
            give_back(hold);
            f = end_hold(r, hold);
        }
        pthread_mutex_unlock(&r->guard);
        if (f != NULL)
            sx_file_drop(f);
    }
}

/* ---- the end of a thread -------------------------------------------------------------------------------------- */
struct leaver {
    struct sx_arena *arena;
    uint64_t id;
};

static bool abandon(struct sx_range *r, void *what)
{
    struct leaver *l = what;
    if (r->arena != l->arena)
        return true;
    pthread_mutex_lock(&r->guard);
    for (struct sx_hold *hold = r->holds, *next; hold != NULL; hold = next) {
        next = hold->next;
        if (hold->thread != l->id)
            continue;
        give_back(hold);
        struct sx_file *f = end_hold(r, hold);
        if (f != NULL)
            f->references--; /* the registry's lock is held: whoever visits sweeps */
        held_here -= held_here != 0;
    }
    pthread_mutex_unlock(&r->guard);
    return held_here != 0; /* in other arenas, or by objects that have gone */
}

void sx_ranges_abandon(struct sx_arena *arena, uint64_t id)
{
    if (held_here != 0)
        sx_ranges_each(abandon, &(struct leaver){arena, id});
}
