"""`file_locks()` and `syncx locks`: who holds and who awaits which ranges of a file, whatever program locks it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE, Child, until

import syncx
from syncx import lockbar, lockinfo, proclocks
from syncx.lockinfo import FileLockInfo, FileLocks, LockParty
from syncx.proclocks import END, FileIdentity, KernelLock

Start = Callable[..., Child]

FOREIGN = """
import fcntl, struct
def ofd(file, kind, start, length, operation=37):
    fcntl.fcntl(file, operation, struct.pack("hhqqi4x", kind, 0, start, length, 0))
def done():
    say(threading.get_native_id())
    hear()
file = open(PATH, "r+b")
"""
"""Somebody who does not use syncx."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "records.db"
    path.write_bytes(bytes(1000))
    return path


@pytest.fixture
def foreign(child: Start, path: Path) -> Callable[[str], Child]:
    """Starts a program with locks of its own, and waits until it has them."""

    def start(code: str) -> Child:
        process = child(FOREIGN + code, PATH=str(path))
        process.native = process.hear()  # type: ignore[attr-defined]
        return process

    return start


def summary(found: FileLocks) -> list[tuple[Any, ...]]:
    return [(o.state, o.mode, o.kind, o.range, [p.pid for p in o.parties], o.syncx) for o in found.locks]


def cli(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80"}
    options = {"capture_output": True, "text": True, "timeout": PATIENCE, "env": environment, **options}
    return subprocess.run([sys.executable, "-m", "syncx", "locks", *arguments], **options)


def until_waiting_in_kernel(path: Path, number: int) -> FileLocks:
    """Until so many threads sleep in requests, each in its system call."""
    looks: list[FileLocks] = []

    def asleep() -> bool:
        looks.append(syncx.file_locks(path))
        waiting = looks[-1].waiting
        visible = all(p.tid for o in waiting for p in o.parties) or not syscalls_are_visible(os.getpid())
        return len(waiting) == number and visible

    until(asleep, f"{number} wait")
    return looks[-1]


def syscalls_are_visible(pid: int) -> bool:
    try:
        return len(Path(f"/proc/{pid}/syscall").read_text().split()) > 0
    except OSError:
        return False


# ---- what the kernel knows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ofd(file, fcntl.F_WRLCK, 10, 20)", ("exclusive", "ofd", "10:30")),
        ("ofd(file, fcntl.F_RDLCK, 5, 0)", ("shared", "ofd", "5:")),
        ("fcntl.lockf(file, fcntl.LOCK_EX, 7, 3)", ("exclusive", "posix", "3:10")),
        ("fcntl.lockf(file, fcntl.LOCK_SH)", ("shared", "posix", "0:")),
        ("fcntl.flock(file, fcntl.LOCK_EX)", ("exclusive", "flock", "0:")),
        ("fcntl.flock(file, fcntl.LOCK_SH)", ("shared", "flock", "0:")),
    ],
)
def test_a_foreign_holder(foreign: Callable[[str], Child], path: Path, code: str, expected: tuple[str, ...]) -> None:
    process = foreign(f"{code}\ndone()")
    found = syncx.file_locks(path)
    assert summary(found) == [("held", *expected, [process.pid], False)]
    (lock,) = found.locks
    assert sys.executable in lock.parties[0].command
    assert (lock.parties[0].tid, lock.seconds, lock.remaining) == (None, None, None)
    assert (found.size, found.inode, found.device) == (1000, path.stat().st_ino, path.stat().st_dev)
    process.say()
    process.finish()
    assert syncx.file_locks(path).locks == ()


def test_a_lease(child: Start, path: Path) -> None:
    process = child(
        """
        import fcntl
        file = open(PATH, "rb")
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            say("leased")
        except OSError as e:
            say(str(e))
        hear()
        """,
        PATH=str(path),
    )
    told = process.hear()
    if told != "leased":
        pytest.skip(f"no leases on this file system: {told}")
    assert summary(syncx.file_locks(path)) == [("held", "shared", "lease", "0:", [process.pid], False)]


@pytest.mark.parametrize("how", ["path", "bytes", "str", "file", "descriptor"])
def test_any_way_to_name_the_file(foreign: Callable[[str], Child], path: Path, how: str) -> None:
    process = foreign("ofd(file, fcntl.F_WRLCK, 10, 20)\ndone()")
    with open(path, "rb") as f:
        name: Any = {"path": path, "bytes": bytes(path), "str": str(path), "file": f, "descriptor": f.fileno()}[how]
        found = syncx.file_locks(name)
    assert summary(found) == [("held", "exclusive", "ofd", "10:30", [process.pid], False)]
    assert found.path == str(path)


