"""Arenas: opening, leaving, unlinking, files that are no arena or not a whole one, reboots, full file systems."""

from __future__ import annotations

import itertools
import os
import random
import stat
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from support import prefix, until_waiting

import syncx

HEADER = 3008
"""Bytes of the header; its description says so too, see test_description."""
_numbers = itertools.count()


def fnv64(data: bytes) -> int:
    """FNV-1a, as in arena.c: the checksum of the part of a header that is written once."""
    h = 14695981039346656037
    for b in data:
        h = (h ^ b) * 1099511628211 % 2**64
    return h


ABI_AT, CHECKED, BOOT_ID_AT = 8, 216, 224
"""Offsets in the header: the ABI number, the checksum (which covers what is before it), the boot id."""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "arena")


@pytest.fixture
def name():
    """The name of an arena of the test's own, without a path."""
    name = f"{prefix()}-arena-{next(_numbers)}"
    yield name
    path = f"/dev/shm/syncx-{os.geteuid()}-{name}"
    if os.path.exists(path):
        os.unlink(path)


# ---- opening ---------------------------------------------------------------------------------------------------------


def test_a_name_is_a_file_of_the_user(name):
    with syncx.Arena(name) as arena:
        assert arena.name == name
        assert arena.path == f"/dev/shm/syncx-{os.geteuid()}-{name}"
        st = os.stat(arena.path)
        assert stat.S_IMODE(st.st_mode) == 0o600
        assert st.st_uid == os.geteuid()
        assert st.st_blocks * 512 <= 10 * 4096  # an empty one costs a few pages
        assert len(arena.id) == 16


def test_a_path_is_that_file(path):
    with syncx.Arena(path) as arena:
        assert arena.path == arena.name == path
        assert os.path.exists(path)
    assert os.path.exists(path)  # it stays


def test_a_path_object(tmp_path):
    with syncx.Arena(tmp_path / "arena") as arena, syncx.Mutex("x", arena=arena):
        assert arena.path == str(tmp_path / "arena")


def test_a_relative_path_means_one_file(tmp_path, child):
    c = child(
        "os.chdir(where); a = syncx.Arena('./arena'); os.chdir('/'); say([a.path, a.id.hex()])", where=str(tmp_path)
    )
    path, ident = c.hear()
    c.finish()
    assert path == str(tmp_path / "arena")
    with syncx.Arena(path) as arena:
        assert arena.id.hex() == ident


def test_two_opens_are_one_arena(path):
    a, b = syncx.Arena(path), syncx.Arena(path)
    assert a.id == b.id
    with syncx.Mutex("x", arena=a):
        assert syncx.Mutex("x", arena=b).locked()
    a.close()
    with syncx.Mutex("x", arena=b):
        pass
    b.close()


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o640])
def test_mode(path, mode):
    old = os.umask(0o077)
    try:
        with syncx.Arena(path, mode=mode):
            assert stat.S_IMODE(os.stat(path).st_mode) == mode
    finally:
        os.umask(old)
    with syncx.Arena(path, mode=0o600):  # of an arena that is there it changes nothing
        assert stat.S_IMODE(os.stat(path).st_mode) == mode


@pytest.mark.parametrize(
    ("mode", "error"),
    [("0600", TypeError), (None, TypeError), (True, TypeError), (6.0, TypeError)]
    + [(m, ValueError) for m in (0, 0o400, 0o077, 0o1600, -1, 2**40)],
)
def test_bad_mode(path, mode, error):
    with pytest.raises(error, match="mode"):
        syncx.Arena(path, mode=mode)
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("", ValueError),
        ("a\0b", ValueError),
        ("/tmp/a\0b", ValueError),
        ("/tmp/", ValueError),
        ("a\nb", ValueError),
        ("a\udc80", ValueError),
        ("x" * 256, ValueError),
        (b"bytes", TypeError),
        (5, TypeError),
        (None, TypeError),
    ],
)
def test_bad_names_and_paths(given, error):
    with pytest.raises(error):
        syncx.Arena(given)


def test_a_name_longer_than_a_file_name_may_be():
    with pytest.raises((OSError, ValueError)):
        syncx.Arena("x" * 250)


def test_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        syncx.Arena(tmp_path / "no" / "arena")


