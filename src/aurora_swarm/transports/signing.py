"""An `Http` that signs what it sends as Amazon wants it (SigV4), with the credentials that botocore finds.

The only module that imports botocore, and only when it is chosen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from aurora_swarm.errors import AttemptTimeoutError, AuthenticationError, UsageError
from aurora_swarm.ports.http import Http, HttpReply, HttpStream
from aurora_swarm.transports.kinds import BEDROCK_HOST

SERVICE = "bedrock"
_REMEDY = "set AWS_BEARER_TOKEN_BEDROCK to a Bedrock API key, or {}"


class SignedHttp:
    """Passes requests on with a signature.

    Credentials are looked for where botocore looks (variables, profiles, roles) and renewed when they end, on a thread,
    since either may ask other servers.

    Args:
        inner: Who sends; closed with this one.
        session: A session of botocore's; None for a new one.

    Raises:
        UsageError: botocore is not installed, or finds no credentials.
    """

    def __init__(self, inner: Http, session: Any = None) -> None:
        self._inner = inner
        self._session = session or _session()
        self._credentials = self._session.get_credentials()
        if self._credentials is None:
            raise UsageError(
                "there are no credentials for Bedrock", remedy=_REMEDY.format("log in with the AWS command line")
            )

    async def request(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> HttpReply:
        """Send one request and read its whole answer; what is secret in it is taken out of refusals."""
        signed, secret = await self._sign(method, url, body, headers, timeout_s)
        reply = await self._inner.request(method, url, body=body, headers=signed, timeout_s=timeout_s)
        if reply.status >= 400 and secret and secret.encode() in reply.body:
            return msgspec.structs.replace(reply, body=reply.body.replace(secret.encode(), b"***"))
        return reply

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
        idle_timeout_s: float,
    ) -> AsyncIterator[HttpStream]:
        """Send one request and hand over the answer as soon as its headers are here."""
        signed, secret = await self._sign(method, url, body, headers, timeout_s)
        async with self._inner.stream(
            method, url, body=body, headers=signed, timeout_s=timeout_s, idle_timeout_s=idle_timeout_s
        ) as answer:
            if answer.status >= 400:
                said = b"".join([chunk async for chunk in answer.chunks()])
                yield _Refusal(answer.status, answer.headers, said.replace((secret or "\0").encode(), b"***"))
            else:
                yield answer

    async def aclose(self) -> None:
        """Close every connection. May be called twice."""
        await self._inner.aclose()

    async def _sign(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> tuple[Any, str]:
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.to_thread(self._signed, method, url, body, headers)
        except TimeoutError:
            raise AttemptTimeoutError(f"the credentials for Bedrock did not come within {timeout_s:.3g} s") from None

    def _signed(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[Any, str]:
        """The headers with a signature, and the secret among them."""
        from botocore.auth import SigV4Auth  # noqa: PLC0415 - an extra, loaded when chosen
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415

        try:
            frozen = self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise AuthenticationError(f"the credentials for Bedrock cannot be renewed: {error}") from None
        request = AWSRequest(method=method, url=url, data=body or b"", headers=dict(headers))
        SigV4Auth(frozen, SERVICE, self._region(url)).add_auth(request)
        return dict(request.headers.items()), frozen.token or ""

    def _region(self, url: str) -> str:
        named = BEDROCK_HOST.fullmatch(urlsplit(url).hostname or "")
        return named.group(1) if named else self._session.get_config_variable("region") or "us-east-1"


class _Refusal:
    """A refusal that has been read."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body


def _session() -> Any:
    try:
        from botocore.session import get_session  # noqa: PLC0415 - an extra, loaded when chosen
    except ImportError:
        raise UsageError(
            "signing requests to Bedrock needs botocore", remedy=_REMEDY.format("pip install 'aurora-swarm[bedrock]'")
        ) from None
    return get_session()
