/* py_trace.c: what the acquires and releases of all types report here while tracing or the check of lock order is on:
 * the list of what the thread holds, where in the program that was taken, and of which lock class it is.
 *
 * Everything runs with the interpreter's lock held (or, without one, on data of the thread's own); the list is the
 * thread's own, and a signal handler, which runs between two of these calls or in the wait of a lock, leaves it as whole
 * as it found it.  What is told of an inversion is syncx/order.py's to say.
 */
#include "py_common.h"

#include "files.h"

/* ---- spots: lines of the program, numbered ------------------------------------------------------------------- */

#define SPOTS 2048u
#define PROBES 8u
#define LINE (sizeof(((struct sx_trace *)0)->where))

/* A code object that was seen here stays for good, so that no other one is taken for it. */
static struct spot {
    _Atomic(const void *) code;
    int at;
    char text[LINE];
} spots[SPOTS];
static pthread_mutex_t spots_lock = PTHREAD_MUTEX_INITIALIZER;

/* + 1; 0: not known, or there is no room for one more. */
static uint32_t number_of_spot(const struct sx_spot *spot)
{
    if (spot->code == NULL)
        return 0;
    uint32_t home = (uint32_t)(((uintptr_t)spot->code >> 4) * 2654435761u ^ (uint32_t)spot->at * 40503u);
    for (int locked = 0; locked < 2; locked++) {
        if (locked && pthread_mutex_trylock(&spots_lock) != 0)
            return 0; /* without an interpreter lock: another thread, or one that was there when a process was forked */
        for (uint32_t i = 0; i < PROBES; i++) {
            struct spot *s = &spots[(home + i) % SPOTS];
            const void *code = atomic_load_explicit(&s->code, memory_order_acquire);
            if (code == NULL && locked) {
                s->at = spot->at;
                sx_host.where(spot, s->text, sizeof s->text);
                Py_INCREF((PyObject *)spot->code);
                atomic_store_explicit(&s->code, spot->code, memory_order_release);
                code = spot->code;
            }
            if (code == spot->code && s->at == spot->at) {
                if (locked)
                    pthread_mutex_unlock(&spots_lock);
                return (home + i) % SPOTS + 1;
            }
            if (code == NULL)
                break;
        }
    }
    pthread_mutex_unlock(&spots_lock);
    return 0;
}

/* Where the calling thread is: the innermost frame outside this package. */
uint32_t sx_note_spot(void)
{
    struct sx_spot spot;
    sx_host.place(&spot);
    return number_of_spot(&spot);
}

static const char *text_of(uint32_t spot)
{
    static const char nothing[LINE];
    return spot == 0 || spot > SPOTS ? nothing : spots[spot - 1].text;
}

/* The stack, innermost first, a line for each frame, as much as fits. */
static void stack_text(char *text, size_t size)
{
    size_t n = 0;
    PyFrameObject *frame = PyEval_GetFrame(), *back;
    struct sx_spot spot;
    sx_host.place(&spot);
    bool begun = false;
    memset(text, 0, size);
    Py_XINCREF(frame);
    while (frame != NULL) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        begun = begun || code == spot.code;
        char line[128];
        if (begun) {
            struct sx_spot here = {code, -PyFrame_GetLineNumber(frame) - 1};
            sx_host.where(&here, line, 100);
            size_t length = strlen(line);
            if (n + length + 2 > size) {
                Py_DECREF(code);
                Py_DECREF(frame);
                break;
            }
            memcpy(text + n, line, length);
            n += length;
            text[n++] = '\n';
        }
        Py_DECREF(code);
        back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    if (n > 0)
        text[n - 1] = 0;
}

/* ---- classes --------------------------------------------------------------------------------------------------- */
static bool is_range(const HandleObject *h)
{
    return h->object.cell == NULL;
}

static uint64_t key_of(const HandleObject *h)
{
    return is_range(h) ? UINT64_C(1) << 62 | h->object.generation : sx_held_key(h->core, h->object.cell);
}

static bool is_ordered(const HandleObject *h)
{
    return sx_noting_order() && (sx_order_everywhere || atomic_load_explicit(&h->core->ordered, memory_order_relaxed));
}

#define NAMED 1u
#define MADE_AT 2u
#define ITSELF 3u
#define OF_FILE 4u
#define PART 5u

