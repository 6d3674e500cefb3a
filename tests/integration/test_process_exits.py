"""A process that uses the HTTP client ends with its own exit code, however it ends.

Clients written in Rust have aborted the interpreter at exit. Sixteen processes run by default;
``AURORA_SWARM_EXIT_RUNS=100`` runs a hundred.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from typing import NamedTuple

import pytest

from aurora_swarm.testing.faulty_server import HANG, OK, Answer, FaultyServer, Request

RUNS = int(os.environ.get("AURORA_SWARM_EXIT_RUNS", "16"))
AT_A_TIME = 4
IN_FLIGHT = 1000

CHILD = textwrap.dedent(
    """
    import asyncio, os, signal, sys
    from aurora_swarm.transports.http_plain import PlainHttp
    from aurora_swarm.transports.http_ry import RyHttp
    from aurora_swarm.transports.open import open_transport
    from aurora_swarm.values.call import Call
    from aurora_swarm.values.endpoint import AgentEndpoint
    from aurora_swarm.values.message import Message

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has background jobs ignore it
    way, port, in_flight, code = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    client = {"plain": PlainHttp, "ry": RyHttp}[sys.argv[5]]
    transport = open_transport("openai", http=client(max_connections=in_flight))

    def send(text):
        call = Call((Message("user", text),), model="m")
        return transport.send(AgentEndpoint("127.0.0.1", port), call, timeout_s=60)

    async def work():
        await asyncio.gather(*(send("x") for _ in range(20)))
        hanging = [asyncio.ensure_future(send("hang")) for _ in range(in_flight if "flight" in way else 0)]
        if way == "closed":
            await transport.aclose()
        if way == "interrupted in flight":
            print("ready", flush=True)
            await asyncio.gather(*hanging)
        if hanging:
            await asyncio.sleep(0.1)
        if way == "exit in flight":
            sys.exit(code)
        if way == "cancelled in flight":
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)

    if way == "abandoned loop in flight":  # no asyncio.run, so nobody cancels what is under way
        asyncio.new_event_loop().run_until_complete(work())
        sys.exit(code)
    try:
        asyncio.run(work())
    except KeyboardInterrupt:
        sys.exit(code)
    sys.exit(code)
    """
)

CLIENTS = ("plain", "ry")
WAYS = (
    "closed",
    "open",
    "interrupted in flight",
    "open",
    "exit in flight",
    "closed",
    "cancelled in flight",
    "abandoned loop in flight",
)


def _hang_if_asked(request: Request) -> Answer:
    return HANG if b"hang" in request.body else OK


class End(NamedTuple):
    """How a process ended, and what it wrote to stderr."""

    way: str
    right: bool
    returncode: int | None
    complaints: str


async def _exit(server: FaultyServer, client: str, way: str, code: int) -> End:
    """Run one process to its end."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", CHILD, way, str(server.endpoint.port), str(IN_FLIGHT), str(code), client),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        if way == "interrupted in flight":
            assert child.stdout is not None
            assert await child.stdout.readline() == b"ready\n"
            await asyncio.sleep(0.2)
            child.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            _, complaints = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
    return End(f"{way}, {client}", child.returncode == code, child.returncode, complaints.decode())


def _complains(end: End) -> bool:
    marks = ["panicked", "Fatal Python error"]
    if not end.way.startswith("abandoned"):  # there Python itself complains, about the tasks that nobody awaits
        marks.append("Traceback")
    return any(mark in end.complaints for mark in marks)


@pytest.mark.timeout(600)
async def test_every_process_ends_with_its_own_code_and_none_aborts() -> None:
    gate = asyncio.Semaphore(AT_A_TIME)
    async with FaultyServer(_hang_if_asked) as server:

        async def one(number: int) -> End:
            async with gate:
                client = CLIENTS[number // len(WAYS) % len(CLIENTS)]
                return await _exit(server, client, WAYS[number % len(WAYS)], 10 + number % 90)

        ends = await asyncio.gather(*(one(number) for number in range(RUNS)))
    wrong = Counter((end.way, end.returncode) for end in ends if not end.right)
    complaints = [end.complaints[-2000:] for end in ends if _complains(end)]
    assert not wrong, (wrong, complaints)
    assert not complaints
    interrupted = sum(end.way.startswith("interrupted in flight") for end in ends)
    assert len(server.closed_early) >= interrupted * IN_FLIGHT / 2  # the signal really met requests in flight
