/* module.c: the extension module syncx._core: its types, constants and the host's side of a wait. */
#include <errno.h>
#include <unistd.h>

#include "py_common.h"

/* ---- the host: the GIL and Python's signal handlers ----------------------------------------------------- */
static void *release_gil(void)
{
    return PyEval_SaveThread();
}

static void take_gil(void *state)
{
    PyEval_RestoreThread(state);
}

/* ---- where the thread is, for people -------------------------------------------------------------------- */
static char package[4096]; /* the directory of this package, with a slash at the end; empty: not known */

/* The characters of a str that somebody else keeps; others than ASCII are told as "?".  Needs no GIL. */
static size_t plain(PyObject *text, char *to, size_t size)
{
    size_t n = 0, length = (size_t)PyUnicode_GET_LENGTH(text);
    for (; n < length && n < size; n++) {
        Py_UCS4 c = PyUnicode_READ_CHAR(text, (Py_ssize_t)n);
        to[n] = c >= ' ' && c < 127 ? (char)c : '?';
    }
    return n;
}

static bool is_ours(PyCodeObject *code)
{
    size_t n = strlen(package);
    PyObject *file = code->co_filename;
    if (PyUnicode_GET_LENGTH(file) >= 7 && PyUnicode_READ_CHAR(file, 0) == '<' && PyUnicode_READ_CHAR(file, 1) == 'f')
        return true; /* "<frozen ...>" */
    if (n == 0 || (size_t)PyUnicode_GET_LENGTH(file) < n || !PyUnicode_IS_COMPACT_ASCII(file))
        return false;
    /* the demos are programs that use the package, as anybody's */
    const char *path = PyUnicode_DATA(file);
    return memcmp(path, package, n) == 0 && strncmp(path + n, "demo", 4) != 0;
}

static int offset_in(PyFrameObject *frame)
{
#if PY_VERSION_HEX >= 0x030b0000
    return PyFrame_GetLasti(frame);
#else
    return -PyFrame_GetLineNumber(frame) - 1; /* no offset can be had: the line itself, below 0 */
#endif
}

/* The innermost frame that is not this package's; if all are, the innermost one.  The frame is one of this thread's and
 * stays where it is until the wait is over: what is kept of it needs no reference. */
static void find_place(struct sx_spot *place)
{
    *place = (struct sx_spot){0};
    PyFrameObject *frame = PyEval_GetFrame(), *back;
    Py_XINCREF(frame);
    while (frame != NULL) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        bool ours = is_ours(code);
        if (place->code == NULL || !ours)
            *place = (struct sx_spot){code, offset_in(frame)};
        Py_DECREF(code);
        back = ours ? PyFrame_GetBack(frame) : NULL;
        Py_DECREF(frame);
        frame = back;
    }
}

/* "FILE:LINE in FUNCTION"; of a long one the end.  The code object does not change, so no GIL is needed. */
static void tell_place(const struct sx_spot *place, char *text, size_t size)
{
    PyCodeObject *code = (PyCodeObject *)place->code;
    char all[4096 + 256];
    size_t n = plain(code->co_filename, all, 4096);
    int line = place->at < 0 ? -place->at - 1 : PyCode_Addr2Line(code, place->at);
    n += (size_t)snprintf(all + n, 32, ":%d in ", line);
    n += plain(code->co_name, all + n, 100);
    memset(text, 0, size);
    if (n < size)
        memcpy(text, all, n);
    else {
        memcpy(text, "...", 3);
        memcpy(text + 3, all + n - (size - 4), size - 4);
    }
}

