"""Agents work on aspects of a task in parallel, then vote on what they found or revise it until they agree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

from aurora_swarm.aggregators import majority_vote
from aurora_swarm.batch.spec import Schema
from aurora_swarm.patterns.quorum import Quorum, least
from aurora_swarm.patterns.scatter_gather import scatter_gather
from aurora_swarm.swarms.architectures.base import Architecture, check_some
from aurora_swarm.swarms.architectures.competitive import ballot
from aurora_swarm.swarms.architectures.outcome import ArchitectureOutcome
from aurora_swarm.swarms.architectures.roles import Role
from aurora_swarm.swarms.architectures.session import Session
from aurora_swarm.swarms.architectures.showing import FANIN, READ_AS_DATA, Key, distinct, enclosed
from aurora_swarm.values.gathered import Gathered

ASPECT = "\n\nYour aspect of it: {aspect}"
VOTE = "{task}\n\nThese answers were proposed.\n{answers}\n{note} Which is best? Give its number."
REVISE = "{task}\n\nThese answers were proposed.\n{answers}\n{note} Agree with one, or give a better answer."


class CollaborativeAgent(Role, frozen=True):
    """Who works on one aspect, and decides with the others.

    Args:
        aspect: What it looks at; the whole task when empty.
    """

    aspect: str = ""

    def prompt(self, shared: str) -> str:
        """What it is told: what all are, and then its own aspect."""
        return shared + ASPECT.format(aspect=self.aspect) if self.aspect else shared


class Collaborative(Architecture, frozen=True):
    """Aspects in parallel, then one decision of all.

    Nobody is shown more than the `FANIN` answers with the most support, however many agents there are.

    Args:
        collaborators: Who work.
        decide: ``vote``: each names the best of the answers, once. ``consensus``: each revises its own, having read
            the others', until `agreement` is reached.
        schema: What answers are constrained to.
        key: Texts with equal keys are the same answer; spelling that makes no difference when None.
        agreement: Share of the answers that must be the same for a consensus.
        rounds: Revisions at most; after the last one the majority decides, and `confidence` says how large it is.
        quorum: How many must answer each time, as a number or as a share.

    Raises:
        UsageError: There are no collaborators.
    """

    collaborators: tuple[CollaborativeAgent, ...]
    decide: Literal["vote", "consensus"] = "vote"
    schema: Schema = None
    key: Key | None = None
    agreement: float = 0.75
    rounds: int = 2
    quorum: Quorum = 0.5

    def __post_init__(self) -> None:
        check_some(self.collaborators, "collaborators")

    @property
    def agents(self) -> Sequence[Role]:
        """The collaborators."""
        return self.collaborators

    async def work(self, session: Session, task: str) -> ArchitectureOutcome:
        """Propose, then decide."""
        needed = least(self.quorum, len(self.collaborators))
        answers = await self._ask(session, "propose", task, self.schema)
        if answers.n_ok < needed:
            return session.short(answers, needed)
        return await (self._vote if self.decide == "vote" else self._agree)(session, task, answers, needed)

    async def _vote(self, session: Session, task: str, answers: Gathered, needed: int) -> ArchitectureOutcome:
        choices = [text for text, _ in distinct(answers, self.key)][:FANIN]
        if len(choices) == 1:
            return self._end(session, answers)
        prompt = await self._shown(session, VOTE, task, choices)
        votes = await self._ask(session, "vote", prompt, ballot("choice", len(choices)))
        if votes.n_ok < needed:
            return session.short(votes, needed)
        winner, confidence = majority_vote(votes)
        choice = choices[json.loads(winner)["choice"] - 1]
        return session.outcome(choice, confidence=confidence, n_ok=votes.n_ok, n_failed=votes.n_failed)

    async def _agree(self, session: Session, task: str, answers: Gathered, needed: int) -> ArchitectureOutcome:
        for _ in range(self.rounds):
            if majority_vote(answers, self.key)[1] >= self.agreement:
                break
            choices = [text for text, _ in distinct(answers, self.key)][:FANIN]
            answers = await self._ask(session, "revise", await self._shown(session, REVISE, task, choices), self.schema)
            if answers.n_ok < needed:
                return session.short(answers, needed)
        return self._end(session, answers)

    async def _ask(self, session: Session, stage: str, shared: str, schema: Schema) -> Gathered:
        prompts = [agent.prompt(shared) for agent in self.collaborators]
        return await scatter_gather(session.panel(self.collaborators, stage, schema), prompts)

    async def _shown(self, session: Session, prompt: str, task: str, choices: Sequence[str]) -> str:
        """Answers as all are shown them; what is equal for all comes first."""
        shown = enclosed(await session.fitted(self.collaborators, choices))
        return prompt.format(task=task, answers=shown, note=READ_AS_DATA)

    def _end(self, session: Session, answers: Gathered) -> ArchitectureOutcome:
        answer, confidence = majority_vote(answers, self.key)
        return session.outcome(answer, confidence=confidence, n_ok=answers.n_ok, n_failed=answers.n_failed)
