"""`syncx doctor`: what it finds, in this machine and in trees that show it others, what it mends and what it leaves."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing.shared_memory
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from support import PATIENCE, on_a_terminal, own_system_v

import syncx
from syncx import doctor, health, hidden, leftovers, machine
from syncx.findings import LEVELS, Finding, Tree, size

GOOD = machine.Probes(True, True, True, True)
COMMAND = [sys.executable, "-m", "syncx", "doctor"]


def run(*arguments, **options):
    """The command on given places: without any, it would look after other people's arenas."""
    assert any(not a.startswith("-") for a in arguments)
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, **options)


def look(*places, status=0, fix=False):
    """What is found in this process, which is quicker; arenas are not mended here, for that forks."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = doctor.main([str(p) for p in places], fix=fix, as_json=True)
    assert (code, err.getvalue()) == (status, ""), out.getvalue()
    return json.loads(out.getvalue())


def mend(place):
    """The same of the command with --fix, after which all is well."""
    done = run("--json", "--fix", str(place))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return json.loads(done.stdout)


def told(findings, level, pattern):
    """The only finding of that level whose text fits."""
    (one,) = [f for f in findings if f["level"] == level and re.search(pattern, f["text"])]
    return one


def patch(path, field, data):
    """Writes a field of the header."""
    boot = 80 + 16 * len(syncx.default_arena()._description()["regions"])  # see docs/reference/layout.md
    with open(path, "r+b") as f:
        f.seek({"boot_id": boot, "retired": boot + 16, "orphans": boot + 20}[field])
        f.write(data)


# ---- the machine -----------------------------------------------------------------------------------------------------

MOUNTS = "proc /proc proc rw 0 0\ntmpfs /dev/shm tmpfs rw,nosuid,nodev,noexec 0 0\nmqueue /dev/mqueue mqueue rw 0 0\n"
FILES = {
    "proc/sys/kernel/osrelease": "6.1.0-test\n",
    "proc/sys/kernel/random/boot_id": "1\n",
    "proc/sys/kernel/sem": "32000\t1024000000\t500\t10\n",
    "proc/sys/kernel/shmmni": "4\n",
    "proc/sys/kernel/shmmax": "8192\n",
    "proc/sys/kernel/shmall": "4\n",
    "proc/sys/kernel/msgmni": "5\n",
    "proc/sys/kernel/threads-max": "1000\n",
    "proc/sys/kernel/pid_max": "32768\n",
    "proc/sys/kernel/yama/ptrace_scope": "0\n",
    "proc/sys/fs/mqueue/queues_max": "256\n",
    "proc/sys/fs/mqueue/msg_max": "10\n",
    "proc/sys/fs/mqueue/msgsize_max": "8192\n",
    "proc/sys/fs/inotify/max_user_watches": "8192\n",
    "proc/sys/fs/inotify/max_user_instances": "128\n",
    "proc/self/mounts": MOUNTS,
    "proc/self/status": "Name:\tx\nSeccomp:\t0\n",
    "proc/locks": "1: POSIX  ADVISORY  WRITE 1 00:01:2 0 EOF\n",
    "proc/sysvipc/shm": "       key      shmid\n",
    "proc/sysvipc/sem": "       key      semid\n",
    "proc/sysvipc/msg": "       key      msqid\n",
    "sys/fs/cgroup/memory.max": "max\n",
}


@pytest.fixture
def tree(tmp_path):
    """Writes a tree in which all is well, but for what is given: text, or None for no such file."""

    def make(**changes):
        root = tmp_path / "root"
        for path, text in {**FILES, **changes}.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if text is not None:
                file.write_text(text)
        (root / "dev/shm").mkdir(parents=True, exist_ok=True)
        return Tree(str(root))

    return make


ROOM = {"f_flag": 0, "f_frsize": 4096, "f_blocks": 1 << 20, "f_bavail": 1 << 19, "f_files": 100, "f_favail": 50}


def statvfs_of(**changes):
    return lambda path: SimpleNamespace(**{**ROOM, **changes})


def no_limits(which):
    return resource.RLIM_INFINITY, resource.RLIM_INFINITY


def of_machine(tree, probes=GOOD, room=None, getrlimit=no_limits):
    findings = machine.machine(tree, probes, statvfs=statvfs_of(**(room or {})), getrlimit=getrlimit)
    return [f for f in findings if f.topic != "Python"]


def test_a_machine_on_which_all_is_well(tree):
    findings = of_machine(tree())
    assert [f for f in findings if f.level != "ok"] == []
    assert all(f.repair is None and not f.command for f in findings)
    text = "\n".join(f.text for f in findings)
    for words in (
        "Linux 6.1.0-test", "futex_waitv", "robust lists", "OFD locks", "pidfd",
        "tmpfs, 4 GiB, of which 2 GiB are free", "noexec, nosuid, nodev: no matter", "open files: no limit",
        "locked memory", "threads: 1,000", "1 held now",
        "0 of 4 shared memory segments, of 8 KiB each, 16 KiB together", "0 of 10 sets", "0 of 5 message queues",
        "256 of 10 messages of 8,192 bytes", "128 instances, 8,192 watches", "no sign of one",
    ):  # fmt: skip
        assert words in text, words


ILL = {
    "old kernel": ({}, {"probes": GOOD._replace(waitv=False)}, "note", "no futex_waitv"),
    "cannot be asked": ({}, {"probes": GOOD._replace(waitv=None)}, "note", "could not be asked"),
    "no robust lists": ({}, {"probes": GOOD._replace(robust=False)}, "warning", "no robust lists"),
    "no OFD locks": ({}, {"probes": GOOD._replace(ofd=False)}, "error", "no OFD locks"),
    "no pidfd": ({}, {"probes": GOOD._replace(pidfd=False)}, "note", "no pidfd"),
    "no boot id": ({"proc/sys/kernel/random/boot_id": None}, {}, "warning", "no boot id"),
    "not mounted": ({"proc/self/mounts": "proc /proc proc rw 0 0\n"}, {}, "warning", "no file system of its own"),
    "read-only": ({}, {"room": {"f_flag": os.ST_RDONLY}}, "error", "read-only"),
    "full": ({}, {"room": {"f_bavail": 10}}, "error", "it is full"),
    "nearly full": ({}, {"room": {"f_bavail": 1000}}, "warning", "soon no arena can grow"),
    "no inodes": ({}, {"room": {"f_favail": 0}}, "error", "no file more"),
    "few descriptors": ({}, {"few": resource.RLIMIT_NOFILE}, "warning", "open files: 100;"),
    "few addresses": ({}, {"few": resource.RLIMIT_AS}, "error", "addresses: 100 bytes"),
    "short files": ({}, {"few": resource.RLIMIT_FSIZE}, "error", "bytes of a file: 100 bytes"),
    "System V full": ({"proc/sysvipc/shm": "key shmid\n1 1\n2 2\n3 3\n4 4\n"}, {}, "warning", "4 of 4 shared memory"),
    "many locks": ({"proc/locks": "1: x\n" * 6000}, {}, "note", "6,000 held now"),
    "hidepid": ({"proc/self/mounts": MOUNTS.replace("proc rw", "proc rw,hidepid=2", 1)}, {}, "note", "hidepid=2"),
    "ptrace": ({"proc/sys/kernel/yama/ptrace_scope": "1\n"}, {}, "note", "ptrace_scope is 1"),
    "seccomp": ({"proc/self/status": "Seccomp:\t2\n"}, {}, "ok", "a seccomp filter"),
    "cgroup": ({"sys/fs/cgroup/memory.max": "1073741824\n"}, {}, "ok", "1 GiB of memory"),
    "docker": ({".dockerenv": ""}, {}, "note", "/.dockerenv"),
    "namespaces": ({"proc/self/ns/pid": "", "proc/self/ns/ipc": ""}, {}, "note", "PID namespace of its own"),
}


@pytest.mark.parametrize("case", ILL)
def test_what_ails_a_machine(tree, case):
    changes, options, level, words = ILL[case]
    few = options.get("few")
    if few is not None:
        options = {"getrlimit": lambda which: (100, 200) if which == few else no_limits(which)}
    findings = of_machine(tree(**changes), **options)
    hits = [f for f in findings if words in f.text]
    assert [f.level for f in hits] == [level], findings
    others = [f for f in findings if f not in hits and f.level != "ok"]
    assert [f.topic for f in others] == (["container"] if case == "namespaces" else []), others


def test_numbers_that_are_none(tree):
    """Files of /proc that are missing, empty or say something else: passed over."""
    for text in (None, "", "what\n", "-1\n"):
        made = tree(**{path: text for path in FILES if text is not None or path != "proc/self/mounts"})
        assert all(f.level in LEVELS for f in of_machine(made))


def test_this_machine():
    probes = machine.probe()
    assert probes.ofd is True  # or nothing here would run
    assert machine.ARENA_SIZE / 2 < os.stat(syncx.default_arena().path).st_size < machine.ARENA_SIZE * 2
    findings = list(machine.machine(Tree(), probes))
    assert {f.topic for f in findings} == {"kernel", "/dev/shm", "limits", "Python", "container"}
    assert [f.text for f in findings if f.topic == "Python" and f.level == "error"] == []


def test_a_core_of_another_version(monkeypatch, tmp_path):
    (tmp_path / "_core.pyi").write_text("MAX_NAME: Final[int]\nOTHER: Final[int]\ndef size_of(a: int) -> int: ...\n")
    monkeypatch.setattr(machine._core, "__file__", str(tmp_path / os.path.basename(machine._core.__file__)))
    (wrong,) = [f for f in machine.python() if f.level == "error"]
    assert "lacks OTHER" in wrong.text


def test_sizes():
    assert [size(n) for n in (0, 1023, 1024, 1536, 20 << 20, 3 << 40, 1 << 60)] == [
        "0 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "20 MiB", "3 TiB", "1048576 TiB",
    ]  # fmt: skip


# ---- leftovers of others, in a tree ----------------------------------------------------------------------------------


def of_leftovers(tree, user=0, **options):
    return [f for f in leftovers.leftovers(tree, user=user, now=time.time() + 3600, **options) if f.level != "ok"]


def process(tree, pid, *, maps=(), fds=()):
    """A process in a tree: the files it maps and those it has open."""
    directory = tree.at(f"/proc/{pid}")
    os.makedirs(f"{directory}/fd")
    with open(f"{directory}/maps", "w") as f:
        f.write("00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/x y\n7ffd-7ffe rw-p 00000000 00:00 0 [stack]\n")
        for path in maps:
            st = os.stat(path)
            device = f"{os.major(st.st_dev):02x}:{os.minor(st.st_dev):02x}"
            f.write(f"7f00-7f01 rw-s 00000000 {device} {st.st_ino}    {path}\n")
    for number, path in enumerate(fds):
        os.symlink(path, f"{directory}/fd/{number}")
    os.symlink("socket:[1]", f"{directory}/fd/99")


def test_posix_shared_memory_and_semaphores(tree):
    made = tree()
    shm = made.at("/dev/shm")
    for name in ("mapped", "open", "left over", "sem.left", "sem.mapped", "syncx-0-an-arena"):
        with open(f"{shm}/{name}", "wb") as f:
            f.write(bytes(2048))
    os.mkdir(f"{shm}/directory")
    process(made, 10, maps=[f"{shm}/mapped"])
    process(made, 11, maps=[f"{shm}/sem.mapped"], fds=[f"{shm}/open"])
    findings = of_leftovers(made)
    assert [f.text.partition(":")[0] for f in findings] == ["shared memory /left over, 2 KiB", "semaphore /left"]
    assert [f.command for f in findings] == ["rm '/dev/shm/left over'", "rm /dev/shm/sem.left"]
    assert {f.level for f in findings} == {"warning"}
    assert all("60 min" in f.text for f in findings)
    assert all(f.repair is None for f in findings)
    assert os.path.exists(f"{shm}/left over")
    assert of_leftovers(made, user=os.geteuid() + 1) == []  # another user's


def test_processes_that_may_not_be_looked_into_make_it_doubtful(tree, monkeypatch):
    made = tree()
    with open(made.at("/dev/shm/x"), "wb"):
        pass
    process(made, 10)
    process(made, 11)
    real = leftovers._mapped

    def closed(tree, pid, inodes):
        if pid == "10":
            raise PermissionError
        return real(tree, pid, inodes)

    monkeypatch.setattr(leftovers, "_mapped", closed)
    for stat, level, words in (("10 (x) S 1", "note", "(1 could not be looked into)"), ("10 (x) Z 1", "warning", ":")):
        with open(made.at("/proc/10/stat"), "w") as f:
            f.write(stat)
        (one,) = of_leftovers(made)
        assert one.level == level
        assert words in one.text


def test_posix_message_queues(tree):
    made = tree()
    os.makedirs(made.at("/dev/mqueue"))
    for name, text in (("used", "QSIZE:0"), ("left", "QSIZE:129        NOTIFY:0"), ("empty", "QSIZE:0 NOTIFY:0")):
        with open(made.at(f"/dev/mqueue/{name}"), "w") as f:
            f.write(text + "\n")
    process(made, 10, fds=[made.at("/dev/mqueue/used")])
    empty, left = of_leftovers(made)
    assert "message queue /empty: no" in empty.text
    assert "message queue /left, with 129 bytes unread" in left.text
    assert (left.level, left.command) == ("warning", "rm /dev/mqueue/left")
    unmounted = tree(**{"proc/self/mounts": ""})
    assert of_leftovers(unmounted) == []
    assert any("not mounted" in f.text for f in leftovers.leftovers(unmounted))


SHM = """       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime
         0          1  1600                 4096    50    50      0     0     0     0     0          0
         0          2   600                 4096    50    51      0     0     0     0     0          0
         0          3   600                 4096    10    51      0     0     0     0     0          0
         0          4   600                 4096    50    10      0     0     0     0     0          0
