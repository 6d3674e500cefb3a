"""Swarms elsewhere, reached over A2A (https://a2a-protocol.org): JSON-RPC, with the answer as a stream of events.

The order travels as a text part, which any agent understands, and a data part with what only a swarm of this project
does: context and budget. An agent of another make answers with text, and says nothing of what it spent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aurora_swarm.errors import AgentError, InputError, MemberLostError, TaskCancelledError, UsageError
from aurora_swarm.swarms.findings import encodable
from aurora_swarm.swarms.grants import Spent
from aurora_swarm.swarms.remote import INTRODUCTION_S, Card, Errand
from aurora_swarm.swarms.wire import Order, Report, order_to_data, report_from_data
from aurora_swarm.swarms.work import SwarmOutcome

if TYPE_CHECKING:
    import httpx
    from a2a.client import Client
    from a2a.types import AgentCard, Message, Part, StreamResponse, TaskState

SILENCE_S = 45.0
"""Seconds without a sign of life after which a connection counts as lost; a server sends one every 15."""

FAREWELL_S = 2.0
"""Seconds that telling a swarm that it is cancelled may take."""

ORDER, REPORT = "application/vnd.aurora-swarm.order+json", "application/vnd.aurora-swarm.report+json"
"""Media types of the data parts."""

_SCHEMES = {"a2a": "http", "a2a+http": "http", "a2a+https": "https", "http": "http", "https": "https"}


def address_of(url: str) -> str:
    """Where a swarm is served.

    Args:
        url: ``a2a://host:port``, ``a2a+https://host``, or an ``http(s)://`` address.

    Raises:
        UsageError: It is none of them.
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise UsageError(
            f"{parts.scheme}://{parts.hostname or ''} is no swarm's address", remedy="give a2a://host:port"
        )
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"


class A2ALink:
    """A `aurora_swarm.swarms.remote.Link` over A2A. Each order has a connection of its own.

    Args:
        url: As for `address_of`.
        token: Sent as bearer token; None for none.

    Raises:
        UsageError: The address is none.
        InputError: A2A is not installed.
    """

    def __init__(self, url: str, *, token: str | None = None) -> None:
        self.address = address_of(url)
        self._token = token
        try:
            import a2a.client  # noqa: F401, PLC0415 - an optional library
        except ImportError:
            raise InputError("A2A is not installed", source=url, remedy="install aurora-swarm[a2a]") from None

    async def introduce(self) -> Card:
        """The name and description of its public card, with what its skills say.

        Raises:
            MemberLostError: Nobody answers there, or nobody who speaks A2A.
        """
        async with self._http() as http:
            card = await self._card(http)
        skills = " ".join(skill.description for skill in card.skills if skill.description != card.description)
        return Card(card.name, f"{card.description} {skills}".strip())

    async def carry_out(self, order: Order, errand: Errand) -> Report:
        """Send the order, and read events until the task has ended. Nothing is polled.

        Args:
            order: What is to be done.
            errand: Told what is known of it.

        Raises:
            MemberLostError: It could not be reached, refused, or the connection was lost.
        """
        import httpx  # noqa: PLC0415 - an optional library

        async with self._http() as http:
            card = await self._card(http)
            if not card.capabilities.streaming:
                http.timeout = httpx.Timeout(INTRODUCTION_S, read=None)  # it says nothing before it is done
            client = _client(http, card, self.address)
            reading = _Reading(errand)
            try:
                await self._read(client, order, reading)
            except asyncio.CancelledError:
                await _cancel(client, reading)
                raise
        return reading.report(order, self.address)

    async def _read(self, client: Client, order: Order, reading: _Reading) -> None:
        try:
            async with aclosing(_generator(client.send_message(_request(order)))) as events:
                async for event in events:
                    reading.take(event)
        except Exception as error:
            # What another site sends may break the package's parsing in any way; all of it is that site's loss.
            cause = error.__cause__ if error.__cause__ is not None else error
            reading.errand.begun = reading.errand.begun or not _is_refusal(error, cause)
            raise MemberLostError(
                f"{self.address}: {str(error) or type(error).__name__}", remedy=_remedy(cause)
            ) from error

    @asynccontextmanager
    async def _http(self) -> AsyncIterator[httpx.AsyncClient]:
        import httpx  # noqa: PLC0415 - an optional library

        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        timeout = httpx.Timeout(INTRODUCTION_S, read=SILENCE_S)
        # Nothing from the environment: a proxy there would be given the token.
        async with httpx.AsyncClient(headers=headers, timeout=timeout, trust_env=False) as http:
            yield http

    async def _card(self, http: httpx.AsyncClient) -> AgentCard:
        from a2a.client import A2ACardResolver  # noqa: PLC0415 - an optional library

        try:
            return await A2ACardResolver(http, self.address).get_agent_card()
        except Exception as error:  # as for what is read later
            raise MemberLostError(
                f"{self.address}: {error}", remedy="see whether the swarm is served there, and the token"
            ) from error


