"""`syncx stress`: its decisions repeat, both of its judges see what is wrong, and it leaves nothing behind.

The storms themselves, and all twins (tests/storm_twins.py), are for the environment `stress`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE, Child, until

import syncx
from syncx.cli.arguments import integer
from syncx.cli.stress import TOPICS
from syncx.testing import storm
from syncx.testing.stress import dice, picture, replay, scenes, worker
from syncx.testing.stress.actor import Actor
from syncx.testing.stress.board import BEGIN, BORN, DYING, END, ENDING, KILLED, POINT, Board, Record
from syncx.testing.stress.figures import Histogram, Outcome
from syncx.testing.stress.scenes import Canary

pytestmark = pytest.mark.core

TAKE, GIVE, WAIT, NOTIFY, SET, CLEAR, DOWN, UP, ARRIVE, ACTION, RUN, BODY, PUT, GET, APPEND, UPDATE = range(1, 17)
ENROL, WITHDRAW, RESET = range(17, 20)


# ---- decisions -------------------------------------------------------------------------------------------------------


def decisions(seed: int, incarnation: int = 0, n: int = 300) -> list[dice.Decision]:
    stream = dice.Stream(list(worker.SCENES), 20, seed, 3, 1, incarnation, 0)
    return [stream.next() for _ in range(n)]


def test_a_seed_repeats_the_decisions(child: Callable[..., Child]) -> None:
    other = child("import test_stress\nsay([list(d) for d in test_stress.decisions(7)])")
    assert [list(d) for d in decisions(7)] == other.hear()
    assert decisions(7) != decisions(8)
    assert decisions(7) != decisions(7, incarnation=1)


def test_all_that_can_befall_is_decided_now_and_then() -> None:
    fates = {d.fate for d in decisions(1, n=20_000)}
    assert fates == set(range(9))
    assert {d.topic for d in decisions(1)} == set(worker.SCENES)


def test_the_topics_of_the_command_line_are_those_there_are() -> None:
    assert set(TOPICS) == set(worker.SCENES)
    numbers = {topic: scene.number for topic, scene in worker.SCENES.items()}
    assert {topic: replay.TOPICS.index(topic) for topic in numbers} == numbers


# ---- the first judge: words beside the locks -------------------------------------------------------------------------


class Complaints:
    """In the place of Wishes."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def complain(self, slot: int, what: str) -> None:
        self.texts.append(what)


@pytest.fixture
def stage() -> Iterator[tuple[Canary, list[Actor], Complaints]]:
    """A canary and three threads, all of them played by this one."""
    board, complaints = Board(3, Canary.words(3)), Complaints()
    actors = [Actor(board, complaints, slot) for slot in range(3)]  # type: ignore[arg-type]
    yield Canary(board, board.objects, "lock"), actors, complaints
    board.close()


Stage = tuple[Canary, list[Actor], Complaints]


def test_one_after_the_other_is_right(stage: Stage) -> None:
    canary, actors, complaints = stage
    for actor in actors:
        canary.enter(actor, 0)
        canary.work(actor, dice.Dice(0))
        canary.leave(actor)
        canary.read(actor, dice.Dice(0))
    canary.settle(actors[0])
    assert complaints.texts == []


def test_two_holders_are_seen(stage: Stage) -> None:
    canary, actors, complaints = stage
    canary.enter(actors[0], 0)
    canary.enter(actors[1], 0)
    assert "two holders at once" in complaints.texts[0]


def test_a_writer_beside_a_reader_is_seen(stage: Stage) -> None:
    canary, actors, complaints = stage
    canary.enter(actors[0], 0)
    canary.read(actors[1], dice.Dice(0))
    assert "beside the writer" in complaints.texts[0]


