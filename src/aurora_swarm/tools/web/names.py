"""From a host's name to its addresses, by the system's resolver, on threads that delay no program's end."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

from aurora_swarm.errors import ToolFailedError
from aurora_swarm.tools.threads import DaemonThreads
from aurora_swarm.tools.web.addresses import Address

Resolve = Callable[[str, int], Awaitable[list[Address]]]

MAX_LOOKUPS = 128
"""Names being looked up at a time. Each takes a thread that cannot be stopped."""

THREADS = DaemonThreads()


async def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a host, in the system's order of preference.

    Raises:
        ToolFailedError: The name is not known, or too many look-ups hang.
    """
    if THREADS.busy >= MAX_LOOKUPS:
        raise ToolFailedError("the name was not looked up: too many look-ups hang")
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(THREADS, _addresses, host, port)
    except (OSError, UnicodeError):
        raise ToolFailedError(f"the host {host} is not known") from None
    return [ipaddress.ip_address(address) for address in found]


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
