"""The batch as its user sees it, on a scripted transport."""

import asyncio
import itertools
import json
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from aurora_swarm import AgentEndpoint, BatchAgent, Tool, VLLMPool, errors
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.event import AgentEnded, AgentStarted, RunEnded, RunStarted, ToolEnded


class Out(BaseModel):
    word: str


class Recorder:
    def __init__(self):
        self.events = []

    def emit(self, event):
        self.events.append(event)


def task_of(call):
    return call.messages[1 if call.messages[0].role == "system" else 0].content


def says(call, endpoint):
    return json.dumps({"word": task_of(call)})


def run(script=says, *, inputs=None, use=None, delay_s=0.1, concurrency=4, **options) -> Any:
    """Run a batch on a scripted pool; return the results and the transport."""
    options = {"task": "{text}", "output_schema": Out, **options}
    transport = ScriptedTransport(script, delay_s=delay_s)

    async def main():
        pool = VLLMPool([AgentEndpoint("a"), AgentEndpoint("b")], "m", transport=transport, concurrency=concurrency)
        async with pool:
            if use is not None:
                return await use(pool, options)
            return await BatchAgent.run(inputs=inputs, backend=pool, **options)

    return run_virtual(main()), transport


def texts(n):
    return [{"text": f"t{i}"} for i in range(n)]


def test_every_input_gets_one_result_in_input_order():
    results, _ = run(inputs=texts(30), delay_s=lambda call, endpoint: hash(task_of(call)) % 7)
    assert [r.output for r in results] == [Out(word=f"t{i}") for i in range(30)]
    assert [r.index for r in results] == list(range(30))
    assert all(r.ok and r.error is None and 1 <= r.attempts <= 2 and r.turns == 1 for r in results)  # one may be raced


def test_no_inputs_are_a_valid_empty_run():
    results, transport = run(inputs=[])
    assert results == []
    assert transport.calls == []


def test_a_failure_is_a_result_and_touches_no_other():
    def script(call, endpoint):
        if task_of(call) == "t3":
            return errors.RequestRejectedError("too long", status=413)
        return says(call, endpoint)

    results, _ = run(script, inputs=texts(6))
    assert [r.ok for r in results] == [True, True, True, False, True, True]
    assert isinstance(results[3].error, errors.RequestRejectedError)
    assert results[3].output is None


def test_user_data_is_never_a_template():
    data = 'braces {text} {{x}} "quotes"\nnewline 🧬 \u202e'
    results, transport = run(inputs=[{"text": data}], task="Say {text}!")
    assert transport.calls[0][1].messages[-1].content == f"Say {data}!"
    assert results[0].ok


def test_an_unknown_field_is_refused_before_anything_is_sent():
    with pytest.raises(errors.TemplateError, match="txet"):
        run(inputs=texts(3), task="Say {txet}")


def test_an_input_that_lacks_a_field_is_named_by_its_place():
    with pytest.raises(errors.TemplateError, match="input 1"):
        run(inputs=[{"text": "a"}, {"other": "b"}])


def test_a_bad_item_of_an_iterator_fails_alone():
    results, _ = run(inputs=iter([{"text": "a"}, {"other": "b"}, "no mapping", {"text": "c"}]))
    assert [r.ok for r in results] == [True, False, False, True]
    assert isinstance(results[1].error, errors.TemplateError)


