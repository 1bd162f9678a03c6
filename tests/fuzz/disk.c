/* disk.c: the arena's file, in memory, and what the core reads in /proc.
 *
 * An input costs a tenth so of what it costs with a file that is made, mapped and unlinked each time, and pids and start
 * times of the machine's other processes have no say in it.  The file is one piece of memory that is mapped twice: all of it
 * for us (the image, scene.c), and as the core maps it, with its pages beyond `ready` out of reach and a guard behind its
 * end.  Descriptors of it have numbers that the kernel does not give, and locks on its bytes belong to them, as those of open
 * file descriptions do.  A file that the core makes is a real one.
 *
 * In /proc there is this process and no other.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "../../syncx/_core/core.h"
#include "kernel.h"

#define GUARD (1u << 20)  /* behind the arena */
#define FIRST_FD 0x100000 /* more than there can be */
#define DESCRIPTORS 64
#define LOCKS 256
#define DEVICE 0x5fd
#define INODE 4711

#define WRAPPED(type, name, ...)                                                                                       \
    type __wrap_##name(__VA_ARGS__);                                                                                   \
    type __real_##name(__VA_ARGS__)
WRAPPED(int, open, const char *path, int flags, ...);
WRAPPED(int, close, int fd);
WRAPPED(ssize_t, read, int fd, void *to, size_t n);
WRAPPED(ssize_t, pread, int fd, void *to, size_t n, off_t offset);
WRAPPED(int, stat, const char *path, struct stat *st);
WRAPPED(int, lstat, const char *path, struct stat *st);
WRAPPED(int, fstat, int fd, struct stat *st);
WRAPPED(int, unlink, const char *path);
WRAPPED(void *, mmap, void *at, size_t size, int protection, int flags, int fd, off_t offset);
WRAPPED(int, munmap, void *at, size_t size);
WRAPPED(int, posix_fallocate, int fd, off_t offset, off_t size);
WRAPPED(int, fallocate, int fd, int mode, off_t offset, off_t size);
WRAPPED(int, fcntl, int fd, int command, ...);

struct text {
    char bytes[1024];
    size_t length;
};
struct descriptor {
    enum { CLOSED, OF_ARENA, OF_TEXT } what;
    const struct text *text;
    size_t at;
};
struct lock {
    uint32_t owner; /* a descriptor's number + 1; 0: not in use */
    int type;
    off_t first, last;
};

static struct {
    const char *path;
    const struct sx_header *header; /* as it was */
    int memory;                     /* a descriptor of it */
    char *image, *room;             /* both mappings */
    bool *written;                  /* pages of the image that may not be zero */
    uint64_t size, length;          /* of the memory, and what the file says */
    bool exists, was_mapped;        /* under its name; since it was put there */
    uint64_t fence[SX_REGIONS];     /* in `room`: bytes of each region that are within reach */
    struct descriptor open[DESCRIPTORS];
    struct lock lock[LOCKS];
    uint32_t locks; /* none behind so many is in use */
} disk;

static struct {
    struct text boot_id, process, thread;
    struct stat pid, time;
    int own;
} proc;

/* ---- for the scene ------------------------------------------------------------------------------------------------ */
static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "the arena's file cannot be imitated: %s: %s\n", what, strerror(errno));
        _exit(3);
    }
}

static void keep(struct text *t, const char *path)
{
    int fd = __real_open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : __real_read(fd, t->bytes, sizeof t->bytes);
    must(n >= 0, path);
    t->length = (size_t)n;
    __real_close(fd);
}

char *disk_make(const char *path, const struct sx_header *header)
{
    uint64_t size = header->total_size;
    char task[64];
    disk.path = path;
    disk.header = header;
    disk.size = size;
    disk.memory = memfd_create("syncx-fuzz", MFD_CLOEXEC);
    must(disk.memory >= 0 && ftruncate(disk.memory, (off_t)size) == 0, "its memory");
    disk.image = __real_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, disk.memory, 0);
    disk.room = __real_mmap(NULL, size + GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    disk.written = calloc(size / SX_PAGE, sizeof *disk.written);
    must(disk.written != NULL && disk.image != MAP_FAILED && disk.room != MAP_FAILED &&
             __real_mmap(disk.room, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, disk.memory,
                         0) == disk.room,
         "its mappings");
    memset(disk.fence, 0xff, sizeof disk.fence);
    proc.own = getpid();
    snprintf(task, sizeof task, "/proc/%d/task/%d/stat", proc.own, proc.own);
    keep(&proc.boot_id, "/proc/sys/kernel/random/boot_id");
    keep(&proc.process, "/proc/self/stat");
    keep(&proc.thread, task);
    must(__real_stat("/proc/self/ns/pid", &proc.pid) == 0, "/proc/self/ns/pid");
    if (__real_stat("/proc/self/ns/time", &proc.time) != 0)
        proc.time.st_ino = 0;
    return disk.image;
}

