"""A transport whose servers are in memory and on the loop's clock."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from aurora_swarm.errors import (
    BadResponseError,
    BatchUnsupportedError,
    CallError,
    ConnectError,
    RequestRejectedError,
)
from aurora_swarm.testing.simulation.faults import Kind
from aurora_swarm.testing.simulation.servers import EndpointPlan, SimulatedServer
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import Delta, Embeddings, EndpointInfo, EndpointLoad, Reply, Usage

BAD = "bad:"
"""How a prompt begins that every endpoint rejects."""

MODEL = "simulated"

Watch = Callable[[AgentEndpoint, str, Sequence[Call]], None]


def answer_to(prompt: str) -> str:
    """The one right answer to a prompt."""
    return f"answer to {prompt}"


def is_bad(prompt: str) -> bool:
    """Whether every endpoint rejects the prompt."""
    return prompt.startswith(BAD)


class SimulatedTransport:
    """An `aurora_swarm.ports.transport.Transport` to a fleet in memory.

    The same dice and the same order of requests give the same faults. A request that is cancelled is gone at once:
    it is neither generated nor queued any longer.

    Args:
        plans: The fleet.
        dice: Draws faults and jitter.
        watch: Told of every request when it comes (``sent``) and when it ends (``answered``, ``cancelled``, or the
            error's kind), with its calls.

    Attributes:
        injected: Faults that requests met, by kind.
        servers: What stands behind each endpoint.
        open: Calls in requests under way, over the whole fleet.
        most_open: Most of them at a time.
    """

    def __init__(
        self, plans: Mapping[AgentEndpoint, EndpointPlan], *, dice: random.Random, watch: Watch | None = None
    ) -> None:
        self.injected: Counter[Kind] = Counter()
        self.servers = {e: SimulatedServer(e.url, plan, dice, self.injected) for e, plan in plans.items()}
        self.open = self.most_open = 0
        self._dice = dice
        self._watch = watch or (lambda _endpoint, _what, _calls: None)
        self._closed = False

    async def send(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> Reply:
        """One call, one whole answer: `answer_to` its last message."""
        await self._request(endpoint, (call,), timeout_s)
        return _reply(call)

    async def stream(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> AsyncIterator[Delta]:
        """One call, its answer in pieces; the last `Delta` carries the whole `Reply`."""
        reply = await self.send(endpoint, call, timeout_s=timeout_s)
        for start in range(0, len(reply.text), 8):
            yield Delta(reply.text[start : start + 8])
        yield Delta("", reply)

    async def send_many(
        self, endpoint: AgentEndpoint, calls: Sequence[Call], *, timeout_s: float
    ) -> list[Reply | CallError]:
        """Several calls in one request, answered in their order; with ``lost_parts``, some are missing."""
        self._check_open(endpoint)
        if not calls:
            return []
        incomplete = await self._request(endpoint, calls, timeout_s)
        parts: list[Reply | CallError] = [_reply(call) for call in calls]
        if incomplete:
            for place in self._dice.sample(range(len(calls)), self._dice.randint(1, len(calls))):
                parts[place] = BadResponseError("the answer to this part is missing", endpoint=endpoint.url)
        return parts

    async def embed(self, endpoint: AgentEndpoint, texts: Sequence[str], *, model: str, timeout_s: float) -> Embeddings:
        """Vectors for `texts`, in their order."""
        self._check_open(endpoint)
        if texts:
            await self.servers[endpoint].serve(len(texts), timeout_s)
        return Embeddings(tuple((float(len(text)),) for text in texts), model=model)

    async def probe(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointInfo:
        """Whether the endpoint is there; kinds that only show when something is generated are not met."""
        self._check_open(endpoint)
        self._watch(endpoint, "probed", ())
        await self.servers[endpoint].look(timeout_s)
        return EndpointInfo(models=(MODEL,))

    async def load(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointLoad | None:
        """What it runs and what waits, where its plan says that it tells."""
        self._check_open(endpoint)
        server = self.servers[endpoint]
        if not server.plan.tells_load:
            return None
        await server.look(timeout_s)
        return EndpointLoad(server.running, server.queued)

    async def aclose(self) -> None:
        """Every further use raises `ConnectError`. May be called twice."""
        self._closed = True

    async def _request(self, endpoint: AgentEndpoint, calls: Sequence[Call], timeout_s: float) -> bool:
        self._check_open(endpoint)
        server = self.servers[endpoint]
        self.open += len(calls)
        self.most_open = max(self.open, self.most_open)
        self._watch(endpoint, "sent", calls)
        end = "cancelled"
        try:
            incomplete = await server.serve(len(calls), timeout_s, _refusal(server, calls))
        except CallError as error:
            end = error.kind
            raise
        else:
            end = "answered"
            return incomplete
        finally:
            self.open -= len(calls)
            self._watch(endpoint, end, calls)

    def _check_open(self, endpoint: AgentEndpoint) -> None:
        if self._closed:
            raise ConnectError("this transport is closed", endpoint=endpoint.url)


def _refusal(server: SimulatedServer, calls: Sequence[Call]) -> CallError | None:
    """Why a server that is well does not take the request."""
    if len(calls) > 1 and not server.plan.batches:
        return BatchUnsupportedError("it takes no such request", endpoint=server.url, status=404)
    if any(is_bad(call.messages[-1].content) for call in calls):
        return RequestRejectedError("the prompt is too long", endpoint=server.url, status=400)
    return None


def _reply(call: Call) -> Reply:
    text = answer_to(call.messages[-1].content)
    return Reply(text, usage=Usage(8, len(text)), model=call.model or MODEL)
