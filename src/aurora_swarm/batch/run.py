"""One run of a batch: what is opened for it, and closed again whatever ends it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
from typing_extensions import TypeVar

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.agents.compaction import ContextRule
from aurora_swarm.batch.callbacks import OnResult
from aurora_swarm.batch.collector import NEW_OBJECTS_ONLY
from aurora_swarm.batch.compiler import TaskCompiler
from aurora_swarm.batch.ledger import Ledger
from aurora_swarm.batch.plan import Sharing
from aurora_swarm.batch.scheduler import WaveScheduler
from aurora_swarm.batch.spec import BatchSpec, Compaction
from aurora_swarm.batch.warming import Prefetcher, warm
from aurora_swarm.errors import UsageError
from aurora_swarm.journal.open import open_journal
from aurora_swarm.pools.budgets import length_of
from aurora_swarm.pools.open import Backend, PoolOptions, Say, open_pool
from aurora_swarm.pools.pool import Pool
from aurora_swarm.ports.journal import Journal
from aurora_swarm.ports.sink import Sink
from aurora_swarm.settings import Settings, load_settings
from aurora_swarm.telemetry.fanout import Fanout
from aurora_swarm.tools.mcp.open import opened_tools
from aurora_swarm.tools.mcp.server import McpServer
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.budget import Budget, Price
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.message import Message
from aurora_swarm.values.outcome import AgentResult

CompilerT = TypeVar("CompilerT", bound=TaskCompiler, default=TaskCompiler)
Inputs = Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]

BYTES_PER_TOKEN = 3
"""What compaction reckons with: less than texts have, so that it comes before a server refuses the conversation."""

MESSAGE_TOKENS = 16
"""What a chat template adds to a message, by the same rule."""


class BatchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where a batch runs and who watches it; what it does is a `BatchSpec`.

    Args:
        model: Model name; empty for the first that the backend serves.
        backend: See `open_pool`; None for the hostfile named by ``AURORA_SWARM_HOSTFILE``.
        max_inflight: Model calls under way at a time; None for what the backend can take.
        journal: File that keeps finished work; the same call with the same file resumes. None keeps nothing.
        on_result: Called with each result once it is durable; may be a coroutine function.
        timeout_s: Seconds for one request.
        sinks: Told what happens.
        say: Told in plain sentences what takes time before the first result.
        local_model: GGUF file for ``local://``.
        budget: What the run may spend; None bounds nothing.
        price: What its model costs, for a budget in money and for the cost of a run.
        warm: Whether what all agents share is computed once on each endpoint before the rest follows, where that pays.
        prefetch: Whether an agent's prefix is asked for shortly before its tool returns, for engines that offload
            their cache.
        streamed: Whether answers are streamed, so that the time to the first token is measured.
        sharing: How the batch is shared by several processes; None for this one alone.
    """

    model: str = ""
    backend: Backend | None = None
    max_inflight: int | None = None
    journal: str | Path | None = None
    on_result: OnResult | None = None
    timeout_s: float = 300.0
    sinks: tuple[Sink, ...] = ()
    say: Say | None = None
    local_model: str | None = None
    budget: Budget | None = None
    price: Price | None = None
    warm: bool = False
    prefetch: bool = False
    streamed: bool = False
    sharing: Sharing | None = None


async def run_batch(
    spec: BatchSpec, inputs: Inputs, options: BatchOptions, *, purse: Purse | None = None
) -> AsyncGenerator[AgentResult[Any], None]:
    """Run a batch; yield each result when it is final and, with a journal, durable.

    Args:
        spec: What it does.
        inputs: Pulled as agents finish; a list is checked as a whole before anything starts.
        options: Where it runs.
        purse: Out of which it is paid, where several runs share one; None for one by `options`.

    Yields:
        Exactly one result per input, in order of completion.

    Raises:
        UsageError: Something given is wrong; nothing was sent.
        StorageError: The journal cannot be written any more; what is unsaved is named.
    """
    async with open_batch(spec, inputs, options, purse=purse) as results:
        async for result in results:
            yield result