def test_a_death_that_is_not_told_and_one_that_did_not_happen_are_seen(stage: Stage) -> None:
    canary, actors, complaints = stage
    canary.enter(actors[0], 1)
    assert "nobody has died" in complaints.texts.pop()
    canary.board.ends(0)
    canary.enter(actors[1], 1)
    assert complaints.texts == []
    canary.board.ends(1)
    canary.enter(actors[2], 0)
    assert "was not told" in complaints.texts[0]


def test_an_addition_that_is_lost_is_seen(stage: Stage) -> None:
    canary, actors, complaints = stage
    canary.enter(actors[0], 0)
    canary.work(actors[0], dice.Dice(0))
    canary.leave(actors[0])
    canary.w[canary.at + 1] = canary.w[canary.at + 2] = 0
    canary.settle(actors[0])
    assert "1 were added, and the number is 0" in complaints.texts[0]


class Reach:
    """Words that remember which of them were touched."""

    def __init__(self, words: memoryview) -> None:
        self.words, self.touched = words, set[int]()

    def __getitem__(self, at: int) -> int:
        self.touched.add(at)
        return self.words[at]

    def __setitem__(self, at: int, value: int) -> None:
        self.touched.add(at)
        self.words[at] = value


def test_no_topic_touches_the_words_of_another(arena: syncx.Arena, tmp_path: Path) -> None:
    """Where as many processes play as there may be."""
    slots, complaints = 64 * 3 + 1, Complaints()
    board = Board(slots, scenes.words(slots) * len(worker.SCENES))
    board.w = reach = Reach(board.w)  # type: ignore[assignment]
    stage = scenes.Stage(arena, str(tmp_path), board, {})
    for cls in worker.SCENES.values():
        scene, actor = cls(stage), Actor(board, complaints, slots - 1)  # type: ignore[arg-type]
        reach.touched.clear()
        scene.prepare()
        actor.perform(dice.Decision(cls.topic, 0, 0, 0), scene.play)
        scene.settle(actor)
        own = range(scene.base, scene.base + scenes.words(slots))
        assert {at for at in reach.touched if at >= board.objects} <= set(own), cls.topic
        assert reach.touched & set(own), cls.topic
    assert complaints.texts == []


# ---- those who are enrolled ------------------------------------------------------------------------------------------


class Instants:
    """Words that tell when a certain one is about to be 0."""

    def __init__(self, words: memoryview) -> None:
        self.words, self.at, self.tell = words, -1, lambda: None

    def __getitem__(self, at: int) -> int:
        return self.words[at]

    def __setitem__(self, at: int, value: int) -> None:
        if at == self.at and value == 0:
            self.tell()
        self.words[at] = value


class Hall:
    """A barrier that says yes to who enrols, place 1 to who does, and lets the guest go when it is told to."""

    def __init__(self) -> None:
        self.guest, self.place = threading.Thread(), 0
        self.came, self.goes = threading.Event(), threading.Event()

    def enroll(self) -> None:
        """It is so."""

    withdraw = enroll

    def wait(self, timeout: float) -> int:
        if threading.current_thread() is not self.guest:
            return 1
        self.came.set()
        assert self.goes.wait(PATIENCE)
        return self.place


def beside(comes: int, goes: int, place: int) -> list[str]:
    """What a guest complains of, who waits from one instant until another and gets that place.

    The instants are those of a thread that enrols twice.  0 and 3: it is enrolled; 1 and 4: it has met the others once,
    and its place is 1; 2 and 5: it has met them twice, has given its place back, and is about to withdraw.
    """
    board, complaints, hall = Board(2, scenes.words(2) * len(worker.SCENES)), Complaints(), Hall()
    words = board.w
    board.w = instants = Instants(words)  # type: ignore[assignment]
    stage = scenes.Stage(None, "", board, {"enrolment": lambda *_, **__: hall})  # type: ignore[arg-type]
    scene = worker.SCENES["enrolment"](stage)
    member, guest = (Actor(board, complaints, slot) for slot in range(2))  # type: ignore[arg-type]
    hall.guest, hall.place = threading.Thread(target=scene.play, args=(guest, dice.Dice(0))), place
    count = itertools.count()

    def instant() -> None:
        now = next(count)
        if now == comes:
            hall.guest.start()
            assert hall.came.wait(PATIENCE)
        if now == goes:
            hall.goes.set()
            hall.guest.join()

    instants.at, instants.tell = scene.base, instant
    member.point = instant  # type: ignore[method-assign]
    for _ in range(2):
        scene.play(member, dice.Dice(1 + 4 * 1))  # it enrols; for two rounds
    assert next(count) == 6
    board.w = words
    board.close()
    return complaints.texts


