"""The kernel's side of file locks: /proc/locks joined with /proc/PID/fdinfo, for one file.

/proc/locks (proc_locks(5)) has every lock and every request that sleeps in the kernel, with the pid of whoever asked
for it.  That pid is -1 for an open-file-description lock, and of no use for a flock(2) lock whose taker has ended while
others go on with the same open file.  Who has such a lock is told by the `lock:` lines of /proc/PID/fdinfo/FD
(proc_pid_fdinfo(5)), which only the same user and root may read.  Which thread sleeps in a request is found in
/proc/PID/task/TID/syscall, where that can be read.

The kernel names a file by the device of its superblock and its own inode number, which are not what stat(2) gives on
btrfs and overlayfs.  So the file is opened with O_PATH, and its mount and inode number are read from our own fdinfo.
O_PATH needs no permission on the file itself, never blocks, and its close drops none of this process's POSIX locks.

Nothing here is locked or waited for: the lists are read while they change, so each line is true for its own moment.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["END", "FileIdentity", "KernelLock", "Survey", "identify", "survey"]

END = (1 << 63) - 1
"""The last byte of a range that goes on to the end of the file, however far it grows."""

PROC = "/proc"
READINGS = 6
ONE_PAGE = 3800
"""Bytes up to which there was surely room for another line on the page: the kernel's shortest is 4,096."""

_LINE = re.compile(
    rb"\d+:\s*(?P<waits>->)?\s*(?P<kind>\w+)\s+(?P<how>\w+)\s+(?P<mode>\w+)\s+(?P<pid>-?\d+)\s+"
    rb"(?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+):(?P<inode>\d+)\s+(?P<first>\d+)\s+(?P<last>\d+|EOF)"
)
_KINDS = {b"OFDLCK": "ofd", b"POSIX": "posix", b"FLOCK": "flock", b"LEASE": "lease", b"DELEG": "delegation"}
_F_OFD_SETLKW = 38
_CALLS = {  # fcntl and flock
    "x86_64": (72, 73),
    "aarch64": (25, 32),
    "riscv64": (25, 32),
    "loongarch64": (25, 32),
    "ppc64le": (55, 143),
    "s390x": (55, 143),
}
_FLOCK = struct.Struct("@hhqqi")
"""struct flock of 64-bit Linux."""

_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "9p", "virtiofs", "afs", "lustre", "gfs2", "ocfs2"}
"""File systems with locks of other machines, or of a host, which this kernel need not know of."""


class FileIdentity(NamedTuple):
    """One file, in the words of the kernel's lists and in those of stat(2)."""

    device: tuple[int, int]
    """Major and minor number of its superblock."""
    inode: int
    """The kernel's own inode number."""
    stat: os.stat_result
    filesystem: str
    """Its type as in mountinfo, "ext4"; "" if that cannot be told."""

    @property
    def remote(self) -> bool:
        """May locks be held on it of which this kernel does not know?"""
        return self.filesystem in _REMOTE or self.filesystem.partition(".")[0] in ("fuse", "fuseblk")


@dataclass(slots=True)
class KernelLock:
    """A line of /proc/locks, or of fdinfo, for our file."""

    kind: str
    """"ofd", "posix", "flock", "lease" or "delegation"."""
    state: str
    """"held", "waiting", or "breaking": a lease that its holder has been told to give up."""
    mode: str
    """"exclusive" or "shared"."""
    first: int
    last: int
    """The last byte, included; END: to the end."""
    pid: int
    """As the kernel has it: -1 for ofd."""
    parties: list[tuple[int, int]] = field(default_factory=list)
    """Pid and tid (0: not known) of who has it or waits; several share the open file since a fork."""

    @property
    def key(self) -> tuple[str, str, int, int, int]:
        """What is the same in /proc/locks and in fdinfo."""
        return self.kind, self.mode, self.first, self.last, self.pid


class Survey(NamedTuple):
    """What the kernel told about one file."""

    locks: list[KernelLock]
    unseen: int
    """How many processes could not be looked into; 0 if there was no need to."""


class _Request(NamedTuple):
    """A thread that sleeps in fcntl(2) or flock(2) on our file."""

    pid: int
    tid: int
    kind: str
    mode: str
    first: int | None
    """None: the range is not known, since it is relative to a position."""
    last: int


