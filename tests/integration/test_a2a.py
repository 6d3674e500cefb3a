"""A swarm served over A2A and used as a member: on real sockets, to its end and otherwise."""

import asyncio
import contextlib
import json

import httpx
import pytest
from a2a.client import A2ACardResolver, ClientConfig, create_client
from a2a.helpers import new_text_message
from a2a.types import Role, SendMessageRequest, TaskState

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import AgentError, BudgetError, MemberLostError, TaskCancelledError, UsageError
from aurora_swarm.gateway.a2a_server import serve_swarm
from aurora_swarm.gateway.executor import SwarmExecutor
from aurora_swarm.swarms.hivemind import Hivemind
from aurora_swarm.swarms.remote import RemoteSwarm
from aurora_swarm.swarms.work import SwarmOutcome, TaskRecord, TaskSpec
from aurora_swarm.swarms.work import TaskState as State
from aurora_swarm.testing.faulty_server import Answer, FaultyServer
from aurora_swarm.values.budget import Budget
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.message import Message
from aurora_swarm.values.outcome import AgentResult, Outcome
from aurora_swarm.values.reply import Reply, Usage


class Member:
    """A swarm that spends out of its purse, and does what the objective says."""

    name = "archive"
    about = "Knows the archive."

    def __init__(self):
        self.asked = []
        self.ended = asyncio.Event()
        self.begun = asyncio.Event()

    async def run(self, objective=None, *, purse=None, context=""):
        self.asked.append((objective, context, purse.budget))
        self.begun.set()
        _, hold = purse.reserve(Call((Message("user", "x"),), sampling=Sampling(max_tokens=100)), 0.0)
        purse.settle(hold, Outcome(Reply("", usage=Usage(20, 30)), None, None))
        try:
            if objective == "wait":
                await asyncio.sleep(600)
        finally:
            self.ended.set()
        if objective == "fail":
            error = AgentError("nothing found", remedy="ask otherwise")
            return SwarmOutcome(objective=objective, answer="", error=error, usage=Usage(20, 30))
        if objective == "raise":
            raise UsageError("nobody serves the model")
        if objective == "break":
            raise RuntimeError("a mistake")
        result = AgentResult(0, "1", True, "1994", None, text="1994", usage=Usage(20, 30))
        tasks = (TaskRecord(id="1", spec=TaskSpec(title="Year"), state=State.DONE, result=result),)
        return SwarmOutcome(objective=objective or "own", answer=f"found {objective}", tasks=tasks, usage=Usage(20, 30))


@pytest.fixture
async def member():
    return Member()


@pytest.fixture
async def served(member):
    async with serve_swarm(member) as served:
        yield served


async def test_an_objective_goes_there_and_its_outcome_comes_back(member, served):
    purse = Purse(Budget(tokens=10_000, tool_calls=3))
    swarm = RemoteSwarm(served.url)
    await swarm.introduce()
    assert swarm.about == "Knows the archive."
    outcome = await swarm.run("the year {x}", purse=purse, context="It rains \N{UMBRELLA}\ud800.")
    assert (outcome.ok, outcome.answer, outcome.usage) == (True, "found the year {x}", Usage(20, 30))
    assert (outcome.tasks[0].spec.title, outcome.tasks[0].text) == ("Year", "1994")
    objective, context, budget = member.asked[0]
    assert (objective, budget.tokens, budget.tool_calls) == ("the year {x}", 10_000, 3)
    assert context == "It rains \N{UMBRELLA}?."
    has = purse.statistics()
    assert (has.tokens, has.reserved_tokens, has.reserved_tool_calls, has.agents) == (50, 0, 0, 0)


async def test_its_own_objective_is_pursued_where_none_is_given(served):
    assert (await RemoteSwarm(served.url).run()).objective == "own"


@pytest.mark.parametrize(("objective", "problem"), [("fail", "nothing found"), ("raise", "nobody serves the model")])
async def test_what_fails_there_is_in_the_outcome_and_what_it_spent_is_booked(served, objective, problem):
    purse = Purse(Budget(tokens=10_000))
    outcome = await RemoteSwarm(served.url).run(objective, purse=purse)
    assert str(outcome.error) == problem
    assert purse.statistics().tokens == 50


async def test_what_breaks_there_is_named_here_without_its_words(served):
    purse = Purse(Budget(tokens=10_000))
    outcome = await RemoteSwarm(served.url).run("break", purse=purse)
    assert str(outcome.error) == "the swarm 'archive' raised RuntimeError"
    assert purse.statistics().tokens == 50


async def test_cancelling_here_cancels_there_and_only_what_was_spent_is_booked(member, served):
    purse = Purse(Budget(tokens=10_000))
    run = asyncio.create_task(RemoteSwarm(served.url).run("wait", purse=purse))
    await member.begun.wait()
    await asyncio.sleep(0.1)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await asyncio.wait_for(member.ended.wait(), 5)
    assert (purse.statistics().tokens, purse.statistics().reserved_tokens) == (50, 0)


