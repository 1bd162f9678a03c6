/* py_permits.c: the base type of BoundedSemaphore and BinarySemaphore.  bounded.py gives it its constructors. */
#include "py_common.h"

typedef struct {
    HANDLE_HEAD;
    struct sx_permits *permits;
    _Atomic uint32_t hint; /* the permit that was used last through this handle */
    bool quick;            /* the fast paths may be taken: there is a permit, and it lies in the arena */
    PyObject *untold;      /* [(pid, tid)] of dead holders whose permits we took: told when a hold ends */
} PermitsObject;

/* ---- acquiring and releasing ---------------------------------------------------------------------------- */

/* A dead holder's permit is ours: the line in the log is written when the hold ends, for a log may be slow, or wait for
 * something, and others wait for us. */
static int remember(PermitsObject *self, const struct sx_death *death)
{
    PyObject *who = Py_BuildValue("(II)", death->pid, death->tid);
    int r = who == NULL ? -1 : PyList_Append(self->untold, who);
    Py_XDECREF(who);
    return r;
}

/* Writes those lines.  An exception of a log handler is reported and dropped, for the permits are released; what is no
 * Exception (Ctrl-C) goes on: -1. */
static int tell(PermitsObject *self)
{
    Py_ssize_t n = PyList_GET_SIZE(self->untold);
    if (n == 0)
        return 0;
    PyObject *dead = PyList_GetSlice(self->untold, 0, n);
    if (dead == NULL || PyList_SetSlice(self->untold, 0, n, NULL) < 0) {
        Py_XDECREF(dead);
        return -1;
    }
    int told = 0;
    for (Py_ssize_t i = 0; i < n && told == 0; i++) {
        PyObject *who = PyList_GET_ITEM(dead, i);
        PyObject *r = PyObject_CallFunctionObjArgs(self->state->owner_died, self, PyTuple_GET_ITEM(who, 0),
                                                   PyTuple_GET_ITEM(who, 1), NULL);
        if (r == NULL && PyErr_ExceptionMatches(PyExc_Exception))
            PyErr_WriteUnraisable((PyObject *)self);
        else if (r == NULL)
            told = -1;
        Py_XDECREF(r);
    }
    Py_DECREF(dead);
    return told;
}

/* 1: held; 0: not within the time; -1: an exception. */
static int acquire(PermitsObject *self, uint32_t n, uint32_t scoped, int64_t deadline, uint32_t wish)
{
    struct sx_death death = {0};
    uint32_t hint = atomic_load_explicit(&self->hint, memory_order_relaxed);
    enum sx_status s = closed(self) ? SX_CLOSED : outlived(self) ? SX_RETIRED : SX_OK;
    /* who has all of them keeps everybody out, who has some keeps out who wants all */
    struct note note = {(HandleObject *)self, SX_SHARED_MODE, n, scoped == 0, deadline};
    if (s == SX_OK && n == self->permits->cell.parameter)
        note.mode = SX_EXCLUSIVE_MODE;
    if (s == SX_OK && sx_noting() && sx_note_wanted(&note) < 0)
        return -1;
    if (s == SX_OK) {
        WAIT_BEGIN(self, wish);
        s = sx_permits_acquire(self->core, self->permits, n, scoped, deadline, &hint, &death);
        WAIT_END(self);
    }
    if (s == SX_OK && outlived(self)) { /* while we waited */
        sx_permits_release(self->core, self->permits, n, scoped);
        s = SX_RETIRED;
    }
    if (death.met && remember(self, &death) < 0) {
        if (s == SX_OK)
            sx_permits_release(self->core, self->permits, n, scoped);
        return -1;
    }
    switch (s) {
    case SX_OK:
        atomic_store_explicit(&self->hint, hint, memory_order_relaxed);
        if (sx_noting())
            sx_note_taken(&note);
        return 1;
    case SX_BUSY:
    case SX_TIMEOUT:
        return 0;
    default:
        sx_raise(self->state, s, (PyObject *)self, 0);
        return -1;
    }
}

static enum sx_status give_back(PermitsObject *self, uint32_t n, uint32_t scoped)
{
    enum sx_status s = closed(self) ? SX_CLOSED : sx_permits_release(self->core, self->permits, n, scoped);
    if (s == SX_OK && sx_noting())
        sx_note_given((HandleObject *)self, n);
    return s;
}

/* The slow half of `with`. */
static PyObject *enter(HandleObject *op)
{
    PermitsObject *self = (PermitsObject *)op;
    int64_t deadline = self->patience == SX_NEVER ? SX_NEVER : sx_after(self->patience);
    int r = acquire(self, 1, PERMIT_SCOPED, deadline, OWN_WISH);
    if (r < 0)
        return NULL;
    if (r == 0)
        return sx_raise(self->state, SX_TIMEOUT, (PyObject *)self, (long)(self->patience / 1000000));
    Py_INCREF(self);
    return (PyObject *)self;
}

/* raised: the body raised.  Its exception is worth more than our telling that there was nothing to give back (as in a
 * child that was forked inside the `with` and leaves it by sys.exit). */
