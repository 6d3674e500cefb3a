"""A long objective and a particle swarm on a real model, from end to end."""

from __future__ import annotations

import pytest

from aurora_swarm.memory.open import open_store
from aurora_swarm.swarms.cited_answers import cited_answer
from aurora_swarm.swarms.long_objective import LongObjective
from aurora_swarm.swarms.models import OpenAI
from aurora_swarm.swarms.particle_swarm import ParticleSwarm
from aurora_swarm.testing.haystack import haystack
from aurora_swarm.tools.texts import estimated_tokens

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.local_model


async def test_an_answer_cites_chunks_that_were_read() -> None:
    hay = haystack(1, 12_000, facts=2, count=estimated_tokens)
    fact = hay.facts[1]
    async with (
        open_store("memory://") as store,
        LongObjective.open(hay.text, store) as objective,
        OpenAI(base_url="local://", temperature=0).opened() as mind,
    ):
        answer = await cited_answer(objective, fact.question, mind, max_chars=80)
        assert answer.ok, answer.error
        assert objective.citations(answer.text).ok
    assert set(answer.cited) <= set(answer.shown)
    assert any(fact.sentence in passage.text for passage in answer.shown)
    assert answer.usage.completion_tokens > 0


async def test_particles_write_and_are_judged() -> None:
    swarm = ParticleSwarm(
        OpenAI(base_url="local://", temperature=0.9, max_tokens=16),
        "Write one sentence about a lighthouse.",
        lambda text: text.lower().count("light"),
        particles=2,
        rounds=2,
    )
    outcome = await swarm.run()
    assert outcome.ok, outcome.error
    assert [move.error for move in outcome.history] == [None] * 4
    assert outcome.fitness == max(move.fitness or 0 for move in outcome.history)
    assert outcome.usage.completion_tokens > 0
