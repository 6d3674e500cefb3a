"""What may be fetched: the public internet, and what was allowed by name. Pure but for the look-up that it is given."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aurora_swarm.errors import ToolDefinitionError
from aurora_swarm.tools.web.addresses import Address, not_public
from aurora_swarm.tools.web.names import Resolve
from aurora_swarm.tools.web.targets import RefusedUrlError, Target, authority_of

PORTS = frozenset({80, 443, 8080, 8443})
"""Where the web is. Other services are reached by allowing them by name."""


class Guard(msgspec.Struct, frozen=True):
    """Which hosts may be reached.

    Args:
        allowed: Hosts, or hosts with a port, that may be reached wherever they are.
        only: The only ones that may be reached at all; None for all. They must be public, unless `allowed` too.
        ports: Ports that may be reached without being allowed.
    """

    allowed: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    ports: frozenset[int] = PORTS

    def check(self, target: Target) -> None:
        """Refuse what need not be looked up first.

        Raises:
            RefusedUrlError: The host or the port may not be reached.
        """
        if target.place in self.allowed:
            return
        if self.only is not None and target.place not in self.only:
            raise RefusedUrlError(f"{target.place} is none of the hosts that may be reached: {_listed(self)}")
        if target.port not in self.ports:
            raise RefusedUrlError(f"port {target.port} may not be reached")
        if target.address is not None:
            self._check_address(target, target.address)

    async def addresses(self, target: Target, resolve: Resolve) -> Sequence[Address]:
        """The addresses that may be connected to, each of them looked at.

        Raises:
            RefusedUrlError: The target may not be reached, or one of its addresses may not: a name that leads to
                both kinds is not to be trusted.
            ToolFailedError: The name is not known.
        """
        self.check(target)
        if target.address is not None:
            return (target.address,)
        addresses = await resolve(target.host, target.port)
        if target.place not in self.allowed:
            for address in addresses:
                self._check_address(target, address)
        return addresses

    def _check_address(self, target: Target, address: Address) -> None:
        if why := not_public(address):
            raise RefusedUrlError(f"{target.host} is not on the public internet ({why})")


def places_of(hosts: Sequence[str]) -> frozenset[str]:
    """Hosts as the guard compares them.

    Raises:
        ToolDefinitionError: One is no host, or no host and port.
    """
    return frozenset(_place(host) for host in hosts)


def _place(text: str) -> str:
    try:
        host, address, port = authority_of(text)
    except RefusedUrlError:
        remedy = "give names or addresses, and a port where it is not 80 or 443: 'wiki.example:8000'"
        raise ToolDefinitionError(f"{text!r} is no host", remedy=remedy) from None
    shown = f"[{host}]" if address is not None and address.version == 6 else host
    return f"{shown}:{port}" if port else shown


def _listed(guard: Guard) -> str:
    return ", ".join(sorted((guard.only or frozenset()) | guard.allowed)[:20])
