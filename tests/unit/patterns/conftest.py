"""A fleet whose supervisors put together what they are given, so that nothing lost or doubled escapes notice."""

import random
import re

from aurora_swarm.pools.agent_pool import AgentPool
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint

REDUCE = "REDUCE\n{responses}"


def supervisor(fails=lambda prompt: None, reduce_fails=lambda prompt: None):
    """Answers ``leaf 7`` with ``<7>``, and a reduce prompt with the marks of all its responses, in order."""

    def script(call, endpoint):
        prompt = call.messages[-1].content
        if prompt.startswith("REDUCE"):
            return reduce_fails(prompt) or "".join(re.findall(r"<\d+>", prompt))
        return fails(prompt) or f"<{prompt.split()[-1]}>"

    return script


def on_fleet(use, *, n=8, script=None, delay_s=0.1, seed=1, roles=("worker",), **options):
    """Runs a function of a pool in virtual time; gives its result, and the prompts that were sent."""
    dice = random.Random(seed)
    endpoints = [AgentEndpoint(f"node{i}", 8000, {"role": roles[i % len(roles)]}) for i in range(n)]

    async def main():
        delay = delay_s if callable(delay_s) else lambda call, endpoint: dice.uniform(0.5, 1.5) * delay_s
        transport = ScriptedTransport(script or supervisor(), delay_s=delay)
        async with AgentPool(endpoints, transport=transport, **options) as pool:
            return await use(pool), [call.messages[-1].content for _, call in transport.calls]

    return run_virtual(main())
