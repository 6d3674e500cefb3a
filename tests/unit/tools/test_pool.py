"""Tools run once for equal calls, within their limits, and never beyond what was granted."""

import asyncio
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
