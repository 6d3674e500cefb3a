"""A call is cancelled at each of its awaits in turn: nothing of it remains."""

import asyncio
import random

import pytest

from aurora_swarm.dispatch.dispatcher import Dispatcher, Limits
from aurora_swarm.testing.faulty_server import Answer, FaultyServer, error_status
from aurora_swarm.testing.simulation import EndpointPlan, Fault, SimulatedTransport, run_simulated
from aurora_swarm.transports.open import open_transport
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message
from aurora_swarm.values.reply import EndpointInfo

MOST = 500
"""Awaits that no call here has."""


def call(text, **fields):
    return Call((Message("user", text),), **fields)


class Counted:
    """Awaits a coroutine and cancels the task that runs it after its `fatal`-th resumption.

    The cancellation comes from outside, as a caller's does: between two steps of the task, whatever it waits for.
    """

    def __init__(self, work, fatal):
        self._steps = work.__await__()
        self._fatal = fatal
        self.resumptions = 0

    def __await__(self):
        sent, failure = None, None
        while True:
            if self.resumptions == self._fatal:
                asyncio.current_task().cancel()  # takes effect at the await that comes now
            try:
                waits_for = self._steps.send(sent) if failure is None else self._steps.throw(failure)
            except StopIteration as done:
                return done.value
            sent = failure = None
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001 - goes on into the call
                failure = error
            self.resumptions += 1


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


# -- situations: what a call meets, in virtual time --------------------------------------------------------------------


def plans(*faults, size=3, **fields):
    return [EndpointPlan(faults=faults, **fields)] * size


class Situation:
    """A fleet in memory, and the one call that is cancelled."""

    def __init__(self, fleet, ask, *, before=0, slots=0, **limits):
        self.fleet, self.ask, self.before, self.slots, self.limits = fleet, ask, before, slots, limits


def one(dispatcher, view, **how):
    return dispatcher.ask(call("it", **how.pop("fields", {})), view, **how)


def many(dispatcher, view):
    return dispatcher.ask_many([call(f"it {n}") for n in range(4)], view)


SITUATIONS = {
    "an attempt in flight": Situation(plans(), one),
    "a slot is awaited": Situation(plans(size=1, capacity=1), one, before=4, concurrency=2),
    "back-off and retries": Situation(plans(Fault("garbage", delay_s=0.3)), one),
    "one endpoint fails, another answers": Situation(
        plans(Fault("reset"), size=1) + plans(), lambda d, v: one(d, v, pin=0)
    ),
    "everybody is busy": Situation(plans(Fault("overloaded", end_s=4.0, retry_after_s=1.0)), one),
    "an outage": Situation(plans(Fault("refuse", end_s=9.0)), one, before=30, deadline_s=60.0),
    "a hung endpoint": Situation(plans(Fault("hang")), one, attempt_timeout_s=2.0, deadline_s=5.0),
    "strict": Situation(plans(Fault("server_error", end_s=5.0)), lambda d, v: one(d, v, pin=1, strict=True)),
    "a prefix behind others": Situation(
        plans(size=1), lambda d, v: one(d, v, fields={"prefix": "p"}), before=4, slots=1
    ),
    "many in one request": Situation(plans(), many),
    "many, parts are lost": Situation(plans(Fault("lost_parts")), many),
    "many, one is bad": Situation(plans(), lambda d, v: d.ask_many([call(t) for t in ("a", "b", "bad: c", "d")], v)),
    "many, where none can be taken at once": Situation(plans(batches=False), many),
    "many, all requests fail": Situation(plans(Fault("truncated")), many),
}


async def cancelled_at(situation, fatal):
    """Runs the situation, cancels at the `fatal`-th step; True where the call ended before."""
    fleet = [AgentEndpoint(f"node{i}", 8000) for i in range(len(situation.fleet))]
    dice = random.Random(3)
    transport = SimulatedTransport(dict(zip(fleet, situation.fleet, strict=True)), dice=dice)
    dispatcher = Dispatcher(fleet, transport, limits=Limits(**situation.limits), dice=dice)
    if situation.slots:
        for index in range(len(fleet)):
            dispatcher.inform(index, EndpointInfo(slots=situation.slots))
    view = dispatcher.view(range(len(fleet)))
    prefix = {"prefix": "p"} if situation.slots else {}
    others = [asyncio.create_task(dispatcher.ask(call(f"other {n}", **prefix), view)) for n in range(situation.before)]
    await settle()
    counted = Counted(situation.ask(dispatcher, view), fatal)
    task = asyncio.create_task(_run(counted))
    await asyncio.wait([task])
    assert task.cancelled() or counted.resumptions <= fatal, "the cancellation was swallowed"
    await settle()
    if not others:
        assert_nothing_is_left(dispatcher, transport)
    await asyncio.wait_for(asyncio.gather(*others), 1e4)
    await settle()
    assert_nothing_is_left(dispatcher, transport)
    await dispatcher.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert asyncio.get_running_loop().timers() == []
    return not task.cancelled()


async def _run(counted):
    return await counted