@pytest.mark.parametrize(("comes", "goes", "place"), [(2, 3, 0), (1, 4, 1)])
def test_one_who_withdrew_and_enrolled_anew_was_not_expected(comes: int, goes: int, place: int) -> None:
    assert beside(comes, goes, place) == []


@pytest.mark.parametrize("instant", [0, 1, 2, 3])
def test_a_round_without_an_enrolled_one_is_seen(instant: int) -> None:
    assert "went on without 0x10001" in beside(instant, instant, 0)[0]


@pytest.mark.parametrize("instant", [1, 4])
def test_a_place_that_was_given_away_is_seen(instant: int) -> None:
    assert "returned 1, the place of 0x10001" in beside(instant, instant, 1)[-1]


# ---- the second judge: journals --------------------------------------------------------------------------------------

A, B, C = 0x10001, 0x10002, 0x10003


def journals(*lines: str | tuple[Any, ...]) -> list[list[Record]]:
    """One for each thread, of lines (thread, code, call, object, a, b, c), in the order in which they happened."""
    found: dict[int, list[Record]] = {t: [Record(0, BORN, 0, 0, t, t & 7, t & 7, 99)] for t in (A, B, C)}
    found[0] = []
    for t, line in enumerate(lines, 1):
        token, code, call, obj, *numbers = line
        a, b, c = [*numbers, 0, 0, 0][:3]
        found[token].append(Record(t, code, call, obj, token, a, b, c))
    return list(found.values())


def wrong(*lines: tuple[Any, ...], **facts: Any) -> list[str]:
    known: dict[str, Any] = {"capacities": {0: 2}, "before": {}, "after": {}, "count": 2, "parties": (2,)}
    known |= {"events": {0: False}, "lines": b"", "number": 0}
    return replay.judge(journals(*lines), replay.Facts(**{**known, **facts})).wrong


def hold(token: int, obj: int, mode: int = 0, told: int = 0, units: int = 1) -> list[tuple[Any, ...]]:
    return [(token, BEGIN, TAKE, obj, units), (token, END, TAKE, obj, 1, mode, told | units << 8)]


def back(token: int, obj: int) -> list[tuple[Any, ...]]:
    return [(token, BEGIN, GIVE, obj), (token, END, GIVE, obj)]


def waits(token: int, obj: int) -> tuple[Any, ...]:
    """Without a time limit."""
    return token, BEGIN, TAKE, obj, 1, 0, 1


def told(token: int, obj: int) -> tuple[Any, ...]:
    """Of a deadlock."""
    return token, END, TAKE, obj, 3


KILL_A = (0, KILLED, 0, 0, A & 7)
MUTEX, BOUNDED, CONDITION, RWLOCK, EVENT, BARRIER, ONCE, LATCH, FILES, UPDATES = (
    0,
    0x30,
    0x40,
    0x50,
    *(n << 4 for n in range(6, 12)),
)
WRITE, READ = 0, 1
KNOT = 0xD0
HALL = 0xF0
ENROLLED = [(A, BEGIN, ENROL, HALL), (A, END, ENROL, HALL, 1)]
WITHDRAWN = [(A, BEGIN, WITHDRAW, HALL), (A, END, WITHDRAW, HALL)]
MET = [(B, BEGIN, ARRIVE, HALL), (C, BEGIN, ARRIVE, HALL), (B, END, ARRIVE, HALL, 1), (C, END, ARRIVE, HALL, 2)]

