/* heap.c: room for cells and names.  Two heaps of the same make: blocks carved one after another, and a free list
 * for each size class.
 *
 * Blocks carry their size in units and can be walked from the start to the cursor.  A block is carved by writing its
 * size and then moving the cursor, so a death in between leaves nothing.  Free lists are derived: names.c builds
 * them anew after an owner died in here, from what the blocks say of themselves (a tag or a length of 0 is free).
 * Everything here runs under the arena's lock, and every number read from the file is checked before it is used.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>

#include "core.h"

/* Gives pages to the first `bytes` bytes of a region before anybody touches them: a full file system is an error
 * here, not a SIGBUS there.  Any thread may call it at any time; doing it twice does no harm. */
enum sx_status sx_ready(struct sx_arena *arena, enum sx_region_number region, uint64_t bytes)
{
    struct sx_header *h = arena->header;
    uint64_t limit = (uint64_t)h->regions[region].item_size * h->regions[region].capacity;
    uint64_t ready = atomic_load_explicit(&h->ready[region], memory_order_acquire);
    bytes = (bytes + SX_PAGE - 1) / SX_PAGE * SX_PAGE;
    if (bytes > limit)
        bytes = limit;
    if (bytes <= ready)
        return SX_OK;
    int r, fd = sx_arena_fd(arena);
    if (fd < 0)
        return SX_ERRNO;
    do
        r = posix_fallocate(fd, (off_t)(h->regions[region].offset + ready), (off_t)(bytes - ready));
    while (r == EINTR);
    if (r != 0) {
        errno = r;
        return SX_ERRNO;
    }
    /* release: who sees the mark may touch the pages */
    while (ready < bytes && !atomic_compare_exchange_weak_explicit(&h->ready[region], &ready, bytes,
                                                                   memory_order_release, memory_order_acquire))
        ;
    return SX_OK;
}

struct heap {
    struct sx_heap *shared;
    sx_a64 *ready;
    enum sx_region_number region;
    uint32_t unit, capacity;
    char *base;
};

static struct heap the_heap(struct sx_arena *arena, bool cell)
{
    struct sx_header *h = arena->header;
    if (cell)
        return (struct heap){&h->cells, &h->ready[SX_CELLS], SX_CELLS, SX_LINE, SX_MAX_CELL_UNITS, arena->cells};
    return (struct heap){&h->names, &h->ready[SX_NAMES], SX_NAMES, SX_NAME_UNIT, SX_MAX_NAME_UNITS, arena->names};
}

/* Classes 1..16 are exact; above, a class for every power of two. */
static uint32_t class_of(uint32_t units)
{
    return units <= 16 ? units : 16 + (32 - (uint32_t)__builtin_clz(units - 1)) - 4;
}

uint32_t sx_heap_rounded(uint32_t units)
{
    return units <= 16 ? units : 1u << (32 - __builtin_clz(units - 1));
}

/* The block at a unit read from the file: NULL unless it lies below the cursor, whole, and the cursor where pages are:
 * what has none must not be touched, for on a full file system that is a SIGBUS. */
static uint32_t *block_at(struct heap *heap, uint32_t unit)
{
    uint64_t cursor = atomic_load_explicit(&heap->shared->cursor, memory_order_acquire);
    if (cursor > heap->capacity || unit >= cursor ||
        cursor * heap->unit > atomic_load_explicit(heap->ready, memory_order_acquire))
        return NULL;
    uint32_t *units = (uint32_t *)(heap->base + (uint64_t)unit * heap->unit);
    return *units == 0 || *units > cursor - unit ? NULL : units;
}

struct sx_cell *sx_cell_at(struct sx_arena *arena, uint32_t unit)
{
    struct heap heap = the_heap(arena, true);
    struct sx_cell *cell = (struct sx_cell *)block_at(&heap, unit);
    return cell != NULL && cell->units >= 2 ? cell : NULL;
}

/* The cell of so many bytes at that offset of the file, which a wait record names; NULL for noise, and where no pages are.
 * *room: how many bytes with pages lie behind it. */
