"""A real run, steered over its socket while its workers wait for simulated servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from aurora_swarm.errors import UsageError
from aurora_swarm.swarms.control_client import ask_run
from aurora_swarm.swarms.control_server import serve_controls
from aurora_swarm.swarms.control_wire import Reply, Request
from aurora_swarm.swarms.models import Model
from aurora_swarm.swarms.orchestrator import Orchestrator
from aurora_swarm.swarms.session import Session
from aurora_swarm.swarms.work import TaskSpec, TaskState
from aurora_swarm.testing.fleet import ServerPlan, SimulatedFleet

Ask = Callable[..., Awaitable[Reply]]
TASKS = tuple(TaskSpec(title=f"Question {n}", id=f"task-{n}") for n in range(6))


@pytest.fixture
async def fleet() -> AsyncIterator[SimulatedFleet]:
    async with SimulatedFleet([ServerPlan(latency_s=0.3, tokens=4)]) as fleet:
        yield fleet


@pytest.fixture
async def session(fleet: SimulatedFleet) -> AsyncIterator[Session]:
    model = Model(backend=[endpoint.url for endpoint in fleet.endpoints])
    async with Orchestrator(model, nodes=2).open() as session:
        yield session


@pytest.fixture
async def ask(session: Session, tmp_path: Path) -> AsyncIterator[Ask]:
    async with serve_controls(session, tmp_path / "run.sock") as path:

        async def asked(op: str, **fields: object) -> Reply:
            return await asyncio.to_thread(ask_run, path, Request(op=op, **fields))  # type: ignore[arg-type]

        yield asked


async def ended(session: Session) -> dict[str, TaskState]:
    async with asyncio.timeout(20):
        async for _ in session.results():
            pass
    return {record.id: record.state for record in session.records()}


async def test_a_run_is_shown_while_it_works(session: Session, ask: Ask) -> None:
    session.add_all(TASKS)
    status = (await ask("status")).status
    assert status is not None
    assert (status.id, status.phase) == (session.id, "working")
    assert dict(status.tasks) == {"running": 2, "ready": 4}
    running = (await ask("items", kind="task", state="running")).items or []
    assert {item.id for item in running} == {"task-0", "task-1"}
    (worker,) = (await ask("item", id=running[0].partner)).items or []
    assert (worker.kind, worker.partner) == ("worker", running[0].id)
    assert set((await ended(session)).values()) == {TaskState.DONE}


async def test_a_paused_run_begins_nothing_until_it_is_resumed(session: Session, ask: Ask) -> None:
    session.add_all(TASKS)
    await ask("pause", id=session.id)
    await asyncio.sleep(0.8)
    status = (await ask("status")).status
    assert status is not None
    assert (status.phase, status.tasks.get("ready")) == ("paused", 4)
    await ask("resume", id=session.id)
    assert set((await ended(session)).values()) == {TaskState.DONE}


async def test_one_task_of_many_is_cancelled_and_taken_up_again(session: Session, ask: Ask) -> None:
    session.add_all(TASKS)
    await ask("cancel", id="task-1")
    await ask("cancel", id="task-5")
    await ask("requeue", id="task-5")
    states = await ended(session)
    assert states.pop("task-1") is TaskState.CANCELLED
    assert set(states.values()) == {TaskState.DONE}
    with pytest.raises(UsageError) as refused:
        await ask("pause", id="task-1")
    assert str(refused.value)


async def test_what_is_said_to_a_task_reaches_its_model(session: Session, ask: Ask) -> None:
    session.add_all(TASKS)
    await ask("steer", id="task-4", text="Answer with the word banana.")
    await ended(session)
    assert "banana" in session.record("task-4").text  # the simulated servers repeat the end of what they are asked
    assert "banana" not in session.record("task-3").text


async def test_a_cancelled_run_ends(session: Session, ask: Ask) -> None:
    session.add_all(TASKS)
    await ask("cancel", id=session.id)
    assert set((await ended(session)).values()) == {TaskState.CANCELLED}
