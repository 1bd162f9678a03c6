/* kernel.h: the clock, the sleeps and the file that the core meets while it is fuzzed; see kernel.c and disk.c. */
#ifndef SYNCX_FUZZ_KERNEL_H
#define SYNCX_FUZZ_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sx_header;
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
void kernel_count_sleep(void);

/* The arena's file, of that name: nobody sees it before it is put there.  Returns its bytes. */
char *disk_make(const char *path, const struct sx_header *header);
void disk_put(uint64_t length);              /* the file is there; again: it has another length */
void disk_written(uint64_t page);            /* from the start: it may not be zero */
bool disk_take_away(void);                   /* false: somebody has left a descriptor open */
void disk_wipe(uint64_t from, uint64_t end); /* whole pages: they are zero */

#endif
