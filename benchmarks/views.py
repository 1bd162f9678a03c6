"""What it costs to look: each view on a crowded arena, a fresh process each time, as a person starts it."""

from __future__ import annotations

import functools
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import syncx

from .children import Child, Connection
from .peers import Field
from .place import Place
from .samples import Section
from .settings import Settings

OBJECTS, PARTICIPANTS, PROCESSES = 10_000, 1_000, 4
QUICK = 10
"""In a quick run there are so many times fewer."""
EACH = OBJECTS // PARTICIPANTS
HELD = 5
"""Of the ten objects that are for each thread, how many it holds."""
VIEWS = ("ps", "ls", "top --once", "stats", "stats --prometheus")


def _crowd(arena_name: str, first: int, last: int, connection: Connection) -> None:
    """Threads that hold some objects each; every other one waits for one that the thread before it holds."""
    threading.stack_size(256 * 1024)
    arena = syncx.Arena(arena_name)
    hold, all_hold = threading.Barrier(last - first), threading.Barrier(last - first + 1)

    def work(number: int) -> None:
        own = [syncx.Mutex(f"object-{number * EACH + i:05}", arena=arena) for i in range(EACH)]
        for lock in own[:HELD]:
            lock.acquire()
        hold.wait()
        before = syncx.Mutex(f"object-{(number - 1) * EACH:05}", arena=arena) if number % 2 else None
        all_hold.wait()
        if before is not None:
            before.acquire()
        else:
            threading.Event().wait()

    for number in range(first, last):
        threading.Thread(target=work, args=(number,), daemon=True).start()
    all_hold.wait()
    connection.send("all hold")
    connection.recv()


def _until_crowded(arena_name: str, threads: int) -> None:
    end = time.monotonic() + 60
    while True:
        seen = syncx.snapshot(arena_name)
        # who waits looks around every 100 ms, and some of so many are always at it
        if len(seen.waits) >= threads // 2 * 0.9 and len(seen.objects) == threads * EACH:
            return
        if time.monotonic() > end:
            raise TimeoutError(f"only {len(seen.waits)} threads wait, of {threads // 2}")
        time.sleep(0.05)


def _once(view: str, arena_name: str) -> tuple[float, float]:
    """Seconds, and seconds of processor time."""
    command = [sys.executable, "-m", "syncx", *view.split(), "--arena", arena_name]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=60, cwd=Path(syncx.__file__).parents[1])
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(field: Field, place: Place, settings: Settings) -> list[Section]:
    threads = PARTICIPANTS // (QUICK if settings.quick else 1)
    title = f"{threads * EACH:,} objects, {threads:,} threads, half of them waiting"
    wall = Section("views", title, "ms", "ps")
    processor = Section("views-cpu", f"{title}: processor time", "ms", "ps")
    name = place.name()
    share = threads // PROCESSES
    children = [Child(functools.partial(_crowd, name, i * share, (i + 1) * share)) for i in range(PROCESSES)]
    try:
        for child in children:
            child.receive(60)
        _until_crowded(name, threads)
        for view in settings.interleaved("views", settings.number(11, 1), list(VIEWS)):
            took, used = _once(view, name)
            wall.add(view, took * 1e3, "syncx")
            processor.add(view, used * 1e3, "syncx")
    finally:
        for child in children:
            child.end()
        place.unlink_arenas(name)
    return [wall, processor]
