"""One run of a swarm: plan, work, further tasks, consolidation. Acts; what it decides by is in `planning`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import AuroraSwarmError, BudgetError, QuorumError, TaskCancelledError
from aurora_swarm.ports.store import VectorStore
from aurora_swarm.swarms.autonomy import Novelty, Planner
from aurora_swarm.swarms.consolidation import CONSOLIDATE, consolidate
from aurora_swarm.swarms.happenings import Consolidating, PlanMade, SwarmEvent, TaskEnded, TasksAdded, WorkersScaled
from aurora_swarm.swarms.helm import Helm
from aurora_swarm.swarms.ids import new_id
from aurora_swarm.swarms.planning import depth_of, losses, mend, specs_of
from aurora_swarm.swarms.session import Session
from aurora_swarm.swarms.work import FINAL, SwarmOutcome, TaskRecord, TaskSpec, TaskState
from aurora_swarm.tools.definition import AnyTool
from aurora_swarm.values.reply import Usage

Tell = Callable[[SwarmEvent], None]

SIDE_BY_SIDE = "the answers stand side by side"
"""How a note begins that says that answers were not consolidated."""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How a swarm pursues objectives; the same for all its runs.

    Args:
        nodes: Workers at most.
        auto: Whether results bring about further tasks.
        max_tasks: Tasks of a run at most.
        max_depth: Generations of further tasks at most.
        skills: Those that workers have, for the planner.
        tools: What the planner may use.
        instruction: How answers become one.
        memory: Where tasks are compared by their meaning.
    """

    nodes: int
    auto: bool = True
    max_tasks: int = 32
    max_depth: int = 2
    skills: tuple[str, ...] = ()
    tools: tuple[AnyTool, ...] = ()
    instruction: str = CONSOLIDATE
    memory: VectorStore | None = None