RIGHT: dict[str, list[tuple[Any, ...]]] = {
    "one after the other": [*hold(A, MUTEX), *back(A, MUTEX), *hold(B, MUTEX), *back(B, MUTEX)],
    "a death is told": [*hold(A, MUTEX), KILL_A, *hold(B, MUTEX, told=1), *back(B, MUTEX)],
    "one killed in its release may be told or not": [
        *hold(A, MUTEX), (A, BEGIN, GIVE, MUTEX), KILL_A, *hold(B, MUTEX), *back(B, MUTEX)
    ],
    "one killed in its taking may have had it": [
        (A, BEGIN, TAKE, MUTEX), KILL_A, *hold(B, MUTEX, told=1), *back(B, MUTEX)
    ],
    "a thread ends": [*hold(A, MUTEX), (A, ENDING, 0, 0), *hold(B, MUTEX, told=1), *back(B, MUTEX)],
    "it kills itself": [*hold(A, MUTEX), (A, DYING, 0, 0), *hold(B, MUTEX, told=1), *back(B, MUTEX)],
    "readers": [*hold(A, RWLOCK, READ), *hold(B, RWLOCK, READ), *back(A, RWLOCK), *back(B, RWLOCK)],
    "two permits": [*hold(A, BOUNDED), *hold(B, BOUNDED), *back(A, BOUNDED), *back(B, BOUNDED)],
    "a wait is notified": [
        *hold(A, CONDITION), (A, BEGIN, WAIT, CONDITION, 90), *hold(B, CONDITION), (B, BEGIN, NOTIFY, CONDITION, 1),
        (B, END, NOTIFY, CONDITION, 1), *back(B, CONDITION), (A, END, WAIT, CONDITION, 1), *back(A, CONDITION),
    ],
    "a deadlock is told": [
        *hold(A, KNOT), *hold(B, KNOT + 1), waits(A, KNOT + 1), waits(B, KNOT), told(B, KNOT), *back(B, KNOT + 1),
        (A, END, TAKE, KNOT + 1, 1), *back(A, KNOT + 1), *back(A, KNOT),
    ],
    "a deadlock of three is told, one of them died": [
        *hold(A, KNOT), *hold(B, KNOT + 1), *hold(C, KNOT + 2), waits(A, KNOT + 1), waits(B, KNOT + 2), waits(C, KNOT),
        KILL_A, told(C, KNOT), *back(C, KNOT + 2), (B, END, TAKE, KNOT + 2, 1), *back(B, KNOT + 2), *back(B, KNOT + 1),
    ],
    "an enrolled one comes": [
        *ENROLLED, (A, BEGIN, ARRIVE, HALL), *MET, (A, END, ARRIVE, HALL, 0),
        (A, BEGIN, WITHDRAW, HALL), (A, END, WITHDRAW, HALL), *MET,
    ],
    "a dead one is struck off": [*ENROLLED, KILL_A, (B, BEGIN, RESET, HALL), (B, END, RESET, HALL), *MET],
    "an event happens": [
        (A, BEGIN, WAIT, EVENT, 90), (B, BEGIN, SET, EVENT), (B, END, SET, EVENT), (A, END, WAIT, EVENT, 1)
    ],
}  # fmt: skip

