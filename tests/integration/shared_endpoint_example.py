"""A process that asks a fleet what several ask: STORE RUN OWNER CALLS WIDTH ENDPOINT...; says how many answers came."""

import asyncio
import sys

from aurora_swarm import VLLMPool
from aurora_swarm.batch.sharing import EndpointShares
from aurora_swarm.journal.shards import open_shards
from aurora_swarm.values.endpoint import AgentEndpoint


async def main(url, run, owner, calls, width, *addresses):
    endpoints = [AgentEndpoint(host, int(port), {"slots": "8"}) for host, port in (a.split(":") for a in addresses)]
    store = await open_shards(url, run=run)
    try:
        async with VLLMPool(endpoints, concurrency=int(width)) as pool, EndpointShares(store, pool, owner):
            responses = await pool.send_all([f"prompt {number}" for number in range(int(calls))])
    finally:
        await store.aclose()
    sys.stdout.write(f"{sum(response.success for response in responses)}\n")


asyncio.run(main(*sys.argv[1:]))
