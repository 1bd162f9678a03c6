/* arena.c: creating, opening, leaving and unlinking the file.
 *
 * Creation is atomic: the file is filled without a name and then linked, so nobody ever sees half a header.
 * Attaching holds the file lock (process.c) shared, unlinking and the reset after a reboot hold it exclusively, so
 * nobody attaches to a file that is being retired, and the retired mark is seen by whoever had it open already.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "core.h"

pthread_mutex_t sx_arenas_lock = PTHREAD_MUTEX_INITIALIZER;
struct sx_arena *sx_arenas;
struct sx_arena sx_closed_arena;

static const struct {
    uint32_t item_size, capacity;
} the_regions[SX_REGIONS] = {
    [SX_PROCESSES] = {sizeof(struct sx_process), SX_MAX_PROCESSES},
    [SX_PARTICIPANTS] = {sizeof(struct sx_participant), SX_MAX_PARTICIPANTS},
    [SX_INDEX_A] = {sizeof(uint32_t), 1u << SX_MAX_INDEX_LOG2},
    [SX_INDEX_B] = {sizeof(uint32_t), 1u << SX_MAX_INDEX_LOG2},
    [SX_REFERENCES] = {sizeof(uint64_t), SX_MAX_REFERENCES},
    [SX_NAMES] = {SX_NAME_UNIT, SX_MAX_NAME_UNITS},
    [SX_CELLS] = {SX_LINE, SX_MAX_CELL_UNITS},
    [SX_HOLD_TIMES] = {sizeof(struct sx_hold_time), SX_TIMES},
    [SX_ORDER] = {sizeof(struct sx_order), 1},
};

static uint64_t fnv64(const void *data, size_t n)
{
    const unsigned char *p = data;
    uint64_t h = UINT64_C(14695981039346656037);
    while (n-- > 0)
        h = (h ^ *p++) * UINT64_C(1099511628211);
    return h;
}

static uint64_t lineage_of(const char *path)
{
    uint64_t h = fnv64(path, strlen(path));
    return h == 0 ? 1 : h; /* 0 stands for "none yet" in a cell */
}

bool sx_boot_id(uint8_t id[16])
{
    char text[64] = {0};
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC), n = 0;
    memset(id, 0, 16);
    if (fd < 0)
        return false;
    ssize_t r = read(fd, text, sizeof text - 1);
    close(fd);
    for (ssize_t i = 0; i < r && n < 32; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0)
            continue;
        id[n / 2] = (uint8_t)(id[n / 2] << 4 | digit);
        n++;
    }
    return n == 32;
}

/* The part of the header that is written once: the same for every arena of this ABI but for id, place and time. */
static void describe(struct sx_header *h)
{
    h->magic = SX_MAGIC;
    h->abi = SX_ABI;
    h->header_size = sizeof *h;
    h->pointer_size = sizeof(void *);
    h->mutex_kind = sx_life_kind();
    uint64_t offset = SX_PAGE;
    for (int i = 0; i < SX_REGIONS; i++) {
        uint64_t bytes = (uint64_t)the_regions[i].item_size * the_regions[i].capacity;
        h->regions[i] = (struct sx_region){offset, the_regions[i].item_size, the_regions[i].capacity};
        offset += (bytes + SX_PAGE - 1) / SX_PAGE * SX_PAGE;
    }
    h->total_size = offset;
}

static uint64_t checksum(const struct sx_header *h)
{
    return fnv64(h, offsetof(struct sx_header, checksum));
}

/* Is this the header of an arena of our ABI?  Everything in it that we rely on is compared with what we would have
 * written. */
enum sx_status sx_header_examine(const struct sx_header *h)
{
    struct sx_header want;
    if (h->magic != SX_MAGIC)
        return SX_NOT_AN_ARENA;
    if (h->abi != SX_ABI)
        return SX_OTHER_VERSION;
    want = *h;
    describe(&want);
    if (checksum(h) != h->checksum)
        return SX_DAMAGED;
    /* another word size or another glibc */
    return memcmp(&want, h, offsetof(struct sx_header, checksum)) != 0 ? SX_OTHER_VERSION : SX_OK;
}

