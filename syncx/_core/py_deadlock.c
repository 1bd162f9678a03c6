/* py_deadlock.c: what a thread does that is chosen to end a deadlock: the options, the exception, the report. */
#include "py_common.h"

_Atomic int sx_deadlock_default = DEADLOCK_RAISE;

static const char *const names[] = {"raise", "report", "off"};

static int number_of(PyObject *name)
{
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0)
            return i;
    return DEADLOCK_DEFAULT;
}

/* ---- the options -------------------------------------------------------------------------------------------- */
static int parse_name(PyObject *name, const char *what, signed char *which)
{
    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "%s must be \"raise\", \"report\" or \"off\", not %.100s", what,
                     Py_TYPE(name)->tp_name);
        return -1;
    }
    int number = number_of(name);
    if (number < 0) {
        PyErr_Format(
            PyExc_ValueError,
            "%s must be \"raise\" (DeadlockError), \"report\" (a line in the log) or \"off\" (neither), not %R", what,
            name);
        return -1;
    }
    *which = (signed char)number;
    return 0;
}

int sx_parse_deadlock(PyObject *deadlock, PyObject *priority, signed char *which, signed char *number)
{
    if (deadlock != NULL && deadlock != Py_None && parse_name(deadlock, "deadlock", which) < 0)
        return -1;
    if (priority == NULL || priority == Py_None)
        return 0;
    if (PyBool_Check(priority) || !PyLong_Check(priority)) {
        PyErr_Format(PyExc_TypeError, "priority must be an int from -100 to 100, not %.100s",
                     Py_TYPE(priority)->tp_name);
        return -1;
    }
    int overflow;
    long value = PyLong_AsLongAndOverflow(priority, &overflow);
    if (overflow != 0 || value < -100 || value > 100) {
        PyErr_Format(PyExc_ValueError,
                     "priority must be from -100 to 100, not %R; of a deadlock the member with the lowest is told",
                     priority);
        return -1;
    }
    *number = (signed char)value;
    return 0;
}

PyObject *sx_py_deadlock_name(int which)
{
    if (which == DEADLOCK_DEFAULT)
        Py_RETURN_NONE;
    return PyUnicode_FromString(names[which]);
}

PyObject *sx_set_deadlock_default(PyObject *module, PyObject *name)
{
    (void)module;
    signed char which;
    if (parse_name(name, "the default", &which) < 0)
        return NULL;
    atomic_store(&sx_deadlock_default, which);
    Py_RETURN_NONE;
}

PyObject *sx_get_deadlock_default(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return sx_py_deadlock_name(atomic_load(&sx_deadlock_default));
}

/* SYNCX_DEADLOCK, when the module is imported; what it does not know it tells of, and goes on. */
int sx_deadlock_environment(void)
{
    const char *value = getenv("SYNCX_DEADLOCK");
    if (value == NULL || *value == 0)
        return 0;
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (strcmp(value, names[i]) == 0) {
            atomic_store(&sx_deadlock_default, i);
            return 0;
        }
    return PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                            "SYNCX_DEADLOCK must be raise, report or off, not '%.100s'; raise is used", value);
}

/* ---- the victim ---------------------------------------------------------------------------------------------- */

static PyObject *members(const struct sx_deadlock *told)
{
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < told->count; i++) {
        const struct sx_member *m = &told->member[i];
        PyObject *item = Py_BuildValue("IIIKKKIIKNNO", m->pid, m->tid, m->kind, (unsigned long long)m->cell,
                                       (unsigned long long)m->address, (unsigned long long)m->holder, m->units, m->mode,
                                       (unsigned long long)m->since_ns, sx_text(m->name), sx_text(m->where),
                                       m->here ? Py_True : Py_False);
        int r = item == NULL ? -1 : PyList_Append(list, item);
        Py_XDECREF(item);
        if (r < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *links(const struct sx_deadlock *told)
{
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < told->links; i++) {
        PyObject *item = Py_BuildValue("ii", told->link[i].from, told->link[i].to);
        int r = item == NULL ? -1 : PyList_Append(list, item);
        Py_XDECREF(item);
        if (r < 0)
            Py_CLEAR(list);
    }
    return list;
}

/* Calls one of syncx.errors with the deadlock that this thread has been chosen to end, which is forgotten. */
static PyObject *tell(PyObject *function, PyObject *what)
{
    struct sx_deadlock told = sx_deadlock; /* what is allocated here may run finalizers, which wait, and forget it */
    sx_deadlock = (struct sx_deadlock){0};
    PyObject *its_members = members(&told), *its_links = links(&told);
    free(told.member);
    free(told.link);
    PyObject *r = its_members == NULL || its_links == NULL
                      ? NULL
                      : PyObject_CallFunctionObjArgs(function, what, its_members, its_links, NULL);
    Py_XDECREF(its_members);
    Py_XDECREF(its_links);
    return r;
}

PyObject *sx_deadlock_exception(struct module_state *state, PyObject *what)
{
    return tell(state->deadlock, what);
}

/* Amid a wait.  An exception of a log handler is reported and dropped; what is no Exception (Ctrl-C) ends the wait. */
bool sx_report_deadlock(void **host_state)
{
    struct sx_wish wish = sx_wish;
    PyEval_RestoreThread(*host_state);
    sx_wish = (struct sx_wish){0}; /* of the handlers' own waits */
    PyObject *what = wish.what;
    PyObject *r = what == NULL ? NULL : tell(sx_state(Py_TYPE(what))->report, what);
    bool stop = false;
    if (r == NULL && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_Exception))
            PyErr_WriteUnraisable(what);
        else
            stop = true;
    }
    Py_XDECREF(r);
    sx_wish = wish;
    *host_state = PyEval_SaveThread();
    return stop;
}
