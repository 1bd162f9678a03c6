/* object.c: opening, knowing and unlinking cells, in their three placements.
 *
 * Named: exists until it is unlinked.  Anonymous: exists while a process knows it.  A process knows a cell from its
 * first handle to its last, or, once it has pickled a handle, until it ends; each such fact is one reference, a
 * word in the arena, so that the references of a killed process can be found and taken back (names.c).  In the
 * user's memory: exists as long as that memory; the cell only says which arena its holders belong to.
 *
 * Every change runs under the arena's lock and is arranged so that one store decides (names.c says which).
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "core.h"

/* ---- what this process knows: a hash map of its own, cell unit -> reference, handles ----------------- */
struct sx_known {
    uint32_t unit; /* + 1; 0: empty */
    uint32_t reference;
    uint32_t generation;
    uint32_t handles;
    uint32_t forks; /* arena->forks when it was entered */
    bool pinned;
};

static uint32_t known_home(struct sx_arena *arena, uint32_t unit)
{
    return unit * 2654435761u & (arena->known_size - 1);
}

static struct sx_known *known_find(struct sx_arena *arena, uint32_t unit)
{
    if (arena->known_size == 0)
        return NULL;
    for (uint32_t i = known_home(arena, unit);; i = (i + 1) & (arena->known_size - 1)) {
        if (arena->known[i].unit == unit + 1)
            return &arena->known[i];
        if (arena->known[i].unit == 0)
            return NULL;
    }
}

static bool known_grow(struct sx_arena *arena)
{
    if ((arena->known_used + 1) * 2 <= arena->known_size)
        return true;
    uint32_t old_size = arena->known_size;
    struct sx_known *old = arena->known;
    uint32_t size = old_size == 0 ? 16 : old_size * 2;
    struct sx_known *fresh = calloc(size, sizeof *fresh);
    if (fresh == NULL)
        return false;
    arena->known = fresh;
    arena->known_size = size;
    for (uint32_t j = 0; j < old_size; j++)
        if (old[j].unit != 0) {
            uint32_t i = known_home(arena, old[j].unit - 1);
            while (fresh[i].unit != 0)
                i = (i + 1) & (size - 1);
            fresh[i] = old[j];
        }
    free(old);
    return true;
}

static void known_remove(struct sx_arena *arena, struct sx_known *k)
{
    uint32_t mask = arena->known_size - 1, hole = (uint32_t)(k - arena->known);
    arena->known[hole].unit = 0;
    arena->known_used--;
    for (uint32_t i = (hole + 1) & mask; arena->known[i].unit != 0; i = (i + 1) & mask) {
        uint32_t home = known_home(arena, arena->known[i].unit - 1);
        if (((i - home) & mask) >= ((i - hole) & mask)) { /* its chain passes the hole: move it there */
            arena->known[hole] = arena->known[i];
            arena->known[i].unit = 0;
            hole = i;
        }
    }
}

/* ---- references -------------------------------------------------------------------------------------- */
static enum sx_status reference_add(struct sx_arena *arena, uint32_t unit, struct sx_cell *cell, uint32_t *reference)
{
    struct sx_header *h = arena->header;
    uint32_t i = atomic_load_explicit(&h->references_free, memory_order_relaxed);
    uint32_t cursor = atomic_load_explicit(&h->references_cursor, memory_order_relaxed);
    if (cursor > SX_MAX_REFERENCES || i > cursor)
        return SX_DAMAGED;
    if (i != 0) {
        i--;
        uint64_t link = atomic_load_explicit(&arena->references[i], memory_order_relaxed);
        if (!(link & SX_REFERENCE_FREE))
            return SX_DAMAGED;
        atomic_store_explicit(&h->references_free, (uint32_t)link & INT32_MAX, memory_order_relaxed);
    } else {
        if (cursor == SX_MAX_REFERENCES)
            return SX_FULL_REFERENCES;
        i = cursor;
        uint64_t end = ((uint64_t)i + 1) * sizeof(uint64_t);
        if (end > atomic_load_explicit(&h->ready[SX_REFERENCES], memory_order_acquire)) {
            enum sx_status s = sx_ready(arena, SX_REFERENCES, end);
            if (s != SX_OK)
                return s;
        }
        atomic_store_explicit(&arena->references[i], SX_REFERENCE_FREE, memory_order_relaxed);
        atomic_store_explicit(&h->references_cursor, i + 1, memory_order_release);
    }
    uint64_t word = (uint64_t)(uint16_t)arena->process_generation << 48 | (uint64_t)arena->process << 32 | (unit + 1);
    atomic_store_explicit(&arena->references[i], word, memory_order_release);
    atomic_fetch_add_explicit(&cell->references, 1, memory_order_relaxed);
    *reference = i;
    return SX_OK;
}