static uint64_t class_of_range(HandleObject *h)
{
    struct sx_order_what what = {.kind = SX_KIND_FILE, .last = INT64_MAX};
    uint64_t device, inode;
    int style;
    char text[sizeof(((struct sx_order_class *)0)->text)];
    const char *path = sx_range_identity(h, &device, &inode, &style);
    uint64_t start = OF_FILE << 8 | (style == SX_FLOCK_STYLE);
    if (path != NULL) {
        size_t length = strlen(path), cut = length < sizeof text ? 0 : length - sizeof text;
        what.key = sx_order_hash(start, path, length);
        what.text = path + cut;
        what.length = (uint32_t)(length - cut);
    } else {
        uint64_t both[2] = {device, inode};
        what.key = sx_order_hash(start, both, sizeof both);
        what.text = text;
        what.length = (uint32_t)snprintf(text, sizeof text, "device %llu, inode %llu", (unsigned long long)device,
                                         (unsigned long long)inode);
    }
    what.file = what.key;
    return sx_order_class(h->core, &what);
}

static uint64_t class_of_name(struct sx_arena *arena, struct sx_name *name, uint32_t kind)
{
    uint32_t length = atomic_load_explicit(&name->used, memory_order_acquire);
    char text[SX_MAX_NAME + 2];
    if (length > SX_MAX_NAME)
        return 0;
    text[0] = '\'';
    memcpy(text + 1, name->bytes, length);
    text[length + 1] = '\'';
    struct sx_order_what what = {.key = sx_order_hash(NAMED, text, length + 2),
                                 .kind = kind,
                                 .unique = true,
                                 .text = text,
                                 .length = length + 2};
    return sx_order_class(arena, &what);
}

/* Of one without a name: that of the line where it was made, if that is known; else it is a class by itself. */
static uint64_t class_of_nameless(struct sx_arena *arena, uint64_t key, uint32_t kind, uint32_t spot)
{
    struct sx_order *table = sx_order_table(arena, true);
    uint64_t found = table == NULL ? 0 : sx_order_of_object(table, key);
    char text[LINE + 16];
    if (found != 0 || table == NULL)
        return found;
    struct sx_order_what what = {.kind = kind, .unique = spot == 0, .text = text};
    if (spot != 0) {
        const struct spot *s = &spots[spot - 1];
        what.length = (uint32_t)snprintf(text, sizeof text, "made at %s", s->text);
        what.key = sx_order_hash(MADE_AT << 8 | kind, text, what.length);
        what.key = sx_order_hash(what.key, &s->at, sizeof s->at);
    } else {
        what.key = sx_order_hash(ITSELF, &key, sizeof key);
        what.length = (uint32_t)snprintf(text, sizeof text, "number %u", (unsigned)(uint32_t)key);
    }
    found = sx_order_class(arena, &what);
    if (found != 0)
        sx_order_set_object(arena, key, found);
    return found;
}

/* Of an object in the arena that was taken while its handle did not know its class. */
static uint64_t class_of_unit(struct sx_arena *arena, uint64_t key, uint32_t kind)
{
    struct sx_order *table = sx_order_table(arena, true);
    struct sx_holds *list = sx_held_list();
    uint32_t kept = (uint32_t)key % SX_CLASSES_KEPT;
    uint64_t id;
    memcpy(&id, arena->id, sizeof id);
    if (table == NULL || list == NULL)
        return 0;
    if (list->classes[kept].what == key && list->classes[kept].arena == id &&
        sx_order_valid(table, list->classes[kept].order))
        return list->classes[kept].order;
    struct sx_cell *cell = key >> 63 ? NULL : sx_cell_at(arena, (uint32_t)key - 1);
    uint32_t at = cell == NULL ? 0 : atomic_load_explicit(&cell->name, memory_order_acquire);
    struct sx_name *name = at == 0 ? NULL : sx_name_at(arena, at - 1);
    uint64_t order = name != NULL ? class_of_name(arena, name, kind) : class_of_nameless(arena, key, kind, 0);
    list->classes[kept].arena = id;
    list->classes[kept].what = key;
    list->classes[kept].order = order;
    return order;
}

/* 0: the handle does not know it. */
static uint64_t known_class(HandleObject *h)
{
    struct sx_order *table = sx_order_table(h->core, false);
    uint64_t order = atomic_load_explicit(&h->order, memory_order_relaxed);
    return table != NULL && sx_order_valid(table, order) ? order : 0;
}