def test_waiters_are_found_with_their_threads(foreign: Callable[[str], Child], path: Path) -> None:
    """The kernel's list names no process for an open-file-description lock, and no thread for any."""
    holder = foreign("ofd(file, fcntl.F_WRLCK, 0, 100)\ndone()")
    waiting = foreign(
        """
def wait(ready, then):
    own = open(PATH, "r+b")
    say(threading.get_native_id())
    then(own)
for then in (
    lambda f: ofd(f, fcntl.F_WRLCK, 5, 20, 38),
    lambda f: ofd(f, fcntl.F_RDLCK, 90, 0, 38),
    lambda f: fcntl.lockf(f, fcntl.LOCK_EX, 4, 50),
):
    threading.Thread(target=wait, args=(None, then), daemon=True).start()
done()
"""
    )
    told = [waiting.native, waiting.hear(), waiting.hear(), waiting.hear()]  # type: ignore[attr-defined]
    found = until_waiting_in_kernel(path, 3)
    assert summary(found)[:1] == [("held", "exclusive", "ofd", "0:100", [holder.pid], False)]
    assert {row[1:4] for row in summary(found)[1:]} == {
        ("exclusive", "ofd", "5:25"),
        ("shared", "ofd", "90:"),
        ("exclusive", "posix", "50:54"),
    }
    assert {o.seconds for o in found.waiting} == {None}
    if syscalls_are_visible(waiting.pid):
        threads = {p.tid for o in found.waiting for p in o.parties}
        assert threads == set(told) - {waiting.pid}
        assert {p.pid for o in found.waiting for p in o.parties} == {waiting.pid}
    else:
        assert [[p.pid for p in o.parties] for o in found.waiting if o.kind == "posix"] == [[waiting.pid]]


def test_waiters_for_flock(foreign: Callable[[str], Child], path: Path) -> None:
    holder = foreign("fcntl.flock(file, fcntl.LOCK_SH)\ndone()")
    waiter = foreign("say(threading.get_native_id())\nfcntl.flock(file, fcntl.LOCK_EX)\ndone()")
    assert summary(until_waiting_in_kernel(path, 1)) == [
        ("held", "shared", "flock", "0:", [holder.pid], False),
        ("waiting", "exclusive", "flock", "0:", [waiter.pid], False),
    ]
    holder.say()
    holder.finish()
    waiter.hear()
    waiter.say()
    waiter.finish()


SHARE = """
{take}
pid = os.fork()
if pid == 0:
    signal.pause()
say([os.getpid(), pid])
hear()
"""


@pytest.mark.parametrize("take", ["ofd(file, fcntl.F_WRLCK, 10, 20)", "fcntl.flock(file, fcntl.LOCK_EX)"])
def test_an_open_file_that_is_shared_since_a_fork(child: Start, path: Path, take: str) -> None:
    """One lock, two processes; and when the one that took it has ended, the other has it."""
    process = child(FOREIGN + SHARE.format(take=take), PATH=str(path))
    parent, heir = process.hear()
    (lock,) = syncx.file_locks(path).locks
    assert sorted(p.pid for p in lock.parties) == sorted([parent, heir])
    process.kill()
    (lock,) = syncx.file_locks(path).locks
    assert [p.pid for p in lock.parties] == [heir]


def test_a_posix_lock_is_not_shared_by_a_fork(child: Start, path: Path) -> None:
    take = "fcntl.lockf(file, fcntl.LOCK_EX, 7, 3)"
    process = child(FOREIGN + SHARE.format(take=take), PATH=str(path))
    parent, _ = process.hear()
    assert summary(syncx.file_locks(path)) == [("held", "exclusive", "posix", "3:10", [parent], False)]


def test_each_holder_of_one_range_has_a_record(foreign: Callable[[str], Child], path: Path) -> None:
    """The very same lines in the kernel's list, which only the descriptors tell apart."""
    pids = [foreign("ofd(file, fcntl.F_RDLCK, 0, 10)\ndone()").pid for _ in range(3)]
    twice = foreign(
        "other = open(PATH, 'rb')\nofd(file, fcntl.F_RDLCK, 0, 10)\nofd(other, fcntl.F_RDLCK, 0, 10)\ndone()"
    )
    expected = sorted([*pids, twice.pid, twice.pid])

    def each_has_one() -> bool:  # one look may miss a line while other programs' locks come and go
        found = syncx.file_locks(path).locks
        return sorted(p.pid for o in found for p in o.parties) == expected and len(found) == len(expected)

    until(each_has_one, "five records")


def test_a_descriptor_that_was_duplicated_is_one_lock(foreign: Callable[[str], Child], path: Path) -> None:
    process = foreign("ofd(file, fcntl.F_RDLCK, 0, 10)\nother = os.dup(file.fileno())\ndone()")
    assert summary(syncx.file_locks(path)) == [("held", "shared", "ofd", "0:10", [process.pid], False)]


