"""``aurora-swarm map``: one question of every input."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from aurora_swarm.cli.options import (
    WHAT,
    BackendOption,
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
    QuietOption,
    TemperatureOption,
    TimeoutOption,
    chosen_backend,
    environment,
)

_Format = Literal["jsonl", "json", "csv", "tsv", "txt"]


def map_inputs(
    template: Annotated[
        str, typer.Argument(help="The prompt; {name} stands for a column or field, {text} for a line or a file.")
    ],
    *,
    input_: Annotated[
        str,
        typer.Option(
            "--input",
            "-i",
            metavar="PATH",
            help="CSV, TSV, JSONL, JSON or text file, a folder, or - for standard input.",
            rich_help_panel=WHAT,
        ),
    ],
    format_: Annotated[
        _Format | None, typer.Option("--format", help="How to read it. Default: by suffix.", rich_help_panel=WHAT)
    ] = None,
    pattern: Annotated[str, typer.Option(metavar="GLOB", help="Files of a folder.", rich_help_panel=WHAT)] = "*",
    schema: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON schema that answers are held to.", rich_help_panel=WHAT),
    ] = None,
    system: Annotated[str, typer.Option(help="System prompt, the same for all.", rich_help_panel=WHAT)] = "",
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    max_retries: Annotated[
        int, typer.Option(min=0, help="Re-asks after an answer that the schema refuses.", rich_help_panel=WHAT)
    ] = 2,
    backend: BackendOption = None,
    hostfile: HostfileOption = None,
    model: ModelOption = None,
    local_model: LocalModelOption = None,
    timeout: TimeoutOption = None,
    max_inflight: MaxInflightOption = None,
    output: OutputOption = None,
    journal: JournalOption = None,
    no_journal: NoJournalOption = False,
    overwrite: OverwriteOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Ask one question of every input."""
    from aurora_swarm.batch.agent import BatchOptions  # noqa: PLC0415 - start-up is light
    from aurora_swarm.batch.spec import BatchSpec  # noqa: PLC0415
    from aurora_swarm.cli.batches import Batch, Delivery, conduct  # noqa: PLC0415
    from aurora_swarm.cli.sources import open_source  # noqa: PLC0415
    from aurora_swarm.inputs.schema import load_schema  # noqa: PLC0415
    from aurora_swarm.inputs.template import Template  # noqa: PLC0415
    from aurora_swarm.values.call import Sampling  # noqa: PLC0415

    chosen = chosen_backend(backend, hostfile)
    spec = BatchSpec(
        task=template,
        system_prompt=system,
        output_schema=load_schema(schema) if schema else None,
        max_turns=1,
        max_retries=max_retries,
        sampling=Sampling(max_tokens=max_tokens or environment().max_tokens, temperature=temperature),
    )
    source = open_source(input_, Template(template, "template"), format_=format_, pattern=pattern)
    options = BatchOptions(
        model=model or "",
        backend=chosen,
        max_inflight=max_inflight,
        timeout_s=timeout or 300.0,
        local_model=local_model,
    )
    delivery = Delivery(output, journal, no_journal, overwrite, json_, quiet)
    return conduct(Batch(spec, source, options), delivery)
