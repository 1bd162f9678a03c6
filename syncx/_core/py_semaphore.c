/* py_semaphore.c: the base type of Semaphore, the classic count.  semaphore.py gives it its constructor. */
#include "py_common.h"

typedef struct {
    HANDLE_HEAD;
    struct sx_semaphore *semaphore;
} SemaphoreObject;

/* ---- acquire and release ------------------------------------------------------------------------------- */

/* 1: got them; 0: not within the time; -1: an exception. */
static int acquire(SemaphoreObject *self, uint32_t n, int64_t deadline)
{
    enum sx_status s = SX_CLOSED;
    if (!closed(self)) {
        HANDLE_BEGIN(self);
        s = outlived(self) ? SX_RETIRED : sx_semaphore_acquire(self->core, self->semaphore, n, deadline);
        HANDLE_END(self);
    }
    if (s == SX_OK && outlived(self)) { /* while we waited */
        sx_semaphore_release(self->semaphore, n);
        s = SX_RETIRED;
    }
    if (s == SX_OK)
        return 1;
    if (s == SX_BUSY || s == SX_TIMEOUT)
        return 0;
    sx_raise(self->state, s, (PyObject *)self, 0);
    return -1;
}

static enum sx_status release(SemaphoreObject *self, uint32_t n)
{
    uint64_t me;
    enum sx_status s = identity_of(self, &me);
    if (s == SX_OK)
        s = outlived(self) ? SX_RETIRED : sx_semaphore_release(self->semaphore, n);
    return s;
}

static PyObject *not_released(SemaphoreObject *self, enum sx_status s, uint32_t n)
{
    if (s == SX_TOO_MANY)
        return PyErr_Format(PyExc_ValueError, "%u more units would make more than %u, the most that %R can have", n,
                            SEMAPHORE_COUNT, self);
    return sx_raise(self->state, s, (PyObject *)self, 0);
}

/* The slow halves of `with`. */
static PyObject *enter(HandleObject *op)
{
    SemaphoreObject *self = (SemaphoreObject *)op;
    int r = acquire(self, 1, self->patience == SX_NEVER ? SX_NEVER : sx_after(self->patience));
    if (r < 0)
        return NULL;
    if (r == 0)
        return sx_raise(self->state, SX_TIMEOUT, (PyObject *)self, (long)(self->patience / 1000000));
    Py_INCREF(self);
    return (PyObject *)self;
}

/* raised: the body raised, and its exception is worth more than ours.  A unit of what was unlinked meanwhile is missed
 * by nobody. */
static PyObject *leave(HandleObject *op, bool raised)
{
    SemaphoreObject *self = (SemaphoreObject *)op;
    enum sx_status s = release(self, 1);
    if (s == SX_OK || s == SX_RETIRED || raised)
        Py_RETURN_NONE;
    return not_released(self, s, 1);
}

PyDoc_STRVAR(
    acquire_doc,
    "acquire($self, /, blocking=True, timeout=None, *, n=1)\n--\n\n"
    "Take n units, all or none; wait until there are as many.\n\n"
    "blocking: False tries once and returns at once.\n"
    "timeout: seconds, a float, by the monotonic clock; None or -1 wait for ever.\n"
    "n: how many units, from 1 to MAX_VALUE.\n\n"
    "Returns True when they are taken, False when they were not to be had in time.  Raises Gone if the "
    "semaphore was\n"
    "unlinked; ValueError for a negative timeout or NaN, a timeout with blocking=False, or an n out of range;\n"
    "OverflowError above threading.TIMEOUT_MAX.  A signal handler that raises ends the wait, and no unit is "
    "taken.");

static PyObject *semaphore_acquire(PyObject *op, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    SemaphoreObject *self = (SemaphoreObject *)op;
    int64_t deadline = SX_NEVER;
    uint32_t n = 1;
    if ((count != 0 || names != NULL) &&
        sx_parse_acquire((HandleObject *)self, args, count, names, &deadline, &n, NULL) < 0)
        return NULL;
    if (sx_self.arena == self->core && self->object.unit != SX_NOBODY && sx_semaphore_take(self->semaphore, n))
        Py_RETURN_TRUE;
    int r = acquire(self, n, deadline);
    return r < 0 ? NULL : PyBool_FromLong(r);
}

PyDoc_STRVAR(release_doc,
             "release($self, /, n=1)\n--\n\n"
             "Add n units, and wake as many of those who wait.  Any thread of any process may do that.\n\n"
             "n: from 1 to MAX_VALUE.\n\n"
             "Raises ValueError, and adds nothing, if there were more than MAX_VALUE then, or if n is out of range; "
             "Gone if the\n"
             "semaphore was unlinked.");

