"""Where OpenAI itself wants something else than what engines take."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, ConfigDict

from aurora_swarm.testing.faulty_server import FaultyServer
from aurora_swarm.testing.transport_contract import call_of
from aurora_swarm.transports.open import open_transport
from aurora_swarm.transports.openai_hosted import OpenAIHostedWire, is_strict
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.message import Message

USER = Message("user", "hi")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    size: int | None


class Nested(BaseModel):
    model_config = ConfigDict(extra="forbid")
    parts: list[Closed]


class Open(BaseModel):
    name: str


class Optional(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = ""


@pytest.mark.parametrize(("model", "strict"), [(Closed, True), (Nested, True), (Open, False), (Optional, False)])
def test_a_schema_is_strict_where_openai_takes_it_so(model: type[BaseModel], strict: bool) -> None:
    schema = model.model_json_schema()
    assert is_strict(schema) == strict
    call = Call((USER,), schema=msgspec.Raw(msgspec.json.encode(schema)))
    format_ = msgspec.json.decode(OpenAIHostedWire().encode(call, "m"))["response_format"]["json_schema"]
    assert format_.get("strict") == strict
    assert format_["schema"] == schema


@pytest.mark.parametrize("schema", [True, {}, {"type": "array", "items": {"type": "string"}}, {"type": "object"}])
def test_what_is_no_closed_object_is_not_strict(schema: Any) -> None:
    assert not is_strict(schema)


def test_the_bound_on_tokens_has_its_newer_name() -> None:
    call = Call((USER,), sampling=Sampling(max_tokens=9))
    for encode in (OpenAIHostedWire().encode, OpenAIHostedWire().encode_stream):
        body = msgspec.json.decode(encode(call, "m"))
        assert body["max_completion_tokens"] == 9
        assert "max_tokens" not in body


async def test_it_is_not_asked_for_its_load_nor_for_batches() -> None:
    async with FaultyServer() as server:
        transport = open_transport("openai", hosted=True)
        assert await transport.load(server.endpoint, timeout_s=5) is None
        assert (await transport.probe(server.endpoint, timeout_s=5)).models == ()
        assert (await transport.send(server.endpoint, call_of("x", "m"), timeout_s=5)).text == "x"
        assert len((await transport.embed(server.endpoint, ["a"], model="m", timeout_s=5)).vectors) == 1
        await transport.aclose()
    assert [r.path for r in server.requests] == ["/v1/models", "/v1/chat/completions", "/v1/embeddings"]
