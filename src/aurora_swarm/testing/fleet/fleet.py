"""A fleet of simulated servers on the running loop."""

from __future__ import annotations

import asyncio
import random
import resource
from collections.abc import Sequence
from typing import Any, Self

import msgspec

from aurora_swarm.errors import UsageError
from aurora_swarm.testing.fleet.counts import FleetCounts, Tally, total
from aurora_swarm.testing.fleet.faults import Fault, FaultPlan, as_tuple, place_faults
from aurora_swarm.testing.fleet.plan import ServerPlan
from aurora_swarm.testing.fleet.server import SimulatedServer
from aurora_swarm.values.endpoint import AgentEndpoint


class SimulatedFleet:
    """Model servers that listen on 127.0.0.1, each on a port of its own, all in this process.

    Use it as ``async with SimulatedFleet([ServerPlan()] * 100) as fleet:``. An answer repeats the prompt of its
    request, so that a test can tell whose it is. Leaving the context ends every connection. A server in this process
    shares its time with the code under test; `fleet_process` runs a fleet beside it.

    Args:
        plans: What each server is like; at least one.
        faults: What is wrong: a mapping from a server's number to its faults, or faults of the fleet, each with its
            share of the servers.
        seed: The same seed gives the same faults and the same lengths of answers, as far as requests come in the
            same order.
        host: Address to listen at.

    Raises:
        UsageError: There is no plan, or a fault is for a server that does not exist.
    """

    def __init__(
        self, plans: Sequence[ServerPlan], *, faults: FaultPlan = (), seed: int = 0, host: str = "127.0.0.1"
    ) -> None:
        if not plans:
            raise UsageError("a fleet needs at least one server", remedy="give at least one ServerPlan")
        self._plans = list(plans)
        self._faults = place_faults(len(plans), faults, seed)
        self._seed = seed
        self._host = host
        self._servers: list[SimulatedServer] = []

    @property
    def endpoints(self) -> list[AgentEndpoint]:
        """Where the servers listen, in the order of their plans. They stay the same over `stop` and `start`."""
        return [AgentEndpoint(self._host, server.port) for server in self._servers]

    async def __aenter__(self) -> Self:
        allow_open_files(len(self._plans))
        for index, plan in enumerate(self._plans):
            dice = random.Random(f"{self._seed}:{index}")  # noqa: S311 - no secret
            faults = self._faults.get(index, ())
            self._servers.append(SimulatedServer(plan, faults, dice, Tally(), self._host))
        try:
            for server in self._servers:
                await server.open()
        except OSError as error:
            await self.__aexit__()
            raise UsageError(
                f"{len(self._plans)} servers cannot listen here: {error.strerror}",
                remedy="simulate fewer servers, or allow more open files (ulimit -n)",
            ) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(server.aclose() for server in self._servers))
        await asyncio.sleep(0)  # lets the transports tell that they are lost

    def set_plan(self, which: int | slice, **changes: Any) -> None:
        """Change what servers are like, while they run.

        Args:
            which: One server's number, or a slice of them.
            **changes: Fields of `ServerPlan`. What runs already in a fixed time keeps it.

        Raises:
            UsageError: A change is none, or the server does not exist.
        """
        known = ServerPlan.__struct_fields__
        if wrong := [name for name in changes if name not in known]:
            raise UsageError(f"{wrong[0]} is no field of ServerPlan", remedy=f"the fields are: {', '.join(known)}")
        for server in self._chosen(which):
            server.set_plan(msgspec.structs.replace(server.planned, **changes))

    async def set_fault(self, which: int | slice, fault: Fault | Sequence[Fault] | None) -> None:
        """Replace what is wrong with servers.

        Args:
            which: One server's number, or a slice of them.
            fault: One fault, several, or None for a well server. Times count from the server's start; shares are
                disregarded.

        Raises:
            UsageError: The server does not exist.
        """
        for server in self._chosen(which):
            await server.set_faults(as_tuple(fault))

    async def stop(self, which: int | slice) -> None:
        """Let servers die: connections end with a reset, further ones are refused.

        Raises:
            UsageError: The server does not exist.
        """
        for server in self._chosen(which):
            await server.stop()

    async def start(self, which: int | slice) -> None:
        """Let servers listen again, on the same ports.

        Raises:
            UsageError: The server does not exist.
        """
        for server in self._chosen(which):
            await server.start()

    def counts(self, which: int | slice | None = None) -> FleetCounts:
        """What one server, some, or all of them have seen.

        Raises:
            UsageError: The server does not exist.
        """
        return total(server.tally for server in (self._servers if which is None else self._chosen(which)))

    def _chosen(self, which: int | slice) -> list[SimulatedServer]:
        if isinstance(which, slice):
            return self._servers[which]
        if not 0 <= which < len(self._servers):
            raise UsageError(f"there is no server {which}", remedy=f"the fleet has servers 0 to {len(self._plans) - 1}")
        return [self._servers[which]]


def allow_open_files(servers: int) -> None:
    """Allow as many open files as the system lets us have without asking.

    Args:
        servers: How many ports will listen.

    Raises:
        UsageError: That is too few for the servers.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard not in (resource.RLIM_INFINITY, -1) and servers + 64 > hard:
        raise UsageError(
            f"{servers} servers need more than the {hard} files that may be open here",
            remedy="simulate fewer servers, or raise the hard limit (ulimit -Hn)",
        )
