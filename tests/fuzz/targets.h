/* targets.h: the table of what can be fuzzed. */
#ifndef SYNCX_FUZZ_TARGETS_H
#define SYNCX_FUZZ_TARGETS_H

#include "scene.h"

struct fuzz_target {
    const char *name;
    void (*run)(struct input *in, unsigned damage);
    unsigned damage; /* what an input may damage, DAMAGE_* */
    /* What stands in an input before the number of a cell that is to be opened, and before an operation on the first of
     * those that are open; no bytes of the latter: it has no such thing. */
    struct {
        uint8_t byte[4];
        uint32_t length;
    } open, use;
};
extern const struct fuzz_target fuzz_targets[];
extern const uint32_t fuzz_target_count;

#endif
