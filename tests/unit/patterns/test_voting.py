"""A vote ends when it is decided, and as the full vote would have."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm import errors
from aurora_swarm.patterns.voting import ahead, is_decided, sequential_vote

from .conftest import on_fleet


def voters(accuracy, seed):
    """Each says the right thing with this probability, else one of three wrong ones."""
    dice = random.Random(seed)
    return lambda call, endpoint: "right" if dice.random() < accuracy else dice.choice(["wrong", "other", "else"])


def steadily(call, endpoint):
    """No voter is late, so that none gets a rival."""
    return 1.0


def vote(script, **options):
    return on_fleet(lambda pool: sequential_vote(pool, "What is it?", **options), script=script, delay_s=steadily)


def test_easy_questions_have_the_same_winner_for_less_than_half_the_votes():
    asked = []
    for seed in range(60):
        full, _ = vote(voters(0.9, seed), sure=1.0, at_once=16)
        early, prompts = vote(voters(0.9, seed))
        assert early.winner == full.winner == "right"
        asked.append(len(prompts))
    assert sum(asked) <= 0.5 * 60 * 16


def test_a_hard_question_is_put_to_all():
    answers = iter(["a", "b"] * 8)
    result, prompts = vote(lambda c, e: next(answers))
    assert len(prompts) == 16
    assert not result.decided_early
    assert (result.winner, result.confidence, result.votes) == ("a", 0.5, {"a": 8, "b": 8})


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=15))
def test_certainty_never_changes_the_winner(texts):
    full = Counter(texts)
    for heard in range(1, len(texts) + 1):
        votes = Counter(texts[:heard])
        if is_decided(votes, len(texts) - heard, 1.0):
            leader, most = votes.most_common(1)[0]
            assert full[leader] == max(full.values())
            assert sum(count == full[leader] for count in full.values()) == 1 or most * 2 > len(texts)
            break


def test_the_probability_is_that_of_the_beta_distribution():
    assert ahead(0, 0) == 0.5
    assert ahead(4, 0) == pytest.approx(31 / 32)
    assert ahead(3, 3) == 0.5
    assert ahead(50, 10) > 0.999


def test_failures_are_no_votes_and_too_few_voters_no_winner():
    answers = iter([errors.RequestRejectedError("no"), "yes", errors.RequestRejectedError("no")] * 2)
    result, _ = vote(lambda c, e: next(answers), n_voters=6, quorum=3)
    assert (result.winner, result.votes) == ("", {"yes": 2})
    assert isinstance(result.error, errors.QuorumError)
    assert result.responses.n_failed == 4


@pytest.mark.parametrize("options", [{"n_voters": 0}, {"at_once": 0}, {"sure": 0.3}, {"sure": 1.1}, {"quorum": 17}])
def test_numbers_are_checked(options):
    async def use(pool):
        with pytest.raises(errors.UsageError):
            await sequential_vote(pool, "What?", **options)

    assert on_fleet(use)[1] == []
