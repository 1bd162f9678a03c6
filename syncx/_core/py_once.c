/* py_once.c: the base type of Once.  once.py gives it its constructor, names and pickling, and the two methods by which
 * a result becomes bytes and bytes become a result. */
#include "py_common.h"

typedef struct {
    HANDLE_HEAD;
    struct sx_once *once;
    _Atomic(PyObject *) kept; /* the result, if nobody can change it */
} OnceObject;

static PyObject *raise(OnceObject *self, enum sx_status status)
{
    long detail = status == SX_TIMEOUT ? (long)(self->patience / 1000000) : 0;
    return sx_raise(self->state, status, (PyObject *)self, detail);
}

/* A result that can be changed is made anew for each who asks: what one does to it is not the others' affair. */
static void keep(OnceObject *self, PyObject *value)
{
    if (value != Py_None && !PyBool_Check(value) && !PyLong_CheckExact(value) && !PyFloat_CheckExact(value) &&
        !PyUnicode_CheckExact(value) && !PyBytes_CheckExact(value))
        return;
    PyObject *nothing = NULL;
    Py_INCREF(value);
    if (!atomic_compare_exchange_strong(&self->kept, &nothing, value))
        Py_DECREF(value);
}

static PyObject *kept(OnceObject *self)
{
    PyObject *value = atomic_load_explicit(&self->kept, memory_order_acquire);
    Py_XINCREF(value);
    return value;
}

static PyObject *result_of(OnceObject *self)
{
    char bytes[SX_ONCE_RESULT];
    uint32_t length;
    PyObject *value = kept(self);
    if (value != NULL)
        return value;
    enum sx_status s = sx_once_read(self->once, bytes, &length);
    if (s == SX_BUSY)
        return PyErr_Format(PyExc_RuntimeError, "%R has no result yet: run() has not come to its end anywhere", self);
    if (s != SX_OK)
        return raise(self, s);
    value = PyObject_CallMethod((PyObject *)self, "_load", "y#", bytes, (Py_ssize_t)length);
    if (value != NULL)
        keep(self, value);
    return value;
}

/* The bytes of a result, a new bytes object that fits. */
static PyObject *dump(OnceObject *self, PyObject *result)
{
    PyObject *bytes = PyObject_CallMethod((PyObject *)self, "_dump", "(O)", result);
    if (bytes != NULL && !PyBytes_Check(bytes))
        PyErr_Format(PyExc_TypeError, "%.100s._dump must return bytes, not %.100s", Py_TYPE(self)->tp_name,
                     Py_TYPE(bytes)->tp_name);
    else if (bytes != NULL && PyBytes_GET_SIZE(bytes) > SX_ONCE_RESULT)
        PyErr_Format(
            PyExc_ValueError,
            "the result takes %zd bytes when it is pickled, and %R has room for %d: store it elsewhere (a file, "
            "shared memory) and return where it is",
            PyBytes_GET_SIZE(bytes), self, SX_ONCE_RESULT);
    else
        return bytes;
    Py_XDECREF(bytes);
    return NULL;
}

/* The line about an earlier runner that died, when nobody waits for us any more.  An exception of a log handler is
 * reported and dropped; what is no Exception (Ctrl-C) goes on: -1.  The exception at hand stays. */
static int tell(OnceObject *self, long pid, long tid)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *r = PyObject_CallFunction(self->state->owner_died, "Oll", self, pid, tid);
    if (r == NULL && PyErr_ExceptionMatches(PyExc_Exception))
        PyErr_WriteUnraisable((PyObject *)self);
    else if (r == NULL) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
        return -1;
    }
    Py_XDECREF(r);
    PyErr_Restore(type, value, traceback);
    return 0;
}

/* It is ours to run: the function, and what becomes of its result. */
static PyObject *run_it(OnceObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    PyObject *result = PyObject_Vectorcall(args[0], args + 1, (size_t)(n - 1), names);
    PyObject *bytes = result == NULL ? NULL : dump(self, result);
    enum sx_status s = SX_OK;
    if (bytes == NULL)
        sx_once_abandon(self->core,
                        self->once); /* not ours in a child that the function forked: then it does nothing */
    else
        s = sx_once_finish(self->core, self->once, PyBytes_AS_STRING(bytes), (uint32_t)PyBytes_GET_SIZE(bytes));
    bool stored = bytes != NULL && s == SX_OK;
    Py_XDECREF(bytes);
    if (stored)
        return result;
    Py_XDECREF(result);
    return s == SX_OK ? NULL : raise(self, s);
}

static PyObject *run(OnceObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    bool done;
    int64_t deadline = self->patience == SX_NEVER ? SX_NEVER : sx_after(self->patience);
    struct note note = {(HandleObject *)self, SX_EXCLUSIVE_MODE, 1, .deadline = deadline};
    if (sx_noting() && !sx_once_done(self->once) && sx_note_wanted(&note) < 0)
        return NULL;
    struct sx_wish outer_wish = sx_wish;
    sx_wish = (struct sx_wish){wish_of(self), self};
    enum sx_status s = outlived(self) ? SX_RETIRED : sx_once_begin(self->core, self->once, deadline, &done);
    sx_wish = outer_wish;
    if (s != SX_OK && s != SX_OWNER_DIED)
        return raise(self, s == SX_BUSY ? SX_TIMEOUT : s);
    if (done)
        return result_of(self);
    if (outlived(self)) { /* while we waited */
        sx_once_abandon(self->core, self->once);
        return raise(self, SX_RETIRED);
    }
    struct sx_statistics *statistics = &self->once->running.statistics;
    long pid = (long)atomic_load_explicit(&statistics->dead_pid, memory_order_relaxed);
    long tid = (long)atomic_load_explicit(&statistics->dead_tid, memory_order_relaxed);
    if (sx_noting())
        sx_note_taken(&note);
    PyObject *result = run_it(self, args, n, names);
    if (sx_noting())
        sx_note_given((HandleObject *)self, 1);
    if (s == SX_OWNER_DIED && tell(self, pid, tid) < 0)
        Py_CLEAR(result);
    return result;
}

