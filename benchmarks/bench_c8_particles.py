"""C8: does a particle swarm come nearer to a known best text than other ways to spend the same calls?

The writers are simulated, so that the figure is about the search; one run on the embedded model stands beside it.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Awaitable, Callable, Sequence

import harness
from aurora_swarm.memory.embedders.wordllama import WordLlamaEmbedder
from aurora_swarm.pools.agent_pool import AgentPool
from aurora_swarm.swarms.mind import Thought
from aurora_swarm.swarms.models import Model, OpenAI
from aurora_swarm.swarms.particle_swarm import ParticleSwarm
from aurora_swarm.testing.landscape import Landscape
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint

PARTICLES, SHOWN = 8, 4
OBJECTIVE = "Write one sentence about a lighthouse."
TARGET = "The keeper lights the lamp at dusk so that ships find the harbor."
MODEL_PARTICLES, MODEL_ROUNDS, MODEL_TOKENS = 4, 5, 32

OPTIONS = harness.arguments(__doc__)
SEEDS = 4 if OPTIONS.quick else 20
ROUNDS = 8 if OPTIONS.quick else 20
CALLS = PARTICLES * ROUNDS

Way = Callable[[Landscape, int], Awaitable[float]]


def dice_of(seed: int) -> random.Random:
    return random.Random(f"baseline {seed}")


async def swarm(land: Landscape, seed: int, *, neighbours: int | None = None) -> float:
    """The particle swarm as it is shipped."""
    transport = ScriptedTransport(land.writer(seed))
    async with AgentPool([AgentEndpoint("node", 8000)], transport=transport) as pool:
        particles = ParticleSwarm(
            Model(backend=pool),
            f"Write {land.length} words.",
            land.fitness,
            PARTICLES,
            rounds=ROUNDS,
            shown=SHOWN,
            neighbours=neighbours,
            seed=seed,
        )
        outcome = await particles.run()
    assert len(transport.calls) == CALLS
    return outcome.fitness


async def neighbourhood(land: Landscape, seed: int) -> float:
    """The same, each particle looking to its twelve nearest texts."""
    return await swarm(land, seed, neighbours=12)


async def draws(land: Landscape, seed: int) -> float:
    """As many random texts."""
    dice = dice_of(seed)
    return max(await land.fitnesses([land.mixed([], dice) for _ in range(CALLS)]))


async def climbs(land: Landscape, seed: int) -> float:
    """Hill climbing from as many random starts as there are particles: each writer is shown its own best text."""
    dice = dice_of(seed)
    found = []
    for _ in range(PARTICLES):
        text = land.mixed([], dice)
        fitness = await land.fitness(text)
        for _ in range(ROUNDS - 1):
            other = land.mixed([text], dice)
            better = await land.fitness(other)
            text, fitness = (other, better) if better > fitness else (text, fitness)
        found.append(fitness)
    return max(found)


async def any_texts(land: Landscape, seed: int) -> float:
    """Each writer is shown texts of the swarm, drawn by chance."""
    dice = dice_of(seed)
    return await _archive(land, dice, lambda archive: dice.sample(archive, SHOWN))


async def fittest_texts(land: Landscape, seed: int) -> float:
    """All writers are shown the fittest texts of the swarm."""
    return await _archive(land, dice_of(seed), lambda archive: sorted(archive, reverse=True)[:SHOWN])


async def _archive(
    land: Landscape,
    dice: random.Random,
    pick: Callable[[list[tuple[float, str]]], Sequence[tuple[float, str]]],
) -> float:
    archive: list[tuple[float, str]] = []
    for _ in range(ROUNDS):
        shown = [[text for _, text in pick(archive)] if archive else [] for _ in range(PARTICLES)]
        texts = [land.mixed(each, dice) for each in shown]
        archive += zip(await land.fitnesses(texts), texts, strict=True)
    return max(archive)[0]


WAYS: dict[str, Way] = {
    "particle swarm": swarm,
    "particle swarm, 12 neighbours": neighbourhood,
    "as many random texts": draws,
    "hill climbing, 8 random restarts": climbs,
    "shown any 4 texts of the swarm": any_texts,
    "shown the 4 fittest texts of all": fittest_texts,
}


async def on_landscapes() -> dict[str, list[float]]:
    """Every way on every seed."""
    embedder = WordLlamaEmbedder()
    lands = [Landscape(seed, embedder) for seed in range(SEEDS)]
    return {name: [await way(land, seed) for seed, land in enumerate(lands)] for name, way in WAYS.items()}


async def on_the_embedded_model() -> str:
    """What the swarm finds there, beside as many calls that know nothing of each other."""
    embedder = WordLlamaEmbedder()
    [wanted] = await embedder.embed([TARGET])

    async def fitness(text: str) -> float:
        return float((await embedder.embed([text]))[0] @ wanted)

    model = OpenAI(base_url="local://", temperature=0.9, max_tokens=MODEL_TOKENS)
    async with model.opened() as mind:
        particles = ParticleSwarm(model, OBJECTIVE, fitness, MODEL_PARTICLES, rounds=MODEL_ROUNDS)
        outcome = await particles.run()
        alone = [await mind.think(Thought(prompt=OBJECTIVE)) for _ in outcome.history]
    best = max([await fitness(result.text) for result in alone if result.ok])
    return (
        f"The embedded model, {MODEL_PARTICLES} particles, {MODEL_ROUNDS} rounds, one target sentence: "
        f"{outcome.bests[0]:.3f} after the first round, {outcome.fitness:.3f} at the end; the best "
        f"of {len(alone)} calls that know nothing of each other has {best:.3f}. One run, and a model of 135 million "
        "parameters: this shows that it runs, not what it is worth."
    )


def measure() -> harness.Report:
    """All of it, as a report."""
    report = harness.Report(
        "c8_particles",
        "C8",
        "Does a particle swarm come nearer to a known best text than other ways to spend the same calls?",
        f"{SEEDS} targets of 12 words out of a vocabulary of 107; fitness is the cosine to the target's embedding. "
        f"Each way has {CALLS} calls of the same simulated writer, which mixes the words of the texts in its prompt "
        "and makes up every tenth. Means over the targets.",
        ("way", "mean", "least", "best of all ways", "as good as the swarm or better"),
    )
    seen = run_virtual(on_landscapes())
    ours = seen["particle swarm"]
    for name, values in seen.items():
        tops = sum(value == max(each) for value, each in zip(values, zip(*seen.values(), strict=True), strict=True))
        beaten = sum(value >= own for value, own in zip(values, ours, strict=True))
        report.row(name, statistics.mean(values), min(values), tops, beaten)
    for name in ("as many random texts", "hill climbing, 8 random restarts"):
        pairs = list(zip(ours, seen[name], strict=True))
        gain = statistics.mean(a - b for a, b in pairs)
        wins = sum(a >= b for a, b in pairs)
        report.goal(f"similarity that the swarm is ahead of {name}, mean over {SEEDS} targets", gain, at_least=0)
        report.goal(f"targets of {SEEDS} on which it is as good as {name} or better", wins, at_least=SEEDS / 2)
    report.notes.append(
        "Where there is one summit, as here, showing all writers the fittest texts of all climbs faster than moving "
        "particles. Positions are what keeps a swarm apart; this landscape does not reward it."
    )
    report.notes.append(asyncio.run(on_the_embedded_model()))
    return report


if __name__ == "__main__":
    harness.publish(measure(), quick=OPTIONS.quick)
