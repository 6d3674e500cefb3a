"""Trees of supervisors over answers of any length: no prompt overflows its context."""

import random

import pytest

from aurora_swarm import errors
from aurora_swarm.patterns.tree_reduce import tree_reduce
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import Reply, Usage

CONTEXT = 8_192
LONGEST = 5_000
ENDPOINTS = [AgentEndpoint(f"node{i}", 8000) for i in range(8)]


class Model:
    """Counts tokens exactly, as its text has them, and refuses what its context does not hold.

    Args:
        seed: Of its answers' lengths.
        characters: That make a token.
    """

    def __init__(self, seed, characters):
        self.dice = random.Random(seed)
        self.characters = characters
        self.overflows = 0
        self.reduces = 0

    def tokens(self, text):
        return -(-len(text) // self.characters) + 12

    def __call__(self, call, endpoint):
        prompt = call.messages[-1].content
        counted = self.tokens(prompt)
        if counted + (call.sampling.max_tokens or 1) > CONTEXT:
            self.overflows += 1
            return errors.RequestRejectedError(f"{counted} tokens are too many")
        self.reduces += prompt.startswith("Merge")
        wanted = self.dice.randint(1, LONGEST) if self.dice.random() < 0.8 else LONGEST
        made = min(wanted, call.sampling.max_tokens or LONGEST)
        return Reply("x" * (self.characters * made), usage=Usage(counted, made))


@pytest.mark.parametrize("characters", [1, 2, 3, 4, 6])
def test_no_supervisor_is_given_more_than_its_context_holds(characters):
    model = Model(characters, characters)

    async def main():
        transport = ScriptedTransport(model, delay_s=0.01)
        async with VLLMPool(
            ENDPOINTS,
            "m",
            LONGEST,
            max_tokens_aggregation=1_000,
            model_max_context=CONTEXT,
            transport=transport,
            use_batch=False,
        ) as pool:
            for tree in range(200):
                count = model.dice.randint(1, 40)
                result = await tree_reduce(
                    pool, "Report on {item}", "Merge:\n{responses}", model.dice.randint(2, 60), range(count)
                )
                assert result.success, f"tree {tree}: {result.error}"
                assert result.n_ok == count

    run_virtual(main())
    assert model.reduces >= 400
    assert model.overflows == 0