async def test_a_hivemind_that_goes_without_a_word_leaves_nothing_running(member, monkeypatch):
    async def gone_before_it_can_say(client, reading):
        return None

    monkeypatch.setattr("aurora_swarm.swarms.a2a._cancel", gone_before_it_can_say)
    monkeypatch.setitem(SwarmExecutor.__init__.__kwdefaults__, "farewell_s", 0.2)
    async with serve_swarm(member) as served:
        run = asyncio.create_task(RemoteSwarm(served.url).run("wait"))
        await member.begun.wait()
        await asyncio.sleep(0.1)
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run
        assert not member.ended.is_set()
        await asyncio.wait_for(member.ended.wait(), 5)


async def test_a_server_that_ends_says_so_and_nothing_is_left(member):
    purse = Purse(Budget(tokens=10_000))
    async with serve_swarm(member) as served:
        run = asyncio.create_task(RemoteSwarm(served.url).run("wait", purse=purse))
        await member.begun.wait()
    outcome = await run
    assert isinstance(outcome.error, TaskCancelledError)
    assert purse.statistics().tokens == 50
    assert {task for task in asyncio.all_tasks() if task.get_name().startswith(("producer", "consumer"))} == set()


async def test_time_is_passed_on_and_kept_here_too(member, served, monkeypatch):
    monkeypatch.setattr("aurora_swarm.swarms.remote.GRACE_S", 0.2)
    purse = Purse(Budget(tokens=10_000, wall_s=0.3))
    with pytest.raises(MemberLostError, match="did not come back"):
        await RemoteSwarm(served.url).run("wait", purse=purse)
    assert 0 < member.asked[0][2].wall_s <= 0.3
    await asyncio.wait_for(member.ended.wait(), 5)


async def test_nobody_there_is_a_loss_that_costs_nothing():
    purse = Purse(Budget(tokens=10_000))
    swarm = RemoteSwarm("a2a://127.0.0.1:9")
    with pytest.raises(MemberLostError):
        await swarm.introduce()
    with pytest.raises(MemberLostError):
        await swarm.run("x", purse=purse)
    assert (purse.statistics().tokens, purse.statistics().reserved_tokens) == (0, 0)


async def test_an_empty_purse_asks_nobody(member, served):
    outcome = await RemoteSwarm(served.url).run("x", purse=Purse(Budget(tokens=10)))
    assert isinstance(outcome.error, BudgetError)
    assert member.asked == []


@pytest.mark.parametrize("reply", [b"<html>no</html>", b"{}", b"[1]", b'{"name": 5}'])
async def test_whoever_answers_there_without_being_a_swarm_is_a_loss(reply):
    async with FaultyServer(lambda _: Answer(reply)) as server:
        swarm = RemoteSwarm(f"a2a://{server.endpoint.host}:{server.endpoint.port}")
        with pytest.raises(MemberLostError):
            await swarm.run("x")


def sse(*events):
    head = {"Content-Type": "text/event-stream"}
    return Answer(
        "".join(f"data: {event}\n\n" for event in events).encode(), headers=head, framing="close", end="close"
    )


def result(**what):
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": what})


TASK = {"task": {"id": "1", "contextId": "2", "status": {"state": "TASK_STATE_WORKING"}}}
BAD_REPORT = {"artifactUpdate": {"taskId": "1", "contextId": "2", "artifact": {"artifactId": "a", "parts": [
    {"data": {"outcome": 5}, "mediaType": "application/vnd.aurora-swarm.report+json"}]}}}  # fmt: skip
ENDED = {"statusUpdate": {"taskId": "1", "contextId": "2", "status": {"state": "TASK_STATE_COMPLETED"}}}


@pytest.mark.parametrize(
    ("post", "begun"),
    [
        (sse("5"), True),
        (sse("{"), True),
        (sse(result(task=5)), True),
        (sse(result(task={"id": ["x"]})), True),
        (sse(json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "no"}})), True),
        (sse(result(**TASK)), True),
        (sse(result(**TASK), result(**ENDED)), True),
        (sse(result(**TASK), result(**BAD_REPORT), result(**ENDED)), True),
        (sse(result(**TASK), "garbage"), True),
        (Answer(cut_at=0, end="hang"), True),
        (Answer(cut_at=0, end="reset"), True),
        (Answer(b"no", status=503), True),
        (Answer(b"no", status=401), False),
        (sse(json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "no"}})), False),
    ],
)
async def test_whatever_the_other_end_says_or_does_not_say_is_a_loss_and_nothing_hangs(
    served, post, begun, monkeypatch
):
    monkeypatch.setattr("aurora_swarm.swarms.a2a.SILENCE_S", 0.3)
    card = json.dumps(await card_of(served)).encode()
    async with FaultyServer(lambda request: post if request.method == "POST" else Answer(card)) as server:
        purse = Purse(Budget(tokens=1_000))
        async with asyncio.timeout(10):
            with pytest.raises(MemberLostError):
                await RemoteSwarm(f"a2a://127.0.0.1:{server.endpoint.port}").run("x", purse=purse)
    assert (purse.statistics().tokens, purse.statistics().reserved_tokens) == (1_000 if begun else 0, 0)


