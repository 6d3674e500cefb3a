"""``aurora-swarm run``: a batch from a specification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aurora_swarm.cli.options import (
    BackendOption,
    HostfileOption,
    JournalOption,
    JsonOption,
    LocalModelOption,
    MaxInflightOption,
    ModelOption,
    NoJournalOption,
    OutputOption,
    OverwriteOption,
    QuietOption,
    TimeoutOption,
    chosen_backend,
    environment,
)

if TYPE_CHECKING:
    from aurora_swarm.batch.spec import BatchSpec
    from aurora_swarm.inputs.spec import RunSpec


def run(
    spec: Annotated[Path, typer.Argument(help="A .yaml, .toml or .json file with task, inputs and the rest.")],
    *,
    output: OutputOption = None,
    journal: JournalOption = None,
    no_journal: NoJournalOption = False,
    overwrite: OverwriteOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
    backend: BackendOption = None,
    hostfile: HostfileOption = None,
    model: ModelOption = None,
    local_model: LocalModelOption = None,
    timeout: TimeoutOption = None,
    max_inflight: MaxInflightOption = None,
) -> int:
    """Run a batch from a specification; what the command line says wins over what the file says."""
    from aurora_swarm.batch.agent import BatchOptions  # noqa: PLC0415 - start-up is light
    from aurora_swarm.cli.batches import Batch, Delivery, conduct  # noqa: PLC0415
    from aurora_swarm.cli.sources import open_source  # noqa: PLC0415
    from aurora_swarm.inputs.spec import load_spec  # noqa: PLC0415
    from aurora_swarm.inputs.template import Template  # noqa: PLC0415

    said = load_spec(spec)
    chosen = _backend(said) if not backend and hostfile is None else None
    options = BatchOptions(
        model=model or said.model,
        backend=chosen_backend(backend, hostfile) if chosen is None else chosen,
        max_inflight=max_inflight or said.max_inflight,
        timeout_s=timeout or 300.0,
        local_model=local_model,
    )
    batch = Batch(_batch_spec(said, spec), open_source(said.inputs, Template(said.task, "task")), options)
    delivery = Delivery(
        output=output or _path(said.output),
        journal=journal or said.journal,
        no_journal=no_journal,
        overwrite=overwrite,
        as_json=json_,
        quiet=quiet,
    )
    return conduct(batch, delivery)


def _backend(said: RunSpec) -> str | Path | list[str] | None:
    return Path(said.hostfile) if said.hostfile else said.backend


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _batch_spec(said: RunSpec, file: Path) -> BatchSpec:
    from aurora_swarm.batch.spec import BatchSpec  # noqa: PLC0415
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
        max_turns=said.max_turns,
        max_retries=said.max_retries,
        sampling=sampling,
        agent_timeout_s=said.timeout_s,
    )
