/* test_objects.c: how long cells live, unlinking, and creators that are killed at any moment. */
#include "check.h"

static enum sx_status open_as(struct sx_arena *a, const char *name, enum sx_kind kind, enum sx_create create,
                              struct sx_object *object)
{
    enum sx_kind found;
    return open_named(a, name, (uint32_t)strlen(name), kind, create, object, &found);
}

static enum sx_status unlink_name(struct sx_arena *a, const char *name, bool force)
{
    return sx_object_unlink(a, name, (uint32_t)strlen(name), force);
}

static uint32_t cells_alive(struct sx_arena *a)
{
    uint32_t n = 0;
    for (uint32_t unit = 0; unit < a->header->cells.cursor;) {
        struct sx_cell *cell = sx_cell_at(a, unit);
        CHECK(cell != NULL);
        n += sx_cell_kind(cell) != SX_KIND_NONE;
        unit += cell->units;
    }
    return n;
}

/* What a creation cut short has taken is found again: blocks, references and index after a rebuild. */
static void consistent(struct sx_arena *a, uint32_t names, uint32_t cells)
{
    STATUS(sx_arena_collect(a), SX_OK);
    if (a->header->names_live != names || cells_alive(a) != cells)
        FAIL("%u names and %u cells, not %u and %u", a->header->names_live, cells_alive(a), names, cells);
    CHECK(a->header->damaged == 0);
}

TEST(creating_opening_and_kinds, 0, 20)
{
    struct sx_arena *a = arena_new();
    struct sx_object o, p;
    STATUS(open_as(a, "n", SX_KIND_MUTEX, SX_OPEN, &o), SX_NOT_FOUND);
    STATUS(open_as(a, "n", SX_KIND_MUTEX, SX_EXCLUSIVE, &o), SX_OK);
    CHECK(o.created);
    STATUS(open_as(a, "n", SX_KIND_MUTEX, SX_EXCLUSIVE, &p), SX_EXISTS);
    STATUS(open_as(a, "n", SX_KIND_RLOCK, SX_CREATE, &p), SX_WRONG_KIND);
    STATUS(open_as(a, "n", SX_KIND_MUTEX, SX_CREATE, &p), SX_OK);
    CHECK(!p.created && p.cell == o.cell);
    sx_object_close(a, &p);
    sx_object_close(a, &o);
    consistent(a, 1, 1);
    STATUS(unlink_name(a, "n", false), SX_OK);
    STATUS(unlink_name(a, "n", false), SX_NOT_FOUND);
    consistent(a, 0, 0);
}

TEST(cells_in_user_memory, 0, 20)
{
    struct sx_arena *a = arena_new(), *b;
    enum sx_kind found;
    struct sx_object o;
    struct sx_mutex *m = shared(sizeof *m);
    STATUS(open_at(a, m, SX_KIND_MUTEX, SX_OPEN, &o, &found), SX_NEVER_INITIALISED);
    STATUS(open_at(a, m, SX_KIND_MUTEX, SX_CREATE, &o, &found), SX_OK);
    STATUS(open_at(a, m, SX_KIND_MUTEX, SX_EXCLUSIVE, &o, &found), SX_EXISTS);
    STATUS(open_at(a, m, SX_KIND_RLOCK, SX_CREATE, &o, &found), SX_WRONG_KIND);
    STATUS(sx_arena_open(path_of("other"), true, false, 0600, &b), SX_OK);
    STATUS(open_at(b, m, SX_KIND_MUTEX, SX_OPEN, &o, &found), SX_OTHER_ARENA);
    memset((void *)m, 0x5a, sizeof *m);
    STATUS(open_at(a, m, SX_KIND_MUTEX, SX_CREATE, &o, &found), SX_DAMAGED);
}

/* Its arena is gone and made anew: the owner died with it.  Unlinking an arena under a lock that is open in the user's
 * memory takes force. */
