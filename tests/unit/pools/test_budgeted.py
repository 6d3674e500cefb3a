"""Calls are kept within the context of the endpoint that gets them."""

import pytest

from aurora_swarm.errors import ConnectError, RequestRejectedError
from aurora_swarm.pools.budgeted import BudgetedTransport
from aurora_swarm.pools.budgets import ContextBudget
from aurora_swarm.pools.facts import Facts
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message
from aurora_swarm.values.reply import EndpointInfo, Reply, Usage

HERE = AgentEndpoint("here")


class Engine(ScriptedTransport):
    """A token is four bytes; counts where it is asked to; remembers the bundles."""

    def __init__(self, context=4096, counts=True, probe_fails=False):
        super().__init__(
            lambda call, _: Reply("yes", usage=Usage(self.tokens(call), 1)), info=EndpointInfo((), context)
        )
        self.counts, self.probe_fails = counts, probe_fails
        self.probes, self.counted, self.bundles = 0, 0, []

    @staticmethod
    def tokens(call):
        return 20 + len(call.messages[0].content) // 4

    async def probe(self, endpoint, *, timeout_s):
        self.probes += 1
        if self.probe_fails:
            raise ConnectError("refused")
        return await super().probe(endpoint, timeout_s=timeout_s)

    async def count_tokens(self, endpoint, call, *, timeout_s):
        self.counted += 1
        return self.tokens(call) if self.counts else None

    async def send_many(self, endpoint, calls, *, timeout_s):
        self.bundles.append(len(calls))
        return await super().send_many(endpoint, calls, timeout_s=timeout_s)


def call_of(tokens, max_tokens=None):
    return Call((Message("user", "word" * tokens),), "m", Sampling(max_tokens))


def sent(calls, engine=None, **options):
    """The bounds on tokens that calls were sent with, one after the other."""
    engine = engine or Engine()

    async def main():
        transport = BudgetedTransport(engine, ContextBudget(), Facts(engine), **options)
        for call in calls:
            await transport.send(HERE, call, timeout_s=60)
        await transport.aclose()
        return [call.sampling.max_tokens for _, call in engine.calls]

    return run_virtual(main())


def test_a_short_call_asks_nobody_anything():
    engine = Engine()
    assert sent([call_of(50, 100)] * 3, engine) == [100] * 3
    assert engine.probes == 0


def test_a_call_that_fits_keeps_its_bound_and_the_endpoint_is_asked_once():
    engine = Engine()
    assert sent([call_of(500, 1000)] * 3, engine) == [1000] * 3
    assert (engine.probes, engine.counted) == (1, 0)


def test_a_bound_beyond_the_context_is_lowered_to_what_is_left():
    engine = Engine()
    assert sent([call_of(3000, 2000)], engine) == [4096 - 3020 - 512]
    assert engine.counted == 1


def test_without_a_tokenizer_the_estimate_counts_and_learns():
    engine = Engine(counts=False)
    first, *_, last = sent([call_of(3000, 2000)] * 40, engine)
    exact = 4096 - 3020 - 512
    assert 1 <= first < last <= exact
    assert last > exact - 400


@pytest.mark.parametrize(
    ("text", "is_looked_at"), [("word" * 700, False), ("w\u00f6rd" * 700, True), ("word" * 1000, True)]
)
def test_later_calls_are_looked_at_where_they_might_not_fit(text, is_looked_at):
    engine, budget = Engine(), ContextBudget()

    async def main():
        transport = BudgetedTransport(engine, budget, Facts(engine))
        for _ in range(81):
            await transport.send(HERE, call_of(500, 100), timeout_s=60)
        before = budget.learned
        await transport.send(HERE, Call((Message("user", text),), "m", Sampling(400)), timeout_s=60)
        return budget.learned - before

    assert run_virtual(main()) == is_looked_at


def test_a_prompt_longer_than_the_context_is_refused_before_it_is_sent():
    engine = Engine()
    with pytest.raises(RequestRejectedError, match="about 5020 tokens, the context holds 4096") as caught:
        sent([call_of(5000, 10)], engine)
    assert caught.value.endpoint == HERE.url
    assert engine.calls == []


def test_a_call_without_a_bound_stays_without_one_and_is_still_refused_when_too_long():
    engine = Engine()
    assert sent([call_of(3000)], engine) == [None]
    with pytest.raises(RequestRejectedError):
        sent([call_of(5000)], Engine())


def test_a_prompt_that_may_fit_is_sent_where_nobody_can_count():
    assert sent([call_of(3900, 500)], Engine(counts=False)) == [16]


@pytest.mark.parametrize("engine", [Engine(context=None), Engine(probe_fails=True)])
def test_an_unknown_context_bounds_nothing(engine):
    assert sent([call_of(5000, 4000)], engine) == [4000]


def test_a_context_that_is_given_is_not_asked_for():
    engine = Engine(context=99)
    (bound,) = sent([call_of(1000, 2000)], engine, max_context=2048)
    assert 0 < bound <= 2048 - 1020 - 256
    assert engine.probes == 0


def test_streams_are_bounded_too():
    async def main():
        engine = Engine()
        transport = BudgetedTransport(engine, ContextBudget(), Facts(engine))
        deltas = [d async for d in transport.stream(HERE, call_of(3000, 2000), timeout_s=60)]
        assert deltas[-1].reply.text == "yes"
        assert engine.calls[0][1].sampling.max_tokens == 4096 - 3020 - 512

    run_virtual(main())


def test_of_a_bundle_only_the_tight_calls_go_alone():
    async def main():
        engine = Engine()
        transport = BudgetedTransport(engine, ContextBudget(), Facts(engine))
        calls = [call_of(n, 1000) for n in (100, 3500, 200, 5000, 300)]
        parts = await transport.send_many(HERE, calls, timeout_s=60)
        assert engine.bundles == [3]
        assert [getattr(part, "text", type(part)) for part in parts] == [
            "yes",
            "yes",
            "yes",
            RequestRejectedError,
            "yes",
        ]
        bounds = {len(call.messages[0].content) // 4: call.sampling.max_tokens for _, call in engine.calls}
        assert bounds == {100: 1000, 200: 1000, 300: 1000, 3500: 64}

    run_virtual(main())


def test_what_servers_count_teaches_whole_bundles_as_well():
    async def main():
        engine, budget = Engine(counts=False), ContextBudget()
        transport = BudgetedTransport(engine, budget, Facts(engine))
        for _ in range(20):
            await transport.send_many(HERE, [call_of(n) for n in (100, 300)], timeout_s=60)
        assert budget.learned == 20
        assert budget.at_least(800) < 220 < budget.at_most(800) < 300

    run_virtual(main())
