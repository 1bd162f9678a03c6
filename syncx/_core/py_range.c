/* py_range.c: the base type of RangeLock and FileLock.  filelock.py gives it its constructor, and the file object. */
#include "py_common.h"
#include <structmember.h>

#include "files.h"

typedef struct {
    HANDLE_HEAD;
    struct sx_range range; /* range.file: NULL once closed */
    PyObject *file;        /* what `lock.file` gave out, or NULL */
} RangeObject;

static bool is_closed(RangeObject *self)
{
    return closed(self) || self->range.file == NULL;
}

static struct sx_hold *hold_of_this_thread(RangeObject *self)
{
    uint64_t me;
    if (is_closed(self) || sx_identity(self->core, &me) != SX_OK)
        return NULL;
    pthread_mutex_lock(&self->range.guard);
    struct sx_hold *hold = sx_range_hold(&self->range, me);
    pthread_mutex_unlock(&self->range.guard);
    return hold;
}

const char *sx_range_identity(HandleObject *handle, uint64_t *device, uint64_t *inode, int *style)
{
    RangeObject *self = (RangeObject *)handle;
    uint64_t me;
    if (sx_identity(self->core, &me) != SX_OK)
        me = SX_INHERITED;
    pthread_mutex_lock(&self->range.guard);
    struct sx_hold *hold = sx_range_hold(&self->range, me);
    struct sx_file *f = hold != NULL ? hold->file : self->range.file;
    *device = f == NULL ? 0 : f->device;
    *inode = f == NULL ? 0 : f->st_ino;
    pthread_mutex_unlock(&self->range.guard);
    *style = self->range.style;
    return self->range.path;
}

/* ---- the file object: what Python keeps in its buffers must not outlive a hold --------------------------------- */