# ---- which file ----------------------------------------------------------------------------------------------------


def identify(file: Any, proc: str = PROC) -> FileIdentity:
    """The file of a path, an open file or a descriptor.

    Raises FileNotFoundError, NotADirectoryError or PermissionError (a directory on the way that may not be searched)
    as open(2) does, ValueError for a closed file or a NUL in the path, TypeError for anything else.
    """
    if isinstance(file, bool) or not (isinstance(file, (int, str, bytes, os.PathLike)) or hasattr(file, "fileno")):
        raise TypeError(f"file must be a path, an open file or a descriptor, not {type(file).__name__}")
    if isinstance(file, (str, bytes, os.PathLike)):
        fd = os.open(file, os.O_PATH | os.O_CLOEXEC)
        try:
            return _identity(fd, proc)
        finally:
            os.close(fd)
    return _identity(file if isinstance(file, int) else file.fileno(), proc)


def _identity(fd: int, proc: str) -> FileIdentity:
    status = os.fstat(fd)
    fields = dict(re.findall(rb"^(\w+):\s*(\S+)", _read(f"{proc}/self/fdinfo/{fd}") or b"", re.M))
    device, filesystem = _mount(int(fields.get(b"mnt_id", -1)), proc)
    if device is None or b"ino" not in fields:  # before Linux 5.14 there was no inode number
        device = os.major(status.st_dev), os.minor(status.st_dev)
    return FileIdentity(device, int(fields.get(b"ino", status.st_ino)), status, filesystem)


def _mount(number: int, proc: str) -> tuple[tuple[int, int] | None, str]:
    """Device and type of the file system that is mounted there."""
    for line in (_read(f"{proc}/self/mountinfo") or b"").splitlines():
        before, _, after = line.partition(b" - ")
        ident, _, device, *_ = before.split()
        if int(ident) == number:
            major, _, minor = device.partition(b":")
            return (int(major), int(minor)), os.fsdecode(after.split()[0])
    return None, ""


def _read(path: str) -> bytes | None:
    """The whole of a small file; None if it is gone or not for us."""
    try:
        with open(path, "rb", buffering=0) as f:
            return f.read()
    except OSError:
        return None


# ---- the lists -----------------------------------------------------------------------------------------------------


def survey(file: FileIdentity, proc: str = PROC) -> Survey:
    """All locks and sleeping requests on a file of which this kernel knows, with who has them as far as can be seen."""
    for _ in range(READINGS):
        found = _survey(file, proc)
        if found.unseen or all(lock.parties or lock.state == "waiting" for lock in found.locks):
            break  # else it was given back while we looked for its holder; or the open file is on its way in a message
    return found


def _survey(file: FileIdentity, proc: str) -> Survey:
    locks, whole = _list(file, proc)
    if whole and not any(lock.kind in ("ofd", "flock") or lock.state == "waiting" for lock in locks):
        for lock in locks:
            lock.parties = [(lock.pid, 0)] if lock.pid > 0 else []
        return Survey(locks, 0)
    told, users, unseen = _descriptors(file, proc)
    counts: dict[Any, int] = {}
    kept = []
    for lock in locks:
        if lock.state != "waiting":
            counts[lock.key] = counts.get(lock.key, 0) + 1
            if not unseen and lock.key in told and counts[lock.key] > len(told[lock.key]):
                continue  # a list that changes may have a line twice
        kept.append(lock)
    for key, pids in told.items():
        if key not in counts:  # the list is hidden, as in some sandboxes, or just changed: the descriptors must do
            kept += [KernelLock(key[0], "held", *key[1:]) for _ in set(pids)]
    locks = kept
    _name_holders([lock for lock in locks if lock.state != "waiting"], told, users, proc)
    _name_waiters([lock for lock in locks if lock.state == "waiting"], users, proc)
    return Survey(locks, unseen)


