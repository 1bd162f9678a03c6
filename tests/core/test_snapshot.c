/* test_snapshot.c: a snapshot of an arena in use, of a damaged one, and of one that is cut short while it is read. */
#include "check.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "../../syncx/_core/snapshot.h"

static struct sx_seen_object *object_named(struct sx_snapshot *s, const char *name)
{
    for (uint32_t i = 0; i < s->objects.count; i++) {
        struct sx_seen_object *o = sx_seen_object(s, i);
        if (o->name_length == strlen(name) && memcmp((char *)s->text.items + o->name_at, name, strlen(name)) == 0)
            return o;
    }
    return NULL;
}

/* Takes one of the file, or, where the arena is given, from its mapping. */
static enum sx_status take(const char *path, struct sx_arena *arena, struct sx_snapshot *s)
{
    struct sx_source source;
    enum sx_status status = arena != NULL ? sx_source_attached(arena, &source) : sx_source_open(path, &source);
    memset(s, 0, sizeof *s);
    if (status != SX_OK)
        return status;
    status = sx_snapshot_take(&source, s);
    sx_source_close(&source);
    return status;
}

/* ---- in use ----------------------------------------------------------------------------------------------------- */
struct place {
    struct sx_arena *arena;
    struct sx_mutex *mutex;
    atomic_bool stop;
};

static void *wait_for_it(void *argument)
{
    struct place *p = argument;
    STATUS(sx_mutex_lock(p->arena, p->mutex, SX_NEVER), SX_OK);
    STATUS(sx_mutex_unlock(p->arena, p->mutex, false), SX_OK);
    return NULL;
}

TEST(snapshot_of_a_holder_and_a_waiter, 0, 30)
{
    struct place p = {.arena = arena_new()};
    p.mutex = named(p.arena, "m", NULL);
    STATUS(sx_mutex_lock(p.arena, p.mutex, SX_NEVER), SX_OK);
    pthread_t waiter = thread(wait_for_it, &p);
    for (int mapped = 0; mapped < 2; mapped++) {
        struct sx_snapshot s;
        for (int64_t end = in(20 * SECOND);;) { /* the waiter gets up to look around now and then */
            STATUS(take(path_of("arena"), mapped ? p.arena : NULL, &s), SX_OK);
            if ((s.waits.count == 1 && sx_seen_wait(&s, 0)->state == SX_WAITING) || sx_now() > end)
                break;
            sx_snapshot_free(&s);
            usleep(200);
        }
        CHECK(s.waits.count == 1 && s.holds.count == 1 && s.objects.count == 1 && s.participants.count == 2);
        CHECK(s.problems.count == 0 && s.this_boot && s.witnessed);
        struct sx_seen_hold *h = sx_seen_hold(&s, 0);
        struct sx_seen_wait *w = sx_seen_wait(&s, 0);
        CHECK(h->thread == my_id(p.arena) && h->alive && h->object == 0);
        CHECK(w->object == 0 && w->holder == h->thread && w->state == SX_WAITING && !w->granted);
        CHECK(object_named(&s, "m") == sx_seen_object(&s, 0) && object_named(&s, "n") == NULL);
        CHECK(sx_seen_thread(&s, h->thread) != NULL && sx_seen_thread(&s, h->thread + (UINT64_C(1) << 32)) == NULL);
        sx_snapshot_free(&s);
    }
    STATUS(sx_mutex_unlock(p.arena, p.mutex, false), SX_OK);
    joined(waiter);
}

static void *lock_and_unlock(void *argument)
{
    struct place *p = argument;
    while (!p->stop)
        wait_for_it(p);
    return NULL;
}