void disk_put(uint64_t length)
{
    disk.exists = true;
    disk.was_mapped = false;
    disk.length = length;
}

void disk_written(uint64_t page)
{
    disk.written[page] = true;
}

bool disk_take_away(void)
{
    if (!disk.exists)
        __real_unlink(disk.path); /* the core may have made another one */
    disk.exists = false;
    for (uint32_t i = 0; i < DESCRIPTORS; i++)
        if (disk.open[i].what != CLOSED)
            return false;
    return true;
}

void disk_wipe(uint64_t from, uint64_t end)
{
    must(__real_fallocate(disk.memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(end - from)) ==
             0,
         "wiping it");
}

/* ---- descriptors -------------------------------------------------------------------------------------------------- */
static struct descriptor *of(int fd)
{
    bool ours = fd >= FIRST_FD && fd < FIRST_FD + DESCRIPTORS && disk.open[fd - FIRST_FD].what != CLOSED;
    return ours ? &disk.open[fd - FIRST_FD] : NULL;
}

static bool is_arena(int fd)
{
    struct descriptor *d = of(fd);
    return d != NULL && d->what == OF_ARENA;
}

static int descriptor(const struct text *text)
{
    for (uint32_t i = 0; i < DESCRIPTORS; i++)
        if (disk.open[i].what == CLOSED) {
            disk.open[i] = (struct descriptor){.what = text == NULL ? OF_ARENA : OF_TEXT, .text = text};
            return FIRST_FD + (int)i;
        }
    errno = EMFILE;
    return -1;
}

