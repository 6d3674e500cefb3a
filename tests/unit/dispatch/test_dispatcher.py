"""The dispatcher keeps its promises, shown on virtual time."""

import asyncio

import pytest

from aurora_swarm import errors
from aurora_swarm.dispatch.dispatcher import Dispatcher, Limits
from aurora_swarm.values.call import Call
from aurora_swarm.values.message import Message
from aurora_swarm.values.policy import RetryPolicy


def call(text="hi", turns_left=0):
    return Call(messages=(Message("user", text),), turns_left=turns_left)


def now():
    return asyncio.get_running_loop().time()


async def ask_all(dispatcher, view, n):
    return await asyncio.gather(*(dispatcher.ask(call(str(i)), view) for i in range(n)))


def refused(*_):
    return errors.ConnectError("connection refused")


def test_calls_are_answered_and_spread_evenly(fleet):
    async def main(dispatcher, view, world):
        outcomes = await ask_all(dispatcher, view, 40)
        return [o.reply.text.split(":")[1] for o in outcomes], sorted(world.sent.values())

    texts, sent = fleet(4, lambda i, t: 1.0, main)
    assert texts == [str(i) for i in range(40)]
    assert sent == [10, 10, 10, 10]


def test_the_concurrency_limit_holds(fleet):
    async def main(dispatcher, view, world):
        await ask_all(dispatcher, view, 50)
        return world.busiest, now()

    busiest, wall = fleet(4, lambda i, t: 1.0, main, concurrency=10)
    assert busiest == 10
    assert wall == pytest.approx(5.0)


def test_a_fast_endpoint_gets_more_work_than_a_slow_one(fleet):
    async def main(dispatcher, view, world):
        await ask_all(dispatcher, view, 110)
        return world.sent

    sent = fleet(2, lambda i, t: (0.1, 1.0)[i], main, concurrency=2)
    assert sent[0] >= 9 * sent[1]


def test_a_failed_call_is_answered_elsewhere_at_once(fleet):
    async def main(dispatcher, view, world):
        return await dispatcher.ask(call(), view, pin=0), now()

    outcome, wall = fleet(2, lambda i, t: refused() if i == 0 else 0.5, main)
    assert outcome.reply.text == "1:hi"
    assert outcome.attempts == 2
    assert isinstance(outcome.failures[0].error, errors.ConnectError)
    assert wall == pytest.approx(0.5)


def test_a_rejected_prompt_fails_at_once_and_rests_nobody(fleet):
    async def main(dispatcher, view, world):
        outcomes = await ask_all(dispatcher, view, 20)
        return outcomes, dispatcher.statistics([0, 1])

    outcomes, statistics = fleet(2, lambda i, t: errors.RequestRejectedError("too long", status=413), main)
    assert {type(o.error) for o in outcomes} == {errors.RequestRejectedError}
    assert {o.attempts for o in outcomes} == {1}
    assert {e.condition for e in statistics.endpoints} == {"well"}


def test_a_dead_endpoint_costs_at_most_three_attempts_beyond_those_under_way(fleet):
    async def main(dispatcher, view, world):
        for i in range(100):
            assert (await dispatcher.ask(call(str(i)), view)).reply is not None
        return world.sent[0]

    assert fleet(4, lambda i, t: refused() if i == 0 else 0.01, main) <= 3


def test_a_dead_fifth_of_the_fleet_fails_no_call(fleet):
    async def main(dispatcher, view, world):
        outcomes = await ask_all(dispatcher, view, 1000)
        return [o for o in outcomes if o.error], sum(o.attempts for o in outcomes)

    failed, attempts = fleet(20, lambda i, t: refused() if i % 5 == 0 else 0.5, main, concurrency=80)
    assert failed == []
    assert attempts <= 1050


def test_an_endpoint_that_comes_back_is_used_again_within_ten_seconds(fleet):
    async def main(dispatcher, view, world):
        back = None
        while back is None:
            outcome = await dispatcher.ask(call(), view)
            if outcome.endpoint is world.endpoints[0] and outcome.reply and now() > 60:
                back = now()
        return back, world.probes[0]

    back, probes = fleet(2, lambda i, t: refused() if i == 0 and t < 60 else 0.2, main)
    assert 60 < back <= 70
    assert 5 <= probes <= 15


def test_an_outage_of_a_minute_is_waited_out_with_few_attempts(fleet):
    async def main(dispatcher, view, world):
        outcomes = await ask_all(dispatcher, view, 200)
        return outcomes, world.sent.total(), now()

    outcomes, sent, wall = fleet(4, lambda i, t: refused() if t < 60 else 0.1, main, concurrency=16)
    assert all(o.reply for o in outcomes)
    assert sent <= 1.2 * 200
    assert wall <= 70


def test_calls_fail_with_a_reason_when_an_outage_outlasts_their_patience(fleet):
    async def main(dispatcher, view, world):
        return await ask_all(dispatcher, view, 50), now()

    outcomes, wall = fleet(3, refused, main, deadline_s=30.0)
    assert all(o.reply is None for o in outcomes)
    assert any("connection refused" in str(o.error) for o in outcomes)
    assert wall == pytest.approx(30.0, abs=1.0)