/* threading's name of this thread, if it has one and the GIL is held; runs no code of Python's. */
static void thread_name(char *text, size_t size)
{
    memset(text, 0, size);
#if PY_VERSION_HEX >= 0x030d0000
    PyThreadState *state = PyThreadState_GetUnchecked();
#else
    PyThreadState *state = _PyThreadState_UncheckedGet();
#endif
    if (state == NULL || state->thread_id != PyThread_get_thread_ident())
        return; /* before 3.12 it is whoever holds the GIL */
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *modules = PySys_GetObject("modules"); /* NULL once the interpreter ends */
    PyObject *threading = modules == NULL || !PyDict_Check(modules) ? NULL : PyDict_GetItemString(modules, "threading");
    PyObject *active = threading == NULL || !PyModule_Check(threading)
                           ? NULL
                           : PyDict_GetItemString(PyModule_GetDict(threading), "_active");
    PyObject *ident = PyLong_FromUnsignedLong(PyThread_get_thread_ident());
    PyObject *thread = active == NULL || !PyDict_Check(active) || ident == NULL ? NULL : PyDict_GetItem(active, ident);
    PyObject *dict = thread == NULL ? NULL : PyObject_GenericGetDict(thread, NULL);
    PyObject *name = dict == NULL ? NULL : PyDict_GetItemString(dict, "_name");
    if (name != NULL && PyUnicode_Check(name)) {
        Py_ssize_t n;
        const char *utf8 = PyUnicode_AsUTF8AndSize(name, &n);
        if (utf8 != NULL) {
            size_t keep = (size_t)n < size ? (size_t)n : size - 1;
            while (keep < (size_t)n && keep > 0 && ((unsigned char)utf8[keep] & 0xc0) == 0x80)
                keep--; /* no half of a character */
            memcpy(text, utf8, keep);
        }
    }
    Py_XDECREF(dict);
    Py_XDECREF(ident);
    PyErr_Restore(type, value, traceback);
}

static void find_package(PyObject *module)
{
    PyObject *file = PyModule_GetFilenameObject(module);
    const char *text = file == NULL ? NULL : PyUnicode_AsUTF8(file), *slash = text == NULL ? NULL : strrchr(text, '/');
    if (slash != NULL && (size_t)(slash - text) + 2 <= sizeof package) {
        memcpy(package, text, (size_t)(slash - text) + 1);
        package[slash - text + 1] = 0;
    }
    Py_XDECREF(file);
    PyErr_Clear();
}

/* What a thread wrote about itself in its slot; noise is told as such. */
PyObject *sx_text(const char *bytes)
{
    if (bytes[0] == 0)
        Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)strlen(bytes), "backslashreplace");
}

/* PEP 475: handlers run, and unless one raises the wait goes on.  On the belt there is nothing to do but for a
 * signal that came just before the sleep, and handlers run in the main thread only. */
static bool handles(void)
{
    return !sx_quiet && syscall(SYS_gettid) == getpid();
}

static bool run_handlers(void **state, bool belt)
{
    if (sx_quiet || (belt && !handles()))
        return false;
    struct sx_wish wish = sx_wish; /* the handlers' own waits have another */
    bool unwilling = sx_unwilling;
    PyEval_RestoreThread(*state);
    sx_wish = (struct sx_wish){0};
    sx_unwilling = false;
    bool stop = PyErr_CheckSignals() < 0;
    sx_wish = wish;
    sx_unwilling = unwilling;
    *state = PyEval_SaveThread();
    return stop;
}

/* ---- exceptions and arguments --------------------------------------------------------------------------- */
struct module_state *sx_state(PyTypeObject *type)
{
#if PY_VERSION_HEX >= 0x030b0000
    return PyModule_GetState(PyType_GetModuleByDef(type, &sx_module));
#else
    for (; type != NULL; type = type->tp_base) {
        PyObject *module = type->tp_flags & Py_TPFLAGS_HEAPTYPE ? ((PyHeapTypeObject *)type)->ht_module : NULL;
        if (module != NULL && PyModule_GetDef(module) == &sx_module)
            return PyModule_GetState(module);
    }
    Py_FatalError("syncx._core: a type without its module");
#endif
}

