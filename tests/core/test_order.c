/* test_order.c: lock order: classes and edges are known once they are noted, a cycle is told once, and not where a gate or
 * the bytes of a file keep its members apart; by threads and by processes at the same time; and what a death leaves.
 */
#include "check.h"

#include "../../syncx/_core/held.h"

#define CLASSES 6

struct book {
    struct sx_arena *arena;
    uint64_t class[CLASSES];
    sx_a32 go, told, members;
};

static uint64_t class_of(struct sx_arena *arena, uint32_t n, enum sx_kind kind)
{
    char text[16];
    struct sx_order_what what = {.kind = kind, .unique = true, .text = text};
    what.length = (uint32_t)snprintf(text, sizeof text, "lock %u", n);
    what.key = sx_order_hash(kind, text, what.length);
    return sx_order_class(arena, &what);
}

static struct book *book(void)
{
    struct book *b = shared(sizeof *b);
    b->arena = arena_new();
    for (uint32_t i = 0; i < CLASSES; i++) {
        b->class[i] = class_of(b->arena, i, SX_KIND_MUTEX);
        CHECK(b->class[i] != 0);
    }
    return b;
}

/* Notes that somebody with one lock asked for another; how many members the cycle has that it closes, 0: it closes none. */
static uint32_t note(struct book *b, const struct sx_order_step *step)
{
    struct sx_order_told *told;
    STATUS(sx_order_note(b->arena, step, "a.py:1", "b.py:2", &told), SX_OK);
    uint32_t n = told == NULL ? 0 : told->count;
    for (uint32_t i = 0; i < n; i++)
        CHECK(told->link[i].to.key == told->link[(i + 1) % n].from.key);
    free(told);
    CHECK(sx_order_known(sx_order_table(b->arena, false), step));
    return n;
}

static uint32_t note_plain(struct book *b, uint32_t from, uint32_t to)
{
    struct sx_order_step step = {.from = b->class[from], .to = b->class[to]};
    return note(b, &step);
}

TEST(order_a_cycle_is_told_once, 0, 20)
{
    struct book *b = book();
    CHECK(note_plain(b, 0, 1) == 0 && note_plain(b, 1, 2) == 0 && note_plain(b, 0, 2) == 0);
    CHECK(note_plain(b, 2, 0) == 2); /* the shortest */
    CHECK(note_plain(b, 2, 0) == 0 && note_plain(b, 1, 0) == 2 && note_plain(b, 3, 4) == 0);
    CHECK(class_of(b->arena, 0, SX_KIND_MUTEX) == b->class[0]);
    struct sx_order *o = sx_order_table(b->arena, false);
    CHECK(o->classes == CLASSES && o->edges == 6 && o->lost == 0);

    struct sx_order_what unknown = {.key = 12345};
    CHECK(sx_order_find(o, &unknown) == 0 && sx_order_at(o, b->class[5] + 1) == NULL);
    sx_order_set_object(b->arena, 77, b->class[3]);
    CHECK(sx_order_of_object(o, 77) == b->class[3] && sx_order_of_object(o, 78) == 0);

    sx_order_clear(b->arena);
    CHECK(!sx_order_valid(o, b->class[0]) && sx_order_of_object(o, 77) == 0 && o->edges == 0);
    struct sx_order_told *told;
    struct sx_order_step old = {.from = b->class[0], .to = b->class[1]};
    STATUS(sx_order_note(b->arena, &old, "", "", &told), SX_NOT_FOUND);
}

TEST(order_a_gate_and_the_bytes_of_a_file_keep_apart, 0, 20)
{
    struct book *b = book();
    struct sx_order_step there = {.from = b->class[0], .to = b->class[1], .gate = {(uint32_t)b->class[5]}},
                         back = there;
    back.from = there.to;
    back.to = there.from;
    CHECK(note(b, &there) == 0 && note(b, &back) == 0);
    back.gate[0] = 0; /* and once without */
    CHECK(note(b, &back) == 2);

    struct sx_order_what file = {.key = 99, .file = 5, .last = 999, .kind = SX_KIND_FILE, .text = "f", .length = 1};
    uint64_t f = sx_order_class(b->arena, &file);
    struct sx_order_step away = {.from = f, .to = b->class[2], .ranges = {0, 9, 0, 0}};
    struct sx_order_step home = {.from = b->class[2], .to = f, .ranges = {0, 0, 10, 19}};
    CHECK(note(b, &away) == 0 && note(b, &home) == 0);
    home.ranges[2] = 9; /* one byte of what is held */
    CHECK(note(b, &home) == 2);
}

