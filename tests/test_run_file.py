"""`syncx run --file` and `--fd`: what flock(1) does, and more."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_run
from support import PATIENCE, Child, until
from test_run import STAY, Launch, line, python, run, until_gone

import syncx
from syncx import cli

Start = Callable[..., Child]

launch = test_run.launch  # a fixture

FOREIGN = """
import fcntl
file = open(PATH, "r+b")
{take}
say()
hear()
"""
GIVE_UP = str(PATIENCE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(bytes(100))
    return path


def held(path: Path, arena: syncx.Arena | None = None) -> list[tuple[str, str, str, set[int]]]:
    """Mode, kind and range of each lock, and the processes that have it."""
    found = syncx.file_locks(path, arena=arena).held
    return [(o.mode, o.kind, o.range, {p.pid for p in o.parties}) for o in found]


def until_awaited(path: Path, arena: syncx.Arena | None = None) -> None:
    until(lambda: syncx.file_locks(path, arena=arena).waiting, "somebody waits for the file")


def shell(script: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A script of the shell, in which $syncx is `syncx run`."""
    prepared = f'syncx() {{ "{sys.executable}" -m syncx run "$@"; }}\n{script}'
    options = {"capture_output": True, "text": True, "timeout": PATIENCE, **options}
    return subprocess.run(["sh", "-c", prepared, "sh", *arguments], **options)