PyObject *sx_raise(struct module_state *state, enum sx_status status, PyObject *what, long detail)
{
    int number = errno;
    if (status == SX_INTERRUPTED && PyErr_Occurred()) {
        sx_deadlock_forget();
        return NULL; /* the signal handler's exception */
    }
    PyObject *e = status == SX_INTERRUPTED && sx_deadlock.count != 0
                      ? sx_deadlock_exception(state, what)
                      : PyObject_CallFunction(state->translate, "iiOl", (int)status, number, what, detail);
    if (e != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(e), e);
        Py_DECREF(e);
    }
    return NULL;
}

#define TIMEOUT_MAX 9223372036.0 /* threading.TIMEOUT_MAX: PY_TIMEOUT_MAX in seconds, rounded down */

int64_t sx_nanoseconds(PyObject *seconds)
{
    double s = PyFloat_AsDouble(seconds);
    if (s == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Format(PyExc_TypeError, "a timeout is a number of seconds or None, not %.100s",
                         Py_TYPE(seconds)->tp_name);
        return -1;
    }
    if (s != s)
        PyErr_SetString(PyExc_ValueError, "a timeout cannot be NaN");
    else if (s < 0)
        PyErr_Format(PyExc_ValueError, "a timeout cannot be negative (%R); None waits for ever", seconds);
    else if (s > TIMEOUT_MAX)
        PyErr_Format(PyExc_OverflowError, "a timeout of %R seconds is more than threading.TIMEOUT_MAX", seconds);
    else
        return (int64_t)(s * 1e9);
    return -1;
}

int sx_deadline(PyObject *blocking, PyObject *timeout, int64_t *deadline)
{
    int wait = blocking == NULL ? 1 : PyObject_IsTrue(blocking);
    if (wait < 0)
        return -1;
    bool for_ever = timeout == NULL || timeout == Py_None;
    if (!for_ever && (PyFloat_Check(timeout) || PyLong_Check(timeout))) {
        double s = PyFloat_AsDouble(timeout);
        if (s == -1.0 && PyErr_Occurred())
            return -1;
        for_ever = s == -1.0;
    }
    if (for_ever) {
        *deadline = wait ? SX_NEVER : 0;
        return 0;
    }
    if (!wait) {
        PyErr_SetString(PyExc_ValueError, "blocking=False tries once: it takes no timeout");
        return -1;
    }
    int64_t ns = sx_nanoseconds(timeout);
    if (ns < 0)
        return -1;
    *deadline = sx_after(ns);
    return 0;
}

/* ---- functions ------------------------------------------------------------------------------------------ */

/* The floor of the benchmarks: a compare-and-swap pair through one C call. */
static PyObject *nothing(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    Py_RETURN_NONE;
}

static PyObject *set_belt(PyObject *module, PyObject *on)
{
    (void)module;
    int r = PyObject_IsTrue(on);
    if (r < 0)
        return NULL;
    sx_belt_off = !r;
    Py_RETURN_NONE;
}

static PyObject *set_spinning(PyObject *module, PyObject *always)
{
    (void)module;
    int r = PyObject_IsTrue(always);
    if (r < 0)
        return NULL;
    sx_spin_always = r;
    Py_RETURN_NONE;
}

static PyObject *set_deadlock(PyObject *module, PyObject *on)
{
    (void)module;
    int r = PyObject_IsTrue(on);
    if (r < 0)
        return NULL;
    sx_deadlock_off = !r;
    Py_RETURN_NONE;
}

static int hook_says, hook_hears;
static pthread_mutex_t hook_guard = PTHREAD_MUTEX_INITIALIZER;

/* One thread of the process at a time: the answer is to the one that asked. */
static void verdict(void)
{
    char byte = 'v';
    pthread_mutex_lock(&hook_guard);
    while (write(hook_says, &byte, 1) < 0 && errno == EINTR)
        ;
    while (read(hook_hears, &byte, 1) < 0 && errno == EINTR)
        ;
    pthread_mutex_unlock(&hook_guard);
}