/* A new hold: at the start, and nothing of what was read before. */
static int rewind_file(RangeObject *self)
{
    PyObject *r = PyObject_CallMethod((PyObject *)self, "_rewind", NULL);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

/* The end of a hold: what was written is in the file before anybody else may look. */
static int flush_file(RangeObject *self)
{
    PyObject *r = PyObject_CallMethod((PyObject *)self, "_flush", NULL);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

/* ---- acquire and release ---------------------------------------------------------------------------------------- */

/* 1: got it; 0: not within the time; -1: an exception. */
static int acquired(RangeObject *self, enum sx_status s)
{
    if (s == SX_OK)
        return 1;
    if (s == SX_BUSY || s == SX_TIMEOUT)
        return 0;
    sx_raise(self->state, s, (PyObject *)self, 0);
    return -1;
}

/* Not what the thread had before: the file of a reentrant one stays where its holder is. */
static bool is_new(RangeObject *self)
{
    struct sx_hold *hold = hold_of_this_thread(self);
    return hold != NULL && hold->depth == 0;
}

static struct note note_of(RangeObject *self, int64_t first, int64_t last, bool shared, int64_t deadline)
{
    return (struct note){
        (HandleObject *)self, shared ? SX_SHARED_MODE : SX_EXCLUSIVE_MODE, 1, false, deadline, first, last};
}

static int acquire(RangeObject *self, int64_t deadline, uint32_t wish)
{
    enum sx_status s = SX_CLOSED;
    struct note note = note_of(self, self->range.first, self->range.last, self->range.shared, deadline);
    if (!is_closed(self)) {
        if (sx_noting() && sx_note_wanted(&note) < 0)
            return -1;
        WAIT_BEGIN(self, wish);
        s = sx_range_acquire(&self->range, deadline);
        WAIT_END(self);
        if (s == SX_OK && sx_noting())
            sx_note_taken(&note);
    }
    int r = acquired(self, s);
    if (r == 1 && self->file != NULL && is_new(self) && rewind_file(self) < 0) {
        sx_range_release(&self->range);
        if (sx_noting())
            sx_note_given((HandleObject *)self, 1);
        return -1;
    }
    return r;
}

/* 0, or -1 with an exception; the lock is given back whatever a flush says. */
static int release(RangeObject *self)
{
    struct sx_hold *hold = self->file != NULL ? hold_of_this_thread(self) : NULL;
    int r = hold != NULL && hold->depth == 0 ? flush_file(self) : 0;
    PyObject *et = NULL, *ev = NULL, *tb = NULL;
    if (r < 0)
        PyErr_Fetch(&et, &ev, &tb);
    enum sx_status s = is_closed(self) ? SX_CLOSED : sx_range_release(&self->range);
    if (s == SX_OK && sx_noting())
        sx_note_given((HandleObject *)self, 1);
    if (r < 0) {
        PyErr_Restore(et, ev, tb);
        return -1;
    }
    if (s != SX_OK)
        sx_raise(self->state, s, (PyObject *)self, 0);
    return s == SX_OK ? 0 : -1;
}

static PyObject *enter(HandleObject *op)
{
    RangeObject *self = (RangeObject *)op;
    int r = acquire(self, self->patience == SX_NEVER ? SX_NEVER : sx_after(self->patience), OWN_WISH);
    if (r < 0)
        return NULL;
    if (r == 0)
        return sx_raise(self->state, SX_TIMEOUT, (PyObject *)self, (long)(self->patience / 1000000));
    Py_INCREF(self);
    return (PyObject *)self;
}

/* raised: the body raised, and its exception is worth more than ours. */
static PyObject *leave(HandleObject *op, bool raised)
{
    if (release((RangeObject *)op) < 0) {
        if (!raised)
            return NULL;
        PyErr_Clear();
    }
    Py_RETURN_NONE;
}

static PyObject *enter_range(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    (void)args;
    return gate_enter_ok(nargsf, keywords) ? enter(((GateObject *)gate)->handle) : NULL;
}

static PyObject *exit_range(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    return gate_exit_ok(nargsf, keywords) ? leave(((GateObject *)gate)->handle, args[0] != Py_None) : NULL;
}

PyDoc_STRVAR(acquire_doc,
             "acquire($self, /, blocking=True, timeout=None, *, deadlock=None, priority=None)\n--\n\n"
             "Take the range; wait until nobody else holds what is in the way.\n\n"
             "blocking: False tries once and returns at once.\n"
             "timeout: seconds, a float, by the monotonic clock; None or -1 wait for ever.\n"
             "deadlock, priority: of this call, as the constructor's; None: the object's.\n\n"
             "Returns True when this thread holds it, False when it was not to be had in time.  Raises DeadlockError "
             "if this\n"
             "thread holds it already, or a conflicting range of the file, and would wait for ever, or was chosen to "
             "end a\ndeadlock; PermissionError "
             "for an\n"
             "exclusive lock on a file that may only be read; another OSError if the path cannot be opened any more;\n"
             "ValueError for a negative timeout or NaN, a timeout with blocking=False, or a closed lock; OverflowError "
             "above\n"
             "threading.TIMEOUT_MAX.  A signal handler that raises ends the wait, and nothing is held.");

static PyObject *range_acquire(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    RangeObject *self = (RangeObject *)op;
    int64_t deadline = SX_NEVER;
    uint32_t wish = OWN_WISH;
    if ((n != 0 || names != NULL) && sx_parse_acquire((HandleObject *)self, args, n, names, &deadline, NULL, &wish) < 0)
        return NULL;
    int r = acquire(self, deadline, wish);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

PyDoc_STRVAR(release_doc,
             "release($self, /)\n--\n\n"
             "Give back all that this thread holds through this lock; of a reentrant one, the innermost acquire.\n\n"
             "What was written to `file` is flushed first; if that fails the lock is given back all the same, and the\n"
             "OSError is raised.  Raises NotOwner if this thread does not hold it.");

static PyObject *range_release(PyObject *op, PyObject *unused)
{
    (void)unused;
    if (release((RangeObject *)op) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(upgrade_doc,
             "upgrade($self, /, timeout=None, *, deadlock=None, priority=None)\n--\n\n"
             "From shared to exclusive, without giving it back between; waits until nobody else reads.\n\n"
             "timeout: seconds; None or -1 wait for ever, 0 tries once.\n"
             "deadlock, priority: of this call, as the constructor's; None: the object's.\n\n"
             "Returns True when it is exclusive (or was), False, still shared, when the time is over.  Raises "
             "DeadlockError,\n"
             "still shared, if another thread waits to upgrade what this one reads: both would wait for ever; "
             "NotOwner if\n"
             "this thread does not hold it.");

static PyObject *range_upgrade(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    RangeObject *self = (RangeObject *)op;
    int64_t deadline;
    uint32_t wish;
    if (sx_parse_upgrade((HandleObject *)self, args, n, names, &deadline, &wish) < 0)
        return NULL;
    enum sx_status s = SX_CLOSED;
    if (!is_closed(self)) {
        struct note note = note_of(self, self->range.first, self->range.last, false, deadline);
        note.mode = SX_ORDER_UPGRADE;
        if (sx_noting() && sx_note_wanted(&note) < 0)
            return NULL;
        WAIT_BEGIN(self, wish);
        s = sx_range_upgrade(&self->range, deadline);
        WAIT_END(self);
        if (s == SX_OK && sx_noting())
            sx_note_mode((HandleObject *)self, SX_EXCLUSIVE_MODE);
    }
    if (s == SX_DEADLOCK)
        return sx_raise(self->state, s, op, 2);
    int r = acquired(self, s);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

static PyObject *range_downgrade(PyObject *op, PyObject *unused)
{
    (void)unused;
    RangeObject *self = (RangeObject *)op;
    if (self->file != NULL && flush_file(self) < 0)
        return NULL;
    enum sx_status s = is_closed(self) ? SX_CLOSED : sx_range_downgrade(&self->range);
    if (s != SX_OK)
        return sx_raise(self->state, s, op, 0);
    if (sx_noting())
        sx_note_mode((HandleObject *)self, SX_SHARED_MODE);
    Py_RETURN_NONE;
}

/* _add(first, last, shared, blocking, timeout, deadlock, priority): lock_range with its numbers checked */
static PyObject *range_add(PyObject *op, PyObject *args)
{
    RangeObject *self = (RangeObject *)op;
    long long first, last;
    int shared;
    PyObject *blocking, *timeout, *deadlock, *priority;
    int64_t deadline;
    signed char which = self->deadlock, number = self->priority;
    if (!PyArg_ParseTuple(args, "LLpOOOO:_add", &first, &last, &shared, &blocking, &timeout, &deadlock, &priority) ||
        sx_parse_deadlock(deadlock, priority, &which, &number) < 0 || sx_deadline(blocking, timeout, &deadline) < 0)
        return NULL;
    enum sx_status s = SX_CLOSED;
    if (!is_closed(self)) {
        struct note note = note_of(self, first, last, shared, deadline);
        if (sx_noting() && sx_note_wanted(&note) < 0)
            return NULL;
        WAIT_BEGIN(self, sx_wish_bits(which, number));
        s = sx_range_add(&self->range, first, last, shared, deadline);
        WAIT_END(self);
        if (s == SX_OK && sx_noting())
            sx_note_taken(&note);
    }
    int r = acquired(self, s);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

/* _remove(first, last): unlock_range */
static PyObject *range_remove(PyObject *op, PyObject *args)
{
    RangeObject *self = (RangeObject *)op;
    long long first, last;
    if (!PyArg_ParseTuple(args, "LL:_remove", &first, &last))
        return NULL;
    if (self->file != NULL && flush_file(self) < 0)
        return NULL;
    enum sx_status s = is_closed(self) ? SX_CLOSED : sx_range_remove(&self->range, first, last);
    if (s != SX_OK)
        return sx_raise(self->state, s, op, 0);
    if (sx_noting())
        sx_note_given_range((HandleObject *)self, first, last);
    Py_RETURN_NONE;
}

/* ---- looking ------------------------------------------------------------------------------------------------------ */
PyDoc_STRVAR(locked_doc, "locked($self, /)\n--\n\n"
                         "Does anybody, this thread included, hold what would keep a newcomer out?");

static PyObject *range_locked(PyObject *op, PyObject *unused)
{
    (void)unused;
    RangeObject *self = (RangeObject *)op;
    if (is_closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    return PyBool_FromLong(sx_range_locked(&self->range));
}

static PyObject *range_held(PyObject *op, void *unused)
{
    (void)unused;
    return PyBool_FromLong(hold_of_this_thread((RangeObject *)op) != NULL);
}

/* _is_owned(), as threading's locks have it */
static PyObject *range_is_owned(PyObject *op, PyObject *unused)
{
    (void)unused;
    return range_held(op, NULL);
}

/* _ranges() -> [(first, last, shared)] that this thread holds through this lock, in no order */
static PyObject *range_ranges(PyObject *op, PyObject *unused)
{
    (void)unused;
    PyObject *list = PyList_New(0);
    struct sx_hold *hold = hold_of_this_thread((RangeObject *)op);
    for (struct sx_segment *s = hold == NULL ? NULL : hold->segments; list != NULL && s != NULL; s = s->next) {
        PyObject *item = Py_BuildValue("LLO", (long long)s->first, (long long)s->last, s->shared ? Py_True : Py_False);
        int r = item == NULL ? -1 : PyList_Append(list, item);
        Py_XDECREF(item);
        if (r < 0)
            Py_CLEAR(list);
    }
    return list;
}

struct facts {
    unsigned long long device, inode;
    unsigned long system;
    bool writable;
    int fd;
};

/* Of the file that this thread holds, or that the path named last: other threads may follow the path meanwhile. */
static struct facts facts_of(RangeObject *self)
{
    uint64_t me;
    if (sx_identity(self->core, &me) != SX_OK)
        me = SX_INHERITED;
    pthread_mutex_lock(&self->range.guard);
    struct sx_hold *hold = sx_range_hold(&self->range, me);
    struct sx_file *f = hold != NULL ? hold->file : self->range.file;
    struct facts facts = {f->st_dev, f->st_ino, (unsigned long)f->system, f->writable, f->fd};
    pthread_mutex_unlock(&self->range.guard);
    return facts;
}

/* fileno(): of the description the locks belong to */
static PyObject *range_fileno(PyObject *op, PyObject *unused)
{
    (void)unused;
    RangeObject *self = (RangeObject *)op;
    return is_closed(self) ? sx_raise(self->state, SX_CLOSED, op, 0) : PyLong_FromLong(facts_of(self).fd);
}

/* _facts() -> (device, inode, writable, f_type of a network or userspace file system or 0) */
static PyObject *range_facts(PyObject *op, PyObject *unused)
{
    (void)unused;
    RangeObject *self = (RangeObject *)op;
    if (is_closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    struct facts f = facts_of(self);
    return Py_BuildValue("KKOk", f.device, f.inode, f.writable ? Py_True : Py_False, f.system);
}

/* ---- life ------------------------------------------------------------------------------------------------------------ */
static PyObject *finish_open(RangeObject *self, PyObject *arena, struct sx_arena *core, enum sx_status s)
{
    if (s != SX_OK) {
        sx_raise(self->state, s, (PyObject *)self, 0);
        PyMem_RawFree(self->range.path);
        self->range.path = NULL;
        sx_arena_release(core);
        return NULL;
    }
    static atomic_uint made;
    Py_INCREF(arena);
    self->object.generation = ++made; /* tells lock objects apart where they are noted, py_trace.c */
    self->arena = (ArenaObject *)arena;
    self->core = core;
    self->calls[ENTER] = enter_range;
    self->calls[EXIT] = exit_range;
    Py_RETURN_NONE;
}

static char *copy_of(const char *path)
{
    char *copy = path == NULL ? NULL : PyMem_RawMalloc(strlen(path) + 1);
    if (copy != NULL)
        return strcpy(copy, path);
    return path == NULL ? NULL : (char *)PyErr_NoMemory();
}

/* _open_file(arena, path as bytes or None, fd, first, last, shared, reentrant, style, create, inherit) */
static PyObject *range_open(PyObject *op, PyObject *args)
{
    RangeObject *self = (RangeObject *)op;
    PyObject *arena, *path;
    int fd, shared, reentrant, style, create, inherit;
    long long first, last;
    if (!PyArg_ParseTuple(args, "OOiLLppipp:_open_file", &arena, &path, &fd, &first, &last, &shared, &reentrant, &style,
                          &create, &inherit))
        return NULL;
    if (self->arena != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the lock is open already; make a new one instead of calling __init__");
        return NULL;
    }
    if (!PyObject_TypeCheck(arena, self->state->arena_type))
        return PyErr_Format(PyExc_TypeError, "arena must be a syncx.Arena, not %.100s", Py_TYPE(arena)->tp_name);
    struct sx_arena *core = ((ArenaObject *)arena)->core;
    if (core == NULL)
        return sx_raise(self->state, SX_CLOSED, arena, 0);
    char *copy = NULL;
    if (path != Py_None && (copy = copy_of(PyBytes_AsString(path))) == NULL)
        return NULL;
    self->range = (struct sx_range){.arena = core,
                                    .path = copy,
                                    .first = first,
                                    .last = last,
                                    .style = (enum sx_style)style,
                                    .shared = shared,
                                    .reentrant = reentrant,
                                    .create = create,
                                    .inherit = inherit};
    sx_arena_keep(core);
    enum sx_status s;
    Py_BEGIN_ALLOW_THREADS s = sx_range_open(&self->range, fd);
    Py_END_ALLOW_THREADS return finish_open(self, arena, core, s);
}

/* _open_beside(other, first, last, shared): another range of the same file, in all else as the other */
static PyObject *range_open_beside(PyObject *op, PyObject *args)
{
    RangeObject *self = (RangeObject *)op, *other;
    PyObject *given;
    long long first, last;
    int shared;
    if (!PyArg_ParseTuple(args, "OLLp:_open_beside", &given, &first, &last, &shared))
        return NULL;
    if (!PyObject_TypeCheck(given, Py_TYPE(op)) || self->arena != NULL) {
        PyErr_SetString(PyExc_TypeError, "_open_beside takes an open lock of the same class, once");
        return NULL;
    }
    other = (RangeObject *)given;
    if (is_closed(other))
        return sx_raise(self->state, SX_CLOSED, given, 0);
    char *copy = NULL;
    if (other->range.path != NULL && (copy = copy_of(other->range.path)) == NULL)
        return NULL;
    self->range = other->range;
    self->range.path = copy;
    self->range.first = first;
    self->range.last = last;
    self->range.shared = shared;
    self->range.holds = NULL;
    self->range.own = (struct sx_hold){0};
    self->patience = other->patience;
    self->deadlock = other->deadlock;
    self->priority = other->priority;
    sx_arena_keep(other->core);
    return finish_open(self, (PyObject *)other->arena, other->core, sx_range_open_beside(&self->range, &other->range));
}

static bool held(HandleObject *op)
{
    return hold_of_this_thread((RangeObject *)op) != NULL;
}

static bool held_here(HandleObject *op)
{
    return ((RangeObject *)op)->range.holds != NULL;
}

/* close(), or the object goes: by whatever thread, with whatever it still holds */
static void closing(HandleObject *op)
{
    RangeObject *self = (RangeObject *)op;
    if (sx_noting())
        sx_note_lost(op);
    if (self->range.file != NULL)
        sx_range_close(&self->range);
    PyMem_RawFree(self->range.path);
    self->range.path = NULL;
}

static const struct handle_methods methods = {
    .held = held,
    .held_here = held_here,
    .closing = closing,
    .enter = enter,
    .exit = leave,
};

static PyObject *range_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    return sx_handle_new(type, &methods);
}

static int range_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((RangeObject *)op)->file);
    return sx_handle_traverse(op, visit, arg);
}

static int range_clear(PyObject *op)
{
    Py_CLEAR(((RangeObject *)op)->file);
    return 0;
}

static PyMethodDef range_function_table[] = {
    {"acquire", (PyCFunction)(void (*)(void))range_acquire, METH_FASTCALL | METH_KEYWORDS, acquire_doc},
    {"release", range_release, METH_NOARGS, release_doc},
    {"upgrade", (PyCFunction)(void (*)(void))range_upgrade, METH_FASTCALL | METH_KEYWORDS, upgrade_doc},
    {"downgrade", range_downgrade, METH_NOARGS,
     "downgrade($self, /)\n--\n\n"
     "From exclusive to shared, without giving it back between: those who wait to read come in.  What was written to\n"
     "`file` is flushed first.  Raises NotOwner if this thread does not hold it."},
    {"locked", range_locked, METH_NOARGS, locked_doc},
    {"fileno", range_fileno, METH_NOARGS,
     "fileno($self, /)\n--\n\nThe descriptor whose open file description the lock belongs to; not to be closed."},
    {"_open_file", range_open, METH_VARARGS, NULL},
    {"_open_beside", range_open_beside, METH_VARARGS, NULL},
    {"_add", range_add, METH_VARARGS, NULL},
    {"_remove", range_remove, METH_VARARGS, NULL},
    {"_ranges", range_ranges, METH_NOARGS, NULL},
    {"_facts", range_facts, METH_NOARGS, NULL},
    {"_is_owned", range_is_owned, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef range_getset[] = {
    {"held", range_held, NULL, "Does this thread hold it, through this object?", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef range_members[] = {
    {"start", T_LONGLONG, offsetof(RangeObject, range.first), READONLY, "The first byte."},
    {"_last", T_LONGLONG, offsetof(RangeObject, range.last), READONLY, NULL},
    {"shared", T_BOOL, offsetof(RangeObject, range.shared), READONLY, "Beside other shared ones, or alone?"},
    {"reentrant", T_BOOL, offsetof(RangeObject, range.reentrant), READONLY, "May its holder take it again?"},
    {"create", T_BOOL, offsetof(RangeObject, range.create), READONLY, "Is a file made that is not there?"},
    {"inherit", T_BOOL, offsetof(RangeObject, range.inherit), READONLY, "Do forked processes hold it together?"},
    {"_file", T_OBJECT, offsetof(RangeObject, file), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot range_slots[] = {
    {Py_tp_new, range_new},           {Py_tp_dealloc, sx_handle_dealloc}, {Py_tp_finalize, sx_gates_finalize},
    {Py_tp_traverse, range_traverse}, {Py_tp_clear, range_clear},         {Py_tp_methods, range_function_table},
    {Py_tp_getset, range_getset},     {Py_tp_members, range_members},     {0, NULL},
};

PyType_Spec sx_range_spec = {
    .name = "syncx._core.BaseRangeLock",
    .basicsize = sizeof(RangeObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = range_slots,
};
