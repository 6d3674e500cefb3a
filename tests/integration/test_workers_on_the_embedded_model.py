"""Workers that remember, recall and ask, on a real model of 135M parameters."""

from __future__ import annotations

import pytest

from aurora_swarm.memory.open import open_store
from aurora_swarm.swarms.agent import Agent
from aurora_swarm.swarms.human.callback import CallbackHuman
from aurora_swarm.swarms.human.questions import Question
from aurora_swarm.swarms.models import OpenAI
from aurora_swarm.swarms.work import Assignment
from aurora_swarm.swarms.worker import Worker

pytestmark = pytest.mark.local_model

DEGREES = {"type": "object", "properties": {"degrees": {"type": "integer"}}, "required": ["degrees"]}
ORDER = {"type": "object", "properties": {"furnace": {"enum": ["small", "large"]}}, "required": ["furnace"]}


async def test_one_remembers_another_recalls_a_third_asks_a_person() -> None:
    asked: list[Question] = []

    def person(question: Question) -> str:
        asked.append(question)
        return "2" if question.options else "the large one"

    model = OpenAI(base_url="local://", max_tokens=120, temperature=0.0, seed=1)
    async with open_store("memory://") as store, model.opened() as mind:
        notes = await store.collection("notes")
        smith = Agent(model, name="smith", instructions="You work in a foundry.", tool_choice="required", max_turns=2)
        first, second = (
            Worker(
                Agent(
                    model,
                    name="smith",
                    instructions=smith.instructions,
                    tool_choice="required",
                    max_turns=2,
                    memory=notes,
                )
            )
            for _ in range(2)
        )

        told = Assignment(task="a", title="Remember this: copper melts at 1085 degrees.")
        assert (await first.work(told, mind)).tool_calls >= 1
        (kept,) = await notes.query("copper", 1)
        assert "1085" in kept.document.text
        assert kept.document.metadata["who"] == first.id

        wanted = Assignment(task="b", title="Recall at how many degrees copper melts.", schema=DEGREES)
        recalled = await second.work(wanted, mind)
        assert (recalled.output, recalled.error) == ({"degrees": 1085}, None)

        buyer = Worker(smith, human=CallbackHuman(person))
        title = "Which furnace do we need, the small one or the large one?"
        ordered = await buyer.work(Assignment(task="c", title=title, schema=ORDER), mind)
        assert asked
        assert "furnace" in asked[0].text
        assert (ordered.output, ordered.error) == ({"furnace": "large"}, None)
