/* test_trace.c: what a thread notes of its holds: the list of its own, what others read of it, and how long objects were
 * held; a record is read whole or not at all, while it is written and after its writer was killed.
 */
#include "check.h"

#include "../../syncx/_core/held.h"

static struct sx_held hold_of(struct sx_arena *arena, uint64_t key)
{
    return (struct sx_held){
        .arena = arena, .owner = my_id(arena), .what = key, .key = key, .since_ns = (int64_t)key, .record = -1};
}

TEST(trace_the_list_of_a_thread, 0, 20)
{
    struct sx_arena *arena = arena_new();
    static const char way, other;
    sx_noting_switch(SX_NOTE_TRACE | SX_NOTE_ORDER);
    CHECK(sx_noting() && sx_noting_order());
    for (uint64_t i = 1; i <= SX_HELD_MOST; i++) {
        struct sx_held h = hold_of(arena, i);
        h.way = i % 2 ? &way : &other;
        h.first = (int64_t)i;
        CHECK(sx_held_add(&h) != NULL);
    }
    struct sx_held more = hold_of(arena, 1000);
    uint64_t untraced = sx_untraced, me = my_id(arena);
    CHECK(sx_held_add(&more) == NULL && sx_untraced == untraced + 1);
    CHECK(sx_held_find(arena, me, 3, &way)->what == 3 && sx_held_find(arena, me, 3, &other) == NULL);
    CHECK(sx_held_find(arena, me + 1, 3, &way) == NULL && sx_held_find_range(arena, me, 4, 4, 0)->what == 4);
    sx_held_drop(sx_held_find(arena, me, 3, &way));
    CHECK(sx_holds->count == SX_HELD_MOST - 1 && sx_held_find(arena, me, 3, &way) == NULL);
    CHECK(sx_held_find(arena, me, 2, &other)->what == 2 && sx_held_find(arena, me, 5, &way)->what == 5);

    /* in an arena that was left and joined again the old holds make room */
    more.owner = me + 1;
    CHECK(sx_held_add(&more) != NULL && sx_held_add(&more) != NULL && sx_holds->count == 2);
    sx_noting_switch(0);
    CHECK(!sx_noting() && sx_held_find(arena, me + 1, 1000, NULL) == NULL);
}

/* ---- what others read ------------------------------------------------------------------------------------------- */
struct desk {
    struct sx_arena *arena;
    sx_a64 writer;
    sx_a32 stop;
};

/* All parts of a record are of one number. */
static void write_record(struct sx_arena *arena, uint64_t n)
{
    char text[SX_WHERE_WORDS * 8] = {0};
    struct sx_held h = hold_of(arena, n);
    h.device = (uint32_t)n;
    snprintf(text, sizeof text, "%060llu", (unsigned long long)n);
    sx_trace_publish(sx_self.slot, &h, text);
    CHECK(h.record >= 0);
    sx_trace_withdraw(sx_self.slot, &h);
}

static void writes_for_ever(void *argument)
{
    struct desk *d = argument;
    atomic_store(&d->writer, my_id(d->arena));
    for (uint64_t n = 1; !atomic_load(&d->stop); n++)
        write_record(d->arena, n);
}

static void *thread_writes(void *argument)
{
    writes_for_ever(argument);
    return NULL;
}

/* How many were read. */
static uint32_t read_records(struct desk *d, uint32_t times)
{
    struct sx_participant *p = sx_participant(d->arena, atomic_load(&d->writer));
    uint32_t n = 0;
    for (uint32_t i = 0; i < times; i++)
        for (uint32_t j = 0; j < SX_TRACES; j++) {
            struct sx_trace copy;
            char text[sizeof copy.where + 1] = {0}, want[sizeof copy.where + 1] = {0};
            if (!sx_trace_read(&p->trace[j], &copy))
                continue;
            n++;
            memcpy(text, (const void *)copy.where, sizeof copy.where);
            snprintf(want, sizeof want, "%060llu", (unsigned long long)copy.since_ns);
            /* the key goes first when it is withdrawn, so it may be a later one; the rest is of one writing */
            CHECK(strcmp(text, want) == 0 && copy.device == (uint32_t)copy.since_ns && copy.key == copy.since_ns);
        }
    return n;
}

