"""A client of few words: it sends bytes, and reads whatever comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from aurora_swarm.testing.fleet import SimulatedFleet


class Answer(msgspec.Struct):
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(path: str, body: Any = None, *, more: str = "") -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\n{more}content-length: {len(data)}\r\n\r\n".encode() + data


async def read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    return Answer(int(head[0].split()[1]), headers, body)


async def ask(fleet: SimulatedFleet, path: str, body: Any = None, *, server: int = 0, more: str = "") -> Answer:
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.endpoints[server].port)
    try:
        writer.write(request(path, body, more=more))
        return await read(reader)
    finally:
        writer.close()


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


async def until(condition: Any, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the condition may be about anything
            await asyncio.sleep(0.002)


@pytest.fixture
def client() -> Any:
    class Client:
        ask = staticmethod(ask)
        chat = staticmethod(chat)
        request = staticmethod(request)
        read = staticmethod(read)
        until = staticmethod(until)

    return Client
