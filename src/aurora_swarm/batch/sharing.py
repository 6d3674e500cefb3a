"""A limit of each endpoint that all processes of a run keep together: each has a share, leased through the store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import msgspec

from aurora_swarm.dispatch.bounds import Bounds
from aurora_swarm.errors import InputError, StorageError
from aurora_swarm.pools.pool import Pool
from aurora_swarm.ports.shards import ShardStore
from aurora_swarm.values.endpoint import AgentEndpoint

BEATS = 4
"""How often a share is renewed within a lease, at least."""

CALM = 2
"""Renewals for each one before which room is made: a slot is then idle for as long as the store takes to answer."""

HASTE = 4
"""How much more often one asks who has too little."""

MARGIN = 0.25
"""Part of a lease before whose end nobody waits any longer for a call to end, and the share is renewed as it is."""

GIVE_BACK_S = 2.0
"""Longest that is spent on giving shares back; what was not is free when its lease is over."""

_LOGGER = logging.getLogger(__name__)


class EndpointShares:
    """Keeps what a process sends to the endpoints within its share of what each of them takes.

    While the context is open, no endpoint with a limit gets more calls from all processes together than that: one
    starts with none, asks the store for a share, and renews it in the background. Who has more than its equal part
    gives up what becomes free, call by call, so that a process that comes later has its part within the time of a few
    calls. What a process does not use the others have. A process that dies frees its share when its lease ends; one
    that cannot reach the store for as long as a lease starts no further call until it can.

    Two bounds on that: calls that are under way when a lease ends unrenewed run on; and processes of other runs are not
    counted.

    Args:
        store: What the processes share.
        pool: Whose endpoints are bounded; its sub-pools are, too.
        owner: This process, by a name that no other one has.
        limit: Calls that each endpoint takes at a time; None for what an endpoint's ``slots`` tag says, or the server
            itself, as llama.cpp does. An endpoint of which nobody says anything is not bounded.

    Raises:
        InputError: A ``slots`` tag is no whole number above 0.
    """

    def __init__(self, store: ShardStore, pool: Pool, owner: str, limit: int | None = None) -> None:
        self._store = store
        self._owner = owner
        self._endpoints = pool.runtime.dispatcher.endpoints
        self._bounds = pool.runtime.dispatcher.bounds
        self._told = limits_of(self._endpoints, limit)
        self._asks_servers = limit is None
        self._keepers: dict[int, _Keeper] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        if self._asks_servers:
            self._bounds.slots_found = self._found
        for index, total in self._told.items():
            self._keep(index, total)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bounds.slots_found = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GIVE_BACK_S):
                await asyncio.gather(*(keeper.give_back() for keeper in self._keepers.values()))
        for index in self._keepers:
            self._bounds.set(index, None)

    def shares(self) -> dict[str, int]:
        """Calls that this process may have at a time at this moment, by the endpoint's URL."""
        return {self._endpoints[index].url: keeper.share for index, keeper in self._keepers.items()}

    def _found(self, index: int, slots: int) -> None:
        """A server said how many sequences it runs; what its tag says goes before that."""
        if index not in self._told and index not in self._keepers:
            self._keep(index, slots)

    def _keep(self, index: int, total: int) -> None:
        resource = f"calls {self._endpoints[index].url}"
        keeper = _Keeper(self._store, self._bounds, index, self._owner, resource=resource, total=total)
        self._keepers[index] = keeper
        self._bounds.set(index, 0)
        task = asyncio.get_running_loop().create_task(keeper.keep())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def limits_of(endpoints: tuple[AgentEndpoint, ...], limit: int | None) -> Mapping[int, int]:
    """What each endpoint takes at a time, by its index, as far as it was said.

    Args:
        endpoints: The fleet.
        limit: The same for all; None for what each one's ``slots`` tag says.

    Raises:
        InputError: A ``slots`` tag is no whole number above 0.
    """
    if limit is not None:
        return dict.fromkeys(range(len(endpoints)), limit)
    told = {index: endpoint.tags["slots"] for index, endpoint in enumerate(endpoints) if "slots" in endpoint.tags}
    for index, slots in told.items():
        if not slots.isdecimal() or int(slots) < 1:
            problem = f"slots={slots} is no whole number above 0"
            raise InputError(problem, source=endpoints[index].url, remedy="write slots=8")
    return {index: int(slots) for index, slots in told.items()}