static PyObject *set_verdict_hook(PyObject *module, PyObject *args)
{
    (void)module;
    if (!PyArg_ParseTuple(args, "ii:_set_verdict_hook", &hook_says, &hook_hears))
        return NULL;
    sx_deadlock_hook = hook_says < 0 ? NULL : verdict;
    Py_RETURN_NONE;
}

static PyObject *size_of(PyObject *module, PyObject *args)
{
    (void)module;
    int kind;
    unsigned int parameter;
    if (!PyArg_ParseTuple(args, "iI:size_of", &kind, &parameter))
        return NULL;
    size_t size = sx_kind_size((enum sx_kind)kind, parameter);
    return PyLong_FromSize_t((size + SX_LINE - 1) / SX_LINE * SX_LINE);
}

static PyMethodDef functions[] = {
    {"_nothing", nothing, METH_NOARGS, "_nothing($module, /)\n--\n\nReturns None: what a call costs."},
    {"own_methods", sx_own_methods, METH_O,
     "own_methods($module, cls, /)\n--\n\nClass decorator: method descriptors of the class's own, which are called "
     "faster."},
    {"size_of", size_of, METH_VARARGS,
     "size_of($module, kind, parameter, /)\n--\n\nBytes that an object of that kind, with that value, parties or "
     "count, "
     "takes; 0: too many."},
    {"_snapshot", sx_py_snapshot, METH_O,
     "_snapshot($module, arena, /)\n--\n\nRows of numbers for syncx.snapshot: of an attached arena, or the path of "
     "one."},
    {"set_deadlock_default", sx_set_deadlock_default, METH_O,
     "set_deadlock_default($module, which, /)\n--\n\n"
     "What this process does when one of its waits is chosen to end a deadlock, where neither the lock nor the call "
     "says.\n\n"
     "which: \"raise\", \"report\" or \"off\", as for `Mutex`; at the start that is SYNCX_DEADLOCK, or \"raise\".  For "
     "waits that\n"
     "begin later, of all threads; a forked child begins with its parent's.  Raises ValueError or TypeError for "
     "anything "
     "else."},
    {"deadlock_default", sx_get_deadlock_default, METH_NOARGS,
     "deadlock_default($module, /)\n--\n\nWhat set_deadlock_default() said last: \"raise\", \"report\" or \"off\"."},
    {"_set_deadlock", set_deadlock, METH_O,
     "_set_deadlock($module, on, /)\n--\n\nBenchmarks and tests: without the detector a deadlock stands for ever."},
    {"_set_verdict_hook", set_verdict_hook, METH_VARARGS,
     "_set_verdict_hook($module, says, hears, /)\n--\n\nTests: whoever finds a deadlock writes a byte to one "
     "descriptor "
     "and waits for one from the other before it tells the victim.  -1: no more."},
    {"_set_belt", set_belt, METH_O,
     "_set_belt($module, on, /)\n--\n\nTests: without the belt a lost wake-up hangs instead of being rescued."},
    {"_set_spinning", set_spinning, METH_O,
     "_set_spinning($module, always, /)\n--\n\nTests: waits spin first also where there is one CPU."},
    {NULL, NULL, 0, NULL},
};

/* ---- the module ----------------------------------------------------------------------------------------- */
static PyObject *import(const char *module, const char *name)
{
    PyObject *m = PyImport_ImportModule(module);
    PyObject *r = m == NULL ? NULL : PyObject_GetAttrString(m, name);
    Py_XDECREF(m);
    return r;
}

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec)
{
    PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    if (type == NULL || PyModule_AddType(module, type) < 0) {
        Py_XDECREF(type);
        return NULL;
    }
    return type;
}