-559038737          5   600                 4096    50     0      0  1000     0     0     0          0
         0          6   600                 4096    50    50      1     0     0     0     0          0
         0          7   600                 4096     0     0      0     0     0     0     0          0
nonsense
"""
SEM = """       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime
         1         20   600          2     0     0     0     0          0          0
         2         21   600          1     0     0     0     0          0          0
         3         22   600          1     0     0     0     0          0          0
         4         23   600          1     0     0     0     0          0          0
"""
MSG = """       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime
         1         30   600          10          2    50     0     0     0     0     0          0
         2         31   600           0          0    50    10     0     0     0     0          0
         3         32   600           0          0     0     0     0     0     0     0          0
"""


def test_system_v(tree):
    made = tree(**{"proc/sysvipc/shm": SHM, "proc/sysvipc/sem": SEM, "proc/sysvipc/msg": MSG})
    process(made, 10)
    sets = {20: {50, 51}, 21: {10, 50}, 22: None, 23: set()}
    findings = of_leftovers(made, last_users=lambda number, n: sets[number])
    commands = {f.command: f for f in findings}
    assert set(commands) == {f"ipcrm {what}" for what in ("-m 1", "-m 2", "-m 5", "-s 20", "-q 30")}
    assert "key 0xdeadbeef, 4 KiB of user 1000" in commands["ipcrm -m 5"].text
    assert "processes 50, 51" in commands["ipcrm -m 2"].text
    assert "2 messages unread" in commands["ipcrm -q 30"].text
    assert [f.level for f in findings] == ["warning"] * 3 + ["note"] * 2
    assert [f.command for f in of_leftovers(made, user=1000)] == ["ipcrm -m 5"]
    assert all(f.repair is None for f in findings)


# ---- leftovers of others, in this machine ----------------------------------------------------------------------------

SHARED = """
    from multiprocessing import resource_tracker
    shm = SharedMemory(name, create=True, size=5000)
    resource_tracker.unregister(shm._name, "shared_memory")
    say(); hear()
    """


def test_shared_memory_of_a_killed_process(child):
    name = f"{multiprocessing.shared_memory._SHM_NAME_PREFIX[1:]}-doctor"
    c = child(SHARED, name=name)
    c.hear()

    def about():
        return [f for f in leftovers.leftovers(Tree()) if f" /{name}," in f.text]

    assert about() == []
    c.kill()
    (left,) = about()
    assert left.level in ("warning", "note")  # in a container others may have it
    assert os.path.exists(f"/dev/shm/{name}")
    subprocess.run(left.command, shell=True, check=True)
    assert about() == []


SYSTEM_V = """
    import ctypes
    libc = ctypes.CDLL(None)
    m = libc.shmget(0, 4096, 0o1600)
    s = libc.semget(0, 2, 0o1600)
    libc.semctl(s, 0, 16, 3)  # SETVAL
    q = libc.msgget(0, 0o1600)
    message = ctypes.create_string_buffer(b"\\1" + bytes(7) + b"hello")
    libc.msgsnd(q, message, 5, 0)
    say([m, s, q]); hear()
    """


@pytest.mark.skipif(shutil.which("ipcrm") is None, reason="no ipcrm here")
def test_system_v_objects_of_a_killed_process(child):
    if not own_system_v():
        pytest.skip("no System V namespace of its own is allowed here, and what is made would be left to others")
    c = child(SYSTEM_V)
    ids = c.hear()
    commands = [f"ipcrm -{kind} {number}" for kind, number in zip("msq", ids, strict=True)]

    def about():
        return [f.command for f in leftovers.leftovers(Tree()) if f.command in commands]

    assert about() == []
    c.kill()
    assert about() == commands
    for command in about():
        subprocess.run(command, shell=True, check=True)
    assert about() == []


# ---- arenas ----------------------------------------------------------------------------------------------------------

KILLED = """
    m = syncx.Mutex("jobs", arena=arena); m.acquire()
    nameless = syncx.Mutex(arena=arena)
    say(); hear()
    """


def test_an_arena_in_good_health(arena, child):
    c = child("m = syncx.Mutex('m', arena=arena); m.acquire(); say(); hear()")
    c.hear()
    findings = look(arena.path)["findings"]
    assert {f["level"] for f in findings} == {"ok"}
    summary = told(findings, "ok", "^whole")
    assert re.search(r"2 processes of 4,096, \d+ threads? of 4,096; 1 object, 1 with a name;", summary["text"])
    assert not any(f["fixable"] for f in findings)
    assert not summary["command"]


@pytest.mark.death
def test_a_killed_process_is_told_and_cleared_up(arena, child):
    c = child(KILLED)
    c.hear()
    c.kill()
    before = look(arena.path, status=3)
    assert before["worst"] == "warning"
    warning = told(before["findings"], "warning", rf"1 process died without leaving \({c.pid}\)")
    assert warning["fixable"]
    assert warning["done"] is None
    note = told(before["findings"], "note", rf"Mutex 'jobs': its holder, process {c.pid}, died")
    assert not note["fixable"]
    mended = mend(arena.path)
    assert mended["worst"] == "note"
    assert mended["fixed"] == 1
    assert told(mended["findings"], "warning", "died")["done"] == "cleared up after 1 process"
    seen = syncx.snapshot(arena.path)
    assert [p.pid for p in seen.processes] == [os.getpid()]
    assert [o.name for o in seen.objects] == ["jobs"]  # the nameless one went with its process
    again = mend(arena.path)
    assert again["fixed"] == 0
    # what the dead one held comes with its mark all the same
    with syncx.Mutex("jobs", arena=arena) as m:
        assert m.owner_died


@pytest.mark.core
@pytest.mark.death
def test_an_abandoned_arena_is_removed_and_one_in_use_is_not(arena, child):
    name = f"{arena.name}-abandoned"
    code = "a = syncx.Arena(name); m = syncx.Mutex(arena=a); say(a.path); hear()"
    killed, living = child(code, name=name), child(code, name=name)
    path = killed.hear()
    living.hear()
    killed.kill()
    in_use = mend(name)
    assert told(in_use["findings"], "warning", "died without leaving")["done"]
    assert os.path.exists(path)
    living.kill()
    assert told(look(name, status=3)["findings"], "warning", "abandoned")["fixable"]
    assert told(mend(name)["findings"], "warning", "abandoned")["done"] == "removed"
    assert not os.path.exists(path)
    again = mend(name)
    assert told(again["findings"], "ok", "there is none")


@pytest.mark.core
@pytest.mark.death
def test_an_unlinking_that_was_cut_short_is_finished(arena, child):
    name = f"{arena.name}-retired"
    c = child("a = syncx.Arena(name); m = syncx.Mutex('m', arena=a); say(a.path); hear()", name=name)
    path = c.hear()
    patch(path, "retired", b"\1")
    c.kill()
    told(look(name, status=3)["findings"], "warning", "it was unlinked")
    assert told(mend(name)["findings"], "warning", "it was unlinked")["done"] == "removed"
    assert not os.path.exists(path)


@pytest.mark.core
@pytest.mark.death
def test_a_machine_that_was_started_anew(arena, child, tmp_path):
    path = str(tmp_path / "arena")
    c = child("a = syncx.Arena(path); m = syncx.Mutex('m', arena=a); m.acquire(); say(); hear()", path=path)
    c.hear()
    c.kill()
    patch(path, "boot_id", bytes(16))
    told(look(path)["findings"], "note", "started anew")
    assert told(mend(path)["findings"], "note", "started anew")["done"] == "cleared up after 1 process"
    assert not any("anew" in f["text"] for f in look(path)["findings"])


def test_objects_that_wait_to_be_collected(arena):
    patch(arena.path, "orphans", b"\1")
    assert {f["level"] for f in look(arena.path)["findings"]} == {"ok"}  # there is none
    nameless = syncx.Mutex(arena=arena)
    patch(arena.path, "orphans", b"\1")
    assert told(look(arena.path)["findings"], "note", "left while others were busy")["fixable"]
    arena.collect()
    assert {f["level"] for f in look(arena.path)["findings"]} == {"ok"}
    nameless.close()


@pytest.mark.core
@pytest.mark.death
def test_many_doctors_at_once(arena, child):
    first = child(KILLED)
    first.hear()
    second = child(KILLED.replace("jobs", "others"))
    first.kill()
    second.kill()  # wherever it is, attaching perhaps
    doctors = [subprocess.Popen([*COMMAND, "--fix", arena.path], stdout=-1, stderr=-1) for _ in range(3)]
    for d in doctors:
        out, err = d.communicate(timeout=PATIENCE)
        assert (d.returncode, err) == (0, b""), out
    assert [p.pid for p in syncx.snapshot(arena.path).processes] == [os.getpid()]


@pytest.mark.core
def test_mending_does_not_wait_for_ever(arena, child):
    c = child(
        """
        from syncx import health
        health.PATIENCE = 0.2
        def stuck(path):
            signal.pause()
        def killed(path):
            os.kill(os.getpid(), 9)
        def wrong(path):
            raise OSError(28, "no room")
        for work in (stuck, killed, wrong):
            try:
                health.in_child(arena.path, work)
            except syncx.ArenaError as e:
                say(str(e))
        say(health.in_child(arena.path, os.path.basename))
        """
    )
    assert "given up after 0.2 s" in c.hear()
    assert "status -9" in c.hear()
    assert "no room" in c.hear()
    assert c.hear() == os.path.basename(arena.path)
    c.finish()


OF_ANOTHER = """
    pid = os.fork()
    if pid == 0:
        os.setgroups([]); os.setresgid(54321, 54321, 54321); os.setresuid(54321, 54321, 54321)
        a = syncx.Arena(name); m = syncx.Mutex("m", arena=a); m.acquire()
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    """


@pytest.mark.core
@pytest.mark.death
@pytest.mark.skipif(os.geteuid() != 0, reason="only root looks after others' arenas")
def test_root_mends_the_arena_of_another_user(arena, child):
    path = f"/dev/shm/syncx-54321-{arena.name}"
    try:
        child(OF_ANOTHER, name=arena.name).finish()
        assert path in health.arenas_of(0)
        assert path not in health.arenas_of(os.getpid() + 100000)
        told(look(path, status=3)["findings"], "warning", "died without leaving")
        assert told(mend(path)["findings"], "warning", "died")["done"] == "cleared up after 1 process"
        assert os.stat(path).st_uid == 54321
        os.chown(path, 54322, 54322)
        wrong = told(look(path, status=3)["findings"], "error", "belongs to user 54322, and the name to user 54321")
        assert wrong["command"] == f"rm {path}"
    finally:
        os.unlink(path)


def test_crowds_and_long_waits(arena, monkeypatch):
    import threading

    lock, broken = syncx.Mutex("crowded", arena=arena), syncx.Barrier(2, name="b", arena=arena)
    broken.abort()
    with lock:
        threads = [threading.Thread(target=lambda: lock.acquire() and lock.release()) for _ in range(3)]
        for t in threads:
            t.start()
        monkeypatch.setattr(health, "MANY_WAITERS", 3)
        monkeypatch.setattr(health, "LONG", 0.0)
        texts: list[str] = []
        end = time.monotonic() + PATIENCE
        while not any("3 threads waiting" in t for t in texts) or not any("has waited for Mutex" in t for t in texts):
            assert time.monotonic() < end, texts
            texts = [f.text for f in health.examine(arena.path) if f.level == "note"]
        assert any("Barrier 'b' is broken" in t for t in texts)
    for t in threads:
        t.join(PATIENCE)


def test_an_arena_that_is_nearly_full(arena, monkeypatch):
    locks = [syncx.Mutex(arena=arena) for _ in range(2)]
    for bytes_, level in ((512, "warning"), (300, "error")):
        monkeypatch.setattr(health, "CELL_BYTES", bytes_ * syncx.snapshot(arena).counters.cell_bytes // 400)
        (one,) = [f for f in health.examine(arena.path) if "room" in f.text]
        assert one.level == level
    assert locks


# ---- hidden files ----------------------------------------------------------------------------------------------------


def test_a_killed_update_leaves_what_is_taken_away(child, tmp_path):
    path = tmp_path / "state"
    first = tmp_path / ".state.syncx-create"
    c = child("u = syncx.update(path); f = u.__enter__(); f.write('new'); f.flush(); say(); hear()", path=str(path))
    c.hear()
    assert told(look(f"{tmp_path}/")["findings"], "ok", "an update.. is at work")
    assert told(look(path, fix=True)["findings"], "ok", "an update.. is at work")
    assert first.exists()
    c.kill()
    assert told(look(f"{tmp_path}/", status=3)["findings"], "warning", "update.. of state was killed")["fixable"]
    assert told(look(path, fix=True)["findings"], "warning", "killed")["done"] == f"removed {first}"
    assert not first.exists()
    assert told(look(f"{tmp_path}/", fix=True)["findings"], "ok", "nothing left behind")


def test_the_other_hidden_file_belongs_to_who_holds_the_path(tmp_path):
    path, left = tmp_path / "x", tmp_path / ".x.syncx-update"
    path.write_text("old")
    left.write_text("new")
    with syncx.FileLock(path):
        (busy,) = hidden.inside(str(tmp_path))
        assert busy.level == "ok"
    with syncx.FileLock(left):
        (busy,) = hidden.beside(str(path))
        assert busy.level == "ok"
    (one,) = hidden.inside(str(tmp_path))
    assert one.repair is not None
    with syncx.FileLock(path):
        with pytest.raises(syncx.SyncxError, match="locked"):
            one.repair()
    assert left.exists()
    assert one.repair() == f"removed {left}"
    assert one.repair() == ""  # gone by now
    assert path.read_text() == "old"


@pytest.mark.core
def test_names_too_long_for_their_hidden_file(tmp_path):
    path = tmp_path / ("n" * 250)
    path.write_text("old")
    left = tmp_path / hidden._hidden(path.name, "update", 255)
    left.write_text("")
    for findings in (hidden.inside(str(tmp_path)), hidden.beside(str(path))):
        (one,) = findings
        assert f"of {path.name} was killed" in one.text
    with syncx.FileLock(path):
        assert [f.level for f in hidden.inside(str(tmp_path))] == ["ok"]


def test_lock_files_of_the_dead(tmp_path):
    import socket

    gone = subprocess.Popen(["true"])
    gone.wait()
    for name, text in {
        "dead.lock": f"{gone.pid}\n", "dead.pid": f"{gone.pid}\n{socket.gethostname()}\n",
        "LCK..tty": f"    {gone.pid}\n", "living.lock": f"{os.getpid()}\n",
        "elsewhere.lock": f"{gone.pid}\nanother-host\n", "empty.lock": "",
        "words.lock": "held by me\n", "dead.txt": f"{gone.pid}\n",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text)
    os.mkfifo(tmp_path / "fifo.lock")
    findings = list(hidden.inside(str(tmp_path)))
    assert [f.command.rpartition("/")[2] for f in findings] == ["LCK..tty", "dead.lock", "dead.pid"]
    assert {f.level for f in findings} == {"note"}


def test_hidden_files_that_may_not_be_looked_into(tmp_path, monkeypatch):
    left = tmp_path / ".x.syncx-create"
    left.write_text("")

    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(hidden, "_lock", closed)
    (one,) = hidden.inside(str(tmp_path))
    assert (one.level, one.repair) == ("note", None)
    assert list(hidden.beside(str(tmp_path / "y"))) == []  # it is not there, whatever is closed to us
    monkeypatch.setattr(os, "lstat", closed)  # a directory that is closed to us
    with pytest.raises(PermissionError):
        list(hidden.inside(str(tmp_path)))


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_what_cannot_be_looked_at(tmp_path):
    done = run(f"{tmp_path}/nothing", "/dev/null/x", "no-such-arena-of-the-tests")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"syncx: there is no file or arena '{tmp_path}/nothing'",
        "syncx: /dev/null/x: Not a directory",
    ]
    assert "there is none" in done.stdout


@pytest.mark.core
def test_plain_lines_and_a_terminal_of_80_columns(arena, tmp_path):
    (tmp_path / ".some-rather-long-name-of-a-file.syncx-create").write_text("")
    done = run(str(tmp_path) + "/", arena.path)
    assert done.returncode == 3
    for line in done.stdout.splitlines():
        assert re.match(r"(ok      |warning ) \S.*: ", line), line
    shown = on_a_terminal("doctor", str(tmp_path) + "/", status=3)
    assert "\x1b[33mwarning" in shown
    lines = re.sub(r"\x1b\[\d*m", "", shown).replace("\r", "").splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert len(lines) > 1
    assert all(line.startswith("         ") for line in lines[1:])


def test_a_look_at_everything_changes_nothing(arena, capsys):
    """The whole machine as it is, whatever others are doing on it: no traceback, and all parts are there."""
    assert doctor.main(as_json=True) in (0, 3)
    plain = json.loads(capsys.readouterr().out)
    topics = {f["topic"].partition(" ")[0] for f in plain["findings"]}
    assert {"kernel", "/dev/shm", "limits", "Python", "container", "arena", "POSIX", "System"} <= topics
    assert plain["fixed"] == 0
    assert any(f["topic"] == f"arena {arena.name}" for f in plain["findings"])


def test_no_proc(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(doctor, "Tree", lambda: Tree(str(tmp_path)))
    assert doctor.main() == 1
    assert "/proc is not mounted" in capsys.readouterr().err


def test_what_cannot_be_mended_stays(monkeypatch, capsys):
    def no_room():
        raise OSError(28, "no room")

    def by_itself():
        raise FileNotFoundError(2, "gone")

    findings = [
        Finding("warning", "a", "x", repair=no_room),
        Finding("error", "b", "y", repair=by_itself),
        Finding("error", "c", "z", repair=lambda: ""),
    ]
    monkeypatch.setattr(doctor, "_look", lambda places, blind: iter(findings))
    assert doctor.main(fix=True) == 3
    assert capsys.readouterr().out.splitlines() == [
        "warning  a: x; it could not be mended: [Errno 28] no room",
        "fixed    b: y: gone by itself",
        "fixed    c: z: nothing to do any more",
    ]
    assert doctor.main() == 3
