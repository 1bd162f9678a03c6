/* once.c: something that one thread of one process does, once, and whose result all others get.
 *
 *   word           meaning                                       leaves it by
 *   0              not done; whoever has `running` may be at it  DONE: the holder of `running`, when the result is there
 *   DONE           done; the result stays as it is               never
 *   any | RETIRED  unlinked                                      never
 *
 * `running` is a mutex (mutex.c) whose holder runs the initialiser, so at most one thread does, and those who come
 * meanwhile wait for the mutex and look at the word again when they have it.  An initialiser that raises gives the mutex
 * back without DONE: the next one runs.  Length, check sum and bytes of the result are written by the holder of the mutex,
 * before DONE, and by nobody afterwards; DONE is set with release and read with acquire, so who sees it sees them.  Who
 * sees DONE needs no mutex.
 *
 * Death, of the thread that has the mutex: before DONE the word is as it was and the bytes of an unfinished result mean
 * nothing; the mutex passes to the next thread, told that its owner died, which runs the initialiser from the start.
 * After DONE all is there; the mutex passes on the same way, and whoever gets it sees DONE and gives it back.  Of a
 * waiter: the mutex's own argument.  So while anybody waits either a live thread runs, or the mutex is on its way to
 * one of them.
 *
 * RETIRED is set in the word before the mutex is retired, which wakes all who wait: what is retired by the word can
 * never be opened by its name again, whatever became of its unlinker.
 */
#define _GNU_SOURCE
#include <string.h>

#include "core.h"

static void catch_up(sx_a32 *to, sx_a32 *from)
{
    uint32_t have = atomic_load_explicit(to, memory_order_relaxed);
    uint32_t want = atomic_load_explicit(from, memory_order_relaxed);
    while ((int32_t)(want - have) > 0 &&
           !atomic_compare_exchange_weak_explicit(to, &have, want, memory_order_relaxed, memory_order_relaxed))
        ;
}

