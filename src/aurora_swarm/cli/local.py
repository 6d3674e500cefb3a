"""``aurora-swarm local``: embedded servers that stay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aurora_swarm.cli.interrupts import run_interruptibly
from aurora_swarm.cli.options import LocalModelOption, QuietOption, environment
from aurora_swarm.cli.voice import say, tell
from aurora_swarm.errors import ModelUnavailableError, UsageError

if TYPE_CHECKING:
    from aurora_swarm.local.server import LocalConfig, LocalServer


def local(
    *,
    servers: Annotated[int, typer.Option(min=1, max=64, help="How many servers.")] = 1,
    slots: Annotated[int, typer.Option(min=1, max=256, help="Sequences that each server works on at a time.")] = 4,
    context: Annotated[int, typer.Option(min=64, help="Tokens of context per slot.")] = 2048,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the first server; the others follow. 0 takes free ones.")
    ] = 0,
    hostfile_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a hostfile of the servers once they answer.")
    ] = None,
    local_model: LocalModelOption = None,
    quiet: QuietOption = False,
) -> int:
    """Serve the embedded model on 127.0.0.1 until Ctrl-C; URLs go to standard output."""
    from aurora_swarm.local.server import LocalConfig  # noqa: PLC0415 - start-up is light

    if hostfile_out is not None and (hostfile_out.is_dir() or not hostfile_out.absolute().parent.is_dir()):
        raise UsageError(f"{hostfile_out} cannot be written", remedy="give --hostfile-out the path of a file")
    settings = environment()
    wanted = LocalConfig(Path(), "", slots, context, None, port)
    model = local_model or settings.local_model
    return run_interruptibly(_serve(servers, wanted, model, settings.cache_dir, hostfile_out, quiet=quiet))


async def _serve(
    count: int,
    wanted: LocalConfig,
    model: str | None,
    cache_dir: str | None,
    hostfile: Path | None,
    *,
    quiet: bool,
) -> int:
    from aurora_swarm.cli.heartbeat import open_wait  # noqa: PLC0415
    from aurora_swarm.inputs.hostfile import write_hostfile  # noqa: PLC0415
    from aurora_swarm.local.server import start_servers  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        with open_wait(quiet=quiet) as waiting:
            configs = await _configs(count, wanted, model, cache_dir, waiting.say)
            running = await start_servers(configs, stack)
        endpoints = [server.endpoint for server in running]
        if hostfile is not None:
            await asyncio.to_thread(write_hostfile, hostfile, endpoints)
        tell("\n".join(endpoint.url for endpoint in endpoints))
        if not quiet:
            _explain(endpoints[0].url, hostfile)
        raise await _first_death(running)


async def _configs(
    count: int, wanted: LocalConfig, model: str | None, cache_dir: str | None, say_: Callable[[str], None]
) -> list[LocalConfig]:
    from aurora_swarm.local.open import configure, in_a_row  # noqa: PLC0415

    first = await configure(model, cache_dir, say_, slots=wanted.slots, context=wanted.context, port=wanted.port)
    return in_a_row(first, count)


async def _first_death(servers: Sequence[LocalServer]) -> ModelUnavailableError:
    """How the first server that ends has ended; nobody here ends one before Ctrl-C does."""
    watches = [asyncio.create_task(server.wait_dead()) for server in servers]
    try:
        done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


def _explain(url: str, hostfile: Path | None) -> None:
    where = f"--hostfile {hostfile}" if hostfile is not None else f"--backend {url}"
    say(f'ready; try in another terminal:  aurora-swarm ask "Why is the sky blue?" {where}\nCtrl-C ends the servers')
