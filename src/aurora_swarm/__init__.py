"""Set thousands of language-model agents to work on your own inference servers.

The public names; each is loaded when it is first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aurora_swarm.batch.agent import BatchAgent
    from aurora_swarm.errors import AgentError, AuroraSwarmError, CallError, UsageError
    from aurora_swarm.inputs.hostfile import parse_hostfile, write_hostfile
    from aurora_swarm.memory.open import open_store
    from aurora_swarm.pools.agent_pool import AgentPool
    from aurora_swarm.pools.embedding_pool import EmbeddingPool
    from aurora_swarm.pools.open import open_pool
    from aurora_swarm.pools.pool import Pool
    from aurora_swarm.pools.readiness import wait_for_fleet
    from aurora_swarm.pools.vllm_pool import VLLMPool
    from aurora_swarm.swarms.agent import Agent
    from aurora_swarm.swarms.hivemind import Hivemind
    from aurora_swarm.swarms.models import Model, OpenAI
    from aurora_swarm.swarms.orchestrator import Orchestrator
    from aurora_swarm.swarms.swarm import Swarm
    from aurora_swarm.swarms.work import SwarmOutcome, TaskSpec
    from aurora_swarm.swarms.worker import Worker
    from aurora_swarm.tools.definition import Tool
    from aurora_swarm.values.budget import Budget, Price
    from aurora_swarm.values.endpoint import AgentEndpoint
    from aurora_swarm.values.outcome import AgentResult, EmbeddingResponse, Response
    from aurora_swarm.values.reply import Usage

_HOMES = {
    "Agent": "swarms.agent",
    "AgentEndpoint": "values.endpoint",
    "AgentError": "errors",
    "AgentPool": "pools.agent_pool",
    "AgentResult": "values.outcome",
    "AuroraSwarmError": "errors",
    "BatchAgent": "batch.agent",
    "Budget": "values.budget",
    "CallError": "errors",
    "EmbeddingPool": "pools.embedding_pool",
    "EmbeddingResponse": "values.outcome",
    "Hivemind": "swarms.hivemind",
    "Model": "swarms.models",
    "OpenAI": "swarms.models",
    "Orchestrator": "swarms.orchestrator",
    "Pool": "pools.pool",
    "Price": "values.budget",
    "Response": "values.outcome",
    "Swarm": "swarms.swarm",
    "SwarmOutcome": "swarms.work",
    "TaskSpec": "swarms.work",
    "Tool": "tools.definition",
    "Usage": "values.reply",
    "UsageError": "errors",
    "VLLMPool": "pools.vllm_pool",
    "Worker": "swarms.worker",
    "open_pool": "pools.open",
    "open_store": "memory.open",
    "parse_hostfile": "inputs.hostfile",
    "wait_for_fleet": "pools.readiness",
    "write_hostfile": "inputs.hostfile",
}

__all__ = [
    "Agent",
    "AgentEndpoint",
    "AgentError",
    "AgentPool",
    "AgentResult",
    "AuroraSwarmError",
    "BatchAgent",
    "Budget",
    "CallError",
    "EmbeddingPool",
    "EmbeddingResponse",
    "Hivemind",
    "Model",
    "OpenAI",
    "Orchestrator",
    "Pool",
    "Price",
    "Response",
    "Swarm",
    "SwarmOutcome",
    "TaskSpec",
    "Tool",
    "Usage",
    "UsageError",
    "VLLMPool",
    "Worker",
    "open_pool",
    "open_store",
    "parse_hostfile",
    "wait_for_fleet",
    "write_hostfile",
]

__version__ = "0.1.0.dev0"


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
