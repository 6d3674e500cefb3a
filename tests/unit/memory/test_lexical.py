"""Words that are rare tell more, and what either ranking likes is near the top of both together."""

from aurora_swarm.memory.lexical import LexicalIndex, fused, words

TEXTS = ["the pump is red", "the pump is blue", "the valve is red", "the the the", ""]


def test_texts_that_share_rare_words_come_first_and_strangers_not_at_all() -> None:
    index = LexicalIndex(TEXTS)
    assert index.ranked("Where is the BLUE pump?", 10) == [1, 0, 2, 3]
    assert index.ranked("blue", 10) == [1]
    assert index.ranked("zebra", 10) == []
    assert index.ranked("", 10) == []
    assert index.ranked("pump", 1) == [0]


def test_a_word_weighs_the_more_the_fewer_texts_have_it() -> None:
    index = LexicalIndex(TEXTS)
    assert index.weight("zebra") > index.weight("blue") > index.weight("pump") > index.weight("the") > 0


def test_an_index_of_nothing_finds_nothing() -> None:
    assert LexicalIndex([]).ranked("pump", 3) == []
    assert LexicalIndex([""]).ranked("pump", 3) == []


def test_a_word_that_means_the_same_is_met_by_its_like() -> None:
    index = LexicalIndex(["it was repaired", "it was lost", ""])
    likeness = {"it": [0.0, 0.1], "was": [0.0, 0.1], "repaired": [0.9, 0.2], "lost": [0.2, 0.1]}
    assert index.reread(["fixed", "who"], [2, 1, 0], likeness) == [0, 1, 2]


def test_equals_are_left_in_their_order() -> None:
    index = LexicalIndex(["a b", "b a"])
    assert index.reread(["a"], [1, 0], {"a": [1.0], "b": [0.0]}) == [1, 0]


def test_fusion_prefers_what_several_rankings_like() -> None:
    assert fused([["a", "b", "c"], ["d", "b", "e"]]) == ["b", "a", "d", "c", "e"]
    assert fused([[], ["x"]]) == ["x"]
    assert fused([]) == []


def test_words_are_compared_without_case_and_marks() -> None:
    assert words("Station's PUMP, no. 7: Straße") == ["station", "s", "pump", "no", "7", "strasse"]
