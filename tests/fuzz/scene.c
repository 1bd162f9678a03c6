/* scene.c: the busy arena that inputs damage.
 *
 * It is played once, by two processes with eleven threads, which hold and await something of every kind, two of them each
 * other's; then it is photographed, and the players are killed.  Each input damages a copy of that picture, so that most of it
 * is right and the fuzzer gets behind the first checks.  The players' threads seem alive in it, by their life words and, unless
 * the input says otherwise, by the bytes of their processes, which a descriptor of ours holds.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "../../syncx/_core/held.h"
#include "kernel.h"
#include "scene.h"

#define LOCK_BASE (INT64_C(1) << 40) /* of process.c */
#define PLAYERS 11                   /* with the first threads of both processes, which wait for nothing */
#define SLOTS (SCENE_IDS - 2)        /* in which they may be */
#define SPOTS 64                     /* pages that damage may add */

struct scene scene;

static char *image;   /* the arena as the input has it; */
static char *picture; /* and as it was played, page after page */
static struct {
    uint32_t page[1024];
    uint32_t count;
} kept; /* pages that are not zero, and others that are in use */
static struct {
    uint32_t page[SPOTS];
    uint32_t count;
} added;
static struct world *present;
static bool rehearsal;   /* the damage is read, and not done */
static unsigned touched; /* what the input before this one could damage */

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "the scene cannot be played: %s: %s\n", what, strerror(errno));
        _exit(3);
    }
}
#define MUST(condition) must((condition), #condition)

/* ---- the play --------------------------------------------------------------------------------------------------- */
static struct sx_arena *stage;
static struct sx_object prop[SCENE_CELLS];
static pthread_barrier_t both; /* A and B have what the other one wants */

static struct sx_cell *make(const char *name, enum sx_kind kind, uint32_t parameter)
{
    struct sx_request request = {.kind = kind, .parameter = parameter, .create = SX_CREATE};
    struct scene_cell *c = &scene.cell[scene.cells];
    struct sx_object *o = &prop[scene.cells++];
    MUST((name == NULL ? sx_object_anonymous(stage, &request, o)
                       : sx_object_open(stage, name, (uint32_t)strlen(name), &request, o)) == SX_OK);
    *c = (struct scene_cell){.offset = (uint64_t)((char *)o->cell - stage->base),
                             .unit = o->unit,
                             .generation = o->generation,
                             .parameter = parameter,
                             .kind = kind,
                             .name = name};
    return o->cell;
}

enum { M, R, S, P, E, L, C, B, O, W, A, V, Q, D, N, I }; /* the order in which they are made */
#define THE(type, number) ((struct type *)prop[number].cell)

static struct sx_range range_of(int64_t first, int64_t last)
{
    struct sx_range r = {.arena = stage, .first = first, .last = last, .create = true, .path = scene.file};
    pthread_mutex_init(&r.guard, NULL);
    return r;
}

static void take_permits(uint32_t number, uint32_t n, uint32_t scoped)
{
    struct sx_death death = {0};
    uint32_t hint = 0;
    MUST(sx_permits_acquire(stage, THE(sx_permits, number), n, scoped, SX_NEVER, &hint, &death) == SX_OK);
}

static void trace(struct sx_cell *cell, const char *where)
{
    char text[SX_WHERE_WORDS * 8] = {0};
    strcpy(text, where);
    uint64_t offset = (uint64_t)((char *)cell - stage->base);
    struct sx_held held = {.arena = stage, .key = offset, .since_ns = sx_now(), .what = sx_held_key(stage, cell)};
    sx_trace_publish(sx_self.slot, &held, text);
    sx_trace_time(stage, &held, sx_now());
}

