"""`syncx ls`, `rm`, `completion`, and what all commands have in common."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE, Child, until_waiting

import syncx

Start = Callable[..., Child]


def cli(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `syncx` with these arguments to its end."""
    options = {"capture_output": True, "text": True, "timeout": PATIENCE, **options}
    return subprocess.run([sys.executable, "-m", "syncx", *arguments], **options)


def listed(arena: syncx.Arena, *more: str) -> list[dict[str, Any]]:
    done = cli("ls", "--json", "--arena", arena.path, *more)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert isinstance(rows, list)
    return rows


def names(arena: syncx.Arena) -> set[str | None]:
    return {o.name for o in arena.objects()}


HOLD = """
lock = syncx.Mutex("jobs", arena=arena)
with lock:
    say("inside")
    hear()
"""
WAIT = """
lock = syncx.Mutex("jobs", arena=arena)
say("at the door")
with lock:
    pass
"""


def hidden(tmp_path: Path, *modules: str) -> dict[str, str]:
    """An environment in which these modules are not installed."""
    for module in modules:
        (tmp_path / f"{module}.py").write_text("raise ImportError('hidden by the test')\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


# ---- common to all -------------------------------------------------------------------------------------------------


def test_version_and_help() -> None:
    assert cli("--version").stdout == f"syncx {syncx.__version__}\n"
    for command in ([], ["demo"], ["run"], ["ls"], ["locks"], ["rm"], ["completion"]):
        done = cli(*command, "--help")
        assert done.returncode == 0
        assert "example" in done.stdout
    assert "75" in cli("run", "--help").stdout


def test_imports_are_lazy() -> None:
    heavy = {"argparse", "rich", "shtab", "multiprocessing", "tempfile", "json", "logging"}
    heavy |= {"syncx.demo", "syncx.run", "syncx.lockinfo"}
    code = "import sys, syncx; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout == "[]\n", done.stderr
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "syncx", "--help"], capture_output=True, text=True, timeout=PATIENCE
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "syncx.cli" in imported
    assert not imported & {"rich", "shtab", "multiprocessing", "tempfile", "json", "syncx.demo", "syncx.run"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        [],
        ["rm"],
        ["rm", "--all", "name"],
        ["rm", "/name"],
        ["rm", ""],
        ["rm", "a" * 256],
        ["ls", "--arena", "/"],
        ["ls", "--arena", "a\nb"],
        ["demo", "--workers", "2"],
        ["demo", "--workers", "many"],
        ["completion", "fish"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "syncx: " in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["ls"], ["rm", "name"], ["rm", "--all"]])
