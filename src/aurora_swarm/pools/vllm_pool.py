"""A fleet of OpenAI-compatible servers: vLLM, SGLang, llama.cpp and their kin."""

from __future__ import annotations

from collections.abc import Iterable

from aurora_swarm.pools.agent_pool import checked_fleet, limits
from aurora_swarm.pools.pool import Pool
from aurora_swarm.pools.runtime import Runtime
from aurora_swarm.ports.transport import Transport
from aurora_swarm.transports.open import open_transport
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.endpoint import AgentEndpoint


class VLLMPool(Pool):
    """Endpoints that speak OpenAI chat completions.

    Use it as ``async with VLLMPool(endpoints, model="...") as pool:``.

    Args:
        endpoints: The fleet; at least one endpoint, none twice.
        model: Name that the servers know; empty for whatever each of them serves.
        max_tokens: Tokens to generate at most, where a call does not say.
        concurrency: Calls under way at a time, over the whole fleet.
        connector_limit: Connections kept open at most.
        timeout: Seconds for one attempt, from sending to the last byte.
        deadline: Seconds for one call with all its retries; three times `timeout` when None. Waiting behind other
            calls does not count.
        temperature: 0 is greedy; None leaves it to the server.
        seed: For engines that can repeat themselves.
        api_key: Bearer token; never shown in errors, logs or results.
        transport: How calls travel; for tests, recordings and wires of your own.

    Raises:
        NoEndpointsError: `endpoints` is empty.
        UsageError: An endpoint is given twice, or a number is not positive.
    """

    def __init__(
        self,
        endpoints: Iterable[AgentEndpoint],
        model: str = "",
        max_tokens: int | None = None,
        *,
        concurrency: int = 512,
        connector_limit: int = 1024,
        timeout: float = 300.0,
        deadline: float | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        api_key: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        if transport is None:
            transport = open_transport("openai", api_key=api_key, max_connections=connector_limit)
        fleet = checked_fleet(endpoints)
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
        bounds = limits(concurrency, timeout, deadline)
        runtime = Runtime(fleet, transport, limits=bounds, model=model, sampling=sampling)
        super().__init__(runtime, range(len(fleet)))
