"""Authors and critics share a board; first in lock-step, then each at its own pace, one round apart at most."""

import asyncio
import json
import sys
from itertools import cycle

from aurora_swarm import AgentEndpoint, VLLMPool, open_pool
from aurora_swarm.patterns.blackboard import Blackboard

ROLES = {
    "author": "Propose one cause in a sentence.",
    "critic": "Say in a sentence what speaks against it.",
}


def prompt(role: str, board: dict[str, list[str]]) -> str:
    """What all share stands first, so that servers compute it once; the role stands last."""
    written = "\n".join(f"{section}: {text}" for section, texts in board.items() for text in texts)
    return f"Why does the reactor cool too fast?\n{written}\n\n{ROLES[role]}"


async def main(backend: str) -> None:
    async with open_pool(backend) as fleet:
        agents = [
            AgentEndpoint(each.host, each.port, {**each.tags, "role": role})
            for each, role in zip(fleet.endpoints, cycle(ROLES))
        ]
        async with VLLMPool(agents, max_tokens=24, temperature=0) as pool:
            board = Blackboard(list(ROLES), prompt)
            session = await board.run(pool, max_rounds=2)
            print(json.dumps(session, indent=2))
            print(f"{session.rounds} rounds, {session.responses.usage.cached_tokens} prompt tokens from caches\n")

            later = Blackboard(list(ROLES), prompt)
            later.restore(board.snapshot())
            session = await later.run(pool, max_rounds=3, staleness=1)
            print(f"one round more, not in lock-step: {[len(texts) for texts in session.values()]} entries")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://?servers=2"))
