"""One factory opens what processes share by URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from aurora_swarm.errors import UsageError
from aurora_swarm.journal.shards import open_shards
from aurora_swarm.values.shard import RunPlan

PLAN = RunPlan(run="run-1", shards=4, digest="d1")


@pytest.mark.parametrize("url", ["", "run.db", "postgres://host/db", "sqlite://", "sqlite://nul\0nul", "memory://"])
async def test_other_places_are_refused_with_a_remedy(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        await open_shards(url, PLAN)
    assert "redis://" in caught.value.remedy


@pytest.mark.parametrize("run", ["", " ", "a/b", "{a}", "a:b", "*", "-", "a" * 101, "sch\u00f6n", "a\n"])
async def test_an_id_that_is_none_is_refused(run: str) -> None:
    with pytest.raises(UsageError, match="no id of a run"):
        await open_shards("redis://localhost", run=run)


@pytest.mark.parametrize(
    "plan",
    [
        RunPlan(run="another"),
        RunPlan(run="run-1", shards=0),
        RunPlan(run="run-1", shards=4_097),
        RunPlan(run="run-1", lease_s=0.0),
        RunPlan(run="run-1", lease_s=float("nan")),
    ],
)
async def test_a_plan_that_cannot_be_is_refused(plan: RunPlan) -> None:
    with pytest.raises(UsageError) as caught:
        await open_shards("redis://localhost", plan, run="run-1")
    assert caught.value.remedy


@pytest.mark.parametrize(
    "url", ["redis://:pass%20word@localhost:port", "redis://:pa55@[::1", "unix://", "redis://h?journal=a"]
)
async def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        await open_shards(url, PLAN, patience_s=0.0)
    assert "pa" not in str(caught.value).replace("path", "")


async def test_a_run_of_something_else_is_not_continued(tmp_path: Path) -> None:
    place = f"sqlite://{tmp_path / 'runs'}"
    first = await open_shards(place, PLAN)
    with pytest.raises(UsageError, match="begun with another task"):
        await open_shards(place, RunPlan(run="run-1", shards=4, digest="d2"))
    same = await open_shards(place, RunPlan(run="run-1", shards=8, digest="d1"))
    opened = await open_shards(place, run="run-1")
    assert opened.plan == same.plan == first.plan == PLAN
    for store in (first, same, opened):
        await store.aclose()
