"""OpenAI's list of models, with what engines add to it."""

from __future__ import annotations

import msgspec

from aurora_swarm.transports.wire import decoded, raise_reported
from aurora_swarm.values.reply import EndpointInfo


class _Meta(msgspec.Struct):
    n_ctx: int | None = None


class _Model(msgspec.Struct):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None
    meta: _Meta | None = None


class _Answer(msgspec.Struct):
    data: list[_Model]


_ANSWER = msgspec.json.Decoder(_Answer)


class ModelsWire:
    """``GET /v1/models``."""

    path = "/v1/models"

    def decode(self, body: bytes) -> EndpointInfo:
        """Who serves what.

        The context is vLLM's and SGLang's ``max_model_len`` or llama.cpp's ``meta.n_ctx``, the engine is ``owned_by``.

        Raises:
            ServerError: The body is an error object.
            BadResponseError: It is no list of models.
        """
        models = decoded(_ANSWER, body).data
        if not models:
            raise_reported(body)
            return EndpointInfo()
        first = models[0]
        context = first.max_model_len or (first.meta.n_ctx if first.meta else None)
        return EndpointInfo(tuple(m.id for m in models), context, first.owned_by or "")
