"""Tools run once for equal calls, within their limits, and never beyond what was granted."""

import asyncio
import random
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm import Tool
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.tools.bucket import TokenBucket
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.message import ToolCall


def counted(effect="pure", delay_s=1.0, fail_first=0, **options):
    runs = []

    @Tool.define(name="tool", effect=effect, **options)
    async def function(x: int) -> str:
        """Count."""
        runs.append(x)
        await asyncio.sleep(delay_s)
        if len(runs) <= fail_first:
            raise ValueError("broken")
        return f"<{x}>"

    return function, runs


def call(x, name="tool"):
    return ToolCall("id", name, {"x": x})


def use(main):
    async def body():
        pool = ToolPool()
        try:
            return await main(pool)
        finally:
            await pool.aclose()

    return run_virtual(body())


def test_equal_calls_of_a_pure_tool_run_once_whenever_they_come():
    tool, runs = counted()

    async def main(pool):
        async def later(delay_s):
            await asyncio.sleep(delay_s)
            return await pool.call(call(7), {"tool": tool})

        answers = await asyncio.gather(*(later(d) for d in (0, 0, 0.5, 1.5, 30)))
        return answers, pool.statistics()["tool"]

    answers, statistics = use(main)
    assert runs == [7]
    assert {a.text for a in answers} == {"<7>"}
    assert [a.executed for a in answers] == [True, False, False, False, False]
    assert (statistics.asked, statistics.executed, statistics.shared, statistics.remembered) == (5, 1, 2, 2)


@pytest.mark.parametrize("effect", ["effect", "idempotent"])
def test_calls_that_are_not_pure_are_never_shared(effect):
    tool, runs = counted(effect)

    async def main(pool):
        return await asyncio.gather(*(pool.call(call(7), {"tool": tool}) for _ in range(4)))

    assert all(a.executed for a in use(main))
    assert runs == [7, 7, 7, 7]


def test_when_the_leader_fails_the_next_one_leads():
    tool, runs = counted(fail_first=1)

    async def main(pool):
        return await asyncio.gather(*(pool.call(call(7), {"tool": tool}) for _ in range(5)))

    answers = use(main)
    assert [a.ok for a in answers] == [False, True, True, True, True]
    assert "ValueError: broken" in answers[0].text
    assert len(runs) == 2


def test_a_call_that_always_fails_costs_those_who_wait_two_executions():
    tool, runs = counted(delay_s=1000, timeout=30)

    async def main(pool):
        answers = await asyncio.gather(*(pool.call(call(7), {"tool": tool}) for _ in range(100)))
        return answers, asyncio.get_running_loop().time()

    answers, wall = use(main)
    assert not any(a.ok for a in answers)
    assert len(runs) == 2
    assert sum(a.executed for a in answers) == 2
    assert wall == pytest.approx(60)


def test_a_failure_is_not_remembered():
    tool, runs = counted(fail_first=1)

    async def main(pool):
        return [await pool.call(call(7), {"tool": tool}) for _ in range(3)]

    assert [a.ok for a in use(main)] == [False, True, True]
    assert len(runs) == 2


def test_what_nobody_waits_for_any_more_is_cancelled_and_later_calls_run_anew():
    ended = []

    @Tool.define(effect="pure")
    async def tool(x: int) -> str:
        """Wait."""
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(asyncio.get_running_loop().time())
        return "done"

    async def main(pool):
        tasks = [asyncio.ensure_future(pool.call(call(7), {"tool": tool})) for _ in range(3)]
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        late = asyncio.ensure_future(pool.call(call(7), {"tool": tool}))
        await asyncio.gather(*tasks, return_exceptions=True)
        return await late

    assert use(main).text == "done"
    assert ended == [1, 11]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 4), st.none() | st.floats(0, 4)), min_size=1, max_size=12),
    st.integers(0, 3),
)
def test_whoever_is_cancelled_and_whatever_fails_everyone_else_gets_an_answer(callers, fail_first):
    tool, _ = counted(fail_first=fail_first)

    async def main(pool):
        async def caller(x, start_s, cancel_s):
            await asyncio.sleep(start_s)
            return await asyncio.wait_for(pool.call(call(x), {"tool": tool}), cancel_s)

        answers = await asyncio.gather(*(caller(*c) for c in callers), return_exceptions=True)
        await asyncio.sleep(0)
        assert not pool._flights._shared
        assert not pool._flights._running
        return answers

    for (x, _, cancel_s), answer in zip(callers, use(main), strict=True):
        if isinstance(answer, TimeoutError):
            assert cancel_s is not None
        else:
            assert answer.text == f"<{x}>" if answer.ok else "broken" in answer.text


