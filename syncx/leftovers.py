"""What was left behind in the kinds of IPC that outlive processes, as `syncx doctor` tells it.

Told is only what can be told for sure: an object that a living process has open, or may have, is none.  Foreign ones
are never touched: of each there is the command that a person would run.  Our own are in health.py and hidden.py.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .findings import Finding, Tree, size
from .terminal import duration, printable

__all__ = ["File", "Users", "leftovers"]

SHM, MQUEUE = "/dev/shm", "/dev/mqueue"


class File(NamedTuple):
    """A file that might be a leftover."""

    path: str
    name: str
    device: int
    inode: int
    size: int
    owner: int
    changed: float

    @property
    def key(self) -> tuple[int, int]:
        """What tells it from any other."""
        return self.device, self.inode


def files_in(tree: Tree, directory: str) -> list[File]:
    """The regular files of a directory."""
    found = []
    try:
        entries = list(os.scandir(tree.at(directory)))
    except OSError:
        return []
    for entry in entries:
        try:
            st = entry.stat(follow_symlinks=False)
        except OSError:  # gone since
            continue
        if stat.S_ISREG(st.st_mode):
            path = f"{directory}/{entry.name}"
            found.append(File(path, entry.name, st.st_dev, st.st_ino, st.st_size, st.st_uid, st.st_mtime))
    return sorted(found)


class Users:
    """Which of some files living processes map or have open, by /proc/PID/maps and /proc/PID/fd."""

    def __init__(self, tree: Tree, files: Iterable[File]) -> None:
        self.pids: dict[tuple[int, int], set[int]] = {}
        self.unseen = 0
        """How many processes could not be looked into."""
        wanted = {f.key: f for f in files}
        if not wanted:
            return
        names = {f.name for f in wanted.values()}
        inodes = {str(f.inode) for f in wanted.values()}
        for entry in tree.names("/proc"):
            if entry.isdigit():
                try:
                    found = set(_mapped(tree, entry, inodes)) | set(_opened(tree, entry, names))
                except PermissionError:
                    self.unseen += not _ended(tree, entry)
                    continue
                except OSError:  # it has ended
                    continue
                for key in found & wanted.keys():
                    self.pids.setdefault(key, set()).add(int(entry))

    def of(self, file: File) -> set[int]:
        """The processes that use the file."""
        return self.pids.get(file.key, set())


def _ended(tree: Tree, pid: str) -> bool:
    """A process that nobody has reaped yet has nothing open any more."""
    return (tree.read(f"/proc/{pid}/stat") or ") Z").rpartition(")")[2].split()[:1] == ["Z"]


def _mapped(tree: Tree, pid: str, inodes: set[str]) -> Iterator[tuple[int, int]]:
    with open(tree.at(f"/proc/{pid}/maps"), "rb") as f:
        for line in f:
            fields = line.split(None, 5)
            if len(fields) >= 5 and fields[4].decode() in inodes:
                major, _, minor = fields[3].decode().partition(":")
                yield os.makedev(int(major, 16), int(minor, 16)), int(fields[4])


def _opened(tree: Tree, pid: str, names: set[str]) -> Iterator[tuple[int, int]]:
    directory = tree.at(f"/proc/{pid}/fd")
    for entry in os.listdir(directory):
        try:
            # only what bears the name of one of them: looking at anything else may take long (a dead file server)
            if os.path.basename(os.readlink(f"{directory}/{entry}")) in names:
                st = os.stat(f"{directory}/{entry}")
                yield st.st_dev, st.st_ino
        except FileNotFoundError:  # closed since
            continue


def leftovers(
    tree: Tree,
    *,
    user: int | None = None,
    now: float | None = None,
    last_users: Callable[[int, int], set[int] | None] | None = None,
) -> Iterator[Finding]:
    """Those of a user (None: of this process; root looks at all) in every kind of IPC but our own."""
    user = os.geteuid() if user is None else user
    now = time.time() if now is None else now
    yield from _shared_memory(tree, user, now)
    yield from _queues(tree, user, now)
    yield from _system_v(tree, user, now, last_users or semaphore_users)


def _concerns(user: int, owner: int) -> bool:
    return user in (0, owner)


def _unused(tree: Tree, files: list[File]) -> tuple[list[File], int]:
    """Those that nobody has open, in two looks, and how many processes could not be looked into."""
    unseen = 0
    for _ in range(2):
        users = Users(tree, files)
        unseen = max(unseen, users.unseen)
        files = [f for f in files if not users.of(f)]
    return [f for f in files if os.path.lexists(tree.at(f.path))], unseen


def _level(tree: Tree, unseen: int) -> tuple[str, str]:
    """How sure we are, and why not quite."""
    outside = tree.inode("/proc/self/ns/pid") not in (None, 4026531836)
    if unseen:
        return "note", f" that may be seen here ({unseen:,} could not be looked into)"
    return ("note", " in this PID namespace") if outside else ("warning", "")


def _age(now: float, then: float) -> str:
    return duration(max(0.0, now - then))


def _owned(user: int, owner: int) -> str:
    """Of whom, where root looks at those of everybody."""
    return "" if owner == user else f" of user {owner}"


def _shared_memory(tree: Tree, user: int, now: float) -> Iterator[Finding]:
    candidates = [f for f in files_in(tree, SHM) if _concerns(user, f.owner) and not re.match(r"syncx-\d+-", f.name)]
    unused, unseen = _unused(tree, candidates)
    level, doubt = _level(tree, unseen)
    for f in unused:
        semaphore = f.name.startswith("sem.")
        what = f"semaphore /{f.name[4:]}" if semaphore else f"shared memory /{f.name}, {size(f.size)}"
        yield Finding(
            level,
            "POSIX",
            f"{printable(what)}{_owned(user, f.owner)}: no process{doubt} has it open, and nobody has"
            f" written for {_age(now, f.changed)}",
            "to remove it",
            f"rm {shlex.quote(f.path)}",
        )
    if not unused:
        count = f"{len(candidates)} in use" if candidates else "none"
        yield Finding("ok", "POSIX", f"shared memory and semaphores: {count}, nothing left behind")


def _queues(tree: Tree, user: int, now: float) -> Iterator[Finding]:
    if not any(line.split()[1:3] == [MQUEUE, "mqueue"] for line in (tree.read("/proc/self/mounts") or "").splitlines()):
        yield Finding(
            "ok",
            "POSIX",
            f"message queues: {MQUEUE} is not mounted, so they cannot be looked at",
            "as root: mkdir -p /dev/mqueue; mount -t mqueue none /dev/mqueue",
        )
        return
    candidates = [f for f in files_in(tree, MQUEUE) if _concerns(user, f.owner)]
    unused, unseen = _unused(tree, candidates)
    level, doubt = _level(tree, unseen)
    for f in unused:
        found = re.match(r"QSIZE:(\d+)", tree.read(f.path) or "")
        inside = f", with {size(int(found[1]))} unread" if found and int(found[1]) else ""
        yield Finding(
            level,
            "POSIX",
            f"message queue /{printable(f.name)}{_owned(user, f.owner)}{inside}: no process{doubt} has it"
            f" open, and nobody has used it for {_age(now, f.changed)}",
            "to remove it",
            f"rm {shlex.quote(f.path)}",
        )
    if not unused:
        yield Finding("ok", "POSIX", f"message queues: {len(candidates) or 'none'}, nothing left behind")


# ---- System V --------------------------------------------------------------------------------------------------------


def table(text: str | None) -> list[dict[str, int]]:
    """The rows of a file of /proc/sysvipc; a line that is none is passed over."""
    lines = (text or "").splitlines()
    if not lines:
        return []
    headings = lines[0].split()
    rows = []
    for line in lines[1:]:
        try:
            rows.append(
                {h: int(word, 8 if h == "perms" else 10) for h, word in zip(headings, line.split(), strict=True)}
            )
        except ValueError:
            continue
    return rows


def semaphore_users(identifier: int, number: int) -> set[int] | None:
    """The processes that changed each semaphore of a System V set last; None where that may not be seen, or is gone."""
    try:
        import ctypes
    except ImportError:
        return None
    semctl, get_pid = ctypes.CDLL(None).semctl, 11
    found = {int(semctl(identifier, i, get_pid, 0)) for i in range(min(number, 1000))}
    return None if -1 in found else found - {0}


def _gone(tree: Tree, pids: Iterable[int]) -> bool:
    """There were such processes, all known by number, and none of them lives."""
    pids = [p for p in pids if p]
    return bool(pids) and not any(tree.lives(p) for p in pids)


def _processes(pids: Iterable[int]) -> str:
    listed = sorted({p for p in pids if p})
    return ("process " if len(listed) == 1 else "processes ") + ", ".join(map(str, listed[:4]))


def _system_v(
    tree: Tree, user: int, now: float, last_users: Callable[[int, int], set[int] | None]
) -> Iterator[Finding]:
    def mine(kind: str) -> list[dict[str, int]]:
        return [row for row in table(tree.read(f"/proc/sysvipc/{kind}")) if _concerns(user, row.get("uid", -1))]

    found = 0
    for row in mine("shm"):
        pids = [row["cpid"], row["lpid"]]
        if row["nattch"] == 0 and row["cpid"] and _gone(tree, pids):
            found += 1
            yield Finding(
                "warning",
                "System V",
                f"shared memory {row['shmid']}, key {_key(row)}, {size(row['size'])}{_owned(user, row['uid'])}:"
                f" nobody is attached, and who made and used it, {_processes(pids)}, is gone",
                "to remove it",
                f"ipcrm -m {row['shmid']}",
            )
    for row in mine("sem"):
        users = last_users(row["semid"], row["nsems"])
        if users and _gone(tree, users):
            found += 1
            yield Finding(
                "note",
                "System V",
                f"semaphores {row['semid']}, key {_key(row)}, a set of {row['nsems']}{_owned(user, row['uid'])}:"
                f" who used them last, {_processes(users)}, is gone; whether others know them cannot be told",
                "to remove it",
                f"ipcrm -s {row['semid']}",
            )
    for row in mine("msg"):
        pids = [row["lspid"], row["lrpid"]]
        if _gone(tree, pids):
            found += 1
            inside = f", {row['qnum']} messages unread" if row["qnum"] else ""
            yield Finding(
                "note",
                "System V",
                f"message queue {row['msqid']}, key {_key(row)}{_owned(user, row['uid'])}{inside}: who used it last,"
                f" {_processes(pids)}, is gone; whether others know it cannot be told",
                "to remove it",
                f"ipcrm -q {row['msqid']}",
            )
    if not found:
        yield Finding("ok", "System V", "shared memory, semaphores and message queues: nothing left behind")


def _key(row: dict[str, int]) -> str:
    return f"{row.get('key', 0) & 0xFFFFFFFF:#010x}"
