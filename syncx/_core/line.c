/* line.c: the records by which those who want a range of a file find each other: who holds what, who waits for what, and
 * since when.  queue.c says what they mean, and why no wake-up is lost.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "files.h"

#define AWAIT_US 2000u

/* ---- what others are told ------------------------------------------------------------------------------------ */

/* By the thread that holds it, in its slot. */
void sx_publish(struct sx_segment *s)
{
    struct sx_file *f = s->hold->file;
    uint64_t me; /* in that arena: a signal handler may have used another one since */
    struct sx_participant *p = sx_identity(f->arena, &me) == SX_OK ? sx_self.slot : NULL;
    s->record = NULL;
    for (uint32_t i = 0; p != NULL && i < SX_FILE_HOLDS; i++) {
        struct sx_file_hold *h = &p->files[i];
        uint32_t state = atomic_load_explicit(&h->state, memory_order_relaxed);
        if (state & FILE_HELD)
            continue;
        atomic_store_explicit(&h->device, f->device, memory_order_relaxed);
        atomic_store_explicit(&h->inode, f->st_ino, memory_order_relaxed);
        atomic_store_explicit(&h->first, (uint64_t)s->first, memory_order_relaxed);
        atomic_store_explicit(&h->last, (uint64_t)s->last, memory_order_relaxed);
        atomic_store_explicit(&h->since_ns, (uint64_t)sx_now(), memory_order_relaxed);
        uint32_t flags = FILE_HELD | (uint32_t)(s->shared ? SX_SHARED_MODE : SX_EXCLUSIVE_MODE) |
                         (uint32_t)f->style << FILE_STYLE_SHIFT;
        atomic_fetch_add_explicit(&p->filed, 1, memory_order_relaxed);
        /* release: who sees HELD sees the rest */
        atomic_store_explicit(&h->state, ((state & ~(FILE_STEP - 1)) + FILE_STEP) | flags, memory_order_release);
        s->record = h;
        return;
    }
}

void sx_unpublish(struct sx_segment *s)
{
    if (s->record == NULL)
        return;
    struct sx_arena *arena = s->hold->file->arena;
    uint32_t slot = (uint32_t)(((char *)s->record - (char *)arena->participants) / sizeof(struct sx_participant));
    atomic_fetch_and_explicit(&s->record->state, ~(FILE_STEP - 1), memory_order_release);
    atomic_fetch_sub_explicit(&arena->participants[slot].filed, 1, memory_order_relaxed);
    s->record = NULL;
}

/* ---- the line ------------------------------------------------------------------------------------------------ */
static bool same_kind(uint32_t mode, const struct sx_file *f)
{
    bool flock = (mode & FILE_STYLE) >> FILE_STYLE_SHIFT == SX_FLOCK_STYLE;
    return flock == (f->style == SX_FLOCK_STYLE); /* the two other styles exclude each other */
}

bool sx_is_of_file(const struct sx_file *f, uint32_t device, uint64_t inode, uint32_t mode)
{
    return device == f->device && inode == f->st_ino && same_kind(mode, f);
}

bool sx_record_is_of(const struct sx_file *f, struct sx_wait *w)
{
    return atomic_load_explicit(&w->kind, memory_order_relaxed) == SX_KIND_FILE &&
           sx_is_of_file(f, atomic_load_explicit(&w->units, memory_order_relaxed),
                         atomic_load_explicit(&w->cell, memory_order_relaxed),
                         atomic_load_explicit(&w->mode, memory_order_relaxed));
}

bool sx_record_overlaps(struct sx_wait *w, int64_t first, int64_t last)
{
    return (int64_t)atomic_load_explicit(&w->holder, memory_order_relaxed) <= last &&
           (int64_t)atomic_load_explicit(&w->address, memory_order_relaxed) >= first;
}

static bool record_shared(struct sx_wait *w)
{
    return (atomic_load_explicit(&w->mode, memory_order_relaxed) & FILE_MODE) == SX_SHARED_MODE;
}

/* Another live thread's request that conflicts with ours and comes before it: the one with the highest ticket below
 * `ticket`, which becomes that; turn: of those whose turn it is.  The file's guard is held. */
struct sx_wait *sx_line_before(const struct sx_want *w, uint64_t *ticket, bool turn, struct sx_participant **whose)
{
    struct sx_arena *arena = w->file->arena;
    struct sx_wait *best = NULL;
    uint64_t highest = 0;
    uint32_t n = sx_participants_ready(arena);
    for (uint32_t i = 0; i < n; i++) {
        struct sx_participant *p = &arena->participants[i];
        if (i == sx_slot_of(w->me))
            continue;
        for (uint32_t j = 0; j < SX_WAITS; j++) {
            struct sx_wait *other = &p->wait[j];
            if (sx_wait_state(atomic_load_explicit(&other->state, memory_order_acquire)) == SX_RUNNING)
                break; /* a live thread's records are the first ones */
            if (turn && !(atomic_load_explicit(&other->mode, memory_order_relaxed) & FILE_TURN))
                continue;
            uint64_t place = atomic_load_explicit(&other->ticket, memory_order_relaxed);
            if (place == 0 || place >= *ticket || place < highest || !sx_record_is_of(w->file, other) ||
                !sx_record_overlaps(other, w->first, w->last) || (sx_wants_shared(w) && record_shared(other)) ||
                !sx_slot_alive(arena, i))
                continue;
            int64_t first = (int64_t)atomic_load_explicit(&other->holder, memory_order_relaxed);
            int64_t last = (int64_t)atomic_load_explicit(&other->address, memory_order_relaxed);
            if (sx_tree_of_thread(w->file, w->me, NULL, first, last, record_shared(other)) != NULL)
                continue; /* it waits for what we have */
            highest = place;
            best = other;
            *whose = p;
        }
    }
    *ticket = highest;
    return best;
}