static void cell_free(struct sx_arena *arena, uint32_t unit, struct sx_cell *cell)
{
    atomic_fetch_add_explicit(&cell->generation, 1, memory_order_release);
    atomic_store_explicit(&cell->tag, 0, memory_order_release);
    sx_heap_free(arena, true, unit);
}

static void reference_drop(struct sx_arena *arena, uint32_t unit, uint32_t reference)
{
    struct sx_header *h = arena->header;
    struct sx_cell *cell = sx_cell_at(arena, unit);
    uint32_t first = atomic_load_explicit(&h->references_free, memory_order_relaxed);
    atomic_store_explicit(&arena->references[reference], SX_REFERENCE_FREE | first, memory_order_relaxed);
    atomic_store_explicit(&h->references_free, reference + 1, memory_order_release);
    if (cell == NULL || atomic_load_explicit(&cell->references, memory_order_relaxed) == 0)
        return;
    if (atomic_fetch_sub_explicit(&cell->references, 1, memory_order_relaxed) == 1 &&
        atomic_load_explicit(&cell->name, memory_order_relaxed) == 0)
        cell_free(arena, unit, cell);
}

/* One handle more in this process. */
static enum sx_status know(struct sx_arena *arena, uint32_t unit, struct sx_cell *cell, struct sx_object *object)
{
    uint32_t generation = atomic_load_explicit(&cell->generation, memory_order_relaxed);
    struct sx_known *k = known_find(arena, unit);
    if (k == NULL) {
        uint32_t reference;
        if (!known_grow(arena)) {
            errno = ENOMEM;
            return SX_ERRNO;
        }
        enum sx_status s = reference_add(arena, unit, cell, &reference);
        if (s != SX_OK)
            return s;
        uint32_t i = known_home(arena, unit);
        while (arena->known[i].unit != 0)
            i = (i + 1) & (arena->known_size - 1);
        arena->known_used++;
        arena->known[i] = (struct sx_known){
            .unit = unit + 1, .reference = reference, .generation = generation, .forks = arena->forks};
        k = &arena->known[i];
    } else if (k->handles == 0 && !k->pinned && arena->lingering > 0) {
        arena->lingering--; /* known again before it went */
    }
    k->handles++;
    *object = (struct sx_object){.cell = cell, .unit = unit, .generation = generation};
    return SX_OK;
}

static void forget(struct sx_arena *arena, struct sx_known *k)
{
    uint32_t unit = k->unit - 1, reference = k->reference;
    known_remove(arena, k);
    reference_drop(arena, unit, reference);
}

/* What was kept for forked children, or because the lock was busy, goes once all of them have registered. */
static void forget_lingering(struct sx_arena *arena)
{
    if (arena->lingering == 0 || sx_fork_pending(arena))
        return;
    for (uint32_t i = 0; i < arena->known_size; i++) {
        struct sx_known *k = &arena->known[i];
        if (k->unit != 0 && k->handles == 0 && !k->pinned) {
            forget(arena, k);
            i = UINT32_MAX; /* removing moves others: from the start */
        }
    }
    arena->lingering = 0;
}

