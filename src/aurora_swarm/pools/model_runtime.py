"""What pools of language-model servers share beyond a `Runtime`: contexts, budgets, bundles."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from aurora_swarm.dispatch.dispatcher import Limits
from aurora_swarm.dispatch.routing import View
from aurora_swarm.errors import UsageError
from aurora_swarm.pools.budgeted import BudgetedTransport
from aurora_swarm.pools.budgets import BUFFER, ContextBudget, Rooms, length_of, text_length
from aurora_swarm.pools.facts import Facts
from aurora_swarm.pools.runtime import Runtime
from aurora_swarm.ports.transport import Transport
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.capabilities import Capabilities
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import EndpointInfo

PER_SEQUENCE_S = 60.0
"""Seconds that a prompt adds to the time of its request, where nobody says."""

SURVEY_S = 1.0
"""Longest wait for endpoints to tell how many sequences they run."""

_MOST_VIEWS = 256


class ModelPolicy(msgspec.Struct, frozen=True):
    """How a fleet of language-model servers is asked.

    Args:
        max_tokens_aggregation: Tokens to generate at most where many answers become one; None for no bound.
        model_max_context: Context of every server in tokens; None to ask each one.
        buffer: Tokens that stay free between answer and end of the context.
        use_batch: Whether several prompts may travel in one request.
        batch_size: Prompts per request at most.
        batch_concurrency: Requests of several prompts at a time; None for as many as the pool's concurrency allows.
        timeout_per_sequence: Seconds that each prompt adds to the time of its request.
        batch_timeout_cap: Longest time of such a request in seconds; never less than that of a single call.
    """

    max_tokens_aggregation: int | None = None
    model_max_context: int | None = None
    buffer: int = BUFFER
    use_batch: bool = True
    batch_size: int = 64
    batch_concurrency: int | None = None
    timeout_per_sequence: float = PER_SEQUENCE_S
    batch_timeout_cap: float = 3600.0


def checked_policy(policy: ModelPolicy) -> ModelPolicy:
    """The policy itself.

    Raises:
        UsageError: A number is not positive; the buffer may be 0.
    """
    for name, value in msgspec.structs.asdict(policy).items():
        least = 0 if name == "buffer" else 1 if isinstance(value, int) else 0.001
        if value is not None and not isinstance(value, bool) and not value >= least:
            raise UsageError(f"{name} is {value}", remedy=f"give {name} a value of at least {least}")
    return policy


class ModelRuntime(Runtime):
    """A runtime that keeps calls within the contexts of its endpoints.

    Args:
        endpoints: The fleet; at least one endpoint.
        transport: Closed with the runtime.
        limits: What may be spent.
        model: Model name sent with every prompt; empty for whatever an endpoint serves.
        sampling: How tokens are picked where a call does not say.
        policy: How the servers are asked.
        capabilities: What the endpoints can do: one for all, or one for each; None for what is usual.
    """

    kind = "vllm"
    """What is usual."""

    def __init__(
        self,
        endpoints: Sequence[AgentEndpoint],
        transport: Transport,
        *,
        limits: Limits,
        model: str = "",
        sampling: Sampling | None = None,
        policy: ModelPolicy | None = None,
        capabilities: Sequence[Capabilities] | None = None,
    ) -> None:
        self.policy = policy or ModelPolicy()
        self.facts = Facts(transport, self._told)
        self.budget = ContextBudget(self.policy.buffer)
        self._rooms = Rooms()
        self._views: dict[tuple[View, frozenset[int]], View] = {}
        budgeted = BudgetedTransport(transport, self.budget, self.facts, max_context=self.policy.model_max_context)
        super().__init__(endpoints, budgeted, limits=limits, model=model, sampling=sampling, capabilities=capabilities)
        self._indices = {id(endpoint): i for i, endpoint in enumerate(self.dispatcher.endpoints)}

    @property
    def max_tokens_aggregation(self) -> int | None:
        """Tokens to generate at most where many answers become one; None for no bound."""
        return self.policy.max_tokens_aggregation

    async def survey(self, members: Sequence[int]) -> None:
        """Learn how many slots endpoints have, so that prompts that begin alike share them; waits a second at most."""
        endpoints = [self.dispatcher.endpoints[member] for member in members]
        unknown = [endpoint for endpoint in endpoints if self.facts.known(endpoint) is None]
        await asyncio.gather(*(self.facts.of(endpoint, wait_s=SURVEY_S) for endpoint in unknown))

    async def prompt_room(self, members: Sequence[int], max_tokens: int | None) -> int | None:
        """Tokens that a prompt may have beside an answer of `max_tokens`.

        Half of the endpoints hold that much, or more; calls find them. An answer without a bound, or with one that is
        large for the context, is given a quarter of it.
        """
        if self.policy.model_max_context is None:
            await self.survey(members)
        return self.known_room(members, max_tokens)

    def known_room(self, members: Sequence[int], max_tokens: int | None) -> int | None:
        """As `prompt_room`, by what is known already; None where nothing is."""
        context = self.policy.model_max_context
        if context is None:
            known = [self.facts.known(self.dispatcher.endpoints[member]) for member in members]
            contexts = sorted(info.max_context for info in known if info is not None and info.max_context)
            if not contexts:
                return None
            context = contexts[len(contexts) // 2]
        answer = min(max_tokens or context, context // 4)
        return context - self.budget.buffer_in(context) - answer

    def tokens_at_most(self, text: str) -> int:
        """Tokens that a text is not expected to exceed, by what servers counted so far."""
        return self.budget.at_most(text_length(text))

    def view_for(self, call: Call, view: View) -> View:
        """The part of a view whose contexts can hold the call; the whole view where none can, or none is known.

        In a fleet of equal contexts this is one comparison.
        """
        if self._rooms.are_equal:
            return view
        length = length_of(call.messages)
        for tokens in (self.budget.at_most(length), self.budget.at_least(length)):
            small = self._rooms.too_small(tokens)
            members = [i for i in view.members if i not in small]
            if members:
                return view if len(members) == len(view.members) else self._part(view, small, members)
        return view

    def _part(self, view: View, without: frozenset[int], members: Sequence[int]) -> View:
        part = self._views.get((view, without))
        if part is None:
            if len(self._views) >= _MOST_VIEWS:
                self._views.clear()
            part = self._views[view, without] = self.dispatcher.view(members)
        return part

    def _told(self, endpoint: AgentEndpoint, info: EndpointInfo) -> None:
        index = self._indices.get(id(endpoint))
        if index is not None:
            self.dispatcher.inform(index, info)
            if info.max_context:
                self._rooms.note(index, info.max_context)
