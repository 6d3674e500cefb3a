"""Agents on a fleet that answers by a script, in virtual time."""

import random
import re

from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import EndpointInfo, Reply, Usage

ERROR = "the-text-of-an-error"


def words(text):
    return len(text.split())


def counted(script):
    """The script, with usage of a token per word."""

    def answer(call, endpoint):
        said = script("\n".join(m.content for m in call.messages))
        if not isinstance(said, str):
            return said
        return Reply(said, usage=Usage(sum(words(m.content) for m in call.messages), words(said)))

    return answer


def on_agents(use, script, *, context=100_000, delay_s=None, seed=1, n=8):
    """Runs a function of a pool; gives its result, and the prompts that were sent, system first.

    Args:
        use: Coroutine function of the pool.
        script: A prompt's answer, or its error.
        context: What each endpoint holds.
        delay_s: Seconds for a call; around 0.1 when None.
        seed: Of the delays.
        n: Endpoints.
    """
    dice = random.Random(seed)

    async def main():
        transport = ScriptedTransport(
            counted(script),
            delay_s=delay_s or (lambda call, endpoint: dice.uniform(0.05, 0.15)),
            info=EndpointInfo(models=("scripted",), max_context=context),
        )
        endpoints = [AgentEndpoint(f"node{place}", 8000) for place in range(n)]
        async with VLLMPool(endpoints, "scripted", 50, transport=transport) as pool:
            result = await use(pool)
            return result, ["\n".join(m.content for m in call.messages) for _, call in transport.calls]

    return run_virtual(main())


def among(prompt):
    """The answers that a prompt shows between its marks."""
    return re.findall(r'<answer n="\d+">\n(.*?)\n</answer>', prompt, re.DOTALL)
