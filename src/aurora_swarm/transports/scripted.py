"""The transport for tests and rehearsals: answers come from a script, nothing touches a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from aurora_swarm.errors import (
    AttemptTimeoutError,
    BatchUnsupportedError,
    CallError,
    ConnectError,
    RequestRejectedError,
)
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import Delta, Embeddings, EndpointInfo, EndpointLoad, Reply

Answer = Reply | CallError | str
Script = Callable[[Call, AgentEndpoint], Answer] | Iterable[Answer]


class ScriptedTransport:
    """An `aurora_swarm.ports.transport.Transport` that answers from a script.

    Args:
        script: A function of call and endpoint, or answers that are used up in order. An error is raised, a text
            becomes a reply.
        delay_s: Seconds that an answer takes, or a function of call and endpoint; slept on the loop's clock, so
            that virtual time works.
        info: What a probe learns.
        vector: Turns a text into a vector.
        batches: Whether many calls go in one request; else such a request is refused, as by most servers.
        load: What the engine says of its load.

    Attributes:
        calls: Every endpoint and call, in the order of asking.
    """

    def __init__(
        self,
        script: Script,
        *,
        delay_s: float | Callable[[Call, AgentEndpoint], float] = 0.0,
        info: EndpointInfo | None = None,
        vector: Callable[[str], tuple[float, ...]] = lambda text: (float(len(text)),),
        batches: bool = True,
        load: EndpointLoad | None = None,
    ) -> None:
        self._script = script if callable(script) else _in_order(script)
        self._delay_s = delay_s if callable(delay_s) else lambda _call, _endpoint: delay_s
        self._info = info or EndpointInfo(models=("scripted",))
        self._vector = vector
        self._batches = batches
        self._load = load
        self._closed = False
        self.calls: list[tuple[AgentEndpoint, Call]] = []

    async def send(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> Reply:
        """One call, one whole answer."""
        self._check_open(endpoint)
        self.calls.append((endpoint, call))
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.sleep(self._delay_s(call, endpoint))
        except TimeoutError:
            raise AttemptTimeoutError(f"no whole answer within {timeout_s:.3g} s", endpoint=endpoint.url) from None
        answer = self._script(call, endpoint)
        if isinstance(answer, CallError):
            answer.endpoint = endpoint.url
            raise answer
        return Reply(answer, model=call.model) if isinstance(answer, str) else answer

    async def stream(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> AsyncIterator[Delta]:
        """One call, its answer in one piece per character group; the last `Delta` carries the whole `Reply`."""
        reply = await self.send(endpoint, call, timeout_s=timeout_s)
        for start in range(0, len(reply.text), 8):
            yield Delta(reply.text[start : start + 8])
        yield Delta("", reply)

    async def send_many(
        self, endpoint: AgentEndpoint, calls: Sequence[Call], *, timeout_s: float
    ) -> list[Reply | CallError]:
        """Several calls, answered in their order; an error of the script is that part's."""
        self._check_open(endpoint)
        if calls and not self._batches:
            raise BatchUnsupportedError("the script takes no batch", endpoint=endpoint.url)
        return list(await asyncio.gather(*(self._part(endpoint, call, timeout_s) for call in calls)))

    async def embed(self, endpoint: AgentEndpoint, texts: Sequence[str], *, model: str, timeout_s: float) -> Embeddings:
        """Vectors for `texts`, in their order."""
        del timeout_s
        self._check_open(endpoint)
        return Embeddings(tuple(map(self._vector, texts)), model=model)

    async def probe(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointInfo:
        """What the script's author says of the endpoint."""
        del timeout_s
        self._check_open(endpoint)
        return self._info

    async def load(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointLoad | None:
        """What the script's author says of the load."""
        del timeout_s
        self._check_open(endpoint)
        return self._load

    async def aclose(self) -> None:
        """Every further use raises `ConnectError`. May be called twice."""
        self._closed = True

    async def _part(self, endpoint: AgentEndpoint, call: Call, timeout_s: float) -> Reply | CallError:
        try:
            return await self.send(endpoint, call, timeout_s=timeout_s)
        except CallError as error:
            return error

    def _check_open(self, endpoint: AgentEndpoint) -> None:
        if self._closed:
            raise ConnectError("this transport is closed", endpoint=endpoint.url)


def _in_order(answers: Iterable[Answer]) -> Callable[[Call, AgentEndpoint], Answer]:
    rest = iter(answers)
    used_up = RequestRejectedError("the script has no further answer", remedy="give one answer per expected call")
    return lambda _call, _endpoint: next(rest, used_up)
