/* files.c: the files that this process locks: one open file description for each, and who in the process holds what.
 *
 * The kernel decides who holds a range; a lock belongs to the open file description.  All lock objects of the process
 * on one file (one inode, style and arena) share a description, so ten thousand ranges take one descriptor, and the
 * kernel's list is as long as it must be.  To the kernel they are one owner: threads are told apart here, in the tree of
 * segments.c.
 *
 *   - Two holds overlap only if both are shared.  So a segment that is exclusive is unlocked as a whole, and of a
 *     shared one the parts that nobody else of the process has.
 *   - A segment stands in the tree before its thread waits for it in the kernel (pending) and until after it was
 *     unlocked: what is granted to one thread is never unlocked by another.
 *
 * Nothing here is shared between processes, so a death leaves nothing behind: the kernel unlocks what the process held.
 *
 * fork: the child gets every description anew, through /proc/self/fd, before it runs anything else: it owns nothing,
 * and does not keep its parent's locks when the parent ends.  A file that is `alone` (inherit=True) keeps its
 * description and its holds in both processes: unlocking it would be for both, so whoever is done takes a new description
 * instead, and the kernel unlocks when the last one is gone.
 *
 * Locks are taken in this order: those of arena.c and process.c, registry, the lock object's guard, the file's guard.
 * None is held while waiting.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "files.h"

#define FRESH_NS 50000000 /* more than a tick of any clock that file systems take */

uint32_t sx_file_forks;
static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static struct sx_file *files;
static struct sx_range *ranges;

/* ---- the kernel ------------------------------------------------------------------------------------------- */
static int lock_by(const struct sx_file *f, int fd, int type, int64_t first, int64_t last, bool wait)
{
    if (f->style == SX_FLOCK_STYLE) {
        int operation = type == F_WRLCK ? LOCK_EX : type == F_RDLCK ? LOCK_SH : LOCK_UN;
        return flock(fd, operation | (wait ? 0 : LOCK_NB)) == 0 ? 0 : errno == EWOULDBLOCK ? EAGAIN : errno;
    }
    struct flock l = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = first};
    l.l_len = last == SX_TO_END ? 0 : last - first + 1;
    int command = f->style == SX_OFD_STYLE ? (wait ? F_OFD_SETLKW : F_OFD_SETLK) : (wait ? F_SETLKW : F_SETLK);
    for (;;) {
        if (fcntl(fd, command, &l) == 0)
            return 0;
        if (errno != EINTR || wait)
            return errno == EACCES ? EAGAIN : errno; /* POSIX lets a lock that is in the way be either */
    }
}

static int kernel_lock(const struct sx_file *f, int type, int64_t first, int64_t last, bool wait)
{
    return f->broken != 0 ? f->broken : lock_by(f, f->fd, type, first, last, wait);
}

int sx_file_ask(struct sx_file *f, bool shared, int64_t first, int64_t last, bool wait)
{
    return kernel_lock(f, shared ? F_RDLCK : F_WRLCK, first, last, wait);
}

int sx_file_downgrade(struct sx_file *f, int64_t first, int64_t last)
{
    return f->joint ? 0 : /* it stays what it is for the other process */
               kernel_lock(f, F_RDLCK, first, last, false);
}

/* Do others hold what is in the way of a lock on that range?  1, 0; -1: this kind of lock cannot be asked for. */
static int conflict(struct sx_file *f, bool shared, int64_t first, int64_t last)
{
    struct flock l = {.l_type = shared ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET, .l_start = first};
    l.l_len = last == SX_TO_END ? 0 : last - first + 1;
    if (f->style == SX_FLOCK_STYLE || fcntl(f->fd, f->style == SX_OFD_STYLE ? F_OFD_GETLK : F_GETLK, &l) != 0)
        return -1;
    return l.l_type != F_UNLCK;
}

/* Would the kernel give it?  The tree has nothing in the way; the file's guard is held. */
bool sx_file_free(struct sx_file *f, bool shared, int64_t first, int64_t last)
{
    int there = conflict(f, shared, first, last);
    if (there >= 0)
        return !there;
    if (sx_file_ask(f, shared, first, last, false) != 0) /* flock: only trying tells */
        return false;
    sx_file_give(f, NULL, first, last);
    return true;
}