/* 0: there is none, for want of room. */
static uint64_t class_of(HandleObject *h, uint32_t spot)
{
    struct sx_order *table = sx_order_table(h->core, true);
    uint64_t order = known_class(h);
    if (table == NULL || order != 0)
        return (uint32_t)order == 0 ? 0 : order;
    uint64_t none = ((uint64_t)atomic_load_explicit(&table->epoch, memory_order_relaxed) + 1) << 32;
    order = is_range(h)                                ? class_of_range(h)
            : h->object.unit == SX_NOBODY || spot != 0 ? class_of_nameless(h->core, key_of(h), h->kind, spot)
                                                       : class_of_unit(h->core, key_of(h), h->kind);
    atomic_store_explicit(&h->order, order == 0 ? none : order, memory_order_relaxed);
    return order;
}

/* Two of one class are told apart: the objects themselves, or the ranges of one file. */
static uint64_t part_of(struct sx_arena *arena, struct sx_order *table, uint64_t class, uint64_t what, uint32_t kind,
                        int64_t first, int64_t last)
{
    const struct sx_order_class *whole = sx_order_at(table, class);
    if (whole == NULL)
        return 0;
    struct sx_order_what part = {.kind = kind, .part = true};
    char text[sizeof whole->text];
    uint64_t range[2] = {(uint64_t)first, (uint64_t)last};
    part.text = text;
    if (kind == SX_KIND_FILE) {
        int n = last == INT64_MAX
                    ? snprintf(text, sizeof text, "[%lld:] of ", (long long)first)
                    : snprintf(text, sizeof text, "[%lld:%lld] of ", (long long)first, (long long)last + 1);
        size_t room = sizeof text - (size_t)n,
               length = whole->length < sizeof whole->text ? whole->length : sizeof whole->text;
        size_t cut = length > room ? length - room : 0;
        memcpy(text + n, whole->text + cut, length - cut);
        part.length = (uint32_t)(n + (int)(length - cut));
        part.key = sx_order_hash(whole->key ^ PART, range, sizeof range);
        part.file = whole->file ^ PART;
        part.first = first;
        part.last = last;
    } else {
        part.length = (uint32_t)snprintf(text, sizeof text, "number %u, %.*s", (unsigned)(uint32_t)what,
                                         (int)(whole->length < 160 ? whole->length : 160), whole->text);
        part.key = sx_order_hash(whole->key ^ PART, &what, sizeof what);
        part.unique = true;
    }
    return sx_order_class(arena, &part);
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */
static PyObject *link_of(const struct sx_order_link *l)
{
    const struct sx_order_edge *e = &l->edge;
    uint32_t from = l->from.length < sizeof l->from.text ? l->from.length : sizeof l->from.text;
    uint32_t to = l->to.length < sizeof l->to.text ? l->to.length : sizeof l->to.text;
    PyObject *a = PyUnicode_DecodeUTF8(l->from.text, from, "backslashreplace");
    PyObject *b = PyUnicode_DecodeUTF8(l->to.text, to, "backslashreplace");
    PyObject *held = PyUnicode_DecodeUTF8(e->held, (Py_ssize_t)strnlen(e->held, sizeof e->held), "backslashreplace");
    PyObject *stack =
        PyUnicode_DecodeUTF8(e->stack, (Py_ssize_t)strnlen(e->stack, sizeof e->stack), "backslashreplace");
    PyObject *link =
        a == NULL || b == NULL || held == NULL || stack == NULL
            ? NULL
            : Py_BuildValue("IOIIOIOOIIK", l->from.kind, a, (unsigned)(e->key >> 42 & 3), l->to.kind, b,
                            (unsigned)(e->key >> 40 & 3), held, stack, e->pid, e->tid, (unsigned long long)e->seen_ns);
    Py_XDECREF(a);
    Py_XDECREF(b);
    Py_XDECREF(held);
    Py_XDECREF(stack);
    return link;
}

/* syncx.order says it, and raises if that was asked for. */
static int tell(PyObject *lock, struct sx_order_told *told)
{
    PyObject *links = PyList_New(0);
    for (uint32_t i = 0; links != NULL && i < told->count; i++) {
        PyObject *link = link_of(&told->link[i]);
        if (link == NULL || PyList_Append(links, link) < 0)
            Py_CLEAR(links);
        Py_XDECREF(link);
    }
    free(told);
    PyObject *module = links == NULL ? NULL : PyImport_ImportModule("syncx.order");
    PyObject *r = module == NULL ? NULL : PyObject_CallMethod(module, "_told", "OO", lock, links);
    Py_XDECREF(links);
    Py_XDECREF(module);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

static int tell_full(PyObject *lock)
{
    if (atomic_exchange(&((HandleObject *)lock)->core->order_full, true))
        return 0;
    PyObject *module = PyImport_ImportModule("syncx.order");
    PyObject *r = module == NULL ? NULL : PyObject_CallMethod(module, "_full", "O", lock);
    Py_XDECREF(module);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

/* A permit may have been given back by another thread. */
static bool still_held(const struct sx_held *e, uint64_t me)
{
    if (e->kind != SX_KIND_PERMITS || e->what >> 63)
        return true;
    struct sx_cell *cell = sx_cell_at(e->arena, (uint32_t)e->what - 1);
    return cell != NULL && sx_cell_kind(cell) == SX_KIND_PERMITS &&
           sx_permits_held(e->arena, (struct sx_permits *)cell, me) != 0;
}

/* The locks that keep everybody else out while they are held. */
static void find_gates(struct sx_order *table, const struct sx_held *but, uint64_t what, uint64_t me,
                       struct sx_order_step *step)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < sx_holds->count && n < SX_ORDER_GATES; i++) {
        const struct sx_held *e = &sx_holds->item[i];
        const struct sx_order_class *c = e == but || e->what == what || e->arena != but->arena || e->owner != me ||
                                                 e->loose || e->mode != SX_EXCLUSIVE_MODE ||
                                                 !sx_order_valid(table, e->order)
                                             ? NULL
                                             : sx_order_at(table, e->order);
        if (c != NULL &&
            atomic_load_explicit(&((struct sx_order_class *)(uintptr_t)c)->flags, memory_order_relaxed) & ORDER_UNIQUE)
            step->gate[n++] = (uint32_t)e->order;
    }
}

static bool covered(const struct sx_held *e, const struct note *n)
{
    return e->what == key_of(n->handle) && (!is_range(n->handle) || (e->first <= n->last && n->first <= e->last));
}

/* One order, of what is held and what is asked for.  -1: an exception. */
static int check(struct sx_order *table, uint32_t at, uint64_t me, uint64_t wanted, const struct note *n)
{
    HandleObject *h = n->handle;
    struct sx_held e = sx_holds->item[at];
    struct sx_order_step step = {.from = e.order,
                                 .to = wanted,
                                 .held = e.mode,
                                 .wanted = n->mode == SX_ORDER_AGAIN ? SX_EXCLUSIVE_MODE : n->mode};
    if (e.order == wanted) {
        step.from = part_of(h->core, table, wanted, e.what, e.kind, e.first, e.last);
        step.to = part_of(h->core, table, wanted, key_of(h), h->object.cell == NULL ? SX_KIND_FILE : h->kind, n->first,
                          n->last);
        if (step.from == 0 || step.to == 0)
            return tell_full((PyObject *)h);
        if (step.from == step.to)
            return 0;
    }
    if (e.kind == SX_KIND_FILE) {
        step.ranges[0] = e.first;
        step.ranges[1] = e.last;
    }
    if (is_range(h)) {
        step.ranges[2] = n->first;
        step.ranges[3] = n->last;
    }
    find_gates(table, &sx_holds->item[at], key_of(h), me, &step);
    if (sx_order_known(table, &step) || !still_held(&e, me))
        return 0;
    struct sx_order_told *told;
    char stack[sizeof(((struct sx_order_edge *)0)->stack)];
    stack_text(stack, sizeof stack);
    enum sx_status s = sx_order_note(h->core, &step, text_of(e.spot), stack, &told);
    if (s == SX_FULL_CELLS)
        return tell_full((PyObject *)h);
    return told == NULL ? 0 : tell((PyObject *)h, told);
}

/* Before anything is taken.  Only who is ready to wait for ever can be part of a deadlock: a try cannot wait, and a wait with
 * a time limit ends by itself; what is taken so is held like anything else. */
static int wanted_now(const struct note *n)
{
    HandleObject *h = n->handle;
    uint64_t me;
    if (!is_ordered(h) || sx_identity(h->core, &me) != SX_OK)
        return 0;
    struct sx_holds *list = sx_held_list();
    bool writes = h->kind == SX_KIND_RWLOCK && (n->mode == SX_EXCLUSIVE_MODE || n->mode == SX_ORDER_UPGRADE);
    if (list == NULL || (list->count == 0 && !writes))
        return 0;
    bool again = n->mode == SX_ORDER_AGAIN || n->mode == SX_ORDER_UPGRADE;
    for (uint32_t i = 0; i < list->count && !again; i++)
        if (list->item[i].arena == h->core && list->item[i].owner == me && covered(&list->item[i], n))
            return 0; /* it has it: again, or it waits for itself, which is told elsewhere */
    struct sx_order *table = sx_order_table(h->core, true);
    uint64_t wanted = class_of(h, 0);
    for (uint32_t i = 0; i < list->count; i++) {
        struct sx_held *e = &list->item[i];
        if (e->arena == h->core && e->owner == me && table != NULL && !sx_order_valid(table, e->order) &&
            e->kind != SX_KIND_FILE)
            e->order = class_of_unit(h->core, e->what, e->kind);
    }
    if (wanted == 0)
        return table == NULL ? 0 : tell_full((PyObject *)h);
    if (writes && !sx_order_written(table, wanted)) {
        struct sx_order_told *told;
        if (sx_order_note_writer(h->core, wanted, &told) == SX_OK && told != NULL && tell((PyObject *)h, told) < 0)
            return -1;
    }
    if (n->deadline != SX_NEVER)
        return 0;
    for (uint32_t i = 0; i < list->count; i++) { /* what runs within may change the list, and leaves it as it was */
        const struct sx_held *e = &list->item[i];
        if (e->arena == h->core && e->owner == me && !e->loose && !covered(e, n) && sx_order_valid(table, e->order) &&
            (uint32_t)e->order != 0 && check(table, i, me, wanted, n) < 0)
            return -1;
    }
    return 0;
}

/* The wait for the arena's lock gives the interpreter's up, and what is told runs anything: the handle stays open. */
int sx_note_wanted(const struct note *n)
{
    HANDLE_BEGIN(n->handle);
    int r = wanted_now(n);
    HANDLE_END(n->handle);
    return r;
}

/* ---- taking and giving ------------------------------------------------------------------------------------------- */
static struct sx_held *find(HandleObject *h, uint64_t me)
{
    return sx_held_find(h->core, me, key_of(h), h->methods);
}

static void drop(struct sx_held *e)
{
    if (e->since_ns != 0)
        sx_trace_time(e->arena, e, sx_now());
    if (e->record >= 0 && sx_self.arena == e->arena && sx_self.id == e->owner)
        sx_trace_withdraw(sx_self.slot, e);
    sx_held_drop(e);
}

static void taken_now(const struct note *n)
{
    HandleObject *h = n->handle;
    uint64_t me;
    uint32_t what = atomic_load_explicit(&sx_noting_what, memory_order_relaxed);
    if (closed(h) || sx_identity(h->core, &me) != SX_OK)
        return;
    struct sx_held *e = is_range(h) ? sx_held_find_range(h->core, me, key_of(h), n->first, n->last) : find(h, me);
    if (e != NULL && h->kind == SX_KIND_PERMITS && h->object.unit != SX_NOBODY &&
        sx_permits_held(h->core, (struct sx_permits *)h->object.cell, me) <= n->units) {
        drop(e); /* another thread gave those back */
        e = NULL;
    }
    if (e != NULL) {
        e->depth += n->units;
        e->loose = e->loose || n->loose;
        return;
    }
    struct sx_held held = {.arena = h->core,
                           .owner = me,
                           .what = key_of(h),
                           .way = h->methods,
                           .first = n->first,
                           .last = n->last,
                           .depth = n->units,
                           .mode = n->mode,
                           .loose = n->loose,
                           .kind = is_range(h) ? SX_KIND_FILE : h->kind,
                           .spot = sx_note_spot(),
                           .record = -1};
    if (is_ordered(h)) /* most locks are never taken under another: their class is looked for when they are */
        held.order = is_range(h) || h->object.unit == SX_NOBODY ? class_of(h, 0) : known_class(h);
    if (what & SX_NOTE_TRACE) {
        held.since_ns = sx_now();
        if (is_range(h)) {
            uint64_t device, inode;
            int style;
            sx_range_identity(h, &device, &inode, &style);
            held.key = inode;
            held.device = (uint32_t)device;
        } else if (h->object.unit != SX_NOBODY) {
            held.key = (uint64_t)((char *)h->object.cell - h->core->base);
        }
    }
    e = sx_held_add(&held);
    if (e != NULL && held.key != 0)
        sx_trace_publish(sx_self.slot, e, text_of(e->spot));
}

/* The thread has it. */
void sx_note_taken(const struct note *n)
{
    HANDLE_BEGIN(n->handle); /* as above */
    taken_now(n);
    HANDLE_END(n->handle);
}

/* It gives so many back, or all. */
void sx_note_given(HandleObject *h, uint32_t units)
{
    uint64_t me;
    if (closed(h) || sx_identity(h->core, &me) != SX_OK)
        return;
    struct sx_held *e = find(h, me);
    if (e == NULL)
        return;
    if (e->depth > units) {
        e->depth -= units;
        return;
    }
    do /* of a file lock all its ranges */
        drop(e);
    while (is_range(h) && (e = find(h, me)) != NULL);
}

void sx_note_given_range(HandleObject *h, int64_t first, int64_t last)
{
    uint64_t me;
    if (sx_identity(h->core, &me) != SX_OK)
        return;
    struct sx_holds *list = sx_held_list();
    for (uint32_t i = list == NULL ? 0 : list->count; i-- > 0;) {
        struct sx_held *e = &list->item[i];
        if (e->what != key_of(h) || e->owner != me || e->first > last || e->last < first)
            continue;
        struct sx_held rest = *e;
        rest.first = last + 1;
        rest.record = -1;
        if (e->first >= first && e->last <= last)
            drop(e);
        else if (e->first >= first)
            e->first = last + 1;
        else {
            bool two = e->last > last;
            e->last = first - 1;
            if (two)
                sx_held_add(&rest);
        }
    }
}

void sx_note_mode(HandleObject *h, uint32_t mode)
{
    uint64_t me;
    if (closed(h) || sx_identity(h->core, &me) != SX_OK)
        return;
    struct sx_holds *list = sx_held_list();
    for (uint32_t i = 0; list != NULL && i < list->count; i++)
        if (list->item[i].what == key_of(h) && list->item[i].way == h->methods && list->item[i].owner == me)
            list->item[i].mode = mode;
}

/* A lock object of a file goes, with all that it holds. */
void sx_note_lost(HandleObject *h)
{
    struct sx_holds *list = sx_held_list();
    for (uint32_t i = list == NULL ? 0 : list->count; i-- > 0;)
        if (list->item[i].what == key_of(h) && list->item[i].way == h->methods) {
            uint64_t me;
            sx_identity(list->item[i].arena, &me); /* whose slot it is told in; the handle keeps it until we return */
            drop(&list->item[i]);
        }
}

/* An object was opened, or made. */
void sx_note_made(HandleObject *h)
{
    if (h->object.created && is_ordered(h) && (h->object.unit == SX_NOBODY || atomic_load(&h->object.cell->name) == 0))
        class_of(h, sx_note_spot());
}

/* ---- what Python calls --------------------------------------------------------------------------------------------- */

/* _note(trace, order): switches both; what was noted before is forgotten */
static PyObject *note(PyObject *module, PyObject *args)
{
    (void)module;
    int trace, order;
    if (!PyArg_ParseTuple(args, "pp:_note", &trace, &order))
        return NULL;
    sx_noting_switch((trace ? SX_NOTE_TRACE : 0) | (order ? SX_NOTE_ORDER : 0));
    Py_RETURN_NONE;
}

static PyObject *noting(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    uint32_t what = atomic_load(&sx_noting_what);
    return Py_BuildValue("OOK", what & SX_NOTE_TRACE ? Py_True : Py_False, what & SX_NOTE_ORDER ? Py_True : Py_False,
                         (unsigned long long)atomic_load(&sx_untraced));
}

static struct sx_arena *arena_of(PyObject *module, PyObject *arena)
{
    struct module_state *state = PyModule_GetState(module);
    if (!PyObject_TypeCheck(arena, state->arena_type))
        PyErr_Format(PyExc_TypeError, "arena must be a syncx.Arena, not %.100s", Py_TYPE(arena)->tp_name);
    else if (((ArenaObject *)arena)->core == NULL)
        sx_raise(state, SX_CLOSED, arena, 0);
    else
        return ((ArenaObject *)arena)->core;
    return NULL;
}

/* _order_where(arena or None, on): one more arena, or all, or none of those */
static PyObject *order_where(PyObject *module, PyObject *args)
{
    PyObject *arena;
    int on;
    if (!PyArg_ParseTuple(args, "Op:_order_where", &arena, &on))
        return NULL;
    if (arena == Py_None) {
        sx_order_everywhere = on;
        Py_RETURN_NONE;
    }
    struct sx_arena *core = arena_of(module, arena);
    if (core == NULL)
        return NULL;
    atomic_store(&core->ordered, on);
    Py_RETURN_NONE;
}

/* _order_clear(arena) */
static PyObject *order_clear(PyObject *module, PyObject *arena)
{
    struct sx_arena *core = arena_of(module, arena);
    if (core == NULL)
        return NULL;
    sx_order_clear(core);
    atomic_store(&core->order_full, false);
    Py_RETURN_NONE;
}

/* _order_counts(arena) -> (classes, edges, lost) */
static PyObject *order_counts(PyObject *module, PyObject *arena)
{
    struct sx_arena *core = arena_of(module, arena);
    if (core == NULL)
        return NULL;
    struct sx_order *o = sx_order_table(core, false);
    return o == NULL ? Py_BuildValue("III", 0, 0, 0)
                     : Py_BuildValue("III", atomic_load(&o->classes), atomic_load(&o->edges), atomic_load(&o->lost));
}

static void append_traces(PyObject *list, struct sx_participant *p)
{
    for (uint32_t i = 0; i < SX_TRACES && !PyErr_Occurred(); i++) {
        struct sx_trace t;
        if (!sx_trace_read(&p->trace[i], &t))
            continue;
        char where[LINE + 1] = {0};
        memcpy(where, (const void *)t.where, LINE);
        PyObject *item = Py_BuildValue("KIKN", (unsigned long long)t.key, t.device, (unsigned long long)t.since_ns,
                                       PyUnicode_DecodeUTF8(where, (Py_ssize_t)strlen(where), "backslashreplace"));
        if (item != NULL)
            PyList_Append(list, item);
        Py_XDECREF(item);
    }
}

/* _traces(pid, tid) -> [(key, device, since_ns, where)] */
PyObject *sx_py_traces(PyObject *op, PyObject *args)
{
    struct sx_arena *core = ((ArenaObject *)op)->core;
    unsigned int pid, tid;
    if (!PyArg_ParseTuple(args, "II:_traces", &pid, &tid))
        return NULL;
    PyObject *list = PyList_New(0);
    uint32_t n = core == NULL ? 0 : sx_participants_ready(core);
    for (uint32_t slot = 0; list != NULL && slot < n; slot++) {
        struct sx_participant *p = &core->participants[slot];
        if (atomic_load(&p->pid) == pid && atomic_load(&p->tid) == tid && sx_slot_alive(core, slot))
            append_traces(list, p);
        if (PyErr_Occurred())
            Py_CLEAR(list);
    }
    return list;
}

PyMethodDef sx_trace_functions[] = {
    {"_note", note, METH_VARARGS,
     "_note($module, trace, order, /)\n--\n\nSwitches what is noted of every acquire and release of this process."},
    {"_noting", noting, METH_NOARGS, "_noting($module, /)\n--\n\n(traced?, ordered?, how many holds found no room)."},
    {"_order_where", order_where, METH_VARARGS,
     "_order_where($module, arena, on, /)\n--\n\nIn which arenas the order is checked; None: in all."},
    {"_order_clear", order_clear, METH_O, "_order_clear($module, arena, /)\n--\n\nForgets all orders of an arena."},
    {"_order_counts", order_counts, METH_O,
     "_order_counts($module, arena, /)\n--\n\n(classes, orders, how many found no room)."},
    {NULL, NULL, 0, NULL},
};