/* A file in /proc that is there for the core; *known: else it is not ours to say. */
static int open_proc(const char *path, bool *known)
{
    int n, task, length = -1;
    *known = true;
    if (strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
        return descriptor(&proc.boot_id);
    if (sscanf(path, "/proc/self/fd/%d", &n) == 1 && is_arena(n))
        return descriptor(NULL);
    if (sscanf(path, "/proc/%d/task/%d/stat%n", &n, &task, &length) == 2 && length > 0) {
        if (n == proc.own && task == proc.own)
            return descriptor(&proc.thread);
    } else if (sscanf(path, "/proc/%d/stat%n", &n, &length) == 1 && length > 0) {
        if (n == proc.own)
            return descriptor(&proc.process);
    } else {
        *known = false;
        return -1;
    }
    errno = ENOENT;
    return -1;
}

int __wrap_open(const char *path, int flags, ...)
{
    bool known = false;
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(list, mode_t) : 0;
    va_end(list);
    if (!kernel.virtual)
        return __real_open(path, flags, mode);
    if (disk.exists && strcmp(path, disk.path) == 0)
        return descriptor(NULL);
    int fd = strncmp(path, "/proc/", 6) == 0 ? open_proc(path, &known) : -1;
    return known ? fd : __real_open(path, flags, mode);
}

int __wrap_close(int fd)
{
    struct descriptor *d = of(fd);
    if (d == NULL)
        return __real_close(fd);
    for (uint32_t i = 0; i < disk.locks; i++)
        if (disk.lock[i].owner == (uint32_t)(fd - FIRST_FD) + 1)
            disk.lock[i].owner = 0;
    while (disk.locks > 0 && disk.lock[disk.locks - 1].owner == 0)
        disk.locks--;
    d->what = CLOSED;
    return 0;
}

ssize_t __wrap_read(int fd, void *to, size_t n)
{
    struct descriptor *d = of(fd);
    if (d == NULL)
        return __real_read(fd, to, n);
    if (d->what != OF_TEXT)
        abort(); /* the core reads the arena by pread */
    n = n < d->text->length - d->at ? n : d->text->length - d->at;
    memcpy(to, d->text->bytes + d->at, n);
    d->at += n;
    return (ssize_t)n;
}

ssize_t __wrap_pread(int fd, void *to, size_t n, off_t offset)
{
    if (!is_arena(fd))
        return __real_pread(fd, to, n, offset);
    uint64_t at = (uint64_t)offset, end = disk.length < disk.size ? disk.length : disk.size;
    if (at >= end)
        return 0;
    n = n < end - at ? n : (size_t)(end - at);
    if (disk.was_mapped && at + n > SX_PAGE)
        return __real_pread(disk.memory, to, n, offset);  /* anything may have been written by now */
    for (size_t done = 0, part; done < n; done += part) { /* holes stay holes */
        uint64_t page = (at + done) / SX_PAGE;
        part = SX_PAGE - (size_t)((at + done) % SX_PAGE);
        part = part < n - done ? part : n - done;
        if (disk.written[page])
            memcpy((char *)to + done, disk.image + at + done, part);
        else
            memset((char *)to + done, 0, part);
    }
    return (ssize_t)n;
}

/* ---- names ---------------------------------------------------------------------------------------------------------- */
static int told(struct stat *st)
{
    *st = (struct stat){.st_dev = DEVICE,
                        .st_ino = INODE,
                        .st_mode = S_IFREG | 0600,
                        .st_nlink = disk.exists,
                        .st_uid = geteuid(),
                        .st_gid = getegid(),
                        .st_size = (off_t)disk.length};
    return 0;
}

int __wrap_fstat(int fd, struct stat *st)
{
    return is_arena(fd) ? told(st) : __real_fstat(fd, st);
}

int __wrap_lstat(const char *path, struct stat *st)
{
    return kernel.virtual && disk.exists && strcmp(path, disk.path) == 0 ? told(st) : __real_lstat(path, st);
}

int __wrap_stat(const char *path, struct stat *st)
{
    bool pid = strcmp(path, "/proc/self/ns/pid") == 0;
    if (!kernel.virtual || (!pid && strcmp(path, "/proc/self/ns/time") != 0))
        return __real_stat(path, st);
    *st = pid ? proc.pid : proc.time;
    errno = ENOENT;
    return st->st_ino == 0 ? -1 : 0;
}

int __wrap_unlink(const char *path)
{
    if (!kernel.virtual || !disk.exists || strcmp(path, disk.path) != 0)
        return __real_unlink(path);
    disk.exists = false;
    return 0;
}

/* ---- locks on its bytes: a sleep for one is interrupted -------------------------------------------------------------- */
static struct lock *conflict(uint32_t owner, const struct flock *l)
{
    off_t first = l->l_start, last = l->l_len == 0 ? INT64_MAX : l->l_start + l->l_len - 1;
    for (struct lock *k = disk.lock; k < disk.lock + disk.locks; k++)
        if (k->owner != 0 && k->owner != owner && k->first <= last && k->last >= first &&
            (k->type == F_WRLCK || l->l_type == F_WRLCK))
            return k;
    return NULL;
}

static int lock(uint32_t owner, const struct flock *l)
{
    struct lock *mine = NULL, *unused = NULL;
    for (struct lock *k = disk.lock; k < disk.lock + disk.locks; k++) {
        if (k->owner == owner && k->first == l->l_start)
            mine = k;
        if (k->owner == 0)
            unused = k;
    }
    if (l->l_len != 1 || (mine == NULL && unused == NULL && disk.locks == LOCKS))
        abort(); /* the core locks bytes, each by itself */
    if (l->l_type == F_UNLCK) {
        if (mine != NULL)
            mine->owner = 0;
        return 0;
    }
    if (mine == NULL && unused == NULL)
        unused = &disk.lock[disk.locks++];
    *(mine != NULL ? mine : unused) = (struct lock){owner, l->l_type, l->l_start, l->l_start};
    return 0;
}

int __wrap_fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    struct flock *l = argument;
    bool waits = command == F_OFD_SETLKW || command == F_SETLKW;
    if (!is_arena(fd)) {
        if (!kernel.virtual || !waits)
            return __real_fcntl(fd, command, argument);
        int r = __real_fcntl(fd, command == F_SETLKW ? F_SETLK : F_OFD_SETLK, argument);
        if (r == 0 || (errno != EAGAIN && errno != EACCES))
            return r;
        kernel_count_sleep();
        errno = EINTR;
        return -1;
    }
    uint32_t owner = (uint32_t)(fd - FIRST_FD) + 1;
    struct lock *k = command == F_OFD_SETLK && l->l_type == F_UNLCK ? NULL : conflict(owner, l);
    switch (command) {
    case F_OFD_GETLK:
        if (k == NULL)
            l->l_type = F_UNLCK;
        else
            *l = (struct flock){.l_type = (short)k->type, .l_start = k->first, .l_len = 1, .l_pid = -1};
        return 0;
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        if (k == NULL)
            return lock(owner, l);
        if (waits)
            kernel_count_sleep();
        errno = waits ? EINTR : EAGAIN;
        return -1;
    default:
        abort(); /* the core asks for no other */
    }
}

