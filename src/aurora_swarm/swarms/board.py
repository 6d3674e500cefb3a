"""The task board: what is to be done, who has it, and how it ended. Pure: events and `now` in, commands out.

A task's state follows from four facts: whether it has ended, whether it is paused, whether somebody holds a lease on
it, and how many of the tasks that it builds on are not done. Each event changes facts, and `_settle` draws the
conclusion, so that no combination of pause, requeue and cancel has a rule of its own.

A lease is a number that is given out once. What comes back under a number that no longer stands is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain, islice
from typing import Any

from aurora_swarm.errors import AuroraSwarmError, TaskCancelledError, UsageError
from aurora_swarm.swarms.cards import Card, Command, Ended, Stop, in_order
from aurora_swarm.swarms.ready import ReadyQueue
from aurora_swarm.swarms.work import FINAL, Moment, TaskSpec, TaskState
from aurora_swarm.values.outcome import AgentResult

_NOBODYS = (TaskState.READY, TaskState.PAUSED, TaskState.WAITING)


class Board:
    """Tasks, from when they are added to their end.

    Args:
        max_attempts: How often a task is given out before it fails.

    Attributes:
        cards: All tasks by id, in the order in which they were added.
        queue: Those that may begin.
        counts: How many are in each state.
        by_state: Their ids by state, those that came into it last at the end.
    """

    def __init__(self, *, max_attempts: int = 3) -> None:
        self.cards: dict[str, Card] = {}
        self.queue = ReadyQueue()
        self.counts: Counter[TaskState] = Counter()
        self.by_state: dict[TaskState, dict[str, None]] = {state: {} for state in TaskState}
        self._max_attempts = max_attempts
        self._leases: dict[int, str] = {}
        self._given_out = 0
        self._closed_by: AuroraSwarmError | None = None

    @property
    def n_open(self) -> int:
        """Tasks that are not final."""
        return len(self.cards) - sum(self.counts[state] for state in FINAL)

    @property
    def closed_by(self) -> AuroraSwarmError | None:
        """Why nothing is given out any more; None while it is."""
        return self._closed_by

    def leased(self, lease: int) -> Card | None:
        """The task under a lease; None when the lease no longer stands."""
        task = self._leases.get(lease)
        return None if task is None else self.cards[task]

    def card(self, task: str) -> Card:
        """A task by its id.

        Raises:
            UsageError: There is none.
        """
        card = self.cards.get(task)
        if card is None:
            raise UsageError(f"there is no task {task}", remedy="items() lists those that there are")
        return card

    # -- what comes in -----------------------------------------------------------------------------------------

    def add(self, specs: Sequence[TaskSpec], now: float) -> list[Command]:
        """Put tasks on the board, all or none; each has an id. They may build on each other in any order.

        Raises:
            UsageError: An id is taken, a task that one builds on is not there, or they build on each other in a circle.
        """
        self._check(specs)
        ordered = in_order(specs)
        new = {spec.id: Card(spec, 0) for spec in specs}
        self.cards.update(new)
        commands: list[Command] = []
        for spec in ordered:
            self._put_up(new[spec.id], now, commands)
        return commands

    def start(self, task: str, worker: str, now: float) -> int:
        """Give a ready task to a worker; returns the lease."""
        card = self.cards[task]
        assert card.state is TaskState.READY
        self._given_out += 1
        card.lease = self._given_out
        self._leases[card.lease] = task
        card.worker = worker
        card.attempts += 1
        if worker not in card.had:
            card.had.append(worker)
        self._settle(card, now, "")
        return card.lease

    def done(self, lease: int, result: AgentResult[Any], now: float) -> list[Command] | None:
        """A worker came back with an answer; None when it no longer had the task, whose answer is then refused."""
        card = self._returned(lease)
        if card is None:
            return None
        card.result = result
        commands: list[Command] = []
        self._end(card, TaskState.DONE, None, now, commands)
        return commands

    def failed(
        self,
        lease: int,
        error: AuroraSwarmError,
        now: float,
        *,
        result: AgentResult[Any] | None = None,
        is_final: bool = False,
        note: str = "",
    ) -> list[Command] | None:
        """A worker came back without an answer, or is lost; None when it no longer had the task.

        Args:
            lease: Under which it had the task.
            error: Why.
            now: The time.
            result: What it came back with.
            is_final: Whether trying again is of no use.
            note: For the history.
        """
        card = self._returned(lease)
        if card is None:
            return None
        card.result = result
        commands: list[Command] = []
        if is_final or card.attempts >= self._max_attempts:
            self._end(card, TaskState.FAILED, error, now, commands)
        else:
            self._go_on(card, now, note or f"failed: {error.kind}", commands)
        return commands

    def given_back(self, lease: int, now: float, note: str) -> list[Command] | None:
        """A worker cannot go on through no fault of its own: as if the task had not been given out."""
        card = self._returned(lease)
        if card is None:
            return None
        card.attempts -= 1
        commands: list[Command] = []
        self._go_on(card, now, note, commands)
        return commands

    # -- what is done to it ------------------------------------------------------------------------------------

    def pause(self, task: str, now: float) -> list[Command]:
        """Give the task to nobody; who has it keeps it.

        Raises:
            UsageError: There is no such task, or it is final.
        """
        card = self._unfinished(task, "paused")
        if not card.is_paused:
            card.is_paused = True
            self._settle(card, now, "")
        return []

    def resume(self, task: str, now: float) -> list[Command]:
        """As before the pause.

        Raises:
            UsageError: There is no such task, or it is final.
        """
        card = self._unfinished(task, "resumed")
        commands: list[Command] = []
        if card.is_paused:
            card.is_paused = False
            self._go_on(card, now, "resumed", commands)
        return commands

    def cancel(self, task: str, now: float) -> list[Command]:
        """End a task and all that build on it; nothing happens when it is cancelled already.

        Raises:
            UsageError: There is no such task, or it is done or failed.
        """
        card = self.card(task)
        commands: list[Command] = []
        if card.state is not TaskState.CANCELLED:
            card = self._unfinished(task, "cancelled")
            self._take_away(card, commands)
            self._end(card, TaskState.CANCELLED, TaskCancelledError("it was cancelled on request"), now, commands)
        return commands

    def requeue(self, task: str, now: float) -> list[Command]:
        """Take a task from its worker, or take up again what failed or was cancelled; attempts start anew.

        Tasks that were cancelled only because of this one are taken up again with it. What is paused stays so.

        Raises:
            UsageError: It is done, or builds on a task that failed or was cancelled, or nothing is given out any more.
        """
        card = self.card(task)
        commands: list[Command] = []
        if card.state in FINAL:
            self._reopen(card, now)
            return commands
        self._take_away(card, commands)
        card.attempts = 0
        card.had.clear()
        self._go_on(card, now, "requeued", commands)
        return commands

    def close(self, error: AuroraSwarmError, now: float) -> list[Command]:
        """Give nothing out any more: what nobody has ends with an error, what comes back without an answer too.

        Args:
            error: Why; a `TaskCancelledError` cancels tasks, any other fails them.
            now: The time.
        """
        commands: list[Command] = []
        self._closed_by = self._closed_by or error
        for state in _NOBODYS:
            for task in list(self.by_state[state]):
                card = self.cards[task]
                if card.state is state and not card.lease:
                    self._end_closed(card, now, commands)
        return commands

    def stop(self, error: AuroraSwarmError, now: float, most: int | None = None) -> list[Command]:
        """Give nothing out any more, and end what is not final: what nobody has first, then what is under way.

        Args:
            error: As for `close`.
            now: The time.
            most: Tasks that are ended at most, and those that fall with them; None for all. Call it again for the rest.
        """
        commands: list[Command] = []
        self._closed_by = self._closed_by or error
        idle = (task for state in _NOBODYS for task in list(islice(self.by_state[state], most)))
        for task in islice(chain(idle, list(islice(self._leases.values(), most))), most):
            card = self.cards[task]
            if card.state not in FINAL:
                self._take_away(card, commands)
                self._end_closed(card, now, commands)
        return commands

    # -- facts and conclusions ---------------------------------------------------------------------------------

    def _check(self, specs: Sequence[TaskSpec]) -> None:
        ids = Counter(spec.id for spec in specs)
        for spec in specs:
            if spec.id in self.cards or ids[spec.id] > 1:
                raise UsageError(f"there is a task {spec.id} already", remedy="give each task its own id, or none")
            unknown = [task for task in spec.after if task not in self.cards and task not in ids]
            if unknown:
                raise UsageError(
                    f"{spec.title!r} builds on {unknown[0]}, which is not there", remedy="add that task before it"
                )

    def _put_up(self, card: Card, now: float, commands: list[Command]) -> None:
        before = [self.cards[task] for task in card.after]
        for other in before:
            other.dependents.append(card.id)
        card.missing = sum(other.state is not TaskState.DONE for other in before)
        self._settle(card, now, "added", enqueue=False)
        lost = next((other for other in before if other.state in FINAL and other.state is not TaskState.DONE), None)
        if lost is not None:
            self._fall(card, lost, now, commands)
        else:
            self._go_on(card, now, "", commands)

    def _returned(self, lease: int) -> Card | None:
        task = self._leases.pop(lease, None)
        if task is None:
            return None
        card = self.cards[task]
        card.lease = 0
        return card

    def _take_away(self, card: Card, commands: list[Command]) -> None:
        if card.lease:
            commands.append(Stop(card.lease))
            self._returned(card.lease)

    def _go_on(self, card: Card, now: float, note: str, commands: list[Command]) -> None:
        """It is not final: what it is now, or its end where nothing is given out any more."""
        if self._closed_by is not None and not card.lease:
            self._end_closed(card, now, commands)
        else:
            self._settle(card, now, note)

    def _settle(self, card: Card, now: float, note: str, *, enqueue: bool = True) -> None:
        state = TaskState.WAITING if card.missing else TaskState.READY
        if card.is_paused:
            state = TaskState.PAUSED
        elif card.lease:
            state = TaskState.RUNNING
        self._move(card, state, now, note)
        if state is not TaskState.READY:
            self.queue.remove(card.id)
        elif enqueue and card.id not in self.queue:
            self.queue.put(card.id, card.skills, card.spec.priority, now)

    def _move(self, card: Card, state: TaskState, now: float, note: str) -> None:
        has_worker = card.lease or card.state is TaskState.RUNNING
        if card.state is not state:
            if card.state is not None:
                self.counts[card.state] -= 1
                del self.by_state[card.state][card.id]
            self.counts[state] += 1
            self.by_state[state][card.id] = None
            card.state, card.since = state, now
        elif not note:
            return
        card.history.append(Moment(now, state, card.worker if has_worker else "", note))

    def _end_closed(self, card: Card, now: float, commands: list[Command]) -> None:
        error = self._closed_by
        assert error is not None
        is_cancelled = isinstance(error, TaskCancelledError)
        self._end(card, TaskState.CANCELLED if is_cancelled else TaskState.FAILED, error, now, commands)

    def _fall(self, card: Card, because_of: Card, now: float, commands: list[Command]) -> None:
        title = because_of.spec.title
        error = TaskCancelledError(f"it builds on {title!r}, which is not done", remedy="requeue that task")
        card.has_fallen = True
        self._end(card, TaskState.CANCELLED, error, now, commands)

    def _end(
        self, card: Card, state: TaskState, error: AuroraSwarmError | None, now: float, commands: list[Command]
    ) -> None:
        """Make a task final, and draw the conclusions for those that build on it; however long their chain is."""
        ending = [(card, state, error, False)]
        while ending:
            card, state, error, has_fallen = ending.pop()
            if card.state in FINAL:  # it builds on two that fell
                continue
            card.is_paused, card.error, card.has_fallen = False, error, has_fallen or card.has_fallen
            self.queue.remove(card.id)
            self._move(card, state, now, "" if error is None else error.kind)
            commands.append(Ended(card.id))
            if not card.dependents:
                continue
            dependents = [self.cards[task] for task in card.dependents]
            if state is TaskState.DONE:
                for other in dependents:
                    other.missing -= 1
                    if other.state not in FINAL:
                        self._go_on(other, now, "", commands)
                continue
            problem = f"it builds on {card.spec.title!r}, which is not done"
            fallen = TaskCancelledError(problem, remedy="requeue that task")
            ending += [(o, TaskState.CANCELLED, fallen, True) for o in dependents if o.state not in FINAL]

    def _unfinished(self, task: str, what: str) -> Card:
        card = self.card(task)
        if card.state in FINAL:
            remedy = "requeue takes it up again" if card.state is not TaskState.DONE else "its answer stands"
            raise UsageError(f"task {task} is {card.state} and cannot be {what}", remedy=remedy)
        return card

    def _reopen(self, card: Card, now: float) -> None:
        self._check_reopen(card)
        again = [card]
        while again:
            card = again.pop()
            card.attempts, card.error, card.result, card.has_fallen = 0, None, None, False
            card.had.clear()
            card.worker = ""
            self._settle(card, now, "requeued")
            again += [o for o in (self.cards[task] for task in card.dependents) if o.has_fallen and not self._lost(o)]

    def _check_reopen(self, card: Card) -> None:
        if card.state is TaskState.DONE:
            raise UsageError(f"task {card.id} is done", remedy="add a new task to have it done once more")
        if self._closed_by is not None:
            raise UsageError(f"nothing is given out any more: {self._closed_by.problem}", remedy="start a new run")
        if (lost := self._lost(card)) is not None:
            raise UsageError(f"task {card.id} builds on one that is {lost.state}", remedy=f"requeue {lost.id} first")

    def _lost(self, card: Card) -> Card | None:
        """A task that this one builds on and that ended without an answer."""
        before = (self.cards[task] for task in card.after)
        return next((other for other in before if other.state in FINAL and other.state is not TaskState.DONE), None)

    # -- for tests ---------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Check everything that must hold between the facts; for tests, takes linear time."""
        self.queue.validate()
        assert Counter(card.state for card in self.cards.values()) == +self.counts
        assert {card.lease: task for task, card in self.cards.items() if card.lease} == self._leases
        for task, card in self.cards.items():
            assert card.state is not None
            assert task in self.by_state[card.state]
            assert card.missing == sum(self.cards[t].state is not TaskState.DONE for t in card.after)
            assert (task in self.queue) == (card.state is TaskState.READY)
            self._validate_one(card)

    def _validate_one(self, card: Card) -> None:
        if card.state in FINAL:
            assert not card.lease
            assert not card.is_paused
            assert (card.error is None) == (card.state is TaskState.DONE)
        else:
            assert self._lost(card) is None
            assert card.is_paused == (card.state is TaskState.PAUSED)
        if card.lease:
            assert card.missing == 0
        if card.state is TaskState.DONE:
            assert card.missing == 0
            assert card.result is not None
        assert card.attempts <= self._max_attempts
