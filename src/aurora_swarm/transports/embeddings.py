"""OpenAI embeddings: texts in, vectors out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aurora_swarm.errors import BadResponseError
from aurora_swarm.transports.parts import by_place
from aurora_swarm.transports.wire import WireUsage, decoded, encoded, raise_reported, usage_of
from aurora_swarm.values.reply import Embeddings


class _Request(msgspec.Struct, omit_defaults=True):
    input: list[str]
    model: str = ""


class _Item(msgspec.Struct):
    index: int
    embedding: tuple[float, ...]


class _Answer(msgspec.Struct):
    data: list[_Item]
    usage: WireUsage | None = None
    model: str | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class EmbeddingsWire:
    """``POST /v1/embeddings``."""

    path = "/v1/embeddings"

    def encode(self, texts: Sequence[str], model: str) -> bytes:
        """The request's body.

        Raises:
            RequestRejectedError: A text cannot be carried by JSON.
        """
        return encoded(_Request(list(texts), model))

    def decode(self, body: bytes, count: int) -> Embeddings:
        """One vector per text, in the order of the texts, whatever the order of the answer.

        Args:
            body: The body of a 2xx answer.
            count: How many texts were sent.

        Raises:
            ServerError: The body is an error object.
            BadResponseError: A vector is missing, doubled or empty, or their lengths differ.
        """
        answer = decoded(_ANSWER, body)
        if not answer.data:
            raise_reported(body)
        places = by_place([item.index for item in answer.data], count)
        if len(places) != count:
            raise BadResponseError(f"{count} texts were sent, {len(places)} vectors came")
        vectors = tuple(answer.data[places[index]].embedding for index in range(count))
        if len({len(vector) for vector in vectors}) != 1 or not vectors[0]:
            raise BadResponseError("the vectors are empty, or of different lengths")
        return Embeddings(vectors, usage_of(answer.usage), answer.model or "")
