"""Gives tasks to workers until all of them are done, whatever becomes of a worker."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.swarms.models import Model
from aurora_swarm.swarms.session import Session
from aurora_swarm.swarms.work import Performer, TaskRecord, TaskSpec
from aurora_swarm.tools.definition import AnyTool
from aurora_swarm.values.budget import Budget


class Orchestrator:
    """A crew of workers over one task board.

    Args:
        model: What the workers think with, or an agent that they are all made after.
        nodes: Workers at most; they are made when there is work for them.
        name: For people.
        instructions: Who each worker is; equal for all, so that engines cache it once.
        tools: What each worker may use.
        memory: What the workers share.
        workers: The crew itself, where it is not made from `model`.
        lease_s: Seconds that a worker may give no sign of life before its task goes to another one.
        max_attempts: How often a task is given out at most.
        budget: What one run may spend.

    Attributes:
        model: What the workers think with.
        name: As given.
        nodes: Workers at most.
    """

    def __init__(
        self,
        model: Model | Any,
        nodes: int = 40,
        *,
        name: str = "",
        instructions: str = "",
        tools: Sequence[AnyTool] = (),
        memory: Any = None,
        workers: Sequence[Performer] | None = None,
        lease_s: float = 60.0,
        max_attempts: int = 3,
        budget: Budget | None = None,
    ) -> None:
        self.model: Model = model if isinstance(model, Model) else model.model
        self.name = name
        self.nodes = nodes if workers is None else len(workers)

    def open(
        self, *, purse: Purse | None = None, context: str = "", objective: str = ""
    ) -> AbstractAsyncContextManager[Session]:
        """A session: a board that tasks are put on while it is open.

        Args:
            purse: Out of which it is paid, beside the orchestrator's own budget; None for no bound from above.
            context: What all workers are told, equal for all.
            objective: What it is for; shown to people.
        """
        raise NotImplementedError

    async def run(
        self, tasks: Iterable[TaskSpec | str], *, purse: Purse | None = None, context: str = ""
    ) -> list[TaskRecord]:
        """Work on tasks until each is final.

        Args:
            tasks: Specifications, or instructions alone.
            purse: As for `open`.
            context: As for `open`.

        Returns:
            One record per task, in the order of `tasks`.
        """
        raise NotImplementedError