TEST(trace_is_read_whole_while_it_is_written, 0, 30)
{
    struct desk d = {.arena = arena_new()};
    pthread_t writer = thread(thread_writes, &d);
    UNTIL(atomic_load(&d.writer) != 0);
    UNTIL(read_records(&d, 100) != 0); /* one at least, amid the writing */
    read_records(&d, (uint32_t)rounds(2000));
    atomic_store(&d.stop, 1);
    joined(writer);
}

TEST(trace_is_read_whole_after_its_writer_was_killed, FORKS, 30)
{
    struct desk *d = shared(sizeof *d);
    d->arena = arena_new();
    for (int i = 0; i < rounds(10); i++) {
        atomic_store(&d->writer, 0);
        pid_t pid = spawn(writes_for_ever, d);
        UNTIL(atomic_load(&d->writer) != 0);
        read_records(d, 200);
        killed(pid);
        read_records(d, 1);
    }
}

TEST(trace_more_holds_than_records, 0, 20)
{
    struct sx_arena *arena = arena_new();
    struct sx_held h[SX_TRACES + 1];
    char text[SX_WHERE_WORDS * 8] = "a.py:1";
    my_id(arena);
    for (uint32_t i = 0; i <= SX_TRACES; i++) {
        h[i] = hold_of(arena, i + 1);
        sx_trace_publish(sx_self.slot, &h[i], text);
        CHECK((h[i].record >= 0) == (i < SX_TRACES));
    }
    sx_trace_withdraw(sx_self.slot, &h[3]);
    sx_trace_publish(sx_self.slot, &h[SX_TRACES], text);
    CHECK(h[SX_TRACES].record >= 0 && h[3].record < 0);
    sx_noting_switch(SX_NOTE_TRACE);
    sx_noting_switch(0); /* what the slots of this process say goes */
    struct sx_trace copy;
    for (uint32_t i = 0; i < SX_TRACES; i++)
        CHECK(!sx_trace_read(&sx_self.slot->trace[i], &copy));
}

/* ---- how long --------------------------------------------------------------------------------------------------- */
struct clock {
    struct sx_arena *arena;
    struct sx_mutex *m;
    sx_a32 go;
};
#define HOLDS 200

static void holds(void *argument)
{
    struct clock *c = argument;
    struct sx_held h = hold_of(c->arena, sx_held_key(c->arena, &c->m->cell));
    gate_pass(&c->go);
    for (int64_t i = 1; i <= HOLDS; i++) {
        h.since_ns = i;
        sx_trace_time(c->arena, &h, 2 * i); /* i ns */
    }
}

static void *thread_holds(void *argument)
{
    holds(argument);
    return NULL;
}

static void times_are_those_of(struct clock *c, uint64_t n)
{
    uint64_t total, longest, count;
    const struct sx_hold_time *times = (const void *)(c->arena->base + c->arena->header->regions[SX_HOLD_TIMES].offset);
    CHECK(sx_times_find(times, sx_held_key(c->arena, &c->m->cell), &total, &longest, &count));
    CHECK(count == n * HOLDS && total == n * HOLDS * (HOLDS + 1) / 2 && longest == HOLDS);
    CHECK(!sx_times_find(times, 12345, &total, &longest, &count));
}

TEST(trace_times_are_added_up_by_threads, 0, 20)
{
    struct clock c = {.arena = arena_new()};
    pthread_t threads[4];
    c.m = anonymous(c.arena);
    atomic_store(&c.go, 1);
    holds(&c); /* its entry is there: who loses the race for a new one loses the time of a hold */
    atomic_store(&c.go, 0);
    for (int i = 0; i < 4; i++)
        threads[i] = thread(thread_holds, &c);
    gate_open(&c.go);
    for (int i = 0; i < 4; i++)
        joined(threads[i]);
    times_are_those_of(&c, 5);
}

TEST(trace_times_are_added_up_by_processes, FORKS, 20)
{
    struct clock *c = shared(sizeof *c);
    c->arena = arena_new();
    c->m = named(c->arena, "m", NULL);
    pid_t pids[4];
    gate_open(&c->go);
    holds(c); /* its entry is there */
    for (int i = 0; i < 4; i++)
        pids[i] = spawn(holds, c);
    CHECK(all_end(pids, 4, 10 * SECOND));
    times_are_those_of(c, 5);
}