# -- who may ask -------------------------------------------------------------------------------------------------------


async def test_a_token_is_asked_for_and_the_card_is_public():
    async with serve_swarm(member := Member(), token="secret") as served:
        swarm = RemoteSwarm(served.url)
        await swarm.introduce()
        purse = Purse(Budget(tokens=10_000))
        with pytest.raises(MemberLostError) as caught:
            await swarm.run("x", purse=purse)
        assert purse.statistics().tokens == 0
        assert "token" in caught.value.remedy
        assert member.asked == []
        assert (await RemoteSwarm(served.url, token="secret").run("x")).ok


async def test_the_token_goes_to_where_the_card_came_from_whatever_it_says():
    async with FaultyServer(lambda _: Answer(b"{}")) as thief, serve_swarm(Member(), token="secret") as served:
        card = await card_of(served)
        card["supportedInterfaces"][0]["url"] = f"http://127.0.0.1:{thief.endpoint.port}/"
        async with FaultyServer(lambda _: Answer(json.dumps(card).encode())) as liar:
            with pytest.raises(MemberLostError):
                await RemoteSwarm(f"a2a://127.0.0.1:{liar.endpoint.port}", token="secret").run("x")
            assert any(request.method == "POST" for request in liar.requests)
        assert thief.requests == []


async def card_of(served):
    async with httpx.AsyncClient() as http:
        return (await http.get(f"http://{served.host}:{served.port}/.well-known/agent-card.json")).json()


async def test_other_hosts_and_pages_are_refused(served):
    url = f"http://{served.host}:{served.port}/"
    async with httpx.AsyncClient() as http:
        assert (await http.post(url, headers={"Host": "evil.example"}, json={})).status_code == 421
        assert (await http.post(url, headers={"Origin": "http://evil.example"}, json={})).status_code == 403


async def test_it_is_not_bound_beyond_this_machine_without_a_token_and_a_name():
    with pytest.raises(UsageError, match="token"):
        async with serve_swarm(Member(), "0.0.0.0"):
            pass
    with pytest.raises(UsageError, match="name"):
        async with serve_swarm(Member(), "0.0.0.0", token="secret"):
            pass


@pytest.mark.parametrize("url", ["ftp://x", "a2a://", "a2a://user:secret@host:1", "host:1", "a2a://h:1/?key=secret"])
def test_what_is_no_address_is_refused_and_no_secret_is_repeated(url):
    with pytest.raises(UsageError, match="no swarm's address") as caught:
        RemoteSwarm(url)
    assert "secret" not in str(caught.value)


# -- others' clients ---------------------------------------------------------------------------------------------------


async def test_any_client_of_a2a_can_ask_and_gets_text_and_states(served):
    url = f"http://{served.host}:{served.port}"
    async with httpx.AsyncClient() as http:
        card = await A2ACardResolver(http, url).get_agent_card()
        client = await create_client(card, ClientConfig(httpx_client=http))
        states, texts = [], []
        request = SendMessageRequest(message=new_text_message("the year", role=Role.ROLE_USER))
        async for event in client.send_message(request):
            if event.HasField("status_update"):
                states.append(event.status_update.status.state)
            if event.HasField("artifact_update"):
                texts += [part.text for part in event.artifact_update.artifact.parts if part.HasField("text")]
    assert states == [TaskState.TASK_STATE_WORKING, TaskState.TASK_STATE_COMPLETED]
    assert texts == ["found the year"]


async def test_what_all_may_spend_together_and_how_many_may_ask_is_bounded(member):
    async with serve_swarm(member, budget=Budget(tokens=220), width=1) as served:
        run = asyncio.create_task(RemoteSwarm(served.url).run("wait"))
        await member.begun.wait()
        refused = await RemoteSwarm(served.url).run("x", purse=(purse := Purse(Budget(tokens=1_000))))
        assert "no more than 1 at a time" in str(refused.error)
        assert purse.statistics().tokens == 0
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run
        outcome = await RemoteSwarm(served.url).run("x")
        assert outcome.ok
        outcome = await RemoteSwarm(served.url).run("x")
        assert isinstance(outcome.error, BudgetError)


async def test_a_hivemind_of_local_and_remote_swarms(served):
    local = Member()
    tasks = [TaskSpec(title="A", skills=("archive",)), TaskSpec(title="B", skills=("far",))]
    outcome = await Hivemind([local, RemoteSwarm(served.url, name="far")], budget=Budget(tokens=50_000)).run(
        "x", tasks=tasks
    )
    assert [task.worker for task in outcome.tasks] == ["archive", "far"]
    assert outcome.usage == Usage(40, 60)