def test_cancelling_the_leader_fails_nobody_else():
    tool, runs = counted()

    async def main(pool):
        tasks = [asyncio.ensure_future(pool.call(call(7), {"tool": tool})) for _ in range(3)]
        await asyncio.sleep(0.5)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, *rest = use(main)
    assert isinstance(first, asyncio.CancelledError)
    assert all(a.text == "<7>" for a in rest)
    assert runs == [7]


def test_a_tool_that_takes_too_long_is_told_as_an_answer():
    tool, _ = counted(delay_s=100, timeout=5)

    async def main(pool):
        return await pool.call(call(1), {"tool": tool}), asyncio.get_running_loop().time()

    answer, wall = use(main)
    assert (answer.ok, answer.text) == (False, "tool took longer than 5 s")
    assert wall == pytest.approx(5)


@pytest.mark.parametrize(
    "raised",
    [ValueError("why"), SystemExit("why"), StopIteration("why"), KeyboardInterrupt("why"), asyncio.CancelledError()],
)
@pytest.mark.parametrize("effect", ["pure", "effect"])
def test_whatever_a_plain_function_raises_is_told_to_the_model(raised, effect):
    @Tool.define(name="tool", effect=effect)
    def tool(x: int) -> str:
        """Raise."""
        raise raised

    answer = use(lambda pool: pool.call(call(1), {"tool": tool}))
    assert (answer.ok, answer.executed) == (False, True)
    assert "failed" in answer.text


@pytest.mark.parametrize(
    "raised", [ValueError("why"), SystemExit("why"), TimeoutError("why"), asyncio.CancelledError()]
)
@pytest.mark.parametrize("effect", ["pure", "effect"])
def test_whatever_a_coroutine_raises_is_told_to_the_model(raised, effect):
    @Tool.define(name="tool", effect=effect)
    async def tool(x: int) -> str:
        """Raise."""
        raise raised

    answer = use(lambda pool: pool.call(call(1), {"tool": tool}))
    assert not answer.ok
    assert "failed" in answer.text
    assert "took longer" not in answer.text


def test_functions_that_never_return_keep_no_other_tool_waiting():
    stop = threading.Event()

    @Tool.define(name="stuck", timeout=0.05)
    def stuck(x: int) -> None:
        """Never return."""
        stop.wait()

    @Tool.define(name="tool")
    def quick(x: int) -> str:
        """Return."""
        return "quick"

    async def main(pool):
        lost = await asyncio.gather(*(pool.call(call(i, "stuck"), {"stuck": stuck}) for i in range(70)))
        return lost, await pool.call(call(1), {"tool": quick})

    try:
        lost, answer = asyncio.run(_with_pool(main))
    finally:
        stop.set()
    assert all("took longer" in a.text for a in lost)
    assert answer.text == "quick"


