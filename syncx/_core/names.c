/* names.c: the index of names, and the rebuilding of everything derived.
 *
 * The index is an open-addressing table of name units + 1, with linear probing.  It is derived from the names and
 * never decides what exists.  It grows by filling the other of its two regions and then naming that region in one
 * store (index_shape), so a death meanwhile leaves the old one in force.  All of it runs under the arena's lock.
 *
 * What decides: a name exists while its `used` is not 0 and the cell it points to is alive and points back.  An
 * unnamed cell exists while a process that lives has a reference to it.  Creating and unlinking commit by one store
 * (name.used; cell.tag); whoever takes the lock from a dead owner rebuilds the rest from these (sx_arena_rebuild).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>

#include "core.h"

#define TOMBSTONE UINT32_MAX

uint32_t sx_name_hash(const char *name, uint32_t length)
{
    uint32_t h = 2166136261u; /* FNV-1a, 32 bits */
    for (uint32_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)name[i]) * 16777619u;
    return h;
}

struct table {
    sx_a32 *entries;
    uint32_t mask;
};

static enum sx_region_number index_region(uint32_t shape)
{
    return shape & 0x100 ? SX_INDEX_B : SX_INDEX_A;
}

static enum sx_status table_in_force(struct sx_arena *arena, struct table *t)
{
    struct sx_header *h = arena->header;
    uint32_t shape = atomic_load_explicit(&h->index_shape, memory_order_acquire);
    uint32_t log2 = shape & 0xff;
    enum sx_region_number region = index_region(shape);
    if (log2 < SX_MIN_INDEX_LOG2 || log2 > SX_MAX_INDEX_LOG2 ||
        ((uint64_t)4 << log2) > atomic_load_explicit(&h->ready[region], memory_order_acquire))
        return SX_DAMAGED;
    t->entries = (sx_a32 *)(arena->base + h->regions[region].offset);
    t->mask = (1u << log2) - 1;
    return SX_OK;
}

static void put(struct table *t, uint32_t hash, uint32_t unit)
{
    for (uint32_t i = hash & t->mask, n = 0; n <= t->mask; i = (i + 1) & t->mask, n++)
        if (atomic_load_explicit(&t->entries[i], memory_order_relaxed) == 0) {
            atomic_store_explicit(&t->entries[i], unit + 1, memory_order_relaxed);
            return;
        }
}

/* Fills the region that is not in force with all names and puts it in force. */
static enum sx_status fill_index(struct sx_arena *arena, uint32_t names)
{
    struct sx_header *h = arena->header;
    uint32_t log2 = SX_MIN_INDEX_LOG2;
    while (log2 < SX_MAX_INDEX_LOG2 && names * 4 > (1u << log2)) /* a quarter full at most to begin with */
        log2++;
    uint32_t shape = (~atomic_load_explicit(&h->index_shape, memory_order_relaxed) & 0x100) | log2;
    enum sx_region_number region = index_region(shape);
    enum sx_status s = sx_ready(arena, region, (uint64_t)4 << log2);
    if (s != SX_OK)
        return s;
    struct table t = {(sx_a32 *)(arena->base + h->regions[region].offset), (1u << log2) - 1};
    memset((void *)t.entries, 0, (size_t)4 << log2);
    uint64_t cursor = atomic_load_explicit(&h->names.cursor, memory_order_relaxed);
    uint32_t live = 0;
    for (uint32_t unit = 0; unit < cursor;) {
        struct sx_name *name = sx_name_at(arena, unit);
        if (name == NULL)
            return SX_DAMAGED;
        if (atomic_load_explicit(&name->used, memory_order_relaxed) != 0) {
            if (live >= SX_MAX_NAMES)
                return SX_DAMAGED;
            put(&t, name->hash, unit);
            live++;
        }
        unit += name->units;
    }
    uint32_t old = index_region(atomic_load_explicit(&h->index_shape, memory_order_relaxed));
    atomic_store_explicit(&h->index_shape, shape, memory_order_release);
    atomic_store_explicit(&h->index_fill, live, memory_order_relaxed);
    atomic_store_explicit(&h->names_live, live, memory_order_relaxed);
    /* the old one gives its pages back but for the first, so that a large index costs its memory once */
    uint64_t bytes = atomic_load_explicit(&h->ready[old], memory_order_relaxed);
    int fd = sx_arena_fd(arena);
    if (fd >= 0 && bytes > SX_PAGE && bytes <= (uint64_t)h->regions[old].item_size * h->regions[old].capacity) {
        atomic_store_explicit(&h->ready[old], SX_PAGE, memory_order_relaxed);
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(h->regions[old].offset + SX_PAGE),
                  (off_t)(bytes - SX_PAGE));
    }
    return SX_OK;
}