def test_what_is_no_arena(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "letter"
    path.write_text("Dear Sir or Madam")
    done = cli(*command, env={**os.environ, "SYNCX_ARENA": str(path)})
    assert done.returncode == 1
    assert done.stderr.startswith("syncx: ")
    assert "not a syncx arena" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_text() == "Dear Sir or Madam"


def test_nobody_reads(arena: syncx.Arena) -> None:
    locks = [syncx.Mutex(f"lock {i}", arena=arena) for i in range(300)]
    reader, writer = os.pipe()
    os.close(reader)
    done = cli("ls", "--json", "--arena", arena.path, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 128 + signal.SIGPIPE
    assert done.stderr == ""
    del locks


# ---- ls ------------------------------------------------------------------------------------------------------------


def test_ls_tells_who_holds_and_who_waits(arena: syncx.Arena, child: Start) -> None:
    holder = child(HOLD)
    assert holder.hear() == "inside"
    waiter = child(WAIT)
    assert waiter.hear() == "at the door"
    until_waiting(arena)
    idle = syncx.RLock("idle", arena=arena)
    jobs, other = listed(arena)[1], listed(arena)[0]
    assert (jobs["name"], jobs["kind"], jobs["owner_died"]) == ("jobs", "Mutex", False)
    assert jobs["holder"]["pid"] == holder.pid
    assert jobs["holder"]["tid"] == holder.pid
    assert sys.executable in jobs["holder"]["command"]
    assert [w["pid"] for w in jobs["waiters"]] == [waiter.pid]
    assert 0 < jobs["longest_wait"] <= PATIENCE
    assert 0 <= jobs["age"] < 60
    assert (other["name"], other["kind"], other["holder"], other["waiters"]) == ("idle", "RLock", None, [])

    lines = cli("ls", "--arena", arena.path).stdout.splitlines()
    assert lines[0].split() == ["NAME", "KIND", "STATE", "WAITING", "AGE", "HOLDERS"]
    row = next(line for line in lines if line.startswith("jobs"))
    assert row.split()[:4] == ["jobs", "Mutex", "locked", "1,"]
    assert row.index(f"{holder.pid} {sys.executable}") == lines[0].index("HOLDERS")  # aligned
    assert "\x1b" not in "".join(lines)
    assert cli("ls", "-q", "--arena", arena.path).stdout == "idle\njobs\n"
    holder.say()
    holder.finish()
    waiter.finish()
    idle.close()


@pytest.mark.death
def test_ls_tells_that_an_owner_died(arena: syncx.Arena, child: Start) -> None:
    holder = child(HOLD)
    holder.hear()
    holder.kill()
    (row,) = listed(arena)
    assert row["holder"] is None
    assert row["owner_died"] is True
    assert row["recoveries"] == 0
    assert row["state"] == "owner died"
    assert cli("ls", "--arena", arena.path).stdout.splitlines()[1].split()[2:5] == ["owner", "died", "-"]
    with syncx.Mutex("jobs", arena=arena) as lock:
        assert lock.owner_died
    (row,) = listed(arena)
    assert row["owner_died"] is False
    assert row["recoveries"] == 1


STATES = [
    ("Mutex", 'it = syncx.Mutex("it", arena=arena)', "free", [0, None, []]),
    ("Mutex", 'it = syncx.Mutex("it", arena=arena)\nit.acquire()', "locked", [0, None, ["exclusive"]]),
    ("RLock", 'it = syncx.RLock("it", arena=arena)\nit.acquire()\nit.acquire()', "locked", [0, None, ["exclusive"]]),
    ("Semaphore", 'it = syncx.Semaphore(3, name="it", arena=arena)\nit.acquire()', "2 free", [3, 2, []]),
    (
        "BoundedSemaphore",
        'it = syncx.BoundedSemaphore(4, name="it", arena=arena)\nit.acquire(n=3)',
        "1 of 4 free",
        [4, 1, ["exclusive"]],
    ),
    ("BoundedSemaphore", 'it = syncx.BinarySemaphore("it", arena=arena)', "1 of 1 free", [1, 1, []]),
    ("Event", 'it = syncx.Event("it", arena=arena)', "not set", [0, 0, []]),
    ("Event", 'it = syncx.Event("it", arena=arena)\nit.set()', "set", [0, 1, []]),
    ("Latch", 'it = syncx.Latch(3, name="it", arena=arena)\nit.count_down()', "2 of 3 to go", [3, 2, []]),
    ("Latch", 'it = syncx.Latch(1, name="it", arena=arena)\nit.count_down()', "open", [1, 0, []]),
    ("Once", 'it = syncx.Once("it", arena=arena)', "not done", [0, 0, []]),
    (
        "Once",
        'it = syncx.Once("it", arena=arena)\nit.run(lambda: (say(), hear()))',
        "running",
        [0, 0, ["exclusive"]],
    ),
    ("Once", 'it = syncx.Once("it", arena=arena)\nit.run(int)', "done", [0, 1, []]),
    ("Condition", 'it = syncx.Condition(name="it", arena=arena)', "free", [0, None, []]),
    ("Condition", 'it = syncx.Condition(name="it", arena=arena)\nit.acquire()', "locked", [0, None, ["exclusive"]]),
    ("Barrier", 'it = syncx.Barrier(3, name="it", arena=arena)', "0 of 3 waiting", [3, 0, []]),
    ("Barrier", 'it = syncx.Barrier(3, name="it", arena=arena)\nit.abort()', "broken", [3, None, []]),
    (
        "Barrier",
        'it = syncx.Barrier(3, name="it", arena=arena)\nit.enroll()\n'
        "threading.Thread(target=it.wait, daemon=True).start()\n"
        "while it.n_waiting == 0: time.sleep(0.001)",
        "1 of 3 waiting",
        [3, 1, ["exclusive"]],
    ),
    ("RWLock", 'it = syncx.RWLock("it", arena=arena)', "free", [0, None, []]),
    ("RWLock", 'it = syncx.RWLock("it", arena=arena)\nit.read().acquire()', "1 reader", [0, None, ["shared"]]),
    ("RWLock", 'it = syncx.RWLock("it", arena=arena)\nit.write().acquire()', "writer", [0, None, ["exclusive"]]),
    (
        "RWLock",
        'it = syncx.RWLock("it", arena=arena)\nit.upgradable().acquire()\n'
        "t = threading.Thread(target=lambda: (it.read().acquire(), say(), hear()))\nt.start()\nt.join()",
        "2 readers",
        [0, None, ["shared", "upgradable"]],
    ),
]


@pytest.mark.parametrize(("kind", "code", "state", "expected"), STATES)
def test_ls_knows_every_kind(
    arena: syncx.Arena, child: Start, kind: str, code: str, state: str, expected: list[Any]
) -> None:
    process = child(code + "\nsay()\nhear()")
    process.hear()
    (row,) = listed(arena)
    assert (row["name"], row["kind"], row["state"]) == ("it", kind, state)
    parameter, value, modes = expected
    assert (row["parameter"], row["value"]) == (parameter, value)
    assert sorted(h["mode"] for h in row["holders"]) == modes
    assert {h["pid"] for h in row["holders"]} <= {process.pid}
    assert row["holder"] == ({k: row["holders"][0][k] for k in ("pid", "tid", "command")} if modes else None)
    line = cli("ls", "--arena", arena.path).stdout.splitlines()[1]
    assert f" {state} " in line
    assert (f" {process.pid} " in line) is bool(modes)
    process.kill()


def test_ls_tells_of_all_holders(arena: syncx.Arena, child: Start) -> None:
    code = """
    it = syncx.BoundedSemaphore(5, name="it", arena=arena)
    it.acquire(n=n)
    say()
    hear()
    """
    two, one = child(code, n=2), child(code, n=1)
    for process in (two, one):
        process.hear()
    waiter = child('syncx.BoundedSemaphore(name="it", arena=arena).acquire(n=3)')
    until_waiting(arena)
    (row,) = listed(arena)
    assert {h["pid"]: h["count"] for h in row["holders"]} == {two.pid: 2, one.pid: 1}
    assert all(sys.executable in h["command"] for h in row["holders"])
    assert [w["pid"] for w in row["waiters"]] == [waiter.pid]
    headings, *lines = cli("ls", "--arena", arena.path).stdout.splitlines()
    at = headings.index("HOLDERS")
    assert sorted(line[at:].split(" -c ")[0] for line in lines) == sorted(
        [f"{two.pid} (2 permits) {sys.executable}", f"{one.pid} {sys.executable}"]
    )
    assert lines[0].startswith("it  ")
    assert not lines[1][:at].strip()
    for process in (two, one):
        process.say()
        process.finish()
    waiter.finish()


def test_ls_does_not_wait_for_anybody(arena: syncx.Arena, child: Start) -> None:
    """Not even for a holder that is stopped."""
    holder = child(HOLD)
    holder.hear()
    os.kill(holder.pid, signal.SIGSTOP)
    assert listed(arena)[0]["holder"]["pid"] == holder.pid
    os.kill(holder.pid, signal.SIGCONT)
    holder.say()
    holder.finish()


def test_ls_anonymous(arena: syncx.Arena) -> None:
    lock = syncx.Mutex(arena=arena)
    assert listed(arena) == []
    with lock:
        (row,) = listed(arena, "--all")
    assert row["name"] is None
    assert row["holder"]["pid"] == os.getpid()
    assert "(anonymous)" in cli("ls", "--all", "--arena", arena.path).stdout
    lock.close()


@pytest.mark.parametrize("by", ["path", "name", "environment"])
def test_ls_makes_no_arena(tmp_path: Path, arena: syncx.Arena, by: str) -> None:
    path, given = tmp_path / "arena", str(tmp_path / "arena")
    if by == "name":
        given = f"{arena.name}-never"
        path = Path(f"/dev/shm/syncx-{os.geteuid()}-{given}")
    environment = {**os.environ, "SYNCX_ARENA": given} if by == "environment" else None
    arguments = [] if by == "environment" else ["--arena", given]
    done = cli("ls", *arguments, env=environment)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"syncx: there is no arena {given!r}\n"
    done = cli("ls", "--json", *arguments, env=environment)
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, [], "")
    assert not path.exists()


def test_ls_arenas(arena: syncx.Arena) -> None:
    lock = syncx.Mutex("jobs", arena=arena)
    done = cli("ls", "--arenas", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    (row,) = [r for r in rows if r["path"] == arena.path]
    assert (row["name"], row["locks"], row["state"]) == (arena.name, 1, "good")
    lock.close()


@pytest.mark.parametrize("rich", [True, False])
def test_ls_on_a_terminal(arena: syncx.Arena, tmp_path: Path, child: Start, rich: bool) -> None:
    """In 80 columns: long commands are cut there."""
    if rich:
        pytest.importorskip("rich")
    lock = syncx.Mutex("[bold]jobs[/bold]", arena=arena)
    holder = child(HOLD + "# " + "long " * 50)
    holder.hear()
    master, slave = pty.openpty()
    environment = {**(dict(os.environ) if rich else hidden(tmp_path, "rich")), "TERM": "xterm", "COLUMNS": "80"}
    done = cli("ls", "--arena", arena.path, env=environment, capture_output=False, stdout=slave, stderr=subprocess.PIPE)
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: all has been read; the kernel may hand it over in pieces
        while piece := os.read(master, 65536):
            shown += piece
    os.close(master)
    assert done.returncode == 0, done.stderr
    assert (b"\x1b[" in shown) is rich
    assert b"[bold]jobs[/bold]" in shown
    lines = re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).splitlines()
    assert len(lines) == 3  # nothing is wrapped
    assert max(map(len, lines)) <= 80
    assert f" {holder.pid} " in lines[2]
    lock.close()
    holder.say()
    holder.finish()


# ---- rm ------------------------------------------------------------------------------------------------------------


def test_rm(arena: syncx.Arena) -> None:
    for name in ("a", "b c", "d"):
        syncx.Mutex(name, arena=arena).close()
    done = cli("rm", "a", "nobody", "b c", "--arena", arena.path)
    assert done.returncode == 1
    assert done.stderr == f"syncx: there is no object 'nobody' in the arena {arena.path!r}\n"
    assert names(arena) == {"d"}
    done = cli("rm", "d", env={**os.environ, "SYNCX_ARENA": arena.path})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert names(arena) == set()


def test_rm_without_an_arena(tmp_path: Path) -> None:
    for arguments in (["name"], ["--all"], ["--all", "--force"]):
        done = cli("rm", *arguments, "--arena", str(tmp_path / "arena"))
        assert done.returncode == 1
        assert done.stderr == f"syncx: there is no arena {str(tmp_path / 'arena')!r}\n"
    assert not list(tmp_path.iterdir())


def test_rm_refuses_what_is_in_use(arena: syncx.Arena, child: Start) -> None:
    holder = child(HOLD)
    holder.hear()
    done = cli("rm", "jobs", "--arena", arena.path)
    assert done.returncode == 1
    assert done.stderr.startswith("syncx: 'jobs' is in use: process ")
    assert str(holder.pid) in done.stderr
    assert "--force" in done.stderr
    assert names(arena) == {"jobs"}
    assert cli("rm", "--force", "jobs", "--arena", arena.path).returncode == 0
    assert names(arena) <= {None}  # the cell stays for those who have it open
    holder.say()
    holder.finish()


def test_rm_a_whole_arena(arena: syncx.Arena, child: Start) -> None:
    other = syncx.Arena(f"{arena.name}-whole")
    lock = syncx.Mutex("jobs", arena=other)
    done = cli("rm", "--all", "--arena", other.name)
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert os.path.exists(other.path)
    assert cli("rm", "--all", "--force", "--arena", other.name).returncode == 0
    assert not os.path.exists(other.path)
    with pytest.raises(syncx.Gone):
        lock.acquire()
    lock.close()
    other.close()


def _damage(path: Path) -> None:
    with open(path, "r+b") as f:
        f.seek(16)
        f.write(b"\xff" * 8)  # total_size, under the checksum


def test_rm_a_damaged_arena(tmp_path: Path) -> None:
    path = tmp_path / "arena"
    syncx.Arena(path).close()
    _damage(path)
    with pytest.raises(syncx.ArenaError):
        syncx.Arena(path)
    done = cli("rm", "--all", "--arena", str(path))
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert "--force" in done.stderr
    assert path.exists()
    done = cli("rm", "--all", "--force", "--arena", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert not path.exists()


def test_rm_a_named_arena_of_random_bytes(arena: syncx.Arena) -> None:
    """A name leads to a place where only arenas are; there --force removes whatever it finds."""
    name = f"{arena.name}-random"
    path = Path(f"/dev/shm/syncx-{os.geteuid()}-{name}")
    path.write_bytes(os.urandom(8192))
    try:
        assert cli("rm", "--all", "--arena", name).returncode == 1
        assert path.exists()
        assert cli("rm", "--all", "--force", "--arena", name).returncode == 0
        assert not path.exists()
    finally:
        path.unlink(missing_ok=True)


def test_rm_never_removes_what_was_no_arena(tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("Chapter one")
    done = cli("rm", "--all", "--force", "--arena", str(path))
    assert done.returncode == 1
    assert "left alone" in done.stderr
    assert path.read_text() == "Chapter one"


# ---- completion ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell: str) -> None:
    pytest.importorskip("shtab")
    done = cli("completion", shell)
    assert done.returncode == 0, done.stderr
    assert ("completion" if shell == "tcsh" else "--conflict-exit-code") in done.stdout  # tcsh gets no options
    if shutil.which(shell) and shell != "tcsh":
        assert subprocess.run([shell, "-n"], input=done.stdout, text=True, timeout=PATIENCE).returncode == 0


@pytest.mark.parametrize("words", ["rm", "run --lock", "run --semaphore", "run -s", "run --read", "run --write"])
def test_completion_of_names(arena: syncx.Arena, tmp_path: Path, words: str) -> None:
    """`syncx rm <TAB>` offers the names there are."""
    pytest.importorskip("shtab")
    lock = syncx.Mutex("nightly", arena=arena)
    (tmp_path / "syncx").write_text(f'#!/bin/sh\nexec {sys.executable} -m syncx "$@"\n')
    (tmp_path / "syncx").chmod(0o700)
    script = cli("completion", "bash").stdout
    line = f"syncx {words} ni"
    at, before = len(line.split()) - 1, line.split()[-2]
    script += f"\nCOMP_WORDS=({line}); COMP_CWORD={at}; _shtab_syncx syncx ni {before}\n"
    script += 'printf "%s\\n" "${COMPREPLY[@]}"\n'
    environment = {**os.environ, "SYNCX_ARENA": arena.path, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert "nightly" in done.stdout.split(), done.stderr
    lock.close()


def test_completion_without_shtab(tmp_path: Path) -> None:
    done = cli("completion", "bash", env=hidden(tmp_path, "shtab"))
    assert done.returncode == 1
    assert "syncx[cli]" in done.stderr
    assert done.stdout == ""
