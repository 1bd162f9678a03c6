"""`syncx run`: the shell's `with`."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from support import PATIENCE, Child, until, until_waiting

import syncx

Start = Callable[..., Child]
Launch = Callable[..., "subprocess.Popen[str]"]


def command(arena: syncx.Arena, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "syncx", "run", "--arena", arena.path, *arguments]


def run(arena: syncx.Arena, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": PATIENCE, **options}
    return subprocess.run(command(arena, *arguments), **options)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", "import os, signal, sys, time\n" + textwrap.dedent(code)]


@pytest.fixture
def launch(arena: syncx.Arena) -> Iterator[Launch]:
    """Starts a `syncx run`; what is left of it and its command is killed after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen(command(arena, *arguments), text=True, start_new_session=True, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)


def line(stream: IO[str] | None) -> str:
    assert stream is not None
    ready, _, _ = select.select([stream], [], [], PATIENCE)
    assert ready, "nothing was said in time"
    return stream.readline().strip()


def until_gone(pid: int) -> None:
    """Until a process that is not our child has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ready, _, _ = select.select([fd], [], [], PATIENCE)
    os.close(fd)
    assert ready, f"process {pid} did not end in time"


HOLD = """
with syncx.Mutex("jobs", arena=arena):
    say("inside")
    hear()
