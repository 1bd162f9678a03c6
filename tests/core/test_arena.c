/* test_arena.c: the file.  Whatever is in it, there are status codes, in bounded time: no crash, no hang; a file
 * system that is full is an error and no SIGBUS; and after a reboot nobody of before lives.
 */
#include "check.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

static enum sx_status open_path(const char *path, struct sx_arena **a)
{
    return sx_arena_open(path, false, false, 0600, a);
}

static void write_file(const char *path, const void *bytes, size_t n, off_t at)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && pwrite(fd, bytes, n, at) == (ssize_t)n);
    close(fd);
}

static void copy_file(const char *from, const char *to)
{
    /* sparse: what nobody has written is not copied */
    struct stat st;
    int in_fd = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(in_fd >= 0 && out >= 0 && fstat(in_fd, &st) == 0 && ftruncate(out, st.st_size) == 0);
    for (off_t at = 0; (at = lseek(in_fd, at, SEEK_DATA)) >= 0;) {
        char bytes[4096];
        for (off_t end = lseek(in_fd, at, SEEK_HOLE); at < end;) {
            ssize_t n = pread(in_fd, bytes, (size_t)(end - at) < sizeof bytes ? (size_t)(end - at) : sizeof bytes, at);
            CHECK(n > 0 && pwrite(out, bytes, (size_t)n, at) == n);
            at += n;
        }
    }
    close(in_fd);
    close(out);
}

/* ---- files that are no arena, or a piece of one ----------------------------------------------------------------- */
TEST(things_that_are_no_arena, 0, 20)
{
    struct sx_arena *a;
    char zero[8192] = {0};
    STATUS(open_path(path_of("missing"), &a), SX_ERRNO);
    CHECK(errno == ENOENT);
    write_file(path_of("empty"), "", 0, 0);
    STATUS(open_path(path_of("empty"), &a), SX_NOT_AN_ARENA);
    write_file(path_of("short"), "x", 1, 0);
    STATUS(open_path(path_of("short"), &a), SX_NOT_AN_ARENA);
    write_file(path_of("zero"), zero, sizeof zero, 0);
    STATUS(open_path(path_of("zero"), &a), SX_NOT_AN_ARENA);
    STATUS(open_path(test_directory, &a), SX_ERRNO); /* EISDIR */
    CHECK(mkfifo(path_of("fifo"), 0600) == 0);
    STATUS(open_path(path_of("fifo"), &a), SX_NOT_AN_ARENA); /* and does not wait for a writer */
    CHECK(symlink("zero", path_of("link")) == 0);
    STATUS(open_path(path_of("link"), &a), SX_ERRNO); /* ELOOP: nobody leads us elsewhere */
    CHECK(errno == ELOOP);
    for (int i = 0; i < 200; i++) {
        uint64_t bytes[1024];
        for (int n = 0; n < 1024; n++)
            bytes[n] = random64();
        enum sx_status want = SX_NOT_AN_ARENA;
        if (i % 4 > 0)
            bytes[0] = SX_MAGIC, want = SX_OTHER_VERSION;
        if (i % 4 > 1)
            ((uint32_t *)bytes)[2] = SX_ABI, want = SX_DAMAGED;
        write_file(path_of("random"), bytes, sizeof bytes, 0);
        STATUS(open_path(path_of("random"), &a), want);
    }
}

TEST(truncated_arenas, 0, 20)
{
    char original[512];
    struct sx_arena *a = arena_new();
    off_t whole = (off_t)a->size;
    named(a, "n", NULL);
    sx_arena_release(a);
    strcpy(original, path_of("arena"));
    off_t sizes[] = {0,
                     1,
                     8,
                     (off_t)sizeof(struct sx_header) - 1,
                     (off_t)sizeof(struct sx_header),
                     4096,
                     65536,
                     whole / 2,
                     whole - 4096,
                     whole - 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        copy_file(original, path_of("cut"));
        CHECK(truncate(path_of("cut"), sizes[i]) == 0);
        STATUS(open_path(path_of("cut"), &a),
               sizes[i] < (off_t)sizeof(struct sx_header) ? SX_NOT_AN_ARENA : SX_DAMAGED);
        STATUS(sx_arena_open(path_of("cut"), true, false, 0600, &a),
               sizes[i] < (off_t)sizeof(struct sx_header) ? SX_NOT_AN_ARENA : SX_DAMAGED); /* and is not replaced */
    }
    copy_file(original, path_of("cut"));
    STATUS(open_path(path_of("cut"), &a), SX_OK); /* the copy itself is sound */
}