# ---- a file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], ["--inherit"], ["--no-fork"]])
@pytest.mark.parametrize(("script", "status"), [("true", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_the_status_is_the_commands(
    arena: syncx.Arena, tmp_path: Path, script: str, status: int, more: list[str]
) -> None:
    """And the file is made."""
    done = run(arena, "--file", str(tmp_path / "new"), *more, "--", "sh", "-c", script)
    expected = -signal.SIGKILL if status == 137 and more == ["--no-fork"] else status
    assert (done.returncode, done.stdout, done.stderr) == (expected, "", "")
    assert held(tmp_path / "new", arena) == []


def test_the_file_is_held_while_the_command_runs(arena: syncx.Arena, launch: Launch, path: Path) -> None:
    process = launch("--file", str(path), "--range", "10:20", "--file", str(path), "--range", "50:", "--shared", *STAY)
    assert line(process.stdout) == "ready"
    assert held(path, arena) == [
        ("exclusive", "ofd", "10:20", {process.pid}),
        ("shared", "ofd", "50:", {process.pid}),
    ]
    for found in syncx.file_locks(path, arena=arena).locks:
        assert found.syncx
        assert found.seconds is not None
        assert 0 <= found.seconds < PATIENCE
        assert [p.tid for p in found.parties] == [process.pid]
    process.communicate("go on\n", timeout=PATIENCE)
    assert process.returncode == 0
    assert held(path, arena) == []


def test_who_waits_is_shown(arena: syncx.Arena, launch: Launch, path: Path) -> None:
    holder = launch("--file", str(path), "--range", "10:20", *STAY)
    assert line(holder.stdout) == "ready"
    waiter = launch("--file", str(path), "--range", ":15", "--timeout", GIVE_UP, "--", "echo", "ran")
    until_awaited(path, arena)
    (waiting,) = syncx.file_locks(path, arena=arena).waiting
    assert (waiting.mode, waiting.range, waiting.syncx) == ("exclusive", "0:15", True)
    assert [(p.pid, p.tid) for p in waiting.parties] == [(waiter.pid, waiter.pid)]
    assert waiting.remaining is not None
    assert 0 < waiting.remaining <= PATIENCE
    shown = [sys.executable, "-m", "syncx", "locks", "--arena", arena.path, str(path)]
    out = subprocess.run(shown, capture_output=True, text=True, timeout=PATIENCE).stdout
    assert f"{path}: 100 bytes, 1 lock, 1 waits\n" in out
    assert "ofd, syncx" in out
    holder.communicate("go on\n", timeout=PATIENCE)
    assert waiter.communicate(timeout=PATIENCE) == ("ran\n", "")


@pytest.mark.parametrize("more", [[], ["--inherit"]])
def test_overlapping_ranges_exclude_each_other(arena: syncx.Arena, launch: Launch, path: Path, more: list[str]) -> None:
    process = launch("--file", str(path), "--range", "10:20", *more, *STAY)
    assert line(process.stdout) == "ready"
    for taken, status in ((":10", 0), ("20:+5", 0), ("19:", 75), ("0:+11", 75)):
        done = run(arena, "--file", str(path), "--range", taken, *more, "--no-wait", "--", "true")
        assert done.returncode == status, taken
    assert run(arena, "--file", str(path), "--shared", *more, "--no-wait", "--", "true").returncode == 75
    done = run(arena, "--file", str(path), "--range", "15:30", *more, "-n", "-E", "9", "--", "true")
    assert done.returncode == 9
    message = f"syncx: did not get bytes 15:30 of '{path}': it is held by process"
    assert done.stderr.startswith(message)
    assert str(process.pid) in done.stderr
    assert done.stderr.count("\n") == 1
    process.communicate("go on\n", timeout=PATIENCE)


@pytest.mark.parametrize("more", [[], ["--inherit"]])
def test_shared_holders_keep_an_exclusive_one_out(
    arena: syncx.Arena, launch: Launch, path: Path, more: list[str]
) -> None:
    readers = [launch("--file", str(path), "--shared", *more, *STAY) for _ in range(2)]
    assert [line(r.stdout) for r in readers] == ["ready", "ready"]
    writer = launch("--file", str(path), *more, "--", "echo", "ran")
    until_awaited(path, arena)
    readers[0].communicate("go on\n", timeout=PATIENCE)
    assert writer.poll() is None
    readers[1].communicate("go on\n", timeout=PATIENCE)
    assert writer.communicate(timeout=PATIENCE) == ("ran\n", "")


@pytest.mark.parametrize(
    ("take", "style", "status"),
    [
        ("fcntl.lockf(file, fcntl.LOCK_EX, 10, 10)", "ofd", 75),
        ("fcntl.lockf(file, fcntl.LOCK_SH, 10, 10)", "ofd", 75),
        ("fcntl.lockf(file, fcntl.LOCK_EX, 10, 10)", "flock", 0),
        ("fcntl.flock(file, fcntl.LOCK_EX)", "flock", 75),
        ("fcntl.flock(file, fcntl.LOCK_EX)", "ofd", 0),
    ],
)
@pytest.mark.parametrize("more", [[], ["--inherit"]])
def test_other_programs(
    arena: syncx.Arena, child: Start, path: Path, take: str, style: str, status: int, more: list[str]
) -> None:
    other = child(FOREIGN.format(take=take), PATH=str(path))
    other.hear()
    done = run(arena, "--file", str(path), "--style", style, *more, "--no-wait", "--", "true")
    assert done.returncode == status
    if status:
        assert f"held by process {other.pid} (" in done.stderr
    other.say()
    other.finish()
    assert run(arena, "--file", str(path), "--style", style, *more, "--no-wait", "--", "true").returncode == 0


def test_flock_itself(arena: syncx.Arena, path: Path) -> None:
    flock = shutil.which("flock")
    if flock is None:
        pytest.skip("needs flock(1) of util-linux")
    for what in (path, path.parent):
        inner = [flock, "-n", "-E", "9", str(what), "true"]
        assert run(arena, "--file", str(what), "--style", "flock", "--", *inner).returncode == 9
        assert (
            run(arena, "--file", str(what), "--style", "flock", "--shared", "--", flock, "-s", *inner[1:]).returncode
            == 0
        )
    assert run(arena, "--file", str(path), "--", flock, "-n", "-E", "9", str(path), "true").returncode == 0


@pytest.mark.parametrize("more", [[], ["--inherit"], ["--fd"]])
def test_a_wait_that_ends_in_vain(arena: syncx.Arena, child: Start, path: Path, more: list[str]) -> None:
    other = child(FOREIGN.format(take="fcntl.lockf(file, fcntl.LOCK_EX)"), PATH=str(path))
    other.hear()
    begun = time.monotonic()
    if more == ["--fd"]:
        done = shell('syncx --fd 9 --timeout 0.3 9>>"$1"', str(path))
    else:
        done = run(arena, "--file", str(path), *more, "--timeout", "0.3", "--", "true")
    assert done.returncode == 75, done.stderr
    assert 0.3 <= time.monotonic() - begun < PATIENCE / 2
    assert f"held by process {other.pid} (" in done.stderr


@pytest.mark.parametrize("more", [[], ["--inherit"], ["--no-fork"]])
@pytest.mark.parametrize("timeout", [[], ["--timeout", GIVE_UP]])
def test_a_wait_that_ends_well(
    arena: syncx.Arena, child: Start, launch: Launch, path: Path, more: list[str], timeout: list[str]
) -> None:
    other = child(FOREIGN.format(take="fcntl.lockf(file, fcntl.LOCK_EX)"), PATH=str(path))
    other.hear()
    process = launch("--file", str(path), *more, *timeout, "--", "echo", "ran")
    until_awaited(path, arena)
    other.say()
    assert process.communicate(timeout=PATIENCE) == ("ran\n", "")
    other.finish()


@pytest.mark.parametrize("more", [[], ["--inherit"], ["--no-fork"]])
def test_a_signal_ends_the_wait(arena: syncx.Arena, child: Start, launch: Launch, path: Path, more: list[str]) -> None:
    other = child(FOREIGN.format(take="fcntl.lockf(file, fcntl.LOCK_EX)"), PATH=str(path))
    other.hear()
    process = launch("--file", str(path), *more, "--", "echo", "ran")
    until_awaited(path, arena)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 128 + signal.SIGTERM


def test_files_and_all_else_in_the_order_given(arena: syncx.Arena, launch: Launch, path: Path) -> None:
    holder = launch("--file", str(path), *STAY)
    assert line(holder.stdout) == "ready"
    process = launch("--lock", "before", "--file", str(path), "--lock", "behind", "--", "echo", "ran")
    until_awaited(path, arena)
    assert {o.name for o in arena.objects() if o.holder} == {"before"}
    holder.communicate("go on\n", timeout=PATIENCE)
    assert process.communicate(timeout=PATIENCE) == ("ran\n", "")


@pytest.mark.death
@pytest.mark.parametrize("more", [[], ["--inherit"]])
def test_a_killed_run_frees_the_file_and_ends_the_command(
    arena: syncx.Arena, launch: Launch, path: Path, more: list[str]
) -> None:
    process = launch("--file", str(path), *more, "--", *python("print(os.getpid(), flush=True); time.sleep(600)"))
    pid = int(line(process.stdout))
    heir = launch("--file", str(path), "--", "echo", "ran")
    until_awaited(path, arena)
    process.kill()
    assert line(heir.stdout) == "ran"
    until_gone(pid)


# ---- who keeps it --------------------------------------------------------------------------------------------------

LEAVE = ["--", "sh", "-c", "sleep 600 > /dev/null & echo $!"]


@pytest.mark.parametrize("more", [[], ["--inherit"], ["--no-fork"]])
def test_what_the_command_leaves_running(arena: syncx.Arena, path: Path, tmp_path: Path, more: list[str]) -> None:
    """Keeps the file locked only where asked, as flock(1) does; with flock --close it does not."""
    with open(tmp_path / "pid", "w+") as out:
        done = run(arena, "--file", str(path), *more, *LEAVE, capture_output=False, stdout=out)
        assert done.returncode == 0
        out.seek(0)
        pid = int(out.read())
    try:
        assert held(path, arena) == ([("exclusive", "ofd", "0:", {pid})] if more else [])
        done = run(arena, "--file", str(path), "--no-wait", "--", "true")
        assert done.returncode == (75 if more else 0)
    finally:
        os.kill(pid, signal.SIGKILL)
    until_gone(pid)
    assert held(path, arena) == []


def test_no_fork_becomes_the_command(arena: syncx.Arena, launch: Launch, path: Path) -> None:
    process = launch("--file", str(path), "-F", "--", *python("print(os.getpid(), flush=True); sys.stdin.readline()"))
    assert int(line(process.stdout)) == process.pid
    assert held(path, arena) == [("exclusive", "ofd", "0:", {process.pid})]
    process.communicate("go on\n", timeout=PATIENCE)
    assert process.returncode == 0


def test_what_no_fork_cannot_run(arena: syncx.Arena, path: Path) -> None:
    done = run(arena, "--file", str(path), "-F", "--", "syncx-no-such-command")
    assert (done.returncode, done.stderr) == (127, "syncx: syncx-no-such-command: command not found\n")


def test_the_command_has_nothing_open_but_what_it_inherits(arena: syncx.Arena, path: Path) -> None:
    code = python(
        "print(sum(os.path.realpath(f'/proc/self/fd/{n}') == sys.argv[1] for n in os.listdir('/proc/self/fd')))"
    )
    for more, number in (([], 0), (["--inherit"], 2), (["--no-fork"], 2)):
        files = ["--file", str(path), "--range", "0:1", "--file", str(path), "--range", "1:2"]
        assert run(arena, *files, *more, "--", *code, os.path.realpath(path)).stdout == f"{number}\n", more


@pytest.mark.parametrize("more", [[], ["--inherit"]])
def test_a_file_that_was_replaced_while_we_waited(
    arena: syncx.Arena, child: Start, launch: Launch, path: Path, more: list[str]
) -> None:
    """The one that the path names now is locked."""
    other = child(FOREIGN.format(take="fcntl.lockf(file, fcntl.LOCK_EX)"), PATH=str(path))
    other.hear()
    process = launch("--file", str(path), *more, *STAY)
    until_awaited(path, arena)
    new = path.with_name("new")
    new.write_text("new")
    new.rename(path)
    other.say()
    assert line(process.stdout) == "ready"
    (lock,) = held(path, arena)
    assert process.pid in lock[3]
    process.communicate("go on\n", timeout=PATIENCE)


# ---- a descriptor of the shell -------------------------------------------------------------------------------------

TRY = 'syncx --file "$1" --no-wait --range 5:6 -- true 2> /dev/null; echo $?'


def test_a_descriptor_stays_locked(path: Path) -> None:
    """Until the shell has closed it, or unlocks it."""
    done = shell(f'( syncx --fd 9 || exit 1; {TRY}; syncx --fd 9 --unlock; {TRY} ) 9>> "$1"; {TRY}', str(path))
    assert (done.stdout.split(), done.stderr) == (["75", "0", "0"], "")
    done = shell(f'( syncx --fd 9 || exit 1; {TRY} ) 9>> "$1"; {TRY}', str(path))
    assert (done.stdout.split(), done.stderr) == (["75", "0"], "")


def test_a_range_of_a_descriptor(path: Path) -> None:
    done = shell(
        f'( syncx --fd 9 --range 0:50; {TRY}; syncx --fd 9 --range 5:6 --unlock; {TRY}; '
        f'syncx --fd 9 --range 5:6 --shared; {TRY} ) 9<> "$1"', str(path),
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == (["75", "0", "75"], "")


def test_the_shell_that_has_it_is_named(path: Path) -> None:
    code = '( syncx --fd 9; echo $$; syncx --file "$1" -n -- true; echo $? ) 9>> "$1"'
    done = shell(code, str(path))
    _, status = done.stdout.split()
    assert status == "75"
    assert "it is held by process" in done.stderr


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("syncx --fd 9", "descriptor 9 is not open: open it in the shell"),
        ("syncx --fd 3", "descriptor 3 is not open"),
        ('syncx --fd 9 9< "$1"', "descriptor 9 is not open for writing"),
        ('syncx --fd 9 --shared 9>> "$1"', "descriptor 9 is not open for reading"),
        ("syncx --fd 9 9< /dev/null", "descriptor 9 is not of a file"),
        ("echo | syncx --fd 0", "descriptor 0 is not of a file"),
        ('syncx --fd 9 9< "$(dirname "$1")"', "descriptor 9 is not of a file"),
    ],
)
def test_descriptors_that_cannot_be_locked(path: Path, script: str, message: str) -> None:
    done = shell(script, str(path))
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(f"syncx: {message}")
    assert done.stderr.count("\n") == 1


def test_descriptors_by_flock(path: Path) -> None:
    """Which minds neither how the file is open nor that it is a directory."""
    for what in (path, path.parent):
        assert shell('syncx --fd 9 --style flock 9< "$1"', str(what)).returncode == 0


# ---- words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--file", "F"],
        ["--file", "", "--", "true"],
        ["--file", "F", "--range", "5", "--", "true"],
        ["--file", "F", "--range", "5:5", "--", "true"],
        ["--file", "F", "--range", "5:4", "--", "true"],
        ["--file", "F", "--range", "-1:4", "--", "true"],
        ["--file", "F", "--range", "5:+0", "--", "true"],
        ["--file", "F", "--range", "5:+", "--", "true"],
        ["--file", "F", "--range", "a:b", "--", "true"],
        ["--file", "F", "--range", "0:9223372036854775808", "--", "true"],
        ["--file", "F", "--range", "9223372036854775807:+1", "--", "true"],
        ["--file", "F", "--style", "posixish", "--", "true"],
        ["--range", "0:1", "--file", "F", "--", "true"],
        ["--lock", "x", "--shared", "--", "true"],
        ["--file", "F", "--unlock", "--", "true"],
        ["--file", "F", "-c", "true", "--", "true"],
        ["--fd", "1", "--", "true"],
        ["--fd", "1", "--file", "F"],
        ["--fd", "1", "-c", "true"],
        ["--fd", "1", "--inherit"],
        ["--fd", "-1"],
        ["--fd", "one"],
        ["--lock", "x", "--inherit", "--", "true"],
        ["--lock", "x", "--no-fork", "--", "true"],
        ["--file", "F", "--lock", "x", "--no-fork", "--", "true"],
    ],
)
def test_wrong_usage(capfd: pytest.CaptureFixture[str], path: Path, arguments: list[str]) -> None:
    """Found before anything is made, locked or forked."""
    try:
        status = cli.main(["run", *[str(path) if a == "F" else a for a in arguments]])
    except SystemExit as e:  # argparse
        status = e.code
    told = capfd.readouterr()
    assert (status, told.out) == (125, "")
    assert "syncx: " in told.err.splitlines()[-1]


