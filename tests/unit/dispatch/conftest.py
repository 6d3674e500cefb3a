"""A fleet in memory on virtual time: the production dispatcher above it, a scripted world below."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from aurora_swarm.dispatch.dispatcher import Dispatcher, Limits
from aurora_swarm.errors import CallError
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import EndpointInfo, Reply

Behave = Callable[[int, float], float | CallError]


HANGS = 1000.0
"""Seconds that no probe outlasts: what takes as long as that hangs."""


class World:
    """Endpoints that behave as a function of endpoint and time says: seconds to answer, or how to fail."""

    def __init__(self, size: int, behave: Behave):
        self.endpoints = [AgentEndpoint(f"node{i}", 8000) for i in range(size)]
        self._index = {e: i for i, e in enumerate(self.endpoints)}
        self._behave = behave
        self.sent: Counter[int] = Counter()
        self.probes: Counter[int] = Counter()
        self.busy = 0
        self.busiest = 0

    async def send(self, endpoint, call, *, timeout_s):
        index = self._index[endpoint]
        self.sent[index] += 1
        self.busy += 1
        self.busiest = max(self.busy, self.busiest)
        try:
            await self._act(index)
            return Reply(text=f"{index}:{call.messages[-1].content}")
        finally:
            self.busy -= 1

    async def probe(self, endpoint, *, timeout_s):
        index = self._index[endpoint]
        self.probes[index] += 1
        await self._act(index, at_once=True)
        return EndpointInfo()

    async def load(self, endpoint, *, timeout_s):
        return None

    async def _act(self, index, at_once=False):
        result = self._behave(index, asyncio.get_running_loop().time())
        if isinstance(result, CallError):
            raise result
        await asyncio.sleep(0 if at_once and result < HANGS else result)


@pytest.fixture
def fleet():
    """Run `main(dispatcher, view, world)` on virtual time against a world; return what it returns."""

    def run(size, behave, main, **limits):
        world = World(size, behave)

        async def body():
            dispatcher = Dispatcher(world.endpoints, world, limits=Limits(**limits))
            try:
                return await main(dispatcher, dispatcher.view(range(size)), world)
            finally:
                await dispatcher.aclose()

        return run_virtual(body())

    return run
