"""Many responses, one answer; failures are never counted."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm import aggregators as agg
from aurora_swarm.errors import QuorumError, ServerError, UsageError
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.outcome import Response

NODE = AgentEndpoint("node", 8000)


def answered(*texts):
    return [Response(True, text, None, 0, NODE, i) for i, text in enumerate(texts)]


def failed(index=0, message="broken"):
    return Response(False, "", ServerError(message), 0, NODE, index)


def test_most_votes_win_however_they_are_spelt():
    votes = [failed(), *answered("Yes", "no", " yes.", "YES", "Yes", "No"), failed()]
    assert agg.majority_vote(votes) == ("Yes", 4 / 6)


def test_a_tie_goes_to_the_first_and_a_key_may_decide():
    assert agg.majority_vote(answered("b", "a", "a", "b")) == ("b", 0.5)
    assert agg.majority_vote(answered("A1", "B2", "A3"), key=lambda text: text[0]) == ("A1", 2 / 3)


@given(st.lists(st.sampled_from(["x", "y", "z"]), min_size=1), st.integers(0, 5))
def test_a_vote_is_what_counting_says(texts, failures):
    winner, share = agg.majority_vote(answered(*texts) + [failed()] * failures)
    assert texts.count(winner) == max(texts.count(t) for t in texts)
    assert share == texts.count(winner) / len(texts)


@pytest.mark.parametrize(
    "use",
    [
        agg.majority_vote,
        agg.statistics,
        lambda r: agg.best_of(r, lambda _: 1.0),
        lambda r: agg.top_k(r, 2, lambda _: 1),
    ],
)
def test_of_nothing_nothing_is_made(use):
    with pytest.raises(QuorumError, match="none of 2 responses is an answer; the first failure: broken"):
        use([failed(), failed(1)])


def test_texts_are_joined_in_order_without_failures():
    assert agg.concat([*answered("a", "b"), failed(), *answered("c")], ", ") == "a, b, c"
    assert agg.concat([failed()]) == ""


def test_the_best_come_first_and_equals_in_order():
    responses = [*answered("aa", "b", "cc", "ddd"), failed()]
    assert [r.text for r in agg.top_k(responses, 3, lambda r: len(r.text))] == ["ddd", "aa", "cc"]
    assert agg.best_of(responses, lambda r: -len(r.text)).text == "b"
    with pytest.raises(UsageError, match="k is 0"):
        agg.top_k(responses, 0, lambda r: 0.0)
    with pytest.raises(UsageError, match="no number for response 0"):
        agg.best_of(responses, lambda r: math.nan)


def test_json_is_merged_and_what_is_none_is_named():
    texts = ("[1, 2]", '{"a": 3}', "nonsense", "Here:\n```json\n[4]\n```\nDone.")
    merged, unusable = agg.structured_merge([*answered(*texts), failed(4)])
    assert merged == [1, 2, {"a": 3}, 4]
    assert [(entry["index"], entry["text"]) for entry in unusable] == [(2, "nonsense"), (4, "")]
    assert unusable[1]["error"] == "broken"


def test_numbers_are_summed_up():
    found = agg.statistics([*answered("It is 4.", "1,000", "no idea", "1 or 2"), failed()])
    assert found == {
        "n": 2.0, "mean": 502.0, "median": 502.0, "min": 4.0, "max": 1000.0, "n_unreadable": 2.0,
        "std": pytest.approx(704.28, abs=0.01),
    }  # fmt: skip
    assert agg.statistics(answered("x"), lambda r: 7.0)["std"] == 0.0
    with pytest.raises(QuorumError, match="none of 1 answers holds one number"):
        agg.statistics(answered("none"))


def test_failures_are_counted_by_kind_and_place():
    report = agg.failure_report([*answered("a"), failed(1), failed(2, "worse")])
    assert (report["total"], report["succeeded"], report["failed"]) == (3, 1, 2)
    assert report["by_kind"] == {"server": 2}
    assert report["by_endpoint"] == {NODE.url: 2}
    assert [f["error"] for f in report["failures"]] == ["broken", "worse"]
    assert agg.failure_report([])["success_rate"] == 1.0


def test_agreement_and_entropy_follow_the_meanings():
    same, other = [1.0, 0.1], [0.1, 1.0]
    assert agg.semantic_agreement([same, same]) == pytest.approx(1.0)
    assert agg.semantic_entropy([same, same, same]) == 0.0
    assert agg.semantic_entropy([same, other]) == pytest.approx(math.log(2))
    assert agg.semantic_groups([other, same, same]) == [[1, 2], [0]]
    assert agg.semantic_agreement([same]) == 1.0


@given(st.lists(st.lists(st.floats(0.1, 1), min_size=3, max_size=3), min_size=1, max_size=12), st.floats(0.5, 1))
def test_groups_hold_everyone_once(vectors, threshold):
    groups = agg.semantic_groups(vectors, threshold)
    assert sorted(member for group in groups for member in group) == list(range(len(vectors)))
    assert 0 <= agg.semantic_entropy(vectors, threshold) <= math.log(len(vectors)) + 1e-9


@pytest.mark.parametrize("vectors", [[], [[1.0], [1.0, 2.0]], [[0.0, 0.0]], [[math.inf]]])
def test_embeddings_that_are_none_are_refused(vectors):
    with pytest.raises(UsageError):
        agg.semantic_agreement(vectors)
