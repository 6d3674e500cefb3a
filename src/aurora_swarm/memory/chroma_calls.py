"""How a Chroma server is asked: with a deadline, and with its errors as ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import httpx
from chromadb.errors import AuthorizationError, ChromaAuthError, ChromaError, InvalidArgumentError, NotFoundError

from aurora_swarm.errors import StorageError, StoreError

T = TypeVar("T")


class Calls:
    """Awaits calls of the client.

    Args:
        place: The server's URL, for errors.
        timeout_s: Seconds for one call; the client itself has no bound.

    Attributes:
        most: Documents that the server takes in one request.
    """

    def __init__(self, place: str, timeout_s: float = 60.0) -> None:
        self.most = 1_000
        self._place = place
        self._timeout_s = timeout_s

    async def __call__(self, call: Awaitable[T]) -> T:
        """Await one call.

        Raises:
            StoreError: The server refuses it, or the collection is not there any more.
            StorageError: It does not answer, or failed.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            raise self.unreachable(error) from error
        except NotFoundError as error:
            raise StoreError(f"{self._place}: {error}", remedy="ask the store for the collection again") from error
        except (InvalidArgumentError, ValueError, AuthorizationError, ChromaAuthError) as error:
            raise StoreError(f"{self._place}: {error}") from error
        except ChromaError as error:
            raise StorageError(f"{type(error).__name__}: {error}", path=self._place, remedy=_LOG) from error

    def unreachable(self, error: Exception) -> StorageError:
        """The error for a server that does not answer."""
        what = f"no answer within {self._timeout_s:g} s" if isinstance(error, TimeoutError) else "no answer"
        said: Any = str(error)
        return StorageError(
            f"{what}{f': {said}' if said else ''}", path=self._place, remedy="check that the Chroma server runs there"
        )


_LOG = "see the log of the Chroma server"