class _Reading:
    """What the events of one task have told so far."""

    def __init__(self, errand: Errand) -> None:
        self.errand = errand
        self.task_id = ""
        self._state: TaskState | None = None
        self._parts: list[Part] = []
        self._said: list[Part] = []

    def take(self, event: StreamResponse) -> None:
        """Note what an event tells."""
        self.errand.begun = True
        if event.HasField("task"):
            self.task_id = event.task.id
            self._at(event.task.status)
            self._parts = [part for artifact in event.task.artifacts for part in artifact.parts]
        elif event.HasField("status_update"):
            self.task_id = event.status_update.task_id or self.task_id
            self._at(event.status_update.status)
        elif event.HasField("artifact_update"):
            self._parts.extend(event.artifact_update.artifact.parts)
        elif event.HasField("message"):
            self._parts.extend(event.message.parts)
            self._state = _states().TASK_STATE_COMPLETED

    def _at(self, status: Any) -> None:
        self._state = status.state
        self._said = list(status.message.parts)

    def report(self, order: Order, address: str) -> Report:
        """What came of it.

        Raises:
            MemberLostError: The events ended before the task did, or it wants what nobody here can give.
        """
        states = _states()
        if (report := _report_in([*self._parts, *self._said])) is not None:
            return report
        said = _text_of(self._said)
        if self._state == states.TASK_STATE_CANCELED:
            return _without_answer(order, TaskCancelledError(f"{address} cancelled the task"))
        if self._state == states.TASK_STATE_REJECTED:
            return _without_answer(order, AgentError(f"{address} did not take the task: {said}"), Spent())
        answer = _text_of(self._parts) or said
        if self._state == states.TASK_STATE_COMPLETED and answer:
            return Report(outcome=SwarmOutcome(objective=order.objective or "", answer=answer))
        name = "no state" if self._state is None else states.Name(self._state).removeprefix("TASK_STATE_").lower()
        raise MemberLostError(
            f"{address} ended at {name}" + (f": {said}" if said else ""), remedy="see what that swarm's own log says"
        )


def _without_answer(order: Order, error: AgentError, spent: Spent | None = None) -> Report:
    return Report(outcome=SwarmOutcome(objective=order.objective or "", answer="", error=error), spent=spent)


def _states() -> Any:
    from a2a.types import TaskState  # noqa: PLC0415 - an optional library

    return TaskState


def _report_in(parts: list[Part]) -> Report | None:
    from a2a.helpers import get_data_parts  # noqa: PLC0415 - an optional library

    for data in get_data_parts([part for part in parts if part.media_type == REPORT]):
        try:
            return report_from_data(data)
        except ValueError as error:
            raise MemberLostError(
                f"what the swarm reports is none: {error}", remedy="serve it with the same version"
            ) from error
    return None


def _text_of(parts: list[Part]) -> str:
    return "\n".join(part.text for part in parts if part.HasField("text"))


def _request(order: Order) -> Any:
    from a2a.helpers import new_data_part, new_message, new_text_part  # noqa: PLC0415 - an optional library
    from a2a.types import Role, SendMessageConfiguration, SendMessageRequest  # noqa: PLC0415

    parts = [new_data_part(order_to_data(order), ORDER)]
    if order.objective:
        parts.insert(0, new_text_part(encodable(order.objective)))
    message: Message = new_message(parts, role=Role.ROLE_USER)
    return SendMessageRequest(
        message=message, configuration=SendMessageConfiguration(accepted_output_modes=["text/plain", REPORT])
    )


def _client(http: httpx.AsyncClient, card: AgentCard, address: str) -> Client:
    """A client that talks to where the card came from, wherever the card says that it is: it is sent the token."""
    from a2a.client import ClientConfig, ClientFactory  # noqa: PLC0415 - an optional library

    own = urlsplit(address)
    for interface in card.supported_interfaces:
        path = urlsplit(interface.url).path
        interface.url = f"{own.scheme}://{own.netloc}{path}"
    try:
        return ClientFactory(ClientConfig(httpx_client=http)).create(card)
    except ValueError as error:
        raise MemberLostError(f"{address}: {error}", remedy="serve it with the JSON-RPC binding of A2A") from error


async def _cancel(client: Client, reading: _Reading) -> None:
    """Tell a swarm that nobody waits for it any more, and hear what it has spent; in vain where it cannot be told."""
    from a2a.types import CancelTaskRequest  # noqa: PLC0415 - an optional library

    if not reading.task_id:
        return
    try:
        async with asyncio.timeout(FAREWELL_S):
            task = await client.cancel_task(CancelTaskRequest(id=reading.task_id))
        report = _report_in(list(task.status.message.parts))
    except Exception:  # noqa: BLE001 - whatever it says now, who cancelled must hear of the cancellation alone
        return
    reading.errand.spent = None if report is None else report.spent


async def _generator(events: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    """The events, as a generator that can be closed."""
    async for event in events:
        yield event


def _is_refusal(error: BaseException, cause: BaseException) -> bool:
    """Whether nothing can have been begun there: nobody took the request, or it was turned away."""
    import httpx  # noqa: PLC0415 - an optional library
    from a2a.client.errors import A2AClientError  # noqa: PLC0415
    from a2a.utils.errors import A2AError, InternalError  # noqa: PLC0415

    if isinstance(cause, httpx.HTTPStatusError):
        return cause.response.is_client_error
    if isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout):
        return True
    return isinstance(error, A2AError) and not isinstance(error, A2AClientError | InternalError)


def _remedy(cause: BaseException) -> str:
    import httpx  # noqa: PLC0415 - an optional library

    return "see the token" if isinstance(cause, httpx.HTTPStatusError) else "see whether the swarm still runs"