/* The types of handles: each a subtype of Handle, or of one above it; with `with`, if it has a use for it. */
static const struct {
    PyType_Spec *spec;
    bool gates;
    PyType_Spec *base; /* NULL: Handle */
} handle_types[] = {
    {&sx_mutex_spec, true},
    {&sx_event_spec, false},
    {&sx_once_spec, false},
    {&sx_semaphore_spec, true},
    {&sx_latch_spec, false},
    {&sx_permits_spec, true},
    {&sx_rwlock_spec, false},
    {&sx_read_view_spec, true},
    {&sx_write_view_spec, false, &sx_mutex_spec},
    {&sx_upgradable_view_spec, false, &sx_mutex_spec},
    {&sx_condition_spec, true},
    {&sx_barrier_spec, false},
    {&sx_range_spec, true},
};
#define HANDLE_TYPES (sizeof handle_types / sizeof *handle_types)

static int add_handle_types(PyObject *module, struct module_state *state)
{
    PyTypeObject *types[HANDLE_TYPES] = {NULL};
    int r = 0;
    for (size_t i = 0; i < HANDLE_TYPES && r == 0; i++) {
        PyTypeObject *base = state->handle_type;
        for (size_t j = 0; j < i; j++)
            if (handle_types[j].spec == handle_types[i].base)
                base = types[j];
        PyObject *bases = PyTuple_Pack(1, base);
        types[i] = bases == NULL ? NULL : (PyTypeObject *)PyType_FromModuleAndSpec(module, handle_types[i].spec, bases);
        r = types[i] == NULL ? -1 : PyModule_AddType(module, types[i]);
        if (r == 0 && handle_types[i].gates)
            r = sx_gates_add_to_type(state, types[i]);
        if (r == 0 && handle_types[i].spec == &sx_mutex_spec)
            state->mutex_type = (PyTypeObject *)Py_NewRef((PyObject *)types[i]);
        Py_XDECREF(bases);
    }
    for (size_t i = 0; i < HANDLE_TYPES; i++)
        Py_XDECREF(types[i]);
    return r;
}

