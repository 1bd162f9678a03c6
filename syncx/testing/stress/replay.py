"""The second judge: what the journals of a round say, replayed when it is over.

It sees nothing of the words beside the objects, and uses none of the code that plays.  What it knows of a call is an
interval: it took effect after its BEGIN and before its END, or never, if its thread died without writing an END.  What
is between the END of a taking and the BEGIN of the giving back was surely held.  A thread that died did so at the
earliest when the judge sent the signal, or the thread itself, or one of its process, wrote that it would.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from . import circles
from .board import BEGIN, BORN, CONTINUED, DYING, END, ENDING, KILLED, POINT, STOPPED, Record

__all__ = ["Facts", "Verdict", "judge"]

(
    TAKE, GIVE, WAIT, NOTIFY, SET, CLEAR, DOWN, UP, ARRIVE, ACTION, RUN, BODY, PUT, GET, APPEND, UPDATE, ENROL,
    WITHDRAW, RESET,
) = range(1, 20)  # fmt: skip
(
    MUTEX, RLOCK, SEMAPHORE, BOUNDED, CONDITION, RWLOCK, EVENT, BARRIER, ONCE, LATCH, FILES, UPDATES, PLACED, DEADLOCK,
    RECORDS, ENROLMENT,
) = range(16)  # fmt: skip
TOPICS = (
    "mutex", "rlock", "semaphore", "bounded", "condition", "rwlock", "event", "barrier", "once", "latch", "files",
    "update", "placed", "deadlock", "records", "enrolment",
)  # fmt: skip
EXCLUSIVE, SHARED, UPGRADABLE = range(3)
TELLS = (MUTEX, RLOCK, CONDITION, RWLOCK, PLACED, DEADLOCK)
NEVER = 1 << 62

No, Maybe, Yes = range(3)

UNTOLD = 2
"""By recover(): nothing is said of whether there had been a death."""


@dataclass
class Facts:
    """What was so before the round and after it."""

    capacities: Mapping[int, int]
    """Permits of each bounded semaphore, by its number in its topic."""
    before: Mapping[int, int]
    """Units of each semaphore when the round began."""
    after: Mapping[int, int]
    """And when all had gone."""
    count: int
    """Of each latch."""
    parties: Sequence[int]
    """Of each barrier."""
    events: Mapping[int, bool]
    """Was it set when the round began?"""
    lines: bytes
    """The file of lines."""
    number: int
    """In the file that is updated."""


@dataclass
class Verdict:
    """What the replay of a round found."""

    wrong: list[str] = field(default_factory=list)
    waits: list[tuple[str, int]] = field(default_factory=list)
    """Of each taking that succeeded: its topic, and nanoseconds."""
    progress: list[int] = field(default_factory=list)
    """From the death of a holder to one that waited then and was told, in nanoseconds."""
    told: int = 0
    deadlocks: int = 0
    """That somebody was told of."""
    ended: int = 0
    """Threads that ended while they held something."""
    forks: int = 0


@dataclass
class Hold:
    token: int
    mode: int
    units: int
    begin: int
    got: int
    told: int
    giving: int | None = None
    gave: int | None = None
    keep: bool = False
    until: int = NEVER
    """Until when it was surely held."""
    dead: int | None = None
    """Its thread died then, or later, before it had given it back."""


@dataclass
class Call:
    token: int
    begin: int
    end: int | None
    first: Record
    last: Record | None


def judge(journals: Sequence[Sequence[Record]], facts: Facts) -> Verdict:
    """journals: one of each slot, the judge's own among them."""
    return _Replay(journals, facts).judge()