/* With the local lock: a fork in another thread must find the map whole. */
static enum sx_status know_locked(struct sx_arena *arena, uint32_t unit, struct sx_cell *cell, struct sx_object *o)
{
    pthread_mutex_lock(&arena->local);
    forget_lingering(arena);
    enum sx_status s = know(arena, unit, cell, o);
    pthread_mutex_unlock(&arena->local);
    return s;
}

/* Where the arena's lock is busy the entry stays without a handle, for the next who has the lock: handles are dropped
 * by deallocation, which must not wait. */
void sx_object_close(struct sx_arena *arena, struct sx_object *object)
{
    if (object->unit == SX_NOBODY) {
        atomic_fetch_sub(&arena->outside, 1);
        return;
    }
    bool locked = sx_arena_trylock(arena) == SX_OK;
    pthread_mutex_lock(&arena->local);
    if (locked)
        forget_lingering(arena);
    struct sx_known *k = known_find(arena, object->unit);
    if (k != NULL && k->generation == object->generation && k->handles > 0 && --k->handles == 0 && !k->pinned) {
        if (!locked || (k->forks != arena->forks && sx_fork_pending(arena)))
            arena->lingering++;
        else
            forget(arena, k);
    }
    pthread_mutex_unlock(&arena->local);
    if (locked)
        sx_arena_unlock(arena);
}

void sx_known_sweep(struct sx_arena *arena)
{
    pthread_mutex_lock(&arena->local);
    forget_lingering(arena);
    pthread_mutex_unlock(&arena->local);
}

/* A reference to the object leaves the process (in a pickle): keep it until the process ends. */
void sx_object_pin(struct sx_arena *arena, struct sx_object *object)
{
    pthread_mutex_lock(&arena->local);
    struct sx_known *k = object->unit == SX_NOBODY ? NULL : known_find(arena, object->unit);
    if (k != NULL && k->generation == object->generation)
        k->pinned = true;
    pthread_mutex_unlock(&arena->local);
}

/* The process is about to leave the arena. */
void sx_known_drop_all(struct sx_arena *arena)
{
    pthread_mutex_lock(&arena->local);
    for (uint32_t i = 0; i < arena->known_size; i++)
        if (arena->known[i].unit != 0)
            reference_drop(arena, arena->known[i].unit - 1, arena->known[i].reference);
    free(arena->known);
    arena->known = NULL;
    arena->known_size = arena->known_used = 0;
    pthread_mutex_unlock(&arena->local);
}

/* In a forked child: references of its own for every handle it inherited.  The parent's stand until it has them. */
enum sx_status sx_known_again(struct sx_arena *arena)
{
    if (arena->known_used == 0)
        return SX_OK;
    enum sx_status s = sx_arena_lock(arena);
    bool locked = s == SX_OK;
    pthread_mutex_lock(&arena->local);
    struct sx_known *old = arena->known;
    uint32_t size = arena->known_size;
    arena->known = NULL;
    arena->known_size = arena->known_used = arena->forks = arena->lingering = 0;
    for (uint32_t i = 0; i < size && s == SX_OK; i++) {
        struct sx_cell *cell = old[i].unit == 0 || old[i].handles == 0 ? NULL : sx_cell_at(arena, old[i].unit - 1);
        if (cell == NULL || atomic_load_explicit(&cell->generation, memory_order_acquire) != old[i].generation)
            continue;
        struct sx_object object;
        s = know(arena, old[i].unit - 1, cell, &object);
        if (s == SX_OK)
            known_find(arena, old[i].unit - 1)->handles = old[i].handles;
    }
    free(old);
    pthread_mutex_unlock(&arena->local);
    if (locked)
        sx_arena_unlock(arena);
    return s;
}

/* ---- kinds ------------------------------------------------------------------------------------------- */
enum sx_kind sx_cell_kind(struct sx_cell *cell)
{
    uint32_t tag = atomic_load_explicit(&cell->tag, memory_order_acquire), kind = tag & 0xff;
    return tag == SX_TAG(kind) && kind < SX_KINDS ? (enum sx_kind)kind : SX_KIND_NONE;
}