/* The part of the header that is written once: not a bit of it may differ. */
TEST(every_bit_of_the_fixed_header, 0, 30)
{
    struct sx_header h;
    struct sx_arena *a = arena_new();
    memcpy((void *)&h, a->header, sizeof h);
    sx_arena_release(a);
    for (size_t bit = 0; bit < 8 * (offsetof(struct sx_header, checksum) + 8); bit++) {
        unsigned char byte = ((unsigned char *)&h)[bit / 8] ^ (unsigned char)(1 << bit % 8);
        write_file(path_of("arena"), &byte, 1, (off_t)(bit / 8));
        enum sx_status s = open_path(path_of("arena"), &a);
        if (s != SX_NOT_AN_ARENA && s != SX_OTHER_VERSION && s != SX_DAMAGED)
            FAIL("bit %zu: %s", bit, status_name(s));
        write_file(path_of("arena"), (unsigned char *)&h + bit / 8, 1, (off_t)(bit / 8));
    }
    STATUS(open_path(path_of("arena"), &a), SX_OK);
}

/* Sound by its checksum, but of another make. */
TEST(another_make, 0, 20)
{
    struct sx_arena *a = arena_new();
    struct sx_header *h = a->header;
    h->pointer_size = 4;
    uint64_t sum = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < offsetof(struct sx_header, checksum); i++)
        sum = (sum ^ ((unsigned char *)h)[i]) * UINT64_C(1099511628211);
    h->checksum = sum;
    copy_file(path_of("arena"), strcat(strcpy((char[512]){0}, test_directory), "/copy"));
    STATUS(open_path(path_of("copy"), &a), SX_OTHER_VERSION);
}

/* ---- damage in the living part ------------------------------------------------------------------------------------ */
struct damage {
    uint64_t seed;
    bool live; /* after attaching, rather than before */
    sx_a32 fine, refused;
};

static void populate(void *argument)
{
    (void)argument;
    struct sx_arena *a = arena_new();
    for (int i = 0; i < 60; i++) {
        char name[64];
        snprintf(name, sizeof name, "n%d%.*s", i, i % 50, "..................................................");
        CHECK(usable(a, named(a, name, NULL)));
        anonymous(a);
    }
    for (int i = 0; i < 60; i += 7) {
        char name[64];
        snprintf(name, sizeof name, "n%d%.*s", i, i % 50, "..................................................");
        STATUS(sx_object_unlink(a, name, (uint32_t)strlen(name), true), SX_OK);
    }
    sx_mutex_lock(a, named(a, "held", NULL), SX_NEVER);
    _exit(0); /* without leaving: references and a slot of the dead are there to be found */
}

/* Mostly where something is: the header's living part and the pages of each region that are ready; bits, bytes, words
 * and the odd large or small number. */
static void spoil(char *base, const struct sx_header *h, uint64_t seed)
{
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
#define NEXT() (x ^= x << 13, x ^= x >> 7, x ^= x << 17, x)
    int hits = 1 + (int)(NEXT() % 24);
    for (int i = 0; i < hits; i++) {
        uint64_t region = NEXT() % (SX_REGIONS + 1), at;
        if (region == SX_REGIONS || h->ready[region] == 0)
            at = offsetof(struct sx_header, checksum) + 8 +
                 NEXT() % (sizeof *h - offsetof(struct sx_header, checksum) - 8);
        else
            at = h->regions[region].offset + NEXT() % (h->ready[region] < 8192 ? h->ready[region] : 8192);
        at = at / 4 * 4;
        uint32_t *word = (uint32_t *)(base + at);
        switch (NEXT() % 6) {
        case 0:
            *word ^= 1u << NEXT() % 32;
            break;
        case 1:
            *word ^= 0xffu << NEXT() % 4 * 8;
            break;
        case 2:
            *word = (uint32_t)NEXT();
            break;
        case 3:
            *word = UINT32_MAX - (uint32_t)(NEXT() % 3);
            break;
        case 4:
            *word = (uint32_t)(NEXT() % 64);
            break;
        case 5:
            *word += (uint32_t)(NEXT() % 5) - 2;
            break;
        }
    }
#undef NEXT
}

