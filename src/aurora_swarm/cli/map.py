"""``aurora-swarm map``: one question of every input."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from aurora_swarm.cli.options import (
    WHAT,
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
    MaxTokensOption,
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
    TemperatureOption,
    TimeoutOption,
    chosen_backend,
    chosen_budget,
    chosen_price,
    chosen_reduction,
)

_ORIGIN = Path("--tool")
"""Where the tools are named, for what is said of them; their folders are found from the current one."""

_TURNS = 8
"""Turns of an agent that has tools, where nobody says; one without tools needs one."""

TemplateArgument = Annotated[
    str, typer.Argument(help="The prompt; {name} stands for a column or field, {text} for a line or a file.")
]
InputOption = Annotated[
    str,
    typer.Option(
        "--input",
        "-i",
        metavar="PATH",
        help="CSV, TSV, JSONL, JSON or text file, a folder, or - for standard input.",
        rich_help_panel=WHAT,
    ),
]
FormatOption = Annotated[
    Literal["jsonl", "json", "csv", "tsv", "txt"] | None,
    typer.Option("--format", help="How to read it. Default: by suffix.", rich_help_panel=WHAT),
]
PatternOption = Annotated[str, typer.Option(metavar="GLOB", help="Files of a folder.", rich_help_panel=WHAT)]
SchemaOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="JSON schema that answers are held to.", rich_help_panel=WHAT)
]
SystemOption = Annotated[str, typer.Option(help="System prompt, the same for all.", rich_help_panel=WHAT)]
KeepOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Column or field that each line of the results repeats, such as id. Repeat it for several.",
        rich_help_panel=WHAT,
    ),
]
ToolOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Tool that agents may use, such as read_file, for files below the current folder. Repeat it for several.",
        rich_help_panel=WHAT,
    ),
]
MaxTurnsOption = Annotated[
    int | None, typer.Option(min=1, help="Model turns per agent. Default: 1, with tools 8.", rich_help_panel=WHAT)
]
MaxRetriesOption = Annotated[
    int, typer.Option(min=0, help="Re-asks after an answer that the schema refuses.", rich_help_panel=WHAT)
]
ReduceOption = Annotated[
    str | None,
    typer.Option(
        metavar="PROMPT",
        help="Make one answer of all, such as: Merge {n} lists. It goes to standard output.",
        rich_help_panel=WHAT,
    ),
]
ReduceSchemaOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="JSON schema of that answer.", rich_help_panel=WHAT)
]


def map_inputs(
    template: TemplateArgument,
    *,
    input_: InputOption,
    format_: FormatOption = None,
    pattern: PatternOption = "*",
    schema: SchemaOption = None,
    system: SystemOption = "",
    keep: KeepOption = None,
    tool: ToolOption = None,
    max_turns: MaxTurnsOption = None,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    max_retries: MaxRetriesOption = 2,
    reduce: ReduceOption = None,
    reduce_schema: ReduceSchemaOption = None,
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
    output: OutputOption = None,
    journal: JournalOption = None,
    no_journal: NoJournalOption = False,
    overwrite: OverwriteOption = False,
    events: EventsOption = None,
    json_: JsonOption = False,
    quiet: QuietOption = False,
    store: StoreOption = None,
    processes: ProcessesOption = None,
    engine: EngineOption = None,
    run_id: RunIdOption = None,
) -> int:
    """Ask one question of every input."""
    from aurora_swarm.batch.run import BatchOptions  # noqa: PLC0415 - start-up is light
    from aurora_swarm.cli.batches import Batch, Delivery, conduct  # noqa: PLC0415
    from aurora_swarm.cli.run import batch_spec  # noqa: PLC0415
    from aurora_swarm.cli.sharing import chosen_sharing, conduct_shared  # noqa: PLC0415
    from aurora_swarm.cli.sources import open_source  # noqa: PLC0415
    from aurora_swarm.inputs.prices import load_prices  # noqa: PLC0415
    from aurora_swarm.inputs.schema import load_schema  # noqa: PLC0415
    from aurora_swarm.inputs.spec import RunSpec  # noqa: PLC0415
    from aurora_swarm.inputs.template import Template  # noqa: PLC0415

    chosen = chosen_backend(backend, hostfile)
    table = load_prices(prices) if prices else None
    budget = chosen_budget(budget_tokens, budget_usd, budget_seconds, budget_tool_calls)
    said = RunSpec(
        task=template,
        inputs=input_,
        system_prompt=system,
        tools=list(tool or ()),
        output_schema=load_schema(schema) if schema else None,
        max_turns=max_turns or (_TURNS if tool else 1),
        max_retries=max_retries,
        max_tokens=max_tokens,
        temperature=temperature,
    )
    spec = batch_spec(said, _ORIGIN)
    source = open_source(input_, Template(template, "template"), format_=format_, pattern=pattern, keep=keep or ())
    options = BatchOptions(
        model=model or "",
        backend=chosen,
        max_inflight=max_inflight,
        timeout_s=timeout or 300.0,
        local_model=local_model,
        budget=budget,
        price=chosen_price(table, budget, model or ""),
        streamed=bool(stream),
    )
    delivery = Delivery(output, journal, no_journal, overwrite, json_, quiet, events)
    reduction = chosen_reduction(reduce, load_schema(reduce_schema) if reduce_schema else None, temperature)
    batch = Batch(spec, source, options, table, reduction, keep or ())
    sharing = chosen_sharing(store, processes, engine, run_id)
    return conduct(batch, delivery) if sharing is None else conduct_shared(batch, delivery, sharing, said, _ORIGIN)
