/* test_names.c: many names, many threads, and what happens when there is no room for one more. */
#include "check.h"

static enum sx_status open_number(struct sx_arena *a, uint32_t n, enum sx_create create, struct sx_object *o)
{
    char name[32];
    enum sx_kind found;
    snprintf(name, sizeof name, "%x", n * 2654435761u); /* all different, and in no order */
    return open_named(a, name, (uint32_t)strlen(name), SX_KIND_MUTEX, create, o, &found);
}

static enum sx_status unlink_number(struct sx_arena *a, uint32_t n)
{
    char name[32];
    snprintf(name, sizeof name, "%x", n * 2654435761u);
    return sx_object_unlink(a, name, (uint32_t)strlen(name), false);
}

static void create_numbers(struct sx_arena *a, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        struct sx_object o;
        STATUS(open_number(a, i, SX_EXCLUSIVE, &o), SX_OK);
        sx_object_close(a, &o);
    }
    CHECK(a->header->names_live == to);
}

static void find_numbers(struct sx_arena *a, uint32_t from, uint32_t to, enum sx_status want)
{
    for (uint32_t i = from; i < to; i++) {
        struct sx_object o;
        STATUS(open_number(a, i, SX_OPEN, &o), want);
        if (want == SX_OK)
            sx_object_close(a, &o);
    }
}

/* Linear probing that never sheds its tombstones, or an index that does not grow, takes minutes for this. */
TEST(a_hundred_thousand_names, HEAVY, 60)
{
    struct sx_arena *a = arena_new();
    uint32_t n = (uint32_t)rounds(100000);
    create_numbers(a, 0, n);
    find_numbers(a, 0, n, SX_OK);
    find_numbers(a, n, n + n / 4, SX_NOT_FOUND);
    uint64_t names = a->header->names.cursor, cells = a->header->cells.cursor;
    for (uint32_t i = 0; i < n; i += 2)
        STATUS(unlink_number(a, i), SX_OK);
    for (uint32_t i = 0; i < n; i++) {
        struct sx_object o;
        STATUS(open_number(a, i, SX_OPEN, &o), i % 2 == 0 ? SX_NOT_FOUND : SX_OK);
        if (i % 2 == 1)
            sx_object_close(a, &o);
    }
    STATUS(sx_arena_collect(a), SX_OK);
    CHECK(a->header->names_live == n / 2);
    for (uint32_t i = 1; i < n; i += 2)
        STATUS(unlink_number(a, i), SX_OK);
    CHECK(a->header->names_live == 0);
    find_numbers(a, 0, n / 10, SX_NOT_FOUND);
    create_numbers(a, 0, n);
    CHECK(a->header->names.cursor == names && a->header->cells.cursor == cells); /* the same blocks again */
    CHECK(a->header->references_cursor <= 4);
}

/* Names come and go for ever while a few stay: neither the file nor the time of one step grows. */
TEST(names_that_come_and_go, 0, 60)
{
    struct sx_arena *a = arena_new();
    create_numbers(a, 0, 500);
    uint64_t names = 0, cells = 0;
    uint32_t shape = 0;
    for (uint32_t i = 0; i < (uint32_t)rounds(100000); i++) {
        struct sx_object o;
        STATUS(open_number(a, 1000 + i, SX_EXCLUSIVE, &o), SX_OK);
        sx_object_close(a, &o);
        STATUS(unlink_number(a, 1000 + i), SX_OK);
        if (i == 10)
            names = a->header->names.cursor, cells = a->header->cells.cursor, shape = a->header->index_shape & 0xff;
    }
    CHECK(a->header->names.cursor == names && a->header->cells.cursor == cells);
    CHECK((a->header->index_shape & 0xff) <= shape + 1);
    CHECK(a->header->names_live == 500);
    find_numbers(a, 0, 500, SX_OK);
}

TEST(no_room_for_one_more_name, HEAVY, 60)
{
    if (slow_machine)
        skip("131,072 names take too long here");
    struct sx_arena *a = arena_new();
    struct sx_object o;
    create_numbers(a, 0, SX_MAX_NAMES);
    for (int i = 0; i < 3; i++) {
        uint64_t names = a->header->names.cursor, cells = a->header->cells.cursor;
        uint32_t new_one = SX_MAX_NAMES + (uint32_t)i, old_one = i == 0 ? 77 : SX_MAX_NAMES + (uint32_t)i - 1;
        for (int n = 0; n < 100; n++)
            STATUS(open_number(a, new_one, SX_CREATE, &o), SX_FULL_NAMES);
        CHECK(a->header->names.cursor == names && a->header->cells.cursor == cells); /* and nothing was used up */
        STATUS(open_number(a, 5, SX_CREATE, &o), SX_OK);                             /* what there is, is found */
        CHECK(!o.created && usable(a, (struct sx_mutex *)o.cell));
        sx_object_close(a, &o);
        STATUS(open_nameless(a, SX_KIND_MUTEX, &o), SX_OK); /* which has no name */
        sx_object_close(a, &o);
        STATUS(unlink_number(a, old_one), SX_OK);
        STATUS(open_number(a, new_one, SX_CREATE, &o), SX_OK);
        CHECK(o.created);
        sx_object_close(a, &o);
    }
    STATUS(sx_arena_collect(a), SX_OK);
    CHECK(a->header->names_live == SX_MAX_NAMES);
    STATUS(open_number(a, SX_MAX_NAMES + 9, SX_CREATE, &o), SX_FULL_NAMES);
}