WRONG: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "two at once": ("hold it at once", [*hold(A, MUTEX), *hold(B, MUTEX), *back(A, MUTEX), *back(B, MUTEX)]),
    "a writer beside a reader": (
        "hold it at once", [*hold(A, RWLOCK, READ), *hold(B, RWLOCK, WRITE), *back(A, RWLOCK), *back(B, RWLOCK)]
    ),
    "a permit too many": (
        "3 permits of 2", [*hold(A, BOUNDED), *hold(B, BOUNDED, units=2), *back(A, BOUNDED), *back(B, BOUNDED)]
    ),
    "a death is not told": ("was not told", [*hold(A, MUTEX), KILL_A, *hold(B, MUTEX), *back(B, MUTEX)]),
    "told, and nobody died": (
        "nobody had died", [*hold(A, MUTEX), *back(A, MUTEX), *hold(B, MUTEX, told=1), *back(B, MUTEX)]
    ),
    "told before the death": (
        "hold it at once", [*hold(A, MUTEX), *hold(B, MUTEX, told=1), *back(B, MUTEX), KILL_A]
    ),
    "told twice of one death": (
        "nobody had died",
        [*hold(A, MUTEX), KILL_A, *hold(B, MUTEX, told=1), *back(B, MUTEX), *hold(C, MUTEX, told=1), *back(C, MUTEX)],
    ),
    "never came back": ("never came back", [(A, BEGIN, TAKE, MUTEX)]),
    "a wait without a notification": (
        "without a notification",
        [*hold(A, CONDITION), (A, BEGIN, WAIT, CONDITION, 9), (A, END, WAIT, CONDITION, 1), *back(A, CONDITION)],
    ),
    "a notification that is lost": (
        "was in vain",
        [*hold(A, CONDITION), (A, BEGIN, WAIT, CONDITION, 90), *hold(B, CONDITION), (B, BEGIN, NOTIFY, CONDITION, 1),
         (B, END, NOTIFY, CONDITION, 1), *back(B, CONDITION), (A, END, WAIT, CONDITION, 0), *back(A, CONDITION)],
    ),
    "an item taken twice": (
        "taken twice", [(A, POINT, PUT, CONDITION, 0), (A, POINT, GET, CONDITION, 0), (B, POINT, GET, CONDITION, 0)]
    ),
    "told of a deadlock, and the other only holds": (
        "and there was none",
        [*hold(A, KNOT), *hold(B, KNOT + 1), waits(A, KNOT + 1), told(A, KNOT + 1), *back(A, KNOT), *back(B, KNOT + 1)],
    ),
    "told of a deadlock, and the other came later": (
        "and there was none",
        [*hold(A, KNOT), *hold(B, KNOT + 1), waits(A, KNOT + 1), told(A, KNOT + 1), waits(B, KNOT), *back(A, KNOT),
         (B, END, TAKE, KNOT, 1), *back(B, KNOT), *back(B, KNOT + 1)],
    ),
    "told of a deadlock, and the other has a time limit": (
        "and there was none",
        [*hold(A, KNOT), *hold(B, KNOT + 1), (B, BEGIN, TAKE, KNOT, 1), waits(A, KNOT + 1), told(A, KNOT + 1),
         *back(A, KNOT), (B, END, TAKE, KNOT, 1), *back(B, KNOT), *back(B, KNOT + 1)],
    ),
    "two are told of one deadlock": (
        "were both told",
        [*hold(A, KNOT), *hold(B, KNOT + 1), waits(A, KNOT + 1), waits(B, KNOT), told(B, KNOT), told(A, KNOT + 1),
         *back(A, KNOT), *back(B, KNOT + 1)],
    ),
    "a round without an enrolled one": ("went on without", [*ENROLLED, *MET, *WITHDRAWN]),
    "a round without an enrolled one that died": ("went on without", [*ENROLLED, KILL_A, *MET]),
    "an enrolled one has two places": (
        "had the places [0, 1]",
        [*ENROLLED, (A, BEGIN, ARRIVE, HALL), (A, END, ARRIVE, HALL, 0), (A, BEGIN, ARRIVE, HALL),
         (A, END, ARRIVE, HALL, 1), (A, BEGIN, WITHDRAW, HALL), (A, END, WITHDRAW, HALL)],
    ),
    "an event that is missed": (
        "was in vain",
        [(A, BEGIN, WAIT, EVENT, 90), (B, BEGIN, SET, EVENT), (B, END, SET, EVENT), (A, END, WAIT, EVENT, 0)],
    ),
    "an event that nobody set": ("nobody had set it", [(A, BEGIN, WAIT, EVENT, 90), (A, END, WAIT, EVENT, 1)]),
    "two of one number": (
        "belong to no round",
        [(A, BEGIN, ARRIVE, BARRIER), (B, BEGIN, ARRIVE, BARRIER), (B, POINT, ACTION, BARRIER),
         (A, END, ARRIVE, BARRIER, 1), (B, END, ARRIVE, BARRIER, 1)],
    ),
    "run twice": (
        "was run again",
        [(A, BEGIN, RUN, ONCE, 5), (A, BEGIN, BODY, ONCE, 5), (A, END, BODY, ONCE, 5), (A, END, RUN, ONCE, 5, 1, 7),
         (B, BEGIN, BODY, ONCE, 5), (B, END, BODY, ONCE, 5)],
    ),
    "open too early": (
        "after too few counts",
        [(A, BEGIN, DOWN, LATCH, 1, 4), (A, END, DOWN, LATCH, 1, 4), (B, BEGIN, WAIT, LATCH, 9, 4),
         (B, END, WAIT, LATCH, 1, 4)],
    ),
    "a line that is lost": ("is there 0 times", [(A, BEGIN, APPEND, FILES + 4, 1), (A, END, APPEND, FILES + 4, 1)]),
    "an update that is lost": (
        "after 3 was there",
        [(A, BEGIN, UPDATE, UPDATES), (A, END, UPDATE, UPDATES, 3), (B, BEGIN, UPDATE, UPDATES),
         (B, END, UPDATE, UPDATES, 2)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_replay_without_fault(name: str) -> None:
    assert wrong(*RIGHT[name]) == []


@pytest.mark.parametrize("name", WRONG)
def test_a_replay_sees(name: str) -> None:
    text, lines = WRONG[name]
    found = wrong(*lines)
    assert any(text in line for line in found), found


def test_a_replay_counts_units() -> None:
    take = [(A, BEGIN, DOWN, 0x20, 2), (A, END, DOWN, 0x20, 2, 1)]
    assert any("than was ever given" in w for w in wrong(*take, before={0: 1}, after={0: 0}))
    assert any("it should be 1 to 1" in w for w in wrong(*take, before={0: 3}, after={0: 0}))
    assert wrong(*take, before={0: 3}, after={0: 1}) == []


# ---- figures ---------------------------------------------------------------------------------------------------------


def test_a_histogram_knows_values_to_one_part_in_16() -> None:
    h = Histogram()
    h.extend(range(1, 100_001))
    assert h.total == 100_000
    assert h.most == 100_000
    for part in (0.01, 0.5, 0.9, 0.99):
        assert part * 100_000 * 15 / 16 <= h.at(part) <= part * 100_000 * 1.001
    assert sum(n for _, n in h.bars()) == 100_000
    assert Histogram().at(0.5) == 0


def test_the_picture_is_xml_and_says_what_was_wrong() -> None:
    outcome = Outcome(1, 2, 2, 4.0, ["mutex"], 1.0, seconds=1.0, live=["<two> & more"])
    outcome.waits["mutex"] = outcome.progress = h = Histogram()
    h.extend([500, 3000, 2_000_000])
    outcome.timeline = [(0.5, 10, 1), (1.0, 30, 2)]
    root = ElementTree.fromstring(picture.svg(outcome))
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "<two> & more" in texts
    assert "mutex" in texts


# ---- storms, tiny ones -----------------------------------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "syncx", "stress", *arguments]


@pytest.mark.death
def test_a_storm_and_its_page(tmp_path: Path) -> None:
    paths = tmp_path / "storm.json", tmp_path / "storm.svg"
    done = subprocess.run(
        command("mutex", "--seconds", "0.5", "--processes", "2", "--kill", "50", "--seed", "1",
                "--json", str(paths[0]), "--svg", str(paths[1])),
        capture_output=True, text=True, timeout=4 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no violation" in done.stdout
    again = "syncx stress mutex --seconds 0.5 --seed 1 --processes 2 --kill 50"
    assert again in done.stdout
    told = json.loads(paths[0].read_text())
    assert told["failures"] == 0
    assert told["command"] == again
    assert {"operations", "deaths", "recoveries", "acquire_p99_ms", "kill_to_progress_max_ms"} <= set(told["figures"])
    assert ElementTree.parse(paths[1]).getroot().tag.endswith("svg")


def test_wrong_usage() -> None:
    for arguments in (["none"], ["--kill", "-1"], ["--kill", "x"], ["--processes", "0"], ["--seconds", "x"]):
        assert subprocess.run(command(*arguments), capture_output=True, timeout=PATIENCE).returncode == 2


def test_the_help_names_all_topics_and_seeds_are_as_long_as_it_says() -> None:
    said = subprocess.run(command("--help"), capture_output=True, text=True, timeout=PATIENCE).stdout
    listed = said.partition("all, or some of:")[2].partition("RATE")[0]
    assert [topic.strip() for topic in listed.split(",")] == list(TOPICS)
    assert integer(0, 2**63)(str(2**63)) == 2**63
    with pytest.raises(argparse.ArgumentTypeError):
        integer(0, 2**63)(str(2**63 + 1))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"topics": ["mutex", "none"]}, ValueError, "'none'"),
        ({"seconds": -1}, ValueError, "seconds"),
        ({"seconds": float("nan")}, ValueError, "seconds"),
        ({"processes": 0}, ValueError, "from 1 to 64"),
        ({"processes": 2.0}, TypeError, "not float"),
        ({"kill": 501}, ValueError, "from 0 to 500"),
        ({"kill": "5"}, TypeError, "not str"),
        ({"seed": -1}, ValueError, "seed"),
    ],
)
def test_a_storm_refuses(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        storm(**options)


def test_a_storm_wants_the_main_thread() -> None:
    raised: list[str] = []

    def plays() -> None:
        try:
            storm(seconds=0)
        except RuntimeError as e:
            raised.append(str(e))

    thread = threading.Thread(target=plays)
    thread.start()
    thread.join()
    assert raised == ["a storm handles signals: call storm() in the main thread"]


@pytest.mark.death
def test_a_twin_is_seen_by_both_judges(child: Callable[..., Child]) -> None:
    """A mutex that excludes nobody; the others are for the environment `stress`."""
    stage = child("import storm_twins\no = storm_twins.seen('loose', 60, 1)\nsay([o.live, o.replayed])")
    live, replayed = stage.hear(110)
    stage.finish()
    assert any("two holders at once" in line for line in live), live
    assert any("hold it at once" in line for line in replayed), replayed


def left_by(pid: int) -> list[str]:
    """The arena of a storm, and processes that call themselves as it does, in its session."""
    found = [f"/dev/shm/{name}" for name in os.listdir("/dev/shm") if name.endswith(f"-stress-{pid}")]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == pid and fields[0] not in "ZX":
            found.append(str(stat))
    return found


@pytest.mark.death
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left(how: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C ends it in good order; whoever kills it ends its processes too, and its arena goes."""
    storm = subprocess.Popen(
        command("mutex", "--seconds", "60", "--processes", "2"),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    with storm:
        arena = f"/dev/shm/syncx-{os.geteuid()}-stress-{storm.pid}"
        until(lambda: os.path.exists(arena) and len(left_by(storm.pid)) >= 4, "it plays")
        storm.send_signal(how)
        text = storm.communicate(timeout=2 * PATIENCE)[0]
    if how == signal.SIGINT:
        assert storm.returncode == 0, text
        assert "no violation, ended by a signal" in text
    until(lambda: left_by(storm.pid) == [] and list(tmp_path.iterdir()) == [], "all of it goes")
