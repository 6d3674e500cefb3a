"""Stages that feed each other: a graph through which items stream, each as soon as its parents are done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from aurora_swarm.errors import CallError, UsageError
from aurora_swarm.inputs.template import Template
from aurora_swarm.patterns.broadcast import FANIN, broadcast
from aurora_swarm.patterns.fan_in import Part, Reducer, reduce_template
from aurora_swarm.patterns.quorum import Quorum, least, shortfall
from aurora_swarm.pools.flow import as_they_finish, together
from aurora_swarm.pools.pool import Pool
from aurora_swarm.values.gathered import Gathered, Reduced
from aurora_swarm.values.outcome import Response


class Stage(msgspec.Struct, frozen=True):
    """One step of a pipeline.

    Args:
        name: Unique within the pipeline.
        prompt_template: ``{input}`` becomes what the stage is given; the name of a parent, such as ``{draft}``, what
            that one made; ``{initial_input}`` what the pipeline was given.
        n_agents: How many answers are asked for.
        output_transform: Makes the stage's output of its answers, failures left out; their texts, a blank line between
            them, when None.
        output_filter: Drops the answers for which it is false.
        after: Names of the stages whose outputs this one is given; the stage before it in the list when None, what the
            pipeline was given when empty. Several outputs become one ``{input}``, each below its stage's name.
        quorum: How many answers must be left after the filter, as a number or as a share of `n_agents`.
    """

    name: str
    prompt_template: str
    n_agents: int = 1
    output_transform: Callable[[list[Response]], Any] | None = None
    output_filter: Callable[[Response], bool] | None = None
    after: Sequence[str] | None = None
    quorum: Quorum = 1


class Flowed(msgspec.Struct, frozen=True):
    """What became of one item.

    Args:
        index: Its position.
        ok: Whether every stage had its quorum.
        output: What the last stage made; where several stages feed no other, a dict of theirs by name; None on failure.
        error: Why a stage had not enough answers, its name in the message.
        stages: The responses of each stage that was run.
    """

    index: int
    ok: bool
    output: Any
    error: CallError | None
    stages: dict[str, Gathered]


async def run_pipeline(pool: Pool, stages: Sequence[Stage], initial_input: Any, reuse_agents: bool = True) -> Any:
    """Send one input through all stages; those that do not feed each other run at the same time.

    Args:
        pool: Who is asked.
        stages: In an order in which parents stand before their children.
        initial_input: Text, or anything that can be written as JSON.
        reuse_agents: Whether any endpoint may work on any stage; else each stage has `n_agents` endpoints of its own.

    Returns:
        What the last stage made; where several stages feed no other, a dict of theirs by name.

    Raises:
        QuorumError: A stage had fewer answers than its quorum.
        UsageError: A stage is wrong, or the pool is too small for stages of their own. Nothing was sent.
    """
    flowed = await _Pipeline(pool, stages, reuse_agents=reuse_agents).flow(0, initial_input)
    if flowed.error is not None:
        raise flowed.error
    return flowed.output


async def stream_pipeline(
    pool: Pool,
    stages: Sequence[Stage],
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    reuse_agents: bool = True,
    width: int | None = None,
) -> AsyncGenerator[Flowed, None]:
    """Send many inputs through all stages; none waits for another, and results come as items are done.

    Args:
        pool: Who is asked.
        stages: As for `run_pipeline`.
        items: Pulled as there is room, so they may be endless.
        reuse_agents: As for `run_pipeline`.
        width: Items under way at a time; the pool's concurrency when None.

    Yields:
        What became of each item; failures are in it, not raised. Closing the iterator cancels what is under way.

    Raises:
        UsageError: As `run_pipeline` does.
    """
    pipeline = _Pipeline(pool, stages, reuse_agents=reuse_agents)
    results = as_they_finish(items, pipeline.flow, width=width or pool.concurrency)
    try:
        async for flowed in results:
            yield flowed
    finally:
        await results.aclose()


async def fan_out_fan_in(
    pool: Pool,
    prompt: str,
    collect_prompt: str,
    n_workers: int | None = None,
    *,
    quorum: Quorum = 1,
    max_tokens_aggregation: int | None = None,
) -> Reduced:
    """Ask several endpoints the same, then have any one collect their answers.

    Args:
        pool: Who is asked.
        prompt: Sent to every worker.
        collect_prompt: Template with ``{responses}``; failures are left out.
        n_workers: The first so many endpoints; all when None, or when there are fewer.
        quorum: As for `aurora_swarm.patterns.broadcast.broadcast_and_reduce`.
        max_tokens_aggregation: Tokens of a merged text at most; what the pool allows aggregations when None.

    Returns:
        The collector's response, with the account of all.

    Raises:
        UsageError: `collect_prompt` lacks ``{responses}``, `n_workers` is below 1, or `quorum` cannot be met.
    """
    template = reduce_template(collect_prompt)
    if n_workers is not None and n_workers < 1:
        raise UsageError(f"n_workers is {n_workers}", remedy="give 1 at least")
    workers = pool.slice(0, min(n_workers or pool.size, pool.size))
    needed = least(quorum, workers.size)
    responses = await broadcast(workers, prompt)
    parts = [Part.of(response, (place,)) for place, response in enumerate(responses) if response.success]
    most = max_tokens_aggregation or pool.max_tokens_aggregation
    room = await pool.runtime.prompt_room(pool.view.members, most)
    collector = Reducer(pool, template, fanin=FANIN, room=room, max_tokens=most)
    root = await collector.merge(parts, 0) if len(parts) >= needed else None
    return collector.account(root, responses, needed)


class _StageError(Exception):
    """A stage had too few answers; ends the item that it was working on."""

    def __init__(self, error: CallError) -> None:
        super().__init__(str(error))
        self.error = error


class _Pipeline:
    """Checked stages on their endpoints."""

    def __init__(self, pool: Pool, stages: Sequence[Stage], *, reuse_agents: bool) -> None:
        self._stages = {stage.name: stage for stage in stages}
        self._parents = parents_of(stages)
        self._templates = {stage.name: _template(stage, self._parents[stage.name]) for stage in stages}
        feeding = {name for parents in self._parents.values() for name in parents}
        self._sinks = [name for name in self._stages if name not in feeding]
        self._reuse = reuse_agents
        self._pools = dict.fromkeys(self._stages, pool) if reuse_agents else _own_pools(pool, stages)

    async def flow(self, index: int, item: Any) -> Flowed:
        """One item through all stages."""
        done: dict[str, Gathered] = {}
        loop = asyncio.get_running_loop()
        outputs: dict[str, asyncio.Future[Any]] = {name: loop.create_future() for name in self._stages}
        try:
            await together([self._stage(stage, item, outputs, done) for stage in self._stages.values()])
        except _StageError as failure:
            return Flowed(index, ok=False, output=None, error=failure.error, stages=done)
        made = {name: outputs[name].result() for name in self._sinks}
        return Flowed(index, True, made if len(made) > 1 else made[self._sinks[0]], None, done)

    async def _stage(
        self, stage: Stage, item: Any, outputs: Mapping[str, asyncio.Future[Any]], done: dict[str, Gathered]
    ) -> None:
        given = {name: await outputs[name] for name in self._parents[stage.name]}
        prompt = self._templates[stage.name].render({**given, "input": _joined(given, item), "initial_input": item})
        responses = done[stage.name] = await self._answers(stage, prompt)
        left = [r for r in responses if r.success and (stage.output_filter is None or stage.output_filter(r))]
        needed = least(stage.quorum, stage.n_agents)
        if len(left) < needed:
            error = shortfall(len(responses), responses, len(left), needed)
            error.problem = f"stage {stage.name}: {error.problem}"
            raise _StageError(error)
        made = stage.output_transform(left) if stage.output_transform else "\n\n".join(r.text for r in left)
        outputs[stage.name].set_result(made)

    async def _answers(self, stage: Stage, prompt: str) -> Gathered:
        pool = self._pools[stage.name]
        if not self._reuse:
            return await broadcast(pool, prompt)
        return Gathered(await pool.send_all([prompt] * stage.n_agents))


def parents_of(stages: Sequence[Stage]) -> dict[str, tuple[str, ...]]:
    """For each stage the names of those whose outputs it is given; pure.

    Raises:
        UsageError: There are no stages, a name occurs twice or cannot stand in a template, a stage asks for less than
            one answer, or names a parent that does not stand before it.
    """
    if not stages:
        raise UsageError("the pipeline has no stages", remedy="give one at least")
    parents: dict[str, tuple[str, ...]] = {}
    for stage in stages:
        previous = list(parents)[-1:]
        wanted = tuple(previous if stage.after is None else stage.after)
        unknown = [name for name in wanted if name not in parents]
        if stage.name in parents or stage.name in {"input", "initial_input", ""}:
            raise UsageError(f"a stage is named {stage.name!r}", remedy="give each a name of its own, not input")
        if unknown:
            raise UsageError(
                f"stage {stage.name} comes after {unknown[0]!r}, which does not stand before it",
                remedy="name stages that stand earlier in the list, so that there is no circle",
            )
        if stage.n_agents < 1:
            raise UsageError(f"stage {stage.name} asks {stage.n_agents} agents", remedy="ask 1 at least")
        least(stage.quorum, stage.n_agents)
        parents[stage.name] = wanted
    return parents


def _template(stage: Stage, parents: Sequence[str]) -> Template:
    template = Template(stage.prompt_template, f"stage {stage.name}")
    template.check({"input", "initial_input", *parents}, f"stage {stage.name}")
    return template


def _own_pools(pool: Pool, stages: Sequence[Stage]) -> dict[str, Pool]:
    wanted = sum(stage.n_agents for stage in stages)
    if wanted > pool.size:
        raise UsageError(
            f"the stages want {wanted} endpoints of their own, the pool has {pool.size}",
            remedy="ask fewer agents, or let stages share them with reuse_agents=True",
        )
    pools: dict[str, Pool] = {}
    start = 0
    for stage in stages:
        pools[stage.name] = pool.slice(start, start + stage.n_agents)
        start += stage.n_agents
    return pools


def _joined(given: Mapping[str, Any], item: Any) -> Any:
    """What stands for ``{input}``."""
    if len(given) < 2:
        return next(iter(given.values()), item)
    return "\n\n".join(f"{name}:\n{_text(output)}" for name, output in given.items())


def _text(output: Any) -> str:
    return output if isinstance(output, str) else msgspec.json.encode(output).decode()
