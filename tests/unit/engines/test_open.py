from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from aurora_swarm.engines.open import open_engine
from aurora_swarm.errors import EngineError, UsageError


@pytest.mark.parametrize("place", ["", "slurm", "ray:/x", "rayon", "ray://", "ray://host", "ray://host:x", "ray://:1"])
def test_what_names_no_engine_is_refused(place: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_engine(place)
    assert caught.value.remedy


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        open_engine("ray")
    assert "aurora-swarm[ray]" in caught.value.remedy


def test_ray_is_imported_where_it_is_chosen_only() -> None:
    code = (
        "import sys; from aurora_swarm.engines.open import open_engine\n"
        "open_engine('local'), open_engine('processes')\n"
        "sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


async def test_a_cluster_that_is_not_there_is_said_at_once() -> None:
    engine = open_engine("ray://127.0.0.1:1", say=lambda line: None)
    try:
        with pytest.raises(EngineError, match=r"127\.0\.0\.1:1 cannot be joined") as caught:
            await engine.keep("aurora_swarm.engines.calling:found", "", 1)
    finally:
        await engine.aclose()
        await engine.aclose()
    assert caught.value.remedy


def test_the_address_of_ray_client_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(UsageError, match="Ray Client"):
        open_engine("ray")