def test_create_false(path):
    with pytest.raises(FileNotFoundError) as e:
        syncx.Arena(path, create=False)
    assert path in str(e.value)
    syncx.Arena(path).close()
    syncx.Arena(path, create=False).close()
    with pytest.raises(ValueError, match="create"):
        syncx.Arena(path, create="maybe")


def test_an_arena_of_another_type():
    for other in ("name", 5, object()):
        with pytest.raises(TypeError, match="Arena"):
            syncx.Mutex("x", arena=other)


def test_many_processes_make_one_arena(path, child):
    code = """
        say()
        hear()
        a = syncx.Arena(path)
        with syncx.Mutex("x", arena=a): pass
        say(a.id.hex())
    """
    children = [child(code, path=path) for _ in range(5)]
    for c in children:
        c.hear()
    for c in children:
        c.say()
    assert len({c.hear() for c in children}) == 1
    for c in children:
        c.finish()
    assert os.listdir(os.path.dirname(path)) == ["arena"]  # no temporary file is left


def test_description(arena):
    d = arena._description()
    assert d["abi"] == 4
    assert d["header_size"] == HEADER
    with open(arena.path, "rb") as f:
        head = f.read(CHECKED + 8)
    assert struct.unpack_from("<I", head, ABI_AT)[0] == d["abi"]
    assert struct.unpack_from("<Q", head, CHECKED)[0] == fnv64(head[:CHECKED])
    assert os.stat(arena.path).st_size == d["total_size"]
    for offset, size, capacity, ready in d["regions"].values():
        assert ready <= size * capacity
        assert offset + size * capacity <= d["total_size"]
    assert d["regions"]["participants"][2] >= 4096
    assert d["regions"]["cells"][2] // 2 >= 100_000


# ---- closing and leaving ---------------------------------------------------------------------------------------------


def test_use_after_close(path):
    arena = syncx.Arena(path)
    lock = syncx.Mutex("x", arena=arena)
    arena.close()
    arena.close()
    assert arena.closed
    assert "closed" in repr(arena)
    with lock:  # what is open already works on
        pass
    for use in (
        lambda: syncx.Mutex("y", arena=arena),
        lambda: syncx.Mutex(arena=arena),
        lambda: arena.unlink("x"),
        arena.unlink,
        arena.collect,
        arena.statistics,
        lambda: list(arena.objects()),
        lambda: arena.id,
        lambda: arena.retired,
    ):
        with pytest.raises(ValueError, match="closed"):
            use()
    lock.close()


def test_a_lock_keeps_its_arena(path):
    lock = syncx.Mutex("x", arena=syncx.Arena(path))
    with lock:
        assert lock.arena.path == path


def test_leaving_gives_back_the_descriptor_and_the_mapping(path):
    def ours():
        maps = Path("/proc/self/maps").read_text()
        return path in maps, any(os.path.realpath(f"/proc/self/fd/{f}") == path for f in os.listdir("/proc/self/fd"))

    with syncx.Arena(path) as arena:
        with syncx.Mutex("x", arena=arena):
            assert ours() == (True, True)
        arena_lock = syncx.Mutex(arena=arena)
        arena_lock.close()
        del arena_lock
    assert ours() == (False, False)


def test_a_transient_arena_goes_with_its_last_process(name, child):
    path = f"/dev/shm/syncx-{os.geteuid()}-{name}"
    code = """
        a = syncx.Arena(name)
        with syncx.Mutex(arena=a): pass
        say()
        hear()
    """
    first, second = child(code, name=name), child(code, name=name)
    first.hear()
    second.hear()
    first.say()
    first.finish()
    assert os.path.exists(path)
    second.say()
    second.finish()
    assert not os.path.exists(path)


def test_a_transient_arena_stays_while_it_has_a_name(name, child):
    path = f"/dev/shm/syncx-{os.geteuid()}-{name}"
    child("syncx.Mutex('kept', arena=syncx.Arena(name))", name=name).finish()
    assert os.path.exists(path)
    child("a = syncx.Arena(name); a.unlink('kept')", name=name).finish()
    assert not os.path.exists(path)


def test_the_default_arena_is_of_the_environment(child, name, path):
    for given, where in ((name, f"/dev/shm/syncx-{os.geteuid()}-{name}"), (path, path)):
        c = child(
            "a = syncx.default_arena(); m = syncx.Mutex(); say([a.path, m.arena is a, syncx.default_arena() is a])",
            env={"SYNCX_ARENA": given},
        )
        assert c.hear() == [where, True, True]
        c.finish()


