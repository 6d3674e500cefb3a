"""The model that agents of a society think with: named once, opened when it is first needed, shared by all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from aurora_swarm.batch.run import BatchOptions, chosen_backend, pool_options
from aurora_swarm.pools.open import Backend, Say, open_pool
from aurora_swarm.settings import load_settings
from aurora_swarm.swarms.mind import Mind
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.budget import Price
from aurora_swarm.values.call import Sampling


class Model:
    """A model by name, on whatever serves it.

    It may be given to any number of agents, orchestrators and swarms: while any of them uses it, all share one pool of
    connections, one set of limits and one tool pool, in which equal calls of a pure tool run once.

    Args:
        model: Name that the backend knows; empty for the first that it serves.
        backend: ``vllm://host:8000`` and the like, a hostfile, a list of URLs, a pool, or ``local://``; None for the
            hostfile named by ``AURORA_SWARM_HOSTFILE``.
        max_tokens: Tokens to generate per turn at most, where a step does not say.
        temperature: 0 is greedy; None leaves it to the server.
        seed: For engines that can repeat themselves.
        concurrency: Calls under way at a time; None for what the backend can take.
        timeout: Seconds for one request.
        api_key: The key; None for ``AURORA_SWARM_API_KEY`` or the provider's own variable.
        price: What it costs, for budgets in money.
        say: Told in plain sentences what takes time, such as starting the embedded model.
    """

    def __init__(
        self,
        model: str = "",
        backend: Backend | None = None,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        concurrency: int | None = None,
        timeout: float = 300.0,
        api_key: str | None = None,
        price: Price | None = None,
        say: Say | None = None,
    ) -> None:
        self.price = price
        self._options = BatchOptions(
            model=model, backend=backend, max_inflight=concurrency, timeout_s=timeout, say=say, price=price
        )
        self._sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
        self._api_key = api_key
        self._mind: Mind | None = None
        self._users = 0
        self._stack: AsyncExitStack | None = None
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Mind]:
        """The model, ready to be asked; opened by the first who comes, closed by the last who goes.

        Raises:
            UsageError: There is no backend, nothing listens there, or nobody serves the model.
        """
        mind = await self._enter()
        try:
            yield mind
        finally:
            await self._leave()

    async def _enter(self) -> Mind:
        async with self._lock:
            if self._mind is None:
                self._mind = await self._open()
            self._users += 1
            return self._mind

    async def _leave(self) -> None:
        # Counted before anything is awaited: who is cancelled while waiting for the lock has left all the same.
        self._users -= 1
        if self._users:
            return
        async with self._lock:
            if self._users == 0 and self._stack is not None:
                stack, self._stack, self._mind = self._stack, None, None
                await stack.aclose()

    async def _open(self) -> Mind:
        settings, sampling = load_settings(os.environ), self._sampling
        if sampling.max_tokens is None:
            sampling = msgspec.structs.replace(sampling, max_tokens=settings.max_tokens)
        options = pool_options(self._options, sampling, settings, api_key=self._api_key)
        async with AsyncExitStack() as stack:
            backend = chosen_backend(self._options, settings)
            pool = await stack.enter_async_context(open_pool(backend, options, say=self._options.say))
            tools = ToolPool()
            stack.push_async_callback(tools.aclose)
            mind = Mind(pool, tools, model=self._options.model, sampling=sampling)
            self._stack = stack.pop_all()
        return mind


class OpenAI(Model):
    """A model behind an OpenAI-compatible address.

    Args:
        model: Name that the server knows.
        base_url: Where it is: OpenAI itself, a server of your own (``http://localhost:8000/v1``), or ``local://``.
        max_tokens: As for `Model`.
        temperature: As for `Model`.
        seed: As for `Model`.
        concurrency: As for `Model`.
        timeout: As for `Model`.
        api_key: As for `Model`.
        price: As for `Model`.
        say: As for `Model`.
    """

    def __init__(
        self,
        model: str = "",
        base_url: str = "https://api.openai.com/v1",
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        concurrency: int | None = None,
        timeout: float = 300.0,
        api_key: str | None = None,
        price: Price | None = None,
        say: Say | None = None,
    ) -> None:
        super().__init__(
            model,
            base_url,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            concurrency=concurrency,
            timeout=timeout,
            api_key=api_key,
            price=price,
            say=say,
        )
