"""What every `aurora_swarm.ports.transport.Transport` must do, as tests to inherit. Needs pytest and pytest-asyncio.

Inherit `TransportContract` and give it a fixture ``stage``: a function of an `Act` that returns a transport whose
next answers are that, an endpoint, and a way to count the requests that were made of it.
"""

# ruff: noqa: D102 - a test says what it shows in its name

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import NamedTuple

import pytest

from aurora_swarm.errors import (
    AttemptTimeoutError,
    CallError,
    ConnectError,
    OverloadedError,
    RequestRejectedError,
    ServerError,
)
from aurora_swarm.ports.transport import Transport
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message
from aurora_swarm.values.reply import Delta, Reply


class Act(Enum):
    """What the model on stage does."""

    REPEAT = "answers with the prompt"
    FAIL = "fails with a server error"
    BUSY = "is overloaded"
    HANG = "never answers"


class Stage(NamedTuple):
    """A transport and what stands behind it.

    Args:
        transport: Under test.
        endpoint: Who is asked.
        asked: How many requests for generation arrived.
        model: The first model that the endpoint lists.
        batches: Whether many calls go in one request, and texts can be embedded; else both are refused.
    """

    transport: Transport
    endpoint: AgentEndpoint
    asked: Callable[[], int]
    model: str
    batches: bool = True


MakeStage = Callable[[Act], AbstractAsyncContextManager[Stage]]

TEXTS = {
    "plain": "Hello, agent!",
    "empty": "",
    "braces": "{responses} {{x}} {0} ${HOME} %s",
    "controls": "a\x00b\x1b[31m\r\n\t\x7f",
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd \u0639\u0627\u0644\u0645\u2066",
    "astral": "🐝" * 9 + "\U0010ffff",
    "like the wire": 'data: [DONE]\n\ndata: {"choices": []}\n\n\r\n0\r\n\r\n',
    "long": "0123456789" * 20_000,
}


def call_of(text: str, model: str = "") -> Call:
    """A call with one message."""
    return Call((Message("user", text),), model=model)


async def stream_of(stage: Stage, call: Call, timeout_s: float) -> list[Delta]:
    """All pieces of a streamed answer."""
    return [delta async for delta in stage.transport.stream(stage.endpoint, call, timeout_s=timeout_s)]


async def send_of(stage: Stage, call: Call, timeout_s: float) -> Reply:
    """A whole answer."""
    return await stage.transport.send(stage.endpoint, call, timeout_s=timeout_s)


@pytest.mark.asyncio
class TransportContract:
    """The contract; see the port's docstring for each promise."""

    @pytest.fixture
    def stage(self) -> MakeStage:
        """Sets the stage; to be given by the subclass."""
        raise NotImplementedError

    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
    async def test_text_passes_unchanged_both_ways(self, stage: MakeStage, text: str) -> None:
        async with stage(Act.REPEAT) as it:
            assert (await send_of(it, call_of(text), 10)).text == text

    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
    async def test_a_stream_adds_up_to_its_last_piece(self, stage: MakeStage, text: str) -> None:
        async with stage(Act.REPEAT) as it:
            *_, last = deltas = await stream_of(it, call_of(text), 10)
        assert last.reply is not None
        assert last.reply.text == text == "".join(delta.text for delta in deltas)
        assert all(delta.reply is None for delta in deltas[:-1])

    @pytest.mark.parametrize("ask", [send_of, stream_of], ids=["whole", "streamed"])
    @pytest.mark.parametrize(("act", "kind"), [(Act.FAIL, ServerError), (Act.BUSY, OverloadedError)])
    async def test_a_failure_names_its_endpoint_and_is_one_request(
        self, stage: MakeStage, ask: Callable[..., object], act: Act, kind: type[CallError]
    ) -> None:
        async with stage(act) as it:
            with pytest.raises(kind) as caught:
                await ask(it, call_of("x"), 5)  # type: ignore[misc]  # both are coroutine functions
            assert it.asked() == 1
        assert caught.value.endpoint == it.endpoint.url

    @pytest.mark.parametrize("ask", [send_of, stream_of], ids=["whole", "streamed"])
    async def test_an_attempt_is_bounded_in_time(self, stage: MakeStage, ask: Callable[..., object]) -> None:
        async with stage(Act.HANG) as it:
            with pytest.raises(AttemptTimeoutError) as caught:
                await ask(it, call_of("x"), 0.1)  # type: ignore[misc]
        assert caught.value.endpoint == it.endpoint.url

    @pytest.mark.parametrize("ask", [send_of, stream_of], ids=["whole", "streamed"])
    async def test_cancelling_ends_the_attempt(self, stage: MakeStage, ask: Callable[..., object]) -> None:
        async with stage(Act.HANG) as it:
            asking = asyncio.ensure_future(ask(it, call_of("x", it.model), 30))  # type: ignore[call-overload]
            async with asyncio.timeout(5):
                while it.asked() == 0:  # noqa: ASYNC110 - the other side of a wire
                    await asyncio.sleep(0.005)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    async def test_many_calls_are_answered_in_their_order(self, stage: MakeStage) -> None:
        async with stage(Act.REPEAT) as it:
            calls = [call_of(f"prompt {i}", it.model) for i in range(20)]
            if not it.batches:
                with pytest.raises(RequestRejectedError):
                    await it.transport.send_many(it.endpoint, calls, timeout_s=5)
                return
            parts = await it.transport.send_many(it.endpoint, calls, timeout_s=5)
        assert [part.text for part in parts if isinstance(part, Reply)] == [f"prompt {i}" for i in range(20)]

    async def test_no_calls_are_no_request(self, stage: MakeStage) -> None:
        async with stage(Act.FAIL) as it:
            assert await it.transport.send_many(it.endpoint, [], timeout_s=5) == []
            assert it.asked() == 0

    async def test_vectors_come_in_the_order_of_their_texts(self, stage: MakeStage) -> None:
        async with stage(Act.REPEAT) as it:
            if not it.batches:
                with pytest.raises(RequestRejectedError):
                    await it.transport.embed(it.endpoint, ["a"], model="", timeout_s=5)
                return
            vectors = (await it.transport.embed(it.endpoint, ["a", "bbb"], model=it.model, timeout_s=5)).vectors
        assert [vector[0] for vector in vectors] == [1.0, 3.0]

    async def test_a_probe_generates_nothing(self, stage: MakeStage) -> None:
        async with stage(Act.REPEAT) as it:
            info = await it.transport.probe(it.endpoint, timeout_s=5)
            assert it.asked() == 0
        assert info.models == ((it.model,) if it.model else ())

    async def test_using_it_after_closing_raises(self, stage: MakeStage) -> None:
        async with stage(Act.REPEAT) as it:
            await it.transport.aclose()
            await it.transport.aclose()
            with pytest.raises(ConnectError):
                await send_of(it, call_of("x"), 5)
            with pytest.raises(ConnectError):
                await it.transport.probe(it.endpoint, timeout_s=5)
