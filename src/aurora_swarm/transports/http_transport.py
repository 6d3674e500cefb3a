"""Calls over HTTP: a wire says what to write and how to read, an `Http` carries it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import msgspec

from aurora_swarm.errors import (
    AttemptTimeoutError,
    BatchUnsupportedError,
    CallError,
    RequestRejectedError,
    ServerError,
    WrongModelError,
)
from aurora_swarm.ports.http import Http
from aurora_swarm.transports.embeddings import EmbeddingsWire
from aurora_swarm.transports.inquiry import Inquiry
from aurora_swarm.transports.openai_chat import OpenAIChatWire
from aurora_swarm.transports.parts import refuse_unequal
from aurora_swarm.transports.requests import ABSENT, Requests, body_of, now_s, raise_for_status
from aurora_swarm.transports.wire import BatchWire, RoutedWire, StreamWire, Wire
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import Delta, Embeddings, EndpointInfo, EndpointLoad, Reply

_FRAMINGS = frozenset(("content-length", "transfer-encoding"))
"""Headers by which HTTP itself tells of a cut body."""


class HttpTransport:
    """An `aurora_swarm.ports.transport.Transport` over HTTP, and a `TokenCounter`.

    Args:
        http: Carries the bytes; closed with this transport.
        wire: How a call is written and its answer read; OpenAI chat completions when None.
        batch: How many calls are written in one request, so that each means what it means alone; None for never.
        ask: Makes what asks endpoints about themselves; None for what OpenAI-compatible engines can be asked.
        embeds: Whether texts can be embedded there; None for wherever the wire names a model.
        api_key: A bearer token, unless `key_header` says otherwise; replaced by ``***`` wherever a server's words
            repeat it.
        key_header: The header that carries the key.
        headers: Further headers of every request.
        streamed: Whether `send` asks for a streamed answer too, so that its reply tells when the first token came; a
            wire that cannot stream takes no notice.
        idle_timeout_s: Longest silence within a streamed answer.

    Raises:
        UsageError: A header holds what a header cannot.
    """

    def __init__(
        self,
        http: Http,
        wire: Wire | None = None,
        *,
        batch: BatchWire | None = None,
        ask: Callable[[Requests, Wire], Inquiry] = Inquiry,
        embeds: bool | None = None,
        api_key: str | None = None,
        key_header: str = "authorization",
        headers: Mapping[str, str] | None = None,
        streamed: bool = False,
        idle_timeout_s: float = 120.0,
    ) -> None:
        self._http = http
        self._wire: Wire = wire or OpenAIChatWire()
        self._batch = batch
        self._embeddings = EmbeddingsWire()
        self._embeds = self._wire.names_model if embeds is None else embeds
        self._requests = Requests(http, api_key=api_key, headers=headers or {}, key_header=key_header)
        self._inquiry = ask(self._requests, self._wire)
        self._routes = self._wire if isinstance(self._wire, RoutedWire) else None
        self._streamed = streamed and isinstance(self._wire, StreamWire)
        self._idle_timeout_s = idle_timeout_s
        self._without_batch: set[str] = set()

    async def send(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> Reply:
        """One call, one whole answer."""
        if self._streamed:
            return await self._last_of(self.stream(endpoint, call, timeout_s=timeout_s))
        wire, model, left_s = self._wire, call.model, timeout_s
        try:  # the hot path: a context manager would cost as much as the encoding
            if not model and wire.names_model:
                model, left_s = await self._inquiry.model(endpoint, model, timeout_s)
            body, requests = wire.encode(call, model), self._requests
            path = wire.path if self._routes is None else self._routes.route(model, streamed=False)
            reply = await self._http.request(
                "POST", requests.url(endpoint, path), body=body, headers=requests.headers, timeout_s=left_s
            )
            return wire.decode(body_of(reply))
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
            started = now_s()
            model, left_s = await self._inquiry.model(endpoint, call.model, timeout_s)
            async with self._requests.stream(
                endpoint,
                wire.path if self._routes is None else self._routes.route(model, streamed=True),
                wire.encode_stream(call, model),
                timeout_s=left_s,
                idle_timeout_s=self._idle_timeout_s,
            ) as stream:
                await raise_for_status(stream)
                decoder, ttft_s, said = wire.decoder(), None, False
                async for chunk in stream.chunks():  # to the body's end, so that its connection can be used again
                    text = decoder.feed(chunk)
                    if ttft_s is None and decoder.begun:
                        ttft_s = now_s() - started
                    if text:
                        said = True
                        yield Delta(text)
                reply = decoder.end(framed=bool(_FRAMINGS.intersection(stream.headers)))
                # An answer that came as a tool's arguments is known when it is whole.
                yield Delta("" if said else reply.text, msgspec.structs.replace(reply, ttft_s=ttft_s))

    async def send_many(
        self, endpoint: AgentEndpoint, calls: Sequence[Call], *, timeout_s: float
    ) -> list[Reply | CallError]:
        """Several calls with equal sampling and model in one request, answered in the order of `calls`.

        An endpoint that does not know the path is remembered, and not asked for a batch again.

        Raises:
            BatchUnsupportedError: The wire has no batch request, or the endpoint does not know it.
            RequestRejectedError: The calls cannot share a request, or the endpoint refuses it.
            CallError: The request as a whole failed.
        """
        if not calls:
            return []
        with self._placing_errors(endpoint):
            wire = self._batch
            if wire is None or endpoint.url in self._without_batch:
                path = self._wire.path if wire is None else wire.path
                raise BatchUnsupportedError(f"POST {path} takes no batch here", remedy="send the calls one by one")
            refuse_unequal(calls)
            model, left_s = await self._inquiry.model(endpoint, calls[0].model, timeout_s)
            parts = wire.decode(await self._post_batch(endpoint, wire.path, wire.encode(calls, model), left_s), calls)
            for part in parts:
                if isinstance(part, CallError):
                    self._requests.place(part, endpoint)
            return parts

    async def embed(self, endpoint: AgentEndpoint, texts: Sequence[str], *, model: str, timeout_s: float) -> Embeddings:
        """Vectors for `texts`, in their order."""
        if not texts:
            return Embeddings(())
        with self._placing_errors(endpoint):
            if not self._embeds:
                problem = f"POST {self._wire.path} cannot embed texts"
                raise RequestRejectedError(problem, remedy="use an OpenAI-compatible server")
            model, left_s = await self._inquiry.model(endpoint, model, timeout_s)
            wire = self._embeddings
            body = await self._requests.post(endpoint, wire.path, wire.encode(texts, model), left_s)
            return wire.decode(body, len(texts))

    async def probe(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointInfo:
        """Ask who is there, without generating anything.

        Servers without a list of models are known by ``/health``, those that speak ``/generate`` also by knowing
        that path. llama.cpp is also asked for its slots.

        Raises:
            CallError: Nobody answers, or what answers is not a model server.
        """
        started = now_s()
        with self._placing_errors(endpoint):
            try:
                async with asyncio.timeout(timeout_s):
                    info = await self._inquiry.look(endpoint, timeout_s)
            except TimeoutError:
                raise AttemptTimeoutError(f"no answer to a probe within {timeout_s:.3g} s") from None
            return msgspec.structs.replace(info, latency_s=now_s() - started)

    async def load(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointLoad | None:
        """What the engine's ``/metrics`` say of its load; None where there are none, or of an unknown engine.

        Raises:
            CallError: Nobody answers.
        """
        with self._placing_errors(endpoint):
            return await self._inquiry.load(endpoint, timeout_s)

    async def count_tokens(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> int | None:
        """Tokens of the call's prompt, chat template included.

        Returns:
            None where the engine has no tokenizer to ask, or no probe has recognised it yet.

        Raises:
            CallError: Nobody answers.
        """
        with self._placing_errors(endpoint):
            return await self._inquiry.count_tokens(endpoint, call, timeout_s)

    async def aclose(self) -> None:
        """Release connections. May be called twice."""
        await self._http.aclose()

    async def _last_of(self, deltas: AsyncIterator[Delta]) -> Reply:
        """The whole reply; the stream is left in order also where it fails or is cancelled."""
        reply: Reply | None = None
        try:
            async for delta in deltas:
                reply = delta.reply
        finally:
            await cast("AsyncGenerator[Delta]", deltas).aclose()
        assert reply is not None, "a stream ends with its reply, or raises"
        return reply

    async def _post_batch(self, endpoint: AgentEndpoint, path: str, body: bytes, timeout_s: float) -> bytes:
        try:
            return await self._requests.post(endpoint, path, body, timeout_s)
        except (RequestRejectedError, ServerError) as error:
            if error.status not in ABSENT:
                raise
            self._without_batch.add(endpoint.url)
            problem = f"POST {path} takes no batch here ({error.problem})"
            raise BatchUnsupportedError(problem, status=error.status, remedy="send the calls one by one") from None

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
            self._inquiry.forget_model(endpoint)
        self._requests.place(error, endpoint)
