"""The limit: the same requests through the HTTP client alone, as directly as it can be driven.

No pool, no routing, no limits per server, no retries, no decoding: a fixed crew of coroutines takes the next request,
sends it to the next endpoint in turn, and reads the answer's bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

import msgspec
import ry

from aurora_swarm.values.endpoint import AgentEndpoint

Body = Callable[[str], bytes]
"""Writes the request for one prompt."""

_JSON = msgspec.json.Encoder()


def generate_body(prompt: str) -> bytes:
    """``POST /generate``."""
    return _JSON.encode({"prompt": prompt})


def chat_body(prompt: str) -> bytes:
    """``POST /v1/chat/completions``."""
    return _JSON.encode({"messages": [{"role": "user", "content": prompt}], "model": "m"})


class BareClient:
    """Sends prompts in turn to endpoints.

    Args:
        endpoints: Where to.
        path: Below each endpoint's URL.
        body: Writes a request.
        width: Requests under way at a time.
    """

    def __init__(self, endpoints: Sequence[AgentEndpoint], path: str, body: Body, width: int) -> None:
        self._urls = [f"{endpoint.url}{path}" for endpoint in endpoints]
        self._body = body
        self._width = width
        self._client = ry.Client(
            redirect=None, tls_certs_only=[], pool_max_idle_per_host=max(1, 16_000 // len(self._urls))
        )
        self._headers = ry.Headers({"content-type": "application/json"})
        self.failed = 0

    async def run(self, prompts: Sequence[str]) -> float:
        """Send all prompts.

        Returns:
            Seconds.
        """
        work = enumerate(prompts)
        began = time.perf_counter()
        await asyncio.gather(*(self._crew(work) for _ in range(min(self._width, len(prompts)))))
        return time.perf_counter() - began

    async def _crew(self, work: Iterator[tuple[int, str]]) -> None:
        fetch, body, headers, urls = self._client.fetch, self._body, self._headers, self._urls
        for number, prompt in work:
            response = await fetch(urls[number % len(urls)], method="POST", body=body(prompt), headers=headers)
            await response.bytes()
            self.failed += response.status != 200


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class Tokens(msgspec.Struct):
    """As a server counts them."""

    prompt_tokens: int = 0
    prompt_tokens_details: _Details | None = None

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that came from the engine's prefix cache."""
        return (self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0


class _Counted(msgspec.Struct):
    usage: Tokens


async def gather_chats(
    endpoints: Sequence[AgentEndpoint], prompts: Sequence[str], *, model: str, max_tokens: int, width: int
) -> list[Tokens]:
    """What a script would do: all prompts at once in a gather, round robin over the endpoints.

    Returns:
        What each prompt cost, in their order.
    """
    client = ry.Client(redirect=None, tls_certs_only=[])
    headers = ry.Headers({"content-type": "application/json"})
    gate = asyncio.Semaphore(width)

    async def one(number: int, prompt: str) -> Tokens:
        chat = {"messages": [{"role": "user", "content": prompt}], "model": model, "temperature": 0}
        url = f"{endpoints[number % len(endpoints)].url}/v1/chat/completions"
        async with gate:
            body = _JSON.encode({**chat, "max_tokens": max_tokens})
            response = await client.fetch(url, method="POST", body=body, headers=headers)
            return msgspec.json.decode(bytes(await response.bytes()), type=_Counted).usage

    return await asyncio.gather(*(one(number, prompt) for number, prompt in enumerate(prompts)))


class RoundRobin:
    """The bare client as a plain gather would use it: each prompt to the next endpoint in turn, elsewhere on failure.

    Args:
        endpoints: Where to.
        width: Requests under way at a time.
    """

    def __init__(self, endpoints: Sequence[AgentEndpoint], width: int) -> None:
        self._urls = [f"{endpoint.url}/generate" for endpoint in endpoints]
        self._client = ry.Client(redirect=None, tls_certs_only=[])
        self._headers = ry.Headers({"content-type": "application/json"})
        self._gate = asyncio.Semaphore(width)

    async def run(self, prompts: Sequence[str]) -> float:
        """Send all prompts.

        Returns:
            Seconds.
        """
        began = time.perf_counter()
        await asyncio.gather(*(self._one(number, prompt) for number, prompt in enumerate(prompts)))
        return time.perf_counter() - began

    async def _one(self, number: int, prompt: str) -> None:
        body = generate_body(prompt)
        async with self._gate:
            while not await self._answered(self._urls[number % len(self._urls)], body):
                number += 1

    async def _answered(self, url: str, body: bytes) -> bool:
        try:
            response = await self._client.fetch(url, method="POST", body=body, headers=self._headers)
            await response.bytes()
        except ry.ReqwestError:
            return False
        return bool(response.status == 200)