/* Is the file a whole arena? */
enum sx_status sx_arena_examine(int fd, struct sx_header *h, const struct stat *st)
{
    if (!S_ISREG(st->st_mode) || pread(fd, h, sizeof *h, 0) != (ssize_t)sizeof *h)
        return SX_NOT_AN_ARENA;
    enum sx_status s = sx_header_examine(h);
    return s == SX_OK && (uint64_t)st->st_size < h->total_size ? SX_DAMAGED : s;
}

/* ---- creating ---------------------------------------------------------------------------------------- */
static enum sx_status fill(int fd, const char *path, bool named, mode_t mode)
{
    union {
        struct sx_header h;
        unsigned char page[SX_PAGE];
    } u;
    memset(&u, 0, sizeof u);
    struct sx_header *h = &u.h;
    if (getrandom(h->id, sizeof h->id, 0) != (ssize_t)sizeof h->id)
        return SX_ERRNO;
    h->lineage = lineage_of(path);
    h->created_ns = (uint64_t)sx_realtime();
    h->transient = named;
    describe(h);
    h->checksum = checksum(h);
    sx_boot_id(h->boot_id);
    h->index_shape = SX_MIN_INDEX_LOG2;
    h->lock.cell.units = sizeof h->lock / SX_LINE;
    h->lock.cell.tag = SX_TAG(SX_KIND_ARENA_LOCK);
    memcpy((void *)h->lock.cell.arena_id, h->id, sizeof h->id);
    int r = posix_fallocate(fd, 0, SX_PAGE);
    /* a page of each region that attaching and tidying up need: they must work on a full file system */
    for (int i = SX_PROCESSES; i <= SX_INDEX_B && r == 0; i++) {
        uint64_t first = i == SX_PARTICIPANTS ? SX_PARTICIPANTS_STEP : SX_PAGE;
        r = posix_fallocate(fd, (off_t)h->regions[i].offset, (off_t)first);
        h->ready[i] = first;
    }
    if (r != 0) {
        errno = r;
        return SX_ERRNO;
    }
    if (ftruncate(fd, (off_t)h->total_size) != 0 || pwrite(fd, &u, sizeof u, 0) != (ssize_t)sizeof u ||
        fchmod(fd, mode) != 0)
        return SX_ERRNO;
    return SX_OK;
}

/* Makes the file under a temporary or no name, then gives it its own.  SX_EXISTS: somebody was faster. */
static enum sx_status create(const char *path, bool named, mode_t mode)
{
    size_t n = strlen(path);
    char *other = malloc(n + 32), *slash;
    if (other == NULL)
        return SX_ERRNO;
    strcpy(other, path);
    slash = strrchr(other, '/');
    slash[slash == other ? 1 : 0] = 0;
    char proc[64];
    bool temporary = false;
    int fd = open(other, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        snprintf(other, n + 32, "%s.XXXXXX", path);
        fd = mkostemp(other, O_CLOEXEC);
        temporary = true;
    }
    enum sx_status s = fd < 0 ? SX_ERRNO : fill(fd, path, named, mode);
    if (s == SX_OK) {
        snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
        if (linkat(AT_FDCWD, temporary ? other : proc, AT_FDCWD, path, temporary ? 0 : AT_SYMLINK_FOLLOW) != 0)
            s = errno == EEXIST ? SX_EXISTS : SX_ERRNO;
    }
    int saved = errno;
    if (temporary)
        unlink(other);
    if (fd >= 0)
        close(fd);
    free(other);
    errno = saved;
    return s;
}

/* ---- opening ----------------------------------------------------------------------------------------- */

/* Takes the name away from this very file, unless the name leads to another one by now.  The file lock is held
 * exclusively, and only its holder ever unlinks this file, so the check cannot be overtaken. */
static bool unlink_path(const char *path, dev_t device, ino_t inode)
{
    struct stat st;
    return lstat(path, &st) != 0 || st.st_dev != device || st.st_ino != inode || unlink(path) == 0;
}

/* The machine was started anew since anybody used this file: all holders are dead.  Repeated if it is cut short,
 * since the boot id is written last. */
static void reset_after_boot(struct sx_arena *arena, const uint8_t boot_id[16])
{
    sx_participant_reset(arena);
    sx_process_reset(arena);
    atomic_thread_fence(memory_order_seq_cst);
    memcpy(arena->header->boot_id, boot_id, 16);
}