def test_a_program_ends_although_a_tool_never_returns():
    program = """
import asyncio, time
from aurora_swarm import Tool
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.message import ToolCall

@Tool.define(timeout=0.1)
def stuck(x: int) -> None:
    "Never return."
    time.sleep(1000)

async def main():
    print((await ToolPool().call(ToolCall("id", "stuck", {"x": 1}), {"stuck": stuck})).text)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "stuck took longer than 0.1 s\n"


@pytest.mark.parametrize("value", ["a\ud800b", b"\xff", object(), asyncio.sleep, {"a": {1: float("nan")}}, None])
def test_whatever_a_tool_returns_the_answer_is_text_that_a_wire_can_carry(value):
    @Tool.define(name="tool")
    def tool(x: int) -> object:
        """Return junk."""
        return value

    use(lambda pool: pool.call(call(1), {"tool": tool})).text.encode()


def test_a_plain_function_that_returns_a_coroutine_is_told_to_be_async():
    @Tool.define(name="tool")
    def tool(x: int) -> object:
        """Return a coroutine."""
        return asyncio.sleep(0)

    assert "async def" in use(lambda pool: pool.call(call(1), {"tool": tool})).text


def test_ten_thousand_calls_of_tools_that_were_not_granted_execute_nothing_and_take_no_room():
    tool, runs = counted()
    dice = random.Random(7)

    async def main(pool):
        for i in range(10_000):
            name = dice.choice(["tools", "tool ", "TOOL", "t\u043eol", "__call__", "", f"tool{i}", "tool\0", "../tool"])
            answer = await pool.call(call(1, name), {"tool": tool})
            assert not answer.ok
            assert not answer.executed
        return pool.statistics()

    statistics = use(main)
    assert runs == []
    assert len(statistics) == 1
    assert sum(s.refused for s in statistics.values()) == 10_000


def test_a_tool_that_was_not_granted_is_never_executed():
    tool, runs = counted()

    async def main(pool):
        return [await pool.call(ToolCall("id", name, {"x": 1}), {"other": tool}) for name in ("tool", "", "os.system")]

    assert all(not a.ok and not a.executed and "there is no tool" in a.text for a in use(main))
    assert runs == []


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 3)), max_size=20))
def test_only_granted_arguments_reach_a_tool(wishes):
    reached = []

    @Tool.define(name="a")
    async def tool(x: str) -> str:
        """Note."""
        reached.append(x)
        return x

    async def main(pool):
        granted = {"a": tool.limit(x=["1", "2"])}
        for name, x in wishes:
            await pool.call(ToolCall("id", name, {"x": str(x)}), granted)

    use(main)
    assert reached == [str(x) for name, x in wishes if name == "a" and x in {1, 2}]


def test_a_sync_tool_does_not_block_the_loop():
    @Tool.define(name="tool")
    def tool(x: int) -> str:
        """Sleep for real."""
        time.sleep(0.2)
        return str(x)

    async def main():
        pool, ticks = ToolPool(), 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.ensure_future(tick())
        answer = await pool.call(call(3), {"tool": tool})
        ticking.cancel()
        await pool.aclose()
        return answer.text, ticks

    text, ticks = asyncio.run(main())
    assert text == "3"
    assert ticks >= 3


def test_a_rate_limit_spreads_the_calls():
    tool, _ = counted("effect", delay_s=0, rate_limit=5)

    async def main(pool):
        await asyncio.gather(*(pool.call(call(i), {"tool": tool}) for i in range(25)))
        return asyncio.get_running_loop().time()

    assert use(main) == pytest.approx(4.0)


@given(st.lists(st.floats(0, 5), min_size=1, max_size=40), st.floats(0.1, 50))
def test_a_bucket_never_allows_more_than_its_rate_and_one_burst(gaps, rate):
    bucket, now, starts = TokenBucket(rate, 0.0), 0.0, []
    for gap in gaps:
        now += gap
        starts.append(now + bucket.take(now))
    for i, start in enumerate(starts):
        later = [s for s in starts[i:] if s <= start + 1.0]
        assert len(later) <= rate + max(rate, 1.0) + 1


def test_a_long_answer_is_cut_and_says_so():
    @Tool.define(name="tool", max_chars=50)
    async def tool(x: int) -> str:
        """Much."""
        return "y" * x

    async def main(pool):
        return await pool.call(call(1000), {"tool": tool})

    assert use(main).text == "y" * 50 + "\n[cut after 50 of 1000 characters]"


def test_an_answer_that_is_no_text_is_given_as_json():
    @Tool.define(name="tool")
    async def tool(x: int) -> dict[str, object]:
        """Data."""
        return {"x": x, "list": [1, None]}

    async def main(pool):
        return await pool.call(call(1), {"tool": tool})

    assert use(main).text == '{"x":1,"list":[1,null]}'


def test_a_changed_file_is_read_again(tmp_path):
    (tmp_path / "f").write_text("one")
    tool = Tool.read_file.beneath(tmp_path)
    wish = ToolCall("id", "read_file", {"path": "f"})

    async def main(pool):
        await asyncio.sleep(0.03)  # so old that another change would be seen
        first = await pool.call(wish, {"read_file": tool})
        again = await pool.call(wish, {"read_file": tool})
        (tmp_path / "f").write_text("other")
        return first, again, await pool.call(wish, {"read_file": tool})

    first, again, changed = asyncio.run(_with_pool(main))
    assert (first.text, again.text, changed.text) == ("one", "one", "other")
    assert (first.executed, again.executed, changed.executed) == (True, False, True)


async def _with_pool(main):
    pool = ToolPool()
    try:
        return await main(pool)
    finally:
        await pool.aclose()
