"""The interpreter around the locks: start, shutdown, sub-interpreters, other platforms."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import sysconfig
import tempfile

import pytest
from support import PATIENCE

import syncx

HEAVY = [
    "argparse",
    "asyncio",
    "concurrent.futures",
    "ctypes",
    "dataclasses",
    "email",
    "inspect",
    "importlib.metadata",
    "json",
    "logging",
    "multiprocessing",
    "pickle",
    "rich",
    "selectors",
    "shutil",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "traceback",
    "unittest",
    "urllib",
]


def run(code, **kwargs):
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=tempfile.gettempdir(),
        **kwargs,
    )


def test_import_brings_nothing_heavy():
    code = "import sys; before = set(sys.modules); import syncx; print(*sorted(set(sys.modules) - before))"
    done = run(code)
    assert done.returncode == 0, done.stderr
    brought = set(done.stdout.split())
    assert "syncx._core" in brought
    assert not brought & set(HEAVY)


def test_import_makes_no_arena():
    env = {**os.environ, "SYNCX_ARENA": f"{os.environ['SYNCX_ARENA']}-import"}
    done = run("import syncx, os, glob; print(glob.glob('/dev/shm/*' + os.environ['SYNCX_ARENA']))", env=env)
    assert done.stdout == "[]\n", done.stderr


def test_another_platform_is_told(monkeypatch):
    code = """
import sys
sys.platform = sys.argv[1]
try:
    import syncx
except ImportError as e:
    print(e)
"""
    for platform in ("darwin", "win32", "freebsd14"):
        done = subprocess.run([sys.executable, "-c", code, platform], capture_output=True, text=True, timeout=PATIENCE)
        assert "Linux" in done.stdout, done.stderr
        assert platform in done.stdout, done.stderr


def test_version():
    from importlib.metadata import version

    assert version("syncx") == syncx.__version__


# ---- shutdown --------------------------------------------------------------------------------------------------------


def test_atexit(child, arena):
    c = child(
        """
        import atexit
        lock = syncx.Mutex("x", arena=arena)
        def last():
            with lock: say("atexit")
        def first():
            with syncx.Mutex("y", arena=arena), syncx.RLock(arena=arena): say("new ones")
        atexit.register(last)
        atexit.register(first)
        """
    )
    assert c.hear() == "new ones"
    assert c.hear() == "atexit"
    c.finish()
    assert c.stderr() == ""
    with syncx.Mutex("x", arena=arena) as m:
        assert not m.owner_died


def test_a_lock_in_a_module_that_is_torn_down(child, arena):
    """Finalizers of modules and cycles use locks when nearly everything else has gone."""
    c = child(
        """
        class Late:
            def __init__(self):
                self.lock = syncx.Mutex("late", arena=arena)
                self.me = self
            def __del__(self, write=os.write):
                with self.lock:
                    write(1, b'"late"\\n')
        late = Late()
        sys.modules["__late"] = Late()
        """
    )
    said = []
    try:
        while True:
            said.append(c.hear())
    except AssertionError:
        pass
    c.finish()
    assert said
    assert set(said) == {"late"}
    assert "Traceback" not in c.stderr()


@pytest.mark.death
@pytest.mark.parametrize("cls", ["Mutex", "RLock"])
def test_a_daemon_thread_that_holds_at_shutdown(child, arena, cls):
    c = child(
        """
        lock = getattr(syncx, cls)("x", arena=arena)
        held = threading.Event()
        def hold():
            with lock:
                held.set()
                threading.Event().wait()
        threading.Thread(target=hold, daemon=True).start()
        held.wait()
        say()
        """,
        cls=cls,
    )
    c.hear()
    c.finish()
    with getattr(syncx, cls)("x", arena=arena).within(5) as m:
        assert m.owner_died


@pytest.mark.parametrize("how", ["lock.acquire()", "lock.acquire(timeout=60)", "lock.__enter__()"])
def test_a_daemon_thread_that_waits_at_shutdown(child, arena, how):
    lock = syncx.Mutex("x", arena=arena)
    lock.acquire()
    c = child(
        f"""
        lock = syncx.Mutex("x", arena=arena)
        threading.Thread(target=lambda: {how}, daemon=True).start()
        while not any(row[3] for row in arena._participants()): time.sleep(0.001)
        """
    )
    c.finish()
    assert c.stderr() == ""
    lock.release()
    with lock.within(5) as m:
        assert not m.owner_died


@pytest.mark.death
def test_a_daemon_thread_that_gets_the_lock_during_shutdown(child, arena):
    """Woken while the interpreter goes down: it may get the lock and die with it, but nobody hangs or crashes."""
    lock = syncx.Mutex("x", arena=arena)
    for _ in range(5):
        lock.acquire()
        c = child(
            """
            import atexit
            lock = syncx.Mutex("x", arena=arena)
            threading.Thread(target=lock.acquire, daemon=True).start()
            while not any(row[3] for row in arena._participants()): time.sleep(0.001)
            atexit.register(say)
            """
        )
        c.hear()
        lock.release()
        c.finish()
        assert lock.acquire(timeout=5)
        lock.release()


@pytest.mark.death
def test_busy_daemon_threads_at_shutdown(child, arena):
    c = child(
        """
        lock = syncx.Mutex("x", arena=arena)
        def work():
            while True:
                with lock, syncx.Mutex(arena=arena), syncx.Mutex("y", arena=arena): pass
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.05)
        """
    )
    c.finish()
    with syncx.Mutex("x", arena=arena).within(5), syncx.Mutex("y", arena=arena).within(5):
        pass


@pytest.mark.death
def test_exit_while_holding(child, arena):
    for leave in ("sys.exit()", "os._exit(0)", "sys.exit(lock)", "raise SystemExit"):
        child(f"lock = syncx.Mutex('x', arena=arena); lock.acquire(); {leave}").end()
        with syncx.Mutex("x", arena=arena).within(5) as m:
            assert m.owner_died


# ---- sub-interpreters ------------------------------------------------------------------------------------------------

SUB = """
import sys, threading
try:
    import _interpreters as interpreters