static void note(struct damage *d, enum sx_status s)
{
    if ((unsigned)s > SX_ERRNO)
        FAIL("no status: %d", (int)s);
    atomic_fetch_add(s == SX_OK || s == SX_OWNER_DIED || s == SX_NOT_FOUND ? &d->fine : &d->refused, 1);
}

static void try_it(struct damage *d, struct sx_arena *a, struct sx_object *o)
{
    uint64_t me;
    enum sx_status s = sx_mutex_lock(a, (struct sx_mutex *)o->cell, in(MS));
    note(d, s);
    if (s == SX_OK || s == SX_OWNER_DIED)
        note(d, sx_mutex_unlock(a, (struct sx_mutex *)o->cell, s == SX_OWNER_DIED));
    note(d, sx_identity(a, &me));
    sx_object_close(a, o);
}

static void *registers(void *argument)
{
    uint64_t me;
    sx_identity(argument, &me);
    return NULL;
}

static void uses_damaged(void *argument)
{
    struct damage *d = argument;
    struct sx_arena *a;
    struct sx_object o;
    enum sx_kind found;
    enum sx_status s = open_path(path_of("spoiled"), &a);
    note(d, s);
    if (s != SX_OK)
        return;
    if (d->live) {
        /* all but our own life lock, in whose list glibc keeps addresses of this process */
        unsigned char life[SX_LINE];
        struct sx_participant *p = sx_participant(a, my_id(a));
        memcpy(life, p->life.bytes, sizeof life);
        spoil(a->base, a->header, d->seed);
        memcpy(p->life.bytes, life, sizeof life);
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 70; i++) {
            char name[64];
            snprintf(name, sizeof name, "n%d%.*s", i, i % 50, "..................................................");
            s = open_named(a, name, (uint32_t)strlen(name), SX_KIND_MUTEX, SX_CREATE, &o, &found);
            note(d, s);
            if (s == SX_OK)
                try_it(d, a, &o);
            if (i % 5 == 0)
                note(d, sx_object_unlink(a, name, (uint32_t)strlen(name), i % 10 == 0));
        }
        for (uint32_t i = 0; i < 20; i++) {
            s = open_nameless(a, SX_KIND_MUTEX, &o);
            note(d, s);
            if (s == SX_OK)
                try_it(d, a, &o);
            s = sx_object_reference(a, i * 2, i % 3, SX_KIND_MUTEX, &o);
            note(d, s);
            if (s == SX_OK)
                try_it(d, a, &o);
        }
        joined(thread(registers, a));
        note(d, sx_arena_collect(a));
    }
    note(d, sx_arena_unlink(a, d->seed % 2 == 0));
    sx_arena_release(a);
}

static void survives(bool live, uint64_t from, uint64_t to)
{
    struct damage *d = shared(sizeof *d);
    char original[512], spoiled[512];
    strcpy(original, path_of("arena"));
    strcpy(spoiled, path_of("spoiled"));
    ended_well(spawn(populate, NULL));
    d->live = live;
    for (uint64_t seed = from; seed < to; seed++) {
        d->seed = seed;
        copy_file(original, spoiled);
        if (!live) {
            struct stat st;
            int fd = open(spoiled, O_RDWR | O_CLOEXEC);
            CHECK(fd >= 0 && fstat(fd, &st) == 0);
            char *base = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            CHECK(base != MAP_FAILED);
            spoil(base, (struct sx_header *)base, seed);
            munmap(base, (size_t)st.st_size);
            close(fd);
        }
        pid_t pid = spawn(uses_damaged, d);
        int status = 0;
        int64_t limit = in(slow_machine ? 20 * SECOND : 5 * SECOND);
        while (waitpid(pid, &status, WNOHANG) == 0) {
            if (sx_now() > limit) {
                kill(pid, SIGKILL);
                FAIL("seed %d%s: a hang", (int)seed, live ? ", live" : "");
            }
            usleep(300);
        }
        if (status != 0)
            FAIL("seed %d%s: wait status %#x", (int)seed, live ? ", live" : "", (unsigned)status);
        unlink(spoiled);
    }
    CHECK(d->fine != 0 && d->refused != 0);
}

