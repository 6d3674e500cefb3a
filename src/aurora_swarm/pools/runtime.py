"""What a pool and all its sub-pools share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from aurora_swarm.dispatch.dispatcher import Dispatcher, Limits
from aurora_swarm.dispatch.routing import View
from aurora_swarm.ports.transport import Transport
from aurora_swarm.transports.capabilities import capabilities_of, meet
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.capabilities import Capabilities
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message


class Runtime:
    """A fleet, the way to reach it, and who places the calls.

    Args:
        endpoints: The fleet; at least one endpoint.
        transport: Closed with the runtime.
        limits: What may be spent.
        model: Model name sent with every prompt; empty for whatever an endpoint serves.
        sampling: How tokens are picked where a call does not say.
        capabilities: What the endpoints can do: one for all, or one for each; None for what is usual.
    """

    kind = "generate"
    """What is usual."""

    def __init__(
        self,
        endpoints: Sequence[AgentEndpoint],
        transport: Transport,
        *,
        limits: Limits,
        model: str = "",
        sampling: Sampling | None = None,
        capabilities: Sequence[Capabilities] | None = None,
    ) -> None:
        self._capabilities = tuple(capabilities or (capabilities_of(self.kind),))
        self.dispatcher = Dispatcher(endpoints, transport, limits=limits)
        self.transport = transport
        self.model = model
        self.sampling = sampling or Sampling()
        self.resources = AsyncExitStack()
        self._closed = False

    def call(self, prompt: str, max_tokens: int | None, prefix: str = "") -> Call:
        """A prompt as a call."""
        sampling = self.sampling
        if max_tokens is not None:
            sampling = Sampling(max_tokens, sampling.temperature, sampling.top_p, sampling.seed, sampling.stop)
        return Call(messages=(Message("user", prompt),), model=self.model, sampling=sampling, prefix=prefix)

    def capabilities(self, members: Sequence[int]) -> Capabilities:
        """What can be asked of every one of `members`; at least one."""
        known = self._capabilities
        return known[0] if len(known) == 1 else meet(dict.fromkeys(known[member] for member in members))

    @property
    def max_tokens_aggregation(self) -> int | None:
        """Tokens to generate at most where many answers become one; None for no bound."""
        return None

    def view_for(self, call: Call, view: View) -> View:  # noqa: ARG002 - runtimes that know contexts look at the call
        """The part of `view` that can hold the call."""
        return view

    async def prompt_room(self, members: Sequence[int], max_tokens: int | None) -> int | None:  # noqa: ARG002
        """Tokens that a prompt may have beside an answer of `max_tokens`, at most of `members`; None where unknown."""
        return None

    def known_room(self, members: Sequence[int], max_tokens: int | None) -> int | None:  # noqa: ARG002
        """As `prompt_room`, by what is known already; None where nothing is."""
        return None

    def tokens_at_most(self, text: str) -> int:
        """Tokens that a text is not expected to exceed."""
        return len(text.encode("utf-8", "surrogatepass"))

    async def survey(self, members: Sequence[int]) -> None:
        """Learn of endpoints what their placement needs, where the servers can say; never takes long, never fails."""

    async def aclose(self) -> None:
        """Fail whoever waits, close connections, end what was started for this fleet. May be called twice."""
        if not self._closed:
            self._closed = True
            await self.dispatcher.aclose()
            await self.transport.aclose()
            await self.resources.aclose()
