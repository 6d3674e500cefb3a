"""Scouts publish what they find on a topic; a writer who listens asks one of them, and finds the rest by meaning."""

import asyncio
import sys

from aurora_swarm.swarms.agent import Agent
from aurora_swarm.swarms.messages.messages import Messages
from aurora_swarm.swarms.messages.open import open_messages
from aurora_swarm.swarms.models import Model

PAGES = {
    "valves": "At 9:12 the night shift opened valve 7. The pressure fell from 12 to 4 bar within a minute.",
    "furnace": "The furnace was cold all night. Its door was repaired on Monday by a man from the town.",
    "kitchen": "The kitchen served soup. Nobody ate before the alarm rang at 9:20.",
}


async def scout(page: str, model: Model, messages: Messages) -> None:
    """Read one page, tell everybody, then answer one question about it."""
    agent = Agent(model, name=page)
    found = await agent.run(f"{PAGES[page]}\n\nSum this up in one short sentence.")
    await messages.publish("findings", str(found.output or found.error), sender=page)
    async for question in messages.inbox(page):
        answer = await agent.run(f"{PAGES[page]}\n\nQuestion: {question.text} Answer in one short sentence.")
        await messages.reply(question, str(answer.output or answer.error), sender=page)


async def main(backend: str) -> None:
    model = Model(backend=backend, max_tokens=40, temperature=0)
    async with open_messages("store+memory://") as messages, model.opened():
        findings = await messages.subscribe("findings")
        scouts = [asyncio.create_task(scout(page, model, messages)) for page in PAGES]
        for _ in PAGES:
            finding = await anext(findings)
            print(f"{finding.sender}: {finding.text}")

        (nearest,) = await messages.recall("pressure in a pipe", 1, topic="findings")
        await messages.send(nearest.sender, "Which valve was opened?", sender="writer")
        answer = await messages.inbox("writer").receive(timeout_s=60)
        print(f"\nasked {nearest.sender}, who answered: {answer.text if answer else 'nothing'}")
        for each in scouts:
            each.cancel()
        await asyncio.wait(scouts)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://"))