enum sx_status sx_name_find(struct sx_arena *arena, const char *name, uint32_t length, uint32_t *unit)
{
    struct table t;
    enum sx_status s = table_in_force(arena, &t);
    if (s != SX_OK)
        return s;
    uint32_t hash = sx_name_hash(name, length);
    for (uint32_t i = hash & t.mask, n = 0; n <= t.mask; i = (i + 1) & t.mask, n++) {
        uint32_t e = atomic_load_explicit(&t.entries[i], memory_order_relaxed);
        if (e == 0)
            return SX_NOT_FOUND;
        if (e == TOMBSTONE)
            continue;
        struct sx_name *candidate = sx_name_at(arena, e - 1);
        if (candidate == NULL)
            return SX_DAMAGED;
        if (candidate->hash == hash && atomic_load_explicit(&candidate->used, memory_order_relaxed) == length &&
            memcmp(candidate->bytes, name, length) == 0) {
            *unit = e - 1;
            return SX_OK;
        }
    }
    return SX_NOT_FOUND;
}

/* Makes room for one more name: called before a creation commits, so that sx_name_insert cannot fail. */
enum sx_status sx_name_room(struct sx_arena *arena)
{
    struct sx_header *h = arena->header;
    struct table t;
    enum sx_status s = table_in_force(arena, &t);
    uint32_t live = atomic_load_explicit(&h->names_live, memory_order_relaxed);
    uint32_t fill = atomic_load_explicit(&h->index_fill, memory_order_relaxed);
    if (s != SX_OK)
        return s;
    if (live >= SX_MAX_NAMES)
        return SX_FULL_NAMES;
    /* half full; the largest, which half its entries fill at most, also holds tombstones up to seven eighths */
    uint64_t size = (uint64_t)t.mask + 1, limit = size < 1u << SX_MAX_INDEX_LOG2 ? size / 2 : size / 8 * 7;
    return fill + 1 > limit ? fill_index(arena, live + 1) : SX_OK;
}

/* Enters a committed name. */
void sx_name_insert(struct sx_arena *arena, uint32_t unit)
{
    struct sx_header *h = arena->header;
    struct table t;
    struct sx_name *name = sx_name_at(arena, unit);
    if (name == NULL || table_in_force(arena, &t) != SX_OK)
        return;
    put(&t, name->hash, unit);
    atomic_fetch_add_explicit(&h->index_fill, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->names_live, 1, memory_order_relaxed);
}

/* Takes a name out: the commit, then the index, then the block. */
void sx_name_remove(struct sx_arena *arena, uint32_t unit)
{
    struct sx_header *h = arena->header;
    struct table t;
    struct sx_name *name = sx_name_at(arena, unit);
    if (name == NULL)
        return;
    atomic_store_explicit(&name->used, 0, memory_order_release);
    if (table_in_force(arena, &t) == SX_OK)
        for (uint32_t i = name->hash & t.mask, n = 0; n <= t.mask; i = (i + 1) & t.mask, n++) {
            uint32_t e = atomic_load_explicit(&t.entries[i], memory_order_relaxed);
            if (e == unit + 1)
                atomic_store_explicit(&t.entries[i], TOMBSTONE, memory_order_relaxed);
            if (e == unit + 1 || e == 0)
                break;
        }
    atomic_fetch_sub_explicit(&h->names_live, 1, memory_order_relaxed);
    sx_heap_free(arena, false, unit);
}

/* ---- rebuilding --------------------------------------------------------------------------------------
 *
 * Idempotent: dying in the middle leaves the lock with a dead owner, and the next one starts again.
 */
static bool reference_lives(struct sx_arena *arena, uint64_t r, uint32_t *alive)
{
    uint32_t slot = (uint32_t)(r >> 32) & 0xffff, generation = (uint32_t)(r >> 48);
    struct sx_process *p = sx_process_at(arena, slot);
    if (p == NULL)
        return false;
    /* each process is asked for once: two bits a slot, known and alive */
    if (!(alive[slot / 16] >> (slot % 16 * 2) & 1)) {
        uint32_t g = atomic_load_explicit(&p->generation, memory_order_acquire);
        alive[slot / 16] |= (sx_process_alive(arena, slot, g) ? 3u : 1u) << (slot % 16 * 2);
    }
    return alive[slot / 16] >> (slot % 16 * 2) & 2 &&
           (uint16_t)atomic_load_explicit(&p->generation, memory_order_acquire) == generation;
}