static void role_a(void)
{
    bool done;
    MUST(sx_mutex_lock(stage, THE(sx_mutex, M), SX_NEVER) == SX_OK);
    MUST(sx_mutex_lock(stage, THE(sx_mutex, R), SX_NEVER) == SX_OK && sx_rlock_again(THE(sx_mutex, R), sx_self.id));
    MUST(sx_rwlock_read(stage, THE(sx_rwlock, W), SX_NEVER) == SX_OK);
    take_permits(P, 1, PERMIT_SCOPED);
    MUST(sx_once_begin(stage, THE(sx_once, O), SX_NEVER, &done) == SX_OK && !done);
    static struct sx_range r;
    r = range_of(0, 99);
    MUST(sx_range_open(&r, -1) == SX_OK && sx_range_acquire(&r, 0) == SX_OK);
    trace(prop[M].cell, "scene.py:1");
    trace(prop[R].cell, "scene.py:2");
    pthread_barrier_wait(&both);
    sx_mutex_lock(stage, THE(sx_mutex, A), SX_NEVER);
}
static void role_b(void)
{
    MUST(sx_mutex_lock(stage, THE(sx_mutex, A), SX_NEVER) == SX_OK);
    MUST(sx_rwlock_write(stage, THE(sx_rwlock, V), SX_NEVER) == SX_OK);
    take_permits(Q, 1, 0);
    trace(prop[A].cell, "scene.py:3");
    pthread_barrier_wait(&both);
    sx_mutex_lock(stage, THE(sx_mutex, M), SX_NEVER);
}
static void role_c(void)
{
    struct sx_waiter w;
    struct sx_condition *c = THE(sx_condition, C);
    MUST(sx_mutex_lock(stage, &c->lock, SX_NEVER) == SX_OK);
    MUST(sx_condition_enrol(stage, c, SX_NEVER, &w) == SX_OK);
    MUST(sx_mutex_unlock(stage, &c->lock, false) == SX_OK);
    sx_condition_sleep(&w);
}
static void role_d(void)
{
    struct sx_arrival a;
    sx_barrier_wait(stage, THE(sx_barrier, B), SX_NEVER, SX_BARRIER_WAIT, &a);
}
static void role_e(void)
{
    MUST(sx_semaphore_acquire(stage, THE(sx_semaphore, S), 2, SX_NEVER) == SX_OK);
    take_permits(P, 2, 0);
    sx_rwlock_write(stage, THE(sx_rwlock, W), SX_NEVER);
}
static void role_f(void)
{
    sx_rwlock_read(stage, THE(sx_rwlock, V), SX_NEVER);
}
static void role_g(void)
{
    static struct sx_range r;
    r = range_of(50, 149);
    MUST(sx_range_open(&r, -1) == SX_OK);
    sx_range_acquire(&r, SX_NEVER);
}
static void role_h(void)
{
    take_permits(Q, 1, PERMIT_SCOPED);
}
static void role_i(void) /* of the second process */
{
    MUST(sx_rwlock_read(stage, THE(sx_rwlock, N), SX_NEVER) == SX_OK);
    sx_mutex_lock(stage, THE(sx_mutex, M), SX_NEVER);
}

static void *play(void *role)
{
    uint64_t me;
    MUST(sx_identity(stage, &me) == SX_OK);
    ((void (*)(void))(uintptr_t)role)();
    must(false, "a role came to its end");
    return NULL;
}

static uint32_t waiting(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < sx_participants_ready(stage); i++) {
        uint32_t state = atomic_load(&stage->participants[i].wait[0].state);
        n += sx_wait_state(state) == SX_WAITING || sx_wait_state(state) == SX_BEHIND;
    }
    return n;
}

/* Starts threads, and waits until they wait: that can only be seen. */
static void enter(void (*role)(void), void (*other)(void))
{
    pthread_t t;
    uint32_t before = waiting(), n = other == NULL ? 1 : 2;
    MUST(pthread_create(&t, NULL, play, (void *)(uintptr_t)role) == 0);
    MUST(other == NULL || pthread_create(&t, NULL, play, (void *)(uintptr_t)other) == 0);
    for (int i = 0; waiting() < before + n; i++) {
        MUST(i < 60000);
        usleep(1000);
    }
}

