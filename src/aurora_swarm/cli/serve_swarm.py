"""``aurora-swarm serve-swarm``: a swarm that others give objectives to, over A2A."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

from aurora_swarm.cli.interrupts import run_interruptibly
from aurora_swarm.cli.options import (
    BackendOption,
    BudgetSecondsOption,
    BudgetTokensOption,
    BudgetUsdOption,
    HostfileOption,
    MaxInflightOption,
    MaxTokensOption,
    ModelOption,
    PricesOption,
    TimeoutOption,
    chosen_backend,
    chosen_budget,
    chosen_price,
    environment,
)
from aurora_swarm.cli.voice import say, tell
from aurora_swarm.errors import UsageError

if TYPE_CHECKING:
    from aurora_swarm.swarms.models import Model
    from aurora_swarm.swarms.swarm import Swarm
    from aurora_swarm.values.budget import Budget, Price

TOKEN_VARIABLE = "AURORA_SWARM_A2A_TOKEN"  # noqa: S105 - where the token is, not what
WHERE = "Where it is served"

NameOption = Annotated[str, typer.Option(help="What it is called.")]
AboutOption = Annotated[str, typer.Option(help="What it is good at, in a sentence; planners elsewhere read it.")]
HostOption = Annotated[
    str,
    typer.Option(help=f"What to bind to; beyond this machine {TOKEN_VARIABLE} must be set.", rich_help_panel=WHERE),
]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.", rich_help_panel=WHERE)]
ReachedOption = Annotated[
    list[str] | None,
    typer.Option("--reached-as", metavar="NAME", help="Host name by which others reach it.", rich_help_panel=WHERE),
]
NodesOption = Annotated[int, typer.Option(min=1, help="Workers of an objective at a time at most.")]
MaxTasksOption = Annotated[int, typer.Option(min=1, help="Tasks of an objective at most; with 1 there is no plan.")]
WidthOption = Annotated[int, typer.Option(min=1, help="Objectives at a time; more are refused.")]


def serve_swarm(
    *,
    name: NameOption = "swarm",
    about: AboutOption = "",
    host: HostOption = "127.0.0.1",
    port: PortOption = 0,
    reached_as: ReachedOption = None,
    nodes: NodesOption = 8,
    max_tasks: MaxTasksOption = 12,
    width: WidthOption = 16,
    max_tokens: MaxTokensOption = None,
    backend: BackendOption = None,
    hostfile: HostfileOption = None,
    model: ModelOption = None,
    timeout: TimeoutOption = None,
    max_inflight: MaxInflightOption = None,
    prices: PricesOption = None,
    budget_tokens: BudgetTokensOption = None,
    budget_usd: BudgetUsdOption = None,
    budget_seconds: BudgetSecondsOption = None,
) -> int:
    """Serve a swarm until Ctrl-C; its address goes to standard output.

    The budget bounds all objectives together.
    """
    from aurora_swarm.inputs.prices import load_prices  # noqa: PLC0415 - start-up is light
    from aurora_swarm.swarms.models import Model  # noqa: PLC0415
    from aurora_swarm.swarms.orchestrator import Orchestrator  # noqa: PLC0415
    from aurora_swarm.swarms.swarm import Swarm  # noqa: PLC0415

    budget = chosen_budget(budget_tokens, budget_usd, budget_seconds, None)
    price = chosen_price(load_prices(prices) if prices else None, budget, model or "")
    thinker = Model(
        model or environment().model or "",
        chosen_backend(backend, hostfile),
        max_tokens=max_tokens or environment().max_tokens,
        concurrency=max_inflight,
        timeout=timeout or 300.0,
        price=price,
        say=say,
    )
    swarm = Swarm(Orchestrator(thinker, nodes), name=name, about=about, max_tasks=max_tasks)
    place = _Place(host, port, tuple(reached_as or ()), width)
    return run_interruptibly(_serve(swarm, thinker, place, budget, price))


class _Place:
    """Where a swarm is served, and to how many."""

    def __init__(self, host: str, port: int, names: tuple[str, ...], width: int) -> None:
        self.host = host
        self.port = port
        self.names = names
        self.width = width


async def _serve(swarm: Swarm, model: Model, place: _Place, budget: Budget | None, price: Price | None) -> int:
    try:
        from aurora_swarm.gateway import a2a_server  # noqa: PLC0415 - an optional library
    except ImportError as error:
        raise UsageError(f"{error.name} is not installed", remedy="install aurora-swarm[a2a]") from None
    token = os.environ.get(TOKEN_VARIABLE, "").strip() or None
    serving = a2a_server.serve_swarm(
        swarm,
        place.host,
        place.port,
        token,
        names=place.names,
        budget=budget,
        price=price,
        width=place.width,
    )
    try:
        # Opened now and kept, so that who cannot be answered is told at once, and nobody waits for the first start.
        async with model.opened(), serving as served:
            tell(served.url)
            say("Ctrl-C ends it." if token is None else f"Who asks must bear the token in {TOKEN_VARIABLE}.")
            await asyncio.Event().wait()
    except OSError as error:
        raise UsageError(
            f"{place.host}:{place.port} cannot be listened on: {error.strerror or error}",
            remedy="name another --port or --host",
        ) from None
    return 0