except ImportError:
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        print("unavailable"); sys.exit()
import syncx
arena = syncx.Arena(sys.argv[1])
lock = syncx.Mutex("x", arena=arena)
code = '''
import syncx
arena = syncx.Arena({path!r})
lock = syncx.Mutex("x", arena=arena)
for _ in range(1000):
    with lock: pass
assert not lock.owner_died
'''.format(path=sys.argv[1])
errors = []
def run():
    try:
        {create}
        error = interpreters.run_string(i, code)
        if error is not None: errors.append(error)
        interpreters.destroy(i)
    except BaseException as e:
        errors.append(e)
threads = [threading.Thread(target=run) for _ in range(3)]
for t in threads: t.start()
for _ in range(1000):
    with lock: pass
for t in threads: t.join()
print("errors:", *errors)
"""


@pytest.mark.parametrize("kind", ["shared GIL", "own GIL"])
def test_sub_interpreters(arena, kind):
    if kind == "own GIL" and sys.version_info < (3, 12):
        pytest.skip("interpreters with a GIL of their own came with Python 3.12")
    if sys.version_info >= (3, 13):
        create = f"i = interpreters.create({'isolated' if kind == 'own GIL' else 'legacy'!r})"
    else:
        create = f"i = interpreters.create(isolated={kind == 'own GIL'})" if sys.version_info >= (3, 12) else ""
        create = create or "i = interpreters.create(isolated=False)"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SUB.replace("{create}", create), arena.path],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        cwd=tempfile.gettempdir(),
    )
    if done.stdout == "unavailable\n":
        pytest.skip("this interpreter has no sub-interpreters")
    assert (done.returncode, done.stdout) == (0, "errors:\n"), done.stderr


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="not a free-threaded build")
def test_the_gil_stays_off():
    done = run("import sys, syncx; print(sys._is_gil_enabled())")
    assert done.stdout == "False\n", done.stderr


# ---- references ------------------------------------------------------------------------------------------------------


def test_no_reference_is_leaked(arena):
    """By the locks' own life: a thousand rounds of everything leave as many objects as before."""
    import gc

    def everything():
        for cls in (syncx.Mutex, syncx.RLock):
            lock = cls("x", arena=arena)
            with lock, syncx.Mutex(arena=arena):
                lock.holder, repr(lock), lock.statistics()
            with cls(arena=arena):
                pass
            with lock.within(1):
                pass
            with contextlib.suppress(TypeError):
                lock.acquire(timeout="1")
            with contextlib.suppress(ValueError):
                cls("", arena=arena)
            with contextlib.suppress(RuntimeError):
                lock.release()
            lock.close()
            arena.unlink("x")

    for _ in range(50):
        everything()
    gc.collect()
    before = len(gc.get_objects())
    blocks = sys.getallocatedblocks()
    for _ in range(300):
        everything()
    gc.collect()
    assert len(gc.get_objects()) - before < 50
    assert sys.getallocatedblocks() - blocks < 200