def _list(file: FileIdentity, proc: str) -> tuple[list[KernelLock], bool]:
    """The lines of /proc/locks for our file, and whether nothing can be missing.

    The kernel hands it out a page at a time, and counts lines to go on: if locks of any file come or go in between, a
    line may be missed or come twice.  So a list of several pages is read until it says the same twice.
    """
    found: list[KernelLock] = []
    for reading in range(READINGS):
        pages = []
        try:
            with open(f"{proc}/locks", "rb", buffering=0) as f:
                while page := f.read(1 << 20):
                    pages.append(page)
        except OSError:
            return [], False
        before, found = found, _without_impossible(_parse(b"".join(pages), file))
        if sum(map(len, pages)) < ONE_PAGE:
            return found, True
        if reading and found == before:
            break
    return found, False


def _without_impossible(locks: Iterable[KernelLock]) -> list[KernelLock]:
    """Without lines that came twice, where nobody can hold the same thing twice."""
    found: list[KernelLock] = []
    once: set[Any] = set()
    for lock in locks:
        if lock.state != "waiting" and (lock.mode == "exclusive" or lock.kind == "posix"):
            if lock.key in once:
                continue
            once.add(lock.key)
        found.append(lock)
    return found


def _parse(text: bytes, file: FileIdentity) -> Iterator[KernelLock]:
    inode = b":%d " % file.inode
    for line in text.splitlines():
        if inode not in line:
            continue
        found = _LINE.search(line)
        if found is None or found["kind"] not in _KINDS:
            continue
        if (int(found["major"], 16), int(found["minor"], 16), int(found["inode"])) != (*file.device, file.inode):
            continue
        yield KernelLock(
            kind=_KINDS[found["kind"]],
            state="waiting" if found["waits"] else "breaking" if found["how"] == b"BREAKING" else "held",
            mode="shared" if found["mode"] == b"READ" else "exclusive",
            first=int(found["first"]),
            last=END if found["last"] == b"EOF" else int(found["last"]),
            pid=int(found["pid"]),
        )


_Told = dict[tuple[str, str, int, int, int], list[int]]


def _descriptors(file: FileIdentity, proc: str) -> tuple[_Told, dict[int, set[int]], int]:
    """What the descriptors of all processes tell: who has which lock, who has the file open, how many are closed to us.

    A process appears once for each lock of that kind and range, however many descriptors share it.
    """
    told: _Told = {}
    users: dict[int, set[int]] = {}
    unseen = 0
    for entry in os.listdir(proc):
        if not entry.isdecimal():
            continue
        pid = int(entry)
        try:
            descriptors = os.listdir(f"{proc}/{pid}/fd")
        except PermissionError:
            unseen += bool(_read(f"{proc}/{pid}/cmdline"))  # a kernel thread has none, and no files
            continue
        except OSError:  # it has ended
            continue
        for descriptor in descriptors:
            text = _read(f"{proc}/{pid}/fdinfo/{descriptor}")
            if text is None or not _is_open_there(text, file, f"{proc}/{pid}/fd/{descriptor}"):
                continue
            users.setdefault(pid, set()).add(int(descriptor))
            for lock in _parse(text, file):
                told.setdefault(lock.key, []).append(pid)
    return told, users, unseen


def _is_open_there(fdinfo: bytes, file: FileIdentity, link: str) -> bool:
    if (
        b"\nino:" in fdinfo
    ):  # the inode number alone: the mount may be another namespace's, the locks are compared whole
        return b"\nino:\t%d\n" % file.inode in fdinfo
    try:
        status = os.stat(link)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (file.stat.st_dev, file.stat.st_ino)


# ---- who -----------------------------------------------------------------------------------------------------------


def _name_holders(locks: Sequence[KernelLock], told: _Told, users: dict[int, set[int]], proc: str) -> None:
    alike: dict[Any, list[KernelLock]] = {}
    for lock in locks:
        alike.setdefault(lock.key, []).append(lock)
    for key, same in alike.items():
        groups = _descriptions(told.get(key, []), len(same), proc)
        for lock, pids in zip(same, groups, strict=False):
            lock.parties = [(pid, 0) for pid in pids]
        for lock in same[len(groups) :]:
            # nobody showed it to us.  The pid is its holder's, unless we have looked there in vain: then the taker of a
            # flock(2) lock has ended, or closed it, and others have the open file from it
            if lock.pid > 0 and _may_be(lock, users, proc):
                lock.parties = [(lock.pid, 0)]


