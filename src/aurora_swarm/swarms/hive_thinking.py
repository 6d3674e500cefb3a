"""What a hivemind thinks itself: the plan, whether more is to be done, and the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import InvalidOutputError, PlanError, UsageError
from aurora_swarm.swarms.consolidation import consolidate
from aurora_swarm.swarms.hive_plan import (
    FURTHER,
    PLANNER,
    Planned,
    hive_prompt,
    hive_schema,
    macros_for_all,
    macros_given,
    macros_of,
)
from aurora_swarm.swarms.hive_report import Account, one_by_one
from aurora_swarm.swarms.ids import new_id
from aurora_swarm.swarms.mind import Mind, Thought
from aurora_swarm.swarms.planning import TASK_TOKENS
from aurora_swarm.swarms.work import TaskSpec
from aurora_swarm.values.budget import Budget
from aurora_swarm.values.outcome import AgentResult


class Manner(msgspec.Struct, frozen=True, kw_only=True):
    """How a hivemind works.

    Args:
        max_tasks: Macro-tasks of a plan at most.
        max_rounds: Plans at most.
        max_attempts: How often a macro-task is given out.
        patience: As for `aurora_swarm.swarms.allotment.Allotment`.
        context_tokens: What a swarm is told of the others' findings, in tokens.
        instruction: How answers become one.
        per_member: What one swarm may spend on one macro-task; None for what there is.
    """

    max_tasks: int
    max_rounds: int
    max_attempts: int
    patience: float
    context_tokens: int
    instruction: str
    per_member: Budget | None


class HiveMind:
    """Plans and consolidates.

    Args:
        mind: Whom to ask; None where nobody is.
        purse: Bounds what is spent on it.
        manner: How.
        account: What the reader should know is noted there.
    """

    def __init__(self, mind: Mind | None, purse: Purse, manner: Manner, account: Account) -> None:
        self._mind = mind
        self._purse = purse
        self._manner = manner
        self._account = account

    async def plan(self, members: Mapping[str, str], context: str, tasks: Sequence[TaskSpec] | None) -> Planned:
        """The first macro-tasks.

        Args:
            members: What each swarm is good at, by its name; at least one.
            context: What is known from elsewhere.
            tasks: Those that the user has planned; None to plan.

        Raises:
            AuroraSwarmError: Whatever kept the planner from planning.
        """
        objective, most = self._account.objective, self._manner.max_tasks
        if tasks is not None:
            return macros_given(tasks, members, new_id)
        if len(members) == 1:
            return macros_for_all(objective, members, new_id)
        prompt = hive_prompt(objective, members, most, context=context)
        result = await self._asked(PLANNER, prompt, hive_schema(most, members))
        if isinstance(result.error, InvalidOutputError):
            self._account.notes.append("No usable plan came, so that each swarm was given the whole objective.")
            return macros_for_all(objective, members, new_id)
        if result.error is not None:
            raise result.error
        planned = macros_of(_listed(result), members, new_id, most=most)
        if not planned.macros:
            raise PlanError("the plan says nothing", remedy="say more in the objective, or give tasks=[...]")
        return planned

    async def further(self, members: Mapping[str, str], context: str, found: str, there: Sequence[TaskSpec]) -> Planned:
        """Macro-tasks that the objective still needs; none where nobody can say.

        Args:
            members: Those that are left.
            context: What is known from elsewhere.
            found: What the swarms have found, in an envelope.
            there: Macro-tasks that there were.
        """
        if self._mind is None or not members:
            return Planned(())
        most = self._manner.max_tasks
        prompt = hive_prompt(self._account.objective, members, most, context=context, found=found or "nothing yet")
        result = await self._asked(FURTHER, prompt, hive_schema(most, members, least=0))
        if not result.ok:
            self._account.notes.append("Whether more was to be done could not be asked.")
            return Planned(())
        return macros_of(_listed(result), members, new_id, most=most, there=there)

    async def answer(self, found: Sequence[tuple[str, str]]) -> str:
        """One answer of many; where they cannot be made one, they follow each other, and a note says so.

        Args:
            found: Titles and answers, at least one.
        """
        if len(found) == 1:
            return found[0][1]
        notes = self._account.notes
        if self._mind is None:
            notes.append("There is no model to make one answer of the swarms' answers; they follow each other.")
            return one_by_one(found)
        instruction = self._manner.instruction
        summary = await consolidate(
            self._mind, self._account.objective, found, instruction=instruction, purse=self._purse
        )
        self._account.usage += summary.usage
        if not summary.ok:
            kind = summary.error.kind if summary.error else "unknown"
            notes.append(f"The answers could not be made one ({kind}); they follow each other.")
            return one_by_one(found)
        notes.extend(f"Not in the answer: {found[place][0]!r}." for place in summary.missing)
        return summary.text

    async def _asked(self, system: str, prompt: str, schema: dict[str, Any]) -> AgentResult[Any]:
        if self._mind is None:
            raise UsageError(NO_MODEL, remedy=NO_MODEL_REMEDY)
        thought = Thought(
            prompt=prompt,
            system=system,
            schema=schema,
            max_turns=1,
            max_tokens=64 + TASK_TOKENS * self._manner.max_tasks,
        )
        result = await self._mind.think(thought, purse=self._purse)
        self._account.usage += result.usage
        return result


NO_MODEL = "this hivemind has no model to plan with"
NO_MODEL_REMEDY = "give model=..., or a local swarm among its members, or tasks=[...]"


def _listed(result: AgentResult[Any]) -> Mapping[str, Any]:
    output: Mapping[str, Any] = result.output or {"tasks": []}
    return output