uint32_t sx_kind_units(enum sx_kind kind)
{
    (void)kind; /* the mutexes are all there is so far */
    return sizeof(struct sx_mutex) / SX_LINE;
}

static void cell_bind(struct sx_arena *arena, struct sx_cell *cell)
{
    uint64_t id[2];
    memcpy(id, arena->id, sizeof id);
    atomic_store_explicit(&cell->arena_id[0], id[0], memory_order_relaxed);
    atomic_store_explicit(&cell->arena_id[1], id[1], memory_order_relaxed);
    atomic_store_explicit(&cell->lineage, arena->lineage, memory_order_relaxed);
}

/* A fresh cell, with everything but its tag: free until that is stored. */
static enum sx_status cell_new(struct sx_arena *arena, enum sx_kind kind, uint32_t *unit, struct sx_cell **out)
{
    enum sx_status s = sx_heap_allocate(arena, true, sx_kind_units(kind), unit);
    if (s != SX_OK)
        return s;
    struct sx_cell *cell = sx_cell_at(arena, *unit);
    uint32_t generation = atomic_load_explicit(&cell->generation, memory_order_relaxed);
    if (generation == 0) /* the first of its block: start somewhere, so that stale references do not fit */
        generation = (uint32_t)(sx_now() * 2654435761u) | 1;
    /* all but the size, by which the heap is walked and which must be right at every instant, the tag, which is 0,
       and the generation */
    const size_t kept = offsetof(struct sx_cell, name);
    memset((char *)cell + kept, 0, (size_t)cell->units * SX_LINE - kept);
    cell->created_ns = (uint64_t)sx_realtime();
    atomic_store_explicit(&cell->generation, generation, memory_order_relaxed);
    cell_bind(arena, cell);
    *out = cell;
    return SX_OK;
}

/* ---- named ------------------------------------------------------------------------------------------- */
static enum sx_status named_new(struct sx_arena *arena, const char *text, uint32_t length, enum sx_kind kind,
                                struct sx_object *object)
{
    uint32_t unit, at;
    struct sx_cell *cell;
    enum sx_status s = sx_name_room(arena);
    if (s == SX_OK)
        s = cell_new(arena, kind, &unit, &cell);
    if (s != SX_OK)
        return s;
    s = sx_heap_allocate(arena, false, (sizeof(struct sx_name) + length + SX_NAME_UNIT - 1) / SX_NAME_UNIT, &at);
    if (s != SX_OK) {
        sx_heap_free(arena, true, unit);
        return s;
    }
    s = know_locked(arena, unit, cell, object);
    if (s != SX_OK) {
        sx_heap_free(arena, true, unit);
        sx_heap_free(arena, false, at);
        return s;
    }
    struct sx_name *name = sx_name_at(arena, at);
    name->hash = sx_name_hash(text, length);
    memcpy(name->bytes, text, length);
    atomic_store_explicit(&name->cell, unit + 1, memory_order_relaxed);
    atomic_store_explicit(&cell->name, at + 1, memory_order_relaxed);
    atomic_store_explicit(&cell->tag, SX_TAG(kind), memory_order_release);
    atomic_store_explicit(&name->used, length, memory_order_release); /* the commit */
    sx_name_insert(arena, at);
    object->created = true;
    return SX_OK;
}

/* Unlinks: the word first, so that from then on nobody takes it; a name that still leads to a retired cell, after a
 * death in between, is dropped by whoever opens it next. */
static void named_drop(struct sx_arena *arena, uint32_t at, struct sx_name *name, struct sx_cell *cell)
{
    uint32_t unit = atomic_load_explicit(&name->cell, memory_order_relaxed) - 1;
    sx_mutex_retire((struct sx_mutex *)cell);
    sx_name_remove(arena, at);
    atomic_store_explicit(&cell->name, 0, memory_order_release);
    if (atomic_load_explicit(&cell->references, memory_order_relaxed) == 0)
        cell_free(arena, unit, cell);
}