"""
DIE = """
syncx.Mutex("jobs", arena=arena).acquire()
os.kill(os.getpid(), signal.SIGKILL)
"""


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status"), [("true", 0), ("exit 3", 3), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -9 $$", 137)]
)
def test_the_status_is_the_commands(arena: syncx.Arena, script: str, status: int) -> None:
    done = run(arena, "--lock", "jobs", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")
    assert not syncx.Mutex("jobs", arena=arena, create=False).locked()


def test_what_cannot_be_run(arena: syncx.Arena, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for what, status in (("syncx-no-such-command", 127), (str(tmp_path / "none"), 127), (str(plain), 126)):
        done = run(arena, "--lock", "jobs", "--", what)
        assert done.returncode == status
        assert done.stderr.startswith(f"syncx: {what}: ")
        assert done.stderr.count("\n") == 1
    with syncx.Mutex("jobs", arena=arena) as lock:
        assert not lock.owner_died


@pytest.mark.parametrize(
    "arguments",
    [
        ["--lock", "jobs"],
        ["--", "true"],
        ["--lock", "", "--", "true"],
        ["true"],
        ["--semaphore", "jobs"],
        ["--semaphore", "=4", "--", "true"],
        ["--semaphore", "jobs=", "--", "true"],
        ["--semaphore", "jobs=0", "--", "true"],
        ["--semaphore", "jobs=-1", "--", "true"],
        ["--semaphore", "jobs=many", "--", "true"],
        ["--semaphore", "jobs=262145", "--", "true"],
        ["--read", "", "--", "true"],
        ["--write", "/jobs", "--", "true"],
    ],
)
def test_wrong_usage(arena: syncx.Arena, arguments: list[str]) -> None:
    done = run(arena, *arguments)
    assert done.returncode == 125
    assert "syncx: " in done.stderr
    assert "Traceback" not in done.stderr
    assert [o.name for o in arena.objects()] == []


@pytest.mark.parametrize("separator", [["--"], []])
def test_arguments_reach_the_command_as_they_are(arena: syncx.Arena, separator: list[str]) -> None:
    code = "import sys; print(sys.argv[1:])"
    odd = ["--lock", "x", "--", "-h", "", "a b", "*", "--json"]
    done = run(arena, "--lock", "jobs", *separator, sys.executable, "-c", code, *odd)
    assert done.stdout == f"{odd}\n", done.stderr


def test_streams_pass_through(arena: syncx.Arena) -> None:
    done = run(arena, "--lock", "jobs", "--", "sh", "-c", "cat; echo err >&2", input="in")
    assert (done.stdout, done.stderr) == ("in", "err\n")


def test_the_lock_is_held_while_the_command_runs(arena: syncx.Arena, launch: Launch) -> None:
    process = launch("--lock", "a", "--lock", "b", "--", "sh", "-c", "echo ready; read line")
    assert line(process.stdout) == "ready"
    held = {o.name: o.holder and o.holder.pid for o in arena.objects()}
    assert held == {"a": process.pid, "b": process.pid}
    process.communicate("go on\n", timeout=PATIENCE)
    assert process.returncode == 0
    assert {o.holder for o in arena.objects()} == {None}


def test_commands_exclude_each_other(arena: syncx.Arena, launch: Launch, tmp_path: Path) -> None:
    script = f"mkdir {tmp_path}/inside || exit 9; echo x >> {tmp_path}/log; rmdir {tmp_path}/inside"
    processes = [launch("--lock", "jobs", "--", "sh", "-c", script) for _ in range(6)]
    for process in processes:
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
    assert (tmp_path / "log").read_text() == "x\n" * 6


def test_a_programs_rlock(arena: syncx.Arena) -> None:
    lock = syncx.RLock("jobs", arena=arena)
    assert run(arena, "--lock", "jobs", "--", "true").returncode == 0
    with lock:
        assert run(arena, "--lock", "jobs", "--no-wait", "--", "true").returncode == 75


def test_the_same_lock_twice(arena: syncx.Arena) -> None:
    done = run(arena, "--lock", "jobs", "--lock", "jobs", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("syncx: this thread holds")
    with syncx.Mutex("jobs", arena=arena) as lock:
        assert not lock.owner_died


# ---- permits, readers and writers ----------------------------------------------------------------------------------


STAY = ["--", "sh", "-c", "echo ready; read line"]


def test_a_semaphore_is_made_with_its_number(arena: syncx.Arena) -> None:
    for argument in ("cc=4", "cc", "cc=4"):
        assert run(arena, "--semaphore", argument, "--", "true").returncode == 0
    done = run(arena, "-s", "cc=3", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert re.search(r"'cc'.*\b4\b.*\b3\b", done.stderr)  # both
    assert done.stderr.count("\n") == 1
    assert run(arena, "-s", "one", "--", "true").returncode == 0
    assert run(arena, "-s", "a=b=2", "--", "true").returncode == 0
    values = {o.name: (o.kind, o.parameter, o.value) for o in arena.objects()}
    bounded = "BoundedSemaphore"
    assert values == {"cc": (bounded, 4, 4), "one": (bounded, 1, 1), "a=b": (bounded, 2, 2)}


def test_so_many_at_once(arena: syncx.Arena, launch: Launch) -> None:
    """The third of two waits until one of them has ended."""
    first, second = (launch("--semaphore", "cc=2", *STAY) for _ in range(2))
    for process in (first, second):
        assert line(process.stdout) == "ready"
    third = launch("--semaphore", "cc=2", "--", "echo", "ran")
    until_waiting(arena)
    (info,) = arena.objects()
    assert {h.pid for h in info.holders} == {first.pid, second.pid}
    assert info.value == 0
    first.communicate("go on\n", timeout=PATIENCE)
    assert third.communicate(timeout=PATIENCE) == ("ran\n", "")
    assert second.poll() is None
    second.communicate("go on\n", timeout=PATIENCE)
    (info,) = arena.objects()
    assert (info.value, info.holders) == (2, ())


def test_never_more_at_once(arena: syncx.Arena, launch: Launch, tmp_path: Path) -> None:
    """Each counts who is inside with it; the first two are sure to meet."""
    script = f"""
        mkdir {tmp_path}/$$; ls {tmp_path} | grep -c . > {tmp_path}.$$; echo in
        read line; rmdir {tmp_path}/$$; cat {tmp_path}.$$; rm {tmp_path}.$$
    """
    inside = [launch("--semaphore", "cc=2", "--", "sh", "-c", script) for _ in range(2)]
    assert [line(p.stdout) for p in inside] == ["in", "in"]
    more = [launch("--semaphore", "cc=2", "--", "sh", "-c", script) for _ in range(4)]
    for process in [*inside, *more]:  # whoever comes in: all may go on
        assert process.stdin is not None
        process.stdin.write("go on\n")
        process.stdin.flush()
    seen = []
    for process in [*inside, *more]:
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        seen.append(int(out.split()[-1]))
    assert max(seen) == 2


def test_readers_together_and_writers_alone(arena: syncx.Arena, launch: Launch) -> None:
    readers = [launch("--read", "config", *STAY) for _ in range(2)]
    for process in readers:
        assert line(process.stdout) == "ready"
    (info,) = arena.objects()
    assert (info.kind, info.state) == ("RWLock", "2 readers")
    writer = launch("--write", "config", *STAY)
    until_waiting(arena)
    for process in readers:
        process.communicate("go on\n", timeout=PATIENCE)
    assert line(writer.stdout) == "ready"
    (info,) = arena.objects()
    assert (info.state, [h.pid for h in info.holders]) == ("writer", [writer.pid])
    done = run(arena, "--read", "config", "--no-wait", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr.startswith(f"syncx: did not get 'config' for reading: it is held by process {writer.pid} (")
    writer.communicate("go on\n", timeout=PATIENCE)
    (info,) = arena.objects()
    assert (info.state, info.owner_died) == ("free", False)


@pytest.mark.parametrize("order", ["lsw", "wsl", "swl"])
def test_all_are_taken_in_the_order_given(arena: syncx.Arena, launch: Launch, order: str) -> None:
    """Whoever waits for one of them holds those before it, and none after it."""
    options = {"l": ["--lock", "l"], "s": ["--semaphore", "s=1"], "w": ["--write", "w"]}
    everything = [part for which in order for part in options[which]]
    for at, which in enumerate(order):
        holder = launch(*options[which], *STAY)
        assert line(holder.stdout) == "ready"
        process = launch(*everything, "--", "echo", "ran")
        until_waiting(arena)
        held = {o.name for o in arena.objects() if process.pid in {h.pid for h in o.holders}}
        assert held == set(order[:at])
        holder.communicate("go on\n", timeout=PATIENCE)
        assert process.communicate(timeout=PATIENCE) == ("ran\n", "")
    assert not [o for o in arena.objects() if o.holders or o.owner_died]


def test_a_program_and_a_command_share_a_semaphore(arena: syncx.Arena) -> None:
    semaphore = syncx.BoundedSemaphore(3, name="cc", arena=arena)
    semaphore.acquire(n=2)
    inner = [sys.executable, "-m", "syncx", "run", "--arena", arena.path, "-s", "cc", "--no-wait", "--", "true"]
    done = run(arena, "--semaphore", "cc", "--", *inner)
    assert done.returncode == 75
    assert f" {os.getpid()} (" in done.stderr
    semaphore.release(2)
    assert run(arena, "--semaphore", "cc", "--", *inner).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-s", "cc=2", "-s", "cc", "-s", "cc"], "this command holds all 2 permits of 'cc' already"),
        (["-s", "one", "-s", "one"], "this command holds the only permit of 'one' already"),
        (["--write", "rw", "--write", "rw"], ""),
        (["--read", "rw", "--write", "rw"], ""),
        (["--write", "rw", "--read", "rw"], ""),
    ],
)
def test_waiting_for_oneself(arena: syncx.Arena, arguments: list[str], message: str) -> None:
    done = run(arena, *arguments, "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(f"syncx: {message}")
    assert done.stderr.count("\n") == 1
    assert not [o for o in arena.objects() if o.holders or o.owner_died]


def test_several_permits_of_one_semaphore(arena: syncx.Arena) -> None:
    inner = [sys.executable, "-m", "syncx", "ls", "--json", "--arena", arena.path]
    (row,) = json.loads(run(arena, "-s", "cc=3", "-s", "cc", "--read", "rw", "--read", "rw", "--", *inner).stdout)[:1]
    assert [h["count"] for h in row["holders"]] == [2]
    assert row["state"] == "1 of 3 free"
    assert not [o for o in arena.objects() if o.holders or o.owner_died]


@pytest.mark.parametrize("option", ["--lock", "--semaphore", "--read"])
def test_what_is_of_another_kind(arena: syncx.Arena, option: str) -> None:
    event = syncx.Event("jobs", arena=arena)
    done = run(arena, option, "jobs", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("syncx: ")
    assert "Event" in done.stderr
    event.close()


def test_a_semaphore_without_permits(arena: syncx.Arena) -> None:
    semaphore = syncx.BoundedSemaphore(0, name="cc", arena=arena)
    done = run(arena, "--semaphore", "cc", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert "without permits" in done.stderr
    semaphore.close()


# ---- not getting the lock ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "least", "status"),
    [
        (["--no-wait"], 0.0, 75),
        (["--timeout", "0"], 0.0, 75),
        (["--timeout", "0.3"], 0.3, 75),
        (["--no-wait", "-E", "4"], 0.0, 4),
        (["--no-wait", "--conflict-exit-code", "0"], 0.0, 0),
    ],
)
def test_a_lock_that_is_not_to_be_had(
    arena: syncx.Arena, child: Start, arguments: list[str], least: float, status: int
) -> None:
    holder = child(HOLD)
    holder.hear()
    began = time.monotonic()
    done = run(arena, "--lock", "free", "--lock", "jobs", *arguments, "--", "echo", "ran")
    assert time.monotonic() - began >= least
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(f"syncx: did not get 'jobs': it is held by process {holder.pid} (")
    assert done.stderr.count("\n") == 1
    with syncx.Mutex("free", arena=arena).within(0) as lock:
        assert not lock.owner_died  # it was taken, and given back in good order
    holder.say()
    holder.finish()


@pytest.mark.parametrize("number", [2, 3, 5])
def test_many_holders(arena: syncx.Arena, child: Start, number: int) -> None:
    """Three of them are named; a process with several permits is one of them."""
    code = """
    it = syncx.BoundedSemaphore(value, name="cc", arena=arena)
    it.acquire(n=n)
    say()
    hear()
    """
    holders = [child(code, value=number + 1, n=1 + (i == 0)) for i in range(number)]
    for holder in holders:
        holder.hear()
    done = run(arena, "--semaphore", "cc", "--no-wait", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (75, "")
    start = f"syncx: did not get a permit of 'cc': all {number + 1} are held by processes "
    assert done.stderr.startswith(start)
    named = {int(pid) for pid in re.findall(r"(\d+) \(", done.stderr[len(start) :])} & {h.pid for h in holders}
    assert len(named) == min(number, 3)
    assert done.stderr.endswith(" and 2 more\n") is (number == 5)
    for holder in holders:
        holder.kill()


@pytest.mark.parametrize("option", ["--semaphore", "--read", "--write"])
def test_one_time_limit_for_all(arena: syncx.Arena, launch: Launch, option: str) -> None:
    hold = "--write" if option == "--read" else option
    holder = launch(hold, "jobs", *STAY)
    assert line(holder.stdout) == "ready"
    began = time.monotonic()
    done = run(arena, "--lock", "free", option, "jobs", "--timeout", "0.3", "--", "echo", "ran")
    assert time.monotonic() - began >= 0.3
    assert (done.returncode, done.stdout) == (75, "")
    assert f" {holder.pid} (" in done.stderr
    with syncx.Mutex("free", arena=arena).within(0) as lock:
        assert not lock.owner_died
    holder.communicate("go on\n", timeout=PATIENCE)


def test_it_waits(arena: syncx.Arena, child: Start, launch: Launch) -> None:
    holder = child(HOLD)
    holder.hear()
    process = launch("--lock", "jobs", "--timeout", str(PATIENCE), "--", "echo", "ran")
    until_waiting(arena)
    holder.say()
    assert line(process.stdout) == "ran"
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    holder.finish()


@pytest.mark.parametrize("option", ["--semaphore", "--read", "--write"])
def test_a_signal_ends_any_wait(arena: syncx.Arena, launch: Launch, option: str) -> None:
    """And gives back what was held."""
    holder = launch("--write" if option == "--read" else option, "jobs", *STAY)
    assert line(holder.stdout) == "ready"
    process = launch("--semaphore", "cc=2", "--read", "other", option, "jobs", "--", "echo", "ran")
    until_waiting(arena)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (128 + signal.SIGTERM, "", "")
    assert {o.name for o in arena.objects() if o.holders} == {"jobs"}
    holder.communicate("go on\n", timeout=PATIENCE)
    assert not [o for o in arena.objects() if o.holders or o.owner_died or o.waiters]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_wait(arena: syncx.Arena, child: Start, launch: Launch, number: signal.Signals) -> None:
    holder = child(HOLD)
    holder.hear()
    process = launch("--lock", "jobs", "--", "echo", "ran")
    until_waiting(arena)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (128 + number, "", "")
    holder.say()
    holder.finish()
    with syncx.Mutex("jobs", arena=arena) as lock:
        assert not lock.owner_died


def test_what_is_no_arena(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear Sir or Madam")
    arguments = ["run", "--arena", str(tmp_path / "letter"), "--lock", "jobs", "--", "echo", "ran"]
    done = subprocess.run([sys.executable, "-m", "syncx", *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("syncx: ")
    assert "Traceback" not in done.stderr


# ---- signals -------------------------------------------------------------------------------------------------------

COUNT_SIGNALS = """
    import select
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: None)
    for _ in range(int(sys.argv[1])):
        print("ready", flush=True)
        got = os.read(reader, 1)
        select.select([reader], [], [], 0.2)  # for a second one that should not come
        os.write(writer, b"$")
        got += os.read(reader, 9)
        print([n for n in got if n != ord("$")], flush=True)
    sys.exit(7)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"])