def test_looking_drops_no_posix_locks(child: Start, path: Path) -> None:
    """Any close of a file drops the process's POSIX locks on it: so it is not opened as usual.  The twin that does it
    is seen to drop them."""
    process = child(
        """
        import fcntl
        file = open(PATH, "r+b")
        fcntl.lockf(file, fcntl.LOCK_EX, 10, 0)
        mine = syncx.file_locks(PATH).locks
        say([len(mine), len(syncx.file_locks(PATH).locks), len(syncx.file_locks(file).locks)])
        open(PATH, "rb").close()
        say(len(syncx.file_locks(PATH).locks))
        """,
        PATH=str(path),
    )
    assert process.hear() == [1, 1, 1]
    assert process.hear() == 0
    process.finish()


def test_no_other_file(foreign: Callable[[str], Child], path: Path) -> None:
    other = path.with_name("other")
    other.write_text("another file")
    foreign("ofd(file, fcntl.F_WRLCK, 10, 20)\ndone()")
    assert syncx.file_locks(other).locks == ()
    link = path.with_name("link")
    link.symlink_to(path)
    assert len(syncx.file_locks(link).locks) == 1
    os.link(path, path.with_name("hard"))
    assert len(syncx.file_locks(path.with_name("hard")).locks) == 1


OTHER_USER = """
file = os.open(PATH, os.O_PATH)  # the directories above it may be closed to others
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
found = syncx.file_locks(file)
say([[[p.pid for p in o.parties], o.kind] for o in found.locks])
say([found.unknown, found.unseen])
"""


def test_processes_of_other_users(child: Start, foreign: Callable[[str], Child], path: Path) -> None:
    """Without the right to look into them, the holders of POSIX locks are known, and the rest is counted."""
    if os.geteuid() != 0:
        pytest.skip("needs root, who becomes nobody")
    process = foreign("ofd(file, fcntl.F_WRLCK, 0, 10)\nfcntl.lockf(file, fcntl.LOCK_EX, 10, 100)\ndone()")
    code = "from syncx import lockinfo, proclocks, terminal\n"  # the interpreter's files may be closed to others
    looker = child(code + OTHER_USER, PATH=str(path), env={"SYNCX_ARENA": "of-nobody"})
    assert looker.hear() == [[[], "ofd"], [[process.pid], "posix"]]
    unknown, unseen = looker.hear()
    assert unknown == 1
    assert unseen >= 2
    looker.finish()


# ---- the lists as other kernels and file systems show them ---------------------------------------------------------


def fake(directory: Path, text: str | None, **processes: str) -> str:
    """A /proc with this list of locks, and processes of which descriptor 3 has this fdinfo."""
    if text is not None:
        (directory / "locks").write_text(text)
    for name, fdinfo in processes.items():
        home = directory / name.lstrip("p")
        (home / "fd").mkdir(parents=True)
        (home / "fdinfo").mkdir()
        (home / "fd" / "3").write_text("")
        (home / "fdinfo" / "3").write_text(fdinfo)
        (home / "cmdline").write_text("program")
    return str(directory)


def identity(inode: int, device: tuple[int, int] = (0xFE, 0), filesystem: str = "ext4") -> FileIdentity:
    return FileIdentity(device, inode, os.stat("/"), filesystem)


def lines(found: proclocks.Survey) -> list[tuple[Any, ...]]:
    return [(o.kind, o.state, o.mode, o.first, o.last, o.parties) for o in found.locks]


LIST = """\
1: POSIX  ADVISORY  WRITE 700 fe:00:2147390 0 9
1: -> POSIX  ADVISORY  READ 701 fe:00:2147390 5 EOF
1:  -> POSIX  ADVISORY  WRITE 702 fe:00:2147390 4 6
2: POSIX  ADVISORY  WRITE 703 fe:00:21473901 0 9
3: POSIX  ADVISORY  WRITE 704 fe:01:2147390 0 9
4: POSIX  ADVISORY  WRITE 705 00:fe:2147390 0 9
5: LEASE  BREAKING  READ 706 fe:00:2147390 0 EOF
5: -> LEASE  BREAKER   WRITE 707 fe:00:2147390 0 EOF
6: DELEG  ACTIVE    READ 708 fe:00:2147390 0 EOF
7: POSIX  *NOINODE* WRITE 709 <none>:0 0 EOF
8: ODDITY ADVISORY  WRITE 710 fe:00:2147390 0 EOF
9: POSIX  MANDATORY WRITE 711 fe:00:2147390 2147390 2147390
half a line of fe:00:2147390
"""


def test_every_kind_of_line(tmp_path: Path) -> None:
    found = proclocks.survey(identity(2147390), fake(tmp_path, LIST))
    assert found.unseen == 0
    assert lines(found) == [
        ("posix", "held", "exclusive", 0, 9, [(700, 0)]),
        ("posix", "waiting", "shared", 5, END, [(701, 0)]),
        ("posix", "waiting", "exclusive", 4, 6, [(702, 0)]),
        ("lease", "breaking", "shared", 0, END, [(706, 0)]),
        ("lease", "waiting", "exclusive", 0, END, [(707, 0)]),
        ("delegation", "held", "shared", 0, END, [(708, 0)]),
        ("posix", "held", "exclusive", 2147390, 2147390, [(711, 0)]),
    ]


