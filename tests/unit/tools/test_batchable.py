"""Single look-ups of many agents become one query, and each gets its own answer."""

import asyncio
import sqlite3
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm import Tool, errors
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.tools.definition import ArgumentsRefusedError
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.message import ToolCall


def table(delay_s=1.0, poison=(), missing=(), shape=dict, **options):
    """A look-up that counts its queries."""
    queries = []

    @Tool.batchable(key="symbol", **options)
    async def genes(symbols: list[str], species: str = "human") -> object:
        """Look a gene up.

        Args:
            symbols: HGNC symbol.
            species: Of which species.
        """
        queries.append((sorted(symbols), species))
        await asyncio.sleep(delay_s)
        if bad := set(symbols) & set(poison):
            raise ValueError(f"bad {min(bad)}")
        found = {s: f"<{s} {species}>" for s in symbols if s not in missing}
        return found if shape is dict else [found.get(s) for s in symbols]

    return genes, queries


def ask(symbol, **others):
    return ToolCall("id", "genes", {"symbol": symbol, **others})


def use(main):
    async def body():
        pool = ToolPool()
        try:
            return await main(pool)
        finally:
            await pool.aclose()
            assert not pool._lookups._groups
            assert not pool._flights._running

    return run_virtual(body())


def asked(tool, *symbols, **others):
    async def main(pool):
        answers = await asyncio.gather(*(pool.call(ask(s, **others), {"genes": tool}) for s in symbols))
        return answers, pool.statistics()["genes"]

    return use(main)


def test_the_model_is_offered_one_key():
    tool, _ = table()
    assert tool.parameters["properties"]["symbol"] == {
        "type": "string",
        "description": "HGNC symbol.",
        "maxLength": 2000,
    }
    assert tool.parameters["required"] == ["symbol"]
    assert tool.validated({"symbol": "TP53"}) == {"symbol": "TP53", "species": "human"}
    with pytest.raises(ArgumentsRefusedError):
        tool.validated({"symbol": ["TP53"]})


def test_it_is_still_callable_like_its_function():
    tool, _ = table(delay_s=0)
    assert asyncio.run(tool(["a"], species="mouse")) == {"a": "<a mouse>"}


@pytest.mark.parametrize("shape", [dict, list])
def test_what_is_asked_in_the_same_moment_is_one_query(shape):
    tool, queries = table(shape=shape)
    answers, statistics = asked(tool, *"abcabcabc")
    assert queries == [(["a", "b", "c"], "human")]
    assert [a.text for a in answers] == [f"<{s} human>" for s in "abcabcabc"]
    assert (statistics.asked, statistics.executed, statistics.shared, statistics.queries) == (9, 3, 6, 1)


def test_two_hundred_agents_are_one_select_in_a_real_database():
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.execute("CREATE TABLE genes (symbol TEXT PRIMARY KEY, note TEXT)")
    connection.executemany("INSERT INTO genes VALUES (?, ?)", [(f"G{i}", f"note {i}") for i in range(150)])
    statements = []
    connection.set_trace_callback(statements.append)

    @Tool.batchable(name="genes", key="symbol")
    def genes(symbols: list[str]) -> dict[str, str]:
        """Look up."""
        marks = ",".join("?" * len(symbols))
        return dict(connection.execute(f"SELECT symbol, note FROM genes WHERE symbol IN ({marks})", symbols))

    async def main():
        pool = ToolPool()
        answers = await asyncio.gather(*(pool.call(ask(f"G{i}"), {"genes": genes}) for i in range(200)))
        await pool.aclose()
        return answers

    answers = asyncio.run(main())
    connection.close()
    assert len(statements) == 1
    assert [a.text for a in answers[:150]] == [f"note {i}" for i in range(150)]
    assert {a.text for a in answers[150:]} == {f"genes found nothing for 'G{i}'" for i in range(150, 200)}


def test_one_that_comes_alone_waits_for_nobody():
    tool, queries = table(delay_s=0, window=1.0)

    async def main(pool):
        began = asyncio.get_running_loop().time()
        await pool.call(ask("a"), {"genes": tool})
        return asyncio.get_running_loop().time() - began

    assert use(main) == 0
    assert len(queries) == 1