class _Replay:
    def __init__(self, journals: Sequence[Sequence[Record]], facts: Facts) -> None:
        self._journals, self._facts, self._verdict = journals, facts, Verdict()
        self._pid: dict[int, int] = {}
        self._parent: dict[int, int] = {}
        self._killed: dict[int, int] = {}
        self._over: dict[int, int] = {}
        """Of a thread: when another one was in its slot, so at the latest it had ended by then."""
        self._ended: dict[int, int] = {}
        self._stopped: dict[int, list[int]] = defaultdict(list)
        self._holds: dict[int, list[Hold]] = defaultdict(list)
        self._pending: dict[int, list[tuple[int, int]]] = defaultdict(list)
        """Of each object: those that died in a taking, as (BEGIN, earliest death)."""
        self._raised: dict[int, list[Record]] = defaultdict(list)
        """OwnerDiedError."""
        self._calls: dict[tuple[int, int], list[Call]] = defaultdict(list)
        self._points: dict[tuple[int, int], list[Record]] = defaultdict(list)

    def _wrong(self, obj: int, text: str) -> None:
        self._verdict.wrong.append(f"{TOPICS[obj >> 4]} {obj & 15}: {text}")

    # ---- reading ----------------------------------------------------------------------------------------------------
    def judge(self) -> Verdict:
        for journal in self._journals:
            self._deaths(journal)
        for journal in self._journals:
            self._read(journal)
        for obj, holds in sorted(self._holds.items()):
            holds.sort(key=lambda h: h.got)
            self._exclusion(obj, holds)
            if obj >> 4 in TELLS:
                self._telling(obj, holds)
        for obj, raised in self._raised.items():
            deaths = [h.dead for h in self._holds[obj] if h.dead is not None] + [t for _, t in self._pending[obj]]
            for r in raised:
                if r.t < min(deaths, default=NEVER):
                    self._wrong(obj, f"OwnerDiedError came at {r.t}, before anybody had died")
        self._semaphores()
        self._latches()
        self._events()
        self._barriers()
        self._onces()
        self._conditions()
        self._deadlocks()
        self._enrolments()
        self._files()
        return self._verdict

    def _deaths(self, journal: Sequence[Record]) -> None:
        before = 0
        for r in journal:
            if r.code == BORN:
                self._over[before], before = r.t, r.token
                self._pid[r.token], self._parent[r.a] = r.a, r.c
            elif r.code == KILLED:
                self._killed[r.a] = min(r.t, self._killed.get(r.a, NEVER))
            elif r.code == DYING:
                pid = self._pid[r.token]
                self._killed[pid] = min(r.t, self._killed.get(pid, NEVER))
            elif r.code == ENDING:
                self._ended[r.token] = r.t
                self._verdict.ended += 1
            elif r.code in (STOPPED, CONTINUED):
                self._stopped[r.a].append(r.t)

    def _death(self, token: int) -> int | None:
        """The earliest instant at which it can have died."""
        pid = self._pid.get(token, 0)
        times = [self._ended.get(token, NEVER), self._killed.get(pid, NEVER)]
        times.append(self._killed.get(self._parent.get(pid, 0), NEVER))
        earliest = min(times)
        return None if earliest == NEVER else earliest

    def _read(self, journal: Sequence[Record]) -> None:
        """Pairs BEGIN and END, and makes holds of takings and givings."""
        open_calls: dict[int, list[Record]] = defaultdict(list)
        held: dict[tuple[int, int], list[Hold]] = defaultdict(list)
        for r in journal:
            if r.code == POINT:
                self._points[r.call, r.obj].append(r)
            elif r.code == BEGIN:
                if r.call == 0:
                    self._verdict.forks += 1
                    continue
                open_calls[r.token].append(r)
                mine = held[r.token, r.obj]
                if r.call == GIVE and mine:
                    mine[-1].giving, mine[-1].until, mine[-1].keep = r.t, r.t, bool(r.b)
                elif r.call == WAIT and r.obj >> 4 == CONDITION and mine:
                    mine[-1].giving, mine[-1].until = r.t, r.t
                    mine[-1].keep = bool(mine[-1].told)  # wait() does not say that the data are whole
            elif r.code == END and r.call:
                stack = open_calls[r.token]
                if not stack or (stack[-1].call, stack[-1].obj) != (r.call, r.obj):
                    self._wrong(r.obj, f"a journal has an END of call {r.call} without its BEGIN")
                    continue
                first = stack.pop()
                self._ended_call(first, r, held[r.token, r.obj])
        for stack in open_calls.values():
            for first in stack:
                self._calls[first.call, first.obj].append(Call(first.token, first.t, None, first, None))
                death = self._death(first.token)
                if death is None:
                    self._wrong(first.obj, f"thread {first.token:#x} lives and never came back from call {first.call}")
                elif first.call == TAKE or (first.call == WAIT and first.obj >> 4 == CONDITION):
                    self._pending[first.obj].append((first.t, death))
        for (token, obj), mine in held.items():
            for hold in mine:
                if hold.gave is None and hold.dead is None:
                    death = self._death(token)
                    if death is None:
                        self._wrong(obj, f"thread {token:#x} lives and has never given it back")
                        continue
                    hold.dead = death
                    if hold.giving is None:
                        hold.until = max(death, hold.got)
                self._holds[obj].append(hold)

    def _ended_call(self, first: Record, r: Record, mine: list[Hold]) -> None:
        topic = r.obj >> 4
        self._calls[r.call, r.obj].append(Call(r.token, first.t, r.t, first, r))
        if r.call == TAKE and r.a == 1:
            mine.append(Hold(r.token, r.b, r.c >> 8 or 1, first.t, r.t, r.c & 3))
            self._verdict.waits.append((TOPICS[topic], r.t - first.t))
        elif r.call == TAKE and r.a == 2:
            self._raised[r.obj].append(r)
        elif r.call == GIVE and mine:
            mine[-1].gave = r.t
        elif r.call == WAIT and topic == CONDITION:
            if mine:
                mine[-1].gave = r.t
            mine.append(Hold(r.token, EXCLUSIVE, 1, first.t, r.t, r.c & 1))

    # ---- who holds, and who was told --------------------------------------------------------------------------------
    def _exclusion(self, obj: int, holds: list[Hold]) -> None:
        capacity = self._facts.capacities.get(obj & 15, 1) if obj >> 4 == BOUNDED else 0
        inside: list[tuple[int, int, Hold]] = []
        units = 0
        for n, hold in enumerate(holds):
            while inside and inside[0][0] <= hold.got:
                units -= heapq.heappop(inside)[2].units
            if capacity:
                if units + hold.units > capacity:
                    self._wrong(obj, f"{units + hold.units} permits of {capacity} are held at {hold.got}")
            else:
                for _, _, other in inside:
                    if other.token != hold.token and not _beside(other.mode, hold.mode):
                        self._wrong(obj, f"{other.token:#x} and {hold.token:#x} hold it at once, at {hold.got}")
            units += hold.units
            heapq.heappush(inside, (hold.until, n, hold))

    def _telling(self, obj: int, holds: list[Hold]) -> None:
        """Is a death told exactly when there was one?

        mark: must the next one be told?  Maybe: its holder died while it gave it back.
        """
        mark, died = No, 0
        pending = sorted(self._pending[obj])
        for hold in holds:
            if hold.mode == SHARED:
                continue
            if hold.told == UNTOLD:
                if mark != No:
                    self._verdict.told += 1
            elif hold.told:
                self._verdict.told += 1
                if mark == No:
                    usable = [p for p in pending if p[0] < hold.got and p[1] <= hold.got]
                    if not usable:
                        self._wrong(obj, f"{hold.token:#x} was told of a death at {hold.got}, and nobody had died")
                    else:  # one that had asked for it, and died before it could say that it had it
                        died = min(usable, key=lambda p: p[1])[1]
                        pending.remove(min(usable, key=lambda p: p[1]))
                if died and hold.begin < died <= hold.got and not self._was_stopped(hold.token, died, hold.got):
                    self._verdict.progress.append(hold.got - died)
            elif mark == Yes:
                self._wrong(obj, f"{hold.token:#x} was not told of a death, at {hold.got}")
            if hold.mode == UPGRADABLE:
                mark = Maybe if hold.told else No
                continue
            died = 0
            if hold.gave is not None:
                mark = Yes if hold.keep else No
            else:
                mark, died = (Yes if hold.giving is None else Maybe), hold.dead or 0

    def _was_stopped(self, token: int, start: int, end: int) -> bool:
        times = self._stopped.get(self._pid.get(token, 0), [])
        return any(start - 100_000_000 <= t <= end for t in times)

    # ---- counts -----------------------------------------------------------------------------------------------------
    def _of(self, call: int, topic: int) -> Iterator[tuple[int, list[Call]]]:
        for (which, obj), calls in self._calls.items():
            if which == call and obj >> 4 == topic:
                yield obj, calls

    def _semaphores(self) -> None:
        for index, before in self._facts.before.items():
            obj = SEMAPHORE << 4 | index
            ups, downs = self._calls[UP, obj], self._calls[DOWN, obj]
            steps = [(c.begin, c.first.a) for c in ups]
            steps += [(c.last.t, -c.first.a) for c in downs if c.last is not None and c.last.b]
            units = before
            for t, n in sorted(steps, key=lambda s: (s[0], -s[1])):
                units += n
                if units < 0:
                    self._wrong(obj, f"at {t} more had been taken than was ever given, by {-units}")
                    break
            given = sum(c.first.a for c in ups if c.end is not None)
            perhaps = sum(c.first.a for c in ups if c.end is None)
            taken = sum(c.first.a for c in downs if c.last is not None and c.last.b)
            lost = sum(c.first.a for c in downs if c.end is None)
            least, most = before + given - taken - lost, before + given + perhaps - taken
            if not least <= self._facts.after[index] <= most:
                self._wrong(obj, f"{self._facts.after[index]} units are left, and it should be {least} to {most}")

    def _latches(self) -> None:
        begun: dict[int, list[int]] = defaultdict(list)
        done: dict[int, list[int]] = defaultdict(list)
        obj = LATCH << 4
        for c in self._calls[DOWN, obj]:
            if c.last is None or c.last.a:
                begun[c.first.b].append(c.begin)
            if c.last is not None and c.last.a:
                done[c.first.b].append(c.last.t)
        for times in (*begun.values(), *done.values()):
            times.sort()
        for c in self._calls[WAIT, obj]:
            if c.last is None:
                continue
            number, count = c.first.b, self._facts.count
            if c.last.a == 1 and bisect_right(begun[number], c.last.t) < count:
                self._wrong(obj, f"latch {number} was open at {c.last.t}, after too few counts")
            if not c.last.a and bisect_left(done[number], c.begin + c.first.a) >= count:
                self._wrong(obj, f"a wait for latch {number} was in vain at {c.last.t}, and all was counted")

    # ---- meetings ---------------------------------------------------------------------------------------------------
    def _events(self) -> None:
        for index, was_set in self._facts.events.items():
            obj = EVENT << 4 | index
            sets, clears = self._calls[SET, obj], self._calls[CLEAR, obj]
            changes = sorted([(c.begin, 1, c) for c in sets] + [(c.begin, 0, c) for c in clears], key=lambda x: x[0])
            surely: list[tuple[int, int]] = []
            maybe: list[tuple[int, int]] = []
            sure: int | None = 0 if was_set else None
            may: int | None = sure
            for _, is_set, c in changes:
                if is_set:
                    may = c.begin if may is None else may
                    sure = sure if sure is not None else c.end
                    continue
                if sure is not None:
                    surely.append((sure, c.begin))
                    sure = None
                if may is not None and c.end is not None:
                    maybe.append((may, c.end))
                    may = None
            if sure is not None:
                surely.append((sure, NEVER))
            if may is not None:
                maybe.append((may, NEVER))
            for c in self._calls[WAIT, obj]:
                if c.last is not None:
                    self._event_wait(obj, c, c.last, surely, maybe)

    def _event_wait(
        self, obj: int, c: Call, last: Record, surely: list[tuple[int, int]], maybe: list[tuple[int, int]]
    ) -> None:
        if last.a:
            at = bisect_right(maybe, (last.t, NEVER)) - 1
            if at < 0 or maybe[at][1] < c.begin:
                self._wrong(obj, f"a wait was successful at {last.t}, and nobody had set it since {c.begin}")
        else:
            at = bisect_left(surely, (c.begin + c.first.a, 0)) - 1
            if at >= 0 and surely[at][1] > last.t:
                self._wrong(obj, f"a wait was in vain at {last.t}, and it is set since {surely[at][0]}")

    def _barriers(self) -> None:
        for index, parties in enumerate(self._facts.parties):
            obj = BARRIER << 4 | index
            rounds = sorted(r.t for r in self._points[ACTION, obj])
            for number in range(parties):
                waits = sorted(
                    (c.begin, c.last.t) for c in self._calls[ARRIVE, obj] if c.last is not None and c.last.a == number
                )
                left = _unmatched(waits, [(t, 1) for t in rounds])
                if left:
                    self._wrong(obj, f"{left} waits that returned {number} belong to no round, or two to one")
            if any(c.last is not None and c.last.a >= parties for c in self._calls[ARRIVE, obj]):
                self._wrong(obj, "a wait returned a number beyond its parties")

    def _onces(self) -> None:
        obj = ONCE << 4
        results: dict[int, tuple[int, int]] = {}
        for c in sorted(
            (c for c in self._calls[RUN, obj] if c.last is not None and c.last.b), key=lambda c: c.end or 0
        ):
            assert c.last is not None
            number, t, result = c.first.a, c.last.t, c.last.c
            first = results.setdefault(number, (t, result))
            if first[1] != result:
                self._wrong(obj, f"initialisation {number} had two results")
        until: dict[int, int] = {}
        for c in sorted(self._calls[BODY, obj], key=lambda c: c.begin):
            number = c.first.a
            if number in results and c.begin > results[number][0]:
                self._wrong(obj, f"initialisation {number} was done, and was run again at {c.begin}")
            if c.begin < until.get(number, 0):
                self._wrong(obj, f"initialisation {number} ran twice at once at {c.begin}")
            until[number] = c.end if c.end is not None else self._death(c.token) or 0

    def _conditions(self) -> None:
        for index in (0, 1):
            obj = CONDITION << 4 | index
            put = self._once_each(obj, PUT)
            got = self._once_each(obj, GET)
            for item, t in got.items():
                if item not in put or put[item] > t:
                    self._wrong(obj, f"item {item} was taken at {t}, before it was put")
            waits = self._calls[WAIT, obj]
            notifies = [(c.begin, c.first.a or NEVER) for c in self._calls[NOTIFY, obj]]
            woken = sorted((c.begin, c.last.t) for c in waits if c.last is not None and c.last.a)
            dead = [c for c in waits if c.end is None]
            spurious = _unmatched(woken, sorted(notifies)) - len(dead)
            if spurious > 0:
                self._wrong(obj, f"{spurious} waits came to their end without a notification")
            self._lost(obj, waits, dead)

    def _lost(self, obj: int, waits: list[Call], dead: list[Call]) -> None:
        """A wait that was in vain, though a notification was there for it while it waited."""
        vain = [c for c in waits if c.last is not None and not c.last.a]
        others = sorted((c.begin, c.end or NEVER) for c in [*(w for w in waits if w.last and w.last.a), *dead])
        notifies = sorted((c.begin, c.end, c.first.a) for c in self._calls[NOTIFY, obj] if c.end is not None)
        for c in vain:
            for begin, end, n in notifies[bisect_left(notifies, (c.begin, 0, 0)) :]:
                if begin > c.begin + c.first.a:
                    break
                if end is None or end >= c.begin + c.first.a:
                    continue
                there = sum(1 for b, e in others[: bisect_left(others, (begin, 0))] if e > begin)
                if n == 0 or there < n:
                    self._wrong(obj, f"a wait since {c.begin} was in vain, and one was notified at {begin}")
                    break

    def _once_each(self, obj: int, call: int) -> dict[int, int]:
        """Each item, and when; one that is there twice was begun by a thread that died."""
        seen: dict[int, Record] = {}
        for r in sorted(self._points[call, obj], key=lambda r: r.t):
            if r.a in seen and self._death(seen[r.a].token) is None:
                self._wrong(obj, f"item {r.a} was {'put' if call == PUT else 'taken'} twice, again at {r.t}")
            seen[r.a] = r
        return {item: r.t for item, r in seen.items()}

    def _deadlocks(self) -> None:
        told: dict[int, list[circles.Span]] = {}
        waits: dict[int, list[circles.Span]] = {}
        holds: dict[int, list[circles.Span]] = {}
        for obj, calls in self._of(TAKE, DEADLOCK):
            ended = [
                (c, circles.Span(c.token, c.begin, self._over.get(c.token, NEVER) if c.end is None else c.end))
                for c in calls
            ]
            told[obj] = [span for c, span in ended if c.last is not None and c.last.a == 3]
            waits[obj] = [span for c, span in ended if c.first.c]
            holds[obj] = [span for c, span in ended if c.last is None]
            taken, latest = self._holds[obj], 0
            for h, following in zip(taken, [*(n.got for n in taken[1:]), NEVER], strict=True):
                # not while another surely had it; a dead one's at most until another has it
                since = max(h.begin, latest) if latest <= h.got else h.begin
                dead = min(following, self._over.get(h.token, NEVER))
                holds[obj].append(circles.Span(h.token, since, dead if h.gave is None else h.gave))
                latest = max(latest, min(h.until, following))
        self._verdict.deadlocks = sum(map(len, told.values()))
        for obj, text in circles.false_verdicts(told, waits, holds):
            self._wrong(obj, text)

    def _enrolments(self) -> None:
        """No round goes on without one who is enrolled, nor gives its place away."""
        obj = ENROLMENT << 4
        withdrawals: dict[int, list[int]] = defaultdict(list)
        arrivals: dict[int, list[Call]] = defaultdict(list)
        for c in self._calls[WITHDRAW, obj]:
            withdrawals[c.token].append(c.begin)
        for c in self._calls[ARRIVE, obj]:
            arrivals[c.token].append(c)
        enrolled: list[tuple[int, int, int]] = []
        for c in self._calls[ENROL, obj]:
            if c.last is not None and c.last.a:
                until = min((t for t in withdrawals[c.token] if t > c.last.t), default=self._struck_off(obj, c.token))
                enrolled.append((c.token, c.last.t, until))
        for token, since, until in enrolled:
            mine = [c for c in arrivals[token] if since <= c.begin and (c.end or NEVER) <= until]
            places = {c.last.a for c in mine if c.last is not None and c.last.a >= 0}
            if len(places) > 1:
                self._wrong(obj, f"{token:#x} is enrolled since {since}, and had the places {sorted(places)}")
        for c in self._calls[ARRIVE, obj]:
            if c.last is None or c.last.a < 0:
                continue
            for token, since, until in enrolled:
                there = since <= c.begin and c.last.t <= until and token != c.token
                if there and not any(a.begin <= c.last.t and (a.end or NEVER) >= c.begin for a in arrivals[token]):
                    self._wrong(obj, f"a round went on without {token:#x}, enrolled since {since}, at {c.last.t}")

    def _struck_off(self, obj: int, token: int) -> int:
        """When a reset may have taken it from the parties: after its death at the earliest."""
        death = self._death(token)
        if death is None:
            return NEVER
        resets = [max(death, c.begin) for c in self._calls[RESET, obj] if (c.end or NEVER) >= death]
        return min(resets, default=NEVER)

    # ---- files ------------------------------------------------------------------------------------------------------
    def _files(self) -> None:
        lines: dict[tuple[int, int], int] = defaultdict(int)
        for line in self._facts.lines.split(b"\n")[:-1]:
            fields = line.split(b" ")
            if len(fields) != 3 or not fields[0].isdigit() or not fields[1].isdigit():
                self._wrong(FILES << 4 | 4, f"a line of the file is torn: {line[:60]!r}")
                continue
            lines[int(fields[0]), int(fields[1])] += 1
        obj = FILES << 4 | 4
        for c in self._calls[APPEND, obj]:
            found = lines.pop(((c.token & 0xFFFF) - 1, c.first.a), 0)
            if found > 1 or (found == 0 and c.end is not None):
                self._wrong(obj, f"line {c.first.a} of {c.token:#x} is there {found} times")
        if lines:
            self._wrong(obj, f"{len(lines)} lines are there that nobody appended")
        obj = UPDATES << 4
        calls = sorted((c for c in self._calls[UPDATE, obj] if c.last is not None), key=lambda c: c.end or 0)
        ends, highest, top = [c.end or 0 for c in calls], [0], 0
        numbers = set()
        for c in calls:
            assert c.last is not None
            top = max(top, c.last.a)
            highest.append(top)
            if c.last.a in numbers:
                self._wrong(obj, f"two updates wrote {c.last.a}")
            numbers.add(c.last.a)
        for c in calls:
            assert c.last is not None
            before = highest[bisect_left(ends, c.begin)]
            if c.last.a <= before:
                self._wrong(obj, f"an update wrote {c.last.a}, after {before} was there")
        if self._facts.number < top:
            self._wrong(obj, f"the file says {self._facts.number}, and {top} was written")


def _beside(a: int, b: int) -> bool:
    """May two threads have it in these modes at once?"""
    return SHARED in (a, b) and EXCLUSIVE not in (a, b)


def _unmatched(waits: list[tuple[int, int]], points: Iterable[tuple[int, int]]) -> int:
    """How many intervals are left when each point in time, in their order, is given to as many as it says, the one
    that ends first before the others."""
    heap: list[int] = []
    at = served = 0
    for t, n in points:
        while at < len(waits) and waits[at][0] <= t:
            heapq.heappush(heap, waits[at][1])
            at += 1
        while heap and heap[0] < t:
            heapq.heappop(heap)
        for _ in range(min(n, len(heap))):
            heapq.heappop(heap)
            served += 1
    return len(waits) - served
