"""Two agents answer, read each other and answer again; a judge decides, within a budget."""

import asyncio
import sys

from aurora_swarm import Budget
from aurora_swarm.agents.budgets import Purse
from aurora_swarm.swarms.architectures.debate import DebaterAgent, DebatingAgents
from aurora_swarm.swarms.architectures.roles import JudgeAgent
from aurora_swarm.swarms.models import Model

QUESTION = "Should a laboratory of five people keep its own server? Answer in one sentence."


async def main(backend: str) -> None:
    model = Model("", backend, temperature=0.7, max_tokens=24)
    purse = Purse(Budget(tokens=20_000))
    debaters = (DebaterAgent(model, "saver", "You count every coin."), DebaterAgent(model, "builder", "You build."))
    outcome = await DebatingAgents(debaters, JudgeAgent(model, "judge"), rounds=2).run(QUESTION, purse=purse)
    for part in outcome.parts:
        print(f"{part.agent}: {part.text or part.error}")
    print(f"{outcome.usage.total_tokens} tokens, {purse.statistics().tokens} of 20,000 spent")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://"))