def test_what_is_asked_while_a_query_is_under_way_gathers():
    tool, queries = table(delay_s=1.0, window=0.5)

    async def main(pool):
        async def at(delay_s, symbol):
            await asyncio.sleep(delay_s)
            return await pool.call(ask(symbol), {"genes": tool})

        # b waits for the window, together with c; d for the end of the queries.
        await asyncio.gather(at(0, "a"), at(0.1, "b"), at(0.3, "c"), at(1.55, "d"), at(1.58, "e"))
        return asyncio.get_running_loop().time()

    assert use(main) == pytest.approx(2.6)
    assert [symbols for symbols, _ in queries] == [["a"], ["b", "c"], ["d", "e"]]


def test_a_full_batch_goes_at_once():
    tool, queries = table(max_batch=10)
    asked(tool, *(f"g{i:02}" for i in range(25)))
    assert sorted(len(symbols) for symbols, _ in queries) == [5, 10, 10]


def test_only_what_agrees_in_all_else_goes_together():
    tool, queries = table()

    async def main(pool):
        wishes = [ask("a"), ask("b"), ask("a", species="mouse"), ask("c", species="mouse")]
        return await asyncio.gather(*(pool.call(wish, {"genes": tool}) for wish in wishes))

    assert [a.text for a in use(main)] == ["<a human>", "<b human>", "<a mouse>", "<c mouse>"]
    assert sorted(queries) == [(["a", "b"], "human"), (["a", "c"], "mouse")]


@pytest.mark.parametrize("shape", [dict, list])
def test_a_missing_key_fails_alone_and_is_not_asked_for_again(shape):
    tool, queries = table(missing="b", shape=shape)

    async def main(pool):
        async def all_of():
            return await asyncio.gather(*(pool.call(ask(s), {"genes": tool}) for s in "abcb"))

        return await all_of(), await all_of()

    for answers in use(main):
        assert [a.ok for a in answers] == [True, False, True, False]
        assert answers[1].text == "genes found nothing for 'b'"
    assert len(queries) == 1


def test_a_bad_key_fails_alone():
    tool, queries = table(poison=["k37"])
    answers, _ = asked(tool, *(f"k{i}" for i in range(100)))
    assert [i for i, a in enumerate(answers) if not a.ok] == [37]
    assert "bad k37" in answers[37].text
    assert len(queries) <= 1 + 2 * 7  # halved seven times, then it stands alone


def test_a_database_that_is_down_is_not_asked_for_each_key():
    tool, queries = table(poison=[f"k{i}" for i in range(100)])
    answers, _ = asked(tool, *(f"k{i}" for i in range(100)))
    assert not any(a.ok for a in answers)
    assert len(queries) <= 1 + 4 * 7


def test_a_query_that_takes_too_long_fails_for_all_of_its_keys_and_is_not_halved():
    tool, queries = table(delay_s=100, timeout=5)
    answers, _ = asked(tool, *"abcd")
    assert {a.text for a in answers} == {"genes took longer than 5 s"}
    assert len(queries) == 1


@pytest.mark.parametrize("junk", [None, 3, "ab", ["one"], {1, 2}])
def test_what_is_neither_a_mapping_nor_a_list_of_the_same_length_is_a_failure(junk):
    @Tool.batchable(name="genes", key="symbol")
    async def genes(symbols: list[str]) -> object:
        """Look up."""
        return junk

    answers, _ = asked(genes, "a", "b")
    assert all("must return a mapping, or a list as long as the keys (2)" in a.text for a in answers)


def test_an_error_in_the_place_of_a_value_is_that_keys_failure():
    @Tool.batchable(name="genes", key="symbol")
    async def genes(symbols: list[str]) -> dict[str, object]:
        """Look up."""
        return {s: PermissionError("no") if s == "b" else 1 for s in symbols}

    answers, _ = asked(genes, "a", "b")
    assert [a.text for a in answers] == ["1", "genes failed: PermissionError: no"]


