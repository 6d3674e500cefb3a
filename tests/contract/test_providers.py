"""The wires of hosted providers keep the transport contract too, and no fault on them is taken for an answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from aurora_swarm.errors import (
    AttemptTimeoutError,
    AuthenticationError,
    BadResponseError,
    CallError,
    ConnectionLostError,
    OverloadedError,
    RequestRejectedError,
    ServerError,
    TruncatedError,
    WrongModelError,
)
from aurora_swarm.ports.transport import Transport
from aurora_swarm.testing import answers, provider_answers
from aurora_swarm.testing.faulty_server import GARBAGE, HANG, HTML, Answer, FaultyServer, Request
from aurora_swarm.testing.transport_contract import Act, MakeStage, Stage, TransportContract, call_of
from aurora_swarm.transports.open import open_transport
from aurora_swarm.values.endpoint import AgentEndpoint

KEY = "sk-canary-77aa01"
NAMES = {"anthropic": "claude-test", "bedrock": "anthropic.claude-test-v1:0"}


def said_last(request: Request) -> str:
    """What the last message of a request says."""
    return "".join(block.get("text", "") for block in request.json()["messages"][-1]["content"])


def repeat(request: Request) -> Answer:
    """A provider that answers with the prompt, whole or streamed; Bedrock knows no list of models."""
    if request.method == "GET":
        return Answer() if request.path == "/v1/models" else Answer(b'{"message": "no such operation"}', 404)
    text = said_last(request)
    if request.path == "/v1/messages":
        value = provider_answers.anthropic(text, prompt=text, model=request.json()["model"])
        if request.json().get("stream"):
            return Answer(provider_answers.anthropic_stream(value), headers={"content-type": "text/event-stream"})
        return Answer(answers.encode(value))
    value = provider_answers.converse(text, prompt=text)
    if request.path.endswith("/converse-stream"):
        kind = {"content-type": "application/vnd.amazon.eventstream"}
        return Answer(provider_answers.converse_stream(value), headers=kind, framing="chunked")
    return Answer(answers.encode(value))


def failing(kind: str) -> Answer:
    if kind == "anthropic":
        return Answer(answers.encode(provider_answers.anthropic_error("api_error", "Internal server error")), 500)
    return Answer(b'{"message": "The system encountered an unexpected error."}', 500)


def busy(kind: str) -> Answer:
    if kind == "anthropic":
        return Answer(answers.encode(provider_answers.anthropic_error("overloaded_error", "Overloaded")), 529)
    return Answer(b'{"message": "Too many requests, please wait before trying again."}', 429)


@asynccontextmanager
async def provider(kind: str, act: Act, model: str, **options: Any) -> AsyncIterator[Stage]:
    script = {Act.REPEAT: repeat, Act.FAIL: failing(kind), Act.BUSY: busy(kind), Act.HANG: HANG}[act]
    async with FaultyServer(script) as server:
        transport = open_transport(kind, api_key=KEY, **options)

        def asked() -> int:
            return sum(request.method == "POST" for request in server.requests)

        yield Stage(Named(transport, model), server.endpoint, asked, "", batches=False)
        await transport.aclose()


class Named:
    """Fills in the model, which the suite leaves out and which a provider is never asked to choose."""

    def __init__(self, inner: Transport, model: str) -> None:
        self._inner = inner
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def send(self, endpoint: AgentEndpoint, call: Any, *, timeout_s: float) -> Any:
        return self._inner.send(endpoint, self._named(call), timeout_s=timeout_s)

    def stream(self, endpoint: AgentEndpoint, call: Any, *, timeout_s: float) -> Any:
        return self._inner.stream(endpoint, self._named(call), timeout_s=timeout_s)

    def _named(self, call: Any) -> Any:
        return msgspec.structs.replace(call, model=call.model or self._model)


class TestAnthropic(TransportContract):
    @pytest.fixture
    def stage(self) -> MakeStage:
        return lambda act: provider("anthropic", act, NAMES["anthropic"])


class TestBedrock(TransportContract):
    @pytest.fixture
    def stage(self) -> MakeStage:
        return lambda act: provider("bedrock", act, NAMES["bedrock"])


class TestAnthropicAlwaysStreamed(TransportContract):
    @pytest.fixture
    def stage(self) -> MakeStage:
        return lambda act: provider("anthropic", act, NAMES["anthropic"], streamed=True)


# -- what is asked --------------------------------------------------------------------------------------------------


async def test_anthropic_gets_its_key_and_version_in_its_own_headers() -> None:
    async with FaultyServer(repeat) as server:
        transport = open_transport("anthropic", api_key=KEY)
        await transport.send(server.endpoint, call_of("x", "m"), timeout_s=5)
        await transport.aclose()
    headers = server.requests[0].headers
    assert (headers["x-api-key"], headers["anthropic-version"]) == (KEY, "2023-06-01")
    assert "authorization" not in headers


async def test_bedrock_gets_its_key_as_a_bearer_token_and_the_model_in_its_path() -> None:
    async with FaultyServer(repeat) as server:
        transport = open_transport("bedrock", api_key=KEY)
        await transport.send(server.endpoint, call_of("x", NAMES["bedrock"]), timeout_s=5)
        arn = "arn:aws:bedrock:us-east-1:1:inference-profile/us.x"
        [_ async for _ in transport.stream(server.endpoint, call_of("x", arn), timeout_s=5)]
        await transport.aclose()
    assert [request.path for request in server.requests] == [
        "/model/anthropic.claude-test-v1%3A0/converse",
        "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.x/converse-stream",
    ]
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}


async def test_bedrock_without_a_model_is_refused_before_anything_is_sent() -> None:
    async with FaultyServer(repeat) as server:
        transport = open_transport("bedrock", api_key=KEY)
        for ask in ASKS.values():
            with pytest.raises(RequestRejectedError, match="by name"):
                await ask(transport, server.endpoint, "")
        await transport.aclose()
    assert server.requests == []


async def test_anthropics_list_of_models_is_no_list_of_the_names_that_it_takes() -> None:
    async with FaultyServer(repeat) as server:
        transport = open_transport("anthropic", api_key=KEY)
        assert (await transport.probe(server.endpoint, timeout_s=5)).models == ()
        assert await transport.load(server.endpoint, timeout_s=5) is None
        await transport.aclose()
    assert [request.path for request in server.requests] == ["/v1/models"]


# -- faults ---------------------------------------------------------------------------------------------------------


async def ask_whole(transport: Transport, endpoint: AgentEndpoint, model: str = "m") -> object:
    return await transport.send(endpoint, call_of("x", model), timeout_s=5)


async def ask_streamed(transport: Transport, endpoint: AgentEndpoint, model: str = "m") -> object:
    return [delta async for delta in transport.stream(endpoint, call_of("x", model), timeout_s=5)]


ASKS: dict[str, Callable[..., Any]] = {"whole": ask_whole, "streamed": ask_streamed}

FAULTS: dict[str, tuple[Answer, type[CallError]]] = {
    "garbage": (GARBAGE, BadResponseError),
    "reset": (Answer(b"{}", cut_at=0, end="reset"), ConnectionLostError),
    "closed": (Answer(b"{}", cut_at=0, end="close"), ConnectionLostError),
    "a gateway's HTML": (HTML, ServerError),
    "500": (Answer(b"{}", 500), ServerError),
    "424": (Answer(b'{"message": "The model failed."}', 424), ServerError),
    "429": (Answer(b"{}", 429), OverloadedError),
    "503": (Answer(b"{}", 503), OverloadedError),
    "529": (Answer(b"{}", 529), OverloadedError),
    "400": (Answer(b'{"message": "bad"}', 400), RequestRejectedError),
    "401": (Answer(b"{}", 401), AuthenticationError),
    "403": (Answer(b'{"Message": "no access"}', 403), AuthenticationError),
    "404 of a model": (
        Answer(answers.encode(provider_answers.anthropic_error("not_found_error", "model: claude-0")), 404),
        WrongModelError,
    ),
    "408": (Answer(b'{"message": "The model timed out."}', 408), AttemptTimeoutError),
}

JUNK: dict[str, tuple[bytes, type[CallError]]] = {
    "HTML with status 200": (b"<html>welcome</html>", BadResponseError),
    "an empty body": (b"", BadResponseError),
    "null": (b"null", BadResponseError),
    "wrong types": (b'{"content": 7, "output": 7, "stopReason": 7, "stop_reason": 7}', BadResponseError),
    "no reason": (b'{"content": [], "output": {"message": {"content": []}}}', BadResponseError),
    "an error object with status 200": (answers.encode(provider_answers.anthropic_error("e", "boom")), ServerError),
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("way", ASKS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_is_the_right_error(kind: str, way: str, fault: str) -> None:
    answer, expected = FAULTS[fault]
    assert type(await error_of(kind, ASKS[way], answer)) is expected


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("fault", JUNK)
async def test_junk_is_no_answer(kind: str, fault: str) -> None:
    body, expected = JUNK[fault]
    assert type(await error_of(kind, ask_whole, Answer(body))) is expected
    assert type(await error_of(kind, ask_streamed, Answer(body, framing="chunked"))) in {
        expected,
        TruncatedError,
        BadResponseError,
    }


async def error_of(kind: str, ask: Callable[..., Any], answer: Answer) -> CallError:
    async with FaultyServer(answer) as server:
        transport = open_transport(kind, api_key=KEY)
        with pytest.raises(CallError) as caught:
            await ask(transport, server.endpoint)
        await transport.aclose()
        assert caught.value.endpoint == server.url
    return caught.value


STREAMS = {
    "anthropic": provider_answers.anthropic_stream(
        provider_answers.anthropic("Hé llo", prompt="a b", calls=[("add", {"a": 1, "b": "🐝"})])
    ),
    "bedrock": provider_answers.converse_stream(
        provider_answers.converse("Hé llo", prompt="a b", calls=[("add", {"a": 1, "b": "🐝"})])
    ),
}


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_stream_cut_anywhere_on_a_real_socket_is_never_ok(kind: str, framing: Any) -> None:
    body, dice = STREAMS[kind], random.Random(4)
    end = len(body) + (20 if framing == "chunked" else 0)
    cuts = [
        *dice.sample(range(len(body) - 9), 60),
        *range(len(body) - 9, len(body) - (2 if kind == "anthropic" else 0)),
    ]
    given = {f"m{number}": at for number, at in enumerate(cuts)}

    def script(request: Request) -> Answer:
        model = request.json().get("model") or request.path.split("/")[2]
        return Answer(body, framing=framing, cut_body_at=given.get(model, end))

    async with FaultyServer(script) as server:
        transport = open_transport(kind, api_key=KEY, max_connections=16)

        async def ask(model: str) -> object:
            try:
                return await ask_streamed(transport, server.endpoint, model)
            except CallError as error:
                return type(error)

        outcomes = await asyncio.gather(*map(ask, given))
        await transport.aclose()
    assert set(outcomes) <= {TruncatedError, ConnectionLostError}


@pytest.mark.parametrize(
    ("kind", "event", "expected"),
    [
        ("anthropic", provider_answers.anthropic_error("overloaded_error", "Overloaded"), OverloadedError),
        ("anthropic", provider_answers.anthropic_error("rate_limit_error", "slow down"), OverloadedError),
        ("anthropic", provider_answers.anthropic_error("api_error", "Overloaded soul"), ServerError),
        ("bedrock", "throttlingException", OverloadedError),
        ("bedrock", "serviceUnavailableException", OverloadedError),
        ("bedrock", "modelStreamErrorException", ServerError),
        ("bedrock", "validationException", RequestRejectedError),
    ],
)
async def test_an_error_in_mid_stream_is_an_error_with_the_providers_words(
    kind: str, event: Any, expected: type[CallError]
) -> None:
    begun = STREAMS[kind][: STREAMS[kind].find(b"event: content_block_delta")]
    failure = provider_answers.anthropic_event(event) if kind == "anthropic" else b""
    if kind == "bedrock":
        begun = provider_answers.event_message("messageStart", {"role": "assistant"})
        failure = provider_answers.event_message(event, {"message": "Overloaded by far"}, message_type="exception")
    error = await error_of(kind, ask_streamed, Answer(begun + failure, framing="chunked"))
    assert type(error) is expected
    assert error.problem != "the server reports: "


@pytest.mark.parametrize("kind", NAMES)
async def test_a_key_never_stands_in_an_error(kind: str) -> None:
    def echo(request: Request) -> Answer:
        sent = request.headers.get("x-api-key") or request.headers.get("authorization", "")
        return Answer(answers.encode({"message": f"the key {sent} is wrong"}), 400)

    async with FaultyServer(echo) as server:
        transport = open_transport(kind, api_key=KEY)
        for ask in ASKS.values():
            with pytest.raises(RequestRejectedError, match=r"\*\*\*") as caught:
                await ask(transport, server.endpoint)
            assert "canary" not in f"{caught.value!r} {caught.value} {caught.value.as_dict()}"
        await transport.aclose()
    assert all(KEY in str(request.headers) for request in server.requests)