static enum sx_status map(int fd, const struct stat *st, const struct sx_header *h, const char *path,
                          struct sx_arena **out)
{
    struct sx_arena *a = calloc(1, sizeof *a + strlen(path) + 1);
    if (a == NULL)
        return SX_ERRNO;
    a->size = h->total_size;
    a->base = mmap(NULL, a->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (a->base == MAP_FAILED) {
        free(a);
        return SX_ERRNO;
    }
    a->header = (struct sx_header *)a->base;
    a->processes = (struct sx_process *)(a->base + h->regions[SX_PROCESSES].offset);
    a->participants = (struct sx_participant *)(a->base + h->regions[SX_PARTICIPANTS].offset);
    a->references = (sx_a64 *)(a->base + h->regions[SX_REFERENCES].offset);
    a->names = a->base + h->regions[SX_NAMES].offset;
    a->cells = a->base + h->regions[SX_CELLS].offset;
    a->fd = fd;
    a->device = st->st_dev;
    a->inode = st->st_ino;
    memcpy(a->id, h->id, sizeof a->id);
    a->lineage = h->lineage;
    a->process = SX_NOBODY;
    pthread_mutex_init(&a->local, NULL);
    strcpy(a->path, path);
    /* The witness is a description of its own: a mapping keeps the description that it was made through, and a forked
       child inherits the mapping, so that a byte locked through that one would outlive us. */
    int own = sx_reopen(a);
    if (own < 0) {
        munmap(a->base, a->size);
        free(a);
        return SX_ERRNO;
    }
    close(fd);
    a->fd = own;
    *out = a;
    return SX_OK;
}

static void unmap(struct sx_arena *a)
{
    munmap(a->base, a->size);
    if (sx_is_arena(a, a->fd))
        close(a->fd);
    pthread_mutex_destroy(&a->local);
    free(a->known);
    free(a);
}

/* The mutable part of a header may be damaged too: bounds that everything else relies on. */
static bool plausible(const struct sx_header *h)
{
    for (int i = 0; i < SX_REGIONS; i++)
        if (h->ready[i] > (uint64_t)h->regions[i].item_size * h->regions[i].capacity)
            return false;
    return true;
}

/* Attaches this process to an open, examined file: SX_RETIRED when it was unlinked meanwhile. */
static enum sx_status attach(struct sx_arena *a)
{
    uint8_t boot_id[16];
    bool known_boot = sx_boot_id(boot_id);
    enum sx_status s = sx_file_lock(a, F_RDLCK, true);
    if (s == SX_OK && known_boot && memcmp(boot_id, a->header->boot_id, 16) != 0) {
        sx_file_lock(a, F_UNLCK, false);
        s = sx_file_lock(a, F_WRLCK, true);
        /* a process of this very machine holds its byte: no reboot, but a container with a boot id of its own, or a
         * creator without /proc */
        if (s == SX_OK && memcmp(boot_id, a->header->boot_id, 16) != 0 && !sx_witnessed(a))
            reset_after_boot(a, boot_id);
    }
    if (s != SX_OK)
        return s;
    if (atomic_load(&a->header->retired)) {
        sx_file_lock(a, F_UNLCK, false);
        s = sx_file_lock(a, F_WRLCK, true);
        /* its unlinker died before it got that far; not ours to unlink (a sticky directory): say so, do not try again */
        if (s == SX_OK)
            s = unlink_path(a->path, a->device, a->inode) ? SX_RETIRED : SX_ERRNO;
        int saved = errno;
        sx_file_lock(a, F_UNLCK, false);
        errno = saved;
        return s;
    }
    s = plausible(a->header) ? sx_process_attach(a) : SX_DAMAGED;
    sx_file_lock(a, F_UNLCK, false);
    return s;
}

static enum sx_status open_file(const char *path, bool create_it, bool named, mode_t mode, struct sx_arena **out)
{
    for (;;) {
        struct sx_header h;
        struct stat st;
        int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0 && errno == ENOENT && create_it) {
            enum sx_status s = create(path, named, mode);
            if (s != SX_OK && s != SX_EXISTS)
                return s;
            continue;
        }
        if (fd < 0)
            return SX_ERRNO;
        enum sx_status s = fstat(fd, &st) != 0 ? SX_ERRNO : SX_OK;
        if (s == SX_OK && named && st.st_uid != geteuid()) {
            errno = EPERM;
            s = SX_ERRNO;
        }
        for (struct sx_arena *a = sx_arenas; a != NULL && s == SX_OK; a = a->next)
            if (a->device == st.st_dev && a->inode == st.st_ino && !atomic_load(&a->header->retired)) {
                close(fd);
                atomic_store(&a->open, true);
                a->handles++;
                *out = a;
                return SX_OK;
            }
        if (s == SX_OK)
            s = sx_arena_examine(fd, &h, &st);
        struct sx_arena *a = NULL;
        if (s == SX_OK)
            s = map(fd, &st, &h, path, &a);
        if (s != SX_OK) {
            int saved = errno;
            close(fd);
            errno = saved;
            return s;
        }
        pthread_mutex_lock(&a->local);
        s = attach(a);
        if (s == SX_OK)
            sx_process_reap(a);
        pthread_mutex_unlock(&a->local);
        if (s != SX_OK) {
            int saved = errno;
            unmap(a);
            errno = saved;
            if (s == SX_RETIRED && create_it)
                continue;
            if (s == SX_RETIRED) {
                errno = ENOENT;
                s = SX_ERRNO;
            }
            return s;
        }
        a->handles = 1;
        atomic_store(&a->open, true);
        a->next = sx_arenas;
        sx_arenas = a;
        *out = a;
        return SX_OK;
    }
}

