"""What is known of each endpoint: asked for when it is wanted, once, by whoever wants it first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aurora_swarm.errors import CallError
from aurora_swarm.ports.transport import Transport
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import EndpointInfo

AT_ONCE = 64
"""Questions under way at a time."""

TIMEOUT_S = 10.0
"""Longest question."""

AGAIN_S = 30.0
"""An endpoint that did not answer is not asked again before."""

Told = Callable[[AgentEndpoint, EndpointInfo], None]


class Facts:
    """Endpoints' own words, by endpoint. A failure means unknown, never an error.

    Args:
        transport: How to ask. Not closed here.
        told: Called once for every endpoint that answers.
    """

    def __init__(self, transport: Transport, told: Told | None = None) -> None:
        self._transport = transport
        self._told = [told] if told else []
        self._known: dict[int, tuple[AgentEndpoint, EndpointInfo]] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._not_before: dict[int, float] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._closed = False

    def tell(self, told: Told) -> None:
        """Also call `told` for every endpoint that answers from now on."""
        self._told.append(told)

    def known(self, endpoint: AgentEndpoint) -> EndpointInfo | None:
        """What the endpoint has said; None where it has not been asked or has not answered. Asks nobody."""
        found = self._known.get(id(endpoint))
        return found[1] if found is not None else None

    async def of(self, endpoint: AgentEndpoint, *, wait_s: float) -> EndpointInfo | None:
        """What the endpoint says, asked for if nobody has.

        Args:
            endpoint: Who.
            wait_s: Longest wait; the question goes on behind it.

        Returns:
            None where it is not known in time. Cancelling leaves the question to others.
        """
        known = self.known(endpoint)
        if known is not None:
            return known
        task = self._ask(endpoint)
        if task is not None:
            await asyncio.wait((task,), timeout=wait_s)
        return self.known(endpoint)

    def note(self, endpoint: AgentEndpoint, info: EndpointInfo) -> None:
        """What somebody else has asked an endpoint."""
        self._known[id(endpoint)] = (endpoint, info)
        for told in self._told:
            told(endpoint, info)

    async def aclose(self) -> None:
        """End every question. May be called twice."""
        self._closed = True
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, endpoint: AgentEndpoint) -> asyncio.Task[None] | None:
        """The question under way, begun if it may be."""
        key, loop = id(endpoint), asyncio.get_running_loop()
        task = self._asking.get(key)
        if task is None and not self._closed and loop.time() >= self._not_before.get(key, 0.0):
            task = self._asking[key] = loop.create_task(self._question(endpoint))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    async def _question(self, endpoint: AgentEndpoint) -> None:
        try:
            async with self._room:
                info = await self._transport.probe(endpoint, timeout_s=TIMEOUT_S)
        except CallError:
            self._not_before[id(endpoint)] = asyncio.get_running_loop().time() + AGAIN_S
            return
        self.note(endpoint, info)
