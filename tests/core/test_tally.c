/* test_tally.c: what is counted of an object: how often it was taken, and how long was waited for it. */
#include "check.h"

/* ---- the short float ------------------------------------------------------------------------------------------ */
TEST(a_short_float_is_a_thousandth_too_small_at_most, 0, 20)
{
    for (uint64_t ns = 0; ns < 5000; ns++) {
        uint64_t told = sx_long(sx_short(ns));
        CHECK(told <= ns && ns - told <= ns / 1024);
    }
    for (int bit = 0; bit < 63; bit++)
        for (int i = 0; i < 1000; i++) {
            uint64_t ns = UINT64_C(1) << bit | (random64() & ((UINT64_C(1) << bit) - 1));
            uint64_t told = sx_long(sx_short(ns));
            CHECK(told <= ns && ns - told <= ns / 1024);
            CHECK(sx_short(told) == sx_short(ns));
        }
}

/* The longest is found by comparing the short ones. */
TEST(short_floats_are_in_order, 0, 20)
{
    uint16_t most = sx_short(INT64_MAX);
    for (uint32_t v = 1; v <= most; v++)
        CHECK(sx_long((uint16_t)v) > sx_long((uint16_t)(v - 1)));
    for (uint32_t v = most; v <= UINT16_MAX; v++) /* what nobody writes: of a damaged arena */
        CHECK(sx_long((uint16_t)v) >= sx_long(most));
}

/* ---- counts ----------------------------------------------------------------------------------------------------- */
#define THREADS 4
#define TIMES 2000

struct contest {
    struct sx_arena *arena;
    struct sx_mutex *mutex;
};

static void *contend(void *what)
{
    struct contest *c = what;
    for (int i = 0; i < TIMES; i++) {
        STATUS(sx_mutex_lock(c->arena, c->mutex, SX_NEVER), SX_OK);
        STATUS(sx_mutex_unlock(c->arena, c->mutex, false), SX_OK);
    }
    return NULL;
}

TEST(each_hold_is_counted, 0, 60)
{
    struct contest c = {.arena = arena_new()};
    struct sx_counts counts;
    pthread_t threads[THREADS];
    c.mutex = anonymous(c.arena);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, contend, &c) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    sx_count(&c.mutex->cell, SX_KIND_MUTEX, &counts);
    CHECK(counts.counted && counts.acquired == THREADS * TIMES);
    CHECK(counts.contended != 0 || counts.waited_ns == 0);
    CHECK(counts.longest_ns <= counts.waited_ns);
}