def test_a_list_of_many_pages(foreign: Callable[[str], Child], path: Path, tmp_path: Path) -> None:
    """Which the kernel cuts where it likes: nothing is missed, and nothing shown twice."""
    many = tmp_path / "many"
    many.write_text("")
    busy = foreign(
        """
other = open(PATH[: PATH.rindex("/")] + "/many", "r+b")
for i in range(500):
    ofd(other, fcntl.F_WRLCK, 2 * i, 1)
fcntl.lockf(file, fcntl.LOCK_EX, 5, 5)
done()
"""
    )
    assert summary(syncx.file_locks(path)) == [("held", "exclusive", "posix", "5:10", [busy.pid], False)]
    found = syncx.file_locks(many)
    assert [o.range for o in found.locks] == [f"{2 * i}:{2 * i + 1}" for i in range(500)]
    assert {p.pid for o in found.locks for p in o.parties} == {busy.pid}
    assert len(found.locks) == sum(len(o.parties) for o in found.locks)


def test_a_line_that_came_twice(tmp_path: Path) -> None:
    twice = "1: POSIX  ADVISORY  READ 10 fe:00:5 0 EOF\n" + f"2: {OFD_SHARED} fe:00:5 0 EOF\n"
    proc = fake(tmp_path, twice * 2, p10=fdinfo(OFD_SHARED))
    found = lines(proclocks.survey(identity(5), proc))
    assert found == [
        ("posix", "held", "shared", 0, END, [(10, 0)]),
        ("ofd", "held", "shared", 0, END, [(10, 0)]),
    ]


def test_a_line_that_was_missed(tmp_path: Path) -> None:
    """What a descriptor tells is there whatever the list says."""
    proc = fake(tmp_path, "1: FLOCK  ADVISORY  READ 10 fe:00:5 0 EOF\n", p10=fdinfo(OFD_SHARED))
    assert ("ofd", "held", "shared", 0, END, [(10, 0)]) in lines(proclocks.survey(identity(5), proc))


def fdinfo(*locks: str, inode: int = 5) -> str:
    rows = "".join(f"lock:\t{i}: {lock} fe:00:{inode} 0 EOF\n" for i, lock in enumerate(locks, 1))
    return f"pos:\t0\nflags:\t0100002\nmnt_id:\t29\nino:\t{inode}\n{rows}"


OFD_SHARED = "OFDLCK ADVISORY  READ -1"


def test_who_shares_which_of_several_locks(tmp_path: Path) -> None:
    """Two locks that look alike and three processes: the child goes to its parent."""
    proc = fake(
        tmp_path, f"1: {OFD_SHARED} fe:00:5 0 EOF\n2: {OFD_SHARED} fe:00:5 0 EOF\n",
        p10=fdinfo(OFD_SHARED), p11=fdinfo(OFD_SHARED), p12=fdinfo(OFD_SHARED), p13=fdinfo(OFD_SHARED, inode=6),
    )  # fmt: skip
    for pid, parent in ((10, 1), (11, 1), (12, 11), (13, 1)):
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a (strange) name) S {parent} 1 1")
    (a, b) = proclocks.survey(identity(5), proc).locks
    assert sorted([a.parties, b.parties]) == [[(10, 0)], [(11, 0), (12, 0)]]


def test_where_the_list_is_hidden(tmp_path: Path) -> None:
    """As some sandboxes do: what the descriptors tell must do."""
    proc = fake(tmp_path, None, p10=fdinfo(OFD_SHARED, "FLOCK  ADVISORY  WRITE 10"), p11=fdinfo(OFD_SHARED))
    found = lines(proclocks.survey(identity(5), proc))
    assert sorted(found) == [
        ("flock", "held", "exclusive", 0, END, [(10, 0)]),
        ("ofd", "held", "shared", 0, END, [(10, 0)]),
        ("ofd", "held", "shared", 0, END, [(11, 0)]),
    ]


def test_the_pid_of_a_flock_is_not_believed_alone(tmp_path: Path) -> None:
    """Process 10 took it and ended, somebody else got its number, and 11 has the open file still."""
    taken = "FLOCK  ADVISORY  WRITE 10"
    proc = fake(tmp_path, f"1: {taken} fe:00:5 0 EOF\n", p10="pos:\t0\nino:\t77\n", p11=fdinfo(taken))
    assert proclocks.survey(identity(5), proc).locks[0].parties == [(11, 0)]
    (tmp_path / "11" / "fdinfo" / "3").unlink()
    assert proclocks.survey(identity(5), proc).locks[0].parties == []


