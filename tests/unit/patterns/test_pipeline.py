"""Stages that feed each other; items stream through them."""

import asyncio
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora_swarm import errors
from aurora_swarm.patterns.pipeline import Stage, fan_out_fan_in, run_pipeline, stream_pipeline

from .conftest import REDUCE, on_fleet, supervisor


def shout(call, endpoint):
    """``name: x`` becomes ``name(x)``."""
    name, _, rest = call.messages[-1].content.partition(": ")
    return f"{name}({rest})"


def step(name, field="input", **options):
    return Stage(name, f"{name}: {{{field}}}", **options)


def test_each_stage_is_given_what_the_one_before_it_made():
    async def use(pool):
        return await run_pipeline(pool, [step("draft"), step("check"), step("polish")], "text")

    result, prompts = on_fleet(use, script=shout)
    assert result == "polish(check(draft(text)))"
    assert len(prompts) == 3


def test_several_agents_are_joined_filtered_and_transformed():
    stages = [
        step("ideas", n_agents=4, output_filter=lambda r: r.agent_index != 0, output_transform=len),
        step("use"),
    ]

    async def use(pool):
        return await run_pipeline(pool, stages, "x")

    result, prompts = on_fleet(use, n=4, script=shout)
    assert result == "use(3)"
    assert len(prompts) == 5


def test_branches_run_at_the_same_time_and_join_again():
    stages = [
        step("a"),
        step("b", after=[]),
        Stage("c", "c: {a} and {b} of {initial_input}", after=["a", "b"]),
        Stage("d", "d: {input}", after=["a", "b"]),
    ]

    async def use(pool):
        result = await run_pipeline(pool, stages, "x")
        return result, asyncio.get_running_loop().time()

    (result, took), _ = on_fleet(use, script=shout, delay_s=lambda c, e: 1.0)
    assert result == {"c": "c(a(x) and b(x) of x)", "d": "d(a:\na(x)\n\nb:\nb(x))"}
    assert took == pytest.approx(2.0, abs=0.1)


def test_stages_may_have_endpoints_of_their_own():
    async def use(pool):
        where = []
        stages = [
            step("a", n_agents=2, output_filter=lambda r: where.append(r.endpoint.host) or True),
            step("b", n_agents=1, output_filter=lambda r: where.append(r.endpoint.host) or True),
        ]
        await run_pipeline(pool, stages, "x", reuse_agents=False)
        return where

    where, _ = on_fleet(use, n=3, script=shout)
    assert where == ["node0", "node1", "node2"]


@settings(max_examples=30)
@given(st.integers(0, 200), st.sets(st.integers(0, 199), max_size=20), st.integers(0, 100))
def test_items_stream_through_and_none_is_lost_or_doubled(count, lost, seed):
    def script(call, endpoint):
        broken = int(re.search(r"\d+", call.messages[-1].content).group()) in lost
        second = call.messages[-1].content.startswith("b: ")
        return errors.RequestRejectedError("no") if broken and second else shout(call, endpoint)

    async def use(pool):
        return [flowed async for flowed in stream_pipeline(pool, [step("a"), step("b")], range(count))]

    results, _ = on_fleet(use, script=script, seed=seed)
    assert sorted(flowed.index for flowed in results) == list(range(count))
    for flowed in results:
        assert flowed.ok == (flowed.index not in lost)
        assert flowed.output == (f"b(a({flowed.index}))" if flowed.ok else None)
        assert flowed.ok or "stage b: 0 of 1 answers" in str(flowed.error)
        assert list(flowed.stages) == ["a", "b"]


def test_an_item_does_not_wait_for_a_slow_one():
    async def use(pool):
        results = stream_pipeline(pool, [step("a"), step("b")], ["slow", "quick"])
        first = await anext(results)
        when = asyncio.get_running_loop().time()
        await results.aclose()
        return first, when, pool.statistics().outstanding

    (first, when, outstanding), _ = on_fleet(
        use, n=1, script=shout, delay_s=lambda c, e: 50.0 if "slow" in c.messages[-1].content else 1.0
    )
    assert (first.index, when, outstanding) == (1, pytest.approx(2.0, abs=0.1), 0)


def test_a_stage_without_its_quorum_ends_the_item_with_its_name():
    def script(call, endpoint):
        return errors.RequestRejectedError("no") if endpoint.host == "node0" else "fine"

    async def use(pool):
        with pytest.raises(errors.QuorumError, match="stage a: 1 of 2 answers are in the result, 2 are needed"):
            await run_pipeline(pool, [step("a", n_agents=2, quorum=1.0), step("b")], "x", reuse_agents=False)

    _, prompts = on_fleet(use, n=4, script=script)
    assert len(prompts) == 2


def test_an_error_of_a_callback_is_the_callers():
    async def use(pool):
        with pytest.raises(ZeroDivisionError):
            await run_pipeline(pool, [step("a", output_transform=lambda rs: 1 / 0)], "x")

    on_fleet(use, script=shout)


def test_fan_out_fan_in_collects_what_the_workers_say():
    async def use(pool):
        return await fan_out_fan_in(pool, "leaf 7", REDUCE, 3)

    result, prompts = on_fleet(use, n=5, script=supervisor())
    assert result.text == "<7><7><7>"
    assert (result.n_ok, len(prompts)) == (3, 4)


@pytest.mark.parametrize(
    ("stages", "problem"),
    [
        ([], "no stages"),
        ([step("a"), step("a")], "named 'a'"),
        ([step("input")], "named 'input'"),
        ([step("a", after=["b"]), step("b")], "comes after 'b', which does not stand before it"),
        ([step("a", n_agents=0)], "asks 0 agents"),
        ([step("a", quorum=2)], "quorum is 2 of 1"),
        ([step("a", "other")], "other"),
        ([step("a", n_agents=9)], "want 9 endpoints of their own, the pool has 8"),
    ],
)
def test_stages_are_checked_before_anything_is_sent(stages, problem):
    async def use(pool):
        with pytest.raises(errors.UsageError, match=re.escape(problem)):
            await run_pipeline(pool, stages, "x", reuse_agents=False)

    _, prompts = on_fleet(use)
    assert prompts == []
