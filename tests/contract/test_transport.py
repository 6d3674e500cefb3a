"""Every transport keeps the contract of its port; those over HTTP also survive every fault on the wire."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from aurora_swarm.errors import (
    AbortedError,
    AttemptTimeoutError,
    AuthenticationError,
    BadResponseError,
    BatchUnsupportedError,
    CallError,
    ConnectError,
    ConnectionLostError,
    OverloadedError,
    RequestRejectedError,
    ServerError,
    TruncatedError,
    UsageError,
    WrongModelError,
)
from aurora_swarm.pools.budgeted import BudgetedTransport
from aurora_swarm.pools.budgets import ContextBudget
from aurora_swarm.pools.facts import Facts
from aurora_swarm.testing import answers
from aurora_swarm.testing.faulty_server import (
    CLOSE,
    GARBAGE,
    HANG,
    HTML,
    OK,
    RESET,
    Answer,
    FaultyServer,
    Request,
    error_status,
)
from aurora_swarm.testing.http_contract import CLOSES_WITHIN_S, always
from aurora_swarm.testing.transport_contract import Act, MakeStage, Stage, TransportContract, call_of
from aurora_swarm.transports.open import open_transport
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message
from aurora_swarm.values.reply import Reply

KEY = "sk-canary-5f2c9e"
ACTS = {Act.REPEAT: OK, Act.FAIL: error_status(500), Act.BUSY: error_status(429), Act.HANG: HANG}


def batches(edit: Callable[[Any], Any] = lambda value: value) -> Callable[[Request], Answer]:
    """A server that also knows vLLM's batch of chats; `edit` changes what it answers there."""

    def script(request: Request) -> Answer:
        if not request.path.endswith("/chat/completions/batch"):
            return OK
        value = answers.completions([conversation[-1]["content"] for conversation in request.json()["messages"]])
        for choice in value["choices"]:
            choice["message"] = {"role": "assistant", "content": choice.pop("text")}
        return Answer(answers.encode(edit(value)))

    return script


@asynccontextmanager
async def over_http(kind: str, act: Act) -> AsyncIterator[Stage]:
    async with FaultyServer(batches() if act is Act.REPEAT else ACTS[act]) as server:
        transport = open_transport(kind, api_key=KEY)

        def asked() -> int:
            return sum(request.method == "POST" for request in server.requests)

        model = "" if kind == "generate" else answers.MODEL
        yield Stage(transport, server.endpoint, asked, model, kind != "generate")
        await transport.aclose()


class TestOpenAI(TransportContract):
    @pytest.fixture
    def stage(self) -> MakeStage:
        return lambda act: over_http("openai", act)


class TestCompletions(TransportContract):
    @pytest.fixture
    def stage(self) -> MakeStage:
        return lambda act: over_http("completions", act)


class TestBudgeted(TransportContract):
    @pytest.fixture
    def stage(self) -> MakeStage:
        @asynccontextmanager
        async def budgeted(act: Act) -> AsyncIterator[Stage]:
            async with over_http("openai", act) as it:
                facts = Facts(it.transport)
                transport = BudgetedTransport(it.transport, ContextBudget(), facts, max_context=10**6)
                yield it._replace(transport=transport)

        return budgeted


class TestGenerate(TransportContract):
    @pytest.fixture
    def stage(self) -> MakeStage:
        return lambda act: over_http("generate", act)


@asynccontextmanager
async def scripted(act: Act) -> AsyncIterator[Stage]:
    def script(call: Call, _: AgentEndpoint) -> str | CallError:
        failures = {Act.FAIL: ServerError("failed"), Act.BUSY: OverloadedError("busy")}
        return failures.get(act) or call.messages[-1].content

    transport = ScriptedTransport(script, delay_s=3600 if act is Act.HANG else 0)
    yield Stage(transport, AgentEndpoint("scripted"), lambda: len(transport.calls), "scripted")


class TestScripted(TransportContract):
    @pytest.fixture
    def stage(self) -> MakeStage:
        return scripted


# -- faults of the wire ---------------------------------------------------------------------------------------------

