"""One agent, driven to its end by answers that are given by hand."""

import asyncio

import pytest
from pydantic import BaseModel

from aurora_swarm import Tool, errors
from aurora_swarm.agents.driver import Task, ToolReport, run_agent
from aurora_swarm.agents.native import NativeTools
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.agents.turns import Rules
from aurora_swarm.batch.stored import decode_heard, encode_heard
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.outcome import Attempt, Outcome
from aurora_swarm.values.reply import Reply, Usage


class Out(BaseModel):
    word: str


@Tool.define(effect="pure")
def look(place: str) -> str:
    """Look somewhere."""
    return place


OUT = OutputSpec(Out)
PLACE = AgentEndpoint("a", 8000)
STONE = Reply('{"word": "stone"}', usage=Usage(10, 5))
SPENT = Usage(20, 7)


def calls(*places):
    """A reply that looks at places."""
    wanted = tuple(ToolCall(f"c{place}", "look", {"place": place}) for place in places)
    return Reply("", "tool_calls", SPENT, tool_calls=wanted, ttft_s=0.25)


def task(**changes):
    rules = {name: changes.pop(name) for name in ("max_turns", "max_retries", "max_parallel") if name in changes}
    rules = Rules(output=OUT, protocol=NativeTools([look], OUT), **rules)
    return Task(index=3, key="k", messages=(Message("user", "what is it?"),), rules=rules, **changes)


class World:
    """Answers in order, tools that take a second, and a note of all that was asked, used and kept."""

    def __init__(self, *answers, tool_s=1.0):
        self.answers = list(answers)
        self.asked, self.used, self.kept = [], [], []
        self.tool_s = tool_s
        self.under_way = self.most = 0

    async def ask(self, call):
        self.asked.append(call)
        answer = self.answers.pop(0)
        if isinstance(answer, Reply):
            return Outcome(answer, None, PLACE)
        if isinstance(answer, Outcome):
            return answer
        return await answer(call)

    async def use(self, call, again):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.tool_s)
        finally:
            self.under_way -= 1
        self.used.append((call.arguments["place"], again))
        return ToolReport(f"a {call.arguments['place']}", True)

    async def keep(self, step, heard):
        self.kept.append((step, heard, len(self.asked), len(self.used)))

    def run(self, task, **options):
        return run_virtual(run_agent(task, self.ask, self.use, **options))


SAID = ToolReport("a x", executed=True)


async def never(call):
    await asyncio.Event().wait()


def test_calls_of_one_reply_run_together_and_are_answered_in_their_order():
    world = World(calls("x", "y", "z"), STONE)
    result = world.run(task())
    assert result.ok
    assert (result.output, result.tool_calls, result.tools_executed, result.turns) == (Out(word="stone"), 3, 3, 2)
    assert result.latency_s == pytest.approx(1.0)
    tools = [(m.tool_call_id, m.content) for m in world.asked[1].messages if m.role == "tool"]
    assert tools == [("cx", "a x"), ("cy", "a y"), ("cz", "a z")]


def test_no_more_calls_are_under_way_than_the_rules_allow():
    world = World(calls(*"abcdefg"), STONE)
    result = world.run(task(max_parallel=3))
    assert (world.most, result.tool_calls) == (3, 7)
    assert result.latency_s == pytest.approx(3.0)


def test_usage_attempts_and_time_to_the_first_token_are_those_of_all_turns():
    failure = Attempt(PLACE, errors.ServerError("no"), 0.1)
    world = World(Outcome(calls("x"), None, PLACE, (failure,)), STONE)
    result = world.run(task())
    assert (result.attempts, result.usage, result.ttft_s) == (3, Usage(30, 12), 0.25)


def test_what_was_heard_is_kept_before_anything_follows_from_it_and_the_last_reply_is_not():
    world = World(calls("x"), STONE)
    world.run(task(), keep=world.keep)
    assert world.kept == [(0, calls("x"), 1, 0), (1, [ToolReport("a x", True)], 1, 1)]


def test_a_reply_that_is_asked_again_is_kept_too_so_that_a_recording_has_no_gaps():
    world = World(Reply("no"), calls("x"), STONE)
    world.run(task(), keep=world.keep)
    # The re-ask may only answer, so the calls in the second reply are not run.
    assert [(step, heard) for step, heard, *_ in world.kept] == [(0, Reply("no")), (1, calls("x"))]
    assert world.used == []


