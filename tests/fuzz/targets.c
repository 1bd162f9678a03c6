/* targets.c: what is fuzzed; a function each. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "../../syncx/_core/deadlock.h"
#include "../../syncx/_core/held.h"
#include "../../syncx/_core/snapshot.h"
#include "kernel.h"
#include "scene.h"
#include "targets.h"

#define OPEN 6 /* objects at once */

/* ---- objects -------------------------------------------------------------------------------------------------------- */
struct hand {
    struct world *world;
    struct object object[OPEN];
    uint32_t count;
};

static void got(struct hand *h, enum sx_status s, const struct sx_object *core)
{
    check_status_value(s);
    if (s != SX_OK)
        return;
    struct sx_object copy = *core;
    enum sx_kind kind = sx_cell_kind(core->cell);
    if (h->count == OPEN || sx_kind_operations(kind) == NULL) {
        sx_object_close(h->world->arena, &copy);
        REQUIRE(sx_kind_operations(kind) != NULL);
        return;
    }
    h->object[h->count++] = (struct object){.core = copy, .kind = kind};
}

static void open_one(struct hand *h, struct input *in)
{
    static const char *const fresh[] = {"z", "x", "another one"};
    struct sx_arena *a = h->world->arena;
    struct scene_cell *c = some_cell(in);
    uint32_t how = take8(in);
    struct sx_request request = {.kind = c->kind, .parameter = SX_ANY, .create = (enum sx_create)(how >> 4 & 1)};
    struct sx_object object = {0};
    if (how & 0x80)
        request.parameter = how & 0x40 ? take32(in) : c->parameter;
    if (how & 0x20)
        request.kind = (enum sx_kind)(take8(in) % (SX_KINDS + 2));
    if (request.kind != c->kind && sx_kind_operations(request.kind) == NULL)
        return; /* the binding asks for no such thing */
    switch (how % 8) {
    case 0:
    case 1:
    case 2:
        if (c->name != NULL) {
            got(h, sx_object_open(a, c->name, (uint32_t)strlen(c->name), &request, &object), &object);
            break;
        }
        /* fall through */
    case 3:
        got(h, sx_object_reference(a, c->unit, c->generation, c->kind, &object), &object);
        break;
    case 4: {
        const char *name = fresh[take8(in) % 3];
        request.create = (enum sx_create)(how >> 3 & 1 ? SX_EXCLUSIVE : SX_CREATE);
        got(h, sx_object_open(a, name, (uint32_t)strlen(name), &request, &object), &object);
        break;
    }
    case 5:
        request.create = SX_CREATE;
        if (request.parameter == SX_ANY || request.parameter < 4096)
            got(h, sx_object_anonymous(a, &request, &object), &object);
        break;
    default:
        got(h, sx_object_reference(a, take16(in), how & 8 ? c->generation : take32(in), request.kind, &object),
            &object);
    }
}

static void close_one(struct hand *h, struct input *in)
{
    if (h->count == 0)
        return;
    uint32_t i = take8(in) % h->count;
    sx_object_close(h->world->arena, &h->object[i].core);
    h->object[i] = h->object[--h->count];
}

static void close_all(struct hand *h)
{
    while (h->count > 0)
        sx_object_close(h->world->arena, &h->object[--h->count].core);
}

static void unlink_one(struct hand *h, struct input *in)
{
    struct scene_cell *c = some_cell(in);
    if (c->name != NULL)
        check_status_value(sx_object_unlink(h->world->arena, c->name, (uint32_t)strlen(c->name), take8(in) & 1));
}

static void use_one(struct hand *h, struct input *in)
{
    if (h->count > 0)
        use(h->world, &h->object[take8(in) % h->count], in);
}

