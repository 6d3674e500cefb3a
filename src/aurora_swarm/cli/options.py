"""Options that several commands share, and what they come to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from aurora_swarm.errors import InputError, UsageError
from aurora_swarm.inputs.files import without_credentials
from aurora_swarm.inputs.prices import PriceTable
from aurora_swarm.settings import Settings, load_settings
from aurora_swarm.values.budget import Budget, Price

if TYPE_CHECKING:
    from aurora_swarm.batch.reduce import Reduction

WHERE = "Where it runs"
WHAT = "What is asked"
OUT = "What comes out"
SHARED = "Several processes"
SPENT = "What it may cost"

BackendOption = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        "-b",
        metavar="URL",
        help="vllm://host:8000, sglang://, dynamo://, llamacpp://, openai://, anthropic://, bedrock://, http(s)://, "
        "generate://, or local:// for the embedded model. Repeat it for several servers.",
        rich_help_panel=WHERE,
    ),
]
HostfileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="One server per line: host:port key=value ... Default: AURORA_SWARM_HOSTFILE.",
        rich_help_panel=WHERE,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Model to ask for. Default: the first that is served.", rich_help_panel=WHERE),
]
LocalModelOption = Annotated[
    str | None,
    typer.Option(metavar="GGUF", help="Weights for local://. Default: a small model.", rich_help_panel=WHERE),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(min=0.001, metavar="SECONDS", help="For one request. Default: 300.", rich_help_panel=WHERE),
]
MaxInflightOption = Annotated[
    int | None,
    typer.Option(min=1, help="Model calls under way at a time. Default: 64 per server.", rich_help_panel=WHERE),
]
MaxTokensOption = Annotated[
    int | None, typer.Option(min=1, help="Tokens to generate per answer at most.", rich_help_panel=WHAT)
]
TemperatureOption = Annotated[
    float | None, typer.Option(min=0.0, max=10.0, help="0 repeats itself; more varies more.", rich_help_panel=WHAT)
]
StreamOption = Annotated[
    bool | None,
    typer.Option(
        "--stream/--no-stream", help="Stream answers, to measure the time to the first token.", rich_help_panel=WHERE
    ),
]
BudgetTokensOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Prompt and completion tokens of the run at most.", rich_help_panel=SPENT),
]
BudgetUsdOption = Annotated[
    float | None,
    typer.Option(min=1e-9, metavar="USD", help="Money at most; needs --prices and --model.", rich_help_panel=SPENT),
]
BudgetSecondsOption = Annotated[
    float | None, typer.Option(min=0.001, metavar="SECONDS", help="Time of the run at most.", rich_help_panel=SPENT)
]
BudgetToolCallsOption = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Executions of tools at most.", rich_help_panel=SPENT)
]
PricesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="US dollars per million tokens, by model: a YAML, TOML or JSON file with lines such as "
        "NAME: {prompt: 0.59, completion: 0.79}. The summary then says what the run cost.",
        rich_help_panel=SPENT,
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Results as JSON lines, in the order of the inputs. Default: standard output, as they finish.",
        rich_help_panel=OUT,
    ),
]
JournalOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Keeps finished work, so that the same command resumes. Default: the output's name and .journal.",
        rich_help_panel=OUT,
    ),
]
NoJournalOption = Annotated[bool, typer.Option("--no-journal", help="Keep no journal.", rich_help_panel=OUT)]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace results that no journal keeps.", rich_help_panel=OUT)
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="The summary as one JSON object on standard output.", rich_help_panel=OUT)
]
EventsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Append what happens, one JSON object per line; no texts.", rich_help_panel=OUT),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="AURORA_SWARM_STORE",
        help="Share the run between processes through redis://host:6379/0, or sqlite:///path on one machine.",
        rich_help_panel=SHARED,
    ),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Workers to start. Default: 2. 0 waits for those of aurora-swarm worker.",
        rich_help_panel=SHARED,
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Who starts them: processes, ray or ray://host:port. Default: processes.",
        rich_help_panel=SHARED,
    ),
]
RunIdOption = Annotated[
    str | None,
    typer.Option(
        "--run-id",
        metavar="ID",
        help="Names the run in the store; the same command with the same one continues it. Default: made of the task.",
        rich_help_panel=SHARED,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors only.", rich_help_panel=OUT)]


def environment() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: A variable holds a value that cannot be used.
    """
    return load_settings(os.environ)


