"""A text that no context holds is cut and searched; the answer names the chunk that it comes from."""

import asyncio
import sys

from aurora_swarm import Model
from aurora_swarm.memory.open import open_store
from aurora_swarm.swarms.cited_answers import cited_answer
from aurora_swarm.swarms.long_objective import LongObjective
from aurora_swarm.testing.haystack import haystack


async def main(backend: str) -> None:
    journal = haystack(6, 20_000, facts=2, count=lambda text: len(text) // 4)  # of many research stations
    async with (
        open_store("memory://") as store,
        LongObjective.open(journal.text, store) as objective,
        Model(backend=backend, temperature=0).opened() as mind,
    ):
        print(f"{len(objective.chunks)} chunks, {len(objective.passages)} passages, in {objective.path}")
        for fact in journal.facts:
            answer = await cited_answer(objective, fact.question, mind, max_chars=100)
            print(f"\n{fact.question}\n  {answer.text or answer.error}")
            for number, passage in enumerate(answer.shown, 1):
                print(f"  {number}. in chunk {passage.chunk}: {' '.join(passage.text.split())[:90]}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://"))