/* Under TSan: all that is read while others write it is read atomically. */
TEST(snapshot_amid_a_storm, 0, 60)
{
    struct place p = {.arena = arena_new()};
    p.mutex = named(p.arena, "m", NULL);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = thread(lock_and_unlock, &p);
    for (int i = 0; i < rounds(600); i++) {
        struct sx_snapshot s;
        STATUS(take(path_of("arena"), i % 2 ? p.arena : NULL, &s), SX_OK);
        CHECK(s.problems.count == 0 && s.objects.count == 1 &&
              s.holds.count <= 2); /* the arena's own lock may be held */
        for (uint32_t j = 0; j < s.waits.count; j++) {
            struct sx_seen_wait *w = sx_seen_wait(&s, j);
            CHECK(w->object == 0 && w->kind == SX_KIND_MUTEX);
            /* nobody waits for what it holds at one and the same moment */
            for (uint32_t k = 0; k < s.holds.count; k++)
                CHECK(w->granted || !sx_seen_object(&s, 0)->stable || sx_seen_hold(&s, k)->object != 0 ||
                      sx_seen_hold(&s, k)->thread != sx_seen_participant(&s, w->participant)->id ||
                      !sx_seen_participant(&s, w->participant)->stable);
        }
        sx_snapshot_free(&s);
    }
    p.stop = true;
    for (int i = 0; i < 3; i++)
        joined(threads[i]);
}

/* ---- damaged ------------------------------------------------------------------------------------------------------ */
static void populate(void *argument)
{
    (void)argument;
    struct sx_arena *a = arena_new();
    const enum sx_kind kinds[] = {SX_KIND_MUTEX,  SX_KIND_RLOCK,     SX_KIND_SEMAPHORE, SX_KIND_PERMITS,
                                  SX_KIND_EVENT,  SX_KIND_CONDITION, SX_KIND_BARRIER,   SX_KIND_ONCE,
                                  SX_KIND_RWLOCK, SX_KIND_LATCH};
    for (size_t i = 0; i < 40; i++) {
        char name[16];
        struct sx_object object;
        snprintf(name, sizeof name, "n%zu", i);
        struct sx_request request = {
            .kind = kinds[i % (sizeof kinds / sizeof *kinds)], .parameter = 3, .create = SX_CREATE};
        STATUS(sx_object_open(a, name, (uint32_t)strlen(name), &request, &object), SX_OK);
        if (request.kind == SX_KIND_MUTEX)
            STATUS(sx_mutex_lock(a, (struct sx_mutex *)object.cell, SX_NEVER), SX_OK);
        if (request.kind == SX_KIND_RWLOCK)
            STATUS(sx_rwlock_read(a, (struct sx_rwlock *)object.cell, SX_NEVER), SX_OK);
    }
    _exit(0); /* without leaving */
}

/* What is ready of each region, spoilt here and there; what was there comes back by `undo`. */
struct change {
    off_t at;
    uint32_t was;
};

static int spoil(int fd, const struct sx_header *h, struct change *changes, int most)
{
    int n = 1 + (int)(random64() % (uint64_t)most);
    for (int i = 0; i < n; i++) {
        uint64_t region = random64() % (SX_REGIONS + 1), at;
        if (region == SX_REGIONS || h->ready[region] == 0)
            at = offsetof(struct sx_header, checksum) + 8 +
                 random64() % (offsetof(struct sx_header, lines) - offsetof(struct sx_header, checksum) - 16);
        else
            at = h->regions[region].offset + random64() % (h->ready[region] < 8192 ? h->ready[region] : 8192);
        changes[i].at = (off_t)(at / 4 * 4);
        CHECK(pread(fd, &changes[i].was, 4, changes[i].at) == 4);
        uint32_t word = changes[i].was;
        switch (random64() % 4) {
        case 0:
            word ^= 1u << random64() % 32;
            break;
        case 1:
            word = (uint32_t)random64();
            break;
        case 2:
            word = UINT32_MAX - (uint32_t)(random64() % 3);
            break;
        default:
            word = (uint32_t)(random64() % 64);
        }
        CHECK(pwrite(fd, &word, 4, changes[i].at) == 4);
    }
    return n;
}

