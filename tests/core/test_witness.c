/* test_witness.c: the second witness, a byte of the arena file locked through one descriptor. */
#include "check.h"

#include <fcntl.h>
#include <sys/stat.h>

/* A program closes all descriptors, ours among them, and opens a file of its own, which gets our number.  Nothing of
 * the arena may be written to that file. */
TEST(a_descriptor_that_changed_hands_is_left_alone, 0, 20)
{
    struct sx_arena *a = arena_new();
    struct stat st;
    my_id(a);
    int users = open(path_of("users"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(users >= 0 && dup2(users, a->fd) == a->fd);
    for (int i = 0; i < 3000; i++) { /* more than the pages that are ready: the regions grow */
        char name[16];
        struct sx_object o;
        enum sx_kind found;
        snprintf(name, sizeof name, "n%d", i);
        enum sx_status s = open_named(a, name, (uint32_t)strlen(name), SX_KIND_MUTEX, SX_CREATE, &o, &found);
        CHECK(s == SX_OK || s == SX_ERRNO);
    }
    sx_arena_collect(a);
    CHECK(fstat(users, &st) == 0);
    if (st.st_size != 0)
        FAIL("the user's file has grown to %lld bytes", (long long)st.st_size);
}
