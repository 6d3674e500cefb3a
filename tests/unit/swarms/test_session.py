"""What can be done to tasks, workers and a whole run while they are under way; in virtual time, a call takes 10 s."""

import asyncio
import json

import pytest

from aurora_swarm import Budget, Tool, VLLMPool
from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import RequestRejectedError, TaskCancelledError, UsageError
from aurora_swarm.swarms.human.callback import CallbackHuman
from aurora_swarm.swarms.mind import Thought
from aurora_swarm.swarms.models import Model
from aurora_swarm.swarms.orchestrator import Orchestrator
from aurora_swarm.swarms.work import TaskSpec
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Reply, Usage

CALL_S = 10.0
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


class Stage:
    """A session on a scripted server, and what that server was asked."""

    def __init__(self, session, calls):
        self.session, self.calls = session, calls

    def prompts(self, word=""):
        return [call.messages[-1].content for _, call in self.calls if word in call.messages[-1].content]

    async def rest(self):
        return {record.id: record async for record in self.session.results()}


def played(part, *, script=None, tasks=(), delay_s=CALL_S, purse=None, max_tokens=None, **more):
    """What a part, a coroutine function of a stage, returns."""

    async def main():
        transport = ScriptedTransport(script or (lambda *_: Reply("yes", usage=Usage(10, 5))), delay_s=delay_s)
        async with VLLMPool([AgentEndpoint("a", 8000)], transport=transport) as pool:
            options = {"nodes": 2, "lease_s": 30.0, "name": "crew", **more}
            orchestrator = Orchestrator(Model(backend=pool, max_tokens=max_tokens), **options)
            async with orchestrator.open(purse=purse, objective="all of it") as session:
                for task in tasks:
                    session.add(task)
                played = await part(Stage(session, transport.calls))
        assert asyncio.all_tasks() == {asyncio.current_task()}, "somebody was left behind"
        return played

    return run_virtual(main())


def task(name, *after, **more):
    return TaskSpec(id=name, title=f"Title {name}", instructions=f"Do {name}.", after=after, **more)


def asked_before(call):
    return sum(message.role == "assistant" for message in call.messages)


def now():
    return asyncio.get_running_loop().time()


# -- tasks -----------------------------------------------------------------------------------------------------


def test_results_come_as_they_end_and_go_on_with_what_is_added_meanwhile():
    async def part(stage):
        seen = []
        async for record in stage.session.results():
            seen.append((record.id, now()))
            if len(seen) == 1:
                stage.session.add(task("c", "a"))
        return seen

    assert played(part, tasks=[task("a"), task("b")]) == [("a", 10.0), ("b", 10.0), ("c", 20.0)]


def test_every_reader_gets_everything():
    async def part(stage):
        late = asyncio.ensure_future(stage.rest())
        first = await stage.rest()
        return [*first], [*(await late)], [*(await stage.rest())]

    assert played(part, tasks=[task("a"), task("b")]) == (["a", "b"],) * 3


def test_no_tasks_are_no_results():
    async def part(stage):
        return await stage.rest()

    assert played(part) == {}


def test_a_task_is_told_the_answers_that_it_builds_on_and_nothing_else():
    async def part(stage):
        await stage.rest()
        return stage.prompts()

    tasks = [task("a"), task("b"), task("c", "a")]
    first, second, third = played(part, tasks=tasks, script=lambda call, _: call.messages[-1].content[-2:] + "!")
    assert (first, second) == ("Task: Title a\nDo a.", "Task: Title b\nDo b.")
    assert "Title a" in third
    assert "a.!" in third
    assert "Title b" not in third


def test_priority_goes_first_and_waiting_counts():
    async def part(stage):
        for number in range(12):
            stage.session.add(task(f"new{number}", priority=1))
            await asyncio.sleep(10)
        await stage.rest()
        return [prompt.rsplit(" ", 1)[1] for prompt in stage.prompts()]

    order = played(part, nodes=1, tasks=[task("first"), task("low"), task("high", priority=5)])
    assert order[:2] == ["first.", "high."]
    assert 3 < order.index("low.") < 8


def test_tasks_that_cannot_be_put_on_the_board_are_refused_all_together():
    async def part(stage):
        session = stage.session
        wrong = [
            ([task("b", "nobody")], "builds on nobody"),
            ([task("a")], "there is a task a already"),
            ([task("b"), task("b")], "there is a task b already"),
            ([task("b", "c"), task("c", "d"), task("d", "b")], "circle: b <- c <- d <- b"),
            ([task("b", "b")], "circle"),
        ]
        for specs, problem in wrong:
            with pytest.raises(UsageError, match=problem):
                session.add_all([task("good"), *specs])
        session.add_all([task("late", "early"), task("early")])
        return [record.id for record in session.records()]

    assert played(part, tasks=[task("a")]) == ["a", "late", "early"]