TEST(order_readers_matter_once_somebody_writes, 0, 20)
{
    struct book *b = book();
    b->class[0] = class_of(b->arena, 10, SX_KIND_RWLOCK);
    b->class[1] = class_of(b->arena, 11, SX_KIND_RWLOCK);
    struct sx_order_step there = {
        .from = b->class[0], .to = b->class[1], .held = SX_SHARED_MODE, .wanted = SX_SHARED_MODE};
    struct sx_order_step back = there;
    back.from = there.to;
    back.to = there.from;
    CHECK(note(b, &there) == 0 && note(b, &back) == 0);
    struct sx_order_told *told;
    STATUS(sx_order_note_writer(b->arena, b->class[0], &told), SX_OK);
    CHECK(told == NULL && sx_order_written(sx_order_table(b->arena, false), b->class[0]));
    STATUS(sx_order_note_writer(b->arena, b->class[1], &told), SX_OK);
    CHECK(told != NULL && told->count == 2);
    free(told);
}

/* ---- at the same time ----------------------------------------------------------------------------------------- */

/* Notes all orders of all pairs, each beginning elsewhere: each pair is a cycle, told to one of them. */
static void notes_all(struct book *b, uint32_t begin)
{
    gate_pass(&b->go);
    for (uint32_t i = 0; i < CLASSES * CLASSES; i++) {
        uint32_t at = (begin * 7 + i) % (CLASSES * CLASSES), from = at / CLASSES, to = at % CLASSES;
        if (class_of(b->arena, from, SX_KIND_MUTEX) != b->class[from])
            FAIL("a class has two numbers");
        if (from != to && note_plain(b, from, to) != 0)
            atomic_fetch_add(&b->told, 1);
        sx_order_set_object(b->arena, from + 1, b->class[from]);
    }
}

static void all_is_noted(struct book *b)
{
    struct sx_order *o = sx_order_table(b->arena, false);
    CHECK(o->classes == CLASSES && o->edges == CLASSES * (CLASSES - 1) && o->lost == 0);
    CHECK(b->told >= 1 && b->told <= CLASSES * (CLASSES - 1));
    for (uint32_t i = 0; i < CLASSES; i++)
        CHECK(sx_order_of_object(o, i + 1) == b->class[i]);
}

static void *thread_notes_all(void *argument)
{
    struct book *b = argument;
    notes_all(b, atomic_fetch_add(&b->members, 1));
    return NULL;
}

TEST(order_noted_by_threads, 0, 30)
{
    struct book *b = book();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = thread(thread_notes_all, b);
    gate_open(&b->go);
    for (int i = 0; i < 4; i++)
        joined(threads[i]);
    all_is_noted(b);
}

static void process_notes_all(void *argument)
{
    thread_notes_all(argument);
}

TEST(order_noted_by_processes, FORKS, 30)
{
    struct book *b = book();
    pid_t pids[4];
    for (int i = 0; i < 4; i++)
        pids[i] = spawn(process_notes_all, b);
    gate_open(&b->go);
    CHECK(all_end(pids, 4, 20 * SECOND));
    all_is_noted(b);
}

static void notes_for_ever(void *argument)
{
    struct book *b = argument;
    atomic_store(&b->members, 1);
    sx_futex_wake(&b->members, 1);
    for (uint32_t n = 0;; n++) {
        if (n % 64 == 63)
            sx_order_clear(b->arena);
        uint64_t from = class_of(b->arena, n % 97, SX_KIND_MUTEX), to = class_of(b->arena, n % 89, SX_KIND_MUTEX);
        struct sx_order_step step = {.from = from, .to = to};
        struct sx_order_told *told;
        if (from != 0 && to != 0 && from != to)
            sx_order_note(b->arena, &step, "a.py:1", "b.py:2", &told);
    }
}

/* Whatever was half written is passed over. */
TEST(order_who_notes_is_killed, FORKS, 60)
{
    struct book *b = book();
    for (int i = 0; i < rounds(15); i++) {
        atomic_store(&b->members, 0);
        pid_t pid = spawn(notes_for_ever, b);
        UNTIL(atomic_load(&b->members) == 1);
        usleep((useconds_t)(random64() % 2000));
        killed(pid);
        sx_order_clear(b->arena);
        for (uint32_t j = 0; j < CLASSES; j++)
            b->class[j] = class_of(b->arena, j, SX_KIND_MUTEX);
        CHECK(note_plain(b, 0, 1) == 0 && note_plain(b, 1, 2) == 0 && note_plain(b, 2, 0) == 3);
    }
}
