/* mutate.h: changes of inputs that know what an input says; see mutate.c. */
#ifndef SYNCX_FUZZ_MUTATE_H
#define SYNCX_FUZZ_MUTATE_H

#include "targets.h"

/* In place; returns the new size.  The same for the same seed. */
size_t mutate(const struct fuzz_target *target, uint8_t *data, size_t size, size_t most, unsigned seed);

#endif
