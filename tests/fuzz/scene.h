/* scene.h: a busy arena, kept as a picture; an input damages the picture, and what comes of it is opened and used.  See scene.c. */
#ifndef SYNCX_FUZZ_SCENE_H
#define SYNCX_FUZZ_SCENE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../syncx/_core/core.h"
#include "../../syncx/_core/files.h"

/* ---- an input: bytes that are taken from the front; at its end all is 0 ------------------------------------- */
struct input {
    const uint8_t *at, *end;
};

static inline bool more(const struct input *in)
{
    return in->at < in->end;
}
static inline uint8_t take8(struct input *in)
{
    return more(in) ? *in->at++ : 0;
}
static inline uint32_t take16(struct input *in)
{
    uint32_t low = take8(in);
    return low | (uint32_t)take8(in) << 8;
}
static inline uint32_t take32(struct input *in)
{
    uint32_t low = take16(in);
    return low | take16(in) << 16;
}
static inline uint64_t take64(struct input *in)
{
    uint64_t low = take32(in);
    return low | (uint64_t)take32(in) << 32;
}

/* ---- the scene ------------------------------------------------------------------------------------------------ */
#define SCENE_CELLS 24
#define SCENE_IDS 16

struct scene_cell {
    uint64_t offset;
    uint32_t unit, generation, parameter;
    enum sx_kind kind;
    const char *name; /* NULL: none */
};

struct scene {
    struct sx_header header; /* as it was */
    struct scene_cell cell[SCENE_CELLS];
    uint32_t cells;
    uint64_t thread[SCENE_IDS]; /* holder ids; the last ones name nobody, or slots that cannot be */
    uint64_t process[SCENE_IDS];
    uint32_t threads;
    uint64_t classes[4]; /* of lock order */
    char directory[64], arena[96], file[96];
};
extern struct scene scene;

void scene_make(void); /* once */

/* ---- a world: one damaged copy of it, as an input has it ------------------------------------------------------- */
/* What an input may damage. */
#define DAMAGE_HEADER 0x01u
#define DAMAGE_LIVES 0x02u /* processes and participants */
#define DAMAGE_INDEX 0x04u /* index, names, references */
#define DAMAGE_CELLS 0x08u
#define DAMAGE_NOTES 0x10u /* hold times, traces, lock order */
#define DAMAGE_SIZE 0x20u  /* the size of the file */
#define DAMAGE_FILES 0x40u /* wait records and holds of file ranges, the lines */
#define DAMAGE_ALL 0x7fu
#define WRITES_NOTES 0x100u /* that is no damage: the target does */

struct world {
    struct input *in;
    struct sx_arena *arena; /* NULL: it could not be opened */
    int witness;            /* holds the byte of the scene's process; -1: it is dead */
};

/* Where in an input the damage lies: the byte that counts it, and each record of it; behind the last one is the rest. */
#define DAMAGES 24
struct layout {
    const uint8_t *count_at, *record[DAMAGES + 1];
    uint32_t count;
};
void world_layout(struct input in, unsigned damage, struct layout *l);
/* The regions that a record may mean, by the low four bits of its first byte. */
extern const unsigned scene_regions[16];

/* Reads the damage from the input and writes the file. */
void world_write(struct world *w, struct input *in, unsigned damage);
/* ... and opens it; false: it was refused, and rightly so. */
bool world_open(struct world *w, struct input *in, unsigned damage);
void world_end(struct world *w);

/* Damage to some memory of the user's own. */
void damage_memory(struct input *in, void *memory, size_t size);
uint64_t some_value(struct input *in, unsigned width, uint64_t current);
int64_t some_deadline(struct input *in);
uint64_t some_thread(struct input *in);
struct scene_cell *some_cell(struct input *in);

/* ---- targets ----------------------------------------------------------------------------------------------------- */
struct object { /* that the input has opened */
    struct sx_object core;
    enum sx_kind kind;
    struct sx_arrival arrival;
    bool arrived;
};
void use(struct world *w, struct object *o, struct input *in); /* one operation; operations.c */
void look_around(struct world *w, struct input *in);           /* at lives and waits */

void target(struct input *in); /* the one of this program */
void check_status_value(enum sx_status s);
#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
