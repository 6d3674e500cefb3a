"""Gives tasks to workers until all of them are done, whatever becomes of a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.batch.collector import NEW_OBJECTS_ONLY
from aurora_swarm.errors import UsageError
from aurora_swarm.ports.store import Collection
from aurora_swarm.swarms.agent import Agent
from aurora_swarm.swarms.attempts import Floor
from aurora_swarm.swarms.board import Board
from aurora_swarm.swarms.human.port import Human
from aurora_swarm.swarms.leases import Leases
from aurora_swarm.swarms.memory_tools import Memory
from aurora_swarm.swarms.models import Model
from aurora_swarm.swarms.session import Session, within_width
from aurora_swarm.swarms.work import Performer, TaskRecord, TaskSpec
from aurora_swarm.swarms.worker import Worker
from aurora_swarm.tools.definition import AnyTool
from aurora_swarm.values.budget import Budget

_TITLE_CHARS = 80


class Orchestrator:
    """A crew of workers over one task board.

    Each task is given to the worker who is likely to answer it soonest. A worker that fails, dies, or gives no sign of
    life within its lease loses its task to another one. Nothing of one task reaches a worker on another, but answers of
    tasks that it builds on. May run any number of sessions at once; they share nothing but the model and `workers`.

    Args:
        model: What the workers think with, or an agent that they are all made after.
        nodes: Workers at most; they are made when there is work for them.
        name: For people.
        instructions: Who each worker is; equal for all, so that engines cache it once.
        tools: What each worker may use.
        memory: What the workers share: a `Memory`, a collection, or the URL of a store.
        workers: The crew itself, where it is not made from `model`; further ones are made when a session is scaled up.
        human: Whom the workers that are made here may ask; None for nobody. It must be open for as long as they work.
        lease_s: Seconds without a sign of life after which a worker's task goes to another one. Calls to the model and
            tools under way are signs of life; the pool and the tools have times of their own for them.
        max_attempts: How often a task is given out before it fails.
        budget: What one run may spend.

    Attributes:
        model: What the workers think with.
        name: As given.
        nodes: Workers at most.

    Raises:
        UsageError: A number is out of range, two workers have one id, or an agent is given and what agents have too.
    """

    def __init__(
        self,
        model: Model | Agent,
        nodes: int = 40,
        *,
        name: str = "",
        instructions: str = "",
        tools: Sequence[AnyTool | Callable[..., Any]] = (),
        memory: Memory | Collection | str | None = None,
        workers: Sequence[Performer] | None = None,
        human: Human | None = None,
        lease_s: float = 60.0,
        max_attempts: int = 3,
        budget: Budget | None = None,
    ) -> None:
        if isinstance(model, Agent):
            if instructions or tools or memory is not None:
                raise UsageError(
                    "an agent is given, and what agents have beside it",
                    remedy="give instructions, tools and memory to the agent",
                )
            self._agent = model
        else:
            called = name or "worker"
            self._agent = Agent(model, name=called, instructions=instructions, tools=tuple(tools), memory=memory)
        self.model: Model = self._agent.model
        self.name = name
        self.nodes = nodes if workers is None else len(workers)
        self._workers = None if workers is None else tuple(workers)
        self._human = human
        self._lease_s = lease_s
        self._max_attempts = max_attempts
        self._budget = budget
        self._check()

    @asynccontextmanager
    async def open(
        self, *, purse: Purse | None = None, context: str = "", objective: str = ""
    ) -> AsyncIterator[Session]:
        """A session: a board that tasks are put on while it is open.

        What is under way when it is left is cancelled, and its tasks with it; a worker that does not end within a
        second is closed where it stands.

        Args:
            purse: Out of which it is paid, beside the orchestrator's own budget; None for no bound from above.
            context: What all workers are told, equal for all.
            objective: What it is for; shown to people.

        Raises:
            UsageError: There is no backend, nothing listens there, or nobody serves the model.
        """
        own = purse if self._budget is None else Purse(self._budget, self.model.price, purse)
        async with self.model.opened() as mind:
            floor = Floor(
                mind=mind,
                purse=own,
                context=context,
                board=Board(max_attempts=self._max_attempts),
                leases=Leases(self._lease_s),
                workers=self._workers,
                make=partial(self._worker, count(1)),
                nodes=within_width(self.nodes, own),
            )
            session = Session(floor, purse=own, name=self.name, objective=objective)
            with NEW_OBJECTS_ONLY.during():
                try:
                    yield session
                finally:
                    session.end()
                    await floor.aclose()

    async def run(
        self, tasks: Iterable[TaskSpec | str], *, purse: Purse | None = None, context: str = ""
    ) -> list[TaskRecord]:
        """Work on tasks until each is final.

        Args:
            tasks: Specifications, or instructions alone. They may build on each other in any order.
            purse: As for `open`.
            context: As for `open`.

        Returns:
            One record per task, in the order of `tasks`; what failed is in them. Cancelling ends all of it.

        Raises:
            UsageError: As of `open`, or tasks cannot be put on the board. Nothing was begun.
        """
        async with self.open(purse=purse, context=context) as session:
            ids = session.add_all(_spec(task) for task in tasks)
            async for _ in session.results():
                pass
            return [session.record(task) for task in ids]

    def _worker(self, numbers: Iterator[int]) -> Performer:
        return Worker(self._agent, human=self._human, name=f"{self._agent.name} {next(numbers)}")

    def _check(self) -> None:
        for name, number in (("nodes", self.nodes), ("max_attempts", self._max_attempts)):
            if number < 1:
                raise UsageError(f"{name} is {number}", remedy="give at least 1")
        if self._lease_s <= 0:
            raise UsageError(f"lease_s is {self._lease_s:g}", remedy="give more than 0 seconds")
        ids = [worker.id for worker in self._workers or ()]
        if len(set(ids)) < len(ids):
            raise UsageError("two workers have one id", remedy="give each its own")


def _spec(task: TaskSpec | str) -> TaskSpec:
    if isinstance(task, TaskSpec):
        return task
    title = " ".join(task.split())
    return TaskSpec(title=title if len(title) <= _TITLE_CHARS else title[: _TITLE_CHARS - 1] + "…", instructions=task)