static bool name_and_cell_agree(struct sx_arena *arena, uint32_t unit, struct sx_name *name)
{
    uint32_t at = atomic_load_explicit(&name->cell, memory_order_relaxed);
    struct sx_cell *cell = at == 0 ? NULL : sx_cell_at(arena, at - 1);
    return cell != NULL && atomic_load_explicit(&cell->tag, memory_order_acquire) != 0 &&
           atomic_load_explicit(&cell->name, memory_order_relaxed) == unit + 1;
}

static void free_cell_block(struct sx_arena *arena, uint32_t unit, struct sx_cell *cell)
{
    if (atomic_load_explicit(&cell->tag, memory_order_relaxed) != 0) {
        atomic_fetch_add_explicit(&cell->generation, 1, memory_order_release);
        atomic_store_explicit(&cell->tag, 0, memory_order_release);
    }
    sx_heap_free(arena, true, unit);
}

enum sx_status sx_arena_rebuild(struct sx_arena *arena)
{
    struct sx_header *h = arena->header;
    uint64_t cells = atomic_load(&h->cells.cursor), names = atomic_load(&h->names.cursor);
    uint32_t references = atomic_load(&h->references_cursor), live = 0;
    uint32_t alive[SX_MAX_PROCESSES / 16] = {0};
    if (cells > SX_MAX_CELL_UNITS || names > SX_MAX_NAME_UNITS || references > SX_MAX_REFERENCES ||
        cells * SX_LINE > atomic_load(&h->ready[SX_CELLS]) || names * SX_NAME_UNIT > atomic_load(&h->ready[SX_NAMES]) ||
        (uint64_t)references * 8 > atomic_load(&h->ready[SX_REFERENCES]))
        return SX_DAMAGED;
    atomic_store(&h->orphans, 0); /* before we look: who dies meanwhile sets it again */

    for (uint32_t i = 0; i < SX_CLASSES; i++) {
        atomic_store_explicit(&h->cells.free[i], 0, memory_order_relaxed);
        atomic_store_explicit(&h->names.free[i], 0, memory_order_relaxed);
    }
    for (uint32_t unit = 0; unit < cells;) {
        struct sx_cell *cell = sx_cell_at(arena, unit);
        if (cell == NULL || cell->units != sx_heap_rounded(cell->units))
            return SX_DAMAGED;
        atomic_store_explicit(&cell->references, 0, memory_order_relaxed);
        unit += cell->units;
    }
    uint32_t free_references = 0;
    for (uint32_t i = references; i-- > 0;) {
        uint64_t r = atomic_load_explicit(&arena->references[i], memory_order_relaxed);
        struct sx_cell *cell = r == 0 || r & SX_REFERENCE_FREE ? NULL : sx_cell_at(arena, (uint32_t)r - 1);
        if (cell != NULL && atomic_load_explicit(&cell->tag, memory_order_acquire) != 0 &&
            reference_lives(arena, r, alive)) {
            atomic_fetch_add_explicit(&cell->references, 1, memory_order_relaxed);
        } else {
            atomic_store_explicit(&arena->references[i], SX_REFERENCE_FREE | free_references, memory_order_relaxed);
            free_references = i + 1;
        }
    }
    atomic_store_explicit(&h->references_free, free_references, memory_order_relaxed);

    for (uint32_t unit = 0; unit < names;) {
        struct sx_name *name = sx_name_at(arena, unit);
        if (name == NULL || name->units != sx_heap_rounded(name->units))
            return SX_DAMAGED;
        if (atomic_load_explicit(&name->used, memory_order_relaxed) != 0 && name_and_cell_agree(arena, unit, name)) {
            live++;
        } else {
            atomic_store_explicit(&name->used, 0, memory_order_relaxed);
            sx_heap_free(arena, false, unit);
        }
        unit += name->units;
    }
    for (uint32_t unit = 0; unit < cells;) {
        struct sx_cell *cell = sx_cell_at(arena, unit);
        uint32_t at = atomic_load_explicit(&cell->name, memory_order_relaxed);
        struct sx_name *name = at == 0 ? NULL : sx_name_at(arena, at - 1);
        bool named = name != NULL && atomic_load_explicit(&name->used, memory_order_relaxed) != 0 &&
                     atomic_load_explicit(&name->cell, memory_order_relaxed) == unit + 1;
        if (!named) {
            atomic_store_explicit(&cell->name, 0, memory_order_relaxed);
            if (atomic_load_explicit(&cell->references, memory_order_relaxed) == 0)
                free_cell_block(arena, unit, cell);
        }
        unit += cell->units;
    }
    enum sx_status s = fill_index(arena, live);
    if (s == SX_OK)
        atomic_store(&h->damaged, 0); /* what an earlier attempt could not mend, for want of room */
    return s;
}
