"""What swarms say to each other, there and back through JSON whose numbers are all floating ones."""

import json

import pytest
from pydantic import BaseModel

from aurora_swarm import errors
from aurora_swarm.swarms.grants import Spent
from aurora_swarm.swarms.wire import Order, Report, order_from_data, order_to_data, report_from_data, report_to_data
from aurora_swarm.swarms.work import SwarmOutcome, TaskRecord, TaskSpec, TaskState
from aurora_swarm.values.budget import Budget
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Usage


class Year(BaseModel):
    year: int


def travelled(data):
    return json.loads(json.dumps(data), parse_int=float)


def test_an_order_arrives_as_it_was():
    order = Order(objective="o", context="c {x}", budget=Budget(tokens=5, usd=1.5, wall_s=2.0))
    assert order_from_data(travelled(order_to_data(order))) == order


@pytest.mark.parametrize(
    "data", [None, [], {"objective": 3}, {"more": 1}, {"budget": {"tokens": -1}}, {"budget": {"tokens": 1.5}}]
)
def test_what_is_no_order_is_refused(data):
    with pytest.raises(ValueError, match=r"\S"):
        order_from_data(data)


def test_a_report_arrives_with_tasks_errors_notes_and_members():
    done = AgentResult(0, "t1", True, Year(year=1994), None, text='{"year": 1994}', attempts=2, usage=Usage(5, 6, 1))
    tasks = (
        TaskRecord(
            id="t1", spec=TaskSpec(title="T", instructions="i", priority=2.0), state=TaskState.DONE, result=done
        ),
        TaskRecord(id="t2", spec=TaskSpec(title="U"), state=TaskState.FAILED, error=errors.TurnLimitError("too long")),
    )
    inner = SwarmOutcome(objective="i", answer="", error=errors.BudgetError("spent", bound="tokens", remedy="more"))
    outcome = SwarmOutcome(
        objective="o", answer="a", tasks=tasks, usage=Usage(1, 2), notes=("n",), members={"m": inner}
    )
    report = report_from_data(travelled(report_to_data(Report(outcome=outcome, spent=Spent(9, Usage(1, 2), 3)))))
    got = report.outcome
    assert report.spent == Spent(9, Usage(1, 2), 3)
    assert (got.objective, got.answer, got.usage, got.notes) == ("o", "a", Usage(1, 2), ("n",))
    assert (got.tasks[0].text, got.tasks[0].result.output, got.tasks[0].spec.priority) == (
        '{"year": 1994}', {"year": 1994}, 2.0)  # fmt: skip
    assert got.tasks[1].error == errors.TurnLimitError("too long")
    assert got.members["m"].error == errors.BudgetError("spent", bound="tokens", remedy="more")


def test_errors_that_are_no_agents_are_agents_that_failed_elsewhere():
    outcome = SwarmOutcome(objective="o", answer="", error=errors.ConnectError("refused", endpoint="http://inner:1"))
    got = report_from_data(travelled(report_to_data(Report(outcome=outcome)))).outcome
    assert type(got.error) is errors.AgentError
    assert str(got.error) == "refused"
    assert "inner" not in json.dumps(report_to_data(Report(outcome=outcome)))


def nested(depth):
    data = {"objective": "o", "answer": "a"}
    for _ in range(depth):
        data = {"objective": "o", "answer": "a", "members": {"m": data}}
    return {"outcome": data}


def test_members_within_members_end_somewhere():
    outcome = report_from_data(nested(100)).outcome
    depth = 0
    while outcome.members:
        outcome, depth = outcome.members["m"], depth + 1
    assert depth == 32


@pytest.mark.parametrize("data", [{}, {"outcome": {"answer": "a"}}, {"outcome": {"objective": "o", "answer": 5}}])
def test_what_is_no_report_is_refused(data):
    with pytest.raises(ValueError, match=r"\S"):
        report_from_data(data)
