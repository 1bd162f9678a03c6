"""What `syncx doctor` finds in the machine: its kernel, its limits, this Python, and the signs of a container.

Every number comes from a `Tree`, so that tests can show it another machine; what only the kernel can be asked is asked
by `probe`.
"""

from __future__ import annotations

import os
import re
import resource
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from . import _core
from .findings import Finding, Tree, size

__all__ = ["Probes", "machine", "probe"]

ARENA_SIZE = 128 << 20
"""Bytes of addresses that an arena takes, and the length of its file, most of which is a hole; roughly."""
LEAST_ROOM, LITTLE_ROOM = 1 << 20, 16 << 20
"""Free bytes of /dev/shm under which nothing can be made, and under which it may soon be so."""

_UNLIMITED = resource.RLIM_INFINITY
_ENOSYS = 38
_FUTEX_WAITV = 449
_GET_ROBUST_LIST = {"x86_64": 274, "aarch64": 100, "riscv64": 100, "ppc64le": 299, "s390x": 305}
_F_OFD_GETLK = 36
_FIRST_NAMESPACES = {"pid": 4026531836, "user": 4026531837, "ipc": 4026531839, "time": 4026531834}
"""Inodes of the namespaces that the kernel starts with, see include/linux/proc_ns.h."""


class Probes(NamedTuple):
    """What the kernel said when it was asked; None: it could not be asked."""

    waitv: bool | None
    robust: bool | None
    ofd: bool | None
    pidfd: bool | None


def probe() -> Probes:
    """Asks the kernel for what syncx builds on.  Changes nothing."""
    return Probes(_has_waitv(), _has_robust_lists(), _has_ofd_locks(), _has_pidfd())


def _call(number: int, *arguments: object) -> int | None:
    """errno of a system call, 0 for success; None where ctypes is missing."""
    try:
        import ctypes
    except ImportError:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    return 0 if libc.syscall(number, *arguments) >= 0 else ctypes.get_errno()


def _has_waitv() -> bool | None:
    error = _call(_FUTEX_WAITV, None, 0, 0, None, 0)  # EINVAL where there is one
    return None if error is None else error == 22


def _has_robust_lists() -> bool | None:
    number = _GET_ROBUST_LIST.get(os.uname().machine)
    if number is None:
        return None
    try:
        import ctypes
    except ImportError:
        return None
    head, length = ctypes.c_void_p(), ctypes.c_size_t()
    error = _call(number, 0, ctypes.byref(head), ctypes.byref(length))
    return error == 0 and bool(head.value)