struct sx_cell *sx_cell_waited_for(struct sx_arena *arena, uint64_t offset, size_t size, uint64_t *room)
{
    struct sx_header *h = arena->header;
    uint64_t begin = h->regions[SX_CELLS].offset, limit = (uint64_t)SX_MAX_CELL_UNITS * SX_LINE;
    uint64_t ready = atomic_load_explicit(&h->ready[SX_CELLS], memory_order_acquire);
    if (ready > limit)
        ready = limit;
    if (offset % SX_LINE != 0 || offset < begin || offset - begin >= ready || ready - (offset - begin) < size)
        return NULL;
    *room = ready - (offset - begin) - size;
    return (struct sx_cell *)(arena->base + offset);
}

struct sx_name *sx_name_at(struct sx_arena *arena, uint32_t unit)
{
    struct heap heap = the_heap(arena, false);
    struct sx_name *name = (struct sx_name *)block_at(&heap, unit);
    if (name == NULL)
        return NULL;
    uint32_t used = atomic_load_explicit(&name->used, memory_order_acquire);
    return used <= SX_MAX_NAME && sizeof *name + used <= (uint64_t)name->units * SX_NAME_UNIT ? name : NULL;
}

static sx_a32 *link_of(uint32_t *block, bool cell)
{
    return cell ? &((struct sx_cell *)block)->next : &((struct sx_name *)block)->cell;
}

static bool block_free(uint32_t *block, bool cell)
{
    return cell ? atomic_load(&((struct sx_cell *)block)->tag) == 0
                : atomic_load(&((struct sx_name *)block)->used) == 0;
}

enum sx_status sx_heap_allocate(struct sx_arena *arena, bool cell, uint32_t units, uint32_t *unit)
{
    struct heap heap = the_heap(arena, cell);
    units = sx_heap_rounded(units);
    sx_a32 *head = &heap.shared->free[class_of(units)];
    uint32_t first = atomic_load_explicit(head, memory_order_relaxed);
    if (first != 0) {
        uint32_t *block = block_at(&heap, first - 1);
        if (block == NULL || *block != units || !block_free(block, cell))
            return SX_DAMAGED;
        atomic_store_explicit(head, atomic_load_explicit(link_of(block, cell), memory_order_relaxed),
                              memory_order_relaxed);
        *unit = first - 1;
        return SX_OK;
    }
    uint64_t cursor = atomic_load_explicit(&heap.shared->cursor, memory_order_relaxed);
    if (cursor > heap.capacity || units > heap.capacity - cursor)
        return cell ? SX_FULL_CELLS : SX_FULL_NAMES;
    uint64_t end = (cursor + units) * heap.unit;
    if (end > atomic_load_explicit(&arena->header->ready[heap.region], memory_order_acquire)) {
        uint64_t step = end < 16 * SX_PAGE ? SX_PAGE : 16 * SX_PAGE; /* few system calls, little slack */
        enum sx_status s = sx_ready(arena, heap.region, end - 1 + step);
        if (s == SX_ERRNO)
            s = sx_ready(arena, heap.region, end);
        if (s != SX_OK)
            return s;
    }
    uint32_t *block = (uint32_t *)(heap.base + cursor * heap.unit);
    memset(block, 0, (size_t)units * heap.unit); /* a carving cut short by a death may have left something */
    *block = units;
    atomic_store_explicit(&heap.shared->cursor, cursor + units, memory_order_release);
    *unit = (uint32_t)cursor;
    return SX_OK;
}

/* Puts a block, already marked free, on its list. */
void sx_heap_free(struct sx_arena *arena, bool cell, uint32_t unit)
{
    struct heap heap = the_heap(arena, cell);
    uint32_t *block = block_at(&heap, unit);
    if (block == NULL || *block != sx_heap_rounded(*block))
        return;
    sx_a32 *head = &heap.shared->free[class_of(*block)];
    atomic_store_explicit(link_of(block, cell), atomic_load_explicit(head, memory_order_relaxed), memory_order_relaxed);
    atomic_store_explicit(head, unit + 1, memory_order_release);
}