/* ---- a snapshot ------------------------------------------------------------------------------------------------------- */
static void look_at(const struct sx_snapshot *s)
{
    uint64_t sum = 0, total, longest, holds;
    for (uint32_t i = 0; i < s->waits.count; i++) {
        const struct sx_seen_wait *w = sx_seen_wait(s, i);
        REQUIRE(w->participant < s->participants.count && (w->object == SX_NOBODY || w->object < s->objects.count));
        REQUIRE(strlen(w->where) < sizeof w->where);
    }
    for (uint32_t i = 0; i < s->participants.count; i++)
        REQUIRE(strlen(sx_seen_participant(s, i)->name) < sizeof s->header);
    for (uint32_t i = 0; i < s->holds.count; i++) {
        const struct sx_seen_hold *h = sx_seen_hold(s, i);
        const struct sx_trace *t = sx_seen_trace(s, h);
        REQUIRE(h->object == SX_NOBODY || h->object < s->objects.count);
        /* nobody is shown as a holder who cannot be one */
        REQUIRE(h->process != 0 || h->thread == 0 || sx_slot_of(h->thread) < SX_MAX_PARTICIPANTS);
        REQUIRE(h->process == 0 || sx_slot_of(h->process) < SX_MAX_PROCESSES);
        sum += t == NULL ? 0 : t->since_ns;
        sum += sx_seen_owner(s, h->process) != NULL;
    }
    for (uint32_t i = 0; i < s->objects.count; i++) {
        const struct sx_seen_object *o = sx_seen_object(s, i);
        REQUIRE(o->first_hold + (uint64_t)o->holds <= s->holds.count);
        REQUIRE(o->name_at + o->name_length <= s->text.count);
        if (s->times != NULL)
            sum += sx_times_find(s->times, o->generation, &total, &longest, &holds);
    }
    for (uint32_t i = 0; i < s->problems.count; i++)
        REQUIRE(sx_seen_problem(s, i)->problem < SX_PROBLEMS);
    atomic_signal_fence(memory_order_seq_cst);
    (void)sum;
}

static void take_snapshot(const struct sx_source *source)
{
    struct sx_snapshot s;
    enum sx_status status = sx_snapshot_take(source, &s);
    check_status_value(status);
    if (status == SX_OK)
        look_at(&s);
    sx_snapshot_free(&s);
}

/* ---- the targets -------------------------------------------------------------------------------------------------------- */

/* The header, the size of the file: opening, collecting, unlinking. */
static void fuzz_arena(struct input *in, unsigned damage)
{
    struct world w;
    struct sx_source source;
    world_write(&w, in, damage);
    enum sx_status s = sx_source_open(scene.arena, &source);
    check_status_value(s);
    if (s == SX_OK) {
        sx_byte_held(source.fd, -1);
        sx_source_close(&source);
    }
    uint32_t how = take8(in);
    s = sx_arena_open(scene.arena, how & 1, how & 2, 0600, &w.arena);
    check_status_value(s);
    if (s != SX_OK)
        w.arena = NULL;
    struct hand h = {.world = &w};
    while (w.arena != NULL && more(in)) {
        switch (take8(in) % 6) {
        case 0:
            check_status_value(sx_arena_collect(w.arena));
            break;
        case 1:
            check_status_value(sx_arena_unlink(w.arena, take8(in) & 1));
            break;
        case 2:
            if (sx_arena_trylock(w.arena) == SX_OK)
                sx_arena_unlock(w.arena);
            break;
        case 3:
            open_one(&h, in);
            break;
        case 4:
            close_one(&h, in);
            break;
        default:
            look_around(&w, in);
        }
    }
    if (w.arena != NULL)
        close_all(&h);
    world_end(&w);
}

/* The table of names, its index, the references, the heaps. */
static void fuzz_names(struct input *in, unsigned damage)
{
    struct world w;
    struct hand h = {.world = &w};
    if (world_open(&w, in, damage)) {
        while (more(in))
            switch (take8(in) % 8) {
            case 0:
            case 1:
            case 2:
                open_one(&h, in);
                break;
            case 3:
                close_one(&h, in);
                break;
            case 4:
                unlink_one(&h, in);
                break;
            case 5:
                check_status_value(sx_arena_collect(w.arena));
                break;
            case 6:
                if (h.count > 0)
                    sx_object_pin(w.arena, &h.object[0].core);
                break;
            default:
                check_status_value(take8(in) % 4 == 0 ? sx_arena_unlink(w.arena, true) : sx_arena_collect(w.arena));
            }
        close_all(&h);
    }
    world_end(&w);
}

/* Registering, leaving, reaping; who is alive; what is inherited from the dead. */
static void fuzz_participants(struct input *in, unsigned damage)
{
    struct world w;
    struct hand h = {.world = &w};
    if (world_open(&w, in, damage)) {
        while (more(in))
            switch (take8(in) % 4) {
            case 0:
                open_one(&h, in);
                break;
            case 1:
                use_one(&h, in);
                break;
            default:
                look_around(&w, in);
            }
        close_all(&h);
    }
    world_end(&w);
}

