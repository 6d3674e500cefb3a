"""The fleet in memory behaves as its plan says; and a simulation notices what is broken."""

import asyncio
import random

import pytest

from aurora_swarm import errors
from aurora_swarm.dispatch.dispatcher import Dispatcher, Limits
from aurora_swarm.errors import UsageError
from aurora_swarm.testing.simulation import (
    CallPlan,
    EndpointPlan,
    Fault,
    Scenario,
    SimulatedTransport,
    answer_to,
    run_simulated,
    simulate,
)
from aurora_swarm.testing.simulation import transport as transport_module
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message
from aurora_swarm.values.outcome import Outcome
from aurora_swarm.values.reply import Reply

NODE = AgentEndpoint("node0", 8000)


def call(text="it"):
    return Call((Message("user", text),))


def run(plan, main):
    """`main(transport)` on virtual time, over one endpoint; with the time that it took."""

    async def timed():
        transport = SimulatedTransport({NODE: plan}, dice=random.Random(1))
        result = await main(transport)
        server = transport.servers[NODE]
        assert (server.open, server.running, server.queued) == (0, 0, 0)
        return result, asyncio.get_running_loop().time()

    return run_simulated(timed())


def send(transport, text="it", timeout_s=10.0):
    return transport.send(NODE, call(text), timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("kind", "error", "after_s"),
    [
        ("refuse", errors.ConnectError, 0.001),
        ("reset", errors.ConnectionLostError, 0.5),
        ("hang", errors.AttemptTimeoutError, 10),
        ("gray", errors.AttemptTimeoutError, 10),
        ("server_error", errors.ServerError, 0.001),
        ("overloaded", errors.OverloadedError, 0.001),
        ("garbage", errors.BadResponseError, 0.001),
        ("truncated", errors.TruncatedError, 0.5),
        ("abort", errors.AbortedError, 0.5),
        ("wrong_model", errors.WrongModelError, 0.001),
        ("slow", errors.AttemptTimeoutError, 10),
    ],
)
def test_a_fault_ends_an_attempt_with_its_error(kind, error, after_s):
    async def main(transport):
        with pytest.raises(error) as caught:
            await send(transport)
        assert caught.value.endpoint == NODE.url
        return transport.injected

    injected, wall = run(EndpointPlan(faults=(Fault(kind, retry_after_s=3.0),)), main)
    assert injected == {kind: 1}
    assert wall == pytest.approx(after_s)


def test_a_busy_endpoint_says_when_to_come_back():
    async def main(transport):
        with pytest.raises(errors.OverloadedError) as caught:
            await send(transport)
        return caught.value.retry_after_s

    assert run(EndpointPlan(faults=(Fault("overloaded", retry_after_s=3.0),)), main)[0] == 3.0


def test_calls_beyond_the_capacity_queue_without_a_word():
    async def main(transport):
        await asyncio.gather(*(send(transport, str(n)) for n in range(5)))
        return transport.servers[NODE].most_open, transport.most_open

    assert run(EndpointPlan(latency_s=1.0, capacity=2), main) == ((5, 5), 3.0)


def test_a_cancelled_call_makes_room_for_the_next_one():
    async def main(transport):
        first, second, third = (asyncio.create_task(send(transport, str(n))) for n in range(3))
        await asyncio.sleep(0.4)
        first.cancel()
        third.cancel()
        await asyncio.wait([first, third])
        return (await second).text

    assert run(EndpointPlan(latency_s=1.0, capacity=1), main) == (answer_to("1"), 1.4)


def test_a_server_that_goes_down_drops_what_it_has():
    async def main(transport):
        results = await asyncio.gather(*(send(transport, str(n)) for n in range(3)), return_exceptions=True)
        return [type(result) for result in results]

    plan = EndpointPlan(latency_s=1.0, capacity=1, faults=(Fault("refuse", start_s=1.5),))
    assert run(plan, main) == ([Reply, errors.ConnectionLostError, errors.ConnectionLostError], 1.5)


@pytest.mark.parametrize(("kind", "seen"), [("refuse", True), ("hang", True), ("server_error", True), ("gray", False)])
def test_some_faults_are_seen_by_probes(kind, seen):
    async def main(transport):
        try:
            await transport.probe(NODE, timeout_s=2.0)
        except errors.EndpointError:
            return True
        return False

    assert run(EndpointPlan(faults=(Fault(kind),)), main)[0] == seen