static struct sx_cell *named_cell(struct sx_arena *arena, struct sx_name *name, uint32_t *unit)
{
    *unit = atomic_load_explicit(&name->cell, memory_order_relaxed) - 1;
    return sx_cell_at(arena, *unit);
}

enum sx_status sx_object_open(struct sx_arena *arena, const char *text, uint32_t length, enum sx_kind kind,
                              enum sx_create create, struct sx_object *object, enum sx_kind *found)
{
    uint32_t at, unit;
    enum sx_status s = sx_arena_lock(arena);
    if (s != SX_OK)
        return s;
    s = atomic_load(&arena->header->retired) ? SX_RETIRED : sx_name_find(arena, text, length, &at);
    if (s == SX_OK) {
        struct sx_name *name = sx_name_at(arena, at);
        struct sx_cell *cell = named_cell(arena, name, &unit);
        *found = cell == NULL ? SX_KIND_NONE : sx_cell_kind(cell);
        if (cell == NULL || *found == SX_KIND_NONE) {
            s = SX_DAMAGED;
        } else if (atomic_load(&((struct sx_mutex *)cell)->word) & MUTEX_RETIRED) {
            named_drop(arena, at, name, cell); /* its unlinker died half-way */
            s = SX_NOT_FOUND;
        } else if (create == SX_EXCLUSIVE) {
            s = SX_EXISTS;
        } else if (*found != kind) {
            s = SX_WRONG_KIND;
        } else {
            s = know_locked(arena, unit, cell, object);
        }
    }
    if (s == SX_NOT_FOUND && create != SX_OPEN)
        s = named_new(arena, text, length, kind, object);
    sx_arena_unlock(arena);
    return s;
}

enum sx_status sx_object_unlink(struct sx_arena *arena, const char *text, uint32_t length, bool force)
{
    uint32_t at, unit;
    enum sx_status s = sx_arena_lock(arena);
    if (s != SX_OK)
        return s;
    s = sx_name_find(arena, text, length, &at);
    if (s == SX_OK) {
        struct sx_name *name = sx_name_at(arena, at);
        struct sx_cell *cell = named_cell(arena, name, &unit);
        if (cell == NULL) {
            s = SX_DAMAGED;
        } else {
            struct sx_known *mine = known_find(arena, unit);
            uint32_t others = atomic_load(&cell->references) - (mine != NULL ? 1 : 0);
            if (others != 0 && !force) { /* are those processes alive? */
                sx_arena_unlock(arena);
                s = sx_arena_collect(arena);
                if (s != SX_OK || (s = sx_arena_lock(arena)) != SX_OK)
                    return s;
                s = sx_name_find(arena, text, length, &at);
                name = s == SX_OK ? sx_name_at(arena, at) : NULL;
                cell = name == NULL ? NULL : named_cell(arena, name, &unit);
                mine = known_find(arena, unit);
                others = cell == NULL ? 0 : atomic_load(&cell->references) - (mine != NULL ? 1 : 0);
            }
            uint64_t word = cell == NULL ? 0 : atomic_load(&((struct sx_mutex *)cell)->word);
            bool held = !sx_is_free(word) && sx_holder_examine(arena, word) == SX_ALIVE;
            if (cell == NULL)
                s = s == SX_OK ? SX_DAMAGED : s;
            else if (!force && (others != 0 || held))
                s = SX_IN_USE;
            else
                named_drop(arena, at, name, cell);
        }
    }
    sx_arena_unlock(arena);
    return s;
}

/* ---- anonymous and by reference ----------------------------------------------------------------------- */
enum sx_status sx_object_anonymous(struct sx_arena *arena, enum sx_kind kind, struct sx_object *object)
{
    uint32_t unit;
    struct sx_cell *cell;
    enum sx_status s = sx_arena_lock(arena);
    if (s != SX_OK)
        return s;
    s = atomic_load(&arena->header->retired) ? SX_RETIRED : cell_new(arena, kind, &unit, &cell);
    if (s == SX_OK) {
        s = know_locked(arena, unit, cell, object);
        if (s == SX_OK)
            atomic_store_explicit(&cell->tag, SX_TAG(kind), memory_order_release);
        else
            sx_heap_free(arena, true, unit);
    }
    object->created = true;
    sx_arena_unlock(arena);
    return s;
}