def test_a_session_that_is_over_takes_no_tasks_and_its_tasks_are_cancelled():
    async def part(stage):
        await asyncio.sleep(5)
        return stage.session

    session = played(part, tasks=[task("a"), task("b", "a")])
    assert [record.state for record in session.records()] == ["cancelled", "cancelled"]
    assert session.status().phase == "ended"
    with pytest.raises(UsageError, match="over"):
        session.add(task("c"))


def test_what_is_under_way_is_cancelled_with_its_caller():
    async def part(stage):
        reading = asyncio.ensure_future(stage.rest())
        await asyncio.sleep(5)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        return stage.session.status().tasks

    assert played(part, tasks=[task("a")]) == {"running": 1}


# -- status ----------------------------------------------------------------------------------------------------


def test_status_tells_the_moment():
    async def part(stage):
        await asyncio.sleep(15)
        return stage.session.status(), stage.session.items(), stage.session.item("c")

    status, items, c = played(part, tasks=[task("a"), task("b"), task("c"), task("d", "c")])
    assert (status.name, status.objective, status.phase) == ("crew", "all of it", "working")
    assert (status.tasks, status.workers) == ({"done": 2, "running": 1, "waiting": 1}, {"working": 1, "idle": 1})
    assert (status.usage, status.seconds) == (Usage(20, 10), 15.0)
    assert [item.id for item in items if item.kind == "task"] == ["d", "c", "b", "a"]
    assert (c.title, c.state, c.attempts, c.seconds) == ("Title c", "running", 1, 5.0)
    worker = next(item for item in items if item.id == c.partner)
    assert (worker.kind, worker.state, worker.partner, worker.attempts) == ("worker", "working", "c", 2)
    assert [item.title for item in items if item.kind == "worker"] == ["crew 2", "crew 1"]


def test_items_are_those_that_are_wanted():
    async def part(stage):
        await asyncio.sleep(5)
        items = stage.session.items
        return (
            [item.id for item in items(kind="task", state="ready")],
            len(items(kind="worker", state="working")),
            len(items(limit=3)),
            items(state="no such state"),
            items(limit=0),
        )

    tasks = [task(name) for name in "abcd"]
    assert played(part, tasks=tasks) == (["d", "c"], 2, 3, [], [])


# -- pause and resume ------------------------------------------------------------------------------------------


def two_turns(call, _endpoint):
    """Never valid at first: the task takes two calls."""
    return "what?" if asked_before(call) == 0 else '{"n": 1}'


def test_no_call_begins_for_a_paused_task_and_its_lease_is_held():
    async def part(stage):
        await asyncio.sleep(5)
        stage.session.pause("a")
        stage.session.pause("a")
        await asyncio.sleep(500)
        between = len(stage.calls), stage.session.item("a").state, stage.session.status().phase
        stage.session.resume("a")
        return between, (await stage.rest())["a"], now()

    between, record, ended = played(part, script=two_turns, tasks=[task("a", schema=SCHEMA, timeout_s=50)])
    assert between == (1, "paused", "working")
    assert (record.ok, record.attempts, ended) == (True, 1, 515.0)
    assert [moment.state for moment in record.history] == ["ready", "running", "paused", "running", "done"]


def test_what_is_under_way_for_a_paused_task_is_let_finish():
    async def part(stage):
        await asyncio.sleep(5)
        stage.session.pause("a")
        return (await stage.rest())["a"], now()

    record, ended = played(part, tasks=[task("a")])
    assert (record.ok, ended) == (True, 10.0)


def test_a_task_paused_before_it_begins_is_given_to_nobody():
    async def part(stage):
        stage.session.pause("b")
        await asyncio.sleep(100)
        between = stage.session.status().tasks
        stage.session.resume("b")
        stage.session.resume("b")
        await stage.rest()
        return between, now()

    assert played(part, tasks=[task("a"), task("b", "a")]) == ({"done": 1, "paused": 1}, 110.0)


def test_a_paused_worker_is_given_nothing_and_holds_its_task():
    async def part(stage):
        await asyncio.sleep(5)
        worker = stage.session.item("a").partner
        stage.session.pause(worker)
        await asyncio.sleep(500)
        shown = stage.session.item(worker), stage.session.item("a").state, len(stage.calls)
        stage.session.resume(worker)
        return shown, await stage.rest()

    tasks = [task("a", schema=SCHEMA), task("b"), task("c")]
    (worker, state, calls), records = played(part, script=two_turns, tasks=tasks)
    assert (worker.state, worker.partner, state, calls) == ("paused", "a", "running", 3)
    assert [record.attempts for record in records.values()] == [1, 1, 1]