static PyObject *leave(HandleObject *op, bool raised)
{
    PermitsObject *self = (PermitsObject *)op;
    enum sx_status s = give_back(self, 1, PERMIT_SCOPED);
    if (s != SX_OK && !(s == SX_NOT_HELD && raised))
        return sx_raise(self->state, s, (PyObject *)op, 1);
    if (s == SX_OK && tell(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(
    acquire_doc,
    "acquire($self, /, blocking=True, timeout=None, *, n=1, deadlock=None, priority=None)\n--\n\n"
    "Acquire n permits, all of them or none.\n\n"
    "blocking: False tries once and returns at once.\n"
    "timeout: seconds, a float, by the monotonic clock; None or -1 wait for ever.\n"
    "n: from 1 to the capacity.\n"
    "deadlock, priority: of this call, as the constructor's; None: the object's.\n\n"
    "Returns True when the permits are held, False when they were not to be had in time.  Raises ValueError for an n\n"
    "out of range, a negative timeout or NaN, or a timeout with blocking=False; OverflowError above\n"
    "threading.TIMEOUT_MAX; Gone if the semaphore was unlinked; DeadlockError if the call was chosen to end a "
    "deadlock.\n"
    "A signal handler that raises ends the wait with\n"
    "nothing acquired.");

static int count_in_range(PermitsObject *self, uint32_t n)
{
    if (closed(self) || n == 1 || n <= self->permits->cell.parameter)
        return 0;
    PyErr_Format(PyExc_ValueError, "n must be from 1 to %u, which is all the permits there are, not %u",
                 self->permits->cell.parameter, n);
    return -1;
}

static PyObject *permits_acquire(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    PermitsObject *self = (PermitsObject *)op;
    int64_t deadline = SX_NEVER;
    uint32_t n = 1, wish = OWN_WISH;
    if (nargs != 0 || names != NULL)
        if (sx_parse_acquire((HandleObject *)self, args, nargs, names, &deadline, &n, &wish) < 0 ||
            count_in_range(self, n) < 0)
            return NULL;
    if (n == 1 && !sx_noting() && sx_self.arena == self->core && self->quick &&
        sx_permit_take(self->permits, atomic_load_explicit(&self->hint, memory_order_relaxed), self->core->self,
                       sx_self.id))
        Py_RETURN_TRUE;
    int r = acquire(self, n, 0, deadline, wish);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

PyDoc_STRVAR(
    release_doc,
    "release($self, /, n=1)\n--\n\n"
    "Release n permits that this process holds: those that the calling thread took first.\n\n"
    "Raises ValueError, and releases nothing, if the process holds fewer than n.  A forked child holds nothing "
    "of what its\n"
    "parent held.");

static PyObject *permits_release(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *names)
{
    PermitsObject *self = (PermitsObject *)op;
    uint32_t n = 1;
    if (nargs == 0 && names == NULL) {
        if (!sx_noting() && sx_self.arena == self->core && self->quick && PyList_GET_SIZE(self->untold) == 0 &&
            sx_permit_give(self->permits, atomic_load_explicit(&self->hint, memory_order_relaxed), self->core->self,
                           sx_self.id))
            Py_RETURN_NONE;
    } else if (sx_parse_units(args, nargs, names, "release", SX_MAX_UNITS, &n) < 0) {
        return NULL;
    }
    enum sx_status s = give_back(self, n, 0);
    if (s != SX_OK)
        return sx_raise(self->state, s, op, (long)n);
    if (tell(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- looking -------------------------------------------------------------------------------------------- */
static PyObject *permits_locked(PyObject *op, PyObject *unused)
{
    (void)unused;
    PermitsObject *self = (PermitsObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    return PyBool_FromLong(sx_permits_free(self->core, self->permits, 1) == 0);
}

static PyObject *permits_value(PyObject *op, void *unused)
{
    (void)unused;
    PermitsObject *self = (PermitsObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    return PyLong_FromUnsignedLong(sx_permits_free(self->core, self->permits, UINT32_MAX));
}

static PyObject *permits_held(PyObject *op, void *unused)
{
    (void)unused;
    PermitsObject *self = (PermitsObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    return PyLong_FromUnsignedLong(sx_permits_held(self->core, self->permits, 0));
}

struct holders {
    struct sx_arena *arena;
    PyObject *list; /* NULL after an error */
};

static void add_holder(void *context, uint64_t process, uint64_t thread, uint32_t mode)
{
    (void)mode;
    struct holders *h = context;
    if (h->list == NULL)
        return;
    struct sx_participant *p = thread == 0 ? NULL : sx_participant(h->arena, thread);
    bool known = p != NULL && atomic_load(&p->generation) == (uint32_t)(thread >> 32) &&
                 atomic_load(&p->process_generation) == (uint32_t)(process >> 32) &&
                 atomic_load(&p->process) == sx_slot_of(process) + 1;
    uint32_t pid = atomic_load(&h->arena->processes[sx_slot_of(process)].pid);
    PyObject *who = Py_BuildValue("(II)", pid, known ? atomic_load(&p->tid) : 0);
    if (who == NULL || PyList_Append(h->list, who) < 0)
        Py_CLEAR(h->list);
    Py_XDECREF(who);
}

/* _holders() -> [(pid, tid)], one for each permit that a live process holds; tid 0: its thread has ended */
static PyObject *permits_holders(PyObject *op, PyObject *unused)
{
    (void)unused;
    PermitsObject *self = (PermitsObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    struct holders holders = {self->core, PyList_New(0)};
    struct sx_look look = {.holder = add_holder, .context = &holders};
    sx_kind_operations(SX_KIND_PERMITS)->look(self->core, self->object.cell, &look);
    return holders.list;
}

/* ---- what `with` calls ------------------------------------------------------------------------------------ */
static PyObject *enter_permits(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    (void)args;
    PermitsObject *self = (PermitsObject *)((GateObject *)gate)->handle;
    if (!gate_enter_ok(nargsf, keywords))
        return NULL;
    if (!sx_noting() && sx_self.arena == self->core &&
        sx_permit_take(self->permits, atomic_load_explicit(&self->hint, memory_order_relaxed),
                       self->core->self | PERMIT_SCOPED, sx_self.id)) {
        Py_INCREF(self);
        return (PyObject *)self;
    }
    return enter((HandleObject *)self);
}

static PyObject *exit_permits(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    PermitsObject *self = (PermitsObject *)((GateObject *)gate)->handle;
    if (!gate_exit_ok(nargsf, keywords))
        return NULL;
    if (!sx_noting() && sx_self.arena == self->core && PyList_GET_SIZE(self->untold) == 0 &&
        sx_permit_give(self->permits, atomic_load_explicit(&self->hint, memory_order_relaxed),
                       self->core->self | PERMIT_SCOPED, sx_self.id))
        Py_RETURN_NONE;
    return leave((HandleObject *)self, args[0] != Py_None);
}

/* In the user's memory: whether the arena is still the one is asked at each acquire. */
static PyObject *enter_slowly(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    (void)args;
    return gate_enter_ok(nargsf, keywords) ? enter(((GateObject *)gate)->handle) : NULL;
}

static PyObject *exit_slowly(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    return gate_exit_ok(nargsf, keywords) ? leave(((GateObject *)gate)->handle, args[0] != Py_None) : NULL;
}

/* ---- life --------------------------------------------------------------------------------------------------- */
static void permits_opened(HandleObject *op)
{
    PermitsObject *self = (PermitsObject *)op;
    self->permits = (struct sx_permits *)op->object.cell;
    uint32_t capacity = self->permits->cell.parameter;
    self->hint = capacity == 0 || op->core->process == SX_NOBODY ? 0 : op->core->process % capacity;
    self->quick = capacity != 0 && op->object.unit != SX_NOBODY;
    self->calls[ENTER] = self->quick ? enter_permits : enter_slowly;
    self->calls[EXIT] = self->quick ? exit_permits : exit_slowly;
}

static bool held(HandleObject *op)
{
    uint64_t me;
    return identity_of(op, &me) == SX_OK && sx_permits_held(op->core, ((PermitsObject *)op)->permits, me) != 0;
}

/* They could not be released through what has been closed. */
static bool held_here(HandleObject *op)
{
    return sx_permits_held(op->core, ((PermitsObject *)op)->permits, 0) != 0;
}

static const struct handle_methods methods = {
    .kinds = 1u << SX_KIND_PERMITS,
    .opened = permits_opened,
    .held = held,
    .held_here = held_here,
    .enter = enter,
    .exit = leave,
};

static PyObject *permits_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    PermitsObject *self = (PermitsObject *)sx_handle_new(type, &methods);
    if (self != NULL && (self->untold = PyList_New(0)) == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int permits_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(((PermitsObject *)op)->untold);
    return sx_handle_traverse(op, visit, arg);
}

static int permits_clear(PyObject *op)
{
    Py_CLEAR(((PermitsObject *)op)->untold);
    return 0;
}

static PyMethodDef permits_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))permits_acquire, METH_FASTCALL | METH_KEYWORDS, acquire_doc},
    {"release", (PyCFunction)(void (*)(void))permits_release, METH_FASTCALL | METH_KEYWORDS, release_doc},
    {"locked", permits_locked, METH_NOARGS, "locked($self, /)\n--\n\nTrue while no permit is free."},
    {"_holders", permits_holders, METH_NOARGS, "_holders($self, /)\n--\n\n(pid, tid) for each permit that is held."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef permits_getset[] = {
    {"value", permits_value, NULL, "How many permits are free now; those of dead processes are.", NULL},
    {"held", permits_held, NULL, "How many permits this process holds.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot permits_slots[] = {
    {Py_tp_new, permits_new},
    {Py_tp_dealloc, sx_handle_dealloc},
    {Py_tp_finalize, sx_gates_finalize},
    {Py_tp_traverse, permits_traverse},
    {Py_tp_clear, permits_clear},
    {Py_tp_methods, permits_methods},
    {Py_tp_getset, permits_getset},
    {0, NULL},
};

PyType_Spec sx_permits_spec = {
    .name = "syncx._core.BasePermits",
    .basicsize = sizeof(PermitsObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = permits_slots,
};
