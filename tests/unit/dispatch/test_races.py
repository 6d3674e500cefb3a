"""Late, hung and movable attempts get rivals; bundles are kept, halved and asked again; prefixes share endpoints."""

import asyncio
import random

import pytest

from aurora_swarm.dispatch.dispatcher import Dispatcher, Limits
from aurora_swarm.dispatch.prefixes import groups, plan
from aurora_swarm.errors import BadResponseError, BatchUnsupportedError, RequestRejectedError, ServerError
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message
from aurora_swarm.values.policy import HedgePolicy
from aurora_swarm.values.reply import EndpointInfo, Reply

HEDGE = HedgePolicy()


def call(text, **fields):
    return Call((Message("user", text),), **fields)


def fleet_of(size):
    return [AgentEndpoint(f"node{i}", 8000) for i in range(size)]


def drive(size, delay, calls, *, width=64, hedge=HEDGE, script=None, **limits):
    """Ask in virtual time, `width` at once; delay(index, call number) in seconds. Outcomes, statistics, wall."""
    endpoints = fleet_of(size)
    place = {e: i for i, e in enumerate(endpoints)}

    async def main():
        transport = ScriptedTransport(
            script or (lambda c, e: Reply(c.messages[0].content)),
            delay_s=lambda c, e: delay(place[e], int(c.messages[0].content)),
        )
        dispatcher = Dispatcher(endpoints, transport, hedge=hedge, limits=Limits(**limits), dice=random.Random(1))
        view = dispatcher.view(range(size))
        outcomes, source = {}, iter(range(calls))

        async def worker():
            for number in source:
                outcomes[number] = await dispatcher.ask(call(str(number)), view)

        async with asyncio.TaskGroup() as group:
            for _ in range(width):
                group.create_task(worker())
        wall = asyncio.get_running_loop().time()
        statistics = dispatcher.statistics(range(size))
        await dispatcher.aclose()
        await asyncio.sleep(1)
        assert dispatcher.statistics(range(size)).outstanding == 0
        return [outcomes[i] for i in range(calls)], statistics, wall

    return run_virtual(main())


def test_hedging_takes_the_tail_off_and_costs_two_percent_at_most():
    dice = random.Random(7)
    seen = {}

    def delay(index, number):
        seen[number] = seen.get(number, 0) + 1
        slow = seen[number] == 1 and dice.random() < 0.01
        return dice.uniform(0.8, 1.2) * (100 if slow else 1)

    hedged, statistics, _ = drive(16, delay, 6000)
    seen.clear()
    plain, _, _ = drive(16, delay, 6000, hedge=None)
    tail = [sorted(o.latency_s for o in outcomes)[-6] for outcomes in (hedged, plain)]
    assert all(o.error is None for o in hedged)
    assert tail[0] * 10 <= tail[1]
    assert statistics.hedges + statistics.moves <= 0.02 * 6000 + 2 * HEDGE.budget_floor
    assert statistics.hedges + statistics.moves >= 20


def test_the_reply_of_a_race_is_the_right_one_and_names_who_gave_it():
    outcomes, statistics, _ = drive(8, lambda index, n: 500.0 if n % 97 == 0 and index < 4 else 1.0, 1000)
    assert [o.reply.text for o in outcomes] == [str(i) for i in range(1000)]
    raced = [o for o in outcomes if o.failures]
    assert raced
    assert statistics.hedges + statistics.moves > 0
    assert all(o.attempts >= 2 and o.endpoint not in [f.endpoint for f in o.failures] for o in raced)


def test_endpoints_that_hang_are_rested_and_nothing_fails():
    hung = {0, 5, 9, 13}
    outcomes, statistics, wall = drive(
        20, lambda i, n: 1e6 if i in hung else 1.0, 4000, width=80, attempt_timeout_s=1e5
    )
    assert all(o.error is None for o in outcomes)
    assert sum(o.attempts for o in outcomes) <= 1.05 * 4000
    assert wall <= 1.1 * 4000 / 80 * 20 / 16
    assert all(statistics.endpoints[i].condition != "well" for i in hung)


def test_work_moves_from_slow_to_idle_endpoints_at_the_end():
    def speed(index, number):
        return 30.0 if index == 0 else 1.0

    outcomes, statistics, wall = drive(8, speed, 160, width=16, concurrency=16)
    assert all(o.error is None for o in outcomes)
    assert statistics.moves + statistics.hedges >= 1
    assert wall < 16


def test_a_long_answer_is_never_given_up_for_being_long():
    outcomes, _, _ = drive(4, lambda i, n: 300.0 if n == 77 else 1.0, 400, attempt_timeout_s=1000.0, deadline_s=2000.0)
    assert all(o.error is None for o in outcomes)


def test_one_endpoint_alone_races_nobody():
    outcomes, statistics, _ = drive(1, lambda i, n: 50.0 if n == 30 else 1.0, 100)
    assert all(o.attempts == 1 for o in outcomes)
    assert statistics.hedges == statistics.moves == 0