/* Every operation of every primitive on cells of arbitrary content. */
static void fuzz_cells(struct input *in, unsigned damage)
{
    struct world w;
    struct hand h = {.world = &w};
    if (world_open(&w, in, damage)) {
        open_one(&h, in);
        while (more(in))
            switch (take8(in) % 8) {
            case 0:
                open_one(&h, in);
                break;
            case 1:
                if (take8(in) & 1)
                    unlink_one(&h, in);
                else
                    close_one(&h, in);
                break;
            default:
                use_one(&h, in);
            }
        close_all(&h);
    }
    world_end(&w);
}

/* The same in memory of the user's own, which is bound, adopted and made. */
static void fuzz_memory(struct input *in, unsigned damage)
{
    static _Alignas(SX_PAGE) unsigned char room[2 * SX_PAGE];
    struct world w;
    struct hand h = {.world = &w};
    if (world_open(&w, in, damage)) {
        struct scene_cell *c = some_cell(in);
        size_t size = sx_kind_size(c->kind, c->parameter), given = take8(in) & 1 ? size : take16(in) % SX_PAGE;
        if (given < sizeof(struct sx_cell))
            given = sizeof(struct sx_cell);                                                 /* the binding's word */
        unsigned char *memory = room + SX_PAGE - (given + SX_LINE - 1) / SX_LINE * SX_LINE; /* ends at the page's end */
        memset(room, 0, sizeof room);
        if (take8(in) & 1) { /* else it is zero, and something is made there */
            size_t n = size < given ? size : given;
            memcpy(memory, w.arena->base + c->offset, n);
            ((struct sx_cell *)memory)->units = (uint32_t)((size + SX_LINE - 1) / SX_LINE);
        }
        damage_memory(in, memory, given);
        mprotect(room + SX_PAGE, SX_PAGE, PROT_NONE);
        struct sx_request request = {.kind = c->kind, .parameter = SX_ANY, .create = (enum sx_create)(take8(in) % 3)};
        if (take8(in) & 1)
            request.parameter = take16(in);
        struct sx_object object;
        got(&h, sx_object_at(w.arena, memory, given, &request, &object), &object);
        while (h.count > 0 && more(in))
            use_one(&h, in);
        close_all(&h);
        mprotect(room + SX_PAGE, SX_PAGE, PROT_READ | PROT_WRITE);
    }
    world_end(&w);
}

/* A picture of everything, from the file and from the mapping. */
static void fuzz_snapshot(struct input *in, unsigned damage)
{
    struct world w;
    struct sx_source source;
    world_write(&w, in, damage);
    enum sx_status s = sx_source_open(scene.arena, &source);
    check_status_value(s);
    if (s == SX_OK) {
        uint32_t how = take8(in);
        if (how & 1) { /* cut short while it is open */
            disk_put(take32(in) % scene.header.total_size);
        }
        take_snapshot(&source);
        sx_source_close(&source);
        if (!(how & 1) && how & 2) {
            if (sx_arena_open(scene.arena, false, false, 0600, &w.arena) != SX_OK)
                w.arena = NULL;
            else if (sx_source_attached(w.arena, &source) == SX_OK) {
                take_snapshot(&source);
                sx_source_close(&source);
            }
        }
    }
    world_end(&w);
}

/* The search for deadlocks. */
static void fuzz_deadlock(struct input *in, unsigned damage)
{
    struct world w;
    struct hand h = {.world = &w};
    uint64_t me;
    if (world_open(&w, in, damage)) {
        sx_deadlock_off = false;
        while (more(in)) {
            uint64_t id = some_thread(in);
            switch (take8(in) % 8) {
            case 0:
                open_one(&h, in);
                break;
            case 1:
            case 2:
                use_one(&h, in);
                break;
            case 3:
                sx_look_for_all(w.arena);
                break;
            case 4:
                if (sx_identity(w.arena, &me) == SX_OK)
                    sx_deadlock_scan(w.arena, me);
                break;
            case 5:
                if (sx_participant(w.arena, id) != NULL)
                    sx_deadlock_closed(w.arena, id, take8(in) & 1);
                break;
            case 6:
                if (sx_participant(w.arena, id) != NULL)
                    sx_deadlock_tell(w.arena, id);
                for (uint32_t i = 0; i < sx_deadlock.links; i++)
                    REQUIRE(sx_deadlock.link[i].from < sx_deadlock.count && sx_deadlock.link[i].to < sx_deadlock.count);
                for (uint32_t i = 0; i < sx_deadlock.count; i++)
                    REQUIRE(strlen(sx_deadlock.member[i].where) < sizeof sx_deadlock.member[i].where);
                break;
            default:
                if (sx_participant(w.arena, id) != NULL)
                    sx_deadlock_behind(w.arena, id, some_thread(in));
            }
        }
        close_all(&h);
    }
    sx_deadlock_forget();
    world_end(&w);
}