@pytest.mark.parametrize("more", [[], ["--inherit"]])
def test_what_cannot_be_locked(arena: syncx.Arena, tmp_path: Path, more: list[str]) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in (str(tmp_path / "missing" / "file"), str(tmp_path), str(tmp_path / "fifo"), "/dev/null"):
        done = run(arena, "--file", name, *more, "--", "echo", "ran")
        assert (done.returncode, done.stdout) == (125, ""), name
        assert name in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("more", [[], ["--inherit"]])
def test_files_that_may_not_be_written(arena: syncx.Arena, path: Path, more: list[str]) -> None:
    """Can be shared, or locked by flock(2)."""
    program = Path(
        shutil.copy("/bin/sleep", path.with_name("program"))
    )  # one that runs may not be written, even by root
    running = subprocess.Popen([program, "600"])
    try:
        until(lambda: os.path.realpath(f"/proc/{running.pid}/exe") == os.path.realpath(program), "it runs")
        for options, status in ((["--shared"], 0), (["--style", "flock"], 0), ([], 125)):
            done = run(arena, "--file", str(program), *options, *more, "--no-wait", "--", "true")
            assert done.returncode == status, (options, done.stderr)
            assert done.stderr.count("\n") == (1 if status else 0)
    finally:
        running.kill()
        running.wait(PATIENCE)