@pytest.mark.parametrize(
    "options",
    [{"task": " "}, {"max_turns": 0}, {"max_retries": -1}, {"tool_choice": "required"}, {"agent_timeout": 0}],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(errors.UsageError) as caught:
        run(inputs=texts(1), **options)
    assert caught.value.remedy


@pytest.mark.parametrize(("given", "sent"), [(None, 77), (5, 5)])
def test_the_environment_bounds_the_tokens_of_a_batch_that_does_not(monkeypatch, given, sent):
    monkeypatch.setenv("AURORA_SWARM_MAX_TOKENS", "77")
    _, transport = run(inputs=texts(1), max_tokens=given)
    assert transport.calls[0][1].sampling.max_tokens == sent


def test_no_backend_names_the_ways_to_give_one(monkeypatch):
    monkeypatch.delenv("AURORA_SWARM_HOSTFILE", raising=False)
    with pytest.raises(errors.UsageError) as caught:
        BatchAgent.run_sync(task="x", inputs=[])
    assert "AURORA_SWARM_HOSTFILE" in caught.value.remedy


async def test_run_sync_inside_a_loop_is_refused_instead_of_hanging():
    with pytest.raises(errors.UsageError, match="inside an event loop"):
        BatchAgent.run_sync(task="x", inputs=[])


def test_an_invalid_answer_is_asked_again_with_the_error():
    def script(call, endpoint):
        return '{"sound": 1}' if len(call.messages) == 1 else says(call, endpoint)

    results, transport = run(script, inputs=texts(1))
    assert results[0].ok
    assert results[0].attempts == 2
    assert "word" in transport.calls[1][1].messages[-1].content


def test_an_answer_that_never_validates_fails_with_its_last_text():
    results, transport = run(lambda call, endpoint: '{"sound": 1}', inputs=texts(1), max_retries=2)
    assert isinstance(results[0].error, errors.InvalidOutputError)
    assert results[0].text == '{"sound": 1}'
    assert len(transport.calls) == 3


def told_by_tool(call):
    return next((m.content for m in reversed(call.messages) if m.role == "tool"), None)


def tool_then_answer(call, endpoint):
    if told_by_tool(call) is not None:
        return json.dumps({"answer": {"word": told_by_tool(call)}})
    return json.dumps({"tool": "shout", "arguments": {"text": task_of(call)}})


def test_tools_run_once_for_equal_calls_and_their_answers_reach_the_model():
    runs = []

    @Tool.define(effect="pure")
    def shout(text: str) -> str:
        """Shout."""
        runs.append(text)
        return text.upper()

    inputs = [{"text": f"t{i % 3}"} for i in range(12)]
    results, _ = run(tool_then_answer, inputs=inputs, tools=[shout])
    assert [r.output.word for r in results] == [f"T{i % 3}" for i in range(12)]
    assert sorted(runs) == ["t0", "t1", "t2"]
    assert sum(r.tools_executed for r in results) == 3
    assert sum(r.tool_calls for r in results) == 12
    assert {r.turns for r in results} == {2}


def test_a_tool_wait_holds_no_slot():
    @Tool.define
    async def shout(text: str) -> str:
        """Shout slowly."""
        await asyncio.sleep(10)
        return text

    async def use(pool, options):
        results = await BatchAgent.run(inputs=texts(8), backend=pool, **options)
        return results, asyncio.get_running_loop().time()

    (results, wall), _ = run(tool_then_answer, use=use, tools=[shout], concurrency=4, delay_s=1.0)
    assert all(r.ok for r in results)
    assert wall == pytest.approx(13.0, abs=0.5)  # held slots would take 24


def test_after_a_tools_answer_a_short_task_is_said_again():
    @Tool.define
    def shout(text: str) -> str:
        """Shout."""
        return text

    _, transport = run(tool_then_answer, inputs=texts(1), tools=[shout], task="Repeat {text}")
    assert "Repeat t0" in transport.calls[1][1].messages[-1].content
    _, transport = run(tool_then_answer, inputs=texts(1), tools=[shout], task="Repeat {text}" + " please" * 100)
    assert "please" not in transport.calls[1][1].messages[-1].content


def test_a_failing_tool_is_told_to_the_model():
    @Tool.define
    def shout(text: str) -> str:
        """Fail."""
        raise ValueError("no voice")

    results, _ = run(tool_then_answer, inputs=texts(1), tools=[shout])
    assert "no voice" in results[0].output.word


def test_stream_yields_as_they_finish():
    async def use(pool, options):
        inputs = [{"text": t} for t in ("3", "1", "2")]
        return [r.index async for r in BatchAgent.stream(inputs=inputs, backend=pool, **options)]

    order, _ = run(use=use, delay_s=lambda call, endpoint: float(task_of(call)))
    assert order == [1, 2, 0]


def test_closing_a_stream_early_ends_the_work_at_once():
    async def use(pool, options):
        endless = ({"text": str(i)} for i in itertools.count())
        stream = BatchAgent.stream(inputs=endless, backend=pool, **options)
        await anext(stream)
        await stream.aclose()
        return pool.statistics().outstanding

    outstanding, transport = run(use=use)
    assert outstanding == 0
    assert len(transport.calls) < 20


def test_callbacks_hear_of_every_result_and_may_be_async():
    heard = []

    async def on_result(result):
        heard.append(result.index)

    run(inputs=texts(5), on_result=on_result)
    assert sorted(heard) == [0, 1, 2, 3, 4]


def test_a_callback_that_raises_fails_only_its_own_result():
    def on_result(result):
        if result.index == 1:
            raise KeyError("mine")

    results, _ = run(inputs=texts(3), on_result=on_result)
    assert [r.ok for r in results] == [True, False, True]
    assert isinstance(results[1].error, errors.CallbackError)
    assert results[1].output == Out(word="t1")


def test_events_tell_the_whole_story():
    recorder = Recorder()

    @Tool.define(effect="pure")
    def shout(text: str) -> str:
        """Shout."""
        return text

    run(tool_then_answer, inputs=texts(2), tools=[shout], sinks=[recorder])
    kinds = [type(e) for e in recorder.events]
    assert kinds[0] is RunStarted
    assert kinds[-1] is RunEnded
    assert (kinds.count(AgentStarted), kinds.count(ToolEnded), kinds.count(AgentEnded)) == (2, 2, 2)
    assert recorder.events[0].total == 2


def test_an_agent_that_takes_too_long_fails_alone():
    results, _ = run(
        inputs=[{"text": "1"}, {"text": "100"}],
        delay_s=lambda call, endpoint: float(task_of(call)),
        agent_timeout=10,
    )
    assert [r.ok for r in results] == [True, False]
    assert isinstance(results[1].error, errors.AgentTimeoutError)


# -- the journal -----------------------------------------------------------------------------------------------------


def test_the_same_batch_again_asks_for_nothing(tmp_path):
    journal = tmp_path / "j"
    first, _ = run(inputs=texts(5), journal=journal)
    again, transport = run(inputs=texts(5), journal=journal)
    assert transport.calls == []
    assert [r.output for r in again] == [r.output for r in first]
    assert all(r.resumed for r in again)


def test_failures_are_tried_again(tmp_path):
    def script(call, endpoint):
        return errors.RequestRejectedError("no") if task_of(call) == "t1" else says(call, endpoint)

    run(script, inputs=texts(3), journal=tmp_path / "j")
    results, transport = run(inputs=texts(3), journal=tmp_path / "j")
    assert [task_of(call) for _, call in transport.calls] == ["t1"]
    assert [r.resumed for r in results] == [True, False, True]


CHANGES = {
    "input": {"inputs": [{"text": "t0!"}, {"text": "t1!"}]},
    "task": {"task": "{text}."},
    "system prompt": {"system_prompt": "be brief"},
    "temperature": {"temperature": 0.5},
    "seed": {"seed": 7},
    "max_tokens": {"max_tokens": 9},
    "schema": {"output_schema": {"type": "object", "properties": {"word": {"type": "string"}}}},
    "no schema": {"output_schema": None},
    "model": {"model": "other"},
    "turns": {"max_turns": 3},
    "tools": {"tools": [Tool.list_dir]},
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_determines_an_answer_is_part_of_its_key(tmp_path, change):
    def script(call, endpoint):
        text = says(call, endpoint)
        return json.dumps({"answer": json.loads(text)}) if "tools" in change and call.schema else text

    base = {"inputs": texts(2), "journal": tmp_path / "j"}
    run(script, **base)
    results, transport = run(script, **{**base, **CHANGES[change]})
    assert len(transport.calls) == 2
    assert not any(r.resumed for r in results)


def test_a_changed_file_is_read_and_answered_anew(tmp_path):
    (tmp_path / "f").write_text("one")

    def script(call, endpoint):
        if told_by_tool(call) is not None:
            return json.dumps({"answer": {"word": told_by_tool(call)}})
        return json.dumps({"tool": "read_file", "arguments": {"path": "f"}})

    options = {
        "inputs": [{"text": "x", "path": "f"}],
        "journal": tmp_path / "j",
        "tools": [Tool.read_file.beneath(tmp_path).limit(path="{path}")],
    }
    first, _ = run(script, **options)
    same, _ = run(script, **options)
    (tmp_path / "f").write_text("other")
    changed, _ = run(script, **options)
    assert [r[0].output.word for r in (first, same, changed)] == ["one", "one", "other"]
    assert [r[0].resumed for r in (first, same, changed)] == [False, True, False]


def test_reordered_and_added_inputs_reuse_what_is_known(tmp_path):
    run(inputs=texts(3), journal=tmp_path / "j")
    results, transport = run(inputs=[{"text": "t2"}, {"text": "new"}, {"text": "t0"}], journal=tmp_path / "j")
    assert [r.output.word for r in results] == ["t2", "new", "t0"]
    assert [r.index for r in results] == [0, 1, 2]
    assert [task_of(call) for _, call in transport.calls] == ["new"]


def test_equal_inputs_have_an_answer_each(tmp_path):
    counter = itertools.count()
    inputs = [{"text": "same"}] * 3
    first, _ = run(lambda c, e: json.dumps({"word": str(next(counter))}), inputs=inputs, journal=tmp_path / "j")
    again, transport = run(inputs=inputs, journal=tmp_path / "j")
    assert {r.output.word for r in first} == {"0", "1", "2"}
    assert [r.output for r in again] == [r.output for r in first]
    assert transport.calls == []


def test_an_answer_that_is_not_valid_any_more_is_asked_for_again(tmp_path):
    class Strict(BaseModel):
        word: str

        @field_validator("word")
        @classmethod
        def short(cls, value):
            assert len(value) < limit
            return value

    limit = 100
    run(inputs=texts(1), journal=tmp_path / "j", output_schema=Strict)
    limit = 2
    results, transport = run(inputs=texts(1), journal=tmp_path / "j", output_schema=Strict, max_retries=0)
    assert len(transport.calls) == 1
    assert not results[0].ok


def test_a_result_is_durable_before_anybody_hears_of_it(tmp_path):
    journal = tmp_path / "j"
    seen = []

    class Stop(BaseException):
        pass

    def on_result(result):
        seen.append(result.index)
        if len(seen) == 3:
            raise Stop

    with pytest.raises(Stop):
        run(inputs=texts(20), journal=journal, on_result=on_result, concurrency=1)
    results, _ = run(inputs=texts(20), journal=journal)
    assert {r.index for r in results if r.resumed} >= set(seen)
