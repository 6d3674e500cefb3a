"""Other clients on the same servers, each in a process of its own and from an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
from aurora_swarm.values.endpoint import AgentEndpoint

ENVIRONMENT = harness.SCRATCH / "venv"
WANTED = harness.ROOT / "requirements" / "bench.in"
CLIENT = Path(__file__).with_name("peer_client.py")

REQUESTS = {"aiohttp": 20_000, "openai": 2_500, "httpx": 1_000, "litellm": 800, "batch-agent": 1_500}
"""How many requests say enough: about 2 s of each client's time."""


def python() -> Path:
    """The interpreter that has the peers; they are installed when it is asked for first."""
    program, stamp = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "bench.in"
    if not stamp.exists() or stamp.read_bytes() != WANTED.read_bytes():
        print(f"installing {WANTED.relative_to(harness.ROOT)} into .bench/venv (minutes)", file=sys.stderr, flush=True)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run(
            [program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", WANTED], check=True
        )
        stamp.write_bytes(WANTED.read_bytes())
    return program


def seconds(
    client: str,
    endpoints: Sequence[AgentEndpoint],
    requests: int,
    width: int,
    *,
    wire: str = "chat",
    schema: bool = False,
) -> float:
    """How long a peer takes for `requests` requests on the client's core; the better of two rounds.

    Args:
        client: A name in `peer_client.CLIENTS`.
        endpoints: Asked in turn.
        requests: How many.
        width: Under way at a time.
        wire: ``chat`` or ``generate``.
        schema: Whether answers have a label and a score, for clients that look at answers.
    """
    urls = [endpoint.url for endpoint in endpoints]
    order = {"client": client, "urls": urls, "requests": requests, "width": width, "wire": wire, "schema": schema}
    return float(told(order, core=harness.CLIENT_CORE)["seconds"])


def told(order: Mapping[str, Any], *, core: int | None) -> dict[str, Any]:
    """What a peer says after an order.

    Args:
        order: As `peer_client` reads it; `client` names the peer.
        core: Where it runs; None for any.
    """
    command = [str(python()), str(CLIENT)]
    with harness.child(command, core=core, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said, _ = process.communicate(json.dumps(order))
    if process.returncode:
        sys.exit(f"the peer {order['client']} failed with exit code {process.returncode}")
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


def rates(clients: Sequence[str], endpoints: Sequence[AgentEndpoint], width: int, *, quick: bool) -> dict[str, float]:
    """Requests per second of each peer."""
    found: dict[str, float] = {}
    for client in clients:
        requests = REQUESTS[client] // (4 if quick else 1)
        found[client] = requests / seconds(client, endpoints, requests, width)
        print(f"{client}: {found[client]:,.0f}/s", file=sys.stderr, flush=True)
    return found