def test_a_paused_run_stands_still():
    async def part(stage):
        await asyncio.sleep(5)
        session = stage.session
        session.pause(session.id)
        session.add(task("c"))
        await asyncio.sleep(500)
        between = len(stage.calls), session.status().phase
        session.resume(session.id)
        await stage.rest()
        return between, now(), session.status().phase

    tasks = [task("a", schema=SCHEMA, timeout_s=40), task("b")]
    assert played(part, script=two_turns, tasks=tasks) == ((2, "paused"), 515.0, "working")


def test_in_a_paused_run_nobody_asks_anything():
    """Planners and reducers use the session's mind too."""

    async def part(stage):
        stage.session.pause(stage.session.id)
        thinking = asyncio.ensure_future(stage.session.mind.think(Thought(prompt="Plan.")))
        await asyncio.sleep(100)
        asked = len(stage.calls)
        stage.session.resume(stage.session.id)
        return asked, (await thinking).text, now()

    assert played(part) == (0, "yes", 110.0)


# -- cancel ----------------------------------------------------------------------------------------------------


def test_a_cancelled_task_ends_at_once_with_those_that_build_on_it():
    async def part(stage):
        await asyncio.sleep(5)
        stage.session.cancel("a")
        stage.session.cancel("a")
        states = stage.session.status().tasks
        return states, await stage.rest(), now()

    states, records, ended = played(part, tasks=[task("a"), task("b"), task("c", "a"), task("d", "c")])
    assert states == {"running": 1, "cancelled": 3}
    assert ended == 10.0
    assert isinstance(records["a"].error, TaskCancelledError)
    assert "'Title a'" in str(records["c"].error)
    assert "'Title c'" in str(records["d"].error)


def test_a_cancelled_worker_is_sent_home_and_its_task_goes_to_another():
    async def part(stage):
        await asyncio.sleep(5)
        worker = stage.session.item("a").partner
        stage.session.cancel(worker)
        stage.session.cancel(worker)
        with pytest.raises(UsageError, match="last one"):
            stage.session.cancel(stage.session.item("b").partner)
        with pytest.raises(UsageError, match="gone"):
            stage.session.pause(worker)
        return worker, await stage.rest(), stage.session.status().workers

    worker, records, workers = played(part, tasks=[task("a"), task("b")])
    assert (records["a"].ok, records["a"].attempts) == (True, 1)
    assert records["a"].worker != worker
    assert workers == {"gone": 1, "idle": 1}


def test_a_cancelled_run_ends_and_keeps_what_is_done():
    async def part(stage):
        await asyncio.sleep(15)
        stage.session.cancel(stage.session.id)
        late = stage.session.add(task("late"))
        return {name: record.state for name, record in (await stage.rest()).items()}, late, now()

    states, late, ended = played(part, tasks=[task("a"), task("b"), task("c"), task("d")])
    assert states == {"a": "done", "b": "done", "c": "cancelled", "d": "cancelled", late: "cancelled"}
    assert ended == 15.0


# -- requeue ---------------------------------------------------------------------------------------------------


def test_a_requeued_task_is_taken_from_its_worker_and_begun_anew():
    async def part(stage):
        await asyncio.sleep(5)
        stage.session.requeue("a")
        return (await stage.rest())["a"], now(), len(stage.calls)

    record, ended, calls = played(part, tasks=[task("a")])
    assert (record.ok, record.attempts, ended, calls) == (True, 1, 15.0, 2)


def test_a_failed_task_is_taken_up_again_with_those_that_fell_with_it():
    broken = [True]

    def script(call, _endpoint):
        return "no number" if broken[0] else '{"n": 1}'

    async def part(stage):
        first = await stage.rest()
        with pytest.raises(UsageError, match="builds on one that is failed") as refused:
            stage.session.requeue("b")
        assert refused.value.remedy == "requeue a first"
        stage.session.cancel("c")
        broken[0] = False
        stage.session.requeue("a")
        second = await stage.rest()
        with pytest.raises(UsageError, match="is done"):
            stage.session.requeue("a")
        return first, second

    tasks = [task("a", schema=SCHEMA), task("b", "a"), task("c", "a")]
    first, second = played(part, tasks=tasks, script=script, max_attempts=2)
    assert [(first[name].state, first[name].attempts) for name in "abc"] == [
        ("failed", 2),
        ("cancelled", 0),
        ("cancelled", 0),
    ]
    assert first["a"].error.kind == "invalid_output"
    assert [second[name].state for name in "abc"] == ["done"] * 3