static void note_order(void)
{
    static const char *const names[] = {"m", "r", "w", "f"};
    for (uint32_t i = 0; i < 4; i++) {
        struct sx_order_what what = {
            .key = sx_order_hash(i, names[i], 1), .kind = SX_KIND_MUTEX, .unique = true, .text = names[i], .length = 1};
        if (i == 3)
            what.kind = SX_KIND_FILE, what.file = 7, what.last = INT64_MAX;
        scene.classes[i] = sx_order_class(stage, &what);
        MUST(scene.classes[i] != 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        struct sx_order_told *told;
        struct sx_order_step step = {.from = scene.classes[i], .to = scene.classes[i + 1], .ranges = {0, 10, 0, 10}};
        MUST(sx_order_note(stage, &step, "scene.py:4", "scene.py:5\nscene.py:6", &told) == SX_OK);
        free(told);
    }
    sx_order_set_object(stage, sx_held_key(stage, prop[M].cell), scene.classes[0]);
}

static void set_the_stage(const char *path)
{
    sx_belt_off = true;
    sx_deadlock_off = true;
    MUST(sx_arena_open(path, true, false, 0600, &stage) == SX_OK);
    make("m", SX_KIND_MUTEX, 0);
    make("r", SX_KIND_RLOCK, 0);
    make("s", SX_KIND_SEMAPHORE, 2);
    make("p", SX_KIND_PERMITS, 4);
    make("e", SX_KIND_EVENT, 0);
    make("l", SX_KIND_LATCH, 3);
    make("c", SX_KIND_CONDITION, 0);
    make("b", SX_KIND_BARRIER, 3);
    make("o", SX_KIND_ONCE, 0);
    make("w", SX_KIND_RWLOCK, 0);
    make(NULL, SX_KIND_MUTEX, 0);
    make(NULL, SX_KIND_RWLOCK, 0);
    make(NULL, SX_KIND_PERMITS, 1);
    make("a condition of another lock, with a long name that takes several units of the table of names",
         SX_KIND_CONDITION, scene.cell[0].unit + 1);
    make("n", SX_KIND_RWLOCK, 0);
    make("i", SX_KIND_ONCE, 0);
}

static void the_first_process(const char *path)
{
    set_the_stage(path);
    static const char *const passing[] = {"x", "y"};
    for (int i = 0; i < 2; i++) { /* leaves free blocks and tombstones */
        struct sx_request request = {.kind = SX_KIND_MUTEX, .create = SX_CREATE};
        struct sx_object o;
        MUST(sx_object_open(stage, passing[i], 1, &request, &o) == SX_OK);
        sx_object_close(stage, &o);
        MUST(sx_object_unlink(stage, passing[i], 1, false) == SX_OK);
    }
    bool done;
    MUST(sx_once_begin(stage, THE(sx_once, I), SX_NEVER, &done) == SX_OK && !done);
    MUST(sx_once_finish(stage, THE(sx_once, I), "result", 6) == SX_OK);
    note_order();
    MUST(pthread_barrier_init(&both, NULL, 2) == 0);
    enter(role_a, role_b);
    void (*const roles[])(void) = {role_c, role_d, role_e, role_f, role_g, role_h};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        enter(roles[i], NULL);
}

static void the_second_process(const char *path)
{
    sx_belt_off = true;
    sx_deadlock_off = true;
    MUST(sx_arena_open(path, false, false, 0600, &stage) == SX_OK);
    for (uint32_t i = 0; i < scene.cells; i++) {
        struct scene_cell *c = &scene.cell[i];
        struct sx_request request = {.kind = c->kind, .parameter = SX_ANY, .create = SX_OPEN};
        if (c->name != NULL)
            MUST(sx_object_open(stage, c->name, (uint32_t)strlen(c->name), &request, &prop[i]) == SX_OK);
    }
    enter(role_i, NULL);
}

/* Plays a part in a process of its own, and says so when all of it wait. */
static pid_t player(void (*part)(const char *path), const char *path, struct scene *told)
{
    int ready[2];
    char byte;
    MUST(pipe2(ready, O_CLOEXEC) == 0);
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        part(path);
        memcpy(told, &scene, sizeof scene);
        MUST(write(ready[1], "", 1) == 1);
        for (;;)
            pause();
    }
    close(ready[1]);
    bool good = read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    must(good, "a player ended");
    memcpy(&scene, told, sizeof scene);
    return pid;
}