TEST(names_of_every_length_and_content, 0, 20)
{
    struct sx_arena *a = arena_new();
    unsigned char bytes[SX_MAX_NAME];
    enum sx_kind found;
    struct sx_object o, objects[SX_MAX_NAME + 1];
    for (uint32_t n = 1; n <= SX_MAX_NAME; n++) {
        for (uint32_t i = 0; i < n; i++)
            bytes[i] = (unsigned char)(n + i * 37);
        STATUS(open_named(a, (char *)bytes, n, SX_KIND_MUTEX, SX_EXCLUSIVE, &objects[n], &found), SX_OK);
    }
    STATUS(sx_arena_collect(a), SX_OK);
    for (uint32_t n = 1; n <= SX_MAX_NAME; n++) {
        for (uint32_t i = 0; i < n; i++)
            bytes[i] = (unsigned char)(n + i * 37);
        STATUS(open_named(a, (char *)bytes, n, SX_KIND_MUTEX, SX_OPEN, &o, &found), SX_OK);
        CHECK(o.cell == objects[n].cell);
        bytes[n - 1] ^= 1; /* one bit of the last byte away */
        STATUS(open_named(a, (char *)bytes, n, SX_KIND_MUTEX, SX_OPEN, &o, &found), SX_NOT_FOUND);
    }
}

/* ---- participants ---------------------------------------------------------------------------------------------------- */
struct crowd {
    struct sx_arena *arena;
    sx_a32 arrived, refused, go;
};

static void *attends(void *argument)
{
    struct crowd *c = argument;
    uint64_t me;
    enum sx_status s = sx_identity(c->arena, &me);
    CHECK(s == SX_OK || s == SX_FULL_PARTICIPANTS);
    if (s != SX_OK)
        atomic_fetch_add(&c->refused, 1);
    atomic_fetch_add(&c->arrived, 1);
    gate_pass(&c->go);
    return NULL;
}

static pthread_t small_thread(void *(*body)(void *), void *argument)
{
    pthread_t t;
    pthread_attr_t attr;
    CHECK(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, 64 * 1024) == 0);
    int r = pthread_create(&t, &attr, body, argument);
    if (r == EAGAIN)
        skip("so many threads are not allowed here");
    CHECK(r == 0);
    pthread_attr_destroy(&attr);
    return t;
}

TEST(no_room_for_one_more_thread, NATIVE, 60)
{
    static pthread_t threads[SX_MAX_PARTICIPANTS];
    struct crowd *c = shared(sizeof *c);
    c->arena = arena_new();
    struct sx_mutex *m = named(c->arena, "m", NULL); /* with us they are one too many */
    for (int round = 0; round < 2; round++) {
        c->arrived = c->refused = c->go = 0;
        for (uint32_t i = 0; i < SX_MAX_PARTICIPANTS; i++)
            threads[i] = small_thread(attends, c);
        UNTIL(c->arrived == SX_MAX_PARTICIPANTS);
        CHECK(c->refused == 1);
        CHECK(sx_participants_ready(c->arena) == SX_MAX_PARTICIPANTS);
        CHECK(usable(c->arena, m)); /* who is in, is in */
        gate_open(&c->go);
        for (uint32_t i = 0; i < SX_MAX_PARTICIPANTS; i++)
            joined(threads[i]);
    }
    c->arrived = c->refused = 0;
    for (int i = 0; i < 100; i++) /* all of their slots are there again */
        joined(small_thread(attends, c));
    CHECK(c->refused == 0);
    CHECK(c->arena->registered == 1);
}

/* A process with thousands of threads is killed, and each slot can be had, though the marks are missing: only a full
 * arena asks after each. */
enum { CROWD = SX_MAX_PARTICIPANTS - 2 }; /* beside us and its main thread, which has our handle */

static void crowds_and_is_killed(void *argument)
{
    for (int i = 0; i < CROWD; i++)
        small_thread(attends, argument);
    for (;;)
        pause();
}

TEST(a_crowd_is_killed, FORKS | NATIVE, 60)
{
    struct crowd *c = shared(sizeof *c), *late = shared(sizeof *late);
    late->arena = c->arena = arena_new();
    struct sx_mutex *m = named(c->arena, "m", NULL);
    pid_t pid = spawn(crowds_and_is_killed, c);
    UNTIL(c->arrived == CROWD);
    CHECK(c->refused == 0);
    gate_open(&late->go);
    joined(small_thread(attends, late));
    CHECK(late->refused == 1); /* full, and all of them live */
    killed(pid);
    uint32_t unmarked = 0;
    for (uint32_t i = 0; i < SX_MAX_PARTICIPANTS; i++) {
        struct sx_participant *p = &c->arena->participants[i];
        if (*sx_life_word(p) & FUTEX_OWNER_DIED) {
            *sx_life_word(p) = p->tid | FUTEX_WAITERS;
            unmarked++;
        }
    }
    CHECK(unmarked == CROWD + 1);
    for (int i = 0; i < 200; i++)
        joined(small_thread(attends, late));
    CHECK(late->refused == 1);
    CHECK(usable(c->arena, m));
}
