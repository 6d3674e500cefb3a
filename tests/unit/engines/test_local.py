from __future__ import annotations

import asyncio

import pytest

from aurora_swarm.engines.open import open_engine
from aurora_swarm.errors import EngineError, UsageError
from aurora_swarm.testing.virtual_time import run_virtual as run

lives: list[str] = []
HERE = __name__


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "engine_workers", sys.modules[__name__])
    lives.clear()


async def good(argument: str) -> None:
    lives.append(argument)


async def frail(argument: str) -> None:
    lives.append(argument)
    if len(lives) < 6:
        raise RuntimeError("dead")


async def endless(argument: str) -> None:
    try:
        await asyncio.sleep(1e9)
    finally:
        lives.append("ended")


async def refuses(argument: str) -> None:
    raise UsageError(f"{argument} is wrong", remedy="give another")


def blocking(argument: str) -> None: ...


def test_all_copies_run_with_the_argument() -> None:
    run(open_engine("local").keep("engine_workers:good", "a b", 3))
    assert lives == ["a b"] * 3


def test_what_dies_is_begun_again_after_growing_pauses() -> None:
    said: list[str] = []

    async def main() -> float:
        began = asyncio.get_running_loop().time()
        await open_engine("local", say=said.append).keep("engine_workers:frail", "x", 1)
        return asyncio.get_running_loop().time() - began

    assert run(main()) == pytest.approx(0.1 + 0.2 + 0.4 + 0.8 + 1.6)
    assert said[0] == "worker 0 died of RuntimeError: dead; it is begun again in 0.1 s"


@pytest.mark.parametrize("function", ["nobody_has_it:f", "engine_workers:no", "engine_workers", "engine_workers:HERE"])
def test_a_worker_that_cannot_be_imported_is_refused(function: str) -> None:
    with pytest.raises(EngineError) as caught:
        run(open_engine("local").keep(function, "", 2))
    assert caught.value.remedy


def test_a_worker_that_could_not_be_ended_is_refused() -> None:
    with pytest.raises(EngineError, match="no coroutine function"):
        run(open_engine("local").keep("engine_workers:blocking", "", 1))


def test_what_refuses_its_argument_is_not_begun_again() -> None:
    with pytest.raises(EngineError, match="x is wrong"):
        run(open_engine("local").keep("engine_workers:refuses", "x", 2))


@pytest.mark.parametrize("how", ["cancelled", "closed"])
def test_nothing_runs_after_it_was_ended(how: str) -> None:
    async def main() -> None:
        engine = open_engine("local")
        kept = asyncio.create_task(engine.keep("engine_workers:endless", "", 3))
        await asyncio.sleep(1)
        if how == "cancelled":
            kept.cancel()
            await asyncio.wait({kept})
        else:
            await engine.aclose()
            await engine.aclose()
            await asyncio.wait({kept})
        assert lives == ["ended"] * 3

    run(main())
