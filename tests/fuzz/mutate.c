/* mutate.c: changes of inputs that know what an input says.
 *
 * libFuzzer changes bytes.  What an input damages is a list of records of different lengths, and a byte put in front shifts
 * the meaning of all that follow; so that a record names a field, gives it a value that matters, and the operation that reads
 * the field comes afterwards, all by chance, takes minutes to hours.  So half of the changes are made here: records come, go
 * and are replaced as a whole, operations come and go behind them, or a cell is damaged and that very cell is opened and used.
 */
#include <string.h>

#include "mutate.h"

#define LONGEST 4096 /* bytes of an input that are looked at */
#define ROOM 512     /* behind it: zeros, which are what there is at its end */

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

static uint64_t state;

static uint32_t chance(uint32_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 24) % n;
}

/* An input in its parts: up to the count of its records, those, and the rest. */
struct parts {
    const struct fuzz_target *target;
    uint8_t front[32], records[DAMAGES * 96], rest[LONGEST];
    size_t front_size, records_size, rest_size;
    size_t begin[DAMAGES + 1]; /* of each record, and where the last one ends */
    uint32_t count;
};

static void take_apart(struct parts *p, const uint8_t *data, size_t size)
{
    static uint8_t all[LONGEST + ROOM + DAMAGES * 96];
    struct layout l;
    size = size < LONGEST ? size : LONGEST;
    memcpy(all, data, size);
    memset(all + size, 0, sizeof all - size);
    world_layout((struct input){all, all + sizeof all}, p->target->damage, &l);
    p->front_size = (size_t)(l.count_at - all);
    memcpy(p->front, all, p->front_size);
    p->count = l.count;
    for (uint32_t i = 0; i <= l.count; i++)
        p->begin[i] = (size_t)(l.record[i] - l.record[0]);
    p->records_size = p->begin[l.count];
    memcpy(p->records, l.record[0], p->records_size);
    size_t used = (size_t)(l.record[l.count] - all);
    p->rest_size = used < size ? size - used : 0;
    memcpy(p->rest, all + used, p->rest_size);
}

static size_t put_together(const struct parts *p, uint8_t *data, size_t most)
{
    size_t size = p->front_size + 1 + p->records_size + p->rest_size;
    if (p->front_size + 1 + p->records_size > most)
        return 0;
    memcpy(data, p->front, p->front_size);
    data[p->front_size] = (uint8_t)p->count;
    memcpy(data + p->front_size + 1, p->records, p->records_size);
    size_t rest = (size < most ? size : most) - (size - p->rest_size);
    memcpy(data + (size - p->rest_size), p->rest, rest);
    return size - p->rest_size + rest;
}

/* ---- records ------------------------------------------------------------------------------------------------------ */

/* Writes one whose region is `which`; of a cell or a slot: of that one.  Returns its length. */
static size_t write_record(const struct parts *p, uint8_t *to, uint32_t which, uint32_t number)
{
    uint8_t text[100] = {0, 0, 0, 1}, *record = text + 4; /* no switches, no script, one record */
    size_t n = 0;
    struct layout l;
    uint32_t at = chance(0x10000);
    record[n++] = (uint8_t)which;
    if (which == 1 && chance(2) == 0) /* what is written once */
        at = (uint32_t)(chance(4) == 0 ? chance(offsetof(struct sx_header, regions))
                                       : offsetof(struct sx_header, regions) + chance(16 * SX_REGIONS));
    else if ((which >= 3 && which <= 5) || which == 14)
        at = number;
    else if (which == 9 || (which == 10 && chance(4) != 0))
        at = number;
    record[n++] = (uint8_t)at;
    record[n++] = (uint8_t)(at >> 8);
    if (which == 3)
        record[n++] = (uint8_t)(chance(2) ? 0x80 | chance(8) : chance(128));
    else if (which == 10) /* the words, as a rule */
        record[n++] = (uint8_t)(chance(4) * 8 + (chance(4) == 0 ? chance(8) : 0));
    while (n < 96)
        record[n++] = (uint8_t)(chance(2) ? chance(32) : chance(256));
    world_layout((struct input){text, text + sizeof text}, p->target->damage, &l);
    n = (size_t)(l.record[1] - l.record[0]);
    memcpy(to, record, n);
    return n;
}

