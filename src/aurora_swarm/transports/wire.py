"""What a wire is: bytes for a call, a reply for bytes. No IO in any of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec

from aurora_swarm.errors import AbortedError, BadResponseError, CallError, RequestRejectedError, ServerError
from aurora_swarm.transports.status import reported
from aurora_swarm.values.call import Call
from aurora_swarm.values.reply import Reply, Usage

T = TypeVar("T")

ABORTS = frozenset(("abort", "error"))
"""Finish reasons by which an engine gives up."""

_ENCODER = msgspec.json.Encoder()


class Wire(Protocol):
    """How one server is asked for one whole answer.

    Attributes:
        path: Where, below the endpoint's URL.
        names_model: Whether a request says which model is meant.
    """

    path: str
    names_model: bool

    def encode(self, call: Call, model: str) -> bytes:
        """The request's body.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        ...

    def decode(self, body: bytes) -> Reply:
        """The reply in the body of a 2xx answer.

        Raises:
            EndpointError: There is none in it.
        """
        ...


class StreamDecoder(Protocol):
    """Puts together one streamed answer.

    Attributes:
        begun: Whether the model has said or called something.
    """

    begun: bool

    def feed(self, chunk: bytes) -> str:
        """The new text in a piece of the body.

        Raises:
            EndpointError: The server reports a failure, or what it sends is no answer.
        """
        ...

    def end(self, *, framed: bool) -> Reply:
        """The whole reply, once the body has ended.

        Args:
            framed: Whether HTTP itself would have told of a cut (a length or chunks were declared).

        Raises:
            TruncatedError: The end is missing.
            AbortedError: The engine gave up.
        """
        ...


@runtime_checkable
class StreamWire(Wire, Protocol):
    """A wire that can stream."""

    def encode_stream(self, call: Call, model: str) -> bytes:
        """The request's body for a streamed answer."""
        ...

    def decoder(self) -> StreamDecoder:
        """A fresh decoder for one answer."""
        ...


@runtime_checkable
class RoutedWire(Wire, Protocol):
    """A wire whose path depends on what is asked."""

    def route(self, model: str, *, streamed: bool) -> str:
        """Where to ask, below the endpoint's URL.

        Raises:
            RequestRejectedError: There is no such place without a model.
        """
        ...


class BatchWire(Protocol):
    """How one server is asked for the answers to many calls at once.

    Attributes:
        path: Where, below the endpoint's URL.
    """

    path: str

    def encode(self, calls: Sequence[Call], model: str) -> bytes:
        """The request's body.

        Raises:
            RequestRejectedError: The calls cannot share a request, or hold text that no JSON can carry.
        """
        ...

    def decode(self, body: bytes, calls: Sequence[Call]) -> list[Reply | CallError]:
        """One entry per call, in their order; a missing or aborted choice is an error in its place.

        Raises:
            EndpointError: The body as a whole is no answer.
        """
        ...


class PromptDetails(msgspec.Struct):
    """As OpenAI sends it."""

    cached_tokens: int | None = None


class WireUsage(msgspec.Struct):
    """As OpenAI sends it; engines leave out what they do not count."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None


def usage_of(wire: WireUsage | None) -> Usage:
    """Tokens spent; zeros where the server does not say."""
    if wire is None:
        return Usage()
    details = wire.prompt_tokens_details
    return Usage(wire.prompt_tokens or 0, wire.completion_tokens or 0, (details and details.cached_tokens) or 0)


def encoded(value: Any) -> bytes:
    """JSON, or a refusal before anything is sent.

    Raises:
        RequestRejectedError: The text cannot be written as UTF-8.
    """
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError as error:
        raise RequestRejectedError(
            f"the text holds a lone surrogate at character {error.start}, which UTF-8 cannot carry",
            remedy="read files with errors='replace', or clean the text",
        ) from None


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Typed values.

    Raises:
        ServerError: It is an error object, although the status said otherwise.
        BadResponseError: It is something else.
    """
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise_reported(body)
        raise BadResponseError(f"the answer does not fit: {error}") from None
    except UnicodeDecodeError:
        raise BadResponseError("the answer is not UTF-8") from None
    except RecursionError:
        raise BadResponseError("the answer is nested too deeply") from None


def raise_reported(body: bytes) -> None:
    """Raise what the server reports, if that is what the body holds.

    Raises:
        ServerError: With the server's message.
    """
    message = reported(body)
    if message:
        raise ServerError(f"the server reports: {message}")


def raise_if_aborted(finish_reason: str | None) -> None:
    """Raise if the engine gave up.

    Raises:
        AbortedError: With the engine's word.
    """
    if finish_reason in ABORTS:
        raise AbortedError(f"the engine gave up on the generation (finish reason {finish_reason})")
