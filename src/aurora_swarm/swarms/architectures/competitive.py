"""Agents do the same task independently, and an evaluation selects.

With `AGREEMENT` it is the self-consistency of Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in
Language Models" (2022), stopped as soon as it is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from aurora_swarm.aggregators import ScoreFn, best_of
from aurora_swarm.batch.spec import Schema
from aurora_swarm.errors import AuroraSwarmError
from aurora_swarm.patterns.fan_in import packed
from aurora_swarm.patterns.quorum import Quorum, least
from aurora_swarm.patterns.voting import SURE, sequential_vote
from aurora_swarm.pools.flow import together
from aurora_swarm.swarms.architectures.base import Architecture, check_some
from aurora_swarm.swarms.architectures.outcome import ArchitectureOutcome
from aurora_swarm.swarms.architectures.roles import JudgeAgent, Role
from aurora_swarm.swarms.architectures.session import Session
from aurora_swarm.swarms.architectures.showing import FANIN, READ_AS_DATA, Key, distinct, enclosed
from aurora_swarm.values.gathered import Gathered

AGREEMENT: Final = "agreement"
"""The answer that most competitors give wins."""

Evaluation = Literal["agreement"] | ScoreFn | JudgeAgent
"""`AGREEMENT`, a function that scores a response, or a judge."""

JUDGE = "{task}\n\nThese answers were given.\n{answers}\n{note} Which of them is best? Give its number."


class CompetitiveAgent(Role, frozen=True):
    """Who does the whole task, not knowing of others."""


class Competitive(Architecture, frozen=True):
    """The same task for all; the best answer counts.

    Args:
        competitors: Who compete; all are sent the same prompt, so let them differ by model, temperature or system.
        evaluation: How the best is found. A judge reads `FANIN` different answers at a time at most, and the winners
            of each heat meet in the next.
        schema: What answers are constrained to.
        key: Texts with equal keys are the same answer; spelling that makes no difference when None.
        sure: With `AGREEMENT`, the probability that the leader is really ahead, from which nobody else is asked.
        quorum: How many must have answered, as a number or as a share; with `AGREEMENT` only where all were asked.

    Raises:
        UsageError: There are no competitors.
    """

    competitors: tuple[CompetitiveAgent, ...]
    evaluation: Evaluation = AGREEMENT
    schema: Schema = None
    key: Key | None = None
    sure: float = SURE
    quorum: Quorum = 0.5

    def __post_init__(self) -> None:
        check_some(self.competitors, "competitors")

    @property
    def agents(self) -> Sequence[Role]:
        """The competitors, and the judge where there is one."""
        judges = (self.evaluation,) if isinstance(self.evaluation, JudgeAgent) else ()
        return (*self.competitors, *judges)

    async def work(self, session: Session, task: str) -> ArchitectureOutcome:
        """Have the task done by all, and select."""
        size = len(self.competitors)
        needed = least(self.quorum, size)
        panel = session.panel(self.competitors, "compete", self.schema)
        if self.evaluation == AGREEMENT:
            vote = await sequential_vote(panel, task, size, sure=self.sure, key=self.key)
            heard = vote.responses
            if not vote.decided_early and heard.n_ok < needed:
                return session.short(heard, needed)
            return session.outcome(vote.winner, confidence=vote.confidence, n_ok=heard.n_ok, n_failed=heard.n_failed)
        answers = Gathered(await panel.send_all([task] * size))
        if answers.n_ok < needed:
            return session.short(answers, needed)
        winner, error = await evaluate_results(session, task, answers, self.evaluation, self.key)
        return session.outcome(winner, n_ok=answers.n_ok, n_failed=answers.n_failed, error=error)


async def evaluate_results(
    session: Session, task: str, results: Gathered, evaluation: ScoreFn | JudgeAgent, key: Key | None = None
) -> tuple[str, AuroraSwarmError | None]:
    """The best of several results.

    Args:
        session: Where a judge is asked.
        task: What the results are of.
        results: Failures among them are left out.
        evaluation: A function whose highest score wins, or a judge. Equal results are judged once.
        key: Which results are equal.

    Returns:
        The winner; or an empty text, and why a judge could not say.

    Raises:
        QuorumError: There are no results.
        UsageError: A score is not a number.
    """
    if not isinstance(evaluation, JudgeAgent):
        return best_of(results, evaluation).text.strip(), None
    left = [text for text, _ in distinct(results, key)]
    while len(left) > 1:
        heats = [left[heat.start : heat.stop] for heat in packed([0] * len(left), 0, FANIN)]
        decided = await together([_heat(session, evaluation, task, heat) for heat in heats])
        failure = next((error for _, error in decided if error is not None), None)
        if failure is not None:
            return "", failure
        left = [winner for winner, _ in decided]
    return left[0], None


async def _heat(
    session: Session, judge: JudgeAgent, task: str, answers: Sequence[str]
) -> tuple[str, AuroraSwarmError | None]:
    """One of a few answers, as the judge says."""
    if len(answers) == 1:
        return answers[0], None
    shown = enclosed(await session.fitted([judge], answers))
    prompt = JUDGE.format(task=task, answers=shown, note=READ_AS_DATA)
    said = await session.think(judge, "judge", judge.thought(prompt, ballot("best", len(answers))))
    return ("", said.error) if said.error is not None else (answers[said.output["best"] - 1], None)


def ballot(name: str, size: int) -> dict[str, Any]:
    """The schema of a choice among numbered answers."""
    choice = {"type": "integer", "enum": list(range(1, size + 1))}
    return {"type": "object", "properties": {name: choice}, "required": [name], "additionalProperties": False}