class Standing(msgspec.Struct, frozen=True):
    """What was asked for a share, and what came of it.

    Args:
        load: Calls that ran when it was asked.
        want: How many there could be.
        share: How many there may be.
    """

    load: int
    want: int
    share: int

    @property
    def is_squeezed(self) -> bool:
        """Whether others have what is wanted, and nothing of the share is unused: more of it may be theirs."""
        return self.share < self.want and self.share <= self.load


def wanted(load: int, waiting: int, total: int) -> int:
    """How many calls a process could have: what it has, and room to grow where there is something to do.

    Args:
        load: Calls that the endpoint has of it.
        waiting: Its calls that wait for any endpoint.
        total: What the endpoint takes.
    """
    return min(total, 2 * load + waiting + 1) if load or waiting else 0


class _Keeper:
    """Keeps the share of one endpoint."""

    def __init__(self, store: ShardStore, bounds: Bounds, index: int, owner: str, *, resource: str, total: int) -> None:
        self._store = store
        self._bounds = bounds
        self._index = index
        self._owner = owner
        self._resource = resource
        self._total = total
        self._lease_s = store.plan.lease_s
        self._beat_s = store.plan.lease_s / BEATS
        self._expires = 0.0
        self._latest = 0
        self._renewals = 0
        self._is_squeezed = False
        self._is_unreachable = False
        self._now = asyncio.get_running_loop().time

    @property
    def share(self) -> int:
        return self._bounds.limit(self._index)

    async def keep(self) -> None:
        while True:
            if self._is_squeezed or self._renewals % CALM == 0:
                await self._make_room()
            self._renewals += 1
            load = self._bounds.load(self._index)
            want = wanted(load, self._bounds.waiting, self._total)
            if want or self.share:
                await self._ask(load, want)
            if not want:
                await self._bounds.wanted()

    async def give_back(self) -> None:
        """Let others have it at once."""
        with contextlib.suppress(StorageError):
            load = self._bounds.load(self._index)
            await self._store.share(self._resource, self._owner, held=load, want=0, total=self._total)

    async def _make_room(self) -> None:
        """One call less than there may be: what a full share leaves unused tells whether others wait for it."""
        load = self._bounds.load(self._index)
        if load and load >= self.share:
            self._bound(load - 1)
            await self._bounds.drained(self._index, load - 1, self._expires - MARGIN * self._lease_s)

    async def _ask(self, load: int, want: int) -> None:
        """Renew the share, and wait until it should be renewed again. Meanwhile nothing is sent beyond what is told."""
        self._bound(load)
        asked, before = self._now(), self._latest
        try:
            share = await self._store.share(self._resource, self._owner, held=load, want=want, total=self._total)
        except StorageError as error:
            if not self._is_unreachable:
                _LOGGER.warning("the share of %s cannot be renewed: %s", self._resource, error)
            self._is_unreachable = True
            await asyncio.sleep(self._beat_s)
            return
        self._is_unreachable = False
        self._expires = asked + self._lease_s
        self._bound(share if self._now() < self._expires else 0)
        self._latest = share
        await self._pause(Standing(load, want, share), grows=before < share < want)

    async def _pause(self, standing: Standing, *, grows: bool) -> None:
        """Until the next renewal: at once where more is to be given up, sooner where more is to be had or wanted."""
        self._is_squeezed = standing.is_squeezed
        if not standing.want or (standing.is_squeezed and standing.load):
            return
        due = self._now() + self._beat_s
        await asyncio.sleep(self._beat_s / HASTE)
        if standing.is_squeezed or grows:
            return
        if standing.share >= standing.want < self._total:
            await self._bounds.wanted(until=due)
        else:
            await asyncio.sleep(due - self._now())

    def _bound(self, limit: int) -> None:
        self._bounds.set(self._index, limit, until=self._expires)
