"""What endpoints say of themselves is asked for once, and waited for briefly."""

import asyncio

from aurora_swarm.errors import ConnectError
from aurora_swarm.pools.facts import AGAIN_S, AT_ONCE, Facts
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import EndpointInfo

HERE = AgentEndpoint("here")
INFO = EndpointInfo(("m",), 4096, "vllm")


class Probed(ScriptedTransport):
    """Counts probes, which take a while and may fail at first."""

    def __init__(self, delay_s=0.1, failures=0):
        super().__init__([])
        self.probes, self.under_way, self.most = 0, 0, 0
        self.wait_s, self.failures = delay_s, failures

    async def probe(self, endpoint, *, timeout_s):
        self.probes += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.wait_s)
        finally:
            self.under_way -= 1
        if self.probes <= self.failures:
            raise ConnectError("refused")
        return INFO


def test_many_who_want_to_know_are_one_question():
    async def main():
        transport, told = Probed(), []
        facts = Facts(transport, lambda *what: told.append(what))
        assert facts.known(HERE) is None
        answers = await asyncio.gather(*(facts.of(HERE, wait_s=5) for _ in range(50)))
        assert answers == [INFO] * 50
        assert facts.known(HERE) == INFO
        assert await facts.of(HERE, wait_s=5) == INFO
        assert (transport.probes, told) == (1, [(HERE, INFO)])

    run_virtual(main())


def test_a_slow_endpoint_is_waited_for_briefly_and_known_later():
    async def main():
        facts, loop = Facts(Probed(delay_s=5)), asyncio.get_running_loop()
        began = loop.time()
        assert await facts.of(HERE, wait_s=1) is None
        assert loop.time() - began < 1.1
        await asyncio.sleep(5)
        assert facts.known(HERE) == INFO

    run_virtual(main())


def test_a_failure_means_unknown_and_is_asked_again_later():
    async def main():
        transport = Probed(failures=1)
        facts = Facts(transport)
        assert [await facts.of(HERE, wait_s=1) for _ in range(3)] == [None] * 3
        assert transport.probes == 1
        await asyncio.sleep(AGAIN_S)
        assert await facts.of(HERE, wait_s=1) == INFO
        assert transport.probes == 2

    run_virtual(main())


def test_who_gives_up_leaves_the_question_to_others():
    async def main():
        transport = Probed()
        facts = Facts(transport)
        first, second = (asyncio.create_task(facts.of(HERE, wait_s=5)) for _ in range(2))
        await asyncio.sleep(0.05)
        first.cancel()
        assert await second == INFO
        assert transport.probes == 1

    run_virtual(main())


def test_a_large_fleet_is_not_asked_all_at_once():
    async def main():
        transport = Probed()
        facts, fleet = Facts(transport), [AgentEndpoint(f"node{i}") for i in range(500)]
        assert await asyncio.gather(*(facts.of(e, wait_s=60) for e in fleet)) == [INFO] * 500
        assert (transport.probes, transport.most) == (500, AT_ONCE)

    run_virtual(main())


def test_closing_ends_the_questions():
    async def main():
        facts = Facts(Probed(delay_s=5))
        await facts.of(HERE, wait_s=0.1)
        await facts.aclose()
        await facts.aclose()
        assert await facts.of(HERE, wait_s=0.1) is None
        assert len(asyncio.all_tasks()) == 1

    run_virtual(main())
