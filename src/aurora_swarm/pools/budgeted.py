"""A transport that keeps every call within the context of the endpoint that gets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from aurora_swarm.errors import CallError, RequestRejectedError
from aurora_swarm.pools.budgets import SURE, ContextBudget, length_of, with_max_tokens
from aurora_swarm.pools.facts import Facts
from aurora_swarm.ports.transport import TokenCounter, Transport
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import Delta, Embeddings, EndpointInfo, EndpointLoad, Reply

WAIT_S = 2.0
"""Longest wait for an endpoint's context; afterwards the call goes as it is."""

COUNT_S = 5.0
"""Longest wait for an endpoint's tokenizer; afterwards the estimate counts."""

_TEMPLATE, _PER_MESSAGE, _MOST_PER_CHARACTER = 64, 16, 4
"""Tokens that a chat template adds, to a conversation and to each message, and that a character may be, if it is not
ASCII: who needs no more than fits is not looked at."""

_LEARN_FIRST, _LEARN_EVERY = 64, 16
"""Of the first calls each one teaches, later one of so many."""


class BudgetedTransport:
    """Passes calls on with ``max_tokens`` lowered to what the endpoint's context leaves.

    A call whose bound on tokens is None keeps it: the server then takes what is left. A prompt that surely does not fit
    is refused before anything is sent. What servers count teaches the estimate.

    Args:
        inner: Who carries the calls; closed with this one.
        budget: What is known of prompts' lengths; shared by all endpoints.
        facts: What is known of the endpoints; closed with this one.
        max_context: Context of every endpoint, where it is given and nobody has to be asked.
    """

    def __init__(
        self, inner: Transport, budget: ContextBudget, facts: Facts, *, max_context: int | None = None
    ) -> None:
        self._inner = inner
        self._budget = budget
        self._facts = facts
        self._max_context = max_context
        self._sure = SURE if max_context is None else max_context - budget.buffer_in(max_context)
        self._counter = inner if isinstance(inner, TokenCounter) else None
        self._sent = 0
        self._roomy: dict[int, int] = {}
        facts.tell(self._note)

    def send(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> Coroutine[Any, Any, Reply]:
        """One call, one whole answer."""
        sent = self._sent = self._sent + 1
        if sent > _LEARN_FIRST and sent % _LEARN_EVERY:  # as most calls go: nothing to do for them
            need = _TEMPLATE + (call.sampling.max_tokens or 1)
            for message in call.messages:
                content = message.content
                need += _PER_MESSAGE + (len(content) if content.isascii() else _MOST_PER_CHARACTER * len(content))
            if need <= self._roomy.get(id(endpoint), self._sure) and not call.tools:  # which stand in the prompt, too
                return self._inner.send(endpoint, call, timeout_s=timeout_s)
        return self._send(endpoint, call, length_of(call.messages), timeout_s)

    async def _send(self, endpoint: AgentEndpoint, call: Call, length: int, timeout_s: float) -> Reply:
        if self._may_not_fit(endpoint, length, call):
            call, timeout_s = await self._fitted(endpoint, call, length, timeout_s)
        reply = await self._inner.send(endpoint, call, timeout_s=timeout_s)
        self._budget.learn(length, reply.usage.prompt_tokens)
        return reply

    async def stream(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> AsyncIterator[Delta]:
        """One call, its answer as it is generated."""
        length = length_of(call.messages)
        if self._may_not_fit(endpoint, length, call):
            call, timeout_s = await self._fitted(endpoint, call, length, timeout_s)
        deltas = self._inner.stream(endpoint, call, timeout_s=timeout_s)
        try:
            async for delta in deltas:
                if delta.reply is not None:
                    self._budget.learn(length, delta.reply.usage.prompt_tokens)
                yield delta
        finally:
            await deltas.aclose()  # type: ignore[attr-defined]  # every transport's is an async generator

    async def send_many(
        self, endpoint: AgentEndpoint, calls: Sequence[Call], *, timeout_s: float
    ) -> list[Reply | CallError]:
        """Several calls in one request; those that must generate less than the others follow alone."""
        lengths = [length_of(call.messages) for call in calls]
        started = _now_s()
        tight = await self._tight(endpoint, calls, lengths, timeout_s)
        together = [i for i in range(len(calls)) if i not in set(tight)]
        answers = await self._inner.send_many(
            endpoint, [calls[i] for i in together], timeout_s=_left_s(started, timeout_s)
        )
        self._learn_many([lengths[i] for i in together], answers)
        left_s = _left_s(started, timeout_s)
        alone = await asyncio.gather(*(self._alone(endpoint, calls[i], left_s) for i in tight))
        parts = dict(zip([*together, *tight], [*answers, *alone], strict=True))
        return [parts[i] for i in range(len(calls))]

    async def embed(self, endpoint: AgentEndpoint, texts: Sequence[str], *, model: str, timeout_s: float) -> Embeddings:
        """Vectors for `texts`, in their order."""
        return await self._inner.embed(endpoint, texts, model=model, timeout_s=timeout_s)

    async def probe(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointInfo:
        """Ask who is there."""
        return await self._inner.probe(endpoint, timeout_s=timeout_s)

    async def load(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointLoad | None:
        """What the engine says of its own load."""
        return await self._inner.load(endpoint, timeout_s=timeout_s)

    async def aclose(self) -> None:
        """Release connections. May be called twice."""
        await self._facts.aclose()
        await self._inner.aclose()

    def _note(self, endpoint: AgentEndpoint, info: EndpointInfo) -> None:
        """What an endpoint's context surely holds; `facts` keep the endpoint, so that its identity stays its own."""
        if info.max_context is not None and self._max_context is None:
            self._roomy[id(endpoint)] = info.max_context - self._budget.buffer_in(info.max_context)

    # -- what fits ---------------------------------------------------------------------------------------------

    def _may_not_fit(self, endpoint: AgentEndpoint, length: int, call: Call) -> bool:
        """Whether the context matters for this call at all. Asks nobody."""
        need = self._budget.at_most(length) + (call.sampling.max_tokens or 1)
        if need <= self._sure:
            return False
        info = self._facts.known(endpoint)
        context = self._max_context or (info.max_context if info is not None else None)
        return context is None or need > context - self._budget.buffer_in(context)

    async def _fitted(self, endpoint: AgentEndpoint, call: Call, length: int, timeout_s: float) -> tuple[Call, float]:
        """The call within the endpoint's context, and the seconds left.

        Raises:
            RequestRejectedError: Its prompt does not fit.
        """
        started = _now_s()
        context = await self._context(endpoint, timeout_s)
        if context is None:
            return call, _left_s(started, timeout_s)
        wanted = call.sampling.max_tokens or 1
        room, tokens = self._budget.room(length, wanted, context), self._budget.at_most(length)
        if room.is_close:
            counted = await self._counted(endpoint, call, timeout_s)
            if counted is not None:
                room, tokens = self._budget.room_beside(counted, wanted, context), counted
                self._budget.learn(length, counted)
        if room.max_tokens is None:
            raise _too_long(tokens, context, endpoint)
        if call.sampling.max_tokens is not None:
            call = with_max_tokens(call, room.max_tokens)
        return call, _left_s(started, timeout_s)

    async def _context(self, endpoint: AgentEndpoint, timeout_s: float) -> int | None:
        if self._max_context is not None:
            return self._max_context
        info = self._facts.known(endpoint) or await self._facts.of(endpoint, wait_s=min(WAIT_S, timeout_s / 4))
        return info.max_context if info is not None else None

    async def _counted(self, endpoint: AgentEndpoint, call: Call, timeout_s: float) -> int | None:
        if self._counter is None or self._facts.known(endpoint) is None:
            return None
        try:
            return await self._counter.count_tokens(endpoint, call, timeout_s=min(COUNT_S, timeout_s / 4))
        except CallError:
            return None

    async def _tight(
        self, endpoint: AgentEndpoint, calls: Sequence[Call], lengths: list[int], timeout_s: float
    ) -> list[int]:
        """Places of the calls that an equal share of the request would not fit."""
        doubtful = [i for i, call in enumerate(calls) if self._may_not_fit(endpoint, lengths[i], call)]
        context = await self._context(endpoint, timeout_s) if doubtful else None
        if context is None:
            return []
        budget = self._budget
        return [i for i in doubtful if budget.room(lengths[i], calls[i].sampling.max_tokens or 1, context).is_close]

    async def _alone(self, endpoint: AgentEndpoint, call: Call, timeout_s: float) -> Reply | CallError:
        try:
            return await self.send(endpoint, call, timeout_s=timeout_s)
        except CallError as error:
            return error

    def _learn_many(self, lengths: list[int], answers: Sequence[Reply | CallError]) -> None:
        """Of a whole request only the sum was counted: it teaches as one prompt of mean length."""
        counted = [(n, a.usage.prompt_tokens) for n, a in zip(lengths, answers, strict=True) if isinstance(a, Reply)]
        if counted:
            length, tokens = (sum(values) // len(counted) for values in zip(*counted, strict=True))
            self._budget.learn(length, tokens)


def _too_long(tokens: int, context: int, endpoint: AgentEndpoint) -> RequestRejectedError:
    return RequestRejectedError(
        f"the prompt has about {tokens} tokens, the context holds {context}",
        endpoint=endpoint.url,
        remedy="shorten the prompt, split it, or use a server with a longer context",
    )


def _left_s(started: float, timeout_s: float) -> float:
    return max(timeout_s - (_now_s() - started), 0.001)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
