"""Layers of proposers, each reading the layer before, and an aggregator.

After Wang et al., "Mixture-of-Agents Enhances Large Language Model Capabilities" (2024). There each proposer reads the
whole layer before; here it reads `FANIN` answers of it at most, so that no prompt grows with the width of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

from aurora_swarm.batch.spec import Schema
from aurora_swarm.patterns.quorum import Quorum, least
from aurora_swarm.patterns.scatter_gather import scatter_gather
from aurora_swarm.swarms.architectures.base import Architecture, check_some
from aurora_swarm.swarms.architectures.outcome import ArchitectureOutcome
from aurora_swarm.swarms.architectures.roles import Role
from aurora_swarm.swarms.architectures.session import Session
from aurora_swarm.swarms.architectures.showing import FANIN, READ_AS_DATA, enclosed, literal
from aurora_swarm.values.gathered import Gathered

REFINE = "{task}\n\nOthers gave these answers; some may be wrong.\n{answers}\n{note} Give a better answer."
AGGREGATE = (
    "{task}\n\nSeveral gave these answers; some may be wrong.\n<answers>\n{{responses}}\n</answers>\n{note} "
    "Make the best answer of them."
)


class ProposerAgent(Role, frozen=True):
    """Who answers, from the second layer on having read answers of the layer before."""


class AggregatorAgent(Role, frozen=True):
    """Who makes one answer of the last layer's."""


class MixtureOfAgents(Architecture, frozen=True):
    """Layers of proposers and an aggregator.

    Args:
        layers: Proposers, layer by layer; let those of a layer differ by model, temperature or system.
        aggregator: Who makes the answer.
        schema: What answers are constrained to.
        quorum: How many proposers of each layer must answer, as a number or as a share.

    Raises:
        UsageError: There are no layers, or no proposers in one of them.
    """

    layers: tuple[tuple[ProposerAgent, ...], ...]
    aggregator: AggregatorAgent
    schema: Schema = None
    quorum: Quorum = 0.5

    def __post_init__(self) -> None:
        check_some(self.layers, "layers")
        for number, layer in enumerate(self.layers, 1):
            check_some(layer, f"proposers in layer {number}")

    @property
    def agents(self) -> Sequence[Role]:
        """The proposers, layer by layer, and the aggregator."""
        return (*(agent for layer in self.layers for agent in layer), self.aggregator)

    async def work(self, session: Session, task: str) -> ArchitectureOutcome:
        """Propose, refine, aggregate."""
        needed = [least(self.quorum, len(layer)) for layer in self.layers]
        answers = Gathered()
        for number, layer in enumerate(self.layers):
            prompts = await self._prompts(session, task, layer, answers)
            answers = await scatter_gather(session.panel(layer, f"layer {number + 1}", self.schema), prompts)
            if answers.n_ok < needed[number]:
                return session.short(answers, needed[number])
        prompt = AGGREGATE.format(task=literal(task), note=READ_AS_DATA)
        panel = session.panel([self.aggregator], "aggregate", self.schema)
        told = await session.fold(panel, prompt, answers, needed[-1])
        return session.outcome(told.text, n_ok=told.n_ok, n_failed=told.n_failed, error=told.error)

    async def _prompts(
        self, session: Session, task: str, layer: Sequence[ProposerAgent], before: Gathered
    ) -> list[str]:
        """What each proposer is asked; where not all answers fit one prompt, each reads others of them."""
        said = [response.text for response in before if response.success]
        if not said:
            return [task] * len(layer)
        seen = [[said[(place + n) % len(said)] for n in range(min(FANIN, len(said)))] for place in _places(layer, said)]
        shown = [enclosed(await session.fitted(layer, texts)) for texts in seen]
        return [REFINE.format(task=task, answers=each, note=READ_AS_DATA) for each in shown]


def _places(layer: Sequence[ProposerAgent], said: Sequence[str]) -> list[int]:
    """Where each proposer begins to read: all at the first where all fit, so that they share a prompt's beginning."""
    if len(said) <= FANIN:
        return [0] * len(layer)
    return [place * len(said) // len(layer) for place in range(len(layer))]
