/* kernel.h: the clock and the sleeps that the core meets while it is fuzzed; see kernel.c. */
#ifndef SYNCX_FUZZ_KERNEL_H
#define SYNCX_FUZZ_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kernel {
    bool virtual;          /* else all goes to the real one: while the scene is played */
    int64_t now;           /* CLOCK_MONOTONIC, ns */
    uint32_t sleeps;       /* in this input */
    uint32_t in_a_row;     /* ... and in this operation */
    uint32_t patience;     /* after so many sleeps everybody else dies, */
    uint32_t given_up;     /* and after so many the host's signal handler ends every wait */
    const uint8_t *script; /* how the first sleeps end */
    uint32_t script_left;
    uint32_t wakes; /* what FUTEX_WAKE says: so many were woken */
    void (*others_die)(void);
    char *arena; /* the mapping of the arena */
    size_t arena_size;
};
extern struct kernel kernel;

void kernel_begin(void); /* before an input */

#endif