TEST(a_damaged_body_before_attaching, FORKS | HEAVY, 60)
{
    survives(false, 1, 1 + (uint64_t)rounds(400));
}
TEST(a_damaged_body_while_attached, FORKS | HEAVY, 60)
{
    survives(true, 1, 1 + (uint64_t)rounds(400));
}

/* A word that names a slot that cannot be: no lock, no wait for ever, and no look beyond the slots. */
TEST(an_impossible_holder, 0, 20)
{
    struct sx_arena *a = arena_new();
    struct sx_mutex *m = named(a, "m", NULL);
    my_id(a);
    for (uint32_t slot = sx_participants_ready(a); slot < 0xfffe; slot = slot * 2 + 1) {
        m->word = UINT64_C(7) << 32 | (uint64_t)(slot + 1) << SX_SLOT_SHIFT;
        STATUS(sx_mutex_lock(a, m, 0), SX_DAMAGED);
        STATUS(sx_mutex_lock(a, m, in(SECOND)), SX_DAMAGED);
        STATUS(sx_mutex_lock(a, m, SX_NEVER), SX_DAMAGED);
        STATUS(sx_mutex_unlock(a, m, false), SX_NOT_OWNER);
        STATUS(sx_object_unlink(a, "m", 1, false), SX_OK);
        m = named(a, "m", NULL);
    }
    CHECK(usable(a, m));
}

/* ---- a full file system ---------------------------------------------------------------------------------------------- */
static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = write(fd, text, strlen(text));
        (void)n;
        close(fd);
    }
}

/* A mount namespace of our own, so that nothing of it is left. */
static void may_mount(void)
{
    char map[64];
    uid_t uid = getuid();
    gid_t gid = getgid();
    if (unshare(CLONE_NEWNS) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
            skip("no file system can be mounted here");
        write_text("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "0 %u 1", uid);
        write_text("/proc/self/uid_map", map);
        snprintf(map, sizeof map, "0 %u 1", gid);
        write_text("/proc/self/gid_map", map);
    }
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        skip("no file system can be mounted here");
}

static void tiny_file_system(int kilobytes)
{
    char options[64];
    snprintf(options, sizeof options, "size=%dk,mode=700", kilobytes);
    if (mount("tmpfs", test_directory, "tmpfs", MS_NOSUID | MS_NODEV, options) != 0)
        skip("no file system can be mounted here");
}

/* true: it was done; false: there was no room; anything else fails */
static bool had_room(enum sx_status s)
{
    if (s == SX_ERRNO && errno == ENOSPC)
        return false;
    STATUS(s, SX_OK);
    return true;
}

static sx_a32 *no_room, *room;

static void *registers_if_it_can(void *argument)
{
    struct sx_arena *a = argument;
    uint64_t me;
    atomic_fetch_add(had_room(sx_identity(a, &me)) ? room : no_room, 1);
    gate_pass(&room[1]);
    return NULL;
}

static void fills_it(void *argument)
{
    struct sx_arena *a;
    struct sx_object objects[4096], o;
    enum sx_kind found;
    char name[32];
    uint32_t n = 0, threads = 0;
    pthread_t t[40];
    tiny_file_system(*(int *)argument);
    if (!had_room(sx_arena_open(path_of("arena"), true, false, 0600, &a))) {
        /* nothing is left, or a whole arena without users: with more room all is well */
        CHECK(mount(NULL, test_directory, NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, "size=1m") == 0);
        STATUS(sx_arena_open(path_of("arena"), true, false, 0600, &a), SX_OK);
        CHECK(usable(a, named(a, "m", NULL)));
        return;
    }
    for (; n < 4096; n++) {
        snprintf(name, sizeof name, "n%u", n);
        if (!had_room(open_named(a, name, (uint32_t)strlen(name), SX_KIND_MUTEX, SX_CREATE, &objects[n], &found)))
            break;
    }
    CHECK(n < 4096);
    had_room(open_nameless(a, SX_KIND_MUTEX, &o));
    for (uint32_t i = 0; i < n; i++) /* what there is, works */
        CHECK(usable(a, (struct sx_mutex *)objects[i].cell));
    for (; threads < 40; threads++)
        t[threads] = thread(registers_if_it_can, a);
    UNTIL(room[0] + no_room[0] == 40);
    gate_open(&room[1]);
    for (uint32_t i = 0; i < threads; i++)
        joined(t[i]);
    had_room(sx_arena_collect(a));
    for (uint32_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "n%u", i);
        CHECK(usable(a, (struct sx_mutex *)objects[i].cell));
        if (i % 2 == 0)
            STATUS(sx_object_unlink(a, name, (uint32_t)strlen(name), false), SX_OK);
        sx_object_close(a, &objects[i]);
    }
    if (n > 1)
        STATUS(open_named(a, "n1", 2, SX_KIND_MUTEX, SX_OPEN, &o, &found), SX_OK);
    had_room(open_named(a, "n0", 2, SX_KIND_MUTEX, SX_CREATE, &o, &found));
    STATUS(sx_arena_unlink(a, true), SX_OK); /* removing never needs room */
    sx_arena_release(a);
}