def test_a_worker_can_be_relieved_of_its_task():
    async def part(stage):
        await asyncio.sleep(5)
        worker = stage.session.item("a").partner
        stage.session.requeue(worker)
        with pytest.raises(UsageError, match="a run cannot be requeued"):
            stage.session.requeue(stage.session.id)
        return worker, (await stage.rest())["a"]

    worker, record = played(part, tasks=[task("a")])
    assert record.ok
    assert record.worker != worker


# -- steer -----------------------------------------------------------------------------------------------------


def three_turns(call, _endpoint):
    return f"what {asked_before(call)}?" if asked_before(call) < 2 else '{"n": 1}'


def test_what_is_said_stands_where_it_was_said_and_stays():
    async def part(stage):
        await asyncio.sleep(5)
        stage.session.steer("a", "Count twice.")
        await stage.rest()
        return [[message.content for message in call.messages] for _, call in stage.calls]

    first, second, third = played(part, script=three_turns, tasks=[task("a", schema=SCHEMA)])
    assert "Count twice." not in first
    assert second[-1] == "Count twice."
    assert third[: len(second)] == second
    assert third.count("Count twice.") == 1
    assert len(third) == len(second) + 2


def test_what_is_said_to_a_task_or_the_run_reaches_who_takes_it_later():
    async def part(stage):
        stage.session.steer(stage.session.id, "Be brief.")
        stage.session.steer("b", "Be kind.")
        await stage.rest()
        return [[message.content for message in call.messages[1:]] for _, call in stage.calls]

    said = played(part, tasks=[task("a"), task("b", "a")], nodes=1)
    assert said[0][-1:] == ["Be brief."]
    assert said[1][-2:] == ["Be brief.", "Be kind."]


def test_nothing_is_said_to_nobody():
    async def part(stage):
        session = stage.session
        await stage.rest()
        worker = session.items(kind="worker")[0].id
        for what, problem in [("a", "is done"), (worker, "works on nothing"), ("x", "nobody has the id x")]:
            with pytest.raises(UsageError, match=problem):
                session.steer(what, "Hello.")
        with pytest.raises(UsageError, match="nothing to say"):
            session.steer(session.id, " ")
        for method in (session.pause, session.resume, session.cancel):
            with pytest.raises(UsageError, match="is done"):
                method("a")
        with pytest.raises(UsageError, match="the run itself"):
            session.item(session.id)

    played(part, tasks=[task("a")])


def test_a_purse_pays_for_what_is_said():
    async def part(stage):
        await asyncio.sleep(5)
        stage.session.steer("a", "x" * 1000)
        await stage.rest()

    def spent(tell):
        purse = Purse(Budget(tokens=100_000))
        played(part if tell else Stage.rest, script=two_turns, tasks=[task("a", schema=SCHEMA)], purse=purse)
        return purse.statistics().tokens

    assert spent(tell=True) - spent(tell=False) >= 1000


# -- the crew --------------------------------------------------------------------------------------------------


def test_workers_are_made_when_there_is_work_for_them_and_go_when_there_are_too_many():
    async def part(stage):
        session = stage.session
        workers = [dict(session.status().workers)]
        session.add_all(task(f"t{number}") for number in range(8))
        workers.append(dict(session.status().workers))
        session.scale(5)
        workers.append(dict(session.status().workers))
        await asyncio.sleep(5)
        session.scale(1)
        workers.append(dict(session.status().workers))
        await asyncio.sleep(10)
        workers.append(dict(session.status().workers))
        with pytest.raises(UsageError, match="0 workers"):
            session.scale(0)
        await stage.rest()
        return workers, now()

    workers, ended = played(part)
    assert workers == [{}, {"working": 2}, {"working": 5}, {"working": 5}, {"gone": 4, "working": 1}]
    assert ended == 40.0


class Clinging:
    """A worker that goes on whatever it is told."""

    def __init__(self, name, seconds=1_000.0):
        self.id = self.name = name
        self.skills = frozenset()
        self.seconds = seconds

    async def work(self, assignment, mind, *, purse=None, rein=None):
        until = now() + self.seconds
        while now() < until:
            try:
                await asyncio.sleep(until - now())
            except asyncio.CancelledError:
                continue
        return AgentResult(index=0, key="", ok=True, output="late", error=None, text="late")