/* ---- the picture -------------------------------------------------------------------------------------------------- */
static void take_picture(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    MUST(fd >= 0 && pread(fd, &scene.header, sizeof scene.header, 0) == (ssize_t)sizeof scene.header);
    size_t size = scene.header.total_size;
    const char *there = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    image = disk_make(scene.arena, &scene.header);
    picture = malloc(sizeof kept.page / sizeof *kept.page * SX_PAGE);
    MUST(there != MAP_FAILED && picture != NULL);
    for (int region = -1; region < SX_REGIONS; region++) {
        uint64_t from = region < 0 ? 0 : scene.header.regions[region].offset;
        uint64_t end = region < 0 ? SX_PAGE : from + scene.header.ready[region];
        for (; from < end; from += SX_PAGE) {
            bool any = region != SX_HOLD_TIMES && region != SX_ORDER; /* these are large, and mostly zero */
            for (uint32_t i = 0; i < SX_PAGE && !any; i++)
                any = there[from + i] != 0;
            if (!any)
                continue;
            MUST(kept.count < sizeof kept.page / sizeof *kept.page);
            memcpy(picture + (size_t)kept.count * SX_PAGE, there + from, SX_PAGE);
            memcpy(image + from, there + from, SX_PAGE);
            disk_written(from / SX_PAGE);
            kept.page[kept.count++] = (uint32_t)(from / SX_PAGE);
        }
    }
    munmap((void *)(uintptr_t)there, size);
    close(fd);

    const struct sx_participant *p = (const void *)(image + scene.header.regions[SX_PARTICIPANTS].offset);
    const struct sx_process *q = (const void *)(image + scene.header.regions[SX_PROCESSES].offset);
    for (uint32_t i = 0; i < SCENE_IDS; i++) {
        uint64_t place = (uint64_t)(i + 1) << SX_SLOT_SHIFT;
        scene.thread[i] = (uint64_t)p[i].generation << 32 | place;
        scene.process[i] = (uint64_t)q[i].generation << 32 | place;
        scene.threads += p[i].generation != 0;
    }
    MUST(scene.threads == PLAYERS);
    scene.thread[SCENE_IDS - 1] = UINT64_C(0x12345678) << 32 | SX_SLOT_MASK; /* a slot that cannot be */
    scene.process[SCENE_IDS - 1] = UINT64_C(0x12345678) << 32 | SX_SLOT_MASK;
    /* the players did not look for deadlocks, and those who do now must not take that for the players' wish */
    for (uint32_t i = 0; i < SLOTS; i++) {
        uint64_t at =
            scene.header.regions[SX_PARTICIPANTS].offset + i * sizeof *p + offsetof(struct sx_participant, wait);
        atomic_fetch_and(&((struct sx_wait *)(image + at))->mode, ~WAIT_UNWILLING);
    }
    for (uint32_t i = 0; i < kept.count; i++)
        memcpy(picture + (size_t)i * SX_PAGE, image + (size_t)kept.page[i] * SX_PAGE, SX_PAGE);
}

static void others_die(void);

static void remove_directory(void)
{
    unlink(scene.file);
    rmdir(scene.directory);
}

void scene_make(void)
{
    const char *where = getenv("SYNCX_FUZZ_DIRECTORY");
    snprintf(scene.directory, sizeof scene.directory, "%s/syncx-fuzz-XXXXXX", where != NULL ? where : "/dev/shm");
    MUST(mkdtemp(scene.directory) != NULL);
    snprintf(scene.file, sizeof scene.file, "%s/file", scene.directory);
    snprintf(scene.arena, sizeof scene.arena, "%s/arena", scene.directory);
    struct scene *told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(told != MAP_FAILED);
    pid_t players[2] = {player(the_first_process, scene.arena, told)};
    players[1] = player(the_second_process, scene.arena, told);
    take_picture(scene.arena);
    for (int i = 1; i >= 0; i--) { /* one of the second awaits what the first has */
        kill(players[i], SIGKILL);
        waitpid(players[i], NULL, 0);
    }
    munmap(told, sizeof *told);
    unlink(scene.arena);
    atexit(remove_directory);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now); /* from here on it is a count */
    kernel.others_die = others_die;
    static const uint8_t none[1];
    struct input nothing = {none, none};
    struct world w;
    must(world_open(&w, &nothing, 0), "what was not damaged is an arena");
    world_end(&w);
}

