"""Drives a batch that several processes share: puts the inputs in, has workers begun, and reads what comes out.

Whoever drives may die too: the run goes on, and the same call with the same run id takes it up again. Nothing but the
store knows how far it is; every result is read from its stream, from the first on, exactly once.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from aurora_swarm.batch.admitting import Admission
from aurora_swarm.batch.callbacks import told
from aurora_swarm.batch.compiler import TaskCompiler
from aurora_swarm.batch.hoisting import fields_in_common
from aurora_swarm.batch.plan import Errand, Where, digest_of, packed
from aurora_swarm.batch.run import BatchOptions, Inputs, chosen_backend, with_max_tokens
from aurora_swarm.batch.shard_results import read
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.engines.open import open_engine
from aurora_swarm.errors import AuroraSwarmError, EngineError, UsageError
from aurora_swarm.inputs.template import Template
from aurora_swarm.journal.shards import open_shards
from aurora_swarm.pools.open import Backend, describe
from aurora_swarm.ports.shards import ShardStore
from aurora_swarm.settings import Settings, load_settings
from aurora_swarm.telemetry.fanout import Fanout
from aurora_swarm.values.event import AgentEnded, AgentStarted, Event, RunEnded, RunStarted, ToolEnded
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.shard import Output, RunPlan

READ = 500
"""Outputs that are read at a time."""

WAIT_S = 0.5
"""How long an empty stream is waited at, before it is looked whether workers are still there."""

LEAVE_S = 5.0
"""What workers get to see that nothing is left to do."""


@asynccontextmanager
async def open_shared(
    spec: BatchSpec, inputs: Inputs, options: BatchOptions
) -> AsyncGenerator[AsyncGenerator[AgentResult[Any], None], None]:
    """The results of a batch that several processes share. Leaving the context ends the workers that it began.

    Args:
        spec: What it does.
        inputs: Pulled as results come; a list is checked as a whole before anything starts.
        options: Where it runs; its `sharing` says how.

    Raises:
        UsageError: Something given is wrong, or the run that is there is one of something else. Nothing was begun.
        StorageError: The store cannot be reached.
    """
    sharing = options.sharing
    assert sharing is not None
    settings = load_settings(os.environ)
    spec = with_max_tokens(spec, settings.max_tokens)
    where = where_of(options, settings)
    urls = _urls(where.backend)
    plan = plan_of(spec, inputs, options, where)
    async with AsyncExitStack() as stack:
        store = await open_shards(sharing.store, plan)
        stack.push_async_callback(store.aclose)
        engine = open_engine(sharing.engine, say=options.say) if sharing.processes else None
        if engine is not None:
            stack.push_async_callback(engine.aclose)
        # Before a worker can see that all inputs of an earlier call have their results, and leave.
        await store.open_admission()
        admission = Admission(store, inputs, sharing.window)
        tasks = {"admitting": asyncio.create_task(admission.admit())}
        stack.push_async_callback(_end, tasks)
        if engine is not None:
            argument = msgspec.json.encode(Errand(store=sharing.store, run=plan.run, where=where)).decode()
            tasks["keeping"] = asyncio.create_task(engine.keep(sharing.worker, argument, sharing.processes))
        total = len(inputs) if isinstance(inputs, Sequence) else None
        driver = _Driver(store, admission, tasks, options, TaskCompiler(spec, "").output)
        began = RunStarted(total, urls, where.model)
        yield await stack.enter_async_context(aclosing(driver.results(began)))


def where_of(options: BatchOptions, settings: Settings) -> Where:
    """Where workers find the model.

    Raises:
        UsageError: The backend lives in this process.
    """
    return Where(
        backend=_address(chosen_backend(options, settings)),
        model=options.model or settings.model or "",
        max_inflight=options.max_inflight,
        timeout_s=options.timeout_s,
        local_model=options.local_model or settings.local_model,
        prefetch=options.prefetch,
        streamed=options.streamed,
    )


def plan_of(spec: BatchSpec, inputs: Inputs, options: BatchOptions, where: Where) -> RunPlan:
    """What all processes of a run must agree on.

    Raises:
        UsageError: Something given cannot be used by several processes.
    """
    sharing = options.sharing
    assert sharing is not None
    sharing.check()
    if options.journal is not None:
        raise UsageError("journal and store are both given", remedy="leave the journal out: the store keeps the work")
    compiler = TaskCompiler(spec, "")
    shared: dict[str, Any] = {}
    if isinstance(inputs, Sequence):
        compiler.check(inputs)
        shared = fields_in_common(Template(spec.task, "task"), inputs) if spec.hoist else {}
    digest = digest_of(spec, where.model)
    return RunPlan(
        run=sharing.run or run_id_of(digest, sharing.store),
        shards=sharing.shards,
        spec=packed(spec, where, shared, sharing.document),
        digest=digest,
        max_attempts=sharing.max_attempts,
        lease_s=sharing.lease_s,
    )


async def find_run(spec: BatchSpec, options: BatchOptions) -> tuple[str, bool]:
    """The id of a run, and whether its store has results of it.

    Raises:
        StorageError: The store cannot be reached.
    """
    sharing = options.sharing
    assert sharing is not None
    settings = load_settings(os.environ)
    digest = digest_of(with_max_tokens(spec, settings.max_tokens), options.model or settings.model or "")
    run = sharing.run or run_id_of(digest, sharing.store)
    try:
        store = await open_shards(sharing.store, run=run)
    except UsageError:  # there is no such run; whatever else is wrong is said when it is made
        return run, False
    try:
        return run, (await store.progress()).finished > 0
    finally:
        await store.aclose()


def run_id_of(digest: str, store: str) -> str:
    """The id of a run that was given none: the same for the same batch, so that the same call continues it."""
    return f"run-{hashlib.blake2b(f'{digest} {store}'.encode(), digest_size=6).hexdigest()}"


def _address(backend: Backend) -> str | list[str]:
    """What each worker opens.

    Raises:
        UsageError: It lives in this process.
    """
    if isinstance(backend, Path):
        return str(backend.absolute())
    if isinstance(backend, str):
        return str(Path(backend).absolute()) if "://" not in backend and Path(backend).is_file() else backend
    if isinstance(backend, Sequence) and all(isinstance(each, str) for each in backend):
        return [str(each) for each in backend]
    raise UsageError(
        f"the backend is a {type(backend).__name__}, which no other process can use",
        remedy="give an address such as vllm://host:8000, several of them, or a hostfile",
    )


def _urls(backend: str | list[str]) -> tuple[str, ...]:
    """The fleet, for who watches; nothing where each worker has a model of its own."""
    if isinstance(backend, str) and backend.startswith("local:"):
        return ()
    return tuple(endpoint.url for endpoint in describe(backend)[1])


async def _end(tasks: dict[str, asyncio.Task[None]]) -> None:
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


class _Driver:
    """Reads the stream of a run's outputs, and tells who watches.

    Args:
        store: Where the run is.
        admission: Whose result is whose.
        tasks: What goes on beside it: admitting, and keeping workers alive.
        options: Who is told.
        output: What counts as an answer.
    """

    def __init__(
        self,
        store: ShardStore,
        admission: Admission,
        tasks: dict[str, asyncio.Task[None]],
        options: BatchOptions,
        output: Any,
    ) -> None:
        self._store = store
        self._admission = admission
        self._tasks = tasks
        self._options = options
        self._output = output
        self._emit: Callable[[Event], None] | None = Fanout(*options.sinks).emit if options.sinks else None
        self._before = 0  # outputs to be read that were there when this call began
        self._kept: set[str] = set()  # of those that were read, whose inputs are not there yet

    async def results(self, began: RunStarted) -> AsyncGenerator[AgentResult[Any], None]:
        """Each result once, in the order of the stream."""
        finished = False
        self._tell(began)
        self._before = (await self._store.progress()).finished
        try:
            async with aclosing(self._outputs()) as outputs:
                async for output, index, resumed in outputs:
                    yield await self._told(output, index, resumed=resumed)
            finished = True
            await self._let_workers_leave()
        finally:
            self._tell(RunEnded(cancelled=not finished))

    async def _outputs(self) -> AsyncGenerator[tuple[Output, int, bool], None]:
        cursor, alone = "", False
        while not self._admission.is_finished:
            self._check()
            if not self._admission.wants_outputs:
                await self._admission.moved(WAIT_S)
            found = self._admission.take_early()
            if not found and self._admission.wants_outputs:
                found = await self._store.outputs(cursor, READ, wait_s=WAIT_S)
                cursor = found[-1].cursor if found else cursor
                self._keep(found)
                if not found and alone:
                    raise EngineError("the workers ended before every input had a result", remedy="see what they said")
                alone = self._workers_are_gone() and not found
            for output in found:
                index, resumed = self._admission.place(output), output.result.job in self._kept
                if index is not None or self._admission.is_whole:
                    self._kept.discard(output.result.job)
                if index is not None:
                    yield output, index, resumed
        self._check()

    def _keep(self, found: list[Output]) -> None:
        """Remember which outputs are those of an earlier call: the stream begins with them."""
        self._kept.update(output.result.job for output in found[: self._before])
        self._before -= min(self._before, len(found))

    def _check(self) -> None:
        """Raise what went wrong beside the stream; what inputs raised, once all that were put in have results."""
        for name, task in self._tasks.items():
            error = task.exception() if task.done() and not task.cancelled() else None
            at_once = name == "keeping" or isinstance(error, AuroraSwarmError)
            if error is not None and (at_once or self._admission.is_finished):
                raise error

    def _workers_are_gone(self) -> bool:
        keeping = self._tasks.get("keeping")
        return keeping is not None and keeping.done()

    async def _let_workers_leave(self) -> None:
        keeping = self._tasks.get("keeping")
        if keeping is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(keeping, LEAVE_S)

    async def _told(self, output: Output, index: int, *, resumed: bool) -> AgentResult[Any]:
        result, tools = read(output.result.payload, index, self._output)
        result = msgspec.structs.replace(result, key=output.result.job, resumed=resumed)
        self._tell(AgentStarted(index))
        for tool in tools:
            self._tell(msgspec.structs.replace(tool, index=index) if isinstance(tool, ToolEnded) else tool)
        if self._options.on_result is not None:
            result = await told(self._options.on_result, result)
        self._tell(AgentEnded(result))
        return result

    def _tell(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)
