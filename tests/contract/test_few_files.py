"""A process that may open few files has fewer connections, and no failures."""

from __future__ import annotations

import asyncio
import json
import sys

from aurora_swarm.testing.faulty_server import Answer, FaultyServer

CLIENT = """
import asyncio, json, resource, sys
from aurora_swarm.pools.agent_pool import AgentPool
from aurora_swarm.values.endpoint import AgentEndpoint

async def main():
    endpoints = [AgentEndpoint("127.0.0.1", int(port)) for port in sys.argv[1:]]
    async with AgentPool(endpoints, concurrency=500, connector_limit=500, timeout=60) as pool:
        # The client was made for the limit before; only then does it run into this one.
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        responses = await pool.send_all([f"prompt {i}" for i in range(500)])
        # On a busy machine a call may wait here for a connection, and its server look silent beside others.
        seen = [each for each in pool.statistics().endpoints if "answered nobody" not in each.error]
        conditions = {each.condition for each in seen}
    print(json.dumps({
        "answered": sum(r.text == f"prompt {i}" for i, r in enumerate(responses)),
        "errors": sorted({str(r.error) for r in responses if r.error}),
        # A rival that lost a race was no failure.
        "failures": sorted({f.error.kind for r in responses for f in r.failures} - {"call_cancelled"}),
        "conditions": sorted(conditions),
    }))

asyncio.run(main())
"""


async def test_five_hundred_calls_over_forty_servers_with_sixty_four_files() -> None:
    servers = [FaultyServer(Answer(delay_s=0.02)) for _ in range(40)]
    for server in servers:
        await server.start()
    ports = [str(server.endpoint.port) for server in servers]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, *ports, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await child.communicate()
    for server in servers:
        await server.stop()
    assert child.returncode == 0, err.decode()
    told = json.loads(out)
    assert told == {"answered": 500, "errors": [], "failures": [], "conditions": ["well"]}
