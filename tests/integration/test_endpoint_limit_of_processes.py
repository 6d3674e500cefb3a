"""Real processes and real sockets: an endpoint never has more calls from all of them than it takes."""

import asyncio
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from aurora_swarm.journal.shards import open_shards
from aurora_swarm.testing.fleet import ServerPlan, fleet_process
from aurora_swarm.testing.redis_server import RedisServer
from aurora_swarm.values.shard import RunPlan

CHILD = Path(__file__).with_name("shared_endpoint_example.py")
LATENCY_S = 0.1


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.chaos), "sqlite"])
def url(request, tmp_path):
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield f"sqlite://{tmp_path / 'run.sqlite'}"
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="r"))
            yield stack.enter_context(RedisServer(Path(folder))).url


@pytest.fixture
def fleet():
    """Two servers that would run 64 at a time, so that they can see more than 8."""
    with fleet_process([ServerPlan(latency_s=LATENCY_S, capacity=64)] * 2) as fleet:
        yield fleet


def made(url, lease_s=1.0):
    async def make():
        store = await open_shards(url, RunPlan(run="run", lease_s=lease_s))
        await store.aclose()

    asyncio.run(make())


def started(url, fleet, owner, calls):
    addresses = [f"{endpoint.host}:{endpoint.port}" for endpoint in fleet.endpoints]
    command = [sys.executable, str(CHILD), url, "run", owner, str(calls), "64", *addresses]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_an_endpoint_never_has_more_than_it_takes_also_while_a_process_is_killed(url, fleet):
    made(url)
    children = [started(url, fleet, f"p{n}", 120) for n in range(4)]
    try:
        while fleet.counts().answered < 60:
            time.sleep(0.02)
        children[0].kill()
        children[0].wait()
        for child in children[1:]:
            assert child.communicate(timeout=60)[0].strip() == b"120"
    finally:
        for child in children:
            child.kill()
            child.wait()
            child.stdout.close()
    counts = fleet.counts()
    assert counts.answered >= 360
    assert 4 <= counts.most_running <= 8
