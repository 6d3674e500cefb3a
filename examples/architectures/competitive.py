"""The same question for several agents: what most of them say, and what a check lets through."""

import asyncio
import sys

from pydantic import BaseModel, Field

from aurora_swarm.swarms.architectures.competitive import Competitive, CompetitiveAgent
from aurora_swarm.swarms.models import Model

TEXT = "The pilot Omar Haddad moved to Zagreb last spring."
TASK = f"""Read the text and say in which city the person is.

Text: In Milan, Rosa Conti is known as a good dancer.
Answer: {{"city": "Milan"}}

Text: {TEXT}
Answer:"""


class Answer(BaseModel):
    """Where the person is."""

    city: str = Field(max_length=24)


def stands_in_the_text(response):
    return Answer.model_validate_json(response.text).city in TEXT


async def main(backend: str) -> None:
    model = Model("", backend, temperature=0.7, max_tokens=32)
    async with model.opened():
        for what, evaluation, size in (("agreement", "agreement", 5), ("a check", stands_in_the_text, 3)):
            outcome = await Competitive((CompetitiveAgent(model),) * size, evaluation, schema=Answer).run(TASK)
            said = [part.output.city if part.ok else str(part.error) for part in outcome.parts]
            print(f"By {what}: {outcome.output or outcome.error} of {said}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://"))