/* ---- damage --------------------------------------------------------------------------------------------------------- */

/* The page will be written; false: enough of it. */
static bool touch(uint64_t offset)
{
    uint32_t page = (uint32_t)(offset / SX_PAGE);
    for (uint32_t i = 0; i < kept.count; i++)
        if (kept.page[i] == page)
            return true;
    for (uint32_t i = 0; i < added.count; i++)
        if (added.page[i] == page)
            return true;
    if (added.count == SPOTS)
        return false;
    disk_written(page);
    added.page[added.count++] = page;
    return true;
}

struct scene_cell *some_cell(struct input *in)
{
    return &scene.cell[take8(in) % scene.cells];
}

uint64_t some_thread(struct input *in)
{
    return scene.thread[take8(in) % SCENE_IDS];
}

int64_t some_deadline(struct input *in)
{
    static const int64_t most[] = {0, 0, 1000000, 20000000, 250000000, 5000000000};
    uint32_t which = take8(in) % 8;
    kernel.in_a_row = 0; /* an operation begins */
    return which < 6 ? (most[which] == 0 ? 0 : sx_now() + most[which]) : SX_NEVER;
}

uint64_t some_value(struct input *in, unsigned width, uint64_t current)
{
    static const uint64_t extremes[] = {0,
                                        1,
                                        UINT64_MAX,
                                        INT64_MAX,
                                        UINT64_C(1) << 63,
                                        UINT32_MAX,
                                        INT32_MAX,
                                        UINT64_C(1) << 31,
                                        UINT64_C(1) << 32,
                                        SX_MAX_PARTICIPANTS,
                                        SX_MAX_PROCESSES,
                                        SX_MAX_CELL_UNITS,
                                        SX_MAX_NAME_UNITS,
                                        SX_MAX_REFERENCES,
                                        SX_MAX_PERMITS,
                                        SX_LINE,
                                        SX_PAGE,
                                        FUTEX_OWNER_DIED,
                                        FUTEX_WAITERS,
                                        SX_REFERENCE_FREE};
    uint32_t how = take8(in);
    switch (how % 8) {
    case 0:
        return width == 8 ? take64(in) : width == 4 ? take32(in) : take16(in);
    case 1:
        return extremes[take8(in) % (sizeof extremes / sizeof *extremes)] + (uint64_t)(how >> 6) - 1;
    case 2:
        return current ^ UINT64_C(1) << take8(in) % (width * 8);
    case 3:
        return current + (uint64_t)(int64_t)(int8_t)take8(in);
    case 4:
        return some_thread(in) | take8(in);
    case 5:
        return scene.process[take8(in) % SCENE_IDS] | take8(in);
    case 6:
        return some_cell(in)->offset + (how & 0x40 ? 2 * SX_LINE : 0);
    default:
        return take8(in);
    }
}

const unsigned scene_regions[16] = {
    DAMAGE_HEADER, DAMAGE_HEADER, DAMAGE_LIVES, DAMAGE_LIVES, DAMAGE_LIVES, DAMAGE_LIVES, DAMAGE_INDEX, DAMAGE_INDEX,
    DAMAGE_INDEX,  DAMAGE_CELLS,  DAMAGE_CELLS, DAMAGE_CELLS, DAMAGE_NOTES, DAMAGE_NOTES, DAMAGE_FILES, DAMAGE_FILES};

