"""A fleet, or a part of one: who is in it, and how to take parts of it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

from aurora_swarm.dispatch.routing import View
from aurora_swarm.errors import NoEndpointsError, UsageError
from aurora_swarm.pools.runtime import Runtime
from aurora_swarm.values.capabilities import Capabilities
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.statistics import PoolStatistics

PartT = TypeVar("PartT")


class Fleet(Generic[PartT]):
    """Endpoints that share one runtime; what every kind of pool is.

    A sub-pool is a view: it shares the connections, limits and health of the pool that it was taken from, and
    closing either closes both.

    Args:
        runtime: What is shared.
        members: Indices into the runtime's endpoints, in the order that this pool shows them.

    Raises:
        NoEndpointsError: `members` is empty.
    """

    def __init__(self, runtime: Runtime, members: Sequence[int]) -> None:
        if not members:
            raise NoEndpointsError("the pool has no endpoints", remedy="check the selection against pool.endpoints")
        self._runtime = runtime
        self._members = tuple(members)
        self._by_endpoint = {id(runtime.dispatcher.endpoints[m]): p for p, m in enumerate(self._members)}
        self._view = runtime.dispatcher.view(self._members)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Release everything. Calls that still wait end as cancelled. May be called twice."""
        await self._runtime.aclose()

    @property
    def runtime(self) -> Runtime:
        """What this pool shares with all its sub-pools."""
        return self._runtime

    @property
    def view(self) -> View:
        """This pool's part of the fleet, as the dispatcher knows it."""
        return self._view

    # -- what it is --------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Number of endpoints."""
        return len(self._members)

    @property
    def endpoints(self) -> tuple[AgentEndpoint, ...]:
        """The endpoints; `agent_index` counts in this order."""
        return tuple(self._runtime.dispatcher.endpoints[m] for m in self._members)

    def endpoint(self, agent_index: int) -> AgentEndpoint:
        """The endpoint at one place.

        Raises:
            UsageError: `agent_index` is out of range.
        """
        return self._runtime.dispatcher.endpoints[self._member(agent_index)]

    @property
    def model(self) -> str:
        """The model that prompts are sent to; empty for whatever an endpoint serves."""
        return self._runtime.model

    @property
    def capabilities(self) -> Capabilities:
        """What can be asked of every endpoint of this pool, by the kinds of backends that they are."""
        return self._runtime.capabilities(self._members)

    @property
    def concurrency(self) -> int:
        """Calls that may be under way at a time, over all sub-pools together."""
        return self._runtime.dispatcher.limits.concurrency

    @property
    def has_slots(self) -> bool:
        """Whether an endpoint of this pool has named its slots: its cache holds as many conversations, not more."""
        slots = self._runtime.dispatcher.slots
        return any(member in slots for member in self._members)

    def statistics(self) -> PoolStatistics:
        """A frozen snapshot: one record per endpoint of this pool, and the totals of the shared runtime."""
        return self._runtime.dispatcher.statistics(self._members)

    # -- parts of it -------------------------------------------------------------------------------------------

    def by_tag(self, key: str, value: str) -> PartT:
        """The endpoints whose tag `key` is `value`.

        Raises:
            NoEndpointsError: There are none; the values that exist are named.
        """
        endpoints = self.endpoints
        chosen = [i for i, endpoint in enumerate(endpoints) if endpoint.tags.get(key) == value]
        if not chosen:
            known = sorted({e.tags[key] for e in endpoints if key in e.tags})
            remedy = f"{key} is one of: {', '.join(known)}" if known else f"no endpoint has a tag {key}"
            raise NoEndpointsError(f"no endpoint has {key}={value}", remedy=remedy)
        return self.select(chosen)

    def sample(self, n: int, *, dice: random.Random | None = None) -> PartT:
        """`n` endpoints drawn without repetition.

        Args:
            n: How many, 1 to `size`.
            dice: Source of randomness; pass a seeded one to repeat a draw.

        Raises:
            UsageError: `n` is more than there are, or less than 1.
        """
        if not 1 <= n <= self.size:
            raise UsageError(f"cannot sample {n} of {self.size} endpoints", remedy=f"give n from 1 to {self.size}")
        return self.select((dice or random).sample(range(self.size), n))

    def select(self, indices: Iterable[int]) -> PartT:
        """The endpoints at `indices`, in that order.

        Raises:
            NoEndpointsError: `indices` is empty.
            UsageError: An index is out of range or occurs twice.
        """
        chosen = list(indices)
        for index in chosen:
            self._member(index)
        if len(set(chosen)) != len(chosen):
            raise UsageError("an endpoint is selected twice", remedy="give each index once")
        return self._part([self._members[i] for i in chosen])

    def slice(self, start: int, stop: int) -> PartT:
        """The endpoints from `start` up to, not including, `stop`.

        Raises:
            NoEndpointsError: The range holds none.
        """
        return self.select(range(self.size)[start:stop])

    def _part(self, members: Sequence[int]) -> PartT:
        """A pool of this kind on the same runtime."""
        raise NotImplementedError

    def _member(self, index: int) -> int:
        if not 0 <= index < self.size:
            raise UsageError(
                f"agent_index {index} is out of range", remedy=f"the pool has endpoints 0 to {self.size - 1}"
            )
        return self._members[index]

    def _place_of(self, endpoint: AgentEndpoint | None) -> int:
        """Where an endpoint stands in this pool; -1 for None."""
        return -1 if endpoint is None else self._by_endpoint[id(endpoint)]
