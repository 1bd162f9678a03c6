/* py_common.h: what the binding files share.  Only py_*.c and module.c include Python.h. */
#ifndef SYNCX_PY_COMMON_H
#define SYNCX_PY_COMMON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <frameobject.h> /* PyFrame_GetBack, which Python.h declares from 3.11 on */

#include "held.h"

struct module_state {
    PyTypeObject *arena_type;
    PyTypeObject *handle_type;
    PyTypeObject *mutex_type;
    PyTypeObject *gate_type;
    PyTypeObject *descriptor_type;
    PyObject *translate;          /* syncx.errors.translate(status, errno, what, detail) -> exception */
    PyObject *deadlock;           /* syncx.errors.deadlock(lock, members) -> exception */
    PyObject *report;             /* syncx.errors.report_deadlock(lock, members) */
    PyObject *owner_died;         /* syncx.errors.report_owner_death(lock, pid, tid) */
    PyObject *blocking, *timeout; /* interned names */
};

extern struct PyModuleDef sx_module;

/* The module's state from one of its types, or a subclass of one. */
struct module_state *sx_state(PyTypeObject *type);

/* Raises what the status says; `what` is the object for the message, `detail` an int with a meaning of the
 * status's own.  Returns NULL. */
PyObject *sx_raise(struct module_state *state, enum sx_status status, PyObject *what, long detail);

/* threading's rules: None and -1 are for ever, other negative numbers are refused, blocking=False takes no
 * timeout.  The deadline: 0 for a try, SX_NEVER, or a time.  -1 with an exception. */
int sx_deadline(PyObject *blocking, PyObject *timeout, int64_t *deadline);
/* A str of what a thread wrote about itself; None where that is nothing. */
PyObject *sx_text(const char *bytes);
/* Seconds (a float or an int, not negative) to ns; -1 with an exception. */
int64_t sx_nanoseconds(PyObject *seconds);

typedef struct {
    PyObject_HEAD
    struct sx_arena *core; /* NULL once closed */
    PyObject *weak;
} ArenaObject;

/* ---- handles: what all types of shared objects have in common, py_handle.c ------------------------------ */
typedef struct HandleObject HandleObject;
typedef struct GateObject {
    PyObject_HEAD
    vectorcallfunc call;
    HandleObject *handle;
    bool owns; /* the ownership has turned round */
} GateObject;

/* What a type of handle does its own way; any of it may be missing. */
struct handle_methods {
    uint32_t kinds; /* 1 << kind of the cells it is a handle for */
    void (*opened)(HandleObject *self);
    void (*closing)(HandleObject *self);    /* of what is no object of the arena: gives it up */
    bool (*held)(HandleObject *self);       /* by the calling thread: refuses close() */
    bool (*held_here)(HandleObject *self);  /* by any thread of this process: the same */
    PyObject *(*enter)(HandleObject *self); /* __enter__ and __exit__ when the gates' fast path fails */
    PyObject *(*exit)(HandleObject *self, bool raised);
};

#define HANDLE_HEAD                                                                                                    \
    PyObject_HEAD                                                                                                      \
    struct sx_arena *core;   /* &sx_closed_arena once closed */                                                        \
    GateObject *gates[2];    /* what `with` calls: made once, see py_gate.c */                                         \
    vectorcallfunc calls[2]; /* what the gates do */                                                                   \
    const struct handle_methods *methods;                                                                              \
    struct module_state *state;                                                                                        \
    struct sx_object object;                                                                                           \
    int64_t patience;   /* of a plain `with`, ns; SX_NEVER */                                                          \
    ArenaObject *arena; /* keeps the mapping */                                                                        \
    Py_buffer buffer;   /* of an object in the user's memory */                                                        \
    PyObject *weak;                                                                                                    \
    enum sx_kind kind;                                                                                                 \
    _Atomic uint64_t order;        /* its lock class, as sx_order_class returns it */                                  \
    _Atomic int waiting;           /* threads in a slow call through this handle */                                    \
    bool plain;                    /* hand out ordinary bound methods from now on */                                   \
    signed char deadlock, priority /* what its waits do in a deadlock: enum on_deadlock; -100 to 100 */

struct HandleObject {
    HANDLE_HEAD;
};

/* In the order of their names in py_deadlock.c. */
enum on_deadlock { DEADLOCK_DEFAULT = -1, DEADLOCK_RAISE, DEADLOCK_REPORT, DEADLOCK_OFF };
extern _Atomic int sx_deadlock_default; /* of this process */

static inline uint32_t sx_wish_bits(int deadlock, int priority)
{
    if (deadlock == DEADLOCK_DEFAULT)
        deadlock = atomic_load_explicit(&sx_deadlock_default, memory_order_relaxed);
    return (uint32_t)(uint8_t)priority << WAIT_PRIORITY_SHIFT | (deadlock == DEADLOCK_REPORT ? WAIT_REPORT
                                                                 : deadlock == DEADLOCK_OFF  ? WAIT_OFF
                                                                                             : 0);
}

