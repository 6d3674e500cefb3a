"""Opens a vector store by URL; the only place that names the classes behind the port."""

from __future__ import annotations

import importlib.util
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from aurora_swarm.errors import StoreError
from aurora_swarm.memory.embedders.open import open_embedder
from aurora_swarm.ports.embedder import Embedder
from aurora_swarm.ports.store import VectorStore

_KINDS = "memory://, local://FOLDER or chroma://HOST:PORT"


def open_store(url: str, *, embedder: Embedder | None = None) -> StoreOpening:
    """Open a vector store.

    Use it as ``async with open_store(url) as store:``, or as ``store = await open_store(url)`` with a
    ``await store.aclose()`` later on. Nothing happens before that.

    Args:
        url: ``memory://`` lasts as long as the store is open. ``local://notes`` is a file in the folder ``notes``, made
            where it is not there (``local:///var/tmp/notes`` is absolute; a name that ends in ``.sqlite``, ``.sqlite3``
            or ``.db`` is the file itself). ``chroma://host:8000`` is a collection of a Chroma server, ``chromas://``
            the same over TLS.
        embedder: Turns texts into vectors; wordllama when None. One that is given is not closed with the store.

    Raises:
        StoreHeldError: Another process holds the file; the sentence says which.
        StoreError: There is no such kind of store, its library is not installed, or the place cannot hold one.
        StorageError: The file could not be read or written, or no Chroma server answers.
    """
    return StoreOpening(url, embedder)


class StoreOpening:
    """A store that is about to be opened: `await` it, or enter it with ``async with``.

    Args:
        url: As for `open_store`.
        embedder: As for `open_store`.
    """

    def __init__(self, url: str, embedder: Embedder | None) -> None:
        self._url = url
        self._embedder = embedder
        self._store: VectorStore | None = None

    def __await__(self) -> Generator[Any, None, VectorStore]:
        return _open(self._url, self._embedder).__await__()

    async def __aenter__(self) -> VectorStore:
        self._store = await self
        return self._store

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is not None:
            await self._store.aclose()


async def _open(url: str, embedder: Embedder | None) -> VectorStore:
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise StoreError(f"{url!r} is no URL of a vector store", remedy=f"use {_KINDS}")
    if importlib.util.find_spec("numpy") is None:
        raise StoreError("vector stores need NumPy", remedy="pip install 'aurora-swarm[memory]'")
    match scheme:
        case "memory":
            return await _open_exact(None, embedder)
        case "local":
            return await _open_exact(_path(url, rest), embedder)
        case "chroma" | "chromas":
            return await _open_chroma(url, embedder)
        case _:
            raise StoreError(f"{scheme}:// is no kind of vector store", remedy=f"use {_KINDS}")


async def _open_exact(path: Path | None, embedder: Embedder | None) -> VectorStore:
    from aurora_swarm.memory.exact import ExactStore  # noqa: PLC0415 - imported only when it is chosen

    return await ExactStore.open(path, embedder or _default(), owns_embedder=embedder is None)


async def _open_chroma(url: str, embedder: Embedder | None) -> VectorStore:
    host, port = _address(url)
    if importlib.util.find_spec("chromadb") is None:
        raise StoreError("the client of Chroma is not installed", remedy="pip install 'aurora-swarm[chroma]'")
    from aurora_swarm.memory.chroma import ChromaStore  # noqa: PLC0415 - imported only when it is chosen

    return await ChromaStore.open(
        host, port, embedder or _default(), tls=url.startswith("chromas"), owns_embedder=embedder is None
    )


def _default() -> Embedder:
    return open_embedder("wordllama")


def _path(url: str, rest: str) -> Path:
    from aurora_swarm.memory.places import file_at  # noqa: PLC0415 - SQLite only when it is chosen

    if not rest or "\0" in rest:
        raise StoreError(f"{url!r} names no folder for the store", remedy="write local://FOLDER")
    return file_at(Path(rest))


def _address(url: str) -> tuple[str, int]:
    problem = StoreError(f"{url!r} names no Chroma server", remedy="write chroma://HOST:PORT")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 8000
    except ValueError:
        raise problem from None
    if not host or parts.path not in {"", "/"}:
        raise problem
    return host, port