PyDoc_STRVAR(
    run_doc,
    "run($self, function, /, *args, **kwargs)\n--\n\n"
    "The result of function(*args, **kwargs), which is called unless that was done before, by whomever.\n\n"
    "One thread of one process calls it; the others wait until it has returned and get its result: the caller the "
    "object\n"
    "itself, everybody else an equal one of their own.  If it raises, the exception goes to its caller and the next "
    "one\n"
    "calls; if its process is killed, the next one calls too.\n\n"
    "The result must be picklable, in Once.MAX_RESULT bytes: ValueError if it takes more, TypeError if it cannot be "
    "pickled\n"
    "(then nothing is done).  Raises Timeout after the object's `timeout` seconds of waiting for another's call;\n"
    "DeadlockError inside the function itself, or where waiting for another's call would never end; Gone if the object "
    "was unlinked; ArenaError if the stored result is "
    "damaged.\n"
    "A signal handler that raises ends the wait.");

static PyObject *once_run(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    OnceObject *self = (OnceObject *)op;
    if (n < 1) {
        PyErr_SetString(PyExc_TypeError, "run() takes a function, and then the arguments to call it with");
        return NULL;
    }
    if (!PyCallable_Check(args[0]))
        return PyErr_Format(PyExc_TypeError,
                            "run() takes a function first, not %.100s: run(function, argument), not "
                            "run(function(argument))",
                            Py_TYPE(args[0])->tp_name);
    if (closed(self))
        return raise(self, SX_CLOSED);
    uint64_t w = atomic_load_explicit(&self->once->word, memory_order_acquire);
    if (self->object.unit != SX_NOBODY && (w & (ONCE_DONE | ONCE_RETIRED)) == ONCE_DONE) {
        PyObject *value = kept(self);
        if (value != NULL)
            return value;
    }
    HANDLE_BEGIN(self);
    PyObject *result = run(self, args, n, names);
    HANDLE_END(self);
    return result;
}

static PyObject *once_done(PyObject *op, void *unused)
{
    (void)unused;
    OnceObject *self = (OnceObject *)op;
    return closed(self) ? raise(self, SX_CLOSED) : PyBool_FromLong(sx_once_done(self->once));
}

static PyObject *once_result(PyObject *op, void *unused)
{
    (void)unused;
    OnceObject *self = (OnceObject *)op;
    return closed(self) ? raise(self, SX_CLOSED) : result_of(self);
}

/* The live thread that has the mutex, or NULL. */
static struct sx_participant *runner(OnceObject *self)
{
    uint32_t life;
    uint64_t w = closed(self) ? 0 : atomic_load_explicit(&self->once->running.word, memory_order_acquire);
    bool alive = !sx_is_free(w) && sx_holder_life(self->core, w, &life) == SX_ALIVE;
    return alive ? sx_participant(self->core, w) : NULL;
}

static PyObject *once_runner(PyObject *op, void *unused)
{
    (void)unused;
    struct sx_participant *p = runner((OnceObject *)op);
    if (p == NULL)
        Py_RETURN_NONE;
    long pid = (long)atomic_load_explicit(&p->pid, memory_order_relaxed);
    return Py_BuildValue("ll", pid, (long)atomic_load_explicit(&p->tid, memory_order_relaxed));
}

static void once_opened(HandleObject *op)
{
    ((OnceObject *)op)->once = (struct sx_once *)op->object.cell;
}

static bool held(HandleObject *op)
{
    uint64_t me, w = atomic_load_explicit(&((OnceObject *)op)->once->running.word, memory_order_relaxed);
    return identity_of(op, &me) == SX_OK && (w & SX_ID_MASK) == me;
}

static const struct handle_methods methods = {.kinds = 1u << SX_KIND_ONCE, .opened = once_opened, .held = held};

static PyObject *once_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    return sx_handle_new(type, &methods);
}

static int once_clear(PyObject *op)
{
    PyObject *value = atomic_exchange(&((OnceObject *)op)->kept, NULL);
    Py_XDECREF(value);
    return 0;
}

static PyMethodDef once_methods[] = {
    {"run", (PyCFunction)(void (*)(void))once_run, METH_FASTCALL | METH_KEYWORDS, run_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef once_getset[] = {
    {"done", once_done, NULL, "True once a function that run() called has returned and its result is stored.", NULL},
    {"result", once_result, NULL, "The stored result; RuntimeError while there is none.", NULL},
    {"runner", once_runner, NULL,
     "(pid, tid) of the live thread that is calling the function now, each in its own pid namespace, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot once_slots[] = {
    {Py_tp_new, once_new},
    {Py_tp_dealloc, sx_handle_dealloc},
    {Py_tp_traverse, sx_handle_traverse},
    {Py_tp_clear, once_clear},
    {Py_tp_methods, once_methods},
    {Py_tp_getset, once_getset},
    {0, NULL},
};

PyType_Spec sx_once_spec = {
    .name = "syncx._core.BaseOnce",
    .basicsize = sizeof(OnceObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = once_slots,
};