static PyObject *semaphore_release(PyObject *op, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    SemaphoreObject *self = (SemaphoreObject *)op;
    uint32_t n = 1;
    if ((count != 0 || names != NULL) && sx_parse_units(args, count, names, "release", SX_MAX_UNITS, &n) < 0)
        return NULL;
    if (sx_self.arena == self->core && self->object.unit != SX_NOBODY && sx_semaphore_give(self->semaphore, n))
        Py_RETURN_NONE;
    enum sx_status s = release(self, n);
    if (s != SX_OK)
        return not_released(self, s, n);
    Py_RETURN_NONE;
}

/* ---- looking ------------------------------------------------------------------------------------------ */
static uint32_t count_of(SemaphoreObject *self)
{
    return sx_semaphore_count(atomic_load_explicit(&self->semaphore->word, memory_order_acquire));
}

static PyObject *semaphore_value(PyObject *op, void *unused)
{
    (void)unused;
    SemaphoreObject *self = (SemaphoreObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    return PyLong_FromUnsignedLong(count_of(self));
}

static PyObject *semaphore_locked(PyObject *op, PyObject *unused)
{
    (void)unused;
    SemaphoreObject *self = (SemaphoreObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    return PyBool_FromLong(count_of(self) == 0);
}

/* ---- what `with` calls ------------------------------------------------------------------------------------- */
static PyObject *enter_semaphore(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    (void)args;
    SemaphoreObject *self = (SemaphoreObject *)((GateObject *)gate)->handle;
    if (!gate_enter_ok(nargsf, keywords))
        return NULL;
    if (sx_self.arena == self->core && sx_semaphore_take(self->semaphore, 1)) {
        Py_INCREF(self);
        return (PyObject *)self;
    }
    return enter((HandleObject *)self);
}

static PyObject *exit_semaphore(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    SemaphoreObject *self = (SemaphoreObject *)((GateObject *)gate)->handle;
    if (!gate_exit_ok(nargsf, keywords))
        return NULL;
    if (sx_self.arena == self->core && sx_semaphore_give(self->semaphore, 1))
        Py_RETURN_NONE;
    return leave((HandleObject *)self, args[0] != Py_None);
}

/* In the user's memory: whether its arena is still the one is asked each time. */
static PyObject *enter_outside(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    (void)args;
    return gate_enter_ok(nargsf, keywords) ? enter(((GateObject *)gate)->handle) : NULL;
}

static PyObject *exit_outside(PyObject *gate, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    return gate_exit_ok(nargsf, keywords) ? leave(((GateObject *)gate)->handle, args[0] != Py_None) : NULL;
}

/* ---- life ---------------------------------------------------------------------------------------------------- */
static void semaphore_opened(HandleObject *op)
{
    bool outside = op->object.unit == SX_NOBODY;
    ((SemaphoreObject *)op)->semaphore = (struct sx_semaphore *)op->object.cell;
    op->calls[ENTER] = outside ? enter_outside : enter_semaphore;
    op->calls[EXIT] = outside ? exit_outside : exit_semaphore;
}

static const struct handle_methods methods = {
    .kinds = 1u << SX_KIND_SEMAPHORE,
    .opened = semaphore_opened,
    .enter = enter,
    .exit = leave,
};

static PyObject *semaphore_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    return sx_handle_new(type, &methods);
}

static PyMethodDef semaphore_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))semaphore_acquire, METH_FASTCALL | METH_KEYWORDS, acquire_doc},
    {"release", (PyCFunction)(void (*)(void))semaphore_release, METH_FASTCALL | METH_KEYWORDS, release_doc},
    {"locked", semaphore_locked, METH_NOARGS, "locked($self, /)\n--\n\nTrue while no unit is there: a try would fail."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef semaphore_getset[] = {
    {"value", semaphore_value, NULL, "How many units there are now.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot semaphore_slots[] = {
    {Py_tp_new, semaphore_new},
    {Py_tp_dealloc, sx_handle_dealloc},
    {Py_tp_finalize, sx_gates_finalize},
    {Py_tp_traverse, sx_handle_traverse},
    {Py_tp_methods, semaphore_methods},
    {Py_tp_getset, semaphore_getset},
    {0, NULL},
};

PyType_Spec sx_semaphore_spec = {
    .name = "syncx._core.BaseSemaphore",
    .basicsize = sizeof(SemaphoreObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = semaphore_slots,
};