TEST(a_cell_outlives_its_arena, 0, 20)
{
    struct sx_arena *a = arena_new();
    struct sx_mutex *m = shared(sizeof *m);
    struct sx_object o;
    enum sx_kind found;
    STATUS(open_at(a, m, SX_KIND_MUTEX, SX_CREATE, &o, &found), SX_OK);
    STATUS(sx_mutex_lock(a, m, SX_NEVER), SX_OK);
    STATUS(sx_arena_unlink(a, false), SX_IN_USE);
    sx_object_close(a, &o);
    STATUS(sx_arena_unlink(a, false), SX_OK);
    STATUS(open_at(a, m, SX_KIND_MUTEX, SX_OPEN, &o, &found), SX_RETIRED);
    sx_arena_release(a);
    a = arena_new();
    STATUS(open_at(a, m, SX_KIND_MUTEX, SX_OPEN, &o, &found), SX_OK);
    STATUS(sx_mutex_lock(a, m, in(SECOND)), SX_OWNER_DIED);
    STATUS(sx_mutex_unlock(a, m, false), SX_OK);
    STATUS(sx_mutex_lock(a, m, in(SECOND)), SX_OK);
}

/* While a handle is open the arena cannot be taken from under it; by force it can, and then only the new arena gives
 * handles of the cell.  (That old handles refuse is the binding's check: here they are sx_mutex pointers.) */
TEST(a_cell_is_not_shared_by_two_arenas, 0, 20)
{
    struct sx_arena *a = arena_new(), *b;
    struct sx_object o, p;
    enum sx_kind found;
    struct sx_mutex *m = shared(sizeof *m);
    STATUS(open_at(a, m, SX_KIND_MUTEX, SX_CREATE, &o, &found), SX_OK);
    STATUS(sx_arena_unlink(a, false), SX_IN_USE);
    b = arena_new();
    CHECK(a == b && usable(a, m));
    STATUS(sx_arena_unlink(a, true), SX_OK);
    STATUS(open_at(a, m, SX_KIND_MUTEX, SX_OPEN, &p, &found), SX_RETIRED);
    b = arena_new();
    CHECK(a != b);
    STATUS(open_at(b, m, SX_KIND_MUTEX, SX_OPEN, &p, &found), SX_OK);
    CHECK(usable(b, m));
    STATUS(open_at(a, m, SX_KIND_MUTEX, SX_OPEN, &o, &found), SX_RETIRED);
}

/* ---- references ------------------------------------------------------------------------------------------- */
struct scene {
    struct sx_arena *arena;
    struct sx_mutex *mutex;
    struct sx_object object;
    sx_a32 ready, go, done;
    sx_a32 unit, generation;
};

static void knows_and_stays(void *argument)
{
    struct scene *s = argument;
    struct sx_object o;
    STATUS(open_nameless(s->arena, SX_KIND_MUTEX, &o), SX_OK);
    s->unit = o.unit;
    s->generation = o.generation;
    STATUS(open_as(s->arena, "named", SX_KIND_MUTEX, SX_CREATE, &o), SX_OK);
    gate_open(&s->ready);
    gate_pass(&s->go);
}

TEST(what_a_killed_process_knew_is_collected, FORKS, 20)
{
    struct scene *s = shared(sizeof *s);
    struct sx_object o;
    s->arena = arena_new();
    pid_t child = spawn(knows_and_stays, s);
    gate_pass(&s->ready);
    consistent(s->arena, 1, 2);
    STATUS(unlink_name(s->arena, "named", false), SX_IN_USE);
    killed(child);
    STATUS(sx_object_reference(s->arena, s->unit, s->generation, SX_KIND_MUTEX, &o), SX_OK);
    sx_object_close(s->arena, &o);
    consistent(s->arena, 1, 1);
    STATUS(sx_object_reference(s->arena, s->unit, s->generation, SX_KIND_MUTEX, &o), SX_GONE);
    STATUS(unlink_name(s->arena, "named", false), SX_OK);
    consistent(s->arena, 0, 0);
}

TEST(an_anonymous_object_goes_with_the_last_who_knows_it, FORKS, 20)
{
    struct scene *s = shared(sizeof *s);
    struct sx_object o, p;
    s->arena = arena_new();
    pid_t child = spawn(knows_and_stays, s);
    gate_pass(&s->ready);
    STATUS(sx_object_reference(s->arena, s->unit, s->generation, SX_KIND_MUTEX, &o), SX_OK);
    gate_open(&s->go);
    ended_well(child); /* leaves in good order: its references go at once */
    CHECK(cells_alive(s->arena) == 2);
    STATUS(sx_object_reference(s->arena, s->unit, s->generation, SX_KIND_MUTEX, &p), SX_OK);
    sx_object_close(s->arena, &o);
    CHECK(cells_alive(s->arena) == 2);
    sx_object_close(s->arena, &p);
    CHECK(cells_alive(s->arena) == 1);
}

