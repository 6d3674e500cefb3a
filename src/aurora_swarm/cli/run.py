"""``aurora-swarm run``: a batch from a specification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aurora_swarm.cli.options import (
    BackendOption,
    BudgetSecondsOption,
    BudgetTokensOption,
    BudgetToolCallsOption,
    BudgetUsdOption,
    EngineOption,
    EventsOption,
    HostfileOption,
    JournalOption,
    JsonOption,
    LocalModelOption,
    MaxInflightOption,
    ModelOption,
    NoJournalOption,
    OutputOption,
    OverwriteOption,
    PricesOption,
    ProcessesOption,
    QuietOption,
    RunIdOption,
    StoreOption,
    StreamOption,
    TimeoutOption,
    chosen_backend,
    chosen_budget,
    chosen_price,
    chosen_reduction,
    environment,
)

if TYPE_CHECKING:
    from aurora_swarm.batch.run import BatchOptions
    from aurora_swarm.batch.spec import BatchSpec
    from aurora_swarm.inputs.prices import PriceTable
    from aurora_swarm.inputs.spec import RunSpec
    from aurora_swarm.values.budget import Budget


def run(
    spec: Annotated[Path, typer.Argument(help="A .yaml, .toml or .json file with task, inputs and the rest.")],
    *,
    output: OutputOption = None,
    journal: JournalOption = None,
    no_journal: NoJournalOption = False,
    overwrite: OverwriteOption = False,
    events: EventsOption = None,
    json_: JsonOption = False,
    quiet: QuietOption = False,
    backend: BackendOption = None,
    hostfile: HostfileOption = None,
    model: ModelOption = None,
    local_model: LocalModelOption = None,
    timeout: TimeoutOption = None,
    max_inflight: MaxInflightOption = None,
    stream: StreamOption = None,
    prices: PricesOption = None,
    budget_tokens: BudgetTokensOption = None,
    budget_usd: BudgetUsdOption = None,
    budget_seconds: BudgetSecondsOption = None,
    budget_tool_calls: BudgetToolCallsOption = None,
    store: StoreOption = None,
    processes: ProcessesOption = None,
    engine: EngineOption = None,
    run_id: RunIdOption = None,
) -> int:
    """Run a batch from a specification; what the command line says wins over what the file says."""
    from aurora_swarm.cli.batches import Batch, Delivery, conduct  # noqa: PLC0415 - start-up is light
    from aurora_swarm.cli.sharing import chosen_sharing, conduct_shared  # noqa: PLC0415
    from aurora_swarm.cli.sources import open_source  # noqa: PLC0415
    from aurora_swarm.inputs.prices import load_prices  # noqa: PLC0415
    from aurora_swarm.inputs.spec import load_spec  # noqa: PLC0415
    from aurora_swarm.inputs.template import Template  # noqa: PLC0415

    said = load_spec(spec)
    chosen = _backend(said) if not backend and hostfile is None else None
    table = load_prices(prices) if prices else said.prices
    budget = chosen_budget(budget_tokens, budget_usd, budget_seconds, budget_tool_calls, said.budget)
    options = _options(
        said,
        table,
        budget,
        backend=chosen_backend(backend, hostfile) if chosen is None else chosen,
        model=model,
        local_model=local_model,
        timeout_s=timeout,
        max_inflight=max_inflight,
        streamed=stream,
    )
    source = open_source(said.inputs, Template(said.task, "task"), keep=said.keep)
    delivery = Delivery(
        output=output or _path(said.output),
        journal=journal or said.journal,
        no_journal=no_journal,
        overwrite=overwrite,
        as_json=json_,
        quiet=quiet,
        events=events or _path(said.events),
    )
    reduction = chosen_reduction(said.reduce, said.reduce_schema, said.temperature)
    batch = Batch(batch_spec(said, spec), source, options, table, reduction, said.keep)
    sharing = chosen_sharing(store, processes, engine, run_id)
    return conduct(batch, delivery) if sharing is None else conduct_shared(batch, delivery, sharing, said, spec)


def _backend(said: RunSpec) -> str | Path | list[str] | None:
    return Path(said.hostfile) if said.hostfile else said.backend


def _path(text: str | None) -> Path | None:
    """A path of the specification, from where the user is if it is below: so it is shorter to read."""
    if not text:
        return None
    path, here = Path(text), Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _options(
    said: RunSpec,
    table: PriceTable | None,
    budget: Budget | None,
    *,
    backend: str | Path | list[str],
    model: str | None,
    local_model: str | None,
    timeout_s: float | None,
    max_inflight: int | None,
    streamed: bool | None,
) -> BatchOptions:
    from aurora_swarm.batch.run import BatchOptions  # noqa: PLC0415

    return BatchOptions(
        model=model or said.model,
        backend=backend,
        max_inflight=max_inflight or said.max_inflight,
        timeout_s=timeout_s or said.request_timeout_s or 300.0,
        local_model=local_model,
        budget=budget,
        price=chosen_price(table, budget, model or said.model),
        warm=said.warm,
        prefetch=said.prefetch,
        streamed=said.stream if streamed is None else streamed,
    )


def batch_spec(said: RunSpec, file: Path) -> BatchSpec:
    """What a specification asks of each agent.

    Args:
        said: What it says.
        file: Where it stands; tools find their folders from there.

    Raises:
        SpecError: A tool cannot be made as it says.
        UsageError: A runtime cannot.
    """
    from aurora_swarm.batch.spec import BatchSpec  # noqa: PLC0415
    from aurora_swarm.cli.runtimes import runtime_of  # noqa: PLC0415
    from aurora_swarm.cli.toolbox import tools_of  # noqa: PLC0415
    from aurora_swarm.values.call import Sampling  # noqa: PLC0415

    sampling = Sampling(
        max_tokens=said.max_tokens or environment().max_tokens,
        temperature=said.temperature,
        top_p=said.top_p,
        seed=said.seed,
    )
    return BatchSpec(
        task=said.task,
        system_prompt=said.system_prompt,
        tools=tools_of(said.tools, file),
        output_schema=said.output_schema,
        tool_choice=said.tool_choice,
        max_turns=said.max_turns,
        max_retries=said.max_retries,
        sampling=sampling,
        agent_timeout_s=said.timeout_s,
        turn_timeout_s=said.turn_timeout_s,
        tool_protocol=said.tool_protocol,
        max_parallel_tools=said.max_parallel_tools,
        compaction=said.compaction,
        hoist=said.hoist,
        runtime=runtime_of(said.runtime),
    )