/* What a pickle says: that cell, while it is still the same object. */
enum sx_status sx_object_reference(struct sx_arena *arena, uint32_t unit, uint32_t generation, enum sx_kind kind,
                                   struct sx_object *object)
{
    enum sx_status s = sx_arena_lock(arena);
    if (s != SX_OK)
        return s;
    struct sx_cell *cell = sx_cell_at(arena, unit);
    if (cell == NULL || atomic_load_explicit(&cell->generation, memory_order_acquire) != generation ||
        sx_cell_kind(cell) != kind)
        s = SX_GONE;
    else if (atomic_load(&((struct sx_mutex *)cell)->word) & MUTEX_RETIRED)
        s = SX_RETIRED;
    else
        s = know_locked(arena, unit, cell, object);
    sx_arena_unlock(arena);
    return s;
}

/* ---- in the user's memory ----------------------------------------------------------------------------- */

/* Zero memory becomes a cell: whoever sets `lineage` first decides the arena, the tag says that all is there.
 * Creators of one arena are serialised by its lock, and a dead one's work is done again. */
enum sx_status sx_object_at(struct sx_arena *arena, void *memory, enum sx_kind kind, enum sx_create create,
                            struct sx_object *object, enum sx_kind *found)
{
    struct sx_cell *cell = memory;
    uint32_t units = sx_kind_units(kind);
    uint64_t none = 0;
    enum sx_status s = sx_arena_lock(arena);
    if (s != SX_OK)
        return s;
    if (atomic_load(&arena->header->retired)) {
        sx_arena_unlock(arena);
        return SX_RETIRED;
    }
    uint32_t tag = atomic_load_explicit(&cell->tag, memory_order_acquire);
    *found = sx_cell_kind(cell);
    *object = (struct sx_object){.cell = cell, .unit = SX_NOBODY};
    if (tag == 0) {
        uint64_t *words = memory, junk = 0;
        for (uint32_t i = 0; i < units * SX_LINE / 8; i++)
            junk |= words[i];
        /* what a creator that died may have written, and nothing else, is taken for an unfinished cell */
        bool unfinished = atomic_load(&cell->lineage) == arena->lineage && (cell->units == 0 || cell->units == units);
        if (create == SX_OPEN || (junk != 0 && !unfinished)) {
            s = junk != 0 && !unfinished ? SX_DAMAGED : SX_NEVER_INITIALISED;
        } else if (!atomic_compare_exchange_strong(&cell->lineage, &none, arena->lineage) && none != arena->lineage) {
            s = SX_OTHER_ARENA;
        } else {
            cell->units = units;
            cell->created_ns = (uint64_t)sx_realtime();
            cell_bind(arena, cell);
            atomic_store_explicit(&cell->tag, SX_TAG(kind), memory_order_release);
            object->created = true;
        }
    } else if (*found == SX_KIND_NONE || cell->units != units) {
        s = *found == SX_KIND_NONE ? SX_DAMAGED : SX_WRONG_KIND;
    } else if (*found != kind) {
        s = SX_WRONG_KIND;
    } else if (create == SX_EXCLUSIVE) {
        s = SX_EXISTS;
    } else if (atomic_load(&cell->lineage) != arena->lineage) {
        s = SX_OTHER_ARENA;
    } else if (!sx_cell_is_ours(arena, cell)) {
        sx_mutex_adopt((struct sx_mutex *)cell); /* the word first, the id after it: see mutex.c */
        cell_bind(arena, cell);
    }
    if (s == SX_OK)
        atomic_fetch_add(&arena->outside, 1);
    sx_arena_unlock(arena);
    return s;
}