static void register_exit(void)
{
    atexit(sx_arena_leave_all);
}

/* path: absolute.  named: a per-user arena, which must belong to us and goes with its last user.  Called without the
 * host's lock. */
enum sx_status sx_arena_open(const char *path, bool create_it, bool named, mode_t mode, struct sx_arena **out)
{
    static pthread_once_t at_exit = PTHREAD_ONCE_INIT;
    sx_install_fork_handlers();
    pthread_once(&at_exit, register_exit);
    sx_hostless = true;
    pthread_mutex_lock(&sx_arenas_lock);
    enum sx_status s = open_file(path, create_it, named, mode, out);
    pthread_mutex_unlock(&sx_arenas_lock);
    if (s == SX_OK && atomic_load(&(*out)->header->orphans)) {
        s = sx_arena_lock(*out);
        if (s == SX_OK) {
            s = atomic_load(&(*out)->header->orphans) ? sx_arena_rebuild(*out) : SX_OK;
            sx_arena_unlock(*out);
        }
        if (s != SX_OK)
            sx_arena_release(*out);
    }
    sx_hostless = false;
    return s;
}

/* ---- the lock ---------------------------------------------------------------------------------------- */
static enum sx_status lock_until(struct sx_arena *arena, int64_t deadline)
{
    enum sx_status s = sx_mutex_lock(arena, &arena->header->lock, deadline);
    if (s == SX_OWNER_DIED) {
        s = sx_arena_rebuild(arena);
        if (s != SX_OK) {
            atomic_store(&arena->header->damaged, 1);
            sx_mutex_unlock(arena, &arena->header->lock, true);
        }
    }
    return s;
}

enum sx_status sx_arena_lock(struct sx_arena *arena)
{
    return lock_until(arena, SX_NEVER);
}

enum sx_status sx_arena_trylock(struct sx_arena *arena)
{
    return lock_until(arena, 0);
}

void sx_arena_unlock(struct sx_arena *arena)
{
    sx_mutex_unlock(arena, &arena->header->lock, false);
}

/* Finds processes that died without leaving and takes back what they knew. */
enum sx_status sx_arena_collect(struct sx_arena *arena)
{
    pthread_mutex_lock(&arena->local);
    sx_process_reap(arena);
    pthread_mutex_unlock(&arena->local);
    enum sx_status s = sx_arena_lock(arena);
    if (s == SX_OK) {
        sx_known_sweep(arena);
        s = sx_arena_rebuild(arena);
        sx_arena_unlock(arena);
    }
    return s;
}

/* ---- leaving and unlinking --------------------------------------------------------------------------- */

/* Every cell is retired first, then the file, then the name: whoever dies in between leaves an arena in which some
 * cells are retired, and the next unlink, or the next to attach, goes on. */