def test_the_kernels_own_name_of_a_file(tmp_path: Path) -> None:
    """On btrfs and overlayfs, stat(2) tells another device and inode than the kernel's lists do."""
    file = tmp_path / "file"
    file.write_text("")
    with open(file) as f:
        home = tmp_path / "self"
        (home / "fdinfo").mkdir(parents=True)
        (home / "fdinfo" / str(f.fileno())).write_text("pos:\t0\nflags:\t0100000\nmnt_id:\t61\nino:\t4711\n")
        (home / "mountinfo").write_text(
            "60 1 0:31 / /proc rw - proc proc rw\n"
            "61 1 0:44 /sub /home rw,relatime shared:1 master:2 - btrfs /dev/sda rw\n"
        )
        it = proclocks.identify(f, str(tmp_path))
        assert (it.device, it.inode, it.filesystem, it.remote) == ((0, 44), 4711, "btrfs", False)
        (home / "mountinfo").write_text("61 1 0:50 / /net rw - nfs4 server:/ rw\n")
        assert proclocks.identify(f, str(tmp_path)).remote
        (home / "mountinfo").write_text("61 1 0:50 / /net rw - fuse.sshfs server:/ rw\n")
        assert proclocks.identify(f, str(tmp_path)).remote
        (home / "fdinfo" / str(f.fileno())).write_text("pos:\t0\nflags:\t0100000\nmnt_id:\t61\n")  # before 5.14
        it = proclocks.identify(f, str(tmp_path))
        status = file.stat()
        assert (it.device, it.inode) == ((os.major(status.st_dev), os.minor(status.st_dev)), status.st_ino)


# ---- the arena and the kernel joined -------------------------------------------------------------------------------

Bytes = dict[int, set[int]]
"""For each process, the bytes that it holds."""
Join = Callable[[Sequence[KernelLock], Sequence[lockinfo._Row], FileIdentity], Iterator[lockinfo._Record]]


def row(pid: int, tid: int, first: int, last: int, mode: str = "exclusive", **more: Any) -> lockinfo._Row:
    fields: dict[str, Any] = {"state": "held", "style": "ofd", "since": 5, "deadline": None, **more}
    return lockinfo._Row(pid=pid, tid=tid, first=first, last=last, mode=mode, **fields)


def runs(numbers: set[int]) -> Iterator[tuple[int, int]]:
    """Ranges of consecutive numbers."""
    for n in sorted(numbers):
        if n - 1 not in numbers:
            first = n
        if n + 1 not in numbers:
            yield first, n


def wrong_joins(join: Join, seed: int) -> list[str]:
    """Threads of some processes hold ranges of which the kernel shows the union, for each process; some threads have
    published theirs and others not, and some rows are of holds that were given back meanwhile."""
    chance = random.Random(seed)
    truth: Bytes = {}
    rows, kernel = [], []
    published: dict[tuple[int, int], set[int]] = {}
    free = set(range(60))
    for pid in range(1, chance.randint(1, 4) + 1):
        for tid in range(pid * 10, pid * 10 + chance.randint(1, 3)):
            first = chance.randrange(60)
            mine = set(range(first, min(60, first + chance.randint(1, 15)))) & free
            free -= mine
            truth.setdefault(pid, set()).update(mine)
            for a, b in runs(mine):
                if chance.random() < 0.6:
                    rows.append(row(pid, tid, a, b))
                    published.setdefault((pid, tid), set()).update(range(a, b + 1))
        for a, b in runs(truth[pid]):
            parties = [(pid, 0)] if chance.random() < 0.7 else []  # the others cannot be looked into
            kernel.append(KernelLock("ofd", "held", "exclusive", a, b, -1, parties))
    if free and chance.random() < 0.5:
        gone = chance.choice(sorted(free))
        rows.append(row(9, 90, gone, gone))
    chance.shuffle(rows)
    shown: dict[int, int] = {}
    threads: dict[tuple[int, int], set[int]] = {}
    for record in join(kernel, rows, identity(5)):
        for n in range(record.first, record.last + 1):
            shown[n] = shown.get(n, 0) + 1
            for pid, tid in record.parties:
                if tid:
                    threads.setdefault((pid, tid), set()).add(n)
                if n not in truth.get(pid, ()):
                    return [f"byte {n} is not held by {pid}"]
    wrong = []
    if set(shown) != set().union(*truth.values()):
        wrong.append("the bytes shown are not those that are held")
    if set(shown.values()) - {1}:
        wrong.append("a byte is shown twice")
    if threads != published:
        wrong.append("what a thread has published is not shown as its own")
    return wrong


def test_each_byte_is_shown_once_with_all_that_is_known() -> None:
    for seed in range(400):
        assert wrong_joins(lockinfo._join, seed) == [], seed


def broken_joins() -> list[Join]:
    def both(kernel: Any, rows: Any, file: Any) -> Iterator[lockinfo._Record]:
        yield from lockinfo._join(kernel, [], file)
        yield from (lockinfo._Record(r.state, r.mode, r.style, r.first, r.last, ((r.pid, r.tid),), True) for r in rows)

    def kernel_only(kernel: Any, rows: Any, file: Any) -> Iterator[lockinfo._Record]:
        yield from lockinfo._join(kernel, [], file)

    def whole_lines(kernel: Any, rows: Any, file: Any) -> Iterator[lockinfo._Record]:
        """Drops each line of the kernel's that a row overlaps."""
        left = [k for k in kernel if not any(r.first <= k.last and k.first <= r.last for r in rows)]
        yield from both(left, rows, file)

    return [both, kernel_only, whole_lines]


