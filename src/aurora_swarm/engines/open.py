"""Opens an engine by name; the only place that names the classes behind the port."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable

from aurora_swarm.errors import UsageError
from aurora_swarm.ports.engine import Engine

_KINDS = "use local, processes, ray, or ray://HOST:PORT"


def open_engine(place: str = "local", *, say: Callable[[str], None] | None = None) -> Engine:
    """Open an engine; a cluster is begun or joined when the first worker is.

    Args:
        place: ``local`` for this process; ``processes`` for processes of this machine; ``ray`` for the cluster that
            the variable ``RAY_ADDRESS`` names, or one of its own on this machine; ``ray://host:port`` for a Ray cluster
            that runs, by the address that ``ray start`` printed, from one of its nodes.
        say: Told in single lines what workers write, and what died; standard error if not given.

    Raises:
        UsageError: There is no such engine, or the library for it is not installed.
    """
    say = say or _to_standard_error
    if place == "local":
        from aurora_swarm.engines.local import LocalEngine  # noqa: PLC0415 - imported when it is chosen

        return LocalEngine(say)
    if place == "processes":
        from aurora_swarm.engines.processes import ProcessEngine  # noqa: PLC0415

        return ProcessEngine(say)
    if place == "ray" or place.startswith("ray://"):
        if importlib.util.find_spec("ray") is None:
            raise UsageError("the engine ray needs Ray", remedy="pip install 'aurora-swarm[ray]'")
        from aurora_swarm.engines.ray import RayEngine  # noqa: PLC0415

        return RayEngine(_address(place), say)
    raise UsageError(f"{place!r} is no engine", remedy=_KINDS)


def _address(place: str) -> str:
    address = place.removeprefix("ray").removeprefix("://")
    host, _, port = address.rpartition(":")
    if place != "ray" and not (host and port.isdecimal()):
        raise UsageError(f"{place!r} names no host and port of a Ray cluster", remedy=_KINDS)
    return address


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - what it is for