def test_a_default_arena_that_was_unlinked_is_made_anew(child, name):
    c = child(
        """
        a = syncx.default_arena()
        old = syncx.Mutex("x")
        a.unlink()
        assert a.retired
        b = syncx.default_arena()
        with syncx.Mutex("x"): say(b.id != a.id)
        try:
            old.acquire()
        except syncx.Gone:
            say("gone")
        b.unlink()
        """,
        env={"SYNCX_ARENA": name},
    )
    assert c.hear() is True
    assert c.hear() == "gone"
    c.finish()


def test_a_bad_environment_says_so(child):
    c = child(
        """
        try:
            syncx.Mutex()
        except ValueError as e:
            say(str(e))
        """,
        env={"SYNCX_ARENA": "bad\nname"},
    )
    assert "name" in c.hear()
    c.finish()


# ---- unlinking -------------------------------------------------------------------------------------------------------


def test_unlink_the_whole(path):
    arena = syncx.Arena(path)
    lock = syncx.Mutex("x", arena=arena)
    arena.unlink()
    assert arena.retired
    assert not os.path.exists(path)
    with pytest.raises(syncx.Gone):
        lock.acquire()
    with syncx.Arena(path) as anew:
        assert anew.id != arena.id
        assert not anew.retired
        with syncx.Mutex("x", arena=anew), pytest.raises(syncx.Gone):
            lock.acquire(False)
        anew.unlink()
    lock.close()
    arena.close()


def test_unlink_refuses_while_others_are_attached(path, child):
    c = child("a = syncx.Arena(path); say(); hear()", path=path)
    c.hear()
    with syncx.Arena(path) as arena:
        with pytest.raises(syncx.InUse):
            arena.unlink()
        assert not arena.retired
        assert os.path.exists(path)
        c.say()
        c.finish()
        arena.unlink()
    assert not os.path.exists(path)


@pytest.mark.death
def test_unlink_does_not_mind_the_dead(path, child):
    c = child("a = syncx.Arena(path); syncx.Mutex('x', arena=a).acquire(); say(); hear()", path=path)
    c.hear()
    c.kill()
    with syncx.Arena(path) as arena:
        arena.unlink()


def test_unlink_by_force_tells_the_others(path, child):
    c = child(
        """
        a = syncx.Arena(path)
        m = syncx.Mutex("x", arena=a)
        say()
        hear()
        try:
            m.acquire()
        except syncx.Gone:
            say(["gone", a.retired])
        with syncx.Mutex("x", arena=syncx.Arena(path)):
            say("anew")
        """,
        path=path,
    )
    c.hear()
    with syncx.Arena(path) as arena:
        arena.unlink(force=True)
    c.say()
    assert c.hear() == ["gone", True]
    assert c.hear() == "anew"
    c.finish()
    os.unlink(path)


def test_a_new_object_in_a_retired_arena_is_refused(path):
    with syncx.Arena(path) as arena:
        arena.unlink()
        with pytest.raises((syncx.Gone, syncx.ArenaError)):
            with syncx.Mutex("x", arena=arena):
                raise AssertionError("a lock that nobody else can ever open")


# ---- files that are no arena -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 7, 8, 100, 3007, 3008, 4096, 100_000])
@pytest.mark.parametrize("create", [True, False])
def test_other_files(path, size, create):
    data = random.Random(size).randbytes(size)
    with open(path, "wb") as f:
        f.write(data)
    with pytest.raises(syncx.ArenaError, match="not a syncx arena"):
        syncx.Arena(path, create=create)
    with open(path, "rb") as f:
        assert f.read() == data  # and left alone


def test_text_and_zeros(path):
    for data in (b"# a file of yours\n" * 1000, bytes(1 << 20)):
        with open(path, "wb") as f:
            f.write(data)
        with pytest.raises(syncx.ArenaError):
            syncx.Arena(path)
        with open(path, "rb") as f:
            assert f.read() == data


def test_a_directory(tmp_path):
    with pytest.raises((OSError, syncx.ArenaError)):
        syncx.Arena(tmp_path)


def test_a_fifo_does_not_hang(path):
    os.mkfifo(path)
    with pytest.raises((OSError, syncx.ArenaError)):
        syncx.Arena(path)