@pytest.mark.parametrize("join", broken_joins())
def test_a_broken_join_is_found(join: Join) -> None:
    assert any(wrong_joins(join, seed) for seed in range(40))


def test_shared_holds_of_several_threads() -> None:
    kernel = [KernelLock("ofd", "held", "shared", 0, 29, -1, [(1, 0), (2, 0)])]
    rows = [row(1, 10, 0, 19, "shared"), row(1, 11, 10, 29, "shared")]
    assert [(r.first, r.last, r.parties) for r in lockinfo._join(kernel, rows, identity(5))] == [
        (0, 19, ((1, 10), (2, 0))),  # process 2 has it from a fork
        (10, 29, ((1, 11), (2, 0))),
    ]


def test_a_waiter_that_sleeps_in_the_kernel_is_shown_once() -> None:
    waiting = {"state": "waiting", "since": 7, "deadline": 9}
    rows = [row(1, 10, 0, 9, **waiting), row(1, 11, 0, 9, "upgrade", **waiting), row(1, 12, 0, 9, "shared", **waiting)]
    kernel = [
        KernelLock("ofd", "waiting", "exclusive", 0, 9, -1, []),
        KernelLock("ofd", "waiting", "exclusive", 0, 9, -1, [(1, 11)]),
        KernelLock("ofd", "waiting", "exclusive", 0, 9, -1, [(2, 20)]),
        KernelLock("posix", "waiting", "exclusive", 0, 9, 3, [(3, 0)]),
    ]
    found = [(r.mode, r.kind, r.parties, r.syncx) for r in lockinfo._join(kernel, rows, identity(5))]
    assert found == [
        ("exclusive", "ofd", ((1, 10),), True),
        ("upgrade", "ofd", ((1, 11),), True),
        ("shared", "ofd", ((1, 12),), True),
        ("exclusive", "ofd", ((2, 20),), False),
        ("exclusive", "posix", ((3, 0),), False),
    ]


def test_on_a_network_file_system_the_arena_is_believed() -> None:
    """The kernel of this machine need not know of the locks there."""
    rows = [row(1, 10, 0, 9)]
    assert list(lockinfo._join([], rows, identity(5))) == []
    assert [r.parties for r in lockinfo._join([], rows, identity(5, filesystem="fuse.sshfs"))] == [((1, 10),)]


def test_every_arena_that_can_be_found_is_looked_into(child: Start, path: Path, tmp_path: Path) -> None:
    """A waiter that sleeps in an arena, and not in the kernel, is in no other list."""
    name = f"{os.environ['SYNCX_ARENA']}-of-files"
    for place, more in ((name, {}), (str(tmp_path / "arena"), {"arena": str(tmp_path / "arena")})):
        code = """
            lock = syncx.RangeLock(PATH, 10, 20, arena=syncx.Arena(PLACE))
            say()
            with lock:
                say()
                hear()
            """
        holder = child(code, PATH=str(path), PLACE=place)
        holder.hear()
        holder.hear()
        waiter = child(code, PATH=str(path), PLACE=place)
        waiter.hear()
        until(lambda more=more: syncx.file_locks(path, **more).waiting, "somebody waits")
        found = syncx.file_locks(path, **more)
        assert summary(found) == [
            ("held", "exclusive", "ofd", "10:30", [holder.pid], True),
            ("waiting", "exclusive", "ofd", "10:30", [waiter.pid], True),
        ]
        if more:
            assert summary(syncx.file_locks(path)) == [("held", "exclusive", "ofd", "10:30", [holder.pid], False)]
        for process in (holder, waiter):
            process.say()
            process.finish()
    syncx.Arena(tmp_path / "arena").unlink()
    with pytest.raises(FileNotFoundError):
        syncx.file_locks(path, arena="no-such-arena")


# ---- bad input -----------------------------------------------------------------------------------------------------