TEST(a_full_file_system, FORKS | HEAVY, 40)
{
    room = shared(2 * sizeof *room);
    no_room = shared(sizeof *no_room);
    int *kilobytes = shared(sizeof *kilobytes);
    may_mount();
    uint32_t refused = 0;
    for (*kilobytes = 4; *kilobytes <= 240; *kilobytes += *kilobytes < 64 || !slow_machine ? 4 : 32) {
        pid_t pid = spawn(fills_it, kilobytes);
        int status = ended(pid);
        if (status == 77 << 8)
            skip("no file system can be mounted here");
        if (status != 0)
            FAIL("%d kB: wait status %#x", *kilobytes, (unsigned)status);
        umount2(test_directory, MNT_DETACH);
        refused += *no_room != 0;
        atomic_store(&room[0], 0), atomic_store(&room[1], 0), atomic_store(no_room, 0);
    }
    CHECK(refused != 0); /* threads, too, met the end of the room */
}

/* An owner of the arena's lock dies while there is no room.  A small index is rebuilt all the same; with a larger one
 * opening is refused until there is room, and the locks themselves do not care. */
static void takes_the_arena_lock(void *argument)
{
    STATUS(sx_arena_lock(argument), SX_OK);
    kill(getpid(), SIGKILL);
}

static void no_room_left(int *fd)
{
    struct statvfs fs;
    CHECK(statvfs(test_directory, &fs) == 0);
    *fd = open(path_of("filler"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(*fd >= 0 && posix_fallocate(*fd, 0, (off_t)(fs.f_bavail * fs.f_bsize)) == 0);
}

static void room_again(int fd)
{
    CHECK(ftruncate(fd, 0) == 0);
    close(fd);
}

TEST(no_room_to_rebuild, FORKS | HEAVY, 20)
{
    may_mount();
    tiny_file_system(1024);
    struct sx_arena *a = arena_new();
    struct sx_object o;
    enum sx_kind found;
    int filler;
    struct sx_mutex *m = named(a, "m", NULL);
    ended(spawn(takes_the_arena_lock, a));
    no_room_left(&filler);
    for (int i = 0; i < 3; i++)
        CHECK(usable(a, named(a, "m", NULL)));
    room_again(filler);
    for (int i = 0; i < 1500; i++) { /* an index of more than a page */
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        named(a, name, NULL);
    }
    ended(spawn(takes_the_arena_lock, a));
    no_room_left(&filler);
    for (int i = 0; i < 3; i++) {
        CHECK(!had_room(open_named(a, "m", 1, SX_KIND_MUTEX, SX_CREATE, &o, &found)));
        CHECK(usable(a, m));
    }
    room_again(filler);
    STATUS(open_named(a, "m", 1, SX_KIND_MUTEX, SX_OPEN, &o, &found), SX_OK);
    CHECK((struct sx_mutex *)o.cell == m && usable(a, m));
    STATUS(sx_arena_collect(a), SX_OK);
    CHECK(a->header->names_live == 1501);
}

/* ---- another boot ---------------------------------------------------------------------------------------------------- */
struct boot {
    struct sx_arena *arena;
    sx_a32 held, stop;
    uint64_t word;
};

static void holds_over_the_reboot(void *argument)
{
    struct boot *b = argument;
    struct sx_arena *a = arena_new();
    struct sx_mutex *m = named(a, "m", NULL);
    STATUS(sx_mutex_lock(a, m, SX_NEVER), SX_OK);
    anonymous(a);
    b->word = m->word;
    gate_open(&b->held);
    gate_pass(&b->stop);
    STATUS(sx_mutex_unlock(a, m, false), SX_OK);
}

static void another_boot_id(const char *path, int i)
{
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    off_t at = (off_t)offsetof(struct sx_header, boot_id) + i;
    CHECK(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 0x40;
    CHECK(pwrite(fd, &byte, 1, at) == 1);
    close(fd);
}

/* A copy of the file stands for the file that was there before: its holder's thread and pid live, the words say so. */
TEST(another_boot, FORKS, 20)
{
    struct boot *b = shared(sizeof *b);
    char original[512], copy[512];
    struct sx_arena *a;
    uint32_t value;
    strcpy(original, path_of("arena"));
    strcpy(copy, path_of("copy"));
    pid_t pid = spawn(holds_over_the_reboot, b);
    gate_pass(&b->held);
    copy_file(original, copy);

    STATUS(open_path(copy, &a), SX_OK); /* the same boot: the words are believed, for a belt's time */
    struct sx_mutex *m = named(a, "m", NULL);
    CHECK(m->word == b->word && sx_holder_life(a, m->word, &value) == SX_ALIVE);
    int64_t start = sx_now();
    STATUS(sx_mutex_lock(a, m, in(10 * SECOND)), SX_OWNER_DIED);
    IN_TIME(sx_now() - start, BOUND);
    STATUS(sx_mutex_unlock(a, m, false), SX_OK);
    sx_arena_release(a);

    for (int i = 0; i < 16; i++) { /* another boot, whichever byte it differs in */
        copy_file(original, copy);
        another_boot_id(copy, i);
        STATUS(open_path(copy, &a), SX_OK);
        m = named(a, "m", NULL);
        CHECK(m->word == b->word && sx_holder_life(a, m->word, &value) == SX_DEAD);
        STATUS(sx_mutex_lock(a, m, 0), SX_OWNER_DIED);
        STATUS(sx_mutex_unlock(a, m, false), SX_OK);
        STATUS(sx_arena_collect(a), SX_OK);
        uint32_t cells = 0;
        for (uint32_t unit = 0; unit < a->header->cells.cursor; unit += sx_cell_at(a, unit)->units)
            cells += sx_cell_kind(sx_cell_at(a, unit)) != SX_KIND_NONE;
        CHECK(cells == 1); /* what only the processes of before knew is gone, the name is not */
        STATUS(open_path(copy, &a), SX_OK);
        CHECK((uint32_t)m->word == 0); /* not reset again: the owner did not die twice */
        sx_arena_release(a);
        sx_arena_release(a);
    }
    gate_open(&b->stop);
    ended_well(pid);
    a = arena_new();
    CHECK(usable(a, named(a, "m", NULL)));
    CHECK(named(a, "m", NULL)->statistics.recoveries == 0);
}

/* A container may have a boot id of its own: while anybody is attached there was no reboot, and nobody is declared
 * dead. */
TEST(another_boot_id_on_the_same_machine, FORKS, 20)
{
    struct boot *b = shared(sizeof *b);
    struct sx_arena *a;
    pid_t pid = spawn(holds_over_the_reboot, b);
    gate_pass(&b->held);
    another_boot_id(path_of("arena"), 3);
    STATUS(open_path(path_of("arena"), &a), SX_OK);
    struct sx_mutex *m = named(a, "m", NULL);
    STATUS(sx_mutex_lock(a, m, in(250 * MS)), SX_TIMEOUT);
    gate_open(&b->stop);
    ended_well(pid); /* its release was not refused */
    STATUS(sx_mutex_lock(a, m, 0), SX_OK);
    CHECK(m->statistics.recoveries == 0);
}
