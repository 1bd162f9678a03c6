/* targets.h: the table of what can be fuzzed. */
#ifndef SYNCX_FUZZ_TARGETS_H
#define SYNCX_FUZZ_TARGETS_H

#include "scene.h"

struct fuzz_target {
    const char *name;
    void (*run)(struct input *in);
};
extern const struct fuzz_target fuzz_targets[];
extern const uint32_t fuzz_target_count;

#endif