static void keeps_what_it_inherited(void *argument)
{
    struct scene *s = argument;
    gate_open(&s->ready);
    gate_pass(&s->go);
    CHECK(usable(s->arena, s->mutex));
    gate_open(&s->done);
}

static void forks_and_waits(void *argument)
{
    struct scene *s = argument;
    STATUS(open_nameless(s->arena, SX_KIND_MUTEX, &s->object), SX_OK);
    s->mutex = (struct sx_mutex *)s->object.cell;
    spawn(keeps_what_it_inherited, s);
    pause();
}

TEST(a_forked_child_keeps_what_it_inherited, FORKS, 20)
{
    struct scene *s = shared(sizeof *s);
    s->arena = arena_new();
    pid_t child = spawn(forks_and_waits, s);
    gate_pass(&s->ready);
    killed(child);
    consistent(s->arena, 0, 1);
    gate_open(&s->go);
    gate_pass(&s->done);
    UNTIL((sx_arena_collect(s->arena) == SX_OK && cells_alive(s->arena) == 0));
}

/* ---- unlinking --------------------------------------------------------------------------------------------- */
static void *is_told(void *argument)
{
    struct scene *s = argument;
    STATUS(sx_mutex_lock(s->arena, s->mutex, SX_NEVER), SX_RETIRED);
    return NULL;
}

TEST(unlink_and_recreate_is_told_to_old_handles, 0, 20)
{
    sx_belt_off = true;
    struct scene *s = shared(sizeof *s);
    pthread_t waiters[3];
    struct sx_object again;
    s->arena = arena_new();
    s->mutex = named(s->arena, "n", &s->object);
    STATUS(sx_mutex_lock(s->arena, s->mutex, SX_NEVER), SX_OK);
    STATUS(unlink_name(s->arena, "n", false), SX_IN_USE);
    for (int i = 0; i < 3; i++)
        waiters[i] = thread(is_told, s);
    UNTIL(sleepers(s->arena, s->mutex) == 3);
    STATUS(unlink_name(s->arena, "n", true), SX_OK);
    for (int i = 0; i < 3; i++)
        joined(waiters[i]); /* asleep, they were told at once */
    struct sx_mutex *fresh = named(s->arena, "n", &again);
    CHECK(again.created && fresh != s->mutex);
    CHECK(usable(s->arena, fresh));
    STATUS(sx_mutex_unlock(s->arena, s->mutex, false), SX_OK); /* a hold of before ends in good order */
    STATUS(sx_mutex_lock(s->arena, s->mutex, SX_NEVER), SX_RETIRED);
    sx_object_close(s->arena, &s->object);
    CHECK(usable(s->arena, fresh));
    consistent(s->arena, 1, 1);
}

/* A release that sees sleepers, while somebody unlinks: the retirement must not be overwritten, or one name leads to
 * two locks.  The release comes a little earlier or later from round to round. */
struct race {
    struct sx_arena *arena;
    struct sx_mutex *mutex;
    sx_a32 held, released; /* round numbers */
    sx_a32 start, stop;
    uint32_t delay;
};

static bool turn(struct race *r, sx_a32 *counter, uint32_t round)
{
    while (atomic_load(counter) != round) {
        if (atomic_load(&r->stop))
            return false;
        sched_yield();
    }
    return true;
}

static void *holds_and_releases(void *argument)
{
    struct race *r = argument;
    for (uint32_t i = 1; turn(r, &r->held, 2 * i - 1); i++) {
        STATUS(sx_mutex_lock(r->arena, r->mutex, SX_NEVER), SX_OK);
        atomic_fetch_or(&r->mutex->word, MUTEX_WAITERS); /* what a sleeper does first */
        atomic_store(&r->held, 2 * i);
        while (atomic_load(&r->start) != i)
            sx_cpu_relax();
        for (uint32_t n = 0; n < i * 7 % r->delay; n++)
            sx_cpu_relax();
        STATUS(sx_mutex_unlock(r->arena, r->mutex, false), SX_OK);
        atomic_store(&r->released, i);
    }
    return NULL;
}

