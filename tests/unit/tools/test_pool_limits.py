"""What bounds a call: its time even where it heeds no cancel, how long it is true, how much of it is shown."""

import asyncio
import contextlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm import Tool, errors
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.tools.flights import GRACE_S, Execution
from aurora_swarm.tools.past import Past
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.tools.texts import estimated_tokens, first_tokens
from aurora_swarm.values.message import ToolCall


def call(x=1):
    return ToolCall("id", "tool", {"x": x})


def use(main, **options):
    async def body():
        pool = ToolPool(**options)
        try:
            return await main(pool)
        finally:
            await pool.aclose()

    return run_virtual(body())


def deaf(effect="effect"):
    """A tool that goes on whenever it is cancelled."""
    ended = []

    @Tool.define(name="tool", timeout=5, effect=effect)
    async def tool(x: int) -> str:
        """Heed no cancel."""
        try:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(1)
        finally:
            ended.append(x)

    return tool, ended


@pytest.mark.parametrize("effect", ["effect", "idempotent", "pure"])
def test_a_tool_that_heeds_no_cancel_keeps_its_caller_no_longer_than_a_grace(effect, caplog):
    tool, ended = deaf(effect)

    async def main(pool):
        answer = await pool.call(call(), {"tool": tool})
        return answer, asyncio.get_running_loop().time()

    answer, wall = use(main)
    assert answer.text == "tool took longer than 5 s, and did not stop when it was cancelled"
    assert wall == pytest.approx(5 + GRACE_S)
    assert ended == [1]  # it was closed, so that it holds nothing any more
    assert "the tool tool goes on although it was cancelled" in caplog.text