#define OWN_WISH UINT32_MAX /* what wish_of says then: not asked for before there is a wait */

/* What a wait through the handle does in a deadlock, if its call says nothing else. */
static inline uint32_t wish_of(const void *handle)
{
    const HandleObject *self = handle;
    return sx_wish_bits(self->deadlock, self->priority);
}

/* deadlock= and priority=, each NULL or None where it was not given; -1 with an exception. */
int sx_parse_deadlock(PyObject *deadlock, PyObject *priority, signed char *which, signed char *number);
PyObject *sx_py_deadlock_name(int which); /* borrowed or new as None is: a new reference */
PyObject *sx_set_deadlock_default(PyObject *module, PyObject *which);
PyObject *sx_get_deadlock_default(PyObject *module, PyObject *unused);
int sx_deadlock_environment(void);
PyObject *sx_deadlock_exception(struct module_state *state, PyObject *what);
bool sx_report_deadlock(void **state);

/* For tp_new, tp_dealloc, tp_traverse of the types. */
PyObject *sx_handle_new(PyTypeObject *type, const struct handle_methods *methods);
void sx_handle_dealloc(PyObject *op);
int sx_handle_traverse(PyObject *op, visitproc visit, void *arg);
PyObject *sx_own_methods(PyObject *module, PyObject *cls);
PyObject *sx_py_snapshot(PyObject *module, PyObject *what);

static inline bool closed(const void *handle)
{
    return ((const HandleObject *)handle)->core == &sx_closed_arena;
}

static inline enum sx_status identity_of(const void *handle, uint64_t *me)
{
    return closed(handle) ? SX_CLOSED : sx_identity(((const HandleObject *)handle)->core, me);
}

/* An object in the user's memory outlives its arena: once that is unlinked, another arena may adopt the memory, and its
 * threads cannot tell whether ours live.  (One in the arena has the mark in its own words.) */
static inline bool outlived(const void *handle)
{
    const HandleObject *self = handle;
    return self->object.unit == SX_NOBODY &&
           (atomic_load_explicit(&self->core->header->retired, memory_order_acquire) != 0 ||
            !sx_cell_is_ours(self->core, self->object.cell));
}

/* Before a call that may wait through the handle, and after it: close() must not take the memory away. */
#define HANDLE_BEGIN(self) ((self)->waiting++)
#define HANDLE_END(self) ((self)->waiting--)
/* The same for a wait that may be part of a deadlock; one of each in a block. */
#define WAIT_BEGIN(self, wish)                                                                                         \
    struct sx_wish outer_wish = sx_wish;                                                                               \
    sx_wish = (struct sx_wish){(wish) == OWN_WISH ? wish_of(self) : (wish), self};                                     \
    HANDLE_BEGIN(self)
#define WAIT_END(self)                                                                                                 \
    HANDLE_END(self);                                                                                                  \
    sx_wish = outer_wish

/* acquire(blocking=True, timeout=None, *, n=1, deadlock=None, priority=None) with any mix of positions and keywords; count
 * NULL: takes no n; wish NULL: takes neither of the last two, else it is as the handle's before. */
int sx_parse_acquire(HandleObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names, int64_t *deadline,
                     uint32_t *count, uint32_t *wish);
/* wait(timeout=None) */
int sx_parse_wait(PyObject *const *args, Py_ssize_t n, PyObject *names, const char *function, int64_t *deadline);
/* upgrade(timeout=None, *, deadlock=None, priority=None) */
int sx_parse_upgrade(HandleObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names, int64_t *deadline,
                     uint32_t *wish);
/* An int from 1 to most; -1 with an exception that names it. */
int sx_parse_count(PyObject *value, const char *name, uint32_t most, uint32_t *count);
/* release(n=1) and its like */
int sx_parse_units(PyObject *const *args, Py_ssize_t n, PyObject *names, const char *function, uint32_t most,
                   uint32_t *count);
bool sx_too_many(const char *name, Py_ssize_t count, PyObject *keywords, Py_ssize_t want);

/* ---- what is held, while anybody wants to know: py_trace.c ------------------------------------------------- */

/* What is about to be taken, or was. */
struct note {
    HandleObject *handle;
    uint32_t mode;  /* enum sx_mode; of what is asked for, also SX_ORDER_UPGRADE */
    uint32_t units; /* how often, or how many permits */
    bool loose;     /* another thread may give it back */
    int64_t deadline;
    int64_t first, last; /* of a range */
};
int sx_note_wanted(const struct note *n); /* -1: an exception, and nothing was taken */
void sx_note_taken(const struct note *n);
void sx_note_given(HandleObject *handle, uint32_t units);
void sx_note_given_range(HandleObject *handle, int64_t first, int64_t last);
void sx_note_mode(HandleObject *handle, uint32_t mode);
void sx_note_made(HandleObject *handle);
void sx_note_lost(HandleObject *handle);
uint32_t sx_note_spot(void);
/* Of a RangeLock: its path, or NULL, the file as the kernel numbers it, and which of the kernel's locks. */
const char *sx_range_identity(HandleObject *handle, uint64_t *device, uint64_t *inode, int *style);
PyObject *sx_py_traces(PyObject *arena, PyObject *args);
extern PyMethodDef sx_trace_functions[];

