"""Messages that another process serves over HTTP."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from aurora_swarm.errors import EndpointError, StorageError, UsageError
from aurora_swarm.ports.http import Http, HttpReply
from aurora_swarm.swarms.messages.http_wire import LONGEST_WAIT_S, Answer, Append, Drop, End, Read, Recall
from aurora_swarm.swarms.messages.in_process import closed
from aurora_swarm.swarms.messages.log import Entry, Wanted
from aurora_swarm.swarms.messages.message import Message, encoded

_REQUEST_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_AGAIN = frozenset({429, 500, 502, 503, 504})


class HttpLog:
    """An `aurora_swarm.swarms.messages.log.Log` behind an address; its reads are long polls.

    Args:
        http: The network.
        url: Of the server, as `serve_messages` gives it.
        token: Of the server.
        patience_s: Seconds for which a request is tried again while the server cannot be reached.

    Raises:
        UsageError: The URL is none, or there is no token.
    """

    def __init__(self, http: Http, url: str, token: str, *, patience_s: float) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None:
            raise UsageError("that is no address of served messages", remedy="http://HOST:PORT, with token= beside it")
        if not token:
            raise UsageError(f"{url} needs a token", remedy="give token=; serve_messages says which")
        self.closed = False
        self._http = http
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        self._patience_s = patience_s
        self._closing = asyncio.Event()

    async def append(self, message: Message) -> None:
        """Add a message to its channel."""
        encoded(message)  # refuses what the server would
        await self._asked("append", Append(message=message))

    async def read(self, after: Mapping[str, str], *, limit: int = 100, wait_s: float = 0.0) -> Sequence[Entry]:
        """What stands behind positions."""
        wanted = Read(after=dict(after), limit=limit, wait_s=min(wait_s, LONGEST_WAIT_S))
        return (await self._asked("read", wanted, wait_s=wanted.wait_s)).entries

    async def end(self, channel: str) -> str:
        """The position behind everything that is there now."""
        return (await self._asked("end", End(channel=channel))).position

    async def drop(self, channel: str, upto: str) -> None:
        """Forget what stands in a mailbox up to a position."""
        await self._asked("drop", Drop(channel=channel, upto=upto))

    async def recall(self, query: str, k: int, wanted: Wanted) -> Sequence[Message]:
        """The messages nearest in meaning to a text, if the server's are kept in a vector store."""
        return (await self._asked("recall", Recall(query=query, k=k, wanted=wanted))).messages

    async def aclose(self) -> None:
        """Wake whoever waits, and end the connections. May be called twice."""
        self.closed = True
        self._closing.set()
        await self._http.aclose()

    async def _asked(self, what: str, wanted: msgspec.Struct, *, wait_s: float = 0.0) -> Answer:
        """The server's answer, asked for again while it cannot be reached."""
        loop, body = asyncio.get_running_loop(), msgspec.json.encode(wanted)
        deadline, pause_s = loop.time() + self._patience_s, _FIRST_PAUSE_S
        while True:
            problem = ""
            try:
                reply = await self._unless_closed(what, body, wait_s + _REQUEST_S)
                if reply.status not in _AGAIN:
                    return _answer(reply, self._url)
                problem = f"it answered with status {reply.status}"
            except EndpointError as error:
                problem = error.problem
            if loop.time() + pause_s > deadline:
                raise StorageError(
                    f"could not be reached for {self._patience_s:g} s: {problem}",
                    path=self._url,
                    remedy="check that the process that serves the messages runs",
                )
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the load
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _unless_closed(self, what: str, body: bytes, timeout_s: float) -> HttpReply:
        if self.closed:
            raise closed()
        request = asyncio.ensure_future(
            self._http.request("POST", f"{self._url}/v1/{what}", body=body, headers=self._headers, timeout_s=timeout_s)
        )
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({request, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                raise closed()
            return request.result()
        finally:
            for task in (request, closing):
                task.cancel()
            await asyncio.wait({request, closing})


def _answer(reply: HttpReply, url: str) -> Answer:
    try:
        answer = msgspec.json.decode(reply.body, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer = None
    if answer is None or (reply.status != 200 and not answer.error):
        raise UsageError(f"{url} serves no messages (status {reply.status})", remedy="check the address")
    if reply.status == 200:
        return answer
    if reply.status == 409:
        raise StorageError(answer.error, remedy=answer.remedy)
    raise UsageError(answer.error, remedy=answer.remedy)
