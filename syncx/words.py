"""What threads hold and await, in words: for the commands that speak in sentences."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .terminal import printable

if TYPE_CHECKING:
    from .snapshots import FileRange, Hold, Snapshot, Wait

__all__ = ["awaited", "extent", "file_name", "listing", "object_name", "shortened"]

TO_THE_END = (1 << 63) - 1


def file_name(pid: int | None, file: FileRange) -> str:
    """The path of a file that the process has open, or its device and inode where that cannot be told."""
    found = descriptor_of(pid, file)
    try:
        return printable(os.readlink(f"/proc/{pid}/fd/{found}"))
    except OSError:  # none, or closed since
        return f"file {os.major(file.device)}:{os.minor(file.device)}:{file.inode}"


def descriptor_of(pid: int | None, file: FileRange) -> int | None:
    """A descriptor by which the process has that file open, or None."""
    try:
        entries = sorted(os.listdir(f"/proc/{pid}/fd"), key=int)
    except OSError:
        return None
    for entry in entries:
        try:
            st = os.stat(f"/proc/{pid}/fd/{entry}")
        except OSError:  # closed since
            continue
        if (st.st_dev, st.st_ino) == (file.device, file.inode):
            return int(entry)
    return None


def extent(first: int, last: int) -> str:
    """A range of a file: "bytes 0 to 99"; "" for the whole of it."""
    if (first, last) == (0, TO_THE_END):
        return ""
    if last == TO_THE_END:
        return f"everything from byte {first} on"
    return f"byte {first}" if first == last else f"bytes {first} to {last}"


def object_name(seen: Snapshot, what: Hold | Wait, pid: int | None = None) -> str:
    """What is held or awaited: "Mutex 'jobs'", "bytes 0 to 99 of /srv/data", "a nameless RWLock".

    pid: a process that has the file open, here.
    """
    if what.range is not None:
        part, path = extent(what.range.first, what.range.last), file_name(pid, what.range)
        return f"{part} of {path}" if part else path
    if what.kind == "process":
        return f"the end of process {getattr(what, 'pid', None)}"
    found = seen.at(what.object)
    if found is None:
        return "the lock of the arena itself" if what.kind == "arena" else f"a {what.kind} in memory of its own"
    name = f"a nameless {found.kind}" if found.name is None else f"{found.kind} {printable(found.name)!r}"
    if what.part in ("guard", "several"):
        return f"the inside of {name}"
    return name


_WANTED = {
    ("RWLock", "shared"): "to read {}",
    ("RWLock", "exclusive"): "to write {}",
    ("RWLock", "upgradable"): "to write {}, which it reads",
    ("file range", "shared"): "to share {}",
    ("file range", "upgradable"): "to have {} alone, which it shares",
    ("Condition", "exclusive"): "to be notified by {}",
    ("Event", "exclusive"): "for {} to be set",
    ("Latch", "exclusive"): "for {} to open",
    ("Barrier", "exclusive"): "for the others at {}",
    ("Once", "exclusive"): "for the result of {}",
}


def awaited(seen: Snapshot, wait: Wait, pid: int | None = None) -> str:
    """What a thread waits for, to be read behind "waits ": "for Mutex 'jobs'", "to read RWLock 'table'"."""
    name = object_name(seen, wait, pid)
    if wait.part in ("guard", "several", "lock"):
        return f"for the lock of {name}" if wait.part == "lock" else f"for {name}"
    if wait.kind == "RWLock" and wait.part == "writer":
        return f"for its turn to write {name}"
    if wait.kind == "BoundedSemaphore":
        return f"for {wait.units} permits of {name}" if wait.units > 1 else f"for a permit of {name}"
    if wait.kind == "Semaphore":
        return f"for {wait.units} units of {name}" if wait.units > 1 else f"for a unit of {name}"
    return _WANTED.get((wait.kind, wait.mode), "for {}").format(name)


def shortened(command: str, most: int = 48) -> str:
    """A command line as far as it fits into a sentence, without the directory of the program."""
    program, blank, rest = command.partition(" ")
    command = os.path.basename(program) + blank + rest
    return command if len(command) <= most else command[: most - 3] + "..."


def listing(items: list[str], most: int = 4) -> str:
    """ "a", "a and b", "a, b and 7 more"."""
    if len(items) > most:
        items = [*items[: most - 1], f"{len(items) - most + 1} more"]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
