/* py_arena.c: the base type of Arena, and the read-only views that snapshots and `syncx ls` are made of. */
#include "py_common.h"
#include <structmember.h>

static ArenaObject *usable(PyObject *op)
{
    if (((ArenaObject *)op)->core == NULL) {
        sx_raise(sx_state(Py_TYPE(op)), SX_CLOSED, op, 0);
        return NULL;
    }
    return (ArenaObject *)op;
}

static PyObject *arena_open(PyObject *op, PyObject *args)
{
    ArenaObject *self = (ArenaObject *)op;
    PyObject *path;
    int create, named;
    unsigned int mode;
    enum sx_status s;
    if (!PyArg_ParseTuple(args, "O&ppI:_open", PyUnicode_FSConverter, &path, &create, &named, &mode))
        return NULL;
    if (self->core != NULL) {
        Py_DECREF(path);
        PyErr_SetString(PyExc_RuntimeError, "the arena is open already");
        return NULL;
    }
    for (;;) {
        PyThreadState *save = PyEval_SaveThread();
        s = sx_arena_open(PyBytes_AS_STRING(path), create, named, mode, &self->core);
        int saved = errno;
        PyEval_RestoreThread(save);
        errno = saved;
        if (s != SX_INTERRUPTED || PyErr_CheckSignals() < 0)
            break;
    }
    Py_DECREF(path);
    if (s == SX_OK)
        Py_RETURN_NONE;
    self->core = NULL;
    return sx_raise(sx_state(Py_TYPE(op)), s, op, 0);
}

PyDoc_STRVAR(
    close_doc,
    "close($self, /)\n--\n\n"
    "Give this Arena object up: it makes no new objects, and the process leaves the arena as soon as its last lock is\n"
    "dropped and no other thread of it is attached.  Locks that are open already go on working.  Closing twice is "
    "fine.");

static void arena_drop(ArenaObject *self)
{
    struct sx_arena *core = self->core;
    self->core = NULL;
    if (core != NULL)
        sx_arena_release(core);
}

static PyObject *arena_close(PyObject *op, PyObject *unused)
{
    (void)unused;
    arena_drop((ArenaObject *)op);
    Py_RETURN_NONE;
}

static PyObject *arena_unlink_name(PyObject *op, PyObject *args)
{
    const char *name;
    Py_ssize_t length;
    int force;
    ArenaObject *self = usable(op);
    if (self == NULL || !PyArg_ParseTuple(args, "s#p:_unlink_name", &name, &length, &force))
        return NULL;
    struct sx_arena *core = self->core;
    sx_arena_keep(core); /* it may be closed while we wait */
    enum sx_status s = sx_object_unlink(core, name, (uint32_t)length, force);
    sx_arena_release(core);
    if (s == SX_OK)
        Py_RETURN_NONE;
    return sx_raise(sx_state(Py_TYPE(op)), s, op, 0);
}

static PyObject *arena_unlink(PyObject *op, PyObject *args)
{
    int force;
    ArenaObject *self = usable(op);
    if (self == NULL || !PyArg_ParseTuple(args, "p:_unlink", &force))
        return NULL;
    struct sx_arena *core = self->core;
    sx_arena_keep(core); /* it may be closed while we wait */
    enum sx_status s = sx_arena_unlink(core, force);
    sx_arena_release(core);
    if (s == SX_OK)
        Py_RETURN_NONE;
    return sx_raise(sx_state(Py_TYPE(op)), s, op, 0);
}

static PyObject *arena_collect(PyObject *op, PyObject *unused)
{
    (void)unused;
    ArenaObject *self = usable(op);
    if (self == NULL)
        return NULL;
    struct sx_arena *core = self->core;
    sx_arena_keep(core); /* it may be closed while we wait */
    enum sx_status s = sx_arena_collect(core);
    sx_arena_release(core);
    if (s == SX_OK)
        Py_RETURN_NONE;
    return sx_raise(sx_state(Py_TYPE(op)), s, op, 0);
}