def test_cancelling_a_caller_in_a_race_leaves_nothing_behind():
    async def main():
        endpoints = fleet_of(4)
        transport = ScriptedTransport(
            lambda c, e: Reply("x"), delay_s=lambda c, e: 900.0 if c.messages[0].content == "slow" else 1.0
        )
        dispatcher = Dispatcher(endpoints, transport, limits=Limits(attempt_timeout_s=1000.0))
        view = dispatcher.view(range(4))
        await asyncio.gather(*(dispatcher.ask(call(str(i)), view) for i in range(200)))
        slow = asyncio.create_task(dispatcher.ask(call("slow"), view))
        await asyncio.sleep(20)
        assert dispatcher.statistics(range(4)).outstanding == 2
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert dispatcher.statistics(range(4)).outstanding == 0
        assert len(asyncio.all_tasks()) == 1
        await dispatcher.aclose()

    run_virtual(main())


class Bundles(ScriptedTransport):
    """Answers requests of many calls as a function of the texts says."""

    def __init__(self, answer):
        super().__init__(lambda c, e: Reply("single " + c.messages[0].content))
        self.answer = answer
        self.requests = []

    async def send_many(self, endpoint, calls, *, timeout_s):
        texts = [c.messages[0].content for c in calls]
        self.requests.append(texts)
        result = self.answer(texts)
        if isinstance(result, Exception):
            raise result
        return result


def ask_many(transport, texts, size=2):
    async def main():
        dispatcher = Dispatcher(fleet_of(size), transport)
        outcomes = await dispatcher.ask_many([call(t) for t in texts], dispatcher.view(range(size)))
        assert dispatcher.statistics(range(size)).outstanding == 0
        await dispatcher.aclose()
        return outcomes

    return run_virtual(main())


def test_a_bundle_is_one_request_answered_in_order():
    transport = Bundles(lambda texts: [Reply(t.upper()) for t in texts])
    outcomes = ask_many(transport, "abc")
    assert [o.reply.text for o in outcomes] == ["A", "B", "C"]
    assert len(transport.requests) == 1


def test_parts_that_failed_are_asked_again_alone():
    transport = Bundles(lambda texts: [BadResponseError("missing") if t == "b" else Reply(t) for t in texts])
    outcomes = ask_many(transport, "abc")
    assert [o.reply.text for o in outcomes] == ["a", "single b", "c"]
    assert outcomes[1].attempts == 2


def test_a_refused_bundle_is_halved_until_the_bad_prompt_stands_alone():
    def answer(texts):
        return RequestRejectedError("too long") if "x" in texts else [Reply(t) for t in texts]

    transport = Bundles(answer)
    outcomes = ask_many(transport, "abcxefgh")
    assert [o.reply.text for o in outcomes[:3]] == ["a", "b", "single c"]
    assert len(transport.requests) <= 6


def test_without_batch_requests_calls_go_one_by_one():
    transport = Bundles(lambda texts: BatchUnsupportedError("no such path"))
    assert [o.reply.text for o in ask_many(transport, "abc")] == ["single a", "single b", "single c"]
    assert len(transport.requests) == 1


def test_a_bundle_that_meets_a_broken_endpoint_goes_elsewhere_whole():
    failures = iter([ServerError("down"), None])
    transport = Bundles(lambda texts: next(failures) or [Reply(t) for t in texts])
    outcomes = ask_many(transport, "abc")
    assert [o.reply.text for o in outcomes] == ["a", "b", "c"]
    assert len(transport.requests) == 2


def test_a_planned_group_stays_together_and_slots_are_shared():
    texts = [chr(97 + g) * 600 + str(i) for i in range(16) for g in range(4)]

    async def main():
        endpoints = fleet_of(2)
        inside, most = {}, {}

        def delay(c, e):
            return 1.0

        class Watching(ScriptedTransport):
            async def send(self, endpoint, c, *, timeout_s):
                key = endpoint.host, c.prefix
                inside[key] = inside.get(key, 0) + 1
                most[key] = max(most.get(key, 0), inside[key])
                try:
                    return await super().send(endpoint, c, timeout_s=timeout_s)
                finally:
                    inside[key] -= 1

        transport = Watching(lambda c, e: Reply("x"), delay_s=delay)
        dispatcher = Dispatcher(endpoints, transport)
        for index in range(2):
            dispatcher.inform(index, EndpointInfo(slots=8))
        view = dispatcher.view(range(2))
        found = groups(texts)
        pins = plan(found, [0, 1])
        await asyncio.gather(
            *(dispatcher.ask(call(t, prefix=f), view, pin=p) for t, f, p in zip(texts, found, pins, strict=True))
        )
        await dispatcher.aclose()
        return most

    most = run_virtual(main())
    assert len(most) == 4
    assert all(1 <= n <= 8 for n in most.values())
    assert sum(most.values()) <= 24
