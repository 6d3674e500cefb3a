"""Whenever agents come, equal pure calls run once: executions are counted by the tools themselves."""

import asyncio
import random
import time

import pytest

from aurora_swarm import Tool
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.message import ToolCall

AGENTS = 200
FILES = [f"f{i}.txt" for i in range(5)]


@pytest.fixture
def folder(tmp_path):
    """Five files, so old that another change would be seen."""
    for name in FILES:
        (tmp_path / name).write_text(f"what is in {name}")
    time.sleep(0.03)
    return tmp_path


async def agent(pool, tools, skew_s, order, gap_s):
    await asyncio.sleep(skew_s)
    texts = []
    for name in order:
        answer = await pool.call(ToolCall("id", "read_file", {"path": name}), tools)
        texts.append((name, answer.text))
        await asyncio.sleep(gap_s)
    return texts


def run(main):
    async def body():
        pool = ToolPool()
        try:
            return await main(pool)
        finally:
            await pool.aclose()

    return run_virtual(body())


@pytest.mark.parametrize("skew_s", [0.0, 0.001, 1.0, 60.0])
@pytest.mark.parametrize("seed", range(3))
def test_two_hundred_agents_that_read_the_same_five_files_read_five_times(folder, skew_s, seed):
    dice = random.Random(seed)
    plans = [(dice.uniform(0, skew_s), dice.sample(FILES, 5), dice.choice([0, 0.5, 3])) for _ in range(AGENTS)]

    async def main(pool):
        base = Tool.read_file.beneath(folder)
        # Every agent has a grant of its own, as a batch gives it.
        tools = [{"read_file": base.limit(path=order)} for _, order, _ in plans]
        read = await asyncio.gather(*(agent(pool, t, *plan) for t, plan in zip(tools, plans, strict=True)))
        return read, pool.statistics()["read_file"]

    read, statistics = run(main)
    assert statistics.asked == 5 * AGENTS
    assert statistics.executed == 5
    assert statistics.shared + statistics.remembered == 5 * AGENTS - 5
    assert all(text == f"what is in {name}" for texts in read for name, text in texts)


def test_a_file_that_changes_meanwhile_is_seen_by_all_who_come_later(folder):

    async def main(pool):
        tools = {"read_file": Tool.read_file.beneath(folder)}

        def change_for_good():
            (folder / "f0.txt").write_text("something else")
            time.sleep(0.03)

        async def change():
            await asyncio.sleep(30.5)
            await asyncio.to_thread(change_for_good)  # virtual time stands still meanwhile

        reading = [agent(pool, tools, float(i % 60), FILES, 0) for i in range(AGENTS)]
        _, *read = await asyncio.gather(change(), *reading)
        return read, pool.statistics()["read_file"].executed

    read, executed = run(main)
    for i, texts in enumerate(read):
        assert texts[0][1] == ("what is in f0.txt" if i % 60 <= 30 else "something else")
    assert executed == 6


def counting(effect, latency_s, dice, failures=0.0):
    """A tool that counts its executions by argument, and may fail at random."""
    runs = {}

    @Tool.define(name="tool", effect=effect)
    async def tool(x: int) -> str:
        """Count."""
        runs[x] = runs.get(x, 0) + 1
        await asyncio.sleep(dice.uniform(0, latency_s))
        if dice.random() < failures:
            raise ConnectionError("no luck")
        return f"<{x}>"

    return tool, runs


@pytest.mark.parametrize("seed", range(20))
def test_executions_are_the_unique_calls_at_any_skew(seed):
    dice = random.Random(seed)
    tool, runs = counting("pure", dice.choice([0, 0.1, 5]), dice)
    skew_s = dice.choice([0, 0.01, 1, 60])

    async def main(pool):
        async def one(x):
            await asyncio.sleep(dice.uniform(0, skew_s))
            return await pool.call(ToolCall("id", "tool", {"x": x}), {"tool": tool})

        wanted = [dice.randrange(25) for _ in range(500)]
        return wanted, await asyncio.gather(*map(one, wanted))

    wanted, answers = run(main)
    assert [a.text for a in answers] == [f"<{x}>" for x in wanted]
    assert runs == dict.fromkeys(wanted, 1)


@pytest.mark.parametrize("effect", ["effect", "idempotent"])
def test_effects_are_never_merged(effect):
    dice = random.Random(5)
    tool, runs = counting(effect, 5, dice)

    async def main(pool):
        async def one(x):
            await asyncio.sleep(dice.uniform(0, 3))
            return await pool.call(ToolCall("id", "tool", {"x": x}), {"tool": tool})

        return await asyncio.gather(*(one(i % 3) for i in range(300)))

    assert all(a.executed for a in run(main))
    assert runs == {0: 100, 1: 100, 2: 100}


@pytest.mark.parametrize("seed", range(20))
def test_a_leader_that_dies_costs_no_follower(seed):
    """Whoever asked first is cancelled at a random moment; those who wait get their answer from the same execution."""
    dice = random.Random(seed)
    tool, runs = counting("pure", 5, dice)

    async def main(pool):
        def one():
            return asyncio.ensure_future(pool.call(ToolCall("id", "tool", {"x": 1}), {"tool": tool}))

        leader = one()
        await asyncio.sleep(0)
        followers = [one() for _ in range(50)]
        await asyncio.sleep(dice.uniform(0, 0.01))
        leader.cancel()
        return await asyncio.gather(*followers)

    assert {a.text for a in run(main)} == {"<1>"}
    assert runs == {1: 1}


@pytest.mark.parametrize("seed", range(20))
def test_a_leader_that_fails_costs_no_follower_that_luck_could_spare(seed):
    """Each failure is told to who asked first; the others run it once more, together, and never more than once."""
    dice = random.Random(seed)
    tool, runs = counting("pure", 5, dice, failures=0.5)

    async def main(pool):
        wishes = (pool.call(ToolCall("id", "tool", {"x": i % 10}), {"tool": tool}) for i in range(200))
        return await asyncio.gather(*wishes)

    answers = run(main)
    assert all(count <= 2 for count in runs.values())
    for x in range(10):
        group = answers[x::10]
        assert len({a.ok for a in group[1:]}) == 1  # all followers alike
        assert sum(a.executed for a in group) == runs[x]
