/* py_event.c: the base type of Event.  event.py gives it its constructor, names and pickling. */
#include "py_common.h"

typedef struct {
    HANDLE_HEAD;
    struct sx_event *event;
} EventObject;

/* May the event be set and waited for?  False, with an exception: the handle is closed, or the arena of an object in
 * the user's memory is gone. */
static inline bool usable(EventObject *self)
{
    if (__builtin_expect(!closed(self) && (self->object.unit != SX_NOBODY || !outlived(self)), 1))
        return true;
    sx_raise(self->state, closed(self) ? SX_CLOSED : SX_RETIRED, (PyObject *)self, 0);
    return false;
}

static PyObject *done(EventObject *self, enum sx_status status)
{
    if (status != SX_OK)
        return sx_raise(self->state, status, (PyObject *)self, 0);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(is_set_doc, "is_set($self, /)\n--\n\nTrue while the event is set; also of one that was unlinked.");

static PyObject *event_is_set(PyObject *op, PyObject *unused)
{
    (void)unused;
    EventObject *self = (EventObject *)op;
    if (closed(self))
        return sx_raise(self->state, SX_CLOSED, op, 0);
    return PyBool_FromLong(sx_event_is_set(self->event));
}

PyDoc_STRVAR(set_doc, "set($self, /)\n--\n\n"
                      "Set the event and wake everybody who waits for it, in all processes.\n\n"
                      "Whoever returns from wait() afterwards sees what the caller wrote to shared memory before.  "
                      "Raises Gone if the\n"
                      "event was unlinked.");

static PyObject *event_set(PyObject *op, PyObject *unused)
{
    (void)unused;
    EventObject *self = (EventObject *)op;
    return usable(self) ? done(self, sx_event_set(self->event)) : NULL;
}

PyDoc_STRVAR(clear_doc, "clear($self, /)\n--\n\n"
                        "Unset the event: from now on wait() waits.  Whoever was waiting when it was set returns all "
                        "the same.\n\n"
                        "Raises Gone if the event was unlinked.");

static PyObject *event_clear(PyObject *op, PyObject *unused)
{
    (void)unused;
    EventObject *self = (EventObject *)op;
    return usable(self) ? done(self, sx_event_clear(self->event)) : NULL;
}

PyDoc_STRVAR(wait_doc,
             "wait($self, /, timeout=None)\n--\n\n"
             "Wait until the event is set, or was set meanwhile.\n\n"
             "timeout: seconds, a float, by the monotonic clock; None or -1 wait for ever; 0 only looks.\n\n"
             "Returns True when the event is set, or was set since the call began even if it was cleared again; False "
             "when the\n"
             "time was over.  Raises Gone if the event was unlinked; ValueError for another negative timeout or NaN;\n"
             "OverflowError above threading.TIMEOUT_MAX.  A signal handler that raises ends the wait.");

static PyObject *event_wait(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    EventObject *self = (EventObject *)op;
    int64_t deadline;
    if (sx_parse_wait(args, n, names, "wait", &deadline) < 0 || !usable(self))
        return NULL;
    HANDLE_BEGIN(self);
    enum sx_status s = sx_event_wait(self->core, self->event, deadline);
    HANDLE_END(self);
    return s == SX_BUSY || s == SX_TIMEOUT ? PyBool_FromLong(0)
           : s == SX_OK                    ? PyBool_FromLong(1)
                                           : sx_raise(self->state, s, op, 0);
}

PyDoc_STRVAR(at_fork_reinit_doc,
             "_at_fork_reinit($self, /)\n--\n\n"
             "What the standard library calls in a forked child.  The event is shared and nobody holds it, so there is "
             "nothing\n"
             "to begin anew.");

static PyObject *event_at_fork_reinit(PyObject *op, PyObject *unused)
{
    (void)op, (void)unused;
    Py_RETURN_NONE;
}

static void event_opened(HandleObject *op)
{
    ((EventObject *)op)->event = (struct sx_event *)op->object.cell;
}

static const struct handle_methods methods = {.kinds = 1u << SX_KIND_EVENT, .opened = event_opened};

static PyObject *event_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    return sx_handle_new(type, &methods);
}

static PyMethodDef event_methods[] = {
    {"is_set", event_is_set, METH_NOARGS, is_set_doc},
    {"set", event_set, METH_NOARGS, set_doc},
    {"clear", event_clear, METH_NOARGS, clear_doc},
    {"wait", (PyCFunction)(void (*)(void))event_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {"_at_fork_reinit", event_at_fork_reinit, METH_NOARGS, at_fork_reinit_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot event_slots[] = {
    {Py_tp_new, event_new},
    {Py_tp_dealloc, sx_handle_dealloc},
    {Py_tp_traverse, sx_handle_traverse},
    {Py_tp_methods, event_methods},
    {0, NULL},
};

PyType_Spec sx_event_spec = {
    .name = "syncx._core.BaseEvent",
    .basicsize = sizeof(EventObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = event_slots,
};
