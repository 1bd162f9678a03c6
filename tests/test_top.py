"""`syncx top` on a terminal of the test's own: what is drawn, what keys do, and how the terminal is left.

Nothing here waits for time to pass: a key is pressed when what was awaited has been drawn.  Where the interval between
two looks is an hour, only a key, a signal or a new size can be why something is drawn.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from support import PATIENCE, until

import syncx
from syncx import cli, screen, top

HOUR = "3600"
LAUNCH = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from syncx import cli
{extra}
sys.exit(cli.main(sys.argv[1:]))
"""
# a shell in short: runs top in a process group of its own, tells when it stops, and lets it go on when told to
SHELL = """
import fcntl, os, signal, subprocess, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
def in_front():
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
tell, hear = (int(n) for n in sys.argv[1:3])
job = subprocess.Popen([sys.executable, "-m", "syncx", *sys.argv[3:]], preexec_fn=in_front)
status = os.waitpid(job.pid, os.WUNTRACED)[1]
os.write(tell, b"%d %d\\n" % (os.WIFSTOPPED(status), job.pid))
os.read(hear, 1)
os.kill(job.pid, signal.SIGCONT)
status = os.waitpid(job.pid, 0)[1]
os.write(tell, b"%d\\n" % os.waitstatus_to_exitcode(status))
"""