/* What is to be unlocked for a hold, gathered from first to last; see sx_file_give. */
struct gap {
    struct sx_file *file;
    const struct sx_hold *hold;
    int64_t first, last; /* asked for */
    int64_t bare;        /* from here on no other hold that was seen has anything */
    int64_t from, to;    /* to be unlocked; from > to: nothing yet */
    int error;
};

static void unlock_up_to(struct gap *g, int64_t last)
{
    if (g->from > last)
        return;
    int e = kernel_lock(g->file, F_UNLCK, g->from, last, false);
    g->error = e != 0 ? e : g->error;
}

static bool gather(struct sx_segment *s, void *what)
{
    struct gap *g = what;
    if (s->pending) { /* not had yet: its thread looks whether all is there once it is granted */
        s->disturbed = true;
        return false;
    }
    int64_t first = s->first > g->first ? s->first : g->first, last = s->last < g->last ? s->last : g->last;
    if (s->hold == g->hold) {
        first = first > g->bare ? first : g->bare;
        if (g->from > g->to)
            g->from = first;
        g->to = last > g->to ? last : g->to;
        return false;
    }
    unlock_up_to(g, first - 1 < g->to ? first - 1 : g->to);
    if (last == g->last) {
        g->to = -1;
        return true;
    }
    g->bare = last + 1 > g->bare ? last + 1 : g->bare;
    g->from = g->from > g->bare ? g->from : g->bare;
    return false;
}

/* Unlocks of a range what a hold has and no other, in as few calls as that takes: what nobody has is unlocked with it.
 * hold NULL: whatever no hold has.  errno where the kernel had no memory to split a lock. */
int sx_file_give(struct sx_file *f, const struct sx_hold *hold, int64_t first, int64_t last)
{
    if (f->joint)
        return 0; /* it is the other process's too; see sx_file_renew */
    struct gap g = {f, hold, first, last, first, first, hold == NULL ? last : -1, 0};
    sx_tree_overlapping(f->root, first, last, gather, &g);
    unlock_up_to(&g, g.to);
    return g.error;
}

