"""Calls over HTTP: a wire says what to write and how to read, an `Http` carries it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from aurora_swarm.errors import (
    AttemptTimeoutError,
    BadResponseError,
    CallError,
    RequestRejectedError,
    UsageError,
    WrongModelError,
)
from aurora_swarm.ports.http import Http, HttpReply, HttpStream
from aurora_swarm.transports import metrics
from aurora_swarm.transports.completions import CompletionsWire
from aurora_swarm.transports.embeddings import EmbeddingsWire
from aurora_swarm.transports.models import ModelsWire
from aurora_swarm.transports.openai_chat import OpenAIChatWire
from aurora_swarm.transports.status import error_from
from aurora_swarm.transports.wire import StreamWire, Wire
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import Delta, Embeddings, EndpointInfo, EndpointLoad, Reply

_FRAMINGS = frozenset(("content-length", "transfer-encoding"))
"""Headers by which HTTP itself tells of a cut body."""

_MOST_URLS = 65_536
"""URLs remembered."""

_ABSENT = (404, 405, 501)
"""Statuses by which a server says that it has no such path or method."""


class HttpTransport:
    """An `aurora_swarm.ports.transport.Transport` over HTTP.

    Args:
        http: Carries the bytes; closed with this transport.
        wire: How a call is written and its answer read; OpenAI chat completions when None.
        api_key: Bearer token; replaced by ``***`` wherever a server's words repeat it.
        headers: Further headers of every request.
        idle_timeout_s: Longest silence within a streamed answer.

    Raises:
        UsageError: A header holds what a header cannot.
    """

    def __init__(
        self,
        http: Http,
        wire: Wire | None = None,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        idle_timeout_s: float = 120.0,
    ) -> None:
        self._http = http
        self._wire: Wire = wire or OpenAIChatWire()
        self._completions = CompletionsWire()
        self._embeddings = EmbeddingsWire()
        self._models = ModelsWire()
        self._headers = _checked_headers(api_key, headers or {})
        self._secrets = tuple(filter(None, (api_key,)))
        self._idle_timeout_s = idle_timeout_s
        self._first_models: dict[str, str] = {}
        self._asking: dict[str, asyncio.Lock] = {}
        self._urls: dict[tuple[int, str], str] = {}
        self._placed: list[AgentEndpoint] = []

    async def send(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> Reply:
        """One call, one whole answer."""
        wire, model, left_s = self._wire, call.model, timeout_s
        try:  # the hot path: a context manager would cost as much as the encoding
            if not model and wire.names_model:
                model, left_s = await self._model(endpoint, model, timeout_s)
            return wire.decode(await self._post(endpoint, wire.path, wire.encode(call, model), left_s))
        except CallError as error:
            self._note(error, endpoint)
            raise

    async def stream(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> AsyncIterator[Delta]:
        """One call, its answer as it is generated; the last `Delta` carries the whole `Reply`.

        A wire that cannot stream gives its answer in one piece.
        """
        wire = self._wire
        if not isinstance(wire, StreamWire):
            reply = await self.send(endpoint, call, timeout_s=timeout_s)
            yield Delta(reply.text, reply)
            return
        with self._placing_errors(endpoint):
            started = _now_s()
            model, left_s = await self._model(endpoint, call.model, timeout_s)
            async with self._http.stream(
                "POST",
                endpoint.url + wire.path,
                body=wire.encode_stream(call, model),
                headers=self._headers,
                timeout_s=left_s,
                idle_timeout_s=min(self._idle_timeout_s, left_s),
            ) as stream:
                await _raise_for_status(stream)
                decoder, ttft_s = wire.decoder(), None
                async for chunk in stream.chunks():  # to the body's end, so that its connection can be used again
                    text = decoder.feed(chunk)
                    if text:
                        ttft_s = _now_s() - started if ttft_s is None else ttft_s
                        yield Delta(text)
                reply = decoder.end(framed=bool(_FRAMINGS.intersection(stream.headers)))
                yield Delta("", msgspec.structs.replace(reply, ttft_s=ttft_s))

    async def send_many(
        self, endpoint: AgentEndpoint, calls: Sequence[Call], *, timeout_s: float
    ) -> list[Reply | CallError]:
        """Several calls with equal sampling and model in one request, answered in the order of `calls`.

        Raises:
            RequestRejectedError: The wire has no batch request, or the calls cannot share one.
            CallError: The request as a whole failed.
        """
        if not calls:
            return []
        with self._placing_errors(endpoint):
            self._needs_openai("send many calls in one request")
            if len({call.model for call in calls}) > 1:
                raise RequestRejectedError("calls that share a request must name the same model")
            model, left_s = await self._model(endpoint, calls[0].model, timeout_s)
            wire = self._completions
            body = await self._post(endpoint, wire.path, wire.encode(calls, model), left_s)
            parts = wire.decode(body, len(calls))
            for part in parts:
                if isinstance(part, CallError):
                    self._place(part, endpoint)
            return parts

    async def embed(self, endpoint: AgentEndpoint, texts: Sequence[str], *, model: str, timeout_s: float) -> Embeddings:
        """Vectors for `texts`, in their order."""
        if not texts:
            return Embeddings(())
        with self._placing_errors(endpoint):
            self._needs_openai("embed texts")
            model, left_s = await self._model(endpoint, model, timeout_s)
            wire = self._embeddings
            body = await self._post(endpoint, wire.path, wire.encode(texts, model), left_s)
            return wire.decode(body, len(texts))

    async def probe(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointInfo:
        """Ask who is there, without generating anything.

        Servers without a list of models are known by ``/health``, those that speak ``/generate`` also by knowing
        that path.

        Raises:
            CallError: Nobody answers, or what answers is not a model server.
        """
        started = _now_s()
        with self._placing_errors(endpoint):
            try:
                async with asyncio.timeout(timeout_s):
                    info = await self._look(endpoint, timeout_s)
            except TimeoutError:
                raise AttemptTimeoutError(f"no answer to a probe within {timeout_s:.3g} s") from None
            return msgspec.structs.replace(info, latency_s=_now_s() - started)

    async def load(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointLoad | None:
        """What the endpoint says of its own load; None where it has no metrics of a known engine.

        Raises:
            CallError: Nobody answers.
        """
        if not self._wire.names_model:
            return None
        with self._placing_errors(endpoint):
            page = await self._get(endpoint, metrics.PATH, timeout_s)
            return None if page is None else metrics.load_of(page.body.decode("utf-8", "replace"))

    async def aclose(self) -> None:
        """Release connections. May be called twice."""
        await self._http.aclose()

    # -- asking --------------------------------------------------------------------------------------------------

    async def _post(self, endpoint: AgentEndpoint, path: str, body: bytes, timeout_s: float) -> bytes:
        url = self._urls.get((id(endpoint), path))
        if url is None:
            url = self._url(endpoint, path)
        reply = await self._http.request("POST", url, body=body, headers=self._headers, timeout_s=timeout_s)
        if not 200 <= reply.status < 300:
            raise error_from(reply.status, reply.headers, reply.body, now=time.time())
        return reply.body

    def _url(self, endpoint: AgentEndpoint, path: str) -> str:
        """Where to post; remembered, with the endpoint itself, so that its identity stays its own."""
        if len(self._urls) >= _MOST_URLS:
            self._urls.clear()
            self._placed.clear()
        self._placed.append(endpoint)
        url = self._urls[id(endpoint), path] = endpoint.url + path
        return url

    async def _get(self, endpoint: AgentEndpoint, path: str, timeout_s: float) -> HttpReply | None:
        """A path's answer, or None where the server has no such path.

        Raises:
            CallError: Any other answer outside of 2xx.
        """
        reply = await self._http.request(
            "GET", endpoint.url + path, body=None, headers=self._headers, timeout_s=timeout_s
        )
        if reply.status in _ABSENT:
            return None
        if not 200 <= reply.status < 300:
            raise error_from(reply.status, reply.headers, reply.body, now=time.time())
        return reply

    async def _look(self, endpoint: AgentEndpoint, timeout_s: float) -> EndpointInfo:
        if self._wire.names_model:
            listed = await self._get(endpoint, self._models.path, timeout_s)
            if listed is not None:
                return self._models.decode(listed.body)
        if await self._get(endpoint, "/health", timeout_s) is None and not await self._knows_wire(endpoint, timeout_s):
            raise BadResponseError(
                f"it knows neither /health nor {self._wire.path}", remedy="check that a model server runs there"
            )
        return EndpointInfo()

    async def _knows_wire(self, endpoint: AgentEndpoint, timeout_s: float) -> bool:
        """Whether a GET of the wire's path is refused for its method (nothing is generated by it)."""
        reply = await self._http.request(
            "GET", endpoint.url + self._wire.path, body=None, headers=self._headers, timeout_s=timeout_s
        )
        return reply.status != 404

    async def _model(self, endpoint: AgentEndpoint, model: str, timeout_s: float) -> tuple[str, float]:
        """The model to name, asked for once per endpoint, and the seconds left."""
        if model or not self._wire.names_model:
            return model, timeout_s
        known = self._first_models.get(endpoint.url)
        if known is not None:
            return known, timeout_s
        started = _now_s()
        try:
            async with asyncio.timeout(timeout_s), self._asking.setdefault(endpoint.url, asyncio.Lock()):
                known = await self._first_model(endpoint, timeout_s)
        except TimeoutError:
            raise AttemptTimeoutError(f"it did not say which model it serves within {timeout_s:.3g} s") from None
        return known, max(timeout_s - (_now_s() - started), 0.001)

    async def _first_model(self, endpoint: AgentEndpoint, timeout_s: float) -> str:
        """The first model that is listed; empty where none is, as for servers that need no name."""
        known = self._first_models.get(endpoint.url)
        if known is None:
            listed = await self._get(endpoint, self._models.path, timeout_s)
            names = self._models.decode(listed.body).models if listed is not None else ()
            known = self._first_models[endpoint.url] = names[0] if names else ""
        return known

    # -- errors --------------------------------------------------------------------------------------------------

    def _needs_openai(self, wish: str) -> None:
        if not self._wire.names_model:
            problem = f"POST {self._wire.path} cannot {wish}"
            raise RequestRejectedError(problem, remedy="use an OpenAI-compatible server")

    @contextmanager
    def _placing_errors(self, endpoint: AgentEndpoint) -> Iterator[None]:
        """Every error that leaves here names its endpoint and no secret."""
        try:
            yield
        except CallError as error:
            self._note(error, endpoint)
            raise

    def _note(self, error: CallError, endpoint: AgentEndpoint) -> None:
        if isinstance(error, WrongModelError):
            self._first_models.pop(endpoint.url, None)
        self._place(error, endpoint)

    def _place(self, error: CallError, endpoint: AgentEndpoint) -> None:
        error.endpoint = endpoint.url
        for secret in self._secrets:
            error.problem = _without(secret, error.problem)
        error.args = (error.problem,)


async def _raise_for_status(stream: HttpStream) -> None:
    if not 200 <= stream.status < 300:
        body = b"".join([chunk async for chunk in stream.chunks()])
        raise error_from(stream.status, stream.headers, body, now=time.time())


def _without(secret: str, text: str) -> str:
    """`text` without the secret, and without its beginning where a long message was cut within it."""
    text = text.replace(secret, "***")
    for length in range(len(secret) - 1, 3, -1):
        if text.endswith(secret[:length] + "..."):
            return text.removesuffix(secret[:length] + "...") + "***..."
    return text


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _checked_headers(api_key: str | None, headers: Mapping[str, str]) -> dict[str, str]:
    """All headers of a request.

    Raises:
        UsageError: One holds a line break, or characters beyond ASCII. Its value is not repeated.
    """
    merged = {"content-type": "application/json", **{name.lower(): value for name, value in headers.items()}}
    if api_key:
        merged["authorization"] = f"Bearer {api_key}"
    for name, value in merged.items():
        if not (value.isascii() and value.isprintable()):
            what = "the API key" if name == "authorization" else f"the header {name}"
            raise UsageError(f"{what} holds characters that no header can carry", remedy="check it for line breaks")
    return merged
