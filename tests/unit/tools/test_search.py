"""The web is searched where the environment says, and its keys are in nothing that anybody sees."""

import logging

import msgspec
import pytest

from aurora_swarm import Tool, errors
from aurora_swarm.testing.faulty_server import CLOSE, GARBAGE, Answer, FaultyServer
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.tools.web.providers import PROVIDERS, Provider, endpoint, provider_of, results_of
from aurora_swarm.tools.web.search import SearchTool
from aurora_swarm.values.message import ToolCall

KEY = "canary-key/7f+3 a"
JSON = {"content-type": "application/json"}
BRAVE = {
    "type": "search",
    "web": {"results": [{"title": "A <b>gene</b>", "url": "https://a.example/", "description": "TP53 &amp; co"}]},
}
SERPAPI = {
    "search_metadata": {},
    "organic_results": [{"title": "A gene", "link": "https://a.example/", "snippet": "TP53 & co"}],
}
SEARXNG = {"results": [{"title": "A gene", "url": "https://a.example/", "content": "TP53 & co"}]}
PLAIN = [{"name": "A gene", "link": "https://a.example/", "text": "TP53 &\n co"}]
VARIABLES = ("BRAVE_API_KEY", "SERPAPI_API_KEY", "AURORA_SWARM_SEARCH_URL", "AURORA_SWARM_SEARCH_KEY")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("answer", [BRAVE, SERPAPI, SEARXNG, PLAIN])
def test_the_answers_of_all_providers_read_alike(answer):
    assert results_of(msgspec.json.encode(answer), 5) == "1. A gene\nhttps://a.example/\nTP53 & co"


def test_no_more_results_than_wanted_are_shown():
    text = results_of(msgspec.json.encode(PLAIN * 9), 3)
    assert text.count("A gene") == 3
    assert "\n\n3. A gene" in text


@pytest.mark.parametrize("nothing", [{"type": "search"}, {"search_metadata": {}, "error": "none"}, {"results": []}, []])
def test_nothing_found_is_an_answer(nothing):
    assert results_of(msgspec.json.encode(nothing), 3) == "nothing was found"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b"3", b"null", b'{"results": 3}', b'{"web": []}', b"\xff", b"[" * 9999]
)
def test_what_is_no_answer_is_a_failure(body):
    with pytest.raises(errors.ToolFailedError):
        results_of(body, 3)


def test_the_environment_says_who_is_asked():
    environ = {"SERPAPI_API_KEY": "s"}
    assert provider_of(environ).name == "SerpAPI"
    environ["BRAVE_API_KEY"] = "b"
    assert provider_of(environ).name == "Brave Search"
    environ["AURORA_SWARM_SEARCH_URL"] = "http://search.example/?q={query}"
    assert provider_of(environ).url == "http://search.example/?q={query}"


def test_each_provider_is_asked_as_it_documents():
    brave, serpapi = PROVIDERS["brave"], PROVIDERS["serpapi"]
    assert brave.address("a b&c", 5, "k") == "https://api.search.brave.com/res/v1/web/search?q=a%20b%26c&count=5"
    assert brave.headers("k") == {"X-Subscription-Token": "k"}
    assert (
        serpapi.address("{key}", 5, "k&")
        == "https://serpapi.com/search.json?engine=google&q=%7Bkey%7D&num=5&api_key=k%26"
    )
    assert serpapi.headers("k") == {}
    assert endpoint("http://10.0.0.1:8888/search?q={query}").headers("k") == {"Authorization": "Bearer k"}
    assert endpoint("http://10.0.0.1:8888/search?q={query}&key={key}").headers("k") == {}


def test_with_nobody_to_ask_it_can_be_named_and_the_run_says_what_to_set():
    tools = [Tool.read_file, Tool.web_search]
    with pytest.raises(errors.ToolDefinitionError, match="nobody to ask") as caught:
        tools[1].determinant()
    for variable in ("BRAVE_API_KEY", "SERPAPI_API_KEY", "AURORA_SWARM_SEARCH_URL"):
        assert variable in caught.value.remedy
    with pytest.raises(errors.ToolDefinitionError, match="no key for Brave"):
        Tool.web_search.using("brave").determinant()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "search.example",
        "http://search.example/",
        "http://s/?q={query}&x={other}",
        "ftp://s/{query}",
        "http://s/{query",
    ],
)
def test_an_endpoint_that_cannot_be_asked_is_refused(url):
    with pytest.raises(errors.ToolDefinitionError, match="endpoint"):
        Tool.web_search.on(url)


def test_an_unknown_provider_and_no_results_are_refused():
    with pytest.raises(errors.ToolDefinitionError, match="no provider 'bing'"):
        Tool.web_search.using("bing")
    with pytest.raises(errors.ToolDefinitionError, match="results is 0"):
        Tool.web_search.using("brave", results=0)


