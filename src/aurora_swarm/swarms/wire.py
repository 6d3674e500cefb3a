"""What a swarm and who asks it say to each other, as plain data for JSON. Pure.

What comes from elsewhere is checked against types before anything is made of it. The times of a task's history are
those of another clock and do not travel; neither do schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from aurora_swarm import errors
from aurora_swarm.errors import AgentError, AuroraSwarmError, MemberLostError
from aurora_swarm.swarms.findings import encodable
from aurora_swarm.swarms.grants import Spent
from aurora_swarm.swarms.work import SwarmOutcome, TaskRecord, TaskSpec, TaskState
from aurora_swarm.values.budget import Budget
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Usage

DEEPEST = 32
"""Levels of swarms within swarms that are read; more are left out."""


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a swarm is asked to do.

    Args:
        objective: What is wanted; None for the swarm's own.
        context: What it should know: data, not instructions.
        budget: What it may spend.
    """

    objective: str | None = None
    context: str = ""
    budget: Budget = Budget()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a swarm answers.

    Args:
        outcome: How the objective ended.
        spent: What it has spent, by its own account; None where it keeps none, so that all of it counts.
    """

    outcome: SwarmOutcome
    spent: Spent | None = None


class _Fault(msgspec.Struct, frozen=True):
    kind: str
    message: str
    remedy: str = ""
    bound: str = ""


class _Task(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    title: str
    state: TaskState
    instructions: str = ""
    skills: tuple[str, ...] = ()
    priority: float = 0.0
    after: tuple[str, ...] = ()
    parent: str = ""
    worker: str = ""
    attempts: int = 0
    text: str = ""
    output: Any = None
    usage: Usage = Usage()
    error: _Fault | None = None


class _Outcome(msgspec.Struct, frozen=True, kw_only=True):
    objective: str
    answer: str
    tasks: tuple[_Task, ...] = ()
    usage: Usage = Usage()
    error: _Fault | None = None
    notes: tuple[str, ...] = ()
    members: dict[str, Any] = {}


class _Report(msgspec.Struct, frozen=True, kw_only=True):
    outcome: _Outcome
    spent: Spent | None = None


def order_to_data(order: Order) -> dict[str, Any]:
    """An order as plain data."""
    data: dict[str, Any] = _sendable(msgspec.to_builtins(order))
    return data


def order_from_data(data: object) -> Order:
    """An order, checked.

    Args:
        data: As of `order_to_data`, numbers as JSON has them.

    Raises:
        ValueError: It is none; the sentence says where.
    """
    order = msgspec.convert(_whole(data), Order)
    numbers = (order.budget.tokens, order.budget.usd, order.budget.wall_s, order.budget.tool_calls, order.budget.width)
    if any(number is not None and number < 0 for number in numbers):
        raise ValueError("a budget below 0")
    return order


def report_to_data(report: Report) -> dict[str, Any]:
    """A report as plain data."""
    data = {"outcome": _outcome_to(report.outcome), "spent": report.spent}
    plain: dict[str, Any] = _sendable(msgspec.to_builtins(data))
    return plain


def report_from_data(data: object) -> Report:
    """A report, checked.

    Args:
        data: As of `report_to_data`, numbers as JSON has them.

    Raises:
        ValueError: It is none; the sentence says where.
    """
    report = msgspec.convert(_whole(data), _Report)
    return Report(outcome=_outcome_from(report.outcome, 0), spent=report.spent)


def _outcome_to(outcome: SwarmOutcome) -> dict[str, Any]:
    return {
        "objective": outcome.objective,
        "answer": outcome.answer,
        "tasks": [_task_to(task) for task in outcome.tasks],
        "usage": outcome.usage,
        "error": _fault_to(outcome.error),
        "notes": outcome.notes,
        "members": {name: _outcome_to(member) for name, member in outcome.members.items()},
    }


def _task_to(task: TaskRecord) -> _Task:
    spec, result = task.spec, task.result
    output = result.as_dict()["output"] if result is not None and task.ok else None
    return _Task(
        id=task.id,
        title=spec.title,
        state=task.state,
        instructions=spec.instructions,
        skills=spec.skills,
        priority=spec.priority,
        after=spec.after,
        parent=spec.parent,
        worker=task.worker,
        attempts=task.attempts,
        text=task.text,
        output=output,
        usage=Usage() if result is None else result.usage,
        error=_fault_to(task.error),
    )


def _fault_to(error: AuroraSwarmError | None) -> _Fault | None:
    if error is None:
        return None
    return _Fault(error.kind, error.problem, error.remedy, getattr(error, "bound", ""))


def _outcome_from(outcome: _Outcome, depth: int) -> SwarmOutcome:
    members: Mapping[str, Any] = outcome.members if depth < DEEPEST else {}
    return SwarmOutcome(
        objective=outcome.objective,
        answer=outcome.answer,
        tasks=tuple(_task_from(task) for task in outcome.tasks),
        usage=outcome.usage,
        error=_error_from(outcome.error),
        notes=outcome.notes,
        members={name: _outcome_from(msgspec.convert(each, _Outcome), depth + 1) for name, each in members.items()},
    )


def _task_from(task: _Task) -> TaskRecord:
    ok = task.state is TaskState.DONE
    error = _error_from(task.error)
    result: AgentResult[Any] = AgentResult(
        0, task.id, ok, task.output if ok else None, error, text=task.text, attempts=task.attempts, usage=task.usage
    )
    return TaskRecord(
        id=task.id,
        spec=TaskSpec(
            title=task.title,
            instructions=task.instructions,
            id=task.id,
            skills=task.skills,
            priority=task.priority,
            after=task.after,
            parent=task.parent,
        ),
        state=task.state,
        worker=task.worker,
        attempts=task.attempts,
        result=result,
        error=error,
    )


_PLAIN: Mapping[str, type[AgentError]] = {
    cls("").kind: cls
    for cls in (
        errors.InvalidOutputError,
        errors.TurnLimitError,
        errors.AgentTimeoutError,
        errors.ContextError,
        errors.PlanError,
        errors.WorkerLostError,
        errors.TaskCancelledError,
        errors.MemberLostError,
        errors.UnansweredError,
        errors.CallbackError,
        errors.ToolFailedError,
    )
}


def _error_from(fault: _Fault | None) -> AuroraSwarmError | None:
    """The error as its own class where it is an agent's, else as what it is here: an agent elsewhere that failed."""
    if fault is None:
        return None
    if fault.kind == "budget":
        return errors.BudgetError(fault.message, bound=fault.bound, remedy=fault.remedy)
    return _PLAIN.get(fault.kind, AgentError)(fault.message, remedy=fault.remedy)


def lost(objective: str, name: str, why: str) -> SwarmOutcome:
    """The outcome of a swarm that did not come back.

    Args:
        objective: What it was to do.
        name: Its name.
        why: What happened, as a sentence without a full stop.
    """
    return SwarmOutcome(objective=objective, answer="", error=MemberLostError(f"{name} was lost: {why}"))


def _sendable(data: Any) -> Any:
    """The data; lone surrogates in its texts, which no JSON holds, become question marks."""
    if isinstance(data, dict):
        return {encodable(str(name)): _sendable(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_sendable(value) for value in data]
    return encodable(data) if isinstance(data, str) else data


def _whole(data: object) -> object:
    """The data, its whole numbers as integers: on the way all numbers may have become floating ones."""
    if isinstance(data, dict):
        return {str(name): _whole(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_whole(value) for value in data]
    return int(data) if isinstance(data, float) and data.is_integer() else data