def chosen_budget(
    tokens: int | None, usd: float | None, wall_s: float | None, tool_calls: int | None, said: Budget | None = None
) -> Budget | None:
    """The bounds that the options name; what they leave open is as the specification says.

    Returns:
        None where neither says anything.
    """
    given = {"tokens": tokens, "usd": usd, "wall_s": wall_s, "tool_calls": tool_calls}
    bounds = {name: bound for name, bound in given.items() if bound is not None}
    if not bounds:
        return said
    return msgspec.structs.replace(said or Budget(), **bounds)


def chosen_price(prices: PriceTable | None, budget: Budget | None, model: str) -> Price | None:
    """What the run's model costs.

    Args:
        prices: The table, where there is one.
        budget: What may be spent.
        model: The model that is asked for by name; empty where the servers decide.

    Returns:
        None where nobody knows, and the budget need not know it.

    Raises:
        UsageError: The budget bounds money, and there is no price to count it by.
    """
    named = model or environment().model or ""
    price = prices.price_for(named) if prices and named else None
    if price is not None or budget is None or budget.usd is None:
        return price
    if prices is None:
        raise UsageError("a budget in money needs prices", remedy="add --prices prices.yaml, or prices: to the file")
    if not named:
        raise UsageError("a budget in money needs to know the model", remedy="add --model NAME, or model: to the file")
    raise UsageError(
        f"{prices.source} has no price for {named}, and the budget is in money",
        remedy="add a line for it, or one for '*', which stands for all others",
    )


def chosen_reduction(
    instruction: str | None, schema: dict[str, Any] | None, temperature: float | None
) -> Reduction | None:
    """How the answers become one; None where nobody says.

    Raises:
        UsageError: There is a schema and no instruction, or it cannot be used.
    """
    if instruction is None:
        if schema is not None:
            raise UsageError("--reduce-schema is given without --reduce", remedy='add --reduce "Merge {n} answers."')
        return None
    from aurora_swarm.batch.reduce import Reduction  # noqa: PLC0415 - start-up is light
    from aurora_swarm.values.call import Sampling  # noqa: PLC0415

    sampling = Sampling(max_tokens=environment().max_tokens_aggregation, temperature=temperature)
    return Reduction(instruction=instruction, schema=schema, sampling=sampling)


def chosen_backend(backends: Sequence[str] | None, hostfile: Path | None) -> str | Path | list[str]:
    """What the options, or the environment, name as backend.

    Raises:
        UsageError: They name none, or two.
        SettingsError: A variable holds a value that cannot be used.
    """
    settings = environment()
    if backends and hostfile is not None:
        raise UsageError("--backend and --hostfile are both given", remedy="keep one of the two")
    if backends:
        _check_addresses(backends)
        return backends[0] if len(backends) == 1 else list(backends)
    if hostfile is not None:
        return hostfile
    if settings.hostfile:
        return Path(settings.hostfile)
    raise UsageError(
        "there is no backend",
        remedy="give --backend vllm://host:8000, or --hostfile agents.hostfile, or set AURORA_SWARM_HOSTFILE; "
        "--backend local:// runs an embedded model on this machine",
    )


def _check_addresses(backends: Sequence[str]) -> None:
    """Find out before anything is started, and name the one that is wrong."""
    from aurora_swarm.pools.open import describe  # noqa: PLC0415 - start-up is light

    for backend in backends:
        if backend.startswith("local:"):
            continue
        try:
            describe(backend)
        except InputError as error:
            error.source = error.source or without_credentials(backend)
            raise