@asynccontextmanager
async def open_batch(
    spec: BatchSpec, inputs: Inputs, options: BatchOptions, *, purse: Purse | None = None
) -> AsyncIterator[AsyncGenerator[AgentResult[Any], None]]:
    """The results of `run_batch`, without a generator of its own around them. Leaving the context ends the work."""
    if options.sharing is not None:
        async with _open_shared(spec, inputs, options, purse) as results:
            yield results
        return
    async with (
        _opened(spec, inputs, options, purse) as scheduler,
        aclosing(scheduler.results(inputs, _total(inputs))) as results,
    ):
        yield results


async def whole_batch(
    spec: BatchSpec, inputs: Inputs, options: BatchOptions, *, purse: Purse | None = None
) -> list[AgentResult[Any]]:
    """The results of `run_batch`, all at the end, in the order of the inputs."""
    if options.sharing is not None:
        async with _open_shared(spec, inputs, options, purse) as results:
            return sorted([result async for result in results], key=attrgetter("index"))
    async with _opened(spec, inputs, options, purse) as scheduler:
        return await scheduler.all_results(inputs, _total(inputs))


def _open_shared(
    spec: BatchSpec, inputs: Inputs, options: BatchOptions, purse: Purse | None
) -> AbstractAsyncContextManager[AsyncGenerator[AgentResult[Any], None]]:
    """The results of a batch that several processes share.

    Raises:
        UsageError: A budget is given.
    """
    from aurora_swarm.batch.distributed import open_shared  # noqa: PLC0415 - which is built on this module

    if purse is not None or options.budget is not None:
        remedy = "leave the budget or the store out"
        raise UsageError("a budget cannot be kept by several processes", remedy=remedy)
    return open_shared(spec, inputs, options)


def _total(inputs: Inputs) -> int | None:
    return len(inputs) if isinstance(inputs, Sequence) else None


@asynccontextmanager
async def _opened(
    spec: BatchSpec, inputs: Inputs, options: BatchOptions, purse: Purse | None
) -> AsyncIterator[WaveScheduler]:
    """All that a run needs; closed again whatever ends it."""
    settings = load_settings(os.environ)
    spec = with_max_tokens(spec, settings.max_tokens)
    if isinstance(inputs, Sequence):
        TaskCompiler(spec, "").check(inputs)
    if spec.runtime is not None:
        spec.runtime.check()
    backend, purse = chosen_backend(options, settings), purse or purse_of(options)
    async with AsyncExitStack() as stack:
        journal = await open_journal(options.journal)
        stack.push_async_callback(_close, journal, options.say, len(journal.notes))
        _pass_on(journal.notes, options.say)
        opened = open_pool(backend, pool_options(options, spec.sampling, settings), say=options.say)
        pool = await stack.enter_async_context(opened)
        spec = await with_servers(spec, stack)
        compiler = await compiler_for(spec, options.model or pool.model, pool, inputs=inputs)
        tools = ToolPool()
        stack.push_async_callback(tools.aclose)
        scheduler = WaveScheduler(
            compiler,
            pool,
            tools,
            Ledger(journal, compiler.output, compiler.conditions),
            Fanout(*options.sinks) if options.sinks else None,
            max_inflight=options.max_inflight,
            purse=purse,
            prefetcher=await _prefetcher(options, purse, pool, stack),
            api_key=settings.api_key or "",
            on_result=options.on_result,
        )
        # A journal that holds work has nothing to wait for; and what is spent on nobody's behalf is nobody's to pay.
        if options.warm and purse is None and not journal.statistics().records:
            await warm(pool, compiler.opening, model=compiler.model, agents=_total(inputs))
        total = _total(inputs)
        stack.enter_context(NEW_OBJECTS_ONLY.during(scheduler.width if total is None else min(scheduler.width, total)))
        yield scheduler


def purse_of(options: BatchOptions) -> Purse | None:
    """What a run may spend.

    Raises:
        UsageError: Money is bounded, and nobody says what the model costs.
    """
    return Purse(options.budget, options.price) if options.budget is not None else None


async def with_servers(spec: BatchSpec, stack: AsyncExitStack) -> BatchSpec:
    """The batch with the tools of the MCP servers among its tools, which are open until the stack is closed."""
    if not any(isinstance(tool, McpServer) for tool in spec.tools):
        return spec
    tools = await stack.enter_async_context(opened_tools(spec.tools))
    return msgspec.structs.replace(spec, tools=tuple(tools))