def _may_be(lock: KernelLock, users: dict[int, set[int]], proc: str) -> bool:
    if lock.kind != "flock":
        return True
    if lock.pid in users or not os.path.exists(f"{proc}/{lock.pid}"):
        return False
    try:
        os.listdir(f"{proc}/{lock.pid}/fd")
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _descriptions(pids: Sequence[int], number: int, proc: str) -> list[list[int]]:
    """Which processes share which of so many open files that have the very same lock.

    The kernel does not say it.  Where there are more processes than locks, a process is put to its parent.
    """
    groups = [[pid] for pid in sorted(set(pids))]
    at = len(groups) - 1
    while len(groups) > number and at >= 0:
        ancestors = _ancestors(groups[at][0], proc)
        home = next((g for a in ancestors for g in groups if a in g and g is not groups[at]), None)
        if home is not None:
            home += groups.pop(at)
        at -= 1
    while len(groups) > max(number, 1):
        groups[0] += groups.pop()
    more = [pid for i, pid in enumerate(pids) if pid in pids[:i]]  # the same process, with another open file
    return groups + [[pid] for pid in more[: max(0, number - len(groups))]]


def _ancestors(pid: int, proc: str) -> list[int]:
    found: list[int] = []
    while pid > 1 and pid not in found:
        status = _read(f"{proc}/{pid}/stat") or b""
        after = status.rpartition(b")")[2].split()
        pid = int(after[1]) if len(after) > 1 else 0
        found.append(pid)
    return found


def _name_waiters(locks: Sequence[KernelLock], users: dict[int, set[int]], proc: str) -> None:
    requests = [r for pid, fds in users.items() for r in _requests(pid, fds, proc)] if locks else []
    for exact in (True, False):
        for lock in locks:
            if lock.parties:
                continue
            for request in requests:
                if _is_of(request, lock) and (request.first is not None) == exact:
                    lock.parties = [(request.pid, request.tid)]
                    requests.remove(request)
                    break
    for lock in locks:
        if not lock.parties and lock.pid > 0:
            lock.parties = [(lock.pid, 0)]


def _is_of(request: _Request, lock: KernelLock) -> bool:
    return (
        (request.kind, request.mode) == (lock.kind, lock.mode)
        and lock.pid in (-1, request.pid)
        and (request.first is None or (request.first, request.last) == (lock.first, lock.last))
    )


def _requests(pid: int, descriptors: set[int], proc: str) -> Iterator[_Request]:
    """The threads of a process that sleep in a request for a lock through these descriptors, if we may know."""
    calls = _CALLS.get(os.uname().machine)
    if calls is None:
        return
    try:
        threads = os.listdir(f"{proc}/{pid}/task")
    except OSError:
        return
    for tid in threads:
        words = (_read(f"{proc}/{pid}/task/{tid}/syscall") or b"").split()
        if len(words) < 4 or not words[0].isdigit() or int(words[0]) not in calls:
            continue
        descriptor, operation, address = (int(w, 16) for w in words[1:4])
        if descriptor not in descriptors:
            continue
        if int(words[0]) == calls[1]:
            mode = "shared" if operation & fcntl.LOCK_SH else "exclusive"
            yield _Request(pid, int(tid), "flock", mode, 0, END)
        elif operation in (fcntl.F_SETLKW, _F_OFD_SETLKW):
            kind = "posix" if operation == fcntl.F_SETLKW else "ofd"
            asked = _asked(f"{proc}/{pid}/mem", address)
            if asked is not None:
                yield _Request(pid, int(tid), kind, *asked)


def _asked(memory: str, address: int) -> tuple[str, int | None, int] | None:
    """What a struct flock in another process asks for."""
    try:
        with open(memory, "rb", buffering=0) as f:
            f.seek(address)
            data = f.read(_FLOCK.size)
    except (OSError, OverflowError):
        return None
    if len(data) != _FLOCK.size:
        return None
    kind, whence, start, length, _ = _FLOCK.unpack(data)
    mode = "shared" if kind == fcntl.F_RDLCK else "exclusive"
    if whence != os.SEEK_SET:
        return mode, None, END
    if length < 0:
        start, length = start + length, -length
    return mode, start, start + length - 1 if length else END