static int execute(PyObject *module)
{
    struct module_state *state = PyModule_GetState(module);
    sx_host = (struct sx_host){release_gil, take_gil,   run_handlers, sx_report_deadlock,
                               handles,     find_place, tell_place,   thread_name};
    find_package(module);
    if ((state->translate = import("syncx.errors", "translate")) == NULL ||
        (state->deadlock = import("syncx.errors", "deadlock")) == NULL ||
        (state->report = import("syncx.errors", "report_deadlock")) == NULL ||
        (state->owner_died = import("syncx.errors", "report_owner_death")) == NULL ||
        (state->blocking = PyUnicode_InternFromString("blocking")) == NULL ||
        (state->timeout = PyUnicode_InternFromString("timeout")) == NULL ||
        (state->arena_type = add_type(module, &sx_arena_spec)) == NULL ||
        (state->gate_type = add_type(module, &sx_gate_spec)) == NULL ||
        (state->descriptor_type = add_type(module, &sx_descriptor_spec)) == NULL ||
        (state->handle_type = add_type(module, &sx_handle_spec)) == NULL || add_handle_types(module, state) < 0 ||
        sx_deadlock_environment() < 0)
        return -1;
    if (PyModule_AddFunctions(module, sx_trace_functions) < 0)
        return -1;
    static const struct {
        const char *name;
        long value;
    } constants[] = {
        {"ALIGNMENT", SX_LINE},
        {"MAX_NAME", SX_MAX_NAME},
        {"MAX_NAMES", SX_MAX_NAMES},
        {"MAX_PARTICIPANTS", SX_MAX_PARTICIPANTS},
        {"KIND_MUTEX", SX_KIND_MUTEX},
        {"KIND_RLOCK", SX_KIND_RLOCK},
        {"KIND_SEMAPHORE", SX_KIND_SEMAPHORE},
        {"KIND_PERMITS", SX_KIND_PERMITS},
        {"KIND_EVENT", SX_KIND_EVENT},
        {"KIND_LATCH", SX_KIND_LATCH},
        {"KIND_CONDITION", SX_KIND_CONDITION},
        {"KIND_BARRIER", SX_KIND_BARRIER},
        {"KIND_ONCE", SX_KIND_ONCE},
        {"KIND_RWLOCK", SX_KIND_RWLOCK},
        {"STYLE_OFD", SX_OFD_STYLE},
        {"STYLE_FLOCK", SX_FLOCK_STYLE},
        {"STYLE_POSIX", SX_POSIX_STYLE},
        {"MAX_UNITS", SX_MAX_UNITS},
        {"MAX_PERMITS", SX_MAX_PERMITS},
        {"MAX_PARTIES", SX_MAX_PARTIES},
        {"MAX_MARKS", SX_MARKS},
        {"ONCE_RESULT", SX_ONCE_RESULT},
        {"OWNER_DIED", SX_OWNER_DIED},
        {"TIMEOUT", SX_TIMEOUT},
        {"INTERRUPTED", SX_INTERRUPTED},
        {"DEADLOCK", SX_DEADLOCK},
        {"NOT_OWNER", SX_NOT_OWNER},
        {"RETIRED", SX_RETIRED},
        {"CLOSED", SX_CLOSED},
        {"GONE", SX_GONE},
        {"NOT_FOUND", SX_NOT_FOUND},
        {"EXISTS", SX_EXISTS},
        {"WRONG_KIND", SX_WRONG_KIND},
        {"IN_USE", SX_IN_USE},
        {"OTHER_VALUE", SX_OTHER_VALUE},
        {"TOO_MANY", SX_TOO_MANY},
        {"NOT_HELD", SX_NOT_HELD},
        {"BROKEN", SX_BROKEN},
        {"FULL_PARTICIPANTS", SX_FULL_PARTICIPANTS},
        {"FULL_PROCESSES", SX_FULL_PROCESSES},
        {"FULL_NAMES", SX_FULL_NAMES},
        {"FULL_CELLS", SX_FULL_CELLS},
        {"FULL_REFERENCES", SX_FULL_REFERENCES},
        {"NOT_AN_ARENA", SX_NOT_AN_ARENA},
        {"OTHER_VERSION", SX_OTHER_VERSION},
        {"DAMAGED", SX_DAMAGED},
        {"OTHER_ARENA", SX_OTHER_ARENA},
        {"NEVER_INITIALISED", SX_NEVER_INITIALISED},
        {"ERRNO", SX_ERRNO},
        {"OPEN", SX_OPEN},
        {"CREATE", SX_CREATE},
        {"EXCLUSIVE", SX_EXCLUSIVE},
    };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0)
            return -1;
    return 0;
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    struct module_state *state = PyModule_GetState(module);
    Py_VISIT(state->arena_type);
    Py_VISIT(state->handle_type);
    Py_VISIT(state->mutex_type);
    Py_VISIT(state->gate_type);
    Py_VISIT(state->descriptor_type);
    Py_VISIT(state->translate);
    Py_VISIT(state->deadlock);
    Py_VISIT(state->report);
    Py_VISIT(state->owner_died);
    return 0;
}

static int clear(PyObject *module)
{
    struct module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->arena_type);
    Py_CLEAR(state->handle_type);
    Py_CLEAR(state->mutex_type);
    Py_CLEAR(state->gate_type);
    Py_CLEAR(state->descriptor_type);
    Py_CLEAR(state->translate);
    Py_CLEAR(state->deadlock);
    Py_CLEAR(state->report);
    Py_CLEAR(state->owner_died);
    Py_CLEAR(state->blocking);
    Py_CLEAR(state->timeout);
    return 0;
}

static void free_module(void *module)
{
    clear(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

struct PyModuleDef sx_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "syncx._core",
    .m_doc = "The C core of syncx.  Use the names of the package syncx.",
    .m_size = sizeof(struct module_state),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = free_module,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&sx_module);
}
