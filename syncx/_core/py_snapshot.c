/* py_snapshot.c: a snapshot of an arena as rows of numbers, of which snapshots.py makes objects. */
#include "py_common.h"
#include "snapshot.h"

typedef unsigned long long U;

static PyObject *row_of_process(const struct sx_seen_process *p)
{
    return Py_BuildValue("KIKKKOO", (U)p->id, p->pid, (U)p->start_time, (U)p->pid_namespace, (U)p->attached_ns,
                         p->alive ? Py_True : Py_False, p->here ? Py_True : Py_False);
}

static PyObject *row_of_participant(const struct sx_seen_participant *p)
{
    PyObject *name = sx_text(p->name);
    if (name == NULL)
        return NULL;
    return Py_BuildValue("KKIIKNOO", (U)p->id, (U)p->process, p->pid, p->tid, (U)p->start_time, name,
                         p->alive ? Py_True : Py_False, p->stable ? Py_True : Py_False);
}

static uint64_t place_of(const struct sx_snapshot *s, uint32_t object)
{
    return object == SX_NOBODY ? 0 : sx_seen_object(s, object)->offset;
}

static PyObject *row_of_wait(const struct sx_snapshot *s, const struct sx_seen_wait *w)
{
    const struct sx_seen_participant *p = sx_seen_participant(s, w->participant);
    PyObject *where = sx_text(w->where);
    if (where == NULL)
        return NULL;
    return Py_BuildValue("KIIIIIIKKKKKKKNO", (U)p->id, w->level, w->granted ? 0u : w->state, w->kind, w->mode, w->units,
                         w->part, (U)place_of(s, w->object), (U)w->cell, (U)w->address, (U)w->holder, (U)w->since_ns,
                         (U)w->deadline_ns, (U)w->ticket, where, p->stable ? Py_True : Py_False);
}

/* Those of a cell are as stable as the cell, those of a thread's own records as the thread. */
static PyObject *row_of_hold(const struct sx_snapshot *s, const struct sx_seen_hold *h)
{
    const struct sx_seen_participant *p = sx_seen_thread(s, h->thread);
    bool own = h->key != 0 || h->kind == SX_KIND_FILE || h->object == SX_NOBODY;
    bool stable = own ? p != NULL && p->stable : sx_seen_object(s, h->object)->stable;
    const struct sx_trace *t = sx_seen_trace(s, h);
    char line[sizeof t->where + 1] = {0};
    if (t != NULL)
        memcpy(line, (const void *)t->where, sizeof t->where);
    PyObject *where = sx_text(line);
    if (where == NULL)
        return NULL;
    uint64_t since = h->since_ns == 0 && t != NULL ? t->since_ns : h->since_ns;
    return Py_BuildValue("KIIIIIKKOIIKKKKNO", (U)place_of(s, h->object), h->kind, h->part, h->mode, h->count, h->flags,
                         (U)h->thread, (U)h->process, h->alive ? Py_True : Py_False, h->key, h->device, (U)h->inode,
                         (U)h->first, (U)h->last, (U)since, where, stable ? Py_True : Py_False);
}

static PyObject *name_of(const struct sx_snapshot *s, const struct sx_seen_object *o)
{
    if (o->name_length == 0)
        Py_RETURN_NONE;
    return PyUnicode_DecodeUTF8((const char *)s->text.items + o->name_at, o->name_length, "replace");
}

static PyObject *row_of_object(const struct sx_snapshot *s, const struct sx_seen_object *o)
{
    uint64_t cells = s->header.regions[SX_CELLS].offset;
    PyObject *name = name_of(s, o);
    if (name == NULL)
        return NULL;
    uint64_t total = 0, longest = 0, holds = 0, key = (o->offset - cells) / SX_LINE + 1;
    key |= (uint64_t)(o->generation & INT32_MAX) << 32;
    bool timed = s->times != NULL && sx_times_find(s->times, key, &total, &longest, &holds);
    return Py_BuildValue(
        "KIINILOOOIKKKKIIKLKKLLO", (U)o->offset, o->generation, o->kind, name, o->parameter, (long long)o->value,
        o->broken ? Py_True : Py_False, o->owner_died ? Py_True : Py_False, o->retired ? Py_True : Py_False,
        o->references, (U)o->created_ns, (U)o->counts.contended, (U)o->counts.recoveries, (U)o->counts.rescues,
        o->dead_pid, o->dead_tid, (U)(o->lock == 0 ? 0 : cells + (uint64_t)(o->lock - 1) * SX_LINE),
        o->counts.counted ? (long long)o->counts.acquired : -1LL, (U)o->counts.waited_ns, (U)o->counts.longest_ns,
        timed ? (long long)total : -1LL, timed ? (long long)longest : -1LL, o->stable ? Py_True : Py_False);
}

