"""Workers, stores and nodes are killed and paused: nothing is lost, doubled or mixed up, and little is repeated."""

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from aurora_swarm.batch.distributed import where_of
from aurora_swarm.batch.plan import Errand
from aurora_swarm.settings import load_settings
from aurora_swarm.testing.fleet import fleet_process
from aurora_swarm.testing.redis_server import RedisServer

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from chaos_of_processes import (  # noqa: E402 - found by the line above
    INFLIGHT,
    RUN,
    Chaos,
    Restarts,
    check_whole,
    options,
    run_with,
    server_plan,
)
from cutting_proxy import CuttingProxy  # noqa: E402

sys.path.remove(str(HERE))


@pytest.fixture
def server(request):
    """The Redis server of a run; None for a run in a file."""
    if request.param == "sqlite":
        yield None
        return
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="r"))
        yield stack.enter_context(RedisServer(Path(folder)))


@pytest.fixture
def url(server, tmp_path):
    return f"sqlite://{tmp_path / 'run.sqlite'}" if server is None else server.url


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Where the tool says who asked; workers find the tool as this process does."""
    monkeypatch.setenv("LOOKED_UP", str(tmp_path / "looked_up"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(HERE))
    return tmp_path / "looked_up"


@pytest.fixture
def fleet(request):
    with fleet_process([server_plan(request.param)] * 2) as fleet:
        yield fleet


STORES = pytest.mark.parametrize("server", ["redis", "sqlite"], indirect=True)
FLEET = pytest.mark.parametrize("fleet", [0.15], indirect=True)
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300), FLEET]


@pytest.fixture(autouse=True)
def _tell(capsys):
    """The figures are seen whether a run passes or not."""
    yield
    with capsys.disabled():
        sys.stdout.write(f"\n{capsys.readouterr().out}")


async def chaotic(chaos, fleet, jobs, options):
    report = await run_with(chaos, fleet, jobs, options, 280)
    print(report)  # noqa: T201 - the figures
    return report


@STORES
@pytest.mark.parametrize("engine", ["processes", "ray"])
async def test_twenty_kills_over_two_thousand_agents(fleet, url, log, engine):
    chaos = Chaos(log, kills=20, every_s=(0.8, 2.0), seed=2)
    report = await chaotic(chaos, fleet, 2_000, options(fleet, url, engine=engine))
    check_whole(report, 2_000)
    assert len(report.kills) == 20
    assert report.repeated <= 20 * INFLIGHT
    assert statistics.median(report.recoveries()) <= 3.0


@STORES
async def test_workers_that_are_paused_beyond_their_lease_repeat_what_was_in_flight_and_no_more(fleet, url, log):
    report = await chaotic(paused(log), fleet, 300, options(fleet, url))
    check_whole(report, 300)
    assert report.pauses
    assert report.repeated <= 4 * INFLIGHT


@STORES
async def test_without_the_fence_it_costs_more(fleet, url, log):
    report = await chaotic(paused(log), fleet, 300, options(fleet, url, worker="chaos_run_example:unfenced"))
    check_whole(report, 300)
    assert report.repeated > 4 * INFLIGHT


@STORES
async def test_without_the_fence_and_the_first_write_results_are_doubled(fleet, url, log):
    report = await chaotic(paused(log), fleet, 300, options(fleet, url, worker="chaos_run_example:unguarded"))
    assert len(report.outputs) > 300


@pytest.mark.parametrize("server", ["redis"], indirect=True)
@pytest.mark.parametrize("worker", ["", "chaos_run_example:unfirst"], ids=["guarded", "without the first write"])
async def test_writes_whose_answers_are_lost_are_repeated_and_only_the_first_write_keeps_results_single(
    fleet, server, log, worker
):
    """The fence lets a repeated write pass, since its epoch is right: this is what the first write alone guards."""
    proxy = CuttingProxy(Path(server.url.removeprefix("unix://")), share=0.05)
    with tempfile.TemporaryDirectory(prefix="r") as folder:
        path = Path(folder) / "cut.sock"
        async with proxy.at(path):
            chosen = options(fleet, f"unix://{path}", **({"worker": worker} if worker else {}))
            report = await chaotic(Chaos(log, kills=2, every_s=(0.8, 2.0), seed=2), fleet, 300, chosen)
            proxy.share = 0.0
    assert proxy.cuts >= 10
    if worker:
        assert len(report.outputs) > 300
    else:
        check_whole(report, 300)


async def test_one_of_four_ray_nodes_is_killed_during_a_thousand_agents(fleet, tmp_path, log):
    """Nodes are killed by the program that has the cluster; here are only the inputs and the results."""
    url = f"sqlite://{tmp_path / 'run.sqlite'}"
    chosen = options(fleet, url, processes=0)
    errand = Errand(store=url, run=RUN, where=where_of(chosen, load_settings({})))
    program = [sys.executable, str(HERE / "engine_driver_example.py"), "cluster", "aurora_swarm.batch.worker:main"]
    argument = msgspec.json.encode(errand).decode()

    class Node:
        kills: ClassVar[list] = []
        pauses: ClassVar[list] = []

        async def run(self):
            await asyncio.sleep(4)
            cluster.send_signal(signal.SIGUSR1)

    running = asyncio.create_task(chaotic(Node(), fleet, 1_000, chosen))
    await asyncio.sleep(1)  # the run is made by who brings the inputs
    with subprocess.Popen([*program, argument, "4"], stdout=subprocess.PIPE, text=True) as cluster:  # noqa: ASYNC220 - a start
        try:
            report = await running
            said, _ = await asyncio.to_thread(cluster.communicate, timeout=60)
        finally:
            cluster.kill()
    check_whole(report, 1_000)
    assert "4 nodes" in said
    assert "a node was killed" in said
    assert report.repeated <= 4 * INFLIGHT


def paused(log):
    return Chaos(log, kills=1, pauses=3, every_s=(0.8, 2.0), seed=2)


@pytest.mark.parametrize("server", ["redis"], indirect=True)
async def test_redis_is_killed_again_and_again_during_five_thousand_jobs(fleet, server, url, log):
    restarts = Restarts(server, (5.0, 20.0))
    report = await chaotic(restarts, fleet, 5_000, options(fleet, url))
    check_whole(report, 5_000)
    assert len(report.kills) >= 5
