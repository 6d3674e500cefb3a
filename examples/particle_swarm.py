"""Agents search for a sentence, as particles: each is shown what lies where it heads, and writes the next one."""

import asyncio
import sys

from aurora_swarm import Model
from aurora_swarm.memory.open import open_store
from aurora_swarm.swarms.particle_swarm import ParticleSwarm

WANTED = "The keeper lights the lamp at dusk so that ships find the harbor."


async def main(backend: str) -> None:
    async with open_store("memory://") as store:
        [wanted] = await store.embedder.embed([WANTED])

        async def likeness(text: str) -> float:
            [found] = await store.embedder.embed([text])
            return float(found @ wanted)

        swarm = ParticleSwarm(
            Model(backend=backend, temperature=0.9, max_tokens=32),
            "Write one sentence about a lighthouse.",
            likeness,
            particles=3,
            rounds=3,
            store=store,
        )
        outcome = await swarm.run()
    for move in outcome.history:
        print(f"round {move.round}, particle {move.particle}: {move.fitness or move.error} {move.text[:70]!r}")
    print(f"\nbest after each round: {', '.join(f'{best:.2f}' for best in outcome.bests)}")
    print(f"{outcome.best!r} ({outcome.stopped}; {outcome.usage.total_tokens} tokens)")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://"))
