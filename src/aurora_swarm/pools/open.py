"""From whatever names a backend to a pool: the only place that knows which URL means which pool."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from aurora_swarm.errors import InputError, NoEndpointsError, UsageError
from aurora_swarm.inputs.hostfile import parse_endpoint, parse_hostfile
from aurora_swarm.pools.agent_pool import checked_fleet, limits
from aurora_swarm.pools.model_runtime import ModelRuntime
from aurora_swarm.pools.pool import Pool
from aurora_swarm.pools.runtime import Runtime
from aurora_swarm.pools.survey import first_that_serves
from aurora_swarm.transports.open import open_transport
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.endpoint import AgentEndpoint

Backend = str | Path | AgentEndpoint | Sequence[str | AgentEndpoint] | Pool
Say = Callable[[str], None]

PER_ENDPOINT = 64
"""Calls per endpoint at a time where nobody says: what one vLLM server batches well."""

MOST_AT_ONCE = 1024
"""Calls at a time where nobody says: within the usual limits of open files."""

OPENAI_SCHEMES = ("vllm", "sglang", "openai", "llamacpp", "http", "https")
SCHEMES = (*OPENAI_SCHEMES, "generate", "local")
"""What a backend URL may begin with: ``local://`` starts the embedded model, the rest are servers that run."""


class PoolOptions(msgspec.Struct, frozen=True):
    """How to hold a fleet.

    Args:
        model: Name that the servers know; empty for whatever they serve.
        concurrency: Calls under way at a time; None for what the endpoints' ``slots``
            tags say, 64 where there is none, 1,024 in all.
        timeout_s: Seconds for one attempt.
        deadline_s: Seconds for one call with its retries.
        sampling: How tokens are picked where a call does not say.
        api_key: Bearer token.
        local_model: GGUF file for ``local://``; None for the default model.
        cache_dir: Where downloaded weights are kept.
    """

    model: str = ""
    concurrency: int | None = None
    timeout_s: float = 300.0
    deadline_s: float | None = None
    sampling: Sampling = Sampling()
    api_key: str | None = None
    local_model: str | None = None
    cache_dir: str | None = None


@asynccontextmanager
async def open_pool(
    backend: Backend, options: PoolOptions | None = None, *, say: Say | None = None
) -> AsyncIterator[Pool]:
    """A pool for whatever names a backend.

    Before anything is sent, one endpoint at least has answered and serves the model. Leaving the context releases
    all that was started for it.

    Args:
        backend: A URL (``vllm://host:8000``, ``http://host:8000/v1``, ``local://`` ...), ``host:port``, the path of a
            hostfile, a list of URLs or endpoints, or a pool. A pool is used as it is and stays open.
        options: How to hold the fleet; a pool that is given keeps its own.
        say: Told in plain sentences what takes time: fetching weights, starting the embedded model.

    Raises:
        InputError: The backend is not a URL, an address or a readable hostfile.
        NothingListensError: No endpoint answers.
        UsageError: No endpoint serves the model.
        ModelUnavailableError: The embedded model cannot be had or started.
    """
    if isinstance(backend, Pool):
        yield backend
        return
    options = options or PoolOptions()
    async with AsyncExitStack() as stack:
        wire, endpoints = await _resolve(backend, options, say or _silent, stack)
        concurrency = options.concurrency or min(sum(map(_slots, endpoints)), MOST_AT_ONCE)
        transport = open_transport(wire, api_key=options.api_key, max_connections=concurrency)
        stack.push_async_callback(transport.aclose)
        seen = await first_that_serves(transport, endpoints, options.model, timeout_s=min(10.0, options.timeout_s))
        served = seen.info.models if seen.info else ()
        holding = Runtime if wire == "generate" else ModelRuntime
        runtime = holding(
            endpoints,
            transport,
            limits=limits(concurrency, options.timeout_s, options.deadline_s),
            model=options.model or next(iter(served), ""),
            sampling=options.sampling,
        )
        yield await stack.enter_async_context(Pool(runtime, range(len(endpoints))))


def describe(backend: Backend) -> tuple[str, list[AgentEndpoint]]:
    """The wire and the endpoints that a backend names; starts nothing.

    Args:
        backend: As for `open_pool`, but neither a pool nor ``local://``.

    Raises:
        InputError: It names none.
    """
    if isinstance(backend, AgentEndpoint):
        return "openai", [backend]
    if isinstance(backend, Path) or (isinstance(backend, str) and _is_file(backend)):
        return "openai", parse_hostfile(backend)
    if isinstance(backend, str):
        wire, endpoint = _endpoint(backend)
        return wire, [endpoint]
    assert not isinstance(backend, Pool)
    if not backend:
        raise NoEndpointsError("the list of endpoints is empty", remedy="give at least one URL")
    named = [("openai", item) if isinstance(item, AgentEndpoint) else _endpoint(item) for item in backend]
    wires = sorted({wire for wire, _ in named})
    if len(wires) > 1:
        raise UsageError("the endpoints speak different wires", remedy=f"use one of them: {', '.join(wires)}")
    return wires[0], checked_fleet(endpoint for _, endpoint in named)


async def _resolve(
    backend: str | Path | AgentEndpoint | Sequence[str | AgentEndpoint],
    options: PoolOptions,
    say: Say,
    stack: AsyncExitStack,
) -> tuple[str, list[AgentEndpoint]]:
    if not (isinstance(backend, str) and _is_local(backend)):
        return await asyncio.to_thread(describe, backend)
    from aurora_swarm.local.open import open_local  # noqa: PLC0415 - an extra, loaded when chosen

    opened = open_local(backend, model=options.local_model, cache_dir=options.cache_dir, say=say)
    return "openai", await stack.enter_async_context(opened)


def _slots(endpoint: AgentEndpoint) -> int:
    """Calls that an endpoint takes at a time: what its tag ``slots`` says, else `PER_ENDPOINT`."""
    told = endpoint.tags.get("slots")
    if told is None:
        return PER_ENDPOINT
    if not told.isdecimal() or int(told) < 1:
        raise InputError(f"slots={told} is no whole number above 0", source=endpoint.url, remedy="write slots=8")
    return int(told)


def _is_local(text: str) -> bool:
    return text.startswith("local:")


def _is_file(text: str) -> bool:
    """Whether a backend without a scheme means a hostfile rather than ``host:port``."""
    if "://" in text:
        return False
    return Path(text).exists() or os.sep in text or text.endswith((".hostfile", ".txt"))


def _endpoint(text: str) -> tuple[str, AgentEndpoint]:
    scheme, separator, rest = text.partition("://")
    if not separator:
        return "openai", parse_endpoint(text)
    if scheme not in SCHEMES:
        raise InputError(
            f"unknown backend {scheme}://", source=text, remedy=f"use one of: {', '.join(f'{s}://' for s in SCHEMES)}"
        )
    endpoint = parse_endpoint(text if scheme in {"http", "https"} else f"http://{rest}")
    # People paste the base URL that other clients want; the wires add the version themselves.
    endpoint = msgspec.structs.replace(endpoint, path=endpoint.path.removesuffix("/v1"))
    return ("generate" if scheme == "generate" else "openai"), endpoint


def _silent(_: str) -> None:
    """Say nothing."""