static enum sx_status retire_cells(struct sx_arena *arena)
{
    uint64_t cursor = atomic_load(&arena->header->cells.cursor);
    for (uint32_t unit = 0; unit < cursor;) {
        struct sx_cell *cell = sx_cell_at(arena, unit);
        if (cell == NULL)
            return SX_DAMAGED;
        const struct sx_kind_operations *operations = sx_kind_operations(sx_cell_kind(cell));
        if (operations != NULL && sx_kind_size(sx_cell_kind(cell), cell->parameter) <= (size_t)cell->units * SX_LINE)
            operations->retire(cell);
        unit += cell->units;
    }
    return SX_OK;
}

/* Unlinks the arena.  Without force, SX_IN_USE while any other process is attached. */
enum sx_status sx_arena_unlink(struct sx_arena *arena, bool force)
{
    void *state = sx_host.block();
    enum sx_status s = sx_file_lock(arena, F_WRLCK, true);
    sx_host.unblock(state);
    if (s != SX_OK)
        return s;
    if (!force && (sx_other_processes(arena) || atomic_load(&arena->outside) != 0)) {
        s = SX_IN_USE;
    } else {
        s = sx_arena_lock(arena);
        if (s == SX_OK || s == SX_DAMAGED || s == SX_ERRNO) { /* what cannot be mended is unlinked all the same */
            bool locked = s == SX_OK;
            s = retire_cells(arena);
            atomic_store(&arena->header->retired, 1);
            sx_condition_dismiss(arena, NULL);
            if (locked)
                sx_arena_unlock(arena);
            unlink_path(arena->path, arena->device, arena->inode);
            s = SX_OK;
        }
    }
    sx_file_lock(arena, F_UNLCK, false);
    return s;
}

/* The process leaves in good order: its references go, its slot, and with the last process an arena that was made
 * by name and holds no name any more.  Never waits for anybody. */
static void leave(struct sx_arena *a)
{
    if (a->process == SX_NOBODY)
        return;
    if (sx_fork_pending(a)) /* a child stands on our references: be as one that was killed, and let it collect */
        return;
    if (sx_arena_trylock(a) == SX_OK) {
        sx_known_drop_all(a);
        bool last = a->header->transient && atomic_load(&a->header->names_live) == 0;
        if (last && sx_file_lock(a, F_WRLCK, false) == SX_OK) {
            if (!sx_other_processes(a)) {
                atomic_store(&a->header->retired, 1);
                unlink_path(a->path, a->device, a->inode);
            }
            sx_file_lock(a, F_UNLCK, false);
        }
        sx_arena_unlock(a);
    } else { /* busy: our references are for the next to collect */
        atomic_store(&a->header->orphans, 1);
    }
    sx_participant_leave(a);
    pthread_mutex_lock(&a->local);
    sx_process_detach(a);
    pthread_mutex_unlock(&a->local);
}

void sx_arena_keep(struct sx_arena *arena)
{
    pthread_mutex_lock(&sx_arenas_lock);
    arena->handles++;
    pthread_mutex_unlock(&sx_arenas_lock);
}

/* One handle less.  The mapping stays while any thread of this process is registered: its life lock lies there. */
void sx_arena_release(struct sx_arena *arena)
{
    pthread_mutex_lock(&sx_arenas_lock);
    if (--arena->handles == 0) {
        sx_participant_leave(arena);
        if (arena->registered == 0) {
            leave(arena);
            for (struct sx_arena **link = &sx_arenas; *link != NULL; link = &(*link)->next)
                if (*link == arena) {
                    *link = arena->next;
                    break;
                }
            unmap(arena);
        }
    }
    pthread_mutex_unlock(&sx_arenas_lock);
}

/* At exit, after the host is gone: leaves every arena that no other thread of ours is in. */
void sx_arena_leave_all(void)
{
    sx_hostless = true;
    if (pthread_mutex_trylock(&sx_arenas_lock) != 0)
        return;
    for (struct sx_arena *a = sx_arenas; a != NULL; a = a->next) {
        sx_participant_leave(a);
        if (a->registered == 0)
            leave(a);
    }
    pthread_mutex_unlock(&sx_arenas_lock);
}