/* What was noted on demand: traces, times of holds, lock order. */
static void fuzz_notes(struct input *in, unsigned damage)
{
    static const char stack[] = "a.py:1 in f\nb.py:2 in g";
    struct world w;
    uint64_t me;
    if (!world_open(&w, in, damage)) {
        world_end(&w);
        return;
    }
    struct sx_held held[4] = {0};
    for (uint32_t i = 0; i < 4; i++)
        held[i].record = -1;
    while (more(in) && sx_identity(w.arena, &me) == SX_OK) {
        struct sx_order *o = sx_order_table(w.arena, take8(in) & 1);
        struct sx_order_told *told = NULL;
        struct scene_cell *c = some_cell(in);
        struct sx_cell *cell = (struct sx_cell *)(w.arena->base + c->offset);
        uint32_t i = take8(in) % 4, how = take8(in);
        uint64_t class = how & 0x80 ? take64(in) : scene.classes[take8(in) % 4];
        char text[SX_WHERE_WORDS * 8] = "somewhere.py:1";
        struct sx_trace copy;
        switch (how % 12) {
        case 0: {
            struct sx_order_what what = {.key = sx_order_hash(how >> 4, text, 4),
                                         .file = how & 0x40 ? 7 : 0,
                                         .last = how & 0x40 ? INT64_MAX : 0,
                                         .kind = SX_KIND_MUTEX,
                                         .unique = how & 0x20,
                                         .part = how & 0x10,
                                         .text = text,
                                         .length = 14};
            sx_order_class(w.arena, &what);
            break;
        }
        case 1:
        case 2: {
            struct sx_order_step step = {.from = class,
                                         .to = scene.classes[take8(in) % 4],
                                         .held = take8(in) % 4,
                                         .wanted = take8(in) % 4,
                                         .ranges = {take8(in), take8(in), take8(in), take8(in)}};
            step.gate[0] = take8(in) % 8;
            if (o != NULL)
                sx_order_known(o, &step);
            check_status_value(sx_order_note(w.arena, &step, "a.py:1", stack, &told));
            break;
        }
        case 3:
            check_status_value(sx_order_note_writer(w.arena, class, &told));
            break;
        case 4:
            sx_order_set_object(w.arena, sx_held_key(w.arena, cell), class);
            break;
        case 5:
            if (o != NULL && sx_order_valid(o, sx_order_of_object(o, sx_held_key(w.arena, cell))))
                sx_order_written(o, class);
            break;
        case 6:
            if (o != NULL && sx_order_at(o, class) != NULL)
                REQUIRE(sx_order_at(o, class)->text != NULL);
            break;
        case 7:
            if (take8(in) % 8 == 0)
                sx_order_clear(w.arena);
            break;
        case 8:
            sx_trace_withdraw(sx_self.slot, &held[i]);
            held[i] = (struct sx_held){.arena = w.arena,
                                       .owner = me,
                                       .what = sx_held_key(w.arena, cell),
                                       .key = c->offset,
                                       .since_ns = (int64_t)take64(in)};
            sx_trace_publish(sx_self.slot, &held[i], text);
            break;
        case 9:
            if (held[i].arena != NULL)
                sx_trace_time(w.arena, &held[i], sx_now());
            break;
        case 10:
            for (uint32_t slot = 0; slot < sx_participants_ready(w.arena) && slot < 12; slot++)
                for (uint32_t n = 0; n < SX_TRACES; n++)
                    if (sx_trace_read(&w.arena->participants[slot].trace[n], &copy))
                        REQUIRE(copy.key != 0);
            break;
        default:
            sx_noting_switch(take8(in) % 4);
        }
        if (told != NULL) {
            REQUIRE(told->count > 0 && told->count <= 16);
            for (uint32_t n = 0; n < told->count; n++)
                REQUIRE(told->link[n].to.key == told->link[(n + 1) % told->count].from.key);
            free(told);
        }
    }
    sx_noting_switch(0);
    world_end(&w);
}