def test_who_clings_to_a_lost_task_is_ended_and_its_answer_refused():
    async def part(stage):
        records = await stage.rest()
        await asyncio.sleep(1_000)
        return records, stage.session.records(), stage.session.status().workers

    crew = [Clinging("one", 1_000.0), Clinging("two", 3.0)]
    first, last, workers = played(part, workers=crew, tasks=[task("a"), task("b")])
    assert {(record.text, record.worker, record.attempts) for record in first.values()} == {
        ("late", "two", 1),
        ("late", "two", 2),
    }
    assert last == tuple(first[name] for name in "ab")
    assert workers == {"idle": 2}


def test_a_session_ends_although_its_workers_do_not():
    async def part(stage):
        await asyncio.sleep(1)

    played(part, workers=[Clinging("one")], tasks=[task("a")])


class Unbridled:
    """A worker that asks twice and knows no reins."""

    id = name = "unbridled"
    skills = frozenset()

    async def work(self, assignment, mind, *, purse=None, rein=None):
        await mind.think(Thought(prompt="first"))
        return await mind.think(Thought(prompt="second"))


def test_a_worker_that_knows_no_reins_is_held_up_all_the_same():
    async def part(stage):
        await asyncio.sleep(5)
        stage.session.pause("a")
        await asyncio.sleep(500)
        asked = len(stage.calls)
        stage.session.resume("a")
        return asked, (await stage.rest())["a"].attempts, now()

    assert played(part, workers=[Unbridled()], tasks=[task("a")]) == (1, 1, 515.0)


def test_what_another_worker_would_not_do_better_fails_at_once():
    async def part(stage):
        return (await stage.rest())["a"]

    record = played(part, tasks=[task("a")], script=lambda *_: RequestRejectedError("no such parameter"))
    assert (record.state, record.attempts, record.error.kind) == ("failed", 1, "request_rejected")


def test_a_task_has_its_own_time():
    async def part(stage):
        return (await stage.rest())["a"], now()

    record, ended = played(part, tasks=[task("a", timeout_s=4)], max_attempts=2)
    assert (record.state, record.error.kind, record.attempts) == ("failed", "agent_timeout", 2)
    assert ended == 8.0


def test_a_lease_lasts_while_a_tool_works():
    @Tool.define(effect="effect", timeout=500)
    async def dig(where: str) -> str:
        """Dig a hole."""
        await asyncio.sleep(200)
        return f"a hole in {where}"

    def script(call, _endpoint):
        if not any("a hole in Rome" in message.content for message in call.messages):
            return json.dumps({"tool": "dig", "arguments": {"where": "Rome"}})
        return json.dumps({"answer": "done"})

    async def part(stage):
        return (await stage.rest())["a"], now()

    record, ended = played(part, tasks=[task("a")], script=script, tools=[dig])
    assert (record.text, record.attempts, ended) == ("done", 1, 220.0)


def test_a_lease_lasts_while_the_purse_is_waited_for():
    async def part(stage):
        return await stage.rest()

    # It holds one call at a time: the last of eight waits 70 s for its turn.
    purse = Purse(Budget(tokens=450))
    tasks = [task(name) for name in "abcdefgh"]
    records = played(part, tasks=tasks, nodes=8, purse=purse, max_tokens=200)
    assert {(record.ok, record.attempts) for record in records.values()} == {(True, 1)}


def test_orchestrators_are_checked_when_they_are_made():
    model = Model(backend="local://")
    wrong = [
        ({"nodes": 0}, "nodes is 0"),
        ({"lease_s": 0.0}, "lease_s is 0"),
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"workers": [Clinging("a"), Clinging("a")]}, "one id"),
        ({"workers": []}, "nodes is 0"),
    ]
    for options, problem in wrong:
        with pytest.raises(UsageError, match=problem):
            Orchestrator(model, **options)


# -- a person ----------------------------------------------------------------------------------------------------------


def test_every_worker_that_is_made_may_ask_the_person_of_the_orchestrator():
    asked = []

    def script(call, endpoint):
        said = [message.content for message in call.messages if message.role == "tool"]
        step = {"answer": said[-1]} if said else {"tool": "ask_human", "arguments": {"question": "The word?"}}
        return Reply(json.dumps(step))

    async def rest(stage):
        return await stage.rest()

    def answer(question):
        asked.append(question.text)
        return "sesame"

    records = played(rest, script=script, tasks=[task("one"), task("two")], human=CallbackHuman(answer))
    assert asked == ["The word?"] * 2
    assert all("sesame" in record.text for record in records.values())
