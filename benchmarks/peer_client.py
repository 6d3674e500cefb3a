"""One peer, driven as directly as its interface allows. Runs in the environment that `peers` makes.

Reads an order as JSON from standard input, ``{"client", "urls", "requests", "width", "wire"}``, and prints
``{"seconds"}``, the better of two rounds. Knows nothing of Aurora Swarm, so that nothing of it is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import uvloop

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else litellm fetches a price list when it is imported

Ask = Callable[[int], Awaitable[object]]
"""Sends the request with one number and reads its answer."""

PATHS = {"chat": "/v1/chat/completions", "generate": "/generate"}


def prompt(number: int) -> str:
    return f"{number} is a number. Say something about it in one sentence."


def messages(number: int) -> list[Any]:
    return [{"role": "user", "content": prompt(number)}]


def body(order: dict[str, Any], number: int) -> dict[str, Any]:
    if order["wire"] == "generate":
        return {"prompt": prompt(number)}
    return {"messages": messages(number), "model": "m"}


@asynccontextmanager
async def aiohttp_client(order: dict[str, Any]) -> AsyncIterator[Ask]:
    import aiohttp  # noqa: PLC0415 - only the peer that is asked for

    urls = [url + PATHS[order["wire"]] for url in order["urls"]]
    connector = aiohttp.TCPConnector(limit=order["width"])
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(number: int) -> None:
            async with session.post(urls[number % len(urls)], json=body(order, number)) as response:
                response.raise_for_status()
                await response.read()

        yield ask


@asynccontextmanager
async def httpx_client(order: dict[str, Any]) -> AsyncIterator[Ask]:
    import httpx  # noqa: PLC0415 - only the peer that is asked for

    urls = [url + PATHS[order["wire"]] for url in order["urls"]]
    limits = httpx.Limits(max_connections=order["width"], max_keepalive_connections=order["width"])
    async with httpx.AsyncClient(limits=limits, timeout=120) as client:

        async def ask(number: int) -> None:
            for _ in range(3):  # it writes head and body apart; nginx, answering the head, may close in between
                with contextlib.suppress(httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                    (await client.post(urls[number % len(urls)], json=body(order, number))).raise_for_status()
                    return
            raise RuntimeError("three attempts failed")

        yield ask


@asynccontextmanager
async def openai_client(order: dict[str, Any]) -> AsyncIterator[Ask]:
    import openai  # noqa: PLC0415 - only the peer that is asked for

    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", timeout=120))
            for url in order["urls"]
        ]

        def ask(number: int) -> Awaitable[object]:
            client = clients[number % len(clients)]
            return client.chat.completions.create(model="m", messages=messages(number))

        yield ask


@asynccontextmanager
async def litellm_client(order: dict[str, Any]) -> AsyncIterator[Ask]:
    import litellm  # noqa: PLC0415 - only the peer that is asked for

    urls = [f"{url}/v1" for url in order["urls"]]

    def ask(number: int) -> Awaitable[object]:
        base = urls[number % len(urls)]
        return litellm.acompletion(model="openai/m", messages=messages(number), api_base=base, api_key="none")

    yield ask


CLIENTS = {"aiohttp": aiohttp_client, "httpx": httpx_client, "openai": openai_client, "litellm": litellm_client}


async def timed(ask: Ask, order: dict[str, Any]) -> float:
    """Seconds for all requests, a fixed number under way."""
    numbers = iter(range(order["requests"]))

    async def crew() -> None:
        for number in numbers:
            await ask(number)

    began = time.perf_counter()
    await asyncio.gather(*(crew() for _ in range(order["width"])))
    return time.perf_counter() - began


async def batch_agent(order: dict[str, Any]) -> float:
    """One turn per agent over the one server that it can name, with a schema where the order says so."""
    import batch_agent  # noqa: PLC0415 - only the peer that is asked for
    import pydantic  # noqa: PLC0415

    schema = pydantic.create_model("Verdict", label=(str, ...), score=(int, ...)) if order.get("schema") else None
    inputs = [{"number": number} for number in range(order["requests"])]
    began = time.perf_counter()
    results = await batch_agent.BatchAgent.run(
        task="{number} is a number. Say something about it in one sentence.",
        inputs=inputs,
        model="m",
        backend=order["urls"][0].replace("http://", "vllm://"),
        max_inflight=order["width"],
        output_schema=schema,
    )
    if failed := [result.error for result in results if not result.ok]:
        sys.exit(f"batch-agent: {len(failed)} agents failed: {failed[0]}")
    return time.perf_counter() - began


async def openai_agents(order: dict[str, Any]) -> dict[str, Any]:
    """Two-turn agents with a tool, as one writes them by hand: ask, read the file, ask again; all at once.

    The order has ``system``, ``tasks``, ``file``, ``reminder``, and for each of the two turns a schema in ``schemas``.
    """
    import openai  # noqa: PLC0415 - only the peer that is asked for

    seats, spent = asyncio.Semaphore(order["width"]), {"reads": 0, "prompt": 0, "cached": 0, "valid": 0}

    async with openai.AsyncOpenAI(base_url=f"{order['urls'][0]}/v1", api_key="none", timeout=600) as client:

        async def ask(said: list[Any], schema: dict[str, Any]) -> str:
            wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
            async with seats:
                answer = await client.chat.completions.create(
                    model=order["model"], messages=said, response_format=wanted, **order["sampling"]
                )
            details = answer.usage.prompt_tokens_details
            spent["prompt"] += answer.usage.prompt_tokens
            spent["cached"] += (details and details.cached_tokens) or 0
            return answer.choices[0].message.content

        async def agent(task: str) -> None:
            said = [{"role": "system", "content": order["system"]}, {"role": "user", "content": task}]
            call = await ask(said, order["schemas"][0])
            with open(order["file"], encoding="utf-8") as file:  # noqa: ASYNC230, PTH123 - as one writes it by hand
                text = file.read()
            spent["reads"] += 1
            told = f"{text}\n\n{order['reminder'].format(task)}"
            said += [{"role": "assistant", "content": call}, {"role": "user", "content": told}]
            json.loads(await ask(said, order["schemas"][1]))
            spent["valid"] += 1

        began = time.perf_counter()
        await asyncio.gather(*(agent(task) for task in order["tasks"]))
        return {"seconds": time.perf_counter() - began, **spent}


async def main(order: dict[str, Any]) -> dict[str, Any]:
    if order["client"] == "openai-agents":
        return await openai_agents(order)
    return {"seconds": await best_of_two(order)}


async def best_of_two(order: dict[str, Any]) -> float:
    """Seconds of the better of two rounds."""
    if order["client"] == "batch-agent":
        return min([await batch_agent(order) for _ in range(2)])
    async with CLIENTS[order["client"]](order) as ask:
        return min([await timed(ask, order) for _ in range(2)])


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found = uvloop.run(main(json.load(sys.stdin)))
    print(json.dumps(found))
