/* py_latch.c: the base type of Latch.  latch.py gives it its constructor. */
#include "py_common.h"

typedef struct {
    HANDLE_HEAD;
    struct sx_latch *latch;
} LatchObject;

static enum sx_status usable(LatchObject *self)
{
    return closed(self) ? SX_CLOSED : outlived(self) ? SX_RETIRED : SX_OK;
}

PyDoc_STRVAR(count_down_doc,
             "count_down($self, /, n=1)\n--\n\n"
             "Take n from the count; at 0 the latch opens for good, and everybody who waits goes on.\n\n"
             "n: from 1 to the count.  Any thread of any process may do that.  Who goes on sees what was written to "
             "shared memory\n"
             "before.\n\n"
             "Raises ValueError, and changes nothing, if less than n is left; Gone if the latch was unlinked.");

static PyObject *latch_count_down(PyObject *op, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    LatchObject *self = (LatchObject *)op;
    uint32_t n;
    if (sx_parse_units(args, count, names, "count_down", SX_MAX_UNITS, &n) < 0)
        return NULL;
    enum sx_status s = usable(self);
    if (s == SX_OK)
        s = sx_latch_count_down(self->latch, n);
    if (s == SX_NOT_HELD)
        return PyErr_Format(PyExc_ValueError, "count_down(%u) is more than is left of %R", n, op);
    if (s != SX_OK)
        return sx_raise(self->state, s, op, 0);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(wait_doc,
             "wait($self, /, timeout=None)\n--\n\n"
             "Wait until the count is 0.\n\n"
             "timeout: seconds, a float, by the monotonic clock; None or -1 wait for ever; 0 only looks.\n\n"
             "Returns True when the latch is open, False when the time was over.  Raises Gone if the latch was "
             "unlinked;\n"
             "ValueError for another negative timeout or NaN; OverflowError above threading.TIMEOUT_MAX.  A signal "
             "handler that\n"
             "raises ends the wait.");

static PyObject *latch_wait(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    LatchObject *self = (LatchObject *)op;
    int64_t deadline;
    if (sx_parse_wait(args, n, names, "wait", &deadline) < 0)
        return NULL;
    enum sx_status s = usable(self);
    if (s == SX_OK) {
        HANDLE_BEGIN(self);
        s = sx_latch_wait(self->core, self->latch, deadline);
        HANDLE_END(self);
    }
    if (s == SX_OK || s == SX_BUSY || s == SX_TIMEOUT)
        return PyBool_FromLong(s == SX_OK);
    return sx_raise(self->state, s, op, 0);
}

static PyObject *latch_count(PyObject *op, void *unused)
{
    (void)unused;
    LatchObject *self = (LatchObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    return PyLong_FromUnsignedLong(sx_latch_count(self->latch));
}

static void latch_opened(HandleObject *op)
{
    ((LatchObject *)op)->latch = (struct sx_latch *)op->object.cell;
}

static const struct handle_methods methods = {.kinds = 1u << SX_KIND_LATCH, .opened = latch_opened};

static PyObject *latch_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    return sx_handle_new(type, &methods);
}

static PyMethodDef latch_methods[] = {
    {"count_down", (PyCFunction)(void (*)(void))latch_count_down, METH_FASTCALL | METH_KEYWORDS, count_down_doc},
    {"wait", (PyCFunction)(void (*)(void))latch_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef latch_getset[] = {
    {"count", latch_count, NULL, "How much is left to be counted down; 0: the latch is open.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot latch_slots[] = {
    {Py_tp_new, latch_new},         {Py_tp_dealloc, sx_handle_dealloc}, {Py_tp_traverse, sx_handle_traverse},
    {Py_tp_methods, latch_methods}, {Py_tp_getset, latch_getset},       {0, NULL},
};

PyType_Spec sx_latch_spec = {
    .name = "syncx._core.BaseLatch",
    .basicsize = sizeof(LatchObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = latch_slots,
};
