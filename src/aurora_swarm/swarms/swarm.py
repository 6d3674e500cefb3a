"""A swarm: an objective in, one answer out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import BudgetError, UsageError
from aurora_swarm.ports.store import VectorStore
from aurora_swarm.swarms.briefs import shared_context
from aurora_swarm.swarms.consolidation import CONSOLIDATE, check_consolidate
from aurora_swarm.swarms.happenings import Listeners, OnEvent, SwarmBegan, SwarmEnded, SwarmEvent
from aurora_swarm.swarms.helm import Helm
from aurora_swarm.swarms.orchestrator import Orchestrator
from aurora_swarm.swarms.pursuit import Pursuit, Way
from aurora_swarm.swarms.spending import share_for_work
from aurora_swarm.swarms.work import SwarmOutcome
from aurora_swarm.tools.definition import AnyTool
from aurora_swarm.values.budget import Budget, Price


class Swarm:
    """Pursues objectives with the workers of an orchestrator.

    An objective is split into tasks, the tasks are worked on, what is done may bring about further tasks, and the
    answers become one. There are as many workers as there are tasks that can be worked on, up to the orchestrator's
    `nodes`, more and fewer while it runs. It may run several objectives at once; they share nothing but the model.

    Args:
        orchestrator: Who gives the tasks to workers.
        auto: Whether results bring about further tasks; else the plan is all that is done.
        objective: What is wanted, where `run` is not told.
        name: For people, and unique within a hivemind.
        about: What it is good at, in a sentence.
        max_tasks: Tasks of a run at most, those of the plan included. With 1 there is no plan.
        max_depth: Generations of further tasks at most; 0 is as `auto` off.
        budget: What a run may spend; a fifth of it is kept for the consolidation. None for no bound of its own.
        price: What the model costs, for a budget in money; the model's own when None.
        skills: Skills that workers have, which the planner is offered.
        tools: What the planner may use, such as a search in a long objective; workers have the orchestrator's.
        consolidate: How answers become one; ``{n}`` becomes their number.
        memory: Where tasks are compared by their meaning, so that none is done twice in other words; None to go by
            the words alone.
        on_event: Told what happens, as `stream` yields it. If it raises, it is not called again, and a note says so.

    Raises:
        UsageError: A number is out of range, or `consolidate` cannot be used.
    """

    def __init__(
        self,
        orchestrator: Orchestrator,
        auto: bool = True,
        objective: str = "",
        *,
        name: str = "",
        about: str = "",
        max_tasks: int = 32,
        max_depth: int = 2,
        budget: Budget | None = None,
        price: Price | None = None,
        skills: Sequence[str] = (),
        tools: Sequence[AnyTool] = (),
        consolidate: str = CONSOLIDATE,
        memory: VectorStore | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        if max_tasks < 1 or max_depth < 0:
            problem = f"max_tasks is {max_tasks} and max_depth is {max_depth}"
            raise UsageError(problem, remedy="allow at least 1 task, and a depth of 0 or more")
        check_consolidate(consolidate)
        self.orchestrator = orchestrator
        self.objective = objective
        self.name = name or orchestrator.name or "swarm"
        self.about = about
        self.budget = budget
        self.price = price if price is not None else orchestrator.model.price
        self._on_event = on_event
        self._way = Way(
            nodes=orchestrator.nodes,
            auto=auto,
            max_tasks=max_tasks,
            max_depth=max_depth,
            skills=tuple(skills),
            tools=tuple(tools),
            instruction=consolidate,
            memory=memory,
        )

    async def run(self, objective: str | None = None, *, purse: Purse | None = None, context: str = "") -> SwarmOutcome:
        """Pursue an objective to its end.

        Args:
            objective: What is wanted; the swarm's own when None.
            purse: Out of which it is paid, within the swarm's own budget; None for no bound from above.
            context: What it should know: data, not instructions.

        Returns:
            How it ended; what fails is in it. Answers of tasks that are done are consolidated whatever became of the
            others, which `notes` name. Where none is done there is an error and no answer. Cancelling ends all of it.

        Raises:
            UsageError: There is no objective, no backend, or nobody serves the model. Nothing was begun.
        """
        return await self._pursue(objective, purse, context, Listeners(self._on_event))

    async def stream(
        self, objective: str | None = None, *, purse: Purse | None = None, context: str = ""
    ) -> AsyncGenerator[SwarmEvent, None]:
        """As `run`, and watch it.

        Args:
            objective: As for `run`.
            purse: As for `run`.
            context: As for `run`.

        Yields:
            What happens, in order: `SwarmBegan` first and `SwarmEnded`, which has the outcome, last. A slow reader
            does not slow the swarm down. Closing the iterator early cancels the run and waits until it is gone.

        Raises:
            UsageError: As of `run`.
        """
        told: asyncio.Queue[SwarmEvent | None] = asyncio.Queue()
        work = self._pursue(objective, purse, context, Listeners(told.put_nowait, self._on_event))
        run = asyncio.get_running_loop().create_task(work)
        run.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (event := await told.get()) is not None:
                yield event
            await run
        finally:
            run.cancel()
            await asyncio.wait([run])

    async def _pursue(
        self, objective: str | None, purse: Purse | None, context: str, listeners: Listeners
    ) -> SwarmOutcome:
        wanted = objective if objective is not None else self.objective
        if not wanted.strip():
            remedy = 'say what is wanted: Swarm(orchestrator, objective="...") or run("...")'
            raise UsageError("there is no objective", remedy=remedy)
        own = Purse(self.budget, self.price, purse) if self.budget is not None else purse
        now = asyncio.get_running_loop().time()
        work = Purse(share_for_work(own, now), None, own) if own is not None else None
        if work is not None:
            _start_clocks(work, now)
        told = shared_context(wanted, context)
        async with self.orchestrator.open(purse=work, context=told, objective=wanted) as session:
            helm = Helm(session, own)
            listeners.tell(SwarmBegan(wanted, helm))
            pursuit = Pursuit(session, self._way, wanted, helm=helm, tell=listeners.tell, purse=own)
            outcome = await pursuit.run(context)
            session.phase = "ended"
        outcome = msgspec.structs.replace(outcome, notes=(*outcome.notes, *listeners.notes))
        listeners.tell(SwarmEnded(outcome))
        return outcome


def _start_clocks(purse: Purse, now: float) -> None:
    """The time of the work and that of the run begin together, with the plan."""
    with suppress(BudgetError):  # where there is no place or no time left, whoever thinks first is told
        purse.enter(now)
        purse.leave()