async def _prefetcher(
    options: BatchOptions, purse: Purse | None, pool: Pool, stack: AsyncExitStack
) -> Prefetcher | None:
    if not options.prefetch or purse is not None or not pool.capabilities.prefetch:
        return None
    return await stack.enter_async_context(Prefetcher(pool))


async def compiler_for(
    spec: BatchSpec,
    model: str,
    pool: Pool,
    *,
    inputs: Inputs | None = None,
    shared: Mapping[str, Any] | None = None,
    kind: type[CompilerT] = TaskCompiler,  # type: ignore[assignment]
) -> CompilerT:
    """The compiler for what a backend can do.

    Args:
        spec: The batch.
        model: The model's name; empty where each endpoint has its own.
        pool: The backend.
        inputs: All inputs, where they are known.
        shared: Fields that all inputs have in common, where the inputs are not known here.
        kind: Which compiler.
    """
    able = pool.capabilities
    native = able.native_tools if spec.tool_protocol == "auto" else spec.tool_protocol == "native"
    return kind(
        spec,
        model,
        models=model or " ".join(sorted({endpoint.tags.get("model", "") for endpoint in pool.endpoints})),
        inputs=inputs if isinstance(inputs, Sequence) else None,
        shared=shared,
        schema_in_words=not able.schemas or (native and bool(spec.tools)),  # a turn with tools is not constrained
        native_tools=native,
        context=await context_rule(spec.compaction, pool, spec.sampling.max_tokens) if spec.tools else None,
    )


async def context_rule(compaction: Compaction, pool: Pool, max_tokens: int | None) -> ContextRule | None:
    """When conversations are shortened; None where they are not to be, or no server tells how much it holds.

    Args:
        compaction: Who shortens them.
        pool: Who is asked.
        max_tokens: What a turn may generate.
    """
    if compaction == "off":
        return None
    members = pool.view.members
    room = pool.runtime.known_room(members, max_tokens) or await pool.runtime.prompt_room(members, max_tokens)
    return None if room is None else ContextRule(room, _tokens, compaction)


def _tokens(messages: Sequence[Message]) -> int:
    """Tokens of messages, at most; the same for the same messages, so that a recording can be resumed."""
    length = length_of(messages)
    for message in messages:
        for call in message.tool_calls:
            length += len(msgspec.json.encode(call.arguments))
    return length // BYTES_PER_TOKEN + MESSAGE_TOKENS * len(messages)


def chosen_backend(options: BatchOptions, settings: Settings) -> Backend:
    """What was given, else the environment's hostfile.

    Raises:
        UsageError: Neither is there.
    """
    backend = settings.hostfile if options.backend is None else options.backend
    if backend is None:
        raise UsageError(
            "there is no backend",
            remedy="give backend='vllm://host:8000', a hostfile or 'local://', or set AURORA_SWARM_HOSTFILE",
        )
    return backend


def pool_options(
    options: BatchOptions, sampling: Sampling, settings: Settings, *, api_key: str | None = None
) -> PoolOptions:
    """How a run holds its fleet; `api_key` goes before that of the settings."""
    return PoolOptions(
        model=options.model or settings.model or "",
        concurrency=options.max_inflight,
        timeout_s=options.timeout_s,
        sampling=sampling,
        api_key=api_key or settings.api_key,
        local_model=options.local_model or settings.local_model,
        cache_dir=settings.cache_dir,
        streamed=options.streamed,
    )


def with_max_tokens(spec: BatchSpec, max_tokens: int | None) -> BatchSpec:
    """The batch with the environment's bound on tokens, where it sets none itself."""
    if max_tokens is None or spec.sampling.max_tokens is not None:
        return spec
    return msgspec.structs.replace(spec, sampling=msgspec.structs.replace(spec.sampling, max_tokens=max_tokens))


async def _close(journal: Journal, say: Say | None, told: int) -> None:
    """Close a journal, and pass on what it found out since it was opened."""
    await journal.aclose()
    _pass_on(journal.notes[told:], say)


def _pass_on(notes: Iterable[str], say: Say | None) -> None:
    """What a journal found: damage, and where it was put aside."""
    if say is not None:
        for note in notes:
            say(note)
