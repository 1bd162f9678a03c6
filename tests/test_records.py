"""RecordLocks: a lock for each record of a file, told by the bytes that the kernel has."""

from __future__ import annotations

import pickle
import threading

import pytest
from filelocks import may, probe, until_awaited
from support import PATIENCE
from test_mutex import in_thread

import syncx


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "records"
    path.write_bytes(b"HDR" + b"".join(b"%04d" % n for n in range(20)))
    return path


@pytest.fixture
def records(arena, path):
    return syncx.RecordLocks(path, 4, header=3, arena=arena)


def seen(path):
    """The records as the kernel has them, and first the header."""
    whole = probe(path, range(3 + 4 * 20))
    cells = [whole[3 + 4 * n : 7 + 4 * n] for n in range(20)]
    assert all(len(set(c)) == 1 for c in cells), "a record is locked as a whole"
    return whole[:3] + " " + "".join(c[0] for c in cells)


def test_one_record(records, path):
    with records[2] as lock:
        assert isinstance(lock, syncx.RangeLock)
        assert (lock.start, lock.length, lock.shared) == (11, 4, False)
        assert seen(path) == "... ..w................."
        assert not may(records[2])
        assert may(records[1])
        assert may(records[3])
    assert seen(path) == "... ...................."


def test_several(records, path):
    with records[3:10], records.shared(17), records.shared(12):
        assert seen(path) == "... ...wwwwwww..r....r.."
        assert not may(records[9])
        assert not may(records.shared(9))
        assert may(records.shared(17))
        assert not may(records[17])
        assert may(records[10])
    with records.shared(slice(0, 2)):
        assert seen(path) == "... rr.................."


def test_without_a_header(arena, path):
    with syncx.RecordLocks(path, 10, arena=arena)[1]:
        assert probe(path, range(0, 30, 5)) == "..ww.."


def test_a_file_that_is_not_there_yet(arena, tmp_path):
    new = tmp_path / "new"
    with syncx.RecordLocks(new, 8, arena=arena)[1000]:
        assert probe(new, [7999, 8000, 8007, 8008]) == ".ww."
    with (
        pytest.raises(FileNotFoundError, match=r"other"),
        syncx.RecordLocks(tmp_path / "other", 8, create=False, arena=arena)[0],
    ):
        raise AssertionError("not to be reached")


def test_read_and_write(records, path):
    with records[7]:
        assert records.read(7) == b"0007"
        assert records.write(7, b"seve") in (None, 4)
        assert records.read(7) == b"seve"
    data = path.read_bytes()
    assert data[:3] == b"HDR"
    assert data[3 + 28 : 3 + 32] == b"seve"
    assert data[3 + 24 : 3 + 28] == b"0006"
    records.write(25, b"new!")
    assert path.read_bytes()[3 + 100 :] == b"new!"
    for data in (b"12345", b"123", b"", "1234"):
        with pytest.raises((ValueError, TypeError), match=r"4|bytes"):
            records.write(0, data)
    assert records.read(0) == b"0000"


@pytest.mark.parametrize(
    ("n", "error"),
    [
        (-1, (IndexError, ValueError)),
        (2**62, (IndexError, ValueError, OverflowError)),
        (10**30, (IndexError, ValueError, OverflowError)),
        (True, TypeError),
        ("1", TypeError),
        (1.0, TypeError),
        (None, TypeError),
        ((1, 2), TypeError),
        (slice(1, 5, 2), ValueError),
        (slice(5, 5), ValueError),
        (slice(None, 5), ValueError),
        (slice(5, None), ValueError),
        (slice(5, 3), ValueError),
        (slice(-3, 5), (IndexError, ValueError)),
        (slice(1, -1), (IndexError, ValueError)),
        (slice("a", 5), TypeError),
    ],
    ids=str,
)
def test_what_is_no_record(records, path, n, error):
    with pytest.raises(error):
        records[n].acquire()
    with pytest.raises(error):
        records.shared(n).acquire()
    if not isinstance(n, slice):
        for call in (records.read, lambda n: records.write(n, b"1234")):
            with pytest.raises(error):
                call(n)
    assert seen(path) == "... ...................."


@pytest.mark.parametrize(
    ("size", "options", "error", "words"),
    [
        (0, {}, ValueError, "record_size"),
        (-4, {}, ValueError, "record_size"),
        (True, {}, TypeError, "record_size"),
        ("4", {}, TypeError, "record_size"),
        (4.0, {}, TypeError, "record_size"),
        (None, {}, TypeError, "record_size"),
        (2**63, {}, (ValueError, OverflowError), "record_size"),
        (4, {"header": -1}, ValueError, "header"),
        (4, {"header": "3"}, TypeError, "header"),
        (4, {"header": 2**63}, (ValueError, OverflowError), "header"),
    ],
    ids=str,
)
def test_what_is_no_table(arena, path, size, options, error, words):
    with pytest.raises(error, match=words):
        syncx.RecordLocks(path, size, arena=arena, **options)


def test_waits_for_its_record_only(arena, records, path):
    got = []

    def take(n):
        with records[n]:
            got.append(n)

    with records[4]:
        t = threading.Thread(target=take, args=(4,))
        t.start()
        until_awaited(arena, path)
        take(5)
        assert got == [5]
    t.join(PATIENCE)
    assert got == [5, 4]


def test_timeout_and_reentrant(arena, path):
    records = syncx.RecordLocks(path, 4, timeout=0.03, reentrant=True, arena=arena)
    with records[2] as lock:
        with lock:
            assert lock.held

        def other():
            with records[2]:
                raise AssertionError("not to be reached")

        with pytest.raises(syncx.Timeout, match=r"0\.03"):
            in_thread(other)


def test_pickles_with_its_options(arena, path):
    """Where no file was to be made, none is by whoever unpickles."""
    lock = syncx.RecordLocks(path, 4, timeout=2.5, create=False, arena=arena)
    blob = pickle.dumps(lock)
    assert pickle.loads(blob)[0].timeout == 2.5
    lock.close()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(blob)[0].acquire()
    assert not path.exists()


def test_moves_to_other_processes(arena, records, path, child):
    other = pickle.loads(pickle.dumps(records))
    with other[2]:
        assert seen(path) == "... ..w................."
    c = child(
        """
        records = syncx.RecordLocks(path, 4, header=3, arena=arena)
        with records[2:4]:
            say(); hear()
            records.write(3, b"THRE")
        """,
        path=str(path),
    )
    c.hear()
    assert not may(records[3])
    assert not may(records.shared(2))
    assert may(records[4])
    c.say()
    with records[3].within(20):
        assert records.read(3) == b"THRE"
    c.finish()


def test_transfers_between_records_lose_nothing(arena, path, child):
    """Two records at a time, in the order of their numbers: the sum stays, whoever transfers what."""
    path.write_bytes(b"%08d" % 100 * 8)
    transfers = """
    import random
    random.seed(seed)
    table = syncx.RecordLocks(path, 8, arena=arena)
    for _ in range(150):
        a, b = sorted(random.sample(range(8), 2))
        with table[a], table[b]:
            x, y = int(table.read(a)), int(table.read(b))
            time.sleep(0)
            n = random.randint(0, x)
            table.write(a, b"%08d" % (x - n))
            table.write(b, b"%08d" % (y + n))
    """
    children = [child(transfers, path=str(path), seed=n) for n in range(3)]
    for c in children:
        c.finish()
    data = path.read_bytes()
    assert sum(int(data[n : n + 8]) for n in range(0, 64, 8)) == 800