def test_bad_input(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        syncx.file_locks(tmp_path / "missing")
    with pytest.raises(NotADirectoryError):
        syncx.file_locks(path / "below")
    with pytest.raises(FileNotFoundError):
        syncx.file_locks("")
    with pytest.raises(ValueError, match="null"):
        syncx.file_locks("a\0b")
    with pytest.raises(TypeError, match="NoneType"):
        syncx.file_locks(None)
    with pytest.raises(TypeError, match="bool"):
        syncx.file_locks(True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        syncx.file_locks(1 << 20)
    closed = open(path)  # noqa: SIM115
    closed.close()
    with pytest.raises(ValueError, match="closed"):
        syncx.file_locks(closed)


def test_what_is_no_regular_file(child: Start, tmp_path: Path) -> None:
    """flock(2) locks a directory, and much else: looking at it neither blocks nor fails."""
    os.mkfifo(tmp_path / "fifo")
    assert syncx.file_locks(tmp_path / "fifo").locks == ()
    assert syncx.file_locks("/dev/null").size is None
    process = child("import fcntl\nfd = os.open(PATH, 0)\nfcntl.flock(fd, 1)\nsay()\nhear()", PATH=str(tmp_path))
    process.hear()
    found = syncx.file_locks(tmp_path)
    assert summary(found) == [("held", "shared", "flock", "0:", [process.pid], False)]
    assert found.size is None
    assert list(lockbar.bar(found, 80))


# ---- the bar -------------------------------------------------------------------------------------------------------


def info(start: int, length: int, state: str = "held", mode: str = "exclusive") -> FileLockInfo:
    return FileLockInfo(state, mode, "ofd", start, length, (LockParty(1, None, "x"),), False, None, None)


def drawn(size: int | None, *locks: FileLockInfo, width: int = 91) -> list[str]:
    found = FileLocks("f", 1, 1, size, "ext4", False, locks, 0)
    return ["".join(text for text, _ in spans) for spans in lockbar.bar(found, width)]


def field(line: str) -> str:
    assert line[lockbar.MARGIN] == line[-1] == "|"
    return line[lockbar.MARGIN + 1 : -1]


def test_ranges_are_drawn_to_scale() -> None:
    """80 columns for 800 bytes."""
    held, ruler, legend = drawn(800, info(100, 300))
    assert field(held) == "-" * 10 + "#" * 13 + " 1 " + "#" * 14 + "-" * 40
    assert held.startswith("held ")
    for number in ("200", "400", "600"):
        assert ruler.index(number) - lockbar.MARGIN - 1 == int(number) // 10
    assert ruler.endswith("800")
    assert legend.split() == ["#", "exclusive"]


def test_rows_of_the_bar() -> None:
    rows = drawn(
        800, info(0, 400, mode="shared"), info(100, 400, mode="shared"), info(400, 0), info(0, 0, "waiting", "upgrade")
    )
    first, second, waiting, _, legend = rows
    assert field(first) == ("=" * 18 + " 1 " + "=" * 19) + ("#" * 18 + " 3 " + "#" * 19)
    assert field(second) == "-" * 10 + "=" * 18 + " 2 " + "=" * 19 + "-" * 30
    assert waiting.startswith("waiting  |#####")
    assert second.startswith(" ")
    assert legend.split() == ["#", "exclusive", "=", "shared"]


def test_small_ranges_have_a_column_and_their_number_beside_it() -> None:
    held, *_, legend = drawn(80_000, info(0, 1), info(1, 1), info(5000, 1), info(79_999, 1))
    assert field(held) == "+----" + "#3" + "-" * 72 + "#"
    assert "+ several in one column" in legend


@pytest.mark.parametrize("size", [0, 1, 3, 79, 80, 81, 10**6, 1 << 62, None])
@pytest.mark.parametrize("width", [0, 20, 40, 80, 81, 200])
def test_every_line_keeps_to_the_width(size: int | None, width: int) -> None:
    chance = random.Random(width)
    for _ in range(20):
        end = chance.choice([2, 10, 100, size or 1])
        locks = []
        for _ in range(chance.randrange(1, 12)):
            start = chance.randrange(end)
            locks.append(
                info(
                    start,
                    chance.choice([0, 1, end]),
                    chance.choice(["held", "waiting"]),
                    chance.choice(["shared", "x"]),
                )
            )
        bars = drawn(size, *locks, width=width)
        widest = max(width, lockbar.NARROWEST)
        assert all(len(line) <= widest or "several" in line for line in bars)
        assert {len(line) for line in bars if "|" in line} == {widest}
        for line in bars:
            if "|" in line:
                assert re.search(r"[#=+\d]", field(line))  # each row shows something


def test_where_the_file_ends() -> None:
    held, end, ruler, _ = drawn(100, info(400, 400))
    assert field(held).startswith("-" * 40 + "#")
    assert end.index("^") == lockbar.MARGIN + 1 + 10
    assert ruler.endswith("800")
    _, end, _, _ = drawn(700, info(400, 400))
    assert end.index("^") == lockbar.MARGIN + 1 + 70
    assert end.strip() == "the file ends here ^"
    empty = drawn(0, info(0, 0))
    assert field(empty[0]).startswith("####")


def test_rows_that_are_too_many() -> None:
    rows = drawn(800, *[info(0, 0, mode="shared") for _ in range(lockbar.LANES + 5)])
    assert sum("|" in line for line in rows) == lockbar.LANES
    assert "5 more rows" in "".join(rows)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1024, "1 KiB"), (1023 * 1024, "0.999 MiB"),
        (5 << 29, "2.5 GiB"), ((1 << 63) - 1, "8 EiB"),
    ],
)  # fmt: skip
def test_sizes_in_words(size: int, words: str) -> None:
    assert lockbar.size_in_words(size) == words


# ---- the command ---------------------------------------------------------------------------------------------------