def test_a_device():
    with pytest.raises((OSError, syncx.ArenaError)):
        syncx.Arena("/dev/zero")


@pytest.mark.parametrize("target", ["a real arena", "nothing"])
def test_a_symbolic_link_is_not_followed(path, tmp_path, target):
    if target == "a real arena":
        syncx.Arena(tmp_path / "real").close()
    os.symlink(tmp_path / "real", path)
    with pytest.raises(OSError, match="symbolic link"):
        syncx.Arena(path)
    assert os.path.exists(tmp_path / "real") == (target == "a real arena")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_elses(name, child):
    with syncx.Arena(name) as arena:
        path = arena.path
        syncx.Mutex("x", arena=arena)
    os.chown(path, 65534, 65534)
    with pytest.raises(PermissionError, match="somebody else"):
        syncx.Arena(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_no_permission(path, tmp_path, child):
    syncx.Arena(path).close()
    for directory in (tmp_path, *list(tmp_path.parents)[:3]):
        os.chmod(directory, 0o755)
    c = child(
        """
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        for where in (path, path + "-new"):
            try:
                syncx.Arena(where)
            except PermissionError as e:
                say(str(e))
        """,
        path=path,
    )
    assert path in c.hear()
    assert f"{path}-new" in c.hear()
    c.finish()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_group_shares_by_mode(path, tmp_path, child):
    for directory in (tmp_path, *list(tmp_path.parents)[:3]):
        os.chmod(directory, 0o755)
    with syncx.Arena(path, mode=0o666) as arena:
        lock = syncx.Mutex("x", arena=arena)
        c = child(
            """
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
            lock = syncx.Mutex("x", arena=syncx.Arena(path))
            say(lock.acquire(False))
            hear()
            with lock: say()
            """,
            path=path,
        )
        with lock:
            assert c.hear() is False
        c.say()
        c.hear()
        c.finish()


# ---- damaged ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def used(path, child):
    """An arena with a few locks, and nobody attached."""
    child(
        """
        a = syncx.Arena(path)
        for i in range(20):
            with syncx.Mutex(f"m{i}", arena=a), syncx.RLock(f"r{i}", arena=a): pass
        """,
        path=path,
    ).finish()
    return path


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 8192, 1 << 20, -4096, -1])
def test_truncated(used, size):
    os.truncate(used, size if size >= 0 else os.stat(used).st_size + size)
    with pytest.raises(syncx.ArenaError):
        syncx.Arena(used)


def test_another_version(used):
    with open(used, "r+b") as f:
        head = bytearray(f.read(CHECKED))
        struct.pack_into("<I", head, ABI_AT, 1)
        f.seek(0)
        f.write(head + struct.pack("<Q", fnv64(head)))
    with pytest.raises(syncx.ArenaError, match="another version"):
        syncx.Arena(used)


@pytest.mark.parametrize("at", [12, 16, 56, 60, 72, 80, 88, 100])
def test_another_layout_with_a_right_checksum(used, at):
    """Sizes and offsets are compared with our own before any is used."""
    with open(used, "r+b") as f:
        head = bytearray(f.read(CHECKED))
        head[at] ^= 0x40
        f.seek(0)
        f.write(head + struct.pack("<Q", fnv64(head)))
    with pytest.raises(syncx.ArenaError):
        syncx.Arena(used)


@pytest.mark.parametrize("at", [*range(8, CHECKED, 16), CHECKED])
def test_a_flipped_bit_in_the_description(used, at):
    with open(used, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 1]))
    with pytest.raises(syncx.ArenaError):
        syncx.Arena(used)


