"""A swarm served over A2A by a process of its own: says where it is, then what happens in it.

python hive_member_example.py BASE_URL MAX_TOKENS
"""

import asyncio
import sys

from aurora_swarm.gateway.a2a_server import serve_swarm
from aurora_swarm.swarms.happenings import SwarmEvent
from aurora_swarm.swarms.models import OpenAI
from aurora_swarm.swarms.orchestrator import Orchestrator
from aurora_swarm.swarms.swarm import Swarm


def say(event: SwarmEvent) -> None:
    """One word a line."""
    tell(type(event).__name__)


def tell(line: str) -> None:
    """Write a line where the parent reads it."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(base_url: str, max_tokens: str) -> None:
    """Serve until killed."""
    model = OpenAI(base_url=base_url, max_tokens=int(max_tokens))
    swarm = Swarm(Orchestrator(model, nodes=1), auto=False, max_tasks=3, name="far", about="Counts.", on_event=say)
    async with serve_swarm(swarm) as served:
        tell(served.url)
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
