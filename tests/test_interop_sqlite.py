"""Locks beside sqlite3's own, on its database file: who waits for whom, and no page is torn.

The database has a thousand accounts of 100 each; whatever is transferred, the sum stays.  A copy of the file is right
if sqlite3 finds it whole and the sum is there.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from interop.parties import NEIGHBOURS, OURS, blocked
from interop.table import PENDING, SHARED, SHARED_SIZE, make_database
from support import PATIENCE, until

import syncx

SUM = 1000 * 100
ALL = (PENDING, SHARED_SIZE + 2)
"""The bytes that sqlite3 locks: who has them exclusively is alone with the file."""


@pytest.fixture
def database(tmp_path):
    return make_database(tmp_path / "bank.db")


def whole(path: Path) -> bool:
    """Does sqlite3 find it right, and every unit of money?  A copy without its journal is what is meant: as it lies."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
        try:
            return db.execute("PRAGMA integrity_check").fetchall() == [("ok",)] and money(db) == SUM
        except sqlite3.DatabaseError:
            return False


def money(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT sum(money) FROM account").fetchone()[0])


def test_whole_can_tell(database, tmp_path):
    """The oracle: of the database, of one page gone astray, and of money lost."""
    assert whole(database)
    data = database.read_bytes()
    astray = tmp_path / "astray"
    astray.write_bytes(data[:8192] + data[12288:16384] + data[8192:12288] + data[16384:])
    assert not whole(astray)
    with contextlib.closing(sqlite3.connect(database)) as db, db:
        db.execute("UPDATE account SET money = money - 1 WHERE id = 5")
    assert not whole(database)


# ---- one writer, one of ours --------------------------------------------------------------------------------------


def copied(start, database, tmp_path, style: str) -> Path | None:
    """A copy by who has a lock of that style on the bytes, made while a transaction is half in the file."""
    theirs, ours = start(NEIGHBOURS["sqlite3"], database), start(OURS[style], database)
    assert theirs.ask("spill")
    range_ = (0, 0) if style == "flock" else ALL
    copy = None
    if ours.try_("x", *range_):
        copy = tmp_path / "copy"
        copy.write_bytes(database.read_bytes())
        ours.release()
    assert theirs.ask("end")
    assert ours.try_("x", *range_), "the transaction is over"
    assert whole(database)
    return copy


def test_nobody_gets_at_half_a_transaction(start, database, tmp_path):
    assert copied(start, database, tmp_path, "ofd") is None


def test_with_the_wrong_style_half_a_transaction_is_copied(start, database, tmp_path):
    """The twin."""
    copy = copied(start, database, tmp_path, "flock")
    assert copy is not None
    assert not whole(copy)


@pytest.mark.parametrize("seconds", [None, PATIENCE], ids=["untimed", "timed"])
def test_we_wait_for_a_writer(seconds, start, database):
    theirs, ours = start(NEIGHBOURS["sqlite3"], database), start(OURS["ofd"], database)
    assert theirs.ask("spill")
    assert not whole(database)
    ours.wait("x", *ALL, seconds=seconds)
    assert theirs.ask("end")
    ours.got()
    assert whole(database)
    assert not theirs.ask("read")  # SQLITE_BUSY


def test_a_shared_lock_lets_them_read_and_no_more(start, database):
    """Who has the SHARED bytes is a reader like any other: a writer prepares, and cannot commit."""
    theirs, ours = start(NEIGHBOURS["sqlite3"], database), start(OURS["ofd"], database)
    assert ours.try_("s", SHARED, SHARED_SIZE)
    assert theirs.ask("read")
    theirs.release()
    assert theirs.ask("reserve")
    assert not theirs.ask("end")
    ours.release()
    assert theirs.ask("commit")
    assert whole(database)


@pytest.mark.core
@pytest.mark.death
def test_a_writer_is_killed_in_the_middle(start, database):
    """Its lock is free at once and the file is as it left it: what has begun is in the journal, for sqlite3 to undo."""
    theirs, ours = start(NEIGHBOURS["sqlite3"], database), start(OURS["ofd"], database)
    assert theirs.ask("spill")
    ours.wait("x", *ALL)
    until(lambda: blocked(database), "ours is asleep in the kernel")
    theirs.kill()
    ours.got()
    assert not whole(database)
    assert Path(f"{database}-journal").stat().st_size
    ours.release()
    again = start(NEIGHBOURS["sqlite3"], database)
    assert again.ask("read")
    again.release()
    assert whole(database)


@pytest.mark.core
@pytest.mark.death
def test_we_are_killed_with_the_bytes(start, database):
    theirs, ours = start(NEIGHBOURS["sqlite3"], database), start(OURS["ofd"], database)
    assert ours.try_("x", *ALL)
    theirs.wait()
    ours.kill()
    theirs.got()
    theirs.release()
    assert theirs.ask("commit")
    assert whole(database)


# ---- all at once --------------------------------------------------------------------------------------------------

WRITER = """
import sqlite3, random
db = sqlite3.connect(FILE, isolation_level=None, timeout=100)
db.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug
say("ready")
hear()
for n in range(TIMES):
    a, b = random.sample(range(1000), 2)
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE account SET money = money - 1, note = note || 'x' WHERE id = ?", (a,))
    db.execute("UPDATE account SET money = money + 1, note = note || 'y' WHERE id = ?", (b,))
    db.execute("COMMIT")
    assert db.execute("SELECT sum(money) FROM account").fetchone()[0] == SUM
say("done")
"""

# `user_version` and the change counter are at fixed places in the file (fileformat2.html); a commit of sqlite3 writes
# the whole page, with the `user_version` that it knows, so that one of the two would lose what the other wrote
EDITOR = """
lock = syncx.RangeLock(FILE, *ALL, arena=arena)
say("ready")
hear()
for n in range(TIMES):
    with lock:
        f = lock.file
        for place in (24, 60):
            f.seek(place)
            number = int.from_bytes(f.read(4), "big") + 1
            f.seek(place)
            f.write(number.to_bytes(4, "big"))
            if place == 24:
                f.seek(92)
                f.write(number.to_bytes(4, "big"))
say("done")
"""

COPIER = """
lock = syncx.RangeLock(FILE, SHARED, SHARED_SIZE, shared=True, arena=arena)
say("ready")
hear()
for n in range(TIMES):
    with lock, open(f"{FILE}-copy-{n}", "wb") as copy:
        copy.write(lock.file.read())
say("done")
"""


@pytest.mark.core
def test_both_at_work_on_one_database(child, arena, database):
    """Writers through sqlite3, writers that edit the file themselves, and a copier: nothing is lost, nothing torn."""
    names = {"FILE": str(database), "ALL": ALL, "SHARED": SHARED, "SHARED_SIZE": SHARED_SIZE, "SUM": SUM}
    team = [child(WRITER, TIMES=40, **names) for _ in range(2)]
    team += [child(EDITOR, TIMES=60, **names) for _ in range(2)]
    team += [child(COPIER, TIMES=20, **names)]
    for one in team:
        assert one.hear() == "ready"
    for one in team:
        one.say()
    for one in team:
        assert one.hear(100) == "done"
        one.finish()
    assert whole(database)
    with contextlib.closing(sqlite3.connect(database)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (120,)
        (length,) = db.execute("SELECT sum(length(note)) FROM account").fetchone()
        assert length == 1000 * 200 + 2 * 40 * 2
    for n in range(20):
        assert whole(Path(f"{database}-copy-{n}")), n


@pytest.mark.parametrize("style", ["ofd", "flock"])
def test_an_edit_within_a_transaction(style, start, database, arena):
    """What the oracle of `user_version` finds: with the wrong style sqlite3 writes over what we wrote."""
    theirs = start(NEIGHBOURS["sqlite3"], database)
    assert theirs.ask("reserve")
    lock = syncx.FileLock(database, style=style, arena=arena)
    got = lock.acquire(blocking=False)
    if got:
        lock.file.seek(60)
        lock.file.write((7).to_bytes(4, "big"))
        lock.release()
    lock.close()
    assert theirs.ask("end")
    with contextlib.closing(sqlite3.connect(database)) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
    assert (got, version) == (style == "flock", 0)


# ---- sqlite3 and our lock in one process --------------------------------------------------------------------------


def test_a_close_takes_sqlite3s_locks_away(start, child, database, tmp_path):
    """Not ours to mend: its record locks belong to the process, and go with any close of the file there.  So the page
    says: no lock of ours on the database is closed in a process that has it open with sqlite3."""
    mine = child(
        """
        import sqlite3
        db = sqlite3.connect(FILE, isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        lock = syncx.RangeLock(FILE, *ALL, arena=syncx.Arena(PATH))
        assert not lock.acquire(blocking=False)
        say("tried")
        hear()
        lock.close()
        say("closed")
        hear()
        """,
        FILE=str(database),
        ALL=ALL,
        PATH=str(tmp_path / "arena"),
    )
    theirs = start(NEIGHBOURS["sqlite3"], database)
    assert mine.hear() == "tried"
    assert not theirs.ask("reserve")
    mine.say()
    assert mine.hear() == "closed"
    assert theirs.ask("reserve")