FUZZ = """
    import random
    rng = random.Random(seed)
    good = open(path, "rb").read({n})
    say()
    for i in range(rounds):
        data = bytearray(good)
        how = rng.randrange(4)
        lo, hi = rng.choice(areas)
        for _ in range(rng.choice((1, 4, 32, 256))):
            at = rng.randrange(lo, hi)
            if how == 0: data[at] = rng.randrange(256)
            elif how == 1: data[at] = 0xff
            elif how == 2: data[at] ^= 1 << rng.randrange(8)
            else:
                at &= ~7
                data[at:at + 8] = rng.randbytes(8)
        where = path + str(i)
        with open(where, "wb") as f:
            f.write(data)
            f.truncate(size)
        # each in a process of its own: some damage may keep it busy, none may kill it
        pid = os.fork()
        if pid == 0:
            signal.alarm(5)
            try:
                a = syncx.Arena(where)
                list(a.objects()), a.statistics(), a._participants()
                for name in ("m1", "m7", "new"):
                    m = syncx.Mutex(name, arena=a, on_owner_death="ignore")
                    if m.acquire(timeout=0.01): m.release()
                    repr(m), m.holder, m.statistics()
                syncx.Mutex(arena=a)
                a.collect()
                a.unlink("m3", force=True)
            except (syncx.SyncxError, OSError, ValueError, UnicodeError):
                pass
            os._exit(0)
        code = wait_for(pid)
        os.unlink(where)
        if code:
            say([i, code])
    say("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_random_damage_never_crashes(used, child, seed):
    """Header, slots, index, references, names and cells, damaged before they are opened."""
    with syncx.Arena(used) as arena:
        regions = arena._description()["regions"]
    size = os.stat(used).st_size
    areas = [(8, HEADER), (CHECKED + 8, HEADER), (HEADER - 512, HEADER)]
    areas += [(offset, offset + min(max(ready, 64), 2048)) for offset, _, _, ready in regions.values() if ready]
    top = max(hi for _, hi in areas)
    c = child(FUZZ.format(n=top), path=used, seed=seed, size=size, areas=areas, rounds=30)
    c.hear()
    # what a signal killed: -SIGABRT, -SIGSEGV, -SIGBUS; -SIGALRM would be a hang
    bad = []
    while (said := c.hear()) != "done":
        bad.append(said)
    assert bad == []
    c.finish()


# ---- reboot ----------------------------------------------------------------------------------------------------------


@pytest.mark.death
def test_after_a_reboot_every_holder_is_dead(path, child):
    """Another boot id in the file, and life words that name threads which are alive by accident."""
    c = child(
        """
        a = syncx.Arena(path)
        m, r = syncx.Mutex("m", arena=a), syncx.RLock("r", arena=a)
        m.acquire(); r.acquire(); r.acquire()
        say(); hear()
        """,
        path=path,
    )
    c.hear()
    with open(path, "rb") as f:
        image = f.read()  # as the disk had it when the power failed: everybody alive
    c.kill()
    os.unlink(path)
    image = bytearray(image)
    image[BOOT_ID_AT : BOOT_ID_AT + 16] = bytes(range(16))
    with open(path, "wb") as f:
        f.write(image)
    with syncx.Arena(path) as arena:
        for name, cls in (("m", syncx.Mutex), ("r", syncx.RLock)):
            lock = cls(name, arena=arena, create=False)
            assert not lock.locked()
            with lock as m:
                assert m.owner_died
                assert m.depth == 1
            with lock as m:
                assert not m.owner_died
        assert len(arena._participants()) == 1
    with open(path, "rb") as f:
        f.seek(BOOT_ID_AT)
        assert f.read(16) == bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", ""))


@pytest.mark.death
def test_a_copied_file_is_not_in_use(path, child):
    """The image of an arena in use, without a reboot: its holders are not attached to this file."""
    c = child("a = syncx.Arena(path); syncx.Mutex('m', arena=a).acquire(); say(); hear()", path=path)
    c.hear()
    with open(path, "rb") as f:
        image = f.read()
    with open(f"{path}-copy", "wb") as f:
        f.write(image)
    with syncx.Arena(f"{path}-copy") as arena, syncx.Mutex("m", arena=arena).within(5) as m:
        assert m.owner_died
    with syncx.Arena(path) as arena:
        assert syncx.Mutex("m", arena=arena).locked()


# ---- full ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """A file system of a few pages."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    where = tmp_path / "small"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", where], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield where
    subprocess.run(["umount", "-l", where], check=True)


