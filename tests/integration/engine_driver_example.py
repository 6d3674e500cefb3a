"""Keeps workers: `engine_driver_example.py local|processes|ray|cluster FUNCTION ARGUMENT COPIES`."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

from aurora_swarm.engines.open import open_engine


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


async def keep(place: str, function: str, argument: str, copies: int) -> None:
    engine = open_engine(place, say=say)
    try:
        await engine.keep(function, argument, copies)
    finally:
        await engine.aclose()


async def keep_on_cluster(function: str, argument: str, copies: int) -> None:
    """Four nodes on this machine; one that is not the first is killed at SIGUSR1."""
    from ray.cluster_utils import Cluster

    size: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster: Any = Cluster(initialize_head=True, head_node_args=size | {"include_dashboard": False})
    nodes = [cluster.add_node(**size) for _ in range(3)]
    cluster.wait_for_nodes()

    def kill() -> None:
        cluster.remove_node(nodes[1], allow_graceful=False)
        say("a node was killed")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, kill)
    try:
        await keep(f"ray://{cluster.address}", function, argument, copies)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    place, function, argument, copies = sys.argv[1:]
    if place == "cluster":
        asyncio.run(keep_on_cluster(function, argument, int(copies)))
    else:
        asyncio.run(keep(place, function, argument, int(copies)))
