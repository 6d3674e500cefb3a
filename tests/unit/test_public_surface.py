"""The public names: nothing is public by accident, and importing costs nothing."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

import aurora_swarm

# A name that is added here stays for good; docs/reference shows it, and a news fragment announces it.
PUBLIC = {
    # the fleet
    "AgentEndpoint",
    "AgentPool",
    "EmbeddingPool",
    "EmbeddingResponse",
    "Pool",
    "Response",
    "Usage",
    "VLLMPool",
    "open_pool",
    "parse_hostfile",
    "wait_for_fleet",
    "write_hostfile",
    # a list in, a list out
    "AgentResult",
    "BatchAgent",
    "Budget",
    "Price",
    "Tool",
    # a society
    "Agent",
    "Hivemind",
    "Model",
    "OpenAI",
    "Orchestrator",
    "Swarm",
    "SwarmOutcome",
    "TaskSpec",
    "Worker",
    "open_store",
    # errors that callers catch; the rest of the tree is in aurora_swarm.errors
    "AgentError",
    "AuroraSwarmError",
    "CallError",
    "UsageError",
}

# Extras, and what is heavy or acts when it is imported.
NOT_LOADED = {
    "a2a",
    "asyncio",
    "chromadb",
    "json_repair",
    "jsonschema",
    "numpy",
    "pydantic",
    "ray",
    "redis",
    "rich",
    "ry",
    "starlette",
    "typer",
    "uvloop",
    "wordllama",
    "xllamacpp",
    "yaml",
}


def test_these_names_are_public_and_no_others() -> None:
    assert set(aurora_swarm.__all__) == PUBLIC


def test_the_public_names_are_what_dir_shows() -> None:
    assert {name for name in dir(aurora_swarm) if not name.startswith("_")} >= PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    thing = getattr(aurora_swarm, name)
    assert inspect.getdoc(thing)
    assert thing.__name__ == name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = aurora_swarm.no_such_name


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = "import json, sys, aurora_swarm; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not NOT_LOADED & set(json.loads(done.stdout))
