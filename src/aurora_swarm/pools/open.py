"""From whatever names a backend to a pool: the only place that knows which URL means which pool."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from aurora_swarm.errors import InputError, NoEndpointsError, UsageError
from aurora_swarm.inputs.hostfile import parse_hostfile
from aurora_swarm.pools.addresses import PLAIN, endpoint_of
from aurora_swarm.pools.agent_pool import checked_fleet, limits
from aurora_swarm.pools.model_runtime import ModelRuntime
from aurora_swarm.pools.pool import Pool
from aurora_swarm.pools.runtime import Runtime
from aurora_swarm.pools.survey import first_that_serves
from aurora_swarm.ports.transport import Transport
from aurora_swarm.transports.kinds import (
    BACKEND,
    KEYS,
    MIXED,
    capabilities_at,
    has_priority,
    is_provider,
    kind_of,
    provider_key,
)
from aurora_swarm.transports.mixed import MODEL
from aurora_swarm.transports.open import open_transport
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.capabilities import Capabilities
from aurora_swarm.values.endpoint import AgentEndpoint

Backend = str | Path | AgentEndpoint | Sequence[str | AgentEndpoint] | Pool
Say = Callable[[str], None]

MOST_AT_ONCE = 1024
"""Calls at a time where nobody says: within the usual limits of open files."""


class PoolOptions(msgspec.Struct, frozen=True):
    """How to hold a fleet.

    Args:
        model: Name that the servers know; empty for whatever they serve.
        concurrency: Calls under way at a time; None for what the endpoints' ``slots`` tags say, else what is safe for
            their kind (64 for an engine of one's own, 8 or 16 for a provider), 1,024 in all.
        timeout_s: Seconds for one attempt.
        deadline_s: Seconds for one call with its retries.
        sampling: How tokens are picked where a call does not say.
        api_key: The key; None for the provider's own variable (``OPENAI_API_KEY``, ``ANTHROPIC_API_KEY``,
            ``AWS_BEARER_TOKEN_BEDROCK``) where the backend is that provider, else for none.
        local_model: GGUF file for ``local://``; None for the default model.
        cache_dir: Where downloaded weights are kept.
        streamed: Whether whole answers are asked for as streams, so that it is known when their first token came.
    """

    model: str = ""
    concurrency: int | None = None
    timeout_s: float = 300.0
    deadline_s: float | None = None
    sampling: Sampling = Sampling()
    api_key: str | None = None
    local_model: str | None = None
    cache_dir: str | None = None
    streamed: bool = False


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
        kind, endpoints = await _resolve(backend, options, say or _silent, stack)
        _check_model(kind, endpoints, options.model)
        capabilities = [capabilities_at(kind_of(endpoint, kind), endpoint) for endpoint in endpoints]
        concurrency = options.concurrency or min(sum(map(_slots, endpoints, capabilities)), MOST_AT_ONCE)
        transport = transport_for(
            kind, endpoints, api_key=options.api_key, max_connections=concurrency, streamed=options.streamed
        )
        stack.push_async_callback(transport.aclose)
        seen = await first_that_serves(transport, endpoints, options.model, timeout_s=min(10.0, options.timeout_s))
        served = seen.info.models if seen.info and kind != MIXED else ()
        tagged = endpoints[0].tags.get(MODEL, "") if kind != MIXED else ""
        holding = Runtime if kind == "generate" else ModelRuntime
        runtime = holding(
            endpoints,
            transport,
            limits=limits(concurrency, options.timeout_s, options.deadline_s),
            model=options.model or tagged or next(iter(served), ""),
            sampling=options.sampling,
            capabilities=capabilities if len(set(capabilities)) > 1 else capabilities[:1],
        )
        if isinstance(runtime, ModelRuntime) and seen.info is not None:
            runtime.facts.note(seen.endpoint, seen.info)
        yield await stack.enter_async_context(Pool(runtime, range(len(endpoints))))


def describe(backend: Backend) -> tuple[str, list[AgentEndpoint]]:
    """The kind and the endpoints that a backend names; starts nothing.

    Args:
        backend: As for `open_pool`, but neither a pool nor ``local://``.

    Returns:
        A kind that `aurora_swarm.transports.open.open_transport` knows. It is ``mixed`` where the endpoints are of
        several kinds, or name different models; each has a tag that tells its kind then.

    Raises:
        InputError: It names none.
    """
    named = _named(backend)
    kinds = {kind_of(endpoint, kind) for kind, endpoint in named}
    own = len({endpoint.tags.get(MODEL) for _, endpoint in named}) > 1
    fleet = checked_fleet(endpoint for _, endpoint in named)
    if len(kinds) == 1 and not own and len(set(map(has_priority, fleet))) == 1:
        return kinds.pop(), fleet
    return MIXED, [_of_kind(kind_of(endpoint, kind), endpoint) for kind, endpoint in named]


def transport_for(
    kind: str,
    endpoints: Sequence[AgentEndpoint],
    *,
    api_key: str | None = None,
    max_connections: int | None = None,
    streamed: bool = False,
) -> Transport:
    """The transport for what `describe` gave, with the keys that the environment holds for providers.

    Args:
        kind: The kind of all endpoints, or ``mixed``.
        endpoints: At least one.
        api_key: The key that was given. It goes before a provider's own variable, but in a mixed fleet, where it is for
            those that are no provider.
        max_connections: Connections in use at most; None for as many as this process may open.
        streamed: Whether whole answers are asked for as streams.

    Raises:
        UsageError: The key cannot be a header, or Bedrock is to be asked without a key and requests to it cannot be
            signed.
    """
    if kind != MIXED and not api_key:
        keys = {provider_key(kind, endpoint, os.environ) for endpoint in endpoints}
        api_key = keys.pop() if len(keys) == 1 else None
    return open_transport(
        kind,
        api_key=api_key,
        max_connections=max_connections,
        priority=kind != MIXED and has_priority(endpoints[0]),
        hosted=all(is_provider(kind, endpoint) for endpoint in endpoints),
        streamed=streamed,
        environ=os.environ,
    )


def _named(backend: Backend) -> list[tuple[str, AgentEndpoint]]:
    """Every endpoint with the kind that its address names."""
    if isinstance(backend, AgentEndpoint):
        return [(PLAIN, backend)]
    if isinstance(backend, Path) or (isinstance(backend, str) and _is_file(backend)):
        return [(PLAIN, endpoint) for endpoint in parse_hostfile(backend)]
    if isinstance(backend, str):
        return [endpoint_of(backend)]
    assert not isinstance(backend, Pool)
    if not backend:
        raise NoEndpointsError("the list of endpoints is empty", remedy="give at least one URL")
    return [(PLAIN, item) if isinstance(item, AgentEndpoint) else endpoint_of(item) for item in backend]


def _of_kind(kind: str, endpoint: AgentEndpoint) -> AgentEndpoint:
    return msgspec.structs.replace(endpoint, tags={**endpoint.tags, BACKEND: kind})


def _check_model(kind: str, endpoints: Sequence[AgentEndpoint], model: str) -> None:
    """Whoever is paid is never asked for whatever model comes first."""
    for endpoint in endpoints:
        own = kind_of(endpoint, kind)
        if not endpoint.tags.get(MODEL, model) and own in KEYS and (own != "openai" or is_provider(own, endpoint)):
            remedy = f"give a model, or write it behind the address: {own}://...#MODEL"
            raise UsageError(f"which model {endpoint.url} is to be asked for is not said", remedy=remedy)


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
    return "local", await stack.enter_async_context(opened)


def _slots(endpoint: AgentEndpoint, capabilities: Capabilities) -> int:
    """Calls that an endpoint takes at a time: what its tag ``slots`` says, else what is safe for its kind."""
    told = endpoint.tags.get("slots")
    if told is None:
        return capabilities.concurrency
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


def _silent(_: str) -> None:
    """Say nothing."""
