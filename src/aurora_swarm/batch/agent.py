"""The front door of the batch: many agents over a list of inputs."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import (
    AsyncGenerator,
    Callable,
    Coroutine,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any, ParamSpec, TypedDict, Unpack

from pydantic import BaseModel
from typing_extensions import TypeVar

from aurora_swarm.agents.turns import ToolChoice
from aurora_swarm.batch.callbacks import OnResult
from aurora_swarm.batch.loop import run_on_loop
from aurora_swarm.batch.map_reduce import Planning, run_with_map_reduce
from aurora_swarm.batch.plan import Sharing
from aurora_swarm.batch.reduce import Reduction, Summary, run_with_reduce
from aurora_swarm.batch.run import BatchOptions, Inputs, open_batch, whole_batch
from aurora_swarm.batch.spec import BatchSpec, Compaction, Runtime, Schema, ToolLike, ToolProtocol
from aurora_swarm.errors import UsageError
from aurora_swarm.pools.open import Backend
from aurora_swarm.ports.sink import Sink
from aurora_swarm.values.budget import Budget, Price
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.outcome import AgentResult

OutputT = TypeVar("OutputT", bound=BaseModel, default=Any)
ReducedT = TypeVar("ReducedT", bound=BaseModel, default=Any)
ReturnT = TypeVar("ReturnT")
ParamsT = ParamSpec("ParamsT")


class BatchExtras(TypedDict, total=False):
    """What `BatchAgent.run` also takes by keyword.

    Args:
        tool_choice: ``required`` makes each agent use a tool before it answers; ``auto``, as usual, leaves it to it.
        max_tokens: Tokens to generate per turn at most.
        temperature: 0 is greedy; left out, the server decides.
        seed: For engines that can repeat themselves.
        timeout: Seconds for one request; 300.
        turn_timeout: Seconds for one model turn, its retries and its waiting included; none.
        agent_timeout: Seconds for one agent; none.
        journal: File that keeps finished work and turns; the same call with the same file resumes.
        sinks: Told what happens.
        budget: What the run may spend at most: reserved before each step, settled after it.
        price: What the model costs; a budget in money needs it.
        tool_protocol: ``native`` for the server's own tool calls, ``constrained`` for steps held to a schema, ``auto``
            (usual) for what is known of the backend.
        max_parallel_tools: Tool calls of one agent under way at a time; 8.
        compaction: ``heuristic`` (usual), ``model`` or ``off``: what happens to a conversation that outgrows the
            context.
        hoist: Whether fields that are equal for all inputs are said once, in front, so that engines cache them; yes.
        warm: Whether what all agents share is computed once per endpoint before the rest follows, if it is long; no,
            for it was never seen to save time.
        prefetch: Whether an agent's prefix is asked for shortly before its tool returns, for engines that offload; no.
        streamed: Whether answers are streamed, so that the time to the first token is measured; no.
        runtime: What leads each agent in place of our own turns, such as `aurora_swarm.agents.coding.OpenCode`; give
            `max_inflight` too, for each such agent is a process.
        store: Where several processes share the run: ``redis://host:6379/0``, or ``sqlite:///path`` on one machine.
            Without it this process does all.
        engine: Who starts the workers: ``processes`` (usual), ``ray``, ``ray://host:port`` or ``local``.
        processes: How many workers; 2. With 0 none is started, and the run waits for those that you start.
        run_id: Names the run in the store; the same call with the same one continues it. One is made of the task and
            its settings where none is given.
    """

    tool_choice: ToolChoice
    max_tokens: int | None
    temperature: float | None
    seed: int | None
    timeout: float
    turn_timeout: float | None
    agent_timeout: float | None
    journal: str | Path | None
    sinks: Sequence[Sink]
    budget: Budget | None
    price: Price | None
    tool_protocol: ToolProtocol
    max_parallel_tools: int
    compaction: Compaction
    hoist: bool
    warm: bool
    prefetch: bool
    streamed: bool
    runtime: Runtime | None
    store: str | None
    engine: str
    processes: int
    run_id: str


class BatchKeywords(BatchExtras, total=False):
    """All that `BatchAgent.run` takes by keyword, and documents; for the functions that are built on it."""

    system_prompt: str
    tools: Sequence[ToolLike]
    output_schema: Schema
    model: str
    backend: Backend | None
    max_inflight: int | None
    max_turns: int
    max_retries: int
    on_result: OnResult | None


_SAMPLING = ("max_tokens", "temperature", "seed")
_SHARING = {"store": "store", "engine": "engine", "processes": "processes", "run_id": "run"}
_RENAMED = {"timeout": "timeout_s", "agent_timeout": "agent_timeout_s", "turn_timeout": "turn_timeout_s"}


def planned(task: str, **said: Unpack[BatchKeywords]) -> tuple[BatchSpec, BatchOptions]:
    """What keywords of `BatchAgent.run` mean: what is done, and where.

    Args:
        task: Template of each agent's task.
        **said: What `BatchAgent.run` takes.

    Raises:
        UsageError: A value cannot be used.
    """
    given: dict[str, Any] = {_RENAMED.get(name, name): value for name, value in said.items()}
    sampling = Sampling(**{name: given.pop(name) for name in _SAMPLING if name in given})
    given |= {name: tuple(given[name]) for name in ("tools", "sinks") if name in given}
    given["sharing"] = _sharing({name: given.pop(name) for name in _SHARING if name in given})
    options = {name: given.pop(name) for name in BatchOptions.__struct_fields__ if name in given}
    return BatchSpec(task=task, sampling=sampling, **given), BatchOptions(**options)


def _sharing(said: dict[str, Any]) -> Sharing | None:
    """How the run is shared; None where it is not.

    Raises:
        UsageError: Something is said of workers, and there is no store.
    """
    said = {_SHARING[name]: value for name, value in said.items()}
    if said.get("store") is not None:
        return Sharing(**said)
    if said.keys() - {"store"}:
        remedy = "give store='redis://host:6379/0' or store='sqlite:///run.db'"
        raise UsageError("engine, processes and run_id are of use with a store only", remedy=remedy)
    return None


def _check_alone(options: BatchOptions) -> None:
    """Make sure that this process does all.

    Raises:
        UsageError: The run is to be shared.
    """
    if options.sharing is not None:
        remedy = "share the run of the inputs alone, then reduce its results in this process"
        raise UsageError("a run that reduces cannot be shared by several processes", remedy=remedy)


def _blocking(function: Callable[ParamsT, Coroutine[Any, Any, ReturnT]]) -> Callable[ParamsT, ReturnT]:
    """A coroutine function as one that blocks; refuses to run inside an event loop, where it could only hang."""

    @functools.wraps(function)
    def blocking(*args: ParamsT.args, **kwargs: ParamsT.kwargs) -> ReturnT:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return run_on_loop(function(*args, **kwargs))
        raise UsageError("run_sync was called inside an event loop", remedy="use: await BatchAgent.run(...)")

    return blocking


class BatchAgent:
    """N tool-using agents over a list of inputs.

    Every input ends in exactly one `AgentResult`; a failure is a result whose `error` says why, never an exception.
    What is raised is what makes the run as a whole impossible.
    """

    @staticmethod
    async def stream(
        task: str,
        inputs: Inputs,
        *,
        system_prompt: str = "",
        tools: Sequence[ToolLike] = (),
        output_schema: type[OutputT] | Mapping[str, Any] | None = None,
        model: str = "",
        backend: Backend | None = None,
        max_inflight: int | None = None,
        max_turns: int = 8,
        max_retries: int = 2,
        on_result: OnResult | None = None,
        **more: Unpack[BatchExtras],
    ) -> AsyncGenerator[AgentResult[OutputT], None]:
        """Like `run`, but yields results as they finish; `result.index` says which input each belongs to.

        Inputs may be an async or an endless iterator. Closing the iterator early ends the work at once.
        """
        spec, options = planned(
            task,
            system_prompt=system_prompt,
            tools=tools,
            output_schema=output_schema,
            model=model,
            backend=backend,
            max_inflight=max_inflight,
            max_turns=max_turns,
            max_retries=max_retries,
            on_result=on_result,
            **more,
        )
        async with open_batch(spec, inputs, options) as results:
            async for result in results:
                yield result

    @staticmethod
    async def run(
        task: str,
        inputs: Inputs,
        *,
        system_prompt: str = "",
        tools: Sequence[ToolLike] = (),
        output_schema: type[OutputT] | Mapping[str, Any] | None = None,
        model: str = "",
        backend: Backend | None = None,
        max_inflight: int | None = None,
        max_turns: int = 8,
        max_retries: int = 2,
        on_result: OnResult | None = None,
        **more: Unpack[BatchExtras],
    ) -> list[AgentResult[OutputT]]:
        """Run one agent per input.

        Args:
            task: Template of each agent's task: ``{name}`` is replaced by a field of its input, unchanged.
            inputs: One mapping of fields per agent; may be empty.
            system_prompt: The same for all agents; sent first, so that engines cache it once.
            tools: Tools, plain typed functions, or MCP servers.
            output_schema: A pydantic model or a JSON schema that answers are constrained to and validated by.
            model: Name that the backend knows; empty for the first that it serves.
            backend: ``vllm://host:8000`` and the like, a hostfile, a list of URLs, a pool, or ``local://``; None for
                the hostfile named by ``AURORA_SWARM_HOSTFILE``.
            max_inflight: Model calls under way at a time; None for what the backend can take.
            max_turns: Model turns per agent; the last one may only answer.
            max_retries: Re-asks with the validation error after an invalid answer; tools are not run again for them.
            on_result: Called with each result once it is durable; may be a coroutine function.
            **more: See `BatchExtras`.

        Returns:
            One result per input, in the order of `inputs`.

        Raises:
            UsageError: Something given is wrong; nothing was sent.
            StorageError: The journal cannot be written any more; what is unsaved is named.
        """
        spec, options = planned(
            task,
            system_prompt=system_prompt,
            tools=tools,
            output_schema=output_schema,
            model=model,
            backend=backend,
            max_inflight=max_inflight,
            max_turns=max_turns,
            max_retries=max_retries,
            on_result=on_result,
            **more,
        )
        return await whole_batch(spec, inputs, options)

    run_sync = staticmethod(_blocking(run))
    """Like `run`, for code without an event loop; takes the same arguments."""

    @staticmethod
    async def run_with_reduce(
        task: str,
        inputs: Inputs,
        *,
        reduce: str,
        reduce_schema: type[ReducedT] | Mapping[str, Any] | None = None,
        reducer_model: str = "",
        fanin: int | None = None,
        **said: Unpack[BatchKeywords],
    ) -> tuple[list[AgentResult[Any]], Summary[ReducedT]]:
        """Run one agent per input, then make one answer of theirs.

        Where the answers do not fit the reducer's context, groups of them are reduced first, as a tree.

        Args:
            task: As for `run`.
            inputs: As for `run`; at least one, and not endless.
            reduce: What is to be made of the answers, which follow it; ``{n}`` is their number.
            reduce_schema: As `output_schema`, for the one answer and for those of groups.
            reducer_model: Who reduces; `model` when empty.
            fanin: Answers that one step takes in at most; None for as many as the context holds.
            **said: What `run` takes.

        Returns:
            The results in the order of `inputs`, and the summary. What failed is left out of it, and named in its
            `missing`; where nothing is left the summary is a failure.

        Raises:
            UsageError: Something given is wrong, or there is no input. Nothing was sent.
            StorageError: The journal cannot be written any more.
        """
        spec, options = planned(task, **said)
        _check_alone(options)
        reduction = Reduction(
            instruction=reduce,
            schema=reduce_schema,
            model=reducer_model,
            fanin=fanin,
            sampling=spec.sampling,
            max_retries=spec.max_retries,
        )
        return await run_with_reduce(spec, inputs, reduction, options)

    @staticmethod
    async def run_with_map_reduce(
        plan_prompt: str,
        plan_output_schema: type[BaseModel] | Mapping[str, Any],
        task: str,
        reduce: str,
        *,
        plan_inputs: Mapping[str, Any] | None = None,
        reduce_schema: type[ReducedT] | Mapping[str, Any] | None = None,
        planner_model: str = "",
        worker_model: str = "",
        reducer_model: str = "",
        fanin: int | None = None,
        **said: Unpack[BatchKeywords],
    ) -> tuple[list[AgentResult[Any]], Summary[ReducedT]]:
        """Let one agent make the list of inputs, run one agent per item, and make one answer of theirs.

        Args:
            plan_prompt: Template of the planner's task.
            plan_output_schema: The plan: an object with one list, or with one called ``items``.
            task: Template of each worker's task; an item's fields, ``{item}`` and ``{index}`` are its placeholders.
            reduce: As for `run_with_reduce`.
            plan_inputs: Fields for `plan_prompt`.
            reduce_schema: As for `run_with_reduce`.
            planner_model: Who plans; `model` when empty.
            worker_model: Who works; `model` when empty.
            reducer_model: Who reduces; `model` when empty.
            fanin: As for `run_with_reduce`.
            **said: What `run` takes.

        Returns:
            One result per item, and the summary, whose `plan` is the planner's result.

        Raises:
            UsageError: Something given is wrong. Nothing was sent.
            StorageError: The journal cannot be written any more.
        """
        spec, options = planned(task, **said)
        _check_alone(options)
        planning = Planning(
            prompt=plan_prompt,
            schema=plan_output_schema,
            inputs=plan_inputs or {},
            model=planner_model,
            sampling=spec.sampling,
        )
        reduction = Reduction(
            instruction=reduce, schema=reduce_schema, model=reducer_model, fanin=fanin, sampling=spec.sampling
        )
        return await run_with_map_reduce(planning, spec, reduction, options, worker_model=worker_model)