/* ---- mappings -------------------------------------------------------------------------------------------------------- */

/* Puts what is beyond `ready` out of reach; `fence`: how it was, NULL: all within.  Where the regions lie nobody may change. */
static void put_fences(char *room, uint64_t *fence)
{
    const struct sx_header *h = disk.header;
    for (int i = 0; i < SX_REGIONS; i++) {
        uint64_t bytes = (uint64_t)h->regions[i].item_size * h->regions[i].capacity;
        uint64_t ready = ((const struct sx_header *)room)->ready[i];
        bytes = (bytes + SX_PAGE - 1) / SX_PAGE * SX_PAGE;
        ready = ready > bytes ? bytes : (ready + SX_PAGE - 1) / SX_PAGE * SX_PAGE;
        uint64_t was = fence == NULL || fence[i] > bytes ? bytes : fence[i];
        char *base = room + h->regions[i].offset;
        if (ready < was && mprotect(base + ready, was - ready, PROT_NONE) != 0)
            abort();
        if (ready > was && mprotect(base + was, ready - was, PROT_READ | PROT_WRITE) != 0)
            abort();
        if (fence != NULL)
            fence[i] = ready;
    }
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (!kernel.virtual || fd < 0)
        return __real_mmap(at, size, protection, flags, fd, offset);
    if (is_arena(fd)) {
        if (kernel.arena != NULL || size != disk.size) {
            fprintf(stderr, "not so: the arena is mapped once, and as large as it is: %zu bytes\n", size);
            abort();
        }
        disk.was_mapped = true;
        kernel.arena = disk.room;
        kernel.arena_size = size;
        put_fences(disk.room, disk.fence);
        return disk.room;
    }
    char *room = __real_mmap(NULL, size + GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED || __real_mmap(room, size, protection, flags | MAP_FIXED, fd, offset) != room)
        abort();
    put_fences(room, NULL);
    kernel.arena = room;
    kernel.arena_size = size;
    return room;
}

int __wrap_munmap(void *at, size_t size)
{
    if (!kernel.virtual || at != kernel.arena)
        return __real_munmap(at, size);
    kernel.arena = NULL;
    return at == disk.room ? 0 : __real_munmap(at, size + GUARD);
}

int __wrap_posix_fallocate(int fd, off_t offset, off_t size)
{
    int r = is_arena(fd) ? 0 : __real_posix_fallocate(fd, offset, size);
    off_t begin = offset / SX_PAGE * SX_PAGE, end = (offset + size + SX_PAGE - 1) / SX_PAGE * SX_PAGE;
    if (r != 0 || kernel.arena == NULL || end > (off_t)kernel.arena_size)
        return r;
    if (mprotect(kernel.arena + begin, (size_t)(end - begin), PROT_READ | PROT_WRITE) != 0)
        abort();
    const struct sx_header *h = disk.header;
    for (int i = SX_REGIONS; i-- > 0 && kernel.arena == disk.room;) {
        off_t base = (off_t)h->regions[i].offset;
        if (begin < base)
            continue;
        if (begin > base + (off_t)disk.fence[i])
            abort(); /* the core gives pages to what follows on `ready` */
        if (end > base + (off_t)disk.fence[i])
            disk.fence[i] = (uint64_t)(end - base);
        break;
    }
    return 0;
}

int __wrap_fallocate(int fd, int mode, off_t offset, off_t size)
{
    if (!is_arena(fd))
        return __real_fallocate(fd, mode, offset, size);
    if (mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
        abort(); /* the core asks for no other */
    disk_wipe((uint64_t)offset, (uint64_t)(offset + size));
    return 0;
}
