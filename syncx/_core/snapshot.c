/* snapshot.c: collecting what an arena says, without attaching to it and without changing it.
 *
 * Nobody is stopped, so the picture is put together in the way of a double collect.  A participant's slot is copied
 * until two copies in succession are the same byte for byte: then the fields of a wait record belong together, since
 * each sleep steps its ticket.  Everything is collected twice, in the same order, and compared: what is the same in
 * both was so at the moment between the two, all of it at once, unless a word went away and came back; a wait cannot,
 * for its ticket has moved then.  What is not the same is still there, as the later collect saw it, and not `stable`.
 *
 * The arena may be damaged.  Only the part of its header that never changes has to be right, or it is no arena of ours.
 * All other numbers are compared with the regions before they are used, on the private copy; what is wrong is noted and
 * passed over, and so that a moment's inconsistency (a name that is just being made) is not taken for damage, only what
 * both collects have found is told.  All lists are bounded by what the regions can hold.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "snapshot.h"

#define MOST_PROBLEMS 100u
#define MOST_ITEMS (1u << 22)
#define COPIES 16 /* of a slot that keeps changing */

/* ---- sources ------------------------------------------------------------------------------------------------- */

/* Read-only, and without a trace in the access time where that is allowed. */
static int open_quietly(const char *path, int more)
{
    int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | more;
    int fd = open(path, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM)
        fd = open(path, flags);
    if (fd >= 0 && fd < 3) { /* not where a program expects its standard streams */
        int higher = fcntl(fd, F_DUPFD_CLOEXEC, 3), saved = errno;
        close(fd);
        fd = higher;
        errno = saved;
    }
    return fd;
}

/* SX_NOT_AN_ARENA and its like: see sx_arena_examine. */
enum sx_status sx_source_open(const char *path, struct sx_source *source)
{
    struct sx_header h;
    struct stat st;
    *source = (struct sx_source){.fd = open_quietly(path, O_NOFOLLOW)};
    if (source->fd < 0)
        return SX_ERRNO;
    enum sx_status s = fstat(source->fd, &st) != 0 ? SX_ERRNO : sx_arena_examine(source->fd, &h, &st);
    if (s != SX_OK) {
        int saved = errno;
        sx_source_close(source);
        errno = saved;
        return s;
    }
    source->device = st.st_dev;
    source->inode = st.st_ino;
    return SX_OK;
}

/* The caller keeps the arena. */
enum sx_status sx_source_attached(struct sx_arena *arena, struct sx_source *source)
{
    char path[64];
    int fd = sx_arena_fd(arena);
    *source = (struct sx_source){arena->base, -1, arena->device, arena->inode};
    if (fd < 0)
        return SX_OK;
    /* a description of its own: through ours we would not see our own byte */
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    source->fd = open_quietly(path, 0);
    if (source->fd >= 0 && !sx_is_arena(arena, source->fd)) {
        close(source->fd);
        source->fd = -1;
    }
    return SX_OK;
}

void sx_source_close(struct sx_source *source)
{
    if (source->fd >= 0)
        close(source->fd);
    source->fd = -1;
    source->base = NULL;
}

