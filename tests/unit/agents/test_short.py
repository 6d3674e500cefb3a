"""The short way of an agent without tools comes to what the turn machine comes to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from aurora_swarm.agents.driver import Task, run_agent
from aurora_swarm.agents.short import may_be_short
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.agents.turns import Rules
from aurora_swarm.errors import ServerError
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message
from aurora_swarm.values.outcome import Attempt, Outcome
from aurora_swarm.values.reply import Reply, Usage

HERE = AgentEndpoint("a", 1)
FAILED = Attempt(HERE, ServerError("no", endpoint=HERE.url), 0.1)


class Mark(BaseModel):
    mark: int


def answered(text: str, *failures: Attempt) -> Outcome:
    return Outcome(Reply(text, usage=Usage(7, 3, 2), ttft_s=0.5), None, HERE, failures, 1.0)


WAYS: dict[str, list[Outcome]] = {
    "valid": [answered('{"mark": 3}')],
    "valid after a retry": [answered('{"mark": 3}', FAILED)],
    "repaired": [answered("Here: {'mark': 3}")],
    "invalid, then valid": [answered("what?", FAILED), answered('{"mark": 4}')],
    "never valid": [answered("what?"), answered("{}"), answered("")],
    "failed": [Outcome(None, FAILED.error, HERE, (FAILED, FAILED), 1.0)],
    "invalid, then failed": [answered("what?"), Outcome(None, FAILED.error, HERE, (FAILED,), 1.0)],
}


async def lived(outcomes: list[Outcome], *, short: bool, schema: type[BaseModel] | None = Mark) -> tuple[Any, ...]:
    """The result, the calls and what was kept."""
    rules = Rules(output=OutputSpec(schema), max_retries=2)
    task = Task(3, "key", (Message("user", "Mark it."),), rules, "m", prefix="p", timeout_s=None if short else 60.0)
    assert may_be_short(task) is short
    calls: list[Call] = []
    kept: list[Any] = []
    script = iter(outcomes)

    async def ask(call: Call) -> Outcome:
        calls.append(call)
        return next(script)

    async def use(*_: object) -> Any:
        raise AssertionError("there are no tools")

    async def keep(step: int, heard: Any) -> None:
        kept.append((step, heard))

    result = await run_agent(task, ask, use, keep=keep)
    return msgspec.structs.replace(result, latency_s=0.0), calls, kept


@pytest.mark.parametrize("way", WAYS)
async def test_both_ways_end_alike(way: str) -> None:
    assert await lived(WAYS[way], short=True) == await lived(WAYS[way], short=False)


@pytest.mark.parametrize("text", ["an answer", "", "  "])
async def test_both_ways_end_alike_without_a_schema(text: str) -> None:
    outcomes = [answered(text), answered("then this")]
    ended = await lived(outcomes, short=True, schema=None)
    assert ended == await lived(outcomes, short=False, schema=None)
    assert ended[0].ok
