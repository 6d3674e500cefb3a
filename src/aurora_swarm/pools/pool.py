"""A fleet, or a part of one, that prompts are sent to."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from aurora_swarm.dispatch.prefixes import groups, plan
from aurora_swarm.dispatch.routing import View
from aurora_swarm.errors import NoEndpointsError, UsageError
from aurora_swarm.pools import batching
from aurora_swarm.pools.flow import as_they_finish, in_order
from aurora_swarm.pools.runtime import Runtime
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.outcome import Outcome, Response
from aurora_swarm.values.reply import Usage
from aurora_swarm.values.statistics import PoolStatistics


class Pool:
    """Endpoints that prompts are spread over.

    A sub-pool is a view: it shares the connections, limits and health of the pool that it was taken from, and
    closing either closes both. A failed call is never raised: it is a `Response` whose `error` says why.

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
        self._place = {member: place for place, member in enumerate(self._members)}
        self._by_endpoint = {id(runtime.dispatcher.endpoints[m]): p for m, p in self._place.items()}
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
    def max_tokens_aggregation(self) -> int | None:
        """Tokens to generate at most where many answers become one; None leaves it to the server."""
        return self._runtime.max_tokens_aggregation

    @property
    def concurrency(self) -> int:
        """Calls that may be under way at a time, over all sub-pools together."""
        return self._runtime.dispatcher.limits.concurrency

    def statistics(self) -> PoolStatistics:
        """A frozen snapshot: one record per endpoint of this pool, and the totals of the shared runtime."""
        return self._runtime.dispatcher.statistics(self._members)

    # -- parts of it -------------------------------------------------------------------------------------------

    def by_tag(self, key: str, value: str) -> Pool:
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

    def sample(self, n: int, *, dice: random.Random | None = None) -> Pool:
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

    def select(self, indices: Iterable[int]) -> Pool:
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
        return Pool(self._runtime, [self._members[i] for i in chosen])

    def slice(self, start: int, stop: int) -> Pool:
        """The endpoints from `start` up to, not including, `stop`.

        Raises:
            NoEndpointsError: The range holds none.
        """
        return self.select(range(self.size)[start:stop])

    # -- asking ------------------------------------------------------------------------------------------------

    async def post(self, agent_index: int, prompt: str, max_tokens: int | None = None) -> Response:
        """Send one prompt to one endpoint; to another one only when that fails.

        Args:
            agent_index: The endpoint to prefer, counted in `endpoints`.
            prompt: Sent unchanged.
            max_tokens: Tokens to generate at most; the pool's default when None.

        Returns:
            The response; its `agent_index` and `endpoint` say who really answered.

        Raises:
            UsageError: `agent_index` is out of range.
        """
        return await self._respond(0, prompt, max_tokens, self._member(agent_index), strict=False)

    async def send_all(self, prompts: Sequence[str], max_tokens: int | None = None) -> list[Response]:
        """Send each prompt to whichever endpoint has the least to do.

        Prompts that begin alike (512 characters or more) go to the same endpoints, so that an engine computes what they
        share once.

        Args:
            prompts: May be empty.
            max_tokens: As for `post`.

        Returns:
            One response per prompt, in the order of `prompts`. Cancelling cancels every call under way.
        """
        found = groups(prompts)
        if any(found):
            await self._runtime.survey(self._members)
            pins = plan(found, self._members)

            def one(index: int, prompt: str) -> Awaitable[Outcome]:
                return self._ask(self._runtime.call(prompt, max_tokens, found[index]), pins[index], strict=False)
        else:

            def one(index: int, prompt: str) -> Awaitable[Outcome]:  # noqa: ARG001
                return self.ask(self._runtime.call(prompt, max_tokens))

        return await in_order(prompts, one, then=self.respond_to, width=self.concurrency)

    async def send_all_batched(self, prompts: Sequence[str], max_tokens: int | None = None) -> list[Response]:
        """Send prompts in few requests of many, where servers take such requests; else as `send_all` does.

        Each prompt is put to the model as if it were sent alone. Parts that are missing or failed are asked again, and
        a request that is refused is split until the bad prompt stands alone.

        Args:
            prompts: May be empty.
            max_tokens: As for `post`.

        Returns:
            One response per prompt, in the order of `prompts`.
        """
        return await batching.send_all_batched(self, prompts, max_tokens)

    async def broadcast_prompt(self, prompt: str, max_tokens: int | None = None) -> list[Response]:
        """Send one prompt to every endpoint; each answers for itself, so no other stands in for one that fails.

        Returns:
            One response per endpoint, in the order of `endpoints`.
        """

        def one(index: int, member: int) -> Awaitable[Outcome]:  # noqa: ARG001
            return self._ask(self._runtime.call(prompt, max_tokens), member, strict=True)

        return await in_order(self._members, one, then=self.respond_to, width=self.size)

    async def broadcast_stream(self, prompt: str, max_tokens: int | None = None) -> AsyncGenerator[Response, None]:
        """As `broadcast_prompt`, but yield each response as it comes; its `index` is the endpoint's.

        Closing the iterator cancels what is under way.
        """

        async def one(index: int, member: int) -> Response:
            return await self._respond(index, prompt, max_tokens, member, strict=True)

        results = as_they_finish(self._members, one, width=self.size)
        try:
            async for response in results:
                yield response
        finally:
            await results.aclose()

    async def stream(
        self, prompts: Iterable[str] | AsyncIterable[str], max_tokens: int | None = None, *, width: int | None = None
    ) -> AsyncGenerator[Response, None]:
        """Send prompts and yield responses as they finish; `response.index` says which prompt it answers.

        Prompts are pulled as slots come free, so they may be endless. Closing the iterator cancels what is
        under way.

        Args:
            prompts: Any iterable, async or not.
            max_tokens: As for `post`.
            width: Prompts under way at a time; `concurrency` when None.
        """

        async def one(index: int, prompt: str) -> Response:
            return await self._respond(index, prompt, max_tokens, None, strict=False)

        results = as_they_finish(prompts, one, width=min(width or self.concurrency, self.concurrency))
        try:
            async for response in results:
                yield response
        finally:
            await results.aclose()

    def ask(self, call: Call) -> Coroutine[Any, Any, Outcome]:
        """One prepared call, placed on any endpoint of this pool: what agents use.

        Returns:
            The outcome; failures are in it, not raised.
        """
        return self._runtime.dispatcher.ask(call, self._runtime.view_for(call, self._view))

    def _ask(self, call: Call, pin: int | None, *, strict: bool) -> Awaitable[Outcome]:
        view = self._runtime.view_for(call, self._view)
        if not strict and pin is not None and pin not in view:
            pin = None
        return self._runtime.dispatcher.ask(call, self._view if strict else view, pin=pin, strict=strict)

    def _member(self, index: int) -> int:
        if not 0 <= index < self.size:
            raise UsageError(
                f"agent_index {index} is out of range", remedy=f"the pool has endpoints 0 to {self.size - 1}"
            )
        return self._members[index]

    async def _respond(
        self, index: int, prompt: str, max_tokens: int | None, pin: int | None, *, strict: bool
    ) -> Response:
        call = self._runtime.call(prompt, max_tokens)
        outcome = await self._ask(call, pin, strict=strict)
        return self.respond_to(index, outcome)

    def respond_to(self, index: int, outcome: Outcome) -> Response:
        """An outcome as this pool's response.

        Args:
            index: Position of the prompt in the list that was given.
            outcome: What became of its call.
        """
        reply = outcome.reply
        place = -1 if outcome.endpoint is None else self._by_endpoint[id(outcome.endpoint)]
        return Response(
            success=reply is not None,
            text=reply.text if reply else "",
            error=outcome.error,
            agent_index=place,
            endpoint=outcome.endpoint,
            index=index,
            usage=reply.usage if reply else Usage(),
            finish_reason=reply.finish_reason if reply else "",
            attempts=outcome.attempts,
            failures=outcome.failures,
            latency_s=outcome.latency_s,
        )
