"""Nothing is lost, doubled or reordered on the way up, whatever fails and whoever is late."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora_swarm import errors
from aurora_swarm.patterns.fan_in import cut, packed
from aurora_swarm.patterns.tree_reduce import tree_reduce

from .conftest import REDUCE, on_fleet, supervisor


def marks(text):
    return [int(mark) for mark in re.findall(r"<(\d+)>", text)]


@settings(max_examples=60)
@given(
    count=st.integers(1, 400),
    fanin=st.integers(2, 60),
    lost=st.sets(st.integers(0, 399), max_size=40),
    seed=st.integers(0, 1000),
)
def test_every_answer_is_taken_in_once_and_in_order(count, fanin, lost, seed):
    def fails(prompt):
        return errors.RequestRejectedError("no") if int(prompt.split()[-1]) in lost else None

    async def use(pool):
        return await tree_reduce(pool, "leaf {item}", REDUCE, fanin, range(count))

    result, prompts = on_fleet(use, script=supervisor(fails), seed=seed)
    answered = [i for i in range(count) if i not in lost]
    assert result.success == bool(answered)
    assert marks(result.text) == answered
    assert (result.n_ok, result.n_failed) == (len(answered), count - len(answered))
    assert result.missing == tuple(i for i in range(count) if i in lost)
    assert result.attempts == len(prompts)
    reduces = [c for c in prompts if c.startswith("REDUCE")]
    assert all(len(re.findall(r"^\d+\. ", c, re.M)) <= fanin for c in reduces)


def test_without_items_every_endpoint_answers():
    async def use(pool):
        return await tree_reduce(pool, "leaf 5", REDUCE, 3)

    result, _ = on_fleet(use, n=7)
    assert marks(result.text) == [5] * 7
    assert result.n_ok == 7


def test_supervisors_are_told_their_level():
    async def use(pool):
        return await tree_reduce(pool, "leaf {item}", "REDUCE at level {level}\n{responses}", 2, range(8))

    _, prompts = on_fleet(use, delay_s=lambda c, e: 1.0)
    levels = [m.group(1) for c in prompts if (m := re.match(r"REDUCE at level (\d)", c))]
    assert sorted(levels) == ["0"] * 4 + ["1"] * 2 + ["2"]


def test_a_group_is_reduced_before_a_straggler_elsewhere_has_answered():
    times = []

    def delay(call, endpoint):
        return 50.0 if call.messages[-1].content == "leaf 0" else 1.0

    def script(call, endpoint):
        times.append(call.messages[-1].content)
        return supervisor()(call, endpoint)

    async def use(pool):
        return await tree_reduce(pool, "leaf {item}", REDUCE, 2, range(4))

    on_fleet(use, n=1, script=script, delay_s=delay)
    assert times.index("REDUCE\n1. <2>\n\n2. <3>") < times.index("leaf 0")


def test_below_the_quorum_it_is_a_failure_that_says_so():
    def fails(prompt):
        return errors.RequestRejectedError("too rude") if int(prompt.split()[-1]) < 3 else None

    async def use(pool):
        return await tree_reduce(pool, "leaf {item}", REDUCE, 5, range(10), quorum=0.8)

    result, _ = on_fleet(use, script=supervisor(fails))
    assert not result.success
    assert isinstance(result.error, errors.QuorumError)
    assert "7 of 10 answers are in the result, 8 are needed" in str(result.error)
    assert "too rude" in str(result.error)
    assert (result.n_ok, result.missing, result.text) == (7, (0, 1, 2), "")


def test_a_step_that_is_refused_is_taken_in_halves():
    def too_long(prompt):
        return errors.RequestRejectedError("too long") if prompt.count("<") > 4 else None

    async def use(pool):
        return await tree_reduce(pool, "leaf {item}", REDUCE, 16, range(16))

    shorter = supervisor(reduce_fails=too_long)

    def script(call, endpoint):
        answer = shorter(call, endpoint)
        return answer if not isinstance(answer, str) or answer.count("<") < 2 else answer[: answer.index(">") + 1]

    result, _ = on_fleet(use, script=script)
    assert result.success
    assert result.n_ok == 16


def test_what_a_failed_step_was_to_take_in_is_missing():
    def fails(prompt):
        return errors.ServerError("broken") if "<3>" in prompt else None

    async def use(pool):
        return await tree_reduce(pool, "leaf {item}", REDUCE, 2, range(8), quorum=4)

    result, _ = on_fleet(use, script=supervisor(reduce_fails=fails))
    assert result.success
    assert marks(result.text) == [0, 1, 4, 5, 6, 7]
    assert result.missing == (2, 3)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"fanin": 1}, "fanin is 1"),
        ({"items": []}, "no items"),
        ({"reduce_prompt": "Merge"}, "no {responses}"),
        ({"reduce_prompt": "{responses} {what}"}, "what"),
        ({"prompt": "no place"}, "no {item}"),
        ({"quorum": 9}, "quorum is 9 of 4"),
        ({"quorum": 1.5}, "quorum is 1.5"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(options, problem):
    async def use(pool):
        with pytest.raises(errors.UsageError, match=re.escape(problem)):
            await tree_reduce(
                pool,
                **{"prompt": "leaf {item}", "reduce_prompt": REDUCE, "items": range(4)} | options,
            )

    _, prompts = on_fleet(use)
    assert prompts == []


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 100), st.integers(1, 20))
def test_groups_are_neighbours_that_fit(sizes, room, most):
    groups = packed(sizes, room, most)
    assert [place for group in groups for place in group] == list(range(len(sizes)))
    for group in groups:
        assert len(group) <= most
        assert len(group) == 1 or sum(sizes[i] for i in group) <= room


@given(st.text(max_size=300), st.integers(1, 500), st.integers(1, 500))
def test_a_cut_text_keeps_both_ends_and_says_so(text, tokens, most):
    short = cut(text, tokens, most)
    if tokens <= most:
        assert short == text
    else:
        head, _, tail = short.partition("\n[... ")
        assert text.startswith(head)
        assert text.endswith(tail.partition("left out ...]\n")[2])
        assert len(head) <= len(text) * most / tokens