def test_whoever_is_cancelled_takes_nobody_along_and_the_last_ends_the_query():
    ended = []

    @Tool.batchable(name="genes", key="symbol")
    async def genes(symbols: list[str]) -> dict[str, str]:
        """Look up."""
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(asyncio.get_running_loop().time())
        return {s: s for s in symbols}

    async def main(pool):
        tasks = [asyncio.ensure_future(pool.call(ask(s), {"genes": genes})) for s in "abc"]
        await asyncio.sleep(1)
        tasks[0].cancel()
        await asyncio.sleep(1)
        assert ended == []
        tasks[1].cancel()
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        return await pool.call(ask("a"), {"genes": genes})

    assert use(main).text == "a"
    assert ended == [2, 12]


def test_idempotent_look_ups_go_together_but_are_not_remembered():
    tool, queries = table(effect="idempotent")

    async def main(pool):
        for _ in range(2):
            await asyncio.gather(*(pool.call(ask(s), {"genes": tool}) for s in "aab"))

    use(main)
    assert [symbols for symbols, _ in queries] == [["a", "b"], ["a", "b"]]


def test_the_rate_is_of_queries_not_of_look_ups():
    tool, queries = table(delay_s=0, rate_limit=1)

    async def main(pool):
        await asyncio.gather(*(pool.call(ask(f"g{i}"), {"genes": tool}) for i in range(100)))
        return asyncio.get_running_loop().time()

    assert use(main) == 0
    assert len(queries) == 1


def test_a_plain_function_looks_up_on_a_thread():
    threads = []

    @Tool.batchable(name="genes", key="symbol")
    def genes(symbols: list[str]) -> list[str]:
        """Look up."""
        threads.append(threading.current_thread())
        return symbols

    answers, _ = asked(genes, "a", "b")
    assert [a.text for a in answers] == ["a", "b"]
    assert threads != [threading.main_thread()]


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.floats(0, 3), st.none() | st.floats(0, 3)),
        min_size=1,
        max_size=25,
    ),
    st.sets(st.integers(0, 9), max_size=3),
    st.sets(st.integers(0, 9), max_size=3),
    st.integers(1, 5),
)
def test_every_look_up_gets_its_own_answer_whatever_else_happens(callers, poison, missing, max_batch):
    tool, _ = table(poison=list(map(str, poison)), missing=[str(m) for m in missing], max_batch=max_batch, window=0.3)

    async def main(pool):
        async def caller(key, start_s, cancel_s):
            await asyncio.sleep(start_s)
            return await asyncio.wait_for(pool.call(ask(str(key)), {"genes": tool}), cancel_s)

        return await asyncio.gather(*(caller(*c) for c in callers), return_exceptions=True)

    for (key, _, cancel_s), answer in zip(callers, use(main), strict=True):
        if isinstance(answer, TimeoutError):
            assert cancel_s is not None
        elif answer.ok:
            assert answer.text == f"<{key} human>"
            assert key not in missing
        else:
            assert key in missing or "bad" in answer.text


def no_keys():
    """Nothing."""


def one_key(key: str):
    """One."""


def untyped_list(keys: list):
    """A list of what?"""


def a_mapping(keys: dict[str, str]):
    """No list."""


@pytest.mark.parametrize("function", [no_keys, one_key, untyped_list, a_mapping])
def test_a_function_that_takes_no_list_of_keys_is_refused(function):
    with pytest.raises(errors.ToolDefinitionError, match=function.__name__):
        Tool.batchable()(function)


@pytest.mark.parametrize(
    "options", [{"effect": "effect"}, {"max_batch": 0}, {"window": -1}, {"window": 99}, {"key": "a b"}]
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(errors.ToolDefinitionError):
        Tool.batchable(**options)(untouched)


def untouched(keys: list[str]) -> list[str]:
    """Give them back."""
    return keys


def test_the_key_has_the_lists_name_unless_it_is_given_one():
    assert list(Tool.batchable()(untouched).parameters["properties"]) == ["keys"]
    with pytest.raises(errors.ToolDefinitionError, match="cannot be the name"):
        Tool.batchable(key="species")(table()[0].function)