def test_nothing_recorded_is_asked_or_used_again_and_all_of_it_is_counted():
    whole = World(calls("x"), calls("y"), STONE)
    straight = whole.run(task(), keep=whole.keep)
    recording = [heard for _, heard, *_ in whole.kept]
    for length in range(len(recording) + 1):
        world = World(*(calls("x"), calls("y"), STONE)[(length + 1) // 2 :])
        result = world.run(task(), recorded=recording[:length], keep=world.keep)
        assert result.ok
        assert [step for step, *_ in world.kept] == list(range(length, 4))
        assert world.used == [("x", length == 1), ("y", length == 3)][length // 2 :]
        assert world.asked[-1] == whole.asked[-1]
        assert (result.usage, result.attempts, result.turns) == (straight.usage, straight.attempts, straight.turns)
        assert (result.tool_calls, result.tools_executed, result.ttft_s) == (2, 2, 0.25)


def test_only_calls_that_may_have_happened_are_marked_as_such():
    world = World(calls("y"), STONE)
    world.run(task(), recorded=[calls("x")])
    assert world.used == [("x", True), ("y", False)]


@pytest.mark.parametrize("recorded", [[[SAID]], [calls("x"), [SAID, SAID]], [calls("x"), calls("y")]])
def test_what_does_not_fit_is_dropped(recorded):
    world = World(*([calls("x"), STONE] if isinstance(recorded[0], list) else [STONE]))
    result = world.run(task(), recorded=recorded)
    assert result.ok
    assert [place for place, _ in world.used] == ["x"]


def test_a_call_in_doubt_is_counted():
    async def use(call, again):
        return ToolReport("nobody knows", executed=False, in_doubt=again)

    world = World(STONE)
    result = run_virtual(run_agent(task(), world.ask, use, recorded=[calls("x", "y")]))
    assert (result.in_doubt, result.tools_executed, result.tool_calls) == (2, 0, 2)


def test_a_call_that_was_in_doubt_in_an_earlier_run_is_counted_still():
    doubts = [ToolReport("nobody knows", executed=False, in_doubt=True), SAID]
    result = World(STONE).run(task(), recorded=[calls("x", "y"), doubts])
    assert (result.in_doubt, result.tools_executed, result.tool_calls) == (1, 1, 2)


def test_a_turn_that_takes_too_long_is_named():
    world = World(calls("x"), never)
    result = world.run(task(turn_timeout_s=5.0))
    assert isinstance(result.error, errors.AgentTimeoutError)
    assert "turn 2 took longer than 5 s" in str(result.error)
    assert (result.turns, result.latency_s) == (2, pytest.approx(6.0))


def test_an_agent_that_takes_too_long_is_ended_and_says_what_it_spent():
    world = World(calls("x"), never)
    result = world.run(task(timeout_s=9.0, turn_timeout_s=20.0))
    assert isinstance(result.error, errors.AgentTimeoutError)
    assert "the agent took longer than 9 s" in str(result.error)
    assert (result.usage, result.tool_calls) == (SPENT, 1)


def test_a_timeout_error_of_somebody_else_is_not_taken_for_ours():
    async def broken(call):
        raise TimeoutError

    for limits in ({"turn_timeout_s": 5.0}, {"timeout_s": 5.0}, {}):
        with pytest.raises(TimeoutError):
            World(broken).run(task(**limits))


def test_a_failed_call_is_the_agents_result():
    error = errors.RequestRejectedError("too long", status=413)
    result = World(Outcome(None, error, PLACE, (Attempt(PLACE, error, 0.1),))).run(task())
    assert (result.ok, result.error, result.attempts, result.turns) == (False, error, 1, 1)


async def stubborn(call, again):
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


@pytest.mark.parametrize("places", ["x", "xy"])
def test_a_tool_that_swallows_its_cancellation_does_not_hang_its_agent(places):
    async def main():
        world = World(calls(*places))
        result = await run_agent(task(timeout_s=5.0), world.ask, stubborn)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    result = run_virtual(main())
    assert isinstance(result.error, errors.AgentTimeoutError)
    assert result.latency_s <= 6.0 + 1e-6


@pytest.mark.parametrize("places", ["x", "xy"])
async def test_cancelling_an_agent_cancels_its_tools_and_is_not_swallowed(places):
    world = World(calls(*places), tool_s=3600.0)
    agent = asyncio.create_task(run_agent(task(), world.ask, world.use))
    for _ in range(10):
        await asyncio.sleep(0)
    assert world.under_way == len(places)
    agent.cancel()
    with pytest.raises(asyncio.CancelledError):
        await agent
    assert world.under_way == 0


@pytest.mark.parametrize("places", ["x", "xyz"])
def test_what_a_tool_raises_against_its_contract_ends_the_agent_and_its_other_calls(places):
    class BrokenError(Exception):
        pass

    world = World(calls(*places))

    async def use(call, again):
        if call.arguments["place"] == "x":
            raise BrokenError
        return await world.use(call, again)

    with pytest.raises(BrokenError):
        run_virtual(run_agent(task(), world.ask, use))
    assert world.under_way == 0


def test_what_keep_raises_passes_and_no_tool_is_run():
    world = World(calls("x"), STONE)

    async def full(step, heard):
        raise errors.StorageError("no space left")

    with pytest.raises(errors.StorageError):
        world.run(task(), keep=full)
    assert world.used == []


def test_a_first_reply_that_ends_an_agent_without_re_asks_is_not_kept():
    world = World(Reply("no"))
    plain = Task(index=0, key="k", messages=(Message("user", "?"),), rules=Rules(output=OUT, max_retries=0))
    result = world.run(plain, keep=world.keep)
    assert isinstance(result.error, errors.InvalidOutputError)
    assert (world.kept, result.attempts) == ([], 1)


def test_a_recording_survives_being_written_down():
    world = World(calls("x"), STONE)
    first = world.run(task(), keep=world.keep)
    recorded = [decode_heard(encode_heard(heard)) for _, heard, *_ in world.kept]
    again = World(STONE).run(task(), recorded=recorded)
    assert again.output == first.output
