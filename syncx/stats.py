"""`syncx stats`: what happened to each object since it was made, and what happens now: a table, JSON, or the text
format of Prometheus."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import SyncxError
from .snapshots import ObjectState, Snapshot, snapshot
from .terminal import duration, paint

if TYPE_CHECKING:
    from .waitgraph import WaitGraph

__all__ = ["Row", "exposition", "main", "rows_of", "title", "write_atomically"]

HEADINGS = ("NAME", "KIND", "TAKEN", "SLEPT", "WAITED", "LONGEST", "WAITERS", "HELD", "MOST", "DIED", "RESCUES")
_OF_HOLDS = slice(7, 9)
"""The columns that are there only if holds were traced."""


class Row(NamedTuple):
    """An object, what happened to it, and what happens now."""

    object: ObjectState
    waiters: int
    """How many threads wait for it now."""
    waiting: float
    """For how long the first of them has, in seconds; 0.0: nobody waits, or the machine was started anew since."""
    holders: int
    """How many threads, or processes of which no thread is known, hold it now; dead ones are none."""
    held: float | None
    """For how long the first of them has had it, in seconds, where that is recorded (SYNCX_TRACE); None: not known."""


def title(o: ObjectState) -> str:
    """Its name, or for an anonymous one its kind and place."""
    return o.name if o.name is not None else f"{o.kind}@{o.id:#x}"


def rows_of(seen: Snapshot) -> list[Row]:
    """Every object of a snapshot, in the order of their places."""
    waiters: dict[int | None, int] = {}
    waiting: dict[int | None, float] = {}
    for wait in seen.waits:
        if wait.state != "granted":
            waiters[wait.object] = waiters.get(wait.object, 0) + 1
            if wait.waited is not None and wait.waited > waiting.get(wait.object, 0.0):
                waiting[wait.object] = wait.waited
    holders: dict[int | None, set[int | None]] = {}
    held: dict[int | None, float] = {}
    for hold in seen.holds:
        if hold.alive:
            holders.setdefault(hold.object, set()).add(hold.thread or hold.process)
            if hold.held is not None and hold.held > held.get(hold.object, -1.0):
                held[hold.object] = hold.held
    return [
        Row(
            o, waiters.get(o.id, 0), waiting.get(o.id, 0.0), len(holders[o.id]) if o.id in holders else 0,
            held.get(o.id),
        )
        for o in seen.objects
    ]  # fmt: skip


# ---- the command -----------------------------------------------------------------------------------------------------


def main(
    arena: str, *, everything: bool = False, as_json: bool = False, prometheus: bool = False, output: str | None = None
) -> int:
    """Prints the statistics of an arena; returns the exit status.

    everything: of anonymous objects too.
    output: a file to write to, which is replaced in one step, or "-".

    Raises what `syncx.snapshot` raises, and OSError if the file cannot be written.  With `prometheus`, where the arena
    cannot be read, that is what is written before the exception is raised: a file of yesterday would tell that all is
    well.
    """
    if not (prometheus or as_json):
        seen = snapshot(arena)
        _table(_chosen(seen, everything))
    else:
        from .waitgraph import wait_graph  # the table is without deadlocks, and sooner there

        try:
            graph = wait_graph(arena)
        except (SyncxError, OSError):
            if prometheus:
                _put(_text(_up(_place(arena), 0)), output)
            raise
        seen = graph.snapshot
        rows = _chosen(seen, everything)
        _put(exposition(graph, rows) if prometheus else _json(graph, rows), output)
    for problem in seen.problems:
        print(f"syncx: {seen.path}: {problem}", file=sys.stderr)
    return 0


def _chosen(seen: Snapshot, everything: bool) -> list[Row]:
    return [row for row in rows_of(seen) if everything or row.object.name is not None]


def _json(graph: WaitGraph, rows: Sequence[Row]) -> str:
    import json

    return json.dumps(_as_dict(graph, rows), indent=2) + "\n"


def _place(arena: str) -> str:
    from .arena import path_of

    return path_of(arena)[0]


def _put(text: str, output: str | None) -> None:
    if output is None or output == "-":
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    else:
        write_atomically(output, text.encode("utf-8", "replace"))


def write_atomically(path: str, data: bytes) -> None:
    """Replaces a file: who reads it sees what it was, or all of what it is now, also if this process is killed.

    A file that is no regular one, such as /dev/null or a FIFO, is written to and stays.  Raises OSError with the file's
    name; nothing is left beside it then.
    """
    given, path = path, os.path.realpath(path)  # of a symbolic link, what it leads to
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except FileNotFoundError:
        kind = stat.S_IFREG
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        with open(path, "wb") as f:
            f.write(data)
        return
    directory, name = os.path.split(path)
    # a collector that takes *.prom must not take this one
    new = os.path.join(directory, f".{name}.{os.urandom(6).hex()}.tmp")
    try:
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            os.replace(new, path)
        except BaseException:
            _remove(new)
            raise
    except OSError as e:
        raise OSError(e.errno, os.strerror(e.errno or 0), given) from None


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:  # it was never made, or has its name by now
        return


def _some(number: int) -> str:
    return str(number) if number else "-"


def _time(seconds: float | None) -> str:
    return duration(seconds) if seconds else "-"


def _table(rows: Sequence[Row]) -> None:
    """Those that cost most time first."""
    rows = sorted(rows, key=lambda r: (-r.waiting, -r.object.waited, -r.object.contended, title(r.object)))
    headings, cells, styles = list(HEADINGS), [], []
    for row in rows:
        o = row.object
        taken = "-" if o.acquisitions is None else str(o.acquisitions)
        cells.append(
            [
                title(o), o.kind, taken, _some(o.contended), _time(o.waited), _time(o.longest_wait), _some(row.waiters),
                _time(o.hold_total), _time(o.hold_longest), _some(o.recoveries), _some(o.rescues),
            ]
        )  # fmt: skip
        styles.append("red" if o.owner_died else "yellow" if row.waiters else "")
    if all(row.object.hold_total is None for row in rows):
        for line in (headings, *cells):
            del line[_OF_HOLDS]
    if rows:
        paint(sys.stdout, headings, cells, styles, right=range(2, len(headings)))


def _as_dict(graph: WaitGraph, rows: Sequence[Row]) -> dict[str, Any]:
    seen = graph.snapshot
    return {
        "path": seen.path,
        "taken": seen.taken,
        "processes": sum(p.alive for p in seen.processes),
        "threads": sum(p.alive for p in seen.participants),
        "waiters": len(graph.blocked),
        "deadlocks": len(graph.deadlocks),
        "suspected": sum(k.verdict == "suspected" for k in graph.knots),
        "deaths": seen.counters.deaths,
        "recoveries": seen.counters.recoveries,
        "rescues": seen.counters.rescues,
        "objects": [
            {
                "name": row.object.name,
                "kind": row.object.kind,
                "id": row.object.id,
                "generation": row.object.generation,
                "created": row.object.created,
                "acquisitions": row.object.acquisitions,
                "contended": row.object.contended,
                "waited": row.object.waited,
                "longest_wait": row.object.longest_wait,
                "hold_total": row.object.hold_total,
                "hold_longest": row.object.hold_longest,
                "recoveries": row.object.recoveries,
                "rescues": row.object.rescues,
                "owner_died": row.object.owner_died,
                "waiters": row.waiters,
                "waiting": row.waiting,
                "holders": row.holders,
                "held": row.held,
            }
            for row in rows
        ],
        "problems": list(seen.problems),
    }


# ---- the text format of Prometheus -----------------------------------------------------------------------------------


class _Metric(NamedTuple):
    """A metric with its samples, each the labels as they are written, and the value."""

    name: str
    type: str
    help: str
    samples: Sequence[tuple[str, float]]


def _labels(**labels: str) -> str:
    """What cannot be shown (of a path in another encoding, of a damaged name) becomes a question mark."""
    escaped = {}
    for name, value in labels.items():
        if not value.isprintable():
            value = "".join(c if c.isprintable() or c == "\n" else "?" for c in value)
        escaped[name] = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return ",".join(f'{name}="{text}"' for name, text in escaped.items())


def _text(metrics: Iterable[_Metric]) -> str:
    lines = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.type}"]
        lines += [f"{metric.name}{{{labels}}} {value!r}" for labels, value in metric.samples]
    return "\n".join(lines) + "\n"


def _up(path: str, value: int) -> list[_Metric]:
    return [_Metric("syncx_arena_up", "gauge", "Whether the arena could be read.", [(_labels(arena=path), value)])]


def exposition(graph: WaitGraph, rows: Sequence[Row]) -> str:
    """The numbers of an arena, and of each of these objects, in the text format that Prometheus reads (0.0.4)."""
    seen = graph.snapshot
    arena = _labels(arena=seen.path)

    def of_arena(name: str, type: str, help: str, value: float) -> _Metric:
        return _Metric(f"syncx_arena_{name}", type, help, [(arena, value)])

    counters = seen.counters
    metrics = [
        *_up(seen.path, 1),
        of_arena("damaged", "gauge", "Whether the arena is damaged.", int(bool(seen.problems) or seen.damaged)),
        of_arena("processes", "gauge", "Live processes that use the arena.", sum(p.alive for p in seen.processes)),
        of_arena("threads", "gauge", "Live threads that use the arena.", sum(p.alive for p in seen.participants)),
        of_arena("objects", "gauge", "Objects in the arena.", len(seen.objects)),
        of_arena("waiters", "gauge", "Threads that wait now.", len(graph.blocked)),
        of_arena(
            "oldest_wait_seconds", "gauge", "For how long the first of the threads that wait now has waited.",
            max((b.wait.waited or 0.0 for b in graph.blocked), default=0.0),
        ),
        of_arena("deadlocks", "gauge", "Deadlocks that stand now.", len(graph.deadlocks)),
        of_arena(
            "suspected_deadlocks", "gauge", "Waits in a circle that only somebody unknown could end.",
            sum(k.verdict == "suspected" for k in graph.knots),
        ),
        of_arena("deaths_total", "counter", "Threads that died while they used the arena.", counters.deaths),
        of_arena("recoveries_total", "counter", "Holds taken over from the dead.", counters.recoveries),
        of_arena("rescues_total", "counter", "Wake-ups that died with a thread and were made good.", counters.rescues),
    ]  # fmt: skip
    labelled: dict[str, Row] = {}  # one of a kind and name: a damaged arena may have two
    for row in rows:
        labelled.setdefault(f"{arena},{_labels(name=title(row.object), kind=row.object.kind)}", row)

    def of_objects(name: str, type: str, help: str, value: Any) -> _Metric:
        samples = [(labels, v) for labels, row in labelled.items() if (v := value(row)) is not None]
        return _Metric(f"syncx_object_{name}", type, help, samples)

    metrics += [
        of_objects("acquisitions_total", "counter", "How often it was taken.", lambda r: r.object.acquisitions),
        of_objects("contentions_total", "counter", "Waits for it that slept.", lambda r: r.object.contended),
        of_objects("wait_seconds_total", "counter", "How long those that are over slept.", lambda r: r.object.waited),
        of_objects("longest_wait_seconds", "gauge", "The longest of those.", lambda r: r.object.longest_wait),
        of_objects("hold_seconds_total", "counter", "How long traced holds took.", lambda r: r.object.hold_total),
        of_objects("longest_hold_seconds", "gauge", "The longest of those.", lambda r: r.object.hold_longest),
        of_objects("recoveries_total", "counter", "Holds taken over from the dead.", lambda r: r.object.recoveries),
        of_objects("rescues_total", "counter", "Wake-ups that were made good.", lambda r: r.object.rescues),
        of_objects(
            "owner_died", "gauge", "Whether an owner died, its data not repaired.", lambda r: int(r.object.owner_died)
        ),
        of_objects("waiters", "gauge", "Threads that wait for it now.", lambda r: r.waiters),
        of_objects("oldest_wait_seconds", "gauge", "For how long the first of them has waited.", lambda r: r.waiting),
        of_objects("holders", "gauge", "Threads that hold it now.", lambda r: r.holders),
        of_objects(
            "held_seconds", "gauge", "For how long the first of them has, where that is traced.", lambda r: r.held
        ),
    ]
    return _text(metrics)
