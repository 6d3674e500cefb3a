"""A particle swarm of agents: texts that search for a better text, each pulled by its own best and by the swarm's.

`aurora_swarm.swarms.particles` says how particles move, `aurora_swarm.swarms.particle_rounds` what happens in a round.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import UsageError
from aurora_swarm.memory.open import open_store
from aurora_swarm.ports.store import VectorStore
from aurora_swarm.swarms.judging import Fitness, Judge
from aurora_swarm.swarms.mind import Rein, Thought
from aurora_swarm.swarms.models import Model
from aurora_swarm.swarms.particle_rounds import Move, ParticleOutcome, Plan, Search
from aurora_swarm.swarms.particles import Law, StopRule
from aurora_swarm.values.budget import Budget
from aurora_swarm.values.outcome import AgentResult

__all__ = ["Move", "ParticleOutcome", "ParticleSwarm"]

_FIELDS = {"run": "str", "round": "int", "particle": "int", "fitness": "float"}
_COLLECTION = "particles"


class ParticleSwarm:
    """Agents that search for the best text, as particles in the space of embeddings.

    In the first round each particle writes a text of its own. From then on each is shown the fittest texts around the
    point to which it heads, and writes the next one. What fails is data: the particle stays where it was, nobody is
    told, and the search goes on. A particle's prompt is as long for a hundred particles as for eight.

    Args:
        model: What the particles write with; let its temperature be above 0.
        objective: What is to be written. It goes first in every prompt, and is sent unchanged.
        fitness: How good a text is; more is better. Each text is judged once.
        particles: How many there are, at least 2.
        rounds: Moves of every particle at most, the first texts included: ``particles * rounds`` calls.
        target: Fitness that is good enough to stop; None for none.
        patience: Rounds without a better text after which it stops; None for none.
        neighbours: A particle looks to the fittest of so many texts nearest to it, found in the store; None for the
            best text of the whole swarm, which converges sooner, and sooner on the wrong one.
        shown: Texts that a particle is shown.
        law: The constants of its movement.
        seeds: Texts to begin with: the first particles have them without a call.
        store: Where positions are kept: a store, or the URL of one that is opened for the run. In a store that lasts,
            the texts stay, in the collection ``particles``, with ``run``, ``round``, ``particle`` and ``fitness``.
        budget: What may be spent; the search stops with what it has when it is spent.
        max_tokens: Tokens of a text at most; the model's own bound when None.
        timeout_s: Seconds for one text; a slower particle stays where it was. None for as long as its call may take.
        fitness_timeout_s: Seconds to judge one text.
        seed: Of the dice of the movement.

    Raises:
        UsageError: A number is out of range, or the objective is empty.
    """

    def __init__(
        self,
        model: Model,
        objective: str,
        fitness: Fitness,
        particles: int = 8,
        *,
        rounds: int = 10,
        target: float | None = None,
        patience: int | None = None,
        neighbours: int | None = None,
        shown: int = 4,
        law: Law | None = None,
        seeds: Sequence[str] = (),
        store: VectorStore | str = "memory://",
        budget: Budget | None = None,
        max_tokens: int | None = None,
        timeout_s: float | None = None,
        fitness_timeout_s: float = 60.0,
        seed: int = 0,
    ) -> None:
        if particles < 2 or shown < 1 or (neighbours is not None and neighbours < 1):
            raise UsageError(
                f"particles is {particles}, shown {shown}, neighbours {neighbours}",
                remedy="give at least 2 particles, and at least 1 of the others",
            )
        if not objective.strip():
            raise UsageError("the objective is empty", remedy="say what is to be written")
        self._plan = Plan(
            objective=objective,
            particles=particles,
            stop=StopRule(rounds=rounds, target=target, patience=patience),
            law=law or Law(),
            neighbours=neighbours,
            shown=shown,
            seeds=tuple(seeds[:particles]),
        )
        self._model = model
        self._fitness = fitness
        self._store = store
        self._budget = budget
        self._max_tokens = max_tokens
        self._timeout_s = timeout_s
        self._fitness_timeout_s = fitness_timeout_s
        self._seed = seed

    async def run(self, *, purse: Purse | None = None, rein: Rein | None = None) -> ParticleOutcome:
        """Search until a rule says that it is enough. May be called again: every run starts anew.

        Args:
            purse: Out of which it is paid, the swarm's own budget within it; None for no bound from above.
            rein: As for `Mind.think`.

        Returns:
            The best text and everything that led to it; what fails is in it. Cancelling ends what is under way.

        Raises:
            UsageError: There is no backend, or the store cannot be opened.
        """
        if self._budget is not None:
            purse = Purse(self._budget, self._model.price, purse)
        async with AsyncExitStack() as stack:
            store = self._store
            if isinstance(store, str):
                store = await stack.enter_async_context(open_store(store))
            mind = await stack.enter_async_context(self._model.opened())
            judge = Judge(self._fitness, timeout_s=self._fitness_timeout_s, width=self._plan.particles)
            stack.callback(judge.close)
            collection = await store.collection(_COLLECTION, fields=_FIELDS)
            dice = random.Random(self._seed).random  # noqa: S311 - nothing secret

            def write(prompt: str) -> Awaitable[AgentResult[Any]]:
                thought = Thought(prompt=prompt, max_tokens=self._max_tokens, timeout_s=self._timeout_s)
                return mind.think(thought, purse=purse, rein=rein)

            return await Search(
                self._plan, write, judge, embedder=store.embedder, collection=collection, dice=dice
            ).run()