def test_an_alarm_that_was_blocked_ends_the_wait(child: Start, path: Path) -> None:
    """As it is inherited from a program that blocks SIGALRM."""
    other = child(FOREIGN.format(take="fcntl.lockf(file, fcntl.LOCK_EX)"), PATH=str(path))
    other.hear()
    with open(path, "ab") as f:
        waits = [sys.executable, "-m", "syncx", "run", "--fd", str(f.fileno()), "--timeout", "0.1"]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        try:
            done = subprocess.run(waits, pass_fds=[f.fileno()], capture_output=True, text=True, timeout=PATIENCE)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert done.returncode == 75, done.stderr


@pytest.mark.parametrize("more", [[], ["--inherit"]])
def test_the_same_bytes_twice(arena: syncx.Arena, path: Path, more: list[str]) -> None:
    twice = ["--file", str(path), "--range", "0:10", "--file", str(path), "--range", "9:"]
    done = run(arena, *twice, *more, "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("syncx: ")
    assert done.stderr.count("\n") == 1
    shared = ["--file", str(path), "--shared", "--file", str(path), "--shared"]
    assert run(arena, *shared, *more, "--", "echo", "ran").stdout == "ran\n"


def test_how_long_it_took(arena: syncx.Arena, path: Path) -> None:
    done = run(arena, "--lock", "jobs", "--file", str(path), "--range", ":9", "--shared", "-v", "--", "true")
    first, second = done.stderr.splitlines()
    assert first.startswith("syncx: got 'jobs' after ")
    assert second.startswith(f"syncx: got bytes 0:9 of '{path}' (shared) after ")


def test_a_command_of_the_shell(arena: syncx.Arena, path: Path) -> None:
    environment = {**os.environ, "SHELL": "/bin/sh"}
    done = run(arena, "--file", str(path), "-c", "echo a | tr a b; exit 4", env=environment)
    assert (done.returncode, done.stdout) == (4, "b\n")
    done = run(arena, "--lock", "jobs", "--shell", "echo $0", env={**os.environ, "SHELL": "/no/such/shell"})
    assert done.returncode == 127


def test_json_of_what_a_run_holds(arena: syncx.Arena, path: Path) -> None:
    inner = [sys.executable, "-m", "syncx", "locks", "--json", "--arena", arena.path, str(path)]
    found = json.loads(run(arena, "--file", str(path), "--range", "1:", "--", *inner).stdout)
    (lock,) = found["locks"]
    assert (lock["start"], lock["stop"], lock["syncx"], lock["mode"]) == (1, None, True, "exclusive")
    assert lock["seconds"] >= 0
    assert "run --arena" in lock["holders"][0]["command"]
