"""What a swarm sets itself: a plan for its objective, and the further tasks that results make necessary.

The loop of plan, work and further tasks is that of BabyAGI (Y. Nakajima, 2023), with bounds that it does not have.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import AuroraSwarmError, BudgetError, InvalidOutputError, PlanError, TaskCancelledError
from aurora_swarm.patterns.fan_in import cut
from aurora_swarm.ports.store import Collection, Document, VectorStore
from aurora_swarm.swarms.briefs import PLANNER, REVIEWER, further_prompt, plan_prompt
from aurora_swarm.swarms.in_turn import think_in_turn
from aurora_swarm.swarms.mind import Mind, Rein, Thought
from aurora_swarm.swarms.planning import (
    FURTHER_AT_A_TIME,
    TASK_TOKENS,
    TITLE_CHARS,
    Draft,
    FurtherTasks,
    Mended,
    drafts_of,
    mend,
    normalised,
    plan_schema,
    whole_drafts,
)
from aurora_swarm.swarms.work import TaskRecord
from aurora_swarm.tools.definition import AnyTool
from aurora_swarm.values.reply import Usage

PLANNED = 12
"""Tasks that a plan has at most; what more is needed comes of results."""

TURNS_WITH_TOOLS = 6
"""Turns of a planner that has tools."""

SAME = 0.93
"""Cosine from which two tasks count as the same, where there is a memory to compare them in."""

COLLECTION = "swarm.tasks"
"""Where tasks are kept in a memory, each with the id of its run."""


class Planned(msgspec.Struct, frozen=True):
    """What became of planning.

    Args:
        drafts: What is to be done; empty where `error` is set.
        notes: How a plan was mended, or why there was none to mend.
        error: Why nothing can be planned.
    """

    drafts: tuple[Draft, ...] = ()
    notes: tuple[str, ...] = ()
    error: AuroraSwarmError | None = None


class Planner:
    """Plans for one objective.

    Args:
        mind: Who thinks.
        objective: What is wanted; where it is long for the context, its beginning and its end are what is told.
        tools: What may be used to find out what there is to do.
        purse: Bounds what is spent.
        rein: As for `Mind.think`.

    Attributes:
        usage: Tokens spent on plans so far.
    """

    def __init__(
        self,
        mind: Mind,
        objective: str,
        *,
        tools: Sequence[AnyTool] = (),
        purse: Purse | None = None,
        rein: Rein | None = None,
    ) -> None:
        self._mind = mind
        self._tools = tuple(tools)
        self._held = purse, rein
        self._objective = objective
        self.usage = Usage()

    async def plan(self, most: int, *, context: str = "", skills: Sequence[str] = ()) -> Planned:
        """Split the objective.

        A plan with mistakes is mended. Where the model gives none that can be mended, after it was asked again, the
        objective itself is the only task, and a note says so.

        Args:
            most: Tasks that are wanted at most; fewer where the context holds no longer plan.
            context: What is known from elsewhere.
            skills: Those that workers have.
        """
        if most == 1:
            return Planned((_whole(self._objective),))
        room = await self._room()
        most = min(most, PLANNED, max(2, room // (2 * TASK_TOKENS)) if room is not None else PLANNED)
        told = self._objective, context
        if room is not None:
            told = self._cut(self._objective, room // 3), self._cut(context, room // 3)
        thought = Thought(
            system=PLANNER,
            prompt=plan_prompt(*told, most),
            schema=plan_schema(most, skills),
            tools=self._tools,
            max_turns=TURNS_WITH_TOOLS if self._tools else 1,
            max_retries=1,
            max_tokens=most * TASK_TOKENS,
        )
        try:
            mended = mend(await self._drafts(thought), most=most)
        except InvalidOutputError as error:
            mended = mend(whole_drafts(error.text, most, skills), most=most)
            if not mended.drafts:
                return self._one_task("the planner gave no valid plan")
            mended = Mended(mended.drafts, ("the plan was cut off, and its whole tasks were taken", *mended.notes))
        except (BudgetError, TaskCancelledError) as error:
            return Planned(error=error)
        except AuroraSwarmError as error:
            return Planned(error=PlanError(f"no plan came: {error}", remedy=error.remedy))
        return Planned(mended.drafts, mended.notes) if mended.drafts else self._one_task("the plan had no tasks")

    async def further(self, record: TaskRecord, titles: Sequence[str]) -> list[Draft]:
        """Tasks that a result makes necessary; often none.

        Args:
            record: A task that is done.
            titles: Of all tasks that are there.

        Raises:
            AuroraSwarmError: The model could not be asked, or gave no valid answer; no other harm is done.
        """
        room = await self._room()
        objective, answer = self._objective, record.text
        if room is not None:
            objective, answer = self._cut(objective, room // 4), self._cut(answer, room // 3)
        thought = Thought(
            system=REVIEWER,
            prompt=further_prompt(objective, titles, record.spec.title, answer),
            schema=FurtherTasks,
            tools=self._tools,
            max_turns=TURNS_WITH_TOOLS if self._tools else 1,
            max_retries=1,
            max_tokens=FURTHER_AT_A_TIME * TASK_TOKENS,
        )
        return await self._drafts(thought)

    async def _drafts(self, thought: Thought) -> list[Draft]:
        purse, rein = self._held
        result = await think_in_turn(self._mind, thought, purse=purse, rein=rein)
        self.usage += result.usage
        if result.error is not None:
            raise result.error
        assert result.output is not None
        return drafts_of(result.output)

    async def _room(self) -> int | None:
        pool = self._mind.pool
        return await pool.runtime.prompt_room(pool.view.members, None)

    def _cut(self, text: str, tokens: int) -> str:
        return cut(text, self._mind.pool.runtime.tokens_at_most(text), tokens)

    def _one_task(self, why: str) -> Planned:
        return Planned((_whole(self._objective),), (f"{why}; the objective was worked on as one task",))


def _whole(objective: str) -> Draft:
    return Draft(title=" ".join(objective.split())[:TITLE_CHARS], instructions=objective)


class Novelty:
    """Tells which drafts are new: by what they say, and with a memory also by what they mean.

    Args:
        run: Id of the run; only its tasks are compared.
        memory: Where they are compared by their meaning; None to go by their words.

    Attributes:
        known: What tasks that are there say and are called, `normalised`.
        notes: What went wrong with the memory, in sentences; then words alone decide.
    """

    def __init__(self, run: str, memory: VectorStore | None = None) -> None:
        self._run = run
        self._memory = memory
        self.known: set[str] = set()
        self.notes: list[str] = []

    async def new(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Those drafts that mean something new, which from now on nothing else may mean."""
        found = [draft for draft in drafts if await self._is_new(draft)]
        self.known |= {key for draft in found for key in (draft.key, normalised(draft.title))}
        return found

    async def _is_new(self, draft: Draft) -> bool:
        if self._memory is None:
            return True
        text = f"{draft.title}\n{draft.instructions}"
        try:
            kept = await self._memory.collection(COLLECTION)
            return await self._is_far(kept, draft.key, text)
        except AuroraSwarmError as error:
            self._memory = None
            self.notes.append(f"tasks were compared by their words alone: the memory failed ({error.kind})")
            return True

    async def _is_far(self, kept: Collection, key: str, text: str) -> bool:
        nearest = await kept.query(text, 1, where={"run": self._run})
        if nearest and nearest[0].similarity >= SAME:
            return False
        await kept.upsert([Document(id=f"{self._run}:{key}", text=text, metadata={"run": self._run})])
        return True
