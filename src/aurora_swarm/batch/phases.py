"""Batches that follow one another on one pool and out of one purse: plan, map and reduce."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.batch.run import BatchOptions, Inputs, chosen_backend, pool_options, purse_of, whole_batch
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.pools.open import open_pool
from aurora_swarm.pools.pool import Pool
from aurora_swarm.settings import load_settings
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.outcome import AgentResult

Results = list[AgentResult[Any]]


class Phases:
    """Runs batches one after another, all out of one purse. Made by `open_phases`.

    Args:
        pool: Where the models are, in every phase.
        options: Of the whole run; its budget is that of all phases together.
        purse: Out of which all is paid; None for one by `options`.
    """

    def __init__(self, pool: Pool, options: BatchOptions, purse: Purse | None = None) -> None:
        self.pool = pool
        self._options = options
        self._purse = purse or purse_of(options)

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
        options = msgspec.structs.replace(
            self._options,
            backend=self.pool,
            model=model or self._options.model,
            on_result=self._options.on_result if told else None,
        )
        return await whole_batch(spec, inputs, options, purse=self._purse)


@asynccontextmanager
async def open_phases(
    options: BatchOptions, sampling: Sampling, *, purse: Purse | None = None
) -> AsyncIterator[Phases]:
    """One pool for several batches; opened here unless it is given, and then closed here.

    Args:
        options: Of the whole run.
        sampling: How tokens are picked where a call does not say.
        purse: Out of which all is paid; None for one by `options`.

    Raises:
        UsageError: No backend is named, or nothing can be reached.
    """
    settings = load_settings(os.environ)
    backend, held = chosen_backend(options, settings), pool_options(options, sampling, settings)
    async with open_pool(backend, held, say=options.say) as pool:
        yield Phases(pool, options, purse)