/* The mutex inside counts; people look at the object's own statistics. */
static void copy_statistics(struct sx_once *o)
{
    struct sx_statistics *to = &o->statistics, *from = &o->running.statistics;
    catch_up(&to->contended, &from->contended);
    catch_up(&to->recoveries, &from->recoveries);
    catch_up(&to->rescues, &from->rescues);
    atomic_store_explicit(&to->dead_pid, atomic_load_explicit(&from->dead_pid, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&to->dead_tid, atomic_load_explicit(&from->dead_tid, memory_order_relaxed),
                          memory_order_relaxed);
}

static bool runs_it(struct sx_once *o, uint64_t me)
{
    return (atomic_load_explicit(&o->running.word, memory_order_relaxed) & SX_ID_MASK) == me;
}

/* SX_OK: *done says whether the result is there, or the caller is to run the initialiser now, and then finish or
 * abandon.  SX_OWNER_DIED: it is to run, and an earlier runner died.  Anything else: why not. */
enum sx_status sx_once_begin(struct sx_arena *arena, struct sx_once *o, int64_t deadline, bool *done)
{
    uint64_t me, w = atomic_load_explicit(&o->word, memory_order_acquire);
    *done = w & ONCE_DONE;
    if (w & ONCE_RETIRED)
        return SX_RETIRED;
    if (*done)
        return SX_OK;
    enum sx_status s = sx_identity(arena, &me);
    if (s != SX_OK)
        return s;
    if (runs_it(o, me))
        return SX_DEADLOCK;
    s = sx_mutex_lock(arena, &o->running, deadline);
    copy_statistics(o);
    if (s != SX_OK && s != SX_OWNER_DIED) {
        /* The mutex may be with one that only looks, or has stored the result and not given it back yet. */
        *done = (s == SX_TIMEOUT || s == SX_BUSY) && sx_once_done(o);
        return *done ? SX_OK : s;
    }
    w = atomic_load_explicit(&o->word, memory_order_acquire);
    *done = w & ONCE_DONE;
    if (!*done && !(w & ONCE_RETIRED))
        return s;
    sx_mutex_unlock(arena, &o->running, false);
    return w & ONCE_RETIRED ? SX_RETIRED : SX_OK;
}

/* Word by word, for whoever takes a snapshot reads them meanwhile. */
static void store_result(struct sx_once *o, const void *result, uint32_t length)
{
    sx_a64 *words = (sx_a64 *)o->result;
    for (uint32_t at = 0; at < length; at += sizeof *words) {
        uint64_t word = 0;
        memcpy(&word, (const char *)result + at, length - at < sizeof word ? length - at : sizeof word);
        atomic_store_explicit(&words[at / sizeof word], word, memory_order_relaxed);
    }
}

/* The result is ours to store: at most SX_ONCE_RESULT bytes.  SX_NOT_OWNER: another process began it; we are a child
 * that was forked by the initialiser. */
enum sx_status sx_once_finish(struct sx_arena *arena, struct sx_once *o, const void *result, uint32_t length)
{
    uint64_t me;
    enum sx_status s = sx_identity(arena, &me);
    if (s != SX_OK)
        return s;
    if (!runs_it(o, me))
        return SX_NOT_OWNER;
    if (length > SX_ONCE_RESULT)
        return SX_TOO_MANY;
    store_result(o, result, length);
    atomic_store_explicit(&o->check, sx_name_hash(result, length), memory_order_relaxed);
    atomic_store_explicit(&o->length, length, memory_order_relaxed);
    atomic_fetch_or_explicit(&o->word, ONCE_DONE, memory_order_release);
    return sx_mutex_unlock(arena, &o->running, false);
}

/* There will be no result of ours: the next one runs. */
enum sx_status sx_once_abandon(struct sx_arena *arena, struct sx_once *o)
{
    return sx_mutex_unlock(arena, &o->running, false);
}

/* Copies the result, SX_ONCE_RESULT bytes at most.  SX_BUSY: there is none yet. */
enum sx_status sx_once_read(struct sx_once *o, void *result, uint32_t *length)
{
    if (!(atomic_load_explicit(&o->word, memory_order_acquire) & ONCE_DONE))
        return SX_BUSY;
    *length = atomic_load_explicit(&o->length, memory_order_relaxed);
    if (*length > SX_ONCE_RESULT)
        return SX_DAMAGED;
    memcpy(result, o->result, *length);
    return sx_name_hash(result, *length) == atomic_load_explicit(&o->check, memory_order_relaxed) ? SX_OK : SX_DAMAGED;
}

/* ---- as a kind of object ------------------------------------------------------------------------------- */
static size_t size(uint32_t parameter)
{
    (void)parameter;
    return sizeof(struct sx_once);
}

static void make(struct sx_cell *cell, uint32_t parameter)
{
    (void)parameter;
    sx_mutex_make_inside(cell, &((struct sx_once *)cell)->running, SX_KIND_GUARD);
}

static bool held(struct sx_arena *arena, struct sx_cell *cell)
{
    return sx_mutex_held(arena, &((struct sx_once *)cell)->running);
}

static void retire(struct sx_cell *cell)
{
    struct sx_once *o = (struct sx_once *)cell;
    atomic_fetch_or(&o->word, ONCE_RETIRED);
    sx_mutex_retire(&o->running);
}

static bool retired(struct sx_cell *cell)
{
    return atomic_load(&((struct sx_once *)cell)->word) & ONCE_RETIRED;
}

/* Its runner went with its arena; what was done stays done. */
static void adopt(struct sx_arena *arena, struct sx_cell *cell)
{
    sx_mutex_adopt_inside(arena, &((struct sx_once *)cell)->running);
}

static void look(struct sx_arena *arena, struct sx_cell *cell, struct sx_look *look)
{
    struct sx_once *o = (struct sx_once *)cell;
    sx_mutex_look(arena, &o->running, look);
    look->value = sx_once_done(o);
    if (look->value == 1) /* a runner that died after that has torn nothing */
        look->owner_died = false;
}

const struct sx_kind_operations sx_once_kind = {
    .size = size, .make = make, .held = held, .retire = retire, .retired = retired, .adopt = adopt, .look = look};