JSON_FAULTS: dict[str, tuple[Answer, type[CallError]]] = {
    "garbage": (GARBAGE, BadResponseError),
    "reset": (RESET, ConnectionLostError),
    "closed": (CLOSE, ConnectionLostError),
    "a gateway's HTML": (HTML, ServerError),
    "HTML with status 200": (Answer(b"<html>welcome</html>"), BadResponseError),
    "an empty body": (Answer(b""), BadResponseError),
    "half a JSON": (Answer(b'{"choices": [{"index": 0, "mes'), BadResponseError),
    "bytes that are no text": (Answer(b'{"choices": "\xff\xfe"}'), BadResponseError),
    "null": (Answer(b"null"), BadResponseError),
    "wrong types": (Answer(b'{"choices": [{"message": {"content": 7}}], "response": 7}'), BadResponseError),
    "an error object with status 200": (Answer(answers.encode(answers.error("out of memory"))), ServerError),
    "an error text with status 200": (Answer(b'{"error": "out of memory"}'), ServerError),
    "500": (error_status(500), ServerError),
    "504": (error_status(504), ServerError),
    "400": (error_status(400), RequestRejectedError),
    "413": (error_status(413), RequestRejectedError),
    "422": (Answer(b'{"detail": [{"loc": ["body", "x"], "msg": "bad"}]}', 422), RequestRejectedError),
    "401": (error_status(401), AuthenticationError),
    "403": (error_status(403), AuthenticationError),
    "404 of a path": (Answer(b'{"detail": "Not Found"}', 404), RequestRejectedError),
    "404 of a model": (error_status(404, "The model `x` does not exist."), WrongModelError),
    "408": (error_status(408), AttemptTimeoutError),
    "429": (error_status(429), OverloadedError),
    "503": (error_status(503), OverloadedError),
    "a redirect": (Answer(b"", 307, {"location": "http://127.0.0.1:1/"}), BadResponseError),
}


async def ask_whole(transport: Any, endpoint: AgentEndpoint, text: str = "x") -> object:
    return await transport.send(endpoint, call_of(text, "m"), timeout_s=5)


async def ask_streamed(transport: Any, endpoint: AgentEndpoint, text: str = "x") -> object:
    return [delta async for delta in transport.stream(endpoint, call_of(text, "m"), timeout_s=5)]


async def ask_many(transport: Any, endpoint: AgentEndpoint) -> object:
    return await transport.send_many(endpoint, [call_of("x", "m")], timeout_s=5)


async def ask_embeddings(transport: Any, endpoint: AgentEndpoint) -> object:
    return await transport.embed(endpoint, ["x"], model="m", timeout_s=5)


async def ask_probe(transport: Any, endpoint: AgentEndpoint) -> object:
    return await transport.probe(endpoint, timeout_s=5)