enum rows { PROCESSES, PARTICIPANTS, WAITS, HOLDS, OBJECTS, PROBLEMS, LISTS };

static PyObject *row(const struct sx_snapshot *s, enum rows which, uint32_t i)
{
    switch (which) {
    case PROCESSES:
        return row_of_process(sx_seen_process(s, i));
    case PARTICIPANTS:
        return row_of_participant(sx_seen_participant(s, i));
    case WAITS:
        return row_of_wait(s, sx_seen_wait(s, i));
    case HOLDS:
        if (sx_seen_hold(s, i)->flags & SX_HOLD_DROPPED)
            Py_RETURN_NONE;
        return row_of_hold(s, sx_seen_hold(s, i));
    case OBJECTS:
        return row_of_object(s, sx_seen_object(s, i));
    default:
        return Py_BuildValue("IKK", sx_seen_problem(s, i)->problem, (U)sx_seen_problem(s, i)->where,
                             (U)sx_seen_problem(s, i)->what);
    }
}

static PyObject *rows(const struct sx_snapshot *s, enum rows which)
{
    const struct sx_list *lists[LISTS] = {&s->processes, &s->participants, &s->waits,
                                          &s->holds,     &s->objects,      &s->problems};
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list != NULL && i < lists[which]->count; i++) {
        PyObject *item = row(s, which, i);
        if (item == NULL || (item != Py_None && PyList_Append(list, item) < 0))
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *result(const struct sx_snapshot *s)
{
    const struct sx_header *h = &s->header;
    PyObject *all = Py_BuildValue(
        "{sy#sIsKsKsKsOsOsOsOsOsIsIsKsKsKsKsK}", "id", (const char *)h->id, (Py_ssize_t)sizeof h->id, "abi", h->abi,
        "taken_ns", (U)s->taken_ns, "realtime_ns", (U)s->realtime_ns, "created_ns", (U)h->created_ns, "this_boot",
        s->this_boot ? Py_True : Py_False, "witnessed", s->witnessed ? Py_True : Py_False, "retired",
        h->retired ? Py_True : Py_False, "damaged", h->damaged ? Py_True : Py_False, "orphans",
        h->orphans ? Py_True : Py_False, "passed_over", s->passed_over, "names", s->names, "rescues", (U)h->rescues,
        "recoveries", (U)h->recoveries, "deaths", (U)h->deaths, "cell_bytes", (U)h->cells.cursor * SX_LINE,
        "name_bytes", (U)h->names.cursor * SX_NAME_UNIT);
    static const char *const names[LISTS] = {"processes", "participants", "waits", "holds", "objects", "problems"};
    for (int i = 0; all != NULL && i < LISTS; i++) {
        PyObject *list = rows(s, (enum rows)i);
        if (list == NULL || PyDict_SetItemString(all, names[i], list) < 0)
            Py_CLEAR(all);
        Py_XDECREF(list);
    }
    return all;
}

/* _snapshot(arena or path): of an arena that this process is attached to, from memory; of a file, by reading it. */
PyObject *sx_py_snapshot(PyObject *module, PyObject *what)
{
    struct module_state *state = PyModule_GetState(module);
    struct sx_snapshot s;
    struct sx_source source;
    struct sx_arena *core = NULL;
    PyObject *path = NULL;
    enum sx_status status;
    if (PyObject_TypeCheck(what, state->arena_type)) {
        core = ((ArenaObject *)what)->core;
        if (core == NULL)
            return sx_raise(state, SX_CLOSED, what, 0);
        sx_arena_keep(core); /* it may be closed meanwhile */
    } else if (!PyUnicode_FSConverter(what, &path)) {
        return NULL;
    }
    memset(&s, 0, sizeof s);
    PyThreadState *save = PyEval_SaveThread();
    status = core != NULL ? sx_source_attached(core, &source) : sx_source_open(PyBytes_AS_STRING(path), &source);
    if (status == SX_OK) {
        status = sx_snapshot_take(&source, &s);
        int saved = errno;
        sx_source_close(&source);
        errno = saved;
    }
    int saved = errno;
    PyEval_RestoreThread(save);
    if (core != NULL)
        sx_arena_release(core);
    Py_XDECREF(path);
    errno = saved;
    PyObject *r = status == SX_OK ? result(&s) : sx_raise(state, status, what, 0);
    sx_snapshot_free(&s);
    return r;
}
