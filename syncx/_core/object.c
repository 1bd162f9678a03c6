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

/* Kept for the sake of a pickle.  What was unlinked needs no keeping: whoever unpickles it gets SX_GONE either way. */
static bool pinned(struct sx_arena *arena, const struct sx_known *k)
{
    struct sx_cell *cell = k->pinned ? sx_cell_at(arena, k->unit - 1) : NULL;
    if (cell == NULL)
        return k->pinned;
    const struct sx_kind_operations *operations = sx_kind_operations(sx_cell_kind(cell));
    return operations == NULL || sx_kind_size(sx_cell_kind(cell), cell->parameter) > (size_t)cell->units * SX_LINE ||
           !operations->retired(cell);
}

/* What was kept for forked children, or because the lock was busy, goes once all of them have registered. */
static void forget_lingering(struct sx_arena *arena)
{
    if (arena->lingering == 0 || sx_fork_pending(arena))
        return;
    for (uint32_t i = 0; i < arena->known_size; i++) {
        struct sx_known *k = &arena->known[i];
        if (k->unit != 0 && k->handles == 0 && !pinned(arena, k)) {
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
    if (k != NULL && k->generation == object->generation && k->handles > 0 && --k->handles == 0 && !pinned(arena, k)) {
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
    arena->lingering++; /* what was pickled and closed before it was unlinked counts nowhere */
    forget_lingering(arena);
    pthread_mutex_unlock(&arena->local);
}

/* A reference to the object leaves the process (in a pickle): keep it until the process ends, or it is unlinked. */
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

static void cell_bind(struct sx_arena *arena, struct sx_cell *cell)
{
    uint64_t id[2];
    memcpy(id, arena->id, sizeof id);
    atomic_store_explicit(&cell->arena_id[0], id[0], memory_order_relaxed);
    atomic_store_explicit(&cell->arena_id[1], id[1], memory_order_relaxed);
    atomic_store_explicit(&cell->lineage, arena->lineage, memory_order_relaxed);
}

static void cell_make(struct sx_cell *cell, enum sx_kind kind, uint32_t parameter)
{
    uint64_t seed = (uint64_t)sx_now() * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)getpid() << 32 ^ (uintptr_t)cell;
    cell->key = (uint32_t)(seed >> 32) | 0x80000000u;
    cell->parameter = sx_kind_operations(kind)->parameter_max == 0 ? 0 : parameter;
    cell->created_ns = (uint64_t)sx_realtime();
    sx_kind_operations(kind)->make(cell, parameter);
}

/* What the cell says of itself, checked: SX_NONE, a size that it has not, a parameter that cannot be are damage. */
static bool cell_sound(struct sx_cell *cell, size_t available)
{
    enum sx_kind kind = sx_cell_kind(cell);
    size_t size = kind == SX_KIND_NONE ? 0 : sx_kind_size(kind, cell->parameter);
    return size != 0 && size <= available;
}

static bool cell_retired(struct sx_cell *cell)
{
    return sx_kind_operations(sx_cell_kind(cell))->retired(cell);
}

/* Is the object that is there the one that was asked for? */
static enum sx_status as_requested(struct sx_cell *cell, struct sx_request *request)
{
    if (request->create == SX_EXCLUSIVE)
        return SX_EXISTS;
    request->found = sx_cell_kind(cell);
    request->found_parameter = cell->parameter;
    if (request->found != request->kind)
        return SX_WRONG_KIND;
    return cell->parameter != request->parameter && request->parameter != SX_ANY &&
                   sx_kind_operations(request->kind)->parameter_max != 0
               ? SX_OTHER_VALUE
               : SX_OK;
}

/* A fresh cell, with everything but its tag: free until that is stored. */
static enum sx_status cell_new(struct sx_arena *arena, struct sx_request *request, uint32_t *unit, struct sx_cell **out)
{
    uint32_t parameter = request->parameter == SX_ANY ? 1 : request->parameter;
    size_t size = sx_kind_size(request->kind, parameter);
    if (size == 0)
        return SX_TOO_MANY;
    enum sx_status s = sx_heap_allocate(arena, true, (uint32_t)((size + SX_LINE - 1) / SX_LINE), unit);
    if (s != SX_OK)
        return s;
    struct sx_cell *cell = sx_cell_at(arena, *unit);
    uint32_t generation = atomic_load_explicit(&cell->generation, memory_order_relaxed);
    if (generation == 0) /* the first of its block: start somewhere, so that stale references do not fit */
        generation = (uint32_t)((uint64_t)sx_now() * 2654435761u) | 1;
    /* all but the size, by which the heap is walked and which must be right at every instant, the tag, which is 0,
       and the generation */
    const size_t kept = offsetof(struct sx_cell, name);
    memset((char *)cell + kept, 0, (size_t)cell->units * SX_LINE - kept);
    atomic_store_explicit(&cell->generation, generation, memory_order_relaxed);
    cell_bind(arena, cell);
    cell_make(cell, request->kind, parameter);
    *out = cell;
    return SX_OK;
}

/* ---- named ------------------------------------------------------------------------------------------- */
static enum sx_status named_new(struct sx_arena *arena, const char *text, uint32_t length, struct sx_request *request,
                                struct sx_object *object)
{
    uint32_t unit, at;
    struct sx_cell *cell;
    enum sx_status s = sx_name_room(arena);
    if (s == SX_OK)
        s = cell_new(arena, request, &unit, &cell);
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
    atomic_store_explicit(&cell->tag, SX_TAG(request->kind), memory_order_release);
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
    sx_kind_operations(sx_cell_kind(cell))->retire(cell);
    sx_name_remove(arena, at);
    if (sx_cell_kind(cell) == SX_KIND_CONDITION)
        sx_condition_dismiss(arena, cell);
    atomic_store_explicit(&cell->name, 0, memory_order_release);
    if (atomic_load_explicit(&cell->references, memory_order_relaxed) == 0)
        cell_free(arena, unit, cell);
}

static struct sx_cell *named_cell(struct sx_arena *arena, struct sx_name *name, uint32_t *unit)
{
    *unit = atomic_load_explicit(&name->cell, memory_order_relaxed) - 1;
    struct sx_cell *cell = sx_cell_at(arena, *unit);
    return cell != NULL && cell_sound(cell, (size_t)cell->units * SX_LINE) ? cell : NULL;
}

enum sx_status sx_object_open(struct sx_arena *arena, const char *text, uint32_t length, struct sx_request *request,
                              struct sx_object *object)
{
    uint32_t at, unit;
    enum sx_status s = sx_arena_lock(arena);
    if (s != SX_OK)
        return s;
    s = atomic_load(&arena->header->retired) ? SX_RETIRED : sx_name_find(arena, text, length, &at);
    if (s == SX_OK) {
        struct sx_name *name = sx_name_at(arena, at);
        struct sx_cell *cell = named_cell(arena, name, &unit);
        if (cell == NULL) {
            s = SX_DAMAGED;
        } else if (cell_retired(cell)) {
            named_drop(arena, at, name, cell); /* its unlinker died half-way */
            s = SX_NOT_FOUND;
        } else {
            s = as_requested(cell, request);
            if (s == SX_OK)
                s = know_locked(arena, unit, cell, object);
        }
    }
    if (s == SX_NOT_FOUND && request->create != SX_OPEN)
        s = named_new(arena, text, length, request, object);
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
            bool held = cell != NULL && sx_kind_operations(sx_cell_kind(cell))->held(arena, cell);
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
enum sx_status sx_object_anonymous(struct sx_arena *arena, struct sx_request *request, struct sx_object *object)
{
    uint32_t unit;
    struct sx_cell *cell;
    enum sx_status s = sx_arena_lock(arena);
    if (s != SX_OK)
        return s;
    s = atomic_load(&arena->header->retired) ? SX_RETIRED : cell_new(arena, request, &unit, &cell);
    if (s == SX_OK) {
        s = know_locked(arena, unit, cell, object);
        if (s == SX_OK)
            atomic_store_explicit(&cell->tag, SX_TAG(request->kind), memory_order_release);
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
        sx_cell_kind(cell) != kind || !cell_sound(cell, (size_t)cell->units * SX_LINE))
        s = SX_GONE;
    else if (cell_retired(cell))
        s = SX_RETIRED;
    else
        s = know_locked(arena, unit, cell, object);
    sx_arena_unlock(arena);
    return s;
}

/* ---- in the user's memory ----------------------------------------------------------------------------- */

/* Zero memory becomes a cell: whoever sets `lineage` first decides the arena, the tag says that all is there.
 * Creators of one arena are serialised by its lock, and a dead one's work is done again. */
static enum sx_status make_at(struct sx_arena *arena, struct sx_cell *cell, size_t size, struct sx_request *request)
{
    uint32_t parameter = request->parameter == SX_ANY ? 1 : request->parameter;
    uint64_t *words = (uint64_t *)cell, junk = 0, none = 0;
    request->needed = sx_kind_size(request->kind, parameter);
    if (request->needed == 0)
        return SX_TOO_MANY;
    if (request->needed > size)
        return SX_TOO_SMALL;
    uint32_t units = (uint32_t)((request->needed + SX_LINE - 1) / SX_LINE);
    for (size_t i = 0; i < request->needed / 8; i++)
        junk |= words[i];
    /* what a creator that died may have written, and nothing else, is taken for an unfinished cell */
    bool unfinished = atomic_load(&cell->lineage) == arena->lineage && (cell->units == 0 || cell->units == units);
    if (junk != 0 && !unfinished)
        return SX_DAMAGED;
    if (request->create == SX_OPEN)
        return SX_NEVER_INITIALISED;
    if (!atomic_compare_exchange_strong(&cell->lineage, &none, arena->lineage) && none != arena->lineage)
        return SX_OTHER_ARENA;
    cell->units = units;
    memset((char *)cell + sizeof *cell, 0, request->needed - sizeof *cell);
    cell_bind(arena, cell);
    cell_make(cell, request->kind, parameter);
    atomic_store_explicit(&cell->tag, SX_TAG(request->kind), memory_order_release);
    return SX_OK;
}

static enum sx_status open_at(struct sx_arena *arena, struct sx_cell *cell, size_t size, struct sx_request *request)
{
    enum sx_kind kind = sx_cell_kind(cell);
    if (kind == SX_KIND_NONE)
        return SX_DAMAGED;
    request->found = kind;
    if (kind != request->kind)
        return SX_WRONG_KIND;
    request->needed = sx_kind_size(kind, cell->parameter);
    if (request->needed == 0 || cell->units != (request->needed + SX_LINE - 1) / SX_LINE)
        return SX_DAMAGED;
    if (request->needed > size)
        return SX_TOO_SMALL;
    enum sx_status s = as_requested(cell, request);
    if (s != SX_OK)
        return s;
    if (atomic_load(&cell->lineage) != arena->lineage)
        return SX_OTHER_ARENA;
    if (!sx_cell_is_ours(arena, cell)) {
        sx_kind_operations(kind)->adopt(arena, cell); /* the words first, the id after them: see mutex.c */
        cell_bind(arena, cell);
    }
    return SX_OK;
}

/* size: the bytes from there to the end of the memory, at least one cell's header. */
enum sx_status sx_object_at(struct sx_arena *arena, void *memory, size_t size, struct sx_request *request,
                            struct sx_object *object)
{
    struct sx_cell *cell = memory;
    *object = (struct sx_object){.cell = cell, .unit = SX_NOBODY};
    enum sx_status s = sx_arena_lock(arena);
    if (s != SX_OK)
        return s;
    if (atomic_load(&arena->header->retired))
        s = SX_RETIRED;
    else if (atomic_load_explicit(&cell->tag, memory_order_acquire) == 0) {
        s = make_at(arena, cell, size, request);
        object->created = s == SX_OK;
    } else {
        s = open_at(arena, cell, size, request);
    }
    if (s == SX_OK)
        atomic_fetch_add(&arena->outside, 1);
    sx_arena_unlock(arena);
    return s;
}