/* A place in the arena that the input may damage, or 0. */
static uint64_t some_spot(struct input *in, unsigned damage)
{
    const struct sx_region *regions = scene.header.regions;
    uint32_t which = take8(in) % 16, at = take16(in);
    for (uint32_t i = 0; !(scene_regions[which] & damage); i++)
        if ((which = (which + 1) % 16, i == 16))
            return 0;
    uint64_t participant = regions[SX_PARTICIPANTS].offset + at % SLOTS * sizeof(struct sx_participant);
    switch (which) {
    case 0:
        return offsetof(struct sx_header, boot_id) +
               at % (offsetof(struct sx_header, lines) - offsetof(struct sx_header, boot_id));
    case 1:
        return at % sizeof(struct sx_header);
    case 2:
        return regions[SX_PROCESSES].offset + at % (4 * sizeof(struct sx_process));
    case 3: {                                                          /* life, generation, process */
        static const uint8_t words[] = {0, 8, 12, 16, 64, 68, 72, 76}; /* the lock, its owner, users, kind; the ids */
        uint32_t word = take8(in);
        return participant + (word & 0x80 ? words[word % 8] : word % (2 * SX_LINE));
    }
    case 4: /* what it waits for */
        return participant + 2 * SX_LINE + take16(in) % (SX_WAITS * sizeof(struct sx_wait));
    case 5:
        return participant + take16(in) % sizeof(struct sx_participant);
    case 6:
        return regions[at & 1 ? SX_INDEX_A : SX_INDEX_B].offset + at / 2 % (4u << SX_MIN_INDEX_LOG2);
    case 7:
        return regions[SX_REFERENCES].offset + at % 512;
    case 8:
        return regions[SX_NAMES].offset + at % (scene.header.names.cursor * SX_NAME_UNIT + 64);
    case 9: /* the header of a cell */
        return scene.cell[at % scene.cells].offset + take8(in) % SX_LINE;
    case 10:
        return scene.cell[at % scene.cells].offset + SX_LINE +
               (at & 0x8000 ? take16(in) % (7 * SX_LINE) : take8(in) % (SX_LINE / 2)); /* the words are what leads it */
    case 11:
        return regions[SX_CELLS].offset + at % (scene.header.cells.cursor * SX_LINE + 128);
    case 12: {
        uint64_t order = regions[SX_ORDER].offset;
        switch (at % 8) {
        case 0:
        case 1:
            return order + at / 8 % 16;
        case 2:
            return order + offsetof(struct sx_order, class_index) + at / 8 * 4 % (2 * SX_ORDER_CLASSES * 4);
        case 3:
            return order + offsetof(struct sx_order, edge_index) + at / 8 * 4 % (2 * SX_ORDER_EDGES * 4);
        case 4:
            return order + offsetof(struct sx_order, object) + at / 8 * 16 % (SX_ORDER_OBJECTS * 16) + take8(in) % 16;
        case 5:
            return order + offsetof(struct sx_order, class) + at / 8 % (6 * sizeof(struct sx_order_class));
        default:
            return order + offsetof(struct sx_order, edge) + at / 8 % (6 * sizeof(struct sx_order_edge));
        }
    }
    case 13:
        return at & 1 ? participant + offsetof(struct sx_participant, trace) + take16(in) % sizeof(struct sx_trace)
                      : regions[SX_HOLD_TIMES].offset + take32(in) % (SX_TIMES * sizeof(struct sx_hold_time));
    case 14:
        return participant + offsetof(struct sx_participant, files) + take16(in) % (4 * sizeof(struct sx_file_hold));
    default:
        return at & 1 ? participant + 2 * SX_LINE + take8(in) % sizeof(struct sx_wait)
                      : offsetof(struct sx_header, file_tickets) + take16(in) % (SX_FILE_LINES * 16 + 64);
    }
}

static void store(void *to, unsigned width, uint64_t value)
{
    memcpy(to, &value, width); /* the low bytes: a little-endian machine */
}