/* File ranges: the lines, the records of those who wait and hold. */
static void fuzz_files(struct input *in, unsigned damage)
{
    struct world w;
    if (!world_open(&w, in, damage)) {
        world_end(&w);
        return;
    }
    struct sx_range range[3];
    uint32_t count = 0;
    int foreign = open(scene.file, O_RDWR | O_CLOEXEC); /* somebody without syncx */
    struct flock l = {.l_type = F_WRLCK, .l_start = 200, .l_len = 50};
    REQUIRE(foreign >= 0 && fcntl(foreign, F_OFD_SETLK, &l) == 0);
    for (; count < 3; count++) {
        int64_t first = take8(in);
        range[count] = (struct sx_range){.arena = w.arena,
                                         .path = scene.file,
                                         .first = first,
                                         .last = first + take8(in),
                                         .style = (enum sx_style)(take8(in) % 3),
                                         .shared = take8(in) & 1,
                                         .reentrant = take8(in) & 1};
        if (range[count].style == SX_FLOCK_STYLE) /* always the whole file */
            range[count].first = 0, range[count].last = SX_TO_END;
        pthread_mutex_init(&range[count].guard, NULL);
        if (sx_range_open(&range[count], -1) != SX_OK)
            break;
    }
    while (count > 0 && more(in)) {
        struct sx_range *r = &range[take8(in) % count];
        int64_t first = r->first + take8(in) % 8, last = first + take8(in) % 64;
        bool whole = r->style == SX_FLOCK_STYLE;
        switch (take8(in) % 10) {
        case 0:
        case 1:
        case 2:
            check_status_value(sx_range_acquire(r, some_deadline(in)));
            break;
        case 3:
            check_status_value(sx_range_release(r));
            break;
        case 4:
            check_status_value(sx_range_upgrade(r, some_deadline(in)));
            break;
        case 5:
            check_status_value(sx_range_downgrade(r));
            break;
        case 6:
            if (!whole)
                check_status_value(sx_range_add(r, first, last, take8(in) & 1, some_deadline(in)));
            break;
        case 7:
            if (!whole)
                check_status_value(sx_range_remove(r, first, last));
            break;
        case 8:
            sx_range_locked(r);
            break;
        default:
            look_around(&w, in);
        }
    }
    while (count > 0)
        sx_range_close(&range[--count]);
    for (uint32_t i = 0; sx_self.slot != NULL && i < SX_FILE_HOLDS; i++) /* who holds nothing says so */
        REQUIRE(!(atomic_load(&sx_self.slot->files[i].state) & FILE_HELD));
    close(foreign);
    world_end(&w);
}

const struct fuzz_target fuzz_targets[] = {
    {"arena", fuzz_arena, DAMAGE_HEADER | DAMAGE_SIZE | DAMAGE_LIVES, {{0}, 0}, {{0}, 0}},
    {"names", fuzz_names, DAMAGE_HEADER | DAMAGE_INDEX | DAMAGE_CELLS, {{0}, 1}, {{3}, 1}},
    {"participants", fuzz_participants, DAMAGE_HEADER | DAMAGE_LIVES, {{0}, 1}, {{1, 0, 1}, 3}},
    {"cells", fuzz_cells, DAMAGE_CELLS | DAMAGE_LIVES, {{0}, 0}, {{2, 0, 1}, 3}},
    {"memory", fuzz_memory, DAMAGE_LIVES, {{0}, 0}, {{0, 1}, 2}},
    {"snapshot", fuzz_snapshot, DAMAGE_ALL, {{0}, 0}, {{0}, 0}},
    {"deadlock", fuzz_deadlock, DAMAGE_LIVES | DAMAGE_CELLS | DAMAGE_FILES, {{0, 0}, 2}, {{0, 1, 0, 1}, 4}},
    {"notes", fuzz_notes, DAMAGE_NOTES | DAMAGE_HEADER | WRITES_NOTES, {{0}, 0}, {{0}, 0}},
    {"files", fuzz_files, DAMAGE_FILES | DAMAGE_LIVES, {{0}, 0}, {{0}, 0}},
};
const uint32_t fuzz_target_count = sizeof fuzz_targets / sizeof *fuzz_targets;