static void insert_record(struct parts *p, uint32_t which, uint32_t number)
{
    uint8_t record[96];
    if (p->count + 1 == DAMAGES)
        return;
    uint32_t i = chance(p->count + 1);
    size_t n = write_record(p, record, which, number), at = p->begin[i];
    memmove(p->records + at + n, p->records + at, p->records_size - at);
    memcpy(p->records + at, record, n);
    p->records_size += n;
    p->count++;
    for (uint32_t j = p->count; j > i; j--)
        p->begin[j] = p->begin[j - 1] + n;
}

static void remove_record(struct parts *p)
{
    if (p->count == 0)
        return;
    uint32_t i = chance(p->count);
    size_t n = p->begin[i + 1] - p->begin[i];
    memmove(p->records + p->begin[i], p->records + p->begin[i + 1], p->records_size - p->begin[i + 1]);
    p->records_size -= n;
    for (uint32_t j = i; j < p->count; j++)
        p->begin[j] = p->begin[j + 1] - n;
    p->count--;
}

static uint32_t some_region(const struct parts *p)
{
    uint32_t which;
    do
        which = chance(16);
    while (!(scene_regions[which] & p->target->damage));
    return which;
}

static void another_record(struct parts *p)
{
    uint32_t which = some_region(p);
    bool free_slot =
        scene_regions[which] & (DAMAGE_LIVES | DAMAGE_FILES) && chance(2) == 0; /* those that are claimed next */
    insert_record(p, which, free_slot ? scene.threads + chance(4) : chance(16 * scene.cells));
}

/* ---- operations ----------------------------------------------------------------------------------------------------- */
static void change_rest(struct parts *p)
{
    size_t at = p->rest_size == 0 ? 0 : chance((uint32_t)p->rest_size + 1), n = 1 + chance(8);
    if (chance(3) == 0) {
        n = n < p->rest_size - at ? n : p->rest_size - at;
        memmove(p->rest + at, p->rest + at + n, p->rest_size - at - n);
        p->rest_size -= n;
    } else if (p->rest_size + n <= sizeof p->rest) {
        memmove(p->rest + at + n, p->rest + at, p->rest_size - at);
        for (size_t i = 0; i < n; i++)
            p->rest[at + i] = (uint8_t)(chance(4) ? chance(16) : chance(256));
        p->rest_size += n;
    }
}

/* A cell that is damaged, opened and used. */
static void aim(struct parts *p)
{
    uint32_t cell = chance(scene.cells);
    for (uint32_t i = chance(2) + 1; i-- > 0;)
        insert_record(p, 9 + (chance(4) != 0), cell);
    size_t n = 0;
    if (p->target->damage & DAMAGE_HEADER)
        p->rest[n++] = 1; /* a checksum that is right */
    memcpy(p->rest + n, p->target->open.byte, p->target->open.length);
    n += p->target->open.length;
    p->rest[n++] = (uint8_t)cell;
    p->rest[n++] = 0;
    for (uint32_t uses = 1 + chance(6); uses-- > 0;) {
        memcpy(p->rest + n, p->target->use.byte, p->target->use.length);
        n += p->target->use.length;
        for (uint32_t i = chance(5); i-- > 0;)
            p->rest[n++] = (uint8_t)(chance(4) ? chance(8) : chance(256));
    }
    p->rest_size = n;
}

size_t mutate(const struct fuzz_target *target, uint8_t *data, size_t size, size_t most, unsigned seed)
{
    static struct parts p;
    state = (uint64_t)seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    if (chance(2) == 0)
        return LLVMFuzzerMutate(data, size, most);
    p.target = target;
    take_apart(&p, data, size);
    switch (chance(8)) {
    case 0:
        remove_record(&p);
        break;
    case 1:
        remove_record(&p);
        another_record(&p);
        break;
    case 2:
    case 3:
        another_record(&p);
        break;
    case 4:
    case 5:
        change_rest(&p);
        break;
    default:
        if (target->use.length != 0 && target->damage & DAMAGE_CELLS)
            aim(&p);
        else
            another_record(&p);
    }
    size = put_together(&p, data, most);
    return size == 0 ? LLVMFuzzerMutate(data, 0, most) : size;
}