/* ---- views: nothing is locked, nothing written; every number read is checked ---------------------------- */
static int append(PyObject *list, PyObject *item)
{
    int r = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return r;
}

static PyObject *name_of(struct sx_arena *a, struct sx_cell *cell)
{
    uint32_t at = atomic_load_explicit(&cell->name, memory_order_acquire);
    struct sx_name *name = at == 0 ? NULL : sx_name_at(a, at - 1);
    if (name == NULL)
        Py_RETURN_NONE;
    uint32_t used = atomic_load_explicit(&name->used, memory_order_acquire);
    char copy[SX_MAX_NAME + 1];
    if (used > SX_MAX_NAME)
        Py_RETURN_NONE;
    memcpy(copy, name->bytes, used);
    return PyUnicode_DecodeUTF8(copy, used, "replace");
}

PyDoc_STRVAR(
    cells_doc,
    "_cells($self, /)\n--\n\n"
    "Every live cell: (offset, kind, name or None, parameter, value, owner died, [(process id, thread's holder "
    "id,\n"
    "pid, tid, mode) of each live holder], references, created_ns, contended, recoveries, rescues, dead_pid).");

struct holders {
    struct sx_arena *arena;
    PyObject *list; /* NULL after an error */
};

static void add_holder(void *context, uint64_t process, uint64_t thread, uint32_t mode)
{
    struct holders *h = context;
    if (h->list == NULL)
        return;
    struct sx_participant *p = thread == 0 ? NULL : sx_participant(h->arena, thread);
    bool known = p != NULL && atomic_load(&p->generation) == (uint32_t)(thread >> 32);
    uint32_t pid = known ? atomic_load(&p->pid) : 0, tid = known ? atomic_load(&p->tid) : 0;
    struct sx_process *owner = known || process == 0 ? NULL : sx_process_of(h->arena, process);
    if (owner != NULL)
        pid = atomic_load(&owner->pid);
    if (append(h->list,
               Py_BuildValue("KKIII", (unsigned long long)process, (unsigned long long)thread, pid, tid, mode)) < 0)
        Py_CLEAR(h->list);
}

static PyObject *describe_cell(struct sx_arena *a, struct sx_cell *cell, enum sx_kind kind)
{
    struct holders holders = {a, PyList_New(0)};
    struct sx_look look = {.value = -1, .holder = add_holder, .context = &holders};
    sx_kind_operations(kind)->look(a, cell, &look);
    PyObject *name = holders.list == NULL ? NULL : name_of(a, cell);
    if (name == NULL) {
        Py_XDECREF(holders.list);
        return NULL;
    }
    struct sx_counts counts;
    sx_count(cell, kind, &counts);
    return Py_BuildValue("KiNILONIKKKKI", (unsigned long long)((char *)cell - a->base), (int)kind, name,
                         kind == SX_KIND_CONDITION ? 0 : cell->parameter, /* of a condition: its lock */
                         (long long)look.value, look.owner_died ? Py_True : Py_False, holders.list,
                         atomic_load(&cell->references), (unsigned long long)cell->created_ns,
                         (unsigned long long)counts.contended, (unsigned long long)counts.recoveries,
                         (unsigned long long)counts.rescues, atomic_load(&sx_statistics(cell)->dead_pid));
}

static PyObject *arena_cells(PyObject *op, PyObject *unused)
{
    (void)unused;
    ArenaObject *self = usable(op);
    PyObject *list = self == NULL ? NULL : PyList_New(0);
    if (list == NULL)
        return NULL;
    struct sx_arena *a = self->core;
    uint64_t cursor = atomic_load_explicit(&a->header->cells.cursor, memory_order_acquire);
    for (uint32_t unit = 0; unit < cursor;) {
        struct sx_cell *cell = sx_cell_at(a, unit);
        if (cell == NULL) {
            Py_DECREF(list);
            return sx_raise(sx_state(Py_TYPE(op)), SX_DAMAGED, op, 0);
        }
        enum sx_kind kind = sx_cell_kind(cell);
        size_t size = sx_kind_size(kind, cell->parameter);
        if (size != 0 && size <= (size_t)cell->units * SX_LINE && append(list, describe_cell(a, cell, kind)) < 0) {
            Py_DECREF(list);
            return NULL;
        }
        unit += cell->units;
    }
    return list;
}

