"""What acts: gives tasks to workers, watches over them, and takes their answers back to the board.

Everything happens in callbacks of the event loop, one at a time: something comes in, the board decides, its commands
are carried out, tasks are given out, and one timer is set for what is due next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.agents.endings import endable
from aurora_swarm.errors import (
    AgentTimeoutError,
    AuroraSwarmError,
    BudgetError,
    ContextError,
    RequestRejectedError,
    TaskCancelledError,
    UsageError,
    WorkerLostError,
)
from aurora_swarm.swarms.allocation import Roster, Start, assign
from aurora_swarm.swarms.board import Board
from aurora_swarm.swarms.cards import Card, Command, Ended, Stop
from aurora_swarm.swarms.clock import RunClock
from aurora_swarm.swarms.leases import CallPace, Lapse, Leases
from aurora_swarm.swarms.mind import Mind
from aurora_swarm.swarms.ready import Skills
from aurora_swarm.swarms.reins import Gate, TaskRein
from aurora_swarm.swarms.watching import WATCHED, Watched, watched_mind
from aurora_swarm.swarms.work import Assignment, Performer, TaskRecord, text_of
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Usage

WIDTH_S = 0.25
"""Seconds until tasks are given out again after a purse above had too many agents under way."""

AT_ONCE = 32
"""Tasks that are given out at a time: thousands would hold up everybody else on the event loop."""

_ENDED_AT_ONCE = 256

_ROUNDING_S = 1e-6

_USELESS = (BudgetError, ContextError, RequestRejectedError, TaskCancelledError, UsageError)
"""Errors that another worker would have too."""

_LOG = logging.getLogger(__name__)


class Attempt:
    """One worker on one task."""

    __slots__ = (
        "began", "card", "gate", "is_lost", "lease", "performer", "rein", "stood", "task", "watched",
    )  # fmt: skip

    def __init__(self, lease: int, card: Card, performer: Performer, began: float) -> None:
        self.lease = lease
        self.card = card
        self.performer = performer
        self.began = began
        self.stood: float | None = None
        self.gate = Gate()
        self.is_lost = False
        self.rein: TaskRein
        self.watched: Watched
        self.task: asyncio.Task[AgentResult[Any]]


class Floor:
    """Where the work is done, from the first task to `aclose`.

    Args:
        mind: Whom workers ask.
        purse: Out of which their work is paid.
        context: What all of them are told.
        board: The tasks.
        leases: How long workers may be silent.
        workers: The crew where it was given; None where it is made.
        make: Makes a worker.
        nodes: Workers at most.

    Attributes:
        gate: Shut while the run is paused.
        mind: The same mind, watched.
        board: As given.
        clock: The run's time.
        said: What was said to all; `said_to` to who works on a task.
        roster: The crew.
        performers: All who are or were in it, by id.
        usage: Tokens of all attempts that came back.
        ended: Records of tasks as they became final, in order of time.
    """

    def __init__(
        self,
        *,
        mind: Mind,
        purse: Purse | None,
        context: str,
        board: Board,
        leases: Leases,
        workers: Sequence[Performer] | None,
        make: Callable[[], Performer],
        nodes: int,
    ) -> None:
        self.gate = Gate()
        self.mind = watched_mind(mind, self.gate)
        self.board = board
        self.clock = RunClock()
        self.performers: dict[str, Performer] = {}
        self.usage = Usage()
        self.ended: list[TaskRecord] = []
        self.said: list[str] = []
        self.said_to: dict[str, list[str]] = {}
        self._latest: dict[str, int] = {}
        self._purse = purse
        self._context = context
        self._leases = leases
        self._make = make
        self._pace = CallPace()
        self._attempts: dict[int, Attempt] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._narrow_until = 0.0
        self._waiting: list[asyncio.Future[None]] = []
        self._is_closed = False
        self._has_more = False
        self.roster = Roster(nodes, self._hire, stays=workers is not None)
        for worker in workers or ():
            self.performers[worker.id] = worker
            self.roster.join(worker.id, frozenset(worker.skills), self.clock.now())

    # -- what comes in -----------------------------------------------------------------------------------------

    def carry_out(self, commands: Sequence[Command] | None) -> None:
        """Do what the board says, then give out what may begin."""
        for command in commands or ():
            if isinstance(command, Stop):
                self._drop(self._attempts[command.lease])
            else:
                self._note_end(command)
        self.go_on()

    def go_on(self) -> None:
        """Give out what may begin, and set the timer for what is due next."""
        if self._is_closed or self.gate.is_shut:
            return
        now, clock = self.clock.loop_now(), self.clock.now()
        if clock >= self._narrow_until:
            starts = list(assign(self.board, self.roster, now, clock, AT_ONCE))
            for start in starts:
                self._begin(start, clock)
            if len(starts) == AT_ONCE and not self._has_more:
                self._has_more = True
                asyncio.get_running_loop().call_soon(self._go_further)
        self._set_timer()

    def _go_further(self) -> None:
        self._has_more = False
        self.go_on()

    def attempt_at(self, task: str) -> Attempt | None:
        """Who works on a task."""
        lease = self.board.card(task).lease
        return self._attempts.get(lease) if lease else None

    def pause_all(self) -> None:
        """Nothing begins, no lease passes."""
        self.gate.shut()
        self.clock.stop()

    def resume_all(self) -> None:
        """Go on."""
        self.clock.go_on()
        self.gate.open()
        self.go_on()

    def cancel_all(self, error: TaskCancelledError) -> None:
        """No call begins any more; tasks end a few hundred at a time, so that nobody else is held up."""
        was_shut = self.gate.is_shut
        self.gate.shut()
        self._stop_some(error, reopens=not was_shut)

    def _stop_some(self, error: TaskCancelledError, *, reopens: bool) -> None:
        self.carry_out(self.board.stop(error, self.clock.loop_now(), _ENDED_AT_ONCE))
        if self.board.n_open and not self._is_closed:
            asyncio.get_running_loop().call_soon(partial(self._stop_some, error, reopens=reopens))
        elif reopens:
            self.gate.open()

    def set_gate(self, attempt: Attempt) -> None:
        """Hold an attempt up, or let it go on, as its task and its worker are."""
        clock = self.clock.now()
        if attempt.card.is_paused or self.roster.posts[attempt.performer.id].is_paused:
            attempt.gate.shut()
            attempt.stood = clock if attempt.stood is None else attempt.stood
            self._leases.hold(attempt.lease, clock)
        elif attempt.stood is not None:
            attempt.began += clock - attempt.stood
            attempt.stood = None
            self._leases.release(attempt.lease, clock)
            attempt.gate.open()

    def send_home(self, worker: str) -> None:
        """A worker leaves; another one gets its task."""
        task = self.roster.posts[worker].task
        self.roster.leave(worker, self.clock.now())
        attempt = self.attempt_at(task) if task else None
        commands: Sequence[Command] | None = ()
        if attempt is not None and attempt.performer.id == worker:
            self._drop(attempt)
            commands = self.board.given_back(attempt.lease, self.clock.loop_now(), "its worker was sent home")
        self.carry_out(commands)

    def is_current(self, place: int) -> bool:
        """Whether a record in `ended` has not been taken up again since."""
        task = self.ended[place].id
        return self._latest[task] == place and self.board.cards[task].state is self.ended[place].state

    async def news(self) -> None:
        """Wait until a task has become final."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    async def aclose(self) -> None:
        """End everything that is under way; takes as long as workers may take for their farewell."""
        self.carry_out(self.board.stop(TaskCancelledError("the run has ended"), self.clock.loop_now()))
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        under_way = [attempt.task for attempt in self._attempts.values()]
        if under_way:
            await asyncio.wait(under_way)

    # -- giving out --------------------------------------------------------------------------------------------

    def _hire(self) -> tuple[str, Skills]:
        worker = self._make()
        self.performers[worker.id] = worker
        return worker.id, frozenset(worker.skills)

    def _begin(self, start: Start, clock: float) -> None:
        card = self.board.cards[start.task]
        lease, performer = start.lease, self.performers[start.worker]
        attempt = self._attempts[lease] = Attempt(lease, card, performer, clock)

        def alive() -> None:
            self._leases.renew(lease, self.clock.now())

        said = (self.said, self.said_to.setdefault(start.task, []))
        attempt.rein = TaskRein((self.gate, attempt.gate), said, alive, self._purse)
        attempt.watched = Watched(attempt.gate, self.clock.now, alive, self._pace.note)
        # Its own time is kept by the lease, because a pause must stop it.
        self._leases.grant(lease, clock, card.spec.timeout_s)
        attempt.task = asyncio.get_running_loop().create_task(self._work(attempt))
        attempt.task.add_done_callback(lambda _: self._came_back(attempt))

    async def _work(self, attempt: Attempt) -> AgentResult[Any]:
        WATCHED.set(attempt.watched)
        performer, rein = attempt.performer, attempt.rein
        work = performer.work(self._assignment(attempt.card), self.mind, purse=self._purse, rein=rein)
        # A worker that swallows its cancellation must not keep its place, or the session open.
        return await endable(work)

    def _assignment(self, card: Card) -> Assignment:
        spec = card.spec
        before = [self.board.cards[task] for task in card.after]
        return Assignment(
            task=spec.id,
            title=spec.title,
            instructions=spec.instructions or spec.title,
            schema=spec.schema,
            context=self._context,
            given=tuple((other.spec.title, text_of(other.result)) for other in before if other.result is not None),
        )

    # -- taking back -------------------------------------------------------------------------------------------

    def _came_back(self, attempt: Attempt) -> None:
        """A worker has ended, in whatever way; it is free again."""
        del self._attempts[attempt.lease]
        result, error = _outcome(attempt)
        if result is not None:
            self.usage += result.usage
        commands: Sequence[Command] | None = ()
        if not attempt.is_lost:
            self._leases.end(attempt.lease)
            commands = self._report(attempt, result, error)
        self.roster.free(attempt.performer.id, self.clock.now())
        self.carry_out(commands)

    def _report(
        self, attempt: Attempt, result: AgentResult[Any] | None, error: AuroraSwarmError | None
    ) -> Sequence[Command] | None:
        now, lease = self.clock.loop_now(), attempt.lease
        if error is None:
            assert result is not None
            self._feed_back(attempt, ok=True)
            return self.board.done(lease, result, now)
        if isinstance(error, BudgetError):
            return self._out_of_budget(attempt, result, error)
        if isinstance(error, _USELESS):
            return self.board.failed(lease, error, now, result=result, is_final=True)
        self._feed_back(attempt, ok=False)
        return self.board.failed(lease, error, now, result=result)

    def _out_of_budget(
        self, attempt: Attempt, result: AgentResult[Any] | None, error: BudgetError
    ) -> Sequence[Command] | None:
        """Nothing further can be paid: what nobody has yet ends too, what is under way ends by itself."""
        now = self.clock.loop_now()
        if error.bound == "width":
            self._narrow_until = self.clock.now() + WIDTH_S
            return self.board.given_back(attempt.lease, now, "too many agents are under way")
        commands = self.board.failed(attempt.lease, error, now, result=result, is_final=True) or []
        rest = BudgetError(f"not begun, because the budget is spent: {error.problem}", bound=error.bound)
        return [*commands, *self.board.close(rest, now)]

    def _feed_back(self, attempt: Attempt, *, ok: bool) -> None:
        clock = self.clock.now()
        seconds = (clock if attempt.stood is None else attempt.stood) - attempt.began
        self.roster.note(attempt.performer.id, attempt.card.skills, seconds, ok=ok)

    def _note_end(self, command: Ended) -> None:
        self._latest[command.task] = len(self.ended)
        self.ended.append(self.board.cards[command.task].record())
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)

    # -- watching over it --------------------------------------------------------------------------------------

    def _drop(self, attempt: Attempt) -> None:
        """A worker has lost its task: end its work."""
        attempt.is_lost = attempt.rein.is_ended = True
        self._leases.end(attempt.lease)
        attempt.task.cancel()

    def _set_timer(self) -> None:
        dues = [self._leases.next_due(), self.roster.next_wake()]
        if self._narrow_until > self.clock.now():
            dues.append(self._narrow_until)
        due = min((due for due in dues if due is not None), default=None)
        if due is None:
            return
        at = self.clock.loop_time_of(due)
        if self._timer is None or self._timer.cancelled() or at < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_at(at, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        if self._is_closed or self.gate.is_shut:
            return
        # Sums of times are not exact: a moment that is due must not be missed by a rounding, again and again.
        clock = self.clock.now() + _ROUNDING_S
        self._narrow_until = self._narrow_until if clock < self._narrow_until else 0.0
        self.roster.wake(clock)
        commands: list[Command] = []
        for lease, lapse in self._leases.lapsed(clock):
            attempt = self._attempts[lease]
            if lapse == "silent" and self._lives(attempt):
                self._leases.renew(lease, clock)
            else:
                commands += self._lost(attempt, lapse)
        self.carry_out(commands)

    def _lives(self, attempt: Attempt) -> bool:
        """Whether a worker that has not been heard of waits for what others must do, which has times of its own."""
        if attempt.watched.is_busy:
            return attempt.watched.longest_s() < self._pace.patience_s(self._leases.lease_s)
        return self._purse is not None and any(purse.waiting for purse in self._purse.chain)

    def _lost(self, attempt: Attempt, lapse: Lapse) -> Sequence[Command]:
        self._feed_back(attempt, ok=False)
        self._drop(attempt)
        error: AuroraSwarmError
        if lapse == "too long":
            error = AgentTimeoutError(f"the task took longer than {attempt.card.spec.timeout_s:g} s")
        else:
            error = WorkerLostError(
                f"its worker gave no sign of life within its lease of {self._leases.lease_s:g} s",
                remedy="see why, or give a longer lease_s",
            )
        return self.board.failed(attempt.lease, error, self.clock.loop_now(), note="its worker is lost") or ()


def _outcome(attempt: Attempt) -> tuple[AgentResult[Any] | None, AuroraSwarmError | None]:
    """What a worker came back with; a worker that raised is as good as lost."""
    task = attempt.task
    if task.cancelled():
        return None, WorkerLostError("its worker was cancelled by somebody else")
    raised = task.exception()
    if isinstance(raised, AuroraSwarmError):
        return None, raised
    if raised is not None:
        _LOG.warning("worker %s died of %s", attempt.performer.id, type(raised).__name__)
        _LOG.debug("worker %s died", attempt.performer.id, exc_info=raised)
        return None, WorkerLostError(f"its worker died of {type(raised).__name__}: {raised}")
    result: Any = task.result()
    # What a worker of the user's own returns is checked by nobody else.
    if not isinstance(result, AgentResult):
        return None, WorkerLostError(f"its worker came back with {type(result).__name__} instead of a result")
    return result, None if result.ok else result.error or WorkerLostError("its worker came back with nothing")