static int open_again(struct sx_file *f, int fd)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, (f->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

static bool is_it(struct sx_file *f, int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_dev == f->st_dev && st.st_ino == f->st_ino;
}

/* Somebody closed the descriptor (a program that makes itself a daemon closes all).  Its number is forgotten before
 * anything else is opened, which may get it. */
static bool is_lost(struct sx_file *f)
{
    if (is_it(f, f->fd))
        return false;
    pthread_mutex_lock(&f->guard);
    if (!is_it(f, f->fd)) {
        f->fd = -1;
        f->broken = EBADF;
    }
    pthread_mutex_unlock(&f->guard);
    return f->fd < 0;
}

/* A new description in place of the one that another process has too, or that nobody may have.  0 or errno. */
int sx_file_renew(struct sx_file *f)
{
    if (!is_it(f, f->fd)) { /* closed by somebody, and perhaps another file's: whoever locks finds it lost */
        f->joint = false;
        return EBADF;
    }
    int fd = open_again(f, f->fd), error = fd < 0 ? errno : 0;
    if (fd < 0 || dup3(fd, f->fd, O_CLOEXEC) < 0)
        error = errno;
    if (fd >= 0)
        close(fd);
    f->joint = false;
    if (error != 0) { /* without a description there is no lock; better none than the other process's */
        close(f->fd);
        f->fd = -1;
        f->broken = error;
    }
    return error;
}

/* ---- the registry ------------------------------------------------------------------------------------------ */

/* File systems whose locks may involve another machine, or a program of anybody's. */
static long system_of(int fd)
{
    static const long known[] = {0x6969 /* nfs */,      0xff534d42 /* cifs */,
                                 0xfe534d42 /* smb2 */, 0x517b /* smb */,
                                 0x65735546 /* fuse */, 0x01021997 /* 9p */,
                                 0x00c36400 /* ceph */, 0x0bd00bd0 /* lustre */,
                                 0x01161970 /* gfs2 */, 0x7461636f /* ocfs2 */,
                                 0x5346414f /* afs */,  0x6b414653 /* kafs */,
                                 0x73757245 /* coda */, 0x786f4256 /* vboxsf */};
    struct statfs s;
    if (fstatfs(fd, &s) != 0)
        return 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if ((unsigned long)(uint32_t)s.f_type == (unsigned long)known[i])
            return known[i];
    return 0;
}

/* By the registry's lock.  To the kernel all locks of the POSIX style that the process has on a file are one owner's: so
 * one table must have them all. */
static bool is_elsewhere(const struct sx_range *r, const struct stat *st)
{
    for (struct sx_file *f = files; f != NULL && r->style == SX_POSIX_STYLE; f = f->next)
        if (f->style == SX_POSIX_STYLE && f->arena != r->arena && f->st_ino == st->st_ino && f->st_dev == st->st_dev)
            return true;
    return false;
}

/* Where those who wait for a file's ranges meet. */
struct sx_file_line *sx_file_line(struct sx_arena *arena, uint32_t device, uint64_t inode)
{
    uint64_t hash = (inode ^ (uint64_t)device << 32) * UINT64_C(0x9e3779b97f4a7c15);
    return &arena->header->lines[(hash >> 32) % SX_FILE_LINES];
}

/* By the registry's lock. */
static struct sx_file *known(struct sx_range *r, const struct stat *st)
{
    for (struct sx_file *f = files; f != NULL && !r->inherit; f = f->next)
        if (f->st_ino == st->st_ino && f->st_dev == st->st_dev && f->broken == 0 && !is_lost(f) &&
            f->style == r->style && f->arena == r->arena && !f->alone) {
            f->references++;
            return f;
        }
    return NULL;
}

/* By the registry's lock: forgets the files that nothing refers to. */
static void sweep(void)
{
    for (struct sx_file **link = &files, *f; (f = *link) != NULL;) {
        if (f->references > 0) {
            link = &f->next;
            continue;
        }
        *link = f->next;
        if (f->fd >= 0 && is_it(f, f->fd)) /* a number that somebody closed may be another file's by now */
            close(f->fd);
        pthread_mutex_destroy(&f->guard);
        free(f);
    }
}

void sx_file_drop(struct sx_file *f)
{
    pthread_mutex_lock(&registry);
    if (--f->references == 0)
        sweep();
    pthread_mutex_unlock(&registry);
}

/* Is it something that can be locked so?  0 or errno. */
static int lockable(const struct sx_range *r, const struct stat *st)
{
    if (S_ISDIR(st->st_mode))
        return r->style == SX_FLOCK_STYLE ? 0 : EISDIR;
    return S_ISREG(st->st_mode) ? 0 : ESPIPE;
}

static enum sx_status failed(int error)
{
    errno = error;
    return SX_ERRNO;
}

static int open_path(const struct sx_range *r, const char *path, bool directory, bool *writable)
{
    int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK, fd = -1;
    *writable = true;
    if (!directory)
        fd = open(path, flags | O_RDWR | (r->create && r->path != NULL ? O_CREAT : 0), 0666);
    if (directory || (fd < 0 && (errno == EACCES || errno == EROFS || errno == EPERM || errno == ETXTBSY))) {
        *writable = false;
        int refused = errno;
        fd = open(path, flags | O_RDONLY | (directory ? O_DIRECTORY : 0));
        if (fd < 0 && errno == ENOENT && !directory)
            errno = refused; /* it was to be made, and may not be */
    }
    if (fd >= 0 && fd < 3) { /* not where a program may look for its standard streams */
        int higher = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        close(fd);
        fd = higher;
    }
    return fd;
}

/* The registered file of what the path, or the descriptor, names now; the caller's to drop. */
static enum sx_status find_file(struct sx_range *r, int by, struct sx_file **found)
{
    char proc[32];
    const char *path = r->path;
    struct stat st;
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", by);
    if (path == NULL)
        path = proc;
    /* looked up before it is opened: closing a second descriptor would drop locks of the POSIX style */
    bool there = (r->path != NULL ? stat(path, &st) : fstat(by, &st)) == 0;
    if (!there && (r->path == NULL || errno != ENOENT || !r->create))
        return SX_ERRNO;
    int error = there ? lockable(r, &st) : 0;
    if (error != 0)
        return failed(error);
    pthread_mutex_lock(&registry);
    *found = there ? known(r, &st) : NULL;
    bool elsewhere = there && is_elsewhere(r, &st);
    pthread_mutex_unlock(&registry);
    if (*found != NULL)
        return SX_OK;
    if (elsewhere)
        return failed(EBUSY);
    bool writable;
    int fd = open_path(r, path, there && S_ISDIR(st.st_mode), &writable);
    if (fd < 0)
        return SX_ERRNO;
    if (fstat(fd, &st) != 0 || (error = lockable(r, &st)) != 0) {
        error = error != 0 ? error : errno;
        close(fd);
        return failed(error);
    }
    struct sx_file *f = calloc(1, sizeof *f);
    if (f == NULL) {
        close(fd);
        return failed(ENOMEM);
    }
    *f = (struct sx_file){.arena = r->arena,
                          .device = (uint32_t)(major(st.st_dev) << 20 | minor(st.st_dev)),
                          .st_dev = st.st_dev,
                          .st_ino = st.st_ino,
                          .style = r->style,
                          .references = 1,
                          .writable = writable,
                          .alone = r->inherit,
                          .system = system_of(fd),
                          .fd = fd,
                          .random = (uint32_t)sx_now() | 1};
    pthread_mutex_init(&f->guard, NULL);
    f->line = sx_file_line(r->arena, f->device, st.st_ino);
    pthread_mutex_lock(&registry);
    *found = known(r, &st);
    if (*found == NULL) {
        f->next = files;
        files = f;
        *found = f;
    }
    pthread_mutex_unlock(&registry);
    if (*found != f) { /* another thread was faster */
        if (f->style != SX_POSIX_STYLE)
            close(fd); /* else the descriptor stays: closing it would drop what that thread locks */
        pthread_mutex_destroy(&f->guard);
        free(f);
    }
    return SX_OK;
}

static void enlist(struct sx_range *r)
{
    pthread_mutex_init(&r->guard, NULL);
    r->holds = NULL;
    pthread_mutex_lock(&registry);
    r->next = ranges;
    r->link = &ranges;
    if (ranges != NULL)
        ranges->link = &r->next;
    ranges = r;
    pthread_mutex_unlock(&registry);
}

enum sx_status sx_range_open(struct sx_range *r, int fd)
{
    enum sx_status s = find_file(r, fd, &r->file);
    if (s == SX_OK)
        enlist(r);
    return s;
}

enum sx_status sx_range_open_beside(struct sx_range *r, struct sx_range *other)
{
    pthread_mutex_lock(&registry);
    pthread_mutex_lock(&other->guard);
    r->file = other->file;
    r->file->references++;
    pthread_mutex_unlock(&other->guard);
    pthread_mutex_unlock(&registry);
    enlist(r);
    return SX_OK;
}

void sx_range_close(struct sx_range *r)
{
    sx_range_give_all(r);
    pthread_mutex_lock(&registry);
    *r->link = r->next;
    if (r->next != NULL)
        r->next->link = r->link;
    pthread_mutex_unlock(&registry);
    pthread_mutex_destroy(&r->guard);
    sx_file_drop(r->file);
    r->file = NULL;
}

/* Lock objects stay what they are while they are visited, until visit() returns false. */
void sx_ranges_each(bool (*visit)(struct sx_range *r, void *what), void *what)
{
    pthread_mutex_lock(&registry);
    for (struct sx_range *r = ranges; r != NULL && visit(r, what); r = r->next)
        ;
    sweep();
    pthread_mutex_unlock(&registry);
}

/* Is the number of its descriptor another file's, or nobody's? */
bool sx_file_is_lost(struct sx_file *f)
{
    return f->broken == 0 && !is_it(f, f->fd);
}

/* By whoever has just got a lock.  LOST: the descriptor was closed by somebody else (a program that makes itself a daemon
 * closes all) and may be another file's by now.  MOVED: the path names another file, or none.
 *
 * A file that was replaced, removed or renamed has no link left or a new change time, which the descriptor tells; so the
 * path itself is followed only where that is in doubt, or after a sleep, or once a tick of the clock (4 ms), for the
 * sake of paths whose directories are exchanged.  A change time of the last ticks proves nothing: there may be another
 * change with the same one. */
enum sx_place sx_range_place(struct sx_range *r, struct sx_file *f, bool slept)
{
    struct stat st;
    struct timespec now;
    if (f->broken != 0)
        return f->broken == EBADF ? SX_LOST : SX_IN_PLACE; /* whoever asks the kernel is told */
    int fd = f->fd;
    if ((fstat(fd, &st) != 0 || st.st_dev != f->st_dev || st.st_ino != f->st_ino) && is_lost(f)) {
        lock_by(f, fd, F_UNLCK, r->first, r->last, false); /* whatever has that number must not stay locked by us */
        return SX_LOST;
    }
    if (r->path == NULL)
        return SX_IN_PLACE;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    int64_t time = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    bool seen = false;
    if (!slept) {
        pthread_mutex_lock(&r->guard); /* against the other threads that use the lock object */
        seen = f->system == 0 && st.st_nlink != 0 && f == r->file && time == r->looked &&
               st.st_ctim.tv_sec == r->changed.tv_sec && st.st_ctim.tv_nsec == r->changed.tv_nsec;
        pthread_mutex_unlock(&r->guard);
    }
    if (seen)
        return SX_IN_PLACE;
    if (stat(r->path, &st) != 0 || st.st_dev != f->st_dev || st.st_ino != f->st_ino)
        return SX_MOVED;
    struct timespec changed = st.st_ctim;
    int64_t age = time - ((int64_t)changed.tv_sec * 1000000000 + changed.tv_nsec);
    pthread_mutex_lock(&r->guard);
    if (f == r->file) {
        r->looked = time;
        r->changed = age > FRESH_NS ? changed : (struct timespec){0};
    }
    pthread_mutex_unlock(&r->guard);
    return SX_IN_PLACE;
}

/* From f to the file that the path names now.  Holds of other threads stay where they are. */
enum sx_status sx_range_follow(struct sx_range *r, struct sx_file *f)
{
    struct sx_file *now;
    enum sx_status s = find_file(r, -1, &now);
    if (s != SX_OK)
        return s;
    pthread_mutex_lock(&registry);
    pthread_mutex_lock(&r->guard);
    bool ours = r->file == f && now != f;
    if (ours) {
        for (struct sx_hold *h = r->holds; h != NULL; h = h->next)
            if (!h->keeps_file && h->file == f) {
                h->keeps_file = true;
                f->references++;
            }
        r->file = now;
        r->looked = 0;
    }
    pthread_mutex_unlock(&r->guard);
    pthread_mutex_unlock(&registry);
    sx_file_drop(ours ? f : now);
    return SX_OK;
}

/* ---- fork --------------------------------------------------------------------------------------------------- */
static void before_fork(void)
{
    pthread_mutex_lock(&registry);
    for (struct sx_range *r = ranges; r != NULL; r = r->next)
        pthread_mutex_lock(&r->guard);
    for (struct sx_file *f = files; f != NULL; f = f->next)
        pthread_mutex_lock(&f->guard);
}

static void after_fork_parent(void)
{
    for (struct sx_file *f = files; f != NULL; f = f->next) {
        if (f->alone && f->root != NULL)
            f->joint = true;
        pthread_mutex_unlock(&f->guard);
    }
    for (struct sx_range *r = ranges; r != NULL; r = r->next)
        pthread_mutex_unlock(&r->guard);
    pthread_mutex_unlock(&registry);
}

/* The holds of a lock object are its parent's: forgotten, or, where the description is kept, one of them is everybody's in
 * the child (several threads of the parent may have had it to read; to the kernel that is one lock). */
static void inherit(struct sx_range *r)
{
    struct sx_hold *kept = NULL;
    for (struct sx_hold *h = r->holds, *next; h != NULL; h = next) {
        next = h->next;
        bool keep = h->file->alone && h->segments != NULL && kept == NULL && is_it(h->file, h->file->fd);
        for (struct sx_segment *s = h->segments, *after; s != NULL; s = after) {
            after = s->next;
            s->record = NULL; /* the parent's */
            if (keep)
                sx_tree_insert(h->file, s);
            else if (s != &h->own)
                free(s);
        }
        if (keep) {
            h->thread = SX_INHERITED;
            h->waits = 0;
            h->next = NULL;
            kept = h;
            continue;
        }
        if (h->keeps_file)
            h->file->references--;
        if (h == &r->own)
            *h = (struct sx_hold){0};
        else
            free(h);
    }
    r->holds = kept;
}

static void after_fork_child(void)
{
    for (struct sx_file *f = files; f != NULL; f = f->next) {
        f->joint = false;
        f->root = NULL;
    }
    for (struct sx_range *r = ranges; r != NULL; r = r->next) {
        inherit(r);
        pthread_mutex_init(&r->guard, NULL);
    }
    for (struct sx_file *f = files; f != NULL; f = f->next) {
        f->joint = f->root != NULL;
        if (!f->joint && f->fd >= 0)
            sx_file_renew(f);
        pthread_mutex_init(&f->guard, NULL);
    }
    sweep();
    sx_file_forks++;
    pthread_mutex_init(&registry, NULL);
}

void sx_install_file_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}
