"""On a landscape whose best text is known, particles come nearer to it than as many random tries, over twenty seeds."""

import random
import statistics

from aurora_swarm.memory.embedders.wordllama import WordLlamaEmbedder
from aurora_swarm.pools.agent_pool import AgentPool
from aurora_swarm.swarms.models import Model
from aurora_swarm.swarms.particle_swarm import ParticleSwarm
from aurora_swarm.testing.landscape import Landscape
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint

PARTICLES, ROUNDS, SEEDS = 8, 12, 20


async def found_by_swarm(land: Landscape, seed: int) -> float:
    transport = ScriptedTransport(land.writer(seed))
    async with AgentPool([AgentEndpoint("node", 8000)], transport=transport) as pool:
        swarm = ParticleSwarm(
            Model(backend=pool), f"Write {land.length} words.", land.fitness, PARTICLES, rounds=ROUNDS, seed=seed
        )
        outcome = await swarm.run()
    assert len(transport.calls) == PARTICLES * ROUNDS
    return outcome.fitness


async def found_by_draws(land: Landscape, seed: int) -> float:
    dice = random.Random(seed)
    return max(await land.fitnesses([land.mixed([], dice) for _ in range(PARTICLES * ROUNDS)]))


def test_the_swarm_is_as_good_as_the_best_of_as_many_random_tries_or_better() -> None:
    async def main() -> list[tuple[float, float]]:
        embedder = WordLlamaEmbedder()
        lands = [(Landscape(seed, embedder), seed) for seed in range(SEEDS)]
        return [(await found_by_swarm(*each), await found_by_draws(*each)) for each in lands]

    pairs = run_virtual(main())
    swarm, draws = (statistics.mean(each) for each in zip(*pairs, strict=True))
    wins = sum(ours >= theirs for ours, theirs in pairs)
    figure = f"swarm {swarm:.3f}, best of as many random texts {draws:.3f}, {wins} of {SEEDS} seeds as good or better"
    print(figure)  # noqa: T201 - shown with pytest -rP
    assert swarm > draws + 0.05, figure
    assert wins >= 18, figure
