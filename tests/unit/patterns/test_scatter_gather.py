"""Many prompts, results in input order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora_swarm import errors
from aurora_swarm.patterns.scatter_gather import map_gather, scatter_gather

from .conftest import on_fleet, supervisor


@settings(max_examples=40)
@given(st.integers(0, 400), st.sets(st.integers(0, 399), max_size=30), st.integers(0, 1000))
def test_nothing_is_lost_doubled_or_reordered(count, lost, seed):
    def fails(prompt):
        return errors.RequestRejectedError("no") if int(prompt.split()[-1]) in lost else None

    async def use(pool):
        return await scatter_gather(pool, [f"leaf {i}" for i in range(count)])

    responses, _ = on_fleet(use, script=supervisor(fails), seed=seed)
    assert [r.index for r in responses] == list(range(count))
    assert [r.text for r in responses] == ["" if i in lost else f"<{i}>" for i in range(count)]
    assert responses.missing == tuple(i for i in range(count) if i in lost)
    assert responses.n_ok + responses.n_failed == count


def test_items_are_put_into_the_template_and_never_act_as_one():
    async def use(pool):
        return await map_gather(pool, ["{item}", {"a": 1}, 7], "Say it: {item}")

    _, prompts = on_fleet(use)
    assert sorted(set(prompts)) == ["Say it: 7", 'Say it: {"a":1}', "Say it: {item}"]


@pytest.mark.parametrize("template", ["no place", "{item} and {other}"])
def test_a_wrong_template_is_refused_before_anything_is_sent(template):
    async def use(pool):
        with pytest.raises(errors.UsageError):
            await map_gather(pool, ["a"], template)

    _, prompts = on_fleet(use)
    assert prompts == []