class Pursuit:
    """One objective on one session, to its end.

    Args:
        session: Open; nothing is on its board.
        way: How.
        objective: What is wanted.
        helm: Its controls.
        tell: Told what happens, as it happens.
        purse: Out of which plan and consolidation are paid.
    """

    def __init__(
        self, session: Session, way: Way, objective: str, *, helm: Helm, tell: Tell, purse: Purse | None
    ) -> None:
        self._session = session
        self._helm = helm
        self._way = way
        self._objective = objective
        self._tell = tell
        self._purse = purse
        self._planner = Planner(session.mind, objective, tools=way.tools, purse=purse, rein=helm.planning)
        # Reviews are part of the work: they may not spend what is kept for the consolidation.
        self._reviewer = Planner(session.mind, objective, tools=way.tools, purse=session.purse, rein=helm.planning)
        self._novelty = Novelty(session.id, way.memory)
        self._specs: dict[str, TaskSpec] = {}
        self._workers = 0
        self._adding = asyncio.Lock()
        self._notes: list[str] = []
        self._spent = Usage()
        self._failed_reviews: list[AuroraSwarmError] = []

    async def run(self, context: str = "") -> SwarmOutcome:
        """To the end; what fails is in the outcome. Cancelling cancels all that is under way."""
        self._session.phase = "planning"
        planned = await self._planner.plan(self._way.max_tasks, context=context, skills=self._way.skills)
        if planned.error is not None or self._helm.is_cancelled:
            return self._outcome(
                error=planned.error or TaskCancelledError("the run was cancelled before it had a plan")
            )
        self._notes += planned.notes
        plan = specs_of(await self._novelty.new(planned.drafts) or planned.drafts, new_id)
        self._tell(PlanMade(tuple(plan), planned.notes))
        self._session.phase = "working"
        self._add(plan)
        await self._work()
        self._session.phase = "consolidating"
        return await self._consolidated()

    # -- the work ------------------------------------------------------------------------------------------------

    def _add(self, specs: Sequence[TaskSpec]) -> None:
        for spec in specs:
            self._session.add(spec)
            self._specs[spec.id] = spec
        self._scale()

    def _scale(self) -> None:
        """As many workers as there are tasks that can be worked on now."""
        counts = self._session.status().tasks
        wanted = max(1, min(self._way.nodes, self._open - counts.get(TaskState.WAITING, 0)))
        if wanted != self._workers:
            self._workers = wanted
            self._session.scale(wanted)
            self._tell(WorkersScaled(wanted))

    @property
    def _open(self) -> int:
        """Tasks that are not final."""
        return sum(count for state, count in self._session.status().tasks.items() if state not in FINAL)

    async def _work(self) -> None:
        """Until every task is final, and no result brings about another one."""
        try:
            async with asyncio.TaskGroup() as reviewers:
                await self._follow(reviewers)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _follow(self, reviewers: asyncio.TaskGroup) -> None:
        seen: set[str] = set()
        told: set[tuple[str, int]] = set()
        reviews: set[asyncio.Task[None]] = set()
        while True:
            async for record in self._session.results():
                end = (record.id, len(record.history))  # one that was requeued ends again
                if end in told:
                    continue
                told.add(end)
                self._scale()
                self._tell(TaskEnded(record))
                if record.id not in seen and self._may_go_on(record):
                    seen.add(record.id)
                    review = reviewers.create_task(self._review(record))
                    reviews.add(review)
                    review.add_done_callback(reviews.discard)
            # All may be final while results are still looked at; what comes of that is worked on too.
            while reviews and not self._open:
                await asyncio.wait(reviews, return_when=asyncio.FIRST_COMPLETED)
            if not self._open:
                return

    def _may_go_on(self, record: TaskRecord) -> bool:
        """Whether a result may bring about further tasks."""
        return (
            self._way.auto
            and record.ok
            and not self._helm.is_cancelled
            and len(self._specs) < self._way.max_tasks
            and depth_of(record.id, self._specs) < self._way.max_depth
            and not any(isinstance(error, BudgetError) for error in self._failed_reviews)
        )

    async def _review(self, record: TaskRecord) -> None:
        titles = [spec.title for spec in self._specs.values()]
        try:
            proposed = await self._reviewer.further(record, titles)
        except AuroraSwarmError as error:
            self._failed_reviews.append(error)
            return
        async with self._adding:  # two results may propose the same
            most = self._way.max_tasks - len(self._specs)
            mended = mend(proposed, most=max(most, 0), known=self._novelty.known)
            specs = specs_of(await self._novelty.new(mended.drafts), new_id, parent=record.id)
            if specs and not self._helm.is_cancelled:
                self._tell(TasksAdded(tuple(specs), record.id))
                self._add(specs)

    # -- the answer ----------------------------------------------------------------------------------------------

    async def _consolidated(self) -> SwarmOutcome:
        records = self._session.records()
        done = [record for record in records if record.ok]
        self._notes += [*losses(records), *self._review_notes(), *self._novelty.notes]
        if not done:
            return self._outcome(error=_nothing_done(records))
        if len(records) == 1:
            return self._outcome(answer=done[0].text)
        answers = [(record.spec.title, record.text) for record in done]
        self._tell(Consolidating(len(answers)))
        summary = await consolidate(
            self._session.mind,
            self._objective,
            answers,
            instruction=self._way.instruction,
            purse=self._purse,
            rein=self._helm.consolidating,
        )
        self._spent += summary.usage
        if not summary.ok:
            kind = summary.error.kind if summary.error is not None else "unknown"
            self._notes.append(f"{SIDE_BY_SIDE}, for they could not be made one ({kind})")
            return self._outcome(answer="\n\n".join(f"{title}\n\n{text}" for title, text in answers))
        self._notes += [
            f"not in the answer: {answers[place][0]!r} (its consolidation failed)" for place in summary.missing
        ]
        return self._outcome(answer=str(summary.output))

    def _review_notes(self) -> list[str]:
        if not self._failed_reviews:
            return []
        kinds = ", ".join(sorted({error.kind for error in self._failed_reviews}))
        return [f"further tasks could not be thought of for {len(self._failed_reviews)} results ({kinds})"]

    def _outcome(self, *, answer: str = "", error: AuroraSwarmError | None = None) -> SwarmOutcome:
        return SwarmOutcome(
            objective=self._objective,
            answer=answer,
            tasks=self._session.records(),
            usage=self._session.usage + self._planner.usage + self._reviewer.usage + self._spent,
            error=error,
            notes=tuple(self._notes),
        )


def _nothing_done(records: Sequence[TaskRecord]) -> AuroraSwarmError:
    """Why there is no answer: the first failure, or a count."""
    first = next((record.error for record in records if record.error is not None), None)
    if isinstance(first, BudgetError):
        return first
    why = f"; the first of them failed so: {first}" if first is not None else ""
    remedy = first.remedy if first is not None else ""
    return QuorumError(f"none of {len(records)} tasks has an answer{why}", n_ok=0, n_failed=len(records), remedy=remedy)