def test_a_caller_that_is_cancelled_does_not_wait_for_a_tool_that_heeds_no_cancel():
    tool, ended = deaf()

    async def main(pool):
        task = asyncio.ensure_future(pool.call(call(), {"tool": tool}))
        await asyncio.sleep(2)
        task.cancel()
        await asyncio.wait([task])
        return asyncio.get_running_loop().time()

    assert use(main) == pytest.approx(2)
    assert ended == [1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_tool_that_heeds_nothing_at_all_is_dropped():
    @Tool.define(name="tool", timeout=1)
    async def tool(x: int) -> str:
        """Heed nothing at all."""
        while True:
            with contextlib.suppress(BaseException):
                await asyncio.sleep(1)

    assert "did not stop" in use(lambda pool: pool.call(call(), {"tool": tool})).text


def test_a_program_ends_although_a_coroutine_heeds_no_cancel():
    program = """
import asyncio
from aurora_swarm import Tool
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.message import ToolCall

@Tool.define(timeout=100)
async def deaf(x: int) -> str:
    "Heed no cancel."
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            pass

async def main():
    pool = ToolPool()
    task = asyncio.ensure_future(pool.call(ToolCall("id", "deaf", {"x": 1}), {"deaf": deaf}))
    await asyncio.sleep(0.1)
    await pool.aclose()
    print((await task).text)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "deaf was cancelled\n"
    assert "the tool deaf goes on although it was cancelled" in done.stderr


def test_a_tool_that_ends_late_but_within_its_grace_gives_its_answer():
    @Tool.define(name="tool", timeout=5)
    async def tool(x: int) -> str:
        """Save what there is."""
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(GRACE_S / 2)
        return "half of it"

    assert use(lambda pool: pool.call(call(), {"tool": tool})).text == "half of it"


def test_an_answer_is_true_for_its_ttl():
    runs = []

    @Tool.define(name="tool", effect="pure", ttl=10)
    async def tool(x: int) -> int:
        """Count."""
        runs.append(asyncio.get_running_loop().time())
        return len(runs)

    async def main(pool):
        texts = []
        for _ in range(5):
            texts.append((await pool.call(call(), {"tool": tool})).text)
            await asyncio.sleep(4)
        return texts

    assert use(main) == ["1", "1", "1", "2", "2"]
    assert runs == [0, 12]


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 30), st.none() | st.floats(0.1, 9), st.floats(0, 3)), max_size=60
    )
)
def test_what_is_remembered_is_bounded_true_and_last_asked_for(events):
    past, now, model = Past(4, 60), 0.0, {}
    for key, size, ttl, pause in events:
        now += pause
        found = past.get(key, now)
        if found is not None:
            text, until = model[key]
            assert found.text == text
            assert now < until
        else:
            text = "x" * size
            past.put(key, Execution(text, ok=True), now, ttl)
            model[key] = (text, float("inf") if ttl is None else now + ttl)
            assert size > 60 or past.get(key, now) is not None
        assert len(past) <= 4
        assert sum(len(execution.text) for execution, _ in past._answers.values()) == past._chars <= 60


def test_an_answer_is_cut_to_its_tokens():
    def count(text):
        return len(text.split())

    @Tool.define(name="tool", max_tokens=10)
    async def tool(x: int) -> str:
        """Much."""
        return "word " * x

    async def main(pool):
        return [(await pool.call(call(x), {"tool": tool})).text for x in (10, 1000)]

    short, long = use(main, count_tokens=count)
    assert short == "word " * 10
    shown, note = long.split("\n")
    assert 8 <= count(shown) <= 10
    assert note == f"[cut after {count(shown)} of 1000 tokens]"


@given(st.text(max_size=200), st.integers(1, 50))
def test_no_text_takes_more_than_its_tokens(text, max_tokens):
    shown = first_tokens(text, max_tokens, estimated_tokens)
    if shown != text:
        kept, _, note = shown.rpartition("\n")
        assert text.startswith(kept)
        assert estimated_tokens(kept) <= max_tokens
        assert note.startswith("[cut after ")


def test_an_effect_that_may_have_happened_is_not_repeated_and_the_model_is_told():
    runs = []

    def tool(effect):
        @Tool.define(name="tool", effect=effect)
        async def function(x: int) -> str:
            """Note."""
            runs.append(effect)
            return "done"

        return function

    async def main(pool):
        answers = [await pool.call(call(), {"tool": tool(e)}, again=True) for e in ("pure", "idempotent", "effect")]
        return answers, pool.statistics()["tool"]

    (pure, idempotent, effect), statistics = use(main)
    assert (pure.text, idempotent.text) == ("done", "done")
    assert not pure.in_doubt
    assert (effect.ok, effect.executed, effect.in_doubt) == (False, False, True)
    assert "not known whether this call took effect" in effect.text
    assert runs == ["pure", "idempotent"]
    assert (statistics.asked, statistics.executed, statistics.in_doubt) == (3, 2, 1)


def test_a_call_that_was_not_granted_is_refused_again_too():
    answer = use(lambda pool: pool.call(call(), {}, again=True))
    assert (answer.in_doubt, answer.executed) == (False, False)
    assert "there is no tool" in answer.text


def test_agents_with_other_grants_share_what_they_both_may_ask():
    runs = []

    @Tool.define(name="tool", effect="pure")
    async def tool(x: str) -> str:
        """Note."""
        runs.append(x)
        return x

    async def main(pool):
        for granted in (["a", "b"], ["a", "c"], "{x}"):
            agent = {"tool": tool.limit(x=granted).bind({"x": "a"})}
            assert (await pool.call(ToolCall("id", "tool", {"x": "a"}), agent)).text == "a"
        return await pool.call(ToolCall("id", "tool", {"x": "b"}), {"tool": tool.limit(x=["a"])})

    assert use(main).text.startswith("refused")
    assert runs == ["a"]


def test_two_tools_with_one_name_are_two_tools():
    def made(text):
        @Tool.define(name="tool", effect="pure")
        async def tool(x: int) -> str:
            """Say."""
            return text

        return tool

    async def main(pool):
        return [(await pool.call(call(), {"tool": made(text)})).text for text in ("one", "other")]

    assert use(main) == ["one", "other"]


def test_a_file_that_changes_without_changing_its_size_or_its_moment_is_seen(tmp_path):
    tool, wish = Tool.read_file.beneath(tmp_path), ToolCall("id", "read_file", {"path": "f"})

    async def main():
        pool = ToolPool()
        for i in range(100):
            (tmp_path / "f").write_text(f"{i:05}")
            assert (await pool.call(wish, {"read_file": tool})).text == f"{i:05}"
        await pool.aclose()

    asyncio.run(main())


def test_the_stamp_of_a_file_is_what_is_in_it(tmp_path):
    (tmp_path / "f").write_text("one")
    tool = Tool.read_file.beneath(tmp_path).limit(path=["f"])
    stamp = tool.stamp()
    (tmp_path / "f").touch()
    assert tool.stamp() == stamp
    (tmp_path / "f").write_text("two")
    assert tool.stamp() != stamp
    (tmp_path / "f").unlink()
    assert tool.stamp() != stamp


@pytest.mark.parametrize("options", [{"ttl": 0}, {"max_tokens": 0}, {"ttl": -1}])
def test_numbers_that_make_no_sense_are_refused(options):
    with pytest.raises(errors.ToolDefinitionError):
        Tool.define(**options)(lambda: None)


@pytest.mark.parametrize("arguments", [{"x": "a" * 100_000}, {"y": 1}, {"x": [[[]]]}, {"x": {"a": float("nan")}}, {}])
def test_a_refusal_is_short_whatever_was_asked(arguments):
    @Tool.define(name="tool")
    async def tool(x: int) -> str:
        """Never."""
        raise AssertionError

    answer = use(lambda pool: pool.call(ToolCall("id", "tool", arguments), {"tool": tool}))
    assert answer.text.startswith("refused: ")
    assert len(answer.text) < 1000


def test_closing_in_the_middle_tells_every_caller():
    @Tool.define(name="tool", effect="pure")
    async def tool(x: int) -> str:
        """Wait."""
        await asyncio.sleep(100)
        return ""

    async def main():
        pool = ToolPool()
        tasks = [asyncio.ensure_future(pool.call(call(i % 3), {"tool": tool})) for i in range(9)]
        await asyncio.sleep(1)
        await pool.aclose()
        answers = await asyncio.gather(*tasks)
        return answers, asyncio.get_running_loop().time()

    answers, wall = run_virtual(main())
    assert {a.text for a in answers} == {"tool was cancelled"}
    assert wall == pytest.approx(1)