WAYS = {
    "generate": ("generate", ask_whole),
    "chat": ("openai", ask_whole),
    "chats": ("openai", ask_many),
    "completions": ("completions", ask_whole),
    "completions of many": ("completions", ask_many),
    "embeddings": ("openai", ask_embeddings),
    "models": ("openai", ask_probe),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fault", JSON_FAULTS)
async def test_every_fault_is_the_right_error_on_every_wire(way: str, fault: str) -> None:
    kind, ask = WAYS[way]
    answer, expected = JSON_FAULTS[fault]
    if way == "models" and answer.status == 404:
        expected = BadResponseError
    if ask is ask_many and fault == "404 of a path":
        expected = BatchUnsupportedError
    async with FaultyServer(always(answer)) as server:
        transport = open_transport(kind, api_key=KEY)
        with pytest.raises(CallError) as caught:
            await ask(transport, server.endpoint)
        await transport.aclose()
    assert type(caught.value) is expected
    assert caught.value.endpoint == server.url


STREAM_STATUS_FAULTS = [fault for fault in JSON_FAULTS if JSON_FAULTS[fault][0].status != 200]


@pytest.mark.parametrize("fault", [*STREAM_STATUS_FAULTS, "garbage", "reset", "closed"])
async def test_every_fault_before_a_stream_is_the_right_error(fault: str) -> None:
    answer, expected = JSON_FAULTS[fault]
    async with FaultyServer(always(answer)) as server:
        transport = open_transport("openai")
        with pytest.raises(CallError) as caught:
            await ask_streamed(transport, server.endpoint)
        await transport.aclose()
    assert type(caught.value) is expected


@pytest.mark.parametrize("reason", ["abort", "error"])
async def test_an_abort_is_never_a_reply(reason: str) -> None:
    def script(request: Request) -> Answer:
        if request.json().get("stream"):
            return Answer(answers.chat_stream(["half"], finish_reason=reason))
        return Answer(answers.encode(answers.chat("half", finish_reason=reason)))

    async with FaultyServer(script) as server:
        transport = open_transport("openai")
        for ask in (ask_whole, ask_streamed):
            with pytest.raises(AbortedError):
                await ask(transport, server.endpoint)
        await transport.aclose()


async def test_a_failure_within_a_stream_is_an_error_with_the_servers_words() -> None:
    body = answers.events([*_events(["a", "b"])[:2], answers.encode(answers.error("CUDA out of memory"))])
    async with FaultyServer(Answer(body, framing="chunked")) as server:
        transport = open_transport("openai")
        with pytest.raises(ServerError, match="CUDA out of memory"):
            await ask_streamed(transport, server.endpoint)
        await transport.aclose()


def _events(pieces: list[str]) -> list[bytes]:
    return [event.removeprefix(b"data: ") for event in answers.chat_stream(pieces).split(b"\n\n") if event]


def _bytes_on_the_wire(body: bytes, framing: str) -> int:
    if framing != "chunked":
        return len(body)
    sizes = [len(event) + 2 for event in body.split(b"\n\n") if event]
    return sum(len(f"{size:x}") + 4 + size for size in sizes) + len("0\r\n\r\n")


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_stream_cut_at_any_byte_is_never_ok(framing: Any) -> None:
    body = answers.chat_stream(["Hel", "lo, wör", "ld"], prompt="p")
    length = _bytes_on_the_wire(body, framing)
    outcomes: list[object] = []
    for first in range(0, length + 1, 64):
        cuts = range(first, min(first + 64, length + 1))
        outcomes += await asyncio.gather(*(_stream_cut(Answer(body, framing=framing), at) for at in cuts))
    *cut, whole = outcomes
    assert isinstance(whole, list)
    assert len(cut) > 500
    assert {type(outcome) for outcome in cut} <= {ConnectionLostError, TruncatedError}


async def _stream_cut(answer: Answer, at: int) -> object:
    async with FaultyServer(msgspec.structs.replace(answer, cut_body_at=at)) as server:
        transport = open_transport("openai", max_connections=4)
        try:
            return await ask_streamed(transport, server.endpoint)
        except CallError as error:
            return error
        finally:
            await transport.aclose()


async def test_choices_permuted_dropped_or_doubled_are_never_misattributed() -> None:
    dice = random.Random(20)
    count = {"right": 0, "missing": 0, "refused": 0}

    def edit(value: Any) -> Any:
        choices = value["choices"]
        dice.shuffle(choices)
        if dice.random() < 0.5:
            del choices[: dice.randrange(1, len(choices))]
        if dice.random() < 0.2:
            choices.insert(dice.randrange(len(choices)), dict(dice.choice(choices)))
        if dice.random() < 0.1:
            dice.choice(choices)["index"] = dice.choice([-1, 99])  # a lie within the range cannot be seen
        return value

    async with FaultyServer(batches(edit)) as server:
        transport = open_transport("openai")
        for _ in range(300):
            prompts = [f"prompt {dice.random()}" for _ in range(dice.randrange(2, 14))]
            calls = [call_of(prompt, "m") for prompt in prompts]
            try:
                parts = await transport.send_many(server.endpoint, calls, timeout_s=5)
            except BadResponseError:
                count["refused"] += 1
                continue
            for prompt, part in zip(prompts, parts, strict=True):
                if isinstance(part, Reply):
                    assert part.text == prompt
                    count["right"] += 1
                else:
                    assert isinstance(part, BadResponseError)
                    assert part.endpoint == server.url
                    count["missing"] += 1
        await transport.aclose()
    assert min(count.values()) > 20


async def test_an_api_key_never_stands_in_an_error() -> None:
    def echo(request: Request) -> Answer:
        said = request.headers.get("authorization", "") + "x" * 250 + request.headers.get("authorization", "")
        return statuses.pop()(said)

    statuses = [
        *(lambda said, s=status: error_status(s, said) for status in (400, 401, 404, 429, 500, 200)),
        lambda said: Answer(said.encode(), 400),
        lambda said: Answer(f"<html><title>{said}</title>".encode(), 502),
        lambda said: Answer(("x" * (295 - len(said) // 2) + said).encode(), 500),
        lambda said: Answer(answers.encode({"choices": [{"message": said}]})),
    ]
    async with FaultyServer(echo) as server:
        transport = open_transport("openai", api_key=KEY)
        while statuses:
            with pytest.raises(CallError) as caught:
                await ask_whole(transport, server.endpoint)
            shown = f"{caught.value!r} {caught.value} {caught.value.as_dict()}"
            assert "sk-can" not in shown
        await transport.aclose()
    assert all(request.headers["authorization"] == f"Bearer {KEY}" for request in server.requests)


@pytest.mark.parametrize("key", ["a\nb", "ключ"])
def test_a_key_that_no_header_carries_is_refused_unseen(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_transport("openai", api_key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("kind", ["openai", "generate"])
@pytest.mark.parametrize("ask", [ask_whole, ask_streamed])
async def test_a_lone_surrogate_is_refused_before_anything_is_sent(kind: str, ask: Any) -> None:
    async with FaultyServer() as server:
        transport = open_transport(kind)
        with pytest.raises(RequestRejectedError, match="surrogate"):
            await ask(transport, server.endpoint, "a\ud800b")
        await transport.aclose()
    assert server.requests == []


async def test_fifty_megabytes_of_prompt_come_back_unchanged() -> None:
    text = "0123456789 äöü " * (50 * 2**20 // 18)
    async with FaultyServer() as server:
        transport = open_transport("openai")
        reply = await transport.send(server.endpoint, call_of(text, "m"), timeout_s=60)
        await transport.aclose()
    assert reply.text == text


@pytest.mark.parametrize("ask", [ask_whole, ask_streamed, ask_many, ask_embeddings, ask_probe])
async def test_cancelling_closes_the_connection_as_the_server_sees_it(ask: Any) -> None:
    async with FaultyServer(always(HANG)) as server:
        transport = open_transport("openai")
        asking = asyncio.create_task(ask(transport, server.endpoint))
        await server.until(lambda: server.requests)
        await asyncio.sleep(0.02)
        cancelled_at = asyncio.get_running_loop().time()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await server.until(lambda: server.closed_early)
        await transport.aclose()
    assert server.closed_early[0].at - cancelled_at < CLOSES_WITHIN_S


async def test_leaving_a_streamed_answer_closes_its_connection() -> None:
    body = answers.chat_stream(["a"] * 50)
    async with FaultyServer(Answer(body, piece=200, pause_s=0.02, framing="chunked")) as server:
        transport = open_transport("openai")
        stream = transport.stream(server.endpoint, call_of("x", "m"), timeout_s=30)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        await server.until(lambda: server.closed_early)
        await transport.aclose()


# -- models and probes ----------------------------------------------------------------------------------------------


async def test_the_first_listed_model_is_asked_for_once_and_shared() -> None:
    async with FaultyServer(models=("first", "second")) as server:
        transport = open_transport("openai")
        await asyncio.gather(*(transport.send(server.endpoint, call_of("x"), timeout_s=5) for _ in range(20)))
        await transport.aclose()
    paths = [request.path for request in server.requests]
    assert paths.count("/v1/models") == 1
    assert {request.json()["model"] for request in server.requests if request.body} == {"first"}


async def test_asking_for_the_model_is_bounded_by_the_attempt() -> None:
    async with FaultyServer(always(HANG)) as server:
        transport = open_transport("openai")
        started = time.monotonic()
        asked = (transport.send(server.endpoint, call_of("x"), timeout_s=0.2) for _ in range(10))
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        await transport.aclose()
    assert {type(outcome) for outcome in outcomes} == {AttemptTimeoutError}
    assert time.monotonic() - started < 1.5


async def test_a_cancelled_asker_does_not_take_the_others_with_it() -> None:
    def slow_models(request: Request) -> Answer:
        return Answer(delay_s=0.1) if request.path == "/v1/models" else OK

    async with FaultyServer(slow_models) as server:
        transport = open_transport("openai")
        first, second = (
            asyncio.create_task(transport.send(server.endpoint, call_of(t), timeout_s=5)) for t in ("a", "b")
        )
        await server.until(lambda: server.requests)
        first.cancel()
        assert (await second).text == "b"
        with pytest.raises(asyncio.CancelledError):
            await first
        await transport.aclose()


async def test_a_server_that_changed_its_model_is_asked_again() -> None:
    gone = error_status(404, "The model `old` does not exist.")

    def script(request: Request) -> Answer:
        return gone if request.body and request.json()["model"] == "old" else OK

    async with FaultyServer(script, models=("old",)) as server:
        transport = open_transport("openai")
        with pytest.raises(WrongModelError):
            await transport.send(server.endpoint, call_of("x"), timeout_s=5)
        server.models = ("new",)
        assert (await transport.send(server.endpoint, call_of("x"), timeout_s=5)).text == "x"
        await transport.aclose()


async def test_a_server_without_a_list_of_models_is_known_by_its_health() -> None:
    def script(request: Request) -> Answer:
        return Answer(b"", 404) if request.path == "/v1/models" else OK

    async with FaultyServer(script) as server:
        transport = open_transport("openai")
        assert (await transport.probe(server.endpoint, timeout_s=5)).models == ()
        assert (await transport.send(server.endpoint, call_of("x"), timeout_s=5)).text == "x"
        await transport.aclose()
    assert "model" not in server.requests[-1].json()


@pytest.mark.parametrize(("status", "well"), [(405, True), (501, True), (422, True), (404, False)])
async def test_a_generate_server_without_health_is_known_by_its_path(status: int, well: bool) -> None:
    def script(request: Request) -> Answer:
        return Answer(b"", status if request.path == "/generate" else 404)

    async with FaultyServer(script) as server:
        transport = open_transport("generate")
        if well:
            await transport.probe(server.endpoint, timeout_s=5)
        else:
            with pytest.raises(BadResponseError, match="/health"):
                await transport.probe(server.endpoint, timeout_s=5)
        await transport.aclose()
    assert all(request.method == "GET" for request in server.requests)


async def test_a_probe_is_bounded_as_a_whole() -> None:
    def script(request: Request) -> Answer:
        return Answer(b"", 404, delay_s=0.15)

    async with FaultyServer(script) as server:
        transport = open_transport("openai")
        with pytest.raises(AttemptTimeoutError):
            await transport.probe(server.endpoint, timeout_s=0.25)
        await transport.aclose()


async def test_a_dead_endpoint_is_a_connect_error_of_the_probe() -> None:
    async with FaultyServer() as server:
        await server.stop()
        transport = open_transport("openai")
        with pytest.raises(ConnectError):
            await transport.probe(server.endpoint, timeout_s=5)
        await transport.aclose()


async def test_base_path_and_further_headers_are_used() -> None:
    async with FaultyServer() as server:
        endpoint = AgentEndpoint("127.0.0.1", server.endpoint.port, path="/base")
        transport = open_transport("openai", headers={"X-Team": "blue"})
        assert (await transport.send(endpoint, call_of("x", "m"), timeout_s=5)).text == "x"
        await transport.aclose()
    assert server.requests[0].path == "/base/v1/chat/completions"
    assert server.requests[0].headers["x-team"] == "blue"


async def test_calls_that_differ_cannot_share_a_request() -> None:
    async with FaultyServer() as server:
        transport = open_transport("openai")
        cold = Call((Message("user", "x"),), "m", Sampling(temperature=0))
        for other in (cold, call_of("x", "other")):
            with pytest.raises(RequestRejectedError):
                await transport.send_many(server.endpoint, [call_of("x", "m"), other], timeout_s=5)
        await transport.aclose()
    assert server.requests == []


async def test_an_endpoint_without_batches_is_asked_for_one_once() -> None:
    async with FaultyServer() as server:
        transport = open_transport("openai")
        for _ in range(2):
            with pytest.raises(BatchUnsupportedError, match="chat/completions/batch"):
                await transport.send_many(server.endpoint, [call_of("x", "m")] * 2, timeout_s=5)
        assert (await transport.send(server.endpoint, call_of("x", "m"), timeout_s=5)).text == "x"
        await transport.aclose()
    assert [request.path for request in server.requests] == ["/v1/chat/completions/batch", "/v1/chat/completions"]


async def test_a_chat_is_never_sent_without_its_template() -> None:
    async with FaultyServer() as server:
        transport = open_transport("openai")
        with pytest.raises(BatchUnsupportedError):
            await transport.send_many(server.endpoint, [call_of("x", "m")] * 2, timeout_s=5)
        await transport.aclose()
    assert all("prompt" not in request.json() for request in server.requests if request.body)


async def test_a_batch_for_another_model_is_not_a_missing_path() -> None:
    async with FaultyServer(error_status(404, "The model `x` does not exist.")) as server:
        transport = open_transport("openai")
        for _ in range(2):
            with pytest.raises(WrongModelError):
                await transport.send_many(server.endpoint, [call_of("x", "m")] * 2, timeout_s=5)
        await transport.aclose()


async def test_a_wire_without_batches_says_so() -> None:
    async with FaultyServer() as server:
        transport = open_transport("generate")
        for ask in (ask_many, ask_embeddings):
            with pytest.raises(RequestRejectedError, match="/generate"):
                await ask(transport, server.endpoint)
        await transport.aclose()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        open_transport("carrier-pigeon")
    assert "openai" in caught.value.remedy


async def test_retry_after_reaches_the_error() -> None:
    async with FaultyServer(error_status(429, "slow down", retry_after="7")) as server:
        transport = open_transport("openai")
        with pytest.raises(OverloadedError) as caught:
            await ask_whole(transport, server.endpoint)
        await transport.aclose()
    assert caught.value.retry_after_s == 7