def test_parts_of_a_request_go_missing_and_the_others_are_right():
    async def main(transport):
        return await transport.send_many(NODE, [call(str(n)) for n in range(8)], timeout_s=10)

    parts, _ = run(EndpointPlan(faults=(Fault("lost_parts"),)), main)
    assert 1 <= sum(isinstance(part, errors.BadResponseError) for part in parts) <= 8
    assert all(part.text == answer_to(str(n)) for n, part in enumerate(parts) if isinstance(part, Reply))


def test_a_fault_comes_and_goes_with_its_period():
    fault = Fault("refuse", start_s=1.0, end_s=9.0, period_s=4.0)
    assert [fault.is_on(0.5 + second) for second in range(10)] == [0, 1, 1, 0, 0, 1, 1, 0, 0, 0]
    assert [fault.next_start(at) for at in (0.0, 1.0, 4.9, 5.0)] == [1.0, 5.0, 5.0, float("inf")]


@pytest.mark.parametrize("fields", [{"kind": "nonsense"}, {"kind": "reset", "rate": 1.5}])
def test_a_fault_that_makes_no_sense_is_refused(fields):
    with pytest.raises(UsageError):
        Fault(**fields)


# -- a simulation can fail: the same checks over broken parts ---------------------------------------------------------


def scenario(*faults, calls=40, endpoints=4, **fields):
    plans = (EndpointPlan(faults=faults), *(EndpointPlan() for _ in range(endpoints - 1)))
    asked = tuple(CallPlan((f"p{n}",), at_s=0.1 * n) for n in range(calls))
    return Scenario(seed=1, endpoints=plans, calls=asked, limits=Limits(deadline_s=2e4), **fields)


def test_a_sound_fleet_violates_nothing():
    report = simulate(scenario())
    assert report.violations == ()
    assert report.answered == 40
    assert not report.injected


def test_a_wrong_answer_is_noticed(monkeypatch):
    monkeypatch.setattr(transport_module, "_reply", lambda call: Reply("something else"))
    assert "got the answer 'something else'" in simulate(scenario()).violations[0]


def test_a_swallowed_cancellation_is_noticed(monkeypatch):
    async def stubborn(self, call, view, **how):
        try:
            return await ask(self, call, view, **how)
        except asyncio.CancelledError:
            return Outcome(Reply(answer_to(call.messages[0].content)), None, self.endpoints[0])

    ask = Dispatcher.ask
    monkeypatch.setattr(Dispatcher, "ask", stubborn)
    asked = (CallPlan(("p",), cancel_after_s=0.5),)
    report = simulate(Scenario(seed=1, endpoints=(EndpointPlan(),), calls=asked))
    assert any("swallowed its cancellation" in violation for violation in report.violations)


def test_a_task_that_is_left_over_is_noticed(monkeypatch):
    async def careless(self, call, view, **how):
        stray.append(asyncio.ensure_future(asyncio.sleep(1e6)))
        return await ask(self, call, view, **how)

    stray, ask = [], Dispatcher.ask
    monkeypatch.setattr(Dispatcher, "ask", careless)
    assert any("left over: task" in violation for violation in simulate(scenario(calls=1)).violations)


def test_a_call_that_never_ends_is_noticed(monkeypatch):
    async def lazy(self, call, view, **how):
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(Dispatcher, "ask", lazy)
    assert any("never ended" in violation for violation in simulate(scenario(calls=1)).violations)


def test_giving_up_beside_a_sound_endpoint_is_noticed(monkeypatch):
    async def faint(self, call, view, **how):
        outcome = await ask(self, call, view, **how)
        error = outcome.failures[0].error if outcome.failures else None
        return outcome if error is None else Outcome(None, error, outcome.endpoint, outcome.failures[:1])

    ask = Dispatcher.ask
    monkeypatch.setattr(Dispatcher, "ask", faint)
    violations = simulate(scenario(Fault("server_error"))).violations
    assert any("though an endpoint was sound" in violation for violation in violations)
    assert any("attempts" in violation for violation in violations)
