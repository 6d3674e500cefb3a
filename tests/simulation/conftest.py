"""Steady load on a fleet in memory."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from aurora_swarm.dispatch.dispatcher import Dispatcher, Limits
from aurora_swarm.testing.simulation import EndpointPlan, SimulatedTransport, answer_to, run_simulated
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message
from aurora_swarm.values.policy import HedgePolicy

HEDGE = HedgePolicy()


class SteadyLoad:
    """A call every `1 / rate` seconds for `seconds`; what came of them."""

    def __init__(
        self,
        plans: Sequence[EndpointPlan],
        *,
        rate: float,
        seconds: float,
        prompt: Callable[[int], str] = lambda number: f"prompt {number}",
        hedge: HedgePolicy | None = HEDGE,
        limits: Limits | None = None,
        seed: int = 1,
        watch_conditions: bool = False,
    ):
        self._watch_conditions = watch_conditions
        self.rate, self.seconds, self._prompt = rate, seconds, prompt
        self.fleet = [AgentEndpoint(f"node{i}", 8000) for i in range(len(plans))]
        dice = random.Random(seed)
        self.transport = SimulatedTransport(dict(zip(self.fleet, plans, strict=True)), dice=dice, watch=self._note)
        self.dispatcher = Dispatcher(self.fleet, self.transport, hedge=hedge, limits=limits, dice=dice)
        self.outcomes = {}
        self.ended_s = {}
        self.seen = []
        self.probed = []
        self.conditions = Counter()
        run_simulated(self._main())

    def _note(self, endpoint, what, calls):
        now = asyncio.get_running_loop().time()
        self.seen.append((now, endpoint, what))
        if what == "probed":
            self.probed.append((now, endpoint))
        if self._watch_conditions:
            place = self.fleet.index(endpoint)
            self.conditions[self.dispatcher.statistics([place]).endpoints[0].condition] += 1

    async def _main(self):
        loop, view = asyncio.get_running_loop(), self.dispatcher.view(range(len(self.fleet)))

        async def one(number):
            await asyncio.sleep(number / self.rate)
            call = Call((Message("user", self._prompt(number)),))
            self.outcomes[number] = await self.dispatcher.ask(call, view)
            self.ended_s[number] = loop.time()

        async with asyncio.TaskGroup() as group:
            for number in range(int(self.rate * self.seconds)):
                group.create_task(one(number))
        await asyncio.sleep(0)
        statistics = self.statistics = self.dispatcher.statistics(range(len(self.fleet)))
        assert (statistics.outstanding, statistics.waiting) == (0, 0)
        await self.dispatcher.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    @property
    def requests(self) -> int:
        return sum(server.requests for server in self.transport.servers.values())

    @property
    def attempts_per_call(self) -> float:
        return self.requests / len(self.outcomes)

    @property
    def failed(self) -> list:
        return [outcome for outcome in self.outcomes.values() if outcome.error is not None]

    def answers_are_right(self) -> bool:
        answered = {n: o.reply.text for n, o in self.outcomes.items() if o.reply is not None}
        return bool(answered) and all(text == answer_to(self._prompt(n)) for n, text in answered.items())

    def goodput(self, start_s: float, end_s: float) -> float:
        """Answers per second in a span of time, as a share of the calls offered per second."""
        good = sum(start_s <= at < end_s for n, at in self.ended_s.items() if self.outcomes[n].reply is not None)
        return good / (end_s - start_s) / self.rate

    def latency_s(self, quantile: float) -> float:
        latencies = sorted(outcome.latency_s for outcome in self.outcomes.values())
        return latencies[int(quantile * len(latencies))]

    def sent(self, start_s: float, end_s: float) -> int:
        return sum(what == "sent" and start_s <= at < end_s for at, _, what in self.seen)


@pytest.fixture
def steady_load():
    return SteadyLoad