def _has_ofd_locks() -> bool | None:
    import fcntl

    try:
        fd = os.memfd_create("syncx-doctor", os.MFD_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.fcntl(fd, _F_OFD_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _has_pidfd() -> bool | None:
    if not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def machine(
    tree: Tree,
    probes: Probes,
    *,
    statvfs: Callable[[str], os.statvfs_result] = os.statvfs,
    getrlimit: Callable[[int], tuple[int, int]] = resource.getrlimit,
) -> Iterator[Finding]:
    """All that is not of an arena, nor of a leftover."""
    yield from kernel(tree, probes)
    yield from shared_memory(tree, statvfs)
    yield from limits(tree, getrlimit)
    yield from python()
    yield from container(tree)


# ---- the kernel ------------------------------------------------------------------------------------------------------

_FEATURES: Mapping[str, tuple[str, str, str, str, str]] = {
    "waitv": (
        "futex_waitv", "sleepers see a holder's death at once",
        "note", "a holder's death is seen within 100 ms instead of one",
        "Linux 5.16 has it; a sandbox must allow system call 449",
    ),
    "robust": (
        "robust lists", "the kernel marks the threads that die",
        "warning", "deaths are found by asking only, within 100 ms", "let the sandbox allow set_robust_list",
    ),
    "ofd": (
        "OFD locks", "each process is known by its byte of an arena, and file ranges can be locked",
        "error", "no arena can be opened", "Linux 3.15 has them; this sandbox does not",
    ),
    "pidfd": (
        "pidfd", "join() can wait for the end of any process",
        "note", "join() does not work", "Linux 5.3 has it, with Python 3.9; a sandbox must allow pidfd_open",
    ),
}  # fmt: skip


def kernel(tree: Tree, probes: Probes) -> Iterator[Finding]:
    """Its version, and what it offers."""
    release = (tree.read("/proc/sys/kernel/osrelease") or os.uname().release).strip()
    yield Finding("ok", "kernel", f"Linux {release}")
    for field, (name, good, level, bad, advice) in _FEATURES.items():
        there = getattr(probes, field)
        if there:
            yield Finding("ok", "kernel", f"{name}: {good}")
        elif there is None:
            yield Finding("note", "kernel", f"{name}: could not be asked for; with them {good}")
        else:
            yield Finding(level, "kernel", f"no {name}: {bad}", advice)
    if tree.read("/proc/sys/kernel/random/boot_id") is None:
        yield Finding(
            "warning",
            "kernel",
            "no boot id: arenas in files do not notice that the machine was started anew",
            "let the sandbox show /proc/sys/kernel/random/boot_id",
        )


def _mounted(tree: Tree, place: str) -> tuple[str, list[str]] | None:
    """The type and the options of what is mounted last at a place."""
    found = None
    for line in (tree.read("/proc/self/mounts") or "").splitlines():
        fields = line.split()
        if len(fields) >= 4 and fields[1] == place:
            found = fields[2], fields[3].split(",")
    return found


def shared_memory(tree: Tree, statvfs: Callable[[str], os.statvfs_result]) -> Iterator[Finding]:
    """/dev/shm, where arenas lie."""
    topic, place = "/dev/shm", tree.at("/dev/shm")
    mounted = _mounted(tree, "/dev/shm")
    try:
        room = statvfs(place)
    except OSError as e:
        yield Finding("error", topic, f"cannot be used: {e.strerror}", "mount -t tmpfs -o mode=1777 tmpfs /dev/shm")
        return
    if mounted is None:
        yield Finding(
            "warning",
            topic,
            "is no file system of its own: arenas lie on a disk, and stay there after a reboot",
            "mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
        )
    if room.f_flag & os.ST_RDONLY:
        yield Finding("error", topic, "is mounted read-only: no arena can be made", "mount -o remount,rw /dev/shm")
    elif not os.access(place, os.W_OK | os.X_OK):
        yield Finding("error", topic, "may not be written: no arena can be made by name", "chmod 1777 /dev/shm")
    total, free = room.f_frsize * room.f_blocks, room.f_frsize * room.f_bavail
    kind, options = mounted or ("of another file system", [])
    flags = [o for o in ("noexec", "nosuid", "nodev") if o in options]
    means = f" ({', '.join(flags)}: no matter to syncx)" if flags else ""
    text = (
        f"{kind}, {size(total)}, of which {size(free)} are free{means}" if total else f"{kind}, without a limit{means}"
    )
    if total and free < LEAST_ROOM:
        yield Finding("error", topic, f"{text}: it is full, nothing new can be made", "remove what nobody needs there")
    elif total and free < LITTLE_ROOM:
        yield Finding(
            "warning", topic, f"{text}: soon no arena can grow", "make it larger: mount -o remount,size=SIZE /dev/shm"
        )
    elif room.f_files and not room.f_favail:
        yield Finding("error", topic, f"{text}, but no file more can be made", "remove what nobody needs there")
    else:
        yield Finding("ok", topic, text)


# ---- limits ----------------------------------------------------------------------------------------------------------


def _or_none(limit: int) -> str:
    return "no limit" if limit == _UNLIMITED else f"{limit:,}"


def limits(tree: Tree, getrlimit: Callable[[int], tuple[int, int]]) -> Iterator[Finding]:
    """Those of this process, and those of the system."""
    soft, hard = getrlimit(resource.RLIMIT_NOFILE)
    text = f"open files: {_or_none(soft)}; an arena takes one, a file lock one or two"
    few = soft != _UNLIMITED and soft < 256
    raise_it = f"ulimit -n {_or_none(hard).replace(',', '')}" if hard != soft else "ask root for more (limits.conf)"
    yield Finding("warning" if few else "ok", "limits", text, raise_it if few else "")
    for what, number, name in (
        ("addresses", resource.RLIMIT_AS, "-v"),
        ("bytes of a file", resource.RLIMIT_FSIZE, "-f"),
    ):
        soft, _ = getrlimit(number)
        if soft != _UNLIMITED and soft < 2 * ARENA_SIZE:
            level = "error" if soft < ARENA_SIZE else "warning"
            yield Finding(
                level, "limits", f"{what}: {size(soft)}; an arena takes {size(ARENA_SIZE)}", f"ulimit {name} unlimited"
            )
        else:
            yield Finding("ok", "limits", f"{what}: {'no limit' if soft == _UNLIMITED else size(soft)}")
    soft, _ = getrlimit(resource.RLIMIT_MEMLOCK)
    text = "no limit" if soft == _UNLIMITED else size(soft)
    yield Finding("ok", "limits", f"locked memory: {text}; syncx locks none")
    soft, _ = getrlimit(resource.RLIMIT_NPROC)
    most = [n for n in (tree.number("/proc/sys/kernel/threads-max"), tree.number("/proc/sys/kernel/pid_max")) if n]
    if soft != _UNLIMITED:
        most.append(soft)
    threads = f"{min(most):,}" if most else "not known"
    yield Finding("ok", "limits", f"threads: {threads}; an arena has room for {_core.MAX_PARTICIPANTS:,}")
    held = (tree.read("/proc/locks") or "").count("\n")
    many = held > 5000
    yield Finding(
        "note" if many else "ok",
        "limits",
        f"file locks: {held:,} held now, no limit"
        + ("; the kernel goes through those of a file one by one, which takes its time" if many else ""),
    )
    yield from _system_v(tree)
    queues = tree.number("/proc/sys/fs/mqueue/queues_max")
    if queues is not None:
        messages = tree.number("/proc/sys/fs/mqueue/msg_max")
        longest = tree.number("/proc/sys/fs/mqueue/msgsize_max")
        yield Finding(
            "ok",
            "limits",
            f"POSIX message queues: {queues:,} of {messages:,} messages of {longest:,} bytes; syncx uses none",
        )
    watches = tree.number("/proc/sys/fs/inotify/max_user_watches")
    if watches is not None:
        instances = tree.number("/proc/sys/fs/inotify/max_user_instances")
        yield Finding("ok", "limits", f"inotify: {instances:,} instances, {watches:,} watches a user; syncx uses none")


def _system_v(tree: Tree) -> Iterator[Finding]:
    """The limits of System V IPC, and how much of them is used."""
    sem = (tree.read("/proc/sys/kernel/sem") or "").split()
    shmmax, shmall = tree.number("/proc/sys/kernel/shmmax"), tree.number("/proc/sys/kernel/shmall")
    for kind, what, most in (
        ("shm", "shared memory segments", tree.number("/proc/sys/kernel/shmmni")),
        ("sem", "sets of semaphores", int(sem[3]) if len(sem) == 4 and sem[3].isdigit() else None),
        ("msg", "message queues", tree.number("/proc/sys/kernel/msgmni")),
    ):
        table = tree.read(f"/proc/sysvipc/{kind}")
        if table is None or most is None:
            continue
        used = max(0, table.count("\n") - 1)
        text = f"System V: {used:,} of {most:,} {what}"
        if kind == "shm" and shmmax is not None and shmall is not None:
            text += f", of {_bytes(shmmax)} each, {_bytes(shmall * resource.getpagesize())} together"
        if used * 10 >= most * 9:
            yield Finding(
                "warning",
                "limits",
                f"{text}: soon others can make none (ENOSPC)",
                f"see ipcs and sysctl kernel.{kind}*",
            )
        else:
            yield Finding("ok", "limits", f"{text}; syncx uses none")


def _bytes(n: int) -> str:
    return "no limit" if n >= 1 << 62 else size(n)


# ---- Python ----------------------------------------------------------------------------------------------------------


def python() -> Iterator[Finding]:
    """This interpreter, and whether the C core is made for it."""
    import platform
    import sysconfig

    version = f"{platform.python_implementation()} {platform.python_version()}"
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        yield Finding("ok", "Python", version)
    elif getattr(sys, "_is_gil_enabled", lambda: True)():
        yield Finding(
            "note",
            "Python",
            f"{version}, free-threaded, but with the GIL on: some module or PYTHON_GIL wants it; not syncx",
        )
    else:
        yield Finding("ok", "Python", f"{version}, free-threaded, without the GIL")
    path = _core.__file__
    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    wanted = _promised(os.path.join(os.path.dirname(path), "_core.pyi"))
    missing = sorted(name for name in wanted if not hasattr(_core, name))
    if missing:
        yield Finding(
            "error",
            "Python",
            f"the C core is of another version: it lacks {', '.join(missing[:3])}",
            "install syncx again; in a source tree, build it: python setup.py build_ext --inplace",
        )
    elif not path.endswith((suffix, ".abi3.so")):
        yield Finding(
            "warning", "Python", f"the C core is {os.path.basename(path)}, not one for {suffix}", "install syncx again"
        )
    else:
        libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else ""
        yield Finding(
            "ok", "Python", f"the C core fits: {os.path.basename(path)}, {libc or 'a C library without a name'}"
        )


def _promised(stub: str) -> list[str]:
    """The names that the stub of the C core tells of."""
    try:
        with open(stub, encoding="utf-8") as f:
            text = f.read()
    except OSError:
        return []
    return ["".join(pair) for pair in re.findall(r"^([A-Z_]+): Final|^def (\w+)", text, re.M)]


# ---- containers ------------------------------------------------------------------------------------------------------


def container(tree: Tree) -> Iterator[Finding]:
    """What hides other processes, and what that hides from us."""
    seen = False
    namespace = tree.inode("/proc/self/ns/pid")
    if namespace is not None and namespace != _FIRST_NAMESPACES["pid"]:
        seen = True
        yield Finding(
            "note",
            "container",
            "a PID namespace of its own: with processes outside of it locks are shared and deaths are"
            " seen all the same, but their pids mean nothing here, and their commands are not told",
            "share the namespace where you want to see them: docker run --pid=..., shareProcessNamespace",
        )
    own = [
        n
        for n in ("user", "ipc", "time")
        if (i := tree.inode(f"/proc/self/ns/{n}")) is not None and i != _FIRST_NAMESPACES[n]
    ]
    if own:
        seen = True
        yield Finding(
            "note",
            "container",
            f"its own {' and '.join(own)} namespace{'s' if len(own) > 1 else ''}: arenas are shared"
            " with those who see the same /dev/shm (docker run --ipc=..., or -v /dev/shm:/dev/shm)",
        )
    marks = [m for m in ("/.dockerenv", "/run/.containerenv") if os.path.exists(tree.at(m))]
    if marks:
        seen = True
        yield Finding(
            "note", "container", f"a container ({', '.join(marks)}): its /dev/shm may be its own, 64 MiB by default"
        )
    mounted = _mounted(tree, "/proc")
    hidden = [
        o for o in (mounted[1] if mounted else []) if o.startswith("hidepid=") and o not in ("hidepid=0", "hidepid=off")
    ]
    if hidden:
        seen = True
        yield Finding(
            "note",
            "container",
            f"/proc is mounted with {hidden[0]}: processes of other users are not seen, and holders of"
            " file locks among them stay unknown",
            "look as root, or mount /proc with gid=GROUP",
        )
    scope = tree.number("/proc/sys/kernel/yama/ptrace_scope")
    if scope:
        yield Finding(
            "note",
            "container",
            f"ptrace_scope is {scope}: without root it cannot be told which range of a file a waiter"
            " wants that does not use syncx; all else is told",
            "root is told: sudo syncx locks PATH",
        )
    status = tree.read("/proc/self/status") or ""
    if re.search(r"^Seccomp:\s+2$", status, re.M):
        seen = True
        yield Finding("ok", "container", "a seccomp filter: what it forbids is told above, under kernel")
    memory = (tree.read("/sys/fs/cgroup/memory.max") or "max").strip()
    if memory.isdigit():
        seen = True
        yield Finding("ok", "container", f"{size(int(memory))} of memory, to which what lies in /dev/shm counts")
    if not seen:
        yield Finding("ok", "container", "no sign of one: all processes are seen")
