"""A fleet, or a part of one, that prompts are sent to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

from aurora_swarm.dispatch.prefixes import groups, plan
from aurora_swarm.pools import batching
from aurora_swarm.pools.fleet import Fleet
from aurora_swarm.pools.flow import as_they_finish, in_order
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.outcome import Outcome, Response
from aurora_swarm.values.reply import Usage


class Pool(Fleet["Pool"]):
    """Endpoints that prompts are spread over.

    A sub-pool is a view: it shares the connections, limits and health of the pool that it was taken from, and
    closing either closes both. A failed call is never raised: it is a `Response` whose `error` says why.

    Args:
        runtime: What is shared.
        members: Indices into the runtime's endpoints, in the order that this pool shows them.

    Raises:
        NoEndpointsError: `members` is empty.
    """

    @property
    def max_tokens_aggregation(self) -> int | None:
        """Tokens to generate at most where many answers become one; None leaves it to the server."""
        return self._runtime.max_tokens_aggregation

    def _part(self, members: Sequence[int]) -> Pool:
        return Pool(self._runtime, members)

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
        one = await self._placed(prompts, max_tokens)
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

        Prompts are pulled as slots come free, so they may be endless. Those of a list that begin alike share
        endpoints, as in `send_all`. Closing the iterator cancels what is under way.

        Args:
            prompts: Any iterable, async or not.
            max_tokens: As for `post`.
            width: Prompts under way at a time; `concurrency` when None.
        """
        place = await self._placed(prompts if isinstance(prompts, Sequence) else (), max_tokens)

        async def one(index: int, prompt: str) -> Response:
            return self.respond_to(index, await place(index, prompt))

        results = as_they_finish(prompts, one, width=min(width or self.concurrency, self.concurrency))
        try:
            async for response in results:
                yield response
        finally:
            await results.aclose()

    def ask(self, call: Call, *, near: AgentEndpoint | None = None) -> Coroutine[Any, Any, Outcome]:
        """One prepared call, placed on any endpoint of this pool: what agents use.

        Args:
            call: What is asked.
            near: The endpoint that answered before and so has the conversation in its cache: preferred while its
                queue is shorter than what it has under way.

        Returns:
            The outcome; failures are in it, not raised.
        """
        view = self._runtime.view_for(call, self._view)
        place = self._by_endpoint.get(id(near))
        pin = None if place is None or self._members[place] not in view else self._members[place]
        return self._runtime.dispatcher.ask(call, view, pin=pin)

    async def _placed(self, prompts: Sequence[str], max_tokens: int | None) -> Callable[[int, str], Awaitable[Outcome]]:
        """How to ask each of these prompts: those that begin alike where the others of their kind go."""
        found = groups(prompts)
        if not any(found):
            return lambda _, prompt: self.ask(self._runtime.call(prompt, max_tokens))
        await self._runtime.survey(self._members)
        pins = plan(found, self._members)

        def one(index: int, prompt: str) -> Awaitable[Outcome]:
            return self._ask(self._runtime.call(prompt, max_tokens, found[index]), pins[index], strict=False)

        return one

    def _ask(self, call: Call, pin: int | None, *, strict: bool) -> Awaitable[Outcome]:
        view = self._runtime.view_for(call, self._view)
        if not strict and pin is not None and pin not in view:
            pin = None
        return self._runtime.dispatcher.ask(call, self._view if strict else view, pin=pin, strict=strict)

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
        endpoint = outcome.endpoint
        return Response(
            success=reply is not None,
            text=reply.text if reply else "",
            error=outcome.error,
            agent_index=-1 if endpoint is None else self._by_endpoint[id(endpoint)],
            endpoint=endpoint,
            index=index,
            usage=reply.usage if reply else Usage(),
            finish_reason=reply.finish_reason if reply else "",
            attempts=outcome.attempts,
            failures=outcome.failures,
            latency_s=outcome.latency_s,
        )