TEST(a_release_does_not_undo_the_retirement, HEAVY, 30)
{
    struct race *r = shared(sizeof *r);
    r->arena = arena_new();
    r->delay = 64;
    pthread_t holder = thread(holds_and_releases, r);
    uint32_t undone = 0, i = 0;
    for (int64_t end = in(2 * SECOND); sx_now() < end;) {
        struct sx_object o;
        r->mutex = named(r->arena, "n", &o);
        i++;
        atomic_store(&r->held, 2 * i - 1);
        turn(r, &r->held, 2 * i);
        atomic_store(&r->start, i);
        STATUS(unlink_name(r->arena, "n", true), SX_OK);
        turn(r, &r->released, i);
        undone += !(r->mutex->word & MUTEX_RETIRED);
        sx_object_close(r->arena, &o);
    }
    atomic_store(&r->stop, 1);
    joined(holder);
    if (undone != 0)
        FAIL("%u of %u retirements were undone by a release", undone, i);
}

/* ---- creators killed at any moment -------------------------------------------------------------------------- */
static void busy_creator(void *argument)
{
    struct scene *s = argument;
    char name[16];
    gate_open(&s->ready);
    for (uint32_t i = 0;; i++) {
        struct sx_object o, p;
        snprintf(name, sizeof name, "k%u", i % 7);
        STATUS(open_as(s->arena, name, SX_KIND_MUTEX, SX_CREATE, &o), SX_OK);
        STATUS(open_nameless(s->arena, SX_KIND_MUTEX, &p), SX_OK);
        enum sx_status status = sx_mutex_lock(s->arena, (struct sx_mutex *)o.cell, SX_NEVER);
        CHECK(status == SX_OK || status == SX_OWNER_DIED || status == SX_RETIRED);
        if (status != SX_RETIRED)
            STATUS(sx_mutex_unlock(s->arena, (struct sx_mutex *)o.cell, false), SX_OK);
        sx_object_close(s->arena, &o);
        if (i % 3 == 0) {
            status = unlink_name(s->arena, name, true);
            CHECK(status == SX_OK || status == SX_NOT_FOUND);
        }
        sx_object_close(s->arena, &p);
    }
}

TEST(creators_killed_at_random, FORKS, 60)
{
    struct scene *s = shared(sizeof *s);
    s->arena = arena_new();
    for (int round = 0; round < rounds(400); round++) {
        pid_t pids[2];
        s->ready = 0;
        for (int i = 0; i < 2; i++)
            pids[i] = spawn(busy_creator, s);
        gate_pass(&s->ready);
        usleep((useconds_t)(random64() % 1500));
        for (int i = 0; i < 2; i++)
            killed(pids[i]);
        for (int i = 0; i < 7; i++) {
            char name[16];
            struct sx_object o;
            snprintf(name, sizeof name, "k%d", i);
            enum sx_status status = open_as(s->arena, name, SX_KIND_MUTEX, SX_CREATE, &o);
            if (status != SX_OK)
                FAIL("round %d: opening %s gave %s", round, name, status_name(status));
            CHECK(usable(s->arena, (struct sx_mutex *)o.cell));
            sx_object_close(s->arena, &o);
        }
        STATUS(sx_arena_collect(s->arena), SX_OK);
        consistent(s->arena, 7, 7);
    }
}

/* Arenas made and unlinked by processes that are killed meanwhile: the next one always gets in. */
static void busy_maker(void *argument)
{
    struct scene *s = argument;
    gate_open(&s->ready);
    for (;;) {
        struct sx_arena *a;
        enum sx_status status = sx_arena_open(path_of("made"), true, false, 0600, &a);
        STATUS(status, SX_OK);
        struct sx_object o;
        status = open_as(a, "n", SX_KIND_MUTEX, SX_CREATE, &o);
        CHECK(status == SX_OK || status == SX_RETIRED);
        status = sx_arena_unlink(a, true);
        CHECK(status == SX_OK || status == SX_RETIRED);
        sx_arena_release(a);
    }
}

TEST(arena_makers_killed_at_random, FORKS, 60)
{
    struct scene *s = shared(sizeof *s);
    for (int round = 0; round < rounds(200); round++) {
        pid_t pids[2];
        s->ready = 0;
        for (int i = 0; i < 2; i++)
            pids[i] = spawn(busy_maker, s);
        gate_pass(&s->ready);
        usleep((useconds_t)(random64() % 2000));
        for (int i = 0; i < 2; i++)
            killed(pids[i]);
        struct sx_arena *a;
        STATUS(sx_arena_open(path_of("made"), true, false, 0600, &a), SX_OK);
        CHECK(usable(a, named(a, "n", NULL)));
        CHECK(access(path_of("made"), F_OK) == 0);
        STATUS(sx_arena_unlink(a, false), SX_OK);
        CHECK(access(path_of("made"), F_OK) != 0);
        sx_arena_release(a);
    }
}
