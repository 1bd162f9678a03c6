/* floors.c: what `with` and a lock cost at least, for the benchmarks to stand beside.
 *
 *   Nothing        a context manager that does nothing, with ordinary METH_NOARGS and METH_FASTCALL methods
 *   NothingVarargs the same with METH_VARARGS methods, as most C classes have
 *   Robust         C's own robust, process-shared pthread mutex in the caller's memory, with the same methods
 *   cas_pairs      a compare-and-swap that takes a word and a store-release that gives it back, without Python
 *   robust_pairs   pthread_mutex_lock and unlock of a robust mutex, without Python
 *
 * robust.c is the same mutex as a program of its own; pair.c and herd.c are what a futex costs.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#define FUNCTION(f) ((PyCFunction)(void (*)(void))(f))

static long long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int robust_init(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    int r = pthread_mutex_init(mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return r;
}

/* ---- a context manager that does nothing -------------------------------------------------------------- */
static PyObject *nothing_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    Py_INCREF(self);
    return self;
}

static PyObject *nothing_exit(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)self;
    (void)args;
    (void)n;
    Py_RETURN_NONE;
}

static PyObject *nothing_acquire(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    (void)self;
    (void)args;
    (void)n;
    (void)names;
    Py_RETURN_FALSE;
}

static PyObject *nothing_release(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    Py_RETURN_NONE;
}

static PyObject *nothing_is_set(PyObject *self, PyObject *unused)
{
    (void)self;
    (void)unused;
    Py_RETURN_FALSE;
}

static PyObject *nothing_enter_varargs(PyObject *self, PyObject *args)
{
    return nothing_enter(self, args);
}

static PyObject *nothing_exit_varargs(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    Py_RETURN_NONE;
}

