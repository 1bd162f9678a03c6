"""What a scenario is: one operation in one situation, and who judges what a death in it leaves behind.

A sweep kills the victim at one point after the other.  Each time:

    stage()      the others take their places (somebody holds, somebody has died holding)
    the victim   is forked: open(), before(), and stops before operation()
    placed()     what must happen after that (somebody waits for what the victim holds)
    the steps    to the point; at each sleep of the victim on the way: asleep()
    frozen()     what the words say while it stands there: who must be told of what
    SIGKILL
    judge()      do the others go on, in time, alone, and told what they should be told?
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from ..stepping import Victim, interpreter_code
from .world import BOUND, HANG, Agent, Answer, Page

if TYPE_CHECKING:
    from ...snapshots import Snapshot

__all__ = ["Scenario"]


class Scenario:
    """One operation in one situation.  Subclasses say what is done; the methods run where their sections tell."""

    primitive: ClassVar[str] = ""
    """Whose operation it is: what `--only` chooses by, with the other two."""
    operation_name: ClassVar[str] = ""
    situation: ClassVar[str] = ""
    agents: ClassVar[tuple[str, ...]] = ("survivor",)
    """The names of the agents there are."""
    stoppable: ClassVar[bool] = True
    """Whether `judge_stopped` has something to say of a victim that is stopped, not killed."""
    goes_on: ClassVar[bool] = True
    """Whether, stopped, it may go on to the end of its operation: the others are then as they are without a death."""
    hang: ClassVar[float] = HANG
    """Seconds after which a survivor who has not gone on is said to hang."""
    reads_arena: ClassVar[bool] = True
    """Whether the driver watches the arena and reads it at each point: not, when it is what is made or unlinked."""

    victim_waits = False
    """Whether an outsider saw it wait when it stood at its point."""

    def __init__(self, arena: str) -> None:
        self.arena_path = arena
        """The file of the arena; every scenario has one of its own."""
        self.page = Page()
        self.by: dict[str, Agent] = {}
        self.found: list[tuple[str, str]] = []
        """What is wrong at this point: a kind and a sentence."""
        self.latencies: list[float] = []
        """Seconds from each kill to the progress of a survivor who waited already."""
        self.killed_at = 0
        self.slept = 0
        """How often the victim has slept on its way."""

    @classmethod
    def name(cls) -> str:
        return f"{cls.primitive}.{cls.operation_name}/{cls.situation}"

    # ---- in every process ---------------------------------------------------------------------------------------
    def open(self) -> None:
        """Opens what it deals with.  Runs once in each agent and in each victim."""
        raise NotImplementedError

    # ---- in the victim --------------------------------------------------------------------------------------------
    def before(self) -> None:
        """What the victim does before it is stepped; it must register its thread, or that is stepped too."""

    def operation(self) -> Callable[[], object]:
        """What it is stepped through: with as little Python around it as can be."""
        raise NotImplementedError

    # ---- in the driver ----------------------------------------------------------------------------------------------
    def stage(self) -> None:
        """Before the victim is forked."""

    def placed(self, victim: Victim) -> None:
        """When it stands before its operation."""

    def asleep(self, victim: Victim) -> None:
        """When it has fallen asleep on its way, each time; `slept` counts them."""

    def frozen(self, victim: Victim, seen: Snapshot | None) -> None:
        """At the point, before it is killed.  seen: what an outsider reads in the arena."""

    def judge(self, victim: Victim) -> None:
        """When it is dead.  Says what is wrong by `wrong`; leaves everything as it was before `stage`."""
        raise NotImplementedError

    def ended(self, victim: Victim) -> None:
        """At the end of its operation, while it lives: whom it should have woken goes on now, and not for its death."""

    def judge_stopped(self, victim: Victim) -> None:
        """While it stands still and lives, as after SIGSTOP: nobody may take it for dead.  It goes on afterwards."""

    def explains_rescues(self) -> bool:
        """Whether a death may have swallowed a wake-up at this point, so that the belt had to deliver it.

        Not, unless the scenario says so.
        """
        return False

    def may_take_wakes_along(self) -> bool:
        """Whether the victim waited, or had waited: nobody else is sent a wake-up, so nobody else swallows one.

        That it waits is told before it sleeps, and from then on whoever counts rescues has to believe it of the dead.
        """
        return self.slept > 0 or self.victim_waits

    # ---- helpers -----------------------------------------------------------------------------------------------
    def wrong(self, kind: str, sentence: str) -> None:
        """A finding: "hang", "two holders", "lost permit", "lost wake-up", "told", "error" ..."""
        self.found.append((kind, sentence))

    def start(self) -> None:
        """Starts the agents."""
        for name in self.cast():
            self.restart(name)

    def cast(self) -> tuple[str, ...]:
        """Who is started: the agents there are, and any others that judging needs."""
        return self.agents

    def restart(self, name: str) -> None:
        if name in self.by:
            self.by[name].end()
        self.by[name] = Agent(self, self.open)

    def finish(self) -> None:
        """Ends the agents."""
        for agent in self.by.values():
            agent.end()
        self.by.clear()
        self.page.close()

    spins: ClassVar[bool] = False
    """Whether the victim's waits spin first, as they do where there are several CPUs: thousands of steps more."""

    in_thread: ClassVar[bool] = False
    """Whether the victim is the second thread of its process."""
    to_the_end: ClassVar[bool] = False
    """Whether it is stepped to the end of that thread; the process lives on."""
    ends_alone: ClassVar[bool] = False
    """Whether the thread alone is ended at each point, and its process lives on."""

    assigns: ClassVar[bool] = False
    """Whether the operation assigns to watched memory in Python, which no operation of syncx does."""

    def victim(self, watched: list[Any]) -> Victim:
        """A new one, stopped before its operation."""
        return Victim(
            None,
            self._prepare,
            watched,
            aside=(0, 0) if self.assigns else interpreter_code(),
            in_thread=self.in_thread,
            to_the_end=self.to_the_end,
        )

    def end(self, victim: Victim) -> None:
        """What is done to it at its point."""
        if not self.ends_alone:
            victim.kill()
        elif not victim.gone:
            victim.end_thread()

    leaps: ClassVar[bool] = True
    """Whether it may be led by breakpoints: not, when others run in its process, who would come by there too."""

    def watched(self) -> list[Any]:
        """Memory beside the arena's whose changes others see: buffers that this process shares with the victim."""
        return []

    def _prepare(self) -> Callable[[], object]:
        from ... import _core

        _core._set_spinning(self.spins)
        self.open()
        self.before()
        return self.operation()

    def answer(self, name: str, what: str, since: int | None = None) -> Answer | None:
        """The answer of an agent whose order is not done yet: None, and told as a hang, if it does not come.

        since: when it could have gone on, in nanoseconds; that time is a latency, and must be less than `BOUND`.
        """
        agent = self.by[name]
        answer = agent.answer(self.hang)
        if answer is None:
            self.wrong("hang", f"the {name} {what}: nothing for {self.hang:g} s; {agent.said()[-300:]}")
            self.restart(name)
            return None
        if answer.error is not None:
            self.wrong("error", f"the {name} {what}: {answer.error}")
            return None
        if since is not None and answer.at >= since:  # else it had gone on before
            took = (answer.at - since) / 1e9
            self.latencies.append(took)
            if took > BOUND:
                self.wrong("late", f"the {name} {what}: after {took * 1e3:.0f} ms")
        return answer

    def order(self, name: str, order: str, *arguments: Any) -> Answer | None:
        """An order and its answer, which must come in time."""
        since = time.monotonic_ns()
        self.by[name].tell(order, *arguments)
        return self.answer(name, order.replace("_", " "), since)
