"""A fleet of OpenAI-compatible servers: vLLM, SGLang, llama.cpp and their kin."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Literal

from aurora_swarm.errors import UsageError
from aurora_swarm.pools import batching
from aurora_swarm.pools.agent_pool import checked_fleet, limits
from aurora_swarm.pools.budgets import BUFFER
from aurora_swarm.pools.model_runtime import PER_SEQUENCE_S, ModelPolicy, ModelRuntime, checked_policy
from aurora_swarm.pools.pool import Pool
from aurora_swarm.ports.transport import Transport
from aurora_swarm.settings import load_settings
from aurora_swarm.transports.open import open_transport
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.outcome import Response


class VLLMPool(Pool):
    """Endpoints that speak OpenAI chat completions.

    Use it as ``async with VLLMPool(endpoints, model="...") as pool:``.

    Args:
        endpoints: The fleet; at least one endpoint, none twice.
        model: Name that the servers know; empty for whatever each of them serves.
        max_tokens: Tokens to generate at most, where a call does not say; ``AURORA_SWARM_MAX_TOKENS`` when None, else
            what the server thinks right. Every bound is lowered to what the context of the endpoint leaves.
        max_tokens_aggregation: The same where many answers become one; ``AURORA_SWARM_MAX_TOKENS_AGGREGATION`` when
            None, else twice `max_tokens`.
        model_max_context: Context of every server in tokens; ``AURORA_SWARM_MODEL_MAX_CONTEXT`` when None, else each
            server is asked for its own when a prompt is long enough to matter.
        buffer: Tokens that stay free between answer and end of the context, an eighth of a short one.
        use_batch: Whether `send_all_batched` puts several prompts in one request.
        batch_size: Prompts per request at most.
        batch_concurrency: Requests of several prompts at a time; None for as many as `concurrency` allows.
        timeout_per_sequence: Seconds that each prompt adds to the time of its request;
            ``AURORA_SWARM_TIMEOUT_PER_SEQUENCE`` when None, else 60.
        batch_timeout_cap: Longest time of such a request in seconds; never less than `timeout`.
        template: ``server`` for the chat template of each server, ``raw`` for none: prompts go to the model as they
            are, which is right for base models only.
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
        SettingsError: A variable that is read holds something else than its type.
    """

    def __init__(
        self,
        endpoints: Iterable[AgentEndpoint],
        model: str = "",
        max_tokens: int | None = None,
        *,
        max_tokens_aggregation: int | None = None,
        model_max_context: int | None = None,
        buffer: int = BUFFER,
        use_batch: bool = True,
        batch_size: int = 64,
        batch_concurrency: int | None = None,
        timeout_per_sequence: float | None = None,
        batch_timeout_cap: float = 3600.0,
        template: Literal["server", "raw"] = "server",
        concurrency: int = 512,
        connector_limit: int = 1024,
        timeout: float = 300.0,
        deadline: float | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        api_key: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        settings = load_settings(os.environ)
        max_tokens = max_tokens or settings.max_tokens
        policy = checked_policy(
            ModelPolicy(
                max_tokens_aggregation=max_tokens_aggregation
                or settings.max_tokens_aggregation
                or (2 * max_tokens if max_tokens else None),
                model_max_context=model_max_context or settings.model_max_context,
                buffer=buffer,
                use_batch=use_batch,
                batch_size=batch_size,
                batch_concurrency=batch_concurrency,
                timeout_per_sequence=timeout_per_sequence or settings.timeout_per_sequence or PER_SEQUENCE_S,
                batch_timeout_cap=batch_timeout_cap,
            )
        )
        if transport is None:
            transport = open_transport(_kind(template), api_key=api_key, max_connections=connector_limit)
        fleet = checked_fleet(endpoints)
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
        bounds = limits(concurrency, timeout, deadline)
        runtime = ModelRuntime(fleet, transport, limits=bounds, model=model, sampling=sampling, policy=policy)
        super().__init__(runtime, range(len(fleet)))

    async def send_all_batched(self, prompts: Sequence[str], max_tokens: int | None = None) -> list[Response]:
        """Send prompts in bundles; see `aurora_swarm.pools.batching.send_all_batched`."""
        return await batching.send_all_batched(self, prompts, max_tokens)

    async def post_batch(
        self, agent_index: int, prompts: Sequence[str], max_tokens: int | None = None
    ) -> list[Response]:
        """Send prompts to one endpoint in as few requests as it takes; to another one only when that fails.

        Args:
            agent_index: The endpoint to prefer, counted in `endpoints`.
            prompts: May be empty.
            max_tokens: As for `post`.

        Returns:
            One response per prompt, in the order of `prompts`; each says who really answered.

        Raises:
            UsageError: `agent_index` is out of range.
        """
        return await batching.post_batch(self, agent_index, prompts, max_tokens)


def _kind(template: str) -> str:
    """The transport that puts prompts to the model as it is wanted.

    Raises:
        UsageError: `template` is neither ``server`` nor ``raw``.
    """
    kinds = {"server": "openai", "raw": "completions"}
    if template not in kinds:
        raise UsageError(f"template is {template!r}", remedy=f"give one of {', '.join(kinds)}")
    return kinds[template]
