"""The store on a Chroma server, through Chroma's own client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import chromadb
from chromadb.api.async_fastapi import AsyncFastAPI
from chromadb.config import Settings, System

from aurora_swarm.errors import StoreError
from aurora_swarm.memory.checking import checked_fields, checked_name
from aurora_swarm.memory.chroma_calls import Calls
from aurora_swarm.memory.chroma_collection import ChromaCollection
from aurora_swarm.memory.chroma_wire import metadata_of, schema_of
from aurora_swarm.ports.embedder import Embedder
from aurora_swarm.ports.store import Collection, Schema


class ChromaStore:
    """Keeps the contract of `aurora_swarm.ports.store.VectorStore`; made by `open`.

    Any number of processes may use one server.

    Args:
        settings: Where the server is.
        calls: How the server is asked.
        embedder: Turns texts into vectors.
        owns_embedder: Whether closing closes the embedder, too.
    """

    _open: ClassVar[int] = 0

    def __init__(self, settings: Settings, calls: Calls, embedder: Embedder, *, owns_embedder: bool = False) -> None:
        self.embedder = embedder
        self._settings = settings
        self._client: Any = None
        self._calls = calls
        self._owns_embedder = owns_embedder
        self._collections: dict[str, ChromaCollection] = {}
        self._making = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None
        ChromaStore._open += 1

    @classmethod
    async def open(
        cls, host: str, port: int, embedder: Embedder, *, tls: bool = False, owns_embedder: bool = False
    ) -> Self:
        """Connect to a server.

        Args:
            host: Its name or address.
            port: Its port.
            embedder: Turns texts into vectors.
            tls: Whether to use HTTPS.
            owns_embedder: Whether closing closes the embedder, too.

        Raises:
            StorageError: No Chroma server answers.
        """
        calls = Calls(f"chroma{'s' if tls else ''}://{host}:{port}")
        settings = _settings(host, port, tls=tls)
        store = cls(settings, calls, embedder, owns_embedder=owns_embedder)
        try:
            store._client = await calls(chromadb.AsyncHttpClient(host, port, ssl=tls, settings=settings))
            calls.most = await calls(store._client.get_max_batch_size())
        except BaseException:
            await store.aclose()
            raise
        return store

    async def collection(self, name: str, *, fields: Mapping[str, str] | None = None) -> Collection:
        """The collection of that name, made when it is not there; the same object each time.

        Raises:
            StoreError: It was made by another embedder, another program, or with other fields; or the server does not
                take the name.
            StorageError: The server does not answer.
        """
        self._refuse_closed()
        wanted = None if fields is None else checked_fields(fields)
        checked_name(name)
        async with self._making:
            there = self._collections.get(name)
            if there is None:
                there = await self._made(name, wanted)
        there.check_made_for(self.embedder.name, wanted)
        self._collections[name] = there
        return there

    async def collections(self) -> list[str]:
        """Names of all collections of the server, sorted."""
        self._refuse_closed()
        return sorted(collection.name for collection in await self._calls(self._client.list_collections()))

    async def drop(self, name: str) -> None:
        """Delete a collection and all that is in it; nothing happens where there is none."""
        self._refuse_closed()
        if name not in await self.collections():
            return
        await self._calls(self._client.delete_collection(name))
        dropped = self._collections.pop(name, None)
        if dropped is not None:
            dropped.dropped = True
            await dropped.finish()

    async def aclose(self) -> None:
        """Finish what was asked and close the connections. May be called twice; goes on when it is cancelled."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _made(self, name: str, fields: Mapping[str, str] | None) -> ChromaCollection:
        schema = Schema(None, self.embedder.name, fields or {})
        collection = await self._calls(
            self._client.get_or_create_collection(
                name,
                metadata=metadata_of(schema),
                configuration={"hnsw": {"space": "cosine"}},
                embedding_function=None,
            )
        )
        made = ChromaCollection(self._calls, collection, name, schema_of(name, collection.metadata), self.embedder)
        await made.measure()
        return made

    async def _close(self) -> None:
        for collection in self._collections.values():
            await collection.finish()
        ChromaStore._open -= 1
        if not ChromaStore._open:
            # The client's connections belong to all clients of a process, and there is no way to close those of one.
            async with AsyncFastAPI(System(self._settings)):
                pass
        if self._owns_embedder:
            await self.embedder.aclose()

    def _refuse_closed(self) -> None:
        if self._closing is not None:
            raise StoreError("the store is closed", remedy="open it again")


def _settings(host: str, port: int, *, tls: bool) -> Settings:
    return Settings(
        anonymized_telemetry=False,
        chroma_server_host=host,
        chroma_server_http_port=port,
        chroma_server_ssl_enabled=tls,
    )