def test_signals_are_passed_on(arena: syncx.Arena, launch: Launch, name: str) -> None:
    number = signal.Signals[name]
    process = launch("--lock", "jobs", "--", *python(COUNT_SIGNALS), "1")
    assert line(process.stdout) == "ready"
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (7, f"[{int(number)}]\n", "")
    assert not syncx.Mutex("jobs", arena=arena).locked()


def test_control_c_reaches_the_command_once(arena: syncx.Arena) -> None:
    """The terminal sends it to both of us.  Several times, since two signals at one moment count as one."""
    times = 8
    setsid = shutil.which("setsid")
    if setsid is None:
        pytest.skip("needs setsid of util-linux")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [setsid, "--ctty", "--wait", *command(arena, "--lock", "jobs", "--", *python(COUNT_SIGNALS), str(times))],
        stdin=slave, stdout=slave, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    try:
        sent = 0
        while shown.count(b"]") < times:
            ready, _, _ = select.select([master], [], [], PATIENCE)
            assert ready, shown
            shown += os.read(master, 4096)
            if shown.count(b"ready") > sent:
                os.write(master, b"\x03")
                sent += 1
        assert process.wait(PATIENCE) == 7
    finally:
        process.kill()
        process.wait(PATIENCE)
        os.close(master)
    assert shown.count(f"[{int(signal.SIGINT)}]".encode()) == times, shown