static void damage_one(struct input *in, unsigned damage)
{
    static const unsigned widths[] = {4, 8, 4, 8, 2, 1, 4, 0};
    uint64_t at = some_spot(in, damage), current = 0;
    unsigned width = widths[take8(in) % 8];
    if (width == 0) { /* a run of bytes */
        uint32_t n = take8(in) % 64 + 1;
        if (at + n >= scene.header.total_size || (!rehearsal && (!touch(at) || !touch(at + n))))
            return;
        for (uint32_t i = 0; i < n; i++) {
            uint8_t byte = take8(in);
            if (!rehearsal)
                image[at + i] = (char)byte;
        }
        return;
    }
    at -= at % width;
    if (rehearsal)
        some_value(in, width, 0);
    if (rehearsal || !touch(at))
        return;
    memcpy(&current, image + at, width);
    store(image + at, width, some_value(in, width, current));
}

void damage_memory(struct input *in, void *memory, size_t size)
{
    for (uint32_t n = take8(in) % 8; n-- > 0;) {
        unsigned width = take8(in) & 1 ? 4 : 8;
        size_t at = take16(in) % size / width * width;
        uint64_t current = 0;
        memcpy(&current, (char *)memory + at, width);
        store((char *)memory + at, width, some_value(in, width, current));
    }
}

/* ---- a world ---------------------------------------------------------------------------------------------------------- */
static void witness(struct world *w, uint32_t slots)
{
    w->witness = open(scene.arena, O_RDWR | O_CLOEXEC);
    for (uint32_t slot = 0; slot < 2 && w->witness >= 0; slot++) {
        struct flock l = {.l_type = F_WRLCK, .l_start = LOCK_BASE + 1 + slot, .l_len = 1};
        if (slots & 1u << slot)
            fcntl(w->witness, F_OFD_SETLK, &l);
    }
}

static void others_die(void)
{
    if (present->witness >= 0)
        close(present->witness);
    present->witness = -1;
    if (kernel.arena == NULL)
        return;
    struct sx_header *h = (struct sx_header *)kernel.arena;
    struct sx_participant *p = (struct sx_participant *)(kernel.arena + h->regions[SX_PARTICIPANTS].offset);
    for (uint32_t i = 0; i < SX_MAX_PARTICIPANTS && (i + 1) * sizeof *p <= h->ready[SX_PARTICIPANTS]; i++)
        if (sx_self.arena == NULL || sx_self.slot != &p[i])
            if (atomic_load(sx_life_word(&p[i])) & FUTEX_TID_MASK)
                atomic_fetch_or(sx_life_word(&p[i]), FUTEX_OWNER_DIED);
}

/* What lies behind `from` and between the pages that are kept. */
static void wipe_the_rest(uint64_t from)
{
    uint32_t next = (uint32_t)(from / SX_PAGE);
    for (uint32_t i = 0; i < kept.count; i++) {
        if (kept.page[i] > next)
            disk_wipe((uint64_t)next * SX_PAGE, (uint64_t)kept.page[i] * SX_PAGE);
        if (kept.page[i] >= next)
            next = kept.page[i] + 1;
    }
    disk_wipe((uint64_t)next * SX_PAGE, scene.header.total_size);
}

/* As it was played, after an input and whatever was done with it.  Beyond what had pages then nothing was written, unless it
 * was given pages since or the input said that it had; notes are written to pages that are not kept. */
static void restore(void)
{
    const struct sx_header *h = (const struct sx_header *)image;
    if (memcmp((const void *)h->ready, (const void *)scene.header.ready, sizeof h->ready) != 0)
        wipe_the_rest(0);
    else if (touched & WRITES_NOTES)
        wipe_the_rest(scene.header.regions[SX_HOLD_TIMES].offset);
    for (uint32_t i = 0; i < added.count; i++)
        memset(image + (size_t)added.page[i] * SX_PAGE, 0, SX_PAGE);
    for (uint32_t i = 0; i < kept.count; i++)
        memcpy(image + (size_t)kept.page[i] * SX_PAGE, picture + (size_t)i * SX_PAGE, SX_PAGE);
    added.count = 0;
}