def assert_nothing_is_left(dispatcher, transport):
    statistics = dispatcher.statistics(range(len(dispatcher.endpoints)))
    assert (statistics.outstanding, statistics.waiting) == (0, 0)
    assert [endpoint.outstanding for endpoint in statistics.endpoints] == [0] * len(statistics.endpoints)
    for server in transport.servers.values():
        assert (server.open, server.running, server.queued) == (0, 0, 0)


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_nothing_remains_of_a_call_that_is_cancelled_at_any_await(situation):
    steps = 0
    while not run_simulated(cancelled_at(situation, steps)):
        steps += 1
        assert steps < MOST
    assert steps >= 1


@pytest.mark.parametrize("name", ["a slot is awaited", "many in one request", "an outage"])
def test_nothing_remains_of_a_call_that_is_cancelled_at_any_time(name):
    """From outside, by the clock: also where the call waits for others and takes no step itself."""
    situation = SITUATIONS[name]

    async def main(moment):
        fleet = [AgentEndpoint(f"node{i}", 8000) for i in range(len(situation.fleet))]
        transport = SimulatedTransport(dict(zip(fleet, situation.fleet, strict=True)), dice=random.Random(3))
        dispatcher = Dispatcher(fleet, transport, limits=Limits(**situation.limits), dice=random.Random(3))
        view = dispatcher.view(range(len(fleet)))
        tasks = [asyncio.create_task(dispatcher.ask(call(f"other {n}"), view)) for n in range(situation.before)]
        task = asyncio.create_task(situation.ask(dispatcher, view))
        await asyncio.sleep(moment)
        done = task.done()
        task.cancel()
        await asyncio.wait([task])
        assert done or task.cancelled()
        await asyncio.gather(*tasks)
        await settle()
        assert_nothing_is_left(dispatcher, transport)
        await dispatcher.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return done

    moments = [0.25 * n for n in range(100)]
    assert [run_simulated(main(moment)) for moment in moments][-1]


def test_nothing_remains_of_a_race_that_is_cancelled_at_any_moment():
    """The first attempt, its rival, or both are under way."""

    async def main(moment):
        fleet = [AgentEndpoint(f"node{i}", 8000) for i in range(4)]
        # After ten seconds every request is a straggler, so that a rival is late as well.
        slow = Fault("slow", start_s=10.0, factor=30.0)
        transport = SimulatedTransport(dict.fromkeys(fleet, EndpointPlan(faults=(slow,))), dice=random.Random(1))
        dispatcher = Dispatcher(fleet, transport, dice=random.Random(1))
        view = dispatcher.view(range(4))
        await asyncio.gather(*(dispatcher.ask(call(str(n)), view) for n in range(200)))
        await asyncio.sleep(20.0 - asyncio.get_running_loop().time())
        task = asyncio.create_task(dispatcher.ask(call("late"), view))
        await asyncio.sleep(moment)
        under_way = transport.open
        ended = task.done()
        task.cancel()
        await asyncio.wait([task])
        assert ended or task.cancelled()
        await settle()
        assert_nothing_is_left(dispatcher, transport)
        await dispatcher.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert asyncio.get_running_loop().timers() == []
        return under_way

    under_way = [run_simulated(main(0.5 * n)) for n in range(70)]
    assert {0, 1, 2} <= set(under_way)


# -- the same on real sockets ------------------------------------------------------------------------------------------

SERVERS = {
    "answers": Answer(delay_s=0.005, piece=40, pause_s=0.001),
    "fails": error_status(500),
    "is busy": error_status(429, retry_after="0"),
    "hangs": Answer(cut_at=0, end="hang"),
    "is cut": Answer(cut_body_at=9, end="close"),
}
ASKS = {"one": one, "many": many}


async def cancelled_on_sockets(server, transport, ask, fatal):
    dispatcher = Dispatcher([server.endpoint], transport, limits=Limits(attempt_timeout_s=0.1, deadline_s=0.25))
    counted = Counted(ask(dispatcher, dispatcher.view([0])), fatal)
    task = asyncio.create_task(_run(counted))
    await asyncio.wait([task])
    assert task.cancelled() or counted.resumptions <= fatal
    await settle()
    statistics = dispatcher.statistics([0])
    assert (statistics.outstanding, statistics.waiting, statistics.endpoints[0].outstanding) == (0, 0, 0)
    await dispatcher.aclose()
    return not task.cancelled()


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize("answer", SERVERS.values(), ids=SERVERS)
async def test_no_socket_remains_of_a_call_that_is_cancelled_at_any_await(answer, ask):
    tasks = asyncio.all_tasks()
    async with FaultyServer(lambda request: answer) as server:
        transport = open_transport("openai")
        steps = 0
        while not await cancelled_on_sockets(server, transport, ask, steps):
            steps += 1
            assert steps < MOST
        assert steps >= 1
        assert server.requests
        if answer.end != "keep":  # the others keep their connection for the next call
            await server.until(lambda: server.connections_open == 0)
        await transport.aclose()
        await server.until(lambda: server.connections_open == 0)
    await settle()
    assert asyncio.all_tasks() <= tasks


def test_the_counter_cancels_where_it_says():
    async def three():
        for _ in range(3):
            await asyncio.sleep(1)
        return "done"

    async def main(fatal):
        task = asyncio.create_task(_run(Counted(three(), fatal)))
        await asyncio.wait([task])
        return task.cancelled(), asyncio.get_running_loop().time()

    runs = [run_simulated(main(fatal)) for fatal in range(5)]
    assert runs == [(True, 0), (True, 1), (True, 2), (True, 3), (False, 3)]