PyDoc_STRVAR(participants_doc,
             "_participants($self, /)\n--\n\n"
             "Every live participant: (holder id, pid, tid, waiting, cell offset, awaited holder, since_ns, "
             "deadline_ns, units, mode).");

/* What the thread does now: its last record in use. */
static struct sx_wait *innermost(struct sx_participant *p)
{
    for (uint32_t i = SX_WAITS; i-- > 0;)
        if (sx_wait_state(atomic_load_explicit(&p->wait[i].state, memory_order_acquire)) == SX_WAITING &&
            atomic_load_explicit(&p->wait[i].kind, memory_order_relaxed) != SX_KIND_FILE)
            return &p->wait[i];
    return NULL;
}

static PyObject *arena_participants(PyObject *op, PyObject *unused)
{
    (void)unused;
    ArenaObject *self = usable(op);
    PyObject *list = self == NULL ? NULL : PyList_New(0);
    if (list == NULL)
        return NULL;
    struct sx_arena *a = self->core;
    uint32_t n = sx_participants_ready(a), life;
    for (uint32_t i = 0; i < n; i++) {
        struct sx_participant *p = &a->participants[i];
        uint64_t id = sx_slot_id(a, i);
        if (sx_holder_life(a, id, &life) != SX_ALIVE)
            continue;
        static struct sx_wait none;
        struct sx_wait *found = innermost(p), *w = found == NULL ? &none : found;
        bool signal =
            atomic_load(&w->kind) == SX_KIND_CONDITION; /* by whom is not known; its fields mean other things */
        if (append(list, Py_BuildValue("KIIOKKKKII", (unsigned long long)id, atomic_load(&p->pid), atomic_load(&p->tid),
                                       found != NULL ? Py_True : Py_False, (unsigned long long)atomic_load(&w->cell),
                                       (unsigned long long)(signal ? 0 : atomic_load(&w->holder)),
                                       (unsigned long long)atomic_load(&w->since_ns),
                                       (unsigned long long)atomic_load(&w->deadline_ns),
                                       signal ? 1 : atomic_load(&w->units), atomic_load(&w->mode) & WAIT_MODE)) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

PyDoc_STRVAR(file_locks_doc,
             "_file_locks($self, /)\n--\n\n"
             "File ranges that live threads hold or await: (state, pid, tid, device, inode, first, last, mode, style, "
             "since_ns,\n"
             "deadline_ns or None).");

static int append_file_lock(PyObject *list, struct sx_participant *p, const char *state, uint32_t mode, uint32_t device,
                            uint64_t inode, uint64_t first, uint64_t last, uint64_t since, uint64_t deadline)
{
    static const char *const modes[] = {"exclusive", "shared", "upgrade"}, *const styles[] = {"ofd", "flock", "posix"};
    uint32_t m = mode & FILE_MODE, style = (mode & FILE_STYLE) >> FILE_STYLE_SHIFT;
    if (m > SX_UPGRADE_MODE || style > SX_POSIX_STYLE)
        return 0; /* noise */
    PyObject *until = deadline == SX_NEVER ? Py_NewRef(Py_None) : PyLong_FromUnsignedLongLong(deadline);
    return append(list, Py_BuildValue("sIIIKKKssKN", state, atomic_load(&p->pid), atomic_load(&p->tid), device,
                                      (unsigned long long)inode, (unsigned long long)first, (unsigned long long)last,
                                      modes[m], styles[style], (unsigned long long)since, until));
}

static PyObject *arena_file_locks(PyObject *op, PyObject *unused)
{
    (void)unused;
    ArenaObject *self = usable(op);
    PyObject *list = self == NULL ? NULL : PyList_New(0);
    if (list == NULL)
        return NULL;
    struct sx_arena *a = self->core;
    uint32_t n = sx_participants_ready(a);
    int r = 0;
    for (uint32_t i = 0; i < n && r == 0; i++) {
        struct sx_participant *p = &a->participants[i];
        if (!sx_slot_alive(a, i))
            continue;
        for (uint32_t j = 0; j < SX_FILE_HOLDS && r == 0; j++) {
            struct sx_file_hold *h = &p->files[j], copy;
            uint32_t state = atomic_load_explicit(&h->state, memory_order_acquire);
            copy = *h;
            atomic_thread_fence(memory_order_acquire);
            if ((state & FILE_HELD) && atomic_load_explicit(&h->state, memory_order_relaxed) == state)
                r = append_file_lock(list, p, "held", state, copy.device, copy.inode, copy.first, copy.last,
                                     copy.since_ns, SX_NEVER);
        }
        for (uint32_t j = 0; j < SX_WAITS && r == 0; j++) {
            struct sx_wait *w = &p->wait[j], copy;
            uint32_t state = atomic_load_explicit(&w->state, memory_order_acquire);
            copy = *w;
            atomic_thread_fence(memory_order_acquire);
            if (sx_wait_state(state) != SX_RUNNING && copy.kind == SX_KIND_FILE &&
                atomic_load_explicit(&w->state, memory_order_relaxed) >> 8 == state >> 8)
                r = append_file_lock(list, p, "waiting", copy.mode, copy.units, copy.cell, copy.holder, copy.address,
                                     copy.since_ns, copy.deadline_ns);
        }
    }
    if (r < 0)
        Py_CLEAR(list);
    return list;
}

static PyObject *arena_counters(PyObject *op, PyObject *unused)
{
    (void)unused;
    ArenaObject *self = usable(op);
    if (self == NULL)
        return NULL;
    struct sx_header *h = self->core->header;
    return Py_BuildValue("{sKsKsIsKsK}", "rescues", (unsigned long long)atomic_load(&h->rescues), "recoveries",
                         (unsigned long long)atomic_load(&h->recoveries), "names", atomic_load(&h->names_live),
                         "cell_bytes", (unsigned long long)atomic_load(&h->cells.cursor) * SX_LINE, "name_bytes",
                         (unsigned long long)atomic_load(&h->names.cursor) * SX_NAME_UNIT);
}

static PyObject *arena_description(PyObject *op, PyObject *unused)
{
    (void)unused;
    ArenaObject *self = usable(op);
    if (self == NULL)
        return NULL;
    struct sx_header *h = self->core->header;
    static const char *const names[SX_REGIONS] = {"processes", "participants", "index_a",    "index_b", "references",
                                                  "names",     "cells",        "hold_times", "order"};
    PyObject *regions = PyDict_New();
    for (int i = 0; regions != NULL && i < SX_REGIONS; i++) {
        PyObject *r = Py_BuildValue("KIIK", (unsigned long long)h->regions[i].offset, h->regions[i].item_size,
                                    h->regions[i].capacity, (unsigned long long)atomic_load(&h->ready[i]));
        if (r == NULL || PyDict_SetItemString(regions, names[i], r) < 0)
            Py_CLEAR(regions);
        Py_XDECREF(r);
    }
    return regions == NULL ? NULL
                           : Py_BuildValue("{sIsKsIsN}", "abi", h->abi, "total_size", (unsigned long long)h->total_size,
                                           "header_size", h->header_size, "regions", regions);
}

static PyObject *arena_id(PyObject *op, void *unused)
{
    (void)unused;
    ArenaObject *self = usable(op);
    return self == NULL ? NULL : PyBytes_FromStringAndSize((char *)self->core->id, 16);
}

static PyObject *arena_closed(PyObject *op, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((ArenaObject *)op)->core == NULL);
}

static PyObject *arena_retired(PyObject *op, void *unused)
{
    (void)unused;
    ArenaObject *self = usable(op);
    return self == NULL ? NULL : PyBool_FromLong(atomic_load(&self->core->header->retired) != 0);
}

static void arena_dealloc(PyObject *op)
{
    PyTypeObject *type = Py_TYPE(op);
    ArenaObject *self = (ArenaObject *)op;
    if (self->weak != NULL)
        PyObject_ClearWeakRefs(op);
    PyObject *et, *ev, *tb;
    PyErr_Fetch(&et, &ev, &tb);
    sx_quiet = true;
    arena_drop(self);
    sx_quiet = false;
    PyErr_Restore(et, ev, tb);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyObject *arena_join(PyObject *op, PyObject *args)
{
    ArenaObject *self = (ArenaObject *)op;
    int pidfd, pid;
    PyObject *timeout, *deadlock, *priority;
    int64_t deadline;
    signed char which = DEADLOCK_DEFAULT, number = 0;
    if (!PyArg_ParseTuple(args, "iiOOO:_join", &pidfd, &pid, &timeout, &deadlock, &priority) ||
        sx_parse_deadlock(deadlock, priority, &which, &number) < 0 || sx_deadline(Py_True, timeout, &deadline) < 0)
        return NULL;
    struct sx_arena *core = self->core;
    if (core == NULL)
        return sx_raise(sx_state(Py_TYPE(op)), SX_CLOSED, op, 0);
    sx_arena_keep(core); /* it may be closed meanwhile */
    struct sx_wish outer_wish = sx_wish;
    sx_wish = (struct sx_wish){sx_wish_bits(which, number), op};
    enum sx_status status = sx_join(core, pidfd, (uint32_t)pid, sx_start_time(pid, 0), deadline);
    int saved = errno;
    sx_wish = outer_wish;
    sx_arena_release(core);
    errno = saved;
    if (status == SX_OK || status == SX_TIMEOUT)
        return PyBool_FromLong(status == SX_OK);
    return sx_raise(sx_state(Py_TYPE(op)), status, op, 0);
}

static PyMethodDef arena_methods[] = {
    {"close", arena_close, METH_NOARGS, close_doc},
    {"_traces", sx_py_traces, METH_VARARGS,
     "_traces($self, pid, tid, /)\n--\n\nWhat a thread has traced of its holds."},
    {"collect", arena_collect, METH_NOARGS,
     "collect($self, /)\n--\n\nTake back at once what dead processes knew: their anonymous objects, their slots.\n"
     "It happens by itself when a process attaches."},
    {"statistics", arena_counters, METH_NOARGS,
     "statistics($self, /)\n--\n\nA dict: rescues and recoveries over all locks, names in use, cell_bytes and\n"
     "name_bytes given out so far."},
    {"_open", arena_open, METH_VARARGS, NULL},
    {"_unlink_name", arena_unlink_name, METH_VARARGS, NULL},
    {"_unlink", arena_unlink, METH_VARARGS, NULL},
    {"_cells", arena_cells, METH_NOARGS, cells_doc},
    {"_file_locks", arena_file_locks, METH_NOARGS, file_locks_doc},
    {"_participants", arena_participants, METH_NOARGS, participants_doc},
    {"_join", arena_join, METH_VARARGS,
     "_join($self, pidfd, pid, timeout, deadlock, priority, /)\n--\n\nWaits for the end of a process; False: not in "
     "that time."},
    {"_description", arena_description, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef arena_getset[] = {
    {"id", arena_id, NULL, "16 random bytes, made with the arena.", NULL},
    {"closed", arena_closed, NULL, "True once close() was called.", NULL},
    {"retired", arena_retired, NULL, "True once the arena was unlinked: it makes no sense to go on with it.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef arena_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ArenaObject, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot arena_slots[] = {
    {Py_tp_dealloc, arena_dealloc}, {Py_tp_methods, arena_methods}, {Py_tp_getset, arena_getset},
    {Py_tp_members, arena_members}, {Py_tp_new, PyType_GenericNew}, {0, NULL},
};

PyType_Spec sx_arena_spec = {
    .name = "syncx._core.BaseArena",
    .basicsize = sizeof(ArenaObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = arena_slots,
};