class Terminal:
    """A terminal with `syncx top` on it."""

    def __init__(self, columns=80, lines=24, *arguments, extra="", command=None, env=None, pass_fds=()):
        self.master, self.slave = pty.openpty()
        self.size(columns, lines)
        self.before = termios.tcgetattr(self.slave)
        self.text = ""
        command = command or [sys.executable, "-c", LAUNCH.format(extra=extra), "top", *arguments]
        environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        environment.update({"TERM": "xterm", "PYTHONUTF8": "1", **(env or {})})
        self.process = subprocess.Popen(
            command, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True, env=environment,
            pass_fds=pass_fds,
        )  # fmt: skip

    def size(self, columns, lines):
        self.columns, self.lines = columns, lines
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys):
        os.write(self.master, keys.encode())

    def read(self, timeout):
        """What comes within that time; False: nothing did, or nothing will."""
        if not select.select([self.master], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            data = b""
        self.text += data.decode(errors="replace")
        return bool(data)

    def frame(self):
        """The last whole picture, as lines of plain text; [] before the first one."""
        frames = [f for f in self.text.split("\x1b[H")[1:] if f.endswith("\x1b[J") or "\x1b[J\x1b" in f]
        if not frames:
            return []
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frames[-1]).replace("\r", "").split("\n")

    def until(self, wanted, what):
        """Reads until the picture is as wanted, and returns it."""
        end = time.monotonic() + PATIENCE
        while not (self.frame() and wanted(self.frame())):
            assert time.monotonic() < end, (what, self.frame(), self.text[-300:])
            self.read(0.05)
        assert len(self.frame()) <= self.lines
        assert all(screen.width_of(line) <= self.columns for line in self.frame()), self.frame()
        return self.frame()

    def shows(self, *texts, without=()):
        return self.until(
            lambda f: all(any(t in line for line in f) for t in texts)
            and not any(t in line for line in f for t in without),
            (texts, without),
        )

    def ended(self):
        """The exit status, when it has ended; nothing that it says meanwhile is lost."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < end, "it does not end"
            self.read(0.02)
        while self.read(0):
            pass
        return self.process.returncode

    def restored(self):
        """Are the modes as before, the cursor there, and the other screen left?"""
        last = {n: [m[1] for m in re.finditer(rf"\x1b\[\?{n}([hl])", self.text)][-1:] for n in ("25", "1049")}
        return last == {"25": ["h"], "1049": ["l"]} and termios.tcgetattr(self.slave) == self.before

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal():
    opened = []

    def start(*arguments, **options):
        opened.append(Terminal(*arguments, **options))
        return opened[-1]

    yield start
    for t in opened:
        t.close()


WAITS = """
    zeta, alpha, idle = (syncx.Mutex(n, arena=arena) for n in ("zeta", "alpha", "idle"))
    zeta.acquire(); alpha.acquire()
    say(); hear()
    zeta.release(); alpha.release()
    say(); hear()
    """
WAITER = """
    lock = syncx.Mutex(name, arena=arena)
    say(); lock.acquire(); lock.release(); say(); hear()
    """


@pytest.fixture
def busy(arena, child):
    """One holds zeta and alpha; then one waits for zeta, and after it two for alpha."""
    holder = child(WAITS)
    holder.hear()
    waiting = []
    for n, name in enumerate(("zeta", "alpha", "alpha"), 1):
        waiting.append(child(WAITER, name=name))
        waiting[-1].hear()
        until(lambda n=n: len({w.thread for w in syncx.snapshot(arena).waits}) >= n, "it waits")
    return holder, waiting


def awake(frame):
    """Who waits looks around every 100 ms, and waits for nothing in that moment."""
    return any(re.match(r"\d threads?, [012] wait", line) for line in frame)


def live(terminal, arena, columns=80, lines=24, every=HOUR, **options):
    """On the screen with all three, if need be after another start."""
    for _ in range(20):
        t = terminal(columns, lines, "--every", every, arena.path, **options)
        frame = t.shows("h: help")
        if not awake(frame):
            return t
        t.press("q")
        assert t.ended() == 0
    raise AssertionError("each time somebody was awake")


def order_of(frame, *names):
    """Those names in the order in which they stand among the objects."""
    at = next(i for i, line in enumerate(frame) if line.startswith("OBJECT"))
    return [line.split()[0] for line in frame[at + 1 :] if line.split() and line.split()[0] in names]


def test_what_is_drawn_and_what_keys_do(terminal, arena, busy):
    holder, waiting = busy
    t = live(terminal, arena)
    frame = t.shows("by wait", "PID", "AWAITS", "HELD BY", "OBJECT", "WAITERS")
    threads = [line for line in frame if re.search(r"Mutex '(zeta|alpha)'", line)]
    assert len(threads) == 3
    assert str(waiting[0].pid) in threads[0]  # the longest wait
    assert all(re.search(rf"'\s+{holder.pid}\b", line) for line in threads)
    assert order_of(frame, "zeta", "alpha", "idle") == ["zeta", "alpha"]
    t.press("n")
    assert order_of(t.shows("by name"), "zeta", "alpha") == ["alpha", "zeta"]
    t.press("w")
    assert order_of(t.shows("by wait"), "zeta", "alpha") == ["zeta", "alpha"]
    t.press("c")
    assert order_of(t.shows("by contention"), "zeta", "alpha") == ["alpha", "zeta"]  # two wait for it
    t.press("a")
    t.until(lambda f: order_of(f, "idle") == ["idle"], "what nobody wants")
    t.press("a")
    t.until(lambda f: order_of(f, "idle") == [], "without it")
    t.press("t")
    t.shows("by time")
    t.press("/")
    t.shows("/_")
    t.press("ZETq\x7f")  # q is a letter here
    t.shows("/ZET_", "zeta", without=["alpha"])
    t.press("\r")
    t.shows("/ZET", without=["/ZET_"])
    t.press("\x1b")
    t.shows("alpha", "zeta", without=["/ZET"])
    t.press("/none\r")
    t.shows("nothing contains that")
    t.press("\x1b")
    t.shows("alpha")
    t.press("h")
    t.shows("q: quit", "by name", without=["PID"])
    t.press("x")
    t.shows("PID")
    t.press("\x1b[B\x1bOB\x1b[B")
    t.until(lambda f: not any("Mutex '" in line for line in f) and order_of(f, "zeta"), "down past the threads")
    t.press("\x1b[5~")
    t.shows("Mutex 'zeta'")
    assert not t.restored()
    t.press("q")
    assert t.ended() == 0
    assert t.restored()


def test_frozen(terminal, arena, busy):
    holder, waiting = busy
    t = live(terminal, arena, every="0.05")
    t.press(" ")
    frozen = t.until(lambda f: "frozen" in f[0] and "Mutex 'zeta'" in "".join(f), "frozen with zeta")
    holder.say()
    for w in waiting:
        w.hear()
    t.press("n")
    shown = t.shows("by name")
    rows = [sorted(line for line in f if "Mutex '" in line) for f in (frozen, shown)]
    assert rows[0] == rows[1] != []
    t.press(" ")
    t.until(lambda f: "frozen" not in f[0] and not any("Mutex '" in line for line in f), "it goes on")
    t.press("q")
    assert t.ended() == 0


def test_narrow_and_resized(terminal, arena, busy):
    _, waiting = busy
    t = live(terminal, arena, 40, 12)
    frame = t.shows("Mutex", "PID", "OBJECT", "WAITERS")
    assert any(re.match(rf"\s+\S+ \w+ +{waiting[0].pid} ", line) for line in frame), frame
    assert not any("WHERE" in line for line in frame)
    t.size(120, 30)
    t.shows("WHERE", "TAKEN")
    t.size(20, 5)
    t.until(lambda f: len(f) <= 5 and all(len(line) <= 20 for line in f), "small")
    t.size(200, 50)
    t.shows("ENDS IN")
    t.press("\x03")  # Ctrl-C
    assert t.ended() == 130
    assert t.restored()


RATES = """
    lock = syncx.Mutex("hot", arena=arena)
    inside = threading.Barrier(2)
    def contend():
        while True:
            inside.wait(); lock.acquire(); lock.release(); inside.wait()
    threading.Thread(target=contend, daemon=True).start()
    from support import until_waiting
    say()
    while True:
        with lock:
            inside.wait()
            until_waiting(arena)
        inside.wait()
    """


@pytest.mark.core
def test_contentions_per_second(terminal, arena, child):
    child(RATES).hear()
    t = terminal(80, 24, "--every", "0.05", arena.path)
    t.until(lambda f: any(re.match(r"hot +\d+(\.\d)? ", line) for line in f), "how often a second")
    t.until(lambda f: any(re.search(r"objects?, \d+(\.\d)? contentions/s", line) for line in f), "all together")
    t.press("q")
    assert t.ended() == 0


KNOT = """
    from syncx import _core
    _core._set_deadlock(False)  # or it would be ended at once
    x, y = (syncx.Mutex(n, arena=arena) for n in "xy")
    both = threading.Barrier(2)
    def run(first, second):
        first.acquire(); both.wait(); second.acquire()
    for order in ((x, y), (y, x)):
        threading.Thread(target=run, args=order, daemon=True).start()
    say(); hear()
    """


def test_a_knot_stands_out(terminal, arena, child):
    a = child(KNOT)
    a.hear()
    t = terminal(80, 24, "--every", "0.05", arena.path)
    t.shows("! deadlock of 2 threads", f"{a.pid} > {a.pid} > {a.pid}")
    t.until(lambda f: sum(bool(re.match(r"! +\d+\S* (us|ms|s) ", line)) for line in f) == 2, "each is marked")
    assert "\x1b[1;31m! deadlock" in t.text
    t.press("q")
    assert t.ended() == 0
    plain = terminal(80, 24, "--every", "0.05", arena.path, env={"NO_COLOR": "1"})
    plain.shows("! deadlock of 2 threads")
    assert "\x1b[1;31m" not in plain.text
    os.kill(plain.process.pid, signal.SIGTERM)
    assert plain.ended() == -signal.SIGTERM
    assert plain.restored()


@pytest.mark.core
def test_suspended_and_resumed(terminal, arena):
    syncx.Mutex("m", arena=arena)
    heard, tell = os.pipe()
    hear, told = os.pipe()
    try:
        command = [sys.executable, "-c", SHELL, str(tell), str(hear), "top", "--every", HOUR, arena.path]
        t = terminal(80, 24, command=command, pass_fds=(tell, hear))
        t.shows("h: help")
        assert not t.restored()
        t.press("\x1a")  # Ctrl-Z
        assert select.select([heard], [], [], PATIENCE)[0]
        stopped, pid = map(int, os.read(heard, 100).split())
        assert stopped
        while t.read(0):
            pass
        assert t.restored()
        frames = t.text.count("\x1b[H")
        os.write(told, b"x")
        t.until(lambda f: t.text.count("\x1b[H") > frames and not t.restored(), "drawn again")
        t.press("h")
        t.shows("q: quit")
        os.kill(pid, signal.SIGHUP)
        assert select.select([heard], [], [], PATIENCE)[0]
        assert os.read(heard, 100) == b"%d\n" % -signal.SIGHUP
        assert t.ended() == 0  # the shell
        assert t.restored()
    finally:
        for fd in (heard, tell, hear, told):
            os.close(fd)


@pytest.mark.core
def test_a_terminal_that_is_not_restored_is_found_out(terminal, arena):
    forgetful = "from syncx.screen import FullScreen\nFullScreen._restore = lambda self: None"
    t = terminal(80, 24, "--every", HOUR, arena.path, extra=forgetful)
    t.shows("h: help")
    t.press("q")
    assert t.ended() == 0
    assert not t.restored()


@pytest.mark.core
def test_an_error_leaves_the_terminal_as_it_was(terminal, arena):
    broken = "from syncx import top\ndef draw(*_): raise LookupError('broken')\ntop.draw = draw"
    t = terminal(80, 24, arena.path, extra=broken)
    assert t.ended() == 1
    assert re.search("LookupError.*broken", t.text)  # perhaps coloured
    assert t.restored()


@pytest.mark.core
def test_an_arena_that_goes(terminal, tmp_path):
    path = tmp_path / "going"
    arena = syncx.Arena(str(path))
    syncx.Mutex("m", arena=arena)
    t = terminal(250, 24, "--every", "0.05", str(path))
    t.shows("1 object")
    arena.unlink(force=True)
    arena.close()
    t.shows("not there any more")
    again = syncx.Arena(str(path))
    try:
        t.shows("0 objects", without=["not there"])
    finally:
        again.unlink(force=True)
        again.close()
    path.write_bytes(b"Dear Sir" * 1000)
    t.shows("is not a syncx arena")
    t.press("q")
    assert t.ended() == 0
    assert t.restored()


@pytest.mark.core
def test_a_terminal_that_takes_nothing(terminal, arena):
    """As with Ctrl-S, or a connection that hangs: it ends all the same when it is told to."""
    t = terminal(80, 24, "--every", "0.05", arena.path)
    t.shows("h: help")
    t.press("\x13")  # Ctrl-S
    os.kill(t.process.pid, signal.SIGTERM)
    assert t.process.wait(PATIENCE) == -signal.SIGTERM


# ---- without a terminal ----------------------------------------------------------------------------------------------


def test_once(arena, busy, capsys):
    def told():
        assert cli.main(["top", "--once", arena.path]) == 0
        return capsys.readouterr().out

    texts = []
    until(lambda: texts.append(told()) or texts[-1].count("Mutex '") == 3, "all three wait")
    text = texts[-1]
    assert "\x1b" not in text
    assert re.search(r"^\d threads?, \d wait; 3 objects$", text, re.M)
    assert "WHERE" in text
    rows = {row[0]: row[1:] for row in map(str.split, text.splitlines()) if len(row) > 4}
    # who waits, how long at most, how often, all together, what it is, who holds it, how often it was taken
    assert rows["zeta"][0] == "1"
    assert rows["zeta"][3:] == ["1", "-", "Mutex", "1", "1"]
    assert rows["alpha"][3:] == ["2", "-", "Mutex", "1", "1"]
    assert "idle" not in rows


def test_into_a_pipe(arena):
    done = subprocess.run(
        [sys.executable, "-m", "syncx", "top", "--arena", arena.path], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\d threads?, 0 wait; 0 objects\n\nnobody waits, and nobody ever had to\n", done.stdout)


def test_wrong_usage(arena, tmp_path, capsys):
    assert cli.main(["top", str(tmp_path / "none")]) == 1
    assert "there is no arena" in capsys.readouterr().err
    assert cli.main(["top", arena.path, "--arena", arena.path]) == 2
    for bad in ("0", "0.01", "-1", "x"):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["top", "--every", bad, arena.path])
        assert "--every" in capsys.readouterr().err


# ---- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("abcd", 1, "…"),
        ("abcd", 0, ""),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("e\u0301e\u0301", 2, "e\u0301e\u0301"),
    ],
)
def test_cut(text, width, expected):
    assert screen.cut(text, width) == expected
    assert screen.width_of(expected) <= width


@pytest.mark.parametrize("width", range(10, 130, 7))
def test_tables_fit(width):
    columns = (*top._THREADS[:1], top.Column("NUMBER", 0, right=True), *top._THREADS[3:])
    rows = [["!", "12", "a name that is long" * 3, "1, 2", "日本語日本語", "file.py:1 in f", "3 s"]]
    lines = top._table(columns, rows, width)
    least = screen.width_of("!  NUMBER  a name tha")
    assert all(screen.width_of(line) <= max(width, least) for line in lines)
    assert ("HELD BY" in lines[0]) == (width >= 31)
    if width > 118:
        assert "日本語日本語" in lines[1]