static bool interrupted(void **state, bool belt)
{
    (void)state, (void)belt;
    return kernel.sleeps > kernel.given_up;
}
static bool handles(void)
{
    return kernel.sleeps > kernel.given_up;
}
static bool report(void **state)
{
    (void)state;
    return kernel.sleeps > kernel.given_up;
}

static uint64_t checksum(const struct sx_header *h)
{
    const unsigned char *p = (const unsigned char *)h;
    uint64_t sum = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < offsetof(struct sx_header, checksum); i++)
        sum = (sum ^ p[i]) * UINT64_C(1099511628211);
    return sum;
}

/* What says how things are, before the damage: some switches, how the first sleeps end, the size of the file. */
static uint32_t read_switches(struct input *in, unsigned damage, uint64_t *size)
{
    uint32_t flags = take16(in);
    kernel.script_left = take8(in) % 8;
    if (kernel.script_left > (size_t)(in->end - in->at))
        kernel.script_left = (uint32_t)(in->end - in->at);
    kernel.script = in->at;
    in->at += kernel.script_left;
    *size = scene.header.total_size;
    if (damage & DAMAGE_SIZE && flags >> 14 & 1)
        *size = take32(in) % (flags >> 15 & 1 ? 3 * SX_PAGE : 2 * *size);
    return flags;
}

void world_write(struct world *w, struct input *in, unsigned damage)
{
    kernel_begin();
    restore();
    touched = damage;
    *w = (struct world){.in = in, .witness = -1};
    present = w;

    uint64_t size;
    uint32_t flags = read_switches(in, damage, &size);
    kernel.patience = 4 + (flags >> 2 & 15);
    kernel.given_up = kernel.patience + 4 + (flags >> 6 & 15);
    kernel.wakes = flags >> 10 & 1;
    sx_deadlock_off = flags >> 11 & 1;
    atomic_store(&sx_no_waitv, flags >> 12 & 1);
    sx_wish = (struct sx_wish){.mode = flags >> 13 & 1 ? WAIT_REPORT : 0};
    sx_host.interrupted = interrupted;
    sx_host.handles = handles;
    sx_host.report = report;

    for (uint32_t n = take8(in) % DAMAGES; n-- > 0;)
        damage_one(in, damage);
    if (damage & DAMAGE_HEADER && take8(in) & 1)
        ((struct sx_header *)image)->checksum = checksum((struct sx_header *)image);
    disk_put(size);
    witness(w, ~flags & 3);
}

void world_layout(struct input in, unsigned damage, struct layout *l)
{
    uint64_t size;
    rehearsal = true;
    read_switches(&in, damage, &size);
    l->count_at = in.at;
    l->count = take8(&in) % DAMAGES;
    for (uint32_t i = 0; i < l->count; i++) {
        l->record[i] = in.at;
        damage_one(&in, damage);
    }
    l->record[l->count] = in.at;
    rehearsal = false;
}

bool world_open(struct world *w, struct input *in, unsigned damage)
{
    world_write(w, in, damage);
    enum sx_status s = sx_arena_open(scene.arena, false, false, 0600, &w->arena);
    check_status_value(s);
    if (s != SX_OK)
        w->arena = NULL;
    return s == SX_OK;
}

void world_end(struct world *w)
{
    if (sx_self.slot != NULL) { /* what the kernel is to mark when we die is a robust mutex, and ours */
        REQUIRE((uint32_t)sx_self.slot->life.mutex.__data.__kind == sx_life_kind());
        REQUIRE((atomic_load(sx_life_word(sx_self.slot)) & FUTEX_TID_MASK) == (uint32_t)gettid());
    }
    if (w->arena != NULL)
        sx_arena_release(w->arena);
    w->arena = NULL;
    REQUIRE(sx_arenas == NULL);     /* the process has left the arena, */
    REQUIRE(sx_self.arena == NULL); /* and the thread its slot; */
    REQUIRE(kernel.arena == NULL);  /* the mapping is gone */
    if (w->witness >= 0)
        close(w->witness);
    REQUIRE(disk_take_away());
    present = NULL;
}

void check_status_value(enum sx_status s)
{
    REQUIRE((unsigned)s <= SX_ERRNO);
}