def test_total_failure_costs_no_more_than_the_retry_budget(fleet):
    async def main(dispatcher, view, world):
        outcomes = []
        for _ in range(10):
            outcomes += await ask_all(dispatcher, view, 100)
        return sum(o.attempts for o in outcomes), len(outcomes)

    attempts, calls = fleet(50, lambda i, t: errors.BadResponseError("junk"), main, concurrency=100, deadline_s=5.0)
    policy = RetryPolicy()
    assert attempts <= (1 + policy.budget_ratio) * calls + policy.budget_floor


def test_a_busy_endpoint_is_left_alone_for_as_long_as_it_asked(fleet):
    async def main(dispatcher, view, world):
        outcomes = await ask_all(dispatcher, view, 30)
        return outcomes, world.sent[0], now()

    def behave(index, time):
        if index == 0 and time < 7:
            return errors.OverloadedError("busy", status=429, retry_after_s=7.0)
        return 1.0

    outcomes, sent_to_busy, wall = fleet(2, behave, main, concurrency=6)
    assert all(o.reply for o in outcomes)
    assert sent_to_busy <= 6
    assert wall < 7


def test_everybody_busy_means_waiting_not_failing(fleet):
    async def main(dispatcher, view, world):
        return await ask_all(dispatcher, view, 30), now()

    def behave(index, time):
        return errors.OverloadedError("busy", status=429, retry_after_s=10.0) if time < 25 else 0.1

    outcomes, wall = fleet(2, behave, main, concurrency=8)
    assert all(o.reply for o in outcomes)
    assert wall < 45


def test_an_endpoint_with_another_model_is_left_out(fleet):
    async def main(dispatcher, view, world):
        outcomes = await ask_all(dispatcher, view, 20)
        return outcomes, world.sent[0], dispatcher.statistics([0]).endpoints[0].condition

    outcomes, sent, condition = fleet(
        2, lambda i, t: errors.WrongModelError("serves other") if i == 0 else 0.1, main, concurrency=2
    )
    assert all(o.reply for o in outcomes)
    assert sent == 1
    assert condition == "excluded"


def test_no_endpoint_with_the_model_fails_every_call_at_once(fleet):
    async def main(dispatcher, view, world):
        return await ask_all(dispatcher, view, 20), now()

    outcomes, wall = fleet(2, lambda i, t: errors.WrongModelError("serves other"), main, concurrency=2)
    assert {type(o.error) for o in outcomes} == {errors.WrongModelError}
    assert wall < 1


def test_a_strict_call_is_answered_by_its_endpoint_or_nobody(fleet):
    async def main(dispatcher, view, world):
        outcomes = await asyncio.gather(*(dispatcher.ask(call(), view, pin=i, strict=True) for i in range(3)))
        return outcomes, now()

    outcomes, wall = fleet(3, lambda i, t: refused() if i == 1 else 0.1, main)
    assert [o.reply is not None for o in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, errors.ConnectError)
    assert wall < 20


def test_a_gate_full_of_slow_calls_does_not_use_up_the_deadline_of_waiting_ones(fleet):
    async def main(dispatcher, view, world):
        return await ask_all(dispatcher, view, 30)

    assert all(o.reply for o in fleet(1, lambda i, t: 20.0, main, concurrency=1, deadline_s=60.0))


def test_nearly_finished_agents_go_first(fleet):
    async def main(dispatcher, view, world):
        finished = []

        async def one(name, turns_left):
            await dispatcher.ask(call(name, turns_left), view)
            finished.append(name)

        await asyncio.gather(one("running", 0), one("fresh", 3), one("half", 2), one("last", 0))
        return finished

    assert fleet(1, lambda i, t: 0.1, main, concurrency=1) == ["running", "last", "half", "fresh"]


def test_cancelling_at_any_moment_leaks_no_slot(fleet):
    async def main(dispatcher, view, world):
        for moment in range(60):
            calls = [asyncio.ensure_future(dispatcher.ask(call(str(i)), view)) for i in range(12)]
            await asyncio.sleep(moment * 0.05)
            for task in calls[::2]:
                task.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            statistics = dispatcher.statistics(range(3))
            assert (statistics.outstanding, statistics.waiting) == (0, 0)
            assert [e.outstanding for e in statistics.endpoints] == [0, 0, 0]
        return (await dispatcher.ask(call(), view)).reply

    assert fleet(3, lambda i, t: refused() if int(t * 10) % 7 == 0 else 0.3, main, concurrency=4)


def test_closing_fails_whoever_waits(fleet):
    async def main(dispatcher, view, world):
        tasks = [asyncio.ensure_future(dispatcher.ask(call(), view)) for _ in range(5)]
        await asyncio.sleep(0.1)
        await dispatcher.aclose()
        return await asyncio.gather(*tasks)

    outcomes = fleet(1, lambda i, t: 1.0, main, concurrency=2)
    assert [type(o.error) for o in outcomes if o.error] == [errors.CallCancelledError] * 3


def test_an_empty_fleet_is_refused():
    with pytest.raises(errors.NoEndpointsError):
        Dispatcher([], None)


@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_a_limit_that_is_not_positive_is_refused(name):
    with pytest.raises(errors.UsageError, match=name):
        Dispatcher(["somebody"], None, limits=Limits(**{name: 0}))