def test_the_command(foreign: Callable[[str], Child], path: Path) -> None:
    process = foreign("ofd(file, fcntl.F_WRLCK, 100, 200)\nfcntl.flock(file, fcntl.LOCK_SH)\ndone()")
    done = cli(str(path))
    assert (done.returncode, done.stderr) == (0, "")
    out = done.stdout.splitlines()
    assert out[0] == f"{path}: 1000 bytes, 2 locks"
    assert "\x1b" not in done.stdout
    assert {len(line) for line in out if line.endswith("|")} == {80}
    at = next(i for i, line in enumerate(out) if line.startswith("#"))
    assert out[at].split() == ["#", "STATE", "MODE", "BYTES", "FOR", "KIND", "THREAD", "PROCESS"]
    assert out[at + 1].split()[:8] == ["1", "held", "shared", "0:", "-", "flock", "-", str(process.pid)]
    assert out[at + 2].split()[:8] == ["2", "held", "exclusive", "100:300", "-", "ofd", "-", str(process.pid)]
    found = json.loads(cli("--json", str(path)).stdout)
    assert (found["path"], found["size"], found["inode"], found["unseen"]) == (str(path), 1000, path.stat().st_ino, 0)
    flock, ofd = found["locks"]
    assert (ofd["state"], ofd["mode"], ofd["kind"], ofd["start"], ofd["stop"]) == ("held", "exclusive", "ofd", 100, 300)
    assert flock["stop"] is None
    assert [(p["pid"], p["tid"]) for p in flock["holders"]] == [(process.pid, None)]
    process.say()
    process.finish()
    assert cli(str(path)).stdout == f"{path}: 1000 bytes, no locks\n"


def test_who_holds_what_is_coloured_on_a_terminal(foreign: Callable[[str], Child], path: Path) -> None:
    pytest.importorskip("rich")
    foreign("ofd(file, fcntl.F_WRLCK, 100, 200)\ndone()")
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    master, slave = pty.openpty()
    code = "import sys; from syncx.cli import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "locks", str(path)],
        stdout=slave,
        stderr=slave,
        env={**environment, "TERM": "xterm"},
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other side has ended
        while data := os.read(master, 4096):
            shown += data
    os.close(master)
    assert process.wait(PATIENCE) == 0
    assert b"\x1b[31m" in shown  # red: exclusive


@pytest.mark.parametrize(
    ("arguments", "status"),
    [([], 2), ([""], 2), (["--watch", "0", "x"], 2), (["--watch", "never", "x"], 2), (["/no/such/file"], 1)],
)
def test_wrong_usage(arguments: list[str], status: int) -> None:
    done = cli(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert "syncx: " in done.stderr
    assert "Traceback" not in done.stderr


def test_no_such_arena(path: Path) -> None:
    done = cli("--arena", "no-such-arena", str(path))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "syncx: there is no arena 'no-such-arena'\n")


def test_watching(child: Start, path: Path) -> None:
    """Until Ctrl-C."""
    process = child(FOREIGN + "say()\nhear()\nofd(file, fcntl.F_WRLCK, 100, 200)\ndone()", PATH=str(path))
    process.hear()
    watch = subprocess.Popen(
        [sys.executable, "-m", "syncx", "locks", "--json", "--watch", "0.05", str(path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert watch.stdout is not None
        assert json.loads(watch.stdout.readline())["locks"] == []
        process.say()
        process.hear()
        seen = (json.loads(watch.stdout.readline())["locks"] for _ in range(1000))
        lock = next(locks[0] for locks in seen if locks)  # some lines are of the time before
        assert lock["holders"][0]["pid"] == process.pid
        watch.send_signal(signal.SIGINT)
        assert watch.wait(PATIENCE) == 130
    finally:
        watch.kill()
        watch.communicate(timeout=PATIENCE)


def test_what_is_watched_has_an_age_at_last() -> None:
    """Of foreign locks we know how long we have seen them."""
    watch = lockbar._Watch()
    one = FileLocks("f", 1, 1, 10, "ext4", False, (info(0, 1),), 0)
    assert watch.seen(one) == [0.0]
    two = FileLocks("f", 1, 1, 10, "ext4", False, (info(0, 1), info(5, 1)), 0)
    first, second = watch.seen(two)
    assert first > 0.0
    assert second == 0.0
    watch.seen(FileLocks("f", 1, 1, 10, "ext4", False, (), 0))
    assert watch.seen(one) == [0.0]


def test_the_command_says_what_it_could_not_see() -> None:
    nobody = FileLockInfo("held", "shared", "ofd", 0, 0, (), False, None, None)
    assert "3 processes" in lockbar._note(FileLocks("f", 1, 1, 10, "ext4", False, (nobody,), 3))
    assert lockbar._note(FileLocks("f", 1, 1, 10, "ext4", False, (info(0, 1),), 3)) == ""
    assert "nfs4" in lockbar._note(FileLocks("f", 1, 1, 10, "nfs4", True, (), 0))