TEST(snapshot_of_damage, FORKS, 60)
{
    struct sx_header h;
    struct sx_snapshot s;
    struct change changes[64];
    ended_well(spawn(populate, NULL));
    STATUS(take(path_of("arena"), NULL, &s), SX_OK);
    CHECK(s.objects.count == 40 && s.holds.count == 8 && s.problems.count == 0 && !sx_seen_hold(&s, 0)->alive);
    sx_snapshot_free(&s);
    int fd = open(path_of("arena"), O_RDWR | O_CLOEXEC), troubled = 0;
    CHECK(fd >= 0 && pread(fd, &h, sizeof h, 0) == sizeof h);
    for (int i = 0; i < rounds(2000); i++) {
        int n = spoil(fd, &h, changes, i % 2 ? 64 : 3);
        STATUS(take(path_of("arena"), NULL, &s), SX_OK);
        troubled += s.problems.count != 0;
        CHECK(s.objects.count <= 4096 && s.participants.count <= SX_MAX_PARTICIPANTS);
        sx_snapshot_free(&s);
        while (n-- > 0)
            CHECK(pwrite(fd, &changes[n].was, 4, changes[n].at) == 4);
    }
    CHECK(troubled > rounds(2000) / 4);
    STATUS(take(path_of("arena"), NULL, &s), SX_OK);
    CHECK(s.objects.count == 40 && s.problems.count == 0);
    sx_snapshot_free(&s);
    close(fd);
}

/* The file shrinks between opening and reading: told, and no SIGBUS. */
TEST(snapshot_of_a_file_that_shrinks, FORKS, 20)
{
    ended_well(spawn(populate, NULL));
    struct sx_source source;
    struct sx_snapshot s;
    struct sx_header h;
    STATUS(sx_source_open(path_of("arena"), &source), SX_OK);
    CHECK(pread(source.fd, &h, sizeof h, 0) == sizeof h);
    const uint64_t sizes[] = {h.regions[SX_CELLS].offset + 1000, h.regions[SX_NAMES].offset, SX_PAGE, 100, 0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        CHECK(truncate(path_of("arena"), (off_t)sizes[i]) == 0);
        enum sx_status want = sizes[i] >= sizeof h ? SX_OK : sizes[i] == 0 ? SX_NOT_AN_ARENA : SX_DAMAGED;
        STATUS(sx_snapshot_take(&source, &s), want);
        bool told = false;
        for (uint32_t j = 0; want == SX_OK && j < s.problems.count; j++)
            told |= sx_seen_problem(&s, j)->problem == SX_UNREADABLE;
        CHECK(want != SX_OK || told);
        sx_snapshot_free(&s);
    }
    sx_source_close(&source);
}

/* ---- it writes nothing ---------------------------------------------------------------------------------------------- */
/* FNV-1a of the whole file.  Its times and its blocks say less: the kernel may change them of its own accord. */
static uint64_t sum_of(const char *path)
{
    uint64_t sum = UINT64_C(14695981039346656037);
    unsigned char buffer[65536];
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    while ((n = read(fd, buffer, sizeof buffer)) > 0)
        for (ssize_t i = 0; i < n; i++)
            sum = (sum ^ buffer[i]) * UINT64_C(1099511628211);
    CHECK(n == 0 && close(fd) == 0);
    return sum;
}

TEST(snapshot_writes_nothing, FORKS, 20)
{
    ended_well(spawn(populate, NULL));
    struct sx_source source;
    struct sx_snapshot s;
    CHECK(chmod(path_of("arena"), 0400) == 0);
    uint64_t before = sum_of(path_of("arena"));
    STATUS(sx_source_open(path_of("arena"), &source), SX_OK);
    CHECK((fcntl(source.fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
    STATUS(sx_snapshot_take(&source, &s), SX_OK);
    CHECK(s.objects.count > 0);
    sx_snapshot_free(&s);
    sx_source_close(&source);
    CHECK(sum_of(path_of("arena")) == before);
}