def test_the_key_is_no_determinant_but_who_is_asked_is(monkeypatch):
    monkeypatch.setenv("BRAVE_API_KEY", "one")
    one = Tool.web_search.determinant()
    monkeypatch.setenv("BRAVE_API_KEY", "other")
    assert Tool.web_search.determinant() == one
    monkeypatch.setenv("AURORA_SWARM_SEARCH_URL", "http://search.example/?q={query}")
    assert Tool.web_search.determinant() != one
    assert Tool.web_search.limit(query=["a"]).on("http://s.example/?q={query}").grants == {"query": ["a"]}


async def asked(tool, times=1):
    pool, wish = ToolPool(), ToolCall("id", "web_search", {"query": "gene TP53"})
    answers = [await pool.call(wish, {"web_search": tool}) for _ in range(times)]
    statistics = pool.statistics()
    await pool.aclose()
    return answers, statistics


async def test_an_endpoint_of_the_users_is_asked_once_for_equal_queries(monkeypatch):
    monkeypatch.setenv("AURORA_SWARM_SEARCH_KEY", "secret-key")
    async with FaultyServer(lambda _: Answer(msgspec.json.encode(SEARXNG), headers=JSON)) as server:
        tool = Tool.web_search.on(f"http://127.0.0.1:{server.endpoint.port}/search?q={{query}}&n={{count}}", results=2)
        answers, _ = await asked(tool, 3)
    assert {a.text for a in answers} == {"1. A gene\nhttps://a.example/\nTP53 & co"}
    assert [request.path for request in server.requests] == ["/search?q=gene%20TP53&n=2"]
    assert server.requests[0].headers["authorization"] == "Bearer secret-key"


async def test_a_key_is_not_carried_to_where_a_redirect_leads(monkeypatch):
    monkeypatch.setenv("AURORA_SWARM_SEARCH_KEY", "secret-key")
    async with FaultyServer(lambda _: Answer(msgspec.json.encode(PLAIN), headers=JSON)) as other:
        where = f"http://127.0.0.1:{other.endpoint.port}/"
        async with FaultyServer(lambda _: Answer(b"", 302, {"location": where})) as server:
            answers, _ = await asked(Tool.web_search.on(f"http://127.0.0.1:{server.endpoint.port}/?q={{query}}"))
        assert not answers[0].ok
        assert not other.requests


def echo(request):
    """A server that repeats whatever it was sent, the key among it, as the text of a result."""
    seen = f"{request.path} {dict(request.headers)}"
    return Answer(msgspec.json.encode([{"title": "seen", "url": seen, "text": seen}]), headers=JSON)


_BAD = [
    Answer(b"", 401),
    Answer(b"", 429),
    Answer(b"{", headers=JSON),
    GARBAGE,
    CLOSE,
    Answer(b"", 302, {"location": "/x"}),
]


@pytest.mark.parametrize("answer", [echo, *_BAD], ids=["echo", *map(str, _BAD)])
@pytest.mark.parametrize("style", ["header", "bearer", "address"])
async def test_canary_keys_are_in_nothing_that_anybody_sees(answer, style, monkeypatch, caplog):
    """S6 for tools."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("CANARY", KEY)
    async with FaultyServer(answer if callable(answer) else lambda _: answer) as server:
        base = f"http://127.0.0.1:{server.endpoint.port}/?q={{query}}"
        provider = {
            "header": Provider("Canary", base, "CANARY", "X-Subscription-Token"),
            "bearer": Provider("Canary", base, "CANARY", "Authorization"),
            "address": Provider("Canary", base + "&key={key}", "CANARY"),
        }[style]
        tool = SearchTool(provider)
        answers, statistics = await asked(tool)
        sent = f"{server.requests[0].path} {server.requests[0].headers}"
    artefacts = [repr(answers), repr(statistics), caplog.text, repr(tool), repr(tool.determinant()), repr(tool.stamp())]
    artefacts += [repr(tool.parameters), tool.description, repr(tool.identity())]
    assert "canary-key" in sent
    assert not [artefact for artefact in artefacts if "canary-key" in artefact or "7f%2B3" in artefact]


async def test_a_key_that_no_header_can_carry_is_not_sent_and_not_shown(monkeypatch):
    monkeypatch.setenv("BRAVE_API_KEY", "canary\r\nX-Evil: 1")
    answers, _ = await asked(Tool.web_search.using("brave"))
    assert "BRAVE_API_KEY holds no key" in answers[0].text
    assert "canary" not in answers[0].text


def test_searches_wait_for_their_rate():
    assert Tool.web_search.using("brave", rate_limit=2.0).rate_limit == 2.0
    assert Tool.web_search.using("brave").using("serpapi").rate_limit is None


async def test_without_a_provider_the_answer_says_so():
    answers, _ = await asked(Tool.web_search)
    assert answers[0].text == "web_search failed: web_search has nobody to ask"
