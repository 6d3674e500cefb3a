"""What endpoints say of themselves: who they are, what they serve, how busy they are, how they count."""

from __future__ import annotations

import asyncio

from aurora_swarm.errors import AttemptTimeoutError, BadResponseError, CallError, RequestRejectedError
from aurora_swarm.transports.llamacpp import PropsWire, TemplateWire
from aurora_swarm.transports.metrics import MetricsWire
from aurora_swarm.transports.models import ModelsWire
from aurora_swarm.transports.requests import ABSENT, Requests, now_s
from aurora_swarm.transports.tokenize import TokenizeWire
from aurora_swarm.transports.wire import Wire
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import EndpointInfo, EndpointLoad


class Inquiry:
    """Asks endpoints about themselves, and remembers what does not change.

    Args:
        requests: How to ask.
        wire: How calls are written there.
    """

    def __init__(self, requests: Requests, wire: Wire) -> None:
        self._requests = requests
        self._wire = wire
        self._models = ModelsWire()
        self._props = PropsWire()
        self._metrics = MetricsWire()
        self._template = TemplateWire()
        self._tokenize = TokenizeWire()
        self._first_models: dict[str, str] = {}
        self._engines: dict[str, str] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def look(self, endpoint: AgentEndpoint, timeout_s: float) -> EndpointInfo:
        """Who is there, without generating anything.

        Raises:
            CallError: Nobody answers, or what answers is not a model server.
        """
        if self._wire.names_model:
            listed = await self._requests.get(endpoint, self._models.path, timeout_s)
            if listed is not None:
                return await self._completed(endpoint, self._decoded(endpoint, listed.body), timeout_s)
        healthy = await self._requests.get(endpoint, "/health", timeout_s)
        if healthy is None and not await self._knows_wire(endpoint, timeout_s):
            raise BadResponseError(
                f"it knows neither /health nor {self._wire.path}", remedy="check that a model server runs there"
            )
        return EndpointInfo()

    async def model(self, endpoint: AgentEndpoint, model: str, timeout_s: float) -> tuple[str, float]:
        """The model to name, asked for once per endpoint, and the seconds left.

        Raises:
            CallError: The endpoint does not say.
        """
        if model or not self._wire.names_model:
            return model, timeout_s
        known = self._first_models.get(endpoint.url)
        if known is not None:
            return known, timeout_s
        started = now_s()
        try:
            async with asyncio.timeout(timeout_s), self._asking.setdefault(endpoint.url, asyncio.Lock()):
                known = await self._first_model(endpoint, timeout_s)
        except TimeoutError:
            raise AttemptTimeoutError(f"it did not say which model it serves within {timeout_s:.3g} s") from None
        return known, max(timeout_s - (now_s() - started), 0.001)

    def forget_model(self, endpoint: AgentEndpoint) -> None:
        """The endpoint turned out to serve another model: ask again."""
        self._first_models.pop(endpoint.url, None)

    async def load(self, endpoint: AgentEndpoint, timeout_s: float) -> EndpointLoad | None:
        """What the engine says of its load; None where it does not say.

        Raises:
            CallError: Nobody answers.
        """
        if not self._wire.names_model:
            return None
        told = await self._requests.get(endpoint, self._metrics.path, timeout_s)
        return self._metrics.decode(told.body) if told is not None else None

    async def count_tokens(self, endpoint: AgentEndpoint, call: Call, timeout_s: float) -> int | None:
        """Tokens of the prompt as the model gets it; None where that cannot be asked.

        Only engines that an earlier look has recognised are asked.

        Raises:
            CallError: Nobody answers.
        """
        engine = self._engines.get(endpoint.url)
        try:
            if engine == "vllm":
                body = self._tokenize.encode(call, call.model)
                return self._tokenize.decode(await self._requests.post(endpoint, self._tokenize.path, body, timeout_s))
            return await self._count_rendered(endpoint, call, timeout_s) if engine == "llamacpp" else None
        except RequestRejectedError as error:
            if error.status in ABSENT:
                return None
            raise

    async def _count_rendered(self, endpoint: AgentEndpoint, call: Call, timeout_s: float) -> int:
        wire, post = self._template, self._requests.post
        prompt = await post(endpoint, wire.template_path, wire.encode(call.messages), timeout_s)
        return wire.decode(await post(endpoint, wire.tokenize_path, wire.encode_prompt(prompt), timeout_s))

    async def _completed(self, endpoint: AgentEndpoint, info: EndpointInfo, timeout_s: float) -> EndpointInfo:
        """With what llama.cpp tells elsewhere; that it does not is no failure."""
        if info.engine != "llamacpp":
            return info
        try:
            told = await self._requests.get(endpoint, self._props.path, timeout_s)
            return self._props.decode(told.body, info) if told is not None else info
        except CallError:
            return info

    def _decoded(self, endpoint: AgentEndpoint, body: bytes) -> EndpointInfo:
        info = self._models.decode(body)
        self._engines[endpoint.url] = info.engine
        return info

    async def _knows_wire(self, endpoint: AgentEndpoint, timeout_s: float) -> bool:
        """Whether a GET of the wire's path is refused for its method (nothing is generated by it)."""
        return (await self._requests.look_at(endpoint, self._wire.path, timeout_s)).status != 404

    async def _first_model(self, endpoint: AgentEndpoint, timeout_s: float) -> str:
        """The first model that is listed; empty where none is, as for servers that need no name."""
        known = self._first_models.get(endpoint.url)
        if known is None:
            listed = await self._requests.get(endpoint, self._models.path, timeout_s)
            names = self._decoded(endpoint, listed.body).models if listed is not None else ()
            known = self._first_models[endpoint.url] = names[0] if names else ""
        return known
