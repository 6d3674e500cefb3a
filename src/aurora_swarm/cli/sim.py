"""``aurora-swarm sim``: a simulated fleet that stays until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aurora_swarm.cli.interrupts import run_interruptibly
from aurora_swarm.cli.options import QuietOption
from aurora_swarm.cli.voice import say, tell
from aurora_swarm.errors import UsageError

if TYPE_CHECKING:
    from aurora_swarm.testing.fleet import Fault, FleetCounts, ServerPlan

_SERVER = "What a server is like"
_TROUBLE = "What goes wrong"
_STRAGGLE = 10.0
"""How many times slower a straggling server is."""
_LINE_S = 2.0
"""Seconds between two lines about what goes on."""

_OF_SERVERS = frozenset(("refuse", "flap", "gray", "wrong_model", "smaller_context", "slow"))
"""Kinds of fault that a server has or has not; the others are met by single requests."""


def sim(
    *,
    endpoints: Annotated[
        int, typer.Option(min=1, max=60_000, help="How many servers, each on a port of its own.")
    ] = 100,
    engine: Annotated[
        Literal["vllm", "sglang", "llamacpp", "generate", "anthropic", "bedrock"],
        typer.Option(help="Whose paths, metrics and manners they have.", rich_help_panel=_SERVER),
    ] = "vllm",
    model: Annotated[str, typer.Option(help="The model that they list.", rich_help_panel=_SERVER)] = "simulated",
    latency: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="What a request takes beside its tokens.", rich_help_panel=_SERVER),
    ] = 0.5,
    per_token: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="For each generated token.", rich_help_panel=_SERVER)
    ] = 0.0,
    tokens: Annotated[int, typer.Option(min=0, help="Tokens of an answer.", rich_help_panel=_SERVER)] = 64,
    capacity: Annotated[
        int,
        typer.Option(min=1, help="Requests that a server works on at a time; others wait.", rich_help_panel=_SERVER),
    ] = 8,
    slowdown: Annotated[
        float,
        typer.Option(
            min=0, help="How much slower a token is on a full server: 1 is twice as slow.", rich_help_panel=_SERVER
        ),
    ] = 0.0,
    prefill: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="For each prompt token not cached.", rich_help_panel=_SERVER)
    ] = 0.0,
    spread: Annotated[
        float,
        typer.Option(
            min=1, help="The slowest server is this many times slower than the fastest.", rich_help_panel=_SERVER
        ),
    ] = 1.0,
    stragglers: Annotated[
        float, typer.Option(min=0, max=1, help="Share of servers that are ten times slower.", rich_help_panel=_TROUBLE)
    ] = 0.0,
    dead: Annotated[
        float, typer.Option(min=0, max=1, help="Share of servers that refuse connections.", rich_help_panel=_TROUBLE)
    ] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:SHARE",
            help="Share of the requests that meet it (503:0.01, reset:0.001, straggle:0.01 ...), or of the servers "
            "that have it (refuse, flap, gray, slow, wrong_model, smaller_context). Repeat it for several.",
            rich_help_panel=_TROUBLE,
        ),
    ] = None,
    hostfile: Annotated[
        Path, typer.Option(metavar="FILE", help="Where the servers are listed once they listen; replaced.")
    ] = Path("sim.hostfile"),
    duration: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", help="End by itself. Default: at Ctrl-C.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same fleet.")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="The counts as one JSON object on standard output.")] = False,
    quiet: QuietOption = False,
) -> int:
    """Serve until Ctrl-C, which is the normal end here: the exit code is 0."""
    from aurora_swarm.testing.fleet import ServerPlan  # noqa: PLC0415 - start-up is light

    if hostfile.is_dir() or not hostfile.absolute().parent.is_dir():
        raise UsageError(f"{hostfile} cannot be written", remedy="give --hostfile the path of a file")
    plan = ServerPlan(
        engine=engine,
        model=model,
        latency_s=latency,
        per_token_s=per_token,
        tokens=tokens,
        capacity=capacity,
        batch_slowdown=slowdown,
        prefill_per_token_s=prefill,
    )
    run = _Run(_plans(plan, endpoints, spread, seed), _faults(fault or (), stragglers, dead), seed, hostfile)
    with contextlib.suppress(KeyboardInterrupt):  # how this is meant to end
        run_interruptibly(run.serve(duration, quiet=quiet))
    run.report(json_=json_)
    return 0


class _Run:
    """One fleet, from its start to the summary."""

    def __init__(self, plans: list[ServerPlan], faults: list[Fault], seed: int, hostfile: Path) -> None:
        self._plans = plans
        self._faults = faults
        self._seed = seed
        self._hostfile = hostfile
        self._began = self._told_at = time.monotonic()
        self._told = 0
        self._counts: FleetCounts | None = None

    async def serve(self, duration_s: float | None, *, quiet: bool) -> None:
        from aurora_swarm.inputs.hostfile import write_hostfile  # noqa: PLC0415
        from aurora_swarm.testing.fleet import SimulatedFleet  # noqa: PLC0415

        async with SimulatedFleet(self._plans, faults=self._faults, seed=self._seed) as fleet:
            await asyncio.to_thread(write_hostfile, self._hostfile, fleet.endpoints)
            self._began = self._told_at = time.monotonic()
            if not quiet:
                self._explain()
            try:
                async with asyncio.timeout(duration_s):
                    while True:
                        await asyncio.sleep(_LINE_S)
                        if not quiet:
                            self._tell(fleet.counts())
            except TimeoutError:
                pass
            finally:
                self._counts = fleet.counts()

    def report(self, *, json_: bool) -> None:
        """The summary."""
        if self._counts is None:  # it was interrupted before anything listened
            return
        wall_s = time.monotonic() - self._began
        if json_:
            import msgspec  # noqa: PLC0415

            figures = {
                "endpoints": len(self._plans),
                "wall_s": round(wall_s, 3),
                **msgspec.structs.asdict(self._counts),
            }
            tell(msgspec.json.encode(figures).decode())
        else:
            say("\n".join(_summary(self._counts, wall_s)))

    def _explain(self) -> None:
        engine = self._plans[0].engine
        said = f"{len(self._plans):,} simulated servers listen on 127.0.0.1; they are listed in {self._hostfile}"
        if engine == "generate":
            use = f'AgentPool(parse_hostfile("{self._hostfile}")) in Python'
        else:
            use = f'aurora-swarm ask "Why is the sky blue?" --broadcast --hostfile {self._hostfile}'
        say(f"{said}\ntry in another terminal:  {use}\nCtrl-C ends them")

    def _tell(self, counts: FleetCounts) -> None:
        now = time.monotonic()
        rate = (counts.requests - self._told) / (now - self._told_at)
        self._told_at, self._told = now, counts.requests
        say(
            f"{rate:,.0f} requests/s  {counts.requests:,} requests  {counts.running:,} running  "
            f"{counts.queued:,} queued  {sum(counts.faults.values()):,} faults  {counts.cancelled:,} cancelled"
        )


def _plans(plan: ServerPlan, count: int, spread: float, seed: int) -> list[ServerPlan]:
    """One plan per server; speeds are spread evenly between the slowest and the fastest, in an order of their own."""
    import msgspec  # noqa: PLC0415

    if spread <= 1 or count == 1:
        return [plan] * count
    times = [1 + (spread - 1) * index / (count - 1) for index in range(count)]
    random.Random(seed).shuffle(times)  # noqa: S311 - no secret
    return [msgspec.structs.replace(plan, speed=1 / factor) for factor in times]


def _faults(given: list[str] | tuple[()], stragglers: float, dead: float) -> list[Fault]:
    from aurora_swarm.testing.fleet import Fault  # noqa: PLC0415

    own = [Fault("refuse", share=dead)] if dead else []
    own += [Fault("slow", share=stragglers, factor=_STRAGGLE)] if stragglers else []
    return [*own, *map(_fault, given)]


def _fault(text: str) -> Fault:
    """``kind:share`` as a fault; a number is a status.

    Raises:
        UsageError: It is none.
    """
    from aurora_swarm.testing.fleet import KINDS, Fault  # noqa: PLC0415

    kind, _, share_text = text.partition(":")
    try:
        share = float(share_text or "1")
    except ValueError:
        share = -1.0
    known = kind in KINDS or (kind.isdecimal() and 400 <= int(kind) <= 599)
    if not known or not 0 <= share <= 1:
        raise UsageError(
            f"--fault {text} is not a kind and a share between 0 and 1",
            remedy=f"write for example 503:0.01; the kinds are a status from 400 to 599, {', '.join(KINDS)}",
        )
    extra: dict[str, Any] = {"status": int(kind)} if kind.isdecimal() else {}
    where = "share" if kind in _OF_SERVERS else "rate"
    return Fault("status" if extra else kind, **{where: share}, **extra)  # type: ignore[arg-type]


def _summary(counts: FleetCounts, wall_s: float) -> list[str]:
    faults = ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.faults.items()))
    return [
        f"{counts.requests:,} requests in {wall_s:.0f} s: {counts.answered:,} answered, {counts.refused:,} refused",
        f"{counts.cancelled:,} cancelled by their clients, {counts.overloaded:,} told that the queue is full",
        f"faults: {faults or 'none'}",
        f"most at a time on one server: {counts.most_running:,} running, {counts.most_queued:,} queued",
        f"tokens: {counts.prompt_tokens:,} in ({counts.cached_tokens:,} cached), {counts.completion_tokens:,} out",
    ]