/* ---- mutexes ----------------------------------------------------------------------------------------------- */
typedef struct MutexObject MutexObject;

/* How a lock is taken and given back that is more than its mutex.  Called with the handle open. */
struct mutex_ways {
    enum sx_status (*lock)(MutexObject *self, int64_t deadline);
    enum sx_status (*unlock)(MutexObject *self, bool keep_mark);
    enum sx_mode mode;
    bool (*owned)(MutexObject *self); /* by the calling thread, which has the mutex or not */
};

struct MutexObject {
    HANDLE_HEAD;
    struct sx_mutex *mutex;
    const struct mutex_ways *ways; /* NULL: the mutex is all */
    PyObject *on_owner_death;
    int policy;
    long dead_pid, dead_tid; /* with untold: whom to name when the hold ends */
    bool untold;
    bool recursive;
};

enum policy { POLICY_RECOVER, POLICY_RAISE, POLICY_IGNORE, POLICY_CALL };

extern PyType_Spec sx_arena_spec, sx_handle_spec, sx_gate_spec, sx_descriptor_spec, sx_mutex_spec, sx_semaphore_spec,
    sx_latch_spec;

extern PyType_Spec sx_event_spec, sx_once_spec;
extern PyType_Spec sx_permits_spec;
extern PyType_Spec sx_rwlock_spec, sx_read_view_spec, sx_write_view_spec, sx_upgradable_view_spec;
extern PyType_Spec sx_condition_spec;
extern PyType_Spec sx_barrier_spec;
extern PyType_Spec sx_range_spec;

/* The id in the word, or 0 when it is free or names a dead thread. */
static inline uint64_t live_holder(MutexObject *self)
{
    uint32_t life;
    uint64_t w = atomic_load_explicit(&self->mutex->word, memory_order_acquire);
    return sx_is_free(w) || sx_holder_life(self->core, w, &life) != SX_ALIVE ? 0 : w & SX_ID_MASK;
}

static inline bool is_owned(MutexObject *self)
{
    uint64_t me;
    if (identity_of(self, &me) != SX_OK)
        return false;
    return self->ways != NULL ? self->ways->owned(self)
                              : (atomic_load_explicit(&self->mutex->word, memory_order_relaxed) & SX_ID_MASK) == me;
}

/* for types that are mutexes with ways of their own */
void sx_mutex_opened_with(MutexObject *self, struct sx_mutex *mutex, const struct mutex_ways *ways);
PyObject *sx_mutex_enter(HandleObject *op);
PyObject *sx_mutex_exit(HandleObject *op, bool raised);
int sx_mutex_traverse(PyObject *op, visitproc visit, void *arg);
int sx_mutex_clear(PyObject *op);

/* for a Condition: gives the lock up however deep, and takes it again */
/* for a Condition: the methods of its lock, ... */
PyObject *sx_mutex_acquire(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *sx_mutex_release(PyObject *op, PyObject *unused);
PyObject *sx_mutex_recover(PyObject *op, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *sx_mutex_locked(PyObject *op, PyObject *unused);
/* ... gives the lock up however deep, and takes it again */
enum sx_status sx_mutex_lock_again(MutexObject *self);
enum sx_status sx_mutex_release_save(MutexObject *self, uint32_t *depth, int *told);
int sx_mutex_after_restore(MutexObject *self, enum sx_status status, uint32_t depth);

/* ---- gates --------------------------------------------------------------------------------------------------- */
enum which { ENTER, EXIT };
int sx_gates_add_to_type(struct module_state *state, PyTypeObject *type);
void sx_gates_finalize(PyObject *self);
void sx_gates_clear(HandleObject *self);

/* The handle of a gate, with its argument check; the fast paths are in the types' own files. */
static inline bool gate_enter_ok(size_t nargsf, PyObject *keywords)
{
    return __builtin_expect(PyVectorcall_NARGS(nargsf) == 0 && keywords == NULL, 1) ||
           !sx_too_many("__enter__", PyVectorcall_NARGS(nargsf), keywords, 0);
}
static inline bool gate_exit_ok(size_t nargsf, PyObject *keywords)
{
    return __builtin_expect(PyVectorcall_NARGS(nargsf) == 3 && keywords == NULL, 1) ||
           !sx_too_many("__exit__", PyVectorcall_NARGS(nargsf), keywords, 3);
}

#endif