static PyMethodDef nothing_varargs_methods[] = {
    {"__enter__", nothing_enter_varargs, METH_VARARGS, NULL},
    {"__exit__", nothing_exit_varargs, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot nothing_varargs_slots[] = {{Py_tp_methods, nothing_varargs_methods}, {0, NULL}};

static PyType_Spec nothing_varargs_spec = {
    .name = "floors.NothingVarargs",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = nothing_varargs_slots,
};

static PyMethodDef nothing_methods[] = {
    {"__enter__", nothing_enter, METH_NOARGS, NULL},
    {"__exit__", FUNCTION(nothing_exit), METH_FASTCALL, NULL},
    {"acquire", FUNCTION(nothing_acquire), METH_FASTCALL | METH_KEYWORDS, NULL},
    {"release", nothing_release, METH_NOARGS, NULL},
    {"is_set", nothing_is_set, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot nothing_slots[] = {{Py_tp_methods, nothing_methods}, {0, NULL}};

static PyType_Spec nothing_spec = {
    .name = "floors.Nothing",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = nothing_slots,
};

/* ---- a robust mutex as an object ------------------------------------------------------------------------ */
typedef struct {
    PyObject_HEAD
    Py_buffer memory;
    pthread_mutex_t *mutex;
} RobustObject;

static int robust_object_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    RobustObject *r = (RobustObject *)self;
    PyObject *memory;
    int fresh = 1;
    static char *names[] = {"memory", "fresh", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|p", names, &memory, &fresh))
        return -1;
    if (r->mutex != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "already initialised");
        return -1;
    }
    if (PyObject_GetBuffer(memory, &r->memory, PyBUF_WRITABLE) < 0)
        return -1;
    if (r->memory.len < (Py_ssize_t)sizeof(pthread_mutex_t) || (uintptr_t)r->memory.buf % 64 != 0) {
        PyErr_SetString(PyExc_ValueError, "the memory is too small or not aligned");
        PyBuffer_Release(&r->memory);
        return -1;
    }
    r->mutex = r->memory.buf;
    return fresh ? -(robust_init(r->mutex) != 0) : 0;
}

static void robust_object_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyBuffer_Release(&((RobustObject *)self)->memory);
    type->tp_free(self);
    Py_DECREF(type);
}

/* 0 held; EBUSY; or an error with its exception set */
static int robust_take(RobustObject *r, bool blocking)
{
    int e = pthread_mutex_trylock(r->mutex);
    if (e == EBUSY && blocking) {
        Py_BEGIN_ALLOW_THREADS e = pthread_mutex_lock(r->mutex);
        Py_END_ALLOW_THREADS
    }
    if (e == EOWNERDEAD)
        e = pthread_mutex_consistent(r->mutex);
    if (e != 0 && e != EBUSY) {
        errno = e;
        PyErr_SetFromErrno(PyExc_OSError);
    }
    return e;
}

static PyObject *robust_give(RobustObject *r)
{
    int e = pthread_mutex_unlock(r->mutex);
    if (e != 0) {
        errno = e;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *robust_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (robust_take((RobustObject *)self, true) != 0)
        return NULL;
    Py_INCREF(self);
    return self;
}

static PyObject *robust_exit(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    (void)args;
    (void)n;
    return robust_give((RobustObject *)self);
}

static PyObject *robust_acquire(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
    bool blocking = true;
    if (n + (names == NULL ? 0 : PyTuple_GET_SIZE(names)) > 0)
        blocking = args[0] == Py_True;
    int e = robust_take((RobustObject *)self, blocking);
    if (e != 0 && e != EBUSY)
        return NULL;
    return PyBool_FromLong(e == 0);
}

static PyObject *robust_release(PyObject *self, PyObject *unused)
{
    (void)unused;
    return robust_give((RobustObject *)self);
}

static PyMethodDef robust_methods[] = {
    {"__enter__", robust_enter, METH_NOARGS, NULL},
    {"__exit__", FUNCTION(robust_exit), METH_FASTCALL, NULL},
    {"acquire", FUNCTION(robust_acquire), METH_FASTCALL | METH_KEYWORDS, NULL},
    {"release", robust_release, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot robust_slots[] = {
    {Py_tp_methods, robust_methods},
    {Py_tp_init, robust_object_init},
    {Py_tp_dealloc, robust_object_dealloc},
    {0, NULL},
};

static PyType_Spec robust_spec = {
    .name = "floors.Robust",
    .basicsize = sizeof(RobustObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = robust_slots,
};

/* ---- without Python ------------------------------------------------------------------------------------- */
static PyObject *cas_pairs(PyObject *self, PyObject *count)
{
    (void)self;
    static _Alignas(64) _Atomic(uint64_t) word;
    long long n = PyLong_AsLongLong(count);
    if (n == -1 && PyErr_Occurred())
        return NULL;
    long long start = now_ns();
    for (long long i = 0; i < n; i++) {
        uint64_t expected = 0;
        atomic_compare_exchange_strong_explicit(&word, &expected, 1, memory_order_acquire, memory_order_relaxed);
        expected = 1;
        atomic_compare_exchange_strong_explicit(&word, &expected, 0, memory_order_release, memory_order_relaxed);
    }
    return PyLong_FromLongLong(now_ns() - start);
}

static PyObject *robust_pairs(PyObject *self, PyObject *count)
{
    (void)self;
    long long n = PyLong_AsLongLong(count);
    if (n == -1 && PyErr_Occurred())
        return NULL;
    pthread_mutex_t mutex;
    int e = robust_init(&mutex);
    long long start = now_ns();
    for (long long i = 0; i < n && e == 0; i++) {
        e = pthread_mutex_lock(&mutex);
        if (e == 0)
            e = pthread_mutex_unlock(&mutex);
    }
    long long end = now_ns();
    pthread_mutex_destroy(&mutex);
    if (e != 0) {
        errno = e;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLongLong(end - start);
}

static PyMethodDef functions[] = {
    {"cas_pairs", cas_pairs, METH_O, "cas_pairs(n) -> ns that n of them took"},
    {"robust_pairs", robust_pairs, METH_O, "robust_pairs(n) -> ns that n of them took"},
    {NULL, NULL, 0, NULL},
};

static int add_type(PyObject *module, const char *name, PyType_Spec *spec)
{
    PyObject *type = PyType_FromSpec(spec);
    if (type == NULL)
        return -1;
    if (PyModule_AddObject(module, name, type) < 0) {
        Py_DECREF(type);
        return -1;
    }
    return 0;
}

static int exec_module(PyObject *module)
{
    if (add_type(module, "Nothing", &nothing_spec) < 0 || add_type(module, "NothingVarargs", &nothing_varargs_spec) < 0)
        return -1;
    return add_type(module, "Robust", &robust_spec);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,  .m_name = "floors", .m_doc = "Floors for the benchmarks.",
    .m_methods = functions, .m_slots = slots,
};

PyMODINIT_FUNC PyInit_floors(void)
{
    return PyModuleDef_Init(&definition);
}
