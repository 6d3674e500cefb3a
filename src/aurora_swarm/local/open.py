"""``local://`` as a backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from aurora_swarm.errors import InputError, ModelUnavailableError
from aurora_swarm.local.server import LocalConfig, LocalServer, start_servers
from aurora_swarm.local.weights import DEFAULT, ensure_weights
from aurora_swarm.values.endpoint import AgentEndpoint

Say = Callable[[str], None]
_OPTIONS = ("servers", "slots", "context", "threads", "port", "embeddings")


def parse_local_url(url: str) -> tuple[str | None, dict[str, int]]:
    """The model and the options of ``local://``, ``local:///path/to.gguf?servers=2&slots=8&context=4096``.

    Raises:
        InputError: An option is unknown or no number, or the path is relative.
    """
    wanted = "write local://, or local:///absolute/path/to/model.gguf"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InputError(f"is no URL: {error}", source=url, remedy=wanted) from error
    if parts.scheme != "local" or parts.netloc:
        raise InputError("is no local backend", source=url, remedy=wanted)
    options: dict[str, int] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _OPTIONS:
            known = ", ".join(_OPTIONS)
            raise InputError(f"unknown option {name}", source=url, field=name, remedy=f"use: {known}")
        if not value.isdecimal() or not 1 <= int(value[:10]) <= 10**9:
            problem = f"{value[:40]!r} is no whole number from 1 to 1000000000"
            raise InputError(problem, source=url, field=name, remedy="give a number")
        options[name] = int(value)
    return unquote(parts.path) or None, options


@asynccontextmanager
async def open_local(
    url: str, *, model: str | None = None, cache_dir: str | None = None, say: Say
) -> AsyncIterator[list[AgentEndpoint]]:
    """The endpoints of embedded servers, one unless the URL says ``servers=3``, which end with the context.

    A server that dies before is not started again: `say` is told why, and calls to the endpoint fail to connect.

    Args:
        url: See `parse_local_url`.
        model: A GGUF file, where the URL names none.
        cache_dir: Where downloaded weights are kept.
        say: Told what takes time, and when the server dies.

    Raises:
        InputError: The URL makes no sense.
        ModelUnavailableError: The weights cannot be had, llama.cpp is not installed, or the server did not start.
    """
    path, options = parse_local_url(url)
    count = options.pop("servers", 1)
    config = await configure(path or model, cache_dir, say, **options)
    async with AsyncExitStack() as stack:
        servers = await start_servers(in_a_row(config, count), stack)
        watching = [asyncio.create_task(_tell_of_death(server, say)) for server in servers]
        try:
            yield [server.endpoint for server in servers]
        finally:
            for watch in watching:
                watch.cancel()
            await asyncio.gather(*watching, return_exceptions=True)


def in_a_row(config: LocalConfig, count: int) -> list[LocalConfig]:
    """The same for several servers, on ports that follow each other, or on free ones."""
    ports = range(config.port, config.port + count) if config.port else [0] * count
    return [msgspec.structs.replace(config, port=port) for port in ports]


async def _tell_of_death(server: LocalServer, say: Say) -> None:
    say(str(await server.wait_dead()))


async def configure(
    model: str | None,
    cache_dir: str | None,
    say: Say,
    *,
    slots: int = 4,
    context: int = 2048,
    threads: int | None = None,
    port: int = 0,
    embeddings: int = 0,
) -> LocalConfig:
    """What an embedded server needs, its weights fetched.

    Raises:
        ModelUnavailableError: The weights cannot be had, or llama.cpp is not installed.
    """
    _check_engine()
    weights = await ensure_weights(model, Path(cache_dir) if cache_dir else None, say)
    name = weights.stem if model else DEFAULT.name
    say(f"starting the embedded model {name}")
    return LocalConfig(weights, name, slots, context, threads, port, embeddings=bool(embeddings))


def _check_engine() -> None:
    from importlib.util import find_spec  # noqa: PLC0415 - asked only when an embedded model is wanted

    if find_spec("xllamacpp") is None:
        raise ModelUnavailableError("the embedded engine is not installed", remedy="pip install 'aurora-swarm[local]'")
