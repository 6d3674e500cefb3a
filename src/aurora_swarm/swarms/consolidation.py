"""The answers of many tasks become the answer to an objective: in one step, or as a tree where a context needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.batch.hoisting import fenced
from aurora_swarm.batch.phases import Phases, Results
from aurora_swarm.batch.reduce import Reduction, Summary, reduce_results
from aurora_swarm.batch.run import BatchOptions, Inputs
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.errors import UsageError
from aurora_swarm.inputs.template import Template
from aurora_swarm.pools.flow import together
from aurora_swarm.swarms.in_turn import think_in_turn
from aurora_swarm.swarms.mind import Mind, Rein, Thought
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.outcome import AgentResult

CONSOLIDATE = (
    "You received the answers to {n} tasks that together serve this objective. Write the one answer to the objective. "
    "Use only what the answers say, and leave nothing out that the objective needs."
)
"""How answers become one, where nobody says otherwise."""


def check_consolidate(instruction: str) -> None:
    """Make sure, before any work, that answers can become one by it.

    Raises:
        UsageError: It is empty, or holds another field than ``{n}``.
    """
    Reduction(instruction=instruction)


async def consolidate(
    mind: Mind,
    objective: str,
    answers: Sequence[tuple[str, str]],
    *,
    instruction: str = CONSOLIDATE,
    max_tokens: int | None = None,
    purse: Purse | None = None,
    rein: Rein | None = None,
) -> Summary[Any]:
    """Make one answer of many.

    Each step fits the context of whoever makes it; where the answers do not fit into one, neighbours form groups, and
    what is made of the groups is put together in turn. Objective and answers stand in envelopes.

    Args:
        mind: Who does it.
        objective: What the answer is to meet.
        answers: Titles of tasks and their answers, at least one.
        instruction: How; ``{n}`` becomes the number of answers that follow.
        max_tokens: Tokens of each step's answer at most; the model's own bound when None.
        purse: Bounds what is spent.
        rein: As for `Mind.think`.

    Returns:
        The answer, with the positions in `missing` of those that are not in it; not ok where nothing came of it.
        Cancelling cancels what is under way.
    """
    if not answers:
        raise UsageError("there are no answers to consolidate", remedy="give one at least")
    results = [
        AgentResult(index=place, key="", ok=True, output=f"{title}\n\n{text}", error=None)
        for place, (title, text) in enumerate(answers)
    ]
    steps = _Steps(mind, purse, rein)
    task = f"{_literal(fenced('objective', objective))}\n\n{instruction}"
    reduction = Reduction(instruction=task, sampling=Sampling(max_tokens=max_tokens))
    return await reduce_results(steps, BatchSpec(task="consolidate"), results, reduction)


class _Steps(Phases):
    """Steps of a reduction as thoughts of a mind, so that they can be held up like any others."""

    def __init__(self, mind: Mind, purse: Purse | None, rein: Rein | None) -> None:
        super().__init__(mind.pool, BatchOptions(), purse)
        self._mind = mind
        self._held = purse, rein

    async def run(self, spec: BatchSpec, inputs: Inputs, *, model: str = "", told: bool = False) -> Results:  # noqa: ARG002
        """One step for each group of answers."""
        template, (purse, rein) = Template(spec.task, "consolidate"), self._held
        assert isinstance(inputs, Sequence)
        thoughts = [
            Thought(
                prompt=template.render(fields),
                max_turns=1,
                max_retries=spec.max_retries,
                max_tokens=spec.sampling.max_tokens,
            )
            for fields in inputs
        ]
        return await together(think_in_turn(self._mind, thought, purse=purse, rein=rein) for thought in thoughts)


def _literal(text: str) -> str:
    """A text that a template gives back as it is."""
    return text.replace("{", "{{").replace("}", "}}")