def test_a_full_file_system_is_an_error_and_not_a_crash(small, child):
    """At whatever step the space runs out: the right exception, and what was there works on."""
    c = child(
        """
        import errno
        filler = open(where + "/filler", "wb")
        outcomes = set()
        for pages in range(0, 33):
            try:
                os.ftruncate(filler.fileno(), 0)
                os.posix_fallocate(filler.fileno(), 0, max(1, pages * 4096))
            except OSError:
                break
            done = 0
            try:
                arena = syncx.Arena(where + "/arena")
                done = 1
                kept = []
                for i in range(3000):
                    kept.append(syncx.Mutex(f"{i} " + "x" * 200, arena=arena))
                    done = 2
                    with kept[-1]: done = 3
            except OSError as e:
                outcomes.add((errno.errorcode[e.errno], done))
            for lock in kept[:5] if done == 3 else ():
                with lock: pass
            os.ftruncate(filler.fileno(), 0)
            if done:
                kept.clear()
                lock = None
                arena.unlink(force=True)
                arena.close()
        say(sorted(outcomes))
        """,
        where=str(small),
    )
    outcomes = c.hear()
    c.finish()
    assert {code for code, _ in outcomes} == {"ENOSPC"}
    assert {done for _, done in outcomes} >= {0, 3}  # none could be made; it filled up in use
    assert set(os.listdir(small)) <= {"filler", "arena"}  # no half-made file under another name


def test_an_arena_on_a_full_file_system_can_be_removed(small, child):
    """What one does to make room."""
    child("a = syncx.Arena(where + '/arena'); os._exit(0)", where=str(small)).finish()
    c = child(
        """
        filler = open(where + "/filler", "wb")
        try:
            while True: filler.write(bytes(4096)) and filler.flush()
        except OSError:
            pass
        with syncx.Arena(where + "/arena") as a:
            a.unlink()
        say(sorted(os.listdir(where)))
        """,
        where=str(small),
    )
    assert c.hear() == ["filler"]
    c.finish()


def test_full_of_participants(path, child):
    """A clear error for the thread that is one too many; the others work on; an end makes room."""
    c = child(
        """
        threading.stack_size(64 * 1024)
        a = syncx.Arena(path)
        lock = syncx.Mutex("x", arena=a)
        with lock: pass
        limit = syncx._core.MAX_PARTICIPANTS
        end = threading.Event()
        ready = threading.Semaphore(0)
        def stay():
            lock.locked()
            with lock: pass
            ready.release()
            end.wait()
        threads = []
        for i in range(limit - 1):
            t = threading.Thread(target=stay)
            t.start()
            threads.append(t)
            ready.acquire()
        def one_more():
            try:
                lock.acquire()
            except syncx.ArenaFull as e:
                say(str(e))
        t = threading.Thread(target=one_more); t.start(); t.join()
        with lock: say("works on")
        end.set()
        for t in threads: t.join()
        def again():
            with lock: say("room again")
        t = threading.Thread(target=again); t.start(); t.join()
        """,
        path=path,
    )
    try:
        assert "4096" in c.hear(timeout=90)
    except AssertionError as e:
        if "can't start new thread" in str(e):
            pytest.skip("4096 threads cannot be started here")
        raise
    assert c.hear() == "works on"
    assert c.hear() == "room again"
    c.finish()


# ---- looking ---------------------------------------------------------------------------------------------------------


def test_objects(arena):
    lock = syncx.Mutex("jobs", arena=arena)
    syncx.RLock(arena=arena).close()
    with lock:
        got = []
        t = threading.Thread(target=lambda: got.append(lock.acquire(timeout=20)))
        t.start()
        until_waiting(arena)
        (row,) = arena.objects()
        assert row.name == "jobs"
        assert row.kind == "Mutex"
        assert row.holder == (os.getpid(), threading.get_native_id()) == tuple(row.holder)
        assert row.holder.pid == os.getpid()
        assert [w.tid for w in row.waiters] == [t.native_id]
        assert 0 <= row.longest_wait < 20
        assert row.processes == 1
        assert not row.owner_died
    t.join(10)
    assert got == [True]


@pytest.mark.death
def test_objects_tells_of_deaths(arena, child):
    c = child("syncx.Mutex('jobs', arena=arena).acquire(); say(); hear()")
    c.hear()
    c.kill()
    (row,) = arena.objects()
    assert row.owner_died
    assert row.holder is None
    with syncx.Mutex("jobs", arena=arena):
        pass
    (row,) = arena.objects()
    assert not row.owner_died
    assert row.recoveries == 1
    assert arena.statistics()["recoveries"] == 1


def test_repr_and_str(arena):
    assert repr(arena) == f"<syncx.Arena {arena.name!r}>"
    assert arena.path in str(arena)