/* Since a waiter got a range last. */
uint32_t sx_us_in_a_row(struct sx_file_line *line)
{
    return sx_microseconds() - atomic_load_explicit(&line->handed_us, memory_order_relaxed);
}

/* Has this thread, through another lock object, what is in the way?  Then there is nobody to stand back for. */
bool sx_in_our_own_way(const struct sx_want *w)
{
    return sx_tree_of_thread(w->file, w->me, w->hold, w->first, w->last, sx_wants_shared(w)) != NULL;
}

/* Or through a lock of another style, which the kernel takes for somebody else's? */
bool sx_in_our_way_in_another_style(const struct sx_want *w)
{
    struct sx_participant *p = sx_participant(w->file->arena, w->me);
    for (uint32_t i = 0; p != NULL && i < SX_FILE_HOLDS; i++) {
        struct sx_file_hold *h = &p->files[i];
        uint32_t state = atomic_load_explicit(&h->state, memory_order_relaxed);
        if (state & FILE_HELD && (state & FILE_STYLE) >> FILE_STYLE_SHIFT != (uint32_t)w->file->style &&
            sx_is_of_file(w->file, atomic_load_explicit(&h->device, memory_order_relaxed),
                          atomic_load_explicit(&h->inode, memory_order_relaxed), state) &&
            !(sx_wants_shared(w) && (state & FILE_MODE) == SX_SHARED_MODE) &&
            (int64_t)atomic_load_explicit(&h->first, memory_order_relaxed) <= w->last &&
            (int64_t)atomic_load_explicit(&h->last, memory_order_relaxed) >= w->first)
            return true;
    }
    return false;
}

/* Must a newcomer stand back behind those who wait?  The file's guard is held. */
bool sx_line_is_ahead(const struct sx_want *w)
{
    struct sx_file_line *line = w->file->line;
    uint32_t waiters = atomic_load_explicit(&line->waiters, memory_order_acquire);
    if (!(waiters & FILE_WAITERS) || w->mode == SX_UPGRADE_MODE)
        return false;
    struct sx_participant *whose;
    uint32_t us = sx_us_in_a_row(line);
    return us >= SX_OVERTAKE_US && sx_line_before(w, &(uint64_t){UINT64_MAX}, us < AWAIT_US, &whose) != NULL &&
           !sx_in_our_own_way(w);
}

/* A range was unlocked: whoever is first in line for a part of it and sleeps looks again. */
void sx_line_wake(struct sx_file *f, int64_t first, int64_t last)
{
    struct sx_arena *arena = f->arena;
    atomic_thread_fence(memory_order_seq_cst); /* unlocked before we look */
    /* acquire: the records of those who set it are seen */
    uint32_t waiters = atomic_load_explicit(&f->line->waiters, memory_order_acquire);
    if (!(waiters & FILE_WAITERS))
        return;
    bool any = false; /* in this line */
    uint32_t n = sx_participants_ready(arena);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < SX_WAITS; j++) {
            struct sx_wait *w = &arena->participants[i].wait[j];
            uint32_t state = atomic_load_explicit(&w->state, memory_order_acquire);
            if (sx_wait_state(state) == SX_RUNNING)
                break;
            if (atomic_load_explicit(&w->kind, memory_order_relaxed) != SX_KIND_FILE)
                continue;
            any = any || (sx_file_line(arena, atomic_load_explicit(&w->units, memory_order_relaxed),
                                       atomic_load_explicit(&w->cell, memory_order_relaxed)) == f->line &&
                          sx_slot_alive(arena, i));
            if (sx_wait_state(state) == SX_WAITING && sx_record_is_of(f, w) && sx_record_overlaps(w, first, last) &&
                atomic_compare_exchange_strong_explicit(&w->state, &state, (state & ~0xffu) | SX_NOTIFIED,
                                                        memory_order_seq_cst, memory_order_relaxed))
                sx_futex_wake(&w->state, INT_MAX);
        }
    if (!any)
        atomic_compare_exchange_strong_explicit(&f->line->waiters, &waiters, waiters & ~FILE_WAITERS,
                                                memory_order_seq_cst, memory_order_relaxed);
}

/* The record of a live thread that says it holds what is in our way; *holder: who. */
struct sx_file_hold *sx_line_holder(const struct sx_want *w, uint64_t *holder, uint32_t *state)
{
    struct sx_arena *arena = w->file->arena;
    uint32_t n = sx_participants_ready(arena);
    for (uint32_t i = 0; i < n; i++) {
        struct sx_participant *p = &arena->participants[i];
        if (atomic_load_explicit(&p->filed, memory_order_relaxed) == 0 || i == sx_slot_of(w->me))
            continue;
        uint64_t id = sx_slot_id(arena, i);
        for (uint32_t j = 0; j < SX_FILE_HOLDS; j++) {
            struct sx_file_hold *h = &p->files[j];
            *state = atomic_load_explicit(&h->state, memory_order_acquire);
            if (!(*state & FILE_HELD) || (sx_wants_shared(w) && (*state & FILE_MODE) == SX_SHARED_MODE) ||
                !sx_is_of_file(w->file, atomic_load_explicit(&h->device, memory_order_relaxed),
                               atomic_load_explicit(&h->inode, memory_order_relaxed), *state) ||
                (int64_t)atomic_load_explicit(&h->first, memory_order_relaxed) > w->last ||
                (int64_t)atomic_load_explicit(&h->last, memory_order_relaxed) < w->first)
                continue;
            uint32_t life;
            if (sx_holder_life(arena, id, &life) != SX_ALIVE)
                break;
            *holder = id;
            return h;
        }
    }
    return NULL;
}
