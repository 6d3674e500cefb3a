"""Batches that follow one another on one pool and out of one purse: plan, map and reduce."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Any

import msgspec

from aurora_swarm.batch.run import BatchOptions, Inputs, run_batch
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.errors import UsageError
from aurora_swarm.pools.open import PoolOptions, open_pool
from aurora_swarm.pools.pool import Pool
from aurora_swarm.settings import load_settings
from aurora_swarm.values.budget import Budget, Price
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Usage

Results = list[AgentResult[Any]]


class Phases:
    """Runs batches one after another; each may spend what those before it left. Made by `open_phases`.

    Args:
        pool: Where the models are, in every phase.
        options: Of the whole run; its budget is that of all phases together.
    """

    def __init__(self, pool: Pool, options: BatchOptions) -> None:
        self.pool = pool
        self._options = options
        self._began_s = _now_s()
        self._spent = Spent()

    async def run(self, spec: BatchSpec, inputs: Inputs, *, model: str = "", told: bool = False) -> Results:
        """One batch to its end.

        Args:
            spec: What it does.
            inputs: As for `run_batch`.
            model: Who does it; the model of the run when empty.
            told: Whether the run's `on_result` hears of it.

        Returns:
            One result per input, in the order of the inputs.

        Raises:
            UsageError: Something given is wrong.
            StorageError: The journal cannot be written any more.
        """
        options = self._options
        left = options.budget and self._spent.left_of(options.budget, options.price, _now_s() - self._began_s)
        options = msgspec.structs.replace(
            options,
            backend=self.pool,
            model=model or options.model,
            budget=left,
            on_result=options.on_result if told else None,
        )
        results = run_batch(spec, inputs, options)
        try:
            ended = sorted([result async for result in results], key=attrgetter("index"))
        finally:
            await results.aclose()
        self._spent = self._spent.and_for(ended)
        return ended


@asynccontextmanager
async def open_phases(options: BatchOptions, sampling: Sampling) -> AsyncIterator[Phases]:
    """One pool for several batches; opened here unless it is given, and then closed here.

    Args:
        options: Of the whole run.
        sampling: How tokens are picked where a call does not say.

    Raises:
        UsageError: No backend is named, or nothing can be reached.
    """
    settings = load_settings(os.environ)
    backend = settings.hostfile if options.backend is None else options.backend
    if backend is None:
        raise UsageError(
            "there is no backend",
            remedy="give backend='vllm://host:8000', a hostfile or 'local://', or set AURORA_SWARM_HOSTFILE",
        )
    held = PoolOptions(
        model=options.model or settings.model or "",
        concurrency=options.max_inflight,
        timeout_s=options.timeout_s,
        sampling=sampling,
        api_key=settings.api_key,
        local_model=options.local_model or settings.local_model,
        cache_dir=settings.cache_dir,
    )
    async with open_pool(backend, held, say=options.say) as pool:
        yield Phases(pool, options)


class Spent(msgspec.Struct, frozen=True):
    """What phases have spent. Pure.

    Args:
        usage: Tokens.
        tool_calls: Executions of tools.
    """

    usage: Usage = Usage()
    tool_calls: int = 0

    def and_for(self, results: Iterable[AgentResult[Any]]) -> Spent:
        """With what these have cost; what came from a journal cost nothing."""
        new = [result for result in results if not result.resumed]
        return Spent(
            sum((result.usage for result in new), self.usage),
            sum((result.tools_executed for result in new), self.tool_calls),
        )

    def left_of(self, budget: Budget, price: Price | None, elapsed_s: float) -> Budget:
        """What remains of a budget; nothing where more was spent than there was.

        Args:
            budget: Of all phases.
            price: What tokens cost; without it money is not counted.
            elapsed_s: Seconds since the first phase began.
        """
        usd = price.of(self.usage) if price is not None else 0.0
        return Budget(
            tokens=_less(budget.tokens, self.usage.total_tokens),
            usd=None if budget.usd is None else max(budget.usd - usd, 0.0),
            wall_s=None if budget.wall_s is None else max(budget.wall_s - elapsed_s, 0.0),
            tool_calls=_less(budget.tool_calls, self.tool_calls),
            width=budget.width,
        )


def _less(whole: int | None, spent: int) -> int | None:
    return None if whole is None else max(whole - spent, 0)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
