"""Waiting for a fleet, on virtual time."""

import asyncio

import pytest

from aurora_swarm import errors
from aurora_swarm.pools.readiness import Patience, wait_for_fleet
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.values.reply import EndpointInfo


class Rising:
    """Endpoints that come up at a time of their own; a host that is not listed never does."""

    def __init__(self, up_at, models=("m",)):
        self.up_at = up_at
        self.models = models
        self.looks = []

    async def probe(self, endpoint, *, timeout_s):
        now = asyncio.get_running_loop().time()
        self.looks.append((now, endpoint.host))
        if now < self.up_at.get(endpoint.host, float("inf")):
            raise errors.ConnectError("connection refused", endpoint=endpoint.url)
        return EndpointInfo(models=self.models)


def wait(path, up_at, *, model="", models=("m",), **patience):
    said, world = [], Rising(up_at, models)

    async def main():
        return await wait_for_fleet(path, world, Patience(**patience), model=model, say=said.append)

    return run_virtual(main()), said, world


@pytest.fixture
def hostfile(tmp_path):
    path = tmp_path / "hosts.txt"
    path.write_text("a:8000 role=x\nb:8000\nc:8000\n")
    return path


def test_all_healthy_means_no_waiting(hostfile):
    readiness, said, _ = wait(hostfile, {"a": 0, "b": 0, "c": 0})
    assert [e.host for e in readiness.ready] == ["a", "b", "c"]
    assert readiness.missing == ()
    assert readiness.waited_s < 2
    assert any("healthy http://a:8000" in line for line in said)


def test_tags_survive(hostfile):
    readiness, _, _ = wait(hostfile, {"a": 0, "b": 0, "c": 0})
    assert readiness.ready[0].tags == {"role": "x"}


def test_late_servers_are_waited_for(hostfile):
    readiness, _, _ = wait(hostfile, {"a": 10, "b": 400, "c": 900}, health_timeout_s=1000)
    assert len(readiness.ready) == 3
    assert 900 <= readiness.waited_s < 910


def test_the_health_clock_starts_at_the_first_healthy_server(hostfile):
    readiness, said, _ = wait(hostfile, {"a": 90, "b": 120}, health_timeout_s=100)
    assert [e.host for e in readiness.ready] == ["a", "b"]
    assert 190 <= readiness.waited_s < 200
    assert any(line.startswith("dropped http://c:8000: connection refused") for line in said)


def test_a_healthy_server_is_looked_at_once(hostfile):
    _, _, world = wait(hostfile, {"a": 0, "b": 50}, health_timeout_s=100)
    assert [host for _, host in world.looks].count("a") == 1


def test_too_few_healthy_servers_are_a_failure(hostfile):
    with pytest.raises(errors.NothingListensError, match="1 of 3 endpoints are healthy, 2 are wanted"):
        wait(hostfile, {"a": 0}, health_timeout_s=10, min_hosts=2)


def test_too_small_a_share_is_a_failure(hostfile):
    with pytest.raises(errors.NothingListensError):
        wait(hostfile, {"a": 0, "b": 0}, health_timeout_s=10, min_fraction=0.9)


def test_no_healthy_server_ends_the_waiting(hostfile):
    with pytest.raises(errors.NothingListensError, match="0 of 3"):
        wait(hostfile, {}, health_timeout_s=10, first_timeout_s=5)


def test_a_server_with_another_model_does_not_count(hostfile):
    with pytest.raises(errors.NothingListensError):
        wait(hostfile, {"a": 0, "b": 0, "c": 0}, model="other", health_timeout_s=5)


def test_a_hostfile_that_appears_later_is_waited_for(tmp_path):
    path = tmp_path / "later.txt"
    world = Rising({"a": 0})
    said = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_later(3600, path.write_text, "a:8000\n")
        return await wait_for_fleet(path, world, Patience(), say=said.append)

    readiness = run_virtual(main())
    assert len(readiness.ready) == 1
    assert readiness.waited_s >= 3600
    assert any("to appear" in line for line in said)


def test_a_hostfile_that_never_appears_is_an_error_that_names_it(tmp_path):
    with pytest.raises(errors.HostfileError, match=r"never\.txt: did not appear within 60 s"):
        wait(tmp_path / "never.txt", {}, hostfile_timeout_s=60)


@pytest.mark.parametrize("patience", [{"min_fraction": 1.5}, {"min_fraction": -0.1}, {"min_hosts": 0}])
def test_impatience_that_makes_no_sense_is_refused(hostfile, patience):
    with pytest.raises(errors.UsageError):
        wait(hostfile, {"a": 0}, **patience)