/* offset and n are multiples of 8.  false: it could not be read, and what could not is zero. */
bool sx_source_copy(const struct sx_source *source, uint64_t offset, void *to, size_t n)
{
    if (source->base != NULL) {
        sx_a64 *words = (sx_a64 *)(uintptr_t)(source->base + offset);
        for (size_t i = 0; i < n / 8; i++)
            ((uint64_t *)to)[i] = atomic_load_explicit(&words[i], memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        return true;
    }
    for (size_t done = 0; done < n;) {
        ssize_t r = pread(source->fd, (char *)to + done, n - done, (off_t)(offset + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0) {
            memset((char *)to + done, 0, n - done);
            return false;
        }
        done += (size_t)r;
    }
    return true;
}

/* ---- lists ---------------------------------------------------------------------------------------------------- */
void sx_note(struct sx_snapshot *s, enum sx_problem problem, uint64_t where, uint64_t what)
{
    for (uint32_t i = 0; i < s->problems.count; i++)
        if (sx_seen_problem(s, i)->problem == problem && sx_seen_problem(s, i)->where == where)
            return;
    struct sx_seen_problem *p =
        s->problems.count < MOST_PROBLEMS ? sx_list_add(s, &s->problems, sizeof(struct sx_seen_problem)) : NULL;
    if (p != NULL)
        *p = (struct sx_seen_problem){where, what, problem};
    else
        s->passed_over++;
}

/* One item more, all zero; NULL: no memory, or more than there can be. */
void *sx_list_add(struct sx_snapshot *s, struct sx_list *list, size_t size)
{
    if (list->count == list->room) {
        uint32_t room = list->room == 0 ? 16 : list->room * 2;
        void *items = room > MOST_ITEMS * 16 ? NULL : realloc(list->items, room * size);
        if (items == NULL) {
            s->no_memory = true;
            return NULL;
        }
        list->items = items;
        list->room = room;
    }
    return memset((char *)list->items + list->count++ * size, 0, size);
}

static bool add_text(struct sx_snapshot *s, const void *text, uint32_t n, uint64_t *at)
{
    if (s->text.count + n > s->text.room) {
        uint32_t room = (s->text.count + n) * 2 < 4096 ? 4096 : (s->text.count + n) * 2;
        void *items = realloc(s->text.items, room);
        if (items == NULL) {
            s->no_memory = true;
            return false;
        }
        s->text.items = items;
        s->text.room = room;
    }
    *at = s->text.count;
    memcpy((char *)s->text.items + s->text.count, text, n);
    s->text.count += n;
    return true;
}

void sx_snapshot_free(struct sx_snapshot *s)
{
    struct sx_list *lists[] = {&s->processes, &s->participants, &s->waits, &s->holds,
                               &s->objects,   &s->problems,     &s->text,  &s->slots};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        free(lists[i]->items);
    free(s->process_at);
    free(s->participant_at);
    free(s->times);
    memset(s, 0, sizeof *s);
}

/* ---- looking -------------------------------------------------------------------------------------------------- */
const void *sx_window_at(struct sx_collect *c, uint64_t offset, size_t n)
{
    struct sx_window *w = &c->window;
    if (offset + n > w->limit)
        return NULL;
    if (offset < w->from || offset + n > w->end) {
        w->from = offset & ~(uint64_t)7;
        w->end = w->limit - w->from < SX_WINDOW ? w->limit : w->from + SX_WINDOW;
        if (!sx_source_copy(c->source, w->from, w->bytes, (size_t)(w->end - w->from)))
            sx_note(c->s, SX_UNREADABLE, w->from, 0);
    }
    return offset + n <= w->end ? w->bytes + (offset - w->from) : NULL;
}

/* From now on the window lies in this region; returns how many bytes of it have pages. */
static uint64_t enter(struct sx_collect *c, enum sx_region_number region)
{
    const struct sx_region *r = &c->s->header.regions[region];
    uint64_t limit = (uint64_t)r->item_size * r->capacity;
    uint64_t ready = atomic_load_explicit(&c->s->header.ready[region], memory_order_relaxed);
    if (ready > limit) {
        sx_note(c->s, SX_BAD_READY, region, ready);
        ready = limit;
    }
    ready &= ~(uint64_t)7;
    c->window.from = c->window.end = 0;
    c->window.limit = r->offset + ready;
    return ready;
}

/* Units carved of a heap, as far as there are pages. */
static uint32_t cursor_of(struct sx_collect *c, enum sx_region_number region, sx_a64 *shared, uint32_t unit)
{
    uint64_t pages = enter(c, region) / unit, cursor = atomic_load_explicit(shared, memory_order_relaxed);
    if (cursor > pages) {
        sx_note(c->s, SX_BAD_CURSOR, region, cursor);
        cursor = pages;
    }
    return (uint32_t)cursor;
}

/* May the word be an id: does it name a slot that has pages? */
bool sx_possible(struct sx_collect *c, uint64_t word, bool process)
{
    return sx_slot_of(word) < (process ? c->processes : c->participants);
}

struct sx_seen_hold *sx_note_hold(struct sx_collect *c, uint32_t object, enum sx_kind kind, uint64_t thread,
                                  uint64_t process)
{
    if (c->s->holds.count >= MOST_ITEMS) {
        sx_note(c->s, SX_TOO_MUCH, 0, 0);
        return NULL;
    }
    struct sx_seen_hold *h = sx_list_add(c->s, &c->s->holds, sizeof *h);
    if (h != NULL)
        *h = (struct sx_seen_hold){
            .thread = thread & SX_ID_MASK, .process = process & SX_ID_MASK, .object = object, .kind = kind, .count = 1};
    return h;
}

/* ---- processes ------------------------------------------------------------------------------------------------ */
static uint64_t id_of(uint32_t generation, uint32_t slot)
{
    return (uint64_t)generation << 32 | (uint64_t)(slot + 1) << SX_SLOT_SHIFT;
}

static void collect_processes(struct sx_collect *c)
{
    struct sx_snapshot *s = c->s;
    uint32_t n = (uint32_t)(enter(c, SX_PROCESSES) / sizeof(struct sx_process));
    c->processes = n < SX_MAX_PROCESSES ? n : SX_MAX_PROCESSES;
    for (uint32_t slot = 0; slot < c->processes; slot++) {
        const struct sx_process *p = sx_window_at(
            c, s->header.regions[SX_PROCESSES].offset + (uint64_t)slot * sizeof(struct sx_process), sizeof *p);
        if (p == NULL || p->pid == 0)
            continue;
        struct sx_seen_process *seen = sx_list_add(s, &s->processes, sizeof *seen);
        if (seen == NULL)
            return;
        *seen = (struct sx_seen_process){
            id_of(p->generation, slot), p->start_time, p->pid_namespace, p->attached_ns, p->pid, p->dead};
        s->process_at[slot] = s->processes.count;
    }
}

/* ---- participants ---------------------------------------------------------------------------------------------- */

/* A slot as it was at one moment; or, if it would not hold still, as it was last. */
static void copy_slot(struct sx_collect *c, uint32_t slot, struct sx_participant *p)
{
    uint64_t at = c->s->header.regions[SX_PARTICIPANTS].offset + (uint64_t)slot * sizeof *p;
    struct sx_participant again;
    if (!sx_source_copy(c->source, at, p, sizeof *p))
        sx_note(c->s, SX_UNREADABLE, at, 0);
    if (p->generation == 0 && *sx_life_word(p) == 0)
        return;
    for (int i = 0; i < COPIES; i++) {
        sx_source_copy(c->source, at, &again, sizeof again);
        if (memcmp(&again, p, sizeof again) == 0)
            return;
        memcpy((void *)p, (void *)&again, sizeof again);
    }
    memset((void *)p->trace, 0, sizeof p->trace); /* of several moments, perhaps */
}

static void collect_waits(struct sx_collect *c, uint32_t slot, const struct sx_participant *p)
{
    for (uint32_t level = 0; level < SX_WAITS; level++) {
        const struct sx_wait *w = &p->wait[level];
        uint32_t state = sx_wait_state(w->state);
        if (state == SX_RUNNING)
            continue;
        if (w->kind == SX_KIND_NONE || w->kind >= SX_KINDS) {
            sx_note(c->s, SX_BAD_WAIT, slot, w->kind);
            continue;
        }
        struct sx_seen_wait *seen = sx_list_add(c->s, &c->s->waits, sizeof *seen);
        if (seen == NULL)
            return;
        *seen = (struct sx_seen_wait){w->cell,
                                      w->address,
                                      w->holder,
                                      w->since_ns,
                                      w->deadline_ns,
                                      w->ticket,
                                      c->s->participants.count - 1,
                                      SX_NOBODY,
                                      state,
                                      w->kind,
                                      w->mode & (FILE_MODE | FILE_STYLE),
                                      w->units,
                                      level};
        memcpy(seen->where, (const void *)(p->where + (size_t)level * SX_WHERE_WORDS), SX_WHERE_WORDS * 8);
    }
}

/* Their objects are looked up when those have been collected. */
static void collect_marks(struct sx_collect *c, uint32_t slot, uint64_t id, const struct sx_participant *p)
{
    for (uint32_t i = 0; i < SX_MARKS && p->marked != 0; i++) {
        uint64_t mark = p->marks[i];
        if ((uint32_t)mark == 0)
            continue;
        if (mark >> 32 == 0) {
            sx_note(c->s, SX_BAD_MARK, slot, 0);
            continue;
        }
        struct sx_seen_hold *h = sx_note_hold(c, SX_NOBODY, SX_KIND_RWLOCK, id, 0);
        if (h == NULL)
            return;
        h->key = (uint32_t)(mark >> 32);
        h->mode = SX_SHARED_MODE;
        h->count = (uint32_t)mark & MARK_COUNT;
        h->flags = mark & MARK_DOWNGRADED ? SX_HOLD_DOWNGRADED : 0;
        if (mark & MARK_PENDING) { /* the count is the number of a writer */
            h->flags = SX_HOLD_PENDING;
            h->count = (uint32_t)mark & ~MARK_PENDING;
        }
    }
}

static void collect_ranges(struct sx_collect *c, uint32_t slot, uint64_t id, const struct sx_participant *p)
{
    for (uint32_t i = 0; i < SX_FILE_HOLDS; i++) {
        const struct sx_file_hold *f = &p->files[i];
        if (!(f->state & FILE_HELD))
            continue;
        if (f->first > f->last || f->last > INT64_MAX) {
            sx_note(c->s, SX_BAD_RANGE, slot, i);
            continue;
        }
        struct sx_seen_hold *h = sx_note_hold(c, SX_NOBODY, SX_KIND_FILE, id, 0);
        if (h == NULL)
            return;
        h->mode = f->state & (FILE_MODE | FILE_STYLE);
        h->device = f->device;
        h->inode = f->inode;
        h->first = f->first;
        h->last = f->last;
        h->since_ns = f->since_ns;
    }
}

static void collect_participants(struct sx_collect *c)
{
    struct sx_snapshot *s = c->s;
    uint32_t n = (uint32_t)(enter(c, SX_PARTICIPANTS) / sizeof(struct sx_participant));
    c->participants = n < SX_MAX_PARTICIPANTS ? n : SX_MAX_PARTICIPANTS;
    for (uint32_t slot = 0; slot < c->participants; slot++) {
        struct sx_participant p;
        copy_slot(c, slot, &p);
        uint32_t life = *sx_life_word(&p), kind = (uint32_t)p.life.mutex.__data.__kind;
        if (life == 0 || p.generation == 0) /* never used, or left in good order */
            continue;
        if (kind != s->header.mutex_kind) {
            sx_note(s, SX_BAD_LIFE, slot, kind);
            continue;
        }
        if (p.process > c->processes)
            sx_note(s, SX_BAD_PROCESS, slot, p.process);
        struct sx_seen_participant *seen = sx_list_add(s, &s->participants, sizeof *seen);
        struct sx_participant *raw = sx_list_add(s, &s->slots, sizeof *raw);
        if (seen == NULL || raw == NULL)
            return;
        memcpy((void *)raw, (void *)&p, sizeof p);
        *seen = (struct sx_seen_participant){
            .id = id_of(p.generation, slot), .start_time = p.start_time, .pid = p.pid, .tid = p.tid, .life = life};
        memcpy(seen->name, (const void *)p.name, sizeof p.name);
        if (p.process != 0 && p.process <= c->processes)
            seen->process = id_of(p.process_generation, p.process - 1);
        s->participant_at[slot] = s->participants.count;
        collect_waits(c, slot, &p);
        collect_marks(c, slot, seen->id, &p);
        collect_ranges(c, slot, seen->id, &p);
    }
}

/* ---- names ------------------------------------------------------------------------------------------------------ */
struct named {
    uint64_t at; /* in the text */
    uint32_t unit, cell, length;
    bool claimed;
};

static void collect_names(struct sx_collect *c, struct sx_list *names)
{
    struct sx_snapshot *s = c->s;
    uint32_t cursor = cursor_of(c, SX_NAMES, &s->header.names.cursor, SX_NAME_UNIT);
    uint64_t base = s->header.regions[SX_NAMES].offset;
    bool lost = false;
    for (uint32_t unit = 0, units; unit < cursor; unit += units) {
        const struct sx_name *name = sx_window_at(c, base + (uint64_t)unit * SX_NAME_UNIT, sizeof *name);
        if (name == NULL)
            return;
        uint32_t used = name->used, length = used;
        units = name->units;
        if (units == 0 || units > cursor - unit || units != sx_heap_rounded(units) || used > SX_MAX_NAME ||
            sizeof *name + used > (uint64_t)units * SX_NAME_UNIT) {
            if (!lost)
                sx_note(s, SX_BAD_BLOCK, base + (uint64_t)unit * SX_NAME_UNIT, 0);
            lost = true;
            units = 1; /* the next unit may be one again */
            continue;
        }
        if (used == 0)
            continue;
        name = sx_window_at(c, base + (uint64_t)unit * SX_NAME_UNIT, sizeof *name + used);
        if (name == NULL)
            return;
        /* after a damaged block, only what bears the mark of a name: its hash */
        if ((lost || name->cell == 0) && sx_name_hash((const char *)name->bytes, length) != name->hash) {
            units = 1;
            continue;
        }
        lost = false;
        struct named *n = sx_list_add(s, names, sizeof *n);
        if (n == NULL || !add_text(s, name->bytes, length, &n->at))
            return;
        n->unit = unit;
        n->cell = name->cell;
        n->length = length;
    }
}

static struct named *find_name(const struct sx_list *names, uint32_t unit)
{
    uint32_t low = 0, high = names->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct named *n = (struct named *)names->items + middle;
        if (n->unit == unit)
            return n;
        if (n->unit < unit)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* ---- cells ------------------------------------------------------------------------------------------------------- */

/* Is that the header of a live object of this arena?  Asked where the chain of blocks is broken. */
static bool looks_whole(const struct sx_snapshot *s, const struct sx_cell *cell, enum sx_kind kind)
{
    return kind != SX_KIND_NONE && cell->generation != 0 &&
           memcmp((const void *)cell->arena_id, s->header.id, 16) == 0 &&
           sx_kind_size(kind, cell->parameter) - 1 < (uint64_t)cell->units * SX_LINE;
}

static void collect_cells(struct sx_collect *c)
{
    struct sx_snapshot *s = c->s;
    uint32_t cursor = cursor_of(c, SX_CELLS, &s->header.cells.cursor, SX_LINE), lost = 0;
    uint64_t base = s->header.regions[SX_CELLS].offset;
    for (uint32_t unit = 0, units; unit < cursor; unit += units) {
        uint64_t offset = base + (uint64_t)unit * SX_LINE;
        struct sx_cell cell;
        const void *there = sx_window_at(c, offset, sizeof cell);
        if (there == NULL)
            return;
        memcpy((void *)&cell, there, sizeof cell);
        units = cell.units;
        enum sx_kind kind = sx_cell_kind(&cell);
        if (units < 2 || units > cursor - unit || units != sx_heap_rounded(units) ||
            (lost != 0 && !looks_whole(s, &cell, kind))) {
            if (lost++ == 0)
                sx_note(s, SX_BAD_BLOCK, offset, 0);
            units = 1; /* look on: there may be objects behind it */
            continue;
        }
        lost = 0;
        if (kind != SX_KIND_NONE)
            sx_collect_cell(c, offset, &cell);
        else if (cell.tag != 0)
            sx_note(s, SX_BAD_TAG, offset, cell.tag);
        if (s->no_memory)
            return;
    }
}

static void name_objects(struct sx_collect *c, struct sx_list *names)
{
    struct sx_snapshot *s = c->s;
    uint64_t base = s->header.regions[SX_NAMES].offset, cells = s->header.regions[SX_CELLS].offset;
    for (uint32_t i = 0; i < s->objects.count; i++) {
        struct sx_seen_object *o = sx_seen_object(s, i);
        struct named *n = o->name_unit == 0 ? NULL : find_name(names, o->name_unit - 1);
        if (n == NULL || n->cell == 0 || cells + (uint64_t)(n->cell - 1) * SX_LINE != o->offset)
            continue;
        n->claimed = true;
        o->name_at = n->at;
        o->name_length = n->length;
    }
    for (uint32_t i = 0; i < names->count; i++) {
        struct named *n = (struct named *)names->items + i;
        if (!n->claimed)
            sx_note(s, SX_BAD_NAME, base + (uint64_t)n->unit * SX_NAME_UNIT, n->cell);
    }
    s->names = names->count;
}

/* ---- what was traced --------------------------------------------------------------------------------------------- */
static void copy_times(struct sx_collect *c)
{
    size_t size = SX_TIMES * sizeof(struct sx_hold_time);
    struct sx_snapshot *s = c->s;
    if (enter(c, SX_HOLD_TIMES) < size || (s->times = malloc(size)) == NULL)
        return;
    uint64_t at = s->header.regions[SX_HOLD_TIMES].offset;
    if (!sx_source_copy(c->source, at, s->times, size))
        sx_note(s, SX_UNREADABLE, at, 0);
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

/* Of several ranges of one file the one that was taken at about that time. */
const struct sx_trace *sx_seen_trace(const struct sx_snapshot *s, const struct sx_seen_hold *h)
{
    const struct sx_seen_participant *p = h->thread == 0 ? NULL : sx_seen_thread(s, h->thread);
    bool file = h->kind == SX_KIND_FILE;
    uint64_t key = file ? h->inode : h->object == SX_NOBODY ? 0 : sx_seen_object(s, h->object)->offset;
    const struct sx_trace *found = NULL;
    if (p == NULL || key == 0)
        return NULL;
    const struct sx_participant *slot =
        (const struct sx_participant *)s->slots.items + (p - (const struct sx_seen_participant *)s->participants.items);
    for (uint32_t i = 0; i < SX_TRACES; i++) {
        const struct sx_trace *t = &slot->trace[i];
        if (t->key != key || t->step & 1 || (file && t->device != h->device))
            continue;
        if (found == NULL || (file && distance(t->since_ns, h->since_ns) < distance(found->since_ns, h->since_ns)))
            found = t;
    }
    return found;
}

/* ---- what belongs to what --------------------------------------------------------------------------------------- */

/* The last object that does not begin beyond the offset. */
static uint32_t object_at(const struct sx_snapshot *s, uint64_t offset)
{
    uint32_t low = 0, high = s->objects.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (sx_seen_object(s, middle)->offset <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? SX_NOBODY : low - 1;
}

/* What a dead thread left may speak of objects that are gone by now: that is no damage. */
static void note_of(struct sx_snapshot *s, const struct sx_seen_participant *p, enum sx_problem problem, uint64_t what)
{
    if (p != NULL && !(p->life & FUTEX_OWNER_DIED))
        sx_note(s, problem, sx_slot_of(p->id), what);
}

/* A condition's record says which one it means; files and processes are no cells, all others name one. */
static void link_wait(struct sx_snapshot *s, struct sx_seen_wait *w)
{
    const struct sx_seen_participant *p = sx_seen_participant(s, w->participant);
    if (w->kind == SX_KIND_FILE || w->kind == SX_KIND_JOIN || w->cell == 0 ||
        w->cell == offsetof(struct sx_header, lock))
        return;
    uint32_t at = object_at(s, w->cell);
    struct sx_seen_object *o = at == SX_NOBODY ? NULL : sx_seen_object(s, at);
    uint64_t inside = o == NULL ? 0 : w->cell - o->offset;
    w->part = inside == 0 ? SX_WHOLE : SX_INNER;
    if (o == NULL || (inside == 0 && w->kind != o->kind) ||
        (inside != 0 && (inside != 2 * SX_LINE || (w->kind != SX_KIND_GUARD && w->kind != SX_KIND_RLOCK) ||
                         o->kind == SX_KIND_MUTEX || o->kind == SX_KIND_RLOCK || o->units <= 2)))
        note_of(s, p, SX_BAD_WAIT, w->cell);
    else if (w->kind != SX_KIND_CONDITION || w->holder == ((uint64_t)o->key << 32 | (uint32_t)o->created_ns))
        w->object = at;
}

static void link_mark(struct sx_snapshot *s, struct sx_seen_hold *h)
{
    uint32_t unit = h->key & 0x1fffffu, generation = h->key >> 21 & 0x3ffu;
    if (h->key & 0x80000000u) /* in the user's memory */
        return;
    uint64_t offset = s->header.regions[SX_CELLS].offset + (uint64_t)(unit - 1) * SX_LINE;
    uint32_t at = unit == 0 ? SX_NOBODY : object_at(s, offset);
    struct sx_seen_object *o = at == SX_NOBODY ? NULL : sx_seen_object(s, at);
    if (o == NULL || o->offset != offset || o->kind != SX_KIND_RWLOCK || (o->generation & 0x3ffu) != generation) {
        note_of(s, sx_seen_thread(s, h->thread), SX_BAD_MARK, h->key);
        return;
    }
    h->object = at;
    if (!(h->flags & SX_HOLD_PENDING))
        return;
    /* it waits for that writer, and is nobody's hindrance */
    if (o->word & RWLOCK_PRESENT && (uint32_t)o->word >> RWLOCK_NUMBER_SHIFT == h->count)
        h->flags |= SX_HOLD_DROPPED;
    h->count = 1;
}

/* ---- the whole ---------------------------------------------------------------------------------------------------- */
static enum sx_status out_of_memory(void)
{
    errno = ENOMEM;
    return SX_ERRNO;
}

enum sx_status sx_snapshot_collect(const struct sx_source *source, struct sx_snapshot *s)
{
    struct sx_collect c = {.source = source, .s = s, .window = {.source = source}};
    struct sx_list names = {0};
    memset(s, 0, sizeof *s);
    s->process_at = calloc(SX_MAX_PROCESSES, sizeof *s->process_at);
    s->participant_at = calloc(SX_MAX_PARTICIPANTS, sizeof *s->participant_at);
    c.window.bytes = aligned_alloc(SX_LINE, SX_WINDOW);
    if (s->process_at == NULL || s->participant_at == NULL || c.window.bytes == NULL) {
        free(c.window.bytes);
        return out_of_memory();
    }
    s->taken_ns = sx_now();
    s->realtime_ns = sx_realtime();
    struct sx_header *h = &s->header;
    if (!sx_source_copy(source, 0, h, sizeof *h))
        sx_note(s, SX_UNREADABLE, 0, 0);
    /* compared when the source was opened, and never changed since: unless somebody scribbles over it */
    enum sx_status status = sx_header_examine(h);
    if (status == SX_OK) {
        collect_processes(&c);
        collect_participants(&c);
        collect_names(&c, &names);
        collect_cells(&c);
        name_objects(&c, &names);
        copy_times(&c);
        for (uint32_t i = 0; i < s->waits.count; i++)
            link_wait(s, sx_seen_wait(s, i));
        for (uint32_t i = 0; i < s->holds.count; i++)
            if (sx_seen_hold(s, i)->key != 0)
                link_mark(s, sx_seen_hold(s, i));
        uint64_t w = atomic_load_explicit(&h->lock.word, memory_order_relaxed);
        if (!sx_is_free(w) && sx_possible(&c, w, false))
            sx_note_hold(&c, SX_NOBODY, SX_KIND_ARENA_LOCK, w, 0);
        else if (!sx_is_free(w))
            sx_note(s, SX_BAD_WORD, offsetof(struct sx_header, lock), w);
    }
    free(names.items);
    free(c.window.bytes);
    return status != SX_OK || !s->no_memory ? status : out_of_memory();
}

struct sx_seen_participant *sx_seen_thread(const struct sx_snapshot *s, uint64_t id)
{
    uint32_t slot = sx_slot_of(id), at = slot < SX_MAX_PARTICIPANTS ? s->participant_at[slot] : 0;
    struct sx_seen_participant *p = at == 0 ? NULL : sx_seen_participant(s, at - 1);
    return p != NULL && p->id == (id & SX_ID_MASK) ? p : NULL;
}

struct sx_seen_process *sx_seen_owner(const struct sx_snapshot *s, uint64_t id)
{
    uint32_t slot = sx_slot_of(id), at = slot < SX_MAX_PROCESSES ? s->process_at[slot] : 0;
    struct sx_seen_process *p = at == 0 ? NULL : sx_seen_process(s, at - 1);
    return p != NULL && p->id == (id & SX_ID_MASK) ? p : NULL;
}

/* ---- comparing ---------------------------------------------------------------------------------------------------- */
static bool same_holds(const struct sx_seen_hold *x, const struct sx_seen_hold *y, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) /* but for the number of the object, which is of one collect only */
        if (x[i].thread != y[i].thread || x[i].process != y[i].process || x[i].mode != y[i].mode ||
            x[i].part != y[i].part || x[i].count != y[i].count || x[i].flags != y[i].flags)
            return false;
    return true;
}

static bool same_object(const struct sx_snapshot *a, const struct sx_seen_object *x, const struct sx_snapshot *b,
                        const struct sx_seen_object *y)
{
    return x->generation == y->generation && x->kind == y->kind && x->word == y->word && x->value == y->value &&
           x->parameter == y->parameter && x->name_unit == y->name_unit && x->name_length == y->name_length &&
           x->broken == y->broken && x->retired == y->retired && x->holds == y->holds &&
           (x->holds == 0 || same_holds(sx_seen_hold(a, x->first_hold), sx_seen_hold(b, y->first_hold), x->holds));
}

void sx_snapshot_compare(const struct sx_snapshot *earlier, struct sx_snapshot *later)
{
    for (uint32_t i = 0; i < later->participants.count; i++) {
        struct sx_seen_participant *p = sx_seen_participant(later, i), *q = sx_seen_thread(earlier, p->id);
        if (q == NULL)
            continue;
        const struct sx_participant *slots[] = {later->slots.items, earlier->slots.items};
        p->stable = memcmp((const void *)&slots[0][i],
                           (const void *)&slots[1][q - (struct sx_seen_participant *)earlier->participants.items],
                           sizeof **slots) == 0;
    }
    for (uint32_t i = 0, j = 0; i < later->objects.count; i++) {
        struct sx_seen_object *o = sx_seen_object(later, i);
        while (j < earlier->objects.count && sx_seen_object(earlier, j)->offset < o->offset)
            j++;
        o->stable = j < earlier->objects.count && sx_seen_object(earlier, j)->offset == o->offset &&
                    same_object(earlier, sx_seen_object(earlier, j), later, o);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < later->problems.count; i++)
        for (uint32_t j = 0; j < earlier->problems.count; j++) {
            struct sx_seen_problem *p = sx_seen_problem(later, i), *q = sx_seen_problem(earlier, j);
            if (p->problem == q->problem && p->where == q->where) {
                *sx_seen_problem(later, kept++) = *p;
                break;
            }
        }
    later->problems.count = kept;
    if (later->passed_over > earlier->passed_over)
        later->passed_over = earlier->passed_over;
}

enum sx_status sx_snapshot_take(const struct sx_source *source, struct sx_snapshot *s)
{
    struct sx_snapshot earlier;
    enum sx_status status = sx_snapshot_collect(source, &earlier);
    memset(s, 0, sizeof *s);
    if (status == SX_OK)
        status = sx_snapshot_collect(source, s);
    if (status == SX_OK) {
        sx_snapshot_compare(&earlier, s);
        sx_snapshot_judge(source, s);
    }
    int saved = errno;
    sx_snapshot_free(&earlier);
    errno = saved;
    return status;
}
