"""``aurora-swarm swarm``: an objective in, one answer out."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aurora_swarm.cli.exits import Exit
from aurora_swarm.cli.interrupts import run_interruptibly
from aurora_swarm.cli.options import (
    OUT,
    WHAT,
    BackendOption,
    BudgetSecondsOption,
    BudgetTokensOption,
    BudgetUsdOption,
    HostfileOption,
    MaxInflightOption,
    MaxTokensOption,
    ModelOption,
    PricesOption,
    QuietOption,
    TemperatureOption,
    TimeoutOption,
    chosen_backend,
    chosen_budget,
    chosen_price,
    environment,
)
from aurora_swarm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aurora_swarm.cli.swarm_view import SwarmView
    from aurora_swarm.swarms.control import Controls
    from aurora_swarm.swarms.swarm import Swarm

HOW = "How it works"

ObjectiveArgument = Annotated[
    str, typer.Argument(help="What is wanted, in words; - reads it from standard input.", show_default=False)
]
ObjectiveFileOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Read the objective from a file.", rich_help_panel=WHAT)
]
NodesOption = Annotated[int, typer.Option(min=1, help="Workers at a time at most.", rich_help_panel=HOW)]
MaxTasksOption = Annotated[
    int, typer.Option(min=1, help="Tasks at most; with 1 there is no plan.", rich_help_panel=HOW)
]
MaxDepthOption = Annotated[
    int, typer.Option(min=0, help="Generations of further tasks that results may bring about.", rich_help_panel=HOW)
]
AutoOption = Annotated[
    bool, typer.Option("--auto/--no-auto", help="Whether results bring about further tasks.", rich_help_panel=HOW)
]
ControlOption = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Socket by which aurora-swarm ctl reaches the run. Default: where it looks by itself.",
        rich_help_panel=HOW,
    ),
]
SwarmJsonOption = Annotated[
    bool, typer.Option("--json", help="Answer, tasks and notes as one JSON object.", rich_help_panel=OUT)
]


def swarm(
    objective: ObjectiveArgument = "",
    *,
    objective_file: ObjectiveFileOption = None,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    nodes: NodesOption = 8,
    max_tasks: MaxTasksOption = 12,
    max_depth: MaxDepthOption = 2,
    auto: AutoOption = True,
    control: ControlOption = None,
    backend: BackendOption = None,
    hostfile: HostfileOption = None,
    model: ModelOption = None,
    timeout: TimeoutOption = None,
    max_inflight: MaxInflightOption = None,
    prices: PricesOption = None,
    budget_tokens: BudgetTokensOption = None,
    budget_usd: BudgetUsdOption = None,
    budget_seconds: BudgetSecondsOption = None,
    json_: SwarmJsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Pursue an objective; exit with 0 if all tasks were done, 1 if some were, 3 if none was."""
    from aurora_swarm.cli.swarm_view import SwarmView  # noqa: PLC0415 - start-up is light
    from aurora_swarm.inputs.prices import load_prices  # noqa: PLC0415
    from aurora_swarm.swarms.models import Model  # noqa: PLC0415
    from aurora_swarm.swarms.orchestrator import Orchestrator  # noqa: PLC0415
    from aurora_swarm.swarms.swarm import Swarm  # noqa: PLC0415

    wanted = _objective(objective, objective_file)
    chosen = chosen_backend(backend, hostfile)
    budget = chosen_budget(budget_tokens, budget_usd, budget_seconds, None)
    price = chosen_price(load_prices(prices) if prices else None, budget, model or "")
    view = SwarmView(quiet=quiet)
    thinker = Model(
        model or environment().model or "",
        chosen,
        max_tokens=max_tokens or environment().max_tokens,
        temperature=temperature,
        concurrency=max_inflight,
        timeout=timeout or 300.0,
        price=price,
        say=view.say,
    )
    society = Swarm(
        Orchestrator(thinker, nodes),
        auto,
        wanted,
        max_tasks=max_tasks,
        max_depth=max_depth,
        budget=budget,
        price=price,
    )
    return _conduct(society, view, control, as_json=json_)


def _conduct(society: Swarm, view: SwarmView, control: Path | None, *, as_json: bool) -> int:
    def report() -> None:
        view.report(as_json=as_json)

    try:
        with view:
            run_interruptibly(_pursue(society, view, control), report)
    except KeyboardInterrupt:
        report()
        return Exit.INTERRUPTED
    report()
    return view.exit_code


async def _pursue(society: Swarm, view: SwarmView, control: Path | None) -> None:
    from aurora_swarm.swarms.happenings import SwarmBegan  # noqa: PLC0415 - start-up is light

    async with AsyncExitStack() as stack, aclosing(society.stream()) as events:
        async for event in events:
            if isinstance(event, SwarmBegan):
                await _serve(stack, event.controls, control, view.say)
            view.show(event)


async def _serve(stack: AsyncExitStack, controls: Controls, place: Path | None, say: Callable[[str], None]) -> None:
    """Let the run be steered from outside; where nobody asked for a place of their own, that it cannot be is told.

    Raises:
        UsageError: The place that was asked for cannot be used.
    """
    from aurora_swarm.swarms.control_server import serve_controls  # noqa: PLC0415 - start-up is light

    try:
        await stack.enter_async_context(serve_controls(controls, place))
    except UsageError as error:
        if place is not None:
            raise
        say(f"aurora-swarm ctl will not reach this run: {error}")


def _objective(given: str, file: Path | None) -> str:
    """What is wanted.

    Raises:
        UsageError: Nothing is, or it is said twice, or the file cannot be read.
    """
    if given and file is not None:
        raise UsageError("the objective is given twice", remedy="keep the argument or --objective-file")
    text = _text_of(file) if file is not None else sys.stdin.read() if given == "-" else given
    if not text.strip():
        raise UsageError("there is no objective", remedy='say what is wanted: aurora-swarm swarm "Compare X and Y."')
    return text


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"{file} cannot be read: {why}", remedy="name a text file in UTF-8") from None
