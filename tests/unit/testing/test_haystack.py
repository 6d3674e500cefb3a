"""The text is the same for the same seed, as long as was asked, and says each fact once."""

from aurora_swarm.testing.haystack import haystack


def words(text: str) -> int:
    return len(text.split())


def test_a_seed_gives_one_text_of_the_length_that_was_asked() -> None:
    hay = haystack(3, 5_000, count=words)
    assert hay == haystack(3, 5_000, count=words)
    assert hay.text != haystack(4, 5_000, count=words).text
    assert 5_000 <= words(hay.text) < 5_100


def test_every_fact_stands_once_where_it_is_said_to_stand() -> None:
    hay = haystack(3, 5_000, count=words)
    assert len(hay.facts) == len({fact.question for fact in hay.facts}) == 20
    for fact in hay.facts:
        assert hay.text.count(fact.sentence) == 1
        assert hay.text.startswith(fact.sentence, fact.start)
        assert fact.answer in fact.sentence
        assert fact.answer not in fact.question


def test_the_facts_are_spread_over_the_text() -> None:
    hay = haystack(3, 5_000, count=words)
    shares = [fact.start / len(hay.text) for fact in hay.facts]
    assert shares == sorted(shares)
    assert max(b - a for a, b in zip([0.0, *shares], [*shares, 1.0], strict=True)) < 0.08
