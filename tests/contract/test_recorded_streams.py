"""Streams that real engines wrote: whole they are answers, cut anywhere they never are.

`recorded/` holds the bodies of twenty streamed chat completions of SmolLM2-135M, ten by llama.cpp (xllamacpp
2026.10.11549) and ten by vLLM 0.32.0, the model's path shortened: answers that ended by themselves, at the bound on
tokens, at a stop string; with usage at the end, with every chunk, and without; one token and sixty; JSON by a schema;
text beyond ASCII; text that looks like the wire itself.
"""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from pathlib import Path

import pytest

from aurora_swarm.errors import CallError, ConnectionLostError, ServerError, TruncatedError
from aurora_swarm.testing import answers
from aurora_swarm.testing.faulty_server import Answer, FaultyServer, Framing, Request
from aurora_swarm.testing.transport_contract import call_of
from aurora_swarm.transports.open import open_transport
from aurora_swarm.transports.openai_chat import OpenAIChatWire
from aurora_swarm.values.reply import Reply

STREAMS = {path.stem: path.read_bytes() for path in sorted(Path(__file__).with_name("recorded").glob("*.sse"))}
UNICODE = "日本語 🐝 naïve — Ω≈ç√ \U0001f468\u200d\U0001f469\u200d\U0001f467"
TEXTS = {
    "llamacpp-unicode": UNICODE,
    "vllm-unicode": UNICODE,
    "llamacpp-newlines": "data: [DONE]\n\ndata: {}\r\n\r\nevent: x\n",
    "vllm-newlines": "data: [DONE]\n\ndata: {}\r\n\r\nevent: x\n",
    "vllm-stop": "Hi there.",
    "llamacpp-stop-string": "one, two, ",
    "vllm-stop-string": "one, two, ",
}


def test_there_are_twenty() -> None:
    assert len(STREAMS) == 20


def read(pieces: list[bytes]) -> Reply:
    decoder = OpenAIChatWire().decoder()
    said = "".join(map(decoder.feed, pieces))
    reply = decoder.end(framed=False)
    assert said == reply.text
    return reply


@pytest.mark.parametrize("name", STREAMS)
def test_whole_it_is_an_answer_however_its_bytes_are_cut_into_pieces(name: str) -> None:
    body, dice = STREAMS[name], random.Random(9)
    whole = read([body])
    assert whole.text.strip() == TEXTS.get(name, whole.text).strip()
    assert whole.finish_reason in {"stop", "length"}
    assert (whole.usage.completion_tokens > 0) == ("without-usage" not in name)
    assert read([body[i : i + 1] for i in range(len(body))]) == whole
    for _ in range(20):
        marks = [0, *sorted(dice.sample(range(len(body)), 5)), len(body)]
        assert read([body[start:end] for start, end in pairwise(marks)]) == whole


@pytest.mark.parametrize("name", STREAMS)
def test_cut_at_any_byte_it_is_never_an_answer(name: str) -> None:
    body = STREAMS[name]
    decoder = OpenAIChatWire().decoder()
    for at in range(len(body)):  # the decoder has seen the first `at` bytes
        with pytest.raises(TruncatedError):
            decoder.end(framed=False)
        decoder.feed(body[at : at + 1])
    assert decoder.end(framed=False) == read([body])


@pytest.mark.parametrize("name", STREAMS)
def test_an_error_of_the_engine_in_mid_stream_is_never_an_answer(name: str) -> None:
    events = STREAMS[name].split(b"\n\n")[:-1]
    failure = b"data: " + answers.encode(answers.error("EngineCore encountered an issue"))
    for at in range(len(events)):
        broken = b"\n\n".join([*events[:at], failure, b"data: [DONE]", b""])
        with pytest.raises(ServerError, match="EngineCore"):
            read([broken])


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_cut_on_a_real_socket_it_is_never_an_answer(framing: Framing) -> None:
    dice = random.Random(framing)
    cuts = [(body, at) for body in STREAMS.values() for at in _cuts(body, dice)]
    given = {str(number): cut for number, cut in enumerate(cuts)}

    def script(request: Request) -> Answer:
        body, at = given[request.json()["messages"][0]["content"]]
        return Answer(body, framing=framing, cut_body_at=at)

    async with FaultyServer(script) as server:
        transport = open_transport("openai", max_connections=32)

        async def ask(prompt: str) -> object:
            try:
                return [d async for d in transport.stream(server.endpoint, call_of(prompt, "m"), timeout_s=20)][-1]
            except CallError as error:
                return error

        outcomes = await asyncio.gather(*map(ask, given))
        await transport.aclose()
    assert len(outcomes) == 20 * 25
    assert {type(outcome) for outcome in outcomes} <= {TruncatedError, ConnectionLostError}


def _cuts(body: bytes, dice: random.Random) -> list[int]:
    """The last bytes, where an end is most easily taken for whole, and some others."""
    return [*range(len(body) - 9, len(body) - 4), *dice.sample(range(len(body) - 9), 20)]
