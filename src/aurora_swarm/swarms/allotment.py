"""Which swarm works on which macro-task, and when: decided from events and `now`. Pure.

- Of the tasks that are ready, the one of the highest priority goes first, of equal ones the first of the plan.
- A task goes to the first of the swarms that suit it while that one is idle, else to the idle one of them that was
  given the least. So nobody waits for a busy swarm where an idle one will do, and a swarm keeps what it suits best.
- Where no swarm that suits a task is left, any other takes it.
- A task that failed with a swarm goes to another; when all have tried, or it was given out often enough, it has failed.
- A swarm that is idle while nothing is left to give out takes, once half of the tasks are done, one that runs for much
  longer than those did, beside the straggler: the first answer counts.
- A task that builds on others is ready when all of them have ended, at least one with an answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from aurora_swarm.errors import AuroraSwarmError, MemberLostError, TaskCancelledError, UsageError
from aurora_swarm.swarms.work import FINAL, Moment, TaskSpec, TaskState

LEAST_S = 1.0
"""Seconds that no task is too long for."""


TICK_S = 1e-3
"""Seconds that waiting takes at least: a difference lost in rounding must not be waited for again and again."""


class Gift(NamedTuple):
    """A task that is given to a swarm."""

    task: str
    member: str


class Macro:
    """One macro-task and what became of it.

    Args:
        spec: What is to be done; with an id.
        suits: Names of the swarms that it suits, the best first; empty for all.

    Attributes:
        state: Where it is.
        runners: Who works on it, and since when.
        tried: Who was given it.
        winner: Whose answer counts; empty without one.
        error: Why it has no answer.
        history: Everything that happened to it.
    """

    def __init__(self, spec: TaskSpec, suits: Sequence[str] = ()) -> None:
        self.spec = spec
        self.suits = tuple(suits)
        self.state = TaskState.WAITING
        self.runners: dict[str, float] = {}
        self.tried: list[str] = []
        self.winner = ""
        self.error: AuroraSwarmError | None = None
        self.history: list[Moment] = []

    def enter(self, state: TaskState, now: float, member: str = "", note: str = "") -> None:
        """Note what it is from now on."""
        self.state = state
        self.history.append(Moment(now, state, member, note))


class Allotment:
    """The macro-tasks of one objective and the swarms that work on them.

    Args:
        tasks: At least one; those that others build on come first.
        members: Names of the swarms.
        max_attempts: How often a task is given out.
        patience: A straggler takes longer than so many times the median of what others took; infinite for no limit.

    Raises:
        UsageError: An id is there twice, or something builds on what does not stand before it.
    """

    def __init__(
        self, tasks: Sequence[Macro], members: Sequence[str], *, max_attempts: int = 3, patience: float = 3.0
    ) -> None:
        self.tasks: dict[str, Macro] = {}
        self._members = dict.fromkeys(members, 0)
        self._busy: dict[str, str] = {}
        self._lost: set[str] = set()
        self._max_attempts = max_attempts
        self._patience = patience
        self._took_s: list[float] = []
        self.add(tasks)

    def add(self, tasks: Sequence[Macro]) -> None:
        """Take up further tasks.

        Raises:
            UsageError: As for the class.
        """
        for task in tasks:
            unknown = [each for each in task.spec.after if each not in self.tasks]
            if unknown or task.spec.id in self.tasks:
                raise UsageError(
                    f"macro-task {task.spec.id!r} is there twice, or builds on {unknown}",
                    remedy="give each an id of its own, and put what it builds on before it",
                )
            self.tasks[task.spec.id] = task

    @property
    def members(self) -> list[str]:
        """Swarms that are left."""
        return [name for name in self._members if name not in self._lost]

    @property
    def n_open(self) -> int:
        """Tasks that have not ended."""
        return sum(task.state not in FINAL for task in self.tasks.values())

    def give(self, now: float) -> list[Gift]:
        """What is given to whom now."""
        self._settle(now)
        gifts = []
        while (gift := self._next(now)) is not None:
            task = self.tasks[gift.task]
            note = "beside one that takes long" if task.runners else ""
            task.runners[gift.member] = now
            task.tried.append(gift.member)
            task.enter(TaskState.RUNNING, now, gift.member, note)
            self._busy[gift.member] = gift.task
            self._members[gift.member] += 1
            gifts.append(gift)
        return gifts

    def wake_in(self, now: float) -> float | None:
        """Seconds until `give` could find a straggler; None while nothing but an event changes anything."""
        limit = self._limit_s()
        if limit is None:
            return None
        waits = [started + limit - now for started, task in self._alone() if self._could_help(task)]
        return max(min(waits), TICK_S) if waits else None

    def done(self, gift: Gift, now: float) -> list[str]:
        """A swarm has an answer.

        Args:
            gift: What it was given.
            now: The time.

        Returns:
            Others that work on the same task, and need not any more.
        """
        task = self.tasks[gift.task]
        started = self._leave(gift)
        if task.state in FINAL:
            return []
        self._took_s.append(now - started)
        task.winner = gift.member
        task.enter(TaskState.DONE, now, gift.member)
        return list(task.runners)

    def failed(self, gift: Gift, error: AuroraSwarmError, now: float) -> None:
        """A swarm has no answer.

        Args:
            gift: What it was given.
            error: Why; with a `MemberLostError` the swarm is given nothing more.
            now: The time.
        """
        task = self.tasks[gift.task]
        self._leave(gift)
        if isinstance(error, MemberLostError):
            self._lost.add(gift.member)
        if task.state in FINAL:
            return
        task.error = error
        if not task.runners:
            task.enter(TaskState.READY, now, gift.member, str(error))

    def dropped(self, gift: Gift) -> None:
        """A swarm was told to stop."""
        self._leave(gift)

    def lose(self, member: str) -> None:
        """A swarm cannot be reached; it is given nothing."""
        self._lost.add(member)

    def _leave(self, gift: Gift) -> float:
        self._busy.pop(gift.member, None)
        return self.tasks[gift.task].runners.pop(gift.member, 0.0)

    def _settle(self, now: float) -> None:
        """Let tasks become ready, and end those that nobody can work on."""
        for task in self.tasks.values():
            if task.state is TaskState.WAITING:
                self._look_before(task, now)
            if task.state is TaskState.READY and not self._may_still_try(task):
                task.error = task.error or MemberLostError("no swarm is left to work on it")
                task.enter(TaskState.FAILED, now, note=str(task.error))

    def _look_before(self, task: Macro, now: float) -> None:
        before = [self.tasks[each] for each in task.spec.after]
        if any(each.state not in FINAL for each in before):
            return
        if before and all(each.state is not TaskState.DONE for each in before):
            task.error = TaskCancelledError("nothing that it builds on has an answer")
            task.enter(TaskState.CANCELLED, now, note=str(task.error))
        else:
            task.enter(TaskState.READY, now)

    def _may_still_try(self, task: Macro) -> bool:
        return len(task.tried) < self._max_attempts and any(name not in task.tried for name in self.members)

    def _idle(self) -> list[str]:
        return [name for name in self.members if name not in self._busy]

    def _next(self, now: float) -> Gift | None:
        idle = self._idle()
        if not idle:
            return None
        ready = sorted(
            (task for task in self.tasks.values() if task.state is TaskState.READY),
            key=lambda task: -task.spec.priority,  # stable: of equal ones the first of the plan
        )
        for takers in (self._first_choice, self._others_for):
            for task in ready:
                if fit := takers(task):
                    return Gift(task.spec.id, fit[0])
        return self._beside_a_straggler(now)

    def _first_choice(self, task: Macro) -> list[str]:
        """The idle swarm that suits it best, where one does."""
        first = next((name for name in task.suits if name in self.members and name not in task.tried), None)
        return [first] if first is not None and first not in self._busy else []

    def _others_for(self, task: Macro) -> list[str]:
        """Idle swarms that could take it, those that were given least first."""
        left = [name for name in self.members if name not in task.tried]
        suited = [name for name in left if name in task.suits] or left
        return sorted((name for name in suited if name not in self._busy), key=self._members.__getitem__)

    def _limit_s(self) -> float | None:
        """Seconds after which a task runs too long; None while too little is known."""
        if 2 * len(self._took_s) < len(self.tasks) or math.isinf(self._patience):
            return None
        return max(self._patience * median(self._took_s), LEAST_S)

    def _alone(self) -> list[tuple[float, Macro]]:
        """Tasks that one swarm works on, those that run longest first, each with its beginning."""
        alone = (task for task in self.tasks.values() if task.state is TaskState.RUNNING and len(task.runners) == 1)
        return sorted(((min(task.runners.values()), task) for task in alone), key=lambda each: each[0])

    def _could_help(self, task: Macro) -> list[str]:
        if len(task.tried) >= self._max_attempts:
            return []
        return sorted((name for name in self._idle() if name not in task.tried), key=self._members.__getitem__)

    def _beside_a_straggler(self, now: float) -> Gift | None:
        limit = self._limit_s()
        if limit is None:
            return None
        for started, task in self._alone():
            if now >= started + limit and (fit := self._could_help(task)):
                return Gift(task.spec.id, fit[0])
        return None


def suiting(names: Sequence[str], members: Mapping[str, str]) -> tuple[str, ...]:
    """Those of the names that are swarms, each once, in their order."""
    return tuple(dict.fromkeys(name for name in names if name in members))