def test_what_is_ignored_stays_ignored(arena: syncx.Arena) -> None:
    """As under nohup(1)."""
    code = "print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"
    quoted = command(arena, "--lock", "jobs", "--", *python(code))
    done = subprocess.run(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *quoted], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stdout == "True False\n", done.stderr


def test_what_is_ignored_does_not_end_the_wait(arena: syncx.Arena, child: Start, launch: Launch) -> None:
    holder = child(HOLD)
    holder.hear()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is inherited
    try:
        process = launch("--lock", "jobs", "--", "echo", "ran")
    finally:
        signal.signal(signal.SIGHUP, before)
    until_waiting(arena)
    process.send_signal(signal.SIGHUP)
    holder.say()
    assert process.communicate(timeout=PATIENCE) == ("ran\n", "")
    assert process.returncode == 0
    holder.finish()


def test_the_command_has_a_clean_signal_state(arena: syncx.Arena) -> None:
    done = run(arena, "--lock", "jobs", "--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    # signals 32 and above are the C library's, whose posix_spawn ignores two of them
    assert [int(row.split()[1], 16) & 0x7FFFFFFF for row in done.stdout.splitlines()] == [0, 0]


# ---- death ---------------------------------------------------------------------------------------------------------


@pytest.mark.death
def test_a_killed_run_frees_the_lock_and_ends_the_command(arena: syncx.Arena, child: Start, launch: Launch) -> None:
    process = launch("--lock", "jobs", "--", *python("print(os.getpid(), flush=True); time.sleep(600)"))
    pid = int(line(process.stdout))
    heir = child(
        """
        with syncx.Mutex("jobs", arena=arena) as lock:
            say([lock.owner_died, time.monotonic()])
        """
    )
    until_waiting(arena)
    killed = time.monotonic()
    process.kill()
    died, inside = heir.hear()
    assert died
    assert inside - killed < 5.0
    until_gone(pid)
    heir.finish()


@pytest.mark.death
@pytest.mark.parametrize("option", ["--semaphore", "--read", "--write"])
def test_what_a_killed_run_held_is_free(arena: syncx.Arena, launch: Launch, option: str) -> None:
    process = launch(option, "jobs", "--", *python("print(os.getpid(), flush=True); time.sleep(600)"))
    pid = int(line(process.stdout))
    heir = launch("--write" if option == "--read" else option, "jobs", "--timeout", str(PATIENCE), "--", "echo", "ran")
    until_waiting(arena)
    killed = time.monotonic()
    process.kill()
    assert line(heir.stdout) == "ran"
    assert time.monotonic() - killed < PATIENCE / 2
    until_gone(pid)
    heir.communicate(timeout=PATIENCE)
    assert heir.returncode == 0
    (info,) = arena.objects()
    assert (info.holders, info.owner_died) == ((), False)


@pytest.mark.death
def test_the_command_is_told_that_a_writer_died(arena: syncx.Arena, launch: Launch) -> None:
    echo = ["--", "sh", "-c", 'echo "<$SYNCX_OWNER_DIED>"; exit ${STATUS:-0}']
    process = launch("--semaphore", "cc=2", "--write", "config", *STAY)
    assert line(process.stdout) == "ready"
    process.kill()
    process.wait(PATIENCE)
    failing = {**os.environ, "STATUS": "1"}
    done = run(arena, "--write", "config", "--semaphore", "cc=2", *echo, env=failing)
    assert (done.returncode, done.stdout) == (1, "<config>\n")
    (told,) = [row for row in done.stderr.splitlines() if "config" in row]
    assert str(process.pid) in told
    # a reader is told as long as no writer has repaired it
    assert run(arena, "--read", "config", *echo).stdout == "<config>\n"
    assert run(arena, "--write", "config", *echo).stdout == "<config>\n"
    done = run(arena, "--read", "config", "--lock", "other", *echo)
    assert (done.returncode, done.stdout, done.stderr) == (0, "<>\n", "")


@pytest.mark.death
def test_a_run_killed_while_it_waits_leaves_nothing(arena: syncx.Arena, child: Start, launch: Launch) -> None:
    holder = child(HOLD)
    holder.hear()
    process = launch("--lock", "jobs", "--", "echo", "ran")
    until_waiting(arena)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    (pid,) = map(int, children.read_text().split())
    process.kill()
    until_gone(pid)
    holder.say()
    holder.finish()
    assert process.communicate(timeout=PATIENCE)[0] == ""


@pytest.mark.death
def test_the_command_is_told_that_an_owner_died(arena: syncx.Arena, child: Start) -> None:
    dead = child(DIE)
    dead.process.wait(PATIENCE)
    echo = ["--", "sh", "-c", 'echo "<$SYNCX_OWNER_DIED>"; exit ${STATUS:-0}']
    both = ["--lock", "other", "--lock", "jobs", *echo]
    # as long as nobody has repaired the data, everybody is told
    for _ in range(2):
        done = run(arena, *both, env={**os.environ, "STATUS": "1", "SYNCX_OWNER_DIED": "stale"})
        assert (done.returncode, done.stdout) == (1, "<jobs>\n")
        assert done.stderr.startswith("syncx: process ")
        assert str(dead.pid) in done.stderr
        assert done.stderr.count("\n") == 1
    assert run(arena, *both).stdout == "<jobs>\n"
    done = run(arena, *both, env={**os.environ, "SYNCX_OWNER_DIED": "stale"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "<>\n", "")


@pytest.mark.death
def test_a_command_killed_by_somebody_else(arena: syncx.Arena, launch: Launch) -> None:
    """Its `syncx run` lives and releases the lock in good order."""
    process = launch("--lock", "jobs", "--", *python("print(os.getpid(), flush=True); time.sleep(600)"))
    os.kill(int(line(process.stdout)), signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 137
    until(lambda: not syncx.Mutex("jobs", arena=arena).locked(), "it is free")
    with syncx.Mutex("jobs", arena=arena) as lock:
        assert not lock.owner_died


def test_ls_shows_a_run(arena: syncx.Arena) -> None:
    """The command line of the holder is that of the `syncx run`."""
    inner = [sys.executable, "-m", "syncx", "ls", "--json", "--arena", arena.path]
    (row,) = json.loads(run(arena, "--lock", "jobs", "--", *inner).stdout)
    assert "run --arena" in row["holder"]["command"]
