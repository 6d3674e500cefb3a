"""A search whose best answer is known: words that are to come as near as possible to a target text.

A text is as good as its embedding is similar to the target's. Writers are simulated: each knows a vocabulary and what
its prompt shows it, and mixes the words of those texts with now and then one of its own. So two ways to search can be
compared with the same writer at the same number of calls.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

from aurora_swarm.ports.embedder import Embedder
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint

_SHOWN = re.compile(r"<text [^>]*>\n(.*?)\n</text>", re.DOTALL)
_VOCABULARY = (
    "anchor army bakery basket blood bridge butter candle carpet castle cloud copper cotton dance desert doctor "
    "dragon driver eagle earth ember energy engine falcon finger fire flower forest garden glacier glass ground "
    "guitar hammer harbor harvest horse hotel hunter insect invoice iron island jacket joke jungle justice kettle "
    "king kitchen knife ladder lantern lemon letter market meadow mirror money monkey mountain needle number "
    "nurse ocean office onion orchard paper pencil people pepper quartz queen question rabbit ribbon river rocket "
    "saddle school signal silver soldier table teacher temple thunder tree umbrella uncle university valley "
    "village violin voice wagon water whale window winter xylophone year yellow young zebra zero"
)


class Landscape:
    """One target among all texts of so many words.

    Args:
        seed: Of the target.
        embedder: By which texts are compared.
        length: Words of a text.
    """

    def __init__(self, seed: int, embedder: Embedder, *, length: int = 12) -> None:
        self.vocabulary = tuple(_VOCABULARY.split())
        self.length = length
        dice = random.Random(f"target {seed}")  # noqa: S311 - nothing secret; other dice than a writer's of the same seed
        self.target = " ".join(dice.sample(self.vocabulary, length))
        self._embedder = embedder

    async def fitness(self, text: str) -> float:
        """The similarity of a text to the target, -1 to 1."""
        return (await self.fitnesses([text]))[0]

    async def fitnesses(self, texts: Sequence[str]) -> list[float]:
        """Those of many."""
        vectors = await self._embedder.embed([*texts, self.target])
        similar: list[float] = (vectors[:-1] @ vectors[-1]).tolist()
        return similar

    def writer(self, seed: int, *, own: float = 0.1) -> Callable[[Call, AgentEndpoint], str]:
        """A script for a `ScriptedTransport`: who writes a text for a prompt.

        Args:
            seed: Of its dice.
            own: Share of the words that it makes up.
        """
        dice = random.Random(seed)  # noqa: S311 - nothing secret

        def script(call: Call, endpoint: AgentEndpoint) -> str:  # noqa: ARG001 - as a transport calls it
            return self.mixed(_SHOWN.findall(call.messages[-1].content), dice, own=own)

        return script

    def mixed(self, shown: Sequence[str], dice: random.Random, *, own: float = 0.1) -> str:
        """A text of words of those that are shown, place by place; of any words when none is.

        Args:
            shown: Texts of this landscape.
            dice: What decides.
            own: Share of the words that are none of theirs.
        """
        texts = [text.split() for text in shown]
        words = [
            dice.choice(self.vocabulary) if not texts or dice.random() < own else dice.choice(texts)[place]
            for place in range(self.length)
        ]
        return " ".join(words)
